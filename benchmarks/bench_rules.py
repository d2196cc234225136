"""The rule engine alone, on all public Sigma rules: from raw Windows lines to matches, beside a loop over every rule.

Two corpora of recorded attacks with their background: *mix* is all of it, shuffled; *pc* is its process creations with
command lines made unique, the worst case. The public rules and recordings stand beside the repository, not in it.
"""

import argparse
import gc
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks import measure
from connectors.events import Event
from connectors.parse import Reader
from detectors.sigma import Rule, RuleSet
from detectors.sigma.generate import checker
from detectors.sigma.logsource import sources
from detectors.sigma.tree import Const, simplify

DATA = measure.ROOT.parent / "shared" / "data"
RULES = [DATA / "sigma" / name for name in ("rules", "rules-emerging-threats", "rules-threat-hunting")]
RECORDINGS = DATA / "otrf-security-datasets" / "datasets"
Kind = tuple[str, str | None, tuple[str, ...]]  # what decides which rules apply
CACHE = measure.RESULTS / "rules-cache"
COUNTS = (10, 100, 1000, 0)  # 0 for all
EVENTS = {"mix": 40_000, "pc": 10_000}
NAIVE_PER_BATCH = {"mix": 100, "pc": 50}  # of these events every rule is run
WARM_EVENTS = {"mix": 20_000, "pc": 10_000}  # before the clock: tables are built and the rarest texts chosen
BATCH_LINES = 1_000
SOAK_EVENTS = 1_000_000
RECEIVED = 1_793_491_200.0
HOSTILE_CHARS = 32_768
SEED = 1

_COMMAND_LINE = re.compile(rb'"CommandLine":\s*"')


def recorded() -> Iterator[bytes]:
    for path in sorted(RECORDINGS.rglob("*")):
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith(".json"):
                        with archive.open(name) as lines:
                            yield from (line.rstrip(b"\n") for line in lines if line.strip())


def is_process(line: bytes) -> bool:
    return (b'"EventID":1,' in line and b"Sysmon" in line) or b'"EventID":4688' in line


@cache
def corpus(name: str) -> list[bytes]:
    rng = random.Random(SEED)
    if name == "mix":
        lines = list(recorded())
        rng.shuffle(lines)
        return lines[: WARM_EVENTS["mix"] + EVENTS["mix"]]
    lines = [line for line in recorded() if is_process(line)]
    return [unique(lines[n % len(lines)], rng) for n in range(WARM_EVENTS["pc"] + EVENTS["pc"])]


def unique(line: bytes, rng: random.Random) -> bytes:
    return _COMMAND_LINE.sub(lambda found: found[0] + b"%08x " % rng.getrandbits(32), line)


def reader() -> Reader:
    return Reader("windows", "t", "s")


def batches(lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(lines), BATCH_LINES):
        yield lines[start : start + BATCH_LINES]


class Loop:
    """Every rule of an event's log source by itself, one after the other."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._checks: dict[str, Callable[[Event], bool]] = {}
        self._kinds: dict[Kind, list[tuple[str, Callable[[Event], bool]]]] = {}

    def is_new(self, event: Event) -> bool:
        return (event.event_dataset, event.event_code, event.event_category) not in self._kinds

    def matches(self, event: Event) -> list[str]:
        kind = (event.event_dataset, event.event_code, event.event_category)
        applying = self._kinds.get(kind)
        if applying is None:
            applying = self._kinds[kind] = self._applying(kind)
        return [identity for identity, check in applying if check(event)]

    def _applying(self, kind: Kind) -> list[tuple[str, Callable[[Event], bool]]]:
        told = sources(*kind)
        found = []
        for rule in self._rules:
            if rule.condition is None or not told.match(rule.product, rule.category, rule.service):
                continue
            node = simplify(rule.condition, kind[1])
            if node != Const(value=False):
                found.append((rule.id, self._checks.setdefault(f"{rule.id}{kind[1]}", checker(node))))
        return found


def lane(name: str, rules: Sequence[Rule]) -> dict[str, Any]:
    """Index and loop over the same fresh events, by turns: what disturbs one disturbs the other as well."""
    engine, loop = RuleSet(rules), Loop(rules)
    lines = corpus(name)
    warm, lines = lines[: WARM_EVENTS[name]], lines[WARM_EVENTS[name] :]
    read, again = reader(), reader()
    begun = time.process_time()
    for batch in batches(warm):
        for event in read.read(batch, RECEIVED).events:
            engine.matches(event)
    warm_s = time.process_time() - begun
    for event in again.read(warm, RECEIVED).events:
        if loop.is_new(event):
            loop.matches(event)
    gc.collect()
    gc.freeze()
    parse_s = match_s = naive_s = 0.0
    events = matches = looped = 0
    same = True
    for batch in batches(lines):
        begun = time.process_time()
        parsed = read.read(batch, RECEIVED).events
        parse_s += (now := time.process_time()) - begun
        found = [engine.matches(event) for event in parsed]
        match_s += time.process_time() - now
        events += len(parsed)
        matches += sum(map(len, found))
        few = again.read(batch[: NAIVE_PER_BATCH[name]], RECEIVED).events
        begun = time.process_time()
        wanted = [loop.matches(event) for event in few]
        naive_s += time.process_time() - begun
        looped += len(few)
        same = same and found[: len(few)] == wanted
    gc.unfreeze()
    parse_us, match_us, naive_us = 1e6 * parse_s / events, 1e6 * match_s / events, 1e6 * naive_s / looped
    return {
        "lane": name,
        "rules": len(rules),
        "events": events,
        "matches": matches,
        "warm-up s": warm_s,
        "parse us": parse_us,
        "match us": match_us,
        "naive us": naive_us,
        "times naive": naive_us / match_us,
        "match events/s": 1e6 / match_us,
        "lines to matches/s": 1e6 / (parse_us + match_us),
        "compared": looped,
        "same as naive": same,
    }


def hostile(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """Command lines as long as Windows allows, per byte beside an ordinary one."""
    engine = RuleSet(rules)
    line = corpus("pc")[0]
    (model,) = reader().read([line], RECEIVED).events
    for event in reader().read(corpus("pc")[: WARM_EVENTS["pc"]], RECEIVED).events:
        engine.matches(event)
    words = " ".join(f"C:\\Programme\\Amt\\fach{n}.exe /datei:{n}" for n in range(HOSTILE_CHARS))
    texts = {
        "ordinary": words,
        "one letter": "a" * HOSTILE_CHARS,
        "backquotes": "`a" * HOSTILE_CHARS,
        "a tool over and over": "powershell.exe -enc " * HOSTILE_CHARS,
        "newlines": "\n" * HOSTILE_CHARS,
        "lone surrogates": "\ud800" * HOSTILE_CHARS,
        "beyond the first plane": "\U0001f600" * HOSTILE_CHARS,
        "letters that grow": "\u0130" * HOSTILE_CHARS,
    }
    rows: list[dict[str, Any]] = []
    for name, text in texts.items():
        cut = text[:HOSTILE_CHARS]
        events = [with_command_line(model, f"{n} {cut}") for n in range(20)]
        engine.matches(events[0])
        seconds = min(measure.cpu_of(partial(_match_all, engine, events)) for _ in range(3))
        per_byte = 1e9 * seconds / (len(events) * len(cut.encode("utf-8", "surrogatepass")))
        rows.append({"value": name, "ns/byte": per_byte, "of ordinary": per_byte / rows[0]["ns/byte"] if rows else 1.0})
    return rows


def _match_all(engine: RuleSet, events: Sequence[Event]) -> None:
    for event in events:
        engine.matches(event)


def with_command_line(model: Event, text: str) -> Event:
    fields = {**model.fields, "CommandLine": text}
    return Event(
        model.timestamp,
        model.event_module,
        model.event_dataset,
        event_category=model.event_category,
        event_code=model.event_code,
        fields=fields,
    )


def loading() -> list[dict[str, Any]]:
    """Start with and without what was understood before, and after a change of one rule; CPU seconds."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for held in CACHE.iterdir():
        held.unlink()
    rows = []
    for name, folder in (("cold", None), ("cold, kept", CACHE), ("warm", CACHE)):
        begun, wall = time.process_time(), time.perf_counter()
        rules = RuleSet.load(RULES, strict=False, cache=folder)
        rows.append(
            {
                "start": name,
                "rules": len(rules.rules),
                "faults": len(rules.faults),
                "always run": len(rules.unindexed()),
                "CPU s": time.process_time() - begun,
                "wall s": time.perf_counter() - wall,
            }
        )
    return rows


def rsigma(name: str) -> list[dict[str, Any]]:
    """The Rust engine on the same lines where it is installed: its CPU net of its start, from lines to matches."""
    program = shutil.which("rsigma")
    if program is None:
        return []
    lines = corpus(name)[WARM_EVENTS[name] :]
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder, "rules")
        rules.mkdir()
        for path in RULES:
            (rules / path.name).symlink_to(path)
        for count in (1, len(lines)):
            events = Path(folder, f"{count}.ndjson")
            events.write_bytes(b"\n".join(lines[:count]) + b"\n")
            options = ["-p", "sysmon", "--logsource-routing", "--event-logsource", "product=windows"]
            command = [program, "engine", "eval", "-r", str(rules), *options, "-e", f"@{events}"]
            used = measure.finished(command, Path(folder, "log"))
            seconds.append(used["cpu_s"])
    each_us = 1e6 * (seconds[1] - seconds[0]) / len(lines)
    return [{"lane": name, "engine": "rsigma", "start s": seconds[0], "us": each_us, "events/s": 1e6 / each_us}]


def soak(count: int) -> None:
    """Many events with ever new values through one engine, then its memory; runs in a process of its own."""
    engine = RuleSet.load(RULES, strict=False, cache=CACHE)
    rng = random.Random(SEED)
    read = reader()
    events = matches = 0
    peaks = []
    batch: list[bytes] = []
    while events < count:
        for line in recorded():
            batch.append(unique(line, rng))
            if len(batch) == BATCH_LINES:
                parsed = read.read(batch, RECEIVED).events
                matches += sum(len(engine.matches(event)) for event in parsed)
                if events // (count // 4) != (events + len(parsed)) // (count // 4):
                    peaks.append(resident_mb())
                events += len(parsed)
                batch.clear()
                if events >= count:
                    break
    print(f"{events} events, {matches} matches, resident MB at each quarter: {[round(peak) for peak in peaks]}")


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def draw(rows: Sequence[measure.Row]) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in EVENTS:
        of_lane = [row for row in rows if row["lane"] == name]
        counts = [row["rules"] for row in of_lane]
        axes.plot(counts, [row["match us"] for row in of_lane], marker="o", label=f"{name}: index")
        axes.plot(counts, [row["naive us"] for row in of_lane], marker="o", linestyle="--", label=f"{name}: every rule")
    axes.set(xscale="log", yscale="log", xlabel="rules", ylabel="microseconds per event")
    axes.legend()
    path = measure.RESULTS / "rules.png"
    figure.savefig(path, dpi=120)
    return path


def run(soak_events: int = SOAK_EVENTS) -> None:
    if not RECORDINGS.is_dir() or not RULES[0].is_dir():
        print(f"rules: left out, the public rules and recordings are not in {DATA}")
        return
    measure.write("rules_start", loading())
    everything = [rule for rule in RuleSet.load(RULES, strict=False, cache=CACHE).rules.values() if rule.condition]
    rng = random.Random(SEED)
    subsets = [rng.sample(everything, count) if count else everything for count in COUNTS]
    rows = [lane(name, rules) for name in EVENTS for rules in subsets]
    measure.write("rules", rows, plot=str(draw(rows).relative_to(measure.ROOT)))
    if found := [row for name in EVENTS for row in rsigma(name)]:
        measure.write("rules_peers", found)
    measure.write("rules_hostile", hostile(everything))
    if soak_events:
        log = measure.RESULTS / "rules_soak.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.bench_rules", "--soak-only", str(soak_events)]
        used = measure.finished(command, log)
        measure.write("rules_soak", [{"events": soak_events, **used}], told=log.read_text().strip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak-events", type=int, default=SOAK_EVENTS, help="events of the memory run, 0 for none")
    parser.add_argument("--soak-only", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.soak_only:
        soak(given.soak_only)
    else:
        run(given.soak_events)
