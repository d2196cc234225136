"""Our parsers against what other projects expect of the same lines: field recall and precision over ECS core fields.

The expectations lie beside the repository and are not ours to ship; without them the test says so, and fails under CI.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
SOURCES = ("elastic-beats", "elastic-integrations")
PRODUCTS = (
    *("fortigate", "cisco_asa", "auth", "iptables", "nginx", "apache", "cef", "windows_"),
    *("panw", "checkpoint", "juniper_srx", "sonicwall", "pfsense", "f5", "iis", "haproxy", "zeek", "suricata"),
    *("auditd", "okta", "defender", "crowdstrike", "sentinel_one"),
)
RECALL_MIN, PRECISION_MIN = 0.95, 0.98
# "Built outbound ... for outside:A to inside:B": part of the expectations call A the source, part of them B. Ours is B,
# who opened the connection. Judged apart, so that it hides nothing else.
DISPUTED = {("cisco_asa", f"{end}.{part}") for end in ("source", "destination") for part in ("ip", "port")}
DISPUTED_MIN = 0.8
# Starting the program costs more than parsing: groups that are not judged here and the second pass with `auto` end at once.
ONLY = """\
import os, sys
arguments = sys.argv[1:]
group = arguments.pop() if arguments[0] == "parse" else ""
if group and (not group.split(":")[1].startswith({products!r}) or arguments[-1] == "auto"):
    sys.exit(1)
os.execv({python!r}, [{python!r}, "-m", "shield", *arguments])
"""


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Product and source -> figures."""
    tool = SHARED / "tools" / "parse_score.py"
    missing = [path for path in (tool, *(SHARED / "data" / source for source in SOURCES)) if not path.exists()]
    if missing:
        reason = f"no expectations of other projects: {', '.join(path.name for path in missing)} is not beside the repository"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("conformance")
    only, result = folder / "only.py", folder / "scores.json"
    only.write_text(ONLY.format(products=PRODUCTS, python=sys.executable), encoding="utf-8")
    ours = f"{sys.executable} -IS {only} parse --parser {{parser}} {{group}}"
    command: list[str | Path] = [
        sys.executable,
        tool,
        "--data",
        SHARED / "data",
        "--cmd",
        ours,
        "--source",
        *SOURCES,
        "--json",
        result,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    figures: dict[str, dict[str, Any]] = json.loads(result.read_text(encoding="utf-8"))
    judged = {}
    for key, values in figures.items():
        kind, _, rest = key.partition("|")
        if kind == "product" and rest.startswith(PRODUCTS):
            judged[rest] = values
    return judged


def test_every_product_is_judged(scores: dict[str, dict[str, Any]]) -> None:
    for product in PRODUCTS:
        assert any(name.startswith(product) for name in scores), product


def test_every_line_that_others_read_is_read(scores: dict[str, dict[str, Any]]) -> None:
    assert {name: values["parsed"] for name, values in scores.items() if values["parsed"] < 1.0} == {}


def pooled(cells: list[dict[str, Any]]) -> tuple[float, float]:
    """Recall and precision over all fields together."""
    right = sum(cell["recall"] * cell["fields"] for cell in cells)
    given = sum(cell["recall"] * cell["fields"] / cell["precis"] for cell in cells if cell["precis"])
    return right / sum(cell["fields"] for cell in cells), right / given


def _cells(scores: dict[str, dict[str, Any]], *, disputed: bool) -> list[dict[str, Any]]:
    return [
        cell
        for name, values in scores.items()
        for field, cell in values["by_field"].items()
        if ((name.split("|")[0], field) in DISPUTED) == disputed
    ]


def test_pooled_recall_and_precision(scores: dict[str, dict[str, Any]]) -> None:
    recall, precision = pooled(_cells(scores, disputed=False))
    table = "\n".join(f"{n}: recall {v['recall']:.3f}, precision {v['precis']:.3f}" for n, v in scores.items())
    assert recall >= RECALL_MIN, f"recall {recall:.3f}\n{table}"
    assert precision >= PRECISION_MIN, f"precision {precision:.3f}\n{table}"


def test_disputed_fields_are_right_where_the_references_agree_with_each_other(
    scores: dict[str, dict[str, Any]],
) -> None:
    recall, precision = pooled(_cells(scores, disputed=True))
    assert recall >= DISPUTED_MIN
    assert precision >= DISPUTED_MIN
