"""End to end: a raw topic full of lines, one detect worker until nothing is left; then ingest and delivery for themselves, and
how long an alert takes at half load.

CPU is that of the product's own processes, from the moment they answer on /metrics. The embedded broker works inside them;
Kafka is a process of its own and is not counted.
"""

import argparse
import itertools
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks import lines, measure
from benchmarks.bench_detect import PROFILES, RULES, TWO
from benchmarks.bench_rules import RULES as PUBLIC_RULES
from shield import config as configs
from shield.broker import Out, open_broker
from shield.demo_logs import TENANT
from shield.scan import Scan
from tests.kafka_server import KafkaServer, Unavailable

LINES = 200_000
PER_SECOND = 400.0
RECORDS_PER_COMMIT = 40
REST_EVERY_S, REST_LOOKS, REST_SHARE = 0.25, 8, 0.1  # at rest: below this share of a core over so many looks
LATENCY_S = 20.0  # how long half load is kept up
LATENCY_SKIPPED_S = 4.0  # of it at the start, until everything is warm
ATTACKS_PER_S = 8.0
PLACEHOLDERS = {"known_cdcs": ["10.20.1.10"]}  # of two public rules; without values they would be refused
CONFIG = """
broker: {broker}
bundled_rules: false
rules: [{rules}]
placeholders: {placeholders}
profiles: [{profiles}]
models: {{key_file: {folder}/models.key}}
metrics: {{ingest: {ingest}, detect: {detect}, deliver: {deliver}}}
sources:
{sources}
sinks:
  - {{use: ndjson, name: file, path: {folder}/alerts.ndjson}}
"""


class Town:
    """The lines of all runs, and what must come out of them."""

    def __init__(
        self,
        count: int,
        per_second: float,
        profiles: Sequence[Path],
        folder: Path,
        rules: Sequence[Path] = RULES,
    ) -> None:
        self.rules = rules
        self.begin = time.time() // 60 * 60 - 3600
        self.year = datetime.fromtimestamp(self.begin, UTC).year
        self.profiles = profiles
        made = lines.town(count, self.begin, per_second)
        self.count = count
        self.files = lines.write_files(made, folder / "lines")
        self.raw = lines.raw_records(made)
        self.tally, self.alerts = self._scanned(folder)

    def config(self, folder: Path, broker: str, sources: str | None = None, **ports: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "shield.yml"
        (folder / "models.key").write_text("0" * 64, encoding="utf-8")  # signs nothing here: nothing is trained
        text = CONFIG.format(
            broker=broker,
            rules=", ".join(map(str, self.rules)),
            placeholders=json.dumps(PLACEHOLDERS),
            profiles=", ".join(map(str, self.profiles)),
            folder=folder,
            sources=sources
            or "\n".join(
                lines.source_config(source, self.year, f"use: file, mode: replay, path: {path}")
                for source, path in self.files.items()
            ),
            **({"ingest": 0, "detect": 0, "deliver": 0} | ports),
        )
        path.write_text(text, encoding="utf-8")
        return path

    def _scanned(self, folder: Path) -> tuple[dict[str, int], set[str]]:
        """The reference: the same stages over the files in one straight run."""
        from shield import roles

        loaded = configs.load(self.config(folder / "reference", "{use: embedded}"))
        found: set[str] = set()
        reference = Scan(
            loaded,
            *roles.stages(loaded, future_s=float("inf")),
            lambda _, document: found.add(json.loads(document)["event"]["id"]),
        )
        reference.run(now=time.time())
        tally = reference.tally
        dead = sum(tally.dead.values())
        if tally.lines != self.count or tally.events + dead + tally.blank != tally.lines:
            raise AssertionError(f"the reference run lost lines: {tally.lines} of {self.count}")
        return {"events": tally.events, "unreadable": dead, "blank": tally.blank}, found


def preload(town: Town, config: Path) -> None:
    """The raw topic as live ingest would have filled it."""
    broker = open_broker(configs.load(config).broker, member="preload")
    outs = (
        Out(
            "raw",
            TENANT.encode(),
            b"\n".join(raw.lines),
            raw.time,
            {"tenant": TENANT, "source": raw.source, "framing": "lines", "lines": str(len(raw.lines))},
        )
        for raw in town.raw
    )
    while some := list(itertools.islice(outs, RECORDS_PER_COMMIT)):
        broker.commit(None, some, [])
    broker.close()


def detect(town: Town, folder: Path, broker: str) -> dict[str, Any]:
    """One detect worker against the backlog."""
    port = measure.free_port()
    config = town.config(folder, broker, detect=port)
    preload(town, config)
    loaded = configs.load(config)
    with measure.started(
        measure.shield("detect", str(config), "--worker", "detect-0"), folder / "detect.log"
    ) as worker:
        # the first answer comes after rules and profiles are loaded and before the first batch is taken
        measure.until(lambda: worker.check() or measure.metrics(port), "detect did not start", every_s=0.01)
        before_s, begun = worker.cpu_s(), time.monotonic()
        done = "shield_events_ingested_total"
        measure.until(lambda: measure.metrics(port).get(done, 0) >= town.count, "lines were not read", every_s=0.1)
        cpu_s, wall_s = worker.cpu_s() - before_s, time.monotonic() - begun
        with_broker = open_broker(loaded.broker, member="watch")
        ids: set[str] = set()
        try:
            # signals that were made of the last lines; the last minutes close only when the sources fall silent
            measure.until(lambda: not with_broker.backlog("signals", "detect"), "signals were not read")
            drained_s, drained = worker.cpu_s() - before_s, time.monotonic() - begun

            def complete() -> bool:
                ids.update(json.loads(r.value)["event"]["id"] for r in with_broker.read("alerts"))
                return ids >= town.alerts

            try:
                measure.until(complete, "alerts are missing", every_s=0.5, within_s=20)
            except TimeoutError:
                print(f"  missing {len(town.alerts - ids)} of {len(town.alerts)} alerts")
            _rest(worker)
            tail_s = worker.cpu_s() - before_s - drained_s  # what the last minutes cost when they closed
        finally:
            with_broker.close()
        counted = measure.metrics(port)
        peak_mb = worker.peak_mb()
    in_lines = round(counted["shield_events_ingested_total"])
    unreadable = round(counted.get("shield_events_rejected_total", 0))
    phases = {name: counted.get(f"wall_s_{name}", 0.0) for name in ("poll", "detect", "step", "commit")}
    return {
        "lines": in_lines,
        "no_line_lost": in_lines == town.count and unreadable == town.tally["unreadable"],
        "alerts": len(ids),
        "alerts_as_expected": ids == town.alerts,
        "lines/s": town.count / (drained + tail_s),
        "lines/CPU s": town.count / (drained_s + tail_s),
        "us CPU/line": 1e6 * (drained_s + tail_s) / town.count,
        "peak MB": peak_mb,
        **{f"{name} s": took for name, took in phases.items()},
        "raw read after s": wall_s,
        "raw read CPU s": cpu_s,
    }


def _rest(worker: measure.Process) -> None:
    """Until a worker only waits."""
    held = [worker.cpu_s()]

    def idle() -> bool:
        held.append(worker.cpu_s())
        return len(held) > REST_LOOKS and held[-1] - held[-1 - REST_LOOKS] < REST_SHARE * REST_LOOKS * REST_EVERY_S

    measure.until(idle, "the worker does not come to rest", every_s=REST_EVERY_S)


def ingest_cost(town: Town, folder: Path, broker: str) -> dict[str, float]:
    """The ingest role over the files: CPU beyond that of a start with nothing to read."""
    empty = {source: folder / f"{source}.empty" for source in town.files}
    for path in empty.values():
        path.write_bytes(b"")
    idle = "\n".join(
        lines.source_config(s, town.year, f"use: file, mode: replay, path: {path}") for s, path in empty.items()
    )
    start = measure.finished(
        measure.shield("ingest", str(town.config(folder / "start", broker, idle)), "--worker", "start"),
        folder / "ingest.log",
    )
    full = measure.finished(
        measure.shield("ingest", str(town.config(folder / "full", broker)), "--worker", "full"), folder / "ingest.log"
    )
    cpu_s = full["cpu_s"] - start["cpu_s"]
    return {
        "ingest us CPU/line": 1e6 * cpu_s / town.count,
        "ingest peak MB": full["peak_mb"],
    }


def deliver_cost(town: Town, folder: Path, broker: str) -> dict[str, float]:
    """The deliver role over the alerts that `detect` left: CPU beyond its start."""
    port = measure.free_port()
    config = town.config(folder, broker, deliver=port)
    target = folder / "alerts.ndjson"
    watch = open_broker(configs.load(config).broker, member="watch")
    wanted = sum(1 for _ in watch.read("alerts"))
    watch.close()
    with measure.started(measure.shield("deliver", str(config), "--sink", "file"), folder / "deliver.log") as worker:
        measure.until(lambda: worker.check() or measure.metrics(port), "deliver did not start", every_s=0.01)
        before_s = worker.cpu_s()
        measure.until(
            lambda: target.exists() and target.read_bytes().count(b"\n") >= wanted, "alerts were not delivered"
        )
        cpu_s = worker.cpu_s() - before_s
        return {"deliver us CPU/line": 1e6 * cpu_s / town.count, "deliver peak MB": worker.peak_mb()}


@contextmanager
def brokers(names: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Broker options by name; {folder} and {prefix} are filled in per run."""
    with ExitStack() as stack:
        found = {}
        if "embedded" in names:
            found["embedded"] = "{{use: embedded, path: {folder}/shield.db}}"
        if "kafka" in names:
            try:
                kafka = stack.enter_context(KafkaServer(nodes=1, heap_mb=768))
            except Unavailable as reason:
                print(f"without Kafka: {reason}")
            else:
                found["kafka"] = (
                    f'{{{{use: kafka, bootstrap_servers: "{kafka.bootstrap}", prefix: {{prefix}}, partitions: 4, replication_factor: 1}}}}'
                )
        yield found


def latency(town: Town, folder: Path, broker: str, per_second: float) -> dict[str, Any]:
    """From handing a line to the syslog listener until its alert lies in the sink, with all roles at work."""
    firewall_port, windows_port = measure.free_port(), measure.free_port()
    sources = "\n".join(
        lines.source_config(source, town.year, f"use: syslog, listen: ['tcp://127.0.0.1:{port}']")
        for source, port in (("firewall", firewall_port), ("windows", windows_port))
    )
    detect_port, deliver_port = measure.free_port(), measure.free_port()
    config = town.config(folder, broker, sources, detect=detect_port, deliver=deliver_port)
    sent: dict[str, float] = {}
    with ExitStack() as stack:
        target = folder / "alerts.ndjson"
        seen: dict[str, float] = {}
        stop = threading.Event()
        roles = {
            "ingest": ("ingest", str(config), "--worker", "ingest-0"),
            "detect": ("detect", str(config), "--worker", "detect-0"),
            "deliver": ("deliver", str(config), "--sink", "file", "--worker", "deliver-0"),
        }
        workers = {
            name: stack.enter_context(measure.started(measure.shield(*command), folder / f"{name}.log"))
            for name, command in roles.items()
        }
        measure.until(lambda: measure.metrics(detect_port) and measure.metrics(deliver_port), "roles did not start")
        links = {s: _connect(port) for s, port in (("firewall", firewall_port), ("windows", windows_port))}
        watcher = threading.Thread(target=_watch, args=(target, seen, stop), daemon=True)
        watcher.start()
        before = {name: worker.cpu_s() for name, worker in workers.items()}
        handed, took_s = _feed(links, sent, per_second)
        measure.until(lambda: seen.keys() >= sent.keys(), "alerts of planted lines", within_s=120)
        for worker in workers.values():
            worker.check()
        cpu_s = sum(worker.cpu_s() - before[name] for name, worker in workers.items())
        for link in links.values():
            link.close()
        stop.set()
        watcher.join()
        memory = {f"{name} peak MB": worker.peak_mb() for name, worker in workers.items()}
    begun = min(sent.values())
    waits = [seen[host] - at for host, at in sent.items() if at - begun >= LATENCY_SKIPPED_S]
    p50, p99 = np.percentile(waits, [50, 99])
    return {
        "aimed lines/s": per_second,
        "fed lines/s": handed / took_s,
        "alerts": len(waits),
        "p50 s": float(p50),
        "p99 s": float(p99),
        "max s": max(waits),
        "all stages us CPU/line": 1e6 * cpu_s / handed,
        **memory,
    }


def _connect(port: int) -> socket.socket:
    def attempt() -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except OSError:
            return None

    link: socket.socket = measure.until(attempt, "the listener did not open")
    return link


def _feed(links: Mapping[str, socket.socket], sent: dict[str, float], per_second: float) -> tuple[int, float]:
    """Lines in small bursts at an even pace; times of the lines are now. Answers how many, and in what time."""
    rng = Random(2)
    pool = [line.text for line in lines.town(20_000, 0.0, 1_000.0, attack_every=10**9) if line.source == "firewall"]
    heads = [text.split(" logid=", 1)[1] for text in pool]  # without the old time
    begun = time.monotonic()
    next_attack, number, handed = begun, 0, 0
    while (now := time.monotonic()) - begun < LATENCY_S:
        due = int((now - begun) * per_second) - handed
        if due <= 0:
            time.sleep(0.002)
            continue
        wall = time.time()
        local = datetime.fromtimestamp(wall + 3600, UTC)
        head = f'date={local:%Y-%m-%d} time={local:%H:%M:%S} devname="fw-rathaus" devid="FGT60FTK20000100" eventtime={int(wall * 1e9)} tz="+0100" logid='
        due = min(due, 2_000)
        burst = "".join(f"{head}{heads[(handed + i) % len(heads)]}\n" for i in range(due))
        links["firewall"].sendall(burst.encode())
        handed += due
        if now >= next_attack:
            attack = lines.attack(rng, wall, number)
            sent[f"ws-x{number:05d}"] = time.time()
            links["windows"].sendall(attack.text.encode() + b"\n")
            handed, number, next_attack = handed + 1, number + 1, next_attack + 1 / ATTACKS_PER_S
    return handed, time.monotonic() - begun


def _watch(target: Path, seen: dict[str, float], stop: threading.Event) -> None:
    """Note when each planted host's alert first lies in the file."""
    rest, at = b"", 0
    while not stop.is_set():
        if target.exists() and target.stat().st_size > at:
            now = time.time()
            with target.open("rb") as file:
                file.seek(at)
                data = file.read()
            at += len(data)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                for entity in json.loads(line)["shield"]["entities"]:
                    host = entity["name"].split(".")[0]
                    if host.startswith("ws-x"):
                        seen.setdefault(host, now)
        time.sleep(0.002)


def beside_sigma(count: int, per_second: float, names: Sequence[str], runs: int = measure.RUNS) -> None:
    """One detect worker with our rules, and with the public Sigma rules beside them, by turns."""
    if not PUBLIC_RULES[0].is_dir():
        print(f"end to end: left out, the public rules are not in {PUBLIC_RULES[0].parent}")
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, brokers(names) as found:
        folder = Path(scratch)
        towns = {
            kind: Town(count, per_second, TWO, folder / kind, rules)
            for kind, rules in (("ours", RULES), ("with Sigma", [*RULES, *PUBLIC_RULES]))
        }
        rows = []
        for name, options in found.items():
            measured: dict[str, list[dict[str, Any]]] = {kind: [] for kind in towns}
            for number in range(runs):
                for kind, town in towns.items():
                    prefix = f"{name}-{kind.replace(' ', '-')}-{number}"
                    broker = options.format(folder=folder / prefix, prefix=prefix)
                    measured[kind].append(detect(town, folder / prefix, broker))
            for kind, those in measured.items():
                first = measure.median(measured["ours"])
                rows.append({"broker": name, "rules": kind, **measure.median(those)})
                rows[-1]["share"] = rows[-1]["lines/CPU s"] / first["lines/CPU s"]
        measure.write("end_to_end_sigma", rows, lines_per_event_second=per_second, profiles=len(TWO), runs=runs)


def run(
    count: int,
    per_second: float,
    names: Sequence[str],
    profiles: Sequence[Path],
    runs: int = measure.RUNS,
    *,
    with_latency: bool = True,
) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, brokers(names) as found:
        folder = Path(scratch)
        town = Town(count, per_second, profiles, folder)
        rows, stages, waits = [], [], []
        for name, options in found.items():
            measured, costs = [], []
            for number in range(runs):
                place = folder / f"{name}-{number}"
                broker = options.format(folder=place, prefix=f"run{number}")
                measured.append(detect(town, place, broker))
                spare = folder / f"{name}-{number}-ingest"
                spare.mkdir()
                cost = ingest_cost(town, spare, options.format(folder=spare, prefix=f"ingest{number}"))
                cost |= deliver_cost(town, place, broker)
                cost["detect us CPU/line"] = measured[-1]["us CPU/line"]
                cost["all stages us CPU/line"] = sum(cost[f"{s} us CPU/line"] for s in ("ingest", "detect", "deliver"))
                cost["all stages lines/CPU s"] = 1e6 / cost["all stages us CPU/line"]
                costs.append(cost)
            rows.append({"broker": name, **measure.median(measured)})
            stages.append({"broker": name, **measure.median(costs)})
            if with_latency:
                half = rows[-1]["lines/s"] / 2
                place = folder / f"{name}-latency"
                waits.append(
                    {"broker": name, **latency(town, place, options.format(folder=place, prefix="latency"), half)}
                )
        facts = {"lines_per_event_second": per_second, "profiles": len(profiles), "runs": runs, **town.tally}
        measure.write("end_to_end", rows, **facts)
        measure.write("stages", stages, **facts)
        if waits:
            measure.write("latency", waits, seconds=LATENCY_S, alerts_per_second=ATTACKS_PER_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--per-second", type=float, default=PER_SECOND, help="lines per second of event time")
    parser.add_argument("--runs", type=int, default=measure.RUNS)
    parser.add_argument("--broker", action="append", choices=["embedded", "kafka"], help="both without it")
    parser.add_argument("--all-profiles", action="store_true", help="all bundled profiles instead of two")
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--sigma", action="store_true", help="only detection, with the public Sigma rules and without")
    given = parser.parse_args()
    if given.sigma:
        beside_sigma(given.lines, given.per_second, given.broker or ["embedded", "kafka"], given.runs)
        raise SystemExit
    run(
        given.lines,
        given.per_second,
        given.broker or ["embedded", "kafka"],
        sorted(PROFILES.glob("*.yml")) if given.all_profiles else TWO,
        given.runs,
        with_latency=not given.no_latency,
    )
