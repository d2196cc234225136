"""A Sigma condition as a small tree of plain values: what a rule is between its YAML and the code that runs it.

Every leaf is two-valued: a missing field is simply false, so NOT over it is true.
"""

from typing import Literal

import msgspec

from detectors.sigma.logsource import CODE_FIELDS


class RuleError(ValueError):
    """A condition that this engine cannot run, with the reason and the text of the rule it is about."""

    def __init__(self, message: str, about: str = "") -> None:
        super().__init__(message)
        self.about = about


class Const(msgspec.Struct, frozen=True, tag=True, array_like=True):
    value: bool


class And(msgspec.Struct, frozen=True, tag=True, array_like=True):
    args: "tuple[Node, ...]"


class Or(msgspec.Struct, frozen=True, tag=True, array_like=True):
    args: "tuple[Node, ...]"


class Not(msgspec.Struct, frozen=True, tag=True, array_like=True):
    arg: "Node"


class Text(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A literal compared with the value; a field of "" is a keyword: any value of the event."""

    field: str
    op: Literal["equals", "contains", "startswith", "endswith"]
    value: str
    cased: bool = False


class Pattern(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """An RE2 pattern searched in the value as it is (`raw`) or in its lower-case text; `gate` must occur for a match."""

    field: str
    regex: str
    raw: bool
    gate: str = ""


class Network(msgspec.Struct, frozen=True, tag=True, array_like=True):
    field: str
    network: str


class Compare(msgspec.Struct, frozen=True, tag=True, array_like=True):
    field: str
    op: str
    number: int | float


class TimePart(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A part of the event's own time, in UTC."""

    part: str
    op: str
    number: int | float


class Reference(msgspec.Struct, frozen=True, tag=True, array_like=True):
    field: str
    other: str
    op: Literal["equals", "contains", "startswith", "endswith"]


class Exists(msgspec.Struct, frozen=True, tag=True, array_like=True):
    field: str
    wanted: bool


class Present(msgspec.Struct, frozen=True, tag=True, array_like=True):
    field: str


class Null(msgspec.Struct, frozen=True, tag=True, array_like=True):
    field: str


Node = Const | And | Or | Not | Text | Pattern | Network | Compare | TimePart | Reference | Exists | Present | Null


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


def has_keywords(node: Node) -> bool:
    """Whether a condition looks through all values of an event."""
    if isinstance(node, And | Or):
        return any(map(has_keywords, node.args))
    if isinstance(node, Not):
        return has_keywords(node.arg)
    return isinstance(node, Text | Pattern) and node.field == ""


def only_field(node: Node) -> str | None:
    """The field whose value alone decides a condition; None where it takes more than that."""
    if isinstance(node, And | Or):
        found = {only_field(arg) for arg in node.args}
        return found.pop() if len(found) == 1 else None
    if isinstance(node, Not):
        return only_field(node.arg)
    if isinstance(node, Text | Pattern | Network | Compare | Present | Null):
        return node.field or None
    return None


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
