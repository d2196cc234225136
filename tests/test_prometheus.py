"""A real Prometheus reads what is served, and its own checker finds nothing to complain about."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import generate_latest
from test_metrics import filled

from shield.health import Health, HealthServer

CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: shield
    static_configs: [{targets: ["127.0.0.1:%d"]}]
"""


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed (Debian package prometheus)")
        pytest.skip(f"NOT TESTED: {name} is not installed (Debian package prometheus)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def prometheus(folder: Path, target_port: int) -> Iterator[int]:
    """A Prometheus of our own that scrapes the port; gives the port of its API."""
    executable, port = program("prometheus"), free_port()
    (folder / "prometheus.yml").write_text(CONFIG % target_port)
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(
            [
                executable,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=output,
        )
        try:
            yield port
        finally:
            process.terminate()
            process.wait(30)


def ask(port: int, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return json.loads(response.read()) if response.status == 200 else None
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


def query(port: int, expression: str) -> dict[str, float]:
    """Value per series, the labels as text."""
    answer = ask(port, f"/api/v1/query?query={quote(expression)}")
    found = answer["data"]["result"] if answer else []
    return {
        ",".join(f"{k}={v}" for k, v in sorted(r["metric"].items()) if k not in {"instance", "job", "__name__"}): float(
            r["value"][1]
        )
        for r in found
    }


def test_prometheus_scrapes_and_answers_queries(tmp_path: Path) -> None:
    metrics = filled()
    server = HealthServer(Health(), metrics.registry)
    try:
        with prometheus(tmp_path, server.port) as port:
            deadline = time.monotonic() + 90
            while not query(port, "shield_build_info"):
                assert time.monotonic() < deadline, (tmp_path / "prometheus.log").read_text()[-3000:]
                time.sleep(0.2)
            assert query(port, "up") == {"": 1.0}
            assert query(port, "shield_events_ingested_total") == {
                "source=fw-1,tenant=stadt-a": 500.0,
                "source=fw-1,tenant=stadt-b": 20.0,
            }
            assert query(port, "sum by (phase) (shield_batch_phase_seconds_count)")["phase=commit"] == 1.0
            assert query(port, "shield_consumer_lag_records") == {
                "partition=0,topic=raw": 12.0,
                "partition=1,topic=raw": 0.0,
            }
            assert query(port, "histogram_quantile(0.5, shield_event_lag_seconds_bucket)") == {"": 1.5}
            (target,) = ask(port, "/api/v1/targets")["data"]["activeTargets"]
            assert target["lastError"] == ""
            kinds = {name: found[0]["type"] for name, found in ask(port, "/api/v1/metadata")["data"].items()}
            assert all(found[0]["help"] for found in ask(port, "/api/v1/metadata")["data"].values())
            ours = {name for name in kinds if name.startswith("shield_")}
            assert len(ours) > 25
            assert "unknown" not in {kinds[name] for name in ours}
    finally:
        server.close()


def test_promtool_finds_nothing_to_complain_about() -> None:
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=generate_latest(filled().registry),
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_promtool_would_complain() -> None:
    bad = b"# TYPE shield_learning_days gauge\nshield_learning_days 3\n"
    checked = subprocess.run([program("promtool"), "check", "metrics"], input=bad, capture_output=True, check=False)
    assert checked.returncode != 0
