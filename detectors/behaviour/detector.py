"""The behaviour detector: folds facts into keyed state and says what is stronger than a key ever was.

State moves in steps of event time and in the order of (profile, key, minute, item), so neither batches nor the order of
arrival change what is said. Nothing is rated before enough days were seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

import msgspec

from detectors.behaviour import first_seen, rhythm, sentences
from detectors.behaviour.counters import (
    MINUTES_PER_DAY,
    Items,
    Told,
    Window,
    add,
    items_since,
    roll,
    see_items,
    strength_of,
    total_since,
)
from detectors.behaviour.folding import SEPARATOR, Folding, grouped
from detectors.behaviour.forest_hours import ForestHours
from detectors.behaviour.inventory import Classes, Inventory, Moment
from detectors.behaviour.links import Links
from detectors.behaviour.models import ANY, Learning, Models
from detectors.behaviour.profiles import WINDOWS, AfterFailures, Profile, load_profiles
from detectors.behaviour.tables import Calls, Habit, Held, Journeys, Novelty, Series, Tables
from detectors.behaviour.telling import Calendar, Meter, Plan, Step, Stream, Subject, Teller, Words, shown
from detectors.facts import Fact, Feature, Located, Observation, Reason, Store, Table

FRESH_MINUTES = 1440  # an item counts as new for a day
FEW_KEYS = 2  # an item that so many keys have is rare
NEW, FAMILIAR = 1.0, 0.1  # second component of a success after failures: is this account new at this source
NONE_CHOSEN: Mapping[str, frozenset[str]] = {"new": frozenset(), "rare": frozenset()}


class FamilyStatus(msgspec.Struct, frozen=True):
    family: str
    profile: str
    state: Literal["warm-up", "calibrating", "live"]
    seen: int
    needed: int
    unit: str = "days"


class Behaviour:
    """Implements `detectors.facts.Detector` for all behaviour profiles."""

    def __init__(
        self, profiles: Mapping[str, Profile], models: Models | None, inventory: Inventory, learning: Learning
    ) -> None:
        self.profiles = dict(profiles)
        self._teller = Teller(learning, models)
        self._classes = Classes(inventory)
        self._plans = {name: Plan(profile) for name, profile in sorted(self.profiles.items())}
        self._forests = ForestHours(self._plans, self._classes, self._teller)
        self._linking = [name for name, plan in self._plans.items() if plan.profile.link]
        self._remembering = [name for name, plan in self._plans.items() if plan.profile.remember]
        # who links speaks first; who asks what others counted speaks after them
        self._order = sorted(self._plans, key=lambda n: (bool(self.profiles[n].after_failures), n))
        self._held: WeakKeyDictionary[Store, Held] = WeakKeyDictionary()
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
    def models(self) -> Models | None:
        return self._teller.models

    @models.setter
    def models(self, models: Models | None) -> None:
        self._teller.models = models

    @property
    def learning(self) -> Learning:
        return self._teller.learning

    @learning.setter
    def learning(self, learning: Learning) -> None:
        self._teller.learning = learning

    @property
    def fingerprints(self) -> dict[str, str]:
        """To be handed to `fit`: what was learned for a profile that has changed since is not used."""
        return {name: plan.fingerprint for name, plan in self._plans.items()}

    def facts(self, located: Located) -> list[Fact]:
        """One fact per profile, key, item, minute and step of the batch, with the earliest line as evidence."""
        return self._folding.facts(located)

    def observe(self, store: Store, minute: int, facts: Sequence[Fact]) -> tuple[list[Observation], list[Feature]]:
        """All facts of one step of one tenant; those of other detectors are passed over."""
        held = self._held.get(store)
        if held is None:
            held = self._held[store] = Held(self.profiles)
        step = Step(store, held, minute, Links(store), [], [])
        days = Calendar(store)
        self._forests.close(step, days)
        own = grouped(facts, self._plans)
        if not own:
            return step.observations, step.features
        days.begin(step, self._plans)
        for name in self._linking:
            if name in own:
                self._link(step, self._plans[name], own[name])
        for name in self._order:
            if name in own:
                self._profile(step, self._plans[name], own[name], days)
        for name in self._remembering:
            if name in own:
                self._remember(step, self.profiles[name], own[name])
        return step.observations, step.features

    def status(self, store: Store, day: int) -> list[FamilyStatus]:
        """How far each profile has learned for this tenant on a day (event time // 86400)."""
        calendar, learning = Calendar(store), self._teller.learning
        needed = learning.warmup_days + learning.calibration_days
        made = []
        for name, plan in self._plans.items():
            days = calendar.seen(name)
            seen = days.seen - (days.last >= day) if days else 0  # today is not over
            state: Literal["warm-up", "calibrating", "live"] = "live"
            if seen < learning.warmup_days:
                state = "warm-up"
            elif not self._teller.rates(plan, seen + 1):
                state = "calibrating"
            made.append(FamilyStatus(plan.profile.family, name, state, seen, needed))
        return made

    # --- one profile, one key -------------------------------------------------------------------------------------

    def _profile(self, step: Step, plan: Plan, keys: Mapping[str, list[Fact]], calendar: Calendar) -> None:
        profile = plan.profile
        days = calendar.of(step, plan)
        tables = step.tables(profile.id)
        known = step.listed(profile.only_known) if profile.only_known else None
        chosen = NONE_CHOSEN
        single, kind, class_of = plan.parts == 1, plan.kind, self._classes.of
        for key, facts in keys.items():
            first = key if single else plan.first_part(key)
            if known is not None and known.get(first) is None:
                continue
            role = class_of(kind, first)
            subject = Subject(plan, key, role if profile.class_ else ANY, role, facts, facts[-1].minute, days)
            if plan.new_items:
                chosen = self._news(step, subject, tables)
            if plan.streams:
                self._count(step, subject, tables.outside_series if role == "external" else tables.series, chosen)
            if profile.periodic:
                self._periodic(step, subject, tables)
            if profile.unusual_hour:
                self._hour(step, subject, tables)
            if profile.travel:
                self._travel(step, subject, tables)
            for after in profile.after_failures:
                self._success(step, subject, after, tables)
            if plan.feeds and role != "external":
                self._forests.feed(step, subject)

    def _link(self, step: Step, plan: Plan, keys: Mapping[str, list[Fact]]) -> None:
        for key, facts in keys.items():
            origin = (plan.kind, plan.first_part(key))
            for fact in facts:
                step.links.add(origin, (plan.item_kind, fact.item), fact.minute, plan.link_minutes)

    def _remember(self, step: Step, profile: Profile, keys: Mapping[str, list[Fact]]) -> None:
        assert profile.remember is not None
        table = step.listed(profile.remember.list)
        for key, facts in keys.items():
            for fact in facts:
                day = fact.minute // MINUTES_PER_DAY
                if table.get(key) != day:
                    table.put(key, day, fact.minute * 60.0)

    def _count(self, step: Step, subject: Subject, table: Table[Series], chosen: Mapping[str, frozenset[str]]) -> None:
        series = table.get(subject.key) or Series()
        now = subject.now = max(series.minute, subject.now)
        day = now // MINUTES_PER_DAY
        # where nothing is added, readings only fall: without a new day or one above its peak there is nothing to say
        anyway = series.loud or series.minute // MINUTES_PER_DAY < day
        series.minute = now
        loud = False
        for stream in subject.plan.streams:
            counted = _counted_facts(step, subject, stream, chosen)
            if not counted and not anyway:
                continue
            if stream.measure == "distinct":
                readings = _distinct(series, stream, counted, now, anyway=anyway)
            else:
                readings = _amounts(series, stream, counted, now)
            for meter, window, actual in readings:
                if window.day < day:
                    roll(window, day)
                window.top = max(window.top, actual)
                if actual >= meter.counter.min:
                    strength = strength_of(actual, window.peak, meter.counter.min, meter.unit)
                    if strength:
                        loud = True
                        self._tell_reading(step, subject, series, meter, actual, window.peak, strength)
        series.loud = loud
        table.put(subject.key, series, now * 60.0)

    def _tell_reading(
        self,
        step: Step,
        subject: Subject,
        series: Series,
        meter: Meter,
        actual: float,
        peak: float,
        strength: tuple[float, ...],
    ) -> None:
        told = series.told.get(meter.reading)
        if told is None:
            told = series.told[meter.reading] = Told()
        self._teller.say(
            step,
            subject,
            told,
            detector=meter.detector,
            strength=strength,
            words=lambda: _counted(subject, meter, actual, peak),
        )

    def _news(self, step: Step, subject: Subject, tables: Tables) -> Mapping[str, frozenset[str]]:
        """Notes the items of a key; answers those first seen within the last day, and those that few keys have."""
        day = subject.now // MINUTES_PER_DAY
        plan, holders = subject.plan, tables.holders
        held = tables.pairs.get(subject.key)
        if held is None or held.pairs.day < day:
            held = self._begin_day(subject, tables, held, day)
        pairs = held.pairs
        fresh, few = [], []
        since = subject.now - FRESH_MINUTES
        changed = False
        for fact in subject.facts:
            item = fact.item
            known = pairs.items.get(item)
            if known is None or known[1] != pairs.day:  # seldom: most were seen today already
                changed = True
                self._see(step, subject, tables, held, fact)
            if known is None or known[0] > since:
                fresh.append(item)
            if plan.rare_items:
                having = holders.get(subject.group + SEPARATOR + item)
                if having is None or having.keys <= FEW_KEYS:
                    few.append(item)
        if changed:
            tables.pairs.put(subject.key, held, subject.now * 60.0)
        return {"new": frozenset(fresh), "rare": frozenset(few)} if fresh or few else NONE_CHOSEN

    def _begin_day(self, subject: Subject, tables: Tables, held: Novelty | None, day: int) -> Novelty:
        """A key that is seen for the first time at all, or on this day."""
        group = tables.groups.get(subject.group) or first_seen.Group(first_day=day)
        if held is None:
            held = Novelty(first_seen.Pairs(day=day, first_day=day), Told())
            group.keys += 1
        for item in first_seen.begin_day(held.pairs, group, day):
            _release(tables.holders, subject, item)  # counts nothing where items are not rated
        tables.pairs.put(subject.key, held, subject.now * 60.0)
        tables.groups.put(subject.group, group, subject.now * 60.0)
        return held

    def _see(self, step: Step, subject: Subject, tables: Tables, held: Novelty, fact: Fact) -> None:
        """An item that the key has not had today."""
        new, gone = first_seen.see(held.pairs, fact.item, fact.minute)
        if not new or not subject.plan.held_items:  # else nobody asks how many keys have an item
            return
        for item in gone:
            _release(tables.holders, subject, item)
        place = subject.group + SEPARATOR + fact.item
        having = tables.holders.get(place) or first_seen.Holders()
        if subject.plan.profile.first_seen:
            group = tables.groups.get(subject.group)
            assert group is not None  # every key has begun its day
            self._tell_new(step, subject, held=held, group=group, fact=fact, holders=having.keys)
        having.keys += 1
        tables.holders.put(place, having, subject.now * 60.0)

    def _tell_new(
        self, step: Step, subject: Subject, *, held: Novelty, group: first_seen.Group, fact: Fact, holders: int
    ) -> None:
        config = subject.plan.profile.first_seen
        assert config is not None
        surprise = first_seen.surprise(held.pairs, group, calendar=config.days == "calendar")
        only = msgspec.structs.replace(subject, facts=[fact])  # the line that brought this item, not the key's others
        self._teller.say(
            step,
            only,
            held.told,
            detector=f"{subject.plan.profile.id}/{config.name}",
            strength=first_seen.strength(surprise, holders, group.keys),
            words=lambda: _new(subject, held.pairs, group.keys, fact.item, holders),
        )

    def _periodic(self, step: Step, subject: Subject, tables: Tables) -> None:
        config = subject.plan.profile.periodic
        assert config is not None
        table, users = tables.calls, tables.users
        source, _, where = subject.key.partition(SEPARATOR)
        held = table.get(subject.key)
        if held is None:
            held = Calls(rhythm.Contacts(subject.facts[0].first), Told())
            using = users.get(where) or first_seen.Holders()
            using.keys += 1
            users.put(where, using, subject.now * 60.0)
            if users.get(f"={source}") is None:  # each source once, for their number
                everyone = users.get("") or first_seen.Holders()
                everyone.keys += 1
                users.put("", everyone, subject.now * 60.0)
                users.put(f"={source}", first_seen.Holders(1), subject.now * 60.0)
        elif held.contacts.old:
            return
        for fact in subject.facts:
            rhythm.contact(held.contacts, fact.first, fact.last, fact.count)
        table.put(subject.key, held, subject.now * 60.0)
        share, every_s, duration_s = rhythm.regularity(held.contacts, config.contacts_min)
        if share < rhythm.REGULAR_MIN:
            return
        everyone = users.get("") or first_seen.Holders()
        others = max(0, (users.get(where) or first_seen.Holders(1)).keys - 1)
        self._teller.say(
            step,
            subject,
            held.told,
            detector=f"{subject.plan.profile.id}/periodic",
            strength=rhythm.beacon_strength(share, duration_s, first_seen.rarity(others, everyone.keys)),
            words=lambda: _called(subject, share, every_s, duration_s, others),
        )

    def _hour(self, step: Step, subject: Subject, tables: Tables) -> None:
        name, table, groups = subject.plan.profile.id, tables.clock, tables.clocks
        held = table.get(subject.key) or Habit(rhythm.Clock(), Told())
        group = groups.get(subject.group) or rhythm.Clock()
        moments = {self._classes.moment(fact.first): fact for fact in reversed(subject.facts)}
        changed = False
        for moment, fact in sorted(moments.items(), key=lambda pair: pair[1].first):
            distance = rhythm.hour_distance(held.clock, moment.type, moment.hour)
            key_days = sum(group.days.values())
            strength = rhythm.hour_strength(distance, group, moment.type, moment.hour, key_days)
            first_today = moment.day != held.clock.last_day
            if not rhythm.tick(held.clock, moment.type, moment.day, moment.hour):
                continue
            changed = True
            group.hours.setdefault(moment.type, [0] * 24)[moment.hour] += 1
            if first_today:
                group.days[moment.type] = group.days.get(moment.type, 0) + 1
            if strength:
                only = msgspec.structs.replace(subject, facts=[fact])
                self._teller.say(
                    step,
                    only,
                    held.told,
                    detector=f"{name}/unusual_hour",
                    strength=strength,
                    words=lambda m=moment, d=distance: _at_hour(subject, held.clock, m, d),  # type: ignore[misc]
                )
        if changed:
            table.put(subject.key, held, subject.now * 60.0)
            groups.put(subject.group, group, subject.now * 60.0)

    def _travel(self, step: Step, subject: Subject, tables: Tables) -> None:
        config, name = subject.plan.profile.travel, subject.plan.profile.id
        assert config is not None
        table = tables.places
        held = table.get(subject.key) or Journeys(rhythm.Places(), Told())
        for fact in subject.facts:
            strength, before = rhythm.arrive(held.places, fact.item, fact.last)
            if strength:
                only = msgspec.structs.replace(subject, facts=[fact])
                self._teller.say(
                    step,
                    only,
                    held.told,
                    detector=f"{name}/travel",
                    strength=strength,
                    words=lambda f=fact, b=before: Words(  # type: ignore[misc]
                        f.item,
                        (Reason("places", f.item, b, rhythm.TRAVEL_S),),
                        config.sentence,
                        {lang: {"actual": f.item, "typical": b, "window": "24 h"} for lang in ("de", "en")},
                    ),
                )
        table.put(subject.key, held, subject.now * 60.0)

    def _success(self, step: Step, subject: Subject, after: AfterFailures, tables: Tables) -> None:
        part = subject.key.split(SEPARATOR)[subject.plan.profile.keys.index(after.by)]
        counting = self._plans[after.profile]
        failures = step.tables(after.profile).series_of(self._classes.of(counting.kind, part)).get(part)
        count = _count_of(failures, counting, after.reading, subject.now) if failures else 0.0
        if count < after.min:
            return
        size = strength_of(count, 0.0, after.min)[0]
        listed = subject.plan.profile.remember
        known = listed is not None and step.listed(listed.list).get(subject.key) is not None
        name = f"{subject.plan.profile.id}/{after.name}"
        table = tables.successes[after.name]
        told = table.get(subject.key) or Told()
        self._teller.say(
            step,
            subject,
            told,
            detector=name,
            strength=(size, FAMILIAR if known else NEW),
            words=lambda: _succeeded(subject, after, count, known),
        )
        table.put(subject.key, told, subject.now * 60.0)


def _counted_facts(step: Step, subject: Subject, stream: Stream, chosen: Mapping[str, frozenset[str]]) -> list[Fact]:
    """The facts that the counters of a stream count."""
    counted = subject.facts
    if stream.of != "all":
        items = chosen[stream.of]
        counted = [fact for fact in counted if fact.item in items] if items else []
    if stream.known:
        listed = step.listed(stream.known)
        counted = [fact for fact in counted if listed.get(fact.item) is not None]
    if stream.foreign:
        pairs = step.listed(stream.foreign)
        counted = [fact for fact in counted if pairs.get(fact.key + SEPARATOR + fact.item) is None]
    return counted


def _distinct(
    series: Series, stream: Stream, facts: Sequence[Fact], now: int, *, anyway: bool
) -> Sequence[tuple[Meter, Window, float]]:
    """Notes the items of a stream; answers the readings that may have risen, or all."""
    items = series.items.get(stream.name)
    if items is None:
        if not facts:
            return ()
        items = series.items[stream.name] = Items()
    starts = stream.at(now)
    gained = see_items(items, [(fact.item, fact.minute) for fact in facts], stream.first)
    if gained >= stream.last and not anyway:  # nearly always: all of them were there before
        return ()
    return [
        (meter, _window(series, meter, now), items_since(items, start))
        for meter, start in starts
        if anyway or start > gained
    ]


def _amounts(series: Series, stream: Stream, facts: Sequence[Fact], now: int) -> Sequence[tuple[Meter, Window, float]]:
    """Adds the facts of a stream; answers all its readings."""
    if not facts and stream.meters[0].reading not in series.windows:
        return ()
    counts = stream.measure == "count"
    amounts: dict[int, float] = {}  # minute -> sum; nearly always one
    for fact in facts:
        amounts[fact.minute] = amounts.get(fact.minute, 0.0) + (fact.count if counts else fact.value)
    readings = []
    for meter in stream.meters:
        window = _window(series, meter, now)
        for minute, amount in amounts.items():
            add(window, minute // meter.minutes, amount)
        readings.append((meter, window, total_since(window, meter.oldest(now))))
    return readings


def _window(series: Series, meter: Meter, now: int) -> Window:
    found = series.windows.get(meter.reading)
    if found is None:
        found = series.windows[meter.reading] = Window(now // MINUTES_PER_DAY)
    return found


def _count_of(series: Series, plan: Plan, reading: str, now: int) -> float:
    """What a counter of another profile reads now; nothing is changed."""
    meter = plan.meters[reading]
    oldest = meter.oldest(now)
    if meter.counter.measure == "distinct":
        name = next(stream.name for stream in plan.streams if meter in stream.meters)
        items = series.items.get(name)
        return items_since(items, oldest * meter.minutes) if items else 0.0
    window = series.windows.get(reading)
    return sum([amount for bucket, amount in window.buckets.items() if bucket >= oldest]) if window else 0.0


def _release(holders: Table[first_seen.Holders], subject: Subject, item: str) -> None:
    """The key no longer has the item."""
    place = subject.group + SEPARATOR + item
    having = holders.get(place)
    if having is not None:
        having.keys = max(0, having.keys - 1)
        holders.put(place, having, subject.now * 60.0)


# --- in words -----------------------------------------------------------------------------------------------------


def _counted(subject: Subject, meter: Meter, actual: float, peak: float) -> Words:
    counter = meter.counter
    item = "" if counter.measure == "distinct" else max(subject.facts, key=lambda f: (f.value, f.count, f.item)).item
    numbers = {
        language: {
            "actual": sentences.amount(actual, counter.unit, language),
            "typical": sentences.amount(peak, counter.unit, language),
            "window": sentences.WINDOW_WORDS[meter.window],
        }
        for language in ("de", "en")
    }
    minutes, buckets = WINDOWS[meter.window]
    reasons = (Reason(meter.reading, actual, peak, minutes * buckets * 60.0, counter.unit),)
    return Words(item, reasons, counter.sentence, numbers)


def _new(subject: Subject, pairs: first_seen.Pairs, keys: int, item: str, holders: int) -> Words:
    config = subject.plan.profile.first_seen
    assert config is not None
    numbers = {
        language: {
            "actual": shown(item),
            "typical": f"{holders} {'von' if language == 'de' else 'of'} {keys}",
            "keys": str(keys),
            "share": str(holders),
            "days": str(pairs.active),
        }
        for language in ("de", "en")
    }
    reasons = (
        Reason(config.name, shown(item), f"{holders}/{keys}"),
        Reason("days_with_news", round(pairs.news, 1), float(pairs.active), unit="days"),
    )
    return Words(item, reasons, config.sentence, numbers)


def _called(subject: Subject, share: float, every_s: float, duration_s: float, others: int) -> Words:
    config = subject.plan.profile.periodic
    assert config is not None
    where = subject.key.partition(SEPARATOR)[2]
    numbers = {
        language: {
            "actual": sentences.span(every_s, language),
            "typical": f"{share:.0%}",
            "window": sentences.span(duration_s, language),
            "share": str(others),
        }
        for language in ("de", "en")
    }
    reasons = (
        Reason("interval", round(every_s, 1), round(share, 2), duration_s, "s"),
        Reason("other_sources", float(others), 0.0),
    )
    return Words(where, reasons, config.sentence, numbers)


def _at_hour(subject: Subject, clock: rhythm.Clock, moment: Moment, distance: float) -> Words:
    config = subject.plan.profile.unusual_hour
    assert config is not None
    hour, kind = moment.hour, moment.type
    usual = [h for h, n in enumerate(clock.hours.get(kind, [])) if n > (h == hour)]
    span = f"{usual[0]}-{usual[-1] + 1} h" if usual else "-"
    german = f"{usual[0]}-{usual[-1] + 1} Uhr" if usual else "nie"
    days = str(sum(clock.days.values()))
    numbers = {
        "de": {"actual": f"{hour} Uhr", "typical": german, "days": days, "details": sentences.DAY_TYPES[kind][0]},
        "en": {"actual": f"{hour}:00", "typical": span, "days": days, "details": sentences.DAY_TYPES[kind][1]},
    }
    reasons = (Reason("hour", float(hour), span, unit="h"), Reason("hours_away", distance, 0.0, unit="h"))
    return Words(f"{kind} {hour}", reasons, config.sentence, numbers)


def _succeeded(subject: Subject, after: AfterFailures, count: float, known: bool) -> Words:
    window = after.reading.rpartition("_")[2]
    minutes, buckets = WINDOWS[window]
    numbers = {
        "de": {"details": "schon früher von dort" if known else "erstmals von dort"},
        "en": {"details": "from there before" if known else "from there for the first time"},
    }
    common = {"actual": f"{count:.0f}", "window": sentences.WINDOW_WORDS[window]}
    reasons = (Reason(after.name, count, 0.0, minutes * buckets * 60.0),)
    return Words(subject.key.split(SEPARATOR)[-1], reasons, after.sentence, {k: common | v for k, v in numbers.items()})
