"""Takes up changed rule files in a running worker: read, checked and compiled beside the work, swapped between two batches.

The old rules stay until the new ones are whole, and stay for good when these have a fault.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from detectors.sigma import Fault, Rule, RuleFaults, RuleSet
from detectors.sigma.documents import SUFFIXES
from shield.metrics import Metrics

LOADED, REFUSED = "loaded", "refused"
OUTCOMES = (LOADED, REFUSED)
SETTLE_S = 0.5  # files that changed are read when they have not changed again for so long
ENDINGS = tuple(SUFFIXES)
FAULTS_TOLD = 20  # in one log line and one answer

log = structlog.get_logger()

Marks = tuple[tuple[str, int, int, int], ...]  # path, modification time, size and inode of each file


class Outcome(msgspec.Struct, frozen=True):
    """What came of one reload. After a refusal, `rules` is the number of the old ones, which stay."""

    outcome: str
    rules: int
    staged: int
    took_s: float
    faults: list[str]
    warnings: list[str]


class Reloader:
    """Watches the files of a rule set. `turn` belongs to the worker's loop, `ask` to signals, `reload` to other threads."""

    def __init__(
        self,
        load: Callable[[], RuleSet],
        paths: Sequence[Path],
        rules: RuleSet,
        metrics: Metrics,
        *,
        every_s: float,
        since: Marks | None = None,
    ) -> None:
        """`since` are the marks of the files from before `rules` were loaded from them."""
        self._load = load
        self._paths = paths
        self._rules = rules
        self._metrics = metrics
        self._every_s = every_s or float("inf")
        self._next = 0.0
        self._loaded = self._seen = marks(paths) if since is None else since
        self._day = ""  # on which dates in the files were last looked at
        self._unsettled = False
        self._asked = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reload")
        self._job: Future[RuleSet | None] | None = None
        self._began = 0.0
        self._answers = threading.Condition()
        self._wanted = self._promised = self._answered = 0  # numbers of requests: made, in work, done
        self._outcome: Outcome | None = None
        metrics.rules(len(rules.rules), _staged(rules), time.time())

    def turn(self, now: float) -> RuleSet | None:
        """Between two batches: the new rules, once they are ready."""
        if self._job is not None:
            if not self._job.done():
                return None
            job, self._job = self._job, None
            return self._take(job, now)
        with self._answers:
            asked = self._asked or self._wanted > self._answered
            self._promised = self._wanted
        if self._next == 0.0:
            self._next = now + self._every_s
        if asked or now >= self._next:
            self._asked = False
            self._next = now + self._every_s
            self._began = time.monotonic()
            self._job = self._pool.submit(
                self._look, asked=asked, day=datetime.fromtimestamp(now, UTC).date().isoformat()
            )
        return None

    def ask(self) -> None:
        """Reload soon, whether files changed or not. Takes no lock: a signal may come at any moment."""
        self._asked = True

    def reload(self, wait_s: float) -> Outcome | None:
        """Reload and wait for what comes of it; None when that takes longer."""
        with self._answers:
            self._wanted += 1
            mine = self._wanted
            return self._outcome if self._answers.wait_for(lambda: self._answered >= mine, wait_s) else None

    def wait(self) -> None:
        """Until what is being read now has been read."""
        if self._job is not None:
            self._job.exception()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _look(self, *, asked: bool, day: str) -> RuleSet | None:
        """In the background: new rules where files changed and have come to rest, or a date in them has passed."""
        found = marks(self._paths)
        due = "" < self._rules.until < day != self._day
        changed = found != self._loaded
        self._unsettled = changed and found != self._seen and not asked and not due
        self._seen = found
        if self._unsettled or not (asked or due or changed):
            return None
        self._loaded, self._day = found, day
        rules = self._load()
        if self._rules.rules and not rules.rules:
            raise RuleFaults([Fault(str(path), 1, "no rule is left here") for path in self._paths])
        rules.prepare(self._rules)
        return rules

    def _take(self, job: Future[RuleSet | None], now: float) -> RuleSet | None:
        error = job.exception()
        rules = job.result() if error is None else None
        if error is None and rules is None:
            if self._unsettled:
                self._next = min(self._next, now + SETTLE_S)
            return None
        took_s = round(time.monotonic() - self._began, 3)
        if rules is None:
            told = [str(fault) for fault in error.faults] if isinstance(error, RuleFaults) else [f"{error!r}"]
            outcome = Outcome(REFUSED, len(self._rules.rules), _staged(self._rules), took_s, told[:FAULTS_TOLD], [])
            trace = None if isinstance(error, RuleFaults) else error
            log.error(
                "rules refused, the old ones stay",
                faults=outcome.faults,
                more=max(0, len(told) - FAULTS_TOLD),
                exc_info=trace,
            )
        else:
            warnings = [str(fault) for fault in rules.warnings]
            outcome = Outcome(LOADED, len(rules.rules), _staged(rules), took_s, [], warnings[:FAULTS_TOLD])
            changes = _changes(self._rules.rules, rules.rules)
            log.info("rules reloaded", rules=outcome.rules, **changes, took_s=took_s, warnings=outcome.warnings)
            self._rules = rules
            self._metrics.rules(outcome.rules, outcome.staged, time.time())
        self._metrics.reloaded(outcome.outcome)
        with self._answers:
            self._answered, self._outcome = self._promised, outcome
            self._answers.notify_all()
        return rules


def marks(paths: Sequence[Path]) -> Marks:
    """What tells whether rule files changed. A file that vanishes meanwhile makes a difference by not being there.

    Thousands of files are looked at every few seconds: hence no `Path` for each of them.
    """
    found = []
    folders = [str(path) for path in paths if path.is_dir()]
    singles = [str(path) for path in paths if not path.is_dir()]
    for place in singles:
        with suppress(OSError):
            found.append(_mark(place, os.stat(place)))  # noqa: PTH116
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):  # as rules are read: no way around in circles
                    folders.append(entry.path)
                elif entry.name.endswith(ENDINGS):
                    found.append(_mark(entry.path, entry.stat()))
    return tuple(sorted(found))


def _mark(path: str, stat: os.stat_result) -> tuple[str, int, int, int]:
    return path, stat.st_mtime_ns, stat.st_size, stat.st_ino


def _staged(rules: RuleSet) -> int:
    return sum(rule.staged for rule in rules.rules.values())


def _changes(old: Mapping[str, Rule], new: Mapping[str, Rule]) -> dict[str, int]:
    return {
        "added": len(new.keys() - old.keys()),
        "removed": len(old.keys() - new.keys()),
        "changed": sum(old[each].version != new[each].version for each in old.keys() & new.keys()),
    }
