"""SonicWall firewalls (SonicOS 5 to 7) and Secure Mobile Access: `id=firewall sn=... time="..." fw=... m=... src=ip:port:interface`.

The device's own keys stay in `fields` under their own names; `m`, the number of the message, is `event.code`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import whole_number

NAME = "sonicwall"
PAIRS_MAX = 512  # of one line
MESSAGES_MAX = 4096  # texts of messages without a known number, remembered with what they mean
HEAD_CHARS_MAX = 400  # in front of `id=`

_LOG = re.compile(r'(?<![\w.-])id=(?:[^\s"=]++|"[^"]*+") {1,4}sn=')
_PAIR = re.compile(r'(?<![\w.-])([A-Za-z][\w.-]*+)="?+((?<=")[^"]*+|[^\s"]*+)')
# One pass over the pairs in whatever order they stand: the wanted ones in groups, the others skipped.
_BARE = ("src", "dst", "srcV6", "dstV6", "m", "proto", "sent", "rcvd", "sn", "arg", "result")
_SERIAL = _BARE.index("sn") + 1
_QUOTED = ("msg", "time", "usr", "user", "fw_action")
_SCAN = re.compile(
    r"(?:(?:"
    + "|".join(rf'{key}=([^\s"]*+)(?!")' for key in _BARE)
    + "|"
    + "|".join(rf'{key}="([^"]*+)"' for key in _QUOTED)
    + rf'|[\w.-]++=(?:"[^"]*+"|[^\s"]*+)|\S++)\s{{0,8}}+){{0,{PAIRS_MAX}}}'
)
_ABSENT = frozenset(("", "0.0.0.0", "::", "N/A", "Unknown", "unknown"))  # noqa: S104 -- what the device writes for none
_ECS = {  # the device's key -> ECS path, copied as it is
    "fw": "observer.ip",
    "sn": "observer.serial_number",
    "id": "observer.name",
    "n": "event.sequence",
    "rule": "rule.name",
    "sid": "rule.id",
    "ipscat": "rule.category",
    "srcMac": "source.mac",
    "dstMac": "destination.mac",
    "srcZone": "observer.ingress.zone",
    "dstZone": "observer.egress.zone",
    "dstname": "url.domain",
    "appName": "network.application",
    "agent": "user_agent.original",
    "note": "event.reason",
    "Category": "url.category",
    "arg": "url.original",
}
_COUNTS = {"spkt": "source.packets", "rpkt": "destination.packets"}
_DURATIONS = {"dur": 1_000_000_000, "cdur": 1_000_000}  # seconds, milliseconds -> nanoseconds
_METHODS = {"1": "GET", "2": "POST", "3": "HEAD"}
_LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")

_Kind = tuple[str, tuple[str, ...], tuple[str, ...], str | None]
_KINDS: dict[str, _Kind] = {  # action -> dataset, category, type, outcome
    "login-success": ("auth", ("authentication",), ("start",), "success"),
    "login-failure": ("auth", ("authentication",), ("start", "denied"), "failure"),
    "logout": ("auth", ("authentication",), ("end",), "success"),
    "session-start": ("auth", ("session",), ("start",), "success"),
    "session-end": ("auth", ("session",), ("end",), "success"),
    "user-account-created": ("iam", ("iam",), ("user", "creation"), "success"),
    "user-account-deleted": ("iam", ("iam",), ("user", "deletion"), "success"),
    "user-account-changed": ("iam", ("iam",), ("user", "change"), "success"),
    "user-account-enabled": ("iam", ("iam",), ("user", "info"), "success"),
    "user-account-disabled": ("iam", ("iam",), ("user", "info"), "success"),
    "user-account-locked": ("iam", ("iam",), ("user", "info"), "success"),
    "user-account-unlocked": ("iam", ("iam",), ("user", "info"), "success"),
    "config-add": ("config", ("configuration",), ("creation",), "success"),
    "config-change": ("config", ("configuration",), ("change",), "success"),
    "config-delete": ("config", ("configuration",), ("deletion",), "success"),
    "connection-start": ("firewall", ("network",), ("connection", "start"), "success"),
    "connection-end": ("firewall", ("network",), ("connection", "end"), "success"),
    "connection-info": ("firewall", ("network",), ("connection", "info"), "success"),
    "connection-denied": ("firewall", ("network",), ("connection", "denied"), "success"),
    "packet-dropped": ("firewall", ("network",), ("connection", "denied"), "success"),
    "packet-forwarded": ("firewall", ("network",), ("connection", "allowed"), None),
    "packet-management": ("firewall", ("network",), ("connection", "info"), None),
    "attack-detected": ("threat", ("intrusion_detection",), ("info",), "success"),
    "attack-blocked": ("threat", ("intrusion_detection",), ("denied",), "success"),
    "malware-info": ("threat", ("malware",), ("info",), "success"),
    "internal-log-failure": ("system", ("host",), ("info",), "failure"),
    "internal-log-success": ("system", ("host",), ("info",), "success"),
    "web": ("web", ("web",), ("access",), None),
    "vpn": ("vpn", ("network",), ("info",), None),
    "": ("system", ("network",), ("info",), None),
}
_UNNAMED = {"web", "vpn", ""}  # no deeds, only kinds of messages
_NUMBERS = {  # m -> action
    number: action
    for action, numbers in {
        "login-success": "29 31 199 235 236 237 238 1080",
        "login-failure": "30 32 33 34 35 200 243 244 245 246 329 486 549 557 583 744 745 746 747 748 749 750 751 753 754 755"
        " 756 757 759 986 987 988 989 990 991 1035 1048 1117 1118 1119 1120 1121 1122 1123 1243 1517 1572 1585 1655 1672",
        "logout": "24 261 262 263 264 265 520 1008 1124",
        "session-start": "994 996 997",
        "session-end": "550 551 564 995 998",
        "user-account-created": "558 1333",
        "user-account-deleted": "559 562 1158 1335",
        "user-account-changed": "328 1334 1337 1338 1341 1342",
        "user-account-enabled": "561",
        "user-account-disabled": "560 1157 1627",
        "user-account-locked": "1570",
        "user-account-unlocked": "438 439 1571",
        "config-add": "440 1313 1599",
        "config-change": "340 341 441 506 507 508 509 728 729 856 857 858 862 863 1269 1314 1332 1336 1339 1340 1432 1600 1601",
        "config-delete": "442 1315",
        "connection-start": "98",
        "connection-end": "36 537",
        "connection-info": "16 182 188 597 598 1197 1255 1256 1431 1458",
        "connection-denied": "14 173 524 712 713 760 797 798 1198 1199 1474 1475",
        "packet-dropped": "28 37 38 48 63 175 181 339 522 523 580 651 652 653 683 690 694 708 709 883 884 885 886 910 1233"
        " 1253 1254 1257 1301 1302 1303 1304 1384 1385 1429 1430 1433 1436 1448 1449 1628 1629",
        "attack-detected": "25 82 83 177 178 179 546 548 608 789 859 860 879 897 904 905 1098 1195 1213 1214 1316 1363 1369"
        " 1373 1374 1375 1450 1451 1452 1471 1593",
        "attack-blocked": "22 23 27 81 229 267 446 527 528 538 606 609 790 864 898 901 1099 1180 1200 1201 1366 1376 1387"
        " 1476 1477 1518 1519",
        "malware-info": "123 124 125 159 408 482 793 794 795 796 1154 1155 1559 1560 1561 1562 1654",
        "internal-log-failure": "53 93 94 95 164 573 574 599 600 601 1066 1107 1160 1161 1196 1268 1512 1514 1516 1521",
        "internal-log-success": "4 521 1046 1047 1049 1065 1392 1393 1494 1495 1511 1513 1515 1520",
        "web": "97",
    }.items()
    for number in numbers.split()
}
_WORDS = re.compile(  # of messages whose number is not above: the first group that matches says the action
    r"(?i)(?P<login_failure>\blog(?:in|on|ged in)\b.{0,80}?\b(?:denied|fail|incorrect|bad|rejected|time)|\bauthentication\b.{0,40}\bfail)"
    r"|(?P<login_success>\blog(?:in|on)\b.{0,80}?\b(?:allowed|success|accepted)|\blogged in\b)"
    r"|(?P<logout>\blogged out\b|\blogout\b)"
    r"|(?P<attack_blocked>\b(?:attack|spoof|botnet|virus|spyware|intrusion)\b.{0,80}?\b(?:dropped|blocked|prevented))"
    r"|(?P<attack_detected>\battack\b|\bscan\b|\bflood\b|\bspoof|\bbotnet\b|\bvirus\b|\bspyware\b)"
    r"|(?P<packet_dropped>\bdrop(?:ped|s)?\b|\bden(?:y|ied)\b|\bblocked\b)"
    r"|(?P<vpn>\bIKE|\bIPsec\b|\bVPN\b|\bISAKMP\b)"
)
_FIREWALL_ACTIONS = {"forward": "packet-forwarded", "drop": "packet-dropped", "mgmt": "packet-management"}


def sniff(text: str) -> bool:
    return _LOG.search(text, 0, HEAD_CHARS_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    scan = _SCAN.match(text, max(text.find("id="), 0))
    if scan is None or scan[_SERIAL] is None:
        begin = _LOG.search(text)
        scan = None if begin is None else _SCAN.match(text, begin.start())
        if scan is None or scan[_SERIAL] is None:
            raise ParseError("no SonicWall log: it has no id= and sn=")
    src, dst, src_v6, dst_v6, code, proto, sent, received, _, arg, status, message, time, usr, user, deed = (
        scan.groups()
    )
    mobile = text.startswith("id=sslvpn", scan.start())  # Secure Mobile Access: its numbers mean something else
    action = None if mobile or code is None else _NUMBERS.get(code)
    if action is None:
        action = _by_words(message or "")
    if action in _UNNAMED and deed is not None:
        action = _FIREWALL_ACTIONS.get(deed, action)
    dataset, category, types, outcome = _KINDS[action]
    if deed == "drop" and "denied" not in types:
        types = (*types, "denied")
    source, source_port = _end(src, src_v6)
    destination, destination_port = _end(dst, dst_v6)
    domain, _, name = (usr or user or "").rpartition("\\")
    return (
        Event(
            _time(time, text, origin),
            NAME,
            f"sonicwall.{dataset}",
            category,
            types,
            None if action in _UNNAMED else action,
            outcome,
            code or None,
            message or None,
            None,
            None if name in _ABSENT else name,
            domain or None,
            source,
            source_port,
            whole_number(sent),
            destination,
            destination_port,
            whole_number(received),
            proto.partition("/")[0].lower() if proto else None,
            url_path=arg.partition("?")[0] if arg else None,
            http_response_status_code=whole_number(status),
            service_name=_service(text, message or "", mobile=mobile) if dataset == "auth" else None,
            fields=Lazy(_fields, text, scan.start()),
        ),
    )


@lru_cache(maxsize=MESSAGES_MAX)
def _by_words(message: str) -> str:
    said = _WORDS.search(message)
    return "" if said is None or said.lastgroup is None else said.lastgroup.replace("_", "-")


def _service(text: str, message: str, *, mobile: bool) -> str:
    """The door that a logon came through, as the kind of session or the message says it."""
    if mobile or 'sess="sslvpn' in text or 'sess="GVC' in text or "VPN" in message:
        return "vpn"
    return "ssh" if 'sess="CLI' in text or 'sess="SSH' in text or "CLI" in message else "web"


def _end(stated: str | None, v6: str | None) -> tuple[str | None, int | None]:
    """Address and port of `ip:port:interface:name`; with IPv6 the address stands apart, or in brackets."""
    if not stated:
        return v6 or None, None
    if stated[0] == "[":
        address, _, rest = stated[1:].partition("]")
        rest = rest.removeprefix(":")
    elif stated.count(":") > 3 and not v6:
        return stated, None
    else:
        address, _, rest = stated.partition(":")
    return v6 or (None if address in _ABSENT else address), whole_number(rest.partition(":")[0])


def _time(stated: str | None, text: str, origin: Origin) -> float:
    if stated:
        known = origin.clock.stamps.get(stated)
        if known is not None:
            return known
        try:
            if stated.endswith("UTC"):
                return from_iso(stated[:-3].rstrip() + "+00:00", origin.clock)
            at = from_iso(stated, origin.clock)
        except ValueError:
            pass  # a time that no calendar has must not hide the event
        else:
            if len(stated) == len("2026-11-24 06:30:00"):  # without a zone
                origin.clock.remember(stated, at)
            return at
    stamp = peel(text, origin).timestamp
    return origin.received if stamp is None else stamp


def _fields(text: str, begin: int) -> dict[str, Any]:
    log: dict[str, str] = dict(_PAIR.findall(text, begin))
    fields: dict[str, Any] = dict(log)
    for key, path in _ECS.items():
        value = log.get(key)
        if value is not None and value not in _ABSENT:
            fields[path] = value
    for key, path in _COUNTS.items():
        if (count := whole_number(log.get(key))) is not None:
            fields[path] = count
    for key, scale in _DURATIONS.items():
        if (duration := whole_number(log.get(key))) is not None:
            fields["event.duration"] = duration * scale
    level = whole_number(log.get("pri"))
    if level is not None and level < len(_LEVELS):
        fields["log.level"] = _LEVELS[level]
    if (method := _METHODS.get(log.get("op", ""))) is not None:
        fields["http.request.method"] = method
    for side, key, way in (("source", "src", "ingress"), ("destination", "dst", "egress")):
        parts = log.get(key, "").split(":")
        if 2 < len(parts) < 5:
            if parts[2]:
                fields[f"observer.{way}.interface.name"] = parts[2]
            if len(parts) == 4 and parts[3]:
                fields[f"{side}.domain"] = parts[3]
        address, port = _end(log.get(f"nat{key.capitalize()}"), log.get(f"nat{key.capitalize()}V6"))
        if address is not None:
            fields[f"{side}.nat.ip"] = address
        if port is not None:
            fields[f"{side}.nat.port"] = port
    return fields
