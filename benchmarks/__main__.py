"""All benchmarks of this repository: tables on standard output, build/bench/*.json and build/bench/bench.png."""

import argparse

from benchmarks import bench_detect, bench_end_to_end, bench_parse, bench_rules, bench_scan, measure, plot

parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
parser.add_argument("--lines", type=int, default=bench_end_to_end.LINES, help="lines of each run")
parser.add_argument(
    "--per-second", type=float, default=bench_end_to_end.PER_SECOND, help="lines per second of event time"
)
parser.add_argument("--runs", type=int, default=measure.RUNS, help="runs of which the median is told")
parser.add_argument("--broker", action="append", choices=["embedded", "kafka"], help="both without it")
given = parser.parse_args()
bench_parse.run(given.lines // 2, given.runs)
bench_detect.run(given.lines, given.per_second, given.runs)
bench_rules.run()
bench_scan.run(given.lines, given.per_second, given.runs)
bench_end_to_end.run(given.lines, given.per_second, given.broker or ["embedded", "kafka"], bench_detect.TWO, given.runs)
print(f"\n{measure.RESULTS}: JSON of each table; {plot.draw()}")
