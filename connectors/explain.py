"""Shows how a line was read: which parser, which patterns took which span, and where each field's value stands.

For the eyes of whoever writes or checks a parser. The patterns of the parser and of the modules it uses are watched for the
time of one call, so this is no part of the live path.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import msgspec

from connectors.events import ECS_ATTRIBUTES, Event, Origin, ParseError
from connectors.parse import AUTO, Reader, load_parser

DEPTH_MAX = 4  # of tables that hold patterns
_WATCHED = ("match", "fullmatch", "search", "finditer", "findall", "split", "sub")


class Taken(msgspec.Struct, frozen=True):
    """One successful use of a pattern."""

    pattern: str  # connectors.envelope._CLASSIC
    start: int | None  # in the line; None where the pattern read a changed copy of it
    end: int | None
    text: str


class Placed(msgspec.Struct, frozen=True):
    """One field of the event."""

    field: str
    value: Any
    start: int | None  # where the line states it; None where it is concluded
    end: int | None


class Explanation(msgspec.Struct, frozen=True):
    parser: str
    asked: list[tuple[str, bool]]  # by `auto`: who knew the line by sight
    patterns: list[Taken]
    events: list[list[Placed]]
    error: str | None = None


def explain(parser: str, text: str, origin: Origin) -> Explanation:
    """How a line is read. Raises UnknownParser."""
    asked: list[tuple[str, bool]] = []
    reason = "no parser recognises this line"
    modules = Reader(AUTO, origin.tenant, origin.source).candidates if parser == AUTO else [load_parser(parser)]
    seen: list[Taken] = []
    for module in modules:
        if parser == AUTO:
            knows = bool(module.sniff(text))
            asked.append((module.NAME, knows))
            if not knows:
                continue
        seen = []
        try:
            with _watched(module, text, seen):
                events = module.parse(text, origin)
        except ParseError as error:
            reason = str(error)
            continue
        if events:
            return Explanation(module.NAME, asked, seen, [_placed(event, text) for event in events])
    return Explanation(parser, asked, seen, [], reason)


def _placed(event: Event, text: str) -> list[Placed]:
    found = []
    for path, attribute in ECS_ATTRIBUTES.items():
        value = getattr(event, attribute)
        if value is not None and value != ():
            found.append(Placed(path, value, *_span(path, value, text)))
    found += [
        Placed(name, value, *_span(name, value, text)) for name, value in event.fields.items() if value is not None
    ]
    return found


def _span(name: str, value: Any, text: str) -> tuple[int | None, int | None]:
    """Where the line states a value: behind its name, else as a word of its own, else anywhere."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None, None
    word = str(value)
    for lead in (f'{name}="', f"{name}=", f'"{name}":"', f'"{name}": "'):
        at = text.find(lead + word)
        if at >= 0:
            return at + len(lead), at + len(lead) + len(word)
    match = re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", text)
    start = match.start() if match else text.find(word)
    return (start, start + len(word)) if start >= 0 else (None, None)


class _Watcher:
    """A pattern that notes what it took."""

    def __init__(self, pattern: re.Pattern[str], name: str, text: str, seen: list[Taken]) -> None:
        self._pattern = pattern
        self._name = name
        self._text = text
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        used = getattr(self._pattern, name)
        if name not in _WATCHED:
            return used

        def use(*args: Any, **kwargs: Any) -> Any:
            found = used(*args, **kwargs)
            if isinstance(found, re.Match):
                self._note(found[0], found.start(), found.string)
            elif name in {"findall", "finditer"}:
                subject = args[0]
                matches = list(self._pattern.finditer(*args, **kwargs))
                for match in matches:
                    self._note(match[0], match.start(), subject)
                if name == "finditer":
                    return iter(matches)
            return found

        return use

    def _note(self, text: str, start: int, subject: str) -> None:
        offset = 0 if subject is self._text or subject == self._text else self._text.find(subject)
        at = offset + start if offset >= 0 else None
        self._seen.append(Taken(self._name, at, None if at is None else at + len(text), text))


@contextmanager
def _watched(module: Any, text: str, seen: list[Taken]) -> Iterator[None]:
    """The patterns of a parser, and of the connector modules that it uses, replaced by watchers."""
    changed: list[tuple[dict[str, Any], str, Any]] = []
    for name, space in _concerned(type(module).__module__ if not isinstance(module, ModuleType) else module.__name__):
        for key, held in list(space.items()):
            watcher = _replaced(held, f"{name.removeprefix('connectors.')}.{key}", text, seen, 0)
            if watcher is not held:
                changed.append((space, key, held))
                space[key] = watcher
    try:
        yield
    finally:
        for space, key, held in changed:
            space[key] = held


@cache
def _concerned(start: str) -> list[tuple[str, dict[str, Any]]]:
    """A module and the connector modules that it uses, with their names."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in found or name not in sys.modules or name == __name__:
            continue
        space = found[name] = vars(sys.modules[name])
        used = {getattr(held, "__module__", None) or getattr(held, "__name__", "") for held in space.values()}
        used |= {held.__name__ for held in space.values() if isinstance(held, ModuleType)}
        waiting += [other for other in used if isinstance(other, str) and other.startswith("connectors.")]
    return list(found.items())


def _replaced(held: Any, name: str, text: str, seen: list[Taken], depth: int) -> Any:
    if isinstance(held, re.Pattern):
        return _Watcher(held, name, text, seen) if isinstance(held.pattern, str) else held
    if isinstance(getattr(held, "__self__", None), re.Pattern):  # _find = re.compile(...).search
        return getattr(_Watcher(held.__self__, name, text, seen), held.__name__)
    if depth >= DEPTH_MAX:
        return held
    if type(held) is dict:
        made = {key: _replaced(v, f"{name}[{key!r}]", text, seen, depth + 1) for key, v in held.items()}
        return made if any(made[key] is not held[key] for key in held) else held
    if isinstance(held, list | tuple):
        items = [_replaced(v, f"{name}[{i}]", text, seen, depth + 1) for i, v in enumerate(held)]
        if all(new is old for new, old in zip(items, held, strict=True)):
            return held
        return type(held)(*items) if hasattr(held, "_fields") else type(held)(items)
    return held
