"""What only Apache Kafka can show: foreign topics, topic settings, open transactions, brokers that die."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # re-exported by its package
from confluent_kafka.cimpl import NewTopic
from kafka_server import KafkaServer
from test_broker_contract import QUICK, Bus, Worker, check_exactly_once, outs, poll_until_records, until

from shield.broker import BrokerConfig, BrokerDown, Change, KafkaConfig, Limits, Out, partition_of
from shield.broker import kafka as broker_kafka
from shield.broker.kafka import KafkaBroker, within

pytestmark = pytest.mark.kafka


def config_for(server: KafkaServer, **changes: object) -> KafkaConfig:
    config = KafkaConfig(
        bootstrap_servers=server.bootstrap,
        prefix=f"k{uuid4().hex[:8]}",
        partitions=4,
        replication_factor=min(3, server.nodes),
        session_timeout_s=6.0,
        transaction_timeout_s=10.0,
        request_timeout_s=20.0,
    )
    return msgspec.structs.replace(config, **changes)


@pytest.fixture
def open_bus() -> Iterator[Callable[[KafkaConfig], Bus]]:
    """Closed even when the test fails: a client left behind would wait for a broker that is gone."""
    opened: list[Bus] = []

    def opening(config: KafkaConfig) -> Bus:
        opened.append(Bus(config))
        return opened[-1]

    yield opening
    for bus in opened:
        bus.close_all()


def test_the_config_survives_json() -> None:
    config = KafkaConfig(bootstrap_servers="192.0.2.1:9092", options={"client.rack": "a"})
    assert msgspec.json.decode(msgspec.json.encode(config), type=BrokerConfig) == config
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"use": "kafka", "bootstrap_server": "192.0.2.1"}', type=BrokerConfig)


def test_a_foreign_topic_is_read_as_it_is(kafka: KafkaServer, open_bus: Callable[[KafkaConfig], Bus]) -> None:
    config = config_for(kafka)
    name = f"firewall-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, num_partitions=3, replication_factor=1)])[name].result()
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(name, b"no key", timestamp=1_700_000_000_123, headers=[("odd", b"\xff\xfe"), ("none", None)])
    producer.produce(name, None, key="only a key", timestamp=1_700_000_000_124)
    assert producer.flush(30) == 0
    bus = open_bus(config)
    broker = bus.open("d-0", "detect", [f"={name}"])
    batch, gained = poll_until_records(broker, 2)
    assert gained == {(f"={name}", p) for p in range(3)}
    by_time = sorted(batch.records, key=lambda record: record.time)
    assert [record.time for record in by_time] == [1_700_000_000.123, 1_700_000_000.124]
    assert [(record.key, record.value) for record in by_time] == [(b"", b"no key"), (b"only a key", b"")]
    assert by_time[0].headers == {"odd": "\ufffd\ufffd", "none": ""}
    partition = (f"={name}", by_time[0].partition)
    broker.commit(batch, [], [Change(partition, b"k", b"v")])
    assert broker.restore(partition) == {b"k": b"v"}
    topics = admin.list_topics(timeout=20).topics
    assert len(topics[f"{config.prefix}.{name}.state"].partitions) == 3


def test_topics_are_created_with_their_keeping(kafka: KafkaServer, open_bus: Callable[[KafkaConfig], Bus]) -> None:
    config = config_for(kafka, retention_s={"raw": 3600.0, "models": 5.0})
    bus = open_bus(config)
    bus.open("d-0", "detect", ["raw"])
    bus.write([Out("models", b"m", b"x", 1.0), Out("verdicts", b"v", b"x", -62e9)])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    asked = {
        name: ConfigResource(ConfigResource.Type.TOPIC, f"{config.prefix}.{name}")
        for name in ("raw", "raw.state", "models", "verdicts")
    }
    answers = admin.describe_configs(list(asked.values()))
    found = {name: answers[resource].result() for name, resource in asked.items()}
    policy = {name: settings["cleanup.policy"].value for name, settings in found.items()}
    assert policy == {"raw": "delete", "raw.state": "compact", "models": "compact", "verdicts": "delete"}
    assert found["raw"]["retention.ms"].value == "3600000"
    assert found["verdicts"]["retention.ms"].value == "-1"
    assert {settings["message.timestamp.type"].value for settings in found.values()} == {"LogAppendTime"}
    (verdict,) = bus.open("reader").read("verdicts")
    assert verdict.time == -62e9


def test_restore_waits_for_an_open_transaction_and_read_does_not(
    kafka: KafkaServer, open_bus: Callable[[KafkaConfig], Bus]
) -> None:
    config = config_for(kafka)
    bus = open_bus(config)
    broker = bus.open("d-0", "detect", ["raw"])
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": config.prefix, "transaction.timeout.ms": 60000}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for topic in ("raw.state", "raw"):
        producer.produce(f"{config.prefix}.{topic}", b"1", key=b"k", partition=2)
    assert producer.flush(20) == 0
    with ThreadPoolExecutor(1) as pool:
        restoring = pool.submit(broker.restore, ("raw", 2))
        assert list(broker.read("raw")) == []
        assert not restoring.done()
        producer.commit_transaction(20)
        assert restoring.result(60) == {b"k": b"1"}
    assert [record.value for record in broker.read("raw")] == [b"1"]


def test_restore_waits_for_a_transaction_on_the_offsets(
    kafka: KafkaServer, open_bus: Callable[[KafkaConfig], Bus]
) -> None:
    """Its records may not have reached the changelog yet: reading that first would miss them."""
    config = config_for(kafka)
    bus = open_bus(config)
    bus.write([Out("raw", b"k", b"1", 0.0)])
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"{config.prefix}.detect"})
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": config.prefix, "transaction.timeout.ms": 60000}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    p = partition_of(b"k", 4)
    offset = TopicPartition(f"{config.prefix}.raw", p, 1)
    producer.send_offsets_to_transaction([offset], consumer.consumer_group_metadata(), 20)
    late = bus.open("d-0", "detect", ["raw"])
    with ThreadPoolExecutor(1) as pool:
        restoring = pool.submit(late.restore, ("raw", p))
        producer.produce(f"{config.prefix}.raw.state", b"1", key=b"k", partition=p)
        assert producer.flush(20) == 0
        assert not restoring.done()
        producer.commit_transaction(20)
        assert restoring.result(60) == {b"k": b"1"}
    consumer.close()


def test_too_large_a_record_is_refused_and_leaves_no_trace(
    kafka: KafkaServer, open_bus: Callable[[KafkaConfig], Bus]
) -> None:
    bus = open_bus(config_for(kafka, record_bytes_max=100_000))
    broker = bus.open("ingest-0")
    with pytest.raises(ValueError, match="record_bytes_max"):
        broker.commit(None, [Out("raw", b"a", b"small", 0.0), Out("raw", b"a", bytes(100_001), 0.0)], [])
    broker.commit(None, [Out("raw", b"a", bytes(100_000), 0.0, {"tenant": "t" * 2000})], [])
    assert [len(record.value) for record in broker.read("raw")] == [100_000]


def test_a_broker_killed_under_way_loses_and_doubles_nothing_and_all_gone_is_down(
    kafka_cluster: KafkaServer, open_bus: Callable[[KafkaConfig], Bus]
) -> None:
    # The coordinator moves within some 6 s; a static member that times out meanwhile can be taken for its own double.
    bus = open_bus(config_for(kafka_cluster, session_timeout_s=30.0))
    writer = bus.open("writer")
    writer.commit(None, outs(2000), [])
    worker = Worker(bus.open("d-0", "detect", ["raw"]))
    processed = 0

    def step() -> None:
        nonlocal processed
        with suppress(BrokerDown):  # a caller tries again
            processed += worker.step(Limits(lines_max=100, wait_s=0.1))

    until(lambda: processed >= 500, step)
    kafka_cluster.kill(1)
    until(lambda: processed >= 2000, step)
    check_exactly_once(bus, 2000)
    kafka_cluster.kill(0)
    kafka_cluster.kill(2)

    def poll() -> None:
        worker.broker.poll(Limits(wait_s=0.2))

    with pytest.raises(BrokerDown):
        until(never, poll)


never: Callable[[], bool] = bool


class Deaf:
    """A producer whose next `send_offsets_to_transaction` never comes back, as librdkafka's does now and then."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> object:
        return getattr(self._producer, name)

    def send_offsets_to_transaction(self, *_: object) -> None:
        Event().wait()


def test_a_call_that_never_comes_back_is_given_up(
    kafka: KafkaServer, open_bus: Callable[[KafkaConfig], Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_kafka, "OVERTIME_S", 0.5)
    bus = open_bus(config_for(kafka, request_timeout_s=5.0))
    bus.write(outs(100))
    broker = bus.open("d-0", "detect", ["raw"])
    assert isinstance(broker, KafkaBroker)
    worker = Worker(broker)
    until(lambda: len(worker.poll().records) > 0, lambda: None)
    broker._transactions = Deaf(broker._producer())  # type: ignore[assignment]
    with pytest.raises(BrokerDown, match="no answer"):
        worker.commit()
    worker.counts.clear()
    seen = 0

    def step() -> None:
        nonlocal seen
        seen += worker.step()

    until(lambda: seen >= 100, step)
    check_exactly_once(bus, 100)


def test_a_bounded_call_answers_and_fails_as_itself() -> None:
    called: list[int] = []
    within(5.0, lambda: called.append(1))
    assert called == [1]
    with pytest.raises(ZeroDivisionError):
        within(5.0, lambda: 1 // 0)


DIES_ON_REVOKE = """
import os, signal, sys
from confluent_kafka import Consumer
servers, group, member, *topics = sys.argv[1:]
consumer = Consumer({
    "bootstrap.servers": servers, "group.id": group, "group.instance.id": member, "session.timeout.ms": 30000,
    "partition.assignment.strategy": "cooperative-sticky", "enable.auto.commit": False,
})
consumer.subscribe(
    topics,
    on_assign=lambda _, partitions: print(len(partitions), flush=True),
    on_revoke=lambda *_: os.kill(os.getpid(), signal.SIGKILL),
)
while True:
    consumer.poll(0.1)
"""


def test_partitions_that_a_dead_worker_gave_up_get_an_owner(
    kafka: KafkaServer, open_bus: Callable[[KafkaConfig], Bus]
) -> None:
    config = config_for(kafka, session_timeout_s=30.0)
    bus = open_bus(config)
    bus.write([*outs(20), Out("signals", b"k", b"v", 1.0)])
    names = [f"{config.prefix}.raw", f"{config.prefix}.signals"]
    arguments = [kafka.bootstrap, f"{config.prefix}.detect", "d-0", *names]
    with subprocess.Popen([sys.executable, "-c", DIES_ON_REVOKE, *arguments], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"8\n"
        workers = [bus.open("d-1", "detect", ["raw", "signals"])]
        until(lambda: first.poll() is not None, lambda: workers[0].poll(QUICK))
    workers.append(bus.open("d-0", "detect", ["raw", "signals"]))
    owned: dict[int, set[tuple[str, int]]] = {0: set(), 1: set()}

    def step() -> None:
        for number, worker in enumerate(workers):
            batch = worker.poll(QUICK)
            owned[number] = (owned[number] - set(batch.lost)) | set(batch.gained)

    everything = {(topic, p) for topic in ("raw", "signals") for p in range(4)}
    until(lambda: owned[0] | owned[1] == everything, step)
    assert not owned[0] & owned[1]
