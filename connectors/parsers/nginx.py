"""nginx: the access log (common, combined, with virtual hosts and forwarded lists) and the error log."""

import re
from collections.abc import Sequence
from typing import Any

from connectors import accesslog
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError

NAME = "nginx"

_ERROR = re.compile(
    r"(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) \[(\w{1,16})\] "
    r"(?:(\d{1,10})#(\d{1,10}): |\d{1,10}:\d{1,10} )?(?:\*(\d{1,20}) )?(.*)",
    re.DOTALL,
)
# Greedy in front: a path made to look like `, client: 192.0.2.1, server: ` must not move the client.
_REQUEST = re.compile(
    r'(.*), client: ([^\s,]{1,256})(?: using \w{1,16})?(?:, server: ([^,"]{0,256}))?'
    r"((?:, (?:request|subrequest|upstream|host|referrer|login|user): .*)?)",
    re.DOTALL,
)
_DETAIL = re.compile(r', (request|upstream|host|referrer|login): (?:"((?:[^"\\]++|\\.)*+)"|([^,"\s]+))')
_CONNECTED = re.compile(r"client ([0-9a-fA-F.:]+):(\d{1,5}) connected to ([0-9a-fA-F.:]+):(\d{1,5})")
_SPOKEN = re.compile(r"([A-Za-z_-]{1,32}) (.*?)(?: HTTP/(\d(?:\.\d)?))?", re.DOTALL)
_USER = re.compile(r'user "([^"]{0,256})"')
_ADDRESS = re.compile(r"[0-9a-fA-F]{0,4}[.:\d][0-9a-fA-F.:]{1,42}")
_SNIFF = re.compile(
    r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?:(?:debug|info|notice|warn|error|crit|alert|emerg)\] |\w{1,16}\] \d{1,10}[#:]\d)"
)
# Apache's default is the common format, nginx's the combined one.
_APACHES = re.compile(r'.*" \d{3} (?:\d{1,18}|-)$', re.DOTALL)
_TAGGED = re.compile(r" nginx(?:\[\d{1,10}\])?: ")
_ERRORS = frozenset({"error", "crit", "alert", "emerg"})


def sniff(text: str) -> bool:
    if " apache" in text[:100] or " httpd" in text[:100]:  # its own tag in a syslog envelope
        return False
    if accesslog.sniff(text):
        return text[-1:] == '"' or _APACHES.match(text) is None
    return _SNIFF.match(text) is not None or _TAGGED.search(text, 0, 160) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    access = accesslog.usual(text, NAME, "nginx.access")
    return (access,) if access is not None else generally(text, origin)


def generally(text: str, origin: Origin) -> Sequence[Event]:
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


_DETAIL_FIELDS = {"upstream": "nginx.error.upstream", "host": "url.domain", "referrer": "http.request.referrer"}


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
    address = path = user = outcome = port = destination = to_port = None
    request = _REQUEST.fullmatch(message) if ", client: " in message else None
    if request is not None:
        said, client, server, rest = request.groups()
        details = {name: quoted or plain for name, quoted, plain in _DETAIL.findall(rest)}
        if _ADDRESS.fullmatch(client) is not None:
            address = client
        if server:
            fields["nginx.error.server"] = server
        for name, target in _DETAIL_FIELDS.items():
            if details.get(name):
                fields[target] = details[name]
        parts = _SPOKEN.fullmatch(details.get("request", ""))
        if parts is not None:
            fields["http.request.method"], target = parts[1], parts[2]
            fields["url.original"] = target
            path, question, query = target.partition("?")
            if question:
                fields["url.query"] = query
            if parts[3]:
                fields["http.version"] = parts[3]
        if said.startswith('user "') and (named := _USER.match(said)) is not None:
            user, outcome = named[1], "failure"
        elif "login" in details:  # the mail proxy
            user = details["login"]
            outcome = "success" if said.startswith("client logged in") else "failure" if "failed" in said else None
    elif (connected := _CONNECTED.fullmatch(message)) is not None:
        address, port, destination, to_port = connected.groups()
    return Event(
        at,
        NAME,
        "nginx.error",
        ("web",) if outcome is None else ("web", "authentication"),
        event_type=("error",) if level in _ERRORS else ("info",),
        event_outcome=outcome,
        message=message,
        host_name=host,
        user_name=user,
        source_ip=address,
        source_port=int(port) if port is not None else None,
        destination_ip=destination,
        destination_port=int(to_port) if to_port is not None else None,
        process_pid=int(pid) if pid is not None else None,
        url_path=path,
        service_name="web",
        fields=fields,
    )
