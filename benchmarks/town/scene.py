"""The stage of one attack: its truth, whom it concerns, where and how quietly it plays."""

from random import Random
from typing import TypeVar

import msgspec

from benchmarks.town import ordinary, places
from benchmarks.town.people import Machine, Person, Town
from benchmarks.town.scribe import Scribe

T = TypeVar("T")
STEALTH = ("loud", "medium", "stealthy")


class Truth(msgspec.Struct, frozen=True):
    """One planted attack. Times are seconds since the epoch; `end` is its last line, `first_evidence_s` its first."""

    id: str
    tenant: str
    name: str
    technique: str
    stealth: str
    day: int
    start_s: float
    end_s: float
    first_evidence_s: float
    users: list[str]
    hosts: list[str]
    addresses: list[str]
    description: str
    lines: int
    evidence: list[str] = []  # the first 16 digits of the SHA-256 of each line


class About(msgspec.Struct, eq=False):
    """Whom an attack concerns, filled in by the technique."""

    users: set[str] = set()
    hosts: set[str] = set()
    addresses: set[str] = set()
    description: str = ""


class Scene:
    """Everything a technique needs: where, when, how quietly, and a scribe of its own."""

    def __init__(self, town: Town, scribe: Scribe, rng: Random, day: int, stealth: str, others: list[Town]) -> None:
        self.town = town
        self.scribe = scribe
        self.rng = rng
        self.day = day
        self.stealth = stealth
        self.others = others
        self.abroad: list[Scribe] = []
        self.about = About(set(), set(), set(), "")

    def pick(self, loud: T, medium: T, stealthy: T) -> T:
        return (loud, medium, stealthy)[STEALTH.index(self.stealth)]

    def at(self, begins: float, ends: float, day: int | None = None) -> float:
        return self.town.at(self.day if day is None else day, self.rng.uniform(begins, ends))

    def concern(self, *entities: "Person | Machine | str") -> None:
        for entity in entities:
            if isinstance(entity, Person):
                self.about.users.add(entity.user)
            elif isinstance(entity, Machine):
                self.about.hosts.add(entity.name)
                self.about.addresses.add(entity.address)
            elif entity[:1].isdigit() and entity.count(".") == 3:
                self.about.addresses.add(entity)
            else:
                self.about.users.add(entity)

    def person(self) -> Person:
        """Someone who works here now and is no administrator."""
        there = [
            p
            for p in self.town.people
            if (not p.joins or p.joins + 3 <= self.day) and self.day < p.leaves and not p.admin
        ]
        return self.rng.choice(there)

    def at_work(self, day: int | None = None) -> "ordinary.Presence":
        """Someone who is in the office on that day; anyone's computer when nobody is."""
        day = self.day if day is None else day
        there = [p for p in ordinary.presences(self.town, day) if not p.remote and not p.person.admin]
        if there:
            return self.rng.choice(there)
        person = self.person()
        return ordinary.Presence(person, self.town.at(day, 8), self.town.at(day, 16), person.pc.address)

    def elsewhere(self, town: Town) -> Scribe:
        """A scribe for another town; its lines belong to this attack, too."""
        self.abroad.append(type(self.scribe)(town, self.rng))
        return self.abroad[-1]

    def outside(self) -> str:
        """Where an attacker comes from: rented servers, or a hijacked home line when stealthy."""
        kind = self.rng.choice(
            self.pick(
                places.SUSPECT, (*places.CLOUD, *places.SUSPECT), ("DE home", "DE hosting", "NL hosting", "DE mobile")
            )
        )
        return places.address(self.rng, kind)
