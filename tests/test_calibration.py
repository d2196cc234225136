"""What a joint frequency means: rates of two components that speak against each other hold on days kept back."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest

from detectors.behaviour import Learning, Models, fit
from detectors.behaviour.calibration import RATE_MIN, points_of, rate_of, scale_of
from detectors.facts import Feature
from shield.models import hubs_of

DAYS = 40
KEY = b"a key of the tests, 32 bytes long"


def opposed(seed: int, count: int) -> list[tuple[float, ...]]:
    """The more surprising the key, the more common the item: nearly nothing is as strong in both."""
    rng = Random(seed)
    made: list[tuple[float, ...]] = []
    for _ in range(count):
        share, size = rng.random(), 1.0 + rng.expovariate(2.0)
        made.append((0.1 + size * share, 0.1 + size * (1.0 - share)))
    return made


def rare(points: np.ndarray, scale: np.ndarray | None, again: list[tuple[float, ...]], rate: float) -> int:
    return sum(rate_of(points, DAYS, strength, scale=scale) <= rate for strength in again)


@pytest.mark.parametrize("rate", [0.1, 0.5, 2.0])
def test_rates_hold_where_components_speak_against_each_other(rate: float) -> None:
    points = points_of(opposed(1, 10 * DAYS))
    again = opposed(2, 10 * 10 * DAYS)  # ten times as many days
    expected = rate * 10 * DAYS
    assert rare(points, None, again, rate) > 2.0 * expected, "joint frequencies alone are too small"
    assert 0.5 <= rare(points, scale_of(points, DAYS), again, rate) / expected <= 2.0


@pytest.mark.parametrize("count", [3, 5, 40, 2000])
def test_stronger_is_never_more_frequent_on_the_scale(count: int) -> None:
    points = points_of(opposed(3, count))
    scale = scale_of(points, DAYS)
    for direction in ((1.0, 1.0), (1.0, 0.3), (0.2, 1.0)):
        steps = [tuple(size * d for d in direction) for size in np.geomspace(0.02, 60, 150)]
        rates = [rate_of(points, DAYS, step, scale=scale) for step in steps]
        assert all(a >= b - 1e-12 for a, b in pairwise(rates))
        assert rates[-1] == max(RATE_MIN, rates[-1])


def test_the_points_themselves_are_as_frequent_as_their_rank() -> None:
    """Each rated by the others, the n-th rarest point is expected about n times in the learning days."""
    points = points_of(opposed(4, 400))
    scale = scale_of(points, DAYS)
    rates = sorted(rate_of(points, DAYS, tuple(row), own=True, scale=scale) for row in points.tolist())
    for number in (10, 50, 200):
        assert rates[number] == pytest.approx(number / DAYS, rel=0.25)


def test_one_component_needs_no_scale() -> None:
    points = points_of([(float(n),) for n in range(1, 200)])
    assert scale_of(points, DAYS).size == 0
    assert rate_of(points, DAYS, (150.0,), scale=scale_of(points, DAYS)) == pytest.approx(50 / DAYS)


def learned() -> Models:
    features = [Feature("a", "news", "", day, day * 86_400.0, (), "news") for day in range(DAYS)]
    for number, strength in enumerate(opposed(5, 600)):
        day = number % DAYS
        features.append(Feature("a", "news/first_seen", f"k{number}", day, day * 86_400.0, strength, "news"))
    return fit(features, learning=Learning(), seed=1)


def test_a_stored_model_rates_as_the_trained_one() -> None:
    models = learned()
    assert models.scales["news/first_seen", "any"].size
    stored = Models.decode(models.encode(KEY), KEY)
    for strength in opposed(6, 50):
        rate = models.rate("news/first_seen", strength, profile="news")
        assert rate is not None
        assert stored.rate("news/first_seen", strength, profile="news") == rate


def linked(day: int, *names: tuple[str, str]) -> Feature:
    return Feature("a", "x/first_seen", "k", day, day * 86_400.0, (1.0,), "x", names)


def test_hubs_are_linked_to_many_of_one_kind_lately() -> None:
    server, person, old = ("host", "fs-1"), ("user", "anna"), ("user", "berta")
    history = [linked(100, server, ("user", f"u{n}")) for n in range(12)]
    history += [linked(100, person, ("domain", f"d{n}.example")) for n in range(12)]
    history += [linked(100, person, ("host", f"h{n}"), ("address", f"10.0.0.{n}")) for n in range(8)]
    history += [linked(60, old, ("host", f"h{n}")) for n in range(12)]
    assert hubs_of(history, 10) == {"a": ["host:fs-1"]}
    assert hubs_of([f for f in history if f.day == 60], 10) == {"a": ["user:berta"]}
