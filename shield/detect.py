"""The detect role: one synchronous loop that turns raw records into signals and signals into alerts, one commit per batch."""

import gc
import time
from collections import Counter
from collections.abc import Callable

import structlog

from connectors.parse import AUTO
from detectors.sigma import RuleSet
from shield.broker import Batch, Broker, BrokerDown, Change, Fenced, Limits, Out, Partition, Record
from shield.health import Health
from shield.metrics import Metrics
from shield.models import ModelShelf
from shield.pipeline import RawStage, SignalStage, Tally
from shield.reload import Reloader

SIGNALS = "signals"
CRASHED = "crashed the worker"
TICK_S = 1.0  # how often idle tenants are looked at
MODELS_S = 3.0  # how often new models are looked for
LAG_S = 5.0  # how often the broker is asked for the lag
RETRY_S = 1.0
DRIFT_TOLD = 0.2  # share of recent events that lost a field
TIDY_S = 60.0

log = structlog.get_logger()


class Detect:
    """One worker. Nothing it does in a turn is visible before the turn's commit."""

    def __init__(
        self,
        broker: Broker,
        raw: RawStage,
        signals: SignalStage,
        shelf: ModelShelf,
        metrics: Metrics,
        health: Health,
        limits: Limits,
        reloader: Reloader | None = None,
    ) -> None:
        self._broker = broker
        self._raw = raw
        self._signals = signals
        self._shelf = shelf
        self._metrics = metrics
        self._health = health
        health.wait_for("partitions", "none assigned yet")
        self._limits = limits
        self._reloader = reloader
        self._held: set[Partition] = set()
        self._ticked = self._looked = self._lag_seen = self._tidied = 0.0
        self._evicted: dict[str, int] = {}
        self._learned: dict[tuple[str, str], str] = {}
        self._formats: set[tuple[str, str, str]] = set()
        self._drifted: set[tuple[str, str]] = set()

    def run(self, stop: Callable[[], bool]) -> None:
        gc.collect()
        gc.freeze()  # rules and models stay; walking through them for garbage costs a fifth of the time
        gc.disable()
        while not stop():
            self._health.turned()
            self._tidy(time.monotonic())
            try:
                self.turn(time.time())
            except Fenced:
                self._metrics.fenced()
                log.warning("lost partitions to another worker; nothing of the batch was committed")
            except BrokerDown as error:
                log.warning("broker does not answer, trying again", error=str(error))
                time.sleep(RETRY_S)

    def _tidy(self, now: float) -> None:
        """Events hold no cycles; what does (errors, clients) is collected between batches, now and then."""
        if now - self._tidied >= TIDY_S:
            self._tidied = now
            gc.collect()

    def turn(self, now: float) -> Batch:
        """Poll, process, commit."""
        metrics = self._metrics
        if self._reloader is not None and (rules := self._reloader.turn(now)) is not None:
            self._take_rules(rules)
        with metrics.phase("poll"):
            batch = self._broker.poll(self._limits)
        self._assign(batch)
        if now - self._looked >= MODELS_S:
            self._looked = now
            self._shelf.refresh(self._broker, self._signals, metrics)
        tally = Tally()
        try:
            outbox, changes = self._process(batch.records, tally)
        except Exception:  # a defect of ours: find the one record, keep the others (the worker is where crashes end)
            log.exception("a batch crashed; its records are now taken one by one")
            self._isolate(batch)
            return batch
        if batch.caught_up and not batch.records and now - self._ticked >= TICK_S:
            self._ticked = now
            for partition, tenant in self._raw.idle_tenants():
                more, changed = self._raw.tick(partition, tenant, now)
                outbox += more
                changes += changed
        if batch.records or outbox or changes:
            with metrics.phase("commit"):
                self._broker.commit(batch, outbox, changes)
            self._count(tally, now)
        return batch

    def _take_rules(self, rules: RuleSet) -> None:
        self._raw.take_rules(rules)
        self._signals.take_rules(rules)
        if not gc.isenabled():  # as `run` did: what reading the rules left behind goes, they themselves stay
            gc.collect()
            gc.freeze()

    def _count(self, tally: Tally, now: float) -> None:
        """Metrics, once per batch."""
        metrics = self._metrics
        metrics.lines(tally.lines, tally.blank, tally.joined)
        metrics.ingested(tally.ingested, tally.bytes)
        metrics.rejected(tally.dead)
        for reason, amount in tally.dead.items():
            metrics.dead("parse", reason, amount)
        metrics.source_times({key: (at, at - received) for key, (at, received) in tally.newest.items()})
        for at, _ in tally.newest.values():
            metrics.event_lag(max(0.0, now - at))
        self._tell_sources(tally)
        metrics.matched(tally.matches)
        metrics.observed(tally.observations)
        metrics.unsaid(tally.unsaid)
        created = Counter((s.alert.rule or "behaviour", s.alert.level) for s in tally.sent if s.kind == "alert.created")
        metrics.alerts(created, len(tally.sent) - sum(created.values()))
        entries = self._signals.entries()
        gone = {name: evicted - self._evicted.get(name, 0) for name, (_, evicted) in entries.items()}
        self._evicted = {name: evicted for name, (_, evicted) in entries.items()}
        metrics.state({name: held for name, (held, _) in entries.items()}, {n: g for n, g in gone.items() if g > 0})
        if now - self._lag_seen >= LAG_S:
            self._lag_seen = now
            metrics.lag(self._broker.lag())
            self._tell_learning()
        if tally.lines:
            log.info(
                "batch",
                lines=tally.lines,
                events=tally.events,
                dead=sum(tally.dead.values()),
                facts=tally.facts,
                alerts=len(tally.sent),
            )

    def _tell_sources(self, tally: Tally) -> None:
        """What was recognised of each source, and which fields its lines lost: a log line whenever that changes."""
        for (source, tenant), parser in tally.formats.items():
            if parser != AUTO and (source, tenant, parser) not in self._formats:
                self._formats.add((source, tenant, parser))
                log.info("format", tenant=tenant, source=source, parser=parser)
        for (source, tenant), drift in tally.drifts.items():
            lost = drift.lost
            self._metrics.drift(source, tenant, lost)
            drifted = lost >= DRIFT_TOLD
            if drifted != ((source, tenant) in self._drifted):
                (self._drifted.add if drifted else self._drifted.discard)((source, tenant))
                dataset, fields = drift.worst
                log.warning(
                    "schema drift", tenant=tenant, source=source, dataset=dataset, lost=fields, over=not drifted
                )

    def _tell_learning(self) -> None:
        """How far each family has learned, as a metric; as a log line whenever a state changes."""
        learned = self._signals.learning()
        self._metrics.learning({key: status.seen * 86_400.0 for key, status in learned.items()})
        for (family, tenant), status in learned.items():
            if self._learned.get((family, tenant)) != status.state:
                self._learned[family, tenant] = status.state
                told = f"{status.state}: seen {status.seen} of {status.needed} {status.unit} needed"
                log.info("learning", tenant=tenant, family=family, profile=status.profile, status=told)

    def _process(self, records: list[Record], tally: Tally) -> tuple[list[Out], list[Change]]:
        signals = [r for r in records if r.topic == SIGNALS]
        outbox: list[Out] = []
        changes: list[Change] = []
        if len(signals) < len(records):
            with self._metrics.phase("detect"):
                outbox, changes = self._raw.process([r for r in records if r.topic != SIGNALS], tally)
        if signals:
            with self._metrics.phase("step"):
                more, changed = self._signals.process(signals, tally)
            outbox += more
            changes += changed
        return outbox, changes

    def _assign(self, batch: Batch) -> None:
        for partition in batch.lost:
            self._stage(partition).lose(partition)
            self._held.discard(partition)
        for partition in batch.gained:
            self._restore(partition)
            self._held.add(partition)
        if self._held:
            self._health.ready("partitions")

    def _restore(self, partition: Partition) -> None:
        stage = self._stage(partition)
        stage.lose(partition)
        stage.gain(partition, self._broker.restore(partition))

    def _stage(self, partition: Partition) -> RawStage | SignalStage:
        return self._signals if partition[0] == SIGNALS else self._raw

    def _isolate(self, batch: Batch) -> None:
        """Take a crashed batch record by record, each with its own commit; one that crashes again goes to the dead letters.

        What a crashing record had changed by then is thrown away: the state is read again as the last commit left it.
        """
        self._restore_all()
        for record in batch.records:
            tally = Tally()
            try:
                outbox, changes = self._process([record], tally)
            except Exception as error:
                log.exception(
                    "a record crashed twice", topic=record.topic, partition=record.partition, offset=record.offset
                )
                self._restore_all()
                tally, changes = Tally(), []
                headers = {**record.headers, "stage": "detect", "reason": f"{CRASHED}: {type(error).__name__}"}
                headers["origin"] = f"{record.topic}:{record.partition}:{record.offset}:0"
                outbox = [Out("dead", record.key, record.value, record.time, headers)]
                self._metrics.dead("detect", CRASHED, 1)
            self._broker.commit(Batch([record], [], [], caught_up=False), outbox, changes)
            self._count(tally, time.time())

    def _restore_all(self) -> None:
        for partition in self._held:
            self._restore(partition)
