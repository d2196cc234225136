"""Caddy: the JSON access log of Caddy 2 (with its older names) and Caddy's own JSON messages."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.clock import EPOCH_S_MAX, from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.tolerant_json import decode
from connectors.values import is_address

NAME = "caddy"

DIGITS_MAX = 18  # of a number that is taken for one
HEADERS_MAX = 128  # of one request that are kept
DURATION_MAX_S = 1e9  # of one request; more is nonsense
FORWARDED_MAX = 64  # addresses of one forwarded list

_SNIFF = re.compile(
    r'"logger": ?"(?:http|http\.(?:log|handlers|auto_https|authentication|reverse_proxy|stdlib|acme_client)(?:\.[\w.-]{1,120})?'
    r'|tls(?:\.[\w.-]{1,120})?|admin(?:\.[\w.-]{1,60})?|pki(?:\.[\w.-]{1,60})?|layer4(?:\.[\w.-]{1,60})?|docker-proxy)"'
    r'|"msg": ?"handled request"'
)
_PLACE = re.compile(r"\[?([^\]]{1,64}?)\]?:(\d{1,5})")
_SLASHED = re.compile(r"(\d{4})/(\d\d)/(\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,9})?)")
_WEB = ("web",)
_ACCESS = ("access",)
_ERRORS = frozenset({"error", "panic", "fatal", "dpanic"})


def sniff(text: str) -> bool:
    brace = 0 if text[:1] == "{" else text.find('{"', 0, 200)
    return brace >= 0 and '"ts":' in text and _SNIFF.search(text, brace, 4096) is not None and "Coraza: " not in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    host = None
    body = text
    if text[:1] != "{" and (brace := text.find('{"', 0, 512)) >= 0:
        host = peel(text, origin).host
        body = text[brace:]
    if body[:1] != "{":
        raise ParseError("no Caddy log: no JSON object")
    log, _ = decode(body)
    if type(log) is not dict:
        raise ParseError("no Caddy log: no JSON object")
    request = log.get("request")
    if type(request) is dict and ("uri" in request or "method" in request):
        return (_request(log, request, host, origin),)
    if "msg" not in log or not ("logger" in log or "level" in log):
        raise ParseError("no Caddy log: it has neither a request nor a message with a level")
    return (_said(log, host, origin),)


def _request(log: dict[str, Any], request: dict[str, Any], host: str | None, origin: Origin) -> Event:
    address, port = _text(request.get("client_ip")), None
    remote = _text(request.get("remote_ip"))
    if remote is None and (place := _PLACE.fullmatch(_text(request.get("remote_addr")) or "")) is not None:
        remote, port = place[1], int(place[2])  # Caddy before 2.5
    if address is None or address == remote:
        address, port = remote, _number(request.get("remote_port")) or port
    target = _text(request.get("uri"))
    code = _number(log.get("status"))
    message = _text(log.get("msg"))
    level = log.get("level")
    access = message == "handled request" or code is not None
    return Event(
        _time(log, origin),
        NAME,
        "caddy.access" if access else "caddy.log",
        _WEB,
        _ACCESS if access else ("error",) if level in _ERRORS else ("info",),
        None,
        None if not code else "success" if code < 400 else "failure",  # 0: the connection ended first
        None,
        None if message == "handled request" else message,
        host,
        _text(log.get("user_id")),
        None,
        address if address is not None and is_address(address) else None,
        port,
        _number(log.get("bytes_read")),
        None,
        None,
        _number(log.get("size")),
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        target.partition("?")[0] if target is not None else None,
        code,
        "web",
        Lazy(_fields, log, request, target),
    )


_NAMED = (("method", "http.request.method"), ("host", "url.domain"))


def _fields(log: Mapping[str, Any], request: Mapping[str, Any], target: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        key: value for key, value in log.items() if key != "ts" and _scalar(value) and value != ""
    }
    for key, path in (("level", "log.level"), ("logger", "log.logger")):
        if (value := _text(fields.pop(key, None))) is not None:
            fields[path] = value
    for key, path in _NAMED:
        if (word := _text(request.get(key))) is not None:
            fields[path] = word
    if target is not None:
        fields["url.original"] = target
        if "?" in target:
            fields["url.query"] = target.partition("?")[2]
    if (proto := _text(request.get("proto"))) is not None and proto.startswith("HTTP/"):
        fields["http.version"] = proto[5:]
    if type(size := log.get("size")) is int:
        fields["http.response.body.bytes"] = size
    duration = log.get("duration")
    if (type(duration) is float or type(duration) is int) and 0 <= duration < DURATION_MAX_S:
        fields["event.duration"] = int(duration * 1e9)
    headers = request.get("headers")
    if type(headers) is dict:
        sent = {name.lower(): value for name, value in list(headers.items())[:HEADERS_MAX]}
        for name, path in (("user-agent", "user_agent.original"), ("referer", "http.request.referrer")):
            if (header := _first(sent.get(name))) is not None:
                fields[path] = header
        if (forwarded := _first(sent.get("x-forwarded-for"))) is not None:
            parts = forwarded.replace(",", " ").split()[:FORWARDED_MAX]
            if found := [part for part in parts if is_address(part)]:
                fields["network.forwarded_ip"] = found
    tls = request.get("tls")
    if type(tls) is dict and (server := _text(tls.get("server_name"))) is not None:
        fields["tls.client.server_name"] = server
    return fields


def _said(log: dict[str, Any], host: str | None, origin: Origin) -> Event:
    level = _text(log.get("level"))
    fields = {key: value for key, value in log.items() if key not in {"ts", "msg"} and _scalar(value) and value != ""}
    for key, path in (("level", "log.level"), ("logger", "log.logger")):
        if (value := _text(fields.pop(key, None))) is not None:
            fields[path] = value
    return Event(
        timestamp=_time(log, origin),
        event_module=NAME,
        event_dataset="caddy.log",
        event_category=_WEB,
        event_type=("error",) if level in _ERRORS else ("info",),
        message=_text(log.get("msg")),
        host_name=host,
        service_name="web",
        fields=fields,
    )


def _time(log: Mapping[str, Any], origin: Origin) -> float:
    """`ts` is seconds, unless configured otherwise: another scale, ISO 8601, or local time with slashes."""
    stated = log.get("ts")
    try:
        if type(stated) is float or type(stated) is int:
            return from_epoch(stated)
        if type(stated) is str:
            if (slashed := _SLASHED.fullmatch(stated)) is not None:
                stated = f"{slashed[1]}-{slashed[2]}-{slashed[3]}T{slashed[4]}"
            at = from_iso(stated, origin.clock)
            if 0 <= at < EPOCH_S_MAX:
                return at
    except (ValueError, OverflowError):
        pass  # a time that no calendar has must not hide the event
    return origin.received


def _first(value: Any) -> str | None:
    """Of a header's values the first one."""
    return _text(value[0] if type(value) is list and value else value)


def _text(value: Any) -> str | None:
    return value if type(value) is str and value else None


def _number(value: Any) -> int | None:
    if type(value) is int:
        return value if 0 <= value < 10**DIGITS_MAX else None
    if type(value) is str and value.isdecimal() and value.isascii() and len(value) <= DIGITS_MAX:
        return int(value)
    return None


def _scalar(value: Any) -> bool:
    return type(value) in {str, int, bool} or (type(value) is float and value - value == 0)
