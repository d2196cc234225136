"""Traefik: the access log as JSON and in its common log format, and its own messages.

The device's own keys (RouterName, ServiceName, ...) stay in `fields` under their own names.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from connectors import accesslog
from connectors.clock import EPOCH_S_MAX, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.tolerant_json import decode
from connectors.values import is_address

NAME = "traefik"

DIGITS_MAX = 18  # of a number that is taken for one
FIELDS_MAX = 512  # of one line that are kept

# What Traefik adds to the common format: requests so far, router, server, duration.
_TAIL = re.compile(r' (\d{1,18}|-) (?:"((?:[^"\\]++|\\.)*+)"|-) (?:"((?:[^"\\]++|\\.)*+)"|-) (\d{1,12})ms$')
_SNIFF_TAIL = re.compile(r' (?:\d{1,18}|-) (?:"[^"]{0,200}"|-) (?:"[^"]{0,250}"|-) \d{1,12}ms$')
_SIZE = re.compile(r'(" \d{3} (?:\d+|-)) - "')  # a referrer that was not sent may stand without quotes
_OWN = re.compile(r'"(?:routerName|entryPointName|middlewareName|serversTransport)":')
_PORT = re.compile(r":(\d{1,5})$")
_ABSENT = frozenset({"", "-"})
_WEB = ("web",)
_ACCESS = ("access",)


def sniff(text: str) -> bool:
    brace = 0 if text[:1] == "{" else text.find('{"', 0, 200)
    if brace < 0:
        return _SNIFF_TAIL.search(text, max(0, len(text) - 512)) is not None and accesslog.sniff(text)
    if '"DownstreamStatus":' in text or (
        '"RequestPath":' in text and ('"ClientHost":' in text or '"RouterName":' in text)
    ):
        return True
    return (
        '"level":' in text[:400]
        and _OWN.search(text, 0, 2048) is not None
        and ('"msg":' in text or '"message":' in text)
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    host = None
    body = text
    if text[:1] != "{" and (brace := text.find('{"', 0, 512)) >= 0 and accesslog.sniff(text[:brace]) is False:
        host = peel(text, origin).host
        body = text[brace:]
    if body[:1] != "{":
        return (_common(text, origin),)
    log, _ = decode(body)
    if type(log) is not dict or not log:
        raise ParseError("no Traefik log: no JSON object")
    if "RequestMethod" in log or "DownstreamStatus" in log or "RequestPath" in log or "ClientHost" in log:
        return (_request(log, host, origin),)
    if "level" in log and ("msg" in log or "message" in log):
        return (_said(log, host, origin),)
    raise ParseError("no Traefik log: it has neither a request nor a message")


def _request(log: dict[str, Any], host: str | None, origin: Origin) -> Event:
    get = log.get
    address = _text(get("ClientHost"))
    client = _text(get("ClientAddr"))
    port = _number(get("ClientPort"))
    if address is not None and "," in address:  # of a forwarded list the last: the others are what the client said
        address = address.rpartition(",")[2].strip()
    if address is None and client is not None:
        address = _PORT.sub("", client).strip("[]")
    if port is None and client is not None and (stated := _PORT.search(client)) is not None:
        port = int(stated[1])
    target = _text(get("RequestPath"))
    path = None
    if target is not None:
        path = target.partition("?")[0]
        if path[:1] != "/" and "://" in path:
            path = "/" + path.partition("://")[2].partition("/")[2]
    code = _number(get("DownstreamStatus"))
    if code is None:
        code = _number(get("OriginStatus"))
    return Event(
        _time(log, origin),
        NAME,
        "traefik.access",
        _WEB,
        _ACCESS,
        None,
        None if not code else "success" if code < 400 else "failure",  # 0: no answer was sent
        None,
        None,
        host,
        _text(get("ClientUsername")),
        None,
        address if address is not None and is_address(address) else None,
        port,
        _number(get("RequestContentSize")),
        None,
        _number(get("RequestPort")),
        _number(get("DownstreamContentSize")),
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        path,
        code,
        "web",
        Lazy(_fields, log, target),
    )


_NAMED = (
    ("RequestMethod", "http.request.method"),
    ("RequestHost", "url.domain"),
    ("RequestScheme", "url.scheme"),
    ("RouterName", "traefik.access.frontend_name"),
    ("ServiceName", "service.target.name"),
    ("TLSVersion", "tls.version"),
    ("TLSCipher", "tls.cipher"),
    ("request_User-Agent", "user_agent.original"),
    ("request_Referer", "http.request.referrer"),
)


def _fields(log: Mapping[str, Any], target: str | None) -> dict[str, Any]:
    """Traefik's own keys and, beside them, their ECS names."""
    fields: dict[str, Any] = {}
    for key, value in log.items():
        if len(fields) >= FIELDS_MAX:
            break
        if type(value) is dict:
            fields |= {f"{key}_{name}": part for name, part in list(value.items())[:32] if _scalar(part) and part != ""}
        elif _scalar(value) and value not in _ABSENT:
            fields[key] = value
    for key, path in _NAMED:
        if (text := _text(log.get(key))) is not None:
            fields[path] = text
    if target is not None:
        fields["url.original"] = target
        if "?" in target:
            fields["url.query"] = target.partition("?")[2]
    if (version := _text(log.get("RequestProtocol"))) is not None and version.startswith("HTTP/"):
        fields["http.version"] = version[5:]
    if (duration := _number(log.get("Duration"))) is not None:
        fields["event.duration"] = duration
    if (size := _number(log.get("DownstreamContentSize"))) is not None:
        fields["http.response.body.bytes"] = size
    if (forwarded := _text(log.get("request_X-Forwarded-For"))) is not None:
        found = [part for part in forwarded.replace(",", " ").split()[:64] if is_address(part)]
        if found:
            fields["network.forwarded_ip"] = found
    return fields


def _common(text: str, origin: Origin) -> Event:
    line = _SIZE.sub(r'\1 "-" "', text, count=1) if ' - "' in text else text
    tail = _TAIL.search(line, max(0, len(line) - 2048))
    event = accesslog.parse(line if tail is None else line[: tail.start()], origin, NAME, "traefik.access")
    if tail is None:
        return event
    fields = dict(event.fields)
    count, router, server, took_ms = tail.groups()
    fields["event.duration"] = int(took_ms) * 1_000_000
    if count != "-":
        fields["RequestCount"] = int(count)
    if router and router != "-":
        fields["RouterName"] = fields["traefik.access.frontend_name"] = router
    if server and server != "-":
        fields["ServiceURL"] = fields["traefik.access.backend_url"] = server
    return msgspec.structs.replace(event, fields=fields)


def _said(log: dict[str, Any], host: str | None, origin: Origin) -> Event:
    level = _text(log.get("level"))
    return Event(
        timestamp=_time(log, origin),
        event_module=NAME,
        event_dataset="traefik.log",
        event_category=_WEB,
        event_type=("error",) if level in {"error", "fatal", "panic"} else ("info",),
        message=_text(log.get("msg")) or _text(log.get("message")) or _text(log.get("error")),
        host_name=host,
        service_name="web",
        fields={key: value for key, value in log.items() if _scalar(value)} | ({"log.level": level} if level else {}),
    )


def _time(log: Mapping[str, Any], origin: Origin) -> float:
    for key in ("StartUTC", "time", "StartLocal"):
        text = log.get(key)
        if type(text) is str and text:
            try:
                at = from_iso(text[:19] + _fraction(text), origin.clock)
            except (ValueError, OverflowError):
                continue
            if 0 <= at < EPOCH_S_MAX:
                return at
    return origin.received


def _fraction(text: str) -> str:
    """What stands behind the seconds, with no more digits than are read: Go writes nine, and leaves zeros out."""
    if text[19:20] != ".":
        return text[19:]
    end = 20
    while end < len(text) and text[end].isdigit():
        end += 1
    return "." + text[20:end][:6].ljust(6, "0") + text[end:]


def _text(value: Any) -> str | None:
    return value if type(value) is str and value not in _ABSENT else None


def _number(value: Any) -> int | None:
    if type(value) is int:
        return value if 0 <= value < 10**DIGITS_MAX else None
    if type(value) is str and value.isdecimal() and value.isascii() and len(value) <= DIGITS_MAX:
        return int(value)
    return None


def _scalar(value: Any) -> bool:
    return type(value) in {str, int, bool} or (type(value) is float and value - value == 0)
