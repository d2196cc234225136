"""Finds which of many texts stand in a value, in one pass over it.

Aho-Corasick from `ahocorasick_rs`; for long values Hyperscan where it is installed. With neither the texts are searched
one by one, which finds the same.
"""

import importlib
import operator
import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec


def _installed(name: str) -> Any:
    """A module, None where it is not installed: then it is slower, not different."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_ahocorasick = _installed("ahocorasick_rs")
_hyperscan = _installed("hyperscan")

FEW_MAX = 4  # so few texts are searched one by one in a short value: it does not matter how often they stand in it
PACKED_MAX = 64  # so few are quickly seen to be absent
DENSE_BYTES_MAX = 16_384  # of all texts, up to which a table of every step is worth its memory: three times as fast
MEMO_MAX = 4096  # answers remembered
MEMO_CHARS_MAX = 160  # of a remembered value; longer ones seldom come again
PIECE_BYTES = 4096  # of a long value are searched at a time, so that the list of finds stays small
CLEAN_MAX = 16_384  # values remembered in which no keyword stands
LONG_CHARS_MIN = 1024  # from here on Hyperscan is worth its call
LONG_SEEN_MIN = 1000  # long values after which its tables, slow to build, are worth it

SEPARATOR = "\x00"  # between the values of an event in a keyword search, so that no keyword spans two of them

SMALL_OF = {  # letters from beyond ASCII that small letters and `fold` bring into it
    "\u0130": "i\u0307",
    "\u017f": "s",
    "\u212a": "k",
}

_SMALL_BYTES = [(letter.encode()[0], letter.encode(), small.encode()) for letter, small in SMALL_OF.items()]

_ESCAPES = (b"\\u00", b"\\u01", b"\\u21")  # of characters that are ASCII in small letters

_which = operator.itemgetter(0)  # of a find
_IN_NO_NUMBER = re.compile(r"[^-+.0-9aefilnrstu]")  # nor in a truth value or an infinity
_NO_LETTER = re.compile(rb"[^A-Za-z0-9]")


class Scanner:
    """Many texts at once. `found` answers numbers of texts in the value, each once."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)
        self._find: Any = None
        self._first: Any = None
        self._long_seen = 0
        self._database: Any = None
        if _ahocorasick is None:
            return
        # single letters from beyond ASCII are looked up: one may stand in a value ten thousand times
        self._letters = {text: at for at, text in enumerate(self._texts) if len(text) == 1 and not text.isascii()}
        self._numbers = [at for at, text in enumerate(self._texts) if text not in self._letters]
        encoded = [self._texts[at].encode() for at in self._numbers]
        self._longest = max(map(len, encoded), default=0)
        dense = sum(map(len, encoded)) <= DENSE_BYTES_MAX
        implementation = _ahocorasick.Implementation.DFA if dense else _ahocorasick.Implementation.ContiguousNFA
        self._find = _ahocorasick.BytesAhoCorasick(encoded, implementation=implementation).find_matches_as_indexes
        if len(encoded) <= PACKED_MAX:
            kind = _ahocorasick.MatchKind.LeftmostFirst
            self._first = _ahocorasick.BytesAhoCorasick(encoded, matchkind=kind).find_matches_as_indexes

    def found(self, value: str) -> Collection[int]:
        if self._find is None or (len(value) < LONG_CHARS_MIN and len(self._texts) <= FEW_MAX):
            return [number for number, text in enumerate(self._texts) if text in value]
        low = value.encode("utf-8", "replace")  # bytes: with text the library counts characters, six times the work
        found = self._places(low)
        if not self._letters:
            return found
        found = {self._numbers[at] for at in found}
        if len(low) != len(value):  # not ASCII
            found.update(at for letter, at in self._letters.items() if letter in value)
        return found

    def _places(self, low: bytes) -> Collection[int]:
        if len(low) < LONG_CHARS_MIN:
            if self._first is not None and not self._first(low):
                return ()
            finds = self._find(low, overlapping=True)
            return set(map(_which, finds)) if finds else ()
        self._long_seen += 1
        if _hyperscan is not None and self._first is None and self._long_seen > LONG_SEEN_MIN:
            return self._found_in_long(low)
        found: set[int] = set()
        for start in range(0, len(low), PIECE_BYTES):
            piece = low[start : start + PIECE_BYTES + self._longest]
            if self._first is None or self._first(piece):
                found.update(map(_which, self._find(piece, overlapping=True)))
        return found

    def _found_in_long(self, value: bytes) -> Collection[int]:
        if self._database is None:
            self._database = _hyperscan.Database(mode=_hyperscan.HS_MODE_BLOCK)
            self._database.compile(
                expressions=[
                    _NO_LETTER.sub(lambda byte: b"\\x%02x" % byte[0][0], self._texts[at].encode())
                    for at in self._numbers
                ],
                ids=list(range(len(self._numbers))),
                elements=len(self._numbers),
                flags=[_hyperscan.HS_FLAG_SINGLEMATCH] * len(self._numbers),
            )
        found: list[int] = []
        self._database.scan(value, match_event_handler=lambda number, *_: found.append(number))
        return found


def _first_of(texts: Sequence[bytes]) -> Any:
    implementation = None if len(texts) <= PACKED_MAX else _ahocorasick.Implementation.DFA
    kind = _ahocorasick.MatchKind.LeftmostFirst
    return _ahocorasick.BytesAhoCorasick(texts, matchkind=kind, implementation=implementation).find_matches_as_indexes


def _small(written: bytes) -> bytes:
    for first, letter, small in _SMALL_BYTES:
        if first in written:  # a single byte is found much faster than two, and is seldom there
            written = written.replace(letter, small)
    return written.lower()


class Absent:
    """Whether one of many texts may stand in any of several values; values that hold none of them are remembered.

    Where that cannot be told quickly, the answer is that it may: texts that are not ASCII or look like numbers, and lone
    surrogates.
    """

    def __init__(self, texts: Sequence[str], added: str = "") -> None:
        """`added` holds words that a line need not have and its event still has."""
        self._clean: set[Any] = set()
        self._find: Any = None
        self._find_escaped: Any = None
        if _ahocorasick is not None and all(text.isascii() and _IN_NO_NUMBER.search(text) for text in texts):
            self._find = _first_of([text.encode() for text in texts])
            if not any(text in added or "/" in text for text in texts):  # a slash may be written in two ways
                self._find_escaped = _first_of([*(msgspec.json.encode(text)[1:-1] for text in texts), *_ESCAPES])

    def may_be_in_line(self, line: bytes) -> bool:
        """Whether one may stand in a value of an object in JSON."""
        return self._find_escaped is None or bool(self._find_escaped(_small(line)))

    def may_be_in(self, values: set[Any]) -> bool:
        if self._find is None:
            return True
        texts = [value for value in values - self._clean if value.__class__ is str]
        if not texts:
            return False
        try:
            written = SEPARATOR.join(texts).encode()
        except UnicodeEncodeError:
            return True
        if self._find(_small(written)):
            return True
        if len(self._clean) >= CLEAN_MAX:
            self._clean.clear()
        self._clean.update([text for text in texts if len(text) <= MEMO_CHARS_MAX])
        return False


class AnyOf:
    """Whether one of many texts stands in a value; the answer for short values is remembered."""

    __slots__ = ("_memo", "_scanner")

    def __init__(self, texts: Sequence[str]) -> None:
        self._scanner = Scanner(texts)
        self._memo: dict[str, bool] = {}

    def found(self, value: str) -> bool:
        known = self._memo.get(value)
        if known is None:
            known = bool(self._scanner.found(value))
            if len(value) <= MEMO_CHARS_MAX:
                if len(self._memo) >= MEMO_MAX:
                    self._memo.clear()
                self._memo[value] = known
        return known
