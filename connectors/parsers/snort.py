r"""Snort alerts: `alert_fast`, `alert_full` (its lines joined to one), syslog, `alert_json` and `alert_csv` of Snort 2 and 3.

`[**] [1:2019401:3] Scan of a web server [**] [Priority: 1] {TCP} 192.0.2.7:51022 -> 10.20.3.7:80`; Suricata's `fast.log`
has the same shape. Fields are mapped as Elastic's Snort integration does.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from connectors import tolerant_json
from connectors.clock import DAY_S, YEAR_S, from_epoch
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS

NAME = "snort"

HEAD_CHARS_MAX = 512  # a syslog header before the alert
INTEGER_BITS = 63
PORT_MAX = 65_535
COLONS_MAX = 7  # of an IPv6 address
ADDRESSES_MAX = 65_536  # IPv6 addresses remembered in their short form

_STAMP = r"\d\d/\d\d(?:/\d{2,4})?-\d\d:\d\d:\d\d(?:\.\d{1,9})?"
_RULE = r"\[(?P<gid>\d{1,10}):(?P<sid>\d{1,12}):(?P<rev>\d{1,10})\]"
_ALERT = re.compile(
    rf"(?:(?P<stamp>{_STAMP}) {{1,4}})?(?:<(?P<iface>\S{{1,64}})> )?(?:\[\*\*\] )?"
    rf"(?:\[(?P<verdict>[A-Za-z]{{1,16}})\] (?:\[\*\*\] )?)?{_RULE} "
    r"(?P<msg>(?:[^\[{]++|\[(?!\*\*\]|Classification: |Priority: )|\{(?![A-Z]))*+)(?:\[\*\*\])?\s?"
    r"(?:\[Classification: (?P<class>[^\]]*)\]\s?)?(?:\[Priority: (?P<priority>\d{1,9})\]:?\s{0,2})?"
    r"(?:\[AppID: (?P<app>[^\]]*)\]\s?)?(?:<(?P<iface_late>\S{1,64})> )?(?:\{(?P<proto>[\w-]{1,32})\} )?"
    rf"(?:\[Xref =>[^\]]*\]\s?)*+(?:(?P<stamp_late>{_STAMP})\s)?(?:[0-9A-F:]{{11,17}} -> [0-9A-F:]{{11,17}} type:\S+ len:\S+\s)?"
    r"(?:(?P<src>[0-9A-Fa-f.:\[\]]{2,60}) -> (?P<dst>[0-9A-Fa-f.:\[\]]{2,60}))?"
    r"(?:\s(?P<proto_late>[A-Z][\w-]{1,15}) TTL:(?P<packet>.*))?",
    re.DOTALL,
)
_PACKET = re.compile(
    rf"({_STAMP})\s{{1,4}}(?:[0-9A-F:]{{11,17}} -> [0-9A-F:]{{11,17}} type:\S+ len:\S+\s)?(\S{{2,60}}) -> (\S{{2,60}})"
)
_CSV = re.compile(
    rf"({_STAMP}) ?,(\d{{1,10}}),(\d{{1,12}}),(\d{{1,10}}),(?:\"((?:[^\"]|\"\")*+)\"|([^,]*)),(.*)", re.DOTALL
)
_CSV_3 = re.compile(  # Snort 3: time, number, protocol, how, length, direction, both ends, rule, action
    rf"({_STAMP}), (\d+), (\w+), (\w+), (\d+), (\w+), ([^\s,]+), ([^\s,]+), (\d+):(\d+):(\d+), (\w+)"
)
_TAG = re.compile(r"(snort|suricata)(?:\[(\d{1,10})\])?: ")
_STAMP_PARTS = re.compile(r"(\d\d)/(\d\d)(?:/(\d{2,4}))?-(\d\d):(\d\d):(\d\d)")
_HEADER_PARTS = re.compile(r"(\w{1,16})Len:(\d{1,9})|(TTL|ID|Win|TcpLen|Type|Code): ?(\w{1,10})")
_SNIFFED = re.compile(rf"(?:<\S{{1,64}}> )?(?:\[\*\*\] )?(?:\[[A-Za-z]{{1,16}}\] (?:\[\*\*\] )?)?{_RULE} ")
_SNIFFED_CSV = re.compile(rf"{_STAMP}(?: ?,\d+,\d+,\d+,|, \d+, \w+, \w+, \d+, \w+, )")
_PROTOCOL = re.compile(r"\]:? (?:<\S{1,64}> )?\{[A-Z]")

_CATEGORY = ("network", "intrusion_detection")
_REFUSED = frozenset({"drop", "block", "reject", "reset", "dropped", "blocked", "would_drop"})
_TYPES = {True: ("connection", "denied"), False: ("allowed",)}
_NO_PORTS = frozenset({"icmp", "ipv6-icmp", "igmp"})
_PORTED = frozenset({"tcp", "udp", "sctp"})
_NAMED_JSON = (  # key of Snort 3 -> ECS path
    ("iface", "observer.ingress.interface.name"),
    ("service", "network.protocol"),
    ("pkt_len", "network.bytes"),
    ("vlan", "network.vlan.id"),
    ("class", "rule.category"),
    ("msg", "rule.description"),
    ("msg", "rule.name"),
    ("priority", "event.severity"),
    ("gid", "snort.gid"),
    ("ttl", "snort.ip.ttl"),
    ("icmp_type", "snort.icmp.type"),
    ("icmp_code", "snort.icmp.code"),
    ("tcp_flags", "snort.tcp.flags"),
    ("sgt", "snort.security_group_tag"),
)


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return (
            '"event_type"' not in text
            and '"rule"' in text
            and ('"src_ap"' in text or ('"sid"' in text and '"gid"' in text))
        )
    if "[**]" not in text and _PROTOCOL.search(text) is None:
        return text[2:3] == "/" and _SNIFFED_CSV.match(text) is not None
    if text[2:3] == "/" and (at := text.find("[", 14, HEAD_CHARS_MAX)) > 0:  # with the full year it is Suricata's
        return text[6:8] != "20" and _SNIFFED.match(text, at) is not None
    at = text.find("[", 0, HEAD_CHARS_MAX)
    while at >= 0:  # behind a syslog header with a pid
        if _SNIFFED.match(text, at) is not None:
            return "suricata" not in text[:at]
        at = text.find("[", at + 1, HEAD_CHARS_MAX)
    return False


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] == "{":
        log, damaged = tolerant_json.decode(text)
        if type(log) is not dict or not ("sid" in log or "rule" in log or "msg" in log):
            raise ParseError("no Snort alert: the JSON has no rule, sid or msg")
        return (_json(log, damaged, origin),)
    if text[2:3] == "/":
        found = _csv(text, origin)
        if found is not None:
            return (found,)
    event = alert(text, origin, NAME)
    if event is None:
        raise ParseError("no Snort alert: it has no [generator:rule:revision], or is a further line of alert_full")
    return (event,)


def alert(text: str, origin: Origin, module: str) -> Event | None:
    """An alert in the shape that Snort and Suricata share, with or without a syslog header; None if it is none."""
    timestamp = host = app = pid = None
    body = text
    if text[2:3] != "/" and not text.startswith("[") and not text.startswith("<"):
        envelope = peel(text, origin)
        timestamp, host, app, pid, body = (
            envelope.timestamp,
            envelope.host,
            envelope.app,
            envelope.pid,
            envelope.message,
        )
    elif text.startswith("<"):
        envelope = peel(text, origin)
        if envelope.recognised:
            timestamp, host, app, pid, body = (
                envelope.timestamp,
                envelope.host,
                envelope.app,
                envelope.pid,
                envelope.message,
            )
    if body[:1].isalpha() and (tag := _TAG.match(body)) is not None:  # a relay took the time and host away
        app, pid, body = tag[1], int(tag[2]) if tag[2] else None, body[tag.end() :]
    match = _ALERT.match(body)
    if match is None:
        packet = _PACKET.match(body)
        if packet is None:
            return None
        stamp, one, other = packet.groups()
        return _event(module, _time(stamp, origin), body, {}, one, other, None, None, host, app, pid, origin)
    found = match.groupdict()
    stated = found["stamp"] or found["stamp_late"]
    if stated is not None:
        timestamp = _time(stated, origin) or timestamp
    proto = found["proto"] or found["proto_late"]
    message = found["msg"].strip().removeprefix('"').removesuffix('"')
    return _event(
        module, timestamp, message, found, found["src"], found["dst"], proto, found["verdict"], host, app, pid, origin
    )


def _event(
    module: str, timestamp: float | None, message: str, found: dict[str, Any], one: str | None, other: str | None,
    proto: str | None, verdict: str | None, host: str | None, app: str | None, pid: int | None, origin: Origin,
) -> Event:  # fmt: skip
    transport = None if proto is None else _transport(proto)
    source, sport = _end(one, transport)
    destination, dport = _end(other, transport)
    return Event(
        origin.received if timestamp is None else timestamp,
        module,
        f"{module}.alert",
        _CATEGORY,
        ("info",) if verdict is None else _TYPES[verdict.lower() in _REFUSED],
        None if verdict is None else verdict.lower(),
        None,
        found.get("sid"),
        message,
        host,
        None,
        None,
        source,
        sport,
        None,
        destination,
        dport,
        None,
        transport,
        app,
        pid,
        fields=Lazy(_fields, module, found, message, host),
    )


def _fields(module: str, found: dict[str, Any], message: str, host: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"event.kind": "alert", "observer.product": module, "observer.type": "ids"}
    if host is not None:
        fields["observer.name"] = host
    if not found:
        return fields
    fields["rule.id"], fields["rule.version"] = found["sid"], found["rev"]
    fields["rule.name"] = fields["rule.description"] = message
    fields[f"{module}.gid"] = int(found["gid"])
    if found["class"] and found["class"] != "(null)":
        fields["rule.category"] = found["class"]
    if found["priority"] is not None:
        fields["event.severity"] = int(found["priority"])
    if interface := found["iface"] or found["iface_late"]:
        fields["observer.ingress.interface.name"] = interface
    if found["app"]:
        fields["network.application"] = found["app"]
    for part in _HEADER_PARTS.finditer("TTL:" + (found["packet"] or "")[:512]) if found["packet"] else ():
        name, length, key, value = part.groups()
        if name is not None:
            fields[f"{module}.{name.lower()}_length"] = int(length)
        else:
            fields[f"{module}.{key.lower()}"] = value
    return fields


def _json(log: dict[str, Any], damaged: bool, origin: Origin) -> Event:
    get = log.get
    proto = _text(get("proto"))
    transport = None if proto is None else _transport(proto)
    rule = _text(get("rule")) or ""
    parts = rule.split(":")
    code = _text(get("sid")) or (parts[1] if len(parts) == 3 else None)  # gid:sid:rev
    verdict = _text(get("action"))
    refused = verdict is not None and verdict.lower() in _REFUSED
    ported = transport not in _NO_PORTS
    return Event(
        _json_time(log, origin),
        NAME,
        "snort.alert",
        _CATEGORY,
        ("info",) if verdict is None else _TYPES[refused],
        verdict,
        None,
        code,
        _text(get("msg")),
        None,
        None,
        None,
        _text(get("src_addr")) or _end(_text(get("src_ap")), transport)[0],
        _port(get("src_port")) if ported else None,
        None,
        _text(get("dst_addr")) or _end(_text(get("dst_ap")), transport)[0],
        _port(get("dst_port")) if ported else None,
        None,
        transport,
        fields=Lazy(_json_fields, log, damaged, code, parts),
    )


def _json_fields(log: dict[str, Any], damaged: bool, code: str | None, parts: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {"event.kind": "alert", "observer.product": NAME, "observer.type": "ids"}
    fields |= {key: value for key, value in log.items() if key and "." not in key and _plain(value)}
    for key, path in _NAMED_JSON:
        if key in fields and fields[key] not in ("", "unknown", "none"):
            fields[path] = fields[key]
    if code is not None:
        fields["rule.id"] = code
    revision = _text(log.get("rev")) or (parts[2] if len(parts) == 3 else None)
    if revision is not None:
        fields["rule.version"] = revision
    for key, path in (("eth_src", "source.mac"), ("eth_dst", "destination.mac")):
        if (mac := _text(log.get(key))) is not None:
            fields[path] = mac.upper().replace(":", "-")
    if damaged:
        fields["shield.truncated"] = True
    return fields


def _json_time(log: dict[str, Any], origin: Origin) -> float:
    """Snort's `seconds` are exact; its `timestamp` is local, without year or zone, but has the fraction."""
    seconds, stamp = log.get("seconds"), log.get("timestamp")
    fraction = 0.0
    if type(stamp) is str and stamp[-7:-6] == "." and stamp[-6:].isdigit() and stamp.isascii():
        fraction = int(stamp[-6:]) / 1e6
    if isinstance(seconds, int | float):
        try:
            return int(from_epoch(seconds)) + fraction
        except (ValueError, OverflowError):
            pass
    at = _time(stamp, origin) if type(stamp) is str else None
    return origin.received if at is None else at


def _csv(text: str, origin: Origin) -> Event | None:
    match = _CSV.match(text)
    if match is None:
        newer = _CSV_3.match(text)
        if newer is None:
            return None
        stamp, _, proto, _, _, _, one, other, gid, sid, rev, verdict = newer.groups()
        found = dict.fromkeys(_NAMES, None) | {"gid": gid[:10], "sid": sid, "rev": rev}
        return _event(
            NAME,
            _time(stamp, origin),
            f"{gid}:{sid}:{rev}",
            found,
            one,
            other,
            proto,
            verdict,
            None,
            None,
            None,
            origin,
        )
    stamp, gid, sid, rev, quoted, bare, rest = match.groups()
    message = (quoted if quoted is not None else bare or "").replace('""', '"').strip()
    cells = [cell.strip() for cell in rest.split(",", 40)]
    cells += [""] * (5 - len(cells))
    proto, source, sport, destination, dport = cells[:5]
    found = dict.fromkeys(_NAMES, None) | {"gid": gid, "sid": sid, "rev": rev}
    verdict = None
    if len(cells) >= 8 and cells[7].isascii() and cells[7].isdigit() and not cells[6][:2].isdigit():  # pfSense
        found["class"], found["priority"] = cells[6], cells[7][:9]
        verdict = (
            cells[9].lower()
            if len(cells) > 9 and cells[9].isalpha()
            else cells[8].lower()
            if len(cells) > 8 and cells[8].isalpha()
            else None
        )
    elif len(cells) > 5 and len(cells[5]) == 17:  # the Ethernet addresses follow
        found["mac"] = cells[5]
    one = f"{source}:{sport}" if ":" not in source and sport else source
    other = f"{destination}:{dport}" if ":" not in destination and dport else destination
    return _event(
        NAME, _time(stamp, origin), message, found, one, other, proto or None, verdict, None, None, None, origin
    )


_NAMES = ("gid", "sid", "rev", "class", "priority", "iface", "iface_late", "app", "packet", "verdict")
_SCALARS = {str, int, float, bool}


def _end(end: str | None, transport: str | None) -> tuple[str | None, int | None]:
    """Address and port of `192.0.2.7:80`, `[2001:db8::1]:80`, `2001:db8::1:80` (of TCP and UDP) or an address alone."""
    if not end:
        return None, None
    address, colon, port = end.rpartition(":")
    if not colon:
        return end, None
    if end[0] == "[":
        address, _, port = end[1:].partition("]:")
    elif ":" in address and end.count(":") <= COLONS_MAX and not (transport in _PORTED and "::" in address):
        address, port = end, ""  # IPv6 without a port
    address = _short(address) if ":" in address else address
    return address or None, None if transport in _NO_PORTS else _port(port)


@lru_cache(maxsize=ADDRESSES_MAX)
def _short(address: str) -> str:
    """Suricata writes IPv6 addresses in full; everyone else, and so the rules, writes them short."""
    try:
        return ip_address(address).compressed
    except ValueError:
        return address


def _time(stamp: str, origin: Origin) -> float | None:
    """`11/24-09:15:02.118233` or `11/24/26-09:15:02`, local to the source; remembered without the fraction."""
    whole, _, fraction = stamp.partition(".")
    clock = origin.clock
    at = clock.stamps.get(whole)
    if at is None or not (clock.year is not None or origin.received - YEAR_S < at <= origin.received + DAY_S):
        parts = _STAMP_PARTS.fullmatch(whole)
        if parts is None:
            return None
        month, day, year, hour, minute, second = (None if part is None else int(part) for part in parts.groups())
        try:
            if year is None:
                at = clock.yearless(month or 0, day or 0, hour or 0, minute or 0, second or 0, origin.received)
            else:
                year += 2000 if year < 100 else 0
                if not 1970 <= year < 2200:
                    return None
                at = clock.local(year, month or 0, day or 0, hour or 0, minute or 0, second or 0)
        except ValueError:
            return None
        clock.remember(whole, at)
    return at + float("0." + fraction) if fraction.isdigit() and fraction.isascii() else at


def _transport(proto: str) -> str:
    low = proto.lower()
    return TRANSPORTS.get(low, low)


def _text(value: Any) -> str | None:
    if type(value) is str:
        return value or None
    return str(value) if type(value) is int and value.bit_length() <= INTEGER_BITS else None


def _plain(value: Any) -> bool:
    return type(value) in _SCALARS and (type(value) is not int or value.bit_length() <= INTEGER_BITS)


def _port(value: Any) -> int | None:
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    return value if type(value) is int and 0 <= value <= PORT_MAX else None
