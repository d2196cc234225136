"""The second half of the firewalls: what the golden samples do not show of Sophos, pfSense, WatchGuard and the others."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.clock import Clock
from connectors.events import Event, Origin, ParseError, document
from connectors.keyvalue import SIGHTINGS_MIN, Shapes, pairs
from connectors.parse import Reader, load_parser

RECEIVED_S = 1_795_521_600.0  # 24 November 2026, 12:00 UTC
NAMES = ("sophos_xg", "sophos_utm", "pfsense", "watchguard", "stormshield", "barracuda", "mikrotik")


def read(name: str, line: str, zone: str = "UTC") -> Event:
    (event,) = load_parser(name).parse(line, Origin("stadt", "quelle", RECEIVED_S, Clock(ZoneInfo(zone))))
    return event


def stated(event: Event, **expected: Any) -> None:
    assert {name: getattr(event, name) for name in expected} == expected


def sophos(rest: str, zone: str = "CEST") -> str:
    return (
        f'device="SFW" date=2026-07-01 time=12:00:00 timezone="{zone}" device_name="XGS87" device_id=X1 '
        f'log_id=010101600001 log_type="Firewall" log_component="Firewall Rule" log_subtype="Allowed" {rest}'
    )


NOON_S = 1_782_907_200.0  # 1 July 2026, 12:00 UTC


@pytest.mark.parametrize(
    ("zone", "configured", "at"),
    [
        ("CEST", "UTC", NOON_S - 7200),
        ("GMT", "Europe/Berlin", NOON_S),
        ("+08", "UTC", NOON_S - 8 * 3600),
        ("-0330", "UTC", NOON_S + 3.5 * 3600),
        ("IST", "Europe/Berlin", NOON_S - 7200),  # three zones have this name: the source's own decides
        ("", "UTC", NOON_S),
    ],
)
def test_sophos_believes_the_zone_that_the_device_states(zone: str, configured: str, at: float) -> None:
    assert read("sophos_xg", sophos("src_ip=10.0.0.1", zone), configured).timestamp == at


def test_sophos_time_that_no_calendar_has_does_not_hide_the_event() -> None:
    event = read("sophos_xg", sophos("src_ip=10.0.0.1").replace("2026-07-01", "2026-02-31"))
    stated(event, timestamp=RECEIVED_S, source_ip="10.0.0.1")


def test_sophos_xg_reads_lines_of_the_utm_too() -> None:
    line = (
        '2026:11:24-07:30:01 gw ulogd[1]: id="2001" severity="info" sys="SecureNet" sub="packetfilter" srcip="10.0.0.1"'
    )
    assert read("sophos_xg", line) == read("sophos_utm", line)
    assert not load_parser("sophos_xg").sniff(line)


def test_sophos_value_without_quotes_ends_where_the_next_key_begins() -> None:
    event = read("sophos_xg", sophos("branch_name=Aussenstelle am Bauhof recv_bytes=5 message="))
    assert event.fields["branch_name"] == "Aussenstelle am Bauhof"
    stated(event, destination_bytes=5, message=None)


@pytest.mark.parametrize("name", ["sophos_xg", "stormshield"])
def test_a_learned_shape_reads_what_the_general_way_reads(name: str) -> None:
    """Values made to look like keys, before and after the shape of their lines is known."""
    lines = {
        "sophos_xg": sophos('user_name="{}" src_ip={} dst_ip= protocol="TCP" src_port=1 sent_bytes=7 user_agent="{}"'),
        "stormshield": 'id=firewall time="2026-11-24 07:30:01" fw="a" tz=+0100 user="{}" src={} msg="{}" logtype="auth"',
    }
    values = [
        ("j.weber", "10.0.0.1", "x"),
        ("a src_ip=6.6.6.6 src=6.6.6.6", "10.0.0.2", "y src_ip=7.7.7.7 src=7.7.7.7 error=9"),
        ("", "", ""),
        ("=", "::1", "= ="),
    ]
    module = load_parser(name)
    clock = Clock()
    for _ in range(SIGHTINGS_MIN + 2):
        for user, address, said in values:
            line = lines[name].format(user, address, said)
            (event,) = module.parse(line, Origin("stadt", "quelle", RECEIVED_S, clock))
            stated(event, user_name=user or None, source_ip=address or None)


def test_shapes_take_the_first_of_two_keys_with_one_role_and_refuse_other_shapes() -> None:
    shapes = Shapes({"a": "x", "b": "x", "c": "z"})
    line = 'b="2" a=1 c=3'
    for _ in range(SIGHTINGS_MIN):
        assert shapes.read("kind", line, 0) is None
        assert shapes.learn("kind", line, 0) == {"x": "1", "z": "3"}
    assert shapes.read("kind", 'b="8" a=9 c=', 0) == {"x": "9", "z": ""}
    for other in ('b="8" a=9', "b=8 a=9 c=3", 'b="8" a=9 c=3 d=4', 'b="8" a=9 c="3"', 'a=9 b="8" c=3', 'b="8 a=9 c=3'):
        assert shapes.read("kind", other, 0) is None
    assert shapes.read("other kind", line, 0) is None


def test_shapes_remember_nothing_of_lines_made_to_fill_the_memory() -> None:
    shapes = Shapes({"a": "x"})
    many = " ".join(f"k{number}=1" for number in range(1000))
    for line in (f'a="1" {"k" * 1000}=2', f"a=1 {many}", "a=1 a=2", "a=1 b=two words c=3", 'a=1 "x"'):
        for _ in range(SIGHTINGS_MIN + 1):
            assert shapes.learn("kind", line, 0)["x"] in {"1", "2"}
        assert shapes.read("kind", line, 0) is None


def test_pairs_of_a_line_cut_within_a_quoted_value() -> None:
    assert pairs('a="1" b=2 c="3', 0) == {"a": "1", "b": "2", "c": ""}


PFSENSE: dict[str, dict[str, Any]] = {
    "openvpn[1]: user 'j.weber' authenticated": {"user_name": "j.weber", "event_outcome": "success"},
    "openvpn[1]: user 'j.weber' could not authenticate.": {"user_name": "j.weber", "event_outcome": "failure"},
    "openvpn[1]: openvpn server 'ovpns1' user 'j.weber' address '203.0.113.7:40000' - disconnected": {
        "user_name": "j.weber", "source_ip": "203.0.113.7", "source_port": 40000, "event_type": ("connection", "end"),
    },
    "openvpn[1]: TLS Error: cannot locate HMAC in incoming packet from [AF_INET]203.0.113.9:34745": {
        "source_ip": "203.0.113.9", "source_port": 34745,
    },
    "charon[1]: 15[IKE] <con1|1> XAuth authentication of 'j.weber' failed": {
        "user_name": "j.weber", "event_outcome": "failure",
    },
    "dhcpd[1]: DHCPREQUEST for 10.40.12.77 (10.40.12.1) from 02:00:5e:40:00:01 (drucker) via igb1": {
        "source_ip": "10.40.12.77", "destination_ip": "10.40.12.1", "network_transport": "udp",
    },
    "dhcp6c[1]: Sending Release": {"source_ip": None, "event_dataset": "pfsense.dhcp6c"},
    "unbound[1]: [1:0] info: 10.40.12.50 www.example.org. A IN": {"source_ip": "10.40.12.50"},
    "(squid-1)[1]: 10.40.12.50 TCP_DENIED/403 51 GET http://www.example.org/a/b?c=d j.weber HIER_NONE/- text/html": {
        "source_ip": "10.40.12.50", "url_path": "/a/b", "http_response_status_code": 403, "user_name": "j.weber",
        "event_type": ("access", "denied"), "destination_ip": None,
    },
    "(squid-1)[1]: 10.40.12.50 TCP_MISS/200 51 GET http://www.example.org/ - HIER_DIRECT/192.0.2.80 text/html": {
        "destination_ip": "192.0.2.80", "url_path": "/", "event_outcome": "success", "user_name": None,
    },
    'haproxy[1]: 203.0.113.4:40122 [24/Nov/2026:07:30:12.101] web~ portal/srv1 0/0/1/12/13 404 512 - - ---- 1/1/0/0/0 0/0'
    ' "GET /suche?q=1 HTTP/1.1"': {
        "source_ip": "203.0.113.4", "source_port": 40122, "http_response_status_code": 404, "url_path": "/suche",
        "event_outcome": "failure",
    },
    "haproxy[1]: Connect from 203.0.113.4:40122 to 198.51.100.2:443 (web/HTTP)": {
        "source_ip": "203.0.113.4", "destination_ip": "198.51.100.2", "destination_port": 443,
    },
    "snort[1]: [1:21:7] GPL check [Classification: Bad] [Priority: 2] {TCP} 203.0.113.7:80 -> 10.40.12.5:501": {
        "source_ip": "203.0.113.7", "destination_ip": "10.40.12.5", "destination_port": 501, "network_transport": "tcp",
    },
    "sshd[1]: Failed password for root from 203.0.113.9 port 40111 ssh2": {
        "user_name": "root", "source_ip": "203.0.113.9", "event_outcome": "failure", "service_name": "ssh",
    },
    'nginx: 10.40.1.5 - - [24/Nov/2026:07:30:15 +0100] "GET /status.php HTTP/2.0" 200 8812 "-" "Mozilla/5.0"': {
        "source_ip": "10.40.1.5", "url_path": "/status.php", "http_response_status_code": 200,
    },
    "check_reload_status[1]: Reloading filter": {"event_dataset": "pfsense.system", "process_name": "check_reload_status"},
}  # fmt: skip


@pytest.mark.parametrize("line", PFSENSE)
def test_services_of_a_pfsense_are_read_and_told_as_its_own(line: str) -> None:
    event = read("pfsense", f"<30>Nov 24 07:30:01 fw-bibliothek {line}")
    stated(event, event_module="pfsense", host_name="fw-bibliothek", **PFSENSE[line])
    assert event.event_dataset.startswith("pfsense.")
    if "[1]" in line:
        assert event.process_pid == 1
    assert event.process_name


@pytest.mark.parametrize("columns", ["9,,,1,em0,match,block,in", "9,,,1,em0,match,block,in,4,0x0,,64", "filterlog"])
def test_filterlog_line_cut_short(columns: str) -> None:
    line = f"<30>Nov 24 07:30:01 fw filterlog[1]: {columns}"
    if columns.count(",") < 8:
        with pytest.raises(ParseError, match="fewer than nine columns"):
            read("pfsense", line)
    else:
        stated(read("pfsense", line), event_action="block", source_ip=None, network_transport=None)


def test_filterlog_without_an_envelope_is_known_and_read() -> None:
    line = (
        "146,,,1535324496,igb1,match,pass,in,4,0x0,,63,32989,0,DF,6,tcp,60,10.0.0.1,192.0.2.1,49652,853,0,S,1,,6,,mss"
    )
    assert load_parser("pfsense").sniff(line)
    stated(read("pfsense", line), source_ip="10.0.0.1", destination_port=853, timestamp=RECEIVED_S)


def test_watchguard_interfaces_with_blanks_and_a_missing_number() -> None:
    line = "<140>Nov 24 07:30:01 fb firewall: Deny 6-WLAN Gast 0-External 48 udp 20 127 10.9.0.4 192.0.2.9 3000 53  (Gast-00)"
    event = read("watchguard", line)
    stated(event, source_ip="10.9.0.4", destination_port=53, network_transport="udp", event_code=None, host_name="fb")
    assert event.fields["observer.ingress.interface.name"] == "6-WLAN Gast"
    assert event.fields["rule.name"] == "Gast-00"


def test_watchguard_type_and_code_of_icmp_are_no_ports() -> None:
    line = '<140>Nov 24 07:30:01 firewall: msg_id="3000-0148" Deny 0-External Firebox 84 icmp 20 56 192.0.2.9 192.0.2.1 8 0 (P-00)'
    event = read("watchguard", line)
    stated(event, source_port=None, destination_port=None, host_name=None, process_name="firewall")
    assert event.fields["watchguard.icmp.type"] == 8


def test_barracuda_activity_without_keys_says_the_same_as_with_them() -> None:
    head = "<14>Nov 24 07:30:04 cgf box_Firewall_Activity:  Security cgf Drop: "
    values = "FWD|TCP|p2|203.0.113.9|41522|02:00:5e:70:00:02|198.51.100.70|3389|rdp|p1|R|Block|0.0.0.0|0.0.0.0|0|1|5|6|1|1|u||||x|y"
    keys = [
        "type", "proto", "srcIF", "srcIP", "srcPort", "srcMAC", "dstIP", "dstPort", "dstService", "dstIF", "rule",
        "info", "srcNAT", "dstNAT", "duration", "count", "receivedBytes", "sentBytes", "receivedPackets",
        "sentPackets", "user", "protocol", "application", "target", "content", "urlcat",
    ]  # fmt: skip
    keyed = "|".join(f"{key}={value}" for key, value in zip(keys, values.split("|"), strict=True))
    other_order = "|".join([keyed.split("|")[0], *reversed(keyed.split("|")[1:])])
    bare, named, turned = (document(read("barracuda", head + body)) for body in (values, keyed, other_order))
    for event in (bare, named, turned):
        del event["message"]
    assert bare == named == turned
    assert bare["source"]["bytes"] == 6
    assert "nat" not in bare["source"]


@pytest.mark.parametrize(
    ("said", "outcome", "user"),
    [
        ("srv_S1_VPN:  Notice cgf login accepted for user=j.weber from 203.0.113.7:4000", "success", "j.weber"),
        ("srv_S1_VPN:  Warning cgf authentication failed for user 'j.weber' from 203.0.113.7", "failure", "j.weber"),
        ("box_Auth_access:  Notice cgf login from 203.0.113.7: user=root denied", "failure", "root"),
        ("box_Control_daemon:  Info cgf service is active", None, None),
    ],
)
def test_barracuda_services(said: str, outcome: str | None, user: str | None) -> None:
    event = read("barracuda", f"<14>Nov 24 07:30:04 cgf {said}")
    stated(event, event_outcome=outcome, user_name=user, host_name="cgf")
    assert event.source_ip == (None if outcome is None else "203.0.113.7")


def test_mikrotik_addresses_behind_nat() -> None:
    source = "in:br out:wan, proto TCP (SYN), 10.0.0.1:5->192.0.2.4:443, NAT (10.0.0.1:5->198.51.100.1:6)->192.0.2.4:443, len 60"
    event = read("mikrotik", f"firewall,info srcnat: {source}")
    assert (event.fields["source.nat.ip"], event.fields["source.nat.port"]) == ("198.51.100.1", 6)
    target = "in:wan out:(unknown 0), proto TCP (SYN), 192.0.2.9:5->198.51.100.1:443, NAT 192.0.2.9:5->(198.51.100.1:443->10.0.0.4:8443), len 60"
    event = read("mikrotik", f"firewall,info dstnat: {target}")
    assert (event.fields["destination.nat.ip"], event.fields["destination.nat.port"]) == ("10.0.0.4", 8443)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "line",
    [
        "",
        "Nov 24 07:30:01 host app[1]: something happened",
        '{"timestamp": 1, "message": "x"}',
        'date=2026-11-24 time=07:30:01 logid="0000000013" type="traffic" subtype="forward" srcip=10.0.0.1',
        'id=firewall sn=0017 time="2026-11-24 07:30:01" fw=192.0.2.1 pri=6 c=262144 m=98 msg="Connection Opened" src=10.0.0.1',
        "<134>Nov 24 07:30:01 fw %ASA-6-302013: Built outbound TCP connection 1 for outside:192.0.2.1/443",
        "CEF:0|Vendor|Product|1|1|name|3|src=10.0.0.1",
        "Nov 24 07:30:01 gw kernel: IN=eth0 OUT= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TTL=63 PROTO=TCP SPT=1 DPT=2",
    ],
)  # fmt: skip
def test_no_other_format_is_taken_for_this_one(name: str, line: str) -> None:
    assert not load_parser(name).sniff(line)
    if name != "pfsense" or not line.startswith("Nov"):  # which reads what other programs on it write
        with pytest.raises(ParseError):
            read(name, line)


@pytest.mark.parametrize("name", NAMES)
def test_auto_finds_the_parser_by_its_name(name: str) -> None:
    lines = {
        "sophos_xg": sophos("src_ip=10.0.0.1"),
        "sophos_utm": "2026:11:24-07:30:01 gw afcd[1]: Classifier configuration reloaded successfully",
        "pfsense": "Nov 24 07:30:01 fw filterlog[1]: 9,,,1,em0,match,block,in,4,0x0,,64",
        "watchguard": '<140>Nov 24 07:30:01 fb admd[1]: msg_id="1100-0004" Authentication of SSLVPN user [a@b] from 192.0.2.1 was accepted',
        "stormshield": 'id=firewall time="2026-11-24 07:30:01" fw="a" tz=+0100 logtype="system"',
        "barracuda": "2026 11 24 07:30:01 Security +01:00 Block: FWD|TCP|p2|203.0.113.9|41522",
        "mikrotik": "Nov 24 07:30:01 rt system,info,account user admin logged in from 10.0.0.1 via ssh",
    }
    parsed = Reader("auto", "stadt", "quelle").read([lines[name].encode()], RECEIVED_S)
    assert [event.event_module for event in parsed.events] == [name]


def test_barracuda_path_is_not_looked_for_in_the_query() -> None:
    request = '{"src_ip": "10.20.30.7", "fw_rule": "web", "traffic_type": 1, "name": "%s"}'
    assert read("barracuda", request % "http://www.example.org/a?back=http://b.example/c").url_path == "/a"
    assert read("barracuda", request % "/a?back=http://b.example/c").url_path is None
