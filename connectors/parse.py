"""Turns the lines of one source into events: decodes them, picks the parser, and keeps what it cannot read, with why.

A parser is one file in `connectors/parsers`, found by its name; there is no registry.
"""

import difflib
import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import re2

from connectors import declared, parsers
from connectors.clock import Clock
from connectors.drift import Drift
from connectors.events import Event, Origin, ParseError
from connectors.wrapping import inner, inside

AUTO = "auto"
REPLACED = "shield.decoded_with_replacement"
# `auto` asks from the most telling format to the most general; parsers not named here come between.
SPECIFIC = (
    *("wazuh", "mssql", "sysmon_linux", "windows", "cef", "leef", "fortigate", "cisco_ftd", "cisco_asa", "iptables"),
    *("modsecurity", "traefik", "squid", "haproxy", "nginx", "apache"),
    *("sophos_utm", "sophos_xg", "watchguard", "juniper_srx", "barracuda"),
)
GENERAL = ("gelf", "ecs", "linux_auth", "kv", "syslog")
LOOKS_MAX = 8192  # kinds of lines whose parser `auto` remembers per source
LOOK_CHARS_MAX = 512  # of a line that are looked at for that
ASKED_ANEW = 256  # of so many lines that look alike, one is shown to all parsers
_JSON_KEY = re.compile(r'"([@\w][\w.@-]{0,63}+)"\s?:')
JOINED_LINES_MAX = 256  # of one event; the line after them begins another
JOINED_BYTES_MAX = 262_144
LINE_END = "\r\n\0"  # some devices end a frame with NUL


class ParserModule(Protocol):
    """What a module in `connectors/parsers` offers; the contract is told in `connectors.events`."""

    @property
    def NAME(self) -> str: ...  # noqa: N802

    def sniff(self, text: str) -> bool: ...
    def parse(self, text: str, origin: Origin) -> Sequence[Event]: ...


class UnknownParser(ValueError):  # noqa: N818  # says what is wrong better than with a suffix
    """No parser has this name, or its declaration is wrong; the message says what would be right."""


class Parsed(msgspec.Struct):
    """What a batch of lines became. Every line that is not blank gave at least one event or exactly one dead entry."""

    events: list[Event]  # in line order
    line_of: list[int]  # line_of[i] is the index of the line that events[i] came from
    dead: list[tuple[int, str, bytes]]  # (index of the line, reason, the line)
    parser: str  # the parser that read most of the lines
    blank: int  # lines without content, skipped
    joined: int  # lines that are part of the line before them
    lines: Sequence[bytes]  # as they were read: joined ones stand at the first of them, the others are empty


@cache
def parser_names() -> list[str]:
    """The names of our own parsers, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(parsers.__path__))


def load_parser(name: str) -> ParserModule:
    """The parser of this name; a dotted name is a third-party module, a `.yml` file a declared one. Raises UnknownParser."""
    if name.endswith(declared.SUFFIXES):
        try:
            return declared.load(Path(name))
        except declared.DeclarationError as error:
            raise UnknownParser(str(error)) from error
    if "." not in name and name not in parser_names():
        near = difflib.get_close_matches(name, [*parser_names(), AUTO], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join([AUTO, *parser_names()])}"
        raise UnknownParser(f"unknown parser {name!r}; {hint}")
    path = name if "." in name else f"{parsers.__name__}.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the parser is there, something that it imports is not
        raise UnknownParser(f"unknown parser {name!r}; no module of this name is installed") from error
    missing = [part for part in ("NAME", "sniff", "parse") if not hasattr(module, part)]
    if missing:
        raise UnknownParser(f"{name!r} is no parser: it lacks {', '.join(missing)}")
    return cast("ParserModule", module)


def decode(line: bytes) -> str:
    """A line as text without byte order mark and line end. Bytes that are not UTF-8 (surrogates too) become U+FFFD.

    `line.decode()` fails on exactly the lines that need a replacement; `Reader` marks their events.
    """
    return _trimmed(line.decode("utf-8", "replace"))


def _trimmed(text: str) -> str:
    return text.rstrip(LINE_END).removeprefix("\ufeff")


class Reader:
    """Reads the lines of one source of one tenant, and remembers its clock and, for `auto`, its last format.

    With `join`, lines of a batch that make one event are read as one: records of one audit id, and, where `starts` is an
    expression (RE2) that every first line holds, the lines after it (stack traces, XML).
    """

    def __init__(
        self,
        parser: str,
        tenant: str,
        source: str,
        timezone: str = "UTC",
        year: int | None = None,
        *,
        join: bool = False,
        starts: str = "",
    ) -> None:
        try:
            zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, OSError) as error:
            raise ValueError(f"unknown time zone {timezone!r}") from error
        self.parser = parser
        self.tenant = tenant
        self.source = source
        self.clock = Clock(zone, year)
        self.drift = Drift()
        if parser == AUTO:
            self.candidates = [load_parser(name) for name in _by_specificity(parser_names())]
        else:
            self.candidates = [load_parser(parser)]
        self._last = self.candidates[0]
        self._known: dict[tuple[object, ...], _Known] = {}
        self._daemons: frozenset[str] = frozenset().union(*(getattr(m, "DAEMONS", ()) for m in self.candidates))
        self._appliance: ParserModule | None = None  # the device that all lines so far came from, if it is one
        self._relay = False  # lines of different systems: what is no appliance's own may be anybody's
        self._join = join
        self._starts = re2.compile(starts) if starts else None

    def read(self, lines: Sequence[bytes], received: float) -> Parsed:
        """Parse a batch that arrived at `received` (seconds since the epoch)."""
        origin = Origin(self.tenant, self.source, received, self.clock)
        joined = 0
        if self._join:
            lines, joined = self._joined(lines)
        events: list[Event] = []
        line_of: list[int] = []
        dead: list[tuple[int, str, bytes]] = []
        chosen: Counter[str] = Counter()
        blank = 0
        auto = self.parser == AUTO
        parse = self._unwrapped if auto else self._last.parse
        for index, line in enumerate(lines):
            whole = True
            try:
                text = line.decode()
            except UnicodeDecodeError:
                text = line.decode("utf-8", "replace")
                whole = False
            if text[-1:] <= " " or text[0] > "~":  # a line end, a byte order mark, nothing but blanks of any kind
                text = _trimmed(text)
                if not text or text.isspace():
                    blank += 1
                    continue
            try:
                found = parse(text, origin)
            except ParseError as error:
                dead.append((index, str(error), line))
                continue
            if auto:
                chosen[self._last.NAME] += 1
            if not whole:
                found = [_marked(event) for event in found]
            if len(found) == 1:
                events.append(found[0])
                line_of.append(index)
            elif found:
                events += found
                line_of += [index] * len(found)
            else:
                dead.append((index, "the parser found no event in this line", line))
        self.drift.note(events)
        most = chosen.most_common(1)[0][0] if chosen else self._last.NAME if not auto else AUTO
        return Parsed(events, line_of, dead, most, blank - joined, joined, lines)

    def _joined(self, lines: Sequence[bytes]) -> tuple[Sequence[bytes], int]:
        """The lines with those that belong together as one, and how many were added to the one before them."""
        record_id = getattr(self._last, "record_id", None)
        if self._starts is None and record_id is None:
            return lines, 0
        made = list(lines)
        first, count, size, held, joined = -1, 0, 0, None, 0
        for index, line in enumerate(lines):
            if self._starts is not None:
                starts = self._starts.search(line.decode("utf-8", "replace")) is not None
            else:
                mine = record_id(line.decode("utf-8", "replace")) if record_id else None
                starts, held = mine is None or mine != held, mine
            if starts or first < 0 or count >= JOINED_LINES_MAX or size + len(line) > JOINED_BYTES_MAX:
                first, count, size = index, 1, len(line)
                continue
            made[first] += b"\n" + line
            made[index] = b""
            count, size, joined = count + 1, size + len(line) + 1, joined + 1
        return made, joined

    def _unwrapped(self, text: str, origin: Origin) -> Sequence[Event]:
        """The events of a line, out of the wrapping of a log shipper if there is one."""
        wrapping = inner(text) if text[:1] == "{" or text[10:11] == "T" else None
        if wrapping is None:
            return self._recognise(text, origin)
        made: list[Event] = []
        for line, at in wrapping.lines:
            try:
                found = self._recognise(line, inside(origin, at))
            except ParseError:
                if len(wrapping.lines) == 1:
                    break
                continue
            if not wrapping.carried and self._last.NAME in GENERAL:
                break
            made += [
                msgspec.structs.replace(event, host_name=wrapping.host)
                if event.host_name is None and wrapping.host is not None
                else event
                for event in found
            ]
        return made or self._recognise(text, origin)

    def _recognise(self, text: str, origin: Origin) -> Sequence[Event]:
        """The events of the first parser that knows the line by sight and can read it.

        The last that did goes first, unless it is a general format, which would also read the lines of the telling ones.
        Lines that look alike go to the parser that read the like of them before; now and then all are asked anew.
        An appliance's parser takes the lines of the daemons in it, too, as long as its source sends nothing else.
        """
        reason = "no parser recognises this line"
        tried = None
        last = self._last
        if last.NAME not in GENERAL and last.sniff(text):
            tried = last
            try:
                if found := last.parse(text, origin):
                    return found
            except ParseError as error:
                reason = str(error)
        look = _look(text)
        known = self._known.get(look)
        if known is not None:
            known.uses += 1
            if known.uses % ASKED_ANEW and known.module is not tried and known.module.sniff(text):
                reader = known.module if self._relay else self._reader_of(known.module)
                try:
                    if found := reader.parse(text, origin):
                        self._last = reader
                        return found
                except ParseError:
                    pass  # others may know better
        for module in self.candidates:
            if module is tried or not module.sniff(text):
                continue
            reader = module if self._relay else self._reader_of(module)
            try:
                found = reader.parse(text, origin)
            except ParseError as error:
                reason = str(error)
                continue
            if found:
                self._last = reader
                if len(self._known) >= LOOKS_MAX:
                    self._known.clear()
                self._known[look] = _Known(module)
                return found
        raise ParseError(reason)

    def _reader_of(self, module: ParserModule) -> ParserModule:
        """Who reads a line that a parser knows by sight: the appliance that all lines so far came from, or that parser."""
        if hasattr(module, "DAEMONS"):
            self._relay = self._appliance not in {None, module}
            self._appliance = None if self._relay else module
        elif module.NAME in self._daemons:
            return self._appliance or module
        elif module.NAME not in GENERAL:
            self._appliance, self._relay = None, True
        return module


class _Known(msgspec.Struct):
    """The parser of lines that look alike."""

    module: ParserModule
    uses: int = 0


def _look(text: str) -> tuple[object, ...]:
    """What tells the lines of one format from those of others: the keys of JSON, else the program and its first word."""
    if text[:1] == "{":
        return tuple(_JSON_KEY.findall(text, 0, LOOK_CHARS_MAX))
    words = text[:LOOK_CHARS_MAX].split()
    at = 5 if len(words) > 5 and not words[0][-1:].isdigit() and words[1].isdigit() else 2
    near = tuple(word.rstrip("0123456789").partition("[")[0][:24] for word in words[at - 1 : at + 2])
    return (*near, len(words) // 8, "=" in text, '"' in text, "{" in text, "|" in text, "%" in text, "," in text)


def _by_specificity(names: Sequence[str]) -> list[str]:
    middle = [name for name in names if name not in SPECIFIC and name not in GENERAL]
    return [name for name in (*SPECIFIC, *middle, *GENERAL) if name in names]


def _marked(event: Event) -> Event:
    return msgspec.structs.replace(event, fields={**event.fields, REPLACED: True})
