"""The pipeline: alerts are a function of the lines, not of batch cuts, restarts or the speed of replay; nothing is lost."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from detectors.facts import Evidence, Fact
from shield.broker import Change, Out, Partition, Record, partition_of
from shield.config import Config, parse
from shield.demo_logs import DAY, FILES, PARSERS, TENANT, attacks, ordinary, write
from shield.pipeline import SIGNAL_BYTES_MAX, Signals, Tally, TenantClock, _signals
from shield.roles import stages
from shield.scan import Scan

RECEIVED = DAY.timestamp() + 86_400.0


def config_text(folder: Path = Path("/nowhere")) -> str:
    return "sources:\n" + "\n".join(
        f"  - {{use: file, mode: replay, tenant: {TENANT}, source: {n}, parser: {PARSERS[n]}, timezone: Europe/Berlin, year: 2026, path: {folder / f}}}"
        for n, f in FILES.items()
    )


@pytest.fixture(scope="module")
def config() -> Config:
    return parse(config_text(), "test", environment={})


@pytest.fixture(scope="module")
def lines() -> list[tuple[float, str, str]]:
    rng = random.Random(3)
    base = DAY.timestamp() + 7 * 3600
    busy = [
        base + i * 37 for i in range(300)
    ]  # a rule that alerts at once, again and again, over several of its windows
    stamps = [(at, f"{datetime.fromtimestamp(at, UTC) + timedelta(hours=1):%b %e %H:%M:%S}") for at in busy]
    hits = [
        (at, "auth", f"{stamp} srv-{int(at) % 3} usermod[7]: add 'u{int(at) % 5}' to group 'sudo'")
        for at, stamp in stamps
    ]
    return sorted([*ordinary(rng, DAY, 1_500), *attacks(rng, DAY)[0], *hits])


class Run:
    """Both stages by hand, with restarts in between."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state: dict[tuple[Partition, bytes], bytes] = {}
        self.signals = 0
        self.alerts: list[str] = []  # every revision as it was sent
        self.tally = Tally()
        self.start()

    def start(self) -> None:
        self.raw, self.stage = stages(self.config)
        held: dict[Partition, dict[bytes, bytes]] = {}
        for (partition, key), value in self.state.items():
            held.setdefault(partition, {})[key] = value
        for partition, state in held.items():
            (self.raw if partition[0] == "raw" else self.stage).gain(partition, state)

    def _keep(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.value is None:
                self.state.pop((change.partition, change.key), None)
            else:
                self.state[change.partition, change.key] = change.value

    def feed(self, records: list[Record]) -> None:
        outbox, changes = self.raw.process(records, self.tally)
        self._keep(changes)
        self.take(outbox)

    def take(self, outbox: Sequence[Out]) -> None:
        records = []
        for out in outbox:
            if out.topic == "signals":
                self.signals += 1
                records.append(
                    Record("signals", partition_of(out.key, 4), self.signals, out.key, out.value, out.time, out.headers)
                )
        made, changes = self.stage.process(records, self.tally)
        self._keep(changes)
        for out in made:
            if out.topic == "alerts":
                self.alerts.append(out.value.decode())

    def finish(self) -> None:
        self.take([])
        for out in self.stage.finish(self.tally):
            if out.topic == "alerts":
                self.alerts.append(out.value.decode())


def records_of(lines: list[tuple[float, str, str]]) -> list[Record]:
    """One record per ten lines of a source, in the order of arrival."""
    open_blocks: dict[str, list[str]] = {}
    made: list[Record] = []
    for _, source, text in lines:
        block = open_blocks.setdefault(source, [])
        block.append(text)
        if len(block) == 10:
            made.append(record(source, block, len(made)))
            open_blocks[source] = []
    for source, block in sorted(open_blocks.items()):
        if block:
            made.append(record(source, block, len(made)))
    return made


def record(source: str, block: list[str], offset: int) -> Record:
    headers = {"tenant": TENANT, "source": source, "framing": "lines"}
    key = TENANT.encode()
    return Record("raw", partition_of(key, 4), offset, key, "\n".join(block).encode(), RECEIVED, headers)


@pytest.fixture(scope="module")
def undisturbed(config: Config, lines: list[tuple[float, str, str]]) -> list[str]:
    run = Run(config)
    run.feed(records_of(lines))
    run.finish()
    assert len({msgspec.json.decode(a)["event"]["id"] for a in run.alerts}) >= 8
    return run.alerts


@pytest.mark.parametrize("seed", range(6))
def test_batch_cuts_and_restarts_change_no_alert(
    config: Config, lines: list[tuple[float, str, str]], undisturbed: list[str], seed: int
) -> None:
    rng = random.Random(seed)
    records = records_of(lines)
    run = Run(config)
    edges = [0, *sorted(rng.sample(range(1, len(records)), rng.randrange(12))), len(records)]
    for start, end in pairwise(edges):
        run.feed(records[start:end])
        if rng.random() < 0.4:
            run.start()
    run.finish()
    assert sorted(run.alerts) == sorted(undisturbed)


def test_every_line_is_an_event_or_a_dead_letter(config: Config) -> None:
    raw, _ = stages(config)
    tally = Tally()
    bodies = [
        "not a firewall line",
        "",
        "x" * 100_000,
        "date=2026-11-03 broken",
        "\x00\x00",
        "ok \udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ]
    outbox, _ = raw.process([record("firewall", bodies, 0)], tally)
    dead = [o for o in outbox if o.topic == "dead"]
    assert tally.lines == len(bodies) == tally.events + len(dead) + tally.blank
    assert all(o.headers["reason"] and o.headers["origin"].startswith("raw:") for o in dead)
    assert "not a firewall line" in {o.value.decode("latin-1") for o in dead}


def test_signals_records_stay_small_whatever_the_lines_hold() -> None:
    line = Evidence(1.0, "fw", "raw", 0, 1, 0, "\ufffd" * 4096)  # what 4096 invalid bytes become: 12 kB
    facts = [Fact("rule", str(n), "", 1, 1, 1.0, 1.0, 1, 0.0, (), (line,) * 3) for n in range(400)]
    outs = list(_signals("town", "raw/0", 99.0, facts, facts))
    found = [msgspec.msgpack.decode(out.value, type=Signals) for out in outs]
    assert max(len(out.value) for out in outs) <= SIGNAL_BYTES_MAX
    big = replace(facts[0], evidence=(replace(line, original="x" * SIGNAL_BYTES_MAX),))
    assert len(list(_signals("town", "raw/0", 99.0, [big], [big]))) == 2
    assert [fact.key for signals in found for fact in signals.facts] == [str(n) for n in range(400)]
    waiting = [fact for s in found for fact in msgspec.msgpack.decode(s.waiting.get(1, b"\x90"), type=list[Fact])]
    assert [fact.key for fact in waiting] == [str(n) for n in range(400)]
    assert [signals.watermark for signals in found] == [0.0] * (len(found) - 1) + [99.0]


def test_an_event_from_the_future_does_not_move_the_watermark(config: Config) -> None:
    raw, _ = stages(config)
    at = RECEIVED + 10 * 86_400
    from shield.demo_logs import _traffic

    line = _traffic(random.Random(1), at, "10.20.1.9", "192.0.2.9", 443, 1, 1, "close")
    raw.process([record("firewall", [line], 0)], Tally())
    assert raw.watermark() == 0.0


def test_a_silent_source_stops_holding_the_watermark_back() -> None:
    clock = TenantClock(sources={})
    clock.advance("a", 100.0, 1000.0, 30.0)
    clock.advance("b", 500.0, 1001.0, 30.0)
    assert clock.watermark == 100.0
    clock.advance("b", 900.0, 1040.0, 30.0)
    assert clock.watermark == 900.0
    clock.advance("a", 120.0, 1041.0, 30.0)  # it speaks again: the watermark does not go back
    assert clock.watermark == 900.0


def test_when_all_are_silent_the_last_minute_closes() -> None:
    clock = TenantClock(sources={})
    clock.advance("a", 100.0, 1000.0, 30.0)
    clock.advance("", 0.0, 1031.0, 30.0)
    assert clock.watermark == 160.0


def test_scan_finds_the_planted_attacks_with_rules_and_the_quiet_one_with_behaviour(tmp_path: Path) -> None:
    from shield.demo import found_by

    truth = write(tmp_path, 5, 6_000, 14, 1_500)
    whole = tmp_path / "whole"
    whole.mkdir()
    for name in FILES.values():
        (whole / name).write_bytes((tmp_path / "history" / name).read_bytes() + (tmp_path / name).read_bytes())
    config = parse(config_text(whole), "test", environment={})
    alerts: dict[str, dict[str, object]] = {}

    def keep(_kind: str, body: bytes) -> None:
        doc = msgspec.json.decode(body)
        alerts[doc["event"]["id"]] = doc

    raw, signals = stages(config, future_s=float("inf"))
    signals.learn_until = DAY.timestamp()
    run = Scan(config, raw, signals, keep)
    run.run(now=RECEIVED, learn_until=DAY.timestamp())
    assert run.tally.lines == 6_000 + 14 * 1_500 == run.tally.events
    missed = [t.attack for t in truth if not found_by(t, list(alerts.values()))]
    assert missed == []
    assert not any(str(a["@timestamp"]) < DAY.isoformat() for a in alerts.values())
    assert len(alerts) <= 12
