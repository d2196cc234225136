"""Rules that change while a worker runs: taken up between two batches, refused as a whole, nothing lost and nothing leaked."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from detectors.facts import Evidence, Fact
from detectors.sigma import RuleSet
from detectors.sigma.rule_tests import MemoryStore, event_of
from shield import config as configs
from shield import roles
from shield.broker import Broker, EmbeddedConfig, Limits, Out, open_broker
from shield.config import Config
from shield.detect import Detect
from shield.health import Health, HealthServer
from shield.metrics import Metrics
from shield.models import ModelShelf
from shield.reload import SETTLE_S, Reloader, marks

NOW = 1_793_700_000.0
RULE, MANY = "44444444-2222-4333-8444-000000000001", "44444444-2222-4333-8444-000000000002"
BASE = """
title: added to a group
id: {rule}
level: {level}
logsource: {{product: linux}}
detection:
  joined: {{group.name: '{group}'}}
  condition: joined
"""
COUNTED = """
title: many
id: {many}
level: high
correlation: {{type: event_count, rules: ['{rule}'], group-by: [host.name], timespan: 10m, condition: {{gte: {least}}}}}
"""
LINE = "Nov  3 10:{:02}:00 srv-1 usermod[7]: add 'eve' to group 'sudo'"


def write(folder: Path, *, level: str = "low", group: str = "sudo", least: int = 4) -> None:
    (folder / "base.yml").write_text(BASE.format(rule=RULE, level=level, group=group), encoding="utf-8")
    (folder / "many.yml").write_text(COUNTED.format(rule=RULE, many=MANY, least=least), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "rules"
    path.mkdir()
    write(path)
    return path


@pytest.fixture
def config(tmp_path: Path, folder: Path) -> Config:
    return configs.parse(
        f"broker: {{use: embedded, path: shield.db, partitions: 1}}\nbundled_rules: false\nrules: [{folder}]\n"
        "sources:\n  - {use: file, tenant: town, source: auth, parser: linux_auth, year: 2026, path: /nowhere}\n",
        "test",
        base=tmp_path,
        environment={},
    )


def watching(folder: Path, metrics: Metrics | None = None, every_s: float = 5.0) -> Reloader:
    return Reloader(
        lambda: RuleSet.load([folder]), [folder], RuleSet.load([folder]), metrics or Metrics(), every_s=every_s
    )


def after(reloader: Reloader, now: float) -> RuleSet | None:
    """What a turn of the loop gives once the work that it began has ended."""
    found = reloader.turn(now)
    reloader.wait()
    return found or reloader.turn(now)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"shield_{name}", labels)


# When


def test_changed_files_are_taken_up_once_they_have_come_to_rest(folder: Path) -> None:
    metrics = Metrics()
    reloader = watching(folder, metrics)
    assert after(reloader, NOW) is None
    write(folder, level="critical")
    assert after(reloader, NOW + 4.9) is None, "not looked at yet"
    assert after(reloader, NOW + 5) is None, "changed just now"
    write(folder, level="critical", group="wheel-group")
    assert after(reloader, NOW + 5 + SETTLE_S) is None, "changed again"
    rules = after(reloader, NOW + 5 + 2 * SETTLE_S)
    assert rules is not None
    assert rules.rules[RULE].level == "critical"
    assert after(reloader, NOW + 100) is None
    assert sample(metrics, "rules_reload_total", outcome="loaded") == 1.0
    assert sample(metrics, "rules_loaded") == 2.0
    reloader.close()


@pytest.mark.parametrize("change", ["added", "removed", "same size and time"])
def test_what_counts_as_a_change(folder: Path, change: str) -> None:
    before = marks([folder])
    path = folder / "base.yml"
    if change == "added":
        (folder / "new.yaml").write_text("", encoding="utf-8")
    elif change == "removed":
        (folder / "many.yml").unlink()
    else:
        stat = path.stat()
        other = folder / "other"
        other.write_bytes(path.read_bytes().replace(b"low", b"hig"))
        other.replace(path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert marks([folder]) != before


def test_changes_between_the_load_and_the_first_look_are_not_missed(folder: Path) -> None:
    before = marks([folder])
    rules = RuleSet.load([folder])
    write(folder, level="critical")
    reloader = Reloader(lambda: RuleSet.load([folder]), [folder], rules, Metrics(), every_s=5.0, since=before)
    found = [after(reloader, NOW + n) for n in range(0, 20, 5)]
    assert any(found)
    reloader.close()


def test_without_an_interval_only_who_asks_reloads(folder: Path) -> None:
    reloader = watching(folder, every_s=0.0)
    write(folder, level="critical")
    assert after(reloader, NOW) is None
    assert after(reloader, NOW + 1e6) is None
    reloader.ask()
    assert after(reloader, NOW + 1e6) is not None
    assert after(reloader, NOW + 1e6) is None
    reloader.close()


def test_the_day_after_a_filter_expired_it_is_gone_without_a_change_of_files(folder: Path) -> None:
    day = date(2026, 11, 24)
    (folder / "filter.yml").write_text(
        f"title: f\nowner: it\nreason: test\nexpires: 2026-11-24\nlogsource: {{product: linux}}\n"
        f"filter: {{rules: ['{RULE}'], eve: {{user.name: eve}}, condition: not eve}}\n",
        encoding="utf-8",
    )
    noon = 1_795_521_600.0  # of that day
    now = noon
    first = RuleSet.load([folder], today=day)

    def load() -> RuleSet:
        return RuleSet.load([folder], today=date.fromordinal(day.toordinal() + int((now - noon) // 86_400)))

    reloader = Reloader(load, [folder], first, Metrics(), every_s=5.0)
    for now in (noon, noon + 3600):
        assert after(reloader, now) is None
    now = noon + 86_400
    rules = after(reloader, now)
    assert rules is not None
    event = event_of({"event.dataset": "linux_auth.usermod", "user.name": "eve", "group.name": "sudo"})
    assert (first.matches(event), rules.matches(event)) == ([], [RULE])
    assert after(reloader, now + 60) is None
    reloader.close()


# Refused


def _defect(*_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("fault", ["bad", "empty", "crash"])
def test_any_fault_keeps_the_old_rules(folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    reloader = watching(folder, metrics)
    if fault == "bad":
        write(folder, level="hihg")
    elif fault == "empty":
        for path in folder.iterdir():
            path.unlink()
    else:
        monkeypatch.setattr(RuleSet, "prepare", _defect)
    reloader.ask()
    assert after(reloader, NOW) is None
    assert sample(metrics, "rules_reload_total", outcome="refused") == 1.0
    assert sample(metrics, "rules_loaded") == 2.0
    assert after(reloader, NOW + 100) is None
    assert sample(metrics, "rules_reload_total", outcome="refused") == 1.0, "not tried again until something changes"
    monkeypatch.undo()
    write(folder, level="critical")
    reloader.ask()
    assert after(reloader, NOW + 200) is not None
    reloader.close()


# In the worker


@pytest.fixture
def sender(config: Config) -> Iterator[Broker]:
    assert isinstance(config.broker, EmbeddedConfig)
    broker = open_broker(config.broker, member="sender")
    yield broker
    broker.close()


@pytest.fixture
def worker(config: Config) -> Iterator[Broker]:
    broker = open_broker(config.broker, group="detect", member="detect", topics=["raw", "signals"])
    yield broker
    broker.close()


class Loop:
    def __init__(self, config: Config, broker: Broker) -> None:
        raw, signals = roles.stages(config)
        self.metrics, self.health = Metrics(), Health()
        self.reloader = Reloader(
            partial(roles.load_rules, config), config.rule_paths, signals.rules, self.metrics, every_s=5.0
        )
        self.health.reload = self.reloader.reload
        shelf = ModelShelf(b"k" * 32)
        limits = Limits(wait_s=0.02)
        self.detect = Detect(broker, raw, signals, shelf, self.metrics, self.health, limits, self.reloader)

    def drain(self) -> None:
        for _ in range(200):
            batch = self.detect.turn(NOW)
            if batch.caught_up and not batch.records:
                return
        raise AssertionError("never caught up")

    def reload(self) -> None:
        self.reloader.ask()
        self.detect.turn(NOW)
        self.reloader.wait()
        self.detect.turn(NOW)


def send(broker: Broker, *minutes: int) -> None:
    headers = {"tenant": "town", "source": "auth", "framing": "lines", "lines": str(len(minutes))}
    value = "\n".join(LINE.format(minute) for minute in minutes).encode()
    broker.commit(None, [Out("raw", b"town", value, NOW, headers)], [])


def titles(broker: Broker) -> list[str]:
    found = [msgspec.json.decode(record.value) for record in broker.read("alerts")]
    return [doc["rule"]["name"] for doc in found if doc["shield"]["revision"] == 1]


def test_an_unchanged_correlation_goes_on_counting_over_reloads(config: Config, sender: Broker, worker: Broker) -> None:
    loop = Loop(config, worker)
    send(sender, 0, 1, 2)
    loop.drain()
    assert titles(sender) == []
    write(Path(config.rules[0]), level="medium")
    loop.reload()
    send(sender, 3)
    loop.drain()
    assert titles(sender) == ["many"], "three hits from before and one from after the reload"
    loop.reloader.close()


def test_a_threshold_that_was_changed_counts_what_is_there(config: Config, sender: Broker, worker: Broker) -> None:
    loop = Loop(config, worker)
    send(sender, 0, 1)
    loop.drain()
    write(Path(config.rules[0]), least=3)
    loop.reload()
    send(sender, 2)
    loop.drain()
    assert titles(sender) == ["many"]
    loop.reloader.close()


def test_a_new_rule_alerts_and_a_faulty_file_changes_nothing(config: Config, sender: Broker, worker: Broker) -> None:
    loop = Loop(config, worker)
    folder = Path(config.rules[0])
    write(folder, level="high")
    (folder / "bad.yml").write_text("title: [", encoding="utf-8")
    loop.reload()
    send(sender, 0)
    loop.drain()
    assert titles(sender) == []
    (folder / "bad.yml").unlink()
    (folder / "many.yml").unlink()  # a part of a correlation does not alert itself
    loop.reload()
    send(sender, 1)
    loop.drain()
    assert titles(sender) == ["added to a group"]
    loop.reloader.close()


def test_hits_of_a_rule_that_is_gone_when_their_minute_closes(config: Config, sender: Broker, worker: Broker) -> None:
    loop = Loop(config, worker)
    send(sender, 0, 0)
    loop.drain()
    folder = Path(config.rules[0])
    (folder / "other.yml").write_text(
        BASE.format(rule="44444444-2222-4333-8444-000000000003", level="low", group="other"), encoding="utf-8"
    )
    (folder / "base.yml").unlink()
    (folder / "many.yml").unlink()
    loop.reload()
    assert sample(loop.metrics, "rules_loaded") == 1.0
    send(sender, 1, 2, 3)
    loop.drain()
    assert list(sender.read("dead")) == []
    loop.reloader.close()


def test_a_correlation_that_counts_otherwise_begins_anew(folder: Path) -> None:
    """Its window was filled by another reading of the rule: numbers of rules, or other values."""
    store = MemoryStore()

    def feed(rules: RuleSet, count: int, start: int = 0) -> list[str]:
        facts = [
            Fact(f"{MANY}<{RULE}", "srv-1", str(n), 0, 0, 60.0 + n, 60.0 + n, 1, 0.0, (), _evidence(n))
            for n in range(start, start + count)
        ]
        return [fact.detector for fact in rules.correlate(store, facts)]

    assert feed(RuleSet.load([folder]), 3) == []
    text = (folder / "many.yml").read_text(encoding="utf-8")
    (folder / "many.yml").write_text(text.replace("event_count", "value_count").replace("gte", "field: item, gte"))
    values = RuleSet.load([folder])
    assert feed(values, 3, 10) == []
    assert feed(values, 1, 20) == [MANY]


def _evidence(n: int) -> tuple[Evidence, ...]:
    return (Evidence(60.0 + n, "auth", "raw", 0, n, 0, "line"),)


@pytest.mark.parametrize("more", [0, 40])
def test_a_rule_set_that_is_replaced_goes_without_the_garbage_collector(folder: Path, more: int) -> None:
    for n in range(more):
        rule = BASE.format(rule=f"55555555-2222-4333-8444-{n:012}", level="low", group=f"g{n}")
        (folder / f"more{n}.yml").write_text(rule, encoding="utf-8")
    rules = RuleSet.load([folder])
    event = event_of({"event.dataset": "linux_auth.usermod", "group.name": "sudo"})
    gc.collect()
    gc.disable()
    try:
        assert rules.matches(event) == [RULE]
        (compiled,) = rules._kinds.values()
        parts: list[weakref.ref[Any]] = [weakref.ref(rules), weakref.ref(getattr(compiled, "__self__", compiled))]
        del rules, compiled
        assert all(part() is None for part in parts)
    finally:
        gc.enable()


def test_what_another_rule_set_met_is_compiled_before_the_swap(folder: Path) -> None:
    old, new = RuleSet.load([folder]), RuleSet.load([folder])
    event = event_of({"event.dataset": "linux_auth.usermod", "group.name": "sudo"})
    assert old.matches(event) == [RULE]
    assert not new._routes
    new.prepare(old)
    assert new._routes.keys() == old._routes.keys()
    assert new.matches(event) == [RULE]


# Over HTTP and by signal


def post(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_reload_over_http_tells_what_came_of_it(folder: Path) -> None:
    health, metrics = Health(), Metrics()
    reloader = watching(folder, metrics, every_s=0.0)
    server = HealthServer(health, metrics.registry)
    url = f"http://127.0.0.1:{server.port}/-/reload"
    assert post(url)[0] == 404, "nothing to reload yet"
    health.reload = reloader.reload
    ended = threading.Event()

    def loop() -> None:
        while not ended.is_set():
            reloader.turn(NOW)
            ended.wait(0.001)

    turning = threading.Thread(target=loop)
    turning.start()
    try:
        status, body = post(url)
        assert (status, body["outcome"], body["rules"], body["faults"]) == (200, "loaded", 2, [])
        write(folder, level="hihg")
        status, body = post(url)
        assert (status, body["outcome"], body["rules"]) == (500, "refused", 2)
        assert "base.yml:4: 'hihg' is no level; did you mean 'high'?" in body["faults"][0]
        assert post(url.replace("/-/reload", "/metrics"))[0] == 501
    finally:
        ended.set()
        turning.join()
        server.close()
        reloader.close()
    assert reloader.reload(0.0) is None, "nobody turns any more: still running"


@pytest.mark.parametrize("command", ["detect", "run"])
def test_sighup_reloads_a_running_worker(config: Config, tmp_path: Path, sender: Broker, command: str) -> None:
    """Also by way of the supervisor, whose other roles a SIGHUP would end."""
    path = tmp_path / "shield.yml"
    path.write_text(
        f"broker: {{use: embedded, path: shield.db, partitions: 1}}\nbundled_rules: false\nrules: [{config.rules[0]}]\n"
        "rules_reload_s: 0\nmetrics: {ingest: 0, detect: 0, deliver: 0}\n"
        "sources:\n  - {use: file, tenant: town, source: auth, parser: linux_auth, year: 2026, path: /nowhere}\n",
        encoding="utf-8",
    )
    arguments = [sys.executable, "-m", "shield", command, str(path)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        send(sender, 0)
        try:
            told = ""
            while '"batch"' not in told:
                told = worker.stderr.readline()
                assert told, "the worker ended"
            write(Path(config.rules[0]), level="critical")
            worker.send_signal(signal.SIGHUP)
            while "rules reloaded" not in told:
                told = worker.stderr.readline()
                assert told, "the worker ended"
            assert '"changed": 1' in told
        finally:
            worker.terminate()
            rest = worker.stderr.read()
            assert worker.wait(30) == 0
        assert "role ended" not in rest


# Without end

RELOADS = 1000
WARM = 200
GROWN_KB_MAX = 1_000


def _rss_kb() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def test_a_thousand_reloads_leak_nothing(config: Config, worker: Broker, sender: Broker) -> None:
    """Each of them reads other rules, and the worker runs as it does in production, without the garbage collector."""
    loop = Loop(config, worker)
    folder = Path(config.rules[0])
    send(sender, 0)
    loop.drain()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        sizes: list[int] = []
        for n in range(RELOADS):
            write(folder, group=f"group-{n}", least=4 + n)
            loop.reloader.ask()
            loop.reloader.turn(NOW)
            loop.reloader.wait()
            rules = loop.reloader.turn(NOW)
            assert rules is not None
            loop.detect._take_rules(rules)
            if n in {WARM, RELOADS - 1}:
                sizes.append(_rss_kb())
    finally:
        gc.enable()
        gc.unfreeze()
        loop.reloader.close()
    assert sample(loop.metrics, "rules_reload_total", outcome="loaded") == RELOADS
    assert sizes[1] - sizes[0] < GROWN_KB_MAX, f"{sizes} kB"
