"""The syslog envelope in its dialects, and the parsers of the Unix and web side on lines made to mislead them."""

import json
import random
import string
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.clock import Clock
from connectors.envelope import Envelope, peel
from connectors.events import Event, Origin, ParseError, document

RECEIVED = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
PARSERS = ("linux_auth", "syslog", "iptables", "nginx", "apache")
GOLDEN = Path(__file__).parent / "golden"


def origin(zone: str = "UTC", received: float = RECEIVED, year: int | None = None) -> Origin:
    return Origin("town", "test", received, Clock(ZoneInfo(zone), year))


def at(*parts: int) -> float:
    year, month, day, hour, minute, second = parts
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


FIVE = at(2026, 11, 24, 5, 0, 0)
CASES: list[tuple[str, dict[str, Any]]] = [
    ("Nov 24 05:00:00 srv sshd[12]: hi: there", {"host": "srv", "app": "sshd", "pid": 12, "message": "hi: there"}),
    ("<34>Nov 24 05:00:00 srv su: no", {"host": "srv", "app": "su", "severity": 2, "facility": 4, "message": "no"}),
    ("Nov  4 05:00:00 srv cron: x", {"timestamp": at(2026, 11, 4, 5, 0, 0), "app": "cron"}),
    (
        "Nov 24 2026 05:00:00 srv : %ASA-6-302013: Built",
        {"host": "srv", "app": None, "message": "%ASA-6-302013: Built"},
    ),
    (
        "<166>Nov 24 2026 05:00:00: %ASA-6-302013: Built",
        {"host": None, "severity": 6, "message": "%ASA-6-302013: Built"},
    ),
    ("<166>:Nov 24 05:00:00 CET: %ASA-6-1: x", {"timestamp": FIVE - 3600, "message": "%ASA-6-1: x"}),
    ("Nov 24 05:00:00 srv %ASA-6-1: x", {"host": "srv", "message": "%ASA-6-1: x"}),
    ("2026-11-24T05:00:00Z   %FTD-6-1: x", {"host": None, "message": "%FTD-6-1: x"}),
    (
        "<189>12: sw1: *Nov 24 05:00:00.5 CEST: %SYS-5-X: y",
        {"timestamp": FIVE - 7199.5, "host": "sw1", "message": "%SYS-5-X: y"},
    ),
    ("<189>12: 000011: .Nov 24 05:00:00: %SYS-5-X: y", {"host": None, "message": "%SYS-5-X: y"}),
    (
        "<189>12: sw1: 000012: 1y21w: %SYS-5-X: y",
        {"timestamp": None, "host": "sw1", "severity": 5, "message": "%SYS-5-X: y"},
    ),
    ("Nov 24 06:00:00 192.0.2.1 55: sw1: *Nov 24 05:00:00 UTC: %SYS-5-X: y", {"host": "sw1", "message": "%SYS-5-X: y"}),
    ("Nov 24 05:00:00 2026 srv app[1]: x", {"host": "srv", "app": "app", "message": "x"}),
    ("Tue Nov 24 05:00:00 2026 srv app: x", {"host": "srv", "app": "app", "message": "x"}),
    ("2026-11-24T05:00:00.5+01:00 srv app: x", {"timestamp": FIVE - 3599.5, "host": "srv", "app": "app"}),
    ("<13>Nov 24 05:00:00 +01:00 srv app: x", {"timestamp": FIVE - 3600, "host": "srv", "app": "app"}),
    ("Nov 24 05:00:00 app[7]: x", {"host": None, "app": "app", "pid": 7, "message": "x"}),
    ("Nov 24 05:00:00 DENY: IN=eth0", {"host": None, "app": "DENY", "message": "IN=eth0"}),
    ("Nov 24 05:00:00 2001:db8::1 app: x", {"host": "2001:db8::1", "app": "app"}),
    ("Nov 24 05:00:00 srv srv app[1]: x", {"host": "srv", "app": "app", "message": "x"}),
    ("Nov 24 05:00:00 fw date=2026-11-24 a=b", {"host": "fw", "app": None, "message": "date=2026-11-24 a=b"}),
    ("Nov 24 05:00:00 fw 1,2026/11/24 05:00:00,7", {"host": "fw", "app": None, "message": "1,2026/11/24 05:00:00,7"}),
    ("Nov 24 05:00:00 fw CEF:0|a|b c|d", {"host": "fw", "app": None, "message": "CEF:0|a|b c|d"}),
    ("Nov 24 05:00:00 srv last message repeated 2 times", {"app": None, "message": "last message repeated 2 times"}),
    ("Nov 24 05:00:00 mac Photos Agent[3]: x", {"host": "mac", "app": "Photos Agent", "pid": 3, "message": "x"}),
    ("Nov 24 05:00:00 mac launchd[1] (com.example.job[2]): x", {"app": "launchd", "pid": 1, "message": "x"}),
    ("<30>app[7]: x", {"timestamp": None, "app": "app", "pid": 7, "severity": 6, "facility": 3, "message": "x"}),
    (
        '<134>date=2026-11-24 devname="fw"',
        {"timestamp": None, "severity": 6, "message": 'date=2026-11-24 devname="fw"'},
    ),
    ('<14>{"a": 1}', {"timestamp": None, "app": None, "severity": 6, "message": '{"a": 1}'}),
    (
        '<165>1 2026-11-24T05:00:00.5Z srv app 8 ID4 [ex@32473 a="1" b="q\\"\\]"][y z="2"] \ufeffhello',
        {
            "timestamp": FIVE + 0.5,
            "pid": 8,
            "msgid": "ID4",
            "structured": {"ex@32473.a": "1", "ex@32473.b": 'q"]', "y.z": "2"},
            "message": "hello",
        },
    ),
    ("2026 Nov 24 05:00:00 sw-1 %ETHPORT-5-IF_UP: x", {"host": "sw-1", "message": "%ETHPORT-5-IF_UP: x"}),
    (
        "<189>: 2026 Nov 24 05:00:00.5 CET: %ETHPORT-5-IF_UP: x",
        {"timestamp": FIVE - 3599.5, "host": None, "severity": 5, "message": "%ETHPORT-5-IF_UP: x"},
    ),
    ("2026-11-24T05:00:00Z app[7]: x y", {"host": None, "app": "app", "pid": 7, "message": "x y"}),
    ("<30>Nov 24 05:00:00 app: x", {"host": None, "app": "app", "severity": 6, "message": "x"}),
    ("2026-11-24T05:00:00Z WARN Pool: x", {"host": None, "message": "WARN Pool: x"}),
    ("2026-11-24T05:00:00Z 2037 worker-3 up", {"host": None, "app": None, "message": "2037 worker-3 up"}),
    ("2026-11-24 05:00:00 backup finished", {"host": None, "message": "backup finished"}),
    ("2026-11-24 05:00:00 srv app[7]: x", {"host": "srv", "app": "app", "pid": 7, "message": "x"}),
    ("2026-11-24T05:00:00Z lb-1 192.0.2.7:60002 10.0.0.1:8200 -", {"host": "lb-1", "app": None}),
    ("<34>1 - - su - - - no", {"timestamp": None, "host": None, "app": "su", "structured": None, "message": "no"}),
    ("1 2026-11-24T05:00:00Z fw RT_FLOW - RT_X - m", {"host": "fw", "app": "RT_FLOW", "msgid": "RT_X", "message": "m"}),
]
NONE_AT_ALL = [
    "",
    "plain text: with colon",
    "%ASA-6-1: x",
    "<",
    "<>",
    "Feb 30 05:00:00 srv app: x",
    "Nov 24 25:00:00 srv app: x",
]
NONE_AT_ALL += ["0001-01-01T00:00:00Z srv app: x", "1 - - - - - - x", "date=2026-11-24 time=05:00:00"]


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_dialects(line: str, expected: dict[str, Any]) -> None:
    envelope = peel(line, origin())
    assert {name: getattr(envelope, name) for name in expected} == expected
    if "timestamp" not in expected:
        assert envelope.timestamp == FIVE
    assert peel(line, origin()) == envelope  # what is remembered changes nothing


@pytest.mark.parametrize("line", NONE_AT_ALL)
def test_no_envelope(line: str) -> None:
    assert peel(line, origin()) == Envelope(None, None, None, None, None, None, None, line)
    assert not peel(line, origin()).recognised


def test_priority_out_of_range_says_nothing() -> None:
    envelope = peel("<999>Nov 24 05:00:00 srv app: x", origin())
    assert (envelope.severity, envelope.facility, envelope.host, envelope.timestamp) == (None, None, "srv", FIVE)


def test_time_without_zone_is_local_and_a_stated_zone_wins() -> None:
    assert peel("Nov 24 05:00:00 srv app: x", origin("Europe/Berlin")).timestamp == FIVE - 3600
    assert peel("2026-11-24T05:00:00 srv app: x", origin("Europe/Berlin")).timestamp == FIVE - 3600
    assert peel("2026-11-24T05:00:00Z srv app: x", origin("Europe/Berlin")).timestamp == FIVE
    assert peel("<189>1: *Nov 24 05:00:00 UTC: %SYS-5-X: y", origin("Europe/Berlin")).timestamp == FIVE


def test_remembered_time_without_year_follows_the_arrival() -> None:
    clock = Clock()
    line = "Nov 24 05:00:00 srv app: x"
    for year in (2026, 2027, 2026, 2031):
        received = at(year, 11, 24, 12, 0, 0)
        assert peel(line, Origin("town", "test", received, clock)).timestamp == at(year, 11, 24, 5, 0, 0)


def test_repeated_hour_is_told_by_order_even_when_texts_recur() -> None:
    source = origin("Europe/Berlin", received=at(2026, 10, 25, 3, 0, 0))
    first = [peel(f"Oct 25 02:{minute:02}:00 srv app: x", source).timestamp for minute in (10, 50)]
    second = [peel(f"Oct 25 02:{minute:02}:00 srv app: x", source).timestamp for minute in (10, 50)]
    assert first == [at(2026, 10, 25, 0, 10, 0), at(2026, 10, 25, 0, 50, 0)]
    assert second == [at(2026, 10, 25, 1, 10, 0), at(2026, 10, 25, 1, 50, 0)]


@pytest.mark.parametrize("name", PARSERS)
def test_golden(name: str) -> None:
    module = import_module(f"connectors.parsers.{name}")
    source = origin()
    lines = (GOLDEN / name / "sample.log").read_text().splitlines()
    documents = json.loads(json.dumps([document(event) for line in lines for event in module.parse(line, source)]))
    assert documents == json.loads((GOLDEN / name / "events.json").read_text())
    assert [line for line in lines if not module.sniff(line)] == []


def hostile() -> list[str]:
    seeds = [line for name in PARSERS for line in (GOLDEN / name / "sample.log").read_text().splitlines()]
    seeds += [line for line, _ in CASES]
    chance = random.Random(7)
    alphabet = string.printable + "\x00\ufeff\ud800ä²٣"
    lines = ["", " ", "<", "<1", "[", "[[", ": ", "\x00" * 50, "<34>" * 3000, "(" * 5000, '"' * 5000, "IN=" * 3000]
    lines += ["Nov 24 05:00:00 h sshd: " + tail * 4000 for tail in ("for ", " from ", "user=", ", client: ", "[", "\\")]
    lines += ["2026/11/24 05:00:00 [error] 1#1: " + ", client: a, server: b, request: " * 1000]
    lines += ['192.0.2.1 - - [24/Nov/2026:05:00:00 +0100] "' + '\\"' * 5000]
    for seed in seeds:
        for _ in range(20):
            spot = chance.randrange(len(seed))
            cut = chance.choice((seed[:spot], seed[spot:]))
            swap = seed[:spot] + "".join(chance.choices(alphabet, k=chance.randrange(1, 5))) + seed[spot + 1 :]
            lines += [cut, swap]
    return lines


@pytest.mark.parametrize("name", PARSERS)
def test_hostile_lines_raise_nothing_but_parse_error(name: str) -> None:
    module = import_module(f"connectors.parsers.{name}")
    source = origin()
    read = 0
    for line in hostile():
        assert isinstance(module.sniff(line), bool)
        try:
            events = module.parse(line, source)
        except ParseError as reason:
            assert str(reason)  # noqa: PT017  a reason is part of the contract
            continue
        for event in events:
            read += 1
            assert event.event_module == name
            json.dumps(document(event))
    assert read > 100


def only(name: str, line: str) -> Event:
    (event,) = import_module(f"connectors.parsers.{name}").parse(line, origin())
    assert isinstance(event, Event)
    return event


def test_user_name_cannot_move_the_address() -> None:
    head = "Nov 24 05:00:00 srv sshd[1]: Failed password for invalid user "
    event = only("linux_auth", head + "x from 192.0.2.1 port 22 ssh2 from 203.0.113.9 port 60001 ssh2")
    assert (event.source_ip, event.source_port) == ("203.0.113.9", 60001)
    assert event.user_name == "x from 192.0.2.1 port 22 ssh2"


def test_path_cannot_move_the_client() -> None:
    path = "/x, client: 192.0.2.1, server: a, request: "
    line = f'2026/11/24 05:00:00 [error] 1#1: *7 open() "/srv{path}" failed (2: No such file), client: 203.0.113.9, '
    event = only("nginx", line + 'server: www.example.org, request: "GET /x HTTP/1.1", host: "www.example.org"')
    assert event.source_ip == "203.0.113.9"


def test_repeated_failures_count_as_often_as_they_happened() -> None:
    module = import_module("connectors.parsers.linux_auth")
    line = (
        "Nov 24 05:00:00 srv sshd[1]: message repeated {} times: [ Failed password for root from 192.0.2.9 port 1 ssh2]"
    )
    events = module.parse(line.format(4), origin())
    assert [(e.event_outcome, e.user_name) for e in events] == [("failure", "root")] * 4
    assert len(module.parse(line.format(999_999_999), origin())) == module.REPEATS_MAX


@pytest.mark.parametrize(
    ("prefix", "action"),
    [
        ("[UFW BLOCK] ", "drop"),
        ("[12.5] [UFW ALLOW] ", "accept"),
        ("DENY: ", "deny"),
        ("FINAL_REJECT: ", "reject"),
        ("[wan-2000-A]", "accept"),
        ("[WAN_LOCAL-D-7] ", "drop"),
        ("note: ", None),
    ],
)
def test_only_the_prefix_says_what_became_of_a_packet(prefix: str, action: str | None) -> None:
    packet = "IN=eth0 OUT= SRC=192.0.2.1 DST=192.0.2.2 LEN=60 TOS=0x00 PREC=0x00 TTL=52 ID=1 PROTO=TCP SPT=5 DPT=22 SYN"
    event = only("iptables", f"Nov 24 05:00:00 gw kernel: {prefix}{packet}")
    assert event.event_action == action
    assert (event.source_ip, event.destination_port, event.network_transport) == ("192.0.2.1", 22, "tcp")


@pytest.mark.parametrize(("name", "line"), [(name, "no such thing") for name in PARSERS])
def test_what_cannot_be_read_is_refused(name: str, line: str) -> None:
    with pytest.raises(ParseError):
        import_module(f"connectors.parsers.{name}").parse(line, origin())
