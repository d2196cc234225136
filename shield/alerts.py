"""The alert life cycle of one tenant: rule hits and learned findings take one path from open over merge and growth to re-opening.

Everything here is a function of the facts and their event times: batch cuts, restarts and replay speed change no alert.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from detectors.facts import Entity, Evidence, Fact, Observation, Store, entity_name
from detectors.sigma import Rule
from shield.config import Alerting
from shield.risk import Book, Finding, book, entities_of, named, risk_of, total

MACHINES = frozenset(
    {"system", "local service", "network service", "lokaler dienst", "netzwerkdienst", "anonymous logon", "-"}
)  # whoever acts as these may be anybody
STRONG, FAIRLY_STRONG = 1.7, 1.5  # risk of a new detector's observation that breaks the quiet after an alert
KEY_JOIN = "\x1f"  # between the values of a fact's key
FOLDS_MAX = 200  # windows of one rule and entity that are remembered
FINDINGS_MAX = 40  # observations shown in one alert; further ones are counted
EVIDENCE_MAX = 5  # lines shown per finding
ENTITIES_MAX = 24
ALERTS_MAX = 20_000  # alerts of a tenant that can still grow
ENTITIES_KEPT_MAX = 100_000
DAYS_KEPT_S = 7 * 86_400.0
SPREAD_S = 86_400.0  # what spreads within so long is one matter
SHOWN_WEIGHT = 0.5  # of what an alert has already shown, when it is to be opened again
SPREAD_MAX = 200  # entities counted for the roll-out discount of one item
UPDATE_S = 600.0  # a growing alert is sent again at the latest this long after its last revision


class OpenAlert(msgspec.Struct):
    id: str
    tenant: str
    rule: str  # the rule that alerts directly, "" for an alert on risk
    level: str
    opened: float
    last: float
    count: int
    risk: float
    shares: dict[str, float]
    entities: list[Entity]
    findings: list[Finding]
    related: list[str] = []
    revision: int = 0
    threshold: float | None = None
    sent_count: int = 0
    sent_risk: float = 0.0
    sent_at: float = 0.0
    touched: bool = False
    more_findings: int = 0


class Sent(msgspec.Struct):
    """An alert as it stood when it was sent."""

    alert: OpenAlert
    kind: str  # alert.created | alert.updated


class AlertBook:
    """The alerts of one tenant."""

    def __init__(self, tenant: str, store: Store, options: Alerting) -> None:
        self.tenant = tenant
        self.options = options
        keep = DAYS_KEPT_S
        self._alerts = store.table("alerts", OpenAlert, entries_max=ALERTS_MAX, idle_max_s=keep)
        self._folds = store.table("folds", list[tuple[int, str]], entries_max=ENTITIES_KEPT_MAX, idle_max_s=keep)
        self._latest = store.table("latest", str, entries_max=ENTITIES_KEPT_MAX, idle_max_s=keep)
        self._risks = store.table("risks", Book, entries_max=ENTITIES_KEPT_MAX, idle_max_s=keep)
        self._matters = store.table("matters", str, entries_max=ENTITIES_KEPT_MAX, idle_max_s=keep)
        self._spread = store.table("spread", dict[str, float], entries_max=ENTITIES_KEPT_MAX, idle_max_s=keep)
        self._touched: list[str] = [key for key, alert in self._alerts.items() if alert.touched]
        self._unsaid = {"quiet": 0, "expected": 0}
        self.expects: Callable[[str, Entity, str, float], bool] | None = None  # (detector, entity, item, event time)

    def direct(self, fact: Fact, rule: Rule, rate: float | None = None) -> list[Sent]:
        """A hit of a rule that alerts at once, as it arrives: the first of a window opens an alert and is sent.

        Hits of the same rule on the same key, account or address are one matter. Nothing else happens before the hit's
        minute is complete (`count`): what else is in the batch must not show.
        """
        if self._expected(rule.id, fact.entities, fact.item, fact.last):
            return []
        folds = _folds_of(fact, rule)
        opened = self._folded(folds, fact.minute)
        if opened is not None:
            self._fold(folds, opened, fact)
            return []
        finding = finding_of_hit(fact, rule)
        finding.rate = rate
        alert = OpenAlert(
            id=_identity(self.tenant, rule.id, fact.key, finding.last),
            tenant=self.tenant,
            rule=rule.id,
            level=rule.level,
            opened=finding.last,
            last=finding.last,
            count=finding.count,
            risk=0.0,
            shares={finding.family: 1.0},
            entities=sorted(fact.entities[:ENTITIES_MAX], key=lambda e: e[1] not in _names(e[0], fact.key)),
            findings=[finding],
        )
        self._alerts.put(alert.id, alert, alert.opened)
        self._fold(folds, (fact.minute, alert.id), fact)
        return [self._send(alert, alert.opened)]

    def count(self, fact: Fact, rule: Rule) -> None:
        """The same hit once its minute is complete: it updates its alert's count, and the alert takes part in merging."""
        opened = self._folded(_folds_of(fact, rule), fact.minute)
        alert = self._alerts.get(opened[1]) if opened else None
        if alert is None:
            return
        finding = alert.findings[0]
        if rule.kind == "correlation":  # it states how many are in its window now, not how many more
            more = max(0, fact.count - alert.count)
        else:
            more = fact.count - (fact.evidence[:1] == tuple(finding.evidence[:1]))  # the one that opened it is counted
        self._involve(alert, fact.entities, fact.last)
        for entity in alert.entities:
            self._latest.put(named(entity), alert.id, fact.last)
        if more <= 0 and fact.last <= alert.last:
            return
        self._add(finding, more, fact.first, fact.last, fact.minute, fact.evidence)
        alert.count, alert.last = alert.count + more, max(alert.last, fact.last)
        self._touch(alert)

    def _folded(self, folds: Sequence[str], minute: int) -> tuple[int, str] | None:
        """The alert, with the minute it was opened, that a hit belongs to by one of its names."""
        for fold in folds:
            found = self._alert_of(self._folds.get(fold) or [], minute)
            if found is not None:
                return found
        return None

    def _fold(self, folds: Sequence[str], opened: tuple[int, str], fact: Fact) -> None:
        for fold in folds:
            known = self._folds.get(fold) or []
            if opened not in known:
                self._folds.put(fold, [*known[-FOLDS_MAX:], opened], fact.last)

    def _alert_of(self, opened: Sequence[tuple[int, str]], minute: int) -> tuple[int, str] | None:
        """The alert whose window a hit of this minute belongs to: the first that covers it, else one that follows closely."""
        window = self.options.fold_window_s // 60
        covering = (one for one in opened if one[0] <= minute < one[0] + window)
        following = (one for one in opened if minute < one[0] < minute + window)
        return next(covering, None) or next(following, None)

    def weigh(self, observations: Iterable[Observation], hubs: frozenset[str], threshold: float | None) -> list[Sent]:
        """Book one step's observations and open, merge, grow or re-open what passes the threshold."""
        sent: list[Sent] = []
        for observation in observations:
            if risk_of(observation.rate, 0) <= 0.0:
                continue
            if self._expected(observation.detector, observation.entities, observation.item, observation.time):
                continue
            names = entities_of(observation, hubs)
            risk = risk_of(observation.rate, self._spread_of(observation, names))
            if risk <= 0.0 or not names:
                continue
            for name in names:
                held = self._risks.get(name) or {}
                changed = book(held, _finding_of(observation, risk))
                if changed is not held:
                    self._risks.put(name, changed, observation.time)
            made = self._judge(observation, names, risk, threshold)
            if made is not None:
                sent.append(made)
        return sent

    def unsaid(self) -> dict[str, int]:
        """Findings since the last call that stayed below re-opening, and findings and hits that an exception covers."""
        counts, self._unsaid = self._unsaid, {"quiet": 0, "expected": 0}
        return {reason: amount for reason, amount in counts.items() if amount}

    def _expected(self, detector: str, entities: Iterable[Entity], item: str, time: float) -> bool:
        """Whether somebody has said that this is expected; counted."""
        if self.expects is None or not any(self.expects(detector, entity, item, time) for entity in entities):
            return False
        self._unsaid["expected"] += 1
        return True

    def updates(self, now: float) -> list[Sent]:
        """Alerts that grew enough (or long enough ago) since they were last sent."""
        sent, waiting = [], []
        for key in self._touched:
            alert = self._alerts.get(key)
            if alert is None or not alert.touched:
                continue
            due = (
                alert.count >= 2 * alert.sent_count
                or alert.risk >= alert.sent_risk + 0.5
                or now >= alert.sent_at + UPDATE_S
            )
            if due:
                sent.append(self._send(alert, now))
            else:
                waiting.append(key)
        self._touched = waiting
        return sent

    def _judge(self, observation: Observation, names: list[str], risk: float, threshold: float | None) -> Sent | None:
        now = observation.time
        candidate, reached, shares = "", -1.0, dict[str, float]()
        for name in names:
            value, parts = self._total(self._risks.get(name) or {}, now)
            if value > reached:
                candidate, reached, shares = name, value, parts
        alert = self._known(names, now)
        options = self.options
        if alert is not None:
            if now - alert.last <= options.merge_s or now - alert.opened <= options.grow_s:
                self._join(alert, observation, risk, candidate, reached, shares)
                return None
            again, shares = self._total(self._risks.get(candidate) or {}, now, shown_weight=SHOWN_WEIGHT)
            if not self._escalates(alert, observation, risk, again):
                self._unsaid["quiet"] += 1
                return None
            reached = max(again, risk)
        elif (rollout := self._rollout(observation, now)) is not None:
            again, shares = self._apart(names, rollout, now)
            if threshold is None or again < threshold:
                self._join_apart(rollout, observation, risk)
                return None
            reached, alert = again, rollout
        if threshold is None or reached < threshold:
            return None
        return self._raise(observation, candidate, reached, shares, risk, threshold, alert)

    def _escalates(self, alert: OpenAlert, observation: Observation, risk: float, again: float) -> bool:
        """Whether the quiet after an alert is to be broken: by a new detector that is strong, or by a clearly higher risk."""
        known = any(f.detector == observation.detector for f in alert.findings)
        news = not known and (risk >= STRONG or (risk >= FAIRLY_STRONG and again >= alert.risk + 0.7))
        return news or again >= alert.risk + 1.0

    @staticmethod
    def _total(held: Book, now: float, *, shown_weight: float = 1.0) -> tuple[float, dict[str, float]]:
        return total(held, now, shown_weight=shown_weight)

    def _rollout(self, observation: Observation, now: float) -> OpenAlert | None:
        """The alert of the last day that shows the same item by the same detector: what spreads is one matter."""
        if not observation.item:
            return None
        alert = self._alerts.get(self._matters.get(_matter(observation.detector, observation.item)) or "")
        return alert if alert is not None and now - alert.opened < SPREAD_S else None

    def _apart(self, names: Sequence[str], alert: OpenAlert, now: float) -> tuple[float, dict[str, float]]:
        """The highest risk of these entities by what the alert does not show of another: items of their own."""
        shown = {(f.detector, f.item) for f in alert.findings if f.item}
        found: list[tuple[float, dict[str, float]]] = []
        for name in names:
            held = self._risks.get(name) or {}
            own = {f: b for f, b in held.items() if (b.finding.detector, b.finding.item) not in shown}
            found.append(self._total(own, now))
        return max(found, key=lambda one: one[0])

    def _join_apart(self, alert: OpenAlert, observation: Observation, risk: float) -> None:
        """One more entity shows what the alert is about. The entity itself is not made part of it: what else it does is its own."""
        same = next(f for f in alert.findings if (f.detector, f.item) == (observation.detector, observation.item))
        self._add(same, 1, observation.time, observation.time, int(observation.time // 60), observation.evidence)
        same.risk = max(same.risk, risk)
        for entity in observation.entities:
            if entity not in alert.entities and len(alert.entities) < ENTITIES_MAX:
                alert.entities.append(entity)
        alert.last = max(alert.last, observation.time)
        self._touch(alert)

    def _raise(
        self,
        observation: Observation,
        candidate: str,
        reached: float,
        shares: dict[str, float],
        risk: float,
        threshold: float,
        before: OpenAlert | None,
    ) -> Sent:
        opened = OpenAlert(
            id=_identity(self.tenant, "risk", candidate, observation.time),
            tenant=self.tenant,
            rule="",
            level=_level(reached, threshold),
            opened=observation.time,
            last=observation.time,
            count=1,
            risk=reached,
            shares=shares,
            entities=sorted(observation.entities, key=lambda e: named(e) != candidate)[:ENTITIES_MAX],
            findings=[_finding_of(observation, risk)],
            related=[before.id] if before else [],
            threshold=threshold,
        )
        self._complete(opened, candidate)
        self._open(opened)
        for name in {named(e) for e in opened.entities}:
            held = self._risks.get(name) or {}
            if held:
                for booked in held.values():
                    booked.shown = True
                self._risks.put(name, held, observation.time)
        return self._send(opened, observation.time)

    def _complete(self, alert: OpenAlert, candidate: str) -> None:
        """Show every family that has a share in the risk, also those that were observed before the alert."""
        held = self._risks.get(candidate) or {}
        shown = {f.family for f in alert.findings}
        for family in sorted(alert.shares.keys() - shown, key=lambda f: -alert.shares[f]):
            if family in held and len(alert.findings) < FINDINGS_MAX:
                finding = held[family].finding
                alert.findings.append(msgspec.structs.replace(finding, evidence=list(finding.evidence)))

    def _join(
        self,
        alert: OpenAlert,
        observation: Observation,
        risk: float,
        candidate: str,
        reached: float,
        shares: dict[str, float],
    ) -> None:
        same = next(
            (f for f in alert.findings if f.detector == observation.detector and f.item == observation.item), None
        )
        if same is None and len(alert.findings) < FINDINGS_MAX:
            alert.findings.append(finding := _finding_of(observation, risk))
            self._note(alert, finding)
        elif same is None:
            alert.more_findings += 1
        else:
            self._add(same, 1, observation.time, observation.time, int(observation.time // 60), observation.evidence)
            if risk >= same.risk:
                same.risk, same.sentence, same.reasons, same.rate = (
                    risk,
                    observation.sentence,
                    observation.reasons,
                    observation.rate,
                )
        self._involve(alert, observation.entities, observation.time)
        alert.last = max(alert.last, observation.time)
        if reached > alert.risk:
            alert.risk, alert.shares = reached, shares
            self._complete(alert, candidate)
            if not alert.rule and alert.threshold:
                alert.level = _level(reached, alert.threshold)
        self._touch(alert)

    def _involve(self, alert: OpenAlert, entities: Iterable[Entity], time: float) -> None:
        for entity in entities:
            if entity not in alert.entities and len(alert.entities) < ENTITIES_MAX:
                alert.entities.append(entity)
                self._latest.put(named(entity), alert.id, time)

    def _known(self, names: Sequence[str], now: float) -> OpenAlert | None:
        """The newest alert on any of the entities that is still within its quiet time."""
        found = [a for n in names if (a := self._alerts.get(self._latest.get(n) or "")) is not None]
        current = [a for a in found if now - a.opened <= self.options.quiet_s]
        return max(current, key=lambda a: (a.opened, a.id), default=None)

    def _spread_of(self, observation: Observation, names: list[str]) -> int:
        """Other entities with the same (detector, item), or other items of the same (detector, actor), in the last day.

        A reading without an item (more new programs than ever) is the same on all entities: that is how a roll-out looks.
        """
        now, most = observation.time, 0
        actor = names[0] if names else ""
        for key, member in (
            (f"{observation.detector}|{observation.item}", actor),
            (f"{observation.detector}@{actor}", observation.item),
        ):
            if not member:
                continue
            held = self._spread.get(key) or {}
            recent = {name: at for name, at in held.items() if now - at < SPREAD_S}
            most = max(most, len(recent.keys() - {member}))
            if len(recent) < SPREAD_MAX:
                recent[member] = now
            self._spread.put(key, recent, now)
        return most

    def _open(self, alert: OpenAlert) -> None:
        self._alerts.put(alert.id, alert, alert.opened)
        for entity in alert.entities:
            self._latest.put(named(entity), alert.id, alert.opened)
        for finding in alert.findings:
            self._note(alert, finding)

    def _note(self, alert: OpenAlert, finding: Finding) -> None:
        if finding.kind == "profile" and finding.item:
            self._matters.put(_matter(finding.detector, finding.item), alert.id, finding.last)

    def _touch(self, alert: OpenAlert) -> None:
        if not alert.touched:
            alert.touched = True
            self._touched.append(alert.id)
        self._alerts.put(alert.id, alert, alert.last)

    def _send(self, alert: OpenAlert, now: float) -> Sent:
        alert.revision += 1
        alert.sent_count, alert.sent_risk, alert.sent_at, alert.touched = alert.count, alert.risk, now, False
        self._alerts.put(alert.id, alert, alert.last)
        frozen = msgspec.structs.replace(
            alert, findings=[msgspec.structs.replace(f, evidence=list(f.evidence)) for f in alert.findings]
        )
        frozen.entities, frozen.related = list(alert.entities), list(alert.related)
        return Sent(frozen, "alert.created" if alert.revision == 1 else "alert.updated")

    @staticmethod
    def _add(
        finding: Finding, count: int, first: float, last: float, minute: int, evidence: Sequence[Evidence]
    ) -> None:
        finding.count += count
        finding.first, finding.last = min(finding.first, first), max(finding.last, last)
        if evidence and minute > finding.minute:
            if len(finding.evidence) >= EVIDENCE_MAX:  # the first ones show how it began, the last how it stands
                finding.evidence.pop()
            finding.evidence.append(evidence[0])
            finding.minute = minute


def _identity(tenant: str, detector: str, key: str, time: float) -> str:
    return hashlib.sha256(f"{tenant}\x1f{detector}\x1f{key}\x1f{time:.3f}".encode()).hexdigest()[:32]


def _matter(detector: str, item: str) -> str:
    return f"{detector}|{item}"


def _folds_of(fact: Fact, rule: Rule) -> list[str]:
    """The names under which hits of a rule are one matter: its key, then the accounts and addresses behind it."""
    behind = (e for e in fact.entities if e[0] == "address" or (e[0] == "user" and not _is_machine(e[1])))
    return [f"{rule.id}|{fact.key}", *(f"{rule.id}|{named(e)}" for e in behind)]


def _is_machine(user: str) -> bool:
    return user.endswith("$") or user in MACHINES


def _names(kind: str, key: str) -> set[str]:
    """The parts of a hit's key as entities are named."""
    return {entity_name(kind, part) for part in key.split(KEY_JOIN)}


def _level(risk: float, threshold: float) -> str:
    return "critical" if risk >= threshold + 3 else "high" if risk >= threshold + 1.5 else "medium"


def finding_of_hit(fact: Fact, rule: Rule) -> Finding:
    """The first hit alone, in order of arrival (how many more were folded into the fact depends on the batch), or all
    that a correlation counted when it fired.
    """
    whole = rule.kind == "correlation"
    at = fact.evidence[0].time if fact.evidence else fact.first
    return Finding(
        detector=rule.id,
        family=f"rule:{rule.id}",
        kind=rule.kind,
        risk=0.0,
        rate=None,
        first=fact.first if whole else at,
        last=fact.last if whole else at,
        count=fact.count if whole else 1,
        item=fact.item,
        entities=fact.entities,
        sentence={},
        reasons=(),
        evidence=list(fact.evidence if whole else fact.evidence[:1]),
        attack=tuple(rule.attack),
        extra=fact.extra,
        minute=fact.minute,
    )


def _finding_of(observation: Observation, risk: float) -> Finding:
    return Finding(
        detector=observation.detector,
        family=observation.family,
        kind="profile",
        risk=risk,
        rate=observation.rate,
        first=observation.time,
        last=observation.time,
        count=1,
        item=observation.item,
        entities=observation.entities,
        sentence=observation.sentence,
        reasons=observation.reasons,
        evidence=list(observation.evidence[:EVIDENCE_MAX]),
        attack=observation.attack,
        minute=int(observation.time // 60),
    )
