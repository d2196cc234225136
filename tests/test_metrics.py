import http.client
import json
import socket
import threading
import time
from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from shield import health as health_module
from shield.health import CONNECTIONS_MAX, Health, HealthServer
from shield.metrics import OTHER, PHASES, Metrics

FORBIDDEN = {"user", "user_name", "host", "host_name", "ip", "source_ip", "address", "entity", "alert", "key"}


def filled() -> Metrics:
    """Every method called once with something."""
    metrics = Metrics()
    metrics.build("0.1.0")
    metrics.ingested({("fw-1", "stadt-a"): 500, ("fw-1", "stadt-b"): 20}, 90_000)
    metrics.rejected({"fortigate": 3})
    metrics.source("fw-1", "truncated", 2)
    metrics.source_times({("fw-1", "stadt-a"): (1_768_360_000.0, -0.5)})
    metrics.event_lag(1.5)
    metrics.matched({"ssh_root_logon": 4})
    metrics.observed({"fail": 2})
    metrics.alerts({("ssh_root_logon", "high"): 1}, 3)
    for phase in PHASES:
        with metrics.phase(phase):
            pass
    metrics.lag({("raw", 0): 12, ("raw", 1): 0})
    metrics.state({"counters": 1000}, {"counters": 7})
    metrics.fenced()
    metrics.dead("parse", "unreadable", 3)
    metrics.delivery_attempts("siem", "delivered", 9)
    metrics.delivery_queue("siem", 4, 12.5, disabled=False)
    metrics.models({"forest": ("2026-01-14", "9f2c", 1_768_300_000.0)})
    metrics.learning({("fail", "stadt-a"): 86_400.0})
    metrics.drift("fw-1", "stadt-a", 0.25)
    metrics.unsaid({"quiet": 2})
    return metrics


def test_batches_add_up() -> None:
    metrics = filled()
    metrics.ingested({("fw-1", "stadt-a"): 1}, 10)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"shield_{name}", labels)

    assert value("events_ingested_total", source="fw-1", tenant="stadt-a") == 501
    assert value("event_bytes_total") == 90_010
    assert value("alerts_created_total", detector="ssh_root_logon", severity="high") == 1
    assert value("alerts_updated_total") == 3
    assert value("commit_seconds_count") == value("batch_phase_seconds_count", phase="commit") == 1
    assert value("state_evictions_total", table="counters") == 7
    assert value("build_info", version="0.1.0") == 1
    assert value("delivery_disabled", sink="siem") == 0


def test_partitions_and_models_that_went_away_disappear() -> None:
    metrics = filled()
    metrics.lag({("raw", 1): 5})
    metrics.models({"forest": ("2026-02-01", "11aa", 1_769_900_000.0)})
    value = metrics.registry.get_sample_value
    assert value("shield_consumer_lag_records", {"topic": "raw", "partition": "0"}) is None
    assert value("shield_consumer_lag_records", {"topic": "raw", "partition": "1"}) == 5
    assert value("shield_model_info", {"detector": "forest", "version": "2026-01-14", "sha": "9f2c"}) is None


def test_every_metric_is_raised_by_some_method_and_names_nobody() -> None:
    families = [family for family in filled().registry.collect() if family.name.startswith("shield_")]
    assert len(families) > 25
    samples = {family.name: [s for s in family.samples if not s.name.endswith("_created")] for family in families}
    silent = {name for name, found in samples.items() if not found}
    assert silent == {"shield_label_overflow"}  # nothing was beyond its bound
    for found in samples.values():
        for sample in found:
            assert not FORBIDDEN & sample.labels.keys(), sample


def test_label_values_are_bounded_and_what_is_beyond_is_counted() -> None:
    metrics = Metrics(sources_max=3)
    for n in range(10):
        metrics.ingested({(f"source-{n}", "stadt-a"): 1}, 1)
    metrics.ingested({("source-0", "stadt-a"): 1}, 1)  # known ones stay themselves
    value = metrics.registry.get_sample_value
    assert value("shield_events_ingested_total", {"source": "source-0", "tenant": "stadt-a"}) == 2
    assert value("shield_events_ingested_total", {"source": "source-9", "tenant": "stadt-a"}) is None
    assert value("shield_events_ingested_total", {"source": OTHER, "tenant": OTHER}) == 7
    assert value("shield_label_overflow_total", {"label": "source"}) == 7
    assert metrics.bounded("phase", "x") == ("x",)


def test_a_phase_that_fails_is_not_counted_as_done() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError), metrics.phase("commit"):
        raise KeyError
    assert metrics.registry.get_sample_value("shield_commit_seconds_count") == 0


def test_two_instances_do_not_meet() -> None:
    first, second = Metrics(), Metrics(CollectorRegistry())
    first.fenced()
    assert second.registry.get_sample_value("shield_fenced_total") == 0


class Page:
    def __init__(self, server: HealthServer) -> None:
        self.server = server

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read().decode()
        finally:
            connection.close()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def health(now: list[float]) -> Health:
    return Health(waiting={"broker": "no partitions yet"}, live_within_s=60, clock=lambda: now[0])


@pytest.fixture
def page(health: Health) -> Iterable[Page]:
    server = HealthServer(health, filled().registry)
    yield Page(server)
    server.close()


def test_health_says_when_the_loop_stands_still(page: Page, health: Health, now: list[float]) -> None:
    assert page.get("/healthz")[0] == 200
    now[0] += 61
    status, _, body = page.get("/healthz")
    assert (status, json.loads(body)) == (503, {"live": False, "still_s": 61.0})
    health.turned()
    assert page.get("/healthz")[0] == 200


def test_readiness_gives_its_reasons(page: Page, health: Health) -> None:
    status, _, body = page.get("/readyz")
    assert (status, json.loads(body)) == (503, {"ready": False, "reasons": {"broker": "no partitions yet"}})
    health.wait_for("models", "Schlüssel fehlt")
    health.ready("broker")
    assert json.loads(page.get("/readyz")[2])["reasons"] == {"models": "Schlüssel fehlt"}
    health.ready("models")
    assert page.get("/readyz")[0] == 200


def test_metrics_come_as_text_and_as_openmetrics(page: Page) -> None:
    status, kind, text = page.get("/metrics?x=1")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    names = {family.name for family in parse_text(text)}
    assert {"shield_events_ingested", "shield_batch_phase_seconds", "process_resident_memory_bytes"} <= names
    status, kind, text = page.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    assert "shield_events_ingested" in {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]


def test_other_requests_are_refused(page: Page) -> None:
    assert page.get("/")[0] == 404
    assert page.get("/../../etc/passwd")[0] == 404
    assert page.get("/metrics", method="POST")[0] == 501
    status, _, body = page.get("/metrics", method="HEAD")
    assert (status, body) == (200, "")


def test_many_and_silent_clients_do_not_stop_the_answers(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "REQUEST_S", 0.5)
    silent = [socket.create_connection(("127.0.0.1", page.server.port)) for _ in range(3 * CONNECTIONS_MAX)]
    try:
        for connection in silent:
            connection.settimeout(20)
            assert connection.recv(1) == b""  # refused at once or cut after a while
        deadline = time.monotonic() + 20
        while threading.active_count() > CONNECTIONS_MAX and time.monotonic() < deadline:
            time.sleep(0.01)
        assert page.get("/healthz")[0] == 200
    finally:
        for connection in silent:
            connection.close()


def test_rubbish_is_answered_with_an_error(page: Page) -> None:
    for rubbish in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 70_000 + b"\r\n"):
        with socket.create_connection(("127.0.0.1", page.server.port)) as connection:
            connection.settimeout(20)
            try:
                connection.sendall(rubbish)
                connection.recv(1000)
            except ConnectionError:
                continue  # hung up on: as good
    assert page.get("/healthz")[0] == 200
