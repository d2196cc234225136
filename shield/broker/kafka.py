"""The broker on Apache Kafka: every commit is one transaction of outputs, state changelog and offsets."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar, cast

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported by its package
from confluent_kafka.cimpl import NewTopic

from shield.broker import (
    WORKER_STATE,
    Batch,
    BrokerDown,
    Change,
    Fenced,
    KafkaConfig,
    Limits,
    Out,
    Partition,
    Record,
    keeping,
    partition_of,
)

T = TypeVar("T")

ABORT_S = 5.0
OVERTIME_S = 2.0  # beyond its own timeout, for a call of the client to come back
LEAVE_S = 5.0  # to hand back partitions when closing
PULL_S = 0.05  # of one look while a batch is being filled
RETRY_S = 0.1
SETTLE_S = 2.0  # for `read` to wait at an open transaction
MESSAGES_MAX = 5_000  # of one pull
CHUNK_MESSAGES = 500
OVERHEAD_BYTES = 10_000  # of a record's frame and headers, over its value
FENCED = {
    KafkaError._FENCED,  # noqa: SLF001 - librdkafka's own error codes are named with an underscore
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
    KafkaError.PRODUCER_FENCED,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID,
}
FATAL = KafkaError._FATAL  # noqa: SLF001 - see above
END = KafkaError._PARTITION_EOF  # noqa: SLF001 - see above
ASK_AGAIN = {  # besides what the client itself calls retriable: a leader or coordinator is just moving
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError._TIMED_OUT,  # noqa: SLF001 - see above
}
STALE = {
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
}  # a leader moved, the client still knows the old
PASSING = {  # reported by a consumer that heals by itself
    *STALE,
    KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - see above
    KafkaError._TRANSPORT,  # noqa: SLF001 - see above
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - see above
    KafkaError.UNKNOWN_TOPIC_OR_PART,  # a topic whose creation has not reached every broker
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
}

_log = logging.getLogger("shield.broker.kafka")


class KafkaBroker:
    """See `Broker`. `lag` and `backlog` count transaction markers too until a worker has read past them."""

    def __init__(self, config: KafkaConfig, *, group: str | None, member: str, topics: Sequence[str]) -> None:
        self._config = config
        self._group = group
        self._member = member
        self._topics = tuple(topics) if group is not None else ()
        self._logical = {self._physical(topic): topic for topic in topics}
        self._partitions: dict[str, int] = {}  # of topics known to exist, by physical name
        self._common = _common(config)
        self._admin = AdminClient({**self._common}, logger=_log)
        self._readers: dict[tuple[str, bool], Consumer] = {}  # per group, and whether offsets in doubt are waited for
        self._transactions: Producer | None = None
        self._replaced = False
        self._lost_connection = False
        self._pending: deque[Message] = deque()  # pulled, beyond the limits of the last batch
        self._message_lines = self._message_bytes = 1.0  # of a recent message, to pull no more than a batch takes
        self._assigned: set[Partition] = set()
        self._joined = False
        self._verified = False  # that every partition has an owner, since this worker joined
        self._gained: set[Partition] = set()
        self._reported: set[Partition] = set()  # what the caller knows as its own
        self._position: dict[Partition, int] = {}  # behind the last record given out
        self._committed: dict[Partition, int] = {}  # as far as this worker knows
        self._ended: dict[Partition, int] = {}  # partitions read to their end, and the offset there
        self._ensure([*topics, *(f"{topic}.state" for topic in self._topics)])
        self._consumer: Consumer | None = None
        if self._topics:
            self._consumer = self._subscribe()

    # --- reading ---

    def poll(self, limits: Limits) -> Batch:
        if self._consumer is None:
            time.sleep(limits.wait_s)
            return Batch([], [], [], caught_up=True)
        deadline = time.monotonic() + limits.wait_s
        records: list[Record] = []
        lines, size = limits.lines_max, limits.bytes_max
        while True:
            while self._pending and lines > 0 and size > 0:
                record = self._record(self._pending.popleft())
                records.append(record)
                lines -= int(record.headers.get("lines", 1))
                size -= len(record.value)
            left = deadline - time.monotonic()
            if lines <= 0 or size <= 0 or (left <= 0 and records):
                break
            self._pull(lines, size, max(0.0, min(left, PULL_S)))
            if left <= 0 and not self._pending:
                break
        if records:  # a predecessor of this name may hold the same records: from here on it commits nothing more
            try:
                self._producer()
            except BaseException:
                self._forget()
                raise
        # What was taken from this worker in mid-poll is another's to process.
        records = [record for record in records if (record.topic, record.partition) in self._assigned]
        for record in records:
            self._position[record.topic, record.partition] = record.offset + 1
        gained = sorted(self._gained & self._assigned)
        lost = sorted(self._reported - self._assigned)
        self._gained, self._reported = set(), set(self._assigned)
        caught_up = self._joined and not self._pending and self._assigned <= self._ended.keys()
        if not records:
            self._check_connection()
            self._pass_markers()
        if self._joined and not self._verified:
            self._verify_owners()
        return Batch(records, gained, lost, caught_up)

    def restore(self, partition: Partition) -> dict[bytes, bytes]:
        self._producer()  # fences a predecessor of this name and ends its open transaction
        if partition == (self._member, 0):
            topic, prefix = self._physical(WORKER_STATE), self._member.encode() + b"\0"
            self._ensure([WORKER_STATE])
            p = partition_of(self._member.encode(), self._partitions[topic])
        else:
            topic, prefix = self._physical(f"{partition[0]}.state"), b""
            self._ensure([f"{partition[0]}.state"])
            p = partition[1]
            self._await_stable(partition)
        state: dict[bytes, bytes] = {}
        for message in self._scan(topic, {p: 0}, self._ends(topic, p), self._config.transaction_timeout_s):
            assert message is not None
            key, value = _bytes(message.key()), message.value()
            if not key.startswith(prefix):
                continue
            if value is None:
                state.pop(key[len(prefix) :], None)
            else:
                state[key[len(prefix) :]] = _bytes(value)
        return state

    def read(self, topic: str, *, follow: bool = False, newest: int | None = None) -> Iterator[Record]:
        self._ensure([topic])
        name = self._physical(topic)
        self._logical.setdefault(name, topic)
        ends = self._ends(name)
        start = dict.fromkeys(ends, 0)
        if newest is not None:
            last = self._newest(name, ends, newest)
            yield from last
            start = ends
        messages = self._scan(name, start, None if follow else ends)
        chunk: list[Record] = []
        for message in messages:
            if message is not None:
                chunk.append(self._record(message))
            if message is None or len(chunk) >= CHUNK_MESSAGES:
                yield from sorted(chunk, key=lambda record: record.time)
                chunk = []
        yield from sorted(chunk, key=lambda record: record.time)

    def lag(self) -> dict[Partition, int]:
        left: dict[Partition, int] = {}
        held = sorted(self._assigned)
        waiting = {self._key(message) for message in self._pending}
        ends = {topic: self._ends(self._physical(topic)) for topic in {topic for topic, _ in held}}
        unknown = [p for p in held if p not in self._position and p not in self._ended]
        start = self._committed_offsets(unknown)
        for topic, p in held:
            at = self._position.get((topic, p), start.get((topic, p), 0))
            if (topic, p) not in waiting:
                at = max(at, self._ended.get((topic, p), 0))
            left[topic, p] = max(0, ends[topic].get(p, 0) - at)
        return left

    def backlog(self, topic: str, group: str) -> int:
        self._ensure([topic])
        name = self._physical(topic)
        asked = [TopicPartition(name, p) for p in range(self._partitions[name])]
        reader, timeout_s = self._reader_of(group, stable=False), self._config.request_timeout_s
        committed = self._ask(lambda: reader.committed(asked, timeout=timeout_s))
        first = self._starts(name)
        ends = self._ends(name)
        return sum(max(0, ends[t.partition] - max(t.offset, first[t.partition])) for t in committed)

    # --- writing ---

    def commit(self, batch: Batch | None, outbox: Iterable[Out], changes: Iterable[Change]) -> None:
        if self._replaced:
            raise Fenced(f"another process works as {self._member}")
        offsets = self._offsets(batch)
        final = {(change.partition, change.key): change.value for change in changes}
        messages = chain(map(self._message, outbox), map(self._changelog, final.items()))
        first = next(messages, None)
        if first is None and not offsets:
            return
        held = {(topic, p) for topic, p in offsets} | {p for p, _ in final if p[0] in self._topics}
        if not held <= self._assigned:
            self._forget()
            raise Fenced(f"{self._member} no longer owns {sorted(held - self._assigned)}")
        self._transact(chain([first] if first is not None else [], messages), offsets)

    def _transact(self, messages: Iterator[dict[str, Any]], offsets: dict[Partition, int]) -> None:
        timeout_s = self._config.request_timeout_s
        producer = None
        try:
            producer = self._producer()
            producer.begin_transaction()
            for message in messages:
                self._produce(producer, message)
            if offsets and self._consumer is not None:
                # Which generation of the group this is; a worker that lost its partitions in the meantime is refused.
                group = self._consumer.consumer_group_metadata()
                positions = [TopicPartition(self._physical(t), p, offset) for (t, p), offset in offsets.items()]
                send = partial(producer.send_offsets_to_transaction, positions, group, timeout_s)
                self._ask(partial(within, timeout_s + OVERTIME_S, send))
            self._ask(lambda: producer.commit_transaction(timeout_s))
        except BaseException as error:
            if producer is not None:
                self._abort(producer)
            self._forget()
            if isinstance(error, Fenced) and self._group is None:
                self._replaced = True
            if isinstance(error, KafkaException):
                _raise(error)
            raise
        self._committed.update(offsets)

    def close(self) -> None:
        while self._readers:
            self._readers.popitem()[1].close()
        consumer, self._consumer = self._consumer, None
        if self._transactions is not None:
            self._transactions.purge()
            self._transactions = None
        if consumer is None:
            return
        with suppress(KafkaException, RuntimeError):
            _leave(consumer)
        consumer.close()
        self._assigned.clear()
        self._pending.clear()

    # --- membership ---

    def _subscribe(self) -> Consumer:
        config = self._config
        consumer = Consumer(
            {
                **self._common,
                **_fetching(config),
                "group.id": f"{config.prefix}.{self._group}",
                "group.instance.id": self._member,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(config.session_timeout_s * 1000),
                "heartbeat.interval.ms": max(100, int(config.session_timeout_s * 1000 / 10)),
                "max.poll.interval.ms": int(max(config.poll_interval_max_s, config.session_timeout_s) * 1000),
                "fetch.wait.max.ms": 100,
                "fetch.min.bytes": 65_536,
                "error_cb": self._on_error,
                **config.options,
            },
            logger=_log,
        )
        self._join(consumer)
        return consumer

    def _join(self, consumer: Consumer) -> None:
        consumer.subscribe(
            [self._physical(topic) for topic in self._topics],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    def _verify_owners(self) -> None:
        """Once after joining: where a partition of our topics has no owner, leave the group and join again.

        Partitions move in two steps: the old owner gives them up, and when it says so by joining again the new one gets
        them. A static member that dies between the two and comes back is handed what it had, without a rebalance: what it
        gave up belongs to nobody, until the next one.
        """
        name = f"{self._config.prefix}.{self._group}"
        try:
            timeout_s = max(1.0, self._config.request_timeout_s / 10)
            asked = self._admin.describe_consumer_groups([name], request_timeout=timeout_s)
            group = asked[name].result()
        except KafkaException:
            return  # asked again at the next poll
        if group.state != ConsumerGroupState.STABLE:
            return
        self._verified = True
        owned = {(t.topic, t.partition) for m in group.members if m.assignment for t in m.assignment.topic_partitions}
        names = [self._physical(topic) for topic in self._topics]
        unowned = {(name, p) for name in names for p in range(self._partitions[name])} - owned
        if unowned and self._consumer is not None:
            _log.warning("partitions without an owner, joining again: %s", sorted(unowned))
            _leave(self._consumer)
            self._joined = self._verified = False
            self._join(self._consumer)

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._joined = True
        for partition in self._keys(partitions):
            self._assigned.add(partition)
            self._gained.add(partition)
            self._drop(partition)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = set(self._keys(partitions))
        for partition in gone:
            self._assigned.discard(partition)
            self._drop(partition)
        self._pending = deque(m for m in self._pending if self._key(m) not in gone)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT}:  # noqa: SLF001 - see FENCED
            self._lost_connection = True

    def _drop(self, partition: Partition) -> None:
        for table in (self._position, self._committed, self._ended):
            table.pop(partition, None)

    def _forget(self) -> None:
        """After a failure: everything anew from the committed offsets, and gained once more."""
        self._pending.clear()
        for partition in self._assigned:
            self._drop(partition)
        self._gained |= self._assigned
        if self._consumer is None or not self._assigned:
            return
        held = [TopicPartition(self._physical(topic), p) for topic, p in sorted(self._assigned)]
        with suppress(KafkaException):  # a consumer that lost its partitions gets them again by rebalance
            self._consumer.incremental_unassign(held)
            self._consumer.incremental_assign(held)

    # --- pulling ---

    def _pull(self, lines: int, size: int, timeout_s: float) -> None:
        assert self._consumer is not None
        want = int(min(lines / self._message_lines, size / self._message_bytes)) + 1
        try:
            messages = self._consumer.consume(max(1, min(want, MESSAGES_MAX)), timeout_s)
        except KafkaException as error:
            self._forget()
            _raise(error)
        total = 0
        for message in messages:
            fault = message.error()
            if fault is None:
                self._pending.append(message)
                self._ended.pop(self._key(message), None)
                total += len(message)
            elif fault.code() == END:
                partition = self._key(message)
                if partition in self._assigned:
                    self._ended[partition] = message.offset() or 0
            elif fault.code() == FATAL:  # the one fatal error of a consumer
                self._forget()
                raise Fenced(f"another process works as {self._member}: {fault.str()}")
            elif fault.code() not in PASSING:
                self._forget()
                _raise(KafkaException(fault))
        if self._pending:
            self._lost_connection = False
            newest = self._pending[-1]
            self._message_lines = max(1.0, float(_headers(newest).get("lines", 1)))
            if total:
                self._message_bytes = max(1.0, total / len(messages))

    def _check_connection(self) -> None:
        if not self._lost_connection:
            return
        try:
            self._admin.list_topics(timeout=max(1.0, self._config.request_timeout_s / 10))
        except KafkaException as error:
            raise BrokerDown(f"Kafka at {self._config.bootstrap_servers}: {error.args[0].str()}") from error
        self._lost_connection = False

    def _pass_markers(self) -> None:
        """Nothing but transaction markers between the last commit and the end: commit past them, so that lag is 0."""
        ahead = {
            p: end
            for p, end in self._ended.items()
            if end > self._committed.get(p, 0) and self._position.get(p, 0) <= self._committed.get(p, 0)
        }
        if ahead:  # by transaction too: a plain commit could be overtaken by the next batch's
            self._transact(iter(()), ahead)

    def _offsets(self, batch: Batch | None) -> dict[Partition, int]:
        """What to commit for a batch; at a partition's end, the offset behind the markers."""
        offsets: dict[Partition, int] = {}
        for record in batch.records if batch is not None else ():
            offsets[record.topic, record.partition] = record.offset + 1
        waiting = {self._key(message) for message in self._pending}  # the end lies behind what is not given out yet
        for partition, offset in offsets.items():
            if offset == self._position.get(partition) and partition in self._ended and partition not in waiting:
                offsets[partition] = max(offset, self._ended[partition])
        return offsets

    # --- producing ---

    def _producer(self) -> Producer:
        """The transactional producer; making it fences whoever used this member's name before."""
        if self._transactions is None:
            config = self._config
            producer = Producer(
                {
                    **self._common,
                    "transactional.id": f"{config.prefix}.{self._group or 'worker'}.{self._member}",
                    "transaction.timeout.ms": int(config.transaction_timeout_s * 1000),
                    "linger.ms": 5,
                    "compression.type": "lz4",
                    "partitioner": "consistent",
                    "message.max.bytes": config.record_bytes_max + OVERHEAD_BYTES,
                    "queue.buffering.max.kbytes": 131_072,
                    **config.options,
                },
                logger=_log,
            )
            self._ask(lambda: producer.init_transactions(config.request_timeout_s))
            self._transactions = producer
        return self._transactions

    def _message(self, out: Out) -> dict[str, Any]:
        if len(out.value) > self._config.record_bytes_max:
            raise ValueError(f"{len(out.value)} bytes for {out.topic} are more than record_bytes_max")
        headers: list[tuple[str, str | bytes | None]] = [*out.headers.items(), ("time", repr(out.time))]
        return {"topic": self._writable(out.topic), "key": out.key, "value": out.value, "headers": headers}

    def _changelog(self, change: tuple[tuple[Partition, bytes], bytes | None]) -> dict[str, Any]:
        ((topic, p), key), value = change
        if topic == self._member:
            name = self._writable(WORKER_STATE)
            member = topic.encode()
            place = partition_of(member, self._partitions[name])
            return {"topic": name, "key": member + b"\0" + key, "value": value, "partition": place}
        return {"topic": self._writable(f"{topic}.state"), "key": key, "value": value, "partition": p}

    def _produce(self, producer: Producer, message: dict[str, Any]) -> None:
        deadline = time.monotonic() + self._config.request_timeout_s
        while True:
            try:
                producer.produce(**message)
            except BufferError:
                if time.monotonic() > deadline:
                    raise BrokerDown("Kafka takes no more records") from None
                producer.poll(PULL_S)
            else:
                return

    def _abort(self, producer: Producer) -> None:
        """Nothing of the open transaction stays.

        Where the cluster does not confirm it, the next producer's start does. There is a next one in any case: records
        that were dropped on the way leave a gap in the numbers of this one.
        """
        self._transactions = None
        with suppress(KafkaException, BufferError):
            producer.abort_transaction(ABORT_S)

    def _ask(self, call: Callable[[], T], patience_s: float = 0.0) -> T:
        """Call until it is answered, as long as the cluster says that asking again may help."""
        deadline = time.monotonic() + patience_s + self._config.request_timeout_s
        while True:
            try:
                return call()
            except KafkaException as error:
                reason = error.args[0]
                again = reason.retriable() or reason.code() in ASK_AGAIN | STALE
                if not again or time.monotonic() > deadline:
                    _raise(error)
            time.sleep(RETRY_S)

    # --- topics ---

    def _physical(self, topic: str) -> str:
        if topic.startswith("=") and not topic.endswith(".state"):
            return topic[1:]
        return f"{self._config.prefix}.{topic.removeprefix('=')}"

    def _writable(self, topic: str) -> str:
        name = self._physical(topic)
        if name not in self._partitions:
            self._ensure([topic])
        return name

    def _ensure(self, topics: Iterable[str]) -> None:
        """Know the number of partitions; create what is absent, state topics like the topic they belong to."""
        for topic in topics:
            name = self._physical(topic)
            if name in self._partitions:
                continue
            found = self._count(name)
            if not found:
                owner = self._physical(topic.removesuffix(".state"))
                self._create(topic, name, self._partitions.get(owner, self._config.partitions))
                found = self._count(name, wait=True)
            self._partitions[name] = found

    def _count(self, name: str, *, wait: bool = False) -> int:
        deadline = time.monotonic() + self._config.request_timeout_s
        while True:
            topic = self._ask(lambda: self._admin.list_topics(name, timeout=self._config.request_timeout_s)).topics[
                name
            ]
            if topic.partitions and topic.error is None:
                return len(topic.partitions)
            if not wait:
                return 0
            if time.monotonic() > deadline:
                raise BrokerDown(f"Kafka does not show the topic {name}")
            time.sleep(RETRY_S)

    def _create(self, topic: str, name: str, partitions: int) -> None:
        kept = keeping(topic, self._config.retention_s)
        options = {
            "cleanup.policy": "compact" if kept.compacted else "delete",
            "max.message.bytes": str(self._config.record_bytes_max + OVERHEAD_BYTES),
            # Age is the age in Kafka: a replay of old logs is not old. What the writer stated is in the header `time`.
            "message.timestamp.type": "LogAppendTime",
        }
        if not kept.compacted:
            options["retention.ms"] = "-1" if kept.retention_s is None else str(int(kept.retention_s * 1000))
        if self._config.replication_factor >= 3:
            options["min.insync.replicas"] = "2"
        new = NewTopic(
            name, num_partitions=partitions, replication_factor=self._config.replication_factor, config=options
        )
        (future,) = self._admin.create_topics([new], request_timeout=self._config.request_timeout_s).values()
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BrokerDown(f"Kafka does not create {name}: {error.args[0].str()}") from error

    def _ends(self, name: str, only: int | None = None) -> dict[int, int]:
        """Per partition the offset that comes next, open transactions included: a commit is answered before its records
        are shown to readers, so what was committed may still lie behind the last stable offset.
        """
        return self._list_offsets(name, OffsetSpec.latest(), only)  # type: ignore[no-untyped-call]

    def _starts(self, name: str) -> dict[int, int]:
        return self._list_offsets(name, OffsetSpec.earliest(), None)  # type: ignore[no-untyped-call]

    def _list_offsets(self, name: str, spec: OffsetSpec, only: int | None) -> dict[int, int]:
        numbers = range(self._partitions[name]) if only is None else (only,)
        asked = {TopicPartition(name, p): spec for p in numbers}
        timeout_s = self._config.request_timeout_s

        def ask() -> dict[int, int]:
            futures = self._admin.list_offsets(asked, request_timeout=timeout_s)
            try:
                return {partition.partition: future.result().offset for partition, future in futures.items()}
            except KafkaException as error:
                if error.args[0].code() in STALE:  # the admin client would keep asking with the old epoch for minutes
                    self._admin = AdminClient({**self._common}, logger=_log)
                raise

        return self._ask(ask)

    def _await_stable(self, partition: Partition) -> None:
        """Wait until no transaction on the offsets of this partition is open.

        From then on its previous owner can commit nothing more, and what it committed is in the changelog to be read.
        """
        if self._group is None:
            return
        reader = self._reader_of(self._group, stable=True)
        asked = [TopicPartition(self._physical(partition[0]), partition[1])]

        def ask() -> None:
            for found in reader.committed(asked, timeout=self._config.request_timeout_s):
                if found.error is not None:
                    raise KafkaException(found.error)

        self._ask(ask, self._config.transaction_timeout_s)

    def _reader_of(self, group: str, *, stable: bool) -> Consumer:
        """A consumer that never joins the group, to ask for its offsets; `stable`: told none while one is in doubt.

        A member must not ask on its own connection: there the question waits behind its own wish to join, which waits for
        the slowest member. The admin client could ask too, but librdkafka ends the process when the coordinator answers that it has moved
        (confluentinc/librdkafka#5040).
        """
        if (group, stable) not in self._readers:
            self._readers[group, stable] = Consumer(
                {
                    **self._common,
                    "group.id": f"{self._config.prefix}.{group}",
                    "isolation.level": "read_committed" if stable else "read_uncommitted",
                    "enable.auto.commit": False,
                    **self._config.options,
                },
                logger=_log,
            )
        return self._readers[group, stable]

    def _committed_offsets(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        if self._group is None or not partitions:
            return {}
        reader = self._reader_of(self._group, stable=True)
        asked = [TopicPartition(self._physical(topic), p) for topic, p in partitions]
        found = self._ask(lambda: reader.committed(asked, timeout=self._config.request_timeout_s))
        return {key: max(0, t.offset) for key, t in zip(self._keys(found), found, strict=True)}

    # --- scanning outside the group ---

    def _scan(
        self, name: str, start: Mapping[int, int], ends: Mapping[int, int] | None, patience_s: float | None = None
    ) -> Iterator[Message | None]:
        """Committed messages from `start` up to `ends`; without `ends` for ever, with None whenever all is read.

        A transaction that stays open is waited for: for SETTLE_S, then it counts as not committed; or with `patience_s`
        for so long and the time of a request, then BrokerDown.
        """
        if ends is not None and all(start[p] >= ends[p] for p in ends):
            return
        consumer = Consumer(
            {
                **self._common,
                **_fetching(self._config),
                "group.id": f"{self._config.prefix}.read",  # required by the client, never joined
                "fetch.wait.max.ms": 50,
                "fetch.min.bytes": 1,
                **self._config.options,
            },
            logger=_log,
        )
        try:
            consumer.assign([TopicPartition(name, p, offset) for p, offset in start.items()])
            open_ends = {p: end for p, end in (ends or {}).items() if start[p] < end}
            quiet_s = SETTLE_S if patience_s is None else patience_s + self._config.request_timeout_s
            deadline = time.monotonic() + quiet_s
            settled: set[int] = set()  # partitions that answered up to the first open transaction
            while True:
                messages = consumer.consume(CHUNK_MESSAGES, PULL_S)
                if any(message.error() is None for message in messages):
                    deadline = time.monotonic() + quiet_s
                for message in messages:
                    p, offset, error = message.partition() or 0, message.offset() or 0, message.error()
                    if error is not None and error.code() == END:
                        settled.add(p)
                        if offset >= open_ends.get(p, offset + 1):
                            del open_ends[p]
                    elif error is not None and (error.fatal() or error.code() not in PASSING):
                        _raise(KafkaException(error))
                    elif error is None and (ends is None or p in open_ends):
                        if ends is None or offset < open_ends[p]:
                            yield message
                        if ends is not None and offset + 1 >= open_ends[p]:
                            del open_ends[p]
                if ends is None:
                    yield None
                elif not open_ends:
                    return
                elif time.monotonic() > deadline:
                    if patience_s is None and open_ends.keys() <= settled:
                        return
                    if patience_s is None and time.monotonic() < deadline + self._config.request_timeout_s:
                        continue
                    raise BrokerDown(f"{name} cannot be read to its end")
        finally:
            consumer.close()

    def _newest(self, name: str, ends: Mapping[int, int], records_max: int) -> list[Record]:
        """The last records; markers take offsets too, so look further back until there are enough."""
        first = self._starts(name)
        span = records_max * 2 + 10
        while True:
            start = {p: max(first[p], end - span) for p, end in ends.items()}
            found = [self._record(message) for message in self._scan(name, start, ends) if message is not None]
            if len(found) >= records_max * len(ends) or all(start[p] <= first[p] for p in ends):
                found.sort(key=lambda record: record.time)
                return found[max(0, len(found) - records_max) :]
            span *= 4

    # --- messages ---

    def _record(self, message: Message) -> Record:
        topic, p = self._key(message)
        headers = _headers(message)
        stated = headers.pop("time", "")
        at = float(stated) if stated else message.timestamp()[1] / 1000
        return Record(topic, p, message.offset() or 0, _bytes(message.key()), _bytes(message.value()), at, headers)

    def _key(self, message: Message) -> Partition:
        name = message.topic() or ""
        return self._logical.get(name, name), message.partition() or 0

    def _keys(self, partitions: Iterable[TopicPartition]) -> list[Partition]:
        return [(self._logical.get(t.topic, t.topic), t.partition) for t in partitions]


def _leave(consumer: Consumer) -> None:
    """A static member does not leave by closing; unsubscribing makes it."""
    consumer.unsubscribe()
    deadline = time.monotonic() + LEAVE_S
    while consumer.assignment() and time.monotonic() < deadline:
        consumer.consume(1, PULL_S)
    consumer.consume(1, PULL_S)


def _headers(message: Message) -> dict[str, str]:
    return {
        name: _bytes(value).decode(errors="replace")
        for name, value in cast("list[tuple[str, str | bytes | None]]", message.headers() or [])
    }


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def within(seconds: float, call: Callable[[], object]) -> None:
    """Call, for so long at most; then BrokerDown.

    librdkafka does not heed the timeout of `send_offsets_to_transaction` where the connection to the group's coordinator
    is lost at the wrong moment (its issue 5456): it waits for ever. The call that does so keeps its thread and its
    producer until the process ends; the next producer's start ends its transaction.
    """
    outcome: SimpleQueue[BaseException | None] = SimpleQueue()

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            outcome.put(error)
        else:
            outcome.put(None)

    threading.Thread(target=run, name="kafka call", daemon=True).start()
    try:
        error = outcome.get(timeout=seconds)
    except Empty:
        raise BrokerDown(f"Kafka's client gave no answer for {seconds:.0f} s") from None
    if error is not None:
        raise error


def _raise(error: KafkaException) -> NoReturn:
    reason = error.args[0]
    if reason.code() in FENCED:
        raise Fenced(reason.str()) from error
    raise BrokerDown(f"Kafka: {reason.str()}") from error


def _fetching(config: KafkaConfig) -> dict[str, Any]:
    """Settings of every consumer: committed records only, and a bounded prefetch."""
    return {
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": max(1, config.prefetch_bytes_max // 1024),
        "fetch.message.max.bytes": min(config.prefetch_bytes_max, 1_048_576),
        "fetch.max.bytes": max(config.prefetch_bytes_max, config.record_bytes_max + OVERHEAD_BYTES),
        "fetch.queue.backoff.ms": 10,
        "message.max.bytes": config.record_bytes_max + OVERHEAD_BYTES,
    }


def _common(config: KafkaConfig) -> dict[str, Any]:
    password = config.sasl_password
    if config.sasl_password_file:
        password = Path(config.sasl_password_file).read_text().strip()
    security = {
        "sasl.mechanism": config.sasl_mechanism,
        "sasl.username": config.sasl_username,
        "sasl.password": password,
        "ssl.ca.location": config.ssl_ca_location,
        "ssl.certificate.location": config.ssl_certificate_location,
        "ssl.key.location": config.ssl_key_location,
    }
    return {
        "bootstrap.servers": config.bootstrap_servers,
        "client.id": "stadtschild",
        "security.protocol": config.security_protocol,
        **{name: value for name, value in security.items() if value},
        **config.options,
    }
