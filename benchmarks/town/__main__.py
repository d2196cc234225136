"""Write simulated towns: python -m benchmarks.town FOLDER --towns 3 --seed 1 --noise 2."""

import argparse
import sys
import time
from pathlib import Path

import msgspec

from benchmarks.town.writing import DIALECTS, Parameters, write


def main() -> None:
    defaults = Parameters()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.town", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to; made if it is not there")
    for field in msgspec.structs.fields(Parameters):
        value = getattr(defaults, field.name)
        choices = (
            sorted(DIALECTS)
            if field.name == "dialect"
            else ["all", "loud", "medium", "stealthy"]
            if field.name == "stealth"
            else None
        )
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(value),
            default=value,
            choices=choices,
            help=f"default {value}",
        )
    given = vars(parser.parse_args())
    folder = given.pop("folder")
    begun = time.perf_counter()
    truth = write(folder, Parameters(**given))
    lines = sum(path.read_bytes().count(b"\n") for path in folder.glob("*/*.log"))
    took = time.perf_counter() - begun
    sys.stdout.write(f"{lines} lines, {len(truth)} attacks in {folder}; {lines / took:,.0f} lines/s\n")


if __name__ == "__main__":
    main()
