"""Exactness under `kill -9`: a replay through the real roles, killed at random again and again, gives each alert exactly once.

The oracle is one undisturbed pass of the same lines through the two stages in this process: no broker, no roles and
other batch cuts, so that whatever the processes, the brokers and the restarts do to the lines shows as a difference.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka_server import KafkaServer
from running import Role, Roles

from detectors.facts import Fact
from shield.broker import (
    Batch,
    Broker,
    BrokerDown,
    Change,
    EmbeddedConfig,
    Fenced,
    KafkaConfig,
    Limits,
    Out,
    Record,
    open_broker,
)
from shield.broker.embedded import EmbeddedBroker
from shield.config import Config, load
from shield.demo_logs import DAY, attacks, ordinary
from shield.detect import Detect
from shield.health import Health
from shield.metrics import Metrics
from shield.models import ModelShelf, signing_key
from shield.pipeline import Signals, Tally
from shield.roles import stages

LINES = int(os.environ.get("KILL_LINES", "200000"))
KILLS = int(os.environ.get("KILL_TIMES", "20"))
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
TENANTS = ("musterstadt", "neustadt", "altenhain", "seeburg")
DAYS = 5
END_S = 500.0  # a run that has not ended by then has lost something
UNREADABLE = ("no format that anybody knows", '{"broken": ', "\x00\x01\x02")
KEY = {"SHIELD_MODELS_KEY": "of the tests"}

RULES = Path(__file__).parents[1] / "rules"
# Window counters and pairs first seen: what any other profile keeps is
# committed the same way, and the whole catalogue makes a run four times as long.
PROFILES = ("outbound_volume.yml", "logon_failures.yml", "host_process.yml")

CONFIG = """\
broker: {broker}
bundled_rules: false
rules: [{rules}/sigma]
profiles: [{profiles}]
silent_after_s: 1000000000   # the arrival, which no two runs share, decides nothing
batch: {{lines_max: {batch}}}  # small, so that many commits can be hit
sources:
{sources}
sinks: [{{use: ndjson, name: siem, path: {folder}/alerts.ndjson}}]
metrics: {{ingest: 0, detect: 0, deliver: 0}}
"""
# One file per tenant, as a central syslog server writes it: of one file the order of arrival is known.
SOURCE = (
    "  - {{use: file, mode: replay, tenant: {tenant}, source: central, path: {path}, timezone: Europe/Berlin, year: 2026,"
    " chunk_bytes: {chunk}, puts_max: 1}}"
)


class Seen(msgspec.Struct):
    """What became of the lines."""

    lines: dict[str, list[bytes]] = {}  # tenant -> its raw lines in order
    alerts: list[tuple[str, int, dict[str, Any]]] = []  # (id, revision, document) as committed
    dead: list[tuple[str, bytes]] = []  # (tenant, line)
    hits: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)  # (tenant, rule) -> lines that matched
    events: int = 0
    blank: int = 0

    def take_alert(self, value: bytes) -> None:
        document = msgspec.json.decode(value)
        self.alerts.append((document["event"]["id"], document["shield"]["revision"], document))

    def take_facts(self, tenant: str, value: bytes, rules: Mapping[str, object]) -> None:
        for fact in msgspec.msgpack.decode(value, type=Signals).facts:
            if _rule_of(fact) in rules:
                self.hits[tenant, fact.detector] += fact.count


def _rule_of(fact: Fact) -> str:
    return fact.detector.split("<", 1)[0]


def differences(true: Seen, seen: Seen) -> list[str]:
    """Everything in which a run differs from the oracle, in words; empty when it is exact."""
    found = [
        f"{tenant}: {len(seen.lines.get(tenant, ()))} raw lines instead of {len(lines)}, or others"
        for tenant, lines in true.lines.items()
        if lines != seen.lines.get(tenant)
    ]
    for name, due, got in (("dead", Counter(true.dead), Counter(seen.dead)), ("hits", true.hits, seen.hits)):
        found += [f"{name} missing: {what} {n}" for what, n in sorted((due - got).items())]  # type: ignore[operator]
        found += [f"{name} too many: {what} {n}" for what, n in sorted((got - due).items())]  # type: ignore[operator]
    times = Counter((identity, revision) for identity, revision, _ in seen.alerts)
    found += [f"alert {one} {n} times" for one, n in sorted(times.items()) if n > 1]
    due_alerts = {(identity, revision): document for identity, revision, document in true.alerts}
    alerts = {(identity, revision): document for identity, revision, document in seen.alerts}
    found += [f"alert missing: {one}" for one in sorted(due_alerts.keys() - alerts.keys())]
    found += [f"alert that should not be: {one}" for one in sorted(alerts.keys() - due_alerts.keys())]
    for one in sorted(due_alerts.keys() & alerts.keys()):
        unlike = _unlike(_comparable(due_alerts[one]), _comparable(alerts[one]))
        found += [f"alert {one}: {path} is {got!r} instead of {due!r}" for path, due, got in unlike]
    return found


def _comparable(document: dict[str, Any]) -> dict[str, Any]:
    """Without the places of lines in the raw topic, which depend on how lines were joined to records.

    `Watcher.astray` follows each place to its line instead.
    """
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for line in copy["evidence"]:
        del line["event_id"]
    return copy


def _unlike(due: Any, got: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(due, dict) and isinstance(got, dict):
        for key in sorted(due.keys() | got.keys()):
            yield from _unlike(due.get(key), got.get(key), f"{path}.{key}")
    elif isinstance(due, list) and isinstance(got, list) and len(due) == len(got):
        for number, (one, other) in enumerate(zip(due, got, strict=True)):
            yield from _unlike(one, other, f"{path}[{number}]")
    elif due != got:
        yield path, due, got


# --- the lines and the oracle ---


def write_lines(folder: Path, lines: int, tenants: Sequence[str], days: int) -> None:
    """A file per tenant: days with planted attacks, some unreadable and blank lines, and a last line two days later."""
    for number, tenant in enumerate(tenants):
        rng = random.Random(f"kill/{tenant}")
        share = lines // len(tenants) + (number < lines % len(tenants)) - 1
        texts: list[str] = []
        for back in range(days):
            day = DAY + timedelta(days=back)
            planted, _ = attacks(rng, day)
            count = share // days + (back < share % days)
            odd = [(day.timestamp() + rng.random() * 86_000, "", rng.choice((*UNREADABLE, " "))) for _ in range(12)]
            made = [*planted, *odd, *ordinary(rng, day, count - len(planted) - len(odd))]
            texts += [text for _, _, text in sorted(made)]
        # It closes every minute before it; what it says itself stays open in every run.
        texts.append(ordinary(rng, DAY + timedelta(days=days + 2), 1)[0][2])
        (folder / f"{tenant}.log").write_text("\n".join(texts) + "\n")


def configured(folder: Path, logs: Path, broker: str, tenants: Sequence[str], batch: int) -> Path:
    path = folder / "shield.yml"
    size = sum((logs / f"{tenant}.log").stat().st_size for tenant in tenants)
    chunk = max(4_096, size // len(tenants) // 200)  # some hundred hand-overs per file
    sources = "\n".join(SOURCE.format(tenant=tenant, path=logs / f"{tenant}.log", chunk=chunk) for tenant in tenants)
    profiles = ", ".join(str(RULES / "profiles" / name) for name in PROFILES)
    text = CONFIG.format(broker=broker, batch=batch, sources=sources, folder=folder, rules=RULES, profiles=profiles)
    path.write_text(text)
    return path


def undisturbed(config: Config) -> Seen:
    """One tenant after the other, 500 lines a record, 20,000 lines a batch."""
    seen = Seen()
    raw, signals = stages(config)
    rules = raw._rules.rules
    tally, offset = Tally(), 0
    for source in config.sources:
        lines = Path(source.path).read_bytes().split(b"\n")[:-1]  # type: ignore[attr-defined]
        seen.lines[source.tenant] = lines
        records = []
        for start in range(0, len(lines), 500):
            value, headers = b"\n".join(lines[start : start + 500]), {"tenant": source.tenant, "source": source.source}
            records.append(Record("raw", 0, start, source.tenant.encode(), value, time.time(), headers))
        for start in range(0, len(records), 40):
            outbox, _ = raw.process(records[start : start + 40], tally)
            facts = []
            for out in outbox:
                if out.topic == "dead":
                    seen.dead.append((out.headers["tenant"], out.value))
                else:
                    seen.take_facts(out.headers["tenant"], out.value, rules)
                    offset += 1
                    facts.append(Record(out.topic, 0, offset, out.key, out.value, out.time, out.headers))
            for out in signals.process(facts, tally)[0]:
                if out.topic == "alerts":
                    seen.take_alert(out.value)
    seen.events, seen.blank = tally.events, tally.blank
    return seen


# --- what the processes committed ---


class Watcher:
    """Reads every topic as far as it is committed; a record counts once, whatever is read again after a failure."""

    def __init__(self, config: Config) -> None:
        self.broker = open_broker(
            config.broker, group="watch", member="watch", topics=["raw", "signals", "alerts", "dead"]
        )
        self.records: dict[tuple[str, int, int], Record] = {}
        self.raw_lines = 0
        self.raw_records = 0
        self.caught_up = False

    def look(self, wait_s: float = 0.1) -> None:
        try:
            batch = self.broker.poll(Limits(wait_s=wait_s))
            if batch.records:
                self.broker.commit(batch, [], [])
        except (BrokerDown, Fenced):
            self.caught_up = False
            return
        for record in batch.records:
            if self.records.setdefault((record.topic, record.partition, record.offset), record) is record:
                self.raw_records += record.topic == "raw"
                self.raw_lines += int(record.headers["lines"]) if record.topic == "raw" else 0
        self.caught_up = batch.caught_up

    def backlog(self, topic: str, group: str) -> int | None:
        with suppress(BrokerDown):
            return self.broker.backlog(topic, group)
        return None

    def progress(self, lines: int) -> float:
        """0 to 1: half of it the lines taken in, half of it those that detection is through with."""
        left = self.backlog("raw", "detect")
        if left is None or not self.raw_records:
            return 0.0
        return (self.raw_lines + self.raw_lines * max(0.0, 1 - left / self.raw_records)) / 2 / lines

    def seen(self, rules: Mapping[str, object]) -> Seen:
        seen = Seen()
        for (topic, _, _), record in sorted(self.records.items()):
            if topic == "raw":
                lines = record.value.split(b"\n")
                assert len(lines) == int(record.headers["lines"])
                seen.lines.setdefault(record.headers["tenant"], []).extend(lines)
            elif topic == "alerts":
                seen.take_alert(record.value)
            elif topic == "dead":
                seen.dead.append((record.headers["tenant"], record.value))
            else:
                seen.take_facts(record.headers["tenant"], record.value, rules)
        return seen

    def astray(self) -> list[str]:
        """Lines that an alert points to and that do not stand there."""
        found = []
        for (topic, _, _), record in self.records.items():
            for line in msgspec.json.decode(record.value)["evidence"] if topic == "alerts" else ():
                name, partition, offset, index = line["event_id"].rsplit(":", 3)
                raw = self.records.get((name, int(partition), int(offset)))
                if raw is None or raw.value.split(b"\n")[int(index)].decode()[:1_000] != line["original"]:
                    found.append(line["event_id"])
        return found


def run_with_kills(
    roles: Roles, watcher: Watcher, lines: int, rng: random.Random, half_way: Iterable[Any]
) -> list[str]:
    """Until everything is through; answers who was killed. `half_way` is advanced once in the middle."""
    moments = sorted(rng.uniform(0.02, 0.98) for _ in range(KILLS))
    middle = iter(half_way)
    killed: list[str] = []
    deadline = time.monotonic() + END_S
    at_middle = False
    while True:
        assert time.monotonic() < deadline, _told(roles, watcher, killed)
        watcher.look()
        alive = roles.alive()
        progress = watcher.progress(lines)
        if progress >= 0.5 and not at_middle:
            at_middle = True
            next(middle, None)
        if moments and progress >= moments[0]:
            moments.pop(0)
            until = time.monotonic() + rng.uniform(0.0, 0.4)
            while time.monotonic() < until:
                watcher.look(0.02)
            victim: Role = rng.choice(alive)
            victim.kill()
            killed.append(victim.name)
            victim.start()
        elif watcher.caught_up and roles.all["ingest"].ended and not moments and _through(watcher):
            return killed


def _through(watcher: Watcher) -> bool:
    return all(
        watcher.backlog(*one) == 0 for one in (("raw", "detect"), ("signals", "detect"), ("alerts", "deliver.siem"))
    )


def _told(roles: Roles, watcher: Watcher, killed: Sequence[str]) -> str:
    left = {
        one: watcher.backlog(*one) for one in (("raw", "detect"), ("signals", "detect"), ("alerts", "deliver.siem"))
    }
    words = "\n".join(f"--- {role.name}, faults {role.faults}\n{role.last_words()}" for role in roles.all.values())
    return f"not through: {watcher.raw_lines} lines in, killed {killed}, left {left}\n{words}"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    write_lines(folder, LINES, TENANTS, DAYS)
    return folder


@pytest.fixture(scope="module")
def true(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("oracle")
    seen = undisturbed(load(configured(folder, logs, "{use: embedded}", TENANTS, 1)))
    assert seen.events + len(seen.dead) + seen.blank == LINES == sum(map(len, seen.lines.values()))
    assert len({one for one, _, _ in seen.alerts}) >= 4 * DAYS
    assert {document["organization"]["id"] for _, _, document in seen.alerts} == set(TENANTS)
    return seen


def exact(
    folder: Path, logs: Path, broker: str, true: Seen, detectors: int, half_way: Iterable[Any] = ()
) -> tuple[Roles, list[str]]:
    path = configured(folder, logs, broker, TENANTS, 2_000)
    config = load(path)
    rng = random.Random(SEED)
    begun = time.monotonic()
    watcher = Watcher(config)
    try:
        with Roles(folder, path, os.environ | KEY) as roles:
            roles.add("ingest", "ingest")
            for number in range(1, detectors + 1):
                roles.add(f"detect-{number}", "detect")
            roles.add("deliver", "deliver", "--sink", "siem")
            killed = run_with_kills(roles, watcher, LINES, rng, half_way)
            through_s = time.monotonic() - begun
            codes = roles.stop()
        watcher.look(1.0)
        while not watcher.caught_up:
            watcher.look(1.0)
    finally:
        watcher.broker.close()
    rules = stages(config)[0]._rules.rules
    seen = watcher.seen(rules)
    faults = {role.name: role.faults for role in roles.all.values() if role.faults}
    print(  # noqa: T201 - the seed and the figures of this run
        f"seed {SEED}: {LINES} lines, {len(killed)} kills {dict(Counter(killed))} in {through_s:.0f} s,"
        f" {len({one for one, _, _ in seen.alerts})} alerts in {len(seen.alerts)} revisions, {len(seen.dead)} dead, faults {faults}, exits {codes}"
    )
    delivered = [json.loads(line) for line in (folder / "alerts.ndjson").read_bytes().splitlines()]
    keys = {(one["event"]["id"], one["shield"]["revision"]) for one in delivered}
    print(f"delivered {len(delivered)}, {len(delivered) - len(keys)} of them again")  # noqa: T201 - see above
    found = differences(true, seen)
    assert not found, "\n".join(found[:60])
    assert watcher.astray() == []
    assert keys == {(identity, revision) for identity, revision, _ in seen.alerts}
    return roles, killed


def test_embedded(logs: Path, true: Seen, tmp_path: Path) -> None:
    roles, killed = exact(tmp_path, logs, f"{{use: embedded, path: {tmp_path}/shield.db}}", true, 1)
    assert len(killed) == KILLS
    assert not any(role.faults for role in roles.all.values())


@pytest.mark.kafka
def test_kafka(kafka: KafkaServer, logs: Path, true: Seen, tmp_path: Path) -> None:
    roles, killed = exact(tmp_path, logs, _kafka(kafka, copies=1), true, 2)
    assert len(killed) == KILLS
    assert not any(role.faults for role in roles.all.values())


@pytest.mark.kafka
def test_kafka_loses_a_node(kafka_cluster: KafkaServer, logs: Path, true: Seen, tmp_path: Path) -> None:
    """One of three nodes is killed half-way and stays away. A role may be fenced meanwhile: it ends and is started again."""

    def lose() -> Iterator[None]:
        kafka_cluster.kill(2)
        yield

    _, killed = exact(tmp_path, logs, _kafka(kafka_cluster, copies=3), true, 2, lose())
    assert len(killed) == KILLS


def _kafka(server: KafkaServer, copies: int) -> str:
    return (
        f'{{use: kafka, bootstrap_servers: "{server.bootstrap}", prefix: kill-{SEED}, partitions: 6,'
        f" replication_factor: {copies}, session_timeout_s: 10}}"
    )


@pytest.mark.kafka
def test_what_was_pulled_but_not_given_out_is_not_committed(kafka: KafkaServer) -> None:
    """The client has read a partition to its end, the batch holds only its beginning, and then the worker is killed."""
    config = KafkaConfig(
        bootstrap_servers=kafka.bootstrap,
        prefix=f"pulled-{SEED}",
        partitions=1,
        replication_factor=1,
        session_timeout_s=10,
        options={"fetch.wait.max.ms": "1"},  # the end is told right behind the records, within one pull
    )
    writer = open_broker(config, member="writer")
    writer.commit(None, [Out("raw", b"town", b"%d" % n, 0.0, {"lines": "100"}) for n in range(30)], [])
    writer.close()
    got: list[bytes] = []
    deadline = time.monotonic() + 60
    while len(got) < 30:
        assert time.monotonic() < deadline
        worker = open_broker(config, group="detect", member="detect-1", topics=["raw"])
        while time.monotonic() < deadline:
            batch = worker.poll(Limits(lines_max=300, wait_s=0.5))
            if batch.records:
                worker.commit(batch, [], [])
                got += [record.value for record in batch.records]
                break
        worker.close()  # what it holds besides the batch is gone with it
    assert got == [b"%d" % n for n in range(30)]


# --- that this test can fail ---


class Killed(RuntimeError):  # noqa: N818 - an event, not a mistake
    """Stands for `kill -9` where the loop runs in this process."""


class TornBroker(EmbeddedBroker):
    """Commits in two steps, or in one, and is killed in between now and then."""

    def __init__(self, config: EmbeddedConfig, order: str, rng: random.Random) -> None:
        super().__init__(config, group="detect", member="detect-1", topics=["raw", "signals"])
        self._order = order
        self._until_kill = rng.randint(2, 8) if order else 0

    def commit(self, batch: Batch | None, outbox: Iterable[Out], changes: Iterable[Change]) -> None:
        self._until_kill -= 1
        if self._order == "outputs first":
            super().commit(None, outbox, [])
            self._die()
            super().commit(batch, [], changes)
        elif self._order == "positions first":
            super().commit(batch, [], changes)
            self._die()
            super().commit(None, outbox, [])
        elif self._order == "state first":
            super().commit(None, outbox, [])
            super().commit(Batch([], [], [], caught_up=False), [], changes)
            self._die()
            super().commit(batch, [], [])
        else:
            super().commit(batch, outbox, changes)
            self._die()

    def _die(self) -> None:
        if self._until_kill == 0:
            raise Killed


def detect_here(config: Config, order: str, kills: int) -> Seen:
    """The detect loop in this process over raw records that are there already."""
    assert isinstance(config.broker, EmbeddedConfig)
    rng = random.Random(7)
    feeder: Broker = open_broker(config.broker, member="feeder")
    for source in config.sources:
        lines = Path(source.path).read_bytes().split(b"\n")[:-1]  # type: ignore[attr-defined]
        headers = {"tenant": source.tenant, "source": source.source, "framing": "lines"}
        feeder.commit(
            None,
            [
                Out("raw", source.tenant.encode(), b"\n".join(part), time.time(), headers | {"lines": str(len(part))})
                for part in (lines[start : start + 100] for start in range(0, len(lines), 100))
            ],
            [],
        )
    feeder.close()
    done = False
    while not done:
        broker = TornBroker(config.broker, order if kills else "", rng)
        raw, signals = stages(config)
        detect = Detect(broker, raw, signals, ModelShelf(signing_key(config)), Metrics(), Health(), config.batch)
        with suppress(Killed):
            while not done:
                batch = detect.turn(time.time())
                done = batch.caught_up and not batch.records and bool(detect._held)
        broker.close()
        kills = max(0, kills - 1)
    watcher = Watcher(config)
    while not watcher.caught_up:
        watcher.look()
    watcher.broker.close()
    return watcher.seen(raw._rules.rules)


@pytest.mark.parametrize("order", ["whole", "outputs first", "positions first", "state first"])
def test_a_torn_commit_shows(order: str, tmp_path: Path) -> None:
    write_lines(tmp_path, 6_000, TENANTS[:1], 2)
    config = load(configured(tmp_path, tmp_path, f"{{use: embedded, path: {tmp_path}/shield.db}}", TENANTS[:1], 300))
    found = differences(undisturbed(config), detect_here(config, order, 6))
    if order == "whole":
        assert found == []
    else:
        assert any("too many" in one or "missing" in one or "times" in one for one in found)
