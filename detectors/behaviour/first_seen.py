"""First-seen pairs (key, item): how surprising any news is for this key, and how rare the item is in its class."""

import math

import msgspec

FORGET_DAYS = 45
NEWS_KEPT_PER_DAY = 0.97  # days with news age 3 % a day
PRIOR_DAYS = 3.0  # weight of what keys of this class and age usually show
AGE_MAX_DAYS = 60  # older keys count as this old
ITEMS_MAX = 2000  # remembered per key; beyond that those not seen for longest go
STRENGTH_MIN = 0.001  # strengths are positive, ratios of them are taken


class Pairs(msgspec.Struct, array_like=True):
    """One key. `active` and `news` count the days before `day`; the items are in the order of their last day."""

    day: int
    first_day: int
    active: int = 0
    news: float = 0.0  # aged to `day`
    news_today: bool = False
    items: dict[str, tuple[int, int]] = {}  # item -> first minute, last day


class Holders(msgspec.Struct, array_like=True):
    """How many keys of a class have an item."""

    keys: int = 0


class Group(msgspec.Struct, array_like=True):
    """One class of keys: how many, and how many of them had news on their n-th active day."""

    first_day: int
    keys: int = 0
    aged: list[int] = []
    with_news: list[int] = []


def begin_day(pairs: Pairs, group: Group, day: int) -> list[str]:
    """Close the key's last active day and begin `day`; answers the items forgotten."""
    if day <= pairs.day:
        return []
    age = min(pairs.active, AGE_MAX_DAYS - 1)
    while len(group.aged) <= age:
        group.aged.append(0)
        group.with_news.append(0)
    group.aged[age] += 1
    group.with_news[age] += pairs.news_today
    pairs.news = (pairs.news + pairs.news_today) * NEWS_KEPT_PER_DAY ** (day - pairs.day)
    pairs.active += 1
    pairs.news_today, pairs.day = False, day
    forgotten = []
    for item, (_, last) in pairs.items.items():
        if last >= day - FORGET_DAYS:
            break
        forgotten.append(item)
    for item in forgotten:
        del pairs.items[item]
    return forgotten


def see(pairs: Pairs, item: str, minute: int) -> tuple[bool, list[str]]:
    """Note an item; answers whether it is new for this key, and which items went to make room."""
    held = pairs.items.get(item)
    if held is not None:
        if held[1] < pairs.day:
            del pairs.items[item]
            pairs.items[item] = (held[0], pairs.day)
        return False, []
    pairs.items[item] = (minute, pairs.day)
    pairs.news_today = True
    gone = []
    while len(pairs.items) > ITEMS_MAX:
        oldest = next(iter(pairs.items))
        del pairs.items[oldest]
        gone.append(oldest)
    return True, gone


def surprise(pairs: Pairs, group: Group, *, calendar: bool) -> float:
    """-log10((days with news + 3 p) / (days + 3)); p is the share of the class with news at this age."""
    age = min(pairs.active, AGE_MAX_DAYS - 1)
    aged, news = (group.aged[age], group.with_news[age]) if age < len(group.aged) else (0, 0)
    usual = (news + 1) / (aged + 2)
    days = max(pairs.day - group.first_day, pairs.active) if calendar else pairs.active
    return max(STRENGTH_MIN, -math.log10((pairs.news + PRIOR_DAYS * usual) / (days + PRIOR_DAYS)))


def rarity(holders: int, keys: int) -> float:
    """-log10((keys having it + 1/2) / (keys + 1)), the key itself not counted."""
    return max(STRENGTH_MIN, -math.log10((holders + 0.5) / (keys + 1)))


def strength(surprise: float, holders: int, keys: int) -> tuple[float, float]:
    """(surprise, rarity); what a tenth of the keys have is hardly news, however quiet the key has been."""
    rare = rarity(holders, keys)
    return max(STRENGTH_MIN, surprise * min(1.0, rare)), rare
