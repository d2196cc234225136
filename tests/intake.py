"""A source at work on the embedded broker, for the tests of sources."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from connectors.inlet import SourceConfig
from shield.broker import Broker, EmbeddedConfig, open_broker
from shield.ingest import Limits, SourceClass, Tally, TopicInlet, ingest

QUICK = Limits(gather_s=0.005, retry_first_s=0.01, retry_max_s=0.05, source_retry_first_s=0.01, source_retry_max_s=0.05)


def broker_at(path: Path, member: str = "ingest-0") -> Broker:
    return open_broker(EmbeddedConfig(path=str(path / "broker.db"), partitions=2), member=member)


def lines_of(broker: Broker) -> list[bytes]:
    """All lines of the raw topic, as the detect role splits them."""
    lines: list[bytes] = []
    for record in broker.read("raw"):
        found = record.value.split(b"\n") if record.headers["framing"] == "lines" else [record.value]
        assert len(found) == int(record.headers["lines"])
        lines += found
    return lines


def dead_of(broker: Broker) -> list[tuple[str, bytes]]:
    return [(record.headers["reason"], record.value) for record in broker.read("dead")]


@asynccontextmanager
async def running(
    broker: Broker, use: SourceClass, config: SourceConfig, *, limits: Limits = QUICK
) -> AsyncIterator[tuple[Tally, asyncio.Event]]:
    """The ingest role with one source; leaving it is an orderly stop."""
    counts, stop = Tally(), asyncio.Event()
    inlet = TopicInlet(broker, "ingest-0", limits=limits, counts=counts)
    role = asyncio.create_task(ingest(inlet, [(use, config)], stop=stop))
    try:
        yield counts, stop
    finally:
        stop.set()
        assert await role


async def lines_arrive(broker: Broker, count: int) -> list[bytes]:
    """Wait until that many lines are durable; the test's time limit ends a wait in vain."""
    while len(lines := lines_of(broker)) < count:  # noqa: ASYNC110 -- a file gives no event
        await asyncio.sleep(0.01)
    return lines


async def counted(counts: Tally, name: str, amount: int = 1) -> None:
    while counts.totals.get(name, 0) < amount:  # noqa: ASYNC110 -- neither does a count
        await asyncio.sleep(0.01)


def unused_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
