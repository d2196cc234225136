"""Calibration by its formula, forests equal to scikit-learn's, contributions with the right sign, signed models."""

import math
import random
import warnings
from itertools import pairwise

import numpy as np
import pytest

from detectors.behaviour import Learning, ModelRefused, Models, fit, models
from detectors.behaviour import forest as forests
from detectors.behaviour.calibration import RATE_MIN, points_of, rate_of
from detectors.facts import Feature

KEY = b"a key of the tests, 32 bytes long"


def exponential_points(count: int, seed: int = 3) -> list[tuple[float, ...]]:
    rng = random.Random(seed)
    return [(1.0 + rng.expovariate(1.0), 0.5 + rng.expovariate(2.0)) for _ in range(count)]


def test_from_four_key_days_on_the_rate_is_their_number_by_tenant_days() -> None:
    points = points_of([(1.0, 1.0)] * 3 + [(2.0, 2.0)] * 5 + [(9.0, 0.1)] * 7)
    assert rate_of(points, 10.0, (2.0, 2.0)) == pytest.approx(0.5)
    assert rate_of(points, 10.0, (1.0, 1.0)) == pytest.approx(0.8)
    assert rate_of(points, 10.0, (1.0, 0.1)) == pytest.approx(1.5), "in every component at once"


def test_a_point_of_the_history_does_not_speak_for_itself() -> None:
    points = points_of([(2.0, 2.0)] * 6 + [(9.0, 9.0)])
    assert rate_of(points, 10.0, (2.0, 2.0), own=True) == pytest.approx(0.6), "the other five and the larger one"
    assert rate_of(points, 10.0, (9.0, 9.0), own=True) < rate_of(points, 10.0, (9.0, 9.0))
    assert rate_of(points, 10.0, (3.0, 3.0), own=True) == rate_of(points, 10.0, (3.0, 3.0)), "no point of it"
    assert rate_of(points_of([(9.0,)]), 10.0, (9.0,), own=True) == pytest.approx(0.01), "as if it had never been"


def test_below_four_an_exponential_tail_and_never_half_the_count() -> None:
    values = [(v,) for v in np.linspace(0.1, 1.0, 100).tolist()]
    points, days = points_of(values), 20.0
    m = np.sort(points[:, 0] / 2.0)[::-1]
    edge, mean = m[40], m[:40].mean()
    expected = 40 / days * math.exp(-(1 - edge) / (mean - edge))
    assert rate_of(points, days, (2.0,)) == pytest.approx(max(RATE_MIN, expected))
    assert rate_of(points_of([(1.0,)] * 3), 20.0, (1.0,)) >= 1.5 / 20.0


def test_never_seen_and_the_floor() -> None:
    assert rate_of(points_of([]), 20.0, (1.0, 1.0)) == pytest.approx(0.1 / 20)
    assert rate_of(points_of([]), 1e6, (1.0,)) == RATE_MIN
    assert rate_of(points_of(exponential_points(100)), 20.0, (1e6, 1e6)) == RATE_MIN


@pytest.mark.parametrize("count", [1, 2, 3, 7, 39, 41, 200, 2000])
def test_stronger_is_never_more_frequent(count: int) -> None:
    points = points_of(exponential_points(count))
    for direction in ((1.0, 1.0), (1.0, 0.3), (0.2, 1.0)):
        steps = [tuple(scale * d for d in direction) for scale in np.geomspace(0.05, 50, 200)]
        rates = [rate_of(points, 30.0, step) for step in steps]
        assert all(a >= b - 1e-12 for a, b in pairwise(rates))
        assert rates[0] > rates[-1] or rates[0] == RATE_MIN


def test_the_rate_holds_on_days_kept_back() -> None:
    """Among exponential strengths, what is rated at most 0.1 per day occurs about that often on other days."""
    points, days = points_of([(a, a / 2) for a, _ in exponential_points(400, seed=1)]), 40.0
    again = [(a, a / 2) for a, _ in exponential_points(4000, seed=2)]  # 400 days
    rare = sum(rate_of(points, days, strength) <= 0.1 for strength in again)
    assert 0.05 <= rare / 400 <= 0.2


def rows_of_hours(seed: int = 5, count: int = 1500) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.log1p(rng.poisson(20, (count, 4)).astype(float))
    return np.hstack([values, values - values.mean(axis=0)])


def test_the_score_is_that_of_scikit_learn() -> None:
    from sklearn.ensemble import IsolationForest

    rows = rows_of_hours()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries below scikit-learn, not ours
        theirs = IsolationForest(n_estimators=50, max_samples=256, random_state=2).fit(rows)
    ours = forests.taken_over(theirs, np.median(rows, axis=0))
    far = np.vstack([rows, rows + 40.0, rows * -1e6, np.zeros((1, 8))])
    assert np.abs(ours.score(far) + theirs.score_samples(far)).max() < 1e-9


def test_a_planted_deviation_is_the_top_contribution() -> None:
    rows = rows_of_hours()
    forest = forests.grow(rows, trees=100, sample=256, seed=4)
    groups = [[n, n + 4] for n in range(4)]
    for planted in range(4):
        usual = np.median(rows, axis=0)
        strange = usual.copy()
        strange[[planted, planted + 4]] += 3.0
        gains = forest.contributions(strange[None, :], groups)[0]
        assert int(np.argmax(gains)) == planted
        assert gains[planted] > 0.05
        assert np.abs(np.delete(gains, planted)).max() < 1e-12, "what is as usual contributes nothing"
        assert forest.score(strange[None, :])[0] > forest.score(usual[None, :])[0]


def test_detection_does_not_import_scikit_learn() -> None:
    import subprocess
    import sys

    code = "import sys, detectors.behaviour; sys.exit(any(m.startswith(('sklearn', 'pyod')) for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def history(days: int = 20, tenants: tuple[str, ...] = ("a", "b")) -> list[Feature]:
    rng = random.Random(9)
    made = []
    for tenant in tenants:
        for day in range(100, 100 + days):
            made.append(Feature(tenant, "outbound_volume", "", day, day * 86400.0, (), "vol"))
            made.append(Feature(tenant, "address_hours", "", day, day * 86400.0, (), "forest"))
            for number in range(15):
                key, at = f"10.0.0.{number}", day * 86400.0
                strength = (15.0 + rng.random(), rng.expovariate(3.0) + 0.1)
                made.append(Feature(tenant, "outbound_volume/bytes_24h", key, day, at, strength, "vol", (), "client"))
                row = tuple(math.log1p(rng.randrange(30)) for _ in range(4))
                made.append(Feature(tenant, "address_hours/hours", key, day, at + 3600.0 * number, row, "forest"))
        made.append(Feature(tenant, "rule-1", "10.0.0.1", 110, 110 * 86400.0, (1.0,)))
    return made


@pytest.fixture(scope="module")
def learned() -> Models:
    return fit(history(), learning=Learning(trees=10), seed=1, fingerprints={"outbound_volume": "f"})


def test_fit_counts_tenant_days_after_warm_up_and_pools_tenants(learned: Models) -> None:
    assert learned.tenant_days == 30
    assert learned.window == (100, 119)
    assert len(learned.points["outbound_volume/bytes_24h", "client"]) == 2 * 15 * 15
    assert learned.rate("outbound_volume/bytes_24h", (15.0, 0.1), "client", "outbound_volume") == pytest.approx(15.0)
    assert learned.rate("outbound_volume/bytes_24h", (15.0, 0.1), "server", "outbound_volume") == pytest.approx(15.0)
    assert learned.rate("rule-1", (1.0,)) == pytest.approx(1 / 30), "two hits in 30 tenant-days: tail or half the count"
    assert learned.rate("rule-2", (1.0,)) == pytest.approx(0.1 / 30)
    assert learned.rate("logon_failures/failures_24h", (3.0, 1.0), "any", "logon_failures") is None
    assert ("address_hours/forest", "any") in learned.points


def test_of_one_key_and_day_the_last_feature_counts() -> None:
    days = history(14, ("a",))
    twice = [Feature("a", "outbound_volume/x", "k", 110, 110 * 86400.0 + n, (float(n),)) for n in (1, 2)]
    assert fit(days + twice, learning=Learning(trees=10), seed=1).points["outbound_volume/x", "any"].tolist() == [[2.0]]


def test_models_come_back_the_same_and_a_fit_is_repeatable(learned: Models) -> None:
    data = learned.encode(KEY)
    back = Models.decode(data, KEY)
    assert back.encode(KEY) == data
    assert (
        fit(history(), learning=Learning(trees=10), seed=1, fingerprints={"outbound_volume": "f"}).encode(KEY) == data
    )
    rows = np.random.default_rng(1).random((50, 4))
    assert (back.forests["address_hours"].score(rows) == learned.forests["address_hours"].score(rows)).all()
    assert (back.spans, back.fingerprints, back.features) == (learned.spans, learned.fingerprints, learned.features)


def test_another_key_a_flipped_byte_and_a_cut_are_refused(learned: Models) -> None:
    data = learned.encode(KEY)
    with pytest.raises(ModelRefused, match="signature"):
        Models.decode(data, KEY + b"x")
    for place in [*range(60), *range(60, len(data), len(data) // 40), len(data) - 1]:
        with pytest.raises(ModelRefused):
            Models.decode(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], KEY)
    for size in (0, 5, 40, len(data) - 1):
        with pytest.raises(ModelRefused):
            Models.decode(data[:size], KEY)
    with pytest.raises(ModelRefused, match="16 bytes"):
        learned.encode(b"short")


def test_an_unknown_version_and_a_signed_nonsense_are_refused(learned: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "FORMAT", 2)
    newer = learned.encode(KEY)
    monkeypatch.undo()
    with pytest.raises(ModelRefused, match="format 2"):
        Models.decode(newer, KEY)
    for body in (b"", b"\xc1", b"\x80", b"\x81\xa6format\x01"):
        with pytest.raises(ModelRefused):
            Models.decode(models.MAGIC + models._signature(body, KEY) + body, KEY)


def test_a_forest_whose_nodes_point_outside_is_refused(learned: Models) -> None:
    packed = forests.packed(learned.forests["address_hours"])
    for name, value in (
        ("left", packed.left[:-4] + b"\xff\xff\xff\x7f"),
        ("feature", packed.feature[:-4]),
        ("roots", b""),
    ):
        with pytest.raises(ValueError):
            forests.unpacked(__import__("msgspec").structs.replace(packed, **{name: value}))
