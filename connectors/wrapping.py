"""Takes the wrapping of a log shipper off a line: Docker, Kubernetes, journald, Fluent Bit, Filebeat, Splunk, Loki, GELF.

What is inside is the line as the program wrote it, for the parser of that program; time and host of the wrapping stand
in where the line has none.
"""

import re
from typing import Any, NamedTuple

from connectors.clock import from_epoch
from connectors.events import Origin, isoformat
from connectors.json_log import first, found, instant
from connectors.tolerant_json import decode

LINES_MAX = 1000  # of one wrapping
HINT_CHARS_MAX = 65_536  # of a line that are searched for the name of an inner one


class Inner(NamedTuple):
    """Lines out of their wrapping, each with the time the wrapping states.

    `carried`: the wrapping only carries, the line inside is all there is. Else the wrapping is an event itself, better
    than a line inside that only a general parser can read.
    """

    lines: list[tuple[str, float | None]]
    host: str | None
    carried: bool


_CONTAINER = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) std(?:out|err) [FP] ")
_CARRIER = re.compile(r'"(?:_raw|log|MESSAGE|values|line|event)"\s?:\s?["\[]')
# Of a message only what begins as a line of a device or with a header does.
_MESSAGE = re.compile(
    r'"(?:message|short_message|full_message)"\s?:\s?"(?:<\d|\d|(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d \d\d:|CEF:|LEEF:|%[A-Z]|\w{1,16}=|\{|\[)'
)
_HEADER = re.compile(
    r"\{|<\d{1,3}>|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d |\d{4}-\d\d-\d\dT\S{8,24} \S{1,255} \S{1,128}: "
)
_PARSED = ('"winlog"', '"event_data"', '"category"', '"event.category"', '"source":{"', '"source.ip"')
_HOSTS = ("host", "hostname", "_HOSTNAME", "host.name", "host.hostname", "agent.hostname", "agent.name")


def inner(text: str) -> Inner | None:
    """What is inside of a line; None for a line that is not wrapped."""
    if text[:1] != "{":
        container = _CONTAINER.match(text) if text[:2] == "20" and text[10:11] == "T" else None
        if container is None or len(text) == container.end():
            return None
        return Inner([(text[container.end() :], instant(container[1]))], None, carried=True)
    if _CARRIER.search(text, 0, HINT_CHARS_MAX) is None and _MESSAGE.search(text, 0, HINT_CHARS_MAX) is None:
        return None
    doc, _ = decode(text)
    if type(doc) is not dict:
        return None
    host = next((value for key in _HOSTS if type(value := found(doc, key)) is str and value), None)
    return _journal(doc) or _splunk(doc, host) or _loki(doc) or _container(doc, host) or _message(doc, host, text)


def _line(value: Any) -> str | None:
    text = value.rstrip("\r\n") if type(value) is str else ""
    return text if text.strip() else None


def _journal(doc: dict[str, Any]) -> Inner | None:
    """Journald's JSON as the line that rsyslog would have made of it."""
    message = _line(doc.get("MESSAGE"))
    if message is None or not ("SYSLOG_IDENTIFIER" in doc or "_COMM" in doc or "__REALTIME_TIMESTAMP" in doc):
        return None
    at = None
    stamp = first(doc, "_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP")
    if stamp is not None and stamp.isdecimal() and stamp.isascii() and len(stamp) < 18:
        at = from_epoch(int(stamp))
    host = first(doc, "_HOSTNAME")
    program = first(doc, "SYSLOG_IDENTIFIER", "_COMM")
    pid = first(doc, "SYSLOG_PID", "_PID")
    if program is not None and at is not None:
        tag = f"{program}[{pid}]" if pid is not None else program
        message = f"{isoformat(at)} {host or 'localhost'} {tag}: {message}"
    return Inner([(message, at)], host, carried=True)


def _splunk(doc: dict[str, Any], host: str | None) -> Inner | None:
    """A row of a search's export, and what the HTTP event collector takes."""
    row = doc.get("result")
    row = row if type(row) is dict else doc
    raw = _line(row.get("_raw"))
    if raw is not None:
        return Inner([(raw, instant(row.get("_time")))], first(row, "host") or host, carried=True)
    event = doc.get("event")
    if ("sourcetype" in doc or "index" in doc) and type(event) is str and (line := _line(event)) is not None:
        return Inner([(line, instant(doc.get("time")))], host, carried=True)
    return None


def _loki(doc: dict[str, Any]) -> Inner | None:
    """A push to Loki or an answer from it: streams with labels, each with pairs of nanoseconds and line."""
    streams = doc.get("streams") if "streams" in doc else [doc]
    lines: list[tuple[str, float | None]] = []
    host = None
    for stream in streams if type(streams) is list else []:
        labels, values = (stream.get("stream"), stream.get("values")) if type(stream) is dict else (None, None)
        if type(labels) is not dict or type(values) is not list:
            continue
        host = host or first(labels, "host", "hostname", "instance", "nodename")
        for pair in values:
            if (
                type(pair) is list
                and len(pair) >= 2
                and (line := _line(pair[1])) is not None
                and len(lines) < LINES_MAX
            ):
                lines.append((line, instant(pair[0])))
    if lines:
        return Inner(lines, host, carried=True)
    line = _line(doc.get("line"))
    if line is not None and (type(doc.get("labels")) is dict or type(doc.get("fields")) is dict):
        return Inner([(line, instant(doc.get("timestamp")))], None, carried=True)
    return None


def _container(doc: dict[str, Any], host: str | None) -> Inner | None:
    """Docker's json-file, and Fluent Bit's record of it."""
    line = _line(doc.get("log"))
    if line is None or len(doc) > 64:
        return None
    if not {"stream", "kubernetes", "container_id", "container_name", "date", "time"} & doc.keys():
        return None
    at = instant(doc.get("time") or doc.get("@timestamp") or doc.get("date"))
    return Inner([(line, at)], first(doc, "hostname") or host, carried=True)


def _message(doc: dict[str, Any], host: str | None, text: str) -> Inner | None:
    """Filebeat, Logstash and GELF: an event whose message is a line that somebody else wrote."""
    if any(hint in text for hint in _PARSED):
        return None
    line = _line(doc.get("full_message")) or _line(doc.get("short_message")) or _line(doc.get("message"))
    if line is None or _MESSAGE.match(f'"message":"{line[:64]}') is None:
        return None
    at = instant(doc.get("@timestamp") or doc.get("timestamp"))
    return Inner([(line, at)], host, carried=_HEADER.match(line) is not None)


def inside(origin: Origin, at: float | None) -> Origin:
    """The origin of a line out of its wrapping: it arrived when the wrapping says it was written."""
    return origin if at is None else Origin(origin.tenant, origin.source, at, origin.clock)
