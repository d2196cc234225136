"""The parse driver: finding parsers, decoding, recognising formats line by line."""

import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.events import Event, Origin, ParseError
from connectors.parse import JOINED_LINES_MAX, REPLACED, Reader, UnknownParser, decode, load_parser, parser_names

GOLDEN = Path(__file__).parent / "golden"
RECEIVED_S = 1_772_440_000.0
FORTIGATE = b'date=2026-03-02 time=08:15:01 devname="fw" devid="F1" logid="0000000013" type="traffic" subtype="forward" action="deny"'
ASA = b"<166>Mar 02 2026 08:30:00 asa : %ASA-6-305011: Built dynamic TCP translation from a:10.0.0.1/1 to b:192.0.2.1/1"
CEF = b"CEF:0|V|P|1|7|name|5|src=10.0.0.1"
JSON = b'{"@timestamp":"2026-03-02T08:30:00Z","host":{"name":"h"}}'


def first(name: str, count: int = 3) -> list[bytes]:
    return (GOLDEN / name / "sample.log").read_bytes().split(b"\n")[:count]


def test_names_are_the_files_of_the_folder() -> None:
    folder = Path(__file__).parents[1] / "connectors" / "parsers"
    assert parser_names() == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownParser, match="did you mean 'fortigate'"):
        load_parser("fortigat")
    with pytest.raises(UnknownParser, match="known are: auto, "):
        load_parser("zzzzzzzz")
    with pytest.raises(UnknownParser, match="no module of this name"):
        load_parser("no_such_package.parser")
    with pytest.raises(UnknownParser, match="no parser: it lacks NAME, sniff, parse"):
        load_parser("json.decoder")
    with pytest.raises(UnknownParser):
        Reader("fortigat", "t", "s")


def test_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown time zone 'Europe/Berlinn'"):
        Reader("cef", "t", "s", timezone="Europe/Berlinn")


class Outside(types.ModuleType):
    NAME = "outside"

    @staticmethod
    def sniff(text: str) -> bool:
        return text.startswith("!")

    @staticmethod
    def parse(text: str, origin: Origin) -> Sequence[Event]:
        count = text.count("!")
        if not count:
            raise ParseError("no mark")
        return [Event(timestamp=origin.received, event_module="outside", event_dataset="outside.x")] * (count - 1)


def test_third_party_parser_by_dotted_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "somewhere.outside", Outside("somewhere.outside"))
    parsed = Reader("somewhere.outside", "t", "s").read([b"!!!", b"x", b"!!", b"!"], RECEIVED_S)
    assert parsed.line_of == [0, 0, 2]
    assert [(index, reason) for index, reason, _ in parsed.dead] == [
        (1, "no mark"),
        (3, "the parser found no event in this line"),
    ]
    assert parsed.parser == "outside"


def test_decode_replaces_what_is_not_utf8() -> None:
    assert decode(b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe\r\n") == "Grüße"
    assert decode(b"M\xfcller\0") == "M\ufffdller"
    assert decode(b"\xed\xa0\x80x") == "\ufffd\ufffd\ufffdx"


@given(st.binary(max_size=80))
def test_decode_takes_any_bytes(line: bytes) -> None:
    decode(line).encode()


def test_events_of_damaged_text_are_marked() -> None:
    parsed = Reader("cef", "t", "s").read([CEF, CEF + b" suser=M\xfcller"], RECEIVED_S)
    whole, damaged = parsed.events
    assert REPLACED not in whole.fields
    assert damaged.fields[REPLACED] is True
    assert damaged.user_name == "M\ufffdller"


def test_blank_lines_are_counted_not_dead() -> None:
    parsed = Reader("cef", "t", "s").read([b"", b" \t\r", b"\0", CEF, b"\xef\xbb\xbf"], RECEIVED_S)
    assert (parsed.blank, parsed.dead, parsed.line_of) == (4, [], [3])


def test_local_times_take_the_zone_of_the_source() -> None:
    line = [FORTIGATE]
    utc = Reader("fortigate", "t", "s").read(line, RECEIVED_S).events[0]
    berlin = Reader("fortigate", "t", "s", timezone="Europe/Berlin").read(line, RECEIVED_S).events[0]
    assert utc.timestamp - berlin.timestamp == 3600


def test_configured_year_is_kept() -> None:
    line = [b"Mar  2 08:30:32 10.20.1.2 %ASA-7-609001: Built local-host inside:10.0.0.1"]
    assert Reader("cisco_asa", "t", "s", year=2019).read(line, RECEIVED_S).events[0].timestamp < 1_560_000_000


def test_auto_reads_mixed_streams_line_by_line() -> None:
    lines = [FORTIGATE, CEF, ASA, JSON, FORTIGATE, b"no format at all", FORTIGATE]
    parsed = Reader("auto", "t", "s").read(lines, RECEIVED_S)
    modules = {index: event.event_module for index, event in zip(parsed.line_of, parsed.events, strict=True)}
    known = {0: "fortigate", 1: "cef", 2: "cisco_asa", 3: "ecs", 4: "fortigate", 6: "fortigate"}
    assert {index: modules[index] for index in known} == known
    assert parsed.parser == "fortigate"
    assert [(index, reason) for index, reason, _ in parsed.dead if index != 5] == []


def test_auto_does_not_stick_to_a_general_format() -> None:
    reader = Reader("auto", "t", "s")
    general = b"Mar  2 08:30:32 srv-1 dienst[1]: gestartet"
    modules = [event.event_module for event in reader.read([general, ASA, general, ASA], RECEIVED_S).events]
    assert modules[1] == modules[3] == "cisco_asa"


def test_auto_says_when_nothing_fits() -> None:
    parsed = Reader("auto", "t", "s").read([b"\x01\x02\x03"], RECEIVED_S)
    assert parsed.dead == [(0, "no parser recognises this line", b"\x01\x02\x03")]
    assert parsed.parser == "auto"


@pytest.mark.parametrize("name", parser_names())
def test_auto_agrees_with_the_named_parser_on_golden_samples(name: str) -> None:
    lines = first(name)
    named = Reader(name, "t", "s").read(lines, RECEIVED_S)
    blind = Reader("auto", "t", "s").read(lines, RECEIVED_S)
    if name in {"apache", "nginx"}:  # both write the same combined format: the server cannot be told from the line
        assert [event.source_ip for event in blind.events] == [event.source_ip for event in named.events]
    else:
        assert blind.events == named.events


def test_a_learned_line_shape_changes_nothing() -> None:
    lines = (GOLDEN / "fortigate" / "sample.log").read_bytes().removesuffix(b"\n").split(b"\n")
    batch = lines * 20  # often enough for every shape to be learned
    events = Reader("fortigate", "t", "s").read(batch, RECEIVED_S).events
    assert events == events[: len(lines)] * 20
    strange = lines[0].replace(b'devname="fw-rathaus"', b'devname="a \\"b\\" c"')
    assert Reader("fortigate", "t", "s").read([strange], RECEIVED_S).events[0].fields["devname"] == 'a "b" c'


@pytest.mark.parametrize("name", ["fortigate", "linux_auth", "cisco_asa", "nginx", "syslog", "suricata"])
def test_auto_reads_the_line_inside_of_a_wrapping(name: str) -> None:
    lines = first(name)
    plain = Reader("auto", "t", "s").read(lines, RECEIVED_S).events
    wrapped = [
        json.dumps({"log": line.decode() + "\n", "stream": "stdout", "time": "2026-03-02T08:30:00Z"}) for line in lines
    ]
    events = Reader("auto", "t", "s").read([line.encode() for line in wrapped], RECEIVED_S).events
    assert [event.event_module for event in events] == [event.event_module for event in plain]
    assert [event.source_ip for event in events] == [event.source_ip for event in plain]


def test_time_and_host_of_a_wrapping_stand_in_and_its_own_event_may_be_the_better_one() -> None:
    splunk = {"result": {"_raw": CEF.decode(), "host": "h", "_time": "2026-03-02T08:30:00Z"}}
    prose = {"@timestamp": "2026-03-02T08:30:00Z", "message": "2026-03-02 09:00:00 x y z", "host": {"name": "h"}}
    two = {
        "streams": [{"stream": {}, "values": [["1772440200000000000", CEF.decode()], ["1772440201000000000", "a b"]]}]
    }
    lines = [json.dumps(line).encode() for line in (splunk, prose, two)]
    parsed = Reader("auto", "t", "s").read(lines, RECEIVED_S)
    assert [event.event_module for event in parsed.events] == ["cef", "ecs", "cef"]
    assert (parsed.events[0].timestamp, parsed.events[0].host_name) == (1772440200.0, "h")
    assert parsed.line_of == [0, 1, 2]


AUDIT = [
    b'type=SYSCALL msg=audit(1795498201.101:41): arch=c000003e syscall=59 success=yes exit=0 pid=812 uid=0 comm="id" exe="/usr/bin/id"',
    b'type=EXECVE msg=audit(1795498201.101:41): argc=2 a0="id" a1="-u"',
    b'type=USER_LOGIN msg=audit(1795498202.000:42): pid=900 uid=0 acct="anna" addr=192.0.2.7 res=failed',
]


def test_records_of_one_audit_event_are_one_line_for_the_parser() -> None:
    parsed = Reader("auditd", "stadt", "quelle", join=True).read(AUDIT, 1_795_521_600.0)
    assert (parsed.joined, parsed.blank, parsed.dead) == (1, 0, [])
    assert parsed.line_of == [0, 2]
    assert parsed.events[0].process_command_line == "id -u"
    assert parsed.lines[0] == AUDIT[0] + b"\n" + AUDIT[1]
    apart = Reader("auditd", "stadt", "quelle").read(AUDIT, 1_795_521_600.0)
    assert (apart.joined, apart.line_of) == (0, [0, 1, 2])


def test_lines_that_do_not_start_an_event_belong_to_the_one_before_within_limits() -> None:
    reader = Reader("syslog", "stadt", "quelle", join=True, starts=r"^<\d+>|^\w{3} [ \d]\d ")
    trace = [b"Nov 24 08:00:00 srv-1 app[7]: Exception", b"  at one", b"  at two", b"Nov 24 08:00:01 srv-1 app[7]: on"]
    parsed = reader.read(trace, 1_795_521_600.0)
    assert (len(parsed.events), parsed.joined, parsed.line_of) == (2, 2, [0, 3])
    assert (parsed.events[0].message or "").endswith("at two")
    many = reader.read([trace[0], *[b"  at x"] * (JOINED_LINES_MAX + 10)], 1_795_521_600.0)
    assert many.joined == JOINED_LINES_MAX - 1 + 10
    assert len(many.events) + len(many.dead) == 2
