"""Why a rule meets an event or not: its condition as a tree of clauses, each with the value that decided it.

Whether a clause holds is asked of the same code that detection runs; only what is said about it is made here.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import re2
from sigma.conditions import (
    ConditionAND,
    ConditionIdentifier,
    ConditionNOT,
    ConditionOR,
    ConditionSelector,
)
from sigma.rule import SigmaRule

from connectors.events import ECS_ATTRIBUTES, Event, isoformat
from detectors.sigma.documents import Document
from detectors.sigma.generate import checker
from detectors.sigma.logsource import FALLBACKS, Sources, sources
from detectors.sigma.rules import Rule
from detectors.sigma.translate import Expansions, translate
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
    simplify,
)
from detectors.sigma.values import ABSENT, Many, getter, numeric, values, written

NEAR_MAX = 3  # field names shown for one that is missing
VALUE_CHARS_MAX = 2000  # of a value that is shown
_LOWER_MIN = 0.6  # how alike names must be to be called near

_OPERATORS = {"equals": "is", "contains": "contains", "startswith": "starts with", "endswith": "ends with"}
_COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "eq": "=", "neq": "!="}


class Clause(msgspec.Struct, omit_defaults=True):
    """One part of a condition. Leaves have a field; `value` is what the event holds there, None where it is missing."""

    held: bool
    text: str
    field: str = ""
    value: Any = None
    note: str = ""
    clauses: list["Clause"] = []


class Explanation(msgspec.Struct):
    rule: str
    title: str
    path: str
    line: int
    matches: bool
    routed: bool  # the event is of the rule's log source
    source: str
    event_source: str
    condition: Clause


def explain(rule: Rule, document: Document | None, event: Event, expansions: Expansions, *, known: bool) -> Explanation:
    """Explains one rule on one event. `known` says whether the event names its own source; else it is taken as meant.

    `document` is the rule as it is written; where overlays or filters have changed it, it is shown as it runs.
    """
    assert rule.condition is not None
    told = sources(event.event_dataset, event.event_code, event.event_category)
    routed = not known or told.match(rule.product, rule.category, rule.service)
    named = None if document is None else _as_written(document, rule.condition, event, expansions)
    clause = named or _clause(rule.condition, event)
    if named is None:
        clause.note = "as it runs, with the overlays and filters that apply to it"
    return Explanation(
        rule=rule.id,
        title=rule.title,
        path=rule.path,
        line=rule.line,
        matches=routed and clause.held,
        routed=routed,
        source=_stated(rule),
        event_source=_answers(told) if known else "not stated",
        condition=clause,
    )


def quoted(text: str) -> str:
    """A text in quotes as rules and logs write it: backslashes as they are, only what would not be seen is escaped."""
    return "'" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + "'"


def _stated(rule: Rule) -> str:
    parts = [f"{key} {value}" for key in ("product", "category", "service") if (value := getattr(rule, key))]
    return ", ".join(parts) or "any"


def _answers(told: Sources) -> str:
    parts = [
        f"{name} {' or '.join(sorted(words))}"
        for name, words in (("product", told.products), ("category", told.categories), ("service", told.services))
        if words
    ]
    return ", ".join(parts)


# The condition as it is written


def _as_written(document: Document, runs: Node, event: Event, expansions: Expansions) -> Clause | None:
    """The condition with the names of its selections; None where it is not what runs."""
    detection = dict(document.body["detection"])
    conditions = detection.pop("condition", None)
    head = {"title": "rule", "logsource": document.body["logsource"]}
    nodes: dict[str, Node] = {}
    for name, selection in detection.items():
        alone = SigmaRule.from_dict({**head, "detection": {str(name): selection, "condition": str(name)}})
        nodes[str(name)] = translate(alone.detection.parsed_condition[0].parsed, expansions)
    whole = SigmaRule.from_dict({**head, "detection": {**detection, "condition": conditions}})
    parsed = [condition.parse(postprocess=False) for condition in whole.detection.parsed_condition]
    trees = [_tree(each, whole, nodes) for each in parsed]
    if simplify(trees[0] if len(trees) == 1 else Or(tuple(trees)), None) != runs:
        return None
    clauses = [_named(each, whole, nodes, event) for each in parsed]
    if len(clauses) == 1:
        return clauses[0]
    return Clause(any(clause.held for clause in clauses), "any condition", clauses=clauses)


def _referred(parsed: ConditionSelector, rule: SigmaRule) -> list[str]:
    return [str(each.identifier) for each in parsed.resolve_referenced_detections(rule.detection)]


def _tree(parsed: Any, rule: SigmaRule, nodes: Mapping[str, Node]) -> Node:
    if isinstance(parsed, ConditionIdentifier):
        return nodes[parsed.identifier]
    if isinstance(parsed, ConditionSelector):
        inner = tuple(nodes[name] for name in _referred(parsed, rule))
        return And(inner) if parsed.cond_class is ConditionAND else Or(inner)
    args = tuple(_tree(arg, rule, nodes) for arg in parsed.args)
    if isinstance(parsed, ConditionNOT):
        return Not(args[0])
    return And(args) if isinstance(parsed, ConditionAND) else Or(args)


def _named(parsed: Any, rule: SigmaRule, nodes: Mapping[str, Node], event: Event) -> Clause:
    if isinstance(parsed, ConditionIdentifier):
        return _selection(str(parsed.identifier), nodes, event)
    if isinstance(parsed, ConditionSelector):
        clauses = [_selection(name, nodes, event) for name in _referred(parsed, rule)]
        return _joined(f"{parsed.args[0]} of {parsed.pattern}", clauses, every=parsed.cond_class is ConditionAND)
    clauses = [_named(arg, rule, nodes, event) for arg in parsed.args]
    if isinstance(parsed, ConditionNOT):
        return Clause(not clauses[0].held, "not", clauses=clauses)
    assert isinstance(parsed, ConditionAND | ConditionOR)
    every = isinstance(parsed, ConditionAND)
    return _joined("all of these" if every else "any of these", clauses, every=every)


def _selection(name: str, nodes: Mapping[str, Node], event: Event) -> Clause:
    inner = _clause(simplify(nodes[name], None), event)
    return Clause(inner.held, name, clauses=inner.clauses if inner.text == "all of these" else [inner])


def _joined(text: str, clauses: list[Clause], *, every: bool) -> Clause:
    held = [clause.held for clause in clauses]
    return Clause(all(held) if every else any(held), text, clauses=clauses)


# Clauses of the tree that runs


def _clause(node: Node, event: Event) -> Clause:
    if isinstance(node, And | Or):
        every = isinstance(node, And)
        clauses = [_clause(arg, event) for arg in node.args]
        return _joined("all of these" if every else "any of these", clauses, every=every)
    if isinstance(node, Not):
        inner = _clause(node.arg, event)
        return Clause(not inner.held, "not", clauses=[inner])
    if isinstance(node, Const):
        return Clause(node.value, "always" if node.value else "never")
    return _leaf(node, event)


def _leaf(node: Node, event: Event) -> Clause:
    assert not isinstance(node, And | Or | Not | Const)
    held = checker(node)(event)
    if isinstance(node, TimePart):
        text = f"{node.part} of the event's time {_COMPARISONS[node.op]} {node.number}"
        return Clause(held, text, "@timestamp", isoformat(event.timestamp))
    if node.field == "":
        return _keyword(node, event, held=held)
    raw = getter(node.field)(event)
    clause = Clause(held, f"{node.field} {_wanted(node)}", node.field, _shown(raw))
    if raw is None and node.field not in event.fields:
        if not held or not isinstance(node, Null | Exists):
            clause.note = _missing(node.field, event)
    elif raw is None:
        clause.note = "is null"
    else:
        clause.note = _remark(node, raw, event, held=held)
    return clause


def _wanted(node: Node) -> str:
    if isinstance(node, Text):
        return f"{_OPERATORS[node.op]} {quoted(node.value)}" + (" (case counts)" if node.cased else "")
    if isinstance(node, Pattern):
        return f"matches {node.regex}" if node.raw else f"fits {node.regex.removeprefix('(?s)')}"
    if isinstance(node, Network):
        return f"is in {node.network}"
    if isinstance(node, Compare):
        return f"{_COMPARISONS[node.op]} {node.number}"
    if isinstance(node, Reference):
        return f"{_OPERATORS[node.op]} the value of {node.other}"
    if isinstance(node, Exists):
        return "exists" if node.wanted else "does not exist"
    return "has a value" if isinstance(node, Present) else "is missing or null"


def _shown(raw: Any) -> Any:
    plain = list(raw) if isinstance(raw, tuple) else raw
    return plain[:VALUE_CHARS_MAX] if isinstance(plain, str) else plain


def _texts(raw: Any) -> Sequence[str]:
    plain = written(raw)
    return plain.texts if isinstance(plain, Many) else () if plain is ABSENT else (plain,)


def _remark(node: Node, raw: Any, event: Event, *, held: bool) -> str:
    """What is worth saying of a value: where it holds what was looked for, or how near it came."""
    remarks: list[str] = []
    assert not isinstance(node, And | Or | Not | Const | TimePart)
    if node.field not in ECS_ATTRIBUTES and event.fields.get(node.field) is None:
        under = next((name for name in FALLBACKS.get(node.field, ()) if getter(name)(event) is not None), None)
        if under is not None:
            remarks.append(f"read from {under}")
    if isinstance(node, Text):
        remarks += _of_text(node, _texts(raw), held=held)
    elif isinstance(node, Pattern) and held:
        remarks += [f"found {quoted(found)}" for text in _texts(raw) if (found := _found(node, text)) is not None][:1]
    elif isinstance(node, Compare) and not held and not isinstance(raw, list) and numeric(raw) is None:
        remarks.append("is no number")
    elif isinstance(node, Reference):
        remarks += [f"{node.other} is {quoted(text)}" for text in _texts(getter(node.other)(event))]
    return "; ".join(remarks)


def _of_text(node: Text, texts: Sequence[str], *, held: bool) -> list[str]:
    wanted = node.value if node.cased else node.value.lower()
    for text in texts:
        low = text if node.cased else text.lower()
        at = low.rfind(wanted) if node.op == "endswith" else low.find(wanted)
        if held and at >= 0:
            found = text[at : at + len(wanted)] if len(low) == len(text) else wanted
            return [f"found {quoted(found)} at {at}"] if node.op == "contains" else []
        if not held and node.cased and wanted.lower() in text.lower():
            return ["differs in case"]
        if not held and at >= 0:
            return [f"it is there, at {at}, but not as the {_PLACES[node.op]}"]
        if not held and low.strip() == wanted.strip() and low != wanted:
            return ["differs in blanks"]
    return []


_PLACES = {"equals": "whole value", "startswith": "beginning", "endswith": "end", "contains": "value"}


def _found(node: Pattern, text: str) -> str | None:
    try:
        match = re2.search(node.regex, text if node.raw else text.lower())
    except UnicodeEncodeError:  # a lone surrogate; that the clause holds has been said
        return None
    return None if match is None else str(match[0])[:VALUE_CHARS_MAX]


def _keyword(node: Node, event: Event, *, held: bool) -> Clause:
    assert isinstance(node, Text | Pattern)
    clause = Clause(held, f"any value {_wanted(node)}", "", None)
    if held:
        for text in values(event):
            if (
                (node.value in text if node.cased else node.value.lower() in text.lower())
                if isinstance(node, Text)
                else _found(node, text) is not None
            ):
                clause.value = _shown(text)
                break
    return clause


def _missing(field: str, event: Event) -> str:
    """That a field is not there, with the names that are there and look like it."""
    names = sorted({*event.fields, *(path for path, name in ECS_ATTRIBUTES.items() if getattr(event, name))})
    names = [name for name in names if not name.startswith("@")]
    by_low = {name.lower(): name for name in names}
    near = [by_low[low] for low in difflib.get_close_matches(field.lower(), by_low, NEAR_MAX, _LOWER_MIN)]
    return "the event has no such field" + (f"; near: {', '.join(near)}" if near else "")
