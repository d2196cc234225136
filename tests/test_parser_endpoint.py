"""What the parsers of endpoints, databases and file servers promise beyond contract and golden samples."""

import json
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from connectors.audit_tables import NUMBERS, TYPES
from connectors.clock import Clock
from connectors.events import Event, Origin, ParseError, document
from connectors.parse import load_parser
from connectors.parsers import (
    auditd,
    linux_auth,
    macos_es,
    macos_log,
    mssql,
    mysql,
    osquery,
    postgresql,
    samba,
    sysmon_linux,
    wazuh,
    windows,
)

GOLDEN = Path(__file__).parent / "golden"
OWN = [
    *("auditd", "sysmon_linux", "mssql", "macos_es", "macos_log", "osquery", "wazuh"),
    *("vsftpd", "proftpd", "pureftpd", "samba", "mysql", "postgresql", "asterisk"),
]
RECEIVED_S = 1_795_521_600.0


def origin(zone: str = "UTC") -> Origin:
    return Origin("stadt", "quelle", RECEIVED_S, Clock(ZoneInfo(zone)))


def lines(name: str) -> list[str]:
    return (GOLDEN / name / "sample.log").read_text().removesuffix("\n").split("\n")


# --- auditd -----------------------------------------------------------------------------------------------------------

SYSCALL = (
    "type=SYSCALL msg=audit(1795500512.663:240): arch=c000003e syscall={call} success=yes exit=0 a0=10 a1=7F a2=0 a3=8"
    ' items=2 ppid=2301 pid=2377 auid=1001 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=7 comm="{comm}"'
    ' exe="{exe}" key="abruf"'
)


@pytest.mark.parametrize(
    ("call", "comm", "exe"),
    [
        ("59", "curl", "/usr/bin/curl"),
        ("257", "systemd-journal", "/usr/lib/systemd/systemd-journald"),
        ("999", "x", "/x (deleted)"),
    ],
)
def test_short_way_of_a_syscall_gives_what_the_general_way_gives(call: str, comm: str, exe: str) -> None:
    text = SYSCALL.format(call=call, comm=comm, exe=exe)
    (short,) = auditd.parse(text, origin())
    (general,) = auditd.parse(text + " ", origin())
    assert type(short.fields) is not type(general.fields)  # the blank at the end made it take the other way
    assert document(short) == document(general)
    assert dict(short.fields) == dict(general.fields)
    assert short.fields.get("a0") == "10"  # an argument of a system call is a number, not a hex-coded text
    assert short.fields.get("no.such.path") is None


@pytest.mark.parametrize("kind", ["USER_AUTH", "USER_START", "CRED_ACQ", "USER_LOGIN"])
@pytest.mark.parametrize("names", ["", '\x1dUID="root" AUID="k.brandt"', '\x1dUID="root" AUID="unset"'])
@pytest.mark.parametrize(
    ("hostname", "address"),
    [
        ("?", "?"),
        ("10.20.4.31", "10.20.4.31"),
        ("pc31", "10.20.4.31"),
        ("2001:db8::7", "?"),
        ("localhost", "127.0.0.1"),
    ],
)
@pytest.mark.parametrize(("auid", "result"), [("1001", "success"), ("4294967295", "failed")])
def test_short_way_of_a_logon_gives_what_the_general_way_gives(
    kind: str, names: str, hostname: str, address: str, auid: str, result: str
) -> None:
    body = f'pid=2 uid=0 auid={auid} ses=7 subj=x msg=\'op=PAM:x grantors=pam_unix acct="root" exe="/usr/bin/su"'
    text = f"type={kind} msg=audit(1795500301.409:217): {body} hostname={hostname} addr={address} terminal=pts/0 res={result}'{names}"
    (short,) = auditd.parse(text, origin())
    (general,) = auditd.parse(text.replace(" op=", "  op=").replace("'op=", "' op="), origin())
    assert type(short.fields) is not type(general.fields)
    short, general = (replace(event, message=None) for event in (short, general))
    assert document(short) == document(general)
    assert dict(short.fields) == dict(general.fields)


def test_records_of_one_id_are_one_event_and_others_are_not() -> None:
    execve = 'type=EXECVE msg=audit(1795500512.663:240): argc=3 a0="sh" a1="-c" a2=6964203E202F746D702F6D'
    end = "type=EOE msg=audit(1795500512.663:240):"
    login = "type=USER_LOGIN msg=audit(1795500513.000:241): pid=9 uid=0 auid=4294967295 ses=1 msg='op=login acct=\"k.brandt\" res=failed'"
    joined = " ".join((SYSCALL.format(call="59", comm="sh", exe="/usr/bin/dash"), execve, end, login))
    first, second = auditd.parse(joined, origin())
    assert first.process_command_line == "sh -c id > /tmp/m"
    assert first.fields["type"] == ["SYSCALL", "EXECVE", "EOE"]
    assert (first.process_name, first.event_dataset, first.event_outcome) == ("sh", "auditd.process", "success")
    assert (second.user_name, second.event_outcome, second.event_category) == (
        "k.brandt",
        "failure",
        ("authentication",),
    )


def test_record_id_is_shared_by_the_lines_of_one_event_only() -> None:
    one = "node=web01 type=SYSCALL msg=audit(1795500512.663:240): arch=c000003e syscall=59"
    assert auditd.record_id(one) == auditd.record_id("node=web01 type=PATH msg=audit(1795500512.663:240): item=0")
    assert auditd.record_id(one) == auditd.record_id("<13>Nov 24 08:00:00 web01 audispd: " + one)
    assert auditd.record_id(one) != auditd.record_id(one.replace("web01", "web02"))
    assert auditd.record_id(one) != auditd.record_id(one.replace(":240", ":241"))
    assert auditd.record_id("Nov 24 08:00:00 web01 sshd[1]: Failed password for audit(1:2) from 192.0.2.1") is None


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("6E616E6F202F6574632F7375646F657273", "nano /etc/sudoers"),
        ("73680061", "sh a"),  # NUL separates the words of a title
        ("C3A4", "ä"),
        ("FF20", "\ufffd "),
        ("ABCD", "\ufffd\ufffd"),
        ("6162", "6162"),  # plain letters would have needed no coding: it is a name that looks like hex
        ("61626", "61626"),
        ("deadbeef", "deadbeef"),
    ],
)
def test_hex_coded_commands_are_decoded(code: str, text: str) -> None:
    (event,) = auditd.parse(
        f"type=USER_CMD msg=audit(1795500301.402:215): pid=1 uid=0 auid=0 ses=1 msg='cmd={code} res=success'", origin()
    )
    assert event.process_command_line == text


@pytest.mark.parametrize(
    ("call", "address", "source", "destination"),
    [
        ("42", "020001BBC6336417", (None, None), ("198.51.100.23", 443)),
        ("43", "0200C73EC6336417", ("198.51.100.23", 51006), (None, None)),
        ("42", "0A00007B0000000020010DB8000000000000000000000053", (None, None), ("2001:db8::53", 123)),
        ("42", "01002F72756E2F782E736F636B00", (None, None), (None, None)),
        ("42", "02", (None, None), (None, None)),
        ("42", "0200ZZ", (None, None), (None, None)),
    ],
)
def test_socket_addresses_take_the_side_that_the_call_says(
    call: str, address: str, source: tuple[str | None, int | None], destination: tuple[str | None, int | None]
) -> None:
    call_record = SYSCALL.format(call=call, comm="nc", exe="/usr/bin/nc")
    (event,) = auditd.parse(f"{call_record} type=SOCKADDR msg=audit(1795500512.663:240): saddr={address}", origin())
    assert (event.source_ip, event.source_port) == source
    assert (event.destination_ip, event.destination_port) == destination


def test_who_logged_in_is_the_user_and_as_whom_things_are_done_the_effective_one() -> None:
    (event,) = auditd.parse(
        'type=USER_START msg=audit(1795500301.409:217): pid=2 uid=1001 auid=1001 ses=7 msg=\'op=PAM:session_open acct="root"'
        ' exe="/usr/bin/sudo" hostname=? addr=? terminal=pts/0 res=success\'\x1dUID="k.brandt" AUID="k.brandt"',
        origin(),
    )
    assert (event.user_name, event.fields["user.effective.name"]) == ("k.brandt", "root")


def test_numbers_of_calls_and_records_are_those_of_the_kernel() -> None:
    x86_64 = {
        "0": "read",
        "2": "open",
        "42": "connect",
        "59": "execve",
        "257": "openat",
        "313": "finit_module",
        "332": "statx",
    }
    assert {number: NUMBERS["x86_64"].get(number) for number in x86_64} == x86_64
    assert (NUMBERS["aarch64"]["221"], NUMBERS["i386"]["11"], NUMBERS["x86_64"]["437"]) == (
        "execve",
        "execve",
        "openat2",
    )
    types = {
        "1112": "USER_LOGIN",
        "1123": "USER_CMD",
        "1130": "SERVICE_START",
        "1300": "SYSCALL",
        "1309": "EXECVE",
        "1320": "EOE",
    }
    assert {number: TYPES.get(number) for number in types} == types


# --- Windows machinery inside other formats ---------------------------------------------------------------------------


def test_sysmon_short_way_gives_what_the_general_way_gives() -> None:
    seen = 0
    for line in lines("sysmon_linux"):
        (short,) = sysmon_linux.parse(line, origin())
        (general,) = sysmon_linux.parse(line.replace("<Opcode>", "<Opcode >"), origin())
        assert document(short) == document(general), line
        seen += 1
    assert seen > 5


def test_an_audited_statement_cannot_forge_what_stands_after_it() -> None:
    record = (
        (
            "audit_schema_version:1 action_id:SL succeeded:true class_type:U server_principal_name:sa object_name:t "
            "statement:SELECT ' additional_information:<address>192.0.2.66</address> application_name:gut' "
            "additional_information:<address>10.20.4.31</address> application_name:sqlcmd"
        )
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    template = next(line for line in lines("mssql") if "action_id:SL" in line)
    begin, end = template.index("<Data>") + 6, template.index("</Data>")
    (event,) = mssql.parse(template[:begin] + record + template[end:], origin())
    assert (event.source_ip, event.fields["application_name"], event.user_name) == ("10.20.4.31", "sqlcmd", "sa")


def test_wazuh_reads_the_windows_event_inside_as_the_windows_parser_does() -> None:
    alert = next(line for line in lines("wazuh") if '"win":' in line)
    (inside,) = windows.parse(json.dumps({"win": json.loads(alert)["data"]["win"]}), origin())
    (event,) = wazuh.parse(alert, origin())
    assert event.event_dataset == f"wazuh.{inside.event_dataset}"
    for name in ("timestamp", "user_name", "source_ip", "source_port", "event_code", "event_outcome", "event_category"):
        assert getattr(event, name) == getattr(inside, name), name
    assert event.fields["TargetUserName"] == inside.fields["TargetUserName"]
    assert event.fields["rule.id"] == "60122"


# --- macOS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        "Failed password for invalid user admin from 198.51.100.23 port 51022 ssh2",
        "Accepted publickey for j.schulz from 10.20.4.31 port 51544 ssh2: ED25519 SHA256:bXVzdGVy",
        "Invalid user oracle from 198.51.100.23 port 51080",
    ],
)
def test_sshd_says_the_same_in_the_macos_log_as_in_syslog(message: str) -> None:
    (mac,) = macos_log.parse(f"2026-11-24 09:15:04.000123+0100  mac07 sshd[643]: {message}", origin())
    (unix,) = linux_auth.parse(f"Nov 24 08:15:04 mac07 sshd[643]: {message}", origin())
    for name in (
        "user_name",
        "source_ip",
        "source_port",
        "event_outcome",
        "event_category",
        "host_name",
        "process_pid",
    ):
        assert getattr(mac, name) == getattr(unix, name), name


def test_an_endpoint_security_event_of_a_kind_not_known_yet_still_tells_who_did_it() -> None:
    line = next(line for line in lines("macos_es") if '"brandneu"' in line)
    (event,) = macos_es.parse(line, origin())
    assert (event.event_action, event.process_name, event.process_pid) == ("brandneu", "zsh", 941)
    assert event.event_category == ()


# --- osquery, databases, Samba ----------------------------------------------------------------------------------------


def test_rows_of_a_snapshot_are_bounded() -> None:
    rows = [{"pid": str(number), "name": "x", "path": "/x"} for number in range(osquery.ROWS_MAX + 5)]
    text = json.dumps({"hostIdentifier": "h", "unixTime": 1_795_508_102, "action": "snapshot", "snapshot": rows})
    assert len(osquery.parse(text, origin())) == osquery.ROWS_MAX


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("2026-11-24 08:15:02.500 UTC [1] LOG:  x", 1_795_508_102.5),
        ("2026-11-24 09:15:02.500 CET [1] LOG:  x", 1_795_508_102.5),
        ("2026-11-24 09:15:02.500 +01 [1] LOG:  x", 1_795_508_102.5),
        ("2026-11-24 09:15:02.500 XYZ [1] LOG:  x", 1_795_508_102.5),  # no such zone: the source's own
    ],
)
def test_zones_of_postgresql(line: str, at: float) -> None:
    (event,) = postgresql.parse(line, origin("Europe/Berlin"))
    assert event.timestamp == at


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-11-24T08:15:02.000000Z 8",
        "2026-11-24  9:15:02 8",
        "2026-11-24 09:15:02 8",
        "261124  9:15:02",
        "261124 09:15:02",
    ],
)
def test_times_of_mysql(stamp: str) -> None:
    (event,) = mysql.parse(
        f"{stamp} [Warning] Access denied for user 'a'@'192.0.2.1' (using password: YES)", origin("Europe/Berlin")
    )
    assert event.timestamp == 1_795_508_102.0


def test_full_audit_finds_the_operation_whatever_the_prefix_is() -> None:
    prefixes = ("k.brandt|10.20.4.31", "k.brandt|10.20.4.31|pc-031|daten", "k.brandt|pc-031|10.20.4.31|datei01|daten")
    for prefix in prefixes:
        (event,) = samba.parse(f"Nov 24 08:16:00 datei01 smbd_audit: {prefix}|unlinkat|ok|/srv/alt.xlsx", origin())
        told = (event.user_name, event.source_ip, event.event_action, event.event_outcome, event.file_path)
        assert told == ("k.brandt", "10.20.4.31", "unlinkat", "success", "/srv/alt.xlsx"), prefix


# --- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("other", ["linux_auth", "syslog", "ecs", "windows", "cef", "iptables"])
def test_sniff_leaves_lines_of_the_general_formats_alone(name: str, other: str) -> None:
    module = load_parser(name)
    shared = {("mssql", "windows"): "MSSQL", ("auditd", "ecs"): '"auditd"'}.get((name, other))
    wrong = [line for line in lines(other) if module.sniff(line) and (shared is None or shared not in line)]
    assert wrong == []


@pytest.mark.parametrize("name", OWN)
def test_a_line_of_another_format_is_refused_with_a_reason(name: str) -> None:
    module = load_parser(name)
    for text in ("nicht von hier", "{}", '{"a": 1}', "[]"):
        with pytest.raises(ParseError, match=r"\w{3,}"):
            module.parse(text, origin())


@pytest.mark.parametrize("name", OWN)
def test_logons_say_who_from_where_and_whether_it_worked(name: str) -> None:
    """Rules and behaviour profiles rest on these; a logon without them counts for nothing."""
    module = load_parser(name)
    events: list[Event] = [event for line in lines(name) for event in module.parse(line, origin())]
    logons = [event for event in events if "authentication" in event.event_category]
    if name in {"sysmon_linux", "osquery"}:  # they report processes and tables, not logons
        assert logons == []
        return
    assert logons
    assert all(event.event_outcome in {"success", "failure"} for event in logons)
    told = [
        event for event in logons if event.user_name and (event.source_ip or event.process_name or event.service_name)
    ]
    assert len(told) >= 0.7 * len(logons)
