"""Dovecot 1 to 2.4: IMAP, POP3, submission and sieve logons, the authentication workers, sessions with their bytes, LMTP.

Read behind a syslog envelope and as Dovecot's own log file writes it.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors import accesslog
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError

NAME = "dovecot"

DIGITS_MAX = 18  # of a number that is taken for one
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
_MISSED = re.compile(r"no auth attempts|not trying|tried to use disallowed|no_auth_attempts|waited|Inactivity")
_BYTES = re.compile(r"bytes=(\d{1,18})/(\d{1,18})")

_AUTHENTICATION = ("authentication",)
_EMAIL = ("email",)
_NETWORK = ("network",)
_HOST = ("host",)
_ERRORS = frozenset({"error", "fatal", "panic"})
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
        return (_event(NAME, None, None, None, said, at, host, number),)
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
    fields: dict[str, Any] = {"dovecot.service": service}
    if level is not None:
        fields["log.level"] = level.lower()
    pairs = {key: value.strip("<>") for key, value in _PAIR.findall(said)[:PAIRS_MAX]} if "=" in said else {}
    for key in ("method", "session", "mpid", "msgid"):
        if pairs.get(key):
            fields[f"dovecot.{key}"] = pairs[key]
    if "TLS" in said:
        fields["dovecot.tls"] = True
    category: tuple[str, ...] = _EMAIL
    types: tuple[str, ...] = ("error",) if level is not None and level.lower() in _ERRORS else ("info",)
    action: str | None = None
    outcome: str | None = None
    sent = received = None
    protocol = service.removesuffix("-login")
    if service.endswith("-login"):
        user = pairs.get("user") or None
        if said.startswith(("Login: ", "Logged in: ")):
            category, types, action, outcome = _AUTHENTICATION, ("start",), "login", "success"
        elif _ATTEMPTED.search(said, 0, 400) is not None and not said.startswith("Disconnected (no auth"):
            category, types, action, outcome = _AUTHENTICATION, ("start", "denied"), "login-failed", "failure"
        elif said.startswith(("Aborted login", "Login aborted", "Disconnected", "Maximum number", "Connection closed")):
            category, types, action = _NETWORK, ("connection", "end"), "disconnect"
            if said.startswith("Aborted login: ") and user is not None:  # older releases do not say why
                category, types, action, outcome = _AUTHENTICATION, ("start", "denied"), "login-failed", "failure"
        fields["event.reason"] = said.partition(": user=")[0].partition(": rip=")[0]
    elif service in {"auth", "auth-worker", "dovecot"} and (lookup := _LOOKUP.match(said)) is not None:
        fields["dovecot.passdb"] = lookup[1]
        user, address = lookup[2] or None, lookup[3]
        category, protocol = _AUTHENTICATION, "mail"
        fields["event.reason"] = lookup[4]
        if _FAILED.search(lookup[4], 0, 400) is not None:
            types, action, outcome = ("start", "denied"), "login-failed", "failure"
    elif service in {"imap", "pop3", "managesieve", "submission"} and said.startswith(
        ("Logged out", "Disconnected", "Connection closed", "Server shutting")
    ):
        category, types, action, outcome = _AUTHENTICATION, ("end",), "logout", "success"
        old = _BYTES.search(said)
        received = _number(old[1] if old is not None else pairs.get("in"))
        sent = _number(old[2] if old is not None else pairs.get("out"))
        for key in ("deleted", "expunged", "retr", "top", "del", "trashed", "hdr_count", "body_count"):
            if (value := pairs.get(key)) is not None:
                fields[f"dovecot.{key}"] = _number(value.partition("/")[0])
    elif service in {"lmtp", "lda", "deliver"}:
        for key, path in (("from", "email.from.address"), ("msgid", "email.message_id")):
            if pairs.get(key):
                fields[path] = pairs[key]
        if "saved mail to" in said or "stored mail into" in said:
            action, outcome = "delivered", "success"
    elif service in {"master", "anvil", "log", "config", "stats", "dovecot"}:
        category = _HOST
    source = pairs.get("rip") or address
    destination = pairs.get("lip")
    return Event(
        at,
        NAME,
        f"dovecot.{service}",
        category,
        types,
        action,
        outcome,
        None,
        said,
        host,
        user,
        None,
        _address(source),
        _number(pairs.get("rport")),
        received,
        _address(destination),
        _number(pairs.get("lport")),
        sent,
        None,
        NAME,
        pid,
        service_name=_PROTOCOLS.get(protocol, protocol),
        fields=fields,
    )


def _address(word: str | None) -> str | None:
    if word is None or not accesslog.is_address(word):
        return None
    return word.removeprefix("::ffff:") if word.startswith("::ffff:") and "." in word else word


def _number(word: str | None) -> int | None:
    if word is None or not word.isdecimal() or not word.isascii() or len(word) > DIGITS_MAX:
        return None
    return int(word)
