"""Exim: the main and the reject log: mail that comes and goes, failed logons, refused hosts and recipients, errors.

Read as Exim's own files have them and behind a syslog envelope.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import EPOCH_S_MAX, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "exim"

DIGITS_MAX = 18  # of a number that is taken for one
FIELDS_MAX = 64  # letter=value of one line

_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?)(?: ([+-]\d{4}))? (?:\[(\d{1,10})\] )?(?:([0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4}) )?"
)
_ARROWS = {
    "<=": "receive",
    "=>": "deliver",
    "->": "deliver",
    ">>": "deliver",
    "*>": "suppress",
    "**": "bounce",
    "==": "defer",
}
_FAILED_ARROWS = frozenset({"**", "=="})
# `H=helo.name (said) [192.0.2.1]:25`, `from [192.0.2.1]`, `for (said) [192.0.2.1]:25:`
_PEER = re.compile(r"\[((?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,42})\](?::(\d{1,5}))?")
_PAIR = re.compile(r"(?<!\S)([A-Za-z]{1,3})=(\"[^\"]{0,512}\"|\S{1,512})")
_LOGON = re.compile(r"(\w{1,64}) authenticator failed for ")
_SET_ID = re.compile(r"\(set_id=([^)]{0,256})\)")
_ACTION = re.compile(
    r"\b(rejected (?:RCPT|MAIL|EHLO or HELO|HELO|EHLO|AUTH|DATA|after DATA|connection|VRFY|EXPN|STARTTLS|ETRN)|temporarily rejected \S{1,16}"
    r"|sender verify (?:fail|defer)|dropped: too many|refused connection|connection (?:refused|dropped)|synchronization error)"
)
_KNOWN = re.compile(
    r"(?:H=|SMTP |TLS error|no host name found|no IP address found|\w{1,64} authenticator failed|sender verify|rejected |refused |"
    r"Start queue run|End queue run|exim \d|daemon |Completed|Message is frozen|SIGTERM|unexpected disconnection|ident connection|"
    r"(?:<=|=>|->|>>|\*>|\*\*|==) |lowest numbered MX|Remote host |Connection (?:from|timed out|refused)|Warning: |\w{1,32} router |queue )"
)
_SOPHOS = re.compile(r"(?:<\d{1,3}>)?\d{4}:\d{1,2}:\d{1,2}-")  # the time of Sophos UTM, which has a parser of its own
_TAGGED = re.compile(r"[ >]exim4?(?:\[\d{1,10}\])?: ")
_STARTED = re.compile(r"SMTP (?:connection from|protocol |call from|command timeout|data timeout|syntax error)")

_AUTHENTICATION = ("authentication",)
_EMAIL = ("email",)
_BOTH = ("email", "network")
_START = ("start",)
_INFO = ("info",)
_DENIED = ("connection", "denied")
_NAMED = (
    ("H", "exim.host"),
    ("F", "email.from.address"),
    ("P", "network.protocol"),
    ("X", "tls.cipher"),
    ("A", "exim.authenticator"),
    ("R", "exim.router"),
    ("T", "exim.transport"),
    ("id", "email.message_id"),
)


def sniff(text: str) -> bool:
    stamp = _STAMP.match(text)
    if stamp is not None:
        return _KNOWN.match(text, stamp.end()) is not None or (stamp[5] is not None and stamp.end() < len(text))
    return _TAGGED.search(text, 0, 160) is not None and _SOPHOS.match(text) is None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    stamp = _STAMP.match(text)
    host = pid = None
    at = origin.received
    if stamp is None:
        envelope = peel(text, origin)
        if not (envelope.app or "").startswith("exim"):
            raise ParseError("no Exim log: neither a date and a time in front, nor its name")
        host, pid, text = envelope.host, envelope.pid, envelope.message
        at = at if envelope.timestamp is None else envelope.timestamp
        stamp = _STAMP.match(text)
    if stamp is not None:
        date, time, zone, number, _ = stamp.groups()
        try:
            at = from_iso(f"{date}T{time}{zone or ''}", origin.clock)
        except (ValueError, OverflowError) as error:
            raise ParseError(f"no such time: {error}") from error
        if not 0 <= at < EPOCH_S_MAX:
            raise ParseError("no time of a log line")
        pid = int(number) if number else pid
    said = text if stamp is None else text[stamp.end() :]
    if not said:
        raise ParseError("no Exim log: nothing behind the time")
    return (_event(said, stamp[5] if stamp is not None else None, at, host, pid),)


def _event(said: str, queue: str | None, at: float, host: str | None, pid: int | None) -> Event:
    category: tuple[str, ...] = _EMAIL
    types: tuple[str, ...] = _INFO
    action = outcome = user = None
    arrow = said[:2]
    peer = _PEER.search(said, max(0, said.find("H=")))
    sent = size = None
    if arrow in _ARROWS:
        action = _ARROWS[arrow]
        outcome = "failure" if arrow in _FAILED_ARROWS else "success"
        pairs = dict(_PAIR.findall(said)[:FIELDS_MAX])
        stated = pairs.get("S", "")
        size = int(stated) if stated.isdecimal() and stated.isascii() and len(stated) <= DIGITS_MAX else None
        if arrow != "<=":
            sent, size = size, None
        elif "A" in pairs:
            category, types = ("email", "authentication"), _START
            user = pairs["A"].partition(":")[2].partition(":")[0] or None
    elif (logon := _LOGON.match(said)) is not None:
        category, types, action, outcome = _AUTHENTICATION, _START, "authenticate", "failure"
        peer = _PEER.search(said, logon.end())
        named = _SET_ID.search(said, logon.end())
        user = named[1] if named is not None and named[1] else None
    elif (refused := _ACTION.search(said, 0, 2048)) is not None:
        category, types, outcome = _BOTH, _DENIED, "failure"
        action = refused[1].lower().replace(" ", "-")
    elif _STARTED.match(said) is not None:
        category, types, action = _BOTH, ("connection",), "connect"
        if " closed " in said or " lost " in said or " timeout" in said:
            types, action = ("connection", "end"), "disconnect"
    elif said.startswith("Completed"):
        action = "completed"
    elif "error" in said[:64].lower():
        types = ("error",)
    address, port = peer.groups() if peer is not None else (None, None)
    number = int(port) if port is not None else None
    outgoing = arrow in _ARROWS and arrow != "<="
    return Event(
        at,
        NAME,
        "exim.main",
        category,
        types,
        action,
        outcome,
        None,
        said,
        host,
        user,
        None,
        None if outgoing else address,
        None if outgoing else number,
        size,
        address if outgoing else None,
        number if outgoing else None,
        sent,
        "tcp" if address is not None else None,
        NAME,
        pid,
        service_name="smtp",
        fields=Lazy(_fields, said, queue),
    )


def _fields(said: str, queue: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if queue is not None:
        fields["exim.queue_id"] = queue
    pairs = dict(
        reversed(_PAIR.findall(said)[:FIELDS_MAX])
    )  # of two with a name the first: later ones may be a client's text
    for key, path in _NAMED:
        if value := pairs.get(key, "").strip('"<>'):
            fields[path] = value
    arrow, _, rest = said.partition(" ")
    if arrow in _ARROWS:
        address = rest.partition(" ")[0]
        if address and address != "<>":
            fields["email.from.address" if arrow == "<=" else "email.to.address"] = address
    elif (mark := said.find(" <")) >= 0 and (end := said.find(">", mark)) > mark:
        fields["email.to.address"] = said[mark + 2 : end]
    if (reason := said.rpartition(": ")[2]) != said and arrow not in {"<=", "=>", "->"}:
        fields["event.reason"] = reason
    return fields
