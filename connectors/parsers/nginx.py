"""nginx: the access log (common, combined, with virtual hosts and forwarded lists) and the error log."""

import re
from collections.abc import Sequence
from typing import Any

from connectors import accesslog
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError

NAME = "nginx"

_ERROR = re.compile(
    r"(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) \[(\w{1,16})\] (?:(\d{1,10})#(\d{1,10}): |\d{1,10}:\d{1,10} )?(?:\*(\d{1,20}) )?(.*)",
    re.DOTALL,
)
# Greedy in front: a path made to look like `, client: 192.0.2.1, server: ` must not move the client.
_REQUEST = re.compile(
    r'(.*), client: ([^\s,]{1,256})(?:, server: ([^,"]{0,256}))?(?:, request: "(.*?)")?(?:, subrequest: ".*?")?'
    r'(?:, upstream: "(.*?)")?(?:, (?:login|user): ".*?")?(?:, host: "(.*?)")?(?:, referrer: "(.*?)")?',
    re.DOTALL,
)
_SPOKEN = re.compile(r"([A-Za-z_-]{1,32}) (.*?)(?: HTTP/(\d(?:\.\d)?))?", re.DOTALL)
_USER = re.compile(r'user "([^"]{0,256})"')
_ADDRESS = re.compile(r"[0-9a-fA-F]{0,4}[.:\d][0-9a-fA-F.:]{1,42}")
_SNIFF = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?:debug|info|notice|warn|error|crit|alert|emerg)\] ")
_TAGGED = re.compile(r" nginx(?:\[\d{1,10}\])?: ")
_ERRORS = frozenset({"error", "crit", "alert", "emerg"})


def sniff(text: str) -> bool:
    return accesslog.sniff(text) or _SNIFF.match(text) is not None or _TAGGED.search(text, 0, 160) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    host = None
    if text[4:5] == "/":
        error = _ERROR.fullmatch(text)
    elif accesslog.sniff(text):
        return (accesslog.parse(text, origin, NAME, "nginx.access"),)
    else:
        envelope = peel(text, origin)
        host = envelope.host
        error = _ERROR.fullmatch(envelope.message)
    if error is None:
        raise ParseError("neither an access nor an error line of nginx")
    return (_error(error, host, origin),)


def _error(line: re.Match[str], host: str | None, origin: Origin) -> Event:
    year, month, day, hour, minute, second, level, pid, thread, connection, message = line.groups()
    try:
        at = origin.clock.local(int(year), int(month), int(day), int(hour), int(minute), int(second))
    except ValueError as error:
        raise ParseError(f"no such time: {error}") from error
    if not 0 <= at < 7e9:  # 1970 to 2191
        raise ParseError("no time of a log line")
    fields: dict[str, Any] = {"log.level": level}
    if thread is not None:
        fields["process.thread.id"] = int(thread)
    if connection is not None:
        fields["nginx.error.connection_id"] = int(connection)
    address = path = user = None
    request = _REQUEST.fullmatch(message) if ", client: " in message else None
    if request is not None:
        said, client, server, spoken, upstream, asked, referrer = request.groups()
        if _ADDRESS.fullmatch(client) is not None:
            address = client
        if server:
            fields["nginx.error.server"] = server
        if upstream:
            fields["nginx.error.upstream"] = upstream
        if asked:
            fields["url.domain"] = asked
        if referrer:
            fields["http.request.referrer"] = referrer
        parts = _SPOKEN.fullmatch(spoken) if spoken else None
        if parts is not None:
            fields["http.request.method"], target = parts[1], parts[2]
            fields["url.original"] = target
            path, question, query = target.partition("?")
            if question:
                fields["url.query"] = query
            if parts[3]:
                fields["http.version"] = parts[3]
        if said.startswith('user "') and (named := _USER.match(said)) is not None:
            user = named[1]
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="nginx.error",
        event_category=("web",),
        event_type=("error",) if level in _ERRORS else ("info",),
        message=message,
        host_name=host,
        user_name=user,
        source_ip=address,
        process_pid=int(pid) if pid is not None else None,
        url_path=path,
        service_name="web",
        fields=fields,
    )
