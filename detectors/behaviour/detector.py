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

from detectors.behaviour import first_seen, rhythm, sentences
from detectors.behaviour.counters import MINUTES_PER_DAY, Told, Window, add, add_item, reading, roll, strength_of
from detectors.behaviour.folding import SEPARATOR, Folding, merged
from detectors.behaviour.forest_hours import ForestHours
from detectors.behaviour.inventory import Classes, Inventory
from detectors.behaviour.links import Links
from detectors.behaviour.models import ANY, Learning, Models
from detectors.behaviour.profiles import WINDOWS, AfterFailures, Profile, load_profiles
from detectors.behaviour.telling import IDLE_S, Calendar, Meter, Plan, Step, Subject, Teller, Words, shown
from detectors.facts import Fact, Feature, Located, Observation, Reason, Store, Table

KEYS_MAX = 100_000  # per profile and tenant
OUTSIDE_KEYS_MAX = 50_000
ITEMS_MAX = 200_000  # items with their number of holders, per profile and tenant
LISTED_MAX = 200_000  # entries of one remembered list
OUTSIDE_IDLE_S = 72 * 3600.0
PAIRS_IDLE_S = first_seen.FORGET_DAYS * 86_400.0
CONTACTS_IDLE_S = 14 * 86_400.0
GROUPS_MAX = 16
FRESH_MINUTES = 1440  # an item counts as new for a day
FEW_KEYS = 2  # an item that so many keys have is rare
NEW, FAMILIAR = 1.0, 0.1  # second component of a success after failures: is this account new at this source


class Series(msgspec.Struct, array_like=True):
    """Counters of one key. `minute` is the latest seen."""

    minute: int = 0
    windows: dict[str, Window] = {}
    told: dict[str, Told] = {}


class Novelty(msgspec.Struct, array_like=True):
    pairs: first_seen.Pairs
    told: Told


class Calls(msgspec.Struct, array_like=True):
    contacts: rhythm.Contacts
    told: Told


class Habit(msgspec.Struct, array_like=True):
    clock: rhythm.Clock
    told: Told


class Journeys(msgspec.Struct, array_like=True):
    places: rhythm.Places
    told: Told


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
        # who links speaks first; who asks what others counted speaks after them
        self._order = sorted(self._plans, key=lambda n: (bool(self.profiles[n].after_failures), n))
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
        step = Step(store, minute, Links(store), [], [])
        days = Calendar(store)
        self._forests.close(step, days)
        own = {
            name: list(given)
            for name, given in groupby(
                merged([fact for fact in facts if fact.detector in self._plans]), attrgetter("detector")
            )
        }
        if not own:
            return step.observations, step.features
        days.begin(step, self._plans)
        for name in self._linking:
            if name in own:
                self._link(step, self._plans[name], own[name])
        for name in self._order:
            if name in own:
                self._profile(step, self._plans[name], own[name], days)
        for name, given in own.items():
            remember = self.profiles[name].remember
            if remember:
                _remember(step, remember.list, given)
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

    def _profile(self, step: Step, plan: Plan, facts: list[Fact], calendar: Calendar) -> None:
        profile = plan.profile
        days = calendar.of(step, plan)
        novelty = self._novelty_tables(step.store, profile.id) if plan.new_items else None
        for key, of_key in groupby(facts, attrgetter("key")):
            given = sorted(of_key, key=attrgetter("minute", "item"))
            role = self._classes.of(plan.kind, key.split(SEPARATOR, 1)[0])
            subject = Subject(plan, key, role if profile.class_ else ANY, role, given, given[-1].minute, days)
            if (
                profile.only_known
                and _list_table(step.store, profile.only_known).get(given[0].key.split(SEPARATOR, 1)[0]) is None
            ):
                continue
            chosen: dict[str, frozenset[str]] = {}
            if novelty is not None:
                chosen = self._news(step, subject, *novelty)
            if plan.meters:
                self._count(step, subject, _series_table(step.store, profile.id, role), chosen)
            if profile.periodic:
                self._periodic(step, subject)
            if profile.unusual_hour:
                self._hour(step, subject)
            if profile.travel:
                self._travel(step, subject)
            for after in profile.after_failures:
                self._success(step, subject, after)
            if plan.feeds and role != "external":
                self._forests.feed(step, subject)

    def _link(self, step: Step, plan: Plan, facts: list[Fact]) -> None:
        for fact in facts:
            origin = (plan.kind, fact.key.split(SEPARATOR, 1)[0])
            step.links.add(origin, (plan.item_kind, fact.item), fact.minute, plan.link_minutes)

    def _count(self, step: Step, subject: Subject, table: Table[Series], chosen: Mapping[str, frozenset[str]]) -> None:
        series = table.get(subject.key) or Series()
        now = subject.now = max(series.minute, subject.now)
        series.minute = now
        day = now // MINUTES_PER_DAY
        windows, facts = series.windows, subject.facts
        one_minute = facts[0].minute == facts[-1].minute  # all but late ones
        streams: dict[tuple[str, str, str | None, str | None], tuple[list[Fact], float]] = {}
        for meter in subject.plan.meters:
            counter = meter.counter
            counted, amount = streams.get(meter.stream) or (None, 0.0)
            if counted is None:
                counted, amount = streams[meter.stream] = _stream(step, subject, meter, chosen)
            window = windows.get(meter.reading)
            if window is None:
                if not counted:
                    continue
                window = windows[meter.reading] = Window(day)
            if window.day < day:
                roll(window, day)
            if counter.measure == "distinct":
                for fact in counted:
                    add_item(window, fact.minute // meter.minutes, fact.item)
            elif one_minute and counted:
                add(window, facts[0].minute // meter.minutes, amount)
            else:
                for fact in counted:
                    add(window, fact.minute // meter.minutes, fact.count if counter.measure == "count" else fact.value)
            actual = reading(window, meter.window, now)
            window.top = max(window.top, actual)
            if actual < counter.min:
                continue
            strength = strength_of(actual, window.peak, counter.min)
            if strength:
                told = series.told.get(meter.reading)
                if told is None:
                    told = series.told[meter.reading] = Told()
                self._teller.say(
                    step,
                    subject,
                    told,
                    detector=meter.detector,
                    strength=strength,
                    words=lambda m=meter, a=actual, p=window.peak: _counted(subject, m, a, p),  # type: ignore[misc]
                )
        table.put(subject.key, series, now * 60.0)

    def _news(
        self,
        step: Step,
        subject: Subject,
        table: Table[Novelty],
        holders: Table[first_seen.Holders],
        groups: Table[first_seen.Group],
    ) -> dict[str, frozenset[str]]:
        """Notes the items of a key; answers those first seen within the last day, and those that few keys have."""
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
        fresh, few = set(), set()
        since = subject.now - FRESH_MINUTES
        held_items = subject.plan.held_items  # else nobody asks how many keys have an item
        for fact in subject.facts:
            known = pairs.items.get(fact.item)
            if known is None or known[1] != pairs.day:  # seldom: most were seen today already
                changed = True
                new, gone = first_seen.see(pairs, fact.item, fact.minute)
                if new and held_items:
                    for item in gone:
                        _release(holders, subject, item)
                    place = subject.group + SEPARATOR + fact.item
                    having = holders.get(place) or first_seen.Holders()
                    if subject.plan.profile.first_seen:
                        self._tell_new(step, subject, held=held, group=group, fact=fact, holders=having.keys)
                    having.keys += 1
                    holders.put(place, having, subject.now * 60.0)
            if (known or (fact.minute, 0))[0] > since:
                fresh.add(fact.item)
            if subject.plan.rare_items:
                having = holders.get(subject.group + SEPARATOR + fact.item) or first_seen.Holders(1)
                if having.keys <= FEW_KEYS:
                    few.add(fact.item)
        if changed:
            table.put(subject.key, held, subject.now * 60.0)
            groups.put(subject.group, group, subject.now * 60.0)
        return {"new": frozenset(fresh), "rare": frozenset(few)}

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
            strength=(surprise, first_seen.rarity(holders, group.keys)),
            words=lambda: _new(subject, held.pairs, group.keys, fact.item, holders),
        )

    def _periodic(self, step: Step, subject: Subject) -> None:
        config, store = subject.plan.profile.periodic, step.store
        assert config is not None
        name = subject.plan.profile.id
        table = store.table(f"behaviour.{name}.calls", Calls, entries_max=KEYS_MAX, idle_max_s=CONTACTS_IDLE_S)
        users = store.table(
            f"behaviour.{name}.users", first_seen.Holders, entries_max=ITEMS_MAX, idle_max_s=PAIRS_IDLE_S
        )
        source, _, where = subject.key.partition(SEPARATOR)
        everyone = users.get("") or first_seen.Holders()
        held = table.get(subject.key)
        if held is None:
            held = Calls(rhythm.Contacts(subject.facts[0].first), Told())
            using = users.get(where) or first_seen.Holders()
            using.keys += 1
            users.put(where, using, subject.now * 60.0)
            if users.get(f"={source}") is None:  # each source once, for their number
                everyone.keys += 1
                users.put("", everyone, subject.now * 60.0)
                users.put(f"={source}", first_seen.Holders(1), subject.now * 60.0)
        elif held.contacts.old:
            return
        for fact in subject.facts:
            rhythm.contact(held.contacts, fact.first, fact.last, fact.count)
        table.put(subject.key, held, subject.now * 60.0)
        share, every_s, duration_s = rhythm.regularity(held.contacts, config.contacts_min)
        others = max(0, (users.get(where) or first_seen.Holders(1)).keys - 1)
        strength = rhythm.beacon_strength(share, duration_s, first_seen.rarity(others, everyone.keys))
        if strength:
            self._teller.say(
                step,
                subject,
                held.told,
                detector=f"{name}/periodic",
                strength=strength,
                words=lambda: _called(subject, share, every_s, duration_s, others),
            )

    def _hour(self, step: Step, subject: Subject) -> None:
        config, store, name = subject.plan.profile.unusual_hour, step.store, subject.plan.profile.id
        assert config is not None
        table = store.table(f"behaviour.{name}.clock", Habit, entries_max=KEYS_MAX, idle_max_s=IDLE_S)
        groups = store.table(f"behaviour.{name}.clocks", rhythm.Clock, entries_max=GROUPS_MAX, idle_max_s=IDLE_S)
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

    def _travel(self, step: Step, subject: Subject) -> None:
        config, name = subject.plan.profile.travel, subject.plan.profile.id
        assert config is not None
        table = step.store.table(f"behaviour.{name}.places", Journeys, entries_max=KEYS_MAX, idle_max_s=IDLE_S)
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

    def _success(self, step: Step, subject: Subject, after: AfterFailures) -> None:
        part = subject.key.split(SEPARATOR)[subject.plan.profile.keys.index(after.by)]
        kind = self._plans[after.profile].kind
        failures = _series_table(step.store, after.profile, self._classes.of(kind, part)).get(part)
        window = failures.windows.get(after.reading) if failures else None
        if window is None:
            return
        count = reading(window, after.reading.rpartition("_")[2], subject.now)
        if count < after.min:
            return
        size = strength_of(count, 0.0, after.min)[0]
        listed = subject.plan.profile.remember
        known = bool(listed) and _list_table(step.store, listed.list).get(subject.key) is not None  # type: ignore[union-attr]
        name = f"{subject.plan.profile.id}/{after.name}"
        table = step.store.table(f"behaviour.{name}", Told, entries_max=KEYS_MAX, idle_max_s=IDLE_S)
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

    def _novelty_tables(
        self, store: Store, name: str
    ) -> tuple[Table[Novelty], Table[first_seen.Holders], Table[first_seen.Group]]:
        return (
            store.table(f"behaviour.{name}.pairs", Novelty, entries_max=KEYS_MAX, idle_max_s=PAIRS_IDLE_S),
            store.table(f"behaviour.{name}.items", first_seen.Holders, entries_max=ITEMS_MAX, idle_max_s=PAIRS_IDLE_S),
            store.table(f"behaviour.{name}.groups", first_seen.Group, entries_max=GROUPS_MAX, idle_max_s=IDLE_S),
        )


def _stream(
    step: Step, subject: Subject, meter: Meter, chosen: Mapping[str, frozenset[str]]
) -> tuple[list[Fact], float]:
    """The facts that a counter counts, and their amount."""
    counter = meter.counter
    items = chosen.get(counter.of)
    counted = [fact for fact in subject.facts if fact.item in items] if items is not None else subject.facts
    if counter.known:
        listed = _list_table(step.store, counter.known)
        counted = [fact for fact in counted if listed.get(fact.item) is not None]
    if counter.foreign:
        pairs = _list_table(step.store, counter.foreign)
        counted = [fact for fact in counted if pairs.get(fact.key + SEPARATOR + fact.item) is None]
    if counter.measure == "distinct":
        return counted, 0.0
    return counted, sum([f.count for f in counted] if counter.measure == "count" else [f.value for f in counted])


def _remember(step: Step, name: str, facts: list[Fact]) -> None:
    table = _list_table(step.store, name)
    for fact in facts:
        day = fact.minute // MINUTES_PER_DAY
        if table.get(fact.key) != day:
            table.put(fact.key, day, fact.minute * 60.0)


def _list_table(store: Store, name: str) -> Table[int]:
    return store.table(f"behaviour.list.{name}", int, entries_max=LISTED_MAX, idle_max_s=PAIRS_IDLE_S)


def _series_table(store: Store, name: str, role: str) -> Table[Series]:
    if role == "external":
        return store.table(f"behaviour.{name}.outside", Series, entries_max=OUTSIDE_KEYS_MAX, idle_max_s=OUTSIDE_IDLE_S)
    return store.table(f"behaviour.{name}", Series, entries_max=KEYS_MAX, idle_max_s=IDLE_S)


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


def _at_hour(subject: Subject, clock: rhythm.Clock, moment: object, distance: float) -> Words:
    config = subject.plan.profile.unusual_hour
    assert config is not None
    hour = int(moment.hour)  # type: ignore[attr-defined]
    kind = str(moment.type)  # type: ignore[attr-defined]
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
