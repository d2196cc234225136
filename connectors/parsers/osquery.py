"""osquery results: rows added to or removed from a query's answer, snapshots, and what osqueryd says of itself.

Each row becomes one event; columns keep their names, and those that many tables share are mapped to ECS.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from connectors import tolerant_json
from connectors.clock import from_epoch
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import TRANSPORTS, address_of

NAME = "osquery"
ROWS_MAX = 1000  # of one line; what follows is not read
COLUMNS_MAX = 256  # of one row
HEAD_CHARS_MAX = 512  # a syslog header before the JSON
NUMBER_MAX = 2**31 - 1  # of a process
PORT_MAX = 65_535
INTEGER_BITS = 63

Row = dict[str, Any]


class Meaning(NamedTuple):
    category: tuple[str, ...] = ()
    type: tuple[str, ...] = ("info",)


# What a query is about is told by its columns, the most telling first: names of queries and packs are the user's own.
_TABLES: tuple[tuple[frozenset[str], str, Meaning], ...] = (
    (frozenset(("remote_address", "remote_port")), "network", Meaning(("network",), ("connection", "info"))),
    (frozenset(("pid", "cmdline")), "process", Meaning(("process",), ("info",))),
    (frozenset(("tty", "host", "user")), "session", Meaning(("session",), ("info",))),
    (frozenset(("tty", "host", "username")), "session", Meaning(("session",), ("info",))),
    (frozenset(("logon_type", "user")), "session", Meaning(("session",), ("info",))),
    (frozenset(("target_path", "action")), "file", Meaning(("file",), ("change",))),
    (frozenset(("address", "port", "protocol")), "network", Meaning(("network",), ("info",))),
    (frozenset(("username", "shell")), "user", Meaning(("iam",), ("user", "info"))),
    (frozenset(("username", "uid")), "user", Meaning(("iam",), ("user", "info"))),
    (frozenset(("groupname", "gid")), "group", Meaning(("iam",), ("group", "info"))),
    (frozenset(("pid", "name")), "process", Meaning(("process",), ("info",))),
    (frozenset(("pid", "path")), "process", Meaning(("process",), ("info",))),
    (frozenset(("path", "mtime")), "file", Meaning(("file",), ("info",))),
    (frozenset(("path", "sha256")), "file", Meaning(("file",), ("info",))),
    (frozenset(("name", "version")), "package", Meaning(("package",), ("info",))),
    (frozenset(("command", "path")), "config", Meaning(("configuration",), ("info",))),
)
_OTHER = ("result", Meaning())
_EVENTED = {"process": ("start",), "file": ("change",), "network": ("connection", "start"), "session": ("start",)}
_LEVELS = {"0": "info", "1": "warning", "2": "error", "3": "fatal"}
_HASHES = ("md5", "sha1", "sha256")


def sniff(text: str) -> bool:
    begin = 0 if text[:1] == "{" else text.find("{", 0, HEAD_CHARS_MAX)
    return begin >= 0 and '"hostIdentifier"' in text and ('"unixTime"' in text or '"calendarTime"' in text)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = 0 if text[:1] == "{" else text.find("{", 0, HEAD_CHARS_MAX)
    if begin < 0:
        raise ParseError("no osquery result: no JSON object")
    document, damaged = tolerant_json.decode(text[begin:] if begin else text)
    if type(document) is not dict or not ("hostIdentifier" in document or "host_identifier" in document):
        raise ParseError("no osquery result: a JSON object without hostIdentifier")
    at = _time(document.get("unixTime", document.get("unix_time")), text[:begin], origin)
    host = _text(document.get("hostIdentifier") or document.get("host_identifier"))
    shared: dict[str, Any] = {}
    if damaged:
        shared["shield.truncated"] = True
    if (query := _text(document.get("name"))) is not None:
        shared["rule.name"] = query
    decorations = document.get("decorations")
    decorations = decorations if type(decorations) is dict else {}
    for key, value in list(decorations.items())[:COLUMNS_MAX]:
        shared["osquery.decorations." + key.replace(".", "_")] = _plain(value)
    if (identity := _text(decorations.get("host_uuid"))) is not None:
        shared["host.id"] = identity
    host = _text(decorations.get("hostname")) or host
    rows = _rows(document)
    if not rows:
        return (_status(document, at, host, shared),)
    return [_event(action, row, at, host, _text(decorations.get("username")), shared) for action, row in rows]


def _rows(document: dict[str, Any]) -> list[tuple[str, Row]]:
    """Action and columns of each row: one by one, a batch of differences, or a snapshot."""
    stated = _text(document.get("action"))
    columns = document.get("columns")
    if type(columns) is dict:
        return [(stated or "added", columns)]
    rows: list[tuple[str, Row]] = []
    batches: list[tuple[str, Any]] = [(stated or "snapshot", document.get("snapshot"))]
    if type(differences := document.get("diffResults")) is dict:
        batches += [(action, differences.get(action)) for action in ("added", "removed")]
    for action, batch in batches:
        if type(batch) is list:
            rows += [(action, row) for row in batch[: ROWS_MAX - len(rows)] if type(row) is dict]
    return rows


def _event(action: str, row: Row, at: float, host: str | None, console: str | None, shared: dict[str, Any]) -> Event:
    get = row.get
    kind, meaning = _table(frozenset(row) if len(row) <= COLUMNS_MAX else frozenset(list(row)[:COLUMNS_MAX]))
    evented = "eid" in row or "auid" in row  # the tables of events, which tell what happened and when
    types = _EVENTED.get(kind, meaning.type) if evented else meaning.type
    if action == "removed" and not evented:
        types = tuple("end" if word == "start" else word for word in types)
    fields: dict[str, Any] = {name.replace(".", "_"): _plain(value) for name, value in list(row.items())[:COLUMNS_MAX]}
    fields.update(shared)
    path = _text(get("target_path")) or _text(get("path"))
    executable = (
        path if kind == "process" else _text(get("process_path")) or _text(get("path")) if "pid" in row else None
    )
    user = _text(get("user")) or _text(get("username"))
    user = user or console if kind in ("session", "process") else console or user
    for name in _HASHES:
        if (value := _text(get(name))) is not None:
            fields[f"file.hash.{name}"] = value.lower()
    if (directory := _text(get("cwd"))) is not None:
        fields["process.working_directory"] = directory
    if (parent := _number(get("parent"))) is not None:
        fields["process.parent.pid"] = parent
    if (uid := get("uid")) not in (None, ""):
        fields["user.id"] = str(_plain(uid))
    source, source_port = _text(get("local_address")), get("local_port")
    destination, destination_port = _text(get("remote_address")), get("remote_port")
    if kind == "session":
        source, source_port = _text(get("host")), None
    program = _text(get("process")) or (_text(get("name")) if kind == "process" else None)
    if program is None and executable is not None:
        program = executable.rpartition("/")[2].rpartition("\\")[2]
    protocol = str(_plain(get("protocol"))) if get("protocol") not in (None, "") else None
    return Event(
        _happened(get("time"), at) if evented else at,
        NAME,
        f"{NAME}.{kind}",
        meaning.category,
        types,
        action,
        None,
        None,
        _text(get("message")),
        host,
        user,
        None,
        address_of(source) if source is not None else None,
        _port(source_port),
        None,
        address_of(destination) if destination is not None else None,
        _port(destination_port),
        None,
        TRANSPORTS.get(protocol, protocol.lower()) if protocol and kind == "network" else None,
        program or None,
        process_pid=_number(get("pid")),
        process_executable=executable,
        process_command_line=_text(get("cmdline")) or (_text(get("command")) if kind == "config" else None),
        file_path=path,
        fields=fields,
    )


@lru_cache(maxsize=4096)
def _table(columns: frozenset[str]) -> tuple[str, Meaning]:
    return next(((kind, meaning) for needed, kind, meaning in _TABLES if needed <= columns), _OTHER)


def _status(document: dict[str, Any], at: float, host: str | None, shared: dict[str, Any]) -> Event:
    """A line of osqueryd's own log, or an answer without rows."""
    severity = document.get("severity")
    for name in ("filename", "line", "version", "counter", "epoch"):
        if type(value := document.get(name)) in (str, int):
            shared[name] = _plain(value)
    if severity is not None:
        shared["log.level"] = _LEVELS.get(str(_plain(severity)), "info")
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset=f"{NAME}.{'status' if severity is not None else 'result'}",
        event_type=("info",),
        event_action=_text(document.get("action")),
        message=_text(document.get("message")),
        host_name=host,
        fields=shared,
    )


def _plain(value: Any) -> Any:
    """A value that every consumer can hold."""
    if type(value) is int and value.bit_length() > INTEGER_BITS:
        return str(value)
    return value if value is None or type(value) in (str, int, float, bool) else str(value)[:COLUMNS_MAX]


def _text(value: Any) -> str | None:
    return value if type(value) is str and value else None


def _number(value: Any) -> int | None:
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    return value if type(value) is int and 0 <= value <= NUMBER_MAX else None


def _port(value: Any) -> int | None:
    number = _number(value)
    return number if number is not None and 0 < number <= PORT_MAX else None


def _happened(stated: Any, otherwise: float) -> float:
    number = _number(stated)
    return float(number) if number is not None and number > 0 else otherwise


def _time(stated: Any, head: str, origin: Origin) -> float:
    try:
        if type(stated) is str and stated.isascii() and stated.isdigit() and len(stated) <= 19:
            return from_epoch(float(stated))
        if type(stated) in (int, float):
            return from_epoch(stated)
    except (ValueError, OverflowError):
        pass
    enveloped = peel(head, origin).timestamp if head else None
    return origin.received if enveloped is None else enveloped
