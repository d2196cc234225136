"""JSON lines: objects that already are ECS, nested or with dotted keys, and any other JSON object as well as it goes.

Nothing is dropped: what is no attribute of `Event` is flattened into `fields`. One bad value must not hide an event, so
text that is not quite JSON (surrogates, control characters, a cut end) takes a slower, tolerant path.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from connectors.clock import from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import ECS_ATTRIBUTES, Event, Origin, ParseError

NAME = "ecs"

DEPTH_MAX = 16  # objects nested deeper are kept as JSON text
INTEGER_BITS = 63  # larger numbers are kept as text: neither the wire nor JavaScript holds them
CUTS_MAX = 8  # places tried when looking for the end of what is readable of a cut object

_TEXTS = {path for path in ECS_ATTRIBUTES if path not in {"@timestamp", "event.category", "event.type"}}
_NUMBERS = {
    "source.port",
    "source.bytes",
    "destination.port",
    "destination.bytes",
    "process.pid",
    "http.response.status_code",
}
_TEXTS -= _NUMBERS
_LISTS = {"event.category", "event.type"}
_TIMES = ("@timestamp", "timestamp", "time", "ts", "eventTime", "event_time", "datetime", "date")
_SURROGATE = re.compile("[\ud800-\udfff]")

_decode = msgspec.json.Decoder().decode
_tolerant = json.JSONDecoder(strict=False, parse_constant=lambda _name: None)


def sniff(text: str) -> bool:
    return text.lstrip()[:1] == "{" and '"' in text or text.rstrip()[-1:] == "}" and (': {"' in text or "@cee:" in text)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = 0 if text[:1] == "{" else text.find("{")
    if begin < 0:
        raise ParseError("no JSON object")
    try:
        doc = _decode(text[begin:] if begin else text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        doc = _read_tolerantly(text[begin:])
    if not isinstance(doc, dict):
        raise ParseError("no JSON object")
    fields: dict[str, Any] = {}
    _flatten(doc, fields)
    values: dict[str, Any] = {}
    for path in fields.keys() & _TEXTS:
        value = fields[path]
        if isinstance(value, str):
            values[ECS_ATTRIBUTES[path]] = fields.pop(path) or None
        elif isinstance(value, int | float):
            values[ECS_ATTRIBUTES[path]] = _word(fields.pop(path))
        elif isinstance(value, list) and value and isinstance(value[0], str | int | float):
            values[ECS_ATTRIBUTES[path]] = _word(value[0])  # the whole list stays in fields
    for path in fields.keys() & _NUMBERS:
        number = _number(fields[path])
        if number is not None:
            values[ECS_ATTRIBUTES[path]] = number
            del fields[path]
    for path in fields.keys() & _LISTS:
        value = fields.pop(path)
        words = value if isinstance(value, list) else [value]
        values[ECS_ATTRIBUTES[path]] = tuple(_word(word) for word in words if word is not None)
    values["timestamp"] = _time(fields, text[:begin], origin)
    values["event_module"] = values.get("event_module") or fields.get("event.module") or NAME
    module = values["event_module"]
    values["event_dataset"] = values.get("event_dataset") or fields.get("data_stream.dataset") or f"{module}.log"
    if "url_path" not in values and isinstance(url := fields.get("url.original"), str):
        values["url_path"] = _path(url)
    if "process_command_line" not in values and isinstance(args := fields.get("process.args"), list):
        values["process_command_line"] = " ".join(_word(word) for word in args)
    return (Event(**values, fields=fields),)


def _flatten(doc: dict[str, Any], fields: dict[str, Any]) -> None:
    """Leaves of nested objects under dotted keys, without recursion. A key at the top that has no dot keeps its name."""
    pending: list[tuple[str, dict[str, Any], int]] = [("", doc, 1)]
    while pending:
        prefix, level, depth = pending.pop()
        for key, value in level.items():
            kind = type(value)
            if kind is str or value is None or kind is bool or kind is float:
                fields[prefix + key] = value
            elif kind is dict:
                if depth < DEPTH_MAX:
                    pending.append((f"{prefix}{key}.", value, depth + 1))
                else:
                    fields[prefix + key] = _text(value)
            elif kind is int:
                fields[prefix + key] = value if value.bit_length() <= INTEGER_BITS else str(value)
            else:
                fields[prefix + key] = [_leaf(item) for item in value]


def _leaf(item: Any) -> Any:
    if isinstance(item, dict | list):
        return _text(item)
    if type(item) is int and item.bit_length() > INTEGER_BITS:
        return str(item)
    return item


def _text(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError as error:
        raise ParseError("JSON nested too deeply") from error


def _read_tolerantly(text: str) -> Any:
    """An object from text that strict JSON refuses: surrogates, control characters, NaN, something behind it, a cut end."""
    try:
        doc, _ = _tolerant.raw_decode(text)
    except RecursionError as error:
        raise ParseError("JSON nested too deeply") from error
    except ValueError as error:
        doc = _mend(text)
        if doc is None:
            raise ParseError(f"no JSON object: {error}"[:200]) from error
    return _without_surrogates(doc)


def _mend(text: str) -> Any:
    """What is readable of an object whose end is missing: cut at the last comma that makes it whole, then closed."""
    opened: list[str] = []
    cuts: list[tuple[int, str]] = []
    in_text = False
    escaped = False
    for at, letter in enumerate(text):
        if in_text:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == '"':
                in_text = False
        elif letter == '"':
            in_text = True
        elif letter in "{[":
            opened.append("}" if letter == "{" else "]")
            if len(opened) > 4 * DEPTH_MAX:
                break
        elif letter in "}]":
            if not opened or opened.pop() != letter:
                break
        elif letter == ",":
            cuts.append((at, "".join(reversed(opened))))
    for at, closing in reversed(cuts[-CUTS_MAX:]):
        try:
            return _tolerant.decode(text[:at] + closing)
        except (ValueError, RecursionError):
            continue
    return None


def _without_surrogates(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if depth > 4 * DEPTH_MAX:
        return None
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", k): _without_surrogates(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item, depth + 1) for item in value]
    if isinstance(value, float) and value - value != 0:  # infinite or not a number
        return None
    return value


def _time(fields: dict[str, Any], head: str, origin: Origin) -> float:
    """The first usual key with a readable time, else that of a syslog envelope in front, else the arrival."""
    for key in _TIMES:
        stated = fields.get(key)
        if stated is None:
            continue
        try:
            if isinstance(stated, str):
                digits = stated.isascii() and stated.replace(".", "", 1).isdigit() and len(stated) <= 19
                at = from_epoch(float(stated)) if digits else from_iso(stated, origin.clock)
            elif isinstance(stated, int | float) and not isinstance(stated, bool):
                at = from_epoch(stated)
            else:
                continue
        except (ValueError, OverflowError):
            continue
        if key == "@timestamp":
            del fields[key]
        return at
    stamp = peel(head, origin).timestamp if head else None
    return origin.received if stamp is None else stamp


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _number(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**INTEGER_BITS:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    return None


def _path(url: str) -> str | None:
    rest = url.split("?", 1)[0]
    if "://" in rest:
        return "/" + rest.split("://", 1)[1].partition("/")[2]
    return rest if rest.startswith("/") else None
