"""Drafts a filter for a rule from hits that were judged: it leaves out the false ones and keeps the true ones.

What all false hits share is looked through from the most telling fields (who, with which program, from where) to those
that differ with every event; a field is used only where it tells the false hits from true ones.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
import yaml

from connectors.events import ECS_ATTRIBUTES, Event
from detectors.sigma.rules import Rule
from detectors.sigma.values import getter, written

FIELDS_MAX = 4  # of one filter
NARROW_FIELDS = 2  # a filter names so many telling fields where there are, so that it hides no more than it must
VALUES_MAX = 8  # of one field, where the false hits do not share a single one
VALUE_CHARS_MAX = 500
AFFIX_CHARS_MIN = 6  # a shared beginning or end that is shorter says too little
TELLING, OTHER, KIND, VOLATILE = range(4)  # how well a field tells one cause from another

_TELLING = (
    *("ParentImage", "ParentProcessName", "process.parent.executable", "Image", "NewProcessName", "process.executable"),
    *("User", "SubjectUserName", "user.name", "AccountName", "source.ip", "SourceIp", "IpAddress", "host.name"),
    *("Computer", "ParentCommandLine", "process.parent.command_line", "CommandLine", "process.command_line"),
    *("process.name", "TargetUserName", "destination.ip", "DestinationIp", "DestinationHostname", "destination.domain"),
    *("url.path", "url.domain", "user_agent.original", "cs-uri-stem", "TargetFilename", "file.path", "TargetObject"),
    *("ImageLoaded", "Signature", "Company", "Product", "OriginalFileName", "ScriptBlockText", "Path", "ServiceName"),
    *("service.name", "TaskName", "QueryName", "dns.question.name", "group.name", "rule.name"),
)
_RANK = {name: number for number, name in enumerate(_TELLING)}
_KIND = re.compile(
    r"(?i)^(?:event\.|ecs\.|log\.|observer\.|agent\.|winlog\.|data_stream|EventID$|Channel$|Provider|Level|Task$|Opcode$|"
    r"Keywords$|Version$|RuleName$|EventType$|tags?$|severity|facility)"
)
_VOLATILE_NAME = re.compile(
    r"(?i)(?:time|date|stamp|guid|uuid|hash|md5|sha1|sha256|imphash|logonid|(?:process|thread|record|session|request)_?id$|"
    r"pid$|\.pid|recordnumber|sequence|offset|port$|\.bytes|duration|entropy|signature_?id)"
)
_VOLATILE_VALUE = re.compile(
    r"(?i)^(?:\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?|(?:[a-z0-9]+=)?[0-9a-f]{32,}(?:,.*)?|"
    r"\d{4}-\d\d-\d\d[t ].*|\d{6,}(?:\.\d+)?|0x[0-9a-f]{3,})$"
)
_SPECIAL = re.compile(r"\\+(?=[*?\\]|$)|\\{2,}|[*?]")
_EDGE = re.compile(r"[\\/ .:_=-]")


class NoFilter(ValueError):  # noqa: N818 -- says that there is none, and why
    """No field tells the false hits from the true ones; the message says what was tried."""


class Part(msgspec.Struct, frozen=True):
    """One field of a filter with the values that it may have."""

    field: str
    modifier: str  # "", startswith or endswith
    values: tuple[str, ...]
    stability: int
    spared: frozenset[int]  # the true hits that it does not hold for

    def __str__(self) -> str:
        return f"{self.field}{f'|{self.modifier}' if self.modifier else ''}: {', '.join(self.values)}"


class Signed(msgspec.Struct, frozen=True):
    """Who answers for a filter, why it is there, and the last day on which it holds."""

    owner: str
    reason: str
    expires: date


def parts(rule: Rule, false: Sequence[Event], true: Sequence[Event]) -> list[Part]:
    """What a filter should ask for. Raises NoFilter."""
    if not false:
        raise NoFilter("there is no false hit to leave out")
    offered = sorted(_candidates(rule, false, true), key=lambda part: _preference(part, rule))
    everyone = frozenset(range(len(true)))
    if not offered:
        raise NoFilter("the false hits share no field but those that the rule asks for")
    for worst in (TELLING, OTHER, KIND, VOLATILE) if true else (TELLING, OTHER):
        chosen = _cover([part for part in offered if part.stability <= worst], everyone)
        if chosen is not None:
            return _narrowed(chosen, offered)
    if not true:
        raise NoFilter(
            "the false hits share only what says little; without true hits nothing shows that it may be left out"
        )
    reached = frozenset[int]().union(*(part.spared for part in offered))
    alike = sorted(everyone - reached)
    shared = "; ".join(map(str, offered[:5]))
    if alike:
        raise NoFilter(
            f"no field separates them: {len(alike)} of {len(true)} true hits (the first is number {alike[0] + 1}) have "
            f"everything that the false hits share ({shared})"
        )
    raise NoFilter(f"only more than {FIELDS_MAX} fields together would separate them; the false hits share {shared}")


def document(rule: Rule, chosen: Sequence[Part], signed: Signed) -> str:
    """The filter as YAML."""
    selection: dict[str, Any] = {}
    for part in chosen:
        values = [escaped(value) for value in part.values]
        key = f"{part.field}|{part.modifier}" if part.modifier else part.field
        selection[key] = values[0] if len(values) == 1 else values
    logsource = {key: value for key in ("product", "category", "service") if (value := getattr(rule, key))}
    told = {
        "title": f"{rule.title}: known {' and '.join(part.field for part in chosen)}",
        "id": str(uuid5(NAMESPACE_URL, repr((rule.id, selection)))),
        "description": f"Leaves hits of the rule {rule.title!r} out that were judged false.",
        "owner": signed.owner,
        "reason": signed.reason,
        "expires": signed.expires,
        "logsource": logsource,
        "filter": {"rules": [rule.id], "known": selection, "condition": "not known"},
    }
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=10_000)


def escaped(value: str) -> str:
    """A text as Sigma writes it, so that nothing in it is a wildcard and no backslash is lost."""

    def literal(found: re.Match[str]) -> str:
        text = found[0]
        return f"\\{text}" if text in {"*", "?"} else text * 2

    return _SPECIAL.sub(literal, value)


def _candidates(rule: Rule, false: Sequence[Event], true: Sequence[Event]) -> Iterator[Part]:
    names = set(rule.fields).union(*(_names(event) for event in false))
    asked = {text for name in rule.fields for text in _texts(getter(name), false[0])}
    for name in sorted(names):
        read = getter(name)
        told = [_texts(read, event) for event in false]
        if not all(told):
            continue
        others = [_texts(read, event) for event in true]
        for modifier, values in _shared(told):
            if any(not value or len(value) > VALUE_CHARS_MAX for value in values):
                continue
            spared = frozenset(n for n, held in enumerate(others) if not _holds(modifier, values, held))
            if not spared and (name in rule.fields or any(_part_of(value.lower(), asked) for value in values)):
                continue  # whatever the rule asks for, all its hits have, and under any other name, too
            yield Part(name, modifier, values, _stability(name, values), spared)


def _part_of(value: str, asked: Collection[str]) -> bool:
    """Whether a value is one that the rule asks for, or the last part of one, as a program's name is of its path."""
    return any(value == text or text.endswith(("\\" + value, "/" + value)) for text in asked)


def _names(event: Event) -> Iterator[str]:
    yield from event.fields
    for path, attribute in ECS_ATTRIBUTES.items():
        if attribute != "timestamp" and getattr(event, attribute) not in {None, ()}:
            yield path


def _texts(read: Callable[[Event], Any], event: Event) -> dict[str, str]:
    """The values of a field: as they are compared, and as they are written."""
    value = read(event)
    if value is None:
        return {}
    plain = written(value)
    return {text.lower(): text for text in ([plain] if isinstance(plain, str) else plain.texts)}


def _shared(told: Sequence[dict[str, str]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What holds for all: one value, else a common beginning or end, else one of a few values."""
    common = set(told[0]).intersection(*told[1:])
    if common:
        for value in sorted(common):
            yield "", (told[0][value],)
        return
    if any(len(held) != 1 for held in told):
        return
    distinct = {value: text for held in told for value, text in held.items()}
    start = _affix(sorted(distinct))
    if start:
        yield "startswith", (next(iter(distinct.values()))[: len(start)],)
    end = _affix(sorted(value[::-1] for value in distinct))
    if end:
        yield "endswith", (next(iter(distinct.values()))[-len(end) :],)
    if len(distinct) <= VALUES_MAX and len(distinct) < len(told):
        yield "", tuple(sorted(distinct.values()))


def _affix(ordered: Sequence[str]) -> str:
    """The common beginning, up to the last place where something in it ends."""
    first, last = ordered[0], ordered[-1]
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    edges = [found.end() for found in _EDGE.finditer(first, 0, length)]
    return first[: edges[-1]] if edges and edges[-1] >= AFFIX_CHARS_MIN else ""


def _holds(modifier: str, values: Sequence[str], held: dict[str, str]) -> bool:
    wanted = [value.lower() for value in values]
    if modifier == "startswith":
        return any(text.startswith(wanted[0]) for text in held)
    if modifier == "endswith":
        return any(text.endswith(wanted[0]) for text in held)
    return any(value in held for value in wanted)


def _stability(name: str, values: Sequence[str]) -> int:
    if _VOLATILE_NAME.search(name) or any(map(_VOLATILE_VALUE.match, values)):
        return VOLATILE
    return KIND if _KIND.match(name) else TELLING if name in _RANK else OTHER


def _preference(part: Part, rule: Rule) -> tuple[Any, ...]:
    """Telling before general, one value before others, and the rule's own way of naming fields."""
    foreign = ("." in part.field) != any("." in name for name in rule.fields)
    kind = ("", "startswith", "endswith").index(part.modifier) if len(part.values) == 1 else 3
    return (part.stability, kind, foreign, _RANK.get(part.field, len(_RANK)), part.field, part.values)


def _cover(offered: Sequence[Part], everyone: frozenset[int]) -> list[Part] | None:
    """Few parts that together spare all true hits: one where one is enough."""
    if not offered:
        return None
    alone = next((part for part in offered if part.spared == everyone), None)
    if alone is not None:
        return [alone]
    chosen: list[Part] = []
    left = everyone
    while left and len(chosen) < FIELDS_MAX:
        best = max(offered, key=lambda part: len(part.spared & left))  # the first of equals
        if not best.spared & left:
            return None
        chosen.append(best)
        left -= best.spared
    return None if left else chosen


def _narrowed(chosen: list[Part], offered: Sequence[Part]) -> list[Part]:
    for part in offered:
        if len(chosen) >= NARROW_FIELDS:
            break
        if part.stability == TELLING and len(part.values) == 1 and not any(_says_same(part, one) for one in chosen):
            chosen.append(part)
    return chosen


def _says_same(one: Part, other: Part) -> bool:
    a, b = one.values[0].lower(), other.values[0].lower()
    return one.field == other.field or a in b or b in a
