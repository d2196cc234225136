"""Reads JSON as far as it goes: for lines that a strict decoder refuses because they are cut off, too deep or damaged.

One bad value must not hide the event around it. Linear in the length of the text and not recursive.
"""

import re
from typing import Any

import msgspec

DEPTH_MAX = 24  # containers nested deeper are left out
CUT_CHARS_MIN = 64  # of a text whose end is missing: a shorter one would pass for another name
DIGITS_MAX = 18  # longer integers stay text: no consumer holds them exactly

_TOKEN = re.compile(r'[{}\[\]:,]|"((?:[^"\\]|\\.)*+)("?)|[^\s,:{}\[\]"]++', re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_decode = msgspec.json.Decoder().decode
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def decode(text: str) -> tuple[Any, bool]:
    """The value and whether it is damaged. A strict decoder is tried first; text that is no JSON at all gives None."""
    try:
        return _decode(text), False
    except (ValueError, RecursionError):  # DecodeError and UnicodeEncodeError are both ValueErrors
        return salvage(text)


def salvage(text: str) -> tuple[Any, bool]:
    """The whole parts of a damaged JSON text, and whether its end is missing."""
    root: list[Any] = []
    stack: list[Any] = [root]
    key: str | None = None
    cut = False
    for match in _TOKEN.finditer(text):
        token = match[0]
        lead = token[0]
        top = stack[-1]
        keyed = type(top) is dict
        if lead == ":":
            continue
        if lead == ",":
            key = None
            continue
        if lead in "}]":
            if len(stack) > 1:
                stack.pop()
            key = None
            if len(stack) == 1 and root:
                break
            continue
        value: Any
        if lead == '"':
            cut = not match[2]
            if cut and len(match[1]) < CUT_CHARS_MIN:
                break
            value = _text(match[1])
            if keyed and key is None:
                key = value
                continue
        elif lead in "{[":
            value = {} if lead == "{" else []
        elif keyed and key is None:
            continue  # a bare word where a name should stand
        elif match.end() == len(text):
            break  # a number that may have had more digits
        else:
            value = _word(token)
        if len(stack) <= DEPTH_MAX:
            if not keyed:
                top.append(value)
            elif key is not None:  # a container where a name should stand is passed over
                top[key] = value
        if lead in "{[":
            stack.append(value)
        key = None
    return (root[0] if root else None), cut or len(stack) > 1


def _text(raw: str) -> str:
    text = _ESCAPE.sub(_unescape, raw) if "\\" in raw else raw
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # joins pairs, replaces lone halves


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _SIMPLE.get(code, code)


def _word(token: str) -> Any:
    if token in _WORDS:
        return _WORDS[token]
    if len(token) > DIGITS_MAX + 1:  # with its sign
        return token
    try:
        return int(token)
    except ValueError:
        pass
    try:
        number = float(token)
    except ValueError:
        return token
    return number if number - number == 0 else token  # NaN and the infinities stay words: JSON cannot carry them
