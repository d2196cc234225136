"""`shield rules`: the bare engine over streams, reviewing, explaining, coverage and figures, as a user and a script see them."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from connectors.events import Event
from detectors.sigma import RuleSet
from detectors.sigma.documents import documents
from detectors.sigma.explanation import Clause, explain
from detectors.sigma.measured import Measured
from shield import config as configs
from shield import verdicts
from shield.broker import EmbeddedConfig, Out, open_broker
from shield.cli import app, main
from shield.keyed import TenantStore
from shield.models import signing_key
from shield.rule_coverage import COVERED, NEVER, NO_FIELD, NO_SOURCE, PERHAPS, PLATFORM, coverage, deliveries, kept
from shield.rule_matching import Forms, LogSource, Matcher, flat, log_source
from shield.rule_stats import dispositions
from shield.terminal import FINDINGS, OK, USAGE

ROOT = Path(__file__).parent.parent
SIGMA = ROOT.parent / "shared" / "data" / "sigma"
NOW_S = 1_795_521_600.0
IDS = [f"{n:08d}-0000-4000-8000-000000000000" for n in range(10)]
COMMANDS = ("test", "match", "lint", "explain", "coverage", "stats")


def rule(number: int, detection: str, logsource: str = "{category: test}", **more: str) -> str:
    extra = "".join(f"{key}: {value}\n" for key, value in more.items())
    return f"""\
title: Rule {number}
id: {IDS[number]}
status: test
description: Something happened.
level: low
falsepositives: [none known]
tags: [attack.execution, attack.t1059]
{extra}logsource: {logsource}
detection: {detection}
"""


def written(path: Path, *documents: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(documents), encoding="utf-8")
    return path


def loaded(path: Path, *documents: str) -> RuleSet:
    return RuleSet.load([written(path, *documents)])


class Shield:
    """The program in this process, errors turned into exit codes as in the installed one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._patch, self._captured = monkeypatch, capfd

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        self._patch.setattr(sys, "argv", ["shield", "rules", *map(str, arguments)])
        self._captured.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._captured.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or OK, out, err

    def pairs(self, *arguments: str | Path) -> list[tuple[int, str]]:
        code, out, _ = self("match", *arguments)
        assert code == OK
        return [(found["event"], found["rule"]) for found in map(json.loads, out.splitlines())]


@pytest.fixture
def shield(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Shield:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Shield(monkeypatch, capfd)


def events_file(path: Path, *lines: Any) -> Path:
    made = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(made) + b"\n")
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name: str) -> None:
    shown = CliRunner().invoke(app, ["rules", name, "--help"])
    assert shown.exit_code == OK
    assert f"Example: shield rules {name} " in " ".join(shown.output.split())


# match

SYSMON = "Microsoft-Windows-Sysmon/Operational"
IMAGE, LINE = "C:\\Programme\\Amt\\copy.exe", 'copy.exe "alle Akten"'
XML_HEAD = (
    '<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System><Provider Name="{provider}"/>'
    '<EventID>{number}</EventID><TimeCreated SystemTime="2026-11-20T09:00:00.000Z"/><Channel>{channel}</Channel>'
    "<Computer>pc-7</Computer></System><EventData>"
)
FORMS: dict[str, Any] = {
    "flat": {"EventID": 1, "Channel": SYSMON, "Image": IMAGE, "CommandLine": LINE, "Hostname": "pc-7"},
    "channel in capitals": {"EventID": 1, "Channel": SYSMON.upper(), "Image": IMAGE, "CommandLine": LINE},
    "winlogbeat": {
        "@timestamp": "2026-11-20T09:00:00Z",
        "winlog": {
            "channel": SYSMON,
            "event_id": 1,
            "event_data": {"Image": IMAGE, "CommandLine": LINE},
            "provider_name": "Microsoft-Windows-Sysmon",
        },
    },
    "winlogbeat with dots": {
        "winlog.channel": SYSMON,
        "winlog.event_id": 1,
        "winlog.event_data.Image": IMAGE,
        "winlog.event_data.CommandLine": LINE,
    },
    "winlogbeat 6": {"log_name": SYSMON, "event_id": 1, "event_data": {"Image": IMAGE, "CommandLine": LINE}},
    "EVTX": {
        "Event": {"System": {"EventID": 1, "Channel": SYSMON}, "EventData": {"Image": IMAGE, "CommandLine": LINE}}
    },
    "evtx_dump": {
        "Event": {
            "#attributes": {"xmlns": "http://schemas.microsoft.com/win/2004/08/events/event"},
            "System": {
                "EventID": {"#attributes": {"Qualifiers": 0}, "#text": 1},
                "Channel": SYSMON,
                "Provider": {"#attributes": {"Name": "Microsoft-Windows-Sysmon"}},
                "TimeCreated": {"#attributes": {"SystemTime": "2026-11-20T09:00:00.000Z"}},
            },
            "EventData": {
                "Data": [
                    {"#attributes": {"Name": "Image"}, "#text": IMAGE},
                    {"#attributes": {"Name": "CommandLine"}, "#text": LINE},
                ]
            },
        }
    },
    "XML": (
        XML_HEAD.format(provider="Microsoft-Windows-Sysmon", number=1, channel=SYSMON)
        + f'<Data Name="Image">{IMAGE}</Data><Data Name="CommandLine">{LINE}</Data></EventData></Event>'
    ).encode(),
    "4688": {"EventID": 4688, "Channel": "security", "NewProcessName": IMAGE, "CommandLine": LINE},
    "4688 as text": {
        "EventID": "4688",
        "Channel": "Security",
        "NewProcessName": IMAGE,
        "ProcessCommandLine": LINE,
        "SubjectUserName": "anna",
    },
    "Sigma fields": {"Image": IMAGE, "CommandLine": LINE},
}
PROCESS = rule(
    1,
    "{s: {Image|endswith: '\\COPY.exe', CommandLine|contains: 'Alle akten'}, condition: s}",
    "{product: windows, category: process_creation}",
)


def test_every_form_of_an_event_is_read(shield: Shield, tmp_path: Path) -> None:
    rules = written(tmp_path / "rules.yml", PROCESS)
    found = shield.pairs(rules, "--events", events_file(tmp_path / "events", *FORMS.values()))
    assert [list(FORMS)[number] for number, _ in found] == list(FORMS)
    other = {**FORMS["flat"], "EventID": 7}  # an image load
    assert shield.pairs(rules, "--events", events_file(tmp_path / "events", other)) == []


def test_compressed_files_and_lines_longer_than_a_read(shield: Shield, tmp_path: Path) -> None:
    rules = written(tmp_path / "rules.yml", PROCESS)
    long = {**FORMS["flat"], "filler": "x" * 2_500_000}
    plain = events_file(tmp_path / "events", long, {}, long)
    (tmp_path / "events.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert shield.pairs(rules, "--events", plain) == [(0, IDS[1]), (2, IDS[1])]
    assert shield.pairs(rules, "--events", tmp_path / "events.gz") == [(0, IDS[1]), (2, IDS[1])]


def test_parent_blanks_in_names_and_unnamed_data(shield: Shield, tmp_path: Path) -> None:
    rules = written(
        tmp_path / "rules.yml",
        rule(1, "{s: {ParentImage|endswith: '\\parent.exe'}, condition: s}", "{category: process_creation}"),
        rule(2, "{s: {ThreatName: Some.Virus}, condition: s}", "{product: windows, service: windefend}"),
        rule(3, "{s: {Data|contains: HostVersion}, condition: s}", "{product: windows}"),
    )
    defender = "Microsoft-Windows-Windows Defender/Operational"
    unnamed = XML_HEAD.format(provider="PowerShell", number=400, channel="Windows PowerShell")
    events = events_file(
        tmp_path / "events",
        {"EventID": 4688, "Channel": "Security", "NewProcessName": "C:\\a.exe", "ParentProcessName": "C:\\Parent.exe"},
        {"Event": {"System": {"EventID": 1116, "Channel": defender}, "EventData": {"Threat Name": "Some.Virus"}}},
        (unnamed + "<Data>Available</Data><Data>HostVersion=2.0</Data></EventData></Event>").encode(),
        {"Event": {"System": {"EventID": 400, "Channel": "x"}, "EventData": {"Data": ["a", "HostVersion=2"]}}},
    )
    assert shield.pairs(rules, "--events", events) == [(0, IDS[1]), (1, IDS[2]), (2, IDS[3]), (3, IDS[3])]


def test_ecs_is_routed_by_what_it_says(shield: Shield, tmp_path: Path) -> None:
    rules = written(
        tmp_path / "rules.yml",
        rule(1, "{s: {user.name: anna}, condition: s}", "{product: portal}"),
        rule(2, "{s: {user.name: anna}, condition: s}", "{product: elsewhere}"),
    )
    named = {"event": {"dataset": "portal.log"}, "user": {"name": "Anna"}}
    events = events_file(tmp_path / "events", named, {"event.module": "portal", "user.name": "anna"})
    assert shield.pairs(rules, "--events", events) == [(0, IDS[1]), (1, IDS[1])]


def test_lines_are_counted_and_a_refused_rule_stops_no_other(shield: Shield, tmp_path: Path) -> None:
    rules = written(
        tmp_path / "rules.yml",
        rule(2, "{s: {a: x}, condition: s}"),
        rule(3, "{s: {a|contian: x}, condition: s}"),
        rule(1, "{s: {a|startswith: x}, condition: s}"),
    )
    lines = [b"", {"a": "x"}, b"no event", b"   ", b'{"a": "xy"', {"a": ["q", "X"]}, b"[1]"]
    code, out, err = shield(
        "match", rules, "--events", events_file(tmp_path / "e", *lines), "--logsource", "category=test"
    )
    assert code == OK
    assert out.splitlines() == [
        f'{{"event": {number}, "rule": "{identity}"}}'
        for number, identity in ((1, IDS[1]), (1, IDS[2]), (4, IDS[1]), (5, IDS[1]), (5, IDS[2]))
    ]
    assert f"{rules}:" in err
    assert "'contian'; did you mean 'contains'?" in err
    assert "2 of 7 lines could not be read" in err


def test_without_a_rule_there_is_nothing_to_run(shield: Shield, tmp_path: Path) -> None:
    events = events_file(tmp_path / "events", {})
    bad = written(tmp_path / "bad.yml", rule(1, "{s: {a|foo: x}, condition: s}"))
    assert shield("match", bad, "--events", events)[0] == FINDINGS
    assert shield("match", tmp_path / "absent.yml", "--events", events)[0] == USAGE


def test_stated_source_replaces_routing(shield: Shield, tmp_path: Path) -> None:
    rules = written(
        tmp_path / "rules.yml",
        rule(1, "{s: {CommandLine|contains: akten}, condition: s}", "{product: windows, category: image_load}"),
        rule(2, "{s: {CommandLine|contains: akten}, condition: s}", "{product: windows}"),
        rule(3, "{s: {CommandLine|contains: akten}, condition: s}", "{product: linux}"),
        rule(4, "{keywords: [akten], condition: keywords}", "{service: sysmon}"),
    )
    events = events_file(tmp_path / "events", FORMS["flat"])
    assert [r for _, r in shield.pairs(rules, "--events", events)] == [IDS[2], IDS[4]]
    for stated, expected in (
        ("product=windows", [1, 2, 4]),
        ("product=Windows, category=process_creation", [2, 4]),
        ("category=image_load", [1, 2, 3, 4]),
        ("product=linux", [3, 4]),
    ):
        found = shield.pairs(rules, "--events", events, "--logsource", stated)
        assert [r for _, r in found] == [IDS[n] for n in expected], stated
    strange = shield("match", rules, "--events", events, "--logsource", "product=os2,service=x")
    assert "no rule is of the log source" in strange[2]
    code, _, err = shield("match", rules, "--events", events, "--logsource", "produkt=windows")
    assert code == USAGE
    assert "product=NAME" in err


def test_event_without_a_source_meets_rules_that_read_its_fields(shield: Shield, tmp_path: Path) -> None:
    rules = written(
        tmp_path / "rules.yml",
        rule(1, "{s: {a: x}, condition: s}"),
        rule(2, "{s: {b: x}, condition: not s}"),
        rule(3, "{keywords: [x], condition: keywords}"),
    )
    events = events_file(tmp_path / "events", {"a": "x"}, {})
    assert shield.pairs(rules, "--events", events) == [(0, IDS[1])]
    stated = shield.pairs(rules, "--events", events, "--logsource", "category=test")
    assert stated == [(0, IDS[1]), (0, IDS[2]), (0, IDS[3]), (1, IDS[2])]


@pytest.mark.parametrize(
    ("condition", "body", "expected"),
    [
        ("{source.port: 443}", {"source.port": "443"}, True),
        ("{source.port: 443}", {"source": {"port": 443}}, True),
        ("{source.port: 443}", {"source.port": "0443"}, False),
        ("{source.port: '0443'}", {"source.port": "0443"}, True),
        ("{process.pid|startswith: '0x'}", {"process.pid": "0x1f"}, True),
        ("{event.category: process}", {"event.category": "Process"}, True),
        ("{event.category: proc}", {"event.category": "process"}, False),
        ("{event.code: 12}", {"event": {"code": 12}}, True),
        ("{message: ''}", {"message": ""}, True),
        ("{message: ''}", {"message": None}, False),
        ("{message: null}", {}, True),
        ("{user.name: b}", {"user.name": ["a", "B"]}, True),
        ("{a.b: 5}", {"a": {"b": 5}}, True),
        ("{a.b: 5}", {"a": [{"b": 4}, {"b": 5}]}, True),
        ("{a.b: 5}", {"a": {"b": "05"}}, False),
        ("{a|exists: true}", {"a": None}, True),
        ("{'@timestamp|hour': 9}", {"time": "2026-11-20T09:30:00Z"}, True),
        ("{'@timestamp|hour': 9}", {"time": "2026-11-20T10:30:00Z"}, False),
    ],
)
def test_flat_fields_are_taken_as_they_are(
    condition: str, body: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    rules = loaded(tmp_path / "rules.yml", rule(1, f"{{s: {condition}, condition: s}}"))
    matcher = Matcher(rules, LogSource(category="test"), TenantStore("t"))
    assert bool(matcher.matches(flat(body, NOW_S))) is expected


def test_correlation_is_told_with_the_event_that_completes_it(shield: Shield, tmp_path: Path) -> None:
    burst = """\
title: Three in a minute
id: {0}
correlation: {{type: event_count, rules: [{1}], group-by: [ip], timespan: 1m, condition: {{gte: 3}}}}
"""
    rules = written(
        tmp_path / "rules.yml", rule(1, "{s: {action: failed}, condition: s}"), burst.format(IDS[5], IDS[1])
    )

    def failed(ip: str, second: int) -> dict[str, str]:
        return {"action": "failed", "ip": ip, "time": f"2026-11-20T09:{second // 60:02}:{second % 60:02}Z"}

    lines = [failed("192.0.2.1", 0), failed("192.0.2.1", 20), failed("192.0.2.2", 30), failed("192.0.2.1", 40)]
    lines += [failed("192.0.2.1", 41), failed("192.0.2.2", 200), failed("192.0.2.2", 210), failed("192.0.2.2", 220)]
    lines += [failed("192.0.2.1", 900), failed("192.0.2.1", 901), failed("192.0.2.1", 902)]
    lines.append({"action": "other", "ip": "192.0.2.1", "time": "2026-11-20T09:15:03Z"})
    events = events_file(tmp_path / "events", *lines)
    for arguments in ((), ("--logsource", "category=test")):
        found = shield.pairs(rules, "--events", events, *arguments)
        assert [number for number, identity in found if identity == IDS[5]] == [3, 7, 10]
        assert [number for number, identity in found if identity == IDS[1]] == list(range(11))


def test_a_bad_value_hides_no_event(shield: Shield, tmp_path: Path) -> None:
    rules = written(tmp_path / "rules.yml", PROCESS)
    head = json.dumps({**FORMS["flat"], "CommandLine": "alle akten"})[:-1] + ', "x": '
    bad = [
        '"\\ud800"',
        '"' + "a" * 3_000_000 + '"',
        "[" * 5_000 + "]" * 5_000,
        "1e999",
        "123456789012345678901234567890",
    ]
    lines = [(head + value + "}").encode() for value in bad] + [(head + '"').encode() + b'\xff\xfe"}']
    assert [n for n, _ in shield.pairs(rules, "--events", events_file(tmp_path / "events", *lines))] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


def test_stdin_is_a_stream_of_bytes(tmp_path: Path) -> None:
    rules = written(tmp_path / "rules.yml", PROCESS)
    lines = [json.dumps(FORMS["flat"]).encode()] * 3
    command = [sys.executable, "-m", "shield", "rules", "match", str(rules)]
    given = b"\r\n".join([*lines[:2], b"", lines[2]])
    done = subprocess.run(command, input=given, capture_output=True, check=True, timeout=60)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == [0, 1, 3]
    assert done.stderr == b""


def test_lines_can_be_read_by_any_parser(shield: Shield, tmp_path: Path) -> None:
    rules = written(
        tmp_path / "rules.yml", rule(1, "{s: {user.name: anna}, condition: s}", "{product: linux, service: sshd}")
    )
    line = b"Nov 20 09:00:01 web-1 sshd[7]: Failed password for anna from 192.0.2.7 port 40022 ssh2"
    events = events_file(tmp_path / "events", line)
    assert shield.pairs(rules, "--events", events) == []
    assert shield.pairs(rules, "--events", events, "--parser", "linux_auth") == [(0, IDS[1])]
    assert shield.pairs(rules, "--events", events, "--parser", "auto") == [(0, IDS[1])]
    assert "linux_auth" in shield("match", rules, "--events", events, "--parser", "linux_aut")[2]


def test_placeholders_are_given_by_name(shield: Shield, tmp_path: Path) -> None:
    rules = written(tmp_path / "rules.yml", rule(1, "{s: {host|expand: '%dcs%'}, condition: s}"))
    events = events_file(tmp_path / "events", {"host": "dc-2"})
    assert shield("match", rules, "--events", events)[0] == FINDINGS
    given = ("--placeholder", "dcs=dc-1", "--placeholder", "dcs=dc-2")
    assert shield.pairs(rules, "--events", events, *given) == [(0, IDS[1])]


def test_many_rules_are_kept_for_the_next_call(shield: Shield, tmp_path: Path) -> None:
    for number in range(201):
        text = PROCESS.replace(IDS[1], f"00000000-0000-4000-8000-{number:012d}").replace("akten", f"{number} akten")
        written(tmp_path / "rules" / f"{number}.yml", text)
    events = events_file(tmp_path / "events", {**FORMS["flat"], "CommandLine": "alle 77 akten"})
    first = shield.pairs(tmp_path / "rules", "--events", events)
    assert first == [(0, "00000000-0000-4000-8000-000000000077")]
    (kept_file,) = (tmp_path / "cache").rglob("*.msgpack")
    assert kept_file.stat().st_size > 10_000
    assert shield.pairs(tmp_path / "rules", "--events", events) == first


@pytest.mark.skipif(
    not SIGMA.is_dir() and os.environ.get("CI") != "true", reason="the public rules are not beside the repository"
)
def test_regression_data_of_the_public_rules(shield: Shield, tmp_path: Path) -> None:
    """As a user would: one line per recorded event, all rules of the cases at once."""
    lines: list[Any] = []
    cases: list[tuple[str, int, range]] = []
    rules: list[Path] = []
    for info in sorted((SIGMA / "regression_data").rglob("info.yml")):
        stated = yaml.safe_load(info.read_text(encoding="utf-8"))
        begin = len(lines)
        recordings = sorted(info.parent.glob("*.json"))
        if not recordings:
            continue
        for recording in recordings:
            text, at = recording.read_text(encoding="utf-8").strip(), 0
            while at < len(text):
                event, at = json.JSONDecoder().raw_decode(text, at)
                lines.append(event)
                at += len(text[at:]) - len(text[at:].lstrip())
        wanted = stated["regression_tests_info"][0].get("match_count", 1)
        cases.append((stated["rule_metadata"][0]["id"], wanted, range(begin, len(lines))))
        path = SIGMA / info.parent.relative_to(SIGMA / "regression_data").with_suffix(".yml")
        if not path.exists():  # renamed since
            path = next(each for each in path.parent.glob("*.yml") if f"id: {cases[-1][0]}" in each.read_text("utf-8"))
        rules.append(path)
    assert len(cases) > 100
    found = shield.pairs(*rules, "--events", events_file(tmp_path / "events", *lines))
    short = [
        (identity, wanted)
        for identity, wanted, of_case in cases
        if sum(number in of_case and hit == identity for number, hit in found) < wanted
    ]
    assert short == []


@pytest.mark.parametrize("text", ["", "windows", "product=", "=x", "vendor=x"])
def test_a_log_source_must_be_stated_plainly(text: str) -> None:
    with pytest.raises(ValueError, match="product"):
        log_source(text)


# lint


def messages(out: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for line in out.splitlines():
        _, number, rest = line.split(":", 2)
        found.setdefault(int(number), []).append(rest.strip())
    return found


def test_lint_tells_all_at_once_with_places(shield: Shield, tmp_path: Path) -> None:
    path = written(
        tmp_path / "rules.yml",
        """\
title: Bare
logsource: {category: test}
detection:
  used:
    a: 0123
    b: no
    c: '**'
    d|contains: ''
  idle: {a: x}
  _hidden: {a: x}
  condition: used and 1 of them
""",
        """\
title: Wrong
id: 00000002-0000-4000-8000-000000000000
logsource: {category: test}
detection:
  s: {a|contian: x}
  condition: s
""",
        rule(3, "{s: {a: x}, condition: s}"),
        rule(4, "{s: {a: x}, condition: s}"),
    )
    code, out, err = shield("lint", path)
    found = messages(out)
    assert code == FINDINGS
    assert found.pop(17)[0].startswith("error: unknown modifier 'contian'; did you mean 'contains'?")
    assert all(each.startswith("warning: ") for told in found.values() for each in told)
    bare = " ".join(found[1])
    for key in ("id", "level", "status", "description", "falsepositives", "ATT&CK tag"):
        assert f"there is no {key}" in bare
    assert "YAML reads 0123 as 83" in found[5][0]
    assert "YAML reads no as false" in found[6][0]
    assert "only a wildcard" in found[7][0]
    assert "is empty and in every value" in found[8][0]
    assert "'_hidden' is not used" in found[10][0]
    assert 9 not in found
    assert [number for number, told in found.items() if "finds the same as" in told[0]] == [30]
    assert "3 rules, 1 errors" in err


def test_lint_tells_of_a_doubled_id_even_where_the_rule_is_wrong_besides(shield: Shield, tmp_path: Path) -> None:
    path = written(
        tmp_path / "rules.yml",
        rule(1, "{s: {a: x}, condition: s}"),
        rule(1, "{s: {b: x}, condition: s}"),
        rule(1, "{s: {a|contian: x}, condition: s}"),
    )
    told = [line for line in shield("lint", path)[1].splitlines() if "already that of" in line]
    assert [line.split(": ")[0] + ": " + line.split(": ")[1] for line in told] == [
        f"{path}:12: error",
        f"{path}:22: warning",
    ]


def test_a_clean_rule_has_no_warning_and_strict_decides_over_others(shield: Shield, tmp_path: Path) -> None:
    clean = written(tmp_path / "clean.yml", rule(1, "{s: {a: x}, condition: s}"))
    assert shield("lint", clean, "--strict")[:2] == (OK, "")
    thin = written(tmp_path / "thin.yml", rule(1, "{s: {a: x}, t: {a: y}, condition: s}"))
    assert shield("lint", thin)[0] == OK
    code, out, _ = shield("lint", thin, "--strict", "--json")
    assert code == FINDINGS
    told = json.loads(out)
    assert (told["severity"], told["path"], told["rule"]) == ("warning", str(thin), IDS[1])
    assert "'t' is not used" in told["message"]


@pytest.mark.parametrize(
    ("detection", "logsource", "why"),
    [
        ("{a: {f: x}, b: {f|endswith: y}, condition: a and b}", "{category: test}", "no single value of f"),
        ("{a: {f: [x, z]}, b: {f: [y, w]}, condition: a and b}", "{category: test}", "no single value of f"),
        ("{a: {f: [x, yy]}, b: {f|endswith: y}, condition: a and b}", "{category: test}", None),
        ("{a: {f: [x, y]}, b: {f: y}, condition: a and not b}", "{category: test}", None),
        ("{a: {f: x}, condition: a and not a}", "{category: test}", "hold"),
        ("{a: {f: x}, b: [{f: x}, {g: y}], condition: a and not b}", "{category: test}", "excludes what it asks for"),
        ("{a: {f: x, g: y}, b: {f: x}, condition: a and not b}", "{category: test}", "hold"),
        ("{a: {f: null, g: x}, b: {f|contains: x}, condition: a and b}", "{category: test}", "missing"),
        ("{a: {f|exists: false}, b: {f|re: x}, condition: a and b}", "{category: test}", "missing"),
        ("{a: {f: null}, b: {f|contains: x}, condition: a or b}", "{category: test}", None),
        ("{a: {EventID: 4624}, condition: a}", "{product: windows, category: process_creation}", "1 or 4688"),
        ("{a: {EventID: 4688}, condition: a}", "{product: windows, category: process_creation}", None),
        ("{a: {EventID: 4624}, condition: a}", "{product: windows, service: security}", None),
        ("{a: {source.port: 22}, b: {source.port|gt: 1000}, condition: a and b}", "{category: test}", "source.port"),
        ("{a: {source.port: 2222}, b: {source.port|gt: 1000}, condition: a and b}", "{category: test}", None),
        ("{a: {f: x}, b: {f: y}, condition: (a and b) or (a and not a)}", "{category: test}", "no single value"),
        ("{a: {f: x}, b: {f: y}, condition: (a and b) or a}", "{category: test}", None),
    ],
)
def test_lint_knows_what_can_never_match(
    detection: str, logsource: str, why: str | None, shield: Shield, tmp_path: Path
) -> None:
    out = shield("lint", written(tmp_path / "rules.yml", rule(1, detection, logsource)))[1]
    assert ("can never match" in out) is (why is not None), out
    assert (why or "") in out


def test_our_own_rules_pass_review(shield: Shield) -> None:
    code, out, _ = shield("lint", ROOT / "rules" / "sigma", "--strict")
    assert (code, out) == (OK, "")


# explain


def explained(path: Path, text: str, event: Event, *, known: bool = False) -> Clause:
    (one,) = loaded(path, text).rules.values()
    (document,) = documents(path, path.read_bytes(), [])
    return explain(one, document, event, {}, known=known).condition


def leaves(clause: Clause) -> dict[str, Clause]:
    if not clause.clauses:
        return {clause.text: clause}
    return {text: leaf for inner in clause.clauses for text, leaf in leaves(inner).items()}


def test_explain_shows_the_condition_as_it_is_written(tmp_path: Path) -> None:
    text = rule(
        1,
        "{sel_a: {f|contains: [abc, xyz], g: 1}, sel_b: {h: q}, filter: {f|endswith: zz}, condition: 1 of sel_* and not filter}",
    )
    told = explained(tmp_path / "rules.yml", text, flat({"f": "1ABC2", "g": 1, "H": "q"}, NOW_S))
    assert (told.held, told.text) == (True, "all of these")
    one_of, negated = told.clauses
    assert (one_of.text, one_of.held, negated.text, negated.held) == ("1 of sel_*", True, "not", True)
    assert [(each.text, each.held) for each in one_of.clauses] == [("sel_a", True), ("sel_b", False)]
    assert negated.clauses[0].text == "filter"
    found = leaves(told)
    assert found["f contains 'abc'"].note == "found 'ABC' at 1"
    assert found["f contains 'xyz'"].held is False
    assert found["g is '1'"].value == 1
    assert found["h is 'q'"].note == "the event has no such field; near: H"


@pytest.mark.parametrize(
    ("condition", "body", "held", "note"),
    [
        ("{f|startswith: b}", {"f": "ab"}, False, "it is there, at 1, but not as the beginning"),
        ("{f: b}", {"f": "ab"}, False, "not as the whole value"),
        ("{f: b}", {"f": "b "}, False, "at 0"),
        ("{f|cased: b}", {"f": "B"}, False, "differs in case"),
        ("{f|gt: 5}", {"f": "many"}, False, "is no number"),
        ("{f|fieldref: g}", {"f": "a", "g": "b"}, False, "g is 'b'"),
        ("{f|re: 'b+c'}", {"f": "abbbcd"}, True, "found 'bbbc'"),
        ("{f: 'a*d'}", {"f": "ABCD"}, True, "found 'abcd'"),
        ("{f|cidr: 192.0.2.0/24}", {"f": "LOCAL"}, False, ""),
        ("{f: null}", {"g": 1}, True, ""),
        ("{f|exists: false}", {"f": 1}, False, ""),
        ("{f: ''}", {"f": None}, False, "is null"),
        ("{Image: x}", {"NewProcessName": "x"}, True, "read from NewProcessName"),
        ("{f|contains: b}", {"f": ["xx", "ABC"]}, True, "found 'B' at 1"),
    ],
)
def test_explain_says_what_decided(condition: str, body: dict[str, Any], held: bool, note: str, tmp_path: Path) -> None:
    told = explained(tmp_path / "r.yml", rule(1, f"{{s: {condition}, condition: s}}"), flat(body, NOW_S))
    (leaf,) = leaves(told).values()
    assert leaf.held is told.held is held
    assert note in leaf.note


def test_explain_shows_keywords_with_the_value_that_holds_them(tmp_path: Path) -> None:
    text = rule(1, "{k: [needle, '|absent'], condition: k}")
    told = explained(tmp_path / "r.yml", text, flat({"a": "hay", "b": "a NEEDLE here"}, NOW_S))
    assert [(each.held, each.value) for each in leaves(told).values()] == [(True, "a NEEDLE here"), (False, None)]


def test_explain_finds_rules_and_events(shield: Shield, tmp_path: Path) -> None:
    folder = written(
        tmp_path / "rules" / "one.yml", PROCESS, rule(2, "{s: {a: x}, condition: s}", name="second")
    ).parent
    event = json.dumps(FORMS["flat"])
    for named in (IDS[1], IDS[1].upper(), "Rule 1"):
        code, out, _ = shield("explain", named, event, "--rules", folder)
        assert (code, out.splitlines()[0]) == (OK, "Rule 1 matches")
    assert shield("explain", "second", '{"a": "y"}', "--rules", folder)[0] == FINDINGS
    code, _, err = shield("explain", "secund", event, "--rules", folder)
    assert (code, "did you mean `second`?" in err) == (USAGE, True)
    many = events_file(tmp_path / "events", {"a": "y"}, {"a": "x"})
    assert shield("explain", "second", many, "--rules", folder, "--line", "1")[0] == OK
    code, _, err = shield("explain", "second", many, "--rules", folder)
    assert (code, "first of 2 lines" in err) == (FINDINGS, True)
    laid_out = tmp_path / "event.json"
    laid_out.write_text(json.dumps(FORMS["EVTX"], indent=2))
    code, out, _ = shield("explain", folder / "one.yml", laid_out, "--json")
    first, second = map(json.loads, out.splitlines())
    assert (code, first["matches"], second["matches"], second["routed"]) == (OK, True, False, False)
    assert shield("explain", "second", "no such file", "--rules", folder)[0] == USAGE
    assert shield("explain", "second", "{", "--rules", folder)[0] == USAGE


def test_explain_says_when_the_event_is_of_another_source(shield: Shield, tmp_path: Path) -> None:
    path = written(tmp_path / "r.yml", PROCESS.replace("process_creation", "image_load"))
    code, out, _ = shield("explain", path, json.dumps(FORMS["flat"]))
    assert code == FINDINGS
    assert "the event is of another log source" in out
    assert f"Image ends with '\\copy.exe': '{IMAGE}'" in out
    assert "category process_creation" in out


def test_explain_shortens_long_lists_unless_told(shield: Shield, tmp_path: Path) -> None:
    path = written(
        tmp_path / "r.yml", rule(1, f"{{s: {{f: [{', '.join(f'v{n}' for n in range(30))}]}}, condition: s}}")
    )
    assert "22 more that do not hold" in shield("explain", path, '{"f": "x"}')[1]
    assert "f is 'v29'" in shield("explain", path, '{"f": "x"}', "--all")[1]


def test_explain_leaves_correlations_to_their_parts(shield: Shield, tmp_path: Path) -> None:
    above = f"title: Many\nid: {IDS[5]}\ncorrelation: {{type: event_count, rules: [{IDS[1]}], timespan: 1m, condition: {{gte: 2}}}}\n"
    folder = written(tmp_path / "rules" / "r.yml", rule(1, "{s: {a: x}, condition: s}"), above).parent
    code, _, err = shield("explain", IDS[5], "{}", "--rules", folder)
    assert (code, IDS[1] in err) == (USAGE, True)


def test_explain_shows_what_runs_where_a_filter_narrows(tmp_path: Path) -> None:
    text = rule(1, "{s: {a: x}, condition: s}")
    narrowing = f"title: Narrower\nlogsource: {{category: test}}\nfilter: {{rules: [{IDS[1]}], t: {{b: y}}, condition: not t}}\n"
    path = tmp_path / "rules.yml"
    (one,) = loaded(path, text, narrowing).rules.values()
    document = next(documents(path, path.read_bytes(), []))
    told = explain(one, document, flat({"a": "x", "b": "y"}, NOW_S), {}, known=False)
    assert told.matches is False
    assert "filters" in told.condition.note
    assert leaves(told.condition)["b is 'y'"].held is True


# coverage


def covered(tmp_path: Path, sources: Sequence[tuple[str, str]], *texts: str) -> dict[str, Any]:
    found = coverage(loaded(tmp_path / "rules.yml", *texts), sources)
    return {each.title: each for each in found}


def test_coverage_tells_why_a_rule_is_dead_and_what_would_help(tmp_path: Path) -> None:
    both = f"title: Both\nid: {IDS[6]}\ncorrelation: {{type: temporal, rules: [{IDS[1]}, {IDS[2]}], timespan: 1m}}\n"
    either = f"title: Either\nid: {IDS[7]}\ncorrelation: {{type: event_count, rules: [{IDS[1]}, {IDS[2]}], timespan: 1m, condition: {{gte: 2}}}}\n"
    found = covered(
        tmp_path,
        [("dc", "windows"), ("web", "nginx")],
        PROCESS,
        rule(2, "{s: {user.name: root}, condition: s}", "{product: linux, service: sshd}"),
        rule(3, "{s: {cs-cookie: x}, condition: s}", "{category: webserver}"),
        rule(4, "{s: {cs-cookie: x}, t: {c-uri|contains: x}, condition: s or t}", "{category: webserver}"),
        rule(5, "{s: {f: x}, t: {f: y}, condition: s and t}", "{product: windows}"),
        rule(8, "{s: {a: x}, condition: s}", "{product: nothing_of_ours}"),
        rule(9, "{s: {cs-cookie: x}, condition: not s}", "{category: webserver}"),
        both,
        either,
    )
    statuses = {title: each.status for title, each in found.items()}
    assert statuses == {
        "Rule 1": COVERED,
        "Rule 2": NO_SOURCE,
        "Rule 3": NO_FIELD,
        "Rule 4": COVERED,
        "Rule 5": NEVER,
        "Rule 8": NO_SOURCE,
        "Rule 9": COVERED,
        "Both": NO_SOURCE,
        "Either": COVERED,
    }
    assert "linux_auth" in found["Rule 2"].parsers
    assert found["Rule 3"].missing_fields == found["Rule 4"].missing_fields == ("cs-cookie",)
    assert "cs-cookie" in found["Rule 3"].reason
    assert "nginx" not in found["Rule 3"].parsers
    assert found["Rule 8"].parsers == ()
    assert "Rule 2" in found["Both"].reason


def test_coverage_is_open_where_events_name_themselves(tmp_path: Path) -> None:
    texts = rule(1, "{s: {a: x}, condition: s}", "{product: nothing_of_ours}"), PROCESS.replace(IDS[1], IDS[2])
    found = coverage(loaded(tmp_path / "rules.yml", *texts), [("shipper", "ecs"), ("dc", "windows")])
    assert [each.status for each in found] == [PERHAPS, COVERED]
    assert [each.status for each in coverage(loaded(tmp_path / "rules.yml", *texts), [("all", "auto")])] == [
        PERHAPS,
        COVERED,
    ]


def test_coverage_command_sums_up_by_technique(shield: Shield, tmp_path: Path) -> None:
    written(
        tmp_path / "rules" / "r.yml", PROCESS, rule(2, "{s: {a: x}, condition: s}", "{product: linux, service: sshd}")
    )
    config = written(
        tmp_path / "shield.yml",
        "bundled_rules: false\nrules: [rules]\n"
        "sources:\n- {use: file, tenant: t, source: dc, parser: windows, path: dc.ndjson}\n",
    )
    code, out, err = shield("coverage", config, "--navigator", tmp_path / "layer.json")
    assert code == OK
    assert "no source\tlow\tRule 2\tproduct linux, service sshd" in out
    assert "T1059\t1\t0\t1" in out
    assert "Rule 1\t" not in out
    assert "2 rules: 1 covered, 1 no source" in err
    layer = json.loads((tmp_path / "layer.json").read_text())
    assert layer["domain"] == "enterprise-attack"
    (technique,) = layer["techniques"]
    assert (technique["techniqueID"], technique["score"]) == ("T1059", 1)
    assert "(no source) Rule 2" in technique["comment"]
    assert shield("coverage", config, "--strict")[0] == FINDINGS
    told = json.loads(shield("coverage", config, "--all", "--json")[1])
    assert told["counts"] == {COVERED: 1, NO_SOURCE: 1}
    assert len(told["rules"]) == 2


def test_what_parsers_deliver_is_up_to_date() -> None:
    """When this fails: shield rules deliveries tests/golden > shield/deliveries.json"""
    known, real = kept(), deliveries(ROOT / "tests" / "golden")
    assert known.keys() == real.keys()
    for name in real.keys() - PLATFORM - {"syslog"}:  # whose kinds are named by channels and programs
        kinds = {each.dataset for each in real[name]}
        assert kinds <= {each.dataset for each in known[name]}, name


# stats


def test_stats_counts_what_is_hit_and_asked(shield: Shield, tmp_path: Path) -> None:
    rules = written(
        tmp_path / "rules.yml",
        rule(1, "{s: {Image|endswith: '\\copy.exe', User: anna}, condition: s}", "{product: windows}"),
        rule(2, "{s: {Image|endswith: '\\never.exe'}, condition: s}", "{product: windows}"),
        rule(3, "{s: {User: anna}, condition: not s}", "{product: windows}"),
    )
    hit = {**FORMS["flat"], "User": "Anna"}
    events = events_file(tmp_path / "events", *[hit] * 3, FORMS["flat"], {**FORMS["flat"], "Image": "C:\\x.exe"})
    code, out, err = shield("stats", "--rules", rules, "--events", events, "--json")
    told = json.loads(out)
    assert code == OK
    assert told["events"] == 5
    figures = {each["rule"]: (each["hits"], each["asked"]) for each in told["rules"]}
    assert figures[IDS[1]][0] == 3
    assert 3 <= figures[IDS[1]][1] <= 4
    assert figures[IDS[3]] == (2, 5)  # nothing is necessary for it: asked every time
    assert IDS[2] not in figures
    assert all(each["us_per_event"] > 0 and 0 < each["share"] <= 1 for each in told["rules"])
    assert "5 events, 5 hits" in err
    _, out, _ = shield("stats", "--rules", rules, "--events", events, "--top", "1")
    header, row = out.splitlines()
    assert header.split("\t")[:4] == ["rule", "level", "hits", "asked"]
    assert row.split("\t")[-1] == "-"


def test_stats_needs_rules_and_events(shield: Shield, tmp_path: Path) -> None:
    assert shield("stats")[0] == USAGE
    assert shield("stats", "--rules", tmp_path)[0] == USAGE


def test_measured_rules_find_the_same(tmp_path: Path) -> None:
    texts = [
        rule(1, "{s: {Image|endswith: '\\copy.exe'}, condition: s}", "{product: windows}"),
        rule(2, "{keywords: [akten], condition: keywords}", "{product: windows}"),
        rule(3, "{s: {EventID: 1}, t: {Image|contains: amt}, condition: s and not t}", "{product: windows}"),
        rule(4, "{s: {EventID: [1, 4688]}, condition: s}", "{product: windows, category: process_creation}"),
    ]
    rules = loaded(tmp_path / "r.yml", *texts)
    measured = Measured(list(rules.rules.values()))
    for events in Forms(NOW_S).read([json.dumps(form).encode() for form in FORMS.values() if isinstance(form, dict)]):
        for event in events:
            assert measured.matches(event) == rules.matches(event)
    assert measured.asked[IDS[2]] > 0
    assert set(measured.cost_us()) == set(measured.asked)


def test_stats_of_a_running_system(shield: Shield, tmp_path: Path) -> None:
    text = rule(1, "{s: {user.name: anna}, condition: s}", "{product: linux, service: sshd}")
    written(tmp_path / "rules" / "r.yml", text)
    config = written(
        tmp_path / "shield.yml",
        "bundled_rules: false\nrules: [rules]\nbroker: {use: embedded, path: town.db}\n"
        "sources:\n- {use: file, tenant: t, source: auth, parser: linux_auth, path: auth.log}\n",
    )
    line = "Nov 20 09:00:0{} web-1 sshd[7]: Failed password for anna from 192.0.2.7 port 40022 ssh2"
    (tmp_path / "auth.log").write_text(line.format(0) + "\n")
    told = json.loads(shield("stats", config, "--json")[1])  # nothing has run yet: the file of the source
    assert not (tmp_path / "town.db").exists()
    assert (told["events"], told["rules"][0]["hits"], told["rules"][0]["alerts"]) == (1, 1, 0)
    broker = open_broker(EmbeddedConfig(path=str(tmp_path / "town.db")), member="test")
    headers = {"tenant": "t", "source": "auth", "framing": "lines", "lines": "3"}
    alerts = [
        {"event": {"id": f"a{n}"}, "rule": {"id": IDS[1]}, "shield": {"disposition": word}}
        for n, word in enumerate(["false_positive_logic", "true_positive_impact", None, "false_positive_data"])
    ]
    outbox = [Out("raw", b"t", "\n".join(line.format(n) for n in range(3)).encode(), NOW_S, headers)]
    outbox += [Out("alerts", b"a", json.dumps(alert).encode(), NOW_S, {}) for alert in alerts]
    said: dict[str, Any] = {"tenant": "t", "revision": 1, "reason": "a test", "owner": "anna", "time": NOW_S}
    key = signing_key(configs.load(config))
    outbox += [
        verdicts.out(verdicts.Verdict(alert="a2", disposition=word, **said), key, NOW_S)
        for word in ("true_positive", "false_positive")
    ]
    outbox.append(verdicts.out(verdicts.Verdict(alert="a3", disposition="test", **said), b"another key", NOW_S))
    broker.commit(None, outbox, [])
    broker.close()
    told = json.loads(shield("stats", config, "--json")[1])
    (only,) = told["rules"]
    assert (told["events"], only["hits"], only["alerts"], only["decided"]) == (3, 3, 4, 4)
    assert only["false_share"] == pytest.approx(3 / 4)
    assert "75% of 4" in shield("stats", config)[1]


def test_the_last_word_on_an_alert_counts() -> None:
    alerts = [
        {"event": {"id": "a"}, "rule": {"id": IDS[1]}, "shield": {"disposition": None}},
        {"event": {"id": "b"}, "rule": {"id": IDS[1]}, "shield": {"disposition": "test"}},
        {"event": {"id": "c"}, "rule": None, "shield": {}},
    ]
    found = dispositions([json.dumps(each).encode() for each in alerts], {"b": "false_positive", "c": "test"})
    assert found == {IDS[1]: {"": 1, "false_positive": 1}}
