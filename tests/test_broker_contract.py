"""What every broker promises, on the embedded one and on real Apache Kafka. Run as a script this file is a worker."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from shield.broker import (
    Batch,
    Broker,
    BrokerConfig,
    BrokerDown,
    Change,
    EmbeddedConfig,
    Fenced,
    KafkaConfig,
    Limits,
    Out,
    Record,
    open_broker,
    partition_of,
)

DEADLINE_S = 60.0
QUICK = Limits(wait_s=0.05)


class Bus:
    """One broker installation; everything opened on it is closed at the end."""

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        self._opened: list[Broker] = []

    def open(self, member: str, group: str | None = None, topics: Iterable[str] = ()) -> Broker:
        broker = open_broker(self.config, group=group, member=member, topics=list(topics))
        self._opened.append(broker)
        return broker

    def crash(self, broker: Broker) -> None:
        """Not closed before the end: for the others it is a process that died or hangs."""
        self._opened.remove(broker)
        self._opened.insert(0, broker)

    def write(self, outs: Iterable[Out], *, member: str = "writer") -> None:
        writer = self.open(member)
        writer.commit(None, outs, [])
        self.close(writer)

    def close(self, broker: Broker) -> None:
        self._opened.remove(broker)
        broker.close()

    def close_all(self) -> None:
        for broker in reversed(self._opened):
            broker.close()


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    config: BrokerConfig
    if request.param == "embedded":
        config = EmbeddedConfig(path=str(tmp_path / "bus.db"), heartbeat_s=0.2, session_timeout_s=3.0)
    else:
        config = KafkaConfig(
            bootstrap_servers=request.getfixturevalue("kafka").bootstrap,
            prefix=f"t{uuid4().hex[:8]}",
            partitions=4,
            replication_factor=1,
            session_timeout_s=3.0,
            transaction_timeout_s=8.0,
        )
    made = Bus(config)
    yield made
    made.close_all()


class Worker:
    """Counts records per key in keyed state and writes one output per record: any loss or double shows in both."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.counts: dict[tuple[str, int], dict[bytes, int]] = {}
        self.batch = Batch([], [], [], caught_up=False)

    def poll(self, limits: Limits = QUICK) -> Batch:
        self.batch = self.broker.poll(limits)
        for partition in self.batch.lost:
            del self.counts[partition]
        for partition in self.batch.gained:
            self.counts[partition] = {key: int(value) for key, value in self.broker.restore(partition).items()}
        return self.batch

    def commit(self) -> None:
        changes = []
        for record in self.batch.records:
            partition = (record.topic, record.partition)
            self.counts[partition][record.key] = count = self.counts[partition].get(record.key, 0) + 1
            changes.append(Change(partition, record.key, b"%d" % count))
        self.broker.commit(self.batch, map(answer, self.batch.records), changes)

    def step(self, limits: Limits = QUICK) -> int:
        try:
            self.poll(limits)
            self.commit()
        except Fenced:
            return 0
        return len(self.batch.records)


def answer(record: Record) -> Out:
    return Out("signals", record.key, record.value, record.time)


def outs(count: int, *, keys: int = 10, start: int = 0) -> list[Out]:
    return [Out("raw", b"key-%d" % (i % keys), b"%d" % i, float(i)) for i in range(start, start + count)]


def until(done: Callable[[], bool], step: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline, "this takes too long"
        step()


def poll_until_records(broker: Broker, count: int = 1) -> tuple[Batch, set[tuple[str, int]]]:
    """Everything polled until there are `count` records, as one batch, with all partitions gained on the way."""
    records: list[Record] = []
    gained: set[tuple[str, int]] = set()

    def step() -> None:
        batch = broker.poll(QUICK)
        records.extend(batch.records)
        gained.update(batch.gained)
        gained.difference_update(set(batch.lost))

    until(lambda: len(records) >= count, step)
    return Batch(records, sorted(gained), [], caught_up=False), gained


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def values(records: Iterable[Record]) -> list[bytes]:
    return [record.value for record in records]


def state_of(bus: Bus, topic: str = "raw") -> dict[bytes, bytes]:
    reader = bus.open(f"reader-{uuid4().hex[:6]}")
    merged: dict[bytes, bytes] = {}
    for p in range(4):
        merged.update(reader.restore((topic, p)))
    bus.close(reader)
    return merged


def check_exactly_once(bus: Bus, count: int, keys: int = 10) -> None:
    reader = bus.open("check")
    seen = Counter(int(value) for value in values(reader.read("signals")))
    assert seen == Counter(range(count))
    expected = Counter(b"key-%d" % (i % keys) for i in range(count))
    assert {key: int(value) for key, value in state_of(bus).items()} == expected
    bus.close(reader)


# --- keys and order ---


def test_a_key_has_one_partition_and_keeps_its_order(bus: Bus) -> None:
    bus.write(outs(300, keys=23))
    bus.write(outs(300, keys=23, start=300), member="another")
    batch, _ = poll_until_records(bus.open("d-0", "detect", ["raw"]), 600)
    per_key: dict[bytes, list[int]] = defaultdict(list)
    for record in batch.records:
        assert record.partition == partition_of(record.key, 4)
        per_key[record.key].append(int(record.value))
    assert len({record.partition for record in batch.records}) == 4
    for key, found in per_key.items():
        assert found == sorted(found), key
        assert len(found) in {26, 27}


def test_records_come_back_as_they_were_written(bus: Bus) -> None:
    written = [
        Out("raw", b"", b"", 0.0),
        Out("raw", b"\x00\xff'; DROP TABLE records;--", bytes(range(256)), -1.5),
        Out("raw", "Straße".encode(), b"\n\n", 4e9, {"tenant": "Köln", "lines": "3", "leer": ""}),
        Out("raw", b"large", os.urandom(1_500_000), 1_700_000_000.123456),
    ]
    bus.write(written)
    batch, _ = poll_until_records(bus.open("d-0", "detect", ["raw"]), 4)
    found = [Out(r.topic, r.key, r.value, r.time, dict(r.headers)) for r in batch.records]
    assert sorted(found, key=lambda out: out.key) == sorted(written, key=lambda out: out.key)


# --- batches ---


def test_a_batch_closes_by_lines_and_nothing_is_skipped(bus: Bus) -> None:
    packed = [Out("raw", b"k%d" % (i % 7), b"x" * 10, float(i), {"lines": "10"}) for i in range(60)]
    bus.write(packed)
    broker = bus.open("d-0", "detect", ["raw"])
    sizes: list[int] = []

    def step() -> None:
        batch = broker.poll(Limits(lines_max=100, wait_s=0.3))
        assert len(batch.records) <= 10
        sizes.append(len(batch.records))
        broker.commit(batch, [], [])

    until(lambda: sum(sizes) >= 60, step)
    assert sum(sizes) == 60
    assert 10 in sizes


def test_a_batch_closes_by_bytes(bus: Bus) -> None:
    bus.write([Out("raw", b"k%d" % i, b"x" * 1000, 0.0) for i in range(40)])
    broker = bus.open("d-0", "detect", ["raw"])
    found: list[int] = []

    def step() -> None:
        batch = broker.poll(Limits(bytes_max=5000, wait_s=0.3))
        assert len(batch.records) <= 5
        found.append(len(batch.records))

    until(lambda: sum(found) >= 40, step)
    assert sum(found) == 40
    assert max(found) == 5


def test_a_batch_closes_by_time_and_says_that_all_is_read(bus: Bus) -> None:
    bus.write(outs(5))
    broker = bus.open("d-0", "detect", ["raw"])
    seen: list[bytes] = []
    caught_up = False

    def step() -> None:
        nonlocal caught_up
        batch = broker.poll(Limits(wait_s=0.1))
        seen.extend(values(batch.records))
        caught_up = batch.caught_up

    until(lambda: caught_up and len(seen) == 5, step)
    bus.write(outs(1, start=5), member="late")
    until(lambda: len(seen) == 6, step)


def test_not_caught_up_while_records_are_left(bus: Bus) -> None:
    bus.write(outs(50))
    broker = bus.open("d-0", "detect", ["raw"])
    found = 0
    while found < 50:
        batch = broker.poll(Limits(lines_max=10, wait_s=0.2))
        found += len(batch.records)
        if found < 50:
            assert not batch.caught_up


# --- atomicity ---


def test_outputs_state_and_offsets_are_committed_together(bus: Bus) -> None:
    bus.write(outs(100))
    first = Worker(bus.open("d-0", "detect", ["raw"]))
    processed = 0

    def step() -> None:
        nonlocal processed
        processed += first.step()

    until(lambda: processed >= 100, step)
    bus.close(first.broker)
    second = Worker(bus.open("d-0", "detect", ["raw"]))
    bus.write(outs(100, start=100), member="again")

    def more() -> None:
        nonlocal processed
        processed += second.step()

    until(lambda: processed >= 200, more)
    check_exactly_once(bus, 200)


def test_nothing_of_a_failed_batch_is_seen_and_all_of_it_comes_again(bus: Bus) -> None:
    bus.write(outs(20))
    broker = bus.open("d-0", "detect", ["raw"])
    batch, gained = poll_until_records(broker, 20)
    assert gained == {("raw", p) for p in range(4)}

    def breaking() -> Iterator[Out]:
        yield from map(answer, batch.records)
        raise KeyError("a fault of the worker")

    partition = ("raw", batch.records[0].partition)
    with pytest.raises(KeyError):
        broker.commit(batch, breaking(), [Change(partition, b"key", b"value")])
    reader = bus.open("reader")
    assert list(reader.read("signals")) == []
    assert state_of(bus) == {}
    assert reader.backlog("raw", "detect") >= 20
    again, gained_again = poll_until_records(broker, 20)
    assert gained_again == gained
    assert sorted(values(again.records)) == sorted(values(batch.records))
    broker.commit(again, map(answer, again.records), [Change(partition, b"key", b"value")])
    assert Counter(values(reader.read("signals"))) == Counter(values(batch.records))
    assert state_of(bus) == {b"key": b"value"}


def test_a_batch_may_be_committed_in_parts(bus: Bus) -> None:
    """A worker isolates a record that crashes it by committing what stands before it."""
    bus.write([Out("raw", b"one", b"%d" % i, 0.0) for i in range(6)])
    broker = bus.open("d-0", "detect", ["raw"])
    batch, _ = poll_until_records(broker, 6)
    for part in (batch.records[:2], batch.records[2:3]):
        broker.commit(Batch(part, [], [], caught_up=False), map(answer, part), [])
    bus.close(broker)
    again, _ = poll_until_records(bus.open("d-0", "detect", ["raw"]), 3)
    assert values(again.records) == [b"3", b"4", b"5"]


def test_state_is_what_was_committed_last_deletes_included(bus: Bus) -> None:
    bus.write([Out("raw", b"one", b"%d" % i, 0.0) for i in range(3)])
    broker = bus.open("d-0", "detect", ["raw"])
    batch, _ = poll_until_records(broker, 3)
    partition = (batch.records[0].topic, batch.records[0].partition)
    other = ("raw", (partition[1] + 1) % 4)
    puts = [Change(partition, b"k%d" % i, b"v%d" % i) for i in range(50)]
    broker.commit(batch, [], [*puts, Change(other, b"k1", b"elsewhere")])
    nothing = Batch([], [], [], caught_up=True)
    broker.commit(
        nothing, [], [Change(partition, b"k3", None), Change(partition, b"k4", b""), Change(partition, b"\0", b"\0")]
    )
    broker.commit(
        nothing, [], [Change(partition, b"k5", b"x"), Change(partition, b"k5", None), Change(partition, b"no", None)]
    )
    expected = {b"k%d" % i: b"v%d" % i for i in range(50) if i not in {3, 5}} | {b"k4": b"", b"\0": b"\0"}
    assert broker.restore(partition) == expected
    assert broker.restore(other) == {b"k1": b"elsewhere"}
    bus.close(broker)
    assert bus.open("d-1", "detect", ["raw"]).restore(partition) == expected


# --- sharing ---


def test_two_members_share_and_every_record_is_processed_once(bus: Bus) -> None:
    workers = [Worker(bus.open(f"d-{i}", "detect", ["raw"])) for i in range(2)]

    def step() -> None:
        for worker in workers:
            worker.step()

    until(lambda: all(len(worker.counts) == 2 for worker in workers), step)
    assert not set(workers[0].counts) & set(workers[1].counts)
    bus.write(outs(400))
    processed = [0, 0]

    def work() -> None:
        for i, worker in enumerate(workers):
            processed[i] += worker.step()

    until(lambda: sum(processed) >= 400, work)
    assert min(processed) > 0
    check_exactly_once(bus, 400)


def test_joining_and_leaving_loses_and_doubles_nothing(bus: Bus) -> None:
    seed = random.randrange(10**6)
    say(f"seed {seed}")
    rng = random.Random(seed)
    workers = {0: Worker(bus.open("d-0", "detect", ["raw"]))}
    writer = bus.open("writer")
    written = 0
    rounds = 12
    small = Limits(lines_max=40, wait_s=0.05)
    for round_ in range(rounds):
        writer.commit(None, outs(60, start=written), [])
        written += 60
        if len(workers) > 1 and rng.random() < 0.4:
            gone = workers.pop(rng.choice(sorted(workers)))
            if rng.random() < 0.5:
                gone.poll(small)  # leaves with a batch in its hands
            bus.close(gone.broker)
        elif len(workers) < 4:
            workers[round_ + 1] = Worker(bus.open(f"d-{round_ + 1}", "detect", ["raw"]))
        for worker in workers.values():
            worker.step(small)
    reader = bus.open("reader")

    def finish() -> None:
        for worker in workers.values():
            worker.step()

    until(lambda: reader.backlog("raw", "detect") == 0, finish)
    check_exactly_once(bus, written)


def test_a_closed_member_hands_over_at_once(bus: Bus) -> None:
    """Well before the session timeout: the other one gets everything within a few polls."""
    first, second = (Worker(bus.open(f"d-{i}", "detect", ["raw"])) for i in range(2))

    def both() -> None:
        first.step()
        second.step()

    until(lambda: len(first.counts) == len(second.counts) == 2, both)
    bus.close(first.broker)
    until(lambda: len(second.counts) == 4, second.step)


def test_a_new_process_of_the_same_name_takes_over_at_once_and_fences_the_old_one(bus: Bus) -> None:
    bus.write(outs(10))
    old = bus.open("d-0", "detect", ["raw"])
    batch, _ = poll_until_records(old, 10)
    bus.crash(old)
    new = bus.open("d-0", "detect", ["raw"])
    again, gained = poll_until_records(new, 10)
    assert gained == {("raw", p) for p in range(4)}
    new.restore(("raw", 0))
    with pytest.raises(Fenced):
        old.commit(batch, map(answer, batch.records), [])
    new.commit(again, map(answer, again.records), [])
    assert sorted(values(new.read("signals"))) == sorted(values(batch.records))

    def poll_old() -> None:
        assert old.poll(QUICK).records == []

    with pytest.raises(Fenced):
        until(lambda: False, poll_old)
    bus.write(outs(5, start=10), member="later")
    poll_until_records(new, 5)


# --- real processes ---


def spawn(bus: Bus, task: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__, task, msgspec.json.encode(bus.config).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def expect(child: "subprocess.Popen[str]", word: str) -> None:
    assert child.stdout is not None
    assert child.stdout.readline().strip() == word


def test_kill_9_in_mid_commit_leaves_no_trace(bus: Bus) -> None:
    bus.write(outs(50))
    with spawn(bus, "half") as child:
        expect(child, "half")
        child.kill()
    reader = bus.open("reader")
    assert list(reader.read("signals")) == []
    worker = Worker(bus.open("child", "detect", ["raw"]))
    processed = 0

    def step() -> None:
        nonlocal processed
        processed += worker.step()

    until(lambda: processed >= 50, step)
    check_exactly_once(bus, 50)


def test_a_paused_worker_is_fenced_when_another_took_over(bus: Bus) -> None:
    bus.write(outs(50))
    with spawn(bus, "pausing") as child:
        expect(child, "polled")
        child.send_signal(signal.SIGSTOP)
        try:
            worker = Worker(bus.open("other", "detect", ["raw"]))
            processed = 0

            def step() -> None:
                nonlocal processed
                processed += worker.step()

            until(lambda: processed >= 50, step)
        finally:
            child.send_signal(signal.SIGCONT)
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        expect(child, "fenced")
        # It may work on: a later batch of its own is committed as usual.
        bus.write(outs(200, start=50), member="more")

        def both() -> None:
            worker.step()

        reader = bus.open("reader")
        until(lambda: reader.backlog("raw", "detect") == 0, both)
        child.stdin.write("stop\n")
        child.stdin.flush()
        expect(child, "stopped")
    check_exactly_once(bus, 250)


# --- workers without input ---


def test_a_position_is_committed_with_the_lines_and_found_again(bus: Bus) -> None:
    first = bus.open("ingest-0")
    assert first.restore(("ingest-0", 0)) == {}
    first.commit(None, outs(3), [Change(("ingest-0", 0), b"app.log", b"3")])
    first.commit(
        None, outs(3, start=3), [Change(("ingest-0", 0), b"app.log", b"6"), Change(("ingest-0", 0), b"b", b"1")]
    )

    def breaking() -> Iterator[Out]:
        yield from outs(1)
        raise KeyError("a fault of the worker")

    with pytest.raises(KeyError):
        first.commit(None, breaking(), [Change(("ingest-0", 0), b"app.log", b"7")])
    other = bus.open("ingest-1")
    other.commit(None, [], [Change(("ingest-1", 0), b"app.log", b"77")])
    bus.close(first)
    second = bus.open("ingest-0")
    assert second.restore(("ingest-0", 0)) == {b"app.log": b"6", b"b": b"1"}
    second.commit(None, [], [Change(("ingest-0", 0), b"b", None)])
    assert second.restore(("ingest-0", 0)) == {b"app.log": b"6"}
    assert other.restore(("ingest-1", 0)) == {b"app.log": b"77"}
    assert len(list(second.read("raw"))) == 6


def test_a_replaced_ingest_commits_nothing_more(bus: Bus) -> None:
    old = bus.open("ingest-0")
    old.commit(None, outs(1), [])
    new = bus.open("ingest-0")
    new.restore(("ingest-0", 0))
    for _ in range(2):
        with pytest.raises(Fenced):
            old.commit(None, outs(1, start=1), [])
    new.commit(None, outs(1, start=2), [])
    assert sorted(values(new.read("raw"))) == [b"0", b"2"]


# --- reading and asking ---


def test_read_all_newest_and_follow(bus: Bus) -> None:
    reader = bus.open("reader")
    assert list(reader.read("alerts")) == []
    assert list(reader.read("alerts", newest=5)) == []
    for i in range(8):
        bus.write([Out("alerts", b"key-%d" % (i % 3), b"%d" % i, float(i))])
    assert sorted(values(reader.read("alerts"))) == [b"%d" % i for i in range(8)]
    assert values(reader.read("alerts", newest=3)) == [b"5", b"6", b"7"]
    assert values(reader.read("alerts", newest=0)) == []
    assert len(list(reader.read("alerts", newest=100))) == 8
    following = iter(reader.read("alerts", follow=True, newest=2))
    assert values(islice(following, 2)) == [b"6", b"7"]
    bus.write([Out("alerts", b"key-1", b"8", 8.0)])
    assert next(following).value == b"8"


def test_lag_and_backlog(bus: Bus) -> None:
    reader = bus.open("reader")
    assert reader.backlog("raw", "detect") == 0
    bus.write(outs(40))
    assert 40 <= reader.backlog("raw", "detect") <= 44  # transaction markers may count
    broker = bus.open("d-0", "detect", ["raw"])
    assert broker.lag() == {}
    batch, _ = poll_until_records(broker)
    rest = 40 - len(batch.records)
    assert rest <= sum(broker.lag().values()) <= rest + 4
    assert reader.backlog("raw", "detect") >= 40
    broker.commit(batch, [], [])
    got = len(batch.records)

    def step() -> None:
        nonlocal got
        more = broker.poll(QUICK)
        got += len(more.records)
        broker.commit(more, [], [])

    until(lambda: got == 40 and reader.backlog("raw", "detect") == 0, step)
    assert broker.lag() == {("raw", p): 0 for p in range(4)}
    assert reader.backlog("raw", "another") >= 40


def test_two_groups_each_get_everything(bus: Bus) -> None:
    bus.write([Out("alerts", b"a%d" % i, b"%d" % i, 0.0) for i in range(10)])
    for group in ("deliver-siem", "console"):
        batch, _ = poll_until_records(bus.open("w-0", group, ["alerts"]), 10)
        assert len(batch.records) == 10


def test_a_broker_that_is_not_there_is_down(bus: Bus) -> None:
    config: BrokerConfig
    if isinstance(bus.config, EmbeddedConfig):
        config = msgspec.structs.replace(bus.config, path="/dev/null/no/such.db")
    else:
        config = msgspec.structs.replace(bus.config, bootstrap_servers="127.0.0.1:1", request_timeout_s=0.5)
    with pytest.raises(BrokerDown):
        open_broker(config, group="detect", member="d-0", topics=["raw"])


# --- the worker process of the tests above ---


def child_half(config: BrokerConfig) -> None:
    """Writes half a commit and then waits to be killed."""
    worker = Worker(open_broker(config, group="detect", member="child", topics=["raw"]))
    until(lambda: len(worker.batch.records) == 50, lambda: worker.poll(Limits(lines_max=50, wait_s=5)))

    def hang() -> None:
        say("half")
        sys.stdin.read()

    def outbox() -> Iterator[Out]:
        yield from map(answer, worker.batch.records)
        if isinstance(config, KafkaConfig):
            time.sleep(0.5)  # the client sends within milliseconds: the records are in Kafka's log, uncommitted
            hang()

    if isinstance(config, EmbeddedConfig):
        database = worker.broker._db  # type: ignore[attr-defined]  # to hang inside the transaction
        database.set_trace_callback(lambda sql: hang() if sql == "COMMIT" else None)
    changes = [Change((r.topic, r.partition), r.key, b"1") for r in worker.batch.records]
    worker.broker.commit(worker.batch, outbox(), changes)


def child_pausing(config: BrokerConfig) -> None:
    """Polls, is paused by the parent, and then tries to commit."""
    worker = Worker(open_broker(config, group="detect", member="child", topics=["raw"]))
    until(lambda: len(worker.batch.records) == 50, lambda: worker.poll(Limits(lines_max=50, wait_s=5)))
    say("polled")
    assert sys.stdin.readline() == "go\n"
    try:
        worker.commit()
    except Fenced:
        say("fenced")
    else:
        say("committed")
    while not select.select([sys.stdin], [], [], 0)[0]:
        worker.step()
    worker.broker.close()
    say("stopped")


if __name__ == "__main__":
    task = {"half": child_half, "pausing": child_pausing}[sys.argv[1]]
    task(msgspec.json.decode(sys.argv[2], type=BrokerConfig))
