"""Correlations over event time, and the folding of hits: the same findings however the batches are cut."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from connectors.events import Event
from detectors.facts import Evidence, Fact, Located
from detectors.sigma import RuleFaults, RuleSet, spoken
from detectors.sigma.rule_tests import MemoryStore, event_of

BASE = [
    "aaaaaaaa-0000-4000-8000-000000000001",
    "aaaaaaaa-0000-4000-8000-000000000002",
    "aaaaaaaa-0000-4000-8000-000000000003",
]
OUTER = "bbbbbbbb-0000-4000-8000-000000000001"
CHAIN = "bbbbbbbb-0000-4000-8000-000000000002"
START = 1_792_490_400.0


def build(tmp_path: Path, correlation: dict[str, Any], *more: dict[str, Any]) -> RuleSet:
    documents: list[dict[str, Any]] = [
        {
            "title": f"r{n}",
            "id": BASE[n],
            "name": f"r{n}",
            "logsource": {"product": "test"},
            "detection": {"s": {"K": f"k{n}"}, "condition": "s"},
        }
        for n in range(3)
    ]
    spec = {"rules": ["r0"], "group-by": ["source.ip"], "timespan": "1m", **correlation}
    documents.append(
        {
            "title": "c",
            "id": OUTER,
            "name": "outer",
            "correlation": spec,
            "reason": {"en": "{count} from {source.ip}", "de": "{count} von {source.ip}"},
        }
    )
    documents += more
    path = tmp_path / "r.yml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return RuleSet.load([path])


def event(second: float, kind: str = "k0", ip: str | None = "192.0.2.1", **fields: Any) -> Event:
    body: dict[str, Any] = {"event.dataset": "ecs.test", "@timestamp": START + second, "K": kind, **fields}
    return event_of(body | ({"source.ip": ip} if ip else {}))


def locate(events: list[Event]) -> Located:
    return Located(
        tenant="t",
        events=events,
        sources=["s"] * len(events),
        steps=[int(e.timestamp // 60) for e in events],
        evidence=lambda i: Evidence(events[i].timestamp, "s", "raw", 0, int(events[i].timestamp), 0, "line"),
    )


def run(rules: RuleSet, events: list[Event], cuts: int = 1) -> list[Fact]:
    store = MemoryStore()
    found: list[Fact] = []
    size = max(1, len(events) // cuts)
    for start in range(0, len(events), size):
        found += rules.correlate(store, rules.facts(locate(events[start : start + size])))
    return found


def fired(facts: list[Fact]) -> list[float]:
    return [fact.last - START for fact in facts if "continues" not in fact.extra]


def test_window_slides(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 4}})
    assert fired(run(rules, [event(s) for s in (50, 55, 65, 70)])) == [70], "across the border of two minutes"
    assert not run(rules, [event(s) for s in (0, 30, 60, 91)])
    assert not run(rules, [event(s) for s in (0, 21, 42, 61)]), "the first has left the window"
    assert fired(run(rules, [event(s) for s in (0, 21, 42, 60)])) == [60], "exactly one timespan is inside"


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        ({"gt": 2}, [3]),
        ({"gte": 2}, [2]),
        ({"eq": 2}, [2]),
        ({"gte": 2, "lte": 2}, [2]),
        ({"lt": 2}, [1]),
        ({"lte": 1}, [1]),
    ],
)
def test_operators(tmp_path: Path, condition: dict[str, int], numbers: list[int]) -> None:
    found = run(build(tmp_path, {"type": "event_count", "condition": condition}), [event(s) for s in range(4)])
    assert [fact.count for fact in found if "continues" not in fact.extra] == numbers


def test_groups_are_apart_and_a_missing_group_is_skipped(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 3}})
    events = [event(n, ip=f"192.0.2.{n % 3}") for n in range(6)]
    assert not run(rules, events)
    assert not run(rules, [event(n, ip=None) for n in range(9)])
    assert [f.key for f in run(rules, [*events, event(7, ip="192.0.2.2")])] == ["192.0.2.2"]


def test_value_count_counts_distinct_values(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "value_count", "condition": {"field": "user.name", "gte": 3}})
    assert not run(rules, [event(n, **{"user.name": f"u{n % 2}"}) for n in range(40)])
    found = run(rules, [event(n, **{"user.name": f"u{n}"}) for n in range(3)])
    assert [f.count for f in found] == [3]
    assert set(found[0].entities) >= {("user", "u0"), ("user", "u2"), ("address", "192.0.2.1")}
    assert not run(rules, [event(n * 40, **{"user.name": f"u{n}"}) for n in range(9)]), "never three in one window"
    assert not run(rules, [event(n) for n in range(9)]), "without the value there is nothing to count"


def test_value_count_over_two_fields(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "value_count", "condition": {"field": ["user.name", "host.name"], "gte": 4}})
    assert run(rules, [event(n, **{"user.name": f"u{n % 2}", "host.name": f"h{n // 2}"}) for n in range(4)])


@pytest.mark.parametrize(
    ("kind", "condition", "wanted"),
    [
        ("value_sum", {"gte": 60}, True),
        ("value_sum", {"gt": 60}, False),
        ("value_avg", {"gte": 20}, True),
        ("value_avg", {"gt": 20}, False),
        ("value_percentile", {"gte": 30, "percentile": 95}, True),
        ("value_median", {"gte": 20}, True),
        ("value_median", {"gt": 20}, False),
    ],
)
def test_value_figures(tmp_path: Path, kind: str, condition: dict[str, Any], wanted: bool) -> None:
    rules = build(tmp_path, {"type": kind, "condition": {"field": "bytes", **condition}})
    events = [event(n, bytes=value) for n, value in enumerate((10, 20, 30))]
    late = [f for f in run(rules, events) if f.last == START + 2 or kind == "value_percentile"]
    assert bool(late) is wanted


def test_temporal_needs_all_rules_in_any_order(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "temporal", "rules": ["r0", "r1", "r2"]})
    assert fired(run(rules, [event(0, "k2"), event(10, "k0"), event(20, "k1")])) == [20]
    assert not run(rules, [event(0, "k2"), event(10, "k0"), event(20, "k0")])
    assert not run(rules, [event(0, "k2"), event(10, "k0"), event(61, "k1")])


def test_temporal_expression(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "temporal", "rules": ["r0", "r1", "r2"], "condition": "r0 and (r1 or r2)"})
    assert run(rules, [event(0, "k0"), event(1, "k2")])
    assert not run(rules, [event(0, "k1"), event(1, "k2")])


def test_temporal_ordered_goes_by_event_time(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "temporal_ordered", "rules": ["r0", "r1", "r2"]})
    assert fired(run(rules, [event(0, "k0"), event(10, "k1"), event(20, "k2")])) == [20]
    assert not run(rules, [event(0, "k0"), event(10, "k2"), event(20, "k1")])
    assert run(rules, [event(10, "k1"), event(20, "k2"), event(0, "k0")]), (
        "arrival does not matter, the late one completes it"
    )
    assert run(rules, [event(0, "k0"), *[event(1 + n, "k2") for n in range(5)], event(10, "k1"), event(20, "k2")])
    assert not run(rules, [event(0, "k0"), event(30, "k1"), event(61, "k2")])


@pytest.mark.parametrize(
    ("condition", "kinds", "wanted"),
    [
        ("r0 and r1", "01", True),
        ("r0 and r1", "10", False),
        ("r0 and r1", "101", True),
        ("r1 and r0", "10", True),
        ("r0 and (r1 or r2)", "02", True),
        ("r0 and (r1 or r2)", "20", False),
        ("(r0 or r1) and r2", "12", True),
        ("(r0 and r1) or r2", "2", True),
        ("r0 and r1 and not r2", "01", True),
        ("r0 and r1 and not r2", "021", False),
        ("r0 and r1 and not r2", "201", False),
    ],
)
def test_ordered_expression(tmp_path: Path, condition: str, kinds: str, wanted: bool) -> None:
    named = sorted({word for word in condition.replace("(", " ").replace(")", " ").split() if word[1:].isdigit()})
    rules = build(tmp_path, {"type": "temporal_ordered", "rules": named, "condition": condition})
    found = run(rules, [event(at, f"k{kind}") for at, kind in enumerate(kinds)])
    assert bool(found) is wanted


def test_expressions_of_not_and_unknown_names(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "temporal", "rules": ["r0", "r1", "r2"], "condition": "r0 and not (r1 or r2)"})
    assert run(rules, [event(0, "k0")])
    assert not run(rules, [event(0, "k1"), event(1, "k0")])
    for kind, condition in (("temporal", "r0 and r9"), ("event_count", "r0 and r1")):
        with pytest.raises(RuleFaults):
            build(tmp_path, {"type": kind, "rules": ["r0", "r1"], "condition": condition})


def test_ordered_with_a_number_of_rules(tmp_path: Path) -> None:
    spec = {"type": "temporal_ordered", "rules": ["r0", "r1", "r2"], "condition": {"gte": 2}}
    rules = build(tmp_path, spec)
    assert fired(run(rules, [event(0, "k0"), event(5, "k2")])) == [5], "two of the three, in their order"
    assert fired(run(rules, [event(0, "k1"), event(5, "k0"), event(9, "k2")])) == [9]
    assert not run(rules, [event(0, "k2"), event(5, "k1"), event(9, "k0")])


@pytest.mark.parametrize("count", range(1, 8))
def test_a_range_holds_between_its_ends(tmp_path: Path, count: int) -> None:
    rules = build(tmp_path, {"type": "event_count", "condition": {"gt": 2, "lte": 4}})
    found = [f.count for f in run(rules, [event(n) for n in range(count)])]
    assert bool(found) is (count >= 3)
    assert all(2 < each <= 4 for each in found)


def test_values_that_are_no_numbers_are_passed_over(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "value_sum", "condition": {"field": "bytes", "gte": 60}})
    odd = [event(0, bytes="many"), event(1, bytes="nan"), event(2, bytes="inf"), event(3)]
    assert not run(rules, odd)
    found = run(rules, [*odd, event(4, bytes="20.5"), event(5, bytes=39.5)])
    assert [(f.count, f.last - START) for f in found] == [(60, 5)]


def test_percentile_takes_its_share(tmp_path: Path) -> None:
    for share, wanted, since in ((10, 1, 0), (50, 5, 8), (90, 9, 8), (100, 10, 9)):
        spec = {"field": "bytes", "gte": wanted, "lte": wanted, "percentile": share}
        rules = build(tmp_path, {"type": "value_percentile", "condition": spec})
        assert fired(run(rules, [event(n, bytes=n + 1) for n in range(10)])) == [since], share


def test_late_events_count_into_their_window(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 3}})
    assert run(rules, [event(0), event(20), event(100), event(10)])
    assert not run(rules, [event(0), event(20), event(500), event(10)]), "its window is no longer kept"


def test_a_future_event_drops_nothing(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 3}})
    events = [event(0), event(1), event(10_000_000), event(2)]
    located = locate(events)
    located.steps[2] = located.steps[1]
    assert rules.correlate(MemoryStore(), rules.facts(located))


def test_one_finding_per_burst_and_one_update_per_minute(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 5}})
    found = run(rules, [event(s) for s in range(0, 600, 2)])
    assert fired(found) == [8]
    updates = [int(f.last // 60) for f in found if "continues" in f.extra]
    assert len(updates) == len(set(updates)) == 9
    again = run(rules, [event(s) for s in (*range(5), *range(200, 205))])
    assert fired(again) == [4, 204], "after the window has slid past it speaks again"


def test_parts_are_silent_unless_generate(tmp_path: Path) -> None:
    for generate in (False, True):
        rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 2}, "generate": generate})
        alerting = {f.detector for f in rules.facts(locate([event(0), event(1, "k1")])) if "<" not in f.detector}
        assert alerting == ({BASE[0], BASE[1]} if generate else {BASE[1]})


def test_chain_and_aliases(tmp_path: Path) -> None:
    chain = {
        "title": "chain",
        "id": CHAIN,
        "correlation": {
            "type": "temporal_ordered",
            "rules": ["outer", "r1"],
            "group-by": ["who"],
            "aliases": {"who": {"outer": "source.ip", "r1": "client"}},
            "timespan": "5m",
        },
    }
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 3}}, chain)
    failures = [event(n) for n in range(3)]
    found = run(rules, [*failures, event(10, "k1", ip=None, client="192.0.2.1")])
    assert [f.detector for f in found] == [CHAIN]
    assert found[0].key == "192.0.2.1"
    assert found[0].extra["who"] == "192.0.2.1"
    assert not run(rules, [*failures, event(10, "k1", ip=None, client="192.0.2.99")])


def test_finding_tells_what_happened(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 3}})
    (found,) = run(rules, [event(n) for n in range(3)])
    assert (found.first, found.last, found.count) == (START, START + 2, 3)
    assert len(found.evidence) == 3
    rule = rules.rules[found.detector]
    said = {
        language: spoken(text, {**found.extra, "count": str(found.count)}) for language, text in rule.reason.items()
    }
    assert said == {"en": "3 from 192.0.2.1", "de": "3 von 192.0.2.1"}


def test_windows_stay_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectors.sigma import correlation

    monkeypatch.setattr(correlation, "ENTRIES_MAX", 50)
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 400}})
    store = MemoryStore()
    found = rules.correlate(store, rules.facts(locate([event(n / 10) for n in range(400)])))
    assert found
    assert found[0].extra["saturated"] == "1"
    assert found[0].count == 400, "coarser, but nothing lost"
    spray = build(tmp_path, {"type": "value_count", "condition": {"field": "user.name", "gte": 40}})
    events = [event(n / 10, **{"user.name": "same"}) for n in range(200)] + [
        event(30 + n / 10, **{"user.name": f"u{n}"}) for n in range(60)
    ]
    assert run(spray, events), "a flood of one value does not push out the others"


def totals(facts: list[Fact]) -> dict[tuple[Any, ...], tuple[int, float, float]]:
    merged: dict[tuple[Any, ...], tuple[int, float, float]] = {}
    for fact in facts:
        place = (fact.detector, fact.key, fact.item, fact.minute, fact.step, fact.first if "<" in fact.detector else 0)
        count, first, last = merged.get(place, (0, fact.first, fact.last))
        merged[place] = (count + fact.count, min(first, fact.first), max(last, fact.last))
    return merged


def test_folding_and_findings_do_not_depend_on_batch_cuts(tmp_path: Path) -> None:
    seed = 20261020
    rng = random.Random(seed)
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 8}, "generate": True})
    events = [
        event(rng.randrange(900) // 1.0, ip=f"192.0.2.{rng.randrange(4)}", kind=f"k{rng.randrange(3)}")
        for _ in range(600)
    ]
    events.sort(key=lambda e: e.timestamp + rng.random() * 20)  # a little out of order
    whole = totals(rules.facts(locate(events)))
    whole_found = [msgspec.to_builtins(f) for f in run(rules, events)]
    assert whole_found, seed
    for cuts in (2, 7, 600):
        size = max(1, len(events) // cuts)
        parts = [f for start in range(0, len(events), size) for f in rules.facts(locate(events[start : start + size]))]
        assert totals(parts) == whole, (seed, cuts)


def test_hits_are_folded_per_key_and_minute(tmp_path: Path) -> None:
    rules = build(tmp_path, {"type": "event_count", "condition": {"gte": 8}, "generate": True})
    facts = [
        f for f in rules.facts(locate([event(30), event(10), event(20), event(70), event(40)])) if f.detector == BASE[0]
    ]
    assert [(f.count, f.first - START, f.last - START) for f in facts] == [(4, 10, 40), (1, 70, 70)]
    assert [e.time - START for e in facts[0].evidence] == [30, 10, 20], "the first in arrival order"
    assert facts[0].entities == (("address", "192.0.2.1"),)
    assert facts[0].key == "192.0.2.1"
