import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from receiver import Receiver, Request, receiving
from standardwebhooks import Webhook

from shield.broker import Batch, Broker, BrokerDown, Change, EmbeddedConfig, Fenced, Limits, Out, Partition, open_broker
from shield.deliver import deliver
from shield.metrics import Metrics
from shield.pending import group, idempotency_key, jitter, kind_of, wanted
from shield.sinks import Backoff, Delivered, Outcome, Rejected, Retry, SinkConfig, webhook

KEY = "whsec_Zmlyc3Qga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMgb2s="
HOUR_S = 3600.0
ROOT = Path(__file__).parent.parent


class Wall:
    """Time that passes only when somebody sleeps or says so."""

    def __init__(self) -> None:
        self.now = time.time()
        self.started = self.now
        self.speed = 1.0  # for tests that last days

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds < 1, "longer sleeps keep the broker waiting"
        self.now += seconds * self.speed

    @property
    def passed_s(self) -> float:
        return self.now - self.started


class Bench:
    """One embedded broker with alerts in it, and a way to run `deliver` on it until something is true."""

    def __init__(self, folder: Path) -> None:
        self.config = EmbeddedConfig(path=str(folder / "broker.db"))
        self.wall = Wall()
        self.metrics = Metrics()
        self.rounds_max = 50_000
        self._writer = open_broker(self.config, member="writer")

    def write(self, *alerts: tuple[str, int], severity: str = "high", tenant: str = "stadt-a", **extra: Any) -> None:
        self._writer.commit(None, [out(name, revision, severity, tenant, **extra) for name, revision in alerts], [])

    def open(self, config: SinkConfig) -> Broker:
        return open_broker(self.config, group=group(config.name), member="deliver-0", topics=["alerts"])

    def run(self, sink: Any, config: SinkConfig, until: Callable[[], bool], *, broker: Broker | None = None) -> None:
        turns = itertools.count()
        rounds_max = self.rounds_max

        def stop() -> bool:
            assert next(turns) < rounds_max, "does not come to an end"
            return until()

        reader = broker or self.open(config)
        try:
            deliver(
                reader,
                sink,
                config,
                metrics=self.metrics,
                stop=stop,
                clock=lambda: self.wall.now,
                sleep=self.wall.sleep,
                rng=random.Random(7),
            )
        finally:
            reader.close()

    def left(self, config: SinkConfig) -> int:
        return self._writer.backlog("alerts", group(config.name))

    def dead(self) -> list[tuple[str, Mapping[str, str], bytes]]:
        return [(record.key.decode(), record.headers, record.value) for record in self._writer.read("dead")]

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"shield_{name}", labels)

    def close(self) -> None:
        self._writer.close()


def out(name: str, revision: int, severity: str, tenant: str, **extra: Any) -> Out:
    document = {
        "@timestamp": "2026-01-14T03:12:09.113Z",
        "event": {"id": name},
        "organization": {"id": tenant},
        "rule": {"id": "logon_failures"},
        "shield": {"revision": revision, "detector": {"name": "logon_failures"}},
    }
    headers = {"kind": "alert.created" if revision == 1 else "alert.updated", "tenant": tenant, "severity": severity}
    return Out("alerts", name.encode(), msgspec.json.encode(document | extra), 0.0, headers)


@pytest.fixture
def bench(tmp_path: Path) -> Iterable[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


class Script:
    """A sink that answers as a function says, for questions that need no network."""

    def __init__(self, answer: Callable[[str, int], Outcome] = lambda _key, _attempt: Delivered()) -> None:
        self.answer = answer
        self.tried: list[tuple[str, float]] = []
        self.taken: list[str] = []

    def send(self, alert: Mapping[str, Any], *, key: str, kind: str, attempt_time: float) -> Outcome:
        assert alert["event"]["id"] == key.rpartition(".")[0]
        assert kind == ("alert.created" if key.endswith(".1") else "alert.updated")
        self.tried.append((key, attempt_time))
        outcome = self.answer(key, self.attempts(key))
        if isinstance(outcome, Delivered):
            self.taken.append(key)
        return outcome

    def attempts(self, key: str) -> int:
        return sum(tried == key for tried, _ in self.tried)

    def close(self) -> None:
        pass


def hook(receiver: Receiver, **options: Any) -> tuple[webhook.Sink, webhook.Config]:
    config = webhook.Config(name="siem", url=receiver.url, secret_env="K", **options)
    return webhook.Sink(config, {"K": KEY}), config


def identity(request: Request) -> tuple[str, int]:
    data = request.json["data"]
    return data["event"]["id"], data["shield"]["revision"]


ALERTS = [(f"alert-{n}", revision) for revision in (1, 2, 3) for n in range(10)]


def in_order(requests: Iterable[tuple[str, int]]) -> bool:
    """Each alert's revisions came as 1, 2, 3 (a repeated one may come again at once)."""
    seen: dict[str, int] = {}
    for name, revision in requests:
        if revision not in {seen.get(name, 0), seen.get(name, 0) + 1}:
            return False
        seen[name] = revision
    return True


def test_a_receiver_that_is_down_first_gets_every_alert_once_and_in_order(bench: Bench) -> None:
    bench.wall.speed = 20.0
    with receiving(lambda _: (503, {}) if bench.wall.passed_s < 2 * HOUR_S else (200, {})) as receiver:
        sink, config = hook(receiver)
        bench.write(*ALERTS)
        bench.run(sink, config, lambda: len(receiver.taken) >= len(ALERTS))
        sink.close()
    assert sorted(map(identity, receiver.taken)) == sorted(ALERTS)
    assert in_order(map(identity, receiver.taken))
    assert bench.dead() == []
    assert bench.left(config) == 0
    failed = len(receiver.requests) - len(receiver.taken)
    assert 20 < failed < 150  # backs off: two hours at up to five minutes each
    assert bench.value("delivery_attempts_total", sink="siem", outcome="retry") == failed
    # Every attempt at one revision has the same id, and each is signed for its own time.
    ids: dict[tuple[str, int], set[str]] = {}
    for request in receiver.requests:
        ids.setdefault(identity(request), set()).add(request.headers["webhook-id"])
        at = int(request.headers["webhook-timestamp"])
        mac = Webhook(KEY).sign(request.headers["webhook-id"], _utc(at), request.body.decode())
        assert request.headers["webhook-signature"] == mac
    assert all(len(found) == 1 for found in ids.values())
    assert len(set().union(*ids.values())) == len(ALERTS)


def _utc(at: int) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC)


def test_retry_after_is_kept_to_and_not_believed_beyond_an_hour(bench: Bench) -> None:
    asked = iter(["1200", "99999999"])

    bench.wall.speed = 5.0

    def busy(_: Request) -> tuple[int, dict[str, str]]:
        at.append(bench.wall.passed_s)
        after = next(asked, None)
        return (200, {}) if after is None else (429, {"Retry-After": after})

    at: list[float] = []
    with receiving(busy) as receiver:
        sink, config = hook(receiver)
        bench.write(("a", 1), ("b", 1))  # the second alert waits too: the receiver asked for quiet
        bench.run(sink, config, lambda: len(receiver.taken) >= 2)
        sink.close()
    assert 1200 <= at[1] - at[0] < 1202
    assert 3600 <= at[2] - at[1] < 3602


def test_404_goes_to_the_dead_letters_at_once_and_302_too(bench: Bench) -> None:
    statuses = {"a": 404, "b": 302, "c": 200}
    with receiving(lambda r: (statuses[identity(r)[0]], {"Location": "/x"})) as receiver:
        sink, config = hook(receiver)
        bench.write(("a", 1), ("b", 1), ("c", 1))
        bench.run(sink, config, lambda: len(receiver.requests) >= 3)
        sink.close()
    assert len(receiver.requests) == 3
    dead = {key: headers for key, headers, _ in bench.dead()}
    assert set(dead) == {"a", "b"}
    assert dead["a"]["reason"] == "rejected: HTTP 404"
    assert dead["b"]["reason"] == "rejected: HTTP 302: redirects are not followed"
    assert {k: dead["a"][k] for k in ("stage", "sink", "attempts", "tenant", "severity", "kind")} == {
        "stage": "deliver",
        "sink": "siem",
        "attempts": "1",
        "tenant": "stadt-a",
        "severity": "high",
        "kind": "alert.created",
    }
    assert dead["a"]["origin"].startswith("alerts/")
    assert bench.left(config) == 0
    assert bench.value("dlq_records_total", stage="deliver", reason="rejected") == 2


def test_410_disables_the_sink_over_restarts_until_its_configuration_changes(bench: Bench) -> None:
    status = [410]
    with receiving(lambda _: (status[0], {})) as receiver:
        sink, config = hook(receiver)
        bench.write(*[(f"a{n}", 1) for n in range(8)])
        bench.run(sink, config, lambda: bench.left(config) == 0 and len(bench.dead()) >= 8)
        assert len(receiver.requests) == 1  # the first answer was enough
        assert bench.value("delivery_disabled", sink="siem") == 1

        status[0] = 200
        bench.write(*[(f"b{n}", 1) for n in range(8)])
        bench.run(sink, config, lambda: bench.left(config) == 0 and len(bench.dead()) >= 16)  # restarted: still off
        assert len(receiver.requests) == 1
        assert all(headers["reason"].startswith("disabled: HTTP 410") for _, headers, _ in bench.dead())

        bench.write(*[(f"c{n}", 1) for n in range(8)])
        again = msgspec.structs.replace(config, generation=1)
        bench.run(sink, again, lambda: len(receiver.taken) >= 8)
        assert bench.value("delivery_disabled", sink="siem") == 0
        bench.write(("d", 1))
        bench.run(sink, again, lambda: len(receiver.taken) >= 9)
        sink.close()
    assert len(bench.dead()) == 16


def test_an_alert_that_the_receiver_cannot_digest_does_not_keep_the_others(bench: Bench) -> None:
    sink = Script(lambda key, _: Retry("HTTP 500") if key.startswith("bad") else Delivered())
    config = SinkConfig(name="siem", backoff=Backoff(give_up_after_s=3 * HOUR_S))
    assert Backoff().give_up_after_s == 72 * HOUR_S
    bench.write(("bad-1", 1), ("bad-2", 1), ("bad-1", 2))
    bench.write(*[(f"good-{n}", 1) for n in range(150)])
    bench.run(sink, config, lambda: len(sink.taken) >= 150)
    assert bench.wall.passed_s < 30
    bench.wall.speed = 5.0
    late: list[float] = []

    def written_hours_later() -> bool:
        if not late and bench.wall.passed_s > 1.5 * HOUR_S:
            bench.write(("good-late", 1))
            late.append(bench.wall.now)
        return "good-late.1" in sink.taken

    bench.run(sink, config, written_hours_later)
    assert dict(sink.tried)["good-late.1"] - late[0] < 20  # although nothing but two failures was heard for hours
    assert sink.attempts("bad-1.1") < 120
    bench.wall.speed = 50.0
    bench.run(sink, config, lambda: bench.value("dlq_records_total", stage="deliver", reason="gave up") == 3)
    dead = [(key, headers) for key, headers, _ in bench.dead()]
    assert sorted(key for key, _ in dead) == ["bad-1", "bad-1", "bad-2"]
    assert all(h["reason"].startswith("gave up: after") and h["reason"].endswith("HTTP 500") for _, h in dead)
    assert 3 * HOUR_S <= bench.wall.passed_s < 4 * HOUR_S
    assert int(dead[0][1]["attempts"]) > 20


def test_attempts_max_ends_the_attempts_and_counts_over_restarts(bench: Bench) -> None:
    sink = Script(lambda _key, _attempt: Retry("HTTP 500"))
    config = SinkConfig(name="siem", backoff=Backoff(attempts_max=5))
    bench.write(("a", 1))
    bench.run(sink, config, lambda: len(sink.tried) >= 3)
    bench.run(sink, config, lambda: bool(bench.dead()))
    assert len(sink.tried) == 5
    assert bench.dead()[0][1]["attempts"] == "5"
    assert bench.dead()[0][1]["reason"] == "gave up: after 5 attempts: HTTP 500"


def test_what_waits_is_bounded_and_the_rest_stays_in_the_topic(bench: Bench) -> None:
    up = [False]
    sink = Script(lambda _key, _attempt: Delivered() if up[0] else Retry("HTTP 503"))
    config = SinkConfig(name="siem", parked_max=10)
    bench.write(*[(f"a{n}", 1) for n in range(60)])
    bench.run(sink, config, lambda: bench.wall.passed_s > 60)
    assert bench.left(config) == 50
    assert bench.value("delivery_queue_length", sink="siem") == 60
    assert (bench.value("delivery_oldest_seconds", sink="siem") or 0) > 50
    up[0] = True
    bench.run(sink, config, lambda: bench.value("delivery_queue_length", sink="siem") == 0)
    assert sorted(sink.taken) == sorted(f"a{n}.1" for n in range(60))
    started = bench.wall.now
    bench.run(sink, config, lambda: bench.wall.now > started + 5)  # restarted: nothing of it is left in the state
    assert len(sink.taken) == 60
    reader = bench.open(config)
    assert all(reader.restore(partition) == {} for partition in reader.poll(Limits(wait_s=0)).gained)
    reader.close()


def test_a_clock_set_back_by_a_day_holds_nothing_up(bench: Bench) -> None:
    up = [False]
    sink = Script(lambda _key, _attempt: Delivered() if up[0] else Retry("HTTP 503", 600.0))
    config = SinkConfig(name="siem")
    bench.write(("a", 1), ("b", 1))

    def set_back() -> bool:
        if not up[0] and bench.wall.passed_s > 100:
            up[0] = True
            bench.wall.now -= 24 * HOUR_S
        return len(sink.taken) >= 2

    bench.run(sink, config, set_back)
    assert bench.wall.passed_s < 110 - 24 * HOUR_S


def test_the_broker_is_polled_all_the_while_a_receiver_is_slow_or_away(bench: Bench) -> None:
    polls: list[float] = []

    class Watched(Wrapped):
        def poll(self, limits: Limits) -> Batch:
            polls.append(bench.wall.now)
            return super().poll(limits)

    def slow(_key: str, _attempt: int) -> Outcome:
        bench.wall.now += 4.0
        return Delivered() if bench.wall.passed_s > 400 else Retry("no answer within 4 s")

    sink, config = Script(slow), SinkConfig(name="siem")
    bench.write(*[(f"a{n}", 1) for n in range(30)])
    bench.run(sink, config, lambda: len(sink.taken) >= 30, broker=Watched(bench.open(config)))
    polls.append(bench.wall.now)
    assert max(b - a for a, b in itertools.pairwise(polls)) < 15  # half of the session timeout


class Wrapped:
    """A broker that a test can make fail. Not a double: everything goes to the real one."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def poll(self, limits: Limits) -> Batch:
        return self.broker.poll(limits)

    def commit(self, batch: Batch | None, outbox: Iterable[Out], changes: Iterable[Change]) -> None:
        self.broker.commit(batch, outbox, changes)

    def restore(self, partition: Partition) -> dict[bytes, bytes]:
        return self.broker.restore(partition)

    def read(self, topic: str, *, follow: bool = False, newest: int | None = None) -> Any:
        return self.broker.read(topic, follow=follow, newest=newest)

    def lag(self) -> dict[Partition, int]:
        return self.broker.lag()

    def backlog(self, topic: str, group: str) -> int:
        return self.broker.backlog(topic, group)

    def close(self) -> None:
        self.broker.close()


@pytest.mark.parametrize("seed", range(8))
def test_a_broker_that_fails_at_any_call_loses_nothing(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    refused: list[str] = []

    class Flaky(Wrapped):
        def poll(self, limits: Limits) -> Batch:
            self.perhaps("poll")
            return super().poll(limits)

        def restore(self, partition: Partition) -> dict[bytes, bytes]:
            self.perhaps("restore")
            return super().restore(partition)

        def lag(self) -> dict[Partition, int]:
            self.perhaps("lag")
            return super().lag()

        def commit(self, batch: Batch | None, outbox: Iterable[Out], changes: Iterable[Change]) -> None:
            if chance.random() < 0.3:
                refused.append("commit")
                bad = Change(("alerts", 99), b"x", b"x")  # a partition that is not ours: the real broker fences us
                super().commit(batch, outbox, [*changes, bad])
            super().commit(batch, outbox, changes)

        def perhaps(self, call: str) -> None:
            if chance.random() < 0.3:
                refused.append(call)
                raise BrokerDown(f"no answer to {call}")

    sink = Script(lambda _key, _attempt: Delivered() if chance.random() < 0.5 else Retry("HTTP 503"))
    config = SinkConfig(name="siem", parked_max=20)
    bench.write(*ALERTS)
    expected = {f"{name}.{revision}" for name, revision in ALERTS}
    flaky = Flaky(bench.open(config))
    bench.run(sink, config, lambda: bench.left(config) == 0 and set(sink.taken) == expected, broker=flaky)
    assert {"poll", "commit"} <= set(refused), f"seed {seed}"
    assert bench.value("fenced_total") == refused.count("commit")
    assert bench.dead() == []
    # What was repeated after a lost commit begins again where that commit began: never a new revision before an old one.
    first = list(dict.fromkeys(sink.taken))
    assert in_order((k.rpartition(".")[0], int(k.rpartition(".")[2])) for k in first), f"seed {seed}"


def test_another_process_under_the_same_name_ends_this_one(bench: Bench) -> None:
    config = SinkConfig(name="siem")
    ours = bench.open(config)
    ours.poll(Limits(wait_s=0))
    other = bench.open(config)
    other.poll(Limits(wait_s=0))
    bench.write(("a", 1))
    started = time.monotonic()

    def stop() -> bool:
        assert time.monotonic() - started < 30, "the rival is never noticed"
        return False

    with pytest.raises(Fenced):  # the broker looks for a rival once per heartbeat
        deliver(ours, Script(), config, metrics=bench.metrics, stop=stop)
    ours.close()
    other.close()


def test_unreadable_alerts_go_to_the_dead_letters_as_they_are(bench: Bench) -> None:
    hostile = [b"", b"\xff", b"[]", b"7", b"{", b'{"a":"\\ud800"}', b"[" * 100_000, b'{"shield": 3}', b"null"]
    bench._writer.commit(None, [Out("alerts", b"k%d" % n, value, 0.0) for n, value in enumerate(hostile)], [])

    class Taker(Script):
        def send(self, alert: Mapping[str, Any], *, key: str, kind: str, attempt_time: float) -> Outcome:
            assert (alert, kind, attempt_time) == ({"shield": 3}, "alert.created", bench.wall.now)
            self.taken.append(key)
            return Delivered()

    sink, config = Taker(), SinkConfig(name="siem", min_severity="critical")
    bench.run(sink, config, lambda: bench.left(config) == 0)
    assert sink.taken == ["k7.1"]  # an object, if a poor one: nothing in it says that it may be left out
    assert sorted(value for _, _, value in bench.dead()) == sorted(v for n, v in enumerate(hostile) if n != 7)
    assert bench.value("dlq_records_total", stage="deliver", reason="unreadable") == 8


def test_two_sinks_each_get_what_their_filter_lets_through(bench: Bench) -> None:
    bench.write(("low", 1), severity="low")
    bench.write(("high", 1), ("high", 2))
    bench.write(("other", 1), tenant="stadt-b")
    for config, expected in (
        (SinkConfig(name="all"), ["high.1", "high.2", "low.1", "other.1"]),
        (SinkConfig(name="severe", min_severity="high"), ["high.1", "high.2", "other.1"]),
        (SinkConfig(name="town", tenants=("stadt-b",)), ["other.1"]),
        (SinkConfig(name="once", events=("created",), min_severity="medium"), ["high.1", "other.1"]),
        (SinkConfig(name="none", detectors=("beaconing",)), []),
        (SinkConfig(name="some", detectors=("beaconing", "logon_failures"), tenants=("stadt-b",)), ["other.1"]),
    ):
        sink = Script()
        bench.run(sink, config, lambda config=config: bench.left(config) == 0)  # type: ignore[misc]
        assert sorted(sink.taken) == expected, config.name


def test_kind_key_and_filter_of_poor_documents() -> None:
    assert kind_of({"shield": {"revision": 2}}, {}) == "alert.updated"
    assert kind_of({"shield": {"revision": "2"}}, {"kind": "closed"}) == "alert.created"
    assert kind_of({}, {"kind": "updated"}) == "alert.updated"
    assert idempotency_key(b"\xff\n", {"shield": []}) == "\\xff\n.1"
    assert wanted(SinkConfig(name="s", min_severity="critical"), {}, {"severity": "?"})
    assert not wanted(SinkConfig(name="s", min_severity="low"), {}, {"severity": "info"})
    assert not wanted(SinkConfig(name="s", tenants=("a",)), {"organization": {"id": {}}}, {})
    assert wanted(SinkConfig(name="s", tenants=("a",)), {"organization": {"id": "a"}}, {})


def test_backoff_doubles_under_full_jitter_up_to_its_cap() -> None:
    rng, backoff = random.Random(1), Backoff()
    for failures, ceiling in ((1, 0.5), (2, 1.0), (5, 8.0), (11, 300.0), (10_000, 300.0)):
        drawn = [jitter(backoff, failures, rng) for _ in range(500)]
        assert max(drawn) <= ceiling
        assert max(drawn) > 0.95 * ceiling
        assert min(drawn) < 0.05 * ceiling
    with pytest.raises(ValueError, match="cap_s"):
        Backoff(base_s=10, cap_s=1)
    with pytest.raises(ValueError, match="attempts_max"):
        Backoff(attempts_max=0)


WORKER = """
import random, sys
from shield.broker import EmbeddedConfig, open_broker
from shield.deliver import deliver
from shield.metrics import Metrics
from shield.pending import group
from shield.sinks import webhook
config = webhook.Config(name="siem", url=sys.argv[2], secret_env="K")
broker = open_broker(EmbeddedConfig(path=sys.argv[1]), group=group("siem"), member="deliver-0", topics=["alerts"])
deliver(broker, webhook.Sink(config, {"K": sys.argv[3]}), config, metrics=Metrics(), stop=lambda: False,
        sleep=lambda s: None, rng=random.Random(3))
"""


def test_kill_9_at_any_time_loses_nothing_and_repeats_with_the_same_id(bench: Bench) -> None:
    worker: list[subprocess.Popen[bytes]] = []
    kills = iter([3, 17, 18])  # at these requests the worker is killed before it hears the answer
    next_kill = [next(kills)]
    came: list[Request] = []

    def answer(request: Request) -> tuple[int, dict[str, str]] | None:
        came.append(request)
        if len(came) == next_kill[0]:
            next_kill[0] = next(kills, 0)
            os.kill(worker[-1].pid, signal.SIGKILL)
            return 200, {}
        return (503, {}) if len(came) % 5 == 0 else (200, {})

    def start(receiver: Receiver) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", WORKER, str(bench.config.path), receiver.url, KEY], cwd=ROOT)

    bench.write(*ALERTS)
    config = SinkConfig(name="siem")
    deaths = 0
    with receiving(answer) as receiver:
        deadline = time.monotonic() + 120
        worker.append(start(receiver))
        while set(map(identity, receiver.taken)) != set(ALERTS) or bench.left(config):
            assert time.monotonic() < deadline, "not all delivered"
            if worker[-1].poll() is not None:
                assert worker[-1].returncode == -signal.SIGKILL
                deaths += 1
                worker.append(start(receiver))
            time.sleep(0.02)
        worker[-1].kill()
        worker[-1].wait()
    assert deaths == 3
    assert bench.dead() == []
    ids: dict[tuple[str, int], set[str]] = {}
    for request in receiver.requests:
        ids.setdefault(identity(request), set()).add(request.headers["webhook-id"])
    assert all(len(found) == 1 for found in ids.values())
    assert len(receiver.taken) > len(ALERTS)  # some were repeated, so the id matters
    assert in_order(dict.fromkeys(map(identity, receiver.taken)))


def test_rejected_is_proof_that_the_receiver_lives(bench: Bench) -> None:
    sink = Script(
        lambda key, attempt: Rejected("HTTP 422") if key == "b.1" else (Retry("x") if attempt < 3 else Delivered())
    )
    config = SinkConfig(name="siem")
    bench.write(("a", 1), ("b", 1), ("c", 1))
    bench.run(sink, config, lambda: len(sink.taken) >= 2)
    assert [key for key, _, _ in bench.dead()] == ["b"]
    assert bench.wall.passed_s < 5
