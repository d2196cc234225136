"""Windows events in every form that reaches us: winlogbeat, NXLog, EVTX dumps, Wazuh, PowerShell, Snare and XML.

Each form is brought to one flat set of native fields plus the few values of `<System>`; one mapping then gives the ECS
event that the winlogbeat modules give, whatever the shipper was.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import msgspec

from connectors import tolerant_json
from connectors.events import Event, Origin, ParseError
from connectors.windows_events import (
    CHANNEL_OF_PROVIDER,
    DATASET_OF_CHANNEL,
    INTEGRITY_LEVELS,
    LEVELS,
    LOGON_TYPES,
    TABLES,
    TRANSPORTS,
    Kind,
    Kinds,
)

NAME = "windows"
EVENTS_MAX = 1000  # of one line (a JSON array, joined XML events); what follows is not read
FIELDS_MAX = 512  # of one event
ENVELOPE_CHARS_MAX = 512  # a syslog header before the JSON or XML

Fields = dict[str, Any]

_NOTHING = frozenset(("", "-", "N/A", "n/a", "?", "%%1793"))
_UNKNOWN = Kind(None)
_NO_KINDS: Kinds = {}


class _System(msgspec.Struct, gc=False):
    """What `<System>` says, as text or number just as the line has it."""

    event_id: Any = None
    channel: Any = None
    provider: Any = None
    computer: Any = None
    record_id: Any = None
    keywords: Any = None
    level: Any = None
    task: Any = None
    opcode: Any = None
    user_id: Any = None
    message: Any = None
    outcome: Any = None
    times: tuple[Any, ...] = ()


# --- which form -------------------------------------------------------------------------------------------------------


def sniff(text: str) -> bool:
    start = text.find("{", 0, ENVELOPE_CHARS_MAX)
    if start >= 0 and '"' in text[start : start + 40]:
        if '"winlog' in text or '"EventID"' in text:
            return '"winlog' in text or any(mark in text for mark in _FLAT_MARKS)
        if '"event_id"' in text:
            return '"log_name"' in text or '"event_data"' in text or '"channel"' in text
        if '"win":' in text or '"win" :' in text:
            return '"eventID"' in text
        if '"LogName"' in text:
            return '"ProviderName"' in text
    return (
        ("<Event" in text and "<System" in text and "<EventID" in text)
        or "WinEvtLog: " in text
        or "MSWinEventLog" in text
        or '"Event.System.' in text
    )


_FLAT_MARKS = ('"Channel"', '"System"', '"SourceName"', '"Provider_Name"', '"ProviderName"', '"LogName"', '"Provider"')


def parse(text: str, origin: Origin) -> Sequence[Event]:
    start = text.find("{", 0, ENVELOPE_CHARS_MAX)
    if start >= 0:
        tag = text.find("<Event", 0, start)
        if tag < 0:
            if start and text[start - 1] == "[" and not text[: start - 1].strip():
                start -= 1
            events = _json(text[start:] if start else text, origin)
            if events:
                return events
    tag = text.find("<Event")
    if tag >= 0 and "<System" in text:
        events = _xml(text, tag, origin)
        if events:
            return events
    if (match := _WIN_EVT_LOG.search(text)) is not None:
        return _win_evt_log(text, match, origin)
    if "MSWinEventLog" in text:
        return _snare(text, origin)
    raise ParseError("no Windows event: neither JSON, XML nor Snare text with an event id or a channel")


# --- JSON -------------------------------------------------------------------------------------------------------------


def _json(text: str, origin: Origin) -> list[Event]:
    damaged = False
    try:
        decoded = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        decoded, damaged = tolerant_json.salvage(text)
    documents = decoded[:EVENTS_MAX] if type(decoded) is list else (decoded,)
    events: list[Event] = []
    for document in documents:
        if type(document) is dict:
            events += _document(document, damaged, origin)
    return events


def _document(d: dict[str, Any], damaged: bool, origin: Origin) -> list[Event]:
    winlog = d.get("winlog")
    if type(winlog) is dict:
        return [_winlogbeat(d, winlog, damaged, origin)]
    if "EventID" in d and type(d["EventID"]) is not dict:
        return [_flat(d, damaged, origin)]
    if "System" in d or "Event" in d:
        event = d.get("Event", d)
        if type(event) is list:
            return [e for part in event[:EVENTS_MAX] if type(part) is dict for e in _evtx(part, damaged, origin)]
        if type(event) is dict and (found := _evtx(event, damaged, origin)):
            return found
    if type(d.get("win")) is dict:
        return [_wazuh(d, d["win"], damaged, origin)]
    if "event_id" in d and ("log_name" in d or "event_data" in d or "channel" in d):
        return [_winlogbeat(d, d, damaged, origin)]
    if "LogName" in d or "Channel" in d or "EventID" in d:
        return [_flat(d, damaged, origin)]
    if any("." in key for key in d):
        nested = _nest(d)
        if nested.keys() != d.keys():
            return _document(nested, damaged, origin)
    for value in (d.get("message"), d.get("Message"), _part(d, "event", "original"), d.get("xml"), d.get("Xml")):
        if type(value) is str and (tag := value.find("<Event")) >= 0 and "<System" in value:
            return _xml(value, tag, origin)
    return []


def _nest(d: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested dicts; a key that would go through a plain value is left out."""
    nested: dict[str, Any] = {
        key: dict(value) if type(value) is dict else value for key, value in d.items() if "." not in key
    }
    for key, value in d.items():
        if "." in key:
            path = key.split(".", 7)
            below = nested
            for name in path[:-1]:
                step = below.setdefault(name, {})
                if type(step) is not dict:
                    break
                below = step
            else:
                below[path[-1]] = value
    return nested


def _part(d: dict[str, Any], *path: str) -> Any:
    value: Any = d
    for name in path:
        if type(value) is not dict:
            return None
        value = value.get(name)
    return value


def _winlogbeat(d: dict[str, Any], w: dict[str, Any], damaged: bool, origin: Origin) -> Event:
    """winlogbeat: `w` is `winlog`, or the document itself as version 6 has it."""
    fields: Fields = {}
    data = w.get("event_data")
    if type(data) is dict:
        _take(fields, data.items())
    elif type(data) is list:
        fields["Data"] = _plain_list(data)
    if type(user_data := w.get("user_data")) is dict:
        _take(fields, user_data.items())
    if data is None and any(key.startswith("event_data.") for key in w):
        _take(fields, ((key[11:], value) for key, value in w.items() if key.startswith("event_data.")))
    event, log, host, user = d.get("event"), d.get("log"), d.get("host"), w.get("user")
    event = event if type(event) is dict else {}
    if type(user) is not dict:
        user = {}
    provider = w.get("provider_name") or w.get("source_name") or event.get("provider")
    channel = w.get("channel") or w.get("log_name")
    event_id = w.get("event_id")
    level = w.get("level") or (log.get("level") if type(log) is dict else None)
    computer = w.get("computer_name") or (host.get("name") if type(host) is dict else None)
    message = d.get("message")
    system = _System(
        event_id=event.get("code") if event_id is None else event_id,
        channel=channel,
        provider=provider,
        computer=computer,
        record_id=w.get("record_id") or w.get("record_number"),
        keywords=w.get("keywords"),
        level=level,
        task=w.get("task") or event.get("action"),
        opcode=w.get("opcode"),
        user_id=user.get("identifier"),
        message=message,
        outcome=event.get("outcome") or w.get("outcome"),
        times=(w.get("time_created"), d.get("@timestamp"), event.get("created")),
    )
    if user.get("name"):
        fields["winlog.user.name"] = _plain(user["name"])
    return _event(fields, system, None if _BESIDE.isdisjoint(d) else d, damaged, origin)


# Keys of flat JSON that are the shipper's or `<System>`'s, not the event's data.
_ENVELOPE_KEYS = frozenset(
    "EventID Channel Hostname SourceName ProviderGuid Keywords Severity SeverityValue EventTime EventReceivedTime "
    "SourceModuleName SourceModuleType Message @timestamp @version host port tags TimeCreated RecordNumber Task Opcode "
    "OpcodeValue ExecutionProcessID ExecutionThreadID ThreadID Version EventRecordID Level Computer LogName ProviderName "
    "Provider_Name MachineName message beat agent ecs input type winlog event log".split()
)


def _flat(d: dict[str, Any], damaged: bool, origin: Origin) -> Event:
    """NXLog and other flat JSON: the event's data and `<System>` side by side."""
    get = d.get
    fields: Fields = {}
    data = get("EventData")
    _take(fields, ((key, value) for key, value in d.items() if key not in _ENVELOPE_KEYS and key != "EventData"))
    if data is not None:
        _event_data(fields, data)
    system = _System(
        event_id=get("EventID", get("Id")),
        channel=get("Channel") or get("LogName"),
        provider=get("SourceName") or get("Provider_Name") or get("ProviderName") or _attribute(d, "Provider", "Name"),
        computer=get("Hostname") or get("Computer") or get("MachineName"),
        record_id=get("RecordNumber") or get("EventRecordID"),
        keywords=get("Keywords"),
        level=get("Level") or get("Severity"),
        task=get("Category") or get("Task"),
        opcode=get("Opcode"),
        user_id=get("UserID"),
        message=get("Message") or get("message"),
        outcome=get("EventType"),
        times=(get("TimeCreated"), get("SystemTime"), get("EventTime"), get("@timestamp")),
    )
    if get("AccountType") and "AccountName" in fields:  # the account that wrote the event, not one the event is about
        fields["winlog.user.name"] = fields.pop("AccountName")
    if system.outcome in _NXLOG_TYPES:
        fields.pop("EventType", None)  # NXLog keeps a Sysmon EventType aside, in this spelling
        if "EventTypeOrignal" in fields:
            fields["EventType"] = fields.pop("EventTypeOrignal")
    return _event(fields, system, None, damaged, origin)


_NXLOG_TYPES = frozenset(("AUDIT_SUCCESS", "AUDIT_FAILURE", "INFO", "ERROR", "WARNING", "CRITICAL", "VERBOSE", "DEBUG"))


def _evtx(event: dict[str, Any], damaged: bool, origin: Origin) -> list[Event]:
    """`Event.System` and `Event.EventData` as EVTX dumpers and XML-to-JSON converters write them."""
    s = event.get("System")
    if type(s) is not dict:
        return []
    fields: Fields = {}
    for name in ("EventData", "UserData", "DebugData", "ProcessingErrorData"):
        if (data := event.get(name)) is not None:
            _event_data(fields, data)
    rendering = event.get("RenderingInfo")
    rendering = rendering if type(rendering) is dict else {}
    keywords = _leaf(s.get("Keywords"))
    system = _System(
        event_id=_leaf(s.get("EventID")),
        channel=_leaf(s.get("Channel")),
        provider=_attribute(s, "Provider", "Name"),
        computer=_leaf(s.get("Computer")),
        record_id=_leaf(s.get("EventRecordID")),
        keywords=keywords,
        level=_leaf(s.get("Level")),
        task=_leaf(rendering.get("Task")) or _leaf(s.get("Task")),
        opcode=_leaf(s.get("Opcode")),
        user_id=_attribute(s, "Security", "UserID"),
        message=_leaf(rendering.get("Message")),
        times=(_attribute(s, "TimeCreated", "SystemTime") or _leaf(s.get("TimeCreated")),),
    )
    if system.event_id is None and system.channel is None:
        return []
    return [_event(fields, system, None, damaged, origin)]


def _wazuh(d: dict[str, Any], win: dict[str, Any], damaged: bool, origin: Origin) -> Event:
    """A Wazuh agent's JSON: names begin with a small letter, backslashes of the data come doubled."""
    fields: Fields = {}
    for name, block in win.items():
        if name != "system" and type(block) is dict:
            _take(
                fields,
                (
                    (key[:1].upper() + key[1:], value.replace("\\\\", "\\") if type(value) is str else value)
                    for key, value in block.items()
                ),
            )
    s = win.get("system")
    s = s if type(s) is dict else {}
    message = s.get("message")
    system = _System(
        event_id=s.get("eventID"),
        channel=s.get("channel"),
        provider=s.get("providerName"),
        computer=s.get("computer"),
        record_id=s.get("eventRecordID"),
        keywords=s.get("keywords"),
        level=s.get("level"),
        task=s.get("task"),
        opcode=s.get("opcode"),
        message=message.strip('"') if type(message) is str else message,
        outcome=s.get("severityValue"),
        times=(s.get("systemTime"), d.get("timestamp"), d.get("@timestamp")),
    )
    return _event(fields, system, None, damaged, origin)


def _leaf(value: Any) -> Any:
    """The text of an element that may have come with attributes."""
    if type(value) is dict:
        for name in ("#text", "text", "_", "$text", "content"):
            if name in value:
                return _leaf(value[name])
        return None
    if type(value) is list:
        return _leaf(value[0]) if len(value) == 1 else None
    return value


def _attribute(parent: dict[str, Any], element: str, name: str) -> Any:
    found = parent.get(element)
    if type(found) is dict:
        attributes = found.get("#attributes") or found.get("$") or found
        if type(attributes) is dict:
            return attributes.get(name) or attributes.get("@" + name) or attributes.get("-" + name)
        return None
    if type(found) is str and name == "Name":
        return found
    return _part(parent, element + "_attributes", name)


def _event_data(fields: Fields, data: Any) -> None:
    """EventData in JSON: a dict by name, a list of Data elements, or either inside `Data`."""
    if type(data) is list:
        _data_list(fields, data)
    elif type(data) is dict:
        inner = data.get("Data")
        if inner is not None:
            _data_list(fields, inner if type(inner) is list else [inner])
        if type(event_xml := _only_dict(data)) is dict:
            _event_data(fields, event_xml)
        else:
            _take(fields, ((key, value) for key, value in data.items() if key != "Data"))
    elif data not in ("", None):
        fields["Data"] = _plain(data)


def _only_dict(data: dict[str, Any]) -> dict[str, Any] | None:
    """UserData holds one element of the provider's own naming; its children are the data."""
    named = [value for key, value in data.items() if key[:1] not in "#@" and not key.endswith("_attributes")]
    if len(named) == 1 and type(named[0]) is dict and "#text" not in named[0] and "Data" not in data:
        return named[0]
    return None


def _data_list(fields: Fields, items: list[Any]) -> None:
    unnamed: list[Any] = []
    for item in items[:FIELDS_MAX]:
        if type(item) is dict:
            attributes = item.get("#attributes") or item.get("$") or item
            name = None
            if type(attributes) is dict:
                name = attributes.get("Name") or attributes.get("@Name") or attributes.get("-Name")
            text = _leaf(item) if not (type(item.get("#text")) is list) else item["#text"]
            if text is None and "Value" in item:
                text = item["Value"]
            if type(name) is str and name:
                fields[_plain_name(name)] = _plain(text)
            elif type(text) is list:
                unnamed += _plain_list(text)
            elif text is not None:
                unnamed.append(_plain(text))
        elif item is not None:
            unnamed.append(_plain(item))
    if unnamed:
        fields["Data"] = unnamed[0] if len(unnamed) == 1 else unnamed


def _take(fields: Fields, items: Iterable[tuple[str, Any]]) -> None:
    """Copies named values, names made plain and values flat."""
    for name, value in items:
        if type(value) is not str and type(value) is not int:
            if value is None:
                continue
            if type(value) is dict and name[:1] in "#@":
                continue  # attributes of the element itself
            value = _plain(value)  # noqa: PLW2901 the flat form of the same value
        fields[name if name.isidentifier() else _plain_name(name)] = value
        if len(fields) > FIELDS_MAX:
            return


@lru_cache(maxsize=4096)
def _plain_name(name: str) -> str:
    """Without blanks (as Sigma rules write it) and without dots (which would make it an ECS path)."""
    return name.replace(" ", "").replace(".", "_")[:200] or "Data"


def _plain(value: Any) -> Any:
    if type(value) is dict:
        if (leaf := _leaf(value)) is not None:
            return leaf
        return _as_json(value) if value else None
    if type(value) is list:
        return _plain_list(value)
    if type(value) is int and not -(1 << 63) <= value < 1 << 64:
        return str(value)
    return value


def _plain_list(values: list[Any]) -> list[Any]:
    return [_as_json(v) if type(v) is list or type(v) is dict else _plain(v) for v in values[:FIELDS_MAX]]


def _as_json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return ""


# --- XML --------------------------------------------------------------------------------------------------------------

_ELEMENT = re.compile(r"<([A-Za-z]\w*)((?:\s[^<>]*)?)>([^<]*)")
_ATTRIBUTE = re.compile(r"""([A-Za-z]\w*)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')""")
_DATA = re.compile(r"""<Data(?:\s+Name\s*=\s*(?:"([^"<]*)"|'([^'<]*)'))?[^<>]*>(?:([^<]*)</Data>)?""")
_LEAF = re.compile(r"<(?:[\w.-]+:)?([\w.-]+)(?:\s[^<>]*)?>([^<]*)</")
_ENTITY = re.compile(r"&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|(lt|gt|amp|quot|apos));")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}


def _xml(text: str, tag: int, origin: Origin) -> list[Event]:
    if "<![CDATA[" in text:
        text = _CDATA.sub(lambda m: m[1].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"), text)
        tag = text.find("<Event")
    events: list[Event] = []
    while tag >= 0 and len(events) < EVENTS_MAX:
        end = text.find("</Event>", tag)
        events += _xml_event(text[tag:end] if end >= 0 else text[tag:], end < 0, origin)
        if end < 0:
            break
        tag = text.find("<Event", end)
    return events


def _xml_event(text: str, damaged: bool, origin: Origin) -> list[Event]:
    start = text.find("<System")
    if start < 0:
        return []
    end = text.find("</System>", start)
    head, rest = (text[start:end], text[end:]) if end >= 0 else (text[start:], "")
    leaves: dict[str, str] = {}
    attributes: dict[str, str] = {}
    for name, attrs, content in _ELEMENT.findall(head):
        leaves[name] = content
        if attrs:
            attributes[name] = attrs
    event_id, channel = leaves.get("EventID"), leaves.get("Channel")
    if not event_id and not channel:
        return []
    fields: Fields = {}
    unnamed: list[str] = []
    for double, single, value in _DATA.findall(rest):
        name = double or single
        if "&" in value:
            value = _unescape(value)  # noqa: PLW2901 the same value, readable
        if name:
            fields[name if name.isidentifier() else _plain_name(_unescape(name))] = value
        else:
            unnamed.append(value)
    if unnamed:
        fields["Data"] = unnamed[0] if len(unnamed) == 1 else unnamed
    if not fields:
        part = rest.find("<UserData")
        if part < 0:
            part = rest.find("<EventData")
        if part >= 0:
            stop = rest.find("</UserData>", part)
            for name, value in _LEAF.findall(rest, part, stop if stop >= 0 else len(rest)):
                fields[_plain_name(name)] = _unescape(value)
    rendering: dict[str, str] = {}
    part = rest.find("<RenderingInfo")
    if part >= 0:
        for name, value in _LEAF.findall(rest, part):
            rendering[name] = _unescape(value)
    computer, keywords = leaves.get("Computer"), leaves.get("Keywords")
    system = _System(
        event_id=event_id,
        channel=channel and _unescape(channel),
        provider=_xml_attribute(attributes.get("Provider"), "Name"),
        computer=computer and _unescape(computer),
        record_id=leaves.get("EventRecordID"),
        keywords=keywords or rendering.get("Keyword"),
        level=leaves.get("Level"),
        task=rendering.get("Task") or leaves.get("Task"),
        opcode=leaves.get("Opcode"),
        user_id=_xml_attribute(attributes.get("Security"), "UserID"),
        message=rendering.get("Message"),
        times=(_xml_attribute(attributes.get("TimeCreated"), "SystemTime"),),
    )
    return [_event(fields, system, None, damaged, origin)]


def _xml_attribute(attributes: str | None, name: str) -> str | None:
    if attributes is None:
        return None
    for key, double, single in _ATTRIBUTE.findall(attributes):
        if key == name:
            return _unescape(double or single)
    return None


def _unescape(text: str) -> str:
    return _ENTITY.sub(_entity, text) if "&" in text else text


def _entity(match: re.Match[str]) -> str:
    if match[3]:
        return _NAMED[match[3]]
    code = int(match[1], 16) if match[1] else int(match[2])
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"


# --- text: Snare and the old OSSEC form ------------------------------------------------------------------------------

_WIN_EVT_LOG = re.compile(
    r"(?:(\d{4} \w{3} +\d{1,2} \d\d:\d\d:\d\d) )?WinEvtLog: ([^:]{1,200}): (\w+)\((\d{1,10})\): "
    r"([^:]{1,200}): ([^:]{0,200}): ([^:]{0,200}): ([^:]{0,255}): ?"
)


def _win_evt_log(text: str, match: re.Match[str], origin: Origin) -> list[Event]:
    time, channel, kind, event_id, provider, user, _domain, computer = match.groups()
    message = text[match.end() :]
    fields = _from_message(message)
    if user and user not in _NOTHING and user != "(no user)":
        fields["winlog.user.name"] = user
    system = _System(event_id, channel, provider, computer, level=kind, outcome=kind, message=message, times=(time,))
    return [_event(fields, system, None, False, origin)]


def _snare(text: str, origin: Origin) -> list[Event]:
    """Snare over syslog: criticality, channel, counter, time, id, provider, user, user type, outcome, computer, ..., message."""
    head, _, tail = text.partition("MSWinEventLog")
    del head
    parts = tail.split("\t") if "\t" in tail else tail.replace("#011", "\t").split("\t")
    if len(parts) < 11:
        raise ParseError("Snare line with too few columns")
    parts = parts[1:]
    channel, time, event_id, provider, user, outcome, computer = (parts[i] for i in (1, 3, 4, 5, 6, 8, 9))
    message = "\t".join(parts[12:]) if len(parts) > 12 else parts[-1]
    fields = _from_message(message)
    if user not in _NOTHING:
        fields["winlog.user.name"] = user
    system = _System(
        event_id, channel, provider, computer, record_id=parts[2], outcome=outcome, message=message, times=(time,)
    )
    if _number(event_id) is None:
        raise ParseError("Snare line without an event id")
    return [_event(fields, system, None, False, origin)]


# The labels of rendered messages that matter, by section where one label serves several.
_LABELS = {
    ("subject", "account name"): "SubjectUserName",
    ("subject", "account domain"): "SubjectDomainName",
    ("subject", "logon id"): "SubjectLogonId",
    ("subject", "security id"): "SubjectUserSid",
    ("target", "account name"): "TargetUserName",
    ("target", "account domain"): "TargetDomainName",
    ("target", "logon id"): "TargetLogonId",
    ("target", "security id"): "TargetUserSid",
    ("group", "group name"): "TargetUserName",
    ("group", "account name"): "TargetUserName",
    ("group", "group domain"): "TargetDomainName",
    ("member", "account name"): "MemberName",
    ("member", "security id"): "MemberSid",
    ("", "logon type"): "LogonType",
    ("", "source network address"): "IpAddress",
    ("", "client address"): "IpAddress",
    ("", "source port"): "IpPort",
    ("", "client port"): "IpPort",
    ("", "workstation name"): "WorkstationName",
    ("", "new process name"): "NewProcessName",
    ("", "new process id"): "NewProcessId",
    ("", "creator process id"): "ProcessId",
    ("", "creator process name"): "ParentProcessName",
    ("", "process command line"): "CommandLine",
    ("", "process name"): "ProcessName",
    ("", "process id"): "ProcessId",
    ("", "caller process name"): "ProcessName",
    ("", "caller process id"): "ProcessId",
    ("", "service name"): "ServiceName",
    ("", "service file name"): "ServiceFileName",
    ("", "task name"): "TaskName",
    ("", "status"): "Status",
    ("", "sub status"): "SubStatus",
    ("", "failure code"): "Status",
    ("", "result code"): "Status",
    ("", "error code"): "Status",
    ("", "logon account"): "TargetUserName",
    ("", "source workstation"): "Workstation",
}
_SECTIONS = {
    "subject": "subject",
    "creator subject": "subject",
    "target subject": "other",
    "new logon": "target",
    "account for which logon failed": "target",
    "account whose credentials were used": "target",
    "account information": "target",
    "target account": "target",
    "new account": "target",
    "account that was locked out": "target",
    "group": "group",
    "new group": "group",
    "deleted group": "group",
    "member": "member",
}
_LABELLED = re.compile(
    r"(?:^|[\s#])("
    + "|".join(sorted({re.escape(k) for k in _SECTIONS} | {re.escape(k) for _, k in _LABELS}, key=len, reverse=True))
    + r"|[A-Z]\w{2,40}):(?=[\s#]|$)",
    re.IGNORECASE,
)
MESSAGE_CHARS_MAX = 32_768  # of a rendered message that is searched for labels


def _from_message(message: str) -> Fields:
    """Native fields from a rendered English message, for senders that drop the event's data."""
    fields: Fields = {}
    section = ""
    matches = list(_LABELLED.finditer(message, 0, MESSAGE_CHARS_MAX))
    for i, match in enumerate(matches):
        label = match[1]
        low = label.lower()
        end = matches[i + 1].start() if i + 1 < len(matches) else min(len(message), MESSAGE_CHARS_MAX)
        value = message[match.end() : end].split("\t\t")[0] if i + 1 == len(matches) else message[match.end() : end]
        value = value.strip(" \t\r\n#")
        if low in _SECTIONS and not value:
            section = _SECTIONS[low]
            continue
        name = _LABELS.get((section, low)) or _LABELS.get(("", low))
        if name is None and " " not in label and label[0].isupper():
            name = label
        if name is not None and value and len(fields) < FIELDS_MAX:
            fields.setdefault(name, value)
    return fields


# --- native fields to ECS ---------------------------------------------------------------------------------------------


def _event(f: Fields, s: _System, beside: dict[str, Any] | None, damaged: bool, origin: Origin) -> Event:
    number = _number(s.event_id)
    channel = s.channel if type(s.channel) is str else None
    provider = s.provider if type(s.provider) is str else None
    if number is None and not channel:
        raise ParseError("Windows event with neither event id nor channel")
    channel, kind_name, dataset, kinds, fill = _dataset(channel, provider)
    kind = kinds.get(number, _UNKNOWN) if number is not None else _UNKNOWN
    f["Channel"] = f["winlog.channel"] = channel
    if number is not None:
        f["EventID"] = number
    if provider:
        f["Provider_Name"] = f["winlog.provider_name"] = provider
    computer = s.computer
    if type(computer) is str and computer:
        f["Computer"] = f["winlog.computer_name"] = computer
    else:
        computer = None
    if s.record_id is not None:
        f["winlog.record_id"] = _plain(s.record_id)
    if s.user_id:
        f["user.id"] = _plain(s.user_id)
    level = s.level
    if level is not None:
        level = LEVELS.get(level, level) if type(level) is str else LEVELS.get(str(level), level)
        f["log.level"] = level.lower() if type(level) is str else _plain(level)
    keywords = s.keywords
    if keywords is not None:
        f["Keywords"] = _plain(keywords)
    outcome = _outcome(keywords, s.outcome) or kind.outcome
    message = s.message if type(s.message) is str and s.message else None
    if damaged:
        f["shield.truncated"] = True
    kw: dict[str, Any] = {}
    fill(number, kind, f, kw)
    if beside is not None:
        _beside(beside, f, kw, fill, number, kind)
    action = kind.action
    if action is None and type(s.task) is str and s.task and not s.task.isdigit():
        action = s.task
    if not f.get("winlog.user.name", True):
        del f["winlog.user.name"]
    utc = f.get("UtcTime") if kind_name == "sysmon" else None
    return Event(
        timestamp=_time(utc, s.times, f, origin),
        event_module=NAME,
        event_dataset=dataset,
        event_category=kind.category,
        event_type=kind.type,
        event_action=action,
        event_outcome=outcome,
        event_code=None if number is None else str(number),
        message=message,
        host_name=computer,
        fields=f,
        **kw,
    )


Fill = Callable[[int | None, Kind, Fields, dict[str, Any]], None]


@lru_cache(maxsize=1024)
def _dataset(channel: str | None, provider: str | None) -> tuple[str, str, str, Kinds, Fill]:
    """The channel, its short name, `event.dataset`, its table of ids and its mapping."""
    if not channel:
        channel = CHANNEL_OF_PROVIDER.get((provider or "").lower(), provider or "")
    low = channel.lower().strip()
    name = DATASET_OF_CHANNEL.get(low)
    if name is None:
        slug = low.removeprefix("microsoft-windows-").removesuffix("/operational").removesuffix("/admin")
        name = re.sub(r"[^a-z0-9]+", "_", slug)[:80].strip("_") or "other"
    fill = _FILLS.get(name, _other)
    return channel, name, f"windows.{name}", TABLES.get(name, _NO_KINDS), fill


_AUDIT_FAILURE, _AUDIT_SUCCESS = 0x0010000000000000, 0x0020000000000000


def _outcome(keywords: Any, stated: Any) -> str | None:
    """From the audit bits of the keywords (hex, signed number or words), else from what the shipper says."""
    if type(keywords) is list:
        for keyword in keywords:
            if (found := _outcome(keyword, None)) is not None:
                return found
    elif type(keywords) is str:
        if (found := _KEYWORDS.get(keywords)) is not None:
            return found
        if keywords[:2] == "0x" or keywords.lstrip("-").isdigit():
            keywords = _integer(keywords)
        else:
            low = keywords.lower()
            if "audit success" in low:
                return "success"
            if "audit failure" in low:
                return "failure"
    if type(keywords) is int and keywords & (_AUDIT_FAILURE | _AUDIT_SUCCESS):
        return "failure" if keywords & _AUDIT_FAILURE else "success"
    return _OUTCOMES.get(stated.lower().replace("_", " ")) if type(stated) is str else None


_KEYWORDS = {
    "0x8020000000000000": "success",
    "0x8010000000000000": "failure",
    "Audit Success": "success",
    "Audit Failure": "failure",
}
_OUTCOMES = {
    "success": "success",
    "failure": "failure",
    "audit success": "success",
    "audit failure": "failure",
    "success audit": "success",
    "failure audit": "failure",
}


def _number(value: Any) -> int | None:
    """A number from text, decimal or hex; None where it is none or out of any range that ids and ports have."""
    if type(value) is str:
        value = _integer(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 32 else None


def _integer(text: str) -> int | None:
    if len(text) > 24:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return int(text, 16) if text[:2] in ("0x", "0X") else None
    except ValueError:
        return None


def _word(value: Any) -> str | None:
    """Text that says something."""
    if type(value) is str:
        return None if value in _NOTHING else value
    return str(value) if type(value) is int else None


@lru_cache(maxsize=65_536)
def _address(text: str) -> str | None:
    """An IP address as written, an IPv4 one out of its IPv6 dress; None for host names, LOCAL and the like."""
    text = text.strip().split("%")[0].strip("[]")
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped) if mapped is not None else text


def _basename(path: str) -> str:
    name = path.rpartition("\\")[2]
    return name.rpartition("/")[2] if "/" in name and "\\" not in path else name


def _account(text: str, kw: dict[str, Any]) -> None:
    domain, sep, name = text.partition("\\")
    kw["user_name"], kw["user_domain"] = (name, domain) if sep else (text, None)


_HASH_NAMES = {"MD5": "md5", "SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512", "IMPHASH": "imphash"}


def _hashes(text: Any, prefix: str, f: Fields) -> None:
    if type(text) is not str:
        return
    for part in text.split(",", 8)[:8]:
        name, sep, value = part.partition("=")
        known = _HASH_NAMES.get(name.strip().upper())
        if sep and known and value.strip("0"):
            f[f"{prefix}.pe.imphash" if known == "imphash" else f"{prefix}.hash.{known}"] = value.lower()


def _security(number: int | None, kind: Kind, f: Fields, kw: dict[str, Any]) -> None:
    get = f.get
    if kind.user == "Target":
        name, domain, logon = _word(get("TargetUserName")), get("TargetDomainName"), get("TargetLogonId")
        sid = get("TargetUserSid") or get("TargetSid")
        if name is None and number in (4774, 4776, 4777):
            name = _word(get("ClientUserName") or get("MappedName"))
    elif kind.user == "Account":
        name, domain = _word(get("AccountName")), get("AccountDomain")
        logon, sid = get("LogonID") or get("LogonId"), None
    else:
        name, domain, logon = _word(get("SubjectUserName")), get("SubjectDomainName"), get("SubjectLogonId")
        sid = get("SubjectUserSid")
        if name is None and kind is _UNKNOWN:
            name, domain = _word(get("TargetUserName") or get("AccountName")), get("TargetDomainName")
    if number in (4769, 4770) and name is not None:
        name = name.partition("@")[0]
    if name is not None:
        kw["user_name"] = name
        if (text := _word(domain)) is not None:
            kw["user_domain"] = text
    if sid is not None and sid != "S-1-0-0":
        f["user.id"] = sid
    if logon is not None:
        f["winlog.logon.id"] = logon
    logon_type = get("LogonType")
    if logon_type is not None:
        f["winlog.logon.type"] = LOGON_TYPES.get(logon_type if type(logon_type) is str else str(logon_type), logon_type)
    if kind.target:
        _target(kind.target, f)
    if kind.category and kind.category[0] == "authentication":
        kw["service_name"] = "radius" if number in (6272, 6273) else "ad"
        if (station := _word(get("WorkstationName") or get("Workstation") or get("ClientName"))) is not None:
            f["source.domain"] = station
    _security_network(f, kw)
    if number == 4688:
        _created_process(f, kw)
        return
    path = get("ProcessName") or get("CallerProcessName") or get("Application")
    pid = get("ProcessId")
    if pid is None:
        pid = get("CallerProcessId") or get("ProcessID") or get("ClientProcessId")
    if (path := _word(path)) is not None:
        kw["process_executable"] = path
        kw["process_name"] = _basename(path)
    if pid is not None and (pid := _number(pid)) is not None:
        kw["process_pid"] = pid
    thing = _word(get("ObjectName"))
    if thing is not None:
        if get("ObjectType") == "File":
            kw["file_path"] = thing
        elif number == 4657 or get("ObjectType") == "Key":
            f["registry.path"] = thing
    elif (share := _word(get("RelativeTargetName"))) is not None:
        kw["file_path"] = share


def _security_network(f: Fields, kw: dict[str, Any]) -> None:
    get = f.get
    address = get("IpAddress")
    if address is None:
        address = get("ClientAddress") or get("SourceAddress") or get("ClientIPAddress")
    if type(address) is str and (ip := _address(address)) is not None:
        kw["source_ip"] = ip
    port = get("IpPort")
    if port is None:
        port = get("SourcePort")
    if port is not None and (port := _number(port)) is not None and port < 65_536:
        kw["source_port"] = port
    destination = get("DestAddress")
    if type(destination) is str:
        if (ip := _address(destination)) is not None:
            kw["destination_ip"] = ip
        if (port := _number(get("DestPort"))) is not None and port < 65_536:
            kw["destination_port"] = port
        if (protocol := get("Protocol")) is not None:
            kw["network_transport"] = TRANSPORTS.get(str(protocol), str(protocol))


def _created_process(f: Fields, kw: dict[str, Any]) -> None:
    """4688, with the names that Sysmon has for the same things, so that process rules match either."""
    get = f.get
    image, parent = _word(get("NewProcessName")), _word(get("ParentProcessName"))
    if image is not None:
        f["Image"] = kw["process_executable"] = image
        kw["process_name"] = _basename(image)
    if (pid := _number(get("NewProcessId"))) is not None:
        kw["process_pid"] = pid
    line = get("CommandLine")
    if line is None and (line := get("ProcessCommandLine")) is not None:
        f["CommandLine"] = line
    if type(line) is str and line:
        kw["process_command_line"] = line
    if parent is not None:
        f["ParentImage"] = f["process.parent.executable"] = parent
        kw["process_parent_name"] = _basename(parent)
    if (pid := _number(get("ProcessId"))) is not None:
        f["process.parent.pid"] = pid
    if "user_name" in kw:
        f["User"] = f"{kw['user_domain']}\\{kw['user_name']}" if kw.get("user_domain") else kw["user_name"]
    label = get("MandatoryLabel")
    if type(label) is str and label in INTEGRITY_LEVELS:
        f["IntegrityLevel"] = INTEGRITY_LEVELS[label]


def _target(role: str, f: Fields) -> None:
    get = f.get
    name, domain, sid = _word(get("TargetUserName")), _word(get("TargetDomainName")), get("TargetSid")
    if role == "renamed":
        if (old := _word(get("OldTargetUserName"))) is not None:
            f["user.target.name"] = old
        if (new := _word(get("NewTargetUserName"))) is not None:
            f["user.changes.name"] = new
    elif name is not None:
        path = {"user": "user.target", "group": "group", "effective": "user.effective"}[role]
        f[path + ".name"] = name
        if domain is not None:
            f[path + ".domain"] = domain
        if sid is not None:
            f[path + ".id"] = sid
    if role == "group" and (member := _word(get("MemberName"))) is not None:
        f["user.target.name"] = _common_name(member)


def _common_name(member: str) -> str:
    """The account in a distinguished name: `CN=Jane Doe,OU=Staff,...`, or `DOMAIN\\name`."""
    if member[:3].upper() == "CN=":
        return member[3:].replace("\\,", "\0").partition(",")[0].replace("\0", ",")
    return member.rpartition("\\")[2]


def _sysmon(number: int | None, _kind: Kind, f: Fields, kw: dict[str, Any]) -> None:
    get = f.get
    image = get("Image") or get("SourceImage")
    if type(image) is str and image not in _NOTHING:
        kw["process_executable"] = image
        kw["process_name"] = _basename(image)
    pid = get("ProcessId")
    if pid is None:
        pid = get("SourceProcessId")
    if pid is not None and (pid := _number(pid)) is not None:
        kw["process_pid"] = pid
    guid = get("ProcessGuid") or get("SourceProcessGuid") or get("SourceProcessGUID")
    if guid is not None:
        f["process.entity_id"] = guid
    user = get("User") or get("SourceUser")
    if type(user) is str and user not in _NOTHING:
        _account(user, kw)
    line = get("CommandLine")
    if type(line) is str and line:
        kw["process_command_line"] = line
    if number == 1:
        parent = get("ParentImage")
        if type(parent) is str and parent not in _NOTHING:
            f["process.parent.executable"] = parent
            kw["process_parent_name"] = _basename(parent)
        if (line := get("ParentCommandLine")) is not None:
            f["process.parent.command_line"] = line
        if (pid := _number(get("ParentProcessId"))) is not None:
            f["process.parent.pid"] = pid
        if (directory := get("CurrentDirectory")) is not None:
            f["process.working_directory"] = directory
        if (logon := get("LogonId")) is not None:
            f["winlog.logon.id"] = logon
        _hashes(get("Hashes") or get("Hash"), "process", f)
    elif number == 3:
        _sysmon_network(f, kw)
    elif number == 22:
        if (name := get("QueryName")) is not None:
            f["dns.question.name"] = name
        f["network.protocol"] = "dns"
    elif number in (12, 13, 14):
        if (target := get("TargetObject")) is not None:
            f["registry.path"] = target
    else:
        path = get("TargetFilename") or get("ImageLoaded") or get("Device")
        if type(path) is str and path:
            kw["file_path"] = path
        elif (pipe := get("PipeName")) is not None:
            f["file.name"] = pipe
        if (hashes := get("Hashes") or get("Hash")) is not None:
            _hashes(hashes, "process" if number in (23, 26) else "file", f)
    rule = get("RuleName")
    if type(rule) is str and rule not in _NOTHING:
        f["rule.name"] = rule


def _sysmon_network(f: Fields, kw: dict[str, Any]) -> None:
    get = f.get
    if type(source := get("SourceIp")) is str and (ip := _address(source)) is not None:
        kw["source_ip"] = ip
    if type(destination := get("DestinationIp")) is str and (ip := _address(destination)) is not None:
        kw["destination_ip"] = ip
    if (port := _number(get("SourcePort"))) is not None and port < 65_536:
        kw["source_port"] = port
    if (port := _number(get("DestinationPort"))) is not None and port < 65_536:
        kw["destination_port"] = port
    if type(protocol := get("Protocol")) is str:
        kw["network_transport"] = protocol.lower()
    initiated = get("Initiated")
    if initiated is not None:
        f["network.direction"] = "egress" if str(initiated).lower() == "true" else "ingress"
    if (name := _word(get("SourceHostname"))) is not None:
        f["source.domain"] = name
    if (name := _word(get("DestinationHostname"))) is not None:
        f["destination.domain"] = name


def _powershell(number: int | None, _kind: Kind, f: Fields, kw: dict[str, Any]) -> None:
    get = f.get
    if "Data" not in f and "param1" in f:
        f["Data"] = [f[name] for name in ("param1", "param2", "param3") if type(get(name)) is str]
    if number == 4104:
        if (path := _word(get("Path"))) is not None:
            kw["file_path"] = path
        if (block := get("ScriptBlockId")) is not None:
            f["powershell.file.script_block_id"] = block
        return
    if number == 4103:
        block = get("ContextInfo")
        names = ("Host Application = ", "User = ", "Host ID = ", "Script Name = ", "Host Name = ")
    else:
        data = get("Data")
        block = "\n".join(d for d in data if type(d) is str) if type(data) is list else data
        names = ("HostApplication=", "UserId=", "HostId=", "ScriptName=", "HostName=")
    if type(block) is not str:
        return
    application, user, host_id, script, host = (_setting_of(block, name) for name in names)
    if application:
        kw["process_command_line"] = application
        f["HostApplication"] = application
    if host_id:
        f["process.entity_id"] = host_id
    if host:
        f["process.title"] = host
    if user:
        _account(user, kw)
    if script:
        kw["file_path"] = script


# In a block whose line breaks were lost, a setting ends where the next one begins.
_NEXT_SETTING = re.compile(
    r"[\r\n]|\s(?:Host ?(?:Name|Version|I[Dd]|Application)|Engine ?Version|Runspace ?I[Dd]|Pipeline ?I[Dd]|Command ?(?:Name|Type|Path|Line)"
    r"|Script ?Name|Sequence ?Number|User|UserId|Connected User|Shell ID|Severity) ?="
)


def _setting_of(block: str, name: str) -> str:
    start = block.find(name)
    while start > 0 and not block[start - 1].isspace():  # `User = ` is also the end of `Connected User = `
        start = block.find(name, start + 1)
    if name == "User = " and start > 9 and block[start - 10 : start] == "Connected ":
        start = block.find(name, start + 1)
    if start < 0:
        return ""
    start += len(name)
    end = _NEXT_SETTING.search(block, start)
    return block[start : end.start() if end is not None else len(block)].strip()


def _other(number: int | None, kind: Kind, f: Fields, kw: dict[str, Any]) -> None:
    """Channels without a mapping of their own: the names that most providers use."""
    get = f.get
    user = _word(get("SubjectUserName") or get("UserName") or get("User") or get("TargetUserName"))
    if user is None and kind.category and number == 1149:
        user = _word(get("Param1"))
        kw["user_domain"] = _word(get("Param2"))
    if user is None and number not in (7036, 7045):
        user = _word(get("winlog.user.name"))
    if user is not None:
        domain = kw.get("user_domain") or _word(get("SubjectDomainName") or get("Domain"))
        _account(user, kw)
        if kw["user_domain"] is None:
            kw["user_domain"] = domain
    address = get("Address") or get("IpAddress") or get("ClientAddress") or get("SourceIp") or get("ClientIP")
    if address is None and number == 1149:
        address = get("Param3")
    if type(address) is str and (ip := _address(address)) is not None:
        kw["source_ip"] = ip
    image = _word(get("ProcessName") or get("Image") or get("ProcessPath"))
    if image is not None:
        kw["process_executable"] = image
        kw["process_name"] = _basename(image)
    if (pid := _number(get("ProcessId") or get("ProcessID"))) is not None:
        kw["process_pid"] = pid
    if type(line := get("CommandLine")) is str and line:
        kw["process_command_line"] = line
    path = get("Path") or get("FilePath") or get("TargetFilename")
    if type(path) is str and path:
        kw["file_path"] = path
    if kind.category and "authentication" in kind.category:
        kw["service_name"] = "rdp"


_FILLS: dict[str, Fill] = {"security": _security, "sysmon": _sysmon, "powershell": _powershell}

# ECS objects beside `winlog`. Where a winlogbeat module or an ingest pipeline has already moved the event's data there,
# the native names are put back, so that rules written for either match.
_BESIDE = frozenset(("process", "user", "source", "destination", "file", "registry", "dns", "network", "group"))
_NATIVE_OF_ECS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Image", ("process", "executable")),
    ("CommandLine", ("process", "command_line")),
    ("ProcessId", ("process", "pid")),
    ("ProcessGuid", ("process", "entity_id")),
    ("ParentImage", ("process", "parent", "executable")),
    ("ParentCommandLine", ("process", "parent", "command_line")),
    ("ParentProcessId", ("process", "parent", "pid")),
    ("CurrentDirectory", ("process", "working_directory")),
    ("OriginalFileName", ("process", "pe", "original_file_name")),
    ("TargetFilename", ("file", "path")),
    ("TargetObject", ("registry", "path")),
    ("QueryName", ("dns", "question", "name")),
    ("SourceIp", ("source", "ip")),
    ("SourcePort", ("source", "port")),
    ("DestinationIp", ("destination", "ip")),
    ("DestinationPort", ("destination", "port")),
    ("Protocol", ("network", "transport")),
)
_ATTRIBUTES_BESIDE: tuple[tuple[str, type, tuple[str, ...]], ...] = (
    ("user_name", str, ("user", "name")),
    ("user_domain", str, ("user", "domain")),
    ("source_ip", str, ("source", "ip")),
    ("source_port", int, ("source", "port")),
    ("destination_ip", str, ("destination", "ip")),
    ("destination_port", int, ("destination", "port")),
    ("network_transport", str, ("network", "transport")),
    ("process_name", str, ("process", "name")),
    ("process_pid", int, ("process", "pid")),
    ("process_executable", str, ("process", "executable")),
    ("process_command_line", str, ("process", "command_line")),
    ("process_parent_name", str, ("process", "parent", "name")),
    ("file_path", str, ("file", "path")),
)


def _beside(d: dict[str, Any], f: Fields, kw: dict[str, Any], fill: Fill, number: int | None, kind: Kind) -> None:
    if fill is _sysmon:
        missing = [
            (native, value)
            for native, path in _NATIVE_OF_ECS
            if native not in f and type(value := _part(d, *path)) in (str, int)
        ]
        if number in (6, 7):
            missing = [("ImageLoaded" if native == "TargetFilename" else native, value) for native, value in missing]
        if missing:
            f.update(missing)
            fill(number, kind, f, kw)
    for name, wanted, path in _ATTRIBUTES_BESIDE:
        if kw.get(name) is None and type(value := _part(d, *path)) is wanted:
            kw[name] = value


# --- time -------------------------------------------------------------------------------------------------------------

_EPOCH = re.compile(r"/?(?:Date)?\(?(\d{9,19})\)?/?$")
_US_TIME = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}),? (\d{1,2}):(\d\d)(?::(\d\d(?:\.\d{1,9})?))? ?([AaPp][Mm])?$")
_WORDED_TIME = re.compile(r"(?:\w{3} )?(?:(\d{4}) )?(\w{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d)(?: (\d{4}))?$")
_MONTHS = {name: i for i, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)}
SECONDS_MAX = 253_402_300_799.0  # the last second of the year 9999


def _time(utc: Any, times: tuple[Any, ...], f: Fields, origin: Origin) -> float:
    """The event's time: Sysmon's own, else the first that states its zone, else the first that can be read."""
    if type(utc) is str and (at := _zoned(utc + "Z")) is not None:
        return at
    for value in times:
        if value is not None and (at := _zoned(value)) is not None:
            return at
    for value in (utc, *times):
        if type(value) is str and (at := _local(value, origin)) is not None:
            return at
    f["shield.time"] = "received"
    return origin.received


def _zoned(value: Any) -> float | None:
    try:
        if type(value) is str:
            at = datetime.fromisoformat(value)
            return at.timestamp() if at.tzinfo is not None else None
    except (ValueError, OverflowError):
        match = _EPOCH.match(value)
        if match is None:
            return None
        value = int(match[1])
    if type(value) is int or type(value) is float:
        for scale in (1.0, 1e3, 1e6, 1e9):  # seconds, milliseconds, microseconds, nanoseconds
            if 0 <= value / scale <= SECONDS_MAX and value / scale < 1e11:
                return value / scale
    return None


def _local(text: str, origin: Origin) -> float | None:
    text = text.strip()
    clock = origin.clock
    try:
        if (m := _US_TIME.match(text)) is not None:
            hour = int(m[4]) % 12 + (12 if m[7].lower() == "pm" else 0) if m[7] else int(m[4])
            return clock.local(int(m[3]), int(m[1]), int(m[2]), hour, int(m[5]), float(m[6] or 0))
        if (m := _WORDED_TIME.match(text)) is not None and (month := _MONTHS.get(m[2].lower())) is not None:
            day, hour, minute, second, year = int(m[3]), int(m[4]), int(m[5]), float(m[6]), m[1] or m[7]
            if year:
                return clock.local(int(year), month, day, hour, minute, second)
            return clock.yearless(month, day, hour, minute, second, origin.received)
        at = datetime.fromisoformat(text)
        second = at.second + at.microsecond / 1e6
        return clock.local(at.year, at.month, at.day, at.hour, at.minute, second)
    except (ValueError, OverflowError):
        return None
