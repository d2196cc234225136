"""How far learning is, per tenant and family, and what another budget would have meant: from the learning history alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from detectors.behaviour import Learning, Models, Profile
from detectors.facts import Feature, Observation
from shield.alerts import AlertBook
from shield.config import Config
from shield.keyed import TenantStore
from shield.models import HOURS, thresholds
from shield.pipeline import Thresholds
from shield.risk import risk_of

RECENT_DAYS = 7  # over which points per day are averaged
RULES = "rules"  # all rules together, as a family

State = Literal["no data", "warm-up", "calibrating", "untrained", "live"]
ORDER: tuple[State, ...] = ("no data", "warm-up", "calibrating", "untrained", "live")


class Learned(msgspec.Struct, frozen=True):
    """One profile of one tenant, or a family: then of the profile that is furthest behind."""

    tenant: str
    family: str
    state: State
    days: int  # whole days seen
    days_left: int  # until it can be live
    points_per_day: float  # readings stronger than before, lately
    weighty_per_day: float  # those of them that weigh something
    last_finding: str  # in an alert; empty where there was none
    profiles: dict[str, State] = {}


class Preview(msgspec.Struct, frozen=True):
    """What a budget would have meant for one tenant on its own learning history."""

    tenant: str
    days: int
    budget_per_day: float
    threshold: float
    alerts_per_day: float
    threshold_now: float
    alerts_per_day_now: float


def learned(
    history: Sequence[Feature],
    models: Models | None,
    profiles: Mapping[str, Profile],
    learning: Learning,
    findings: Mapping[tuple[str, str], str],
) -> list[Learned]:
    """Per tenant and family. `findings` are the times of the last ones in alerts."""
    days, newest = _days(history)
    points: Counter[tuple[str, str]] = Counter()
    weighty: Counter[tuple[str, str]] = Counter()
    for feature in history:
        recent = newest[feature.tenant] - RECENT_DAYS <= feature.day < newest[feature.tenant]
        if recent and feature.key and not feature.detector.endswith(HOURS):
            place = feature.tenant, _family(feature)
            points[place] += 1
            weighty[place] += models is not None and risk_of(_rate(models, feature), 0) > 0
    families: dict[str, list[str]] = defaultdict(list)
    for name, profile in sorted(profiles.items()):
        families[profile.family].append(name)
    made = []
    for tenant in sorted(newest):
        over = min(RECENT_DAYS, len([d for d in days[tenant, ""] if d < newest[tenant]])) or 1
        for family, names in [*sorted(families.items()), (RULES, [""])]:
            found = {}
            for name in names:
                seen = sum(day < newest[tenant] for day in days.get((tenant, name), ()))  # today is not over
                found[name] = (_state(seen, tenant, name, days, models, profiles, learning), seen)
            state, seen = min(found.values(), key=lambda one: (ORDER.index(one[0]) or len(ORDER), one[1]))
            needed = learning.warmup_days + learning.calibration_days
            made.append(
                Learned(
                    tenant=tenant,
                    family=family,
                    state=state,
                    days=seen,
                    days_left=0 if state == "live" else max(0, needed - seen),
                    points_per_day=round(points[tenant, family] / over, 1),
                    weighty_per_day=round(weighty[tenant, family] / over, 1),
                    last_finding=findings.get((tenant, family), ""),
                    profiles={name: one[0] for name, one in found.items() if name},
                )
            )
    return made


def last_findings(alerts: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """(tenant, family) -> when it last had a part in an alert."""
    found: dict[tuple[str, str], str] = {}
    for doc in alerts:
        for row in (doc["shield"].get("explanation") or {}).get("observations") or []:
            family = RULES if row["kind"] != "profile" else row["family"]
            place = doc["organization"]["id"], family
            found[place] = max(found.get(place, ""), row["last_seen"])
    return found


def previews(history: Sequence[Feature], models: Models, config: Config, budget_per_day: float) -> list[Preview]:
    """Thresholds for a budget and for the configured one, and the alerts that they would have opened."""
    other = msgspec.structs.replace(
        config, alerts=msgspec.structs.replace(config.alerts, budget_per_day=budget_per_day)
    )
    then, now = thresholds(history, models, other), thresholds(history, models, config)
    days, _ = _days(history)
    opened_then, opened_now = (_opened(history, models, limits, config, days) for limits in (then, now))
    found = []
    for tenant in sorted({feature.tenant for feature in history}):
        calibrated = max(1, len(days[tenant, ""]) - models.learning.warmup_days)
        found.append(
            Preview(
                tenant=tenant,
                days=calibrated,
                budget_per_day=budget_per_day,
                threshold=round(then.risk[tenant], 2),
                alerts_per_day=round(opened_then[tenant] / calibrated, 2),
                threshold_now=round(now.risk[tenant], 2),
                alerts_per_day_now=round(opened_now[tenant] / calibrated, 2),
            )
        )
    return found


def newest_points(features: Iterable[Feature]) -> list[Feature]:
    """Of equal tenant, detector, key and day the last, as training reads them."""
    kept: dict[tuple[str, str, str, int, float], Feature] = {}
    for feature in features:
        hour = feature.time if feature.detector.endswith(HOURS) else 0.0
        kept[feature.tenant, feature.detector, feature.key, feature.day, hour] = feature
    return [kept[place] for place in sorted(kept)]


def _opened(
    history: Sequence[Feature],
    models: Models,
    limits: Thresholds,
    config: Config,
    days: Mapping[tuple[str, str], set[int]],
) -> Counter[str]:
    """Tenant -> alerts that the history opens, played through the alert book as live."""
    warmup = models.learning.warmup_days
    begins = {t: sorted(seen)[min(warmup, len(seen) - 1)] for (t, p), seen in days.items() if not p}
    books = {tenant: AlertBook(tenant, TenantStore(tenant), config.alerts) for tenant in begins}
    opened: Counter[str] = Counter()
    for feature in sorted(history, key=lambda f: (f.time, f.detector, f.entities, f.item)):
        if feature.day < begins[feature.tenant] or not feature.key or feature.detector.endswith(HOURS):
            continue
        rate = _rate(models, feature)
        if risk_of(rate, 0) <= 0:
            continue
        hubs = frozenset(limits.hubs.get(feature.tenant, ()))
        sent = books[feature.tenant].weigh([_observation(feature, rate)], hubs, limits.risk[feature.tenant])
        opened[feature.tenant] += sum(one.kind == "alert.created" for one in sent)
    return opened


def _observation(feature: Feature, rate: float | None) -> Observation:
    return Observation(
        detector=feature.detector,
        family=feature.family,
        tenant=feature.tenant,
        entities=feature.entities,
        time=feature.time,
        strength=feature.values,
        rate=rate,
        item=feature.item,
        reasons=(),
        sentence={},
        evidence=(),
        attack=(),
    )


def _days(history: Iterable[Feature]) -> tuple[dict[tuple[str, str], set[int]], dict[str, int]]:
    """(tenant, profile; empty for all) -> days seen, and the newest day of each tenant."""
    days: dict[tuple[str, str], set[int]] = defaultdict(set)
    newest: dict[str, int] = {}
    for feature in history:
        days[feature.tenant, ""].add(feature.day)
        newest[feature.tenant] = max(feature.day, newest.get(feature.tenant, feature.day))
        if not feature.key:
            days[feature.tenant, feature.detector.split("/", 1)[0]].add(feature.day)
    return days, newest


def _state(
    seen: int,
    tenant: str,
    name: str,
    days: Mapping[tuple[str, str], set[int]],
    models: Models | None,
    profiles: Mapping[str, Profile],
    learning: Learning,
) -> State:
    if not days.get((tenant, name)):
        return "no data"
    if seen < learning.warmup_days:
        return "warm-up"
    if models is not None and models.ready(name):
        fingerprint = profiles[name].fingerprint() if name else ""
        return "live" if models.fingerprints.get(name, fingerprint) == fingerprint else "untrained"
    return "calibrating" if seen < learning.warmup_days + learning.calibration_days else "untrained"


def _family(feature: Feature) -> str:
    return RULES if ":" in feature.family else feature.family


def _rate(models: Models, feature: Feature) -> float | None:
    return models.rate(feature.detector, feature.values, feature.group, feature.detector.split("/", 1)[0])
