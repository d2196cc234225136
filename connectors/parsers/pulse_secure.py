"""Pulse / Ivanti Connect Secure (formerly Juniper SA): the VPN gateway's access, admin and event logs over syslog.

Reads the standard format (`2026-05-06 09:59:37 - node - [address] user(realm)[roles] - text`) and WELF (`id=firewall ...`).
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import Log, account, address, flat, number, port, stated, text_of, url_path

NAME = "pulse_secure"

BODY_CHARS_MAX = 8192  # header and names before the text
SEARCHED_CHARS_MAX = 4096  # of the text, in which facts are looked for
_BODY = re.compile(
    r"(\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d) - ([\w.-]{1,128}) - \[([0-9A-Fa-f.:%]{0,64})\] ([^()\[\]]{0,256})\(([^()]{0,256})\)"
    r"\[([^\[\]]{0,4096})\] - "
)
_ZONED = re.compile(r"(?<!\d)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)(?= )")
_PAIR = re.compile(r'(?<![\w.-])([A-Za-z]\w*+)=(?:"([^"]*+)"?+|([^\s"]*+))')
_CODE = re.compile(r"([A-Z]{3}\d{5}): ")
_REQUEST = re.compile(
    r"(?:WebRequest (?:ok|completed|partial)[^,]{0,32}|[A-Z][a-z]{2,15} request), ([A-Z]{3,10}) to (\S{1,4096})"
)
_RESULT = re.compile(r" (result|sent|received)=(\d{1,18})")
_TRAFFIC = re.compile(r"with (\d{1,18}) bytes read .{0,64}?and (\d{1,18}) bytes written")
_TARGET = re.compile(
    r"(?:[Cc]onnect(?:ed|ion) to|[Bb]locked for|denied for) (?:Host:)?([\w.-]{1,255})(?: port |:)(\d{1,5})\b"
)
_ASSIGNED = re.compile(r"IP(?:v4|v6)? address ?([0-9A-Fa-f.:]{2,45})(?:, hostname ([\w.-]{1,255}))?")
_URL = re.compile(r"\(URL=([^()\s]{1,4096})\)")
_REASON = re.compile(r"[Rr]eason: ?(.{1,256}?)\.?$")
_POLICY = re.compile(r"policy '([^']{1,256})'")

Meaning = tuple[str, tuple[str, ...], tuple[str, ...], str | None, str | None]
_AUTH, _NETWORK, _SESSION = ("authentication",), ("network",), ("session",)
# What the text says, in small letters, the most telling first -> kind, category, type, action, outcome.
_SAID: tuple[tuple[str, Meaning], ...] = (
    ("login succeeded", ("auth", _AUTH, ("start",), "login", "success")),
    ("login failed", ("auth", _AUTH, ("start", "denied"), "login", "failure")),
    ("primary authentication successful", ("auth", _AUTH, ("info",), "primary-authentication", "success")),
    ("primary authentication failed", ("auth", _AUTH, ("info",), "primary-authentication", "failure")),
    ("secondary authentication successful", ("auth", _AUTH, ("info",), "secondary-authentication", "success")),
    ("secondary authentication failed", ("auth", _AUTH, ("info",), "secondary-authentication", "failure")),
    ("logout from", ("auth", _AUTH, ("end",), "logout", "success")),
    ("logged out", ("auth", _AUTH, ("end",), "logout", "success")),
    ("account lock", ("auth", _AUTH, ("info",), "account-locked", "failure")),
    ("session timed out", ("session", _SESSION, ("end",), "session-timeout", None)),
    ("max session timeout", ("session", _SESSION, ("end",), "session-timeout", None)),
    ("session has been terminated", ("session", _SESSION, ("end",), "session-end", None)),
    ("session resumed", ("session", _SESSION, ("info",), "session-resume", None)),
    ("remote address for user", ("session", _SESSION, ("change",), "address-change", None)),
    ("realm restrictions successfully passed", ("access", _AUTH, ("info",), "realm-restrictions", "success")),
    ("realm restrictions failed", ("access", _AUTH, ("info",), "realm-restrictions", "failure")),
    ("not authenticated yet", ("access", ("web",), ("access",), "connection", None)),
    ("denied access", ("access", _AUTH, ("info", "denied"), "access-denied", "failure")),
    ("session started for user", ("vpn", _NETWORK, ("connection", "start"), "tunnel-start", "success")),
    ("session ended for user", ("vpn", _NETWORK, ("connection", "end"), "tunnel-end", "success")),
    ("transport mode", ("vpn", _NETWORK, ("connection", "info"), "tunnel-transport", None)),
    ("acl count", ("vpn", _NETWORK, ("info",), "tunnel-acl", None)),
    ("key exchange number", ("vpn", _NETWORK, ("connection", "info"), "key-exchange", None)),
    ("closed connection to", ("traffic", _NETWORK, ("connection", "end"), "connection-end", None)),
    ("connected to", ("traffic", _NETWORK, ("connection", "start"), "connection-start", None)),
    ("access blocked", ("traffic", _NETWORK, ("connection", "denied"), "blocked", "failure")),
    ("webrequest", ("web", ("web",), ("access",), "web-request", None)),
    ("host checker policy", ("compliance", ("host",), ("info",), "host-check", None)),
    ("administrator", ("admin", ("configuration",), ("change",), None, None)),
)
_SYSTEM: Meaning = ("system", ("host",), ("info",), None, None)


def sniff(text: str) -> bool:
    if "] - " in text and _BODY.search(text, 0, BODY_CHARS_MAX) is not None:
        return True
    return "id=firewall" in text and " vpn=" in text and " realm=" in text and " roles=" in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    body = _BODY.search(text, 0, BODY_CHARS_MAX)
    if body is not None:
        shown, node, source, user, realm, roles = body.groups()
        log: Log = {"node": node, "user": user, "realm": realm, "roles": roles, "msg": text[body.end() :].rstrip()}
        return (_event(log, _time(text, body.start(), shown, origin), source),)
    at = text.find("id=firewall")
    if at < 0 or " vpn=" not in text:
        raise ParseError("no Connect Secure log: neither its standard format nor WELF")
    log = {key: quoted or plain for key, quoted, plain in _PAIR.findall(text, at)}
    log["node"] = log.get("vpn") or log.get("fw", "")
    return (_event(log, _time(text, at, log.get("time", ""), origin), log.get("src", "")),)


def _event(log: Log, at: float, source: str) -> Event:
    message: str = log.get("msg", "")
    told = message[:SEARCHED_CHARS_MAX]
    low = told.lower()
    kind, category, types, action, outcome = next((meaning for said, meaning in _SAID if said in low), _SYSTEM)
    if kind == "compliance":
        outcome = "success" if " passed" in low else "failure" if " failed" in low else None
    code = _CODE.match(message)
    who = log.get("user", "").rpartition("::")[2]
    user, domain = account(who) if "\\" in who else (who, None)
    sent, received = number(log.get("sent")), number(log.get("rcvd"))
    if " bytes read " in told and (traffic := _TRAFFIC.search(told)) is not None:
        sent, received = int(traffic[1]), int(traffic[2])
    target = _TARGET.search(told) if kind == "traffic" else None
    url, status = text_of(log.get("arg")) if kind == "web" else None, None
    if " to " in told and (request := _REQUEST.search(told)) is not None:
        url = request[2]
        said = {key: int(value) for key, value in _RESULT.findall(told)}
        status, sent, received = said.get("result"), said.get("sent", sent), said.get("received", received)
    elif "(URL=" in told and (shown := _URL.search(told)) is not None:
        url = shown[1]
    transport = (log.get("proto") or "").lower()
    return Event(
        at,
        NAME,
        f"pulse_secure.{kind}",
        category,
        types,
        action or (text_of(log.get("op")) if "op" in log else None),
        outcome,
        None if code is None else code[1],
        message or None,
        text_of(log.get("node")),
        user or None,
        domain,
        address(source),
        None,
        sent,
        address(target[1]) if target is not None else address(log.get("dst")),
        port(target[2]) if target is not None else port(log.get("dstport")),
        received,
        transport if transport in {"tcp", "udp", "icmp"} else None,
        url_path=None if url is None else url_path(url),
        http_response_status_code=status if status is not None else number(log.get("result")),
        service_name="vpn" if category is _AUTH or kind == "vpn" else None,
        fields=Lazy(_fields, log, message, url),
    )


def _time(text: str, begin: int, shown: str, origin: Origin) -> float:
    """The header's time where it states its zone, else that of the body, which is local to the gateway."""
    if begin > 0 and (zoned := _ZONED.search(text, 0, begin)) is not None:
        try:
            return from_iso(zoned[0], origin.clock)
        except ValueError:
            pass
    known = origin.clock.stamps.get(shown)
    if known is not None:
        return known
    try:
        at = from_iso(shown, origin.clock)
    except ValueError:
        stamp = peel(text, origin).timestamp if begin > 0 else None
        return origin.received if stamp is None else stamp
    origin.clock.remember(shown, at)
    return at


def _fields(log: Log, message: str, url: str | None) -> Log:
    fields: dict[str, Any] = flat(log, NAME)
    told = message[:SEARCHED_CHARS_MAX]
    assigned, reason, policy = _ASSIGNED.search(told), _REASON.search(told), _POLICY.search(told)
    request = _REQUEST.search(told)
    roles = [role for part in str(log.get("roles", "")).split(",") if (role := part.strip())]
    return fields | stated(
        user__roles=roles,
        user__group__name=text_of(log.get("realm")),
        source__nat__ip=None if assigned is None else address(assigned[1]),
        client__domain=None if assigned is None else assigned[2],
        event__reason=None if reason is None else reason[1],
        rule__name=None if policy is None else policy[1],
        url__original=url,
        http__request__method=None if request is None else request[1],
        user_agent__original=text_of(log.get("agent")),
        observer__name=text_of(log.get("node")),
        observer__vendor="Ivanti",
        event__duration=None if (lasted := number(log.get("duration"))) is None else lasted * 1_000_000_000,
    )
