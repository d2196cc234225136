"""A real Apache Kafka for tests and benchmarks: fetched with Maven once, started on free ports, stopped at the end.

with KafkaServer(nodes=1) as kafka:
    kafka.bootstrap
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

KAFKA_VERSION = "4.1.1"
READY_S = 90.0
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
</dependency></dependencies></project>
"""
LOG4J2 = """Configuration:
  status: error
  Appenders:
    Console: {name: out, target: SYSTEM_OUT, PatternLayout: {pattern: "%d %p %c: %m%n"}}
  Loggers:
    Root: {level: warn, AppenderRef: [{ref: out}]}
"""


class Unavailable(RuntimeError):  # noqa: N818 - a fact about the machine, not a mistake
    """Java, Maven or the download is missing."""


def jars() -> Path:
    """The folder with Apache Kafka's jars, filled on first use."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Unavailable(f"no {program} on this machine")
    cache = Path(os.environ.get("STADTSCHILD_CACHE") or Path(__file__).resolve().parent.parent / ".cache")
    folder = cache / f"kafka-{KAFKA_VERSION}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        pom = Path(scratch) / "pom.xml"
        pom.write_text(POM)
        fetched = Path(scratch) / "jars"
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode != 0:
            raise Unavailable(f"Maven could not fetch Apache Kafka: {done.stdout[-500:]}")
        if not folder.is_dir():  # another process may have been faster
            fetched.rename(folder)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class KafkaServer:
    """One combined broker and controller, or a cluster of three."""

    def __init__(self, nodes: int = 1, *, heap_mb: int = 0, extra: dict[str, str] | None = None) -> None:
        self.nodes = nodes
        self._jars = jars()
        self._heap_mb = heap_mb or (768 if nodes == 1 else 640)
        self._extra = extra or {}
        self._ports = [free_port() for _ in range(nodes)]
        self._controller_ports = [free_port() for _ in range(nodes)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * nodes
        self._folder = Path(tempfile.mkdtemp(prefix="kafka-"))

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def __enter__(self) -> Self:
        try:
            (self._folder / "log4j2.yaml").write_text(LOG4J2)
            identity = b"\0" + uuid4().bytes[1:]  # or it could begin with a dash, which the tool takes for an option
            cluster_id = urlsafe_b64encode(identity).decode().rstrip("=")
            for node in range(self.nodes):
                properties = self._folder / f"{node}.properties"
                properties.write_text("".join(f"{name}={value}\n" for name, value in self._settings(node).items()))
                mode = ["--standalone"] if self.nodes == 1 else []
                self._java("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties), *mode)
            for node in range(self.nodes):
                self.start(node)
            self._await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, node: int) -> None:
        log = (self._folder / f"{node}.log").open("ab")
        with log:
            self._processes[node] = subprocess.Popen(
                [*self._command(self._heap_mb), "kafka.Kafka", str(self._folder / f"{node}.properties")],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def kill(self, node: int) -> None:
        """kill -9."""
        process = self._processes[node]
        assert process is not None
        process.kill()
        process.wait()
        self._processes[node] = None

    def pause(self, node: int) -> None:
        process = self._processes[node]
        assert process is not None
        process.send_signal(signal.SIGSTOP)

    def resume(self, node: int) -> None:
        process = self._processes[node]
        assert process is not None
        process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        running = [process for process in self._processes if process is not None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.kill()  # the data is thrown away: no need for an orderly stop
        for process in running:
            process.wait()
        self._processes = [None] * self.nodes
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self, node: int = 0) -> str:
        return (self._folder / f"{node}.log").read_text(errors="replace")

    def _command(self, heap_mb: int) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self._folder / 'log4j2.yaml'}"
        return [
            "java",
            f"-Xmx{heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            logging,
            "-cp",
            f"{self._jars}/*",
        ]

    def _java(self, *arguments: str) -> str:
        command = [*self._command(256), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout[-1000:]} {done.stderr[-1000:]}")
        return done.stdout

    def _settings(self, node: int) -> dict[str, str]:
        copies = str(min(3, self.nodes))
        port, controller_port = self._ports[node], self._controller_ports[node]
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(node + 1),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._folder / f"data-{node}"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": "2" if self.nodes >= 3 else "1",
            "transaction.state.log.num.partitions": "8",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            "log.cleaner.dedupe.buffer.size": str(16 << 20),  # the default takes a third of this heap
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": "1",
        }
        if self.nodes == 1:
            settings["controller.quorum.bootstrap.servers"] = f"127.0.0.1:{controller_port}"
        else:
            voters = (f"{i + 1}@127.0.0.1:{p}" for i, p in enumerate(self._controller_ports))
            settings["controller.quorum.voters"] = ",".join(voters)
        return settings | self._extra

    def _await_ready(self) -> None:
        """Until every broker is in the metadata and a transactional producer gets its id."""
        from confluent_kafka import KafkaException, Producer
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + READY_S
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            try:
                if len(admin.list_topics(timeout=1).brokers) == self.nodes:
                    break
            except KafkaException:
                pass
            for node, process in enumerate(self._processes):
                if process is not None and process.poll() is not None:
                    raise RuntimeError(f"Apache Kafka ended at start: {self.log(node)[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"Apache Kafka is not ready: {self.log()[-2000:]}")
            time.sleep(0.2)
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "transactional.id": f"ready-{uuid4().hex}", "log_level": 0}
        )
        while True:
            try:
                producer.init_transactions(10)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
            else:
                return
