"""What the golden samples do not show of the parsers for Cisco devices, F5 BIG-IP, Snort, Suricata and Zeek."""

from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from connectors.clock import Clock
from connectors.events import Event, Origin, ParseError, document, isoformat
from connectors.parse import Reader, load_parser

GOLDEN = Path(__file__).parent / "golden"
RECEIVED_S = 1_795_521_600.0  # 24 November 2026, 12:00 UTC
NETWORK = ["cisco_asa", "cisco_ftd", "cisco_ios", "cisco_ise", "cisco_meraki", "f5_bigip", "snort", "suricata", "zeek"]


def origin(zone: str = "UTC") -> Origin:
    return Origin("stadt", "quelle", RECEIVED_S, Clock(ZoneInfo(zone)))


def read(name: str, text: str, zone: str = "UTC") -> Event:
    (event,) = load_parser(name).parse(text, origin(zone))
    return event


@pytest.mark.parametrize(
    ("header", "expected", "host"),
    [
        ("<189>4711: sw-1: 000471: Nov 24 2026 09:12:40.118 CET: ", "2026-11-24T08:12:40.118Z", "sw-1"),
        ("<189>4711: sw-1: 000471: *Nov 24 09:12:40.118: ", "2026-11-24T08:12:40.118Z", "sw-1"),
        ("<189>: Nov 24 2026 09:12:40: ", "2026-11-24T08:12:40.000Z", None),
        ("Nov 24 09:12:41 10.20.0.2 4711: Nov 24 09:12:40.118: ", "2026-11-24T08:12:40.118Z", "10.20.0.2"),
        ("Nov 24 09:12:41 sw-1 ", "2026-11-24T08:12:41.000Z", "sw-1"),
        ("2026 Nov 24 09:12:40.500 n9k %$ VDC-1 %$ ", "2026-11-24T08:12:40.500Z", "n9k"),
        ("<189>: 2026 Nov 24 09:12:40 CET: ", "2026-11-24T08:12:40.000Z", None),
        ("<189>7: RP/0/RSP0/CPU0:Nov 24 09:12:40.118 CET: config[65]: ", "2026-11-24T08:12:40.118Z", None),
        ("<189>1 2026-11-24T08:12:40.118Z sw-1 - - - - ", "2026-11-24T08:12:40.118Z", "sw-1"),
        ("00:00:46: ", "2026-11-24T12:00:00.000Z", None),
        ("", "2026-11-24T12:00:00.000Z", None),
    ],
)
def test_ios_time_and_host_in_every_header(header: str, expected: str, host: str | None) -> None:
    line = f"{header}%SYS-5-CONFIG_I: Configured from console by netz.huber on vty0 (10.20.1.14)"
    for _ in range(2):  # once more, with what was remembered
        event = read("cisco_ios", line, "Europe/Berlin")
        assert (isoformat(event.timestamp), event.host_name) == (expected, host)
        assert (event.user_name, event.source_ip, event.event_code) == ("netz.huber", "10.20.1.14", "CONFIG_I")


def test_ios_uptime_gives_way_to_the_time_that_a_logon_states() -> None:
    line = (
        "<189>72: sw: 71: 5w2d: %SEC_LOGIN-5-LOGIN_SUCCESS: Login Success [user: a] [Source: 10.1.1.1] [localport: 23]"
    )
    assert read("cisco_ios", line).timestamp == RECEIVED_S
    stated = read("cisco_ios", f"{line} at 09:20:01 CET Tue Nov 24 2026")
    assert isoformat(stated.timestamp) == "2026-11-24T08:20:01.000Z"
    assert (stated.service_name, stated.event_outcome) == ("telnet", "success")


@pytest.mark.parametrize("name", ["cisco_asa", "cisco_ftd"])
def test_zone_between_time_and_tag_is_read_and_is_no_host(name: str) -> None:
    product = name.removeprefix("cisco_").upper()
    event = read(
        name, f"<164>Nov 24 2026 09:00:00 CET: %{product}-4-106023: Deny tcp src a:192.0.2.1/1 dst b:192.0.2.2/2"
    )
    assert (isoformat(event.timestamp), event.host_name) == ("2026-11-24T08:00:00.000Z", None)


def test_ftd_reads_the_messages_of_asa_as_asa_does() -> None:
    lines = (GOLDEN / "cisco_asa/sample.log").read_text().splitlines()
    tagged = [line for line in lines if "%ASA-" in line or "%PIX-" in line]  # the rest is in an ASA's own words
    assert len(tagged) > len(lines) // 2
    for line in tagged:
        theirs = read("cisco_asa", line)
        ours = read("cisco_ftd", line.replace("%ASA-", "%FTD-").replace("%PIX-", "%FTD-"))
        dataset = ours.event_dataset.replace("cisco_ftd", "cisco_asa")
        fields = {**ours.fields, "observer.product": theirs.fields["observer.product"]}
        changed = msgspec.structs.replace(ours, event_module="cisco_asa", event_dataset=dataset, fields=fields)
        assert changed == msgspec.structs.replace(theirs, fields=dict(theirs.fields)), line


def test_ftd_value_keeps_its_commas_and_keys_may_have_blanks() -> None:
    body = "AccessControlRuleName: drei, vier, Prefilter Policy: Standard, User: STADT\\m.bauer, URL: http://a.example/?x=1, 2"
    event = read("cisco_ftd", f"2026-11-24T08:00:00Z fw  %FTD-1-430003: SrcIP: 192.0.2.1, {body}")
    assert event.fields["AccessControlRuleName"] == "drei, vier"
    assert event.fields["Prefilter Policy"] == "Standard"
    assert event.fields["URL"] == "http://a.example/?x=1, 2"
    assert (event.user_name, event.user_domain) == ("m.bauer", "STADT")


def test_ise_segment_after_the_first_is_no_second_logon() -> None:
    head = "<181>Nov 24 09:20:14 ise CISE_Passed_Authentications 0000083427 2"
    first = read(
        "cisco_ise",
        f"{head} 0 2026-11-24 09:20:14.100 +01:00 0000083494 5200 NOTICE Passed-Authentication: ok, User-Name=a,",
    )
    later = read("cisco_ise", f"{head} 1  AcsSessionID=ise/1/2, User-Name=a,")
    assert (first.event_type, first.event_outcome, first.user_name) == (("start",), "success", "a")
    assert (later.event_type, later.event_outcome, later.user_name) == (("info",), None, "a")
    assert first.fields["cisco_ise.message_id"] == later.fields["cisco_ise.message_id"]


def test_secret_of_a_meraki_webhook_is_kept_nowhere() -> None:
    event = read(
        "cisco_meraki", '{"alertType":"x","alertTypeId":"x","networkId":"N","sharedSecret":"geheim","deviceName":"a"}'
    )
    assert event.host_name == "a"
    assert "geheim" not in str(document(event))


def test_snort_trusts_its_seconds_and_takes_the_fraction_from_the_local_time() -> None:
    line = '{"seconds":1795508240,"sid":7,"gid":1,"rule":"1:7:1","msg":"x","timestamp":"11/24-09:17:20.603502"}'
    assert read("snort", line, "America/Chicago").timestamp == pytest.approx(1_795_508_240.603502)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ("{TCP} 192.0.2.7:51022 -> 10.20.3.7:80", ("192.0.2.7", 51022, "10.20.3.7", 80)),
        ("{ICMP} 192.0.2.7:8 -> 10.20.3.7:0", ("192.0.2.7", None, "10.20.3.7", None)),
        ("{TCP} [2001:db8::7]:51022 -> [2001:db8::9]:80", ("2001:db8::7", 51022, "2001:db8::9", 80)),
        ("{UDP} 2001:db8::7:51022 -> 2001:db8::9:53", ("2001:db8::7", 51022, "2001:db8::9", 53)),
        ("{IPV6-ICMP} 2001:db8::7 -> 2001:db8::9", ("2001:db8::7", None, "2001:db8::9", None)),
    ],
)
def test_snort_ends_of_a_connection(ends: str, expected: tuple[str, int | None, str, int | None]) -> None:
    event = read("snort", f"11/24-08:15:02.118233  [**] [1:7:1] x [**] [Priority: 1] {ends}")
    assert (event.source_ip, event.source_port, event.destination_ip, event.destination_port) == expected


def test_suricata_bytes_of_an_alert_on_the_answer_belong_to_who_sent_them() -> None:
    flow = '"flow":{"src_ip":"192.0.2.1","dest_ip":"192.0.2.2","bytes_toserver":10,"bytes_toclient":900}'
    alert = '"timestamp":"2026-11-24T08:00:00+0000","event_type":"alert","alert":{"signature_id":7},'
    asked = read("suricata", f'{{{alert}"src_ip":"192.0.2.1","dest_ip":"192.0.2.2",{flow}}}')
    answered = read("suricata", f'{{{alert}"src_ip":"192.0.2.2","dest_ip":"192.0.2.1",{flow}}}')
    assert (asked.source_bytes, asked.destination_bytes) == (10, 900)
    assert (answered.source_bytes, answered.destination_bytes) == (900, 10)


def test_suricata_step_that_every_kerberos_logon_takes_is_no_failure() -> None:
    line = (
        '{"timestamp":"2026-11-24T08:00:00+0000","event_type":"krb5","krb5":{"msg_type":"KRB_ERROR","error_code":"%s"}}'
    )
    assert read("suricata", line % "KDC_ERR_PREAUTH_REQUIRED").event_outcome is None
    assert read("suricata", line % "KDC_ERR_PREAUTH_FAILED").event_outcome == "failure"


def test_zeek_takes_the_columns_that_its_file_names() -> None:
    lines = [
        b"#fields\tts\tuid\tid.resp_h\tid.orig_h\tuser\tcommand\treply_code",
        b"1795507202.5\tC1\t192.0.2.2\t192.0.2.1\ta\tUSER\t530",
    ]
    head, event = Reader("zeek", "stadt", "quelle").read(lines, RECEIVED_S).events
    assert head.event_dataset == "zeek.head"
    assert (event.event_dataset, event.source_ip, event.destination_ip) == ("zeek.ftp", "192.0.2.1", "192.0.2.2")
    assert (event.user_name, event.event_outcome, event.fields["reply_code"]) == ("a", "failure", 530)
    with pytest.raises(ParseError, match="#fields"):
        read("zeek", "1795507202.5\tx\ty")


def test_zeek_line_without_a_header_gives_what_one_with_a_header_gives() -> None:
    columns = b"ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes conn_state local_orig local_resp missed_bytes history orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes tunnel_parents"
    line = b"1795507202.118233 C1 10.20.3.7 50112 203.0.113.20 443 tcp ssl 31.8 3210 37100 SF T F 0 ShADadFf 18 4210 31 38220 -"
    header = b"\t".join([b"#fields", *columns.split()])
    bare = Reader("zeek", "stadt", "quelle").read([line.replace(b" ", b"\t")], RECEIVED_S).events
    headed = Reader("zeek", "stadt", "quelle").read([header, line.replace(b" ", b"\t")], RECEIVED_S).events
    assert document(bare[0]) == document(headed[1])


@pytest.mark.parametrize("name", NETWORK)
def test_line_of_another_kind_is_refused_with_a_reason(name: str) -> None:
    for line in ("just words", '{"a": 1}', "%%%%", "a=b c=d", "12 34"):
        with pytest.raises(ParseError, match=r"^no \w+"):
            load_parser(name).parse(line, origin())


@pytest.mark.parametrize("name", NETWORK)
def test_auto_finds_the_format_by_itself(name: str) -> None:
    lines = (GOLDEN / name / "sample.log").read_bytes().splitlines()
    own = Reader(name, "stadt", "quelle").read(lines, RECEIVED_S).events
    found = Reader("auto", "stadt", "quelle").read(lines, RECEIVED_S).events
    wrong = [line for line, event, other in zip(lines, own, found, strict=True) if document(event) != document(other)]
    allowed = [
        line for line in lines if name == "f5_bigip" and b'"GET /tmui' in line
    ]  # an access log, whose ever it is
    assert wrong == allowed


FILTERED = (
    b"<134>Nov 24 05:00:00 gw filterlog[7]: 5,,,1000000103,igb0,match,block,in,4,0x0,,64,1,0,none,17,udp,78,"
    b"198.51.100.7,192.0.2.1,5353,53,58"
)
RESOLVED = b"<30>Nov 24 05:00:01 gw unbound[9]: [9:0] info: 10.20.0.7 www.example.org. A IN"
LEASED = b"<190>Nov 24 05:00:02 gw dhcpd[8]: DHCPACK on 10.20.0.7 to 00:00:5e:00:53:07 via igb1"
SERVED = b'10.20.0.9 - - [24/Nov/2026:05:00:03 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8"'


def test_daemons_of_a_firewall_are_its_own_while_its_source_sends_nothing_else() -> None:
    reader = Reader("auto", "stadt", "quelle")

    def modules(*sent: bytes) -> list[str]:
        return [event.event_module for event in reader.read(sent, RECEIVED_S).events]

    assert modules(RESOLVED, LEASED) == ["unbound", "dhcp"]
    assert modules(FILTERED, RESOLVED, LEASED, FILTERED) == ["pfsense"] * 4
    assert modules(SERVED, RESOLVED, FILTERED, LEASED) == ["nginx", "unbound", "pfsense", "dhcp"]
