"""FortiGate (FortiOS) logs: key=value, quoted or not, or `set format csv`; traffic, security (utm) and event logs.

The device's own keys stay in `fields` under their own names; fields are mapped as Elastic's Fortinet integration does.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from connectors.clock import from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS, whole_number

NAME = "fortigate"

AGREE_S = 60.0  # between eventtime and a date with its zone; some releases are an hour off around summer time
ZONES_S = 93_600.0  # without a zone: more than any two are apart

# A key starts where a word starts, which keeps the search linear. The value is what stands between the quotes (with \"
# and \\ escaped) or, without quotes, up to the blank.
_PAIRS = re.compile(r'(?<![\w.-])([A-Za-z][\w.-]*+)="?+((?<=")[^"\\]*+(?:\\.[^"\\]*+)*+|[^\s"]*+)', re.DOTALL)
_CSV_PAIRS = re.compile(r'(?<![\w.-])([A-Za-z][\w.-]*+)="?+((?<=")[^"\\]*+(?:\\.[^"\\]*+)*+|[^,"]*+)', re.DOTALL)
_ESCAPE = re.compile(r"\\([\"\\])")
_ADDRESS_IN_UI = re.compile(r"([\w-]{1,32})\(([0-9A-Fa-f.:]{2,45})\)")  # ui="https(192.0.2.7)"

_ABSENT = {"", "N/A", "n/a", "(null)", "undefined", "unknown"}
_DENYING = {
    "deny",
    "denied",
    "block",
    "blocked",
    "dropped",
    "drop",
    "reset",
    "reset_client",
    "reset_server",
    "reset_drop",
}
_DENYING |= {"drop_session", "clear_session", "clear", "quarantine", "dropped-session", "redirect", "exempt-block"}
_FAILED = {"failure", "failed", "fail", "error", "timed_out", "timeout", "denied", "deny", "invalid", "negotiate_error"}
_SUCCEEDED = {"success", "succeeded", "ok", "done", "authenticated", "logon", "login", "logout", "logged-on", "permit"}
_DIRECTIONS = {"outgoing": "outbound", "incoming": "inbound", "outbound": "outbound", "inbound": "inbound"}

# event logs by subtype: category, type where the action does not say more
_EVENT_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "vpn": (("network",), ("connection",)),
    "user": (("authentication",), ("info",)),
    "system": (("host",), ("info",)),
    "ha": (("host",), ("info",)),
    "router": (("network",), ("info",)),
    "wireless": (("network",), ("info",)),
    "endpoint": (("host",), ("info",)),
    "compliance-check": (("host",), ("info",)),
    "security-rating": (("host",), ("info",)),
    "connector": (("network",), ("info",)),
}
# action of an event log -> type and outcome; these are logons wherever they stand
_LOGONS: dict[str, tuple[str, str | None]] = {
    "login": ("start", None),
    "logout": ("end", "success"),
    "auth-logon": ("start", "success"),
    "auth-logout": ("end", "success"),
    "fsso-logon": ("start", "success"),
    "fsso-logoff": ("end", "success"),
    "authentication": ("start", None),
    "auth": ("start", None),
    "ssl-login-fail": ("start", "failure"),
    "ssl-login": ("start", None),
    "admin-login-disabled": ("start", "failure"),
}
_TUNNELS = {"tunnel-up": ("start", "success"), "tunnel-down": ("end", "success")}
_NAMED = (  # native key -> ECS path, copied as it is; of two with the same path the later wins
    ("devname", "observer.name"),
    ("devid", "observer.serial_number"),
    ("level", "log.level"),
    ("srcintf", "observer.ingress.interface.name"),
    ("dstintf", "observer.egress.interface.name"),
    ("policyid", "rule.id"),
    ("policyname", "rule.name"),
    ("poluuid", "rule.uuid"),
    ("app", "network.application"),
    ("srcmac", "source.mac"),
    ("dstmac", "destination.mac"),
    ("srcname", "source.domain"),
    ("transip", "source.nat.ip"),
    ("tranip", "destination.nat.ip"),
    ("group", "source.user.group.name"),
    ("agent", "user_agent.original"),
    ("httpmethod", "http.request.method"),
    ("referralurl", "http.request.referrer"),
    ("filename", "file.name"),
    ("filehash", "file.hash.sha256"),
    ("attack", "rule.name"),
    ("attackid", "rule.id"),
    ("virus", "threat.software.name"),
    ("qname", "dns.question.name"),
    ("qtype", "dns.question.type"),
    ("ipaddr", "dns.resolved_ip"),
    ("crscore", "event.risk_score"),
)


def sniff(text: str) -> bool:
    if "logid=" not in text and "log_id=" not in text:
        return False
    return (" subtype=" in text or ",subtype=" in text) and "type=" in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    plain = "\\" not in text
    at = text.find('logid="')
    for shape in _SHAPES.get(text[at + 7 : at + 17], ()) if plain and at >= 0 else ():
        if shape.taken is not None:
            match = shape.taken.fullmatch(text)
            if match is not None:
                return (_traffic(shape, match, text, origin),)
        elif (match := shape.pattern.fullmatch(text)) is not None:
            return (_event(dict(zip(shape.keys, match.groups(), strict=True)), shape.named, text, origin),)
    log, named = _pairs(text)
    if not plain:
        for key, value in log.items():
            if "\\" in value:
                log[key] = _ESCAPE.sub(r"\1", value)
    return (_event(log, named, text, origin),)


def _event(log: dict[str, Any], named: "_Named", text: str, origin: Origin) -> Event:
    """The event of a log whose keys and values were found: the general way."""
    get = log.get
    kind = get("type")
    code = get("logid") or get("log_id")
    if kind is None and code is None:
        if "date" not in log or len(log) < 3:
            raise ParseError("no FortiGate log: it has no type and no logid")
        kind = "event"
    subtype = get("subtype") or ""
    action = get("action") or (get("status") if kind == "traffic" else None)  # FortiOS 4 says status
    act = action.lower() if action else ""
    source_ip, destination_ip = get("srcip") or get("src"), get("dstip") or get("dst")
    source_port, destination_port = get("srcport") or get("src_port"), get("dstport") or get("dst_port")
    user = get("user")
    host: str | None = None
    service: str | None = None
    outcome: str | None
    category: tuple[str, ...]
    types: tuple[str, ...]
    path: str | None = None
    if kind == "traffic":
        dataset, category = "fortigate.traffic", ("network",)
        outcome = "success"
        start = act == "start"
        types = _TRAFFIC_TYPES[start, act in _DENYING]
        host = get("srcname")
    elif kind == "event":
        dataset = "fortigate.vpn" if subtype == "vpn" else "fortigate.event"
        category, types = _EVENT_KINDS.get(subtype, (("host",), ("info",)))
        host = get("devname")
        outcome = _outcome(log)
        if user in _ABSENT:
            user = get("xauthuser")
        person = user is not None and user not in _ABSENT
        logon = _LOGONS.get(act) or (_TUNNELS.get(act) if subtype == "vpn" and person else None)
        if logon is not None:
            stage, settled = logon
            category = ("authentication",)
            outcome = settled if settled == "failure" else outcome or settled
            types = (stage, "denied") if outcome == "failure" else (stage,)
            service = "vpn" if subtype == "vpn" else _service(log)
        elif act in _TUNNELS:
            types = ("connection", _TUNNELS[act][0])
            outcome = outcome or "success"
        if subtype == "vpn" and source_ip is None:
            source_ip, source_port = get("remip"), get("remport")
            destination_ip, destination_port = destination_ip or get("locip"), destination_port or get("locport")
            if get("dir") == "outbound":
                source_ip, source_port, destination_ip, destination_port = (
                    get("locip"),
                    get("locport"),
                    source_ip,
                    source_port,
                )
        elif source_ip is None and (at := _ADDRESS_IN_UI.search(get("ui") or "")) is not None:
            source_ip = at[2]
    else:  # utm and its older spellings (webfilter, virus, ips ... as the type)
        dataset, category = "fortigate.utm", ("network",)
        host = get("srcname")
        what = subtype or kind
        if what in {"virus", "ips", "anomaly"}:
            category = ("network", "malware" if what == "virus" else "intrusion_detection")
        outcome = "success" if action else None
        types = ("denied",) if act in _DENYING else ("allowed",) if action else ("info",)
        if get("eventtype"):
            action = get("eventtype")
    fields = _fields(log, named)
    url = get("url")
    if url is not None and url not in _ABSENT:
        path = _path(url, get("hostname"), fields)
    elif "hostname" in log:
        fields["url.domain"] = log["hostname"]
    proto = get("proto")
    return Event(
        _time(log, text, origin),
        NAME,
        dataset,
        category,
        types,
        action,
        outcome,
        code,
        get("msg") or get("logdesc"),
        None if host in _ABSENT else host,
        None if user is None or user in _ABSENT else user,
        None,
        None if source_ip is None or source_ip in _ABSENT else source_ip,
        whole_number(source_port),
        source_bytes=whole_number(get("sentbyte") or get("sent")),
        destination_ip=None if destination_ip is None or destination_ip in _ABSENT else destination_ip,
        destination_port=whole_number(destination_port),
        destination_bytes=whole_number(get("rcvdbyte") or get("rcvd")),
        network_transport=None if proto is None else TRANSPORTS.get(proto, proto.lower()),
        url_path=path,
        service_name=service,
        fields=fields,
    )


def _fields(log: Mapping[str, Any], named: "_Named") -> dict[str, Any]:
    """The device's own keys and, beside them, their ECS names."""
    fields = dict(log)
    for key, ecs in named:
        if (value := log[key]) not in _ABSENT:
            fields[ecs] = value
    if "service" in log:
        fields["network.protocol"] = log["service"].lower()
    if "duration" in log and (duration := whole_number(log["duration"])) is not None:
        fields["event.duration"] = duration * 1_000_000_000
    if (way := log.get("direction") or log.get("dir")) is not None:
        fields["network.direction"] = _DIRECTIONS.get(way, way)
    return fields


class _Shape(NamedTuple):
    """The order of keys, and which are quoted, that one kind of log always has: one regular expression reads it."""

    pattern: re.Pattern[str]
    keys: tuple[str, ...]
    named: "_Named"
    taken: re.Pattern[str] | None  # of a traffic log: reads only what `_traffic` takes, and holds where that is plain
    order: Callable[[tuple[str, ...]], tuple[str, ...]] | None  # of its groups, where the device has another


def _fields_of(shape: _Shape, text: str) -> dict[str, Any]:
    """The fields of a traffic log that was read the short way."""
    match = shape.pattern.fullmatch(text)
    if match is None:
        return _fields(*_pairs(text))
    return _fields(dict(zip(shape.keys, match.groups(), strict=True)), shape.named)


_Named = tuple[tuple[str, str], ...]
SHAPES_MAX = 256  # patterns kept; further kinds of logs take the slower way
SHAPES_PER_CODE_MAX = 4  # one logid comes in few shapes per firmware
SIGHTINGS_MIN = 8  # before a shape is worth a pattern
SIGHTINGS_MAX = 2048  # shapes being counted
_SHAPES: dict[str, list[_Shape]] = {}
_SIGHTINGS: dict[tuple[str, str], int] = {}


def _traffic(shape: _Shape, match: re.Match[str], text: str, origin: Origin) -> Event:
    """The short way for the bulk of all lines; the same event as the general way (a test compares them)."""
    values = match.groups()
    (
        date, time, stated, zone, code, source_ip, source_port, destination_ip, destination_port, proto, action, user,
        sent, received, host, message,
    ) = values if shape.order is None else shape.order(values)  # fmt: skip
    at = int(stated) / 1e9 if stated else 0.0
    shown = origin.clock.stamps.get(f"{date}T{time}{zone}")
    if shown is None or not stated or not -AGREE_S < at - shown < AGREE_S:
        at = _moment(stated or None, date, time, zone or None, text, origin)
    act = action.lower() if action else ""
    return Event(
        at,
        NAME,
        "fortigate.traffic",
        _NETWORK,
        _TRAFFIC_TYPES[act == "start", act in _DENYING],
        action or None,
        "success",
        code,
        message or None,
        None if host in _ABSENT else host,
        None if user in _ABSENT else user,
        None,
        source_ip or None,
        int(source_port) if source_port else None,
        int(sent) if sent else None,
        destination_ip or None,
        int(destination_port) if destination_port else None,
        int(received) if received else None,
        TRANSPORTS.get(proto, proto) or None,
        fields=Lazy(_fields_of, shape, text),
    )


def _pairs(text: str) -> tuple[dict[str, Any], _Named]:
    """The keys and values of a line, and which of them have an ECS path."""
    at = text.find('logid="')
    code = text[at + 7 : at + 17] if at >= 0 else ""
    csv = ",time=" in text or ",type=" in text or ',logid="' in text
    log = dict((_CSV_PAIRS if csv else _PAIRS).findall(text))
    named = tuple((key, ecs) for key, ecs in _NAMED if key in log)
    if not csv and at >= 0 and "\\" not in text and sum(map(len, _SHAPES.values())) < SHAPES_MAX:
        _learn(code, text, log, named)
    return log, named


def _learn(code: str, text: str, log: dict[str, Any], named: _Named) -> None:
    known = _SHAPES.get(code, [])
    if len(known) >= SHAPES_PER_CODE_MAX:
        return
    quoted = " ".join(f'{key}="' if f'{key}="' in text else key for key in log)
    seen = _SIGHTINGS.get((code, quoted), 0) + 1
    if len(_SIGHTINGS) >= SIGHTINGS_MAX:
        _SIGHTINGS.clear()
    _SIGHTINGS[code, quoted] = seen
    if seen != SIGHTINGS_MIN:
        return
    words = quoted.split(" ")
    parts = [rf'{_key(w)}="([^"\\]*+)"' if w[-1] == '"' else rf'{_key(w)}=([^\s"]*+)' for w in words]
    pattern = re.compile(_LEAD + " ".join(parts) + " ?")
    match = pattern.fullmatch(text)
    if match is not None and dict(zip(log, match.groups(), strict=True)) == log:  # it reads what the general way reads
        taken, order = _taken(words) if log.get("type") == "traffic" else (None, None)
        _SHAPES.setdefault(code, []).append(_Shape(pattern, tuple(log), named, taken, order))


def _key(word: str) -> str:
    return re.escape(word.removesuffix('="'))


def _taken(words: Sequence[str]) -> tuple[re.Pattern[str] | None, Callable[[tuple[str, ...]], tuple[str, ...]] | None]:
    """A pattern with the groups of `_TAKEN` and how to put them in order; of keys that are not there they are empty.

    The text has no backslash. A value that is no plain address or number does not match: the general way knows better.
    """
    keys = [word.removesuffix('="') for word in words]
    if not _GENERAL_WAY.isdisjoint(keys) or not {"date", "time", "type", "action"} <= set(keys):
        return None, None
    found = [key for key in keys if key in _TAKEN]
    usual = found == [key for key in _TAKEN if key in found]
    waiting = list(_TAKEN)
    parts = []
    for word, key in zip(words, keys, strict=True):
        quoted = word[-1] == '"'
        value = "traffic" if key == "type" else '[^"]*+' if quoted else _PLAIN.get(key, "[^ ]*+")
        if key in _TAKEN:
            value = f"({value})"
            while usual and waiting.pop(0) != key:  # absent: an empty group in its place
                value = "()" + value
        parts.append(f'{_key(word)}="{value}"' if quoted else f"{_key(word)}={value}")
    absent = waiting if usual else [key for key in _TAKEN if key not in found]
    pattern = re.compile(_LEAD + " ".join(parts) + " ?" + "()" * len(absent))
    if usual:
        return pattern, None
    return pattern, itemgetter(*([*found, *absent].index(key) for key in _TAKEN))


_LEAD = r"(?:<\d{1,3}+>)?"
_TAKEN = (  # what `_traffic` takes of a line, in the order that most releases write
    "date", "time", "eventtime", "tz", "logid", "srcip", "srcport", "dstip", "dstport", "proto", "action", "user",
    "sentbyte", "rcvdbyte", "srcname", "msg",
)  # fmt: skip
_PLAIN = {
    "eventtime": "[0-9]{19}",
    "srcip": "[0-9A-Fa-f.:]++",
    "dstip": "[0-9A-Fa-f.:]++",
    "proto": "[0-9]{1,3}+",
} | dict.fromkeys(("srcport", "dstport", "sentbyte", "rcvdbyte"), "[0-9]{1,18}+")
_GENERAL_WAY = frozenset(
    ("url", "hostname", "src", "dst", "src_port", "dst_port", "sent", "rcvd", "logdesc", "dir", "log_id")
)
_NETWORK = ("network",)
_TRAFFIC_TYPES: dict[tuple[bool, bool], tuple[str, ...]] = {  # (a session begins, it was refused)
    (True, False): ("connection", "start", "allowed"),
    (True, True): ("connection", "start", "denied"),
    (False, False): ("connection", "end", "allowed"),
    (False, True): ("connection", "end", "denied"),
}


def _time(log: dict[str, Any], text: str, origin: Origin) -> float:
    return _moment(log.get("eventtime"), log.get("date"), log.get("time"), log.get("tz"), text, origin)


def _moment(
    stated: str | None, date: str | None, time: str | None, zone: str | None, text: str, origin: Origin
) -> float:
    """The exact eventtime if date and time agree with it but for the zone, else those, else the envelope's time."""
    exact = shown = None
    try:
        if stated is not None and len(stated) == 19 and stated.isdigit() and stated.isascii():
            exact = int(stated) / 1e9
        elif (
            stated is not None and (number := whole_number(stated[:17])) is not None
        ):  # 19 digits of ns do not fit a float
            exact = from_epoch(number * 10.0 ** (len(stated) - len(stated[:17])))
        if date is not None and time is not None:
            stamp = f"{date}T{time}{zone or ''}"
            shown = origin.clock.stamps.get(stamp)
            if shown is None:
                shown = from_iso(stamp, origin.clock)
                origin.clock.remember(stamp, shown)
    except (ValueError, OverflowError):
        pass  # a time that no calendar has must not hide the event
    if exact is not None and (shown is None or abs(exact - shown) < (AGREE_S if zone else ZONES_S)):
        return exact
    if shown is not None:
        return shown
    enveloped = peel(text, origin).timestamp
    return origin.received if enveloped is None else enveloped


def _outcome(log: dict[str, Any]) -> str | None:
    for key in ("status", "result", "action"):
        word = (log.get(key) or "").lower()
        if word in _FAILED or word.endswith("-fail"):
            return "failure"
        if word in _SUCCEEDED:
            return "success"
    return None


def _service(log: dict[str, Any]) -> str:
    """What a logon to the device itself is for: its web page, its shell, or passing the firewall."""
    way = (log.get("method") or log.get("ui") or "").lower()
    if way.startswith(("ssh", "telnet", "console", "jsconsole")):
        return "ssh" if way.startswith("ssh") else way.split("(")[0]
    return "web" if way.startswith(("http", "gui")) else "firewall"


def _path(url: str, domain: str | None, fields: dict[str, Any]) -> str:
    """The path of a URL with or without its host; the other parts go to `fields`."""
    fields["url.original"] = url
    rest = url
    if "://" in url:
        domain, slash, rest = url.split("://", 1)[1].partition("/")
        rest = slash + rest
    if domain is not None and domain not in _ABSENT:
        fields["url.domain"] = domain
    path, mark, query = rest.partition("?")
    if mark:
        fields["url.query"] = query
    return path or "/"
