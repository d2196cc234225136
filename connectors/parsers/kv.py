"""Any line of key=value pairs, with or without a syslog envelope: logfmt, audit trails, appliances without a parser here.

Keys that many devices use are mapped (srcip, user, action ...); all of them stay in `fields` under their own names.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from connectors.clock import from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS, whole_number

NAME = "kv"

PAIRS_MIN = 3  # fewer may stand in any prose
PAIRS_MAX = 512  # of one line
WORDS_MAX = 4096  # looked at, of one line
KEYS_MAX = 8192  # names remembered as well-formed
KINDS_MAX = 1024  # kinds of lines, by their keys, whose roles are remembered
KIND_KEYS_MAX = 64  # of one such kind
KIND_CHARS_MAX = 2048  # of its keys
PLACES_MAX = 16_384  # addresses remembered
PLACE_CHARS_MAX = 128  # of an address with zone and port

_KEY = re.compile(r"[A-Za-z_@][\w.@/-]{0,63}")
_PAIR = re.compile(
    r"""(?<![\w.@-])([A-Za-z_@][\w.@/-]{0,63})=(?:"((?:[^"\\]|\\.)*+)"|'((?:[^'\\]|\\.)*+)'|([^\s"',;|][^\s,;|]*+)?)""",
    re.DOTALL,
)
_SNIFF = re.compile(r"""(?<![\w.@-])[A-Za-z_@][\w.@/-]{0,63}=(?=["'\w\[/(:.{*+-])""")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_IP = re.compile(
    r"\[?(\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[0-9A-Fa-f:]{0,35}::[0-9A-Fa-f:.]{0,39})(?:%\w{1,16})?\]?(?:[:#](\d{1,5}))?"
)
_LEADING_TIME = re.compile(r"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)[\] :]")
_URL = re.compile(r"[a-z][a-z0-9+.-]{1,15}://[^/?#]*+([^?#]*+)")

# what a value is -> the names that devices give it, the most telling first; a name may have two roles
_ROLES: dict[str, tuple[str, ...]] = {
    "source_ip": (
        "srcip", "src_ip", "src", "source_ip", "sourceip", "srcaddr", "src_addr", "sourceaddress", "source_address",
        "saddr", "clientip", "client_ip", "client_addr", "clientaddr", "client", "remote_ip", "remoteip", "remip",
        "remote_addr", "remoteaddr", "remote", "peer_ip", "peer_addr", "remote_address", "remoteaddress", "downstream_remote_address", "oip", "rhost", "rip", "ipaddress", "ip_address", "ipaddr", "ip", "source", "source.ip", "client.ip",
        "from_ip", "addr", "from",
    ),
    "destination_ip": (
        "dstip", "dst_ip", "dst", "dest_ip", "destination_ip", "destinationip", "destip", "dstaddr", "dst_addr",
        "daddr", "destinationaddress", "destination_address", "serverip", "server_ip", "server_addr", "destination",
        "dest", "destination.ip", "server.ip", "lip", "to_ip",
    ),
    "source_port": (
        "srcport", "src_port", "spt", "sport", "source_port", "sourceport", "oport", "clientport", "client_port", "remport",
        "remote_port", "s_port", "source.port", "client.port",
    ),
    "destination_port": (
        "dstport", "dst_port", "dpt", "dport", "dest_port", "destination_port", "destinationport", "destport",
        "serverport", "server_port", "d_port", "destination.port", "server.port",
    ),
    "user": (
        "user", "username", "user_name", "usrname", "usr", "suser", "user.name", "login", "account", "acct",
        "accountname", "principal", "principalname", "userid", "user_id", "uname", "duser",
    ),
    "domain": ("user_domain", "userdomain", "ntdomain", "logon_domain", "user.domain", "sntdom"),
    "host": (
        "hostname", "host_name", "host.name", "computer", "computername", "devname", "device_name", "dvchost", "node",
        "host",
    ),
    "protocol": ("proto", "protocol", "transport", "network.transport", "ip_proto", "prot", "network_protocol"),
    "action": (
        "action", "act", "event.action", "event_action", "operation", "event", "event_type", "eventtype", "eventname",
        "verdict",
    ),
    "outcome": ("outcome", "event.outcome", "event_outcome", "result", "status", "success", "res"),
    "code": (
        "eventid", "event_id", "event.code", "event_code", "logid", "log_id", "msgid", "msg_id", "message_id", "sigid",
    ),
    "message": ("msg", "short_message", "message", "text", "description"),
    "level": ("level", "log.level", "lvl", "severity", "sev", "loglevel", "log_level"),
    "time": (
        "@timestamp", "timestamp", "eventtime", "event_time", "time", "ts", "datetime", "date_time", "devtime", "t",
    ),
    "date": ("date",),
    "sent": (
        "sentbyte", "sent_bytes", "bytes_sent", "bytessent", "src_bytes", "srcbytes", "sent", "source.bytes",
        "source_bytes",
    ),
    "received": (
        "rcvdbyte", "rcvd_bytes", "received_bytes", "bytes_received", "bytesreceived", "recv_bytes", "dst_bytes",
        "dstbytes", "rcvd", "destination.bytes", "destination_bytes",
    ),
    "program": ("process", "process.name", "process_name", "processname", "proc", "program", "comm", "exe"),
    "pid": ("pid", "process.pid", "process_id", "processid", "process_pid"),
    "command": (
        "command_line", "commandline", "cmdline", "process.command_line", "process_command_line", "command", "cmd",
    ),
    "file": ("file_path", "filepath", "file.path", "file", "filename"),
    "url": ("url", "uri", "request_uri", "url.original", "request_url", "http_url", "request"),
    "path": ("path", "url.path", "url_path"),
    "status": (
        "http_status", "httpstatus", "status_code", "statuscode", "http_status_code", "http.response.status_code", "response_code", "response_status",
        "status", "code",
    ),
    "method": ("method", "http_method", "request_method", "httpmethod", "verb", "http.request.method"),
}  # fmt: skip
_SPOKEN = frozenset({*TRANSPORTS.values(), "icmpv6", "igmp", "ip"})
_ABSENT = frozenset({"", "-", "N/A", "n/a", "null", "(null)", "None", "none", "<nil>", "undefined", "unknown"})
_SUCCEEDED = frozenset(
    {
        "success",
        "succeeded",
        "successful",
        "ok",
        "yes",
        "true",
        "pass",
        "passed",
        "accepted",
        "allowed",
        "permit",
        "permitted",
        "accept",
        "allow",
    }
)
_FAILED = frozenset(
    {
        "failure",
        "failed",
        "fail",
        "error",
        "no",
        "false",
        "denied",
        "deny",
        "rejected",
        "reject",
        "invalid",
        "blocked",
        "block",
        "drop",
        "dropped",
        "refused",
        "timeout",
    }
)
_DENYING = frozenset(
    {"denied", "deny", "rejected", "reject", "blocked", "block", "drop", "dropped", "refused", "reset", "quarantine"}
)
_ALLOWING = frozenset({"accepted", "accept", "allowed", "allow", "permit", "permitted", "pass", "passed"})
_USER_IN_TEXT = re.compile(r"\b[Uu]ser(?:name)?(?: input)? ['\"]([^'\"]{1,256})['\"]")
_LOGON = re.compile(  # a word's edge is looked back for: a pattern that begins with letters is searched for much faster
    r"log(?<!\wlog)(?:ged)?[ _-]?(?:o|i)n\b|sign(?<!\wsign)(?:ed)?[ _-]?in\b"
    r"|authenticat(?<!\wauthenticat)(?:e|ed|ion)\b|login(?<!\wlogin)"
)
_LOGOFF = re.compile(r"log(?<!\wlog)(?:ged)?[ _-]?(?:out|off)\b|sign(?<!\wsign)(?:ed)?[ _-]?out\b")
_FAILING = re.compile(r"fail|denied|invalid|reject|incorrect|wrong|unsuccessful|locked")
_SUCCEEDING = re.compile(r"succe|accepted|\bok\b|granted|logged (?:on|in)")


def sniff(text: str) -> bool:
    if text.count("=") < PAIRS_MIN or (text[:1] in "{<" and text[1:2] in '"?!'):
        return False
    found = len(_SNIFF.findall(text, 0, 1024))
    return found >= PAIRS_MIN and found * 4 >= text.count(" ", 0, 1024)  # prose has more words than pairs


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    at = envelope.timestamp
    if at is None and (stamp := _LEADING_TIME.match(text)) is not None:
        at = _instant(stamp[1], origin)
    log = _pairs(envelope.message)
    if envelope.structured is not None:
        for key, value in envelope.structured.items():
            log.setdefault(key.rpartition(".")[2] or key, value)
    if len(log) < PAIRS_MIN and not (log and envelope.recognised):
        raise ParseError(f"fewer than {PAIRS_MIN} pairs of key=value")
    return (
        described(
            log, NAME, "kv.log", origin, at=at, host=envelope.host, program=envelope.app,
            pid=envelope.pid, message=envelope.message,
        ),
    )  # fmt: skip


def _pairs(body: str) -> dict[str, Any]:
    """Keys and values, the first of a name; by splits where there is no other quote than the usual one."""
    log: dict[str, Any] = {}
    if "'" not in body and "\\" not in body:
        outside, key = True, ""
        for part in body.split('"', WORDS_MAX):
            if outside:
                if "," in part or ";" in part or "|" in part:
                    part = part.translate(_BLANKS)  # noqa: PLW2901  # the same part, parted by blanks
                for word in part.split(None, WORDS_MAX):
                    key, equals, value = word.partition("=")
                    if equals and (key in _KEYS or _is_key(key)):
                        log.setdefault(key, value)
                key = key if part.endswith("=") and log.get(key) == "" else ""  # its value is quoted
            elif key:
                log[key] = part
            outside = not outside
        return log
    for key, double, single, plain in _PAIR.findall(body)[:PAIRS_MAX]:
        value = double or single or plain
        if "\\" in value and not plain:
            value = _ESCAPE.sub(r"\1", value)
        log.setdefault(key, value)
    return log


_BLANKS = str.maketrans(",;|", "   ")
_KEYS: set[str] = set()  # names that were found well-formed


def _is_key(text: str) -> bool:
    if _KEY.fullmatch(text) is None:
        return False
    if len(_KEYS) >= KEYS_MAX:
        _KEYS.clear()
    _KEYS.add(text)
    return True


Keys = Sequence[str]  # of a log, that have one role; the most telling first


class Roles:
    """Which keys of a log have which role, in the order of a table role -> names.

    Lines of one kind have the same keys, so that is remembered.
    """

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        self._roles_of: dict[str, list[tuple[int, int]]] = {}
        self._count = len(table)
        for role, names in enumerate(table.values()):
            for rank, name in enumerate(names):
                self._roles_of.setdefault(name, []).append((role, rank))
        self._known: dict[tuple[str, ...], tuple[Keys, ...]] = {}

    def of(self, log: Mapping[str, Any]) -> tuple[Keys, ...]:
        keys = tuple(log)
        known = self._known.get(keys)
        if known is not None:
            return known
        ranks: list[list[tuple[int, int, str]]] = [[] for _ in range(self._count)]
        for place, key in enumerate(keys):
            for role, rank in self._roles_of.get(key) or self._roles_of.get(key.lower().replace("-", "_")) or ():
                ranks[role].append((rank, place, key))
        found: tuple[Keys, ...] = tuple(tuple(key for _, _, key in sorted(those)) for those in ranks)
        if len(keys) <= KIND_KEYS_MAX and sum(map(len, keys)) <= KIND_CHARS_MAX:
            if len(self._known) >= KINDS_MAX:
                self._known.clear()
            self._known[keys] = found
        return found


_ROLES_OF = Roles(_ROLES)


def described(
    log: Mapping[str, Any],
    module: str,
    dataset: str,
    origin: Origin,
    *,
    at: float | None,
    host: str | None,
    program: str | None = None,
    pid: int | None = None,
    message: str | None,
    about: Mapping[str, Any] | None = None,
    exact: bool = False,
) -> Event:
    """The event that named values describe. Used by formats whose names are the sender's choice (`gelf`).

    `exact`: `at` is the sender's own time, no value can state a better one.
    """
    (
        k_source, k_destination, k_source_port, k_destination_port, k_user, k_domain, k_host, k_protocol, k_action,
        k_outcome, k_code, k_message, k_level, k_time, k_date, k_sent, k_received, k_program, k_pid, k_command, k_file,
        k_url, k_path, k_status, k_method,
    ) = _ROLES_OF.of(log)  # fmt: skip
    more: dict[str, Any] = dict(about) if about else {}
    source, source_port = _address(log, k_source) if k_source else _NOWHERE
    destination, destination_port = _address(log, k_destination) if k_destination else _NOWHERE
    if k_source_port:
        source_port = integer(log, k_source_port, 65535) or source_port
    if k_destination_port:
        destination_port = integer(log, k_destination_port, 65535) or destination_port
    if source is None and "host" in log and "port" in log:  # a peer, not the machine that wrote the line
        source, source_port = _address(log, ("host",))[0], integer(log, ("port",), 65535)
    user = first(log, k_user) if k_user else None
    action = first(log, k_action) if k_action else None
    act = action.lower() if action else ""
    transport = None
    if k_protocol and (protocol := (first(log, k_protocol) or "").lower()):
        transport = TRANSPORTS.get(protocol) or (protocol if protocol in _SPOKEN else None)
        if transport is None:
            more["network.protocol"] = protocol
    said = first(log, k_message) if k_message else None
    if (
        user is None
        and said is not None
        and "ser" in said
        and (named := _USER_IN_TEXT.search(said, 0, 1024)) is not None
    ):
        user = named[1]
    outcome = _outcome(log, k_outcome, act)
    category, types, outcome = _kind(act, said or "", user, source, destination, outcome)
    status = integer(log, k_status, 599) if k_status else None
    method = first(log, k_method) if k_method else None
    path = None
    if k_url and (url := first(log, k_url)) is not None and (method or status or "/" in url[:9]):
        whole = _URL.match(url)
        path = (whole[1] or "/") if whole is not None else url.partition("?")[0] if url[:1] == "/" else None
        more["url.original"] = url
    elif method and (stated := first(log, k_path)) is not None and stated[:1] == "/":
        path = stated.partition("?")[0]
    if method:
        more["http.request.method"] = method
    if k_level and (level := first(log, k_level)) is not None:
        more.setdefault("log.level", level.lower())
    if not exact or at is None:
        own = _moment(log, k_time, first(log, k_date), origin)
        at = own if own is not None else at if at is not None else origin.received
    return Event(
        at,
        module,
        dataset,
        category,
        types,
        action,
        outcome,
        first(log, k_code) if k_code else None,
        said or message,
        host or first(log, k_host),
        user,
        first(log, k_domain) if k_domain else None,
        source,
        source_port,
        integer(log, k_sent) if k_sent else None,
        destination,
        destination_port,
        integer(log, k_received) if k_received else None,
        transport,
        program or first(log, k_program),
        pid if pid is not None else integer(log, k_pid, 2**32),
        None,
        first(log, k_command) if k_command else None,
        None,
        first(log, k_file) if k_file else None,
        path,
        status if status is not None and status >= 100 else None,
        None,
        Lazy(_fields, log, more),
    )


_NOWHERE = (None, None)


def _fields(log: Mapping[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {**more, **log}  # what the line itself says has the last word


def first(log: Mapping[str, Any], keys: Keys) -> str | None:
    for key in keys:
        value = log[key]
        if type(value) is not str:
            if isinstance(value, list | dict):
                continue
            value = str(value)
        if value not in _ABSENT:
            return value
    return None


def integer(log: Mapping[str, Any], keys: Keys, most: int = 2**63 - 1) -> int | None:
    for key in keys:
        value = log[key]
        number = whole_number(value if type(value) is str else str(value))
        if number is not None and number <= most:
            return number
    return None


def _address(log: Mapping[str, Any], keys: Keys) -> tuple[str | None, int | None]:
    """An address, and the port if it is written behind it."""
    for key in keys:
        if (found := _place(str(log[key]))) is not None:
            return found
    return _NOWHERE


@lru_cache(maxsize=PLACES_MAX)
def _place(text: str) -> tuple[str, int | None] | None:
    match = _IP.fullmatch(text) if len(text) <= PLACE_CHARS_MAX else None
    return None if match is None else (match[1], int(match[2]) if match[2] else None)


def _outcome(log: Mapping[str, Any], keys: Keys, act: str) -> str | None:
    for key in keys:
        word = str(log[key]).lower()
        if word in _SUCCEEDED:
            return "success"
        if word in _FAILED:
            return "failure"
    return "success" if act in _ALLOWING else "failure" if act in _DENYING else None


def _kind(
    act: str, said: str, user: str | None, source: str | None, destination: str | None, outcome: str | None
) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Category, type and outcome, from what the event calls itself and whom it names."""
    words = f"{act} {said[:256]}".lower() if user is not None else ""
    telling = "log" in words or "sign" in words
    if telling and _LOGOFF.search(words) is not None:
        return ("authentication",), ("end",), outcome
    if (telling or "authenticat" in words) and _LOGON.search(words) is not None:
        if outcome is None:
            outcome = "failure" if _FAILING.search(words) else "success" if _SUCCEEDING.search(words) else None
        return ("authentication",), ("start", "denied") if outcome == "failure" else ("start",), outcome
    if source is not None and destination is not None:
        kind = "denied" if act in _DENYING else "allowed" if act in _ALLOWING else None
        return ("network",), ("connection", kind) if kind else ("connection",), outcome
    return (), ("info",), outcome


def _instant(stamp: str, origin: Origin) -> float | None:
    try:
        return from_iso(stamp.replace(",", ".", 1), origin.clock)
    except (ValueError, OverflowError):
        return None


def _moment(log: Mapping[str, Any], keys: Keys, date: str | None, origin: Origin) -> float | None:
    stamps = origin.clock.stamps
    for key in keys:
        value = log[key]
        if isinstance(value, bool | list | dict):
            continue
        text = f"{date}T{value}" if date is not None and key.lower() == "time" else str(value)
        at = stamps.get(text)
        if at is not None:
            return at
        try:
            if text[:1].isdecimal() and len(text) >= 10 and text.replace(".", "", 1).isdecimal():
                return from_epoch(float(text)) if len(text) <= 24 else None
            if len(text) < 10 or not text[:4].isdecimal():
                continue
            at = from_iso(text, origin.clock)
        except (ValueError, OverflowError):
            continue
        origin.clock.remember(text, at)
        return at
    return None
