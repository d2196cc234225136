"""The behaviour detector: folds facts into keyed state and says what is stronger than a key ever was.

State moves in steps of event time and in the order of (profile, key, minute, item), so neither batches nor the order of
arrival change what is said. Nothing is rated before enough days were seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from detectors.behaviour import first_seen, sentences
from detectors.behaviour.counters import (
    AGAIN_MINUTES,
    MINUTES_PER_DAY,
    Told,
    Window,
    add,
    add_item,
    at_least,
    grew,
    reading,
    roll,
    strength_of,
)
from detectors.behaviour.folding import ENTITIES_MAX, KINDS, SEPARATOR, Folding, earliest, merged
from detectors.behaviour.inventory import Classes, Inventory
from detectors.behaviour.models import ANY, FOREST, HOURS, Learning, Models, score_strength
from detectors.behaviour.profiles import WINDOWS, Counter, Profile, Texts, load_profiles
from detectors.facts import EVIDENCE_MAX, Entity, Evidence, Fact, Feature, Located, Observation, Reason, Store, Table

KEYS_MAX = 100_000  # per profile and tenant
OUTSIDE_KEYS_MAX = 50_000
ITEMS_MAX = 200_000  # items with their number of holders, per profile and tenant
IDLE_S = 60 * 86_400.0
OUTSIDE_IDLE_S = 72 * 3600.0
PAIRS_IDLE_S = first_seen.FORGET_DAYS * 86_400.0
GROUPS_MAX = 16
PROFILES_MAX = 1000
FRESH_MINUTES = 1440  # an item counts as new for a day
HOUR_ITEMS_MAX = 1000  # distinct items counted per hour for a forest
SHRINK_HOURS = 24.0  # an entity's own mean weighs against the tenant's as its hours against these
MEAN_HOURS_MAX = 672  # four weeks: older hours fade
TOLD_COUNTERS = 3  # of a forest's finding


class Series(msgspec.Struct, array_like=True):
    """Counters of one key. `minute` is the latest seen."""

    minute: int = 0
    windows: dict[str, Window] = {}
    told: dict[str, Told] = {}


class Novelty(msgspec.Struct, array_like=True):
    pairs: first_seen.Pairs
    told: Told


class Hours(msgspec.Struct, array_like=True):
    """The open hour of one entity for a forest, and the mean of its hours so far (log-scaled)."""

    hour: int
    open: bool
    values: list[float]
    items: list[dict[str, int]]
    mean: list[float]
    hours: int = 0
    evidence: tuple[Evidence, ...] = ()
    entities: tuple[Entity, ...] = ()
    told: Told = msgspec.field(default_factory=Told)


class HourClock(msgspec.Struct, array_like=True):
    """The open hour of a forest profile, and the mean over all entities."""

    hour: int
    mean: list[float]
    hours: int = 0


class Days(msgspec.Struct, array_like=True):
    """Days on which a profile saw facts."""

    last: int
    seen: int


class FamilyStatus(msgspec.Struct, frozen=True):
    family: str
    profile: str
    state: Literal["warm-up", "calibrating", "live"]
    seen: int
    needed: int
    unit: str = "days"


class Meter(msgspec.Struct, frozen=True):
    """One counter in one window."""

    counter: Counter
    window: str
    reading: str  # bytes_24h
    detector: str  # outbound_volume/bytes_24h
    minutes: int  # per bucket


class Plan:
    """A profile ready to observe."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.fingerprint = profile.fingerprint()
        self.kind = KINDS.get(profile.keys[0], "value")
        self.meters = [
            Meter(c, w, f"{c.name}_{w}", f"{profile.id}/{c.name}_{w}", WINDOWS[w][0])
            for c in profile.counters
            for w in c.windows
        ]
        self.new_items = profile.first_seen is not None or any(c.of == "new" for c in profile.counters)
        self.feeds: list[tuple[Plan, list[tuple[int, str]]]] = []  # forest plans with (counter number, measure)


class Step(msgspec.Struct):
    """What is common to one call of `observe`."""

    store: Store
    minute: int
    observations: list[Observation]
    features: list[Feature]


class Subject(msgspec.Struct):
    """One key in one step."""

    plan: Plan
    key: str
    group: str  # calibration class
    role: str  # class by the inventory, whether calibrated apart or not
    facts: list[Fact]
    now: int  # minute
    days: int  # seen by the profile

    @property
    def entities(self) -> tuple[Entity, ...]:
        first = self.facts[0].entities
        if all(fact.entities == first for fact in self.facts):
            return first
        return tuple(sorted({e for fact in self.facts for e in fact.entities})[:ENTITIES_MAX])


class Behaviour:
    """Implements `detectors.facts.Detector` for all behaviour profiles."""

    def __init__(
        self, profiles: Mapping[str, Profile], models: Models | None, inventory: Inventory, learning: Learning
    ) -> None:
        self.profiles = dict(profiles)
        self.models = models
        self.learning = learning
        self._classes = Classes(inventory)
        self._plans = {name: Plan(profile) for name, profile in sorted(self.profiles.items())}
        for plan in self._plans.values():
            fed: dict[str, list[tuple[int, str]]] = {}
            for number, counter in enumerate(plan.profile.forest.counters if plan.profile.forest else ()):
                fed.setdefault(counter.profile, []).append((number, counter.measure))
            for name, numbers in fed.items():
                self._plans[name].feeds.append((plan, numbers))
        self._forests = [plan for plan in self._plans.values() if plan.profile.forest]
        self._folding = Folding((p for p in self.profiles.values() if not p.forest), self._classes)

    @classmethod
    def load(
        cls,
        paths: Iterable[Path],
        models: Models | None = None,
        *,
        inventory: Inventory | None = None,
        learning: Learning | None = None,
    ) -> "Behaviour":
        """Raises ProfileError with every fault of the profiles."""
        return cls(load_profiles(paths), models, inventory or Inventory(), learning or Learning())

    @property
    def fingerprints(self) -> dict[str, str]:
        """To be handed to `fit`: what was learned for a profile that has changed since is not used."""
        return {name: plan.fingerprint for name, plan in self._plans.items()}

    def facts(self, located: Located) -> list[Fact]:
        """One fact per profile, key, item, minute and step of the batch, with the earliest line as evidence."""
        return self._folding.facts(located)

    def observe(self, store: Store, minute: int, facts: Sequence[Fact]) -> tuple[list[Observation], list[Feature]]:
        """All facts of one step of one tenant; those of other detectors are passed over."""
        step = Step(store, minute, [], [])
        for plan in self._forests:
            self._close_hour(step, plan)
        own = merged([fact for fact in facts if fact.detector in self._plans])
        for name, of_profile in groupby(own, attrgetter("detector")):
            self._profile(step, self._plans[name], list(of_profile))
        return step.observations, step.features

    def status(self, store: Store, day: int) -> list[FamilyStatus]:
        """How far each profile has learned for this tenant on a day (event time // 86400)."""
        table = _days_table(store)
        needed = self.learning.warmup_days + self.learning.calibration_days
        made = []
        for name, plan in self._plans.items():
            days = table.get(name)
            seen = days.seen - (days.last >= day) if days else 0  # today is not over
            state: Literal["warm-up", "calibrating", "live"] = "live"
            if seen < self.learning.warmup_days:
                state = "warm-up"
            elif not self._rates(plan, seen + 1):
                state = "calibrating"
            made.append(FamilyStatus(plan.profile.family, name, state, seen, needed))
        return made

    # --- one profile, one key -------------------------------------------------------------------------------------

    def _profile(self, step: Step, plan: Plan, facts: list[Fact]) -> None:
        profile = plan.profile
        days = self._mark_day(step, plan, max(fact.minute for fact in facts) // MINUTES_PER_DAY)
        inside: Table[Series] = step.store.table(
            f"behaviour.{profile.id}", Series, entries_max=KEYS_MAX, idle_max_s=IDLE_S
        )
        outside: Table[Series] = step.store.table(
            f"behaviour.{profile.id}.outside", Series, entries_max=OUTSIDE_KEYS_MAX, idle_max_s=OUTSIDE_IDLE_S
        )
        novelty = self._novelty_tables(step.store, profile.id) if plan.new_items else None
        for key, of_key in groupby(facts, attrgetter("key")):
            given = sorted(of_key, key=attrgetter("minute", "item"))
            role = self._classes.of(plan.kind, key.split(SEPARATOR, 1)[0])
            subject = Subject(plan, key, role if profile.class_ else ANY, role, given, given[-1].minute, days)
            fresh: frozenset[str] = frozenset()
            if novelty is not None:
                fresh = self._news(step, subject, *novelty)
            if plan.meters:
                self._count(step, subject, outside if role == "external" else inside, fresh)
            if plan.feeds and role != "external":
                for forest, numbers in plan.feeds:
                    _feed(step, forest, numbers, subject)

    def _count(self, step: Step, subject: Subject, table: Table[Series], fresh: frozenset[str]) -> None:
        series = table.get(subject.key) or Series()
        now = subject.now = max(series.minute, subject.now)
        series.minute = now
        day = now // MINUTES_PER_DAY
        windows, facts = series.windows, subject.facts
        one_minute = facts[0].minute == facts[-1].minute  # all but late ones
        of_new = [fact for fact in facts if fact.item in fresh] if subject.plan.new_items else facts
        amounts: dict[tuple[str, str], float] = {}
        for meter in subject.plan.meters:
            counter = meter.counter
            window = windows.get(meter.reading)
            if window is None:
                window = windows[meter.reading] = Window(day)
            if window.day < day:
                roll(window, day)
            counted = facts if counter.of == "all" else of_new
            measure = counter.measure
            if measure == "distinct":
                for fact in counted:
                    add_item(window, fact.minute // meter.minutes, fact.item)
            elif one_minute and counted:
                amount = amounts.get((counter.of, measure))
                if amount is None:
                    amount = sum([f.count for f in counted] if measure == "count" else [f.value for f in counted])
                    amounts[counter.of, measure] = amount
                add(window, facts[0].minute // meter.minutes, amount)
            else:
                for fact in counted:
                    add(window, fact.minute // meter.minutes, fact.count if measure == "count" else fact.value)
            actual = reading(window, meter.window, now)
            window.top = max(window.top, actual)
            if actual < counter.min:
                continue
            strength = strength_of(actual, window.peak, counter.min)
            if strength:
                told = series.told.get(meter.reading)
                if told is None:
                    told = series.told[meter.reading] = Told()
                if self._news_worthy(told, strength, now):
                    self._tell_count(
                        step, subject, meter=meter, told=told, strength=strength, actual=actual, peak=window.peak
                    )
        table.put(subject.key, series, now * 60.0)

    def _news(
        self,
        step: Step,
        subject: Subject,
        table: Table[Novelty],
        holders: Table[first_seen.Holders],
        groups: Table[first_seen.Group],
    ) -> frozenset[str]:
        """Notes the items of a key; answers those first seen within the last day."""
        day = subject.now // MINUTES_PER_DAY
        group = groups.get(subject.group) or first_seen.Group(first_day=day)
        held = table.get(subject.key)
        changed = held is None
        if held is None:
            held = Novelty(first_seen.Pairs(day=day, first_day=day), Told())
            group.keys += 1
        pairs = held.pairs
        if pairs.day < day:
            changed = True
            for item in first_seen.begin_day(pairs, group, day):
                _release(holders, subject, item)  # counts nothing where items are not rated
        fresh = set()
        since = subject.now - FRESH_MINUTES
        rated = subject.plan.profile.first_seen is not None  # else nobody asks how many keys have an item
        for fact in subject.facts:
            known = pairs.items.get(fact.item)
            if known is not None and known[1] == pairs.day:  # nearly all: seen today already
                if known[0] > since:
                    fresh.add(fact.item)
                continue
            changed = True
            new, gone = first_seen.see(pairs, fact.item, fact.minute)
            if new and rated:
                for item in gone:
                    _release(holders, subject, item)
                place = subject.group + SEPARATOR + fact.item
                having = holders.get(place) or first_seen.Holders()
                self._tell_new(step, subject, held=held, group=group, fact=fact, holders=having.keys)
                having.keys += 1
                holders.put(place, having, subject.now * 60.0)
            if (known or (fact.minute, 0))[0] > since:
                fresh.add(fact.item)
        if changed:
            table.put(subject.key, held, subject.now * 60.0)
            groups.put(subject.group, group, subject.now * 60.0)
        return frozenset(fresh)

    # --- saying it ------------------------------------------------------------------------------------------------

    def _news_worthy(self, told: Told, strength: tuple[float, ...], now: int) -> bool:
        """Whether the strength is more than what was said today or within 24 h. Keeps `_book` off the usual path."""
        return told.day != now // MINUTES_PER_DAY or now - told.minute >= AGAIN_MINUTES or grew(strength, told.strength)

    def _book(
        self, step: Step, subject: Subject, told: Told, detector: str, strength: tuple[float, ...]
    ) -> tuple[bool, float | None]:
        """Writes the learning history; answers whether to observe, and the rate."""
        now, day = subject.now, subject.now // MINUTES_PER_DAY
        family, entities = subject.plan.profile.family, subject.entities
        if told.day != day or (grew(strength, told.featured) and sum(strength) > sum(told.featured)):
            told.day, told.featured = day, strength
            step.features.append(
                Feature(
                    step.store.tenant, detector, subject.key, day, now * 60.0, strength, family, entities, subject.group
                )
            )
        recent = bool(told.strength) and now - told.minute < AGAIN_MINUTES and len(told.strength) == len(strength)
        if recent and not grew(strength, told.strength):
            return False, None
        rate = None
        if self._rates(subject.plan, subject.days) and self.models is not None:
            rate = self.models.rate(detector, strength, subject.group, subject.plan.profile.id)
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
        return True, rate

    def _tell_count(
        self,
        step: Step,
        subject: Subject,
        *,
        meter: Meter,
        told: Told,
        strength: tuple[float, ...],
        actual: float,
        peak: float,
    ) -> None:
        wanted, rate = self._book(step, subject, told, meter.detector, strength)
        if not wanted:
            return
        counter = meter.counter
        item = (
            "" if counter.measure == "distinct" else max(subject.facts, key=lambda f: (f.value, f.count, f.item)).item
        )
        numbers = {}
        for language in ("de", "en"):
            numbers[language] = {
                "actual": sentences.amount(actual, counter.unit, language),
                "typical": sentences.amount(peak, counter.unit, language),
                "window": sentences.WINDOW_WORDS[meter.window],
            }
        seconds = WINDOWS[meter.window][0] * WINDOWS[meter.window][1] * 60.0
        reasons = (Reason(meter.reading, actual, peak, seconds, counter.unit),)
        self._tell(
            step,
            subject,
            detector=meter.detector,
            strength=strength,
            rate=rate,
            item=item,
            reasons=reasons,
            texts=counter.sentence,
            numbers=numbers,
        )

    def _tell_new(
        self, step: Step, subject: Subject, *, held: Novelty, group: first_seen.Group, fact: Fact, holders: int
    ) -> None:
        config = subject.plan.profile.first_seen
        assert config is not None
        surprise = first_seen.surprise(held.pairs, group, calendar=config.days == "calendar")
        strength = (surprise, first_seen.rarity(holders, group.keys))
        if not self._news_worthy(held.told, strength, subject.now):
            return
        detector = f"{subject.plan.profile.id}/{config.name}"
        wanted, rate = self._book(step, subject, held.told, detector, strength)
        if not wanted:
            return
        days = held.pairs.active
        peers = {"keys": str(group.keys), "share": str(holders), "days": str(days)}
        numbers = {
            language: {
                "actual": _shown(fact.item),
                "typical": f"{holders} {'von' if language == 'de' else 'of'} {group.keys}",
                **peers,
            }
            for language in ("de", "en")
        }
        reasons = (
            Reason(config.name, _shown(fact.item), f"{holders}/{group.keys}"),
            Reason("days_with_news", round(held.pairs.news, 1), float(days), unit="days"),
        )
        self._tell(
            step,
            subject,
            detector=detector,
            strength=strength,
            rate=rate,
            item=fact.item,
            reasons=reasons,
            texts=config.sentence,
            numbers=numbers,
        )

    def _tell(
        self,
        step: Step,
        subject: Subject,
        *,
        detector: str,
        strength: tuple[float, ...],
        rate: float | None,
        item: str,
        reasons: tuple[Reason, ...],
        texts: Texts,
        numbers: Mapping[str, Mapping[str, str]],
    ) -> None:
        key = _shown(subject.key)
        german, english = sentences.who(subject.plan.kind, subject.role, key)
        common = dict.fromkeys(("actual", "typical", "window", "keys", "share", "days", "details"), "")
        common |= {"key": key, "item": _shown(item)}
        told = sentences.told(
            texts, common | {"who": german} | dict(numbers["de"]), common | {"who": english} | dict(numbers["en"])
        )
        facts = subject.facts
        step.observations.append(
            Observation(
                detector=detector,
                family=subject.plan.profile.family,
                tenant=step.store.tenant,
                entities=subject.entities,
                time=max(fact.last for fact in facts),
                strength=strength,
                rate=rate,
                item=item,
                reasons=reasons,
                sentence=told,
                evidence=earliest(facts, EVIDENCE_MAX),
                attack=subject.plan.profile.attack,
                group=subject.group,
            )
        )

    def _rates(self, plan: Plan, days: int) -> bool:
        """Whether what is unusual may be rated: the tenant is past its warm-up, the models know this profile."""
        if self.models is None or days <= self.learning.warmup_days:
            return False
        known = self.models.fingerprints.get(plan.profile.id, plan.fingerprint)
        return known == plan.fingerprint and self.models.ready(plan.profile.id)

    def _mark_day(self, step: Step, plan: Plan, day: int) -> int:
        """Notes a day on which the profile saw facts; answers how many so far, this one included."""
        table = _days_table(step.store)
        days = table.get(plan.profile.id)
        if days is None or days.last < day:
            days = Days(day, days.seen + 1 if days else 1)
            table.put(plan.profile.id, days, step.minute * 60.0)
            step.features.append(
                Feature(step.store.tenant, plan.profile.id, "", day, day * 86_400.0, (), plan.profile.family)
            )
        return days.seen

    def _novelty_tables(
        self, store: Store, name: str
    ) -> tuple[Table[Novelty], Table[first_seen.Holders], Table[first_seen.Group]]:
        return (
            store.table(f"behaviour.{name}.pairs", Novelty, entries_max=KEYS_MAX, idle_max_s=PAIRS_IDLE_S),
            store.table(f"behaviour.{name}.items", first_seen.Holders, entries_max=ITEMS_MAX, idle_max_s=PAIRS_IDLE_S),
            store.table(f"behaviour.{name}.groups", first_seen.Group, entries_max=GROUPS_MAX, idle_max_s=IDLE_S),
        )

    # --- forests --------------------------------------------------------------------------------------------------

    def _close_hour(self, step: Step, plan: Plan) -> None:
        """Once the watermark has left the open hour: score all entities of that hour at once."""
        forest_config = plan.profile.forest
        assert forest_config is not None
        clocks = _clock_table(step.store, plan)
        clock = clocks.get("")
        hour = step.minute // 60
        if clock is None:
            clocks.put("", HourClock(hour, [0.0] * len(forest_config.counters)), step.minute * 60.0)
            return
        if clock.hour >= hour:
            return
        table = _hours_table(step.store, plan)
        closing = [(key, state) for key, state in sorted(table.items()) if state.open]
        size = len(forest_config.counters)
        if closing and len(clock.mean) == size:
            values = np.log1p(np.array([_hour_values(state) for _, state in closing]))
            own = np.array([state.mean for _, state in closing])
            weight = np.array([[float(state.hours)] for _, state in closing])
            usual = (own * weight + np.array(clock.mean) * SHRINK_HOURS) / (weight + SHRINK_HOURS)
            rows = np.hstack([values, values - usual])
            self._score_hour(step, plan, closing, rows, usual)
            for (key, state), value in zip(closing, values.tolist(), strict=True):
                state.hours = min(state.hours + 1, MEAN_HOURS_MAX)
                state.mean = [m + (v - m) / state.hours for m, v in zip(state.mean, value, strict=True)]
                state.open, state.values, state.items = False, [0.0] * size, [{} for _ in range(size)]
                state.evidence = ()
                table.put(key, state, step.minute * 60.0)
            clock.hours = min(clock.hours + len(closing), MEAN_HOURS_MAX * 100)
            share = min(1.0, len(closing) / clock.hours)
            clock.mean = [m + (v - m) * share for m, v in zip(clock.mean, values.mean(axis=0).tolist(), strict=True)]
        clock.hour = hour
        clocks.put("", clock, step.minute * 60.0)

    def _score_hour(
        self, step: Step, plan: Plan, closing: list[tuple[str, Hours]], rows: np.ndarray, usual: np.ndarray
    ) -> None:
        profile = plan.profile
        assert profile.forest is not None
        hour = closing[0][1].hour
        days = self._mark_day(step, plan, hour // 24)
        subjects = [
            Subject(plan, key, role if profile.class_ else ANY, role, [], hour * 60 + 59, days)
            for key, role in ((key, self._classes.of(plan.kind, key.split(SEPARATOR, 1)[0])) for key, _ in closing)
        ]
        for subject, (key, state), row in zip(subjects, closing, rows.tolist(), strict=True):
            subject.facts = [
                Fact(
                    profile.id,
                    key,
                    "",
                    subject.now,
                    step.minute,
                    0.0,
                    subject.now * 60.0 + 60.0,
                    1,
                    0.0,
                    state.entities,
                    state.evidence,
                )
            ]
            step.features.append(
                Feature(
                    step.store.tenant,
                    f"{profile.id}/{HOURS}",
                    key,
                    hour // 24,
                    hour * 3600.0,
                    tuple(row),
                    profile.family,
                    state.entities,
                    subject.group,
                )
            )
        forest = self.models.forests.get(profile.id) if self.models else None
        if forest is None or forest.features != rows.shape[1] or not self._rates(plan, days):
            return
        size = len(profile.forest.counters)
        scores = forest.score(rows)
        strong = [i for i, score in enumerate(scores.tolist()) if score >= profile.forest.score_min]
        if not strong:
            return
        gains = forest.contributions(rows[strong], [[number, number + size] for number in range(size)])
        for i, gain in zip(strong, gains, strict=True):
            told, strength = closing[i][1].told, score_strength(float(scores[i]))
            wanted, rate = self._book(step, subjects[i], told, f"{profile.id}/{FOREST}", strength)
            if not wanted:
                continue
            top = [n for n in sorted(range(size), key=lambda n: (-gain[n], n)) if gain[n] > 0][:TOLD_COUNTERS]
            reasons, numbers = _forest_words(profile, top, np.expm1(rows[i, :size]), np.expm1(usual[i]))
            self._tell(
                step,
                subjects[i],
                detector=f"{profile.id}/{FOREST}",
                strength=strength,
                rate=rate,
                item="",
                reasons=reasons,
                texts=profile.forest.sentence,
                numbers=numbers,
            )


def _forest_words(
    profile: Profile, top: list[int], actual: np.ndarray, usual: np.ndarray
) -> tuple[tuple[Reason, ...], dict[str, dict[str, str]]]:
    assert profile.forest is not None
    reasons = []
    details: dict[str, list[str]] = {"de": [], "en": []}
    for number in top:
        counter = profile.forest.counters[number]
        seen, typical = round(float(actual[number]), 1), round(float(usual[number]), 1)
        reasons.append(Reason(counter.name, seen, typical, 3600.0, counter.unit))
        for language, versus in (("de", "statt"), ("en", "instead of")):
            words = (sentences.amount(value, counter.unit, language) for value in (seen, typical))
            details[language].append(f"{counter.name} {f' {versus} '.join(words)}")
    return tuple(reasons), {
        language: {"details": ", ".join(parts), "window": "1 h"} for language, parts in details.items()
    }


def _feed(step: Step, forest: Plan, numbers: list[tuple[int, str]], subject: Subject) -> None:
    """Adds the facts of one key to its open hour; what is late for that hour is not counted here."""
    assert forest.profile.forest is not None
    size = len(forest.profile.forest.counters)
    hour = step.minute // 60
    given = [fact for fact in subject.facts if fact.minute // 60 == hour]
    if not given:
        return
    table = _hours_table(step.store, forest)
    state = table.get(subject.key)
    if state is None or len(state.values) != size:
        state = Hours(hour, True, [0.0] * size, [{} for _ in range(size)], [0.0] * size)
    if not state.open:
        state.open, state.hour = True, hour
    for number, measure in numbers:
        for fact in given:
            if measure == "distinct":
                if len(state.items[number]) < HOUR_ITEMS_MAX:
                    state.items[number][fact.item] = 1
            else:
                state.values[number] += fact.count if measure == "count" else fact.value
    state.evidence = state.evidence or earliest(given, 1)
    state.entities = subject.entities
    table.put(subject.key, state, step.minute * 60.0)


def _hour_values(state: Hours) -> list[float]:
    return [value + len(items) for value, items in zip(state.values, state.items, strict=True)]


def _hours_table(store: Store, plan: Plan) -> Table[Hours]:
    return store.table(f"behaviour.{plan.profile.id}.hours", Hours, entries_max=KEYS_MAX, idle_max_s=IDLE_S)


def _clock_table(store: Store, plan: Plan) -> Table[HourClock]:
    return store.table(f"behaviour.{plan.profile.id}.clock", HourClock, entries_max=1, idle_max_s=IDLE_S)


def _days_table(store: Store) -> Table[Days]:
    return store.table("behaviour.days", Days, entries_max=PROFILES_MAX, idle_max_s=IDLE_S)


def _release(holders: Table[first_seen.Holders], subject: Subject, item: str) -> None:
    """The key no longer has the item."""
    place = subject.group + SEPARATOR + item
    having = holders.get(place)
    if having is not None:
        having.keys = max(0, having.keys - 1)
        holders.put(place, having, subject.now * 60.0)


def _shown(name: str) -> str:
    return name.replace(SEPARATOR, " → ")
