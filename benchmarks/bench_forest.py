"""Our isolation forest on labelled sets of ADBench, beside the published one and other detectors of pyod on the same vectors.

Mean AUROC over ten seeds, as published (100 trees, 256 samples). Example: python -m benchmarks.bench_forest --seeds 3
"""

import argparse
import csv
import importlib
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks import measure
from detectors.behaviour import forest as forests

DATA = measure.ROOT.parent / "shared" / "data" / "adbench"
TREES, SAMPLE = 100, 256
TOLERANCE = 0.03  # of the published AUROC
ROWS_MAX = 50_000  # of a set, drawn at random: one of them has half a million

Rows = npt.NDArray[np.float64]
Scorer = Callable[[Rows, int], Rows]


def ours(rows: Rows, seed: int) -> Rows:
    return forests.grow(rows, trees=TREES, sample=SAMPLE, seed=seed).score(rows)


def of_pyod(module: str, name: str, **options: Any) -> Scorer:
    """A detector of pyod by its module and class, with its defaults where nothing else is said."""

    def score(rows: Rows, seed: int) -> Rows:
        kind = getattr(importlib.import_module(f"pyod.models.{module}"), name)
        seeded = {"random_state": seed} if "random_state" in kind.__init__.__code__.co_varnames else {}
        scores: Rows = kind(**options, **seeded).fit(rows).decision_scores_
        return scores

    return score


def extended(rows: Rows, seed: int) -> Rows:
    """An extended isolation forest: cuts along random directions instead of one feature (Hariri et al., 2019).

    Written as a forest of one-feature cuts over random projections, so that it is our forest that is measured.
    """
    rng = np.random.default_rng(seed)
    spread = rows.std(axis=0)
    scaled = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    directions = rng.normal(size=(rows.shape[1], max(32, 2 * rows.shape[1])))
    return ours(scaled @ directions, seed)


SCORERS: dict[str, Scorer] = {
    "ours": ours,
    "extended": extended,
    "ecod": of_pyod("ecod", "ECOD"),
    "copod": of_pyod("copod", "COPOD"),
    "hbos": of_pyod("hbos", "HBOS"),
    "lof": of_pyod("lof", "LOF", n_neighbors=20),
    "inne": of_pyod("inne", "INNE"),
}
SEEDED = frozenset({"ours", "extended", "inne"})


def published(folder: Path) -> dict[str, tuple[str, float]]:
    """Name of a set -> its file and the published mean AUROC; only those that are there."""
    with (folder / "published_iforest_reference.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    files = {row["dataset"]: folder / "Classical" / row["adbench_file"] for row in rows if row["adbench_file"]}
    return {
        row["dataset"]: (str(files[row["dataset"]]), float(row["stdIF_auroc_mean"]))
        for row in rows
        if row["dataset"] in files and files[row["dataset"]].is_file()
    }


def auroc(scores: Rows, labels: Rows) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def measured(path: str, names: list[str], seeds: int) -> dict[str, float]:
    """Detector -> mean AUROC on one set."""
    held = np.load(path, allow_pickle=False)
    rows, labels = held["X"].astype(np.float64), held["y"].astype(np.float64)
    if len(rows) > ROWS_MAX:
        chosen = np.sort(np.random.default_rng(0).choice(len(rows), ROWS_MAX, replace=False))
        rows, labels = rows[chosen], labels[chosen]
    found = {}
    for name in names:
        runs = range(seeds if name in SEEDED else 1)
        found[name] = float(np.mean([auroc(SCORERS[name](rows, seed), labels) for seed in runs]))
    return found


def main() -> int:
    given = arguments().parse_args()
    if not given.data.is_dir():
        sys.stderr.write(f"{given.data}: no such folder; it holds the sets of ADBench\n")
        return 2
    errors = Console(stderr=True)
    sets = {n: found for n, found in published(given.data).items() if not given.sets or n in given.sets}
    rows: list[dict[str, Any]] = []
    begun = time.perf_counter()
    warnings.simplefilter("ignore")  # of libraries below pyod, about constant features
    with errors.status("measuring") if errors.is_terminal else nullcontext() as status:
        for name, (path, reference) in sets.items():
            if status:
                status.update(name)
            found = measured(path, given.detectors, given.seeds)
            rows.append({"set": name, "published": reference, **found})
    wall_s = time.perf_counter() - begun
    worst = max((abs(row["ours"] - row["published"]) for row in rows if "ours" in row), default=0.0)
    numbers = ["published", *given.detectors]
    rows.append({"set": "mean", **{c: float(np.mean([row[c] for row in rows])) for c in numbers}})
    measure.write(
        "forest",
        rows,
        seeds=given.seeds,
        largest_distance=round(worst, 4),
        allowed_distance=TOLERANCE,
        wall_s=round(wall_s),
    )
    return int(worst > TOLERANCE)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_forest", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="runs of each detector that has randomness (default 10)")
    parser.add_argument("--sets", nargs="+", default=[], help="only these sets")
    parser.add_argument(
        "--detectors",
        nargs="+",
        choices=sorted(SCORERS),
        default=list(SCORERS),
        metavar="NAME",
        help=f"of {', '.join(SCORERS)}",
    )
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of ADBench")
    return parser


if __name__ == "__main__":
    sys.exit(main())
