"""What an alert shows besides its reasons: harmless look-alikes, what to look at first, and links to the systems around."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import yaml

STEPS_MAX = 6  # of one alert
_PLACE = re.compile(r"\{(\w*)\}")
PLACEHOLDERS = ("id", "tenant", "user", "address", "host", "from", "to")


class PlaybookError(ValueError):
    """A playbook that cannot be read; the message names the file."""


class Steps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    de: list[str]
    en: list[str]


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{id}`, `{tenant}`, `{user}`, `{address}`, `{host}`, `{from}` and `{to}` (ISO times) are filled in, escaped for URLs."""

    title: str
    href: str

    def __post_init__(self) -> None:
        if not self.href.startswith(("https://", "http://")):
            raise ValueError(f"href {self.href!r} is no web address")
        named = set(_PLACE.findall(self.href))
        if named - set(PLACEHOLDERS) or set(_PLACE.sub("", self.href)) & set("{}"):
            raise ValueError(f"href {self.href!r}: only {', '.join(PLACEHOLDERS)} can be filled in")


class Guidance(msgspec.Struct, frozen=True):
    playbook: Mapping[str, Steps] = {}  # ATT&CK id -> steps
    benign: Mapping[str, Mapping[str, Sequence[str]]] = {}  # profile -> language -> look-alikes
    links: tuple[Link, ...] = ()

    def steps(self, attack: Iterable[str]) -> dict[str, list[str]]:
        """Of the techniques first, a sub-technique as its technique where it has none of its own; then of the tactics."""
        ids = sorted(set(attack), key=lambda one: (one.startswith("TA"), one))
        found = [s for i in ids if (s := self.playbook.get(i) or self.playbook.get(i.split(".")[0])) is not None]
        de = list(dict.fromkeys(step for steps in found for step in steps.de))[:STEPS_MAX]
        en = list(dict.fromkeys(step for steps in found for step in steps.en))[:STEPS_MAX]
        return {"de": de, "en": en}

    def look_alikes(self, detector: str, false_positives: Iterable[str]) -> dict[str, list[str]]:
        """Of a profile, or of a rule, whose authors write them in one language."""
        named = self.benign.get(detector.split("/", 1)[0])
        both = list(false_positives)
        return {lang: list(named.get(lang, ())) if named else both for lang in ("de", "en")}

    def linked(self, values: Mapping[str, str]) -> list[dict[str, str]]:
        def fill(place: re.Match[str]) -> str:
            return quote(values.get(place[1], ""), safe="")

        return [{"title": link.title, "href": _PLACE.sub(fill, link.href)} for link in self.links]


def load_playbook(paths: Iterable[Path]) -> dict[str, Steps]:
    """Later files replace the entries they name. Raises PlaybookError."""
    found: dict[str, Steps] = {}
    for path in paths:
        try:
            read: Any = yaml.safe_load(path.read_text("utf-8"))
            found |= msgspec.convert(read or {}, dict[str, Steps])
        except (OSError, yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise PlaybookError(f"{path}: {' '.join(str(error).split())}") from error
    return found
