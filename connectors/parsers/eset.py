"""ESET PROTECT: detections, firewall, HIPS, web protection, blocked files, ESET Inspect and the console's audit, as JSON.

With or without the syslog header that ESET PROTECT writes. ESET's own keys stay in `fields`.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from connectors import json_log
from connectors.clock import MONTHS
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import (
    Glance,
    Log,
    account,
    address,
    first,
    flat,
    port,
    program,
    stated,
    text_of,
    url_path,
    whole,
)

NAME = "eset"

REMEMBERED_MAX = 4096  # objects whose meaning is kept

_LISTS = ("events", "records", "detections")
Meaning = tuple[str, tuple[str, ...], tuple[str, ...]]
_EVENTS: dict[str, Meaning] = {
    "Threat_Event": ("threat", ("malware",), ("info",)),
    "FirewallAggregated_Event": ("firewall", ("network", "intrusion_detection"), ("info",)),
    "HipsAggregated_Event": ("hips", ("intrusion_detection", "host"), ("info",)),
    "FilteredWebsites_Event": ("web", ("web",), ("access",)),
    "BlockedFiles_Event": ("file", ("file", "malware"), ("denied",)),
    "EnterpriseInspectorAlert_Event": ("inspect", ("intrusion_detection", "process"), ("info",)),
    "Audit_Event": ("audit", ("configuration",), ("change",)),
}
_SEVERITIES = {"information": 10, "notice": 20, "warning": 50, "error": 60, "critical": 80, "fatal": 90}
_DENYING = re.compile(r"(?i)block|den[yi]|drop|clean|delet|quarantin|terminat|refus|disinfect|removed")
_QUOTED = re.compile(r"'([^']{1,256})'")  # a name in the detail of an audit
_DATE = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?")
_PROTOCOLS = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmpv6": "ipv6-icmp"}

_KEYS = (
    "event_type action_taken action event username account user object_uri target processname process_name application "
    "protocol occured occurred detail threat_name rulename rule_name description hostname source_address source_port "
    "target_address target_port command_line result domain"
)
_GLANCE = Glance(*_KEYS.split(), wrapped=_LISTS)


def sniff(text: str) -> bool:
    return '"event_type"' in text and '"source_uuid"' in text and '_Event"' in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = json_log.begins(text)
    body = text[begin:] if begin > 0 else text
    seen = _GLANCE.read(body)
    if seen is not None and "event_type" in seen:
        return (_event(seen, text, origin, body, False),)
    found, damaged = json_log.logs(text, _LISTS)
    events = [_event(log, text, origin, log, damaged) for log in found if "event_type" in log]
    if not events:
        raise ParseError("no ESET PROTECT event: no event_type")
    return events


def _event(log: Log, text: str, origin: Origin, all_of_it: Log | str, damaged: bool) -> Event:
    name = text_of(log.get("event_type")) or ""
    kind, category, types = _EVENTS.get(name) or ("event", (), ("info",))
    action = first(log, "action_taken", "action", "event")
    outcome: str | None = None
    who, service = first(log, "username", "account", "user"), None
    if kind == "audit":
        category, types, outcome, who = _audit(log, action)
        service = "eset" if category == ("authentication",) else None
    elif action is not None and _DENYING.search(action) is not None and kind != "file":
        types = ("denied",) if kind != "firewall" else ("connection", "denied")
    user, domain = (None, None) if who is None else account(who) if "\\" in who else (who, None)
    path, url = _object(first(log, "object_uri"))
    if kind == "hips":
        path = first(log, "target") if path is None else path
    process = first(log, "processname", "process_name", "application")
    arrived, sender = json_log.head(text, origin)
    protocol = (first(log, "protocol") or "").lower()
    return Event(
        _time(first(log, "occured", "occurred")) or arrived,
        NAME,
        f"eset.{kind}",
        category,
        types,
        action,
        outcome,
        None,
        first(log, "detail", "event", "threat_name", "rulename", "rule_name", "description"),
        first(log, "hostname") or sender,
        user,
        domain,
        address(log.get("source_address")),
        port(log.get("source_port")),
        None,
        address(log.get("target_address")),
        port(log.get("target_port")),
        None,
        _PROTOCOLS.get(protocol),
        program(process),
        None,
        process,
        first(log, "command_line"),
        None,
        path,
        None if url is None else url_path(url),
        service_name=service,
        fields=Lazy(_fields, all_of_it, url, damaged),
    )


def _audit(log: Log, action: str | None) -> tuple[tuple[str, ...], tuple[str, ...], str | None, str | None]:
    """What an administrator did in the console; a login attempt names its user in the detail, where `user` is empty."""
    result = (first(log, "result") or "").lower()
    outcome = {"success": "success", "failure": "failure", "failed": "failure", "forbidden": "failure"}.get(result)
    who, said = first(log, "user"), (action or "").lower()
    if who is None and (quoted := _QUOTED.search(first(log, "detail") or "")) is not None:
        who = quoted[1]
    if "login" in said or "logon" in said or "log in" in said:
        return ("authentication",), ("start", "denied") if outcome == "failure" else ("start",), outcome, who
    if "logout" in said or "logoff" in said or "log out" in said:
        return ("authentication",), ("end",), outcome, who
    domain = (first(log, "domain") or "").lower()
    types = {"create": ("creation",), "delete": ("deletion",), "remove": ("deletion",)}.get(
        said.partition(" ")[0], ("change",)
    )
    if "user" in domain or "permission" in domain:
        return ("iam",), ("user", *types), outcome, who
    return ("configuration",), types, outcome, who


@lru_cache(maxsize=REMEMBERED_MAX)
def _object(uri: str | None) -> tuple[str | None, str | None]:
    """A file's path or an address on the web."""
    if uri is None:
        return None, None
    if uri.startswith("file:///"):
        rest = uri[8:]
        return (rest.replace("/", "\\") if rest[1:2] == ":" else "/" + rest), None
    return (None, uri) if "://" in uri else (uri, None)


@lru_cache(maxsize=REMEMBERED_MAX)
def _time(text: str | None) -> float | None:
    """`06-May-2026 09:59:37`, in UTC."""
    match = None if text is None else _DATE.fullmatch(text)
    if match is None:
        return json_log.instant(text)
    day, name, year, hour, minute, second = match.groups()
    try:
        at = datetime(int(year), MONTHS.get(name.lower(), 0), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    return at.timestamp() if 1970 <= at.year < 2200 else None


def _fields(all_of_it: Log | str, url: str | None, damaged: bool) -> Log:
    log, damaged = whole(all_of_it, damaged)
    return flat(log, NAME) | stated(
        event__kind="alert" if log.get("event_type") != "Audit_Event" else None,
        event__severity=_SEVERITIES.get(str(log.get("severity")).lower()),
        event__reason=first(log, "cause", "action_error", "circumstances"),
        event__url=first(log, "eiconsolelink"),
        host__ip=address(log.get("ipv4")) or address(log.get("ipv6")),
        host__id=first(log, "source_uuid"),
        host__os__name=first(log, "os_name"),
        group__name=first(log, "group_name"),
        rule__name=first(log, "rule_name", "rulename", "threat_name"),
        rule__id=first(log, "rule_id"),
        threat__software__name=first(log, "threat_name"),
        file__hash__sha1=first(log, "hash"),
        url__original=url,
        network__direction="inbound"
        if log.get("inbound") is True
        else "outbound"
        if log.get("inbound") is False
        else None,
        observer__vendor="ESET",
        shield__truncated=damaged or None,
    )
