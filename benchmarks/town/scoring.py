"""How many planted attacks stand among the first N alerts of a tenant and day, how soon, and how many alerts are worth reading.

An attack is found within N if one of the N alerts with the highest risk of that tenant and local day

- shows one of its lines as evidence, or
- shares an entity with it (user, host or address; machines that everybody uses, such as domain controllers, do not count)
  and has a line of evidence between the attack's first and last line, five minutes before and an hour after included.

`strict` recall takes the first way only. An alert opened before the attack counts when evidence of it has joined. The time to
detect is that of the first revision that fulfils the condition (its newest evidence, or its opening if that is later), less
the attack's first line, whatever the rank.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from benchmarks.town.scene import Truth

TOPS = (5, 10, 20)
BEFORE_S, AFTER_S = 300.0, 3600.0
ZONE = ZoneInfo("Europe/Berlin")


class Alert(msgspec.Struct, frozen=True):
    """What is needed of one revision of an alert."""

    id: str
    tenant: str
    opened_s: float
    newest_s: float  # of its evidence
    risk: tuple[float, float]
    entities: frozenset[str]
    times: tuple[float, ...]  # of the evidence it shows
    evidence: frozenset[str]
    families: tuple[str, ...] = ()
    title: str = ""


class Result(msgspec.Struct, frozen=True):
    """One attack and the best of its alerts."""

    truth: Truth
    rank: int | None  # among the alerts of the tenant and day; None: no alert at all
    rank_strict: int | None
    seconds: float | None
    alert: str = ""


def read(document: Mapping[str, Any]) -> Alert:
    shield = document["shield"]
    evidence = document["evidence"]
    return Alert(
        id=document["event"]["id"],
        tenant=document["organization"]["id"],
        opened_s=_seconds(document["@timestamp"]),
        newest_s=_seconds(document["event"]["end"]),
        risk=(float(document["event"]["risk_score"]), float(shield["explanation"]["risk"])),
        entities=frozenset(entity_name(e["name"]) for e in shield["entities"]),
        times=tuple(_seconds(line["@timestamp"]) for line in evidence),
        evidence=frozenset(line["original_sha256"][:16] for line in evidence),
        families=tuple(o["family"] for o in shield["explanation"]["observations"]),
        title=document["event"]["reason"],
    )


def entity_name(name: str) -> str:
    """Hosts without their domain, accounts without theirs, in lower case."""
    name = name.lower().rpartition("\\")[2]
    if "@" in name:
        name = name.split("@")[0]
    return name if not name[:1].isalpha() or "." not in name or not name.endswith(".example") else name.split(".")[0]


def score(
    truths: Sequence[Truth], revisions: Iterable[Alert], hubs: frozenset[str]
) -> tuple[list[Result], dict[str, Any]]:
    """One result per attack, and what holds for all alerts together."""
    first: dict[str, Alert] = {}
    last: dict[str, Alert] = {}
    history: dict[str, list[Alert]] = defaultdict(list)
    for one in revisions:
        first.setdefault(one.id, one)
        last[one.id] = one
        history[one.id].append(one)
    days: dict[tuple[str, str], list[Alert]] = defaultdict(list)
    for one in last.values():
        days[one.tenant, day_of(first[one.id].opened_s)].append(one)
    ranks: dict[str, int] = {}
    for alerts in days.values():
        alerts.sort(key=lambda a: (*(-x for x in a.risk), a.opened_s, a.id))
        ranks.update({a.id: place for place, a in enumerate(alerts, 1)})
    results = []
    true_ids: set[str] = set()
    by_tenant: dict[str, list[Alert]] = defaultdict(list)
    for one in last.values():
        by_tenant[one.tenant].append(one)
    for truth in truths:
        wanted = entities_of(truth) - hubs
        lines = frozenset(truth.evidence)
        best: Alert | None = None
        rank = rank_strict = None
        seconds = None
        for alert in by_tenant[truth.tenant]:
            revision = next((r for r in history[alert.id] if matches(r, truth, wanted, lines)), None)
            if revision is None:
                continue
            true_ids.add(alert.id)
            if rank is None or ranks[alert.id] < rank:
                rank, best = ranks[alert.id], alert
            if (rank_strict is None or ranks[alert.id] < rank_strict) and any(
                lines & r.evidence for r in history[alert.id]
            ):
                rank_strict = ranks[alert.id]
            took = max(0.0, max(revision.newest_s, revision.opened_s) - truth.first_evidence_s)
            seconds = took if seconds is None else min(seconds, took)
        results.append(Result(truth, rank, rank_strict, seconds, best.title if best else ""))
    summary: dict[str, Any] = {
        "attacks": len(truths),
        "alerts": len(last),
        "alerts per tenant-day": len(last) / max(1, len(days)),
    }
    for top in TOPS:
        within = [a for alerts in days.values() for a in alerts[:top]]
        summary[f"precision@{top}"] = sum(a.id in true_ids for a in within) / len(within) if within else 0.0
    false: dict[str, int] = defaultdict(int)
    for alerts in days.values():
        for one in alerts[:10]:
            if one.id not in true_ids:
                for family in one.families[:2]:
                    false[family] += 1
    summary["false by family"] = dict(sorted(false.items(), key=lambda item: -item[1])[:12])
    return results, summary


def matches(alert: Alert, truth: Truth, wanted: frozenset[str], lines: frozenset[str]) -> bool:
    if lines & alert.evidence:
        return True
    if not wanted & alert.entities:
        return False
    return any(truth.start_s - BEFORE_S <= at <= truth.end_s + AFTER_S for at in alert.times)


def entities_of(truth: Truth) -> frozenset[str]:
    return frozenset(entity_name(name) for name in (*truth.users, *truth.hosts, *truth.addresses))


def day_of(at: float) -> str:
    return f"{datetime.fromtimestamp(at, ZONE):%Y-%m-%d}"


def rates(results: Sequence[Result]) -> dict[str, Any]:
    """Recall within 5, 10 and 20, and the time to detect, of some results."""
    count = len(results)
    row: dict[str, Any] = {"attacks": count}
    for top in TOPS:
        row[f"recall@{top}"] = sum(r.rank is not None and r.rank <= top for r in results) / count if count else 0.0
    row["strict@10"] = sum(r.rank_strict is not None and r.rank_strict <= 10 for r in results) / count if count else 0.0
    row["any alert"] = sum(r.rank is not None for r in results) / count if count else 0.0
    took = sorted(r.seconds for r in results if r.seconds is not None)
    row["median s"] = median(took) if took else ""
    row["p90 s"] = took[min(len(took) - 1, int(0.9 * len(took)))] if took else ""
    return row


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
