"""macOS unified log: the output of `log show` and `log stream` as JSON lines, in style syslog, and in the default style.

Logons and rights that sshd, sudo, su and login report are read as on other Unix systems.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from connectors import tolerant_json
from connectors.clock import from_iso
from connectors.envelope import Envelope
from connectors.events import Event, Origin, ParseError
from connectors.parsers import linux_auth

NAME = "macos_log"
LEAVES_MAX = 64  # of one entry
NUMBER_MAX = 2**31 - 1  # of a process
INTEGER_BITS = 63
NAMES_MAX = 1024  # names of programs remembered with those of their datasets

_STAMP = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3,9}(?:[+-]\d{4})?)"
_NAME = r"([^\s:\[\]][^:\[\]]{0,127}?)"
_SYSLOG = re.compile(  # time host process[pid]: (library) [subsystem:category] message
    rf"{_STAMP} {{1,4}}(\S{{1,255}}) {_NAME}\[(\d{{1,10}})\]: ?(?:<(\w{{1,20}})>: ?)?"
)
_DEFAULT = re.compile(  # time thread type activity pid ttl process: (library) [subsystem:category] message
    rf"{_STAMP} {{1,4}}0x[0-9a-f]{{1,16}} {{1,8}}(\w{{1,20}}) {{1,16}}0x[0-9a-f]{{1,16}} {{1,24}}(\d{{1,10}}) {{1,8}}\d{{1,4}} {{1,8}}{_NAME}: "
)
_COMPACT = re.compile(rf"{_STAMP} {{1,4}}(Df|E|F|I|Db|A|S|Ft|Er) {{1,4}}{_NAME}\[(\d{{1,10}}):[0-9a-f]{{1,16}}\] ?")
_ORIGIN = re.compile(r"(?:\(([^()]{1,128})\) ?)?(?:\[([\w.\-]{1,128}):([^\[\]]{0,128})\] ?)?")
_HEADING = ("Timestamp  ", "Filtering the log data")
_LEVELS = {
    "Df": "default",
    "Db": "debug",
    "E": "error",
    "Er": "error",
    "F": "fault",
    "Ft": "fault",
    "I": "info",
    "A": "activity",
    "S": "signpost",
}
_UNIX = frozenset(("sshd", "sshd-session", "sshd-auth", "sudo", "su", "login"))
_TOKEN = re.compile(r"[^a-z0-9]+")
_DATASETS: dict[str, str] = {}


class Meaning(NamedTuple):
    pattern: re.Pattern[str]
    action: str
    category: tuple[str, ...]
    type: tuple[str, ...]
    outcome: str | None


def _meaning(pattern: str, action: str, category: str, kind: str, outcome: str | None = None) -> Meaning:
    return Meaning(re.compile(pattern), action, (category,), (kind,), outcome)


# What some programs of the system say, by program; the first group is the account.
MESSAGES: dict[str, tuple[Meaning, ...]] = {
    "opendirectoryd": (
        _meaning(
            r"Authentication failed for (?:user )?<?([^\s<>:(]{1,128})", "logon", "authentication", "start", "failure"
        ),
        _meaning(
            r"Authentication succeeded for (?:user )?<?([^\s<>:(]{1,128})",
            "logon",
            "authentication",
            "start",
            "success",
        ),
    ),
    "loginwindow": (
        _meaning(r"Login Window login proceeding(?: for (\S{1,128}))?", "logon", "authentication", "start", "success"),
        _meaning(r"Login Window logged in|sessionDidLogin", "logon", "session", "start", "success"),
        _meaning(
            r"sendSystemBSDNotification.*login failed|Authentication failure",
            "logon",
            "authentication",
            "start",
            "failure",
        ),
    ),
    "screensharingd": (
        _meaning(r"Authentication: FAILED :: User Name: (.{0,128}?) ::", "logon", "authentication", "start", "failure"),
        _meaning(
            r"Authentication: SUCCEEDED :: User Name: (.{0,128}?) ::", "logon", "authentication", "start", "success"
        ),
    ),
    "authd": (
        _meaning(
            r"Failed to authenticate user <?([^\s<>]{1,128})", "authorization", "authentication", "start", "failure"
        ),
    ),
    "XProtectRemediator": (_meaning(r"[Mm]alware|Threat", "malware-scan", "malware", "info"),),
    "syspolicyd": (_meaning(r"[Mm]alware|Blocked|denied", "execution-policy", "intrusion_detection", "info"),),
    "kernel": (
        _meaning(r"Sandbox: \S{1,128} deny\(\d{1,3}\)", "sandbox-denied", "intrusion_detection", "denied", "failure"),
    ),
}
_VIEWER = re.compile(r"Viewer Address: ([0-9a-fA-F.:]{2,45})")


def sniff(text: str) -> bool:
    if text[:1] in ("{", "[", "}"):
        return '"eventMessage"' in text and ('"machTimestamp"' in text or '"processImagePath"' in text)
    return (
        _SYSLOG.match(text) is not None
        or _DEFAULT.match(text) is not None
        or _COMPACT.match(text) is not None
        or text.startswith(_HEADING)
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = text.find("{", 0, 8)  # within an array, entries begin with `[{` or `},{`
    if begin >= 0 and text[:begin].strip(" [},") == "":
        return (_json(text[begin:], origin),)
    host, level = None, None
    if (match := _SYSLOG.match(text)) is not None:
        stamp, host, program, pid, level = match.groups()
    elif (match := _DEFAULT.match(text)) is not None:
        stamp, level, pid, program = match.groups()
    elif (match := _COMPACT.match(text)) is not None:
        stamp, level, program, pid = match.groups()
    elif text.startswith(_HEADING):
        return (Event(origin.received, NAME, "macos_log.heading", event_type=("info",), message=text),)
    else:
        raise ParseError("no entry of the macOS log: neither its JSON nor its style syslog, compact or default")
    rest = text[match.end() :]
    fields: dict[str, Any] = {}
    if (source := _ORIGIN.match(rest)) is not None:
        rest = rest[source.end() :]
        named = zip(("library", "subsystem", "category"), source.groups(), strict=True)
        fields.update((name, value) for name, value in named if value)
    if level is not None:
        fields["log.level"] = _LEVELS.get(level, level.lower())
    return (_event(_time(stamp, origin), host, program, _number(pid), None, rest, fields),)


def _json(text: str, origin: Origin) -> Event:
    entry, damaged = tolerant_json.decode(text.rstrip(" ,]"))
    if type(entry) is not dict or not ("eventMessage" in entry or "processImagePath" in entry or "eventType" in entry):
        raise ParseError("no entry of the macOS log: a JSON object without eventMessage")
    get = entry.get
    fields: dict[str, Any] = {}
    for name, value in list(entry.items())[:LEAVES_MAX]:
        if type(value) is str and value and name not in ("eventMessage", "timestamp"):
            fields[name] = value
        elif type(value) is int:
            fields[name] = value if value.bit_length() <= INTEGER_BITS else str(value)
    if damaged:
        fields["shield.truncated"] = True
    if type(level := get("messageType")) is str:
        fields["log.level"] = level.lower()
    if type(user := get("userID")) is int and 0 <= user <= NUMBER_MAX:
        fields["user.id"] = str(user)
    path = get("processImagePath")
    path = path if type(path) is str and path else None
    program = path.rpartition("/")[2] if path is not None else get("process") if type(get("process")) is str else None
    message = get("eventMessage")
    host = get("hostName") or get("host")
    return _event(
        _time(get("timestamp"), origin),
        host if type(host) is str else None,
        program or None,
        _number(get("processID")),
        path,
        message if type(message) is str else "",
        fields,
    )


def _event(
    at: float,
    host: str | None,
    program: str | None,
    pid: int | None,
    path: str | None,
    message: str,
    fields: dict[str, Any],
) -> Event:
    if program in _UNIX:
        event = _unix(at, host, program, pid, message)
        return replace(event, process_executable=path, fields={**event.fields, **fields})
    found = None
    for meaning in MESSAGES.get(program or "", ()):
        if (found := meaning.pattern.search(message, 0, 1024)) is not None:
            break
    user = found[1] if found is not None and found.re.groups else None
    viewer = _VIEWER.search(message, 0, 1024) if program == "screensharingd" else None
    return Event(
        at,
        NAME,
        event_dataset=_dataset(program),
        event_category=meaning.category if found is not None else (),
        event_type=meaning.type if found is not None else ("info",),
        event_action=meaning.action if found is not None else None,
        event_outcome=meaning.outcome if found is not None else None,
        message=message or None,
        host_name=host,
        user_name=user or None,
        source_ip=viewer[1] if viewer is not None else None,
        process_name=program,
        process_pid=pid,
        process_executable=path,
        service_name=program if found is not None and meaning.category[0] == "authentication" else None,
        fields=fields,
    )


def _unix(at: float, host: str | None, program: str, pid: int | None, message: str) -> Event:
    """The event that the Unix parser makes of the same message."""
    envelope = Envelope(at, host, program, pid, None, None, None, message)
    event = linux_auth.told(envelope, at, program, message)
    return replace(
        event,
        timestamp=at,
        event_module=NAME,
        event_dataset=f"{NAME}.{event.event_dataset.rpartition('.')[2]}",
        host_name=host,
    )


def _dataset(program: str | None) -> str:
    found = _DATASETS.get(program or "")
    if found is None:
        if len(_DATASETS) >= NAMES_MAX:
            _DATASETS.clear()
        name = _TOKEN.sub("_", (program or "").lower()).strip("_")[:64]
        found = _DATASETS[program or ""] = f"{NAME}.{name or 'log'}"
    return found


def _number(value: Any) -> int | None:
    if type(value) is str and value.isascii() and value.isdigit():
        value = int(value[:11])
    return value if type(value) is int and 0 <= value <= NUMBER_MAX else None


def _time(stated: Any, origin: Origin) -> float:
    if type(stated) is str:
        try:
            return from_iso(stated, origin.clock)
        except (ValueError, OverflowError):
            pass
    return origin.received
