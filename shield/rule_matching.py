"""The bare rule engine over a stream of JSON or XML lines: which rules each line meets, without alerts and folding.

A line is read as a Windows event in any of its forms, as ECS, or, where no parser knows it, as flat Sigma fields.
"""

import gzip
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from connectors import json_log, tolerant_json
from connectors.clock import Clock
from connectors.events import ECS_ATTRIBUTES, Event, Origin, ParseError
from connectors.parse import Reader, decode
from connectors.parsers import ecs, sysmon_linux, windows
from detectors.facts import Evidence, Located, Store
from detectors.sigma import Rule, RuleSet
from detectors.sigma.generate import INTEGER_ATTRIBUTES, TUPLE_ATTRIBUTES, generate
from detectors.sigma.index import Condition, Index
from detectors.sigma.literals import Texts
from detectors.sigma.values import getter

LINE_BYTES_MAX = 33_554_432  # a longer line is not read
READ_BYTES = 1 << 20  # read at once from a file; a pipe is answered as it comes
BATCH_LINES = 1_000
INDEXED_MIN = 32  # rules from which on an index is faster than running them all
UNKNOWN = "unknown.event"  # the dataset of flat events: no rule's log source speaks against it
_OWN = "\x00"  # in front of the ECS paths of a flat event while it is taken apart
_TIMES = ("@timestamp", "timestamp", "UtcTime", "TimeCreated", "SystemTime", "EventTime", "eventTime", "time", "date")
_KINDS = frozenset({"event.dataset", "event.module", "data_stream.dataset"})


class LogSource(msgspec.Struct, frozen=True):
    """What the caller says that events are; a key that is not stated is open."""

    product: str | None = None
    category: str | None = None
    service: str | None = None

    def takes(self, rule: Rule) -> bool:
        """Whether the rule's log source does not speak against this one."""
        return all(
            stated is None or known is None or stated.lower() == known
            for stated, known in (
                (rule.product, self.product),
                (rule.category, self.category),
                (rule.service, self.service),
            )
        )


def log_source(text: str) -> LogSource:
    """From `product=windows,category=process_creation`. Raises ValueError."""
    stated: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = (word.strip() for word in part.partition("="))
        if key not in LogSource.__struct_fields__ or not equals or not value:
            raise ValueError(f"`{part}` is no product=NAME, category=NAME or service=NAME")
        stated[key] = value.lower()
    if not stated:
        raise ValueError("at least one of product, category and service must be named")
    return LogSource(**stated)


# From lines to events


class Forms:
    """Turns a line into events, whichever of the known forms it has; or reads all lines with one parser."""

    def __init__(self, now_s: float, parser: str | None = None) -> None:
        self._reader = None if parser is None else Reader(parser, "match", "match")
        self._now_s = now_s
        self._origin = Origin("match", "match", now_s, Clock())

    def read(self, lines: Sequence[bytes]) -> list[Sequence[Event]]:
        """The events of each line; none where it is blank or cannot be read."""
        if self._reader is None:
            return [self._events(line) for line in lines]
        read = self._reader.read(lines, self._now_s)
        found: list[list[Event]] = [[] for _ in lines]
        for event, index in zip(read.events, read.line_of, strict=True):
            found[index].append(event)
        return list(found)

    def _events(self, line: bytes) -> Sequence[Event]:
        if len(line) > LINE_BYTES_MAX:
            return ()
        text = decode(line).strip()
        if text[:1] in {"{", "["}:
            return self._windows(text) or self._objects(text)
        for sniff, parse in ((sysmon_linux.sniff, sysmon_linux.parse), (windows.sniff, windows.parse)):
            if sniff(text):
                try:
                    return parse(text, self._origin)
                except ParseError:
                    continue
        begin = text.find("{", 0, windows.ENVELOPE_CHARS_MAX)
        return self._objects(text[begin:]) if begin > 0 and text[-1] == "}" else ()

    def _windows(self, text: str) -> Sequence[Event]:
        """The events of the Windows parser, if they say enough to be told apart: an id and where it is from."""
        try:
            found = windows.parse(text, self._origin)
        except ParseError:
            return ()
        if all(event.event_code is not None and event.event_dataset != "windows.other" for event in found):
            return found
        return found if windows.sniff(text) else ()

    def _objects(self, text: str) -> Sequence[Event]:
        found, damaged = tolerant_json.decode(text)
        if isinstance(found, dict):
            return (self._event(found, text),) if found or not damaged else ()
        bodies = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        return [self._event(body, msgspec.json.encode(body).decode()) for body in bodies[: windows.EVENTS_MAX]]

    def _event(self, body: dict[str, Any], text: str) -> Event:
        if _says_its_kind(body):
            try:
                return ecs.parse(text, self._origin)[0]
            except ParseError:
                pass
        return flat(body, self._now_s)


def _says_its_kind(body: dict[str, Any]) -> bool:
    """Whether an object is ECS that says by itself which log source it is from."""
    event, stream = body.get("event"), body.get("data_stream")
    return (
        not _KINDS.isdisjoint(body)
        or (isinstance(event, dict) and ("dataset" in event or "module" in event))
        or (isinstance(stream, dict) and "dataset" in stream)
    )


def flat(body: dict[str, Any], now_s: float) -> Event:
    """An event whose keys are the fields of rules, taken as they are; nested ones under dotted names."""
    fields = json_log.flat(body, _OWN)
    about: dict[str, Any] = {}
    for path in [path for path in fields if path.startswith(_OWN)]:
        attribute = ECS_ATTRIBUTES[path.removeprefix(_OWN + ".")]
        value = fields.pop(path)
        if attribute in TUPLE_ATTRIBUTES:
            about[attribute] = tuple(str(word).lower() for word in (value if isinstance(value, list) else [value]))
        elif attribute in INTEGER_ATTRIBUTES and isinstance(value, str) and value.isdigit() and value.isascii():
            about[attribute] = int(value) if len(value) < 19 and str(int(value)) == value else value
        elif attribute == "event_code":
            about[attribute] = None if value is None else str(value)
        elif attribute != "timestamp":
            about[attribute] = value
    about |= {"event_module": "unknown", "event_dataset": UNKNOWN}
    return Event(timestamp=json_log.moment(body, _TIMES, now_s), fields=fields, **about)


# From events to rules


class Matcher:
    """Which rules events meet: by the log source that they say they are from, or by the one that the caller states.

    An event that says nothing of its source may be of any, and meets the rules that read a field which it has.
    Correlations see the hits in the order of the events, each at its own time, and are answered with the event that
    completes them, once per burst.
    """

    def __init__(self, rules: RuleSet, source: LogSource | None, store: Store) -> None:
        self._routed = rules if source is None else None
        everything = list(rules.rules.values())
        self.rules = [
            rule for rule in everything if rule.condition is not None and (source is None or source.takes(rule))
        ]
        self._any: Callable[[Event], list[int] | None] | None = None
        correlations = [rule for rule in everything if rule.correlation is not None]
        parts = {below for rule in correlations if rule.correlation for below in rule.correlation.rules}
        self._feeding = frozenset(rule.id for rule in self.rules if rule.id in parts)
        self._correlations = RuleSet(
            [opened(rule) for rule in self.rules if rule.id in parts] + correlations if correlations else []
        )
        self._store = store
        self.unplaced = 0  # events that said nothing of their source

    def matches(self, event: Event) -> list[str]:
        """The ids of rules and correlations."""
        if self._routed is not None and event.event_dataset != UNKNOWN:
            found = self._routed.matches(event)
        else:
            if self._any is None:
                self._any = matcher_of(self.rules)
            rules = [self.rules[number] for number in self._any(event) or ()]
            if self._routed is not None:
                self.unplaced += 1
                rules = [rule for rule in rules if _reads(rule, event)]
            found = [rule.id for rule in rules]
        if self._feeding and not self._feeding.isdisjoint(found):
            found += self._completed(event, self._feeding.intersection(found))
        return found

    def _completed(self, event: Event, hit: frozenset[str]) -> list[str]:
        """The correlations that begin to hold with this event."""
        located = Located(
            tenant=self._store.tenant,
            events=[event],
            sources=[""],
            steps=[int(event.timestamp // 60)],
            evidence=lambda _: Evidence(event.timestamp, "", "", 0, 0, 0, ""),
        )
        facts = [fact for fact in self._correlations.facts(located) if fact.detector.partition("<")[2] in hit]
        return [
            fact.detector for fact in self._correlations.correlate(self._store, facts) if "continues" not in fact.extra
        ]


def _reads(rule: Rule, event: Event) -> bool:
    """Whether an event of an unknown source has a field that a rule reads."""
    return any(getter(name)(event) is not None for name in rule.fields)


def opened(rule: Rule) -> Rule:
    return msgspec.structs.replace(rule, product=None, category=None, service=None)


def matcher_of(rules: Sequence[Rule]) -> Callable[[Event], list[int] | None]:
    """All these rules against any event, whatever its log source."""
    texts = Texts()
    conditions = [
        Condition(number, rule.condition, texts) for number, rule in enumerate(rules) if rule.condition is not None
    ]
    if len(conditions) < INDEXED_MIN:
        return generate([(condition.number, condition.node) for condition in conditions])
    return Index(conditions, texts).matches


class Counts(msgspec.Struct):
    """What a run has seen."""

    lines: int = 0
    blank: int = 0
    unreadable: int = 0
    events: int = 0
    matches: int = 0


def pairs(
    batches: Iterator[Sequence[bytes]], forms: Forms, matches: Callable[[Event], list[str]], counts: Counts
) -> Iterator[list[tuple[int, str]]]:
    """(number of the line, id of the rule) for each batch, sorted and each once."""
    for lines in batches:
        found: list[tuple[int, str]] = []
        for number, (line, events) in enumerate(zip(lines, forms.read(lines), strict=True), counts.lines):
            if not events:
                if line.strip():
                    counts.unreadable += 1
                else:
                    counts.blank += 1
                continue
            counts.events += len(events)
            if len(events) == 1:
                hits = matches(events[0])
                if hits:
                    found += [(number, rule) for rule in (sorted(hits) if len(hits) > 1 else hits)]
            else:
                found += [(number, rule) for rule in sorted({rule for event in events for rule in matches(event)})]
        counts.lines += len(lines)
        counts.matches += len(found)
        yield found


def lines_of(read: Callable[[int], bytes]) -> Iterator[list[bytes]]:
    """Batches of lines; `read` gives at most so many bytes, of a pipe those that are there, so that it is answered at once."""
    kept: list[bytes] = []  # pieces of the line that has not ended yet
    while data := read(READ_BYTES):
        first, newline, rest = data.partition(b"\n")
        kept.append(first)
        if newline:
            lines = [b"".join(kept), *rest.split(b"\n")]
            kept = [lines.pop()]
            for start in range(0, len(lines), BATCH_LINES):
                yield lines[start : start + BATCH_LINES]
    last = b"".join(kept)
    if last:
        yield [last]


@contextmanager
def reading(path: Path, advance: Callable[[int], None]) -> Iterator[Callable[[int], bytes]]:
    """Reads a file, compressed by gzip or not; `advance` is told bytes of the file as it lies there."""
    with path.open("rb") as plain, cast("IO[bytes]", gzip.open(plain) if path.suffix == ".gz" else plain) as file:
        before = 0

        def read(size: int) -> bytes:
            nonlocal before
            data = file.read(size)
            advance(plain.tell() - before)
            before = plain.tell()
            return data

        yield read
