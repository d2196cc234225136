"""The ECS event of a Windows event, from its native fields and `<System>`, as the winlogbeat modules make it."""

import re
from collections.abc import Callable, Collection
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import msgspec

from connectors.clock import MONTHS
from connectors.events import Event, Origin, ParseError
from connectors.values import TRANSPORTS
from connectors.windows_events import (
    CHANNEL_OF_PROVIDER,
    DATASET_OF_CHANNEL,
    INTEGRITY_LEVELS,
    LEVELS,
    LOGON_TYPES,
    TABLES,
    Kind,
    Kinds,
)

NAME = "windows"
VALUES_MAX = 512  # of one list
LEAF_DEPTH_MAX = 4  # how deep the text of an element may be wrapped

Fields = dict[str, Any]

NOTHING = frozenset(("", "-", "N/A", "n/a", "?", "%%1793"))
UNKNOWN = Kind(None)
_TEXT_KEYS = ("#text", "text", "_", "$text", "content")
_NO_KINDS: Kinds = {}


class System(msgspec.Struct, gc=False):
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


def leaf_of(value: Any) -> Any:
    """The text of an element that may have come with attributes; None where there is none."""
    for _ in range(LEAF_DEPTH_MAX):
        if type(value) is dict:
            name = next((name for name in _TEXT_KEYS if name in value), None)
            value = value[name] if name is not None else None
        elif type(value) is list:
            value = value[0] if len(value) == 1 else None
        else:
            return value
    return None


def plain(value: Any) -> Any:
    if type(value) is dict:
        if (leaf := leaf_of(value)) is not None:
            return plain(leaf)
        return _as_json(value) if value else None
    if type(value) is list:
        return plain_list(value)
    if type(value) is int and not -(1 << 63) <= value < 1 << 64:
        return hex(value)  # no wire format holds it as a number
    return value


def are_flat(values: Collection[Any]) -> bool:
    """Whether all values can stay as they are."""
    kinds = set(map(type, values))
    if not kinds <= _FLAT_TYPES:
        return False
    return int not in kinds or all(-(1 << 63) <= v < 1 << 64 for v in values if type(v) is int)


_FLAT_TYPES = frozenset((str, int, bool, float))


def plain_list(values: list[Any]) -> list[Any]:
    return [_as_json(v) if type(v) is list or type(v) is dict else plain(v) for v in values[:VALUES_MAX]]


def _as_json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return ""


def part_of(d: dict[str, Any], *path: str) -> Any:
    value: Any = d
    for name in path:
        if type(value) is not dict:
            return None
        value = value.get(name)
    return value


def event_of(f: Fields, s: System, beside: dict[str, Any] | None, damaged: bool, origin: Origin) -> Event:
    number = number_of(s.event_id)
    channel = s.channel if type(s.channel) is str else None
    provider = s.provider if type(s.provider) is str else None
    if number is None and not channel:
        raise ParseError("Windows event with neither event id nor channel")
    channel, kind_name, dataset, kinds, fill = dataset_of(channel, provider)
    kind = kinds.get(number, UNKNOWN) if number is not None else UNKNOWN
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
        f["winlog.record_id"] = plain(s.record_id)
    if s.user_id:
        f["user.id"] = plain(s.user_id)
    level = plain(s.level)
    if level is not None:
        f["log.level"] = level_of(level)
    keywords = s.keywords
    if keywords is not None:
        f["Keywords"] = plain(keywords)
    outcome = outcome_of(keywords, s.outcome) or kind.outcome
    message = s.message if type(s.message) is str and s.message else None
    if damaged:
        f["shield.truncated"] = True
    kw: dict[str, Any] = {}
    fill(number, kind, f, kw)
    if beside is not None and not _BESIDE.isdisjoint(beside):
        _beside(beside, f, kw, number, fill)
    action = kind.action
    if action is None and type(s.task) is str and s.task and not s.task.isdigit():
        action = s.task
    if not f.get("winlog.user.name", True):
        del f["winlog.user.name"]
    utc = f.get("UtcTime") if kind_name == "sysmon" else None
    about = kw.get
    return Event(
        time_of(utc, s.times, f, origin),
        NAME,
        dataset,
        kind.category,
        kind.type,
        action,
        outcome,
        None if number is None else str(number),
        message,
        computer,
        about("user_name"),
        about("user_domain"),
        about("source_ip"),
        about("source_port"),
        None,
        about("destination_ip"),
        about("destination_port"),
        None,
        about("network_transport"),
        about("process_name"),
        about("process_pid"),
        about("process_executable"),
        about("process_command_line"),
        about("process_parent_name"),
        about("file_path"),
        service_name=about("service_name"),
        fields=f,
    )


def level_of(level: Any) -> str:
    if type(level) is not str:
        level = str(level)
    return LEVELS.get(level) or level.lower()


Fill = Callable[[int | None, Kind, Fields, dict[str, Any]], None]


@lru_cache(maxsize=1024)
def dataset_of(channel: str | None, provider: str | None) -> tuple[str, str, str, Kinds, Fill]:
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


def outcome_of(keywords: Any, stated: Any) -> str | None:
    """From the audit bits of the keywords (hex, signed number or words), else from what the shipper says."""
    if type(keywords) is list:
        for keyword in keywords:
            if type(keyword) is not list and (found := outcome_of(keyword, None)) is not None:
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


def number_of(value: Any) -> int | None:
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
        return int(text, 16) if text[:2] in ("0x", "0X") else int(text)
    except ValueError:
        return None


def _word(value: Any) -> str | None:
    """Text that says something."""
    if type(value) is str:
        return None if value in NOTHING else value
    return str(value) if type(value) is int else None


@lru_cache(maxsize=65_536)
def address_of(text: str) -> str | None:
    """An IP address as written, an IPv4 one out of its IPv6 dress; None for host names, LOCAL and the like."""
    text = text.strip().split("%")[0].strip("[]")
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped) if mapped is not None else text


def basename(path: str) -> str:
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
        if name is None and number in (4634, 4647):  # rendered messages call the account Subject
            name, domain, logon = _word(get("SubjectUserName")), get("SubjectDomainName"), get("SubjectLogonId")
        elif name is None and number in (4774, 4776, 4777):
            name = _word(get("ClientUserName") or get("MappedName"))
    elif kind.user == "Account":
        name, domain = _word(get("AccountName")), get("AccountDomain")
        logon, sid = get("LogonID") or get("LogonId"), None
    else:
        name, domain, logon = _word(get("SubjectUserName")), get("SubjectDomainName"), get("SubjectLogonId")
        sid = get("SubjectUserSid")
        if name is None and kind is UNKNOWN:
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
            station = station.lstrip("\\")
            f["source.domain"] = station
            if number in (4776, 4777) and (ip := address_of(station)) is not None:
                kw["source_ip"] = ip
    _security_network(f, kw)
    if number == 4697 and type(line := get("ServiceFileName")) is str and line:
        kw["process_command_line"] = line
    if number == 4688:
        _created_process(f, kw)
        return
    path = get("ProcessName") or get("CallerProcessName") or get("Application")
    pid = get("ProcessId")
    if pid is None:
        pid = get("CallerProcessId") or get("ProcessID") or get("ClientProcessId")
    if (path := _word(path)) is not None:
        kw["process_executable"] = path
        kw["process_name"] = basename(path)
    if pid is not None and (pid := number_of(pid)) is not None:
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
    if type(address) is str and (ip := address_of(address)) is not None:
        kw["source_ip"] = ip
    port = get("IpPort")
    if port is None:
        port = get("SourcePort")
    if port is not None and (port := number_of(port)) is not None and port < 65_536:
        kw["source_port"] = port
    destination = get("DestAddress")
    if type(destination) is str:
        if (ip := address_of(destination)) is not None:
            kw["destination_ip"] = ip
        if (port := number_of(get("DestPort"))) is not None and port < 65_536:
            kw["destination_port"] = port
        if (protocol := get("Protocol")) is not None:
            kw["network_transport"] = TRANSPORTS.get(str(protocol), str(protocol))


def _created_process(f: Fields, kw: dict[str, Any]) -> None:
    """4688, with the names that Sysmon has for the same things, so that process rules match either."""
    get = f.get
    image, parent = _word(get("NewProcessName")), _word(get("ParentProcessName"))
    if image is not None:
        f["Image"] = kw["process_executable"] = image
        kw["process_name"] = basename(image)
    if (pid := number_of(get("NewProcessId"))) is not None:
        kw["process_pid"] = pid
    line = get("CommandLine")
    if line is None and (line := get("ProcessCommandLine")) is not None:
        f["CommandLine"] = line
    if type(line) is str and line:
        kw["process_command_line"] = line
    if parent is not None:
        f["ParentImage"] = f["process.parent.executable"] = parent
        kw["process_parent_name"] = basename(parent)
    if (pid := number_of(get("ProcessId"))) is not None:
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
    r"""The account in a distinguished name: `CN=Jane Doe,OU=Staff,...`, or `DOMAIN\name`."""
    if member[:3].upper() == "CN=":
        return member[3:].replace("\\,", "\0").partition(",")[0].replace("\0", ",")
    return member.rpartition("\\")[2]


def _sysmon(number: int | None, _kind: Kind, f: Fields, kw: dict[str, Any]) -> None:
    get = f.get
    image = get("Image") or get("SourceImage")
    if type(image) is str and image not in NOTHING:
        kw["process_executable"] = image
        kw["process_name"] = basename(image)
    pid = get("ProcessId")
    if pid is None:
        pid = get("SourceProcessId")
    if pid is not None and (pid := number_of(pid)) is not None:
        kw["process_pid"] = pid
    guid = get("ProcessGuid") or get("SourceProcessGuid") or get("SourceProcessGUID")
    if guid is not None:
        f["process.entity_id"] = guid
    user = get("User") or get("SourceUser")
    if type(user) is str and user not in NOTHING:
        _account(user, kw)
    line = get("CommandLine")
    if type(line) is str and line:
        kw["process_command_line"] = line
    if number == 1:
        parent = get("ParentImage")
        if type(parent) is str and parent not in NOTHING:
            f["process.parent.executable"] = parent
            kw["process_parent_name"] = basename(parent)
        if (line := get("ParentCommandLine")) is not None:
            f["process.parent.command_line"] = line
        if (pid := number_of(get("ParentProcessId"))) is not None:
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
    if type(rule) is str and rule not in NOTHING:
        f["rule.name"] = rule


def _sysmon_network(f: Fields, kw: dict[str, Any]) -> None:
    get = f.get
    if type(source := get("SourceIp")) is str and (ip := address_of(source)) is not None:
        kw["source_ip"] = ip
    if type(destination := get("DestinationIp")) is str and (ip := address_of(destination)) is not None:
        kw["destination_ip"] = ip
    if (port := number_of(get("SourcePort"))) is not None and port < 65_536:
        kw["source_port"] = port
    if (port := number_of(get("DestinationPort"))) is not None and port < 65_536:
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
    if "Data" not in f and ("param1" in f or "param2" in f):
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
    r"[\r\n]|\s(?:Host ?(?:Name|Version|I[Dd]|Application)|Engine ?Version|Runspace ?I[Dd]|Pipeline ?I[Dd]"
    r"|Command ?(?:Name|Type|Path|Line)|Script ?Name|Sequence ?Number|User|UserId|Connected User|Shell ID|Severity) ?="
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
    if type(address) is str and (ip := address_of(address)) is not None:
        kw["source_ip"] = ip
    image = _word(get("ProcessName") or get("Image") or get("ProcessPath"))
    if image is not None:
        kw["process_executable"] = image
        kw["process_name"] = basename(image)
    if (pid := number_of(get("ProcessId") or get("ProcessID"))) is not None:
        kw["process_pid"] = pid
    line = get("ImagePath") if number == 7045 else get("CommandLine")
    if type(line) is str and line:
        kw["process_command_line"] = line
    if number == 7045 and (account := _word(get("AccountName"))) is not None:
        f["user.target.name"] = account
    if number == 1644:
        _ldap_search(f, kw)
    path = get("Path") or get("FilePath") or get("TargetFilename")
    if type(path) is str and path:
        kw["file_path"] = path
    if kind.category and "authentication" in kind.category:
        kw["service_name"] = "rdp"


_CLIENT = re.compile(r"\[?([0-9A-Fa-f.:]{2,45}?)(?:%\w{1,16})?\]?:(\d{1,5})")


def _ldap_search(f: Fields, kw: dict[str, Any]) -> None:
    """An expensive search of the directory: its values have no names, client and account are told by their shape."""
    values = f.get("Data")
    if type(values) is not list or len(values) < 5:
        return
    for value in values:
        client = _CLIENT.fullmatch(value) if type(value) is str else None
        if client is not None and (ip := address_of(client[1])) is not None:
            kw["source_ip"], kw["source_port"] = ip, int(client[2])
            break
    f["winlog.ldap.base"], f["winlog.ldap.filter"] = values[0], values[1]
    who = values[-1]
    if type(who) is str and who.startswith("S-1-"):
        f["user.id"] = who
    elif type(who) is str and "\\" in who:
        _account(who, kw)


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


def _beside(d: dict[str, Any], f: Fields, kw: dict[str, Any], number: int | None, fill: Fill) -> None:
    if fill is _sysmon:
        missing = [
            (native, value)
            for native, path in _NATIVE_OF_ECS
            if native not in f and type(value := part_of(d, *path)) in (str, int)
        ]
        if number in (6, 7):
            missing = [("ImageLoaded" if native == "TargetFilename" else native, value) for native, value in missing]
        if missing:
            f.update(missing)
            _sysmon(number, UNKNOWN, f, kw)
    for name, wanted, path in _ATTRIBUTES_BESIDE:
        if kw.get(name) is None and type(value := part_of(d, *path)) is wanted:
            kw[name] = value


# --- time -------------------------------------------------------------------------------------------------------------

_EPOCH = re.compile(r"/?(?:Date)?\(?(\d{9,19})\)?/?$")
_US_TIME = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}),? (\d{1,2}):(\d\d)(?::(\d\d(?:\.\d{1,9})?))? ?([AaPp][Mm])?$")
_WORDED_TIME = re.compile(r"(?:\w{3} )?(?:(\d{4}) )?(\w{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d)(?: (\d{4}))?$")
SECONDS_MAX = 253_402_300_799.0  # the last second of the year 9999


def time_of(utc: Any, times: tuple[Any, ...], f: Fields, origin: Origin) -> float:
    """The event's time: Sysmon's own, else the first that states its zone, else the first that can be read."""
    if type(utc) is str and (at := _zoned(utc if utc[-1:] == "Z" else utc + "Z")) is not None:
        return at
    for value in times:
        if value is not None and (at := _zoned(value)) is not None:
            return at
    for value in (utc, *times):
        if type(value) is str and (at := _local(value, origin)) is not None:
            return at
    f["shield.time"] = "received"
    return origin.received


_SIGNS = ("+", "-")


@lru_cache(maxsize=4096)
def minute_of(text: str) -> float:
    """Seconds since the epoch of `2026-03-01T08:15` in UTC; a source's lines span few minutes at a time."""
    return datetime.fromisoformat(text + "+00:00").timestamp()


def _zoned(value: Any) -> float | None:
    try:
        if type(value) is str:
            if value[-1:] == "Z" and value[16:17] == ":":
                second = float(value[17:-1])
                if 0 <= second < 61:
                    return minute_of(value[:16]) + second
            if (
                value[-1:].isdigit()
                and value[-6:-5] not in _SIGNS
                and value[-5:-4] not in _SIGNS
                and value[10:11] in ("T", " ")
            ):
                return None  # no zone, the usual case of local times
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
        if (m := _WORDED_TIME.match(text)) is not None and (month := MONTHS.get(m[2].lower())) is not None:
            day, hour, minute, second, year = int(m[3]), int(m[4]), int(m[5]), float(m[6]), m[1] or m[7]
            if year:
                return clock.local(int(year), month, day, hour, minute, second)
            return clock.yearless(month, day, hour, minute, second, origin.received)
        at = datetime.fromisoformat(text)
        second = at.second + at.microsecond / 1e6
        return clock.local(at.year, at.month, at.day, at.hour, at.minute, second)
    except (ValueError, OverflowError):
        return None
