"""F5 BIG-IP: system, LTM, APM and audit messages of syslog (`01490500:5: ...`), and the request, AFM, ASM, AVR and APM logs
that are `key="value"` lists or the JSON of Telemetry Streaming.

F5's own keys stay in `fields`; fields are mapped as Elastic's F5 BIG-IP integration does.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from connectors import accesslog, tolerant_json
from connectors.clock import MONTHS, from_epoch, from_iso
from connectors.envelope import Envelope, peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS, is_address, url_path, whole_number

NAME = "f5_bigip"

HEAD_CHARS_MAX = 400  # a syslog header before the message
KEYS_MAX = 256  # of one log
INTEGER_BITS = 63
PORT_MAX = 65_535
PAIRS_MIN = 4  # of a line that is a list of keys and values
REMEMBERED_MAX = 65_536  # verdicts on whether a text is an address

_CODE = re.compile(r"\b(01[0-9a-fA-F]{6}):([0-7]): ?")
_LEVELLED = re.compile(  # F5 writes the level in front of the daemon
    r" (emerg|alert|crit|err|error|warning|warn|notice|info|debug) (?=[A-Za-z][^\s\[\]:]{0,63}(?:\[\d{1,10}\])?: )"
)
_PAIRS = re.compile(r'(?<![\w.-])([A-Za-z]\w{1,63})="([^"\\]*+(?:\\.[^"\\]*+|""[^"\\]*+)*+)"', re.DOTALL)
_PLAIN_PAIRS = re.compile(r"(?<![\w.-])([A-Za-z]\w{1,63})=([^,\s\"]++)")
_LISTED = re.compile(
    r'\b(?:unit_hostname|acl_policy_name|policy_name|support_id|errdefs_msgno|ip_client|web_application_name|bigip_mgmt_ip)="'
)
_JSON = re.compile(r'"(?:telemetryEventCategory|errdefs_msgno|bigip_mgmt_ip)"\s?:')
_LISTED_KEYS = ("support_id=", "errdefs_msgno=", "acl_policy_name=")
_SESSION = re.compile(r"(/[^:\s]{1,128}):([^:\s]{1,64}):([0-9a-f]{8}): (.*)", re.DOTALL)

_NETWORK, _LOGON = ("network",), ("authentication",)


class _Kind(NamedTuple):
    dataset: str
    category: tuple[str, ...]
    types: tuple[str, ...]
    action: str | None = None
    outcome: str | None = None
    service: str | None = None


_SYSTEM = _Kind("system", ("host",), ("info",))
_LTM = _Kind("ltm", _NETWORK, ("info",))
_APM = _Kind("apm", ("session",), ("info",))
_NEW_SESSION = _Kind("apm", ("session",), ("start",), "session-started", None, "vpn")
_ENDED = _Kind("apm", ("session",), ("end",), "session-ended", None, "vpn")
_WHO = _Kind("apm", _LOGON, ("info",), "user-named", None, "vpn")
_LOGGED_IN = _Kind("apm", _LOGON, ("start",), "logged-in", "success", "vpn")
_REFUSED = _Kind("apm", _LOGON, ("start",), "logon-failed", "failure", "vpn")
_POLICY = _Kind("apm", ("session",), ("info",), "access-policy-result", None, "vpn")
_ASSIGNED = _Kind("apm", _NETWORK, ("info",), "address-assigned", None, "vpn")
_ADMIN_IN = _Kind("audit", _LOGON, ("start",), "logged-in", "success", "device")
_ADMIN_FAILED = _Kind("audit", _LOGON, ("start",), "logon-failed", "failure", "device")
_COMMAND = _Kind("audit", ("configuration", "process"), ("change",), "command-executed", "success")
_CHANGE = _Kind("audit", ("configuration",), ("change",), "configuration-changed", "success")
_RESET = _Kind("ltm", _NETWORK, ("connection", "end"), "reset")
_TLS = _Kind("ltm", _NETWORK, ("connection", "error"), "tls-handshake-failed", "failure")
_POOL = _Kind("ltm", _NETWORK, ("info",), "member-status")
_DOS = _Kind("ltm", ("network", "intrusion_detection"), ("info",), "denial-of-service")

_ENDS = (
    r"(?P<src>\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]{2,45})[:.](?P<sport>\d{1,5}) (?:->|to) "
    r"(?P<dst>\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]{2,45})[:.](?P<dport>\d{1,5})\b"
)
# What a message says: a text that stands in it, the pattern that then fits from its start, and what it means.
_SAID: dict[str, tuple[tuple[str, re.Pattern[str], _Kind], ...]] = {
    "apm": (
        ("New session", re.compile(r"New session from client IP (?P<src>\S+)(?: \((?P<geo>[^)]*)\))? at VIP (?P<dst>\S+)(?: Listener (?P<virtual>\S+))?"), _NEW_SESSION),
        ("Username '", re.compile(r"Username '(?P<user>[^']*)'"), _WHO),
        ("last.username", re.compile(r"Session variable 'session\.logon\.last\.username' set to '?(?P<user>[^'\s]*)"), _WHO),
        ("uthenticat", re.compile(r"(?P<agent>[\w ]{1,24}?) (?:module|agent): .{0,60}?authenticat\w+ with '(?P<user>[^']*)'(?: in \S+)? (?P<verdict>was successful|success\w*|failed)(?:: (?P<reason>.{1,200}))?"), _LOGGED_IN),
        ("sername '", re.compile(r"(?P<agent>[\w ]{1,24}?) (?:module|agent): .{0,40}?[Uu]sername '(?P<user>[^']*)'.{0,60}?(?P<verdict>success\w*|failed|denied)"), _LOGGED_IN),
        ("Access policy", re.compile(r"Access policy result: (?P<result>\S+)"), _POLICY),
        ("Assigned PPP", re.compile(r"Assigned PPP (?:Dynamic |Static )?IPv[46]: (?P<assigned>\S+)(?:.{0,200}?Client IP: (?P<src>[^\s,]+))?"), _ASSIGNED),
        ("Session ", re.compile(r"Session (?:deleted|terminated|timed out)(?: due to (?P<reason>.{1,120}))?"), _ENDED),
        ("Session stat", re.compile(r"Session statistics - bytes in: ?(?P<received>\d+), bytes out: ?(?P<sent>\d+)"), _ENDED),
    ),
    "": (
        ("failed to login", re.compile(r".{0,120}?[Uu]ser=(?P<user>[^\s(]+)(?:\([^)]*\))?.{0,200}?tty=(?P<tty>\S+) host=(?P<src>\S+) failed to login after (?P<tries>\d+) attempts?"), _ADMIN_FAILED),
        (" attempts=", re.compile(r".{0,120}?[Uu]ser=(?P<user>[^\s(]+)(?:\([^)]*\))?.{0,200}?tty=(?P<tty>\S+) host=(?P<src>\S+) attempts=(?P<tries>\d+) start="), _ADMIN_IN),
        ("cmd_data=", re.compile(r"AUDIT - pid=(?P<pid>\d+) user=(?P<user>\S+) folder=(?P<folder>\S*) module=(?P<module>\S+) status=\[(?P<status>[^\]]*)\] cmd_data=(?P<command>.*)", re.DOTALL), _COMMAND),
        ("AUDIT - ", re.compile(r"AUDIT - (?:client (?P<client>[^,]{1,64}),.{0,80}?)?user (?P<user>[^\s,]+)(?:,| -) (?P<change>.*)", re.DOTALL), _CHANGE),
        ("RST sent", re.compile(r"RST sent from " + _ENDS + r"(?:, (?P<reason>.*))?"), _RESET),
        ("Connection error", re.compile(_ENDS + r": Connection error: (?P<reason>.*)"), _TLS),
        ("andshake failed", re.compile(r".{0,80}?[Hh]andshake failed for \w+ " + _ENDS), _TLS),
        ("monitor status", re.compile(r"(?:Pool (?P<pool>\S+) (?:member|node)|Node) (?P<member>\S+) .{0,40}?monitor status (?P<state>[\w ]{1,40}?)[.,]"), _POOL),
        ("yncookie", re.compile(r".{0,200}?\bserver (?:= |IP:? ?)?(?P<dst>\d{1,3}(?:\.\d{1,3}){3}):(?P<dport>\d{1,5})"), _DOS),
        ("BDoS", re.compile(""), _DOS),
        ("exceeded configured rate", re.compile(""), _DOS),
    ),
}  # fmt: skip
_SYSTEM_CODES = ("0107", "0142", "012a", "012c", "0155", "0194", "01a7", "0151")
_LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
_NAMED_SAID = {
    "reason": "event.reason",
    "geo": "f5_bigip.geo",
    "virtual": "f5_bigip.virtual_server",
    "assigned": "f5_bigip.assigned_ip",
    "agent": "f5_bigip.agent",
    "result": "f5_bigip.result",
    "tty": "f5_bigip.tty",
    "folder": "f5_bigip.folder",
    "module": "f5_bigip.module",
    "status": "f5_bigip.status",
    "client": "f5_bigip.client",
    "change": "f5_bigip.change",
    "pool": "f5_bigip.pool",
    "member": "f5_bigip.member",
    "state": "f5_bigip.state",
}

# The same thing goes by different names in the request, AFM, ASM, AVR and APM logs; the first that is there counts.
_SOURCE = ("source_ip", "src_ip", "client_ip", "ip_client", "ClientIP", "SourceIP", "Client_IP", "client_addr", "srcIp")
_SOURCE_PORT = ("source_port", "src_port", "client_port", "ClientPort", "SourcePort")
_DESTINATION = ("dest_ip", "dst_ip", "DestinationIP", "POOLIP", "server_ip", "node", "vs_ip", "vip", "VIP")
_DESTINATION_PORT = (
    "dest_port",
    "dst_port",
    "DestinationPort",
    "POOLPort",
    "server_port",
    "node_port",
    "vs_port",
    "vip_port",
)
_USER = ("username", "user", "UserName", "source_user", "User", "Username", "logon_user")
_HOST = ("hostname", "unit_hostname", "HostName", "device_name")
_STATUS = ("response_code", "http_status", "ResponseCode", "status_code")
_URL = ("http_uri", "uri", "URL", "http_url", "http_request_uri", "url")
_METHOD = ("http_method", "method", "Method")
_ACTION = ("action", "Action", "request_status", "outcome", "Access_Policy_Result", "dos_attack_action")
_TIMES = ("event_timestamp", "date_time", "EOCTimestamp", "timestamp", "res_start_time", "req_start_time")
_PROTOCOL = ("ip_protocol", "transport", "IPProtocol")
_SENT = ("bytes_in", "ClientBytesIn", "bytes_from_client")
_RECEIVED = ("bytes_out", "ClientBytesOut", "bytes_to_client")
_RULE = ("acl_rule_name", "sig_names", "violations", "policy_name", "Policy", "AttackVectorName")
_ABSENT = frozenset({"", "N/A", "n/a", "-", "none", "<no-profile>", "Aggregated", "Unassigned", "unknown", "::"})
_DENYING = frozenset(
    {"blocked", "drop", "reject", "dropped", "rejected", "deny", "denied", "block", "logon_deny", "terminate"}
)
_ALLOWING = frozenset(
    {"passed", "accept", "accept decisively", "allow", "allowed", "legal", "full", "allow_access", "redirect"}
)
_NAMED = (
    ("virtual_name", "f5_bigip.virtual_server"),
    ("application", "network.application"),
    ("http_user_agent", "user_agent.original"),
    ("UserAgent", "user_agent.original"),
    ("http_referrer", "http.request.referrer"),
    ("http_version", "http.version"),
    ("dest_fqdn", "destination.domain"),
    ("source_fqdn", "source.domain"),
    ("translated_source_ip", "source.nat.ip"),
    ("translated_dest_ip", "destination.nat.ip"),
    ("vlan", "observer.ingress.vlan.name"),
    ("severity", "log.level"),
    ("attack_type", "threat.technique.name"),
    ("sig_ids", "rule.id"),
    ("drop_reason", "event.reason"),
    ("violations", "event.reason"),
    ("QueryName", "dns.question.name"),
    ("QueryType", "dns.question.type"),
    ("support_id", "event.id"),
    ("Session_Id", "f5_bigip.session_id"),
    ("session_id", "f5_bigip.session_id"),
)
_DATE = re.compile(r"([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d{4}) (\d\d):(\d\d):(\d\d)")
_SLASHED = re.compile(r"(\d{4})[/-](\d\d)[/-](\d\d)[ T](\d\d):(\d\d):(\d\d)$")


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return _JSON.search(text) is not None
    if '="' in text and "CEF:" not in text[:HEAD_CHARS_MAX] and _LISTED.search(text) is not None:
        return text.count('",') >= PAIRS_MIN and any(key in text for key in _LISTED_KEYS)
    return _CODE.search(text, 0, HEAD_CHARS_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] == "{":
        log, damaged = tolerant_json.decode(text)
        if type(log) is not dict or not log:
            raise ParseError("no F5 BIG-IP log: no JSON object")
        if type(log.get("data")) is dict and "telemetryEventCategory" not in log:
            log = log["data"]
        if not any(key in log for key in _TELLING):
            raise ParseError("no F5 BIG-IP log: the JSON has no telemetryEventCategory, errdefs_msgno or hostname")
        return (_listed(log, damaged, None, None, origin),)
    if accesslog.sniff(text):  # of its own web server, or a request logging profile
        return (accesslog.parse(text, origin, NAME, "f5_bigip.access"),)
    levelled = _LEVELLED.search(text, 0, HEAD_CHARS_MAX)
    if levelled is not None:
        text = f"{text[: levelled.start()]} {text[levelled.end() :]}"
    envelope = peel(text, origin)
    body = envelope.message
    if '="' in body:
        log = dict(_PAIRS.findall(body)[:KEYS_MAX])
        if len(log) >= 3 and any(key in log for key in _TELLING):
            for key, value in _PLAIN_PAIRS.findall(body) if len(log) < 8 else ():
                log.setdefault(key, value)
            return (_listed(log, False, envelope.timestamp, envelope.host, origin),)
    found = _CODE.match(body) or _CODE.search(body, 0, HEAD_CHARS_MAX)
    if found is None and envelope.timestamp is None:
        raise ParseError('no F5 BIG-IP log: no message number as in 01490500:5:, no key="value" list, no JSON')
    return (_message(body, found, None if levelled is None else levelled[1], envelope, origin),)


_TELLING = (
    "telemetryEventCategory", "errdefs_msgno", "unit_hostname", "acl_policy_name", "support_id", "ip_client", "bigip_mgmt_ip",
    "web_application_name", "virtual_server", "virtual_name", "policy_name", "EOCTimestamp",
)  # fmt: skip


def _message(body: str, found: re.Match[str] | None, level: str | None, envelope: Envelope, origin: Origin) -> Event:
    """A numbered message, `notice mcpd[5837]: 01070638:5: Pool ...`; without a number the log of a daemon."""
    app, code, severity, said = envelope.app, None, envelope.severity, body
    if found is not None:
        code, rank = found.groups()
        severity = int(rank)
        said = body[found.end() :]
    group = "apm" if code is not None and code.startswith("0149") else ""
    kind = _APM if group else _SYSTEM if code is None or code.startswith(_SYSTEM_CODES) else _LTM
    session = _SESSION.match(said) if group else None
    stated = said if session is None else session[4]
    parts: dict[str, Any] = {}
    for text, pattern, meaning in _SAID[group]:
        if text in stated and (match := pattern.match(stated)) is not None:
            parts, kind = match.groupdict(), meaning
            break
    verdict = parts.get("verdict")
    if verdict is not None and not verdict.startswith(("was succ", "succ")):
        kind = _REFUSED
    elif kind is _POLICY and (parts.get("result") or "").lower() in _DENYING:
        kind = kind._replace(types=("denied",), outcome="failure")
    elif kind is _COMMAND and parts.get("status") not in (None, "", "Command OK"):
        kind = kind._replace(outcome="failure")
    service = kind.service
    if service == "device":
        service = (
            "web" if app is not None and "httpd" in app else "ssh" if app is not None and "sshd" in app else service
        )
    source, destination = parts.get("src"), parts.get("dst")
    return Event(
        origin.received if envelope.timestamp is None else envelope.timestamp,
        NAME,
        f"{NAME}.{kind.dataset}",
        kind.category,
        kind.types,
        kind.action,
        kind.outcome,
        code,
        said,
        envelope.host,
        parts.get("user") or None,
        None,
        source if source is not None and is_address(source) else None,
        _port(parts.get("sport")),
        whole_number(parts.get("received")),
        destination if destination is not None and is_address(destination) else None,
        _port(parts.get("dport")),
        whole_number(parts.get("sent")),
        None,
        app,
        envelope.pid,
        None,
        parts.get("command"),
        service_name=service,
        fields=Lazy(
            _said_fields, parts, severity, level, None if session is None else session.groups()[:3], envelope.host
        ),
    )


def _said_fields(
    parts: dict[str, Any], severity: int | None, level: str | None, session: tuple[str, ...] | None, host: str | None
) -> dict[str, Any]:
    fields: dict[str, Any] = {"observer.vendor": "F5", "observer.product": "BIG-IP"}
    if host is not None:
        fields["observer.name"] = host
    if severity is not None:
        fields["event.severity"] = severity
        fields["log.level"] = level or _LEVELS[severity]
    if session is not None:
        fields["f5_bigip.access_profile"], fields["f5_bigip.partition"], fields["f5_bigip.session_id"] = session
    for key, value in parts.items():
        if value and key in _NAMED_SAID:
            fields[_NAMED_SAID[key]] = value
    return fields


def _listed(log: Mapping[str, Any], damaged: bool, timestamp: float | None, host: str | None, origin: Origin) -> Event:
    """A log of keys and values: a request, a packet that met a rule, a violation, a statistic."""
    kind = (_text(log.get("telemetryEventCategory")) or "").lower()
    if not kind:
        kind = (
            "afm"
            if "acl_policy_name" in log
            else "asm"
            if "support_id" in log
            else "apm"
            if "Access_Profile" in log
            else "ltm"
        )
    action = _first(log, _ACTION)
    low = (action or "").lower()
    category: tuple[str, ...] = _NETWORK
    types: tuple[str, ...] = ("info",)
    if kind in {"afm", "asm", "apm"}:
        category = ("network", "intrusion_detection") if kind == "asm" else _NETWORK
        if low in _DENYING:
            types = ("connection", "denied") if kind == "afm" else ("access", "denied")
        elif low in _ALLOWING:
            types = ("connection", "allowed") if kind == "afm" else ("access", "allowed")
        elif low == "alerted":
            types = ("access", "info")
    elif _first(log, _METHOD) is not None:
        category, types = ("network", "web"), ("access", "info")
    elif "EOCTimestamp" in log:
        category = ("host",) if "CpuHealth" in log else _NETWORK
    status = whole_number(_first(log, _STATUS))
    url = _first(log, _URL)
    proto = _first(log, _PROTOCOL)
    user = _first(log, _USER)
    return Event(
        _time(log, timestamp, origin),
        NAME,
        f"{NAME}.{kind if kind.isascii() and kind.replace('_', '').isalnum() else 'log'}",
        category,
        types,
        action,
        None,
        None,
        _first(log, ("violations", "drop_reason", "errdefs_msg_name", "Entity")),
        _first(log, _HOST) or host,
        user,
        None,
        _address(log, _SOURCE),
        _port(_first(log, _SOURCE_PORT)),
        whole_number(_first(log, _SENT)),
        _address(log, _DESTINATION),
        _port(_first(log, _DESTINATION_PORT)),
        whole_number(_first(log, _RECEIVED)),
        None if proto is None else TRANSPORTS.get(proto.lower(), proto.lower()),
        None,
        None,
        None,
        None,
        None,
        None,
        None if url is None else url_path(url),
        status if status is not None and 100 <= status < 1000 else None,
        None,
        Lazy(_listed_fields, log, damaged, kind, url),
    )


def _listed_fields(log: Mapping[str, Any], damaged: bool, kind: str, url: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in log.items():
        if len(fields) >= KEYS_MAX:
            break
        if key and "." not in key and _plain(value):
            fields[key] = value
    fields["observer.vendor"], fields["observer.product"] = "F5", "BIG-IP"
    fields["f5_bigip.category"] = kind
    for key, path in _NAMED:
        if (value := _text(log.get(key))) is not None:
            fields[path] = value
    if (host := _first(log, _HOST)) is not None:
        fields["observer.name"] = host
    if (method := _first(log, _METHOD)) is not None:
        fields["http.request.method"] = method
    if url is not None:
        fields["url.original"] = url
        if query := _text(log.get("query_string")) or url.partition("?")[2]:
            fields["url.query"] = query
    if kind in {"afm", "asm"} and (rule := _first(log, _RULE)) is not None:
        fields["rule.name"] = rule
    if damaged:
        fields["shield.truncated"] = True
    return fields


def _time(log: Mapping[str, Any], enveloped: float | None, origin: Origin) -> float:
    for key in _TIMES:
        stated = log.get(key)
        try:
            if isinstance(stated, int | float):
                return from_epoch(stated)
            if type(stated) is not str or not stated:
                continue
            if stated.isascii() and stated.isdigit():
                return from_epoch(float(stated[:24]))
            if (dated := _DATE.match(stated)) is not None:
                month, day, year, *rest = dated.groups()
                number = MONTHS.get(month.lower(), 0)
                return from_iso(f"{year}-{number:02}-{int(day):02}T{':'.join(rest)}", origin.clock)
            if (slashed := _SLASHED.match(stated)) is not None:
                year, month, day, *rest = slashed.groups()
                return from_iso(f"{year}-{month}-{day}T{':'.join(rest)}", origin.clock)
            return from_iso(stated, origin.clock)
        except (ValueError, OverflowError):
            continue
    return origin.received if enveloped is None else enveloped


def _first(log: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    for key in keys:
        if (value := _text(log.get(key))) is not None:
            return value
    return None


def _address(log: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    for key in keys:
        value = _text(log.get(key))
        if value is not None and is_address(found := value.partition("%")[0]):  # %1 is the route domain
            return found
    return None


def _text(value: Any) -> str | None:
    """What a key says; numbers as text, and nothing where it says that there is nothing."""
    if type(value) is int and value.bit_length() <= INTEGER_BITS:
        return str(value)
    return value if type(value) is str and value not in _ABSENT else None


def _plain(value: Any) -> bool:
    kind = type(value)
    return kind in {str, bool, float} or (kind is int and value.bit_length() <= INTEGER_BITS)


def _port(text: str | None) -> int | None:
    port = whole_number(text)
    return port if port is not None and port <= PORT_MAX else None
