"""From a strength to an observation: learning history, rate, sentence. The same for every primitive."""

from collections.abc import Callable, Mapping

import msgspec

from detectors.behaviour import sentences
from detectors.behaviour.counters import AGAIN_MINUTES, MINUTES_PER_DAY, Told, at_least, grew
from detectors.behaviour.folding import ENTITIES_MAX, KINDS, SEPARATOR, earliest
from detectors.behaviour.links import Links
from detectors.behaviour.models import Learning, Models
from detectors.behaviour.profiles import SPANS, WINDOWS, Counter, Profile, Texts
from detectors.behaviour.tables import IDLE_S, PROFILES_MAX, Days, Held, Tables
from detectors.facts import EVIDENCE_MAX, Entity, Fact, Feature, Observation, Reason, Store, Table

NUMBERS = ("actual", "typical", "window", "keys", "share", "days", "details")  # that sentences may name
FINE = 10.0  # parts of a counter's minimum that are told apart


class Meter(msgspec.Struct, frozen=True):
    """One counter in one window."""

    counter: Counter
    window: str
    reading: str  # bytes_24h
    detector: str  # outbound_volume/bytes_24h
    minutes: int  # per bucket
    buckets: int

    @property
    def unit(self) -> float:
        """Of the logarithm: bytes far below the minimum say nothing, and whole bytes would flatten what is above it."""
        return self.counter.min / FINE if self.counter.unit == "bytes" else 1.0

    def oldest(self, minute: int) -> int:
        """The first bucket of the window that ends with this minute."""
        return minute // self.minutes - self.buckets + 1


class Stream:
    """Meters that read the same facts in the same way."""

    def __init__(self, meters: list[Meter]) -> None:
        first = meters[0].counter
        self.name = first.name
        self.of, self.measure, self.known, self.foreign = _stream_of(first)
        self.meters = meters
        self._now = -1
        self._starts: list[tuple[Meter, int]] = []
        self.first = self.last = 0

    def at(self, minute: int) -> list[tuple[Meter, int]]:
        """The meters with the first minute of their windows that end with this one; `first` and `last` of them all."""
        if minute != self._now:  # the same for nearly all keys of a step
            self._now = minute
            self._starts = [(meter, meter.oldest(minute) * meter.minutes) for meter in self.meters]
            self.first, self.last = min(s for _, s in self._starts), max(s for _, s in self._starts)
        return self._starts


class Plan:
    """A profile ready to observe."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.fingerprint = profile.fingerprint()
        self.kind = KINDS.get(profile.keys[0], "value")
        self.item_kind = KINDS.get(profile.items[0], "value") if profile.items else "value"
        self.meters = {
            f"{c.name}_{w}": Meter(c, w, f"{c.name}_{w}", f"{profile.id}/{c.name}_{w}", *WINDOWS[w])
            for c in profile.counters
            for w in c.windows
        }
        streams: dict[tuple[str, ...], list[Meter]] = {}
        for meter in self.meters.values():
            streams.setdefault(_stream_of(meter.counter), []).append(meter)
        self.streams = [Stream(meters) for meters in streams.values()]
        self.new_items = profile.first_seen is not None or any(c.of != "all" for c in profile.counters)
        self.rare_items = any(c.of == "rare" for c in profile.counters)
        self.held_items = profile.first_seen is not None or any(c.of == "rare" for c in profile.counters)
        self.parts = len(profile.keys)
        self.link_minutes = int(profile.link.expires[:-1]) * SPANS[profile.link.expires[-1]] if profile.link else 0
        self.feeds: list[tuple[Plan, list[tuple[int, str]]]] = []  # forest plans with (counter number, measure)

    def first_part(self, key: str) -> str:
        """The first of the key's fields, which has the class."""
        return key if self.parts == 1 else key.partition(SEPARATOR)[0]


def _stream_of(counter: Counter) -> tuple[str, str, str, str]:
    return counter.of, counter.measure, counter.known or "", counter.foreign or ""


class Step(msgspec.Struct):
    """What is common to one call of `observe`."""

    store: Store
    held: Held
    minute: int
    links: Links
    observations: list[Observation]
    features: list[Feature]

    def tables(self, name: str) -> Tables:
        return self.held.of(self.store, name)

    def listed(self, name: str) -> Table[int]:
        return self.held.list_of(self.store, name)


class Subject(msgspec.Struct):
    """One key in one step."""

    plan: Plan
    key: str
    group: str  # calibration class
    role: str  # class by the inventory, whether calibrated apart or not
    facts: list[Fact]
    now: int  # minute
    days: int  # learning time of the profile

    @property
    def entities(self) -> tuple[Entity, ...]:
        first = self.facts[0].entities
        if len(self.facts) == 1 or all(fact.entities == first for fact in self.facts):
            return first
        return tuple(sorted({e for fact in self.facts for e in fact.entities})[:ENTITIES_MAX])


class Words(msgspec.Struct):
    """What is said about one strength."""

    item: str
    reasons: tuple[Reason, ...]
    texts: Texts
    numbers: Mapping[str, Mapping[str, str]]  # language -> what the sentence names


class Teller:
    """Decides what is news, rates it and says it."""

    def __init__(self, learning: Learning, models: Models | None) -> None:
        self.learning = learning
        self.models = models

    def rates(self, plan: Plan, days: int) -> bool:
        """Whether what is unusual may be rated: the tenant is past its warm-up, the models know this profile."""
        if self.models is None or days <= self.learning.warmup_days:
            return False
        known = self.models.fingerprints.get(plan.profile.id, plan.fingerprint)
        return known == plan.fingerprint and self.models.ready(plan.profile.id)

    def say(
        self,
        step: Step,
        subject: Subject,
        told: Told,
        *,
        detector: str,
        strength: tuple[float, ...],
        words: Callable[[], Words],
    ) -> None:
        """An observation, unless as much was said within a day. `words` is called only when it is."""
        now, day = subject.now, subject.now // MINUTES_PER_DAY
        recent = now - told.minute < AGAIN_MINUTES and len(told.strength) == len(strength)
        news = not recent or grew(strength, told.strength)
        if told.day == day and not news:
            return  # nearly always
        entities = step.links.behind(subject.entities, now, ENTITIES_MAX)
        profile, said = subject.plan.profile, words()
        if told.day != day or (grew(strength, told.featured) and sum(strength) > sum(told.featured)):
            told.day, told.featured = day, strength
            step.features.append(
                Feature(
                    *(step.store.tenant, detector, subject.key, day, now * 60.0, strength, profile.family),
                    *(entities, subject.group, said.item),
                )
            )
        if not news:
            return
        rate = self._rate(subject, detector, strength)
        if recent:
            if rate is not None and told.rate is not None:
                # stronger in every component is never more frequent, whatever the fitted tail says
                rate = min(rate, told.rate) if at_least(strength, told.strength) else rate
                told.rate = min(rate, told.rate)
            else:
                told.rate = rate
            told.strength = tuple(max(pair) for pair in zip(strength, told.strength, strict=True))
        else:
            told.strength, told.rate = strength, rate
        told.minute = now
        step.observations.append(
            Observation(
                detector=detector,
                family=profile.family,
                tenant=step.store.tenant,
                entities=entities,
                time=max(fact.last for fact in subject.facts),
                strength=strength,
                rate=rate,
                item=said.item,
                reasons=said.reasons,
                sentence=_sentence(subject, said),
                evidence=earliest(subject.facts, EVIDENCE_MAX),
                attack=profile.attack,
                group=subject.group,
            )
        )

    def _rate(self, subject: Subject, detector: str, strength: tuple[float, ...]) -> float | None:
        if self.models is None or not self.rates(subject.plan, subject.days):
            return None
        return self.models.rate(detector, strength, subject.group, subject.plan.profile.id)


class Calendar:
    """The learning time of one tenant: its days, and per profile those since its first facts."""

    def __init__(self, store: Store) -> None:
        self._table: Table[Days] = store.table("behaviour.days", Days, entries_max=PROFILES_MAX, idle_max_s=IDLE_S)

    def begin(self, step: Step, plans: Mapping[str, Plan]) -> None:
        """A step that has facts. On a new day every profile that has begun is a day older, rare ones from the first."""
        day = step.minute // MINUTES_PER_DAY
        if (tenant := self._table.get("")) is not None and tenant.last >= day:
            return
        self._table.put("", Days(day, tenant.seen + 1 if tenant else 1), step.minute * 60.0)
        for name, plan in plans.items():
            if plan.profile.rare or self._table.get(name):
                self._mark(step, plan, day)

    def of(self, step: Step, plan: Plan) -> int:
        """Days of a profile that has facts now, this one included."""
        days = self._table.get(plan.profile.id)
        return days.seen if days else self._mark(step, plan, step.minute // MINUTES_PER_DAY)

    def seen(self, name: str) -> Days | None:
        return self._table.get(name)

    def _mark(self, step: Step, plan: Plan, day: int) -> int:
        profile = plan.profile
        held = self._table.get(profile.id)
        days = Days(day, held.seen + 1 if held else 1)
        self._table.put(profile.id, days, step.minute * 60.0)
        step.features.append(Feature(step.store.tenant, profile.id, "", day, day * 86_400.0, (), profile.family))
        return days.seen


def _sentence(subject: Subject, said: Words) -> dict[str, str]:
    key = shown(subject.key)
    german, english = sentences.who(subject.plan.kind, subject.role, key)
    common = dict.fromkeys(NUMBERS, "") | {"key": key, "item": shown(said.item)}
    return sentences.told(
        said.texts,
        common | {"who": german} | dict(said.numbers["de"]),
        common | {"who": english} | dict(said.numbers["en"]),
    )


def shown(name: str) -> str:
    return name.replace(SEPARATOR, " → ")
