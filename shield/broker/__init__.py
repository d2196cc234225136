"""The broker contract: one atomic commit per batch of outputs, keyed state and offsets.

`open_broker` gives one of two implementations that pass one contract test suite: `embedded` (one SQLite file) and
`kafka` (Apache Kafka with transactions).
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec


class Fenced(RuntimeError):
    """This worker lost its partitions (paused too long, or replaced); nothing of the batch was committed. Poll again."""


class BrokerDown(RuntimeError):
    """The broker cannot be reached or refuses for now; the caller retries with backoff."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record read from a topic. `time` is what the writer stated (seconds since the epoch); headers are small text."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    time: float
    headers: Mapping[str, str] = {}


class Out(msgspec.Struct, frozen=True, gc=False):
    """One record to write. The partition follows from the key."""

    topic: str
    key: bytes
    value: bytes
    time: float
    headers: Mapping[str, str] = {}


Partition = tuple[str, int]  # (topic, number)


class Change(msgspec.Struct, frozen=True, gc=False):
    """One entry of keyed state of an input partition; a value of None deletes it."""

    partition: Partition
    key: bytes
    value: bytes | None


class Batch(msgspec.Struct):
    """What one poll gives: records in order within each partition, and which partitions came or went since the last poll.

    Partitions in `gained` must be restored before their records are processed. `caught_up` says that nothing was left to
    read when the batch was closed.
    """

    records: list[Record]
    gained: list[Partition]
    lost: list[Partition]
    caught_up: bool


class Limits(msgspec.Struct, frozen=True):
    """When a batch closes: whichever comes first. Lines are counted, not records (header `lines`, absent means 1)."""

    lines_max: int = 20_000
    bytes_max: int = 8_000_000
    wait_s: float = 0.2


class Broker(Protocol):
    """A worker's connection. `group` names who shares the work, `member` is stable over restarts of one worker."""

    def poll(self, limits: Limits) -> Batch:
        """Records of the assigned partitions after the last polled ones; may be empty when the wait is over."""

    def commit(self, batch: Batch | None, outbox: Iterable[Out], changes: Iterable[Change]) -> None:
        """Outputs, state and the batch's offsets, all or nothing; `batch=None` for a worker without input (ingest).

        After `Fenced`, or any other failure, the next poll starts again behind the last commit, with all partitions in
        `gained` (so the state is restored too).
        """

    def restore(self, partition: Partition) -> dict[bytes, bytes]:
        """The committed keyed state of an input partition. For `batch=None` workers the partition is (member, 0)."""

    def read(self, topic: str, *, follow: bool = False, newest: int | None = None) -> Iterable[Record]:
        """Committed records of a topic outside any group (CLI, models); `follow` waits for more, `newest` limits to the last n."""

    def lag(self) -> dict[Partition, int]:
        """Committed but unread records per assigned partition."""

    def backlog(self, topic: str, group: str) -> int:
        """Records of a topic that a group has not committed yet (back-pressure, end of a replay)."""

    def close(self) -> None: ...
