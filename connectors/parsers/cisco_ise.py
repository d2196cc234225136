"""Cisco ISE (Identity Services Engine) and its forerunner ACS: RADIUS and TACACS+ logons, accounting, guests, administrators,
posture, diagnostics: `CISE_Passed_Authentications 0000083423 1 0 2026-11-24 ...`, whole or in segments.

ISE's own keys stay in `fields`; fields are mapped as Elastic's Cisco ISE integration does. A segment after the first, which is
a line of its own, gives an event with what it states and the number of the message it belongs to.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import is_address, whole_number

NAME = "cisco_ise"

HEAD_CHARS_MAX = 400  # a syslog header before the category
PAIRS_MAX = 1024  # of one line
PORT_MAX = 65_535
REMEMBERED_MAX = 65_536  # verdicts on whether a text is an address

_LINE = re.compile(r"\b(?:CISE|CSCOacs)_([A-Za-z_]{2,64}) (\d{4,16}) (\d{1,4}) (\d{1,4}) {0,2}")
_HEAD = re.compile(
    r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?) ([+-]\d\d:\d\d) (\d{4,16}) (\d{3,6}) ([A-Z]{3,8}) {1,2}([^:,=]{1,64}): ([^,]*)(?:, ?|$)"
)
_HOST = re.compile(r"(?:<\d{1,3}>)?[A-Z][a-z]{2} {1,2}\d{1,2} (?:\d{4} )?\d\d:\d\d:\d\d ([\w.:-]{1,255}) $")


class _Kind(NamedTuple):
    dataset: str
    category: tuple[str, ...]
    types: tuple[str, ...]
    outcome: str | None = None


_LOGON = ("authentication",)
_KINDS: dict[str, _Kind] = {  # by category, in small letters
    "passed_authentications": _Kind("auth", _LOGON, ("start",), "success"),
    "failed_attempts": _Kind("auth", _LOGON, ("start",), "failure"),
    "radius_accounting": _Kind("accounting", ("session",), ("info",)),
    "tacacs_accounting": _Kind("accounting", ("session",), ("info",)),
    "administrative_and_operational_audit": _Kind("audit", ("configuration",), ("info",)),
    "authentication_flow_diagnostics": _Kind("diagnostics", ("iam",), ("info",)),
    "identity_stores_diagnostics": _Kind("diagnostics", ("iam",), ("info",)),
    "policy_diagnostics": _Kind("diagnostics", ("configuration",), ("info",)),
    "radius_diagnostics": _Kind("diagnostics", ("network",), ("info",)),
    "tacacs_diagnostics": _Kind("diagnostics", ("network",), ("info",)),
    "internal_operations_diagnostics": _Kind("diagnostics", ("configuration",), ("info",)),
    "guest": _Kind("guest", ("configuration",), ("info",)),
    "mydevices": _Kind("guest", ("configuration",), ("info",)),
    "posture_and_client_provisioning_audit": _Kind("posture", ("host",), ("info",)),
    "posture_and_client_provisioning_diagnostics": _Kind("posture", ("host",), ("info",)),
    "system_statistics": _Kind("system", ("host",), ("info",)),
    "system_diagnostics": _Kind("system", ("host",), ("info",)),
    "alarm": _Kind("alarm", ("host",), ("info",)),
    "threat_centric_nac": _Kind("threat", ("threat",), ("indicator",)),
}
_OTHER = _Kind("log", ("host",), ("info",))
_NO_LOGON = frozenset(
    {"5239", "5413", "5435", "5440", "5441"}
)  # the NAS was mended, accounting dropped, NAS misbehaves
_ACCOUNTS = {"start": ("start",), "stop": ("end",), "interim-update": ("info",)}
_SERVICES = {"virtual": "vpn", "ethernet": "dot1x", "wireless - ieee 802.11": "wifi", "async": "console"}
_NO_USER = frozenset({"", "INVALID", "USERNAME"})
# The same thing goes by several names; the first that is there counts.
_USER = ("UserName", "User-Name", "AdminName", "User", "Username", "GuestUserName", "OriginalUserName")
_SOURCE = (
    "IpAddress",
    "Framed-IP-Address",
    "Remote-Address",
    "AdminIPAddress",
    "EndpointIPAddress",
    "Calling-Station-ID",
)
_DEVICE = ("Device IP Address", "NAS-IP-Address", "DeviceIPAddress", "NetworkDeviceAddress")
_NAMED = (
    ("Protocol", "network.protocol"),
    ("NetworkDeviceName", "observer.name"),
    ("NAS-IP-Address", "observer.ip"),
    ("NAS-Port-Id", "observer.ingress.interface.name"),
    ("FailureReason", "event.reason"),
    ("AuthorizationPolicyMatchedRule", "rule.name"),
    ("ISEPolicySetName", "rule.ruleset"),
    ("OperationMessageText", "event.reason"),
    ("SelectedAuthorizationProfiles", "cisco_ise.authorization_profile"),
    ("AuthenticationMethod", "cisco_ise.authentication_method"),
    ("AcsSessionID", "cisco_ise.session_id"),
)
_MACS = ("Calling-Station-ID", "EndPointMACAddress", "EndpointMacAddress", "EPMacAddress")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")


def sniff(text: str) -> bool:
    return ("CISE_" in text or "CSCOacs_" in text) and _LINE.search(text, 0, HEAD_CHARS_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = text.find("CISE_", 0, HEAD_CHARS_MAX)
    line = _LINE.search(text, max(begin, 0), HEAD_CHARS_MAX)
    if line is None:
        raise ParseError("no Cisco ISE message: no CISE_category, message number, segments and segment in a row")
    category, number, total, segment = line.groups()
    head = _HEAD.match(text, line.end())
    timestamp: float | None = None
    if head is not None:
        day, time, zone, sequence, code, severity, area, said = head.groups()
        timestamp = _moment(f"{day}T{time}{zone}")
        body = text[head.end() :]
    else:
        sequence = code = severity = area = said = None
        body = text[line.end() :]
    named = _HOST.match(text[: line.start()])
    if named is not None and timestamp is not None:
        host: str | None = named[1]
    else:
        envelope = peel(text[: line.start()] + "-", origin)
        host = named[1] if named is not None else envelope.host or envelope.app
        timestamp = envelope.timestamp if timestamp is None else timestamp
    pairs = [pair.split("=", 1) for pair in body.rstrip(", ").split(", ", PAIRS_MAX)]
    log: dict[str, str] = {pair[0]: pair[1] for pair in reversed(pairs) if len(pair) == 2}  # the first of a name counts
    get = log.get
    kind = _kind(category.lower(), code, area or "", said or "", get("Acct-Status-Type"), bool(head))
    source = _first_address(log, _SOURCE)
    sport = None
    if source is None and (source := _first_address(log, _DEVICE)) is not None:
        sport = _port(get("Device Port"))
    user = _first_user(log)
    destination = get("DestinationIPAddress")
    return (
        Event(
            origin.received if timestamp is None else timestamp,
            NAME,
            f"{NAME}.{kind.dataset}",
            kind.category,
            kind.types,
            None if area is None else area.strip().lower().replace(" ", "-"),
            kind.outcome,
            code,
            said,
            host,
            user,
            None,
            source,
            sport,
            whole_number(get("Acct-Input-Octets")),
            destination if destination is not None and is_address(destination) else None,
            _port(get("DestinationPort")),
            whole_number(get("Acct-Output-Octets")),
            process_command_line=_command(log),
            service_name=_service(log, kind, area or ""),
            fields=Lazy(_fields, pairs, (category, number, total, segment, sequence, severity), host),
        ),
    )


def _kind(category: str, code: str | None, area: str, said: str, accounting: str | None, whole: bool) -> _Kind:
    """What a message is about; only the segment with the message's head tells that somebody logged on."""
    kind = _KINDS.get(category, _OTHER)
    if not whole:
        return kind._replace(types=("info",), outcome=None)
    if kind.category is _LOGON:
        return kind._replace(types=("info",), outcome=None) if code in _NO_LOGON else kind
    low = said.lower()
    if area == "Administrator-Login" or "authenticated" in low or "authentication" in low:
        if kind.dataset == "audit" and ("succe" in low or "fail" in low):
            return kind._replace(category=_LOGON, types=("start",), outcome="success" if "succe" in low else "failure")
    elif kind.dataset == "audit" and area in {"Configuration-Changes", "Administrator"}:
        return kind._replace(types=("change",))
    if kind.dataset == "accounting" and accounting is not None:
        return kind._replace(types=_ACCOUNTS.get(accounting.lower(), ("info",)))
    return kind


def _service(log: dict[str, str], kind: _Kind, area: str) -> str | None:
    if kind.category is not _LOGON and kind.dataset != "accounting":
        return None
    if "AdminName" in log or area == "Administrator-Login":
        return "ssh" if log.get("AdminInterface", "").upper() == "CLI" else "web"
    if area in {"Guest", "MyDevices"}:
        return "guest"
    protocol = log.get("Protocol", "").lower()
    return _SERVICES.get(log.get("NAS-Port-Type", "").lower()) or protocol or None


def _command(log: dict[str, str]) -> str | None:
    """The command of a TACACS+ session: `CmdSet=[ CmdAV=show CmdArgAV=version CmdArgAV=<cr> ]`."""
    stated = log.get("CmdSet") or log.get("CmdAV")
    if not stated:
        return None
    words = stated.strip("[] ").replace("CmdArgAV=", "").replace("CmdAV=", "").replace("<cr>", "").split()
    return " ".join(words) or None


def _fields(
    pairs: list[list[str]], head: tuple[str, str, str, str, str | None, str | None], host: str | None
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    key = ""
    for pair in pairs:
        if len(pair) == 1:  # a comma in a value
            if key and type(fields[key]) is str:
                fields[key] = f"{fields[key]}, {pair[0]}"
            continue
        key = pair[0].strip().replace(".", "_")
        held = fields.get(key)
        if not key:
            continue
        fields[key] = pair[1] if held is None else [*(held if type(held) is list else [held]), pair[1]]
    first = {name: value[0] if type(value) is list else value for name, value in fields.items()}
    category, number, total, segment, sequence, severity = head
    fields["cisco_ise.category"] = category
    fields["cisco_ise.message_id"] = number
    fields["cisco_ise.segments"], fields["cisco_ise.segment"] = int(total), int(segment)
    fields["observer.vendor"] = "Cisco"
    if host is not None:
        fields["observer.hostname"] = host
    if sequence is not None:
        fields["event.sequence"] = int(sequence)
    if severity is not None:
        fields["log.level"] = severity.lower()
    for name, path in _NAMED:
        if value := first.get(name):
            fields[path] = value
    for name in _MACS:
        if _MAC.fullmatch(value := first.get(name, "")) is not None:
            fields["source.mac"] = value.upper().replace(":", "-")
            break
    return fields


@lru_cache(maxsize=4096)
def _moment(stamp: str) -> float | None:
    try:
        at = datetime.fromisoformat(stamp).timestamp()
    except (ValueError, OverflowError):
        return None
    return at if at >= 0 else None


def _first_address(log: dict[str, str], keys: tuple[str, ...]) -> str | None:
    for key in keys:
        if key in log and is_address(log[key]):
            return log[key]
    return None


def _first_user(log: dict[str, str]) -> str | None:
    for key in _USER:
        if key in log and (value := log[key].strip()) and value not in _NO_USER:
            return value
    return None


def _port(text: str | None) -> int | None:
    port = whole_number(text)
    return port if port is not None and port <= PORT_MAX else None
