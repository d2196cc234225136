"""The command line as a user and a script see it: exit codes, one answer per line, help with examples, and advice on typos."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from shield.broker import EmbeddedConfig, Out, open_broker
from shield.cli import app, main
from shield.terminal import FAILURE, FINDINGS, OK, USAGE

ROOT = Path(__file__).parent.parent
SHADOW = (
    "Nov  3 10:00:01 web-1 sudo[100]: anna : TTY=pts/0 ; PWD=/home/anna ; USER=root ; COMMAND=/usr/bin/cat /etc/shadow"
)
RULE = """\
title: Backup deleted
id: 0b0f7b0e-5a3c-4c8e-9d55-0e3a4b1c7f21
status: test
description: Someone deleted a backup through sudo.
level: high
tags: [attack.impact, attack.t1490]
logsource: {{product: linux, service: sudo}}
detection:
  selection:
    process.command_line|contains|all: ['rm ', /backup/]
  condition: selection
tests:
  - name: a backup is deleted
    match: {match}
    source: linux_auth
    lines: ['Oct 20 10:00:01 web-1 sudo[100]: anna : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/rm -rf /backup/monday']
"""
COMMANDS_WITHOUT_EXAMPLE = {"demo", "parsers"}  # nothing has to be given


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The program in this process, errors turned into exit codes as in the installed one."""
    monkeypatch.setattr(sys, "argv", ["shield", *arguments])
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or OK, out, err


class Shield:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._parts = monkeypatch, capfd

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        return call(*self._parts, *map(str, arguments))


@pytest.fixture
def shield(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Shield:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Shield(monkeypatch, capfd)


def parsed(data: bytes, *arguments: str) -> list[Any]:
    command = [sys.executable, "-m", "shield", "parse", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=60)
    assert done.stdout.endswith(b"\n") or not data
    return [json.loads(line) for line in done.stdout.split(b"\n")[:-1]]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_parse_gives_one_object_per_line_in_order_whatever_the_line() -> None:
    lines = [
        SHADOW.encode(),
        b"",
        b"   ",
        b"no known format",
        b"{broken json",
        b"Nov  3 10:00:02 web-1 app: a\0b",
        b"Nov  3 10:00:03 web-1 app: \xff\xfe bytes",
        b"Nov  3 10:00:04 web-1 app: " + b"x" * 1_000_000,
        b"\0\0\0",
        SHADOW.encode() + b"\r",
    ]
    found = parsed(b"\n".join(lines), "--year", "2026", "--tenant", "town-a")
    assert len(found) == len(lines)
    for index in (0, 9):
        assert found[index]["process"]["command_line"] == "/usr/bin/cat /etc/shadow"
        assert found[index]["@timestamp"] == "2026-11-03T10:00:01.000Z"
        assert found[index]["organization"]["id"] == "town-a"
    for index in (1, 2, 8):
        assert found[index] == {"error": {"message": "blank line"}}
    assert found[3]["error"]["message"]
    assert found[6]["message"].endswith("bytes")
    assert len(found[7]["message"]) == 1_000_000
    assert all(isinstance(answer, dict) and answer for answer in found)


def test_parse_gives_several_events_of_one_line_together() -> None:
    record = (
        '<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System><Provider Name="P"/>'
        '<EventID>4625</EventID><TimeCreated SystemTime="2026-11-03T10:00:00Z"/><Channel>Security</Channel>'
        "<Computer>dc-1.musterstadt.example</Computer></System></Event>"
    )
    several, one = parsed(f"<Events>{record}{record}</Events>\n{record}\n".encode())
    assert list(several) == ["events"]
    assert [event["event"]["code"] for event in several["events"]] == ["4625", "4625"]
    assert one["event"]["code"] == "4625"


def test_parse_answers_nothing_with_nothing() -> None:
    assert parsed(b"") == []


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["parse", "--parser", "fortigat"], "fortigate"),
        (["parse", "--timezone", "Europe/Berln"], "Europe/Berlin"),
        (["check", "absent.yml"], "absent.yml"),
        (["scan", "absent.yml"], "absent.yml"),
        (["rules", "test", "absent"], "absent"),
        (["docs", "nothing"], "configuration"),
    ],
)
def test_wrong_use_is_2_and_names_what_is_valid(shield: Shield, arguments: list[str], advice: str) -> None:
    code, out, err = shield(*arguments)
    assert code == USAGE
    assert advice in err
    assert not out
    assert "Traceback" not in err


def test_unknown_commands_and_options_are_2(shield: Shield) -> None:
    assert shield("chekc")[0] == USAGE
    assert shield("check", "shield.yml", "--jsno")[0] == USAGE


def test_the_installed_program_knows_its_version_and_its_exit_codes(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "shield"
    assert subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.startswith(
        "shield 0"
    )
    bad = written(tmp_path / "bad.yml", "sourcs: []\n")
    done = subprocess.run([program, "check", bad], capture_output=True, text=True, check=False)
    assert done.returncode == USAGE
    assert done.stderr.startswith(f"{bad}:1: unknown key `sourcs`")
    assert "did you mean `sources`?" in done.stderr


def _help(*names: str) -> Result:
    return CliRunner().invoke(app, [*names, "--help"])


@pytest.mark.parametrize("name", [str(c.name or getattr(c.callback, "__name__", "")) for c in app.registered_commands])
def test_help_shows_an_example(name: str) -> None:
    shown = _help(name)
    assert shown.exit_code == OK
    if name not in COMMANDS_WITHOUT_EXAMPLE and name != "docs":
        assert f"Example: shield {name} " in " ".join(shown.output.split())


def test_help_of_rules_shows_an_example() -> None:
    assert "Example: shield rules test" in " ".join(_help("rules", "test").output.split())


def test_check_of_the_example(shield: Shield, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIELD_HTTP_TOKEN", "a-token-of-the-test")
    monkeypatch.setenv("SHIELD_WEBHOOK_SECRET", "whsec_" + "QUJD" * 11 + "QQ==")
    code, out, err = shield("check", ROOT / "shield.example.yml")
    assert (code, out) == (OK, "")
    assert "3 sources, 2 sinks" in err
    monkeypatch.delenv("SHIELD_WEBHOOK_SECRET")
    code, out, _ = shield("check", ROOT / "shield.example.yml", "--json")
    assert code == FINDINGS
    assert any("sink siem" in fault for fault in json.loads(out)["faults"])


def test_check_tells_all_faults_with_line_and_advice(shield: Shield, tmp_path: Path) -> None:
    text = """\
broker: {use: embeded}
sources:
  - {use: sylog, tenant: t, source: s, listen: ["udp://127.0.0.1:5514"]}
  - {use: file, tenant: t, source: f, pth: x.log}
sinks:
  - {use: webhok, name: w}
"""
    path = written(tmp_path / "bad.yml", text)
    code, out, err = shield("check", path)
    assert code == USAGE
    assert not out
    for place, word in ((1, "embedded"), (3, "`syslog`"), (4, "`path`"), (6, "`webhook`")):
        assert any(line.startswith(f"{path}:{place}: ") and word in line for line in err.splitlines()), (place, err)


def test_placeholders_and_the_rule_cache_come_from_the_configuration(shield: Shield, tmp_path: Path) -> None:
    rule = """\
title: Logon to a domain controller
id: 0b0f7b0e-5a3c-4c8e-9d55-0e3a4b1c7f99
logsource: {product: linux, service: sshd}
level: low
detection:
  s: {host.name|expand: '%dcs%'}
  condition: s
tests:
  - {name: it is one, match: true, event: {event.dataset: linux_auth.sshd, host.name: dc-2}}
"""
    written(tmp_path / "dc.yml", rule)
    path = written(tmp_path / "shield.yml", "bundled_rules: false\nrules: [dc.yml]\nrules_cache: kept\n")
    code, _, err = shield("check", path)
    assert code == USAGE
    assert "%dcs%" in err
    written(path, path.read_text() + "placeholders: {dcs: [dc-1, dc-2]}\n")
    code, out, err = shield("check", path)
    assert (code, out) == (OK, "")
    assert "1 rules, 1 rule tests, 0 faults" in err
    assert list((tmp_path / "kept").iterdir())


def test_rule_tests_pass_or_fail_with_the_file_named(shield: Shield, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    written(good, RULE.format(match="true"))
    assert shield("rules", "test", good)[0] == OK
    written(bad, RULE.format(match="false"))
    code, out, err = shield("rules", "test", bad)
    assert code == FINDINGS
    assert out.startswith(f"{bad}")
    assert "a backup is deleted" in out
    assert "0 of 1 tests" in err
    code, out, _ = shield("rules", "test", bad, "--json")
    assert code == FINDINGS
    assert json.loads(out)["passed"] is False
    written(bad, "title: no detection\n")
    code, _, err = shield("rules", "test", bad)
    assert code == USAGE
    assert "bad.yml" in err


def test_demo_logs_are_the_same_for_a_seed_and_count_exactly(shield: Shield, tmp_path: Path) -> None:
    made = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert shield("demo-logs", "--seed", str(seed), "--lines", "1500", "--out", tmp_path / name)[0] == OK
        made[name] = {p.name: p.read_bytes() for p in sorted((tmp_path / name).iterdir())}
    assert made["a"] == made["b"] != made["c"]
    lines = sum(data.count(b"\n") for name, data in made["a"].items() if name != "truth.jsonl")
    assert lines == 1500
    assert all(json.loads(line)["attack"] for line in made["a"]["truth.jsonl"].splitlines())


def _scan_config(folder: Path) -> Path:
    written(folder / "auth.log", f"{SHADOW}\nnonsense\n\n")
    source = "{use: file, mode: replay, tenant: t, source: auth, year: 2026, parser: linux_auth, path: '*.log'}"
    return written(folder / "scan.yml", f"sources: [{source}]\n")


def test_scan_answers_as_json_and_writes_alerts(shield: Shield, tmp_path: Path) -> None:
    config = _scan_config(tmp_path)
    code, out, _ = shield("scan", config, "--json", "--alerts", tmp_path / "alerts.ndjson")
    assert code == FINDINGS
    result = json.loads(out)
    assert (result["lines"], result["events"], result["unreadable"], result["blank"], result["alerts"]) == (
        3,
        1,
        1,
        1,
        1,
    )
    alert = json.loads((tmp_path / "alerts.ndjson").read_text(encoding="utf-8"))
    assert alert["evidence"][0]["original"] == SHADOW
    code, out, err = shield("scan", config, "--alerts", "-")
    assert code == FINDINGS
    assert json.loads(out) == alert
    assert "1 alerts" in err
    code, out, _ = shield("scan", config)
    assert "anna ran through sudo on web-1" in out
    written(tmp_path / "auth.log", SHADOW.replace("shadow", "hosts") + "\n")
    assert shield("scan", config)[0] == OK
    assert shield("scan", config, "--learn-until", "yesterday")[0] == USAGE
    assert {p.name for p in tmp_path.iterdir()} == {"auth.log", "scan.yml", "alerts.ndjson"}  # leaves nothing behind


def _system(folder: Path) -> tuple[Path, EmbeddedConfig]:
    config = written(folder / "shield.yml", "broker: {use: embedded, path: town.db}\n")
    return config, EmbeddedConfig(path=str(folder / "town.db"))


def test_alerts_shows_the_newest_revision_of_each(shield: Shield, tmp_path: Path) -> None:
    config, broker_config = _system(tmp_path)
    scan = _scan_config(tmp_path)
    shield("scan", scan, "--alerts", tmp_path / "alerts.ndjson")
    document = json.loads((tmp_path / "alerts.ndjson").read_text(encoding="utf-8"))
    broker = open_broker(broker_config, member="test")
    for revision, kind in ((1, "alert.created"), (2, "alert.updated")):
        document["shield"]["revision"] = revision
        value = json.dumps(document).encode()
        broker.commit(None, [Out("alerts", b"id-1", value, time.time(), {"kind": kind, "tenant": "t"})], [])
    broker.close()
    code, out, err = shield("alerts", "--config", config)
    assert code == OK
    assert out.count("\n") == 1
    assert out.endswith("(rev 2)\n")
    assert "1 alerts" in err
    assert [
        json.loads(line)["shield"]["revision"] for line in shield("alerts", "--json", "-c", config)[1].splitlines()
    ] == [1, 2]


def test_dead_letters_are_listed_and_fed_in_again(shield: Shield, tmp_path: Path) -> None:
    config, broker_config = _system(tmp_path)
    broker = open_broker(broker_config, member="test")
    headers = {
        "tenant": "t",
        "source": "s",
        "stage": "parse",
        "reason": "no parser recognises this line",
        "origin": "raw:0:0:0",
    }
    other = {**headers, "reason": "another fault"}
    lost = {"tenant": "t", "stage": "deliver", "reason": "gave up", "kind": "alert.created", "severity": "high"}
    broker.commit(
        None,
        [
            Out("dead", b"t", b"line \xff", 5.0, headers),
            Out("dead", b"t", b"line two", 6.0, other),
            Out("dead", b"id-1", b"{}", 7.0, lost),
        ],
        [],
    )
    code, out, err = shield("dead", "-c", config)
    assert code == FINDINGS
    assert len(out.splitlines()) == 3
    assert "3 dead letters" in err
    code, out, _ = shield("dead", "-c", config, "--reason", "NO PARSER", "--json")
    assert [json.loads(line)["body_base64"] for line in out.splitlines()] == ["bGluZSD/"]
    code, _, err = shield("dead", "-c", config, "--reason", "no parser", "--replay")
    assert (code, "1 lines and 0 alerts" in err) == (OK, True)
    code, _, err = shield("dead", "-c", config, "--reason", "gave up", "--replay")
    assert (code, "0 lines and 1 alerts" in err) == (OK, True)
    raw, alerts = list(broker.read("raw")), list(broker.read("alerts"))
    broker.close()
    assert [(r.value, r.headers["source"], r.headers["framing"]) for r in raw] == [(b"line \xff", "s", "single")]
    assert [(r.key, r.headers["kind"]) for r in alerts] == [(b"id-1", "alert.created")]


def test_a_system_without_findings_is_0(shield: Shield, tmp_path: Path) -> None:
    config, _ = _system(tmp_path)
    assert shield("alerts", "-c", config)[:2] == (OK, "")
    assert shield("dead", "-c", config)[:2] == (OK, "")


def test_a_failure_while_running_is_3(shield: Shield, tmp_path: Path) -> None:
    config = written(tmp_path / "shield.yml", "broker: {use: embedded, path: town.db}\n")
    (tmp_path / "town.db").mkdir()
    code, _, err = shield("alerts", "-c", config)
    assert code == FAILURE
    assert "Traceback" not in err


def test_replay_and_deliver_name_the_valid_ones(shield: Shield, tmp_path: Path) -> None:
    config = written(tmp_path / "shield.yml", "sinks: [{use: ndjson, name: file}, {use: ndjson, name: other}]\n")
    code, _, err = shield("deliver", config, "--sink", "fil")
    assert (code, "`file`" in err) == (USAGE, True)
    assert shield("deliver", config)[0] == USAGE
    log = written(tmp_path / "a.log", SHADOW + "\n")
    code, _, err = shield("replay", log, "--source", "s", "--tenant", "t", "--speed", "fast")
    assert (code, "max, real" in err) == (USAGE, True)
    assert shield("replay", log, "--source", "s", "--tenant", "t")[0] == OK
