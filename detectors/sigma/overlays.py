"""Overlays: documents that change rules of other files, so that an update of those files never wipes local tuning.

`override: append` adds to what a rule says, `override: replace` puts the overlay's words in their place.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from detectors.sigma.documents import Document, Fault, Mapped, identified, nearest, note

MODES = ("append", "replace")
APPENDED = frozenset({"detection", "falsepositives", "fields", "references", "related", "tags", "entity", "tests"})
MERGED = frozenset({"correlation", "detection", "logsource"})  # maps of which only the keys given are replaced
REPLACED = APPENDED | MERGED | {"author", "description", "description_de", "level", "modified", "reason", "status"}
REPLACED |= {"staging_until", "title", "title_de"}
CORRELATION_KEYS = frozenset({"condition", "generate", "timespan"})  # what an overlay may change of a correlation
LINES_APART = (
    1 << 24
)  # added to an overlay's lines, once per overlay, so that faults of the changed rule find their file
_ABOUT = frozenset({"id", "name", "override", "date"})  # of the overlay itself


def target_of(body: Mapped) -> str:
    """Which rule an overlay changes: its id, or its name."""
    return str(body.get("id") or body.get("name") or "")


def check_overlay(document: Document, faults: list[Fault]) -> None:
    body = document.body
    mode = body["override"]
    if mode not in MODES:
        note(faults, document, "override", f"{mode!r} is no way to override: append or replace{nearest(mode, MODES)}")
        return
    if not target_of(body) or not identified(body):
        note(faults, document, "override", "an overlay names its rule by id, a UUID, or by name")
    changed = [key for key in body if key not in _ABOUT]
    if not changed:
        note(faults, document, "override", "the overlay changes nothing")
    for key in changed:
        if key not in REPLACED:
            note(faults, document, key, f"an overlay cannot change {key!r}{nearest(key, REPLACED)}")
        elif mode == "append" and key not in APPENDED:
            note(faults, document, key, f"nothing can be appended to {key}: it has one value; use `override: replace`")
        elif key in MERGED and not isinstance(body[key], Mapped):
            note(faults, document, key, f"{key} must be a map")
        elif key == "correlation":
            for part in body[key]:
                if part not in CORRELATION_KEYS:
                    message = f"an overlay cannot change {part!r} of a correlation{nearest(part, CORRELATION_KEYS)}"
                    note(faults, document, part, message, body[key])
        elif mode == "append" and key == "detection":
            more = body[key].get("condition", "and")
            if not isinstance(more, str) or more.split(" ", 1)[0] not in {"and", "or"}:
                message = f"what is appended to a condition begins with `and` or `or`, as in `and not {more}`"
                note(faults, document, "condition", message, body[key])


def applied(rule: Document, overlays: Sequence[Document], faults: list[Fault]) -> Document:
    """The rule's document as its overlays leave it; lines of the n-th overlay are `n * LINES_APART` higher."""
    body = _moved(rule.body, 0)
    for number, overlay in enumerate(overlays, 1):
        shift = number * LINES_APART
        given = _moved(overlay.body, shift)
        append = given["override"] == "append"
        for key, value in given.items():
            if key in _ABOUT:
                continue
            if key in MERGED:
                if not isinstance(body.get(key), Mapped):
                    faults.append(Fault(rule.path, given.at(key), f"the rule has no {key}", rule.rule))
                    continue
                for part, new in value.items():
                    held = body[key].get(part)
                    body[key][part] = new if held is None or not append else _joined(part, held, new)
                    body[key].lines[part] = value.at(part)
            else:
                body[key] = [*_listed(body.get(key, [])), *_listed(value)] if append else value
                body.lines[key] = given.at(key)
    return Document(rule.path, body, rule.rule)


def placed(fault: Fault, rule: str, overlays: Sequence[str]) -> Fault:
    """A fault of a changed rule with the file that its line is in: the rule's, or one of the overlays'."""
    number, line = divmod(fault.line, LINES_APART)
    return msgspec.structs.replace(fault, path=overlays[number - 1] if number else rule, line=line)


def _joined(name: str, held: Any, new: Any) -> Any:
    """A selection, or the condition, with more."""
    if name == "condition":
        return [f"({each}) {new}" for each in held] if isinstance(held, list) else f"({held}) {new}"
    if not isinstance(held, Mapped) or not isinstance(new, Mapped):
        return [*_listed(held), *_listed(new)]
    for item, value in new.items():
        held[item] = [*_listed(held[item]), *_listed(value)] if item in held else value
        held.lines[item] = new.at(item)
    return held


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _moved(node: Any, shift: int) -> Any:
    """A copy whose lines are `shift` higher."""
    if isinstance(node, Mapped):
        copy = Mapped((key, _moved(value, shift)) for key, value in node.items())
        copy.line = node.line + shift
        copy.lines = {key: line + shift for key, line in node.lines.items()}
        return copy
    return [_moved(each, shift) for each in node] if isinstance(node, list) else node
