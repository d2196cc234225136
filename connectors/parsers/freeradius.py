"""FreeRADIUS: logons accepted and refused, refused clients, home servers and the rest of radius.log, file or syslog.

A password that the server was told to log (`auth_badpass`, `auth_goodpass`) is left out of the event.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import MONTHS
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError

NAME = "freeradius"

_KINDS = "Auth|Info|ERROR|Error|Warning|Warn|Proxy|Debug|Acct|Notice|Fatal"
_SNIFF = re.compile(
    r"(?:^|[ />])(?:radiusd|freeradius)(?:\[\d{1,10}\]: |: | \d{1,10} - )"
    rf"|(?:[A-Z][a-z]{{2}} ){{2}}[ \d]\d \d\d:\d\d:\d\d \d{{4}} : (?:{_KINDS}): "
)
_OWN = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4}) : ")
_LEAD = re.compile(rf"(?:({_KINDS}): )?(?:\((\d{{1,12}})\) {{1,8}})?")
_WORDS = ("Login OK", "Login incorrect", "Invalid user", "Multiple logins", "rlm_")
_CLIENT = re.compile(
    r"\] \(from client (\S{1,256}) port (\S{1,32})(?: cli ([^()\s]{1,256}))?( via TLS tunnel)?\)(?: ?(.*))?", re.DOTALL
)
_OPENING = {False: re.compile(r" ?: \["), True: re.compile(r"\) ?: \[")}  # of the name; True: behind a reason
_UNKNOWN_CLIENT = re.compile(
    r"Ignoring request to (\S{1,16}) (?:address|proto \S{1,64} address)? ?(\S{1,64}) port (\d{1,5})(?: bound to server \S{1,64})? from unknown client (\S{1,64})"
    r"(?: port (\d{1,5}))?(?: proto (\w{1,8}))?"
)
_FROM = re.compile(r"from (?:client |host )?\S{0,256}?([0-9A-Fa-f]{0,4}[.:][0-9A-Fa-f.:]{2,42})(?: port (\d{1,5}))?")
_HOME = re.compile(r"home server ([0-9A-Fa-f:]{0,39}[.:][0-9A-Fa-f.:]{1,39}) port (\d{1,5})")
_ADDRESS = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[0-9A-Fa-f:]{0,35}::[0-9A-Fa-f:.]{0,39}"
)
_MAC = re.compile(r"([0-9A-Fa-f]{2})[:.-]?([0-9A-Fa-f]{2})[:.-]?" * 3)
_METHOD = re.compile(r"<via Auth-Type = ([^>]{0,64})>")

_LEVELS = frozenset({"Info", "ERROR", "Error", "Warning", "Warn", "Debug", "Notice", "Fatal"})
_AUTHENTICATION: tuple[str, ...] = ("authentication",)
_NETWORK: tuple[str, ...] = ("network",)
_INFO: tuple[str, ...] = ("info",)
_NONE: tuple[str, ...] = ()
_FAILED: tuple[str, ...] = ("start", "denied")
_OUTER: tuple[str, ...] = ("start",)


def sniff(text: str) -> bool:
    if text[4:5] == ":":  # a Sophos UTM, with times of its own
        return False
    return _SNIFF.match(text) is not None or ("radius" in text[:300] and _SNIFF.search(text, 0, 320) is not None)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    host = pid = None
    program = "radiusd"
    own = _OWN.match(text)
    if own is not None:
        at = _moment(own, origin)
        message = text[own.end() :]
    else:
        envelope = peel(text, origin)
        app = envelope.app.rpartition("/")[2] if envelope.app is not None else None
        if app not in {"radiusd", NAME}:
            raise ParseError("no line of FreeRADIUS: neither its log's time nor its name in syslog")
        at, host, pid, message, program = envelope.timestamp, envelope.host, envelope.pid, envelope.message, app
        if (own := _OWN.match(message)) is not None:
            at, message = _moment(own, origin), message[own.end() :]
    if at is None:
        at = origin.received
    lead = _LEAD.match(message)
    kind, number = lead.groups() if lead is not None else (None, None)
    said = message[lead.end() :] if lead is not None else message
    fields: dict[str, Any] = {}
    if number:
        fields["freeradius.request"] = number
    if kind:
        fields["freeradius.log_type"] = kind
        if kind in _LEVELS:
            fields["log.level"] = kind.lower()
    if said.startswith(_WORDS) and (logon := _logon(said, message, at, host, program, pid, fields)) is not None:
        return (logon,)
    return (_other(said, message, at, host, program, pid, fields),)


def _logon(
    said: str, message: str, at: float, host: str | None, program: str, pid: int | None, fields: dict[str, Any]
) -> Event | None:
    """`Login incorrect (reason): [user] (from client nas port 1 cli station)`."""
    end = said.rfind("] (from client ")  # the last: a user name made to look like it must not move what follows
    rest = _CLIENT.fullmatch(said, max(end, 0))
    word = next((word for word in _WORDS if said.startswith(word)), "")
    reasoned = said.startswith(" (", len(word))
    opening = _OPENING[reasoned].search(said, len(word), max(end, 0))
    if rest is None or opening is None:
        return None
    client, port, station, tunnel, after = rest.groups()
    reason = said[len(word) + 2 : opening.start()] if reasoned else ""
    named = said[opening.end() : end]
    user, secret, method = _user(named)
    if secret:
        begin = message.find(f"[{named}]")
        message = f"{message[:begin]}[{user}/***]{message[begin + len(named) + 2 :]}"
    if method:
        fields["freeradius.auth_type"] = method
    if reason:
        fields["event.reason"] = reason
    elif after and word != "Login OK":
        fields["event.reason"] = after.strip()
    if tunnel:
        fields["freeradius.tunnel"] = True
    fields["observer.name"] = client
    if _ADDRESS.fullmatch(client):
        fields["observer.ip"] = client
    fields["freeradius.nas_port"] = port
    source = None
    if station is not None:
        if (hardware := _MAC.match(station)) is not None:  # a network's name may follow
            fields["source.mac"] = "-".join(hardware.groups()).upper()
        elif _ADDRESS.fullmatch(station):
            source = station
        else:
            fields["source.address"] = station
    accepted = word == "Login OK"
    user, domain = _without_domain(user)
    return Event(
        at, NAME, "freeradius.auth", _AUTHENTICATION, _OUTER if accepted else _FAILED, word.lower().replace(" ", "-")[:32],
        "success" if accepted else "failure", None, message, host, user or None, domain, source, process_name=program,
        process_pid=pid, service_name="radius", fields=fields,
    )  # fmt: skip


def _user(named: str) -> tuple[str, bool, str | None]:
    """The user name of `name`, `name/password` or `name/<via Auth-Type = EAP>`, whether a password follows, the method."""
    lead = "host/" if named.startswith("host/") else ""  # a computer's own logon
    name, slash, rest = named[len(lead) :].partition("/")
    method = _METHOD.fullmatch(rest)
    if method is not None:
        return lead + name, False, method[1]
    return lead + name, slash != "" and rest not in {"<no User-Password attribute>", "<CHAP-Password>"}, None


def _without_domain(user: str) -> tuple[str, str | None]:
    domain, backslash, name = user.replace("\\\\", "\\").partition("\\")
    return (name, domain or None) if backslash and name else (user, None)


def _other(
    said: str, message: str, at: float, host: str | None, program: str, pid: int | None, fields: dict[str, Any]
) -> Event:
    source = server = None
    port = server_port = transport = action = outcome = None
    dataset, category, types = "server", _NONE, _INFO
    if (unknown := _UNKNOWN_CLIENT.match(said)) is not None:
        fields["freeradius.listener"], server, server_port, source, port, transport = unknown.groups()
        server = None if server == "*" else server
        dataset, category, action, outcome = "client", _NETWORK, "unknown-client", "failure"
        types = ("connection", "denied")
    elif (home := _HOME.search(said)) is not None:
        server, server_port = home.groups()
        dataset, category, action = "proxy", _NETWORK, "home-server"
    elif (origin_of := _FROM.search(said)) is not None and _ADDRESS.fullmatch(origin_of[1]):
        source, port = origin_of.groups()
        dataset, category = "client", _NETWORK
        outcome = "failure"
    if outcome is None and fields.get("log.level") in {"error", "fatal"}:
        outcome = "failure"
    return Event(
        at,
        NAME,
        f"freeradius.{dataset}",
        category,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        message=message,
        host_name=host,
        source_ip=source,
        source_port=int(port) if port else None,
        destination_ip=server,
        destination_port=int(server_port) if server_port else None,
        network_transport=transport,
        process_name=program,
        process_pid=pid,
        fields=fields,
    )


def _moment(own: re.Match[str], origin: Origin) -> float | None:
    """Seconds since the epoch of the log's own time; None if no calendar has it."""
    clock = origin.clock
    at = clock.stamps.get(own[0])
    if at is not None:
        return at
    month, day, hour, minute, second, year = own.groups()
    try:
        at = clock.local(int(year), MONTHS.get(month.lower(), 0), int(day), int(hour), int(minute), int(second))
    except (ValueError, OverflowError):
        return None
    clock.remember(own[0], at)
    return at
