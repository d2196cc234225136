"""How well attacks are found: simulated towns through `shield scan`, scored by alerts per tenant and day.

Parameters are chosen on seeds 1-3 and reported on 11-13. Tables on standard output, JSON, CSV and a plot in build/bench.
With --record each scan is made once and kept; families, steps and alert settings are then compared in seconds.
Example: python -m benchmarks.bench_detection --seeds 11 12 13 --towns 3 --noise 0 2 8
Example: python -m benchmarks.bench_detection --record --ablate all --steps --compare alerts.budget_per_day=2
"""

import argparse
import csv
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks import measure
from benchmarks.town import recording, scoring
from benchmarks.town.recording import CALIBRATION, STEPS, Rated, Recording, Without
from benchmarks.town.scene import STEALTH, Truth
from benchmarks.town.scoring import TOPS, Result
from benchmarks.town.writing import CACHE, DIALECTS, Parameters, cached
from shield import config as configs
from shield import roles
from shield.config import Config

TUNED = (1, 2, 3)
FULL = "all"
MEANS = ("alerts per tenant-day", *(f"precision@{top}" for top in TOPS), "unreadable", "cpu_s", "peak_mb")
PROFILES, RULES = measure.ROOT / "rules" / "profiles", measure.ROOT / "rules" / "sigma"


@dataclass(frozen=True)
class Variant:
    """One way of running the pipeline over the same logs."""

    name: str
    without_families: tuple[str, ...] = ()
    without_sources: tuple[str, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()  # dotted keys of the configuration
    inventory: bool = True
    step: str = ""  # of scoring or calibration that is left out; only from a recording

    def from_recording(self) -> bool:
        """Whether what detectors said can be had from the recording of the full pipeline."""
        return not self.without_sources and all(key.startswith("alerts.") for key, _ in self.settings)


class Recorder:
    """The scans of one run, each made once; the rates of the newest are kept at hand."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._held: dict[tuple[str, Without, int], Rated] = {}
        self._newest: tuple[str, Recording] | None = None

    def run(self, parameters: Parameters, variant: Variant) -> tuple[list[Result], dict[str, Any]]:
        """The same as `run`, from the recording."""
        folder = cached(parameters, self._cache)
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            plain, changed = Path(scratch) / "plain.yml", Path(scratch) / "config.yml"
            bare = Variant(FULL, inventory=variant.inventory)
            plain.write_text(yaml.safe_dump(_configured(folder, bare, Path(scratch))), encoding="utf-8")
            named = Variant(FULL, settings=variant.settings, inventory=variant.inventory)
            changed.write_text(yaml.safe_dump(_configured(folder, named, Path(scratch))), encoding="utf-8")
            config = configs.load(changed)
            kept = self._recording(folder, configs.load(plain), inventory=variant.inventory)
        without: Without = next((step for step in CALIBRATION if step == variant.step), "")
        place = (folder.name, without, config.alerts.hub_links_max)
        if place not in self._held:
            self._held = {p: one for p, one in self._held.items() if p[0] == folder.name}
            self._held[place] = recording.rated(kept, config, without)
        changes = msgspec.structs.replace(
            STEPS.get(variant.step, recording.Variant()), without_families=frozenset(variant.without_families)
        )
        begun = time.perf_counter()
        revisions = recording.replayed(self._held[place], config, roles.load_rules(config).rules, changes)
        results, summary = _scored(folder, revisions)
        return results, summary | kept.counts | {"wall_s": time.perf_counter() - begun}

    def _recording(self, folder: Path, config: Config, *, inventory: bool) -> Recording:
        name = folder.name + ("" if inventory else "-bare")
        if self._newest is not None and self._newest[0] == name:
            return self._newest[1]
        path = self._cache / "recordings" / f"{name}.msgpack"
        if path.exists():
            found = msgspec.msgpack.decode(path.read_bytes(), type=Recording)
        else:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            found = recording.record(config, configs.instant(about["live_from"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(msgspec.msgpack.encode(found))
        self._newest = (name, found)
        return found


def families() -> dict[str, str]:
    """Each bundled profile's id and family."""
    found = {}
    for path in sorted(PROFILES.glob("*.yml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document:
                found[document["id"]] = document["family"]
    return found


def run(
    parameters: Parameters, variant: Variant, cache: Path, keep: Path | None = None
) -> tuple[list[Result], dict[str, Any]]:
    """One scan of the towns of one seed, scored."""
    folder = cached(parameters, cache)
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        place = Path(scratch)
        config = place / "config.yml"
        config.write_text(yaml.safe_dump(_configured(folder, variant, place)), encoding="utf-8")
        alerts = place / "alerts.ndjson"
        command = measure.shield(
            "scan", str(config), "--learn-until", about["live_from"], "--json", "--alerts", str(alerts)
        )
        used = measure.finished(command, place / "scan.log")
        log = (place / "scan.log").read_text(encoding="utf-8")
        if not log.rstrip().endswith("}"):
            raise RuntimeError(f"`shield scan` failed: {log[-2000:]}")
        told = json.loads(log.splitlines()[-1])
        revisions = [scoring.read(msgspec.json.decode(line)) for line in alerts.read_bytes().splitlines()]
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{parameters.name}-{variant.name}.ndjson").write_bytes(alerts.read_bytes())
    results, summary = _scored(folder, revisions)
    summary |= {
        "lines": told["lines"],
        "unreadable": told["unreadable"],
        "observations": told["observations"],
        "wall_s": used["wall_s"],
        "cpu_s": used["cpu_s"],
        "peak_mb": used["peak_mb"],
    }
    return results, summary


def _scored(folder: Path, revisions: Sequence[scoring.Alert]) -> tuple[list[Result], dict[str, Any]]:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    truths = [msgspec.json.decode(line, type=Truth) for line in (folder / "truth.jsonl").read_bytes().splitlines()]
    return scoring.score(truths, revisions, frozenset(scoring.entity_name(name) for name in about["hubs"]))


def _configured(folder: Path, variant: Variant, place: Path) -> dict[str, Any]:
    """The towns' configuration with absolute paths, and what the variant changes."""
    config: dict[str, Any] = yaml.safe_load((folder / "config.yml").read_text(encoding="utf-8"))
    config["sources"] = [
        {**source, "path": str(folder / source["path"])}
        for source in config["sources"]
        if source["source"] not in variant.without_sources
    ]
    config["inventory"] = str(folder / config["inventory"])
    if not variant.inventory:
        del config["inventory"]
    if variant.without_families:
        kept = place / "profiles"
        kept.mkdir()
        for path in sorted(PROFILES.glob("*.yml")):
            documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
            left = [d for d in documents if d and d["family"] not in variant.without_families]
            if left:
                (kept / path.name).write_text(yaml.safe_dump_all(left, allow_unicode=True), encoding="utf-8")
        config |= {"bundled_rules": False, "rules": [str(RULES)], "profiles": [str(kept)]}
    for key, value in variant.settings:
        *above, last = key.split(".")
        node = config
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    return config


def variants(given: argparse.Namespace) -> list[Variant]:
    """The full pipeline first, then everything that is to be compared with it."""
    always = tuple(given.set)
    ablated = sorted(set(families().values())) if "all" in given.ablate else given.ablate
    return [
        Variant(FULL, settings=always, inventory=not given.no_inventory),
        *(Variant(f"without {name}", without_families=(name,), settings=always) for name in ablated),
        *(Variant(f"without {name} log", without_sources=(name,), settings=always) for name in given.without_source),
        *(Variant(f"{key}={value}", settings=(*always, (key, value))) for key, value in given.compare),
        *(Variant(f"without {step}", settings=always, step=step) for step in (*STEPS, *CALIBRATION) if given.steps),
    ]


def setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"`{text}` is not KEY=VALUE, for example alerts.budget_per_day=2")
    return key, yaml.safe_load(value)


def main() -> int:
    parser = arguments()
    given = parser.parse_args()
    if given.steps and not given.record:
        parser.error("--steps needs --record")
    recorder = Recorder(given.cache) if given.record else None
    console = Console(stderr=True)
    rows: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    chosen = variants(given)
    for dialect, noise, learning in itertools.product(given.dialect, given.noise, given.learning_days):
        results: dict[str, list[Result]] = {variant.name: [] for variant in chosen}
        sums: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in chosen}
        for seed, variant in itertools.product(given.seeds, chosen):
            parameters = Parameters(
                seed=seed,
                towns=given.towns,
                staff=given.staff,
                hosts=given.hosts,
                days=given.days,
                learning_days=max(given.learning_days),
                skip_days=max(given.learning_days) - learning,
                attacks=given.attacks,
                noise=noise,
                density=given.density,
                stealth=given.stealth,
                dialect=dialect,
            )
            with console.status(f"{parameters.name}: {variant.name}") if console.is_terminal else nullcontext():
                if recorder and variant.from_recording():
                    found, summary = recorder.run(parameters, variant)
                else:
                    found, summary = run(parameters, variant, given.cache, given.keep_alerts)
            results[variant.name] += found
            sums[variant.name].append(summary)
            if seed != given.seeds[-1]:
                continue
            label = {"dialect": dialect, "noise": noise, "learning": learning, "variant": variant.name}
            every = sums[variant.name]
            means = {name: sum(one[name] for one in every) / len(every) for name in MEANS}
            rows.append({**label, **scoring.rates(results[variant.name]), **means})
            parts.append({**label, **_split(results[variant.name], every)})
            _save(rows, parts, given)
            if not given.json:
                _tell(rows[-1:], parts[-1], every=given.missed, full=variant.name == FULL)
    if given.json:
        sys.stdout.write(json.dumps({"rows": rows, "parts": parts}, indent=1) + "\n")
    elif len(rows) > 1:
        sys.stdout.write(f"\n{measure.table(rows)}\n")
    return 0


def arguments() -> argparse.ArgumentParser:
    usual = Parameters()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=list(TUNED), help=f"default {TUNED}")
    add("--towns", type=int, default=3)
    add("--days", type=int, default=usual.days, help="learning days included")
    add("--learning-days", type=int, nargs="+", default=[usual.learning_days], help="history before the same live days")
    add("--staff", type=int, default=usual.staff)
    add("--hosts", type=int, default=usual.hosts)
    add("--attacks", type=int, default=usual.attacks, help="per town")
    add("--density", type=float, default=usual.density)
    add("--noise", type=int, nargs="+", default=[0], help="harmless irregular episodes per type, tenant and day")
    add("--stealth", choices=["all", *STEALTH], default="all")
    add("--dialect", choices=sorted(DIALECTS), nargs="+", default=["a"])
    add(
        "--without-source", nargs="+", default=[], metavar="KIND", help="firewall, windows, dns ... each in its own run"
    )
    add("--ablate", nargs="+", default=[], metavar="FAMILY", help="left out, each in its own run; `all` for every one")
    add("--record", action="store_true", help="scan once, keep what detectors said, and score variants from that")
    add("--steps", action="store_true", help="without each step of scoring and of calibration; needs --record")
    add("--set", type=setting, action="append", default=[], metavar="KEY=VALUE", help="of the configuration, always")
    add("--compare", type=setting, action="append", default=[], metavar="KEY=VALUE", help="the same, in its own run")
    add("--no-inventory", action="store_true", help="without networks, names and countries")
    add("--cache", type=Path, default=CACHE, help="where generated logs are kept")
    add("--keep-alerts", type=Path, help="keep the alert documents in this folder")
    add("--missed", action="store_true", help="list the attacks that were not within the first ten")
    add("--json", action="store_true", help="results as JSON on standard output instead of tables")
    return parser


def _split(results: Sequence[Result], sums: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def rows(name: str, key: Callable[[Result], str]) -> list[dict[str, Any]]:
        keys = sorted({key(r) for r in results}, key=lambda k: (STEALTH.index(k) if k in STEALTH else 0, k))
        return [{name: k, **scoring.rates([r for r in results if key(r) == k])} for k in keys]

    false: Counter[str] = Counter()
    for one in sums:
        false.update(one["false by family"])
    return {
        "by stealth": rows("stealth", lambda r: r.truth.stealth),
        "by technique": rows("technique", lambda r: f"{r.truth.technique} {r.truth.name}"),
        "by technique and stealth": rows("technique", lambda r: f"{r.truth.name} {r.truth.stealth}"),
        "false alerts by family": dict(false.most_common()),
        "missed": [
            {
                "id": r.truth.id,
                "name": r.truth.name,
                "stealth": r.truth.stealth,
                "rank": r.rank or "-",
                "what": r.truth.description[:70],
            }
            for r in results
            if r.rank is None or r.rank > TOPS[1]
        ],
    }


def _tell(rows: Sequence[dict[str, Any]], parts: dict[str, Any], *, every: bool, full: bool) -> None:
    sys.stdout.write(f"\n{measure.table(rows)}\n")
    if full:
        for name in ("by stealth", "by technique"):
            sys.stdout.write(f"\n{name}\n{measure.table(parts[name])}\n")
        sys.stdout.write(f"\nfalse among the first ten, by family: {parts['false alerts by family']}\n")
    if every and parts["missed"]:
        sys.stdout.write(f"\nnot within the first ten\n{measure.table(parts['missed'])}\n")
    sys.stdout.flush()


def _save(rows: Sequence[dict[str, Any]], parts: Sequence[dict[str, Any]], given: argparse.Namespace) -> None:
    """After every run, so that a long series that is stopped leaves what it has."""
    measure.RESULTS.mkdir(parents=True, exist_ok=True)
    found = {
        "benchmark": "detection",
        "machine": measure.machine(),
        "seeds": given.seeds,
        "towns": given.towns,
        "rows": rows,
        "parts": parts,
    }
    (measure.RESULTS / "detection.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    with (measure.RESULTS / "detection.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    _draw(rows, parts[0], measure.RESULTS / "detection.png")


def _draw(rows: Sequence[dict[str, Any]], parts: dict[str, Any], target: Path) -> None:
    """Recall within 5, 10 and 20 of each run, and by technique of the first."""
    panels = [
        ("runs", [f"{r['dialect']}, noise {r['noise']}, {r['learning']} days, {r['variant']}" for r in rows], rows),
        ("techniques", [r["technique"] for r in parts["by technique"]], parts["by technique"]),
    ]
    figure = Figure(figsize=(9, 2 + sum(0.5 + 0.32 * len(names) for _, names, _ in panels)), layout="constrained")
    ratios = [1 + len(names) for _, names, _ in panels]
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    for axis, (title, names, values) in zip(axes, panels, strict=True):
        for place, (top, colour) in enumerate(zip(TOPS, ("#17405e", "#2f6f9f", "#9dc3dd"), strict=True)):
            axis.barh(
                [i + 0.27 * (place - 1) for i in range(len(names))],
                [row[f"recall@{top}"] for row in values],
                height=0.25,
                color=colour,
                label=f"first {top}",
            )
        axis.set_yticks(range(len(names)), names, fontsize=7)
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"recall by alerts read per tenant and day: {title}", fontsize=8, loc="left")
    axes[0].legend(fontsize=7, loc="lower right")
    figure.savefig(target, dpi=130)


if __name__ == "__main__":
    sys.exit(main())
