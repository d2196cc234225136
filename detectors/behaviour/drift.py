"""Whether what was learned still describes the present: per family and week, how differently strengths are distributed."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from detectors.facts import Feature

BINS = 10
SHARE_MIN = 1e-3  # an empty bin counts as this much, so that one point more is no landslide
POINTS_MIN = 100  # fewer points of a week say nothing: chance alone moves the index
DAYS_MIN = 5  # of a week: of fewer, a weekend would be half
SHIFTED = 0.25  # of the index: the population has changed
TIMES = 2.0  # as many points per day, or as few, have changed it as well


class Drift(msgspec.Struct, frozen=True):
    """One family in one week (event day // 7) against the learning days."""

    family: str
    week: int
    index: float  # population stability index
    times: float  # points per day, as a multiple of the learning days'
    points: int

    @property
    def shifted(self) -> bool:
        return self.index > SHIFTED or not 1 / TIMES <= self.times <= TIMES


def stability_index(expected: Sequence[float], actual: Sequence[float], bins: int = BINS) -> float:
    """PSI: sum of (a - e) ln(a / e) over bins that each hold an equal share of what is expected."""
    edges = np.unique(np.quantile(np.asarray(expected), np.linspace(0, 1, bins + 1)[1:-1]))
    shares = []
    for given in (expected, actual):
        counts = np.bincount(np.searchsorted(edges, np.asarray(given), side="right"), minlength=len(edges) + 1)
        shares.append(np.maximum(counts / max(1, len(given)), SHARE_MIN))
    e, a = shares
    return float(np.sum((a - e) * np.log(a / e)))


def drifts(learned: Iterable[Feature], recent: Iterable[Feature]) -> list[Drift]:
    """All families and weeks of `recent` with days and points enough. Strengths of different detectors are made comparable by
    their place among the learned ones of the same detector.
    """
    scales: dict[str, list[float]] = defaultdict(list)
    reference = [f for f in learned if f.key and f.values]
    for feature in reference:
        scales[feature.detector].append(sum(feature.values))
    for scale in scales.values():
        scale.sort()
    expected: dict[str, list[float]] = defaultdict(list)
    for feature in reference:
        expected[feature.family].append(_place(scales[feature.detector], feature))
    actual: dict[tuple[str, int], list[float]] = defaultdict(list)
    days: dict[int, set[int]] = defaultdict(set)
    for feature in recent:
        days[feature.day // 7].add(feature.day)
        if feature.key and feature.values and feature.detector in scales:
            actual[feature.family, feature.day // 7].append(_place(scales[feature.detector], feature))
    learned_days = max(1, len({f.day for f in reference}))
    return [
        Drift(
            family,
            week,
            stability_index(expected[family], places),
            (len(places) / len(days[week])) / (len(expected[family]) / learned_days),
            len(places),
        )
        for (family, week), places in sorted(actual.items())
        if len(places) >= POINTS_MIN and len(days[week]) >= DAYS_MIN
    ]


def _place(scale: list[float], feature: Feature) -> float:
    return bisect_left(scale, sum(feature.values)) / len(scale)
