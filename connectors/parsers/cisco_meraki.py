"""Cisco Meraki syslog of MX, MR, MS and Z devices (flows, urls, ids-alerts, security_event, events, airmarshal_events, the
`_firewall` roles of newer firmware), with any header, and the JSON alerts of the dashboard's webhooks.

Fields are mapped as Elastic's Cisco Meraki integration does, but an address before translation stays the source.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from connectors import tolerant_json
from connectors.clock import from_epoch, from_iso
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import url_path

NAME = "cisco_meraki"

HEAD_CHARS_MAX = 512  # a relay's header before the device's own
PORT_MAX = 65_535
INTEGER_BITS = 63
LEAVES_MAX = 128  # of one webhook alert
REMEMBERED_MAX = 65_536  # ends of connections remembered in their parts

_ROLES = (
    "flows|urls|ids-alerts|security_event|events|airmarshal_events|ip_flow_start|ip_flow_end|firewall|"
    r"(?:vpn|cellular|l7|bridge_anyconnect_client_vpn|anyconnect_client_vpn|client_vpn|wireless|layer3|layer7)_firewall"
)
_LINE = re.compile(rf"(\d{{9,10}}\.\d{{1,9}}) (\S{{1,128}}) ({_ROLES})(?: |$)")
_PAIRS = re.compile(r"(?<![\w.-])([A-Za-z]\w*+)=(?:'([^']*+)'|\"([^\"]*+)\"|(\S*+))")
_REQUEST = re.compile(r"\brequest: (\S{1,32}) (\S.*)", re.DOTALL)
_PATTERN = re.compile(r"\bpattern: (.*)", re.DOTALL)
_MESSAGE = re.compile(r"\b(?:message|msg): '?(.*?)'?$", re.DOTALL)
_VERDICT = re.compile(r"(allow|deny|block|permit)\w* ")
_WORD = re.compile(r"([a-z0-9]+(?:_[a-z0-9]+)+)\b")
_VPN_USER = re.compile(
    r"\b(?:[Uu]ser(?: id)?:? ?'([^']{1,256})'|User ?\[([^\]]{1,256})\]|[Uu]ser(?: id)?[ :=]{1,2}([^\s',\]]{1,256}))"
)
_VPN_PEER = re.compile(r"\b(?:connected from|[Pp]eer IP ?[=:]|remote ip|from ip) ?\[?([0-9A-Fa-f.:]{3,45})")
_VPN_PORT = re.compile(r"\b[Pp]eer port ?[=:] ?(\d{1,5})")
_VPN_LOCAL = re.compile(r"\b(?:local ip|Assigned IP)[ =:\[]{1,2}([0-9A-Fa-f.:]{3,45})")
_LEASE = re.compile(r"dhcp lease of ip (\S+) from (?:server )?mac (\S+) for client mac (\S+)(?: with hostname (\S+))?")
_NO_OFFERS = re.compile(r"dhcp no offers for mac (\S+)(?: host = (\S+))?")
_CLAIM = re.compile(r"MAC (\S+) and MAC (\S+) both claim IP: (\S+)")
_PORT_CHANGED = re.compile(r"[Pp]ort (\d{1,4}) (?:status )?changed (.*)", re.DOTALL)
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")

_NETWORK, _LOGON = ("network",), ("authentication",)
_TRANSPORT = {
    "tcp/ip": "tcp",
    "udp/ip": "udp",
    "icmp/ip": "icmp",
    "icmp6": "ipv6-icmp",
    "1": "icmp",
    "6": "tcp",
    "17": "udp",
}
_TRANSPORT |= {"47": "gre", "50": "esp", "58": "ipv6-icmp"}
_NO_PORTS = frozenset({"icmp", "ipv6-icmp", "igmp"})
_DENYING = frozenset({"deny", "block", "denied", "blocked", "1", "drop"})
_ALLOWING = frozenset({"allow", "permit", "allowed", "0"})
# What `events` says happened -> category, type, outcome, service; the user, if one is named, logged on.
_EVENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str | None, str | None]] = {
    "8021x_eap_success": (_LOGON, ("start",), "success", "dot1x"),
    "8021x_eap_failure": (_LOGON, ("start",), "failure", "dot1x"),
    "8021x_auth": (_LOGON, ("start",), "success", "dot1x"),
    "8021x_deauth": (_LOGON, ("end",), None, "dot1x"),
    "8021x_client_deauth": (_LOGON, ("end",), None, "dot1x"),
    "wpa_auth": (("authentication", "session"), ("start",), "success", "wifi"),
    "wpa_deauth": (("authentication", "session"), ("end",), None, "wifi"),
    "splash_auth": (_LOGON, ("start",), "success", "splash"),
    "association": (("network", "session"), ("access", "start"), None, "wifi"),
    "disassociation": (("network", "session"), ("end",), None, "wifi"),
    "vpn_connectivity_change": (("network", "session"), ("connection", "change"), None, None),
    "client_vpn_connect": (_LOGON, ("start",), "success", "vpn"),
    "client_vpn_disconnect": (("authentication", "session"), ("end",), None, "vpn"),
    "anyconnect_vpn_connect": (("authentication", "session"), ("start",), "success", "vpn"),
    "anyconnect_vpn_disconnect": (("authentication", "session"), ("end",), None, "vpn"),
    "anyconnect_vpn_auth_success": (_LOGON, ("start",), "success", "vpn"),
    "anyconnect_vpn_auth_failure": (_LOGON, ("start",), "failure", "vpn"),
    "content_filtering_block": (("network", "web"), ("access", "denied"), None, None),
    "nbar_block": (_NETWORK, ("connection", "denied"), None, None),
    "device_packet_flood": (("network", "intrusion_detection"), ("info",), None, None),
    "rogue_ssid_detected": (("network", "intrusion_detection"), ("info",), None, None),
    "ssid_spoofing_detected": (("network", "intrusion_detection"), ("info",), None, None),
    "multiple_dhcp_servers_detected": (("network", "intrusion_detection"), ("info",), None, None),
    "mac_spoofing_attack": (("network", "intrusion_detection"), ("info",), None, None),
    "bad_dhcp_server": (("network", "intrusion_detection"), ("info",), None, None),
    "settings_changed": (("configuration",), ("change",), None, None),
}  # fmt: skip
_INFO: tuple[tuple[str, ...], tuple[str, ...], str | None, str | None] = (_NETWORK, ("info",), None, None)
_SECURITY = {
    "ids_alerted": "ids-signature-matched",
    "security_filtering_file_scanned": "malicious-file-actioned",
    "security_filtering_disposition_change": "issued-retrospective-malicious-disposition",
}
_NAMED = (  # key of the device -> ECS path
    ("signature", "rule.id"),
    ("direction", "network.direction"),
    ("sha256", "file.hash.sha256"),
    ("url", "url.original"),
    ("agent", "user_agent.original"),
    ("ssid", "network.name"),
    ("vlan_id", "network.vlan.id"),
    ("vlan", "network.vlan.id"),
    ("name", "threat.indicator.file.name"),
    ("priority", "event.severity"),
    ("category0", "rule.category"),
    ("message", "rule.description"),
    ("pattern", "rule.name"),
    ("method", "http.request.method"),
    ("reason", "event.reason"),
    ("translated_dst_ip", "destination.nat.ip"),
    ("translated_src_ip", "source.nat.ip"),
)
_MACS = (("mac", "source.mac"), ("client_mac", "source.mac"), ("shost", "source.mac"), ("dhost", "destination.mac"))
_ALERT_KEYS = ('"alertTypeId"', '"alertType"')
_SECRET = frozenset({"sharedSecret"})


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return all(key in text for key in _ALERT_KEYS) and '"networkId"' in text
    return _line(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] == "{":
        return (_alert(text, origin),)
    line = _line(text)
    if line is None:
        raise ParseError("no Meraki log: no time in seconds, device and role (flows, urls, events ...) in a row")
    stated, device, role = line.groups()
    try:
        timestamp = from_epoch(float(stated))
    except ValueError:  # a time that no calendar has must not hide the event
        timestamp = origin.received
    body = text[line.end() :]
    log = {key: one or other or bare for key, one, other, bare in _PAIRS.findall(body)}
    if role in {"flows", "ip_flow_start", "ip_flow_end"} or role.endswith("firewall"):
        return (_flow(role, device, body, log, timestamp),)
    if role == "urls":
        return (_request(device, body, log, timestamp),)
    if role in {"security_event", "ids-alerts"}:
        return (_security(role, device, body, log, timestamp),)
    return (_happening(role, device, body, log, timestamp),)


def _line(text: str) -> re.Match[str] | None:
    """Where the device's own header begins: behind a priority, a `1` and a relay's header."""
    if text[:1].isdecimal() and (line := _LINE.match(text)) is not None:
        return line
    at = text.find("1 ", 0, HEAD_CHARS_MAX)
    while 0 <= at < HEAD_CHARS_MAX:
        line = _LINE.match(text, at + 2)
        if line is not None:
            return line
        at = text.find("1 ", at + 1, HEAD_CHARS_MAX)
    at = text.find("> ", 0, 8) + 2 or text.find(">", 0, 8) + 1
    return _LINE.match(text, at) if at > 0 else None


def _flow(role: str, device: str, body: str, log: dict[str, str], timestamp: float) -> Event:
    get = log.get
    said = _VERDICT.match(body)
    pattern = _PATTERN.search(body)
    if pattern is not None:
        log["pattern"] = pattern[1].strip()
    word = said[1] if said is not None else log.get("pattern", "").partition(" ")[0].lower()
    action: str | None = None
    types: tuple[str, ...] = ("connection",)
    if role == "ip_flow_start":
        types, action = ("connection", "start"), "ip-flow-started"
    elif role == "ip_flow_end":
        types, action = ("connection", "end"), "ip-flow-ended"
    elif word in _DENYING:
        types, action = ("connection", "denied"), "deny"
    elif word in _ALLOWING:
        types, action = ("connection", "allowed"), "allow"
    return _event(
        timestamp, "firewall", _NETWORK, types, action, None, None, device, None, get("src"), get("sport"), get("dst"), get("dport"),
        get("protocol"), None, None, role, log,
    )  # fmt: skip


def _request(device: str, body: str, log: dict[str, str], timestamp: float) -> Event:
    request = _REQUEST.search(body)
    if request is not None:
        log["method"], log["url"] = request[1], request[2].strip()
    action = "http-access-error" if log.get("method") == "UNKNOWN" else "http-access"  # it did not see the request
    return _event(
        timestamp, "proxy", ("network", "web"), ("info", "access"), action, None, None, device, None, log.get("src"), None,
        log.get("dst"), None, "tcp", log.get("url"), None, "urls", log,
    )  # fmt: skip


def _security(role: str, device: str, body: str, log: dict[str, str], timestamp: float) -> Event:
    kind = "ids_alerted" if role == "ids-alerts" else body.partition(" ")[0]
    message = _MESSAGE.search(body)
    if message is not None:
        log["message"] = message[1].strip()
    verdict = (log.get("decision") or log.get("action") or "").lower()
    category = ("network", "intrusion_detection") if kind == "ids_alerted" else ("network", "malware")
    types: tuple[str, ...] = ("info",)
    if verdict in _DENYING:
        types = ("info", "denied")
    elif verdict in _ALLOWING:
        types = ("info", "allowed")
    return _event(
        timestamp, "ids", category, types, _SECURITY.get(kind, kind or None), None, log.get("message") or log.get("name"), device, None,
        log.get("src"), None, log.get("dst"), None, log.get("protocol"), log.get("url"), None, kind, log,
    )  # fmt: skip


def _happening(role: str, device: str, body: str, log: dict[str, str], timestamp: float) -> Event:
    """`events` and `airmarshal_events`: `type=...` with keys, a name with a text, or a text alone."""
    get = log.get
    kind = get("type")
    if kind is None and (word := _WORD.match(body)) is not None:
        kind = word[1]
    category, types, outcome, service = _EVENTS.get(kind or "", _INFO)
    source, sport, destination = get("client_ip") or get("ip") or get("peer_contact") or get("src"), None, get("dst")
    user = get("identity") or get("user_id") or get("username")
    server = get("server")
    named = kind or None
    if kind is not None and "vpn" in kind:
        if (who := _VPN_USER.search(body)) is not None:
            user = who[1] or who[2] or who[3]
        if (peer := _VPN_PEER.search(body)) is not None:
            source = peer[1]
        if (port := _VPN_PORT.search(body)) is not None:
            sport = port[1]
        if (local := _VPN_LOCAL.search(body)) is not None:
            log["assigned_ip"] = local[1]
        source = source or get("remote_ip")
        if service is None and get("connectivity") is not None:
            outcome = "success" if get("connectivity") == "true" else "failure"
    elif kind is None:
        named, source = _text_event(body, log)
    if server is not None:
        destination = server
    dataset = "auth" if category[0] == "authentication" else "airmarshal" if role == "airmarshal_events" else "events"
    return _event(
        timestamp, "vpn" if service == "vpn" else dataset, category, types, None if named is None else named.replace("_", "-"),
        outcome, None if log.get("type") is not None else body or None, device, user, source, sport, destination, None, None, get("url"),
        service, named or role, log,
    )  # fmt: skip


def _text_event(body: str, log: dict[str, str]) -> tuple[str | None, str | None]:
    """Name and address of an event that is told in words."""
    lease = _LEASE.match(body)
    if lease is not None:
        log["server_mac"], log["client_mac"] = lease[2], lease[3]
        if lease[4]:
            log["hostname"] = lease[4]
        return "dhcp_lease", lease[1]
    refused = _NO_OFFERS.match(body)
    if refused is not None:
        log["client_mac"] = refused[1]
        return "dhcp_no_offer", refused[2]
    claim = _CLAIM.match(body)
    if claim is not None:
        log["mac"], log["other_mac"] = claim[1], claim[2]
        return "ip_conflict", claim[3]
    port = _PORT_CHANGED.match(body)
    if port is not None:
        log["port"], log["change"] = port[1], port[2]
        return "port_status_changed", None
    low = body[:64].lower()
    for start, name in (
        ("failover to", "uplink_failover"),
        ("cellular connection", "cellular_connection"),
        ("site-to-site vpn", "site_to_site_vpn"),
    ):
        if low.startswith(start):
            return name, None
    return None, None


def _event(
    timestamp: float, dataset: str, category: tuple[str, ...], types: tuple[str, ...], action: str | None, outcome: str | None,
    message: str | None, device: str, user: str | None, one: str | None, one_port: str | None, other: str | None,
    other_port: str | None, protocol: str | None, url: str | None, service: str | None, kind: str, log: dict[str, str],
) -> Event:  # fmt: skip
    transport = None if protocol is None else _TRANSPORT.get(protocol.lower(), protocol.lower())
    source, sport = (None, None) if one is None else _end(one)
    destination, dport = (None, None) if other is None else _end(other)
    if one_port is not None:
        sport = _port(one_port)
    if other_port is not None:
        dport = _port(other_port)
    if transport in _NO_PORTS:
        sport = dport = None
    return Event(
        timestamp,
        NAME,
        f"cisco_meraki.{dataset}",
        category,
        types,
        action,
        outcome,
        None,
        message,
        device,
        user or None,
        None,
        source,
        sport,
        None,
        destination,
        dport,
        None,
        transport,
        url_path=None if url is None else url_path(url),
        service_name=service,
        fields=Lazy(_fields, log, kind, device),
    )


def _fields(log: dict[str, str], kind: str, device: str) -> dict[str, Any]:
    fields: dict[str, Any] = dict(log)
    fields["cisco_meraki.event_type"] = kind
    fields["observer.name"] = device
    fields["observer.vendor"] = "Cisco"
    for key, path in _NAMED:
        if value := log.get(key):
            fields[path] = value
    for key, path in _MACS:
        if value := log.get(key):
            fields[path] = value.upper().replace(":", "-")
    for key, path in (("src", "source.mac"), ("dst", "destination.mac")):  # of Air Marshal
        if _MAC.fullmatch(log.get(key, "")) is not None:
            fields[path] = log[key].upper().replace(":", "-")
    if (priority := log.get("priority", "")).isdecimal() and priority.isascii() and len(priority) < 10:
        fields["event.severity"] = int(priority)
    return fields


def _alert(text: str, origin: Origin) -> Event:
    """An alert that the dashboard sent to a webhook; the secret in it is left out."""
    log, damaged = tolerant_json.decode(text)
    if type(log) is dict and type(inner := log.get("json")) is dict:  # as a relay wraps it
        log = inner
    if type(log) is not dict or not ("alertTypeId" in log or "alertType" in log):
        raise ParseError("no Meraki alert: the JSON has no alertType")
    get = log.get
    timestamp = origin.received
    for key in ("occurredAt", "sentAt"):
        if type(stated := get(key)) is str:
            try:
                timestamp = from_iso(stated, origin.clock)
                break
            except ValueError:
                continue
    data = get("alertData")
    data = data if type(data) is dict else {}
    kind = _text(get("alertTypeId"))
    source = next(
        (value for key in ("clientIp", "ip", "srcIp", "remote") if (value := _text(data.get(key))) and _end(value)[0]),
        None,
    )
    fields: dict[str, Any] = {"cisco_meraki.event_type": kind, "observer.vendor": "Cisco"}
    for prefix, part in (("", log), ("alertData_", data)):
        for key, value in list(part.items())[:LEAVES_MAX]:
            plain = type(value) in {str, float, bool} or (type(value) is int and value.bit_length() <= INTEGER_BITS)
            if plain and key and "." not in key and key not in _SECRET:
                fields[f"{prefix}{key}"] = value
    for key, path in (
        ("deviceName", "observer.name"), ("deviceSerial", "observer.serial_number"), ("deviceModel", "observer.product"),
        ("networkName", "network.name"), ("organizationId", "organization.id"), ("alertLevel", "log.level"),
    ):  # fmt: skip
        if value := _text(get(key)):
            fields[path] = value
    if damaged:
        fields["shield.truncated"] = True
    return Event(
        timestamp=timestamp,
        event_module=NAME,
        event_dataset="cisco_meraki.alert",
        event_category=_NETWORK,
        event_type=("info",),
        event_action=kind,
        message=_text(get("alertType")),
        host_name=_text(get("deviceName")),
        source_ip=None if source is None else _end(source)[0],
        fields=fields,
    )


@lru_cache(maxsize=REMEMBERED_MAX)
def _end(text: str) -> tuple[str | None, int | None]:
    """Address and port of `192.0.2.7:80`, `[2001:db8::1]:80` or an address alone; (None, None) of what is none."""
    address, port = text, ""
    if text[:1] == "[":
        address, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        ip_address(address)
    except ValueError:
        return None, None
    return address, _port(port)


def _port(text: str) -> int | None:
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else PORT_MAX + 1
    return port if port <= PORT_MAX else None


def _text(value: Any) -> str | None:
    return value if type(value) is str and value else None
