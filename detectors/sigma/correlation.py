"""Sigma correlations as keyed sliding windows of event time, fed only by the hits of the rules that they name.

A window opens at every hit and looks back one timespan, so no burst hides across the border of two fixed windows. Late
hits count into their window while it is kept (one more timespan). A correlation speaks once per burst; while the burst
lasts it updates its count at most once per key and minute.
"""

import bisect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from detectors.facts import EVIDENCE_MAX, Entity, Evidence, Fact, Store, Table
from detectors.sigma.rules import Correlation, Rule, version
from detectors.sigma.values import COMPARE

KEYS_MAX = 100_000  # windows kept per correlation
ENTRIES_MAX = 10_000  # hits kept per window; beyond it the window is coarser and says so ("saturated")
ENTITIES_MAX = 16  # entities named by one finding
LATE_ENDPOINTS_MAX = 32  # windows looked at again when one late hit arrives
FUTURE_MAX_MINUTES = 6  # a hit dated further ahead than this drops nothing from its window
JOIN = "\x1f"  # between the values of one key


class Window(msgspec.Struct, array_like=True):
    """The state of one correlation and key. Of the three containers each correlation type uses one."""

    entries: list[tuple[float, int, str]] = []  # (time, count, value) in order: event_count, value_sum and the like
    latest: dict[str, float] = {}  # value -> its last time, oldest first: value_count
    times: dict[int, list[float]] = {}  # number of the rule -> times in order: temporal, temporal_ordered
    newest: float = -math.inf
    spoken: float | None = None  # event time at which the condition was last found true
    asked: float = -math.inf  # event time of the last look while a burst lasts
    minute: int = -1  # of the last fact put out
    saturated: bool = False
    entities: list[Entity] = []
    evidence: list[tuple[float, int, Evidence]] = []
    taken: dict[int, tuple[int, int]] = {}  # number of the rule -> (minute, evidence taken in it)
    counts: str = ""  # digest of what the correlation counted when this was written


class _Plan(msgspec.Struct):
    rule: Rule
    correlation: Correlation
    counts: str


def _counts(spec: Correlation) -> str:
    """A digest of what a correlation counts: a window that was filled by another reading of its rule says nothing now."""
    return version(list(map(str, (spec.type, spec.rules, spec.groups, spec.items, spec.expression))))[:8]


class Correlator:
    """All correlations of a rule set. Holds no state of its own: that is in the store."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._plans: dict[str, _Plan] = {}
        for rule in rules:
            if rule.correlation is not None:
                self._plans[rule.id] = _Plan(rule, rule.correlation, _counts(rule.correlation))
        self._numbers: dict[str, tuple[_Plan, tuple[int, ...]]] = {}
        for plan in self._plans.values():
            for below in plan.correlation.rules:
                numbers = tuple(n for n, each in enumerate(plan.correlation.rules) if each == below)
                self._numbers[f"{plan.rule.id}<{below}"] = (plan, numbers)
        self._above: dict[str, list[str]] = {}
        for plan in self._plans.values():
            for below in dict.fromkeys(plan.correlation.rules):
                if below in self._plans:
                    self._above.setdefault(below, []).append(plan.rule.id)

    def correlate(self, store: Store, facts: Sequence[Fact]) -> list[Fact]:
        found: list[Fact] = []
        session = _Session(store)
        for fact in facts:
            if "<" in fact.detector:
                self._feed(session, fact, found)
        session.close()
        return found

    def _feed(self, session: "_Session", fact: Fact, found: list[Fact]) -> None:
        known = self._numbers.get(fact.detector)
        if known is None:  # of a rule that has been removed since the fact was written
            return
        plan, numbers = known
        window = session.window(plan, fact)
        fired = _add(plan.correlation, window, numbers, fact)
        if fired is None:
            return
        count, continues = fired
        minute = int(fact.last // 60)
        result = _finding(plan, window, fact, count, continues=continues)
        if not continues or minute != window.minute:
            window.minute = minute
            if plan.rule.alerts:
                found.append(result)
            for above in self._above.get(plan.rule.id, ()):
                self._feed(session, _upwards(plan, self._plans[above], result), found)


class _Session:
    """The windows touched by one call: read once, written back once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tables: dict[str, Table[Window]] = {}
        self._touched: dict[tuple[str, str], Window] = {}

    def window(self, plan: _Plan, fact: Fact) -> Window:
        place = (plan.rule.id, fact.key)
        window = self._touched.get(place)
        if window is None:
            table = self._tables.get(plan.rule.id)
            if table is None:
                table = self._tables[plan.rule.id] = self._store.table(
                    f"sigma/{plan.rule.id}",
                    Window,
                    entries_max=KEYS_MAX,
                    idle_max_s=2 * plan.correlation.window_s + 120,
                )
            held = table.get(fact.key)
            window = held if held is not None and held.counts == plan.counts else Window(counts=plan.counts)
            self._touched[place] = window
        return window

    def close(self) -> None:
        for (rule, key), window in self._touched.items():
            self._tables[rule].put(key, window, window.newest)


def _add(spec: Correlation, window: Window, numbers: tuple[int, ...], fact: Fact) -> tuple[float, bool] | None:
    """Counts a hit in; answers the measured number and whether a burst goes on, or None when there is nothing to say."""
    time = fact.last
    # a hit dated ahead of all others must not push the window past them
    window.newest = max(window.newest, time if time <= (fact.step + FUTURE_MAX_MINUTES) * 60.0 else fact.step * 60.0)
    if time < window.newest - 2 * spec.window_s:
        return None  # its window is no longer kept
    _prune(spec, window)
    _remember(spec, window, numbers[0], fact)
    late = False
    if spec.type == "value_count":
        late = _put_latest(window, fact.item, time)
    elif spec.type in {"temporal", "temporal_ordered"}:
        for number in numbers:
            late = _put_time(window, number, time) or late
    else:
        late = _put_entry(window, (time, fact.count, fact.item))
    if window.spoken is not None and abs(time - window.spoken) <= spec.window_s:
        # a burst that has been told: look again once a minute, and often enough not to lose sight of it
        if int(time // 60) == window.minute and abs(time - window.asked) < spec.window_s / 4:
            return None
        window.asked = time
    ends = _endpoints(spec, window, time) if late else (time,)
    for end in ends:
        measured = _measure(spec, window, end)
        if measured is None or not all(COMPARE[op](measured, limit) for op, limit in spec.conditions):
            continue
        continues = window.spoken is not None and abs(end - window.spoken) <= spec.window_s
        window.spoken = end if window.spoken is None or not continues else max(window.spoken, end)
        window.asked = time
        return measured, continues
    return None


def _prune(spec: Correlation, window: Window) -> None:
    """Forgets what no window can reach any more; in strides, as each cut moves the rest of the list."""
    horizon = window.newest - 2 * spec.window_s
    slack = horizon - spec.window_s / 8
    entries = window.entries
    if entries and entries[0][0] < slack:
        del entries[: bisect.bisect_left(entries, (horizon,))]
    for times in window.times.values():
        if times and times[0] < slack:
            del times[: bisect.bisect_left(times, horizon)]
    latest = window.latest
    while latest:
        value = next(iter(latest))
        if latest[value] >= horizon:
            break
        del latest[value]
    if not (entries or latest or any(window.times.values())):
        window.entities, window.evidence, window.saturated = [], [], False


def _put_entry(window: Window, entry: tuple[float, int, str]) -> bool:
    entries = window.entries
    late = bool(entries) and entry[0] < entries[-1][0]
    if late:
        bisect.insort(entries, entry)
    elif entries and entries[-1][0] == entry[0] and entries[-1][2] == entry[2]:
        entries[-1] = (entry[0], entries[-1][1] + entry[1], entry[2])
    else:
        entries.append(entry)
    if len(entries) > ENTRIES_MAX:  # halve the resolution, keep the number
        window.saturated = True
        pairs = zip(entries[::2], entries[1::2], strict=False)
        odd = [entries[-1]] if len(entries) % 2 else []
        window.entries = [(b[0], a[1] + b[1], b[2]) for a, b in pairs] + odd
    return late


def _put_latest(window: Window, value: str, time: float) -> bool:
    latest = window.latest
    known = latest.get(value)
    if known is not None and known >= time:
        return False
    late = bool(latest) and time < next(reversed(latest.values()))
    latest.pop(value, None)
    latest[value] = time
    if late:
        window.latest = dict(sorted(latest.items(), key=lambda item: item[1]))
    if len(latest) > ENTRIES_MAX:
        window.saturated = True
        del window.latest[next(iter(window.latest))]
    return late


def _put_time(window: Window, number: int, time: float) -> bool:
    times = window.times.setdefault(number, [])
    late = any(other and other[-1] > time for other in window.times.values())
    if not times or times[-1] < time:
        times.append(time)
    elif times[bisect.bisect_left(times, time)] != time:
        bisect.insort(times, time)
    if len(times) > ENTRIES_MAX:  # the newest decide
        window.saturated = True
        del times[: ENTRIES_MAX // 2]
    return late


def _endpoints(spec: Correlation, window: Window, time: float) -> Iterator[float]:
    """The ends of the windows that a late hit belongs to, the nearest first."""
    limit = time + spec.window_s
    if spec.type == "value_count":
        ends = [at for at in window.latest.values() if time <= at <= limit]
    elif spec.type in {"temporal", "temporal_ordered"}:
        ends = sorted(
            {at for times in window.times.values() for at in times[bisect.bisect_left(times, time) :] if at <= limit}
        )
    else:
        first = bisect.bisect_left(window.entries, (time,))
        ends = [entry[0] for entry in window.entries[first : first + LATE_ENDPOINTS_MAX] if entry[0] <= limit]
    yield time
    yield from ends[:LATE_ENDPOINTS_MAX]


def _measure(spec: Correlation, window: Window, end: float) -> float | None:
    """What the condition compares, in the window that ends here; None where it has no value."""
    start = end - spec.window_s
    if spec.type == "value_count":
        latest = window.latest
        if next(reversed(latest.values()), end) <= end and next(iter(latest.values()), end) >= start:
            return len(latest)
        return sum(start <= at <= end for at in latest.values())
    if spec.type == "temporal":
        seen = {
            n for n, times in window.times.items() if (i := bisect.bisect_right(times, end)) and times[i - 1] >= start
        }
        if spec.expression is not None:
            return len(seen) if _holds(spec.expression, seen) else None
        return len({spec.rules[n] for n in seen})
    if spec.type == "temporal_ordered":
        return _ordered(spec, window, start, end)
    inside = window.entries[
        bisect.bisect_left(window.entries, (start,)) : bisect.bisect_right(window.entries, (end, math.inf))
    ]
    if spec.type == "event_count":
        return sum(entry[1] for entry in inside)
    numbers: list[tuple[float, int]] = []
    for _, count, item in inside:
        try:
            number = float(item)
        except ValueError:
            continue
        if math.isfinite(number):
            numbers.append((number, count))
    if not numbers:
        return None
    total = sum(number * count for number, count in numbers)
    if spec.type == "value_sum":
        return total
    weight = sum(count for _, count in numbers)
    if spec.type == "value_avg":
        return total / weight
    share = 50 if spec.type == "value_median" else spec.percentile
    rank = max(1, math.ceil(weight * share / 100))
    for number, count in sorted(numbers):
        rank -= count
        if rank <= 0:
            return number
    return max(numbers)[0]


def _ordered(spec: Correlation, window: Window, start: float, end: float) -> float | None:
    """How many of the rules were hit in their order within the window; None where an expression over them does not hold."""

    def hit(number: int, since: float) -> float:
        """The first time at which a rule is hit from a moment on, infinite where it is not."""
        times = window.times.get(number, [])
        place = bisect.bisect_left(times, since)
        return times[place] if place < len(times) and times[place] <= end else math.inf

    if spec.expression is not None:
        return len(spec.rules) if _completed(spec.expression, start, hit, start) <= end else None
    reached = [start]  # reached[n]: the earliest time at which n rules have been hit one after the other
    for number in range(len(spec.rules)):
        extended = hit(number, reached[-1])
        for count in range(len(reached) - 1, 0, -1):
            reached[count] = min(reached[count], hit(number, reached[count - 1]))
        if extended <= end:
            reached.append(extended)
    return len(reached) - 1


def _completed(expression: Any, since: float, hit: Callable[[int, float], float], start: float) -> float:
    """The earliest time at which an expression holds from a moment on, its parts in the order in which they are written."""
    if isinstance(expression, int):
        return hit(expression, since)
    kind, *args = expression
    if kind == "not":  # nowhere in the window
        return since if _completed(args[0], start, hit, start) == math.inf else math.inf
    if kind == "or":
        return min(_completed(arg, since, hit, start) for arg in args)
    for arg in args:
        since = _completed(arg, since, hit, start)
    return since


def _holds(expression: Any, seen: set[int]) -> bool:
    if isinstance(expression, int):
        return expression in seen
    kind, *args = expression
    if kind == "not":
        return not _holds(args[0], seen)
    return (all if kind == "and" else any)(_holds(arg, seen) for arg in args)


def _remember(spec: Correlation, window: Window, number: int, fact: Fact) -> None:
    """Entities and evidence of the burst: of every rule the first lines, so that the alert shows each step."""
    for entity in fact.entities:
        if len(window.entities) < ENTITIES_MAX and entity not in window.entities:
            window.entities.append(entity)
    if not fact.evidence:
        return
    minute, taken = window.taken.get(number, (-1, 0))
    if minute == fact.minute and taken >= EVIDENCE_MAX:
        return  # facts beyond these may carry lines or not, depending on where a batch was cut
    horizon = window.newest - spec.window_s
    held = [entry for entry in window.evidence if entry[0] >= horizon]
    for evidence in fact.evidence[: EVIDENCE_MAX - (taken if minute == fact.minute else 0)]:
        taken = taken + 1 if minute == fact.minute else 1
        minute = fact.minute
        if len(held) < EVIDENCE_MAX:
            held.append((evidence.time, number, evidence))
        elif all(entry[1] != number for entry in held):
            held[-1] = (evidence.time, number, evidence)
    window.taken[number] = (minute, taken)
    window.evidence = held


def _finding(plan: _Plan, window: Window, fact: Fact, count: float, *, continues: bool) -> Fact:
    spec = plan.correlation
    start = fact.last - spec.window_s
    first = fact.first
    if spec.type == "value_count":
        first = min((at for at in window.latest.values() if at >= start), default=first)
    elif spec.type in {"temporal", "temporal_ordered"}:
        first = min(
            (at for times in window.times.values() for at in times[bisect.bisect_left(times, start) :][:1]),
            default=first,
        )
    elif (place := bisect.bisect_left(window.entries, (start,))) < len(window.entries):
        first = window.entries[place][0]
    extra: dict[str, str] = dict(fact.extra)
    extra.update(zip(spec.group_by, fact.key.split(JOIN), strict=False))
    extra["window_s"] = f"{spec.window_s:g}"
    if continues:
        extra["continues"] = "1"
    else:
        extra.pop("continues", None)
    if window.saturated:
        extra["saturated"] = "1"
    return Fact(
        detector=plan.rule.id,
        key=fact.key,
        item="",
        minute=int(fact.last // 60),
        step=fact.step,
        first=min(first, fact.first),
        last=fact.last,
        count=int(count),
        value=float(count) if count != int(count) else 0.0,
        entities=tuple(window.entities),
        evidence=tuple(entry[2] for entry in sorted(window.evidence, key=lambda entry: entry[0])),
        extra=extra,
    )


def _upwards(plan: _Plan, above: _Plan, result: Fact) -> Fact:
    """The fact that a finding is to the correlation above it, which sees only its group-by values."""
    number = above.correlation.rules.index(plan.rule.id)
    values: Mapping[str, str] = dict(zip(plan.correlation.group_by, result.key.split(JOIN), strict=False))
    key = JOIN.join(values[name] for name in above.correlation.groups[number])
    item = JOIN.join(values.get(name, "") for name in above.correlation.items)
    return msgspec.structs.replace(
        result,
        detector=f"{above.rule.id}<{plan.rule.id}",
        key=key,
        item=item,
        first=result.last,
        count=1,
        extra=dict(result.extra),
    )
