"""A rule set that notes what its index does: which rules it brings up for how many events, and what asking them costs."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from connectors.events import Event
from detectors.sigma import RuleSet
from detectors.sigma.index import Condition, Index
from detectors.sigma.rules import Rule

SAMPLES_MAX = 64  # events kept per rule, on which asking it is timed
ROUNDS = 5  # of which the quickest counts

Check = Callable[[Event], bool]


class Measured(RuleSet):
    """Finds what a rule set finds. `asked` counts per rule the events for which it was run at all.

    Where `routed` is false, all rules are held against every event, whatever its log source.
    """

    def __init__(self, rules: Sequence[Rule], *, routed: bool = True) -> None:
        super().__init__(rules)
        self.asked: Counter[str] = Counter()
        self._routed = routed
        self._all: Callable[[Event], list[int] | None] | None = None
        self._samples: dict[str, list[tuple[Check, Event]]] = {}

    def matches(self, event: Event) -> list[str]:
        if self._routed:
            return super().matches(event)
        if self._all is None:
            self._all = self._matcher(self._conditions)
        numbers = self._all(event) if self._all is not None else None
        return [self._base[number].id for number in numbers or ()]

    def cost_us(self) -> dict[str, float]:
        """Microseconds to ask each rule once, on events that brought it up."""
        found: dict[str, float] = {}
        for rule, samples in self._samples.items():
            found[rule] = min(_seconds(samples) for _ in range(ROUNDS)) / len(samples) * 1e6
        return found

    def _matcher(self, applying: Sequence[Condition]) -> Callable[[Event], list[int] | None] | None:
        if not applying:
            return None
        conditions = [_Watched(each, self._noting(self._base[each.number].id)) for each in applying]
        index = Index(conditions, self._texts)
        # these are run together, on every event, without being asked one by one
        always = [(self._noting(self._base[each.number].id), each.check) for each in applying if each.need is None]

        def matches(event: Event) -> list[int] | None:
            for note, check in always:
                note(check, event)
            return index.matches(event)

        return matches

    def _noting(self, rule: str) -> Callable[[Check, Event], None]:
        def note(check: Check, event: Event) -> None:
            self.asked[rule] += 1
            samples = self._samples.setdefault(rule, [])
            if len(samples) < SAMPLES_MAX:
                samples.append((check, event))

        return note


class _Watched(Condition):
    """A condition that tells when it is asked."""

    def __init__(self, condition: Condition, note: Callable[[Check, Event], None]) -> None:
        super().__init__(condition.number, condition.node, condition._texts)  # noqa: SLF001 -- a condition like that one
        inner = condition.check

        def check(event: Event) -> bool:
            note(inner, event)
            return inner(event)

        self.check = check


def _seconds(samples: Sequence[tuple[Check, Event]]) -> float:
    begun = time.perf_counter()
    for check, event in samples:
        check(event)
    return time.perf_counter() - begun
