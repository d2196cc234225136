"""Which rules can ever match what the configured sources deliver, and which source would help the others.

What a parser delivers is known from its golden sample, kept in `deliveries.json`; a format that carries names of its own
choice may deliver any field, and one that names its events itself may deliver any log source.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from connectors import declared
from connectors.events import ECS_ATTRIBUTES, Event
from connectors.parse import AUTO, Reader, parser_names
from detectors.sigma import Rule, RuleSet
from detectors.sigma.generate import checker
from detectors.sigma.logsource import FALLBACKS, SYSMON_CATEGORIES, Sources, sources, windows_categories
from detectors.sigma.review import impossible, never
from detectors.sigma.tree import And, Const, Node, Not, Or, Reference, TimePart, simplify

KEPT = Path(__file__).parent / "deliveries.json"
SAMPLES_RECEIVED_S = 1_795_521_600.0  # 24 November 2026: when the golden samples arrive
NAMED_BY_SENDER = frozenset({"ecs", "cef", "leef", "gelf", "kv", "wazuh"})  # the event says what it is
PLATFORM = frozenset({"windows", "sysmon_linux"})  # told by channels and event codes, which no sample holds all of
SUGGESTED_MAX = 4  # parsers named as a help
TITLES_MAX = 20  # rules named in the comment of one technique
_PROBE = "zzProbe"  # a field that no format knows: what comes through shows that any would
_OBJECT = re.compile(rb'\{(?=\s*")')
_NOTHING = Event(0.0, "", "")
_TECHNIQUE = re.compile(r"T\d{4}(\.\d{3})?")

COVERED, PERHAPS, NO_SOURCE, NO_FIELD, NEVER = "covered", "perhaps", "no source", "no field", "never"


class Delivery(msgspec.Struct, frozen=True):
    """One kind of event of a parser. `fields` are the names in its sample; `any_field` says that there may be others."""

    dataset: str
    categories: tuple[str, ...]
    fields: frozenset[str]
    any_field: bool = False


class Coverage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule: whether it can match, and if not why, and which parsers would deliver what it needs."""

    rule: str
    title: str
    path: str
    line: int
    level: str
    logsource: str
    status: str
    reason: str = ""
    sources: tuple[str, ...] = ()  # configured ones that deliver its events
    parsers: tuple[str, ...] = ()  # that would
    missing_fields: tuple[str, ...] = ()  # read, and in no sample; alternatives with them cannot hold
    attack: tuple[str, ...] = ()


# What parsers deliver


def deliveries(golden: Path) -> dict[str, list[Delivery]]:
    """What each parser delivers, from the golden samples in a folder; written to `deliveries.json`."""
    found: dict[str, list[Delivery]] = {}
    for name in parser_names():
        lines = (golden / name / "sample.log").read_bytes().removesuffix(b"\n").split(b"\n")
        events = Reader(name, "t", "s").read(lines, SAMPLES_RECEIVED_S).events
        kinds: dict[str, tuple[set[str], set[str]]] = {}
        for event in events:
            categories, fields = kinds.setdefault(event.event_dataset, (set(), set()))
            categories.update(event.event_category)
            fields.update(event.fields)
            fields.update(path for path, attribute in ECS_ATTRIBUTES.items() if getattr(event, attribute))
        free = _carries_any_field(name, lines)
        found[name] = [
            Delivery(dataset, tuple(sorted(categories)), frozenset(fields), free)
            for dataset, (categories, fields) in sorted(kinds.items())
        ]
    return found


def _carries_any_field(name: str, lines: Sequence[bytes]) -> bool:
    """Whether a field that the parser cannot know comes through."""
    probed: list[bytes] = []
    for line in lines:
        if b"{" in line:
            probed.append(_OBJECT.sub(b'{"%s": "1", ' % _PROBE.encode(), line))
        probed += [line + b" %s=1" % _PROBE.encode(), line + b' %s="1"' % _PROBE.encode()]
        probed.append(line.replace(b"<EventData>", b'<EventData><Data Name="%s">1</Data>' % _PROBE.encode()))
    events = Reader(name, "t", "s").read(probed, SAMPLES_RECEIVED_S).events
    return any(field.endswith(_PROBE) for event in events for field in event.fields)


def kept() -> dict[str, list[Delivery]]:
    return msgspec.json.decode(KEPT.read_bytes(), type=dict[str, list[Delivery]])


def encoded(found: Mapping[str, Sequence[Delivery]]) -> bytes:
    """As `deliveries.json` has it: sorted, so that a change shows as one."""
    plain = {
        name: [
            {
                "dataset": each.dataset,
                "categories": list(each.categories),
                "any_field": each.any_field,
                "fields": [] if each.any_field else sorted(each.fields),
            }
            for each in kinds
        ]
        for name, kinds in sorted(found.items())
    }
    return msgspec.json.format(msgspec.json.encode(plain), indent=1) + b"\n"


# What the configured sources deliver


class _Offer(msgspec.Struct):
    """What one source or parser delivers, as the rules' log sources see it."""

    name: str
    kinds: list[tuple[Sources, Delivery]]
    says_itself: bool  # the event names its log source, whatever that is

    def delivering(self, rule: Rule) -> list[Delivery]:
        return [kind for told, kind in self.kinds if told.match(rule.product, rule.category, rule.service)]


def _offer(name: str, parser: str, known: Mapping[str, Sequence[Delivery]], channels: frozenset[str]) -> _Offer:
    """`channels` are the services that Windows rules name: each is the name of a channel that may be collected."""
    if parser.endswith(declared.SUFFIXES):
        module = declared.load(Path(parser))
        dataset = str(module.declaration.set.get("event.dataset", f"{module.NAME}.log"))
        kinds = [Delivery(dataset, (), frozenset(), any_field=True)]
        return _Offer(name, [(sources(each.dataset, None), each) for each in kinds], says_itself=False)
    if parser not in known and parser != AUTO:  # a module of the admin's own
        return _Offer(name, [], says_itself=True)
    names = list(known) if parser == AUTO else [parser]
    found = [
        (sources(each.dataset, None, each.categories), each)
        for one in names
        for each in known[one]
        if one not in PLATFORM
    ]
    found += [
        (_platform(one, channels), Delivery(one, (), frozenset(), any_field=True))
        for one in sorted(PLATFORM.intersection(names))
    ]
    return _Offer(name, found, says_itself=not NAMED_BY_SENDER.isdisjoint(names))


def _platform(parser: str, channels: frozenset[str]) -> Sources:
    if parser == "windows":
        return Sources(frozenset({"windows"}), windows_categories(), channels)
    categories = frozenset(name for names in SYSMON_CATEGORIES.values() for name in names)
    return msgspec.structs.replace(sources("sysmon_linux.sysmon", None), categories=categories)


def coverage(rules: RuleSet, configured: Sequence[tuple[str, str]]) -> list[Coverage]:
    """Each rule against the configured sources, given as (name, parser)."""
    known = kept()
    channels = frozenset(
        rule.service for rule in rules.rules.values() if rule.service and rule.product in {None, "windows"}
    )
    offers = [_offer(name, parser, known, channels) for name, parser in configured]
    helpful = [_offer(name, name, known, channels) for name in known]
    found: dict[str, Coverage] = {}
    for rule in rules.rules.values():
        if rule.condition is not None:
            found[rule.id] = _of_rule(rule, rule.condition, offers, helpful)
    for rule in rules.rules.values():
        if rule.correlation is not None:
            _of_correlation(rule, rules.rules, found)
    return [found[identity] for identity in rules.rules]


def _stated(rule: Rule) -> str:
    return ", ".join(f"{key} {value}" for key in ("product", "category", "service") if (value := getattr(rule, key)))


def _answer(rule: Rule, status: str, reason: str = "", **more: Any) -> Coverage:
    return Coverage(
        rule.id, rule.title, rule.path, rule.line, rule.level, _stated(rule), status, reason, attack=rule.attack, **more
    )


def _of_rule(rule: Rule, condition: Node, offers: Sequence[_Offer], helpful: Sequence[_Offer]) -> Coverage:
    if (why := never(rule)) is not None:
        return _answer(rule, NEVER, why)
    able = [(offer.name, kinds) for offer in offers if (kinds := offer.delivering(rule))]
    if not able:
        itself = tuple(offer.name for offer in offers if offer.says_itself)
        others = [offer.name for offer in helpful if offer.delivering(rule) and offer.name != "syslog"]
        if itself:
            reason = "only events that name this log source themselves"
            return _answer(rule, PERHAPS, reason, sources=itself, parsers=tuple(others[:SUGGESTED_MAX]))
        reason = f"no source delivers {_stated(rule)}"
        if not others:
            reason += "; no parser does, events may name it themselves (ecs)"
        return _answer(rule, NO_SOURCE, reason, parsers=tuple(others[:SUGGESTED_MAX]))
    names = tuple(name for name, _ in able)
    kinds = [kind for _, each in able for kind in each]
    missing = _missing(rule, kinds)
    if not missing:
        return _answer(rule, COVERED, sources=names)
    if (why := impossible(_without(condition, missing))) is None:
        return _answer(rule, COVERED, sources=names, missing_fields=tuple(sorted(missing)))
    others = [
        offer.name
        for offer in helpful
        if (more := offer.delivering(rule)) and impossible(_without(condition, _missing(rule, more))) is None
    ]
    reason = f"needs {', '.join(sorted(missing))}, which no sample of {', '.join(names)} has"
    return _answer(
        rule,
        NO_FIELD,
        reason,
        sources=names,
        parsers=tuple(others[:SUGGESTED_MAX]),
        missing_fields=tuple(sorted(missing)),
    )


def _missing(rule: Rule, kinds: Sequence[Delivery]) -> frozenset[str]:
    """The fields that a rule reads and that none of these kinds of event has, under any of their names."""
    if any(kind.any_field for kind in kinds):
        return frozenset()
    there = frozenset[str]().union(*(kind.fields for kind in kinds)) | {"event.module", "event.dataset", "@timestamp"}
    return frozenset(name for name in rule.fields if there.isdisjoint((name, *FALLBACKS.get(name, ()))))


def _without(node: Node, missing: frozenset[str]) -> Node:
    """The condition where these fields are never there."""

    def lacking(each: Node) -> Node:
        if isinstance(each, And | Or):
            return type(each)(tuple(map(lacking, each.args)))
        if isinstance(each, Not):
            return Not(lacking(each.arg))
        if isinstance(each, Const | TimePart):
            return each
        read = {each.field, each.other} if isinstance(each, Reference) else {each.field}
        return each if missing.isdisjoint(read) else Const(checker(each)(_NOTHING))

    return simplify(lacking(node), None)


def _of_correlation(rule: Rule, rules: Mapping[str, Rule], found: dict[str, Coverage]) -> None:
    """A correlation can fire when its parts can: all of them where it waits for several, else any."""
    if rule.id in found or rule.correlation is None:
        return
    spec = rule.correlation
    for below in spec.rules:
        _of_correlation(rules[below], rules, found)
    parts = [found[below] for below in spec.rules]
    dead = [part for part in parts if part.status not in {COVERED, PERHAPS}]
    every = spec.type in {"temporal", "temporal_ordered"} and spec.expression is None
    names = tuple(dict.fromkeys(name for part in parts for name in part.sources))
    if dead and (every or len(dead) == len(parts)):
        reason = f"its part `{dead[0].title}` cannot match: {dead[0].reason}"
        found[rule.id] = _answer(rule, dead[0].status, reason, parsers=dead[0].parsers)
    elif all(part.status == PERHAPS for part in parts):
        found[rule.id] = _answer(rule, PERHAPS, parts[0].reason, sources=names)
    else:
        found[rule.id] = _answer(rule, COVERED, sources=names)


# By technique


class Technique(msgspec.Struct):
    """The rules for one ATT&CK technique."""

    technique: str
    working: int = 0
    perhaps: int = 0
    dead: int = 0
    titles: list[str] = []


def techniques(found: Sequence[Coverage]) -> list[Technique]:
    made: dict[str, Technique] = {}
    for each in found:
        for technique in filter(_TECHNIQUE.fullmatch, each.attack):
            one = made.setdefault(technique, Technique(technique))
            if each.status == COVERED:
                one.working += 1
            elif each.status == PERHAPS:
                one.perhaps += 1
            else:
                one.dead += 1
            if len(one.titles) < TITLES_MAX:
                one.titles.append(each.title if each.status == COVERED else f"({each.status}) {each.title}")
    return [made[name] for name in sorted(made)]


def navigator(found: Sequence[Technique], name: str) -> dict[str, Any]:
    """A layer for the ATT&CK Navigator: how many rules can find each technique here."""
    return {
        "name": name,
        "versions": {"layer": "4.5", "navigator": "5.1.0"},
        "domain": "enterprise-attack",
        "description": "Score: rules that the configured sources can meet. Score 0: there are rules, and no source for them.",
        "sorting": 3,
        "hideDisabled": False,
        "gradient": {
            "colors": ["#f4cccc", "#d9ead3", "#38761d"],
            "minValue": 0,
            "maxValue": max((each.working for each in found), default=1) or 1,
        },
        "techniques": [
            {"techniqueID": each.technique, "score": each.working, "comment": "\n".join(each.titles), "enabled": True}
            for each in found
        ],
    }


def dead(found: Sequence[Coverage]) -> Iterator[Coverage]:
    return (each for each in found if each.status not in {COVERED, PERHAPS})


def counted(found: Sequence[Coverage], key: Callable[[Coverage], str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in found:
        counts[key(each)] = counts.get(key(each), 0) + 1
    return counts
