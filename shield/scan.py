"""The whole pipeline once over files, without a server and leaving nothing behind: the same stages, state and alerts as live."""

import gc
import glob
import gzip
import heapq
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import msgspec

from connectors.inlet import SourceConfig
from connectors.parse import Reader
from detectors.facts import Feature
from shield.broker import Out, Partition, Record, partition_of
from shield.config import Config
from shield.models import train
from shield.pipeline import RawStage, SignalStage, Tally

BLOCK_LINES = 500  # lines of one file that are taken together when files are merged by time
BATCH_LINES = 20_000
PEEK_LINES = 50  # lines of a block that are looked at for its time
LINE_BYTES_USUAL = 300  # sizes the reads
LANES = 4


class Block(msgspec.Struct):
    """Consecutive lines of one source; `time` is its first readable event time. Without lines: the file has ended."""

    time: float
    config: SourceConfig
    lines: list[bytes]


def merged(
    files: Sequence[tuple[SourceConfig, Path]], received: float, block_lines: int = BLOCK_LINES
) -> Iterator[Block]:
    """Blocks of all files in the order of their event times. Raises OSError for a file that cannot be read."""
    heap: list[tuple[float, int, Block, Iterator[Block]]] = []
    for number, (config, path) in enumerate(files):
        blocks = _blocks(config, path, received, block_lines)
        block = next(blocks)
        heap.append((block.time, number, block, blocks))
    heapq.heapify(heap)
    while heap:
        _, number, block, blocks = heap[0]
        yield block
        following = next(blocks, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following.time, number, following, blocks))


def files_of(config: Config) -> list[tuple[SourceConfig, Path]]:
    """The files behind the file sources of a configuration. Raises FileNotFoundError when one has none."""
    found: list[tuple[SourceConfig, Path]] = []
    for source in config.sources:
        pattern = getattr(source, "path", None)
        if pattern is None:
            continue
        path = Path(pattern)
        paths = sorted(map(Path, glob.glob(pattern, recursive=True))) if any(c in pattern for c in "*?[") else [path]  # noqa: PTH207 - as the file source
        missing = [p for p in paths if not p.is_file()] or ([] if paths else [path])
        if missing:
            raise FileNotFoundError(2, os.strerror(2), str(missing[0]))
        found += [(source, p) for p in paths]
    return found


class Scan:
    """One run. `tally` counts as live; `on_alert` is told (kind, document) of each alert as it is sent."""

    def __init__(
        self, config: Config, raw: RawStage, signals: SignalStage, on_alert: Callable[[str, bytes], None]
    ) -> None:
        self.tally = Tally()
        self._config = config
        self._raw = raw
        self._signals = signals
        self._on_alert = on_alert
        self._offsets = itertools.count()
        self._history: list[Feature] = []

    def run(
        self, *, now: float, learn_until: float | None = None, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """All files once. Lines before `learn_until` only teach; there models are trained. `progress` is told bytes."""
        gc.freeze()  # as the detect role does
        gc.disable()
        try:
            self._run(now, learn_until, progress)
        finally:
            gc.enable()
            gc.unfreeze()

    def _run(self, now: float, learn_until: float | None, progress: Callable[[int], None]) -> None:
        files = files_of(self._config)
        if learn_until is not None:
            self._signals.paused_at = int(-(-learn_until // 60))
        open_files: dict[tuple[str, str], int] = {}
        for source, path in files:
            key = (source.tenant, source.source)
            first = next(_blocks(source, path, now, 1))
            if first.lines and key not in open_files:
                self._raw.await_source(_lane(source.tenant), source.tenant, source.source, first.time, now)
            open_files[key] = open_files.get(key, 0) + 1
        batch: list[Record] = []
        lines = 0
        for block in merged(files, now):
            source = block.config
            if block.lines:
                batch.append(self._record(source, block.lines, now))
                lines += len(block.lines)
                progress(sum(map(len, block.lines)) + len(block.lines))
            else:
                open_files[source.tenant, source.source] -= 1
                if not open_files[source.tenant, source.source]:
                    self._take(batch)
                    batch, lines = [], 0
                    self._raw.dismiss_source(_lane(source.tenant), source.tenant, source.source)
            if lines >= BATCH_LINES:
                self._take(batch)
                batch, lines = [], 0
        self._take(batch)
        if self._signals.paused_at is not None:
            self._emit(self._signals.finish(self.tally))
            self._learned()
        self._emit(self._signals.finish(self.tally))

    def _record(self, source: SourceConfig, lines: list[bytes], now: float) -> Record:
        topic, number = _lane(source.tenant)
        headers = {"tenant": source.tenant, "source": source.source, "framing": "lines"}
        return Record(topic, number, next(self._offsets), source.tenant.encode(), b"\n".join(lines), now, headers)

    def _take(self, batch: list[Record]) -> None:
        if not batch:
            return
        outbox, _ = self._raw.process(batch, self.tally)
        records = [
            Record(o.topic, partition_of(o.key, LANES), next(self._offsets), o.key, o.value, o.time, o.headers)
            for o in outbox
            if o.topic == "signals"
        ]
        made, _ = self._signals.process(records, self.tally)
        self._emit(made)
        if self._signals.paused_at is not None and self._raw.watermark() >= self._signals.paused_at * 60.0:
            self._learned()

    def _emit(self, made: Sequence[Out]) -> None:
        for out in made:
            if out.topic == "alerts":
                self._on_alert(out.headers["kind"], out.value)
            elif out.topic == "features" and self._signals.paused_at is not None:
                self._history.append(msgspec.msgpack.decode(out.value, type=Feature))

    def _learned(self) -> None:
        behaviour = self._signals.behaviour
        learning = self._config.learning.within(_days(self._history))
        behaviour.learning = learning
        config = msgspec.structs.replace(self._config, learning=learning)
        models, thresholds = train(self._history, config, behaviour.fingerprints)
        self._signals.take_models(models)
        self._signals.take_thresholds(thresholds)
        self._signals.paused_at = None
        self._history.clear()


def _days(history: Sequence[Feature]) -> int:
    """Of the tenant that was seen longest."""
    days: dict[str, set[int]] = {}
    for feature in history:
        days.setdefault(feature.tenant, set()).add(feature.day)
    return max(map(len, days.values()), default=0)


def _lane(tenant: str) -> Partition:
    return ("raw", partition_of(tenant.encode(), LANES))


def _blocks(config: SourceConfig, path: Path, received: float, block_lines: int) -> Iterator[Block]:
    """The file's blocks and its end. A block without a readable time takes the one before it."""
    peek = Reader(config.parser, config.tenant, config.source, config.timezone, config.year)
    last = 0.0
    with cast("IO[bytes]", gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as file:
        while lines := file.readlines(block_lines * LINE_BYTES_USUAL):
            for start in range(0, len(lines), block_lines):
                part = [line.rstrip(b"\r\n") for line in lines[start : start + block_lines]]
                for line in part[:PEEK_LINES]:
                    events = peek.read([line], received).events
                    if events:
                        last = max(last, events[0].timestamp)
                        break
                yield Block(last, config, part)
    yield Block(last, config, [])
