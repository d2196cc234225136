"""Where the detect worker's time goes: its stages in this process under cProfile, without a broker."""

import argparse
import cProfile
import io
import pstats
import tempfile
import time
from pathlib import Path

from benchmarks.bench_detect import PROFILES, TWO
from benchmarks.bench_end_to_end import PER_SECOND, Town
from shield import config as configs
from shield import roles
from shield.broker import Out, Record, partition_of
from shield.demo_logs import TENANT
from shield.pipeline import Tally

BATCH_RECORDS = 40


def run(count: int, profiles: list[Path]) -> str:
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        town = Town(count, PER_SECOND, profiles, Path(scratch))
        loaded = configs.load(town.config(Path(scratch) / "profile", "{use: embedded}"))
        raw, signals = roles.stages(loaded)
        lane = ("raw", partition_of(TENANT.encode(), 4))
        records = [
            Record(*lane, i, TENANT.encode(), b"\n".join(r.lines), r.time, {"tenant": TENANT, "source": r.source})
            for i, r in enumerate(town.raw)
        ]
        tally, offset = Tally(), 0

        def work() -> tuple[float, float]:
            nonlocal offset
            raw_s = signals_s = 0.0
            for start in range(0, len(records), BATCH_RECORDS):
                begun = time.process_time()
                outs, _ = raw.process(records[start : start + BATCH_RECORDS], tally)
                middle = time.process_time()
                made: list[Out] = [o for o in outs if o.topic == "signals"]
                signals.process(
                    [Record("signals", 0, offset + i, o.key, o.value, o.time, o.headers) for i, o in enumerate(made)],
                    tally,
                )
                offset += len(made)
                raw_s += middle - begun
                signals_s += time.process_time() - middle
            return raw_s, signals_s

        profiler = cProfile.Profile()
        raw_s, signals_s = profiler.runcall(work)
        out = io.StringIO()
        out.write(
            f"{count} lines, {len(profiles)} profiles; under the profiler: raw {raw_s:.2f} s, signals {signals_s:.2f} s\n"
        )
        for order, length in (("tottime", 45), ("cumulative", 45)):
            pstats.Stats(profiler, stream=out).strip_dirs().sort_stats(order).print_stats(length)
        pstats.Stats(profiler, stream=out).strip_dirs().sort_stats("tottime").print_callers(14)
        return out.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--all-profiles", action="store_true", help="all bundled profiles instead of two")
    given = parser.parse_args()
    print(run(given.lines, sorted(PROFILES.glob("*.yml")) if given.all_profiles else TWO))
