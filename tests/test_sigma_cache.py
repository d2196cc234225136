"""Rule files understood before: the same rules, faster, whatever happened to the file that keeps them."""

import sys
from pathlib import Path

import msgspec
import pytest

from detectors.sigma import RuleSet
from detectors.sigma.cache import NAME
from detectors.sigma.rule_tests import event_of

RULE = """
title: rule {n}
id: 11111111-2222-4333-8444-{n:012}
name: r{n}
logsource: {{product: test}}
detection:
  a: {{A|contains: [x{n}, 'y?z'], B|re: '^b+$', C: null}}
  b: {{D|cidr: 192.0.2.0/24, E|gt: 5}}
  c: {{F|exists: true, G|fieldref: H, I: '*', J|expand: '%names%'}}
  condition: a or b or not c
tests:
  - name: an example
    match: true
    event: {{A: x{n}, B: bb, '@timestamp': 2026-10-20T10:00:00Z}}
"""
CORRELATION = """
title: many
id: 22222222-2222-4333-8444-000000000001
correlation: {type: temporal, rules: [r0, r1], group-by: [A], timespan: 5m, condition: r0 and not r1}
"""
FILTER = """
title: not these
logsource: {product: test}
filter: {rules: [r0], sel: {A: x0 fine}, condition: not sel}
"""
BAD = RULE.format(n=9).replace("gt: 5", "gt: five")
encode = msgspec.json.Encoder(order="deterministic").encode
NAMES = {"names": ["anna", "bert"]}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    folder.mkdir()
    for n in range(3):
        (folder / f"r{n}.yml").write_text(RULE.format(n=n), encoding="utf-8")
    (folder / "all.yml").write_text(CORRELATION, encoding="utf-8")
    (folder / "filter.yml").write_text(FILTER, encoding="utf-8")
    (folder / "bad.yml").write_text(BAD, encoding="utf-8")
    return folder


def loaded(rules: Path, cache: Path | None) -> RuleSet:
    return RuleSet.load([rules], strict=False, expansions=NAMES, cache=cache)


def same(one: RuleSet, other: RuleSet) -> bool:
    return one.faults == other.faults and encode(one.rules) == encode(other.rules)


def read_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are parsed from now on."""
    from detectors.sigma import loader

    seen: list[str] = []
    parse = loader._understood

    def noting(path: Path, *rest: object) -> object:
        seen.append(path.name)
        return parse(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "_understood", noting)
    return seen


def test_a_second_load_parses_nothing_and_gives_the_same(
    rules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loaded(rules, None)
    assert len(plain.rules) == 4
    assert len(plain.faults) == 1
    seen = read_anew(monkeypatch)
    first = loaded(rules, tmp_path / "kept")
    assert len(seen) == 6
    second = loaded(rules, tmp_path / "kept")
    assert len(seen) == 6, "nothing was parsed again"
    assert same(plain, first)
    assert same(plain, second)
    for event in (
        {"A": "x0", "B": "b"},
        {"A": "x0 fine", "B": "b"},
        {"D": "192.0.2.1", "E": 7},
        {"F": 1, "G": 1, "H": 1},
    ):
        body = event_of({"event.dataset": "ecs.test", **event})
        assert plain.matches(body) == second.matches(body)


def test_only_what_changed_is_parsed(rules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "kept"
    loaded(rules, cache)
    seen = read_anew(monkeypatch)
    (rules / "r1.yml").write_text(RULE.format(n=1).replace("x1", "x77"), encoding="utf-8")
    changed = loaded(rules, cache)
    assert seen == ["r1.yml"]
    assert same(changed, loaded(rules, None))
    seen.clear()
    (rules / "r1.yml").rename(rules / "moved.yml")
    moved = loaded(rules, cache)
    assert seen == [], "what was understood belongs to the content, not to the name"
    assert {Path(rule.path).name for rule in moved.rules.values()} == {"r0.yml", "moved.yml", "r2.yml", "all.yml"}
    RuleSet.load([rules], strict=False, expansions={"names": ["carl"]}, cache=cache)
    assert len(seen) == 6, "other values of placeholders make other rules"


def test_rules_that_went_are_forgotten(rules: Path, tmp_path: Path) -> None:
    cache = tmp_path / "kept"
    loaded(rules, cache)
    before = (cache / NAME).stat().st_size
    (rules / "r2.yml").unlink()
    loaded(rules, cache)
    assert (cache / NAME).stat().st_size < before


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "text", "folder"])
def test_a_damaged_file_is_passed_over(rules: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "kept"
    loaded(rules, cache)
    path = cache / NAME
    held = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        flipped = held[:-9] + bytes([held[-9] ^ 1]) + held[-8:]
        path.write_bytes({"cut": held[:-5], "changed": flipped, "empty": b"", "text": b"no rules here"}[damage])
    assert same(loaded(rules, cache), loaded(rules, None))


def test_a_folder_that_cannot_be_written_costs_time_only(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file stands where the folder should be", encoding="utf-8")
    assert same(loaded(rules, tmp_path / "kept"), loaded(rules, None))


def test_the_parser_is_not_imported_where_all_is_known(rules: Path, tmp_path: Path) -> None:
    import subprocess

    cache = tmp_path / "kept"
    loaded(rules, cache)
    code = (
        "import sys; from pathlib import Path; from detectors.sigma import RuleSet; "
        f"kept = RuleSet.load([Path({str(rules)!r})], strict=False, expansions={NAMES!r}, cache=Path({str(cache)!r})); "
        "print(len(kept.rules), 'sigma' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4", "False"]
