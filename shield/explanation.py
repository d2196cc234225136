"""An alert in words that a clerk understands: every observation with its numbers, what joins them, what would have kept
it quiet, what it may be instead, what the data lack, and what to check first. Read from the alert document alone.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import yaml

from detectors.behaviour import sentences
from detectors.behaviour.inventory import Classes
from shield.document import rate_in_words
from shield.guidance import Guidance
from shield.risk import STEP_DOWN

WIDTH_MAX = 110
WIDTH_MIN = 40
LINE_CHARS_MAX = 600  # of an evidence line on the screen; JSON has what the alert has
DAYS_ENOUGH = 7  # of calibration
FAMILIES_NAMED_MAX = 4  # in one sentence
UNITS: dict[str, dict[str, str]] = {"de": {"days": "Tage", "hours": "Stunden", "countries": "Länder"}, "en": {}}

WORDS: dict[str, dict[str, str]] = {
    "de": {
        "about": "Wen es betrifft",
        "why": "Warum",
        "joined": "Was zusammenhängt",
        "what if": "Was ohne geschähe",
        "check": "Was zuerst zu prüfen ist",
        "limits": "Was die Daten nicht hergeben",
        "attack": "MITRE ATT&CK",
        "lines": "Die Zeilen dazu",
        "before": "Frühere Meldungen",
        "links": "Weiterführend",
        "share": "Anteil am Risiko {share}",
        "rarity": "so stark hier {rarity}",
        "same family": "zählt mit {place}., derselben Familie",
        "unrated": "noch nicht bewertet: dafür wird noch gelernt",
        "rule": "Regel: ein Treffer meldet auch ohne Gelerntes",
        "actual": "{name}: {actual}",
        "typical": "üblich {typical}",
        "window": "Zeitraum {window}",
        "peers": "bekannt bei {known} von {all}",
        "count": "{count}-mal, {first} bis {last}",
        "harmless": "harmlos, wenn: {benign}",
        "head": "{level} · Risiko {risk} bei Schwelle {threshold} · {tenant} · {opened} bis {last} ({zone}) · Stand {revision}",
        "head rule": "{level} · Regel · {tenant} · {opened} bis {last} ({zone}) · Stand {revision}",
        "rule alone": "Eine Regel dieser Stufe meldet sofort; es kommt auf kein Risiko an.",
        "without": "Ohne {families} läge das Risiko bei {risk}, {side} der Schwelle {threshold}.",
        "below": "unter",
        "above": "weiter über",
        "no baseline": "Es ist noch nichts gelernt; nur Regeln melden.",
        "few days": "Verglichen wird erst mit {days} Tagen (empfohlen sind mindestens {enough}).",
        "baseline": "Verglichen mit {days} Tagen vom {from} bis {to}.",
        "some unrated": "{count} Beobachtungen sind noch nicht bewertet und zählen nicht zum Risiko.",
        "not shown": "{count} weitere Beobachtungen stehen nicht in der Meldung.",
        "no lines": "Die Meldung enthält keine Zeilen.",
        "few lines": "Gezeigt werden {count} Zeilen; alle stehen in den Rohdaten unter ihrer Kennung.",
        "none": "-",
    },
    "en": {
        "about": "Who it is about",
        "why": "Why",
        "joined": "What joins it",
        "what if": "What without it",
        "check": "What to check first",
        "limits": "What the data do not say",
        "attack": "MITRE ATT&CK",
        "lines": "The lines behind it",
        "before": "Earlier alerts",
        "links": "Further",
        "share": "share of the risk {share}",
        "rarity": "this strong {rarity} here",
        "same family": "counts with {place}., the same family",
        "unrated": "not rated yet: still learning",
        "rule": "rule: a hit alerts without anything learned",
        "actual": "{name}: {actual}",
        "typical": "usual {typical}",
        "window": "within {window}",
        "peers": "known to {known} of {all}",
        "count": "{count} times, {first} to {last}",
        "harmless": "harmless if: {benign}",
        "head": "{level} · risk {risk} of threshold {threshold} · {tenant} · {opened} to {last} ({zone}) · revision {revision}",
        "head rule": "{level} · rule · {tenant} · {opened} to {last} ({zone}) · revision {revision}",
        "rule alone": "A rule of this level alerts at once; no risk is needed.",
        "without": "Without {families} the risk would be {risk}, {side} the threshold {threshold}.",
        "below": "below",
        "above": "still above",
        "no baseline": "Nothing is learned yet; only rules alert.",
        "few days": "Compared with {days} days only (at least {enough} are recommended).",
        "baseline": "Compared with {days} days from {from} to {to}.",
        "some unrated": "{count} observations are not rated yet and do not count for the risk.",
        "not shown": "{count} more observations are not in the alert.",
        "no lines": "The alert holds no lines.",
        "few lines": "{count} lines are shown; all are in the raw data under their identity.",
        "none": "-",
    },
}
LEVELS = {
    "de": {"informational": "Hinweis", "low": "niedrig", "medium": "mittel", "high": "hoch", "critical": "kritisch"},
    "en": {},
}
KINDS = {
    "de": {
        "user": "Konto",
        "address": "Adresse",
        "host": "Rechner",
        "person": "Person",
        "admin": "Administration",
        "service": "Dienst",
        "machine": "Maschine",
        "client": "Arbeitsplatz",
        "server": "Server",
        "external": "außerhalb",
    },
    "en": {"user": "account", "admin": "administrator", "external": "outside", "client": "workstation"},
}


class About(msgspec.Struct, frozen=True):
    """One entity of an alert, with what the inventory says about it."""

    type: str
    name: str
    class_: str = msgspec.field(default="", name="class")
    network: str = ""
    country: str = ""


class Number(msgspec.Struct, frozen=True):
    name: str
    actual: float | str
    typical: float | str
    window_s: float
    unit: str
    words: str


class Part(msgspec.Struct, frozen=True):
    """One observation."""

    sentence: str
    detector: str
    family: str
    kind: str
    share: float
    risk: float
    rate_per_tenant_day: float | None
    rarity: str
    count: int
    first_seen: str
    last_seen: str
    numbers: list[Number]
    benign: list[str]
    attack: list[str]


class Explained(msgspec.Struct, frozen=True):
    """What `shield explain --json` writes."""

    id: str
    tenant: str
    level: str
    title: str
    reason: str
    opened: str
    last_seen: str
    revision: int
    status: str
    disposition: str | None
    risk: float
    threshold: float | None
    entities: list[About]
    observations: list[Part]
    joined: list[str]
    counterfactual: list[str]
    caveats: list[str]
    attack: dict[str, str]
    checks: list[str]
    evidence: list[dict[str, Any]]
    related_alerts: list[str]
    links: list[dict[str, str]]


def explained(
    doc: Mapping[str, Any],
    language: str,
    *,
    classes: Classes | None = None,
    guidance: Guidance | None = None,
    names: Mapping[str, str] | None = None,
) -> Explained:
    """All that an alert document says, in one language. `names` are those of ATT&CK ids."""
    shield = doc["shield"]
    explanation = shield.get("explanation") or {}
    rows = explanation.get("observations") or []
    parts = [_part(row, language) for row in rows]
    attack = sorted({i for part in parts for i in part.attack}, key=lambda i: (not i.startswith("TA"), i))
    steps = guidance.steps(attack)[language] if guidance else []
    return Explained(
        id=doc["event"]["id"],
        tenant=doc["organization"]["id"],
        level=shield["level"],
        title=_in(shield["title"], language),
        reason=_in(shield["reason"], language),
        opened=doc["@timestamp"],
        last_seen=shield["last_seen"],
        revision=shield["revision"],
        status=shield.get("status") or "new",
        disposition=shield.get("disposition"),
        risk=explanation.get("risk", 0.0),
        threshold=explanation.get("threshold"),
        entities=[_about(e, classes) for e in shield["entities"]],
        observations=parts,
        joined=[_in(link, language) for link in explanation.get("links") or []],
        counterfactual=_counterfactual(explanation, parts, language),
        caveats=[*_caveats(doc, explanation, parts, language)],
        attack={i: _name_of(i, names or {}) for i in attack},
        checks=steps or list(shield.get("playbook") or []),
        evidence=list(doc.get("evidence") or []),
        related_alerts=list(shield.get("related_alerts") or []),
        links=list(shield.get("links") or []),
    )


def told(found: Explained, language: str, zone: ZoneInfo, width: int = WIDTH_MAX) -> Iterator[tuple[str, str]]:
    """(style, line) of the explanation: style is `title`, the level of the alert, `heading`, `dim` or empty."""
    words = WORDS[language]
    width = max(WIDTH_MIN, min(width, WIDTH_MAX))

    def when(text: str, *, day: bool = True) -> str:
        at = datetime.fromisoformat(text).astimezone(zone)
        return f"{at:%d.%m.%Y %H:%M:%S}" if day else f"{at:%H:%M:%S}"

    same_day = when(found.opened)[:10] == when(found.last_seen)[:10]
    numbers = {
        "level": LEVELS[language].get(found.level, found.level),
        "risk": _number(found.risk, language),
        "threshold": _number(found.threshold or 0.0, language),
        "tenant": found.tenant,
        "opened": when(found.opened),
        "last": when(found.last_seen, day=not same_day),
        "zone": zone.key,
        "revision": str(found.revision),
    }
    yield "title", found.title
    yield found.level, words["head" if found.threshold is not None else "head rule"].format_map(numbers)
    yield "dim", f"{found.id}  {found.status}{f', {found.disposition}' if found.disposition else ''}"
    yield "", ""
    yield from (("", line) for line in _wrapped(found.reason, width))

    yield from _heading(words["about"])
    for entity in found.entities:
        yield "", "  " + _entity_in_words(entity, language)

    yield from _heading(f"{words['why']} ({len(found.observations)})")
    for number, part in enumerate(found.observations, 1):
        head = f"{number:>3}. "
        yield from (("", line) for line in _wrapped(part.sentence, width, head))
        for text in _about_part(number, found.observations, words, language, when):
            yield from (("dim", line) for line in _wrapped(text, width, "       "))

    sections = [
        ("joined", found.joined),
        ("what if", found.counterfactual),
        ("check", found.checks),
        ("limits", found.caveats),
        ("attack", [f"{i}  {name}".rstrip() for i, name in found.attack.items()]),
        ("before", found.related_alerts),
        ("links", [f"{link['title']}: {link['href']}" for link in found.links]),
    ]
    for key, texts in sections:
        if texts:
            yield from _heading(words[key])
            for text in texts:
                yield from (("", line) for line in _wrapped(text, width, "  - "))
    if found.evidence:
        yield from _heading(words["lines"])
        for line in found.evidence:
            yield "dim", f"  {line['source']}  {when(line['@timestamp'])}  {line['event_id']}"
            yield "", f"    {_printable(line['original'])[:LINE_CHARS_MAX]}"


def attack_names(path: Path) -> dict[str, str]:
    """Names of ATT&CK ids. Raises OSError or ValueError."""
    return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), dict[str, str])


def _part(row: Mapping[str, Any], language: str) -> Part:
    rate = row.get("rate_per_tenant_day")
    return Part(
        sentence=_in(row["sentence"], language),
        detector=row["detector"],
        family=row["family"],
        kind=row["kind"],
        share=row["share"],
        risk=row["risk"],
        rate_per_tenant_day=rate,
        rarity=_in(row.get("rarity") or {}, language) or rate_in_words(rate, language),
        count=row["count"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        numbers=[_numbers(f, language) for f in row.get("features") or []],
        benign=list((row.get("benign") or {}).get(language) or []),
        attack=list(row.get("attack") or []),
    )


def _numbers(feature: Mapping[str, Any], language: str) -> Number:
    words, unit, window = WORDS[language], feature.get("unit") or "", feature.get("window_s") or 0.0

    def shown(value: float | str) -> str:
        if isinstance(value, int | float) and math.isfinite(value):
            text = sentences.amount(float(value), unit, language)
            return f"{text} {UNITS[language].get(unit, unit)}" if unit not in {"", "bytes"} and value > 0 else text
        return _printable(str(value))

    said = [words["actual"].format(name=feature["name"], actual=shown(feature["actual"]))]
    typical = feature.get("typical")
    if isinstance(typical, str) and typical.replace("/", "").isdigit() and typical.count("/") == 1:
        known, everyone = typical.split("/")
        said.append(words["peers"].format_map({"known": known, "all": everyone}))
    elif typical not in {None, ""}:
        said.append(words["typical"].format(typical=shown(feature["typical"])))
    if window:
        said.append(words["window"].format(window=sentences.span(window, language)))
    return Number(feature["name"], feature["actual"], feature.get("typical", ""), window, unit, ", ".join(said))


def _about_part(
    number: int, parts: Sequence[Part], words: Mapping[str, str], language: str, when: Callable[..., str]
) -> Iterator[str]:
    part, before = parts[number - 1], parts[: number - 1]
    leading = next((i for i, p in enumerate(before, 1) if p.family == part.family), 0)
    if part.kind != "profile" and not part.share:
        yield words["rule"]
    else:
        shared = words["share"].format(share=_percent(part.share, language)) if part.share else ""
        if not shared and leading:
            shared = words["same family"].format(place=leading)
        rated = words["rarity"].format(rarity=part.rarity) if part.rarity else words["unrated"]
        yield "; ".join(text for text in (shared, rated) if text)
    yield from (one.words for one in part.numbers)
    if part.count > 1:
        same = when(part.first_seen)[:10] == when(part.last_seen)[:10]
        last = when(part.last_seen, day=not same)
        yield words["count"].format(count=part.count, first=when(part.first_seen), last=last)
    if part.benign and all(part.benign != other.benign for other in before):
        yield words["harmless"].format(benign="; ".join(part.benign))
    yield " ".join([part.detector, *part.attack])


def _counterfactual(explanation: Mapping[str, Any], parts: Sequence[Part], language: str) -> list[str]:
    """The risk without the strongest family, and without as many as it takes for no alert."""
    words, threshold, risk = WORDS[language], explanation.get("threshold"), explanation.get("risk", 0.0)
    if threshold is None:
        return [words["rule alone"]]
    leading = {family: place for place, family in reversed(list(enumerate((p.family for p in parts), 1)))}
    shares = sorted({p.family: p.share for p in parts if p.share > 0}.items(), key=lambda f: (-f[1], leading[f[0]]))
    if not shares:
        stated = _in(explanation.get("counterfactual") or {}, language)
        return [stated] if stated else []
    values = [share for _, share in shares]
    enough = next(count for count in range(1, len(values) + 1) if risk_without(risk, values, count) < threshold)
    found = []
    for count in sorted({1, enough}):
        left = risk_without(risk, values, count)
        without = [f"{leading[f]}." if f.startswith("rule:") else f"{leading[f]}. ({f})" for f, _ in shares[:count]]
        few = without if count <= FAMILIES_NAMED_MAX else [*without[:1], "...", *without[-1:]]
        numbers = {
            "families": ", ".join(few),
            "risk": _number(left, language),
            "threshold": _number(threshold, language),
        }
        found.append(words["without"].format_map(numbers | {"side": words["below" if left < threshold else "above"]}))
    return found


def risk_without(risk: float, shares: Sequence[float], count: int) -> float:
    """The risk without the first `count` of the shares in falling order: the weaker ones move up."""
    rest = [share * risk / STEP_DOWN**i for i, share in enumerate(shares)][count:]
    return sum(part * STEP_DOWN**i for i, part in enumerate(rest))


def _caveats(
    doc: Mapping[str, Any], explanation: Mapping[str, Any], parts: Sequence[Part], language: str
) -> Iterator[str]:
    words, baseline = WORDS[language], explanation.get("baseline") or {}
    days = baseline.get("tenant_days") or 0
    if not days:
        yield words["no baseline"]
    else:
        if days < DAYS_ENOUGH:
            yield words["few days"].format(days=days, enough=DAYS_ENOUGH)
        yield words["baseline"].format_map({"days": days, "from": baseline.get("from"), "to": baseline.get("to")})
    unrated = sum(part.kind == "profile" and part.rate_per_tenant_day is None for part in parts)
    if unrated:
        yield words["some unrated"].format(count=unrated)
    if explanation.get("observations_not_shown"):
        yield words["not shown"].format(count=explanation["observations_not_shown"])
    for stated in explanation.get("caveats") or []:
        yield _in(stated, language)
    lines = len(doc.get("evidence") or [])
    yield words["few lines"].format(count=lines) if lines else words["no lines"]


def _about(entity: Mapping[str, str], classes: Classes | None) -> About:
    kind, name = entity["type"], entity["name"]
    if classes is None:
        return About(kind, name)
    class_ = classes.of(kind, name)
    address = kind == "address"
    network, country = (classes.network(name), classes.country(name)) if address else ("", "")
    return About(kind, name, "" if class_ == "any" else class_, network, country)


def _entity_in_words(entity: About, language: str) -> str:
    kinds = KINDS[language]
    more = [kinds.get(entity.class_, entity.class_), entity.network, entity.country]
    said = ", ".join(text for text in more if text)
    return f"{kinds.get(entity.type, entity.type)} {_printable(entity.name)}{f' ({said})' if said else ''}"


def _name_of(attack: str, names: Mapping[str, str]) -> str:
    """`Brute Force: Password Spraying`, or what is known of it."""
    own, parent = names.get(attack, ""), names.get(attack.split(".", maxsplit=1)[0], "") if "." in attack else ""
    return ": ".join(text for text in (parent, own) if text)


def _in(texts: Mapping[str, str] | str, language: str) -> str:
    return texts if isinstance(texts, str) else texts.get(language) or texts.get("en") or ""


def _number(value: float, language: str) -> str:
    text = f"{value:.2f}"
    return text.replace(".", ",") if language == "de" else text


def _percent(share: float, language: str) -> str:
    return f"{share:.0%}".replace("%", " %") if language == "de" else f"{share:.0%}"


def _heading(text: str) -> Iterator[tuple[str, str]]:
    yield "", ""
    yield "heading", text


def _wrapped(text: str, width: int, head: str = "") -> list[str]:
    return textwrap.wrap(
        _printable(text), width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    ) or [head.rstrip()]


def _printable(text: str) -> str:
    """What an attacker wrote into a log must not command the terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def ids_like(wanted: str, ids: Iterable[str]) -> list[str]:
    """The ids that begin so; the id itself alone where it is one."""
    known = list(ids)
    return [wanted] if wanted in known else sorted(i for i in known if i.startswith(wanted.lower()))
