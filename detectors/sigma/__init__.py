"""Sigma detection: a rule set finds the rules that a batch of events meets, and correlates their hits over time.

`facts` is the stateless half and sees every event: events are routed by dataset and event code to one generated function
that tests all rules for that kind. `correlate` is the stateful half and sees only the hits of rules that correlations name.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from connectors.events import Event
from detectors.facts import EVIDENCE_MAX, Entity, Evidence, Fact, Located, Store, entity_name
from detectors.sigma.correlation import JOIN, Correlator
from detectors.sigma.generate import generate
from detectors.sigma.index import Condition, Index
from detectors.sigma.literals import Texts
from detectors.sigma.loader import PLACEHOLDER, Correlation, Fault, Rule, RuleFaults, load, spoken
from detectors.sigma.logsource import CODES, OTHER_CODE, Sources, entity_fields, sources
from detectors.sigma.tree import Const, codes_of, simplify
from detectors.sigma.values import getter, written

__all__ = ["Correlation", "Fault", "Kind", "Rule", "RuleFaults", "RuleSet", "spoken"]

ROUTES_MAX = 4096  # kinds of event remembered; a sender can invent event codes and program names without end
KINDS_MAX = 1024  # of these, as far as rules tell them apart
INDEXED_MIN = 8  # rules on one kind of event from which on an index is faster than running them all
EXTRA_BYTES_MAX = 512  # of one value that a sentence names
KEY_BYTES_MAX = 512  # of one key value

_NUMBERS = frozenset({"count", "window_s", "first", "last"})  # what a sentence may name besides fields


class _Feed(msgspec.Struct):
    """How a hit of one rule becomes a fact for one correlation."""

    detector: str
    group: tuple[Callable[[Event], Any], ...]
    items: tuple[Callable[[Event], Any], ...]
    extra: tuple[tuple[str, Callable[[Event], Any]], ...]


class _Plan(msgspec.Struct):
    """What to do with a hit of one rule."""

    rule: Rule
    keys: tuple[tuple[Callable[[Event], Any], ...], ...]  # alternatives, the first whose values are all there
    extra: tuple[tuple[str, Callable[[Event], Any]], ...]
    feeds: tuple[_Feed, ...]


def _value(event: Event, read: Callable[[Event], Any]) -> str | None:
    """A field as short text; None where it is missing or empty. Of a list all values."""
    value = read(event)
    if value is None or value == "":
        return None
    if value.__class__ is not str:
        plain = written(value)
        value = plain if isinstance(plain, str) else ",".join(plain.texts)
    return str(value)[:KEY_BYTES_MAX]


Kind = tuple[str, str | None, tuple[str, ...]]  # dataset, event code and ECS categories: what routes an event


class RuleSet:
    """Loaded rules, ready to match. Immutable as far as detection goes; reloading makes a new one."""

    def __init__(
        self, rules: Sequence[Rule], faults: Sequence[Fault] = (), warnings: Sequence[Fault] = (), until: str = ""
    ) -> None:
        self.rules: dict[str, Rule] = {rule.id: rule for rule in rules}
        self.faults = list(faults)
        self.warnings = list(warnings)
        self.until = until  # the last day (ISO 8601, UTC) on which dates in the files leave it as it is, "" for ever
        self._correlator = Correlator(rules)
        self._above: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.correlation is not None:
                for below in dict.fromkeys(rule.correlation.rules):
                    self._above.setdefault(below, []).append(rule)
        self._base = [rule for rule in rules if rule.condition is not None]
        self._ids = [rule.id for rule in self._base]
        self._plans = [self._plan(rule) for rule in self._base]
        self._texts = Texts()
        self._conditions: list[Condition] = []
        self._coded: list[frozenset[str]] = []
        for number, rule in enumerate(self._base):
            assert rule.condition is not None
            self._conditions.append(Condition(number, rule.condition, self._texts))
            self._coded.append(codes_of(rule.condition))
        self._codes = CODES.union(*self._coded)
        self._sources: dict[tuple[str | None, str | None, str | None], list[int]] = {}
        for number, rule in enumerate(self._base):
            self._sources.setdefault((rule.product, rule.category, rule.service), []).append(number)
        self._services = frozenset(rule.service for rule in self._base if rule.service is not None)
        self._products = frozenset(rule.product for rule in self._base if rule.product is not None)
        self._routes: dict[Kind, Callable[[Event], list[int] | None] | None] = {}
        self._kinds: dict[tuple[Sources, str | None], Callable[[Event], list[int] | None] | None] = {}

    @classmethod
    def load(
        cls,
        paths: Sequence[Path],
        *,
        strict: bool = True,
        expansions: Mapping[str, Sequence[str]] | None = None,
        cache: Path | None = None,
        today: date | None = None,
        owned: bool = False,
    ) -> "RuleSet":
        """Rules from files and folders; raises RuleFaults with all faults, or (not strict) keeps the good rules.

        `expansions` gives the values of each %placeholder% under the modifier `expand`; rules with others are refused.
        `cache` is a folder in which understood rules are kept for the next start. `today` (UTC) decides which filters
        have expired and which rules are still in staging; `owned` refuses filters without owner, reason and expiry.
        """
        today = today or datetime.now(UTC).date()
        loaded = load([Path(path) for path in paths], expansions, cache, today=today, owned=owned)
        if loaded.faults and strict:
            raise RuleFaults(loaded.faults)
        return cls(loaded.rules, loaded.faults, loaded.warnings, loaded.until)

    def facts(self, located: Located) -> list[Fact]:
        """What a batch says: one fact per rule, key, minute and step for hits, and one per hit for each correlation."""
        routes = self._routes
        folded: dict[tuple[Any, ...], Fact] = {}
        taken: dict[tuple[str, str, int], int] = {}
        for i, event in enumerate(located.events):
            kind = (event.event_dataset, event.event_code, event.event_category)
            try:
                matches = routes[kind]
            except KeyError:
                matches = self._route(*kind)
            if matches is None:
                continue
            hits = matches(event)
            if hits is not None:
                for number in hits:
                    self._note(located, i, event, self._plans[number], folded, taken)
        return list(folded.values())

    def matches(self, event: Event) -> list[str]:
        """The ids of the rules that one event meets, in the order of the rules; correlations aside."""
        kind = (event.event_dataset, event.event_code, event.event_category)
        try:
            found = self._routes[kind]
        except KeyError:
            found = self._route(*kind)
        numbers = found(event) if found is not None else None
        return [self._ids[number] for number in numbers] if numbers else []

    def prepare(self, like: "RuleSet") -> None:
        """Compiles for the kinds of events that another rule set has met, so that the first batch need not wait for it."""
        for kind in list(like._routes):  # noqa: SLF001 -- another of its kind
            self._route(*kind)

    def unindexed(self) -> list[str]:
        """The ids of the rules of which no text is necessary: each of them is run on every event of its log source."""
        return [rule.id for rule, each in zip(self._base, self._conditions, strict=True) if each.need is None]

    def correlate(self, store: Store, facts: Sequence[Fact]) -> list[Fact]:
        """The findings of all correlations over these facts, a function of their order and the state in the store."""
        return self._correlator.correlate(store, facts)

    def _plan(self, rule: Rule) -> _Plan:
        alternatives = (rule.entity,) if rule.entity else entity_fields(rule.product, rule.category, rule.service)
        feeds: list[_Feed] = []
        for outer in self._above.get(rule.id, ()):
            spec = outer.correlation
            assert spec is not None
            number = spec.rules.index(rule.id)
            names = sorted(self._named(outer) - set(spec.group_by))
            feeds.append(
                _Feed(
                    detector=f"{outer.id}<{rule.id}",
                    group=tuple(getter(name) for name in spec.groups[number]),
                    items=tuple(getter(name) for name in spec.items),
                    extra=tuple((name, getter(name)) for name in names),
                )
            )
        return _Plan(
            rule=rule,
            keys=tuple(tuple(getter(name) for name in names) for names in alternatives),
            extra=tuple((name, getter(name)) for name in sorted(self._named(rule))),
            feeds=tuple(feeds),
        )

    def _named(self, rule: Rule) -> set[str]:
        """The fields that a rule's sentences name, with those of the correlations that it is part of."""
        names: set[str] = set()
        for template in (*rule.reason.values(), rule.title, rule.title_de):
            names.update(PLACEHOLDER.findall(template))
        if rule.correlation is not None:
            for above in self._above.get(rule.id, ()):
                names |= self._named(above)
        return names - _NUMBERS

    def _route(
        self, dataset: str, code: str | None, ecs: tuple[str, ...]
    ) -> Callable[[Event], list[int] | None] | None:
        """The function for one kind of event, None when no rule applies to it. Kinds that rules cannot tell apart share one."""
        if len(self._routes) >= ROUTES_MAX or len(self._kinds) >= KINDS_MAX:
            self._routes.clear()
            self._kinds.clear()
        known_code = code if code is None or code in self._codes else OTHER_CODE
        told = sources(dataset, known_code, ecs)
        told = Sources(told.products & self._products, told.categories, told.services & self._services)
        if (told, known_code) not in self._kinds:
            numbers = [n for source, those in self._sources.items() if told.match(*source) for n in those]
            applying: list[Condition] = []
            for number in sorted(numbers):
                condition = self._conditions[number]
                if self._coded[number]:
                    node = simplify(condition.node, known_code)
                    if isinstance(node, Const) and not node.value:
                        continue
                    condition = Condition(number, node, self._texts)
                applying.append(condition)
            self._kinds[told, known_code] = self._matcher(applying)
        found = self._routes[dataset, code, ecs] = self._kinds[told, known_code]
        return found

    def _matcher(self, applying: Sequence[Condition]) -> Callable[[Event], list[int] | None] | None:
        if not applying:
            return None
        if len(applying) < INDEXED_MIN and not any(condition.keyword for condition in applying):
            return generate([(condition.number, condition.node) for condition in applying])
        return Index(applying, self._texts).matches

    def _note(
        self,
        located: Located,
        i: int,
        event: Event,
        plan: _Plan,
        folded: dict[tuple[Any, ...], Fact],
        taken: dict[tuple[str, str, int], int],
    ) -> None:
        """Adds a hit to the facts of the batch."""
        time = event.timestamp
        minute = int(time // 60)
        step = located.steps[i]
        for feed in plan.feeds:
            key = _joined(event, feed.group)
            item = _joined(event, feed.items) if feed.items else ""
            if key is None or item is None:
                continue  # without its group there is no window that the hit belongs to
            place: tuple[Any, ...] = (feed.detector, key, item, time, step)
            fact = folded.get(place)
            if fact is not None:
                fact.count += 1
                continue
            shown = taken.get((feed.detector, key, minute), 0)
            evidence: tuple[Evidence, ...] = ()
            if shown < EVIDENCE_MAX:
                taken[feed.detector, key, minute] = shown + 1
                evidence = (located.evidence(i),)
            extra = _extra(event, feed.extra)
            folded[place] = Fact(
                feed.detector, key, item, minute, step, time, time, 1, 0.0, _entities(event), evidence, extra
            )
        if not plan.rule.alerts:
            return
        key = None
        for alternative in plan.keys:
            key = _joined(event, alternative)
            if key is not None:
                break
        key = key or ""
        entities = _entities(event)
        place = (plan.rule.id, key, minute, step, entities)  # apart by entities: so no cut of a batch shows in them
        fact = folded.get(place)
        if fact is None:
            extra = _extra(event, plan.extra)
            folded[place] = Fact(
                plan.rule.id, key, "", minute, step, time, time, 1, 0.0, entities, (located.evidence(i),), extra
            )
            return
        fact.count += 1
        fact.first = min(fact.first, time)
        fact.last = max(fact.last, time)
        if len(fact.evidence) < EVIDENCE_MAX:
            fact.evidence = (*fact.evidence, located.evidence(i))


def _joined(event: Event, reads: Sequence[Callable[[Event], Any]]) -> str | None:
    """The values of these fields as one key, None when one is missing."""
    if len(reads) == 1:
        return _value(event, reads[0])
    values: list[str] = []
    for read in reads:
        value = _value(event, read)
        if value is None:
            return None
        values.append(value)
    return JOIN.join(values)


def _entities(event: Event) -> tuple[Entity, ...]:
    """Whom an event is about: its user, source address and host, as far as it names them."""
    found: list[Entity] = []
    if event.user_name:
        found.append(("user", entity_name("user", event.user_name)))
    if event.source_ip:
        found.append(("address", event.source_ip))
    if event.host_name:
        found.append(("host", entity_name("host", event.host_name)))
    return tuple(found)


def _extra(event: Event, fields: Sequence[tuple[str, Callable[[Event], Any]]]) -> dict[str, str]:
    return {name: value[:EXTRA_BYTES_MAX] for name, read in fields if (value := _value(event, read)) is not None}
