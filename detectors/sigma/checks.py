"""What can be said of a rule document before its conditions are parsed, each fault with its exact line."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from detectors.sigma.documents import Document, Fault, Mapped, identified, nearest, note
from detectors.sigma.rules import OWNER_KEYS
from detectors.sigma.translate import MODIFIERS

LEVELS = ("informational", "low", "medium", "high", "critical")
STAGING = "staging"  # our own status: a rule that only writes history
STATUSES = ("stable", "test", "experimental", "deprecated", "unsupported", STAGING)
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
OWN_KEYS = frozenset({"title_de", "description_de", "entity", "override", "reason", "staging_until", "tests"})
_TEST_KEYS = frozenset({"name", "match", "source", "lines", "event", "events"})
_REPEAT_KEYS = frozenset({"line", "repeat"})
_LOGSOURCE_KEYS = frozenset({"product", "category", "service", "definition"})


def check(document: Document, faults: list[Fault]) -> None:
    """What can be said without pySigma, with the exact line."""
    body = document.body
    for key in body:
        if key not in _RULE_KEYS and key not in OWN_KEYS and nearest(key, _RULE_KEYS | OWN_KEYS):
            note(faults, document, key, f"unknown key {key!r}{nearest(key, _RULE_KEYS | OWN_KEYS)}")
    if not isinstance(body.get("title"), str):
        note(faults, document, "title", "a rule needs a title")
    if not identified(body):
        note(faults, document, "id", f"a rule needs an id, a UUID, not {body['id']!r}")
    for key, valid in (("level", LEVELS), ("status", STATUSES)):
        if key in body and body[key] not in valid:
            note(faults, document, key, f"{body[key]!r} is no {key}{nearest(body[key], valid)}")
    for key in ("title_de", "description_de"):
        if key in body and not isinstance(body[key], str):
            note(faults, document, key, f"{key} must be text")
    if day(body.get("staging_until", "2000-01-01")) is None:
        note(faults, document, "staging_until", f"{body['staging_until']!r} is no date, for example 2026-12-31")
    entity = body.get("entity", [])
    if not isinstance(entity, list) or not all(isinstance(name, str) for name in entity):
        note(faults, document, "entity", "entity must be a list of field names")
    reason = body.get("reason", {})
    if not isinstance(reason, dict) or not all(isinstance(v, str) for v in reason.values()):
        note(faults, document, "reason", "reason must be a map of language to sentence")
    else:
        for key in reason:
            if key not in {"de", "en"}:
                note(
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
            if key in _LOGSOURCE_KEYS or key == "description":
                continue
            if close := nearest(key, _LOGSOURCE_KEYS):
                note(faults, document, key, f"unknown key {key!r}{close}", logsource)
    detection = body.get("detection")
    if isinstance(detection, Mapped):
        for item, line in _items(detection):
            faults.extend(
                Fault(
                    document.path,
                    line,
                    f"unknown modifier {modifier!r}{nearest(modifier, MODIFIERS)}",
                    document.rule,
                )
                for modifier in str(item).split("|")[1:]
                if modifier not in MODIFIERS
            )


def check_filter(document: Document, faults: list[Fault]) -> None:
    body = document.body
    for key in body:
        if key not in _RULE_KEYS and key not in OWNER_KEYS and (close := nearest(key, _RULE_KEYS.union(OWNER_KEYS))):
            note(faults, document, key, f"unknown key {key!r}{close}")
    for key in ("owner", "reason"):
        if key in body and not (isinstance(body[key], str) and body[key].strip()):
            note(faults, document, key, f"{key} must be text")
    if "expires" in body and day(body["expires"]) is None:
        note(faults, document, "expires", f"{body['expires']!r} is no date, for example 2026-12-31")


def day(value: Any) -> str | None:
    """A date as ISO 8601, None where it is none."""
    if isinstance(value, datetime):
        return value.date().isoformat()
    try:
        return (value if isinstance(value, date) else date.fromisoformat(value)).isoformat()
    except (TypeError, ValueError):
        return None


def _check_tests(document: Document, faults: list[Fault]) -> None:
    tests = document.body.get("tests", [])
    if not isinstance(tests, list) or not all(isinstance(test, Mapped) for test in tests):
        note(faults, document, "tests", "tests must be a list of maps")
        return
    for test in tests:
        for key in test:
            if key not in _TEST_KEYS:
                note(faults, document, key, f"unknown key {key!r} of a test{nearest(key, _TEST_KEYS)}", test)
        if not isinstance(test.get("name"), str) or not isinstance(test.get("match"), bool):
            note(faults, document, "name", "a test needs a name and match: true or false", test)
        if ("lines" in test) + ("event" in test) + ("events" in test) != 1:
            note(faults, document, "name", "a test needs either lines, event or events", test)
        if "lines" in test and not isinstance(test.get("source"), str):
            note(faults, document, "lines", "a test with lines needs the parser that reads them: source", test)
        for entry in test.get("lines") or []:
            if isinstance(entry, Mapped):
                for key in entry:
                    if key not in _REPEAT_KEYS:
                        note(faults, document, key, f"unknown key {key!r} of a line{nearest(key, _REPEAT_KEYS)}", entry)
            elif not isinstance(entry, str):
                note(faults, document, "lines", "a line must be text", test)


def _items(node: Any) -> Iterator[tuple[Any, int]]:
    """Every key of a detection with its line, its selections aside."""
    if isinstance(node, Mapped):
        for key, value in node.items():
            yield key, node.at(key)
            yield from _items(value)
    elif isinstance(node, list):
        for each in node:
            yield from _items(each)
