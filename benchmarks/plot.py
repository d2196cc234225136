"""One picture of the results in build/bench: what each parser, each stage and each way of running does."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import measure

PANELS = (  # file, what names a bar, what it is long by
    ("parse", ("parser", "lane"), "lines/s"),
    ("detect", ("lane",), "all events/s"),
    ("scan", ("lane",), "lines/CPU s"),
    ("stages", ("broker",), "all stages lines/CPU s"),
    ("end_to_end", ("broker",), "lines/CPU s"),
    ("peers", ("program",), "docs/CPU s"),
)


def draw() -> Path:
    found = [(panel, json.loads(path.read_text())) for panel in PANELS if (path := _path(panel[0])).exists()]
    mpl.rcParams["svg.hashsalt"] = "bench"
    figure = Figure(
        figsize=(9, 1.2 + sum(0.6 + 0.24 * len(result["rows"]) for _, result in found)), layout="constrained"
    )
    heights = [2 + len(result["rows"]) for _, result in found]
    axes = figure.subplots(len(found), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, ((name, labels, value), result) in zip(axes, found, strict=True):
        _bars(axis, name, [(", ".join(str(row[part]) for part in labels), row[value]) for row in result["rows"]], value)
    facts = found[0][1]["machine"] if found else measure.machine()
    figure.suptitle(f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['commit']}", fontsize=9)
    target = measure.RESULTS / "bench.png"
    figure.savefig(target, dpi=130)
    return target


def _path(name: str) -> Path:
    return measure.RESULTS / f"{name}.json"


def _bars(axis: Any, name: str, rows: list[tuple[str, float]], value: str) -> None:
    bars = axis.barh([label for label, _ in rows], [amount for _, amount in rows], color="#2f6f9f")
    axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=7)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(f"{name}: {value}", fontsize=8, loc="left")


if __name__ == "__main__":
    print(draw())
