"""Juniper SRX and Junos: structured `RT_FLOW`, `RT_IDP`, `RT_UTM`, `RT_IDS`, `RT_AAMW`, `RT_SECINTEL`, the same as plain text, and logons.

The device's own keys stay in `fields` under their own names (`policy-name`); the mapping is Elastic's.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "juniper_srx"

_JUNOS = re.compile(r"\[junos@")
_TAG = re.compile(r"\b(RT_[A-Z]{3,10}|[A-Z][A-Z0-9]{1,15}(?:_[A-Z0-9]{1,24}){1,8}):? ")
_PAIR = re.compile(r'([A-Za-z][\w.-]{0,63}+)=["“”]([^"“”]*+)["“”]')
_SESSION = re.compile(
    r"session (?:created|closed|denied)(?: ([\w .()-]{1,80}?):?)? ([0-9A-Fa-f.:]{2,45})/(\d{1,5})->([0-9A-Fa-f.:]{2,45})/(\d{1,5})"
)
_PACKET = re.compile(
    r"\bFW: (\S{1,40}) ([A-Z]) (\w{1,16}) ([0-9A-Fa-f.:]{2,45}) ([0-9A-Fa-f.:]{2,45}) (\d{1,5}) (\d{1,5})"
)
_ENDS = re.compile(r"\bLocal: ([0-9A-Fa-f.:]{2,45})/\d{1,5}, Remote: ([0-9A-Fa-f.:]{2,45})/")
_PROTOCOL = re.compile(r" (\d{1,3})(?:\(\d{1,5}\))? ")
_VOLUME = re.compile(r" (\d{1,12})\((\d{1,18})\) (\d{1,12})\((\d{1,18})\) ")
_USER = re.compile(r"(?i)\b(?:user|for)(?: (?:invalid user|user))? '?([^\s',]{1,128})'?")
_FROM = re.compile(r"(?i)\b(?:from(?: host)?|host|ssh-connection) '?([0-9a-f][0-9a-f.:]{2,44})'?")
_ABSENT = frozenset(("", "N/A", "None", "UNKNOWN", "0.0.0.0"))  # noqa: S104 -- what the device writes for none
_TRANSPORT = {
    "1": "icmp",
    "2": "igmp",
    "6": "tcp",
    "17": "udp",
    "47": "gre",
    "50": "esp",
    "51": "ah",
    "58": "ipv6-icmp",
}
_TRANSPORT |= {"89": "ospf", "103": "pim", "132": "sctp"}
_Kind = tuple[str, tuple[str, ...], tuple[str, ...], str | None]
_KINDS: tuple[tuple[str, _Kind], ...] = (  # beginning of the message's name -> dataset, category, type, action
    ("RT_FLOW_SESSION_CREATE", ("firewall", ("network",), ("start", "allowed", "connection"), "flow_started")),
    ("RT_FLOW_SESSION_CLOSE", ("firewall", ("network",), ("end", "allowed", "connection"), "flow_close")),
    ("RT_FLOW_SESSION_DENY", ("firewall", ("network",), ("denied", "connection"), "flow_deny")),
    ("APPTRACK_SESSION_CREATE", ("firewall", ("network",), ("start", "allowed", "connection"), "flow_started")),
    ("APPTRACK_SESSION_CLOSE", ("firewall", ("network",), ("end", "allowed", "connection"), "flow_close")),
    ("RT_SCREEN", ("threat", ("network", "intrusion_detection"), ("info", "denied", "connection"), "attack_detected")),
    ("IDP_ATTACK", ("threat", ("network", "intrusion_detection"), ("info", "denied", "connection"), "security_threat")),
    (
        "IDP_APPDDOS",
        ("threat", ("network", "intrusion_detection"), ("info", "denied", "connection"), "application_ddos"),
    ),
    ("AV_VIRUS_DETECTED", ("threat", ("network", "malware"), ("info", "denied", "connection"), "virus_detected")),
    ("WEBFILTER_URL_BLOCKED", ("web", ("network", "malware"), ("info", "denied", "connection"), "web_filter")),
    (
        "CONTENT_FILTERING_BLOCKED",
        ("threat", ("network", "malware"), ("info", "denied", "connection"), "content_filter"),
    ),
    ("ANTISPAM_SPAM_DETECTED", ("threat", ("network", "malware"), ("info", "denied", "connection"), "antispam_filter")),
    ("SRX_AAMW_ACTION", ("threat", ("network", "malware"), ("info", "denied", "connection"), "malware_detected")),
    ("AAMW_MALWARE_EVENT", ("threat", ("network", "malware"), ("info", "denied", "connection"), "malware_detected")),
    ("AAMW_HOST_INFECTED", ("threat", ("network", "malware"), ("allowed", "connection"), None)),
    ("SECINTEL_ACTION", ("threat", ("network", "malware"), ("info", "denied", "connection"), "malware_detected")),
)
_PERMITTED: _Kind = ("firewall", ("network",), ("allowed", "connection"), None)
_SYSTEM: _Kind = ("system", ("network",), ("info",), None)
_LOGONS = {
    "UI_AUTH_EVENT": ("start", "success"),
    "UI_LOGIN_EVENT": ("start", "success"),
    "UI_LOGOUT_EVENT": ("end", "success"),
    "UI_LOGIN_FAILED": ("start", "failure"),
    "UI_AUTH_INVALID_CHALLENGE": ("start", "failure"),
    "LOGIN_FAILED": ("start", "failure"),
    "LOGIN_INFORMATION": ("start", "success"),
    "LOGIN_ROOT": ("start", "success"),
    "LOGIN_PAM_AUTHENTICATION_ERROR": ("start", "failure"),
    "SSHD_LOGIN_FAILED": ("start", "failure"),
    "SSHD_LOGIN_ATTEMPTS_THRESHOLD": ("start", "failure"),
    "FWAUTH_FTP_USER_AUTH_FAIL": ("start", "failure"),
    "FWAUTH_WEBAUTH_SUCCESS": ("start", "success"),
    "FWAUTH_WEBAUTH_FAIL": ("start", "failure"),
    "DYNAMIC_VPN_AUTH_OK": ("start", "success"),
    "DYNAMIC_VPN_AUTH_FAIL": ("start", "failure"),
}
_ECS = {
    "policy-name": "rule.name",
    "rule-name": "rule.name",
    "source-zone-name": "observer.ingress.zone",
    "source-zone": "observer.ingress.zone",
    "destination-zone-name": "observer.egress.zone",
    "destination-zone": "observer.egress.zone",
    "packet-incoming-interface": "observer.ingress.interface.name",
    "nat-source-address": "source.nat.ip",
    "nat-source-port": "source.nat.port",
    "nat-destination-address": "destination.nat.ip",
    "nat-destination-port": "destination.nat.port",
    "packets-from-client": "source.packets",
    "packets-from-server": "destination.packets",
    "session-id-32": "network.session_id",
    "application": "network.application",
    "reason": "event.reason",
    "url": "url.domain",
    "http-host": "url.domain",
    "threat-severity": "log.level",
    "attack-name": "threat.indicator.name",
}


def sniff(text: str) -> bool:
    return (
        "[junos@" in text
        or "RT_FLOW" in text
        or "RT_IDP" in text
        or "PFE_FW_SYSLOG" in text
        or _PACKET.search(text, 0, 400) is not None
        or ("UI_" in text and _tag(text) in _LOGONS)
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    structured = envelope.structured
    tag = envelope.msgid if structured and envelope.msgid else _tag(text)
    if not (structured or tag or envelope.recognised or "[junos@" in text):
        raise ParseError("no Junos log: neither [junos@, the name of a message nor a daemon's line")
    message = envelope.message
    if structured and not message:
        log = {key.rpartition(".")[2]: value for key, value in structured.items()}
    elif (begin := text.find("[junos@")) >= 0:  # not quite as the standard has it
        log = dict(_PAIR.findall(text, begin))
        message = text[text.rfind("] ") + 2 :] if "] " in text else ""
    else:
        log = _plain(message)
    get = log.get
    dataset, category, types, action = _kind(tag, log)
    outcome = "success" if tag.startswith(_FLOWS) else None
    user: str | None = get("username") or get("user")
    service = None
    logon = _LOGONS.get(tag)
    if logon is None and envelope.app == "sshd" and message.startswith(("Failed ", "Accepted ")):
        logon = ("start", "failure" if message.startswith("Failed ") else "success")
    source = get("source-address") or get("client-ip") or get("local-address") or get("source-ip")
    if logon is not None:
        stage, outcome = logon
        category, dataset, action = ("authentication",), "auth", tag.lower() or "ssh_login"
        types = (stage, "denied") if outcome == "failure" else (stage,)
        service = "vpn" if "VPN" in tag else "ssh"
        found, at = _USER.search(message), _FROM.search(message)
        user = user or (found[1] if found else None)
        source = source or (at[1] if at else None)
    proto = get("protocol-id")
    process = tag if envelope.app is None else envelope.app
    return (
        Event(
            origin.received if envelope.timestamp is None else envelope.timestamp,
            NAME,
            f"juniper_srx.{dataset}",
            category,
            types,
            action,
            outcome,
            None,
            get("message") or message or None,
            envelope.host,
            None if user is None or user in _ABSENT else user,
            None,
            None if source is None or source in _ABSENT else source,
            _number(get("source-port")),
            _number(get("bytes-from-client") or get("inbound-bytes")),
            _stated(get("destination-address") or get("remote-address") or get("destination-ip")),
            _number(get("destination-port")),
            _number(get("bytes-from-server") or get("outbound-bytes")),
            None if not proto else _TRANSPORT.get(proto, proto),
            process or None,
            envelope.pid,
            file_path=_stated(get("filename")),
            url_path=_stated(get("obj")),
            service_name=service,
            fields=Lazy(_fields, log, tag),
        ),
    )


_FLOWS = ("RT_", "APPTRACK", "IDP_", "AV_", "WEBFILTER", "CONTENT_", "ANTISPAM", "SRX_", "AAMW", "SECINTEL")


def _tag(text: str) -> str:
    """The name of the message: RT_FLOW_SESSION_CREATE. `RT_FLOW` alone is the program that says it."""
    for match in _TAG.finditer(text, 0, 600):
        if match[1].count("_") > 1 or not match[1].startswith("RT_"):
            return match[1]
    return ""


def _kind(tag: str, log: dict[str, str]) -> _Kind:
    for start, kind in _KINDS:
        if tag.startswith(start):
            if log.get("action", "").lower() in {"permit", "none", "no action", "log"} and kind[0] == "threat":
                return "threat", kind[1], ("allowed", "connection"), kind[3]
            return kind
    if "packet-incoming-interface" in log and not tag.startswith(_FLOWS):
        return "firewall", ("network",), ("allowed" if log.get("action") == "A" else "denied", "connection"), None
    return _PERMITTED if tag.startswith(_FLOWS) else _SYSTEM


def _plain(message: str) -> dict[str, str]:
    """The same of `session created 10.1.1.1/51234->203.0.113.1/443 ...`, as the format without structured data says it."""
    packet = _PACKET.search(message)
    if packet is not None:
        names = ("packet-incoming-interface", "action", "protocol-id", "source-address", "destination-address")
        return dict(zip((*names, "source-port", "destination-port"), packet.groups(), strict=True))
    match = _SESSION.search(message)
    if match is None:
        ends = _ENDS.search(message)
        return {} if ends is None else {"source-address": ends[1], "destination-address": ends[2]}
    reason, source, source_port, destination, destination_port = match.groups()
    log = {
        "source-address": source,
        "source-port": source_port,
        "destination-address": destination,
        "destination-port": destination_port,
    }
    if reason:
        log["reason"] = reason
    rest = message[match.end() :]
    volume = _VOLUME.search(rest)
    if volume is not None:
        log |= {"packets-from-client": volume[1], "bytes-from-client": volume[2]}
        log |= {"packets-from-server": volume[3], "bytes-from-server": volume[4]}
    arrow = rest.rfind("->")
    protocol = _PROTOCOL.search(rest, max(arrow, 0))
    if protocol is not None:
        log["protocol-id"] = protocol[1]
    return log


def _fields(log: dict[str, str], tag: str) -> dict[str, Any]:
    fields: dict[str, Any] = {key: value for key, value in log.items() if value not in {"", "N/A"}}
    for key, path in _ECS.items():
        value = log.get(key)
        if value is not None and value not in _ABSENT:
            fields[path] = value
    if tag:
        fields["juniper.srx.tag"] = tag
    return fields


def _stated(text: str | None) -> str | None:
    return None if text is None or text in _ABSENT else text


def _number(text: str | None) -> int | None:
    if text is None or not text.isdigit() or not text.isascii() or len(text) > 18:
        return None
    return int(text)
