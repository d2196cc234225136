"""WatchGuard Firebox (Fireware): traffic, proxy and event logs in syslog, and the lines that Traffic Monitor shows.

Proxies, intrusion prevention, gateway antivirus, WebBlocker and logons are told apart; the device's own keys stay in
`fields`. Its LEEF output is read by `leef`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS, whole_number

NAME = "watchguard"

HEAD_MAX = 320  # characters in front of the program
POLICY_MAX = 160  # characters of the policy's name in brackets at the end
_IP = r"[0-9A-Fa-f.:]{2,45}"
_INTERFACE = r"(\S{1,64}(?: [A-Za-z]\S{0,32}){0,2}?)"
# What stands around the program in syslog: host, serial number and the time in UTC may each be missing.
_HEAD = re.compile(
    r"(?:([\w.-]{1,255}+) )??(?:([0-9A-Z]{8,32}+) )??(?:\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\) )??"
    r"([A-Za-z][\w.-]{0,63}+)(?:\[(\d{1,10})\])?+: ?+"
)
_STAMP = re.compile(
    r"(?:<\d{1,3}>)?(?:1 )?(?:[A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.]{0,10}(?:Z|[+-]\d\d:?\d\d)?) "
)
_MSG_ID = re.compile(r'msg_id="([0-9A-Fa-f]{4}-[0-9A-Fa-f]{4})" ?+')
_TRAFFIC = re.compile(
    rf"(Allow|Deny|Block|Drop|Strip|Lock|AVDeny|Bypass) {_INTERFACE} {_INTERFACE} (?:(\d{{1,6}}) )?([A-Za-z][\w-]{{0,15}}|\d{{1,3}}) (?:\d{{1,6}} (\d{{1,3}}) )?"
    rf"({_IP}) ({_IP})(?: (\d{{1,5}}) (\d{{1,5}}))?(?: |$)"
)
_MONITOR = re.compile(  # Traffic Monitor: addresses, service and ports before the interfaces
    rf"(?:(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d) )?(?:Member\d{{1,2}} )?(Allow|Deny|Block) ({_IP}) ({_IP}) (\S{{1,64}}?)/([\w-]{{1,16}}) "
    r"(?:(\d{1,5}) (\d{1,5}) )?.{1,160}? \(([^()]{1,128})\)"
)
_POLICY = re.compile(r"\(([^()]{1,128})\)\s*$")
_PAIRS = re.compile(r' ([A-Za-z][\w-]*+)="([^"]*+)"')
_TCP = re.compile(r"offset (\d{1,3}) ([A-Z]{1,8}) (\d{1,10}) win (\d{1,6})")
_USER = r"\[?([^\s@\[\]\"']{1,128})@([^\s\[\]\"']{1,128}?)\]?"
_AUTHENTICATION = re.compile(
    rf"Authentication (?:of|for) ([\w -]{{1,32}}?)? ?user {_USER} from ({_IP}) (?:was )?(accepted|rejected|failed|denied)(.{{0,200}})",
    re.IGNORECASE,
)
_LOGON = re.compile(
    rf"([\w -]{{1,40}}?)? ?user {_USER} (?:from ({_IP}) )?(logged in|logged out|log ?in attempt was rejected|log ?in failed|has logged in|has logged out)"
    r"(.{0,300})",
    re.IGNORECASE,
)
_LOGIN_FROM = re.compile(rf"(?:Real IP address is|from) ({_IP}?)(?=[\s.,;]*(?:\s|$))")
_VIRTUAL = re.compile(rf"[Vv]irtual IP (?:address )?is ({_IP}?)(?=[\s.,;]*(?:\s|$))")
_TUNNEL = re.compile(rf"\(({_IP})<->({_IP})\)")
_MAC = "[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}"
_LEASE = re.compile(rf"(DHCP[A-Z]{{3,12}})(?: (?:on|for|of) ({_IP}))?(?:.{{0,60}}? (?:to|from) ({_MAC}))?")
_SNIFF = re.compile(r' msg_id="[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}"')
_ELDER = re.compile(
    r"(?:^|[ >])(?:firewall|[a-z0-9]{2,16}-proxy)(?:\[\d{1,10}\])?: (?:Allow|Deny|Block) \S{1,64} \S.{1,128}? "
    r"(?:\d{1,6} )?[a-z]\w{1,15} (?:\d{1,6} \d{1,3} )?[0-9A-Fa-f.:]{3,45} "
)

_NETWORK, _LOGONS = ("network",), ("authentication",)
_ALLOWED, _DENIED = ("connection", "allowed"), ("connection", "denied")
_DENYING = {"Deny", "Block", "Drop", "AVDeny", "Strip", "Lock"}
_INTRUSION = ("intrusion_detection", "network")
_SERVICES = {"management": "firewall", "firewall": "firewall", "admin": "firewall", "hotspot": "hotspot"}
_NAMED = (  # native key -> ECS path, copied as it is; of two with the same path the later wins
    ("src_ip_nat", "source.nat.ip"),
    ("dst_ip_nat", "destination.nat.ip"),
    ("dstname", "url.domain"),
    ("cn", "tls.server.x509.subject.common_name"),
    ("sni", "tls.client.server_name"),
    ("op", "http.request.method"),
    ("app_name", "network.application"),
    ("app_cat_name", "rule.category"),
    ("signature_name", "rule.name"),
    ("signature_id", "rule.id"),
    ("virus", "threat.software.name"),
    ("file_name", "file.name"),
    ("md5", "file.hash.md5"),
    ("cats", "url.category"),
    ("sender", "email.from.address"),
    ("recipients", "email.to.address"),
    ("geo_src", "source.geo.country_iso_code"),
    ("geo_dst", "destination.geo.country_iso_code"),
    ("query_type", "dns.question.type"),
    ("question", "dns.question.name"),
    ("proxy_act", "watchguard.proxy_action"),
    ("reason", "event.reason"),
)
_Texts = dict[str, str]


def sniff(text: str) -> bool:
    if _SNIFF.search(text, 0, 512) is not None or text.startswith('msg_id="'):
        return True
    return _ELDER.search(text, 0, HEAD_MAX) is not None or (text[:2] == "20" and _MONITOR.match(text) is not None)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    monitor = _MONITOR.match(text)
    if monitor is not None:
        return (_monitor(monitor, text, origin),)
    stamp = _STAMP.match(text)
    head = _HEAD.match(text, 0 if stamp is None else stamp.end())
    if head is None:
        head = _HEAD.search(text, 0, HEAD_MAX)  # behind another envelope
    number = _MSG_ID.match(text, 0 if head is None else head.end()) or _MSG_ID.search(text, 0, HEAD_MAX)
    if head is None or (number is None and _ELDER.search(text, 0, HEAD_MAX) is None):
        raise ParseError("no Fireware log: neither a msg_id nor a program that allows or denies")
    host, _, utc, program, pid = head.groups()
    begin = number.end() if number is not None else head.end()
    message = text[begin:]
    at = None if utc is None else _exact(utc, origin)
    if at is None:
        at = peel(text, origin).timestamp
    about = (
        origin.received if at is None else at,
        number[1].upper() if number is not None else None,
        host,
        program,
        int(pid) if pid else None,
    )
    log: _Texts = dict(_PAIRS.findall(message)) if '="' in message else {}
    traffic = _TRAFFIC.match(message)
    if traffic is None:
        return (_event(message, log | _serial(head[2]), about),)
    disposition, _, _, _, protocol, _, source, destination, source_port, destination_port = traffic.groups()
    protocol = protocol.lower()
    if "icmp" in protocol:  # these are type and code
        source_port = destination_port = None
    ends = (source, source_port, destination, destination_port)
    return (_connection(disposition, protocol, ends, message, log, Lazy(_traffic, text, begin), about),)


_About = tuple[float, str | None, str | None, str, int | None]  # time, msg_id, host, program, its pid


def _serial(found: str | None) -> _Texts:
    return {} if found is None else {"serial": found}


def _traffic(text: str, begin: int) -> dict[str, Any]:
    """What a traffic line states beyond the event's attributes."""
    log: _Texts = dict(_PAIRS.findall(text, begin))
    stamp = _STAMP.match(text)
    head = _HEAD.match(text, 0 if stamp is None else stamp.end())
    if head is not None:
        log |= _serial(head[2])
    fields = _fields(log)
    traffic = _TRAFFIC.match(text, begin)
    if traffic is not None:
        _, inside, outside, length, protocol, ttl, _, _, first, second = traffic.groups()
        fields["observer.ingress.interface.name"] = inside
        fields["observer.egress.interface.name"] = outside
        if length:
            fields["network.bytes"] = int(length)
        if ttl:
            fields["watchguard.ttl"] = int(ttl)
        if "icmp" in protocol.lower() and first is not None:
            fields["watchguard.icmp.type"], fields["watchguard.icmp.code"] = int(first), int(second)
        packet = _TCP.search(text, traffic.end(), traffic.end() + 80)
        if packet is not None:
            fields["watchguard.tcp.flags"] = packet[2]
    policy = _POLICY.search(text, max(begin, len(text) - POLICY_MAX))
    if policy is not None:
        fields.setdefault("rule.name", policy[1])
        fields["watchguard.policy"] = policy[1]
    program = "" if head is None else head[4]
    argument, domain = log.get("arg", ""), log.get("dstname", "")
    if argument.startswith("/") and program.startswith("http"):
        scheme = "https" if program.startswith("https") else "http"
        fields["url.original"] = f"{scheme}://{domain}{argument}" if domain else argument
        if "?" in argument:
            fields["url.query"] = argument.partition("?")[2]
    return fields


def _connection(
    disposition: str,
    protocol: str,
    ends: tuple[str, str | None, str, str | None],
    message: str,
    log: _Texts,
    fields: Mapping[str, Any],
    about: _About,
) -> Event:
    """A connection that the packet filter or a proxy let pass or refused."""
    at, number, host, program, pid = about
    get = log.get
    category: tuple[str, ...] = _NETWORK
    dataset = "watchguard.proxy" if program.endswith("-proxy") else "watchguard.traffic"
    if "signature_name" in log or "signature_id" in log:
        category, dataset = _INTRUSION, "watchguard.ips"
    elif "virus" in log or disposition == "AVDeny":
        category, dataset = ("malware", "network"), "watchguard.antivirus"
    elif program.startswith("http"):
        category = ("web", "network")
    elif program.startswith(("smtp", "imap", "pop3")):
        category = ("email", "network")
    argument = get("arg", "")
    user, _, domain = get("src_user", "").partition("@")
    return Event(
        at,
        NAME,
        dataset,
        category,
        _DENIED if disposition in _DENYING else _ALLOWED,
        disposition.lower(),
        "success",
        number,
        get("msg") or message,
        host,
        user or None,
        domain or None,
        ends[0],
        whole_number(ends[1]),
        whole_number(get("sent_bytes")),
        ends[2],
        whole_number(ends[3]),
        whole_number(get("rcvd_bytes")),
        TRANSPORTS.get(protocol, protocol),
        program,
        pid,
        None,
        None,
        None,
        None,
        argument.partition("?")[0] if argument.startswith("/") else None,
        whole_number(get("rsp_code")),
        None,
        fields,
    )


def _monitor(line: re.Match[str], text: str, origin: Origin) -> Event:
    """A line as Traffic Monitor shows it."""
    stamp, disposition, source, destination, service, protocol, source_port, destination_port, policy = line.groups()
    log: _Texts = dict(_PAIRS.findall(text, line.end()))
    fields = _fields(log)
    fields |= {"network.protocol": service, "rule.name": policy, "watchguard.policy": policy}
    at = None if stamp is None else _local(stamp, origin)
    about = (origin.received if at is None else at, log.get("msg_id"), None, log.get("proc_id", "firewall"), None)
    ends = (source, source_port, destination, destination_port)
    return _connection(disposition, protocol.lower(), ends, text, log, fields, about)


def _event(message: str, log: _Texts, about: _About) -> Event:
    """What the Firebox says about itself: logons, VPN, DHCP, the system."""
    at, number, host, program, pid = about
    fields = _fields(log)
    category: tuple[str, ...] = ("host",)
    types: tuple[str, ...] = ("info",)
    kind, action, outcome, service = "event", None, None, None
    user = domain = source = destination = transport = None
    named = "user " in message[:512].lower()
    if named and (checked := _AUTHENTICATION.search(message, 0, 512)) is not None:
        what, user, domain, source, verdict, reason = checked.groups()
        kind, category, types = "auth", _LOGONS, ("start",)
        outcome = "success" if verdict.lower() == "accepted" else "failure"
        action = "logged-in" if outcome == "success" else "login-failed"
        service = _service(what)
        if reason.strip(" ,.;-"):
            fields["event.reason"] = reason.strip(" ,.;-")
    elif named and (logon := _LOGON.search(message, 0, 512)) is not None:
        what, user, domain, source, verdict, rest = logon.groups()
        verdict = verdict.lower()
        kind, category = "auth", _LOGONS
        types = ("end",) if verdict.endswith("out") else ("start",)
        outcome = "success" if verdict.endswith((" in", " out")) else "failure"
        action = "login-failed" if outcome == "failure" else "logged-out" if types == ("end",) else "logged-in"
        service = _service(what)
        if source is None and (where := _LOGIN_FROM.search(rest)) is not None:
            source = where[1]
        if (virtual := _VIRTUAL.search(rest)) is not None:
            fields["source.nat.ip"] = virtual[1]
        elif outcome == "failure" and rest.strip(" ,.;-"):
            fields["event.reason"] = rest.strip(" ,.;-")
    elif (tunnel := _TUNNEL.search(message, 0, 512)) is not None:
        source, destination = tunnel.groups()
        kind, category, types = "vpn", _NETWORK, ("connection",)
    elif (lease := _LEASE.search(message, 0, 512)) is not None:
        action, source, mac = lease.groups()
        kind, category, types, transport = "dhcp", _NETWORK, ("connection", "protocol", "info"), "udp"
        fields["network.protocol"] = "dhcp"
        if mac:
            fields["source.mac"] = mac.upper().replace(":", "-")
    return Event(
        at,
        NAME,
        f"watchguard.{kind}",
        category,
        types,
        action,
        outcome,
        number,
        message,
        host,
        user,
        domain,
        source,
        None,
        None,
        destination,
        None,
        None,
        transport,
        program,
        pid,
        service_name=service,
        fields=fields,
    )


def _service(what: str | None) -> str:
    """What a logon is for, from the kind of user that the Firebox names."""
    named = (what or "").strip().lower()
    if "vpn" in named or "ipsec" in named or "l2tp" in named or "ike" in named:
        return "vpn"
    return _SERVICES.get(named.split(" ")[-1], "firewall")


def _fields(log: _Texts) -> dict[str, Any]:
    """The device's own keys and, beside them, their ECS names."""
    fields: dict[str, Any] = dict(log)
    for key, ecs in _NAMED:
        if log.get(key):
            fields[ecs] = log[key]
    if (duration := whole_number(log.get("duration"))) is not None:
        fields["event.duration"] = duration * 1_000_000_000
    if "serial" in log:
        fields["observer.serial_number"] = log["serial"]
    return fields


def _exact(stamp: str, origin: Origin) -> float | None:
    return _read(stamp + "+00:00", origin)


def _local(stamp: str, origin: Origin) -> float | None:
    return _read(stamp.replace(" ", "T"), origin)


def _read(iso: str, origin: Origin) -> float | None:
    at = origin.clock.stamps.get(iso)
    if at is None:
        try:
            at = from_iso(iso, origin.clock)
        except ValueError:  # a time that no calendar has must not hide the event
            return None
        origin.clock.remember(iso, at)
    return at
