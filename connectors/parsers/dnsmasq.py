"""dnsmasq: DNS queries, replies and blocked names (also Pi-hole's), its DHCP and router advertisements, TFTP.

Reads syslog lines and its own log file, with log-queries, log-queries=extra and log-dhcp.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "dnsmasq"

_MAC = r"(?:[0-9a-fA-F]{2}-)?[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5,19}(?![\w:])"  # a DUID looks alike but is longer
_IP = r"(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[0-9A-Fa-f:]{0,35}::[0-9A-Fa-f:.]{0,39})"
_SNIFF = re.compile(r"[ />]dnsmasq(?:-dhcp|-tftp|-script)?(?:\[\d{1,10}\]: |: | \d{1,10} - )")
_SERIAL = re.compile(rf"(\d{{1,10}}) ({_IP})/(\d{{1,5}}) ")
_QUERY = re.compile(
    rf"(query|auth|dnssec-query|dnssec-retry)\[(\S{{1,32}}?)\] (\S++) (?:from|to) ({_IP})(?:#(\d{{1,5}}))?"
)
_FORWARDED = re.compile(rf"forwarded (\S++) to ({_IP})(?:#(\d{{1,5}}))?")
_ANSWER = re.compile(
    r"((?:gravity|regex|exactly|special|denied)[\w() ]{0,48}?|\S{1,255}) (\S++) is (.{1,512})", re.DOTALL
)
_DHCP = re.compile(
    rf"(?:(\d{{1,10}}) )?((?:DHCP|BOOTP|RTR-|SLAAC-)[A-Z-]{{0,24}})\(([^()\s]{{1,64}})\)(?: ({_IP})(?=\s|$))?(?: ({_MAC}|[0-9a-f:]{{2,128}}))?"
    r"(?: (.{1,512}))?",
    re.DOTALL,
)
_TFTP = re.compile(
    rf"(sent|file|failed sending|error \d{{1,3}} .{{0,128}}? received from) (\S{{1,512}}?)(?: not found)?(?: (?:to|for) ({_IP}))?"
)
_REMOTE = re.compile(rf"(?:nameserver|from|for|to|server) ({_IP})(?:#(\d{{1,5}}))?(?=\W|$)")

_NETWORK: tuple[str, ...] = ("network",)
_ASKING: tuple[str, ...] = ("connection", "protocol")
_DENIED: tuple[str, ...] = ("connection", "denied")
_INFO: tuple[str, ...] = ("info",)
_CODES = {"NXDOMAIN": "NXDOMAIN", "SERVFAIL": "SERVFAIL", "REFUSED": "REFUSED", "NODATA": "NOERROR"}
_BLOCKING = (
    "gravity blocked",
    "regex denied",
    "regex blacklisted",
    "exactly denied",
    "exactly blacklisted",
    "special domain",
)
_NOWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # an answer, not an address to listen on
_DHCP_FAILURES = frozenset({"DHCPNAK", "DHCPDECLINE"})


def sniff(text: str) -> bool:
    return "dnsmasq" in text[:300] and _SNIFF.search(text, 0, 320) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    app = envelope.app
    program = app.rpartition("/")[2] if app is not None else ""
    if not program.startswith(NAME):
        raise ParseError("no line of dnsmasq: its name does not stand in front of the message")
    at = envelope.timestamp if envelope.timestamp is not None else origin.received
    said = message = envelope.message
    host, pid = envelope.host, envelope.pid
    if program == "dnsmasq-dhcp":
        return (_dhcp(said, at, host, pid, program),)
    if program == "dnsmasq-tftp":
        return (_tftp(said, at, host, pid, program),)
    serial = _SERIAL.match(said) if said[:1].isdigit() else None
    source = port = number = None
    if serial is not None:
        number, source, port = serial.groups()
        said = said[serial.end() :]
    query = _QUERY.fullmatch(said)
    if query is not None:
        word, _, _, address, stated = query.groups()
        asked = word in {"query", "auth"}
        return (
            Event(
                at, NAME, "dnsmasq.query", _NETWORK, _ASKING, word, None, None, message, host, None, None,
                address if asked else source, int(port) if port else None, None,
                None if asked else address, int(stated) if stated and not asked else None,
                process_name=program, process_pid=pid, fields=Lazy(_query_fields, query, number),
            ),
        )  # fmt: skip
    return (_answer(said, message, at, host, pid, program, source, port, number),)


def _query_fields(query: re.Match[str], number: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "network.protocol": "dns",
        "dns.type": "query",
        "dns.question.name": query[3].rstrip(".") or ".",
        "dns.question.type": query[2].removeprefix("type="),
    }
    if number:
        fields["dns.id"] = number
    return fields


def _answer(
    said: str,
    message: str,
    at: float,
    host: str | None,
    pid: int | None,
    program: str,
    source: str | None,
    port: str | None,
    number: str | None,
) -> Event:
    fields: dict[str, Any] = {"network.protocol": "dns"}
    if number:
        fields["dns.id"] = number
    dataset, action, types, outcome = "general", None, _INFO, None
    server = server_port = None
    forwarded = _FORWARDED.fullmatch(said)
    if forwarded is not None:
        name, server, server_port = forwarded.groups()
        dataset, action, types = "forward", "forwarded", _ASKING
        fields["dns.question.name"] = name.rstrip(".")
    elif (answer := _ANSWER.fullmatch(said)) is not None:
        by, name, what = answer.groups()
        dataset, action, types = "reply", by, _ASKING
        if name.endswith((".", ":")) and len(name) > 1:
            name = name[:-1]
        fields["dns.question.name"] = name
        fields["dns.type"] = "answer"
        outcome = "success"
        blocked = by.startswith(_BLOCKING) or (what in _NOWHERE and by not in {"reply", "cached"})
        code = next((code for word, code in _CODES.items() if what.startswith(word)), None)
        if by == "validation":
            fields["dnsmasq.validation"] = what
            outcome = "failure" if what.startswith("BOGUS") else "success"
        elif code is not None:
            fields["dns.response_code"] = code
            outcome = "success" if code == "NOERROR" else "failure"
        elif what[:1] != "<":
            fields["dns.answers.data"] = [what]
            if _is_address(what):
                fields["dns.resolved_ip"] = [what]
        if by[:1] == "/":
            fields["file.path"], action = by, "hosts-file"
        if blocked:
            types, outcome, action = _DENIED, "failure", "blocked"
            fields["rule.name"] = by
    elif (remote := _REMOTE.search(said)) is not None:
        server, server_port = remote.groups()
    if "rebind attack" in said or "refused" in said or "Maximum number" in said:
        outcome = "failure"
        action = "dns-rebind" if "rebind" in said else action
        if "rebind" in said:
            fields["dns.question.name"] = said.rpartition(": ")[2]
    return Event(
        at,
        NAME,
        event_dataset=f"dnsmasq.{dataset}",
        event_category=_NETWORK,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        message=message,
        host_name=host,
        source_ip=source,
        source_port=int(port) if port else None,
        destination_ip=server,
        destination_port=int(server_port) if server_port else None,
        process_name=program,
        process_pid=pid,
        fields=fields,
    )


def _is_address(text: str) -> bool:
    return re.fullmatch(_IP, text) is not None


def _dhcp(said: str, at: float, host: str | None, pid: int | None, program: str) -> Event:
    fields: dict[str, Any] = {"network.protocol": "dhcp"}
    action = address = outcome = None
    types = _INFO
    found = _DHCP.match(said)
    if found is not None:
        number, action, interface, address, hardware, rest = found.groups()
        fields["observer.ingress.interface.name"] = interface
        if number:
            fields["dhcp.transaction_id"] = number
        if address is not None and ":" in address:
            fields["network.protocol"] = "dhcpv6"
        if hardware is not None and hardware.count(":") == 5:  # with more it is a DUID
            fields["source.mac"] = hardware.upper().replace(":", "-")
        elif hardware is not None:
            fields["dhcp.client_id"] = hardware
        if rest and action in {"DHCPACK", "DHCPREPLY"}:
            fields["source.domain"] = rest.split(" ", 1)[0]
        elif rest:
            fields["event.reason"] = rest
        types = ("connection", "protocol")
        if action in _DHCP_FAILURES or (rest or "").startswith(("no address", "wrong", "address in use", "ignored")):
            types, outcome = ("connection", "denied"), "failure"
        elif action in {"DHCPACK", "DHCPREPLY"}:
            types, outcome = ("connection", "start"), "success"
        elif action == "DHCPRELEASE":
            types, outcome = ("connection", "end"), "success"
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="dnsmasq.dhcp",
        event_category=_NETWORK,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        message=said,
        host_name=host,
        source_ip=address,
        network_transport="udp" if action is not None and action.startswith(("DHCP", "BOOTP")) else None,
        process_name=program,
        process_pid=pid,
        fields=fields,
    )


def _tftp(said: str, at: float, host: str | None, pid: int | None, program: str) -> Event:
    found = _TFTP.fullmatch(said)
    path = address = action = outcome = None
    if found is not None:
        word, path, address = found.groups()
        sent = word == "sent"
        action, outcome = ("sent", "success") if sent else ("not-found" if word == "file" else "failed", "failure")
        path = path if path[:1] == "/" else None
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="dnsmasq.tftp",
        event_category=("network", "file") if found is not None else _NETWORK,
        event_type=("access",) if outcome == "success" else _INFO,
        event_action=action,
        event_outcome=outcome,
        message=said,
        host_name=host,
        source_ip=address,
        network_transport="udp",
        process_name=program,
        process_pid=pid,
        file_path=path,
        fields={"network.protocol": "tftp"},
    )
