"""The alerts of one sink that are neither delivered nor dead: whose turn it is, and what is kept of them in keyed state."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from connectors.events import isoformat
from shield.broker import Batch, Change, Out, Partition, Record
from shield.metrics import Metrics
from shield.sinks import SEVERITIES, Backoff, Delivered, Disabled, Rejected, Retry, Sink, SinkConfig

TOPIC = "alerts"
DEAD = "dead"
ROUND_S = 5.0  # no new attempt is begun after this, so that the broker hears from us well within its session timeout
ROUND_RECORDS_MAX = 100
ROUND_ATTEMPTS_MAX = 200
PROBE_S = 15.0  # while all wait for a silent receiver, an alert never tried yet may ask this soon
LAG_EVERY_S = 5.0
REASON_CHARS_MAX = 200
DOUBLINGS_MAX = 40

log = structlog.get_logger(__name__)


class Parked(msgspec.Struct, array_like=True):
    """An alert that waits for its next attempt, as kept in the state of its partition."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: dict[str, str]
    since: float  # when it was first read here
    attempts: int = 0
    blamed: int = 0  # attempts that failed while nothing else did: the length of its own backoff
    due: float = 0.0


class Item:
    """A parked alert in memory, with its document read and whether the state knows it as it is now."""

    __slots__ = ("alert", "parked", "saved", "stored")

    def __init__(self, parked: Parked, alert: dict[str, Any], *, stored: bool) -> None:
        self.parked = parked
        self.alert = alert
        self.stored = stored  # the state has an entry of it
        self.saved = stored  # and that entry is up to date

    @property
    def order(self) -> tuple[int, int]:
        """That of the partition, whatever the clock says: revisions of one alert must stay in order."""
        return (self.parked.offset, self.parked.partition)


def group(sink: str) -> str:
    """The consumer group of a sink."""
    return f"deliver.{sink}"


def fingerprint(config: SinkConfig) -> str:
    """Changes with any option of the sink; a sink that its receiver disabled stays so while this is the same."""
    return hashlib.sha256(type(config).__module__.encode() + msgspec.json.encode(config)).hexdigest()


def jitter(backoff: Backoff, failures: int, rng: random.Random) -> float:
    """Full jitter: anything up to the doubling ceiling, so that many senders do not come back at once."""
    ceiling = min(backoff.cap_s, backoff.base_s * 2.0 ** min(max(failures - 1, 0), DOUBLINGS_MAX))
    return rng.uniform(0.0, ceiling)


class Pending:
    """Rounds of attempts over the alerts that wait.

    One alert that fails accuses itself: it alone waits, and others pass it. Two different alerts that fail with no
    success in between accuse the receiver: all wait together, and what has been tried least is tried first and a
    little earlier, so no alert that the receiver cannot digest keeps the others away.
    """

    def __init__(
        self, sink: Sink, config: SinkConfig, *, metrics: Metrics, clock: Callable[[], float], rng: random.Random
    ) -> None:
        self._sink = sink
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._fingerprint = fingerprint(config)
        self._prefix = f"{group(config.name)}/".encode()
        self._mark_key = self._prefix + b"disabled"
        self._lag_due = 0.0
        self._lag = 0
        self.attempted = 0
        self.forget()

    def forget(self) -> None:
        """After a commit that failed: the next poll gives everything anew."""
        self._items: list[Item] = []
        self._assigned: set[Partition] = set()
        self._marked: set[Partition] = set()  # partitions whose state says that the sink is disabled
        self._disabled: str | None = None
        self._accused: set[bytes] = set()  # alerts that failed since the last success
        self._failures = 0  # since the last success
        self._pause = 0.0  # nobody asks before
        self._probe = 0.0  # what has never been tried may ask from here on
        self._quiet = 0.0  # the receiver wants to hear nothing before (Retry-After)
        self._outbox: list[Out] = []
        self._changes: list[Change] = []
        self._outcomes: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()

    @property
    def room(self) -> int:
        """How many more alerts may be read."""
        return max(0, min(ROUND_RECORDS_MAX, self._config.parked_max - len(self._items)))

    @property
    def lag_due(self) -> bool:
        """Is it time to ask how much is left in the topic? That costs the broker a little."""
        return not 0 < self._lag_due - self._clock() <= LAG_EVERY_S

    def take(self, batch: Batch) -> None:
        """New alerts, after partitions that are gained. What no filter lets through is done with."""
        for partition in batch.lost:
            self._drop(partition)
        now = self._clock()
        for record in batch.records:
            alert = _document(record.value)
            if alert is None:
                self._bury(_parked(record, now), "unreadable", "not a JSON object", now)
            elif wanted(self._config, alert, record.headers):
                self._items.append(Item(_parked(record, now), alert, stored=False))

    def round(self) -> tuple[list[Out], list[Change]]:
        """As many attempts as it is time for; what is to be committed with the batch."""
        started = self._clock()
        self.attempted = 0
        while self._disabled is None and self.attempted < ROUND_ATTEMPTS_MAX:
            now = self._clock()
            item = self._next(now) if now - started <= ROUND_S else None
            if item is None:
                break
            self.attempted += 1
            self._attempt(item, now)
        if self._disabled is not None:
            self._close_off(self._disabled)
        for item in self._items:
            if not item.saved:
                self._changes.append(self._change(item.parked, msgspec.msgpack.encode(item.parked)))
                item.stored = item.saved = True
        outbox, changes = self._outbox, self._changes
        self._outbox, self._changes = [], []
        return outbox, changes

    def committed(self, lag: Mapping[Partition, int] | None) -> None:
        """Count what has become true, once per round; with what is left in the topic, when that was asked for."""
        name, now = self._config.name, self._clock()
        for outcome, amount in self._outcomes.items():
            self._metrics.delivery_attempts(name, outcome, amount)
        for reason, amount in self._dead.items():
            self._metrics.dead("deliver", reason, amount)
            log.error("alerts went to the dead letters", sink=name, reason=reason, alerts=amount)
        self._outcomes.clear()
        self._dead.clear()
        if lag is not None:
            self._lag, self._lag_due = sum(lag.values()), now + LAG_EVERY_S
        oldest = min((item.parked.since for item in self._items), default=now)
        self._metrics.delivery_queue(
            name, self._lag + len(self._items), max(0.0, now - oldest), disabled=self._disabled is not None
        )

    def gain(self, partition: Partition, state: Mapping[bytes, bytes]) -> None:
        """A partition came, with its committed state (that of other sinks and roles is in there too)."""
        self._drop(partition)
        self._assigned.add(partition)
        for key, value in state.items():
            if key == self._mark_key:
                mark = msgspec.json.decode(value, type=dict[str, str])
                if mark["config"] == self._fingerprint:
                    self._marked.add(partition)
                    self._disabled = mark["reason"]
                    log.warning("sink stays disabled", sink=self._config.name, reason=self._disabled)
                else:
                    self._changes.append(Change(partition, key, None))
                    log.info("sink enabled again, its configuration has changed", sink=self._config.name)
            elif key.startswith(self._prefix):
                parked = msgspec.msgpack.decode(value, type=Parked)
                alert = _document(parked.value)
                assert alert is not None  # was read before it was parked
                self._items.append(Item(parked, alert, stored=True))
        self._items.sort(key=lambda item: item.order)

    def _drop(self, partition: Partition) -> None:
        self._assigned.discard(partition)
        self._marked.discard(partition)
        self._items = [item for item in self._items if item.parked.partition != partition[1]]

    def _next(self, now: float) -> Item | None:
        """The alert to try now. Only the oldest revision of each alert has a turn, so that order is kept per alert."""
        if not (self._reached(self._quiet, now) and self._reached(self._probe, now)):
            return None
        probing = not self._reached(self._pause, now)
        heads: dict[bytes, Item] = {}
        for item in self._items:
            heads.setdefault(item.parked.key, item)
        ready = [
            item
            for item in heads.values()
            if self._reached(item.parked.due, now) and not (probing and item.parked.attempts)
        ]
        if len(self._accused) > 1:
            return min(ready, key=lambda item: (item.parked.attempts, item.order), default=None)
        return ready[0] if ready else None

    def _reached(self, at: float, now: float) -> bool:
        """A time further off than any wait can be means that the wall clock was set back: do not sit it out."""
        return not 0 < at - now <= max(self._config.backoff.cap_s, self._config.backoff.retry_after_max_s)

    def _attempt(self, item: Item, now: float) -> None:
        parked, backoff = item.parked, self._config.backoff
        outcome = self._sink.send(
            item.alert,
            key=idempotency_key(parked.key, item.alert),
            kind=kind_of(item.alert, parked.headers),
            attempt_time=now,
        )
        now = self._clock()
        parked.attempts += 1
        item.saved = False
        self._outcomes[type(outcome).__struct_config__.tag] += 1  # type: ignore[index]
        match outcome:
            case Retry(reason, after_s):
                self._failed(parked, after_s, reason, now)
                if backoff.attempts_max is not None and parked.attempts >= backoff.attempts_max:
                    self._end(item, "gave up", f"after {parked.attempts} attempts: {reason}", now)
                elif now - parked.since >= backoff.give_up_after_s:
                    self._end(item, "gave up", f"after {now - parked.since:.0f} s: {reason}", now)
            case Delivered():
                self._answered()
                self._end(item)
            case Rejected(reason):
                self._answered()
                self._end(item, "rejected", reason, now)
            case Disabled(reason):
                self._disabled = reason
                log.error("the receiver has disabled the sink", sink=self._config.name, reason=reason)
                self._end(item, "disabled", reason, now)

    def _failed(self, parked: Parked, after_s: float | None, reason: str, now: float) -> None:
        backoff = self._config.backoff
        asked = min(max(after_s or 0.0, 0.0), backoff.retry_after_max_s)
        self._failures += 1
        self._accused.add(parked.key)
        if len(self._accused) == 1:
            parked.blamed += 1
        parked.due = now + max(asked, jitter(backoff, parked.blamed, self._rng))
        self._quiet = now + asked
        if len(self._accused) > 1:
            wait_s = jitter(backoff, self._failures, self._rng)
            self._pause, self._probe = now + wait_s, now + min(wait_s, PROBE_S)
        if self._failures == 1:
            log.warning("attempt failed", sink=self._config.name, reason=reason)

    def _answered(self) -> None:
        if self._failures:
            log.info("the receiver answers again", sink=self._config.name, failures=self._failures)
        self._failures = 0
        self._accused.clear()
        self._pause = self._probe = 0.0

    def _end(self, item: Item, code: str = "", detail: str = "", now: float = 0.0) -> None:
        """The alert leaves the queue: delivered, or to the dead letters for a reason."""
        self._items.remove(item)
        self._accused.discard(item.parked.key)
        if item.stored:
            self._changes.append(self._change(item.parked, None))
        if code:
            self._bury(item.parked, code, detail, now)

    def _bury(self, parked: Parked, code: str, detail: str, now: float) -> None:
        self._dead[code] += 1
        headers = parked.headers | {
            "stage": "deliver",
            "sink": self._config.name,
            "reason": f"{code}: {detail}"[:REASON_CHARS_MAX],
            "attempts": str(parked.attempts),
            "origin": f"{TOPIC}/{parked.partition}/{parked.offset}",
            "since": isoformat(parked.since),
        }
        self._outbox.append(Out(DEAD, parked.key, parked.value, now, headers))

    def _close_off(self, reason: str) -> None:
        """Disabled: remember it in every partition held, and let nothing pile up."""
        now = self._clock()
        mark = msgspec.json.encode({"config": self._fingerprint, "reason": reason, "at": isoformat(now)})
        for partition in sorted(self._assigned - self._marked):
            self._changes.append(Change(partition, self._mark_key, mark))
        self._marked = set(self._assigned)
        for item in list(self._items):
            self._end(item, "disabled", reason, now)

    def _change(self, parked: Parked, value: bytes | None) -> Change:
        return Change((TOPIC, parked.partition), self._prefix + f"{parked.offset:020}".encode(), value)


def wanted(config: SinkConfig, alert: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """Does this sink get this alert? What the alert does not state hides nothing."""
    severity = SEVERITIES.get(headers.get("severity", ""))
    if severity is not None and severity < SEVERITIES[config.min_severity]:
        return False
    if config.tenants and (headers.get("tenant") or _at(alert, "organization", "id")) not in config.tenants:
        return False
    names = {_at(alert, "rule", "id"), _at(alert, "shield", "detector", "name")}
    if config.detectors and not names & {*config.detectors}:
        return False
    return kind_of(alert, headers).removeprefix("alert.") in config.events


def kind_of(alert: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """alert.created or alert.updated: as the header says, else by the revision."""
    stated = headers.get("kind", "").removeprefix("alert.")
    if stated not in {"created", "updated"}:
        revision = _at(alert, "shield", "revision")
        stated = "updated" if isinstance(revision, int) and revision > 1 else "created"
    return f"alert.{stated}"


def idempotency_key(alert_id: bytes, alert: Mapping[str, Any]) -> str:
    """Alert id and revision: the same for every attempt and after every restart."""
    return f"{alert_id.decode('utf-8', 'backslashreplace')}.{_at(alert, 'shield', 'revision') or 1}"


def _at(value: Any, *path: str) -> Any:
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value if isinstance(value, str | int) else None


def _parked(record: Record, now: float) -> Parked:
    return Parked(record.partition, record.offset, record.key, record.value, dict(record.headers), now)


def _document(value: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
