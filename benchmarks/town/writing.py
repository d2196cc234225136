"""From parameters to a folder: log files per town and source, `config.yml`, `inventory.yml`, `countries.csv`, `truth.jsonl`."""

import json
import shutil
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import NamedTuple, TextIO

import msgspec
import yaml

from benchmarks import measure
from benchmarks.town import background, episodes, ordinary, places
from benchmarks.town.attacks import CATALOGUE, Technique
from benchmarks.town.other_devices import OtherScribe
from benchmarks.town.people import Town
from benchmarks.town.scene import STEALTH, Scene, Truth
from benchmarks.town.scribe import Line, Scribe

CACHE = measure.ROOT / "build" / "towns"
FORMAT = 4  # of what is written; part of the folder's name
DIALECTS: dict[str, type[Scribe]] = {"a": Scribe, "b": OtherScribe}


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what is written."""

    seed: int = 1
    towns: int = 1
    staff: int = 130
    hosts: int = 360
    days: int = 21
    learning_days: int = 14
    skip_days: int = 0  # of the learning days, so many at the beginning are not written
    attacks: int = 21  # per town, in the days after learning
    learning_attacks: int = 0  # per town, in the learning days; not in the truth
    noise: int = 0  # irregular harmless episodes of each type per town and day
    density: float = 1.0
    stealth: str = "all"
    dialect: str = "a"

    @property
    def name(self) -> str:
        return (
            f"{self.dialect}{self.seed}-{self.towns}x{self.staff}x{self.hosts}-{self.days}d{self.learning_days}s{self.skip_days}-a{self.attacks}+{self.learning_attacks}"
            f"-{self.stealth}-n{self.noise}-x{self.density:g}-v{FORMAT}"
        )


def cached(parameters: Parameters, folder: Path = CACHE, progress: Callable[[int], None] = lambda _: None) -> Path:
    """The folder of these parameters, written if it is not there yet."""
    target = folder / parameters.name
    if not (target / "truth.jsonl").exists():
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        write(partial, parameters, progress)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    return target


def write(folder: Path, parameters: Parameters, progress: Callable[[int], None] = lambda _: None) -> list[Truth]:
    """All towns. Truth is written last. `progress` is told the days done."""
    folder.mkdir(parents=True, exist_ok=True)
    make = DIALECTS[parameters.dialect]
    towns = [
        Town(parameters.seed, n, parameters.staff, parameters.hosts, parameters.days) for n in range(parameters.towns)
    ]
    planned = _planned(parameters, towns)
    planted: dict[str, dict[int, list[Line]]] = {town.name: defaultdict(list) for town in towns}
    truths: list[Truth] = []
    for town, number, name, stealth, day in planned:
        rng = Random(f"attack/{parameters.seed}/{town.number}/{number}/{name}")
        truth, lines = _played(parameters, make(town, rng), f"{town.name}-{number:03}", name, stealth, day, towns)
        if number < parameters.attacks:
            truths.append(truth)
        for at, tenant_source, text in lines:
            tenant, _, source = tenant_source.rpartition("/")
            where = next(t for t in towns if t.name == tenant) if tenant else town
            planted[where.name][_day_of(where, at)].append((at, source, text))
    for town in towns:
        _write_town(folder / town.name, town, parameters, planted[town.name], progress)
    (folder / "config.yml").write_text(configuration(towns, make), encoding="utf-8")
    (folder / "inventory.yml").write_text(inventory(towns), encoding="utf-8")
    (folder / "countries.csv").write_text(places.countries(), encoding="utf-8")
    about = {
        "parameters": msgspec.to_builtins(parameters),
        "live_from": live_from(parameters, towns[0]),
        "hubs": [m.name for t in towns for m in t.servers if m.role in {"dc", "file", "mail", "proxy", "dns"}],
    }
    about["hubs"] += [m.address for t in towns for m in t.servers if m.role in {"dc", "file", "mail", "proxy", "dns"}]
    (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    truths.sort(key=lambda t: (t.tenant, t.first_evidence_s))
    with (folder / "truth.jsonl").open("wb") as file:
        for one in truths:
            file.write(msgspec.json.encode(one) + b"\n")
    return truths


def live_from(parameters: Parameters, town: Town) -> str:
    return datetime.fromtimestamp(town.midnight(parameters.learning_days), UTC).isoformat()


def _planned(parameters: Parameters, towns: Sequence[Town]) -> list[tuple[Town, int, str, str, int]]:
    """Which attack when: a deck of all techniques and degrees, dealt out over the towns so that each comes as often."""
    rng = Random(f"plan/{parameters.seed}")
    degrees = STEALTH if parameters.stealth == "all" else (parameters.stealth,)
    deck: list[tuple[str, str]] = []
    planned = []
    for number in range(parameters.attacks + parameters.learning_attacks):
        begins, ends = parameters.learning_days, parameters.days
        if number >= parameters.attacks:
            begins, ends = 0, parameters.learning_days
        for town in towns:
            if not deck:
                deck = [(name, degree) for name in CATALOGUE for degree in degrees]
                rng.shuffle(deck)
            name, stealth = deck.pop()
            technique = CATALOGUE[name]
            last = max(begins, ends - technique.days[STEALTH.index(stealth)])
            days = [d for d in range(begins, last + 1) if not technique.workday or town.is_workday(d)]
            planned.append((town, number, name, stealth, rng.choice(days or [last])))
    return planned


def _played(
    parameters: Parameters, scribe: Scribe, ident: str, name: str, stealth: str, day: int, towns: list[Town]
) -> tuple[Truth, list[Line]]:
    technique: Technique = CATALOGUE[name]
    scene = Scene(scribe.town, scribe, scribe.rng, day, stealth, [t for t in towns if t is not scribe.town])
    technique.play(scene)
    until = scribe.town.midnight(parameters.days)
    written = [
        *scribe.lines,
        *((at, f"{s.town.name}/{source}", text) for s in scene.abroad for at, source, text in s.lines),
    ]
    lines = sorted(line for line in written if line[0] < until)
    about = scene.about
    return Truth(
        id=ident, tenant=scribe.town.name, name=name, technique=technique.id, stealth=stealth, day=day,
        start_s=lines[0][0], end_s=lines[-1][0], first_evidence_s=lines[0][0], users=sorted(about.users), hosts=sorted(about.hosts),
        addresses=sorted(about.addresses), description=about.description, lines=len(lines),
        evidence=[digest(text) for _, _, text in lines],
    ), lines  # fmt: skip


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _day_of(town: Town, at: float) -> int:
    return max(0, bisect_right(town.midnights, at) - 1)


def _write_town(
    folder: Path, town: Town, parameters: Parameters, planted: dict[int, list[Line]], progress: Callable[[int], None]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    make = DIALECTS[parameters.dialect]
    files: dict[str, TextIO] = {
        source: (folder / f"{source}.log").open("w", encoding="utf-8") for source in make.PARSERS
    }
    carried: list[Line] = []
    troubles = _troubles(town, parameters, planted)
    for day in range(parameters.skip_days, parameters.days):
        scribe = make(town, Random(f"day/{parameters.seed}/{town.number}/{day}"))
        ordinary.write(scribe, day, parameters.density)
        background.write(make_on(scribe, f"background/{parameters.seed}/{town.number}/{day}"), day, parameters.density)
        episodes.usual(make_on(scribe, f"usual/{parameters.seed}/{town.number}/{day}"), day)
        if parameters.noise:
            episodes.irregular(make_on(scribe, f"noise/{parameters.seed}/{town.number}/{day}"), day, parameters.noise)
        lines = [*carried, *scribe.lines, *planted.get(day, ())]
        lines = _delayed(lines, troubles)
        until = town.midnight(day + 1)
        carried = [line for line in lines if line[0] >= until]
        lines = sorted(line for line in lines if line[0] < until)
        for _, source, text in lines:
            files[source].write(text + "\n")
        progress(1)
    for file in files.values():
        file.close()


class Trouble(NamedTuple):
    """A stretch of time in which a source is late (`lag_s`) or says nothing at all (None)."""

    source: str
    begins_s: float
    ends_s: float
    lag_s: float | None


def _troubles(town: Town, parameters: Parameters, planted: dict[int, list[Line]]) -> list[Trouble]:
    """About two a week. Nothing planted is lost: silence only falls where an attack says nothing."""
    rng = Random(f"troubles/{parameters.seed}/{town.number}")
    found = []
    for day in range(parameters.days):
        if rng.random() < 0.3:
            source = rng.choice(("firewall", "windows", "dns", "proxy", "web", "auth"))
            begins = town.at(day, rng.uniform(0, 18))
            ends = begins + rng.uniform(1, 6) * 3600
            late = rng.random() < 0.5
            if late or not any(s == source and begins <= at < ends for at, s, _ in planted.get(day, ())):
                found.append(Trouble(source, begins, ends, rng.uniform(300, 2400) if late else None))
    return found


def _delayed(lines: list[Line], troubles: Sequence[Trouble]) -> list[Line]:
    """Lines at the time at which they arrive."""
    for trouble in troubles:
        kept = []
        for at, source, text in lines:
            arrives = at
            if source == trouble.source and trouble.begins_s <= at < trouble.ends_s:
                if trouble.lag_s is None:
                    continue
                arrives = max(at, min(at + trouble.lag_s, trouble.ends_s + 1))
            kept.append((arrives, source, text))
        lines = kept
    return lines


def make_on(scribe: Scribe, seed: str) -> Scribe:
    """The same scribe with randomness of its own, so that adding episodes changes nothing else."""
    scribe.rng = Random(seed)
    return scribe


def configuration(towns: Sequence[Town], make: type[Scribe]) -> str:
    rows = ["inventory: inventory.yml", "sources:"]
    for town in towns:
        for source, parser in make.PARSERS.items():
            rows.append(
                f"  - {{use: file, mode: replay, tenant: {town.name}, source: {source}, parser: {parser}, timezone: Europe/Berlin, year: {town.begin.year}, path: {town.name}/{source}.log}}"
            )
    return "\n".join(rows) + "\n"


def inventory(towns: Sequence[Town]) -> str:
    """What the operators know of their networks and names."""
    services = sorted({town.service_style.format("*") for town in towns})
    servers = sorted({machine.name for town in towns for machine in town.servers})
    return yaml.safe_dump(
        {
            "server_networks": [f"{town.prefix}.1.0/24" for town in towns],
            "networks": [{"network": f"{town.prefix}.90.0/23", "name": f"VPN {town.name}"} for town in towns],
            "scanners": [m.address for town in towns for m in town.roles("scan", "monitor")],
            "accounts": {
                "service": services,
                "admin": sorted({town.admin_style.format("*") for town in towns} | {"root"}),
            },
            "hosts": {"server": servers},
            "holidays": "DE-NW",
            "geo": "countries.csv",
        },
        sort_keys=False,
    )
