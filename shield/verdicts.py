"""What people decided about alerts: verdicts, and exceptions with owner, reason and end that keep the expected quiet.

Both are records of the `verdicts` topic, signed like models, because an exception hides alerts. Before an exception
counts it is tried on the alerts so far: what it would have hidden, confirmed attacks included.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec
import structlog

from detectors.facts import Entity
from shield.broker import Out, Record
from shield.risk import STEP_DOWN

TOPIC = "verdicts"
SIGNATURE = "signature"  # header
EXPIRES_DAYS = 90.0
EXPIRES_DAYS_MAX = 365.0
TEXT_CHARS_MAX = 2_000  # of a reason
EXCEPTIONS_MAX = 20_000  # that count at the same time, per tenant
DAY_S = 86_400.0

Disposition = Literal[
    "true_positive",
    "true_positive_impact",
    "true_positive_no_impact",
    "benign_expected",
    "false_positive",
    "false_positive_logic",
    "false_positive_data",
    "duplicate",
    "test",
    "undetermined",
]
DISPOSITIONS: tuple[Disposition, ...] = get_args(Disposition)
CONFIRMED = frozenset({"true_positive", "true_positive_impact", "true_positive_no_impact"})
TEACHES = frozenset({"benign_expected", "false_positive", "false_positive_logic", "false_positive_data", "test"})

log = structlog.get_logger()


class Verdict(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="verdict"):
    """What somebody decided about an alert. Of several on one alert the last counts."""

    alert: str
    tenant: str
    revision: int  # of the alert as it was seen
    disposition: Disposition
    reason: str
    owner: str
    time: float
    entities: tuple[Entity, ...] = ()
    detectors: tuple[str, ...] = ()

    @property
    def confirmed(self) -> bool:
        return self.disposition in CONFIRMED

    @property
    def teaches(self) -> bool:
        """Whether baselines may learn from what was alerted."""
        return self.disposition in TEACHES


class ExceptionRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="exception"):
    """What is expected of an entity. Of several with one id the last counts."""

    id: str
    tenant: str
    detector: str  # one reading (outbound_volume/bytes_24h), a whole profile (outbound_volume) or a rule's id
    entity: Entity
    item: str  # the destination, service ...; empty for whatever it is
    owner: str
    reason: str
    created: float
    expires: float
    alert: str  # that it was made for


class Exceptions:
    """The exceptions of one tenant, asked for every observation."""

    def __init__(self, records: Iterable[ExceptionRecord] = ()) -> None:
        self._held: dict[tuple[str, Entity, str], list[ExceptionRecord]] = {}
        newest = sorted(records, key=lambda r: (r.created, r.id))[-EXCEPTIONS_MAX:]
        for record in newest:
            self._held.setdefault((record.detector, record.entity, record.item), []).append(record)

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def covers(self, detector: str, entity: Entity, item: str, time: float) -> bool:
        """Whether somebody expects this. By event time, so that a replay says the same."""
        return self.find(detector, entity, item, time) is not None

    def find(self, detector: str, entity: Entity, item: str, time: float) -> ExceptionRecord | None:
        if not self._held:
            return None
        for name in (detector, detector.split("/", 1)[0]):
            for what in (item, ""):
                for record in self._held.get((name, entity, what), ()):
                    if record.created <= time < record.expires:
                        return record
        return None


class Decisions(msgspec.Struct):
    """The topic as it stands."""

    verdicts: dict[str, Verdict] = {}  # alert id -> the last
    exceptions: dict[str, ExceptionRecord] = {}  # id -> the last
    refused: int = 0  # without our signature, or not readable

    def of(self, tenant: str) -> Exceptions:
        return Exceptions(record for record in self.exceptions.values() if record.tenant == tenant)


class Proposal(msgspec.Struct, frozen=True):
    """An exception that would keep one observation of an alert quiet, and what speaks against it."""

    record: ExceptionRecord
    sentence: dict[str, str]
    concerns: tuple[str, ...]


class Tried(msgspec.Struct, frozen=True):
    """What would have become of an earlier alert under some exceptions."""

    alert: str
    tenant: str
    opened: str
    level: str
    title: dict[str, str]
    outcome: Literal["hidden", "weaker"]
    risk: float
    risk_left: float
    disposition: str  # of its verdict, empty without

    @property
    def confirmed(self) -> bool:
        return self.disposition in CONFIRMED


def decisions(records: Iterable[Record], key: bytes) -> Decisions:
    """Reads the topic; what does not carry our signature does not count."""
    found = Decisions()
    for record in records:
        stated = record.headers.get(SIGNATURE, "").encode()
        signed = hmac.compare_digest(stated, _signature(record.value, key).encode())
        try:
            one = _read.decode(record.value) if signed else None
        except msgspec.DecodeError:
            one = None
        if isinstance(one, Verdict):
            found.verdicts[one.alert] = one
        elif isinstance(one, ExceptionRecord):
            found.exceptions[one.id] = one
        else:
            found.refused += 1
    if found.refused:
        log.error("verdicts were refused: they do not carry our signature", count=found.refused)
    return found


def out(one: Verdict | ExceptionRecord, key: bytes, now: float) -> Out:
    """The record of the topic."""
    value = _write.encode(one)
    kind, name = ("verdict", one.alert) if isinstance(one, Verdict) else ("exception", one.id)
    headers = {"kind": kind, "tenant": one.tenant, SIGNATURE: _signature(value, key)}
    return Out(TOPIC, name.encode(), value, now, headers)


def verdict_on(doc: Mapping[str, Any], disposition: Disposition, *, reason: str, owner: str, now: float) -> Verdict:
    rows = _rows(doc)
    return Verdict(
        alert=doc["event"]["id"],
        tenant=doc["organization"]["id"],
        revision=doc["shield"]["revision"],
        disposition=disposition,
        reason=reason[:TEXT_CHARS_MAX],
        owner=owner,
        time=now,
        entities=tuple((e["type"], e["name"]) for e in doc["shield"]["entities"]),
        detectors=tuple(dict.fromkeys(row["detector"] for row in rows)),
    )


def proposals(
    doc: Mapping[str, Any], *, reason: str, owner: str, now: float, expires: float, outside: Callable[[str], bool]
) -> list[Proposal]:
    """The narrowest exceptions that would have kept this alert quiet: one per entity, detector and item.

    Where the item is known a whole profile is excepted for it, since its readings say the same in several windows.
    `outside` says whether an address is one of the internet.
    """
    alert, tenant = doc["event"]["id"], doc["organization"]["id"]
    found: dict[tuple[str, Entity, str], Proposal] = {}
    for row in _rows(doc):
        entity, item = _entity_of(row, doc), str(row.get("item") or "")
        if entity is None:
            continue
        detector = row["detector"].split("/", 1)[0] if item else row["detector"]
        concerns = []
        if entity[0] == "address" and outside(entity[1]):
            concerns.append("an outside address: tomorrow somebody else may have it")
        if not item:
            concerns.append("no item: whatever it is, now and later")
        if doc["shield"]["level"] == "critical":
            concerns.append("the alert is critical")
        record = ExceptionRecord(
            id=_identity(tenant, detector, *entity, item),
            tenant=tenant,
            detector=detector,
            entity=entity,
            item=item,
            owner=owner,
            reason=reason[:TEXT_CHARS_MAX],
            created=now,
            expires=expires,
            alert=alert,
        )
        found.setdefault((detector, entity, item), Proposal(record, row["sentence"], tuple(concerns)))
    return list(found.values())


def tried(
    records: Iterable[ExceptionRecord], alerts: Iterable[Mapping[str, Any]], verdicts: Mapping[str, Verdict]
) -> list[Tried]:
    """Which of the earlier alerts would not have been opened, or with less risk, had the exceptions always counted."""
    by_tenant: dict[str, list[ExceptionRecord]] = {}
    for record in records:
        always = msgspec.structs.replace(record, created=float("-inf"), expires=float("inf"))
        by_tenant.setdefault(record.tenant, []).append(always)
    sets = {tenant: Exceptions(held) for tenant, held in by_tenant.items()}
    found = []
    for doc in alerts:
        exceptions = sets.get(doc["organization"]["id"])
        if exceptions is None:
            continue
        rows = _rows(doc)
        kept = [row for row in rows if not _covered(row, doc, exceptions)]
        if len(kept) == len(rows):
            continue
        risk = float((doc["shield"].get("explanation") or {}).get("risk") or 0.0)
        threshold = doc["shield"]["explanation"].get("threshold")
        left = _risk_of(rows, kept, risk)
        by_rule = any(row["kind"] != "profile" and row["detector"] == doc["rule"]["id"] for row in kept)
        hidden = not kept or (not by_rule and (threshold is None or left < threshold))
        judged = verdicts.get(doc["event"]["id"])
        found.append(
            Tried(
                alert=doc["event"]["id"],
                tenant=doc["organization"]["id"],
                opened=doc["@timestamp"],
                level=doc["shield"]["level"],
                title=doc["shield"]["title"],
                outcome="hidden" if hidden else "weaker",
                risk=risk,
                risk_left=min(risk, left),
                disposition=judged.disposition if judged else doc["shield"].get("disposition") or "",
            )
        )
    return sorted(found, key=lambda t: (not t.confirmed, t.outcome, t.opened, t.alert))


_read = msgspec.json.Decoder(Verdict | ExceptionRecord)
_write = msgspec.json.Encoder(order="deterministic")


def _signature(value: bytes, key: bytes) -> str:
    return hmac.new(key, TOPIC.encode() + value, hashlib.sha256).hexdigest()


def _identity(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def _rows(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((doc["shield"].get("explanation") or {}).get("observations") or [])


def _entities_of(row: Mapping[str, Any], doc: Mapping[str, Any]) -> list[Entity]:
    """Of the observation; of the whole alert where it names none."""
    stated = row.get("entities") or doc["shield"]["entities"]
    return [(e["type"], e["name"]) for e in stated]


def _entity_of(row: Mapping[str, Any], doc: Mapping[str, Any]) -> Entity | None:
    """Whom to except: the one that the alert is about if the observation is on it, else the observation's first."""
    entities = _entities_of(row, doc)
    first = doc["shield"]["entities"][:1]
    main = (first[0]["type"], first[0]["name"]) if first else None
    return main if main in entities else next(iter(entities), None)


def _covered(row: Mapping[str, Any], doc: Mapping[str, Any], exceptions: Exceptions) -> bool:
    item = str(row.get("item") or "")
    return any(exceptions.covers(row["detector"], entity, item, 0.0) for entity in _entities_of(row, doc))


def _risk_of(rows: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]], risk: float) -> float:
    """The risk of what is left: of each family the strongest that remains, as faded as the family was."""
    shares = sorted((row["share"] for row in rows if row["share"] > 0), reverse=True)
    place = {share: i for i, share in reversed(list(enumerate(shares)))}
    parts: list[float] = []
    for family in dict.fromkeys(row["family"] for row in rows):
        theirs = [row for row in rows if row["family"] == family]
        share = max(row["share"] for row in theirs)
        strongest = max((row["risk"] for row in theirs), default=0.0)
        left = max((row["risk"] for row in kept if row["family"] == family), default=0.0)
        if share > 0 and strongest > 0:
            parts.append(share * risk / STEP_DOWN ** place[share] * left / strongest)
    return sum((part * STEP_DOWN**i for i, part in enumerate(sorted(parts, reverse=True))), 0.0)
