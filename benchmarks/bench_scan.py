"""`shield scan` as a user starts it: lines per second, start included, and memory."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.bench_detect import PROFILES, TWO
from benchmarks.bench_end_to_end import LINES, PER_SECOND, Town


def once(town: Town, folder: Path, number: int) -> dict[str, Any]:
    place = folder / f"scan-{number}"
    config = town.config(place, "{use: embedded}")
    alerts = place / "alerts.ndjson"
    used = measure.finished(measure.shield("scan", str(config), "--json", "--alerts", str(alerts)), place / "scan.log")
    ids = {json.loads(line)["event"]["id"] for line in alerts.read_bytes().splitlines()}
    told = json.loads((place / "scan.log").read_text().splitlines()[-1])
    return {
        "lines": told["lines"],
        "no_line_lost": town.count == told["lines"] == told["events"] + told["unreadable"] + told["blank"],
        "alerts": len(ids),
        "alerts_as_expected": ids == town.alerts,
        "lines/s": town.count / used["wall_s"],
        "lines/CPU s": town.count / used["cpu_s"],
        "peak MB": used["peak_mb"],
    }


def run(count: int, per_second: float, runs: int = measure.RUNS) -> None:
    rows = []
    for name, profiles in (("two profiles", TWO), ("all profiles", sorted(PROFILES.glob("*.yml")))):
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            town = Town(count, per_second, profiles, Path(scratch))
            found = [once(town, Path(scratch), number) for number in range(runs)]
        rows.append({"lane": name, **measure.median(found)})
    measure.write("scan", rows, lines_per_event_second=per_second, runs=runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--per-second", type=float, default=PER_SECOND, help="lines per second of event time")
    parser.add_argument("--runs", type=int, default=measure.RUNS)
    given = parser.parse_args()
    run(given.lines, given.per_second, given.runs)
