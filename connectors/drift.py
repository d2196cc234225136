"""Notices when the lines of a source lose fields that they used to have: a new firmware, a changed log setting."""

from collections.abc import Sequence
from operator import attrgetter

import msgspec

from connectors.events import Event

FIELDS = (
    "event.outcome", "event.code", "host.name", "user.name", "source.ip", "source.port", "destination.ip",
    "destination.port", "network.transport", "process.name", "process.command_line", "url.path",
    "http.response.status_code", "source.bytes", "destination.bytes",
)  # fmt: skip
SAMPLE = 4  # events looked at per record: a batch costs the same however long it is
KINDS_MAX = 256  # (dataset, event code) told apart per source
LEARNED = 200  # events of a kind before anything is usual
USUAL = 0.98  # share of a kind's events that have a field
MEMORY = 10_000  # events over which what was usual is forgotten
RECENT = 100  # events over which a loss is averaged

_read = attrgetter(*(field.replace(".", "_") for field in FIELDS))


class _Kind(msgspec.Struct):
    seen: int
    held: list[float]  # share of events that had each field
    lost: float = 0.0  # share of recent events that lacked a usual one
    missing: frozenset[str] = frozenset()


class Drift:
    """What is usual for the kinds of events of one source."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str | None], _Kind] = {}

    def note(self, events: Sequence[Event]) -> None:
        for event in events[:: max(1, len(events) // SAMPLE)]:
            self._note(event)

    def _note(self, event: Event) -> None:
        place = (event.event_dataset, event.event_code)
        kind = self._kinds.get(place)
        if kind is None:
            if len(self._kinds) >= KINDS_MAX:
                return
            kind = self._kinds[place] = _Kind(0, [0.0] * len(FIELDS))
        kind.seen += 1
        has = [value is not None for value in _read(event)]
        if kind.seen > LEARNED:
            missing = [
                f for f, there, share in zip(FIELDS, has, kind.held, strict=True) if not there and share >= USUAL
            ]
            if missing:
                kind.missing = frozenset(missing)
            kind.lost += (bool(missing) - kind.lost) / RECENT
        rate = 1.0 / (kind.seen if kind.seen <= LEARNED else MEMORY)
        kind.held = [share + (there - share) * rate for share, there in zip(kind.held, has, strict=True)]

    @property
    def lost(self) -> float:
        """Share of recent events that lack a field which their kind used to have; of the worst kind."""
        return max((kind.lost for kind in self._kinds.values()), default=0.0)

    @property
    def worst(self) -> tuple[str, list[str]]:
        """That kind's dataset and the fields it lost; empty where nothing was lost."""
        place, kind = max(self._kinds.items(), key=lambda pair: pair[1].lost, default=(("", None), _Kind(0, [])))
        return (place[0], sorted(kind.missing)) if kind.lost else ("", [])
