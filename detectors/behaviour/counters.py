"""Sliding windows per key, each with the key's own earlier daily peak: how much more is this than ever before?

Sums live in buckets. Distinct items are kept once for all windows of a stream, exactly up to a limit and then by adaptive
sampling of item hashes.
"""

import math
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

ITEMS_MAX = 2000  # distinct items kept per stream and key
PEAK_KEPT_PER_DAY = 0.95  # the peak ages 5 % a day
EXCESS = 1.1  # beyond the own peak by a tenth
GROWTH = 1.08  # a component must grow by 8 % to be told again
AGAIN_MINUTES = 1440  # ... within 24 h
HASH_SPACE = 2.0**64
MINUTES_PER_DAY = 1440
NEVER = 2**62  # a minute


class Window(msgspec.Struct, array_like=True):
    """`top` is the highest reading of `day`; `peak` that of the days before, aged to `day`."""

    day: int
    peak: float = 0.0
    top: float = 0.0
    total: float = 0.0  # of sums
    buckets: dict[int, float] = {}  # bucket number -> amount, in ascending order


class Items(msgspec.Struct, array_like=True):
    """The distinct items of a key within the longest window that looks at them."""

    last: dict[str, int] = {}  # item -> last minute, in ascending order
    share: float = 1.0  # of the space of hashes whose items are kept


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
    buckets = window.buckets
    window.total += amount
    if bucket in buckets:
        buckets[bucket] += amount
        return
    late = bool(buckets) and bucket < next(reversed(buckets))
    buckets[bucket] = amount
    if late:
        window.buckets = dict(sorted(buckets.items()))


def total_since(window: Window, oldest: int) -> float:
    """The sum of the window's buckets, after forgetting those before `oldest`."""
    buckets = window.buckets
    while buckets and (first := next(iter(buckets))) < oldest:
        window.total -= buckets.pop(first)
    return window.total


def see_items(items: Items, seen: Iterable[tuple[str, int]], start: int) -> int:
    """Note items with their minutes, after forgetting those last seen before `start`.

    Answers a minute: windows that begin after it have gained an item, others have not.
    """
    last = items.last
    newest = start
    if last:
        if next(iter(last.values())) < start:
            _forget(items, start)
        newest = next(reversed(last.values()), start)
    gained, late = NEVER, False
    for item, minute in seen:
        held = last.get(item)
        if held is None:
            if minute < start or (items.share < 1.0 and _hash(item) >= items.share * HASH_SPACE):
                continue
            gained = -1
        elif held < minute:
            del last[item]
            gained = min(gained, held)
        else:
            continue
        last[item] = minute
        if minute < newest:
            late = True
        else:
            newest = minute
    if late:
        items.last = dict(sorted(last.items(), key=lambda pair: pair[1]))
    while len(items.last) > ITEMS_MAX:
        items.share /= 2.0
        items.last = {i: at for i, at in items.last.items() if _hash(i) < items.share * HASH_SPACE}
    return gained


def _forget(items: Items, start: int) -> None:
    gone = []
    for item, minute in items.last.items():
        if minute >= start:
            break
        gone.append(item)
    for item in gone:
        del items.last[item]
    if not items.last:
        items.share = 1.0


def items_since(items: Items, start: int) -> float:
    """How many distinct items were seen from this minute on."""
    last = items.last
    if not last or next(iter(last.values())) >= start:  # all of them
        return len(last) / items.share
    count = 0
    for minute in reversed(last.values()):
        if minute < start:
            break
        count += 1
    return count / items.share


def strength_of(actual: float, peak: float, least: float, unit: float = 1.0) -> tuple[float, ...]:
    """(ln(1+x), ln(1+x) - ln(1+peak)) of x and peak in units, or nothing unless x exceeds the own peak by a tenth and
    reaches the minimum.
    """
    if actual < least or actual <= EXCESS * peak:
        return ()
    size = math.log1p(actual / unit)
    return size, size - math.log1p(peak / unit)


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
