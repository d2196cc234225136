"""Keycloak: user events (logons, logouts, changes of credentials) and admin events, in the server log and as JSON.

Reads `type=LOGIN_ERROR, realmId=...` with and without quotes, and the JSON of Quarkus' console or of an event listener.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.clock import from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.tolerant_json import decode

NAME = "keycloak"

PAIRS_MAX = 128  # of one event

_SNIFF = re.compile(
    r"(?:^|[\s(])(?:type|operationType)=\"?[A-Z_]{3,48}\"?, (?:realm(?:Id|Name)|clientId)=|\[org\.key(?:cloak)?\.[\w.]{1,120}\] \("
)
_JSON = re.compile(r'"(?:realmId|realm_id|realmName)" ?:|"(?:loggerName|log\.logger|logger)" ?: ?"org\.keycloak\.')
_HEAD = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[,.]\d{1,9}(?:Z|[+-]\d\d:?\d\d)?) +(TRACE|DEBUG|INFO|WARN|ERROR|FATAL) +\[([\w.$-]{1,128})\] \(([^)]{0,128})\) "
)
_EVENT = re.compile(r"\b(?:type|operationType)=\"?[A-Z_]{3,48}\"?, ")
_QUOTED = re.compile(r'(?<![\w.-])([A-Za-z][\w.-]*+)="((?:[^"\\]|\\.)*+)"', re.DOTALL)
_KEY = re.compile(r"[A-Za-z][\w.-]{0,63}")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_PROXIED = re.compile(r"\s*([0-9A-Fa-f.:]{2,45})")

_AUTHENTICATION: tuple[str, ...] = ("authentication",)
_IAM: tuple[str, ...] = ("iam",)
_START: tuple[str, ...] = ("start",)
_INFO: tuple[str, ...] = ("info",)
_FAILED: tuple[str, ...] = ("start", "denied")
_CHANGE: tuple[str, ...] = ("user", "change")
_NAMED = (
    ("userId", "user.id"),
    ("error", "event.reason"),
    ("clientId", "keycloak.client.id"),
    ("realmName", "organization.name"),
    ("realmId", "keycloak.realm.id"),
    ("sessionId", "keycloak.session.id"),
)
_ABSENT = frozenset({"", "null", "None"})
# event type without its _ERROR -> category, type of the event where it succeeded
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "LOGIN": (_AUTHENTICATION, _START),
    "CLIENT_LOGIN": (_AUTHENTICATION, _START),
    "IDENTITY_PROVIDER_LOGIN": (_AUTHENTICATION, _START),
    "IDENTITY_PROVIDER_FIRST_LOGIN": (_AUTHENTICATION, _START),
    "IDENTITY_PROVIDER_POST_LOGIN": (_AUTHENTICATION, _INFO),
    "OAUTH2_DEVICE_AUTH": (_AUTHENTICATION, _INFO),
    "LOGOUT": (_AUTHENTICATION, ("end",)),
    "IMPERSONATE": (_AUTHENTICATION, _START),
    "REGISTER": (_IAM, ("user", "creation")),
    "DELETE_ACCOUNT": (_IAM, ("user", "deletion")),
    "USER_DISABLED_BY_TEMPORARY_LOCKOUT": (_IAM, _CHANGE),
    "USER_DISABLED_BY_PERMANENT_LOCKOUT": (_IAM, _CHANGE),
}
_CHANGING = ("UPDATE_", "REMOVE_", "RESET_", "VERIFY_", "FEDERATED_IDENTITY_", "GRANT_", "REVOKE_", "INVITE_")
_OPERATIONS = {"CREATE": "creation", "UPDATE": "change", "DELETE": "deletion", "ACTION": "change"}
_RESOURCES = {"USER": "user", "GROUP": "group", "GROUP_MEMBERSHIP": "group", "REALM_ROLE_MAPPING": "user"}


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return "eycloak" in text or (
            _JSON.search(text) is not None and ('"ipAddress"' in text or '"ip_address"' in text)
        )
    return (("=" in text and ("type=" in text or "Type=" in text)) or "[org.key" in text) and (
        _SNIFF.search(text, 0, 1024) is not None
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] == "{":
        return (_json(text, origin),)
    host = program = pid = at = None
    head = _HEAD.match(text)
    message = text
    if head is None:
        envelope = peel(text, origin)
        if envelope.recognised:
            at, host, program, pid, message = (
                envelope.timestamp, envelope.host, envelope.app, envelope.pid, envelope.message,
            )  # fmt: skip
        head = _HEAD.search(message, 0, 512)
    about: dict[str, Any] = {}
    if head is not None:
        stamp, level, logger, thread = head.groups()
        stated = _moment(stamp, origin)
        at = stated if stated is not None else at
        message = message[head.end() :]
        about = {"log.level": level.lower(), "log.logger": logger, "process.thread.name": thread}
    at_name = message.find("ype=", 0, 1024)  # of type= and operationType=
    begin = _EVENT.search(message, max(at_name - len("operationT"), 0), 1024) if at_name >= 0 else None
    if at is None:
        at = origin.received
    if begin is None:
        if head is None or not head[3].startswith(("org.key", "io.quarkus")):
            raise ParseError("no event of Keycloak: neither type=... nor operationType=... with a realm")
        return (_server(message, at, host, program, pid, about),)
    log = _pairs(message[begin.start() :])
    return (_event(log, message, at, host, program, pid, about),)


def _pairs(body: str) -> dict[str, Any]:
    log: dict[str, Any] = {}
    if '="' in body[:64]:
        for key, value in _QUOTED.findall(body)[:PAIRS_MAX]:
            log.setdefault(key, _ESCAPE.sub(r"\1", value) if "\\" in value else value)
        return log
    last = None
    for piece in body.split(", ", PAIRS_MAX):
        key, equals, value = piece.partition("=")
        if equals and _KEY.fullmatch(key) is not None:
            last = (
                None if key in log else key
            )  # a user name made to look like `x, ipAddress=` must not move the address
            log.setdefault(key, value)
        elif last is not None:
            log[last] = f"{log[last]}, {piece}"
    return log


def _event(
    log: Mapping[str, Any],
    message: str | None,
    at: float,
    host: str | None,
    program: str | None,
    pid: int | None,
    about: dict[str, Any],
) -> Event:
    operation = _text(log, "operationType")
    kind = _text(log, "type")
    error = _text(log, "error")
    user = _text(log, "username") or _text(log, "user_name")
    if operation is not None and kind is None:
        action = operation
        resource = _text(log, "resourceType") or ""
        dataset, category = "keycloak.admin", _IAM
        types: tuple[str, ...] = (_RESOURCES.get(resource, "admin"), _OPERATIONS.get(operation, "info"))
        outcome = "failure" if error is not None else "success"
    else:
        action = kind or "UNKNOWN"
        base = action.removesuffix("_ERROR")
        outcome = "failure" if base != action or error is not None else "success"
        dataset = "keycloak.event"
        category, types = _KINDS.get(base) or (
            (_IAM, _CHANGE) if base.startswith(_CHANGING) else (_AUTHENTICATION, _INFO)
        )
        if outcome == "failure" and types is _START:
            types = _FAILED
        if base == "CLIENT_LOGIN" and user is None:
            user = _text(log, "clientId")
    address = _text(log, "ipAddress")
    found = _PROXIED.match(address) if address is not None else None  # behind proxies: a list, the client first
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset=dataset,
        event_category=category,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        message=message,
        host_name=host,
        user_name=user,
        source_ip=found[1] if found is not None else None,
        process_name=program,
        process_pid=pid,
        service_name="web",
        fields=Lazy(_fields, log, about),
    )


def _fields(log: Mapping[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {key: value for key, value in log.items() if value is not None and value not in _ABSENT}
    fields |= about
    for key, path in _NAMED:
        if (value := _text(log, key)) is not None:
            fields[path] = value
    return fields


def _server(
    message: str, at: float, host: str | None, program: str | None, pid: int | None, about: dict[str, Any]
) -> Event:
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="keycloak.server",
        event_type=_INFO,
        event_outcome="failure" if about.get("log.level") in {"error", "fatal"} else None,
        message=message,
        host_name=host,
        process_name=program,
        process_pid=pid,
        service_name="web",
        fields=about,
    )


def _json(text: str, origin: Origin) -> Event:
    doc, _ = decode(text)
    if not isinstance(doc, dict):
        raise ParseError("no JSON object")
    log = doc.get("log")
    logger = (
        doc.get("loggerName")
        or doc.get("log.logger")
        or doc.get("logger")
        or (log.get("logger") if isinstance(log, dict) else None)
    )
    at = next(
        (stated for key in ("timestamp", "@timestamp", "time") if (stated := _when(doc.get(key), origin)) is not None),
        origin.received,
    )
    host = doc.get("hostName") or doc.get("host.name")
    about: dict[str, Any] = {}
    said = doc.get("message")
    if isinstance(said, str) and isinstance(logger, str):  # the console log of Quarkus: the event is in the message
        level = doc.get("level") or doc.get("log.level")
        about["log.logger"] = logger
        if isinstance(level, str):
            about["log.level"] = level.lower()
        program = doc.get("processName")
        pid = doc.get("processId")
        where = (
            host if isinstance(host, str) else None,
            program if isinstance(program, str) else None,
            pid if type(pid) is int and 0 <= pid < 2**32 else None,
        )
        begin = _EVENT.search(said, 0, 1024)
        if begin is None:
            return _server(said, at, *where, about)
        return _event(_pairs(said[begin.start() :]), said, at, *where, about)
    flat: dict[str, Any] = {}
    for part in (doc, doc.get("details"), doc.get("authDetails")):
        if isinstance(part, dict):
            for key, value in part.items():
                if isinstance(value, str | int | float | bool):
                    flat.setdefault(key, value)
    if _text(flat, "type") is None and _text(flat, "operationType") is None:
        raise ParseError("JSON, but no event of Keycloak: it has neither type nor operationType")
    return _event(flat, None, at, host if isinstance(host, str) else None, None, None, about)


def _text(log: Mapping[str, Any], key: str) -> str | None:
    value = log.get(key)
    return value if isinstance(value, str) and value not in _ABSENT else None


def _when(stated: Any, origin: Origin) -> float | None:
    if isinstance(stated, str):
        return _moment(stated, origin)
    try:
        return from_epoch(stated) if isinstance(stated, int | float) else None
    except (ValueError, OverflowError):
        return None


def _moment(stamp: str, origin: Origin) -> float | None:
    """Seconds since the epoch of `2026-11-24 07:00:00,357`; None if no calendar has it."""
    whole, comma, fraction = stamp.partition(",")
    clock = origin.clock
    try:
        if not comma or not fraction.isdecimal():
            return from_iso(stamp.replace(",", ".", 1), clock)
        at = clock.stamps.get(whole)
        if at is None:
            at = from_iso(whole, clock)
            clock.remember(whole, at)
        return at + float(f"0.{fraction}")
    except (ValueError, OverflowError):
        return None
