"""Apache httpd: the access log (common, combined, with virtual hosts) and the error log of 2.2 and 2.4."""

import re
from collections.abc import Sequence
from typing import Any

from connectors import accesslog
from connectors.clock import MONTHS
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import is_address

NAME = "apache"

_ERROR = re.compile(
    r"(?:\[(?:\w{3} )?(\w{3}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d)(\.\d{1,9})? (\d{4})\] )?"
    r"\[(?:([\w-]{0,64}):)?(\w{1,16})\] (?:\[pid (\d{1,10})(?::tid (\d{1,20}))?\] )?(.*)",
    re.DOTALL,
)
_CLIENT = re.compile(r"\[(?:client|remote) ([^\s\]]{1,64})\] ?")
_PLACE = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{1,5}))?")
_REFERER = ", referer: "
_USER = re.compile(r"\buser ([^\s:,]{1,256})(?::| not found| in realm|,)")
_CODE = re.compile(r"(?:\(\d{1,6}\)[^:]{1,200}: )?(AH\d{5}): ")
_MISSING = re.compile(r"(?:File does not exist|script '?|client denied by server configuration)(?::)? ?(/[^,']*)")
_SNIFF = re.compile(
    r"\[\w{3} \w{3} {1,2}\d{1,2} \d\d:\d\d:\d\d(?:\.\d{1,9})? \d{4}\] \[|\[(?:\w{1,64}:)?\w{1,16}\] \[(?:client|pid) "
)
_TIMELESS = re.compile(r"\[(?:\w{1,64}:)?(?:debug|info|notice|warn|error|crit|alert|emerg)\] [A-Z(\[]")
_LEVELS = frozenset({"error", "crit", "alert", "emerg"})


def sniff(text: str) -> bool:
    return accesslog.sniff(text) or _SNIFF.match(text) is not None or _TIMELESS.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    access = accesslog.usual(text, NAME, "apache.access")
    return (access,) if access is not None else generally(text, origin)


def generally(text: str, origin: Origin) -> Sequence[Event]:
    host = None
    if text[:1] == "[":
        error = _ERROR.fullmatch(text)
    elif accesslog.sniff(text):
        return (accesslog.parse(text, origin, NAME, "apache.access"),)
    else:
        envelope = peel(text, origin)
        host = envelope.host
        error = _ERROR.fullmatch(envelope.message)
    if error is None:
        raise ParseError("neither an access nor an error line of Apache")
    return (_error(error, host, origin),)


def _error(line: re.Match[str], host: str | None, origin: Origin) -> Event:
    name, day, hour, minute, second, fraction, year, module, level, pid, thread, message = line.groups()
    at = origin.received
    if name is not None:
        month = MONTHS.get(name.lower())
        if month is None:
            raise ParseError("no such month")
        try:
            at = origin.clock.local(int(year), month, int(day), int(hour), int(minute), int(second))
        except ValueError as error:
            raise ParseError(f"no such time: {error}") from error
        if not 0 <= at < 7e9:  # 1970 to 2191
            raise ParseError("no time of a log line")
        if fraction is not None:
            at += float(fraction)
    fields: dict[str, Any] = {"log.level": level}
    if module:
        fields["apache.error.module"] = module
    if thread is not None:
        fields["process.thread.id"] = int(thread)
    address = port = user = None
    client = _CLIENT.search(message, 0, 512)
    if client is not None:
        place = _PLACE.fullmatch(client[1])
        if place is not None:
            address, port = place.groups()
        elif is_address(left := client[1].rpartition(":")[0]) and (fraction or len(client[1]) > 39):
            address, port = left, client[1].rpartition(":")[2]  # 2.4 puts the port behind IPv6 without brackets
        elif is_address(client[1]):
            address = client[1]
        else:
            fields["source.domain"] = client[1]
        message = message[: client.start()] + message[client.end() :]
    said, _, referrer = message.partition(_REFERER)
    if referrer:
        fields["http.request.referrer"] = referrer
    code = _CODE.match(said)
    if code is not None:
        fields["error.code"] = code[1]
    missing = _MISSING.search(said)
    if module in {"auth_basic", "auth_digest", "authz_core", "authnz_ldap"} or said.startswith("user "):
        named = _USER.search(said)
        user = named[1] if named is not None else None
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="apache.error",
        event_category=("web",),
        event_type=("error",) if level in _LEVELS else ("info",),
        message=message,
        host_name=host,
        user_name=user,
        source_ip=address,
        source_port=int(port) if port and port.isdecimal() and len(port) <= 5 else None,
        process_pid=int(pid) if pid is not None else None,
        file_path=missing[1] if missing is not None else None,
        service_name="web",
        fields=fields,
    )
