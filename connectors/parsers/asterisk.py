"""Asterisk: its security events and the refusals of registrations and calls, from the log file or through syslog."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from connectors.clock import MONTHS, from_iso
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import whole_number

NAME = "asterisk"
HEAD_CHARS_MAX = 512  # a syslog header
PAIRS_MAX = 64

_STAMP = r"\[(?:(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[+-]\d{4})?)|([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d))\] "
_BODY = r"(NOTICE|WARNING|ERROR|SECURITY|VERBOSE|DEBUG|DTMF|FAX)\[(\d{1,10})\](?:\[(C-[0-9a-f]{4,16})\])?:? (?:\[C-[0-9a-f]{4,16}\] )?"
_LINE = re.compile(_STAMP + _BODY)
_MESSAGE = re.compile(_BODY)
_PLACE = re.compile(r"([\w./-]{1,64}\.(?:c|lua|h|cc)):? ?(?:(\d{1,7}):? )?(?:(?:in )?(\w{1,128}): )?")
_PAIR = re.compile(r"(?<!\w)(\w{1,64}+)=\"([^\"]*+)\"")
_REMOTE = re.compile(r"IPV[46]/(\w{1,8})/(.{2,64}?)/(\d{1,5})")
_REGISTRATION = re.compile(
    r"(?:Request '\w{1,20}' from|Registration from) '?(.{0,256}?)'? failed for '([^']{1,100})' (?:\(callid: [^()]{0,200}\) )?- (.{1,200})"
)
_SIP_USER = re.compile(r"sips?:([^@;>\s]{1,128})@")
_CALL = re.compile(r"Call from '([^']{0,128})' \(([^()]{2,64}?):(\d{1,5})\) to extension '([^']{0,128})' rejected")
_HOST_FAILED = re.compile(
    r"Host (\S{2,64}) failed to authenticate(?: as '([^']{1,128})')?|(?:No registration for peer|Failed to authenticate (?:user|device)) '?([^'\s]{1,128})"
)

_FAILURES = frozenset(
    (
        "InvalidAccountID", "InvalidPassword", "ChallengeResponseFailed", "FailedACL", "AuthMethodNotAllowed", "UnexpectedAddress",
        "RequestNotAllowed", "RequestNotSupported", "RequestBadFormat", "SessionLimit", "LoadAverageLimit", "MemoryLimit",
        "InvalidTransport",
    )
)  # fmt: skip
_LOGONS = frozenset(
    (
        "InvalidAccountID",
        "InvalidPassword",
        "ChallengeResponseFailed",
        "SuccessfulAuth",
        "FailedACL",
        "AuthMethodNotAllowed",
        "UnexpectedAddress",
    )
)


def sniff(text: str) -> bool:
    return _LINE.match(text) is not None or (
        " asterisk[" in text[:HEAD_CHARS_MAX] and _MESSAGE.search(text, 0, HEAD_CHARS_MAX) is not None
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if (line := _LINE.match(text)) is not None:
        iso, *date, level, pid, call = line.groups()
        return (_event(_time(iso, date, origin), None, level, int(pid), call, text[line.end() :]),)
    envelope = peel(text, origin)
    if not envelope.recognised:
        raise ParseError("no line of Asterisk: no time in brackets with a level behind it, no syslog header")
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    message = envelope.message
    match = _MESSAGE.match(message)
    if match is None:
        return (_event(at, envelope.host, "LOG", envelope.pid, None, message),)
    level, _, call = match.groups()
    return (_event(at, envelope.host, level, envelope.pid, call, message[match.end() :]),)


def _event(at: float, host: str | None, level: str, pid: int | None, call: str | None, message: str) -> Event:
    fields: dict[str, Any] = {"log.level": level.lower()}
    if call is not None:
        fields["call_id"] = call
    if (place := _PLACE.match(message)) is not None:
        fields["source_file"] = place[1]
        message = message[place.end() :]
    if message.startswith("SecurityEvent="):
        return _security(at, host, pid, message, fields)
    kind, action, outcome, user, source, port = "log", None, None, None, None, None
    category: tuple[str, ...] = ()
    types: tuple[str, ...] = ("info",)
    if " failed for '" in message and (failed := _REGISTRATION.search(message, 0, 2048)) is not None:
        kind, category, types, action, outcome = "auth", ("authentication",), ("start",), "registration", "failure"
        account = _SIP_USER.search(failed[1])
        user = account[1] if account is not None else None
        source, port = _end(failed[2])
        fields["event.reason"] = failed[3]
    elif "Call from '" in message and (refused := _CALL.search(message, 0, 2048)) is not None:
        kind, category, types, action, outcome = "call", ("network",), ("connection", "denied"), "call", "failure"
        user, source, port = refused[1] or None, _address(refused[2]), _port(refused[3])
        fields["extension"] = refused[4]
    elif (host_failed := _HOST_FAILED.search(message, 0, 2048)) is not None:
        kind, category, types, action, outcome = "auth", ("authentication",), ("start",), "logon", "failure"
        source, user = _address(host_failed[1] or ""), host_failed[2] or host_failed[3]
    return Event(
        at,
        NAME,
        event_dataset=f"{NAME}.{kind}",
        event_category=category,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        message=message or None,
        host_name=host,
        user_name=user,
        source_ip=source,
        source_port=port,
        process_name=NAME,
        process_pid=pid,
        service_name="sip" if kind == "auth" else None,
        fields=fields,
    )


def _security(at: float, host: str | None, pid: int | None, message: str, fields: dict[str, Any]) -> Event:
    pairs = dict(_PAIR.findall(message)[:PAIRS_MAX])
    get = pairs.get
    action = get("SecurityEvent", "")
    logon = action in _LOGONS
    fields.update(pairs)
    source = source_port = destination = destination_port = transport = None
    if (remote := _REMOTE.fullmatch(get("RemoteAddress", ""))) is not None:
        protocol = remote[1].lower()
        transport = protocol if protocol in ("udp", "tcp") else "tcp" if protocol in ("tls", "ws", "wss") else None
        source, source_port = _address(remote[2]), _port(remote[3])
    if (local := _REMOTE.fullmatch(get("LocalAddress", ""))) is not None:
        destination, destination_port = _address(local[2]), _port(local[3])
    return Event(
        at,
        NAME,
        f"{NAME}.{'auth' if logon else 'security'}",
        ("authentication",) if logon else ("network",),
        ("start",) if logon else ("connection", "denied") if action in _FAILURES else ("info",),
        action,
        "failure" if action in _FAILURES else "success" if action == "SuccessfulAuth" else None,
        None,
        message,
        host,
        user_name=get("AccountID") or None,
        source_ip=source,
        source_port=source_port,
        destination_ip=destination,
        destination_port=destination_port,
        network_transport=transport,
        process_name=NAME,
        process_pid=pid,
        service_name=(get("Service") or "sip").lower() if logon else None,
        fields=fields,
    )


def _time(iso: str | None, date: Sequence[str | Any], origin: Origin) -> float:
    try:
        if iso is not None:
            return from_iso(iso, origin.clock)
        month, day, hour, minute, second = date
        if (number := MONTHS.get(month.lower())) is not None:
            return origin.clock.yearless(number, int(day), int(hour), int(minute), int(second), origin.received)
    except (ValueError, OverflowError):
        pass
    return origin.received


def _end(text: str) -> tuple[str | None, int | None]:
    where, _, number = text.rpartition(":")
    if where and (address := _address(where)) is not None:
        return address, _port(number)
    return _address(text), None


def _port(text: str) -> int | None:
    number = whole_number(text)
    return number if number is not None and 0 < number < 65_536 else None


@lru_cache(maxsize=65_536)
def _address(text: str) -> str | None:
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
