"""OpenLDAP (slapd) at loglevel stats: connections, binds and their results, searches and changes.

A line states either who binds or how it went, tied by `conn` and `op`: a refused bind is its RESULT line, a successful
one the second BIND line, which names the mechanism.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "openldap"

_SNIFF = re.compile(
    r"(?:^|[ />])slapd(?:\[\d{1,10}\]: |: | \d{1,10} - )|(?:^|\s)conn=\d{1,19} (?:fd|op)=\d{1,19} [A-Z]"
)
_OPERATION = re.compile(r"conn=(\d{1,19}) (?:fd=(\d{1,10})|op=(\d{1,19}))(?: (.*))?", re.DOTALL)
_HEX_TIME = re.compile(r"([0-9a-f]{8,16})(?:\.([0-9a-f]{1,8}))? (?:0x[0-9a-f]{1,16} )?(?=conn=|slapd|@\(#\))")
_ACCEPT = re.compile(
    r"ACCEPT from (?:IP|PATH)=\[?([^\s\]]{1,255}?)\]?(?::(\d{1,5}))? \((?:IP|PATH)=\[?([^\s)\]]{1,255}?)\]?(?::(\d{1,5}))?\)"
)
_PAIRS = re.compile(r'\b([a-z_]{2,24})=(?:"((?:[^"\\]|\\.)*+)"|(\S*+))')
_RDN = re.compile(
    r"\s*(?:uid|cn|mail|sAMAccountName|krbPrincipalName|userPrincipalName)\s*=\s*((?:[^,+\\]|\\.)*+)", re.IGNORECASE
)
_SASL = re.compile(r"uid=([^,]{1,256}),(?:cn=[^,]{1,256},){0,2}cn=auth", re.IGNORECASE)
_ESCAPE = re.compile(r"\\([0-9a-fA-F]{2}|.)")
_CLOSED = re.compile(r"closed(?: \((.{1,128})\))?")

_AUTHENTICATION: tuple[str, ...] = ("authentication",)
_NETWORK: tuple[str, ...] = ("network",)
_DATABASE: tuple[str, ...] = ("database",)
_IAM: tuple[str, ...] = ("iam",)
_INFO: tuple[str, ...] = ("info",)
_START: tuple[str, ...] = ("start",)
_FAILED: tuple[str, ...] = ("start", "denied")
_BIND_IN_PROGRESS = "14"
_BIND_RESPONSE = "97"
_ERRORS = {
    "1": "operationsError", "2": "protocolError", "3": "timeLimitExceeded", "4": "sizeLimitExceeded",
    "7": "authMethodNotSupported", "8": "strongerAuthRequired", "13": "confidentialityRequired",
    "14": "saslBindInProgress", "16": "noSuchAttribute", "17": "undefinedAttributeType", "19": "constraintViolation",
    "20": "attributeOrValueExists", "21": "invalidAttributeSyntax", "32": "noSuchObject", "34": "invalidDNSyntax",
    "48": "inappropriateAuthentication", "49": "invalidCredentials", "50": "insufficientAccessRights", "51": "busy",
    "52": "unavailable", "53": "unwillingToPerform", "65": "objectClassViolation", "68": "entryAlreadyExists",
}  # fmt: skip
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # what a server listens on, told in its log
_NO_FAILURES = frozenset({"0", "5", "6", "10", _BIND_IN_PROGRESS})
# operation -> category, type
_OPERATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "SRCH": (_DATABASE, ("access",)),
    "CMP": (_DATABASE, ("access",)),
    "ADD": (_IAM, ("creation",)),
    "DEL": (_IAM, ("deletion",)),
    "MOD": (_IAM, ("change",)),
    "MODRDN": (_IAM, ("change",)),
    "PASSMOD": (_IAM, ("user", "change")),
    "UNBIND": (_AUTHENTICATION, ("end",)),
    "EXT": (_DATABASE, _INFO),
    "STARTTLS": (_NETWORK, ("protocol",)),
    "WHOAMI": (_DATABASE, ("access",)),
    "ABANDON": (_DATABASE, _INFO),
}


def sniff(text: str) -> bool:
    return ("slapd" in text[:300] or "conn=" in text[:300]) and _SNIFF.search(text, 0, 320) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    own = _HEX_TIME.match(text)
    host = pid = None
    program = "slapd"
    if own is not None:  # slapd -d: hexadecimal seconds and, since 2.5, nanoseconds
        at, message = int(own[1], 16) + int(own[2] or "0", 16) / 1e9, text[own.end() :]
        if at > 7_258_118_400:  # after 2200: no time of a log
            at = origin.received
    else:
        envelope = peel(text, origin)
        at = envelope.timestamp if envelope.timestamp is not None else origin.received
        host, pid, message = envelope.host, envelope.pid, envelope.message
        if envelope.app is None or envelope.app.rpartition("/")[2] != "slapd":
            if _OPERATION.match(message) is None:
                raise ParseError("no line of slapd: neither its name in front nor a connection (conn=...)")
            program = envelope.app or program
    operation = _OPERATION.match(message)
    if operation is None:
        return (
            Event(
                at, NAME, "openldap.server", (), _INFO, message=message, host_name=host, process_name=program,
                process_pid=pid, service_name="ldap",
            ),
        )  # fmt: skip
    said = operation[4] or ""
    category, types, action, outcome, code, user = _DATABASE, _INFO, None, None, None, None
    source = port = local = local_port = None
    word = said.partition(" ")[0]
    if word == "ACCEPT":
        category, types, action = _NETWORK, ("connection", "start"), "accept"
        accept = _ACCEPT.match(said)
        if accept is not None and "IP=" in said[:20]:
            source, port, local, local_port = accept.groups()
            local = None if local in _EVERYWHERE else local
    elif word == "BIND":
        category, action = _AUTHENTICATION, "bind"
        dn = said.partition('dn="')[2].partition('"')[0]
        user = _user(dn) if dn else None
        if " mech=" in said:  # logged when it has succeeded
            types, outcome = _START, "success"
            if dn == "" and "authcid" not in said:
                types, user = _INFO, None  # anonymous
        elif (sasl := said.partition('authcid="')[2].partition('"')[0]) != "":
            user = sasl
    elif word in {"RESULT", "SEARCH", "SEARCHRESULT"}:
        tag, code = said.partition("tag=")[2].partition(" ")[0], said.partition("err=")[2].partition(" ")[0]
        outcome = None if not code else "success" if code in _NO_FAILURES else "failure"
        action = "result"
        if tag == _BIND_RESPONSE:
            category, action = _AUTHENTICATION, "bind-result"
            types = _FAILED if outcome == "failure" else _INFO
    elif word == "closed":
        category, types, action = _NETWORK, ("connection", "end"), "closed"
    elif said.startswith("TLS "):
        category, types, action = _NETWORK, ("protocol",), said[:64].partition(" tls_")[0].lower().replace(" ", "-")
        outcome = "failure" if "fail" in said else "success" if "established" in said else None
    else:
        known = _OPERATIONS.get(word)
        action = word.lower() or None
        if known is not None:
            category, types = known
        if word == "PASSMOD":
            user = _user(said.partition('id="')[2].partition('"')[0])
    return (
        Event(
            at, NAME, "openldap.auth" if category is _AUTHENTICATION else "openldap.access", category, types, action, outcome,
            code if code and code.isdecimal() and len(code) < 10 else None, message, host, user or None, None, source,
            int(port) if port else None, None, local, int(local_port) if local_port else None, None,
            "tcp" if source else None, program, pid, service_name="ldap", fields=Lazy(_fields, operation),
        ),
    )  # fmt: skip


def _fields(operation: re.Match[str]) -> dict[str, Any]:
    """The names that slapd uses; `conn` and `op` tie a bind to its result."""
    connection, descriptor, number, said = operation.groups()
    fields: dict[str, Any] = {"network.protocol": "ldap", "conn": connection}
    if descriptor:
        fields["fd"] = descriptor
    if number:
        fields["op"] = number
    for key, quoted, plain in _PAIRS.findall(said or ""):
        fields.setdefault(key, quoted or plain)
    if (dn := fields.get("dn")) and (said or "").startswith("BIND"):
        fields["user.id"] = dn
    if (code := fields.get("err")) in _ERRORS:
        fields["error.code"], fields["event.reason"] = code, _ERRORS[code]
    if (closed := _CLOSED.match(said or "")) is not None and closed[1]:
        fields["event.reason"] = closed[1]
    return fields


def _user(dn: str) -> str | None:
    """The name that a distinguished name starts with: uid=a.krueger,ou=People,... -> a.krueger."""
    if not dn:
        return None
    sasl = _SASL.match(dn)
    found = sasl or _RDN.match(dn)
    if found is None:
        return dn
    name = found[1].strip()
    return (
        _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if len(match[1]) > 1 else match[1], name)
        if "\\" in name
        else name
    )
