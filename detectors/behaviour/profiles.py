"""Behaviour profiles as YAML: their typed shape, and a loader that refuses what it does not know with file and line."""

import string
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

Scalar = str | int | bool
WINDOWS = {"10m": (1, 10), "1h": (5, 12), "24h": (60, 24), "72h": (180, 24)}  # minutes per bucket, buckets
FILE_BYTES_MAX = 262_144
DEPTH_MAX = 16
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
    address: Literal["internal", "external"] | None = None
    none_of: list[Scalar] | None = None


class Counter(Part, frozen=True, kw_only=True):
    """A count over sliding windows, against the key's own earlier daily peak."""

    name: str  # of the reading: failures becomes failures_10m, failures_24h
    measure: Literal["count", "sum", "distinct"]
    windows: list[Literal["10m", "1h", "24h", "72h"]]
    min: float
    of: Literal["all", "new"] = "all"  # new: only items first seen for this key within the last day
    unit: Literal["", "bytes"] = ""
    sentence: Texts


class FirstSeen(Part, frozen=True, kw_only=True):
    """A pair (key, item) never seen before, or forgotten."""

    days: Literal["active", "calendar"] = "active"  # calendar: for event types too rare to have active days
    name: str = "first_seen"
    sentence: Texts


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
    spread: bool = False  # network spread: allowed scanners of the inventory are skipped
    select: dict[str, Scalar | list[Scalar] | Condition] = {}
    item: str | list[str] | None = None
    value: str | None = None  # summed; events without it are not counted
    entities: list[str] = []  # besides the key's
    counters: list[Counter] = []
    first_seen: FirstSeen | None = None
    forest: Forest | None = None

    @property
    def keys(self) -> list[str]:
        return [self.key] if isinstance(self.key, str) else self.key

    @property
    def items(self) -> list[str]:
        return [self.item] if isinstance(self.item, str) else self.item or []

    def fingerprint(self) -> str:
        """Changes with whatever changes the readings, not with texts: then what was learned no longer fits."""
        plain = msgspec.to_builtins(self)
        for name in ("title", "title_de", "severity", "attack", "benign", "entities"):
            plain.pop(name)
        for part in (*plain["counters"], plain["first_seen"] or {}, plain["forest"] or {}):
            part.pop("sentence", None)
        return blake2b(msgspec.json.encode(plain, order="deterministic"), digest_size=16).hexdigest()


_PARTS: tuple[type[msgspec.Struct], ...] = (Profile, Texts, Lists, Condition, Counter, FirstSeen, ForestCounter, Forest)
_NAMES = sorted({name for part in _PARTS for name in part.__struct_encode_fields__})


def load_profiles(paths: Iterable[Path]) -> dict[str, Profile]:
    """Profiles by id from files and folders (`*.yml`). Raises ProfileError with every fault found."""
    faults: list[str] = []
    found: dict[str, Profile] = {}
    places: dict[str, Path] = {}
    for path in _files(paths):
        profile = _read(path, faults)
        if profile is None:
            continue
        if profile.id in found:
            faults.append(f"{path}:1: id {profile.id!r} is taken by {places[profile.id]}")
            continue
        found[profile.id], places[profile.id] = profile, path
    for profile in found.values():
        faults.extend(f"{places[profile.id]}:1: {reason}" for reason in _faults_between(profile, found))
    if faults:
        raise ProfileError(faults)
    return dict(sorted(found.items()))


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.yml"))
        else:
            yield path


def _read(path: Path, faults: list[str]) -> Profile | None:
    try:
        data = path.read_bytes()
    except OSError as error:
        faults.append(f"{path}:1: cannot be read: {error.strerror}")
        return None
    if len(data) > FILE_BYTES_MAX:
        faults.append(f"{path}:1: longer than {FILE_BYTES_MAX} bytes")
        return None
    lines: dict[str, int] = {}
    try:
        node = yaml.compose(data, Loader=yaml.CSafeLoader)
        plain = _plain(node, "$", lines, 0) if node is not None else None
        profile = msgspec.convert(plain, Profile)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        faults.append(f"{path}:{mark.line + 1 if mark else 1}: {error.problem}")
    except (yaml.YAMLError, RecursionError):
        faults.append(f"{path}:1: is not YAML")
    except msgspec.ValidationError as error:
        faults.append(_located(path, str(error), lines))
    else:
        own = list(_faults_within(profile))
        faults.extend(f"{path}:{lines.get(at, 1)}: {reason}" for at, reason in own)
        return None if own else profile
    return None


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
        if profile.counters or profile.first_seen or profile.item or profile.value or profile.select:
            yield (
                "$.forest",
                "a forest counts the facts of other profiles: no select, item, value, counters or first_seen beside it",
            )
        if not profile.forest.counters:
            yield "$.forest", "a forest needs counters"
    elif not profile.counters and profile.first_seen is None:
        yield "$.id", "a profile needs counters, first_seen or forest"
    elif not profile.select:
        yield "$.id", "a profile needs select"
    if not profile.item and (
        profile.first_seen or any(c.of == "new" or c.measure == "distinct" for c in profile.counters)
    ):
        yield "$.id", "first_seen and counters that are distinct or of new items need item"
    if not profile.value and any(c.measure == "sum" for c in profile.counters):
        yield "$.counters", "a sum needs value"
    names = [c.name for c in profile.counters] + ([profile.first_seen.name] if profile.first_seen else [])
    if len(set(names)) < len(names):
        yield "$.counters", "two readings have one name"
    for i, counter in enumerate(profile.counters):
        if counter.min < 1:
            yield f"$.counters[{i}].min", "min must be at least 1"
    for at, texts in _sentences(profile):
        for text in (texts.de, texts.en):
            unknown = _placeholders(text) - PLACEHOLDERS
            if unknown:
                yield at, f"a sentence can name {', '.join(sorted(PLACEHOLDERS))}, not {', '.join(sorted(unknown))}"


def _sentences(profile: Profile) -> Iterator[tuple[str, Texts]]:
    for i, counter in enumerate(profile.counters):
        yield f"$.counters[{i}].sentence", counter.sentence
    if profile.first_seen:
        yield "$.first_seen.sentence", profile.first_seen.sentence
    if profile.forest:
        yield "$.forest.sentence", profile.forest.sentence


def _placeholders(text: str) -> set[str]:
    """Names in braces; what is no plain name (an attribute, a conversion, a format) comes back as it stands."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        return {text}
    return {name if not spec and not turn else f"{name}:{spec}" for _, name, spec, turn in parts if name is not None}


def _faults_between(profile: Profile, found: Mapping[str, Profile]) -> Iterator[str]:
    for counter in profile.forest.counters if profile.forest else ():
        fed = found.get(counter.profile)
        if fed is None or fed.forest is not None:
            near = get_close_matches(counter.profile, list(found), n=1)
            yield f"forest counter {counter.name!r}: no profile {counter.profile!r}" + (
                f", did you mean {near[0]!r}?" if near else ""
            )
        elif fed.keys != profile.keys:
            yield f"forest counter {counter.name!r}: {fed.id!r} has another key"
        elif (counter.measure == "sum" and not fed.value) or (counter.measure == "distinct" and not fed.item):
            yield f"forest counter {counter.name!r}: {fed.id!r} has nothing for {counter.measure!r}"
