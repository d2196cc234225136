"""Faults of rule files: each with its file and line, all of them at once, with the nearest valid name."""

import textwrap
from pathlib import Path

import pytest

from detectors.sigma import RuleFaults, RuleSet

IDS = [f"11111111-2222-4333-8444-{n:012}" for n in range(20)]


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def rule(number: int, *, extra: str = "", detection: str = "{s: {A: x}, condition: s}", name: str = "") -> str:
    return f"title: rule {number}\nid: {IDS[number]}\n{f'name: {name}' if name else 'status: test'}\nlogsource: {{product: test}}\n{extra}detection: {detection}\n"


def faults(path: Path) -> list[tuple[int, str]]:
    with pytest.raises(RuleFaults) as refused:
        RuleSet.load([path])
    return [(fault.line, fault.message) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("title: [\n", 2, "is no YAML"),
        ("- a\n- b\n", 1, "must be a map"),
        ("title: a\ntitle: b\n", 2, "'title' stands twice"),
        (rule(1, extra="level: hihg\n"), 5, "did you mean 'high'"),
        (rule(1, extra="levle: high\n"), 5, "did you mean 'level'"),
        (
            rule(1, extra="status_: test\nstatus: testing\n").replace("status: test\n", "", 1),
            4,
            "unknown key 'status_'",
        ),
        (rule(1, detection="\n  s:\n    A: x\n    A: y\n  condition: s"), 8, "'A' stands twice"),
        (rule(1, detection="\n  s:\n    A: x\n    B|startwith: y\n  condition: s"), 8, "did you mean 'startswith'"),
        (rule(1, detection="\n  s:\n    A: x\n  condition: s and other"), 8, "other"),
        (rule(1, detection="\n  selection:\n    A: x\n  condition: selectoin"), 8, "did you mean 'selection'"),
        (rule(1, detection="\n  s:\n    A: x\n  condition: 2 of them"), 8, ""),
        (rule(1, detection="\n  s:\n    A: x\n  condition: s AND s"), 8, ""),
        (rule(1, detection="\n  s:\n    A: x\n  condition: 1 of t*"), 8, ""),
        (rule(1, detection="\n  s:\n    A: x\n    Bfield|re: '(?<=a)b'\n  condition: s"), 8, "(?<=a)b"),
        (rule(1, detection="\n  s:\n    A: x\n    Bfield|expand: '%hosts%'\n  condition: s"), 8, "expand"),
        (rule(1, detection="\n  s:\n    A: x\n    Bfield|cidr: 192.0.2.9/24\n  condition: s"), 8, "192.0.2.9/24"),
        (rule(1, extra="reason: {fr: x}\n"), 5, "unknown language 'fr'"),
        (rule(1, extra="entity: source.ip\n"), 5, "entity must be a list"),
        (rule(1, extra="tests:\n  - name: a\n    match: true\n    lines: [x]\n"), 8, "needs the parser"),
        (
            rule(1, extra="tests:\n  - name: a\n    match: true\n    events: []\n    sorce: x\n"),
            9,
            "did you mean 'source'",
        ),
        (rule(1).replace(IDS[1], "no-uuid"), 2, "needs an id"),
        ("title: a\nid: " + IDS[1] + "\nlogsource: {product: x}\n", 1, "a rule needs detection"),
        (rule(1) + "---\n" + rule(1), 8, "already that of"),
    ],
)
def test_fault_with_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    found = faults(write(tmp_path / "r.yml", text))
    assert any(at == line and message in said for at, said in found), found


CORRELATION = """
title: c
id: {id}
correlation:
  type: event_count
  rules: [base]
  group-by: [source.ip]
  timespan: 5m
  condition: {{gte: 3}}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("event_count", "event_cuont", 5, "did you mean 'event_count'"),
        ("[base]", "[bsae]", 6, "did you mean 'base'"),
        ("timespan", "timspan", 8, "did you mean 'timespan'"),
        ("5m", "5x", 8, "5x"),
        ("{gte: 3}", "{get: 3}", 9, "did you mean 'gt'"),
        ("{gte: 3}", "{gte: three}", 9, "no number"),
        ("rules: [base]", "rules: [c1]", 6, "unknown rule 'c1'"),
    ],
)
def test_correlation_fault(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    write(tmp_path / "base.yml", rule(1, name="base"))
    write(tmp_path / "c.yml", CORRELATION.format(id=IDS[2]).replace(old, new).lstrip("\n"))
    found = faults(tmp_path)
    assert any(at == line - 1 and message in said for at, said in found), found


def test_all_faults_of_all_files_at_once_and_the_good_ones_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.yml", rule(1, extra="level: bad\n"))
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "b.yaml", rule(2, extra="status_: x\n") + "---\n" + rule(3))
    write(tmp_path / "c.yml", "{")
    with pytest.raises(RuleFaults) as refused:
        RuleSet.load([tmp_path])
    assert {Path(f.path).name for f in refused.value.faults} == {"a.yml", "b.yaml", "c.yml"}
    kept = RuleSet.load([tmp_path], strict=False)
    assert list(kept.rules) == [IDS[3]]
    assert len(kept.faults) == len(refused.value.faults)
    assert kept.rules[IDS[3]].line == 8


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.yml")[0][1].startswith("cannot be read")


def test_aliases_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert any("aliases" in said for _, said in faults(write(tmp_path / "r.yml", "\n".join(lines))))


@pytest.mark.parametrize(
    "text",
    ["title: !!python/object/apply:os.getcwd []\n", "\x00", "a: " + "[" * 5000, "? [a]\n: b\n", "title: 5\nid: 6\n"],
)
def test_hostile_files_are_faults(tmp_path: Path, text: str) -> None:
    assert faults(write(tmp_path / "r.yml", text))


@pytest.mark.parametrize(
    "detection",
    [
        "5",
        "[]",
        "{condition: s}",
        "{s: 5, condition: s}",
        "{s: {A: {b: c}}, condition: s}",
        "{s: {A: x}}",
        "{s: {5: x}, condition: s}",
        "{s: {A: x}, condition: 5}",
    ],
)
def test_odd_shapes_are_faults_or_rules(tmp_path: Path, detection: str) -> None:
    loaded = RuleSet.load([write(tmp_path / "r.yml", rule(1, detection=detection))], strict=False)
    assert bool(loaded.faults) != bool(loaded.rules)


def test_metadata(tmp_path: Path) -> None:
    extra = "title_de: Regel\nlevel: high\ntags: [attack.t1110.001, attack.credential-access, cve.2026-1]\nfalsepositives: [none]\nreason: {de: 'von {source.ip}', en: 'from {source.ip}'}\n"
    loaded = RuleSet.load([write(tmp_path / "r.yml", rule(1, extra=extra))]).rules[IDS[1]]
    assert (loaded.title, loaded.title_de, loaded.level, loaded.kind) == ("rule 1", "Regel", "high", "rule")
    assert loaded.attack == ("T1110.001", "TA0006")
    assert loaded.fields == {"A"}
    changed = RuleSet.load([write(tmp_path / "r.yml", rule(1, extra=extra.replace("high", "low")))]).rules[IDS[1]]
    assert changed.version != loaded.version
    assert len(loaded.version) == 64


FILTER = """
title: f
id: {id}
logsource: {{product: test}}
filter:
  rules: [{target}]
  sel: {{B: ok}}
  condition: {condition}
"""


def test_filter_narrows_a_rule(tmp_path: Path) -> None:
    from detectors.sigma.rule_tests import event_of, hits

    write(tmp_path / "r.yml", rule(1, name="base"))
    write(tmp_path / "f.yml", FILTER.format(id=IDS[2], target="base", condition="not sel"))
    rules = RuleSet.load([tmp_path])
    event = {"event.dataset": "ecs.test", "A": "x"}
    assert hits(rules, [event_of(event)], ["l"]) == {IDS[1]}
    assert not hits(rules, [event_of({**event, "B": "ok"})], ["l"])


@pytest.mark.parametrize(
    ("target", "condition", "message"),
    [("base", "sel", "must begin with `not`"), ("bsae", "not sel", "did you mean 'base'")],
)
def test_filter_faults(tmp_path: Path, target: str, condition: str, message: str) -> None:
    write(tmp_path / "r.yml", rule(1, name="base"))
    write(tmp_path / "f.yml", FILTER.format(id=IDS[2], target=target, condition=condition))
    assert any(message in said for _, said in faults(tmp_path))
