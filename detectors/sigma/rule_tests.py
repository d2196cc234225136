"""Runs the examples that stand inside the rule files through the production path: parser, routing, matching, correlation."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from connectors.events import ECS_ATTRIBUTES, Event
from detectors.facts import Evidence, Located, Table
from detectors.sigma import RuleSet
from detectors.sigma.loader import Rule

V = TypeVar("V")

RECEIVED = 1_793_491_200.0  # 2026-11-01: the arrival of example lines whose times state no year
REPEAT_MAX = 10_000
_YEAR = 2026
_TIME = "2026-10-20T10:00:00Z"  # of example events that state none


class TestResult(msgspec.Struct, frozen=True):
    """One example. `detail` says what went wrong, empty when it passed."""

    rule: str
    title: str
    name: str
    path: str
    passed: bool
    detail: str = ""


class _MemoryTable(dict[str, V]):
    def put(self, key: str, value: V, time: float) -> None:
        del time
        self[key] = value

    def items(self) -> list[tuple[str, V]]:  # type: ignore[override]
        return list(super().items())


class MemoryStore:
    """Keyed state that is thrown away after the example; the examples are far below every bound."""

    def __init__(self) -> None:
        self.tenant = "test"
        self._tables: dict[str, Any] = {}

    def table(self, name: str, kind: type[V], *, entries_max: int, idle_max_s: float) -> Table[V]:
        del kind, entries_max, idle_max_s
        found: Table[V] = self._tables.setdefault(name, _MemoryTable())
        return found


def run_tests(ruleset: RuleSet) -> list[TestResult]:
    """The results of all examples in the rules, in the order of the rules."""
    return [_run(ruleset, rule, test) for rule in ruleset.rules.values() for test in rule.tests]


def _run(ruleset: RuleSet, rule: Rule, test: Mapping[str, Any]) -> TestResult:
    def result(passed: bool, detail: str = "") -> TestResult:
        return TestResult(rule.id, rule.title, str(test["name"]), rule.path, passed, detail)

    try:
        events, originals = events_of(test)
    except ValueError as fault:
        return result(passed=False, detail=str(fault))
    hit = rule.id in hits(ruleset, events, originals)
    if hit == test["match"]:
        return result(passed=True)
    seen = ", ".join(f"{event.event_dataset}/{event.event_code}" for event in events[:3])
    return result(passed=False, detail=f"expected {'a' if test['match'] else 'no'} match; the events were {seen}")


def hits(ruleset: RuleSet, events: list[Event], originals: list[str]) -> set[str]:
    """The ids of the rules and correlations that these events meet, rules that only feed correlations included."""
    located = Located(
        tenant="test",
        events=events,
        sources=["test"] * len(events),
        steps=[int(event.timestamp // 60) for event in events],
        evidence=lambda i: Evidence(events[i].timestamp, "test", "raw", 0, i, 0, originals[i]),
    )
    facts = ruleset.facts(located)
    found = {fact.detector for fact in facts if "<" not in fact.detector}
    found |= {fact.detector for fact in ruleset.correlate(MemoryStore(), facts)}
    return found | {fact.detector.partition("<")[2] for fact in facts if "<" in fact.detector}


def events_of(test: Mapping[str, Any]) -> tuple[list[Event], list[str]]:
    """The events of an example and their lines. Raises ValueError."""
    if "lines" in test:
        return _read(str(test["source"]), [line for entry in test["lines"] for line in _lines(entry)])
    bodies = [test["event"]] if "event" in test else test["events"]
    events = [event_of(body) for body in bodies]
    return events, [str(body) for body in bodies]


def _lines(entry: Any) -> list[str]:
    """A line, or a line repeated with {n} (and {n:02}) counting up from 0."""
    if isinstance(entry, str):
        return [entry]
    repeat = int(entry.get("repeat", 1))
    if not 0 < repeat <= REPEAT_MAX:
        raise ValueError(f"repeat must be 1 to {REPEAT_MAX}")
    return [str(entry["line"]).replace("{n:02}", f"{n:02}").replace("{n}", str(n)) for n in range(repeat)]


def _read(parser: str, lines: list[str]) -> tuple[list[Event], list[str]]:
    from connectors.parse import Reader

    read = Reader(parser, tenant="test", source="test", year=_YEAR).read([line.encode() for line in lines], RECEIVED)
    if read.dead:
        index, reason, _ = read.dead[0]
        raise ValueError(f"line {index + 1} cannot be read: {reason}")
    return read.events, [lines[index] for index in read.line_of]


def event_of(body: Mapping[str, Any]) -> Event:
    """An event from flat fields: ECS paths that the event has become attributes, all others stay fields."""
    attributes: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for name, value in body.items():
        attribute = ECS_ATTRIBUTES.get(name)
        if attribute is None:
            fields[name] = value
        elif attribute == "timestamp":
            attributes[attribute] = value
        else:
            attributes[attribute] = tuple(value) if isinstance(value, list) else value
    dataset = str(attributes.pop("event_dataset", "ecs.test"))
    stamp = attributes.pop("timestamp", _TIME)
    if isinstance(stamp, str):
        stamp = datetime.fromisoformat(stamp).timestamp()
    elif isinstance(stamp, datetime):
        stamp = stamp.timestamp()
    if "event_code" in attributes:
        attributes["event_code"] = str(attributes["event_code"])
    attributes.setdefault("event_module", dataset.partition(".")[0])
    return Event(timestamp=float(stamp), event_dataset=dataset, fields=fields, **attributes)
