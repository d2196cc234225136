"""Tries rules on events of the past before they count: hits against expectations, a filter against judged hits, and what
another rule set would change.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from connectors.events import Event
from connectors.parse import AUTO
from detectors.behaviour import Behaviour
from detectors.facts import Evidence, Located
from detectors.sigma import Fault, Kind, Rule, RuleFaults, RuleSet
from detectors.sigma.documents import Mapped, documents, nearest
from shield.broker import Record
from shield.config import Config
from shield.keyed import TenantStore
from shield.past_events import Batch
from shield.pipeline import Signals, SignalStage, Tally
from shield.rule_matching import Forms, Matcher

OPERATORS = ("exactly", "at_least", "at_most")
UNEXPECTED = ("allow", "fail")
EXAMPLES_MAX = 3  # lines shown of one rule
LINE_CHARS_MAX = 300  # of each
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


# Hits against expectations


class Expectation(msgspec.Struct, frozen=True):
    """How often a rule is to hit. `line` is where it stands in its file."""

    rule: Rule
    operator: str
    number: int
    line: int

    def holds(self, hits: int) -> bool:
        return hits == self.number if self.operator == "exactly" else (hits - self.number) * self._sign >= 0

    @property
    def _sign(self) -> int:
        return 1 if self.operator == "at_least" else -1

    def __str__(self) -> str:
        return f"{self.operator.replace('_', ' ')} {self.number}"


class Expectations(msgspec.Struct, frozen=True):
    path: str
    expected: list[Expectation]
    unexpected: str  # whether hits of other rules fail


class Result(msgspec.Struct, frozen=True):
    """How one expectation came out; without one, of a rule whose hits nobody expected."""

    rule: str
    title: str
    expected: str
    hits: int
    passed: bool
    line: int


def expectations(path: Path, rules: RuleSet) -> Expectations:
    """Reads and checks a file of expectations. Raises RuleFaults with every fault, or OSError."""
    faults: list[Fault] = []
    found = list(documents(path, path.read_bytes(), faults))
    if len(found) != 1 and not faults:
        faults.append(Fault(str(path), 1, "one map is expected here, with a list under `expectations`"))
    if faults:
        raise RuleFaults(faults)
    body = found[0].body
    named = {word.lower(): rule for rule in rules.rules.values() for word in (rule.title, rule.name, rule.id) if word}

    def fault(within: Mapped, key: str, message: str) -> None:
        faults.append(Fault(str(path), within.at(key), message))

    for key in body:
        if key not in {"expectations", "unexpected"}:
            fault(body, key, f"unknown key {key!r}{nearest(key, ('expectations', 'unexpected'))}")
    unexpected = body.get("unexpected", "allow")
    if unexpected not in UNEXPECTED:
        fault(body, "unexpected", f"{unexpected!r} is neither allow nor fail")
    entries = body.get("expectations")
    expected: list[Expectation] = []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapped) for entry in entries):
        fault(body, "expectations", "expectations must be a list of maps")
        entries = []
    for entry in entries:
        for key in entry:
            if key != "rule" and key not in OPERATORS:
                fault(entry, key, f"unknown key {key!r}{nearest(key, ('rule', *OPERATORS))}")
        rule = named.get(str(entry.get("rule", "")).lower())
        if rule is None:
            given = entry.get("rule")
            spelled = frozenset(word for one in rules.rules.values() for word in (one.title, one.name, one.id))
            fault(entry, "rule", f"no rule has the id, name or title {given!r}{nearest(given, spelled)}")
        operators = [key for key in OPERATORS if key in entry]
        if not operators:
            fault(entry, "rule", "an expectation needs exactly, at_least or at_most")
        for key in operators:
            number = entry[key]
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                fault(entry, key, f"{number!r} is no number of hits")
            elif rule is not None:
                expected.append(Expectation(rule, key, number, entry.at(key)))
    if faults:
        raise RuleFaults(faults)
    return Expectations(str(path), expected, unexpected)


def counted(rules: RuleSet, batches: Iterable[Batch]) -> tuple[Counter[str], int]:
    """Hits per rule id, correlations once per burst, and the number of events."""
    hits: Counter[str] = Counter()
    events = 0
    matchers = _Matchers(rules)
    for batch in batches:
        events += len(batch.events)
        matches = matchers.of(batch.tenant).matches
        for event in batch.events:
            hits.update(matches(event))
        matchers.settle()
    return hits, events


def judged(wanted: Expectations, rules: RuleSet, hits: Mapping[str, int]) -> list[Result]:
    results = []
    for each in wanted.expected:
        count = hits.get(each.rule.id, 0)
        results.append(Result(each.rule.id, each.rule.title, str(each), count, each.holds(count), each.line))
    named = {each.rule.id for each in wanted.expected}
    if wanted.unexpected == "fail":
        results += [
            Result(rule, rules.rules[rule].title, "no hit", count, passed=False, line=1)
            for rule, count in sorted(hits.items())
            if rule not in named
        ]
    return results


def junit(results: Sequence[Result], path: str, took_s: float) -> bytes:
    """The results as a CI server reads them."""
    failed = [result for result in results if not result.passed]
    suite = ET.Element(
        "testsuite",
        name=_plain(path),
        tests=str(len(results)),
        failures=str(len(failed)),
        errors="0",
        skipped="0",
        time=f"{took_s:.3f}",
    )
    for result in results:
        case = ET.SubElement(
            suite, "testcase", classname=_plain(result.title), name=f"{result.rule}: {result.expected}", time="0"
        )
        if not result.passed:
            message = f"expected {result.expected}, found {result.hits}"
            failure = ET.SubElement(case, "failure", message=message, type="expectation")
            failure.text = _plain(f"{path}:{result.line}: {result.title}: {message}")
    root = ET.Element("testsuites")
    root.append(suite)
    made: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return made


def _plain(text: str) -> str:
    return _NO_XML.sub("?", text)


class _Matchers:
    """A rule set over the events of several tenants, whose correlations never see each other."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._of: dict[str, tuple[Matcher, TenantStore]] = {}

    def of(self, tenant: str) -> Matcher:
        found = self._of.get(tenant)
        if found is None:
            store = TenantStore(tenant)
            found = self._of[tenant] = (Matcher(self._rules, None, store), store)
        return found[0]

    def settle(self) -> None:
        """Forgets which entries of state changed: nobody restores them."""
        for _, store in self._of.values():
            for _ in store.changes():
                pass


# Hits that were judged


class Hits(msgspec.Struct):
    """Events that meet a rule, each with the number of its line, and how many of the file's lines gave none."""

    events: list[Event]
    lines: list[int]
    others: int


def hits_in(path: Path, meets: Callable[[Event], bool], parser: str | None, now_s: float) -> Hits:
    """Reads events or log lines, one per line, or alert documents, of which the evidence counts."""
    readers = [Forms(now_s, parser)] if parser else [Forms(now_s, AUTO), Forms(now_s)]
    found = Hits([], [], 0)
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        before = len(found.events)
        for original in _originals(line):
            for reader in readers:  # as in production first, then as `shield rules match` reads
                met = [event for event in reader.read([original])[0] if meets(event)]
                if met:
                    found.events += met
                    found.lines += [number] * len(met)
                    break
        found.others += len(found.events) == before
    return found


def _originals(line: bytes) -> list[bytes]:
    """The lines behind an alert document; any other line is itself."""
    if line.lstrip()[:1] == b"{" and b'"evidence"' in line:
        try:
            body = msgspec.json.decode(line)
        except msgspec.DecodeError:
            return [line]
        evidence = body.get("evidence")
        if isinstance(body.get("shield"), dict) and isinstance(evidence, list):
            return [str(each.get("original", "")).encode() for each in evidence if isinstance(each, dict)]
    return [line]


class Proof(msgspec.Struct, frozen=True):
    """What a filter does to hits that were judged: the numbers of their lines."""

    stopped: int
    kept: int
    still_false: list[int]
    lost_true: list[int]

    @property
    def holds(self) -> bool:
        return bool(self.stopped) and not self.still_false and not self.lost_true


def proven(meets: Callable[[Event], bool], false: Hits, true: Hits) -> Proof:
    """`meets` asks the rule with its new filter."""
    still = [line for event, line in zip(false.events, false.lines, strict=True) if meets(event)]
    lost = [line for event, line in zip(true.events, true.lines, strict=True) if not meets(event)]
    return Proof(len(false.events) - len(still), len(true.events) - len(lost), still, lost)


def asks(rules: RuleSet, rule: str) -> Callable[[Event], bool]:
    """Whether an event meets one rule of a set, in the log source that it is of."""
    matches = Matcher(rules, None, TenantStore("trial")).matches
    return lambda event: rule in matches(event)


# Two rule sets


class RuleChange(msgspec.Struct):
    """What becomes of one rule's hits and alerts. Examples are (place, line)."""

    rule: str
    title: str
    level: str
    change: str  # added, removed, changed or same
    hits_old: int = 0
    hits_new: int = 0
    appeared: int = 0
    vanished: int = 0
    alerts_old: int = 0
    alerts_new: int = 0
    alerts_appeared: int = 0
    alerts_vanished: int = 0
    appeared_examples: list[tuple[str, str]] = []
    vanished_examples: list[tuple[str, str]] = []

    @property
    def differs(self) -> bool:
        return bool(self.appeared or self.vanished or self.alerts_appeared or self.alerts_vanished)


class Difference(msgspec.Struct):
    events: int
    rules: list[RuleChange]
    cpu_us_old: float  # per event
    cpu_us_new: float


class _Side:
    """One of two rule sets: its hits event by event, the CPU time that they cost, and the alerts that come of them."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.hits: Counter[str] = Counter()
        self.cpu_s = 0.0
        self._kinds: set[Kind] = set()
        self._matchers = _Matchers(rules)
        self._stage = SignalStage(Config(), rules, Behaviour.load([], None))
        self._stage.gain(("signals", 0), {})
        self._newest: dict[str, float] = {}
        self._records = 0
        self.alerts: dict[str, dict[str, Any]] = {}

    def take(self, batch: Batch) -> list[list[str]]:
        matches = self._matchers.of(batch.tenant).matches
        for event in batch.events:
            kind = (event.event_dataset, event.event_code, event.event_category)
            if kind not in self._kinds:  # what is compiled for it once is no cost of each event
                self._kinds.add(kind)
                self.rules.matches(event)
        began = time.process_time()
        found = [matches(event) for event in batch.events]
        self.cpu_s += time.process_time() - began
        self._matchers.settle()
        for hits in found:
            if hits:
                self.hits.update(hits)
        self._alert(batch, [n for n, hits in enumerate(found) if hits])
        return found

    def _alert(self, batch: Batch, hit: Sequence[int]) -> None:
        """Through the stateful half of the pipeline. Only events that meet a rule can open an alert here."""
        newest = max([event.timestamp for event in batch.events], default=0.0)
        watermark = self._newest.get(batch.tenant, 0.0)
        events = [batch.events[n] for n in hit]
        floor = int(watermark // 60)
        self._newest[batch.tenant] = watermark = max(watermark, newest)

        def evidence(n: int) -> Evidence:
            line = batch.lines[hit[n]].decode("utf-8", "replace")
            return Evidence(events[n].timestamp, batch.places[hit[n]], "raw", 0, hit[n], 0, line)

        located = Located(
            batch.tenant,
            events,
            [TRIAL] * len(events),
            [max(floor, int(event.timestamp // 60)) for event in events],
            evidence,
        )
        value = msgspec.msgpack.encode(Signals("raw/0", watermark, self.rules.facts(located), {}))
        headers = {"tenant": batch.tenant}
        record = Record("signals", 0, self._records, batch.tenant.encode(), value, watermark, headers)
        self._records += 1
        made, _ = self._stage.process([record], Tally())
        self._keep(made)

    def end(self) -> None:
        self._keep(self._stage.finish(Tally()))

    def _keep(self, made: Iterable[Any]) -> None:
        for out in made:
            if out.topic == "alerts":
                document = msgspec.json.decode(out.value)
                self.alerts[document["event"]["id"]] = document

    def alerted(self) -> Counter[tuple[str, str]]:
        """Alerts by rule and whom they are about."""
        return Counter((doc["rule"]["id"], doc["shield"]["fingerprint"]) for doc in self.alerts.values())


TRIAL = "trial"  # the source of events here


def difference(old: RuleSet, new: RuleSet, batches: Iterator[Batch]) -> Difference:
    """What another rule set changes. The one that is asked first pays for fields worked out on demand: they take turns."""
    sides = (_Side(old), _Side(new))
    changes: dict[str, RuleChange] = {}
    events = 0

    def change(rule: str) -> RuleChange:
        found = changes.get(rule)
        if found is None:
            before, after = old.rules.get(rule), new.rules.get(rule)
            shown = after or before
            assert shown is not None
            kind = "added" if before is None else "removed" if after is None else "changed"
            if before is not None and after is not None and before.version == after.version:
                kind = "same"
            found = changes[rule] = RuleChange(rule, shown.title, shown.level, kind)
        return found

    for number, batch in enumerate(batches):
        events += len(batch.events)
        if number % 2:
            after = sides[1].take(batch)
            before = sides[0].take(batch)
        else:
            before = sides[0].take(batch)
            after = sides[1].take(batch)
        for n, (was, now) in enumerate(zip(before, after, strict=True)):
            if was == now:
                continue
            for rule in set(now) - set(was):
                one = change(rule)
                one.appeared += 1
                _example(one.appeared_examples, batch, n)
            for rule in set(was) - set(now):
                one = change(rule)
                one.vanished += 1
                _example(one.vanished_examples, batch, n)
    for side in sides:
        side.end()
    for rule in (old.rules.keys() ^ new.rules.keys()) | sides[0].hits.keys() | sides[1].hits.keys():
        change(rule)
    for rule in old.rules.keys() & new.rules.keys():
        if old.rules[rule].version != new.rules[rule].version:
            change(rule)
    _count_alerts(sides[0].alerted(), sides[1].alerted(), change)
    for rule, one in changes.items():
        one.hits_old, one.hits_new = sides[0].hits[rule], sides[1].hits[rule]
    ordered = sorted(changes.values(), key=lambda one: (not one.differs, -one.appeared - one.vanished, one.title))
    per_event = [round(side.cpu_s / events * 1e6, 2) if events else 0.0 for side in sides]
    return Difference(events, ordered, per_event[0], per_event[1])


def _count_alerts(before: Counter[tuple[str, str]], after: Counter[tuple[str, str]], change: Any) -> None:
    for (rule, _), number in before.items():
        change(rule).alerts_old += number
    for (rule, _), number in after.items():
        change(rule).alerts_new += number
    for (rule, _), number in (after - before).items():
        change(rule).alerts_appeared += number
    for (rule, _), number in (before - after).items():
        change(rule).alerts_vanished += number


def _example(examples: list[tuple[str, str]], batch: Batch, n: int) -> None:
    if len(examples) < EXAMPLES_MAX:
        examples.append((batch.places[n], batch.lines[n].decode("utf-8", "replace")[:LINE_CHARS_MAX]))
