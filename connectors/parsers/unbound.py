"""Unbound: queries, replies, local-zone and response-policy actions, SERVFAIL and validation failures, and the rest.

Reads its own log file (epoch, ASCII or ISO times) and its syslog lines, with and without log-tag-queryreply.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "unbound"

_IP = r"[0-9A-Fa-f:]{0,39}[.:][0-9A-Fa-f.:]{1,39}(?:%\w{1,16})?"
_LEVELS = "fatal error|error|warning|notice|info|debug|query|reply"
_SNIFF = re.compile(r"(?:^|[ />])unbound(?:\[\d{1,10}(?::[0-9a-f]{1,4})?\]:? |: | \d{1,10} )")
_EPOCH = re.compile(r"\[(\d{9,11})(?:\.(\d{1,9}))?\] ")
_ISO_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?) (?=unbound\[)")
# `unbound[1234:0] info: ` in its file, `[1234:0] info: ` in syslog
_LEAD = re.compile(rf"(?:unbound)?\[(\d{{1,10}}):([0-9a-f]{{1,4}})\] ({_LEVELS}): ")
_QUERY = re.compile(
    rf"({_IP}) (\S++) (\S++) (IN|CH|HS|ANY|NONE|CLASS\d++)"
    r"(?: ([A-Z][A-Z0-9]*+) (\d{1,9}\.\d{1,9}) ([01]) (\d{1,9})(?: ([0-9A-Fa-f.:]++) (udp|tcp|dot|doh|doq) (\d{1,5}))?)?"
)
_LOCAL = re.compile(rf"(?:rpz: applied (?:\[([^\]]*+)\] )?)?(\S++) (\S++) ({_IP})@(\d{{1,5}}) (\S++) (\S++) (\S++)")
_ABOUT = re.compile(r"<(\S++) (\S++) ([^\s>]++)>:? ?(.*)", re.DOTALL)
_FAR = re.compile(
    rf"(?:from|for|ip|with|to|failed|exceeded|ip4|ip6|upstream server|reply from <\S{{1,255}}>) ({_IP})(?:(?:@|#| port )(\d{{1,5}}))?(?=[ ,)]|$)"
)
_TO_SERVERS = (
    "tcp connect",
    "reply from",
    "udp connect",
    "outgoing",
    "read (in tcp",
    "sendto",
    "tcp send",
    "remote address",
)

_NETWORK: tuple[str, ...] = ("network",)
_ASKING: tuple[str, ...] = ("connection", "protocol")
_DENIED: tuple[str, ...] = ("connection", "denied")
_ALLOWED: tuple[str, ...] = ("connection", "allowed")
_INFO: tuple[str, ...] = ("info",)
_PASSING = frozenset({"transparent", "typetransparent", "inform", "rpz-passthru", "nodefault", "always_transparent"})
_TRANSPORTS = {"udp": "udp", "tcp": "tcp", "dot": "tcp", "doh": "tcp", "doq": "udp"}


def sniff(text: str) -> bool:
    return "unbound" in text[:300] and _SNIFF.search(text, 0, 320) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    at = host = pid = None
    epoch = _EPOCH.match(text)
    if epoch is not None:
        at, message = int(epoch[1]) + float(f"0.{epoch[2] or 0}"), text[epoch.end() :]
    elif text[4:5] == "-" and (own := _ISO_TIME.match(text)) is not None:
        message = text[own.end() :]
        with suppress(ValueError, OverflowError):  # a time that no calendar has must not hide the event
            at = from_iso(own[1], origin.clock)
    else:
        envelope = peel(text, origin)
        at, host, pid, message = envelope.timestamp, envelope.host, envelope.pid, envelope.message
        if envelope.app is not None and envelope.app.rpartition("/")[2].partition("@")[0] != NAME:
            raise ParseError(f"a line of {envelope.app}, not of Unbound")
        if envelope.app is None and host == NAME:
            host = None
        if envelope.app is None and _LEAD.match(message) is None:
            raise ParseError("neither a line of Unbound's log nor of Unbound in syslog")
    lead = _LEAD.match(message)
    if lead is None and epoch is not None:
        raise ParseError("no line of Unbound: its name is missing after the time")
    if at is None:
        at = origin.received
    thread = level = None
    said = message
    if lead is not None:
        stated, thread, level = lead.groups()
        pid = pid if pid is not None else int(stated)
        said = message[lead.end() :]
    query = _QUERY.fullmatch(said)
    if query is not None:
        source, code, size, server, way, server_port = query.group(1, 5, 8, 9, 10, 11)
        return (
            Event(
                at, NAME, "unbound.query" if code is None else "unbound.reply", _NETWORK, _ASKING,
                "query" if code is None else "reply",
                None if code is None else "success" if code == "NOERROR" else "failure",
                None, message, host, None, None, source.partition("%")[0], None, None, server,
                int(server_port) if server_port is not None else None, int(size) if size is not None else None,
                _TRANSPORTS.get(way), NAME, pid, fields=Lazy(_query_fields, query, level, thread),
            ),
        )  # fmt: skip
    return (_other(said, at, host, pid, message, level, thread),)


def _named(level: str | None, thread: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"network.protocol": "dns"}
    if level:
        fields["log.level"] = level if level not in {"query", "reply"} else "info"
    if thread:
        fields["process.thread.id"] = int(thread, 16)
    return fields


def _query_fields(query: re.Match[str], level: str | None, thread: str | None) -> dict[str, Any]:
    _, name, kind, dns_class, code, took, cached, _, _, _, _ = query.groups()
    fields = _named(level, thread)
    _question(fields, name, kind, dns_class)
    fields["dns.type"] = "query" if code is None else "answer"
    if code is not None:
        fields["dns.response_code"] = code
        fields["event.duration"] = int(float(took) * 1e9)
        fields["unbound.cached"] = cached == "1"
    return fields


def _question(fields: dict[str, Any], name: str, kind: str, dns_class: str) -> None:
    fields["dns.question.name"] = name.rstrip(".") or "."
    fields["dns.question.type"] = kind
    fields["dns.question.class"] = dns_class


def _other(
    said: str, at: float, host: str | None, pid: int | None, message: str, level: str | None, thread: str | None
) -> Event:
    fields = _named(level, thread)
    dataset, action, types, outcome = "general", None, _INFO, None
    source = port = None
    server = server_port = None
    local = _LOCAL.fullmatch(said)
    if local is not None:
        rule, zone, verdict, source, port, name, kind, dns_class = local.groups()
        _question(fields, name, kind, dns_class)
        dataset = "rpz" if said.startswith("rpz:") else "local_zone"
        action = verdict
        types = _ALLOWED if verdict in _PASSING else _DENIED
        outcome = "success" if types is _ALLOWED else "failure"
        fields["rule.name"] = zone.rstrip(".")
        if rule:
            fields["rule.ruleset"] = rule
    elif said.startswith(("SERVFAIL ", "validation failure ", "query: ", "refused ")):
        dataset, outcome = "resolver", "failure"
        action = said.partition(" <")[0].lower().replace(" ", "-")[:32]
        about = _ABOUT.search(said)
        if about is not None:
            name, kind, dns_class, reason = about.groups()
            _question(fields, name, kind, dns_class)
            if reason:
                fields["event.reason"] = reason
        if said.startswith("SERVFAIL"):
            fields["dns.response_code"] = "SERVFAIL"
        types = _DENIED if said.startswith("refused") else types
    elif "ratelimit exceeded" in said:
        dataset, action, types, outcome = "rate_limit", "rate-limit", _DENIED, "failure"
    if local is None and (far := _FAR.search(said)) is not None:
        if (dataset == "resolver" and types is not _DENIED) or said.startswith(_TO_SERVERS):
            server, server_port = far[1], far[2]
        else:
            source, port = far[1], far[2]
    if outcome is None and " failed" in said:
        outcome = "failure"
    return Event(
        at,
        NAME,
        event_dataset=f"unbound.{dataset}",
        event_category=_NETWORK if dataset != "general" or source else (),
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        message=message,
        host_name=host,
        source_ip=source,
        source_port=int(port) if port else None,
        destination_ip=server,
        destination_port=int(server_port) if server_port else None,
        process_name=NAME,
        process_pid=pid,
        fields=fields,
    )
