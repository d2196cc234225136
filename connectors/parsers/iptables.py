"""Netfilter LOG lines of Linux: iptables, nftables, UFW, firewalld, Shorewall, OpenWrt, Ubiquiti, Proxmox."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from connectors import accesslog
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError

NAME = "iptables"
ADDRESSES_REMEMBERED_MAX = 65_536
PREFIXES_MAX = 1024  # log prefixes remembered with what they mean
PAIRS_MAX = 64  # fields of one line

_LINE = re.compile(
    r"IN=(\S*) OUT=(\S*)(?: PHYSIN=\S*)?(?: PHYSOUT=\S*)?(?: MAC=(\S*))? SRC=(\S+) DST=(\S+) LEN=(\d{1,18})"
    r" (?:TOS=\S+ PREC=\S+ TTL=(\d{1,5}) ID=(\d{1,10}) ((?:CE |DF |MF )*)|TC=\d+ HOPLIMIT=(\d{1,5}) FLOWLBL=\d{1,10} )"
    r"PROTO=(\w+)(?: SPT=(\d{1,5}) DPT=(\d{1,5}+)(?!\d)| TYPE=(\d{1,5}) CODE=(\d{1,5}+)(?!\d))?(.*)",
    re.DOTALL,
)
_BEGIN = re.compile(r"\b(?:IN|OUT|PHYSIN|SRC|TTL|PROTO)=")
_KERNEL = re.compile(r"(?:[a-z0-9]{1,10}\.[a-z]{1,10} )?kernel: ?")
_PROXMOX = re.compile(r"(\d{1,10}) \d (\S{1,64}) (\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}) ?(.{0,128})")
_UPTIME = re.compile(r"\[ *\d{1,10}\.\d{1,9}\] ?")
_UBIQUITI = re.compile(r"\[?([\w.-]{1,64})-(default|\d{1,6})-([ADR])\]?")
_UNIFI = re.compile(r'\[?([\w.-]{1,64})-([ADR])-(\d{1,10})\]?(?: DESCR="([^"]{0,128})")?')
_ACTION = re.compile(r"(drop|block|den(?:y|ied)|reject|refuse)|(accept|allow|pass)|(audit|limit)", re.IGNORECASE)
_PROTOCOLS = {
    "TCP": "tcp",
    "UDP": "udp",
    "ICMP": "icmp",
    "ICMPv6": "ipv6-icmp",
    "1": "icmp",
    "2": "igmp",
    "6": "tcp",
    "17": "udp",
    "47": "gre",
    "50": "esp",
    "51": "ah",
    "58": "ipv6-icmp",
    "132": "sctp",
}
_FLAGS = frozenset({"SYN", "ACK", "FIN", "RST", "PSH", "URG", "ECE", "CWR"})

_NETWORK = ("network",)
_DENIED = ("connection", "denied")
_ALLOWED = ("connection", "allowed")
_CONNECTION: tuple[str, ...] = ("connection",)

_Meaning = tuple[str | None, tuple[str, ...], dict[str, Any]]
_MEANINGS: dict[str, _Meaning] = {}


def sniff(text: str) -> bool:
    return " PROTO=" in text and (" SRC=" in text or " SPT=" in text or " TTL=" in text)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    message = envelope.message
    at = envelope.timestamp
    begin = message.find("IN=")
    line = _LINE.match(message, begin) if begin >= 0 and at is not None else None
    if line is None or at is None:
        return (_unusual(message, at, origin.received, envelope.app, envelope.host),)
    source, destination, ttl, protocol, sport, dport = line.group(4, 5, 7, 11, 12, 13)
    prefix = message[:begin]
    if envelope.app != "kernel" and envelope.app is not None:  # `DENY: IN=`: the prefix looks like a program
        prefix = envelope.app
    elif prefix[:1] == "[" and (uptime := _UPTIME.match(prefix)) is not None:  # it makes every prefix new
        prefix = prefix[uptime.end() :]
    action, kind, about = _MEANINGS.get(prefix) or _meaning(prefix)
    return (
        Event(
            at,
            NAME,
            "iptables.log",
            _NETWORK,
            kind,
            action,
            message=message,
            host_name=envelope.host,
            source_ip=source if ttl is not None else _short(source),
            source_port=int(sport) if sport is not None else None,
            destination_ip=destination if ttl is not None else _short(destination),
            destination_port=int(dport) if dport is not None else None,
            network_transport=_PROTOCOLS.get(protocol) or protocol.lower(),
            fields=_Packet(about, line),
        ),
    )


class _Packet(Mapping[str, Any]):
    """The fields of one packet, made when somebody asks for one: of most lines nobody does."""

    __slots__ = ("_about", "_line", "_whole")

    def __init__(self, about: dict[str, Any], line: re.Match[str]) -> None:
        self._about = about
        self._line = line
        self._whole: dict[str, Any] | None = None

    def _all(self) -> dict[str, Any]:
        whole = self._whole
        if whole is None:
            whole = self._whole = _fields(self._about, self._line)
        return whole

    def get(self, key: str, default: Any = None) -> Any:
        return self._all().get(key, default) if "." in key else default  # a packet has no names of its own

    def __getitem__(self, key: str) -> Any:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _fields(about: dict[str, Any], line: re.Match[str]) -> dict[str, Any]:
    inside, outside, mac, _, _, length, ttl, number, fragment, hops, protocol, _, _, icmp_type, icmp_code, rest = (
        line.groups()
    )
    fields: dict[str, Any] = dict(about)
    if inside:
        fields["observer.ingress.interface.name"] = inside
    if outside:
        fields["observer.egress.interface.name"] = outside
    if mac is not None and len(mac) >= 35:
        fields["destination.mac"] = mac[:17].upper().replace(":", "-")
        fields["source.mac"] = mac[18:35].upper().replace(":", "-")
    fields["iptables.length"] = int(length)
    if ttl is not None:
        fields["network.type"] = "ipv4"
        fields["iptables.ttl"] = int(ttl)
        fields["iptables.id"] = int(number)
    else:
        fields["network.type"] = "ipv6"
        fields["iptables.ttl"] = int(hops)
    if icmp_type is not None:
        fields["iptables.icmp.type"] = int(icmp_type)
        fields["iptables.icmp.code"] = int(icmp_code)
    if fragment:
        fields["iptables.fragment_flags"] = fragment.split()
    if protocol == "TCP":
        fields["iptables.tcp.flags"] = [flag for flag in rest.split() if flag in _FLAGS]
    return fields


def _unusual(message: str, at: float | None, received: float, app: str | None, host: str | None) -> Event:
    """ICMP, IPv6, bridges, Proxmox, lines cut in front: any order of `NAME=value`."""
    begin = _BEGIN.search(message)
    if begin is None:
        raise ParseError("no netfilter fields")
    pairs: dict[str, str] = {}
    flags = []
    body = message[begin.start() :].partition(" [SRC=")[0]  # in brackets: the packet that an ICMP error is about
    for word in body.split(None, PAIRS_MAX)[:PAIRS_MAX]:
        name, equals, value = word.partition("=")
        if equals:
            pairs.setdefault(name, value)
        elif name in _FLAGS:
            flags.append(name)
    if not pairs.keys() & {"SRC", "PROTO"}:
        raise ParseError("no netfilter fields")
    prefix = app if app is not None and app != "kernel" else message[: begin.start()]
    guest = None
    proxmox = _PROXMOX.match(prefix)
    if proxmox is not None:
        guest, chain, stamp, said = proxmox.groups()
        prefix = f"{chain} {said}"
        if at is None:
            at = accesslog.time_of(stamp)
    action, kind, about = _MEANINGS.get(prefix) or _meaning(prefix)
    fields: dict[str, Any] = dict(about)
    if guest is not None:
        fields["iptables.guest"] = guest
    for name, target in _TEXTS.items():
        if pairs.get(name):
            fields[target] = pairs[name]
    for name, target in _INTEGERS.items():
        value = pairs.get(name, "")
        if value.isascii() and value.isdigit() and len(value) < 16:
            fields[target] = int(value)
    mac = pairs.get("MAC", "")
    if len(mac) >= 35:
        fields["destination.mac"] = mac[:17].upper().replace(":", "-")
        fields["source.mac"] = mac[18:35].upper().replace(":", "-")
    if "SRC" in pairs:
        fields["network.type"] = "ipv6" if ":" in pairs["SRC"] else "ipv4"
    if flags:
        fields["iptables.tcp.flags"] = flags
    protocol = pairs.get("PROTO", "")
    return Event(
        timestamp=at if at is not None else received,
        event_module=NAME,
        event_dataset="iptables.log",
        event_category=_NETWORK,
        event_type=kind,
        event_action=action,
        message=message,
        host_name=host,
        source_ip=_short(pairs.get("SRC", "")),
        source_port=_port(pairs.get("SPT")),
        destination_ip=_short(pairs.get("DST", "")),
        destination_port=_port(pairs.get("DPT")),
        network_transport=_PROTOCOLS.get(protocol) or protocol.lower() or None,
        fields=fields,
    )


_TEXTS = {"IN": "observer.ingress.interface.name", "OUT": "observer.egress.interface.name", "MARK": "iptables.mark"}
_INTEGERS = {
    "LEN": "iptables.length",
    "TTL": "iptables.ttl",
    "HOPLIMIT": "iptables.ttl",
    "ID": "iptables.id",
    "TYPE": "iptables.icmp.type",
    "CODE": "iptables.icmp.code",
}


@lru_cache(maxsize=ADDRESSES_REMEMBERED_MAX)
def _short(address: str) -> str | None:
    """The kernel writes IPv6 addresses in full; everyone else, and so the rules, writes them short."""
    if ":" not in address:
        return address or None
    try:
        return ip_address(address).compressed
    except ValueError:
        return address


def _port(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 5 else None


_VERDICTS = {"A": "accept", "D": "drop", "R": "reject"}


def _meaning(prefix: str) -> _Meaning:
    """Action, event type and rule that the log prefix states; the kernel itself never says what became of the packet."""
    kernel = _KERNEL.match(prefix)
    start = kernel.end() if kernel is not None else 0
    uptime = _UPTIME.match(prefix, start)
    name = prefix[uptime.end() if uptime is not None else start :].strip(" :")
    about: dict[str, Any] = {}
    action: str | None = None
    kind = _CONNECTION
    ubiquiti = _UBIQUITI.fullmatch(name)
    if ubiquiti is not None:
        about["rule.name"], about["rule.id"] = ubiquiti[1], ubiquiti[2]
        action = _VERDICTS[ubiquiti[3]]
        kind = _ALLOWED if action == "accept" else _DENIED
    elif (unifi := _UNIFI.fullmatch(name)) is not None:
        about["rule.name"], verdict, about["rule.id"], about["rule.description"] = unifi.groups()
        action = _VERDICTS[verdict]
        kind = _ALLOWED if action == "accept" else _DENIED
    elif name and "=" not in name:  # with one, the line was cut, and these are remains of its fields
        about["rule.name"] = name.strip("[]")
        word = _ACTION.search(name)
        if word is not None and word[1]:
            said = word[1].lower()
            action = "deny" if said.startswith("den") else "reject" if said.startswith("re") else "drop"
            kind = _DENIED
        elif word is not None and word[2]:
            action, kind = "accept", _ALLOWED
        elif word is not None:
            action = word[3].lower()
    found = (action, kind, about)
    if uptime is None:  # the kernel's clock makes every prefix new
        if len(_MEANINGS) >= PREFIXES_MAX:
            _MEANINGS.clear()
        _MEANINGS[prefix] = found
    return found
