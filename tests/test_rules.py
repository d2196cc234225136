"""Our own rules: complete, tested by their own examples through the production path, and told apart from each other."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.events import Event
from connectors.parse import Reader
from detectors.sigma import RuleSet, rule_tests
from detectors.sigma.generate import checker
from detectors.sigma.loader import PLACEHOLDER
from detectors.sigma.logsource import sources
from detectors.sigma.rule_tests import event_of, hits, run_tests

ROOT = Path(__file__).parent.parent
SIGMA = ROOT.parent / "shared" / "data" / "sigma"
HAYABUSA = ROOT.parent / "shared" / "data" / "hayabusa-rules" / "hayabusa"
SPECIFICATION = ROOT.parent / "shared" / "data" / "sigma-specification"
SIGMA_FOLDERS = [SIGMA / name for name in ("rules", "rules-emerging-threats", "rules-threat-hunting")]


def shipped() -> RuleSet:
    return RuleSet.load([ROOT / "rules" / "sigma"])


RULES = shipped()
RESULTS = run_tests(RULES)


@pytest.mark.parametrize("result", RESULTS, ids=[f"{Path(r.path).stem}-{r.title}-{r.name}" for r in RESULTS])
def test_example(result: rule_tests.TestResult) -> None:
    assert result.passed, result.detail


@pytest.mark.parametrize("rule", RULES.rules.values(), ids=[rule.title for rule in RULES.rules.values()])
def test_rule_is_complete(rule: object) -> None:
    from detectors.sigma.loader import Rule

    assert isinstance(rule, Rule)
    assert {test["match"] for test in rule.tests} == {True, False}, "an example that matches and one that does not"
    assert any(re.fullmatch(r"T\d{4}(\.\d{3})?", attack) for attack in rule.attack)
    assert any(attack.startswith("TA") for attack in rule.attack)
    assert rule.falsepositives
    assert rule.description
    assert rule.title_de != rule.title
    if rule.alerts:
        assert set(rule.reason) == {"de", "en"}
        assert set(PLACEHOLDER.findall(rule.reason["de"])) == set(PLACEHOLDER.findall(rule.reason["en"]))


def test_titles_are_distinct() -> None:
    assert max(Counter(rule.title for rule in RULES.rules.values()).values()) == 1
    assert max(Counter(rule.title_de for rule in RULES.rules.values()).values()) == 1


def test_a_broken_rule_fails_its_example(tmp_path: Path) -> None:
    text = (ROOT / "rules" / "sigma" / "linux_ssh.yml").read_text(encoding="utf-8")
    path = tmp_path / "broken.yml"
    path.write_text(text.replace("event.outcome: failure", "event.outcome: unknown"), encoding="utf-8")
    assert not all(result.passed for result in run_tests(RuleSet.load([path])))


def public() -> None:
    """Skips where the public rules are not at hand, except in CI."""
    if not SIGMA.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SIGMA} is missing")
        pytest.skip(f"{SIGMA} is missing")


@cache
def sigmahq() -> RuleSet:
    """All public rules; two of them leave a list of hosts to us."""
    return RuleSet.load(SIGMA_FOLDERS, strict=False, expansions={"known_cdcs": ["dc-rathaus-1"]})


def events_of(lines: list[bytes]) -> list[Event]:
    return Reader("windows", "t", "s").read(lines, 1_793_491_200.0).events


def test_public_rules_load() -> None:
    public()
    rules = sigmahq()
    assert not rules.faults, "\n".join(map(str, rules.faults[:20]))
    assert len(rules.rules) > 3700
    assert len(rules.unindexed()) < 0.01 * len(rules.rules), "nearly every rule has a text that it cannot do without"
    unexpanded = RuleSet.load(SIGMA_FOLDERS[1:2], strict=False)
    assert [fault for fault in unexpanded.faults if "known_cdcs" in fault.message], "never matched literally"


def regression_cases() -> list[tuple[str, int, Path]]:
    """Rule, how many of the events it must hit at least, and the file of the events."""
    found = []
    for info in sorted((SIGMA / "regression_data").rglob("info.yml")):
        body = yaml.load(info.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        counts = [test.get("match_count", 1) for test in body.get("regression_tests_info", [])]
        for each in body.get("rule_metadata", []):
            found += [(str(each["id"]), max(counts, default=1), path) for path in info.parent.glob("*.json")]
    return found


def test_public_regression_events_hit() -> None:
    public()
    rules = sigmahq()
    cases = regression_cases()
    assert len(cases) >= 100
    missed = []
    for identity, wanted, path in cases:
        hit = sum(identity in rules.matches(event) for event in events_of(lines_of(path.read_bytes())))
        if hit < wanted:
            missed.append(f"{path.parent.name}: {hit} of {wanted}")
    assert not missed, "\n".join(missed)


# of which the event does not meet the rule as Sigma reads it, and rules in a syntax that Sigma gave up
HAYABUSA_DIFFERENCES = {
    "Sysmon_11_Info_FileCreated.yml": "takes a missing field for an empty one",
    "Sec_4625_Med_LogonFail_UserGuessing_Correlation.yml": "the event is among those that the rule's filter leaves out",
    "Sec_4625_Med_LogonFail_UserGuessing_Cnt_Deprecated.yml": "counts behind a pipe",
    "Sec_4625_Med_LogonFail_WrongPW_PW-Guessing_Cnt_Deprecated.yml": "counts behind a pipe",
}


@cache
def hayabusa() -> dict[str, list[dict[str, Any]]]:
    if not HAYABUSA.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{HAYABUSA} is missing")
        pytest.skip(f"{HAYABUSA} is missing")
    return {
        path.name: [body for body in yaml.safe_load_all(path.read_text(encoding="utf-8")) if body]
        for path in sorted(HAYABUSA.rglob("*.yml"))
    }


def test_hayabusa_events_meet_their_rules(tmp_path: Path) -> None:
    missed, pairs = [], 0
    for name, bodies in hayabusa().items():
        for body in bodies:
            body["id"] = str(body["id"]).zfill(36) if len(str(body["id"])) < 36 else body["id"]  # one lacks a digit
        (tmp_path / name).write_text(yaml.safe_dump_all(bodies, allow_unicode=True), encoding="utf-8")
    rules = RuleSet.load([tmp_path], strict=False)
    piped = {Path(fault.path).name for fault in rules.faults}
    assert piped == {name for name, why in HAYABUSA_DIFFERENCES.items() if "pipe" in why}
    for name, bodies in hayabusa().items():
        for body in bodies:
            if "sample-evtx" not in body or "detection" not in body:
                continue
            pairs += 1
            events = events_of([" ".join(body["sample-evtx"].split("\n")).encode()])
            if not any(body["id"] in rules.matches(event) for event in events):
                missed.append(name)
    assert pairs >= 60
    assert set(missed) == HAYABUSA_DIFFERENCES.keys()


def test_hayabusa_correlations_work(tmp_path: Path) -> None:
    """Guessing from one address: the rule's own event again and again, as often as the correlation wants."""
    name = "Sec_4625_Med_LogonFail_WrongPW_PW-Guessing_Correlation.yml"
    (tmp_path / name).write_text(yaml.safe_dump_all(hayabusa()[name], allow_unicode=True), encoding="utf-8")
    rules = RuleSet.load([tmp_path])
    (outer,) = [rule for rule in rules.rules.values() if rule.correlation is not None]
    assert outer.correlation is not None
    (inner,) = [body for body in hayabusa()[name] if "detection" in body]
    line = " ".join(inner["sample-evtx"].split("\n"))
    limit = int(dict(outer.correlation.conditions)["gte"]) - 1
    stamp = re.search(r"SystemTime=.(\S+?)[.]", line)
    assert stamp
    for count, wanted in ((limit + 1, True), (limit, False)):
        lines = [line.replace(stamp[1], stamp[1][:-2] + f"{second:02}").encode() for second in range(count)]
        assert (outer.id in hits(rules, events_of(lines), ["line"] * count)) is wanted, count
    loaded = [
        RuleSet.load([write(tmp_path / f"x-{n}", bodies)]) for n, bodies in hayabusa().items() if "_Correlation" in n
    ]
    assert len(loaded) == 3


def write(folder: Path, bodies: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "rules.yml").write_text(yaml.safe_dump_all(bodies, allow_unicode=True), encoding="utf-8")
    return folder


def specification() -> None:
    if not SPECIFICATION.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SPECIFICATION} is missing")
        pytest.skip(f"{SPECIFICATION} is missing")


def test_correlations_of_the_specification_load_and_fire(tmp_path: Path) -> None:
    """Each correlation of the specification's schema tests, with a base rule for every name that it mentions."""
    specification()
    loaded = 0
    for path in sorted((SPECIFICATION / "tests" / "schema" / "correlation").glob("*.yml")):
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
        spec = body["correlation"]
        bases = [base(name, number) for number, name in enumerate(spec["rules"])]
        rules = RuleSet.load([write(tmp_path / path.stem, [*bases, body])])
        (outer,) = [rule for rule in rules.rules.values() if rule.correlation is not None]
        loaded += 1
        limit = next((value for key, value in (spec.get("condition") or {}).items() if key in {"gt", "gte"}), 1)
        if spec["type"] == "value_percentile":
            continue  # the example asks for a share of programs, which are no numbers
        stamp = 1_793_491_200.0
        found = []
        for step in range(int(limit) + 1 if spec["type"] in {"event_count", "value_count"} else 1):
            for number in range(len(spec["rules"])):
                fields = dict.fromkeys(spec["group-by"], "x") | {"K": f"k{number}"}
                field = (spec.get("condition") or {}).get("field")
                if field:
                    fields[field] = f"v{step}" if spec["type"] == "value_count" else str(limit + 1)
                found.append(event_of({"event.dataset": "ecs.test", "@timestamp": stamp + step + number, **fields}))
        assert outer.id in hits(rules, found, ["line"] * len(found)), path.name
        assert outer.id not in hits(rules, found[:1], ["line"]) or len(found) == 1, path.name
    assert loaded >= 7


def test_chained_example_of_the_specification(tmp_path: Path) -> None:
    """Ten failures and then a success of one user; it is the one example of several documents."""
    specification()
    page = (SPECIFICATION / "specification" / "sigma-correlation-rules-specification.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```ya?ml\n(.*?)```", page, re.DOTALL) if "\n---\n" in block]
    (tmp_path / "chain.yml").write_text(example, encoding="utf-8")
    rules = RuleSet.load([tmp_path])
    outer = next(rule.id for rule in rules.rules.values() if rule.title.startswith("Correlation"))
    assert [rule.title for rule in rules.rules.values() if rule.alerts] == [rules.rules[outer].title]

    def logon(second: int, code: int, user: str = "h.klein") -> Event:
        stamp = 1_793_491_200.0 + second
        body = {"event.dataset": "windows.security", "event.code": code, "EventID": code, "User": user}
        return event_of({**body, "@timestamp": stamp})

    failures = [logon(second, 4625) for second in range(10)]
    for events, wanted in (
        ([*failures, logon(20, 4624)], True),
        ([*failures[:9], logon(20, 4624)], False),
        ([*failures, logon(20, 4624, "a.sommer")], False),
        ([logon(-5, 4624), *failures], False),
        ([*failures, logon(900, 4624)], False),
    ):
        assert (outer in hits(rules, events, ["line"] * len(events))) is wanted


def base(name: str, number: int) -> dict[str, Any]:
    named = {"id": name} if len(name) == 36 else {"name": name}
    detection = {"s": {"K": f"k{number}"}, "condition": "s"}
    return {"title": f"base {name}", **named, "logsource": {"product": "test"}, "detection": detection}


def test_examples_of_the_reference_implementation_load() -> None:
    specification()
    rules = RuleSet.load([SPECIFICATION / "pysigma_correlation"])
    kinds = [rule.correlation.type for rule in rules.rules.values() if rule.correlation is not None]
    assert sorted(kinds) == ["event_count", "temporal", "value_count"]


def test_index_and_single_rules_agree_on_recorded_attacks() -> None:
    """All public rules on events that they were written for: the index finds what each rule by itself finds."""
    public()
    rules = sigmahq()
    checked = 0
    for _, _, path in regression_cases()[::2]:
        for event in events_of(lines_of(path.read_bytes()))[:2]:
            found = rules.matches(event)
            told = sources(event.event_dataset, event.event_code, event.event_category)
            alone = [
                rule.id
                for rule in rules.rules.values()
                if rule.condition is not None
                and told.match(rule.product, rule.category, rule.service)
                and single(rule.id)(event)
            ]
            assert found == alone, path
            checked += 1
    assert checked > 50


@cache
def single(identity: str) -> Callable[[Event], bool]:
    condition = sigmahq().rules[identity].condition
    assert condition is not None
    return checker(condition)


def lines_of(content: bytes) -> list[bytes]:
    """One line per JSON document of a file that writes them one after the other over many lines."""
    text = content.decode("utf-8-sig").strip()
    found: list[bytes] = []
    place = 0
    while place < len(text):
        body, end = json.JSONDecoder().raw_decode(text, place)
        found += [json.dumps(each).encode() for each in (body if isinstance(body, list) else [body])]
        place = end + len(text[end:]) - len(text[end:].lstrip())
    return found
