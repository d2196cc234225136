"""Barracuda CloudGen Firewall (NG Firewall): the Firewall Activity log, threat and web log as JSON, and service logs.

The activity log comes as `Allow: type=FWD|proto=TCP|srcIF=...` or, without the keys, as their values in the documented
order; JSON is what its Filebeat stream and Elastic's integration have. Fields are mapped as that integration does.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors import tolerant_json
from connectors.clock import from_epoch, from_iso
from connectors.envelope import Envelope, peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS, url_path, whole_number

NAME = "barracuda"

_PROTOCOLS = TRANSPORTS | {"echo": "icmp"}

HEAD_MAX = 512  # characters in front of the action
KEYS_MAX = 256  # of one JSON object
ACTION_MAX = 32  # characters of an action
_ORIGINS = frozenset(("LIN", "LOUT", "LB", "FWD", "IFWD", "PRX", "IPRX", "PXY", "IPXY", "TAP", "MUX", "IMUX"))
_QUALIFIERS = frozenset(("Session", "Local", "Remote"))
_STAMP = re.compile(r"(\d\d\d\d) (\d\d) (\d\d) (\d\d:\d\d:\d\d)(?: \S{1,32})?? ([+-]\d\d:\d\d) ")
_LEVEL = re.compile(r"\b(Panic|Fatal|Error|Warning|Security|Notice|Info|Internal|Debug)\b")
_PROGRAM = re.compile(r"(?:^|[ >/\\])((?:box|srv)_[\w.-]{1,64}|[\w-]{1,32}/(?:box|srv)_[\w.-]{1,64})(?:\[\d{1,10}\])?:")
_ORDER = (
    "type", "proto", "srcIF", "srcIP", "srcPort", "srcMAC", "dstIP", "dstPort", "dstService", "dstIF", "rule", "info",
    "srcNAT", "dstNAT", "duration", "count", "receivedBytes", "sentBytes", "receivedPackets", "sentPackets", "user",
    "protocol", "application", "target", "content", "urlcat",
)  # fmt: skip
_ADDRESS = r"(\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})"
_PEER = re.compile(rf"(?:from|peer|client|IP|ip|address|source)[ =:]{{1,2}}\[?{_ADDRESS}(?![\w.])\]?(?::(\d{{1,5}}))?")
_SOMEWHERE = re.compile(r"(?<![\w.:-])(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{1,5}))?(?![\w.-])")
_THREAT = re.compile(
    rf"\[\w{{1,16}}\] ([A-Z][A-Za-z]{{2,11}}): {{1,4}}([A-Za-z]{{2,16}}) ([\w()+-]{{1,24}}) {_ADDRESS}(?::(\d{{1,5}}))?"
    rf" -> {_ADDRESS}(?::(\d{{1,5}}))? ([^| ]{{0,512}}) ?\|\[?([^|]{{0,512}}?)\]?\|([^|]{{0,128}})\|(\d{{0,3}})\|?([^|]{{0,64}})"
)
_USER = re.compile(
    r"\b(?:[Ll]ogin (?=\S{1,128} from )|(?:[Uu]ser(?:name)?|[Ll]ogin|[Aa]dmin(?:istrator)?)(?: name)? ?[=:] ?['\"]?"
    r"|[Uu]ser ['\"]?(?!(?:is|was|from|for|with|not|log\w*|auth\w*|fail\w*)\b))([A-Za-z0-9][\w.@\\-]{0,127})"
)
_LOGON = re.compile(r"\b(?:log[io]n|authenticat|access)")
# Words in small letters; looking for each is faster than one pattern for all.
_USER_WORDS = ("user", "login", "admin")
_LOGON_WORDS = ("login", "logon", "authenticat", "access")
_FAILED = (
    *("fail", "denied", "deny", "reject", "invalid", "wrong", "refused", "not allowed", "unsuccessful", "blocked"),
)
_SUCCEEDED = ("success", "accepted", "granted", "allowed", "authenticated", "logged in", "login from", "established")

_ABSENT = {"", "-", "n/a"}
_NETWORK = ("network",)
_PASSING, _ENDED, _DENIED = ("connection",), ("connection", "end"), ("connection", "denied")
_STARTED = ("connection", "start", "allowed")
_DENYING = {"block", "deny", "drop", "fail", "local block", "remote block", "terminate", "quarantine", "reset"}
_ALLOWING = {"allow", "local allow", "session allow", "pass", "accept"}
_ENDS = {"remove", "local remove", "session remove"}
_CATEGORIES = {"virus": "malware", "atd": "malware", "atp": "malware", "ips": "intrusion_detection"}
_WEB_TYPES: dict[int, tuple[str, ...]] = {
    0: ("access", "allowed"),
    1: ("access", "denied"),
    2: ("access", "info"),  # warned, then passed
    3: ("access", "info"),
}
_NAMED = (  # native key -> ECS path, copied as it is
    ("srcIF", "observer.ingress.interface.name"),
    ("dstIF", "observer.egress.interface.name"),
    ("rule", "rule.name"),
    ("info", "event.reason"),
    ("srcNAT", "source.nat.ip"),
    ("dstNAT", "destination.nat.ip"),
    ("application", "network.application"),
    ("urlcat", "url.category"),
    ("dstService", "network.protocol"),
    ("fw_rule", "rule.name"),
    ("description", "rule.description"),
    ("ips_category", "rule.category"),
    ("severity", "log.level"),
    ("method", "http.request.method"),
    ("user_agent", "user_agent.original"),
    ("content_type", "http.request.mime_type"),
    ("domain", "url.domain"),
    ("name", "url.original"),
)


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return ('"threat_severity"' in text and '"trans_proto"' in text) or (
            '"fw_rule"' in text and '"traffic_type"' in text
        )
    return _active(text) is not None or _PROGRAM.search(text, 0, 200) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] == "{":
        return (_json(text, origin),)
    activity = _active(text)
    if activity is not None:
        return (_activity(*activity, text, origin),)
    program = _PROGRAM.search(text, 0, HEAD_MAX)
    if program is None:
        raise ParseError("no Barracuda log: neither firewall activity, nor JSON, nor a box_ or srv_ service")
    return (_service(program, text, origin),)


def _active(text: str) -> tuple[str, int] | None:
    """The action of an activity line, and where its values begin."""
    bar = text.find("|", 0, HEAD_MAX)
    colon = text.rfind(": ", 0, bar) if bar > 0 else -1
    if colon < 0:
        return None
    begin = colon + 2
    while text.startswith(" ", begin):
        begin += 1
    if text[begin:bar].removeprefix("type=") not in _ORIGINS:
        return None
    words = text[max(0, colon - ACTION_MAX) : colon].split(" ")
    action = words[-1]
    if len(words) > 1 and words[-2] in _QUALIFIERS:
        action = f"{words[-2]} {action}"
    return (action, begin) if action.replace(" ", "").isalpha() else None


def _activity(action: str, begin: int, text: str, origin: Origin) -> Event:
    envelope = peel(text, origin)
    values = _values(text, begin)
    _, protocol, _, source, source_port, _, destination, destination_port, _, _, _, _, _, _, _, _, received, sent = (
        values[:18]
    )
    action = action.lower()
    protocol = protocol.lower()
    user = values[20].strip()
    return Event(
        _moment(text, begin, envelope, origin),
        NAME,
        "barracuda.activity",
        _NETWORK,
        _DENIED if action in _DENYING else _STARTED if action in _ALLOWING else _ENDED if action in _ENDS else _PASSING,
        action,
        "success",
        None,
        text[begin:],
        envelope.host,
        None if user in _ABSENT else user,
        None,
        _address(source),
        whole_number(source_port),
        whole_number(sent),
        _address(destination),
        whole_number(destination_port),
        whole_number(received),
        _PROTOCOLS.get(protocol, protocol) or None,
        fields=Lazy(_activity_fields, text, begin),
    )


def _values(text: str, begin: int) -> Sequence[str]:
    """The values of an activity line in the documented order; a line cut short has empty ones."""
    if not text.startswith("type=", begin):
        values = text[begin:].split("|", len(_ORDER))
    elif (usual := _KEYED.match(text, begin)) is not None:
        return usual.groups()
    else:
        log = _keyed(text, begin)
        return [log.get(key, "") for key in _ORDER]
    return values + [""] * (len(_ORDER) - len(values))


def _keyed(text: str, begin: int) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text[begin:].split("|", KEYS_MAX)[:KEYS_MAX] if "=" in part)


def _activity_fields(text: str, begin: int) -> dict[str, Any]:
    log = (
        _keyed(text, begin)
        if text.startswith("type=", begin)
        else dict(zip(_ORDER, _values(text, begin), strict=False))
    )
    return _fields(log)


_KEYED = re.compile(r"\|".join(f"{key}=([^|]*+)" for key in _ORDER))


def _json(text: str, origin: Origin) -> Event:
    """A threat or a web request, as the Filebeat stream has them (`ngfw-threat`, `ngfw-wf`, `ngfw-act`)."""
    decoded, _ = tolerant_json.decode(text)
    if not isinstance(decoded, dict):
        raise ParseError("no JSON object")
    log: dict[str, Any] = {}
    for key, value in list(decoded.items())[:KEYS_MAX]:
        if isinstance(value, list):
            log[key] = [part for part in value if isinstance(part, str | int | float | bool)]
        elif value is None or isinstance(value, str | int | float | bool):
            log[key] = value
    if not {"src_ip", "source_ip", "srcIP"} & log.keys():
        raise ParseError("JSON, but without the source address of a Barracuda log")
    words = {
        key: str(value) for key, value in log.items() if isinstance(value, str | int) and not isinstance(value, bool)
    }
    get = words.get
    web = "traffic_type" in log or "fw_rule" in log
    threat = get("type", "").lower()
    operation = (get("operation") or get("action") or "").lower()
    types: tuple[str, ...]
    if web:
        number = log.get("action")
        types = _WEB_TYPES.get(number, ("access", "info")) if type(number) is int else ("access",)
        category: tuple[str, ...] = ("web", "network")
    else:
        types = ("denied",) if operation in _DENYING else ("allowed",) if operation in _ALLOWING else ("info",)
        category = (_CATEGORIES[threat], "network") if threat in _CATEGORIES else _NETWORK
    url = get("name", "")
    path = None
    if "://" in url.partition("?")[0]:
        path = url_path(url)
    protocol = (get("trans_proto") or get("proto") or "").lower()
    return Event(
        _json_time(log, origin),
        NAME,
        "barracuda.web" if web else "barracuda.threat",
        category,
        types,
        operation or None,
        "success",
        None,
        get("description") or None,
        get("hostname") or None,
        get("user") or None,
        None,
        _address(get("src_ip") or get("source_ip") or get("srcIP")),
        whole_number(get("source_port") or get("src_port") or get("srcPort")),
        whole_number(get("sentBytes")),
        _address(get("dst_ip") or get("destination_ip") or get("dstIP")),
        whole_number(get("destination_port") or get("port") or get("dstPort")),
        whole_number(get("receivedBytes")),
        _PROTOCOLS.get(protocol, protocol) or None,
        file_path=get("app_target") or None if threat in {"virus", "atd"} else None,
        url_path=path,
        http_response_status_code=whole_number(get("status_code")),
        fields=Lazy(_json_fields, log, words, web),
    )


def _json_fields(log: dict[str, Any], words: dict[str, str], web: bool) -> dict[str, Any]:
    fields = _fields(words) | {key: value for key, value in log.items() if key not in words}
    if web and log.get("size") is not None:
        fields["http.response.body.bytes"] = log["size"]
    if not web and words.get("type"):
        fields["rule.ruleset"] = words["type"]
    url = words.get("name", "")
    if "://" in url and (query := url.partition("?")[2]):
        fields["url.query"] = query
    return fields


def _service(program: re.Match[str], text: str, origin: Origin) -> Event:
    """A line of a service: VPN, logons to the box, proxies; who it was about, as far as it says so."""
    envelope = peel(text, origin)
    name = program[1].rpartition("/")[2]
    message = text[program.end() :].strip()
    level = _LEVEL.search(message, 0, 64)
    fields: dict[str, Any] = {}
    if level is not None:
        fields["log.level"] = level[1].lower()
    vpn = "vpn" in name.lower()
    category: tuple[str, ...] = _NETWORK if name.startswith("srv_") else ("host",)
    types: tuple[str, ...] = ("info",)
    action = outcome = service = None
    peer = _PEER.search(message, 0, 1024) or _SOMEWHERE.search(message, 0, 1024)
    low = message[:1024].lower()
    user = _USER.search(message, 0, 1024) if _has(low, _USER_WORDS) else None
    if (threat := _THREAT.search(message, 0, 512)) is not None:
        return _threat(threat, message, fields, envelope, origin, text)
    if (
        _has(low, _LOGON_WORDS)
        and _LOGON.search(low) is not None
        and (vpn or "auth" in name.lower() or user is not None)
    ):
        failed = _has(low, _FAILED)
        if failed or _has(low, _SUCCEEDED):
            category, types = ("authentication",), ("start",)
            outcome = "failure" if failed else "success"
            action = "login-failed" if failed else "logged-in"
            service = "vpn" if vpn else "firewall"
    return Event(
        timestamp=_moment(text, len(text), envelope, origin),
        event_module=NAME,
        event_dataset="barracuda.vpn" if vpn else "barracuda.auth" if service else "barracuda.service",
        event_category=category,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        message=message,
        host_name=envelope.host,
        user_name=None if user is None else user[1],
        source_ip=None if peer is None else peer[1],
        source_port=None if peer is None else whole_number(peer[2]),
        process_name=name,
        service_name=service,
        fields=fields,
    )


def _has(text: str, words: tuple[str, ...]) -> bool:
    for word in words:  # noqa: SIM110  # a generator costs more than what it asks
        if word in text:
            return True
    return False


def _threat(
    threat: re.Match[str], message: str, fields: dict[str, Any], envelope: Envelope, origin: Origin, text: str
) -> Event:
    """A line of the threat log: intrusion prevention, virus protection, protocol detection."""
    action, kind, protocol, source, source_port, destination, port, host, said, user, severity, category = (
        threat.groups()
    )
    action, protocol = action.lower(), protocol.partition("(")[0].lower()
    fields |= {"rule.ruleset": kind, "rule.description": said}
    if category:
        fields["rule.category"] = category
    if host:
        fields["destination.domain"] = host
    if severity:
        fields["event.severity"] = int(severity)
    known = _CATEGORIES.get(kind.lower())
    return Event(
        _moment(text, len(text), envelope, origin),
        NAME,
        event_dataset="barracuda.threat",
        event_category=_NETWORK if known is None else (known, "network"),
        event_type=("denied",) if action in _DENYING else ("allowed",),
        event_action=action,
        event_outcome="success",
        message=message,
        host_name=envelope.host,
        user_name=user or None,
        source_ip=source,
        source_port=whole_number(source_port),
        destination_ip=destination,
        destination_port=whole_number(port),
        network_transport=None if protocol == "allip" else _PROTOCOLS.get(protocol, protocol),
        fields=fields,
    )


def _fields(log: Mapping[str, str]) -> dict[str, Any]:
    """The device's own keys and, beside them, their ECS names."""
    fields: dict[str, Any] = dict(log)
    for key, ecs in _NAMED:
        value = log.get(key)
        if value is not None and value not in _ABSENT and (value != "0.0.0.0" or "nat" not in ecs):  # noqa: S104  # none
            fields[ecs] = value
    if log.get("srcMAC"):
        fields["source.mac"] = log["srcMAC"].upper().replace(":", "-")
    if (severity := whole_number(log.get("threat_severity"))) is not None:
        fields["event.severity"] = severity
    if (duration := whole_number(log.get("duration"))) is not None:
        fields["event.duration"] = duration * 1_000_000  # milliseconds
    for key, ecs in (("sentPackets", "source.packets"), ("receivedPackets", "destination.packets")):
        if (packets := whole_number(log.get(key))) is not None:
            fields[ecs] = packets
    return fields


def _moment(text: str, end: int, envelope: Envelope, origin: Origin) -> float:
    """The log file's own time with its zone, else the envelope's, else the arrival."""
    stamp = _STAMP.search(text, 0, min(end, HEAD_MAX))
    if stamp is not None:
        year, month, day, time, zone = stamp.groups()
        iso = f"{year}-{month}-{day}T{time}{zone}"
        at = origin.clock.stamps.get(iso)
        if at is not None:
            return at
        try:
            at = from_iso(iso, origin.clock)
        except ValueError:  # a time that no calendar has must not hide the event
            at = None
        if at is not None:
            origin.clock.remember(iso, at)
            return at
    return origin.received if envelope.timestamp is None else envelope.timestamp


def _json_time(log: Mapping[str, Any], origin: Origin) -> float:
    stamp = log.get("timestamp") or log.get("@timestamp")
    try:
        if isinstance(stamp, int | float) and not isinstance(stamp, bool):
            return from_epoch(float(stamp))
        if isinstance(stamp, str):
            return from_epoch(float(stamp)) if stamp.isdigit() and len(stamp) < 20 else from_iso(stamp, origin.clock)
    except (ValueError, OverflowError):
        pass  # a time that no calendar has must not hide the event
    return origin.received


def _address(text: str | None) -> str | None:
    return None if text is None or text.strip() in {"", "-"} else text.strip()
