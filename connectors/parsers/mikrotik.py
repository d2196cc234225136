"""MikroTik RouterOS: what its log sends to syslog, `topic,topic message`, with and without an envelope.

Packets of firewall rules with logging, logons to the router, PPP, L2TP, PPTP, SSTP and OpenVPN sessions, hotspot, DHCP
and the web proxy are taken apart; of all other topics the text, an address and a user are kept as far as stated.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import MONTHS, from_iso
from connectors.envelope import Envelope, peel
from connectors.events import Event, Origin, ParseError
from connectors.values import TRANSPORTS, whole_number

NAME = "mikrotik"

_PROTOCOLS = TRANSPORTS | {"ipsec-esp": "esp", "ipsec-ah": "ah"}

_TOPIC_NAMES = (
    "account|async|backup|bfd|bgp|bridge|caps|certificate|container|critical|ddns|debug|dhcp|disk|dns|dot1x|dude|e-mail|"
    "error|event|fetch|firewall|gps|gsm|hotspot|igmp-proxy|info|interface|iot|ipsec|ipsec-ike|isdn|isis|kidcontrol|l2tp|"
    "ldp|lora|lte|manager|mme|mpls|mqtt|natpmp|netinstall|netwatch|ntp|ospf|ovpn|packet|pim|poe-out|ppp|pppoe|pptp|"
    "radius|radvd|raw|read|rip|route|rsvp|script|sertcp|simulator|smb|snmp|socksify|ssh|sstp|state|stp|store|system|"
    "telephony|tftp|timer|tr069|update|ups|upnp|vpls|vrrp|warning|watchdog|web-proxy|wireguard|wireless|write|zerotier"
)
_TOPICS = re.compile(  # of those that are not known yet, two tell that they are topics
    rf"(?:[A-Za-z0-9 _.-]{{1,40}}: )?((?:{_TOPIC_NAMES})(?:,!?(?:{_TOPIC_NAMES}))*+(?=:? )|[a-z][a-z0-9-]{{1,15}}(?:,!?[a-z][a-z0-9-]{{1,15}}){{1,8}}+):? ++"
)
_OWN_TIME = re.compile(r"(?:([a-z]{3})/(\d\d)(?:/(\d{4}))? |(\d{4}-\d\d-\d\d) )?(\d\d:\d\d:\d\d) ++(?=[a-z])")
_END = r"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Fa-f.]{7,15}|[0-9A-Fa-f:]{2,45}(?=->|,|\)| |$))(?::(\d{1,5}))?"
_PACKET = re.compile(
    r"(?:(.{0,128}?) )?(\S{1,64}): in:(.{1,64}?) out:(.{1,64}?),(?: connection-mark:(\S{1,64}))?"
    r"(?: connection-state:(\S{1,64}))?(?: src-mac ([0-9A-Fa-f:]{17}),?)?(?: dst-mac [0-9A-Fa-f:]{17},?)?(?: eth-proto \S{1,8},?)?"
    rf" proto ([\w-]{{1,16}})(?: \(([^)]{{0,64}})\))?, {_END}->{_END}(?:, NAT (.{{1,160}}?))?, len (\d{{1,6}})"
)
_NAT = re.compile(rf"\({_END}->{_END}\)->|{_END}->\({_END}->{_END}\)")
_WAY = r"(?: via ([\w -]{1,32}))?"
_LOGON = re.compile(r"user (.{0,128}?) logged (in|out)(?: from (\S{2,64}))?" + _WAY)
_LOGON_FAILED = re.compile(r"login failure for user (.{0,128}?)(?: from (\S{2,64}))?(?: via ([\w -]{1,32}))?$")
_SESSION = re.compile(
    r"(?:<[^>]{1,128}>: )?(\S{1,128}) logged (in|out), (\S{1,64})(?: (\d+) (\d+) \d+ \d+)? from (\S{2,64})"
)
_SESSION_FAILED = re.compile(
    r"(?:<([^>]{1,128})>: )?user '?([^'\s]{1,128})'? authentication failed(?: - (.{1,128}))?", re.IGNORECASE
)
_HOTSPOT = re.compile(
    r"(?:->: )?(.{1,128}?) \(([0-9A-Fa-f.:]{7,45})\): (logged in|logged out|login failed|trying to log in)(.{0,200})"
)
_LEASE = re.compile(
    r"(\S{1,64}) (assigned|deassigned|offering lease|leased|released) ([0-9.]{7,15}|[0-9A-Fa-f:]{3,45}(?:/\d{1,3})?) (?:to|for|from) "
    r"([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5})(?: (?!without )(\S{1,255}))?"
)
_PROXY = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}) ([A-Z]{3,8}) (\S{1,4096})(?: +(.{0,200}))?")
_CONNECTED = re.compile(
    r"(?:\w{1,8} )?connection established from (\S{3,64})|(?:terminating|disconnected).{0,64}?(\d{1,3}(?:\.\d{1,3}){3})"
)
_SOMEWHERE = re.compile(r"(?<![\w.:-])(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{1,5})|\[(\d{1,5})\])?(?![\w.-])")
_SNIFF = re.compile(
    rf"(?:^|[ >:])(?:{_TOPIC_NAMES})(?:,!?(?:{_TOPIC_NAMES}))++:? | in:\S[^,]{{0,64}} out:[^,]{{1,64}}, .{{0,200}}?proto [A-Za-z0-9-]{{2,12}}"
    r"|login failure for user .{0,128} via (?:winbox|ssh|telnet|web|api|ftp|local|console|mac-telnet|romon)"
    r"|user .{1,128} logged (?:in|out) from \S{2,64} via (?:winbox|ssh|telnet|web|api|ftp|local|console|mac-telnet|romon)"
)
SNIFF_CHARS_MAX = 512

_NETWORK, _AUTHENTICATION = ("network",), ("authentication",)
_LEVELS = {"critical": "critical", "error": "error", "warning": "warning", "info": "informational", "debug": "debug"}
_ACTION = re.compile(r"(drop|block|den(?:y|ied)|reject|tarpit)|(accept|allow|pass|fasttrack)", re.IGNORECASE)
_SERVICES = {"ssh": "ssh", "winbox": "winbox", "web": "web", "rest-api": "web"}


def sniff(text: str) -> bool:
    return _SNIFF.search(text, 0, SNIFF_CHARS_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    message = envelope.message
    if envelope.app is not None:  # `forward: in:...`: the chain looks like a program
        message = text[text.rfind(envelope.app, 0, len(text) - len(message)) :]
    at = envelope.timestamp
    own = _OWN_TIME.match(message)
    if own is not None:
        at = _moment(own, origin) or at
        message = message[own.end() :]
    headed = _TOPICS.match(message)
    topics: tuple[str, ...] = ()
    if headed is not None:
        topics = tuple(headed[1].split(","))
        message = message[headed.end() :]
    elif not sniff(text):
        raise ParseError("no RouterOS log: neither topics nor a message that it writes")
    at = origin.received if at is None else at
    packet = _PACKET.match(message) if " proto " in message else None
    if packet is not None:
        return (_packet(packet, message, topics, envelope.host, at),)
    return (_event(message, topics, envelope, at),)


def _packet(packet: re.Match[str], message: str, topics: tuple[str, ...], host: str | None, at: float) -> Event:
    (
        prefix, chain, inside, outside, mark, state, mac, protocol, flags, source, source_port, destination,
        destination_port, nat, length,
    ) = packet.groups()  # fmt: skip
    fields: dict[str, Any] = {
        "mikrotik.chain": chain,
        "network.bytes": int(length),
        "mikrotik.topics": list(topics),
    }
    if not inside.startswith("("):  # (unknown 0)
        fields["observer.ingress.interface.name"] = inside
    if not outside.startswith("("):
        fields["observer.egress.interface.name"] = outside
    if prefix:
        fields["rule.name"] = prefix.strip()
    if mark:
        fields["mikrotik.connection_mark"] = mark
    if state:
        fields["mikrotik.connection_state"] = state
    if mac:
        fields["source.mac"] = mac.upper().replace(":", "-")
    if flags and protocol == "TCP":
        fields["mikrotik.tcp.flags"] = flags.split(",")
    elif flags:
        fields["mikrotik.icmp"] = flags
    translated = _NAT.match(nat) if nat else None
    if translated is not None:
        _, _, source_nat, source_nat_port, *_ = translated.groups()
        if source_nat is not None:
            fields["source.nat.ip"], fields["source.nat.port"] = source_nat.strip("[]"), whole_number(source_nat_port)
        else:
            fields["destination.nat.ip"] = translated[9].strip("[]")
            fields["destination.nat.port"] = whole_number(translated[10])
    verdict = _ACTION.search(prefix or "") or _ACTION.search(chain)
    kind = "deny" if verdict is not None and verdict[1] else "accept" if verdict is not None else None
    protocol = protocol.lower()
    return Event(
        at,
        NAME,
        "mikrotik.firewall",
        _NETWORK,
        ("connection",) if kind is None else ("connection", "denied" if kind == "deny" else "allowed"),
        kind,
        None,
        None,
        message,
        host,
        None,
        None,
        source.strip("[]"),
        int(source_port) if source_port else None,
        None,
        destination.strip("[]"),
        int(destination_port) if destination_port else None,
        None,
        _PROTOCOLS.get(protocol, protocol),
        fields=fields,
    )


def _event(message: str, topics: tuple[str, ...], envelope: Envelope, at: float) -> Event:
    """Everything but packets."""
    fields: dict[str, Any] = {"mikrotik.topics": list(topics)} if topics else {}
    for topic in topics:
        if topic in _LEVELS:
            fields["log.level"] = _LEVELS[topic]
            break
    category: tuple[str, ...] = ("network",) if topics and topics[0] not in {"system", "script"} else ("host",)
    types: tuple[str, ...] = ("info",)
    kind = topics[0] if topics else "system"
    action = outcome = service = user = source = port = destination = path = transport = None
    sent = received = None
    if (failed := _LOGON_FAILED.match(message)) is not None:
        user, source, way = failed.groups()
        kind, category, types = "auth", _AUTHENTICATION, ("start",)
        action, outcome, service = "login-failed", "failure", _SERVICES.get(way or "", way or "router")
    elif (logon := _LOGON.match(message)) is not None:
        user, stage, source, way = logon.groups()
        kind, category, types = "auth", _AUTHENTICATION, ("start",) if stage == "in" else ("end",)
        action, outcome, service = f"logged-{stage}", "success", _SERVICES.get(way or "", way or "router")
    elif (session := _SESSION.match(message)) is not None:
        user, stage, address, _, _, source = session.groups()
        kind, category, types = "vpn", ("authentication", "session"), ("start",) if stage == "in" else ("end",)
        action, outcome, service = f"logged-{stage}", "success", _tunnel(topics)
        if stage == "in":
            fields["source.nat.ip"] = address
        else:
            received, sent = whole_number(session[4]), whole_number(session[5])
    elif (refused := _SESSION_FAILED.match(message)) is not None:
        source, user, reason = refused.groups()
        kind, category, types = "vpn", ("authentication", "session"), ("start",)
        action, outcome, service = "login-failed", "failure", _tunnel(topics)
        if reason:
            fields["event.reason"] = reason
    elif "hotspot" in topics and (guest := _HOTSPOT.match(message)) is not None:
        user, source, said, reason = guest.groups()
        kind, category, service = "hotspot", ("authentication", "session"), "hotspot"
        types = ("end",) if said == "logged out" else ("info",) if said.startswith("trying") else ("start",)
        action = {"logged in": "logged-in", "logged out": "logged-out", "login failed": "login-failed"}.get(said, said)
        outcome = "failure" if said == "login failed" else "success" if said.startswith("logged") else None
        if reason.strip(": "):
            fields["event.reason"] = reason.strip(": ")
    elif (lease := _LEASE.match(message)) is not None:
        server, action, source, mac, name = lease.groups()
        kind, types, transport = "dhcp", ("connection", "protocol", "info"), "udp"
        fields |= {"network.protocol": "dhcp", "mikrotik.dhcp.server": server}
        fields["source.mac"] = mac.upper().replace(":", "-")
        if name:
            fields["source.domain"] = name.strip("()")
    elif "web-proxy" in topics and (request := _PROXY.match(message)) is not None:
        source, method, url, rest = request.groups()
        kind, category = "proxy", ("web", "network")
        denied = "action=deny" in (rest or "")
        types, action = ("access", "denied" if denied else "allowed"), "deny" if denied else "allow"
        fields |= {"http.request.method": method, "url.original": url}
        if "://" in url:
            domain, slash, tail = url.split("://", 1)[1].partition("/")
            fields["url.domain"] = domain
            path = slash + tail.partition("?")[0] or None
    elif (connected := _CONNECTED.search(message, 0, 512)) is not None:
        source = connected[1] or connected[2]
        types = ("connection", "start") if connected[1] else ("connection", "end")
    elif (somewhere := _SOMEWHERE.search(message, 0, 512)) is not None:
        source, port = somewhere[1], somewhere[2] or somewhere[3]
    if kind == "system" and " by " in message and ("added" in message or "changed" in message or "removed" in message):
        category, types = ("configuration",), ("change",)
        user = user or message.rpartition(" by ")[2].partition(" ")[0]
    if source is not None and not _ADDRESS.fullmatch(source):
        fields["source.mac" if source.count(":") == 5 else "source.address"] = source.strip("<>")
        source = None
    return Event(
        at,
        NAME,
        f"mikrotik.{kind}",
        category,
        types,
        action,
        outcome,
        None,
        message,
        envelope.host,
        user_name=user or None,
        source_ip=source,
        source_port=whole_number(port),
        source_bytes=received,
        destination_ip=destination,
        destination_bytes=sent,
        network_transport=transport,
        url_path=path,
        service_name=service,
        fields=fields,
    )


_ADDRESS = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}|(?![0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}$)[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f.]{0,15}){2,8}"
)


def _tunnel(topics: tuple[str, ...]) -> str:
    """What a PPP session is for: PPPoE customers dial in, everything else is a VPN."""
    return "pppoe" if "pppoe" in topics else "vpn"


def _moment(own: re.Match[str], origin: Origin) -> float | None:
    """The time that the router itself put in front; without a day the envelope's or the arrival's is better."""
    month, day, year, date, time = own.groups()
    try:
        if date:
            return from_iso(f"{date}T{time}", origin.clock)
        number = MONTHS.get(month or "")
        if number is None:
            return None
        hour, minute, second = map(int, time.split(":"))
        if year:
            return origin.clock.local(int(year), number, int(day), hour, minute, second)
        return origin.clock.yearless(number, int(day), hour, minute, second, origin.received)
    except ValueError:
        return None
