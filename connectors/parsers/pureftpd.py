"""Pure-FTPd through syslog: connections, logons, and what was transferred or deleted."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import address_of

NAME = "pureftpd"
HEAD_CHARS_MAX = 512  # a syslog header

_SNIFF = re.compile(r"[ /]pure-ftpd(?:\[\d{1,10}\])?: \(\S{1,256}@\S{1,255}\) \[[A-Z]{4,10}\] ")
_LINE = re.compile(r"\((\S{1,256})@([^\s()]{1,255})\) \[([A-Z]{4,10})\] (.*)", re.DOTALL)
_SIZE = re.compile(r" \((\d{1,18}) bytes,")


class Meaning(NamedTuple):
    pattern: re.Pattern[str]  # group 1 is an account, an address or a path
    kind: str
    action: str
    category: tuple[str, ...]
    type: tuple[str, ...]
    outcome: str | None


_AUTH = ("authentication",)
_FILE = ("file",)
MEANINGS: tuple[Meaning, ...] = (
    Meaning(
        re.compile(r"Authentication failed for user \[(.{0,256}?)\]"), "auth", "logon", _AUTH, ("start",), "failure"
    ),
    Meaning(re.compile(r"(.{1,256}?) is now logged in"), "auth", "logon", _AUTH, ("start",), "success"),
    Meaning(
        re.compile(r"New connection from (\S{1,255})"),
        "connection",
        "connect",
        ("network",),
        ("connection", "start"),
        None,
    ),
    Meaning(re.compile(r"(Logout|Timeout)"), "session", "logout", ("session",), ("end",), None),
    Meaning(re.compile(r"(.{1,4096}?) uploaded "), "transfer", "upload", _FILE, ("creation",), "success"),
    Meaning(re.compile(r"(.{1,4096}?) downloaded "), "transfer", "download", _FILE, ("access",), "success"),
    Meaning(re.compile(r"Deleted (.{1,4096})"), "transfer", "delete", _FILE, ("deletion",), "success"),
)


def sniff(text: str) -> bool:
    return _SNIFF.search(text, 0, HEAD_CHARS_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    if not envelope.recognised:
        raise ParseError("no syslog header")
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    line = _LINE.fullmatch(envelope.message)
    if line is None:
        return (
            Event(
                timestamp=at,
                event_module=NAME,
                event_dataset=f"{NAME}.log",
                event_type=("info",),
                message=envelope.message,
                host_name=envelope.host,
                process_name=envelope.app,
                process_pid=envelope.pid,
            ),
        )
    user, client, level, said = line.groups()
    found = meaning = None
    for meaning in MEANINGS:
        if (found := meaning.pattern.match(said)) is not None:
            break
    if found is None:
        meaning = None
    name = None if user == "?" else user
    if found is not None and meaning is not None and meaning.kind == "auth":
        name = found[1]
    size = int(told[1]) if (told := _SIZE.search(said, 0, 8192)) is not None else None
    action = meaning.action if meaning is not None else None
    return (
        Event(
            at,
            NAME,
            f"{NAME}.{meaning.kind if meaning is not None else 'log'}",
            meaning.category if meaning is not None else (),
            meaning.type if meaning is not None else ("info",),
            action,
            event_outcome=meaning.outcome if meaning is not None else None,
            message=envelope.message,
            host_name=envelope.host,
            user_name=name,
            source_ip=address_of(client)
            or (address_of(found[1]) if found is not None and action == "connect" else None),
            source_bytes=size if action == "upload" else None,
            destination_bytes=size if action == "download" else None,
            process_name=envelope.app,
            process_pid=envelope.pid,
            file_path=found[1] if found is not None and meaning is not None and meaning.category == _FILE else None,
            service_name="ftp",
            fields={"log.level": level.lower()},
        ),
    )
