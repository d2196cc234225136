"""Rules on events of the past: expectations that hold or fail, and what another rule set would change."""

import gzip
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from detectors.sigma import RuleFaults, RuleSet
from shield.broker import EmbeddedConfig, Out, open_broker
from shield.cli import app
from shield.past_events import Window, from_files
from shield.rule_trials import counted, expectations

IDS = [f"66666666-2222-4333-8444-{n:012}" for n in range(9)]
RULE = """title: {title}
id: {id}
level: {level}
logsource: {{product: linux}}
detection:
  joined: {{group.name: {group}}}
  condition: joined
"""
MANY = f"""title: many
id: {IDS[3]}
correlation: {{type: event_count, rules: ['{IDS[1]}'], group-by: [host.name], timespan: 10m, condition: {{gte: 3}}, generate: true}}
"""
LINE = "Nov  3 10:{minute:02}:00 {host} usermod[7]: add '{user}' to group '{group}'\n"


def lines(*minutes: int, group: str = "sudo", host: str = "srv-1", user: str = "eve") -> str:
    return "".join(LINE.format(minute=n, group=group, host=host, user=user) for n in minutes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "rules"
    path.mkdir()
    (path / "a.yml").write_text(RULE.format(title="sudo", id=IDS[1], group="sudo", level="high"), encoding="utf-8")
    (path / "b.yml").write_text(RULE.format(title="wheel", id=IDS[2], group="wheel", level="high"), encoding="utf-8")
    (path / "c.yml").write_text(MANY, encoding="utf-8")
    (tmp_path / "a.log").write_text(lines(0, 1, 2, 3, 4) + "no event\n", encoding="utf-8")
    (tmp_path / "b.log.gz").write_bytes(gzip.compress((lines(1, group="wheel") + lines(30, 31)).encode()))
    return path


def run(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["rules", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def backtest(folder: Path, wanted: str, *more: str | Path) -> tuple[int, str, str]:
    path = folder.parent / "expected.yml"
    path.write_text(wanted, encoding="utf-8")
    files = ("--events", folder.parent / "a.log", "--events", folder.parent / "b.log.gz")
    return run("backtest", folder, "--expectations", path, *files, *more)


def test_expectations_that_hold(folder: Path) -> None:
    code, out, err = backtest(
        folder,
        f"expectations:\n- {{rule: sudo, exactly: 7}}\n- {{rule: WHEEL, at_least: 1, at_most: 1}}\n- {{rule: {IDS[3]}, exactly: 1}}\n",
    )
    assert code == 0, out + err
    assert [row.split("\t") for row in out.splitlines()[1:]] == [
        ["ok", "sudo", "exactly 7", "7"],
        ["ok", "wheel", "at least 1", "1"],
        ["ok", "wheel", "at most 1", "1"],
        ["ok", "many", "exactly 1", "1"],
    ]
    assert "4 of 4 expectations hold over 8 events" in err


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("exactly: 6", 7), ("exactly: 8", 7), ("at_least: 8", 7), ("at_most: 6", 7)],
)
def test_an_expectation_that_fails_is_told_with_its_line_and_as_junit(folder: Path, wanted: str, found: int) -> None:
    report = folder.parent / "report.xml"
    code, _, err = backtest(
        folder, f"expectations:\n- {{rule: wheel, exactly: 1}}\n- rule: sudo\n  {wanted}\n", "--junit", report
    )
    assert code == 1
    assert f"expected.yml:4: `sudo`: expected {wanted.replace('_', ' ').replace(':', '')}, found {found}" in err
    suite = ET.parse(report).getroot()[0]
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "2", "1")
    assert [[case.get("classname"), len(case)] for case in suite] == [["wheel", 0], ["sudo", 1]]
    assert suite[1][0].get("message", "").endswith(f"found {found}")


def test_junit_stays_xml_whatever_a_title_holds(folder: Path) -> None:
    title = '"<b> & \\u0001 \\U0001F600"'
    (folder / "a.yml").write_text(RULE.format(title=title, id=IDS[1], group="sudo", level="high"), encoding="utf-8")
    report = folder.parent / "report.xml"
    code, _, _ = backtest(folder, f"expectations: [{{rule: {IDS[1]}, exactly: 1}}]", "--junit", report)
    assert code == 1
    assert ET.parse(report).getroot()[0][0].get("classname") == "<b> & ? \U0001f600"


def test_hits_that_nobody_expected_can_fail(folder: Path) -> None:
    wanted = "expectations: [{rule: sudo, at_least: 1}, {rule: many, at_least: 1}]\n"
    assert backtest(folder, wanted)[0] == 0
    code, out, _ = backtest(folder, wanted + "unexpected: fail\n", "--json")
    assert code == 1
    (failed,) = [each for each in json.loads(out)["results"] if not each["passed"]]
    assert (failed["title"], failed["expected"], failed["hits"]) == ("wheel", "no hit", 1)


def test_a_window_of_time_and_no_event_at_all(folder: Path) -> None:
    wanted = "expectations: [{rule: sudo, exactly: 2}]\n"
    year = next(from_files([folder.parent / "a.log"], None, 1_794_000_000.0, Window(), lambda _: None)).events[0]
    assert year.timestamp == 1_793_700_000.0, "the fixture's lines are of 2026-11-03"
    assert backtest(folder, wanted, "--since", "2026-11-03T10:30:00Z")[0] == 0
    code, _, err = backtest(folder, "expectations: [{rule: sudo, at_most: 2}]\n", "--until", "2026-11-03T09:00:00Z")
    assert code == 1, "expectations that hold because nothing was read are no success"
    assert "over 0 events" in err


@pytest.mark.parametrize(
    ("wanted", "line", "said"),
    [
        ("expectations:\n- {rule: sudoo, exactly: 1}\n", 2, "did you mean 'sudo'"),
        ("expectations:\n- {rule: sudo, at_leat: 1}\n", 2, "did you mean 'at_least'"),
        ("expectations:\n- {rule: sudo}\n", 2, "needs exactly, at_least or at_most"),
        ("expectations:\n- {rule: sudo, exactly: many}\n", 2, "is no number of hits"),
        ("expectations:\n- {rule: sudo, exactly: -1}\n", 2, "is no number of hits"),
        ("expectations: []\nunexpected: no\n", 2, "neither allow nor fail"),
        ("expectation: []\n", 1, "did you mean 'expectations'"),
        ("- a\n", 1, "must be a map"),
        ("", 1, "one map is expected"),
    ],
)
def test_faults_of_expectations(folder: Path, wanted: str, line: int, said: str) -> None:
    path = folder.parent / "expected.yml"
    path.write_text(wanted, encoding="utf-8")
    with pytest.raises(RuleFaults) as refused:
        expectations(path, RuleSet.load([folder]))
    assert any(each.line == line and said in each.message for each in refused.value.faults), str(refused.value)


def test_files_are_merged_by_time_and_tenants_stay_apart(folder: Path) -> None:
    (folder.parent / "c.log").write_text(lines(5, 7), encoding="utf-8")
    (folder.parent / "d.log").write_text(lines(4, 6, 40), encoding="utf-8")
    rules = RuleSet.load([folder])
    files = [folder.parent / name for name in ("c.log", "d.log")]
    batches = list(from_files(files, None, 1_794_000_000.0, Window(), lambda _: None))
    assert [place.split("/")[-1] for batch in batches for place in batch.places] == [
        *("d.log:1", "c.log:1", "d.log:2", "c.log:2", "d.log:3")
    ]
    assert counted(rules, batches) == ({IDS[1]: 5, IDS[3]: 1}, 5)
    apart = [next(from_files([file], None, 1_794_000_000.0, Window(), lambda _: None)) for file in files]
    apart[0].tenant = "other"
    assert counted(rules, apart) == ({IDS[1]: 5}, 5), "never three of one tenant within ten minutes"


def test_events_of_the_raw_topic(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "shield.yml"
    config.write_text(
        "broker: {use: embedded, path: shield.db}\n"
        "sources:\n  - {use: syslog, listen: ['udp://127.0.0.1:5514'], tenant: town, source: auth, parser: linux_auth, year: 2026}\n",
        encoding="utf-8",
    )
    broker = open_broker(EmbeddedConfig(path=str(tmp_path / "shield.db")), member="sender")
    headers = {"tenant": "town", "source": "auth", "framing": "lines"}
    for arrival, minute in ((1_793_700_000.0, 0), (1_793_703_600.0, 1), (1_793_707_200.0, 2)):
        broker.commit(None, [Out("raw", b"town", lines(minute).encode(), arrival, headers)], [])
    broker.close()
    (tmp_path / "expected.yml").write_text("expectations: [{rule: sudo, exactly: 1}]", encoding="utf-8")
    arguments = ("backtest", folder, "--expectations", tmp_path / "expected.yml", "--events", config)
    assert run(*arguments)[0] == 1
    until = ("--since", "2026-11-03T10:30:00Z", "--until", "2026-11-03T11:30:00Z")
    assert run(*arguments, *until)[0] == 0
    assert run(*arguments, *until, "--tenant", "village")[0] == 1


# Differences


@pytest.fixture
def changed(folder: Path) -> Path:
    """Sudo narrowed to one host by a filter, wheel gone, a new rule."""
    path = folder.parent / "next"
    path.mkdir()
    for name in ("a.yml", "c.yml"):
        (path / name).write_bytes((folder / name).read_bytes())
    (path / "d.yml").write_text(RULE.format(title="adm", id=IDS[4], group="adm", level="high"), encoding="utf-8")
    (path / "filter.yml").write_text(
        f"title: build hosts\nowner: it\nreason: they do\nexpires: 2999-12-31\nlogsource: {{product: linux}}\n"
        f"filter: {{rules: ['{IDS[1]}'], build: {{host.name: build-1}}, condition: not build}}\n",
        encoding="utf-8",
    )
    (folder.parent / "on.log").write_text(
        lines(0, host="build-1", user="ci") + lines(1) + lines(2, group="wheel") + lines(3, 4, group="adm"),
        encoding="utf-8",
    )
    return path


def diff(old: Path, new: Path, *more: str | Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = run("diff", old, new, "--on", old.parent / "on.log", "--json", *more)
    return code, json.loads(out)


def test_what_a_change_would_do(folder: Path, changed: Path) -> None:
    code, found = diff(folder, changed)
    assert code == 1
    by_title = {each["title"]: each for each in found["rules"]}
    keys = ("change", "hits_old", "hits_new", "appeared", "vanished", "alerts_old", "alerts_new")
    assert {title: tuple(each[key] for key in keys) for title, each in by_title.items()} == {
        "sudo": ("changed", 2, 1, 0, 1, 2, 1),
        "wheel": ("removed", 1, 0, 0, 1, 1, 0),
        "adm": ("added", 0, 2, 2, 0, 0, 1),
    }
    assert [by_title[title]["alerts_vanished"] for title in ("sudo", "wheel", "adm")] == [1, 1, 0]
    assert by_title["adm"]["alerts_appeared"] == 1
    ((place, line),) = by_title["sudo"]["vanished_examples"]
    assert place.endswith("on.log:1")
    assert "build-1" in line
    assert len(by_title["adm"]["appeared_examples"]) == 2
    assert found["events"] == 5
    assert min(found["cpu_us_old"], found["cpu_us_new"]) > 0


def test_the_table_for_people(folder: Path, changed: Path) -> None:
    code, out, err = run("diff", folder, changed, "--on", folder.parent / "on.log")
    assert code == 1
    rows = [row.split("\t") for row in out.splitlines()]
    assert ["sudo", "high", "changed", "2 > 1", "0", "1", "2 > 1", "0", "1"] in rows
    assert "2 hits appear, 2 vanish; 1 alerts appear, 2 vanish" in err
    (changed / "e.yml").write_text(RULE.format(title="silent", id=IDS[5], group="none", level="high"), encoding="utf-8")
    _, out, err = run("diff", folder, changed, "--on", folder.parent / "on.log")
    assert "silent" not in out
    assert "1 more rules changed" in err


def test_no_difference(folder: Path, changed: Path) -> None:
    code, found = diff(folder, folder)
    assert code == 0
    assert {each["change"] for each in found["rules"]} == {"same"}
    only = changed.parent / "tuning"
    only.mkdir()
    (changed / "filter.yml").rename(only / "filter.yml")
    empty = changed.parent / "none"
    empty.mkdir()
    code, found = diff(empty, only, "--both", folder)
    assert code == 1
    assert [(each["title"], each["vanished"]) for each in found["rules"] if each["vanished"]] == [("sudo", 1)]
