"""The ingest role: what all sources hand over meanwhile goes into the raw topic with one commit, positions included."""

import asyncio
import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec
import structlog

from connectors.inlet import Counts, Inlet, SourceConfig
from shield.broker import Broker, BrokerDown, Change, Fenced, Out

log = structlog.get_logger()

BEAT_S = 1.0
RAW = "raw"
DEAD = "dead"
_COMMIT_KEY = b"commit"  # names the last commit, so that a commit in doubt is never repeated
_POSITION = b"position/"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a commit closes, how large a raw record grows, and how failures are retried."""

    gather_s: float = 0.05  # wait for more before committing little
    commit_lines_max: int = 20_000
    commit_bytes_max: int = 8_000_000
    record_lines_max: int = 500
    record_bytes_max: int = 524_288  # a longer line is a record of its own
    record_span_s: float = 1.0  # lines of one record arrived within this time
    pending_bytes_max: int = 64_000_000  # `behind` above half of it
    retry_first_s: float = 0.1
    retry_max_s: float = 30.0
    source_retry_first_s: float = 1.0
    source_retry_max_s: float = 60.0
    stop_s: float = 20.0  # to finish what has been accepted


class Source(Protocol):
    async def run(self) -> None: ...


SourceClass = Callable[[Any, Inlet], Source]


class Tally:
    """Counts in memory; the metrics take its place where they are served."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}

    def add(self, name: str, amount: int = 1) -> None:
        self.totals[name] = self.totals.get(name, 0) + amount


class _Put(msgspec.Struct, eq=False):
    """One hand-over that waits for its commit."""

    tenant: str
    source: str
    received: float
    lines: Sequence[bytes]
    dead: Sequence[tuple[str, bytes]]  # reason, original bytes
    position: tuple[str, bytes] | None
    bytes: int
    done: asyncio.Future[None]


class TopicInlet:
    """The inlet over a broker. Puts become durable in the order of their calls, many in one commit.

    A put waits until it is durable, so what is pending is bounded by what the sources hold; while the broker fails,
    nothing is given up and senders are slowed down. All calls of the broker come from one thread.
    """

    def __init__(
        self,
        broker: Broker,
        member: str,
        *,
        limits: Limits | None = None,
        counts: Counts | None = None,
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.counts: Counts = counts or Tally()
        self.limits = limits or Limits()
        self.pending_lines = 0
        self.pending_bytes = 0
        self._broker = broker
        self._partition = (member, 0)
        self._now = now
        self._rng = rng or random.Random()  # noqa: S311 -- jitter
        self._queue: deque[_Put] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False
        self._down = False
        self._state: dict[bytes, bytes] = {}
        self._instance = os.urandom(8)
        self._commits = 0
        self._thread = ThreadPoolExecutor(1, "broker")

    @property
    def behind(self) -> bool:
        return self.pending_bytes > self.limits.pending_bytes_max // 2

    @property
    def down(self) -> bool:
        return self._down

    def position(self, key: str) -> bytes | None:
        return self._state.get(_POSITION + key.encode())

    async def put(
        self,
        config: SourceConfig,
        lines: Sequence[bytes],
        *,
        position: tuple[str, bytes] | None = None,
        tenant: str = "",
        source: str = "",
    ) -> None:
        dead: list[tuple[str, bytes]] = []
        if lines and max(map(len, lines)) > config.line_bytes_max:
            limit = config.line_bytes_max
            dead = [("rest of a line longer than line_bytes_max", line[limit:]) for line in lines if len(line) > limit]
            lines = [line[:limit] for line in lines]
            self.counts.add("lines_truncated", len(dead))
        await self._enqueue(tenant or config.tenant, source or config.source, lines, dead, position)

    async def dead(self, config: SourceConfig, reason: str, body: bytes) -> None:
        self.counts.add("dead")
        await self._enqueue(config.tenant, config.source, (), [(reason, body)], None)

    async def restore(self) -> None:
        """Read the committed positions; before any source runs. Waits for a broker that is down."""

        def read() -> None:
            self._state = self._broker.restore(self._partition)

        await self._persist(read)

    async def commit_all(self) -> None:
        """Commit what is put, until `close` has been called and nothing is left. Raises Replaced."""
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if not (self._full.is_set() or self._closing):
                try:
                    async with asyncio.timeout(self.limits.gather_s):
                        await self._full.wait()
                except TimeoutError:
                    pass
            puts = self._take()
            await self._commit(puts)
            for put in puts:
                self.pending_lines -= len(put.lines)
                self.pending_bytes -= put.bytes
                if not put.done.done():
                    put.done.set_result(None)

    def close(self) -> None:
        """Let `commit_all` end once everything is committed."""
        self._closing = True
        self._arrived.set()
        self._full.set()

    def shutdown(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _enqueue(
        self,
        tenant: str,
        source: str,
        lines: Sequence[bytes],
        dead: Sequence[tuple[str, bytes]],
        position: tuple[str, bytes] | None,
    ) -> None:
        if not lines and not dead and position is None:
            return
        size = sum(map(len, lines)) + sum(len(body) for _, body in dead)
        done = asyncio.get_running_loop().create_future()
        put = _Put(tenant, source, self._now(), lines, dead, position, size, done)
        self._queue.append(put)
        self.pending_lines += len(lines)
        self.pending_bytes += size
        self._arrived.set()
        limits = self.limits
        if self.pending_lines >= limits.commit_lines_max or self.pending_bytes >= limits.commit_bytes_max:
            self._full.set()
        try:
            await done
        except asyncio.CancelledError:
            if put in self._queue:  # not under way yet: it never happened, a repetition is no duplicate
                self._queue.remove(put)
                self.pending_lines -= len(put.lines)
                self.pending_bytes -= put.bytes
            raise

    def _take(self) -> list[_Put]:
        puts: list[_Put] = []
        lines = size = 0
        while self._queue and lines < self.limits.commit_lines_max and size < self.limits.commit_bytes_max:
            put = self._queue.popleft()
            puts.append(put)
            lines += len(put.lines)
            size += put.bytes
        if not self._queue and not self._closing:
            self._full.clear()
        return puts

    async def _commit(self, puts: list[_Put]) -> None:
        self._commits += 1
        before = self._state.get(_COMMIT_KEY)
        name = self._instance + self._commits.to_bytes(8, "big")
        changed: dict[bytes, bytes | None] = {_COMMIT_KEY: name}
        for put in puts:
            if put.position:
                key, value = put.position
                changed[_POSITION + key.encode()] = value or None
        changes = [Change(self._partition, key, value) for key, value in changed.items()]
        outbox: list[Out] = []
        in_doubt = False

        def commit() -> None:
            nonlocal in_doubt
            if in_doubt:
                found = self._broker.restore(self._partition).get(_COMMIT_KEY)
                if found == name:
                    return
                if found != before:
                    raise Replaced(f"another process writes as {self._partition[0]!r}")
            if not outbox:
                outbox.extend(records(puts, self.limits))
            in_doubt = True
            self._broker.commit(None, outbox, changes)

        await self._persist(commit)
        self.counts.add("commits")
        self.counts.add("records", len(outbox))
        state = {**self._state, **changed}
        self._state = {key: value for key, value in state.items() if value is not None}

    async def _persist(self, call: Callable[[], None]) -> None:
        """Run `call` in the broker's thread until it succeeds: capped exponential backoff with full jitter."""
        loop = asyncio.get_running_loop()
        pause = self.limits.retry_first_s
        while True:
            try:
                await loop.run_in_executor(self._thread, call)
            except (BrokerDown, Fenced) as error:
                if not self._down:
                    log.warning("broker refuses: nothing is given up, senders wait", error=str(error))
                self._down = True
                self.counts.add("commit_retries")
                await asyncio.sleep(self._rng.uniform(0.0, pause))
                pause = min(pause * 2, self.limits.retry_max_s)
            else:
                if self._down:
                    log.info("broker is back", pending_lines=self.pending_lines)
                self._down = False
                return


class Replaced(RuntimeError):  # noqa: N818 -- named as what happened, like Fenced
    """Another process writes under this member's name and has gone on from the same positions: exit."""


def records(puts: Iterable[_Put], limits: Limits) -> list[Out]:
    """Raw records and dead letters of some puts. Lines of one tenant and source are joined in their order.

    A line that holds a newline is a record of its own, framing `single`; the other records are `lines`.
    """
    outs: list[Out] = []
    waiting: dict[tuple[str, str], tuple[float, list[bytes]]] = {}
    for put in puts:
        whose = (put.tenant, put.source)
        if put.lines:
            received, lines = waiting.setdefault(whose, (put.received, []))
            if put.received - received > limits.record_span_s:
                outs += _joined(*whose, received, lines, limits)
                received, lines = waiting[whose] = (put.received, [])
            lines += put.lines
        for reason, body in put.dead:
            headers = {"tenant": put.tenant, "source": put.source, "reason": reason, "stage": "ingest"}
            outs += [
                Out(DEAD, put.tenant.encode(), piece, put.received, headers)
                for piece in _pieces(body, limits.record_bytes_max)
            ]
    for whose, (received, lines) in waiting.items():
        outs += _joined(*whose, received, lines, limits)
    return outs


def _joined(tenant: str, source: str, received: float, lines: list[bytes], limits: Limits) -> list[Out]:
    key = tenant.encode()
    outs = []
    for at in range(0, len(lines), limits.record_lines_max):
        for value, count in _values(lines[at : at + limits.record_lines_max], limits.record_bytes_max):
            framing = "lines" if count else "single"
            headers = {"tenant": tenant, "source": source, "framing": framing, "lines": str(count or 1)}
            outs.append(Out(RAW, key, value, received, headers))
    return outs


def _values(lines: list[bytes], bytes_max: int) -> list[tuple[bytes, int]]:
    """Values with their number of lines; 0 for a line that holds newlines itself."""
    joined = b"\n".join(lines)
    if len(joined) <= bytes_max and joined.count(b"\n") == len(lines) - 1:
        return [(joined, len(lines))]
    values: list[tuple[bytes, int]] = []
    run: list[bytes] = []
    size = 0
    for line in lines:
        single = b"\n" in line
        if run and (single or size + len(line) > bytes_max):
            values.append((b"\n".join(run), len(run)))
            run, size = [], 0
        if single:
            values.append((line, 0))
        else:
            run.append(line)
            size += len(line) + 1
    if run:
        values.append((b"\n".join(run), len(run)))
    return values


def _pieces(body: bytes, bytes_max: int) -> list[bytes]:
    return [body[at : at + bytes_max] for at in range(0, max(1, len(body)), bytes_max)]


async def ingest(
    inlet: TopicInlet,
    sources: Sequence[tuple[SourceClass, SourceConfig]],
    *,
    stop: asyncio.Event | None = None,
    rng: random.Random | None = None,
) -> bool:
    """Run sources until `stop` is set or all of them have ended (replay); true when everything taken in is committed.

    A source that fails is started again, apart from the others. Raises Replaced.
    """
    stop = stop or asyncio.Event()
    rng = rng or random.Random()  # noqa: S311 -- jitter
    halt = asyncio.create_task(stop.wait())
    restore = asyncio.create_task(inlet.restore())
    commits: asyncio.Task[None] | None = None
    ended: asyncio.Task[None] | None = None
    finish: asyncio.Task[None] | None = None
    tasks: list[asyncio.Task[None]] = []
    try:
        await asyncio.wait([restore, halt], return_when=asyncio.FIRST_COMPLETED)
        if not restore.done():
            return True  # stopped before anything was taken in
        restore.result()
        commits = asyncio.create_task(inlet.commit_all())
        tasks = [asyncio.create_task(_keep_running(use, config, inlet, rng)) for use, config in sources]
        ended = asyncio.create_task(_all(tasks))
        await asyncio.wait([commits, halt, ended], return_when=asyncio.FIRST_COMPLETED)
        if not commits.done():
            finish = asyncio.create_task(_finish(inlet, tasks, commits))
            await asyncio.wait([commits, finish], timeout=inlet.limits.stop_s, return_when=asyncio.FIRST_COMPLETED)
        if commits.done():
            commits.result()
        if inlet.pending_lines:
            log.error("stopped with lines that the broker did not take", lines=inlet.pending_lines)
        return not inlet.pending_lines
    finally:
        # First the commits, then the sources: a put called off before a later one commits would leave a hole in a file.
        others = [task for task in (commits, restore, halt, ended, finish, *tasks) if task]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        inlet.shutdown()


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def _finish(inlet: TopicInlet, tasks: Sequence[asyncio.Task[None]], commits: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await _all(tasks)
    inlet.close()
    await asyncio.wait([commits])


async def _keep_running(use: SourceClass, config: SourceConfig, inlet: TopicInlet, rng: random.Random) -> None:
    limits = inlet.limits
    clock = asyncio.get_running_loop().time
    pause = limits.source_retry_first_s
    while True:
        begun = clock()
        try:
            await use(config, inlet).run()
        except Exception:  # the supervisor: one failing source never stops the others
            inlet.counts.add("source_failures")
            log.exception("source failed, it is started again", tenant=config.tenant, source=config.source)
        else:
            return
        if clock() - begun > limits.source_retry_max_s:
            pause = limits.source_retry_first_s
        await asyncio.sleep(rng.uniform(pause / 2, pause))
        pause = min(pause * 2, limits.source_retry_max_s)


def run(
    broker: Broker,
    member: str,
    sources: Sequence[tuple[SourceClass, SourceConfig]],
    *,
    limits: Limits | None = None,
    counts: Counts | None = None,
    turned: Callable[[], None] = lambda: None,
) -> bool:
    """The process: until SIGTERM or SIGINT, or the end of a replay. False when lines could not be committed.

    `turned` is called every second while the loop runs (liveness).
    """

    async def beat() -> None:
        while True:
            turned()
            await asyncio.sleep(BEAT_S)

    async def until_signal() -> bool:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        beating = asyncio.create_task(beat())
        try:
            return await ingest(TopicInlet(broker, member, limits=limits, counts=counts), sources, stop=stop)
        finally:
            beating.cancel()

    return asyncio.run(until_signal())
