"""Takes the syslog envelope off a line: RFC 3164 in its many dialects, RFC 5424, and Cisco's own.

Every parser of a device that speaks syslog starts here, so the usual line costs one regular expression.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from connectors.clock import DAY_S, MONTHS, YEAR_S
from connectors.events import Origin

_PRIORITIES: dict[str, tuple[int | None, int | None]] = {str(n): (n & 7, n >> 3) for n in range(192)}
_NO_PRIORITY = (None, None)
YEAR_MIN, YEAR_MAX = 1970, 2199  # a stated year outside is no time of a log line
SD_PARAMS_MAX = 256  # of one RFC 5424 line; the rest stays in the message


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What stood around the message. All None and `message` the whole line where there was no envelope."""

    timestamp: float | None
    host: str | None
    app: str | None
    pid: int | None
    severity: int | None
    facility: int | None
    structured: dict[str, str] | None  # RFC 5424 structured data: "id.param" -> value
    message: str
    msgid: str | None = None  # RFC 5424 only

    @property
    def recognised(self) -> bool:
        return self.timestamp is not None or self.severity is not None


# Zone names that lines state; a name that is not here leaves the time to the source's own clock.
ZONES_H = {
    "UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "MEZ": 1, "MET": 1, "CEST": 2, "MESZ": 2,
    "MEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7, "AEST": 10, "AEDT": 11, "JST": 9,
}  # fmt: skip

_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_APP = r"(?!CEF:|LEEF:|\d+:)[^\s\[\]:{}\"'=<>|,;%*]{1,128}"  # a program's name as it stands in a tag
_CLASSIC = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d) (?:(\d{4}) )?(\d\d):(\d\d):(\d\d)")
_PLAIN_HOST = re.compile(r"[\w.-]{1,255}")
_PLAIN_TAG = re.compile(rf"(?!last:)({_APP})(?:\[(\d{{1,10}})\])?:")
_PRIORITY = re.compile(r"<(\d{1,3})>")
_SD_STARTS = frozenset("-[")
_SD_ID = re.compile(r"\[([^\s=\]\"]{1,128})")
_SD_PARAM = re.compile(r" {1,8}([^\s=\]\"]{1,128})=\"((?:[^\"\\]|\\.)*+)\"", re.DOTALL)
_SD_ESCAPE = re.compile(r"\\([\"\\\]])")
_DATE = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?([A-Z][a-z]{2}) {1,2}(\d{1,2}),? (?:(\d{4}) )?"
    r"(\d\d):(\d\d):(\d\d)([.,]\d{1,9})?(?: (\d{4})(?= |: ))?"
    rf"(?: ((?:{'|'.join(ZONES_H)})(?=[ :])|[A-Z]{{3,5}}(?=: ?%)|[+-]\d\d:?\d\d(?=[ :])))?(?: (\d{{4}})(?= |: ))?"
)
_ISO_DATE = re.compile(_ISO + r"(?=[ :]|$)")
_YEAR_FIRST = re.compile(  # NX-OS
    r"(\d{4}) ([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d)([.,]\d{1,9})?"
    rf"(?: ({'|'.join(ZONES_H)}|[+-]\d\d:?\d\d)(?=[ :]))?(?=[ :])"
)
_CISCO_LEAD = re.compile(r"(?:\d{1,12})?: ?(?:((?!\d{1,12}: )[\w.:-]{1,255}): )?(?:\d{1,12}: )?(?=[*.%A-Z\d])")
_UPTIME = re.compile(r"[*.]?(?:(?:\d{1,3}[ywdh]){1,4}|\d{1,4}:\d\d:\d\d): (?=%)")
_CISCO_MESSAGE = re.compile(r"%[A-Za-z]")
_HOST = re.compile(r"([^\s\[\]{}\"'=<>|,;%]{1,255}?)( ?:)? {1,4}(?=(\S))")
_TAG = re.compile(
    rf"({_APP})(?:\[(\d{{1,10}})\])?(?: \([^()]{{1,200}}\))?:(?: |$)"
    r"|([A-Za-z][\w .()-]{0,63})\[(\d{1,10})\](?: \([^()]{1,200}\))?:(?: |$)"  # names with spaces need their pid
)


def peel(text: str, origin: Origin) -> Envelope:
    """Separate envelope and message; never raises. A time that no calendar has makes it no envelope."""
    # The usual line, `<PRI>time host app[pid]: message`, by splits and memory; everything else goes the long way.
    start, severity, facility = 0, None, None
    if text[:1] == "<":
        start = text.find(">", 1, 5) + 1
        severity, facility = _PRIORITIES.get(text[1 : start - 1], _NO_PRIORITY)
    if text[start : start + 1] > "9":
        stamp = text[start : start + 15]
        end = start + 15
        clock = origin.clock
        at = clock.stamps.get(stamp)
        if at is None or not (clock.year is not None or origin.received - YEAR_S < at <= origin.received + DAY_S):
            if stamp[14:] == ":":  # Nov 24 2026 05:00:00
                end = start + 20
                stamp = text[start:end]
                at = clock.stamps.get(stamp)
            else:
                at = None
            if at is None:
                at = _classic(stamp, origin)
    elif text.startswith("1 ", start):
        return _rfc5424(text, start, severity, facility, origin) or _unusual(text, origin)
    else:
        end = text.find(" ", start + 19, start + 36)
        at = _time(text[start:end], origin) if end > 0 and text[start + 10] == "T" else None
    if at is not None:
        if text[end : end + 1] == " ":
            words = text[end + 1 :].split(" ", 2)
            first = words[0]
            if first[-1:] == ":" and first[:1] > "9" and len(words) > 1 and words[1][:1] != "%":  # no host
                app = _TAGS.get(first) or _plain_tag(first)
                if app is not None:
                    message = text[end + len(first) + 2 :]
                    return Envelope(at, None, app[0], app[1], severity, facility, None, message)
            if len(words) == 3:
                host, tag, message = words
                if tag[-2:] == "]:":
                    name, _, pid = tag[:-2].partition("[")
                    if name in _APPS and pid.isdecimal() and len(pid) <= PID_DIGITS_MAX and host in _HOSTS:
                        return Envelope(at, host, name, int(pid), severity, facility, None, message)
                elif tag == ":" and message[:1] == "%" and message[1:2].isupper() and host in _HOSTS:  # `host : %ASA-`
                    return Envelope(at, host, None, None, severity, facility, None, message)
                app = _TAGS.get(tag) or _plain_tag(tag)
                if app is not None and (host in _HOSTS or _plain_host(host)):
                    return Envelope(at, host, app[0], app[1], severity, facility, None, message)
                if tag.isalpha() and tag != host and (host in _HOSTS or _plain_host(host)) and tag not in ZONES_H:
                    after = end + len(host) + 2
                    if (
                        text.find(":", after, after + NAME_CHARS_MAX) < 0
                    ):  # no program anywhere: `last message repeated`
                        return Envelope(at, host, None, None, severity, facility, None, text[after:])
                if (
                    tag[-1:] != ":"
                    and (tag[:1] in _NO_TAG_STARTS or "=" in tag or "," in tag or "|" in tag)
                    and (host in _HOSTS or _plain_host(host))
                ):  # firewalls: `time host date=...`, `time host 1,2026/11/24 ...`, `time host CEF:0|...`
                    return Envelope(at, host, None, None, severity, facility, None, text[end + len(host) + 2 :])
        percent = text.find("%", end, end + 260)  # a host name has at most 255 characters
        if percent > 0 and text[percent + 1 : percent + 2].isupper():  # Cisco: `time: %ASA-`, `time host : %ASA-`
            host = text[end:percent].strip(" :")
            if not host or host in _HOSTS or _plain_host(host):
                return Envelope(at, host or None, None, None, severity, facility, None, text[percent:])
    return _unusual(text, origin)


_NO_HOSTS = frozenset(
    {"trace", "debug", "info", "information", "notice", "warn", "warning", "err", "error", "crit", "critical", "alert",
     "emerg", "fatal", "panic", "severe", "stdout", "stderr", "-", "--"}
)  # fmt: skip
_NO_TAG_STARTS = frozenset('{[<"')
NAME_CHARS_MAX = 280  # of a program's name with blanks, its pid and what stands in brackets behind it
PID_DIGITS_MAX = 10
REMEMBERED_MAX = 8192  # tags and hosts that were found well-formed
_TAGS: dict[str, tuple[str, int | None]] = {}
_APPS: set[str] = set()  # programs of tags with a pid: of those there are too many to remember the tags
_HOSTS: set[str] = set()


def _plain_tag(tag: str) -> tuple[str, int | None] | None:
    if len(tag) < 2 or tag[-1] != ":":
        return None
    match = _PLAIN_TAG.fullmatch(tag)
    if match is None:
        return None
    if match[2] is not None:
        if len(_APPS) >= REMEMBERED_MAX:
            _APPS.clear()
        _APPS.add(match[1])
        return match[1], int(match[2])
    if len(_TAGS) >= REMEMBERED_MAX:
        _TAGS.clear()
    found = _TAGS[tag] = (match[1], None)
    return found


def _plain_host(host: str) -> bool:
    if _PLAIN_HOST.fullmatch(host) is None or _no_host(host):
        return False
    if len(_HOSTS) >= REMEMBERED_MAX:
        _HOSTS.clear()
    _HOSTS.add(host)
    return True


def _no_host(word: str) -> bool:
    """What stands behind a time where there is no host: the level, the number of a process or thread, the stream."""
    return word.lower() in _NO_HOSTS or (word.isdigit() and len(word) <= PID_DIGITS_MAX)


def _classic(stamp: str, origin: Origin) -> float | None:
    """Epoch seconds of `Nov 24 05:00:00` or `Nov 24 2026 05:00:00`, remembered."""
    match = _CLASSIC.fullmatch(stamp)
    if match is None:
        return None
    name, day, year, hour, minute, second = match.groups()
    month = MONTHS.get(name.lower())
    if month is None or (year and not YEAR_MIN <= int(year) <= YEAR_MAX):
        return None
    clock = origin.clock
    try:
        if year:
            at = clock.local(int(year), month, int(day), int(hour), int(minute), int(second))
        else:
            at = clock.yearless(month, int(day), int(hour), int(minute), int(second), origin.received)
    except ValueError:
        return None
    clock.remember(stamp, at)
    return at


def _unusual(text: str, origin: Origin) -> Envelope:
    severity = facility = None
    at = 0
    priority = _PRIORITY.match(text)
    if priority is not None:
        severity, facility = _PRIORITIES.get(priority[1], _NO_PRIORITY)
        if severity is not None:
            at = priority.end()
            if text.startswith(" ", at):
                at += 1
    stamp, host, rest = _stamp(text, at, origin)
    if stamp is None and host is None and severity is None:
        return Envelope(None, None, None, None, None, None, None, text)
    if stamp is not None and host is None:
        host, rest = _host(text, rest, iso=text[at + 4 : at + 5] == "-", spaced=text[at + 10 : at + 11] == " ")
        if host is not None and text.startswith(host + " ", rest):  # a relay that names the host twice
            rest += len(host) + 1
        if text[rest : rest + 1] in _CISCO_STARTS:  # a relay's envelope around the device's own, which knows better
            inner, inner_host, after = _stamp(text, rest, origin)
            while text.startswith((":", " "), after):
                after += 1
            if _CISCO_MESSAGE.match(text, after):
                return Envelope(inner or stamp, inner_host or host, None, None, severity, facility, None, text[after:])
    while text.startswith((":", " "), rest):
        rest += 1
    if text.startswith("--- ", rest):  # macOS: "host --- last message repeated"
        rest += 4
    tag = None if _CISCO_MESSAGE.match(text, rest) else _TAG.match(text, rest)
    if tag is None:
        return Envelope(stamp, host, None, None, severity, facility, None, text[rest:])
    pid = tag[2] or tag[4]
    return Envelope(
        stamp, host, tag[1] or tag[3], int(pid) if pid else None, severity, facility, None, text[tag.end() :]
    )


_CISCO_STARTS = frozenset("0123456789*.:")


def _stamp(text: str, at: int, origin: Origin) -> tuple[float | None, str | None, int]:
    """Time, host that Cisco puts in front of it, and where the rest begins; (None, None, at) if there is no time."""
    begin, host = at, None
    lead = _CISCO_LEAD.match(text, at)
    if lead is not None:
        begin, host = lead.end(), lead[1]
        uptime = _UPTIME.match(text, begin)
        if uptime is not None:
            return None, host, uptime.end()
        if _CISCO_MESSAGE.match(text, begin):
            return None, host, begin
    if text.startswith(("*", "."), begin):  # clock not set, or not synchronised
        begin += 1
    date = _DATE.match(text, begin)
    if date is not None:
        time = _dated(date, origin)
        if time is not None:
            return time, host, date.end()
    iso = _ISO_DATE.match(text, begin)
    if iso is not None:
        time = _time(iso[0], origin)
        if time is not None:
            return time, host, iso.end()
    early = _YEAR_FIRST.match(text, begin)
    if early is not None:
        year, name, day, hour, minute, second, fraction, zone = early.groups()
        time = _date((name, day, year, hour, minute, second, fraction, None, zone, None), origin)
        if time is not None:
            return time, host, early.end()
    return None, None, at


def _host(text: str, at: int, *, iso: bool, spaced: bool) -> tuple[str | None, int]:
    """Host, if one follows the time, and where the tag begins. A word with a colon is a tag, unless `%` follows.

    ISO times stand in front of lines of any kind: there a host is what looks like one, or (date and time written apart)
    has a tag behind it.
    """
    if text.startswith((":", " :"), at):
        return None, at
    while text.startswith(" ", at):
        at += 1
    host = _HOST.match(text, at)
    if host is None or (host[2] == ":" and host[3] != "%"):
        return None, at
    if iso and (_no_host(host[1]) or (spaced and host[3] != "%" and _TAG.match(text, host.end()) is None)):
        return None, at
    return host[1], host.end()


def _time(stamp: str, origin: Origin) -> float | None:
    """Epoch seconds of an ISO time; None if there is no such time."""
    try:
        moment = datetime.fromisoformat(stamp)
        if not YEAR_MIN <= moment.year <= YEAR_MAX:
            return None
        if moment.tzinfo is not None:
            return moment.timestamp()
        second = moment.second + moment.microsecond / 1e6
        return origin.clock.local(moment.year, moment.month, moment.day, moment.hour, moment.minute, second)
    except ValueError:
        return None


def _dated(date: re.Match[str], origin: Origin) -> float | None:
    """Epoch seconds of a matched `_DATE`, remembered."""
    clock = origin.clock
    at = clock.stamps.get(date[0])
    if at is not None and (clock.year is not None or origin.received - YEAR_S < at <= origin.received + DAY_S):
        return at
    at = _date(date.groups(), origin)
    if at is not None and date[7] is None:  # with a fraction none comes twice
        clock.remember(date[0], at)
    return at


def _date(date: Sequence[str | None], origin: Origin) -> float | None:
    """Epoch seconds of the groups of `_DATE`."""
    name, day, year_before, hour, minute, second, fraction, year_after, zone, year_last = date
    if name is None or day is None or hour is None or minute is None or second is None:
        return None
    month = MONTHS.get(name.lower())
    year = year_before or year_after or year_last
    if month is None or (year and not YEAR_MIN <= int(year) <= YEAR_MAX):
        return None
    fine = float("0." + fraction[1:]) if fraction else 0.0
    clock = origin.clock
    try:
        offset_s = _offset_s(zone)
        if offset_s is not None:
            of_year = (
                int(year)
                if year
                else datetime.fromtimestamp(
                    clock.yearless(month, int(day), int(hour), int(minute), int(second), origin.received), clock.zone
                ).year
            )
            return (
                datetime(of_year, month, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC).timestamp()
                + fine
                - offset_s
            )
        if year:
            return clock.local(int(year), month, int(day), int(hour), int(minute), int(second)) + fine
        at = clock.yearless(month, int(day), int(hour), int(minute), int(second), origin.received)
    except ValueError:
        return None
    return at + fine


def _offset_s(zone: str | None) -> float | None:
    if zone is None:
        return None
    if zone[0] in "+-":
        seconds = int(zone[1:3]) * 3600.0 + int(zone[-2:]) * 60.0
        return -seconds if zone[0] == "-" else seconds
    hours = ZONES_H.get(zone)
    return hours * 3600.0 if hours is not None else None


def _rfc5424(text: str, start: int, severity: int | None, facility: int | None, origin: Origin) -> Envelope | None:
    words = text[start:].split(" ", 6)
    if len(words) < 7 or words[6][0:1] not in _SD_STARTS:
        return None
    _, stamp, host, app, pid, msgid, rest = words
    timestamp = _time(stamp, origin) if stamp != "-" and "T" in stamp else None
    if timestamp is None and (stamp != "-" or severity is None):
        return None
    structured: dict[str, str] | None = None
    at = 0
    if rest[0] == "-":
        at = 1
    else:
        structured = {}
        while (element := _SD_ID.match(rest, at)) is not None and len(structured) < SD_PARAMS_MAX:
            end = element.end()
            while (param := _SD_PARAM.match(rest, end)) is not None:
                value = param[2]
                structured[f"{element[1]}.{param[1]}"] = _SD_ESCAPE.sub(r"\1", value) if "\\" in value else value
                end = param.end()
            if not rest.startswith("]", end):  # not what the standard says: leave it in the message
                break
            at = end + 1
    if rest.startswith(" ", at):
        at += 1
    if rest.startswith("\ufeff", at):
        at += 1
    return Envelope(
        timestamp,
        None if host == "-" else host,
        None if app == "-" else app,
        int(pid) if pid.isascii() and pid.isdigit() and len(pid) <= 10 else None,
        severity,
        facility,
        structured,
        rest[at:],
        None if msgid == "-" else msgid,
    )
