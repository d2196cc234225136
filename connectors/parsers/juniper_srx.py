"""Juniper SRX and Junos: `RT_FLOW`, `RT_IDP`, `RT_UTM`, `RT_IDS`, `RT_AAMW`, `RT_SECINTEL`, firewall filters, logons and other system logs.

With structured data or as plain text. The device's own keys stay in `fields` (`policy-name`); the mapping is Elastic's.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS, whole_number

NAME = "juniper_srx"
REMEMBERED_MAX = 4096  # names of messages remembered with what they mean
ADDRESS_CHARS_MAX = 60  # of an address and its port in front of an arrow
HEAD_CHARS_MAX = 600  # within which the name of a message stands

_ADDRESS = r"(\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:.]{2,45}?)"
_TAG = re.compile(r"\b(RT_[A-Z]{3,10}|[A-Z][A-Z0-9]{1,15}(?:_[A-Z0-9]{1,24}){1,8}):? ")
_PAIR = re.compile(r'([A-Za-z][\w.-]{0,63}+)=["“”]([^"“”\\]*+(?:\\.[^"“”\\]*+)*+)["“”]', re.DOTALL)
_ESCAPE = re.compile(r'\\([\\\]"])')
# Plain text: who with whom, told in three ways, and what stands around it.
_ARROW = re.compile(rf"(?<![\w.:]){_ADDRESS}[/(](\d{{1,5}})\)? ?-> ?{_ADDRESS}[/(](\d{{1,5}})")
_FROM_TO = re.compile(
    rf"(?:source:|from) {_ADDRESS}(?:[:/](\d{{1,5}}))?,? (?:destination:|to) {_ADDRESS}(?:[:/](\d{{1,5}}))?(?=[,;\s]|$)"
)
_ENDS = re.compile(r"\b[Ll]ocal:? ([0-9A-Fa-f.:]{2,45})/\d{1,5}, [Rr]emote:? ([0-9A-Fa-f.:]{2,45})/")
_SESSION = re.compile(
    r"session (?:created|closed|denied)(?: ([\w .()-]{1,80}?):?)? ([0-9A-Fa-f.:]{2,45})/(\d{1,5})->([0-9A-Fa-f.:]{2,45})/(\d{1,5})"
)
_POLICY = re.compile(r" (\d{1,3})(?:\(\d{1,5}\))? (\S{1,128}) (\S{1,64}) (\S{1,64})(?: (\d{1,12})(?= |$))?")
_VOLUME = re.compile(r" (\d{1,12})\((\d{1,18})\) (\d{1,12})\((\d{1,18})\) ")
_WHO = re.compile(r" (?!\d{1,18}\()([^\s()]{1,128})\([^()]{0,128}\) ")
_PROTOCOL = re.compile(r"\bfor (\w{1,16}) protocol\b")
_ACTION = re.compile(r"\baction: ?([\w-]{1,40})")
_LOOSE = re.compile(r'(?<![\w-])([A-Za-z][\w-]{0,40}+)=(?:"([^"]*+)"|([^\s,"]*+))')
_PACKET = re.compile(
    r"\bFW: (\S{1,40}) {1,8}([A-Z]) {1,8}(?:[0-9a-f]{1,4} \S{11,17} -> \S{11,17} {1,8})?(\w{1,16}) ([0-9A-Fa-f.:]{2,45})"
    r" {1,8}([0-9A-Fa-f.:]{2,45}) {1,8}(\d{1,5}) {1,8}(\d{1,5})(?: {1,8}\((\d{1,12}) packets\))?"
)
_ENDS_KEYS = ("source-address", "source-port", "destination-address", "destination-port")
_PACKET_KEYS = (
    "packet-incoming-interface", "action", "protocol-id", "source-address", "destination-address", "source-port",
    "destination-port", "packets-from-client",
)  # fmt: skip
_POLICY_KEYS = ("protocol-id", "policy-name", "source-zone-name", "destination-zone-name", "session-id-32")
_VOLUME_KEYS = ("packets-from-client", "bytes-from-client", "packets-from-server", "bytes-from-server")
_USER = re.compile(r"(?i)\b(?:username|user|for)(?: (?:invalid user|user))? '?([^\s',)]{1,128})'?")
_FROM = re.compile(r"(?i)\b(?:from(?: host)?|host|at|ssh-connection) '?([0-9a-f][0-9a-f.:]{2,44})'?")
_COMMAND = re.compile(r"command '([^']{0,4096})")

_ABSENT = frozenset(("", "N/A", "n/a", "None", "UNKNOWN", "-", "0.0.0.0"))  # noqa: S104 -- what the device writes for none
_DAEMONS = {  # that only Junos has
    "alarmd", "appidd", "authd", "bdbrepd", "bfdd", "chassisd", "cosd", "craftd", "dcd", "dfwd", "eventd", "fwauthd", "gkd",
    "gkmd", "httpd-gk", "idpd", "ikemd", "iked", "jdhcpd", "jsrpd", "kmd", "l2ald", "l2cpd", "lacpd", "lfmd",
    "license-check", "mcsnoopd", "mgd", "mib2d", "nsd", "nstraced", "pfed", "pkid", "ppmd", "rmopd", "rpd", "rtlogd",
    "sdk-vmmd", "smid", "srxpfe", "utmd", "wmic", "xntpd",
}  # fmt: skip
_VPN_DAEMONS = {"kmd", "iked", "ikemd"}
_TOLD = (
    "RT_FLOW", "RT_IDP", "RT_IDS", "RT_UTM", "RT_AAMW", "RT_SECINTEL", "RT_SCREEN", "APPTRACK_SESSION", "PFE_FW_SYSLOG",
)  # fmt: skip
_FLOWS = ("RT_", "APPTRACK", "IDP_", "AV_", "WEBFILTER", "CONTENT_", "ANTISPAM", "SRX_", "AAMW", "SECINTEL")

_Kind = tuple[str, tuple[str, ...], tuple[str, ...], str | None]
_NETWORK = ("network",)
_DENIED = ("info", "denied", "connection")
_MALWARE = ("network", "malware")
_INTRUSION = ("network", "intrusion_detection")
_KINDS: tuple[tuple[str, _Kind], ...] = (  # beginning of the message's name -> dataset, category, type, action
    ("RT_FLOW_SESSION_CREATE", ("firewall", _NETWORK, ("start", "allowed", "connection"), "flow_started")),
    ("RT_FLOW_SESSION_CLOSE", ("firewall", _NETWORK, ("end", "allowed", "connection"), "flow_close")),
    ("RT_FLOW_SESSION_DENY", ("firewall", _NETWORK, ("denied", "connection"), "flow_deny")),
    ("APPTRACK_SESSION_CREATE", ("firewall", _NETWORK, ("start", "allowed", "connection"), "flow_started")),
    ("APPTRACK_SESSION_CLOSE", ("firewall", _NETWORK, ("end", "allowed", "connection"), "flow_close")),
    ("APPTRACK_SESSION_DENY", ("firewall", _NETWORK, ("denied", "connection"), "flow_deny")),
    ("APPTRACK_SESSION_", ("firewall", _NETWORK, ("info", "allowed", "connection"), "flow_update")),
    ("RT_SCREEN", ("threat", _INTRUSION, _DENIED, "attack_detected")),
    ("IDP_ATTACK", ("threat", _INTRUSION, _DENIED, "security_threat")),
    ("IDP_APPDDOS", ("threat", _INTRUSION, _DENIED, "application_ddos")),
    ("IDP_", ("threat", _INTRUSION, ("info",), None)),
    ("AV_VIRUS_DETECTED", ("threat", _MALWARE, _DENIED, "virus_detected")),
    ("AV_", ("threat", _MALWARE, ("info",), None)),
    ("WEBFILTER_URL_BLOCKED", ("web", _MALWARE, _DENIED, "web_filter")),
    ("WEBFILTER_URL_", ("web", _NETWORK, ("allowed", "connection"), None)),
    ("CONTENT_FILTERING_BLOCKED", ("threat", _MALWARE, _DENIED, "content_filter")),
    ("ANTISPAM_SPAM_DETECTED", ("threat", _MALWARE, _DENIED, "antispam_filter")),
    ("SRX_AAMW_ACTION", ("threat", _MALWARE, _DENIED, "malware_detected")),
    ("AAMW_ACTION", ("threat", _MALWARE, _DENIED, "malware_detected")),
    ("AAMW_MALWARE_EVENT", ("threat", _MALWARE, _DENIED, "malware_detected")),
    ("AAMW_HOST_INFECTED", ("threat", _MALWARE, ("allowed", "connection"), None)),
    ("SECINTEL_ACTION", ("threat", _MALWARE, _DENIED, "malware_detected")),
    ("UI_CFG_AUDIT", ("config", ("configuration",), ("change",), None)),
    ("UI_COMMIT", ("config", ("configuration",), ("change",), None)),
    ("UI_CMDLINE_READ_LINE", ("audit", ("process",), ("start",), "command")),
    ("KMD_", ("vpn", _NETWORK, ("info",), None)),
    ("IKE_", ("vpn", _NETWORK, ("info",), None)),
)
_PERMITTED: _Kind = ("firewall", _NETWORK, ("allowed", "connection"), None)
_SYSTEM: _Kind = ("system", _NETWORK, ("info",), None)
_PASSING = {
    "permit",
    "none",
    "no action",
    "no_action",
    "log",
    "ignore",
    "alarm-without-drop",
}  # actions that stop nothing
_LOGONS = {  # name of the message -> stage, outcome, service
    "UI_AUTH_EVENT": ("info", "success", "ssh"),  # UI_LOGIN_EVENT follows
    "UI_LOGIN_EVENT": ("start", "success", "ssh"),
    "UI_LOGOUT_EVENT": ("end", "success", "ssh"),
    "UI_LOGIN_FAILED": ("start", "failure", "ssh"),
    "UI_AUTH_INVALID_CHALLENGE": ("start", "failure", "ssh"),
    "LOGIN_FAILED": ("start", "failure", "ssh"),
    "LOGIN_FAILED_LIMIT": ("start", "failure", "ssh"),
    "LOGIN_INFORMATION": ("start", "success", "ssh"),
    "LOGIN_ROOT": ("start", "success", "ssh"),
    "LOGIN_REFUSED": ("start", "failure", "ssh"),
    "LOGIN_PAM_AUTHENTICATION_ERROR": ("start", "failure", "ssh"),
    "LOGIN_PAM_USER_UNKNOWN": ("start", "failure", "ssh"),
    "SSHD_LOGIN_FAILED": ("start", "failure", "ssh"),
    "SSHD_LOGIN_FAILED_LIMIT": ("start", "failure", "ssh"),
    "SSHD_LOGIN_ATTEMPTS_THRESHOLD": ("start", "failure", "ssh"),
    "WEB_AUTH_SUCCESS": ("start", "success", "web"),
    "WEB_AUTH_FAIL": ("start", "failure", "web"),
    "FWAUTH_FTP_USER_AUTH_FAIL": ("start", "failure", "ftp"),
    "FWAUTH_FTP_USER_AUTH_OK": ("start", "success", "ftp"),
    "FWAUTH_FTP_USER_AUTH_ACCEPTED": ("start", "success", "ftp"),
    "FWAUTH_HTTP_USER_AUTH_FAIL": ("start", "failure", "web"),
    "FWAUTH_HTTP_USER_AUTH_OK": ("start", "success", "web"),
    "FWAUTH_HTTP_USER_AUTH_ACCEPTED": ("start", "success", "web"),
    "FWAUTH_TELNET_USER_AUTH_FAIL": ("start", "failure", "telnet"),
    "FWAUTH_TELNET_USER_AUTH_OK": ("start", "success", "telnet"),
    "FWAUTH_TELNET_USER_AUTH_ACCEPTED": ("start", "success", "telnet"),
    "FWAUTH_WEBAUTH_SUCCESS": ("start", "success", "web"),
    "FWAUTH_WEBAUTH_FAIL": ("start", "failure", "web"),
    "DYNAMIC_VPN_AUTH_OK": ("start", "success", "vpn"),
    "DYNAMIC_VPN_AUTH_FAIL": ("start", "failure", "vpn"),
}
_ECS = {
    "policy-name": "rule.name",
    "rulebase-name": "rule.name",
    "rule-name": "rule.id",
    "source-zone-name": "observer.ingress.zone",
    "source-zone": "observer.ingress.zone",
    "destination-zone-name": "observer.egress.zone",
    "destination-zone": "observer.egress.zone",
    "interface-name": "observer.ingress.interface.name",
    "source-interface-name": "observer.ingress.interface.name",
    "packet-incoming-interface": "observer.ingress.interface.name",
    "destination-interface-name": "observer.egress.interface.name",
    "nat-source-address": "source.nat.ip",
    "nat-destination-address": "destination.nat.ip",
    "session-id-32": "network.session_id",
    "application": "network.application",
    "nested-application": "network.application",
    "reason": "event.reason",
    "url": "url.domain",
    "http-host": "url.domain",
    "threat-severity": "log.level",
    "attack-name": "threat.indicator.name",
    "sample-sha256": "file.hash.sha256",
}
_COUNTS = {
    "nat-source-port": "source.nat.port",
    "nat-destination-port": "destination.nat.port",
    "packets-from-client": "source.packets",
    "packets-from-server": "destination.packets",
}


def sniff(text: str) -> bool:
    if "[junos@" in text:
        return True
    head = text[:HEAD_CHARS_MAX]
    if head[:1] == "{":
        return False
    words = head.split(" ", 6)
    if len(words) > 5 and (words[3] in _DAEMONS or words[4].partition("[")[0].rstrip(":") in _DAEMONS):
        return True
    if any(told in head for told in _TOLD):
        return True
    if "FW: " in head:
        return _PACKET.search(head) is not None
    return ("UI_" in head or "SSHD_LOGIN" in head) and _tag(head) in _LOGONS


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = text.find("[junos@")
    head = text[:begin].split() if begin >= 0 else ()
    if len(head) >= 5 and (at := _instant(head[-5], origin)) is not None:  # the usual line
        log, message = _structured(text, begin)
        host, app, pid, tag = head[-4:]
        return (_event(log, message, tag, at, _stated(host), _stated(app), whole_number(pid)),)
    envelope = peel(text, origin)
    message = envelope.message
    named = _TAG.match(message)
    if envelope.structured and envelope.msgid:
        tag = envelope.msgid
    else:
        tag = named[1] if named is not None and named[1].count("_") > 1 else _tag(text)
    if not (tag or envelope.recognised or begin >= 0):
        raise ParseError("no Junos log: neither [junos@, the name of a message nor a daemon's line")
    if begin >= 0:
        log, message = _structured(text, begin)
    else:
        log = _plain(message)
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    program = envelope.app or (head[-3] if len(head) > 3 else None)
    return (_event(log, message, tag, at, envelope.host, program, envelope.pid),)


def _instant(stated: str, origin: Origin) -> float | None:
    if "T" not in stated:
        return None
    try:
        return from_iso(stated, origin.clock)
    except ValueError:
        return None


def _structured(text: str, begin: int) -> tuple[dict[str, str], str]:
    """The pairs of `[junos@2636.1.1.1.2.129 key="value" ...]` and the text behind them."""
    first, end = text.find(" ", begin) + 1, text.find('"]', begin)
    if end < 0:  # some releases put a blank in front of the bracket
        end = text.find('" ]', begin)
    if 0 < first < end and "\\" not in text and (text.isascii() or "”" not in text):
        try:
            return dict([pair.split('="', 1) for pair in text[first:end].split('" ')]), text[end + 2 :].strip(" ]")
        except ValueError:
            pass  # not quite as the standard has it
    pairs = {key: _ESCAPE.sub(r"\1", value) for key, value in _PAIR.findall(text, begin)}
    return pairs, text[end + 2 :].strip(" ]") if end > 0 else ""


def _event(
    log: dict[str, str], message: str, tag: str, at: float, host: str | None, app: str | None, pid: int | None
) -> Event:
    get = log.get
    dataset, category, types, action = _kind(tag, get("action", "").lower())
    if app in _VPN_DAEMONS:
        dataset = "vpn"
    if dataset == "system" and "packet-incoming-interface" in log:
        dataset, types = "firewall", ("allowed" if get("action") == "A" else "denied", "connection")
    outcome = "success" if tag.startswith(_FLOWS) else "failure" if tag == "SNMPD_AUTH_FAILURE" else None
    user: str | None = get("username") or get("user") or get("user-name")
    source = get("source-address") or get("client-ip") or get("local-address") or get("source-ip") or get("sourceip")
    service = None
    command = get("command")
    logon = _LOGONS.get(tag)
    if logon is None and app == "sshd" and message.startswith(("Failed ", "Accepted ")):
        logon = ("start", "failure" if message[0] == "F" else "success", "ssh")
    if logon is not None:
        stage, outcome, service = logon
        category, dataset, action = ("authentication",), "auth", tag.lower() or "ssh_login"
        types = (stage, "denied") if outcome == "failure" else (stage,)
        source = source or get("client-address")
        if user is None and (found := _USER.search(message)) is not None:
            user = found[1]
        if source is None and (found := _FROM.search(message)) is not None:
            source = found[1]
    elif tag == "UI_CMDLINE_READ_LINE" and user is None:
        user = found[1] if (found := _USER.search(message)) is not None else None
        command = found[1] if (found := _COMMAND.search(message)) is not None else None
    proto = get("protocol-id") or get("protocol")
    return Event(
        at,
        NAME,
        f"juniper_srx.{dataset}",
        category,
        types,
        action,
        outcome,
        None,
        get("message") or message or None,
        host,
        None if user in _ABSENT else user,
        None,
        None if source in _ABSENT else source,
        whole_number(get("source-port")),
        whole_number(get("bytes-from-client") or get("outbound-bytes")),
        _stated(get("destination-address") or get("remote-address") or get("destination-ip")),
        whole_number(get("destination-port")),
        whole_number(get("bytes-from-server") or get("inbound-bytes")),
        None if not proto else TRANSPORTS.get(proto) or (proto.lower() if proto not in _ABSENT else None),
        tag or None if app is None else app,
        pid,
        None,
        command,
        None,
        _stated(get("filename") or get("file-name")),
        _stated(get("obj")),
        service_name=service,
        fields=Lazy(_fields, log, tag, host),
    )


def _tag(text: str) -> str:
    """The name of the message: RT_FLOW_SESSION_CREATE. `RT_FLOW` alone is the program that says it."""
    if text.find("_", 0, HEAD_CHARS_MAX) < 0:
        return ""
    for match in _TAG.finditer(text, 0, HEAD_CHARS_MAX):
        if match[1].count("_") > 1 or not match[1].startswith("RT_"):
            return match[1]
    return ""


@lru_cache(maxsize=REMEMBERED_MAX)
def _kind(tag: str, action: str) -> _Kind:
    for start, kind in _KINDS:
        if tag.startswith(start):
            if action in _PASSING and kind[0] == "threat":
                return "threat", kind[1], ("allowed", "connection"), kind[3]
            if kind[2] == ("info",) and "DROP" in tag:
                return kind[0], kind[1], _DENIED, kind[3]
            return kind
    return _PERMITTED if tag.startswith(_FLOWS) else _SYSTEM


def _plain(message: str) -> dict[str, str]:
    """The same keys from the plain text: `session created 10.1.1.1/51234->203.0.113.1/443 ...`."""
    packet = _PACKET.search(message) if "FW: " in message else None
    if packet is not None:
        return _named(_PACKET_KEYS, packet)
    session = _SESSION.match(message, max(message.find("session "), 0))
    if session is not None:
        return _session(message, session)
    log = {key.lower(): quoted or bare for key, quoted, bare in _LOOSE.findall(message)} if "=" in message else {}
    arrow = message.find("->")
    match = _ARROW.search(message, max(arrow - ADDRESS_CHARS_MAX, 0)) if arrow >= 0 else None
    if match is None and ("from " in message or "source:" in message):
        match = _FROM_TO.search(message)
    if match is None:
        ends = _ENDS.search(message) if "ocal" in message else None
        return log if ends is None else log | {"source-address": ends[1], "destination-address": ends[2]}
    log |= _named(_ENDS_KEYS, match)
    if " protocol" in message and (protocol := _PROTOCOL.search(message)) is not None:
        log["protocol-id"] = protocol[1].lower()
    if "action:" in message and (action := _ACTION.search(message)) is not None:
        log["action"] = action[1]
    return log


def _session(message: str, session: re.Match[str]) -> dict[str, str]:
    """A flow's text: the two ends, and behind them the protocol, the policy, the zones, the volume and the user."""
    log = _named(("reason", *_ENDS_KEYS), session)
    policy = _POLICY.search(message, max(message.rfind("->"), session.end()))
    if policy is None:
        return log
    log |= _named(_POLICY_KEYS, policy)
    volume = _VOLUME.search(message, policy.end())
    if volume is not None:
        log |= _named(_VOLUME_KEYS, volume)
    who = _WHO.search(message, policy.end() if volume is None else volume.end() - 1)
    if who is not None:
        log["username"] = who[1]
    return log


def _named(keys: tuple[str, ...], match: re.Match[str]) -> dict[str, str]:
    return {key: value for key, value in zip(keys, match.groups(), strict=True) if value is not None}


def _fields(log: dict[str, str], tag: str, host: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {key: value for key, value in log.items() if value not in {"", "N/A"}}
    for key, path in _ECS.items():
        value = log.get(key)
        if value is not None and value not in _ABSENT:
            fields[path] = value
    for key, path in _COUNTS.items():
        if (count := whole_number(log.get(key))) is not None:
            fields[path] = count
    if (duration := whole_number(log.get("elapsed-time"))) is not None:
        fields["event.duration"] = duration * 1_000_000_000
    if log.get("url", "") not in _ABSENT:
        fields["url.original"] = log["url"] + log.get("obj", "")
    if tag:
        fields["juniper.srx.tag"] = tag
    if host is not None:
        fields["observer.name"] = host
    return fields


def _stated(text: str | None) -> str | None:
    return None if text is None or text in _ABSENT else text
