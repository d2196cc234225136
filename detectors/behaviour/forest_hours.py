"""The stateful half of forests: one open hour of counters per entity, scored for all entities at once when it is over."""

from collections.abc import Mapping

import numpy as np

from detectors.behaviour import sentences
from detectors.behaviour.folding import earliest
from detectors.behaviour.inventory import Classes
from detectors.behaviour.models import ANY, FOREST, HOURS, score_strength
from detectors.behaviour.profiles import Profile
from detectors.behaviour.tables import HourClock, Hours
from detectors.behaviour.telling import Calendar, Plan, Step, Subject, Teller, Words
from detectors.facts import Fact, Feature, Reason

HOUR_ITEMS_MAX = 1000  # distinct items counted per hour
SHRINK_HOURS = 24.0  # an entity's own mean weighs against the tenant's as its hours against these
MEAN_HOURS_MAX = 672  # four weeks: older hours fade
TOLD_COUNTERS = 3  # of one finding


class ForestHours:
    """All forest profiles."""

    def __init__(self, plans: Mapping[str, Plan], classes: Classes, teller: Teller) -> None:
        self._classes = classes
        self._teller = teller
        self._plans = [plan for plan in plans.values() if plan.profile.forest]
        for plan in self._plans:
            assert plan.profile.forest is not None
            fed: dict[str, list[tuple[int, str]]] = {}
            for number, counter in enumerate(plan.profile.forest.counters):
                fed.setdefault(counter.profile, []).append((number, counter.measure))
            for name, numbers in fed.items():
                plans[name].feeds.append((plan, numbers))

    def feed(self, step: Step, subject: Subject) -> None:
        """Adds the facts of one key to its open hour; what is late for that hour is not counted here."""
        hour = step.minute // 60
        given = subject.facts
        if given[0].minute // 60 != hour or given[-1].minute // 60 != hour:
            given = [fact for fact in given if fact.minute // 60 == hour]
            if not given:
                return
        for forest, numbers in subject.plan.feeds:
            size = _size(forest)
            table = step.tables(forest.profile.id).hours
            state = table.get(subject.key)
            if state is None or len(state.values) != size:
                state = Hours(hour, True, [0.0] * size, [{} for _ in range(size)], [0.0] * size)
            if not state.open:
                state.open, state.hour = True, hour
            for number, measure in numbers:
                if measure == "distinct":
                    items = state.items[number]
                    for fact in given:
                        if len(items) < HOUR_ITEMS_MAX:
                            items[fact.item] = 1
                else:
                    state.values[number] += sum([f.count if measure == "count" else f.value for f in given])
            if not state.evidence:
                state.evidence = earliest(given, 1)
            state.entities = subject.entities
            table.put(subject.key, state, step.minute * 60.0)

    def close(self, step: Step, days: Calendar) -> None:
        """Once the watermark has left the open hour: score all entities of that hour at once."""
        for plan in self._plans:
            self._close(step, plan, days)

    def _close(self, step: Step, plan: Plan, days: Calendar) -> None:
        size = _size(plan)
        tables = step.tables(plan.profile.id)
        clocks = tables.hour_clock
        clock = clocks.get("")
        hour = step.minute // 60
        if clock is None:
            clocks.put("", HourClock(hour, [0.0] * size), step.minute * 60.0)
            return
        if clock.hour >= hour:
            return
        table = tables.hours
        closing = [(key, state) for key, state in sorted(table.items()) if state.open]
        if closing and len(clock.mean) == size:
            values = np.log1p(np.array([_hour_values(state) for _, state in closing]))
            own = np.array([state.mean for _, state in closing])
            weight = np.array([[float(state.hours)] for _, state in closing])
            usual = (own * weight + np.array(clock.mean) * SHRINK_HOURS) / (weight + SHRINK_HOURS)
            rows = np.hstack([values, values - usual])
            self._score(step, plan, closing, rows, usual, days.of(step, plan))
            for (key, state), value in zip(closing, values.tolist(), strict=True):
                state.hours = min(state.hours + 1, MEAN_HOURS_MAX)
                state.mean = [m + (v - m) / state.hours for m, v in zip(state.mean, value, strict=True)]
                state.open, state.values, state.items = False, [0.0] * size, [{} for _ in range(size)]
                state.evidence = ()
                table.put(key, state, step.minute * 60.0)
            clock.hours = min(clock.hours + len(closing), MEAN_HOURS_MAX * 100)
            share = min(1.0, len(closing) / clock.hours)
            clock.mean = [m + (v - m) * share for m, v in zip(clock.mean, values.mean(axis=0).tolist(), strict=True)]
        clock.hour = hour
        clocks.put("", clock, step.minute * 60.0)

    def _score(
        self,
        step: Step,
        plan: Plan,
        closing: list[tuple[str, Hours]],
        rows: np.ndarray,
        usual: np.ndarray,
        days: int,
    ) -> None:
        profile, models = plan.profile, self._teller.models
        assert profile.forest is not None
        hour = closing[0][1].hour
        now = hour * 60 + 59
        subjects = []
        for (key, state), row in zip(closing, rows.tolist(), strict=True):
            role = self._classes.of(plan.kind, plan.first_part(key))
            at = now * 60.0 + 60.0
            fact = Fact(profile.id, key, "", now, step.minute, 0.0, at, 1, 0.0, state.entities, state.evidence)
            subject = Subject(plan, key, role if profile.class_ else ANY, role, [fact], now, days)
            subjects.append(subject)
            step.features.append(
                Feature(
                    *(step.store.tenant, f"{profile.id}/{HOURS}", key, hour // 24, hour * 3600.0, tuple(row)),
                    *(profile.family, state.entities, subject.group),
                )
            )
        forest = models.forests.get(profile.id) if models else None
        if forest is None or forest.features != rows.shape[1] or not self._teller.rates(plan, days):
            return
        size = _size(plan)
        scores = forest.score(rows)
        strong = [i for i, score in enumerate(scores.tolist()) if score >= profile.forest.score_min]
        if not strong:
            return
        gains = forest.contributions(rows[strong], [[number, number + size] for number in range(size)])
        for i, gain in zip(strong, gains, strict=True):
            top = [n for n in sorted(range(size), key=lambda n: (-gain[n], n)) if gain[n] > 0][:TOLD_COUNTERS]
            self._teller.say(
                step,
                subjects[i],
                closing[i][1].told,
                detector=f"{profile.id}/{FOREST}",
                strength=score_strength(float(scores[i])),
                words=lambda i=i, top=top: _words(profile, top, np.expm1(rows[i, :size]), np.expm1(usual[i])),  # type: ignore[misc]
            )


def _words(profile: Profile, top: list[int], actual: np.ndarray, usual: np.ndarray) -> Words:
    assert profile.forest is not None
    reasons = []
    details: dict[str, list[str]] = {"de": [], "en": []}
    for number in top:
        counter = profile.forest.counters[number]
        seen, typical = round(float(actual[number]), 1), round(float(usual[number]), 1)
        reasons.append(Reason(counter.name, seen, typical, 3600.0, counter.unit))
        for language, versus in (("de", "statt"), ("en", "instead of")):
            words = (sentences.amount(value, counter.unit, language) for value in (seen, typical))
            details[language].append(f"{counter.name} {f' {versus} '.join(words)}")
    numbers = {language: {"details": ", ".join(parts), "window": "1 h"} for language, parts in details.items()}
    return Words("", tuple(reasons), profile.forest.sentence, numbers)


def _size(plan: Plan) -> int:
    assert plan.profile.forest is not None
    return len(plan.profile.forest.counters)


def _hour_values(state: Hours) -> list[float]:
    return [value + len(items) for value, items in zip(state.values, state.items, strict=True)]
