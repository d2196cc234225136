"""DHCP servers: ISC dhcpd (and dhclient), Kea in text, JSON or its legal log, and Windows DHCP's audit log (CSV).

The leased address is `source.ip`, the client's hardware address `source.mac`, whichever server wrote the line.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import from_epoch, from_iso
from connectors.envelope import ZONES_H, peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.tolerant_json import decode

NAME = "dhcp"

COLUMNS_MAX = 24  # of a Windows audit line

_MAC = r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}(?![\w:])"
_IP4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_IP6 = r"(?:(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[0-9A-Fa-f:]{0,35}::[0-9A-Fa-f:.]{0,39})"
_IP = rf"(?:{_IP4}|{_IP6})"
_KEA_WORD = r"(?:DHCP[46]|DHCP|ALLOC_ENGINE|DHCPSRV|DHCP_DDNS|HOSTS|HOST_CACHE|COMMAND|HA|LEASE_CMDS|DCTL|DDNS|LEGAL_LOG|EVAL|FLEX|LEASE|RADIUS|PACKET)"
_KEA_ID = rf"{_KEA_WORD}_[A-Z0-9_]{{3,64}}"
_KEA_LEVEL = r"(?:FATAL|ERROR|WARN|INFO|DEBUG)"
_SNIFF = re.compile(
    r"(?:^|[ />])(?:dhcpd6?|dhclient6?|kea-[\w-]{1,24})(?:\[\d{1,10}\]:? |: | \d{1,10} - )(?!msg_id=)"
    rf"|(?:^|\s){_KEA_LEVEL} {{1,2}}(?:\[kea-[\w./-]{{1,64}}\] )?{_KEA_ID}\b"
    r"|[: ]\d{1,5},\d\d/\d\d/\d\d,\d\d:\d\d:\d\d,[^,]{1,64},[^,]{0,45},[^,]{0,255},[^,]{0,40},"
    r"|Address: ?\S{3,45} has been (?:assigned|renewed|released)"
)
_WINDOWS = re.compile(
    r'"?(\d{1,5})"?,(\d{1,2}/\d{1,2}/\d{2,4}|\d{4}-\d\d-\d\d|\d{1,2}\.\d{1,2}\.\d{2,4}),(\d{1,2}:\d\d:\d\d),(.*)',
    re.DOTALL,
)
_JSON = re.compile(rf'"{_KEA_ID}[" ]|"[^"]{{0,64}}kea-(?:dhcp|ctrl|lfc)')
_WORD = re.compile(r"(DHCP[A-Z]{3,12}|BOOTREQUEST|BOOTREPLY)(?: (?:on|for|of|from|to|via))?(?= |$)")
_MESSAGE = re.compile(
    rf"(?:DHCP[A-Z]{{3,12}}|BOOTREQUEST|BOOTREPLY)(?: (?:on|for|of|from|to))?(?: ({_IP}))?(?: \(({_IP})\))?(?: \(({_MAC})\))?"
    rf"(?: (?:to|from|on))?(?: ({_IP}|(?:[\w.:-]{{1,64}}(?= to ))))?(?: ?({_MAC}))?(?: \(([^()]{{0,255}})\))?"
    r"(?: via (\S{1,64}?))?(?:(?: TransID \w{1,16})?(?:: (.{1,512}))?| \((?:found|not found)\).{0,512}| .{0,512})?",
    re.DOTALL,
)
_USUAL = re.compile(  # the same for IPv4, as nearly every line is
    rf"(DHCP[A-Z]{{3,12}}) (?:on|for|of|from)(?: ({_IP4}))?(?: \(({_IP4})\))?(?: (?:to|from))?"
    r"(?: ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}))(?: \(([^()]{0,255})\))? via ([^\s:]{1,64})(?: \((?:not )?found\))?"
)
_SIX = re.compile(
    rf"([A-Z][A-Za-z-]{{2,24}}) message from ({_IP}) port (\d{{1,5}})(?:, transaction ID (\w{{1,16}}))?"
    rf"|(Sending \S{{1,24}}) to ({_IP}) port (\d{{1,5}})"
    rf"|([A-Z][A-Za-z-]{{2,24}}) (?:NA|TA|PD): (?:address|prefix) ({_IP})(?:/\d{{1,3}})? to client with duid (\S{{1,400}})"
)
_CLIENT = re.compile(
    rf"(DHCP[A-Z]{{3,12}}|bound)(?: (?:for|of))?(?: (?:to )?({_IP}))?(?: on (\S{{1,64}}))?(?: (?:to|from) ({_IP}))?(?: port (\d{{1,5}}))?"
)
_KEA = re.compile(
    rf"(?:({_KEA_LEVEL}) {{1,2}})?(?:\[([^\]\s/]{{1,64}})(?:/([\d.]{{1,32}}))?\] )?({_KEA_ID})(?: (.*))?", re.DOTALL
)
_KEA_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,9})?)(?: (?!FATAL|ERROR|WARN|INFO|DEBUG)([A-Z]{1,5}))? "
)
_KEA_MAC = re.compile(rf"hwtype=\d{{1,3}} ({_MAC})")
_KEA_CID = re.compile(r"(?:cid|duid)=\[([0-9a-f:]{2,400})\]")
_KEA_TID = re.compile(r"tid=(0x[0-9a-f]{1,16})")
_KEA_LEASE = re.compile(rf"(?:lease(?: for address)?|address|Address:|addr|prefix) ?({_IP})")
_KEA_PACKET = re.compile(
    rf"(?:packet )?(DHCP[A-Z]{{3,12}}|[A-Z]{{4,20}}) \(type \d{{1,3}}\) (?:received )?from ({_IP})(?::(\d{{1,5}}))? to ({_IP})(?::(\d{{1,5}}))? on interface (\S{{1,64}})"
)
_LEGAL = re.compile(rf"Address: ?({_IP}) has been (\w{{1,16}})")
_DDNS = re.compile(r"(?:forward|reverse) map from (\S{1,255}) to (\S{1,255})")
_ANY_IP = re.compile(rf"(?<![\w.:/]){_IP}(?!\w|[.:]\w)")
_ANY_MAC = re.compile(rf"(?<![\w:]){_MAC}")

_NETWORK: tuple[str, ...] = ("network",)
_INFO: tuple[str, ...] = ("info",)
_EXCHANGE: tuple[str, ...] = ("connection", "protocol")
_LEASED: tuple[str, ...] = ("connection", "start")
_RELEASED: tuple[str, ...] = ("connection", "end")
_DENIED: tuple[str, ...] = ("connection", "denied")
_ENDS: dict[str, tuple[tuple[str, ...], str | None]] = {  # messages that settle something -> type, outcome
    "DHCPACK": (_LEASED, "success"),
    "bound": (_LEASED, "success"),
    "DHCPRELEASE": (_RELEASED, "success"),
    "DHCPEXPIRE": (_RELEASED, "success"),
    "DHCPNAK": (_DENIED, "failure"),
    "DHCPDECLINE": (_DENIED, "failure"),
}
_REFUSALS = (
    "no free leases",
    "wrong network",
    "unknown lease",
    "unavailable",
    "unknown client",
    "ignored",
    "abandoned",
    "not authoritative",
    "banned",
    "rejecting",
)
_KEA_OUTCOMES = (  # end of a Kea message id -> type, outcome
    ("LEASE_ALLOC", _LEASED, "success"),
    ("LEASE_RENEW", _LEASED, "success"),
    ("LEASE_REUSE", _LEASED, "success"),
    ("LEASE_REUSED", _LEASED, "success"),
    ("RELEASE", _RELEASED, "success"),
    ("RELEASE_NA", _RELEASED, "success"),
    ("LEASE_EXPIRED", _RELEASED, "success"),
)
_KEA_FAILED = (
    "FAIL",
    "NAK",
    "DENIED",
    "REJECT",
    "ERROR",
    "NO_LEASE",
    "DECLINE",
    "DROP",
    "BAD",
    "INVALID",
    "UNKNOWN",
    "CONFLICT",
)
_WINDOWS_CODES: dict[int, tuple[str, tuple[str, ...], str | None]] = {
    0: ("log-started", _INFO, None),
    1: ("log-stopped", _INFO, None),
    2: ("log-paused", _INFO, None),
    10: ("dhcp-new", _LEASED, "success"),
    11: ("dhcp-renew", _LEASED, "success"),
    12: ("dhcp-release", _RELEASED, "success"),
    13: ("dhcp-conflict", _DENIED, "failure"),
    14: ("dhcp-scope-full", _DENIED, "failure"),
    15: ("dhcp-deny", _DENIED, "failure"),
    16: ("dhcp-deleted", _RELEASED, "success"),
    17: ("dhcp-expired", _RELEASED, "success"),
    18: ("dhcp-expired-deleted", _RELEASED, "success"),
    20: ("bootp-new", _LEASED, "success"),
    21: ("bootp-dynamic", _LEASED, "success"),
    22: ("bootp-scope-full", _DENIED, "failure"),
    23: ("bootp-deleted", _RELEASED, "success"),
    24: ("cleanup-started", _INFO, None),
    25: ("cleanup-finished", _INFO, None),
    30: ("dns-update-request", _INFO, None),
    31: ("dns-update-failed", _INFO, "failure"),
    32: ("dns-update-success", _INFO, "success"),
    33: ("dhcp-nap-dropped", _DENIED, "failure"),
    34: ("dns-update-failed", _INFO, "failure"),
    35: ("dns-update-failed", _INFO, "failure"),
    36: ("dhcp-failover-dropped", _DENIED, "failure"),
}
_WINDOWS_CODES |= {
    11000: ("dhcpv6-solicit", _EXCHANGE, None),
    11001: ("dhcpv6-advertise", _EXCHANGE, None),
    11002: ("dhcpv6-request", _EXCHANGE, None),
    11003: ("dhcpv6-confirm", _EXCHANGE, None),
    11004: ("dhcpv6-renew", _LEASED, "success"),
    11005: ("dhcpv6-rebind", _LEASED, "success"),
    11006: ("dhcpv6-decline", _DENIED, "failure"),
    11007: ("dhcpv6-release", _RELEASED, "success"),
    11008: ("dhcpv6-information-request", _EXCHANGE, None),
    11009: ("dhcpv6-scope-full", _DENIED, "failure"),
}
_WINDOWS_COLUMNS = (  # after the host's name and the hardware address
    "User Name", "TransactionID", "QResult", "Probationtime", "CorrelationID", "Dhcid", "VendorClass(Hex)",
    "VendorClass(ASCII)", "UserClass(Hex)", "UserClass(ASCII)", "RelayAgentInformation", "DnsRegError",
)  # fmt: skip
_JSON_TIMES = ("@timestamp", "timestamp", "time", "date", "ts")
_JSON_LEVELS = ("level", "severity", "log_level")
_JSON_TEXTS = ("message", "msg", "log", "text", "description")
_JSON_IDS = ("message_id", "msgid", "msg_id", "id", "event")


def sniff(text: str) -> bool:
    lead = text[:1]
    if lead == "{":
        return _JSON.search(text, 0, 1024) is not None
    if lead.isdigit() or lead == '"':
        found = _WINDOWS.match(text)
        if found is not None:
            return found[4].count(",") >= 3  # description, address, host name, hardware address
    if text[4:5] == ":":  # a Sophos UTM, with times of its own
        return False
    head = text[:360]
    return ("dhc" in head or "kea-" in head or "DHCP" in head or "Address:" in head or head.count(",") > 6) and (
        _SNIFF.search(head) is not None
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    lead = text[:1]
    if lead == "{":
        return (_json(text, origin),)
    windows = _WINDOWS.fullmatch(text) if lead.isdigit() or lead == '"' else None
    if windows is not None:
        return (_windows(windows, text, origin),)
    own = _KEA_TIME.match(text) if lead.isdigit() else None
    if own is not None and ((kea := _KEA.fullmatch(text, own.end())) is not None or _LEGAL.match(text, own.end())):
        at = _iso(own[1], origin, own[2])
        said = text[own.end() :]
        if kea is None:
            return (_legal(said, at, None, None, "kea"),)
        return (_kea(kea, said, at, None, None, None),)
    envelope = peel(text, origin)
    at = envelope.timestamp if envelope.timestamp is not None else origin.received
    said, app = envelope.message, envelope.app
    program = app.rpartition("/")[2] if app is not None else ""
    if program.startswith("kea") or app is None:
        if (own := _KEA_TIME.match(said)) is not None:  # its own time behind that of syslog
            at, said = _iso(own[1], origin, own[2]), said[own.end() :].lstrip(" ")
        kea = _KEA.fullmatch(said)
        if kea is not None:
            return (_kea(kea, said, at, envelope.host, program or None, envelope.pid),)
        if _LEGAL.match(said) is not None:
            return (_legal(said, at, envelope.host, envelope.pid, program or "kea"),)
    windows = _WINDOWS.fullmatch(said) if said[:1].isdigit() else None
    if windows is not None:
        return (_windows(windows, said, origin),)
    if app is None or not program.startswith(("dhcpd", "dhclient", "kea")):
        raise ParseError("no line of a DHCP server that this parser knows")
    if program.startswith("dhclient"):
        return (_dhclient(said, at, envelope.host, program, envelope.pid),)
    usual = _USUAL.fullmatch(said) if program == "dhcpd" else None
    if usual is not None:
        action, source, server, _, _, _ = usual.groups()
        types, outcome = _ENDS.get(action, (_EXCHANGE, None))
        return (
            Event(
                at, NAME, "dhcp.dhcpd", _NETWORK, types, action, outcome, None, said, envelope.host, None, None, source,
                None, None, server, None, None, "udp", program, envelope.pid, fields=Lazy(_usual_fields, usual),
            ),
        )  # fmt: skip
    return (_isc(said, at, envelope.host, program, envelope.pid),)


def _usual_fields(usual: re.Match[str]) -> dict[str, Any]:
    _, _, _, mac, name, way = usual.groups()
    fields: dict[str, Any] = {"network.protocol": "dhcp"}
    if name:
        fields["source.domain"] = name
    fields["dhcp.relay.ip" if _ANY_IP.fullmatch(way) else "observer.ingress.interface.name"] = way
    fields["source.mac"] = _mac(mac)
    return fields


def _dhclient(said: str, at: float, host: str | None, program: str, pid: int | None) -> Event:
    """A client's own log: its address stands with the request, the server's with the answer."""
    found = _CLIENT.match(said)
    action, source, interface, server, port = found.groups() if found is not None else (None, None, None, None, None)
    types, outcome = _ENDS.get(action or "", (_EXCHANGE if action else _INFO, None))
    fields: dict[str, Any] = {"network.protocol": "dhcpv6" if program.endswith("6") else "dhcp"}
    if interface:
        fields["observer.ingress.interface.name"] = interface
    return Event(
        at, NAME, "dhcp.dhclient", _NETWORK, types, action, outcome, None, said, host, None, None, source, None, None,
        server, int(port) if port else None, None, "udp", program, pid, fields=fields,
    )  # fmt: skip


def _isc(said: str, at: float, host: str | None, program: str, pid: int | None) -> Event:
    source = server = mac = action = outcome = None
    source_port = None
    six = program.endswith("6")
    fields: dict[str, Any] = {"network.protocol": "dhcpv6" if six else "dhcp"}
    types = _INFO
    word = _WORD.match(said)
    if word is not None:
        action, types = word[1], _EXCHANGE
        found = _MESSAGE.fullmatch(said)
        if found is not None:
            source, server, mac_of_inform, second, mac, name, way, reason = found.groups()
            mac = mac or mac_of_inform
            if second is not None and source is None and _ANY_IP.fullmatch(second):
                source = second
            if name:
                fields["source.domain"] = name
            if way:
                way = way.removesuffix(":")
                if _ANY_IP.fullmatch(way):
                    fields["dhcp.relay.ip"] = way
                else:
                    fields["observer.ingress.interface.name"] = way
            if reason:
                fields["event.reason"] = reason
        if any(word in said for word in _REFUSALS):
            types, outcome = _DENIED, "failure"
        else:
            types, outcome = _ENDS.get(action, (_EXCHANGE, None))
    elif (found := _SIX.match(said)) is not None:
        asked, asking, asking_port, number, sending, far, far_port, answer, leased, duid = found.groups()
        fields["network.protocol"] = "dhcpv6"
        action, types = (asked or sending or answer).lower().replace(" ", "-"), _EXCHANGE
        source, source_port = asking or far or leased, asking_port or far_port
        if number:
            fields["dhcp.transaction_id"] = number
        if duid:
            fields["dhcp.client_id"] = duid
            if answer == "Reply":
                types, outcome = _LEASED, "success"
    elif (ddns := _DDNS.search(said)) is not None:
        action = "dns-update"
        parts = [part.rstrip(":") for part in ddns.groups()]
        outcome = "failure" if said.startswith(("Unable", "Can't")) else "success"
        address = next((part for part in parts if _ANY_IP.fullmatch(part)), None)
        source = address
        fields["dns.question.name"] = next((part for part in parts if part != address), None)
    elif not said.startswith(("Listening", "Sending", "Wrote", "Internet", "Copyright", "Config", "Database", "PID")):
        address = _ANY_IP.search(said)
        source = address[0] if address is not None else None
        hardware = _ANY_MAC.search(said)
        mac = hardware[0] if hardware is not None else None
        if said.startswith(("Abandoning", "No ", "no ")) or "duplicate" in said or "no free leases" in said:
            outcome = "failure"
    if mac:
        fields["source.mac"] = _mac(mac)
    return Event(
        at, NAME, "dhcp.dhcpd", _NETWORK, types, action, outcome,
        None, said, host, None, None, source, int(source_port) if source_port else None, None, server, None, None,
        "udp", program, pid, fields=fields,
    )  # fmt: skip


def _kea(kea: re.Match[str], message: str, at: float, host: str | None, program: str | None, pid: int | None) -> Event:
    level, logger, process, code, said = kea.groups()
    said = said or ""
    fields: dict[str, Any] = {"network.protocol": "dhcpv6" if "6" in code[:5] or "6" in (program or "") else "dhcp"}
    if level:
        fields["log.level"] = level.lower()
    if logger:
        fields["log.logger"] = logger
        program = program or logger.partition(".")[0]
    if process and pid is None and process.partition(".")[0].isdecimal():
        pid = int(process.partition(".")[0])
    for pattern, path in ((_KEA_CID, "dhcp.client_id"), (_KEA_TID, "dhcp.transaction_id")):
        if (found := pattern.search(said)) is not None:
            fields[path] = found[1]
    if (hardware := _KEA_MAC.search(said)) is not None:
        fields["source.mac"] = _mac(hardware[1])
    source = server = source_port = server_port = None
    action: str = code
    types: tuple[str, ...] = _EXCHANGE
    outcome = None
    packet = _KEA_PACKET.search(said) if " (type " in said else None
    if packet is not None:
        action, source, source_port, server, server_port, fields["observer.ingress.interface.name"] = packet.groups()
        if "to send packet" in said:  # the client stays the source
            source, source_port, server, server_port = server, server_port, source, source_port
    elif (lease := _KEA_LEASE.search(said)) is not None:
        source = lease[1]
    for end, kind, result in _KEA_OUTCOMES:
        if code.endswith(end):
            types, outcome = kind, result
            break
    else:
        if any(word in code for word in _KEA_FAILED) or level in {"ERROR", "FATAL"}:
            types, outcome = (_DENIED if source or hardware else _INFO), "failure"
        elif source is None and hardware is None:
            types = _INFO
    return Event(
        at, NAME, "dhcp.kea", _NETWORK, types, action, outcome, code, message, host, None, None,
        source, int(source_port) if source_port else None, None, server, int(server_port) if server_port else None,
        None, "udp" if source or hardware else None, program, pid, fields=fields,
    )  # fmt: skip


def _legal(said: str, at: float, host: str | None, pid: int | None, program: str) -> Event:
    """A line of Kea's legal log (hook library `legal_log`): who held an address, and how long."""
    found = _LEGAL.match(said)
    address, action = found.groups() if found is not None else (None, None)
    fields: dict[str, Any] = {"network.protocol": "dhcpv6" if address and ":" in address else "dhcp"}
    if (hardware := _KEA_MAC.search(said)) is not None:
        fields["source.mac"] = _mac(hardware[1])
    return Event(
        at, NAME, "dhcp.kea", _NETWORK, _RELEASED if action == "released" else _LEASED, action, "success", None, said,
        host, None, None, address, network_transport="udp", process_name=program, process_pid=pid, fields=fields,
    )  # fmt: skip


def _json(text: str, origin: Origin) -> Event:
    """A Kea log line whose output pattern writes JSON; its names are the administrator's choice."""
    doc, _ = decode(text)
    if not isinstance(doc, dict):
        raise ParseError("no JSON object")
    words = {key.lower(): value for key, value in doc.items() if isinstance(value, str | int | float)}
    said = next((str(words[key]) for key in _JSON_TEXTS if key in words), "")
    code = next((str(words[key]) for key in _JSON_IDS if key in words), "")
    level = next((str(words[key]).strip() for key in _JSON_LEVELS if key in words), "")
    if not said.startswith(code):
        said = f"{code} {said}"
    kea = _KEA.fullmatch(said)
    if kea is None:
        raise ParseError("JSON, but no message of Kea in it")
    stated = next((words[key] for key in _JSON_TIMES if key in words), None)
    host = words.get("host") or words.get("hostname")
    pid = words.get("pid")
    event = _kea(
        kea,
        said,
        _iso(stated, origin) if isinstance(stated, str) else _epoch(stated, origin),
        str(host) if host else None,
        str(words.get("logger", "")).partition(".")[0] or None,
        pid if isinstance(pid, int) and 0 <= pid < 2**32 else None,
    )
    if level and isinstance(event.fields, dict):
        event.fields.setdefault("log.level", level.lower())
    return event


def _windows(line: re.Match[str], text: str, origin: Origin) -> Event:
    code, date, time, rest = line.groups()
    columns = [word.strip('" ') for word in rest.split(",", COLUMNS_MAX)]
    number = int(code)
    action, types, outcome = _WINDOWS_CODES.get(number) or (
        ("rogue-detection", _INFO, None) if 50 <= number < 11000 else (None, _INFO, None)
    )
    if number >= 11000:  # DHCPv6: description, address, host name, error, DUID length, DUID
        columns[3:6] = [columns[5] if len(columns) > 5 else "", *columns[3:5]]
    columns += [""] * (4 - len(columns))
    description, address, name, hardware = columns[:4]
    fields: dict[str, Any] = {"network.protocol": "dhcpv6" if number >= 11000 else "dhcp"}
    if number < 11000:
        fields |= {key: value for key, value in zip(_WINDOWS_COLUMNS, columns[4:], strict=False) if value}
    if hardware:
        plain = hardware.replace("-", "").replace(":", "")
        if len(plain) == 12:
            fields["source.mac"] = "-".join(plain[i : i + 2] for i in range(0, 12, 2)).upper()
        else:
            fields["dhcp.client_id"] = hardware
    user = fields.get("User Name")
    return Event(
        timestamp=_windows_time(date, time, origin),
        event_module=NAME,
        event_dataset="dhcp.windows",
        event_category=_NETWORK,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        event_code=str(number),
        message=description or text,
        host_name=name or None,
        user_name=user or None,
        source_ip=address if _ANY_IP.fullmatch(address) else None,
        network_transport="udp" if address and number < 11000 else None,
        fields=fields,
    )


def _windows_time(date: str, time: str, origin: Origin) -> float:
    """Local time; the order of the date's parts is the server's, told apart by its separator."""
    try:
        if "/" in date:
            month, day, year = map(int, date.split("/"))
            if month > 12:  # day first
                month, day = day, month
        elif "." in date:
            day, month, year = map(int, date.split("."))
        else:
            year, month, day = map(int, date.split("-"))
        hour, minute, second = map(int, time.split(":"))
        return origin.clock.local(year + 2000 if year < 100 else year, month, day, hour, minute, second)
    except (ValueError, OverflowError):
        return origin.received


def _iso(text: str, origin: Origin, zone: str | None = None) -> float:
    try:
        if zone is not None and zone in ZONES_H:
            return from_iso(f"{text}+00:00", origin.clock) - ZONES_H[zone] * 3600
        return from_iso(text, origin.clock)
    except (ValueError, OverflowError):
        return origin.received


def _epoch(stated: Any, origin: Origin) -> float:
    try:
        return from_epoch(stated) if isinstance(stated, int | float) else origin.received
    except ValueError:
        return origin.received


def _mac(text: str) -> str:
    return "-".join(part.zfill(2) for part in text.split(":")).upper()
