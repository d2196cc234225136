"""Web access logs in the common and combined formats, which nginx and Apache share, and what people put around them."""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from connectors.clock import MONTHS
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import is_address, is_public

TIMES_MAX = 4096  # texts of times remembered (they state their zone, so they mean the same for every source)
ADDRESSES_MAX = 64  # of one forwarded list
_TIMES: dict[str, float] = {}

_SUCCESS, _FAILURE = "success", "failure"
_WEB = ("web",)
_ACCESS = ("access",)

_QUOTED = r'"((?:[^"\\]++|\\.)*+)"'
_TIME = r"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]"
_LINE = re.compile(
    rf"(?:([\w.-]{{1,255}})(?::(\d{{1,5}}))? )?([0-9a-fA-F]{{0,4}}[.:\d][0-9a-fA-F.:]{{0,42}}) \S+ (\S+) {_TIME} "
    rf'"(?:([A-Za-z_-]{{1,32}}) ([^\s"\\]+)(?: HTTP/(\d(?:\.\d)?))?"|((?:[^"\\]++|\\.)*+)") (\d{{3}}) (\d{{1,18}}|-)'
    rf"(?: {_QUOTED} {_QUOTED})?(.*)",
    re.DOTALL,
)
# What nearly every line is: combined, one client, a path. Whatever it matches, `_LINE` reads the same way.
_USUAL = re.compile(
    r"([0-9][0-9.]{0,42}+|[0-9a-fA-F]{0,4}+:[0-9a-fA-F.:]{0,42}+) \S++ (\S++) \[([^\]]{26})\] "
    r'"([A-Za-z_-]{1,32}+) (/[^\s"\\]*+) HTTP/(\d(?:\.\d)?)" (\d{3}) (\d{1,18}+|-) "([^"\\]*+)" "([^"\\]*+)"'
)
# A format of its own that many add for response times: time, virtual host, client, seconds, request, status, sizes.
_TIMED = re.compile(rf"{_TIME} (\S+) ([0-9a-fA-F.:]+) (\S+) {_QUOTED} (\d{{3}}) (\d{{1,18}}|-)(.*)", re.DOTALL)
# What Nginx Proxy Manager writes.
_PROXIED = re.compile(
    rf"{_TIME} (?:\S+ \S+ )?(\d{{3}}|-) - ([A-Za-z_-]{{1,32}}) (\w{{1,10}}) (\S+) {_QUOTED}"
    r" \[Client (\S+)\] \[Length (\d{1,18}|-)\]"
    rf"(?: \[Gzip [^\]]*\])?(?: \[Sent-to [^\]]*\])?(?: {_QUOTED} {_QUOTED})?.*",
    re.DOTALL,
)
_TAIL = re.compile(
    rf' ?{_TIME} "((?:[^"\\]++|\\.)*+)" (\d{{3}}|-) (\d{{1,18}}|-)(?: {_QUOTED} {_QUOTED})?(.*)',
    re.DOTALL,
)
_REQUEST = re.compile(r"([A-Za-z_-]{1,32}) (.*?)(?: HTTP/(\d(?:\.\d)?))?", re.DOTALL)
_TIME_FIRST = re.compile(r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] \S")
_SNIFF = re.compile(r' \[\d\d?/(?:[A-Z][a-z]{2}|\d\d)/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "')
_ODD_TIME = re.compile(
    r" \[(\d)/([A-Z][a-z]{2})(?=/\d{4}:)| \[(\d\d)/(\d\d)(?=/\d{4}:)"
)  # a day of one digit; cPanel's
_HOST_PORT = re.compile(r"(.*?)(?::(\d{1,5}))?")
_FORWARDED = re.compile(r'^ "([0-9a-fA-F.:, ]{3,600})"')


def sniff(text: str) -> bool:
    return _SNIFF.search(text, 0, 1024) is not None or _TIME_FIRST.match(text) is not None


def usual(text: str, module: str, dataset: str) -> Event | None:
    """The short way for the bulk of all lines: the event of a plain combined line whose time was met before."""
    line = _USUAL.fullmatch(text)
    if line is None:
        return None
    address, user, stamp, method, target, version, status, size, referrer, agent = line.groups()
    at = _TIMES.get(stamp)
    if at is None:
        return None
    fields: dict[str, Any] = {
        "url.original": target,
        "http.request.method": method,
        "http.version": version,
        "user_agent.original": agent,
    }
    path = target
    if "?" in target:
        path, _, fields["url.query"] = target.partition("?")
    if size != "-":
        fields["http.response.body.bytes"] = int(size)
    if referrer != "-" and referrer:
        fields["http.request.referrer"] = referrer
    if agent == "-" or not agent:
        del fields["user_agent.original"]
    code = int(status)
    return Event(
        timestamp=at,
        event_module=module,
        event_dataset=dataset,
        event_category=_WEB,
        event_type=_ACCESS,
        event_outcome=_SUCCESS if code < 400 else _FAILURE,
        user_name=None if user == "-" or user in _NOBODY else user,
        source_ip=address,
        url_path=path,
        http_response_status_code=code,
        service_name="web",
        fields=fields,
    )


def parse(text: str, origin: Origin, module: str, dataset: str) -> Event:
    """One access line, with or without a syslog envelope; raises ParseError."""
    line = _LINE.fullmatch(text)
    if line is None:
        return _unusual(text, origin, module, dataset)
    served, port, address, user, stamp, method, target, version, request, status, size, referrer, agent, rest = (
        line.groups()
    )
    fields: dict[str, Any] = {}
    if served is not None:
        fields["destination.domain"] = served
        if port is not None:
            fields["destination.port"] = int(port)
    return _event(
        module,
        dataset,
        None,
        address,
        fields,
        user,
        stamp,
        method,
        target,
        version,
        request,
        status,
        size,
        referrer,
        agent,
        rest,
    )


def _unusual(text: str, origin: Origin, module: str, dataset: str) -> Event:
    """Virtual hosts, lists of forwarded addresses, host names, user names with blanks, a syslog envelope in front."""
    odd = _ODD_TIME.search(text, 0, 1024)
    if odd is not None:
        day, name, number, other = odd.groups()
        month = next((name for name, of in MONTHS.items() if number and of == int(number)), name)
        if month is None:
            raise ParseError("no such month")
        usual_day = f" [{(day or other):0>2}/{month.title()}"
        return parse(text[: odd.start()] + usual_day + text[odd.end() :], origin, module, dataset)
    host = None
    if text[:1] == "<" or text[:3].lower() in MONTHS or text[4:5] == "-":
        envelope = peel(text, origin)
        if envelope.recognised:
            host, text = envelope.host, envelope.message
            if host is not None and _LINE.fullmatch(text) is not None:
                return msgspec.structs.replace(parse(text, origin, module, dataset), host_name=host)
    if text[:1] == "[":
        return _time_first(text, host, module, dataset)
    begin = _SNIFF.search(text)
    if begin is None:
        raise ParseError("no access log time")
    tail = _TAIL.fullmatch(text, begin.start())
    if tail is None:
        raise ParseError("no request and status after the time")
    left, dash, user = text[: begin.start()].partition(" - ")
    if not dash:  # an ident that is not empty
        words = text[: begin.start()].rsplit(" ", 2)
        left, user = words[0], words[-1]
    fields: dict[str, Any] = {}
    stamp, request, status, size, referrer, agent, rest = tail.groups()
    address = _client(left, fields)
    method = target = version = None
    parts = _REQUEST.fullmatch(request)
    if parts is not None:
        method, target, version = parts.groups()
    return _event(
        module,
        dataset,
        host,
        address,
        fields,
        user,
        stamp,
        method,
        target,
        version,
        request,
        status,
        size,
        referrer,
        agent,
        rest,
    )


def _time_first(text: str, host: str | None, module: str, dataset: str) -> Event:
    fields: dict[str, Any] = {}
    timed = _TIMED.fullmatch(text)
    if timed is not None:
        stamp, served, address, _, request, status, size, _ = timed.groups()
        agent = referrer = method = target = version = None
        parts = _REQUEST.fullmatch(request)
        if parts is not None:
            method, target, version = parts.groups()
    else:
        proxied = _PROXIED.fullmatch(text)
        if proxied is None:
            raise ParseError("no access log format that is known")
        stamp, status, method, _, served, target, address, size, agent, referrer = proxied.groups()
        request = version = None
    if served != "_":
        fields["url.domain"] = served
    return _event(
        module,
        dataset,
        host,
        address,
        fields,
        "-",
        stamp,
        method,
        target,
        version,
        request,
        status,
        size,
        referrer,
        agent,
        "",
    )


def _client(left: str, fields: dict[str, Any]) -> str | None:
    """The client among what stands in front of the user: `[vhost[:port]] address`, or a forwarded list of addresses.

    Of a list it is the first public address, else the first one.
    """
    items = left.replace('"', " ").replace(",", " ").split()[:ADDRESSES_MAX]
    if not items:
        return None
    if len(items) > 1 and not left.split(" ", 1)[0].endswith(",") and not left.startswith('"'):
        served = _HOST_PORT.fullmatch(items.pop(0))
        if served is not None:
            fields["destination.domain"] = served[1]
            if served[2]:
                fields["destination.port"] = int(served[2])
    addresses = [item for item in items if is_address(item)]
    if len(items) > 1:
        fields["network.forwarded_ip"] = addresses
    if not addresses:
        fields["source.domain"] = items[0]
        return None
    return next((a for a in addresses if is_public(a)), addresses[0])


def _event(
    module: str,
    dataset: str,
    host: str | None,
    address: str | None,
    fields: dict[str, Any],
    user: str,
    stamp: str,
    method: str | None,
    target: str | None,
    version: str | None,
    request: str | None,
    status: str,
    size: str,
    referrer: str | None,
    agent: str | None,
    rest: str,
) -> Event:
    at = _TIMES.get(stamp)
    if at is None:
        at = time_of(stamp)
    path = None
    if target is None:
        if request and request != "-":  # malformed, or another protocol spoken to the port
            fields["url.original"] = request
    else:
        fields["url.original"] = target
        fields["http.request.method"] = method
        path, question, query = target.partition("?")
        if question:
            fields["url.query"] = query
        if path[:1] != "/":
            path = _absolute(path, fields)
        if version is not None:
            fields["http.version"] = version
    if size != "-":
        fields["http.response.body.bytes"] = int(size)
    if referrer and referrer != "-":
        fields["http.request.referrer"] = referrer
    if agent and agent != "-":
        fields["user_agent.original"] = agent
    if rest and (forwarded := _FORWARDED.match(rest)) is not None:
        fields["network.forwarded_ip"] = [a for a in forwarded[1].replace(",", " ").split() if is_address(a)]
    code = int(status) if status != "-" else None
    domain = fields.pop("destination.domain", None)
    if domain is not None:
        fields["url.domain"] = domain
    return Event(
        timestamp=at,
        event_module=module,
        event_dataset=dataset,
        event_category=_WEB,
        event_type=_ACCESS,
        event_outcome=None if code is None else _SUCCESS if code < 400 else _FAILURE,
        host_name=host,
        user_name=user if user not in _NOBODY else None,
        source_ip=address,
        destination_ip=domain if domain is not None and is_address(domain) else None,
        destination_port=fields.pop("destination.port", None) if domain is not None else None,
        url_path=path,
        http_response_status_code=code,
        service_name="web",
        fields=fields,
    )


_NOBODY = frozenset({"-", '""', ""})


def _absolute(path: str, fields: dict[str, Any]) -> str | None:
    """The path of `http://host/path` (a request to a proxy) or of `host:443` (CONNECT)."""
    _, scheme, rest = path.partition("://")
    if not scheme:
        if fields["http.request.method"] == "CONNECT":
            fields["url.domain"] = path.rpartition(":")[0] or path
            return None
        return path
    domain, slash, below = rest.partition("/")
    fields["url.domain"] = domain
    return slash + below


def time_of(stamp: str) -> float:
    """Epoch seconds of `24/Nov/2026:05:00:00 +0100`, remembered; raises ParseError."""
    month = MONTHS.get(stamp[3:6].lower())
    if month is None:
        raise ParseError("no such month")
    try:
        local = datetime(
            int(stamp[7:11]),
            month,
            int(stamp[:2]),
            int(stamp[12:14]),
            int(stamp[15:17]),
            min(int(stamp[18:20]), 59),
            tzinfo=UTC,
        )
    except ValueError as error:
        raise ParseError(f"no such time: {error}") from error
    offset_s = int(stamp[22:24]) * 3600 + int(stamp[24:26]) * 60
    at = local.timestamp() - (offset_s if stamp[21] == "+" else -offset_s)
    if not 0 <= at < 7e9:  # 1970 to 2191
        raise ParseError("no time of a log line")
    if len(_TIMES) >= TIMES_MAX:
        _TIMES.clear()
    _TIMES[stamp] = at
    return at
