"""Squid: the native access log (with or without referrer, agent and headers), the common and combined ones, cache.log.

Read with and without a syslog envelope.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from connectors import accesslog
from connectors.clock import EPOCH_S_MAX
from connectors.envelope import Envelope, peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import is_address

NAME = "squid"

_RESULT = r"[A-Z]{2,8}(?:_[A-Z]{1,16}){0,6}"
_NATIVE = re.compile(
    rf"(\d{{1,12}}\.\d{{1,6}}) {{1,12}}(-?\d{{1,12}}) (\S{{1,255}}) ({_RESULT})(?:/(\d{{3}}|-))? (\d{{1,18}}|-) (\S{{1,64}}) (\S++) "
    rf"(\S++) (?:(TIMEOUT_)?([A-Z]{{1,32}}(?:_[A-Z]{{1,32}}){{0,6}})|-)/(\S++)(?: (\S++))?(.*)",
    re.DOTALL,
)
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"')
_TAIL = re.compile(rf" ({_RESULT}):([A-Z_]{{1,64}}|-)(?: \S++)?$")
_CACHE = re.compile(
    r"(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d)(?:\.\d{1,6})?(?: (kid\d{1,3}|[\w-]{1,32}))?\| (.*)", re.DOTALL
)
_SNIFF = re.compile(
    rf"\d{{9,12}}\.\d{{3,6}} {{1,12}}-?\d{{1,12}} \S{{1,255}} {_RESULT}(?:/(?:\d{{3}}|-))? (?:\d{{1,18}}|-) "
    r"|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?(?: kid\d{1,3})?\| "
)
_TAGGED = re.compile(
    r"[ >/](?:squid(?:\[\d{1,10}\])?|\(squid-\d{1,3}\)(?:\[\d{1,10}\])?|\(squid\)(?:\[\d{1,10}\])?): | squid \d{1,10} \S{1,32} "
)
_PROGRAM = re.compile(r"\(?(squid(?:-\d{1,3})?)\)?(?:\[(\d{1,10})\])?: ")
_AUTHORITY = re.compile(r"(?:[^@/]{1,512}@)?(\[[0-9A-Fa-f:.]{2,45}\]|[^:/\[\]]{1,255})(?::(\d{1,5}))?")

_NO_STATUS = frozenset({"-", "000"})
_WEB = ("web",)
_BOTH = ("web", "network")
_ACCESS = ("access",)
_DENIED = ("connection", "denied")


def sniff(text: str) -> bool:
    if text[:1].isdigit() and _SNIFF.match(text) is not None:
        return True
    if _TAGGED.search(text, 0, 160) is not None:
        return True
    return _TAIL.search(text[-160:]) is not None and accesslog.sniff(text)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    line = _NATIVE.fullmatch(text)
    if line is not None:
        return (_access(line, None, None),)
    if (cache := _CACHE.fullmatch(text)) is not None:
        return (_cache(cache, None, None, origin),)
    envelope = peel(text, origin)
    message, pid = envelope.message, envelope.pid
    if (program := _PROGRAM.match(message)) is not None:
        message, pid = message[program.end() :], int(program[2]) if program[2] else None
    message = message.lstrip(" ")
    if (line := _NATIVE.fullmatch(message)) is not None:
        return (_access(line, envelope.host, pid),)
    if (cache := _CACHE.fullmatch(message)) is not None:
        return (_cache(cache, envelope.host, pid, origin),)
    if (tail := _TAIL.search(message, max(0, len(message) - 160))) is not None and accesslog.sniff(message):
        return (_common(message, tail, envelope, pid, origin),)
    if program is None and (envelope.app or "") not in {"squid", "(squid)", "squid3"}:
        raise ParseError("no Squid log: neither its native nor its common format, nor its name in front of a message")
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    return (_message(message, at, envelope.host, pid, {}),)


def _access(line: re.Match[str], host: str | None, pid: int | None) -> Event:
    stamp, _, client, result, status, size, method, target, user, _, hierarchy, peer, _, _ = line.groups()
    at = float(stamp)
    if not at < EPOCH_S_MAX:
        raise ParseError("no time of a log line")
    domain, port, path = _parts(method, target)
    if hierarchy is not None and "PARENT" in hierarchy:
        port = None  # that of the origin; the peer is another proxy
    code = None if status is None or status in _NO_STATUS else int(status)
    denied = "DENIED" in result
    person, group = _user(user)
    return Event(
        at,
        NAME,
        "squid.access",
        _BOTH if denied else _WEB,
        _DENIED if denied else _ACCESS,
        result,
        None if code is None else "success" if code < 400 else "failure",
        None,
        None,
        host,
        person,
        group,
        client if is_address(client) else None,
        None,
        None,
        peer if is_address(peer) else domain if domain is not None and is_address(domain) else None,
        port,
        int(size) if size != "-" else None,
        "udp" if result[:4] == "UDP_" else "tcp",
        NAME if pid is not None else None,
        pid,
        None,
        None,
        None,
        None,
        path,
        code,
        "web",
        Lazy(_fields, line, domain),
    )


def _fields(line: re.Match[str], domain: str | None) -> dict[str, Any]:
    _, elapsed, client, result, status, size, method, target, _, late, hierarchy, peer, kind, rest = line.groups()
    fields: dict[str, Any] = {
        "event.duration": int(elapsed) * 1_000_000,
        "http.request.method": method,
        "url.original": target,
        "squid.result_code": result,
    }
    if status is not None and status != "-":
        fields["squid.status_code"] = int(status)
    if hierarchy is not None:
        fields["squid.hierarchy_code"] = fields["squid.peer_status"] = (late or "") + hierarchy
    if peer != "-":
        fields["destination.address"] = peer
    if size != "-":
        fields["http.response.bytes"] = int(size)
    if kind is not None and kind != "-":
        fields["http.response.mime_type"] = kind
    if not is_address(client):
        fields["source.domain"] = client
    if domain is not None:
        fields["url.domain"] = domain
        if not is_address(domain):
            fields["destination.domain"] = domain
    if method != "CONNECT":
        _, question, query = target.partition("?")
        if question:
            fields["url.query"] = query
        scheme, slashes, _ = target.partition("://")
        if slashes:
            fields["url.scheme"] = scheme
    if rest:
        headers = zip(("http.request.referrer", "user_agent.original"), _QUOTED.findall(rest), strict=False)
        fields |= {path: value for path, value in headers if value and value != "-"}
    return fields


def _parts(method: str, target: str) -> tuple[str | None, int | None, str | None]:
    """Domain, port and path of what was asked for: `http://host:port/path`, or `host:port` of a tunnel."""
    scheme, slashes, rest = target.partition("://")
    if not slashes:
        if method != "CONNECT":
            return None, None, target.partition("?")[0] if target[:1] == "/" else None
        rest = target
    authority, slash, below = rest.partition("/")
    parts = _AUTHORITY.fullmatch(authority)
    path = (slash + below).partition("?")[0] or None
    if parts is None:
        return None, None, path
    port = int(parts[2]) if parts[2] else None
    return parts[1].strip("[]"), port, path if slashes and scheme else None


def _user(word: str) -> tuple[str | None, str | None]:
    if word == "-":
        return None, None
    name = unquote(word) if "%" in word else word
    domain, mark, user = name.partition("\\")
    return (user, domain) if mark and user else (name, None)


def _common(message: str, tail: re.Match[str], envelope: Envelope, pid: int | None, origin: Origin) -> Event:
    """The common or combined log format, which Squid ends with its result and how it got there."""
    event = accesslog.parse(message[: tail.start()], origin, NAME, "squid.access")
    denied = "DENIED" in tail[1]
    peer = tail[2] if tail[2] != "-" else None
    fields = dict(event.fields) | {"squid.result_code": tail[1], "squid.hierarchy_code": peer}
    person, group = _user(event.user_name or "-")
    return msgspec.structs.replace(
        event,
        event_category=_BOTH if denied else _WEB,
        event_type=_DENIED if denied else _ACCESS,
        event_action=tail[1],
        host_name=envelope.host,
        user_name=person,
        user_domain=group,
        destination_bytes=fields.get("http.response.body.bytes"),
        network_transport="tcp",
        process_pid=pid,
        fields=fields,
    )


def _cache(line: re.Match[str], host: str | None, pid: int | None, origin: Origin) -> Event:
    year, month, day, hour, minute, second, kid, said = line.groups()
    try:
        at = origin.clock.local(int(year), int(month), int(day), int(hour), int(minute), int(second))
    except ValueError as error:
        raise ParseError(f"no such time: {error}") from error
    if not 0 <= at < EPOCH_S_MAX:
        raise ParseError("no time of a log line")
    return _message(said, at, host, pid, {"squid.process": kid})


def _message(said: str, at: float, host: str | None, pid: int | None, fields: dict[str, Any]) -> Event:
    upper = said[:9].upper()
    level = next((word for word in ("FATAL", "ERROR", "WARNING") if upper.startswith(word)), None)
    if level is not None:
        fields["log.level"] = level.lower()
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="squid.cache",
        event_category=_WEB,
        event_type=("error",) if level in {"FATAL", "ERROR"} else ("info",),
        message=said,
        host_name=host,
        process_name=NAME,
        process_pid=pid,
        fields=fields,
    )
