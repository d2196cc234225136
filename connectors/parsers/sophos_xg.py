"""Sophos Firewall (SFOS, XG and XGS): the device's standard log and the central reporting format, all log types.

Lines of the older Sophos UTM are read as well, by `sophos_utm`. The device's own keys stay in `fields`; fields are mapped
as Elastic's Sophos integration does, except that a stated time zone is believed.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from connectors.clock import from_epoch, from_iso
from connectors.envelope import ZONES_H, peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.keyvalue import Shapes, pairs
from connectors.parsers import sophos_utm
from connectors.values import TRANSPORTS, whole_number

NAME = "sophos_xg"

HEAD_MAX = 400  # characters in front of the first key
MEANINGS_MAX = 4096  # combinations of type, component, subtype and stage remembered
WORD_MAX = 64  # characters of each
ZONE_MAX = 8  # characters of a time zone's name
_START = re.compile(r'(?:device="?+SFW|device_name="|device_id=|date=\d{4}-|timestamp=")')
_ABSENT = {"", "-", "N/A", "None"}
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")

_NETWORK, _LOGON = ("network",), ("authentication",)
_INTRUSION, _MALWARE = ("intrusion_detection", "network"), ("malware", "network")
_ALLOWED, _DENIED = ("connection", "allowed"), ("connection", "denied")
_REFUSALS = {"denied", "drop", "dropped", "deny", "block", "blocked", "virus", "pua", "reject"}
_REFUSALS |= {"spam", "probable spam", "outbound spam", "outbound probable spam", "dos", "dlp", "reset", "malicious"}
_UNDECIDED = {"detect", "alert", "pending", "warned", "information", "usage", "system", "interim"}
_ATTACKS = {"Heartbeat", "ICMP ERROR MESSAGE", "DoS Attack", "Source Routed", "IP Spoof"}  # components of Firewall
# log type -> kind, category, category when something was refused
_KINDS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "Firewall": ("firewall", _NETWORK, _NETWORK),
    "SSL": ("tls", _NETWORK, _NETWORK),
    "IDP": ("ips", _INTRUSION, _INTRUSION),
    "ATP": ("atp", _INTRUSION, _INTRUSION),
    "Active Threat Response": ("atp", _INTRUSION, _INTRUSION),
    "Anti-Virus": ("antivirus", _NETWORK, _MALWARE),
    "Anti-Spam": ("antispam", ("email", "network"), ("email", "malware", "network")),
    "Content Filtering": ("web", ("web", "network"), ("web", "network")),
    "Application Filtering": ("web", ("web", "network"), ("web", "network")),
    "WAF": ("waf", ("web", "network"), ("web", "intrusion_detection", "network")),
    "Sandbox": ("sandbox", _NETWORK, _MALWARE),
    "Event": ("event", ("host",), ("host",)),
    "System Health": ("health", ("host",), ("host",)),
    "Heartbeat": ("heartbeat", ("host",), ("host",)),
    "Wireless Protection": ("wireless", _NETWORK, _NETWORK),
}
_OTHER = ("other", _NETWORK, _NETWORK)
_LOGOUTS = {"17703", "17706", "17709", "17712", "17715"}
_ADMIN_LOGON = "17507"
_SERVICES = {  # component of an event -> what the logon is for
    "VPN Authentication": "vpn",
    "SSL VPN Authentication": "vpn",
    "SSL VPN": "vpn",
    "IPSec": "vpn",
    "IPsec": "vpn",
    "L2TP": "vpn",
    "PPTP": "vpn",
    "Dial-In Authentication": "vpn",
    "My Account Authentication": "web",
    "User Portal Authentication": "web",
    "WAF Authentication": "web",
    "GUI": "web",
    "CLI": "ssh",
}
_TUNNELS = {"SSL VPN", "IPSec", "IPsec", "L2TP", "PPTP", "RED"}
_SUCCEEDED = {"Successful", "Established", "Connected", "Allow", "Success"}
_FAILED = {"Failed", "Deny", "Failure"}
_ENDED = {"Terminated", "Disconnected", "Release", "Expire"}
_MAIL_PROTOCOLS = {"pop": "pop3", "pops": "pop3s"}
_NAMED = (  # native key -> ECS path, copied as it is; of two with the same path the later wins
    ("device_id", "observer.serial_number"),
    ("device_serial_id", "observer.serial_number"),
    ("in_interface", "observer.ingress.interface.name"),
    ("out_interface", "observer.egress.interface.name"),
    ("srczonetype", "observer.ingress.zone"),
    ("dstzonetype", "observer.egress.zone"),
    ("src_zone_type", "observer.ingress.zone"),
    ("dst_zone_type", "observer.egress.zone"),
    ("fw_rule_id", "rule.id"),
    ("fw_rule_name", "rule.name"),
    ("signature_id", "rule.id"),
    ("signature_msg", "rule.name"),
    ("classification", "rule.category"),
    ("policy_type", "rule.ruleset"),
    ("src_mac", "source.mac"),
    ("dst_mac", "destination.mac"),
    ("tran_src_ip", "source.nat.ip"),
    ("src_trans_ip", "source.nat.ip"),
    ("tran_dst_ip", "destination.nat.ip"),
    ("dst_trans_ip", "destination.nat.ip"),
    ("application", "network.application"),
    ("app_name", "network.application"),
    ("user_gp", "source.user.group.name"),
    ("user_group", "source.user.group.name"),
    ("usergroupname", "source.user.group.name"),
    ("reason", "event.reason"),
    ("domain", "url.domain"),
    ("domainname", "url.domain"),
    ("website", "url.domain"),
    ("method", "http.request.method"),
    ("referer", "http.request.referrer"),
    ("user_agent", "user_agent.original"),
    ("useragent", "user_agent.original"),
    ("filename", "file.name"),
    ("file_name", "file.name"),
    ("sha1sum", "file.hash.sha1"),
    ("virus", "threat.software.name"),
    ("threatname", "threat.software.name"),
    ("from_email_address", "email.from.address"),
    ("sender", "email.from.address"),
    ("to_email_address", "email.to.address"),
    ("recipient", "email.to.address"),
    ("email_subject", "email.subject"),
    ("src_domainname", "source.domain"),
    ("reported_host", "source.domain"),
)
# What an event takes of a line, under one name for what has several; of two in one line the first here counts. Everything
# else waits in `fields` until somebody asks.
_ROLES = {
    key: role
    for role, keys in (
        ("date", "date"),
        ("time", "time"),
        ("timezone", "timezone"),
        ("timestamp", "timestamp"),
        ("device", "device"),
        ("device_name", "device_name"),
        ("code", "log_id"),
        ("type", "log_type"),
        ("component", "log_component"),
        ("subtype", "log_subtype"),
        ("status", "status"),
        ("stage", "connevent con_event"),
        ("user", "user_name user"),
        ("name", "name"),
        ("login", "login_user"),
        ("client", "auth_client"),
        ("message", "message"),
        ("reason", "reason"),
        ("protocol", "protocol"),
        ("source", "src_ip sourceip remoteinterfaceip remote_ip"),
        ("source_port", "src_port"),
        ("destination", "dst_ip destinationip localinterfaceip localip"),
        ("destination_port", "dst_port"),
        ("sent", "sent_bytes bytes_sent bytesrcv"),  # a web server receives what its clients send
        ("received", "recv_bytes bytes_received bytessent"),
        ("url", "url"),
        ("status_code", "status_code httpstatus http_status httpresponsecode"),
        ("file", "file_path"),
        ("origin", "source"),
    )
    for key in keys.split()
}


def sniff(text: str) -> bool:
    return "log_id=" in text and "log_type=" in text and ("log_component=" in text or 'device="SFW"' in text)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    start = _START.search(text, 0, HEAD_MAX)
    code_at = text.find("log_id=")
    if start is None or code_at < 0:
        if sophos_utm.sniff(text):
            return sophos_utm.parse(text, origin)
        raise ParseError("no Sophos log: neither a log_id nor a device")
    at = start.start()
    code = text[code_at + 7 : code_at + 20].strip('" ')
    log = _SHAPES.read(code, text, at)
    if log is None:
        log = _SHAPES.learn(code, text, at)
    if "code" not in log:
        raise ParseError("no Sophos log: the log_id stands inside another value")
    host = peel(text, origin).host if at > len("<191>") else None
    kind = log.get("type", "")
    make = _event if kind == "Event" else _traffic
    return (make(log, text, at, origin, host or (log.get("device_name") if "device" in log else None)),)


def _traffic(log: Mapping[str, str], text: str, at: int, origin: Origin, host: str | None) -> Event:
    """What passed the firewall or did not, and the device's state: every type but events."""
    get = log.get
    kind, category, types, action, outcome = _meaning(
        get("type", "")[:WORD_MAX],
        get("component", "")[:WORD_MAX],
        get("subtype", "")[:WORD_MAX],
        get("stage", "")[:WORD_MAX],
        get("reason", "") in _ABSENT,
    )
    url = get("url")
    protocol = get("protocol", "").strip().lower()
    destination = get("destination")
    if destination is None and kind == "sophos_xg.sandbox" and _ADDRESS.fullmatch(get("origin", "")):
        destination = get("origin")  # where the file is from
    return Event(
        _time(log, origin, text),
        NAME,
        kind,
        category,
        types,
        action,
        outcome,
        log["code"][-5:] or None,  # of its twelve digits; the others repeat type, component, subtype and severity
        get("message") or None,
        host,
        _present(get("user")) or _present(get("login")),
        None,
        _present(get("source")),
        whole_number(get("source_port")),
        whole_number(get("sent")),
        _present(destination),
        whole_number(get("destination_port")),
        whole_number(get("received")),
        TRANSPORTS.get(protocol, protocol) or None,
        None,
        None,
        None,
        None,
        None,
        _present(get("file")),
        _path(url) if url else None,
        whole_number(get("status_code")),
        None,
        Lazy(_fields, text, at),
    )


@lru_cache(maxsize=MEANINGS_MAX)
def _meaning(
    log_type: str, component: str, subtype: str, stage: str, unreasoned: bool
) -> tuple[str, tuple[str, ...], tuple[str, ...], str | None, str | None]:
    """Dataset, category, type, action and outcome."""
    kind, category, category_refused = _KINDS.get(log_type, _OTHER)
    dataset = f"sophos_xg.{kind}"
    action = subtype.lower()
    if kind in {"health", "heartbeat", "wireless"}:
        return dataset, category, ("info",), action or None, None
    if kind == "waf":
        action = "allowed" if unreasoned else "denied"
    refused = action in _REFUSALS
    if refused:
        category = _INTRUSION if kind == "firewall" and component in _ATTACKS else category_refused
    types: tuple[str, ...] = _DENIED if refused else ("connection", "info") if action in _UNDECIDED else _ALLOWED
    if stage == "Start" or (stage == "Interim" and not refused):
        types = (*types, "start")
    elif stage == "Stop":
        types = (*types, "end")
    return dataset, category, types, action or None, "success"


def _event(log: Mapping[str, str], text: str, at: int, origin: Origin, host: str | None) -> Event:
    """Logons, tunnels, changes of the configuration and what else the device reports as an event."""
    get = log.get
    code, status, component = log["code"][-5:], get("status", ""), get("component", "")
    message = get("message", "")
    kind = "event"
    category: tuple[str, ...] = ("host",)
    types: tuple[str, ...] = ("info",)
    action: str | None = status.lower() or get("subtype", "").lower() or None
    outcome = "success" if status in _SUCCEEDED else "failure" if status in _FAILED else None
    service = _SERVICES.get(component)
    if get("subtype") == "Authentication" or code == _ADMIN_LOGON:
        kind, category = "auth", _LOGON
        if code in _LOGOUTS or "logged out" in message:
            types, action = ("end",), "logged-out"
        else:
            types, action = ("start",), "login-failed" if outcome == "failure" else "logged-in"
        if component == "CLI" and "ssh" not in message:
            service = "console"
        service = service or ("vpn" if get("client") in _TUNNELS else "firewall")
    elif component in _TUNNELS:
        kind, category = "vpn", ("network", "session")
        types = ("connection", "end") if status in _ENDED else ("connection", "start") if outcome else ("connection",)
    elif get("subtype") == "Admin":
        kind, category, types = "audit", ("configuration",), ("change",)
    elif component == "Anti-Virus":
        category = ("host", "malware")
    return Event(
        _time(log, origin, text),
        NAME,
        f"sophos_xg.{kind}",
        category,
        types,
        action,
        outcome,
        code or None,
        message=message or None,
        host_name=host,
        user_name=_present(get("name")) or _present(get("user")),
        source_ip=_present(get("source")),
        source_port=whole_number(get("source_port")),
        source_bytes=whole_number(get("sent")),
        destination_ip=_present(get("destination")),
        destination_port=whole_number(get("destination_port")),
        destination_bytes=whole_number(get("received")),
        service_name=service,
        fields=Lazy(_fields, text, at),
    )


def _fields(text: str, at: int) -> dict[str, Any]:
    """The device's own keys and, beside them, their ECS names."""
    log = pairs(text, at)
    fields: dict[str, Any] = dict(log)
    for key, ecs in _NAMED:
        if (value := log.get(key)) is not None and value.strip() not in _ABSENT:
            fields[ecs] = value.strip()
    for key, ecs in (("source.mac", "source.mac"), ("destination.mac", "destination.mac")):
        if key in fields:
            fields[ecs] = fields[key].upper().replace(":", "-")
    if (duration := whole_number(log.get("duration"))) is not None:
        fields["event.duration"] = duration * 1_000_000_000
    for keys, ecs in ((("sent_pkts", "packets_sent"), "source"), (("recv_pkts", "packets_received"), "destination")):
        if (packets := whole_number(log.get(keys[0]) or log.get(keys[1]))) is not None:
            fields[f"{ecs}.packets"] = packets
    if url := log.get("url"):
        if not url.startswith("/"):
            fields["url.original"] = url
        rest, mark, query = url.partition("?")
        if mark or (query := log.get("querystring", "").removeprefix("?")):
            fields["url.query"] = query
        if "://" in rest:
            fields["url.domain"] = rest.split("://", 1)[1].partition("/")[0]
    if log.get("log_type") in {"Anti-Spam", "Anti-Virus", "Content Filtering"}:
        protocol = log.get("log_component", "").lower()
        fields["network.protocol"] = _MAIL_PROTOCOLS.get(protocol, protocol)
    if severity := log.get("priority") or log.get("severity"):
        fields["log.level"] = severity.lower()
    return fields


def _path(url: str) -> str | None:
    """The path of a URL; an address without one has none."""
    if "://" in url:
        _, _, rest = url.split("://", 1)[1].partition("/")
        return "/" + rest.partition("?")[0]
    return url.partition("?")[0] if url.startswith("/") else None


def _present(text: str | None) -> str | None:
    if text is None:
        return None
    text = text.strip()
    return None if text in _ABSENT else text


def _time(log: Mapping[str, str], origin: Origin, text: str) -> float:
    date, time, zone = log.get("date"), log.get("time"), log.get("timezone", "")[:ZONE_MAX]
    stamp = f"{date}T{time}{zone}" if date and time else log.get("timestamp", "")
    at = origin.clock.stamps.get(stamp)
    if at is not None:
        return at
    try:
        if not date or not time:
            return from_epoch(int(stamp)) if stamp.isdigit() and stamp.isascii() else _local(stamp, origin)
        hours = ZONES_H.get(zone)
        if hours is not None:
            at = max(0.0, from_iso(f"{date}T{time}+00:00", origin.clock) - hours * 3600.0)
        elif _OFFSET.fullmatch(zone):
            at = from_iso(f"{date}T{time}{zone}", origin.clock)
        else:
            return _local(f"{date}T{time}", origin, stamp)
    except (ValueError, OverflowError):  # a time that no calendar has must not hide the event
        enveloped = peel(text, origin).timestamp
        return origin.received if enveloped is None else enveloped
    origin.clock.remember(stamp, at)
    return at


_OFFSET = re.compile(r"[+-]\d\d(?::?\d\d)?")


def _local(iso: str, origin: Origin, stamp: str | None = None) -> float:
    at = from_iso(iso, origin.clock)
    origin.clock.remember(stamp or iso, at)
    return at


_SHAPES = Shapes(_ROLES)
