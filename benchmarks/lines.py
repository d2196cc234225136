"""The lines of the benchmarks: a large town from a seed, firewall-heavy and dense, with a known number of planted attacks."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from shield import demo_logs
from shield.demo_logs import FILES, PARSERS, TENANT

ZONE = "Etc/GMT-1"  # the generator's devices write UTC+1 all year
SHARES = {"firewall": 0.80, "auth": 0.06, "windows": 0.08, "web": 0.06}
MAKERS = {
    "firewall": demo_logs._firewall,  # noqa: SLF001 - one line of each kind; the generator's day is too thin for a load
    "auth": demo_logs._auth,  # noqa: SLF001 - see above
    "windows": demo_logs._windows,  # noqa: SLF001 - see above
    "web": demo_logs._web,  # noqa: SLF001 - see above
}
NETWORKS = range(1, 41)  # 10.20.1 to 10.20.40, 50 workstations each
ATTACK_EVERY = 2_000  # lines between two planted attacks
RECORD_LINES = 500  # as the ingest role writes them from a file
OFFICE = r"C:\Program Files\Microsoft Office\root\Office16\WINWORD.EXE"
SHELL = r"C:\Windows\System32\cmd.exe"


class Line(NamedTuple):
    time: float
    source: str
    text: str


def town(count: int, begin: float, per_second: float, *, seed: int = 1, attack_every: int = ATTACK_EVERY) -> list[Line]:
    """`count` lines in the order of their times, from `begin` (seconds since the epoch) on."""
    rng = Random(seed)
    sources, weights = list(SHARES), list(SHARES.values())
    chosen = rng.choices(sources, weights, k=count)
    lines: list[Line] = []
    for number, source in enumerate(chosen):
        at = begin + number / per_second
        if number % attack_every == attack_every - 1:
            lines.append(attack(rng, at, number // attack_every))
            continue
        text = MAKERS[source](rng, at)
        network = rng.choice(NETWORKS)
        lines.append(Line(at, source, text.replace("10.20.1.", f"10.20.{network}.").replace("ws-0", f"ws-{network}")))
    return lines


def attack(rng: Random, at: float, number: int) -> Line:
    """Word starts a shell, on a workstation of its own: a rule of level high, one alert each."""
    host = f"ws-x{number:05d}"
    return Line(at, "windows", demo_logs._process(rng, at, host, "h.klein", SHELL, "cmd /c whoami", OFFICE))  # noqa: SLF001 - see above


def write_files(lines: Sequence[Line], folder: Path) -> dict[str, Path]:
    """One file per source."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[str]] = {source: [] for source in SHARES}
    for line in lines:
        parts[line.source].append(line.text)
    paths = {source: folder / FILES[source] for source in SHARES}
    for source, texts in parts.items():
        paths[source].write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return paths


class Raw(NamedTuple):
    """What becomes one record of the raw topic."""

    source: str
    time: float
    lines: list[bytes]


def raw_records(lines: Sequence[Line], record_lines: int = RECORD_LINES) -> list[Raw]:
    """As if each line had been received when it happened; lines of a source are joined in their order."""
    waiting: dict[str, list[bytes]] = {source: [] for source in SHARES}
    found: list[Raw] = []
    last: dict[str, float] = {}
    for line in lines:
        held = waiting[line.source]
        held.append(line.text.encode())
        last[line.source] = line.time
        if len(held) >= record_lines * SHARES[line.source]:  # so that all sources advance together
            found.append(Raw(line.source, line.time, held))
            waiting[line.source] = []
    found += [Raw(source, last[source], held) for source, held in waiting.items() if held]
    return found


def source_config(source: str, year: int, options: str) -> str:
    """One entry of `sources:`."""
    return f"  - {{tenant: {TENANT}, source: {source}, parser: {PARSERS[source]}, timezone: {ZONE}, year: {year}, {options}}}"
