"""Every metric of the program, declared in one place and raised once per batch.

Labels never hold a user, an address or a host: those would be personal data and without number. Label values that come
from configuration are bounded; what is beyond the bound is counted as `other`.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

PHASES = ("poll", "parse", "detect", "step", "commit")
PHASE_BUCKETS_S = (0.001, 0.002, 0.005, 0.010, 0.020, 0.035, 0.050, 0.1, 0.25, 1.0)
COMMIT_BUCKETS_S = (0.002, 0.005, 0.010, 0.015, 0.020, 0.035, 0.050, 0.1, 0.25, 0.5, 1.0, 5.0)
LAG_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0)
OTHER = "other"


class Metrics:
    """The metrics of one process, in the registry that is given. Methods take the sums of a batch."""

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        sources_max: int = 2000,
        rules_max: int = 10_000,
        names_max: int = 200,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody reads
        self.registry = CollectorRegistry() if registry is None else registry
        ProcessCollector(registry=self.registry)
        self._maxima = {"source": sources_max, "rule": rules_max}
        self._names_max = names_max
        self._known: dict[str, set[tuple[str, ...]]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"shield_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"shield_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"shield_{name}", text, labels, buckets=buckets, registry=self.registry)

        self._overflow = counter("label_overflow", "Label values beyond their bound, counted as other.", "label")
        self._build = Info("shield_build", "Version of the running program.", registry=self.registry)
        # ingest and parse
        self._events = counter("events_ingested", "Events read from log lines.", "source", "tenant")
        self._lines = counter("lines", "Log lines taken from the raw topics: events, unreadable and blank ones.")
        self._blank = counter("lines_blank", "Log lines without content.")
        self._joined = counter("lines_joined", "Log lines that are part of the event of the line before them.")
        self._bytes = counter("event_bytes", "Bytes of the log lines read.")
        self._rejected = counter("events_rejected", "Log lines that could not be read.", "reason")
        self._source = counter("source", "What a source counts by itself.", "source", "name")
        self._source_last = gauge(
            "source_last_event_timestamp_seconds", "Time of the newest event of a source.", "source", "tenant"
        )
        self._source_skew = gauge(
            "source_clock_skew_seconds", "How far a source's newest event is ahead of its arrival.", "source", "tenant"
        )
        self._drift = gauge(
            "schema_drift_ratio",
            "Share of a source's recent events that lost a field they used to have.",
            "source",
            "tenant",
        )
        self._event_lag = histogram("event_lag_seconds", "From an event's time to its processing.", LAG_BUCKETS_S)
        # detection
        self._matches = counter("rule_matches", "Events that matched a rule.", "rule")
        self._rules = gauge("rules_loaded", "Rules and correlations in use.")
        self._staged = gauge("rules_staged", "Rules in use that are in staging: counted, without alerts.")
        self._reload = counter("rules_reload", "Reloads of the rules.", "outcome")
        for outcome in ("loaded", "refused"):
            self._reload.labels(outcome)
        self._reload_last = gauge("rules_reload_timestamp_seconds", "When the rules in use were loaded.")
        self._observations = counter("observations", "Observations worth noting.", "family")
        self._unsaid = counter(
            "findings_unsaid", "Findings that opened no alert: quiet after one, or expected.", "reason"
        )
        self._created = counter("alerts_created", "Alerts opened.", "detector", "severity")
        self._updated = counter("alerts_updated", "Revisions of open alerts.")
        self._phase = histogram("batch_phase_seconds", "Time of a batch in one phase.", PHASE_BUCKETS_S, "phase")
        for phase in PHASES:
            self._phase.labels(phase)
        self._commit = histogram("commit_seconds", "Time of one broker commit.", COMMIT_BUCKETS_S)
        self._consumer_lag = gauge(
            "consumer_lag_records", "Records not read yet, per assigned partition.", "topic", "partition"
        )
        self._state = gauge("state_entries", "Entries of keyed state.", "table")
        self._evictions = counter("state_evictions", "Entries of keyed state given up at a limit.", "table")
        self._fenced = counter("fenced", "Commits refused because the worker had lost its partitions.")
        self._dlq = counter("dlq_records", "Records written to the dead letters.", "stage", "reason")
        # delivery
        self._attempts = counter("delivery_attempts", "Attempts to hand over an alert.", "sink", "outcome")
        self._queue = gauge("delivery_queue_length", "Alerts not handed over yet.", "sink")
        self._oldest = gauge("delivery_oldest_seconds", "Age of the oldest alert that waits for another try.", "sink")
        self._disabled = gauge("delivery_disabled", "1 while the receiver has disabled the sink (HTTP 410).", "sink")
        # learning
        self._model = gauge("model_info", "The models in use; the value is always 1.", "detector", "version", "sha")
        self._trained = gauge("model_trained_timestamp_seconds", "When the model in use was made.", "detector")
        self._learning = gauge("learning_seconds", "Event time that a family has learned from.", "family", "tenant")

    def bounded(self, label: str, *values: str) -> tuple[str, ...]:
        """The values if their combination is known or there is room for it, else `other` for each."""
        known = self._known.setdefault(label, set())
        if values in known:
            return values
        if len(known) < self._maxima.get(label, self._names_max):
            known.add(values)
            return values
        self._overflow.labels(label).inc()
        return (OTHER,) * len(values)

    def build(self, version: str) -> None:
        self._build.info({"version": version})

    def lines(self, lines: int, blank: int, joined: int) -> None:
        """Lines read; of these the ones without content, and the ones that are part of the line before them."""
        self._lines.inc(lines)
        self._blank.inc(blank)
        self._joined.inc(joined)

    def ingested(self, counts: Mapping[tuple[str, str], int], size_bytes: int) -> None:
        """Events per (source, tenant), and the bytes of all their lines."""
        for (source, tenant), amount in counts.items():
            self._events.labels(*self.bounded("source", source, tenant)).inc(amount)
        self._bytes.inc(size_bytes)

    def rejected(self, counts: Mapping[str, int]) -> None:
        """Unreadable lines per reason; a reason is a short code, not the error's text."""
        for reason, amount in counts.items():
            self._rejected.labels(*self.bounded("reason", reason)).inc(amount)

    def source(self, source: str, name: str, amount: int = 1) -> None:
        (source,) = self.bounded("counted source", source)
        self._source.labels(source, *self.bounded("counter", name)).inc(amount)

    def source_times(self, newest: Mapping[tuple[str, str], tuple[float, float]]) -> None:
        """Per (source, tenant): time of the newest event, and how far it is ahead of its arrival (seconds)."""
        for (source, tenant), (at, skew_s) in newest.items():
            labels = self.bounded("source", source, tenant)
            self._source_last.labels(*labels).set(at)
            self._source_skew.labels(*labels).set(skew_s)

    def drift(self, source: str, tenant: str, lost: float) -> None:
        """Share of recent events (0 to 1) that lack a usual field."""
        self._drift.labels(*self.bounded("source", source, tenant)).set(lost)

    def event_lag(self, lag_s: float) -> None:
        """One reading per batch and source: the lag of its newest event."""
        self._event_lag.observe(lag_s)

    def matched(self, counts: Mapping[str, int]) -> None:
        for rule, amount in counts.items():
            self._matches.labels(*self.bounded("rule", rule)).inc(amount)

    def rules(self, loaded: int, staged: int, at: float) -> None:
        """A rule set is in use from now on."""
        self._rules.set(loaded)
        self._staged.set(staged)
        self._reload_last.set(at)

    def reloaded(self, outcome: str) -> None:
        self._reload.labels(outcome).inc()

    def observed(self, counts: Mapping[str, int]) -> None:
        for family, amount in counts.items():
            self._observations.labels(*self.bounded("family", family)).inc(amount)

    def unsaid(self, counts: Mapping[str, int]) -> None:
        for reason, amount in counts.items():
            self._unsaid.labels(*self.bounded("unsaid", reason)).inc(amount)

    def alerts(self, created: Mapping[tuple[str, str], int], updated: int) -> None:
        """New alerts per (detector, severity), and revisions of known ones."""
        for (detector, severity), amount in created.items():
            self._created.labels(*self.bounded("rule", detector, severity)).inc(amount)
        self._updated.inc(updated)

    @contextmanager
    def phase(self, phase: str) -> Iterator[None]:
        """Time one of PHASES of a batch; `commit` also goes into `commit_seconds`."""
        started = time.perf_counter()
        yield
        took_s = time.perf_counter() - started
        self._phase.labels(phase).observe(took_s)
        if phase == "commit":
            self._commit.observe(took_s)

    def lag(self, lags: Mapping[tuple[str, int], int]) -> None:
        """Records not read yet of the partitions assigned now; those of before disappear."""
        self._consumer_lag.clear()
        for (topic, partition), records in lags.items():
            self._consumer_lag.labels(topic, str(partition)).set(records)

    def state(self, entries: Mapping[str, int], evicted: Mapping[str, int]) -> None:
        """Entries per table now, and how many were evicted since the last call."""
        for table, amount in entries.items():
            self._state.labels(*self.bounded("table", table)).set(amount)
        for table, amount in evicted.items():
            self._evictions.labels(*self.bounded("table", table)).inc(amount)

    def fenced(self) -> None:
        self._fenced.inc()

    def dead(self, stage: str, reason: str, amount: int) -> None:
        """Dead letters of a stage; a reason is a short code, not the error's text."""
        self._dlq.labels(*self.bounded("dead letter", stage, reason)).inc(amount)

    def delivery_attempts(self, sink: str, outcome: str, amount: int) -> None:
        self._attempts.labels(*self.bounded("sink", sink), outcome).inc(amount)

    def delivery_queue(self, sink: str, length: int, oldest_s: float, *, disabled: bool) -> None:
        (sink,) = self.bounded("sink", sink)
        self._queue.labels(sink).set(length)
        self._oldest.labels(sink).set(oldest_s)
        self._disabled.labels(sink).set(1 if disabled else 0)

    def models(self, used: Mapping[str, tuple[str, str, float]]) -> None:
        """Per detector: version, SHA-256 and time of making of the model in use; those of before disappear."""
        self._model.clear()
        self._trained.clear()
        for detector, (version, sha, trained) in used.items():
            (name,) = self.bounded("model", detector)
            self._model.labels(name, version, sha).set(1)
            self._trained.labels(name).set(trained)

    def learning(self, learned_s: Mapping[tuple[str, str], float]) -> None:
        """Seconds of event time learned from, per (family, tenant)."""
        for (family, tenant), seconds in learned_s.items():
            self._learning.labels(*self.bounded("learning", family, tenant)).set(seconds)
