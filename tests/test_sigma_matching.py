"""What a Sigma condition matches: every trap of the language, as small rules against small events."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from detectors.sigma import RuleFaults, RuleSet
from detectors.sigma.logsource import sources
from detectors.sigma.rule_tests import event_of, hits

ID = "11111111-2222-4333-8444-555555555555"


def ruleset(tmp_path: Path, detection: Any, logsource: dict[str, str] | None = None) -> RuleSet:
    body = {"title": "t", "id": ID, "logsource": logsource or {"product": "test"}, "detection": detection}
    path = tmp_path / "rule.yml"
    path.write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")
    return RuleSet.load([path])


def matches(tmp_path: Path, detection: Any, event: dict[str, Any], logsource: dict[str, str] | None = None) -> bool:
    if "condition" not in detection:
        detection = {"s": detection, "condition": "s"}
    rules = ruleset(tmp_path, detection, logsource)
    return ID in hits(rules, [event_of({"event.dataset": "ecs.test", **event})], ["line"])


# (what it shows, selection, fields that match, fields that do not)
CASES: list[tuple[str, dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = [
    ("values ignore case", {"A": "Foo"}, [{"A": "fOO"}, {"A": "foo"}], [{"A": "foo "}, {"a": "foo"}, {}]),
    ("sharp s is not ss", {"A": "straße"}, [{"A": "STRAßE"}], [{"A": "strasse"}]),
    ("dotted capital i", {"A|contains": "İx"}, [{"A": "aİX"}], [{"A": "aix"}]),
    ("cased", {"A|cased": "Foo"}, [{"A": "Foo"}], [{"A": "foo"}]),
    ("cased contains", {"A|contains|cased": "Foo"}, [{"A": "xFoox"}], [{"A": "xfoox"}]),
    ("cased wildcard", {"A|cased": "F*o?"}, [{"A": "Faoo"}], [{"A": "faoo"}]),
    ("re is searched anywhere", {"A|re": "b+c"}, [{"A": "abbcd"}], [{"A": "ac"}]),
    ("re keeps case", {"A|re": r"C:\\Windows"}, [{"A": r"x C:\Windows y"}], [{"A": r"c:\windows"}]),
    ("re with i", {"A|re|i": "bc"}, [{"A": "aBCd"}], [{"A": "ab c"}]),
    ("re end before a last newline", {"A|re": "c$"}, [{"A": "abc"}, {"A": "abc\n"}], [{"A": "abc\n\n"}, {"A": "abcd"}]),
    ("re multiline", {"A|re|m": "^b$"}, [{"A": "a\nb\nc"}], [{"A": "a\nbb\nc"}]),
    ("re dotall", {"A|re|s": "a.b"}, [{"A": "a\nb"}], [{"A": "ab"}]),
    ("re dot stops at newline", {"A|re": "a.b"}, [{"A": "axb"}], [{"A": "a\nb"}]),
    ("re word class is ASCII", {"A|re": r"^\w+$"}, [{"A": "abc_1"}], [{"A": "straße"}]),
    ("re on numbers", {"A|re": "^46"}, [{"A": 4624}], [{"A": 1462}]),
    ("one backslash", {"A": r"a\b"}, [{"A": r"a\b"}], [{"A": r"a\\b"}]),
    ("two backslashes stand for one", {"A": r"a\\b"}, [{"A": r"a\b"}], [{"A": r"a\\b"}]),
    ("escaped star is literal", {"A": r"C:\Windows\*"}, [{"A": r"C:\Windows*"}], [{"A": r"C:\Windows\x"}]),
    ("backslash and wildcard", {"A": r"C:\Windows\\*"}, [{"A": "C:\\Windows\\x"}], [{"A": r"C:\Windows*"}]),
    ("backslash and literal star", {"A": r"a\\\*"}, [{"A": r"a\*"}], [{"A": r"a\b"}]),
    ("four are two", {"A": r"a\\\\b"}, [{"A": r"a\\b"}], [{"A": r"a\b"}]),
    ("star spans newlines", {"A": "a*z"}, [{"A": "a\nb\nz"}, {"A": "az"}], [{"A": "azb"}, {"A": "bz a z"}]),
    ("question mark is one character", {"A": "a?c"}, [{"A": "aßc"}, {"A": "a\nc"}], [{"A": "ac"}, {"A": "abbc"}]),
    ("star is present", {"A": "*"}, [{"A": "x"}, {"A": ""}, {"A": 0}], [{}, {"A": None}, {"A": []}]),
    ("contains nothing is present", {"A|contains": ""}, [{"A": "x"}, {"A": ""}], [{}, {"A": None}]),
    ("empty text", {"A": ""}, [{"A": ""}], [{}, {"A": None}, {"A": "x"}]),
    ("null", {"A": None}, [{}, {"A": None}], [{"A": ""}, {"A": "x"}]),
    ("empty list is null", {"A": []}, [{}, {"A": None}], [{"A": ""}]),
    ("value or null", {"A": ["x", None]}, [{"A": "x"}, {}], [{"A": "y"}]),
    ("exists", {"A|exists": True}, [{"A": None}, {"A": ""}], [{}]),
    ("does not exist", {"A|exists": False}, [{}], [{"A": None}, {"A": "x"}]),
    ("exists on an attribute", {"source.ip|exists": True}, [{"source.ip": "192.0.2.1"}], [{}]),
    ("list is or", {"A": ["x", "y"]}, [{"A": "x"}, {"A": "Y"}], [{"A": "z"}]),
    ("map is and", {"A": "x", "B": "y"}, [{"A": "x", "B": "y"}], [{"A": "x"}, {"A": "x", "B": "z"}]),
    ("all", {"A|contains|all": ["x", "y"]}, [{"A": "yx"}], [{"A": "x"}, {"A": "y"}]),
    ("all over re", {"A|re|all": ["x", "y$"]}, [{"A": "xy"}], [{"A": "yx"}]),
    ("many literals", {"A|contains": [f"w{n}z" for n in range(60)]}, [{"A": "aW59Zb"}], [{"A": "w60z"}, {"A": None}]),
    (
        "many values",
        {"A": [f"w{n}" for n in range(60)]},
        [{"A": "W59"}, {"A": ["a", "w3"]}],
        [{"A": "w60"}, {"A": ["a"]}],
    ),
    ("startswith keeps its anchor", {"A|startswith": "a?c*e"}, [{"A": "abcde f"}], [{"A": "xabcde"}]),
    ("endswith keeps its anchor", {"A|endswith": "a*c"}, [{"A": "xabc"}], [{"A": "abcx"}]),
    ("numbers and text", {"A": 4624}, [{"A": 4624}, {"A": "4624"}], [{"A": "04624"}, {"A": 46240}]),
    ("text and numbers", {"A": "4624"}, [{"A": 4624}], [{"A": 4625}]),
    (
        "numbers as written",
        {"A": 5},
        [{"A": 5}, {"A": "5"}],
        [{"A": "05"}, {"A": "5.0"}, {"A": "+5"}, {"A": 5.0}, {"A": True}],
    ),
    (
        "big integers keep their digits",
        {"A": 9007199254740993},
        [{"A": 9007199254740993}, {"A": "9007199254740993"}],
        [{"A": 9007199254740992}],
    ),
    ("attribute numbers", {"destination.port": 22}, [{"destination.port": 22}], [{"destination.port": 2222}, {}]),
    (
        "attribute number as text",
        {"destination.port|startswith": "44"},
        [{"destination.port": 445}],
        [{"destination.port": 22}],
    ),
    ("booleans", {"A": True}, [{"A": True}, {"A": "TRUE"}], [{"A": 1}, {"A": "1"}, {"A": "yes"}]),
    (
        "gt",
        {"A|gt": 10},
        [{"A": 11}, {"A": "11"}, {"A": "10.5"}, {"A": [1, 12]}],
        [{"A": 10}, {"A": "x"}, {"A": "1_1"}, {"A": True}, {}],
    ),
    ("lte", {"A|lte": 10}, [{"A": 10}, {"A": "-3"}], [{"A": 11}, {"A": ""}, {}, {"A": "nan"}]),
    ("a range of two selections", {"A|gte": 3, "A|lt": 5}, [{"A": 3}, {"A": "4"}], [{"A": 5}, {"A": 2}]),
    ("neq", {"A|neq": ["x", "y"]}, [{"A": "z"}, {}], [{"A": "x"}, {"A": "Y"}]),
    ("fieldref", {"A|fieldref": "B"}, [{"A": "x", "B": "X"}], [{"A": "x", "B": "y"}, {"A": "x"}, {}]),
    ("fieldref startswith", {"A|fieldref|startswith": "B"}, [{"A": "xyz", "B": "XY"}], [{"A": "xyz", "B": "yz"}]),
    (
        "windash",
        {"A|windash|contains": " -f"},
        [{"A": "x -f"}, {"A": "x /f"}, {"A": "x \u2013f"}, {"A": "x \u2014f"}],
        [{"A": "x +f"}],
    ),
    ("windash from the slash", {"A|windash|contains": " /f"}, [{"A": "x -f"}, {"A": "x /f"}], [{"A": "xf"}]),
    ("windash under all", {"A|windash|contains|all": [" -f", " -g"]}, [{"A": "x /f -g"}], [{"A": "x /f"}]),
    (
        "base64offset",
        {"A|base64offset|contains": "foobar"},
        [{"A": "xxZm9vYmFyxx"}, {"A": "xxZvb2Jhcxx"}, {"A": "xmb29iYXx"}],
        [{"A": "foobar"}],
    ),
    ("base64", {"A|base64|contains": "foobar"}, [{"A": "x Zm9vYmFy x"}], [{"A": "Zvb2Jhc"}]),
    ("wide base64", {"A|wide|base64offset|contains": "ab"}, [{"A": "YQBiA"}], [{"A": "YWI="}]),
    (
        "cidr",
        {"A|cidr": "192.0.2.0/24"},
        [{"A": "192.0.2.77"}],
        [{"A": "192.0.3.1"}, {"A": "-"}, {"A": "LOCAL"}, {"A": ""}, {}, {"A": 5}],
    ),
    (
        "cidr of version 6",
        {"A|cidr": "2001:db8::/32"},
        [{"A": "2001:DB8::7"}],
        [{"A": "2001:db9::7"}, {"A": "192.0.2.1"}],
    ),
    (
        "cidr list",
        {"A|cidr": ["192.0.2.0/24", "10.0.0.0/8"]},
        [{"A": "10.9.9.9"}, {"A": ["x", "10.1.1.1"]}],
        [{"A": "11.0.0.1"}],
    ),
    ("a list value: any element", {"A": "x"}, [{"A": ["y", "X"]}], [{"A": ["y"]}, {"A": []}]),
    ("a list value under all", {"A|contains|all": ["x", "y"]}, [{"A": ["ax", "ay"]}], [{"A": ["ax"]}]),
    ("a list with null", {"A": None}, [{"A": ["x", None]}], [{"A": ["x"]}]),
    ("percent signs are literal", {"A": "%x%"}, [{"A": "%X%"}], [{"A": "x"}]),
    ("ECS attribute", {"user.name": "Anna"}, [{"user.name": "anna"}], [{"user.name": "bob"}, {}]),
    (
        "ECS list attribute",
        {"event.type": "denied"},
        [{"event.type": ["connection", "denied"]}],
        [{"event.type": ["allowed"]}, {}],
    ),
    ("dotted native field", {"winlog.channel": "Security"}, [{"winlog.channel": "security"}], [{}]),
    (
        "a public name falls back to ECS",
        {"src_ip": "192.0.2.1"},
        [{"source.ip": "192.0.2.1"}, {"src_ip": "192.0.2.1"}],
        [{"destination.ip": "192.0.2.1"}],
    ),
    (
        "hour of the event",
        {"X|hour": 10},
        [{"@timestamp": "2026-10-20T10:59:59Z"}],
        [{"@timestamp": "2026-10-20T11:00:00Z"}],
    ),
    (
        "hour compared",
        {"X|hour|gte": 22},
        [{"@timestamp": "2026-10-20T23:00:00Z"}],
        [{"@timestamp": "2026-10-20T21:59:59Z"}],
    ),
    ("fieldref contains", {"A|fieldref|contains": "B"}, [{"A": "xyz", "B": "Y"}], [{"A": "xyz", "B": "yx"}]),
    ("fieldref endswith", {"A|fieldref|endswith": "B"}, [{"A": "xyz", "B": "YZ"}], [{"A": "xyz", "B": "xy"}]),
    ("fieldref over lists", {"A|fieldref": "B"}, [{"A": ["x", "y"], "B": "Y"}], [{"A": [], "B": []}, {"A": ["x"]}]),
    ("utf16le", {"A|utf16le|contains": "ab"}, [{"A": "xa\0B\0x"}], [{"A": "ab"}, {"A": "\0a\0bx"}]),
    ("wide", {"A|wide|contains": "ab"}, [{"A": "a\0b\0"}], [{"A": "ab"}]),
    ("utf16be", {"A|utf16be|contains": "ab"}, [{"A": "x\0a\0b"}], [{"A": "a\0b\0"}]),
    ("utf16", {"A|utf16|contains": "ab"}, [{"A": "\ufeffa\0b\0"}], [{"A": "a\0b\0"}]),
    ("utf16le in base64", {"A|utf16le|base64offset|contains": "ab"}, [{"A": "YQBiA"}], [{"A": "YWI="}]),
    ("utf16be in base64", {"A|utf16be|base64|contains": "ab"}, [{"A": "x AGEAYg== x"}], [{"A": "YQBiAA=="}]),
    ("utf16 in base64", {"A|utf16|base64|contains": "ab"}, [{"A": "x //5hAGIA x"}], [{"A": "x YQBiAA== x"}]),
    ("base64 is told apart by nothing but letters", {"A|base64|contains": "foobar"}, [{"A": "zm9VYMFY"}], [{"A": ""}]),
    ("re with two flags", {"A|re|i|m": "^b$"}, [{"A": "a\nB\nc"}], [{"A": "a\nBb"}]),
    ("re startswith", {"A|re|startswith": "b.d"}, [{"A": "bxdz"}, {"A": "abxd"}], [{"A": "bd"}]),
    ("re contains", {"A|re|contains": "b.d|x"}, [{"A": "abcd"}, {"A": "yx"}], [{"A": "bd"}]),
    ("cased endswith", {"A|endswith|cased": "Oo"}, [{"A": "fOo"}], [{"A": "foo"}, {"A": "Oof"}]),
    ("gt on a text", {"A|gt": 1.5}, [{"A": "1.75"}, {"A": 2}], [{"A": "1.5"}, {"A": "0x10"}, {"A": None}]),
    ("gte and equality", {"A|gte": 4624}, [{"A": 4624}, {"A": "4624"}], [{"A": "4623.9"}, {"A": ""}]),
    ("lt below zero", {"A|lt": 0}, [{"A": "-1"}, {"A": -0.5}], [{"A": 0}, {"A": "x"}, {}]),
    ("neq of a number", {"A|neq": 5}, [{"A": 6}, {}, {"A": "05"}], [{"A": 5}, {"A": "5"}]),
    ("neq of nothing", {"A|neq": None}, [{"A": "x"}, {"A": ""}], [{}, {"A": None}]),
    (
        "windash of all dashes",
        {"A|windash|contains": " -x"},
        [{"A": "a \u2015x"}, {"A": "a \u2013X"}, {"A": "a /x"}],
        [{"A": "a x"}, {"A": "a-x"}],
    ),
    ("windash leaves dashes inside words", {"A|windash|contains": "a-b"}, [{"A": "a-b"}], [{"A": "a/b"}]),
    ("windash with a wildcard", {"A|windash": "* -f *"}, [{"A": "x /f y"}], [{"A": "x +f y"}]),
    (
        "cidr of one address",
        {"A|cidr": "192.0.2.7/32"},
        [{"A": "192.0.2.7"}],
        [{"A": "192.0.2.70"}, {"A": "192.0.2.7/32"}],
    ),
    ("cidr of mapped addresses", {"A|cidr": "2001:db8::/64"}, [{"A": "2001:db8:0:0::1"}], [{"A": "2001:db8:0:1::1"}]),
    ("a double list", {"A|contains|all": ["a", "b", "c"]}, [{"A": "cab"}, {"A": ["a", "bc"]}], [{"A": ["a", "b"]}]),
    ("empty and blank", {"A": " "}, [{"A": " "}], [{"A": ""}, {}]),
    ("null in a NOT", {"A|neq": ""}, [{"A": "x"}, {}, {"A": None}], [{"A": ""}]),
    ("minute", {"X|minute|lt": 5}, [{"@timestamp": "2026-10-20T10:04:59Z"}], [{"@timestamp": "2026-10-20T10:05:00Z"}]),
    ("day", {"X|day": 20}, [{"@timestamp": "2026-10-20T23:59:59Z"}], [{"@timestamp": "2026-10-21T00:00:00Z"}]),
    ("week", {"X|week": 43}, [{"@timestamp": "2026-10-20T10:00:00Z"}], [{"@timestamp": "2026-10-27T10:00:00Z"}]),
    ("month", {"X|month|gte": 11}, [{"@timestamp": "2026-11-01T00:00:00Z"}], [{"@timestamp": "2026-10-31T23:59:59Z"}]),
    ("year", {"X|year": 2026}, [{"@timestamp": "2026-01-01T00:00:00Z"}], [{"@timestamp": "2025-12-31T23:59:59Z"}]),
    ("a lone surrogate hides nothing", {"A|re": "evil"}, [{"A": "\ud800 evil"}], [{"A": "\ud800"}]),
    ("a lone surrogate and wildcards", {"A": "*a?evil*b"}, [{"A": "x\ud800axevil b"}], [{"A": "\udfff"}]),
]


@pytest.mark.parametrize(("selection", "good", "bad"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_selection(
    tmp_path: Path, selection: dict[str, Any], good: list[dict[str, Any]], bad: list[dict[str, Any]]
) -> None:
    rules = ruleset(tmp_path, {"s": selection, "condition": "s"})
    denied = ruleset(tmp_path, {"s": selection, "condition": "not s"})
    for fields, wanted in [(f, True) for f in good] + [(f, False) for f in bad]:
        event = event_of({"event.dataset": "ecs.test", **fields})
        assert (ID in hits(rules, [event], ["line"])) is wanted, fields
        assert (ID in hits(denied, [event], ["line"])) is not wanted, f"two-valued NOT: {fields}"


KEYWORDS: list[tuple[str, Any, list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        "anywhere in any value",
        ["evil"],
        [{"A": "x EVIL y"}, {"message": "an evil line"}, {"B": ["a", "evil"]}],
        [{"evil": "x"}, {"A": "ev il"}],
    ),
    ("not across values", ["ab"], [{"A": "xab"}], [{"A": "a", "B": "b"}]),
    ("wildcards", ["a*b"], [{"A": "xxa..bxx"}], [{"A": "a", "B": "b"}, {"A": "ba"}]),
    ("one character", ["a?b"], [{"A": "xaxb"}], [{"A": "ab"}]),
    ("numbers", [4625], [{"A": 4625}, {"A": "id 4625 x"}], [{"A": 462}]),
    ("or", ["one", "two"], [{"A": "two"}], [{"A": "three"}]),
    ("all", {"|all": ["one", "two"]}, [{"A": "one", "B": "two"}], [{"A": "one"}]),
    (
        "regular expression on the raw text",
        {"|re": "Ev[i]l$"},
        [{"A": "x", "B": "an Evil"}],
        [{"A": "evil"}, {"A": "Evil x"}],
    ),
    ("nested values", ["deep"], [{"A": {"b": {"c": "so deep"}}}], [{"A": {"deep": 1}}]),
    ("the parser's own names are not searched", ["ecs.test"], [{"A": "ecs.test"}], [{}]),
]


@pytest.mark.parametrize(
    ("keywords", "good", "bad"), [case[1:] for case in KEYWORDS], ids=[case[0] for case in KEYWORDS]
)
def test_keywords(tmp_path: Path, keywords: Any, good: list[dict[str, Any]], bad: list[dict[str, Any]]) -> None:
    detection = {"keywords": keywords, "condition": "keywords"}
    for fields in good:
        assert matches(tmp_path, detection, fields), fields
    for fields in bad:
        assert not matches(tmp_path, detection, fields), fields


EXPANSIONS = {"servers": ["srv-rathaus", "srv-[b]auhof*"], "shares": ["Daten", "Archiv"]}


@pytest.mark.parametrize(
    ("selection", "good", "bad"),
    [
        ({"A|expand": "%servers%"}, ["SRV-rathaus", "srv-[b]auhof*"], ["srv-", "%servers%", "srv-[b]auhof7"]),
        ({"A|expand|contains": "\\\\%servers%"}, ["\\\\srv-rathaus\\x"], ["srv-rathaus"]),
        ({"A|expand": "%servers%/%shares%"}, ["srv-rathaus/archiv", "srv-[b]auhof*/daten"], ["srv-rathaus/", "daten"]),
        ({"A|expand|contains|all": ["%servers%", "%shares%"]}, ["Daten auf srv-rathaus"], ["srv-rathaus", "Archiv"]),
        ({"A|re|expand": "^%servers%[0-9]$"}, ["srv-rathaus1", "srv-[b]auhof*2"], ["srv-bauhof2", "srv-rathaus"]),
    ],
)
def test_placeholders_stand_for_given_values(
    tmp_path: Path, selection: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    path = tmp_path / "rule.yml"
    body = {"title": "t", "id": ID, "logsource": {"product": "test"}}
    path.write_text(yaml.safe_dump({**body, "detection": {"s": selection, "condition": "s"}}), encoding="utf-8")
    with pytest.raises(RuleFaults, match="has no values"):
        RuleSet.load([path])
    rules = RuleSet.load([path], expansions=EXPANSIONS)
    for values, wanted in ((good, True), (bad, False)):
        for value in values:
            assert bool(rules.matches(event_of({"event.dataset": "ecs.test", "A": value}))) is wanted, value


CONDITIONS: list[tuple[str, list[str], list[str]]] = [
    ("a and b", ["ab", "abc"], ["a", "b"]),
    ("a or b and c", ["a", "bc"], ["b", "c"]),
    ("not a and b", ["b"], ["ab", "c"]),
    ("not (a and b)", ["a", ""], ["ab"]),
    ("1 of them", ["a", "c"], ["", "_"]),
    ("any of them", ["b"], ["_"]),
    ("all of them", ["abc"], ["ab", "ab_"]),
]


@pytest.mark.parametrize(("condition", "good", "bad"), CONDITIONS, ids=[c[0] for c in CONDITIONS])
def test_condition(tmp_path: Path, condition: str, good: list[str], bad: list[str]) -> None:
    names = {"a": "a", "b": "b", "c": "c", "_hidden": "_"}
    detection = {name: {"F|contains": text} for name, text in names.items()} | {"condition": condition}
    for value in good:
        assert matches(tmp_path, detection, {"F": value}), value
    for value in bad:
        assert not matches(tmp_path, detection, {"F": value}), value


def test_quantifier_over_a_pattern(tmp_path: Path) -> None:
    detection = {"sel_one": {"F": "x"}, "sel_two": {"F": "y"}, "other": {"F": "z"}, "condition": "1 of sel_*"}
    assert matches(tmp_path, detection, {"F": "y"})
    assert not matches(tmp_path, detection, {"F": "z"})


def test_list_of_conditions_and_list_of_maps(tmp_path: Path) -> None:
    assert matches(tmp_path, {"a": {"F": "x"}, "b": {"F": "y"}, "condition": ["a", "b"]}, {"F": "y"})
    assert matches(tmp_path, {"a": [{"F": "x", "G": "1"}, {"F": "y"}], "condition": "a"}, {"F": "y"})
    assert not matches(tmp_path, {"a": [{"F": "x", "G": "1"}, {"F": "y"}], "condition": "a"}, {"F": "x"})
    assert matches(tmp_path, {"a": [{"F": "x"}, "evil"], "condition": "a"}, {"G": "evil"})


@pytest.mark.parametrize(
    ("logsource", "dataset", "code", "wanted"),
    [
        ({"product": "windows", "category": "process_creation"}, "windows.sysmon", "1", True),
        ({"product": "windows", "category": "process_creation"}, "windows.security", "4688", True),
        ({"product": "windows", "category": "process_creation"}, "windows.sysmon", "3", False),
        ({"product": "windows", "category": "registry_event"}, "windows.sysmon", "12", True),
        ({"product": "windows", "category": "registry_set"}, "windows.sysmon", "13", True),
        ({"product": "windows", "category": "registry_set"}, "windows.sysmon", "12", False),
        ({"product": "windows", "category": "file_delete_detected"}, "windows.sysmon", "26", True),
        ({"product": "windows", "category": "ps_script"}, "windows.powershell", "4104", True),
        ({"product": "windows", "service": "security"}, "windows.security", None, True),
        ({"product": "windows", "service": "security"}, "windows.system", "7045", False),
        ({"product": "windows"}, "windows.system", "7045", True),
        ({"product": "linux", "service": "sshd"}, "linux_auth.sshd", None, True),
        ({"product": "linux", "service": "sshd"}, "syslog.sshd", None, True),
        ({"product": "linux", "service": "auth"}, "linux_auth.sudo", None, True),
        ({"product": "linux", "service": "cron"}, "linux_auth.cron", None, True),
        ({"product": "linux", "service": "sshd"}, "linux_auth.sudo", None, False),
        ({"category": "firewall"}, "iptables.log", None, True),
        ({"category": "firewall"}, "fortigate.traffic", "13", True),
        ({"category": "firewall"}, "cisco_asa.firewall", "106023", True),
        ({"category": "firewall"}, "nginx.access", None, False),
        ({"category": "webserver"}, "apache.access", None, True),
        ({"category": "webserver"}, "nginx.error", None, False),
        ({"category": "vpn"}, "fortigate.vpn", None, True),
        ({"product": "cisco", "service": "asa"}, "cisco_asa.system", None, True),
    ],
)
def test_routing(tmp_path: Path, logsource: dict[str, str], dataset: str, code: str | None, wanted: bool) -> None:
    event = {"event.dataset": dataset, "F": "x"} | ({"event.code": code} if code else {})
    assert matches(tmp_path, {"F": "x"}, event, logsource) is wanted


def test_event_code_is_decided_by_the_route(tmp_path: Path) -> None:
    rules = ruleset(
        tmp_path, {"a": {"EventID": [1, 2]}, "b": {"EventID": 3}, "condition": "a or not b"}, {"product": "windows"}
    )
    for code, wanted in (("1", True), ("3", False), ("99", True), (None, True)):
        fields: dict[str, Any] = {"event.dataset": "windows.x"} | (
            {"event.code": code, "EventID": int(code)} if code else {}
        )
        assert (ID in hits(rules, [event_of(fields)], ["l"])) is wanted, code


def test_invented_datasets_and_codes_stay_bounded(tmp_path: Path) -> None:
    rules = ruleset(tmp_path, {"s": {"EventID": 7, "F": "x"}, "condition": "s"}, {"product": "windows"})
    events = [event_of({"event.dataset": f"windows.k{n}", "event.code": str(n), "F": "y"}) for n in range(6000)]
    assert not hits(rules, events, ["l"] * len(events))
    assert len(rules._routes) <= 4096
    assert len(rules._kinds) < 60, "kinds that no rule tells apart share one function"


def test_rule_text_never_becomes_code(tmp_path: Path) -> None:
    evil = "')) or __import__('os').abort() or (('"
    assert matches(tmp_path, {evil: evil}, {evil: evil})
    assert not matches(tmp_path, {evil: evil}, {"x": "y"})


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"A|re": "(?=x)y"}, "(?=x)y"),
        ({"A|re": r"(a)\1"}, "(a)"),
        ({"A|expand": "%servers%"}, "expand"),
        ({"A|cidr": "192.0.2.1/24"}, "192.0.2.1/24"),
        ({"A|containz": "x"}, "did you mean 'contains'"),
    ],
)
def test_refused(tmp_path: Path, selection: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleFaults) as refused:
        ruleset(tmp_path, {"s": selection, "condition": "s"})
    assert message in str(refused.value)
    assert refused.value.faults[0].line > 1


@pytest.mark.parametrize(
    ("dataset", "code", "ecs", "product", "category", "service"),
    [
        ("panw.traffic", None, ("network",), "panw", "firewall", None),
        ("panw.globalprotect", None, ("authentication",), None, "vpn", None),
        ("dovecot.imap-login", None, ("authentication",), None, "authentication", None),
        ("sysmon_linux.sysmon", "1", ("process",), "linux", "process_creation", "sysmon"),
        ("auditd.process", None, ("process",), "linux", "process_creation", "auditd"),
        ("macos_es.exec", None, ("process",), "macos", "process_creation", None),
        ("entra.signinlogs", None, ("authentication",), "azure", None, "signinlogs"),
        ("cloudtrail.iam", None, ("iam",), "aws", None, "cloudtrail"),
        ("iis.access", None, ("web",), None, "webserver", None),
        ("squid.access", None, ("web",), None, "proxy", None),
    ],
)
def test_events_of_every_parser_answer_to_the_names_of_public_rules(
    dataset: str, code: str | None, ecs: tuple[str, ...], product: str | None, category: str | None, service: str | None
) -> None:
    assert sources(dataset, code, ecs).match(product, category, service)


def test_windows_is_told_by_its_event_codes_and_a_database_query_is_no_dns() -> None:
    assert "authentication" in sources("windows.security", "4625", ("authentication",)).categories
    assert "authentication" not in sources("windows.security", "4672", ("authentication",)).categories
    assert "dns" not in sources("mysql.query", None, ("database",)).categories
