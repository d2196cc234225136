"""MySQL and MariaDB: error log, general query log, MariaDB's audit plugin, as text, JSON or through syslog."""

import re
from collections.abc import Sequence
from typing import Any

from connectors import tolerant_json
from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import address_of

NAME = "mysql"
QUERY_CHARS_MAX = 16_384  # of a statement kept as the event's message

_ISO = r"(\d{4}-\d\d-\d\d[T ] ?\d{1,2}:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)?)"
_SHORT = r"(\d{6} {1,2}\d{1,2}:\d\d:\d\d)"
_STAMP = rf"(?:{_ISO}|{_SHORT})"
_LEVEL = r"\[(Note|Warning|ERROR|Error|System)\](?: \[(MY-\d{6})\])?(?: \[(\w{1,24})\])? ?"
_ERROR = re.compile(rf"(?:{_ISO} (\d{{1,20}})|{_SHORT}) {_LEVEL}")
_GENERAL = re.compile(
    rf"(?:{_STAMP})?[\t ]{{1,8}}(\d{{1,20}}) (Connect|Query|Quit|Init DB|Prepare|Execute|Change user|Field List|Close stmt)(?:\t| |$)"
)
_DENIED = re.compile(
    r"Access denied for user '([^']{0,256})'@'([^']{0,255})'(?: to database '([^']{0,128})')?(?: \(using password: (\w{2,3})\))?"
)
_CONNECT = re.compile(r"([^@\s]{0,256})@(\S{0,255}?)(?: on (\S{0,128}))?(?: using (\S{1,32}))?$")
_ABORTED = re.compile(
    r"Aborted connection \d{1,20} to db: '([^']{0,128})' user: '([^']{0,256})' host: '([^']{0,255})'(?: \((.{0,256})\))?"
)
_AUDIT = re.compile(
    r"(\d{8} \d\d:\d\d:\d\d),([^,]{1,255}),([^,]{0,256}),([^,]{0,255}),(\d{1,20}),(\d{1,20}),([A-Z_]{3,24}),([^,]{0,128}),(.*),(\d{1,10})",
    re.DOTALL,
)
_AUDIT_SYSLOG = re.compile(
    r"([^,\s]{1,255}),([^,]{0,256}),([^,]{0,255}),(\d{1,20}),(\d{1,20}),([A-Z_]{3,24}),([^,]{0,128}),(.*),(\d{1,10})",
    re.DOTALL,
)
_LEVELS = {"Note": "notice", "Warning": "warning", "ERROR": "error", "System": "informational"}
_AUTH = ("authentication",)
_DATABASE = ("database",)
# Operations of the audit plugin: what they are.
OPERATIONS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "CONNECT": ("auth", _AUTH, ("start",)),
    "FAILED_CONNECT": ("auth", _AUTH, ("start",)),
    "DISCONNECT": ("session", ("session",), ("end",)),
    "QUERY": ("query", _DATABASE, ("access",)),
    "QUERY_DDL": ("query", _DATABASE, ("change",)),
    "QUERY_DML": ("query", _DATABASE, ("access",)),
    "QUERY_DCL": ("query", ("iam",), ("change",)),
    "READ": ("table", _DATABASE, ("access",)),
    "WRITE": ("table", _DATABASE, ("change",)),
    "CREATE": ("table", _DATABASE, ("creation",)),
    "ALTER": ("table", _DATABASE, ("change",)),
    "DROP": ("table", _DATABASE, ("deletion",)),
    "RENAME": ("table", _DATABASE, ("change",)),
}


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return '"err_code"' in text and '"prio"' in text
    return (
        _ERROR.match(text) is not None
        or _AUDIT.match(text[:1024] + ",0") is not None
        or (_GENERAL.match(text) is not None and text[:1] != " ")
        or (text.find("mysql-server_auditing", 0, 256) >= 0)
        or (
            text.find("Access denied for user '", 0, 512) >= 0
            and re.search(r"\b(?:mysqld|mariadbd?)\b", text[:256]) is not None
        )
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] == "{":
        return (_json(text, origin),)
    if (line := _read(text, origin, None)) is not None:
        return (line,)
    envelope = peel(text, origin)
    if not envelope.recognised:
        raise ParseError("no line of MySQL or MariaDB: no time with a thread and a level, and no audit record")
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    event = _read(envelope.message, origin, envelope.host)
    if event is None and (audit := _AUDIT_SYSLOG.match(envelope.message.lstrip())) is not None:
        event = _audit(at, audit.groups(), envelope.message)
    if event is None:
        event = _event(at, envelope.host, None, envelope.message, {})
    return (event,)


def _read(text: str, origin: Origin, host: str | None) -> Event | None:
    if (error := _ERROR.match(text)) is not None:
        iso, thread, short, level, code, subsystem = error.groups()
        fields: dict[str, Any] = {"log.level": _LEVELS.get(level, level.lower())}
        if thread is not None:
            fields["thread"] = thread
        if subsystem is not None:
            fields["subsystem"] = subsystem
        return _event(_time(iso or short, origin), host, code, text[error.end() :], fields)
    if (audit := _AUDIT.fullmatch(text)) is not None:
        return _audit(_time(audit[1], origin), audit.groups()[1:], text)
    if (general := _GENERAL.match(text)) is not None:
        iso, short, thread, command = general.groups()
        stamp = iso or short
        at = origin.received if stamp is None else _time(stamp, origin)
        return _general(at, host, thread, command, text[general.end() :].strip())
    return None


def _event(at: float, host: str | None, code: str | None, message: str, fields: dict[str, Any]) -> Event:
    kind, action, outcome, user, client = "error", None, None, None, None
    category: tuple[str, ...] = _DATABASE
    types: tuple[str, ...] = ("info",)
    service = None
    if (denied := _DENIED.search(message, 0, 4096)) is not None:
        kind, category, types, action, outcome, service = "auth", _AUTH, ("start",), "logon", "failure", NAME
        user, client = denied[1] or None, denied[2]
        if denied[3]:
            fields["database"] = denied[3]
        if denied[4]:
            fields["using_password"] = denied[4]
    elif (aborted := _ABORTED.search(message, 0, 4096)) is not None:
        kind, category, types, action = "session", ("session",), ("end",), "aborted-connection"
        user, client = aborted[2] if aborted[2] != "unauthenticated" else None, aborted[3]
        fields["database"] = aborted[1]
        if aborted[4]:
            fields["event.reason"] = aborted[4]
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset=f"{NAME}.{kind}",
        event_category=category,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        event_code=code,
        message=message or None,
        host_name=host,
        user_name=user,
        source_ip=_client(client, fields),
        process_name="mysqld",
        service_name=service,
        fields=fields,
    )


def _general(at: float, host: str | None, thread: str, command: str, rest: str) -> Event:
    fields: dict[str, Any] = {"thread": thread, "command": command}
    user = client = outcome = None
    category, types = _DATABASE, ("access",)
    if command in ("Connect", "Change user"):
        category, types, outcome = _AUTH, ("start",), "success"
        if (denied := _DENIED.match(rest)) is not None:
            user, client, outcome = denied[1] or None, denied[2], "failure"
        elif (connect := _CONNECT.match(rest)) is not None:
            user, client = connect[1] or None, connect[2]
            if connect[3]:
                fields["database"] = connect[3]
    elif command == "Quit":
        category, types = ("session",), ("end",)
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset=f"{NAME}.{'auth' if category == _AUTH else 'session' if command == 'Quit' else 'query'}",
        event_category=category,
        event_type=types,
        event_action="logon" if category == _AUTH else command.lower(),
        event_outcome=outcome,
        message=rest[:QUERY_CHARS_MAX] or None,
        host_name=host,
        user_name=user,
        source_ip=_client(client, fields),
        process_name="mysqld",
        service_name=NAME if category == _AUTH else None,
        fields=fields,
    )


def _audit(at: float, parts: Sequence[str | Any], message: str) -> Event:
    host, user, client, connection, query, operation, database, what, code = parts
    kind, category, types = OPERATIONS.get(operation, ("audit", _DATABASE, ("info",)))
    fields: dict[str, Any] = {"connectionid": connection, "queryid": query, "operation": operation, "retcode": code}
    if database:
        fields["database"] = database
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset=f"{NAME}.{kind}",
        event_category=category,
        event_type=types,
        event_action="logon" if kind == "auth" else operation.lower(),
        event_outcome="failure" if operation == "FAILED_CONNECT" or code != "0" else "success",
        message=what.strip("'")[:QUERY_CHARS_MAX] or message[:QUERY_CHARS_MAX],
        host_name=host,
        user_name=user or None,
        source_ip=_client(client, fields),
        process_name="mysqld",
        service_name=NAME if kind == "auth" else None,
        fields=fields,
    )


def _json(text: str, origin: Origin) -> Event:
    document, damaged = tolerant_json.decode(text)
    if type(document) is not dict or not ("err_code" in document or "msg" in document):
        raise ParseError("no line of MySQL: a JSON object without err_code and msg")
    fields: dict[str, Any] = {
        name: value
        for name, value in list(document.items())[:64]
        if type(value) is str or (type(value) is int and value.bit_length() <= 63)
    }
    message = fields.pop("msg", "")
    fields["log.level"] = _LEVELS.get(str(fields.get("label")), str(fields.get("label", "")).lower())
    if damaged:
        fields["shield.truncated"] = True
    code = fields.get("err_code")
    return _event(
        _time(str(fields.pop("time", "")), origin),
        None,
        f"MY-{code:06}" if type(code) is int and 0 <= code < 10**6 else None,
        message if type(message) is str else "",
        fields,
    )


def _client(client: str | None, fields: dict[str, Any]) -> str | None:
    """The address; a host's name goes to `source.domain`."""
    if not client:
        return None
    address = address_of(client.partition(":")[0] if client.count(":") == 1 else client)
    if address is None and client != "localhost":
        fields["source.domain"] = client
    return address


def _time(stamp: str, origin: Origin) -> float:
    clock = origin.clock
    at = clock.stamps.get(stamp)
    if at is not None:
        return at
    try:
        if stamp[:8].isdigit() and stamp[8:9] == " ":  # 20261124 08:15:02
            iso = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[9:]}"
        elif stamp[:6].isdigit():  # 261124  8:15:02
            iso = f"20{stamp[:2]}-{stamp[2:4]}-{stamp[4:6]} {stamp[6:].strip():0>8}"
        else:
            iso = f"{stamp[:10]} {stamp[11:].strip().rjust(8, '0') if stamp[10:12] == '  ' else stamp[11:]}"
        at = from_iso(iso, clock)
    except (ValueError, OverflowError):
        return origin.received
    if stamp[-1:] != "Z" and "+" not in stamp:
        clock.remember(stamp, at)
    return at
