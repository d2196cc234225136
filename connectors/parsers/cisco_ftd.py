"""Cisco Firepower Threat Defense: its connection, intrusion, file and malware events (`%FTD-1-430003: SrcIP: ...`), the messages
it shares with ASA (`%FTD-6-302013: Built ...`), and the audit log of its management centre.

The device's own keys stay in `fields`; fields are mapped as Elastic's Cisco FTD integration does.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from connectors.envelope import Envelope
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.parsers import cisco_asa
from connectors.values import is_address, whole_number

NAME = "cisco_ftd"

HEAD_CHARS_MAX = 400  # a syslog header before the first key
PAIRS_MAX = 512  # of one event
KEY_CHARS_MAX = 64

_KEY = re.compile(r"(?:^|, ?)[A-Z]\w{1,40}:(?: |(?=,|$))")
_FIRST_KEY = re.compile(r"(?:^|[\s:])(?:[A-Z]\w{1,40}: [^,]{0,256}, ?){1,3}")
_AUDIT = re.compile(
    r"(?:(?P<host>[^\s:@]{1,255}): )?(?P<user>[^\s@,]{1,256})@(?P<src>[^,]{3,45}), (?P<page>[^,]*)(?:, (?P<deed>.*))?",
    re.DOTALL,
)
_AUDIT_SEEN = re.compile(
    r"[\w.-]{1,64}(?:\[\d{1,10}\])?: [\w.-]{1,255}: [^\s@,]{1,256}@(?:[0-9A-Fa-f.:]{3,45}|localhost|Default User IP), [^,]*(?:, | > )"
)
# Alerts of Firepower before FTD: `SFIMS: [...][...] Connection Type: Start, ... {TCP} 192.0.2.7:51022 -> 10.20.3.7:443`.
_SFIMS = re.compile(r"(?:^|[ >:/])SFIMS(?:\[\d{1,10}\])?: ")
_SFIMS_ENDS = re.compile(
    r"\{([\w-]{1,16})\} ([0-9A-Fa-f.]{2,15}|[0-9A-Fa-f:]{2,39}?)(?::(\d{1,5}))? ?-> ?"
    r"([0-9A-Fa-f.]{2,15}|[0-9A-Fa-f:]{2,39}?)(?::(\d{1,5}))?(?![\w.:])"
)
_SFIMS_RULE = re.compile(r'\[(\d{1,10}):(\d{1,10}):(\d{1,10})\] \\?"([^"\\]{1,512})')
_SFIMS_ASIDE = re.compile(r"\[(Impact|Classification|Priority): ([^\]]{0,128})\]")
_SFIMS_NAMES = (
    ("Firewall Rule Name", "rule.name"),
    ("Application Protocol", "network.protocol"),
    ("Client", "network.application"),
    ("Web App", "network.application"),
    ("Interface Ingress", "observer.ingress.interface.name"),
    ("Interface Egress", "observer.egress.interface.name"),
    ("Security Zone Ingress", "observer.ingress.zone"),
    ("Security Zone Egress", "observer.egress.zone"),
)
_ODD_PRIORITY = re.compile(r"<\d{1,3}\.\d>")  # the management centre's own spelling: <14.2>
_LOGON_DEED = re.compile(r"Log ?(in|out)\b.{0,40}?(Success|Fail|$)", re.IGNORECASE)

_NETWORK = ("network",)


class _Kind(NamedTuple):
    action: str
    category: tuple[str, ...]
    types: tuple[str, ...]
    dataset: str


_KINDS = {
    "430001": _Kind("intrusion-detected", ("intrusion_detection",), ("info",), "ids"),
    "430002": _Kind("connection-started", _NETWORK, ("connection", "start"), "firewall"),
    "430003": _Kind("connection-finished", _NETWORK, ("connection", "end"), "firewall"),
    "430004": _Kind("file-detected", ("file",), ("info",), "ids"),
    "430005": _Kind("malware-detected", ("malware", "file"), ("info",), "ids"),
}
_CONNECTIONS = frozenset({"430002", "430003"})
_NAMED = (  # key of the device -> ECS path
    ("AccessControlRuleName", "rule.name"),
    ("ACPolicy", "rule.ruleset"),
    ("ApplicationProtocol", "network.protocol"),
    ("Client", "network.application"),
    ("WebApplication", "network.application"),
    ("Classification", "rule.category"),
    ("DNSQuery", "dns.question.name"),
    ("DNSRecordType", "dns.question.type"),
    ("DNSResponseType", "dns.response_code"),
    ("DeviceUUID", "observer.serial_number"),
    ("EgressInterface", "observer.egress.interface.name"),
    ("EgressZone", "observer.egress.zone"),
    ("IngressInterface", "observer.ingress.interface.name"),
    ("IngressZone", "observer.ingress.zone"),
    ("FileName", "file.name"),
    ("FileSHA256", "file.hash.sha256"),
    ("HTTPReferer", "http.request.referrer"),
    ("Message", "rule.description"),
    ("NAT_InitiatorIP", "source.nat.ip"),
    ("NAT_ResponderIP", "destination.nat.ip"),
    ("NATPolicy", "cisco.ftd.nat_policy"),
    ("OriginalClientSrcIP", "client.ip"),
    ("ReferencedHost", "url.domain"),
    ("SID", "rule.id"),
    ("Revision", "rule.version"),
    ("SSLServerName", "tls.client.server_name"),
    ("SSLVersion", "tls.version"),
    ("SSLCipherSuite", "tls.cipher"),
    ("ThreatName", "threat.software.name"),
    ("UserAgent", "user_agent.original"),
)
_NUMBERS = (
    ("InitiatorPackets", "source.packets"),
    ("ResponderPackets", "destination.packets"),
    ("FileSize", "file.size"),
    ("VLAN_ID", "network.vlan.id"),
)
_NO_USER = frozenset({"No Authentication Required", "Unknown", "Not Found", "N/A", "", "Discovered Identities"})


def sniff(text: str) -> bool:
    at = text.find("%")
    tag = cisco_asa.TAG.search(text, at) if at >= 0 else None
    if tag is not None:
        return tag[1] in cisco_asa.FIREPOWER
    if ("SrcIP: " in text and "DstIP: " in text) or ("HTTPResponse: " in text and "Message: " in text):
        return _FIRST_KEY.search(text, 0, 2 * HEAD_CHARS_MAX) is not None
    if "SFIMS" in text and _SFIMS.search(text, 0, HEAD_CHARS_MAX) is not None:
        return True
    return "@" in text and _AUDIT_SEEN.search(text, 0, HEAD_CHARS_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    at = text.find("%FTD-")
    if at >= 0:
        event = cisco_asa.usual(text, origin, "%FTD-", NAME)
        if event is not None:
            return (event,)
    else:
        at = max(text.find("%"), 0)
    tag = cisco_asa.TAG.search(text, at)
    if tag is None:
        sfims = _SFIMS.search(text, 0, HEAD_CHARS_MAX) if "SFIMS" in text and "SrcIP: " not in text else None
        return (_untagged(text, origin) if sfims is None else _sfims(text, sfims, origin),)
    if tag[3] not in _KINDS:
        return cisco_asa.generally(text, origin, NAME)
    head = text
    if text[tag.start() - 2 : tag.start()] == "  ":  # as FTD writes it; with a colon it is the usual header
        head = f"{text[: tag.start() - 2]} : {tag[0]}"
    return (_keyed(tag[3], text[tag.end() :], int(tag[2]), cisco_asa.peeled(head, origin), origin),)


def _keyed(code: str, body: str, severity: int, envelope: Envelope, origin: Origin) -> Event:
    """An event of keys and values: `SrcIP: 10.0.0.1, DstIP: ...`."""
    log = _pairs(body)
    get = log.get
    kind = _KINDS[code]
    types = kind.types
    verdict = get("AccessControlRuleAction") or get("InlineResult") or get("FileAction") or ""
    outcome: str | None = None
    if verdict.startswith(("Allow", "Trust", "Fastpath")):
        types, outcome = (*types, "allowed"), "success"
    elif "lock" in verdict or verdict.startswith(("Drop", "Would", "Reset")):
        types, outcome = (*types, "denied"), "failure" if code in _CONNECTIONS else None
    elif verdict.startswith("Monitor"):
        outcome = "success"
    url = get("URL") or get("URI")
    user, domain = get("User") or "", None
    if "\\" in user:
        domain, _, user = user.rpartition("\\")
    proto = get("Protocol")
    return Event(
        origin.received if envelope.timestamp is None else envelope.timestamp,
        NAME,
        f"{NAME}.{kind.dataset}",
        kind.category,
        types,
        kind.action,
        outcome,
        code,
        body,
        envelope.host,
        None if user in _NO_USER else user,
        domain or None,
        _address(get("SrcIP")),
        _port(get("SrcPort")),
        whole_number(get("InitiatorBytes")),
        _address(get("DstIP")),
        _port(get("DstPort")),
        whole_number(get("ResponderBytes")),
        None if proto is None else cisco_asa.transport_of(proto),
        envelope.app,
        envelope.pid,
        None,
        None,
        None,
        None,
        cisco_asa.path_of(url) if url else None,
        whole_number(get("HTTPResponse")),
        None,
        Lazy(_fields, log, severity, url, envelope.host),
    )


def _pairs(body: str) -> dict[str, str]:
    """Keys, of one word or more, and their values, which may have commas in them."""
    log: dict[str, str] = {}
    last = ""
    for part in body.split(", ", PAIRS_MAX):
        key, colon, value = part.partition(": ")
        if not colon and part[-1:] in {":", ","} and part.rstrip(":,").isalnum():
            key, colon = part.rstrip(":,"), ":"
        if colon and key[:1].isupper() and len(key) <= KEY_CHARS_MAX:
            log[key] = value
            last = key
        elif last:
            log[last] = f"{log[last]}, {part}"
    return log


def _fields(log: dict[str, str], severity: int, url: str | None, host: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = dict(log)
    fields["event.severity"] = severity
    fields["log.level"] = cisco_asa.LEVELS[min(severity, 7)]
    fields["observer.product"] = "ftd"
    if host is not None:
        fields["observer.hostname"] = host
    for key, path in _NAMED:
        if value := log.get(key):
            fields[path] = value
    for key, path in _NUMBERS:
        if (number := whole_number(log.get(key))) is not None:
            fields[path] = number
    if (seconds := whole_number(log.get("ConnectionDuration"))) is not None and seconds < 10**9:
        fields["event.duration"] = seconds * 1_000_000_000
    if url:
        fields["url.original"] = url
    return fields


def _untagged(text: str, origin: Origin) -> Event:
    """Lines without a message number: event text, the management centre's audit log, and whatever else has a time."""
    odd = _ODD_PRIORITY.match(text)
    envelope = cisco_asa.peeled(text[odd.end() :] if odd is not None else text, origin)
    body = envelope.message
    if ("SrcIP: " in body or "HTTPResponse: " in body) and len(_KEY.findall(body)) > 1:
        code = "430002"
        if "FileSHA256: " in body or "ThreatName: " in body or "FileName: " in body:
            code = "430005" if "Malware" in body else "430004"
        elif "Message: " in body and "AccessControlRuleAction: " not in body:
            code = "430001"
        severity = 6 if envelope.severity is None else envelope.severity
        return _keyed(code, body, severity, envelope, origin)
    if envelope.timestamp is None:
        raise ParseError("no Cisco FTD message: it has no %FTD-n-nnnnnn tag and no keys such as SrcIP")
    found = _AUDIT.match(body)
    event = Event(
        timestamp=envelope.timestamp,
        event_module=NAME,
        event_dataset="cisco_ftd.system",
        event_category=("host",),
        event_type=("info",),
        message=body,
        host_name=envelope.host,
        process_name=envelope.app,
        process_pid=envelope.pid,
    )
    if found is None:
        return event
    deed = (found["deed"] or found["page"]).removesuffix(" x0a x00").strip()
    logon = _LOGON_DEED.search(deed)
    changes: dict[str, Any] = {"event_category": ("configuration",), "event_type": ("access",), "event_action": deed}
    if logon is not None:
        failed = logon[2].lower() == "fail"
        changes = {
            "event_category": ("authentication",),
            "event_type": ("end" if logon[1].lower() == "out" else "start",),
        }
        changes |= {"event_action": deed, "event_outcome": "failure" if failed else "success", "service_name": "web"}
    return msgspec.structs.replace(
        event,
        **changes,
        event_dataset="cisco_ftd.audit",
        host_name=found["host"] or envelope.host,
        user_name=found["user"],
        source_ip=_address(found["src"]),
        fields={"cisco.ftd.page": found["page"]},
    )


def _sfims(text: str, begin: re.Match[str], origin: Origin) -> Event:
    """A connection, or an alert of a rule of intrusion detection."""
    envelope = cisco_asa.peeled(text[: begin.end()] + "-", origin)
    body = text[begin.end() :]
    log = {key: value for key, value in _pairs(body.partition("] ")[2] or body).items() if value not in _NO_USER}
    ends = _SFIMS_ENDS.search(body)
    proto, source, sport, destination, dport = ends.groups() if ends is not None else (None,) * 5
    rule = _SFIMS_RULE.search(body)
    verdict = log.get("Firewall Rule Action", "")
    category: tuple[str, ...]
    types: tuple[str, ...]
    fields: dict[str, Any] = {"observer.product": "firepower", **log}
    for key, path in _SFIMS_NAMES:
        if key in log:
            fields[path] = log[key]
    if rule is not None:
        generator, number, revision, name = rule.groups()
        fields |= {"event.kind": "alert", "snort.gid": int(generator), "rule.id": number, "rule.version": revision}
        fields["rule.name"] = fields["rule.description"] = name
        aside = dict(_SFIMS_ASIDE.findall(body))
        if aside.get("Classification"):
            fields["rule.category"] = aside["Classification"]
        if (priority := whole_number(aside.get("Priority"))) is not None:
            fields["event.severity"] = priority
        category, types, action = ("intrusion_detection", "network"), ("info",), "intrusion-detected"
    else:
        ended = log.get("Connection Type") == "End"
        category, types = _NETWORK, ("connection", "end" if ended else "start")
        action = "connection-finished" if ended else "connection-started"
    allowed = verdict.startswith(("Allow", "Trust", "Fastpath"))
    denied = "lock" in verdict
    return Event(
        timestamp=origin.received if envelope.timestamp is None else envelope.timestamp,
        event_module=NAME,
        event_dataset="cisco_ftd.ids" if rule is not None else "cisco_ftd.firewall",
        event_category=category,
        event_type=(*types, "allowed") if allowed else (*types, "denied") if denied else types,
        event_action=action,
        event_outcome="success" if allowed else "failure" if denied else None,
        event_code=rule[2] if rule is not None else None,
        message=body,
        host_name=envelope.host,
        user_name=log.get("User"),
        source_ip=_address(source),
        source_port=_port(sport),
        destination_ip=_address(destination),
        destination_port=_port(dport),
        network_transport=None if proto is None else cisco_asa.transport_of(proto),
        fields=fields,
    )


def _address(text: str | None) -> str | None:
    return text if text and is_address(text) else None


def _port(text: str | None) -> int | None:
    port = whole_number(text)
    return port if port is not None and port <= 65_535 else None
