"""The raw half: one pass over a batch that turns events into facts, equal ones folded into one with a count.

Conditions on fields with few values (dataset, outcome, ...) choose a bundle of profiles once per combination. Its fields
are read once per event; what each profile makes of a combination of values is decided once and remembered.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from connectors.events import ECS_ATTRIBUTES, Event
from detectors.behaviour import derived
from detectors.behaviour.inventory import Classes
from detectors.behaviour.profiles import Condition, Profile, Scalar
from detectors.facts import EVIDENCE_MAX, Entity, Evidence, Fact, Located, entity_name

ROUTES_MAX = 16_384  # combinations remembered; beyond that the memory starts afresh
NAMES_MAX = 65_536  # values remembered, per bundle and field
NAME_CHARS_MAX = 256  # of a key or item
ENTITIES_MAX = 8  # per fact
SEPARATOR = "\x1f"  # between the parts of a pair
LOOPBACK = ("127.", "::ffff:127.")
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
    "shield.tenant": "tenant",
    "destination.port": "port",
}
ENTITY_KINDS = frozenset({"address", "user", "host", "domain", "network", "service", "tenant"})
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
        "http.response.status_code",
    }
)
_FOLDED_CASE = frozenset({"user", "host", "process", "domain"})  # names that systems write in any case

Prepared = tuple[str, str, tuple[Entity, ...]]  # key, item and entities
Test = Callable[[Any], bool]
Cell = dict[Any, list[Any]]  # combination -> count, first, last, index of the first, amounts


class Fold:
    """One profile's raw half."""

    def __init__(self, profile: Profile, classes: Classes) -> None:
        self.detector = profile.id
        self.few_lines = profile.first_seen is None  # counted only: a key's earliest lines show what was counted
        self.static = {f: test_of(f, wanted, classes) for f, wanted in profile.select.items() if f in _STATIC}
        given = {f: c for f, c in profile.select.items() if f not in _STATIC}
        self.value = profile.value
        self.value_test: Test | None = None
        if profile.value in given:  # tested apart: bytes in the combination would leave nothing to fold
            wanted = given.pop(profile.value)
            if wanted != Condition(exists=True):  # events without the value are never counted
                self.value_test = test_of(profile.value, wanted, classes)
        self.key, self.item = profile.keys, profile.items
        self.booked = list(dict.fromkeys([*self.key, *profile.entities]))
        self._tests = {field: test_of(field, wanted, classes) for field, wanted in given.items()}
        self.fields = list(dict.fromkeys([*self.key, *self.item, *self.booked, *self._tests]))
        self._skipped = classes.scanners if profile.spread else frozenset()

    def routed(self, event: Event) -> bool:
        return all(test(value_of(event, field)) for field, test in self.static.items())

    def wants(self, field: str, value: Any, name: str) -> bool:
        """Whether this value of one of the fields, by its name, speaks against nothing."""
        test = self._tests.get(field)
        if test is not None and not test(value):
            return False
        if field == self.key[0] and name in self._skipped:
            return False
        return bool(name) or not (field in self.key or field in self.item)


class Field:
    """One field for all profiles of a bundle. Its values are few: what each profile thinks of one is remembered."""

    def __init__(self, name: str, folds: Sequence[Fold]) -> None:
        self.kind = KINDS.get(name, "value")
        self._askers = [(1 << bit, fold) for bit, fold in enumerate(folds) if name in fold.fields]
        self._others = (1 << len(folds)) - 1 - sum(bit for bit, _ in self._askers)
        self._field = name
        self.known: dict[Any, tuple[str, Entity | None, int]] = {}

    def learn(self, value: Any) -> tuple[str, Entity | None, int]:
        """The value's name, the entity it stands for, and the bits of the profiles that it suits."""
        if len(self.known) >= NAMES_MAX:
            self.known.clear()
        name = named(value, self.kind)
        entity = (self.kind, name) if name and self.kind in ENTITY_KINDS else None
        bits = self._others | sum(bit for bit, fold in self._askers if fold.wants(self._field, value, name))
        found = self.known[value] = (name, entity, bits)
        return found


class Bundle:
    """All profiles that may want an event of one kind: its values are read once for all of them."""

    def __init__(self, folds: Sequence[tuple[int, Fold]], known: Mapping[str, derived.Getter]) -> None:
        fields = list(dict.fromkeys(field for _, fold in folds for field in fold.fields))
        fields.sort(key=lambda field: field not in ECS_ATTRIBUTES)  # as `reader` answers them
        values = list(dict.fromkeys((f.value, f.value_test) for _, f in folds if f.value))
        self.read = reader(fields, known)
        self.amounts = [(single(value, known), test) for value, test in values if value]
        self._fields = [Field(name, [fold for _, fold in folds]) for name in fields]
        self._all = (1 << len(folds)) - 1
        self._folds = [
            (
                1 << bit,
                number,
                values.index((fold.value, fold.value_test)) if fold.value else -1,
                [fields.index(f) for f in fold.key],
                [fields.index(f) for f in fold.item],
                [fields.index(f) for f in fold.booked],
            )
            for bit, (number, fold) in enumerate(folds)
        ]

    def wanted(self, raw: Sequence[Any]) -> list[tuple[int, int, Prepared]]:
        """(profile's number, number of its amount or -1, key, item and entities) of all that want this combination."""
        names: list[str] = []
        entities: list[Entity | None] = []
        bits = self._all
        for field, value in zip(self._fields, raw, strict=True):
            name, entity, suits = field.known.get(value) or field.learn(value)
            bits &= suits
            if not bits:
                return []
            names.append(name)
            entities.append(entity)
        return [
            (number, amount, (_joined(names, key), _joined(names, item), _entities(entities, booked)))
            for bit, number, amount, key, item, booked in self._folds
            if bits & bit
        ]


def _joined(names: list[str], places: list[int]) -> str:
    return names[places[0]] if len(places) == 1 else SEPARATOR.join([names[place] for place in places])


def _entities(entities: list[Entity | None], places: list[int]) -> tuple[Entity, ...]:
    found = [entity for place in places if (entity := entities[place]) is not None]
    if len(found) == 1:
        return (found[0],)
    if len(found) == 2:
        a, b = found
        return (a, b) if a < b else (b, a) if b < a else (a,)
    return tuple(sorted(set(found))[:ENTITIES_MAX])


class Folding:
    """All profiles' raw halves. Pure: what it remembers are answers that can be computed again."""

    def __init__(self, profiles: Iterable[Profile], classes: Classes) -> None:
        self._known = derived.getters(classes)
        self._folds = [Fold(profile, classes) for profile in profiles]
        fields = sorted({"event.dataset", *(field for fold in self._folds for field in fold.static)})
        self._route_key = attrgetter(*(ECS_ATTRIBUTES[f] for f in fields), "event_module")
        self._bundles: dict[tuple[int, ...], Bundle | None] = {(): None}
        self._routes: dict[Any, Bundle | None] = {}

    def facts(self, located: Located) -> list[Fact]:
        cells: dict[tuple[int, int], dict[Bundle, Cell]] = {}
        now: dict[Bundle, Cell] = {}
        minute = step = -1
        begin = end = 0.0  # of the minute
        routes, route_key, steps, sources = self._routes, self._route_key, located.steps, located.sources
        for i, event in enumerate(located.events):
            route = route_key(event)
            try:
                bundle = routes[route]
            except KeyError:
                bundle = self._route(route, event)
            if bundle is None:
                continue
            at = event.timestamp
            if not begin <= at < end or steps[i] != step:
                if not -TIME_MAX_S < at < TIME_MAX_S:
                    continue
                minute, step = int(at // 60), steps[i]
                begin, end = minute * 60.0, minute * 60.0 + 60.0
                now = cells.setdefault((minute, step), {})
            cell = now.get(bundle)
            if cell is None:
                cell = now[bundle] = {}
            raw: Any = bundle.read(event)
            amounts = None
            if bundle.amounts:
                amounts = [amount_of(read(event), test) for read, test in bundle.amounts]
                raw = (raw, *[amount is None for amount in amounts])  # those without are folded apart
            held = cell.get(raw)
            if held is None:
                cell[raw] = [1, at, at, i, amounts]
                continue
            held[0] += 1
            if at > held[2]:
                held[2] = at
            elif at < held[1] or (at == held[1] and sources[i] < sources[held[3]]):
                held[1], held[3] = at, i
            if amounts:
                held[4] = [None if more is None else more + sum_ for more, sum_ in zip(amounts, held[4], strict=True)]
        return self._made(cells, located)

    def _route(self, route: Any, event: Event) -> Bundle | None:
        if len(self._routes) >= ROUTES_MAX:
            self._routes.clear()
        numbers = tuple(number for number, fold in enumerate(self._folds) if fold.routed(event))
        if numbers not in self._bundles:
            self._bundles[numbers] = Bundle([(n, self._folds[n]) for n in numbers], self._known)
        made = self._routes[route] = self._bundles[numbers]
        return made

    def _made(self, cells: Mapping[tuple[int, int], Mapping[Bundle, Cell]], located: Located) -> list[Fact]:
        facts = []
        lines_of: dict[int, tuple[Evidence]] = {}  # an event is shown by many profiles
        for (minute, step), of_bundles in cells.items():
            due = max(step, minute)  # a fact is never evaluated before its own minute
            for number, cell in sorted(_by_profile(of_bundles, located.sources).items()):
                fold = self._folds[number]
                shown = _shown(cell, located.sources) if fold.few_lines and len(cell) > EVIDENCE_MAX else None
                for (key, item, entities), (count, value, first, last, i) in cell.items():
                    lines: tuple[Evidence, ...] = ()
                    if shown is None or i in shown:
                        lines = lines_of.get(i) or lines_of.setdefault(i, (located.evidence(i),))
                    facts.append(
                        Fact(fold.detector, key, item, minute, due, first, last, count, float(value), entities, lines)
                    )
        return facts


def _by_profile(of_bundles: Mapping[Bundle, Cell], sources: Sequence[str]) -> dict[int, dict[Any, list[Any]]]:
    """Profile's number -> (key, item, entities) -> count, sum, first, last, index of the first."""
    found: dict[int, dict[Any, list[Any]]] = {}
    for bundle, combinations in of_bundles.items():
        for raw, (count, first, last, i, amounts) in combinations.items():
            for number, place, prepared in bundle.wanted(raw if amounts is None else raw[0]):
                amount = amounts[place] if place >= 0 else 0
                if amount is None:
                    continue
                cell = found.get(number)
                if cell is None:
                    cell = found[number] = {}
                held = cell.get(prepared)
                if held is None:
                    cell[prepared] = [count, amount, first, last, i]
                    continue
                held[0] += count
                held[1] += amount
                held[3] = max(held[3], last)
                if first < held[2] or (first == held[2] and sources[i] < sources[held[4]]):
                    held[2], held[4] = first, i
    return found


def amount_of(value: Any, test: Test | None) -> int | None:
    """What an event adds to a sum; None if it is not counted."""
    if value is None or (test is not None and not test(value)):
        return None
    return value if value.__class__ is int and 0 <= value <= AMOUNT_MAX else whole(value)


def _shown(cell: Mapping[Any, list[Any]], sources: Sequence[str]) -> set[int]:
    """The events behind the facts that keep a line: for each key those of the items that came first.

    However a minute was cut into batches, the earliest lines of all its batches together are the same.
    """
    of_keys: dict[str, dict[str, tuple[float, str, int]]] = {}
    for (key, item, _), (_, _, first, _, i) in cell.items():
        place = (first, sources[i], i)
        items = of_keys.setdefault(key, {})
        if item not in items or place < items[item]:
            items[item] = place
    return {i for items in of_keys.values() for _, _, i in sorted(items.values())[:EVIDENCE_MAX]}


def grouped(facts: Iterable[Fact], wanted: Container[str]) -> dict[str, dict[str, list[Fact]]]:
    """Detector -> key -> facts in the order of (minute, item), equal ones merged; keys in their own order.

    Every part of the result is the same however the facts were cut into batches: sums are of whole numbers, entities
    the smallest of all, and the evidence is the earliest line.
    """
    found: dict[str, dict[str, list[Fact]]] = {}
    for fact in facts:
        keys = found.get(fact.detector)
        if keys is None:
            if fact.detector not in wanted:
                continue
            keys = found[fact.detector] = {}
        of_key = keys.get(fact.key)
        if of_key is None:
            keys[fact.key] = [fact]
        else:
            of_key.append(fact)
    return {
        detector: {key: _merged(keys[key]) if len(keys[key]) > 1 else keys[key] for key in sorted(keys)}
        for detector, keys in found.items()
    }


def _merged(facts: list[Fact]) -> list[Fact]:
    facts.sort(key=attrgetter("minute", "item"))
    found = facts[:1]
    for fact in facts[1:]:
        last = found[-1]
        if fact.item == last.item and fact.minute == last.minute:
            found[-1] = _merge(last, fact)
        else:
            found.append(fact)
    return found


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


def earliest(facts: Sequence[Fact], count: int) -> tuple[Evidence, ...]:
    """The first lines behind some facts, by time and place."""
    if len(facts) == 1 and len(facts[0].evidence) <= count:
        return facts[0].evidence
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
    """The values of some fields as one hashable tuple, as fast as the fields allow: those of ECS first."""
    attributes = [ECS_ATTRIBUTES[field] for field in fields if field in ECS_ATTRIBUTES]
    others = [single(field, known) for field in fields if field not in ECS_ATTRIBUTES]
    if len(attributes) < 2:  # attrgetter answers a tuple from two on
        singles = [single(field, known) for field in fields]
        return lambda event: tuple([_hashable(get(event)) for get in singles])
    read: Callable[[Event], Any] = attrgetter(*attributes)
    if not others:
        return read
    return lambda event: (*read(event), *[_hashable(get(event)) for get in others])


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
    if kind == "address" and (
        text == "::1" or text.startswith(LOOPBACK)
    ):  # of every machine the same: no address of one of them
        return ""
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
