"""Sophos UTM 9 (Astaro): packet filter, web proxy, web application firewall, logons, intrusion prevention, VPN, mail.

Its time is `2026:11:24-07:30:05`, with or without a syslog envelope in front; most programs write key="value", the rest
plain text, of which the addresses and users are taken.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.keyvalue import pairs
from connectors.values import TRANSPORTS, whole_number

NAME = "sophos_utm"

HEAD_MAX = 300  # characters in front of the device's own time
_TIME = re.compile(r"(?<![\d:.-])(\d\d\d\d):(\d{1,2}):(\d{1,2})-(\d\d:\d\d:\d\d) ")
_HEAD = re.compile(
    r"(?:(?![\w./-]{1,64}+(?:\[\d{1,10}+\])?+:)([^\s:\[\]]{1,255}+) )?+([\w./() -]{1,64}+)(?:\[(\d{1,10})\])?+: ?+"
)
_PAIRS = re.compile(r' ([A-Za-z][\w.-]*+)="([^"]*+)"')
_CLIENT = re.compile(r"\[client ([^\s\]:]+|[0-9A-Fa-f:.]+?)(?::(\d{1,5}))?\]")
_PEER = re.compile(
    r"(?:from|client|to) (?:::ffff:)?(\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?: port |[:#])?(\d{1,5})?"
)
_SSHD = re.compile(r"(Accepted|Failed) (\S+) for (?:invalid user )?(.{0,128}?) from (\S+) port (\d{1,5})")
_VPN_PEER = re.compile(r"(?:(\S+?)/)?(\d{1,3}(?:\.\d{1,3}){3}):(\d{1,5}) ")
_ABSENT = {"", "-", "N/A", "unknown"}

_REFUSALS = {"drop", "reject", "block", "deny", "denied", "blocked"}
_ALLOWED, _DENIED = ("connection", "allowed"), ("connection", "denied")
# sub of a log -> kind, category
_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "packetfilter": ("packetfilter", ("network",)),
    "ips": ("ips", ("intrusion_detection", "network")),
    "http": ("http", ("web", "network")),
    "reverseproxy": ("waf", ("web", "network")),
    "auth": ("auth", ("authentication",)),
    "vpn": ("vpn", ("network", "session")),
    "smtp": ("smtp", ("email", "network")),
    "pop3": ("smtp", ("email", "network")),
    "confd": ("confd", ("configuration",)),
    "atp": ("atp", ("intrusion_detection", "network")),
}
_PROGRAMS = {  # program -> sub, for lines that state none
    "ulogd": "packetfilter",
    "httpproxy": "http",
    "reverseproxy": "reverseproxy",
    "aua": "auth",
    "snort": "ips",
    "barnyard": "ips",
    "openvpn": "vpn",
    "pluto": "vpn",
    "xl2tpd": "vpn",
    "pppd": "vpn",
    "pptpd": "vpn",
    "smtpd": "smtp",
    "exim": "smtp",
    "exim-in": "smtp",
    "exim-out": "smtp",
    "pop3proxy": "pop3",
    "confd": "confd",
    "confd-sync": "confd",
    "afcd": "atp",
}
_SERVICES = {  # who asks for a logon -> what it is for
    "webadmin": "web",
    "portal": "web",
    "http": "proxy",
    "ipsec": "vpn",
    "openvpn": "vpn",
    "pptp": "vpn",
    "l2tp": "vpn",
    "sshd": "ssh",
    "ssh": "ssh",
    "reverseproxy": "web",
    "smtp": "mail",
}
_NAMED = (  # native key -> ECS path, copied as it is
    ("fwrule", "rule.id"),
    ("sid", "rule.id"),
    ("reason", "event.reason"),
    ("initf", "observer.ingress.interface.name"),
    ("outitf", "observer.egress.interface.name"),
    ("application", "network.application"),
    ("method", "http.request.method"),
    ("referer", "http.request.referrer"),
    ("ua", "user_agent.original"),
    ("filename", "file.name"),
    ("group", "group.name"),
    ("from", "email.from.address"),
    ("to", "email.to.address"),
    ("subject", "email.subject"),
    ("virtual_ip", "source.nat.ip"),
    ("severity", "log.level"),
)
_Texts = dict[str, str]


def sniff(text: str) -> bool:
    return "-" in text[:HEAD_MAX] and _TIME.search(text, 0, HEAD_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    stamp = _TIME.search(text, 0, HEAD_MAX)
    head = _HEAD.match(text, stamp.end()) if stamp is not None else None
    if stamp is None or head is None:
        raise ParseError("no Sophos UTM log: no time like 2026:11:24-07:30:05, or no program after it")
    host, program, pid = head.groups()
    message = text[head.end() :]
    begin = head.end() - 1
    log = _read(text, begin) if "id=" in message and " severity=" in message else {}
    sub = log.get("sub", "")
    if sub not in _KINDS:
        sub = _PROGRAMS.get(program, sub)
    kind, category = _KINDS.get(sub, ("system", ("host",)))
    at = _moment(stamp, origin)
    about = (at, host or _relayed(text, stamp.start(), origin), program, int(pid) if pid else None)
    if not log:
        return (_text(message, kind, category, about),)
    return (_event(log, message, kind, category, about, Lazy(_fields, text, begin)),)


_About = tuple[float, str | None, str, int | None]  # time, host, program, its pid


def _read(text: str, begin: int) -> _Texts:
    """The keys and values that stand in a line from a blank on; all programs but odd ones quote every value."""
    return dict(_PAIRS.findall(text, begin)) or pairs(text, begin)


def _event(
    log: _Texts, message: str, kind: str, category: tuple[str, ...], about: _About, fields: Mapping[str, Any]
) -> Event:
    """The event of a line of key="value"."""
    get = log.get
    said = get("name") or get("event") or ""
    action: str | None = get("action") or said.lower() or None
    user = get("user") or get("username")
    types: tuple[str, ...] = ("info",)
    outcome: str | None = None
    service: str | None = None
    status = whole_number(get("statuscode"))
    if kind in {"packetfilter", "ips", "atp"}:
        types = _DENIED if action in _REFUSALS else _ALLOWED if action == "accept" else ("connection", "info")
        outcome = "success"
    elif kind in {"http", "waf"}:
        refused = action in _REFUSALS or bool(get("reason"))
        if kind == "waf":
            action = "block" if refused or status == 403 else "pass"
            refused = action == "block"
        types = ("access", "denied") if refused else ("access", "allowed")
        outcome = "failure" if refused or (status or 0) >= 400 else "success"
    elif kind == "auth":
        success = "success" in said
        if success or "fail" in said or get("reason"):
            types, outcome = ("start",), "success" if success else "failure"
            action = "logged-in" if success else "login-failed"
            service = _SERVICES.get(get("caller", ""), get("caller") or "firewall")
    elif kind == "vpn":
        ended = "terminated" in said or "down" in said
        types = ("connection", "end" if ended else "start")
        outcome = "failure" if "fail" in said else "success"
        service = "vpn"
        if user and not ended and "started" in said:
            category = ("authentication", "session")
            types = ("start",)
    elif kind == "smtp":
        types = ("denied",) if {"rejected", "quarantined", "dropped"} & set(said.split()) else ("allowed",)
    elif kind == "confd":
        types = ("change",) if "chang" in said or "creat" in said or "delet" in said else ("info",)
        if "authentication" in said:
            category, types, service = ("authentication",), ("start",), _SERVICES.get(get("facility", ""), "web")
            outcome = "success" if "success" in said else "failure"
    url = get("url")
    transport = get("proto", "")
    at, host, program, pid = about
    return Event(
        at,
        NAME,
        f"sophos_utm.{kind}",
        category,
        types,
        action,
        outcome,
        get("id") or None,
        said or message,
        host,
        _present(user),
        _present(get("ad_domain")),
        _present(get("srcip") or get("address")),
        whole_number(get("srcport")),
        whole_number(get("rx")),
        _present(get("dstip") or get("localip")),
        whole_number(get("dstport")),
        whole_number(get("size") or get("tx")) if kind != "smtp" else None,
        TRANSPORTS.get(transport, transport.lower()) or None,
        program,
        pid,
        None,
        None,
        None,
        None,
        _path(url) if url else None,
        status,
        service,
        fields,
    )


def _text(message: str, kind: str, category: tuple[str, ...], about: _About) -> Event:
    """The event of a line of plain text: who it was about, as far as it says so."""
    at, host, program, pid = about
    types: tuple[str, ...] = ("info",)
    action = outcome = user = address = port = service = None
    if program == "sshd" and (logon := _SSHD.search(message)) is not None:
        category, types, kind, service = ("authentication",), ("start",), "auth", "ssh"
        outcome = "success" if logon[1] == "Accepted" else "failure"
        action = "logged-in" if outcome == "success" else "login-failed"
        user, address, port = logon[3], logon[4], logon[5]
    elif program == "openvpn" and (peer := _VPN_PEER.match(message)) is not None:
        user, address, port = peer.groups()
        if "AUTH_FAILED" in message or "auth failed" in message:
            category, types, outcome, service = ("authentication",), ("start",), "failure", "vpn"
            action = "login-failed"
    elif (client := _CLIENT.search(message, 0, 1024) or _PEER.search(message, 0, 1024)) is not None:
        address, port = client.groups()
        if not address[:1].isdigit() and ":" not in address:
            address = port = None
    return Event(
        at,
        NAME,
        f"sophos_utm.{kind}",
        category,
        types,
        action,
        outcome,
        None,
        message,
        host,
        _present(user),
        None,
        address,
        whole_number(port),
        process_name=program,
        process_pid=pid,
        service_name=service,
    )


def _fields(text: str, begin: int) -> dict[str, Any]:
    """The device's own keys and, beside them, their ECS names."""
    log = _read(text, begin)
    fields: dict[str, Any] = dict(log)
    for key, ecs in _NAMED:
        if (value := log.get(key)) is not None and value not in _ABSENT:
            fields[ecs] = value
    for key, ecs in (("srcmac", "source.mac"), ("dstmac", "destination.mac")):
        if key in log:
            fields[ecs] = log[key].upper().replace(":", "-")
    if log.get("tcpflags"):
        fields["tcpflags"] = log["tcpflags"].split()
    if url := log.get("url"):
        fields["url.original"] = url
        rest, mark, query = url.partition("?")
        if mark:
            fields["url.query"] = query
        if "://" in rest:
            fields["url.domain"] = rest.split("://", 1)[1].partition("/")[0]
    return fields


def _relayed(text: str, end: int, origin: Origin) -> str | None:
    """The host in the envelope that a relay put in front of the device's own time."""
    return peel(text[:end] + "- -", origin).host if end > len("<191>") else None


def _path(url: str) -> str | None:
    if "://" in url:
        return "/" + url.split("://", 1)[1].partition("/")[2].partition("?")[0]
    return url.partition("?")[0] if url.startswith("/") else None


def _present(text: str | None) -> str | None:
    return None if text is None or text in _ABSENT else text


def _moment(stamp: re.Match[str], origin: Origin) -> float:
    text = stamp[0]
    at = origin.clock.stamps.get(text)
    if at is not None:
        return at
    year, month, day, time = stamp.groups()
    try:
        at = from_iso(f"{year}-{month:0>2}-{day:0>2}T{time}", origin.clock)
    except ValueError:  # a time that no calendar has must not hide the event
        return origin.received
    origin.clock.remember(text, at)
    return at
