"""Models and thresholds on their topic: trained from the learning history, signed, taken up by running workers."""

import hashlib
import hmac
import os
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from detectors.behaviour import ModelRefused, Models, fit
from detectors.behaviour.drift import drifts
from detectors.facts import Entity, Feature, Observation
from shield.alerts import UPDATE_S, AlertBook
from shield.broker import Broker, EmbeddedConfig, Out
from shield.config import Config
from shield.keyed import TenantStore
from shield.metrics import Metrics
from shield.pipeline import STAGED, SignalStage, Thresholds
from shield.risk import named, risk_of
from shield.verdicts import TOPIC as VERDICTS
from shield.verdicts import decisions

TOPIC = "models"
MODELS_KEY = b"models"
THRESHOLDS_KEY = b"thresholds"
THRESHOLD_MIN = 1.5  # a single finding that is seen more often than once a month never alerts alone
THRESHOLD_MARGIN = 0.05
HOURS = "/hours"  # detectors of a forest's hourly vectors
AGGREGATES = frozenset({"service", "tenant"})  # what is counted for a service or town as a whole is one matter
LINKING = frozenset({"user", "host", "address"})  # kinds of which many make a hub
HUB_DAYS = 14  # of the history in which links count
SEED = 20_261_124

log = structlog.get_logger()


def signing_key(config: Config) -> bytes:
    """From the environment or a file; beside an embedded broker one is made on first use. Raises LookupError."""
    given = os.environ.get(config.models.key_env)
    if given:
        return given.encode()
    if config.models.key_file:
        return Path(config.models.key_file).read_bytes().strip()
    if not isinstance(config.broker, EmbeddedConfig):
        raise LookupError(f"models are signed: set {config.models.key_env} or `models.key_file`")  # noqa: TRY004
    path = Path(config.broker.path).with_suffix(".models.key")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    return path.read_bytes().strip()


def train(features: Iterable[Feature], config: Config, fingerprints: Mapping[str, str]) -> tuple[Models, Thresholds]:
    """Calibration, forests and thresholds from the learning history. Deterministic for the same history."""
    kept: dict[tuple[str, str, str, int, float], Feature] = {}
    for feature in features:  # the last point per detector, key and day wins; the hours of forests stay apart
        hour = feature.time if feature.detector.endswith(HOURS) else 0.0
        kept[feature.tenant, feature.detector, feature.key, feature.day, hour] = feature
    history = [kept[k] for k in sorted(kept)]
    models = fit(history, learning=config.learning, seed=SEED, fingerprints=fingerprints)
    return models, thresholds(history, models, config)


def shifted(history: Sequence[Feature]) -> list[dict[str, Any]]:
    """Families whose last week differs from the weeks before: what was learned then may no longer fit."""
    last = max((feature.day for feature in history), default=0) // 7
    before = [feature for feature in history if feature.day // 7 < last]
    recent = [feature for feature in history if feature.day // 7 == last]
    return [
        {"family": d.family, "index": round(d.index, 2), "times": round(d.times, 2)}
        for d in drifts(before, recent)
        if d.shifted
    ]


def thresholds(history: Sequence[Feature], models: Models, config: Config) -> Thresholds:
    """Per tenant the risk that would have opened `budget_per_day` alerts on the calibration days (days after warm-up).

    The history is played through the alert book as live, with every finding that is any news at all opening an alert.
    """
    return limits_of(weighed(history, models, config), config)


class Weighed(msgspec.Struct, frozen=True):
    """The calibration days of all tenants on the common scale."""

    observed: dict[str, list[Observation]]  # tenant -> what weighs anything
    days: dict[str, int]  # tenant -> days after warm-up
    hubs: dict[str, list[str]]


def weighed(history: Sequence[Feature], models: Models, config: Config) -> Weighed:
    """Each point rated by the others."""
    days: dict[str, set[int]] = defaultdict(set)
    for feature in history:
        days[feature.tenant].add(feature.day)
    begins = {t: sorted(seen)[min(config.learning.warmup_days, len(seen) - 1)] for t, seen in days.items()}
    observed: dict[str, list[Observation]] = {tenant: [] for tenant in days}
    for feature in history:
        if feature.day < begins[feature.tenant] or not feature.key or feature.detector.endswith(HOURS):
            continue
        if feature.family.startswith(STAGED):
            continue
        profile = feature.detector.split("/", 1)[0] if "/" in feature.detector else ""  # a rule has none
        rate = models.rate(feature.detector, feature.values, feature.group, profile, own=True)
        if risk_of(rate, 0) > 0:
            observed[feature.tenant].append(_observation(feature, rate))
    return Weighed(
        observed,
        {t: sum(d >= begins[t] for d in seen) for t, seen in days.items()},
        hubs_of(history, config.alerts.hub_links_max),
    )


def hubs_of(history: Iterable[Feature], links_max: int) -> dict[str, list[str]]:
    """Tenant -> entities that were lately linked to more than so many others of one kind: accounts, hosts or addresses.

    Domains and the like do not count, and a year makes a hub of everybody.
    """
    linked: dict[tuple[str, Entity], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    kept = list(history)
    newest = max((feature.day for feature in kept), default=0)
    for feature in kept:
        if feature.day <= newest - HUB_DAYS:
            continue
        for entity in feature.entities:
            if entity[0] in AGGREGATES:
                continue
            for kind, name in feature.entities:
                if kind in LINKING and (kind, name) != entity:
                    linked[feature.tenant, entity][kind].add(name)
    hubs: dict[str, list[str]] = defaultdict(list)
    for (tenant, entity), others in sorted(linked.items()):
        if max(map(len, others.values())) > links_max:
            hubs[tenant].append(named(entity))
    return dict(hubs)


def limits_of(history: Weighed, config: Config, book: type[AlertBook] = AlertBook) -> Thresholds:
    """What the budget means for a weighed history."""
    found: dict[str, float] = {}
    for tenant, observations in history.observed.items():
        allowed = int(config.alerts.budget_per_day * history.days[tenant])
        opened = book(tenant, TenantStore(tenant), config.alerts)
        ranked = sorted(_risks(observations, frozenset(history.hubs.get(tenant, ())), opened), reverse=True)
        level = ranked[allowed] if allowed < len(ranked) else 0.0
        found[tenant] = max(THRESHOLD_MIN, level + THRESHOLD_MARGIN)
    if found:
        found["*"] = max(found.values())
    return Thresholds(found, history.hubs, config.alerts.budget_per_day)


def _risks(observations: list[Observation], hubs: frozenset[str], book: AlertBook) -> list[float]:
    """The highest risk of each alert that these observations open in a new book."""
    risks: dict[str, float] = {}
    last = 0.0
    for observation in sorted(observations, key=lambda o: (o.time, o.detector, o.entities, o.item)):
        sent = book.weigh([observation], hubs, THRESHOLD_MIN)
        if observation.time > last + UPDATE_S:
            last = observation.time
            sent += book.updates(last + UPDATE_S)
        for one in sent:
            risks[one.alert.id] = max(one.alert.risk, risks.get(one.alert.id, 0.0))
    for one in book.updates(last + 2 * UPDATE_S):
        risks[one.alert.id] = max(one.alert.risk, risks.get(one.alert.id, 0.0))
    return list(risks.values())


def _observation(feature: Feature, rate: float | None) -> Observation:
    """What a point of the history weighed, without words and lines."""
    return Observation(
        *(feature.detector, feature.family, feature.tenant, feature.entities, feature.time, feature.values, rate),
        *(feature.item, (), {}, (), ()),
    )


def records(models: Models, limits: Thresholds, key: bytes, now: float) -> list[Out]:
    body = msgspec.msgpack.encode(limits)
    signed = hmac.new(key, body, hashlib.sha256).digest() + body
    return [Out(TOPIC, MODELS_KEY, models.encode(key), now), Out(TOPIC, THRESHOLDS_KEY, signed, now)]


class ModelShelf:
    """The newest models that carry our signature; anything else is refused and logged."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._seen: dict[bytes, int] = {}
        self._decided = (0, 0)

    def refresh(self, broker: Broker, stage: SignalStage, metrics: Metrics) -> None:
        """Take up what is new on the topics of models and of verdicts."""
        self._decide(broker, stage)
        newest = {record.key: record for record in broker.read(TOPIC)}
        for key, record in newest.items():
            if self._seen.get(key) == record.offset:
                continue
            self._seen[key] = record.offset
            try:
                if key == MODELS_KEY:
                    stage.take_models(Models.decode(record.value, self._key))
                    digest = hashlib.sha256(record.value).hexdigest()
                    metrics.models({"behaviour": (str(record.offset), digest[:12], record.time)})
                elif key == THRESHOLDS_KEY:
                    stage.take_thresholds(open_thresholds(record.value, self._key))
            except ModelRefused as error:
                log.error("a model was refused", reason=str(error))  # noqa: TRY400 - the reason says all

    def _decide(self, broker: Broker, stage: SignalStage) -> None:
        records = list(broker.read(VERDICTS))
        newest = (len(records), records[-1].offset if records else 0)
        if newest != self._decided:
            self._decided = newest
            stage.take_decisions(decisions(records, self._key))


def open_thresholds(signed: bytes, key: bytes) -> Thresholds:
    digest, body = signed[:32], signed[32:]
    if not hmac.compare_digest(digest, hmac.new(key, body, hashlib.sha256).digest()):
        raise ModelRefused("the thresholds do not carry our signature")
    return msgspec.msgpack.decode(body, type=Thresholds)


def learning_history(broker: Broker) -> Iterator[Feature]:
    for record in broker.read("features"):
        yield msgspec.msgpack.decode(record.value, type=Feature)
