"""Any line in a syslog envelope: time, host, program and message. Also what `auto` falls back to for such lines."""

import re
from collections.abc import Sequence
from typing import Any

from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError

NAME = "syslog"

_SNIFF = re.compile(
    r"<\d{1,3}>|[A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d "
    r"|1? ?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* +[\w.:-]+ [^\s\[:]{1,128}[\[:]"
)
_LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
_DATASET_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,40}")
DATASETS_MAX = 1024  # program names remembered with the name of their dataset
_DATASETS: dict[str, str] = {}


def sniff(text: str) -> bool:
    return _SNIFF.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    at = envelope.timestamp
    severity = envelope.severity
    if at is None:
        if severity is None:
            raise ParseError("no syslog header")
        at = origin.received
    app = envelope.app
    fields: dict[str, Any] = {}
    if severity is not None:
        fields["log.level"] = _LEVELS[severity]
        fields["log.syslog.severity.code"] = severity
        fields["log.syslog.facility.code"] = envelope.facility
    if envelope.structured is not None or envelope.msgid is not None:
        if envelope.msgid is not None:
            fields["log.syslog.msgid"] = envelope.msgid
        for name, value in (envelope.structured or {}).items():
            fields["log.syslog.structured_data." + name] = value
    return (
        Event(
            timestamp=at,
            event_module=NAME,
            event_dataset=(_DATASETS.get(app) or _dataset(app)) if app is not None else "syslog.log",
            message=envelope.message,
            host_name=envelope.host,
            process_name=app,
            process_pid=envelope.pid,
            fields=fields,
        ),
    )


def _dataset(app: str) -> str:
    name = app.rpartition("/")[2].lower()
    if len(_DATASETS) >= DATASETS_MAX:
        _DATASETS.clear()
    found = _DATASETS[app] = f"syslog.{name}" if _DATASET_NAME.fullmatch(name) else "syslog.log"
    return found
