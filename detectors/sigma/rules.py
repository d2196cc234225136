"""What a loaded rule is, and what of its own words alerts may say."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from detectors.sigma.tree import Node

OWNER_KEYS = ("owner", "reason", "expires")  # what a filter of ours says of itself
PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_.@-]{1,100})\}")


def spoken(template: str, values: Mapping[str, str]) -> str:
    """A title or reason with its placeholders filled, each once: what a log line says is never read as a placeholder."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], "?"), template)


def version(*parts: Any) -> str:
    """A digest of YAML values, whatever the order of their keys."""
    return hashlib.sha256(repr([_ordered(part) for part in parts]).encode("utf-8", "backslashreplace")).hexdigest()


def _ordered(node: Any) -> Any:
    if isinstance(node, dict):
        return sorted(((str(key), _ordered(value)) for key, value in node.items()), key=lambda item: item[0])
    return tuple(map(_ordered, node)) if isinstance(node, list) else node


class Correlation(msgspec.Struct, frozen=True):
    """What a correlation counts. `rules` are rule ids; `groups` and `items` give the field names per rule, in parallel."""

    type: str
    rules: tuple[str, ...]
    window_s: float
    group_by: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    items: tuple[str, ...]
    conditions: tuple[tuple[str, float], ...]
    percentile: int
    expression: Any  # nested ("and"|"or"|"not", ...) over numbers of `rules`, or None


class Rule(msgspec.Struct, frozen=True):
    """A loaded rule or correlation with what alerts say about it. `alerts` is false for mere parts of correlations."""

    id: str
    name: str
    title: str
    title_de: str
    kind: str  # rule | correlation
    level: str
    status: str
    description: str
    author: str
    tags: tuple[str, ...]
    attack: tuple[str, ...]  # technique and tactic ids
    falsepositives: tuple[str, ...]
    path: str
    line: int
    version: str  # sha256 of the content
    reason: Mapping[str, str]  # sentence templates by language
    entity: tuple[str, ...]
    alerts: bool
    product: str | None
    category: str | None
    service: str | None
    fields: frozenset[str]
    condition: Node | None  # None for a correlation
    correlation: Correlation | None
    tests: tuple[Mapping[str, Any], ...]
    staging_until: str = ""  # the last day (ISO 8601, UTC) on which it only writes history
    staged: bool = (
        False  # on the day of loading: its hits are counted and kept as history, and never alert or lend risk
    )


class Filter(msgspec.Struct, frozen=True):
    """What narrows the rules that it names, or all rules of its log source."""

    targets: tuple[str, ...] | None  # ids or names; None for any
    product: str | None
    category: str | None
    service: str | None
    condition: Node
    version: str
    owner: str = ""
    reason: str = ""
    expires: str = ""  # the last day (ISO 8601, UTC) on which it filters


class Overlay(msgspec.Struct, frozen=True):
    """Where a document stands that changes a rule of another file; its content is read again when it is applied."""

    target: str  # id or name of the rule
    line: int


class Draft(msgspec.Struct):
    """A document whose references to others are still names, with the lines that faults found later are about."""

    rule: Rule | None  # None for a filter or an overlay
    label: str
    lines: dict[str, int]
    references: tuple[str, ...] = ()
    generate: bool = False
    filter: Filter | None = None
    overlay: Overlay | None = None
    path: str = ""
