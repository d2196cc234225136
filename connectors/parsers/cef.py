r"""ArcSight Common Event Format: `CEF:0|vendor|product|version|class id|name|severity|key=value ...`.

With or without a syslog envelope in front. The extension's own keys stay in `fields`; the mapping is Elastic's.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from connectors.clock import MONTHS, from_epoch, from_iso
from connectors.envelope import ZONES_H, peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS, url_path, whole_number

NAME = "cef"

REMEMBERED_MAX = 4096  # names and actions of events whose meaning is kept
_HEADER_PARTS = 7  # version to severity; what follows the seventh bar is the extension
# A key stands behind a blank and before an equals sign that is not escaped; blanks are allowed within values.
_KEY = re.compile(r"\s([A-Za-z_][\w.\-\[\]]*+)=")
_PLAIN_KEY = re.compile(r"[A-Za-z_][\w.\-\[\]]*+")
_BARE = re.compile(r"[01]\|[^|]{1,100}\|")
_BAR = re.compile(r"(?<!\\)(?:\\\\)*+\|")
_HEADER_ESCAPE = re.compile(r"\\([\\|=])")
_ESCAPE = re.compile(r"\\([\\=|nr])")
_ESCAPED = {"\\": "\\", "=": "=", "|": "|", "n": "\n", "r": "\n"}
_TIME = re.compile(
    r"([A-Za-z]{3}) {1,2}(\d{1,2})(?: (\d{4}))? (\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?"
    r"(?: ([A-Za-z]{1,5}|[+-]\d\d:?\d\d))?"
)
_LABELLED = re.compile(
    r"(c(?:s|n|fp|6a)\d|deviceCustom(?:String|Number|FloatingPoint|Date|IPv6Address)\d|flex\w{1,16}\d)Label"
)

_ABSENT = {"", "-", "N/A", "(no user)", "null", "(null)"}
_FULL_NAMES = {  # the dictionary's full name -> the short key that it stands for
    "applicationProtocol": "app",
    "bytesIn": "in",
    "bytesOut": "out",
    "destinationAddress": "dst",
    "destinationHostName": "dhost",
    "destinationPort": "dpt",
    "destinationProcessName": "dproc",
    "destinationUserName": "duser",
    "deviceAction": "act",
    "deviceAddress": "dvc",
    "deviceHostName": "dvchost",
    "deviceReceiptTime": "rt",
    "endTime": "end",
    "eventOutcome": "outcome",
    "fileName": "fname",
    "message": "msg",
    "requestUrl": "request",
    "sourceAddress": "src",
    "sourceHostName": "shost",
    "sourcePort": "spt",
    "sourceProcessName": "sproc",
    "sourceUserName": "suser",
    "startTime": "start",
    "transportProtocol": "proto",
}
_NAMED = {  # extension key -> ECS path, copied as it is
    "app": "network.protocol",
    "dhost": "destination.domain",
    "dmac": "destination.mac",
    "dntdom": "destination.user.domain",
    "duid": "destination.user.id",
    "duser": "destination.user.name",
    "dvc": "observer.ip",
    "dvchost": "observer.hostname",
    "deviceExternalId": "observer.serial_number",
    "deviceInboundInterface": "observer.ingress.interface.name",
    "deviceOutboundInterface": "observer.egress.interface.name",
    "externalId": "event.id",
    "fileHash": "file.hash.sha1",
    "fileType": "file.type",
    "fname": "file.name",
    "reason": "event.reason",
    "requestClientApplication": "user_agent.original",
    "requestContext": "http.request.referrer",
    "requestMethod": "http.request.method",
    "shost": "source.domain",
    "smac": "source.mac",
    "sntdom": "source.user.domain",
    "sourceServiceName": "source.service.name",
    "sourceTranslatedAddress": "source.nat.ip",
    "sourceTranslatedPort": "source.nat.port",
    "destinationTranslatedAddress": "destination.nat.ip",
    "destinationTranslatedPort": "destination.nat.port",
    "suid": "source.user.id",
    "suser": "source.user.name",
}
_LABEL_PATHS = {"rule name": "rule.name", "rule": "rule.name", "policy": "rule.ruleset", "signature": "rule.name"}
_OUTCOMES = {"success": "success", "succeeded": "success", "successful": "success", "/success": "success"}
_OUTCOMES |= {"pass": "success", "failure": "failure", "failed": "failure", "fail": "failure", "/failure": "failure"}
_OUTCOMES |= {"/attempt": "unknown", "unknown": "unknown"}
_DENYING = re.compile(r"(?i)den[yi]|block|drop|reject|reset|quarantin|prevent|discard|refuse")
_ALLOWING = re.compile(r"(?i)allow|accept|permit|pass|detect|log\b")
_LOGON = re.compile(r"(?i)\b(?:log(?:ged|ging)?[ -]?(?:o|i)n|sign(?:ed)?[ -]?in|authenticat\w{0,6})\b")
_FAILING = re.compile(r"(?i)fail|reject|denied|invalid|unsuccessful")


def sniff(text: str) -> bool:
    return text.count("|") >= _HEADER_PARTS - 1 and ("CEF:" in text or _BARE.match(text) is not None)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = text.find("CEF:")
    if begin < 0:
        if _BARE.match(text) is None:
            raise ParseError("no CEF: header")
        begin = -4  # a relay took "CEF:" for the name of a program and dropped it
    parts = text[begin + 4 :].split("|", _HEADER_PARTS)
    if "\\" in text and any(part.endswith("\\") for part in parts[:-1]):
        parts = _split(text[begin + 4 :])
    if len(parts) < _HEADER_PARTS:
        raise ParseError(f"a CEF header has {_HEADER_PARTS} parts, this one has {len(parts)}")
    code, name = parts[4], parts[5]
    extension = parts[_HEADER_PARTS].rstrip() if len(parts) > _HEADER_PARTS else ""
    log = _plain_pairs(extension) or _pairs(extension)
    if "\\" in text:
        for key, value in log.items():
            if "\\" in value:
                log[key] = _ESCAPE.sub(lambda match: _ESCAPED[match[1]], value)
    if not log.keys().isdisjoint(_FULL_NAMES):
        for key in log.keys() & _FULL_NAMES.keys():
            log.setdefault(_FULL_NAMES[key], log[key])
    get = log.get
    envelope_host = stamp = None
    if begin > 0:
        envelope = peel(text, origin)
        stamp, envelope_host = envelope.timestamp, envelope.host
    action = get("act")
    outcome = _OUTCOMES.get((get("outcome") or get("categoryOutcome") or "").lower())
    category, types, outcome = _kind(name, action, outcome, log)
    sproc = get("sproc")
    pid = get("spid") if sproc or "dpid" not in log else get("dpid")
    request = get("request")
    proto = get("proto")
    sender = _stated(get("suser"))
    return (
        Event(
            _time(log, stamp, origin),
            NAME,
            "cef.log",
            category,
            types,
            action,
            outcome,
            _HEADER_ESCAPE.sub(r"\1", code) if "\\" in code else code or None,
            get("msg") or name or None,
            _stated(get("dvchost")) or envelope_host,
            sender or _stated(get("duser")),
            _stated(get("sntdom") if sender else get("dntdom")),
            _stated(get("src")) or _labelled(log, "c6a2", "Source IPv6 Address"),
            whole_number(get("spt")),
            whole_number(get("in")),
            _stated(get("dst")) or _labelled(log, "c6a3", "Destination IPv6 Address"),
            whole_number(get("dpt")),
            whole_number(get("out")),
            None if proto is None or proto in _ABSENT else TRANSPORTS.get(proto) or proto.lower(),
            sproc or get("dproc") or get("deviceProcessName"),
            None if pid is None else whole_number(pid),
            file_path=get("filePath"),
            url_path=None if request is None else url_path(request),
            fields=Lazy(_fields, log, parts[:_HEADER_PARTS], "Label=" in text),
        ),
    )


def _fields(log: dict[str, Any], header: list[str], labelled: bool) -> dict[str, Any]:
    fields = log.copy()
    for key in log.keys() & _NAMED.keys():
        if (value := log[key]) not in _ABSENT:
            fields[_NAMED[key]] = value
    if labelled:
        _name_customs(log, fields)
    version, vendor, product, device_version, _, name, severity = header
    fields["observer.vendor"] = vendor
    fields["observer.product"] = product
    fields["observer.version"] = device_version
    fields["cef.name"] = name
    fields["cef.version"] = version.strip()
    fields["event.severity"] = int(severity) if len(severity) < 3 and severity.isdecimal() else severity
    if "request" in log:
        fields["url.original"] = log["request"]
    return fields


def _pairs(extension: str) -> dict[str, Any]:
    found = _KEY.split(" " + extension)
    return dict(zip(found[1::2], found[2::2], strict=True))


def _plain_pairs(extension: str) -> dict[str, Any] | None:
    """The same by splits, several times faster, where no value has an equals sign; None where one has."""
    if "\\" in extension:
        return None
    parts = extension.split("=")
    if len(parts) == 1:
        return None
    log: dict[str, Any] = {}
    key = parts[0].rpartition(" ")[2]
    last = parts.pop()
    del parts[0]
    for part in parts:
        value, blank, following = part.rpartition(" ")
        if not blank or not (key in _KEYS or _is_key(key)):
            return None
        log[key] = value
        key = following
    if not _is_key(key):
        return None
    log[key] = last
    return log


_KEYS: set[str] = set()


def _is_key(text: str) -> bool:
    if _PLAIN_KEY.fullmatch(text) is None:
        return False
    if len(_KEYS) >= REMEMBERED_MAX:
        _KEYS.clear()
    _KEYS.add(text)
    return True


def _split(text: str) -> list[str]:
    """The header at its bars where some are escaped; the extension is the last part."""
    parts, begin = [], 0
    for bar in _BAR.finditer(text):
        parts.append(text[begin : bar.end() - 1])
        begin = bar.end()
        if len(parts) == _HEADER_PARTS:
            break
    parts.append(text[begin:])
    return [_HEADER_ESCAPE.sub(r"\1", part) for part in parts[:_HEADER_PARTS]] + parts[_HEADER_PARTS:]


def _name_customs(log: dict[str, Any], fields: dict[str, Any]) -> None:
    """Custom fields under the names that their labels give them: cs1Label=Rule Name, cs1=x -> {"Rule Name": "x"}."""
    for key, label in log.items():
        if key[-5:] != "Label":
            continue
        custom = _custom(key)
        if custom is not None and label and (value := log.get(custom)) is not None:
            fields.setdefault(label.replace(".", "_"), value)
            path = _LABEL_PATHS.get(label.lower())
            if path is not None:
                fields.setdefault(path, value)


@lru_cache(maxsize=REMEMBERED_MAX)
def _custom(key: str) -> str | None:
    match = _LABELLED.fullmatch(key)
    return None if match is None else match[1]


@lru_cache(maxsize=REMEMBERED_MAX)
def _says(pattern: re.Pattern[str], text: str) -> bool:
    """Whether the words that devices use again and again say something of the kind."""
    return pattern.search(text) is not None


_Kind = tuple[tuple[str, ...], tuple[str, ...], str | None]


def _kind(name: str, action: str | None, outcome: str | None, log: dict[str, Any]) -> _Kind:
    """Category, type and outcome, from what the event calls itself and from what the device did."""
    if _says(_LOGON, name) or "/Authentication" in log.get("categoryBehavior", ""):
        if outcome is None:
            outcome = "failure" if _says(_FAILING, name) or _says(_FAILING, action or "") else "success"
        return ("authentication",), ("start", "denied") if outcome == "failure" else ("start",), outcome
    types: tuple[str, ...] = ("info",)
    if action:
        if _says(_DENYING, action):
            types = ("denied",)
        elif _says(_ALLOWING, action):
            types = ("allowed",)
    if "dst" in log or "dpt" in log:
        return ("network",), ("connection", *types) if types != ("info",) else types, outcome
    return (("file",) if "filePath" in log or "fname" in log else ()), types, outcome


def _time(log: dict[str, Any], stamp: float | None, origin: Origin) -> float:
    """When the device saw it: rt, else end or start, else the envelope's time, else the arrival."""
    stated = log.get("rt")
    if (
        stated and len(stated) == 13 and stated[0] < "7" and stated.isdecimal() and stated.isascii()
    ):  # ms, by far the most
        return int(stated) / 1e3
    for key in ("rt", "end", "start", "UNIFIutcTime"):
        stated = log.get(key)
        if stated and (at := _instant(stated.strip(), origin)) is not None:
            return at
    return origin.received if stamp is None else stamp


def _instant(text: str, origin: Origin) -> float | None:
    try:
        if text.isdecimal() and text.isascii():
            return from_epoch(int(text)) if len(text) <= 19 else None
        match = _TIME.fullmatch(text)
        if match is None:
            return from_iso(text, origin.clock)
        month = MONTHS.get(match[1].lower(), 0)
        day, hour, minute, second = int(match[2]), int(match[4]), int(match[5]), float(f"{match[6]}.{match[7] or 0}")
        zone = match[8]
        if match[3] is None:
            return origin.clock.yearless(month, day, hour, minute, second, origin.received)
        if zone is None or (zone[0] not in "+-" and zone not in ZONES_H):
            return origin.clock.local(int(match[3]), month, day, hour, minute, second)
        at = datetime(int(match[3]), month, day, hour, minute, int(second), tzinfo=UTC).timestamp() + second % 1
        if zone in ZONES_H:
            return at - ZONES_H[zone] * 3600
        digits = zone[1:].replace(":", "")
        return at - (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if zone[0] == "-" else 1)
    except (ValueError, OverflowError):
        return None


def _labelled(log: dict[str, Any], key: str, label: str) -> str | None:
    return _stated(log.get(key)) if log.get(f"{key}Label") == label else None


def _stated(text: str | None) -> str | None:
    return None if text is None or text in _ABSENT else text
