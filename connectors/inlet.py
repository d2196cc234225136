"""What a source is given: the way into the raw topic. A source never retries or buffers on its own; it awaits the inlet.

Source contract. A module `connectors/<name>.py` offers

    class Config(SourceConfig)       its options, checked and documented from the type
    class Source:
        def __init__(self, config: Config, inlet: Inlet) -> None      cheap, opens nothing
        async def run(self) -> None                                   until cancelled; raises OSError when it cannot start
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class SourceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options that every source has. Tenant and source name are decided here, never by a line."""

    tenant: str
    source: str  # unique per tenant; names the source in alerts and metrics
    parser: str = "auto"
    timezone: str = "UTC"  # of times that the lines state without a zone
    year: int | None = None  # of times without a year; without it the arrival decides
    starts: str = (
        ""  # an expression that the first line of every event holds; lines without it belong to the one before
    )
    line_bytes_max: int = 1_048_576  # longer lines are cut there, and what was cut goes to the dead letters


class Counts(Protocol):
    """Counters that a source raises per batch; names become metrics (`shield_source_<name>_total`)."""

    def add(self, name: str, amount: int = 1) -> None: ...


class Inlet(Protocol):
    """The raw topic as a source sees it."""

    counts: Counts

    @property
    def behind(self) -> bool:
        """The broker does not keep up: refuse new work where the protocol can say so (HTTP 429)."""

    @property
    def down(self) -> bool:
        """The broker cannot be reached for now; nothing becomes durable until it is back (HTTP 503)."""

    def position(self, key: str) -> bytes | None:
        """What the last committed `put` stored under this key."""

    async def put(
        self,
        config: SourceConfig,
        lines: Sequence[bytes],
        *,
        position: tuple[str, bytes] | None = None,
        tenant: str = "",
        source: str = "",
    ) -> None:
        """Hand over lines (without their newline); returns when they are durable, together with the position.

        Puts become durable in the order in which they were called. A source that has several under way must not cancel
        one of them, or a later position would stand for lines that were never handed over.

        A line may hold newlines itself (octet-counted frames, XML): it stays one line. `tenant` and `source` override the
        config's where the listener knows better (a bearer token).
        """

    async def dead(self, config: SourceConfig, reason: str, body: bytes) -> None:
        """What cannot even become a line goes to the dead letters."""
