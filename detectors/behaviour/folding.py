"""The raw half: one pass over a batch that turns events into facts, equal ones folded into one with a count.

Conditions on fields with few values (dataset, outcome, ...) are decided once per combination; the rest once per
combination of the fields that a profile reads. So an event costs one look-up, and each profile it may concern another.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal

from connectors.events import ECS_ATTRIBUTES, Event
from detectors.behaviour import derived
from detectors.behaviour.inventory import Classes
from detectors.behaviour.profiles import Condition, Profile, Scalar
from detectors.facts import EVIDENCE_MAX, Entity, Fact, Located, entity_name

ROUTES_MAX = 16_384  # combinations remembered; beyond that the memory starts afresh
COMBINATIONS_MAX = 65_536  # per profile
NAMES_MAX = 65_536  # values remembered, per profile and field
NAME_CHARS_MAX = 256  # of a key or item
ENTITIES_MAX = 8  # per fact
SEPARATOR = "\x1f"  # between the parts of a pair
AMOUNT_MAX = 2**48  # of one event; more is a mistake of the device, and sums must stay exact
TIME_MAX_S = 1e11  # events beyond are no events of this age; also refuses what is not a number

KINDS = derived.KINDS | {
    "source.ip": "address",
    "destination.ip": "address",
    "client.ip": "address",
    "server.ip": "address",
    "user.name": "user",
    "user.target.name": "user",
    "host.name": "host",
    "source.domain": "host",
    "process.name": "process",
    "process.executable": "process",
    "dns.question.registered_domain": "domain",
    "service.name": "service",
    "destination.port": "port",
}
ENTITY_KINDS = frozenset({"address", "user", "host", "domain", "network"})
_STATIC = frozenset(
    {
        "event.module",
        "event.dataset",
        "event.category",
        "event.type",
        "event.action",
        "event.outcome",
        "event.code",
        "service.name",
    }
)
_FOLDED_CASE = frozenset({"user", "host", "process", "domain"})  # names that systems write in any case

Prepared = tuple[str, str, tuple[Entity, ...]] | None
Test = Callable[[Any], bool]
Cell = dict[Any, list[Any] | Literal[False]]  # combination -> count, sum, first, last, index of first, prepared


class Fold:
    """One profile's raw half."""

    def __init__(self, profile: Profile, classes: Classes) -> None:
        self.detector = profile.id
        self.few_lines = profile.first_seen is None  # counted only: a key's earliest lines show what was counted
        self.static = {f: test_of(f, wanted, classes) for f, wanted in profile.select.items() if f in _STATIC}
        given = {f: c for f, c in profile.select.items() if f not in _STATIC}
        known = derived.getters(classes)
        self.value = single(profile.value, known) if profile.value else None
        self.value_test: Test | None = None
        if profile.value in given:  # tested apart: bytes in the combination would leave nothing to fold
            wanted = given.pop(profile.value)
            if wanted != Condition(exists=True):  # events without the value are never counted
                self.value_test = test_of(profile.value, wanted, classes)
        key, item = profile.keys, profile.items
        named = [*key, *item, *(f for f in profile.entities if f not in key and f not in item)]
        self._kinds = [(KINDS.get(f, "value"), f in key or f in profile.entities) for f in named]
        self._names: list[dict[Any, tuple[str, Entity | None]]] = [{} for _ in named]
        self._key_size, self._item_size = len(key), len(item)
        tested = [f for f in given if f not in named]
        fields = [*named, *tested]
        self._tests = [(fields.index(f), test_of(f, wanted, classes)) for f, wanted in given.items()]
        self._skipped = classes.inventory.scanners if profile.spread else frozenset()
        self.raw = reader(fields if len(fields) > 1 else fields * 2, known)
        self._prepared: dict[Any, Prepared] = {}

    def routed(self, event: Event) -> bool:
        return all(test(value_of(event, field)) for field, test in self.static.items())

    def prepare(self, raw: tuple[Any, ...]) -> Prepared:
        """Key, item and entities of a combination, or None if the profile does not want it."""
        try:
            return self._prepared[raw]
        except KeyError:
            if len(self._prepared) >= COMBINATIONS_MAX:
                self._prepared.clear()
            made = self._prepared[raw] = self._prepare(raw)
            return made

    def _prepare(self, raw: tuple[Any, ...]) -> Prepared:
        for place, test in self._tests:
            if not test(raw[place]):
                return None
        names, entities = [], []
        for place, known in enumerate(self._names):
            name, entity = known.get(raw[place]) or self._name(place, raw[place])
            names.append(name)
            if entity is not None:
                entities.append(entity)
        size = self._key_size + self._item_size
        if not all(names[:size]) or names[0] in self._skipped:
            return None
        key, item = SEPARATOR.join(names[: self._key_size]), SEPARATOR.join(names[self._key_size : size])
        return key, item, tuple(sorted(set(entities))[:ENTITIES_MAX])

    def _name(self, place: int, value: Any) -> tuple[str, Entity | None]:
        kind, booked = self._kinds[place]
        name = named(value, kind)
        known = self._names[place]
        if len(known) >= NAMES_MAX:
            known.clear()
        made = known[value] = name, (kind, name) if booked and name and kind in ENTITY_KINDS else None
        return made


class Folding:
    """All profiles' raw halves. Pure: what it remembers are answers that can be computed again."""

    def __init__(self, profiles: Iterable[Profile], classes: Classes) -> None:
        self._folds = [Fold(profile, classes) for profile in profiles]
        fields = sorted({"event.dataset", *(field for fold in self._folds for field in fold.static)})
        self._route_key = attrgetter(*(ECS_ATTRIBUTES[f] for f in fields), "event_module")
        self._routes: dict[Any, tuple[tuple[int, Any, Any, Any], ...]] = {}

    def facts(self, located: Located) -> list[Fact]:
        # one dictionary per profile within each (minute, step), which rarely change from line to line
        cells: dict[tuple[int, int], list[Cell]] = {}
        now: list[Cell] = []
        minute = step = -1
        begin = end = 0.0  # of the minute
        routes, route_key, steps, sources = self._routes, self._route_key, located.steps, located.sources
        for i, event in enumerate(located.events):
            route = route_key(event)
            folds = routes.get(route)
            if folds is None:
                folds = self._route(route, event)
            if not folds:
                continue
            at = event.timestamp
            if not begin <= at < end or steps[i] != step:
                if not -TIME_MAX_S < at < TIME_MAX_S:
                    continue
                minute, step = int(at // 60), steps[i]
                begin, end = minute * 60.0, minute * 60.0 + 60.0
                now = cells.setdefault((minute, step), [])
                now.extend({} for _ in range(len(self._folds) - len(now)))
            for number, raw_of, amount_of, amount_test in folds:
                amount: Any = 0
                if amount_of is not None:
                    amount = amount_of(event)
                    if amount is None or (amount_test is not None and not amount_test(amount)):
                        continue
                    if amount.__class__ is not int or not 0 <= amount <= AMOUNT_MAX:
                        amount = whole(amount)
                raw = raw_of(event)
                held: Any = now[number].get(raw)
                if held:
                    held[0] += 1
                    held[1] += amount
                    if at > held[3]:
                        held[3] = at
                    elif at < held[2] or (at == held[2] and sources[i] < sources[held[4]]):
                        held[2], held[4] = at, i
                elif held is None:
                    prepared = self._folds[number].prepare(raw)
                    now[number][raw] = False if prepared is None else [1, amount, at, at, i, prepared]
        return self._made(cells, located)

    def _route(self, route: Any, event: Event) -> tuple[tuple[int, Any, Any, Any], ...]:
        if len(self._routes) >= ROUTES_MAX:
            self._routes.clear()
        made = self._routes[route] = tuple(
            (number, fold.raw, fold.value, fold.value_test)
            for number, fold in enumerate(self._folds)
            if fold.routed(event)
        )
        return made

    def _made(self, cells: dict[tuple[int, int], list[Cell]], located: Located) -> list[Fact]:
        facts = []
        for (minute, step), of_profiles in cells.items():
            due = max(step, minute)  # a fact is never evaluated before its own minute
            for fold, cell in zip(self._folds, of_profiles, strict=True):
                shown = _shown(cell, located.sources) if fold.few_lines else None
                for held in cell.values():
                    if held:
                        count, value, first, last, i, (key, item, entities) = held
                        lines = (located.evidence(i),) if shown is None or i in shown else ()
                        facts.append(
                            Fact(
                                fold.detector, key, item, minute, due, first, last, count, float(value), entities, lines
                            )
                        )
        return facts


def _shown(cell: Cell, sources: Sequence[str]) -> set[int]:
    """The events behind the facts that keep a line: for each key those of the items that came first.

    However a minute was cut into batches, the earliest lines of all its batches together are the same.
    """
    of_keys: dict[str, dict[str, tuple[float, str, int]]] = {}
    for held in cell.values():
        if held:
            _, _, first, _, i, (key, item, _) = held
            place = (first, sources[i], i)
            items = of_keys.setdefault(key, {})
            if item not in items or place < items[item]:
                items[item] = place
    return {i for items in of_keys.values() for _, _, i in sorted(items.values())[:EVIDENCE_MAX]}


def merged(facts: Sequence[Fact]) -> list[Fact]:
    """Facts with equal (detector, key, item, minute) as one, in the order of these four.

    Every part of the result is the same however the facts were cut into batches: sums are of whole numbers, entities
    the smallest of all, and the evidence is the earliest line.
    """
    found: dict[tuple[str, str, str, int], Fact] = {}
    for fact in facts:
        place = (fact.detector, fact.key, fact.item, fact.minute)
        held = found.get(place)
        found[place] = fact if held is None else _merge(held, fact)
    return [found[place] for place in sorted(found)]


def _merge(a: Fact, b: Fact) -> Fact:
    return Fact(
        a.detector,
        a.key,
        a.item,
        a.minute,
        max(a.step, b.step),
        min(a.first, b.first),
        max(a.last, b.last),
        a.count + b.count,
        a.value + b.value,
        a.entities if a.entities == b.entities else tuple(sorted({*a.entities, *b.entities})[:ENTITIES_MAX]),
        earliest((a, b), 1),
    )


def earliest(facts: Iterable[Fact], count: int) -> tuple[Any, ...]:
    """The first lines behind some facts, by time and place."""
    lines = {(e.time, e.source, e.topic, e.partition, e.offset, e.index): e for fact in facts for e in fact.evidence}
    return tuple(lines[place] for place in sorted(lines)[:count])


def single(field: str, known: Mapping[str, derived.Getter]) -> derived.Getter:
    """One field of an event: an attribute, one of `derived`, or one of its `fields`."""
    attribute = ECS_ATTRIBUTES.get(field)
    if attribute:
        return attrgetter(attribute)
    made = known.get(field)
    return made or (lambda event: event.fields.get(field))


def reader(fields: Sequence[str], known: Mapping[str, derived.Getter]) -> Callable[[Event], tuple[Any, ...]]:
    """The values of some fields as one hashable tuple, as fast as the fields allow."""
    attributes = [ECS_ATTRIBUTES.get(field) for field in fields]
    if all(attributes) and len(fields) > 1:
        return attrgetter(*(a for a in attributes if a))
    getters = [single(field, known) for field in fields]
    return lambda event: tuple([_hashable(get(event)) for get in getters])


def value_of(event: Event, field: str) -> Any:
    attribute = ECS_ATTRIBUTES.get(field)
    return getattr(event, attribute) if attribute else event.fields.get(field)


def _hashable(value: Any) -> Any:
    return tuple(map(str, value)) if value.__class__ is list else value


def named(value: Any, kind: str) -> str:
    """A value as part of a key: bounded, and as one name where systems write one thing in several ways."""
    if value is None:
        return ""
    text = str(value)[:NAME_CHARS_MAX].replace(SEPARATOR, " ")
    return entity_name(kind, text) if kind in _FOLDED_CASE else text


def whole(value: Any) -> int:
    """Sums are of whole numbers, so that no order of adding changes them; what is no number counts nothing."""
    if isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= AMOUNT_MAX:
        return int(value)
    return 0


def test_of(field: str, wanted: Scalar | list[Scalar] | Condition, classes: Classes) -> Test:
    """A condition as a function of one value. A field with several values holds if one of them does."""
    if not isinstance(wanted, Condition):
        allowed = frozenset(wanted) if isinstance(wanted, list) else frozenset({wanted})
        return lambda value: any(v in allowed for v in value) if isinstance(value, tuple | list) else value in allowed
    tests: list[Test] = []
    if wanted.exists is not None:
        there = wanted.exists
        tests.append(lambda value: (value is not None and value != "") is there)
    if wanted.prefix is not None:
        starts = (wanted.prefix,) if isinstance(wanted.prefix, str) else tuple(wanted.prefix)
        tests.append(lambda value: isinstance(value, str) and value.startswith(starts))
    if wanted.suffix is not None:
        ends = (wanted.suffix,) if isinstance(wanted.suffix, str) else tuple(wanted.suffix)
        tests.append(lambda value: isinstance(value, str) and value.endswith(ends))
    if wanted.class_ is not None:
        kind, of_class = KINDS.get(field, "value"), frozenset(wanted.class_)
        tests.append(lambda value: isinstance(value, str) and classes.of(kind, named(value, kind)) in of_class)
    if wanted.none_of is not None:
        banned = frozenset(wanted.none_of)
        tests.append(lambda value: value not in banned)
    if wanted.address is not None:
        sides = {"external"} if wanted.address == "external" else {"internal", "server"}
        tests.append(lambda value: isinstance(value, str) and classes.address(value) in sides)
    return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)
