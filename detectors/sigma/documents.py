"""Reads YAML rule files into maps that know their lines, and holds the faults that are found in them.

Duplicate keys are refused, integers keep their digits, and a file can be neither too large nor unfold without end.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
import yaml

FILE_BYTES_MAX = 4_194_304  # of one rule file
SUFFIXES = frozenset({".yml", ".yaml"})
ALIASES_MAX = 64  # YAML aliases per file, against documents that unfold without end

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ANCHOR = re.compile(rb"[\s\[{,]&\w")  # the file may use aliases


class Fault(msgspec.Struct, frozen=True, order=True):
    path: str
    line: int
    message: str
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" + (f" (rule {self.rule})" if self.rule else "")


class RuleFaults(ValueError):  # noqa: N818 -- it is the list of faults
    """All faults of all rule files of one load."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Mapped(dict[Any, Any]):
    """A YAML map that knows the line of each key."""

    line: int = 1
    lines: dict[Any, int]

    def at(self, key: Any) -> int:
        return self.lines.get(key, self.line)


class _Loader(yaml.CSafeLoader):
    """Refuses duplicate keys, keeps lines, and reads integers beyond 2^53 as text so that they keep their digits."""

    faults: list[tuple[int, str]]


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Mapped:
    loader.flatten_mapping(node)
    found = Mapped()
    found.line = node.start_mark.line + 1
    found.lines = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str | int | float | bool | None):
            loader.faults.append((line, "a key must be plain text"))
            continue
        if key in found:
            loader.faults.append((line, f"the key {key!r} stands twice in one map (first in line {found.lines[key]})"))
        found[key] = loader.construct_object(value_node, deep=True)
        found.lines[key] = line
    return found


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    number = loader.construct_yaml_int(node)
    return str(node.value) if abs(number) > 2**53 and str(number) == node.value else int(number)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def nearest(name: Any, valid: Sequence[str] | frozenset[str]) -> str:
    close = difflib.get_close_matches(str(name), sorted(valid), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


class Document(msgspec.Struct):
    path: str
    body: Mapped
    rule: str  # id or title, for messages


def files(paths: Sequence[Path]) -> list[Path]:
    """The YAML files named or below the folders named, each once, in a fixed order; hidden ones aside.

    A volume of Kubernetes holds every file twice, once in a hidden folder.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            within = (p for p in path.rglob("*") if p.suffix in SUFFIXES and not _hidden(p.relative_to(path)))
            found.update(dict.fromkeys(sorted(p for p in within if p.is_file())))
        else:
            found[path] = None
    return list(found)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def identity(body: Mapped) -> str:
    """The id of a rule. Correlations and their parts may do without: then it hangs on the name or title."""
    given = body.get("id")
    return str(uuid5(NAMESPACE_URL, f"sigma:{body.get('name') or body['title']}") if given is None else given).lower()


def identified(body: Mapped) -> bool:
    """Whether the id is a UUID, where one is given."""
    return "id" not in body or _UUID.fullmatch(str(body["id"])) is not None


def documents(path: Path, content: bytes, faults: list[Fault]) -> Iterator[Document]:
    if len(content) > FILE_BYTES_MAX:
        faults.append(Fault(str(path), 1, f"is larger than {FILE_BYTES_MAX} bytes"))
        return
    try:
        if _ANCHOR.search(content) is not None:
            aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, Loader=yaml.CSafeLoader))
            if aliases > ALIASES_MAX:
                faults.append(Fault(str(path), 1, f"has {aliases} YAML aliases, more than {ALIASES_MAX}"))
                return
        loader = _Loader(content)
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        faults.append(Fault(str(path), 1, f"is no YAML: {fault}"))
        return
    loader.faults = []
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]
            body = loader.get_data()
            if body is None:
                continue
            if not isinstance(body, Mapped):
                faults.append(Fault(str(path), 1, "a rule must be a map of keys"))
                continue
            label = str(body.get("id") or body.get("title") or "")
            faults.extend(Fault(str(path), line, message, label) for line, message in loader.faults)
            bad, loader.faults = bool(loader.faults), []
            if not bad:
                yield Document(str(path), body, label)
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        mark = getattr(fault, "problem_mark", None)
        problem = getattr(fault, "problem", None) or str(fault) or "too deep"
        faults.append(Fault(str(path), mark.line + 1 if mark else 1, f"is no YAML: {problem}"))
    finally:
        loader.dispose()


def note(faults: list[Fault], document: Document, key: str, message: str, within: Mapped | None = None) -> None:
    line = (document.body if within is None else within).at(key)
    faults.append(Fault(document.path, line, message, document.rule))
