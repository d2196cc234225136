"""Windows events in every form that reaches us: winlogbeat, NXLog, EVTX dumps, Wazuh, PowerShell, Snare and XML.

Each form is brought to one flat set of native fields plus the few values of `<System>`; one mapping then gives the ECS
event that the winlogbeat modules give, whatever the shipper was.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from connectors import tolerant_json, windows_adfs
from connectors.events import Event, Origin, ParseError
from connectors.windows_ecs import (
    NOTHING,
    Fields,
    System,
    are_flat,
    event_of,
    leaf_of,
    number_of,
    part_of,
    plain,
    plain_list,
)
from connectors.windows_usual import usual

NAME = "windows"
EVENTS_MAX = 1000  # of one line (a JSON array, joined XML events); what follows is not read
FIELDS_MAX = 512  # of one event
ENVELOPE_CHARS_MAX = 512  # a syslog header before the JSON or XML


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
        or "\\u003cEvent" in text
        or "WinEvtLog: " in text
        or "MSWinEventLog" in text
        or '"Event.System.' in text
    )


_FLAT_MARKS = ('"Channel"', '"System"', '"SourceName"', '"Provider_Name"', '"ProviderName"', '"LogName"', '"Provider"')


def parse(text: str, origin: Origin) -> Sequence[Event]:
    event = usual(text, origin, generally) if text[:1] == "{" else None
    found = (event,) if event is not None else generally(text, origin)
    return [windows_adfs.refined(one) for one in found] if "AD FS" in text else found


def generally(text: str, origin: Origin) -> Sequence[Event]:
    """Any form, with all fields."""
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
    if "WinEvtLog: " in text and (match := _WIN_EVT_LOG.search(text)) is not None:
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
        return [of_wazuh(d, d["win"], damaged, origin)]
    if "event_id" in d and ("log_name" in d or "event_data" in d or "channel" in d):
        return [_winlogbeat(d, d, damaged, origin)]
    if "LogName" in d or "Channel" in d or "EventID" in d:
        return [_flat(d, damaged, origin)]
    if any("." in key for key in d):
        nested = _nest(d)
        if nested.keys() != d.keys():
            return _document(nested, damaged, origin)
    for value in (part_of(d, "event", "original"), *map(d.get, _XML_KEYS)):
        if type(value) is str and (tag := value.find("<Event")) >= 0 and "<System" in value:
            return _xml(value, tag, origin)
    return []


_XML_KEYS = ("message", "Message", "xml", "Xml", "SyslogMessage", "EventXml")


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


def _winlogbeat(d: dict[str, Any], w: dict[str, Any], damaged: bool, origin: Origin) -> Event:
    """winlogbeat: `w` is `winlog`, or the document itself as version 6 has it."""
    fields: Fields = {}
    data = w.get("event_data")
    if type(data) is dict:
        if are_flat(data.values()) and len(data) <= FIELDS_MAX:
            fields = {plain_name: data[name] for name, plain_name in _names(tuple(data))}
        else:
            _take(fields, data.items())
    elif type(data) is list:
        fields["Data"] = plain_list(data)
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
    system = System(
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
        fields["winlog.user.name"] = plain(user["name"])
    return event_of(fields, system, d, damaged, origin)


# Keys of flat JSON that are the shipper's or `<System>`'s, not the event's data.
ENVELOPE_KEYS = frozenset(
    (
        *("EventID", "Id", "Channel", "LogName", "Provider", "ProviderName", "Provider_Name", "SourceName"),
        *("ProviderGuid", "Hostname", "Computer", "MachineName", "EventRecordID", "RecordNumber", "Keywords", "Level"),
        *("EventLevel", "EventLevelName", "Severity", "SeverityValue", "Task", "Opcode", "OpcodeValue", "Version"),
        *(
            "ExecutionProcessID",
            "ExecutionThreadID",
            "ThreadID",
            "TimeCreated",
            "TimeGenerated",
            "EventTime",
            "EventReceivedTime",
        ),
        *(
            "Message",
            "SourceModuleName",
            "SourceModuleType",
            "@timestamp",
            "@version",
            "host",
            "port",
            "tags",
            "message",
        ),
        *("beat", "agent", "ecs", "input", "type", "event", "log", "EventData", "RenderedDescription", "TenantId"),
        *("SourceSystem", "Category", "AccountType"),
    )
)


@lru_cache(maxsize=1024)  # by shape: lines of one kind have the same names in the same order
def _names(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names as they come and as they stay."""
    return [(name, name if name.isidentifier() else _plain_name(name)) for name in names]


@lru_cache(maxsize=1024)
def _kept(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return _names(tuple(name for name in names if name not in ENVELOPE_KEYS)[:FIELDS_MAX])


def _flat(d: dict[str, Any], damaged: bool, origin: Origin) -> Event:
    """NXLog and other flat JSON: the event's data and `<System>` side by side."""
    get = d.get
    data = get("EventData")
    kept = _kept(tuple(d))
    fields: Fields = {plain_name: d[name] for name, plain_name in kept}
    if not are_flat(fields.values()):
        fields = {}
        _take(fields, [(name, d[name]) for name, _ in kept])
    if type(data) is str and data[:1] in ("{", "<"):  # Azure monitoring sends it as a text of its own
        if data[0] == "{":
            data = tolerant_json.decode(data)[0]
        else:
            _named_data(fields, data)
            data = None
    if data is not None:
        _event_data(fields, data)
    system = System(
        event_id=get("EventID", get("Id")),
        channel=get("Channel") or get("LogName"),
        provider=get("SourceName") or get("Provider_Name") or get("ProviderName") or _attribute(d, "Provider", "Name"),
        computer=get("Hostname") or get("Computer") or get("MachineName"),
        record_id=get("RecordNumber") or get("EventRecordID"),
        keywords=get("Keywords"),
        level=get("Level") or get("EventLevelName") or get("Severity"),
        task=get("Category") or get("Task"),
        opcode=get("Opcode"),
        user_id=get("UserID"),
        message=get("Message") or get("RenderedDescription") or get("message"),
        outcome=get("EventType"),
        times=(get("TimeCreated"), get("SystemTime"), get("EventTime"), get("TimeGenerated"), get("@timestamp")),
    )
    if get("AccountType") and "AccountName" in fields:  # the account that wrote the event, not one the event is about
        fields["winlog.user.name"] = fields.pop("AccountName")
    if isinstance(system.outcome, str) and system.outcome in NXLOG_TYPES:
        fields.pop("EventType", None)  # NXLog keeps a Sysmon EventType aside, in this spelling
        if "EventTypeOrignal" in fields:
            fields["EventType"] = fields.pop("EventTypeOrignal")
    return event_of(fields, system, None, damaged, origin)


NXLOG_TYPES = frozenset(("AUDIT_SUCCESS", "AUDIT_FAILURE", "INFO", "ERROR", "WARNING", "CRITICAL", "VERBOSE", "DEBUG"))


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
    keywords = leaf_of(s.get("Keywords"))
    system = System(
        event_id=leaf_of(s.get("EventID")),
        channel=leaf_of(s.get("Channel")),
        provider=_attribute(s, "Provider", "Name"),
        computer=leaf_of(s.get("Computer")),
        record_id=leaf_of(s.get("EventRecordID")),
        keywords=keywords,
        level=leaf_of(s.get("Level")),
        task=leaf_of(rendering.get("Task")) or leaf_of(s.get("Task")),
        opcode=leaf_of(s.get("Opcode")),
        user_id=_attribute(s, "Security", "UserID"),
        message=leaf_of(rendering.get("Message")),
        times=(_attribute(s, "TimeCreated", "SystemTime") or leaf_of(s.get("TimeCreated")),),
    )
    if system.event_id is None and system.channel is None:
        return []
    return [event_of(fields, system, None, damaged, origin)]


def of_wazuh(d: dict[str, Any], win: dict[str, Any], damaged: bool, origin: Origin) -> Event:
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
    system = System(
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
    return event_of(fields, system, None, damaged, origin)


def _attribute(parent: dict[str, Any], element: str, name: str) -> Any:
    found = parent.get(element)
    if type(found) is dict:
        attributes = found.get("#attributes") or found.get("$") or found
        if type(attributes) is dict:
            return attributes.get(name) or attributes.get("@" + name) or attributes.get("-" + name)
        return None
    if type(found) is str and name == "Name":
        return found
    return part_of(parent, element + "_attributes", name)


def _event_data(fields: Fields, data: Any) -> None:
    """EventData in JSON: a dict by name, a list of Data elements, or either inside `Data`."""
    if type(data) is list:
        _data_list(fields, data)
    elif type(data) is dict:
        inner = data.get("Data")
        if inner is not None:
            _data_list(fields, inner if type(inner) is list else [inner])
        named = _only_dict(data) or data
        _take(fields, ((key, value) for key, value in named.items() if key != "Data"))
    elif data not in ("", None):
        fields["Data"] = plain(data)


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
            text = leaf_of(item) if type(item.get("#text")) is not list else item["#text"]
            if text is None and "Value" in item:
                text = item["Value"]
            if type(name) is str and name:
                fields[_plain_name(name)] = plain(text)
            elif type(text) is list:
                unnamed += plain_list(text)
            elif text is not None:
                unnamed.append(plain(text))
        elif item is not None:
            unnamed.append(plain(item))
    if unnamed:
        fields["Data"] = unnamed[0] if len(unnamed) == 1 else unnamed


def _take(fields: Fields, items: Iterable[tuple[str, Any]]) -> None:
    """Copies named values, names made plain and values flat."""
    for name, value in items:
        if type(value) is not str:
            if value is None:
                continue
            if type(value) is dict and name[:1] in "#@":
                continue  # attributes of the element itself
            value = plain(value)  # noqa: PLW2901 the flat form of the same value
        fields[name if name.isidentifier() else _plain_name(name)] = value
        if len(fields) > FIELDS_MAX:
            return


@lru_cache(maxsize=4096)
def _plain_name(name: str) -> str:
    """Without blanks (as Sigma rules write it) and without dots (which would make it an ECS path)."""
    return name.replace(" ", "").replace(".", "_")[:200] or "Data"


# --- XML --------------------------------------------------------------------------------------------------------------

_ATTRIBUTE = re.compile(r"""(?<!\w)([A-Za-z]\w*+)\s{0,8}=\s{0,8}(?:"([^"<]*)"|'([^'<]*)')""")
_DATA = re.compile(r"""<Data(?:\s+Name\s*=\s*(?:"([^"<]*+)"|'([^'<]*+)'))?[^<>]*+>(?:([^<]*+)</Data>)?""")
_LEAF = re.compile(r"<(?:[\w.-]+:)?([\w.-]+)(?:\s[^<>]*)?>([^<]*)</")
_ENTITY = re.compile(r"&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|(lt|gt|amp|quot|apos));")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}


# <System> in the order in which Windows itself writes it, without entities: one pattern instead of a search per element.
_SYSTEM = re.compile(
    r"""<System>\s*+<Provider Name=(["'])([^"'<>&]++)\1[^<>]*+>\s*+<EventID(?: [^<>]*+)?>([0-9]++)</EventID>\s*+"""
    r"""(?:<Version>[^<]*+</Version>\s*+)?<Level>([^<&]++)</Level>\s*+<Task>([^<&]++)</Task>\s*+"""
    r"""(?:<Opcode>([^<&]++)</Opcode>\s*+)?<Keywords>([^<&]++)</Keywords>\s*+"""
    r"""<TimeCreated SystemTime=(["'])([^"'<>&]++)\8[^<>]*+>\s*+<EventRecordID>([^<&]++)</EventRecordID>\s*+"""
    r"""(?:<Correlation[^<>]*+>\s*+)?(?:<Execution[^<>]*+>\s*+)?"""
    r"""<Channel>([^<&]++)</Channel>\s*+<Computer>([^<&]++)</Computer>\s*+"""
    r"""<Security(?: UserID=(["'])([^"'<>&]++)\13| UserId="[^"<>]*+")?[ /]*+>(?:</Security>)?\s*+\Z"""
)


def _xml(text: str, tag: int, origin: Origin) -> list[Event]:
    if "<![CDATA[" in text:
        text = _without_cdata(text)
        tag = text.find("<Event")
    events: list[Event] = []
    while tag >= 0 and len(events) < EVENTS_MAX:
        end = text.find("</Event>", tag)
        events += _xml_event(text[tag:end] if end >= 0 else text[tag:], end < 0, origin)
        if end < 0:
            break
        tag = text.find("<Event", end)
    return events


def _without_cdata(text: str) -> str:
    """CDATA sections as escaped text; one that is not closed is left as it is."""
    parts: list[str] = []
    at = 0
    while (start := text.find("<![CDATA[", at)) >= 0 and (end := text.find("]]>", start)) >= 0:
        inner = text[start + 9 : end].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        parts += (text[at:start], inner)
        at = end + 3
    return "".join((*parts, text[at:]))


def _xml_event(text: str, damaged: bool, origin: Origin) -> list[Event]:
    start = text.find("<System")
    if start < 0:
        return []
    end = text.find("</System>", start)
    head, rest = (text[start:end], text[end:]) if end >= 0 else (text[start:], "")
    usual = _SYSTEM.match(head)
    if usual is None:
        event_id, channel = _content(head, "<EventID"), _content(head, "<Channel")
        if not event_id and not channel:
            return []
    fields: Fields = {}
    _named_data(fields, rest)
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
    if usual is not None:
        provider, event_id, level, task, opcode, keywords, time, record_id, channel, computer, user_id = usual.group(
            2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14
        )
        system = System(
            event_id,
            channel,
            provider,
            computer,
            record_id,
            keywords or rendering.get("Keyword"),
            level,
            rendering.get("Task") or task,
            opcode,
            user_id,
            rendering.get("Message"),
            None,
            (time,),
        )
        return [event_of(fields, system, None, damaged, origin)]
    system = System(
        event_id=event_id,
        channel=channel,
        provider=_attribute_of(head, "<Provider", "Name"),
        computer=_content(head, "<Computer"),
        record_id=_content(head, "<EventRecordID"),
        keywords=_content(head, "<Keywords") or rendering.get("Keyword"),
        level=_content(head, "<Level"),
        task=rendering.get("Task") or _content(head, "<Task"),
        opcode=_content(head, "<Opcode"),
        user_id=_attribute_of(head, "<Security", "UserID"),
        message=rendering.get("Message"),
        times=(_attribute_of(head, "<TimeCreated", "SystemTime"),),
    )
    return [event_of(fields, system, None, damaged, origin)]


def _named_data(fields: Fields, text: str) -> None:
    unnamed: list[str] = []
    for double, single, value in _DATA.findall(text):
        name = double or single
        if "&" in value:
            value = _unescape(value)  # noqa: PLW2901 the same value, readable
        if name:
            fields[name if name.isidentifier() else _plain_name(_unescape(name))] = value
        else:
            unnamed.append(value)
    if unnamed:
        fields["Data"] = unnamed[0] if len(unnamed) == 1 else unnamed


def _content(head: str, tag: str) -> str | None:
    """The text of an element of `<System>`; finding by name is several times faster here than one pattern for all."""
    start = head.find(tag)
    if start < 0:
        return None
    start = head.find(">", start) + 1
    end = head.find("<", start)
    if start == 0 or end <= start or head[start - 2] == "/":  # none, cut off, or empty
        return None
    text = head[start:end]
    return _unescape(text) if "&" in text else text


def _attribute_of(head: str, tag: str, name: str) -> str | None:
    start = head.find(tag)
    if start < 0:
        return None
    stop = head.find(">", start)
    if stop < 0:
        return None
    at = head.find(f' {name}="', start, stop)
    if at >= 0 and (end := head.find('"', at + len(name) + 3, stop)) >= 0:  # as Windows itself writes it
        return _unescape(head[at + len(name) + 3 : end])
    for key, double, single in _ATTRIBUTE.findall(head, start, stop):
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
    if user and user not in NOTHING and user != "(no user)":
        fields["winlog.user.name"] = user
    system = System(event_id, channel, provider, computer, level=kind, outcome=kind, message=message, times=(time,))
    return [event_of(fields, system, None, False, origin)]


def _snare(text: str, origin: Origin) -> list[Event]:
    """Snare over syslog: criticality, channel, counter, time, id, provider, user, its type, outcome, computer, text."""
    tail = text.partition("MSWinEventLog")[2]
    parts = tail.split("\t") if "\t" in tail else tail.replace("#011", "\t").split("\t")
    if len(parts) < 11:
        raise ParseError("Snare line with too few columns")
    parts = parts[1:]
    channel, time, event_id, provider, user, outcome, computer = (parts[i] for i in (1, 3, 4, 5, 6, 8, 9))
    message = "\t".join(parts[12:]) if len(parts) > 12 else parts[-1]
    fields = _from_message(message)
    if user not in NOTHING:
        fields["winlog.user.name"] = user
    system = System(
        event_id, channel, provider, computer, record_id=parts[2], outcome=outcome, message=message, times=(time,)
    )
    if number_of(event_id) is None:
        raise ParseError("Snare line without an event id")
    return [event_of(fields, system, None, False, origin)]


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
# Only the names of several words are listed; a class as their first character lets the engine pass over them quickly.
_LABELLED = re.compile(
    r"(?:^|[\s#])([A-Za-z]\w{2,40}+|"
    + "|".join(
        f"[{name[0]}{name[0].upper()}](?i:{re.escape(name[1:])})"
        for name in sorted({*_SECTIONS, *(name for _, name in _LABELS)})
        if " " in name
    )
    + r"):(?=[\s#]|$)"
)
_LABEL_NAMES = frozenset(label for _, label in _LABELS)
_COLUMN = re.compile(r"[\t\r\n#]| {2}")
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
        value = message[match.end() : end].strip(" \t\r\n#")
        if value and low in _LABEL_NAMES:  # up to the next column or section heading
            value = _COLUMN.split(value, maxsplit=1)[0]
        if low in _SECTIONS and not value:
            section = _SECTIONS[low]
            continue
        name = _LABELS.get((section, low)) or _LABELS.get(("", low))
        if name is None and " " not in label and label[0].isupper():
            name = label
        if name is not None and value and len(fields) < FIELDS_MAX:
            fields.setdefault(name, value)
    return fields
