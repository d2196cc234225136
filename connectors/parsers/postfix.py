"""Postfix: every daemon's messages: connections, SASL logons, rejects, queueing, deliveries, postscreen, TLS, statistics.

Mail addresses, queue ids and delivery states become ECS `email.*` and `postfix.*` fields.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "postfix"

DIGITS_MAX = 18  # of a number that is taken for one
PAIRS_MAX = 64  # key=value of one line
NAME_CHARS_MAX = 255  # of a host

_TAG = re.compile(r"(?:^|[ >])(postfix[\w.-]{0,48}(?:/[\w.-]{1,48}){1,3}|postfix-[\w.-]{1,48})(?:\[(\d{1,10})\])?: ")
# A message whose tag a relay kept for itself.
_TAGLESS = re.compile(
    r"(?:(?:[0-9A-F]{6,20}|[0-9A-Za-z]{10,24}|NOQUEUE): (?:to=<|from=<|client=|message-id=|(?:resent-)?message-id=|uid=\d|removed$|"
    r"host |(?:milter-)?(?:reject|discard|hold|filter|warn|redirect)\w{0,8}: )|(?:dis)?connect from [\w.-]{1,255}\[|"
    r"(?:lost connection|timeout|too many errors) after \S{1,32}.{0,24} from [\w.-]{1,255}\[|"
    r"warning: [\w.-]{1,255}\[[0-9A-Fa-f.:]{2,45}\]: SASL )"
)
_QUEUED = re.compile(r"([0-9A-F]{6,20}|[0-9A-Za-z]{10,24}|NOQUEUE): ")
_PEER = re.compile(r"\[((?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,42})\](?::(\d{1,5}))?")
_NAKED = re.compile(
    r"(?:\baddr |\baddress |\bfor \(\w{1,32}:)((?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,42})"
)
_NAME = re.compile(r"[\w.-]{1,255}")
_DIGIT = re.compile(r"\d")
_PAIR = re.compile(r"(?<![\w.-])([A-Za-z_][\w-]{0,32})=(<[^<>]{0,1024}>|[^\s,;()<>]{0,1024})")
_REJECT = re.compile(r"([\w-]{1,32}): (\S{1,32}(?: (?:FROM|TO|OF|\S{1,16}))?) from ")
_REPLY = re.compile(r": ([245]\d\d) (?:(\d\.\d{1,3}\.\d{1,3}) )?")
_SASL = re.compile(r"SASL ([\w.-]{1,32}) authentication (failed|aborted)(?:: ?)?")
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
_NOBODY = frozenset({"", "(unavailable)"})
_LEVELS = frozenset({"warning", "error", "fatal", "panic", "info"})
_ERROR_LEVELS = frozenset({"error", "fatal", "panic"})
_VERDICTS = ("milter-", "reject: ", "discard: ", "hold: ", "filter: ", "redirect: ", "header-redirect: ")
_HOUSEKEEPING = frozenset({"master", "postfix-script", "postmap", "anvil", "scache", "tlsmgr"})
_NAKED_DAEMONS = frozenset({"dnsblog", "anvil", "smtpd", "postscreen"})
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
    return (at >= 0 and _TAG.match(text, max(0, at - 1)) is not None) or _TAGLESS.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    app, pid, message = envelope.app, envelope.pid, envelope.message
    if app is None or not app.startswith("postfix"):
        tag = _TAG.match(message)
        if tag is not None:
            app, pid, message = tag[1], int(tag[2]) if tag[2] else None, message[tag.end() :]
        elif _TAGLESS.match(text) is not None:
            app, message = NAME, text
        else:
            raise ParseError("no Postfix log: no postfix/... tag in front of the message")
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    return (_event(message, app, pid, at, envelope.host),)


def _event(message: str, app: str, pid: int | None, at: float, host: str | None) -> Event:
    daemon = app.rpartition("/")[2]
    said = message
    queue = level = None
    if (queued := _QUEUED.match(said)) is not None and (queued[1].isupper() or _DIGIT.search(queued[1]) is not None):
        said = said[queued.end() :]
        queue = queued[1]
    word, colon, rest = said.partition(": ")
    if colon and word in _LEVELS:
        level, said = word, rest
    sending = daemon in _SENDING or said.startswith(("connect to ", "SSL_connect error to ", "host "))
    sending = sending or (daemon == NAME and ", relay=" in said)
    # The addresses of a mail may hold brackets too: of a delivery only the relay counts, of the rest what stands first.
    peer = _PEER.search(said, max(0, said.find("relay=")) if sending else 0)
    kind = _kind(said, daemon, sending, peer)
    if level in _ERROR_LEVELS and kind.types is _INFO:
        kind = kind._replace(types=_ERRORS)
    source = destination = source_port = destination_port = None
    if peer is not None:
        address, stated = peer.groups()
        port = int(stated) if stated is not None else None
        if sending or kind.action == "tls-to":
            destination, destination_port = address, port
        else:
            source, source_port = address, port
            if said.startswith("CONNECT ") and (other := _PEER.search(said, peer.end())) is not None:
                destination, destination_port = other[1], int(other[2]) if other[2] else None
    elif daemon in _NAKED_DAEMONS and (naked := _NAKED.search(said)) is not None:
        source = naked[1]
    return Event(
        at,
        NAME,
        "postfix." + daemon,
        kind.category,
        kind.types,
        "tls" if kind.action == "tls-to" else kind.action,
        kind.outcome,
        None,
        message,
        host,
        kind.user,
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
        service_name="smtp",
        fields=Lazy(_fields, said, queue, level, peer, destination is not None and source is None),
    )


class _Kind(NamedTuple):
    category: tuple[str, ...]
    types: tuple[str, ...]
    action: str | None = None
    outcome: str | None = None
    user: str | None = None


def _kind(said: str, daemon: str, sending: bool, peer: re.Match[str] | None) -> _Kind:
    """What a message is about."""
    if "SASL " in said and (sasl := _SASL.search(said)) is not None:
        _, mark, user = said[sasl.end() :].rpartition("sasl_username=")
        user = user.strip() if mark else ""
        return _Kind(_AUTHENTICATION, _START, "sasl-" + sasl[2], "failure", None if user in _NOBODY else user)
    if said.startswith("client="):
        _, mark, user = said.partition(", sasl_username=")
        user = user.partition(",")[0].strip()
        if mark and user:
            return _Kind(_AUTHENTICATION, _START, "sasl-login", "success", user)
        return _Kind(_EMAIL, _INFO, "client")
    if "status=" in said and (status := _STATUS.search(said)) is not None:
        return _Kind(_EMAIL, _INFO, status[1], _STATES.get(status[1]))
    if (beginning := _BEGINNINGS.get(said.partition(" ")[0])) is not None and peer is not None and not sending:
        action, types, outcome = beginning
        return _Kind(_BOTH, types, action, outcome)
    if (reject := _REJECT.match(said)) is not None or said.startswith(_VERDICTS):
        action = said.partition(":")[0]
        denied = "reject" in action or action in {"discard", "hold"}
        category = _BOTH if reject is not None else _EMAIL
        return _Kind(category, _DENIED, action, "failure") if denied else _Kind(category, _INFO, action)
    if said.startswith("non-SMTP command "):
        return _Kind(_BOTH, _DENIED, "non-smtp-command", "failure")
    if " TLS connection " in said and (tls := _TLS.match(said)) is not None:
        return _Kind(_BOTH, ("connection",), "tls" if tls[2] == "from" else "tls-to")
    if said == "removed":
        return _Kind(_EMAIL, _INFO, "removed")
    if said.endswith("(queue active)"):
        return _Kind(_EMAIL, _INFO, "queued")
    if sending and peer is not None and not said.startswith("host "):
        return _Kind(_BOTH, ("connection", "error"), "connect", "failure")
    return _Kind(_HOST if daemon in _HOUSEKEEPING else _EMAIL, _INFO)


def _fields(said: str, queue: str | None, level: str | None, peer: re.Match[str] | None, sent: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if queue is not None and queue != "NOQUEUE":
        fields["postfix.queue_id"] = queue
    if level is not None:
        fields["log.level"] = level
    pairs: dict[str, str] = (
        {key: value.strip("<>") for key, value in _PAIR.findall(said)[:PAIRS_MAX]} if "=" in said else {}
    )
    for key, path in _NAMED:
        if value := pairs.get(key):
            fields[path] = value.lower() if key == "proto" else value
    size = pairs.get("size", "")
    if size.isdecimal() and size.isascii() and len(size) <= DIGITS_MAX:
        fields["postfix.size"] = int(size)
    if peer is not None:
        name = said[max(0, peer.start() - NAME_CHARS_MAX) : peer.start()]
        name = name.rpartition(" ")[2].rpartition("=")[2]
        if name and name != "unknown" and _NAME.fullmatch(name) is not None:
            fields["destination.domain" if sent else "source.domain"] = name
    if (sasl := _SASL.search(said)) is not None:
        fields["postfix.sasl_method"] = sasl[1]
        if reason := said[sasl.end() :].partition(", sasl_username=")[0]:
            fields["event.reason"] = reason
    elif "status=" in said and (status := _STATUS.search(said)) is not None:
        fields["postfix.status"] = status[1]
        if status[2]:
            fields["event.reason"] = status[2]
    elif (reject := _REJECT.match(said)) is not None:
        fields["postfix.stage"] = reject[2]
        if (reply := _REPLY.search(said, peer.end() if peer is not None else 0)) is not None:
            fields["smtp.response.code"] = int(reply[1])
            fields["event.reason"] = said[reply.start() + 2 :].partition("; from=")[0]
            if reply[2]:
                fields["postfix.dsn"] = reply[2]
    elif (tls := _TLS.match(said)) is not None:
        fields["tls.version"], fields["tls.cipher"] = tls[4].removeprefix("TLSv"), tls[5]
    return fields
