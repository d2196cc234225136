"""Any line in a syslog envelope, and any that begins with a time of its own or with its program: what is left for `auto`.

Time, host, program and message; of the message who did what from where, as far as it says so in a usual way.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors import prose
from connectors.envelope import Envelope, peel
from connectors.events import Event, Origin, ParseError

NAME = "syslog"

_SNIFF = re.compile(
    r"<\d{1,3}>|[A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d "
    r"|1? ?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* +[\w.:-]+ [^\s\[:]{1,128}[\[:]"
)
# Relays take the header away: `program[pid]: message`.
_PROGRAM = re.compile(r"([a-z][a-z0-9_-]{1,31})(?:\[(\d{1,10})\])?: (?=\S)")
_LEVELLED = re.compile(  # `ERROR:module:text`, `[name] [INFO] text`
    r"(?:\[[\w.-]{1,32}\] ?)?\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERR(?:OR)?|CRIT(?:ICAL)?|ALERT|FATAL|EMERG)[\]:]",
    re.IGNORECASE,
)
_LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
_DATASET_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,40}")
DATASETS_MAX = 1024  # program names remembered with the name of their dataset
_DATASETS: dict[str, str] = {}


def sniff(text: str) -> bool:
    return (
        _SNIFF.match(text) is not None
        or prose.starts(text)
        or _PROGRAM.match(text) is not None
        or _LEVELLED.match(text) is not None
        or prose.said(text) is not None
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    level = None
    if not envelope.recognised:
        envelope, level = _bare(text, origin)
    at = envelope.timestamp
    if at is None:
        at = origin.received
    severity, app, message = envelope.severity, envelope.app, envelope.message
    fields: dict[str, Any] = {}
    if severity is not None:
        fields["log.level"] = _LEVELS[severity]
        fields["log.syslog.severity.code"] = severity
        fields["log.syslog.facility.code"] = envelope.facility
    elif app is None and (level := level or prose.level(message)) is not None:
        fields["log.level"] = level
    if envelope.structured is not None or envelope.msgid is not None:
        if envelope.msgid is not None:
            fields["log.syslog.msgid"] = envelope.msgid
        for name, value in (envelope.structured or {}).items():
            fields["log.syslog.structured_data." + name] = value
    said = prose.said(message)
    dataset = (_DATASETS.get(app) or _dataset(app)) if app is not None else "syslog.log"
    if said is None:
        return (
            Event(
                at,
                NAME,
                dataset,
                (),
                (),
                None,
                None,
                None,
                message,
                envelope.host,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                app,
                envelope.pid,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                fields,
            ),
        )
    if said.method is not None:
        fields["http.request.method"], fields["url.original"] = said.method, said.target
    return (
        Event(
            at,
            NAME,
            dataset,
            (said.kind,) if said.kind else (),
            said.types,
            None,
            said.outcome,
            None,
            message,
            envelope.host,
            said.user,
            None,
            said.address,
            said.port,
            None,
            None,
            None,
            None,
            None,
            app,
            envelope.pid,
            None,
            None,
            None,
            None,
            said.path,
            said.status,
            None,
            fields,
        ),
    )


def _bare(text: str, origin: Origin) -> tuple[Envelope, str | None]:
    """What begins a line without a syslog header, and the level stated before its time. Raises ParseError."""
    own = prose.when(text, origin)
    if own is not None:
        at, end, level = own
        return Envelope(at, None, None, None, None, None, None, text[end:].lstrip(" :|-\t")), level
    if _LEVELLED.match(text) is not None:
        return Envelope(None, None, None, None, None, None, None, text), None
    program = _PROGRAM.match(text)
    if program is not None:
        pid = int(program[2]) if program[2] else None
        return Envelope(None, None, program[1], pid, None, None, None, text[program.end() :]), None
    if prose.said(text) is not None:
        return Envelope(None, None, None, None, None, None, None, text), None
    raise ParseError("no syslog header, no time, program or level in front, and nothing said about a logon or request")


def _dataset(app: str) -> str:
    name = app.rpartition("/")[2].lower()
    if len(_DATASETS) >= DATASETS_MAX:
        _DATASETS.clear()
    found = _DATASETS[app] = f"syslog.{name}" if _DATASET_NAME.fullmatch(name) else "syslog.log"
    return found
