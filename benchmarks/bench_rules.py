"""The rule engine alone, on all public Sigma rules: from raw Windows lines to matches, beside a loop over every rule.

Two corpora of recorded attacks with their background: *mix* is all of it, shuffled; *pc* is its process creations with
command lines made unique, the worst case. The public rules and recordings stand beside the repository, not in it.
"""

import argparse
import gc
import importlib
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache, partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import measure
from connectors.events import Event
from connectors.parse import Reader
from detectors.sigma import Rule, RuleSet, scan, values
from detectors.sigma.generate import checker
from detectors.sigma.logsource import sources
from detectors.sigma.native import Lines
from shield.rule_matching import Forms

DATA = measure.ROOT.parent / "shared" / "data"
RULES = [DATA / "sigma" / name for name in ("rules", "rules-emerging-threats", "rules-threat-hunting")]
RECORDINGS = DATA / "otrf-security-datasets" / "datasets"
Kind = tuple[str, str | None, tuple[str, ...]]  # what decides which rules apply
CACHE = measure.RESULTS / "rules-cache"
COUNTS = (10, 100, 1000, 0)  # 0 for all
EVENTS = {"mix": 40_000, "pc": 10_000}
NAIVE_PER_BATCH = {"mix": 50, "pc": 25}  # of these events every rule is run
WARM_EVENTS = {"mix": 20_000, "pc": 10_000}  # before the clock: tables are built and the rarest texts chosen
BATCH_LINES = 1_000
SQLITE_EVENTS = 500
MARK = "BenchmarkLine"  # a field that no rule reads
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


def whole(lines: Sequence[bytes]) -> list[Sequence[Event]]:
    """The events of each line as the pipeline's parser makes them."""
    return Forms(RECEIVED).read(lines)


class Loop:
    """Every rule that an event's log source admits, one after the other, each as plain generated Python.

    Nothing is remembered from one rule or event to the next, no text is looked for before an expression is run, and no
    rule is left out because its event id cannot be met: the functions of the engine without its short cuts.
    """

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
            if rule.id not in self._checks:
                self._checks[rule.id] = plain(checker(rule.condition))
            found.append((rule.id, self._checks[rule.id]))
        return found


def plain(check: Callable[[Event], bool]) -> Callable[[Event], bool]:
    """A generated function with everything that remembers replaced by what does not."""
    bound = check.__globals__
    for name, value in bound.items():
        if isinstance(value, values.Search):
            bound[name] = PlainSearch(value)
        elif isinstance(value, scan.AnyOf):
            bound[name] = PlainAnyOf(value)
        elif isinstance(value, values.Within):
            bound[name] = PlainWithin(value)
    bound["lowered"] = str.lower
    return check


class PlainSearch:
    def __init__(self, wanted: values.Search) -> None:
        self._search = wanted._search  # noqa: SLF001 -- what it does when it remembers nothing
        self._ends = wanted._ends  # noqa: SLF001 -- see above

    def found(self, value: str | values.Many) -> bool:
        if isinstance(value, values.Many):
            return any(map(self.found, value.texts))
        if value is values.ABSENT:
            return False
        text = value.encode("utf-8", "replace")
        return self._search(text) is not None or (
            self._ends and text.endswith(b"\n") and self._search(text[:-1]) is not None
        )


class PlainAnyOf:
    def __init__(self, wanted: scan.AnyOf) -> None:
        self._texts = wanted._scanner._texts  # noqa: SLF001 -- see above

    def found(self, value: str) -> bool:
        return any(text in value for text in self._texts)


class PlainWithin:
    def __init__(self, wanted: values.Within) -> None:
        self._network = wanted._network  # noqa: SLF001 -- see above

    def found(self, value: str | values.Many) -> bool:
        if isinstance(value, values.Many):
            return any(map(self.found, value.texts))
        try:
            return ip_address(value) in self._network
        except ValueError:
            return False


def lane(name: str, rules: Sequence[Rule]) -> dict[str, Any]:
    """Lines to matches by index and by loop, by turns: what disturbs one disturbs the other as well.

    Both read the lines in the same short way; beside it stands what the pipeline's own parser would take for them.
    """
    engine, loop = RuleSet(rules), Loop(rules)
    lines = corpus(name)
    warm, lines = lines[: WARM_EVENTS[name]], lines[WARM_EVENTS[name] :]
    ours, again = Lines(rules, whole), Lines(rules, whole)
    begun = time.process_time()
    for _ in found_in(ours, engine.matches, warm):
        pass
    warm_s = time.process_time() - begun
    for events in again.read(warm):
        for event in events:
            if loop.is_new(event):
                loop.matches(event)
    gc.collect()
    gc.freeze()
    took = dict.fromkeys(("read", "match", "naive", "parse"), 0.0)
    matches = looped = 0
    same = True
    for batch in batches(lines):
        begun = time.process_time()
        for _ in ours.read(batch):
            pass
        took["read"] += time.process_time() - begun
        begun = time.process_time()
        found = list(found_in(ours, engine.matches, batch))
        took["match"] += time.process_time() - begun
        matches += sum(map(len, found))
        few = batch[: NAIVE_PER_BATCH[name]]
        begun = time.process_time()
        wanted = list(found_in(again, loop.matches, few))
        took["naive"] += time.process_time() - begun
        begun = time.process_time()
        parsed = whole(few)
        took["parse"] += time.process_time() - begun
        looped += len(few)
        same = same and found[: len(few)] == wanted == [all_hits(loop, events) for events in parsed]
    gc.unfreeze()
    us, naive_us = 1e6 * took["match"] / len(lines), 1e6 * took["naive"] / looped
    return {
        "lane": name,
        "rules": len(rules),
        "lines": len(lines),
        "matches": matches,
        "warm-up s": warm_s,
        "reading us": 1e6 * took["read"] / len(lines),
        "us": us,
        "naive us": naive_us,
        "times naive": naive_us / us,
        "lines/s": 1e6 / us,
        "whole event us": 1e6 * took["parse"] / looped,
        "compared": looped,
        "same as naive": same,
    }


def found_in(lines: Lines, matches: Callable[[Event], list[str]], batch: Sequence[bytes]) -> Iterator[list[str]]:
    """The matches of each line."""
    for events in lines.read(batch):
        yield matches(events[0]) if len(events) == 1 else [rule for event in events for rule in matches(event)]


def all_hits(loop: Loop, events: Sequence[Event]) -> list[str]:
    return [rule for event in events for rule in loop.matches(event)]


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
    gc.collect()
    gc.freeze()  # as the detect role does
    gc.disable()
    for name, text in texts.items():
        cut = text[:HOSTILE_CHARS]
        events = [with_command_line(model, f"{n} {cut}") for n in range(20)]
        engine.matches(events[0])
        seconds = min(measure.cpu_of(partial(_match_all, engine, events)) for _ in range(3))
        per_byte = 1e9 * seconds / (len(events) * len(cut.encode("utf-8", "surrogatepass")))
        rows.append({"value": name, "ns/byte": per_byte, "of ordinary": per_byte / rows[0]["ns/byte"] if rows else 1.0})
    gc.enable()
    gc.unfreeze()
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


RSIGMA_OPTIONS = ("-p", "sysmon", "--logsource-routing", "--event-logsource", "product=windows")


@contextmanager
def linked_rules() -> Iterator[Path]:
    """A folder with all rules, for programs that take one."""
    with tempfile.TemporaryDirectory() as folder:
        for path in RULES:
            Path(folder, path.name).symlink_to(path)
        yield Path(folder)


def rsigma(name: str, program: str) -> dict[str, Any]:
    """The Rust engine on the same lines: its CPU net of its start, from lines to matches."""
    lines = corpus(name)[WARM_EVENTS[name] :]
    seconds = []
    with linked_rules() as rules, tempfile.TemporaryDirectory() as folder:
        for count in (1, len(lines)):
            events = Path(folder, f"{count}.ndjson")
            events.write_bytes(b"\n".join(lines[:count]) + b"\n")
            command = [program, "engine", "eval", "-r", str(rules), *RSIGMA_OPTIONS, "-e", f"@{events}"]
            seconds.append(measure.finished(command, Path(folder, "log"))["cpu_s"])
    us = 1e6 * (seconds[1] - seconds[0]) / len(lines)
    return {"lane": name, "engine": "rsigma", "start s": seconds[0], "us": us, "lines/s": 1e6 / us}


def differing(name: str, program: str) -> list[dict[str, Any]]:
    """(line, rule) pairs of `shield rules match` beside those of rsigma, the different ones by what their lines are."""
    lines = [
        b'{"%s":%d,%s' % (MARK.encode(), number, line[1:])
        for number, line in enumerate(corpus(name)[WARM_EVENTS[name] :])
        if line[:1] == b"{"
    ]
    with linked_rules() as rules, tempfile.TemporaryDirectory() as folder:
        events = Path(folder, "events.ndjson")
        events.write_bytes(b"\n".join(lines) + b"\n")
        command = measure.shield("rules", "match", *map(str, RULES), "--events", str(events))
        ours = {(found["event"], found["rule"]) for found in _answers(command)}
        command = [program, "engine", "eval", "-r", str(rules), *RSIGMA_OPTIONS, "--include-event", "-e", f"@{events}"]
        theirs = {(found["event"][MARK], found["rule_id"]) for found in _answers(command) if MARK in found["event"]}
    numbers = {msgspec.json.decode(line[: line.index(b",")] + b"}")[MARK]: n for n, line in enumerate(lines)}
    theirs = {(numbers[mark], rule) for mark, rule in theirs}
    apart: dict[tuple[str, str], list[str]] = {}
    for found, who in ((ours - theirs, "ours"), (theirs - ours, "rsigma")):
        for number, rule in found:
            try:
                body = msgspec.json.decode(lines[number])
            except ValueError:
                body = {}
            apart.setdefault((who, f"{body.get('Channel')} {body.get('EventID')}"), []).append(rule)
    rows: list[dict[str, Any]] = [{"lane": name, "only": "neither", "lines": "all", "pairs": len(ours & theirs)}]
    for (who, kind), ids in sorted(apart.items(), key=lambda item: -len(item[1])):
        often = ", ".join(f"{rule[:8]} {count}" for rule, count in Counter(ids).most_common(3))
        rows.append({"lane": name, "only": who, "lines": kind, "pairs": len(ids), "rules": often})
    return rows


def _answers(command: Sequence[str]) -> list[Any]:
    done = subprocess.run(command, check=False, capture_output=True, cwd=measure.ROOT)
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]!r}")
    return [msgspec.json.decode(line) for line in done.stdout.splitlines() if line[:1] == b"{"]


def sqlite(rules: Sequence[Rule]) -> dict[str, Any] | None:
    """One SELECT per rule over process creations in memory, as pySigma's SQLite backend writes them; None without it."""
    try:
        backend = importlib.import_module("sigma.backends.sqlite").sqliteBackend()
    except ImportError:
        return None
    from sigma.collection import SigmaCollection
    from sigma.exceptions import SigmaError

    applying = [rule for rule in rules if rule.product == "windows" and rule.category == "process_creation"]
    queries = []
    for rule in applying:
        try:
            queries += backend.convert(SigmaCollection.from_yaml(Path(rule.path).read_text(encoding="utf-8")))
        except (SigmaError, NotImplementedError):
            continue
    bodies = [msgspec.json.decode(line) for line in corpus("pc")[WARM_EVENTS["pc"] :][:SQLITE_EVENTS]]
    names: dict[str, str] = {}  # SQLite's names of columns know no case
    for name in [*(name for body in bodies for name in body), *(name for rule in applying for name in rule.fields)]:
        names.setdefault(name.lower(), name)
    columns = ", ".join(f'"{name}" TEXT COLLATE NOCASE' for name in names.values())
    with closing(sqlite3.connect(":memory:")) as base:
        base.create_function("regexp", 2, lambda regex, text: text is not None and bool(re.search(regex, str(text))))
        begun = time.process_time()
        base.execute(f"CREATE TABLE logs ({columns})")
        wanted = f"INSERT INTO logs VALUES ({', '.join('?' * len(names))})"
        for body in bodies:
            low = {name.lower(): value if isinstance(value, str | int) else str(value) for name, value in body.items()}
            base.execute(wanted, [low.get(name) for name in names])
        matches = failed = 0
        for query in queries:
            try:
                matches += len(base.execute(query.replace("<TABLE_NAME>", "logs")).fetchall())
            except (sqlite3.Error, re.error):
                failed += 1
        us = 1e6 * (time.process_time() - begun) / len(bodies)
    engine = f"SQLite backend, {len(queries) - failed} of {len(applying)} rules, {matches} matches"
    return {"lane": "pc", "engine": engine, "us": us, "lines/s": 1e6 / us}


def soak(count: int) -> None:
    """Many events with ever new values through one engine, then its memory; runs in a process of its own."""
    engine = RuleSet.load(RULES, strict=False, cache=CACHE)
    rng = random.Random(SEED)
    lines = Lines(engine.rules.values(), whole)
    events = matches = 0
    peaks = []
    while events < count:
        for line in recorded():
            matches += sum(map(len, found_in(lines, engine.matches, [unique(line, rng)])))
            events += 1
            if events % (count // 4) == 0:
                peaks.append(resident_mb())
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
        axes.plot(counts, [row["us"] for row in of_lane], marker="o", label=f"{name}: index")
        axes.plot(counts, [row["naive us"] for row in of_lane], marker="o", linestyle="--", label=f"{name}: every rule")
    axes.set(xscale="log", yscale="log", xlabel="rules", ylabel="microseconds per event")
    axes.legend()
    path = measure.RESULTS / "rules.png"
    figure.savefig(path, dpi=120)
    return path


def compare(ours: Sequence[measure.Row], rules: Sequence[Rule]) -> None:
    """Other engines on the same lines, each where it is installed."""
    found: list[dict[str, Any]] = []
    us = {row["lane"]: row["us"] for row in ours}
    if program := shutil.which("rsigma"):
        found += [rsigma(name, program) for name in EVENTS]
        measure.write("rules_differences", [row for name in EVENTS for row in differing(name, program)])
    else:
        print("rules: rsigma is not installed, its lane is left out")
    if (row := sqlite(rules)) is not None:
        found.append(row)
    else:
        print("rules: pysigma-backend-sqlite is not installed, its lane is left out")
    if found:
        measure.write("rules_peers", [{**row, "times ours": row["us"] / us[row["lane"]]} for row in found])


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
    compare(rows[len(COUNTS) - 1 :: len(COUNTS)], everything)
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
