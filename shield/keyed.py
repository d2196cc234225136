"""Keyed state in memory: bounded tables of one tenant, whose changes since the last commit become changelog entries.

Values are decoded from their changelog bytes on first use, so a restore costs little. Order of entries is order of
writing; eviction (too many, or idle in event time) takes the oldest and depends on the writes alone.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

V = TypeVar("V")
SEPARATOR = "\x1f"
_packer = msgspec.msgpack.Encoder()


class Entries(Generic[V]):
    """One table. Implements `detectors.facts.Table`."""

    def __init__(
        self, prefix: str, kind: type[V], entries_max: int, idle_max_s: float, stored: dict[str, bytes]
    ) -> None:
        self._prefix = prefix
        self._decoder: msgspec.msgpack.Decoder[tuple[float, V]] = msgspec.msgpack.Decoder(tuple[float, kind])  # type: ignore[valid-type]
        self._entries_max = entries_max
        self._idle_max_s = idle_max_s
        self._newest = 0.0
        order = msgspec.msgpack.Decoder(tuple[float, msgspec.Raw])
        aged = sorted((order.decode(data)[0], key, data) for key, data in stored.items())
        self._live: OrderedDict[str, tuple[float, V] | bytes] = OrderedDict((key, data) for _, key, data in aged)
        if aged:
            self._newest = aged[-1][0]
        self._dirty: set[str] = set()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._live)

    def bound(self, entries_max: int, idle_max_s: float) -> None:
        """Other limits from the next write on: a rule was changed while the worker runs."""
        self._entries_max, self._idle_max_s = entries_max, idle_max_s

    def get(self, key: str) -> V | None:
        held = self._live.get(key)
        if held is None:
            return None
        if held.__class__ is bytes:
            held = self._live[key] = self._decoder.decode(held)
        return held[1]  # type: ignore[return-value]

    def put(self, key: str, value: V, time: float) -> None:
        live = self._live
        before = len(live)
        live[key] = (time, value)
        live.move_to_end(key)
        self._dirty.add(key)
        if time > self._newest or len(live) > before:  # else nothing has become too old or too much
            self._newest = max(self._newest, time)
            self._evict()

    def _evict(self) -> None:
        live = self._live
        horizon = self._newest - self._idle_max_s
        while True:
            held = live[oldest := next(iter(live))]
            written = held[0] if held.__class__ is tuple else self._decoder.decode(held)[0]  # type: ignore[arg-type]
            if len(live) <= self._entries_max and written >= horizon:
                return
            del live[oldest]
            self._dirty.add(oldest)
            self.evicted += 1

    def pop(self, key: str) -> None:
        if self._live.pop(key, None) is not None:
            self._dirty.add(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._live)

    def items(self) -> list[tuple[str, V]]:
        return [(key, value) for key in list(self._live) if (value := self.get(key)) is not None]

    def changes(self) -> Iterator[tuple[str, bytes | None]]:
        """What differs from the last call: (full key, encoded value or None)."""
        for key in sorted(self._dirty):
            held = self._live.get(key)
            encoded = held if isinstance(held, bytes) or held is None else _packer.encode(held)
            yield self._prefix + key, encoded
        self._dirty.clear()


class TenantStore:
    """All tables of one tenant. Implements `detectors.facts.Store`."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.tables: dict[str, Entries[Any]] = {}
        self._stored: dict[str, dict[str, bytes]] = {}

    def load(self, table: str, key: str, value: bytes) -> None:
        self._stored.setdefault(table, {})[key] = value

    def table(self, name: str, kind: type[V], *, entries_max: int, idle_max_s: float) -> Entries[V]:
        found = self.tables.get(name)
        if found is None:
            prefix = f"{self.tenant}{SEPARATOR}{name}{SEPARATOR}"
            found = self.tables[name] = Entries(prefix, kind, entries_max, idle_max_s, self._stored.pop(name, {}))
        else:
            found.bound(entries_max, idle_max_s)
        return found

    def changes(self) -> Iterator[tuple[str, bytes | None]]:
        for table in self.tables.values():
            yield from table.changes()


class PartitionState:
    """The tenants of one partition."""

    def __init__(self, changelog: dict[bytes, bytes]) -> None:
        self.tenants: dict[str, TenantStore] = {}
        for key, value in changelog.items():
            tenant, table, entry = key.decode().split(SEPARATOR, 2)
            self.tenant(tenant).load(table, entry, value)

    def tenant(self, name: str) -> TenantStore:
        found = self.tenants.get(name)
        if found is None:
            found = self.tenants[name] = TenantStore(name)
        return found

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        for tenant in self.tenants.values():
            for key, value in tenant.changes():
                yield key.encode(), value
