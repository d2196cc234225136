"""The types between the stateless and the stateful half of detection, and the contract of a detector.

Facts are what a batch of events says to one detector, small enough to be re-keyed by tenant. Equal facts of one batch,
minute and step are folded into one with a count. A rule hit is a fact too. Observations are something worth noting, on
the one common scale: how often per tenant and day something this strong has been seen.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from connectors.events import Event

Entity = tuple[str, str]  # (kind, name): ("user", "anna"), ("address", "192.0.2.7"), ("host", "srv-1")

EVIDENCE_MAX = 3  # lines kept per fact and per observation
ORIGINAL_BYTES_MAX = 4096  # of one evidence line; the whole line stays in the raw topic at its identity


def entity_name(kind: str, text: str) -> str:
    r"""One name for what systems write in several ways: AMT\A.Krueger and a.krueger@amt.example, PC-017.amt.example and pc-017."""
    text = text.lower()
    if kind == "user":
        bare = text.rpartition("\\")[2]
        bare = bare.partition("@")[0] if bare.count("@") == 1 else bare
        return bare or text
    if kind == "host" and "." in text and ":" not in text:
        first = text.partition(".")[0]
        return first if first and not text.replace(".", "").isdigit() else text  # an address has no first name
    return text.rstrip(".") if kind == "domain" else text


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """One original line behind a finding."""

    time: float
    source: str
    topic: str
    partition: int
    offset: int
    index: int
    original: str


class Fact(msgspec.Struct, array_like=True):
    """`step` is the minute of the tenant's watermark at which the stateful half evaluates it: its own minute unless late."""

    detector: str  # rule id, or profile id with its primitive: "outbound_volume/bytes_24h"
    key: str
    item: str
    minute: int  # event time // 60
    step: int
    first: float
    last: float
    count: int
    value: float  # what is summed besides the count (bytes); 0 where nothing is
    entities: tuple[Entity, ...]
    evidence: tuple[Evidence, ...]
    extra: dict[str, str] = {}  # group-by values and fields that titles and reasons name


class Reason(msgspec.Struct, frozen=True):
    """The numbers of one observation: what was seen and what is usual."""

    name: str  # failures_10m, bytes_24h, first_seen
    actual: float | str
    typical: float | str
    window_s: float = 0.0
    unit: str = ""


class Observation(msgspec.Struct, frozen=True):
    detector: str
    family: str
    tenant: str
    entities: tuple[Entity, ...]
    time: float
    strength: tuple[float, ...]  # one number per component; stronger is larger
    rate: float | None  # λ: how often per tenant and day; None while the family has not learned enough
    item: str
    reasons: tuple[Reason, ...]
    sentence: dict[str, str]  # {"de": ..., "en": ...}
    evidence: tuple[Evidence, ...]
    attack: tuple[str, ...]  # ATT&CK technique and tactic ids: T1110, TA0006
    group: str = "any"  # the class of the key (person, server, ...) whose tail gave the rate


class Located(msgspec.Struct):
    """A batch of one tenant's events with what is needed to point back at the lines.

    All lists run in parallel, in arrival order. `evidence(i)` is built only for the few events that matter.
    """

    tenant: str
    events: list[Event]
    sources: list[str]
    steps: list[int]  # the watermark minute that held when the line arrived, or less
    evidence: Callable[[int], Evidence]


V = TypeVar("V")


class Table(Protocol[V]):
    """Keyed state of one tenant. A value changed in place must be `put` again, which marks it for the changelog."""

    def get(self, key: str) -> V | None: ...
    def put(self, key: str, value: V, time: float) -> None: ...
    def pop(self, key: str) -> None: ...
    def items(self) -> list[tuple[str, V]]: ...


class Store(Protocol):
    """Bounded keyed state: beyond `entries_max`, or idle for `idle_max_s` of event time, the oldest are evicted and counted."""

    tenant: str

    def table(self, name: str, kind: type[V], *, entries_max: int, idle_max_s: float) -> Table[V]: ...


class Feature(msgspec.Struct, frozen=True, array_like=True):
    """One point of learning history: the strongest reading of a detector for a key on a day, or an hour's counter vector."""

    tenant: str
    detector: str
    key: str
    day: int  # event time // 86400
    time: float
    values: tuple[float, ...]
    family: str = ""
    entities: tuple[Entity, ...] = ()
    group: str = "any"  # the class of the key: calibration has one tail per detector and class
    item: str = ""  # what was new, for the roll-out discount


class Detector(Protocol):
    """One kind of detection, both halves.

    `facts` is pure and sees a batch of events. `observe` folds the facts of one step (all of one tenant, sorted, equal ones
    merged) into keyed state and answers what is worth noting together with the learning history to keep.
    """

    def facts(self, located: Located) -> list[Fact]: ...
    def observe(self, store: Store, minute: int, facts: Sequence[Fact]) -> tuple[list[Observation], list[Feature]]: ...
