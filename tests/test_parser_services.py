"""DNS, DHCP, RADIUS, VPN, identity and the generic formats: lines beyond the golden samples, and what names must not do."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.clock import Clock
from connectors.events import Event, Origin, ParseError
from connectors.parse import Reader, load_parser

RECEIVED_S = 1_795_521_600.0  # 24 November 2026, 12:00 UTC
NOON = "2026-11-24T12:00:00"


def origin(zone: str = "UTC") -> Origin:
    return Origin("stadt", "quelle", RECEIVED_S, Clock(ZoneInfo(zone)))


def one(name: str, line: str, zone: str = "UTC") -> Event:
    (event,) = load_parser(name).parse(line, origin(zone))
    return event


LINES: list[tuple[str, str, dict[str, Any]]] = [
    (
        "bind",
        "24-Nov-2026 12:00:00.250 client @0x7f 10.20.4.9#5353/key host\\/pc (x.example): query: x.example IN ANY -SE(0)TDCV (10.20.0.53)",
        {
            "timestamp": RECEIVED_S + 0.25,
            "source_ip": "10.20.4.9",
            "network_transport": "tcp",
            "dns.question.type": "ANY",
        },
    ),
    (
        "bind",
        "rpz: info: client @0x7f 10.20.4.9#53 (x.example): view innen: rpz IP PASSTHRU rewrite x.example/A/IN via 32.1.2.0.192.rpz-ip.liste",
        {"event_type": ("connection", "allowed"), "event_outcome": "success", "bind.view": "innen"},
    ),
    (
        "bind",
        (
            "Nov 24 12:00:00 ddi1 named[8]: infoblox-responses: 24-Nov-2026 12:00:00.083 client 10.20.4.31#49703: UDP: "
            "query: www.lindenau.example IN A response: NXDOMAIN +"
        ),
        {
            "source_ip": "10.20.4.31",
            "network_transport": "udp",
            "dns.response_code": "NXDOMAIN",
            "event_outcome": "failure",
        },
    ),
    (
        "bind",
        "resolver: info: DNS format error from 192.0.2.9#53 resolving a.example/AAAA for client 10.20.0.2#5353: FORMERR",
        {"source_ip": "10.20.0.2", "destination_ip": "192.0.2.9", "dns.question.name": "a.example"},
    ),
    (
        "unbound",
        "[1795521600] unbound[9:1] notice: ip_ratelimit exceeded 10.20.4.9 100 www.lindenau.example. A IN",
        {"timestamp": RECEIVED_S, "source_ip": "10.20.4.9", "event_outcome": "failure", "process_pid": 9},
    ),
    (
        "unbound",
        "Nov 24 12:00:00 unbound[9:0] info: lindenau.example. transparent 10.20.4.1@5312 www.lindenau.example. A IN",
        {"event_type": ("connection", "allowed"), "source_port": 5312, "rule.name": "lindenau.example"},
    ),
    (
        "dnsmasq",
        "Nov 24 12:00:00 gw dnsmasq[7]: gravity blocked (CNAME) werbung.example is ::",
        {"event_type": ("connection", "denied"), "dns.question.name": "werbung.example"},
    ),
    (
        "dnsmasq",
        "Nov 24 12:00:00 gw dnsmasq-dhcp[7]: DHCPDISCOVER(br0) 02:00:5e:10:00:21 no address available",
        {"source_ip": None, "source.mac": "02-00-5E-10-00-21", "event_outcome": "failure"},
    ),
    (
        "dhcp",
        "Nov 24 12:00:00 dhcp1 dhcpd[6]: DHCPREQUEST for 10.20.4.31 (10.20.0.10) from 02:00:5e:10:00:31 (pc) via 10.20.4.1: wrong network.",
        {
            "event_outcome": "failure",
            "destination_ip": "10.20.0.10",
            "dhcp.relay.ip": "10.20.4.1",
            "source_ip": "10.20.4.31",
        },
    ),
    (
        "dhcp",
        "Nov 24 12:00:00 pc dhclient[4]: DHCPREQUEST for 10.20.4.9 on eth0 to 10.20.0.10 port 67",
        {"source_ip": "10.20.4.9", "destination_ip": "10.20.0.10", "destination_port": 67},
    ),
    (
        "dhcp",
        (
            "2026-11-24 12:00:00.500 DEBUG [kea-dhcp4.packets/12.13] DHCP4_PACKET_SEND [hwtype=1 02:00:5e:10:00:53], cid=[no info], tid=0x1: "
            "trying to send packet DHCPOFFER (type 2) from 10.20.0.10:67 to 10.20.5.53:68 on interface eth1"
        ),
        {"timestamp": RECEIVED_S + 0.5, "source_ip": "10.20.5.53", "destination_port": 67, "event_action": "DHCPOFFER"},
    ),
    (
        "dhcp",
        (
            "Nov 24 12:00:00 dhcp2 kea-dhcp4: 2026-11-24 12:00:00.100 INFO  [kea-dhcp4.leases/1] DHCP4_LEASE_ALLOC "
            "[hwtype=1 02:00:5e:10:00:51], cid=[01:02], tid=0x7: lease 10.20.5.51 has been allocated for 3600 seconds"
        ),
        {"host_name": "dhcp2", "source_ip": "10.20.5.51", "event_outcome": "success", "timestamp": RECEIVED_S + 0.1},
    ),
    (
        "dhcp",
        "Nov 24 12:00:00 win1 dhcpsrv: 10,11/24/26,12:00:00,Assign,10.20.6.61,PC1.lindenau.example,02005E100061,,7,0,,,,,,,,,0",
        {"event_code": "10", "source_ip": "10.20.6.61", "host_name": "PC1.lindenau.example"},
    ),
    (
        "freeradius",
        "Tue Nov 24 12:00:00 2026 : Auth: (5)   Login incorrect (ldap: Bind failed): [a.krueger] (from client localhost port 0)",
        {"event_outcome": "failure", "user_name": "a.krueger", "event.reason": "ldap: Bind failed"},
    ),
    (
        "openvpn",
        "2026-11-24 12:00:00 m.vogt/[2001:db8::5]:50122 MULTI: primary virtual IPv6 for m.vogt/[2001:db8::5]:50122: 2001:db8:60::6",
        {"source_ip": "2001:db8::5", "source_port": 50122, "source.nat.ip": "2001:db8:60::6"},
    ),
    (
        "openvpn",
        "Nov 24 12:00:00 fw openvpn[9]: openvpn server 'ovpns1' user 'p.hartmann' address '198.51.100.32:5011' - disconnected",
        {"user_name": "p.hartmann", "source_port": 5011, "event_type": ("connection", "end")},
    ),
    (
        "openvpn",
        "Nov 24 12:00:00 vpn openvpn[9]: client-disconnect common_name=p.hartmann trusted_ip=198.51.100.32 bytes_received=12 bytes_sent=56",
        {"user_name": "p.hartmann", "source_ip": "198.51.100.32", "source_bytes": 12, "destination_bytes": 56},
    ),
    (
        "openvpn",
        "CLIENT_LIST,alt,198.51.100.31:50122,10.60.0.7,1048,2097,Tue Nov 24 06:00:03 2026,1795500003",
        {"source_bytes": 1048, "destination_bytes": 2097, "source.nat.ip": "10.60.0.7"},
    ),
    (
        "strongswan",
        "Nov 24 12:00:00 vpn charon: 05[IKE] <k|2> IKE_SA k[2] established between 2001:db8::1[CN=gw]...2001:db8::2[C=DE, CN=gw-kreis]",
        {"source_ip": "2001:db8::2", "user_name": "gw-kreis", "event_category": ("authentication", "session")},
    ),
    (
        "strongswan",
        "Nov 24 12:00:00 vpn charon: 05[IKE] <k|2> tried 1 shared key for 'vpn.example' - '198.51.100.9', but MAC mismatched",
        {"source_ip": "198.51.100.9", "user_name": None, "event_outcome": "failure"},
    ),
    (
        "wireguard",
        "Nov 24 12:00:00 vpn kernel: wireguard: wg0: Keypair 3 destroyed for peer 5",
        {"event_action": "keypair-destroyed", "wireguard.peer.id": "5"},
    ),
    (
        "keycloak",
        (
            '{"time":1795521600000,"type":"LOGIN_ERROR","realmId":"r","clientId":"c","userId":null,"ipAddress":"198.51.100.8, 10.0.0.1",'
            '"error":"user_not_found","details":{"username":"admin"}}'
        ),
        {"source_ip": "198.51.100.8", "user_name": "admin", "event_outcome": "failure", "timestamp": RECEIVED_S},
    ),
    (
        "openldap",
        'Nov 24 12:00:00 l slapd[1]: conn=1 op=0 BIND dn="uid=m\\C3\\BCller\\2c b,ou=People,dc=example" mech=SIMPLE ssf=0',
        {"event_outcome": "success", "event_type": ("start",), "conn": "1"},
    ),
    (
        "kv",
        'Nov 24 12:00:00 gw app: a="x y" src=02:00:5e:10:00:31 client=[2001:db8::7]:5000 user=none acct="m.vogt" sentbyte=99999999999999999999',
        {"source_ip": "2001:db8::7", "source_port": 5000, "user_name": "m.vogt", "source_bytes": None, "a": "x y"},
    ),
    (
        "kv",
        "[2026-11-24T12:00:00.000Z] falle: host=::ffff:198.51.100.9 port=5000 kind=accept n=1",
        {"timestamp": RECEIVED_S, "source_ip": "::ffff:198.51.100.9", "source_port": 5000},
    ),
    (
        "kv",
        'time="2026-11-24T12:00:00Z" level=error msg="Unsuccessful authentication attempt by user \'admin\'" source-ip=198.51.100.9',
        {
            "user_name": "admin",
            "source_ip": "198.51.100.9",
            "event_category": ("authentication",),
            "event_outcome": "failure",
        },
    ),
    (
        "gelf",
        '{"version":"1.1","host":"w","short_message":"m","timestamp":1795521600,"_time":"2020-01-01T00:00:00Z","_user":"u"}',
        {"timestamp": RECEIVED_S, "time": "2020-01-01T00:00:00Z", "user_name": "u", "host_name": "w"},
    ),
    (
        "leef",
        "LEEF:1.0|V|P|1|e|devTime=Nov 24, 2026 7:00:00 AM\tdevTimeFormat=MMM dd, yyyy h:mm:ss a\tusrName=LINDENAU\\x\tmsg=a=b",
        {"timestamp": RECEIVED_S - 5 * 3600, "user_name": "x", "user_domain": "LINDENAU", "msg": "a=b"},
    ),
    (
        "leef",
        "LEEF:1.0|V|P|1|e|devTime=2026-11-24T07:00:00.000-0500\tdevTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ\tsrc=10.0.0.2",
        {"timestamp": RECEIVED_S, "source_ip": "10.0.0.2"},
    ),
    ("leef", "LEEF:2.0|V|P|1|e|0x7C|a=b|src=10.0.0.1", {"source_ip": "10.0.0.1", "a": "b"}),
    ("leef", "LEEF:2.0|V|P|1|e||src=10.0.0.1\tusrName=x", {"source_ip": "10.0.0.1", "user_name": "x"}),
]


@pytest.mark.parametrize(("name", "line", "expected"), LINES, ids=range(len(LINES)))
def test_line_says_what_it_says(name: str, line: str, expected: dict[str, Any]) -> None:
    assert load_parser(name).sniff(line)
    event = one(name, line)
    for key, value in expected.items():
        got = getattr(event, key) if key in Event.__struct_fields__ else event.fields.get(key)
        assert got == value, key


@pytest.mark.parametrize(("name", "line", "expected"), LINES, ids=range(len(LINES)))
def test_auto_picks_the_same_parser(name: str, line: str, expected: dict[str, Any]) -> None:  # noqa: ARG001
    parsed = Reader("auto", "stadt", "quelle").read([line.encode()], RECEIVED_S)
    assert parsed.parser == name


def test_password_in_a_radius_line_is_left_out() -> None:
    line = (
        "Tue Nov 24 12:00:00 2026 : Auth: Login incorrect: [gast/geheim 123] (from client nas port 1 cli 198.51.100.23)"
    )
    event = one("freeradius", line)
    assert event.user_name == "gast"
    assert event.source_ip == "198.51.100.23"
    assert "geheim" not in repr((event.message, dict(event.fields)))


@pytest.mark.parametrize(
    ("name", "line", "address"),
    [
        (
            "keycloak",
            (
                f"{NOON.replace('T', ' ')},000 WARN  [org.keycloak.events] (t-1) type=LOGIN_ERROR, realmId=r, clientId=c, userId=null, "
                "ipAddress=198.51.100.8, error=user_not_found, username=x, ipAddress=192.0.2.1, y=z"
            ),
            "198.51.100.8",
        ),
        (
            "freeradius",
            (
                "Tue Nov 24 12:00:00 2026 : Auth: Login incorrect: [x] (from client a port 1 cli 192.0.2.1)] "
                "(from client nas port 1 cli 198.51.100.8)"
            ),
            "198.51.100.8",
        ),
        (
            "openvpn",
            "2026-11-24 12:00:00 198.51.100.8:5000 [x] Peer Connection Initiated with [AF_INET]198.51.100.8:5000",
            "198.51.100.8",
        ),
        (
            "kv",
            'Nov 24 12:00:00 gw app: src=198.51.100.8 action=login user="x src=192.0.2.1"',
            "198.51.100.8",
        ),
    ],
)
def test_name_made_to_look_like_a_field_does_not_move_the_address(name: str, line: str, address: str) -> None:
    event = one(name, line)
    assert event.source_ip == address
    assert event.user_name


def test_windows_dhcp_times_are_local_and_day_first_where_the_month_is_impossible() -> None:
    assert one("dhcp", "11,11/24/26,13:00:00,Renew,10.0.0.1,pc,02005E100061,", "Europe/Berlin").timestamp == RECEIVED_S
    assert one("dhcp", "11,24/11/26,12:00:00,Renew,10.0.0.1,pc,02005E100061,").timestamp == RECEIVED_S
    assert one("dhcp", "11,99/99/26,12:00:00,Renew,10.0.0.1,pc,02005E100061,").timestamp == RECEIVED_S  # the arrival


@pytest.mark.parametrize(
    "name",
    ["bind", "unbound", "dnsmasq", "dhcp", "freeradius", "openvpn", "strongswan", "wireguard", "openldap"],
)
def test_line_of_another_program_is_refused_with_its_reason(name: str) -> None:
    line = "Nov 24 12:00:00 gw cron[7]: (root) CMD (run-parts)"
    assert not load_parser(name).sniff(line)
    with pytest.raises(ParseError, match=r"\w{3}"):
        one(name, line)


LONG = [
    ("bind", "client 10.0.0.1#5 (" + "\\)" * 50_000),
    ("bind", "client 10.0.0.1#5: query (cache) '" + "/" * 100_000 + "' denied"),
    ("bind", "24-Nov-2026 12:00:00.1 zone " + "'" * 100_000),
    ("unbound", "[1795521600] unbound[9:1] info: " + "rpz: applied [" * 20_000),
    ("dnsmasq", "Nov 24 12:00:00 gw dnsmasq[7]: " + "a is " * 50_000),
    ("dhcp", "Nov 24 12:00:00 gw dhcpd[7]: DHCPACK on " + "(" * 100_000),
    ("dhcp", "Nov 24 12:00:00 gw dhcpd[7]: lease " + "0:" * 100_000),
    ("freeradius", "Tue Nov 24 12:00:00 2026 : Auth: Login incorrect (" + "): [" * 50_000),
    ("freeradius", "Tue Nov 24 12:00:00 2026 : Auth: Login incorrect: [" + "] (from client " * 20_000),
    ("openvpn", "2026-11-24 12:00:00 TLS Error: " + "[AF_INET]" * 30_000),
    ("openvpn", "Nov 24 12:00:00 gw openvpn[7]: 'PUSH_REPLY," * 10_000),
    ("strongswan", "Nov 24 12:00:00 gw charon: 05[IKE] " + "1.1.1.1[" * 30_000),
    ("strongswan", "Nov 24 12:00:00 gw charon: 05[IKE] authentication of '" + "' with " * 30_000),
    ("wireguard", "Nov 24 12:00:00 gw kernel: wireguard: wg0: " + "peer 5 (" * 30_000),
    ("keycloak", "type=LOGIN, realmId=r, " + "a=" * 100_000),
    ("keycloak", 'type="LOGIN", realmId="' + '\\"' * 100_000),
    ("openldap", "conn=1 op=0 BIND dn=" + 'a="' * 60_000),
    ("kv", "a=1 b=2 c=3 " + "'" * 100_000),
    ("kv", 'a="' * 60_000),
    ("kv", "a" * 300_000 + "=1 b=2 c=3"),
    ("gelf", '{"host":"h","short_message":"' + "x" * 300_000 + '","_a":' + "[" * 50_000),
    ("leef", "LEEF:1.0|" + "a=b|" * 60_000),
    ("leef", "LEEF:1.0|v|p|1|e|" + "a=" * 100_000),
    ("leef", "LEEF:2.0|v|p|1|e|" + "a b=" * 60_000),
]


@pytest.mark.parametrize(("name", "text"), LONG, ids=range(len(LONG)))
def test_long_line_made_for_the_parser_is_read_or_refused(name: str, text: str) -> None:
    """A pattern that is not linear would make this run for minutes."""
    module = load_parser(name)
    module.sniff(text)
    try:
        events = module.parse(text, origin())
    except ParseError:
        return
    assert [dict(event.fields) for event in events]
