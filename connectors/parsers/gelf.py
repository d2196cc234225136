"""Graylog Extended Log Format: JSON with host, short_message, level and the sender's own `_names`.

The sender's names lose their underscore and are mapped where they are usual ones (source_ip, user, action ...).
"""

from collections.abc import Sequence
from typing import Any

from connectors import prose
from connectors.clock import from_epoch, from_iso
from connectors.events import Event, Origin, ParseError
from connectors.parsers import kv
from connectors.tolerant_json import decode

NAME = "gelf"

FIELDS_MAX = 512  # of one message
INTEGER_MAX = 2**63 - 1  # larger numbers are kept as text

_LEVELS: tuple[str, ...] = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
_OWN = {"full_message": "gelf.full_message", "facility": "log.syslog.facility.name", "version": "gelf.version"}
_OWN |= {"file": "log.origin.file.name", "line": "log.origin.file.line"}
_ENVELOPE = frozenset({"host", "timestamp", "level", "_id", "_"})


def sniff(text: str) -> bool:
    return text[:1] == "{" and '"short_message"' in text and '"host"' in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] != "{":
        raise ParseError("no JSON object")
    doc, _ = decode(text)
    if not isinstance(doc, dict) or not ("short_message" in doc or "full_message" in doc):
        raise ParseError("no GELF message: it has no short_message")
    log: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for key, value in doc.items() if len(doc) <= FIELDS_MAX else list(doc.items())[:FIELDS_MAX]:
        plain = value if type(value) is str else _plain(value)
        if plain is None or key in _ENVELOPE:
            continue
        if key[:1] == "_":
            log[key[1:]] = plain
        elif key in _OWN:
            about[_OWN[key]] = plain
        else:
            log.setdefault(key, plain)  # against the specification, but some senders leave the underscore out
    level = doc.get("level")
    if type(level) is int and 0 <= level < len(_LEVELS):
        about["log.level"], about["log.syslog.severity.code"] = _LEVELS[level], level
    host, said = doc.get("host"), doc.get("short_message") or doc.get("full_message")
    at = _moment(doc.get("timestamp"), origin)
    event = kv.described(
        log, NAME, "gelf.log", origin, at=at, host=host if isinstance(host, str) and host else None,
        message=said if isinstance(said, str) else None, about=about,
        exact=True,
    )  # fmt: skip
    return (prose.as_told(event),)


def _plain(value: Any) -> str | int | float | bool | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -INTEGER_MAX <= value <= INTEGER_MAX else str(value)
    if isinstance(value, str | float | bool):
        return value
    return None if value is None else str(value)[:4096]


def _moment(stated: Any, origin: Origin) -> float | None:
    try:
        if isinstance(stated, str):
            return (
                from_epoch(float(stated))
                if stated[:1].isdecimal() and "-" not in stated
                else from_iso(stated, origin.clock)
            )
        return from_epoch(stated) if isinstance(stated, int | float) else None
    except (ValueError, OverflowError):
        return None
