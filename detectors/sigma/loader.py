"""Reads Sigma rules, correlations and filters from YAML, and says every fault of every file at once with its line.

pySigma parses the rules; it knows no lines, lets duplicate keys pass and fails late, so the checks around it are here.
"""

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from sigma.correlations import (
    CorrelationConditionAND,
    CorrelationConditionNOT,
    CorrelationConditionOR,
    SigmaCorrelationRule,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)
from sigma.exceptions import SigmaError
from sigma.modifiers import modifier_mapping
from sigma.rule import SigmaRule

from detectors.sigma.translate import translate
from detectors.sigma.tree import And, Node, Or, RuleError, fields_of, simplify

FILE_BYTES_MAX = 4_194_304  # of one rule file
ALIASES_MAX = 64  # YAML aliases per file, against documents that unfold without end
FAULTS_MAX = 10_000  # collected per load

LEVELS = ("informational", "low", "medium", "high", "critical")
STATUSES = ("stable", "test", "experimental", "deprecated", "unsupported")
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
_RULE_KEYS = frozenset(
    [
        "action",
        "author",
        "correlation",
        "custom",
        "date",
        "description",
        "detection",
        "falsepositives",
        "fields",
        "filter",
        "id",
        "level",
        "license",
        "logsource",
        "modified",
        "name",
        "references",
        "regression_tests_path",
        "related",
        "scope",
        "simulation",
        "status",
        "tags",
        "taxonomy",
        "title",
    ]
)
OWN_KEYS = frozenset({"title_de", "description_de", "entity", "reason", "tests"})
_TEST_KEYS = frozenset({"name", "match", "source", "lines", "event", "events"})
_REPEAT_KEYS = frozenset({"line", "repeat"})
_LOGSOURCE_KEYS = frozenset({"product", "category", "service", "definition"})
_CORRELATION_KEYS = frozenset({"type", "rules", "group-by", "timespan", "condition", "aliases", "generate"})
_FILTER_KEYS = frozenset({"rules", "selection", "condition"})
_ANCHOR = re.compile(rb"[\s\[{,]&\w")  # the file may use aliases
_WORD = re.compile(r"[A-Za-z0-9_-]+")
PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_.@-]{1,100})\}")


def spoken(template: str, values: Mapping[str, str]) -> str:
    """A title or reason with its placeholders filled, each once: what a log line says is never read as a placeholder."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], "?"), template)


class Fault(msgspec.Struct, frozen=True, order=True):
    path: str
    line: int
    message: str
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" + (f" (rule {self.rule})" if self.rule else "")


class RuleFaults(ValueError):  # noqa: N818 -- it is the list of faults
    """All faults of all rule files of one load."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Correlation(msgspec.Struct, frozen=True):
    """What a correlation counts. `rules` are rule ids; `groups` and `items` give the field names per rule, in parallel."""

    type: str
    rules: tuple[str, ...]
    window_s: float
    group_by: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    items: tuple[str, ...]
    conditions: tuple[tuple[str, float], ...]
    percentile: int
    expression: Any  # nested ("and"|"or"|"not", ...) over numbers of `rules`, or None


class Rule(msgspec.Struct, frozen=True):
    """A loaded rule or correlation with what alerts say about it. `alerts` is false for mere parts of correlations."""

    id: str
    name: str
    title: str
    title_de: str
    kind: str  # rule | correlation
    level: str
    status: str
    description: str
    author: str
    tags: tuple[str, ...]
    attack: tuple[str, ...]  # technique and tactic ids
    falsepositives: tuple[str, ...]
    path: str
    line: int
    version: str  # sha256 of the content
    reason: Mapping[str, str]  # sentence templates by language
    entity: tuple[str, ...]
    alerts: bool
    product: str | None
    category: str | None
    service: str | None
    fields: frozenset[str]
    condition: Any  # the tree of compile.py, None for a correlation
    correlation: Correlation | None
    tests: tuple[Mapping[str, Any], ...]


class Mapped(dict[Any, Any]):
    """A YAML map that knows the line of each key."""

    line: int = 1
    lines: dict[Any, int]

    def at(self, key: Any) -> int:
        return self.lines.get(key, self.line)


class _Loader(yaml.CSafeLoader):
    """Refuses duplicate keys, keeps lines, and reads integers beyond 2^53 as text so that they keep their digits."""

    faults: list[tuple[int, str]]


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Mapped:
    loader.flatten_mapping(node)
    found = Mapped()
    found.line = node.start_mark.line + 1
    found.lines = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str | int | float | bool | None):
            loader.faults.append((line, "a key must be plain text"))
            continue
        if key in found:
            loader.faults.append((line, f"the key {key!r} stands twice in one map (first in line {found.lines[key]})"))
        found[key] = loader.construct_object(value_node, deep=True)
        found.lines[key] = line
    return found


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    number = loader.construct_yaml_int(node)
    return str(node.value) if abs(number) > 2**53 and str(number) == node.value else int(number)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def nearest(name: Any, valid: Sequence[str] | frozenset[str]) -> str:
    close = difflib.get_close_matches(str(name), sorted(valid), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


class _Document(msgspec.Struct):
    path: str
    body: Mapped
    rule: str  # id or title, for messages


class _Draft(msgspec.Struct):
    """A document whose references to other documents are still names."""

    document: _Document
    rule: Rule
    references: list[str]


def files(paths: Sequence[Path]) -> list[Path]:
    """The YAML files named or below the folders named, each once, in a fixed order."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(
                dict.fromkeys(sorted(p for p in path.rglob("*") if p.suffix in {".yml", ".yaml"} and p.is_file()))
            )
        else:
            found[path] = None
    return list(found)


def load(paths: Sequence[Path]) -> tuple[list[Rule], list[Fault]]:
    """All good rules in the order of their files, and all faults."""
    faults: list[Fault] = []
    documents = [d for path in files(paths) for d in _documents(path, faults)]
    filters = [d for d in documents if "filter" in d.body]
    drafts: list[_Draft] = []
    named: dict[str, _Draft] = {}
    for document in documents:
        if "filter" in document.body:
            continue
        before = len(faults)
        _check(document, faults)
        draft = _correlation(document, faults) if "correlation" in document.body else _rule(document, faults)
        if draft is None or len(faults) > before:
            continue
        twin = named.get(draft.rule.id)
        if twin is not None:
            _fault(faults, document, "id", f"the id is already that of {twin.document.path}:{twin.document.body.line}")
            continue
        named[draft.rule.id] = draft
        if draft.rule.name:
            if draft.rule.name in named:
                _fault(faults, document, "name", f"the name {draft.rule.name!r} is already taken")
                continue
            named[draft.rule.name] = draft
        drafts.append(draft)
    for document in filters:
        _filter(document, named, drafts, faults)
    return _resolve(drafts, named, faults), sorted(faults[:FAULTS_MAX])


def _documents(path: Path, faults: list[Fault]) -> Iterator[_Document]:
    try:
        content = path.read_bytes()
    except OSError as fault:
        faults.append(Fault(str(path), 1, f"cannot be read: {fault.strerror}"))
        return
    if len(content) > FILE_BYTES_MAX:
        faults.append(Fault(str(path), 1, f"is larger than {FILE_BYTES_MAX} bytes"))
        return
    try:
        if _ANCHOR.search(content) is not None:
            aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, Loader=yaml.CSafeLoader))
            if aliases > ALIASES_MAX:
                faults.append(Fault(str(path), 1, f"has {aliases} YAML aliases, more than {ALIASES_MAX}"))
                return
        loader = _Loader(content)
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        faults.append(Fault(str(path), 1, f"is no YAML: {fault}"))
        return
    loader.faults = []
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]
            body = loader.get_data()
            if body is None:
                continue
            if not isinstance(body, Mapped):
                faults.append(Fault(str(path), 1, "a rule must be a map of keys"))
                continue
            label = str(body.get("id") or body.get("title") or "")
            faults.extend(Fault(str(path), line, message, label) for line, message in loader.faults)
            bad, loader.faults = bool(loader.faults), []
            if not bad:
                yield _Document(str(path), body, label)
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        mark = getattr(fault, "problem_mark", None)
        problem = getattr(fault, "problem", None) or str(fault) or "too deep"
        faults.append(Fault(str(path), mark.line + 1 if mark else 1, f"is no YAML: {problem}"))
    finally:
        loader.dispose()


def _fault(faults: list[Fault], document: _Document, key: str, message: str, within: Mapped | None = None) -> None:
    line = (document.body if within is None else within).at(key)
    faults.append(Fault(document.path, line, message, document.rule))


def _check(document: _Document, faults: list[Fault]) -> None:
    """What can be said without pySigma, with the exact line."""
    body = document.body
    for key in body:
        if key not in _RULE_KEYS and key not in OWN_KEYS and nearest(key, _RULE_KEYS | OWN_KEYS):
            _fault(faults, document, key, f"unknown key {key!r}{nearest(key, _RULE_KEYS | OWN_KEYS)}")
    if not isinstance(body.get("title"), str):
        _fault(faults, document, "title", "a rule needs a title")
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", str(body.get("id", ""))):
        _fault(faults, document, "id", "a rule needs an id, a UUID")
    for key, valid in (("level", LEVELS), ("status", STATUSES)):
        if key in body and body[key] not in valid:
            _fault(faults, document, key, f"{body[key]!r} is no {key}{nearest(body[key], valid)}")
    for key in ("title_de", "description_de"):
        if key in body and not isinstance(body[key], str):
            _fault(faults, document, key, f"{key} must be text")
    entity = body.get("entity", [])
    if not isinstance(entity, list) or not all(isinstance(name, str) for name in entity):
        _fault(faults, document, "entity", "entity must be a list of field names")
    reason = body.get("reason", {})
    if not isinstance(reason, dict) or not all(isinstance(v, str) for v in reason.values()):
        _fault(faults, document, "reason", "reason must be a map of language to sentence")
    else:
        for key in reason:
            if key not in {"de", "en"}:
                _fault(
                    faults,
                    document,
                    key,
                    f"unknown language {key!r}; known are 'de' and 'en'",
                    reason if isinstance(reason, Mapped) else None,
                )
    _check_tests(document, faults)
    logsource = body.get("logsource")
    if isinstance(logsource, Mapped):
        for key in logsource:
            if key not in _LOGSOURCE_KEYS and nearest(key, _LOGSOURCE_KEYS):
                _fault(faults, document, key, f"unknown key {key!r}{nearest(key, _LOGSOURCE_KEYS)}", logsource)
    detection = body.get("detection")
    if isinstance(detection, Mapped):
        for item, line in _items(detection):
            faults.extend(
                Fault(
                    document.path,
                    line,
                    f"unknown modifier {modifier!r}{nearest(modifier, frozenset(modifier_mapping))}",
                    document.rule,
                )
                for modifier in str(item).split("|")[1:]
                if modifier not in modifier_mapping
            )


def _check_tests(document: _Document, faults: list[Fault]) -> None:
    tests = document.body.get("tests", [])
    if not isinstance(tests, list) or not all(isinstance(test, Mapped) for test in tests):
        _fault(faults, document, "tests", "tests must be a list of maps")
        return
    for test in tests:
        for key in test:
            if key not in _TEST_KEYS:
                _fault(faults, document, key, f"unknown key {key!r} of a test{nearest(key, _TEST_KEYS)}", test)
        if not isinstance(test.get("name"), str) or not isinstance(test.get("match"), bool):
            _fault(faults, document, "name", "a test needs a name and match: true or false", test)
        if ("lines" in test) + ("event" in test) + ("events" in test) != 1:
            _fault(faults, document, "name", "a test needs either lines, event or events", test)
        if "lines" in test and not isinstance(test.get("source"), str):
            _fault(faults, document, "lines", "a test with lines needs the parser that reads them: source", test)
        for entry in test.get("lines") or []:
            if isinstance(entry, Mapped):
                for key in entry:
                    if key not in _REPEAT_KEYS:
                        _fault(
                            faults, document, key, f"unknown key {key!r} of a line{nearest(key, _REPEAT_KEYS)}", entry
                        )
            elif not isinstance(entry, str):
                _fault(faults, document, "lines", "a line must be text", test)


def _items(node: Any) -> Iterator[tuple[Any, int]]:
    """Every key of a detection with its line, its selections aside."""
    if isinstance(node, Mapped):
        for key, value in node.items():
            yield key, node.at(key)
            yield from _items(value)
    elif isinstance(node, list):
        for each in node:
            yield from _items(each)


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


def _report(faults: list[Fault], document: _Document, fault: Exception, detection: Any) -> None:
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


def _common(document: _Document, kind: str) -> dict[str, Any]:
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
        "id": str(body["id"]).lower(),
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
        "version": hashlib.sha256(_canonical(body)).hexdigest(),
        "reason": dict(body.get("reason") or {}),
        "entity": tuple(body.get("entity") or ()),
        "product": logsource.get("product"),
        "category": logsource.get("category"),
        "service": logsource.get("service"),
        "tests": tuple(body.get("tests") or ()),
    }


def _canonical(body: Any) -> bytes:
    return yaml.dump(_plain(body), Dumper=yaml.CSafeDumper, sort_keys=True, allow_unicode=True).encode(
        "utf-8", "surrogatepass"
    )


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    return [_plain(each) for each in node] if isinstance(node, list) else node


def _stripped(body: Mapped, *drop: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in OWN_KEYS and key not in drop}


def _condition(document: _Document, body: dict[str, Any], detection: Any, faults: list[Fault]) -> Node | None:
    """The condition of a rule or filter; None after faults were noted."""
    try:
        parsed = SigmaRule.from_dict(body, collect_errors=True)
        if parsed.errors:
            for fault in parsed.errors:
                _report(faults, document, fault, detection)
            return None
        trees = [translate(condition.parsed, {}) for condition in parsed.detection.parsed_condition]
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


def _rule(document: _Document, faults: list[Fault]) -> _Draft | None:
    body = document.body
    for key in ("logsource", "detection"):
        if not isinstance(body.get(key), Mapped):
            _fault(faults, document, key, f"a rule needs {key}, a map")
            return None
    before = len(faults)
    node = _condition(document, _stripped(body), body["detection"], faults)
    if node is None or len(faults) > before or not isinstance(body.get("title"), str) or "id" not in body:
        return None
    return _Draft(
        document,
        Rule(**_common(document, "rule"), alerts=True, fields=fields_of(node), condition=node, correlation=None),
        [],
    )


def _strings(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _correlation(document: _Document, faults: list[Fault]) -> _Draft | None:
    body = document.body
    spec = body["correlation"]
    if not isinstance(spec, Mapped):
        _fault(faults, document, "correlation", "correlation must be a map")
        return None
    before = len(faults)
    for key in spec:
        if key not in _CORRELATION_KEYS:
            _fault(
                faults, document, key, f"unknown key {key!r} of a correlation{nearest(key, _CORRELATION_KEYS)}", spec
            )
    if spec.get("type") not in CORRELATION_TYPES:
        _fault(
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
                _fault(faults, document, key, f"{value!r} is no number", condition)
            elif key not in {"field", "percentile"}:
                _fault(
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
        parsed = SigmaCorrelationRule.from_dict({**_stripped(body), "correlation": single}, collect_errors=True)
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
        _fault(faults, document, key, message, spec)
    if problems:
        return None
    references = [reference.reference for reference in parsed.rules or []]
    expression = None
    if isinstance(parsed.condition, SigmaExtendedCorrelationCondition):
        if spec["type"] != "temporal":
            _fault(faults, document, "condition", "a condition of names and operators needs the type temporal", spec)
            return None
        references = references or parsed.condition.get_referenced_rules()
        expression = _expression(parsed.condition.parsed, references)
    if not references:
        _fault(faults, document, "rules", "a correlation needs rules", spec)
        return None
    if not conditions and expression is None:
        conditions = [("gte", len(set(references)) if spec["type"] == "temporal" else 1)]
    fields = _strings(condition.get("field")) if isinstance(condition, Mapped) and "field" in condition else []
    if fields is None:
        _fault(faults, document, "condition", "field must be a name or a list of names", spec)
        return None
    aliases = {alias.alias: {ref.reference: name for ref, name in alias.mapping.items()} for alias in parsed.aliases}
    for name, mapping in aliases.items():
        for reference in mapping:
            if reference not in references:
                _fault(
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
    if "id" not in body or not isinstance(body.get("title"), str):
        return None
    rule = Rule(
        **_common(document, "correlation"),
        alerts=True,
        fields=frozenset().union(*groups, fields),
        condition=None,
        correlation=correlation,
    )
    return _Draft(document, rule, references)


def _expression(node: Any, references: list[str]) -> Any:
    if isinstance(node, SigmaRuleReference):
        return references.index(node.reference)
    kind = {CorrelationConditionAND: "and", CorrelationConditionOR: "or", CorrelationConditionNOT: "not"}[type(node)]
    return (kind, *(_expression(arg, references) for arg in node.args))


def _filter(document: _Document, named: dict[str, _Draft], drafts: list[_Draft], faults: list[Fault]) -> None:
    """Narrows the rules that a filter names: (rule) and (filter condition), as the reference implementation does."""
    body = document.body
    spec = body["filter"]
    if not isinstance(spec, Mapped) or not isinstance(body.get("logsource"), Mapped):
        _fault(faults, document, "filter", "a filter needs logsource and filter, both maps")
        return
    if not str(spec.get("condition", "")).lstrip("( ").startswith("not "):
        _fault(
            faults,
            document,
            "condition",
            "a filter's condition must begin with `not`: tools disagree on what the bare selection means, and it would keep only what was to be left out",
            spec,
        )
        return
    targets = spec.get("rules", "any")
    wanted = _strings(targets)
    if wanted is None:
        _fault(faults, document, "rules", "rules must be `any` or a list of ids or names", spec)
        return
    if wanted != ["any"]:
        for name in wanted:
            if name.lower() not in named and name not in named:
                _fault(
                    faults,
                    document,
                    "rules",
                    f"the filter names an unknown rule {name!r}{nearest(name, frozenset(named))}",
                    spec,
                )
    detection = Mapped({key: value for key, value in spec.items() if key != "rules"})
    detection.line, detection.lines = spec.line, spec.lines
    rule = {"title": body.get("title", "filter"), "logsource": body["logsource"], "detection": detection}
    node = _condition(document, rule, detection, faults)
    if node is None:
        return
    logsource = body["logsource"]
    for draft in drafts:
        hit = (
            wanted == ["any"]
            or draft.rule.id in {name.lower() for name in wanted}
            or (draft.rule.name and draft.rule.name in wanted)
        )
        fits = all(logsource.get(key) in {None, getattr(draft.rule, key)} for key in ("product", "category", "service"))
        if not hit or draft.rule.condition is None:
            continue
        if not fits:
            if wanted != ["any"]:
                _fault(
                    faults,
                    document,
                    "logsource",
                    f"the filter's logsource is narrower than that of rule {draft.rule.id}",
                )
            continue
        narrowed = simplify(And((draft.rule.condition, node)), None)
        version = hashlib.sha256(draft.rule.version.encode() + _canonical(body)).hexdigest()
        draft.rule = msgspec.structs.replace(
            draft.rule, condition=narrowed, fields=fields_of(narrowed), version=version
        )


def _resolve(drafts: list[_Draft], named: dict[str, _Draft], faults: list[Fault]) -> list[Rule]:
    """References become ids; what a correlation refers to stays silent unless `generate` says otherwise."""
    silent: set[str] = set()
    bad: set[str] = set()
    resolved: dict[str, tuple[str, ...]] = {}
    for draft in drafts:
        correlation = draft.rule.correlation
        if correlation is None:
            continue
        spec = draft.document.body["correlation"]
        ids = []
        for reference in draft.references:
            target = named.get(reference) or named.get(reference.lower())
            if target is None:
                _fault(
                    faults,
                    draft.document,
                    "rules",
                    f"unknown rule {reference!r}{nearest(reference, frozenset(named))}",
                    spec,
                )
                bad.add(draft.rule.id)
                continue
            ids.append(target.rule.id)
            inner = target.rule.correlation
            number = draft.references.index(reference)
            missing = [f for f in correlation.groups[number] if inner is not None and f not in inner.group_by]
            if missing:
                _fault(
                    faults,
                    draft.document,
                    "group-by",
                    f"{reference!r} is a correlation and carries only its own group-by, not {missing[0]!r}",
                    spec,
                )
                bad.add(draft.rule.id)
            # the specification wants no alert of informational rules at all; as parts of something larger they are silent
            if not spec.get("generate") or target.rule.level == "informational":
                silent.add(target.rule.id)
        resolved[draft.rule.id] = tuple(ids)
    for start in resolved:  # a correlation that leads back to itself would never end
        seen: set[str] = set()
        todo = [start]
        while todo:
            for below in resolved.get(todo.pop(), ()):
                if below == start and start not in bad:
                    draft = named[start]
                    _fault(
                        faults,
                        draft.document,
                        "rules",
                        "the correlation refers to itself in a circle",
                        draft.document.body["correlation"],
                    )
                    bad.add(start)
                if below not in seen:
                    seen.add(below)
                    todo.append(below)
    changed = True
    while changed:  # what builds on a refused rule is refused with it
        worse = {start for start, below in resolved.items() if start not in bad and not bad.isdisjoint(below)}
        bad |= worse
        changed = bool(worse)
    rules: list[Rule] = []
    for draft in drafts:
        rule = draft.rule
        if rule.id in bad:
            continue
        if rule.correlation is not None:
            rule = msgspec.structs.replace(
                rule, correlation=msgspec.structs.replace(rule.correlation, rules=resolved[rule.id])
            )
        rules.append(msgspec.structs.replace(rule, alerts=rule.id not in silent) if rule.id in silent else rule)
    return rules
