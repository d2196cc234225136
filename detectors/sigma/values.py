"""What conditions are compared with: the values of an event as text and numbers, and the tests that need more than an operator.

Values are compared as lower-case text on both sides, and regular expressions run on RE2 only.
"""

import ipaddress
import math
import operator
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

import re2

from connectors.events import ECS_ATTRIBUTES, Event
from connectors.values import TRANSPORTS
from connectors.windows_events import INTEGRITY_LEVELS, LEVELS, LOGON_TYPES, TABLES
from detectors.sigma.literals import fold, required, shortest
from detectors.sigma.logsource import FALLBACKS
from detectors.sigma.scan import SEPARATOR, AnyOf
from detectors.sigma.tree import RuleError

CIDR_MEMO_MAX = 65_536  # remembered answers per network condition
SEARCH_MEMO_MAX = 16_384  # remembered answers per regular expression: values repeat, a call into RE2 costs microseconds
SEARCH_MEMO_CHARS_MAX = 512  # longer values are not remembered
GATE_TEXTS_MAX = (
    8  # alternatives of a text that an expression requires, so few that they are looked for before it is run
)
LOWERED_CHARS_MIN = (
    1024  # values from this length on are brought to lower case once, not once per rule, and not remembered
)
LOWERED_MAX = 16  # of these values remembered

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "eq": operator.eq,
    "neq": operator.ne,
}
_TIME_PARTS: dict[str, Callable[[datetime], int]] = {
    "minute": lambda at: at.minute,
    "hour": lambda at: at.hour,
    "day": lambda at: at.day,
    "week": lambda at: at.isocalendar().week,
    "month": lambda at: at.month,
    "year": lambda at: at.year,
}


class Many:
    """A list value as text: any element may match, and under `|all` each wanted value may match a different one."""

    __slots__ = ("null", "texts")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, texts: tuple[str, ...], null: bool) -> None:
        self.texts = texts
        self.null = null

    def __contains__(self, wanted: str) -> bool:
        return any(wanted in text for text in self.texts)

    def __eq__(self, wanted: object) -> bool:
        return wanted in self.texts

    def startswith(self, wanted: str | tuple[str, ...]) -> bool:
        return any(text.startswith(wanted) for text in self.texts)

    def endswith(self, wanted: str | tuple[str, ...]) -> bool:
        return any(text.endswith(wanted) for text in self.texts)


ABSENT = "\udfff"  # the text of a missing value: a lone surrogate, which no literal of a YAML file can hold


def written(value: Any) -> str | Many:
    """A value as it is written, its case kept."""
    if value.__class__ is str:
        return value
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | dict):
        texts: list[str] = []
        null = False
        for each in value.values() if isinstance(value, dict) else value:
            inner = written(each)
            if isinstance(inner, Many):
                texts += inner.texts
                null = null or inner.null
            elif inner is ABSENT:
                null = True
            else:
                texts.append(inner)
        return Many(tuple(texts), null) if texts or null else ABSENT
    return str(value)


def text(value: Any) -> str | Many:
    """A value as lower-case text."""
    plain = written(value)
    if isinstance(plain, Many):
        return Many(tuple(each.lower() for each in plain.texts), plain.null)
    return plain if plain is ABSENT else plain.lower()


_LOWERED: dict[int, tuple[str, str]] = {}


def lowered(value: str) -> str:
    """A long value in small letters; every rule asks for the same one."""
    known = _LOWERED.get(id(value))
    if known is not None and known[0] is value:
        return known[1]
    if len(_LOWERED) >= LOWERED_MAX:
        _LOWERED.clear()
    low = value.lower()
    _LOWERED[id(value)] = (value, low)
    return low


def present(value: str | Many) -> bool:
    return value is not ABSENT and not (isinstance(value, Many) and not value.texts)


def null(value: str | Many) -> bool:
    return value is ABSENT or (isinstance(value, Many) and value.null)


def one_of(value: str | Many, wanted: frozenset[str]) -> bool:
    return value in wanted if isinstance(value, str) else any(each in wanted for each in value.texts)


def holds_any(value: str | Many, wanted: AnyOf) -> bool:
    return wanted.found(value) if isinstance(value, str) else any(map(wanted.found, value.texts))


_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True  # only whether it matches is of interest


class Search:
    """An RE2 pattern. `$` also matches before a last newline, as rule authors know it from PCRE."""

    __slots__ = ("__weakref__", "_chars_min", "_ends", "_gates", "_memo", "_search")

    def __init__(self, regex: str) -> None:
        try:
            self._search = re2.compile(regex, options=_OPTIONS).search
        except re2.error as fault:
            raise RuleError(f"RE2 cannot run the regular expression {regex!r}: {fault}", regex) from fault
        self._ends = "$" in regex
        self._chars_min = shortest(regex)
        self._gates = [tuple(texts) for texts in required(regex) if len(texts) <= GATE_TEXTS_MAX]
        self._memo: dict[str, bool] = {}

    def found(self, value: str | Many) -> bool:
        if isinstance(value, Many):
            return any(map(self.found, value.texts))
        if len(value) < self._chars_min:
            return False
        known = self._memo.get(value)
        if known is None:
            known = self._look(value)
        return known

    def _look(self, value: str) -> bool:
        if value is ABSENT:
            return False
        if self._gates and len(value) < LOWERED_CHARS_MIN:  # a call into RE2 takes as long as looking for many texts
            low = fold(lowered(value))
            for texts in self._gates:
                for text in texts:
                    if text in low:
                        break
                else:
                    return False
        whole = value.encode("utf-8", "replace")  # a lone surrogate must not hide the rest of the value
        known = self._search(whole) is not None or (
            self._ends and whole.endswith(b"\n") and self._search(whole[:-1]) is not None
        )
        if len(value) <= SEARCH_MEMO_CHARS_MAX:
            if len(self._memo) >= SEARCH_MEMO_MAX:
                self._memo.clear()
            self._memo[value] = known
        return known


_SEARCHES: WeakValueDictionary[str, Search] = WeakValueDictionary()


def search(regex: str) -> Search:
    """The compiled pattern, shared between the rules that hold it."""
    known = _SEARCHES.get(regex)
    if known is None:
        known = _SEARCHES[regex] = Search(regex)
    return known


class Within:
    """Membership in one network; values that are no address are simply outside."""

    __slots__ = ("_memo", "_network")

    def __init__(self, network: str) -> None:
        self._network = ipaddress.ip_network(network)
        self._memo: dict[str, bool] = {}

    def found(self, value: str | Many) -> bool:
        if isinstance(value, Many):
            return any(self.found(each) for each in value.texts)
        known = self._memo.get(value)
        if known is None:
            try:
                known = ipaddress.ip_address(value) in self._network
            except ValueError:
                known = False
            if len(self._memo) >= CIDR_MEMO_MAX:
                self._memo.clear()
            self._memo[value] = known
        return known


def numeric(value: Any) -> int | float | None:
    """A number, or the number that a text states; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and value.isascii() and "_" not in value:
        try:
            return int(value) if len(value) < 40 else None
        except ValueError:
            pass
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


def compare(value: Any, op: Callable[[Any, Any], bool], number: float) -> bool:
    if isinstance(value, list | tuple):
        return any(compare(each, op, number) for each in value)
    known = numeric(value)
    return known is not None and op(known, number)


def refers(left: str | Many, right: str | Many, op: str) -> bool:
    lefts = left.texts if isinstance(left, Many) else (left,)
    rights = right.texts if isinstance(right, Many) else (right,)
    for one in lefts:
        for other in rights:
            if one is ABSENT or other is ABSENT:
                continue
            if (
                one == other
                or (op == "startswith" and one.startswith(other))
                or (op == "endswith" and one.endswith(other))
                or (op == "contains" and other in one)
            ):
                return True
    return False


def time_part(event: Event, part: str, op: Callable[[Any, Any], bool], number: float) -> bool:
    return op(_TIME_PARTS[part](datetime.fromtimestamp(event.timestamp, UTC)), number)


# what a keyword is searched in: all values, but not the names that our parsers gave the event
_attributes = operator.attrgetter(
    *(
        name
        for name in Event.__struct_fields__
        if name not in {"timestamp", "event_module", "event_dataset", "event_category", "event_type", "fields"}
    )
)


_COMMAND_LINES = frozenset(("CommandLine", "ProcessCommandLine"))


class Unread:
    """A Windows event with only its native fields: whatever else somebody asks for is read from its line then."""

    __slots__ = (
        "_bare",
        "_read",
        "_whole",
        "aside",
        "event_category",
        "event_code",
        "event_dataset",
        "fields",
        "line",
        "made",
    )

    event_module = "windows"

    def __init__(
        self,
        kind: tuple[str, str | None, tuple[str, ...]],
        fields: dict[str, Any],
        aside: Iterable[Any],
        made: Iterable[Any],
        bare: bool,
        line: bytes,
        read: Callable[[bytes], Event],
    ) -> None:
        self.event_dataset, self.event_code, self.event_category = kind
        self.fields = fields
        self.aside = aside  # what the line holds besides
        self.made = made  # values that do not stand in the line in one piece
        self.line = line
        self._bare = bare  # whether an event without the native name of its command line has none
        self._read = read
        self._whole: Event | None = None

    @property
    def whole(self) -> Event:
        if self._whole is None:
            self._whole = self._read(self.line)
        return self._whole

    def __getattr__(self, name: str) -> Any:
        if name == "process_command_line" and self._bare and _COMMAND_LINES.isdisjoint(self.fields):
            return None
        return getattr(self.whole, name)


def _added() -> str:
    """Words that the Windows parser gives events though they do not stand in their lines."""
    words = {"ad", "radius", "rdp", "success", "failure", "ingress", "egress", "dns", "received", "windows"}
    words.update(*(map(str, names.values()) for names in (LOGON_TYPES, LEVELS, INTEGRITY_LEVELS, TRANSPORTS)))
    for kind in (kind for table in TABLES.values() for kind in table.values()):
        words.update(word for word in (kind.action, kind.outcome) if word)
    return SEPARATOR.join(sorted(words)).lower()


ADDED = _added()


def held(event: Event) -> set[Any]:
    """What all values of an event are made of: a text that stands in none of it stands in no value."""
    fields = event.fields
    try:
        if isinstance(event, Unread):
            return {*fields.values(), *event.aside, *event.made, ADDED}
        if fields.__class__ is dict:
            return {*_attributes(event), *fields.values()}
        parts = fields.made_of() if hasattr(fields, "made_of") else [dict(fields)]
        found = set(_attributes(event))
        for part in parts:
            if part.__class__ is str:
                found.add(part)
            else:
                found.update(part.values() if part.__class__ is dict else part)
    except TypeError:  # lists
        return set(values(event))
    return found


def values(event: Event) -> list[str]:
    """All values of an event as text."""
    if isinstance(event, Unread):
        event = event.whole
    held = [*_attributes(event), *event.fields.values()]
    found = [value for value in held if value.__class__ is str]
    for value in [value for value in held if value.__class__ is not str and value is not None]:
        plain = written(value)
        if isinstance(plain, Many):
            found += plain.texts
        elif plain is not ABSENT:
            found.append(plain)
    return found


def keyword_text(event: Event) -> str:
    """All values of an event in one text, no two of them touching."""
    return SEPARATOR.join(values(event))


def cased_keywords(event: Event) -> str:
    return keyword_text(event)


def keywords(event: Event) -> str:
    return keyword_text(event).lower()


def keyword_found(wanted: Search, event: Event) -> bool:
    return any(wanted.found(value) for value in values(event))


def unread(event: Event) -> bool:
    """Whether most of a Windows event is still in its line: then ECS paths say nothing that its native names do not."""
    return isinstance(event, Unread) or (event.event_module == "windows" and event.fields.__class__ is not dict)


def getter(name: str) -> Callable[[Event], Any]:
    """Reads one field of an event under its ECS or native name, or the other names it goes by."""
    attribute = ECS_ATTRIBUTES.get(name)
    if attribute is not None:
        read: Callable[[Event], Any] = operator.attrgetter(attribute)
        return read
    others = [
        (getter(other), "." in other and other not in ECS_ATTRIBUTES)
        for other in FALLBACKS.get(name, ())
        if other in ECS_ATTRIBUTES or other not in FALLBACKS
    ]

    def native(event: Event) -> Any:
        value = event.fields.get(name)
        if value is None:
            for other, is_path in others:
                if is_path and unread(event):
                    continue
                value = other(event)
                if value is not None:
                    break
        return value

    return native
