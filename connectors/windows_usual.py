"""The short way for the bulk of Windows events: logons, processes and connections as winlogbeat or flat JSON.

The line is decoded straight into types, only the attributes of the event are filled in, and `fields` reads on when asked.
What is unusual in any respect is left to the general way, which gives the same event (a test compares them).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from connectors.clock import Clock
from connectors.events import Event, Origin
from connectors.windows_ecs import (
    NAME,
    NOTHING,
    UNKNOWN,
    address_of,
    basename,
    dataset_of,
    level_of,
    minute_of,
    number_of,
    outcome_of,
    time_of,
)
from connectors.windows_events import INTEGRITY_LEVELS, LOGON_TYPES, Kind

TEXTS_MAX = 16_384  # paths, accounts and numbers remembered with what they mean
FIELDS_MAX = 512  # of one event; more takes the general way
PLANS_MAX = 4096  # combinations of channel, id, keywords and the like remembered with what they mean
NAME_CHARS_MAX = 200
NAMES_MAX = 8192  # names of native fields that were found usable as they are

General = Callable[[str, Origin], Sequence[Event]]


class _Winlog(msgspec.Struct, gc=False):
    channel: str
    provider_name: str
    computer_name: str
    event_id: str | int
    event_data: dict[str, str]
    record_id: Any = None
    keywords: tuple[str, ...] | str | int | None = None
    level: str | None = None
    task: str | None = None
    outcome: str | None = None
    time_created: str | None = None
    user_data: None = None


class _About(msgspec.Struct, frozen=True, gc=False):
    """`event`."""

    action: str | None = None
    outcome: str | None = None
    created: str | None = None


class _Log(msgspec.Struct, frozen=True, gc=False):
    level: str | None = None


class _Beat(msgspec.Struct, gc=False):
    """A winlogbeat document. ECS objects that hold parts of the event's data must not be there."""

    winlog: _Winlog
    stamp: str | None = msgspec.field(default=None, name="@timestamp")
    event: _About = _About()
    log: _Log = _Log()
    message: str | None = None
    process: None = None
    user: None = None
    source: None = None
    destination: None = None
    file: None = None
    registry: None = None
    dns: None = None
    network: None = None
    group: None = None


_WHOLE = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_beat = msgspec.json.Decoder(_Beat).decode
_flat_object = msgspec.json.Decoder(dict[str, str | _WHOLE]).decode


class _Plan(msgspec.Struct, frozen=True, gc=False):
    """What events of one kind from one channel have in common."""

    number: int
    kind: Kind
    read: Callable[..., Event | None]
    names: set[str]  # native names that do not need the general way
    sysmon: bool
    dataset: str
    code: str
    action: str | None
    outcome: str | None
    service: str | None
    head: dict[str, Any]  # fields that all these events have
    own: frozenset[str]  # names without a dot that the general way may write or leave out
    aliases: dict[str, str]  # field -> native name of the same text


_SPELLED = [*LOGON_TYPES.values(), *INTEGRITY_LEVELS.values(), "ingress", "egress"]  # instead of a code in the line


class _Fields(Mapping[str, Any]):
    """The fields of one event: the line's own values at once, what the mapping adds when somebody asks for it."""

    __slots__ = ("_data", "_line", "_plan", "_whole")

    def __init__(self, plan: _Plan, data: dict[str, Any], line: tuple[str, float, str, General]) -> None:
        self._plan = plan
        self._data = data
        self._line = line  # host, time, text, and what reads it all
        self._whole: Mapping[str, Any] | None = None

    def get(self, key: str, default: Any = None) -> Any:
        if self._whole is None:
            plan = self._plan
            value = plan.head.get(key)
            if value is not None:
                return value
            if key not in plan.own and "." not in key:
                return self._data.get(key, default)
            if key == "Computer":
                return self._line[0]
            native = plan.aliases.get(key)
            if native is not None and (value := self._data.get(native)) is not None and value not in NOTHING:
                return value
        return self._all().get(key, default)

    def made_of(self) -> list[Any]:
        """What all values are made of, without making them: a text that stands in none of it stands in no value."""
        if self._whole is not None:
            return [self._whole]
        get = self._data.get
        names = [f"{get(f'{who}DomainName')}\\{get(f'{who}UserName')}" for who in ("Subject", "Target")]
        names.append(str(get("MemberName")).replace("\\", ""))
        return [self._data, self._plan.head, self._line[0], names, _SPELLED]

    def _all(self) -> Mapping[str, Any]:
        whole = self._whole
        if whole is None:
            _, at, text, general = self._line
            origin = Origin("", "", at, Clock())  # the time itself was read before
            whole = self._whole = general(text, origin)[0].fields
        return whole

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def usual(text: str, origin: Origin, general: General) -> Event | None:
    """The event of a line that is as most lines are; None where only the general way can tell."""
    try:
        if '"winlog":' in text:
            return _winlogbeat(_beat(text), text, origin, general)
        if '"EventID":' in text:
            return _flat(_flat_object(text), text, origin, general)
    except (ValueError, RecursionError):
        pass
    return None


def _winlogbeat(beat: _Beat, text: str, origin: Origin, general: General) -> Event | None:
    w = beat.winlog
    about = beat.event
    key = (
        w.channel,
        w.provider_name,
        w.event_id,
        w.keywords,
        w.level or beat.log.level,
        w.task or about.action,
        about.outcome or w.outcome,
    )
    plan = _PLANS.get(key)
    if plan is None:
        plan = _PLANS[key] = _plan(key, _NOT_HIDDEN)
    data = w.event_data
    if plan is _NO_PLAN or not w.computer_name or not (plan.names.issuperset(data) or _learned(plan, data)):
        return None
    times = (w.time_created, beat.stamp, about.created)
    at = _moment(data.get("UtcTime") if plan.sysmon else None, times, origin)
    if at is None:
        return None
    fields = _Fields(plan, data, (w.computer_name, at, text, general))
    return plan.read(plan, data.get, at, w.computer_name, beat.message or None, fields)


def _flat(data: dict[str, Any], text: str, origin: Origin, general: General) -> Event | None:
    get = data.get
    computer = get("Hostname") or get("Computer") or get("MachineName")
    provider = get("SourceName") or get("Provider_Name") or get("ProviderName")
    channel = get("Channel") or get("LogName")
    message = get("Message") or get("RenderedDescription") or get("message")
    if type(computer) is not str or type(provider) is not str or type(channel) is not str:
        return None
    key = (
        channel,
        provider,
        get("EventID"),
        get("Keywords"),
        get("Level") or get("EventLevelName") or get("Severity"),
        get("Category") or get("Task"),
        get("EventType"),
        "flat",
    )
    plan = _PLANS.get(key)
    if plan is None:
        plan = _PLANS[key] = _plan(key, _HIDDEN)
    if plan is _NO_PLAN or not (plan.names.issuperset(data) or _learned(plan, data)):
        return None
    times = (get("TimeCreated"), get("SystemTime"), get("EventTime"), get("TimeGenerated"), get("@timestamp"))
    at = _moment(get("UtcTime") if plan.sysmon else None, times, origin)
    if at is None:
        return None
    fields = _Fields(plan, data, (computer, at, text, general))
    return plan.read(plan, get, at, computer, message if type(message) is str else None, fields)


# --- what events of one kind have in common ---------------------------------------------------------------------------

_NOT_HIDDEN: frozenset[str] = frozenset()
# Of flat JSON: names of the shipper's or of `<System>` that are no fields, and those that NXLog uses for two things.
_HIDDEN = frozenset(
    (
        *("Id", "LogName", "Provider", "ProviderName", "SourceName", "ProviderGuid", "Hostname", "Computer"),
        *("MachineName", "EventRecordID", "RecordNumber", "Keywords", "Level", "EventLevel", "EventLevelName"),
        *("Severity", "SeverityValue", "Task", "Opcode", "OpcodeValue", "Version", "ExecutionProcessID"),
        *("ExecutionThreadID", "ThreadID", "TimeCreated", "TimeGenerated", "EventTime", "EventReceivedTime"),
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
            "beat",
        ),
        *("agent", "ecs", "input", "type", "event", "log", "RenderedDescription", "TenantId", "SourceSystem"),
        *("Category", "AccountType", "AccountName", "EventType", "EventTypeOrignal"),
    )
)
# Names that ask for the general way: rare spellings of the usual ones, objects and shares, data within the data.
_RARE = frozenset(
    (
        *("EventData", "ClientAddress", "SourceAddress", "ClientIPAddress", "DestAddress"),
        *("CallerProcessName", "CallerProcessId", "Application", "ProcessID", "ClientProcessId"),
        *("ObjectName", "RelativeTargetName", "SourceImage", "SourceProcessId", "SourceUser"),
    )
)
_OWN = frozenset(("Computer",))
_OWN_OF_PROCESS = frozenset(("Computer", "Image", "ParentImage", "User", "IntegrityLevel", "CommandLine"))
_ALIASES: dict[int, dict[str, str]] = {
    1: {"process.parent.executable": "ParentImage", "process.entity_id": "ProcessGuid"},
    4688: {
        "Image": "NewProcessName",
        "ParentImage": "ParentProcessName",
        "process.parent.executable": "ParentProcessName",
        "CommandLine": "CommandLine",
    },
}
_NO_ALIASES: dict[str, str] = {}
_PLANS: dict[tuple[Any, ...], _Plan] = {}
_USABLE: dict[str, set[str]] = {"security": set(), "sysmon": set()}  # native names met so far
_OTHER_NAMES = frozenset((4774, 4776, 4777, 4769, 4770))  # the user stands elsewhere, or has something behind it


def _plan(key: tuple[Any, ...], hidden: frozenset[str]) -> _Plan:
    if len(_PLANS) >= PLANS_MAX:
        _PLANS.clear()
    channel, provider, event_id, keywords, level, task, stated, *_ = key
    number = number_of(event_id)
    if number is None or not channel or not provider:
        return _NO_PLAN
    channel, name, dataset, kinds, _ = dataset_of(channel, provider)
    kind = kinds.get(number, UNKNOWN)
    if name not in _USABLE or kind is UNKNOWN or kind.user == "Account" or number in _OTHER_NAMES:
        return _NO_PLAN
    if task is not None and type(task) is not str:
        task = None
    head: dict[str, Any] = {"Channel": channel, "winlog.channel": channel, "EventID": number}
    head |= {"Provider_Name": provider, "winlog.provider_name": provider}
    if level is not None:
        head["log.level"] = level_of(level)
    if keywords is not None:
        head["Keywords"] = list(keywords) if type(keywords) is tuple else keywords
    service = None
    if name == "security" and kind.category and kind.category[0] == "authentication":
        service = "radius" if number in (6272, 6273) else "ad"
    sysmon = name == "sysmon"
    return _Plan(
        number=number,
        kind=kind,
        read=_sysmon if sysmon else _process if number == 4688 else _security,
        names=_USABLE[name],
        sysmon=sysmon,
        dataset=dataset,
        code=str(number),
        action=kind.action or (task if task and not task.isdigit() else None),
        outcome=outcome_of(list(keywords) if type(keywords) is tuple else keywords, stated) or kind.outcome,
        service=service,
        head=head,
        own=(_OWN_OF_PROCESS if number == 4688 else _OWN) | hidden,
        aliases=_ALIASES.get(number, _NO_ALIASES),
    )


_NO_PLAN = _Plan(
    0, UNKNOWN, lambda *_: None, set(), False, "", "", None, None, None, {}, frozenset(), {}
)  # for kinds of events that always take the general way


def _learned(plan: _Plan, data: dict[str, Any]) -> bool:
    """Whether all names can be used as they are; if so they are remembered."""
    if len(data) > FIELDS_MAX or not _RARE.isdisjoint(data):
        return False
    if any(not name or " " in name or "." in name or len(name) > NAME_CHARS_MAX for name in data):
        return False
    if len(plan.names) >= NAMES_MAX:
        plan.names.clear()
    plan.names.update(data)
    return True


def _moment(utc: Any, times: tuple[Any, ...], origin: Origin) -> float | None:
    """As `time_of`, which reads what does not look as Windows and winlogbeat write it; None where that gives up too."""
    text = utc or times[0] or times[1]
    try:
        if text[-1] == "Z":
            second = float(text[17:-1])
            if 0 <= second < 60 and text[16] == ":":
                return minute_of(text[:16]) + second
        elif text is utc:
            second = float(text[17:])
            if 0 <= second < 60 and text[16] == ":":
                return minute_of(text[:16]) + second
    except (ValueError, TypeError, IndexError):
        pass
    notes: dict[str, Any] = {}
    at = time_of(utc, times, notes, origin)
    return None if notes else at


@lru_cache(maxsize=TEXTS_MAX)
def _executable(path: str) -> str:
    """The name of a program's file; empty where there is none."""
    return "" if path in NOTHING else basename(path)


@lru_cache(maxsize=TEXTS_MAX)
def _account(text: str) -> tuple[str | None, str | None]:
    """Name and domain."""
    if text in NOTHING:
        return None, None
    domain, backslash, name = text.partition("\\")
    return (name, domain) if backslash else (text, None)


@lru_cache(maxsize=TEXTS_MAX)
def _number(text: Any) -> int | None:
    return number_of(text)


@lru_cache(maxsize=TEXTS_MAX)
def _port(text: Any) -> int | None:
    port = number_of(text)
    return port if port is None or port < 65_536 else None


# --- the events -------------------------------------------------------------------------------------------------------

_Get = Callable[..., Any]  # of a dict


def _security(plan: _Plan, get: _Get, at: float, host: str, message: str | None, fields: _Fields) -> Event | None:
    kind = plan.kind
    if kind.user == "Target":
        user, domain = get("TargetUserName"), get("TargetDomainName")
    else:
        user, domain = get("SubjectUserName"), get("SubjectDomainName")
    address, path = get("IpAddress"), get("ProcessName")
    if type(user) is not str or user in NOTHING or (path is not None and type(path) is not str):
        return None
    program = _executable(path) if path is not None else ""
    return Event(
        at,
        NAME,
        plan.dataset,
        kind.category,
        kind.type,
        plan.action,
        plan.outcome,
        plan.code,
        message=message,
        host_name=host,
        user_name=user,
        user_domain=domain if type(domain) is str and domain not in NOTHING else None,
        source_ip=address_of(address) if type(address) is str else None,
        source_port=_port(get("IpPort", get("SourcePort"))),
        process_name=program or None,
        process_pid=_number(get("ProcessId")),
        process_executable=path if program else None,
        service_name=plan.service,
        fields=fields,
    )


def _process(plan: _Plan, get: _Get, at: float, host: str, message: str | None, fields: _Fields) -> Event | None:
    """4688."""
    user, domain = get("SubjectUserName"), get("SubjectDomainName")
    image, parent, line = get("NewProcessName"), get("ParentProcessName"), get("CommandLine")
    if type(user) is not str or user in NOTHING or type(image) is not str or not (program := _executable(image)):
        return None
    if line is None or (parent is not None and type(parent) is not str):
        return None
    address = get("IpAddress")
    return Event(
        at,
        NAME,
        plan.dataset,
        plan.kind.category,
        plan.kind.type,
        plan.action,
        plan.outcome,
        plan.code,
        message,
        host,
        user_name=user,
        user_domain=domain if type(domain) is str and domain not in NOTHING else None,
        source_ip=address_of(address) if type(address) is str else None,
        source_port=_port(get("IpPort", get("SourcePort"))),
        process_name=program,
        process_pid=_number(get("NewProcessId")),
        process_executable=image,
        process_command_line=line if type(line) is str and line else None,
        process_parent_name=None if parent is None else _executable(parent) or None,
        fields=fields,
    )


def _sysmon(plan: _Plan, get: _Get, at: float, host: str, message: str | None, fields: _Fields) -> Event | None:
    image, user, line = get("Image"), get("User"), get("CommandLine")
    if type(image) is not str or not (program := _executable(image)):
        return None
    name = domain = parent = path = source = destination = transport = None
    source_port = destination_port = None
    if type(user) is str:
        name, domain = _account(user)
    number = plan.number
    if number == 1:
        parent = get("ParentImage")
        parent = _executable(parent) if type(parent) is str else None
    elif number == 3:
        source, destination, transport = get("SourceIp"), get("DestinationIp"), get("Protocol")
        source_port, destination_port = _port(get("SourcePort")), _port(get("DestinationPort"))
        if type(source) is not str or type(destination) is not str or type(transport) is not str:
            return None
        source, destination, transport = address_of(source), address_of(destination), transport.lower()
    elif number not in _WITHOUT_FILE:
        path = get("TargetFilename") or get("ImageLoaded") or get("Device")
        if type(path) is not str or not path:
            path = None
    return Event(
        at,
        NAME,
        plan.dataset,
        plan.kind.category,
        plan.kind.type,
        plan.action,
        plan.outcome,
        plan.code,
        message,
        host,
        name,
        domain,
        source,
        source_port,
        None,
        destination,
        destination_port,
        None,
        transport,
        program,
        _number(get("ProcessId")),
        image,
        process_command_line=line if type(line) is str and line else None,
        process_parent_name=parent or None,
        file_path=path,
        fields=fields,
    )


_WITHOUT_FILE = (12, 13, 14, 22)
