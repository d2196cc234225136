"""Conditions as fast Python: those that apply to one kind of event become one generated function.

No text of a rule enters the generated source: literals are bound as constants, so a rule cannot become code.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from connectors.events import ECS_ATTRIBUTES, Event
from detectors.sigma.logsource import FALLBACKS
from detectors.sigma.scan import AnyOf
from detectors.sigma.tree import (
    And,
    Compare,
    Const,
    Exists,
    Network,
    Node,
    Not,
    Null,
    Or,
    Pattern,
    Present,
    Reference,
    Text,
    TimePart,
)
from detectors.sigma.values import (
    COMPARE,
    LOWERED_CHARS_MIN,
    Within,
    cased_keywords,
    compare,
    holds_any,
    keyword_found,
    keywords,
    lowered,
    null,
    one_of,
    present,
    refers,
    search,
    text,
    time_part,
    unread,
    written,
)

CHAIN_MAX = 24  # literals written out as an `or` chain; more are searched together
MERGED_MAX = 16  # regular expressions on one field joined into one
NESTING_MAX = 16  # conjuncts as nested ifs; the rest joins the last one

_FLAGS = re.compile(r"\(\?([ims]+)\)")  # before an expression
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
            "holds_any": holds_any,
            "keyword_found": keyword_found,
            "keywords": keywords,
            "cased_keywords": cased_keywords,
            "lowered": lowered,
            "text": text,
            "unread": unread,
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
                self.read(raw, field, indent)
            if kind == "t":
                self.lines.append(
                    f"{indent}{self.name('t', field)} = text({raw}) if {raw}.__class__ is not str else {raw}.lower() if len({raw}) < {LOWERED_CHARS_MIN} else lowered({raw})"
                )
            elif kind == "w":
                self.lines.append(
                    f"{indent}{self.name('w', field)} = {raw} if {raw}.__class__ is str else written({raw})"
                )

    def read(self, variable: str, field: str, indent: str) -> None:
        attribute = ECS_ATTRIBUTES.get(field)
        if attribute is not None:
            self.lines.append(f"{indent}{variable} = event.{attribute}")
            return
        self.lines.append(f"{indent}{variable} = get({self.constant(field)})")
        others = FALLBACKS.get(field, ())
        for depth, other in enumerate(others):
            inner = indent + " " * (depth + 1)
            attribute = ECS_ATTRIBUTES.get(other)
            unread = "" if attribute or "." not in other else " and not unread(event)"
            self.lines.append(f"{indent}{' ' * depth}if {variable} is None{unread}:")
            self.lines.append(
                f"{inner}{variable} = " + (f"event.{attribute}" if attribute else f"get({self.constant(other)})")
            )

    def nest(self, conjuncts: Sequence[Node], have: set[tuple[str, str]]) -> str:
        """One `if` within the other; answers how far in the lines for a match stand."""
        indent = " "
        for conjunct in conjuncts:
            self.fetch(self.needs(conjunct), have, indent)
            self.lines.append(f"{indent}if {self.expression(conjunct)}:")
            indent += " "
        return indent

    def made(self) -> Any:
        """The function that the lines define."""
        exec(compile("\n".join(self.lines), "<sigma rules>", "exec"), self.bound)  # noqa: S102 -- holds names and constants of ours only, no text of a rule
        return self.bound.pop("made")  # else the function and its globals would keep each other alive

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
            return f"compare({self.name('r', node.field)}, {self.constant(COMPARE[node.op])}, {self.constant(node.number)})"
        if isinstance(node, TimePart):
            return f"time_part(event, {self.constant(node.part)}, {self.constant(COMPARE[node.op])}, {self.constant(node.number)})"
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
                yield f"holds_any({variable}, {self.constant(AnyOf(literals))})"
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
                rest.append(Pattern(field, "|".join(map(_grouped, regexes[:MERGED_MAX])), raw=True))
                rest += [Pattern(field, regex, raw=True) for regex in regexes[MERGED_MAX:]]
        yield from (self.expression(arg) for arg in sorted(rest, key=_cost))


def _grouped(regex: str) -> str:
    """The expression as a group, its leading flags as those of the group."""
    flags = _FLAGS.match(regex)
    return f"(?:{regex})" if flags is None else f"(?{flags[1]}:{regex[flags.end() :]})"


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
    source.lines += ["def made(event):", " hits = None", " fields = event.fields", " get = fields.get"]
    have: set[tuple[str, str]] = set()
    for number, node in conditions:
        conjuncts = _conjuncts(node)
        source.fetch(source.needs(conjuncts[0]), have, " ")  # needed for every event: at the top, shared by all rules
        indent = source.nest(conjuncts, set(have))
        source.lines.append(f"{indent}if hits is None: hits = []")
        source.lines.append(f"{indent}hits.append({source.constant(number)})")
    source.lines.append(" return hits")
    function: Callable[[Event], list[int] | None] = source.made()
    return function


def checker(node: Node) -> Callable[[Event], bool]:
    """A function that tells whether an event meets one condition."""
    source = _Source()
    source.lines += ["def made(event):", " fields = event.fields", " get = fields.get"]
    indent = source.nest(_conjuncts(node), set())
    source.lines += [f"{indent}return True", " return False"]
    function: Callable[[Event], bool] = source.made()
    return function


def tester(field: str, node: Node) -> Callable[[str, str], bool]:
    """A function that tells whether the text of one field, and that in small letters, meets a condition on nothing else."""
    source = _Source()
    raw, low = source.name("r", field), source.name("t", field)
    source.lines.append(f"def made({raw}, {low}):")
    indent = source.nest(_conjuncts(node), {("r", field), ("t", field)})
    source.lines += [f"{indent}return True", " return False"]
    function: Callable[[str, str], bool] = source.made()
    return function


class Probe(msgspec.Struct):
    """How one field is asked: numbers remembered by text, and the functions that work them out for text and other values."""

    field: str
    remembered: Callable[[str], tuple[int, ...] | None]
    of_text: Callable[[str], tuple[int, ...]]
    of_other: Callable[[Any], tuple[int, ...]]


def prober(probes: Sequence[Probe]) -> Callable[[Event], tuple[int, ...]]:
    """A function that answers the numbers that the fields of an event bring up, some perhaps twice."""
    source = _Source()
    source.lines += ["def made(event):", " found = ()", " get = event.fields.get"]
    for probe in probes:
        raw = source.name("r", probe.field)
        source.read(raw, probe.field, " ")
        source.lines += [
            f" if {raw}.__class__ is str:",
            f"  n = {source.constant(probe.remembered)}({raw})",
            f"  if n is None: n = {source.constant(probe.of_text)}({raw})",
            "  if n: found = found + n if found else n",
            f" elif {raw} is not None:",
            f"  n = {source.constant(probe.of_other)}({raw})",
            "  if n: found = found + n if found else n",
        ]
    source.lines.append(" return found")
    function: Callable[[Event], tuple[int, ...]] = source.made()
    return function


def _conjuncts(node: Node) -> list[Node]:
    """What must hold, the cheapest first."""
    conjuncts: list[Node] = sorted(node.args, key=_cost) if isinstance(node, And) else [node]
    if len(conjuncts) > NESTING_MAX:
        conjuncts = [*conjuncts[: NESTING_MAX - 1], And(tuple(conjuncts[NESTING_MAX - 1 :]))]
    return conjuncts
