"""The short way from Windows lines beside the parser: the same kinds of events, the same rules found, whatever a line holds."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.events import Event
from detectors.sigma import RuleSet
from detectors.sigma.native import Lines
from detectors.sigma.values import Unread
from shield.rule_matching import Forms

NOW_S = 1_795_521_600.0
RECORDINGS = Path(__file__).parent.parent.parent / "shared" / "data" / "otrf-security-datasets" / "datasets" / "atomic"
RECORDED_LINES_MAX = 3000
CONDITIONS = (
    ("{product: windows, category: process_creation}", "{s: {Image|endswith: '\\werkzeug.exe'}, condition: s}"),
    ("{product: windows, category: process_creation}", "{s: {ParentImage|endswith: '\\werkzeug.exe'}, condition: s}"),
    ("{product: windows, category: process_creation}", "{s: {CommandLine|contains: geheim}, condition: s}"),
    ("{product: windows, category: process_creation}", "{s: {User|contains: 'amt\\meier'}, condition: s}"),
    ("{product: windows, category: process_creation}", "{s: {IntegrityLevel: High}, condition: s}"),
    ("{product: windows, category: process_creation}", "{s: {User: null}, condition: s}"),
    ("{product: windows, category: registry_event}", "{s: {EventType: SetValue}, condition: s}"),
    (
        "{product: windows, service: security}",
        "{s: {SubjectUserName: meier}, f: {AccountName: null}, condition: s and f}",
    ),
    ("{product: windows, service: security}", "{s: {Provider_Name|contains: Auditing}, condition: s}"),
    ("{product: windows, service: security}", "{s: {Level: '0'}, condition: s}"),
    ("{product: windows, service: security}", "{s: {Computer: ws-01}, condition: s}"),
    ("{product: windows, service: sysmon}", "{s: {RuleName: '-'}, condition: s}"),
    ("{product: windows, service: powershell-classic}", "{s: {Data|contains: geheim}, condition: s}"),
    ("{product: windows, category: ps_classic_start}", "{s: {HostApplication|contains: geheim}, condition: s}"),
    ("{product: windows}", "{k: [geheim, 'amt\\meier', network-connection], condition: k}"),
)


def rules(tmp_path: Path) -> RuleSet:
    documents = [
        f"title: Rule {n}\nid: {n:08d}-0000-4000-8000-000000000000\nlogsource: {source}\ndetection: {detection}\n"
        for n, (source, detection) in enumerate(CONDITIONS)
    ]
    path = tmp_path / "rules.yml"
    path.write_text("---\n".join(documents), encoding="utf-8")
    return RuleSet.load([path])


def whole(lines: Sequence[bytes]) -> list[Sequence[Event]]:
    return Forms(NOW_S).read(lines)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> RuleSet:
    return rules(tmp_path_factory.mktemp("rules"))


def both(loaded: RuleSet, line: bytes) -> tuple[list[Event], list[Event]]:
    """The events of a line in the long and the short way, after it was seen that the same rules are found."""
    (long,) = whole([line])
    (short,) = Lines(loaded.rules.values(), whole).read([line])
    assert [loaded.matches(event) for event in short] == [loaded.matches(event) for event in long], line
    kinds = [[(e.event_dataset, e.event_code, e.event_category) for e in events] for events in (long, short)]
    assert kinds[0] == kinds[1]
    return list(long), list(short)


HEADS: list[dict[str, Any]] = [
    {"EventID": 4688, "Channel": "Security", "SourceName": "Microsoft-Windows-Security-Auditing"},
    {"EventID": "4663", "Channel": "security", "SourceName": "Microsoft-Windows-Security-Auditing"},
    {"EventID": 1, "Channel": "Microsoft-Windows-Sysmon/Operational", "SourceName": "Microsoft-Windows-Sysmon"},
    {"EventID": 13, "Channel": "Microsoft-Windows-Sysmon/Operational", "SourceName": "Microsoft-Windows-Sysmon"},
    {"EventID": 3, "Channel": "Microsoft-Windows-Sysmon/Operational", "SourceName": "Microsoft-Windows-Sysmon"},
    {"EventID": 400, "Channel": "Windows PowerShell", "SourceName": "PowerShell"},
    {"EventID": 7045, "Channel": "System", "SourceName": "Service Control Manager"},
    {"EventID": 5, "SourceName": "no channel"},
]
NAMES = (
    *("Image", "NewProcessName", "ParentProcessName", "ParentImage", "CommandLine", "ProcessCommandLine", "User"),
    *("SubjectUserName", "SubjectDomainName", "MandatoryLabel", "EventType", "EventTypeOrignal", "AccountName"),
    *("AccountType", "Level", "Hostname", "Computer", "RuleName", "Data", "param1", "MemberName", "Message", "tags"),
    *("EventData", "a b", "x.y", "Keywords", "SourceUser"),
)
VALUES = st.one_of(
    st.sampled_from(
        ["C:\\werkzeug.exe", "geheim", "GEHEIM\u0130", "meier", "amt", "-", "", "High", "S-1-16-12288", "INFO"]
    ),
    st.sampled_from(["SetValue", "ws-01", "0", "HostApplication=geheim.exe\nHostId=1", "CN=Meier\\, Amt,OU=x", "User"]),
    st.sampled_from([0, 7, -1, 2**63, 10**30, 1.5, True, None, ["geheim"], ["a", 1], {"k": "geheim"}]),
)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.sampled_from(HEADS), st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8), st.booleans())
def test_the_same_rules_in_both_ways(loaded: RuleSet, head: dict[str, Any], body: dict[str, Any], plain: bool) -> None:
    both(loaded, json.dumps(head | body, ensure_ascii=plain).encode())


def test_usual_lines_take_the_short_way_and_are_read_only_as_far_as_asked(loaded: RuleSet) -> None:
    line = json.dumps(
        HEADS[0] | {"NewProcessName": "C:\\werkzeug.exe", "Hostname": "ws-01", "SubjectUserName": "meier"}
    )
    calls = []

    def counted(lines: Sequence[bytes]) -> list[Sequence[Event]]:
        calls.append(lines)
        return whole(lines)

    ((event,),) = Lines(loaded.rules.values(), counted).read([line.encode()])
    assert isinstance(event, Unread)
    assert [int(rule[:8]) for rule in loaded.matches(event)] == [0, 7, 8, 10]
    assert not calls
    assert event.user_name == "meier"
    assert event.host_name == "ws-01"
    assert len(calls) == 1


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"a": 1}', b'{"EventID": 1}', b"\xff", b'{"EventID": [1]}'])
def test_odd_lines_are_left_to_the_parser(loaded: RuleSet, line: bytes) -> None:
    assert not any(isinstance(event, Unread) for event in both(loaded, line)[1])


def recorded() -> Iterator[bytes]:
    for path in sorted(RECORDINGS.rglob("*.zip")):
        with ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    with archive.open(name) as lines:
                        yield from (line.rstrip() for n, line in enumerate(lines) if n % 97 == 0)


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the public recordings stand beside the repository, not in it")
def test_recorded_lines(loaded: RuleSet) -> None:
    short = seen = 0
    for _, line in zip(range(RECORDED_LINES_MAX), recorded(), strict=False):
        seen += 1
        short += any(isinstance(event, Unread) for event in both(loaded, line)[1])
    assert short > 0.8 * seen
