"""PostgreSQL: stderr and syslog lines with the usual prefixes, csvlog, jsonlog, and the records of pgAudit in any of them."""

import csv
import re
from collections.abc import Sequence
from typing import Any

from connectors import tolerant_json
from connectors.clock import from_iso
from connectors.envelope import ZONES_H, Envelope, peel
from connectors.events import Event, Origin, ParseError
from connectors.values import address_of, whole_number

NAME = "postgresql"
PREFIX_CHARS_MAX = 512  # of log_line_prefix and a syslog header
CSV_CHARS_MAX = 262_144
STATEMENT_CHARS_MAX = 16_384

_SEVERITY = re.compile(
    r"(?<![\w\"])(DEBUG[1-5]?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|STATEMENT|DETAIL|HINT|CONTEXT|QUERY|LOCATION): {1,2}"
)
_STAMP = re.compile(
    r"(?<!\d)(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)(?: ?([A-Z]{1,5}|[+-]\d\d(?::?\d\d)?)(?![\w]))?"
)
_OWN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]{3,5} \[\d{1,10}\] ")  # no syslog in front
_EPOCH = re.compile(r"(?<![\d.])(\d{10}\.\d{3})(?![\d.])")
_PID = re.compile(r"\[(\d{1,10})(?:-\d{1,10})?\]")
_WHO = re.compile(r"(?<![^\s:,\[(|])([^\s@:,\[\]()|=]{1,128})@([^\s@:,\[\]()|]{1,128})")
_NAMED = re.compile(r"\b(user|db|database|app|client|host)=([^,\s]{0,255})")
_ADDRESS = re.compile(
    r"(?<![\w.:])(\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{0,4}){2,7})(?:\((\d{1,5})\))?(?![\w.])"
)
_CSV = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z+\-\d:]{1,8},(?:\"[^\"]{0,128}\")?,(?:\"[^\"]{0,128}\")?,\d{1,10},"
)
_FAILED = re.compile(
    r"(?:\w{2,16} )?authentication failed for user \"([^\"]{0,128})\"|role \"([^\"]{1,128})\" (?:does not exist|is not permitted to log in)"
)
_NO_ENTRY = re.compile(
    r"no pg_hba\.conf entry for (?:replication connection from )?host \"([^\"]{1,64})\", user \"([^\"]{0,128})\"(?:, database \"([^\"]{0,128})\")?"
)
_RECEIVED = re.compile(r"connection received: host=(\S{1,255})(?: port=(\d{1,5}))?")
_AUTHORIZED = re.compile(r"(?:replication )?connection authorized: user=(\S{1,128})(?: database=(\S{1,128}))?")
_AUTHENTICATED = re.compile(r"connection authenticated: identity=\"([^\"]{1,256})\" method=([\w-]{1,32})")
_ENDED = re.compile(
    r"disconnection: session time: (\S{1,32}) user=(\S{1,128}) database=(\S{1,128}) host=(\S{1,255})(?: port=(\d{1,5}))?"
)
_AUDIT = re.compile(
    r"AUDIT: (SESSION|OBJECT),(\d{1,20}),(\d{1,20}),([A-Z]{1,16}),([^,]{0,64}),([^,]{0,64}),([^,]{0,256}),(.*)",
    re.DOTALL,
)
_STATEMENT = re.compile(
    r"(?:duration: [\d.]{1,20} ms {1,2})?(?:statement|execute [^:]{1,64}|parse [^:]{1,64}): (.*)", re.DOTALL
)

_AUTH = ("authentication",)
_SESSION = ("session",)
_DATABASE = ("database",)
_CLASSES = {"READ": ("access",), "WRITE": ("change",), "DDL": ("change",), "ROLE": ("change",), "FUNCTION": ("access",)}
_CSV_NAMES = (
    "log_time user_name database_name process_id connection_from session_id session_line_num command_tag "
    "session_start_time virtual_transaction_id transaction_id error_severity sql_state_code message detail hint "
    "internal_query internal_query_pos context query query_pos location application_name backend_type leader_pid query_id"
)
_COLUMNS = tuple(_CSV_NAMES.split())


_NO_ENVELOPE = Envelope(None, None, None, None, None, None, None, "")


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return '"error_severity"' in text and '"backend_type"' in text
    if _CSV.match(text) is not None:
        return True
    found = _SEVERITY.search(text, 0, PREFIX_CHARS_MAX)
    if found is None:
        return False
    prefix = text[: found.start()]
    return "postgres" in prefix or (_PID.search(prefix) is not None and _STAMP.search(prefix) is not None)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] == "{":
        return (_json(text, origin),)
    if _CSV.match(text) is not None:
        return (_csv(text, origin),)
    found = _SEVERITY.search(text, 0, PREFIX_CHARS_MAX)
    own = found is not None and _OWN.match(text) is not None
    envelope = _NO_ENVELOPE if own else peel(text, origin)
    if found is None:
        if not envelope.recognised:
            raise ParseError("no line of PostgreSQL: no severity such as LOG or FATAL, no csvlog, no jsonlog")
        at = origin.received if envelope.timestamp is None else envelope.timestamp
        return (_event(at, {}, "", envelope.message, host=envelope.host, pid=envelope.pid),)
    prefix, message = text[: found.start()], text[found.end() :]
    syslog = envelope.app is not None
    if syslog:
        prefix = prefix[max(0, prefix.find(envelope.app or "")) :]
    stamp = _STAMP.search(prefix)
    stated = _prefix_time(prefix, stamp, origin)
    if stated is None:
        stated = envelope.timestamp
    fields: dict[str, Any] = {}
    user = database = None
    if "@" in prefix and (who := _WHO.search(prefix)) is not None:
        user, database = who.groups()
    for name, value in _NAMED.findall(prefix) if "=" in prefix else ():
        if name == "user":
            user = value or None
        elif name in ("db", "database"):
            database = value or None
        elif name == "app" and value:
            fields["application_name"] = value
    if database:
        fields["database"] = database
    rest = prefix if stamp is None else f"{prefix[: stamp.start()]} {prefix[stamp.end() :]}"
    peer = _ADDRESS.search(_STAMP.sub(" ", rest)) if rest.count(":") > 1 or rest.count(".") > 2 else None
    pid = _PID.search(prefix)
    return (
        _event(
            origin.received if stated is None else stated,
            fields,
            found[1],
            message,
            host=envelope.host if syslog else None,
            pid=int(pid[1]) if pid is not None else envelope.pid if syslog else None,
            user=None if user == "[unknown]" else user,
            client=peer[1] if peer is not None else None,
            port=peer[2] if peer is not None else None,
        ),
    )


def _event(
    at: float,
    fields: dict[str, Any],
    severity: str,
    message: str,
    *,
    host: str | None = None,
    pid: int | None = None,
    user: str | None = None,
    client: str | None = None,
    port: str | int | None = None,
    code: str | None = None,
) -> Event:
    kind, action, outcome = "log", None, None
    category: tuple[str, ...] = _DATABASE
    types: tuple[str, ...] = ("error",) if severity in ("ERROR", "FATAL", "PANIC") else ("info",)
    if severity:
        fields["log.level"] = severity.lower()
    first = message[:2048]
    if severity in ("FATAL", "ERROR", ""):
        if (failed := _FAILED.search(first)) is not None:
            kind, category, types, action, outcome = "auth", _AUTH, ("start",), "logon", "failure"
            user = failed[1] or failed[2] or user
        elif (refused := _NO_ENTRY.search(first)) is not None:
            kind, category, types, action, outcome = "auth", _AUTH, ("start",), "logon", "failure"
            client, user = refused[1], refused[2] or user
            fields["event.reason"] = "no pg_hba.conf entry"
            if refused[3]:
                fields["database"] = refused[3]
    elif (authorized := _AUTHORIZED.match(first)) is not None:
        kind, category, types, action, outcome = "auth", _AUTH, ("start",), "logon", "success"
        user = authorized[1]
        if authorized[2]:
            fields["database"] = authorized[2]
    elif (authenticated := _AUTHENTICATED.match(first)) is not None:
        kind, category, action, outcome = "session", _SESSION, "authenticated", "success"
        user = user or authenticated[1]
        fields["authentication_method"] = authenticated[2]
    elif (received := _RECEIVED.match(first)) is not None:
        kind, category, types, action = "connection", ("network",), ("connection", "start"), "connect"
        client, port = received[1], received[2]
    elif (ended := _ENDED.match(first)) is not None:
        kind, category, types, action = "session", _SESSION, ("end",), "disconnect"
        user, client, port = ended[2], ended[4], ended[5]
        fields["database"] = ended[3]
    elif (audit := _AUDIT.match(message)) is not None:
        kind, action, outcome = "audit", audit[5].lower() or audit[4].lower(), "success"
        category, types = ("iam",) if audit[4] == "ROLE" else _DATABASE, _CLASSES.get(audit[4], ("info",))
        names = ("audit_type", "class", "command", "object_type", "object_name")
        fields.update(zip(names, audit.group(1, 4, 5, 6, 7), strict=True))
    elif severity in ("STATEMENT", "QUERY") or _STATEMENT.match(message) is not None:
        kind, action, types = "query", "statement", ("access",)
    address = address_of(client) if client else None
    if client and address is None and client != "[local]":
        fields["source.domain"] = client
    number = whole_number(str(port)) or 0
    return Event(
        at,
        NAME,
        f"{NAME}.{kind}",
        category,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        event_code=code,
        message=message[:STATEMENT_CHARS_MAX] or None,
        host_name=host,
        user_name=user,
        source_ip=address,
        source_port=number if 0 < number < 65_536 else None,
        process_name="postgres",
        process_pid=pid,
        service_name=NAME if kind == "auth" else None,
        fields=fields,
    )


def _csv(text: str, origin: Origin) -> Event:
    try:
        row = next(csv.reader([text[:CSV_CHARS_MAX]], strict=False), [])
    except csv.Error as error:
        raise ParseError(f"a line of csvlog that cannot be read: {error}") from error
    told = {name: value for name, value in zip(_COLUMNS, row, strict=False) if value}
    get = told.get
    stated = get("log_time", "")
    at = _prefix_time(stated, _STAMP.search(stated), origin)
    client, _, port = get("connection_from", "").rpartition(":")
    fields: dict[str, Any] = {
        name: told[name]
        for name in ("session_id", "command_tag", "detail", "query", "application_name")
        if name in told
    }
    if (database := get("database_name")) is not None:
        fields["database"] = database
    return _event(
        origin.received if at is None else at,
        fields,
        get("error_severity", ""),
        get("message", ""),
        pid=_number(get("process_id")),
        user=get("user_name"),
        client=client or get("connection_from"),
        port=port,
        code=get("sql_state_code"),
    )


def _json(text: str, origin: Origin) -> Event:
    document, damaged = tolerant_json.decode(text)
    if type(document) is not dict or "error_severity" not in document:
        raise ParseError("no line of PostgreSQL's jsonlog: a JSON object without error_severity")
    told = {
        name: str(value) for name, value in list(document.items())[:64] if type(value) in (str, int) and value != ""
    }
    get = told.get
    fields: dict[str, Any] = {
        name: told[name] for name in ("session_id", "ps", "detail", "statement", "application_name") if name in told
    }
    if (database := get("dbname")) is not None:
        fields["database"] = database
    if damaged:
        fields["shield.truncated"] = True
    stated = get("timestamp", "")
    at = _prefix_time(stated, _STAMP.search(stated), origin)
    return _event(
        origin.received if at is None else at,
        fields,
        get("error_severity", ""),
        get("message", ""),
        pid=_number(get("pid")),
        user=get("user"),
        client=get("remote_host"),
        port=get("remote_port"),
        code=get("state_code"),
    )


def _prefix_time(prefix: str, match: re.Match[str] | None, origin: Origin) -> float | None:
    """A zone's name that means one offset is honoured; any other leaves the time to the source's clock."""
    if match is None:
        epoch = _EPOCH.search(prefix)
        return float(epoch[1]) if epoch is not None else None
    stamp, zone = match.groups()
    clock = origin.clock
    key = f"{stamp} {zone}"
    at = clock.stamps.get(key)
    if at is not None:
        return at
    try:
        if zone is not None and zone[0] in "+-":
            return from_iso(stamp + zone, clock)
        hours = ZONES_H.get(zone or "")
        if hours is None:
            at = from_iso(stamp, clock)
            clock.remember(key, at)
            return at
        return from_iso(stamp + "+00:00", clock) - hours * 3600.0
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 9 else None
