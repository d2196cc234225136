"""What each rule finds and costs on given events, and how often analysts called its alerts false."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import process_time, time

import msgspec

from connectors.events import Event
from detectors.sigma import RuleSet
from detectors.sigma.measured import Measured
from shield.broker import Broker, EmbeddedConfig, open_broker
from shield.config import Config
from shield.keyed import TenantStore
from shield.rule_matching import LogSource, Matcher, opened
from shield.scan import files_of, merged

RECORDS_MAX = 1_000  # of the raw topic, the newest; each holds many lines
WARM_EVENTS = 2_000  # before the clock: tables are built and the rarest texts chosen
FALSE = frozenset({"false_positive", "false_positive_logic", "false_positive_data"})
UNDECIDED = frozenset({"", "undetermined", "duplicate", "test"})


def broker_of(config: Config) -> Broker | None:
    """The broker to read from; None where there is nothing yet, so that looking makes no file."""
    if isinstance(config.broker, EmbeddedConfig) and not Path(config.broker.path).is_file():
        return None
    return open_broker(config.broker, member="cli")


def lines_in(config: Config) -> Iterator[tuple[str, str, float, list[bytes]]]:
    """(tenant, source, arrival, lines) of the newest raw records; of the file sources where there is none."""
    broker = broker_of(config)
    found = False
    for record in broker.read("raw", newest=RECORDS_MAX) if broker else ():
        found = True
        single = record.headers.get("framing") == "single"
        lines = [record.value] if single else record.value.split(b"\n")
        yield record.headers.get("tenant", ""), record.headers.get("source", ""), record.time, lines
    if not found:
        now_s = time()
        for block in merged(files_of(config), now_s):
            yield block.config.tenant, block.config.source, now_s, block.lines


class RuleStats(msgspec.Struct):
    """One rule. Costs are microseconds per event of the whole stream; `asked` counts events for which it was run at all."""

    rule: str
    title: str
    level: str
    hits: int
    asked: int
    us_per_event: float
    share: float  # of the time that matching takes
    alerts: int = 0  # in the alerts topic
    decided: int = 0  # of these with a verdict
    false_share: float | None = None  # of these; None where there is no verdict


class Stats(msgspec.Struct):
    """All rules, the dearest first. `index_us` is what finding the candidates costs, whatever the rule."""

    events: int
    us_per_event: float
    index_us: float
    rules: list[RuleStats]


def measure(
    rules: RuleSet,
    source: LogSource | None,
    batches: Iterable[Sequence[Event]],
    told: Mapping[str, Counter[str]],
) -> Stats:
    """Runs all events twice: through the engine as it is, timed by the batch, and through one that counts."""
    store = TenantStore("stats")
    matcher = Matcher(rules, source, store)
    chosen = [rule for rule in rules.rules.values() if source is None or rule.condition is None or source.takes(rule)]
    counting = Measured([opened(rule) if source else rule for rule in chosen], routed=source is None)
    hits: Counter[str] = Counter()
    events = 0
    paces: list[float] = []
    for batch in batches:
        begun = process_time()
        for event in batch:
            hits.update(matcher.matches(event))
        if events >= WARM_EVENTS and batch:
            paces.append(1e6 * (process_time() - begun) / len(batch))
        for event in batch:
            counting.matches(event)
        for _ in store.changes():  # nobody restores this state
            pass
        events += len(batch)
    total_us = median(paces) if paces else 0.0  # batches in which tables are built are no measure
    found = [_stats(rules, rule, hits, counting.asked, told.get(rule, Counter())) for rule in rules.rules]
    costs = counting.cost_us()
    for each in found:
        each.us_per_event = costs.get(each.rule, 0.0) * each.asked / events if events else 0.0
    spent = sum(each.us_per_event for each in found)
    total_us = max(total_us, spent)  # too few events to be timed as a whole
    for each in found:
        each.share = each.us_per_event / total_us if total_us else 0.0
    found.sort(key=lambda each: (-each.us_per_event, -each.hits, each.rule))
    return Stats(events, total_us, total_us - spent, found)


def _stats(
    rules: RuleSet, identity: str, hits: Mapping[str, int], asked: Mapping[str, int], told: Mapping[str, int]
) -> RuleStats:
    rule = rules.rules[identity]
    decided = sum(count for disposition, count in told.items() if disposition not in UNDECIDED)
    wrong = sum(count for disposition, count in told.items() if disposition in FALSE)
    return RuleStats(
        rule=identity,
        title=rule.title,
        level=rule.level,
        hits=hits.get(identity, 0),
        asked=asked.get(identity, 0),
        us_per_event=0.0,
        share=0.0,
        alerts=sum(told.values()),
        decided=decided,
        false_share=wrong / decided if decided else None,
    )


def dispositions(alerts: Iterable[bytes], verdicts: Mapping[str, str]) -> dict[str, Counter[str]]:
    """How often alerts of each rule were called what; "" for those that nobody has judged.

    `verdicts` gives the last word by alert; without one, what the alert itself states counts.
    """
    judged: dict[str, tuple[str, str]] = {}  # alert -> (rule, disposition)
    for value in alerts:
        document = msgspec.json.decode(value)
        rule, alert = (document.get("rule") or {}).get("id"), document["event"]["id"]
        if rule:
            stated = (document.get("shield") or {}).get("disposition") or ""
            judged[alert] = (str(rule), verdicts.get(alert, str(stated)))
    found: dict[str, Counter[str]] = {}
    for rule, disposition in judged.values():
        found.setdefault(rule, Counter())[disposition] += 1
    return found
