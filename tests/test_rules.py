"""Our own rules: complete, tested by their own examples through the production path, and told apart from each other."""

import json
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import yaml

from connectors.parse import Reader
from detectors.sigma import RuleSet, rule_tests
from detectors.sigma.loader import PLACEHOLDER
from detectors.sigma.rule_tests import hits, run_tests

ROOT = Path(__file__).parent.parent
SIGMA = ROOT.parent / "shared" / "data" / "sigma"
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
    return RuleSet.load(SIGMA_FOLDERS, strict=False)


def test_public_rules_load() -> None:
    public()
    rules = sigmahq()
    refused = [fault for fault in rules.faults if "expand" not in fault.message]
    assert not refused, "\n".join(map(str, refused[:20]))
    assert len(rules.rules) > 3000


def test_public_regression_events_hit() -> None:
    public()
    folder = SIGMA / "regression_data"
    wanted: list[tuple[str, Path]] = []
    for info in sorted(folder.rglob("info.yml")):
        body = yaml.load(info.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        ids = [str(each["id"]) for each in body.get("rule_metadata", [])]
        wanted += [(identity, path) for identity in ids for path in info.parent.glob("*.json")]
    if not wanted:
        pytest.skip("no regression data here")
    rules = sigmahq()
    missed = []
    for identity, path in wanted:
        if identity not in rules.rules:
            continue
        events = Reader("windows", "t", "s").read(lines_of(path.read_bytes()), 1_793_491_200.0).events
        if identity not in hits(rules, events, ["line"] * len(events)):
            missed.append(f"{path.parent.name} {rules.rules[identity].title}")
    assert len(missed) <= len(wanted) * MISSED_SHARE_MAX, "\n".join(missed)


MISSED_SHARE_MAX = 0.0


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
