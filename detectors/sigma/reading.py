"""One YAML document as a rule, correlation or filter, with every fault told by its line.

pySigma parses; it knows no lines and fails late, so its messages are traced back to the text that they are about.
"""

import re
from typing import Any

from sigma.conditions import ConditionAND, ConditionNOT, ConditionOR, SigmaCondition
from sigma.correlations import (
    CorrelationConditionAND,
    CorrelationConditionNOT,
    CorrelationConditionOR,
    SigmaCorrelationRule,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

from detectors.sigma.checks import STAGING, check, check_filter, day
from detectors.sigma.documents import Document, Fault, Mapped, identity, nearest, note
from detectors.sigma.overlays import check_overlay, target_of
from detectors.sigma.rules import Correlation, Draft, Filter, Overlay, Rule, version
from detectors.sigma.translate import Expansions, translate
from detectors.sigma.tree import Node, Or, RuleError, fields_of, simplify

CORRELATION_TYPES = (
    "event_count",
    "value_count",
    "temporal",
    "temporal_ordered",
    "value_sum",
    "value_avg",
    "value_percentile",
    "value_median",
)
OPERATORS = ("gte", "gt", "lte", "lt", "eq", "neq")
TACTICS = {
    "reconnaissance": "TA0043",
    "resource-development": "TA0042",
    "initial-access": "TA0001",
    "execution": "TA0002",
    "persistence": "TA0003",
    "privilege-escalation": "TA0004",
    "defense-evasion": "TA0005",
    "credential-access": "TA0006",
    "discovery": "TA0007",
    "lateral-movement": "TA0008",
    "collection": "TA0009",
    "command-and-control": "TA0011",
    "exfiltration": "TA0010",
    "impact": "TA0040",
}
_CORRELATION_KEYS = frozenset({"type", "rules", "group-by", "timespan", "condition", "aliases", "generate"})
_OPERATOR = re.compile(r"\b(?:and|or|not)\b")
_WORD = re.compile(r"[A-Za-z0-9_-]+")


def _place(detection: Any, message: str, about: str = "") -> int | None:
    """The line of the detection item that a message of pySigma or ours is about, as far as its text tells."""
    best: tuple[int, int] | None = None

    def look(node: Any, line: int) -> None:
        nonlocal best
        if isinstance(node, Mapped):
            for key, value in node.items():
                look(value, node.at(key))
                if key != "condition" and len(str(key)) > 3 and str(key) in message:
                    score = len(str(key))
                    best = max(best or (0, 0), (score, node.at(key)))
        elif isinstance(node, list):
            for each in node:
                look(each, line)
        else:
            plain = str(node)
            if len(plain) > 1 and (plain in message or (about and (about in plain or plain in about))):
                best = max(best or (0, 0), (len(plain), line))

    look(detection, 0)
    return best[1] if best and best[1] else None


# what `_check` has already said, with the exact line
_SAID = frozenset(
    {"SigmaModifierError", "SigmaLevelError", "SigmaStatusError", "SigmaIdentifierError", "SigmaTitleError"}
)


def _report(faults: list[Fault], document: Document, fault: Exception, detection: Any) -> None:
    if type(fault).__name__ in _SAID and any(f.path == document.path and f.rule == document.rule for f in faults):
        return
    message = str(fault).split(" in file ")[0]
    about = getattr(fault, "about", "")
    line = None
    if "condition" in type(fault).__name__.lower() or "in condition" in message:
        line = detection.at("condition") if isinstance(detection, Mapped) else None
        if isinstance(detection, Mapped):
            names = frozenset(str(name) for name in detection if name != "condition")
            unknown = next(
                (w for w in _WORD.findall(message) if w not in names and nearest(w, names) and f"'{w}'" in message),
                None,
            )
            if unknown is not None:
                message += nearest(unknown, names)
    line = line or _place(detection, message, about)
    if line is None:
        line = document.body.at("detection") if "detection" in document.body else document.body.line
    faults.append(Fault(document.path, line, message, document.rule))


def read(document: Document, expansions: Expansions, faults: list[Fault]) -> Draft | None:
    """The document as far as it can be understood alone; None after faults were noted."""
    before = len(faults)
    found: Draft | None
    if "override" in document.body:
        check_overlay(document, faults)
        overlay = Overlay(target_of(document.body), document.body.line)
        found = Draft(None, document.rule, _lines(document.body, "id", "name"), overlay=overlay)
    elif "filter" in document.body:
        check_filter(document, faults)
        found = _filter(document, expansions, faults)
    else:
        check(document, faults)
        if "correlation" in document.body:
            found = _correlation(document, faults)
        else:
            found = _rule(document, expansions, faults)
    return None if len(faults) > before else found


def _common(document: Document, kind: str) -> dict[str, Any]:
    body = document.body
    tags = tuple(str(tag) for tag in body.get("tags") or [])
    attack: dict[str, None] = {}
    for tag in tags:
        value = tag.lower().removeprefix("attack.")
        if value == tag.lower():
            continue
        if re.fullmatch(r"t\d{4}(\.\d{3})?|ta\d{4}", value):
            attack[value.upper()] = None
        elif value.replace("_", "-") in TACTICS:
            attack[TACTICS[value.replace("_", "-")]] = None
    logsource = body.get("logsource") or {}
    falsepositives = body.get("falsepositives") or []
    return {
        "id": identity(body),
        "name": str(body.get("name") or ""),
        "title": body["title"],
        "title_de": body.get("title_de") or body["title"],
        "kind": kind,
        "level": body.get("level") or "medium",
        "status": body.get("status") or "experimental",
        "description": str(body.get("description") or ""),
        "author": str(body.get("author") or ""),
        "tags": tags,
        "attack": tuple(attack),
        "falsepositives": tuple(
            str(each) for each in (falsepositives if isinstance(falsepositives, list) else [falsepositives])
        ),
        "path": document.path,
        "line": body.line,
        "version": version(body),
        "reason": dict(body.get("reason") or {}),
        "entity": tuple(body.get("entity") or ()),
        "product": logsource.get("product"),
        "category": logsource.get("category"),
        "service": logsource.get("service"),
        "tests": tuple(_plain(test) for test in body.get("tests") or ()),
        "staging_until": (day(body["staging_until"]) if "staging_until" in body else None) or "",
        "staged": body.get("status") == STAGING,
    }


def _plain(node: Any) -> Any:
    """Maps without lines."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    return [_plain(each) for each in node] if isinstance(node, list) else node


def _condition(
    document: Document, body: dict[str, Any], detection: Any, expansions: Expansions, faults: list[Fault]
) -> Node | None:
    """The condition of a rule or filter; None after faults were noted."""
    try:
        parsed = SigmaRule.from_dict(body, collect_errors=True)
        if parsed.errors:
            for fault in parsed.errors:
                _report(faults, document, fault, detection)
            return None
        trees = [translate(condition.parsed, expansions) for condition in parsed.detection.parsed_condition]
    except (SigmaError, RuleError) as fault:
        _report(faults, document, fault, detection)
        return None
    except (
        TypeError,
        AttributeError,
        KeyError,
        ValueError,
        RecursionError,
    ) as fault:  # shapes that pySigma does not check
        _report(faults, document, ValueError(f"the rule has a shape that Sigma does not know: {fault}"), detection)
        return None
    return simplify(trees[0] if len(trees) == 1 else Or(tuple(trees)), None)


def _rule(document: Document, expansions: Expansions, faults: list[Fault]) -> Draft | None:
    body = document.body
    for key in ("logsource", "detection"):
        if not isinstance(body.get(key), Mapped):
            note(faults, document, key, f"a rule needs {key}, a map")
            return None
    before = len(faults)
    parts = {"title": "rule", "logsource": body["logsource"], "detection": body["detection"]}
    node = _condition(document, parts, body["detection"], expansions, faults)
    if node is None or len(faults) > before or not isinstance(body.get("title"), str):
        return None
    rule = Rule(**_common(document, "rule"), alerts=True, fields=fields_of(node), condition=node, correlation=None)
    return Draft(rule, document.rule, _lines(body, "id", "name"))


def _lines(body: Mapped, *keys: str) -> dict[str, int]:
    return {key: body.at(key) for key in keys}


def _strings(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _correlation(document: Document, faults: list[Fault]) -> Draft | None:
    body = document.body
    spec = body["correlation"]
    if not isinstance(spec, Mapped):
        note(faults, document, "correlation", "correlation must be a map")
        return None
    before = len(faults)
    for key in spec:
        if key not in _CORRELATION_KEYS:
            note(faults, document, key, f"unknown key {key!r} of a correlation{nearest(key, _CORRELATION_KEYS)}", spec)
    if spec.get("type") not in CORRELATION_TYPES:
        note(
            faults,
            document,
            "type",
            f"{spec.get('type')!r} is no correlation type{nearest(spec.get('type'), CORRELATION_TYPES)}",
            spec,
        )
    condition = spec.get("condition")
    conditions: list[tuple[str, float]] = []
    if isinstance(condition, Mapped):
        for key, value in condition.items():
            if key in OPERATORS and isinstance(value, int | float) and not isinstance(value, bool):
                conditions.append((key, value))
            elif key in OPERATORS:
                note(faults, document, key, f"{value!r} is no number", condition)
            elif key not in {"field", "percentile"}:
                note(
                    faults,
                    document,
                    key,
                    f"unknown key {key!r} of a condition{nearest(key, frozenset(OPERATORS) | {'field', 'percentile'})}",
                    condition,
                )
    if len(faults) > before:
        return None
    # pySigma knows one comparison per condition; the specification allows a range
    single = dict(spec)
    if isinstance(condition, Mapped) and len(conditions) > 1:
        single["condition"] = {k: v for k, v in condition.items() if k not in OPERATORS} | {
            conditions[0][0]: conditions[0][1]
        }
    try:
        parsed = SigmaCorrelationRule.from_dict({"title": "correlation", "correlation": single}, collect_errors=True)
        problems: list[Exception] = list(parsed.errors)
    except SigmaError as fault:
        problems = [fault]
    except (TypeError, AttributeError, KeyError, ValueError) as fault:
        problems = [ValueError(f"the correlation has a shape that Sigma does not know: {fault}")]
    for problem in problems:
        message = str(problem).split(" in file ")[0]
        key = next(
            (
                k
                for k in ("timespan", "group-by", "aliases", "generate", "condition", "rules")
                if k.replace("-", " ") in message.lower().replace("-", " ")
            ),
            "type",
        )
        note(faults, document, key, message, spec)
    if problems:
        return None
    references = [reference.reference for reference in parsed.rules or []]
    expression = None
    if isinstance(parsed.condition, SigmaExtendedCorrelationCondition):
        if spec["type"] not in {"temporal", "temporal_ordered"}:
            note(faults, document, "condition", "a condition of names and operators needs a temporal type", spec)
            return None
        references = references or parsed.condition.get_referenced_rules()
        expression = _expression(parsed.condition.parsed, references)
    if not references:
        note(faults, document, "rules", "a correlation needs rules", spec)
        return None
    if not conditions and expression is None:
        conditions = [("gte", len(set(references)) if spec["type"] in {"temporal", "temporal_ordered"} else 1)]
    fields = _strings(condition.get("field")) if isinstance(condition, Mapped) and "field" in condition else []
    if fields is None:
        note(faults, document, "condition", "field must be a name or a list of names", spec)
        return None
    aliases = {alias.alias: {ref.reference: name for ref, name in alias.mapping.items()} for alias in parsed.aliases}
    for name, mapping in aliases.items():
        for reference in mapping:
            if reference not in references:
                note(
                    faults,
                    document,
                    "aliases",
                    f"the alias {name!r} names {reference!r}, which is not among the rules{nearest(reference, frozenset(references))}",
                    spec,
                )
    group_by = tuple(parsed.group_by or ())
    groups = tuple(tuple(aliases.get(name, {}).get(reference, name) for name in group_by) for reference in references)
    correlation = Correlation(
        type=spec["type"],
        rules=tuple(references),
        window_s=float(parsed.timespan.seconds),
        group_by=group_by,
        groups=groups,
        items=tuple(fields),
        conditions=tuple(conditions),
        percentile=int(condition.get("percentile", 50)) if isinstance(condition, Mapped) else 50,
        expression=expression,
    )
    if not isinstance(body.get("title"), str):
        return None
    rule = Rule(
        **_common(document, "correlation"),
        alerts=True,
        fields=frozenset().union(*groups, fields),
        condition=None,
        correlation=correlation,
    )
    return Draft(
        rule,
        document.rule,
        _lines(body, "id", "name") | _lines(spec, "rules", "group-by"),
        references=tuple(references),
        generate=bool(spec.get("generate")),
    )


def _expression(node: Any, references: list[str]) -> Any:
    if isinstance(node, SigmaRuleReference):
        return references.index(node.reference)
    kind = {CorrelationConditionAND: "and", CorrelationConditionOR: "or", CorrelationConditionNOT: "not"}[type(node)]
    return (kind, *(_expression(arg, references) for arg in node.args))


def _filter(document: Document, expansions: Expansions, faults: list[Fault]) -> Draft | None:
    body = document.body
    spec = body["filter"]
    logsource = body.get("logsource")
    if not isinstance(spec, Mapped) or not isinstance(logsource, Mapped):
        note(faults, document, "filter", "a filter needs logsource and filter, both maps")
        return None
    mended = _mended(spec.get("condition"))
    if mended is not None:
        note(
            faults,
            document,
            "condition",
            "a filter's condition must begin with `not` and say what is left out; as it stands, only events that meet "
            f"the selection would be kept: write `condition: {mended}`",
            spec,
        )
        return None
    targets = _strings(spec.get("rules", "any"))
    if targets is None:
        note(faults, document, "rules", "rules must be `any` or a list of ids or names", spec)
        return None
    detection = Mapped({key: value for key, value in spec.items() if key != "rules"})
    detection.line, detection.lines = spec.line, spec.lines
    rule = {"title": body.get("title", "filter"), "logsource": logsource, "detection": detection}
    node = _condition(document, rule, detection, expansions, faults)
    if node is None:
        return None
    kept = Filter(
        targets=None if targets == ["any"] else tuple(targets),
        product=logsource.get("product"),
        category=logsource.get("category"),
        service=logsource.get("service"),
        condition=node,
        version=version(body),
        owner=str(body.get("owner") or ""),
        reason=str(body.get("reason") or ""),
        expires=day(body.get("expires")) or "",
    )
    lines = _lines(body, "logsource", "filter", "expires") | _lines(spec, "rules")
    return Draft(None, document.rule, lines, filter=kept)


def _mended(condition: Any) -> str | None:
    """What an inverted filter's condition should be; None for one that keeps the events that meet none of its selections."""
    texts = [str(each) for each in condition] if isinstance(condition, list) else [str(condition or "")]
    try:
        kept = any(_unmet(SigmaCondition(text, None).parse(postprocess=False)) for text in texts)  # type: ignore[arg-type]
    except (SigmaError, RecursionError):
        return None  # told with its place when the condition is read
    if kept:
        return None
    text = " or ".join(f"({each})" for each in texts) if len(texts) > 1 else texts[0].removeprefix("not ")
    return f"not ({text})" if _OPERATOR.search(text) else f"not {text}"


def _unmet(node: Any) -> bool:
    """Whether a condition holds for an event that meets none of its selections."""
    if isinstance(node, ConditionNOT):
        return not _unmet(node.args[0])
    if isinstance(node, ConditionAND | ConditionOR):
        return (all if isinstance(node, ConditionAND) else any)(map(_unmet, node.args))
    return False
