"""ModSecurity and Coraza: audit logs as JSON (version 2 and 3) and as text, and alerts in the error logs of their servers.

Alerts are read in Apache's and nginx' error logs, in Caddy's JSON, and on their own behind a syslog envelope.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors import accesslog
from connectors.clock import EPOCH_S_MAX, MONTHS, from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.tolerant_json import decode
from connectors.values import is_address

NAME = "modsecurity"

CLIENT_CHARS_MAX = 160  # on either side of the product's name where the client is looked for
SAID_CHARS_MAX = 2048  # of a message without tags
TAGS_MAX = 256  # of one alert
HEADERS_MAX = 128  # of one request that are looked at
PART_CHARS_MAX = 4096  # between a text record's head and its request
MESSAGES_MAX = 64  # rules of one request that are kept
DIGITS_MAX = 18  # of a number that is taken for one

_SAID = re.compile(r"(?:ModSecurity|Coraza|coraza): ")
_VALUE = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+(?="\])', re.DOTALL)
_TAG = re.compile(r'\[([a-z_]{1,32}) "([^"\\]*+(?:\\.[^"\\]*+)*+)"\]', re.DOTALL)
_LEVEL = r"\[(?:[\w-]{0,64}:)?(?P<level>\w{1,16})\] (?:\[pid (?P<pid>\d{1,10})(?::tid \d{1,20})?\] )?"
_APACHE = re.compile(
    r"\[(?:\w{3} )?(?P<month>\w{3}) {1,2}(?P<day>\d{1,2}) (?P<time>\d\d:\d\d:\d\d)(?P<fraction>\.\d{1,9})? (?P<year>\d{4})\] "
    + _LEVEL
)
_NGINX = re.compile(
    r"(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d) (?P<time>\d\d:\d\d:\d\d)(?P<fraction>) \[(?P<level>\w{1,16})\] "
    r"(?:(?P<pid>\d{1,10})#\d{1,10}: )?"
)
_BARE = re.compile(_LEVEL)  # Apache's, whose own time the envelope replaces
_CLIENT = re.compile(r'\[client "?([^\s\]"]{1,64})"?\]')
_NGINX_TAIL = re.compile(
    r', client: ([0-9A-Fa-f.:]{2,45})(?:, server: ([^,"]{0,256}))?(?:, request: "([^"\\]*+(?:\\.[^"\\]*+)*+)")?',
    re.DOTALL,
)
_NGINX_HOST = re.compile(r', host: "([^"]{1,512}?)(?::\d{1,5})?"')
_CODE = re.compile(r"with (?:code|status) (\d{3})")
_PHASE = re.compile(r"phase (\d)")
_SOPHOS = re.compile(r"(?:<\d{1,3}>)?\d{4}:\d{1,2}:\d{1,2}-")  # the time of Sophos UTM, which has a parser of its own
_TRANSACTION = re.compile(r'"transaction" ?: ?\{')
_SECTION = re.compile(r"--([0-9A-Za-z]{6,16})-+([A-Z])--")
_PART_A = re.compile(
    r"\[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d)(?:\.\d{1,6})? ?([+-]+\d{4})?\] (\S{1,64}) (\S{1,64}) (\d{1,5}) (\S{1,64}) (\d{1,5})"
)
_PART_B = re.compile(
    r"(?:^|-- |\s)(GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT|PROPFIND|SEARCH) (\S+)(?: HTTP/(\d(?:\.\d)?))?"
)
_PART_F = re.compile(r"--[0-9A-Za-z]{6,16}-+F--\s+HTTP/\S{1,8} (\d{3})")
_V3_TIME = re.compile(r"\w{3} (\w{3}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4})")
_V2_TIME = re.compile(r"(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d)(\.\d{1,9})? ([+-]\d{4})")

_WEB = ("web", "intrusion_detection")
_ONLY_WEB = ("web",)
_INFO = ("info",)
_ACCESS = ("access",)
_DENIED = ("access", "denied")
_SEVERITIES = {
    name: str(n)
    for n, name in enumerate(("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"))
}
_NAMED = (("id", "rule.id"), ("msg", "rule.name"), ("ver", "rule.version"), ("file", "rule.ruleset"))


def sniff(text: str) -> bool:
    if text[:1] == "{" or '{"' in text[:200]:
        if _TRANSACTION.search(text, 0, 400) is not None:
            return '"client_ip"' in text or '"remote_address"' in text
        return '"logger":"http.handlers.waf"' in text[:400] and "Coraza: " in text
    if _SECTION.match(text) is not None:
        return True
    if _SOPHOS.match(text) is not None:
        return False
    said = _SAID.search(text, 0, 2048)
    return said is not None and ('[id "' in text or '[unique_id "' in text or '[hostname "' in text)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text[:1] == "{":
        return (_json(text, None, origin),)
    if _SECTION.match(text) is not None or _PART_A.match(text) is not None:
        return (_text_audit(text, origin),)
    said = _SAID.search(text, 0, 4096)
    if said is not None:
        return (_alert(text, said.start(), origin),)
    brace = text.find('{"', 0, 512)
    if brace >= 0:
        return (_json(text[brace:], peel(text, origin).host, origin),)
    raise ParseError("no ModSecurity log: neither an audit log nor an alert")


def _alert(text: str, begin: int, origin: Origin) -> Event:
    """One alert: what was matched, tags in brackets, and around them what the server's error log states."""
    host = pid = level = None
    body = text
    at = origin.received
    head = _APACHE.match(text) or _NGINX.match(text)
    if head is None:
        envelope = peel(text, origin)
        host, pid, body = envelope.host, envelope.pid, envelope.message
        at = at if envelope.timestamp is None else envelope.timestamp
        head = _BARE.match(body)
        begin -= len(text) - len(body) if text.endswith(body) else begin
        if (said := _SAID.search(body, max(0, begin))) is None:
            raise ParseError("no ModSecurity alert behind the envelope")
        begin = said.start()
    else:
        at = _stamped(head, origin)
    if head is not None:
        level, pid = head["level"], int(head["pid"]) if head["pid"] else pid
    return _alerted(body, begin, at, host, pid, level)


def _alerted(body: str, begin: int, at: float, host: str | None, pid: int | None, level: str | None) -> Event:
    message = body[body.index(": ", begin) + 2 :].strip()
    address = port = None
    client = _CLIENT.search(body, begin - CLIENT_CHARS_MAX if begin > CLIENT_CHARS_MAX else 0, begin + CLIENT_CHARS_MAX)
    tail = message.rfind(", client: ")
    request = _NGINX_TAIL.match(message, tail) if tail >= 0 else None
    if client is not None:
        address, port = _place(client[1])
    if address is None and request is not None:
        address = request[1]
    target = _tag(message, "uri")
    if request is not None and request[3]:
        target = request[3].partition(" ")[2].rpartition(" HTTP/")[0] or target
    rule = '[id "' in message
    end = message.find(" [")
    said = message[: end if end >= 0 else SAID_CHARS_MAX]
    denied = said.startswith("Access denied")
    code = _CODE.search(said) if denied else None
    return Event(
        at,
        NAME,
        "modsecurity.alert",
        _WEB if rule else _ONLY_WEB,
        _DENIED if denied else _INFO,
        "denied" if denied else "matched" if rule else None,
        "failure" if denied else None,
        None,
        _tag(message, "msg") or said,
        host,
        source_ip=address,
        source_port=port,
        process_pid=pid,
        url_path=target.partition("?")[0] if target else None,
        http_response_status_code=int(code[1]) if code is not None else None,
        service_name="web",
        fields=Lazy(_alert_fields, message, said, target, request, level),
    )


def _tag(message: str, name: str) -> str | None:
    """The value of the last tag of a name: quotes in values are escaped, so none can pretend to be a tag."""
    at = message.rfind(f'[{name} "')
    value = _VALUE.match(message, at + len(name) + 3) if at >= 0 else None
    return value[0] if value is not None and value[0] else None


def _place(word: str) -> tuple[str | None, int | None]:
    """Address and port: Apache 2.4 puts the port behind, of IPv6 too, without brackets."""
    if is_address(word):
        return word, None
    left, _, right = word.rpartition(":")
    left = left.strip("[]")
    if is_address(left):
        return left, int(right) if right.isdecimal() and right.isascii() and 0 < int(right[:6]) < 65536 else None
    return None, None


def _alert_fields(
    message: str, said: str, target: str | None, request: re.Match[str] | None, level: str | None
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    tags = _TAG.findall(message)[:TAGS_MAX]
    values = {name: value for name, value in tags if value}
    _tagged(values, [value for name, value in tags if name == "tag"], fields)
    domain = values.get("hostname")
    if request is not None:
        method, _, spoken = (request[3] or "").partition(" ")
        if spoken:
            fields["http.request.method"] = method
            if version := spoken.rpartition(" HTTP/")[2]:
                fields["http.version"] = version
        if (asked := _NGINX_HOST.search(message, request.end())) is not None:
            domain = asked[1]
    if domain:
        fields["url.domain"] = domain
    if target is not None:
        fields["url.original"] = target
        if "?" in target:
            fields["url.query"] = target.partition("?")[2]
    if level is not None:
        fields["log.level"] = level
    if (phase := _PHASE.search(said)) is not None:
        fields["modsec.audit.phase"] = int(phase[1])
    return fields


def _tagged(values: Mapping[str, str], tags: list[str], fields: dict[str, Any]) -> None:
    for name, path in _NAMED:
        if name in values:
            fields[path] = values[name]
    if "data" in values:
        fields["modsec.audit.details"] = values["data"]
    if "severity" in values:
        fields["modsec.audit.severity"] = values["severity"]
        severity = _SEVERITIES.get(values["severity"].upper(), values["severity"])
        if severity.isdecimal() and len(severity) == 1:
            fields["event.severity"] = int(severity)
    if "unique_id" in values:
        fields["http.request.id"] = values["unique_id"]
    if tags:
        fields["rule.category"] = next((tag for tag in tags if tag.startswith("attack-")), tags[0])
        fields["modsec.audit.tags"] = tags


def _json(text: str, host: str | None, origin: Origin) -> Event:
    log, _ = decode(text)
    if type(log) is not dict:
        raise ParseError("no ModSecurity log: no JSON object")
    transaction = log.get("transaction")
    if type(transaction) is dict:
        if "remote_address" in transaction or "local_address" in transaction or "audit_data" in log:
            return _version_2(log, transaction, host, origin)
        return _version_3(log, transaction, host, origin)
    message = log.get("msg")
    if type(message) is str and (said := _SAID.search(message, 0, 400)) is not None:
        at = _when(log.get("ts"), None, origin)
        level = log.get("level")
        return _alerted(message, said.start(), at, host, None, level if type(level) is str else None)
    raise ParseError("no ModSecurity log: no transaction and no alert in this JSON")


def _version_3(log: dict[str, Any], about: dict[str, Any], host: str | None, origin: Origin) -> Event:
    """Version 3 (libmodsecurity) and Coraza: a request, its answer, and the messages of the rules it met."""
    request, response = _below(about, "request"), _below(about, "response")
    stated = about.get("messages", log.get("messages"))
    messages = [message for message in stated if type(message) is dict] if type(stated) is list else []
    said = next((word for message in messages if (word := _word(message.get("message"))) is not None), None)
    denied = about.get("is_interrupted") is True or any(
        (_word(_below(message, "details").get("match")) or "").startswith("Access denied") for message in messages
    )
    more = {
        "http.request.method": _word(request.get("method")),
        "http.version": _version(request.get("http_version") or request.get("protocol")),
        "http.request.id": _word(about.get("unique_id") or about.get("id")),
        "modsec.audit.server": _word(about.get("server_id")),
    }
    at = _when(about.get("time_stamp", about.get("timestamp")), about.get("unix_timestamp"), origin)
    target = _word(request.get("uri"))
    return _audited(
        at, host, _word(about.get("client_ip")), about.get("client_port"), _word(about.get("host_ip")), about.get("host_port"),
        None, target, _number(response.get("http_code", response.get("status"))), denied, said, bool(messages),
        Lazy(_audit_fields, target, _below(request, "headers"), _rules_3, messages, more),
    )  # fmt: skip


def _rules_3(messages: list[Any]) -> list[dict[str, Any]]:
    found = []
    for message in messages:
        details = _below(message, "details") or _below(message, "data")
        tags = details.get("tags")
        rule: dict[str, Any] = {name: _word(details.get(name)) for name in ("file", "ver", "data", "severity")}
        rule["id"] = _word(details.get("ruleId", details.get("id")))
        rule["msg"] = _word(message.get("message") or details.get("msg"))
        rule["tags"] = [tag for tag in tags if type(tag) is str] if type(tags) is list else []
        rule["said"] = _word(details.get("match") or message.get("error_message"))
        found.append(rule)
    return found


def _version_2(log: dict[str, Any], about: dict[str, Any], host: str | None, origin: Origin) -> Event:
    """Version 2 (mod_security2): the messages are texts as they stand in the error log."""
    request, response, audit = _below(log, "request"), _below(log, "response"), _below(log, "audit_data")
    headers = _below(request, "headers")
    stated = audit.get("messages")
    messages = [message for message in stated if type(message) is str] if type(stated) is list else []
    denied = _below(audit, "action").get("intercepted") is True or any(m.startswith("Access denied") for m in messages)
    method, _, spoken = (_word(request.get("request_line")) or "").partition(" ")
    target, mark, version = spoken.rpartition(" HTTP/")
    target = target if mark else spoken
    more = {
        "http.request.method": method or None,
        "http.version": version if mark else None,
        "http.request.id": _word(about.get("transaction_id")),
        "modsec.audit.server": _word(audit.get("server")),
    }
    return _audited(
        _when(about.get("time"), None, origin), host, _word(about.get("remote_address")), about.get("remote_port"),
        _word(about.get("local_address")), about.get("local_port"), _word(headers.get("REMOTE_USER")), target or None,
        _number(response.get("status")), denied, _tag(messages[0], "msg") if messages else None, bool(messages),
        Lazy(_audit_fields, target or None, headers, _rules_2, messages, more),
    )  # fmt: skip


def _rules_2(messages: list[Any]) -> list[dict[str, Any]]:
    found = []
    for message in messages:
        tags = _TAG.findall(message)[:TAGS_MAX]
        rule: dict[str, Any] = dict(tags)
        rule["tags"] = [value for name, value in tags if name == "tag"]
        rule["said"] = message.partition(" [file ")[0]
        found.append(rule)
    return found


def _audited(
    at: float,
    host: str | None,
    client: str | None,
    client_port: Any,
    server: str | None,
    server_port: Any,
    user: str | None,
    target: str | None,
    code: int | None,
    denied: bool,
    said: str | None,
    matched: bool,
    fields: Lazy,
) -> Event:
    return Event(
        at,
        NAME,
        "modsecurity.auditlog",
        _WEB if matched else _ONLY_WEB,
        _DENIED if denied else _ACCESS,
        "denied" if denied else "matched" if matched else None,
        None if code is None else "success" if code < 400 else "failure",
        None,
        said,
        host,
        user,
        None,
        client if client is not None and is_address(client) else None,
        _number(client_port),
        None,
        server if server is not None and is_address(server) else None,
        _number(server_port),
        url_path=target.partition("?")[0] if target else None,
        http_response_status_code=code,
        service_name="web",
        fields=fields,
    )


def _audit_fields(
    target: str | None,
    headers: Mapping[str, Any],
    rules: Callable[[list[Any]], list[dict[str, Any]]],
    messages: list[Any],
    more: dict[str, Any],
) -> dict[str, Any]:
    fields = {path: value for path, value in more.items() if value is not None}
    found = rules(messages[:MESSAGES_MAX])
    if found:
        first = found[0]
        _tagged({name: value for name, value in first.items() if type(value) is str and value}, first["tags"], fields)
        if said := [rule["said"] for rule in found if rule["said"]]:
            fields["modsec.audit.messages"] = said
        if ids := [rule["id"] for rule in found if rule.get("id")]:
            fields["modsec.audit.rules"] = ids
    if target is not None:
        fields["url.original"] = target
        if "?" in target:
            fields["url.query"] = target.partition("?")[2]
    sent = {name.lower(): value for name, value in list(headers.items())[:HEADERS_MAX]}
    for name, path in (
        ("host", "url.domain"),
        ("user-agent", "user_agent.original"),
        ("referer", "http.request.referrer"),
    ):
        value = sent.get(name)
        if type(value) is list and value:
            value = value[0]
        if type(value) is str and value:
            fields[path] = value
    return fields


def _text_audit(text: str, origin: Origin) -> Event:
    """A record of the text audit log, its sections on one line, or one of its lines on its own."""
    part = _PART_A.search(text, 0, 400)
    if part is None:
        section = _SECTION.match(text)
        return Event(
            timestamp=origin.received,
            event_module=NAME,
            event_dataset="modsecurity.auditlog",
            event_category=_ONLY_WEB,
            event_type=("info",),
            message=text,
            service_name="web",
            fields={"http.request.id": section[1]} if section is not None else {},
        )
    stamp, zone, unique, client, client_port, server, server_port = part.groups()
    request = _PART_B.search(text, part.end(), part.end() + PART_CHARS_MAX)
    answer = _PART_F.search(text, part.end())
    denied = "Message: Access denied with code" in text
    target = request[2] if request is not None else None
    more = {
        "http.request.method": request[1] if request is not None else None,
        "http.version": request[3] if request is not None else None,
        "http.request.id": unique,
    }
    begin = text.find("Message: ", part.end())
    messages = text[begin + 9 :].split("Message: ")[:MESSAGES_MAX] if begin >= 0 else []
    said = _tag(messages[0], "msg") if messages else None
    return _audited(
        _when(f"{stamp} {zone[-5:] if zone else '+0000'}", None, origin), None, client, client_port, server, server_port, None,
        target, int(answer[1]) if answer is not None else None, denied, said, bool(messages),
        Lazy(_audit_fields, target, {}, _rules_2, messages, more),
    )  # fmt: skip


def _when(stated: Any, unix: Any, origin: Origin) -> float:
    """The time of an audit log in one of its forms; when it arrived if no calendar has it."""
    try:
        if type(unix) is int and unix > 0:
            return from_epoch(unix)
        if type(stated) is float or type(stated) is int:
            return from_epoch(stated)
        if type(stated) is str:
            if (line := _V2_TIME.fullmatch(stated)) is not None:
                return accesslog.time_of(f"{line[1]} {line[3]}") + (float(line[2][:10]) if line[2] else 0.0)
            if (line := _V3_TIME.fullmatch(stated)) is not None:
                month = MONTHS.get(line[1].lower(), 0)
                clock = (int(line[3]), int(line[4]), int(line[5]))
                at = origin.clock.local(int(line[6]), month, int(line[2]), *clock)
            else:
                at = from_iso(stated.replace("/", "-"), origin.clock)
            if 0 <= at < EPOCH_S_MAX:
                return at
    except (ValueError, OverflowError):  # ParseError is a ValueError
        pass
    return origin.received


def _stamped(head: re.Match[str], origin: Origin) -> float:
    """The time of an error log's line, local to its server; when it arrived if no calendar has it."""
    name, time = head["month"], head["time"]
    try:
        month = int(name) if name.isdecimal() else MONTHS.get(name.lower(), 0)
        date = int(head["year"]), month, int(head["day"])
        at = origin.clock.local(*date, int(time[:2]), int(time[3:5]), int(time[6:8]))
    except (ValueError, OverflowError):
        return origin.received
    at += float(head["fraction"] or 0)
    return at if 0 <= at < EPOCH_S_MAX else origin.received


def _below(log: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = log.get(name)
    return value if type(value) is dict else {}


def _word(value: Any) -> str | None:
    if type(value) is str:
        return value or None
    return str(value) if type(value) is int else None


def _version(value: Any) -> str | None:
    if type(value) is float or type(value) is int:
        return str(value)
    return value.removeprefix("HTTP/") if type(value) is str and value else None


def _number(value: Any) -> int | None:
    if type(value) is int:
        return value if 0 <= value < 10**DIGITS_MAX else None
    if type(value) is str and value.isdecimal() and value.isascii() and len(value) <= DIGITS_MAX:
        return int(value)
    return None
