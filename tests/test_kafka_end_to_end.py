"""The product on a real Apache Kafka from end to end: a topic that rsyslog fills, and the demo day as `replay` feeds it."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from kafka_server import KafkaServer, free_port
from running import Roles
from test_senders import program

from shield.broker import Broker, BrokerDown, open_broker
from shield.config import Config, load
from shield.demo_logs import FILES, PARSERS, TENANT, write
from shield.replay import Replay
from shield.roles import stages
from shield.scan import Scan, files_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

KEY = {"SHIELD_MODELS_KEY": "of the tests"}
PATIENCE_S = 90.0
ATTACKER = "203.0.113.66"
TAIL = "metrics: {ingest: 0, detect: 0, deliver: 0}\n"


def kafka_text(kafka: KafkaServer) -> str:
    return (
        f'broker: {{use: kafka, bootstrap_servers: "{kafka.bootstrap}", prefix: end-{uuid4().hex[:8]}, partitions: 3,'
        " replication_factor: 1, session_timeout_s: 10}\n"
    )


def configured(folder: Path, text: str) -> tuple[Path, Config]:
    path = folder / "shield.yml"
    path.write_text(text + TAIL)
    return path, load(path)


@contextmanager
def detecting(folder: Path, path: Path, config: Config) -> Iterator[tuple[Roles, Broker]]:
    broker = open_broker(config.broker, member="test")
    try:
        with Roles(folder, path, os.environ | KEY) as roles:
            roles.add("detect-1", "detect")
            yield roles, broker
            assert roles.stop() == {"detect-1": 0}
    finally:
        broker.close()


def wait_for(condition: Callable[[], bool], told: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)


def alerts_of(broker: Broker) -> dict[str, dict[str, Any]]:
    """Newest document per alert id."""
    found: dict[str, dict[str, Any]] = {}
    for record in broker.read("alerts"):
        document = msgspec.json.decode(record.value)
        held = found.get(document["event"]["id"])
        if held is None or held["shield"]["revision"] < document["shield"]["revision"]:
            found[document["event"]["id"]] = document
    return found


# --- a foreign topic ---

RSYSLOG = """\
global(workDirectory="{folder}/work")
module(load="imtcp")
module(load="omkafka")
template(name="bare" type="string" string="%msg%")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="to-kafka")
ruleset(name="to-kafka") {{
  if $programname == "broken" then {{
    action(type="omkafka" broker=["{bootstrap}"] topic="{topic}" template="bare" errorFile="{folder}/kafka.err")
  }} else {{
    action(type="omkafka" broker=["{bootstrap}"] topic="{topic}" template="RSYSLOG_SyslogProtocol23Format" errorFile="{folder}/kafka.err")
  }}
}}
"""


@contextmanager
def rsyslog(folder: Path, kafka: KafkaServer, topic: str) -> Iterator[int]:
    """rsyslogd with a configuration of our own, in the foreground; gives its TCP port."""
    rsyslogd = program("rsyslogd", "rsyslog rsyslog-kafka")
    if not list(Path("/usr/lib").glob("*/rsyslog/omkafka.so")):
        program("omkafka.so", "rsyslog-kafka")
    (folder / "work").mkdir()
    port = free_port()
    path = folder / "rsyslog.conf"
    path.write_text(RSYSLOG.format(folder=folder, port=port, bootstrap=kafka.bootstrap, topic=topic))
    with (folder / "rsyslog.out").open("wb") as out:
        process = subprocess.Popen([rsyslogd, "-n", "-f", path, "-i", folder / "rsyslog.pid"], stdout=out, stderr=out)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


def log(logger: str, port: int, tag: str, number: int, text: str) -> bool:
    command = [
        logger,
        "--tcp",
        "--rfc5424",
        "-n",
        "127.0.0.1",
        "-P",
        str(port),
        "-t",
        tag,
        f"--id={number}",
        "-p",
        "auth.info",
        text,
    ]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0


def test_a_topic_that_rsyslog_fills(kafka: KafkaServer, tmp_path: Path) -> None:
    logger = program("logger", "bsdutils")
    topic = f"linux-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.create_topics([NewTopic(topic, num_partitions=3, replication_factor=1)]).values():
        future.result()
    source = f"sources: [{{use: topic, tenant: amt-nord, source: server, topic: {topic}, parser: linux_auth}}]\n"
    path, config = configured(
        tmp_path, kafka_text(kafka) + source + "alerts: {direct_levels: [medium, high, critical]}\n"
    )
    with rsyslog(tmp_path, kafka, topic) as port, detecting(tmp_path, path, config) as (roles, broker):

        def told() -> str:
            errors = tmp_path / "kafka.err"
            said = (tmp_path / "rsyslog.out").read_text() + (errors.read_text() if errors.exists() else "")
            return said + roles.all["detect-1"].last_words()

        wait_for(lambda: log(logger, port, "cron", 1, "(root) CMD (true)"), told)
        for number in range(15):
            text = f"Failed password for root from {ATTACKER} port {40_000 + number} ssh2"
            assert log(logger, port, "sshd", 700 + number, text)
        assert log(logger, port, "broken", 1, "this is no line of syslog")
        wait_for(lambda: bool(alerts_of(broker)) and any(broker.read("dead")), told)
        (alert,) = alerts_of(broker).values()
        dead = list(broker.read("dead"))
    assert alert["rule"]["name"] == "SSH brute force"
    assert alert["organization"]["id"] == "amt-nord"
    assert alert["source"]["ip"] == ATTACKER
    assert {line["source"] for line in alert["evidence"]} == {"server"}
    assert all("Failed password for root" in line["original"] for line in alert["evidence"])
    assert any(b"this is no line of syslog" in record.value for record in dead)
    for record in dead:
        assert (record.headers["tenant"], record.headers["source"]) == ("amt-nord", "server")
        assert record.headers["origin"].startswith(f"={topic}:")
        assert record.headers["reason"]


# --- the demo day ---


def demo_sources(folder: Path) -> str:
    return "silent_after_s: 1000000000\nsources:\n" + "".join(
        f"  - {{use: file, mode: replay, tenant: {TENANT}, source: {name}, parser: {PARSERS[name]},"
        f" timezone: Europe/Berlin, year: 2026, path: {folder / file}}}\n"
        for name, file in FILES.items()
    )


def scanned(config: Config) -> set[str]:
    ids: set[str] = set()
    Scan(config, *stages(config), lambda _, body: ids.add(msgspec.json.decode(body)["event"]["id"])).run(
        now=time.time()
    )
    return ids


def test_replay_gives_the_alerts_of_scan(kafka: KafkaServer, tmp_path: Path) -> None:
    write(tmp_path, 3, 12_000)
    path, config = configured(tmp_path, kafka_text(kafka) + demo_sources(tmp_path))
    with detecting(tmp_path, path, config) as (roles, broker):
        assert Replay(config).run(files_of(config), None) == 12_000

        def through() -> bool:
            try:
                return broker.backlog("raw", "detect") == 0 == broker.backlog("signals", "detect")
            except BrokerDown:
                return False

        wait_for(through, roles.all["detect-1"].last_words)
        alerts = alerts_of(broker)
    rules = {alert["rule"]["name"] for alert in alerts.values()}
    assert len(rules) >= 3
    assert alerts.keys() == scanned(config)
