"""The stateful half: an exfiltration is found and an ordinary day is silent; batches change nothing; state is bounded."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.behaviour import Behaviour, Learning, Models, fit
from detectors.behaviour.profiles import WINDOWS
from detectors.facts import Evidence, Fact, Feature, Observation
from shield.keyed import SEPARATOR, TenantStore

SHIPPED = Path(__file__).parent.parent / "rules" / "profiles"
FEW = ("address_hours", "host_process", "logon_failures", "network_spread", "outbound_volume")
PROFILES = [SHIPPED / f"{name}.yml" for name in FEW]
DAY = 1440
START = 20_000 * DAY
MB = 1_000_000.0
OUTSIDE = "198.51.100.77"
THIEF = "10.1.4.23"


def fact(detector: str, key: str, item: str, minute: int, count: int = 1, value: float = 0.0, offset: int = 0) -> Fact:
    at = minute * 60.0
    line = Evidence(at, "fw", "raw", 0, offset or minute, 0, f"line {offset or minute}")
    return Fact(detector, key, item, minute, minute, at, at, count, value, (("address", key),), (line,))


def ordinary_day(day: int, seed: int = 7) -> list[Fact]:
    """Twenty workstations, some megabytes an hour in office hours to a few outside servers, seldom a new one."""
    made = []
    for number in range(20):
        rng = random.Random(f"{seed}/{day}/{number}")
        key = THIEF if number == 0 else f"10.1.4.{100 + number}"
        budget = (20.0 + 10.0 * rng.random()) * MB
        for hour in range(6, 16):
            minute = START + day * DAY + hour * 60 + rng.randrange(60)
            item = f"203.0.113.{rng.randrange(4)}" if rng.random() < 0.98 else f"203.0.113.{rng.randrange(50, 250)}"
            made.append(fact("outbound_volume", key, item, minute, 3, float(int(budget / 10))))
            targets = rng.sample(range(5), rng.randrange(1, 5))
            made.extend(
                fact("network_spread", key, f"10.2.0.{n}\x1f443", minute, rng.randrange(1, 20)) for n in targets
            )
    return made


def exfiltration(day: int, per_hour: float = 60 * MB) -> list[Fact]:
    minutes = (START + day * DAY + hour * 60 + m for hour in range(7, 17) for m in range(0, 60, 6))
    return [fact("outbound_volume", THIEF, OUTSIDE, minute, 1, per_hour / 10) for minute in minutes]


def run(behaviour: Behaviour, store: TenantStore, facts: Iterable[Fact]) -> tuple[list[Observation], list[Feature]]:
    steps: dict[int, list[Fact]] = {}
    for one in facts:
        steps.setdefault(one.step, []).append(one)
    observations, features = [], []
    for minute in sorted(steps):
        said, learned = behaviour.observe(store, minute, steps[minute])
        observations.extend(said)
        features.extend(learned)
    return observations, features


class Town(msgspec.Struct):
    """A store after some days, as a changelog that can be loaded again and again."""

    changelog: list[tuple[str, bytes]]
    features: list[Feature]

    def store(self) -> TenantStore:
        store = TenantStore("town")
        for key, value in self.changelog:
            _, table, entry = key.split(SEPARATOR, 2)
            store.load(table, entry, value)
        return store


@pytest.fixture(scope="module")
def town() -> Town:
    store = TenantStore("town")
    _, features = run(Behaviour.load(PROFILES), store, (f for day in range(17) for f in ordinary_day(day)))
    return Town([(key, value) for key, value in store.changes() if value is not None], features)


@pytest.fixture(scope="module")
def learned(town: Town) -> Models:
    return fit(town.features, learning=Learning(trees=20), seed=1)


def test_a_slow_exfiltration_is_found_and_the_same_day_without_it_is_silent(town: Town, learned: Models) -> None:
    behaviour = Behaviour.load(PROFILES, learned)
    usual, _ = run(behaviour, town.store(), ordinary_day(17))
    with_theft, _ = run(behaviour, town.store(), ordinary_day(17) + exfiltration(17))
    strong = [o for o in with_theft if o.family == "vol" and o.rate is not None and o.rate <= 0.02]

    assert {o.detector.split("/")[1] for o in strong} >= {"bytes_24h", "bytes_1h", "new_destination_bytes_24h"}
    assert all(("address", THIEF) in o.entities and o.tenant == "town" for o in strong)
    assert len(strong) <= 60, "8 % of growth between two observations bounds their number"
    assert [o for o in usual if o.rate is not None and o.rate <= 0.02] == []
    last = [o for o in strong if o.detector == "outbound_volume/bytes_24h"][-1]
    assert last.sentence["de"].startswith(f"Arbeitsplatz {THIEF} sendet in 24 h ")
    assert "MB nach außen (bisheriger Tageshöchstwert " in last.sentence["de"]
    assert last.sentence["en"].startswith(f"Workstation {THIEF} sends ")
    assert last.reasons[0].name == "bytes_24h"
    assert last.reasons[0].window_s == 86_400.0
    assert isinstance(last.reasons[0].actual, float)
    assert isinstance(last.reasons[0].typical, float)
    assert last.reasons[0].actual > 500 * MB > 40 * MB > last.reasons[0].typical > 15 * MB
    assert last.item == OUTSIDE
    assert last.group == "client"
    assert last.evidence


def test_more_is_never_rated_as_more_frequent(town: Town, learned: Models) -> None:
    behaviour = Behaviour.load(PROFILES, learned)
    rates = []
    for per_hour in (40 * MB, 60 * MB, 200 * MB, 900 * MB):
        said, _ = run(behaviour, town.store(), ordinary_day(17) + exfiltration(17, per_hour))
        rates.append(min(o.rate for o in said if o.rate is not None and o.detector.endswith("/bytes_24h")))
    assert rates == sorted(rates, reverse=True)
    said, _ = run(behaviour, town.store(), exfiltration(17))
    of_one = [o.rate for o in said if o.detector == "outbound_volume/bytes_24h"]
    assert of_one == sorted(of_one, key=lambda r: -(r or 0.0))
    assert len(of_one) > 3


def test_it_does_not_guess(town: Town, learned: Models) -> None:
    attack = ordinary_day(17) + exfiltration(17)
    without, _ = run(Behaviour.load(PROFILES), town.store(), attack)
    assert without, "it observes"
    assert {o.rate for o in without} == {None}

    young, _ = run(Behaviour.load(PROFILES, learned), TenantStore("new town"), ordinary_day(17))
    assert {o.rate for o in young} == {None}, "a tenant in its warm-up is not rated by the tails of others"

    few = fit((f for f in town.features if f.day < START // DAY + 11), learning=Learning(), seed=1)
    early, _ = run(Behaviour.load(PROFILES, few), town.store(), attack)
    assert {o.rate for o in early} == {None}, "five days of warm-up and six of calibration are too few"
    enough = fit((f for f in town.features if f.day < START // DAY + 12), learning=Learning(), seed=1)
    rated, _ = run(Behaviour.load(PROFILES, enough), town.store(), attack)
    assert None not in {o.rate for o in rated if o.family == "vol"}

    changed = msgspec.structs.replace(learned, fingerprints={"outbound_volume": "of another profile"})
    foreign, _ = run(Behaviour.load(PROFILES, changed), town.store(), attack)
    assert {o.rate for o in foreign if o.family == "vol"} == {None}


def test_status_counts_the_days(town: Town, learned: Models) -> None:
    day = START // DAY

    def state(behaviour: Behaviour, store: TenantStore, on: int) -> tuple[str, int, int]:
        found = next(s for s in behaviour.status(store, on) if s.profile == "outbound_volume")
        assert found.family == "vol"
        return found.state, found.seen, found.needed

    store = TenantStore("t")
    behaviour = Behaviour.load(PROFILES)
    assert state(behaviour, store, day) == ("warm-up", 0, 12)
    run(behaviour, store, (f for d in range(5) for f in ordinary_day(d)))
    assert state(behaviour, store, day + 4) == ("warm-up", 4, 12), "today is not over"
    assert state(behaviour, store, day + 5) == ("calibrating", 5, 12)
    assert state(Behaviour.load(PROFILES, learned), town.store(), day + 17) == ("live", 17, 12)


def test_a_restored_store_goes_on_as_if_nothing_happened(town: Town, learned: Models) -> None:
    behaviour = Behaviour.load(PROFILES, learned)
    attack = ordinary_day(17) + exfiltration(17)
    whole, features = run(behaviour, town.store(), attack)
    noon = START + 17 * DAY + 12 * 60
    store = town.store()
    first = run(behaviour, store, [f for f in attack if f.step < noon])
    entries = dict(town.changelog)
    for key, value in store.changes():
        if value is None:
            entries.pop(key, None)
        else:
            entries[key] = value
    second = run(behaviour, Town(list(entries.items()), []).store(), [f for f in attack if f.step >= noon])
    assert first[0] + second[0] == whole
    assert first[1] + second[1] == features


names = st.sampled_from(["10.1.0.1", "10.1.0.2", "192.0.2.9"])
raw_facts = st.lists(
    st.tuples(
        st.sampled_from(
            ["outbound_volume", "logon_failures", "network_spread", "host_process", "host_process", "a rule"]
        ),
        names,
        st.sampled_from(["a", "b", "c", "d"]),
        st.integers(0, 3 * DAY),
        st.integers(0, 2),  # late by so many hours
        st.integers(1, 50),
        st.integers(0, 10**9),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(raw=raw_facts, rng=st.randoms(use_true_random=False))
def test_cuts_and_order_of_batches_change_nothing(
    raw: list[tuple[str, str, str, int, int, int, int]], rng: random.Random
) -> None:
    facts = []
    for n, (detector, key, item, minute, late, count, value) in enumerate(raw):
        one = fact(detector, key, item, START + minute, count, float(value), offset=n + 1)
        one.step += late * 60
        facts.append(one)
    split = []
    for one in facts:
        left = rng.randrange(one.count + 1)
        if 0 < left < one.count:  # the same lines, cut into two batches: the earliest line stays with one of them
            part = int(one.value) // 3
            split.append(msgspec.structs.replace(one, count=left, value=float(part)))
            split.append(msgspec.structs.replace(one, count=one.count - left, value=one.value - part))
        else:
            split.append(one)
    rng.shuffle(split)
    behaviour = Behaviour.load(PROFILES, _rating())
    a, b = TenantStore("t"), TenantStore("t")
    assert run(behaviour, a, facts) == run(behaviour, b, split)
    assert dict(a.changes()) == dict(b.changes())


def _rating() -> Models:
    days = [Feature("t", p, "", d, d * 86400.0, ()) for p in ("outbound_volume", "logon_failures") for d in range(20)]
    return fit(days, learning=Learning(), seed=1)


def test_said_again_within_a_day_only_after_growth() -> None:
    behaviour = Behaviour.load(PROFILES)
    store = TenantStore("t")

    def failures(minute: int, count: int) -> list[str]:
        said, _ = behaviour.observe(
            store, START + minute, [fact("logon_failures", "10.1.0.9", "anna", START + minute, count)]
        )
        return [o.detector for o in said if o.detector == "logon_failures/failures_24h"]

    assert failures(0, 4) == [], "below the minimum"
    assert len(failures(1, 6)) == 1
    assert failures(2, 1) == [], "ln(12) is less than 8 % above ln(11)"
    assert len(failures(3, 9)) == 1
    assert failures(3, 0) == []
    assert len(failures(4 + DAY, 30)) == 1, "a day later it is news again"


@settings(max_examples=80, deadline=None)
@given(
    raw=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 90), st.sampled_from("abcdefgh"), st.integers(0, 30_000_000)),
        min_size=1,
        max_size=60,
    )
)
def test_every_day_keeps_its_highest_reading_as_if_all_windows_were_read_each_time(
    raw: list[tuple[int, int, str, int]],
) -> None:
    """What spares work (windows that cannot have risen, one table of items for all windows) must not be seen."""
    behaviour, store = Behaviour.load(PROFILES), TenantStore("t")
    said_of = {"outbound_volume": ("bytes", ("1h", "24h")), "network_spread": ("targets", ("10m", "1h", "24h"))}
    tops: dict[str, dict[str, float]] = {}
    seen: list[tuple[int, str, int]] = []
    minute = day = START
    for gap, late, item, amount in raw:
        minute += gap
        at = minute - late
        seen.append((at, item, amount))
        behaviour.observe(store, minute, [fact(name, THIEF, item, at, 1, float(amount)) for name in said_of])
        now = max(m for m, _, _ in seen)
        if now // DAY != day // DAY:
            tops.clear()
        day = now
        for name, (counter, windows) in said_of.items():
            series = store.tables[f"behaviour.{name}"].get(THIEF)
            assert series is not None
            for window in windows:
                step, buckets = WINDOWS[window]
                start = (now // step - buckets + 1) * step
                within = [(i, a) for m, i, a in seen if m >= start]
                actual = float(sum(a for _, a in within) if counter == "bytes" else len({i for i, _ in within}))
                held = tops.setdefault(name, {})
                held[window] = max(actual, held.get(window, 0.0))
                kept = series.windows[f"{counter}_{window}"]
                assert (kept.top, kept.day) == (held[window], now // DAY), (name, window)


def test_what_stays_above_its_peak_is_said_again_after_a_day_although_nothing_was_added() -> None:
    behaviour, store = Behaviour.load(PROFILES), TenantStore("t")

    def reach(minute: int, targets: int) -> bool:
        at = START + minute
        facts = [fact("network_spread", THIEF, f"10.2.0.{n}", at) for n in range(targets)]
        return "network_spread/targets_24h" in {o.detector for o in behaviour.observe(store, at, facts)[0]}

    assert reach(12 * 60, 20)
    assert not reach(DAY + 5, 23), "a tenth above yesterday, but not 8 % above what was said"
    assert not reach(DAY + 11 * 60, 23)
    assert reach(DAY + 12 * 60, 1)


def test_own_peak_of_earlier_days_counts_and_today_never() -> None:
    behaviour = Behaviour.load(PROFILES)
    store = TenantStore("t")
    said: Sequence[Observation] = ()
    for day, count in enumerate((20, 20, 20, 23)):
        at = START + day * 2 * DAY
        said, _ = behaviour.observe(store, at, [fact("logon_failures", "10.1.0.9", "anna", at, count)])
        if day == 2:
            assert [o.detector for o in said] == [], "20 is not a tenth more than the 19 that are left of 20"
    assert [o.reasons[0].name for o in said] == ["failures_10m", "failures_24h"]
    assert said[0].reasons[0].typical == pytest.approx(20 * 0.95)
    assert said[0].reasons[0].actual == 23.0


def test_first_seen_surprise_grows_with_quiet_days_and_the_pair_is_forgotten_after_45() -> None:
    behaviour = Behaviour.load(PROFILES)
    store = TenantStore("t")

    def logon(day: int, item: str, user: str = "anna") -> list[Observation]:
        at = START + day * DAY + 600
        said, _ = behaviour.observe(store, at, [fact("host_process", user, item, at)])
        return list(said)

    logon(0, "10.1.0.1")
    early = logon(1, "10.1.0.2")
    for day in range(2, 30):
        assert logon(day, "10.1.0.1") == []
    late = logon(30, "10.1.0.3")
    assert len(early) == len(late) == 1
    assert late[0].strength[0] > early[0].strength[0]
    assert late[0].item == "10.1.0.3"
    assert "erstmals 10.1.0.3" in late[0].sentence["de"]
    assert logon(31, "10.1.0.3") == [], "known now"
    for user in ("ben", "cem", "dora", "eva"):
        logon(31, "10.1.0.3", user)
    common, rare = logon(60, "10.1.0.3", "fritz"), logon(60, "10.9.9.9", "gerd")
    assert rare[0].strength[1] > common[0].strength[1], "an address that peers use is less rare"
    assert len(logon(31 + 46, "10.1.0.3")) == 1, "forgotten after 45 days"


def test_state_is_bounded_and_hostile_names_do_no_harm() -> None:
    behaviour = Behaviour.load(PROFILES)
    store = TenantStore("t")
    for minute in range(20):
        at = START + minute
        facts = [fact("network_spread", "10.1.0.9", f"10.2.{minute}.{n}\x1f80", at) for n in range(250)]
        facts += [fact("host_process", f"pc\ud800{n}", "\x00{who}%s{0.__class__}" + "x" * 250, at) for n in range(3)]
        behaviour.observe(store, at, facts)
    series, novelty = (store.tables[f"behaviour.network_spread{part}"].get("10.1.0.9") for part in ("", ".pairs"))
    assert series is not None
    assert novelty is not None
    items = series.items["targets"]
    assert len(items.last) <= 2000
    assert 5000 * 0.85 < len(items.last) / items.share < 5000 * 1.15
    assert len(novelty.pairs.items) <= 2000
    assert all(table._entries_max <= 200_000 for table in store.tables.values())


def test_an_hour_unlike_any_other_is_said_with_its_counters(town: Town, learned: Models) -> None:
    assert learned.forests["address_hours"].features == 12
    behaviour = Behaviour.load(PROFILES, learned)
    day = 17 * DAY + START
    flood = [fact("network_spread", THIEF, f"10.2.0.{n}\x1f445", day + 240) for n in range(200)]
    said, features = run(
        behaviour, town.store(), [*ordinary_day(17), *flood, fact("network_spread", "10.1.4.101", "x", day + 900)]
    )
    found = [o for o in said if o.detector == "address_hours/forest" and ("address", THIEF) in o.entities]
    assert found
    assert {"connections", "targets"} == {r.name for r in found[0].reasons if r.actual == 200.0}
    assert "targets 200 statt " in found[0].sentence["de"]
    assert found[0].time == (day + 300) * 60.0, "said for the hour, once it is over"
    assert len({f.time for f in features if f.detector == "address_hours/hours"}) >= 9
