"""Sliding windows per key, each with the key's own earlier daily peak: how much more is this than ever before?

Sums live in buckets, distinct items exactly up to a limit and then by adaptive sampling of item hashes.
"""

import math
from hashlib import blake2b

import msgspec

from detectors.behaviour.profiles import WINDOWS

ITEMS_MAX = 1000  # distinct items kept per window and key
PEAK_KEPT_PER_DAY = 0.95  # the peak ages 5 % a day
EXCESS = 1.1  # beyond the own peak by a tenth
GROWTH = 1.08  # a component must grow by 8 % to be told again
AGAIN_MINUTES = 1440  # ... within 24 h
HASH_SPACE = 2.0**64
MINUTES_PER_DAY = 1440


class Window(msgspec.Struct, array_like=True):
    """`top` is the highest reading of `day`; `peak` that of the days before, aged to `day`."""

    day: int
    total: float = 0.0
    buckets: dict[int, float] = {}  # bucket number -> amount, in ascending order
    items: dict[str, int] = {}  # item -> last bucket, in ascending order
    share: float = 1.0  # of the space of hashes whose items are kept
    peak: float = 0.0
    top: float = 0.0


class Told(msgspec.Struct, array_like=True):
    """What was last said about a key: to observations (within 24 h) and to the learning history (per day)."""

    strength: tuple[float, ...] = ()
    minute: int = 0
    rate: float | None = None
    featured: tuple[float, ...] = ()
    day: int = -1


def roll(window: Window, day: int) -> None:
    """Begin a new day: what was today's top joins the peak. Yesterday counts in full, each day before 5 % less."""
    days = day - window.day
    if days > 0:
        window.peak = max(window.peak * PEAK_KEPT_PER_DAY**days, window.top * PEAK_KEPT_PER_DAY ** (days - 1))
        window.top, window.day = 0.0, day


def add(window: Window, bucket: int, amount: float) -> None:
    held = window.buckets.get(bucket)
    if held is None and window.buckets and bucket < next(reversed(window.buckets)):  # late, and its bucket was empty
        window.buckets[bucket] = amount
        window.buckets = dict(sorted(window.buckets.items()))
    else:
        window.buckets[bucket] = (held or 0.0) + amount
    window.total += amount


def add_item(window: Window, bucket: int, item: str) -> None:
    held = window.items.get(item)
    if held is not None:
        if held >= bucket:
            return
        del window.items[item]
    elif window.share < 1.0 and _hash(item) >= window.share * HASH_SPACE:
        return
    late = bool(window.items) and bucket < next(reversed(window.items.values()))
    window.items[item] = bucket
    if late:
        window.items = dict(sorted(window.items.items(), key=lambda pair: pair[1]))
    if len(window.items) > ITEMS_MAX:
        window.share /= 2.0
        window.items = {i: b for i, b in window.items.items() if _hash(i) < window.share * HASH_SPACE}


def reading(window: Window, name: str, minute: int) -> float:
    """The amount within the window that ends with this minute; forgets what fell out of it."""
    minutes, count = WINDOWS[name]
    oldest = minute // minutes - count + 1
    buckets = window.buckets
    while buckets and (first := next(iter(buckets))) < oldest:
        window.total -= buckets.pop(first)
    if window.items:
        for item, bucket in list(window.items.items()) if next(iter(window.items.values())) < oldest else ():
            if bucket >= oldest:
                break
            del window.items[item]
    if not window.items:
        window.share = 1.0
    return window.total + len(window.items) / window.share


def strength_of(actual: float, peak: float, least: float) -> tuple[float, ...]:
    """(ln(1+x), ln(1+x) - ln(1+peak)), or nothing unless x exceeds the own peak by a tenth and reaches the minimum."""
    if actual < least or actual <= EXCESS * peak:
        return ()
    size = math.log1p(actual)
    return size, size - math.log1p(peak)


def grew(new: tuple[float, ...], old: tuple[float, ...]) -> bool:
    if len(new) != len(old):
        return True
    if len(new) == 2:  # nearly all
        return new[0] > GROWTH * old[0] or new[1] > GROWTH * old[1]
    return any(n > GROWTH * o for n, o in zip(new, old, strict=True))


def at_least(new: tuple[float, ...], old: tuple[float, ...]) -> bool:
    return len(new) == len(old) and all(n >= o for n, o in zip(new, old, strict=True))


def _hash(item: str) -> int:
    return int.from_bytes(blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
