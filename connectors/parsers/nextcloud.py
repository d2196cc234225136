"""Nextcloud and ownCloud: nextcloud.log and audit.log as JSON: logons, brute force, files, shares, users, errors."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors import accesslog
from connectors.clock import EPOCH_S_MAX, from_iso
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.tolerant_json import decode

NAME = "nextcloud"

NESTED_MAX = 64  # keys of one nested object that are kept

_SNIFF = re.compile(r'"reqId": ?"')
_AUTH = ("authentication",)
_FILE = ("file",)
_IAM = ("iam",)
_WEB = ("web",)
_LEVELS = ("debug", "info", "warning", "error", "fatal")
_ABSENT = frozenset({"", "-", "--", "null"})

_NAME = r"[\"']?(?P<user>[^\"'()]{1,256}?)[\"']?"
_REMOTE = r"(?: ?\((?:Remote IP|from): [\"']?(?P<remote>[^\"')]{2,64})[\"']?\))?"
# What the message says: pattern, action, category, type, outcome. `user` is who it is about, `path` a file.
_SAID: tuple[tuple[re.Pattern[str], str, tuple[str, ...], tuple[str, ...], str | None], ...] = tuple(
    (re.compile(pattern), action, category, kinds, outcome)
    for pattern, action, category, kinds, outcome in (
        (rf"Login failed: {_NAME}{_REMOTE}$", "login-failed", _AUTH, ("start", "denied"), "failure"),
        (rf"Login (?:successful|succeeded): {_NAME}{_REMOTE}$", "login", _AUTH, ("start",), "success"),
        (rf"User {_NAME} (?:logged|successfully logged) in\b", "login", _AUTH, ("start",), "success"),
        (rf"Login attempt: {_NAME}$", "login-attempt", _AUTH, ("info",), None),
        (r"Logout occurred", "logout", _AUTH, ("end",), "success"),
        (r"(?:Bruteforce attempt from|IP address throttled) [\"'](?P<remote>[^\"']{2,64})[\"']", "bruteforce", _AUTH, ("start", "denied"), "failure"),
        (r"Two-factor (?:authentication )?.{0,64}fail", "two-factor-failed", _AUTH, ("start", "denied"), "failure"),
        (r"Trusted domain error\. [\"'](?P<remote>[^\"']{2,64})[\"'] tried to access", "untrusted-domain", _WEB, ("access", "denied"), "failure"),
        (r"File accessed: [\"'](?P<path>.{1,4096}?)[\"']$", "file-accessed", _FILE, ("access",), "success"),
        (r"File with id [\"']?\d{1,20}[\"']? accessed: [\"'](?P<path>.{1,4096}?)[\"']", "file-accessed", _FILE, ("access",), "success"),
        (r"Preview accessed: [\"'](?P<path>.{1,4096}?)[\"'] \(", "preview-accessed", _FILE, ("access",), "success"),
        (r"File (?:with id [\"']?\d{1,20}[\"']? )?created: [\"'](?P<path>.{1,4096}?)[\"']$", "file-created", _FILE, ("creation",), "success"),
        (r"File (?:with id [\"']?\d{1,20}[\"']? )?(?:written to|updated): [\"'](?P<path>.{1,4096}?)[\"']$", "file-written", _FILE, ("change",), "success"),
        (r"File (?:with id [\"']?\d{1,20}[\"']? )?deleted: [\"'](?P<path>.{1,4096}?)[\"']$", "file-deleted", _FILE, ("deletion",), "success"),
        (r"File (?:with id [\"']?\d{1,20}[\"']? )?renamed(?: from|: )", "file-renamed", _FILE, ("change",), "success"),
        (r"The (?:file|folder|share) [\"'](?P<path>.{1,4096}?)[\"'] (?:with ID [\"']?\d{1,20}[\"']? )?has been (?:permanently )?(?:shared|unshared|accessed)", "file-shared", _FILE, ("change",), "success"),
        (r"The shared (?:file|folder) with the token [\"'](?P<path>[^\"']{1,256})[\"'].{0,64} has been accessed", "share-accessed", _FILE, ("access",), "success"),
        (rf"User created: {_NAME}$", "user-created", _IAM, ("user", "creation"), "success"),
        (rf"User deleted: {_NAME}$", "user-deleted", _IAM, ("user", "deletion"), "success"),
        (rf"User (?:enabled|disabled): {_NAME}$", "user-changed", _IAM, ("user", "change"), "success"),
        (rf"Password of user {_NAME} has been changed", "password-changed", _IAM, ("user", "change"), "success"),
        (rf"User {_NAME} (?:added to|removed from) group", "group-changed", _IAM, ("group", "change"), "success"),
        (r"Group (?:created|deleted): ", "group-changed", _IAM, ("group", "change"), "success"),
        (r"App(?:lication)? [\"']?[^\"']{1,128}[\"']? (?:enabled|disabled)", "app-changed", ("configuration",), ("change",), "success"),
    )
)  # fmt: skip
_FIRST = frozenset(
    {"Login", "User", "Logout", "Bruteforce", "IP", "Two-factor", "Trusted", "File", "Preview", "The", "Password", "Group", "App", "Application"}
)  # fmt: skip


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
    if said is not None and said.partition(" ")[0] in _FIRST:
        for pattern, said_action, said_category, said_kinds, said_outcome in _SAID:
            if (found := pattern.match(said)) is not None:
                action, category, kinds, outcome = said_action, said_category, said_kinds, said_outcome
                named = found.groupdict()
                user = named.get("user") or user
                remote = named.get("remote") or remote  # what the proxy in front of Nextcloud saw
                path = named.get("path")
                break
    return Event(
        timestamp=_time(get("time"), origin),
        event_module=NAME,
        event_dataset="nextcloud.audit" if app == "admin_audit" else "nextcloud.log",
        event_category=category,
        event_type=kinds,
        event_action=action,
        event_outcome=outcome,
        message=said,
        host_name=host,
        user_name=user,
        source_ip=remote if remote is not None and accesslog.is_address(remote) else None,
        file_path=path,
        url_path=target.partition("?")[0] if target is not None else None,
        service_name="web",
        fields=_fields(log, target, level),
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
