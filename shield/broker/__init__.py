"""The broker contract: one atomic commit per batch of outputs, keyed state and offsets.

`open_broker` gives one of two implementations that pass one contract test suite: `embedded` (one SQLite file) and
`kafka` (Apache Kafka with transactions).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol
from zlib import crc32

import msgspec

DAY_S = 86_400.0


class Fenced(RuntimeError):  # noqa: N818 - an event of every rebalance, not a mistake
    """The worker lost its partitions (paused too long, or replaced); nothing of the batch was committed. Poll again.

    Raised by `poll` itself it means that another process works under this member name: exit.
    """


class BrokerDown(RuntimeError):  # noqa: N818 - a state of the broker, not a mistake
    """The broker cannot be reached or refuses for now; the caller retries with backoff."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record read from a topic. `time` is what the writer stated (epoch seconds); headers are small text."""

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
    """What one poll gives: records in order within each partition, and which partitions came or went since then.

    Partitions in `gained` must be restored before their records are processed. `caught_up` says that nothing was left
    to read when the batch was closed.
    """

    records: list[Record]
    gained: list[Partition]
    lost: list[Partition]
    caught_up: bool


class Limits(msgspec.Struct, frozen=True):
    """When a batch closes: whichever comes first. Lines are counted, not records (header `lines`, absent means 1)."""

    lines_max: int = 10_000
    bytes_max: int = 4_000_000
    wait_s: float = 0.1


class Broker(Protocol):
    """A worker's connection. `group` names who shares the work, `member` is stable over restarts of one worker."""

    def poll(self, limits: Limits) -> Batch:
        """Records of the assigned partitions after the last polled ones; may be empty when the wait is over.

        Partitions move to other members only in here, so commit a batch before polling the next one.
        """

    def commit(self, batch: Batch | None, outbox: Iterable[Out], changes: Iterable[Change]) -> None:
        """Outputs, state and the batch's offsets, all or nothing; `batch=None` for a worker without input (ingest).

        After `Fenced`, or any other failure, the next poll starts again behind the last commit, with all partitions in
        `gained` (so the state is restored too). A worker without input exits after `Fenced` (another one has its name);
        after `BrokerDown` only `restore` tells whether the commit came through.
        """

    def restore(self, partition: Partition) -> dict[bytes, bytes]:
        """The committed keyed state of an input partition. For `batch=None` workers the partition is (member, 0)."""

    def read(self, topic: str, *, follow: bool = False, newest: int | None = None) -> Iterable[Record]:
        """Committed records of a topic outside any group (CLI, models).

        `follow` waits for more, `newest` limits to the last n. In order within each partition; across partitions by
        time, as far as one chunk reaches.
        """

    def lag(self) -> dict[Partition, int]:
        """Committed but unread records per assigned partition."""

    def backlog(self, topic: str, group: str) -> int:
        """Records of a topic that a group has not committed yet (back-pressure, end of a replay)."""

    def close(self) -> None:
        """Leave the group, so that others take over at once; what was not committed is as if never polled."""


class Keeping(msgspec.Struct, frozen=True):
    """How long a topic keeps its records. Compacted: the newest record per key, for ever."""

    retention_s: float | None = 7 * DAY_S  # None: for ever
    compacted: bool = False


# Logical topics; any other is kept like `raw`. `<topic>.state` is the changelog of keyed state, compacted.
TOPICS: dict[str, Keeping] = {
    "raw": Keeping(),
    "signals": Keeping(),
    "alerts": Keeping(retention_s=90 * DAY_S),
    "dead": Keeping(retention_s=30 * DAY_S),
    "features": Keeping(retention_s=180 * DAY_S),
    "models": Keeping(retention_s=None, compacted=True),
    "verdicts": Keeping(retention_s=None),
}
WORKER_STATE = "ingest.state"  # on Kafka: the state of all `batch=None` workers, keyed by member


def keeping(topic: str, retention_s: Mapping[str, float]) -> Keeping:
    """How a topic is kept, with the configured retention where one is given."""
    if topic.endswith(".state"):
        return Keeping(retention_s=None, compacted=True)
    kept = TOPICS.get(topic, Keeping())
    return Keeping(retention_s=retention_s[topic]) if topic in retention_s and not kept.compacted else kept


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, the same on both brokers (librdkafka's `consistent` partitioner is this function)."""
    return crc32(key) % partitions


class EmbeddedConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="use", tag="embedded"
):
    """One SQLite file on a local disk, shared by the processes of one machine."""

    path: str = "stadtschild.db"
    partitions: int = 4  # of topics that are created; existing topics keep theirs
    heartbeat_s: float = 1.0
    session_timeout_s: float = 30.0  # a member silent for longer loses its partitions to the others
    busy_timeout_s: float = 10.0  # wait for another process's commit, then BrokerDown
    retention_s: dict[str, float] = {}  # per topic, over the built-in ones; records not yet read by every group stay
    file_bytes_max: int = 20_000_000_000  # above it consumed records go early, and workers without input are refused
    upkeep_s: float = 30.0  # how often old records are deleted


class KafkaConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="use", tag="kafka"):
    """Apache Kafka 2.5 or newer. Topics are called `<prefix>.<name>`; one given as `=name` is taken as it is."""

    bootstrap_servers: str
    prefix: str = "shield"
    partitions: int = 6  # of topics that are created; existing topics keep theirs
    replication_factor: int = 3
    retention_s: dict[str, float] = {}  # per topic, over the built-in ones; only for topics that are created
    session_timeout_s: float = 30.0  # longer than a coordinator takes to move when a Kafka node dies
    poll_interval_max_s: float = 300.0  # a worker that takes longer for a batch loses its partitions
    transaction_timeout_s: float = 60.0
    request_timeout_s: float = 30.0  # for answers of the cluster, then BrokerDown
    prefetch_bytes_max: int = 32_000_000
    record_bytes_max: int = 4_000_000
    security_protocol: str = "PLAINTEXT"  # SSL, SASL_SSL; SASL_PLAINTEXT only inside a trusted network
    sasl_mechanism: str = ""  # SCRAM-SHA-512, PLAIN, OAUTHBEARER
    sasl_username: str = ""
    sasl_password_file: str = ""  # or `sasl_password` from the environment: ${KAFKA_PASSWORD}
    sasl_password: str = ""
    ssl_ca_location: str = ""
    ssl_certificate_location: str = ""
    ssl_key_location: str = ""
    options: dict[str, str] = {}  # handed to librdkafka as they are, over all of the above


BrokerConfig = EmbeddedConfig | KafkaConfig


def open_broker(config: BrokerConfig, *, group: str | None = None, member: str, topics: Sequence[str] = ()) -> Broker:
    """Connect a worker: it reads `topics` as `member` of `group`. Without a group it only commits, reads and asks.

    Raises BrokerDown. Partitions are joined by the first `poll`.
    """
    if isinstance(config, EmbeddedConfig):
        from shield.broker.embedded import EmbeddedBroker

        return EmbeddedBroker(config, group=group, member=member, topics=topics)
    from shield.broker.kafka import KafkaBroker

    return KafkaBroker(config, group=group, member=member, topics=topics)
