"""ModSecurity and Coraza: audit logs as JSON (version 2 and 3) and as text, and alerts in the error logs of their servers.

Alerts are read in Apache's and nginx' error logs, in Caddy's JSON, and on their own behind a syslog envelope.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors import accesslog
from connectors.clock import EPOCH_S_MAX, MONTHS, from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.tolerant_json import decode

NAME = "modsecurity"

TAGS_MAX = 256  # of one alert
MESSAGES_MAX = 64  # rules of one request that are kept
DIGITS_MAX = 18  # of a number that is taken for one

_SAID = re.compile(r"(?:ModSecurity|Coraza|coraza): ")
_TAG = re.compile(r'\[([a-z_]{1,32}) "((?:[^"\\]++|\\.)*+)"\]', re.DOTALL)
_APACHE = re.compile(
    r"\[(?:\w{3} )?(?P<month>\w{3}) {1,2}(?P<day>\d{1,2}) (?P<time>\d\d:\d\d:\d\d)(?P<fraction>\.\d{1,9})? (?P<year>\d{4})\] "
    r"\[(?:[\w-]{0,64}:)?(?P<level>\w{1,16})\] (?:\[pid (?P<pid>\d{1,10})(?::tid \d{1,20})?\] )?"
)
_NGINX = re.compile(
    r"(?P<date>\d{4}/\d\d/\d\d) (?P<time>\d\d:\d\d:\d\d) \[(?P<level>\w{1,16})\] (?:(?P<pid>\d{1,10})#\d{1,10}: )?(?:\*\d{1,20} )?"
)
_CLIENT = re.compile(r'\[(client|remote) "?([^\s\]"]{1,64})"?\] ?')
_NGINX_TAIL = re.compile(
    r', client: ([0-9A-Fa-f.:]{2,45})(?:, server: ([^,"]{0,256}))?(?:, request: "((?:[^"\\]++|\\.)*+)")?(.*)', re.DOTALL
)
_NGINX_HOST = re.compile(r', host: "([^"]{1,512})"')
_CODE = re.compile(r"with code (\d{3})|status (\d{3})")
_PHASE = re.compile(r"phase (\d)")
_REQUEST = re.compile(r"(\S{1,64}) (.*?)(?: HTTP/(\d(?:\.\d)?))?", re.DOTALL)
_TRANSACTION = re.compile(r'"transaction" ?: ?\{')
_SECTION = re.compile(r"--([0-9A-Za-z]{6,16})-+([A-Z])--")
_PART_A = re.compile(
    r"\[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d)(?:\.\d{1,6})? ?([+-]+\d{4})?\] (\S{1,64}) (\S{1,64}) (\d{1,5}) (\S{1,64}) (\d{1,5})"
)
_PART_B = re.compile(
    r"(?:^|--|\s)((?:GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT|PROPFIND|SEARCH) (\S+)(?: HTTP/(\d(?:\.\d)?))?)"
)
_PART_F = re.compile(r"--[0-9A-Za-z]{6,16}-+F--\s+HTTP/\S{1,8} (\d{3})")
_V3_TIME = re.compile(r"\w{3} (\w{3}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4})")
_V2_TIME = re.compile(r"(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d)(\.\d{1,9})? ([+-]\d{4})")
_PLAIN_ADDRESS = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{1,5}))?")

_WEB = ("web", "intrusion_detection")
_ONLY_WEB = ("web",)
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
    fields: dict[str, Any] = {}
    host = pid = level = None
    at: float | None = None
    body = text
    if (head := _APACHE.match(text)) is not None:
        at = _calendar(int(head["year"]), MONTHS.get(head["month"].lower(), 0), int(head["day"]), head["time"], origin)
        if at is not None and head["fraction"]:
            at += float(head["fraction"])
    elif (head := _NGINX.match(text)) is not None:
        year, month, day = head["date"].split("/")
        at = _calendar(int(year), int(month), int(day), head["time"], origin)
    else:
        envelope = peel(text, origin)
        at, host, pid = envelope.timestamp, envelope.host, envelope.pid
        body = envelope.message
        head = _APACHE.match(body) or _NGINX.match(body)
        said = _SAID.search(body, 0, 4096)
        if said is None:
            raise ParseError("no ModSecurity alert behind the envelope")
        begin = said.start()
    if head is not None:
        level, pid = head["level"], int(head["pid"]) if head["pid"] else pid
    return _alerted(body, begin, origin.received if at is None else at, host, pid, level, fields)


def _alerted(
    body: str, begin: int, at: float, host: str | None, pid: int | None, level: str | None, fields: dict[str, Any]
) -> Event:
    address = port = None
    for found in _CLIENT.finditer(body, max(0, begin - 200), begin + 400):
        place = _PLAIN_ADDRESS.fullmatch(found[2])
        if place is not None:
            address, stated = place.groups()
            port = int(stated) if stated and stated != "0" else port
        elif accesslog.is_address(found[2].strip("[]")):
            address = found[2].strip("[]")
        elif accesslog.is_address(bare := found[2].rpartition(":")[0].strip("[]")):
            address = bare
    message = body[body.index(": ", begin) + 2 :].strip()
    tags = _TAG.findall(message)[:TAGS_MAX]
    values = {name: value for name, value in reversed(tags) if value}
    end = message.find(" [file ")
    if end < 0:
        end = message.find(" [")
    said = message if end < 0 else message[:end]
    target = values.get("uri")
    domain = values.get("hostname")
    tail = _NGINX_TAIL.search(message, message.rfind(", client: ")) if ", client: " in message else None
    if tail is not None:
        address = address or tail[1]
        request = _REQUEST.fullmatch(tail[3] or "")
        if request is not None:
            fields["http.request.method"], target = request[1], request[2]
            if request[3]:
                fields["http.version"] = request[3]
        if (asked := _NGINX_HOST.search(tail[4] or "")) is not None:
            domain = (
                asked[1].rpartition(":")[0] if asked[1].rpartition(":")[2].isdecimal() and ":" in asked[1] else asked[1]
            )
    denied = said.startswith("Access denied") or "denied" in said[:80] or "ntercept" in said[:80]
    code = _CODE.search(said, 0, 200) if denied else None
    _tagged(values, [value for name, value in tags if name == "tag"], fields)
    if domain:
        fields["url.domain"] = domain
    if target is not None:
        fields["url.original"] = target
        if "?" in target:
            fields["url.query"] = target.partition("?")[2]
    if level is not None:
        fields["log.level"] = level
    if (phase := _PHASE.search(said, 0, 200)) is not None:
        fields["modsec.audit.phase"] = int(phase[1])
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="modsecurity.alert",
        event_category=_WEB if "id" in values else _ONLY_WEB,
        event_type=("access", "denied") if denied else ("info",),
        event_action="denied" if denied else "matched" if "id" in values else None,
        event_outcome="failure" if denied else None,
        message=values.get("msg") or said,
        host_name=host,
        source_ip=address if address is not None and accesslog.is_address(address) else None,
        source_port=port,
        process_pid=pid,
        url_path=target.partition("?")[0] if target else None,
        http_response_status_code=int(code[1] or code[2]) if code is not None else None,
        service_name="web",
        fields=fields,
    )


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
        return _alerted(message, said.start(), at, host, None, level if type(level) is str else None, {})
    raise ParseError("no ModSecurity log: no transaction and no alert in this JSON")


def _version_3(log: dict[str, Any], about: dict[str, Any], host: str | None, origin: Origin) -> Event:
    """Version 3 (libmodsecurity) and Coraza: a request, its answer, and the messages of the rules it met."""
    request, response = _below(about, "request"), _below(about, "response")
    headers = {name.lower(): value for name, value in _below(request, "headers").items()}
    messages = about.get("messages", log.get("messages"))
    found: list[dict[str, Any]] = []
    for message in messages[:MESSAGES_MAX] if type(messages) is list else []:
        if type(message) is dict:
            details = _below(message, "details") or _below(message, "data")
            tags = details.get("tags")
            found.append(
                {
                    "id": _word(details.get("ruleId", details.get("id"))),
                    "msg": _word(message.get("message") or details.get("msg")),
                    "file": _word(details.get("file")),
                    "ver": _word(details.get("ver")),
                    "data": _word(details.get("data")),
                    "severity": _word(details.get("severity")),
                    "tags": [tag for tag in tags if type(tag) is str] if type(tags) is list else [],
                    "said": _word(details.get("match") or message.get("error_message")) or "",
                }
            )
    code = _number(response.get("http_code", response.get("status")))
    denied = about.get("is_interrupted") is True or any("denied" in message["said"][:80] for message in found)
    target = _word(request.get("uri"))
    at = _when(about.get("time_stamp", about.get("timestamp")), about.get("unix_timestamp"), origin)
    fields = {
        "http.request.method": _word(request.get("method")),
        "http.version": _version(request.get("http_version") or request.get("protocol")),
        "http.request.id": _word(about.get("unique_id") or about.get("id")),
        "modsec.audit.server": _word(about.get("server_id")),
    }
    return _audited(
        at, host, _word(about.get("client_ip")), about.get("client_port"), _word(about.get("host_ip")), about.get("host_port"),
        None, target, code, denied, headers, found, fields,
    )  # fmt: skip


def _version_2(log: dict[str, Any], about: dict[str, Any], host: str | None, origin: Origin) -> Event:
    """mod_security2's JSON: the messages are texts as they stand in the error log."""
    request, response, audit = _below(log, "request"), _below(log, "response"), _below(log, "audit_data")
    headers = {name.lower(): value for name, value in _below(request, "headers").items()}
    found: list[dict[str, Any]] = []
    messages = audit.get("messages")
    for message in messages[:MESSAGES_MAX] if type(messages) is list else []:
        if type(message) is str:
            tags = _TAG.findall(message)[:TAGS_MAX]
            found.append(
                dict(reversed(tags))
                | {"tags": [value for name, value in tags if name == "tag"], "said": message.partition(" [file ")[0]}
            )
    line = _REQUEST.fullmatch(_word(request.get("request_line")) or "")
    action = _below(audit, "action")
    denied = action.get("intercepted") is True or any(message["said"].startswith("Access denied") for message in found)
    fields = {
        "http.request.method": line[1] if line is not None else None,
        "http.version": line[3] if line is not None else None,
        "http.request.id": _word(about.get("transaction_id")),
        "modsec.audit.server": _word(audit.get("server")),
    }
    user = headers.get("remote_user")
    return _audited(
        _when(about.get("time"), None, origin), host, _word(about.get("remote_address")), about.get("remote_port"),
        _word(about.get("local_address")), about.get("local_port"), user if type(user) is str else None,
        line[2] if line is not None else None, _number(response.get("status")), denied, headers, found, fields,
    )  # fmt: skip


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
    headers: Mapping[str, Any],
    found: list[dict[str, Any]],
    more: dict[str, Any],
) -> Event:
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="modsecurity.auditlog",
        event_category=_WEB if found else _ONLY_WEB,
        event_type=("access", "denied") if denied else ("access",),
        event_action="denied" if denied else "matched" if found else None,
        event_outcome=None if code is None else "success" if code < 400 else "failure",
        message=next((message["msg"] for message in found if message.get("msg")), None),
        host_name=host,
        user_name=user,
        source_ip=client if client is not None and accesslog.is_address(client) else None,
        source_port=_number(client_port),
        destination_ip=server if server is not None and accesslog.is_address(server) else None,
        destination_port=_number(server_port),
        url_path=target.partition("?")[0] if target else None,
        http_response_status_code=code if code is not None and 100 <= code <= 999 else None,
        service_name="web",
        fields=Lazy(_audit_fields, target, headers, found, more),
    )


def _audit_fields(
    target: str | None, headers: Mapping[str, Any], found: list[dict[str, Any]], more: dict[str, Any]
) -> dict[str, Any]:
    fields = {path: value for path, value in more.items() if value is not None}
    if found:
        first = found[0]
        _tagged({name: value for name, value in first.items() if type(value) is str and value}, first["tags"], fields)
        if first["said"]:
            fields["modsec.audit.messages"] = [message["said"] for message in found if message["said"]]
        if ids := [message["id"] for message in found if message.get("id")]:
            fields["modsec.audit.rules"] = ids
    if target is not None:
        fields["url.original"] = target
        if "?" in target:
            fields["url.query"] = target.partition("?")[2]
    for name, path in (
        ("host", "url.domain"),
        ("user-agent", "user_agent.original"),
        ("referer", "http.request.referrer"),
    ):
        value = headers.get(name)
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
    request = _PART_B.search(text, part.end(), part.end() + 4096)
    answer = _PART_F.search(text, part.end())
    tags = _TAG.findall(text)[:TAGS_MAX]
    values = dict(reversed(tags))
    denied = "Access denied with code" in text
    found: list[dict[str, Any]] = []
    if "id" in values:
        found = [values | {"tags": [value for name, value in tags if name == "tag"], "said": ""}]
    fields = {
        "http.request.method": request[1].partition(" ")[0] if request is not None else None,
        "http.version": request[3] if request is not None else None,
        "http.request.id": unique,
    }
    return _audited(
        _when(f"{stamp} {zone[-5:] if zone else '+0000'}", None, origin), None, client, client_port, server, server_port, None,
        request[2] if request is not None else None, int(answer[1]) if answer is not None else None, denied, {}, found, fields,
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


def _calendar(year: int, month: int, day: int, time: str, origin: Origin) -> float | None:
    try:
        datetime(year, month, day)  # noqa: DTZ001  # does the calendar have it
        at = origin.clock.local(year, month, day, int(time[:2]), int(time[3:5]), int(time[6:8]))
    except (ValueError, OverflowError):
        return None
    return at if 0 <= at < EPOCH_S_MAX else None


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
