"""One scale for all detectors: how often per tenant and day was something as strong in every component?"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # one row per key and day: its strongest strength
Scale = npt.NDArray[np.float64]  # joint frequencies of the points, each rated by the others, ascending

COUNTED_MIN = 4  # from so many key-days on the count itself is the rate
TAIL_POINTS_MAX = 40
EXCESS_MIN = 0.05
NEVER_SEEN = 0.1  # expected occurrences in the whole learning time of what never occurred
RATE_MIN = 0.002  # no extrapolation outranks corroboration
POINTS_MAX = 20_000  # per detector and class; beyond that the weakest are left out
SCALE_MAX = 2_000  # levels of a scale that are kept: the rarest
BLOCK = 4_000_000  # comparisons at once


def points_of(strengths: Iterable[tuple[float, ...]]) -> Points:
    """The strongest key-days as rows. Strengths of another length than the first are left out."""
    rows = [s for s in strengths if s]
    rows = [s for s in rows if len(s) == len(rows[0])]
    if not rows:
        return np.empty((0, 0))
    points = np.array(sorted(rows, key=lambda s: (-sum(s), s))[:POINTS_MAX], dtype=np.float64)
    return np.ascontiguousarray(points)


def scale_of(points: Points, tenant_days: float) -> Scale:
    """How often something is as strong as each point in every component at once, said by the other points.

    Where components speak against each other (a surprising account, a common item) nearly every point stands alone at
    its place, and far more than ten in a hundred are rarer than nine in ten: what such a frequency means, the scale says.
    With one component a frequency is what it says, and the scale is empty.
    """
    if points.ndim < 2 or points.shape[1] < 2 or len(points) <= COUNTED_MIN:
        return np.empty(0)
    rows, times = np.unique(points, axis=0, return_counts=True)
    as_strong = np.empty(len(rows))
    step = max(1, BLOCK // len(rows))
    for start in range(0, len(rows), step):
        block = rows[start : start + step, None, :]
        as_strong[start : start + step] = np.all(rows[None, :, :] >= block, axis=2) @ times
    others = as_strong - 1.0
    found = others / tenant_days
    for place in np.flatnonzero(others < COUNTED_MIN):
        found[place] = _frequency(_ratios(points, tuple(rows[place]), own=True), tenant_days)
    scale: Scale = np.sort(np.repeat(found, times))[:SCALE_MAX]
    return scale


def rate_of(
    points: Points, tenant_days: float, strength: tuple[float, ...], *, own: bool = False, scale: Scale | None = None
) -> float:
    """λ per tenant and day of a strength (components positive); `own` says that it is one of the points itself, which
    then does not speak for its own frequency.

    For each key-day m is the least ratio of its components to those of the strength; m >= 1 means at least as strong in
    every component. From four such key-days on the frequency is their number by tenant-days; below that an exponential
    tail through the largest m (at most 40, and the upper half where there are fewer than 80). λ is how many points are
    as rare as that; beyond the fourth rarest the last step is carried on.
    """
    if points.size == 0 or points.shape[1] != len(strength):
        return max(RATE_MIN, NEVER_SEEN / tenant_days)
    m = _ratios(points, strength, own=own)
    if not m.size:
        return max(RATE_MIN, NEVER_SEEN / tenant_days)
    joint = _frequency(m, tenant_days)
    if scale is None or len(scale) <= COUNTED_MIN:
        return max(RATE_MIN, joint)
    rarer = int(np.searchsorted(scale, joint, side="right")) - own
    if rarer >= len(scale) - own:  # beyond what is kept
        return max(RATE_MIN, joint, rarer / tenant_days)
    if rarer >= COUNTED_MIN:
        return max(RATE_MIN, rarer / tenant_days)
    edge = max(float(scale[COUNTED_MIN - 1 + own]), 1e-300)
    return max(RATE_MIN, COUNTED_MIN / tenant_days * min(1.0, joint / edge), rarer / 2 / tenant_days)


def _ratios(points: Points, strength: tuple[float, ...], *, own: bool) -> Scale:
    m: Scale = np.min(points / np.maximum(np.asarray(strength), 1e-9), axis=1)
    if own and (same := np.flatnonzero(m == 1.0)).size:
        m = np.delete(m, same[0])
    return m


def _frequency(m: Scale, tenant_days: float) -> float:
    """From the ratios to a strength, how often per tenant and day it is reached in every component at once."""
    seen = int(np.count_nonzero(m >= 1.0))
    if seen >= COUNTED_MIN:
        return seen / tenant_days
    k = max(1, min(TAIL_POINTS_MAX, len(m) // 2))
    if len(m) > k:
        largest = np.partition(m, len(m) - k - 1)[-(k + 1) :]
        edge = float(largest[0])
        mean = float(np.mean(largest[1:]))
    else:
        edge, mean = 0.0, float(np.mean(m))
    excess = max(EXCESS_MIN, mean - edge)
    tail = k / tenant_days * float(np.exp(-(1.0 - min(edge, 1.0)) / excess))
    # never more than what the count would just have said, so that stronger never reads as more frequent
    return max(min(tail, COUNTED_MIN / tenant_days), seen / 2 / tenant_days)
