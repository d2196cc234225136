"""ProFTPD: logons, sessions and refusals, from its SystemLog or through syslog."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import address_of

NAME = "proftpd"
HEAD_CHARS_MAX = 512  # a header before the program's name

_OWN = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:,\d{1,6})?) (\S{1,255}) proftpd\[(\d{1,10})\]:? ")
_SNIFF = re.compile(r"[ /]proftpd\[\d{1,10}\]:? \S{1,255}[ :]")
_PEER = re.compile(r"(\S{1,255})(?: \(([^()\[\]]{0,255})\[([^()\[\]]{0,64})\]\))?(?: - |: ?)")
_TO = re.compile(r" from (\S{1,255}) \[([^\[\]]{1,64})\] to (\S{1,64}?):(\d{1,5})$")


class Meaning(NamedTuple):
    pattern: re.Pattern[str]  # group 1 is the account, group 2 the reason
    kind: str
    action: str
    category: tuple[str, ...]
    type: tuple[str, ...]
    outcome: str | None


_AUTH = ("authentication",)
_SESSION = ("session",)
MEANINGS: tuple[Meaning, ...] = (
    Meaning(
        re.compile(r"(?:USER|ANON) (.{1,256}?): Login successful()"), "auth", "logon", _AUTH, ("start",), "success"
    ),
    Meaning(
        re.compile(r"USER (.{1,256}?) \(Login failed\): ?(.{0,256})"), "auth", "logon", _AUTH, ("start",), "failure"
    ),
    Meaning(re.compile(r"USER (.{1,256}?): (no such user found)"), "auth", "logon", _AUTH, ("start",), "failure"),
    Meaning(
        re.compile(r"()(SECURITY VIOLATION.{0,256}|Maximum login attempts \(\d{1,6}\) exceeded.{0,128})"),
        "auth",
        "logon",
        _AUTH,
        ("start",),
        "failure",
    ),
    Meaning(
        re.compile(r"()(?:FTP|SSH2|SFTP|FTPS|\S{1,16}) session opened()"),
        "session",
        "session_opened",
        _SESSION,
        ("start",),
        None,
    ),
    Meaning(
        re.compile(r"()(?:FTP|SSH2|SFTP|FTPS|\S{1,16}) session closed()"),
        "session",
        "session_closed",
        _SESSION,
        ("end",),
        None,
    ),
)


def sniff(text: str) -> bool:
    return _OWN.match(text) is not None or _SNIFF.search(text, 0, HEAD_CHARS_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if (own := _OWN.match(text)) is not None:
        host: str | None = own[2]
        pid: int | None = int(own[3])
        message = text[own.end() :]
        try:
            at = from_iso(own[1], origin.clock)
        except (ValueError, OverflowError):
            at = origin.received
    else:
        envelope = peel(text, origin)
        if not envelope.recognised:
            raise ParseError("no line of ProFTPD: neither its own time nor a syslog header in front")
        at = origin.received if envelope.timestamp is None else envelope.timestamp
        host, pid, message = envelope.host, envelope.pid, envelope.message
        if envelope.app is None and message.startswith("proftpd["):  # without the colon that syslog wants
            number, _, message = message[8:].partition("] ")
            pid = int(number) if number.isascii() and number.isdigit() and len(number) <= 10 else None
    return (_event(at, host, pid, message),)


def _event(at: float, host: str | None, pid: int | None, message: str) -> Event:
    fields: dict[str, Any] = {}
    address = None
    said = message
    if (peer := _PEER.match(message)) is not None:
        server, name, where = peer.groups()
        fields["server_name"] = server
        address = address_of(where or "")
        if name and name != where:
            fields["source.domain"] = name
        said = message[peer.end() :]
    found = meaning = None
    for meaning in MEANINGS:
        if (found := meaning.pattern.match(said)) is not None:
            break
    destination, port = None, None
    if (to := _TO.search(said, 0, 1024)) is not None:
        address = address or address_of(to[2])
        destination, port = address_of(to[3]), int(to[4]) if 0 < int(to[4]) < 65_536 else None
    if found is None or meaning is None:
        return Event(
            timestamp=at,
            event_module=NAME,
            event_dataset=f"{NAME}.log",
            event_type=("info",),
            message=message,
            host_name=host,
            source_ip=address,
            process_name=NAME,
            process_pid=pid,
            fields=fields,
        )
    if found[2]:
        fields["event.reason"] = found[2].rstrip(".")
    return Event(
        at,
        NAME,
        f"{NAME}.{meaning.kind}",
        meaning.category,
        event_type=meaning.type,
        event_action=meaning.action,
        event_outcome=meaning.outcome,
        message=message,
        host_name=host,
        user_name=found[1] or None,
        source_ip=address,
        destination_ip=destination,
        destination_port=port,
        process_name=NAME,
        process_pid=pid,
        service_name="ftp",
        fields=fields,
    )
