"""The Windows parser: every form gives the same event, third-party expectations hold, hostile lines lose nothing."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import tolerant_json
from connectors.clock import Clock
from connectors.events import Event, Origin, ParseError, document
from connectors.parsers import windows
from connectors.windows_events import SECURITY, SYSMON

GOLDEN = Path(__file__).parent / "golden" / "windows"
DATA = Path(__file__).parents[2] / "shared" / "data"
ORIGIN = Origin(tenant="t", source="s", received=1_772_438_400.0, clock=Clock())
LINES = (GOLDEN / "sample.log").read_text().splitlines()


def one(line: str) -> Event:
    (event,) = windows.parse(line, ORIGIN)
    return event


def test_golden() -> None:
    expected = json.loads((GOLDEN / "events.json").read_text())
    actual = [document(event) for line in LINES for event in windows.parse(line, ORIGIN)]
    assert expected == json.loads(json.dumps(actual))


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_sniffs_own_lines(line: str) -> None:
    assert windows.sniff(line)
    assert windows.sniff("<13>Mar  2 08:36:30 host program: " + line) or "WinEvtLog" in line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        '{"timestamp":"2026-03-02T07:00:00Z","event_type":"alert","src_ip":"192.0.2.1"}',
        '{"eventID":"fd4f","eventName":"ConsoleLogin","eventSource":"signin.example"}',
        '{"EventID":"AbC","device":"sensor"}',
        "Mar  2 08:36:30 host sshd[1]: Failed password for root from 192.0.2.1 port 22 ssh2",
        "<EventList><Item/></EventList>",
        'date=2026-03-02 time=08:00:00 devname="fw" type="event"',
    ],
)
def test_sniff_leaves_other_lines(line: str) -> None:
    assert not windows.sniff(line)
    with pytest.raises(ParseError):
        windows.parse(line.replace('"EventID"', '"Event"'), ORIGIN)


LOGON = {
    "TargetUserName": "a.krueger",
    "TargetDomainName": "RATHAUS",
    "LogonType": "3",
    "IpAddress": "10.20.4.31",
    "IpPort": "50123",
}
TIME, HOST, KEYWORDS = "2026-03-02T07:00:00.5Z", "dc1.rathaus.example", "0x8010000000000000"
SYSTEM: dict[str, Any] = {
    "Provider": {"#attributes": {"Name": "Microsoft-Windows-Security-Auditing"}},
    "EventID": 4625,
    "Keywords": KEYWORDS,
    "TimeCreated": {"#attributes": {"SystemTime": TIME}},
    "EventRecordID": 7,
    "Channel": "Security",
    "Computer": HOST,
}
WINLOG: dict[str, Any] = {
    "channel": "Security",
    "provider_name": "Microsoft-Windows-Security-Auditing",
    "event_id": 4625,
    "computer_name": HOST,
    "record_id": 7,
    "keywords": ["Audit Failure"],
}


def _xml(quote: str = '"', between: str = "") -> str:
    data = between.join(f"<Data Name={quote}{name}{quote}>{value}</Data>" for name, value in LOGON.items())
    return (
        f"<Event xmlns={quote}http://schemas.microsoft.com/win/2004/08/events/event{quote}>{between}<System>"
        f"<Provider Name={quote}Microsoft-Windows-Security-Auditing{quote} />{between}<EventID>4625</EventID>"
        f"<Keywords>{KEYWORDS}</Keywords><TimeCreated SystemTime={quote}{TIME}{quote}/>{between}"
        f"<EventRecordID>7</EventRecordID><Channel>Security</Channel><Computer>{HOST}</Computer></System>"
        f"{between}<EventData>{data}</EventData></Event>"
    )


FORMS: dict[str, str] = {
    "winlogbeat": json.dumps({"@timestamp": TIME, "winlog": WINLOG | {"event_data": LOGON}, "event": {"code": "4625"}}),
    "winlogbeat 6": json.dumps(
        {
            "@timestamp": TIME,
            "log_name": "Security",
            "source_name": WINLOG["provider_name"],
            "event_id": 4625,
            "computer_name": HOST,
            "record_number": "7",
            "keywords": ["Audit Failure"],
            "event_data": LOGON,
        }
    ),
    "dotted": json.dumps(
        {"@timestamp": TIME}
        | {f"winlog.{name}": value for name, value in WINLOG.items()}
        | {f"winlog.event_data.{name}": value for name, value in LOGON.items()}
    ),
    "flat": json.dumps(
        {
            "EventTime": TIME,
            "Hostname": HOST,
            "EventID": 4625,
            "Channel": "Security",
            "SourceName": WINLOG["provider_name"],
            "Keywords": -9218868437227405312,
            "EventType": "AUDIT_FAILURE",
            "RecordNumber": 7,
        }
        | LOGON
    ),
    "evtx": json.dumps({"Event": {"System": SYSTEM, "EventData": LOGON}}),
    "evtx, bare": json.dumps({"System": SYSTEM, "EventData": LOGON}),
    "evtx, data list": json.dumps(
        {
            "Event": {
                "System": SYSTEM,
                "EventData": {"Data": [{"#attributes": {"Name": n}, "#text": v} for n, v in LOGON.items()]},
            }
        }
    ),
    "xmltodict": json.dumps(
        {
            "Event": {
                "System": SYSTEM
                | {"Provider": {"@Name": WINLOG["provider_name"]}, "TimeCreated": {"@SystemTime": TIME}},
                "EventData": {"Data": [{"@Name": n, "#text": v} for n, v in LOGON.items()]},
            }
        }
    ),
    "wazuh": json.dumps(
        {
            "win": {
                "system": {
                    "providerName": WINLOG["provider_name"],
                    "eventID": "4625",
                    "keywords": KEYWORDS,
                    "systemTime": TIME,
                    "eventRecordID": "7",
                    "channel": "Security",
                    "computer": HOST,
                },
                "eventdata": {name[0].lower() + name[1:]: value for name, value in LOGON.items()},
            }
        }
    ),
    "xml": _xml(),
    "xml, apostrophes": _xml("'"),
    "xml, as the event viewer copies it": "- " + _xml(between="  "),
    "xml after a syslog header": "<13>Mar  2 08:00:00 dc1 agent: " + _xml(),
    "xml in JSON": json.dumps({"message": _xml(), "host": {"name": "collector"}}),
    "JSON after a syslog header": "<13>Mar  2 08:00:00 dc1 agent: "
    + json.dumps({"Event": {"System": SYSTEM, "EventData": LOGON}}),
    "Azure": json.dumps(
        {
            "TimeGenerated": TIME,
            "Computer": HOST,
            "EventID": 4625,
            "Channel": "Security",
            "Provider": WINLOG["provider_name"],
            "Keywords": KEYWORDS,
            "EventRecordID": 7,
            "EventData": json.dumps(LOGON),
        }
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_event(form: str) -> None:
    event = one(FORMS[form])
    assert windows.sniff(FORMS[form])
    assert (event.event_dataset, event.event_code, event.event_action) == ("windows.security", "4625", "logon-failed")
    assert (event.event_outcome, event.host_name, event.timestamp) == ("failure", HOST, 1_772_434_800.5)
    assert (event.user_name, event.user_domain) == ("a.krueger", "RATHAUS")
    assert (event.source_ip, event.source_port, event.service_name) == ("10.20.4.31", 50123, "ad")
    native = {name: event.fields[name] for name in (*LOGON, "EventID", "Channel", "Provider_Name", "Computer")}
    assert native == LOGON | {
        "EventID": 4625,
        "Channel": "Security",
        "Provider_Name": WINLOG["provider_name"],
        "Computer": HOST,
    }
    assert str(event.fields["winlog.record_id"]) == "7"
    assert event.fields["winlog.logon.type"] == "Network"


def _flat(**fields: Any) -> Event:
    return one(json.dumps({"EventID": 4624, "Channel": "Security", "TimeCreated": TIME} | fields))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("-", None),
        ("LOCAL", None),
        ("", None),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("::1", "::1"),
        ("2001:db8::5%12", "2001:db8::5"),
        ("workstation.example", None),
        ("999.1.1.1", None),
        (7, None),
    ],
)
def test_addresses(address: Any, expected: str | None) -> None:
    assert _flat(IpAddress=address).source_ip == expected


@pytest.mark.parametrize(("port", "expected"), [("0", 0), ("-", None), ("65536", None), (51544, 51544), ("x", None)])
def test_ports(port: Any, expected: int | None) -> None:
    assert _flat(IpPort=port).source_port == expected


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ("0x8020000000000000", "success"),
        ("0x8010000000000000", "failure"),
        (-9214364837600034816, "success"),
        ("-9218868437227405312", "failure"),
        (["Audit Failure"], "failure"),
        ("Audit Success", "success"),
        ("0x8000000000000000", None),
        ("0x" + "f" * 5000, None),
        ([[["deep"]]], None),
    ],
)
def test_outcome(keywords: Any, expected: str | None) -> None:
    assert _flat(EventID=4663, Keywords=keywords).event_outcome == expected


def test_process_rules_match_security_4688() -> None:
    event = _flat(
        EventID=4688,
        SubjectUserName="a.krueger",
        SubjectDomainName="RATHAUS",
        NewProcessName="C:\\Windows\\System32\\cmd.exe",
        ParentProcessName="C:\\Windows\\explorer.exe",
        NewProcessId="0x1f4",
        ProcessId="0x10",
        ProcessCommandLine="cmd /c whoami",
        MandatoryLabel="S-1-16-12288",
    )
    assert event.fields["Image"] == event.fields["NewProcessName"] == event.process_executable
    assert event.fields["ParentImage"] == "C:\\Windows\\explorer.exe"
    assert event.fields["CommandLine"] == event.process_command_line == "cmd /c whoami"
    assert event.fields["User"] == "RATHAUS\\a.krueger"
    assert event.fields["IntegrityLevel"] == "High"
    assert (event.process_pid, event.process_name, event.process_parent_name) == (500, "cmd.exe", "explorer.exe")
    assert event.fields["process.parent.pid"] == 16


def test_names_are_plain() -> None:
    event = one(json.dumps({"System": SYSTEM, "EventData": {"Threat Name": "x", "a.b": "y"}}))
    assert event.fields["ThreatName"] == "x"
    assert event.fields["a_b"] == "y"  # a dot would make it an ECS path


def test_a_line_may_hold_several_events() -> None:
    assert len(windows.parse(_xml() + _xml(), ORIGIN)) == 2
    assert len(windows.parse(json.dumps([json.loads(FORMS["flat"])] * 3), ORIGIN)) == 3


def test_time_without_zone_is_the_source_clock() -> None:
    event = one('{"EventID":1,"Channel":"System","EventTime":"2026-03-02 08:00:00"}')
    assert event.timestamp == 1_772_438_400.0
    unreadable = one('{"EventID":1,"Channel":"System","EventTime":"yesterday"}')
    assert (unreadable.timestamp, unreadable.fields["shield.time"]) == (ORIGIN.received, "received")


HOSTILE_VALUES = [
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    '"a\tb\x01"',
    "NaN",
    "-Infinity",
    "1e999",
    "1" * 400,
    "[" * 5000 + "]" * 5000,
    '{"a":' * 5000 + "1" + "}" * 5000,
    '{"#text":{"#text":{"#text":null}}}',
    "[[],{},[{}]]",
    '"\\x"',
    "'single'",
    "undefined",
]


@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=range(len(HOSTILE_VALUES)))
@pytest.mark.parametrize("form", ["flat", "winlogbeat", "evtx", "wazuh"])
def test_one_bad_value_does_not_hide_the_event(form: str, value: str) -> None:
    line = FORMS[form].replace('"3"', value)
    assert line != FORMS[form]
    event = one(line)
    assert (event.event_code, event.user_name, event.source_ip) == ("4625", "a.krueger", "10.20.4.31")
    msgspec.json.encode(event, enc_hook=dict)
    msgspec.msgpack.encode(event, enc_hook=dict)
    json.dumps(document(event)).encode()


@pytest.mark.parametrize("form", FORMS)
def test_a_line_cut_anywhere_gives_an_event_or_an_error(form: str) -> None:
    line = FORMS[form]
    read = 0
    for end in range(len(line)):
        try:
            events = windows.parse(line[:end], ORIGIN)
        except ParseError:
            continue
        for event in events:
            read += 1
            msgspec.msgpack.encode(event, enc_hook=dict)
            if line[end:].strip() not in ("", "}", "}}", "]}}}", ">"):
                assert event.fields.get("shield.truncated") or "JSON" in form, line[:end]
    assert read > 0


def test_entities_are_the_five_and_numbers_only() -> None:
    line = _xml().replace("a.krueger", "&lt;&#65;&#x42;&amp;lt;&eacute;&#xD800;&#9999999;&x;")
    line = '<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + line
    assert one(line).user_name == "<AB&lt;&eacute;\ufffd\ufffd&x;"
    cdata = _xml().replace("a.krueger", "<![CDATA[a<b & c]]>")
    assert one(cdata).user_name == "a<b & c"


@pytest.mark.parametrize(
    "line",
    [
        "<Event" * 50_000 + "<System><EventID>1</EventID>",
        "<Event><System><EventID>1</EventID></System><EventData>" + "<Data Name=" * 50_000,
        "<Event><System><EventID>1</EventID></System>" + "<![CDATA[" * 50_000,
        "<Event><System><EventID>1</EventID>" + "<a " * 100_000,
        '{"EventID":1,"Channel":"S","x":"' + "\\" * 200_001,
        '{"EventID":1,"Channel":"S",' + '"' * 100_001,
        "2026 Mar 02 07:40:30 WinEvtLog: Security: A(1): p: u: d: h: " + "Subject: " * 20_000,
        "MSWinEventLog\t" * 20_000,
        "WinEvtLog: " * 20_000,
    ],
    ids=range(9),
)
@pytest.mark.timeout(20)  # quadratic handling would take minutes
def test_long_hostile_lines_end(line: str) -> None:
    try:
        windows.parse(line, ORIGIN)
    except ParseError as error:
        assert len(str(error)) < 500  # noqa: PT017 either way is right, hanging is not


@given(st.text(max_size=300), st.integers(0, len(FORMS) - 1), st.integers(0, 1200))
def test_noise_raises_nothing_else(noise: str, form: int, at: int) -> None:
    line = list(FORMS.values())[form]
    try:
        for event in windows.parse(line[:at] + noise + line[at:], ORIGIN):
            msgspec.msgpack.encode(event, enc_hook=dict)
    except ParseError:
        pass
    windows.sniff(noise)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=20,
    )
)
def test_salvage_reads_whole_json_like_the_strict_decoder(value: Any) -> None:
    text = json.dumps(value)
    if isinstance(value, dict | list):
        assert tolerant_json.salvage(text) == (value, False)


def test_tables_name_every_kind() -> None:
    for table in (SECURITY, SYSMON):
        for number, kind in table.items():
            assert kind.action, number
            assert kind.type, number


def _data(*parts: str) -> Path:
    folder = DATA.joinpath(*parts)
    if not folder.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"third-party data is missing: {folder}")
        pytest.skip(f"third-party data is missing: {folder}")
    return folder


def _attack_lines(step: int) -> Iterator[str]:
    for path in sorted(_data("evtx-attack-samples").rglob("*.gz")):
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
            yield from (line for i, line in enumerate(lines) if i % step == 0 and line.strip())


def test_attack_recordings_are_all_read() -> None:
    count = 0
    for line in _attack_lines(step=25):
        event = one(line)
        count += 1
        assert event.event_code
        assert event.host_name
        assert "shield.time" not in event.fields
        assert "shield.truncated" not in event.fields
    assert count > 300


def test_winlogbeat_expectations() -> None:
    """What another project expects of the same events, over all ids that both know."""
    wanted = ("user.name", "user.domain", "source.ip", "process.pid", "process.name", "process.executable", "host.name")
    right = asked = 0
    for path in sorted(_data("elastic-integrations").rglob("data_stream/*/_dev/test/pipeline/test-security-*.json")):
        if path.name.endswith("-expected.json"):
            continue
        expected = json.loads(path.with_name(path.name + "-expected.json").read_text())["expected"]
        for given_event, theirs in zip(json.loads(path.read_text())["events"], expected, strict=True):
            if not theirs or "winlog" not in given_event:
                continue
            ours = document(one(json.dumps(given_event)))
            for name in ("event.action", "event.category", "event.type", "event.outcome", *wanted):
                value = _at(theirs, name)
                if value in (None, "", "-"):
                    continue
                asked += 1
                right += _at(ours, name) == value
    assert asked > 500
    assert right / asked >= 0.97


def _at(doc: dict[str, Any], path: str) -> Any:
    value: Any = doc
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return list(value) if isinstance(value, tuple) else value


def test_cut_values_do_not_pass_for_whole_ones() -> None:
    assert tolerant_json.salvage('{"a":"x","EventID":46') == ({"a": "x"}, True)
    assert tolerant_json.salvage('{"a":"x","user":"a.kru') == ({"a": "x"}, True)
    script = "Get-ChildItem; " * 20
    assert tolerant_json.salvage(f'{{"a":"x","script":"{script}') == ({"a": "x", "script": script}, True)
    assert tolerant_json.salvage(f'{{"a":"x","script":"{script}\\') == ({"a": "x", "script": script}, True)
    assert tolerant_json.salvage(f'{{"a":"x","script":"{script}\\\\') == ({"a": "x", "script": script + "\\"}, True)


def test_what_stands_behind_containers_that_are_too_deep_is_read() -> None:
    deep = '{"a":' * (tolerant_json.DEPTH_MAX + 9) + "1" + "}" * (tolerant_json.DEPTH_MAX + 9)
    value, damaged = tolerant_json.salvage(f'{{"before":1,"deep":{deep},"list":{"[" * 99}7{"]" * 99},"after":2}}')
    assert (value["before"], value["after"], damaged) == (1, 2, False)
    assert tolerant_json.salvage(f'{{"list":{"[" * 99}7,{{"x":1}}{"]" * 99},"after":[3]}}')[0]["after"] == [3]
    with pytest.raises(ParseError):
        windows.parse(_xml().partition("25</EventID>")[0], ORIGIN)


AUDIT = (
    '<?xml version="1.0" encoding="utf-16"?><AuditBase xmlns:xsd="http://www.w3.org/2001/XMLSchema">'
    "<AuditType>AppToken</AuditType><AuditResult>{result}</AuditResult><FailureType>{why}</FailureType>"
    "<ErrorCode>N/A</ErrorCode><ContextComponents><Component><RelyingParty>urn:portal</RelyingParty>"
    "<UserId>STADT\\m.keller</UserId></Component><Component><IpAddress>203.0.113.200</IpAddress>"
    "<ForwardedIpAddress>{forwarded}</ForwardedIpAddress></Component></ContextComponents></AuditBase>"
)


def adfs(code: int, data: list[str]) -> Event:
    winlog = {
        "event_id": str(code),
        "channel": "Security",
        "provider_name": "AD FS Auditing",
        "keywords": ["Audit Success", "Classic"],
        "computer_name": "adfs-1.stadt.example",
        "event_data": {f"param{number}": text for number, text in enumerate(data, start=1)},
    }
    line = json.dumps({"@timestamp": "2026-11-24T05:30:00.000Z", "winlog": winlog})
    return one(line)


@pytest.mark.parametrize(
    ("code", "result", "forwarded", "outcome", "source"),
    [
        (1200, "Success", "N/A", "success", "203.0.113.200"),
        (1202, "Success", "198.51.100.7,10.1.1.1", "success", "198.51.100.7"),
        (1201, "Failure", "N/A", "failure", "203.0.113.200"),
        (1203, "Failure", "198.51.100.7", "failure", "198.51.100.7"),
    ],
)
def test_ad_fs_says_in_its_document_whether_a_logon_worked(
    code: int, result: str, forwarded: str, outcome: str, source: str
) -> None:
    """The keyword of the event says "Audit Success" even for a refused one."""
    event = adfs(
        code, ["activity-1", AUDIT.format(result=result, why="CredentialValidationError", forwarded=forwarded)]
    )
    assert (event.event_outcome, event.user_name, event.user_domain) == (outcome, "m.keller", "STADT")
    assert (event.source_ip, event.service_name, event.event_category) == (source, "adfs", ("authentication",))


def test_ad_fs_events_without_a_document_stay_as_they_are() -> None:
    assert adfs(1200, ["activity-1", "nothing"]).user_name is None
    assert adfs(100, ["started"]).event_category != ("authentication",)
