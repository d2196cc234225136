"""Sophos Central: alerts and events of endpoint, server and e-mail protection, as the SIEM integration fetches them (JSON).

Sophos' own keys stay in `fields`; `event.code` is Sophos' type (`Event::Endpoint::Threat::Detected`). Also the log that the
anti-virus keeps on the machine itself: `<log><category>...` on Unix, `20261124 050000<tab>text` on Windows.
"""

import html
import re
from collections.abc import Sequence
from functools import lru_cache

from connectors import json_log
from connectors.clock import EPOCH_S_MAX
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import (
    Glance,
    Log,
    account,
    address,
    first,
    flat,
    moment,
    number,
    part,
    port,
    program,
    stated,
    whole,
)

NAME = "sophos_central"
ARGUMENTS_MAX = 32  # of one message of the anti-virus that are put in their places
CODE_CHARS_MAX = 256  # of what an event calls itself

_LISTS = ("items", "value", "records")

Meaning = tuple[str, tuple[str, ...], tuple[str, ...]]
# Parts of the type, the most telling first -> kind, category, type.
_KINDS: tuple[tuple[str, Meaning], ...] = (
    ("::UserAutoCreated", ("iam", ("iam",), ("user", "creation"))),
    ("::Endpoint::User", ("iam", ("iam",), ("user", "change"))),
    ("::ADSync", ("iam", ("iam",), ("info",))),
    ("::CoreAmsi", ("threat", ("malware",), ("info",))),
    ("::CoreHmpa", ("threat", ("malware",), ("info",))),
    ("::CoreIps", ("threat", ("intrusion_detection", "network"), ("info",))),
    ("::HmpaC", ("threat", ("malware",), ("info",))),
    ("::HmpaExploit", ("threat", ("malware",), ("info",))),
    ("::Threat::", ("threat", ("malware",), ("info",))),
    ("::CoreClean", ("threat", ("malware",), ("info",))),
    ("::CoreDetection", ("threat", ("malware",), ("info",))),
    ("::CoreOutbreak", ("threat", ("malware",), ("info",))),
    ("::CoreRestore", ("threat", ("malware",), ("info",))),
    ("::SavScan", ("scan", ("malware",), ("info",))),
    ("::WebControl", ("web", ("web",), ("denied",))),
    ("::WebFiltering", ("web", ("web",), ("denied",))),
    ("::Application", ("application", ("process",), ("denied",))),
    ("::Device", ("device", ("host",), ("denied",))),
    ("::DataLoss", ("dlp", ("file",), ("info",))),
    ("::Registered", ("agent", ("host",), ("info",))),
    ("::Update", ("agent", ("package",), ("change",))),
    ("::Firewall", ("firewall", ("network",), ("info",))),
    ("::Isolat", ("agent", ("configuration",), ("change",))),
)
_AGENT: Meaning = ("agent", ("host",), ("info",))
_LETTING = ("Allow", "Alert", "Detected", "Warn")
_SEVERITIES = {"none": 0, "low": 30, "medium": 50, "high": 70, "critical": 90}
_UNIX = re.compile(r"<(category|level|domain|msg|time|arg)>([^<]{0,4096})</")
_WINDOWS = re.compile(r"(\d{4})(\d\d)(\d\d) (\d\d)(\d\d)(\d\d)\t(\S.*)", re.DOTALL)
_WHO = re.compile(r"User \(([^()]{1,256})\)")
_FOUND = re.compile(r"(?i)infected|threat|virus|malware detected|has been (?:detected|blocked)")
_TIMES = ("when", "created_at", "event_time", "end", "rt")

_OF_ITEM = ("source_info.ip", "core_remedy_items.items[].type", "core_remedy_items.items[].descriptor")
_GLANCE = Glance(
    *(
        "when",
        "event_service_event_id",
        "type",
        "source",
        "suser",
        "description",
        "name",
        "message",
        "location",
        "dhost",
    ),
    *("ips_threat_data", "amsi_threat_data.processName", "amsi_threat_data.processPath"),
    *("data.ips_threat", "data.hmpa_exploit", "data.user_name", *_OF_ITEM, *(f"data.{path}" for path in _OF_ITEM)),
    *_TIMES,
    wrapped=_LISTS,
)


def sniff(text: str) -> bool:
    if text.startswith("<log><category>") or (text[15:16] == "\t" and _WINDOWS.match(text) is not None):
        return True
    if '"Event::' not in text and '"event_service_event_id"' not in text:
        return False
    return '"customer_id"' in text or '"endpoint_id"' in text or '"severity"' in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if text.startswith("<log><category>"):
        return (_unix(text, origin),)
    if text[15:16] == "\t" and (line := _WINDOWS.fullmatch(text)) is not None:
        return (_windows(line, origin),)
    seen = _GLANCE.read(text)
    if seen is not None and _is_known(seen):
        return (_event(seen, text, origin, text, False),)
    found, damaged = json_log.logs(text, _LISTS)
    events = [_event(log, text, origin, log, damaged) for log in found if _is_known(log)]
    if not events:
        raise ParseError("no Sophos Central alert or event: neither a time nor a type of theirs")
    return events


def _is_known(log: Log) -> bool:
    return "when" in log or "event_service_event_id" in log or str(log.get("type")).startswith("Event::")


def _unix(text: str, origin: Origin) -> Event:
    """The anti-virus for Linux and Unix: a message with places, and what stands in them."""
    values: dict[str, str] = {}
    places: list[str] = []
    for name, value in _UNIX.findall(text):
        if name == "arg":
            places.append(html.unescape(value))
        else:
            values.setdefault(name, html.unescape(value))
    message = values.get("msg", "")
    for place in places[:ARGUMENTS_MAX]:
        message = message.replace("%s", place, 1)
    seconds = number(values.get("time"))
    code = values.get("msg", "").partition(" ")[0] or None
    alarm = _FOUND.search(code or "") is not None
    return Event(
        timestamp=origin.received if seconds is None or seconds >= EPOCH_S_MAX else float(seconds),
        event_module=NAME,
        event_dataset="sophos_central.threat" if alarm else "sophos_central.agent",
        event_category=("malware",) if alarm else ("host",),
        event_type=("info",),
        event_code=code,
        message=message,
        process_name=values.get("domain"),
        file_path=places[0] if alarm and places and places[0][:1] == "/" else None,
        fields=stated(
            event__kind="alert" if alarm else None,
            event__provider=values.get("category"),
            log__level=values.get("level", "").lower(),
            observer__vendor="Sophos",
        ),
    )


def _windows(line: re.Match[str], origin: Origin) -> Event:
    *stamp, message = line.groups()
    try:
        at = origin.clock.local(*map(int, stamp))
    except ValueError as error:
        raise ParseError(f"no such time: {error}") from error
    if not 0 <= at < EPOCH_S_MAX:
        raise ParseError("no time of a log line")
    alarm = _FOUND.search(message, 0, 512) is not None
    who = _WHO.match(message)
    user, domain = (None, None) if who is None else account(who[1])
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="sophos_central.threat" if alarm else "sophos_central.agent",
        event_category=("malware",) if alarm else ("host",),
        event_type=("info",),
        message=message,
        user_name=user,
        user_domain=domain,
        fields=stated(event__kind="alert" if alarm else None, observer__vendor="Sophos"),
    )


@lru_cache(maxsize=1024)
def _meaning(code: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Kind, category and type of an event by its own name for it."""
    kind, category, types = next((meaning for said, meaning in _KINDS if said in code), _AGENT)
    return kind, category, ("info",) if types == ("denied",) and any(word in code for word in _LETTING) else types


def _event(log: Log, text: str, origin: Origin, all_of_it: Log | str, damaged: bool) -> Event:
    data = part(log, "data")
    code = first(log, "type")
    kind, category, types = _meaning((code or "")[:CODE_CHARS_MAX])
    intrusion = part(data, "ips_threat") or part(log, "ips_threat_data")
    exploit, script = part(data, "hmpa_exploit"), part(log, "amsi_threat_data")
    who = first(log, "source", "suser") or first(data, "user_name")
    user, domain = (None, None) if who is None else account(who.lstrip("\\"))
    source = first(part(data, "source_info"), "ip") or first(part(log, "source_info"), "ip")
    sides = [
        (address(source), port(intrusion.get("local_port", intrusion.get("localPort")))),
        (
            address(first(intrusion, "remote_ip", "remoteIp")),
            port(intrusion.get("remote_port", intrusion.get("remotePort"))),
        ),
    ]
    if "Inbound" in (code or ""):  # the other end began
        sides.reverse()
    process = first(exploit, "process_name") or first(script, "processName")
    path = first(exploit, "process_path") or first(script, "processPath")
    said = first(log, "description", "name", "message")
    return Event(
        moment(log, _TIMES, 0.0) or json_log.head(text, origin)[0],
        NAME,
        f"sophos_central.{kind}",
        category,
        types,
        first(log, "name") or code,
        None,
        code,
        said,
        first(log, "location", "dhost"),
        user or None,
        domain,
        *sides[0],
        None,
        *sides[1],
        None,
        None,
        process or first(intrusion, "executable_name", "executableName") or program(path),
        number(exploit.get("process_pid"))
        or number(intrusion.get("executable_pid"))
        or number(intrusion.get("executablePid")),
        path or first(intrusion, "executable_path", "executablePath"),
        file_path=_file(log, data),
        fields=Lazy(_fields, all_of_it, damaged),
    )


def _file(log: Log, data: Log) -> str | None:
    for about in (log, data):
        items = part(about, "core_remedy_items")
        path = first(part(items, "items"), "descriptor")
        if path is not None and first(part(items, "items"), "type") == "file":
            return path
    return None


def _fields(all_of_it: Log | str, damaged: bool) -> Log:
    log, damaged = whole(all_of_it, damaged)
    data = part(log, "data")
    kind = str(log.get("type"))
    fields = flat(log, NAME)
    return fields | stated(
        event__kind="alert" if "data" in log or "Threat" in kind or "Core" in kind else None,
        event__id=first(log, "id", "event_service_event_id"),
        event__severity=_SEVERITIES.get(str(log.get("severity")).lower()),
        event__provider=first(log, "product"),
        rule__name=first(log, "threat") or first(data, "threat_name"),
        user__id=first(log, "user_id"),
        host__id=first(log, "endpoint_id") or first(data, "endpoint_id"),
        host__os__type=first(data, "endpoint_platform"),
        process__hash__sha256=first(log, "appSha256"),
        process__parent__executable=first(part(log, "amsi_threat_data"), "parentProcessPath"),
        organization__id=first(log, "customer_id"),
        group__name=first(log, "group"),
        observer__vendor="Sophos",
        shield__truncated=damaged or None,
    )
