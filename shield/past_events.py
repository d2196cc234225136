"""Events of the past in the order of their time, to try rules on: from log files, from the file sources of a configuration,
or from a range of its raw topic.
"""

import gzip
import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import IO, cast

import msgspec

from connectors.events import Event
from connectors.inlet import SourceConfig
from connectors.parse import AUTO, Reader
from shield.broker import open_broker
from shield.config import Config
from shield.rule_matching import Forms
from shield.scan import files_of

TENANT = "local"  # of files that no configuration names
BLOCK_LINES = 500  # read and handed over together
LINE_BYTES_USUAL = 300  # sizes the reads
CONFIGURATIONS = frozenset({".yml", ".yaml"})
_STRUCTURED = b"{[<"  # how a line of JSON or XML begins


class Batch(msgspec.Struct):
    """Events of one tenant. Of each the place that it came from, and its line."""

    tenant: str
    time: float  # of the first event
    events: list[Event]
    places: list[str]
    lines: list[bytes]


class Window(msgspec.Struct, frozen=True):
    """Which part of the past is wanted: from a time on, to before another, of one tenant or of all."""

    since: float = float("-inf")
    until: float = float("inf")
    tenant: str | None = None


Read = Callable[[Sequence[bytes]], tuple[list[Event], list[int], Sequence[bytes]]]  # events, the line of each, lines


def from_files(
    paths: Sequence[Path], parser: str | None, now_s: float, window: Window, advance: Callable[[int], None]
) -> Iterator[Batch]:
    """Without a parser, lines of JSON or XML are read as `shield rules match` does, others as `auto`."""
    parts = [_file(path, TENANT, _forms(path, parser, now_s), advance) for path in paths]
    return _within(_merged(parts), window)


def from_sources(config: Config, now_s: float, window: Window, advance: Callable[[int], None]) -> Iterator[Batch]:
    """The files behind the file sources of a configuration."""
    parts = [_file(path, source.tenant, _reads(_reader(source), now_s), advance) for source, path in files_of(config)]
    return _within(_merged(parts), window)


def from_topic(config: Config, window: Window, advance: Callable[[int], None]) -> Iterator[Batch]:
    """What the raw topic holds; the window is one of arrival."""
    known: dict[tuple[str, str], SourceConfig] = {(s.tenant, s.source): s for s in config.sources}
    for source in config.sources:
        for token in getattr(source, "tokens", ()):
            known.setdefault((token.tenant or source.tenant, token.source or source.source), source)
    readers: dict[tuple[str, str], Reader] = {}
    broker = open_broker(config.broker, member="cli")
    try:
        for record in broker.read("raw"):
            advance(len(record.value))
            tenant, source_name = record.headers["tenant"], record.headers["source"]
            if not window.since <= record.time < window.until or window.tenant not in {None, tenant}:
                continue
            reader = readers.get((tenant, source_name))
            if reader is None:
                stated = known.get((tenant, source_name)) or SourceConfig(tenant=tenant, source=source_name)
                reader = readers[tenant, source_name] = _reader(stated)
            lines = [record.value] if record.headers.get("framing") == "single" else record.value.split(b"\n")
            events, line_of, lines_read = _reads(reader, record.time)(lines)
            place = f"{record.topic}:{record.partition}:{record.offset}"
            yield Batch(
                tenant, record.time, events, [f"{place}:{n}" for n in line_of], [lines_read[n] for n in line_of]
            )
    finally:
        broker.close()


def _reader(source: SourceConfig) -> Reader:
    return Reader(
        source.parser, source.tenant, source.source, source.timezone, source.year, join=True, starts=source.starts
    )


def _reads(reader: Reader, received: float) -> Read:
    def read(lines: Sequence[bytes]) -> tuple[list[Event], list[int], Sequence[bytes]]:
        parsed = reader.read(lines, received)
        return parsed.events, parsed.line_of, parsed.lines

    return read


def _forms(path: Path, parser: str | None, now_s: float) -> Read:
    if parser is None:
        with _opened(path) as file:
            parser = None if next((line[:1] for line in file if line.strip()), b"{") in _STRUCTURED else AUTO
    forms = Forms(now_s, parser)

    def read(lines: Sequence[bytes]) -> tuple[list[Event], list[int], Sequence[bytes]]:
        found = [(event, n) for n, events in enumerate(forms.read(lines)) for event in events]
        return [event for event, _ in found], [n for _, n in found], lines

    return read


def _file(path: Path, tenant: str, read: Read, advance: Callable[[int], None]) -> Iterator[Batch]:
    number = 1
    with _opened(path) as file:
        while block := file.readlines(BLOCK_LINES * LINE_BYTES_USUAL):
            for start in range(0, len(block), BLOCK_LINES):
                lines = [line.rstrip(b"\r\n") for line in block[start : start + BLOCK_LINES]]
                events, line_of, lines_read = read(lines)
                if events:
                    places = [f"{path}:{number + n}" for n in line_of]
                    yield Batch(tenant, events[0].timestamp, events, places, [lines_read[n] for n in line_of])
                number += len(lines)
                advance(sum(map(len, lines)) + len(lines))


def _merged(parts: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
    """One after the other event by event, so that correlations see all files in one order of time."""
    if len(parts) == 1:
        yield from parts[0]
        return
    rows = heapq.merge(*map(_rows, parts), key=itemgetter(0))
    for tenant, run in groupby(rows, key=itemgetter(1)):
        while some := list(islice(run, BLOCK_LINES)):
            times, _, events, places, lines = zip(*some, strict=True)
            yield Batch(tenant, times[0], list(events), list(places), list(lines))


def _rows(batches: Iterator[Batch]) -> Iterator[tuple[float, str, Event, str, bytes]]:
    time = 0.0
    for batch in batches:
        for event, place, line in zip(batch.events, batch.places, batch.lines, strict=True):
            time = max(time, event.timestamp)
            yield time, batch.tenant, event, place, line


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def _within(batches: Iterator[Batch], window: Window) -> Iterator[Batch]:
    if window == Window():
        yield from batches
        return
    for batch in batches:
        if window.tenant not in {None, batch.tenant}:
            continue
        kept = [n for n, event in enumerate(batch.events) if window.since <= event.timestamp < window.until]
        if kept:
            yield Batch(
                batch.tenant,
                batch.time,
                [batch.events[n] for n in kept],
                [batch.places[n] for n in kept],
                [batch.lines[n] for n in kept],
            )
