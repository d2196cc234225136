"""What only the embedded broker can show: a clock in the test's hand, retention, a bounded file, a machine that restarts."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from shield.broker import BrokerConfig, BrokerDown, Change, EmbeddedConfig, Fenced, Limits, Out
from shield.broker.embedded import EmbeddedBroker

NOW = Limits(wait_s=0.0)


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def config_for(folder: Path, **changes: object) -> EmbeddedConfig:
    config = EmbeddedConfig(path=str(folder / "bus.db"), session_timeout_s=30.0, upkeep_s=60.0)
    return msgspec.structs.replace(config, **changes)


def member(config: EmbeddedConfig, name: str, clock: Hand, group: str | None = "detect") -> EmbeddedBroker:
    return EmbeddedBroker(config, group=group, member=name, topics=["raw"] if group else [], now=clock)


def raw(count: int, size: int = 10) -> list[Out]:
    return [Out("raw", b"k%d" % i, bytes(size), 0.0) for i in range(count)]


def test_a_silent_member_keeps_its_partitions_for_the_session_timeout_and_no_longer(tmp_path: Path) -> None:
    clock, config = Hand(), config_for(tmp_path)
    silent, other = member(config, "a", clock), member(config, "b", clock)
    assert len(silent.poll(NOW).gained) == 4
    clock.at += 29.9
    assert other.poll(NOW).gained == []
    clock.at += 0.2
    assert len(other.poll(NOW).gained) == 4
    with pytest.raises(Fenced):
        silent.commit(silent.poll(NOW), [], [Change(("raw", 0), b"k", b"v")])
    for broker in (silent, other):
        broker.close()


def test_partitions_move_only_as_far_as_needed(tmp_path: Path) -> None:
    clock, config = Hand(), config_for(tmp_path, partitions=6)
    first = member(config, "a", clock)
    assert len(first.poll(NOW).gained) == 6
    second, third = member(config, "b", clock), member(config, "c", clock)
    lost = 0
    for _ in range(4):
        for broker in (second, third):
            assert not broker.poll(NOW).lost or broker is second
        lost += len(first.poll(NOW).lost)
    assert lost == 4
    for broker in (first, second, third):
        broker.close()


def test_after_a_restart_of_the_machine_old_beats_count_for_nothing(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    member(config, "a", Hand(500_000.0)).poll(NOW)
    after = member(config, "b", Hand(3.0))
    assert len(after.poll(NOW).gained) == 4
    after.close()


def test_old_records_go_when_every_group_has_read_them_and_never_before(tmp_path: Path) -> None:
    clock, config = Hand(), config_for(tmp_path, partitions=1, retention_s={"raw": 0.0})
    fast, slow = member(config, "a", clock, "detect"), member(config, "a", clock, "archive")
    writer = member(config, "w", clock, None)
    writer.commit(None, raw(30), [])
    fast.commit(fast.poll(NOW), [], [])
    batch = slow.poll(NOW)
    slow.commit(msgspec.structs.replace(batch, records=batch.records[:10]), [], [])
    clock.at += 61
    fast.poll(NOW)
    assert [record.offset for record in writer.read("raw")] == list(range(10, 30))
    assert writer.backlog("raw", "archive") == 20
    assert writer.backlog("raw", "new") == 20
    for broker in (fast, slow, writer):
        broker.close()


def test_compacted_topics_keep_the_newest_per_key(tmp_path: Path) -> None:
    clock, config = Hand(), config_for(tmp_path)
    writer = member(config, "w", clock, None)
    for i in range(10):
        writer.commit(None, [Out("models", b"m%d" % (i % 3), b"%d" % i, 0.0)], [])
    clock.at += 61
    writer.commit(None, [], [])
    assert sorted(record.value for record in writer.read("models")) == [b"7", b"8", b"9"]
    writer.close()


def test_a_full_file_refuses_new_lines_until_the_readers_caught_up(tmp_path: Path) -> None:
    clock, config = Hand(), config_for(tmp_path, file_bytes_max=1_000_000)
    worker, writer = member(config, "a", clock), member(config, "w", clock, None)
    worker.poll(NOW)
    writer.commit(None, raw(100, 20_000), [])
    with pytest.raises(BrokerDown, match="unread"):
        writer.commit(None, raw(1), [])
    batch = worker.poll(NOW)
    assert len(batch.records) == 100
    worker.commit(batch, [], [])
    clock.at += 61
    worker.poll(NOW)
    writer.commit(None, raw(1), [])
    assert len(worker.poll(NOW).records) == 1
    for broker in (worker, writer):
        broker.close()
    assert (tmp_path / "bus.db").stat().st_size < 1_000_000


def test_a_locked_or_foreign_file_is_broker_down_and_nothing_is_lost(tmp_path: Path) -> None:
    clock, config = Hand(), config_for(tmp_path, busy_timeout_s=0.05)
    worker, writer = member(config, "a", clock), member(config, "w", clock, None)
    writer.commit(None, raw(5), [])
    assert len(worker.poll(NOW).gained) == 4
    with_lock = sqlite3.connect(config.path, isolation_level=None)
    with_lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerDown):
        writer.commit(None, raw(1), [])
    clock.at += 2
    with pytest.raises(BrokerDown):
        worker.poll(NOW)
    with_lock.execute("ROLLBACK")
    with_lock.close()
    batch = worker.poll(NOW)
    assert (len(batch.gained), len(batch.records)) == (4, 5)
    for broker in (worker, writer):
        broker.close()
    (tmp_path / "text.db").write_text("this is no database, " * 1000)
    with pytest.raises(BrokerDown):
        member(config_for(tmp_path, path=str(tmp_path / "text.db")), "a", clock)


def test_the_config_survives_json() -> None:
    config = EmbeddedConfig(path="x.db", partitions=2)
    assert msgspec.json.decode(msgspec.json.encode(config), type=BrokerConfig) == config
