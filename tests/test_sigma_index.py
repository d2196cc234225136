"""The index beside an evaluator that knows nothing of it: the same rules found on any event, whatever the index picked."""

import gc
import json
import operator
import weakref
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import re2
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from connectors.events import Event
from detectors.sigma import RuleSet, literals, rule_tests, scan, values
from detectors.sigma.generate import checker, generate
from detectors.sigma.index import Condition, Index, Sample, Table
from detectors.sigma.literals import Texts, fold, required
from detectors.sigma.scan import Absent, Scanner
from detectors.sigma.tree import (
    And,
    Compare,
    Const,
    Exists,
    Network,
    Node,
    Not,
    Null,
    Or,
    Pattern,
    Present,
    Reference,
    Text,
)

# --- what a condition means, spelled out ------------------------------------------------------------------------------


def texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [str(value)]


def is_null(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, list) and None in value)


def compared(text: str, op: str, wanted: str) -> bool:
    return {
        "equals": text == wanted,
        "contains": wanted in text,
        "startswith": text.startswith(wanted),
        "endswith": text.endswith(wanted),
    }[op]


def searched(regex: str, text: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    whole = text.encode("utf-8", "replace").decode()
    found = re2.search(regex, whole, options=options) is not None
    return found or ("$" in regex and whole.endswith("\n") and re2.search(regex, whole[:-1]) is not None)


def number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None or isinstance(value, list):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def naive(node: Node, fields: dict[str, Any]) -> bool:
    def all_texts() -> list[str]:
        return [text for value in fields.values() for text in texts(value)]

    match node:
        case Const(value):
            return value
        case And(args):
            return all(naive(arg, fields) for arg in args)
        case Or(args):
            return any(naive(arg, fields) for arg in args)
        case Not(arg):
            return not naive(arg, fields)
        case Text(field, op, value, cased):
            found = texts(fields.get(field)) if field else all_texts()
            return any(compared(text if cased else text.lower(), op, value) for text in found)
        case Pattern(field, regex, raw, _):
            found = texts(fields.get(field)) if field else all_texts()
            return any(searched(regex, text if raw else text.lower()) for text in found)
        case Null(field):
            return is_null(fields.get(field))
        case Present(field):
            return any(True for _ in texts(fields.get(field)))
        case Exists(field, wanted):
            return (field in fields) is wanted
        case Compare(field, op, limit):
            held = fields.get(field)
            each_of = held if isinstance(held, list) else [held]
            test: Callable[[float, float], bool] = {"gt": operator.gt, "lte": operator.le}[op]
            return any((known := number(each)) is not None and test(known, limit) for each in each_of)
        case Reference(field, other, "equals"):
            mine, theirs = texts(fields.get(field)), texts(fields.get(other))
            return any(a.lower() == b.lower() for a in mine for b in theirs)
        case Network(field, network):
            return any(inside(text, network) for text in texts(fields.get(field)))
    raise AssertionError(node)


def inside(text: str, network: str) -> bool:
    try:
        return ip_address(text) in ip_network(network)
    except ValueError:
        return False


# --- random events and rules ------------------------------------------------------------------------------------------

# words that meet each other often, with letters whose small form is another letter, or two, or hangs on the neighbour
WORDS = ["abc", "bcab", "ABC", " s", "\u017fab", "Kbc", "\u212abc", "İ", "ß", "ΑΣ", "\n", "\ud800", "/", "\\", '"', "7"]
some_text = st.lists(st.sampled_from(WORDS), max_size=4).map("".join)
any_value = st.one_of(
    some_text,
    some_text,
    st.sampled_from([None, True, 7, 4624, "192.0.2.9", "-", ""]),
    st.lists(st.one_of(some_text, st.none()), max_size=3),
)
NAMES = ["A", "B", "C"]
events = st.dictionaries(st.sampled_from(NAMES), any_value, max_size=3)
plain = st.lists(st.sampled_from([word for word in WORDS if word != "\ud800"]), min_size=1, max_size=3).map("".join)
pieces = st.sampled_from(
    [
        *(
            "abc",
            "bcab",
            "ABC",
            "s",
            "\u017f",
            "K",
            " ",
            "(?:abc|bcab)",
            "(abc|s)",
            "(?:abc| sab|Kbc)",
            "[ab]+",
            "(?:abc){2}",
        ),
        *("abc?", "(?:abc)*", "(?:bcab)+?", "(?i:aBc)", ".", "\\w+", "^", "$", "\\\\", "[^a]", "(?:abc|)", "a{2,}"),
    ]
)
regexes = st.tuples(st.sampled_from(["", "(?i)", "(?s)", "(?m)"]), st.lists(pieces, min_size=1, max_size=4)).map(
    lambda parts: parts[0] + "".join(parts[1])
)
field = st.sampled_from([*NAMES, *NAMES, ""])
named = st.sampled_from(NAMES)


@st.composite
def leaves(draw: st.DrawFn) -> Node:
    kind = draw(st.integers(0, 11))
    name = draw(field)
    if kind <= 5:
        cased = draw(st.booleans()) and draw(st.booleans())
        value = draw(plain)
        op: Any = draw(st.sampled_from(["equals", "contains", "startswith", "endswith"])) if name else "contains"
        return Text(name, op, value if cased else value.lower(), cased)
    if kind <= 7:
        return Pattern(name, draw(regexes), raw=True)
    if kind == 8:
        first, last = draw(plain).lower(), draw(plain).lower()
        body = f"(?s)\\A(?:{re2.escape(first)}.*{re2.escape(last)})\\z"
        return Pattern(draw(named), body, raw=False, gate=max(first, last, key=len))
    one = draw(named)
    if kind == 9:
        presence: list[Node] = [Null(one), Present(one), Exists(one, wanted=True), Exists(one, wanted=False)]
        return draw(st.sampled_from(presence))
    if kind == 10:
        others: list[Node] = [Compare(one, "gt", 7), Compare(one, "lte", 7), Network(one, "192.0.2.0/24")]
        return draw(st.sampled_from(others))
    return Reference(one, draw(named), "equals")


conditions = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda args: And(tuple(args))),
        st.lists(inner, min_size=1, max_size=4).map(lambda args: Or(tuple(args))),
        inner.map(Not),
    ),
    max_leaves=8,
)


class Lined(dict[str, Any]):
    """Fields that know the line they came from."""

    @property
    def line(self) -> str:
        return json.dumps(dict(self), ensure_ascii=False)


class Escaped(dict[str, Any]):
    """The same from a shipper that writes every letter beyond ASCII as an escape."""

    @property
    def line(self) -> str:
        return json.dumps(dict(self))


def event_of(fields: dict[str, Any]) -> Event:
    return Event(0.0, "ecs", "ecs.test", fields=fields)


def differences(nodes: list[Node], samples: list[dict[str, Any]]) -> Iterable[str]:
    registry = Texts()
    rules = [Condition(at, node, registry) for at, node in enumerate(nodes)]
    indexes = [Index(rules, registry, sample_events=0), Index(rules, registry, sample_events=2)]
    together = generate(list(enumerate(nodes)))
    checks = [checker(node) for node in nodes]
    for _ in range(2):  # the second time many answers are remembered
        for fields in samples:
            wanted = [at for at, node in enumerate(nodes) if naive(node, fields)]
            for kind in (dict, Lined, Escaped):
                event = event_of(kind(fields))
                for index in indexes:
                    if (index.matches(event) or []) != wanted:
                        yield f"index: {nodes} {fields}"
                if (together(event) or []) != wanted or [
                    at for at, check in enumerate(checks) if check(event)
                ] != wanted:
                    yield f"generated: {nodes} {fields}"


@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(conditions, min_size=1, max_size=8), st.lists(events, min_size=1, max_size=6))
def test_index_finds_what_running_every_rule_finds(nodes: list[Node], samples: list[dict[str, Any]]) -> None:
    assert not list(differences(nodes, samples))


def unsound_not(self: Texts, node: Node) -> Any:
    """Takes what stands under a NOT for necessary."""
    return SOUND(self, node.arg if isinstance(node, Not) else node)


def unsound_or(self: Texts, node: Node) -> Any:
    """Takes one branch of an OR for necessary."""
    return SOUND(self, node.args[0] if isinstance(node, Or) else node)


SOUND = Texts.need


@pytest.mark.parametrize("planted", [unsound_not, unsound_or])
def test_a_planted_unsound_literal_is_caught(monkeypatch: pytest.MonkeyPatch, planted: Any) -> None:
    monkeypatch.setattr(Texts, "need", planted)
    with pytest.raises(BaseException, match=r"index: ") as caught:  # noqa: PT012 -- the search itself is what raises

        @settings(
            max_examples=400,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(conditions, min_size=1, max_size=8), st.lists(events, min_size=1, max_size=6))
        def search(nodes: list[Node], samples: list[dict[str, Any]]) -> None:
            for difference in differences(nodes, samples):
                raise AssertionError(difference)

        search()
    assert caught.type is not KeyboardInterrupt


def test_a_planted_unsound_reading_of_expressions_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(differences([Pattern("A", "(?i)abcs", raw=True)], [{"A": "ABC\u017f"}])) == []
    monkeypatch.setattr("detectors.sigma.index.fold", lambda low: low)
    assert list(differences([Pattern("A", "(?i)abcs", raw=True)], [{"A": "ABC\u017f"}]))


def test_a_planted_unsound_test_of_one_field_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes: list[Node] = [And((Text("A", "contains", "abc"), Text("A", "contains", "bcab")))]
    samples: list[dict[str, Any]] = [{"A": ["abc", "bcab"]}]
    assert not list(differences(nodes, samples))

    def of_each(table: Table, value: Any) -> tuple[int, ...]:
        return tuple(mark for text in value for mark in table.of_text(text))

    monkeypatch.setattr(Table, "of_other", of_each)
    assert list(differences(nodes, samples))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(plain, min_size=1, max_size=3), events, st.booleans())
def test_no_keyword_is_missed_before_the_values_are_looked_at(
    words: list[str], fields: dict[str, Any], ascii_only: bool
) -> None:
    absent = Absent([fold(word.lower()) for word in words])
    held = [fold(text.lower()) for value in fields.values() for text in texts(value)]
    if any(fold(word.lower()) in text for word in words for text in held):
        assert absent.may_be_in(values.held(event_of(fields)))
        assert absent.may_be_in_line(json.dumps(fields, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))


def test_an_event_without_keywords_is_told_at_once() -> None:
    absent = Absent(["needle", "\\n:b"])

    def may_be_in(fields: dict[str, Any]) -> bool:
        return absent.may_be_in(values.held(event_of(fields)))

    for _ in range(2):  # the second time from memory
        assert not may_be_in({"A": "nothing", "B": ["here", None, 7], "C": "Überall \u017f\u212a"})
        assert may_be_in({"A": "a NEEDLE"})
        assert may_be_in({"A": "C:\\N:b"})
        assert may_be_in({"A": "nothing", "B": ["here", "a needle"]})
    assert Absent(["4625"]).may_be_in(values.held(event_of({"A": 4625}))), "a number is no text here"


def test_a_line_without_keywords_is_told_at_once() -> None:
    absent = Absent(["needle", "\\n:b"], added="created\0deleted")
    assert not absent.may_be_in_line(rb'{"A": "nothing", "B": "C:\\Users\\x"}')
    assert absent.may_be_in_line(rb'{"A": "C:\\N:b"}')
    assert absent.may_be_in_line('{"A": "NE\u0045DLE"}'.encode())
    assert absent.may_be_in_line(rb'{"A": "\u006eeedle"}')
    assert Absent(["delete"], added="created\0deleted").may_be_in_line(b"{}"), "the parser adds it"
    assert Absent(["a/b"]).may_be_in_line(rb'{"A": "a\/b"}')


# --- the parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regex", "sets"),
    [
        ("abc", [{"abc"}]),
        ("ABC.*def", [{"abc"}, {"def"}]),
        ("(?:abc|def)x", [{"abc", "def"}, {"x"}]),
        ("abc?", [{"ab"}]),
        ("(abc)*", []),
        ("(abc)+", [{"abc"}]),
        ("abc|d", [{"abc", "d"}]),
        ("abc|.*", []),
        ("[abc]def", [{"adef", "bdef", "cdef"}]),
        ("[ab][cd]{1}[^x]ef", [{"ac", "ad", "bc", "bd"}, {"ef"}]),
        ("[a-c]def", [{"def"}]),
        ("[abc][abc][abc]def", [{"a", "b", "c"}, {"adef", "bdef", "cdef"}]),
        ("[ab]?c", [{"c"}]),
        (r"(?:x`|\$\{a|-f)y", [{"x`", "${a", "-f"}, {"y"}]),
        ("a[[:alpha:]]b", []),
        ("x{,3}abc", []),
        (r"\Qabc\E", []),
        ("äbc", [{"bc"}]),
        (r"\bcmd\.exe\b", [{"cmd.exe"}]),
        ("a" * 5000, []),
    ],
)
def test_what_an_expression_requires(regex: str, sets: list[set[str]]) -> None:
    assert sorted(map(sorted, required(regex))) == sorted(map(sorted, sets))


@pytest.mark.parametrize("library", ["with hyperscan", "without hyperscan", "without either"])
def test_scanners_find_the_same(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    if library == "with hyperscan":
        pytest.importorskip("hyperscan", reason="hyperscan is not installed: long values are searched by Aho-Corasick")
    else:
        monkeypatch.setattr(scan, "_hyperscan", None)
    if library == "without either":
        monkeypatch.setattr(scan, "_ahocorasick", None)
    monkeypatch.setattr(scan, "LONG_SEEN_MIN", 1)
    monkeypatch.setattr(scan, "PIECE_BYTES", 1500)
    words = [f"w{n}x" for n in range(90)] + ["überall", "w1", "a\\b|c", "(.*)", "ß", "\U0001f600"]
    for few in (words, words[:20], words[-6:]):
        scanner = Scanner(few)
        for value in (
            "",
            "w1x",
            "xx w77x Überall überall",
            "\U0001f600" * 700 + "ßß",
            "a\\b|c",
            "\ud800w3x",
            "y" * 1497 + "w42x" + "z" * 3000,
            "(.*)" * 900,
        ):
            wanted = {at for at, word in enumerate(few) if word in value}
            for _ in range(3):
                assert set(scanner.found(value)) == wanted, (library, value[:20])


def test_the_sample_changes_what_is_asked_for_and_not_what_is_found() -> None:
    registry = Texts()
    node = And((Text("A", "contains", "common part"), Text("B", "equals", "rare")))
    index = Index([Condition(0, node, registry)], registry, sample_events=20)
    before = index.choices[0]
    common = event_of({"A": "a common part of all", "B": "usual"})
    swapped = And((Text("A", "contains", "a long text that never comes"), Text("B", "equals", "usual")))
    other = Index([Condition(0, swapped, registry)], registry, sample_events=20)
    for _ in range(20):
        assert index.matches(common) is None
        assert other.matches(common) is None
    assert [[registry.wanted[at].field for at in choice.texts] for choice in index.choices[0]] == [["B"]]
    assert [[registry.wanted[at].field for at in choice.texts] for choice in other.choices[0]] == [["A"]]
    assert before
    assert index.matches(event_of({"A": "a common part", "B": "RARE"})) == [0]
    assert index.probe(common) == ()


def test_a_common_text_is_asked_for_together_with_another() -> None:
    registry = Texts()
    node = And((Text("A", "contains", "common text"), Text("B", "contains", "common too"), Text("C", "equals", "x")))
    index = Index([Condition(0, node, registry)], registry, sample_events=20)
    for n in range(20):
        event = {"A": "a common text", "C": "x"} if n % 2 else {"B": "it is common too", "C": "x"}
        assert index.matches(event_of(event)) is None
    assert len(index.choices[0]) == 2
    assert index.matches(event_of({"A": "common text", "B": "common too", "C": "X"})) == [0]
    assert index.matches(event_of({"A": "common text", "B": "common too"})) is None


def test_what_one_field_decides_is_told_by_its_value_alone() -> None:
    registry = Texts()
    node = And(
        (Text("A", "endswith", "\\tool.exe"), Not(Text("A", "startswith", "c:\\")), Text("B", "contains", "word"))
    )
    index = Index([Condition(0, node, registry)], registry, sample_events=0)
    assert index.probe(event_of({"A": "C:\\tool.exe"})) == ()
    assert index.probe(event_of({"A": "D:\\tool.exe"})) == (0,)
    assert index.matches(event_of({"A": "D:\\tool.exe", "B": "a word"})) == [0]
    both = Index([Condition(0, And((Text("A", "contains", "abc"), Text("A", "contains", "xyz"))), registry)], registry)
    assert both.matches(event_of({"A": ["abc", "xyz"]})) == [0], "of a list each element may hold a part"


def test_samples_are_taken_again_at_longer_and_longer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    note = Sample.note

    def noting(sample: Sample, event: Event) -> None:
        taken.append(event.fields["A"])
        note(sample, event)

    monkeypatch.setattr(Sample, "note", noting)
    registry = Texts()
    index = Index([Condition(0, Text("A", "contains", "needle"), registry)], registry, sample_events=3)
    for n in range(60):
        index.matches(event_of({"A": str(n)}))
    assert taken == ["0", "1", "2", "10", "18", "26"]


def test_remembered_values_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detectors.sigma.index.MEMO_MAX", 50)
    registry = Texts()
    index = Index([Condition(0, Text("A", "contains", "needle"), registry)], registry, sample_events=5)
    for at in range(400):
        assert index.matches(event_of({"A": f"value {at}"})) is None
        assert index.matches(event_of({"A": f"{'long ' * 1000}needle {at}"})) == [0]
    table = index.tables["A"]
    assert 0 < len(table.memo) <= 50
    assert max(map(len, table.memo)) < values.LOWERED_CHARS_MIN


def test_a_rule_with_too_many_alternatives_is_run_on_every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(literals, "ALTERNATIVES_MAX", 10)
    registry = Texts()
    node = Or(tuple(Text("A", "contains", f"word{n}") for n in range(11)))
    index = Index([Condition(0, node, registry)], registry, sample_events=0)
    assert index.choices == {}
    assert index.matches(event_of({"A": "a word7"})) == [0]


RULE = """
title: rule {n}
id: 11111111-2222-4333-8444-{n:012}
logsource: {{product: test}}
detection: {{s: {{A|contains: werkzeug{n:04}, B|re: '^einmalig{n:04}+$'}}, condition: s}}
"""


def test_a_rule_set_that_was_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    def used(at: int) -> "weakref.ref[RuleSet]":
        path = tmp_path / "rules.yml"
        path.write_text("---".join(RULE.format(n=100 * at + n) for n in range(40)), encoding="utf-8")
        rules = RuleSet.load([path])
        for n in range(40):
            body = {"event.dataset": "ecs.test", "A": f"werkzeug{100 * at + n:04}", "B": f"einmalig{100 * at + n:04}"}
            assert len(rules.matches(rule_tests.event_of(body))) == 1
        return weakref.ref(rules)

    gone = [used(at) for at in range(3)]
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]
    assert not [regex for regex in values._SEARCHES if "einmalig" in regex]
