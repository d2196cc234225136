"""The columns that a log names in a `#Fields:` line of its own, remembered per source: IIS and Exchange write such logs."""

from collections.abc import Callable
from operator import itemgetter
from weakref import WeakKeyDictionary

from connectors.clock import Clock
from connectors.events import Origin

COLUMNS_MAX = 256  # of one header; a longer one is no header
HEADER_CHARS_MAX = 16_384  # of its names
LAYOUTS_MAX = 16  # headers remembered per source, one for each number of columns; the oldest goes

Getter = Callable[[list[str]], tuple[str, ...]]

# A Clock is what lives as long as its source is read: a restart forgets the columns, and lines are read by their shape.
_STATED: WeakKeyDictionary[Clock, dict[int, tuple[str, ...]]] = WeakKeyDictionary()


def remember(origin: Origin, names: tuple[str, ...]) -> None:
    """Keep the columns of a header just read."""
    if not 0 < len(names) <= COLUMNS_MAX or sum(map(len, names)) > HEADER_CHARS_MAX:
        return
    stated = _STATED.setdefault(origin.clock, {})
    stated.pop(len(names), None)
    if len(stated) >= LAYOUTS_MAX:
        del stated[next(iter(stated))]
    stated[len(names)] = names


def stated(origin: Origin, count: int) -> tuple[str, ...] | None:
    """The columns of the last header with so many of them, if this source had one."""
    known = _STATED.get(origin.clock)
    return None if known is None else known.get(count)


def getter(names: tuple[str, ...], wanted: tuple[str, ...], missing: int) -> Getter:
    """Takes the wanted columns out of a row, in order; of one that is not there, what stands at the place `missing`."""
    where = {name: index for index, name in reversed(list(enumerate(names)))}
    return itemgetter(*(where.get(name, missing) for name in wanted))
