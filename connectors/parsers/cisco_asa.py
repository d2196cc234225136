r"""Cisco ASA, PIX and Firewall Services Module syslog: `%ASA-6-302013: Built inbound TCP connection ...`.

Each message number that matters has its own pattern; of the others the addresses and the user are taken where the text
says `from A/p to B/p`, `IP = A` or `Username = u`. Fields are mapped as Elastic's Cisco ASA integration does.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from connectors import prose
from connectors.envelope import ZONES_H, Envelope, peel
from connectors.events import Event, Origin, ParseError
from connectors.values import TRANSPORTS, is_address, whole_number

NAME = "cisco_asa"
UNTAGGED_CHARS_MAX = 128  # of a line whose number a relay took away

TAG = re.compile(r"%(ASA|PIX|FTD|FDT|NGIPS|FWSM)-(?:[A-Za-z]{1,16}-)?(\d)-(\d{6}):? {0,2}")
FIREPOWER = frozenset({"FTD", "FDT", "NGIPS"})  # `cisco_ftd` reads these
LEVELS = ("emergency", "alert", "critical", "error", "warning", "notification", "informational", "debug")

# What stands in a message. An address may be a name (`name` command); users follow in brackets with identity firewalls.
_PARTS = {
    "SRC": r"(?P<src_if>[^\s:]+|NP Identity Ifc):(?P<src>[^\s/(),]+)(?:/(?P<sport>[\w-]+))?",
    "DST": r"(?P<dst_if>[^\s:]+|NP Identity Ifc):(?P<dst>[^\s/(),]+)(?:/(?P<dport>[\w-]+))?",
    "SRC_BARE": r"(?P<src>[^\s/(),]+)(?:/(?P<sport>[\w-]+))?",
    "DST_BARE": r"(?P<dst>[^\s/(),;]+)(?:/(?P<dport>[\w-]+))?",
    "SRC_ACL": r"(?P<src_if>[^\s/]+)/(?P<src>[^\s(]+)\((?P<sport>\w+)\)",
    "DST_ACL": r"(?P<dst_if>[^\s/]+)/(?P<dst>[^\s(]+)\((?P<dport>\w+)\)",
    "SRC_NAT": r"(?: ?\((?P<src_nat>[0-9A-Fa-f.:]+)(?:[/(](?P<src_nat_port>\d+))?\))?",
    "DST_NAT": r"(?: ?\((?P<dst_nat>[0-9A-Fa-f.:]+)(?:[/(](?P<dst_nat_port>\d+))?\))?",
    "SRC_USER": r"(?: ?\((?!type )(?P<src_user>[^()]*)\))?",
    "DST_USER": r"(?: ?\((?!type )(?P<dst_user>[^()]*)\))?",
    "USER": r"(?: ?\((?P<user>[^()]*)\))?",
    "WHO": r"(?:TunnelGroup <[^>]*> )?(?:Group(?:Policy)? (?:<(?P<group>[^>]*)>|(?P<group_bare>\S+)),? )?"
    r"User (?:<(?P<user>[^>]*)>|'(?P<user_quoted>[^']*)'|(?P<user_bare>\S+)),? IP (?:<(?P<src>[^>]*)>|(?P<src_bare>\S+))",
    "ON": r"(?: +on +interface (?P<src_if>\S+))?",
}


class _Kind(NamedTuple):
    """How the messages of some numbers are categorised."""

    action: str
    category: tuple[str, ...]
    types: tuple[str, ...]
    outcome: str | None
    dataset: str
    service: str | None = None


_NETWORK, _LOGON = ("network",), ("authentication",)
_DENY = _Kind("firewall-rule", _NETWORK, ("connection", "denied"), "success", "firewall")
_ALLOW = _Kind("firewall-rule", _NETWORK, ("connection", "allowed"), "success", "firewall")
_NOTE = _Kind("firewall-rule", _NETWORK, ("info",), None, "firewall")
_BUILT = _Kind("flow-creation", _NETWORK, ("connection", "start", "allowed"), "success", "firewall")
_TORN = _Kind("flow-expiration", _NETWORK, ("connection", "end"), None, "firewall")
_NAT = _Kind("network-address-translation", _NETWORK, ("info",), None, "firewall")
_FILTER = _Kind("botnet-traffic", ("network", "intrusion_detection"), ("info",), "success", "ids")
_IDS = _Kind("intrusion-detected", ("network", "intrusion_detection"), ("info",), None, "ids")
_THREAT = _Kind("threat-detected", ("network", "intrusion_detection"), ("info",), None, "ids")
_LOGGED_IN = _Kind("logged-in", _LOGON, ("start", "allowed"), "success", "auth", "vpn")
_LOGIN_FAILED = _Kind("logon-failed", _LOGON, ("start", "denied"), "failure", "auth", "vpn")
_ADMIN_IN = _LOGGED_IN._replace(service="firewall")
_ADMIN_FAILED = _LOGIN_FAILED._replace(service="firewall")
_ADMIN_OUT = _Kind("logged-out", _LOGON, ("end",), "success", "auth", "firewall")
_ACCOUNTED = _Kind("accounting", _LOGON, ("info",), "success", "auth", "vpn")
_ACCOUNT = _Kind("user-changed", ("iam",), ("user", "change"), "success", "auth")
_COMMAND = _Kind("command-executed", ("configuration",), ("change",), "success", "auth")
_SHOWN = _COMMAND._replace(types=("access",))
_VPN = _Kind("vpn", _NETWORK, ("info",), None, "vpn")
_VPN_IN = _Kind("client-vpn-connected", ("authentication", "session"), ("start",), "success", "vpn", "vpn")
_VPN_OUT = _Kind("client-vpn-disconnected", ("network", "session"), ("connection", "end"), None, "vpn", "vpn")
_VPN_ERROR = _Kind("client-vpn-error", _NETWORK, ("connection", "error", "denied"), "failure", "vpn", "vpn")
_VPN_ADDRESS = _Kind("client-vpn-address-assigned", _NETWORK, ("info",), None, "vpn", "vpn")
_SA_UP = _Kind("created", _NETWORK, ("connection", "start"), "success", "vpn")
_SA_DOWN = _Kind("deleted", _NETWORK, ("connection", "end"), "success", "vpn")
_IKE_START = _Kind("connection-started", _NETWORK, ("connection", "start"), None, "vpn")
_IKE_ERROR = _Kind("error", _NETWORK, ("error",), "failure", "vpn")
_SYSTEM = _Kind("system", ("host",), ("info",), None, "system")

_ICMP = r"(?:\(type (?P<icmp_type>\d+), code (?P<icmp_code>\d+)\))?"
_TABLE: tuple[tuple[str, _Kind, str], ...] = (
    ("106001", _DENY, r"(?P<dir>Inbound) (?P<proto>TCP) connection denied from {SRC_BARE} to {DST_BARE} flags (?P<flags>(?:(?! ?on interface) ?\S++)*+) *+(?:on interface (?P<src_if>\S+))?"),
    ("106002", _DENY, r"(?P<proto>\S+) Connection denied by (?P<dir>outbound) list (?P<list>\S+) src {SRC_BARE} dest {DST_BARE}"),
    ("106006", _DENY, r"Deny (?P<dir>\w+) (?P<proto>UDP) from {SRC_BARE} to {DST_BARE}{ON}"),
    ("106007", _DENY, r"Deny (?P<dir>\w+) (?P<proto>UDP) from {SRC_BARE} to {DST_BARE} due to (?P<reason>.*)"),
    ("106010", _DENY, r"Deny (?P<dir>\w+) (?:protocol )?(?P<proto>\S+) src {SRC} dst {DST}"),
    ("106011", _DENY, r"Deny (?P<dir>\w+) \(No xlate\) (?P<proto>\S+) src {SRC} dst {DST}"),
    ("106012", _DENY, r"Deny IP from {SRC_BARE} to {DST_BARE}, IP options: (?P<reason>.*)"),
    ("106013", _DENY, r"Dropping echo request from {SRC_BARE} to PAT address {DST_BARE}"),
    ("106014", _DENY, r"Deny (?P<dir>\w+) (?P<proto>icmp) src {SRC}{SRC_USER} dst {DST}{DST_USER} ?" + _ICMP),
    ("106015", _DENY, r"Deny (?P<proto>TCP) \(no connection\) from {SRC_BARE} to {DST_BARE} flags (?P<flags>(?:(?! ?on interface) ?\S++)*+) *+(?:on interface (?P<src_if>\S+))?"),
    ("106016", _DENY, r"Deny IP spoof from \((?P<src>[^\s()]+)\) to {DST_BARE}{ON}"),
    ("106017", _DENY, r"Deny IP due to Land Attack from {SRC_BARE} to {DST_BARE}"),
    ("106018", _DENY, r"(?P<proto>ICMP) packet type (?P<icmp_type>\S+) denied by (?P<dir>outbound) list (?P<list>\S+) src {SRC_BARE} dest {DST_BARE}"),
    ("106020", _DENY, r"Deny IP teardrop fragment \([^)]*\) from {SRC_BARE} to {DST_BARE}"),
    ("106021 106022", _DENY, r"Deny (?:protocol )?(?P<proto>\S+) (?P<reason>reverse path check|connection spoof) from {SRC_BARE} to {DST_BARE}{ON}"),
    ("106023", _DENY, r"Deny (?:protocol )?(?P<proto>\S+) src {SRC}{SRC_USER} dst {DST}{DST_USER} ?" + _ICMP + r" ?(?:by access-group \"?(?P<list>[^\"\s]+)\"?)?"),
    ("106100 106102 106103", _ALLOW, r"access-list (?P<list>\S+) (?P<verdict>\S+) (?:protocol )?(?P<proto>\S+) (?:for user '?(?P<user>[^\s']+)'? )?{SRC_ACL}{SRC_USER} -> {DST_ACL}{DST_USER}(?: hit-cnt (?P<hits>\d+))?"),
    ("108003", _DENY, r"Terminating ESMTP/SMTP connection; (?P<reason>malicious pattern detected in the mail address) from {SRC} to {DST}"),
    ("109001", _NOTE, r"Auth start for user '(?P<user>[^']*)' from {SRC_BARE} to {DST_BARE}"),
    ("109005", _LOGGED_IN, r"Authentication succeeded for user '(?P<user>[^']*)' from {SRC_BARE} to {DST_BARE}{ON}"),
    ("109006", _LOGIN_FAILED, r"Authentication failed for user '(?P<user>[^']*)' from {SRC_BARE} to {DST_BARE}{ON}"),
    ("109007", _ALLOW, r"Authorization permitted for user '(?P<user>[^']*)' from {SRC_BARE} to {DST_BARE}{ON}"),
    ("109008", _DENY, r"Authorization denied for user '(?P<user>[^']*)' from {SRC_BARE} to {DST_BARE}{ON}"),
    ("110002 110003", _DENY._replace(outcome="failure"), r"(?:Failed to locate egress interface|Routing failed to locate next.hop) for (?P<proto>\S+) from {SRC} to (?:(?P<dst_if>[^\s:]+):)?(?P<dst>[^\s/]+)(?:/(?P<dport>\d+))?"),
    ("111004", _SYSTEM, r"(?P<src>\S+) end configuration: (?P<verdict>OK|FAILED)"),
    ("111008", _COMMAND, r"User '(?P<user>[^']*)' executed the '(?P<command>.*)' command"),
    ("111009", _SHOWN, r"User '(?P<user>[^']*)' executed cmd: (?P<command>.*)"),
    ("111010", _COMMAND, r"User '(?P<user>[^']*)', running '(?P<application>[^']*)' from IP (?P<src>[^\s,]+), executed '(?P<command>.*)'"),
    ("113004", _LOGGED_IN, r"AAA user (?P<aaa>\w+) Successful *: server *= *(?P<dst>[^\s,:]+) *[:,] *[Uu]ser *= *(?P<user>.*)"),
    ("113005", _LOGIN_FAILED, r"AAA user (?P<aaa>\w+) Rejected *: reason *= *(?P<reason>.{0,200}?) *: *server *= *(?P<dst>[^\s,:]+) *[:,] *[Uu]ser *= *(?P<user>[^\s:]*|\*+)(?: *: *user IP *= *(?P<src>\S+))?"),
    ("113006 113007", _ACCOUNT, r"User '?(?P<user>[^'\s]*)'? (?P<reason>.*)"),
    ("113008", _LOGGED_IN, r"AAA transaction status ACCEPT *: user *= *(?P<user>.*)"),
    ("113009 113011", _ACCOUNTED, r"AAA retrieved (?:default|user specific) group policy *\((?P<group>[^)]*)\) for user *= *(?P<user>.*)"),
    ("113012", _LOGGED_IN, r"AAA user (?P<aaa>\w+) Successful *: local database *: user *= *(?P<user>.*)"),
    ("113013", _LOGIN_FAILED, r"AAA unable to complete the request Error *: reason *= *(?P<reason>.{0,200}?) *: *user *= *(?P<user>.*)"),
    ("113014", _LOGIN_FAILED, r"AAA authentication server not accessible *: server *= *(?P<dst>[^\s,:]+) *: *user *= *(?P<user>.*)"),
    ("113015 113016 113017", _LOGIN_FAILED, r"AAA (?:user (?P<aaa>\w+)|credentials) [Rr]ejected *: reason *= *(?P<reason>.{0,200}?) *: *(?:local database|server *= *(?P<dst>[^\s,:]+)) *: *user *= *(?P<user>[^\s:]*)(?: *: *user IP *= *(?P<src>\S+))?"),
    ("113019", _VPN_OUT, r"Group *= *(?P<group>[^,]*), Username *= *(?P<user>[^,]*), IP *= *(?P<src>[^,]*), Session disconnected\. Session Type: (?P<session>[^,]*), Duration: (?P<duration>[^,]*), Bytes xmt: (?P<sent>\d+), Bytes rcv: (?P<received>\d+)(?:, Reason: (?P<reason>.*))?"),
    ("113021", _ADMIN_FAILED, r"Attempted (?P<session>\S+) login failed\. User '?(?P<user>[^\s']+)'? (?P<reason>.*)"),
    ("113037", _VPN_ERROR, r"(?P<reason>Reboot pending, new sessions disabled\. Denied user login\.)"),
    ("113040", _VPN_ERROR, r"Terminating the VPN connection attempt from (?P<group>\S+)\. Reason: (?P<reason>.*)"),
    ("113039", _VPN_IN, r"{WHO} (?P<reason>.*)"),
    ("113029 113030 113031 113032 113033 113034 113035 113036 113038", _VPN_ERROR, r"{WHO} (?P<reason>.*)"),
    ("209003 209004 209005", _DENY, r"(?P<reason>.*?): +src *= *(?P<src>[^\s,]+), dest *= *(?P<dst>[^\s,]+), proto *= *(?P<proto>[^\s,]+)"),
    ("302003 302009", _NOTE, r"(?P<reason>.*)"),
    ("302010", _NOTE, r"(?P<connections>\d+) in use, (?P<connections_most>\d+) most used"),
    ("302013 302015 302017 302303", _BUILT, r"Built(?: (?P<dir>inbound|outbound))?(?: \S+)? (?P<proto>\S+)(?: state-bypass)? connection (?P<connection>\d+) (?:for|from) {SRC}{SRC_NAT}{SRC_USER} to {DST}{DST_NAT}{DST_USER}{USER}"),
    ("302014 302016 302018 302304", _TORN, r"Teardown (?P<proto>\S+)(?: state-bypass)? connection (?P<connection>\d+) (?:for|from) {SRC}{SRC_USER} to {DST}{DST_USER} duration (?P<duration>\S+)(?: bytes (?P<bytes>\d+))?(?: (?P<reason>[^()]*[^()\s]))?{USER}"),
    ("302016", _TORN, r"Teardown (?P<proto>\S+) connection (?P<connection>\d+) for {SRC} (?P<src_user>\S+) to {DST} (?P<dst_user>\S+) duration (?P<duration>\S+)(?: bytes (?P<bytes>\d+))?"),
    ("302020", _BUILT, r"Built (?P<dir>inbound|outbound) (?P<proto>ICMP\S*) connection for faddr (?P<dst>[^\s/(]+)(?:/\d+)?{DST_USER} gaddr (?P<nat>[^\s/(]+)(?:/\d+)? laddr (?P<src>[^\s/(]+)(?:/\d+)?{SRC_USER}(?: type (?P<icmp_type>\d+) code (?P<icmp_code>\d+))?"),
    ("302021", _TORN, r"Teardown (?P<proto>ICMP\S*) connection for faddr (?P<dst>[^\s/(]+)(?:/\d+)?{DST_USER} gaddr (?P<nat>[^\s/(]+)(?:/\d+)? laddr (?P<src>[^\s/(]+)(?:/\d+)?{SRC_USER}(?: type (?P<icmp_type>\d+) code (?P<icmp_code>\d+))?"),
    ("302022 302024 302026", _BUILT, r"Built (?:(?P<role>director|backup|forwarder) +)?stub (?P<proto>\S+) connection for {SRC}{SRC_NAT} to {DST}{DST_NAT}"),
    ("302023 302025 302027", _TORN, r"Teardown (?:(?P<role>director|backup|forwarder) +)?stub (?P<proto>\S+) connection for {SRC} to {DST} duration (?P<duration>\S+) forwarded bytes (?P<bytes>\d+)(?: (?P<reason>.*))?"),
    ("303002 303003", _NOTE, r"(?:FTP connection from )?{SRC} to {DST},? user:? *(?P<user>\S+) (?P<file_action>Stored|Retrieved)(?: file)? (?P<file>.+)"),
    ("303002 303003", _NOTE, r"(?P<src>\S+) (?P<file_action>Stored|Retrieved) (?P<dst>[^\s:]+): ?(?P<file>.+)"),
    ("304001", _ALLOW, r"(?:(?P<user>[^\s@]+)@)?(?P<src>[^\s@/(]+)(?:/\d+)?{SRC_USER} Accessed (?:JAVA )?URL (?:[^\s@:/]+@)?(?P<dst>[^\s:]+):(?P<url>\S+)"),
    ("304002", _DENY, r"Access denied URL (?P<url>\S+) SRC (?P<src>[^\s/(]+)(?:/\d+)?{SRC_USER} DEST (?P<dst>[^\s/]+)(?:/\d+)?{ON}"),
    ("305005", _DENY, r"No translation group found for (?:protocol )?(?P<proto>\S+) src {SRC}{SRC_USER} dst {DST}{DST_USER}"),
    ("305006", _DENY, r"(?P<reason>.{0,60}?) translation creation failed for (?:protocol )?(?P<proto>\S+) src {SRC}{SRC_USER} dst {DST}{DST_USER}"),
    ("305009 305010 305011 305012", _NAT, r"(?P<file_action>Built|Teardown) (?:static|dynamic|portmap) (?:(?P<proto>\S+) )?translation from {SRC}{SRC_USER} to {DST}{DST_USER}(?: duration (?P<duration>\S+))?"),
    ("305013", _DENY, r"Asymmetric NAT rules matched for forward and reverse flows; Connection (?:for )?(?:protocol )?(?P<proto>\S+) src {SRC}{SRC_USER} dst {DST}{DST_USER} ?.*"),
    ("308001", _ADMIN_FAILED, r"(?:.*?)[Cc]onsole enable password incorrect for (?P<tries>\d+) tries \(from (?P<src>[^\s)]+)\)"),
    ("313001", _DENY, r"Denied (?P<proto>ICMP) type=(?P<icmp_type>\d+), code=(?P<icmp_code>\d+) from (?P<src>\S+){ON}"),
    ("313004", _DENY, r"Denied (?P<proto>ICMP) type=(?P<icmp_type>\d+), from (?:laddr )?(?P<src>\S+){ON} to (?P<dst>[^\s:]+): (?P<reason>.*)"),
    ("313005", _DENY._replace(types=("info",), outcome=None), r"No matching connection for (?P<proto>ICMP) error message: (?P<inner>\S+) src {SRC}{SRC_USER} dst {DST}{DST_USER} ?" + _ICMP + r"(?: on (?P<on>\S+) interface)?\.? *(?:Original IP payload: (?P<payload>\S+ src [^\s/]+(?:/(?P<payload_sport>\d+))? dst [^\s/]+?(?:/(?P<payload_dport>\d+))?\.?$|.*))?"),
    ("313008", _DENY, r"Denied (?P<proto>\S+) type=(?P<icmp_type>\d+), code=(?P<icmp_code>\d+) from (?P<src>\S+){ON}"),
    ("313009", _DENY, r"Denied invalid (?P<proto>ICMP) code (?P<icmp_code>\d+), for {SRC}(?: \([^)]*\))?{SRC_USER} to {DST}(?: \([^)]*\))?(?:, ICMP id (?P<icmp_id>\d+), ICMP type (?P<icmp_type>\d+))?"),
    ("315011", _ADMIN_OUT, r"SSH session from (?P<src>\S+) on interface (?P<src_if>\S+) for user \"?(?P<user>[^\s\"]*)\"? (?P<reason>.*)"),
    ("322001", _DENY, r"Deny MAC address (?P<mac>[^\s,]+), possible spoof attempt on interface (?P<src_if>\S+)"),
    ("322003", _DENY, r"ARP inspection check failed for arp (?:request|response) received from host (?P<mac>\S+) on interface (?P<src_if>\S+)\..*"),
    ("324000 324001 324002 324003 324004", _DENY, r"(?P<reason>.*?) from {SRC} to {DST}.*"),
    ("338001 338002 338003 338004 338005 338006 338007 338008 338101 338102 338103 338104 338201 338202 338203 338204", _FILTER, r"Dynamic [Ff]ilter (?P<verdict>\S+) (?P<colour>\S+(?: listed)?) (?P<proto>\S+) traffic from {SRC}(?: \([^)]*\))? to {DST}(?: \([^)]*\))?,? *(?:(?P<side>source|destination) (?:malicious address |\S+ )?resolved from (?:local|dynamic) list: (?P<resolved>[^\s,]+))?(?:, *threat-level: (?P<threat>[^\s,]+))?(?:, *category: (?P<threat_kind>.*))?"),
    ("400000", _IDS, r"I[DP]S:(?P<signature>\d+) (?P<reason>.{0,160}?) from {SRC_BARE} to {DST_BARE}{ON}"),
    ("405001", _NOTE, r"Received ARP (?P<reason>.{0,80}?) collision from (?P<src>[^\s/]+)/(?P<mac>\S+){ON}"),
    ("405002", _DENY, r"Received mismatched (?P<reason>.{0,40}?) from (?P<src>[^\s/]+)/(?P<mac>\S+) (?:for|on) .*"),
    ("406001 406002", _DENY, r"FTP port command .{0,40}?: (?P<src>[^\s/]+)/\d+ to (?P<dst>[^\s/]+)(?:/(?P<dport>\d+))?{ON}"),
    ("407001 407002", _DENY, r"(?P<reason>.*)"),
    ("410001", _DENY, r"Dropped (?P<proto>UDP) DNS (?P<dns>request|reply) from {SRC} to {DST}; (?P<reason>.*)"),
    ("410002", _DENY, r"Dropped \d+ DNS responses with mis-matched id in the past \d+ second(?:\(s\))?: from {SRC} to {DST}"),
    ("410003 410004", _DENY, r"(?P<reason>.{0,80}?): .{0,40}?DNS .{0,80}?from {SRC} to {DST}.*"),
    ("411001 411002 411003 411004", _SYSTEM, r"(?:Line protocol on )?[Ii]nterface (?P<src_if>[^\s,]+),? changed state to (?P<reason>.*)"),
    ("415001 415006 415007 415008", _NOTE, r"(?P<reason>.{0,200}?) from {SRC} to {DST}.*"),
    ("418001", _DENY, r"Through-the-device packet to/from management-only network is denied: (?:protocol )?(?P<proto>\S+) (?:src|from) {SRC} (?:dst|to) {DST}.*"),
    ("419001", _DENY, r"Dropping (?P<proto>TCP) packet from {SRC} to {DST}, [Rr]eason: (?P<reason>.*)"),
    ("419002", _NOTE, r"(?P<reason>Duplicate (?P<proto>TCP) SYN) from {SRC} to {DST} with different initial sequence number"),
    ("420002 420003 434002", _DENY._replace(action="drop"), r"(?P<module>IPS|SFR|CSC|CXSC) requested to (?:drop|reset) (?P<proto>\S+) (?:packet|connection) from {SRC} to {DST}"),
    ("434004", _NOTE._replace(action="bypass", types=("info", "change"), outcome="unknown"), r"(?P<module>SFR) requested ASA to bypass further packet redirection and process (?P<proto>\S+) flow from {SRC} to {DST} locally"),
    ("500003", _DENY, r"Bad (?P<proto>TCP) hdr length .{0,60}? from {SRC_BARE} to {DST_BARE}, flags: (?P<flags>(?:(?! ?on interface) ?\S++)*+) *+on interface (?P<src_if>\S+)"),
    ("500004", _DENY, r"Invalid transport field for protocol *= *(?P<proto>[^\s,]+), from {SRC_BARE} to {DST_BARE}"),
    ("502101", _ACCOUNT._replace(action="user-added", types=("user", "creation")), r"New user added to local dbase: Uname: (?P<user>\S+).*"),
    ("502102", _ACCOUNT._replace(action="user-deleted", types=("user", "deletion")), r"User deleted from local dbase: Uname: (?P<user>\S+).*"),
    ("502103", _ACCOUNT, r"User priv level changed: Uname: (?P<user>\S+) From: (?P<privilege_old>\d+) To: (?P<privilege_new>\d+)"),
    ("507001 507003", _NOTE, r"(?:(?P<proto>\S+) flow|Terminating TCP-Proxy connection) from {SRC} to {DST} ?(?:terminated by|-) ?(?P<reason>.*)"),
    ("602303", _SA_UP, r"IPSEC: An (?P<dir>\w+) (?P<session>.{0,60}?) SA \(SPI= ?(?P<spi>[^)]*)\) between (?P<src>\S+) and (?P<dst>\S+) \((?:user= ?)?(?P<user>[^)]*)\) has been created"),
    ("602304", _SA_DOWN, r"IPSEC: An (?P<dir>\w+) (?P<session>.{0,60}?) SA \(SPI= ?(?P<spi>[^)]*)\) between (?P<src>\S+) and (?P<dst>\S+) \((?:user= ?)?(?P<user>[^)]*)\) has been deleted"),
    ("605004", _ADMIN_FAILED, r"Login denied from {SRC_BARE} to (?:(?P<dst_if>[^\s:]+):)?(?P<dst>[^\s/]+)/(?P<dport>\w+) for user \"?(?P<user>[^\"]*)\"?"),
    ("605005", _ADMIN_IN, r"Login permitted from {SRC_BARE} to (?:(?P<dst_if>[^\s:]+):)?(?P<dst>[^\s/]+)/(?P<dport>\w+) for user \"?(?P<user>[^\"]*)\"?"),
    ("607001", _NOTE, r"Pre-allocate SIP (?:(?P<sip>\S+) |Via )?(?P<proto>UDP|TCP) secondary channel for {DST} to (?P<src_if>[^\s:]+):(?P<src>[^\s/]+)(?:/(?P<sport>\d+))? from (?P<reason>.*)"),
    ("608001", _NOTE, r"Pre-allocate Skinny (?P<sip>\S+) secondary channel for {SRC} to (?P<dst_if>[^\s:]+):(?P<dst>[^\s/]+)(?:/(?P<dport>\d+))? from (?P<reason>.*)"),
    ("609001", _BUILT, r"Built local-host (?P<src_if>[^\s:]+):(?P<src>\S+)"),
    ("609002", _TORN, r"Teardown local-host (?P<src_if>[^\s:]+):(?P<src>\S+) duration (?P<duration>\S+)"),
    ("611101", _ADMIN_IN, r"User authentication succeeded: IP(?: address)?: (?P<src>[^\s,]+),? Uname: (?P<user>.*)"),
    ("611102", _ADMIN_FAILED, r"User authentication failed: IP(?: address)?: (?P<src>[^\s,]+),? Uname: (?P<user>.*)"),
    ("611103", _ADMIN_OUT, r"User logged out: Uname: (?P<user>.*)"),
    ("620002", _DENY, r"Unsupported CTIQBE version: (?P<reason>\S+): from {SRC} to {DST}"),
    ("710001 710002", _ALLOW, r"(?P<proto>\S+) access (?P<verdict>requested|permitted) from {SRC_BARE} to {DST}"),
    ("710003", _DENY, r"(?P<proto>\S+) access denied by ACL from {SRC_BARE} to {DST}"),
    ("710004", _DENY, r"(?P<proto>\S+) connection limit exceeded from {SRC_BARE} to {DST}.*"),
    ("710005 710006", _DENY._replace(outcome="failure"), r"(?P<proto>\S+) request discarded from {SRC_BARE} to {DST}"),
    ("716001", _VPN_IN, r"{WHO} (?P<reason>WebVPN session started.*)"),
    ("716002", _VPN_OUT, r"{WHO} WebVPN session terminated: (?P<reason>.*)"),
    ("716038", _LOGGED_IN, r"{WHO} Authentication: successful, Session Type: (?P<session>[^\s.]+).*"),
    ("716039", _LOGIN_FAILED, r"{WHO} Authentication: rejected, Session Type: (?P<session>[^\s.]+).*"),
    ("716038", _LOGGED_IN, r"Authentication: successful, group = (?P<group>[^=]*?) user = (?P<user>[^,]*?) ?, Session Type: (?P<session>\S+)"),
    ("716039", _LOGIN_FAILED, r"Authentication: rejected, group = (?P<group>[^=]*?) user = (?P<user>[^,]*?) ?, Session Type: (?P<session>\S+)"),
    ("722022", _VPN_IN._replace(category=("network", "session"), types=("connection", "start")), r"{WHO} (?P<reason>.*)"),
    ("722023 722012 722037 722030 722031", _VPN_OUT, r"{WHO} (?P<reason>.*)"),
    ("722051", _VPN_ADDRESS, r"{WHO} IPv4 Address <(?P<assigned>[^>]*)>(?: IPv6 address <(?P<assigned_v6>[^>]*)>)? assigned to session"),
    ("722051", _VPN_ADDRESS, r"{WHO} Address <(?P<assigned>[^>]*)> assigned to session"),
    ("733100", _THREAT, r"(?:\[ *)?(?P<object>[^\]]{1,100}?)(?:\])? drop rate[- ](?P<rate>\d+) exceeded\. (?P<reason>.*)"),
    ("733101", _THREAT, r"\[? *(?P<src>[^\s\]]+)\]? (?P<reason>is (?:targeted|attacking).*)"),
    ("733102 733103", _THREAT, r"Threat-detection (?P<reason>adds|removes) host (?P<src>\S+) (?:to|from) shun list"),
    ("734001", _VPN, r"DAP: User (?P<user>[^,]*), Addr (?P<src>[^,]*), Connection (?P<session>[^:]*): (?P<reason>.*)"),
    ("746012 746013", _NOTE, r"user-identity: (?P<reason>Add|Delete) IP-User mapping (?P<src>\S+) - (?P<user>\S+) (?P<verdict>\S+).*"),
    ("750001 750002 751002 751020 751025", _IKE_START, r"Local:(?P<dst>\S+?):(?P<dport>\d+) Remote:(?P<src>\S+?):(?P<sport>\d+) Username:(?P<user>\S+) (?P<reason>.*)"),
    ("750006", _SA_UP, r"Local:(?P<dst>\S+?):(?P<dport>\d+) Remote:(?P<src>\S+?):(?P<sport>\d+) Username:(?P<user>\S+) (?P<reason>.*)"),
    ("750007", _SA_DOWN, r"Local:(?P<dst>\S+?):(?P<dport>\d+) Remote:(?P<src>\S+?):(?P<sport>\d+) Username:(?P<user>\S+) (?P<reason>.*)"),
    ("750003 751001 751006 751011 751022", _IKE_ERROR, r"Local:(?P<dst>\S+?):(?P<dport>\d+) Remote:(?P<src>\S+?):(?P<sport>\d+) Username:(?P<user>\S+) (?P<reason>.*)"),
    ("805001 805002 805003", _NOTE, r"(?:Offloaded )?(?P<proto>\S+) [Ff]low (?:for connection|is no longer offloaded for connection|could not be offloaded for connection) (?P<connection>\d+) from {SRC}{SRC_NAT} to {DST}{DST_NAT}.*"),
)  # fmt: skip
# Families of numbers without a pattern of their own.
_FAMILIES: dict[str, _Kind] = {
    "106": _DENY,
    "109": _NOTE,
    "113": _VPN,
    "302": _NOTE,
    "303": _NOTE,
    "304": _NOTE,
    "305": _NAT,
    "313": _DENY,
    "338": _FILTER,
    "400": _IDS,
    "402": _VPN,
    "602": _VPN,
    "713": _VPN,
    "714": _VPN,
    "715": _VPN,
    "716": _VPN,
    "717": _VPN,
    "722": _VPN,
    "725": _VPN,
    "733": _THREAT,
    "734": _VPN,
    "746": _NOTE,
    "750": _VPN,
    "751": _VPN,
    "752": _VPN,
    "805": _NOTE,
}
_VERDICTS = {"denied": _DENY, "dropped": _DENY, "FAILED": _SYSTEM._replace(outcome="failure")}
_IKE_FAMILY = {"713902": "failure", "713903": "failure", "713904": "failure", "713905": "failure", "713901": "failure"}
_IKE_FAMILY |= {"713049": "success", "713119": "success", "713120": "success"}
_SERVICES = {"ssh": "ssh", "22": "ssh", "telnet": "telnet", "23": "telnet", "https": "web", "443": "web", "http": "web"}
_PORTS = {
    "ssh": 22,
    "telnet": 23,
    "https": 443,
    "http": 80,
    "snmp": 161,
    "domain": 53,
    "www": 80,
    "ftp": 21,
    "smtp": 25,
}
_PORTS |= {"ntp": 123, "syslog": 514, "tftp": 69, "bootps": 67, "bootpc": 68, "isakmp": 500, "netbios-ns": 137}
_NAMED = {  # name in the pattern -> ECS path or Cisco's own name, copied as it is
    "src_if": "observer.ingress.interface.name",
    "dst_if": "observer.egress.interface.name",
    "src_user": "source.user.name",
    "dst_user": "destination.user.name",
    "src_nat": "source.nat.ip",
    "dst_nat": "destination.nat.ip",
    "list": "cisco.asa.rule_name",
    "connection": "cisco.asa.connection_id",
    "flags": "cisco.asa.tcp_flags",
    "icmp_type": "cisco.asa.icmp_type",
    "icmp_code": "cisco.asa.icmp_code",
    "nat": "cisco.asa.mapped_source_ip",
    "reason": "event.reason",
    "group": "cisco.asa.webvpn.group_name",
    "group_bare": "cisco.asa.webvpn.group_name",
    "session": "cisco.asa.session_type",
    "threat": "cisco.asa.threat_level",
    "threat_kind": "cisco.asa.threat_category",
    "resolved": "cisco.asa.threat_list_entry",
    "assigned": "cisco.asa.assigned_ip",
    "signature": "rule.id",
    "object": "cisco.asa.burst.object",
    "mac": "source.mac",
    "privilege_old": "cisco.asa.privilege.old",
    "privilege_new": "cisco.asa.privilege.new",
    "application": "cisco.asa.command_interface",
    "payload": "cisco.asa.original_payload",
    "spi": "cisco.asa.spi",
    "file_action": "cisco.asa.operation",
    "aaa": "cisco.asa.aaa_type",
    "hits": "cisco.asa.hit_count",
    "role": "cisco.asa.cluster_role",
}


def _fill(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{([A-Z_]{2,12})\}", lambda match: _PARTS[match[1]], template))


_MESSAGES: dict[str, list[tuple[re.Pattern[str], _Kind]]] = {}
for _codes, _kind, _template in _TABLE:
    _pattern = _fill(_template)
    for _code in _codes.split():
        _MESSAGES.setdefault(_code, []).append((_pattern, _kind))

_ANY_PATH = re.compile(
    r"\bfrom (?:(?P<src_if>[^\s:/]+):)?(?P<src>[0-9A-Fa-f.:]{3,45})(?:/(?P<sport>\d+))?"
    r" to (?:(?P<dst_if>[^\s:/]+):)?(?P<dst>[0-9A-Fa-f.:]{3,45})(?:/(?P<dport>\d+))?"
)
_ANY_GROUP = re.compile(
    r"(?:Group = (?P<group>[^,]*), )?(?:Username = (?P<user>[^,]*), )?(?:IP = (?P<src>[^\s,]+), )?(?P<reason>.*)",
    re.DOTALL,
)
_ANY_SOURCE = re.compile(
    r"\b(?:IP(?: address)?\s?[=:]?\s?<?|from |[Pp]eer(?: IP)?\s?[=:]? ?|Remote:)(?P<src>\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]*::?[0-9A-Fa-f:]+)\b"
)
_ANY_USER = re.compile(r"\b[Uu]ser(?:name)?(?: = |: | <|= ?| ')(?P<user>[^\s,'>\"]{1,128})")
_ANY_PROTOCOL = re.compile(r"\b(?P<proto>TCP|UDP|ICMP|tcp|udp|icmp)\b")

_NO_USER = {"", "Unknown", "*****"}  # a name that does not exist is hidden with asterisks


def sniff(text: str) -> bool:
    at = text.find("%")
    tag = TAG.search(text, at) if at >= 0 else None
    if tag is None:
        return ": AAA user " in text[:UNTAGGED_CHARS_MAX]
    return tag[1] not in FIREPOWER


def parse(text: str, origin: Origin) -> Sequence[Event]:
    event = usual(text, origin, "%ASA-", NAME)
    return (event,) if event is not None else generally(text, origin)


def usual(text: str, origin: Origin, lead: str, module: str) -> Event | None:
    """The event of a message that one of the short ways reads; None leaves it to the general way."""
    at = text.find(lead)
    if at < 0 or (short := _USUAL.get(text[at + 7 : at + 15])) is None:
        return None
    pattern, read = short
    line = pattern.fullmatch(text, at + 15)
    return None if line is None else read(line.groups(), text, at, origin, module)


def generally(text: str, origin: Origin, module: str = NAME) -> Sequence[Event]:
    at = text.find("%")
    tag = TAG.search(text, at) if at >= 0 else None
    envelope = peeled(text, origin)
    if tag is None:
        return _untagged(envelope)
    product, severity, code = tag.groups()
    body = text[tag.end() :]
    timestamp = origin.received if envelope.timestamp is None else envelope.timestamp
    fields: dict[str, Any] = {
        "event.severity": int(severity),
        "log.level": LEVELS[min(int(severity), 7)],
        "observer.product": product.lower(),
    }
    if envelope.host is not None:
        fields["observer.hostname"] = envelope.host
    kind, found = _match(code, body)
    get = found.get
    source, destination = get("src") or get("src_bare"), get("dst")
    sport, dport = get("sport") or get("payload_sport"), get("dport") or get("payload_dport")
    direction = get("dir")
    if direction is not None:
        direction = direction.lower()
        fields["network.direction"] = direction
        if direction == "outbound" and kind is _BUILT and "nat" not in found:
            # The message names the outer side first, and here the inner one began.
            source, destination, sport, dport = destination, source, dport, sport
            for one, other in (("src_if", "dst_if"), ("src_user", "dst_user"), ("src_nat", "dst_nat")):
                found[one], found[other] = get(other), get(one)
    for key, value in found.items():
        if value is not None and key in _NAMED:
            fields[_NAMED[key]] = value
    if source is not None and not is_address(source):
        fields["source.domain"] = source
        source = None
    if destination is not None and not is_address(destination):
        fields["destination.domain"] = destination
        destination = None
    user = get("user") or get("user_bare") or get("user_quoted") or get("src_user") or get("dst_user")
    if user is not None:
        user = user.partition(",")[0].strip().removeprefix("LOCAL\\")
        if user in _NO_USER:
            user = None
    if (total := get("bytes")) is not None:
        fields["network.bytes"] = whole_number(total)
    if (duration := get("duration")) is not None and (seconds := _seconds(duration)) is not None:
        fields["event.duration"] = seconds * 1_000_000_000
    url = get("url")
    if url is not None:
        fields["url.original"] = url
    proto = get("proto")
    service = kind.service
    if service == "firewall" and dport is not None:
        service = _SERVICES.get(dport.lower(), service)
    return (
        Event(
            timestamp,
            module,
            f"{module}.{kind.dataset}",
            kind.category,
            kind.types,
            kind.action,
            _IKE_FAMILY.get(code, kind.outcome),
            code,
            body,
            envelope.host,
            user,
            None,
            source,
            _port(sport),
            whole_number(get("received")),  # of a VPN client, which is the source here
            destination,
            _port(dport),
            whole_number(get("sent")),
            None if proto is None else transport_of(proto),
            envelope.app,
            envelope.pid,
            None,
            get("command"),
            None,
            get("file"),
            None if url is None else path_of(url),
            service_name=service,
            fields=fields,
        ),
    )


# The short way for the messages that make up most of a firewall's log, with plain addresses and without users: the same
# event as the general way gives (a test compares them).
_END = r"([^\s:]{1,64}):([0-9A-Fa-f.:]{2,45})/(\d{1,5})"  # interface, address, port
_MAPPED = r" \(([0-9A-Fa-f.:]{2,45})/\d{1,5}\)"
_BUILT_LINE = re.compile(
    rf"Built (inbound|outbound) (TCP|UDP) connection (\d{{1,18}}) for {_END}{_MAPPED} to {_END}{_MAPPED}"
)
_TORN_LINE = re.compile(
    rf"Teardown (TCP|UDP) connection (\d{{1,18}}) for {_END} to {_END} duration (\d{{1,6}}:\d\d:\d\d) bytes (\d{{1,18}})"
    r"(?: ([^()\s](?:[^()]*[^()\s])?))?"
)
_DENIED_LINE = re.compile(
    rf"Deny (tcp|udp) src {_END} dst {_END} by access-group \"([^\"\s]+)\"(?: \[0x[0-9a-f]{{1,8}}, 0x[0-9a-f]{{1,8}}\])?"
)
_Groups = tuple[str | Any, ...]


def _usual(
    kind: _Kind, text: str, at: int, source: str, sport: str, destination: str, dport: str, proto: str, origin: Origin,
    module: str, fields: dict[str, Any],
) -> Event | None:  # fmt: skip
    if text.find("%", 0, at) >= 0 or not text[at + 5].isdecimal() or text[at + 6] != "-":
        return None
    if not (is_address(source) and is_address(destination)):
        return None
    envelope = peeled(text, origin)
    host = envelope.host
    severity = int(text[at + 5])
    fields["event.severity"] = severity
    fields["log.level"] = LEVELS[min(severity, 7)]
    fields["observer.product"] = text[at + 1 : at + 4].lower()
    if host is not None:
        fields["observer.hostname"] = host
    return Event(
        origin.received if envelope.timestamp is None else envelope.timestamp,
        module,
        f"{module}.{kind.dataset}",
        kind.category,
        kind.types,
        kind.action,
        event_outcome=kind.outcome,
        event_code=text[at + 7 : at + 13],
        message=text[at + 15 :],
        host_name=host,
        source_ip=source,
        source_port=int(sport),
        destination_ip=destination,
        destination_port=int(dport),
        network_transport=proto,
        process_name=envelope.app,
        process_pid=envelope.pid,
        fields=fields,
    )


def _usual_built(found: _Groups, text: str, at: int, origin: Origin, module: str) -> Event | None:
    direction, proto, number, one_if, one, one_port, one_nat, two_if, two, two_port, two_nat = found
    if direction == "outbound":  # the message names the outer side first, and here the inner one began
        one_if, one, one_port, one_nat, two_if, two, two_port, two_nat = (
            two_if, two, two_port, two_nat, one_if, one, one_port, one_nat,
        )  # fmt: skip
    fields = {
        "network.direction": direction,
        "observer.ingress.interface.name": one_if,
        "observer.egress.interface.name": two_if,
        "source.nat.ip": one_nat,
        "destination.nat.ip": two_nat,
        "cisco.asa.connection_id": number,
    }
    transport = "tcp" if proto == "TCP" else "udp"
    return _usual(_BUILT, text, at, one, one_port, two, two_port, transport, origin, module, fields)


def _usual_torn(found: _Groups, text: str, at: int, origin: Origin, module: str) -> Event | None:
    proto, number, one_if, one, one_port, two_if, two, two_port, duration, total, reason = found
    fields: dict[str, Any] = {
        "observer.ingress.interface.name": one_if,
        "observer.egress.interface.name": two_if,
        "cisco.asa.connection_id": number,
        "network.bytes": int(total),
    }
    if reason is not None:
        fields["event.reason"] = reason
    if (seconds := _seconds(duration)) is not None:
        fields["event.duration"] = seconds * 1_000_000_000
    transport = "tcp" if proto == "TCP" else "udp"
    return _usual(_TORN, text, at, one, one_port, two, two_port, transport, origin, module, fields)


def _usual_denied(found: _Groups, text: str, at: int, origin: Origin, module: str) -> Event | None:
    proto, one_if, one, one_port, two_if, two, two_port, rule = found
    fields = {
        "observer.ingress.interface.name": one_if,
        "observer.egress.interface.name": two_if,
        "cisco.asa.rule_name": rule,
    }
    return _usual(_DENY, text, at, one, one_port, two, two_port, proto, origin, module, fields)


_USUAL: dict[str, tuple[re.Pattern[str], Callable[[_Groups, str, int, Origin, str], Event | None]]] = {
    "302013: ": (_BUILT_LINE, _usual_built),
    "302015: ": (_BUILT_LINE, _usual_built),
    "302014: ": (_TORN_LINE, _usual_torn),
    "302016: ": (_TORN_LINE, _usual_torn),
    "106023: ": (_DENIED_LINE, _usual_denied),
}


def peeled(text: str, origin: Origin) -> Envelope:
    """The envelope; a zone that stands between the time and the tag is no host."""
    envelope = peel(text, origin)
    if envelope.host not in ZONES_H:
        return envelope
    start = text.find(">", 0, 5) + 1
    return peel(f"{text[:start]}*{text[start:]}", origin)  # the asterisk leads to the reading that knows zones


def _match(code: str, body: str) -> tuple[_Kind, dict[str, Any]]:
    for pattern, usual in _MESSAGES.get("400000" if code[:3] == "400" else code, ()):
        match = pattern.match(body)
        if match is not None:
            found = match.groupdict()
            verdict = found.get("verdict")
            if found.get("aaa") == "accounting":
                return _ACCOUNTED, found
            if verdict is None or verdict not in _VERDICTS:
                return usual, found
            return (usual._replace(types=("denied",)) if usual is _FILTER else _VERDICTS[verdict]), found
    kind = _FAMILIES.get(code[:3], _SYSTEM)
    if code[:3] in {"713", "714", "715"}:
        match = _ANY_GROUP.match(body)
        found = {} if match is None else match.groupdict()
    else:
        found = {}
        for pattern in (_ANY_PATH, _ANY_USER, _ANY_PROTOCOL):
            if (match := pattern.search(body)) is not None:
                found |= match.groupdict()
        if "src" not in found and (match := _ANY_SOURCE.search(body)) is not None:
            found["src"] = match["src"]
    return kind, found


def _untagged(envelope: Envelope) -> Sequence[Event]:
    """A line without a message number, of which only the header tells something."""
    if envelope.timestamp is None:
        raise ParseError("no Cisco ASA or PIX message: it has no %ASA-n-nnnnnn tag")
    event = Event(
        timestamp=envelope.timestamp,
        event_module=NAME,
        event_dataset="cisco_asa.system",
        message=envelope.message,
        host_name=envelope.host,
        process_name=envelope.app,
        process_pid=envelope.pid,
    )
    told = prose.as_told(event)
    if told.event_category:
        return (msgspec.structs.replace(told, event_dataset="cisco_asa.auth"),)
    return (msgspec.structs.replace(told, event_category=_SYSTEM.category, event_type=_SYSTEM.types),)


def _port(text: str | None) -> int | None:
    """A port by number, or by the name that the device shows for it."""
    if text is None:
        return None
    return whole_number(text) if text[0].isdigit() else _PORTS.get(text.lower())


@lru_cache(maxsize=256)
def transport_of(proto: str) -> str:
    low = proto.lower()
    return TRANSPORTS.get(low, low)


@lru_cache(maxsize=4096)
def _seconds(duration: str) -> int | None:
    """`1:02:03`, `0h:32m:16s` or `1d 2h`."""
    parts = re.findall(r"(\d{1,9})([dhms]?)", duration)
    if duration.count(":") == 2 and len(parts) == 3:
        return int(parts[0][0]) * 3600 + int(parts[1][0]) * 60 + int(parts[2][0])
    scale = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
    if not parts or any(unit not in scale for _, unit in parts):
        return None
    return sum(int(number) * scale[unit] for number, unit in parts)


def path_of(url: str) -> str | None:
    rest = url.split("?", 1)[0]
    if "://" in rest:
        return "/" + rest.split("://", 1)[1].partition("/")[2]
    return rest if rest.startswith("/") else None
