"""Reads a whole rule set: all good rules, correlations and filters, and every fault of every file at once with its line.

Documents that were understood before are taken from a cache, where the caller gives a folder for one.
"""

import difflib
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import msgspec

from detectors.sigma.cache import Cache, Entry
from detectors.sigma.documents import Document, Fault, RuleFaults, documents, files, identity, nearest
from detectors.sigma.overlays import applied, placed
from detectors.sigma.rules import OWNER_KEYS, PLACEHOLDER, Correlation, Draft, Rule, spoken, version
from detectors.sigma.tree import And, fields_of, simplify

__all__ = ["PLACEHOLDER", "Correlation", "Fault", "Loaded", "Rule", "RuleFaults", "load", "spoken"]

FAULTS_MAX = 10_000  # told per load


class Loaded(msgspec.Struct):
    """What a load gave. `until` is the last day on which it holds: then a filter expires, or a rule leaves staging."""

    rules: list[Rule]
    faults: list[Fault]
    warnings: list[Fault]
    until: str


def load(
    paths: Sequence[Path],
    expansions: Mapping[str, Sequence[str]] | None = None,
    cache: Path | None = None,
    *,
    today: date,
    owned: bool = False,
) -> Loaded:
    """All good rules in the order of their files, changed by overlays, narrowed by filters, and all faults.

    With `owned`, a filter without owner, reason and expiry is a fault; without, it is one that others wrote, and a warning.
    """
    faults: list[Fault] = []
    warnings: list[Fault] = []
    named: dict[str, Draft] = {}
    drafts: list[Draft] = []
    filters: list[Draft] = []
    overlays: list[Draft] = []
    day = today.isoformat()
    with _no_collection():
        store = Cache(cache, expansions or {})
        for draft in _drafts(paths, expansions or {}, store, faults):
            if draft.overlay is not None:
                overlays.append(draft)
            elif draft.rule is None:
                filters.append(draft)
            elif _unique(draft, named, faults):
                drafts.append(draft)
        _overlay(overlays, named, drafts, expansions or {}, store, faults)
        store.close()
        for draft in filters:
            if not _narrow(draft, named, drafts, faults, warnings, day, owned=owned):
                draft.filter = None
        rules = [_staged(rule, day) for rule in _resolve(drafts, named, faults)]
    dates = [rule.staging_until for rule in rules] + [draft.filter.expires for draft in filters if draft.filter]
    until = min((each for each in dates if each >= day), default="")
    return Loaded(rules, sorted(faults)[:FAULTS_MAX], sorted(warnings)[:FAULTS_MAX], until)


def _staged(rule: Rule, day: str) -> Rule:
    staged = rule.staged or rule.staging_until >= day
    return msgspec.structs.replace(rule, staged=True) if staged and not rule.staged else rule


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
    paths: Sequence[Path], expansions: Mapping[str, Sequence[str]], cache: Cache, faults: list[Fault]
) -> Iterator[Draft]:
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


def _nearest_rule(name: str, drafts: Sequence[Draft]) -> str:
    """The loaded rule whose id, name or title is most like this."""
    spellings: dict[str, Rule] = {}
    for draft in drafts:
        rule = draft.rule
        assert rule is not None
        spellings |= {each: rule for each in (rule.title, rule.name, rule.id) if each}
    close = difflib.get_close_matches(name, spellings, n=1, cutoff=0.6)
    if not close:
        return ""
    rule = spellings[close[0]]
    return f"; did you mean {rule.name or rule.id!r} ({rule.title})?"


def _refused(name: str, faults: Sequence[Fault]) -> bool:
    """Whether a rule is only unknown because its own faults keep it out, which are told already."""
    return any(name.lower() == fault.rule.lower() for fault in faults)


def _overlay(
    overlays: Sequence[Draft],
    named: Mapping[str, Draft],
    drafts: Sequence[Draft],
    expansions: Mapping[str, Sequence[str]],
    cache: Cache,
    faults: list[Fault],
) -> None:
    """Reads the rules that overlays change anew, as the overlays leave them; one with faults stays as it was."""
    of_rule: dict[str, list[Draft]] = {}
    for draft in overlays:
        assert draft.overlay is not None
        name = draft.overlay.target
        target = named.get(name) or named.get(name.lower())
        if target is not None and target.rule is not None:
            of_rule.setdefault(target.rule.id, []).append(draft)
        elif not _refused(name, faults):
            _note(faults, draft, "id", f"the overlay names an unknown rule {name!r}{_nearest_rule(name, drafts)}")
    for rule_id, changes in of_rule.items():
        target = named[rule_id]
        paths = [target.path, *(draft.path for draft in changes)]
        try:
            contents = [Path(path).read_bytes() for path in paths]
        except OSError as fault:
            _note(faults, changes[0], "id", f"{fault.filename} cannot be read: {fault.strerror}")
            continue
        places = [draft.overlay.line for draft in changes if draft.overlay]
        key = b"\0".join([rule_id.encode(), repr(places).encode(), *contents])
        entry = cache.get(key)
        if entry is None:
            entry = _changed(rule_id, paths, contents, places, expansions)
            cache.put(key, entry)
        faults += [placed(fault, paths[0], paths[1:]) for fault in entry.faults]
        for changed in entry.drafts:
            if changed.rule is not None:
                msgspec.structs.force_setattr(changed.rule, "path", target.path)
                target.rule, target.references, target.generate = changed.rule, changed.references, changed.generate


def _changed(
    rule_id: str,
    paths: Sequence[str],
    contents: Sequence[bytes],
    places: Sequence[int],
    expansions: Mapping[str, Sequence[str]],
) -> Entry:
    """A rule as its overlays, which begin at these lines, leave it."""
    from detectors.sigma.reading import read

    entry = Entry([], [])
    rule = next(
        (each for each in _bodies(paths[0], contents[0]) if "title" in each.body and identity(each.body) == rule_id),
        None,
    )
    overlays = [
        each
        for path, content, line in zip(paths[1:], contents[1:], places, strict=True)
        for each in _bodies(path, content)
        if each.body.line == line
    ]
    if rule is None or len(overlays) < len(places):
        entry.faults.append(Fault(paths[0], 1, "the file changed while it was read", rule_id))
        return entry
    changed = applied(rule, overlays, entry.faults)
    draft = None if entry.faults else read(changed, expansions, entry.faults)
    if draft is not None:
        entry.drafts.append(draft)
    return entry


def _bodies(path: str, content: bytes) -> list[Document]:
    return list(documents(Path(path), content, []))


def _narrow(
    draft: Draft,
    named: Mapping[str, Draft],
    drafts: Sequence[Draft],
    faults: list[Fault],
    warnings: list[Fault],
    day: str,
    *,
    owned: bool,
) -> bool:
    """Narrows the rules that a filter names: (rule) and (filter condition), as the reference implementation does.

    Whether the filter holds.
    """
    spec = draft.filter
    assert spec is not None
    missing = [key for key in OWNER_KEYS if not getattr(spec, key)]
    if missing:
        message = f"a filter needs {', '.join(missing)}: who answers for it, why, and the day on which it ends"
        _note(faults if owned else warnings, draft, "filter", message)
        if owned:
            return False
    if spec.expires and spec.expires < day:
        whose = f"; ask {spec.owner}" if spec.owner else ""
        _note(warnings, draft, "expires", f"the filter expired on {spec.expires} and no longer filters{whose}")
        return False
    targets = spec.targets
    for name in targets or ():
        target = named.get(name) or named.get(name.lower())
        if target is None and not _refused(name, faults):
            _note(faults, draft, "rules", f"the filter names an unknown rule {name!r}{_nearest_rule(name, drafts)}")
        elif target is not None and target.rule is not None and target.rule.correlation is not None:
            message = f"{name!r} is a correlation, which no filter narrows: name the rules that it counts"
            _note(faults, draft, "rules", message)
    ids = {name.lower() for name in targets or ()}
    narrowed = 0
    for target in drafts:
        rule = target.rule
        assert rule is not None
        if rule.condition is None or (targets is not None and rule.id not in ids and rule.name not in targets):
            continue
        if not all(getattr(spec, key) in {None, getattr(rule, key)} for key in ("product", "category", "service")):
            if targets is not None:
                _note(faults, draft, "logsource", f"the filter's logsource is narrower than that of rule {rule.id}")
            continue
        narrowed += 1
        condition = simplify(And((rule.condition, spec.condition)), None)
        target.rule = msgspec.structs.replace(
            rule,
            condition=condition,
            fields=fields_of(condition),
            version=version(rule.version, spec.version),
        )
    if targets is None and not narrowed:
        _note(warnings, draft, "logsource", "the filter narrows no rule: none has its logsource")
    return True


def narrowed(rule: Rule, text: str, today: date) -> Rule:
    """A rule as one filter, given as YAML, would leave it. Raises RuleFaults."""
    from detectors.sigma.reading import read

    faults: list[Fault] = []
    target = Draft(rule, rule.id, {}, path=rule.path)
    for document in documents(Path("filter.yml"), text.encode(), faults):
        draft = read(document, {}, faults)
        if draft is not None and draft.filter is not None:
            draft.path = document.path
            _narrow(draft, {rule.id: target}, [target], faults, [], today.isoformat(), owned=True)
    if faults or target.rule is rule or target.rule is None:
        raise RuleFaults(faults or [Fault("filter.yml", 1, "the filter narrows nothing")])
    return target.rule


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
