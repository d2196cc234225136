"""Each role built from a configuration in one place: what runs in a process, and the supervisor that runs them all."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from detectors.behaviour import Behaviour
from detectors.sigma import RuleSet
from shield import __version__, deliver, ingest
from shield.broker import Broker, open_broker
from shield.config import Config, instant, module_of
from shield.detect import SIGNALS, Detect
from shield.health import Health, HealthServer
from shield.metrics import Metrics
from shield.models import ModelShelf, learning_history, records, shifted, signing_key, train
from shield.pending import group
from shield.pipeline import RawStage, SignalStage
from shield.reload import Reloader, marks
from shield.sinks import SinkConfig, open_sink

DETECT_GROUP = "detect"
RAW, ALERTS = "raw", "alerts"
RESTART_FIRST_S, RESTART_MAX_S = 0.5, 30.0
STOP_S = 25.0  # a role has this long to finish before it is ended

log = structlog.get_logger()


def speak(*, json: bool | None = None, quiet: bool = False) -> None:
    """Log as JSON in production, readable on a terminal; always to stderr, so that stdout stays for results."""
    plain = sys.stderr.isatty() if json is None else not json
    renderer: Any = structlog.dev.ConsoleRenderer() if plain else structlog.processors.JSONRenderer()
    errors: list[Any] = [] if plain else [structlog.processors.dict_tracebacks]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *errors,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def load_rules(config: Config) -> RuleSet:
    """The rules of a configuration; its filters must say who answers for them, why, and until when. Raises RuleFaults."""
    cache = Path(config.rules_cache) if config.rules_cache else None
    return RuleSet.load(config.rule_paths, expansions=config.placeholders, cache=cache, owned=True)


def stages(config: Config, *, future_s: float | None = None) -> tuple[RawStage, SignalStage]:
    """Both halves of the pipeline. Raises RuleFaults or ProfileError when rules or profiles are wrong."""
    rules = load_rules(config)
    behaviour = Behaviour.load(config.profile_paths, None, inventory=config.inventory, learning=config.learning)
    learn_until = instant(config.learn_until) if config.learn_until else None
    raw = (
        RawStage(config, rules, behaviour)
        if future_s is None
        else RawStage(config, rules, behaviour, future_s=future_s)
    )
    return raw, SignalStage(config, rules, behaviour, learn_until)


def run_ingest(config: Config, worker: str) -> bool:
    with ExitStack() as stack:
        broker = _broker(stack, config, None, worker, ())
        metrics, health = _observed(stack, config, config.metrics.ingest)
        parts = [(module_of(s).Source, s) for s in config.sources]
        return ingest.run(broker, worker, parts, counts=_Counted(metrics), turned=health.turned)


def run_detect(config: Config, worker: str) -> None:
    with ExitStack() as stack:
        before = marks(config.rule_paths)
        raw, signals = stages(config)
        for warning in signals.rules.warnings:
            log.warning("rules", warning=str(warning))
        topics = [RAW, SIGNALS, *(s.foreign for s in config.sources if hasattr(s, "foreign"))]
        broker = _broker(stack, config, DETECT_GROUP, worker, topics)
        metrics, health = _observed(stack, config, config.metrics.detect)
        reloader = Reloader(
            partial(load_rules, config),
            config.rule_paths,
            signals.rules,
            metrics,
            every_s=config.rules_reload_s,
            since=before,
        )
        stack.callback(reloader.close)
        health.reload = reloader.reload
        signal.signal(signal.SIGHUP, lambda *_: reloader.ask())
        stop = _stop_signal()
        shelf = ModelShelf(signing_key(config))
        Detect(broker, raw, signals, shelf, metrics, health, config.batch, reloader).run(stop)


def run_deliver(config: Config, worker: str, sink: SinkConfig) -> None:
    with ExitStack() as stack:
        port = config.metrics.deliver and config.metrics.deliver + list(config.sinks).index(sink)
        broker = _broker(stack, config, group(sink.name), worker, [ALERTS])
        metrics, health = _observed(stack, config, port)
        opened = open_sink(sink)
        stack.callback(opened.close)
        deliver.deliver(broker, opened, sink, metrics=metrics, stop=_stop_signal(), turned=health.turned)


def run_train(config: Config) -> dict[str, Any]:
    """Models and thresholds from the `features` topic onto the `models` topic; answers a summary."""
    with ExitStack() as stack:
        broker = _broker(stack, config, None, "train", ())
        history = list(learning_history(broker))
        models, limits = train(history, config, Behaviour.load(config.profile_paths, None).fingerprints)
        broker.commit(None, records(models, limits, signing_key(config), time.time()), [])
        days = {f.day for f in history}
        return {
            "points": len(history),
            "days": len(days),
            "tenants": sorted({f.tenant for f in history}),
            "calibrated_detectors": len({f.detector for f in history}),
            "thresholds": {t: round(v, 2) for t, v in limits.risk.items()},
            "shifted": shifted(history),
        }


def supervise(config: Config, path: str) -> int:
    """Run all roles as processes; restart what ends, with capped backoff; stop them all on SIGTERM or SIGINT.

    SIGHUP is handed on to where rules are at work.
    """
    commands = {
        "ingest": ["ingest", path],
        "detect": ["detect", path],
        **{f"deliver.{sink.name}": ["deliver", path, "--sink", sink.name] for sink in config.sinks},
    }
    stop = _stop_signal()
    reloads: list[int] = []
    signal.signal(signal.SIGHUP, lambda received, _: reloads.append(received))
    rng = random.Random()  # noqa: S311 - spreads restarts, protects nothing
    running: dict[str, subprocess.Popen[bytes]] = {}
    due = dict.fromkeys(commands, 0.0)
    failures = dict.fromkeys(commands, 0)
    started = dict.fromkeys(commands, 0.0)
    try:
        while not stop():
            now = time.monotonic()
            if reloads and "detect" in running:
                reloads.clear()
                running["detect"].send_signal(signal.SIGHUP)
            for name, arguments in commands.items():
                process = running.get(name)
                if process is None and now >= due[name]:
                    running[name] = _start(arguments, name)
                    started[name] = now
                elif process is not None and (code := process.poll()) is not None:
                    del running[name]
                    failures[name] = 0 if now - started[name] > RESTART_MAX_S else failures[name] + 1
                    wait_s = rng.uniform(0.5, 1.0) * min(RESTART_MAX_S, RESTART_FIRST_S * 2 ** min(failures[name], 10))
                    due[name] = now + (float("inf") if code == 0 else wait_s)  # 0: a replay that has ended
                    if code:
                        log.error("role ended and is started again", role=name, exit_code=code, in_s=round(wait_s, 1))
            time.sleep(0.1)
    finally:
        _end(running.values())
    return 0


def _start(arguments: Sequence[str], name: str) -> subprocess.Popen[bytes]:
    log.info("role started", role=name)
    command = [sys.executable, "-m", "shield", *arguments, "--worker", name]
    return subprocess.Popen(command, start_new_session=True)  # a signal to us reaches them in order, through us


def _end(processes: Any) -> None:
    ending = list(processes)
    for process in ending:
        process.terminate()
    deadline = time.monotonic() + STOP_S
    for process in ending:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _broker(stack: ExitStack, config: Config, group: str | None, worker: str, topics: Sequence[str]) -> Broker:
    broker = open_broker(config.broker, group=group, member=worker, topics=topics)
    stack.callback(broker.close)
    return broker


def _observed(stack: ExitStack, config: Config, port: int) -> tuple[Metrics, Health]:
    metrics, health = Metrics(), Health()
    metrics.build(__version__)
    if port:
        server = HealthServer(health, metrics.registry, host=config.metrics.host, port=port)
        stack.callback(server.close)
    return metrics, health


def _stop_signal() -> Callable[[], bool]:
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: asked.append(received))
    return lambda: bool(asked)


class _Counted:
    """What sources count, as metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def add(self, name: str, amount: int = 1) -> None:
        self._metrics.source("all", name, amount)


def worker_name(given: str | None, role: str) -> str:
    """Stable over restarts: given, from the pod, or the role's; never a process id."""
    return (
        given or os.environ.get("SHIELD_WORKER") or (f"{role}-{pod}" if (pod := os.environ.get("HOSTNAME")) else role)
    )


def summary(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()
