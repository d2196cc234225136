"""Parsers alone: lines per CPU second on the golden samples and on the generated town's lines.

Golden samples hold every kind of line once, so rare kinds weigh as much as the bulk: the town's lanes show what a source sends.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import lines, measure
from connectors.parse import AUTO, Reader, parser_names
from shield.demo_logs import PARSERS, TENANT

GOLDEN = measure.ROOT / "tests" / "golden"
BATCH_LINES = 500  # at least, as from a source that is busy: what is paid per batch must not look like a line's
WARM_ROUNDS = 4  # kinds of lines are learned in the first
MEDIAN_TARGET = 120_000  # lines per CPU second over all parsers, on a current core
EACH_TARGET = 30_000


def once(parser: str, batch: Sequence[bytes], count: int) -> dict[str, Any]:
    """The same lines again and again; those that are no log lines of this format count too."""
    reader = Reader(parser, TENANT, "bench", lines.ZONE, time.gmtime().tm_year)
    rounds = max(1, count // len(batch))
    received = time.time()
    for _ in range(WARM_ROUNDS):
        events = len(reader.read(batch, received).events)
    gc.collect()  # what others left is not this parser's
    took_s = measure.cpu_of(lambda: [len(reader.read(batch, received).events) for _ in range(rounds)])
    done = rounds * len(batch)
    size = sum(map(len, batch)) / len(batch)
    return {
        "distinct lines": len(set(batch)),
        "bytes/line": size,
        "events/line": events / len(batch),
        "lines/s": done / took_s,
        "us/line": took_s / done * 1e6,
        "MB/s": done * size / took_s / 1e6,
    }


def golden(name: str) -> list[bytes]:
    """The lines of a parser's sample, without the broken ones in it, as often as makes a batch."""
    usual = Reader(name, TENANT, "bench", lines.ZONE, time.gmtime().tm_year)
    sample = (GOLDEN / name / "sample.log").read_bytes().removesuffix(b"\n").split(b"\n")
    whole = [line for line in sample if not usual.read([line], time.time()).dead]
    return whole * -(-BATCH_LINES // len(whole))


def run(count: int, runs: int = measure.RUNS, names: Sequence[str] = ()) -> None:
    names = names or parser_names()
    rows = [
        {"parser": name, "lane": "golden", **measure.median([once(name, batch, count) for _ in range(runs)])}
        for name in names
        if (batch := golden(name))
    ]
    speeds = {row["parser"]: row["lines/s"] for row in rows}
    slowest = min(speeds, key=lambda name: speeds[name])
    town = lines.town(20_000, time.time() // 60 * 60 - 3600, 400.0)
    for source, name in PARSERS.items():
        if name not in names:
            continue
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
    measure.write(
        "parse",
        rows,
        lines_per_measurement=count,
        runs=runs,
        golden_median=f"{statistics.median(speeds.values()):,.0f} lines/s, wanted {MEDIAN_TARGET:,}",
        golden_slowest=f"{slowest} {speeds[slowest]:,.0f} lines/s, wanted {EACH_TARGET:,}",
        golden_below=sum(speed < EACH_TARGET for speed in speeds.values()),
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--lines", type=int, default=100_000)
    arguments.add_argument("--runs", type=int, default=measure.RUNS)
    arguments.add_argument("parsers", nargs="*", metavar="parser", help="all without any")
    given = arguments.parse_args()
    run(given.lines, given.runs, given.parsers)
