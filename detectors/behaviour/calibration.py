"""One scale for all detectors: how often per tenant and day was something as strong in every component?"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # one row per key and day: its strongest strength

COUNTED_MIN = 4  # from so many key-days on the count itself is the rate
TAIL_POINTS_MAX = 40
EXCESS_MIN = 0.05
NEVER_SEEN = 0.1  # expected occurrences in the whole learning time of what never occurred
RATE_MIN = 0.002  # no extrapolation outranks corroboration
POINTS_MAX = 20_000  # per detector and class; beyond that the weakest are left out


def points_of(strengths: Iterable[tuple[float, ...]]) -> Points:
    """The strongest key-days as rows. Strengths of another length than the first are left out."""
    rows = [s for s in strengths if s]
    rows = [s for s in rows if len(s) == len(rows[0])]
    if not rows:
        return np.empty((0, 0))
    points = np.array(sorted(rows, key=lambda s: (-sum(s), s))[:POINTS_MAX], dtype=np.float64)
    return np.ascontiguousarray(points)


def rate_of(points: Points, tenant_days: float, strength: tuple[float, ...], *, own: bool = False) -> float:
    """λ per tenant and day of a strength (components positive); `own` says that it is one of the points itself, which
    then does not speak for its own frequency.

    For each key-day m is the least ratio of its components to those of the strength; m >= 1 means at least as strong in
    every component. From four such key-days on λ is their number by tenant-days; below that an exponential tail through
    the largest m (at most 40, and the upper half where there are fewer than 80).
    """
    if points.size == 0 or points.shape[1] != len(strength):
        return max(RATE_MIN, NEVER_SEEN / tenant_days)
    m = np.min(points / np.maximum(np.asarray(strength), 1e-9), axis=1)
    if own and (same := np.flatnonzero(m == 1.0)).size:
        m = np.delete(m, same[0])
        if not m.size:
            return max(RATE_MIN, NEVER_SEEN / tenant_days)
    seen = int(np.count_nonzero(m >= 1.0))
    if seen >= COUNTED_MIN:
        return max(RATE_MIN, seen / tenant_days)
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
    tail = min(tail, COUNTED_MIN / tenant_days)
    return max(RATE_MIN, tail, seen / 2 / tenant_days)
