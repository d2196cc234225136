"""CrowdStrike Falcon: event streams (detections, audit, firewall, incidents), Data Replicator telemetry, alerts and detections.

Falcon's own keys stay in `fields`; those of the `event` of a stream stand at the top there, as in the telemetry
(`CommandLine`, `TargetFileName`, `OperationName`).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from connectors import json_log
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import (
    Log,
    account,
    address,
    first,
    flat,
    instant,
    number,
    part,
    parts,
    port,
    program,
    stated,
    text_of,
    word,
)
from connectors.values import TRANSPORTS

NAME = "crowdstrike"
REMEMBERED_MAX = 4096  # names of events whose meaning is kept

_LISTS = ("resources", "records", "events")
FILETIME_MIN, FILETIME_MAX = 1.2e17, 1.6e17  # of 100 ns since 1601: the years 1981 to 2108
_FILETIME_EPOCH_S = 11_644_473_600

Meaning = tuple[str, tuple[str, ...], tuple[str, ...], str | None]
# Telemetry: the start of event_simpleName -> kind, category, type, outcome; the longest that fits counts.
_TELEMETRY: dict[str, Meaning] = {
    "ProcessRollup2Stats": ("process", ("process",), ("info",), None),
    "ProcessRollup2": ("process", ("process",), ("start",), None),
    "SyntheticProcessRollup2": ("process", ("process",), ("start",), None),
    "ProcessBlocked": ("process", ("process",), ("denied",), "failure"),
    "CreateProcessArgs": ("process", ("process",), ("start",), None),
    "CommandHistory": ("process", ("process",), ("info",), None),
    "ScriptControl": ("process", ("process",), ("info",), None),
    "EndOfProcess": ("process", ("process",), ("end",), None),
    "TerminateProcess": ("process", ("process",), ("end",), None),
    "ServiceStarted": ("process", ("process",), ("start",), None),
    "HostedServiceStarted": ("process", ("process",), ("start",), None),
    "HostedServiceStopped": ("process", ("process",), ("end",), None),
    "InjectedThread": ("process", ("process",), ("change",), None),
    "NetworkConnect": ("network", ("network",), ("connection", "start"), None),
    "NetworkReceiveAccept": ("network", ("network",), ("connection", "allowed"), None),
    "NetworkClose": ("network", ("network",), ("connection", "end"), None),
    "NetworkListen": ("network", ("network",), ("start",), None),
    "RawBind": ("network", ("network",), ("connection", "start"), None),
    "DnsRequest": ("dns", ("network",), ("protocol",), None),
    "SuspiciousDnsRequest": ("dns", ("network",), ("protocol",), None),
    "HttpRequest": ("network", ("network", "web"), ("access",), None),
    "FirewallDisabled": ("config", ("configuration", "host"), ("change",), None),
    "FirewallEnabled": ("config", ("configuration", "host"), ("change",), None),
    "Firewall": ("config", ("configuration",), ("change",), None),
    "UserLogonFailed": ("auth", ("authentication",), ("start", "denied"), "failure"),
    "UserLogon": ("auth", ("authentication",), ("start",), "success"),
    "UserLogoff": ("auth", ("authentication",), ("end",), "success"),
    "UserIdentity": ("auth", ("session",), ("info",), None),
    "SsoUserLogon": ("auth", ("authentication",), ("start",), "success"),
    "ActiveDirectoryAuthenticationFailure": ("auth", ("authentication",), ("start", "denied"), "failure"),
    "ActiveDirectoryInteractiveDomainLogon": ("auth", ("authentication",), ("start",), "success"),
    "ActiveDirectoryAuthentication": ("auth", ("authentication",), ("start",), "success"),
    "ActiveDirectoryServiceAccess": ("auth", ("authentication",), ("start",), "success"),
    "ActiveDirectoryAccount": ("iam", ("iam",), ("user", "change"), None),
    "UserAccountAddedToGroup": ("iam", ("iam",), ("group", "change"), None),
    "UserAccountCreated": ("iam", ("iam",), ("user", "creation"), None),
    "UserAccountDeleted": ("iam", ("iam",), ("user", "deletion"), None),
    "UserAccount": ("iam", ("iam",), ("user", "change"), None),
    "GroupIdentity": ("iam", ("iam",), ("group", "info"), None),
    "Reg": ("registry", ("registry",), ("change",), None),
    "Asep": ("registry", ("registry",), ("change",), None),
    "AsepFileChange": ("file", ("file",), ("change",), None),
    "ClassifiedModuleLoad": ("library", ("library",), ("start",), None),
    "ImageHash": ("library", ("library",), ("start",), None),
    "UnsignedModuleLoad": ("library", ("library",), ("start",), None),
    "DriverLoad": ("driver", ("driver",), ("start",), None),
    "KextLoad": ("driver", ("driver",), ("start",), None),
    "ScheduledTask": ("config", ("configuration",), ("change",), None),
    "CreateService": ("config", ("configuration",), ("creation",), None),
    "ModifyService": ("config", ("configuration",), ("change",), None),
    "LfoUploadDataComplete": ("file", ("file",), ("info",), None),
    "LFODownloadConfirmation": ("file", ("file",), ("creation",), None),
    "NewExecutableRenamed": ("file", ("file",), ("change",), None),
    "New": ("file", ("file",), ("creation",), None),
    "ExecutableDeleted": ("file", ("file",), ("deletion",), None),
    "FileDelete": ("file", ("file",), ("deletion",), None),
    "FileRename": ("file", ("file",), ("change",), None),
    "CriticalFile": ("file", ("file",), ("access",), None),
    "RansomwareOpenFile": ("file", ("file", "malware"), ("access",), None),
    "DirectoryCreate": ("file", ("file",), ("creation",), None),
    "Quarantine": ("file", ("file", "malware"), ("info",), None),
    "RemovableMedia": ("device", ("host",), ("info",), None),
    "DcUsb": ("device", ("host",), ("info",), None),
    "FsVolume": ("device", ("host",), ("change",), None),
    "ErrorEvent": ("sensor", ("host",), ("error",), "failure"),
    "Agent": ("sensor", ("host",), ("info",), None),
    "Sensor": ("sensor", ("host",), ("info",), None),
}
_WRITTEN: Meaning = ("file", ("file",), ("creation",), None)
_HOST: Meaning = ("host", ("host",), ("info",), None)

# Streams: eventType -> kind, category, type.
_STREAMS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "AuthActivityAuditEvent": ("audit", ("authentication",), ("info",)),
    "UserActivityAuditEvent": ("audit", ("iam",), ("change",)),
    "APIActivityAuditEvent": ("audit", ("web",), ("access",)),
    "RemoteResponseSessionStartEvent": ("response", ("network", "session"), ("start",)),
    "RemoteResponseSessionEndEvent": ("response", ("network", "session"), ("end",)),
    "FirewallMatchEvent": ("firewall", ("network",), ("connection", "start")),
    "IncidentSummaryEvent": ("incident", ("intrusion_detection",), ("info",)),
    "IdentityProtectionEvent": ("incident", ("intrusion_detection",), ("info",)),
    "IdpDetectionSummaryEvent": ("detection", ("intrusion_detection",), ("info",)),
    "CustomerIOCEvent": ("detection", ("threat",), ("indicator",)),
    "HashSpreadingEvent": ("detection", ("malware",), ("info",)),
}
_DETECTION = ("detection", ("malware",), ("info",))
_LOGONS = {  # OperationName, in small letters
    "userauthenticate", "twofactorauthenticate", "saml2assert", "ssouserlogin", "userlogin",
}  # fmt: skip
_STREAM_TIMES = (
    "UTCTimestamp", "ProcessStartTime", "StartTimestamp", "ContextTimeStamp", "MatchTimestamp", "EndTimestamp",
    "IncidentStartTime", "StartTime", "Timestamp",
)  # fmt: skip
_TELEMETRY_TIMES = (
    "ContextTimeStamp",
    "timestamp",
    "UTCTimestamp",
    "_time",
    "AgentLocalTime",
    "ProcessStartTime",
    "Time",
)
_ALERT_TIMES = (
    "timestamp",
    "created_timestamp",
    "context_timestamp",
    "last_behavior",
    "created_time",
    "first_behavior",
)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_SHAPES: tuple[tuple[str, ...], ...] = (
    ('"event_simpleName"', '"aid"'),
    ('"event_simpleName"', '"cid"'),
    ('"metadata"', '"customerIDString"', '"event"'),
    ('"aid"', '"cid"', '"event_platform"'),
    ('"discoverer_aid"', '"cid"'),
    ('"composite_id"', '"cid"'),
    ('"detection_id"', '"behaviors"', '"device"'),
)
_ALERTED = {"composite_id", "detection_id", "incident_id"}


def sniff(text: str) -> bool:
    return any(all(key in text for key in shape) for shape in _SHAPES)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    found, damaged = json_log.logs(text, _LISTS)
    events = []
    for log in found:
        inner = log.get("event")
        if type(inner) is dict:
            events.append(_streamed(log, inner, text, origin, damaged))
        elif not _ALERTED.isdisjoint(log) and ("device" in log or "cid" in log):
            events.append(_alerted(log, text, origin, damaged))
        elif "event_simpleName" in log or "aid" in log or ("cid" in log and "_time" in log):
            events.append(_replicated(log, text, origin, damaged))
    if not events:
        raise ParseError("no Falcon event: neither a stream's event nor event_simpleName nor an alert")
    return events


def _streamed(log: Log, inner: Log, text: str, origin: Origin, damaged: bool) -> Event:
    about = part(log, "metadata")
    name = text_of(about.get("eventType")) or ""
    kind, category, types = _STREAMS.get(name) or (_DETECTION if "Detection" in name else ("stream", (), ("info",)))
    operation = text_of(inner.get("OperationName"))
    action, outcome = _snake(name) or None, None
    if name == "AuthActivityAuditEvent" and operation is not None:
        action = _snake(operation)
        if operation.lower() in _LOGONS:
            types = ("start",)
    if name == "IncidentSummaryEvent":
        action = "incident"
    elif kind == "detection":
        action = text_of(inner.get("PatternDispositionDescription")) or action
    for key in ("Success", "AttemptOutcome"):
        said = inner.get(key)
        if said in (True, False, "true", "false", "True", "False"):
            outcome = "success" if str(said).lower() == "true" else "failure"
    if outcome == "failure" and types == ("start",):
        types = ("start", "denied")
    source, destination = first(inner, "LocalIP", "LocalIPv6"), None
    ports: tuple[int | None, int | None] = (None, None)
    if "RemoteAddress" in inner:
        source, destination = first(inner, "LocalAddress"), first(inner, "RemoteAddress")
        ports = port(inner.get("LocalPort")), port(inner.get("RemotePort"))
        if word(inner.get("ConnectionDirection")) == "1":  # inbound: the other end began
            source, destination, ports = destination, source, (ports[1], ports[0])
        if kind == "firewall" and word(inner.get("RuleAction")) == "2":
            types, outcome = ("connection", "denied"), "failure"
    source = first(inner, "UserIp", "SourceEndpointIpAddress") or source
    user = first(inner, "UserName", "UserId", "SourceAccountName", "UserPrincipal")
    protocol = word(inner.get("Protocol"))
    return Event(
        _when(about.get("eventCreationTime")) or _moment(inner, _STREAM_TIMES) or json_log.head(text, origin)[0],
        NAME,
        f"crowdstrike.{kind}",
        category,
        types,
        action,
        outcome,
        text_of(inner.get("EventType")) if kind == "firewall" else None,
        first(inner, "DetectDescription", "Description", "Message"),
        first(inner, "ComputerName", "Hostname", "HostnameField", "HostName", "SourceEndpointHostName"),
        user,
        first(inner, "SourceAccountDomain", "LogonDomain"),
        address(source),
        ports[0],
        None,
        address(destination),
        ports[1],
        None,
        None if protocol is None else TRANSPORTS.get(protocol),
        first(inner, "FileName") or program(text_of(inner.get("ImageFileName"))),
        number(inner.get("ProcessId")) or number(inner.get("PID")),
        first(inner, "ImageFileName"),
        first(inner, "CommandLine"),
        program(first(inner, "ParentImageFileName")),
        first(inner, "FilePath"),
        service_name="falcon" if category == ("authentication",) else None,
        fields=Lazy(_stream_fields, log, inner, damaged),
    )


def _replicated(log: Log, text: str, origin: Origin, damaged: bool) -> Event:
    get = log.get
    name = text_of(get("event_simpleName"))
    kind, category, types, outcome = _HOST if name is None else _meaning(name)
    image = text_of(get("ImageFileName")) if kind != "library" else None
    source = first(log, "LocalAddressIP4", "LocalAddressIP6", "CurrentLocalIP")
    if source is not None and " " in source:  # several addresses of one machine
        source = text_of(get("CurrentLocalIP")) or source.partition(" ")[0]
    if kind == "auth":
        source = first(log, "RemoteAddressIP4", "RemoteAddressIP6") or source
    user, domain = first(log, "UserName"), text_of(get("LogonDomain"))
    if user is None and (principal := first(log, "UserPrincipal")) is not None and kind != "network":
        user, domain = account(principal)
    protocol = word(get("Protocol"))
    pid = number(get("RawProcessId"))
    path = text_of(get("DownloadPath"))
    return Event(
        _moment(log, _TELEMETRY_TIMES) or json_log.head(text, origin)[0],
        NAME,
        f"crowdstrike.{kind}",
        category,
        types,
        name,
        outcome,
        None,
        None,
        first(log, "ComputerName", "HostName"),
        user,
        domain,
        address(source),
        port(get("LocalPort")),
        None,
        address(first(log, "RemoteAddressIP4", "RemoteAddressIP6")) if kind != "auth" else None,
        port(get("RemotePort")),
        None,
        None if protocol is None else TRANSPORTS.get(protocol),
        program(image) or first(log, "ContextBaseFileName", "FileName"),
        pid if pid is not None else number(get("EtwRawProcessId")),
        image,
        first(log, "CommandLine", "CommandHistory"),
        text_of(get("ParentBaseFileName")),
        first(log, "TargetFileName", "SourceFileName") or (first(log, "ImageFileName") if kind == "library" else None),
        path if path is not None and path[0] == "/" else None,
        service_name="windows" if kind == "auth" and outcome is not None else None,
        fields=Lazy(_replicated_fields, log, damaged),
    )


def _alerted(log: Log, text: str, origin: Origin, damaged: bool) -> Event:
    """An alert, detection or incident of the interface of the same name."""
    device, behavior = part(log, "device") or part(log, "hosts"), part(log, "behaviors")
    said = {**behavior, **{key: value for key, value in log.items() if value not in (None, "")}}
    network = part(log, "network_accesses")
    return Event(
        _moment(log, _ALERT_TIMES) or _moment(behavior, _ALERT_TIMES) or json_log.head(text, origin)[0],
        NAME,
        "crowdstrike.incident" if "incident_id" in log and "composite_id" not in log else "crowdstrike.alert",
        ("malware",) if "sha256" in said else ("intrusion_detection",),
        ("info",),
        first(said, "pattern_disposition_description", "scenario", "type", "status"),
        None,
        None,
        first(said, "description", "display_name", "name"),
        first(device, "hostname") or first(said, "hostname", "source_endpoint_host_name"),
        first(said, "user_name", "source_account_name"),
        first(said, "logon_domain", "source_account_domain"),
        address(first(said, "source_endpoint_address_ip4"))
        or address(network.get("local_address") or device.get("local_ip")),
        port(network.get("local_port")),
        None,
        address(network.get("remote_address")),
        port(network.get("remote_port")),
        process_name=first(said, "filename"),
        process_pid=number(said.get("local_process_id")),
        process_command_line=first(said, "cmdline"),
        process_parent_name=program(first(part(log, "parent_details"), "filename", "filepath")),
        file_path=first(said, "filepath"),
        fields=Lazy(_alert_fields, log, said, device, damaged),
    )


@lru_cache(maxsize=REMEMBERED_MAX)
def _meaning(name: str) -> Meaning:
    best = max((start for start in _TELEMETRY if name.startswith(start)), key=len, default=None)
    if best is not None:
        return _TELEMETRY[best]
    return _WRITTEN if name.endswith("FileWritten") else _HOST


@lru_cache(maxsize=REMEMBERED_MAX)
def _snake(name: str) -> str:
    return _WORDS.sub("_", name).lower()


def _when(value: Any) -> float | None:
    """As `json_log.instant`; also counts of 100 ns since 1601, and 0 for a time that is not known."""
    count = number(value)
    if count is not None and FILETIME_MIN < count < FILETIME_MAX:
        return count / 1e7 - _FILETIME_EPOCH_S
    return instant(value) or None


def _moment(log: Log, keys: tuple[str, ...]) -> float | None:
    return next((at for key in keys if (at := _when(log.get(key))) is not None), None)


def _stream_fields(log: Log, inner: Log, damaged: bool) -> Log:
    fields = flat({key: value for key, value in log.items() if key != "event"}, NAME) | flat(inner, NAME)
    items = parts(inner, "AuditKeyValues")
    named = json_log.pairs(items, ("Key",), ("ValueString", "ValueInt"))
    fields |= {f"AuditKeyValues.{name}": value for name, value in named.items() if name not in {"Key", "ValueString"}}
    user = first(inner, "UserName", "UserId")
    fields |= stated(
        event__kind="alert" if "Detect" in str(part(log, "metadata").get("eventType")) else None,
        event__severity=number(inner.get("Severity")),
        event__url=first(inner, "FalconHostLink"),
        event__provider=first(inner, "ServiceName"),
        rule__name=first(inner, "DetectName", "Name", "RuleName"),
        rule__id=first(inner, "DetectId", "RuleId"),
        rule__ruleset=first(inner, "PolicyName", "RuleGroupName"),
        user__email=user if user is not None and "@" in user else None,
        user__target__name=named.get("target_name") or named.get("target_user") or first(inner, "TargetAccountName"),
        host__id=first(inner, "SensorId", "AgentId", "DeviceId"),
        process__parent__pid=number(inner.get("ParentProcessId")),
        process__parent__command_line=first(inner, "ParentCommandLine"),
        file__name=first(inner, "FileName"),
        file__hash__md5=first(inner, "MD5String"),
        file__hash__sha1=first(inner, "SHA1String"),
        file__hash__sha256=first(inner, "SHA256String"),
        threat__tactic__name=first(inner, "Tactic"),
        threat__technique__name=first(inner, "Technique"),
        observer__vendor="CrowdStrike",
        shield__truncated=damaged or None,
    )
    return fields


def _replicated_fields(log: Log, damaged: bool) -> Log:
    fields = flat(log, NAME)
    server, path = first(log, "DownloadServer"), first(log, "DownloadPath")
    process = "process" if "RawProcessId" in log else "file"
    fields |= stated(
        event__id=first(log, "id"),
        host__id=first(log, "aid"),
        host__os__type={"win": "windows", "mac": "macos", "lin": "linux"}.get(str(log.get("event_platform")).lower()),
        observer__ip=address(log.get("aip")),
        user__id=first(log, "UserSid", "UID"),
        process__entity_id=first(log, "TargetProcessId", "ContextProcessId"),
        process__parent__entity_id=first(log, "ParentProcessId"),
        dns__question__name=first(log, "DomainName"),
        registry__key=first(log, "RegObjectName"),
        registry__value=first(log, "RegValueName"),
        url__original=f"https://{server}{path}" if server is not None and path is not None else None,
        observer__vendor="CrowdStrike",
        shield__truncated=damaged or None,
    )
    for name in ("MD5", "SHA1", "SHA256"):
        digest = first(log, f"{name}HashData")
        if digest is not None and digest.strip("0"):
            fields[f"{process}.hash.{name.lower()}"] = digest
    return fields


def _alert_fields(log: Log, said: Log, device: Log, damaged: bool) -> Log:
    fields = flat(log, NAME)
    fields |= stated(
        event__kind="alert",
        event__id=first(log, "composite_id", "detection_id", "incident_id"),
        event__severity=number(said.get("severity")),
        event__url=first(log, "falcon_host_link"),
        rule__name=first(said, "display_name", "name", "scenario"),
        rule__id=word(said.get("pattern_id")) or first(said, "behavior_id"),
        host__id=first(device, "device_id"),
        host__os__name=first(device, "os_version", "platform_name"),
        user__id=first(said, "user_id"),
        process__parent__command_line=first(part(log, "parent_details"), "cmdline"),
        file__name=first(said, "filename"),
        file__hash__md5=first(said, "md5"),
        file__hash__sha256=first(said, "sha256"),
        threat__tactic__name=first(said, "tactic"),
        threat__tactic__id=first(said, "tactic_id"),
        threat__technique__name=first(said, "technique"),
        threat__technique__id=first(said, "technique_id"),
        observer__vendor="CrowdStrike",
        shield__truncated=damaged or None,
    )
    return fields
