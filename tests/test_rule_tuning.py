"""Tuning without touching a rule's file: filters with owner and expiry, overlays, staging."""

import json
import tempfile
import textwrap
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis.strategies import text
from typer.testing import CliRunner

from detectors.sigma import Rule, RuleFaults, RuleSet
from detectors.sigma.loader import narrowed
from detectors.sigma.rule_tests import event_of
from detectors.sigma.tuning import Part, Signed, document, escaped
from shield import config as configs
from shield import roles
from shield.cli import app
from shield.rule_matching import Forms
from shield.scan import Scan

IDS = [f"33333333-2222-4333-8444-{n:012}" for n in range(20)]
TODAY = date(2026, 11, 24)
RULE = """
title: rule {n}
id: {id}
name: r{n}
level: high
falsepositives: [upstream]
tags: [attack.t1059]
logsource: {{product: test}}
detection:
  selection:
    A|endswith: [x, y]
    B: b
  condition: selection
"""
FILTER = """
title: f
id: {id}
owner: it-security
reason: the backup does this every night
expires: 2026-12-31
logsource: {{product: test}}
filter:
  rules: {rules}
  job: {{C: backup}}
  other: {{D: d}}
  condition: {condition}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "rules"
    path.mkdir()
    for n in (1, 2):
        write(path / f"r{n}.yml", RULE.format(n=n, id=IDS[n]))
    return path


def filtered(folder: Path, condition: str = "not job", rules: str = "[r1]", **changes: str) -> Path:
    text = FILTER.format(id=IDS[9], rules=rules, condition=condition)
    for old, new in changes.items():
        text = "".join(line + "\n" for line in text.splitlines() if not line.startswith(f"{old}:")) + (
            f"{old}: {new}\n" if new else ""
        )
    return write(folder / "filter.yml", text)


def load(folder: Path, **options: Any) -> RuleSet:
    return RuleSet.load([folder], today=TODAY, owned=True, **options)


def faults(folder: Path) -> list[tuple[str, int, str]]:
    with pytest.raises(RuleFaults) as refused:
        load(folder)
    return [(Path(each.path).name, each.line, each.message) for each in refused.value.faults]


def met(rules: RuleSet, **fields: Any) -> list[str]:
    found = rules.matches(event_of({"event.dataset": "ecs.test", "A": "x", "B": "b", **fields}))
    return [rules.rules[each].name for each in found]


# Filters


def test_a_filter_leaves_out_what_it_names(folder: Path) -> None:
    filtered(folder)
    rules = load(folder)
    assert met(rules) == ["r1", "r2"]
    assert met(rules, C="backup") == ["r2"]
    assert rules.warnings == []


def test_a_filter_by_id_in_capitals_and_one_for_all_rules_of_a_log_source(folder: Path) -> None:
    filtered(folder, rules=f"['{IDS[2].upper()}']")
    assert met(load(folder), C="backup") == ["r1"]
    filtered(folder, rules="any")
    assert met(load(folder), C="backup") == []


@pytest.mark.parametrize("missing", ["owner", "reason", "expires"])
def test_our_filter_needs_owner_reason_and_expiry(folder: Path, missing: str) -> None:
    filtered(folder, **{missing: ""})
    ((name, line, message),) = faults(folder)
    assert (name, line) == ("filter.yml", 6)
    assert f"needs {missing}:" in message
    foreign = RuleSet.load([folder], today=TODAY)
    assert met(foreign, C="backup") == ["r2"], "a filter that others wrote works"
    assert [f"needs {missing}:" in warning.message for warning in foreign.warnings] == [True]


def test_an_expired_filter_no_longer_filters_and_says_so(folder: Path) -> None:
    filtered(folder, expires="2026-11-24")
    assert met(load(folder), C="backup") == ["r2"], "it holds on its last day"
    path = filtered(folder, expires="2026-11-23")
    rules = load(folder)
    assert met(rules, C="backup") == ["r1", "r2"]
    (warning,) = rules.warnings
    assert path.read_text(encoding="utf-8").splitlines()[warning.line - 1] == "expires: 2026-11-23"
    assert "expired on 2026-11-23" in warning.message
    assert "it-security" in warning.message


@pytest.mark.parametrize(
    ("condition", "mended"),
    [
        ("job", "not job"),
        ("job or other", "not (job or other)"),
        ("job and not other", "not (job and not other)"),
        ("not job and other", "not (job and other)"),
        ("1 of jo*", "not 1 of jo*"),
        ("not not job", "not (not job)"),
    ],
)
def test_an_inverted_filter_is_refused_with_the_mended_text(folder: Path, condition: str, mended: str) -> None:
    path = filtered(folder, condition=condition)
    ((_, line, message),) = faults(folder)
    assert "condition:" in path.read_text(encoding="utf-8").splitlines()[line - 1]
    assert f"write `condition: {mended}`" in message
    path.write_text(
        path.read_text(encoding="utf-8").replace(f"condition: {condition}", f"condition: {mended}"), "utf-8"
    )
    if "not not" not in condition:
        assert met(load(folder), C="backup", D="d") == (["r1", "r2"] if condition == "job and not other" else ["r2"])


@pytest.mark.parametrize("condition", ["not (job and not other)", "not job and not other", "not 1 of *", "(not job)"])
def test_what_a_filter_may_say(folder: Path, condition: str) -> None:
    filtered(folder, condition=f"'{condition}'" if condition.endswith("*") else condition)
    rules = load(folder)
    assert met(rules) == ["r1", "r2"]
    assert met(rules, C="backup") == ["r2"]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("[r11]", "did you mean 'r1' (rule 1)"),
        (f"[{IDS[2][:-1]}7]", "did you mean"),
        ("[Rule 2]", "did you mean 'r2' (rule 2)"),
        ("[counted]", "'counted' is a correlation"),
    ],
)
def test_a_filter_that_names_no_rule_is_refused(folder: Path, rules: str, said: str) -> None:
    correlation = "{type: event_count, rules: [r1], group-by: [A], timespan: 5m, condition: {gte: 3}}"
    write(folder / "c.yml", f"title: many\nid: {IDS[5]}\nname: counted\ncorrelation: {correlation}\n")
    filtered(folder, rules=rules)
    ((name, line, message),) = faults(folder)
    assert (name, line) == ("filter.yml", 8)
    assert said in message


def test_a_filter_on_a_refused_rule_adds_no_second_fault(folder: Path) -> None:
    write(folder / "r1.yml", RULE.format(n=1, id=IDS[1]).replace("level: high", "level: hihg"))
    filtered(folder, rules=f"[{IDS[1]}]")
    assert [(name, "hihg" in message) for name, _, message in faults(folder)] == [("r1.yml", True)]


def test_a_filter_without_a_rule_of_its_log_source_is_a_warning(folder: Path) -> None:
    filtered(folder, rules="any", logsource="{product: windows}")
    assert ["narrows no rule" in warning.message for warning in load(folder).warnings] == [True]


# Overlays


def overlay(folder: Path, text: str, *, target: str = f"id: {IDS[1]}") -> Path:
    return write(folder / "a_overlay.yml", f"{target}\n{textwrap.dedent(text).lstrip()}")


def test_an_overlay_replaces_what_it_names_and_nothing_else(folder: Path) -> None:
    before = load(folder)
    upstream = (folder / "r1.yml").read_bytes()
    overlay(folder, "override: replace\nlevel: low\nstatus: stable\ndetection: {selection: {B: other}}\n")
    rules = load(folder)
    rule = rules.rules[IDS[1]]
    assert (rule.level, rule.status, rule.tags, rule.falsepositives) == (
        "low",
        "stable",
        ("attack.t1059",),
        ("upstream",),
    )
    assert Path(rule.path).name == "r1.yml"
    assert rule.version != before.rules[IDS[1]].version
    assert met(rules, A="z", B="other") == ["r1"]
    assert met(rules) == ["r2"]
    assert (folder / "r1.yml").read_bytes() == upstream


def test_an_overlay_appends_values_items_and_selections(folder: Path) -> None:
    overlay(
        folder,
        """
        override: append
        falsepositives: [ours]
        tags: attack.t1105
        detection:
          selection: {"A|endswith": z, E: e}
          exception: {C: backup}
          condition: and not exception
        """,
        target="name: r1",
    )
    rules = load(folder)
    rule = rules.rules[IDS[1]]
    assert rule.falsepositives == ("upstream", "ours")
    assert rule.tags == ("attack.t1059", "attack.t1105")
    assert rule.attack == ("T1059", "T1105")
    assert met(rules, A="z", E="e") == ["r1"]
    assert met(rules, A="x", E="e") == ["r1", "r2"]
    assert met(rules, A="x") == ["r2"], "the item that was added must hold"
    assert met(rules, A="x", E="e", C="backup") == ["r2"]


def test_overlays_of_one_rule_apply_in_the_order_of_their_files(folder: Path) -> None:
    for name, level in (("b_first.yml", "low"), ("z_last.yml", "critical")):
        write(folder / name, f"id: {IDS[1]}\noverride: replace\nlevel: {level}\n")
    assert load(folder).rules[IDS[1]].level == "critical"


def test_an_overlay_tunes_a_correlation(folder: Path) -> None:
    correlation = "{type: event_count, rules: [r1], group-by: [A], timespan: 5m, condition: {gte: 3}}"
    write(folder / "c.yml", f"title: many\nid: {IDS[5]}\ncorrelation: {correlation}\n")
    overlay(folder, "override: replace\ncorrelation: {condition: {gte: 30}}\n", target=f"id: {IDS[5]}")
    found = load(folder).rules[IDS[5]].correlation
    assert found is not None
    assert (found.conditions, found.window_s, found.rules) == ((("gte", 30),), 300.0, (IDS[1],))


def test_overlays_apply_before_filters_and_from_the_cache_alike(folder: Path, tmp_path: Path) -> None:
    overlay(folder, "override: replace\ndetection: {selection: {B: other}}\n")
    filtered(folder)
    for _ in range(2):
        rules = load(folder, cache=tmp_path / "kept")
        assert met(rules, B="other") == ["r1"]
        assert met(rules, B="other", C="backup") == []
    write(folder / "r1.yml", RULE.format(n=1, id=IDS[1]).replace("level: high", "level: medium"))
    updated = load(folder, cache=tmp_path / "kept")
    assert updated.rules[IDS[1]].level == "medium", "an update of the rule comes through"
    assert met(updated, B="other") == ["r1"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("override: apend\nlevel: low\n", 2, "did you mean 'append'"),
        ("override: replace\nlevel: lwo\n", 3, "did you mean 'low'"),
        ("override: replace\nlevle: low\n", 3, "did you mean 'level'"),
        ("override: replace\nname: r7\nfilter: {}\n", 4, "cannot change 'filter'"),
        ("override: append\nlevel: low\n", 3, "use `override: replace`"),
        ("override: append\ndetection:\n  condition: other\n", 4, "as in `and not other`"),
        ("override: replace\ndetection:\n  selection:\n    A|endwith: z\n", 5, "did you mean 'endswith'"),
        ("override: replace\ndetection:\n  condition: selectoin\n", 4, "did you mean 'selection'"),
        ("override: replace\ncorrelation: {condition: {gte: 3}}\n", 3, "the rule has no correlation"),
        ("override: replace\n", 2, "changes nothing"),
    ],
)
def test_a_fault_of_an_overlay_has_its_place(folder: Path, text: str, line: int, said: str) -> None:
    overlay(folder, text)
    found = faults(folder)
    assert [(name, at) for name, at, _ in found] == [("a_overlay.yml", line)]
    assert said in found[0][2]
    kept = load(folder, strict=False)
    assert met(kept) == ["r1", "r2"], "the rule stays as it was"


def test_a_fault_that_was_in_the_rule_itself_names_the_rules_file(folder: Path) -> None:
    write(folder / "r1.yml", RULE.format(n=1, id=IDS[1]) + "    # end\n  rest: {A: x}\n")
    overlay(folder, "override: replace\ndetection: {condition: selection and nothing}\n")
    ((name, line, _),) = faults(folder)
    assert (name, line) == ("a_overlay.yml", 3)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (f"id: {IDS[1][:-2]}77", "did you mean"),
        ("name: r1x", "did you mean 'r1' (rule 1)"),
        ("name: Rule 2", "(rule 2)"),
    ],
)
def test_an_overlay_on_no_rule_is_refused(folder: Path, target: str, said: str) -> None:
    overlay(folder, "override: replace\nlevel: low\n", target=target)
    ((name, line, message),) = faults(folder)
    assert (name, line) == ("a_overlay.yml", 1)
    assert "unknown rule" in message
    assert said in message


def test_hidden_folders_are_passed_over(folder: Path) -> None:
    """As in a Kubernetes volume, which shows the files of a hidden folder through links."""
    data = folder / "..2026_11_24"
    data.mkdir()
    (folder / "r1.yml").rename(data / "r1.yml")
    (folder / "..data").symlink_to(data)
    (folder / "r1.yml").symlink_to(Path("..data") / "r1.yml")
    assert met(load(folder)) == ["r1", "r2"]


# Staging


@pytest.mark.parametrize(
    ("extra", "staged"),
    [
        ("status: staging", True),
        ("staging_until: 2026-11-24", True),
        ("staging_until: '2026-11-25'", True),
        ("staging_until: 2026-11-23", False),
    ],
)
def test_who_is_in_staging(folder: Path, extra: str, staged: bool) -> None:
    write(folder / "r1.yml", RULE.format(n=1, id=IDS[1]) + extra + "\n")
    rules = load(folder)
    assert [rules.rules[IDS[n]].staged for n in (1, 2)] == [staged, False]
    assert met(rules) == ["r1", "r2"]


def test_a_date_that_is_none_is_refused(folder: Path) -> None:
    write(folder / "r1.yml", RULE.format(n=1, id=IDS[1]) + "staging_until: soon\n")
    assert "'soon' is no date" in faults(folder)[0][2]


def test_the_day_on_which_dates_change_the_rule_set(folder: Path) -> None:
    assert load(folder).until == ""
    filtered(folder)
    assert load(folder).until == "2026-12-31"
    write(folder / "r1.yml", RULE.format(n=1, id=IDS[1]) + "staging_until: 2026-12-01\n")
    assert load(folder).until == "2026-12-01"


LINE = "Nov  3 10:{minute:02}:00 srv-1 usermod[7]: add 'eve' to group 'sudo'"
SUDO = """
title: added to sudo
id: {id}
level: {level}
{extra}
logsource: {{product: linux}}
detection:
  words: ["to group 'sudo'"]
  condition: words
"""


def scanned(tmp_path: Path, level: str, extra: str) -> tuple[Scan, list[bytes], list[Any]]:
    rules = tmp_path / "own"
    rules.mkdir(exist_ok=True)
    write(rules / "sudo.yml", SUDO.format(id=IDS[7], level=level, extra=extra))
    correlation = f"{{type: event_count, rules: ['{IDS[7]}'], timespan: 10m, condition: {{gte: 3}}, generate: true}}"
    write(rules / "many.yml", f"title: many\nid: {IDS[8]}\nlevel: high\n{extra}\ncorrelation: {correlation}\n")
    log = tmp_path / "auth.log"
    log.write_text("".join(LINE.format(minute=n) + "\n" for n in range(5)), encoding="utf-8")
    config = configs.parse(
        "bundled_rules: false\nrules: [own]\nsources:\n"
        "  - {use: file, tenant: town, source: auth, parser: linux_auth, year: 2026, path: auth.log, mode: replay}\n",
        "test",
        base=tmp_path,
    )
    raw, signals = roles.stages(config, future_s=float("inf"))
    alerts: list[bytes] = []
    scan = Scan(config, raw, signals, lambda _, document: alerts.append(document))
    scan.run(now=1_794_000_000.0)
    return scan, alerts, scan.tally.features


def test_a_staged_rule_is_counted_and_never_alerts(tmp_path: Path) -> None:
    scan, alerts, _ = scanned(tmp_path, "high", "")
    assert scan.tally.matches == {IDS[7]: 5, IDS[8]: 3}
    assert alerts
    assert scan.tally.observations
    staged, silent, _ = scanned(tmp_path, "high", "status: staging")
    assert staged.tally.matches == {IDS[7]: 5, IDS[8]: 3}
    assert silent == []
    assert not any(family.startswith("rule:") for family in staged.tally.observations), "no risk is lent"


# Drafting filters

SHADOWS = """
title: shadows deleted
id: {id}
level: high
logsource: {{product: windows, category: process_creation}}
detection:
  selection:
    Image|endswith: \\vssadmin.exe
    CommandLine|contains: delete shadows
  condition: selection
"""
NOISE = {"EventID": 1, "Channel": "Microsoft-Windows-Sysmon/Operational", "Provider_Name": "Microsoft-Windows-Sysmon"}


def created(n: int, **fields: Any) -> str:
    body = {
        **NOISE,
        "Image": "C:\\Windows\\System32\\vssadmin.exe",
        "CommandLine": f"vssadmin delete shadows /for={n}",
        "ParentImage": "C:\\Windows\\System32\\cmd.exe",
        "User": "STADT\\anna",
        "Computer": f"srv-{n}",
        "ProcessId": 4000 + n,
        "UtcTime": f"2026-11-03 10:{n:02}:00.000",
        "Hashes": "SHA256=" + "A" * 64,
        **fields,
    }
    return json.dumps(body)


BACKUP = "C:\\Program Files\\Backup [v2*]\\agent.exe"


def tune(folder: Path, false: list[str], true: list[str] | None, *more: str | Path) -> tuple[int, str, str]:
    write(folder / "shadows.yml", SHADOWS.format(id=IDS[6]))
    for name, lines in (("false", false), ("true", true)):
        (folder.parent / f"{name}.ndjson").write_text("\n".join(lines or []), encoding="utf-8")
    arguments = ["--false", folder.parent / "false.ndjson", "--owner", "it", "--reason", "backup", *more]
    if true is not None:
        arguments += ["--true", folder.parent / "true.ndjson"]
    done = CliRunner().invoke(app, ["rules", "tune", str(folder / "shadows.yml"), *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def drafted(folder: Path, false: list[str], true: list[str] | None) -> dict[str, Any]:
    code, out, err = tune(folder, false, true)
    assert code == 0, err
    body: dict[str, Any] = yaml.safe_load(out)
    known: dict[str, Any] = body["filter"]["known"]
    return known


def test_a_drafted_filter_stops_the_false_hits_and_keeps_the_true_ones(folder: Path) -> None:
    false = [created(n, ParentImage=BACKUP, User="NT AUTHORITY\\SYSTEM") for n in range(3)]
    true = [created(7), created(8, User="NT AUTHORITY\\SYSTEM")]
    out = folder / "filter.yml"
    code, _, err = tune(folder, false, true, "--expires", "2999-01-31", "--out", out)
    assert code == 0, err
    assert "3 false hits stop, 2 true ones still hit" in err
    body = yaml.safe_load(out.read_text(encoding="utf-8"))
    assert (body["owner"], body["reason"], body["expires"]) == ("it", "backup", date(2999, 1, 31))
    assert set(body["filter"]["known"]) == {"ParentImage", "User"}
    rules = load(folder)
    assert rules.warnings == []
    read = Forms(0.0).read
    found = [bool(rules.matches(read([line.encode()])[0][0])) for line in false + true]
    assert found == [False] * 3 + [True] * 2


def test_one_value_that_differs_is_enough(folder: Path) -> None:
    false = [created(1, ParentImage=BACKUP), created(1, ParentImage=BACKUP)]
    assert drafted(folder, false, [created(1, ProcessId=4001)])["ParentImage"] == escaped(BACKUP)


def test_fields_that_only_together_tell_them_apart(folder: Path) -> None:
    same = {"Computer": "srv-1", "CommandLine": "vssadmin delete shadows"}
    false = [created(n, ParentImage=BACKUP, User="SYSTEM", **same) for n in range(2)]
    true = [created(5, ParentImage=BACKUP, User="anna", **same), created(6, User="SYSTEM", **same)]
    assert set(drafted(folder, false, true)) == {"ParentImage", "User"}


def test_times_ids_and_hashes_only_where_nothing_else_helps(folder: Path) -> None:
    fixed = {"Computer": "srv-1", "CommandLine": "vssadmin delete shadows", "UtcTime": "2026-11-03 10:00:00.000"}
    false = [created(n, ProcessId=7, **fixed) for n in range(2)]
    true = [created(5, ProcessId=8, Hashes="SHA256=" + "B" * 64, **fixed)]
    code, out, err = tune(folder, false, true)
    assert code == 0
    assert set(yaml.safe_load(out)["filter"]["known"]) & {"Hashes", "ProcessId", "process.pid"}
    assert "changes often" in err
    known = drafted(folder, [created(n, ProcessId=7, Company="Acme", **fixed) for n in range(2)], true)
    assert "Company" in known
    assert not set(known) & {"Hashes", "ProcessId", "process.pid", "UtcTime"}


def test_a_shared_beginning_where_values_differ(folder: Path) -> None:
    false = [
        created(n, User=f"u{n}", CommandLine=f"C:\\tool\\run.exe --job {n} vssadmin delete shadows") for n in range(9)
    ]
    known = drafted(folder, false, [created(1)])
    assert known["CommandLine|startswith"] == "C:\\tool\\run.exe --job "
    assert "Computer" not in known


def test_a_few_values_where_there_is_no_single_one(folder: Path) -> None:
    false = [created(n, User=("backup", "veeam")[n % 2]) for n in range(6)]
    assert drafted(folder, false, [created(9)])["User"] == ["backup", "veeam"]


def test_no_filter_where_no_field_separates(folder: Path) -> None:
    code, out, err = tune(folder, [created(1), created(2)], [created(3)])
    assert (code, out) == (1, "")
    assert "no field separates them: 1 of 1 true hits (the first is number 1)" in err
    assert "User: STADT\\anna" in err


def test_without_true_hits_only_telling_fields_and_a_warning(folder: Path) -> None:
    code, out, err = tune(folder, [created(n, ParentImage=BACKUP) for n in range(3)], None)
    assert code == 0
    assert "nothing shows yet" in err
    assert set(yaml.safe_load(out)["filter"]["known"]) == {"ParentImage", "User"}
    bare = json.dumps({**NOISE, "Image": "C:\\vssadmin.exe", "CommandLine": "vssadmin delete shadows"})
    code, _, err = tune(folder, [bare, bare], None)
    assert code == 1
    assert "without true hits" in err


def test_lines_that_are_no_hit_are_told_and_alerts_give_their_evidence(folder: Path) -> None:
    alert = {"shield": {}, "evidence": [{"original": created(n, ParentImage=BACKUP)} for n in range(2)]}
    code, out, err = tune(folder, [json.dumps(alert), "{}", created(4, Image="C:\\cmd.exe")], [created(9)], "--json")
    assert code == 0, err
    assert "false.ndjson: 2 lines are no hit" in err
    found = json.loads(out)
    assert (found["proof"]["stopped"], found["proof"]["kept"]) == (2, 1)
    code, _, err = tune(folder, ["{}"], [created(9)])
    assert code == 1
    assert "there is no false hit" in err
    code, _, err = tune(folder, [created(1)], ["{}"])
    assert code == 1
    assert "nothing shows that true hits stay" in err


def test_the_positive_tests_of_the_rule_count_as_true_hits(folder: Path) -> None:
    false = [created(n, ParentImage=BACKUP, User="SYSTEM") for n in range(2)]
    example = {**NOISE, "event.dataset": "windows.sysmon", "event.code": "1", **json.loads(created(1, User="SYSTEM"))}
    extra = yaml.safe_dump({"tests": [{"name": "plain", "match": True, "event": example}]})
    rules = RuleSet.load([write(folder / "shadows.yml", SHADOWS.format(id=IDS[6]) + extra)])
    assert rules.matches(event_of(example)) == [IDS[6]]
    (folder.parent / "false.ndjson").write_text("\n".join(false), encoding="utf-8")
    arguments = ["--false", str(folder.parent / "false.ndjson"), "--owner", "it", "--reason", "backup"]
    done = CliRunner().invoke(app, ["rules", "tune", str(folder / "shadows.yml"), *arguments])
    assert done.exit_code == 0, done.stderr
    assert "1 true ones still hit (1 of them tests of the rule)" in done.stderr
    assert "ParentImage" in yaml.safe_load(done.stdout)["filter"]["known"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--expires", "2020-01-01"], "no date that is still to come"),
        (["--expires", "soon"], "no date that is still to come"),
        (["--reason", " "], "must say something"),
        (["--parser", "widnows"], "did you mean 'windows'"),
    ],
)
def test_errors_of_use(folder: Path, arguments: list[str], said: str) -> None:
    code, out, err = tune(folder, [created(1)], [created(2)], *arguments)
    assert (code, out) == (2, "")
    assert said in err


@cache
def one_rule() -> Rule:
    with tempfile.TemporaryDirectory() as folder:
        return RuleSet.load([write(Path(folder) / "r.yml", RULE.format(n=1, id=IDS[1]))]).rules[IDS[1]]


@given(text(alphabet="\\*?a B-'\":#\u00e4", min_size=1, max_size=12), text(alphabet="\\*?a B-'\":#", max_size=12))
@settings(max_examples=150, deadline=None)
def test_a_value_in_a_filter_means_itself_and_nothing_else(value: str, other: str) -> None:
    part = Part("C", "", (value,), 0, frozenset())
    made = document(one_rule(), [part], Signed("it", "test", date(2999, 1, 1)))
    rules = RuleSet([narrowed(one_rule(), made, TODAY)])
    event = {"event.dataset": "ecs.test", "A": "x", "B": "b"}
    assert rules.matches(event_of(event)) == [IDS[1]]
    assert rules.matches(event_of({**event, "C": value})) == []
    assert bool(rules.matches(event_of({**event, "C": other}))) == (other.lower() != value.lower())
