"""Sigma conditions as fast Python: pySigma's syntax tree becomes a small tree of our own, and the rules that apply to one kind of event become one generated function.

Every leaf is two-valued (a missing field is simply false, so NOT over it is true), values are compared as lower-case text
on both sides, and regular expressions run on RE2 only. No text of a rule enters the generated source: literals are bound
as constants, so a rule cannot become code.
"""

import ipaddress
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import re2
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.types import (
    Placeholder,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
)

from connectors.events import ECS_ATTRIBUTES, Event
from detectors.sigma.logsource import CODE_FIELDS, FALLBACKS

CIDR_MEMO_MAX = 65_536  # remembered answers per network condition
SEARCH_MEMO_MAX = (
    16_384  # remembered answers per regular expression: values repeat, and a call into RE2 costs microseconds
)
SEARCH_MEMO_CHARS_MAX = 512  # longer values are not remembered
CHAIN_MAX = 24  # literals written out as an `or` chain; more are tried by one any()
MERGED_MAX = 16  # regular expressions on one field joined into one
NESTING_MAX = 16  # conjuncts as nested ifs; the rest joins the last one
SEPARATOR = "\x00"  # between the values of an event in a keyword search, so that no keyword spans two of them
OTHER_CODE = "\x00other"  # stands for every event code that no rule names

INTEGER_ATTRIBUTES = frozenset(
    {
        "source_port",
        "source_bytes",
        "destination_port",
        "destination_bytes",
        "process_pid",
        "http_response_status_code",
    }
)
TUPLE_ATTRIBUTES = frozenset({"event_category", "event_type"})  # of lower-case words, by the parsers' contract


class RuleError(ValueError):
    """A condition that this engine cannot run, with the reason and the text of the rule it is about."""

    def __init__(self, message: str, about: str = "") -> None:
        super().__init__(message)
        self.about = about


# --- the tree -----------------------------------------------------------------------------------------------------


class Const(msgspec.Struct, frozen=True):
    value: bool


class And(msgspec.Struct, frozen=True):
    args: "tuple[Node, ...]"


class Or(msgspec.Struct, frozen=True):
    args: "tuple[Node, ...]"


class Not(msgspec.Struct, frozen=True):
    arg: "Node"


class Text(msgspec.Struct, frozen=True):
    """A literal compared with the value; a field of "" is a keyword: any value of the event."""

    field: str
    op: Literal["equals", "contains", "startswith", "endswith"]
    value: str
    cased: bool = False


class Pattern(msgspec.Struct, frozen=True):
    """An RE2 pattern searched in the value as it is (`raw`) or in its lower-case text; `gate` must occur for a match."""

    field: str
    regex: str
    raw: bool
    gate: str = ""


class Network(msgspec.Struct, frozen=True):
    field: str
    network: str


class Compare(msgspec.Struct, frozen=True):
    field: str
    op: str
    number: int | float


class TimePart(msgspec.Struct, frozen=True):
    """A part of the event's own time, in UTC."""

    part: str
    op: str
    number: int | float


class Reference(msgspec.Struct, frozen=True):
    field: str
    other: str
    op: Literal["equals", "startswith", "endswith"]


class Exists(msgspec.Struct, frozen=True):
    field: str
    wanted: bool


class Present(msgspec.Struct, frozen=True):
    field: str


class Null(msgspec.Struct, frozen=True):
    field: str


Node = Const | And | Or | Not | Text | Pattern | Network | Compare | TimePart | Reference | Exists | Present | Null

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
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


def translate(node: Any) -> Node:
    """Our tree of a parsed pySigma condition; raises RuleError for what cannot be run."""
    if isinstance(node, ConditionAND):
        return And(tuple(translate(arg) for arg in node.args))
    if isinstance(node, ConditionOR):
        return Or(tuple(translate(arg) for arg in node.args))
    if isinstance(node, ConditionNOT):
        return Not(translate(node.args[0]))
    if isinstance(node, ConditionFieldEqualsValueExpression):
        return _leaf(node.field, node.value)
    if isinstance(node, ConditionValueExpression):
        return _leaf("", node.value)
    raise RuleError(f"a condition of kind {type(node).__name__} cannot be run")


def _leaf(field: str, value: Any) -> Node:
    if isinstance(value, SigmaExpansion):
        return Or(tuple(_leaf(field, each) for each in value.values))
    if isinstance(value, SigmaString):
        return _string(field, value, cased=isinstance(value, SigmaCasedString))
    if isinstance(value, SigmaTimestampPart):
        return TimePart(value.timestamp_part.name.lower(), "eq", value.number)
    if isinstance(value, SigmaNumber):
        return Text(field, "contains" if field == "" else "equals", str(value.number))
    if isinstance(value, SigmaBool):
        return Text(field, "contains" if field == "" else "equals", str(value.boolean).lower())
    if isinstance(value, SigmaRegularExpression):
        return _regex(field, value)
    if field == "":
        raise RuleError(f"a keyword cannot be a {type(value).__name__.removeprefix('Sigma')}")
    if isinstance(value, SigmaNull):
        return Null(field)
    if isinstance(value, SigmaCIDRExpression):
        return Network(field, str(value.network))
    if isinstance(value, SigmaCompareExpression):
        if isinstance(value.number, SigmaTimestampPart):
            return TimePart(value.number.timestamp_part.name.lower(), value.op.name.lower(), value.number.number)
        return Compare(field, value.op.name.lower(), value.number.number)
    if isinstance(value, SigmaFieldReference):
        return Reference(
            field, value.field, "startswith" if value.starts_with else "endswith" if value.ends_with else "equals"
        )
    if isinstance(value, SigmaExists):
        return Exists(field, bool(value))
    raise RuleError(f"a value of kind {type(value).__name__} cannot be matched")


def _string(field: str, value: SigmaString, *, cased: bool) -> Node:
    parts: list[str | SpecialChars] = []
    for part in value.s:
        if isinstance(part, Placeholder):
            raise RuleError(
                f"the placeholder %{part.name}% has no values: the modifier `expand` has no source here", part.name
            )
        text = part if isinstance(part, SpecialChars) or cased else part.lower()
        if text == SpecialChars.WILDCARD_MULTI and parts and parts[-1] == SpecialChars.WILDCARD_MULTI:
            continue
        parts.append(text)
    star = SpecialChars.WILDCARD_MULTI
    if field == "":  # keywords are searched anywhere, so outer wildcards say nothing
        parts = parts[1:] if parts[:1] == [star] else parts
        parts = parts[:-1] if parts[-1:] == [star] else parts
        if not parts:
            return Const(value=True)
        if len(parts) == 1 and isinstance(parts[0], str):
            return Text("", "contains", parts[0], cased)
    elif not parts:
        return Text(field, "equals", "", cased)
    elif parts == [star]:
        return Present(field)
    match parts:
        case [str() as text]:
            return Text(field, "equals", text, cased)
        case [str() as text, SpecialChars.WILDCARD_MULTI]:
            return Text(field, "startswith", text, cased)
        case [SpecialChars.WILDCARD_MULTI, str() as text]:
            return Text(field, "endswith", text, cased)
        case [SpecialChars.WILDCARD_MULTI, str() as text, SpecialChars.WILDCARD_MULTI]:
            return Text(field, "contains", text, cased)
    wild, single = ("[^\\x00]*", "[^\\x00]") if field == "" else (".*", ".")
    body = "".join(re2.escape(p) if isinstance(p, str) else wild if p is star else single for p in parts)
    gate = max((p for p in parts if isinstance(p, str)), key=len, default="")
    return Pattern(field, f"(?s){body}" if field == "" else f"(?s)\\A(?:{body})\\z", cased, gate)


def _regex(field: str, value: SigmaRegularExpression) -> Node:
    if any(isinstance(part, Placeholder) for part in value.regexp.s):
        raise RuleError("a placeholder in a regular expression has no values: the modifier `expand` has no source here")
    letters = {
        SigmaRegularExpressionFlag.IGNORECASE: "i",
        SigmaRegularExpressionFlag.MULTILINE: "m",
        SigmaRegularExpressionFlag.DOTALL: "s",
    }
    flags = "".join(sorted(letters[flag] for flag in value.flags))
    regex = str(value.regexp)
    search(f"(?{flags}){regex}" if flags else regex)  # refuses what RE2 cannot run
    return Pattern(field, f"(?{flags}){regex}" if flags else regex, raw=True)


def fields_of(node: Node) -> frozenset[str]:
    """The names of all fields a condition reads (keywords read none by name)."""
    if isinstance(node, And | Or):
        return frozenset[str]().union(*(fields_of(arg) for arg in node.args))
    if isinstance(node, Not):
        return fields_of(node.arg)
    if isinstance(node, Reference):
        return frozenset({node.field, node.other})
    if isinstance(node, Const | TimePart) or node.field == "":
        return frozenset()
    return frozenset({node.field})


def codes_of(node: Node) -> frozenset[str]:
    """The event codes that a condition compares with."""
    if isinstance(node, And | Or):
        return frozenset[str]().union(*(codes_of(arg) for arg in node.args))
    if isinstance(node, Not):
        return codes_of(node.arg)
    if isinstance(node, Text) and node.op == "equals" and node.field in CODE_FIELDS:
        return frozenset({node.value})
    return frozenset()


def simplify(node: Node, code: str | None) -> Node:
    """The condition with comparisons of the event code decided, constants removed, and nested AND and OR flattened."""
    if isinstance(node, Text) and code is not None and node.op == "equals" and node.field in CODE_FIELDS:
        return Const(node.value.lower() == code.lower())
    if isinstance(node, Not):
        arg = simplify(node.arg, code)
        return Const(not arg.value) if isinstance(arg, Const) else arg.arg if isinstance(arg, Not) else Not(arg)
    if isinstance(node, And | Or):
        kind = type(node)
        absorbing = kind is Or
        kept: dict[Node, None] = {}
        for arg in (simplify(a, code) for a in node.args):
            if isinstance(arg, Const):
                if arg.value is absorbing:
                    return arg
            elif isinstance(arg, kind):
                kept.update(dict.fromkeys(arg.args))
            else:
                kept[arg] = None
        if not kept:
            return Const(not absorbing)
        return next(iter(kept)) if len(kept) == 1 else kind(tuple(kept))
    return node


# --- what the generated functions call --------------------------------------------------------------------------


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


def present(value: str | Many) -> bool:
    return value is not ABSENT and not (isinstance(value, Many) and not value.texts)


def null(value: str | Many) -> bool:
    return value is ABSENT or (isinstance(value, Many) and value.null)


def one_of(value: str | Many, wanted: frozenset[str]) -> bool:
    return value in wanted if isinstance(value, str) else any(each in wanted for each in value.texts)


_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True  # only whether it matches is of interest


class Search:
    """An RE2 pattern. `$` also matches before a last newline, as rule authors know it from PCRE."""

    __slots__ = ("_ends", "_memo", "_search")

    def __init__(self, regex: str) -> None:
        try:
            self._search = re2.compile(regex, options=_OPTIONS).search
        except re2.error as fault:
            raise RuleError(f"RE2 cannot run the regular expression {regex!r}: {fault}", regex) from fault
        self._ends = "$" in regex
        self._memo: dict[str, bool] = {ABSENT: False}

    def found(self, value: str | Many) -> bool:
        known = self._memo.get(value) if value.__class__ is str else None
        if known is not None:
            return known
        if isinstance(value, Many):
            return any(self.found(each) for each in value.texts)
        known = self._look(value)
        if len(value) <= SEARCH_MEMO_CHARS_MAX:
            if len(self._memo) >= SEARCH_MEMO_MAX:
                self._memo = {ABSENT: False}
            self._memo[value] = known
        return known

    def _look(self, value: str) -> bool:
        try:
            if self._search(value) is not None:
                return True
        except UnicodeEncodeError:  # a lone surrogate must not hide the rest of the value
            return self._look(value.encode("utf-8", "replace").decode())
        return self._ends and value.endswith("\n") and self._search(value[:-1]) is not None


_SEARCHES: dict[str, Search] = {}


def search(regex: str) -> Search:
    """The compiled pattern, shared between rules. Patterns come from rules only, so their number is bounded."""
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
            ):
                return True
    return False


def time_part(event: Event, part: str, op: Callable[[Any, Any], bool], number: float) -> bool:
    return op(_TIME_PARTS[part](datetime.fromtimestamp(event.timestamp, UTC)), number)


# what a keyword is searched in: all values, but not the names that our parsers gave the event
_SEARCHED = tuple(
    name
    for name in Event.__struct_fields__
    if name not in {"timestamp", "event_module", "event_dataset", "event_category", "event_type", "fields"}
)


def values(event: Event) -> list[str]:
    """All values of an event as text, in a fixed order."""
    found: list[str] = []
    for value in (*(getattr(event, name) for name in _SEARCHED), *event.fields.values()):
        plain = written(value)
        if isinstance(plain, Many):
            found += plain.texts
        elif plain is not ABSENT:
            found.append(plain)
    return found


def cased_keywords(event: Event) -> str:
    return SEPARATOR.join(values(event))


def keywords(event: Event) -> str:
    return SEPARATOR.join(values(event)).lower()


def keyword_found(wanted: Search, event: Event) -> bool:
    return any(wanted.found(value) for value in values(event))


def getter(name: str) -> Callable[[Event], Any]:
    """Reads one field of an event under its ECS or native name, or the other names it goes by."""
    attribute = ECS_ATTRIBUTES.get(name)
    if attribute is not None:
        read: Callable[[Event], Any] = operator.attrgetter(attribute)
        return read
    others = [getter(other) for other in FALLBACKS.get(name, ()) if other in ECS_ATTRIBUTES or other not in FALLBACKS]

    def native(event: Event) -> Any:
        value = event.fields.get(name)
        if value is None:
            for other in others:
                value = other(event)
                if value is not None:
                    break
        return value

    return native


# --- generation -------------------------------------------------------------------------------------------------

_COSTS: dict[type, int] = {
    Const: 0,
    Compare: 4,
    Reference: 5,
    Exists: 1,
    Present: 1,
    Null: 2,
    TimePart: 8,
    Network: 6,
    Pattern: 30,
}


def _cost(node: Node) -> int:
    """A rough price in tenths of a leaf, high where a leaf is slow or seldom decides."""
    if isinstance(node, Text):
        base = {"equals": 1, "startswith": 2, "endswith": 2, "contains": 3}[node.op]
        return base + (60 if node.field == "" else 0)
    if isinstance(node, And | Or):
        return 2 + sum(_cost(arg) for arg in node.args)
    if isinstance(node, Not):
        return 20 + _cost(node.arg)  # an exception of a rule seldom decides
    return _COSTS[type(node)] + (60 if isinstance(node, Pattern) and node.field == "" else 0)


class _Source:
    """The lines of one generated function and the constants bound to it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bound: dict[str, Any] = {
            "present": present,
            "null": null,
            "one_of": one_of,
            "compare": compare,
            "refers": refers,
            "time_part": time_part,
            "keyword_found": keyword_found,
            "keywords": keywords,
            "cased_keywords": cased_keywords,
            "text": text,
            "written": written,
        }
        self._names: dict[Any, str] = {}
        self._numbers: dict[str, int] = {}

    def constant(self, value: Any) -> str:
        key = (type(value), value) if isinstance(value, str | int | float | tuple | frozenset) else id(value)
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"c{len(self._names)}"
            self.bound[name] = value
        return name

    def number(self, field: str) -> int:
        return self._numbers.setdefault(field, len(self._numbers))

    def name(self, kind: str, field: str) -> str:
        """The variable of a field: `r` the value as it is, `t` its lower-case text, `w` its text as written."""
        return f"{kind}{self.number(field)}"

    def fetch(self, needs: Iterable[tuple[str, str]], have: set[tuple[str, str]], indent: str) -> None:
        """Lines that load what is needed and not loaded yet."""
        for kind, field in sorted(needs):
            if (kind, field) in have:
                continue
            have.add((kind, field))
            if field == "":
                self.lines.append(
                    f"{indent}{self.name(kind, field)} = {'keywords' if kind == 't' else 'cased_keywords'}(event)"
                )
                continue
            raw = self.name("r", field)
            if ("r", field) not in have or kind == "r":
                have.add(("r", field))
                self._read(raw, field, indent)
            if kind == "t":
                self.lines.append(
                    f"{indent}{self.name('t', field)} = {raw}.lower() if {raw}.__class__ is str else text({raw})"
                )
            elif kind == "w":
                self.lines.append(
                    f"{indent}{self.name('w', field)} = {raw} if {raw}.__class__ is str else written({raw})"
                )

    def _read(self, variable: str, field: str, indent: str) -> None:
        attribute = ECS_ATTRIBUTES.get(field)
        if attribute is not None:
            self.lines.append(f"{indent}{variable} = event.{attribute}")
            return
        self.lines.append(f"{indent}{variable} = get({self.constant(field)})")
        others = FALLBACKS.get(field, ())
        for depth, other in enumerate(others):
            inner = indent + " " * (depth + 1)
            self.lines.append(f"{indent}{' ' * depth}if {variable} is None:")
            attribute = ECS_ATTRIBUTES.get(other)
            self.lines.append(
                f"{inner}{variable} = " + (f"event.{attribute}" if attribute else f"get({self.constant(other)})")
            )

    # expressions

    def needs(self, node: Node) -> set[tuple[str, str]]:
        if isinstance(node, And | Or):
            return set().union(*(self.needs(arg) for arg in node.args))
        if isinstance(node, Not):
            return self.needs(node.arg)
        if isinstance(node, Const | TimePart):
            return set()
        if isinstance(node, Reference):
            return {("t", node.field), ("t", node.other)}
        if isinstance(node, Compare):
            return {("r", node.field)}
        if isinstance(node, Exists):
            return {("r", node.field)}
        if isinstance(node, Text):
            if _integer(node) is not None or _word(node):
                return {("r", node.field)}
            return {("w" if node.cased else "t", node.field)}
        if isinstance(node, Pattern):
            if node.field == "" and node.raw and not node.gate:
                return set()
            return {("w" if node.raw else "t", node.field)}
        return {("t", node.field)}

    def expression(self, node: Node) -> str:
        if isinstance(node, And):
            return "(" + " and ".join(self.expression(arg) for arg in sorted(node.args, key=_cost)) + ")"
        if isinstance(node, Or):
            return "(" + " or ".join(self._alternatives(node)) + ")"
        if isinstance(node, Not):
            return f"(not {self.expression(node.arg)})"
        if isinstance(node, Const):
            return str(node.value)
        if isinstance(node, Text):
            return self._text(node)
        if isinstance(node, Pattern):
            wanted = self.constant(search(node.regex))
            if node.field == "" and node.raw and not node.gate:
                return f"keyword_found({wanted}, event)"
            variable = self.name("w" if node.raw else "t", node.field)
            gate = f"{self.constant(node.gate)} in {variable} and " if node.gate else ""
            return f"({gate}{wanted}.found({variable}))"
        if isinstance(node, Network):
            return f"{self.constant(Within(node.network))}.found({self.name('t', node.field)})"
        if isinstance(node, Compare):
            return f"compare({self.name('r', node.field)}, {self.constant(_COMPARE[node.op])}, {self.constant(node.number)})"
        if isinstance(node, TimePart):
            return f"time_part(event, {self.constant(node.part)}, {self.constant(_COMPARE[node.op])}, {self.constant(node.number)})"
        if isinstance(node, Reference):
            return f"refers({self.name('t', node.field)}, {self.name('t', node.other)}, {self.constant(node.op)})"
        if isinstance(node, Exists):
            found = f"{self.name('r', node.field)} is not None"
            if node.field not in ECS_ATTRIBUTES:
                found = f"{self.constant(node.field)} in fields or {found}"
            return f"({found})" if node.wanted else f"(not ({found}))"
        if isinstance(node, Present):
            return f"present({self.name('t', node.field)})"
        return f"null({self.name('t', node.field)})"

    def _text(self, node: Text) -> str:
        integer = _integer(node)
        if integer is not None:
            return f"{self.name('r', node.field)} == {self.constant(integer)}"
        if _word(node):
            return f"{self.constant(node.value)} in {self.name('r', node.field)}"
        variable = self.name("w" if node.cased else "t", node.field)
        value = self.constant(node.value)
        if node.op == "equals":
            return f"{variable} == {value}"
        if node.op == "contains":
            return f"{value} in {variable}"
        return f"{variable}.{node.op}({value})"

    def _alternatives(self, node: Or) -> Iterable[str]:
        """The parts of an OR, cheapest first, with literals on one field joined into one test where that is faster."""
        groups: dict[tuple[str, str, bool], list[str]] = {}
        rest: list[Node] = []
        for arg in node.args:
            if isinstance(arg, Text) and arg.field and _integer(arg) is None and not _word(arg):
                groups.setdefault((arg.field, arg.op, arg.cased), []).append(arg.value)
            else:
                rest.append(arg)
        for (field, op, cased), literals in sorted(
            groups.items(), key=lambda g: ("equals", "startswith", "endswith", "contains").index(g[0][1])
        ):
            variable = self.name("w" if cased else "t", field)
            if op in {"startswith", "endswith"}:
                yield f"{variable}.{op}({self.constant(tuple(literals) if len(literals) > 1 else literals[0])})"
            elif op == "equals" and len(literals) > 3:
                yield f"one_of({variable}, {self.constant(frozenset(literals))})"
            elif op == "contains" and len(literals) > CHAIN_MAX:
                yield f"any(map({variable}.__contains__, {self.constant(tuple(literals))}))"
            else:
                yield from (self._text(Text(field, op, literal, cased)) for literal in literals)  # type: ignore[arg-type]
        patterns: dict[str, list[str]] = {}
        for arg in rest:
            if isinstance(arg, Pattern) and arg.raw and arg.field and not arg.gate:
                patterns.setdefault(arg.field, []).append(arg.regex)
        for field, regexes in patterns.items():
            if len(regexes) > 1:  # one pass over the value instead of several
                rest = [
                    arg
                    for arg in rest
                    if not (isinstance(arg, Pattern) and arg.field == field and arg.regex in regexes)
                ]
                rest.append(Pattern(field, "|".join(f"(?:{regex})" for regex in regexes[:MERGED_MAX]), raw=True))
                rest += [Pattern(field, regex, raw=True) for regex in regexes[MERGED_MAX:]]
        yield from (self.expression(arg) for arg in sorted(rest, key=_cost))


def _integer(node: Node) -> int | None:
    """The number to compare a typed integer attribute with, where the literal is one in its plain spelling."""
    if isinstance(node, Text) and node.op == "equals" and ECS_ATTRIBUTES.get(node.field) in INTEGER_ATTRIBUTES:
        literal = node.value
        if literal.isascii() and literal.isdigit() and len(literal) < 20 and str(int(literal)) == literal:
            return int(literal)
    return None


def _word(node: Text) -> bool:
    """Whether this compares one of the tuple attributes, which can be asked as they are."""
    return (
        node.op == "equals"
        and not node.cased
        and node.value != ""
        and ECS_ATTRIBUTES.get(node.field) in TUPLE_ATTRIBUTES
    )


def generate(conditions: Sequence[tuple[int, Node]]) -> Callable[[Event], list[int] | None]:
    """One function that answers the numbers of the conditions an event meets, None for none of them."""
    source = _Source()
    plans = []
    for number, node in conditions:
        conjuncts = sorted(node.args, key=_cost) if isinstance(node, And) else [node]
        if len(conjuncts) > NESTING_MAX:
            conjuncts = [*conjuncts[: NESTING_MAX - 1], And(tuple(conjuncts[NESTING_MAX - 1 :]))]
        plans.append((number, conjuncts))
    source.lines += ["def matches(event):", " hits = None", " fields = event.fields", " get = fields.get"]
    have: set[tuple[str, str]] = set()
    for number, conjuncts in plans:
        source.fetch(source.needs(conjuncts[0]), have, " ")  # needed for every event: at the top, shared by all rules
        inner = set(have)
        indent = " "
        for conjunct in conjuncts:
            source.fetch(source.needs(conjunct), inner, indent)
            source.lines.append(f"{indent}if {source.expression(conjunct)}:")
            indent += " "
        source.lines.append(f"{indent}if hits is None: hits = []")
        source.lines.append(f"{indent}hits.append({source.constant(number)})")
    source.lines.append(" return hits")
    bound = source.bound
    exec(compile("\n".join(source.lines), "<sigma rules>", "exec"), bound)  # noqa: S102 -- holds names and constants of ours only, no text of a rule
    function: Callable[[Event], list[int] | None] = bound["matches"]
    return function
