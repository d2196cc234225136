"""One suite for every parser in `connectors/parsers`, found by listing the folder: contract and golden samples."""

import json
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.clock import Clock
from connectors.events import Event, Origin, ParseError, document
from connectors.parse import GENERAL, Reader, load_parser, parser_names

GOLDEN = Path(__file__).parent / "golden"
RECEIVED_S = 1_795_521_600.0  # 24 November 2026, 12:00 UTC: when the golden samples arrive
NAMES = parser_names()
HOSTILE = [
    "",
    " ",
    "\0",
    "\0" * 100,
    "{",
    "}",
    "[" * 10_000,
    '{"a":' * 10_000,
    '{"a":"',
    '{"@timestamp":1e400}',
    '{"@timestamp":"9999-99-99T99:99:99Z","source":{"port":"x"},"event":[],"user":{"name":{"a":[[[]]]}}}',
    '{"a":123456789012345678901234567890,"b":"\\ud800","c":NaN,"d":1e999,"event":{"category":7}}',
    "\ufffd\ud800\udfff",
    "<999>1 - - - - - -",
    "<34>1 2026-13-45T99:99:99Z host app - - - x",
    "Feb 30 25:61:61 host app[99999999999999999999]: x",
    "CEF:0|||||||",
    "CEF:0|a|b|c|d|e|f|rt=99999999999999999999 spt=-1 dpt=99999999999999999999999 act=\\",
    "CEF:0|a\\|b",
    "CEF:0|a|b|c|d|e|f|" + "a=" * 50_000,
    'date=2026-99-99 time=99:99:99 logid="1" type="traffic" eventtime=99999999999999999999999 srcport=999999999999999999999',
    'logid="1" type="event" devid="' + '\\"' * 50_000,
    "logid=1 type=event devid=x " + 'a="' * 50_000,
    "%ASA-6-302013: Built outbound TCP connection 1 for " + "outside:" * 20_000,
    "%ASA-6-302013: " + "(" * 100_000,
    "%ASA-6-113019: Group = " + ", Username = " * 20_000,
    "%ASA-9-000000: x",
    "%FTD-1-430003: " + "SrcIP: , " * 20_000,
    '1.2.3.4 - - [99/Foo/2026:99:99:99 +9999] "GET / HTTP/1.1" 999 -',
    "1.2.3.4 - - [" + '"' * 100_000,
    "<Event>" * 10_000,
    "kernel: IN= OUT= " + "SRC=" * 50_000,
    "x" * 1_000_000,
    "a=b " * 250_000,
    "sshd[1]: Failed password for " + "invalid user " * 50_000,
]


def origin(zone: str = "UTC") -> Origin:
    return Origin("stadt", "quelle", RECEIVED_S, Clock(ZoneInfo(zone)))


def sample(name: str) -> list[bytes]:
    return (GOLDEN / name / "sample.log").read_bytes().removesuffix(b"\n").split(b"\n")


def sound(event: Event, name: str) -> None:
    """What every consumer relies on: types, and that the event can be written down and shown."""
    assert event.event_module
    assert event.event_dataset
    assert 0 <= event.timestamp < 10**11
    for field, expected in Event.__annotations__.items():
        value = getattr(event, field)
        if value is None or field in {"timestamp", "fields"}:
            continue
        if str(expected).startswith("tuple"):
            assert type(value) is tuple, field
            assert all(type(word) is str for word in value), field
        elif str(expected).startswith("int"):
            assert type(value) is int, field
        else:
            assert type(value) is str, (name, field, value)
    assert event.event_outcome in {None, "success", "failure", "unknown"}
    for key, value in event.fields.items():
        assert type(key) is str
        for part in value if isinstance(value, list) else [value]:
            assert part is None or isinstance(part, str | int | float | bool), (key, value)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event, enc_hook=dict), type=Event) == event
    json.loads(msgspec.json.encode(document(event, "original")))


def test_there_are_parsers() -> None:
    assert {"fortigate", "cisco_asa", "cef", "ecs"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_golden_sample_gives_the_documents_beside_it(name: str) -> None:
    parsed = Reader(name, "stadt", "quelle").read(sample(name), RECEIVED_S)
    expected = json.loads((GOLDEN / name / "events.json").read_text())
    assert parsed.dead == []
    got = json.loads(json.dumps([document(event) for event in parsed.events]))
    for index, (one, other) in enumerate(zip(got, expected, strict=False)):
        assert one == other, f"event {index}: {sample(name)[parsed.line_of[index]]!r}"
    assert len(got) == len(expected)


@pytest.mark.parametrize("name", NAMES)
def test_module_keeps_the_contract(name: str) -> None:
    module = load_parser(name)
    assert name == module.NAME
    assert module.__doc__
    for line in sample(name):
        text = line.decode()
        events = module.parse(text, origin())
        assert events
        assert list(events) == list(module.parse(text, origin()))  # pure
        for event in events:
            assert name in {"ecs", event.event_module}
            sound(event, name)


@pytest.mark.parametrize("name", ["windows", "nginx", "apache", "cisco_asa"])
def test_short_way_gives_the_events_of_the_general_way(name: str) -> None:
    """Lines twice, so that what is remembered of the first is used for the second."""
    module = load_parser(name)
    generally = vars(module)["generally"]
    short, general = origin("Europe/Berlin"), origin("Europe/Berlin")
    lines = [line.decode() for line in sample(name) for _ in range(2)]
    if name == "windows":
        lines += _usual_windows_lines()
    for line in lines:
        (one, *more), (other, *_) = module.parse(line, short), generally(line, general)
        assert more or one == other, line
        assert document(one) == document(other), line
        assert {key: one.fields.get(key) for key in other.fields} == dict(other.fields), line  # in any order of asking
        assert all(key in one.fields for key in other.fields)
        assert one.fields.get("NoSuchName") is None
        assert one.fields.get("no.such.path") is None


def _usual_windows_lines() -> list[str]:
    """Processes, connections and logons in winlogbeat's JSON and in flat JSON, with what is odd about some."""
    logon = {"TargetUserName": "a.krueger", "TargetDomainName": "RATHAUS", "LogonType": "3", "IpAddress": "10.20.4.31"}
    logon |= {
        "IpPort": "50123",
        "ProcessName": "-",
        "ProcessId": "0x0",
        "TargetLogonId": "0x1",
        "TargetUserSid": "S-1-5-7",
    }
    process = {"SubjectUserName": "a.krueger", "SubjectDomainName": "RATHAUS", "NewProcessName": "C:\\a\\b.exe"}
    process |= {
        "NewProcessId": "0x1f4c",
        "ProcessId": "0xa10",
        "CommandLine": "b.exe /x",
        "MandatoryLabel": "S-1-16-12288",
    }
    process["ParentProcessName"] = "C:\\Windows\\cmd.exe"
    started = {
        "UtcTime": "2026-03-02 07:34:07.218",
        "Image": "C:\\a\\b.exe",
        "ProcessId": "77",
        "User": "RATHAUS\\a.krueger",
    }
    started |= {
        "CommandLine": "b.exe",
        "ParentImage": "C:\\c.exe",
        "ParentProcessId": "5",
        "Hashes": "MD5=00FF",
        "RuleName": "-",
    }
    connected = {"UtcTime": "2026-03-02 07:34:07.218", "Image": "C:\\a\\b.exe", "User": "x", "Protocol": "tcp"}
    connected |= {
        "SourceIp": "10.20.4.31",
        "SourcePort": "50000",
        "DestinationIp": "192.0.2.7",
        "DestinationPort": "443",
    }
    odd = [
        {"IpPort": "99999"},
        {"IpAddress": "LOCAL"},
        {"TargetUserName": "-"},
        {"ProcessName": "C:\\p.exe"},
        {"A b": "c"},
    ]
    found: list[str] = []
    for channel, number, data in (
        ("Security", 4688, process),
        ("Microsoft-Windows-Sysmon/Operational", 1, started),
        ("Microsoft-Windows-Sysmon/Operational", 3, connected),
        *(("Security", 4624, logon | change) for change in ({}, *odd)),
    ):
        about: dict[str, object] = {
            "channel": channel,
            "provider_name": "P",
            "computer_name": "pc",
            "event_id": str(number),
        }
        about |= {"event_data": data, "keywords": ["Audit Success"], "record_id": 7, "user": {"identifier": "S-1-5-18"}}
        beat = {"@timestamp": "2026-03-02T07:00:00.5Z", "winlog": about, "log": {"level": "information"}}
        flat = {"EventTime": "2026-03-02 08:34:07", "Hostname": "pc", "EventID": number, "Channel": channel}
        flat |= {
            "SourceName": "P",
            "Keywords": -9214364837600034816,
            "EventType": "AUDIT_SUCCESS",
            "UserID": "S-1-5-18",
        }
        flat |= {"AccountName": "SYSTEM", "AccountType": "User", "Message": "m", "Severity": "INFO", "RecordNumber": 9}
        found += [json.dumps(beat), json.dumps(flat | data), json.dumps(flat | data | {"IpPort": 0})]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_sniff_knows_most_of_its_own_sample(name: str) -> None:
    module = load_parser(name)
    known = [module.sniff(line.decode()) for line in sample(name)]
    assert sum(known) >= 0.9 * len(known)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in GENERAL])
def test_sniff_knows_no_sample_of_another_telling_format(name: str) -> None:
    module = load_parser(name)
    others = set(NAMES) - {name, *GENERAL}
    pairs = {("apache", "nginx"), ("nginx", "apache")}  # formats that share a shape
    pairs |= {("windows", "mssql"), ("windows", "sysmon_linux"), ("windows", "wazuh")}  # inside one: asked before it
    for other in sorted(others):
        if (name, other) not in pairs:
            wrong = [line for line in sample(other) if module.sniff(line.decode())]
            assert len(wrong) <= 0.1 * len(sample(other)), (name, other, wrong[:2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_line_raises_nothing_but_parse_error(name: str, text: str) -> None:
    module = load_parser(name)
    module.sniff(text)
    try:
        events = module.parse(text, origin("Europe/Berlin"))
    except ParseError:
        return
    for event in events:
        if text.isascii():  # a Reader never hands over lone surrogates
            sound(event, name)


@st.composite
def mutated(draw: st.DrawFn, name: str) -> str:
    line = draw(st.sampled_from(sample(name))).decode()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(line)))
        end = draw(st.integers(at, min(len(line), at + 40)))
        filler = draw(
            st.one_of(
                st.just(""),
                st.text(max_size=8),
                st.sampled_from(
                    ['"', "\\", "=", ",", "|", "{", "}", "[", "]", "(", ")", "\0", "\ufffd", "-", "9" * 25, "\n", "٣"]
                ),
            )
        )
        line = line[:at] + filler + line[end:]
    return line


@pytest.mark.parametrize("name", NAMES)
def test_mutated_line_raises_nothing_but_parse_error(name: str) -> None:
    module = load_parser(name)

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(mutated(name))
    def check(text: str) -> None:
        text = text.encode("utf-8", "replace").decode()
        module.sniff(text)
        try:
            events = module.parse(text, origin("Europe/Berlin"))
        except ParseError:
            return
        for event in events:
            sound(event, name)

    check()


@pytest.mark.parametrize("name", [*NAMES, "auto"])
def test_every_line_gives_events_or_one_dead_entry_in_order(name: str) -> None:
    lines = [line for other in NAMES for line in sample(other)[:6]]
    lines = [part for line in lines for part in (line, line[: len(line) // 2], b"", b"\xff\xfe" + line)]
    parsed = Reader(name, "stadt", "quelle").read(lines, RECEIVED_S)
    assert parsed.line_of == sorted(parsed.line_of)
    assert len(parsed.line_of) == len(parsed.events)
    dead = [index for index, _, _ in parsed.dead]
    assert dead == sorted(set(dead))
    assert not set(dead) & set(parsed.line_of)
    blank = [index for index, line in enumerate(lines) if not line.strip()]
    assert parsed.blank == len(blank)
    assert set(dead) | set(parsed.line_of) | set(blank) == set(range(len(lines)))
    assert all(lines[index] == line and reason for index, reason, line in parsed.dead)
