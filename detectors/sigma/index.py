"""Many rules on one kind of event: each is looked at only when one of the texts that it cannot do without is there.

For every rule the index picks necessary texts on one field, the rarest by what a sample of the events shows. An event's
fields are looked up in tables of these texts, with the answers for short values remembered, and only the rules that
turn up are run. Which texts are picked never changes what is found.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from connectors.events import Event
from detectors.sigma.generate import Probe, checker, generate, prober
from detectors.sigma.literals import Choice, Need, Texts, Wanted, choose, fold, texts_of
from detectors.sigma.scan import MEMO_CHARS_MAX, MEMO_MAX, Scanner
from detectors.sigma.tree import Node, has_keywords
from detectors.sigma.values import ABSENT, LOWERED_CHARS_MIN, SEPARATOR, Many, getter, lowered, text, values

SAMPLE_EVENTS = 512  # of a kind, after which the texts are chosen anew
SAMPLE_CHARS_MAX = 4096  # of a value in the sample
KEYWORD_PRICE = 1.0  # a search in all values costs as much as running a rule on every event
PROBE_PRICE = 0.1  # looking up one field, as a share of running a rule

Numbers = tuple[int, ...]
_NONE: Numbers = ()

LOWER_TO_ASCII = "\u0130\u017f\u212a"  # letters from beyond ASCII that small letters bring into it


class Condition:
    """One rule's condition and what is derived from it on demand; shared by the kinds of event it applies to."""

    def __init__(self, number: int, node: Node, texts: Texts) -> None:
        self.number = number
        self.node = node
        self._texts = texts

    @cached_property
    def need(self) -> Need | None:
        return self._texts.need(self.node)

    @cached_property
    def keyword(self) -> bool:
        return has_keywords(self.node)

    @cached_property
    def check(self) -> Callable[[Event], bool]:
        return checker(self.node)


class Table:
    """The texts on one field and the numbers of the rules that each brings up."""

    def __init__(self, wanted: Mapping[Wanted, Iterable[int]]) -> None:
        self._equals: dict[str, Numbers] = {}
        within: dict[str, tuple[list[int], list[int], list[int]]] = {}
        for each, numbers in wanted.items():
            if each.op == "equals":
                self._equals[each.value] = tuple(sorted(numbers))
            else:
                place = within.setdefault(each.value, ([], [], []))
                place[("contains", "startswith", "endswith").index(each.op)].extend(sorted(numbers))
        self._within = [(value, *map(tuple, lists)) for value, lists in within.items()]
        self._ascii = all(each.value.isascii() for each in wanted)
        self._scanner = Scanner(list(within)) if within else None
        self.memo: dict[str, Numbers] = {}
        self.remembered: Callable[[str], Numbers | None] = self.memo.get

    def of_text(self, value: str) -> Numbers:
        """The numbers that a text brings up, each once and in order."""
        low = self._low(value)
        numbers = self._equals.get(low, _NONE)
        if self._scanner is not None:
            found = set(numbers)
            for place in self._scanner.found(low):
                literal, anywhere, first, last = self._within[place]
                found.update(anywhere)  # type: ignore[arg-type]
                if first and low.startswith(literal):  # type: ignore[arg-type]
                    found.update(first)  # type: ignore[arg-type]
                if last and low.endswith(literal):  # type: ignore[arg-type]
                    found.update(last)  # type: ignore[arg-type]
            numbers = tuple(sorted(found)) if found else _NONE
        if len(value) <= MEMO_CHARS_MAX:
            if len(self.memo) >= MEMO_MAX:
                self.memo.clear()
            self.memo[value] = numbers
        return numbers

    def _low(self, value: str) -> str:
        """Small letters to look in. Where only ASCII is looked for, a long text is stripped of all else: that is much faster."""
        if len(value) < LOWERED_CHARS_MIN:
            return fold(value.lower())
        if self._ascii and not value.isascii() and not any(letter in value for letter in LOWER_TO_ASCII):
            return value.encode("ascii", "replace").decode().lower()
        return fold(lowered(value))

    def of_other(self, value: object) -> Numbers:
        """The numbers that a number, a truth value or a list brings up."""
        found: Numbers = _NONE
        for each in _texts(value):
            numbers = self.remembered(each)
            found += self.of_text(each) if numbers is None else numbers
        return found


def _texts(value: object) -> Iterable[str]:
    plain = text(value)
    return plain.texts if isinstance(plain, Many) else () if plain is ABSENT else (plain,)


class Index:
    """The rules that apply to one kind of event."""

    def __init__(self, rules: Sequence[Condition], texts: Texts, *, sample_events: int = SAMPLE_EVENTS) -> None:
        self.rules = {rule.number: rule for rule in rules}
        self._texts = texts
        self._open = [rule for rule in rules if rule.need is None]
        self._always = generate([(rule.number, rule.node) for rule in self._open]) if self._open else None
        self._arrange({})
        if sample_events:
            self._sample(sample_events)

    def matches(self, event: Event) -> list[int] | None:
        """The numbers of the rules that an event meets, None for none of them."""
        found = self.probe(event)
        if self._keywords is not None:
            found += self._keywords.of_text(SEPARATOR.join(values(event)))
        hits = self._always(event) if self._always is not None else None
        if not found:
            return hits
        rules = self.rules
        for number in found if len(found) == 1 else sorted(set(found)):
            if rules[number].check(event):
                if hits is None:
                    hits = [number]
                else:
                    hits.append(number)
        if hits is not None and len(hits) > 1:
            hits.sort()
        return hits

    def _arrange(self, seen: Mapping[int, float]) -> None:
        """Builds the tables; `seen` tells the share of events that hold a text, as far as that is known."""
        self.choices = self._choose(seen)
        fields: dict[str, dict[Wanted, list[int]]] = {}
        for number, choice in self.choices.items():
            for place in choice.texts:
                wanted = self._texts.wanted[place]
                fields.setdefault(wanted.field, {}).setdefault(wanted, []).append(number)
        words = fields.pop("", None)
        self._keywords = Table(words) if words else None
        self.tables = {field: Table(fields[field]) for field in sorted(fields)}
        self.probe = prober(
            [Probe(field, table.remembered, table.of_text, table.of_other) for field, table in self.tables.items()]
        )

    def _choose(self, seen: Mapping[int, float]) -> dict[int, Choice]:
        """The necessary texts of each rule that has some."""
        needs = {number: rule.need for number, rule in self.rules.items() if rule.need is not None}
        wanted, weights = self._texts.wanted, self._texts.guesses.copy()
        for number, share in seen.items():
            weights[number] = share + weights[number] / SAMPLE_EVENTS
        users: Counter[str] = Counter()

        def price(texts: frozenset[int]) -> float:
            fields = {wanted[number].field for number in texts}
            return sum(PROBE_PRICE / (1 + users[field]) if field else KEYWORD_PRICE for field in fields)

        found: dict[int, Choice] = {}
        for _ in range(2):  # the second time fields are preferred that are looked up anyway
            found = {number: choose(need, weights, price) for number, need in needs.items()}
            users = Counter(
                field for choice in found.values() for field in {wanted[number].field for number in choice.texts}
            )
        return found

    def _sample(self, events: int) -> None:
        """Notes the values of the next events, then chooses the rarest texts."""
        numbers = sorted(frozenset[int]().union(*(texts_of(rule.need) for rule in self.rules.values() if rule.need)))
        fields: dict[str, dict[Wanted, list[int]]] = {}
        for number in numbers:
            wanted = self._texts.wanted[number]
            if wanted.field:
                fields.setdefault(wanted.field, {})[wanted] = [number]
        reads = {field: getter(field) for field in fields}
        counts: dict[str, Counter[str]] = {field: Counter() for field in fields}
        probe = self.probe
        left = events

        def noting(event: Event) -> Numbers:
            nonlocal left
            for field, read in reads.items():
                value = read(event)
                if value is not None:
                    counts[field].update(each[:SAMPLE_CHARS_MAX] for each in _texts(value))
            left -= 1
            found = probe(event)
            if left <= 0:
                self._arrange(_shares(fields, counts, events))
            return found

        self.probe = noting


def _shares(
    fields: Mapping[str, Mapping[Wanted, Sequence[int]]], counts: Mapping[str, Counter[str]], events: int
) -> dict[int, float]:
    """In what share of the sampled events each text was there, by its number."""
    seen: Counter[int] = Counter()
    for field, wanted in fields.items():
        seen.update({numbers[0]: 0 for numbers in wanted.values()})
        table = Table(wanted)
        for value, count in counts[field].items():
            for number in table.of_text(value):
                seen[number] += count
    return {number: count / events for number, count in seen.items()}
