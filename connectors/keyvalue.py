"""Lines of key=value and key="value" as security devices write them: taken apart in general, and by learned patterns."""

import re
from collections.abc import Mapping

# A key starts where a word starts. A value without quotes may hold blanks: it ends where the next key begins.
_PAIRS = re.compile(
    r'(?<![\w.-])([A-Za-z][\w.-]*+)=(?:"([^"]*+)"|([^\s"]*+(?: ++(?![A-Za-z][\w.-]{0,63}+=)[^\s"=]++)*+))', re.DOTALL
)


def pairs(text: str, at: int) -> dict[str, str]:
    """The keys and values that stand in a line from a place on."""
    return {key: quoted or bare for key, quoted, bare in _PAIRS.findall(text, at)}


SHAPES_MAX = 256  # patterns kept; further kinds of lines take the slower way
SHAPES_PER_KIND_MAX = 6  # one kind comes in few shapes per firmware
SIGHTINGS_MIN = 8  # before a shape is worth a pattern
SIGHTINGS_MAX = 2048  # shapes being counted
TRIES_MAX = 512  # lines of one kind that are looked at for a shape
KEYS_MAX = 128  # of one line with a pattern
KEY_MAX = 64  # characters of one of them


class Shapes:
    """Learns the order of keys that one kind of line always has, and then takes what is wanted with one pattern.

    A pattern holds only for lines that have exactly these keys, quoted alike: what it takes is what `pairs` would.
    """

    def __init__(self, roles: Mapping[str, str]) -> None:
        self._roles = roles
        self._rank = {key: rank for rank, key in enumerate(roles)}
        self._known: dict[str, list[tuple[re.Pattern[str], tuple[str, ...]]]] = {}
        self._sightings: dict[tuple[str, ...], int] = {}
        self._tries: dict[str, int] = {}
        self._count = 0

    def read(self, kind: str, text: str, at: int) -> dict[str, str] | None:
        """What is taken of a line of a known shape, by its role."""
        for pattern, roles in self._known.get(kind, ()):
            match = pattern.fullmatch(text, at)
            if match is not None:
                return dict(zip(roles, match.groups(), strict=False))
        return None

    def learn(self, kind: str, text: str, at: int) -> dict[str, str]:
        """What is taken of a line of any shape; a shape seen often becomes known."""
        log = pairs(text, at)
        taken = {
            self._roles[key]: key
            for key in sorted(self._rank.keys() & log.keys(), key=self._rank.__getitem__, reverse=True)
        }
        tries = self._tries.get(kind, 0)
        if tries < TRIES_MAX and self._count < SHAPES_MAX and len(self._known.get(kind, ())) < SHAPES_PER_KIND_MAX:
            if len(self._tries) >= SIGHTINGS_MAX:
                self._tries.clear()
            self._tries[kind] = tries + 1
            self._sight(kind, text, at, {key: role for role, key in taken.items()})
        return {role: log[key] for role, key in taken.items()}

    def _sight(self, kind: str, text: str, at: int, taken: Mapping[str, str]) -> None:
        parts: list[str] = []
        roles: list[str] = []
        found: set[str] = set()
        end = at
        for match in _PAIRS.finditer(text, at):
            key = match[1]
            gap = text[end : match.start()].strip(" ")
            if (
                gap
                or (match[2] is None and " " in match[3])
                or key in found
                or len(found) >= KEYS_MAX
                or len(key) > KEY_MAX
            ):
                return  # no pattern would hold for the next line
            end = match.end()
            found.add(key)
            value = r'[^ "]*+' if match[2] is None else '[^"]*+'
            if key in taken:
                roles.append(taken[key])
                value = f"({value})"
            parts.append(f"{re.escape(key)}={value}" if match[2] is None else f'{re.escape(key)}="{value}"')
        if not roles or text[end:].strip(" "):
            return
        sighted = (kind, *parts)
        seen = self._sightings.get(sighted, 0) + 1
        if len(self._sightings) >= SIGHTINGS_MAX:
            self._sightings.clear()
        self._sightings[sighted] = seen
        if seen == SIGHTINGS_MIN:
            pattern = re.compile(" ++".join(parts) + " *+")
            self._known[kind] = [*self._known.get(kind, ()), (pattern, tuple(roles))]
            self._count += 1
