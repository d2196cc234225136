"""Keeps understood rule files between starts: parsing Sigma takes seconds, reading what came of it a tenth of that.

The file holds plain data and is checked against its digest; one that cannot be read is passed over. An entry belongs to
the content of a rule file, the values of placeholders and this version of the code.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import msgspec

from detectors.sigma.documents import Fault
from detectors.sigma.rules import Draft

NAME = "sigma-rules.msgpack"
BYTES_MAX = 268_435_456  # of the file; a larger one is not read
_DIGEST_BYTES = 32
_MAKERS = (
    "cache",
    "checks",
    "documents",
    "overlays",
    "reading",
    "rules",
    "translate",
    "tree",
    "values",
)  # what an entry depends on


class Entry(msgspec.Struct, array_like=True):
    """What one file gave."""

    drafts: list[Draft]
    faults: list[Fault]


_decode = msgspec.msgpack.Decoder(Entry).decode
_decode_file = msgspec.msgpack.Decoder(dict[bytes, msgspec.Raw]).decode
_encode = msgspec.msgpack.Encoder().encode


class Cache:
    """What rule files gave, by their content. Without a folder it is always empty."""

    def __init__(self, folder: Path | None, expansions: Mapping[str, Sequence[str]]) -> None:
        self._path = None if folder is None else folder / NAME
        self._known: dict[bytes, msgspec.Raw] = {}
        self._used: dict[bytes, bytes | msgspec.Raw] = {}
        self._changed = False
        if self._path is None:
            return
        here = Path(__file__).parent
        maker = hashlib.sha256(version("pysigma").encode())
        for name in _MAKERS:
            maker.update((here / f"{name}.py").read_bytes())
        maker.update(_encode(sorted((name, list(values)) for name, values in expansions.items())))
        self._maker = maker.digest()
        self._known = _read(self._path)

    def get(self, content: bytes) -> Entry | None:
        """What was made of a file of this content, None when it is new."""
        if self._path is None:
            return None
        key = self._key(content)
        held = self._known.get(key)
        if held is None:
            return None
        try:
            entry = _decode(held)
        except (msgspec.DecodeError, RecursionError):
            return None
        self._used[key] = held
        return entry

    def put(self, content: bytes, entry: Entry) -> None:
        if self._path is not None:
            self._changed = True
            self._used[self._key(content)] = _encode(entry)

    def close(self) -> None:
        """Writes what this load used, if it differs from what is there."""
        if self._path is None or not (self._changed or len(self._used) < len(self._known)):
            return
        body = _encode({key: msgspec.Raw(bytes(entry)) for key, entry in self._used.items()})
        beside = self._path.with_name(f"{NAME}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(hashlib.sha256(body).digest() + body)
            beside.replace(self._path)
        except OSError:  # the next start is slower, and nothing else
            with suppress(OSError):
                beside.unlink()

    def _key(self, content: bytes) -> bytes:
        return hashlib.sha256(self._maker + content).digest()


def _read(path: Path) -> dict[bytes, msgspec.Raw]:
    try:
        if path.stat().st_size > BYTES_MAX:
            return {}
        held = path.read_bytes()
    except OSError:
        return {}
    body = held[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != held[:_DIGEST_BYTES]:
        return {}
    try:
        return _decode_file(body)
    except msgspec.DecodeError:
        return {}
