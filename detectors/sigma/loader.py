"""Reads a whole rule set: all good rules, correlations and filters, and every fault of every file at once with its line.

Documents that were understood before are taken from a cache, where the caller gives a folder for one.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from detectors.sigma.cache import Cache, Entry
from detectors.sigma.documents import Fault, RuleFaults, documents, files, nearest
from detectors.sigma.rules import PLACEHOLDER, Correlation, Draft, Rule, spoken, version
from detectors.sigma.tree import And, fields_of, simplify

__all__ = ["PLACEHOLDER", "Correlation", "Fault", "Rule", "RuleFaults", "load", "spoken"]

FAULTS_MAX = 10_000  # told per load


def load(
    paths: Sequence[Path], expansions: Mapping[str, Sequence[str]] | None = None, cache: Path | None = None
) -> tuple[list[Rule], list[Fault]]:
    """All good rules in the order of their files, and all faults."""
    faults: list[Fault] = []
    named: dict[str, Draft] = {}
    drafts: list[Draft] = []
    filters: list[Draft] = []
    with _no_collection():
        for draft in _drafts(paths, expansions or {}, cache, faults):
            if draft.rule is None:
                filters.append(draft)
            elif _unique(draft, named, faults):
                drafts.append(draft)
        for draft in filters:
            _narrow(draft, named, drafts, faults)
        return _resolve(drafts, named, faults), sorted(faults)[:FAULTS_MAX]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Loading makes many objects that stay; looking through them for garbage over and over takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _drafts(
    paths: Sequence[Path], expansions: Mapping[str, Sequence[str]], folder: Path | None, faults: list[Fault]
) -> Iterator[Draft]:
    cache = Cache(folder, expansions)
    for path in files(paths):
        try:
            content = path.read_bytes()
        except OSError as fault:
            faults.append(Fault(str(path), 1, f"cannot be read: {fault.strerror}"))
            continue
        entry = cache.get(content)
        if entry is None:
            entry = _understood(path, content, expansions)
            cache.put(content, entry)
        faults.extend(msgspec.structs.replace(fault, path=str(path)) for fault in entry.faults)
        for draft in entry.drafts:
            draft.path = str(path)
            if draft.rule is not None:
                msgspec.structs.force_setattr(draft.rule, "path", draft.path)
            yield draft
    cache.close()


def _understood(path: Path, content: bytes, expansions: Mapping[str, Sequence[str]]) -> Entry:
    from detectors.sigma.reading import read  # the parser is slow to import, and not needed where all is known

    entry = Entry([], [])
    for document in documents(path, content, entry.faults):
        draft = read(document, expansions, entry.faults)
        if draft is not None:
            entry.drafts.append(draft)
    return entry


def _note(faults: list[Fault], draft: Draft, key: str, message: str) -> None:
    faults.append(Fault(draft.path, draft.lines.get(key, 1), message, draft.label))


def _unique(draft: Draft, named: dict[str, Draft], faults: list[Fault]) -> bool:
    rule = draft.rule
    assert rule is not None
    twin = named.get(rule.id)
    if twin is not None and twin.rule is not None:
        _note(faults, draft, "id", f"the id is already that of {twin.path}:{twin.rule.line}")
        return False
    named[rule.id] = draft
    if rule.name:
        if rule.name in named:
            _note(faults, draft, "name", f"the name {rule.name!r} is already taken")
            return False
        named[rule.name] = draft
    return True


def _narrow(draft: Draft, named: Mapping[str, Draft], drafts: Sequence[Draft], faults: list[Fault]) -> None:
    """Narrows the rules that a filter names: (rule) and (filter condition), as the reference implementation does."""
    spec = draft.filter
    assert spec is not None
    targets = spec.targets
    for name in targets or ():
        if name.lower() not in named and name not in named:
            _note(faults, draft, "rules", f"the filter names an unknown rule {name!r}{nearest(name, frozenset(named))}")
    ids = {name.lower() for name in targets or ()}
    for target in drafts:
        rule = target.rule
        assert rule is not None
        if rule.condition is None or (targets is not None and rule.id not in ids and rule.name not in targets):
            continue
        if not all(getattr(spec, key) in {None, getattr(rule, key)} for key in ("product", "category", "service")):
            if targets is not None:
                _note(faults, draft, "logsource", f"the filter's logsource is narrower than that of rule {rule.id}")
            continue
        condition = simplify(And((rule.condition, spec.condition)), None)
        target.rule = msgspec.structs.replace(
            rule,
            condition=condition,
            fields=fields_of(condition),
            version=version(rule.version, spec.version),
        )


def _resolve(drafts: Sequence[Draft], named: Mapping[str, Draft], faults: list[Fault]) -> list[Rule]:
    """References become ids; what a correlation refers to stays silent unless `generate` says otherwise."""
    silent: set[str] = set()
    bad: set[str] = set()
    resolved: dict[str, tuple[str, ...]] = {}
    places: dict[str, Draft] = {}
    for draft in drafts:
        rule = draft.rule
        assert rule is not None
        if rule.correlation is None:
            continue
        places[rule.id] = draft
        ids = []
        for number, reference in enumerate(draft.references):
            target = (named.get(reference) or named.get(reference.lower()) or draft).rule
            if target is None or target is rule:
                if reference.lower() in {rule.id, rule.name.lower()} and target is rule:
                    ids.append(rule.id)
                    continue
                _note(faults, draft, "rules", f"unknown rule {reference!r}{nearest(reference, frozenset(named))}")
                bad.add(rule.id)
                continue
            ids.append(target.id)
            inner = target.correlation
            missing = [f for f in rule.correlation.groups[number] if inner is not None and f not in inner.group_by]
            if missing:
                _note(
                    faults,
                    draft,
                    "group-by",
                    f"{reference!r} is a correlation and carries only its own group-by, not {missing[0]!r}",
                )
                bad.add(rule.id)
            # the specification wants no alert of informational rules at all; as parts of something larger they are silent
            if not draft.generate or target.level == "informational":
                silent.add(target.id)
        resolved[rule.id] = tuple(ids)
    for start in _circular(resolved) - bad:
        _note(faults, places[start], "rules", "the correlation refers to itself in a circle")
        bad.add(start)
    changed = True
    while changed:  # what builds on a refused rule is refused with it
        worse = {start for start, below in resolved.items() if start not in bad and not bad.isdisjoint(below)}
        bad |= worse
        changed = bool(worse)
    rules: list[Rule] = []
    for draft in drafts:
        rule = draft.rule
        assert rule is not None
        if rule.id in bad:
            continue
        if rule.correlation is not None:
            rule = msgspec.structs.replace(
                rule, correlation=msgspec.structs.replace(rule.correlation, rules=resolved[rule.id])
            )
        rules.append(msgspec.structs.replace(rule, alerts=False) if rule.id in silent else rule)
    return rules


def _circular(resolved: Mapping[str, Sequence[str]]) -> set[str]:
    """The correlations that lead back to themselves and would never end."""
    found: set[str] = set()
    for start in resolved:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for below in resolved.get(todo.pop(), ()):
                if below == start:
                    found.add(start)
                if below not in seen:
                    seen.add(below)
                    todo.append(below)
    return found
