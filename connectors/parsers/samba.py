"""Samba: the authentication and authorisation audit as text and JSON, `full_audit` file access, connections to shares."""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from connectors import tolerant_json
from connectors.clock import MONTHS, from_iso
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import address_of

NAME = "samba"
HEAD_CHARS_MAX = 512  # headers before the message
AUDIT_PARTS_MAX = 16  # of one line of full_audit

_HEADER = re.compile(
    r"\[(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?), {1,3}\d{1,2}[^\[\]]{0,200}\] ?(?:\S{1,200}:\d{1,7}\(\w{1,100}\) ?)?\s{0,4}"
)
_AUTH = re.compile(
    r"(Auth|Successful AuthZ): \[([^\[\]]{0,100})\] user \[([^\[\]]{0,256})\]\\\[([^\[\]]{0,256})\]"
    r"(?: \[([^\[\]]{0,200})\])? at \[([^\[\]]{0,80})\](?: with \[([^\[\]]{0,60})\])?(?: status \[([^\[\]]{0,80})\])?"
    r"(?: workstation \[([^\[\]]{0,255})\])?(?: Remote host \[([^\[\]]{0,100})\]| remote host \[([^\[\]]{0,100})\])?"
    r"(?: became \[([^\[\]]{0,256})\]\\\[([^\[\]]{0,256})\])?(?: mapped to \[[^\[\]]{0,256}\]\\\[[^\[\]]{0,256}\])?"
    r"(?: \[S-[\d-]{1,190}\])?\.? ?(?:local host \[([^\[\]]{0,100})\])?"
)
_AT = re.compile(r"(?:\w{3}, )?(\d{1,2}) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d(?:\.\d{1,9})?) (\w{2,5})")
_FULL_AUDIT = re.compile(r"(?:smbd_audit(?:\[\d{1,10}\])?: )?([^|\n]{1,256})\|(.{1,8192})", re.DOTALL)
_SHARE = re.compile(
    r"(\S{1,255}) \((ipv[46]:[^()]{1,64})\) (?:signed )?(connect to|closed connection to) service (\S{1,128})(?: initially as user (\S{1,256}))?"
)
_DENIED = re.compile(r"(Denied|Allowed) connection from (?:[^\s(]{0,255} )?\(?([0-9a-fA-F.:]{2,45})\)?")
_NTLM = re.compile(
    r"check_ntlm_password: {1,2}[Aa]uthentication for user \[([^\[\]]{0,256})\](?: -> \[[^\[\]]{0,256}\])?(?: -> \[[^\[\]]{0,256}\])? (FAILED|succeeded)(?: with error (\w{1,64}))?"
)


class Meaning(NamedTuple):
    category: tuple[str, ...]
    type: tuple[str, ...]


_FILE = ("file",)
# Operations of full_audit that say what became of a file.
OPERATIONS: dict[str, Meaning] = {
    **dict.fromkeys(
        ("open", "openat", "opendir", "fdopendir", "readdir", "pread", "pread_recv", "read", "sendfile", "stat"),
        Meaning(_FILE, ("access",)),
    ),
    **dict.fromkeys(
        (
            "pwrite",
            "pwrite_recv",
            "write",
            "ftruncate",
            "rename",
            "renameat",
            "chmod",
            "fchmod",
            "chown",
            "fset_nt_acl",
            "setxattr",
        ),
        Meaning(_FILE, ("change",)),
    ),
    **dict.fromkeys(
        ("mkdir", "mkdirat", "create_file", "link", "linkat", "symlink", "symlinkat", "mknod", "mknodat"),
        Meaning(_FILE, ("creation",)),
    ),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), Meaning(_FILE, ("deletion",))),
    "connect": Meaning(("session", "file"), ("start",)),
    "disconnect": Meaning(("session", "file"), ("end",)),
}
_OTHER = Meaning(_FILE, ("info",))
_JSON_TYPES = {
    "Authentication": "auth",
    "Authorization": "authz",
    "dsdbChange": "directory",
    "passwordChange": "iam",
    "groupChange": "iam",
}


def sniff(text: str) -> bool:
    head = text[:HEAD_CHARS_MAX]
    return (
        ("Auth: [" in head and "] status [" in text)
        or "Successful AuthZ: [" in head
        or "smbd_audit" in head
        or ("{" in head and '"type": "Auth' in text and '"remoteAddress"' in text)
        or _HEADER.match(text) is not None
        or (" smbd[" in head and any(word in text for word in _WORDS))
    )


_WORDS = ("connection from", "connect to service", "closed connection to", "check_ntlm_password")


def parse(text: str, origin: Origin) -> Sequence[Event]:
    stated, host, pid, app, message = _peeled(text, origin)
    at = origin.received if stated is None else stated
    begin = message.find("{", 0, HEAD_CHARS_MAX)
    if begin >= 0 and '"type"' in message:
        document, _ = tolerant_json.decode(message[begin:])
        if type(document) is dict and type(kind := document.get("type")) is str:
            return (_json(document, kind, at, host, origin),)
    if (auth := _AUTH.search(message, 0, 4096)) is not None:
        return (_auth(auth, at, host, pid, message),)
    if (app == "smbd_audit" or message.startswith("smbd_audit")) and (audit := _FULL_AUDIT.fullmatch(message)):
        return (_full_audit(audit, at, host, pid, message),)
    if stated is None:
        raise ParseError("no line of Samba: neither an audit record nor a line with smbd's or syslog's header")
    return (_log(at, host, pid, app, message),)


def _peeled(text: str, origin: Origin) -> tuple[float | None, str | None, int | None, str | None, str]:
    """Time, host, process and message, of syslog, of smbd's own header, or of both."""
    envelope = peel(text, origin)
    at, message = envelope.timestamp, envelope.message
    if (header := _HEADER.match(message)) is not None:
        message = message[header.end() :]
        with suppress(ValueError, OverflowError):
            at = from_iso(header[1].replace("/", "-"), origin.clock)
    return at, envelope.host, envelope.pid, envelope.app, message


def _auth(match: re.Match[str], at: float, host: str | None, pid: int | None, message: str) -> Event:
    word, service, domain, user, _, stamp, method, status, station, remote, remote_low, became_domain, became, local = (
        match.groups()
    )
    fields: dict[str, Any] = {"serviceDescription": service}
    if status:
        fields["status"] = status
        if status != "NT_STATUS_OK":
            fields["event.reason"] = status
    if method:
        fields["passwordType"] = method
    if station:
        fields["source.domain"] = station
    if became and became != user:
        fields["user.effective.name"], fields["user.effective.domain"] = became, became_domain
    source, source_port = _end(remote or remote_low)
    destination, destination_port = _end(local)
    logon = word == "Auth"
    outcome = "success" if status in ("NT_STATUS_OK", None) else "failure"
    return Event(
        _stated(stamp, at),
        NAME,
        f"{NAME}.{'auth' if logon else 'authz'}",
        ("authentication",) if logon else ("session",),
        ("start",),
        "logon" if logon else "authorization",
        outcome,
        None,
        message,
        host,
        user_name=user or None,
        user_domain=domain or None,
        source_ip=source,
        source_port=source_port,
        destination_ip=destination,
        destination_port=destination_port,
        process_name="smbd",
        process_pid=pid,
        service_name="smb",
        fields=fields,
    )


def _json(document: dict[str, Any], kind: str, at: float, host: str | None, origin: Origin) -> Event:
    told = document.get(kind)
    told = told if type(told) is dict else {}
    fields: dict[str, Any] = {
        name: value
        for name, value in list(told.items())[:100]
        if type(value) in (str, bool) or (type(value) is int and value.bit_length() <= 63)
    }
    with suppress(ValueError, OverflowError):
        at = from_iso(str(document.get("timestamp")), origin.clock)
    status = told.get("status")
    source, source_port = _end(told.get("remoteAddress"))
    destination, destination_port = _end(told.get("localAddress"))
    dataset = _JSON_TYPES.get(kind, "log")
    category = {"auth": ("authentication",), "authz": ("session",), "iam": ("iam",), "directory": ("iam",)}.get(
        dataset, ()
    )
    user = next(
        (value for name in ("clientAccount", "account", "user") if type(value := told.get(name)) is str and value), None
    )
    domain = next(
        (value for name in ("clientDomain", "domain") if type(value := told.get(name)) is str and value), None
    )
    code = told.get("eventId")
    if type(station := told.get("workstation")) is str and station:
        fields["source.domain"] = station
    return Event(
        at,
        NAME,
        f"{NAME}.{dataset}",
        category,
        ("start",) if dataset in ("auth", "authz") else ("change",) if category else ("info",),
        "logon" if dataset == "auth" else kind,
        event_outcome=None
        if type(status) is not str
        else "success"
        if status in ("NT_STATUS_OK", "Success")
        else "failure",
        event_code=str(code) if type(code) is int and 0 < code < 100_000 else None,
        host_name=host,
        user_name=user,
        user_domain=domain,
        source_ip=source,
        source_port=source_port,
        destination_ip=destination,
        destination_port=destination_port,
        process_name="smbd",
        service_name="smb" if dataset == "auth" else None,
        fields=fields,
    )


def _full_audit(match: re.Match[str], at: float, host: str | None, pid: int | None, message: str) -> Event:
    """`user|address|...|operation|ok or fail (why)|what`: what stands between is the administrator's own choice."""
    user, rest = match.groups()
    parts = rest.split("|", AUDIT_PARTS_MAX)
    where = next((index for index, part in enumerate(parts) if part in OPERATIONS), None)
    source = next((found for part in parts[:where] if (found := address_of(part)) is not None), None)
    fields: dict[str, Any] = {}
    operation, outcome, path = None, None, None
    if where is not None:
        operation = parts[where]
        result = parts[where + 1] if len(parts) > where + 1 else ""
        outcome = "success" if result == "ok" else "failure" if result.startswith("fail") else None
        if outcome == "failure":
            fields["event.reason"] = result[4:].strip(" ()")
        paths = [part for part in parts[where + 2 :] if part]
        path = next((part for part in paths if "/" in part or "." in part), paths[-1] if paths else None)
        named = [part for part in parts[:where] if address_of(part) is None]
        if named:
            fields["share"] = named[-1]
    meaning = OPERATIONS.get(operation or "", _OTHER)
    return Event(
        at,
        NAME,
        event_dataset=f"{NAME}.audit",
        event_category=meaning.category,
        event_type=meaning.type,
        event_action=operation,
        event_outcome=outcome,
        message=message,
        host_name=host,
        user_name=user.rpartition("\\")[2],
        user_domain=user.rpartition("\\")[0] or None,
        source_ip=source,
        process_name="smbd",
        process_pid=pid,
        file_path=path,
        fields=fields,
    )


def _log(at: float, host: str | None, pid: int | None, app: str | None, message: str) -> Event:
    fields: dict[str, Any] = {}
    kind, action, outcome = "log", None, None
    category: tuple[str, ...] = ()
    types: tuple[str, ...] = ("info",)
    user = source = None
    if " service " in message and (share := _SHARE.search(message, 0, 1024)) is not None:
        starts = share[3] == "connect to"
        kind, category, types = "session", ("session",), ("start",) if starts else ("end",)
        action, source, user = "connect" if starts else "disconnect", _end(share[2])[0], share[5]
        fields["share"], fields["source.domain"] = share[4], share[1]
    elif (denied := _DENIED.search(message, 0, 1024)) is not None:
        allowed = denied[1] == "Allowed"
        kind, category, types = "connection", ("network",), ("connection", "allowed" if allowed else "denied")
        action, outcome, source = "connect", "success" if allowed else "failure", address_of(denied[2])
    elif (ntlm := _NTLM.search(message, 0, 1024)) is not None:
        kind, category, types, action = "auth", ("authentication",), ("start",), "logon"
        user, outcome = ntlm[1] or None, "success" if ntlm[2] == "succeeded" else "failure"
        if ntlm[3]:
            fields["event.reason"] = ntlm[3]
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset=f"{NAME}.{kind}",
        event_category=category,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        message=message or None,
        host_name=host,
        user_name=user,
        source_ip=source,
        process_name=app or "smbd",
        process_pid=pid,
        service_name="smb" if kind == "auth" else None,
        fields=fields,
    )


def _stated(stamp: str, otherwise: float) -> float:
    match = _AT.match(stamp)
    if match is not None and (month := MONTHS.get(match[2].lower())) is not None and match[7] in ("UTC", "GMT"):
        try:
            whole = datetime(int(match[3]), month, int(match[1]), int(match[4]), int(match[5]), tzinfo=UTC).timestamp()
            if 0 <= whole < 7_258_118_400.0 and (second := float(match[6])) < 61:
                return whole + second
        except (ValueError, OverflowError):
            pass
    return otherwise


def _end(text: Any) -> tuple[str | None, int | None]:
    """Address and port of `ipv4:192.0.2.1:445`."""
    if type(text) is not str:
        return None, None
    where, _, number = text.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")
    port = int(number) if number.isascii() and number.isdigit() and len(number) <= 5 else 0
    return address_of(where), port if 0 < port < 65_536 else None
