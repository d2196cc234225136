"""Dovecot 1 to 2.4: IMAP, POP3, submission and sieve logons, the authentication workers, sessions with their bytes, LMTP.

Read behind a syslog envelope and as Dovecot's own log file writes it.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import is_address, whole_number

NAME = "dovecot"

DIGITS_MAX = 18  # of a number that is taken for one
VALUE_CHARS_MAX = 128  # of an address or a number
PAIRS_MAX = 64  # key=value of one line

_SERVICES = (
    "imap-login|pop3-login|managesieve-login|submission-login|imap-urlauth-login|imap|pop3|lmtp|lda|managesieve|submission|"
    "auth-worker|auth|anvil|master|log|config|doveadm|dict|director|indexer|indexer-worker|stats|ssl-params|replicator|dsync|"
    "quota-status|imap-hibernate|old-stats|script-login|IMAP|POP3|deliver|IMAP-LOGIN|POP3-LOGIN|imapc|welcome|event"
)
_LEVEL = r"(?:(Info|Debug|Warning|Warn|Error|Fatal|Panic): )?"
_SAID = re.compile(
    rf"(?:\[\d{{1,10}}\]: )?{_LEVEL}({_SERVICES})(?:\(([^()\s,]{{0,256}})(?:,([^()\s,]{{0,64}}))?(?:,[^()\s]{{0,128}})?\))?"
    rf"(?:<(\d{{1,10}})>)?(?:<[^<>\s]{{0,128}}>)?(?:\[(\d{{1,10}})\])?: {_LEVEL}(.*)",
    re.DOTALL,
)
_LEVELLED = re.compile(rf"{_LEVEL}(.*)", re.DOTALL)
# The lead of a line in Dovecot's own file: a time, and no host.
_OWN = re.compile(
    r"(?:[A-Z][a-z]{2} [ \d]\d|\d{4}-\d\d-\d\d) \d\d:\d\d:\d\d(?:\.\d{1,9})? "
    rf"(?={_LEVEL}(?:{_SERVICES})(?:\([^()]{{0,400}}\))?(?:<[^<>\s]{{0,128}}>){{0,2}}: )"
)
_TAGGED = re.compile(r"[ >]dovecot(?:\[\d{1,10}\])?: | dovecot \d{1,10} \S{1,32} ")
_PAIR = re.compile(r"(?<![\w-])([a-z_]{1,24})=(<[^<>]{0,1024}>|[^\s,<>]{0,1024})")
# The databases that a password is looked up in: `pam(user,192.0.2.1,<session>): text`.
_LOOKUP = re.compile(
    r"(?:conn [^()]{1,64} \([^()]{0,64}\): )?(?:auth-worker<\d{1,10}>: )?(?:auth: )?"
    r"(pam|sql|ldap|passwd-file|passwd|shadow|static|userdb|passdb|checkpassword|lua|bsdauth|oauth2|dict|imap|policy|login|plain|xoauth2|"
    r"oauthbearer|cram-md5|digest-md5|scram-sha-1|scram-sha-256|ntlm|gssapi|gss-spnego|apop|external|otp|anonymous|cache|client)"
    r"\(([^(),]{0,256})(?:,([0-9A-Fa-f.:]{2,45}))?[^()]{0,160}\): (.*)",
    re.DOTALL,
)
_FAILED = re.compile(
    r"\b(?:password mismatch|unknown user|user not found|authentication failure|pam_authenticate\(\) failed|invalid (?:password|credentials)"
    r"|failed|mismatch|denied|not known|expired|disabled|rejected|locked)\b",
    re.IGNORECASE,
)
_ATTEMPTED = re.compile(
    r"auth(?:entication)? fail|authentication attempts|auth failed|auth_failed|Authentication failed"
)
_BYTES = re.compile(r"bytes=(\d{1,18})/(\d{1,18})")

_LOGINS = frozenset(
    {"imap-login", "pop3-login", "managesieve-login", "submission-login", "imap-urlauth-login", "script-login"}
)
_SESSIONS = frozenset({"imap", "pop3", "managesieve", "submission"})
_DELIVERIES = frozenset({"lmtp", "lda", "deliver"})
_ASKED = frozenset({"auth", "auth-worker", "dovecot"})
_HOUSEKEEPING = frozenset({"master", "anvil", "log", "config", "stats", "dovecot"})
_ENDINGS = (
    "Aborted login", "Login aborted", "Disconnected", "Maximum number", "Connection closed", "Logged out", "Server shutting",
)  # fmt: skip

_AUTHENTICATION = ("authentication",)
_EMAIL = ("email",)
_NETWORK = ("network",)
_HOST = ("host",)
_START = ("start",)
_REFUSED = ("start", "denied")
_INFO = ("info",)
_ERROR = ("error",)
_ERROR_LEVELS = frozenset({"error", "fatal", "panic"})
_PROTOCOLS = {"managesieve": "sieve"}


def sniff(text: str) -> bool:
    return _TAGGED.search(text, 0, 160) is not None or _OWN.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    host, number, said = envelope.host, envelope.pid, envelope.message.removeprefix("dovecot: ")
    if (own := _OWN.match(text)) is not None:
        host, number, said = None, None, text[own.end() :]
    line = _SAID.match(said)
    if line is None:
        if envelope.app != NAME:
            raise ParseError("no Dovecot log: neither its name nor one of its services in front of the message")
        bare = _LEVELLED.match(said)
        level, said = (bare[1], bare[2]) if bare is not None else (None, said)
        return (_event(NAME, level, None, None, said, at, host, number),)
    level, service, user, address, pid, other_pid, own_level, said = line.groups()
    if service in {"auth", "auth-worker"}:
        user = address = None  # a number, or the name of the process
    number = int(pid or other_pid) if pid or other_pid else number
    return (_event(service.lower(), level or own_level, user or None, address, said, at, host, number),)


def _event(
    service: str,
    level: str | None,
    user: str | None,
    address: str | None,
    said: str,
    at: float,
    host: str | None,
    pid: int | None,
) -> Event:
    category: tuple[str, ...] = _EMAIL
    types: tuple[str, ...] = _ERROR if level is not None and level.lower() in _ERROR_LEVELS else _INFO
    action: str | None = None
    outcome: str | None = None
    sent = received = source_port = destination = destination_port = None
    protocol = service.removesuffix("-login")
    if service in _LOGINS:
        # What the client sent as its name may look like the rest of the line: what the server adds stands last.
        rip = said.rfind("rip=")
        address = _value(said, "rip=", rip) if rip >= 0 else None
        destination = _value(said, "lip=", rip)
        source_port, destination_port = (
            whole_number(_value(said, "rport=", rip)),
            whole_number(_value(said, "lport=", rip)),
        )
        begin = said.find("user=<") + len("user=<")
        end = said.rfind(">", begin, rip) if rip >= 0 else said.find(">", begin)
        user = said[begin:end] if begin < end and said.startswith("user=<", begin - 6) else None
        refused = _ATTEMPTED.search(said, 0, 200) is not None and not said.startswith("Disconnected (no auth")
        if said.startswith(("Login: ", "Logged in: ")):
            category, types, action, outcome = _AUTHENTICATION, _START, "login", "success"
        elif refused or (user and said.startswith("Aborted login: ")):  # older releases do not say why
            category, types, action, outcome = _AUTHENTICATION, _REFUSED, "login-failed", "failure"
        elif said.startswith(_ENDINGS):
            category, types, action = _NETWORK, ("connection", "end"), "disconnect"
    elif service in _ASKED and (lookup := _LOOKUP.match(said)) is not None:
        user, address = lookup[2], lookup[3]
        category, protocol = _AUTHENTICATION, "mail"
        if _FAILED.search(lookup[4], 0, 400) is not None:
            types, action, outcome = _REFUSED, "login-failed", "failure"
    elif service in _SESSIONS and said.startswith(_ENDINGS):
        category, types, action, outcome = _AUTHENTICATION, ("end",), "logout", "success"
        if (old := _BYTES.search(said)) is not None:
            received, sent = int(old[1]), int(old[2])
        else:
            received, sent = whole_number(_value(said, " in=", 0)), whole_number(_value(said, " out=", 0))
    elif service in _DELIVERIES:
        if "saved mail to" in said or "stored mail into" in said:
            action, outcome = "delivered", "success"
    elif service in _HOUSEKEEPING:
        category = _HOST
    return Event(
        at,
        NAME,
        "dovecot." + service,
        category,
        types,
        action,
        outcome,
        None,
        said,
        host,
        user or None,
        None,
        _address(address),
        source_port,
        received,
        _address(destination),
        destination_port,
        sent,
        None,
        NAME,
        pid,
        service_name=_PROTOCOLS.get(protocol, protocol),
        fields=Lazy(_fields, service, level, said),
    )


def _value(said: str, key: str, begin: int) -> str | None:
    """What stands behind a key, up to the comma or the blank."""
    at = said.find(key, begin)
    if at < 0:
        return None
    at += len(key)
    return said[at : at + VALUE_CHARS_MAX].partition(",")[0].partition(" ")[0]


def _fields(service: str, level: str | None, said: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"dovecot.service": service}
    if level is not None:
        fields["log.level"] = level.lower()
    if "TLS" in said:
        fields["dovecot.tls"] = True
    pairs = {key: value.strip("<>") for key, value in _PAIR.findall(said)[:PAIRS_MAX]} if "=" in said else {}
    for key in ("method", "session", "mpid"):
        if pairs.get(key):
            fields[f"dovecot.{key}"] = pairs[key]
    for key in ("deleted", "expunged", "trashed", "hdr_count", "body_count", "retr", "top", "del"):
        if (count := whole_number(pairs.get(key, "").partition("/")[0])) is not None:
            fields[f"dovecot.{key}"] = count
    for key, path in (("from", "email.from.address"), ("msgid", "email.message_id")):
        if pairs.get(key):
            fields[path] = pairs[key]
    if service in _LOGINS:
        fields["event.reason"] = said.partition(": user=")[0].partition(": rip=")[0]
    elif service in _ASKED and (lookup := _LOOKUP.match(said)) is not None:
        fields["dovecot.passdb"], fields["event.reason"] = lookup[1], lookup[4]
    return fields


def _address(word: str | None) -> str | None:
    if word is None or not is_address(word):
        return None
    return word.removeprefix("::ffff:") if word.startswith("::ffff:") and "." in word else word
