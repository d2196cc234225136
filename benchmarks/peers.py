"""Beside Logprep on the same Kafka and the same lines: firewall lines taken apart, 100 equivalent detection rules over them."""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks import lines, measure
from shield import config as configs
from shield.broker import Out, open_broker
from shield.demo_logs import TENANT
from tests.kafka_server import KafkaServer, Unavailable

LINES = 60_000
RULES = 100
PARTITIONS = 4
FEW = ("srcip", "srcport", "dstip", "dstport", "service", "action", "sentbyte", "rcvdbyte")
SKIPPED = 0.1  # share of Logprep's outputs before its clock starts, so that its start is not counted
HOME = measure.ROOT / ".cache" / "logprep"
CONFIG = """
broker: {{use: kafka, bootstrap_servers: "{kafka}", prefix: {prefix}, partitions: 4, replication_factor: 1}}
bundled_rules: false
rules: [{rules}]
models: {{key_file: {folder}/models.key}}
metrics: {{ingest: 0, detect: {port}, deliver: 0}}
sources:
{source}
"""


def firewall_lines(count: int) -> list[str]:
    """Traffic lines only: one layout, as the one dissector pattern wants it."""
    begin = time.time() // 60 * 60 - 3600
    found: list[str] = []
    seed = 1
    while len(found) < count:
        found += [x.text for x in lines.town(count * 2, begin, 400.0, seed=seed) if ' type="traffic"' in x.text]
        seed += 1
    return found[:count]


def conditions() -> list[dict[str, str]]:
    """Half are equal on two fields and hit now and then; half look for a part of a text and never do."""
    return [
        {"srcip": f"198.51.100.{number + 1}", "dstport": "23"}
        if number % 2 == 0
        else {"service": f"*tool{number}*", "action": "deny"}
        for number in range(RULES)
    ]


def write_sigma(folder: Path) -> Path:
    folder.mkdir(parents=True)
    documents = []
    for number, condition in enumerate(conditions()):
        selection = {
            f"{name}|contains" if value.startswith("*") else name: value.strip("*") for name, value in condition.items()
        }
        documents.append(
            {
                "title": f"Rule {number}",
                "id": f"00000000-0000-4000-8000-{number:012d}",
                "status": "test",
                "level": "medium",
                "tags": ["attack.discovery", "attack.t1046"],
                "logsource": {"product": "fortigate", "category": "firewall"},
                "detection": {"selection": selection, "condition": "selection"},
            }
        )
    (folder / "rules.yml").write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    return folder


def write_logprep(folder: Path, kafka: str, sample: str, *, few: bool) -> Path:
    """Logprep's configuration with its rules; consumer and producer set up for throughput. `few`: keep only FEW fields."""

    def placed(match: re.Match[str]) -> str:
        kept = match[1] if match[1] in FEW or not few else ""
        return f"{match[1]}={match[2]}%{{{kept}}}"

    pattern = re.sub(r'(\w+)=("?)(?:(?<=")[^"]*|[^" ]+)', placed, sample)
    dissect = folder / "dissector"
    detect = folder / "pre_detector"
    dissect.mkdir(parents=True)
    detect.mkdir()
    (dissect / "firewall.yml").write_text(
        yaml.safe_dump({"filter": "message", "dissector": {"mapping": {"message": pattern}}}), encoding="utf-8"
    )
    for number, condition in enumerate(conditions()):
        rule = {
            "filter": " AND ".join(f'{name}: "{value}"' for name, value in condition.items()),
            "pre_detector": {
                "id": f"rule-{number}",
                "title": f"Rule {number}",
                "severity": "medium",
                "mitre": ["attack.t1046"],
                "case_condition": "directly",
            },
        }
        (detect / f"{number:03}.yml").write_text(yaml.safe_dump(rule), encoding="utf-8")
    servers = {"bootstrap.servers": kafka}
    config = {
        "version": "1",
        "process_count": 1,
        "timeout": 0.1,
        "logger": {"level": "WARNING"},
        "metrics": {"enabled": False},
        "input": {
            "kafka": {
                "type": "confluentkafka_input",
                "topic": "docs",
                "kafka_config": servers
                | {
                    "group.id": folder.name,
                    "enable.auto.commit": "true",
                    "auto.offset.reset": "earliest",
                    "queued.min.messages": "100000",
                    "queued.max.messages.kbytes": "65536",
                },
            }
        },
        "output": {
            "kafka": {
                "type": "confluentkafka_output",
                "topic": f"{folder.name}.processed",
                "flush_timeout": 30,
                "send_timeout": 0,
                "kafka_config": servers | {"linger.ms": "50"},
            }
        },
        "pipeline": [
            {"dissector": {"type": "dissector", "rules": [str(dissect)]}},
            {
                "detector": {
                    "type": "pre_detector",
                    "rules": [str(detect)],
                    "outputs": [{"kafka": f"{folder.name}.detections"}],
                }
            },
        ],
    }
    path = folder / "logprep.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def logprep() -> tuple[Path, str]:
    """Logprep's program in an environment of its own, and its version."""
    program = HOME / "bin" / "logprep"
    if not program.exists():
        shutil.rmtree(HOME, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
        subprocess.run([HOME / "bin" / "pip", "install", "--quiet", "--upgrade", "logprep"], check=True)
    shown = subprocess.run([HOME / "bin" / "pip", "show", "logprep"], check=True, capture_output=True, text=True)
    return program, next(x.split()[1] for x in shown.stdout.splitlines() if x.startswith("Version:"))


def fill(kafka: str, topic: str, values: Sequence[bytes], admin: AdminClient) -> None:
    """Spread evenly over the partitions."""
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 50, "queue.buffering.max.messages": 1_000_000})
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % PARTITIONS)
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(120):
        raise RuntimeError("Kafka did not take the lines")


def counter(kafka: str, topic: str) -> Callable[[], int]:
    """How many records a topic holds."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "bench-count", "log_level": 0})
    partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    return lambda: sum(consumer.get_watermark_offsets(p, timeout=10)[1] for p in partitions)


def run_logprep(program: Path, config: Path, kafka: str, count: int, name: str) -> dict[str, Any]:
    folder = config.parent
    outputs, detections = (counter(kafka, f"{folder.name}.{topic}") for topic in ("processed", "detections"))
    with measure.started([str(program), "run", str(config)], folder / "logprep.log") as manager:

        def reached(share: float) -> bool:
            manager.check()
            return outputs() >= count * share

        measure.until(lambda: reached(SKIPPED), "Logprep wrote nothing", every_s=0.2, within_s=300)
        pipeline = _busiest(manager.pid)
        first, first_s, begun = outputs(), pipeline.cpu_s(), time.monotonic()
        measure.until(lambda: reached(1.0), "Logprep did not finish", every_s=0.2, within_s=600)
        cpu_s, wall_s = pipeline.cpu_s() - first_s, time.monotonic() - begun
        peak_mb = pipeline.peak_mb()
    done = count - first
    return {
        "program": name,
        "docs": count,
        "outputs": outputs(),
        "detections": detections(),
        "docs/s": done / wall_s,
        "docs/CPU s": done / cpu_s,
        "peak MB": peak_mb,
    }


def _busiest(parent: int) -> measure.Watched:
    """The descendant that has worked most: the pipeline."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # gone meanwhile
        children.setdefault(int(stat[1]), []).append(int(path.parent.name))
    found, waiting = [], [parent]
    while waiting:
        waiting += (below := children.get(waiting.pop(), []))
        found += below
    return max((measure.Process(pid) for pid in found), key=measure.Process.cpu_s)


def run_shield(folder: Path, kafka: str, rules: Path, texts: Sequence[str], *, single: bool) -> dict[str, Any]:
    """One detect worker. `single`: one line per record from a topic of others, as Logprep gets them; else as ingest writes."""
    port = measure.free_port()
    name = "single" if single else "joined"
    place = folder / name
    place.mkdir()
    options = "use: topic, topic: lines" if single else "use: file, mode: replay, path: unused.log"
    source = lines.source_config("firewall", time.gmtime().tm_year, options)
    path = place / "shield.yml"
    (place / "models.key").write_text("0" * 64, encoding="utf-8")  # signs nothing here
    path.write_text(CONFIG.format(kafka=kafka, prefix=name, rules=rules, folder=place, port=port, source=source))
    loaded = configs.load(path)
    broker = open_broker(loaded.broker, member="preload")
    if not single:
        size = lines.RECORD_LINES
        parts = [texts[at : at + size] for at in range(0, len(texts), size)]
        outs = [
            Out(
                "raw",
                TENANT.encode(),
                "\n".join(part).encode(),
                time.time(),
                {"tenant": TENANT, "source": "firewall", "framing": "lines", "lines": str(len(part))},
            )
            for part in parts
        ]
        for at in range(0, len(outs), 40):
            broker.commit(None, outs[at : at + 40], [])
    with measure.started(measure.shield("detect", str(path), "--worker", "detect-0"), place / "detect.log") as worker:
        measure.until(lambda: worker.check() or measure.metrics(port), "detect did not start", every_s=0.01)
        before_s, begun = worker.cpu_s(), time.monotonic()
        read = "shield_events_ingested_total"
        measure.until(lambda: measure.metrics(port).get(read, 0) >= len(texts), "lines were not read")
        measure.until(lambda: not broker.backlog("signals", "detect"), "signals were not read")
        cpu_s, wall_s = worker.cpu_s() - before_s, time.monotonic() - begun
        found = measure.metrics(port)
        broker.close()
        return {
            "program": "shield detect, one line per record" if single else "shield detect, lines joined by ingest",
            "docs": len(texts),
            "outputs": round(found[read] - found.get("shield_events_rejected_total", 0)),
            "detections": round(found.get("shield_rule_matches_total", 0)),
            "docs/s": len(texts) / wall_s,
            "docs/CPU s": len(texts) / cpu_s,
            "peak MB": worker.peak_mb(),
        }


def run(count: int, runs: int) -> None:
    program, version = logprep()
    texts = firewall_lines(count)
    documents = [json.dumps({"message": text}).encode() for text in texts]
    measured: dict[str, list[dict[str, Any]]] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch, KafkaServer(nodes=1, heap_mb=768) as server:
            folder, kafka = Path(scratch), server.bootstrap
            admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
            fill(kafka, "docs", documents, admin)
            fill(kafka, "lines", [text.encode() for text in texts], admin)
            for topic in ("few.processed", "few.detections", "all.processed", "all.detections"):
                fill(kafka, topic, [], admin)
            rules = write_sigma(folder / "sigma")
            few = write_logprep(folder / "few", kafka, texts[0], few=True)
            every = write_logprep(folder / "all", kafka, texts[0], few=False)
            rows = [
                run_logprep(program, few, kafka, count, f"logprep, {len(FEW)} fields of a line"),
                run_logprep(program, every, kafka, count, "logprep, all fields of a line"),
                run_shield(folder, kafka, rules, texts, single=False),
                run_shield(folder, kafka, rules, texts, single=True),
            ]
        for row in rows:
            ratios = {f"{name}, ratio": row[name] / rows[0][name] for name in ("docs/s", "docs/CPU s")}
            measured.setdefault(row["program"], []).append(row | ratios)
    found = {row["detections"] for rows in measured.values() for row in rows}
    measure.write(
        "peers",
        [measure.median(rows) for rows in measured.values()],
        logprep=version,
        rules=RULES,
        runs=runs,
        detections_agree=len(found) == 1,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--runs", type=int, default=measure.RUNS)
    given = parser.parse_args()
    try:
        run(given.lines, given.runs)
    except Unavailable as reason:
        sys.exit(f"no Kafka: {reason}")
