"""Check Point logs as the Log Exporter sends them: `[action:"Drop"; src:"..."; ...]`, `[Fields@... key="value"]`, `key=value|`.

The device's own keys stay in `fields` under their own names; the mapping is Elastic's.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "checkpoint"

_PAIR = re.compile(r'([A-Za-z_][\w .-]{0,63}+)::?"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_FIELDS = re.compile(r'([A-Za-z_][\w.-]{0,63}+)="((?:[^"\\]|\\.)*+)"', re.DOTALL)
_BARS = re.compile(r"(?:^|[|;]) ?([A-Za-z_][\w.-]{0,63}+)[=:] ?([^|;]*+)")
_ESCAPE = re.compile(r'\\([\\\]"])')
_HEAD = re.compile(r"(?:<\d{1,3}>)?(?:1 )?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(Z|[+-]-?\d{1,2}:?\d\d)? (\S{1,255}) ")
_TOLD = (' [action:"', ' [flags:"', "CheckPoint ", "[Fields@1.3.6.1.4.1.2620", "CP-GW")
_ABSENT = frozenset(("", "0.0.0.0", "::"))  # noqa: S104 -- what the device writes for none
_TRANSPORT = {
    "1": "icmp",
    "6": "tcp",
    "17": "udp",
    "47": "gre",
    "50": "esp",
    "51": "ah",
    "58": "ipv6-icmp",
    "132": "sctp",
}
_DENYING = {"drop", "reject", "block", "prevent", "quarantine", "deauthorize", "ask user"}
_ALLOWING = {"accept", "allow", "authorize", "bypass", "inspect", "detect", "decrypt", "encrypt", "key install"}
_LOGONS = {
    "log in": ("logged-in", "success"),
    "failed log in": ("logon-failed", "failure"),
    "log out": ("logged-out", "success"),
    "forced log out": ("logged-out", "success"),
    "update": ("update", "success"),
}
_ECS = {
    "origin": "observer.ip",
    "ifname": "observer.ingress.interface.name",
    "inzone": "observer.ingress.zone",
    "outzone": "observer.egress.zone",
    "product": "observer.product",
    "rule_name": "rule.name",
    "rule": "rule.id",
    "rule_uid": "rule.uuid",
    "layer_name": "rule.ruleset",
    "protection_name": "rule.name",
    "xlatesrc": "source.nat.ip",
    "xlatedst": "destination.nat.ip",
    "xlatesport": "source.nat.port",
    "xlatedport": "destination.nat.port",
    "appi_name": "network.application",
    "severity": "log.level",
    "loguid": "event.id",
    "sequencenum": "event.sequence",
    "file_md5": "file.hash.md5",
    "file_sha256": "file.hash.sha256",
    "mac_address": "source.mac",
    "dst_user_name": "destination.user.name",
    "reason": "event.reason",
    "user_agent": "user_agent.original",
    "method": "http.request.method",
    "resource": "url.original",
}


def sniff(text: str) -> bool:
    head = text[:400]
    return any(mark in head for mark in _TOLD[2:]) or (_TOLD[0] in head and '"; ' in head)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = text.find("[")
    log = dict(_PAIR.findall(text, begin)) if begin >= 0 else {}
    if not log and begin >= 0:
        log = dict(_FIELDS.findall(text, begin))
    if not log:
        log = dict(_BARS.findall(text))
    log = {key.strip(): _ESCAPE.sub(r"\1", value) if "\\" in value else value for key, value in log.items()}
    if not log or not (_TOLD[2] in text or not log.keys().isdisjoint(("loguid", "product", "origin", "service_id"))):
        raise ParseError("no Check Point log: no key:value list of one")
    head = _HEAD.match(text)
    get = log.get
    action = get("action") or get("rule_action") or None
    act = (action or "").lower()
    product = get("product") or ""
    category: tuple[str, ...] = ("network",)
    types: tuple[str, ...] = ("info",)
    outcome = service = None
    dataset = "firewall"
    source = get("src") or get("endpoint_ip") or get("client_ip") or get("source_ip")
    user = get("src_user_name") or get("user") or get("administrator") or get("source_user_name")
    logon = _LOGONS.get(act) or _LOGONS.get((get("operation") or "").lower())
    if logon is not None and ("log" in act or "log" in (get("operation") or "").lower()):
        shown, outcome = logon
        category, dataset = ("network", "authentication"), "auth"
        if act in _LOGONS:
            action = shown
        if (get("auth_status") or "").lower().startswith(("failed", "unsuccessful")) or "fail" in (
            get("status") or ""
        ).lower():
            outcome = "failure"
        stage = "end" if shown == "logged-out" else "start"
        types = (stage, "denied") if outcome == "failure" else (stage, "allowed")
        service = (
            "vpn" if product in {"Connectra", "Mobile Access", "VPN-1 & FireWall-1", "Endpoint Security VPN"} else "web"
        )
    elif act in _DENYING:
        types = ("connection", "denied")
    elif act in _ALLOWING:
        types, outcome = ("allowed", "connection"), "success"
    if "attack" in log or "protection_name" in log or "malware_action" in log:
        category, dataset = ("network", "intrusion_detection"), "threat"
    proto = get("proto")
    resource = get("resource")
    return (
        Event(
            _time(log, head, text, origin),
            NAME,
            f"checkpoint.{dataset}",
            category,
            types,
            action,
            outcome,
            None,
            get("sys_message") or get("message_info") or get("description") or get("additional_info") or None,
            get("src_machine_name") or (head[3] if head is not None else None),
            _login(user) if user else None,
            get("domain_name") or None,
            None if source is None or source in _ABSENT else source,
            _number(get("s_port")),
            _number(get("client_outbound_bytes") or get("sent_bytes")),
            None if get("dst") in _ABSENT else get("dst"),
            _number(get("service")),
            _number(get("client_inbound_bytes") or get("received_bytes")),
            None if not proto else _TRANSPORT.get(proto) or proto.lower(),
            file_path=get("file_name") or None,
            url_path=_path(resource) if resource else None,
            service_name=service,
            fields=Lazy(_fields, log),
        ),
    )


def _login(user: str) -> str:
    """`Marie Keller (m.keller)` is m.keller."""
    name, _, inside = user.partition(" (")
    return inside.rstrip(")") or name


def _time(log: dict[str, str], head: re.Match[str] | None, text: str, origin: Origin) -> float:
    stated = log.get("time")
    try:
        if stated and stated.isdigit() and stated.isascii() and len(stated) <= 19:
            return from_epoch(int(stated))
        if head is not None:
            return from_iso(head[1] + _zone(head[2] or ""), origin.clock)
    except (ValueError, OverflowError):
        pass  # a time that no calendar has must not hide the event
    stamp = peel(text, origin).timestamp
    return origin.received if stamp is None else stamp


def _zone(stated: str) -> str:
    """`--5:00`, as some releases write it, is five hours behind."""
    if not stated or stated == "Z":
        return stated
    hours, minutes = stated[1:].lstrip("-").replace(":", "").zfill(4)[:2], stated[-2:]
    return f"{'-' if '-' in stated else '+'}{hours}:{minutes}"


def _fields(log: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {key: value for key, value in log.items() if value != ""}
    for key, path in _ECS.items():
        value = log.get(key)
        if value is not None and value not in _ABSENT:
            fields[path] = value
    way = log.get("ifdir")
    if way:
        fields["network.direction"] = way
    return fields


def _path(url: str) -> str:
    rest = url.partition("://")[2] or url
    return "/" + rest.partition("/")[2].partition("?")[0]


def _number(text: str | None) -> int | None:
    if text is None or not text.isdigit() or not text.isascii() or len(text) > 18:
        return None
    return int(text)
