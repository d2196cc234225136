"""The alert life cycle: direct hits fold, findings open, merge, grow, stay quiet and re-open."""

from pathlib import Path

import pytest

from detectors.facts import Entity, Evidence, Fact, Observation
from detectors.sigma import Rule, RuleSet
from shield.alerts import AlertBook, Sent
from shield.config import Alerting
from shield.document import document, rate_in_words
from shield.keyed import TenantStore

RULE = """
title: Probe from {source.ip}
title_de: Probe von {source.ip}
id: 0b0e3c0e-9d0f-4f0a-9d5b-3f2f1c1f4a01
status: stable
level: high
logsource: {category: firewall}
detection: {a: {event.action: deny}, condition: a}
tags: [attack.discovery, attack.t1046]
falsepositives: [none]
reason: {de: "{count} Abweisungen von {source.ip}", en: "{count} denials from {source.ip}"}
"""
NO_HUBS: frozenset[str] = frozenset()


@pytest.fixture
def rule(tmp_path: Path) -> Rule:
    path = tmp_path / "rule.yml"
    path.write_text(RULE, encoding="utf-8")
    return next(iter(RuleSet.load([path]).rules.values()))


def alert_book() -> AlertBook:
    return AlertBook("town", TenantStore("town"), Alerting())


def hit(rule: Rule, at: float, count: int = 1, key: str = "192.0.2.7") -> Fact:
    line = Evidence(at, "fw", "raw", 0, int(at), 0, f"line at {at}")
    entities: tuple[Entity, ...] = (("address", key),)
    minute = int(at // 60)
    return Fact(rule.id, key, "", minute, minute, at, at + 1, count, 0.0, entities, (line,), {"source.ip": key})


def seen(family: str, rate: float, at: float, who: Entity = ("user", "anna"), item: str = "") -> Observation:
    return Observation(
        f"{family}/x",
        family,
        "town",
        (who,),
        at,
        (1.0,),
        rate,
        item,
        (),
        {"de": f"{family} auffällig", "en": f"{family} unusual"},
        (),
        ("T1110",),
    )


def kinds(sent: list[Sent]) -> list[str]:
    return [s.kind for s in sent]


def test_first_hit_alerts_at_once_and_later_hits_update_its_count(rule: Rule) -> None:
    book = alert_book()
    first = book.direct(hit(rule, 600.0, count=5), rule)
    assert kinds(first) == ["alert.created"]
    assert first[0].alert.count == 1
    assert book.direct(hit(rule, 660.0, count=2), rule) == []
    assert book.updates(700.0) == []
    book.count(hit(rule, 600.0, count=5), rule)
    book.count(hit(rule, 660.0, count=2), rule)
    update = book.updates(780.0)
    assert kinds(update) == ["alert.updated"]
    assert update[0].alert.id == first[0].alert.id
    assert update[0].alert.count == 7


def test_another_entity_or_another_window_is_another_alert(rule: Rule) -> None:
    book = alert_book()
    one = book.direct(hit(rule, 600.0), rule)[0].alert.id
    other = book.direct(hit(rule, 610.0, key="192.0.2.8"), rule)[0].alert.id
    later = book.direct(hit(rule, 600.0 + 3700.0), rule)[0].alert.id
    assert len({one, other, later}) == 3


def test_ids_are_a_function_of_the_facts(rule: Rule) -> None:
    assert (
        alert_book().direct(hit(rule, 600.0), rule)[0].alert.id
        == alert_book().direct(hit(rule, 600.0), rule)[0].alert.id
    )


def test_nothing_opens_without_threshold_or_without_learning() -> None:
    book = alert_book()
    assert book.weigh([seen("fail", 0.001, 0.0)], NO_HUBS, None) == []
    unlearned = [Observation("x/y", "x", "town", (("user", "a"),), 0.0, (1.0,), None, "", (), {}, (), ())]
    assert book.weigh(unlearned, NO_HUBS, 1.0) == []


def test_findings_add_up_to_the_threshold_and_the_alert_shows_all_of_them() -> None:
    book = alert_book()
    assert book.weigh([seen("fail", 0.01, 0.0)], NO_HUBS, 3.0) == []
    sent = book.weigh([seen("geo", 0.01, 60.0)], NO_HUBS, 3.0)
    assert kinds(sent) == ["alert.created"]
    alert = sent[0].alert
    assert {f.family for f in alert.findings} == {"fail", "geo"}
    assert sum(alert.shares.values()) == pytest.approx(1.0)
    assert alert.risk == pytest.approx(2.0 + 0.7 * 2.0)


def test_further_evidence_merges_instead_of_opening_again() -> None:
    book = alert_book()
    book.weigh([seen("fail", 0.002, 0.0)], NO_HUBS, 2.0)
    assert book.weigh([seen("geo", 0.002, 300.0)], NO_HUBS, 2.0) == []
    assert kinds(book.updates(360.0)) == ["alert.updated"]


def test_a_weak_early_alert_does_not_hide_a_strong_later_one() -> None:
    book = alert_book()
    early = book.weigh([seen("time", 0.01, 0.0)], NO_HUBS, 2.0)
    later = book.weigh([seen("lateral", 0.002, 30_000.0)], NO_HUBS, 2.0)
    assert kinds(later) == ["alert.created"]
    assert later[0].alert.related == [early[0].alert.id]


def test_the_same_again_stays_quiet_and_is_counted() -> None:
    book = alert_book()
    book.weigh([seen("time", 0.01, 0.0)], NO_HUBS, 2.0)
    assert book.weigh([seen("time", 0.01, 40_000.0)], NO_HUBS, 2.0) == []
    assert book.unsaid() == {"quiet": 1}


def test_a_roll_out_to_fifty_machines_gives_at_most_two_alerts() -> None:
    book = alert_book()
    sent = []
    for i in range(50):
        sent += book.weigh([seen("proc", 0.01, i * 30.0, ("host", f"ws-{i}"), item="agent.exe")], NO_HUBS, 1.9)
    assert len(sent) <= 2


FAMILIES = ("proc", "svcinst", "file", "time")  # what an installation shows on one machine


def installed(book: AlertBook, host: str, at: float, *more: Observation) -> list[Sent]:
    shown = [seen(f, 0.01, at + n, ("host", host), item=f"{f} of the new program") for n, f in enumerate(FAMILIES)]
    return [one for observation in (*shown, *more) for one in book.weigh([observation], NO_HUBS, 1.9)]


def test_a_roll_out_that_shows_four_families_is_one_matter() -> None:
    book = alert_book()
    sent = [one for n in range(50) for one in installed(book, f"ws-{n}", n * 60.0)]
    assert kinds(sent) == ["alert.created"]
    (update,) = book.updates(4000.0)
    assert ("host", "ws-9") in update.alert.entities
    assert {f.family: f.count for f in update.alert.findings} == dict.fromkeys(FAMILIES, 50)


def test_what_a_machine_does_besides_a_roll_out_is_not_hidden_in_it() -> None:
    book = alert_book()
    first = installed(book, "ws-1", 0.0)
    own = seen("beacon", 0.002, 700.0, ("host", "ws-2"), item="198.51.100.7")
    second = installed(book, "ws-2", 600.0, own)
    assert kinds(second) == ["alert.created"]
    assert second[0].alert.related == []
    assert {f.family for f in second[0].alert.findings} >= {"beacon"}
    assert second[0].alert.id != first[0].alert.id


def test_readings_without_an_item_are_discounted_too() -> None:
    book = alert_book()
    sent = [
        one for n in range(10) for one in book.weigh([seen("proc", 0.02, n * 700.0, ("host", f"ws-{n}"))], NO_HUBS, 1.5)
    ]
    assert [one.alert.entities[0][1] for one in sent] == ["ws-0"], "-log10(0.02) is 1.7, less log10(2) 1.4"


def test_hubs_join_nothing() -> None:
    book = alert_book()
    hubs = frozenset({"host:dc-1"})
    both = Observation("a/x", "a", "town", (("host", "dc-1"), ("user", "u1")), 0.0, (1.0,), 0.002, "", (), {}, (), ())
    book.weigh([both], hubs, 2.0)
    other = Observation("b/x", "b", "town", (("host", "dc-1"), ("user", "u2")), 60.0, (1.0,), 0.002, "", (), {}, (), ())
    assert kinds(book.weigh([other], hubs, 2.0)) == ["alert.created"]


def test_the_document_says_why_in_words_and_numbers(rule: Rule) -> None:
    book = alert_book()
    sent = book.direct(hit(rule, 600.0), rule)[0]
    doc = document(sent, {rule.id: rule}, "de")
    assert doc["event"]["reason"] == "1 Abweisungen von 192.0.2.7"
    assert doc["shield"]["reason"]["en"] == "1 denials from 192.0.2.7"
    assert doc["event"]["severity"] == 73
    assert doc["threat"]["technique"]["id"] == ["T1046"]
    assert doc["evidence"][0]["original"] == "line at 600.0"
    assert doc["organization"]["id"] == "town"


def test_a_value_from_a_log_line_is_never_read_as_a_placeholder(rule: Rule) -> None:
    book = alert_book()
    doc = document(book.direct(hit(rule, 600.0, key="{count}{nobody}"), rule)[0], {rule.id: rule})
    assert doc["event"]["reason"] == "1 denials from {count}{nobody}"
    assert doc["shield"]["title"]["de"] == "Probe von {count}{nobody}"


def test_every_share_of_a_document_sums_to_one_and_has_a_counterfactual() -> None:
    book = alert_book()
    book.weigh([seen("fail", 0.01, 0.0)], NO_HUBS, 3.0)
    sent = book.weigh([seen("geo", 0.01, 60.0)], NO_HUBS, 3.0)[0]
    explanation = document(sent, {})["shield"]["explanation"]
    assert sum(o["share"] for o in explanation["observations"]) == pytest.approx(1.0, abs=1e-3)
    assert "below the threshold 3.0" in explanation["counterfactual"]["en"]


def test_rates_are_spoken_as_people_do() -> None:
    assert rate_in_words(0.05, "en") == "about once in 20 days"
    assert rate_in_words(3.0, "de") == "etwa 3-mal am Tag"
    assert rate_in_words(None, "de") == ""
