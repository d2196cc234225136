"""JSON lines: objects that already are ECS, nested or with dotted keys, and any other JSON object as well as it goes.

Of objects that say nothing in ECS, usual names (remote_ip, username, status ...) are mapped, and the message is read.

Nothing is dropped: what is no attribute of `Event` is flattened into `fields`. One bad value must not hide an event, so
text that is not quite JSON (surrogates, control characters, a cut end) takes a slower, tolerant path.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from connectors import prose
from connectors.clock import from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import ECS_ATTRIBUTES, Event, Origin, ParseError
from connectors.parsers import kv
from connectors.tolerant_json import decode
from connectors.values import url_path

NAME = "ecs"

DEPTH_MAX = 16  # objects nested deeper are kept as JSON text
INTEGER_BITS = 63
INTEGER_MAX = 2**INTEGER_BITS - 1  # larger numbers are kept as text: neither the wire nor JavaScript holds them
DAMAGED = "shield.truncated"  # the end of the object is missing

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
_OUTCOMES = {"success", "failure", "unknown"}
_OUTCOME_WORDS = {
    "success": "success",
    "succeeded": "success",
    "ok": "success",
    "failure": "failure",
    "failed": "failure",
}
_LISTS = {"event.category", "event.type"}
_MAPPED = _TEXTS | _NUMBERS | _LISTS
_PLACES = {path: Event.__struct_fields__.index(attribute) for path, attribute in ECS_ATTRIBUTES.items()}
_TEXT_PLACES = {path: _PLACES[path] for path in _TEXTS}
_EMPTY = [*Event.__struct_defaults__[:-1]]
_EMPTY[:0] = [None] * (len(Event.__struct_fields__) - 1 - len(_EMPTY))
_TIME, _MODULE, _DATASET, _OUTCOME, _COMMAND_LINE, _URL_PATH = (
    _PLACES[path]
    for path in ("@timestamp", "event.module", "event.dataset", "event.outcome", "process.command_line", "url.path")
)
_MESSAGE, _CATEGORY = _PLACES["message"], _PLACES["event.category"]
_NONES = _EMPTY.count(None)
_WITHIN = frozenset(  # names that mean the same in any object
    {"remote", "remoteaddr", "remote_addr", "remote_ip", "client_ip", "clientip", "src_ip", "srcip", "principalname"}
    | {"username", "user_name", "status_code", "statuscode"}
)
_TAIL = re.compile(r'(?:<\d{1,3}>)?\d{4}-\d\d-\d\dT\S{8,24} \S{1,255} {1,4}\{ {0,8}"')  # an object behind time and host
_TIMES = ("@timestamp", "timestamp", "time", "ts", "eventTime", "event_time", "datetime", "date", "t.$date")


def sniff(text: str) -> bool:
    if text.lstrip()[:1] == "{":
        return '"' in text
    return text.rstrip()[-1:] == "}" and (': {"' in text or "@cee:" in text or _TAIL.match(text) is not None)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = 0 if text[:1] == "{" else text.find("{")
    if begin < 0:
        raise ParseError("no JSON object")
    doc, damaged = decode(text[begin:] if begin else text)
    if not isinstance(doc, dict) or not doc:
        raise ParseError("no JSON object, or an empty one")
    fields: dict[str, Any] = {}
    if damaged:
        fields[DAMAGED] = True
    values: list[Any] = _EMPTY.copy()
    _flatten(doc, fields, values)
    for path in fields.keys() & _MAPPED:
        value = fields[path]
        place = _PLACES[path]
        if path in _NUMBERS:
            number = value if type(value) is int else _number(value)
            if number is not None:
                values[place] = number
                del fields[path]
        elif path in _LISTS:
            del fields[path]
            words = value if isinstance(value, list) else [value]
            plain = [*map(type, words)].count(str) == len(words)
            values[place] = tuple(words if plain else (_word(word) for word in words if word is not None))
        elif isinstance(value, int | float):
            del fields[path]
            values[place] = _word(value)
        elif isinstance(value, list) and value and isinstance(value[0], str | int | float):
            values[place] = _word(value[0])  # the whole list stays in fields
    silent = values.count(None) >= _NONES - (values[_MESSAGE] is not None) and values[_CATEGORY] == ()
    outcome = values[_OUTCOME]
    if outcome is not None and outcome not in _OUTCOMES:  # not ECS: kept as it is, and read where it is clear
        fields["event.outcome"] = outcome
        values[_OUTCOME] = _OUTCOME_WORDS.get(outcome.lower())
    values[_TIME] = _time(fields, text[:begin], origin)
    module = values[_MODULE] = values[_MODULE] or fields.get("event.module") or NAME
    values[_DATASET] = values[_DATASET] or fields.get("data_stream.dataset") or f"{module}.log"
    if values[_URL_PATH] is None and isinstance(url := fields.get("url.original"), str):
        values[_URL_PATH] = url_path(url)
    if values[_COMMAND_LINE] is None and isinstance(args := fields.get("process.args"), list):
        values[_COMMAND_LINE] = " ".join(_word(word) for word in args)
    values.append(fields)
    event = Event(*values)
    if silent:
        event = _by_usual_names(event, origin)
    return (prose.as_told(event) if silent or not event.event_category else event,)


def _by_usual_names(event: Event, origin: Origin) -> Event:
    """An object without ECS, read by the names that its values have."""
    fields = event.fields
    within = {
        last: value
        for key, value in fields.items()
        if "." in key and (last := key.rpartition(".")[2].lower()) in _WITHIN and last not in fields
    }
    found = kv.described(
        {**fields, **within} if within else fields, event.event_module, event.event_dataset, origin, at=event.timestamp, host=None,
        message=event.message, exact=True,
    )  # fmt: skip
    if not within:
        return found
    return msgspec.structs.replace(found, fields={key: found.fields[key] for key in found.fields if key not in within})


def _flatten(doc: dict[str, Any], fields: dict[str, Any], values: list[Any]) -> None:
    """Leaves of nested objects under dotted keys, without recursion. A key at the top without a dot keeps its name.

    Texts that are attributes of `Event` go to `values` at once.
    """
    pending: list[tuple[str, dict[str, Any], int]] = [("", doc, 1)]
    while pending:
        prefix, level, depth = pending.pop()
        for key, value in level.items():
            kind = type(value)
            if kind is str:
                path = prefix + key
                place = _TEXT_PLACES.get(path)
                if place is None:
                    fields[path] = value
                else:
                    values[place] = value or None
                    fields.pop(path, None)  # the same path once nested and once dotted: the later counts
            elif value is None or kind is bool or kind is float:
                fields[prefix + key] = value
            elif kind is dict:
                if depth < DEPTH_MAX:
                    pending.append((f"{prefix}{key}.", value, depth + 1))
                else:
                    fields[prefix + key] = _text(value)
            elif kind is int:
                fields[prefix + key] = value if -INTEGER_MAX <= value <= INTEGER_MAX else str(value)
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
