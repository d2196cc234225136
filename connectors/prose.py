"""What the free text of an application says: when, who, from where, for which page, and whether it worked.

For lines that no parser of their own reads. It takes only what stands in a usual place (`user 'x' from 192.0.2.7`,
`IP: ...`, `"GET /path" 401`) and leaves the rest alone: a wrong name is worse than none.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import msgspec

from connectors.clock import MONTHS, from_iso
from connectors.envelope import YEAR_MAX, YEAR_MIN
from connectors.events import Event, Origin
from connectors.values import address_of, is_address, url_path, whole_number

HEAD_CHARS_MAX = 48  # in front of a line's own time: brackets, a level, a number
TEXT_CHARS_MAX = 1024  # of a message that are looked at
PLACES_MAX = 16  # of a message that may be addresses
NAME_CHARS_MAX = 128  # of an account

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"(?P<{0}>\d{{1,2}}:\d\d(?::\d\d(?:[.,]\d{{1,9}})?)?)"
_WHENS = (  # 2026-11-24 05:00:00,123 and with slashes or dots; 24/Nov/2026:05:00:00; Nov 24, 2026 05:00; 11/24/26 05:00 PM
    r"(?P<ymd>\d{4}(?P<mark>[-/.])(?:\d\d|" + _MONTH + r")(?P=mark)\d\d)(?:[T ,_]| - )" + _CLOCK.format("t1"),
    r"(?P<dmy>\d{1,2}[/ -]" + _MONTH + r"[/ -]\d{4})[: ]" + _CLOCK.format("t2"),
    r"(?P<mdy>" + _MONTH + r"[a-z]{0,6} {1,2}\d{1,2},?(?: \d{4})?),? " + _CLOCK.format("t3") + r"(?P<late> \d{4}\b)?",
    r"(?P<digits>\d\d?(?P<dot>[/.])\d\d?(?P=dot)\d{2}(?:\d\d)?),? " + _CLOCK.format("t4") + r"(?P<half> ?[AP]M\b)?",
    r"(?P<compact>20\d{6})[ T](?P<t5>\d{6})(?!\d)",
)
_WHEN = re.compile(
    r"(?P<head>(?:\d\d:\d\d:\d\d )?(?:[\d.]{8,24} )?(?:\d{1,2}\|)?(?:[\[(]?[A-Za-z][\w.*-]{0,24}[\]):,|]{0,2}[ |]{0,8})?"
    r"(?:\d{1,10} {1,4}(?:- )?)?[\[(]?)(?:"
    + "|".join(_WHENS)
    + r")(?P<zone>(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))(?![\w:]))?[\])]?"
)
_GO = re.compile(r"(?P<level>[IWEF])(?P<month>\d\d)(?P<day>\d\d) (?P<time>\d\d:\d\d:\d\d(?:\.\d{1,9})?)")
_DATE = re.compile(r"(\d+)\D(\d+)\D(\d+)")
_WORDS_OF_DATE = re.compile(r"[A-Za-z]+|\d+")
_LEVEL = re.compile(r"(?:TRACE|DEBUG|INFO|INFORMATION|NOTICE|WARN|WARNING|ERR|ERROR|CRIT|CRITICAL|ALERT|FATAL|EMERG)\b")
LEVEL_CHARS_MAX = 80  # at the beginning of a message, within which it states its level

# Telling words, in English and German, of a text in small letters; without any of them it is not looked at further.
# A pattern that begins with letters is searched for several times faster than one that begins with a word's edge, so the
# edge is looked back for.
_LOGON_HINT = re.compile(
    r"auth|log(?:ged)?[ -]?(?:in|on|out|off)|sign(?:ed)?[ -]in|passwor[dt]|credential|anmeld"
    r"|find user|retrieve user|such user|unknown user|invalid (?:user|(?:\w{1,16} )?token)|token is invalid"
    r"|miniserv(?<!\wminiserv)\b"
)
_WEB_HINT = re.compile(r"(?:GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH|PROPFIND)[\" ]")
_ENDED = re.compile(
    r"log(?<!\wlog)(?:ged)?[ -]?(?:out|off)\b|sign(?<!\wsign)(?:ed)?[ -]?out\b|abgemeldet(?<!\wabgemeldet)\b"
)
_BROKEN = re.compile(
    r"fail|invalid|incorrect|unsuccess|denied|wrong|bad(?<!\wbad)\b|reject|refus|unauthori[sz]ed|not authori[sz]ed|"
    r"not found|could not|can(?:no|')t\b|error|unknown user|no such user|not allowed|blocked|rate.?limited|fehl|ung\u00fcltig|falsch"
)
_WORKED = re.compile(
    r"succe|accepted|granted(?<!\wgranted)\b|log(?<!\wlog)(?:ged)?[ -]?[io]n(?:to)?\b|signed(?<!\wsigned)[ -]?in\b"
    r"|authenticated(?<!\wauthenticated)\b|erfolgreich|angemeldet(?<!\wangemeldet)\b"
)
_TRIED = re.compile(r"attempt|request|try|trying|page|versuch")

_IPV4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_IPV6 = r"(?:[0-9A-Fa-f]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{1,4})?"
_PLACES4 = re.compile(r"\.(?<=\d\.)\d{1,3}\.\d{1,3}\.\d{1,3}(?P<port>:\d{1,5})?(?!\w|\.\d)")  # from its first dot on
COLONS_MIN = 6  # of an IPv6 address without `::`
_PLACES6 = re.compile(rf"({_IPV6})(?:\]:(\d{{1,5}}))?(?!\w|\.\d)")
_NO_EDGES = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.@/-")
_LAST_WORD = re.compile(r"(?:.*\W)?(\w+)", re.DOTALL)
_FROM = frozenset(
    re.findall(
        r"\S+",
        "from von client peer rhost remote remoteip remoteaddr remoteaddress remotehost remote_ip remote_addr remote_address "
        "remote_host source src ip ipaddr ipaddress ipadresse ip_addr ip_address ip_adresse addr address host connection by",
    )
)
_TO = frozenset(
    re.findall(r"\S+", "to at on via server listen listening bind binding dst dest destination target for an auf")
)
_GAP = " \"'`:=(["  # between such a word and the address
_NAME_KEYS = re.compile("user|login|account|e-?mail|benutzer|konto|for|f\u00fcr")  # what `_NAMES` begins with
_NAMES = re.compile(
    r"(?i)\b(?P<key>user(?:[ _-]?name)?|login|account|e-?mail|benutzer(?:name)?|konto|for|f\u00fcr)(?P<gap>(?:\\?[\"'`])? ?[:=] ?|\(| (?:is )?|(?=\\?[\"`\[]))"
    rf"(?=\\?(?P<quote>[\"'`\[\u00bb<])(?P<quoted>[^\"'`\[\]<>\u00ab\\]{{1,{NAME_CHARS_MAX}}})\\?[\"'`\]>\u00ab]"
    rf"|(?P<plain>[^\s\"'`\[\](){{}}<>,;|]{{1,{NAME_CHARS_MAX}}}))"
)
_NO_NAMES = frozenset(
    re.findall(
        r"\S+",
        "or and was is are has had have from with not by in on at of for to the a an this that be been does did doesn't "
        "agent name id ip password passwort page attempt attempts failed failure failures error denied successful success "
        "successfully authentication login logged logon session sessions invalid unknown not_found already could via as "
        "details data account user username token request mit von oder und ist war hat nicht undefined null none anonymous "
        "client credential credentials provided took",
    )
)
_BESIDE = re.compile(  # `192.0.2.7 - anna "POST /login`, `[time] anna - 192.0.2.7 `
    rf"(?:^|[\s\]]){_IPV4} - ([\w.@+-]{{1,{NAME_CHARS_MAX}}})(?= [-\"(])|(?:^ ?|\] )([\w.@+-]{{1,{NAME_CHARS_MAX}}}) - {_IPV4} "
)
_REQUEST = re.compile(
    r"\b(GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH|PROPFIND)\b[\" ]{1,6}(/[^\s\"]{0,1024}|https?://[^\s\"]{1,1024})(.{0,160})",
    re.DOTALL,
)
_STATUS = re.compile(r"(?<![\w.:/])([1-5]\d\d)(?![\w.:/])")
_STATUS_BEFORE = re.compile(r"(?:\| {0,4}|^|: )([1-5]\d\d)(?= {0,4}\||: [A-Z]{3,8} )")


_SMALL = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


class Said(NamedTuple):
    """What a text says. `kind` is authentication, web or, where it names no more than a peer, nothing."""

    kind: str
    types: tuple[str, ...]
    outcome: str | None
    user: str | None
    address: str | None
    port: int | None
    method: str | None
    target: str | None
    status: int | None

    @property
    def path(self) -> str | None:
        return None if self.target is None else url_path(self.target)


def when(text: str, origin: Origin) -> tuple[float, int, str | None] | None:
    """A line's own time at its beginning, where the rest begins, and the level stated before it; None without one."""
    found = _WHEN.match(text)
    if found is None or found.end("head") > HEAD_CHARS_MAX:
        go = _GO.match(text)
        if go is None:
            return None
        at = _epoch(None, int(go["month"]), int(go["day"]), go["time"], "", origin)
        return None if at is None else (at, go.end(), _GO_LEVELS[go["level"]])
    head, ymd, mark, t1, dmy, t2, mdy, t3, late, digits, _, t4, half, compact, t5, zone = found.groups()
    if ymd is not None:
        time = t1
        year, named, day = ymd.split(mark)
        number = int(named) if named.isdigit() else MONTHS.get(named.lower(), 0)
        at = _epoch(int(year), number, int(day), time, zone or "", origin)
    else:
        time = t2 or t3 or t4 or t5
        if compact:
            time = f"{time[:2]}:{time[2:4]}:{time[4:]}"
        if half:
            hour, _, rest = time.partition(":")
            time = f"{int(hour) % 12 + (12 if 'P' in half else 0)}:{rest}"
        at = _epoch(*_day(dmy, mdy, late, compact, digits), time, zone or "", origin)
    return None if at is None else (at, found.end(), level(head) if head else None)


_GO_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "fatal"}


def starts(text: str) -> bool:
    """Whether a line begins with a time of its own."""
    found = _WHEN.match(text)
    return (found is not None and len(found["head"]) <= HEAD_CHARS_MAX) or _GO.match(text) is not None


def level(text: str) -> str | None:
    """The level that a message states at its beginning."""
    head = text[:LEVEL_CHARS_MAX].upper()
    for found in _LEVEL.finditer(head):
        start = found.start()
        if start == 0 or not (head[start - 1].isalnum() or head[start - 1] == "_"):
            return found[0].lower()
    return None


def _day(
    dmy: str | None, mdy: str | None, late: str | None, compact: str | None, digits: str | None
) -> tuple[int | None, int, int]:
    """Year (where it is stated), month and day; 0 where it is no month."""
    if dmy is not None:
        day, name, year = _WORDS_OF_DATE.findall(dmy)
        return int(year), MONTHS.get(name.lower(), 0), int(day)
    if mdy is not None:
        words = _WORDS_OF_DATE.findall(mdy)
        return (
            int(words[2]) if len(words) > 2 else int(late) if late else None,
            MONTHS.get(words[0][:3].lower(), 0),
            int(words[1]),
        )
    if compact is not None:
        return int(compact[:4]), int(compact[4:6]), int(compact[6:])
    one, other, year = _WORDS_OF_DATE.findall(digits or "0/0/0")
    month, day = (one, other) if "/" in (digits or "") else (other, one)
    if int(month) > 12:
        month, day = day, month
    return int(year) + (2000 if len(year) == 2 else 0), int(month), int(day)


def _epoch(year: int | None, month: int, day: int, time: str, zone: str, origin: Origin) -> float | None:
    hour, minute, *seconds = time.replace(",", ".").split(":")
    second, _, fraction = (seconds[0] if seconds else "0").partition(".")
    fine = float("0." + fraction) if fraction else 0.0
    try:
        if year is None:
            return origin.clock.yearless(month, day, int(hour), int(minute), int(second), origin.received) + fine
        if not zone:
            if not YEAR_MIN <= year <= YEAR_MAX or second > "59":
                return None
            return origin.clock.local(year, month, day, int(hour), int(minute), int(second)) + fine
        iso = f"{year:04}-{month:02}-{day:02}T{int(hour):02}:{minute}:{int(second):02}"
        return from_iso(iso + zone.strip().replace("UTC", "Z").replace("GMT", "Z"), origin.clock) + fine
    except (ValueError, OverflowError):
        return None


def said(text: str) -> Said | None:
    """Who did what from where; None where the text speaks of no logon, no request and no peer."""
    text = text[:TEXT_CHARS_MAX]
    low = text.lower()
    if len(low) != len(text):  # a few letters of other scripts become two
        low = text.translate(_SMALL)
    logon = (
        "auth" in low or "log" in low or "passwor" in low or "sign" in low or "user" in low or "credential" in low
        or "anmeld" in low or "token" in low or "miniserv" in low
    ) and _LOGON_HINT.search(low) is not None  # fmt: skip
    request = _REQUEST.search(text) if "/" in text and _WEB_HINT.search(text) is not None else None
    if not logon and request is None:
        if not (" from " in low or "client" in low or "connection" in low or "peer" in low or "host=" in low):
            return None
        address, port = _source(text, alone=False)
        return None if address is None else Said("", ("info",), None, None, address, port, None, None, None)
    address, port = _source(text, alone=True)
    method = target = status = None
    if request is not None:
        method, target, rest = request.groups()
        after = _STATUS.search(rest) or _STATUS_BEFORE.search(text[: request.start()] + request[1] + " ")
        status = int(after[1]) if after is not None else None
    user = _user(text, low) if logon else None
    if not logon or (request is not None and user is None and _BROKEN.search(low) is None):
        if address is None and status is None:
            return None
        outcome = None if status is None else "success" if status < 400 else "failure"
        return Said("web", ("access",), outcome, None, address, port, method, target, status)
    if user is None and address is None:
        return None
    if _BROKEN.search(low) is not None:
        return Said("authentication", ("start", "denied"), "failure", user, address, port, method, target, status)
    if _ENDED.search(low) is not None:
        return Said("authentication", ("end",), None, user, address, port, method, target, status)
    worked = _WORKED.search(low) is not None and _TRIED.search(low) is None
    outcome = "success" if worked else None
    return Said(
        "authentication", ("start",) if worked else ("info",), outcome, user, address, port, method, target, status
    )


_TOLD_OF: frozenset[tuple[str, ...]] = frozenset({(), ("authentication",)})


def as_told(event: Event) -> Event:
    """An event without a source, with what its message says beyond its fields."""
    if event.source_ip is not None or event.message is None or event.event_category not in _TOLD_OF:
        return event
    told = said(event.message)
    if told is None or (event.user_name is not None and told.user not in {None, event.user_name}):
        return event
    new = not event.event_category and told.kind
    return msgspec.structs.replace(
        event,
        event_category=(told.kind,) if new else event.event_category,
        event_type=told.types if new or not event.event_type else event.event_type,
        event_outcome=event.event_outcome or told.outcome,
        user_name=event.user_name or told.user,
        source_ip=told.address,
        source_port=event.source_port or told.port,
        url_path=event.url_path or told.path,
        http_response_status_code=event.http_response_status_code or told.status,
    )


def _source(text: str, *, alone: bool) -> tuple[str | None, int | None]:
    """The address that a text names as where it came from, else the only one in it."""
    found: list[tuple[str, int | None]] = []
    places = list(islice(_places4(text), PLACES_MAX)) if "." in text else []
    if "::" in text or text.count(":") >= COLONS_MIN:
        places += ((match[1], match.start(), match[2]) for match in islice(_PLACES6.finditer(text), PLACES_MAX))
    for stated, start, port in places:
        if (start and text[start - 1] in _NO_EDGES) or not is_address(stated) or stated == "::":
            continue
        place = (address_of(stated) or stated, _port(port))
        word = _word_before(text[max(0, start - 40) : start].removesuffix("["))
        if word in _FROM:
            return place
        if word not in _TO:
            found.append(place)
    if alone and found and len({address for address, _ in found}) == 1:
        return found[0]
    return None, None


def _places4(text: str) -> Iterator[tuple[str, int, str | None]]:
    """What looks like an IPv4 address, where it begins, and the port behind it."""
    for match in _PLACES4.finditer(text):
        dot = start = match.start()
        while start and dot - start < 3 and "0" <= text[start - 1] <= "9":
            start -= 1
        end, port = match.start("port"), match["port"]
        yield (text[start : end if port else match.end()], start, port[1:] if port else None)


def _word_before(text: str) -> str:
    """The last word of a text, in small letters, if no more than a few marks stand behind it."""
    head = text.rstrip(_GAP)
    gap = len(text) - len(head)
    last = _LAST_WORD.fullmatch(head)
    if last is None or gap > 5 or (gap == 5 and text[-5] not in "\"'"):
        return ""
    word = last[1].lower()
    return "ip" if word == "adresse" and head[-10:-7].lower() in {"ip ", "ip-"} else word


def _port(digits: str | None) -> int | None:
    number = whole_number(digits)
    return number if number is not None and 0 < number <= 65_535 else None


_RANKS = {"for": 2, "f\u00fcr": 2, "login": 1, "account": 1, "konto": 1, "email": 1, "e-mail": 1}


def _user(text: str, low: str) -> str | None:
    """The account that a text names: after `user` before `login` or `email`, and those before `for`."""
    if " - " in text and (beside := _BESIDE.search(text)) is not None:
        return beside[1] or beside[2]
    best, rank, end = None, 3, 0
    for begin in _NAME_KEYS.finditer(low):
        if begin.start() < end or (match := _NAMES.match(text, begin.start())) is None:
            continue
        end = match.end()
        key = match["key"].lower()
        mine = _RANKS.get(key, 0)
        if mine >= rank:
            continue
        name = match["quoted"] if match["quoted"] is not None else (match["plain"] or "").rstrip(".:!?")
        if not name or name.strip() != name or _is_place(name) or not any(map(str.isalnum, name)):
            continue
        if match["quoted"] is None:
            if not match["gap"] or name.lower() in _NO_NAMES or (mine == 1 and match["gap"] == " "):
                continue
            if ":" in name or "=" in name:  # `for db:town login:anna`
                continue
            follows = text[match.end("plain") : match.end("plain") + 6].lstrip()
            if (
                mine == 2
                and not follows.startswith(("from", "(", "von", "has", "at "))
                and text[match.end("plain") :].strip(" .")
            ):
                continue
        best, rank = name, mine
    return best


def _is_place(name: str) -> bool:
    return is_address(name) or name[:1] == "/" or name[:4] == "http"
