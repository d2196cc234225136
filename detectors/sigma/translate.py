"""A parsed pySigma condition as our own tree. What cannot be run is refused here, with the text that it is about."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import re2
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.exceptions import SigmaError
from sigma.modifiers import SigmaWideModifier, modifier_mapping
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
    RuleError,
    Text,
    TimePart,
)
from detectors.sigma.values import search

Expansions = Mapping[str, Sequence[str]]  # the values that stand for %name% under the modifier `expand`

modifier_mapping.setdefault("utf16le", SigmaWideModifier)  # the specification's name, which pySigma lacks
_SEALED = re.compile("\ue000([0-9a-f]*)\ue001")
MODIFIERS = frozenset(modifier_mapping)


def translate(node: Any, expansions: Expansions) -> Node:
    """Our tree of a parsed pySigma condition; raises RuleError for what cannot be run."""
    if isinstance(node, ConditionAND):
        return And(tuple(translate(arg, expansions) for arg in node.args))
    if isinstance(node, ConditionOR):
        return Or(tuple(translate(arg, expansions) for arg in node.args))
    if isinstance(node, ConditionNOT):
        return Not(translate(node.args[0], expansions))
    if isinstance(node, ConditionFieldEqualsValueExpression):
        return _leaf(node.field, node.value, expansions)
    if isinstance(node, ConditionValueExpression):
        return _leaf("", node.value, expansions)
    raise RuleError(f"a condition of kind {type(node).__name__} cannot be run")


def _leaf(field: str, value: Any, expansions: Expansions) -> Node:
    if isinstance(value, SigmaExpansion):
        return Or(tuple(_leaf(field, each, expansions) for each in value.values))
    if isinstance(value, SigmaString):
        cased = isinstance(value, SigmaCasedString)
        return _any(_string(field, each, cased=cased) for each in _expanded(value, expansions, sealed=False))
    if isinstance(value, SigmaTimestampPart):
        return TimePart(value.timestamp_part.name.lower(), "eq", value.number)
    if isinstance(value, SigmaNumber):
        return Text(field, "contains" if field == "" else "equals", str(value.number))
    if isinstance(value, SigmaBool):
        return Text(field, "contains" if field == "" else "equals", str(value.boolean).lower())
    if isinstance(value, SigmaRegularExpression):
        return _any(_regex(field, each, value) for each in _expanded(value.regexp, expansions, sealed=True))
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
        anchors = (value.starts_with, value.ends_with)
        return Reference(field, value.field, _REFERENCES[anchors])
    if isinstance(value, SigmaExists):
        return Exists(field, bool(value))
    raise RuleError(f"a value of kind {type(value).__name__} cannot be matched")


_REFERENCES: dict[tuple[bool, bool], Literal["equals", "contains", "startswith", "endswith"]] = {
    (False, False): "equals",
    (True, False): "startswith",
    (False, True): "endswith",
    (True, True): "contains",
}


def _any(nodes: Iterator[Node]) -> Node:
    found = tuple(nodes)
    return found[0] if len(found) == 1 else Or(found)


def _expanded(value: SigmaString, expansions: Expansions, *, sealed: bool) -> list[SigmaString]:
    """The text once for each combination of the values of its placeholders, which are taken as they are written.

    Sealed values are to be opened by `_opened` when pySigma has written the text: it would escape them in its own way.
    """
    if not value.contains_placeholder():
        return [value]

    def values(placeholder: Placeholder) -> Iterator[str]:
        found = expansions.get(placeholder.name)
        if not found:
            raise RuleError(
                f"the placeholder %{placeholder.name}% has no values: the modifier `expand` needs a source that gives them",
                placeholder.name,
            )
        for each in found:
            yield f"\ue000{each.encode('utf-8', 'replace').hex()}\ue001" if sealed else each

    try:
        return value.replace_placeholders(values)
    except SigmaError as fault:
        raise RuleError(str(fault)) from fault


def _opened(regex: str) -> str:
    return _SEALED.sub(lambda found: str(re2.escape(bytes.fromhex(found[1]).decode())), regex)


def _string(field: str, value: SigmaString, *, cased: bool) -> Node:
    parts: list[str | SpecialChars] = []
    for part in value.s:
        if isinstance(part, Placeholder):
            raise RuleError(f"the placeholder %{part.name}% stands where it cannot be expanded", part.name)
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


def _regex(field: str, regexp: SigmaString, value: SigmaRegularExpression) -> Node:
    letters = {
        SigmaRegularExpressionFlag.IGNORECASE: "i",
        SigmaRegularExpressionFlag.MULTILINE: "m",
        SigmaRegularExpressionFlag.DOTALL: "s",
    }
    flags = "".join(sorted(letters[flag] for flag in value.flags))
    regex = _opened(str(regexp))
    search(f"(?{flags}){regex}" if flags else regex)  # refuses what RE2 cannot run
    return Pattern(field, f"(?{flags}){regex}" if flags else regex, raw=True)
