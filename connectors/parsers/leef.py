r"""IBM QRadar's Log Event Extended Format, 1.0 and 2.0: `LEEF:2.0|vendor|product|version|event id|delimiter|key=value...`.

With or without a syslog envelope, and with the tabs that relays turn into `#011` or blanks. Own keys stay in `fields`.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from connectors.clock import MONTHS, from_epoch, from_iso
from connectors.envelope import ZONES_H, peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.parsers.kv import Keys, Roles, first, integer
from connectors.values import TRANSPORTS, url_path

NAME = "leef"

FORMATS_MAX = 256  # forms of devTimeFormat remembered
WORDS_MAX = 4096  # names of events remembered with what they mean
PAIRS_MAX = 1024  # of one event

_BEGIN = re.compile(r"LEEF: ?([12](?:\.\d)?)\|")
_DELIMITER = re.compile(r"(?:0?[xX]([0-9A-Fa-f]{1,4})|\\t|(.))\Z", re.DOTALL)
_KEY = re.compile(r"(?:^|[\s|])([A-Za-z_][\w.\-\[\]]*+)=")
_BAR_PAIRS = re.compile(r"\|[A-Za-z_][\w.-]{0,63}=")
_TIME = re.compile(
    r"(?:[A-Za-z]{3},? )?([A-Za-z]{3}) {1,2}(\d{1,2}),?(?: (\d{4}))? (\d{2}):(\d{2}):(\d{2})(?:[.,](\d{1,9}))?(?: (\d{4}))?(?: ([A-Za-z]{1,5}|[+-]\d\d:?\d\d))?(?: (\d{4}))?"
)
_SLASHED = re.compile(
    r"(\d{1,4})[/.](\d{1,2})[/.](\d{1,4})[ T](\d{1,2}):(\d{2}):(\d{2})(?:[.,:](\d{1,9}))?(?: ([AP]M))?"
)
_JAVA = re.compile(r"([a-zA-Z])\1*|'([^']*)'|(.)", re.DOTALL)
_JAVA_PARTS = {
    "y": r"(?P<y>\d{2,4})", "M": r"(?P<M>\d{1,2}|[A-Za-z]{3,9})", "d": r"(?P<d>\d{1,2})", "H": r"(?P<H>\d{1,2})",
    "h": r"(?P<h>\d{1,2})", "m": r"(?P<m>\d{1,2})", "s": r"(?P<s>\d{1,2})", "S": r"(?P<S>\d{1,9})", "a": r"(?P<a>[AaPp][Mm])",
    "z": r"(?P<z>[A-Za-z]{1,5}(?:[+-]\d\d:?\d\d)?|[+-]\d\d:?\d\d)", "Z": r"(?P<z>[+-]\d\d:?\d\d|Z)", "X": r"(?P<z>[+-]\d\d(?::?\d\d)?|Z)",
    "E": r"[A-Za-z]{2,9}",
}  # fmt: skip

_ABSENT = frozenset({"", "-", "N/A", "n/a", "null", "(null)", "none", "None"})
_NAMED = {  # attribute -> ECS path, copied as it is
    "app": "network.application", "appProto": "network.protocol", "direction": "network.direction",
    "dstDomain": "destination.domain", "dstMAC": "destination.mac", "dstName": "destination.domain",
    "dstPackets": "destination.packets", "dstPostNAT": "destination.nat.ip", "dstPostNATPort": "destination.nat.port",
    "dvc": "observer.ip", "groupID": "group.id", "identGrpName": "group.name", "identHostName": "host.hostname",
    "identMAC": "host.mac", "identSrc": "host.ip", "method": "http.request.method", "policy": "rule.ruleset",
    "realm": "user.domain", "reason": "event.reason", "referrer": "http.request.referrer", "role": "user.roles",
    "rule": "rule.name", "ruleName": "rule.name", "RuleName": "rule.name", "srcMAC": "source.mac",
    "srcName": "source.domain", "srcPackets": "source.packets", "srcPostNAT": "source.nat.ip",
    "srcPostNATPort": "source.nat.port", "userAgent": "user_agent.original", "vSrcName": "host.hostname",
}  # fmt: skip
# what a value is -> the attributes that state it, the most telling first
_ROLES = {
    "source_ip": ("src", "sourceIP", "srcIP", "sourceAddress", "identSrc"),
    "destination_ip": ("dst", "destinationIP", "dstIP", "destinationAddress"),
    "source_port": ("srcPort", "sourcePort", "spt"),
    "destination_port": ("dstPort", "destinationPort", "dpt"),
    "sent": ("srcBytes", "bytesSent", "bytesOut", "sentBytes"),
    "received": ("dstBytes", "bytesReceived", "bytesIn", "receivedBytes"),
    "protocol": ("proto", "protocol", "transport"),
    "user": ("usrName", "suser", "userName", "user", "accountName", "SourceUser", "duser"),
    "domain": ("userDomain", "domain", "realm"),
    "host": (
        "identHostName", "dvchost", "hostName", "HostName", "hostname", "computerName", "devName", "deviceName", "shost",
    ),
    "file": ("filePath", "Path", "fileName", "fname", "file", "targetPath"),
    "command": ("commandLine", "CommandLine", "cmdLine", "CmdLine", "command"),
    "program": ("process", "processName", "ProcessName", "sproc", "image"),
    "pid": ("pid", "processId", "ProcessId", "spid"),
    "status": ("responseCode", "httpStatus", "statusCode", "status"),
    "url": ("url", "request", "URL", "requestUrl", "uri"),
    "outcome": ("outcome", "result", "status", "eventOutcome", "Outcome", "Result"),
    "message": ("msg", "desc", "message", "description", "name", "eventName"),
    "action": ("action", "act", "Action", "Op", "eventAction", "devAction", "activity"),
    "time": ("devTime", "rt", "eventTime", "ReceiveTime", "timestamp", "start"),
}  # fmt: skip
_ROLES_OF = Roles(_ROLES)
_OUTCOMES = {"success": "success", "succeeded": "success", "successful": "success", "ok": "success", "true": "success"}
_OUTCOMES |= {"failure": "failure", "failed": "failure", "fail": "failure", "error": "failure", "false": "failure"}
_DENYING = re.compile(r"(?i)den[yi]|block|drop|reject|reset|quarantin|prevent|discard|refuse|terminat")
_ALLOWING = re.compile(r"(?i)allow|accept|permit|pass|detect|log\b")
_LOGON = re.compile(
    r"(?i)\b(?:log(?:ged|ging)?[ _-]?(?:o|i)n|sign(?:ed)?[ _-]?in|authenticat\w{0,6}|login\w{0,16})(?![a-z])"
)
_LOGOFF = re.compile(r"(?i)\b(?:log(?:ged)?[ _-]?(?:off|out)|sign(?:ed)?[ _-]?out)\b")
_FAILING = re.compile(r"(?i)fail|reject|denied|invalid|unsuccessful|incorrect")


def sniff(text: str) -> bool:
    return "LEEF:" in text[:600] and _BEGIN.search(text, 0, 700) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = _BEGIN.search(text, 0, 2048)
    if begin is None:
        raise ParseError("no LEEF: header")
    parts = text[begin.end() :].split("|", 4)
    if len(parts) < 5:
        if len(parts) < 4:
            raise ParseError(f"a LEEF header has 5 parts after its version, this one has {len(parts)}")
        parts = [*parts[:3], *_cut(parts[3])]
    vendor, product, version, code, body = parts
    log = _attributes(body)
    get = log.get
    stamp = host = None
    if begin.start() > 0:
        envelope = peel(f"{text[: begin.start()]}leef: -", origin)  # a message without bars goes the short way
        stamp, host = envelope.timestamp, envelope.host
    (
        k_source, k_destination, k_source_port, k_destination_port, k_sent, k_received, k_protocol, k_user, k_domain,
        k_host, k_file, k_command, k_program, k_pid, k_status, k_url, k_outcome, k_message, k_action, k_time,
    ) = _ROLES_OF.of(log)  # fmt: skip
    action = first(log, k_action) if k_action else None
    category, types, outcome = _kind(code, log, action, k_outcome)
    proto = first(log, k_protocol) if k_protocol else None
    url = first(log, k_url) if k_url else None
    user = first(log, k_user) if k_user else None
    domain = first(log, k_domain) if k_domain and get("usrName") else None
    if user is not None and "\\" in user.strip("\\"):
        domain, _, user = user.partition("\\")
    return (
        Event(
            _time(log, k_time, get("devTimeFormat"), stamp, origin),
            NAME,
            "leef.log",
            category,
            types,
            action,
            outcome,
            code or None,
            first(log, k_message) or code or None,
            first(log, k_host) or host,
            user,
            domain,
            first(log, k_source) if k_source else None,
            integer(log, k_source_port, 65535) if k_source_port else None,
            integer(log, k_sent) if k_sent else None,
            first(log, k_destination) if k_destination else None,
            integer(log, k_destination_port, 65535) if k_destination_port else None,
            integer(log, k_received) if k_received else None,
            None if proto is None else TRANSPORTS.get(proto) or proto.lower(),
            first(log, k_program) if k_program else None,
            integer(log, k_pid, 2**32 - 1) if k_pid else None,
            None,
            first(log, k_command) if k_command else None,
            None,
            first(log, k_file) if k_file else None,
            url_path(url) if url is not None else None,
            integer(log, k_status, 599) if k_status else None,
            None,
            Lazy(_fields, log, (begin[1], vendor, product, version), url),
        ),
    )


def _cut(rest: str) -> tuple[str, str]:
    """Event id and attributes of a header whose last bar is missing."""
    first = _KEY.search(rest)
    return (rest, "") if first is None else (rest[: first.start()].strip(), rest[first.start() :])


def _attributes(body: str) -> dict[str, str]:
    head, bar, rest = body.partition("|")
    delimiter = None
    if bar:
        if not head:
            body = rest
        elif len(head) <= 6 and "=" not in head[1:] and (stated := _DELIMITER.match(head)) is not None:
            delimiter = chr(int(stated[1], 16)) if stated[1] else stated[2] or "\t"
            body = rest
    if delimiter is None or delimiter not in body:
        if "\t" in body:
            delimiter = "\t"
        elif "#011" in body:
            delimiter = "#011"
        elif len(_BAR_PAIRS.findall(body)) >= 2:
            delimiter = "|"
        else:
            found = _KEY.split(body.strip())
            values = found[2::2] if "\\" not in body else map(_plain, found[2::2])
            return {key: value.strip() for key, value in zip(found[1::2], values, strict=True)}
    log: dict[str, str] = {}
    last = None
    for pair in body.split(delimiter, PAIRS_MAX):
        key, equals, value = pair.partition("=")
        if not key.isalnum():
            key = key.strip()
        if equals and key and " " not in key:
            log[key] = value.strip() if "\\" not in value else _plain(value)
            last = key
        elif last is not None and pair:  # the delimiter stands in a value
            log[last] += delimiter + pair
    return log


def _plain(value: str) -> str:
    value = value.strip()
    if "\\" not in value:
        return value
    if value.find("\\\\", 1) > 0:  # escaped backslashes; a network path only starts with two
        value = value.replace("\\\\", "\\")
    return value.replace("\\=", "=").replace("\\|", "|")


def _fields(log: dict[str, str], header: tuple[str, ...], url: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = dict(log)
    for key in log.keys() & _NAMED.keys():
        if log[key] not in _ABSENT:
            fields[_NAMED[key]] = log[key]
    fields["leef.version"], fields["observer.vendor"], fields["observer.product"], fields["observer.version"] = header
    severity = log.get("sev", "")
    if severity.isascii() and severity.isdigit() and len(severity) < 10:
        fields["event.severity"] = int(severity)
    if url is not None:
        fields["url.original"] = url
    if log.get("cat"):
        fields["leef.category"] = log["cat"]
    return fields


_Kind = tuple[tuple[str, ...], tuple[str, ...], str | None]


def _kind(code: str, log: dict[str, str], action: str | None, results: Keys) -> _Kind:
    """Category, type and outcome, from what the event calls itself and from what the device did."""
    outcome = None
    for key in results:
        if (outcome := _OUTCOMES.get(log[key].lower())) is not None:
            break
    logon, logoff, failing = _spoken(f"{code} {log.get('cat', '')} {log.get('name', '')} {action or ''}"[:512])
    if logoff or log.get("isLogoutEvent", "").lower() == "true":
        return ("authentication",), ("end",), outcome
    if logon or log.get("isLoginEvent", "").lower() == "true":
        if outcome is None:
            outcome = "failure" if failing else "success"
        return ("authentication",), ("start", "denied") if outcome == "failure" else ("start",), outcome
    kind = None
    if action is not None:
        kind = "denied" if _DENYING.search(action) else "allowed" if _ALLOWING.search(action) else None
    if "dst" in log or "dstPort" in log:
        return ("network",), ("connection", kind) if kind else ("connection",), outcome
    return (), (kind or "info",), outcome


@lru_cache(maxsize=WORDS_MAX)
def _spoken(words: str) -> tuple[bool, bool, bool]:
    """Whether an event calls itself a logon, a logoff, a failure."""
    return _LOGON.search(words) is not None, _LOGOFF.search(words) is not None, _FAILING.search(words) is not None


def _time(log: dict[str, str], stated: Keys, form: str | None, stamp: float | None, origin: Origin) -> float:
    """When the device saw it, as devTimeFormat says it is written; else the envelope's time, else the arrival."""
    for key in stated:
        if (text := log[key]) and (at := _instant(text, form if key == "devTime" else None, origin)) is not None:
            return at
    return origin.received if stamp is None else stamp


def _instant(text: str, form: str | None, origin: Origin) -> float | None:
    clock = origin.clock
    try:
        if text.isdecimal() and text.isascii():
            return from_epoch(int(text)) if len(text) <= 19 else None
        if form and (pattern := _java(form)) is not None and (match := pattern.fullmatch(text)) is not None:
            part = match.groupdict()
            if part.get("d") is None or part.get("M") is None:
                return None
            hour = int(part.get("H") or part.get("h") or 0)
            if part.get("a"):
                hour = hour % 12 + (12 if part["a"].lower() == "pm" else 0)
            second = int(part.get("s") or 0) + float(f"0.{part.get('S') or 0}")
            return _at(
                part.get("y"), part["M"], part["d"], hour, int(part.get("m") or 0), second, part.get("z"), origin
            )
        if (match := _TIME.fullmatch(text)) is not None:
            month, day, year, hour_, minute, second_, fraction, late_year, zone, last_year = match.groups()
            second = int(second_) + float(f"0.{fraction or 0}")
            return _at(year or late_year or last_year, month, day, int(hour_), int(minute), second, zone, origin)
        if (match := _SLASHED.fullmatch(text)) is not None:
            one, two, three, hour_, minute, second_, fraction, half = match.groups()
            year, month, day = (
                (one, two, three)
                if len(one) == 4
                else (three, one, two)
                if int(one) <= 12 and "." not in text[:3]
                else (three, two, one)
            )
            hour = int(hour_) % 12 + (12 if half == "PM" else 0) if half else int(hour_)
            return _at(year, month, day, hour, int(minute), int(second_) + float(f"0.{fraction or 0}"), None, origin)
        return from_iso(text, clock)
    except (ValueError, OverflowError):
        return None


def _at(
    year: str | None, month: str, day: str, hour: int, minute: int, second: float, zone: str | None, origin: Origin
) -> float:
    number = int(month) if month.isdecimal() else MONTHS.get(month[:3].lower(), 0)
    if year is None:
        return origin.clock.yearless(number, int(day), hour, minute, second, origin.received)
    whole = int(year) + (2000 if len(year) == 2 else 0)
    if zone is None or (zone[:1] not in "+-" and zone.rstrip("0123456789:+-") not in ZONES_H):
        return origin.clock.local(whole, number, int(day), hour, minute, second)
    at = datetime(whole, number, int(day), hour, minute, int(second), tzinfo=UTC).timestamp() + second % 1
    name = zone.rstrip("0123456789:+-")
    shift_s = ZONES_H.get(name, 0) * 3600
    if name != zone:
        digits = zone[len(name) + 1 :].replace(":", "").ljust(4, "0")
        shift_s += (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if zone[len(name)] == "-" else 1)
    return at - shift_s


@lru_cache(maxsize=FORMATS_MAX)
def _java(form: str) -> re.Pattern[str] | None:
    """A pattern for Java's SimpleDateFormat; None for what is not understood."""
    if len(form) > 64:
        return None
    seen: set[str] = set()
    parts: list[str] = []
    for match in _JAVA.finditer(form):
        letter = match[1]
        if letter is None:
            parts.append(re.escape(match[2] if match[2] is not None else match[3]))
        elif letter not in _JAVA_PARTS or letter in seen or (letter in "zZX" and seen & {"z", "Z", "X"}):
            return None
        else:
            seen.add(letter)
            parts.append(_JAVA_PARTS[letter])
    return re.compile("".join(parts))
