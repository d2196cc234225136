"""Risk per entity: weights, decay, adding up, roll-out discount."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.risk import Book, Booked, Finding, book, risk_of, total, weight


def finding(family: str, risk: float, time: float) -> Finding:
    return Finding(f"{family}/x", family, "profile", risk, 0.01, time, time, 1, "", (), {}, (), [], ())


def test_weight_is_full_for_an_hour_then_fades_to_nothing_at_a_day() -> None:
    assert weight(0) == weight(3600) == 1.0
    assert weight(3601) == pytest.approx(0.7, abs=1e-3)
    assert weight(86_400) == 0.0


def test_rate_becomes_risk_and_what_was_not_learned_has_none() -> None:
    assert risk_of(0.01, 0) == pytest.approx(2.0)
    assert risk_of(0.01, 9) == pytest.approx(1.0)  # roll-out: nine others have it too
    assert risk_of(0.9, 0) == 0.0
    assert risk_of(None, 0) == 0.0


def test_families_add_up_and_shares_sum_to_one() -> None:
    held = book(book({}, finding("vol", 2.0, 0.0)), finding("fail", 3.0, 10.0))
    risk, shares = total(held, 20.0)
    assert risk == pytest.approx(3.0 + 0.7 * 2.0)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["fail"] > shares["vol"]


def test_a_weaker_observation_of_a_family_does_not_replace_a_stronger_one() -> None:
    held = book({}, finding("vol", 3.0, 0.0))
    assert book(held, finding("vol", 2.0, 10.0)) is held
    assert book(held, finding("vol", 2.0, 80_000.0))["vol"].finding.risk == 2.0  # the old one has faded


def test_shown_evidence_counts_half() -> None:
    held: Book = {"vol": Booked(finding("vol", 2.0, 0.0), shown=True)}
    assert total(held, 0.0, shown_weight=0.5)[0] == pytest.approx(1.0)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0.31, 5)), min_size=1, max_size=12), st.floats(0.1, 3))
def test_stronger_evidence_never_lowers_the_risk(given: list[tuple[str, float]], more: float) -> None:
    held: Book = {}
    for family, risk in given:
        held = book(held, finding(family, risk, 0.0))
    before = total(held, 0.0)[0]
    family, risk = given[0]
    after = total(book(held, finding(family, risk + more, 0.0)), 0.0)[0]
    assert after >= before - 1e-9
