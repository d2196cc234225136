"""Runs the examples that stand inside the profile files: lines of equal days through the parser, then the day in question."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from connectors.events import Event
from detectors.behaviour.detector import Behaviour
from detectors.behaviour.inventory import Inventory
from detectors.behaviour.models import Learning, fit
from detectors.behaviour.profiles import (
    FIELD,
    Case,
    Profile,
    ProfileError,
    Scheduled,
    Tests,
    minutes_of,
    placed_profiles,
)
from detectors.facts import Evidence, Feature, Located, Observation
from detectors.sigma.rule_tests import MemoryStore, TestResult

TEST_DAY = datetime(
    2026, 3, 18, tzinfo=ZoneInfo("Europe/Berlin")
)  # a Wednesday without holiday or clock change near it
LINES_MAX = 100_000  # of one test
TREES = 50  # of a forest grown for a test
NEWS_RATE = 0.5  # what a forest says more often per day is no news
_PROFILE = re.compile(rb"(?m)^family:")  # no Sigma rule has it


def is_profile(path: Path) -> bool:
    """Whether a YAML file holds behaviour profiles rather than rules."""
    return _PROFILE.search(path.read_bytes()) is not None


def run_tests(paths: Sequence[Path], beside: Iterable[Path] = ()) -> list[TestResult]:
    """The results of all examples in files and folders. What profiles refer to may stand in the same folder or `beside`.

    Raises ProfileError.
    """
    asked = _files(paths)
    around = {**asked, **_files(path.parent for path in asked)}
    try:
        profiles, places = placed_profiles(around.values())
    except ProfileError as alone:
        try:
            profiles, places = placed_profiles({**around, **_files(beside)}.values())
        except ProfileError:
            raise alone from None
    results: list[TestResult] = []
    for profile in profiles.values():
        path = places[profile.id].rpartition(":")[0]
        if profile.tests and Path(path).resolve() in asked:
            results += _run(profile, profile.tests, _needed(profile, profiles), places[profile.id])
    return results


def _files(paths: Iterable[Path]) -> dict[Path, Path]:
    """Resolved -> as named, each file once."""
    named = (file for path in paths for file in (sorted(path.glob("*.yml")) if path.is_dir() else [path]))
    return {file.resolve(): file for file in named if is_profile(file)}


def _needed(profile: Profile, profiles: Mapping[str, Profile]) -> dict[str, Profile]:
    """The profile with all that it reads from."""
    found = {profile.id: profile}
    waiting = [profile]
    while waiting:
        one = waiting.pop()
        lists = {one.only_known, *(name for c in one.counters for name in (c.known, c.foreign))} - {None}
        names = {after.profile for after in one.after_failures}
        names |= {counter.profile for counter in one.forest.counters} if one.forest else set()
        names |= {p.id for p in profiles.values() if p.remember and p.remember.list in lists}
        for name in sorted(names - found.keys()):
            found[name] = profiles[name]
            waiting.append(profiles[name])
    return found


def _run(profile: Profile, tests: Tests, needed: Mapping[str, Profile], place: str) -> Iterator[TestResult]:
    behaviour = Behaviour(needed, None, Inventory(), Learning())
    store = MemoryStore()
    features: list[Feature] = []
    fault = ""
    try:
        for day in range(-tests.days, 0):
            features += _day(behaviour, store, _events(tests, tests.each_day, day))[1]
    except ValueError as error:
        fault = str(error)
    if profile.forest and not fault:
        learning = Learning(trees=TREES).within(tests.days)
        behaviour.learning = learning
        behaviour.models = fit(features, learning=learning, seed=1, fingerprints=behaviour.fingerprints)
    for case in tests.cases:
        detail = fault or _fault_of(profile, tests, case, behaviour, deepcopy(store))
        yield TestResult(profile.id, profile.title, case.name, place, not detail, detail)


def _fault_of(profile: Profile, tests: Tests, case: Case, behaviour: Behaviour, store: MemoryStore) -> str:
    try:
        observations, _ = _day(behaviour, store, _events(tests, [*tests.each_day, *case.then], 0))
    except ValueError as error:
        return str(error)
    own = [o for o in observations if o.detector.partition("/")[0] == profile.id]
    said = {o.detector.partition("/")[2]: o for o in own if o.rate is None or o.rate < NEWS_RATE}
    if case.expect == "none":
        return f"expected none; said were {', '.join(o.sentence['en'] for o in said.values())}" if said else ""
    missing = [name for name in case.expect if name not in said]
    return f"{', '.join(missing)} not said; said were {', '.join(sorted(said)) or 'none'}" if missing else ""


def _day(
    behaviour: Behaviour, store: MemoryStore, read: tuple[list[Event], list[str]]
) -> tuple[list[Observation], list[Feature]]:
    events, lines = read
    located = Located(
        tenant="test",
        events=events,
        sources=["test"] * len(events),
        steps=[int(event.timestamp // 60) for event in events],
        evidence=lambda i: Evidence(events[i].timestamp, "test", "raw", 0, i, 0, lines[i]),
    )
    facts = sorted(behaviour.facts(located), key=lambda fact: fact.step)
    steps = {step: list(given) for step, given in itertools.groupby(facts, key=lambda fact: fact.step)}
    end = max(steps, default=0) // 60 * 60 + 60
    hours = range(min(steps, default=0) // 60 * 60, end + 60, 60)  # forests speak when an hour is over
    observations: list[Observation] = []
    features: list[Feature] = []
    for minute in sorted({*steps, *hours}):
        said, learned = behaviour.observe(store, minute, steps.get(minute, []))
        observations += said
        features += learned
    return observations, features


def _events(tests: Tests, schedule: Sequence[Scheduled], day: int) -> tuple[list[Event], list[str]]:
    """The events of one day (0 is the day in question) and their lines. Raises ValueError."""
    from connectors.parse import Reader

    midnight = TEST_DAY.timestamp() + day * 86_400.0
    stamped = sorted((line for entry in schedule for line in _lines(tests, entry, midnight)), key=lambda pair: pair[0])
    if len(stamped) * (tests.days + 1) > LINES_MAX:
        raise ValueError(f"more than {LINES_MAX} lines")
    lines = [line for _, line in stamped]
    reader = Reader(tests.parser, tenant="test", source="test", timezone="Europe/Berlin", year=TEST_DAY.year)
    read = reader.read([line.encode() for line in lines], midnight + 86_400.0)
    if read.dead:
        index, reason, _ = read.dead[0]
        raise ValueError(f"line cannot be read: {reason}: {lines[index]}")
    return read.events, [lines[index] for index in read.line_of]


def _lines(tests: Tests, entry: Scheduled, midnight: float) -> Iterator[tuple[float, str]]:
    template = tests.lines.get(entry.line, entry.line)
    values = [value if isinstance(value, list) else [value] for value in entry.set.values()]
    number = 0
    for minute in minutes_of(entry.at) or ():
        at = midnight + minute * 60.0
        for chosen in itertools.product(*values):
            counted = {"n": number}
            given = {name: _filled(str(value), counted) for name, value in zip(entry.set, chosen, strict=True)}
            yield at, _filled(template, _stamps(at) | given | counted)
            number += 1


def _filled(text: str, values: Mapping[str, object]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in values:
            return found[0]
        width = found[0].partition(":0")[2].rstrip("}")
        return str(values[name]).rjust(int(width or 0), "0")

    return FIELD.sub(value, text)


def _stamps(at: float) -> dict[str, object]:
    local, utc = datetime.fromtimestamp(at, TEST_DAY.tzinfo), datetime.fromtimestamp(at, UTC)
    return {
        "date": f"{local:%Y-%m-%d}",
        "time": f"{local:%H:%M:%S}",
        "iso": local.isoformat(timespec="seconds"),
        "utc": f"{utc:%Y-%m-%dT%H:%M:%SZ}",
        "syslog": f"{local:%b %e %H:%M:%S}",
        "clf": f"{local:%d/%b/%Y:%H:%M:%S %z}",
        "epoch": f"{at:.3f}",
    }
