"""Stormshield Network Security (SNS): the WELF audit logs `id=firewall time="..." fw="..." ... logtype="connection"`.

Every documented log is read (connection, filter, alarm, auth, server, vpn, xvpn, web, plugin, mail, ftp, ssl, system
...), with or without a syslog envelope. The device's own keys stay in `fields`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.keyvalue import Shapes, pairs
from connectors.values import whole_number

NAME = "stormshield"

_START = "id=firewall "
_ABSENT = {"", "-", "N/A", "(null)"}
_NETWORK = ("network",)
_ALLOWED, _DENIED = ("connection", "allowed"), ("connection", "denied")
_REFUSALS = {"block", "blocked", "deny", "reset", "quarantine", "drop", "blockpage", "blockall"}
# log -> category
_KINDS: dict[str, tuple[str, ...]] = {
    "connection": _NETWORK,
    "filter": _NETWORK,
    "plugin": _NETWORK,
    "ssl": _NETWORK,
    "alarm": ("intrusion_detection", "network"),
    "pvm": ("vulnerability",),
    "sandboxing": ("malware", "network"),
    "web": ("web", "network"),
    "smtp": ("email", "network"),
    "pop3": ("email", "network"),
    "ftp": ("file", "network"),
    "auth": ("authentication",),
    "server": ("configuration",),
    "vpn": ("network", "session"),
    "xvpn": ("network", "session"),
    "system": ("host",),
    "monitor": ("host",),
    "count": ("host",),
    "date": ("host",),
    "filterstat": ("host",),
    "routerstat": _NETWORK,
    "dmrouting": _NETWORK,
    "routing": _NETWORK,
}
_TRAFFIC = {"connection", "filter", "plugin", "ssl", "alarm", "web", "smtp", "pop3", "ftp", "sandboxing"}
_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
_FAILURES = ("fail", "denied", "refus", "invalid", "rejected", "error", "wrong", "unknown user", "timeout", "expired")
_PROTOCOLS = {"icmp6": "ipv6-icmp", "icmpv6": "ipv6-icmp", "ipv6-icmp": "ipv6-icmp"}
_LEVELS = {"0": "emergency", "1": "alert", "2": "critical", "3": "error", "4": "warning", "5": "notice"}
_LEVELS |= {"6": "informational", "7": "debug"}
_NAMED = (  # native key -> ECS path, copied as it is; of two with the same path the later wins
    ("fw", "observer.name"),
    ("srcif", "observer.ingress.interface.id"),
    ("srcifname", "observer.ingress.interface.name"),
    ("dstif", "observer.egress.interface.id"),
    ("dstifname", "observer.egress.interface.name"),
    ("ruleid", "rule.id"),
    ("rulename", "rule.name"),
    ("slotlevel", "rule.ruleset"),
    ("class", "rule.category"),
    ("proto", "network.protocol"),
    ("srcname", "source.domain"),
    ("dstname", "destination.domain"),
    ("srcmac", "source.mac"),
    ("modsrc", "source.nat.ip"),
    ("modsrcport", "source.nat.port"),
    ("srccountry", "source.geo.country_iso_code"),
    ("dstcountry", "destination.geo.country_iso_code"),
    ("clientappid", "network.application"),
    ("serverappid", "network.application"),
    ("risk", "event.risk_score"),
    ("virus", "threat.software.name"),
    ("hash", "file.hash.sha256"),
    ("cnruleid", "tls.server.x509.subject.common_name"),
    ("mailruleid", "rule.id"),
    ("urlruleid", "rule.id"),
    ("cat_site", "url.category"),
)
_TAKEN = (  # by an event; everything else waits in `fields` until somebody asks
    "time", "tz", "fw", "logtype", "user", "src", "srcport", "dst", "dstport", "sent", "rcvd", "ipproto", "action", "msg",
    "error", "alarmid", "op", "arg", "result", "address", "method", "filename",
)  # fmt: skip


def sniff(text: str) -> bool:
    at = text.find(_START)
    return at >= 0 and " fw=" in text and (" logtype=" in text or " tz=" in text or " startime=" in text)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    at = text.find(_START)
    if not sniff(text):
        raise ParseError("no Stormshield log: it lacks id=firewall, fw, or all of logtype, tz and startime")
    named = text.rfind("logtype=")
    kind = text[named + 8 : named + 40].partition(" ")[0].strip('"') if named > at else ""
    log = _SHAPES.read(kind, text, at)
    if log is None:
        log = _SHAPES.learn(kind, text, at)
    if "time" not in log and "fw" not in log:
        raise ParseError("no Stormshield log: it has neither time nor fw")
    return (_event(log, text, at, origin),)


def _event(log: Mapping[str, str], text: str, at: int, origin: Origin) -> Event:
    get = log.get
    kind = get("logtype") or _guessed(log)
    category = _KINDS.get(kind, _NETWORK)
    action: str | None = get("action") or None
    message = get("msg") or None
    types: tuple[str, ...] = ("info",)
    outcome: str | None = None
    service: str | None = None
    path: str | None = None
    source, source_port = get("src") or get("address"), get("srcport")
    if kind in _TRAFFIC:
        refused = action in _REFUSALS
        types = _DENIED if refused else _ALLOWED if action == "pass" else ("connection",)
        if kind == "connection":
            types = (*types, "end")
        outcome = "success"
    elif kind in {"auth", "server", "vpn", "xvpn"}:
        said = (message or "").lower()
        failed = get("error", "0") not in {"0", "", "1" if kind == "vpn" else "0"} or any(w in said for w in _FAILURES)
        outcome = "failure" if failed else "success"
        if kind in {"vpn", "xvpn"}:
            service = "vpn"
            ended = any(
                word in said for word in ("removed", "deleted", "closed", "disconnected", "logged out", "logout")
            )
            types = ("connection", "end") if ended else ("connection", "start")
            if _present(get("user")) and (kind == "xvpn" or "authenti" in said or "logged in" in said):
                category, types = ("authentication", "session"), ("end",) if ended else ("start",)
                action = "logged-out" if ended else "login-failed" if failed else "logged-in"
        elif kind == "auth":
            ended = "logged out" in said or "logout" in said or "disconnected" in said
            types = ("end",) if ended else ("start",)
            action = "logged-out" if ended else "login-failed" if failed else "logged-in"
            service = "vpn" if "vpn" in said or "vpn" in get("method", "").lower() else "firewall"
        elif said.startswith(("login", "auth", "srp", "logged", "logout", "quit")) or "authenti" in said:
            ended = said.startswith(("logout", "quit", "logged out"))
            category, types, service = ("authentication",), ("end",) if ended else ("start",), "firewall"
            action = "logged-out" if ended else "login-failed" if failed else "logged-in"
        else:
            types, action = ("change",), "command"
    status: int | None = None
    operation = get("op")
    if operation in _METHODS:
        status = whole_number(get("result"))
        argument = get("arg", "")
        path = "/" + argument.split("://", 1)[1].partition("/")[2] if "://" in argument else argument
        path = path.partition("?")[0] if path.startswith("/") else None
    elif operation is not None and not action:
        action = operation
    transport = get("ipproto", "").lower()
    return Event(
        _time(log, origin, text),
        NAME,
        f"stormshield.{kind}",
        category,
        types,
        action,
        outcome,
        get("alarmid") or None,
        message,
        _present(get("fw")),
        _present(get("user")),
        None,
        _present(source),
        whole_number(source_port),
        whole_number(get("sent")),
        _present(get("dst")),
        whole_number(get("dstport")),
        whole_number(get("rcvd")),
        _PROTOCOLS.get(transport, transport) or None,
        None,
        None,
        None,
        None,
        None,
        _present(get("filename")) or (_present(get("arg")) if kind == "ftp" else None),
        path,
        status,
        service,
        Lazy(_fields, text, at),
    )


def _guessed(log: Mapping[str, str]) -> str:
    """The log that a line without logtype (from the device's own files) stands in."""
    if "alarmid" in log:
        return "alarm"
    if log.get("op") in _METHODS:
        return "web"
    if "sent" in log and "dst" in log:
        return "connection"
    if "action" in log and "src" in log:
        return "filter"
    if "address" in log:
        return "server"
    return "auth" if "method" in log and "user" in log else "system"


def _fields(text: str, at: int) -> dict[str, Any]:
    """The device's own keys and, beside them, their ECS names."""
    log = pairs(text, at)
    fields: dict[str, Any] = dict(log)
    for key, ecs in _NAMED:
        if (value := log.get(key)) is not None and value not in _ABSENT:
            fields[ecs] = value
    if (
        (duration := log.get("duration", "").replace(".", "", 1)).isdigit()
        and duration.isascii()
        and len(duration) < 16
    ):
        fields["event.duration"] = int(float(log["duration"]) * 1e9)
    if (port := whole_number(log.get("modsrcport"))) is not None:
        fields["source.nat.port"] = port
    if (level := _LEVELS.get(log.get("pri", ""))) is not None:
        fields["log.level"] = level
    if log.get("alarmid") and log.get("msg"):
        fields["rule.name"] = log["msg"]
    if (operation := log.get("op")) in _METHODS:
        fields["http.request.method"] = operation
        argument = log.get("arg", "")
        host = log.get("dstname", "")
        fields["url.original"] = argument
        if "://" in argument:
            host = argument.split("://", 1)[1].partition("/")[0]
        if host:
            fields["url.domain"] = host
        if query := argument.partition("?")[2]:
            fields["url.query"] = query
    return fields


def _time(log: Mapping[str, str], origin: Origin, text: str) -> float:
    stamp = f"{log.get('time', '')}{log.get('tz', '')}"
    at = origin.clock.stamps.get(stamp)
    if at is not None:
        return at
    try:
        at = from_iso(stamp, origin.clock)
    except (ValueError, OverflowError):  # a time that no calendar has must not hide the event
        enveloped = peel(text, origin).timestamp
        return origin.received if enveloped is None else enveloped
    origin.clock.remember(stamp, at)
    return at


def _present(text: str | None) -> str | None:
    return None if text is None or text in _ABSENT else text


_SHAPES = Shapes({key: key for key in _TAKEN})
