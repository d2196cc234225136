"""Parsers that an admin declares in YAML: a regular expression, grok, key=value, JSON or CSV, and which field is what.

Used as `parser: ./parsers/name.yml`. Inline tests say what lines give; loading runs them.
"""

import csv
import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import re2
import yaml

from connectors.clock import from_epoch, from_iso
from connectors.envelope import Envelope, peel
from connectors.events import ECS_ATTRIBUTES, Event, Origin, ParseError, document
from connectors.tolerant_json import decode

SUFFIXES = (".yml", ".yaml")
PAIRS_MAX = 512  # of one line; more are left out, and the line says so in `shield.cut`
DEPTH_MAX = 8  # of nested JSON objects; deeper ones are kept as text
NAME_OF = re2.compile(r"[a-z][a-z0-9_]{1,63}")
CUT = "shield.cut"

_NUMBERS = {p for p, a in ECS_ATTRIBUTES.items() if a.endswith(("_port", "_bytes", "_pid", "_status_code"))}
_LISTS = {"event.category", "event.type"}
_OUTCOMES = {"success", "failure", "unknown"}
_PLACES = {path: Event.__struct_fields__.index(attribute) for path, attribute in ECS_ATTRIBUTES.items()}
_REFERENCE = re2.compile(r"%\{(\w+)(?::([\w.@-]+))?(?::\w+)?\}")
GROK = {  # the usual names of grok, written for RE2
    "WORD": r"\b\w+\b",
    "NOTSPACE": r"\S+",
    "SPACE": r"\s*",
    "DATA": r".*?",
    "GREEDYDATA": r".*",
    "INT": r"[+-]?\d+",
    "POSINT": r"\d+",
    "NUMBER": r"[+-]?\d+(?:\.\d+)?",
    "BASE16NUM": r"(?:0[xX])?[0-9a-fA-F]+",
    "QUOTEDSTRING": r'"(?:[^"\\]|\\.)*"',
    "QS": r'"(?:[^"\\]|\\.)*"',
    "UUID": r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}",
    "MAC": r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}",
    "IPV4": r"\d{1,3}(?:\.\d{1,3}){3}",
    "IPV6": r"[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+",
    "IP": r"\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+",
    "HOSTNAME": r"[0-9A-Za-z](?:[0-9A-Za-z_.-]*[0-9A-Za-z])?",
    "IPORHOST": r"[0-9A-Za-z:](?:[0-9A-Za-z_.:-]*[0-9A-Za-z])?",
    "USER": r"[\w.@$\\-]+",
    "USERNAME": r"[\w.@$\\-]+",
    "EMAILADDRESS": r"[\w.+-]+@[\w.-]+",
    "PATH": r"(?:/[^\s]*|[A-Za-z]:\\[^\s]*)",
    "URI": r"[A-Za-z][\w+.-]*://\S+",
    "LOGLEVEL": r"(?i:trace|debug|info|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|fatal|alert|emerg)",
    "TIMESTAMP_ISO8601": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?",
    "SYSLOGTIMESTAMP": r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d",
    "HTTPDATE": r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}",
}


class DeclarationError(ValueError):
    """What is wrong with a declared parser: every message names the file and the part of it."""


class Pairs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    separator: str = " "
    assign: str = "="
    quote: str = '"'


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    columns: list[str]
    delimiter: str = ","


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    field: str
    format: str = "iso"  # iso, epoch, or a format of strptime: "%d.%m.%Y %H:%M:%S"


class Translation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value by what a field says; `*` is for everything else."""

    field: str
    values: dict[str, str | int | list[str]]


class Test(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    line: str
    gives: dict[str, Any] = {}
    error: bool = False  # the line is no line of this format


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. One of regex, grok, kv, json and csv says how a line is taken apart."""

    name: str
    description: str = ""
    contains: str = ""  # text that every line of the format has
    envelope: bool = True  # a syslog envelope in front is taken off first
    regex: str | list[str] | None = None  # with named groups; of several the first that fits
    grok: str | list[str] | None = None
    kv: Pairs | None = None
    json: bool = False
    csv: Columns | None = None
    map: dict[str, str] = {}  # field of the format -> ECS field; the others keep their names
    set: dict[str, str | int | list[str]] = {}  # ECS field -> value of every event
    translate: dict[str, Translation] = {}  # ECS field -> by what a field says
    time: Time | None = None
    tests: list[Test] = []


Taken = dict[str, Any]


class Declared:
    """A declared parser; implements the contract of a parser module."""

    def __init__(self, declaration: Declaration) -> None:
        self.NAME = declaration.name
        self.declaration = declaration
        self._take = _taker(declaration)
        given = {"event.dataset": f"{declaration.name}.log", **declaration.set}
        self._row: list[Any] = [None, declaration.name, *(None for _ in Event.__struct_fields__[2:])]
        self._row[_PLACES["event.category"]] = self._row[_PLACES["event.type"]] = ()
        self._rest: Taken = {}
        for path, value in given.items():
            _put(self._row, self._rest, path, value)

    def sniff(self, text: str) -> bool:
        """A declared format is used where it is named, never by `auto`."""
        return bool(self.declaration.contains) and self.declaration.contains in text

    def parse(self, text: str, origin: Origin) -> Sequence[Event]:
        declared = self.declaration
        if declared.contains not in text:
            raise ParseError(f"no {self.NAME} line: it lacks {declared.contains!r}")
        envelope = peel(text, origin) if declared.envelope else None
        taken = self._take(envelope.message if envelope else text)
        if taken is None:
            raise ParseError(f"no {self.NAME} line: its declaration does not fit")
        row, fields = self._row.copy(), dict(self._rest)
        for name, value in taken.items():
            if value is not None and value != "":
                _put(row, fields, declared.map.get(name, name), value)
        for path, translation in declared.translate.items():
            said = taken.get(translation.field)
            if said is not None:
                value = translation.values.get(str(said), translation.values.get("*"))
                if value is not None:
                    _put(row, fields, path, value)
        if row[_PLACES["event.outcome"]] not in {None, *_OUTCOMES}:
            fields["event.outcome"] = row[_PLACES["event.outcome"]]
            row[_PLACES["event.outcome"]] = None
        if envelope:
            _complete(row, envelope)
        row[0] = _when(declared.time, taken, envelope, origin)
        row[-1] = fields
        return (Event(*row),)


def load(path: Path) -> Declared:
    """Reads, checks and tests a declaration; raises DeclarationError with everything that is wrong."""
    try:
        declaration = msgspec.convert(yaml.safe_load(path.read_text("utf-8")), Declaration)
    except OSError as error:
        raise DeclarationError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise DeclarationError(f"{path}: {' '.join(str(error).split())}") from error
    faults = list(_faults(declaration))
    if not faults:
        try:
            faults = _failures(Declared(declaration))
        except (re2.error, DeclarationError) as error:
            faults = [str(error)]
    if faults:
        raise DeclarationError("\n".join(f"{path}: {fault}" for fault in faults))
    return Declared(declaration)


def _faults(declared: Declaration) -> Sequence[str]:
    faults = []
    if not NAME_OF.fullmatch(declared.name):
        faults.append(f"name {declared.name!r}: small letters, digits and _ only")
    ways = [w for w in ("regex", "grok", "kv", "json", "csv") if getattr(declared, w)]
    if len(ways) != 1:
        faults.append(f"one of regex, grok, kv, json and csv is needed, there is {' and '.join(ways) or 'none'}")
    for part, paths in (("map", declared.map.values()), ("set", declared.set), ("translate", declared.translate)):
        for path in paths:
            if path == "@timestamp":
                faults.append(f"{part}: `time:` says which field is @timestamp")
            near = difflib.get_close_matches(path, ECS_ATTRIBUTES, n=1, cutoff=0.85)
            if near and path not in ECS_ATTRIBUTES:
                faults.append(f"{part}: unknown field {path!r}; did you mean {near[0]!r}?")
    outcomes = [declared.set.get("event.outcome")]
    if "event.outcome" in declared.translate:
        outcomes += declared.translate["event.outcome"].values.values()
    faults += [
        f"event.outcome: {o!r} is none of success, failure, unknown" for o in outcomes if o and o not in _OUTCOMES
    ]
    if not declared.tests:
        faults.append("tests: at least one line with what it gives is needed")
    return faults


def _failures(parser: Declared) -> list[str]:
    """What the inline tests say against the declaration."""
    from connectors.clock import Clock

    failures = []
    for number, test in enumerate(parser.declaration.tests):
        at = f"tests[{number}]"
        try:
            doc = document(parser.parse(test.line, Origin("test", "test", 0.0, Clock()))[0])
        except ParseError as error:
            if not test.error:
                failures.append(f"{at}: {error}")
            continue
        if test.error:
            failures.append(f"{at}: the line should be refused, it gives {doc}")
        for path, wanted in test.gives.items():
            got = _at(doc, path)
            if got != wanted and not (isinstance(wanted, datetime) and str(got).startswith(wanted.isoformat()[:19])):
                failures.append(f"{at}: {path} should be {wanted!r}, it is {got!r}")
    return failures


def _at(doc: Any, path: str) -> Any:
    native = ((doc.get("shield") or {}).get("unmapped") or {}) if isinstance(doc, dict) else {}
    if path in native:
        return native[path]
    for key in path.split("."):
        doc = doc.get(key) if isinstance(doc, dict) else None
    return doc[0] if isinstance(doc, list | tuple) and len(doc) == 1 else doc


def _taker(declared: Declaration) -> Callable[[str], Taken | None]:
    """How a message is taken apart; the answer is None where it does not fit."""
    if declared.kv:
        return _pairs_by(declared.kv)
    if declared.csv:
        return _columns_by(declared.csv)
    if declared.json:
        return _json
    given = declared.regex or declared.grok or []
    sources = [given] if isinstance(given, str) else given
    named = [(s, {}) if declared.regex else _grok(s) for s in sources]
    options = re2.Options()
    options.log_errors = False
    patterns = []
    for source, names in named:
        pattern = re2.compile(source, options)
        patterns.append((pattern, [(g, names.get(g, g)) for g in pattern.groupindex]))

    def take(text: str) -> Taken | None:
        if not text.isascii():  # RE2 takes UTF-8, which has no lone surrogates
            text = text.encode("utf-8", "replace").decode()
        for pattern, groups in patterns:
            match = pattern.search(text)
            if match is not None:
                return {name: match.group(group) for group, name in groups}
        return None

    return take


def _grok(source: str) -> tuple[str, dict[str, str]]:
    """A grok pattern as an expression for RE2, and which field each of its groups is."""
    names: dict[str, str] = {}
    parts, begin = [], 0
    for match in _REFERENCE.finditer(source):
        pattern = GROK.get(match.group(1))
        if pattern is None:
            near = difflib.get_close_matches(match.group(1), GROK, n=1)
            raise DeclarationError(
                f"grok: unknown pattern {match.group(1)!r}" + (f"; did you mean {near[0]}?" if near else "")
            )
        parts.append(source[begin : match.start()])
        if match.group(2):
            group = f"g{len(names)}"
            names[group] = match.group(2)
            parts.append(f"(?P<{group}>{pattern})")
        else:
            parts.append(f"(?:{pattern})")
        begin = match.end()
    return "".join([*parts, source[begin:]]), names


def _pairs_by(kind: Pairs) -> Callable[[str], Taken | None]:
    def take(text: str) -> Taken | None:
        found: Taken = {}
        at = 0
        while (equals := text.find(kind.assign, at)) >= 0:
            if len(found) >= PAIRS_MAX:
                found[CUT] = True
                break
            name = text[at:equals].strip().rpartition(kind.separator)[2].strip()
            begin = equals + len(kind.assign)
            quoted = bool(kind.quote) and text.startswith(kind.quote, begin)
            stop = text.find(kind.quote, begin + 1) if quoted else text.find(kind.separator, begin)
            stop = len(text) if stop < 0 else stop
            if name:
                found[name] = text[begin + quoted : stop]
            at = stop + 1
        return found or None

    return take


def _columns_by(kind: Columns) -> Callable[[str], Taken | None]:
    def take(text: str) -> Taken | None:
        try:
            row = next(csv.reader([text], delimiter=kind.delimiter))
        except (csv.Error, StopIteration):
            return None
        return dict(zip(kind.columns, row, strict=False)) if len(row) > 1 else None

    return take


def _json(text: str) -> Taken | None:
    begin = text.find("{")
    doc, _ = decode(text[begin:]) if begin >= 0 else (None, False)
    if not isinstance(doc, dict):
        return None
    found: Taken = {}
    pending: list[tuple[str, Mapping[str, Any], int]] = [("", doc, 1)]
    while pending:
        prefix, level, depth = pending.pop()
        for key, value in level.items():
            if isinstance(value, dict) and depth < DEPTH_MAX:
                pending.append((f"{prefix}{key}.", value, depth + 1))
            elif isinstance(value, dict):
                found[prefix + key] = str(value)
            elif isinstance(value, list):
                found[prefix + key] = [v if isinstance(v, str | int | float | bool) else str(v) for v in value]
            else:
                found[prefix + key] = value
    return found


def _put(row: list[Any], fields: Taken, path: str, value: Any) -> None:
    place = _PLACES.get(path)
    if place is None or place == 0:
        fields[path] = value
    elif path in _NUMBERS:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = str(value)
        if text.isascii() and text.isdigit() and len(text) <= 18:
            row[place] = int(text)
        else:
            fields[path] = value  # kept as the line has it
    elif path in _LISTS:
        row[place] = tuple(str(word) for word in value) if isinstance(value, list) else (str(value),)
    else:
        row[place] = str(value[0]) if isinstance(value, list) and value else str(value)


def _complete(row: list[Any], envelope: Envelope) -> None:
    """What the envelope says and the message does not."""
    for path, value in (("host.name", envelope.host), ("process.name", envelope.app), ("process.pid", envelope.pid)):
        if row[_PLACES[path]] is None:
            row[_PLACES[path]] = value
    if row[_PLACES["message"]] is None:
        row[_PLACES["message"]] = envelope.message or None


def _when(time: Time | None, taken: Taken, envelope: Envelope | None, origin: Origin) -> float:
    stated = taken.get(time.field) if time else None
    if time is not None and stated is not None:
        try:
            if time.format == "epoch":
                return from_epoch(float(stated))
            if time.format == "iso":
                return from_iso(str(stated), origin.clock)
            remembered = origin.clock.stamps.get(str(stated))
            if remembered is not None:
                return remembered
            at = datetime.strptime(str(stated), time.format)  # noqa: DTZ007  # the zone is the source's, below
            if at.tzinfo is not None:
                return at.timestamp()
            clock = origin.clock
            if "%Y" not in time.format and "%y" not in time.format:
                return clock.yearless(at.month, at.day, at.hour, at.minute, at.second, origin.received)
            found = clock.local(at.year, at.month, at.day, at.hour, at.minute, at.second + at.microsecond / 1e6)
            clock.remember(str(stated), found)
        except (ValueError, OverflowError):
            pass  # a time that cannot be read does not hide the event
        else:
            return found
    if envelope is not None and envelope.timestamp is not None:
        return envelope.timestamp
    return origin.received
