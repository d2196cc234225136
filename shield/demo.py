"""The product at work on one machine: a town's quiet days to learn from, then a day with planted attacks, alerts as they come."""

import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections import Counter
from contextlib import ExitStack
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from standardwebhooks import Webhook

from shield import config as configs
from shield.broker import Broker, open_broker
from shield.cli import line_of
from shield.config import Config
from shield.demo_logs import DAY, FILES, PARSERS, TENANT, Truth, write
from shield.replay import Replay
from shield.roles import run_train
from shield.terminal import FAILURE, FINDINGS, OK

HISTORY_DAYS, HISTORY_LINES = 14, 3_000
WAIT_MAX_S = 60.0
SECRET = "SHIELD_DEMO_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable

CONFIG = """\
# Written by `shield demo`; a complete configuration to look at.
broker: {{use: embedded, path: {folder}/shield.db}}
learn_until: "{day}"        # events before this only teach
silent_after_s: 2           # short, because the demo is
sources:
{sources}
sinks:
  - {{use: webhook, name: receiver, url: "http://127.0.0.1:{port}/alerts", secret_env: {secret}}}
metrics: {{ingest: 0, detect: {metrics}, deliver: 0}}
"""


class Receiver:
    """A SIEM stand-in: takes signed webhooks, checks the signature, keeps the newest revision of each alert."""

    def __init__(self, secret: str, console: Console) -> None:
        self.alerts: dict[str, dict[str, Any]] = {}
        self.delivered = 0
        checker = Webhook(secret)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                message = checker.verify(body, {k.lower(): v for k, v in self.headers.items()})
                receiver.take(message, console)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, message: dict[str, Any], console: Console) -> None:
        alert = message["data"]
        self.delivered += 1
        held = self.alerts.get(alert["event"]["id"])
        if held is None or held["shield"]["revision"] < alert["shield"]["revision"]:
            self.alerts[alert["event"]["id"]] = alert
        if message["type"] == "alert.created":
            color = {"critical": "bold red", "high": "red", "medium": "yellow"}.get(alert["shield"]["level"], "cyan")
            console.print(line_of(alert), style=color, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def play(seed: int, lines: int, keep: Path | None) -> int:
    """Run the demo; answers the exit code: 0 when every planted attack was found."""
    console = Console(soft_wrap=True)
    with ExitStack() as stack:
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            folder = keep.resolve()
            for old in folder.glob("shield.db*"):
                old.unlink()
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stadtschild-")))
        console.print(
            f"[bold]Stadtschild demo[/bold]: the town {TENANT}, {HISTORY_DAYS} quiet days to learn from, then {DAY:%A, %d %B %Y}."
        )
        with console.status("writing the town's logs"):
            truth = write(folder, seed, lines, HISTORY_DAYS, HISTORY_LINES)
        secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        os.environ[SECRET] = secret
        receiver = Receiver(secret, console)
        stack.callback(receiver.close)
        path, port = _configure(folder, receiver.port)
        config = configs.load(path)
        log = stack.enter_context((folder / "shield.log").open("w", encoding="utf-8"))
        system = subprocess.Popen([sys.executable, "-m", "shield", "run", str(path)], stderr=log, stdout=log)
        stack.callback(_stop, system)
        broker = open_broker(config.broker, member="demo")
        stack.callback(broker.close)
        try:
            summary = _day(config, folder, broker, port, console, lines)
        except TimeoutError as error:
            tail = (folder / "shield.log").read_text(encoding="utf-8").splitlines()[-15:]
            console.print(f"[red]{error}[/red]; the system's last words:")
            console.print("\n".join(tail), markup=False)
            return FAILURE
        return _conclude(truth, receiver, summary, console, path if keep else None)


def _configure(folder: Path, receiver_port: int) -> tuple[Path, int]:
    port = _free_port()
    sources = "\n".join(
        f"  - {{use: file, tenant: {TENANT}, source: {name}, parser: {PARSERS[name]}, timezone: Europe/Berlin, year: {DAY.year}, "
        f'path: "{folder}/incoming/{file}"}}'
        for name, file in FILES.items()
    )
    path = folder / "shield.yml"
    text = CONFIG.format(
        folder=folder, day=DAY.isoformat(), sources=sources, port=receiver_port, secret=SECRET, metrics=port
    )
    path.write_text(text, encoding="utf-8")
    return path, port


def _day(config: Config, folder: Path, broker: Broker, port: int, console: Console, lines: int) -> dict[str, Any]:
    sources = {s.source: s for s in config.sources}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        past = [(sources[n], folder / "history" / f) for n, f in FILES.items()]
        task = bar.add_task(f"learning {HISTORY_DAYS} quiet days", total=sum(p.stat().st_size for _, p in past))
        learned = Replay(config).run(past, None, progress=lambda n: bar.advance(task, n))
        _settle(broker)
        trained = run_train(config)
        _until(lambda: "shield_model_info{" in _metrics(port), "the models were not taken up")
        console.print(
            f"learned from {learned} lines of {HISTORY_DAYS} days; findings alert from risk {trained['thresholds'][TENANT]} on\n"
        )
        today = [(sources[n], folder / f) for n, f in FILES.items()]
        task = bar.add_task("the day", total=sum(p.stat().st_size for _, p in today))
        before = _counts(port)
        started = time.perf_counter()
        Replay(config).run(today, None, progress=lambda n: bar.advance(task, n))
        _until(lambda: broker.backlog("raw", "detect") == 0, "the lines were not processed")
        took = time.perf_counter() - started
        _settle(broker)
        _until(lambda: broker.backlog("alerts", "deliver.receiver") == 0, "the alerts were not delivered")
    after = _counts(port)
    counted = {name: after[name] - before.get(name, 0) for name in after}
    return {"lines": lines, "seconds": took, **counted}


def _settle(broker: Broker) -> None:
    """Until everything was processed and the last minute has closed (its sources fall silent)."""
    quiet_since = time.monotonic()
    deadline = quiet_since + WAIT_MAX_S
    seen = -1
    while time.monotonic() - quiet_since < 3.5:
        if time.monotonic() > deadline:
            raise TimeoutError("the pipeline did not come to rest")
        busy = broker.backlog("raw", "detect") + broker.backlog("signals", "detect")
        if busy or busy != seen:
            quiet_since, seen = time.monotonic(), busy
        time.sleep(0.1)


def _until(done: Any, complaint: str) -> None:
    deadline = time.monotonic() + WAIT_MAX_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(0.1)


def _metrics(port: int) -> str:
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""


def _counts(port: int) -> dict[str, float]:
    found: Counter[str] = Counter()
    names = {
        "shield_events_ingested_total": "events",
        "shield_events_rejected_total": "unreadable",
        "shield_rule_matches_total": "detections",
        "shield_observations_total": "observations",
    }
    found.update(dict.fromkeys(names.values(), 0))
    for line in _metrics(port).splitlines():
        name = line.split("{", 1)[0].split(" ", 1)[0]
        if name in names:
            found[names[name]] += float(line.rsplit(" ", 1)[1])  # type: ignore[assignment]
    return dict(found)


def found_by(truth: Truth, alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Alerts on an entity of the planted attack, in its time, with an observation of the side that should see it."""
    start, end = datetime.fromisoformat(truth.start), datetime.fromisoformat(truth.end)
    wanted = {"rule": {"rule", "correlation"}, "behaviour": {"profile"}}[truth.seen_by]
    hits = []
    for alert in alerts:
        names = {e["name"].split(".")[0] if e["type"] == "host" else e["name"] for e in alert["shield"]["entities"]}
        opened = datetime.fromisoformat(alert["@timestamp"])
        in_time = (opened - start).total_seconds() >= -60 and (opened - end).total_seconds() <= 3600
        kinds = {o["kind"] for o in alert["shield"]["explanation"]["observations"]}
        if names & set(truth.entities) and in_time and kinds & wanted:
            hits.append(alert)
    return hits


def _conclude(
    truth: list[Truth], receiver: Receiver, summary: dict[str, Any], console: Console, path: Path | None
) -> int:
    alerts = list(receiver.alerts.values())
    rate = summary["lines"] / summary["seconds"] if summary["seconds"] else 0
    console.print("\n[bold]The day[/bold]")
    console.print(
        f"  {summary['lines']} lines: {summary['events']:.0f} events, {summary['unreadable']:.0f} unreadable; {summary['detections']:.0f} detections, "
        f"{summary['observations']:.0f} observations; {len(alerts)} alerts in {receiver.delivered} signed deliveries; {rate:.0f} events/s",
        highlight=False,
    )
    missed = 0
    for planted in truth:
        hits = found_by(planted, alerts)
        missed += not hits
        mark = "[green]found[/green]" if hits else "[red]missed[/red]"
        by = "no rule names it: behaviour" if planted.seen_by == "behaviour" else "rules"
        console.print(
            f"  {mark}  {planted.attack} ({planted.technique}, {by}): {len(hits)} alert{'s' if len(hits) != 1 else ''}",
            highlight=False,
        )
    console.print("\n[bold]Try next[/bold]")
    if path:
        console.print(f"  shield alerts --json -c {path}            every alert with its explanation")
        console.print(f"  shield check {path}                       validate a configuration and run all rule tests")
    else:
        console.print(
            "  shield demo --keep demo                       keep logs, configuration and database to look at"
        )
    console.print(
        "  cp shield.example.yml shield.yml              then point a syslog sender at it: README, five-minute tour"
    )
    return OK if not missed else FINDINGS


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stop(system: "subprocess.Popen[bytes]") -> None:
    system.terminate()
    try:
        system.wait(20)
    except subprocess.TimeoutExpired:
        system.kill()
