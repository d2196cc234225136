"""vsftpd: its own log, through syslog or from its file, and the transfer log that it shares with other FTP servers."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from connectors.clock import MONTHS
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import address_of

NAME = "vsftpd"


class Meaning(NamedTuple):
    kind: str
    category: tuple[str, ...]
    type: tuple[str, ...]


_FILE = ("file",)
MEANINGS: dict[str, Meaning] = {
    "CONNECT": Meaning("connection", ("network",), ("connection", "start")),
    "LOGIN": Meaning("auth", ("authentication",), ("start",)),
    "UPLOAD": Meaning("transfer", _FILE, ("creation",)),
    "APPEND": Meaning("transfer", _FILE, ("change",)),
    "DOWNLOAD": Meaning("transfer", _FILE, ("access",)),
    "DELETE": Meaning("transfer", _FILE, ("deletion",)),
    "RMDIR": Meaning("transfer", _FILE, ("deletion",)),
    "MKDIR": Meaning("transfer", _FILE, ("creation",)),
    "RENAME": Meaning("transfer", _FILE, ("change",)),
    "CHMOD": Meaning("transfer", _FILE, ("change",)),
}
_OTHER = Meaning("session", ("session",), ("info",))
_DIRECTIONS = {"i": "UPLOAD", "o": "DOWNLOAD", "d": "DELETE"}

_DATE = r"(?:[A-Z][a-z]{2} )?([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4}) "
_BODY = r"(?:\[([^\[\]]{0,256})\] )?(?:(OK|FAIL) )?([A-Z]{4,12}|FTP response|FTP command|DEBUG|SSL|info): Client \"([^\"]{1,255})\"(?:, (.*))?"
_LINE = re.compile(_DATE + r"\[pid (\d{1,10})\] " + _BODY, re.DOTALL)
_MESSAGE = re.compile(_BODY, re.DOTALL)
_TRANSFER = re.compile(
    _DATE
    + r"(\d{1,8}) (\S{1,255}) (\d{1,18}) (\S(?:.{0,4096}?\S)?) ([abAB]) ([_CUT]) ([iod]) ([agr]) (\S{1,256}) (\S{1,64}) ([01]) (\S{1,256}) ([ci])"
)
_DETAIL = re.compile(r"\"([^\"]{1,4096})\"(?:, (\d{1,18}) bytes)?")
_REFUSED = re.compile(r"\"(530|5\d\d|421) ([^\"]{0,256})")


def sniff(text: str) -> bool:
    return (
        _LINE.match(text) is not None
        or _TRANSFER.fullmatch(text) is not None
        or (" vsftpd" in text[:512] and _MESSAGE.search(text, 0, 512) is not None)
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if (line := _LINE.match(text)) is not None:
        date, rest = line.groups()[:6], line.groups()[7:]
        return (_event(_time(date, text[: line.start(7)], origin), None, int(line[7][:10]), rest, text),)
    if (transfer := _TRANSFER.fullmatch(text)) is not None:
        return (_transfer(transfer, text, origin),)
    envelope = peel(text, origin)
    if envelope.app is None or not envelope.recognised:
        raise ParseError("neither a line of vsftpd's log nor of a transfer log")
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    if (message := _MESSAGE.match(envelope.message)) is not None:
        return (_event(at, envelope.host, envelope.pid, message.groups(), envelope.message),)
    return (
        Event(
            timestamp=at,
            event_module=NAME,
            event_dataset=f"{NAME}.session",
            event_type=("info",),
            message=envelope.message,
            host_name=envelope.host,
            process_name=envelope.app,
            process_pid=envelope.pid,
        ),
    )


def _event(at: float, host: str | None, pid: int | None, parts: Sequence[str | Any], message: str) -> Event:
    user, result, action, client, detail = parts
    meaning = MEANINGS.get(action, _OTHER)
    fields: dict[str, Any] = {}
    path = size = None
    outcome = "success" if result == "OK" else "failure" if result == "FAIL" else None
    if detail:
        told = _DETAIL.match(detail)
        if meaning.category == _FILE and told is not None:
            path, size = told[1], int(told[2]) if told[2] else None
        elif (refused := _REFUSED.match(detail)) is not None:
            fields["event.reason"] = refused[2]
            fields["ftp.response.code"] = int(refused[1])
            if refused[1] == "530":  # not logged in
                meaning, outcome = MEANINGS["LOGIN"], "failure"
    upload = action in ("UPLOAD", "APPEND")
    return Event(
        at,
        NAME,
        f"{NAME}.{meaning.kind}",
        meaning.category,
        meaning.type,
        action.lower().replace(" ", "_"),
        event_outcome=outcome,
        message=message,
        host_name=host,
        user_name=user or None,
        source_ip=address_of(client),
        source_bytes=size if upload else None,
        destination_bytes=None if upload else size,
        process_name=NAME,
        process_pid=pid,
        file_path=path,
        service_name="ftp",
        fields=fields,
    )


def _transfer(line: re.Match[str], text: str, origin: Origin) -> Event:
    _, client, size, path, _, _, direction, mode, user, service, _, _, status = line.groups()[6:]
    action = _DIRECTIONS[direction]
    meaning = MEANINGS[action]
    return Event(
        timestamp=_time(line.groups()[:6], text[: line.start(7)], origin),
        event_module=NAME,
        event_dataset=f"{NAME}.{meaning.kind}",
        event_category=meaning.category,
        event_type=meaning.type,
        event_action=action.lower(),
        event_outcome="success" if status == "c" else "failure",
        message=text,
        user_name=user,
        source_ip=address_of(client),
        source_bytes=int(size) if action == "UPLOAD" else None,
        destination_bytes=int(size) if action == "DOWNLOAD" else None,
        file_path=path,
        service_name="ftp",
        fields={"access_mode": mode, "service": service},
    )


def _time(date: Sequence[str | Any], stamp: str, origin: Origin) -> float:
    clock = origin.clock
    at = clock.stamps.get(stamp)
    if at is None:
        month, day, hour, minute, second, year = date
        try:
            if not 1970 <= int(year) < 2200:
                return origin.received
            at = clock.local(int(year), MONTHS[month.lower()], int(day), int(hour), int(minute), int(second))
            clock.remember(stamp, at)
        except (ValueError, KeyError):
            return origin.received
    return at
