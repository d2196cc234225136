import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from intake import QUICK, broker_at, dead_of, lines_of, running, unused_port

from connectors.inlet import Inlet, SourceConfig
from connectors.topic import Config as TopicConfig
from connectors.topic import Source as TopicSource
from shield.broker import Batch, Broker, BrokerDown, Change, Fenced, Out
from shield.ingest import Limits, Replaced, Tally, TopicInlet, _Put, ingest, records

pytestmark = pytest.mark.timeout(60)

NET = SourceConfig(tenant="town", source="net")
WEB = SourceConfig(tenant="village", source="web", line_bytes_max=100)


def puts(*given: tuple[SourceConfig, float, list[bytes]]) -> list[_Put]:
    loop = asyncio.new_event_loop()
    done = loop.create_future()
    loop.close()
    return [
        _Put(config.tenant, config.source, received, lines, (), None, sum(map(len, lines)), done)
        for config, received, lines in given
    ]


def split(out: Out) -> list[bytes]:
    return out.value.split(b"\n") if out.headers["framing"] == "lines" else [out.value]


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=60), st.integers(1, 20), st.integers(10, 60))
def test_records_give_back_the_lines_in_order(lines: list[bytes], lines_max: int, bytes_max: int) -> None:
    outs = records(puts((NET, 1.0, lines)), Limits(record_lines_max=lines_max, record_bytes_max=bytes_max))
    assert [line for out in outs for line in split(out)] == lines
    for out in outs:
        assert len(split(out)) == int(out.headers["lines"]) <= lines_max
        assert len(out.value) <= bytes_max or out.headers["lines"] == "1"
        assert (out.topic, out.key, out.headers["tenant"], out.headers["source"]) == ("raw", b"town", "town", "net")


def test_records_never_mix_tenants_or_times() -> None:
    given = puts((NET, 1.0, [b"a"]), (WEB, 1.1, [b"b"]), (NET, 1.2, [b"c"]), (NET, 9.0, [b"d"]))
    outs = records(given, Limits())
    assert sorted((out.key, out.value, out.time) for out in outs) == [
        (b"town", b"a\nc", 1.0),
        (b"town", b"d", 9.0),
        (b"village", b"b", 1.1),
    ]


class Flaky:
    """The embedded broker with a commit or restore that fails when told to, before or after it has happened."""

    def __init__(self, broker: Broker, faults: Iterable[tuple[type[Exception], bool]]) -> None:
        self._broker = broker
        self._faults = list(faults)
        self.sizes: list[int] = []

    def commit(self, batch: Batch | None, outbox: Iterable[Out], changes: Iterable[Change]) -> None:
        outs = list(outbox)
        self.sizes.append(sum(int(out.headers.get("lines", "0")) for out in outs))
        fault, happened = self._faults.pop(0) if self._faults else (None, True)
        if happened:
            self._broker.commit(batch, outs, changes)
        if fault:
            raise fault("told to fail")

    def __getattr__(self, name: str) -> object:
        return getattr(self._broker, name)


def ingested(broker: object, scene: Callable[[TopicInlet], object], limits: Limits = QUICK) -> Tally:
    """Run a scene as the only source."""
    inlet: TopicInlet

    class Scene:
        def __init__(self, config: SourceConfig, inlet: Inlet) -> None:
            pass

        async def run(self) -> None:
            await scene(inlet)  # type: ignore[misc]

    async def role() -> None:
        nonlocal inlet
        inlet = TopicInlet(broker, "ingest-0", limits=limits, rng=random.Random(1))  # type: ignore[arg-type]
        assert await ingest(inlet, [(Scene, NET)])

    asyncio.run(role())
    assert inlet.pending_lines == inlet.pending_bytes == 0
    assert isinstance(inlet.counts, Tally)
    return inlet.counts


def test_puts_of_all_sources_share_a_commit_and_positions_come_with_it(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)
    flaky = Flaky(broker, [])

    async def scene(inlet: TopicInlet) -> None:
        assert inlet.position("file") is None
        await asyncio.gather(
            *(inlet.put(NET, [b"line %d" % n], position=("file", b"%d" % n)) for n in range(100)),
            inlet.put(WEB, [b"x" * 150, b"two\nlines"]),
            inlet.put(WEB, [b"other"], tenant="hamlet", source="shop"),
            inlet.dead(WEB, "unreadable", b"\xff" * 600_000),
        )
        assert inlet.position("file") == b"99"

    counts = ingested(flaky, scene)
    assert flaky.sizes == [103]
    assert counts.totals["commits"] == 1
    assert counts.totals["records"] == 1 + 2 + 1 + 1 + 2
    assert sorted(lines_of(broker)) == sorted(
        [*(b"line %d" % n for n in range(100)), b"x" * 100, b"two\nlines", b"other"]
    )
    assert [(r.key, r.headers["tenant"], r.headers["source"]) for r in broker.read("raw") if r.value == b"other"] == [
        (b"hamlet", "hamlet", "shop")
    ]
    dead = dead_of(broker)
    assert ("rest of a line longer than line_bytes_max", b"x" * 50) in dead
    assert b"".join(body for reason, body in dead if reason == "unreadable") == b"\xff" * 600_000

    async def again(inlet: TopicInlet) -> None:
        assert inlet.position("file") == b"99"
        await inlet.put(NET, [], position=("file", b""))
        assert inlet.position("file") is None

    ingested(broker, again)
    broker.close()


@pytest.mark.parametrize("happened", [False, True], ids=["refused", "in doubt"])
@pytest.mark.parametrize("fault", [BrokerDown, Fenced])
def test_a_failing_broker_neither_loses_nor_doubles(tmp_path: Path, fault: type[Exception], happened: bool) -> None:
    broker = broker_at(tmp_path)
    seen: list[bool] = []

    async def scene(inlet: TopicInlet) -> None:
        for n in range(5):
            put = asyncio.create_task(inlet.put(NET, [b"%d" % n]))
            while not put.done():
                seen.append(inlet.down)
                await asyncio.sleep(0.001)

    counts = ingested(Flaky(broker, [(fault, happened)] * 3), scene)
    assert lines_of(broker) == [b"0", b"1", b"2", b"3", b"4"]
    assert counts.totals["commit_retries"] == 3
    assert any(seen)
    assert not seen[-1]
    broker.close()


def test_two_processes_of_one_name_do_not_both_go_on(tmp_path: Path) -> None:
    first, second = broker_at(tmp_path), broker_at(tmp_path)

    async def scene() -> None:
        old = TopicInlet(first, "ingest-0", limits=QUICK)
        new = TopicInlet(second, "ingest-0", limits=QUICK)
        await old.restore()
        old_commits = asyncio.create_task(old.commit_all())
        await old.put(NET, [b"1"], position=("file", b"1"))
        await new.restore()
        assert new.position("file") == b"1"
        new_commits = asyncio.create_task(new.commit_all())
        await new.put(NET, [b"2"], position=("file", b"2"))
        late = asyncio.create_task(old.put(NET, [b"2"], position=("file", b"2")))
        with pytest.raises(Replaced):
            await old_commits
        late.cancel()
        await new.put(NET, [b"3"])
        new.close()
        await new_commits
        old.shutdown()
        new.shutdown()

    asyncio.run(scene())
    assert lines_of(second) == [b"1", b"2", b"3"]
    first.close()
    second.close()


def test_behind_says_so_above_half_and_a_cancelled_put_never_happened(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)

    async def scene() -> None:
        inlet = TopicInlet(broker, "ingest-0", limits=Limits(pending_bytes_max=1_000, gather_s=0.0))
        waiting = [asyncio.create_task(inlet.put(NET, [b"x" * 100])) for _ in range(6)]
        await asyncio.sleep(0)
        assert inlet.behind
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        assert not inlet.behind
        await inlet.restore()
        inlet.close()
        await inlet.commit_all()
        await asyncio.gather(*waiting[1:])
        inlet.shutdown()

    asyncio.run(scene())
    assert len(lines_of(broker)) == 5
    broker.close()


def test_a_failing_source_is_started_again_and_stops_no_other(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)
    starts: list[float] = []

    class Failing:
        def __init__(self, config: SourceConfig, inlet: Inlet) -> None:
            self.config, self.inlet = config, inlet

        async def run(self) -> None:
            starts.append(0.0)
            if len(starts) < 4:
                raise OSError("no such port")
            await self.inlet.put(self.config, [b"at last"])

    class Steady(Failing):
        async def run(self) -> None:
            await self.inlet.put(self.config, [b"steady"])

    async def scene() -> None:
        counts = Tally()
        inlet = TopicInlet(broker, "ingest-0", limits=QUICK, counts=counts)
        assert await ingest(inlet, [(Failing, NET), (Steady, WEB)])
        assert counts.totals["source_failures"] == 3

    asyncio.run(scene())
    assert sorted(lines_of(broker)) == [b"at last", b"steady"]
    broker.close()


def test_stopping_with_a_dead_broker_ends_and_says_that_lines_are_lost(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)
    flaky = Flaky(broker, [(BrokerDown, False)] * 10_000)
    limits = msgspec.structs.replace(QUICK, stop_s=0.1)

    stop = asyncio.Event()

    class Accepting:
        def __init__(self, config: SourceConfig, inlet: Inlet) -> None:
            self.config, self.inlet = config, inlet

        async def run(self) -> None:
            stop.set()
            await asyncio.shield(asyncio.create_task(self.inlet.put(self.config, [b"accepted"])))

    async def scene() -> bool:
        inlet = TopicInlet(flaky, "ingest-0", limits=limits)  # type: ignore[arg-type]
        return await ingest(inlet, [(Accepting, NET)], stop=stop)

    assert asyncio.run(scene()) is False
    broker.close()


def test_a_topic_source_is_only_configuration(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)
    config = TopicConfig(tenant="town", source="beats", topic="filebeat")
    assert config.foreign == "=filebeat"

    async def scene() -> None:
        async with running(broker, TopicSource, config) as (counts, _):
            assert counts.totals == {}

    asyncio.run(scene())
    broker.close()


PROCESS = """
import sys
from pathlib import Path
from connectors.syslog import Config, Source
from intake import broker_at
from shield.ingest import run
config = Config(tenant="town", source="net", listen=("tcp://127.0.0.1:%d",))
sys.exit(0 if run(broker_at(Path(sys.argv[1])), "ingest-0", [(Source, config)]) else 1)
"""


def test_sigterm_flushes_and_exits_with_0(tmp_path: Path) -> None:
    free_port = unused_port()
    broker_at(tmp_path).close()
    code = textwrap.dedent(PROCESS) % free_port
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"}
    with subprocess.Popen([sys.executable, "-W", "error", "-c", code, str(tmp_path)], env=environment) as process:

        async def scene() -> None:
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", free_port)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
            writer.write(b"".join(b"<13>%d\n" % n for n in range(5_000)))
            await writer.drain()
            broker = broker_at(tmp_path, "looker-on")
            while not lines_of(broker):  # noqa: ASYNC110 -- a file gives no event
                await asyncio.sleep(0.01)
            broker.close()
            process.send_signal(signal.SIGTERM)
            writer.close()

        asyncio.run(scene())
        assert process.wait(20) == 0
    broker = broker_at(tmp_path, "looker-on")
    lines = lines_of(broker)
    assert lines == [b"<13>%d" % n for n in range(len(lines))]
    broker.close()
