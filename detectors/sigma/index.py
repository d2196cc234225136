"""Many rules on one kind of event: each is looked at only when texts that it cannot do without are there.

For every rule the index picks necessary texts, the rarest by what a sample of the events shows, and where the rarest is
still common a second and third set of them that must be there as well. An event's fields are looked up in tables of these
texts, with the answers for values remembered, and only the rules that turn up are run. Which texts are picked never
changes what is found.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Literal

import msgspec

from connectors.events import ECS_ATTRIBUTES, Event
from detectors.sigma.generate import Probe, checker, generate, prober, tester
from detectors.sigma.literals import Choice, Every, Group, Need, Texts, Wanted, choose, fold
from detectors.sigma.logsource import FALLBACKS
from detectors.sigma.scan import SMALL_OF, Absent, Scanner
from detectors.sigma.tree import And, Node, has_keywords, only_field
from detectors.sigma.values import (
    ABSENT,
    ADDED,
    LOWERED_CHARS_MIN,
    Many,
    Unread,
    getter,
    held,
    keyword_text,
    lowered,
    text,
    written,
)

SAMPLE_EVENTS = 256  # of a kind, after which the texts are chosen anew
EAGER_EVENTS = 64  # of these every one; then, until the first sample is complete, every SAMPLE_STEP_EARLY-th
SAMPLE_STEP_EARLY = 4
SAMPLE_STEP_MAX = 512  # a sample takes every event, the next every 8th, then every 64th and so on
SAMPLE_STEP_GROWTH = 8
SAMPLE_CHARS_MAX = 2048  # of a value in the sample
SAMPLE_CHARS_SUM_MAX = 524_288  # of all values in it; with more it is complete as it is
SAMPLE_ROUNDS = 6  # of choosing and looking how common the choice is
KEYWORD_PRICE = 1.0  # a search in all values costs as much as running a rule on every event
PROBE_PRICE = 0.1  # looking up one field, as a share of running a rule
MARKS_MAX = 3  # sets of texts asked for together
COMMON_MIN = 0.002  # of the events; a rule that turns up more often is asked for with a further set
PASSED_MAX = 0.8  # of the values with a necessary text; if more pass the further test, it is left out
FURTHER_PRICE = 0.05  # noting one more text, as a share of running a rule
MEMO_MAX = 4096  # values of a field remembered
MEMO_CHARS_SUM_MAX = 524_288  # of all remembered values of a field
COMBINED_MAX = 4096  # combinations of found texts remembered
COMBINED_MARKS_MAX = 64  # of a remembered combination

Marks = tuple[int, ...]
Test = Callable[[str, str], bool]  # of a text as it is and in small letters
_NONE: Marks = ()
_NO_TESTS: Mapping[int, Test] = {}


class Condition:
    """One rule's condition and what is derived from it on demand; shared by the kinds of event it applies to."""

    def __init__(self, number: int, node: Node, texts: Texts) -> None:
        self.number = number
        self.node = node
        self._texts = texts
        self._tests: dict[str, Test] = {}

    @cached_property
    def need(self) -> Need | None:
        return self._texts.need(self.node)

    @cached_property
    def keyword(self) -> bool:
        return has_keywords(self.node)

    @cached_property
    def check(self) -> Callable[[Event], bool]:
        return checker(self.node)

    @cached_property
    def alone(self) -> dict[str, Node]:
        """What must hold of one field's value, whatever the others are."""
        found: dict[str, list[Node]] = {}
        for part in self.node.args if isinstance(self.node, And) else (self.node,):
            field = only_field(part)
            if field is not None:
                found.setdefault(field, []).append(part)
        return {field: And(tuple(parts)) for field, parts in found.items()}

    def holds(self, field: str, value: str, low: str) -> bool:
        """Whether the condition may hold with this text in a field."""
        test = self._tests.get(field)
        if test is None:
            test = self._tests[field] = tester(field, self.alone[field])
        return test(value, low)


class Asked(msgspec.Struct, frozen=True):
    """One of these texts must be there, in a value that passes the test of what else the rule says of this field alone."""

    texts: frozenset[int]
    tested: bool = True


class Table:
    """The texts on one field and the marks that each leaves on an event; `tests` has what else a mark asks of the value."""

    def __init__(self, wanted: Mapping[Wanted, Iterable[int]], tests: Mapping[int, Test] = _NO_TESTS) -> None:
        self._equals: dict[str, Marks] = {}
        within: dict[str, int] = {}
        self._anywhere: list[list[int]] = []
        self._edges: dict[int, list[tuple[Literal["startswith", "endswith"], str, list[int]]]] = {}
        for each, marks in wanted.items():
            if each.op == "equals":
                self._equals[each.value] = tuple(sorted(marks))
                continue
            place = within.setdefault(each.value, len(within))
            if place == len(self._anywhere):
                self._anywhere.append([])
            if each.op == "contains":
                self._anywhere[place] += marks
            else:
                self._edges.setdefault(place, []).append((each.op, each.value, list(marks)))
        self._ascii = all(each.value.isascii() for each in wanted)
        self._scanner = Scanner(list(within)) if within else None
        self._tests = tests
        self.memo: dict[str, Marks] = {}
        self._memo_chars = 0
        self.remembered: Callable[[str], Marks | None] = self.memo.get

    def of_text(self, value: str) -> Marks:
        """The marks that a text leaves, each once and in order."""
        if len(value) >= LOWERED_CHARS_MIN:
            return self._found(self._long(value))
        low = value.lower()
        marks = self._found(fold(low))
        if marks and self._tests:
            tests = self._tests
            marks = tuple([mark for mark in marks if (test := tests.get(mark)) is None or test(value, low)])
        self._memo_chars += len(value)
        if len(self.memo) >= MEMO_MAX or self._memo_chars > MEMO_CHARS_SUM_MAX:
            self.memo.clear()
            self._memo_chars = len(value)
        self.memo[value] = marks
        return marks

    def found(self, value: str) -> Marks:
        """The marks of all texts that stand in a value."""
        return self._found(fold(value.lower()) if len(value) < LOWERED_CHARS_MIN else self._long(value))

    def _found(self, low: str) -> Marks:
        marks = self._equals.get(low, _NONE)
        places = self._scanner.found(low) if self._scanner is not None else _NONE
        if not places:
            return marks
        found = set(marks)
        for place in places:
            found.update(self._anywhere[place])
            if place in self._edges:
                for op, literal, those in self._edges[place]:
                    if low.startswith(literal) if op == "startswith" else low.endswith(literal):
                        found.update(those)
        return tuple(sorted(found))

    def of_other(self, value: object) -> Marks:
        """The marks that a number, a truth value or a list leaves; what holds of a list need not hold of a part of it."""
        found: Marks = _NONE
        for each in _texts(value):
            found += self.found(each)
        return found

    def _long(self, value: str) -> str:
        """Small letters to look in. Where only ASCII is looked for, a long text is stripped of all else: that is much faster."""
        if self._ascii and not value.isascii():
            for letter, small in SMALL_OF.items():
                value = value.replace(letter, small)
            return value.encode("ascii", "replace").decode().lower()
        return fold(lowered(value))


def _texts(value: object) -> Iterable[str]:
    plain = text(value)
    return plain.texts if isinstance(plain, Many) else () if plain is ABSENT else (plain,)


class Index:
    """The rules that apply to one kind of event."""

    def __init__(self, rules: Sequence[Condition], texts: Texts, *, sample_events: int = SAMPLE_EVENTS) -> None:
        self.rules = {rule.number: rule for rule in rules}
        self._texts = texts
        self._needs = {rule.number: rule.need for rule in rules if rule.need is not None}
        unneeding = [(rule.number, rule.node) for rule in rules if rule.need is None]
        self._always = generate(unneeding) if unneeding else None
        self._combined: dict[Marks, tuple[Condition, ...]] = {}
        self._arrange(None)
        self._sample_events = sample_events
        self._step = 1
        self._sample = Sample(texts, self._needs.values(), sample_events)
        self._until_noted = 1 if sample_events and self._sample.fields else 0

    def matches(self, event: Event) -> list[int] | None:
        """The numbers of the rules that an event meets, None for none of them."""
        self._until_noted -= 1
        if not self._until_noted:
            self._note(event)
        found = self.probe(event)
        if self._keywords is not None and self._may_have_keywords(event):
            found += self._keywords.found(keyword_text(event))
        hits = self._always(event) if self._always is not None else None
        if not found:
            return hits
        rules = self._combined.get(found)
        if rules is None:
            rules = self._combine(found)
        for rule in rules:
            if rule.check(event):
                if hits is None:
                    hits = [rule.number]
                else:
                    hits.append(rule.number)
        if hits is not None and len(hits) > 1:
            hits.sort()
        return hits

    def _may_have_keywords(self, event: Event) -> bool:
        absent = self._absent
        if (
            isinstance(event, Unread)
            and not absent.may_be_in_line(event.line)
            and not (event.made and absent.may_be_in(set(event.made)))
        ):
            return False
        return self._absent.may_be_in(held(event))

    def _combine(self, found: Marks) -> tuple[Condition, ...]:
        """The rules whose marks are all there."""
        left = Counter(self._owners[mark] for mark in set(found))
        rules = tuple(self.rules[number] for number in sorted(left) if left[number] == len(self.choices[number]))
        if len(found) <= COMBINED_MARKS_MAX:
            if len(self._combined) >= COMBINED_MAX:
                self._combined.clear()
            self._combined[found] = rules
        return rules

    def _arrange(self, sample: "Sample | None") -> None:
        """Chooses the texts and builds the tables."""
        self.choices = _chosen(self.rules, self._needs, self._texts, sample)
        self._owners: list[int] = []  # the rule of each mark
        fields: dict[str, dict[Wanted, list[int]]] = {}
        tests: dict[str, dict[int, Test]] = {}
        for number, choices in self.choices.items():
            rule = self.rules[number]
            for asked in choices:
                mark = len(self._owners)
                self._owners.append(number)
                for place in asked.texts:
                    wanted = self._texts.wanted[place]
                    fields.setdefault(wanted.field, {}).setdefault(wanted, []).append(mark)
                    if asked.tested and wanted.field in rule.alone:
                        tests.setdefault(wanted.field, {})[mark] = partial(rule.holds, wanted.field)
        words = fields.pop("", None)
        self._keywords = Table(words) if words else None
        self._absent = Absent([wanted.value for wanted in words or ()], ADDED)
        self.tables = {field: Table(fields[field], tests.get(field, _NO_TESTS)) for field in sorted(fields)}
        self._combined.clear()
        self.probe = prober(
            [Probe(field, table.remembered, table.of_text, table.of_other) for field, table in self.tables.items()]
        )

    def _note(self, event: Event) -> None:
        """Notes the values of an event; with enough of them chooses the rarest texts, and begins again at longer steps."""
        self._sample.note(event)
        if self._sample.full:
            self._arrange(self._sample)
            self._sample = Sample(self._texts, self._needs.values(), self._sample_events)
            self._step = min(self._step * SAMPLE_STEP_GROWTH, SAMPLE_STEP_MAX)
        self._until_noted = self._step if self._step > 1 or self._sample.noted < EAGER_EVENTS else SAMPLE_STEP_EARLY


class Sample:
    """The values of some events by field, each with the events that had it: bit n of a mask stands for event n."""

    def __init__(self, texts: Texts, needs: Iterable[Need], events: int) -> None:
        self.fields = sorted({texts.wanted[number].field for number in _all_texts(needs)} - {""})
        self._native = [field for field in self.fields if field not in FALLBACKS and field not in ECS_ATTRIBUTES]
        self._reads = {field: getter(field) for field in self.fields if field not in self._native}
        self._values: dict[str, dict[str, int]] = {field: {} for field in self.fields}
        self._texts = texts
        self._events = events
        self.noted = self._chars = 0
        self._holding: dict[int, list[str]] = {}  # the values that hold a text, of each that was looked for

    @property
    def full(self) -> bool:
        return self.noted >= self._events or self._chars >= SAMPLE_CHARS_SUM_MAX

    def note(self, event: Event) -> None:
        bit = 1 << self.noted
        self.noted += 1
        get = event.fields.get
        for field in self._native:
            value = get(field)
            if value is not None:
                self._keep(self._values[field], value, bit)
        for field, read in self._reads.items():
            value = read(event)
            if value is not None:
                self._keep(self._values[field], value, bit)

    def _keep(self, held: dict[str, int], value: object, bit: int) -> None:
        plain = written(value)
        for each in plain.texts if isinstance(plain, Many) else (plain,):
            known = each[:SAMPLE_CHARS_MAX]
            mask = held.get(known, 0)
            if not mask:
                self._chars += len(known)
            held[known] = mask | bit

    def look(self, numbers: Iterable[int]) -> list[int]:
        """Looks for these texts in all values; answers those that were not looked for before."""
        new = [number for number in numbers if number not in self._holding]
        fields: dict[str, dict[Wanted, list[int]]] = {}
        for number in new:
            self._holding[number] = []
            wanted = self._texts.wanted[number]
            if wanted.field:
                fields.setdefault(wanted.field, {})[wanted] = [number]
        for field, sought in fields.items():
            table = Table(sought)
            for value in self._values[field]:
                for number in table.found(value):
                    self._holding[number].append(value)
        return new

    def share(self, mask: int) -> float:
        return mask.bit_count() / max(1, self.noted)

    def mask(self, numbers: Iterable[int], rule: Condition | None = None) -> int:
        """The events that had one of these texts, with a value that the rule may hold with."""
        mask = 0
        for number in numbers:
            field = self._texts.wanted[number].field
            alone = rule is not None and field in rule.alone
            for value in self._holding[number]:
                if not alone or rule.holds(field, value, value.lower()):  # type: ignore[union-attr]
                    mask |= self._values[field][value]
        return mask

    def asked(self, texts: frozenset[int], rule: Condition) -> Asked:
        """Tested only where that spares something."""
        plain = self.mask(texts).bit_count()
        return Asked(texts, self.mask(texts, rule).bit_count() <= plain * PASSED_MAX)


def _all_texts(needs: Iterable[Need]) -> set[int]:
    found: set[int] = set()
    left = list(needs)
    while left:
        need = left.pop()
        if isinstance(need, Group):
            found.update(need.texts)
        else:
            left += need.args
    return found


def _chosen(
    rules: Mapping[int, Condition], needs: Mapping[int, Need], texts: Texts, sample: Sample | None
) -> dict[int, tuple[Asked, ...]]:
    """The necessary texts that each rule is asked for with: one of each choice must be there."""
    wanted, weights = texts.wanted, texts.guesses.copy()
    users: Counter[str] = Counter()

    def price(numbers: frozenset[int]) -> float:
        fields = {wanted[number].field for number in numbers}
        return sum(PROBE_PRICE / (1 + users[field]) if field else KEYWORD_PRICE for field in fields)

    def count() -> None:
        users.clear()
        for choice in found.values():
            users.update({wanted[number].field for number in choice.texts})

    found = {number: choose(need, weights, price) for number, need in needs.items()}
    count()
    found = {number: choose(need, weights, price) for number, need in needs.items()}  # now fields that are asked anyway
    count()
    if sample is None:
        return {number: (Asked(choice.texts),) for number, choice in found.items()}
    for _ in range(SAMPLE_ROUNDS):
        common = set()
        for number in sample.look({number for choice in found.values() for number in choice.texts}):
            if wanted[number].field:
                share = sample.share(sample.mask([number]))
                weights[number] = share + weights[number] / SAMPLE_EVENTS
                if share:
                    common.add(number)
        if not common:
            break
        for number, choice in found.items():
            if not common.isdisjoint(choice.texts):
                found[number] = choose(needs[number], weights, price)
    count()
    parts: dict[int, list[Choice]] = {}
    for number, choice in found.items():
        if choice.weight >= COMMON_MIN:
            need = needs[number]
            others = [choose(arg, weights, price) for arg in need.args] if isinstance(need, Every) else []
            parts[number] = [other for other in others if other.texts != choice.texts]
    sample.look({text for number, others in parts.items() for each in (found[number], *others) for text in each.texts})
    return {
        number: _further(rules[number], choice, parts[number], sample) if number in parts else (Asked(choice.texts),)
        for number, choice in found.items()
    }


def _further(rule: Condition, first: Choice, parts: Sequence[Choice], sample: Sample) -> tuple[Asked, ...]:
    """A choice with others beside it that make it rarer: all of them must be there."""
    asked = [sample.asked(first.texts, rule)]
    together = sample.mask(first.texts, rule)
    while len(asked) < MARKS_MAX and sample.share(together) >= COMMON_MIN:
        best, least = None, sample.share(together)
        for part in parts:
            mask = sample.mask(part.texts, rule)
            cost = sample.share(together & mask) + part.price + FURTHER_PRICE * sample.share(mask)
            if cost < least:
                best, least = part, cost
        if best is None:
            break
        asked.append(sample.asked(best.texts, rule))
        together &= sample.mask(best.texts, rule)
    return tuple(asked)
