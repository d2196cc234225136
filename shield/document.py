"""An alert as the document that sinks, consoles and scripts read: ECS with our own `shield.*`, every number in it explained."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from connectors.events import isoformat
from detectors.facts import Evidence, Observation
from detectors.sigma import Rule, spoken
from shield.alerts import EVIDENCE_MAX, OpenAlert, Sent
from shield.guidance import Guidance
from shield.risk import STEP_DOWN, Finding

ECS_VERSION = "9.1.0"
SEVERITY_OF_LEVEL = {"informational": 5, "low": 21, "medium": 47, "high": 73, "critical": 99}
OFTEN_WEIGHT = 0.5  # of a rule that hits every few days
RARE_RISK = 2.0  # a rule that hits less than once in a hundred days keeps the whole score of its level
ORIGINALS_MAX = 10  # lines in one document; a webhook body stays below 20 kB
ORIGINAL_CHARS_MAX = 1_000  # of each
FACT_OF_ENTITY = {"user": "user", "address": "ip", "host": "hosts"}
_encode = msgspec.json.Encoder().encode


def document(
    sent: Sent,
    rules: Mapping[str, Rule],
    language: str = "en",
    baseline: Mapping[str, Any] | None = None,
    guidance: Guidance = Guidance(),  # noqa: B008 -- immutable
) -> dict[str, Any]:
    """The alert document (schema: docs/architecture.md, "Alert")."""
    alert = sent.alert
    if ("tenant", "*") in alert.entities:  # the town as a whole
        named = [("tenant", alert.tenant) if e == ("tenant", "*") else e for e in alert.entities]
        alert = msgspec.structs.replace(alert, entities=named)
    rule = rules.get(alert.rule)
    reason = {lang: _reason(alert, rules, lang) for lang in ("de", "en")}
    score = _score(alert)
    steps = guidance.steps(a for f in alert.findings for a in f.attack)
    doc: dict[str, Any] = {
        "@timestamp": isoformat(alert.opened),
        "ecs": {"version": ECS_VERSION},
        "event": {
            "id": alert.id,
            "kind": "alert",
            "category": ["intrusion_detection"],
            "type": ["info"],
            "severity": SEVERITY_OF_LEVEL.get(alert.level, 47),
            "risk_score": score,
            "reason": reason.get(language, reason["en"]),
            "start": isoformat(min(f.first for f in alert.findings)),
            "end": isoformat(alert.last),
        },
        "message": reason.get(language, reason["en"]),
        "organization": {"id": alert.tenant},
        "rule": _rule(alert, rule),
        "threat": _threat(alert),
        "related": _related(alert),
        "shield": {
            "status": "new",
            "revision": alert.revision,
            "level": alert.level,
            "disposition": None,
            "suspicion_case": False,
            "assignee": None,
            "fingerprint": "sha256:"
            + hashlib.sha256(f"{alert.tenant}|{alert.rule}|{alert.entities[:1]}".encode()).hexdigest(),
            "count": alert.count,
            "first_seen": isoformat(min(f.first for f in alert.findings)),
            "last_seen": isoformat(alert.last),
            "title": _title(alert, rule),
            "reason": reason,
            "entities": [{"type": kind, "name": name} for kind, name in alert.entities],
            "related_alerts": alert.related,
            "detector": {
                "kind": "rule" if alert.rule else "ml",
                "name": alert.rule or alert.findings[0].detector,
                "version": rule.version if rule else "",
            },
            "explanation": _explanation(alert, rules, guidance) | {"baseline": dict(baseline or {})},
            "playbook": steps.get(language, steps["en"]),
        },
        "evidence": _evidence(alert),
    }
    names = dict(reversed(alert.entities))
    if "address" in names:
        doc["source"] = {"ip": names["address"]}
    if "user" in names:
        doc["user"] = {"name": names["user"]}
    if "host" in names:
        doc["host"] = {"name": names["host"]}
    places = {"id": alert.id, "tenant": alert.tenant, "from": doc["event"]["start"], "to": doc["event"]["end"]}
    doc["shield"]["links"] = guidance.linked(names | places)
    return doc


def encode(doc: dict[str, Any]) -> bytes:
    return _encode(doc)


def rate_in_words(rate: float | None, language: str) -> str:
    """λ for a reader: how often something this strong was seen."""
    if rate is None:
        return ""
    if rate >= 1:
        return f"etwa {rate:.0f}-mal am Tag" if language == "de" else f"about {rate:.0f} times a day"
    days = 1 / rate
    if days > 365:
        return "seltener als einmal im Jahr" if language == "de" else "less than once a year"
    return f"etwa einmal in {days:.0f} Tagen" if language == "de" else f"about once in {days:.0f} days"


def observation_of_hit(rule: Rule, finding: Finding, rate: float | None, tenant: str) -> Observation:
    """A rule hit on the common scale."""
    return Observation(
        detector=rule.id,
        family=finding.family,
        tenant=tenant,
        entities=finding.entities,
        time=finding.first,
        strength=(1.0,),
        rate=rate,
        item=finding.item,
        reasons=(),
        sentence={lang: _hit_sentence(finding, rule, lang) for lang in ("de", "en")},
        evidence=tuple(finding.evidence),
        attack=finding.attack,
    )


def _score(alert: OpenAlert) -> float:
    """0-100: the risk (3 is about the usual threshold, 6 nearly certain), or a rule's level, less where it is known to
    hit often: what fires every week stands further down in the queue than what never did.
    """
    of_risk = 100 * (1 - 10 ** (-alert.risk / 4)) if alert.risk > 0 else 0.0
    of_rule = 0.0
    if alert.rule:
        rate = alert.findings[0].rate
        weight = 1.0 if rate is None else min(1.0, max(OFTEN_WEIGHT, -math.log10(rate) / RARE_RISK))
        of_rule = SEVERITY_OF_LEVEL.get(alert.level, 0) * weight
    return round(max(of_risk, of_rule), 1)


def _sentence(finding: Finding, rules: Mapping[str, Rule], language: str) -> str:
    if finding.sentence:
        return finding.sentence.get(language) or finding.sentence.get("en", "")
    rule = rules.get(finding.detector)
    return _hit_sentence(finding, rule, language) if rule else finding.detector


def _hit_sentence(finding: Finding, rule: Rule, language: str) -> str:
    template = rule.reason.get(language) or rule.reason.get("en")
    if template:
        return spoken(template, _values(finding))
    who = ", ".join(name for _, name in finding.entities)
    times = f" ({finding.count} {'mal' if language == 'de' else 'times'})" if finding.count > 1 else ""
    return f"{_rule_title(finding, rule)[language]}: {who}{times}"


def _rule_title(finding: Finding, rule: Rule) -> dict[str, str]:
    values = _values(finding)
    return {"de": spoken(rule.title_de or rule.title, values), "en": spoken(rule.title, values)}


def _values(finding: Finding) -> dict[str, str]:
    """What titles and reasons of rules may name."""
    numbers = {"count": str(finding.count), "first": f"{finding.first:.0f}", "last": f"{finding.last:.0f}"}
    return finding.extra | numbers


def _reason(alert: OpenAlert, rules: Mapping[str, Rule], language: str) -> str:
    """One sentence with numbers: the finding with the largest share, and how many others support it."""
    ranked = sorted(alert.findings, key=lambda f: (-alert.shares.get(f.family, 0.0), -f.risk, f.first))
    text = _sentence(ranked[0], rules, language)
    others = len(alert.findings) - 1 + alert.more_findings
    if ranked[0].rate is not None:
        words = rate_in_words(ranked[0].rate, language)
        text = text.removesuffix(".") + (f" (zu erwarten {words})" if language == "de" else f" (expected {words})")
    if others:
        text += (
            f"; dazu {others} weitere Beobachtung{'en' if others > 1 else ''}"
            if language == "de"
            else f"; {others} more observation{'s' if others > 1 else ''}"
        )
    return text


def _title(alert: OpenAlert, rule: Rule | None) -> dict[str, str]:
    if rule:
        return _rule_title(alert.findings[0], rule)
    entity = alert.entities[0][1] if alert.entities else "?"
    return {"de": f"Ungewöhnliches Verhalten: {entity}", "en": f"Unusual behaviour: {entity}"}


def _rule(alert: OpenAlert, rule: Rule | None) -> dict[str, Any]:
    if rule:
        return {"id": rule.id, "name": rule.title, "version": rule.version}
    return {"id": "behaviour", "name": _title(alert, None)["en"], "version": ""}


def _threat(alert: OpenAlert) -> dict[str, Any]:
    ids = sorted({a for f in alert.findings for a in f.attack})
    return {
        "framework": "MITRE ATT&CK",
        "tactic": {"id": [i for i in ids if i.startswith("TA")]},
        "technique": {"id": [i for i in ids if not i.startswith("TA")]},
    }


def _related(alert: OpenAlert) -> dict[str, list[str]]:
    related: dict[str, list[str]] = {}
    for kind, name in alert.entities:
        key = FACT_OF_ENTITY.get(kind)
        if key:
            related.setdefault(key, []).append(name)
    return related


def _explanation(alert: OpenAlert, rules: Mapping[str, Rule], guidance: Guidance) -> dict[str, Any]:
    """Why: each observation's share of the risk, actual and usual values, and what would have kept it quiet."""
    shares, spoken = dict(alert.shares), set[str]()
    rows = []
    for finding in sorted(alert.findings, key=lambda f: (-shares.get(f.family, 0.0), -f.risk, f.first)):
        first_of_family = finding.family not in spoken
        spoken.add(finding.family)
        rule = rules.get(finding.detector)
        rows.append(
            {
                "detector": finding.detector,
                "family": finding.family,
                "kind": finding.kind,
                "share": round(shares.get(finding.family, 0.0), 4) if first_of_family else 0.0,
                "risk": round(finding.risk, 3),
                "rate_per_tenant_day": finding.rate,
                "rarity": {lang: rate_in_words(finding.rate, lang) for lang in ("de", "en")},
                "sentence": {lang: _sentence(finding, rules, lang) for lang in ("de", "en")},
                "item": finding.item,
                "entities": [{"type": kind, "name": name} for kind, name in finding.entities],
                "count": finding.count,
                "first_seen": isoformat(finding.first),
                "last_seen": isoformat(finding.last),
                "attack": list(finding.attack),
                "features": [
                    {"name": r.name, "actual": r.actual, "typical": r.typical, "window_s": r.window_s, "unit": r.unit}
                    for r in finding.reasons
                ],
                "benign": guidance.look_alikes(finding.detector, rule.falsepositives if rule else ()),
            }
        )
    explanation: dict[str, Any] = {
        "risk": round(alert.risk, 3),
        "threshold": alert.threshold,
        "observations": rows,
        "observations_not_shown": alert.more_findings,
    }
    if alert.threshold is not None and rows:
        strongest = max(shares.values(), default=0.0)
        without = alert.risk * (1 - strongest) / STEP_DOWN  # the weaker ones move up
        below = without < alert.threshold
        explanation["counterfactual"] = {
            "de": f"Ohne die stärkste Beobachtung läge das Risiko bei {without:.1f}, {'unter' if below else 'weiter über'} der Schwelle {alert.threshold:.1f}.",
            "en": f"Without the strongest observation the risk would be {without:.1f}, {'below' if below else 'still above'} the threshold {alert.threshold:.1f}.",
        }
    return explanation


def _evidence(alert: OpenAlert) -> list[dict[str, Any]]:
    """Lines in order of time: the newest of each finding first to have a place, the weightiest findings before others."""
    ranked = sorted(alert.findings, key=lambda f: (-alert.shares.get(f.family, 0.0), -f.risk, f.first))
    chosen: dict[tuple[str, int, int, int], Evidence] = {}
    for turn in range(EVIDENCE_MAX):
        for finding in ranked:
            if turn < len(finding.evidence) and len(chosen) < ORIGINALS_MAX:
                line = finding.evidence[-1 - turn]
                chosen.setdefault((line.topic, line.partition, line.offset, line.index), line)
    return [
        {
            "@timestamp": isoformat(line.time),
            "source": line.source,
            "event_id": ":".join(map(str, key)),
            "original": line.original[:ORIGINAL_CHARS_MAX],
            "original_sha256": hashlib.sha256(line.original.encode("utf-8", "surrogatepass")).hexdigest(),
        }
        for key, line in sorted(chosen.items(), key=lambda pair: (pair[1].time, pair[0]))
    ]
