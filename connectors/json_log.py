"""What parsers of JSON logs of clouds and endpoint agents share: finding the events of an export, and reading values.

An export wraps events (`{"Records": [...]}`, a list); relays put a syslog header in front. Values are of any type.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, TypedDict

import msgspec

from connectors.clock import from_epoch
from connectors.envelope import peel
from connectors.events import ECS_ATTRIBUTES, Origin, ParseError
from connectors.tolerant_json import decode
from connectors.values import whole_number

HEAD_CHARS_MAX = 1024  # a syslog header before the JSON
EVENTS_MAX = 10_000  # of one line
LEAVES_MAX = 2048  # values of one event that are kept
TIMED_MIN = 12  # characters of a date with a time
DEPTH_MAX = 8  # objects nested deeper are kept as JSON text
LIST_MAX = 512  # elements of one list that are kept
INTEGER_BITS = 63  # longer numbers are kept as text: neither the wire nor JavaScript holds them
REMEMBERED_MAX = 16_384  # addresses, accounts and paths whose meaning is kept

Log = dict[str, Any]
ABSENT = {"", "-", "--", "null", "N/A", "n/a", "none", "None"}
_NOTHING: Log = {}


def begins(text: str) -> int:
    """Where the JSON of a line begins, -1 where there is none."""
    return 0 if text[:1] in {"{", "["} else text.find("{", 0, HEAD_CHARS_MAX)


def logs(text: str, lists: Iterable[str] = (), envelopes: Iterable[str] = ()) -> tuple[list[Log], bool]:
    """The objects of a line, out of their wrapping, and whether its end is missing. Raises ParseError.

    `lists` are the dotted paths at which an export has its list of events, `envelopes` those at which a relay has the event.
    """
    begin = begins(text)
    if begin < 0:
        raise ParseError("no JSON object")
    doc, damaged = decode(text[begin:] if begin else text)
    if type(doc) is dict:
        for path in envelopes:
            if type(inner := found(doc, path)) is dict:
                doc = inner
        for path in lists:
            inner = found(doc, path)
            if type(inner) is list and inner and type(inner[0]) is dict:
                doc = inner
                break
    if type(doc) is dict:
        return [doc], damaged
    if type(doc) is not list:
        raise ParseError("no JSON object")
    if len(doc) > EVENTS_MAX:
        raise ParseError(f"more than {EVENTS_MAX} events in one line")
    return [log for log in doc if type(log) is dict], damaged


class Glance:
    """Reads of one object only what the attributes of its event are made of, and passes over the rest several times as fast.

    Paths are dotted, `name[].key` for the objects of a list. `fields` are made of the whole line when somebody asks.
    """

    def __init__(self, *paths: str, wrapped: Iterable[str] = ()) -> None:
        tree: dict[str, Any] = {}
        for path in paths:
            *above, last = path.split(".")
            below = tree
            for name in above:
                below = below.setdefault(name, {})
            below.setdefault(last, None)
        self._wrapped = {path.partition(".")[0] for path in wrapped} - tree.keys()
        tree |= dict.fromkeys(self._wrapped)
        self._decode = msgspec.json.Decoder(_shape(tree)).decode

    def read(self, text: str) -> Log | None:
        """The object of a line; None for what is wrapped, damaged or of other types, which only `logs` can tell."""
        if text[:1] != "{":
            return None
        try:
            log: Log = self._decode(text)
        except (ValueError, RecursionError):
            return None
        return log if self._wrapped.isdisjoint(log) else None


def _shape(tree: dict[str, Any]) -> Any:
    keys: dict[str, Any] = {}
    for name, below in tree.items():
        if below is None:
            keys[name] = Any
        elif name.endswith("[]"):
            keys[name[:-2]] = list[_shape(below)] | None  # type: ignore[misc]
        else:
            keys[name] = _shape(below) | None
    return TypedDict("Shape", keys, total=False)  # type: ignore[operator]


def whole(log: Log | str, damaged: bool) -> tuple[Log, bool]:
    """All of an object that was glanced at, and whether its end is missing."""
    if type(log) is not str:
        return log, damaged  # type: ignore[return-value]
    doc, damaged = decode(log)
    return doc if type(doc) is dict else {}, damaged


def head(text: str, origin: Origin) -> tuple[float, str | None]:
    """Time and host of a syslog header before the JSON; the arrival where there is none."""
    begin = begins(text)
    if begin <= 0:
        return origin.received, None
    envelope = peel(text[:begin], origin)
    return origin.received if envelope.timestamp is None else envelope.timestamp, envelope.host


def found(log: Log, path: str) -> Any:
    """What stands at a dotted path, None where nothing does; of a list the first element counts."""
    if "." not in path:
        return log.get(path)
    here: Any = log
    for key in path.split("."):
        if type(here) is list:
            here = here[0] if here else None
        if type(here) is not dict:
            return None
        here = here.get(key)
    return here


def part(log: Log, key: str) -> Log:
    """The object under a key, an empty one where there is none; of a list the first. Not to be written to."""
    value = log.get(key)
    if type(value) is list and value:
        value = value[0]
    return value if type(value) is dict else _NOTHING


def parts(log: Log, key: str) -> list[Log]:
    """The objects in the list under a key."""
    value = log.get(key)
    if type(value) is dict:
        return [value]
    return [item for item in value[:LIST_MAX] if type(item) is dict] if type(value) is list else []


def text_of(value: Any) -> str | None:
    """A text that says something; of a list the first element counts."""
    if type(value) is str:
        return None if value in ABSENT else value
    return text_of(value[0]) if type(value) is list and value and type(value[0]) is not list else None


def word(value: Any) -> str | None:
    """As `text_of`; a number is written out."""
    return str(value) if type(value) in (int, float) else text_of(value)


def texts(value: Any) -> list[str]:
    """The texts in a list that say something; of anything else, that one."""
    items = value[:LIST_MAX] if type(value) is list else [value]
    return [item for item in items if type(item) is str and item not in ABSENT]


def first(log: Log, *keys: str) -> str | None:
    """The first of these keys whose text says something."""
    for key in keys:
        value = log.get(key)
        if value is not None:
            if type(value) is str:
                if value not in ABSENT:
                    return value
            elif (value := text_of(value)) is not None:
                return value
    return None


def number(value: Any) -> int | None:
    """A whole number that fits into 64 bits, also where it is written as text."""
    if type(value) is str:
        return whole_number(value)
    if type(value) is float and value.is_integer():
        value = int(value) if abs(value) < 2**INTEGER_BITS else None
    return value if type(value) is int and 0 <= value < 2**INTEGER_BITS else None


def port(value: Any) -> int | None:
    digits = number(value)
    return digits if digits is not None and digits <= 65_535 else None


def address(value: Any) -> str | None:
    """An IP address; a port, brackets and a zone are taken off."""
    return None if type(value) is not str or not value else endpoint(value)[0]


@lru_cache(maxsize=REMEMBERED_MAX)
def endpoint(text: str) -> tuple[str | None, int | None]:
    """Address and port of `192.0.2.7`, `192.0.2.7:443`, `[2001:db8::1]:443`; None where it is no address."""
    text = text.strip()
    shown = None
    if text[:1] == "[":
        text, _, shown = text[1:].partition("]")
        shown = shown.removeprefix(":")
    elif text.count(":") == 1:
        text, _, shown = text.partition(":")
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None, None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed), port(shown)


@lru_cache(maxsize=REMEMBERED_MAX)
def account(name: str) -> tuple[str, str | None]:
    r"""Name and domain of `name@domain` and of `DOMAIN\name`."""
    domain, bar, rest = name.rpartition("\\")
    if bar and rest:
        return rest, domain or None
    user, at, domain = name.rpartition("@")
    return (user, domain or None) if at and user else (name, None)


def program(path: str | None) -> str | None:
    """The last part of a path of any system."""
    return None if path is None else path.rstrip("/\\").rpartition("/")[2].rpartition("\\")[2] or None


@lru_cache(maxsize=REMEMBERED_MAX)
def url_path(url: str) -> str | None:
    rest = url.partition("?")[0].partition("#")[0]
    if "://" in rest:
        return "/" + rest.split("://", 1)[1].partition("/")[2]
    return rest if rest.startswith("/") else None


def instant(value: Any) -> float | None:
    """Seconds since the epoch of an ISO time, UTC where it has no zone, or of a count of seconds or finer."""
    kind = type(value)
    try:
        if kind is str:
            if value[4:5] != "-" and value.isascii() and value.replace(".", "", 1).isdigit():
                return from_epoch(float(value)) if 9 <= len(value) <= 20 else None
            if value[-4:] == " UTC":  # 2026-05-06 09:59:37 +0000 UTC
                value = value[:-4].replace(" +", "+")
            at = datetime.fromisoformat(value)
            if not 1970 <= at.year < 2200:
                return None
            if at.tzinfo is None:  # reading it again is ten times faster than `replace`
                at = datetime.fromisoformat(value + "Z") if len(value) >= TIMED_MIN else at.replace(tzinfo=UTC)
            return at.timestamp()
        if kind in (int, float) and value > 0:
            return from_epoch(value)
    except (ValueError, OverflowError):
        pass
    return None


def moment(log: Log, keys: Iterable[str], otherwise: float) -> float:
    """The first of these keys with a readable time."""
    for key in keys:
        value = log.get(key)
        if value is not None and (at := instant(value)) is not None:
            return at
    return otherwise


def flat(log: Log, module: str, prefix: str = "") -> Log:
    """Leaves under dotted keys. Of a list of objects each key has the list of its values, one value alone as it is.

    A key that is an ECS path by chance gets the module in front: `fields` must not speak for the event's attributes.
    """
    fields: Log = {}
    pending: list[tuple[str, Log, int, bool]] = [(prefix, log, 1, False)]
    while pending and len(fields) < LEAVES_MAX:
        before, level, depth, many = pending.pop()
        for key, value in level.items():
            path = before + key
            kind = type(value)
            if kind is dict:
                if depth < DEPTH_MAX:
                    pending.append((path + ".", value, depth + 1, many))
                    continue
                value = as_json(value)  # noqa: PLW2901
            elif kind is list:
                if value and type(value[0]) is dict and depth < DEPTH_MAX:
                    several = many or len(value) > 1
                    items = [item for item in value[:LIST_MAX] if type(item) is dict]
                    pending += [(path + ".", item, depth + 1, several) for item in reversed(items)]
                    continue
                value = [_leaf(item) for item in value[:LIST_MAX]]  # noqa: PLW2901
            elif kind is int and value.bit_length() > INTEGER_BITS:
                value = str(value)  # noqa: PLW2901
            if path in ECS_ATTRIBUTES:
                path = f"{module}.{path}"
            if not many:
                fields[path] = value
            elif value is not None:
                held = fields.setdefault(path, [])
                if type(held) is list and len(held) < LIST_MAX:
                    held += value if type(value) is list else [value]
    return fields


def pairs(items: Iterable[Log], names: tuple[str, ...], values: tuple[str, ...]) -> Log:
    """`[{"Name": a, "Value": b}]` as `{a: b}`."""
    made: Log = {}
    for item in items:
        name = first(item, *names)
        if name is not None:
            made[name] = _leaf(next((value for key in values if (value := item.get(key)) is not None), None))
    return made


def stated(**about: Any) -> Log:
    """ECS paths, two underscores for a dot, of the values that say something."""
    return {
        key.replace("__", "."): value for key, value in about.items() if value is not None and value not in ("", [])
    }


def put(fields: Log, about: Mapping[str, Any], table: Iterable[tuple[str, str]]) -> None:
    """Copies values to their ECS paths; the first key that says something counts."""
    for key, path in table:
        if path not in fields and (value := word(about.get(key))) is not None:
            fields[path] = value


def as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return "\u2026"  # nested deeper than can be written


def _leaf(item: Any) -> Any:
    if type(item) is dict or type(item) is list:
        return as_json(item)
    if type(item) is int and item.bit_length() > INTEGER_BITS:
        return str(item)
    return item
