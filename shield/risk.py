"""Risk of one entity: observations of different families added up, each on the common scale, fading over a day.

The method (weights, decay, floor, roll-out discount) is the measured design of docs/architecture.md, "Behaviour".
"""

import math

import msgspec

from detectors.facts import Entity, Evidence, Observation, Reason

FULL_S = 3600.0  # full weight
GONE_S = 86_400.0  # no weight any more
FADE_FROM = 0.7
STEP_DOWN = 0.7  # the i-th strongest family counts 0.7^i
RISK_MIN = 0.3  # weaker observations are no news
SEEN_MAX = 64  # families remembered per entity


class Finding(msgspec.Struct):
    """One detector's part in an alert."""

    detector: str
    family: str
    kind: str  # rule | correlation | profile
    risk: float
    rate: float | None
    first: float
    last: float
    count: int
    item: str
    entities: tuple[Entity, ...]
    sentence: dict[str, str]
    reasons: tuple[Reason, ...]
    evidence: list[Evidence]
    attack: tuple[str, ...]
    extra: dict[str, str] = {}
    minute: int = 0  # of the newest evidence line: one line a minute, so that batch cuts do not show


class Booked(msgspec.Struct, array_like=True):
    """The strongest recent observation of one family on one entity."""

    finding: Finding
    shown: bool = False  # already in an alert: counts half when the entity's alert is to be opened again


Book = dict[str, Booked]  # family -> strongest


def risk_of(rate: float | None, spread: int) -> float:
    """R = -log10 λ less the roll-out discount log10(1 + c); 0 where nothing was learned or it is no news."""
    if rate is None or rate <= 0.0:
        return 0.0
    risk = -math.log10(rate) - math.log10(1 + spread)
    return risk if risk > RISK_MIN else 0.0


def weight(age_s: float) -> float:
    """1 for an hour, then falling linearly from 0.7 to nothing at a day."""
    if age_s <= FULL_S:
        return 1.0
    if age_s >= GONE_S:
        return 0.0
    return FADE_FROM * (GONE_S - age_s) / (GONE_S - FULL_S)


def book(held: Book, finding: Finding) -> Book:
    """A book with the finding in it if it now weighs more than what stands there for its family; else the same book."""
    family, now = finding.family, finding.last
    old = held.get(family)
    if old is not None and old.finding.risk * weight(now - old.finding.last) >= finding.risk:
        return held
    kept = {f: b for f, b in held.items() if now - b.finding.last < GONE_S and f != family}
    if len(kept) >= SEEN_MAX:
        kept.pop(min(kept, key=lambda f: kept[f].finding.risk))
    kept[family] = Booked(finding)
    return kept


def total(held: Book, now: float, *, shown_weight: float = 1.0) -> tuple[float, dict[str, float]]:
    """(risk, share per family); shares sum to 1 where there is any risk."""
    parts = sorted(
        (
            (b.finding.risk * weight(now - b.finding.last) * (shown_weight if b.shown else 1.0), family)
            for family, b in held.items()
        ),
        reverse=True,
    )
    weighed = {family: part * STEP_DOWN**i for i, (part, family) in enumerate(parts) if part > 0}
    risk = sum(weighed.values())
    return risk, {family: part / risk for family, part in weighed.items()} if risk else {}


def named(entity: Entity) -> str:
    return f"{entity[0]}:{entity[1]}"


def entities_of(observation: Observation, hubs: frozenset[str]) -> list[str]:
    """The entities an observation is booked on: hubs only when there is nothing else."""
    names = [named(e) for e in observation.entities]
    return [n for n in names if n not in hubs] or names
