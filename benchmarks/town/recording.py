"""A scan recorded once and scored again in seconds: what detectors said is kept, what is made of it (rates, thresholds,
alerts) is worked out anew for every variant.
"""

import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from benchmarks.town import scoring
from detectors.behaviour import Models, fit
from detectors.behaviour.models import ANY
from detectors.facts import Fact, Feature, Observation
from detectors.sigma import Rule
from shield import roles
from shield.alerts import AlertBook, OpenAlert, Sent
from shield.broker import Partition
from shield.config import Config
from shield.document import document
from shield.keyed import TenantStore
from shield.models import HOURS, Weighed, limits_of, weighed
from shield.pipeline import SignalStage, Tenant
from shield.risk import Book, total
from shield.scan import Scan

Without = Literal["", "scale", "tail"]

SIGNED_WITH = b"a recording stays on one machine"
FOREST = "/forest"


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call of a tenant's alert book."""

    kind: Literal["direct", "count", "weigh", "updates"]
    tenant: str
    now: float
    rule: str = ""
    fact: Fact | None = None
    observations: tuple[Observation, ...] = ()


class Recording(msgspec.Struct, frozen=True):
    """Everything behind the rates: learning history without the hours of forests, forests, and the live days."""

    features: list[Feature]
    models: bytes
    calls: list[Call]
    counts: dict[str, float]

    def trained(self) -> Models:
        return Models.decode(self.models, SIGNED_WITH)


class _Recorder:
    """An alert book that notes what it was asked."""

    def __init__(self, book: AlertBook, tenant: str, calls: list[Call]) -> None:
        self._book = book
        self._tenant = tenant
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._book, name)

    def direct(self, fact: Fact, rule: Rule, rate: float | None = None) -> list[Sent]:
        self._calls.append(Call("direct", self._tenant, fact.last, rule.id, fact))
        return self._book.direct(fact, rule, rate)

    def count(self, fact: Fact, rule: Rule) -> None:
        self._calls.append(Call("count", self._tenant, fact.last, rule.id, fact))
        self._book.count(fact, rule)

    def weigh(self, observations: Sequence[Observation], hubs: frozenset[str], threshold: float | None) -> list[Sent]:
        if observations:
            self._calls.append(Call("weigh", self._tenant, observations[-1].time, "", None, tuple(observations)))
        return self._book.weigh(observations, hubs, threshold)

    def updates(self, now: float) -> list[Sent]:
        self._calls.append(Call("updates", self._tenant, now))
        return self._book.updates(now)


class _Stage(SignalStage):
    calls: list[Call]

    def _tenant(self, partition: Partition, name: str) -> Tenant:
        found = super()._tenant(partition, name)
        if not isinstance(found._book, _Recorder):  # noqa: SLF001 - the only place where it is made
            found._book = _Recorder(found._book, name, self.calls)  # type: ignore[assignment]  # noqa: SLF001
        return found


class _Scan(Scan):
    features: list[Feature]

    def _learned(self) -> None:
        self.features = [f for f in self._history if not f.detector.endswith(HOURS)]
        super()._learned()


def record(
    config: Config, live_from: float, on_alert: Callable[[str, bytes], None] = lambda _kind, _document: None
) -> Recording:
    """One scan of files, as `shield scan` makes it."""
    begun = time.process_time()
    raw, made = roles.stages(msgspec.structs.replace(config, learn_until=None), future_s=float("inf"))
    stage = _Stage(made.config, made.rules, made.behaviour, live_from)
    stage.calls = []
    scan = _Scan(config, raw, stage, on_alert)
    scan.run(now=time.time(), learn_until=live_from)
    models = stage.behaviour.models
    assert models is not None
    calls = _without_idle(stage.calls)
    counts = {
        "lines": scan.tally.lines,
        "unreadable": sum(scan.tally.dead.values()),
        "observations": sum(scan.tally.observations.values()),
        "cpu_s": time.process_time() - begun,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return Recording(scan.features, models.encode(SIGNED_WITH), calls, counts)


def _without_idle(calls: Iterable[Call]) -> list[Call]:
    """Of calls that only ask for updates, one in ten minutes: nothing happens in between."""
    kept: list[Call] = []
    asked: dict[str, float] = {}
    for call in calls:
        if call.kind == "updates" and call.now - asked.get(call.tenant, 0.0) < 600.0:
            continue
        if call.kind == "updates":
            asked[call.tenant] = call.now
        else:
            asked.pop(call.tenant, None)
        kept.append(call)
    return kept


class Rated(msgspec.Struct, frozen=True):
    """A recording on the scale of its models: what is the same for all variants."""

    models: Models
    history: Weighed
    calls: list[Call]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """What is made of a recording in another way than by default."""

    without_families: frozenset[str] = frozenset()
    book: type[AlertBook] = AlertBook
    hubs: bool = True


class WithoutRollout(AlertBook):
    """What many show on one day weighs as much as what one shows."""

    def _spread_of(self, observation: Observation, names: list[str]) -> int:  # noqa: ARG002
        return 0

    def _rollout(self, observation: Observation, now: float) -> None:  # noqa: ARG002
        return None


class WithoutReopening(AlertBook):
    """After an alert its entities are quiet, whatever comes."""

    def _escalates(self, alert: OpenAlert, observation: Observation, risk: float, again: float) -> bool:  # noqa: ARG002
        return False


class StrongestOnly(AlertBook):
    """The risk of an entity is that of its strongest family."""

    @staticmethod
    def _total(held: Book, now: float, *, shown_weight: float = 1.0) -> tuple[float, dict[str, float]]:
        _, shares = total(held, now, shown_weight=shown_weight)
        if not shares:
            return 0.0, {}
        first = max(shares, key=lambda family: shares[family])
        return total({first: held[first]}, now, shown_weight=shown_weight)


STEPS: dict[str, Variant] = {
    "roll-out discount": Variant(book=WithoutRollout),
    "re-opening": Variant(book=WithoutReopening),
    "adding up": Variant(book=StrongestOnly),
    "hubs": Variant(hubs=False),
}
CALIBRATION: tuple[Without, ...] = ("scale", "tail")  # steps of calibration: each needs its own rates


def rated(recording: Recording, config: Config, without: Without = "") -> Rated:
    """Calibration anew, one of its steps left out or none; forests and what they say stay as they were recorded."""
    trained = recording.trained()
    models = fit(recording.features, learning=trained.learning, seed=0, fingerprints=trained.fingerprints)
    of_forests = {place: points for place, points in trained.points.items() if place[0].endswith(FOREST)}
    fields = {name: getattr(models, name) for name in models.__struct_fields__}
    fields |= {"points": models.points | of_forests, "forests": trained.forests}
    if without:  # without a tail there is nothing to scale either
        fields["scales"] = {}
    models = _Counting(**fields) if without == "tail" else Models(**fields)
    history = weighed(recording.features, models, msgspec.structs.replace(config, learning=trained.learning))
    calls = [
        msgspec.structs.replace(call, observations=tuple(_rated(o, models) for o in call.observations))
        if call.observations
        else call
        for call in recording.calls
    ]
    return Rated(models, history, calls)


class _Counting(Models, frozen=True, eq=False):
    """Rates by counting alone: what was never seen is as rare as what was seen once."""

    def rate(
        self, detector: str, strength: tuple[float, ...], group: str = ANY, profile: str = "", *, own: bool = False
    ) -> float | None:
        if not self.ready(profile):
            return None
        points = self.points.get((detector, group))
        if points is None or points.ndim < 2 or points.shape[1] != len(strength):
            return 1.0 / self.span(profile).tenant_days
        seen = int(np.count_nonzero(np.all(points >= np.asarray(strength), axis=1)))
        return max(1, seen - own) / self.span(profile).tenant_days


def replayed(
    one: Rated,
    config: Config,
    rules: Mapping[str, Rule],
    variant: Variant = Variant(),  # noqa: B008 - immutable
) -> list[scoring.Alert]:
    """Thresholds anew, and all revisions of alerts as the scorer reads them."""
    left_out = variant.without_families
    history = msgspec.structs.replace(
        one.history,
        observed={t: [o for o in found if o.family not in left_out] for t, found in one.history.observed.items()},
        hubs=one.history.hubs if variant.hubs else {},
    )
    limits = limits_of(history, config, variant.book)
    hubs = {tenant: frozenset(names) for tenant, names in limits.hubs.items()}
    books = {t: variant.book(t, TenantStore(t), config.alerts) for t in {c.tenant for c in one.calls}}
    revisions = []
    for call in one.calls:
        book, sent = books[call.tenant], list[Sent]()
        if call.kind == "updates":
            sent = book.updates(call.now)
        elif call.kind == "weigh":
            kept = [o for o in call.observations if o.family not in left_out]
            threshold = limits.risk.get(call.tenant, limits.risk.get("*"))
            sent = book.weigh(kept, hubs.get(call.tenant, frozenset()), threshold)
        elif call.fact is not None and call.kind == "direct":
            sent = book.direct(call.fact, rules[call.rule], one.models.rate(call.rule, (1.0,)))
        elif call.fact is not None:
            book.count(call.fact, rules[call.rule])
        revisions += [scoring.read(document(alert, rules)) for alert in sent]
    return revisions


def _rated(observation: Observation, models: Models) -> Observation:
    """With the rate of these models. Where none was given the profile had not learned enough."""
    name = observation.detector
    profile = name.split("/", 1)[0] if "/" in name else ""
    if profile and observation.rate is None:
        return observation
    rate = models.rate(name, observation.strength, observation.group, profile)
    return msgspec.structs.replace(observation, rate=rate)
