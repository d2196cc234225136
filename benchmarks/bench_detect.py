"""Detection alone, in one process and without a broker: rules and profiles over parsed events, then state over facts."""

import argparse
import gc
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from benchmarks import lines, measure
from benchmarks.town.writing import Parameters
from benchmarks.town.writing import write as write_town
from connectors.parse import Reader
from detectors.behaviour import Behaviour, Inventory
from detectors.facts import Evidence, Fact, Located
from detectors.sigma import RuleSet
from shield import config as configs
from shield.demo_logs import PARSERS, TENANT
from shield.keyed import PartitionState, TenantStore
from shield.scan import files_of, merged

BATCH_LINES = 20_000
DAYS = 5  # of the simulated town
EARLIER_DAYS = 10  # before what is measured of a town that is known: by then few things are new
RULES = [measure.ROOT / "rules" / "sigma"]
PROFILES = measure.ROOT / "rules" / "profiles"
TWO = [PROFILES / "outbound_volume.yml", PROFILES / "logon_failures.yml"]


def located(count: int, per_second: float) -> list[Located]:
    """Batches of parsed events, the sources mixed as they would arrive."""
    begin = time.time() // 60 * 60 - 3600
    year = datetime.fromtimestamp(begin, UTC).year
    readers = {s: Reader(PARSERS[s], TENANT, s, lines.ZONE, year) for s in lines.SHARES}
    batches: list[Located] = []
    for raw in lines.raw_records(lines.town(count, begin, per_second)):
        if not batches or len(batches[-1].events) >= BATCH_LINES:
            batches.append(Located(TENANT, [], [], [], _evidence(raw.source)))
        events = readers[raw.source].read(raw.lines, raw.time).events
        batches[-1].events += events
        batches[-1].sources += [raw.source] * len(events)
        batches[-1].steps += [int(event.timestamp // 60) for event in events]
    return batches


def simulated(days: int, folder: Path) -> tuple[Inventory, list[Located]]:
    """The same of a simulated town, with the lines of an ordinary day: some a minute from each device."""
    write_town(folder, Parameters(days=days, learning_days=days - 1, attacks=0))
    config = configs.load(folder / "config.yml")
    readers: dict[str, Reader] = {}
    batches: list[Located] = []
    for block in merged(files_of(config), time.time()):
        source = block.config
        reader = readers.setdefault(
            source.source, Reader(source.parser, source.tenant, source.source, source.timezone, source.year, join=True)
        )
        if not batches or len(batches[-1].events) >= BATCH_LINES:
            batches.append(Located(TENANT, [], [], [], _evidence(source.source)))
        events = reader.read(block.lines, time.time()).events
        batches[-1].events += events
        batches[-1].sources += [source.source] * len(events)
        batches[-1].steps += [int(event.timestamp // 60) for event in events]
    return config.inventory, batches


def _evidence(source: str) -> Any:
    kept = Evidence(0.0, source, "raw", 0, 0, 0, "the line")
    return lambda _: kept


def once(
    batches: Sequence[Located],
    profiles: Sequence[Path],
    inventory: Inventory | None = None,
    earlier: Sequence[Located] = (),
) -> dict[str, Any]:
    """One measurement. `earlier` is what the behaviour side has seen before, which is not measured."""
    gc.collect()
    gc.disable()  # as the detect role does
    rules, behaviour = RuleSet.load(RULES), Behaviour.load(profiles, None, inventory=inventory)
    store = PartitionState({}).tenant(TENANT)
    _observed(behaviour, store, [fact for batch in earlier for fact in behaviour.facts(batch)])
    events = sum(len(batch.events) for batch in batches)
    hits: list[Fact] = []
    facts: list[Fact] = []
    rules_s = measure.cpu_of(lambda: hits.extend(hit for batch in batches for hit in rules.facts(batch)))
    profiles_s = measure.cpu_of(lambda: facts.extend(fact for batch in batches for fact in behaviour.facts(batch)))
    bases = [fact for fact in hits if "<" in fact.detector]
    correlate_s = measure.cpu_of(lambda: rules.correlate(store, bases))
    observe_s = measure.cpu_of(lambda: _observed(behaviour, store, facts))
    gc.enable()
    state = [len(key) + len(value) for key, value in store.changes() if value is not None]
    total_s = rules_s + profiles_s + correlate_s + observe_s
    return {
        "rules": len(rules.rules),
        "profiles": len(behaviour.profiles),
        "events": events,
        "rule_facts": len(hits),
        "profile_facts": len(facts),
        "state_mb": sum(state) / 1e6,
        "state_entries": len(state),
        "behaviour events/s": events / (profiles_s + observe_s),
        "rules events/s": events / rules_s,
        "profiles events/s": events / profiles_s,
        "observe events/s": events / observe_s,
        "correlate facts/s": len(bases) / correlate_s if bases else 0.0,
        "observe facts/s": len(facts) / observe_s,
        "all events/s": events / total_s,
        "rules us/event": 1e6 * rules_s / events,
        "profiles us/event": 1e6 * profiles_s / events,
        "correlate us/event": 1e6 * correlate_s / events,
        "observe us/event": 1e6 * observe_s / events,
    }


def _observed(behaviour: Behaviour, store: TenantStore, facts: list[Fact]) -> None:
    facts.sort(key=attrgetter("step"))
    for minute, part in groupby(facts, attrgetter("step")):
        behaviour.observe(store, minute, list(part))


def run(count: int, per_second: float, runs: int = measure.RUNS, days: int = DAYS) -> None:
    batches = located(count, per_second)
    rows = []
    for name, profiles in (("two profiles", TWO), ("all profiles", sorted(PROFILES.glob("*.yml")))):
        rows.append({"lane": name, **measure.median([once(batches, profiles) for _ in range(runs)])})
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        inventory, batches = simulated(days, Path(scratch) / "town")
        found = [once(batches, sorted(PROFILES.glob("*.yml")), inventory) for _ in range(runs)]
        rows.append({"lane": "the whole catalogue on a simulated town", **measure.median(found)})
        inventory, batches = simulated(EARLIER_DAYS + 2, Path(scratch) / "known")
        known = len(batches) * EARLIER_DAYS // (EARLIER_DAYS + 2)
        every = sorted(PROFILES.glob("*.yml"))
        found = [once(batches[known:], every, inventory, batches[:known]) for _ in range(runs)]
    rows.append({"lane": f"a simulated town after {EARLIER_DAYS} days", **measure.median(found)})
    measure.write("detect", rows, lines_per_event_second=per_second, days=days, runs=runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--per-second", type=float, default=400.0, help="lines per second of event time")
    parser.add_argument("--days", type=int, default=DAYS, help="of the simulated town")
    parser.add_argument("--runs", type=int, default=measure.RUNS)
    given = parser.parse_args()
    run(given.lines, given.per_second, given.runs, given.days)
