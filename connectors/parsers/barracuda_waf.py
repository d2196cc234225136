"""Barracuda Web Application Firewall: its web firewall, access, audit, network firewall and system logs in the default format.

`2026-11-24 05:00:00.123 +0100  waf1 WF ALER SQL_INJECTION_IN_PARAM 192.0.2.7 51022 10.20.3.7 443 ...`, with or without a
syslog header in front.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from connectors.events import Event, Origin, ParseError
from connectors.values import TRANSPORTS, is_address, url_path, whole_number

NAME = "barracuda_waf"

HEAD_CHARS_MAX = 200  # of a syslog header in front
WORDS_MAX = 128  # of one line

_HEAD = re.compile(
    r"(?:^|[\s>=])(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{1,6}) ([+-]\d\d:?\d\d) {1,3}(\S{1,255}) (WF|TR|AUDIT|NF|SYS) "
)
_WORDS = re.compile(r'"((?:[^"\\]++|\\.)*+)"|(\S+)', re.DOTALL)
_DETAIL = re.compile(r" \[(.*)\] (?=[A-Z]{3,16} )", re.DOTALL)
_LOCKED = re.compile(r"locked for user (\S{1,128})")
_LOGON = re.compile(r"(?i)log-?(in|on|out|off)")
_LEVELS = {
    "EMER": "emergency",
    "ALER": "alert",
    "CRIT": "critical",
    "ERRO": "error",
    "WARN": "warning",
    "NOTI": "notice",
}
_LEVELS |= {"INFO": "informational", "DEBU": "debug"}
_ABSENT = frozenset({"-", "", '"-"'})
_DENIED, _ALLOWED = ("access", "denied"), ("access", "allowed")


def sniff(text: str) -> bool:
    return _HEAD.search(text, 0, HEAD_CHARS_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:  # noqa: ARG001  its times state their zone
    head = _HEAD.search(text, 0, HEAD_CHARS_MAX)
    if head is None:
        raise ParseError("no log of a Barracuda WAF: no time, unit and kind (WF, TR, AUDIT, NF, SYS) at its beginning")
    stamp, zone, unit, kind = head.groups()
    try:
        moment = datetime.fromisoformat(f"{stamp}{zone}")
        at = moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise ParseError(f"no such time: {stamp} {zone}") from error
    if not 1970 <= moment.year < 2200:
        raise ParseError(f"no time of a log line: {stamp}")
    body = text[head.end() :]
    return (_READERS[kind](body, at, unit),)


def _words(body: str) -> list[str | None]:
    """Columns; None where there is nothing in one. Padded, so that each kind can take as many as it has."""
    found: list[str | None] = []
    parts = body.split('"', WORDS_MAX)
    if len(parts) & 1 and len(parts) <= WORDS_MAX and "\\" not in body:  # the usual line: by splits
        outside = True
        for part in parts:
            if not outside:
                found.append(None if part in _ABSENT else part)
            else:
                found += [None if word in _ABSENT else word for word in part.split()]
            outside = not outside
        if not any(part and not part[-1].isspace() for part in parts[:-1:2]):  # no quote within a word
            return found[:WORDS_MAX] + [None] * 40
        found = []
    for match in _WORDS.finditer(body):
        word = match[1] if match[1] is not None else match[2]
        found.append(None if word in _ABSENT else word)
        if len(found) >= WORDS_MAX:
            break
    return found + [None] * 40


def _attack(body: str, at: float, unit: str) -> Event:
    """Web firewall: severity, attack, client, service, rule, its kind, action, follow-up, [detail], request."""
    detail = _DETAIL.search(body)
    before, after = (body[: detail.start()], body[detail.end() :]) if detail is not None else (body, "")
    level, attack, client, cport, service, sport, rule, rule_kind, action, follow = _words(before)[:10]
    method, url, protocol, _session, agent, proxied, proxy_port, user, referrer = _words(after)[:9]
    denied = action is not None and action.upper() == "DENY"
    return Event(
        at,
        NAME,
        "barracuda_waf.attack",
        ("network", "intrusion_detection"),
        _DENIED if denied else _ALLOWED,
        action.lower() if action else None,
        None,
        attack,
        detail[1] if detail is not None else body,
        unit,
        user,
        None,
        _address(client),
        _port(cport),
        None,
        _address(service),
        _port(sport),
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        _path(url),
        None,
        "web",
        _fields(
            unit,
            level,
            (
                ("event.kind", "alert"),
                ("rule.name", attack),
                ("rule.ruleset", rule),
                ("rule.category", rule_kind),
                ("event.reason", follow),
                ("http.request.method", method),
                ("url.original", url),
                ("network.protocol", protocol.lower() if protocol else None),
                ("user_agent.original", agent),
                ("http.request.referrer", referrer),
                ("network.forwarded_ip", proxied if proxied != client else None),
                ("ProxyPort", proxy_port),
            ),
        ),
    )


def _access(body: str, at: float, unit: str) -> Event:
    words = _words(body)
    service, sport, client, cport, login, _cert, method, _, host, version, status, sent, received = words[:13]
    server, url, query, referrer, agent = words[15], words[23], words[24], words[25], words[27]
    user = login or words[30]
    code = _status(status)
    return Event(
        at,
        NAME,
        "barracuda_waf.access",
        ("web",),
        ("access",),
        None,
        None if code is None else "success" if code < 400 else "failure",
        None,
        body,
        unit,
        user,
        None,
        _address(client),
        _port(cport),
        whole_number(received),
        _address(service),
        _port(sport),
        whole_number(sent),
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        _path(url),
        code,
        "web",
        _fields(
            unit,
            None,
            (
                ("http.request.method", method),
                ("http.version", version.rpartition("/")[2] if version else None),
                ("url.domain", host),
                ("url.original", url),
                ("url.query", query),
                ("http.request.referrer", referrer),
                ("user_agent.original", agent),
                ("ServerIP", server),
            ),
        ),
    )


def _audit(body: str, at: float, unit: str) -> Event:
    """Who did what in the interface: administrator, client, address, port, transaction, its number, command, object."""
    admin, client, address, port, transaction, number, command, change, kind, name = _words(body)[:10]
    logon = _LOGON.search(transaction or "")
    category: tuple[str, ...] = ("configuration",)
    types: tuple[str, ...] = ("change",)
    outcome = None
    if logon is not None:
        category, types = ("authentication",), ("end",) if logon[1].lower() in {"out", "off"} else ("start",)
        failed = "UNSUCCESSFUL" in body.upper() or "FAIL" in body.upper()
        outcome = "failure" if failed else "success"
        types = (*types, "denied") if failed else types
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="barracuda_waf.audit",
        event_category=category,
        event_type=types,
        event_action=transaction.lower() if transaction else None,
        event_outcome=outcome,
        message=body,
        host_name=unit,
        user_name=admin,
        source_ip=_address(address),
        source_port=_port(port),
        service_name="web",
        fields=_fields(
            unit,
            None,
            (
                ("Client", client),
                ("TransactionID", number),
                ("Command", command),
                ("ChangeType", change),
                ("ObjectType", kind),
                ("ObjectName", name),
            ),
        ),
    )


def _packet(body: str, at: float, unit: str) -> Event:
    level, protocol, source, sport, destination, dport, action, rule = _words(body)[:8]
    denied = action is not None and action.upper() != "ALLOW"
    low = (protocol or "").lower()
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="barracuda_waf.firewall",
        event_category=("network",),
        event_type=("connection", "denied") if denied else ("connection", "allowed"),
        event_action=action.lower() if action else None,
        message=body,
        host_name=unit,
        source_ip=_address(source),
        source_port=_port(sport),
        destination_ip=_address(destination),
        destination_port=_port(dport),
        network_transport=TRANSPORTS.get(low, low) or None,
        fields=_fields(unit, level, (("rule.name", rule),)),
    )


def _system(body: str, at: float, unit: str) -> Event:
    module, level, code, *_ = _words(body)
    message = body.split(" ", 3)[-1]
    locked = _LOCKED.search(message)
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="barracuda_waf.system",
        event_category=("iam",) if locked is not None else ("host",),
        event_type=("user", "change") if locked is not None else ("info",),
        event_action="account-locked" if locked is not None else None,
        event_code=code,
        message=message,
        host_name=unit,
        user_name=locked[1] if locked is not None else None,
        process_name=module,
        fields=_fields(unit, level, ()),
    )


_READERS = {"WF": _attack, "TR": _access, "AUDIT": _audit, "NF": _packet, "SYS": _system}


def _fields(unit: str, level: str | None, about: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
    fields: dict[str, Any] = {"observer.vendor": "Barracuda", "observer.type": "waf", "observer.name": unit}
    if level is not None:
        fields["log.level"] = _LEVELS.get(level[:4].upper(), level.lower())
    return fields | {key: value for key, value in about if value is not None}


def _address(text: str | None) -> str | None:
    return text if text is not None and is_address(text) else None


def _port(text: str | None) -> int | None:
    port = whole_number(text)
    return port if port is not None and port <= 65_535 else None


def _status(text: str | None) -> int | None:
    code = whole_number(text)
    return code if code is not None and 100 <= code < 600 else None


def _path(url: str | None) -> str | None:
    """The path of a URL that may begin with its host."""
    if url is None:
        return None
    return url_path(url) or ("/" + url.partition("/")[2].partition("?")[0] if "/" in url else None)
