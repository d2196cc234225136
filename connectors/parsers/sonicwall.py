"""SonicWall SonicOS: `id=firewall sn=... time="..." fw=... pri=... c=... m=... msg="..." src=ip:port:interface ...`.

The device's own keys stay in `fields` under their own names; `m`, the number of the message, is `event.code`.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "sonicwall"

_PAIR = re.compile(r'(?<![^\s"])([A-Za-z][\w.-]*+)=(?:"([^"]*+)"|([^\s"]*+))')
_LOG = re.compile(r"(?<!\w)id=\w++ {1,4}sn=")
_ABSENT = frozenset(("", "0.0.0.0", "::", "N/A", "Unknown"))  # noqa: S104 -- what the device writes for none
_ECS = {
    "fw": "observer.ip",
    "sn": "observer.serial_number",
    "rule": "rule.name",
    "sid": "rule.id",
    "ipscat": "rule.category",
    "srcMac": "source.mac",
    "dstMac": "destination.mac",
    "srcZone": "observer.ingress.zone",
    "dstZone": "observer.egress.zone",
    "natSrc": "source.nat.ip",
    "natDst": "destination.nat.ip",
    "dstname": "url.domain",
    "appName": "network.application",
    "spkt": "source.packets",
    "rpkt": "destination.packets",
    "result": "http.response.status_code",
    "agent": "user_agent.original",
    "note": "event.reason",
}
_Kind = tuple[str, tuple[str, ...], tuple[str, ...], str | None, str | None]
_NUMBERS: dict[str, _Kind] = {  # m -> dataset, category, type, action, outcome
    "14": ("firewall", ("network",), ("connection", "denied"), "connection-denied", "success"),
    "29": ("auth", ("authentication",), ("start",), "login-success", "success"),
    "30": ("auth", ("authentication",), ("start",), "login-failure", "failure"),
    "31": ("auth", ("authentication",), ("start",), "login-success", "success"),
    "32": ("auth", ("authentication",), ("start",), "login-failure", "failure"),
    "33": ("auth", ("authentication",), ("start",), "login-failure", "failure"),
    "35": ("auth", ("authentication",), ("start",), "login-failure", "failure"),
    "36": ("firewall", ("network",), ("denied",), "packet-dropped", "success"),
    "37": ("firewall", ("network",), ("denied",), "packet-dropped", "success"),
    "38": ("firewall", ("network",), ("denied",), "packet-dropped", "success"),
    "53": ("system", ("host",), ("info",), "internal-log-failure", "failure"),
    "82": ("threat", ("intrusion_detection",), ("info",), "attack-detected", "success"),
    "83": ("threat", ("intrusion_detection",), ("info",), "attack-detected", "success"),
    "97": ("web", ("network", "web"), ("info",), None, None),
    "98": ("firewall", ("network",), ("connection", "start"), "connection-start", "success"),
    "262": ("auth", ("authentication",), ("end",), "logout", "success"),
    "264": ("auth", ("authentication",), ("end",), "logout", "success"),
    "267": ("threat", ("intrusion_detection",), ("denied",), "attack-blocked", "success"),
    "537": ("firewall", ("network",), ("connection", "end"), "connection-end", "success"),
    "608": ("threat", ("intrusion_detection",), ("info",), "attack-detected", "success"),
    "609": ("threat", ("intrusion_detection",), ("denied",), "attack-blocked", "success"),
    "994": ("auth", ("session",), ("start",), "session-start", "success"),
    "995": ("auth", ("session",), ("start",), "session-start", "success"),
    "996": ("auth", ("session",), ("start",), "session-start", "success"),
    "997": ("auth", ("session",), ("end",), "session-end", "success"),
    "998": ("auth", ("session",), ("end",), "session-end", "success"),
    "1080": ("auth", ("authentication",), ("start",), "login-success", "success"),
    "1197": ("firewall", ("network",), ("connection", "info"), "connection-info", "success"),
    "1235": ("firewall", ("network",), ("info",), "packet-forwarded", None),
}
_WORDS: tuple[tuple[re.Pattern[str], _Kind], ...] = (  # of messages without a line above
    (
        re.compile(r"(?i)\b(?:log ?in|logon|authentication)\b.{0,60}\b(?:denied|fail|incorrect|bad|rejected|timeout)"),
        ("auth", ("authentication",), ("start",), "login-failure", "failure"),
    ),
    (
        re.compile(r"(?i)\b(?:log ?in|logon|authentication)\b.{0,60}\b(?:allowed|success|accepted)"),
        ("auth", ("authentication",), ("start",), "login-success", "success"),
    ),
    (re.compile(r"(?i)logged out|logout"), ("auth", ("authentication",), ("end",), "logout", "success")),
    (
        re.compile(r"(?i)attack|scan|flood|spoof|intrusion|virus|spyware|botnet|malformed"),
        ("threat", ("intrusion_detection",), ("info",), "attack-detected", "success"),
    ),
    (re.compile(r"(?i)drop|den(?:y|ied)|block"), ("firewall", ("network",), ("denied",), "packet-dropped", "success")),
    (re.compile(r"(?i)\bike|ipsec|vpn|sa\b"), ("vpn", ("network",), ("info",), None, None)),
)
_NONE: _Kind = ("log", ("network",), ("info",), None, None)


def sniff(text: str) -> bool:
    return _LOG.search(text, 0, 400) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    log = {key: quoted or plain for key, quoted, plain in _PAIR.findall(text)}
    get = log.get
    code = get("m")
    if "sn" not in log or "id" not in log:
        raise ParseError("no SonicOS log: it has no id= and sn=")
    message = get("msg") or ""
    dataset, category, types, action, outcome = _NUMBERS.get(code or "") or _by_words(message)
    if get("fw_action") == "drop" and "denied" not in types:
        types = ("denied",)
    source, source_port = _end(get("src"), get("srcV6"))
    destination, destination_port = _end(get("dst"), get("dstV6"))
    proto = get("proto")
    user = get("usr") or get("user")
    arg = get("arg")
    failed = dataset == "auth" and outcome == "failure"
    return (
        Event(
            _time(get("time"), text, origin),
            NAME,
            f"sonicwall.{dataset}",
            category,
            (*types, "denied") if failed else types,
            action,
            outcome,
            code,
            message or None,
            None,
            None if user is None or user in _ABSENT else user.rpartition("\\")[2],
            None,
            source,
            source_port,
            _number(get("sent")),
            destination,
            destination_port,
            _number(get("rcvd")),
            None if not proto else proto.partition("/")[0].lower(),
            url_path=arg or None,
            service_name=_service(log) if dataset == "auth" else None,
            fields=Lazy(_fields, log),
        ),
    )


def _by_words(message: str) -> _Kind:
    return next((kind for pattern, kind in _WORDS if pattern.search(message)), _NONE)


def _service(log: dict[str, str]) -> str:
    said = f"{log.get('sess', '')} {log.get('msg', '')}".lower()
    if "vpn" in said or "zone remote" in said:
        return "vpn"
    return "ssh" if "cli" in said or "ssh" in said else "web"


def _end(stated: str | None, v6: str | None) -> tuple[str | None, int | None]:
    """Address and port of `ip:port:interface:name`."""
    if not stated:
        return v6 or None, None
    if stated.count(":") > 3 and not v6:  # a bare IPv6 address
        return stated, None
    address, _, rest = stated.partition(":")
    return v6 or (None if address in _ABSENT else address), _number(rest.partition(":")[0])


def _time(stated: str | None, text: str, origin: Origin) -> float:
    if stated:
        known = origin.clock.stamps.get(stated)
        if known is not None:
            return known
        try:
            if stated.endswith("UTC"):
                return from_iso(stated[:-3].rstrip() + "+00:00", origin.clock)
            at = from_iso(stated, origin.clock)
            origin.clock.remember(stated, at)
        except ValueError:
            pass  # a time that no calendar has must not hide the event
        else:
            return at
    stamp = peel(text, origin).timestamp
    return origin.received if stamp is None else stamp


def _fields(log: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = dict(log)
    for key, path in _ECS.items():
        value = log.get(key)
        if value is not None and value not in _ABSENT:
            fields[path] = value
    for side, key in (("source", "src"), ("destination", "dst")):
        parts = log.get(key, "").split(":")
        if len(parts) == 4 and parts[3]:
            fields[f"{side}.domain"] = parts[3]
    if "arg" in log:
        fields["url.original"] = log["arg"]
    return fields


def _number(text: str | None) -> int | None:
    if text is None or not text.isdigit() or not text.isascii() or len(text) > 18:
        return None
    return int(text)
