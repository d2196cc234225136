"""What a good reviewer would say of rules that load: parts that are missing or unused, and conditions that can never match.

Faults, which keep a rule from being loaded, are the loader's; these are warnings.
"""

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.events import ECS_ATTRIBUTES, Event
from detectors.sigma.documents import Document, Fault, Mapped, documents, files
from detectors.sigma.generate import INTEGER_ATTRIBUTES, TUPLE_ATTRIBUTES, checker
from detectors.sigma.logsource import codes_of_category
from detectors.sigma.rules import Rule
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
    Text,
    fields_of,
    simplify,
)

VALUES_MAX = 64  # of one field that are tried against the rest of a condition
NO_CONDITION = frozenset({"condition", "timeframe", "rules"})
_WORD = re.compile(r"[\w*?.-]+")
_SPELT = re.compile(r":\s*(\w+(?::\w+)*)\s*(?:#.*)?$")  # a value as its line has it


def review(paths: Sequence[Path], rules: Mapping[str, Rule], faults: Sequence[Fault]) -> list[Fault]:
    """The warnings about rule files, in order; `rules` and `faults` are what loading them gave."""
    found: list[Fault] = []
    by_place = {(rule.path, rule.line): rule for rule in rules.values()}
    told = {(fault.path, fault.line) for fault in faults}
    ids: dict[str, Document] = {}
    for path in files(paths):
        try:
            content = path.read_bytes()
        except OSError:
            continue  # the loader has said so
        lines = content.decode("utf-8", "replace").split("\n")
        for document in documents(path, content, []):
            rule = by_place.get((str(path), document.body.line))
            found += _of_document(document, lines)
            if rule is not None:
                found += _of_rule(document, rule)
            if "id" in document.body and "override" not in document.body:
                twin = ids.setdefault(str(document.body["id"]).lower(), document)
                if twin is not document and (str(path), document.body.at("id")) not in told:
                    found.append(_warn(document, "id", f"the id is already that of {twin.path}:{twin.body.line}"))
    found += _twins(rules)
    return sorted(set(found))


def _warn(document: Document, key: str, message: str, within: Mapped | None = None) -> Fault:
    return Fault(document.path, (document.body if within is None else within).at(key), message, document.rule)


def _of_document(document: Document, lines: Sequence[str]) -> Iterator[Fault]:
    body = document.body
    if "override" in body:
        return
    spec = body.get("filter")
    detection = spec if isinstance(spec, Mapped) else body.get("detection")
    if not isinstance(spec, Mapped):
        yield from _lacks(document)
    if not isinstance(detection, Mapped):
        return
    used = _used(detection)
    for name in detection:
        if name not in used and name not in NO_CONDITION:
            yield _warn(document, name, f"the selection {name!r} is not used by the condition", detection)
    if "timeframe" in detection:
        yield _warn(document, "timeframe", "timeframe has no effect; a correlation counts over time", detection)
    for name in detection:
        if name not in NO_CONDITION:
            yield from _values(document, detection[name], str(name), detection.at(name), lines)


def _lacks(document: Document) -> Iterator[Fault]:
    body = document.body
    for key, why in (
        ("id", "the id is made of the name or title and changes with it"),
        ("level", "medium is assumed"),
        ("status", "experimental is assumed"),
        ("description", "nobody will know what a hit means"),
        ("falsepositives", "what harmless cause may a hit have?"),
    ):
        if not body.get(key):
            yield _warn(document, key, f"there is no {key}: {why}")
    tags = body.get("tags")
    if not any(str(tag).lower().startswith("attack.") for tag in (tags if isinstance(tags, list) else ())):
        yield _warn(
            document, "tags", "there is no ATT&CK tag (attack.t1059, attack.execution): the hit gets no playbook"
        )
    tests = body.get("tests")
    if isinstance(tests, list) and tests:
        seen = {test.get("match") for test in tests if isinstance(test, dict)}
        for wanted, name in ((True, "must match"), (False, "must not match")):
            if wanted not in seen:
                yield _warn(document, "tests", f"no test {name}")


def _used(detection: Mapped) -> set[str]:
    """The selections that the condition names, outright or by pattern."""
    names = [str(name) for name in detection if name not in NO_CONDITION]
    conditions = detection.get("condition")
    used: set[str] = set()
    for condition in conditions if isinstance(conditions, list) else [conditions]:
        for word in _WORD.findall(str(condition)):
            if word == "them":
                used.update(name for name in names if not name.startswith("_"))
            elif "*" in word or "?" in word:
                used.update(fnmatch.filter(names, word))
            else:
                used.add(word)
    return used


def _values(document: Document, node: Any, key: str, line: int, lines: Sequence[str]) -> Iterator[Fault]:
    """Values that say something other than they seem to."""
    if isinstance(node, Mapped):
        for name, value in node.items():
            yield from _values(document, value, str(name), node.at(name), lines)
        return
    if isinstance(node, list):
        for each in node:
            yield from _values(document, each, key, line, lines)
        return

    def warn(message: str) -> Fault:
        return Fault(document.path, line, message, document.rule)

    field, *modifiers = key.split("|")
    if isinstance(node, str) and node and not node.strip("*") and "re" not in modifiers:
        yield warn(
            f"{node!r} is only a wildcard: it asks whether {field!r} is there; `{field}|exists: true` says so plainly"
            if field
            else f"the keyword {node!r} is only a wildcard and is in every event"
        )
    elif isinstance(node, str) and not node and {"contains", "startswith", "endswith"}.intersection(modifiers):
        yield warn(f"the text of {key!r} is empty and in every value")
    elif isinstance(node, bool | int) and line <= len(lines) and (spelt := _SPELT.search(lines[line - 1])):
        read = str(node).lower()
        if spelt[1].lower() != read:
            yield warn(f"{key}: YAML reads {spelt[1]} as {read}; quote it if text is meant")


def _of_rule(document: Document, rule: Rule) -> Iterator[Fault]:
    if rule.condition is None:
        return
    detection = document.body.get("detection")
    within = detection if isinstance(detection, Mapped) else None
    if (why := never(rule)) is not None:
        yield _warn(document, "condition", f"the condition can never match: {why}", within)
    elif always(rule.condition):
        yield _warn(document, "condition", "the condition matches every event of its log source", within)


def _twins(rules: Mapping[str, Rule]) -> Iterator[Fault]:
    """Rules that find the same as another one."""
    first: dict[Any, Rule] = {}
    for rule in rules.values():
        if rule.condition is None:
            continue
        known = first.setdefault((rule.product, rule.category, rule.service, rule.condition), rule)
        if known is not rule:
            yield Fault(rule.path, rule.line, f"finds the same as {known.path}:{known.line} ({known.title})", rule.id)


# Conditions that can never match


def never(rule: Rule) -> str | None:
    """Why no event can meet the rule, None where nothing speaks against it."""
    if rule.condition is None:
        return None
    codes = codes_of_category(rule.product, rule.category)
    if not codes:
        return impossible(rule.condition)
    reasons = [impossible(simplify(rule.condition, code)) for code in sorted(codes)]
    if None in reasons:
        return None
    plain = impossible(rule.condition)
    return plain or f"events of the category {rule.category} have the event code {' or '.join(sorted(codes, key=int))}"


def impossible(node: Node) -> str | None:
    """Why a condition contradicts itself; None where that cannot be said."""
    if isinstance(node, Const):
        return None if node.value else "it is false whatever the event"
    if isinstance(node, Or):
        reasons = [impossible(arg) for arg in node.args]
        return None if None in reasons else next(iter(reasons), "it has no alternative")
    if isinstance(node, Not):
        return "its opposite always holds" if always(node.arg) else None
    if isinstance(node, And):
        for arg in node.args:
            if (why := impossible(arg)) is not None:
                return why
        return _contradiction(node.args)
    return None


def always(node: Node) -> bool:
    """Whether a condition holds for every event, as far as that can be said."""
    if isinstance(node, Const):
        return node.value
    if isinstance(node, Not):
        return impossible(node.arg) is not None
    if isinstance(node, And):
        return all(map(always, node.args))
    if isinstance(node, Or):
        args = set(node.args)
        return any(always(arg) or (isinstance(arg, Not) and arg.arg in args) for arg in node.args)
    return False


def _contradiction(args: Sequence[Node]) -> str | None:
    known = set(args)
    of_field: dict[str, list[Node]] = {}
    for arg in args:
        if isinstance(arg, Not) and arg.arg in known:
            return "it wants the same part to hold and not to hold"
        if isinstance(arg, Not) and isinstance(arg.arg, Or) and not known.isdisjoint(arg.arg.args):
            return "it excludes what it asks for"
        fields = fields_of(arg)
        if len(fields) == 1:
            of_field.setdefault(next(iter(fields)), []).append(arg)
    for field, parts in of_field.items():
        absent = any(isinstance(part, Null) or part == Exists(field, wanted=False) for part in parts)
        if absent and any(_needs_value(part) for part in parts):
            return f"{field} would have to be missing and to have a value"
        if (why := _values_clash(field, parts)) is not None:
            return why
    return None


def _needs_value(node: Node) -> bool:
    """Whether a condition on one field fails where the field is missing."""
    if isinstance(node, Text | Pattern | Network | Compare | Present):
        return True
    if isinstance(node, Or):
        return all(map(_needs_value, node.args))
    return node.wanted if isinstance(node, Exists) else False


def _values_clash(field: str, parts: Sequence[Node]) -> str | None:
    """Tries the values that one part allows against all parts."""
    allowed = next((values for part in parts if (values := _exact(part)) is not None), None)
    if allowed is None or len(parts) < 2 or not 0 < len(allowed) <= VALUES_MAX:
        return None
    holds = checker(And(tuple(parts)))
    if any(holds(_event_with(field, value)) for value in allowed):
        return None
    return f"no single value of {field} meets all that is asked of it"


def _exact(node: Node) -> list[str] | None:
    """The only values that a condition on one field allows, None where they are not so few."""
    if isinstance(node, Text):
        return [node.value] if node.op == "equals" and node.field else None
    if isinstance(node, Or):
        inner = [_exact(arg) for arg in node.args]
        return None if None in inner else [value for values in inner for value in values or ()]
    return None


def _event_with(field: str, value: str) -> Event:
    attribute = ECS_ATTRIBUTES.get(field)
    plain: Any = int(value) if attribute in INTEGER_ATTRIBUTES and value.isdigit() and len(value) < 19 else value
    about: dict[str, Any] = {"timestamp": 0.0, "event_module": "", "event_dataset": ""}
    if attribute is None:
        return Event(**about, fields={field: plain})
    return Event(**(about | {attribute: (value,) if attribute in TUPLE_ATTRIBUTES else plain}))
