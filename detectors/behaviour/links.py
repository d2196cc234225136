"""Who stands behind an address or a host for a while: what a logon, a ticket or a VPN assignment says joins findings."""

import msgspec

from detectors.behaviour.folding import SEPARATOR
from detectors.facts import Entity, Store, Table

SHARED_FROM = 4  # an address or host with so many at once is shared and stands for nobody
TARGETS_MAX = 16
LINKS_MAX = 100_000
IDLE_S = 3 * 86_400.0


class Targets(msgspec.Struct, array_like=True):
    """Entity -> minute until which the link holds."""

    until: dict[Entity, int] = {}


class Links:
    """The links of one tenant."""

    def __init__(self, store: Store) -> None:
        self._table: Table[Targets] = store.table("behaviour.links", Targets, entries_max=LINKS_MAX, idle_max_s=IDLE_S)

    def add(self, origin: Entity, target: Entity, minute: int, minutes: int) -> None:
        key = SEPARATOR.join(origin)
        held = self._table.get(key) or Targets()
        until = {entity: at for entity, at in held.until.items() if at >= minute}
        until[target] = max(until.get(target, 0), minute + minutes)
        if len(until) > TARGETS_MAX:
            del until[min(until, key=lambda e: (until[e], e))]
        held.until = until
        self._table.put(key, held, minute * 60.0)

    def of(self, origin: Entity, minute: int) -> list[Entity]:
        """Entities the origin stands for now; of a kind that it stands for several of, none."""
        held = self._table.get(SEPARATOR.join(origin))
        if held is None:
            return []
        kinds: dict[str, list[Entity]] = {}
        for entity, until in held.until.items():
            if until >= minute:
                kinds.setdefault(entity[0], []).append(entity)
        return [e for entities in kinds.values() if len(entities) < SHARED_FROM for e in entities]

    def behind(self, entities: tuple[Entity, ...], minute: int, most: int) -> tuple[Entity, ...]:
        """The entities with those linked to them."""
        found = dict.fromkeys(entities)
        for entity in entities:
            for linked in self.of(entity, minute):
                found.setdefault(linked)
        return tuple(found)[:most]
