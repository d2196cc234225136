"""Microsoft Exchange: message tracking, SMTP receive and send, IMAP and POP, HttpProxy and ECP logs, all comma-separated.

Columns come from the log's own #Fields line; without one they are told from the number of columns and what stands in them.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors import columns
from connectors.clock import EPOCH_S_MAX
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import is_address, whole_number

NAME = "exchange"

COLUMNS_MAX = 256  # of one line
PORT_DIGITS_MAX = 5
ADDRESS_CHARS_MAX = 45
DIGITS_MAX = 18  # of a number that is taken for one
QUOTED_MAX = 131_000  # characters of a quoted column that are read; a longer line is split at its commas

_SMTP = (
    "date-time",
    "connector-id",
    "session-id",
    "sequence-number",
    "local-endpoint",
    "remote-endpoint",
    "event",
    "data",
    "context",
)
_IMAP = (
    "dateTime", "sessionId", "seqNumber", "sIp", "cIp", "user", "duration", "rqsize", "rpsize", "command", "parameters", "context",
    "puid",
)  # fmt: skip
_TRACKING_2007 = (
    "date-time", "client-ip", "client-hostname", "server-ip", "server-hostname", "source-context", "connector-id", "source",
    "event-id", "internal-message-id", "message-id", "recipient-address", "recipient-status", "total-bytes", "recipient-count",
    "related-recipient-address", "reference", "message-subject", "sender-address", "return-path", "message-info",
)  # fmt: skip
_TRACKING_2010 = (
    *_TRACKING_2007, "directionality", "tenant-id", "original-client-ip", "original-server-ip", "custom-data",
)  # fmt: skip
_TRACKING_2013 = (
    *_TRACKING_2010[:11], "network-message-id", *_TRACKING_2010[11:], "transport-traffic-type", "log-id", "schema-version",
)  # fmt: skip
_PROXY = (
    "DateTime", "RequestId", "MajorVersion", "MinorVersion", "BuildVersion", "RevisionVersion", "ClientRequestId", "Protocol",
    "UrlHost", "UrlStem", "ProtocolAction", "AuthenticationType", "IsAuthenticated", "AuthenticatedUser", "Organization",
    "AnchorMailbox", "UserAgent", "ClientIpAddress", "ServerHostName", "HttpStatus", "BackEndStatus", "ErrorCode", "Method",
    "ProxyAction", "TargetServer", "TargetServerVersion", "RoutingType", "RoutingHint", "BackEndCookie", "ServerLocatorHost",
    "ServerLocatorLatency", "RequestBytes", "ResponseBytes",
)  # fmt: skip
_TRANSPORT = (
    "RECEIVE|SEND|DELIVER|SUBMIT|FAIL|DSN|DEFER|EXPAND|REDIRECT|RESOLVE|TRANSFER|POISONMESSAGE|AGENTINFO|BADMAIL|CLIENTSUBMISSION|"
    "DROP|DUPLICATEDELIVER|DUPLICATEEXPAND|DUPLICATEREDIRECT|HADISCARD|HARECEIVE|HAREDIRECT|HAREDIRECTFAIL|INITMESSAGECREATED|LOAD|"
    "MODERATIONEXPIRE|MODERATORAPPROVE|MODERATORREJECT|MODERATORSALLNDR|NOTIFYMAPI|NOTIFYSHADOW|POISONMESSAGE|PROCESS|"
    "PROCESSMEETINGMESSAGE|RESUBMIT|RESUBMITDEFER|RESUBMITFAIL|SUBMITDEFER|SUBMITFAIL|SUPPRESSED|THROTTLE"
)
_TRACKED = re.compile(
    r"(?:STOREDRIVER|SMTP|DNS|DSN|GATEWAY|ROUTING|ADMIN|AGENT|APPROVAL|BOOTLOADER|MAILBOXRULE|MEETINGMESSAGEPROCESSOR|ORAR|PICKUP|"
    rf"POISONMESSAGE|PUBLICFOLDER|QUEUE|REDUNDANCY|RESOLVER|SAFETYNET|AGGREGATION|MAILRECIPIENT|TRANSPORT),(?:{_TRANSPORT}),"
)
_STAMP = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,7})?Z?"
_PLACE = r"(?:(?:\d{1,3}\.){3}\d{1,3}|\[?[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.%]{1,60}\]?):\d{1,5}"
_SNIFF = re.compile(
    rf"{_STAMP},(?:[^,\"]{{0,255}},[0-9A-F]{{16}},\d{{1,9}},(?:{_PLACE})?,(?:{_PLACE})?,[-+<>*],"  # SMTP
    rf"|[0-9A-Fa-f]{{16}},\d{{1,9}},(?:{_PLACE}),(?:{_PLACE})?,"  # IMAP and POP
    r"|[0-9a-f]{8}-[0-9a-f-]{27},\d{1,3},\d{1,3},\d{1,6},\d{1,6},"  # HttpProxy
    r"|[\w-]{1,64},(?:ECP|OWA|EWS|EAS|RPC|Mapi|PowerShell|Autodiscover|OAB|RWS)\.\w)"
    r"|#(?:Software: Microsoft Exchange|Log-type: |Fields: ?(?:date-time|dateTime|DateTime|TimeStamp),)|#Date: \d{4}-\d\d-\d\dT|#Version: 1[45]\.\d"
)
_STARTS = re.compile(rf"{_STAMP},")
_REPLY = re.compile(r"([2-5]\d\d)(?:[ -]|$)(?:(\d\.\d{1,3}\.\d{1,3}) )?")
_QUOTED_USER = re.compile(r"User: ?([^\";,]{1,256})")
_GUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}")

_EMAIL = ("email",)
_AUTHENTICATION = ("authentication",)
_WEB = ("web",)
_NETWORK = ("network",)
_START = ("start",)
_INFO = ("info",)
_FAILED = frozenset(
    {"FAIL", "BADMAIL", "POISONMESSAGE", "SUBMITFAIL", "RESUBMITFAIL", "HAREDIRECTFAIL", "DROP", "DEFER", "SUBMITDEFER"}
)
_DONE = frozenset({"DELIVER", "SEND", "RECEIVE", "SUBMIT"})
_HEADS = frozenset({"Software", "Version", "Log-type", "Date", "Fields", "Log-Type"})


def sniff(text: str) -> bool:
    if _SNIFF.match(text) is not None:
        return True
    return _TRACKED.search(text, 20, 4096) is not None and _STARTS.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] == "#":
        return (_head(text, origin),)
    if _STARTS.match(text) is None:
        begin = text.find(" ")
        text = peel(text, origin).message if begin > 0 else text
        if _STARTS.match(text) is None:
            raise ParseError("no Exchange log line: it does not begin with a date, a time and a comma")
    row = _row(text)
    names = columns.stated(origin, len(row)) or _shape(row)
    if names is None:
        raise ParseError("no Exchange log whose columns are known: neither a #Fields line nor one of the usual sets")
    values = dict(zip(names, row, strict=False))
    at = _time(row[0])
    if "event-id" in values:
        return (_tracking(values, at),)
    if "remote-endpoint" in values or "local-endpoint" in values:
        return (_smtp(values, at),)
    if "cIp" in values or "sIp" in values:
        return (_mailbox(values, at),)
    return (_web(values, at),)


def _row(text: str) -> list[str]:
    if '"' in text and len(text) <= QUOTED_MAX:
        try:
            row = next(csv.reader([text]))
        except (csv.Error, StopIteration):
            row = text.split(",")
    else:
        row = text.split(",")
    if len(row) > COLUMNS_MAX:
        raise ParseError(f"more than {COLUMNS_MAX} columns")
    return row


def _shape(row: list[str]) -> tuple[str, ...] | None:
    """The columns of a line whose log stated none: by their number and what stands in the telling ones."""
    count = len(row)
    if count >= 20 and row[8].isupper():
        if count > 11 and _GUID.fullmatch(row[11]) is not None:
            return _TRACKING_2013
        return _TRACKING_2010 if count >= 26 else _TRACKING_2007
    if count >= 8 and row[6] in {"+", "-", ">", "<", "*"}:
        return _SMTP
    if count >= 10 and len(row[1]) == 16 and row[2].isdecimal() and _endpoint(row[3])[1] is not None:
        return _IMAP
    if count >= 20 and _GUID.fullmatch(row[1]) is not None:
        return _PROXY
    if 4 <= count <= 8 and "." in row[2]:
        return ("TimeStamp", "ServerName", "EventId", "EventData")
    return None


def _tracking(values: Mapping[str, str], at: float) -> Event:
    """What happened to a message: received, sent, delivered, failed."""
    get = values.get
    event = get("event-id", "")
    return Event(
        at,
        NAME,
        "exchange.messagetracking",
        _EMAIL,
        _INFO,
        event.lower() or None,
        "failure" if event in _FAILED else "success" if event in _DONE else None,
        None,
        get("message-subject") or None,
        get("server-hostname") or None,
        None,
        None,
        _address(get("original-client-ip")) or _address(get("client-ip")),
        None,
        whole_number(get("total-bytes")),
        _address(get("original-server-ip")) or _address(get("server-ip")),
        None,
        None,
        "tcp" if get("source") == "SMTP" else None,
        service_name="smtp",
        fields=Lazy(_tracking_fields, values),
    )


def _tracking_fields(values: Mapping[str, str]) -> dict[str, Any]:
    fields = _stated(values)
    for name, path in (
        ("message-id", "email.message_id"),
        ("network-message-id", "email.local_id"),
        ("message-subject", "email.subject"),
        ("sender-address", "email.from.address"),
        ("return-path", "email.sender.address"),
        ("client-hostname", "source.domain"),
        ("directionality", "email.direction"),
        ("recipient-status", "event.reason"),
    ):
        if name in fields:
            fields[path] = fields[name]
    if "recipient-address" in fields:
        fields["email.to.address"] = values["recipient-address"].split(";")[:COLUMNS_MAX]
    return fields


def _smtp(values: Mapping[str, str], at: float) -> Event:
    """A step of an SMTP conversation, as the receive or the send connector logs it."""
    get = values.get
    data, context, mark = get("data", ""), get("context", ""), get("event")
    connector = get("connector-id", "")
    remote, remote_port = _endpoint(get("remote-endpoint"))
    local, local_port = _endpoint(get("local-endpoint"))
    outbound = remote_port in {25, 465, 587} and local_port not in {25, 465, 587, 475, 717, 2525}
    category: tuple[str, ...] = _EMAIL
    types: tuple[str, ...] = _INFO
    action = {"+": "connect", "-": "disconnect", ">": "send", "<": "receive", "*": "information"}.get(mark or "")
    outcome = user = None
    reply = _REPLY.match(data) if mark in {">", "<"} else None
    if mark in {"+", "-"}:
        category, types = ("email", "network"), ("connection", "start" if mark == "+" else "end")
    elif reply is not None:
        if reply[1] == "235" or reply[1] == "535" or reply[2] in {"5.7.8", "4.7.0"}:
            category, types, action = _AUTHENTICATION, _START, "authenticate"
            outcome = "success" if reply[1] == "235" else "failure"
        elif reply[1][0] in "45":
            outcome = "failure"
            if reply[1] in {"550", "554", "530"} or (reply[2] or "").startswith("5.7"):
                types = ("denied",)
                category = ("email", "network")
                action = "reject"
    elif context.startswith("authenticated") and mark == "*":
        category, types, action, outcome, user = _AUTHENTICATION, _START, "authenticate", "success", data
    elif "Inbound authentication failed" in context or "authentication failed" in context.lower():
        category, types, action, outcome = _AUTHENTICATION, _START, "authenticate", "failure"
        if (named := _QUOTED_USER.search(context)) is not None:
            user = named[1]
    domain = None
    if user is not None and "\\" in user:
        domain, _, user = user.partition("\\")
    source, source_port, destination, destination_port = remote, remote_port, local, local_port
    if outbound:
        source, source_port, destination, destination_port = local, local_port, remote, remote_port
    return Event(
        at,
        NAME,
        "exchange.smtp",
        category,
        types,
        action,
        outcome,
        None,
        data or context or None,
        connector.partition("\\")[0] if "\\" in connector else None,
        user or None,
        domain,
        source,
        source_port,
        None,
        destination,
        destination_port,
        None,
        "tcp",
        service_name="smtp",
        fields=Lazy(_smtp_fields, values, reply[1] if reply is not None else None),
    )


def _smtp_fields(values: Mapping[str, str], code: str | None) -> dict[str, Any]:
    fields = _stated(values)
    if code is not None:
        fields["smtp.response.code"] = int(code)
    data = values.get("data", "")
    for verb, path in (("MAIL FROM:", "email.from.address"), ("RCPT TO:", "email.to.address")):
        if data[: len(verb)].upper() == verb:
            fields[path] = data[len(verb) :].strip().partition(">")[0].lstrip("<")
    return fields


def _mailbox(values: Mapping[str, str], at: float) -> Event:
    """A command of an IMAP or POP session."""
    get = values.get
    command = get("command", "").lower()
    said = get("context", "")
    client, client_port = _endpoint(get("cIp"))
    server, server_port = _endpoint(get("sIp"))
    protocol = "pop3" if server_port in {110, 995, 1995} or command in {"user", "pass", "auth"} else "imap"
    user = get("user")
    category: tuple[str, ...] = _EMAIL
    types: tuple[str, ...] = _INFO
    failed = (
        "AuthFailed" in said
        or "LogonDenied" in said
        or "LogonFailed" in said
        or "ErrMsg=" in said
        or " NO " in said[:40]
        or "-ERR" in said[:16]
    )
    outcome = "failure" if failed else "success" if "R=" in said or "OK" in said[:40] else None
    if command in {"authenticate", "login", "pass", "auth"}:
        category, types = _AUTHENTICATION, _START
        outcome = outcome or "success"
    elif command in {"logout", "quit", "closesession"}:
        types = ("end",)
        category = _AUTHENTICATION if user else _EMAIL
    elif command == "opensession":
        category, types = _NETWORK, ("connection", "start")
    domain = None
    if user is not None and "\\" in user:
        domain, _, user = user.partition("\\")
    return Event(
        at,
        NAME,
        "exchange." + protocol,
        category,
        types,
        command or None,
        outcome,
        None,
        said or None,
        None,
        user or None,
        domain,
        client,
        client_port,
        whole_number(get("rqsize")),
        server,
        server_port,
        whole_number(get("rpsize")),
        "tcp",
        service_name=protocol,
        fields=Lazy(_stated, values),
    )


def _web(values: Mapping[str, str], at: float) -> Event:
    """A request as the HttpProxy, ECP, OWA or EWS log has it."""
    get = values.get
    status = get("HttpStatus") or get("HTTPStatus") or ""
    code = int(status) if len(status) == 3 and status.isdecimal() and status.isascii() else None
    user = get("AuthenticatedUser")
    domain = None
    if user is not None and "\\" in user:
        domain, _, user = user.partition("\\")
    stem = get("UrlStem")
    client = get("ClientIpAddress", "").partition(",")[0]
    return Event(
        at,
        NAME,
        "exchange.httpproxy" if "UrlStem" in values else "exchange.ecp",
        _WEB,
        ("access",),
        get("EventId") or get("ProtocolAction") or None,
        event_outcome=None if code is None else "success" if code < 400 else "failure",
        message=get("EventData") or get("GenericErrors") or get("ErrorCode") or None,
        host_name=get("ServerHostName") or get("ServerName") or None,
        user_name=user or None,
        user_domain=domain,
        source_ip=_address(client),
        source_bytes=whole_number(get("RequestBytes")),
        destination_bytes=whole_number(get("ResponseBytes")),
        url_path=stem or None,
        http_response_status_code=code,
        service_name="web",
        fields=Lazy(_web_fields, values),
    )


def _web_fields(values: Mapping[str, str]) -> dict[str, Any]:
    fields = _stated(values)
    for name, path in (
        ("UserAgent", "user_agent.original"),
        ("UrlHost", "url.domain"),
        ("Method", "http.request.method"),
        ("UrlStem", "url.original"),
    ):
        if name in fields:
            fields[path] = fields[name]
    return fields


def _stated(values: Mapping[str, str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _head(text: str, origin: Origin) -> Event:
    name, colon, rest = text[1:].partition(":")
    if not colon or name not in _HEADS:
        raise ParseError("no line of an Exchange log's head")
    if name == "Fields":
        columns.remember(origin, tuple(part.strip() for part in rest.split(",")))
    return Event(
        timestamp=origin.received,
        event_module=NAME,
        event_dataset="exchange.head",
        event_category=_EMAIL,
        event_type=_INFO,
        message=text,
    )


def _time(stated: str) -> float:
    """Exchange writes UTC, with and without saying so."""
    try:
        at = datetime.fromisoformat(stated.removesuffix("Z")[:26] + "+00:00").timestamp()
    except (ValueError, OverflowError) as error:
        raise ParseError(f"no such time: {error}") from error
    if not 0 <= at < EPOCH_S_MAX:
        raise ParseError("no time of a log line")
    return at


def _endpoint(word: str | None) -> tuple[str | None, int | None]:
    if word is None:
        return None, None
    place, _, port = word.rpartition(":")
    address = place.strip("[]").partition("%")[0]
    if port.isdecimal() and port.isascii() and len(port) <= PORT_DIGITS_MAX and (address := _address(address) or ""):
        return address, int(port)
    return _address(word), None


def _address(word: str | None) -> str | None:
    return word if word and len(word) <= ADDRESS_CHARS_MAX and is_address(word) else None
