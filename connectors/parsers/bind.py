"""ISC BIND (named): query and response log, refusals, dynamic updates, zone transfers, response policy, rate limits.

Reads named's own log files, with any of print-time, print-category and print-severity, and its syslog lines.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import MONTHS, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "bind"

_CATEGORIES = (
    "client|cname|config|database|default|delegation-only|dispatch|dnssec|dnstap|edns-disabled|general|lame-servers"
    "|network|notify|nsid|queries|query-errors|rate-limit|resolver|responses|rpz|rpz-passthru|security|serve-stale|spill"
    "|sslkeylog|trust-anchor-telemetry|unmatched|update|update-security|xfer-in|xfer-out|zoneload"
)
_LEVELS = r"critical|error|warning|notice|info|debug(?: \d{1,3})?|dynamic"
_OWN_TIME = r"\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d(?:\.\d{1,9})?"
_ISO_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_PEER = r"(?:@0x[0-9a-fA-F]{1,16} )?([0-9A-Fa-f.:]{2,45})(?:%[\w.-]{1,32})?#(\d{1,5})"
_SNIFF = re.compile(
    r"(?:^|[ />])named(?:-\w{1,16})?(?:\[\d{1,10}\]: | \d{1,10} - |: (?=.{0,120}?(?:#\d|zone )))"
    rf"|{_OWN_TIME} (?:(?:{_CATEGORIES}): )?(?:(?:{_LEVELS}): )?(?=[a-z])(?!\[)"
    rf"|(?:{_ISO_TIME} )?(?:(?:{_CATEGORIES}): )?(?:(?:{_LEVELS}): )?client {_PEER}(?:/key | \(|: )"
    rf"|{_ISO_TIME} (?:{_CATEGORIES}): (?:{_LEVELS}): "
)
_OWN = re.compile(rf"({_OWN_TIME}|{_ISO_TIME}) (?=[a-z][\w-]*+:? )(?!named:)")
_LEAD = re.compile(rf"(?:({_CATEGORIES}): )?(?:({_LEVELS}): )?")
_QUERY = re.compile(
    rf"(?:queries: )?(?:info: )?client {_PEER}(?:/key ([^\s:]++))?(?: \((?:[^)\\]|\\.)*+\))?: (?:view ([^\s:]++): )?"
    r"query: (\S++) (\S++) (\S++) ([+-]\S*+)(?: \(([0-9A-Fa-f.:]{2,45})(?:%[\w.-]{1,32})?\))?(?: \[ECS ([^\]]++)\])?"
)
_CLIENT = re.compile(
    rf"client {_PEER}(?:/key ([^\s:]++))?(?: \(((?:[^)\\]|\\.)*+)\))?(?:: | (?=[UT][CD]P: ))(?:view ([^\s:]++): )?(?:(UDP|TCP): )?(.*)",
    re.DOTALL,
)
_NAMED_IN_QUOTES = re.compile(r"'((?:[^'\\]|\\.)*+)'")
_ASKED = re.compile(r" for (\S+?)/(\w{1,16})/(\w{1,16})\b")
_REASON = re.compile(r"\(([^()]{1,128})\)")
_RESPONSE = re.compile(  # the second form is Infoblox'
    r"(?:response: (\S++) (\S++) (\S++)|query: (\S++) (\S++) (\S++) response:) ([A-Z]\w*+)(?: ([+-]\S*+))?"
)
_POLICY = re.compile(r"(disabled )?rpz (\S++) (\S++) (?:rewrite )?(\S++) (?:via (\S++))?")
_RATE = re.compile(r"(would )?(?:rate limit|stop limiting|limit) (\w+)")
_TRANSFERRED = re.compile(r"(\d{1,18}) bytes")
_FAR = re.compile(r"(?<![\w.:])([0-9A-Fa-f.:]{2,45})#(\d{1,5})\b")
_ASKING_CLIENT = re.compile(r" for client (?:@0x[0-9a-f]{1,16} )?([0-9A-Fa-f.:]{2,45})#(\d{1,5})")
_RESOLVING = re.compile(r"resolving '?([^\s'/]{1,255})(?:/(\w{1,16})(?:/(\w{1,16}))?)?'?")
_ZONE = re.compile(r"(?:zone|transfer of) '?([^\s'/:]{1,255})/(\w{1,8})")

_NETWORK: tuple[str, ...] = ("network",)
_ASKING: tuple[str, ...] = ("connection", "protocol")
_DENIED: tuple[str, ...] = ("connection", "denied")
_ALLOWED: tuple[str, ...] = ("connection", "allowed")
_INFO: tuple[str, ...] = ("info",)
# how the message of a client's line begins -> kind of log, action
_BEGINNINGS = (
    ("query: ", "response", "response"),  # a query alone was read before
    ("query failed", "query", "query-failed"),
    ("query ", "security", "query"),
    ("response: ", "response", "response"),
    ("zone transfer ", "security", "zone-transfer"),
    ("bad zone transfer request", "security", "zone-transfer-refused"),
    ("transfer of ", "transfer", "zone-transfer"),
    ("update ", "security", "update"),
    ("updating zone ", "update", "update"),
    ("rpz ", "rpz", "rpz-rewrite"),
    ("disabled rpz ", "rpz", "rpz-disabled"),
    ("rate limit ", "rate_limit", "rate-limit"),
    ("would rate limit ", "rate_limit", "rate-limit-logged"),
    ("received notify ", "notify", "notify"),
    ("refused notify ", "notify", "notify-refused"),
    ("request has invalid signature", "security", "signature-invalid"),
    ("no matching view", "security", "no-matching-view"),
    ("message parsing failed", "security", "malformed-message"),
    ("recursi", "security", "recursion"),
)
# the same for lines that are of no client
_OTHER_BEGINNINGS = (
    ("zone ", "zone", "zone"),
    ("transfer of ", "transfer", "zone-transfer"),
    ("lame server resolving", "resolver", "lame-server"),
    ("DNS format error", "resolver", "malformed-response"),
    ("validating ", "dnssec", "validation"),
    ("managed-keys-zone", "dnssec", "managed-keys"),
    ("limit ", "rate_limit", "rate-limit"),
    ("stop limiting ", "rate_limit", "rate-limit-end"),
    ("*stop limiting ", "rate_limit", "rate-limit-end"),
    ("received control channel command", "general", "control-command"),
)
_REFUSALS = (" denied", "REFUSED", "refused", "NOTAUTH", "invalid signature", "parsing failed")
_FLAG_BITS = (("+", "RD"), ("D", "DO"), ("C", "CD"))


def sniff(text: str) -> bool:
    if text[4:5] == ":":  # a Sophos UTM, with times of its own
        return False
    if _SNIFF.match(text) is not None:
        return True
    return ("named" in text[:200] or "client " in text[:160]) and _SNIFF.search(text, 0, 300) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    at = host = pid = None
    own = _OWN.match(text)
    if own is not None and (at := _moment(own[1], origin)) is not None:
        message = text[own.end() :]
    else:
        envelope = peel(text, origin)
        at, host, pid, message = envelope.timestamp, envelope.host, envelope.pid, envelope.message
        if envelope.app is not None and not envelope.app.rpartition("/")[2].startswith("named"):
            if envelope.app in _CATEGORY_NAMES:  # print-category without a name of the program in front
                message = f"{envelope.app}: {message}"
            else:
                raise ParseError(f"a line of {envelope.app}, not of named")
        elif envelope.app is None and not sniff(message):
            raise ParseError("neither a line of named's log nor of named in syslog")
        message = message.removeprefix("infoblox-responses: ")
        if message[2:3] == "-" and (own := _OWN.match(message)) is not None:
            inner = _moment(own[1], origin)
            at, message = inner if inner is not None else at, message[own.end() :]
    if at is None:
        at = origin.received
    query = _QUERY.fullmatch(message)
    if query is not None:
        source, port, _, _, _, _, _, flags, server, _ = query.groups()
        return (
            Event(
                at, NAME, "bind.query", _NETWORK, _ASKING, "query", None, None, message, host, None, None,
                source, int(port), None, server, None, None, "tcp" if "T" in flags else "udp", "named", pid,
                fields=Lazy(_query_fields, query),
            ),
        )  # fmt: skip
    lead = _LEAD.match(message)
    category, level = lead.groups() if lead is not None else (None, None)
    said = message[lead.end() :] if lead is not None else message
    fields: dict[str, Any] = {"network.protocol": "dns"}
    if category:
        fields["bind.category"] = category
    if level:
        fields["log.level"] = level
    client = _CLIENT.fullmatch(said)
    if client is None:
        return (_other(said, at, host, pid, message, fields),)
    return (_client(client, at, host, pid, message, fields),)


_CATEGORY_NAMES = frozenset(_CATEGORIES.split("|"))


def _query_fields(query: re.Match[str]) -> dict[str, Any]:
    _, _, signer, view, name, dns_class, kind, flags, _, subnet = query.groups()
    fields: dict[str, Any] = {"network.protocol": "dns", "dns.type": "query"}
    _question(fields, name, kind, dns_class)
    fields["dns.header_flags"] = [bit for flag, bit in _FLAG_BITS if flag in flags]
    fields["bind.flags"] = flags
    named = (("bind.key", signer), ("bind.view", view), ("bind.client_subnet", subnet))
    fields |= {key: value for key, value in named if value}
    return fields


def _question(fields: dict[str, Any], name: str, kind: str | None, dns_class: str | None) -> None:
    fields["dns.question.name"] = name.rstrip(".") or "."
    if kind:
        fields["dns.question.type"] = kind
    if dns_class:
        fields["dns.question.class"] = dns_class


def _client(
    client: re.Match[str], at: float, host: str | None, pid: int | None, message: str, fields: dict[str, Any]
) -> Event:
    """What a client asked for, and mostly was refused."""
    source, port, signer, name, view, way, said = client.groups()
    if signer:
        fields["bind.key"] = signer
    if view:
        fields["bind.view"] = view
    dataset, action = next(
        ((kind, act) for begin, kind, act in _BEGINNINGS if said.startswith(begin)), ("client", None)
    )
    types, outcome = _ASKING, None
    transport = way.lower() if way else None
    received = None
    if name:
        _question(fields, name, None, None)
    refused = any(word in said for word in _REFUSALS)
    if refused:
        types, outcome = _DENIED, "failure"
        if said.endswith(" denied") or " denied " in said:
            action = f"{action or 'request'}-denied"
        if (reason := _REASON.search(said.partition(" denied")[2] or said)) is not None and reason[1] != "cache":
            fields["event.reason"] = reason[1]
    if dataset == "response" and (answer := _RESPONSE.match(said)) is not None:
        fields["dns.type"] = "answer"
        asked, dns_class, kind, again, its_class, its_kind, code, flags = answer.groups()
        _question(fields, asked or again, kind or its_kind, dns_class or its_class)
        fields["dns.response_code"] = code
        outcome = "success" if code == "NOERROR" else "failure"
        if flags and transport is None:
            transport = "tcp" if "T" in flags else "udp"
    elif action == "query-failed":
        outcome = "failure"
        if (failed := _REASON.search(said)) is not None:
            fields["dns.response_code"] = failed[1]
        if (about := _ASKED.search(said)) is not None:
            _question(fields, about[1], about[3], about[2])
    elif dataset == "rpz" and (policy := _POLICY.search(said)) is not None:
        disabled, trigger, verdict, rewritten, rule = policy.groups()
        fields["bind.rpz.trigger"], fields["bind.rpz.policy"] = trigger, verdict
        asked_for = rewritten.rsplit("/", 2)
        if len(asked_for) == 3:
            _question(fields, *asked_for)
        if rule:
            fields["rule.name"] = rule
        if disabled is None:
            types = _ALLOWED if verdict.upper() == "PASSTHRU" else _DENIED
            outcome = "success" if types is _ALLOWED else "failure"
    elif dataset == "rate_limit":
        types, outcome = (_DENIED, "failure") if action == "rate-limit" else (_INFO, None)
        if (asked_rate := _RATE.search(said)) is not None:
            fields["bind.rate_limit.action"] = asked_rate[2]
    else:
        quoted = _NAMED_IN_QUOTES.search(said)
        if quoted is not None:
            zone, *parts = quoted[1].rsplit("/", 2 if quoted[1].count("/") >= 2 else 1)
            if len(parts) == 2:
                _question(fields, zone, *parts)
            elif parts:
                _question(fields, zone, None, parts[0])
            elif zone:
                _question(fields, zone, None, None)
        if dataset in {"update", "transfer"} and not refused:
            types = _INFO
            outcome = "failure" if "unsuccessful" in said or "fail" in said else "success"
            sent = _TRANSFERRED.search(said) if dataset == "transfer" else None
            received = int(sent[1]) if sent is not None else None
    return Event(
        at, NAME, f"bind.{dataset}", _NETWORK, types, action, outcome, None, message, host, None, None,
        source, int(port), None, None, None, received, transport, "named", pid, fields=fields,
    )  # fmt: skip


def _other(said: str, at: float, host: str | None, pid: int | None, message: str, fields: dict[str, Any]) -> Event:
    """Lines of the server itself; the address in them is a server that was asked, or a primary."""
    dataset, action = next(
        ((kind, act) for begin, kind, act in _OTHER_BEGINNINGS if said.startswith(begin)), ("general", None)
    )
    outcome = None
    far = _FAR.search(said)
    if (asked := _RESOLVING.search(said)) is not None:
        dataset, action, outcome = "resolver", action or "resolving", "failure"
        _question(fields, asked[1], asked[2], asked[3])
        if said.startswith("success "):
            outcome = "success"
    elif (zone := _ZONE.search(said)) is not None:
        _question(fields, zone[1], None, zone[2])
    if " fail" in said or "failure" in said or "REFUSED" in said:
        outcome = "failure"
    sent = _TRANSFERRED.search(said) if dataset == "transfer" else None
    inbound = dataset == "transfer" or "refused notify" in said
    asking = _ASKING_CLIENT.search(said)
    peer = far if inbound else asking
    return Event(
        at,
        NAME,
        f"bind.{dataset}",
        _NETWORK if dataset != "general" else (),
        event_type=_INFO,
        event_action=action,
        event_outcome=outcome,
        message=message,
        host_name=host,
        source_ip=peer[1] if peer is not None else None,
        source_port=int(peer[2]) if peer is not None else None,
        source_bytes=int(sent[1]) if sent is not None else None,
        destination_ip=far[1] if far is not None and not inbound else None,
        destination_port=int(far[2]) if far is not None and not inbound else None,
        process_name="named",
        process_pid=pid,
        fields=fields,
    )


def _moment(stamp: str, origin: Origin) -> float | None:
    """Seconds since the epoch of named's own time; None if no calendar has it."""
    clock = origin.clock
    try:
        if stamp[2] != "-":
            return from_iso(stamp, clock)
        whole = stamp[:20]
        at = clock.stamps.get(whole)
        if at is None:
            day, month, year, hour, minute, second = (
                whole[:2], MONTHS.get(whole[3:6].lower(), 0), whole[7:11], whole[12:14], whole[15:17], whole[18:20],
            )  # fmt: skip
            at = clock.local(int(year), month, int(day), int(hour), int(minute), int(second))
            clock.remember(whole, at)
        return at + float(stamp[20:]) if len(stamp) > 20 else at
    except (ValueError, OverflowError):
        return None
