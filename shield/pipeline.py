"""The pipeline as plain functions over batches: raw records to facts, facts to alerts. The one engine of live, replay and scan.

raw records --RawStage--> signals (facts per tenant, with the tenant's watermark)
signals --SignalStage--> alerts, learning history
"""

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from connectors.drift import Drift
from connectors.events import Event, isoformat
from connectors.parse import Reader
from detectors.behaviour import Behaviour, FamilyStatus, Models
from detectors.facts import ORIGINAL_BYTES_MAX, Evidence, Fact, Feature, Located, Observation
from detectors.sigma import RuleSet
from shield.alerts import AlertBook, Sent, finding_of_hit
from shield.broker import Change, Out, Partition, Record
from shield.config import Config
from shield.document import document, encode, observation_of_hit
from shield.keyed import PartitionState, TenantStore
from shield.verdicts import Decisions

FUTURE_S = 300.0  # an event further ahead of its arrival does not move the watermark
SIGNAL_BYTES_MAX = 400_000  # of one signals record
DAY_S = 86_400
STAGED = "staging:"  # before the rule id: the family of hits of rules in staging in the learning history

_pack = msgspec.msgpack.Encoder().encode
_facts_of = msgspec.msgpack.Decoder(list[Fact]).decode


class SourceClock(msgspec.Struct, array_like=True):
    time: float  # newest event time
    received: float  # newest arrival


class TenantClock(msgspec.Struct, array_like=True):
    """Progress of one tenant in one raw partition; part of the keyed state, so that restarts change nothing."""

    arrival: float = 0.0
    watermark: float = 0.0
    sources: dict[str, SourceClock] = {}

    def advance(self, source: str, newest: float, received: float, silent_after_s: float) -> None:
        """Take note of one record. The watermark is the oldest of the sources that are not silent."""
        self.arrival = max(self.arrival, received)
        if source:
            held = self.sources.get(source)
            if held is None:
                self.sources[source] = SourceClock(newest, received)
            else:
                held.time, held.received = max(held.time, newest), max(held.received, received)
        awake = [s.time for s in self.sources.values() if self.arrival - s.received <= silent_after_s]
        if awake:
            self.watermark = max(self.watermark, min(awake))
        elif self.sources:  # all silent: every minute that has begun is complete
            self.watermark = max(self.watermark, max(s.time for s in self.sources.values()) + 60.0)


class Thresholds(msgspec.Struct, frozen=True):
    """Risk at which learned findings open an alert, per tenant ("*" for tenants without history), and who is a hub."""

    risk: dict[str, float]
    hubs: dict[str, list[str]]
    budget_per_day: float


class Signals(msgspec.Struct, array_like=True):
    """One record of the signals topic."""

    lane: str  # the raw partition it came from
    watermark: float
    facts: list[Fact]  # rule hits and what correlations read: taken at once, in this order
    waiting: dict[int, msgspec.Raw]  # step -> packed list[Fact] that is read when its minute closes
    idle: bool = False  # nothing more to come for now: this lane no longer holds the tenant's watermark back


class Tally(msgspec.Struct):
    """What one batch did; becomes metrics, once per batch."""

    lines: int = 0
    bytes: int = 0
    blank: int = 0
    joined: int = 0  # lines that are part of the one before them
    events: int = 0
    facts: int = 0
    dead: dict[str, int] = {}
    ingested: dict[tuple[str, str], int] = {}  # (source, tenant) -> events
    newest: dict[tuple[str, str], tuple[float, float]] = {}  # (source, tenant) -> (event time, arrival)
    formats: dict[tuple[str, str], str] = {}  # (source, tenant) -> the parser that read most of its lines
    drifts: dict[tuple[str, str], Drift] = {}  # (source, tenant) -> which fields its lines lost
    matches: dict[str, int] = {}
    observations: dict[str, int] = {}
    unsaid: dict[str, int] = {}  # reason -> findings that opened no alert: quiet after one, expected by an exception
    sent: list[Sent] = []
    features: list[Feature] = []


class _Lines:
    """Where the events of one tenant's batch came from. Refers to no `Located`: a cycle would keep whole batches alive."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.sources: list[str] = []
        self.steps: list[int] = []
        self._starts: list[int] = []
        self._records: list[tuple[Record, str, Sequence[bytes], list[int]]] = []

    def add(
        self,
        record: Record,
        source: str,
        lines: Sequence[bytes],
        *,
        events: list[Event],
        line_of: list[int],
        steps: list[int],
    ) -> None:
        self._starts.append(len(self.events))
        self._records.append((record, source, lines, line_of))
        self.events += events
        self.sources += [source] * len(events)
        self.steps += steps

    def located(self, tenant: str) -> Located:
        return Located(tenant, self.events, self.sources, self.steps, self.evidence)

    def evidence(self, index: int) -> Evidence:
        at = bisect.bisect_right(self._starts, index) - 1
        record, source, lines, line_of = self._records[at]
        line = line_of[index - self._starts[at]]
        original = lines[line][:ORIGINAL_BYTES_MAX].decode("utf-8", "replace")
        time = self.events[index].timestamp
        return Evidence(time, source, record.topic, record.partition, record.offset, line, original)


class RawStage:
    """Lines to facts. State per raw partition: the clocks of its tenants."""

    def __init__(self, config: Config, rules: RuleSet, behaviour: Behaviour, *, future_s: float = FUTURE_S) -> None:
        self._future_s = future_s
        self._silent_after_s = config.silent_after_s
        self._sources = {(s.tenant, s.source): s for s in config.sources}
        for source in config.sources:  # a listener's tokens stand for further tenants and sources of the same kind
            for token in getattr(source, "tokens", ()):
                self._sources.setdefault((token.tenant or source.tenant, token.source or source.source), source)
        self._foreign = {t: s for s in config.sources if (t := getattr(s, "topic", None))}
        self._rules = rules
        self._behaviour = behaviour
        self._readers: dict[tuple[str, str], Reader] = {}
        self._clocks: dict[Partition, dict[str, TenantClock]] = {}

    def take_rules(self, rules: RuleSet) -> None:
        self._rules = rules

    def gain(self, partition: Partition, changelog: Mapping[bytes, bytes]) -> None:
        self._clocks[partition] = {
            k.decode(): msgspec.msgpack.decode(v, type=TenantClock) for k, v in changelog.items()
        }

    def lose(self, partition: Partition) -> None:
        self._clocks.pop(partition, None)

    def process(self, records: Iterable[Record], tally: Tally) -> tuple[list[Out], list[Change]]:
        batches: dict[tuple[Partition, str], _Lines] = {}
        outbox: list[Out] = []
        for record in records:
            self._read(record, batches, outbox, tally)
        changes = []
        for (partition, tenant), lines in batches.items():
            clock = self._clocks[partition][tenant]
            located = lines.located(tenant)
            hits, waiting = self._rules.facts(located), self._behaviour.facts(located)
            _count_matches(hits, self._rules, tally)
            tally.events += len(located.events)
            tally.facts += len(hits) + len(waiting)
            outbox += _signals(tenant, f"{partition[0]}/{partition[1]}", clock.watermark, hits, waiting)
            changes.append(Change(partition, tenant.encode(), _pack(clock)))
        return outbox, changes

    def await_source(self, partition: Partition, tenant: str, source: str, first: float, received: float) -> None:
        """A source that will come, known beforehand (scan): the watermark waits for it."""
        self._clocks.setdefault(partition, {}).setdefault(tenant, TenantClock()).sources[source] = SourceClock(
            first, received
        )

    def dismiss_source(self, partition: Partition, tenant: str, source: str) -> None:
        """A source that ended no longer holds the watermark back."""
        self._clocks[partition][tenant].sources.pop(source, None)

    def watermark(self) -> float:
        """The oldest of all tenants' watermarks here."""
        return min((c.watermark for clocks in self._clocks.values() for c in clocks.values()), default=0.0)

    def idle_tenants(self) -> list[tuple[Partition, str]]:
        """Tenants whose newest minute is still open, for ticks when nothing arrives any more."""
        return [
            (partition, tenant)
            for partition, clocks in self._clocks.items()
            for tenant, clock in clocks.items()
            if clock.sources and clock.watermark < max(s.time for s in clock.sources.values()) + 60.0
        ]

    def tick(self, partition: Partition, tenant: str, now: float) -> tuple[list[Out], list[Change]]:
        """Time passed and nothing came: sources fall silent, their minutes close."""
        clock = self._clocks[partition][tenant]
        before = clock.watermark
        clock.advance("", 0.0, now, self._silent_after_s)
        if clock.watermark == before:
            return [], []
        value = _pack(Signals(f"{partition[0]}/{partition[1]}", clock.watermark, [], {}, idle=True))
        outbox = [Out("signals", tenant.encode(), value, clock.watermark, {"tenant": tenant})]
        return outbox, [Change(partition, tenant.encode(), _pack(clock))]

    def _read(
        self, record: Record, batches: dict[tuple[Partition, str], _Lines], outbox: list[Out], tally: Tally
    ) -> None:
        tenant, source = self._origin(record)
        partition = (record.topic, record.partition)
        lines = [record.value] if record.headers.get("framing") == "single" else record.value.split(b"\n")
        reader = self._readers.get((tenant, source)) or self._reader(tenant, source)
        parsed = reader.read(lines, record.time)
        clocks = self._clocks.setdefault(partition, {})
        clock = clocks.get(tenant)
        if clock is None:
            clock = clocks[tenant] = TenantClock()
        batch = batches.get((partition, tenant))
        if batch is None:
            batch = batches[partition, tenant] = _Lines()
        events = parsed.events
        times = [event.timestamp for event in events]
        earliest, newest = min(times, default=0.0), max(times, default=0.0)
        floor = int(clock.watermark // 60)
        if earliest // 60 == newest // 60:
            steps = [max(floor, int(newest // 60))] * len(events)
        else:
            steps = [max(floor, int(at // 60)) for at in times]
        batch.add(record, source, parsed.lines, events=events, line_of=parsed.line_of, steps=steps)
        limit = record.time + self._future_s
        if newest > limit:
            newest = max((at for at in times if at <= limit), default=0.0)
        clock.advance(source if newest else "", newest, record.time, self._silent_after_s)
        tally.lines += len(lines)
        tally.bytes += len(record.value)
        tally.blank += parsed.blank
        tally.joined += parsed.joined
        origin = (source, tenant)
        tally.ingested[origin] = tally.ingested.get(origin, 0) + len(parsed.events)
        tally.formats[origin], tally.drifts[origin] = parsed.parser, reader.drift
        if newest:
            tally.newest[origin] = (newest, record.time)
        for index, reason, body in parsed.dead:
            kind = reason.split(":", 1)[0]
            tally.dead[kind] = tally.dead.get(kind, 0) + 1
            headers = {"tenant": tenant, "source": source, "reason": reason[:500], "stage": "parse"}
            headers["origin"] = f"{record.topic}:{record.partition}:{record.offset}:{index}"
            outbox.append(Out("dead", tenant.encode(), body, record.time, headers))

    def _origin(self, record: Record) -> tuple[str, str]:
        foreign = self._foreign.get(record.topic.removeprefix("="))
        if foreign is not None:
            return foreign.tenant, foreign.source
        return record.headers["tenant"], record.headers["source"]

    def _reader(self, tenant: str, source: str) -> Reader:
        known = self._sources.get((tenant, source))
        if known is None:
            reader = Reader("auto", tenant, source, join=True)
        else:
            reader = Reader(known.parser, tenant, source, known.timezone, known.year, join=True, starts=known.starts)
        self._readers[tenant, source] = reader
        return reader


class SignalStage:
    """Facts to alerts. State per signals partition: everything that one tenant's detection remembers."""

    def __init__(self, config: Config, rules: RuleSet, behaviour: Behaviour, learn_until: float | None = None) -> None:
        self.config = config
        self.rules = rules
        self.behaviour = behaviour
        self.learn_until = learn_until or 0.0
        self.paused_at: int | None = None  # no minute from here on is evaluated yet (a scan that has still to train)
        self._partitions: dict[Partition, PartitionState] = {}
        self._tenants: dict[tuple[Partition, str], Tenant] = {}
        benign = {name: {"de": p.benign.de, "en": p.benign.en} for name, p in behaviour.profiles.items()}
        self._guidance = config.guidance(benign)
        self.decisions = Decisions()
        self.thresholds: dict[str, float] = {}
        self.hubs: dict[str, frozenset[str]] = {}

    def take_rules(self, rules: RuleSet) -> None:
        """State is kept by rule, so what is unchanged goes on where it was."""
        self.rules = rules

    def take_models(self, models: Models) -> None:
        self.behaviour.models = models

    def take_decisions(self, found: Decisions) -> None:
        """Exceptions count from now on, by the event times that they are written for."""
        self.decisions = found
        for tenant in self._tenants.values():
            tenant.expect(found)

    def take_thresholds(self, found: Thresholds) -> None:
        self.thresholds = found.risk
        self.hubs = {tenant: frozenset(names) for tenant, names in found.hubs.items()}

    def gain(self, partition: Partition, changelog: Mapping[bytes, bytes]) -> None:
        self._partitions[partition] = PartitionState(dict(changelog))

    def lose(self, partition: Partition) -> None:
        self._partitions.pop(partition, None)
        for key in [k for k in self._tenants if k[0] == partition]:
            del self._tenants[key]

    def process(self, records: Iterable[Record], tally: Tally) -> tuple[list[Out], list[Change]]:
        outbox: list[Out] = []
        touched: set[Partition] = set()
        for record in records:
            partition = (record.topic, record.partition)
            touched.add(partition)
            name = record.headers["tenant"]
            signals = msgspec.msgpack.decode(record.value, type=Signals)
            tenant = self._tenant(partition, name)
            outbox += self._outs(tenant, tenant.take(signals, record.offset, tally), tally)
        changes = [Change(p, k, v) for p in sorted(touched) for k, v in self._partitions[p].changes()]
        return outbox, changes

    def finish(self, tally: Tally) -> list[Out]:
        """End of a scan: close every open minute and send what still waits."""
        outbox: list[Out] = []
        for tenant in self._tenants.values():
            outbox += self._outs(tenant, tenant.close(tally), tally)
        return outbox

    def entries(self) -> dict[str, tuple[int, int]]:
        """Table -> (entries, evictions), over all tenants."""
        found: dict[str, tuple[int, int]] = {}
        for state in self._partitions.values():
            for store in state.tenants.values():
                for name, table in store.tables.items():
                    held, evicted = found.get(name, (0, 0))
                    found[name] = (held + len(table), evicted + table.evicted)
        return found

    def learning(self) -> dict[tuple[str, str], FamilyStatus]:
        """(family, tenant) -> how far the profile of the family that is furthest behind has learned."""
        found: dict[tuple[str, str], FamilyStatus] = {}
        for tenant in self._tenants.values():
            for status in self.behaviour.status(tenant.store, tenant.day):
                held = found.get((status.family, tenant.name))
                if held is None or status.seen < held.seen:
                    found[status.family, tenant.name] = status
        return found

    def _tenant(self, partition: Partition, name: str) -> "Tenant":
        found = self._tenants.get((partition, name))
        if found is None:
            store = self._partitions.setdefault(partition, PartitionState({})).tenant(name)
            found = self._tenants[partition, name] = Tenant(name, store, self)
        return found

    def _baseline(self) -> dict[str, Any]:
        """What findings are compared with, for the explanation."""
        models = self.behaviour.models
        if models is None:
            return {"calibrated": False, "tenant_days": 0}
        days = [isoformat(day * float(DAY_S))[:10] for day in models.window]
        return {"calibrated": models.ready(), "tenant_days": models.tenant_days, "from": days[0], "to": days[1]}

    def _outs(self, tenant: "Tenant", sent: Sequence[Sent], tally: Tally) -> list[Out]:
        outs = [_feature(f) for f in tenant.drain_features()]
        for one in sent:
            doc = document(one, self.rules.rules, self.config.language, self._baseline(), self._guidance)
            headers = {"kind": one.kind, "tenant": one.alert.tenant, "severity": one.alert.level}
            outs.append(Out("alerts", one.alert.id.encode(), encode(doc), one.alert.last, headers))
        tally.sent += sent
        return outs


class Tenant:
    """The stateful half for one tenant."""

    def __init__(self, name: str, store: TenantStore, stage: SignalStage) -> None:
        self.name = name
        self.store = store
        self._stage = stage
        config = stage.config
        self._book = AlertBook(name, store, config.alerts)
        self.expect(stage.decisions)
        self._pending = store.table(
            "pending", msgspec.Raw, entries_max=config.pending_records_max, idle_max_s=float("inf")
        )
        self._progress = store.table("progress", dict[str, float], entries_max=8, idle_max_s=float("inf"))
        self._steps: dict[int, list[str]] = {}
        for key in self._pending:
            self._steps.setdefault(int(key.split(":")[0]), []).append(key)
        self._features: list[Feature] = []

    def expect(self, decisions: Decisions) -> None:
        self._book.expects = decisions.of(self.name).covers if decisions.exceptions else None

    def take(self, signals: Signals, offset: int, tally: Tally) -> list[Sent]:
        """One record: hits at once and in order, everything else waits for its minute to close."""
        stage, rules = self._stage, self._stage.rules.rules
        hits = [f for f in signals.facts if f.detector in rules]
        bases = [f for f in signals.facts if "<" in f.detector]
        if bases:
            found = stage.rules.correlate(self.store, bases)
            for fact in found:
                tally.matches[fact.detector] = tally.matches.get(fact.detector, 0) + 1
            hits += found
        sent: list[Sent] = []
        for fact in hits:
            if self._alerts_directly(fact):
                rate = models.rate(fact.detector, (1.0,)) if (models := stage.behaviour.models) else None
                sent += self._book.direct(fact, rules[fact.detector], rate)
        hits_of: dict[int, list[Fact]] = {}
        for fact in hits:
            hits_of.setdefault(fact.step, []).append(fact)
        lanes = self._progress.get("lanes") or {}
        reached = min(lanes.values(), default=0.0)
        of_hits = ((step, msgspec.Raw(_pack(facts))) for step, facts in hits_of.items())
        for kind, packed in (("hits", of_hits), ("facts", signals.waiting.items())):
            for step, facts in packed:
                late = max(step, int(reached // 60))  # only where several lanes feed one tenant
                key = f"{late:010d}:{offset:012d}:{kind}:{step:010d}"
                self._pending.put(key, facts, late * 60.0)
                self._steps.setdefault(late, []).append(key)
        if signals.watermark > lanes.get(signals.lane, 0.0):
            lanes[signals.lane] = signals.watermark
        if signals.idle and len(lanes) > 1:
            del lanes[signals.lane]
        self._progress.put("lanes", lanes, signals.watermark)
        return sent + self._advance(int(min(lanes.values(), default=0.0) // 60), tally)

    def _alerts_directly(self, fact: Fact) -> bool:
        stage = self._stage
        rule = stage.rules.rules[fact.detector]
        return fact.last >= stage.learn_until and rule.level in stage.config.alerts.direct_levels and not rule.staged

    def close(self, tally: Tally) -> list[Sent]:
        newest = max(self._steps, default=None)
        sent = self._advance(newest + 1, tally) if newest is not None else []
        progress = self._progress.get("steps") or {}
        return sent + self._book.updates(progress.get("done", 0.0) * 60 + 86_400.0)

    @property
    def day(self) -> int:
        return int((self._progress.get("steps") or {}).get("done", 0.0)) // 1440

    def drain_features(self) -> list[Feature]:
        features, self._features = self._features, []
        return features

    def _advance(self, until: int, tally: Tally) -> list[Sent]:
        """Evaluate all complete minutes before `until`, also the full hours between them."""
        progress = self._progress.get("steps") or {}
        done = int(progress.get("done", 0))
        until = min(until, self._stage.paused_at or until)
        if until <= done:
            return []
        steps = {s for s in self._steps if s < until}
        start = done or min(steps, default=until)
        hours = range(-(-start // 60) * 60, until, 60) if until - start < 100 * 1440 else ()
        sent: list[Sent] = []
        for minute in sorted(steps | set(hours)):
            keys = sorted(self._steps.pop(minute, []))
            facts = [f for key in keys if (packed := self._pending.get(key)) for f in _facts_of(packed)]
            for key in keys:
                self._pending.pop(key)
            sent += self._step(minute, facts, tally)
        self._progress.put("steps", {"done": float(until)}, until * 60.0)
        return sent

    def _step(self, minute: int, facts: list[Fact], tally: Tally) -> list[Sent]:
        stage = self._stage
        rules = stage.rules.rules
        hits = sorted(
            (f for f in facts if f.detector in rules), key=lambda f: (f.detector, f.key)
        )  # arrival order within
        for fact in hits:
            if self._alerts_directly(fact):
                self._book.count(fact, rules[fact.detector])
        observations, features = stage.behaviour.observe(
            self.store, minute, [f for f in facts if f.detector not in rules]
        )
        observations += self._weigh_hits(hits, features)
        self._features += features
        for observation in observations:
            tally.observations[observation.family] = tally.observations.get(observation.family, 0) + 1
        now = (minute + 1) * 60.0
        if now <= stage.learn_until:
            return []
        hubs = stage.hubs.get(self.name, frozenset())
        threshold = stage.thresholds.get(self.name, stage.thresholds.get("*"))
        sent = self._book.weigh(sorted(observations, key=_order), hubs, threshold)
        for reason, amount in self._book.unsaid().items():
            tally.unsaid[reason] = tally.unsaid.get(reason, 0) + amount
        return sent + self._book.updates(now)

    def _weigh_hits(self, hits: list[Fact], features: list[Feature]) -> list[Observation]:
        """Rule hits enter the common scale: one observation per rule, entity and day, calibrated like any other."""
        rules, models = self._stage.rules.rules, self._stage.behaviour.models
        seen = self.store.table("hit_days", int, entries_max=200_000, idle_max_s=7.0 * DAY_S)
        observations = []
        for fact in hits:
            day, key = fact.minute // 1440, f"{fact.detector}|{fact.key}"
            if seen.get(key) == day:
                continue
            seen.put(key, day, fact.first)
            rule = rules[fact.detector]
            family = f"{STAGED if rule.staged else 'rule:'}{rule.id}"
            features.append(Feature(self.name, rule.id, fact.key, day, fact.first, (1.0,), family, fact.entities))
            if rule.staged:
                continue
            rate = models.rate(rule.id, (1.0,)) if models else None
            observations.append(observation_of_hit(rule, finding_of_hit(fact, rule), rate, self.name))
        return observations


def _order(observation: Observation) -> tuple[Any, ...]:
    return (observation.time, observation.detector, observation.entities, observation.item)


def _count_matches(facts: Iterable[Fact], rules: RuleSet, tally: Tally) -> None:
    for fact in facts:
        if fact.detector in rules.rules:
            tally.matches[fact.detector] = tally.matches.get(fact.detector, 0) + fact.count


def _signals(tenant: str, lane: str, watermark: float, hits: list[Fact], waiting: list[Fact]) -> Iterator[Out]:
    """Facts in records of bounded size; only the last one moves the watermark. A single fact is bounded by its evidence."""
    of_step: dict[int, list[Fact]] = {}
    for fact in waiting:
        of_step.setdefault(fact.step, []).append(fact)
    packed = {step: msgspec.Raw(_pack(facts)) for step, facts in of_step.items()}
    value = _pack(Signals(lane, watermark, hits, packed))
    total = len(hits) + len(waiting)
    if len(value) > SIGNAL_BYTES_MAX and total > 1:
        parts = min(total, 2 + len(value) * 9 // (SIGNAL_BYTES_MAX * 8))  # with some room: facts differ in size
        ends = [(-(-len(hits) * n // parts), len(waiting) * n // parts) for n in range(parts + 1)]
        for (hit, wait), (hit_end, wait_end) in itertools.pairwise(ends):
            mark = watermark if (hit_end, wait_end) == ends[-1] else 0.0
            yield from _signals(tenant, lane, mark, hits[hit:hit_end], waiting[wait:wait_end])
        return
    yield Out("signals", tenant.encode(), value, watermark, {"tenant": tenant})


def _feature(feature: Feature) -> Out:
    key = f"{feature.tenant}|{feature.detector}|{feature.key}|{feature.day}".encode()
    return Out("features", key, _pack(feature), feature.time, {"tenant": feature.tenant})
