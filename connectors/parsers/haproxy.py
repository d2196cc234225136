"""HAProxy: HTTP, HTTPS, TCP, error and default traffic logs, and what it says about servers, proxies and health checks.

Optional parts are taken where they stand: captured headers, the name of the server asked for, the state of TLS.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from connectors import accesslog
from connectors.clock import EPOCH_S_MAX, MONTHS
from connectors.envelope import Envelope, peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "haproxy"

DIGITS_MAX = 18  # of a number that is taken for one
ADDRESSES_MAX = 8192  # remembered as read
HEADERS_MAX = 64  # captured ones of one line

_PLACE = (
    r"(?P<client>\S+):(?P<port>\d{1,5}) \[(?P<date>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?:\.\d{1,6})?)"
    r"(?: (?P<zone>[+-]\d{4}))?\]"
)
_ROUTE = (
    r"(?P<frontend>\S++) (?P<backend>[^\s/]++)/(?P<server>\S++) (?:(?P<asked>[A-Za-z*][^\s/]*+|[^\s/]*+[.:][^\s/]*+) )?"
)
_LOAD = r"(?P<connections>\d++/\d++/\d++/\d++/\+?\d++) (?P<queues>\d++/\d++)"
_REQUEST = re.compile(
    rf"{_PLACE} {_ROUTE}(?P<times>[-+\d]++/[-+\d]++/[-+\d]++/[-+\d]++/[-+\d]++) (?P<status>-1|\d{{3}}) \+?(?P<bytes>\d{{1,18}}) "
    rf"(?P<asked_cookie>\S++) (?P<set_cookie>\S++) (?P<ending>[\w-]{{4}}) {_LOAD}"
    r"(?P<captured>(?: \{[^}]*+\})?(?: \{[^}]*+\})?) \"(?P<spoken>[^\"\\]*+(?:\\.[^\"\\]*+)*+)\"?(?P<rest>.*)",
    re.DOTALL,
)
_CONNECTION = re.compile(
    rf"{_PLACE} {_ROUTE}(?P<times>[-+\d]++/[-+\d]++/[-+\d]++) \+?(?P<bytes>\d{{1,18}}) (?P<ending>[\w-]{{2}}) "
    rf"{_LOAD}(?P<rest>.*)",
    re.DOTALL,
)
_ERROR = re.compile(rf"{_PLACE} (?P<frontend>[^\s/]++)/(?P<bind>[^\s:]++): (?P<said>.*)", re.DOTALL)
_DEFAULT = re.compile(
    r"Connect from (?P<client>\S+):(?P<port>\d{1,5}) to (?P<server>\S+):(?P<to_port>\d{1,5}) "
    r"\((?P<frontend>[^\s/]++)/(?P<mode>\w{1,16})\).*",
    re.DOTALL,
)
# What `option httplog clf` puts behind the status: no referrer and no agent, the client's port, milliseconds, the route.
_CLF = re.compile(r'" \d{3} \d+ "" "" (\d{1,5}) (\d{1,6}) "([^"]*+)" "([^"]*+)" "([^"]*+)"')
_SECURED = re.compile(
    r" ([\dA-Fa-fx-]{1,32})/([\dA-Fa-fx-]{1,32})/([\dA-Fa-fx-]{1,32})/([\dA-Fa-fx-]{1,32})/(\d|-)"
    r" (\S{1,255}?)/(\S{1,32}?)/(\S{1,128})"
)
_STATE = re.compile(
    r"(?:Backup )?Server (?P<backend>[^\s/]{1,255})/(?P<server>\S{1,255}) is (?P<state>[A-Z]{2,16}|going DOWN)\b.*"
    r"|Health check for (?:backup )?server (?P<checked>[^\s/]{1,255})/(?P<which>\S{1,255}) (?P<result>\w{1,16})\b.*"
    r"|(?:Proxy|backend|proxy) (?P<proxy>\S{1,255}) (?P<what>started|stopped|has no server available).*",
    re.DOTALL,
)
_LEVEL = re.compile(r"\[(NOTICE|WARNING|ALERT|DEBUG)\] +(?:\d{1,3}/\d{6} )?\((\d{1,10})\) : ")
_NAMED = re.compile(r"haproxy(?:\[(\d{1,10})\])?: ")
_SNIFF = re.compile(
    r"(?:^|[ >])haproxy(?:\[\d{1,10}\])?: | haproxy \d{1,10} \S{1,32} |\[(?:NOTICE|WARNING|ALERT)\] +(?:\d{1,3}/\d{6} )?\(\d{1,10}\) : "
)
_BARE = re.compile(
    r"\S{1,255}?:\d{1,5} \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{1,6}(?: [+-]\d{4})?\] \S{1,255}(?: [^\s/]{1,255}/\S|: )"
)
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,44}")

_WEB = ("web",)
_NETWORK = ("network",)
_BOTH = ("web", "network")
_HOST = ("host",)
_ACCESS = ("access",)
_CONNECTED = ("connection",)
_DENIED = ("connection", "denied")
_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")


def sniff(text: str) -> bool:
    return _SNIFF.search(text, 0, 200) is not None or _BARE.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    message, app, pid = envelope.message, envelope.app, envelope.pid
    if app is None and (named := _NAMED.match(message)) is not None:
        message, app, pid = message[named.end() :], NAME, int(named[1]) if named[1] else None
    if (line := _REQUEST.fullmatch(message)) is not None:
        return (_request(line, envelope, app, pid, origin),)
    if (line := _CONNECTION.fullmatch(message)) is not None:
        return (_connection(line, envelope, app, pid, origin),)
    if (line := _ERROR.fullmatch(message)) is not None:
        fields = {"haproxy.frontend_name": line["frontend"], "haproxy.bind_name": line["bind"]}
        said = fields["haproxy.error_message"] = line["said"]
        at = _time(line["date"], line["zone"], envelope, origin)
        client = _address(line["client"])
        return (_said(said, at, envelope.host, app, pid, client, int(line["port"]), None, None, fields),)
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    if (line := _DEFAULT.fullmatch(message)) is not None:
        fields = {"haproxy.frontend_name": line["frontend"], "haproxy.mode": line["mode"]}
        client, server = _address(line["client"]), _address(line["server"])
        ports = int(line["port"]), int(line["to_port"])
        return (_said(None, at, envelope.host, app, pid, client, ports[0], server, ports[1], fields),)
    if app == NAME and accesslog.sniff(message):
        return (_common_log(message, envelope, pid, origin),)
    level = _LEVEL.match(message)
    if level is not None:
        message, pid = message[level.end() :], int(level[2])
    elif app is None or not app.startswith(NAME):
        raise ParseError("no HAProxy log: neither its name nor one of its formats")
    return (_state(message, at, envelope, pid, level),)


def _request(line: re.Match[str], envelope: Envelope, app: str | None, pid: int | None, origin: Origin) -> Event:
    client, port, date, zone, asked, status, size, ending, spoken = line.group(
        "client", "port", "date", "zone", "asked", "status", "bytes", "ending", "spoken"
    )
    code = int(status) if status != "-1" else None
    path = None
    if spoken[:1] != "<":
        path = _spoken(spoken)[1].partition("?")[0]
        if path[:1] != "/":
            _, scheme, rest = path.partition("://")
            path = "/" + rest.partition("/")[2] if scheme else None
    denied = code == 403 and ending[:2] == "PR"  # the proxy itself refused the request
    return Event(
        _time(date, zone, envelope, origin),
        NAME,
        "haproxy.http",
        _BOTH if denied else _WEB,
        _DENIED if denied else _ACCESS,
        None,
        None if code is None else "success" if code < 400 else "failure",
        None,
        None,
        envelope.host,
        None,
        None,
        _address(client),
        int(port),
        None,
        None if asked is None else _address(asked),
        None,
        int(size),
        None,
        app or NAME,
        pid,
        None,
        None,
        None,
        None,
        path,
        code,
        "web",
        Lazy(_request_fields, line, envelope.severity),
    )


def _spoken(request: str) -> tuple[str, str, str]:
    """Method, target and version of a request line."""
    method, _, rest = request.partition(" ")
    target, mark, version = rest.rpartition(" HTTP/")
    return (method, target, version) if mark else (method, rest, "")


def _request_fields(line: re.Match[str], severity: int | None) -> dict[str, Any]:
    fields = _common(line, severity)
    active, waited, connected, answered, total = _milliseconds(line["times"])
    fields["haproxy.http.request.time_wait_ms"] = active
    fields["haproxy.total_waiting_time_ms"] = waited
    fields["haproxy.connection_wait_time_ms"] = connected
    fields["haproxy.http.request.time_wait_without_data_ms"] = answered
    fields["http.response.bytes"] = int(line["bytes"])
    if total >= 0:
        fields["event.duration"] = total * 1_000_000
    for group, name in (("asked_cookie", "request"), ("set_cookie", "response")):
        if line[group] != "-":
            fields[f"haproxy.http.{name}.captured_cookie"] = line[group]
    if line["captured"]:
        parts = line["captured"].removeprefix(" {").removesuffix("}").split("} {")
        for name, part in zip(("request", "response"), parts, strict=False):
            if values := [value for value in part.split("|")[:HEADERS_MAX] if value]:
                fields[f"haproxy.http.{name}.captured_headers"] = values
    spoken = fields["haproxy.http.request.raw_request_line"] = line["spoken"]
    if spoken[:1] != "<" and " " in spoken:
        fields["http.request.method"], target, version = _spoken(spoken)
        fields["url.original"] = target
        if "?" in target:
            fields["url.query"] = target.partition("?")[2]
        if version:
            fields["http.version"] = version
    if line["rest"] and (secured := _SECURED.match(line["rest"])) is not None:
        errors = ("fc_err", "ssl_fc_err", "ssl_c_err", "ssl_c_ca_err")
        fields |= {f"haproxy.connections.{name}": secured[i] for i, name in enumerate(errors, 1) if secured[i] != "-"}
        fields["tls.resumed"] = secured[5] == "1"
        if secured[6] != "-":
            fields["tls.client.server_name"] = fields["url.domain"] = fields["destination.domain"] = secured[6]
        protocol, _, version = secured[7].partition("v")
        if version:
            fields["tls.version_protocol"], fields["tls.version"] = protocol.lower(), version
        if secured[8] != "-":
            fields["tls.cipher"] = secured[8]
    return fields


def _connection(line: re.Match[str], envelope: Envelope, app: str | None, pid: int | None, origin: Origin) -> Event:
    asked = line["asked"]
    return Event(
        _time(line["date"], line["zone"], envelope, origin),
        NAME,
        "haproxy.tcp",
        _NETWORK,
        _DENIED if line["ending"] == "PR" else _CONNECTED,
        None,
        None,
        None,
        None,
        envelope.host,
        None,
        None,
        _address(line["client"]),
        int(line["port"]),
        None,
        None if asked is None else _address(asked),
        None,
        int(line["bytes"]),
        "tcp",
        app or NAME,
        pid,
        fields=Lazy(_connection_fields, line, envelope.severity),
    )


def _connection_fields(line: re.Match[str], severity: int | None) -> dict[str, Any]:
    fields = _common(line, severity)
    waited, connected, total = _milliseconds(line["times"])
    fields["haproxy.total_waiting_time_ms"] = waited
    fields["haproxy.connection_wait_time_ms"] = connected
    if total >= 0:
        fields["event.duration"] = total * 1_000_000
    return fields


def _common(line: re.Match[str], severity: int | None) -> dict[str, Any]:
    names = ("active", "frontend", "backend", "server", "retries")
    counts = line["connections"].replace("+", "").split("/")
    queues = line["queues"].split("/")
    fields: dict[str, Any] = {
        "haproxy.frontend_name": line["frontend"],
        "haproxy.backend_name": line["backend"],
        "haproxy.server_name": line["server"],
        "haproxy.termination_state": line["ending"],
        "haproxy.bytes_read": int(line["bytes"]),
        "haproxy.server_queue": _number(queues[0]),
        "haproxy.backend_queue": _number(queues[1]),
    }
    fields |= {f"haproxy.connections.{name}": _number(count) for name, count in zip(names, counts, strict=True)}
    if line["asked"] is not None:
        fields["destination.domain"] = line["asked"]
    if severity is not None:
        fields["log.level"] = _LEVELS[severity]
    return fields


def _common_log(message: str, envelope: Envelope, pid: int | None, origin: Origin) -> Event:
    """`option httplog clf`."""
    event = accesslog.parse(message, origin, NAME, "haproxy.http")
    fields = dict(event.fields)
    port = None
    if (tail := _CLF.search(message)) is not None:
        port = int(tail[1])
        fields |= {"haproxy.frontend_name": tail[3], "haproxy.backend_name": tail[4], "haproxy.server_name": tail[5]}
    return msgspec.structs.replace(
        event,
        host_name=envelope.host,
        source_port=port,
        destination_bytes=fields.get("http.response.body.bytes"),
        process_name=NAME,
        process_pid=pid,
        fields=fields,
    )


def _said(
    message: str | None,
    at: float,
    host: str | None,
    app: str | None,
    pid: int | None,
    client: str | None,
    port: int,
    server: str | None,
    server_port: int | None,
    fields: dict[str, Any],
) -> Event:
    """A connection that came to nothing, or the one line of a proxy that keeps no traffic log."""
    web = fields.get("haproxy.mode") == "HTTP"
    return Event(
        at,
        NAME,
        event_dataset="haproxy.connection" if message is None else "haproxy.error",
        event_category=_BOTH if web else _NETWORK,
        event_type=_CONNECTED if message is None else ("connection", "error"),
        event_outcome=None if message is None else "failure",
        message=message,
        host_name=host,
        source_ip=client,
        source_port=port,
        destination_ip=server,
        destination_port=server_port,
        network_transport="tcp",
        process_name=app or NAME,
        process_pid=pid,
        fields=fields,
    )


def _state(message: str, at: float, envelope: Envelope, pid: int | None, level: re.Match[str] | None) -> Event:
    """What HAProxy says about itself, its proxies and its servers."""
    fields: dict[str, Any] = {}
    action = None
    if (state := _STATE.match(message)) is not None:
        for group, name in (
            ("backend", "backend_name"),
            ("checked", "backend_name"),
            ("proxy", "backend_name"),
            ("server", "server_name"),
            ("which", "server_name"),
        ):
            if state[group] is not None:
                fields[f"haproxy.{name}"] = state[group].rstrip(".,")
        if state["state"] is not None:
            action = "server-" + state["state"].lower().replace(" ", "-")
        elif state["result"] is not None:
            action = "health-check-" + state["result"].lower()
        else:
            action = "proxy-" + state["what"].replace(" ", "-")
    if level is not None:
        fields["log.level"] = level[1].lower()
    elif envelope.severity is not None:
        fields["log.level"] = _LEVELS[envelope.severity]
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="haproxy.event",
        event_category=_HOST,
        event_type=("info",) if state is None or action in {"proxy-started", "proxy-stopped"} else ("change",),
        event_action=action,
        message=message,
        host_name=envelope.host,
        process_name=envelope.app or NAME,
        process_pid=pid,
        fields=fields,
    )


@lru_cache(maxsize=ADDRESSES_MAX)
def _address(word: str) -> str | None:
    return word if _ADDRESS.fullmatch(word) is not None else None


def _milliseconds(times: str) -> list[int]:
    """The timers; -1 is one that did not come to it."""
    return [
        int(time) if time.isdecimal() and len(time) <= DIGITS_MAX else -1 for time in times.replace("+", "").split("/")
    ]


def _number(digits: str) -> int | None:
    return int(digits) if len(digits) <= DIGITS_MAX else None


def _time(date: str, zone: str | None, envelope: Envelope, origin: Origin) -> float:
    """When the request was accepted; the envelope's time where no calendar has that."""
    stamp = date[:20]
    clock = origin.clock
    at = clock.stamps.get(stamp) if zone is None else None
    if at is None:
        try:
            day, month, year = int(date[:2]), MONTHS.get(date[3:6].lower(), 0), int(date[7:11])
            hour, minute, second = int(date[12:14]), int(date[15:17]), int(date[18:20])
            if zone is None:
                at = clock.local(year, month, day, hour, minute, second)
                clock.remember(stamp, at)
            else:
                at = accesslog.time_of(f"{stamp} {zone}")
        except (ValueError, OverflowError):  # ParseError is a ValueError
            return origin.received if envelope.timestamp is None else envelope.timestamp
    if not 0 <= at < EPOCH_S_MAX:
        return origin.received
    return at + float("0" + date[20:]) if len(date) > 20 else at
