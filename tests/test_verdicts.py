"""Verdicts and exceptions: proposed from an alert, tried on the alerts so far, signed, and counting only when applied."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shield.broker import EmbeddedConfig, Out, Record, open_broker
from shield.cli import main
from shield.risk import STEP_DOWN
from shield.terminal import FINDINGS, OK, USAGE
from shield.verdicts import (
    DAY_S,
    ExceptionRecord,
    Exceptions,
    Verdict,
    decisions,
    out,
    proposals,
    tried,
    verdict_on,
)

KEY = b"a signing key of the test"
NOW = 1_790_000_000.0
HOST, USER, OUTSIDE = ("host", "srv-1"), ("user", "anna"), ("address", "198.51.100.9")
BACKUP = {"detector": "outbound/bytes_24h", "family": "vol", "entities": [HOST, OUTSIDE], "item": "198.51.100.9"}
LOGON = {"detector": "logon_source/first_seen", "family": "lateral", "entities": [USER, HOST], "item": "10.1.1.0/24"}
COUNT = {"detector": "failures/failures_1h", "family": "fail", "entities": [USER], "item": ""}


def alert(number: str, rows: list[tuple[dict[str, Any], float]], **more: Any) -> dict[str, Any]:
    """A document with observations of the given risks, one family each, threshold 2."""
    weighed = [risk * STEP_DOWN**i for i, (_, risk) in enumerate(rows)]
    observations = [
        {
            **row,
            "kind": row.get("kind", "profile"),
            "risk": risk,
            "share": part / sum(weighed),
            "entities": [{"type": t, "name": n} for t, n in row["entities"]],
            "sentence": {"de": "Etwas.", "en": "Something."},
        }
        for (row, risk), part in zip(rows, weighed, strict=True)
    ]
    return {
        "@timestamp": "2026-07-01T08:00:00.000Z",
        "event": {"id": number},
        "organization": {"id": more.get("tenant", "town-a")},
        "rule": {"id": more.get("rule", "behaviour")},
        "shield": {
            "revision": 1,
            "level": more.get("level", "medium"),
            "title": {"de": "Ungewöhnlich", "en": "Unusual"},
            "disposition": None,
            "entities": [{"type": t, "name": n} for t, n in more.get("entities", [HOST])],
            "explanation": {
                "risk": sum(weighed),
                "threshold": more.get("threshold", 2.0),
                "observations": observations,
            },
        },
    }


def record(**more: Any) -> ExceptionRecord:
    values: dict[str, Any] = {
        "id": "e1",
        "tenant": "town-a",
        "detector": "outbound",
        "entity": HOST,
        "item": "198.51.100.9",
        "owner": "anna",
        "reason": "backup",
        "created": NOW,
        "expires": NOW + DAY_S,
        "alert": "a1",
    }
    return ExceptionRecord(**(values | more))


def propose(doc: dict[str, Any]) -> list[ExceptionRecord]:
    found = proposals(
        doc, reason="why", owner="anna", now=NOW, expires=NOW + DAY_S, outside=lambda name: name.startswith("198.51.")
    )
    return [one.record for one in found]


def test_an_exception_covers_its_entity_detector_and_item_until_it_ends() -> None:
    held = Exceptions([record(), record(id="e2", detector="failures/failures_1h", entity=USER, item="")])
    inside = NOW + 1
    assert held.covers("outbound/bytes_24h", HOST, "198.51.100.9", inside)
    assert held.covers("outbound/bytes_1h", HOST, "198.51.100.9", inside)
    assert not held.covers("outbound/bytes_24h", HOST, "198.51.100.10", inside)
    assert not held.covers("outbound/bytes_24h", HOST, "", inside)
    assert not held.covers("outbound/bytes_24h", ("host", "srv-2"), "198.51.100.9", inside)
    assert not held.covers("inbound/bytes_24h", HOST, "198.51.100.9", inside)
    assert held.covers("failures/failures_1h", USER, "whatever", inside)
    assert not held.covers("failures/failures_24h", USER, "whatever", inside)
    assert held.covers("outbound/bytes_24h", HOST, "198.51.100.9", NOW)
    assert not held.covers("outbound/bytes_24h", HOST, "198.51.100.9", NOW - 1), "a replay says what was said"
    assert not held.covers("outbound/bytes_24h", HOST, "198.51.100.9", NOW + DAY_S)


def test_proposals_are_as_narrow_as_the_observation_allows() -> None:
    again = BACKUP | {"detector": "outbound/bytes_1h"}
    doc = alert(
        "a1", [(BACKUP, 2.5), (again, 2.0), (LOGON, 1.0), (COUNT, 0.5)], entities=[HOST, USER], level="critical"
    )
    found = proposals(doc, reason="why", owner="anna", now=NOW, expires=NOW + DAY_S, outside=lambda _: False)
    assert [(p.record.detector, p.record.entity, p.record.item) for p in found] == [
        ("outbound", HOST, "198.51.100.9"),
        ("logon_source", HOST, "10.1.1.0/24"),
        ("failures/failures_1h", USER, ""),
    ]
    assert ["no item" in " ".join(p.concerns) for p in found] == [False, False, True]
    assert all("the alert is critical" in p.concerns for p in found)
    outside = alert("a2", [(COUNT | {"entities": [OUTSIDE]}, 3.0)], entities=[OUTSIDE])
    (one,) = proposals(outside, reason="", owner="", now=NOW, expires=NOW, outside=lambda _: True)
    assert any("outside address" in concern for concern in one.concerns)


def test_the_exceptions_of_an_alert_would_have_hidden_it() -> None:
    doc = alert("a1", [(BACKUP, 2.5), (LOGON, 2.0)])
    (one,) = tried(propose(doc), [doc], {})
    assert (one.outcome, one.risk_left) == ("hidden", 0.0)


def test_trying_recomputes_the_risk_and_knows_what_was_confirmed() -> None:
    only = propose(alert("a1", [(BACKUP, 2.5)]))
    weakened = alert("a2", [(BACKUP, 2.5), (LOGON, 2.4), (COUNT, 2.0)], entities=[HOST])
    below = alert("a3", [(BACKUP, 2.5), (LOGON, 1.0)])
    elsewhere = alert("a4", [(BACKUP, 2.5)], tenant="town-b")
    untouched = alert("a5", [(LOGON, 2.5)])
    judged = verdict_on(below, "true_positive", reason="", owner="x", now=NOW)
    found = tried(only, [weakened, below, elsewhere, untouched], {"a3": judged})
    assert [(t.alert, t.outcome, t.confirmed) for t in found] == [("a3", "hidden", True), ("a2", "weaker", False)]
    assert found[0].risk_left == pytest.approx(1.0)
    assert found[1].risk_left == pytest.approx(2.4 + 2.0 * STEP_DOWN), "what is weaker moves up"


def test_another_reading_of_the_family_takes_the_place_of_the_one_that_is_excepted() -> None:
    other = BACKUP | {"detector": "inbound/bytes_24h"}
    doc = alert("a1", [(BACKUP, 2.5)])
    doc["shield"]["explanation"]["observations"].append(
        {**alert("x", [(other, 2.2)])["shield"]["explanation"]["observations"][0], "share": 0.0}
    )
    (one,) = tried([record()], [doc], {})
    assert one.outcome == "weaker"
    assert one.risk_left == pytest.approx(2.2)


def test_an_alert_of_a_rule_is_hidden_only_with_its_rule() -> None:
    hit = {"detector": "r-1", "family": "rule:r-1", "kind": "rule", "entities": [USER], "item": ""}
    doc = alert("a1", [(hit, 1.0), (BACKUP, 0.9)], rule="r-1", threshold=None, entities=[USER, HOST])
    other, of_rule = record(), record(detector="r-1", entity=USER, item="")
    assert [t.outcome for t in tried([other], [doc], {})] == ["weaker"]
    assert [t.outcome for t in tried([of_rule], [doc], {})] == ["hidden"]


def test_only_what_carries_our_signature_counts_and_the_last_word_wins() -> None:
    first = Verdict(alert="a1", tenant="town-a", revision=1, disposition="undetermined", reason="", owner="x", time=NOW)
    last = msgspec.structs.replace(first, disposition="false_positive", time=NOW + 1)
    ended = record(expires=NOW + 5)
    written = [out(first, KEY, NOW), out(last, KEY, NOW), out(record(), KEY, NOW), out(ended, KEY, NOW)]
    forged = [
        out(record(id="e9"), b"another key", NOW),
        Out("verdicts", b"e8", written[2].value, NOW, {"signature": "é"}),
    ]
    records = [Record(o.topic, 0, i, o.key, o.value, o.time, o.headers) for i, o in enumerate([*written, *forged])]
    held = decisions(records, KEY)
    assert held.verdicts == {"a1": last}
    assert held.exceptions == {"e1": ended}
    assert held.refused == 2
    assert (last.teaches, last.confirmed, first.teaches) == (True, False, False)
    assert held.of("town-a").covers("outbound/x", HOST, "198.51.100.9", NOW + 4)
    assert not held.of("town-a").covers("outbound/x", HOST, "198.51.100.9", NOW + 6)
    assert len(held.of("town-b")) == 0


class Shield:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["shield", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out_, err = self._capfd.readouterr()
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return ended.value.code or OK, out_, err


@pytest.fixture
def shield(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Shield:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "anna")
    documents = [
        alert("aa01", [(BACKUP, 2.5)]),
        alert("bb02", [(BACKUP, 2.6)]),
        alert("cc03", [(LOGON, 2.6)], entities=[USER]),
    ]
    broker = open_broker(EmbeddedConfig(path=str(tmp_path / "s.db")), member="test")
    broker.commit(None, [Out("alerts", d["event"]["id"].encode(), msgspec.json.encode(d), 1.0) for d in documents], [])
    broker.close()
    (tmp_path / "shield.yml").write_text("broker: {path: s.db}\n", encoding="utf-8")
    return Shield(monkeypatch, capfd)


def listed(shield: Shield) -> list[dict[str, Any]]:
    code, text, _ = shield("verdict", "--list", "--json")
    assert code == OK
    return [json.loads(line) for line in text.splitlines()]


def test_an_exception_is_tried_first_and_counts_only_when_applied(shield: Shield) -> None:
    ask = ("verdict", "aa", "--disposition", "benign_expected", "--reason", "backup at night")
    code, text, err = shield(*ask)
    assert code == OK
    assert "outbound of host srv-1, only for 198.51.100.9" in text
    assert "Of 3 alerts so far they would have hidden 2 and weakened 0" in text
    assert "only with --apply" in err
    assert [(r["kind"], r["alert"], r["owner"]) for r in listed(shield)] == [("verdict", "aa01", "anna")]
    assert shield(*ask, "--apply")[0] == OK
    assert shield(*ask, "--apply", "--owner", "otto")[0] == OK
    (_, made) = listed(shield)
    assert (made["kind"], made["owner"]) == ("exception", "otto"), "the same exception again replaces the first"
    assert made["expires"] - made["created"] == pytest.approx(90 * DAY_S)
    assert shield("verdict", "--revoke", made["id"][:6])[0] == OK
    assert listed(shield)[1]["expires"] <= time.time()
    assert "ended" in shield("verdict", "--list")[1]


def test_what_was_confirmed_stands_in_the_way(shield: Shield) -> None:
    assert shield("verdict", "bb02", "--disposition", "true_positive", "--reason", "stolen")[0] == OK
    ask = ("verdict", "aa01", "--disposition", "benign_expected", "--reason", "backup", "--apply")
    code, text, err = shield(*ask)
    assert code == FINDINGS
    assert "true_positive" in text
    assert "not applied" in err
    assert [r["kind"] for r in listed(shield)] == ["verdict", "verdict"]
    code, text, _ = shield(*ask, "--force", "--json")
    assert code == OK
    would = json.loads(text)["would"]
    assert [(t["alert"], t["outcome"], t["disposition"]) for t in would] == [
        ("bb02", "hidden", "true_positive"),
        ("aa01", "hidden", "benign_expected"),
    ]
    assert [r["kind"] for r in listed(shield)] == ["verdict", "verdict", "exception"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("aa01",), "--disposition: there are true_positive"),
        (("aa01", "--disposition", "bening_expected"), "did you mean `benign_expected`?"),
        (("aa01", "--disposition", "benign_expected"), "--reason"),
        (("aa01", "--disposition", "benign_expected", "--reason", "x", "--expires", "2020-01-01"), "must lie ahead"),
        (("aa01", "--disposition", "benign_expected", "--reason", "x", "--expires", "2999-01-01"), "within 365 days"),
        (("aa01", "--disposition", "benign_expected", "--reason", "x", "--expires", "soon"), "is no day"),
        (("aa01", "--disposition", "benign_expected", "--reason", "x", "--only", "7"), "there are proposals 1 to 1"),
        (("aa01", "--disposition", "undetermined", "--apply"), "belong to benign_expected"),
        (("aa1", "--disposition", "undetermined"), "the nearest is aa01"),
        ((), "name an ALERT_ID"),
        (("--list", "--revoke", "x"), "name an ALERT_ID"),
        (("--revoke", "x"), "is no exception"),
    ],
)
def test_a_wrong_wish_is_refused_and_writes_nothing(shield: Shield, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = shield("verdict", *arguments)
    assert code == USAGE
    assert message in err
    assert listed(shield) == []
