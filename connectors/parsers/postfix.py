"""Postfix: every daemon's messages: connections, SASL logons, rejects, queueing, deliveries, postscreen, TLS, statistics.

Mail addresses, queue ids and delivery states become ECS `email.*` and `postfix.*` fields.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError

NAME = "postfix"

DIGITS_MAX = 18  # of a number that is taken for one
PAIRS_MAX = 64  # key=value of one line

_TAG = re.compile(r"(?:^|[ >])(postfix[\w.-]{0,48}(?:/[\w.-]{1,48}){1,3}|postfix-[\w.-]{1,48})(?:\[(\d{1,10})\])?: ")
_QUEUED = re.compile(r"([0-9A-F]{6,20}|[0-9A-Za-z]{10,24}|NOQUEUE): ")
_PEER = re.compile(r"([\w.-]{0,255})\[((?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,42})\](?::(\d{1,5}))?")
_NAKED = re.compile(
    r"(?:\baddr |\baddress |\bfor \(\w{1,32}:)((?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,42})"
)
_PAIR = re.compile(r"(?<![\w.-])([A-Za-z_][\w-]{0,32})=(<[^<>]{0,1024}>|[^\s,;()<>]{0,1024})")
_REJECT = re.compile(r"([\w-]{1,32}): (\S{1,32}(?: (?:FROM|TO|OF|\S{1,16}))?) from ")
_REPLY = re.compile(r": ([245]\d\d) (?:(\d\.\d{1,3}\.\d{1,3}) )?")
_SASL = re.compile(
    r"SASL ([\w.-]{1,32}) authentication (failed|aborted)(?:: (.*?))?(?:, sasl_username=(.*))?", re.DOTALL
)
_TLS = re.compile(
    r"(Anonymous|Trusted|Untrusted|Verified) TLS connection (?:established|reused) (from|to) (.{1,400}?): (\S{1,16}) with cipher (\S{1,64})"
)
_STATUS = re.compile(r"status=([\w-]{1,32})(?: \((.*)\))?", re.DOTALL)

_AUTHENTICATION = ("authentication",)
_EMAIL = ("email",)
_BOTH = ("email", "network")
_HOST = ("host",)
_START = ("start",)
_INFO = ("info",)
_CONNECTED = ("connection", "start")
_ENDED = ("connection", "end")
_DENIED = ("connection", "denied")
_ERRORS = ("error",)
# How a line of smtpd or postscreen begins: action, type, outcome.
_BEGINNINGS: dict[str, tuple[str, tuple[str, ...], str | None]] = {
    "connect": ("connect", _CONNECTED, None),
    "CONNECT": ("connect", _CONNECTED, None),
    "disconnect": ("disconnect", _ENDED, None),
    "DISCONNECT": ("disconnect", _ENDED, None),
    "lost": ("lost-connection", _ENDED, None),
    "timeout": ("timeout", _ENDED, None),
    "too": ("too-many-errors", _DENIED, "failure"),
    "improper": ("improper-command-pipelining", _DENIED, "failure"),
    "SSL_accept": ("tls-error", ("connection", "error"), "failure"),
    "setting": ("tls-setup", ("connection",), None),
    "PREGREET": ("pregreet", _DENIED, "failure"),
    "HANGUP": ("hangup", _ENDED, None),
    "DNSBL": ("dnsbl", _DENIED, "failure"),
    "BLACKLISTED": ("denylisted", _DENIED, "failure"),
    "DENYLISTED": ("denylisted", _DENIED, "failure"),
    "WHITELISTED": ("allowlisted", ("connection", "allowed"), "success"),
    "ALLOWLISTED": ("allowlisted", ("connection", "allowed"), "success"),
    "PASS": ("pass", ("connection", "allowed"), "success"),
    "COMMAND": ("command-limit", _DENIED, "failure"),
    "NON-SMTP": ("non-smtp-command", _DENIED, "failure"),
    "BARE": ("bare-newline", _DENIED, "failure"),
}
_SENDING = frozenset({"smtp", "lmtp", "local", "virtual", "pipe", "error", "relay", "discard", "retry", "smtp-amavis"})
_STATES = {
    "sent": "success",
    "deliverable": "success",
    "bounced": "failure",
    "deferred": "failure",
    "undeliverable": "failure",
}
_STATES |= {"expired": "failure", "force-expired": "failure", "SOFTBOUNCE": "failure"}
_NAMED = (
    ("from", "email.from.address"),
    ("to", "email.to.address"),
    ("message-id", "email.message_id"),
    ("orig_to", "postfix.orig_to"),
    ("helo", "postfix.helo"),
    ("proto", "network.protocol"),
    ("sasl_method", "postfix.sasl_method"),
    ("sasl_sender", "postfix.sasl_sender"),
    ("delay", "postfix.delay"),
    ("delays", "postfix.delays"),
    ("dsn", "postfix.dsn"),
    ("relay", "postfix.relay"),
)


def sniff(text: str) -> bool:
    at = text.find("postfix", 0, 400)
    return at >= 0 and _TAG.match(text, max(0, at - 1)) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    app, pid, message = envelope.app, envelope.pid, envelope.message
    if app is None or not app.startswith("postfix"):
        tag = _TAG.match(message)
        if tag is None:
            raise ParseError("no Postfix log: no postfix/... tag in front of the message")
        app, pid, message = tag[1], int(tag[2]) if tag[2] else None, message[tag.end() :]
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    return (_event(message, app, pid, at, envelope.host),)


def _event(message: str, app: str, pid: int | None, at: float, host: str | None) -> Event:
    fields: dict[str, Any] = {}
    daemon = app.rpartition("/")[2]
    said = message
    queued = _QUEUED.match(said)
    if queued is not None and (queued[1] == "NOQUEUE" or any(c.isdigit() for c in queued[1]) or queued[1].isupper()):
        said = said[queued.end() :]
        if queued[1] != "NOQUEUE":
            fields["postfix.queue_id"] = queued[1]
    level = None
    for word in ("warning", "error", "fatal", "panic", "info"):
        if said.startswith(word + ": "):
            level = fields["log.level"] = word
            said = said[len(word) + 2 :]
            break
    pairs = {key: value.strip("<>") for key, value in _PAIR.findall(said)[:PAIRS_MAX]} if "=" in said else {}
    for key, path in _NAMED:
        if value := pairs.get(key):
            fields[path] = value
    if "proto" in pairs:
        fields["network.protocol"] = pairs["proto"].lower()
    size = pairs.get("size")
    if size is not None and size.isdecimal() and size.isascii() and len(size) <= DIGITS_MAX:
        fields["postfix.size"] = int(size)

    category, types, action, outcome, user, service = (
        _EMAIL,
        _INFO,
        None,
        None,
        pairs.get("sasl_username") or None,
        "smtp",
    )
    sending = daemon in _SENDING or said.startswith(("connect to ", "SSL_connect error to ", "host "))
    # The addresses of a mail may hold brackets too: of a delivery only the relay counts, of the rest what stands first.
    peer = _PEER.search(said, max(0, said.find("relay=")) if sending else 0)
    status = _STATUS.search(said) if "status=" in said else None
    beginning = _BEGINNINGS.get(said.partition(" ")[0])
    if (sasl := _SASL.search(said)) is not None:
        category, types, action, outcome = _AUTHENTICATION, _START, "sasl-" + sasl[2], "failure"
        fields["postfix.sasl_method"] = sasl[1]
        user = (sasl[4] or "").strip() or user
        if sasl[3]:
            fields["event.reason"] = sasl[3]
    elif said.startswith("client=") and user is not None:
        category, types, action, outcome = _AUTHENTICATION, _START, "sasl-login", "success"
    elif said.startswith("client="):
        action = "client"
    elif status is not None:
        action, outcome = status[1], _STATES.get(status[1])
        fields["postfix.status"] = status[1]
        if status[2]:
            fields["event.reason"] = status[2]
    elif (reject := _REJECT.match(said)) is not None:
        action = reject[1]
        fields["postfix.stage"] = reject[2]
        category = _BOTH
        if "reject" in action or action in {"discard", "hold"}:
            types, outcome = _DENIED, "failure"
        reply = _REPLY.search(said, peer.end() if peer is not None else 0)
        if reply is not None:
            fields["smtp.response.code"] = int(reply[1])
            fields["event.reason"] = said[reply.start() + 2 :].partition("; from=")[0]
            if reply[2]:
                fields["postfix.dsn"] = reply[2]
    elif said.startswith(("milter-", "reject: ", "discard: ", "hold: ", "filter: ", "redirect: ")):
        action = said.partition(":")[0]
        types, outcome = (_DENIED, "failure") if "reject" in action or "discard" in action else (_INFO, None)
    elif said.startswith("non-SMTP command "):
        category, types, action, outcome = _BOTH, _DENIED, "non-smtp-command", "failure"
    elif beginning is not None and peer is not None and not sending:
        category, (action, types, outcome) = _BOTH, beginning
    elif (tls := _TLS.match(said)) is not None:
        category, types, action = _BOTH, ("connection",), "tls"
        fields["tls.version"], fields["tls.cipher"] = tls[4].removeprefix("TLSv"), tls[5]
        sending = tls[2] == "to"
    elif said == "removed":
        action = "removed"
    elif said.endswith("(queue active)"):
        action = "queued"
    elif sending and peer is not None and not said.startswith("host "):
        category, types, action, outcome = _BOTH, ("connection", "error"), "connect", "failure"
    elif daemon in {"master", "postfix-script", "postmap", "anvil", "scache", "tlsmgr"}:
        category = _HOST
    if level in {"error", "fatal", "panic"} and types is _INFO:
        types = _ERRORS
    source = destination = source_port = destination_port = None
    if peer is not None:
        name, address, stated = peer.groups()
        port = int(stated) if stated is not None else None
        if name and name != "unknown":
            fields["destination.domain" if sending else "source.domain"] = name
        if sending:
            destination, destination_port = address, port
        else:
            source, source_port = address, port
            if said.startswith("CONNECT ") and (other := _PEER.search(said, peer.end())) is not None:
                destination, destination_port = other[2], int(other[3]) if other[3] else None
    elif (naked := _NAKED.search(said)) is not None:
        source = naked[1]
    return Event(
        at,
        NAME,
        f"postfix.{daemon}",
        category,
        types,
        action,
        outcome,
        None,
        message,
        host,
        user,
        None,
        source,
        source_port,
        None,
        destination,
        destination_port,
        None,
        "tcp" if source is not None or destination is not None else None,
        app,
        pid,
        service_name=service,
        fields=fields,
    )
