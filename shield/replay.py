"""Feeds files into a running system: raw records as the sources would write them, merged by event time, at a chosen speed."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from connectors.inlet import SourceConfig
from shield.broker import Broker, Out, open_broker
from shield.config import Config
from shield.scan import Block, merged

GROUP, RAW = "detect", "raw"
BACKLOG_MAX = 200  # raw records that may wait before a replay holds back
BLOCK_LINES = 200
BLOCKS_PER_COMMIT = 20
PACED_BLOCK_LINES = 20  # small blocks where the pace matters
WAIT_S = 0.05


def pace(speed: str) -> float | None:
    """None for `max`, else how many times faster than it happened. Raises ValueError."""
    if speed == "max":
        return None
    try:
        factor = 1.0 if speed == "real" else float(speed)
    except ValueError:
        factor = 0.0
    if factor <= 0:
        raise ValueError(f"--speed: `{speed}` is neither max, real nor a number above 0")
    return factor


class Replay:
    """One feeder. Lines keep their order per file; files are merged by event time."""

    def __init__(
        self, config: Config, now: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._config = config
        self._now = now
        self._sleep = sleep

    def run(
        self,
        files: Sequence[tuple[SourceConfig, Path]],
        factor: float | None,
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Returns how many lines were handed over."""
        broker = open_broker(self._config.broker, member="replay")
        lines, begun, first = 0, self._now(), None
        waiting: list[Out] = []
        try:
            for block in merged(files, begun, BLOCK_LINES if factor is None else PACED_BLOCK_LINES):
                if not block.lines:
                    continue
                if factor is not None:
                    first = block.time if first is None else first
                    self._pause(begun + (block.time - first) / factor)
                waiting.append(_out(block, self._now()))
                lines += len(block.lines)
                progress(sum(map(len, block.lines)) + len(block.lines))
                if factor is not None or len(waiting) >= BLOCKS_PER_COMMIT:
                    self._commit(broker, waiting)
                    waiting = []
            self._commit(broker, waiting)
        finally:
            broker.close()
        return lines

    def _commit(self, broker: Broker, waiting: list[Out]) -> None:
        if not waiting:
            return
        while broker.backlog(RAW, GROUP) > BACKLOG_MAX:
            self._sleep(WAIT_S)
        broker.commit(None, waiting, [])

    def _pause(self, until: float) -> None:
        wait_s = until - self._now()
        if wait_s > 0:
            self._sleep(wait_s)


def _out(block: Block, now: float) -> Out:
    source = block.config
    headers = {"tenant": source.tenant, "source": source.source, "framing": "lines", "lines": str(len(block.lines))}
    return Out(RAW, source.tenant.encode(), b"\n".join(block.lines), now, headers)
