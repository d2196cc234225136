r"""Cisco IOS, IOS XE, IOS XR and NX-OS syslog: `%SEC-6-IPACCESSLOGP: list 101 denied tcp ...`, with any of their headers.

Access lists, logons, commands, VPN, port security and flows have patterns by mnemonic; of the other messages the address
and the user are taken where the text says so. `event.code` is the mnemonic, as Elastic's Cisco IOS integration has it.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from connectors.clock import DAY_S, MONTHS, YEAR_S
from connectors.envelope import ZONES_H, peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS, is_address, whole_number

NAME = "cisco_ios"

HEADER_CHARS_MAX = 600  # the tag stands behind priority, relay's header, sequence numbers, host and time
MAC_DIGITS = 12
ADDRESSES_MAX = 65_536  # remembered verdicts on whether a text is an address

# A mnemonic of six digits is a message of ASA, PIX or FTD.
_TAG = re.compile(
    r"%([A-Z][A-Za-z0-9_]{0,39}(?:-[A-Za-z][A-Za-z0-9_]{0,39}){0,3})-([0-7])-(?!\d{6}\b)([A-Z0-9][A-Za-z0-9_]{0,63}) ?:"
)
# The usual header, by one pattern, perhaps behind a relay's: `<189>4711: host: 000471: *Nov 24 2026 09:12:40.118 CET: %SYS-5-CONFIG_I:`.
_USUAL = re.compile(
    r"(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ([\w.-]{1,255}) )?(\d{1,12})?(?:: )?(?:((?!\d{1,12}: )[\w.-]{1,255}): )?(?:(\d{1,12}): )?[*.]?"
    r"([A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d)(\.\d{1,9})?(?: ([A-Z]{3,5}))?: " + _TAG.pattern
)
_YEAR_FIRST = re.compile(  # NX-OS: `2026 Nov 24 09:00:00.123 CET: `, a name with a blank behind it is the host
    r"(\d{4}) ([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d)(\.\d{1,9})?(?: ([A-Z]{1,5})(?=:))?(?:[: ]+([\w.-]{1,255}))?"
)
_ROUTER_FIRST = re.compile(  # IOS XR: `RP/0/RSP0/CPU0:Nov 24 09:00:00.123 CET: sshd[1]: `
    r"(?:(?P<host>[\w.-]{1,255}) )?(?P<node>[A-Z]{2,3}/\d+/\w+/CPU\d+): ?(?P<time>[A-Z0-9*.][^%]{10,40}?): (?P<app>[\w.-]{1,64})\[(?P<pid>\d{1,10})\]"
)
_INNER = re.compile(
    r"[*.]?([A-Z][a-z]{2} {1,2}\d{1,2} (?:\d{4} )?\d\d:\d\d:\d\d(?:\.\d{1,9})?(?: \d{4})?(?: [A-Z]{3,5})?): *$"
)
_APP = re.compile(r" ([A-Za-z][\w.-]{0,63})(?:\[(\d{1,10})\])?: *$")
_NUMBERS = re.compile(r"(?:<\d{1,3}>)?(?:(\d{1,12}))?: (?:(?!\d{1,12}: )[\w.:-]{1,255}: )?(?:(\d{1,12}): )?")
_STATED = re.compile(  # logon messages end with when it was
    r" at (\d\d):(\d\d):(\d\d)(?:\.\d{1,6})? (\S{1,12}) (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d{4})"
)
_LEVELS = ("emergency", "alert", "critical", "error", "warning", "notification", "informational", "debug")


class _Kind(NamedTuple):
    dataset: str
    category: tuple[str, ...]
    types: tuple[str, ...]
    action: str | None = None
    outcome: str | None = None
    service: str | None = None


_NETWORK, _LOGON, _SESSION = ("network",), ("authentication",), ("session",)
_DENIED = _Kind("cisco_ios.firewall", _NETWORK, ("connection", "denied"), "deny")
_ALLOWED = _Kind("cisco_ios.firewall", _NETWORK, ("connection", "allowed"), "allow")
_FLOW = _Kind("cisco_ios.firewall", _NETWORK, ("connection", "info"), "flow")
_OPENED = _Kind("cisco_ios.firewall", _NETWORK, ("connection", "start", "allowed"), "flow-started")
_CLOSED = _Kind("cisco_ios.firewall", _NETWORK, ("connection", "end"), "flow-ended")
_NAT = _Kind("cisco_ios.nat", _NETWORK, ("info",), "address-translation")
_IN = _Kind("cisco_ios.auth", _LOGON, ("start",), "logged-in", "success", "device")
_FAILED = _Kind("cisco_ios.auth", _LOGON, ("start",), "logon-failed", "failure", "device")
_OUT = _Kind("cisco_ios.auth", ("authentication", "session"), ("end",), "logged-out", None, "device")
_BLOCKING = _Kind("cisco_ios.auth", _LOGON, ("info", "denied"), "logons-blocked", None, "device")
_PRIVILEGE = _Kind("cisco_ios.auth", _LOGON, ("info",), "privilege-raised", "success", "device")
_COMMAND = _Kind("cisco_ios.audit", ("configuration", "process"), ("change",), "command-executed", "success")
_CONFIG = _Kind("cisco_ios.audit", ("configuration",), ("change",), "configured", "success")
_PORT_IN = _Kind("cisco_ios.auth", _LOGON, ("start",), "port-authorised", "success", "dot1x")
_PORT_FAILED = _PORT_IN._replace(action="port-refused", outcome="failure")
_PORT_BLOCKED = _Kind("cisco_ios.switch", ("network", "intrusion_detection"), ("denied",), "port-security")
_SPOOF = _Kind("cisco_ios.switch", ("network", "intrusion_detection"), ("info",), "address-conflict")
_LINK = _Kind("cisco_ios.interface", _NETWORK, ("info",), "interface-changed")
_ROUTING = _Kind("cisco_ios.routing", _NETWORK, ("info",), "neighbour-changed")
_VPN = _Kind("cisco_ios.vpn", _NETWORK, ("connection", "info"), "vpn")
_VPN_ERROR = _Kind("cisco_ios.vpn", _NETWORK, ("connection", "error"), "vpn-error", "failure")
_VPN_IN = _Kind("cisco_ios.auth", _LOGON, ("start",), "logged-in", "success", "vpn")
_IDS = _Kind("cisco_ios.ids", ("network", "intrusion_detection"), ("info",), "signature-matched")
_HOST = _Kind("cisco_ios.system", ("host",), ("info",))
_NOTE = _Kind("cisco_ios.log", _NETWORK, ("info",))

# What stands in a message; addresses are checked afterwards.
_PARTS = {
    "A": r"(?P<src>[^\s(),]{2,64})(?:\((?P<sport>\d+)\))?(?: ?\((?P<src_if>[^\s()]*)(?: (?P<mac>[^\s()]*))? ?\))?",
    "B": r"(?P<dst>[^\s(),]{2,64})(?:\((?P<dport>\d+)\))?",
    "N": r"(?:, (?P<packets>\d+) packets?)?",
    "LOGIN": r"\[user: ?(?P<user>[^\]]*)\] \[Source: ?(?P<src>[^\]]*)\] \[localport: ?(?P<dport>\d*)\](?: \[Reason: ?(?P<reason>[^\]]*)\])?",
    "LINE": r"(?: on (?P<line>[\w/]+))?(?: \((?P<src>[^\s()]+)\))?",
    "ENDS": r"(?P<src>[^\s()]+?)[:](?P<sport>\d+)",
}  # fmt: skip
_ENDS = r"\(?(?P<src>[0-9A-Fa-f.:]+):(?P<sport>\d+)\)?(?: sent (?P<sent>\d+) bytes)?.{0,8}?(?:responder | )\(?(?P<dst>[0-9A-Fa-f.:]+):(?P<dport>\d+)\)?(?: sent (?P<received>\d+) bytes)?"
_CLIENT = r"[^(]{0,80}\((?P<mac>[^)]*)\)(?: with reason \((?P<reason>[^)]*)\))? on Interface (?P<src_if>\S+)(?: AuditSessionID (?P<session>[\w-]+))?(?:.{0,200}?Username: ?(?P<user>\S+))?"
_VIA = r"(?:.{0,80}?: )?"  # the process that wrote it: `R0/0: nginx: `
_TABLE: tuple[tuple[str, _Kind, str], ...] = (
    ("IPACCESSLOGP IPACCESSLOGDP IPACCESSLOGNP IPACCESSLOGRP IPACCESSLOGSP ACCESSLOGP ACCESSLOGDP ACCESSLOGNP ACCESSLOGRP ACCESSLOGSP",
     _DENIED, r"(?:access-)?list (?P<list>\S+) (?P<verdict>\w+) (?P<proto>[\w-]+) {A} -> {B}(?: \((?P<icmp_type>\d+)(?:/(?P<icmp_code>\d+))?\))?{N}"),
    ("IPACCESSLOGS ACCESSLOGS", _DENIED, r"list (?P<list>\S+) (?P<verdict>\w+) (?P<src>\S+?),? (?P<packets>\d+) packets?"),
    ("ACLLOG_FLOW_INTERVAL ACLLOG_NEW_FLOW ACLLOG_THRESHOLD ACLLOG_MAXFLOW_REACHED", _FLOW,
     r"(?:.{0,120}?, ?)?Src IP: (?P<src>[^\s,]+), Dst IP: (?P<dst>[^\s,]+), Src Port: (?P<sport>\d+), Dst Port: (?P<dport>\d+), Src Intf: (?P<src_if>[^\s,]+), Protocol: \"?(?P<proto>[^\s,\"(]+)\"?(?:\(\d+\))?(?:, (?:ACL Name|ACL): (?P<list>[^\s,]+))?(?:.{0,80}?[Aa]ction: (?P<verdict>\w+))?(?:.{0,200}?Hit-count = (?P<packets>\d+))?"),
    ("SESS_AUDIT_TRAIL_START", _OPENED, r"(?:.{0,200}?:)?Start (?P<proto>[\w-]+) session: initiator " + _ENDS),
    ("SESS_AUDIT_TRAIL", _CLOSED, r"(?:.{0,200}?:)?Stop (?P<proto>[\w-]+) session: initiator " + _ENDS),
    ("DROP_PKT", _DENIED, r"Dropping (?P<proto>[\w-]+) (?:session|pkt|packet)(?: from (?P<src_if>\S+))? " + _ENDS + r"(?:.{0,120}?due to (?P<reason>.{1,120}?) with ip ident)?"),
    ("LOG_SUMMARY", _DENIED, r"(?P<packets>\d+) packets were (?P<verdict>\w+) from {ENDS} => (?P<dst>[^\s()]+?):(?P<dport>\d+)"),
    ("LOG_TRANSLATION", _NAT, r"(?P<deed>Created|Destroyed|Deleted) Translation (?P<proto>\w+) {ENDS} (?P<src_nat>[^\s:]+):(?P<src_nat_port>\d+) (?P<dst>[^\s:]+):(?P<dport>\d+)"),
    ("CREATED DELETED", _NAT, r"(?P<proto>\w+) {ENDS} (?P<src_nat>[^\s:]+):(?P<src_nat_port>\d+) (?P<dst>[^\s:]+):(?P<dport>\d+)"),
    ("LOGIN_SUCCESS", _IN, r"Login Success {LOGIN}"),
    ("LOGIN_FAILED", _FAILED, r"Login failed {LOGIN}"),
    ("QUIET_MODE_ON", _BLOCKING, r".{0,80}? {LOGIN}"),
    ("LOGIN_PASSED LOGIN_SUCCESS", _IN._replace(service="web"), _VIA + r"Login Successful from (?:host )?(?P<src>\S+) by user '(?P<user>[^']*)'"),
    ("LOGIN_FAILED", _FAILED._replace(service="web"), _VIA + r"Login Un-?[Ss]uccessful from (?:host )?(?P<src>\S+) by user '(?P<user>[^']*)'"),
    ("SESS_TIMEOUT SESS_LOGOUT", _OUT._replace(service="web"), _VIA + r"Session (?:timeout|logout|\S+) from host (?P<src>\S+) by user '(?P<user>[^']*)'"),
    ("AUTH_PASSED", _IN._replace(service="netconf"), _VIA + r"User '(?P<user>[^']*)' authenticated successfully from (?P<src>[^\s]+?):(?P<sport>\d+) "),
    ("AUTHENTICATION_FAILED AUTH_FAILED", _FAILED._replace(service="netconf"), _VIA + r".{0,80}?[Aa]uthentication fail\w+ (?:from|for) (?P<src>[^\s]+?):(?P<sport>\d+) for user:? '?(?P<user>[^\s']*)"),
    ("SSH2_USERAUTH SSH_USERAUTH", _IN._replace(service="ssh"), r"User '(?P<user>[^']*)' authentication for SSH2? Session from (?P<src>\S+) \(tty = (?P<line>\d+)\) using crypto cipher '(?P<cipher>[^']*)'(?:, hmac '[^']*')? (?P<verdict>\w+)"),
    ("SSH2_SESSION SSH_SESSION", _Kind("cisco_ios.ssh", ("network", "session"), ("connection", "start"), "session-requested", None, "ssh"), r"SSH2? Session request from (?P<src>\S+) \(tty = (?P<line>\d+)\) using crypto cipher '(?P<cipher>[^']*)'(?:, hmac '[^']*')? (?P<verdict>\w+)"),
    ("SSH2_CLOSE SSH_CLOSE", _OUT._replace(service="ssh"), r"SSH2? Session from (?P<src>\S+) \(tty = (?P<line>\d+)\) for user '(?P<user>[^']*)'"),
    ("LOGOUT", _OUT, r"User (?P<user>.{0,128}?) has exited tty session (?P<line>\d+) ?\((?P<src>[^)]*)\)"),
    ("TTY_EXPIRE_TIMER", _OUT, r"\(exec timer expired, tty (?P<line>\d+) \((?P<src>[^)]*)\)\), user (?P<user>\S+)"),
    ("PRIV_AUTH_PASS PRIV_I", _PRIVILEGE, r"Privilege level (?:set|changed)[^0-9]{0,20}(?P<level>\d+) by (?P<user>[^\s(]+){LINE}"),
    ("PRIV_AUTH_FAIL", _PRIVILEGE._replace(outcome="failure", types=("info", "denied")), r"Authentication to Privilege level (?P<level>\d+) failed by (?P<user>[^\s(]+){LINE}"),
    ("CONFIG_I", _CONFIG, _VIA + r"Configured from (?P<way>\S+) by (?P<user>[^\s,(]+){LINE}"),
    ("CONFIG_P", _CONFIG, _VIA + r"Configured programmatically by process \S+ from (?P<way>\S+) as (?P<user>[^\s,(]+){LINE}"),
    ("VSHD_SYSLOG_CONFIG_I", _CONFIG, r"Configured from (?P<way>\S+) by (?P<user>\S+) on (?P<src>[^\s@]+)(?:@(?P<line>\S+))?"),
    ("DB_COMMIT", _CONFIG, r"Configuration committed by user '(?P<user>[^']*)'"),
    ("CFGLOG_LOGGEDCMD", _COMMAND, r"User: ?(?P<user>\S*) +logged command: ?(?P<command>.*)"),
    ("AAA_ACCOUNTING_MESSAGE", _COMMAND, r"(?P<deed>\w+):(?P<src>[^\s@:]+)(?:@(?P<line>[^:\s]+))?:(?P<user>[^:\s]*):(?P<command>.*?)(?: ?\((?P<verdict>SUCCESS|FAILURE)\))?$"),
    ("CMD", _COMMAND, r".{0,40}?[Uu]ser:? ?(?P<user>\S+).{0,40}?[Cc]ommand:? ?(?P<command>.*)"),
    ("RELOAD", _HOST._replace(action="reload"), r"Reload requested(?: by (?P<user>[^\s(.]+)){LINE}"),
    ("AUTHFAIL", _FAILED._replace(service="snmp"), r"Authentication failure for SNMP req(?:uest)? from host (?P<src>\S+)"),
    ("AUTHEN_SUCCESS", _IN, r"Successfully authenticated user '(?P<user>[^']*)' from '(?P<src>[^']*)' on '(?P<line>[^']*)'"),
    ("AUTHEN_FAILED", _FAILED, r"Failed authentication attempt by user '(?P<user>[^']*)' from '(?P<src>[^']*)' on '(?P<line>[^']*)'"),
    ("SYSTEM_MSG INFO_GENERAL INFO_SUCCESS INFO_FAILURE", _FAILED._replace(service="ssh"), r"(?:.{0,40}?: ?)?(?:Failed (?P<method>\S+) for|Authentication (?:failed|failure) (?:for|from)) (?:invalid |illegal )?(?:user )?(?P<user>\S+) from (?P<src>\S+)(?: port (?P<sport>\d+))?"),
    ("SYSTEM_MSG INFO_GENERAL INFO_SUCCESS", _IN._replace(service="ssh"), r"(?:.{0,40}?: ?)?Accepted (?P<method>\S+) for (?P<user>\S+) from (?P<src>\S+)(?: port (?P<sport>\d+))?"),
    ("SUCCESS", _PORT_IN, _VIA + r"Auth\w+ succe" + _CLIENT),
    ("FAIL", _PORT_FAILED, _VIA + r"Auth\w+ fail" + _CLIENT),
    ("RESULT", _PORT_IN, _VIA + r"Authentication result '(?P<verdict>[^']*)' from '(?P<method>[^']*)' for client" + _CLIENT),
    ("LOGIN_AUTH_PASSED", _VPN_IN, r".{0,120}?remote_ip: ?(?P<src>\S+) user_name: ?(?P<user>[^\s,]+)"),
    ("LOGIN_AUTH_REJECTED", _VPN_IN._replace(action="logon-failed", outcome="failure"), r".{0,120}?remote_ip: ?(?P<src>\S+) user_name: ?(?P<user>[^\s,]+)"),
    ("SESSION_STATUS", _VPN, r"Crypto tunnel is (?P<state>\w+) *\. *Peer (?P<src>[^\s:]+|\S+?):(?P<sport>\d+)(?: .{0,20}?Id: (?P<id>\S+))?"),
    ("VPN_TUNNEL_STATUS", _VPN, r".{0,120}?(?:User=(?P<user>\S+).{0,120}?)?Client_public_addr=(?P<src>\S+)"),
    ("RECVD_PKT_INV_SPI RECVD_PKT_NOT_IPSEC RECVD_PKT_MAC_ERR", _VPN_ERROR, r"(?P<reason>[^,]{0,200}?),? *(?:for )?(?:destaddr|dest_addr)= ?(?P<dst>[^\s,]+), prot= ?(?P<proto>\d+), .{0,60}?(?:srcaddr|src_addr)= ?(?P<src>[^\s,]+)"),
    ("IKMP_MODE_FAILURE IKMP_BAD_MESSAGE IKMP_NO_SA IKMP_NOT_ENCRYPTED", _VPN_ERROR, r".{0,120}?(?:peer at|message from|from) (?P<src>[0-9A-Fa-f.:]+)"),
    ("SIGNATURE", _IDS, r"Sig:(?P<signature>\d+) Subsig:(?P<subsignature>\d+) Sev:(?P<rank>\d+) (?P<reason>.{0,200}?) \[(?P<src>[^\s\]]+?):(?P<sport>\d+) -> (?P<dst>[^\s\]]+?):(?P<dport>\d+)\](?:.{0,80}?RiskRating:(?P<risk>\d+))?"),
    ("BADAUTH", _DENIED, r"(?P<reason>(?:No|Invalid) (?:MD5|TCP)[^0-9]{0,40}?) from (?P<src>[^\s(]+)\((?P<sport>\d+)\) to (?P<dst>[^\s(]+)\((?P<dport>\d+)\)"),
    ("RSHPORTATTEMPT RCPPORTATTEMPT RSHPORTATTEMPTS", _FAILED, r".{0,60}? from (?P<src>\S+)"),
    ("PSECURE_VIOLATION PSECURE_VIOLATION_VLAN", _PORT_BLOCKED, r".{0,80}?MAC address (?P<mac>[0-9a-fA-F.:-]+) on port (?P<src_if>\S+?)\.?$"),
    ("MACFLAP_NOTIF", _SPOOF, r"Host (?P<mac>\S+) in vlan (?P<vlan>\d+) is flapping between port (?P<src_if>\S+) and port (?P<dst_if>\S+)"),
    ("DHCP_SNOOPING_DENY ACL_DENY INVALID_ARP", _PORT_BLOCKED, r".{0,80}? on (?P<src_if>[^\s,]+), vlan (?P<vlan>\d+)\.?\(\[(?P<mac>[^/\]]+)/(?P<src>[^/\]]+)/[^/\]]+/(?P<dst>[^/\]]+)"),
    ("DHCP_SNOOPING_UNTRUSTED_PORT DHCP_SNOOPING_MATCH_MAC_FAIL", _PORT_BLOCKED, r"(?P<reason>.{0,120}?), message type: (?P<dhcp>\w+), .{0,20}?MAC sa: (?P<mac>\S+)"),
    ("DUPADDR DUPADDR1 DUP_SRCIP DUPADDR_DETECTED", _SPOOF, r"Duplicate address (?P<src>\S+) on (?P<src_if>[^\s,]+), sourced by (?P<mac>\S+)"),
    ("ERR_DISABLE", _LINK._replace(action="port-disabled"), r"(?P<reason>.{0,60}?) error detected on (?P<src_if>[^\s,]+)"),
    ("UPDOWN CHANGED", _LINK, r"(?:Line protocol on )?Interface (?P<src_if>[^\s,]+), changed state to (?P<state>.*)"),
    ("IF_UP IF_DOWN IF_DOWN_LINK_FAILURE IF_DOWN_ADMIN_DOWN IF_DOWN_NONE IF_ADMIN_UP IF_DUPLEX IF_DOWN_INITIALIZING", _LINK, r"Interface (?P<src_if>\S+)(?:.{0,60}?is (?P<state>.*))?"),
    ("ADJCHG", _ROUTING, r"Process \S+, Nbr (?P<src>\S+) on (?P<src_if>\S+) from (?P<state_old>\S+) to (?P<state>[^\s,]+)(?:, (?P<reason>.*))?"),
    ("ADJCHANGE", _ROUTING, r"neighbor (?P<src>\S+) (?:.{0,40}? )?(?P<state>Up|Down)(?: (?P<reason>.*))?"),
    ("NBRCHANGE", _ROUTING, r".{0,60}?[Nn]eighbor (?P<src>\S+) \((?P<src_if>[^)]*)\) is (?P<state>\w+)(?:: (?P<reason>.*))?"),
    ("LOGGINGHOST_STARTSTOP LOGGINGHOST_FAIL", _HOST._replace(action="logging-changed"), r"Logging to host (?P<dst>\S+)(?: port (?P<dport>\d+))? (?P<state>\w+)"),
)  # fmt: skip
_VERDICTS = {"permitted": _ALLOWED, "permit": _ALLOWED, "denied": _DENIED, "deny": _DENIED, "dropped": _DENIED}
_LOST = {"failed", "fail", "failure", "timeout"}
_FACILITIES = {  # of messages without a pattern
    "LINK": _LINK, "LINEPROTO": _LINK, "ETHPORT": _LINK, "ETH_PORT_CHANNEL": _LINK, "OSPF": _ROUTING, "BGP": _ROUTING,
    "DUAL": _ROUTING, "HSRP": _ROUTING, "SYS": _HOST, "CRYPTO": _VPN, "IKEV2": _VPN, "SSLVPN": _VPN,
    "PORT_SECURITY": _PORT_BLOCKED, "SSH": _NOTE, "PARSER": _CONFIG,
}  # fmt: skip
_NAMED = {  # name in the pattern -> ECS path or Cisco's own name
    "list": "rule.name",
    "src_if": "observer.ingress.interface.name",
    "dst_if": "observer.egress.interface.name",
    "src_nat": "source.nat.ip",
    "vlan": "network.vlan.id",
    "icmp_type": "cisco.ios.icmp_type",
    "icmp_code": "cisco.ios.icmp_code",
    "reason": "event.reason",
    "line": "cisco.ios.line",
    "level": "cisco.ios.privilege",
    "way": "cisco.ios.configured_from",
    "session": "cisco.ios.audit_session_id",
    "state": "cisco.ios.state",
    "state_old": "cisco.ios.state_before",
    "cipher": "tls.cipher",
    "signature": "rule.id",
    "method": "cisco.ios.method",
    "deed": "cisco.ios.operation",
    "dhcp": "cisco.ios.dhcp_message",
}
_SERVICES = {"22": "ssh", "23": "telnet", "80": "web", "443": "web"}
_NO_USER = frozenset({"", "unknown", "N/A", "-", "console"})


def _fill(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{([A-Z]{1,8})\}", lambda match: _PARTS[match[1]], template))


_MESSAGES: dict[str, list[tuple[re.Pattern[str], _Kind]]] = {}
for _codes, _kind, _template in _TABLE:
    _pattern = _fill(_template)
    for _code in _codes.split():
        _MESSAGES.setdefault(_code, []).append((_pattern, _kind))

_ANY_SOURCE = re.compile(r"(?:\b[Ff]rom|\b[Ss]ource|\b[Pp]eer|\bhost|\b[Nn]eighbor|\bclient)(?: host| address| IP)?[ :=]{1,3}'?(?P<src>[0-9A-Fa-f.:]{3,45})")  # fmt: skip
_ANY_USER = re.compile(r"\b[Uu]ser(?:name)?(?:: ?| ?= ?| ')(?P<user>[^\s,'\])>]{1,128})")


def sniff(text: str) -> bool:
    at = text.find("%", 0, HEADER_CHARS_MAX)
    return at >= 0 and text[0] not in "{[" and _tag(text, at) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    usual = _USUAL.match(text)
    timestamp: float | None
    if usual is not None and (timestamp := _moment(usual, origin)) is not None:
        relayed, first, host, second, _, _, _, facility, severity, code = usual.groups()
        body = text[usual.end() :].strip()
        host = host or relayed
        number = second or first
        app = pid = None
    else:
        at = text.find("%", 0, HEADER_CHARS_MAX)
        tag = _tag(text, at) if at >= 0 else None
        if tag is None:
            raise ParseError("no Cisco IOS or NX-OS message: it has no %FACILITY-n-MNEMONIC tag")
        facility, severity, code = tag.groups()
        body = text[tag.end() :].strip()
        timestamp, host, app, pid = _header(text, tag.start(), origin)
        numbers = _NUMBERS.match(text)
        number = None if numbers is None else numbers[2] or numbers[1]
        if timestamp is None:
            timestamp = _stated(body, origin)
    if code == "PLATFORM" and (inner := _TAG.search(body, 0, HEADER_CHARS_MAX)) is not None:
        facility, severity, code = inner.groups()  # IOS XE passes on what its forwarding plane says
        body = body[inner.end() :].strip()
    kind, found = _match(facility, code, body)
    get = found.get
    source, destination = get("src"), get("dst")
    user = get("user")
    proto = get("proto")
    service = kind.service
    if service == "device":
        service = _SERVICES.get(get("dport") or "", service)
    return (
        Event(
            origin.received if timestamp is None else timestamp,
            NAME,
            kind.dataset,
            kind.category,
            kind.types,
            kind.action,
            kind.outcome,
            code,
            body,
            host,
            None if user is None or user in _NO_USER else user,
            None,
            source if source is not None and is_address(source) else None,
            whole_number(get("sport")),
            whole_number(get("sent")),
            destination if destination is not None and is_address(destination) else None,
            whole_number(get("dport")),
            whole_number(get("received")),
            None if proto is None else _transport(proto),
            app,
            pid,
            None,
            get("command"),
            service_name=service,
            fields=Lazy(_fields, found, facility, severity, host, number),
        ),
    )


def _fields(
    found: dict[str, Any], facility: str, severity: str, host: str | None, number: str | None
) -> dict[str, Any]:
    level = int(severity)
    fields: dict[str, Any] = {
        "event.severity": level,
        "log.level": _LEVELS[level],
        "cisco.ios.facility": facility,
        "observer.vendor": "Cisco",
        "observer.product": "IOS",
    }
    if host is not None:
        fields["observer.name"] = host
    if number is not None:
        fields["event.sequence"] = int(number)
    for key, value in found.items():
        if value and key in _NAMED:
            fields[_NAMED[key]] = value
    for key, path in (("src", "source.domain"), ("dst", "destination.domain")):
        if (name := found.get(key)) and name != "0" and not is_address(name):
            fields[path] = name
    if (mac := found.get("mac")) is not None and len(mac) >= MAC_DIGITS:
        fields["source.mac"] = _mac(mac)
    if (packets := whole_number(found.get("packets"))) is not None:
        fields["network.packets"] = packets
    return fields


def _moment(usual: re.Match[str], origin: Origin) -> float | None:
    """The time of the usual header; its text is remembered without the fraction."""
    stamp, fraction, zone = usual.group(5, 6, 7)
    clock = origin.clock
    text = stamp if zone is None else f"{stamp} {zone}"
    at = clock.stamps.get(text)
    if at is None or not (clock.year is not None or origin.received - YEAR_S < at <= origin.received + DAY_S):
        at = peel(f"*{text}: %A", origin).timestamp
        if at is None:
            return None
        clock.remember(text, at)
    return at if fraction is None else at + float(fraction)


def _tag(text: str, at: int) -> re.Match[str] | None:
    """The tag, from the first percent sign on: NX-OS may put `%$ VDC-1 %$` before it."""
    return _TAG.match(text, at) or (_TAG.search(text, at, at + 80) if text.startswith(("%$", "% "), at) else None)


def _header(text: str, end: int, origin: Origin) -> tuple[float | None, str | None, str | None, int | None]:
    """Time, host, process and its id that stand before the tag."""
    envelope = peel(text, origin)
    timestamp, host, app, pid = envelope.timestamp, envelope.host, envelope.app, envelope.pid
    if host is not None and not host.strip("0123456789:"):  # an uptime such as 00:00:46
        host = None
    if envelope.message[:1] == "%" and envelope.message[1:2] != "$":
        return timestamp, host, app, pid
    head = text[:end]
    router = _ROUTER_FIRST.search(head)
    if router is not None:
        inner = peel(f"{router['time']}: %", origin).timestamp
        return inner or timestamp, router["host"] or host, router["app"], int(router["pid"])
    dated = _YEAR_FIRST.search(head)
    if dated is not None:
        year, month, day, hour, minute, second, fraction, zone, name = dated.groups()
        stated = _local(year, month, day, hour, minute, second, zone, origin)
        if stated is not None:
            return stated + float(fraction or 0), name or host, app, pid
    stamped = _INNER.search(head, max(0, end - 60))
    if stamped is not None:
        return peel(f"{stamped[1]}: %", origin).timestamp or timestamp, host, app, pid
    named = _APP.search(head, max(0, end - 80))
    if named is not None and timestamp is not None:
        return timestamp, host, named[1], int(named[2]) if named[2] else None
    return timestamp, host, app, pid


def _stated(body: str, origin: Origin) -> float | None:
    """When the message says it was, for devices that put their uptime in front."""
    said = _STATED.search(body, max(0, len(body) - 80))
    if said is None:
        return None
    hour, minute, second, zone, month, day, year = said.groups()
    return _local(year, month, day, hour, minute, second, zone, origin)


def _local(
    year: str, month: str, day: str, hour: str, minute: str, second: str, zone: str | None, origin: Origin
) -> float | None:
    number = MONTHS.get(month.lower())
    if number is None or not 1970 <= int(year) < 2200:
        return None
    try:
        offset_h = None if zone is None else ZONES_H.get(zone)
        if offset_h is None:
            return origin.clock.local(int(year), number, int(day), int(hour), int(minute), int(second))
        at = datetime(int(year), number, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC)
    except ValueError:
        return None
    return at.timestamp() - offset_h * 3600.0


def _match(facility: str, code: str, body: str) -> tuple[_Kind, dict[str, Any]]:
    for pattern, kind in _MESSAGES.get(code, ()):
        match = pattern.match(body)
        if match is not None:
            found = match.groupdict()
            verdict = (found.get("verdict") or "").lower()
            if not verdict:
                return kind, found
            if kind.category is _LOGON:
                return (_refused(kind) if verdict in _LOST else kind), found
            if kind is _COMMAND and verdict in _LOST:
                return kind._replace(outcome="failure"), found
            return _VERDICTS.get(verdict, kind), found
    found = {}
    for any_pattern in (_ANY_SOURCE, _ANY_USER):
        if (match := any_pattern.search(body)) is not None:
            found |= match.groupdict()
    return _FACILITIES.get(facility.partition("-")[0], _NOTE), found


def _refused(kind: _Kind) -> _Kind:
    return kind._replace(action="port-refused" if kind.service == "dot1x" else "logon-failed", outcome="failure")


def _mac(text: str) -> str:
    """`0011.2233.4455` as ECS writes it."""
    digits = re.sub(r"[^0-9A-Fa-f]", "", text).upper()
    return "-".join(digits[at : at + 2] for at in range(0, 12, 2)) if len(digits) == 12 else text


@lru_cache(maxsize=256)
def _transport(proto: str) -> str:
    low = proto.lower()
    return TRANSPORTS.get(low, low)
