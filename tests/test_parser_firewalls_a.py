"""What the parsers of PAN-OS, Check Point, Junos and SonicOS promise beyond their golden samples."""

from zoneinfo import ZoneInfo

import pytest

from connectors.clock import Clock
from connectors.events import Event, Origin, ParseError
from connectors.parsers import checkpoint, juniper_srx, panw, sonicwall

RECEIVED_S = 1_795_521_600.0  # 24 November 2026, 12:00 UTC


def origin(zone: str = "UTC") -> Origin:
    return Origin("stadt", "quelle", RECEIVED_S, Clock(ZoneInfo(zone)))


def ends(event: Event) -> tuple[object, ...]:
    return (
        event.source_ip, event.source_port, event.destination_ip, event.destination_port, event.network_transport,
        event.event_type,
    )  # fmt: skip


# SonicOS


SONIC = 'id=firewall sn=0017C5000001 time="2026-11-24 06:30:01" fw=198.51.100.2 pri=6 '


def test_sonicwall_reads_keys_in_any_order_and_over_stray_words() -> None:
    usual = "c=1024 m=98 src=10.20.30.41:51544:X0 dst=203.0.113.80:443:X1 proto=tcp/https sent=60"
    other = 'proto=tcp/https stray "quoted stray" dst=203.0.113.80:443:X1 odd=" src=10.20.30.41:51544:X0 c=1024 sent=60 m=98'
    (one,) = sonicwall.parse(SONIC + usual, origin())
    (two,) = sonicwall.parse(SONIC + other.replace('odd=" ', 'odd="x" '), origin())
    assert ends(one) == ends(two) == ("10.20.30.41", 51544, "203.0.113.80", 443, "tcp", ("connection", "start"))
    assert one.source_bytes == two.source_bytes == 60


def test_sonicwall_takes_no_key_out_of_a_quoted_text() -> None:
    (event,) = sonicwall.parse(SONIC + 'm=37 msg="src=192.0.2.1:1:X1 m=98" src=10.20.30.41:5:X0 dst=:53:X1', origin())
    assert (event.source_ip, event.event_code, event.destination_ip) == ("10.20.30.41", "37", None)


def test_sonicwall_numbers_of_the_mobile_appliance_mean_something_else() -> None:
    line = (
        'id=sslvpn sn=0017C5000002 time="2026-11-24 06:30:19" fw=198.51.100.3 m=98 usr="m.keller" msg="User logged out"'
    )
    (event,) = sonicwall.parse(line, origin())
    assert (event.event_category, event.event_type, event.service_name) == (("authentication",), ("end",), "vpn")


def test_sonicwall_takes_the_envelopes_time_where_its_own_is_none() -> None:
    line = "<134>Nov 24 05:30:01 10.20.1.1 " + SONIC.replace("2026-11-24 06:30:01", "2026-13-45 99:30:01") + "m=98"
    (event,) = sonicwall.parse(line, origin())
    assert event.timestamp == RECEIVED_S - 6.5 * 3600 + 1


# Check Point


CHECKPOINT_FLOW = ("10.20.30.41", 51544, "203.0.113.80", 443, "tcp", ("connection", "denied"))


@pytest.mark.parametrize(
    "line",
    [
        (
            '<134>1 2026-11-24T05:30:01Z fw-rz CheckPoint 1930 - [action:"Drop"; time:"1795498201"; dst:"203.0.113.80"; proto:"6";'
            ' s_port:"51544"; service:"443"; src:"10.20.30.41"]'
        ),
        (
            '<134>1 2026-11-24T05:30:01Z fw-rz CheckPoint 1930 - [action:"Drop"; note:"a \\"; src:\\"192.0.2.1\\" b"; dst:"203.0.113.80";'
            ' proto:"6"; s_port:"51544"; service:"443"; src:"10.20.30.41"; ]'
        ),
        (
            '<85>1 2026-11-24T00:30:01--5:00 fw-rz CP-GW - Log [Fields@1.3.6.1.4.1.2620 action="Drop" src="10.20.30.41" s_port="51544"'
            ' dst="203.0.113.80" service="443" proto="6"]'
        ),
        "time=1795498201|product=VPN-1 & FireWall-1|action=Drop|dst=203.0.113.80|proto=6|s_port=51544|service=443|src=10.20.30.41|",
        "time=1795498201;product=VPN-1 & FireWall-1;action=Drop;dst=203.0.113.80;proto=6;s_port=51544;service=443;src=10.20.30.41",
        "24Nov2026  5:30:01 drop fw-rz >eth2 src: 10.20.30.41; dst: 203.0.113.80; proto: tcp; service: https; s_port: 51544;",
        "loc=1|time=24Nov2026  5:30:01|action=drop|orig=fw-rz|src=10.20.30.41|s_port=51544|dst=203.0.113.80|service=https|proto=tcp",
        (
            '{"action":"Drop","loguid":"{0x1}","origin":"10.20.1.1","time":"1795498201","src":"10.20.30.41","s_port":"51544",'
            '"dst":"203.0.113.80","service":"443","proto":"6"}'
        ),
    ],
    ids=["brackets", "quotes within", "fields", "bars", "semicolons", "fw log", "lea", "json"],
)
def test_checkpoint_says_the_same_in_every_form(line: str) -> None:
    assert checkpoint.sniff(line)
    (event,) = checkpoint.parse(line, origin())
    assert ends(event) == CHECKPOINT_FLOW
    assert event.timestamp == 1_795_498_201.0


def test_checkpoint_makes_no_address_of_half_a_value() -> None:
    line = '<134>1 2026-11-24T05:30:01Z fw-rz CheckPoint 1930 - [action:"Accept"; dst:"203.0.113.80"; src:"10.20.30.4'
    (event,) = checkpoint.parse(line, origin())
    assert (event.source_ip, event.destination_ip, event.event_action) == (None, "203.0.113.80", "Accept")


# Junos


@pytest.mark.parametrize(
    "line",
    [
        ('<14>1 2026-11-24T05:30:01Z srx RT_FLOW - RT_FLOW_SESSION_CLOSE [junos@2636.1.1.1.2.129 reason="TCP FIN"'
        ' source-address="10.20.30.41" source-port="51544" destination-address="203.0.113.80" destination-port="443"'
        ' protocol-id="6" policy-name="lan" bytes-from-client="4821" bytes-from-server="91173" username="m.keller"]'),
        ('Nov 24 05:30:01 relay junos-flow: 2026-11-24T05:30:01Z srx RT_FLOW - RT_FLOW_SESSION_CLOSE [junos@2636.1.1.1.2.129'
        ' reason="TCP \\"FIN\\"" source-address="10.20.30.41" source-port="51544" destination-address="203.0.113.80"'
        ' destination-port="443" protocol-id="6" policy-name="lan" bytes-from-client="4821" bytes-from-server="91173"'
        ' username="m.keller"] session closed'),
        ("<14>Nov 24 05:30:01 srx RT_FLOW: RT_FLOW_SESSION_CLOSE: session closed TCP FIN: 10.20.30.41/51544->203.0.113.80/443"
        " junos-https 198.51.100.2/16419->203.0.113.80/443 source rule nat-1 N/A N/A 6 lan a b 42 40(4821) 50(91173) 58 UNKNOWN"
        " UNKNOWN m.keller(N/A) ge-0/0/1.0 No"),
    ],
    ids=["structured", "behind a relay", "plain"],
)  # fmt: skip
def test_juniper_says_the_same_in_every_form(line: str) -> None:
    assert juniper_srx.sniff(line)
    (event,) = juniper_srx.parse(line, origin())
    assert ends(event) == ("10.20.30.41", 51544, "203.0.113.80", 443, "tcp", ("end", "allowed", "connection"))
    assert (event.source_bytes, event.destination_bytes, event.user_name) == (4821, 91173, "m.keller")
    assert (event.host_name, event.timestamp) == ("srx", 1_795_498_201.0)
    assert event.fields["rule.name"] == "lan"


def test_juniper_knows_daemons_that_only_junos_has() -> None:
    assert juniper_srx.sniff("<31>1 2026-11-24T05:30:01Z srx mib2d 9180 - - some text of a daemon")
    assert juniper_srx.sniff("<30>Nov 24 05:30:01 srx rpd[1234]: some text of a daemon")
    assert not juniper_srx.sniff("<30>Nov 24 05:30:01 srx named[1234]: some text of a daemon")


# PAN-OS


TRAFFIC = (
    "1,2026/11/24 05:30:01,012801000001,TRAFFIC,end,2561,2026/11/24 05:30:01,10.20.30.41,203.0.113.80,,,lan,,,ssl,vsys1,lan,wan,"
    "e1,e2,siem,,1,1,51544,443,0,0,0x0,tcp,allow,100,60,40,2,2026/11/24 05:30:00,1,any"
)


@pytest.mark.parametrize("columns", [31, 32, 33, 34, 38])
def test_panw_reads_what_the_columns_of_an_old_or_cut_off_log_state(columns: int) -> None:
    (event,) = panw.parse(",".join(TRAFFIC.split(",")[:columns]), origin())
    assert event.source_ip == "10.20.30.41"
    assert event.destination_port == (443 if columns > 31 else None)
    assert event.source_bytes == (60 if columns > 33 else None)


def test_panw_keeps_a_list_in_braces_within_its_column() -> None:
    columns = [*TRAFFIC.split(","), *[""] * 66]
    columns[69:74] = ["{a", "b", "c}", "cluster-1", "hub"]
    (event,) = panw.parse(",".join(columns), origin())
    assert event.fields["link_switches"] == "{a;b;c}"
    assert event.fields["sdwan_cluster"] == "cluster-1"


def test_panw_logon_comes_from_outside_and_what_follows_from_the_tunnel() -> None:
    line = "1,2026/11/24 05:30:01,0128,GLOBALPROTECT,0,2561,2026/11/24 05:30:01,vsys1,{},x,,,m.keller,DE,PC-1,203.0.113.200,,10.99.0.7,,"
    (logon,) = panw.parse(line.format("gateway-auth"), origin())
    (latency,) = panw.parse(line.format("gateway-tunnel-latency"), origin())
    (before,) = panw.parse(line.format("portal-prelogin"), origin())
    assert (logon.source_ip, logon.event_category, logon.service_name) == ("203.0.113.200", ("authentication",), "vpn")
    assert (latency.source_ip, latency.event_category) == ("10.99.0.7", ("network",))
    assert before.event_category == ("network",)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (panw, "CEF:0|Palo Alto Networks|PAN-OS|11.0|end|TRAFFIC|1|src=10.20.30.41 spt=51544 dst=203.0.113.80 dpt=443 proto=tcp"),
        (panw, "LEEF:1.0|Palo Alto Networks|PAN-OS|11.0|allow|src=10.20.30.41\tsrcPort=51544\tdst=203.0.113.80\tdstPort=443\tproto=tcp"),
        (checkpoint, "CEF:0|Check Point|VPN-1|R81|Accept|https|0|src=10.20.30.41 spt=51544 dst=203.0.113.80 dpt=443 proto=6"),
    ],
)  # fmt: skip
def test_other_forms_handed_over_are_read_as_what_they_are(module: object, line: str) -> None:
    assert module in {panw, checkpoint}
    parser = panw if module is panw else checkpoint
    (event,) = parser.parse(line, origin())
    assert ends(event)[:5] == ("10.20.30.41", 51544, "203.0.113.80", 443, "tcp")
    assert event.event_module == parser.NAME
    assert event.event_dataset.startswith(parser.NAME + ".")
    assert not parser.sniff(line)


@pytest.mark.parametrize("module", [panw, checkpoint, sonicwall, juniper_srx])
def test_line_of_no_such_format_is_refused_with_a_reason(module: object) -> None:
    parser = next(known for known in (panw, checkpoint, sonicwall, juniper_srx) if known is module)
    for line in ("hello world", "a=b c=d", '{"action":"x"}', "1,2,3,4,5,6,7"):
        assert not parser.sniff(line)
        with pytest.raises(ParseError, match="no "):
            parser.parse(line, origin())
