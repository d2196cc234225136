"""Reads JSON as far as it goes: for lines that a strict decoder refuses because they are cut off, too deep or damaged.

One bad value must not hide the event around it. Linear in the length of the text and not recursive.
"""

import re
from functools import lru_cache
from typing import Any

import msgspec

DEPTH_MAX = 24  # containers nested deeper are left out
CUT_CHARS_MIN = 64  # of a text whose end is missing: a shorter one would pass for another name
WORDS_MAX = 1024  # numbers and words whose meaning is kept
DIGITS_MAX = 18  # longer integers stay text: no consumer holds them exactly

# Colons are passed over. Only the last token can be a string without its end.
_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\(?!.))?|[,{}\[\]]|[^\s,:{}\[\]"]++', re.DOTALL).findall
_INSIDE = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)  # a string's quotes
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_decode = msgspec.json.Decoder().decode
_LEFT_OUT: dict[str, Any] = {
    "{": {},
    "[": [],
}  # stand for containers that are nested too deep; nothing is put into them
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def decode(text: str) -> tuple[Any, bool]:
    """The value and whether it is damaged. A strict decoder is tried first; text that is no JSON at all gives None."""
    try:
        return _decode(text), False
    except (ValueError, RecursionError):  # DecodeError and UnicodeEncodeError are both ValueErrors
        return salvage(text)


def salvage(text: str) -> tuple[Any, bool]:
    """The whole parts of a damaged JSON text, and whether its end is missing."""
    tokens: list[str] = _TOKENS(text)
    cut = _cut(text, tokens)
    root: list[Any] = []
    stack: list[Any] = [root]
    top: Any = root
    keyed = False
    key: str | None = None
    for token in tokens:
        lead = token[0]
        value: Any
        if lead == '"':
            value = token[1:-1]
            if "\\" in value or not value.isascii():
                value = _text(value)
            if keyed and key is None:
                key = value
                continue
        elif lead == ",":
            key = None
            continue
        elif lead in "{[":
            if len(stack) > DEPTH_MAX:
                value = _LEFT_OUT[lead]
            else:
                value = {} if lead == "{" else []
                if not keyed:
                    top.append(value)
                elif key is not None:  # a container where a name should stand is passed over
                    top[key] = value
            stack.append(value)
            top, keyed, key = value, lead == "{", None
            continue
        elif lead in "}]":
            if len(stack) > 1:
                stack.pop()
                top = stack[-1]
                keyed = type(top) is dict
            key = None
            if len(stack) == 1 and root:
                cut = False
                break
            continue
        elif keyed and key is None:
            continue  # a bare word where a name should stand
        else:
            value = _word(token)
        if len(stack) <= DEPTH_MAX:
            if keyed:
                top[key] = value
            else:
                top.append(value)
        key = None
    return (root[0] if root else None), cut or len(stack) > 1


def _cut(text: str, tokens: list[str]) -> bool:
    """Whether the text ends within a string. Of a last token that may have gone on only a long string is kept."""
    if not tokens or (last := tokens[-1])[0] in ",{}[]":
        return False
    if last[0] != '"':
        if text.endswith(last):  # a number that may have had more digits
            tokens.pop()
        return False
    inside = _INSIDE.match(last, 1)
    if inside is None or (inside.end() + 1 == len(last) and last[-1] == '"'):
        return False
    if len(inside[0]) < CUT_CHARS_MIN:
        tokens.pop()
    else:
        tokens[-1] = f'"{inside[0]}"'
    return True


def _text(raw: str) -> str:
    text = _ESCAPE.sub(_unescape, raw) if "\\" in raw else raw
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # joins pairs, replaces lone halves


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _SIMPLE.get(code, code)


@lru_cache(maxsize=WORDS_MAX)
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
