"""What is remembered per key, in which tables of a tenant's store, and how much of it at most."""

from collections.abc import Mapping

import msgspec

from detectors.behaviour import first_seen, rhythm
from detectors.behaviour.counters import Items, Told, Window
from detectors.behaviour.profiles import Profile
from detectors.facts import Entity, Evidence, Store, Table

KEYS_MAX = 100_000  # per profile and tenant
OUTSIDE_KEYS_MAX = 50_000
ITEMS_MAX = 200_000  # items with their number of holders, per profile and tenant
LISTED_MAX = 200_000  # entries of one remembered list
GROUPS_MAX = 16
PROFILES_MAX = 1000
IDLE_S = 60 * 86_400.0
OUTSIDE_IDLE_S = 72 * 3600.0
PAIRS_IDLE_S = first_seen.FORGET_DAYS * 86_400.0
CONTACTS_IDLE_S = 14 * 86_400.0


class Series(msgspec.Struct, array_like=True):
    """Counters of one key. `minute` is the latest seen; `loud` says that a reading exceeded its peak then."""

    minute: int = 0
    loud: bool = False
    windows: dict[str, Window] = {}  # by reading
    items: dict[str, Items] = {}  # by stream
    told: dict[str, Told] = {}  # by reading


class Novelty(msgspec.Struct, array_like=True):
    pairs: first_seen.Pairs
    told: Told


class Calls(msgspec.Struct, array_like=True):
    contacts: rhythm.Contacts
    told: Told


class Habit(msgspec.Struct, array_like=True):
    clock: rhythm.Clock
    told: Told


class Journeys(msgspec.Struct, array_like=True):
    places: rhythm.Places
    told: Told


class Hours(msgspec.Struct, array_like=True):
    """The open hour of one entity, and the mean of its hours so far (log-scaled)."""

    hour: int
    open: bool
    values: list[float]
    items: list[dict[str, int]]
    mean: list[float]
    hours: int = 0
    evidence: tuple[Evidence, ...] = ()
    entities: tuple[Entity, ...] = ()
    told: Told = msgspec.field(default_factory=Told)


class HourClock(msgspec.Struct, array_like=True):
    """The open hour of a forest profile, and the mean over all entities."""

    hour: int
    mean: list[float]
    hours: int = 0


class Days(msgspec.Struct, array_like=True):
    """Days that count as learning time of a profile (under the empty name: of the tenant)."""

    last: int
    seen: int


class Tables:
    """One profile's tables in one store, made when the profile first has facts there."""

    def __init__(self, store: Store, profile: Profile) -> None:
        name = f"behaviour.{profile.id}"
        if profile.counters:
            self.series = store.table(name, Series, entries_max=KEYS_MAX, idle_max_s=IDLE_S)
            self.outside_series = store.table(
                f"{name}.outside", Series, entries_max=OUTSIDE_KEYS_MAX, idle_max_s=OUTSIDE_IDLE_S
            )
        if profile.first_seen or any(counter.of != "all" for counter in profile.counters):
            self.pairs = store.table(f"{name}.pairs", Novelty, entries_max=KEYS_MAX, idle_max_s=PAIRS_IDLE_S)
            self.holders = store.table(
                f"{name}.items", first_seen.Holders, entries_max=ITEMS_MAX, idle_max_s=PAIRS_IDLE_S
            )
            self.groups = store.table(f"{name}.groups", first_seen.Group, entries_max=GROUPS_MAX, idle_max_s=IDLE_S)
        if profile.periodic:
            self.calls = store.table(f"{name}.calls", Calls, entries_max=KEYS_MAX, idle_max_s=CONTACTS_IDLE_S)
            self.users = store.table(
                f"{name}.users", first_seen.Holders, entries_max=ITEMS_MAX, idle_max_s=PAIRS_IDLE_S
            )
        if profile.unusual_hour:
            self.clock = store.table(f"{name}.clock", Habit, entries_max=KEYS_MAX, idle_max_s=IDLE_S)
            self.clocks = store.table(f"{name}.clocks", rhythm.Clock, entries_max=GROUPS_MAX, idle_max_s=IDLE_S)
        if profile.travel:
            self.places = store.table(f"{name}.places", Journeys, entries_max=KEYS_MAX, idle_max_s=IDLE_S)
        self.successes = {
            after.name: store.table(f"{name}/{after.name}", Told, entries_max=KEYS_MAX, idle_max_s=IDLE_S)
            for after in profile.after_failures
        }
        if profile.forest:
            self.hours = store.table(f"{name}.hours", Hours, entries_max=KEYS_MAX, idle_max_s=IDLE_S)
            self.hour_clock = store.table(f"{name}.clock", HourClock, entries_max=1, idle_max_s=IDLE_S)

    def series_of(self, role: str) -> Table[Series]:
        return self.outside_series if role == "external" else self.series


class Held:
    """All tables of one tenant's store, looked up once. Does not refer to the store, which may go before."""

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        self._profiles = profiles
        self._tables: dict[str, Tables] = {}
        self._lists: dict[str, Table[int]] = {}

    def of(self, store: Store, name: str) -> Tables:
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = Tables(store, self._profiles[name])
        return found

    def list_of(self, store: Store, name: str) -> Table[int]:
        """What a profile remembers for the conditions of others."""
        found = self._lists.get(name)
        if found is None:
            found = self._lists[name] = store.table(
                f"behaviour.list.{name}", int, entries_max=LISTED_MAX, idle_max_s=PAIRS_IDLE_S
            )
        return found
