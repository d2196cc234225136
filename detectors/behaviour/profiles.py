"""Behaviour profiles as YAML: their typed shape, and a loader that refuses what it does not know with file and line."""

import math
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

Scalar = str | int | bool
# name -> minutes per bucket, buckets
WINDOWS = {"10m": (1, 10), "30m": (2, 15), "1h": (5, 12), "6h": (30, 12), "24h": (60, 24), "72h": (180, 24)}
SPANS = {"m": 1, "h": 60, "d": 1440}  # minutes per unit of `expires`
FILE_BYTES_MAX = 262_144
DEPTH_MAX = 16
TEST_DAYS_MAX = 60
SCHEDULED_MAX = 5000  # times of one entry of a test
MINUTES_PER_DAY = 1440
PLACEHOLDERS = frozenset({"who", "key", "item", "actual", "typical", "window", "keys", "share", "days", "details"})


class ProfileError(ValueError):
    """Profiles that cannot be used. `faults` are lines of the form file:line: reason, all of them at once."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Texts(Part, frozen=True, kw_only=True):
    de: str
    en: str


class Lists(Part, frozen=True, kw_only=True):
    de: tuple[str, ...] = ()
    en: tuple[str, ...] = ()


class Condition(Part, frozen=True, kw_only=True):
    """All that are given must hold."""

    prefix: str | list[str] | None = None
    exists: bool | None = None
    suffix: str | list[str] | None = None
    address: Literal["internal", "external"] | None = None
    class_: list[str] | None = msgspec.field(default=None, name="class")  # of the account, host or address
    none_of: list[Scalar] | None = None


class Counter(Part, frozen=True, kw_only=True):
    """A count over sliding windows, against the key's own earlier daily peak."""

    name: str  # of the reading: failures becomes failures_10m, failures_24h
    measure: Literal["count", "sum", "distinct"]
    windows: list[Literal["10m", "30m", "1h", "6h", "24h", "72h"]]
    min: float
    of: Literal["all", "new", "rare"] = "all"  # only items new for this key within a day, or that few keys have
    known: str | None = None  # only items in this list (`remember` of another profile)
    foreign: str | None = None  # only pairs of key and item that are not in this list
    unit: Literal["", "bytes"] = ""
    sentence: Texts


class FirstSeen(Part, frozen=True, kw_only=True):
    """A pair (key, item) never seen before, or forgotten."""

    days: Literal["active", "calendar"] = "active"  # calendar: for event types too rare to have active days
    name: str = "first_seen"
    sentence: Texts


class Periodic(Part, frozen=True, kw_only=True):
    """Contacts of a key (source and destination) at regular intervals, while the pair is young."""

    contacts_min: int = 8
    sentence: Texts


class UnusualHour(Part, frozen=True, kw_only=True):
    """Activity of a key at an hour of the local day that is far from all its hours on such days."""

    sentence: Texts


class Travel(Part, frozen=True, kw_only=True):
    """A key seen at two items (countries) within a day."""

    sentence: Texts


class AfterFailures(Part, frozen=True, kw_only=True):
    """A success of a key whose `by` part has failures behind it, as another profile counts them."""

    name: str
    profile: str
    reading: str  # of a counter there: failures_24h
    by: str  # one of the key's fields
    min: float
    sentence: Texts


class LinkTo(Part, frozen=True, kw_only=True):
    """For a while the key stands for the item: an address for the user who got it, a host for who logged on."""

    expires: str  # 12h, 3m


class Remember(Part, frozen=True, kw_only=True):
    """A list of everything this profile saw, for conditions of other profiles."""

    list: str


class ForestCounter(Part, frozen=True, kw_only=True):
    """An hourly counter of a key, fed by the facts of another profile with the same key."""

    name: str
    profile: str
    measure: Literal["count", "sum", "distinct"]
    unit: Literal["", "bytes"] = ""


class Forest(Part, frozen=True, kw_only=True):
    """One isolation forest over an entity's hourly counters and their deviation from its own mean."""

    counters: list[ForestCounter]
    score_min: float = 0.55  # 0.5 is the average of an isolation forest's score
    sentence: Texts


class Scheduled(Part, frozen=True, kw_only=True):
    """Lines of a test at times of a day: one at 10:00, or one after the other from 08:00 to before 16:00 every 30m.

    `line` is one of the test's lines by name, or the line itself. {n} counts up from 0 within one entry.
    """

    at: str | int  # YAML reads an unquoted 10:00 as 600, which is its minute
    line: str
    set: dict[str, Scalar | list[Scalar]] = {}  # what stands for {name} in the line; of a list one line each


class Case(Part, frozen=True, kw_only=True):
    """The day after the history: its ordinary lines, and these."""

    name: str
    then: list[Scheduled] = []
    expect: list[str] | Literal["none"]  # readings of which at least these are said that day


class Tests(Part, frozen=True, kw_only=True):
    """Examples that `shield rules test` runs: a short history of equal days, and what is said on the day after."""

    parser: str
    lines: dict[str, str] = {}  # with {name} for what is set, and the time as {date}, {time}, {iso}, {syslog}, ...
    days: int = 9
    each_day: list[Scheduled] = []
    cases: list[Case]


class Profile(Part, frozen=True, kw_only=True):
    id: str
    title: str
    title_de: str
    family: str
    severity: Literal["low", "medium", "high"] = "medium"
    attack: tuple[str, ...] = ()
    benign: Lists = Lists()
    key: str | list[str]
    class_: bool = msgspec.field(default=False, name="class")  # one tail per class of the first key field
    only_known: str | None = None  # only keys (their first part) in this list (`remember` of another profile)
    rare: bool = False  # of a kind too rare to have days of its own: its learning time is the tenant's
    spread: bool = False  # network spread: allowed scanners of the inventory are skipped
    select: dict[str, Scalar | list[Scalar] | Condition] = {}
    item: str | list[str] | None = None
    value: str | None = None  # summed; events without it are not counted
    entities: list[str] = []  # besides the key's
    counters: list[Counter] = []
    first_seen: FirstSeen | None = None
    periodic: Periodic | None = None
    unusual_hour: UnusualHour | None = None
    travel: Travel | None = None
    after_failures: list[AfterFailures] = []
    link: LinkTo | None = None
    remember: Remember | None = None
    forest: Forest | None = None
    tests: Tests | None = None

    @property
    def keys(self) -> list[str]:
        return [self.key] if isinstance(self.key, str) else self.key

    @property
    def items(self) -> list[str]:
        return [self.item] if isinstance(self.item, str) else self.item or []

    @property
    def readings(self) -> list[str]:
        """What its detectors are called behind the profile's id: failures_24h, first_seen."""
        names = [f"{c.name}_{w}" for c in self.counters for w in c.windows] + [a.name for a in self.after_failures]
        names += [self.first_seen.name] if self.first_seen else []
        return names + [name for name in ("periodic", "unusual_hour", "travel", "forest") if getattr(self, name)]

    def fingerprint(self) -> str:
        """Changes with whatever changes the readings, not with texts: then what was learned no longer fits."""
        plain = msgspec.to_builtins(self)
        for name in ("title", "title_de", "severity", "attack", "benign", "entities", "tests"):
            plain.pop(name)
        singles = (plain[name] or {} for name in ("first_seen", "periodic", "unusual_hour", "travel", "forest"))
        for part in (*plain["counters"], *plain["after_failures"], *singles):
            part.pop("sentence", None)
        return blake2b(msgspec.json.encode(plain, order="deterministic"), digest_size=16).hexdigest()


_PARTS: tuple[type[msgspec.Struct], ...] = (
    *(Profile, Texts, Lists, Condition, Counter, FirstSeen, Periodic, UnusualHour, Travel, AfterFailures),
    *(LinkTo, Remember, ForestCounter, Forest, Scheduled, Case, Tests),
)
_NAMES = sorted({name for part in _PARTS for name in part.__struct_encode_fields__})


def load_profiles(paths: Iterable[Path]) -> dict[str, Profile]:
    """Profiles by id from files and folders (`*.yml`). Raises ProfileError with every fault found."""
    return placed_profiles(paths)[0]


def placed_profiles(paths: Iterable[Path]) -> tuple[dict[str, Profile], dict[str, str]]:
    """The same with the place of each, file:line."""
    faults: list[str] = []
    found: dict[str, Profile] = {}
    places: dict[str, str] = {}
    for path in _files(paths):
        for line, profile in _read(path, faults):
            if profile.id in found:
                faults.append(f"{path}:{line}: id {profile.id!r} is taken by {places[profile.id]}")
                continue
            found[profile.id], places[profile.id] = profile, f"{path}:{line}"
    for profile in found.values():
        faults.extend(f"{places[profile.id]}: {reason}" for reason in _faults_between(profile, found))
    if faults:
        raise ProfileError(faults)
    return dict(sorted(found.items())), places


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.yml"))
        else:
            yield path


def _read(path: Path, faults: list[str]) -> list[tuple[int, Profile]]:
    """The profiles of one file, one per document, with the line each begins on."""
    try:
        data = path.read_bytes()
    except OSError as error:
        faults.append(f"{path}:1: cannot be read: {error.strerror}")
        return []
    if len(data) > FILE_BYTES_MAX:
        faults.append(f"{path}:1: longer than {FILE_BYTES_MAX} bytes")
        return []
    made: list[tuple[int, Profile]] = []
    try:
        nodes: list[yaml.Node | None] = list(yaml.compose_all(data, Loader=yaml.CSafeLoader))
        for node in nodes or [None]:
            profile = _profile(path, node, faults)
            if profile is not None:
                made.append((node.start_mark.line + 1 if node else 1, profile))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        faults.append(f"{path}:{mark.line + 1 if mark else 1}: {error.problem}")
    except (yaml.YAMLError, RecursionError):
        faults.append(f"{path}:1: is not YAML")
    return made


def _profile(path: Path, node: yaml.Node | None, faults: list[str]) -> Profile | None:
    lines: dict[str, int] = {}
    plain = _plain(node, "$", lines, 0) if node is not None else None
    try:
        profile = msgspec.convert(plain, Profile)
    except msgspec.ValidationError as error:
        faults.append(_located(path, str(error), lines))
        return None
    own = list(_faults_within(profile))
    faults.extend(f"{path}:{lines.get(at) or lines.get('$', 1)}: {reason}" for at, reason in own)
    return None if own else profile


def _plain(node: yaml.Node, at: str, lines: dict[str, int], depth: int) -> Any:
    """The value of a node; notes the line of every path. Aliases are refused: they can grow without bound."""
    lines[at] = node.start_mark.line + 1
    if depth > DEPTH_MAX:
        raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        made: dict[Any, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in made:
                raise yaml.MarkedYAMLError(problem=f"{name!r} is given twice", problem_mark=key.start_mark)
            made[name] = _plain(value, f"{at}.{name}", lines, depth + 1)
            lines[f"{at}.{name}"] = key.start_mark.line + 1
        return made
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value, f"{at}[{i}]", lines, depth + 1) for i, value in enumerate(node.value)]
    return (
        yaml.CSafeLoader.yaml_constructors[node.tag](yaml.SafeLoader(""), node)
        if node.tag in _SCALARS
        else str(node.value)
    )


_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null")}


def _located(path: Path, message: str, lines: Mapping[str, int]) -> str:
    text, _, at = message.partition(" - at `")
    at = at.rstrip("`") or "$"
    unknown = text.removeprefix("Object contains unknown field `").rstrip("`") if "unknown field" in text else ""
    if unknown:
        above = at.split("[...]", 1)[0]  # what msgspec writes for a mapping's value
        at = next((p for p in lines if p.startswith(above) and p.endswith(f".{unknown}")), at)
        near = get_close_matches(unknown, _NAMES, n=1)
        text = f"unknown key {unknown!r}" + (f", did you mean {near[0]!r}?" if near else "")
    while at not in lines and at != "$":  # the nearest known place above it
        at = at[: max(at.rfind("."), at.rfind("["), 1)]
    return f"{path}:{lines.get(at, 1)}: {text}"


def _faults_within(profile: Profile) -> Iterator[tuple[str, str]]:
    if not profile.id.replace("_", "").isalnum() or not profile.id.islower():
        yield "$.id", f"id {profile.id!r} may only have lower-case letters, digits and underscores"
    if profile.forest is not None:
        if profile.value or profile.item or profile.select or _watches(profile) > 1:
            yield "$.forest", "a forest counts the facts of other profiles: nothing but its key stands beside it"
        if not profile.forest.counters:
            yield "$.forest", "a forest needs counters"
    elif not _watches(profile):
        yield "$.id", f"a profile needs one of {', '.join(_WATCHED)}"
    elif not profile.select:
        yield "$.id", "a profile needs select"
    if not profile.item and (
        profile.first_seen
        or profile.travel
        or profile.link
        or any(c.of != "all" or c.measure == "distinct" or c.known or c.foreign for c in profile.counters)
    ):
        yield "$.id", "first_seen, travel, link and counters that are distinct or choose among items need item"
    if profile.periodic and len(profile.keys) < 2:
        yield "$.periodic", "periodic needs a key of two parts or more: who calls, and where"
    for i, after in enumerate(profile.after_failures):
        if after.by not in profile.keys:
            yield f"$.after_failures[{i}].by", f"{after.by!r} is no part of the key {', '.join(profile.keys)}"
    if profile.link and not (profile.link.expires[:-1].isdecimal() and profile.link.expires[-1:] in SPANS):
        yield "$.link.expires", f"{profile.link.expires!r} is no time: 3m, 12h or 2d"
    if not profile.value and any(c.measure == "sum" for c in profile.counters):
        yield "$.counters", "a sum needs value"
    names = [c.name for c in profile.counters] + ([profile.first_seen.name] if profile.first_seen else [])
    if len(set(names)) < len(names):
        yield "$.counters", "two readings have one name"
    for i, counter in enumerate(profile.counters):
        if counter.min < 1:
            yield f"$.counters[{i}].min", "min must be at least 1"
    if profile.tests:
        yield from _faults_of_tests(profile, profile.tests)
    for at, texts in _sentences(profile):
        for text in (texts.de, texts.en):
            unknown = _placeholders(text) - PLACEHOLDERS
            if unknown:
                yield at, f"a sentence can name {', '.join(sorted(PLACEHOLDERS))}, not {', '.join(sorted(unknown))}"


def _faults_of_tests(profile: Profile, tests: Tests) -> Iterator[tuple[str, str]]:
    if not 1 <= tests.days <= TEST_DAYS_MAX:
        yield "$.tests.days", f"days must be 1 to {TEST_DAYS_MAX}"
    schedules = [("$.tests.each_day", tests.each_day)]
    for i, case in enumerate(tests.cases):
        schedules.append((f"$.tests.cases[{i}].then", case.then))
        for name in case.expect if isinstance(case.expect, list) else ():
            if name not in profile.readings:
                yield f"$.tests.cases[{i}].expect", f"no reading {name!r}" + _near(name, profile.readings)
    for at, schedule in schedules:
        for i, entry in enumerate(schedule):
            if minutes_of(entry.at) is None:
                yield f"{at}[{i}].at", f"{entry.at!r} is no time: 10:00, or 08:00-16:00 every 30m"
            if entry.line not in tests.lines and " " not in entry.line:
                yield f"{at}[{i}].line", f"no line {entry.line!r}" + _near(entry.line, tests.lines)
            unset = set(FIELD.findall(tests.lines.get(entry.line, entry.line))) - entry.set.keys() - STAMPS
            if unset:
                yield f"{at}[{i}].set", f"the line needs {', '.join(sorted(unset))}"


def minutes_of(at: str | int) -> tuple[float, ...] | None:
    """The minutes of a day that a schedule names; None if it is none."""
    if isinstance(at, int):
        return (float(at),) if 0 <= at < MINUTES_PER_DAY else None
    found = _SCHEDULE.fullmatch(at)
    if found is None:
        return None
    hour, minute, until_hour, until_minute, size, unit = found.groups()
    begin = int(hour) * 60.0 + int(minute)
    if until_hour is None:
        return (begin,) if begin < MINUTES_PER_DAY else None
    end, step = int(until_hour) * 60.0 + int(until_minute), int(size) * {"s": 1 / 60, "m": 1.0, "h": 60.0}[unit]
    count = math.ceil((end - begin) / step - 1e-9) if step else 0
    return tuple(begin + n * step for n in range(count)) if 0 < count <= SCHEDULED_MAX and end <= 1440 else None


_SCHEDULE = re.compile(r"(\d\d?):([0-5]\d)(?:-(\d\d?):([0-5]\d) every (\d{1,4})([smh]))?")
FIELD = re.compile(r"\{([a-z_]+)(?::0\d)?\}")  # in a test's line: {user}, {n}, {n:02}
STAMPS = frozenset({"n", "date", "time", "iso", "utc", "syslog", "clf", "epoch"})


_WATCHED = (
    *("counters", "first_seen", "periodic", "unusual_hour", "travel", "after_failures", "link", "remember", "forest"),
)


def _watches(profile: Profile) -> int:
    return sum(bool(getattr(profile, name)) for name in _WATCHED)


def _sentences(profile: Profile) -> Iterator[tuple[str, Texts]]:
    for i, counter in enumerate(profile.counters):
        yield f"$.counters[{i}].sentence", counter.sentence
    for i, after in enumerate(profile.after_failures):
        yield f"$.after_failures[{i}].sentence", after.sentence
    for name in ("first_seen", "periodic", "unusual_hour", "travel", "forest"):
        part = getattr(profile, name)
        if part:
            yield f"$.{name}.sentence", part.sentence


def _placeholders(text: str) -> set[str]:
    """Names in braces; what is no plain name (an attribute, a conversion, a format) comes back as it stands."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        return {text}
    return {name if not spec and not turn else f"{name}:{spec}" for _, name, spec, turn in parts if name is not None}


def _faults_between(profile: Profile, found: Mapping[str, Profile]) -> Iterator[str]:
    lists = {p.remember.list for p in found.values() if p.remember}
    if profile.only_known and profile.only_known not in lists:
        yield f"no profile remembers {profile.only_known!r}" + _near(profile.only_known, lists)
    for counter in profile.counters:
        for wanted in (counter.known, counter.foreign):
            if wanted and wanted not in lists:
                yield f"counter {counter.name!r}: no profile remembers {wanted!r}" + _near(wanted, lists)
    for after in profile.after_failures:
        counted = found.get(after.profile)
        readings = {f"{c.name}_{w}" for c in counted.counters for w in c.windows} if counted else set()
        if counted is None:
            yield f"after_failures {after.name!r}: no profile {after.profile!r}" + _near(after.profile, found)
        elif after.reading not in readings:
            yield f"after_failures {after.name!r}: {after.profile!r} has no reading {after.reading!r}" + _near(
                after.reading, readings
            )
        elif counted.keys != [after.by]:
            yield f"after_failures {after.name!r}: the key of {after.profile!r} is not {after.by!r}"
    for hourly in profile.forest.counters if profile.forest else ():
        fed = found.get(hourly.profile)
        if fed is None or fed.forest is not None:
            yield f"forest counter {hourly.name!r}: no profile {hourly.profile!r}" + _near(hourly.profile, found)
        elif fed.keys != profile.keys:
            yield f"forest counter {hourly.name!r}: {fed.id!r} has another key"
        elif (hourly.measure == "sum" and not fed.value) or (hourly.measure == "distinct" and not fed.item):
            yield f"forest counter {hourly.name!r}: {fed.id!r} has nothing for {hourly.measure!r}"


def _near(wanted: str, offered: Iterable[str]) -> str:
    near = get_close_matches(wanted, list(offered), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
