"""When a key does things: at regular intervals, at an hour unlike all of its hours, at two places within a day."""

import itertools
import math
from bisect import bisect_left, bisect_right
from statistics import median

import msgspec

CONTACTS_MAX = 48  # remembered per pair
YOUNG_DAYS = 4  # a pair that is older is no news, however regular
NEAR = 0.35  # intervals within this share of the median count as regular
GAP_TIMES, GAP_MIN_S = 8.0, 7200.0  # longer than both: a night or a switched-off machine, no irregularity
GAPS_MAX = 3  # of the remembered contacts
BURST_S, BURST_MIN = 20.0, 4  # so many contacts so close together are somebody reading pages
REGULAR_MIN = 0.6
EPSILON = 0.02  # perfect regularity is 1.7, not infinity
DAY_S = 86_400.0
ACTIVE_DAYS_MIN = 4
NEVER_WORKED = 4.0  # hours added on a type of day the key never worked on
PLACES_MAX = 16
TRAVEL_S = 86_400.0
KNOWN_PLACE = 0.1  # second component of a journey between places both known for the key


class Contacts(msgspec.Struct, array_like=True):
    """Contacts of one pair: time of each, and whether it was a burst. Nothing is kept once the pair is old."""

    first: float
    times: list[float] = []
    bursts: int = 0
    total: int = 0

    @property
    def old(self) -> bool:
        return not self.times


def contact(held: Contacts, first: float, last: float, count: int) -> None:
    """Note the contacts of one minute. Must not be called for an old pair."""
    if first - held.first > YOUNG_DAYS * DAY_S:
        held.times, held.bursts = [], 0
        return
    gap = (last - first) / (count - 1) if count > 1 else 0.0
    times = [first] if gap < BURST_S else [first + gap * n for n in range(min(count, 4))]
    held.bursts += count >= BURST_MIN and gap < BURST_S
    held.total += len(times)
    if held.times and times[0] < held.times[-1]:  # late
        held.times = sorted((*held.times, *times))[-CONTACTS_MAX:]
        return
    held.times += times
    if len(held.times) > CONTACTS_MAX:
        held.times = held.times[-CONTACTS_MAX:]


def regularity(held: Contacts, least: int) -> tuple[float, float, float]:
    """(share of regular intervals, their median in seconds, duration in seconds); zeros while there are too few."""
    times = held.times
    if len(times) < least:
        return 0.0, 0.0, 0.0
    intervals = sorted([b - a for a, b in itertools.pairwise(times) if b - a > 1.0])
    count = len(intervals)
    if count < least - 1:
        return 0.0, 0.0, 0.0
    middle = median(intervals)
    near = NEAR * middle
    steady = bisect_right(intervals, middle + near) - bisect_left(intervals, middle - near)
    gaps = min(GAPS_MAX, count - bisect_right(intervals, max(GAP_TIMES * middle, GAP_MIN_S)))
    share = steady / (count - gaps)
    share *= 1.0 - min(1.0, held.bursts / held.total)
    return share, middle, times[-1] - times[0]


def beacon_strength(share: float, duration_s: float, rarity: float) -> tuple[float, ...]:
    """(regularity, ln(1 + hours), rarity of the destination); nothing below the least regularity."""
    if share < REGULAR_MIN:
        return ()
    return -math.log10(1.0 + EPSILON - share), math.log1p(duration_s / 3600.0), rarity


class Clock(msgspec.Struct, array_like=True):
    """Of one key, or of its class: on how many days it was active at each hour, per type of day."""

    hours: dict[str, list[int]] = {}  # workday, saturday, free -> 24 counts
    days: dict[str, int] = {}
    last_day: int = -1
    today: int = 0  # bits: hours of the last day


def tick(clock: Clock, kind: str, day: int, hour: int) -> bool:
    """Note activity; answers whether this hour of this day is new."""
    if day != clock.last_day:
        if day < clock.last_day:
            return False
        clock.last_day, clock.today = day, 0
        clock.days[kind] = clock.days.get(kind, 0) + 1
    if clock.today >> hour & 1:
        return False
    clock.today |= 1 << hour
    clock.hours.setdefault(kind, [0] * 24)[hour] += 1
    return True


def hour_distance(clock: Clock, kind: str, hour: int) -> float:
    """Hours to the nearest hour ever active on this type of day; more on a type of day never worked. 0 while too young."""
    if sum(clock.days.values()) < ACTIVE_DAYS_MIN:
        return 0.0
    own = clock.hours.get(kind)
    of_all = own or [sum(counts) for counts in zip(*clock.hours.values(), strict=True)]
    active = [h for h, n in enumerate(of_all) if n]
    nearest = min((min((hour - h) % 24, (h - hour) % 24) for h in active), default=0)
    return nearest + (0.0 if own else NEVER_WORKED)


def hour_strength(distance: float, group: Clock, kind: str, hour: int, key_days: int) -> tuple[float, ...]:
    """(distance, -log10 of how usual the hour is in the class); nothing within an hour of what is usual."""
    if distance < 2.0:
        return ()
    active = group.hours.get(kind, [0] * 24)[hour]
    return distance, max(0.001, -math.log10((active + 0.5) / (key_days + 1.0)))


class Places(msgspec.Struct, array_like=True):
    """Where one key was: place -> (first, last) time."""

    seen: dict[str, tuple[float, float]] = {}


def arrive(held: Places, place: str, time: float) -> tuple[tuple[float, ...], str]:
    """Note a place; answers (ln(1 + 24 / hours since another place), is the place new) and the place before."""
    before, since = "", TRAVEL_S
    strength: tuple[float, ...] = ()
    for other, (_, last) in held.seen.items():
        if other != place and abs(time - last) < since:
            before, since = other, abs(time - last)
    known = held.seen.get(place)
    if before:
        new = 1.0 if known is None or time - known[0] < DAY_S else KNOWN_PLACE
        strength = (math.log1p(24.0 / max(since / 3600.0, 0.1)), new)
    held.seen[place] = (known[0] if known else time, max(time, known[1]) if known else time)
    while len(held.seen) > PLACES_MAX:
        del held.seen[min(held.seen, key=lambda p: held.seen[p][1])]
    return strength, before
