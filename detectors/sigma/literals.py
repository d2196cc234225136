"""The texts that must stand in an event for a rule to be met: what an index can ask for instead of running every rule.

Sound by construction: whatever is not understood (a NOT, a number compared, an expression beyond a plain run of
characters) asks for nothing, and a rule that asks for nothing is run on every event.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from re import _parser  # type: ignore[attr-defined]  # RE2 reads what this reads in the same way, or refuses it
from typing import Any, Literal, NamedTuple

import msgspec

from detectors.sigma.tree import And, Const, Node, Or, Pattern, Text

CHARS_MIN = 3  # a shorter text stands nearly everywhere, unless it is a whole value or from beyond ASCII
ALTERNATIVES_MAX = 6000  # of one rule; a rule with more of them is run on every event
REGEX_CHARS_MAX = 4096  # longer expressions are not looked into

SPELLINGS_MAX = 8  # of a run of characters in an expression

_USUAL = frozenset('abcdefghijklmnopqrstuvwxyz0123456789 \\/.:-_,="')
_PLAIN = re.compile(r"[ -~]+")


class Wanted(NamedTuple):
    """A text, folded as values are, that a field must be, begin with, end with or hold. A field of "" is any value."""

    field: str
    op: Literal["equals", "contains", "startswith", "endswith"]
    value: str


def fold(low: str) -> str:
    """Lower-case text in which also the long s is an s, as it is to RE2 without regard to case."""
    return low if low.isascii() else low.replace("\u017f", "s")


class Group(msgspec.Struct, frozen=True):
    """At least one of these texts, by their numbers, must be there."""

    texts: tuple[int, ...]


class Every(msgspec.Struct, frozen=True):
    """Each of these must hold: any one of them is a necessary condition."""

    args: "tuple[Need, ...]"


class Either(msgspec.Struct, frozen=True):
    """One of these must hold."""

    args: "tuple[Need, ...]"


Need = Group | Every | Either


class Texts:
    """Gives every text one number, the same in all rules."""

    def __init__(self) -> None:
        self.wanted: list[Wanted] = []
        self.guesses: list[float] = []  # how often each is there, by its looks
        self._numbers: dict[Wanted, int] = {}

    def need(self, node: Node) -> Need | None:
        """What must be there for a condition to hold; None where nothing must."""
        if isinstance(node, Const):
            return None if node.value else Group(())
        if isinstance(node, Text):
            return _every([self._group([wanted]) for wanted in _of_text(node)])
        if isinstance(node, Pattern):
            return _every([self._group(wanted) for wanted in _of_pattern(node)])
        if isinstance(node, And):
            return _every([need for arg in node.args if (need := self.need(arg)) is not None])
        if isinstance(node, Or):
            needs = []
            for arg in node.args:
                need = self.need(arg)
                if need is None:
                    return None
                needs.append(need)
            return _either(needs)
        return None

    def _group(self, wanted: Sequence[Wanted]) -> Group:
        numbers = []
        for each in wanted:
            number = self._numbers.setdefault(each, len(self._numbers))
            if number == len(self.wanted):
                self.wanted.append(each)
                rarity = 0.01 if each.op == "equals" else 0.3 * 0.8 ** len(each.value)
                self.guesses.append(max(rarity, 0.0001))
            numbers.append(number)
        return Group(tuple(sorted(numbers)))


def _every(needs: Sequence[Need]) -> Need | None:
    return Every(tuple(needs)) if len(needs) > 1 else needs[0] if needs else None


def _either(needs: Sequence[Need]) -> Need | None:
    plain: dict[int, None] = {}
    rest = []
    for need in needs:
        if isinstance(need, Group):
            plain.update(dict.fromkeys(need.texts))
        else:
            rest.append(need)
    if len(plain) > ALTERNATIVES_MAX:
        return None
    group = Group(tuple(sorted(plain)))
    return Either((group, *rest)) if rest else group


class Choice(msgspec.Struct, frozen=True):
    """One of `texts` must be there, which happens in `weight` of all events; asking for them costs `price`."""

    weight: float
    price: float
    texts: frozenset[int]


def choose(need: Need, weights: Sequence[float], price: Callable[[frozenset[int]], float]) -> Choice:
    """The necessary texts that cost least: how often they are there, by their numbers, and what it costs to ask for them."""
    if isinstance(need, Group):
        texts = frozenset(need.texts)
        return Choice(sum(weights[number] for number in need.texts), price(texts), texts)
    parts = [choose(arg, weights, price) for arg in need.args]
    if isinstance(need, Every):
        return min(parts, key=lambda part: (part.weight + part.price, len(part.texts)))
    texts = frozenset[int]().union(*(part.texts for part in parts))
    return Choice(sum(part.weight for part in parts), price(texts), texts)


def texts_of(need: Need) -> frozenset[int]:
    """All texts that `choose` chooses from."""
    if isinstance(need, Group):
        return frozenset(need.texts)
    return frozenset[int]().union(*map(texts_of, need.args))


def _of_text(node: Text) -> list[Wanted]:
    if not node.cased:
        wanted = [Wanted(node.field, node.op, fold(node.value))]
    elif node.value.isascii():
        wanted = [Wanted(node.field, node.op, node.value.lower())]
    else:  # what lower() makes of a letter may hang on its neighbours
        wanted = [Wanted(node.field, "contains", run.lower()) for run in _PLAIN.findall(node.value)]
    return [each for each in wanted if each.op == "equals" or _telling(each.value)]


def _telling(value: str) -> bool:
    return len(value) >= CHARS_MIN or not value.isascii()


def _of_pattern(node: Pattern) -> list[list[Wanted]]:
    """Sets of texts of which each has one member in every match."""
    needed = {frozenset({run.lower()}) for run in _PLAIN.findall(node.gate)}
    needed |= required(node.regex)
    return [
        [Wanted(node.field, "contains", text) for text in sorted(texts)]
        for texts in sorted(needed, key=sorted)
        if texts and all(map(_telling, texts))
    ]


@lru_cache(maxsize=4096)
def required(regex: str) -> frozenset[frozenset[str]]:
    """What every match of an RE2 expression holds: sets of folded texts, one of each set is in the match."""
    parsed = _parsed(regex)
    return frozenset() if parsed is None else frozenset(_walk(parsed))


def shortest(regex: str) -> int:
    """How many characters a match of an RE2 expression has at least."""
    parsed = _parsed(regex)
    return 0 if parsed is None else int(parsed.getwidth()[0])


def _parsed(regex: str) -> Any:
    if len(regex) > REGEX_CHARS_MAX or "[:" in regex or "{," in regex:
        return None  # `re` reads these in its own way
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _parser.parse(regex)
    except (re.error, OverflowError, RecursionError):
        return None


def _walk(parsed: Any) -> set[frozenset[str]]:
    """The required sets of a sequence: its runs of characters, and what its parts require."""
    found: set[frozenset[str]] = set()
    runs = [""]  # what stands in a row, in all spellings
    for op, arg in parsed:
        options = _characters(op, arg)
        if options and len(runs) * len(options) <= SPELLINGS_MAX:
            runs = [run + option for run in runs for option in options]
            continue
        found |= _run(runs)
        runs = [""]
        name = str(op)
        if options:
            runs = list(options)
        elif name == "SUBPATTERN":
            found |= _walk(arg[3])
        elif name in {"MAX_REPEAT", "MIN_REPEAT"} and arg[0] > 0:
            found |= _walk(arg[2])
        elif name == "BRANCH":
            found |= _branch(arg[1])
    return found | _run(runs)


def _characters(op: Any, arg: Any) -> list[str]:
    """The characters of which one must stand here, where they are few and plain; none where nothing is known."""
    name = str(op)
    if name == "LITERAL":
        return [chr(arg).lower()] if 32 <= arg < 127 else []
    if name in {"MAX_REPEAT", "MIN_REPEAT"} and arg[0] == arg[1] == 1 and len(arg[2]) == 1:
        return _characters(*arg[2][0])
    if name != "IN" or len(arg) > SPELLINGS_MAX:
        return []
    found = [_characters(*each) if str(each[0]) == "LITERAL" else [] for each in arg]
    return sorted({each[0] for each in found}) if all(found) else []


def _run(runs: list[str]) -> set[frozenset[str]]:
    return {frozenset(runs)} if runs[0] else set()


def _branch(branches: Any) -> set[frozenset[str]]:
    """Of an alternation: one set that has the most telling texts of each branch, if each has some."""
    texts: set[str] = set()
    for branch in branches:
        options = _walk(branch)
        if not options:
            return set()
        texts |= max(sorted(options, key=sorted), key=lambda each: min(map(_rarity, each)))
    return {frozenset(texts)}


def _rarity(text: str) -> int:
    """How telling a text looks: its length, signs that are seldom written counted more than once."""
    return sum(1 if char in _USUAL else 3 for char in text)
