"""Values made to hurt: none stops the engine or hides the event around it."""

from typing import Any

import msgspec
import pytest
import yaml

from connectors.events import Event
from connectors.parse import Reader
from detectors.sigma import RuleSet
from detectors.sigma.rule_tests import event_of

LONG = 32_768  # a Windows command line
HUGE = 10_000_000
BASE = "11111111-2222-4333-8444-{:012}"


def rule(number: int, detection: dict[str, Any]) -> dict[str, Any]:
    logsource = {"product": "windows", "category": "process_creation"}
    return {"title": f"rule {number}", "id": BASE.format(number), "logsource": logsource, "detection": detection}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> RuleSet:
    """Enough rules for an index, among them expressions that other engines choke on."""
    tools = [f"werkzeug{n}" for n in range(300)]
    bodies = [
        rule(
            n,
            {
                "s": {"CommandLine|contains": [f"{tool}.exe", f" {tool} -"]},
                "t": {"Image|endswith": f"\\{tool}.exe"},
                "condition": "s or t",
            },
        )
        for n, tool in enumerate(tools)
    ]
    patterns = [
        "(a+)+$",
        "(a|aa)+b",
        r"\w+`(?:\w+|-|.)`[\w+|\s]",
        "(x+x+)+y",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "a{1,500}b",
    ]
    bodies += [
        rule(1000 + n, {"s": {"CommandLine|re": pattern}, "condition": "s"}) for n, pattern in enumerate(patterns)
    ]
    bodies.append(rule(2000, {"keywords": ["geheimwort", "noch*eins"], "condition": "keywords"}))
    bodies.append(rule(2001, {"s": {"CommandLine|contains|all": ["böse", "eins"]}, "condition": "s"}))
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(yaml.safe_dump_all(bodies, allow_unicode=True), encoding="utf-8")
    return RuleSet.load([path])


def process(**fields: Any) -> Event:
    return event_of({"event.dataset": "windows.sysmon", "event.code": "1", **fields})


def found(rules: RuleSet, event: Event) -> set[int]:
    return {int(identity[-12:]) for identity in rules.matches(event)}


BOMBS: list[tuple[str, str]] = [
    ("one letter", "a" * LONG),
    ("letters and an end", "a" * LONG + "!"),
    ("backquotes", "`a" * (LONG // 2)),
    ("pairs", "xx" * (LONG // 2)),
    ("a literal over and over", "werkzeug1.exe " * (LONG // 14)),
    ("beginnings of literals", "werkzeu" * (LONG // 7)),
    ("newlines", "\n" * LONG),
    ("lone surrogates", "\ud800" * LONG),
    ("letters that grow", "İ" * LONG),
    ("letters beyond the first plane", "\U0001f600" * (LONG // 2)),
    ("zeros", "\0" * LONG),
    ("many words", " ".join(f"wort{n}" for n in range(LONG // 8))),
]


@pytest.mark.parametrize("bomb", [bomb for _, bomb in BOMBS], ids=[name for name, _ in BOMBS])
def test_a_long_value_hides_nothing_beside_it_or_in_it(rules: RuleSet, bomb: str) -> None:
    assert 7 in found(rules, process(CommandLine=bomb, Image="C:\\werkzeug7.exe"))
    assert 8 in found(rules, process(CommandLine=bomb + " werkzeug8 -x", Image="x"))
    assert 8 in found(rules, process(CommandLine="werkzeug8.exe " + bomb))
    assert 2000 in found(rules, process(CommandLine=bomb, Description="ein GEHEIMWORT"))
    assert 2001 in found(rules, process(CommandLine=f"eins {bomb} BÖSE"))
    assert 2000 not in found(rules, process(CommandLine=bomb + "geheim"))


def test_ten_megabytes(rules: RuleSet) -> None:
    text = "füllung " * (HUGE // 8)
    assert found(rules, process(CommandLine=text + "werkzeug9.exe")) == {9}
    assert found(rules, process(Image="\\werkzeug9.exe", Description=text)) == {9}


def test_deep_and_odd_values(rules: RuleSet) -> None:
    deep: Any = "werkzeug3.exe"
    for _ in range(200):
        deep = [deep, {"k": None}]
    assert found(rules, process(CommandLine=deep)) == {3}
    oddities: list[Any] = [
        None,
        True,
        1e308,
        -0.0,
        10**400,
        [],
        {},
        [None],
        [[]],
        {"a": {"b": []}},
        b"werkzeug",
        float("nan"),
    ]
    for odd in oddities:
        assert found(rules, process(CommandLine=odd, Image="\\werkzeug5.exe")) == {5}, odd


def test_one_damaged_field_of_a_line_hides_no_event(rules: RuleSet) -> None:
    whole = {
        "Channel": "Microsoft-Windows-Sysmon/Operational",
        "EventID": 1,
        "SourceName": "Microsoft-Windows-Sysmon",
        "Hostname": "pc-bauhof-3",
        "EventTime": "2026-10-20 10:00:00",
        "Image": "C:\\werkzeug4.exe",
        "ParentImage": "C:\\Windows\\explorer.exe",
    }
    head = msgspec.json.encode(whole)[:-1]
    damages = [
        b'"Description":"\\ud800 half a letter"',
        b'"Description":"\xff\xfe no UTF-8"',
        b'"Description":' + b"[" * 3000 + b"]" * 3000,
        b'"Description":"' + b"x" * 1_000_000 + b'"',
        b'"Description":"cut off here and long enough to be a value of its own, that is what matters here',
        b'"Description":1e999999',
        b'"Description":"' + b"\\u0000" * 5000 + b'"',
    ]
    for damage in damages:
        read = Reader("windows", "t", "s").read([head + b"," + damage + b"}"], 1_793_491_200.0)
        assert read.events, damage[:40]
        assert found(rules, read.events[0]) == {4}, damage[:40]
