"""The detect loop on the embedded broker: one commit per batch, crashes isolated, models taken up, nothing lost."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shield import roles
from shield.alerts import Sent
from shield.broker import Broker, EmbeddedConfig, Limits, Out, open_broker
from shield.config import Config, parse
from shield.detect import Detect
from shield.health import Health
from shield.metrics import Metrics
from shield.models import ModelShelf, open_thresholds, records, train
from shield.pipeline import Signals, Tally, Tenant, Thresholds

KEY = b"k" * 32
NOW = 1_793_700_000.0
GROUP = "Nov  3 10:00:{:02} srv-1 usermod[7]: add 'eve' to group 'sudo'"
SSH = "Nov  3 10:00:{:02} srv-1 sshd[7]: Failed password for invalid user test from 203.0.113.5 port 4711 ssh2"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse(
        f"broker: {{use: embedded, path: '{tmp_path}/shield.db', partitions: 2}}\n"
        "sources:\n"
        "  - {use: file, tenant: town, source: odd, parser: tests.fragile_parser, path: /nowhere/odd}\n"
        "  - {use: file, tenant: town, source: ssh, parser: linux_auth, year: 2026, path: /nowhere/ssh}\n",
        "test",
        environment={},
    )


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


def detect(config: Config, broker: Broker) -> Detect:
    raw, signals = roles.stages(config)
    return Detect(broker, raw, signals, ModelShelf(KEY), Metrics(), Health(), Limits(wait_s=0.05))


def send(broker: Broker, source: str, lines: list[str]) -> None:
    headers = {"tenant": "town", "source": source, "framing": "lines", "lines": str(len(lines))}
    broker.commit(None, [Out("raw", b"town", "\n".join(lines).encode(), NOW, headers)], [])


def drain(loop: Detect, now: float = NOW) -> None:
    for _ in range(200):
        if loop.turn(now).caught_up and not loop.turn(now).records:
            return
    raise AssertionError("never caught up")


def test_a_record_that_crashes_twice_goes_to_the_dead_letters_and_the_others_count(
    config: Config, sender: Broker, worker: Broker
) -> None:
    send(sender, "odd", ["fragile"])
    send(sender, "odd", ["fragile boom", "fragile other"])
    send(sender, "ssh", [GROUP.format(1)])
    drain(detect(config, worker))
    dead = list(sender.read("dead"))
    assert [d.value for d in dead] == [b"fragile boom\nfragile other"]
    assert dead[0].headers["reason"] == "crashed the worker: ZeroDivisionError"
    assert dead[0].headers["source"] == "odd"
    alerts = list(sender.read("alerts"))
    assert {a.headers["kind"] for a in alerts} >= {"alert.created"}


def test_a_crashing_record_leaves_no_trace_in_state_or_alerts(
    config: Config, sender: Broker, worker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It crashes after it has changed state: what it changed must not be committed with the records around it."""
    take = Tenant.take

    def defect(self: Tenant, signals: Signals, offset: int, tally: Tally) -> list[Sent]:
        sent = take(self, signals, offset, tally)
        if any("srv-boom" in str(fact.entities) for fact in signals.facts):
            raise ZeroDivisionError
        return sent

    monkeypatch.setattr(Tenant, "take", defect)
    loop = detect(config, worker)
    for host in ("srv-1", "srv-boom", "srv-2"):
        send(sender, "ssh", [GROUP.format(1).replace("srv-1", host).replace("eve", f"for-{host}")])  # nobody's second
        drain(loop)
    alerts = [msgspec.json.decode(r.value) for r in sender.read("alerts")]
    assert sorted({a["host"]["name"] for a in alerts}) == ["srv-1", "srv-2"]
    state = worker.restore(("signals", sender_partition(sender)))
    assert state
    assert not any(b"srv-boom" in key or b"srv-boom" in value for key, value in state.items())
    assert [d.headers["reason"] for d in sender.read("dead")] == ["crashed the worker: ZeroDivisionError"]


def sender_partition(sender: Broker) -> int:
    return next(r.partition for r in sender.read("signals"))


def test_unreadable_lines_keep_their_bytes_and_say_where_they_came_from(
    config: Config, sender: Broker, worker: Broker
) -> None:
    send(sender, "ssh", ["no syslog at all", SSH.format(1)])
    drain(detect(config, worker))
    (dead,) = sender.read("dead")
    assert dead.value == b"no syslog at all"
    assert dead.headers["stage"] == "parse"
    assert dead.headers["origin"].startswith("raw:")
    assert dead.headers["tenant"] == "town"


def test_ready_only_with_partitions_and_metrics_count_the_batch(config: Config, sender: Broker, worker: Broker) -> None:
    raw, signals = roles.stages(config)
    health, metrics = Health(), Metrics()
    loop = Detect(worker, raw, signals, ModelShelf(KEY), metrics, health, Limits(wait_s=0.05))
    assert "partitions" in health.unready()
    send(sender, "ssh", [SSH.format(n) for n in range(3)])
    drain(loop)
    assert health.unready() == {}
    labels = {"source": "ssh", "tenant": "town"}
    assert metrics.registry.get_sample_value("shield_events_ingested_total", labels) == 3.0


def test_when_nothing_comes_any_more_the_last_minute_is_closed(config: Config, sender: Broker, worker: Broker) -> None:
    send(sender, "ssh", [GROUP.format(n) for n in range(30)])
    loop = detect(config, worker)
    drain(loop)
    before = [r.headers["kind"] for r in sender.read("alerts")]
    drain(loop, NOW + config.silent_after_s + 5)
    drain(loop, NOW + config.silent_after_s + 10)
    after = [r.headers["kind"] for r in sender.read("alerts")]
    assert "alert.updated" not in before
    assert after[: len(before)] == before
    assert "alert.updated" in after


def test_models_travel_signed_and_anything_else_is_refused(config: Config, sender: Broker, worker: Broker) -> None:
    raw, signals = roles.stages(config)
    loop = Detect(worker, raw, signals, ModelShelf(KEY), Metrics(), Health(), Limits(wait_s=0.05))
    models, _ = train([], config, {})
    limits = Thresholds({"*": 2.5}, {"town": ["host:dc"]}, 1.0)
    sender.commit(None, records(models, limits, b"x" * 32, NOW), [])
    loop.turn(NOW)
    assert signals.thresholds == {}
    sender.commit(None, records(models, limits, KEY, NOW), [])
    loop.turn(NOW + 60)
    assert signals.thresholds == {"*": 2.5}
    assert signals.hubs == {"town": frozenset({"host:dc"})}


def test_thresholds_do_not_open_with_a_flipped_byte() -> None:
    from detectors.behaviour import ModelRefused

    config = Config()
    models, _ = train([], config, {})
    body = records(models, Thresholds({"*": 2.5}, {}, 1.0), KEY, NOW)[1].value
    assert open_thresholds(body, KEY).risk == {"*": 2.5}
    with pytest.raises(ModelRefused):
        open_thresholds(body[:-1] + bytes([body[-1] ^ 1]), KEY)
