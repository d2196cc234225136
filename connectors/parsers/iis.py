"""Microsoft IIS: W3C extended logs of IIS 6 to 10 (with their #Fields line or without), FTP, HTTPERR and the IIS format.

Without a #Fields line the columns are found by their shape: IIS always writes them in the same order and leaves some out.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

from connectors import columns
from connectors.clock import EPOCH_S_MAX
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import whole_number

NAME = "iis"

DIGITS_MAX = 18  # of a number that is taken for one
FORWARDED_MAX = 64  # addresses of one forwarded list
ENVELOPE_CHARS_MAX = 160  # in front of the line itself
WORDS_MAX = 128  # columns of one line
ADDRESSES_MAX = 8192  # remembered as read
ADDRESS_CHARS_MAX = 320  # with what may stand around it

_METHODS = (
    "GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH|TRACE|TRACK|CONNECT|DEBUG|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE|LOCK|UNLOCK|SEARCH|"
    "REPORT|MERGE|VERSION-CONTROL|CHECKOUT|RPC_IN_DATA|RPC_OUT_DATA|RDG_IN_DATA|RDG_OUT_DATA|BITS_POST|SUBSCRIBE|UNSUBSCRIBE|"
    "POLL|NOTIFY|BMOVE|BCOPY|BDELETE|BPROPPATCH|MOVEFILE"
)
_FTP = (
    "ControlChannelOpened|ControlChannelClosed|DataChannelOpened|DataChannelClosed|USER|PASS|ACCT|CWD|CDUP|QUIT|PORT|PASV|EPRT|"
    "EPSV|TYPE|RETR|STOR|STOU|APPE|RNFR|RNTO|ABOR|DELE|RMD|MKD|PWD|LIST|NLST|SITE|SYST|STAT|HELP|NOOP|FEAT|OPTS|AUTH|PBSZ|PROT|"
    "SIZE|MDTM|XCWD|XMKD|XPWD|XRMD|HOST|LANG|REST"
)
_STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,7})? "
_PLACE = r"\[?[0-9A-Fa-f]{0,4}[.:\d][0-9A-Fa-f.:]{1,44}(?:%\w{1,16})?\S{0,60}"
_SNIFF = re.compile(
    rf"{_STAMP}(?:(?:[^\s,]{{1,255}} ){{0,4}}(?:{_METHODS}) [/*\-.\w\\]|{_PLACE} (?:[^\s,]{{1,255}} ){{0,6}}(?:{_FTP}) \S|"
    rf"{_PLACE} (?:\d{{1,5}}|-) {_PLACE} (?:\d{{1,5}}|-) (?:HTTP/|-))"
    r"|#(?:Software: Microsoft (?:Internet Information Services|HTTP API)|Fields: date time )"
    r"|#Version: 1\.0$|#Date: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"
    rf"|{_PLACE}, ?[^,]{{1,256}}, ?\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}, ?\d{{1,2}}:\d\d:\d\d[^,]{{0,3}}, ?"
    r"(?:W3SVC|MSFTPSVC|SMTPSVC)\d"
)
_ENVELOPED = frozenset("<ADFJMNOS")  # a priority or a month
_TRIED = frozenset(f"{_METHODS}|{_FTP}".split("|"))
_FTP_ONLY = frozenset(_FTP.split("|"))
_VERB = re.compile(r"[A-Z][A-Z_-]{1,31}")
_STARTS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,7})? ")
_ADDRESS = re.compile(r"[0-9A-Fa-f]{0,4}[.:\d][0-9A-Fa-f.:]{1,44}")
_LINKED = re.compile(
    r"\[([0-9A-Fa-f.:]{2,45})\](?:\(\S{0,300}\)|:\d{1,5})?"
)  # what a copy through a rich text editor leaves
_NATIVE_DATE = re.compile(r"(\d{1,4})([./-])(\d{1,2})[./-](\d{1,4})")
_NATIVE_TIME = re.compile(r"(\d{1,2}):(\d\d):(\d\d)(?: ?([AP])M)?", re.IGNORECASE)

_WANTED = (
    "date", "time", "s-computername", "s-ip", "cs-method", "cs-uri-stem", "s-port", "cs-username", "c-ip", "sc-status",
    "sc-bytes", "cs-bytes", "c-port", "s-sitename",
)  # fmt: skip
_HTTPERR = (
    "date", "time", "c-ip", "c-port", "s-ip", "s-port", "cs-version", "cs-method", "cs-uri", "streamid", "sc-status", "s-siteid",
    "s-reason", "s-queuename",
)  # fmt: skip
_NATIVE = (
    "c-ip", "cs-username", "date", "time", "s-sitename", "s-computername", "s-ip", "time-taken", "cs-bytes", "sc-bytes",
    "sc-status", "sc-win32-status", "cs-method", "cs-uri-stem", "cs-uri-query",
)  # fmt: skip
# What stands between the client's address (and the version) and the status, by the number of columns.
_HEADERS = (
    (),
    ("cs(User-Agent)",),
    ("cs(User-Agent)", "cs(Referer)"),
    ("cs(User-Agent)", "cs(Cookie)", "cs(Referer)"),
    ("cs(User-Agent)", "cs(Cookie)", "cs(Referer)", "cs-host"),
)
_STATUSES = ("sc-status", "sc-substatus", "sc-win32-status")
_ENDS = ((), ("time-taken",), ("sc-bytes", "cs-bytes"), ("sc-bytes", "cs-bytes", "time-taken"))
_FORWARDED = frozenset({"x-forwarded-for", "x-forwarded-for(0)", "cs(x-forwarded-for)", "x_forwarded_for", "x-real-ip"})
_FTP_FAILED = frozenset(
    {"421", "425", "426", "430", "450", "451", "452", "500", "501", "503", "530", "532", "550", "552", "553"}
)


def sniff(text: str) -> bool:
    if _SNIFF.match(text) is not None:
        return True
    enveloped = text.find(": 20", 0, ENVELOPE_CHARS_MAX) if text[:1] in _ENVELOPED else -1
    return enveloped >= 0 and _SNIFF.match(text, enveloped + 2) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if _STARTS.match(text) is None:
        if text[:1] == "#":
            return (_header(text, origin),)
        if text.find(",", 0, 64) > 0 and (native := _native(text, origin)) is not None:
            return (native,)
        text = peel(text, origin).message
        if _STARTS.match(text) is None:
            raise ParseError("no IIS log line: it does not begin with a date and a time, nor is it in the IIS format")
    words = text.rstrip(" ").split(" ")
    count = len(words)
    if count > WORDS_MAX:
        raise ParseError(f"more than {WORDS_MAX} columns")
    names = columns.stated(origin, count)
    if names is None or not _fits(words, names):
        names = _shape(words)
    if names[2:6] == ("c-ip", "c-port", "s-ip", "s-port"):
        return (_refused(words, names),)
    return (_request(words, names),)


def _fits(words: list[str], names: tuple[str, ...]) -> bool:
    """Can the line be of this header? Logs of several sites, of FTP and of HTTPERR may come as one source."""
    method = words[_place(names)]
    return names[:2] == ("date", "time") and (method in _TRIED or method == "-" or _VERB.fullmatch(method) is not None)


@lru_cache(maxsize=512)
def _place(names: tuple[str, ...]) -> int:
    return names.index("cs-method") if "cs-method" in names else 0


def _shape(words: list[str]) -> tuple[str, ...]:
    """The columns of a line without a header, told from what stands in them."""
    count = len(words)
    if count >= 12 and _plain(words[3]) and _plain(words[5]) and _address(words[2]) and _address(words[4]):
        return _refused_shape(words)
    method = 0
    for index in range(2, min(count - 1, 10)):
        word = words[index]
        if word in _TRIED or (words[index + 1][:1] in _PATH_STARTS and _VERB.fullmatch(word) is not None):
            method = index
            break
    if not method:
        raise ParseError("no IIS log line: no method and path among its columns")
    ftp = words[method] in _FTP_ONLY
    client = 0
    for index in range(method + 2, min(count, 2 if ftp else method + 7)):
        if _address(words[index]):
            client = index
            break
    version = bool(client) and client + 1 < count and words[client + 1].startswith("HTTP/")
    status = client or method + 1
    for index in range(status + 1, count):
        word = words[index]
        if (
            (len(word) == 3 or (ftp and word == "0"))
            and word.isdecimal()
            and (index + 1 == count or _plain(words[index + 1]))
        ):
            status = index
            break
    else:
        if not ftp:
            raise ParseError("no IIS log line: no status among its columns")
        status = 0
    numbers = 0
    if status:
        while status + numbers < count and numbers < 6 and _plain(words[status + numbers]):
            numbers += 1
    if ftp:
        return _ftp_layout(count, method, _plain(words[3]) and words[3] != "-", status, numbers)
    ported = 1 <= client - method - 2 <= 2 and words[client - 1].isdecimal()
    addressed = method > 2 and _address(words[method - 1])
    return _layout(count, method, client, version, status, numbers, words[2].startswith(_SITES), addressed, ported)


@lru_cache(maxsize=512)
def _ftp_layout(count: int, method: int, ported: bool, status: int, numbers: int) -> tuple[str, ...]:
    """Logs of FTP have the client first."""
    names = [f"x{index}" for index in range(count)]
    front = ["c-ip", *(["c-port"] if ported else []), "cs-username", "s-sitename", "s-computername", "s-ip", "s-port"]
    for name in ("s-sitename", "s-computername", "s-port", "s-ip", "cs-username"):
        if len(front) > method - 2:
            front.remove(name)
    names[:2] = "date", "time"
    names[2 : 2 + len(front)] = front
    names[method : method + 2] = "cs-method", "cs-uri-stem"
    if status:
        stated = ("sc-status", "sc-win32-status", "sc-substatus", "sc-bytes", "cs-bytes", "time-taken")[:numbers]
        names[status : status + len(stated)] = stated
        rest = ("x-session", "x-fullpath")[: count - status - numbers]
        names[status + numbers : status + numbers + len(rest)] = rest
    return tuple(names)


_SITES = ("W3SVC", "FTPSVC", "MSFTPSVC")
_PATH_STARTS = frozenset("/*")


@lru_cache(maxsize=512)
def _layout(
    count: int,
    method: int,
    client: int,
    version: bool,
    status: int,
    numbers: int,
    sited: bool,
    addressed: bool,
    ported: bool,
) -> tuple[str, ...]:
    """Where the columns stand: `sited` with a site in front, `addressed` by the server, `ported` if no user follows."""
    names = [f"x{index}" for index in range(count)]
    names[:2] = "date", "time"
    end = method
    if addressed:
        end = method - 1
        names[end] = "s-ip"
    front = ("s-sitename", "s-computername") if sited or end > 3 else ("s-computername",)
    names[2:end] = front[: end - 2] + tuple(names[2 + len(front) : end])
    names[method] = "cs-method"
    names[method + 1] = "cs-uri-stem"
    if client:
        between: tuple[str, ...] = ("cs-uri-query", "s-port") if ported else ("cs-uri-query", "s-port", "cs-username")
        between = between[-(client - method - 2) :] if client > method + 2 else ()
        names[client - len(between) : client] = between
        names[client] = "c-ip"
        at = client + 1
        if version:
            names[at] = "cs-version"
            at += 1
        if status:
            headers = _HEADERS[min(status - at, 4)]
            names[at : at + len(headers)] = headers
    if status:
        stated = _STATUSES[:numbers]
        ends = _ENDS[max(0, min(numbers - 3, 3))]
        names[status : status + len(stated)] = stated
        names[status + len(stated) : status + len(stated) + len(ends)] = ends
        if count > status + numbers:
            names[count - 1] = "X-Forwarded-For"
    return tuple(names)


def _refused_shape(words: list[str]) -> tuple[str, ...]:
    """The columns of HTTPERR, which had no stream before HTTP/2, have a transport since QUIC, and blanks in the path."""
    names = list(_HTTPERR)
    if words[-1] in {"TCP", "QUIC"} and len(words) > 13:
        names.append("transport")
    if len(words) < len(names) or not _plain(words[9]):
        names.remove("streamid")
    spare = len(words) - len(names)
    if spare > 0:
        at = names.index("cs-uri")
        words[at : at + spare + 1] = [" ".join(words[at : at + spare + 1])]
    return tuple(names[: len(words)])


@lru_cache(maxsize=512)
def _getter(names: tuple[str, ...]) -> columns.Getter:
    return columns.getter(names, _WANTED, len(names))


def _request(words: list[str], names: tuple[str, ...]) -> Event:
    words.append("-")
    (
        date, time, computer, server, method, stem, port, user, client, status, sent, received, client_port, site,
    ) = _getter(names)(words)  # fmt: skip
    ftp = site.startswith(("FTPSVC", "MSFTPSVC")) or method in _FTP_ONLY or method[:1] == "["
    domain = None
    if user == "-":
        user = None  # type: ignore[assignment]
    elif "\\" in user:
        domain, _, user = user.partition("\\")
    code = int(status) if len(status) == 3 and status.isdecimal() and status.isascii() else None
    outcome = None if code is None else "success" if code < 400 else "failure"
    category, kinds, service, action = _WEB, _ACCESS, "web", None
    if ftp:
        action = method.rpartition("]")[2].lower()
        category, kinds, service = _NETWORK, _PROTOCOL, "ftp"
        outcome = None if code is None else "failure" if status in _FTP_FAILED else "success"
        if action == "pass" and status in {"230", "530"}:
            category, kinds = _AUTHENTICATION, _START
        elif action == "user" and user is None and stem != "-":
            domain, _, user = stem.rpartition("\\")
            domain = domain or None
    return Event(
        _at(date, time),
        NAME,
        "iis.ftp" if ftp else "iis.access",
        category,
        kinds,
        action,
        outcome,
        None,
        None,
        computer if computer != "-" else None,
        user,
        domain,
        _clean(client),
        whole_number(client_port),
        whole_number(received),
        _clean(server),
        whole_number(port),
        whole_number(sent),
        None,
        None,
        None,
        None,
        None,
        None,
        stem if action in _FTP_PATHS and stem != "-" else None,
        stem if not ftp and stem != "-" else None,
        None if ftp else code,
        service,
        Lazy(_fields, words, names, ftp),
    )


_FTP_PATHS = frozenset(
    {
        "retr", "stor", "stou", "appe", "dele", "rnfr", "rnto", "mkd", "rmd", "cwd", "list", "nlst", "size", "mdtm", "xcwd",
        "xmkd", "xrmd", "datachannelopened", "datachannelclosed",
    }
)  # fmt: skip
_WEB = ("web",)
_NETWORK = ("network",)
_AUTHENTICATION = ("authentication",)
_ACCESS = ("access",)
_PROTOCOL = ("protocol",)
_START = ("start",)
_ERROR = ("error",)


def _fields(words: list[str], names: tuple[str, ...], ftp: bool) -> dict[str, Any]:
    """The columns under their own names and, beside them, their ECS names."""
    values = dict(zip(names, words, strict=False))
    get = {name.lower(): value for name, value in values.items() if value != "-"}.get
    fields: dict[str, Any] = {name: value for name, value in values.items() if value != "-" and name[:1] != "x"}
    fields |= {
        name: value for name, value in values.items() if value != "-" and name[:1] == "x" and not name[1:].isdecimal()
    }
    for name in ("date", "time"):
        fields.pop(name, None)
    stem, query = get("cs-uri-stem") or get("cs-uri"), get("cs-uri-query")
    if stem is not None and not ftp:
        fields["url.original"] = stem if query is None else f"{stem}?{query}"
        if query is not None:
            fields["url.query"] = query
    for name, path in _NAMED:
        if (value := get(name)) is not None:
            fields[path] = value
    if (agent := get("cs(user-agent)")) is not None:
        fields["user_agent.original"] = unquote(agent.replace("+", " "))
    if (version := get("cs-version")) is not None and version.startswith("HTTP/"):
        fields["http.version"] = version[5:]
    for name, path in (("sc-bytes", "http.response.bytes"), ("cs-bytes", "http.request.bytes")):
        if (number := whole_number(get(name) or "-")) is not None:
            fields[path] = number
    if (duration := whole_number(get("time-taken") or "-")) is not None:
        fields["event.duration"] = duration * 1_000_000
    for name in _FORWARDED:
        if (value := get(name)) is not None:
            found = [
                address for part in re.split(r"[,+ ]+", value)[:FORWARDED_MAX] if (address := _clean(part)) is not None
            ]
            if found:
                fields["network.forwarded_ip"] = found
    return fields


_NAMED = (
    ("cs-method", "http.request.method"),
    ("cs(referer)", "http.request.referrer"),
    ("cs-host", "url.domain"),
    ("s-sitename", "iis.access.site_name"),
    ("s-computername", "iis.access.server_name"),
    ("sc-substatus", "iis.access.sub_status"),
    ("sc-win32-status", "iis.access.win32_status"),
    ("cs(cookie)", "iis.access.cookie"),
    ("s-reason", "iis.error.reason_phrase"),
    ("s-queuename", "iis.error.queue_name"),
    ("s-siteid", "iis.error.site_id"),
    ("x-session", "network.session_id"),
    ("x-fullpath", "file.path"),
)


def _refused(words: list[str], names: tuple[str, ...]) -> Event:
    """A line of HTTPERR: what the kernel's http.sys refused or broke off before IIS saw it."""
    value = dict(zip(names, words, strict=False))
    status = value.get("sc-status", "-")
    code = int(status) if len(status) == 3 and status.isdecimal() and status.isascii() else None
    target = value.get("cs-uri", "-")
    path, _, query = target.partition("?")
    if query:
        names, words = (*names, "cs-uri-query"), [*words, query]
    return Event(
        _at(words[0], words[1]),
        NAME,
        "iis.error",
        _WEB,
        event_type=_ERROR,
        event_action=value.get("s-reason"),
        event_outcome=None if code is None else "success" if code < 400 else "failure",
        message=value.get("s-reason"),
        source_ip=_clean(words[2]),
        source_port=whole_number(words[3]),
        destination_ip=_clean(words[4]),
        destination_port=whole_number(words[5]),
        network_transport={"TCP": "tcp", "QUIC": "udp"}.get(value.get("transport", "-")),
        url_path=path if target != "-" else None,
        http_response_status_code=code,
        service_name="web",
        fields=Lazy(_refused_fields, words, names, target),
    )


def _refused_fields(words: list[str], names: tuple[str, ...], target: str) -> dict[str, Any]:
    fields = _fields(words, names, ftp=False)
    if target != "-":
        fields["url.original"] = target
    return fields


def _native(text: str, origin: Origin) -> Event | None:
    """A line of the IIS format (commas, local time); None if it is none."""
    words = [word.strip() for word in text.rstrip(", ").split(",", 14)]
    if len(words) < 13 or not _address(words[0]):
        return None
    date, time = _NATIVE_DATE.fullmatch(words[2]), _NATIVE_TIME.fullmatch(words[3])
    if date is None or time is None:
        return None
    one, mark, two, three = date.groups()
    year, month, day = (one, two, three) if len(one) == 4 else (three, two, one) if mark == "." else (three, one, two)
    if int(month) > 12:
        month, day = day, month
    century = 0 if len(year) == 4 else 1900 if int(year) >= 70 else 2000
    hour = int(time[1]) % 12 + (12 if time[4] in {"P", "p"} else 0) if time[4] else int(time[1])
    try:
        at = origin.clock.local(century + int(year), int(month), int(day), hour, int(time[2]), int(time[3]))
    except ValueError as error:
        raise ParseError(f"no such time: {error}") from error
    if not 0 <= at < EPOCH_S_MAX:
        raise ParseError("no time of a log line")
    words[2:4] = "1970-01-01", "00:00:00"
    event = _request(words, _NATIVE[: len(words)])
    return msgspec.structs.replace(event, timestamp=at)


def _header(text: str, origin: Origin) -> Event:
    name, colon, rest = text[1:].partition(":")
    if not colon or name not in {"Software", "Version", "Date", "Start-Date", "End-Date", "Fields", "Remark"}:
        raise ParseError("no line of an IIS log's head")
    if name == "Fields":
        columns.remember(origin, tuple(rest.split()))
    return Event(
        timestamp=origin.received,
        event_module=NAME,
        event_dataset="iis.head",
        event_category=_WEB,
        event_type=("info",),
        message=text,
        service_name="web",
    )


def _at(date: str, time: str) -> float:
    """Seconds since the epoch; W3C logs and HTTPERR are in UTC wherever the server stands."""
    try:
        at = datetime.fromisoformat(f"{date}T{time}+00:00").timestamp()
    except ValueError as error:
        raise ParseError(f"no such time: {error}") from error
    if not 0 <= at < EPOCH_S_MAX:
        raise ParseError("no time of a log line")
    return at


def _address(word: str) -> bool:
    return _clean(word) is not None


def _clean(word: str) -> str | None:
    """An address without the zone of a link-local one."""
    return _bare(word) if len(word) <= ADDRESS_CHARS_MAX else None


@lru_cache(maxsize=ADDRESSES_MAX)
def _bare(word: str) -> str | None:
    bare = word.partition("%")[0]
    if _ADDRESS.fullmatch(bare) is not None and (bare.count(".") == 3 or bare.count(":") >= 2):
        return bare
    linked = _LINKED.fullmatch(word)
    return linked[1] if linked is not None else None


def _plain(word: str) -> bool:
    return word == "-" or (word.isascii() and word.isdecimal() and len(word) <= DIGITS_MAX)
