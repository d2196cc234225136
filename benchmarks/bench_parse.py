"""Parsers alone: lines per CPU second on the golden samples and on the generated town's lines."""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import lines, measure
from connectors.parse import AUTO, Reader, parser_names
from shield.demo_logs import PARSERS, TENANT

GOLDEN = measure.ROOT / "tests" / "golden"
BATCH_LINES = 500


def once(parser: str, batch: Sequence[bytes], count: int) -> dict[str, Any]:
    """The same lines again and again; those that are no log lines of this format count too."""
    reader = Reader(parser, TENANT, "bench", lines.ZONE, time.gmtime().tm_year)
    rounds = max(1, count // len(batch))
    received = time.time()
    events = len(reader.read(batch, received).events)
    took_s = measure.cpu_of(lambda: [reader.read(batch, received) for _ in range(rounds)])
    done = rounds * len(batch)
    size = sum(map(len, batch)) / len(batch)
    return {
        "distinct lines": len(batch),
        "bytes/line": size,
        "events/line": events / len(batch),
        "lines/s": done / took_s,
        "MB/s": done * size / took_s / 1e6,
    }


def run(count: int, runs: int = measure.RUNS) -> None:
    rows = []
    for name in parser_names():
        sample = (GOLDEN / name / "sample.log").read_bytes().removesuffix(b"\n").split(b"\n")
        usual = Reader(name, TENANT, "bench", lines.ZONE, time.gmtime().tm_year)
        batch = [line for line in sample if not usual.read([line], time.time()).dead]  # samples hold broken lines too
        rows.append(
            {"parser": name, "lane": "golden", **measure.median([once(name, batch, count) for _ in range(runs)])}
        )
    town = lines.town(20_000, time.time() // 60 * 60 - 3600, 400.0)
    for source, name in PARSERS.items():
        batch = [line.text.encode() for line in town if line.source == source][: 4 * BATCH_LINES]
        lanes = ((name, name), (AUTO, f"{AUTO} ({name})"))
        rows += [
            {
                "parser": shown,
                "lane": "town",
                **measure.median([once(parser, batch, count) for _ in range(runs)]),
            }
            for parser, shown in lanes
        ]
    measure.write("parse", rows, lines_per_measurement=count, runs=runs)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--lines", type=int, default=100_000)
    arguments.add_argument("--runs", type=int, default=measure.RUNS)
    given = arguments.parse_args()
    run(given.lines, given.runs)
