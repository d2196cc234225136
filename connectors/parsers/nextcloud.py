"""Nextcloud and ownCloud: nextcloud.log and audit.log as JSON: logons, brute force, files, shares, users, errors."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors.clock import EPOCH_S_MAX, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.tolerant_json import decode
from connectors.values import is_address

NAME = "nextcloud"

ADDRESS_CHARS_MAX = 45
NESTED_MAX = 64  # keys of one nested object that are kept

_SNIFF = re.compile(r'"reqId": ?"')
_AUTH = ("authentication",)
_FILE = ("file",)
_IAM = ("iam",)
_WEB = ("web",)
_LEVELS = ("debug", "info", "warning", "error", "fatal")
_ABSENT = frozenset({"", "-", "--", "null"})

_NAME = r"[\"']?(?P<user>[^\"'()]{1,256}?)[\"']?"
_FROM = r"[\"'](?P<remote>[^\"']{2,64})[\"']"
_REMOTE = r"(?: ?\((?:Remote IP|from): [\"']?(?P<remote>[^\"')]{2,64})[\"']?\))?"
_OK, _BAD = "success", "failure"
_QUOTE = r"[\"'](?P<path>.{1,4096}?)[\"']"
_FILE_ID = r"File (?:with id [\"']?\d{1,20}[\"']? )?"
_ITEM_ID = r"(?:with ID [\"']?\d{1,20}[\"']? )?"
_Meaning = tuple[re.Pattern[str], str, tuple[str, ...], tuple[str, ...], str | None]
# By the first word of a message, what it says: pattern, action, category, type, outcome. `user` is who it is about.
_SAID: dict[str, tuple[_Meaning, ...]] = {
    first: tuple((re.compile(pattern, re.DOTALL), *meaning) for pattern, *meaning in said)
    for first, said in {
        "Login": (
            (rf"Login failed: {_NAME}{_REMOTE}$", "login-failed", _AUTH, ("start", "denied"), _BAD),
            (rf"Login (?:successful|succeeded): {_NAME}{_REMOTE}$", "login", _AUTH, ("start",), _OK),
            (rf"Login attempt: {_NAME}$", "login-attempt", _AUTH, ("info",), None),
        ),
        "Logout": ((r"Logout occurred", "logout", _AUTH, ("end",), _OK),),
        "User": (
            (rf"User {_NAME} (?:successfully )?logged in\b", "login", _AUTH, ("start",), _OK),
            (rf"User created: {_NAME}$", "user-created", _IAM, ("user", "creation"), _OK),
            (rf"User deleted: {_NAME}$", "user-deleted", _IAM, ("user", "deletion"), _OK),
            (rf"User (?:enabled|disabled): {_NAME}$", "user-changed", _IAM, ("user", "change"), _OK),
            (rf"User {_NAME} (?:added to|removed from) group", "group-changed", _IAM, ("group", "change"), _OK),
        ),
        "Password": ((rf"Password of user {_NAME} has been changed", "password-changed", _IAM, ("user", "change"), _OK),),
        "Group": ((r"Group (?:created|deleted): ", "group-changed", _IAM, ("group", "change"), _OK),),
        "Bruteforce": ((rf"Bruteforce attempt from {_FROM}", "bruteforce", _AUTH, ("start", "denied"), _BAD),),
        "IP": ((rf"IP address (?:{_FROM} )?(?:throttled|blocked)", "bruteforce", _AUTH, ("start", "denied"), _BAD),),
        "Two-factor": ((r"Two-factor .{0,64}fail", "two-factor-failed", _AUTH, ("start", "denied"), _BAD),),
        "Trusted": ((rf"Trusted domain error\. {_FROM} tried", "untrusted-domain", _WEB, ("access", "denied"), _BAD),),
        "File": (
            (rf"{_FILE_ID}accessed: {_QUOTE}$", "file-accessed", _FILE, ("access",), _OK),
            (rf"{_FILE_ID}created: {_QUOTE}$", "file-created", _FILE, ("creation",), _OK),
            (rf"{_FILE_ID}(?:written to|updated): {_QUOTE}$", "file-written", _FILE, ("change",), _OK),
            (rf"{_FILE_ID}deleted: {_QUOTE}$", "file-deleted", _FILE, ("deletion",), _OK),
            (rf"{_FILE_ID}renamed(?: from|: )", "file-renamed", _FILE, ("change",), _OK),
        ),
        "Preview": ((rf"Preview accessed: {_QUOTE} \(", "preview-accessed", _FILE, ("access",), _OK),),
        "The": (
            (rf"The (?:file|folder|share) {_QUOTE} {_ITEM_ID}has been (?:un)?shared", "file-shared", _FILE, ("change",), _OK),
            (rf"The shared (?:file|folder) with the token {_QUOTE}.{{0,64}}accessed", "share-accessed", _FILE, ("access",), _OK),
        ),
    }.items()
}  # fmt: skip


def sniff(text: str) -> bool:
    brace = 0 if text[:1] == "{" else text.find('{"', 0, 200)
    if brace < 0 or _SNIFF.search(text, brace, brace + 400) is None:
        return False
    return '"remoteAddr":' in text and '"app":' in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    host = None
    body = text
    if text[:1] != "{" and (brace := text.find('{"', 0, 512)) >= 0:
        host = peel(text, origin).host
        body = text[brace:]
    if body[:1] != "{":
        raise ParseError("no Nextcloud log: no JSON object")
    log, _ = decode(body)
    if type(log) is not dict or not ("reqId" in log or "remoteAddr" in log) or not ("message" in log or "app" in log):
        raise ParseError("no Nextcloud log: it has no reqId and no message")
    return (_event(log, host, origin),)


def _event(log: dict[str, Any], host: str | None, origin: Origin) -> Event:
    get = log.get
    app = _text(get("app"))
    message = get("message")
    if type(message) is dict:  # an exception with its message below
        message = message.get("Message") or message.get("Exception")
    said = _text(message)
    remote = _text(get("remoteAddr"))
    user = _text(get("user"))
    level = get("level")
    target = _text(get("url"))
    category: tuple[str, ...] = _WEB
    kinds: tuple[str, ...] = ("error",) if type(level) is int and level >= 3 else ("info",)
    action: str | None = None
    outcome: str | None = None
    path: str | None = None
    if said is not None:
        for pattern, said_action, said_category, said_kinds, said_outcome in _SAID.get(said.partition(" ")[0], ()):
            if (found := pattern.match(said)) is not None:
                action, category, kinds, outcome = said_action, said_category, said_kinds, said_outcome
                named = found.groupdict()
                user = named.get("user") or user
                remote = named.get("remote") or remote  # what the proxy in front of Nextcloud saw
                path = named.get("path")
                break
    return Event(
        _time(get("time"), origin),
        NAME,
        "nextcloud.audit" if app == "admin_audit" else "nextcloud.log",
        category,
        kinds,
        action,
        outcome,
        None,
        said,
        host,
        user,
        None,
        remote if remote is not None and len(remote) <= ADDRESS_CHARS_MAX and is_address(remote) else None,
        file_path=path,
        url_path=target.partition("?")[0] if target is not None else None,
        service_name="web",
        fields=Lazy(_fields, log, target, level),
    )


def _fields(log: Mapping[str, Any], target: str | None, level: Any) -> dict[str, Any]:
    """Nextcloud's own keys and, beside them, their ECS names."""
    fields: dict[str, Any] = {
        key: value
        for key, value in log.items()
        if key not in {"time", "message"} and _scalar(value) and value not in _ABSENT
    }
    for name in ("data", "exception"):
        below = log.get(name)
        if type(below) is dict:
            parts = list(below.items())[:NESTED_MAX]
            fields |= {f"nextcloud.{name}.{key}": part for key, part in parts if _scalar(part) and part != ""}
    if type(level) is int and 0 <= level < len(_LEVELS):
        fields["log.level"] = _LEVELS[level]
    if target is not None:
        fields["url.original"] = target
        if "?" in target:
            fields["url.query"] = target.partition("?")[2]
    for key, path in (
        ("method", "http.request.method"),
        ("userAgent", "user_agent.original"),
        ("reqId", "http.request.id"),
    ):
        if (text := _text(log.get(key))) is not None:
            fields[path] = text
    return fields


def _time(stated: Any, origin: Origin) -> float:
    if type(stated) is not str:
        return origin.received
    known = origin.clock.stamps.get(stated)
    if known is not None:
        return known
    try:
        if stated[:1].isdigit():
            at = from_iso(stated, origin.clock)
        else:  # "October 14, 2019 09:06:02": logdateformat as older releases had it
            moment = datetime.strptime(stated[:40], "%B %d, %Y %H:%M:%S")  # noqa: DTZ007  # local time, resolved below
            at = origin.clock.local(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
            origin.clock.remember(stated, at)
    except (ValueError, OverflowError):
        return origin.received  # a time that no calendar has must not hide the event
    return at if 0 <= at < EPOCH_S_MAX else origin.received


def _text(value: Any) -> str | None:
    return value if type(value) is str and value not in _ABSENT else None


def _scalar(value: Any) -> bool:
    return type(value) in {str, int, bool} or (type(value) is float and value - value == 0)
