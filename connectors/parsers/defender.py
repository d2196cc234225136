"""Microsoft Defender XDR: advanced hunting tables (streaming API, Log Analytics), incidents, and alerts of Defender products.

Columns and keys stay in `fields` under Microsoft's names (`InitiatingProcessCommandLine`). Each alert of an incident is an
event. Of a process event the starting process is the parent; of all other events it is the process itself.
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
    moment,
    number,
    part,
    parts,
    port,
    stated,
    text_of,
    texts,
)

NAME = "defender"

_ENVELOPES = ("ms-graph",)  # Wazuh
_LISTS = ("records", "value", "Results", "results")
_HUNTING = "AdvancedHunting-"

Meaning = tuple[str, tuple[str, ...], tuple[str, ...]]
_TABLES: dict[str, Meaning] = {
    "DeviceProcessEvents": ("process", ("process",), ("start",)),
    "DeviceNetworkEvents": ("network", ("network",), ("connection", "start")),
    "DeviceFileEvents": ("file", ("file",), ("change",)),
    "DeviceRegistryEvents": ("registry", ("registry",), ("change",)),
    "DeviceLogonEvents": ("logon", ("authentication",), ("start",)),
    "DeviceImageLoadEvents": ("library", ("library",), ("start",)),
    "DeviceEvents": ("device", ("host",), ("info",)),
    "DeviceInfo": ("info", ("host",), ("info",)),
    "DeviceNetworkInfo": ("info", ("host",), ("info",)),
    "DeviceFileCertificateInfo": ("info", ("file",), ("info",)),
    "DeviceTvmSoftwareVulnerabilities": ("vulnerability", ("vulnerability",), ("info",)),
    "IdentityLogonEvents": ("logon", ("authentication",), ("start",)),
    "IdentityQueryEvents": ("identity", ("iam",), ("info",)),
    "IdentityDirectoryEvents": ("identity", ("iam",), ("change",)),
    "IdentityInfo": ("info", ("iam",), ("user", "info")),
    "AADSignInEventsBeta": ("logon", ("authentication",), ("start",)),
    "AADSpnSignInEventsBeta": ("logon", ("authentication",), ("start",)),
    "CloudAppEvents": ("cloud_app", ("web",), ("info",)),
    "OAuthAppInfo": ("info", ("iam",), ("info",)),
    "EmailEvents": ("email", ("email",), ("info",)),
    "EmailUrlInfo": ("email", ("email",), ("info",)),
    "EmailAttachmentInfo": ("email", ("email", "file"), ("info",)),
    "EmailPostDeliveryEvents": ("email", ("email",), ("change",)),
    "UrlClickEvents": ("url", ("web", "email"), ("access",)),
    "AlertInfo": ("alert", ("intrusion_detection",), ("info",)),
    "AlertEvidence": ("alert", ("intrusion_detection",), ("info",)),
    "BehaviorInfo": ("alert", ("intrusion_detection",), ("info",)),
    "BehaviorEntities": ("alert", ("intrusion_detection",), ("info",)),
}
_SERVICES = {"DeviceLogonEvents": "windows", "IdentityLogonEvents": "ad"}
_FILE_TYPES = {
    "FileCreated": ("creation",), "FileDeleted": ("deletion",), "FileRenamed": ("change",), "FileModified": ("change",),
    "RegistryKeyCreated": ("creation",), "RegistryKeyDeleted": ("deletion",), "RegistryValueDeleted": ("deletion",),
}  # fmt: skip
_CONNECTIONS = {
    "ConnectionFailed": (("connection", "denied"), "failure"),
    "InboundConnectionBlocked": (("connection", "denied"), "failure"),
    "ConnectionSuccess": (("connection", "start"), "success"),
    "InboundConnectionAccepted": (("connection", "start"), "success"),
    "ListeningConnectionCreated": (("info",), None),
}
_TIMES = ("Timestamp", "TimeGenerated", "timestamp", "time")
_ALERT_TIMES = (
    "lastUpdateDateTime", "lastUpdateTime", "lastUpdatedTime", "LastProcessedTimeUtc", "createdDateTime", "createdTime",
    "alertCreationTime", "creationTime", "AlertTime", "lastEventTime",
)  # fmt: skip
_SEVERITIES = {"informational": 10, "unspecified": 10, "low": 30, "medium": 50, "high": 70, "critical": 90}
_MALWARE = {"malware", "ransomware", "unwantedsoftware", "exploit"}

# Rows of a table carry its name in LA exports; a bare row of a query is told by its columns, the most telling first.
_BY_COLUMNS = (
    ({"LogonType", "LogonId", "DeviceId"}, "DeviceLogonEvents"),
    ({"RegistryKey", "ReportId", "DeviceId"}, "DeviceRegistryEvents"),
    ({"RemotePort", "LocalPort", "DeviceId"}, "DeviceNetworkEvents"),
    ({"ProcessCreationTime", "ProcessCommandLine", "ProcessTokenElevation"}, "DeviceProcessEvents"),
    ({"PreviousFileName", "RequestProtocol"}, "DeviceFileEvents"),
    ({"SenderFromAddress", "EmailDirection"}, "EmailEvents"),
    ({"ActionType", "DeviceId", "ReportId"}, "DeviceEvents"),
)
_TYPE = re.compile(r'"(?:Type|\$table)" ?: ?"(\w{4,64})"')
_SHAPES: tuple[tuple[str, ...], ...] = (
    ('"DeviceId"', '"ActionType"', '"ReportId"'),
    ('"alertCreationTime"', '"machineId"'),
    ('"incidentId"', '"serviceSource"', '"severity"'),
    ('"incidentWebUrl"', '"lastUpdateDateTime"'),
    ('"incidentId"', '"incidentName"', '"severity"'),
    ('"AlertTitle"', '"LinkToWDATP"'),
)
REMEMBERED_MAX = 4096  # action types whose writing is kept


def sniff(text: str) -> bool:
    if _HUNTING in text or "#microsoft.graph.security." in text:
        return True
    if (table := _TYPE.search(text)) is not None and table[1] in _TABLES:
        return True
    return any(all(key in text for key in shape) for shape in _SHAPES)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    found, damaged = json_log.logs(text, _LISTS, _ENVELOPES)
    events: list[Event] = []
    for log in found:
        table = _table(log)
        if table is not None:
            events.append(_hunted(table, log, text, origin, damaged))
        elif (alerts := parts(log, "alerts")) and ("incidentId" in log or "displayName" in log or "id" in log):
            events += [_alert(alert, log, text, origin, damaged) for alert in alerts]
        elif _is_alert(log):
            events.append(_alert(log, {}, text, origin, damaged))
    if not events:
        raise ParseError("no Defender record: neither a hunting table nor an incident nor an alert")
    return events


def _table(log: Log) -> str | None:
    category = log.get("category")
    if type(category) is str and category.startswith(_HUNTING):
        return category.removeprefix(_HUNTING)
    for key in ("Type", "$table"):
        if type(name := log.get(key)) is str and name in _TABLES:
            return name
    if "Timestamp" in log or "TimeGenerated" in log:
        return next((table for columns, table in _BY_COLUMNS if columns <= log.keys()), None)
    return None


def _is_alert(log: Log) -> bool:
    keys = ("alertCreationTime", "serviceSource", "incidentWebUrl", "incidentName", "LinkToWDATP", "detectionSource")
    return any(key in log for key in keys)


def _hunted(table: str, log: Log, text: str, origin: Origin, damaged: bool) -> Event:
    row = part(log, "properties") or log
    get = row.get
    kind, category, types = _TABLES.get(table) or ("hunting", (), ("info",))
    action = text_of(get("ActionType"))
    outcome: str | None = None
    name, executable, command, pid, parent = _process(table, row)
    source, source_port = address(get("LocalIP")), port(get("LocalPort"))
    destination, destination_port = address(get("RemoteIP")), port(get("RemotePort"))
    if kind == "logon":
        outcome, types = _logon(row, action)
        source, source_port = destination or source, destination_port
        destination = destination_port = None
    elif kind == "network":
        types, outcome = _CONNECTIONS.get(action or "", (types, None))
        if action is not None and action.startswith("Inbound"):  # the other end began
            source, source_port, destination, destination_port = destination, destination_port, source, source_port
    elif action is not None:
        types = _FILE_TYPES.get(action, types)
    for key in ("IPAddress", "RequestSourceIP", "SenderIPv4", "SenderIPv6"):
        source = source or address(get(key))
    destination = destination or address(get("DestinationIPAddress"))
    user = first(
        row, "AccountName", "RequestAccountName", "InitiatingProcessAccountName", "AccountUpn", "AccountDisplayName"
    )
    url = first(row, "Url", "RemoteUrl", "FileOriginUrl")
    protocol = text_of(get("Protocol"))
    return Event(
        moment(row, _TIMES, 0.0) or moment(log, _TIMES, 0.0) or json_log.head(text, origin)[0],
        NAME,
        f"defender.{kind}",
        category,
        types,
        None if action is None else _action(action),
        outcome,
        None,
        first(row, "Title", "Subject"),
        _lower(first(row, "DeviceName", "TargetDeviceName", "EndpointDeviceName")),
        None if user is None else account(user)[0] if "\\" in user else user,
        first(row, "AccountDomain", "RequestAccountDomain", "InitiatingProcessAccountDomain"),
        source,
        source_port if source_port is not None else port(get("Port")) or port(get("RequestSourcePort")),
        None,
        destination,
        destination_port if destination_port is not None else port(get("DestinationPort")),
        None,
        _transport(protocol),
        name,
        pid,
        executable,
        command,
        parent,
        text_of(get("FolderPath")) if kind not in {"process", "network", "logon"} else None,
        None if url is None else json_log.url_path(url),
        service_name=_SERVICES.get(table, "entra") if kind == "logon" else None,
        fields=Lazy(_hunted_fields, log, row, table, url, damaged),
    )


def _process(table: str, row: Log) -> tuple[str | None, str | None, str | None, int | None, str | None]:
    """Name, path, command line and number of the process, and its parent's name."""
    starter = first(row, "InitiatingProcessFileName")
    pid, command = number(row.get("ProcessId")), first(row, "ProcessCommandLine")
    if table == "DeviceProcessEvents" or (table == "DeviceEvents" and (pid is not None or command is not None)):
        return first(row, "FileName"), first(row, "FolderPath"), command, pid, starter
    return (
        starter,
        first(row, "InitiatingProcessFolderPath"),
        command or first(row, "InitiatingProcessCommandLine"),
        pid if pid is not None else number(row.get("InitiatingProcessId")),
        first(row, "InitiatingProcessParentFileName"),
    )


def _logon(row: Log, action: str | None) -> tuple[str | None, tuple[str, ...]]:
    said = (action or "").lower()
    code = number(row.get("ErrorCode"))
    if "fail" in said or (not said and code) or first(row, "FailureReason") is not None:
        return "failure", ("start", "denied")
    if "attempt" in said:
        return "unknown", ("start",)
    return ("success" if said or code == 0 else None), ("start",)


def _alert(alert: Log, incident: Log, text: str, origin: Origin, damaged: bool) -> Event:
    """An alert of Graph, of an incident or of the endpoint's own interface; an incident without alerts passes for one."""
    evidence = [
        *parts(alert, "evidence"),
        *parts(alert, "entities"),
        *parts(alert, "devices"),
        *parts(alert, "Entities"),
    ]
    users = [part(item, "userAccount") for item in evidence]
    files = [part(item, key) for item in evidence for key in ("fileDetails", "imageFile")]
    related = part(alert, "relatedUser")
    user = (
        first(related, "userName")
        or _any(users, "accountName")
        or _any(evidence, "accountName")
        or first(alert, "UserName")
        or _any([user for item in evidence for user in parts(item, "loggedOnUsers")], "accountName")
    )
    host = first(alert, "computerDnsName", "ComputerDnsName") or _any(evidence, "deviceDnsName", "hostName")
    category = first(alert, "category", "Category")
    kind = "alert" if incident or ("incidentName" not in alert and "redirectIncidentId" not in alert) else "incident"
    action = _any(evidence, "detectionStatus") or category or first(alert, "status")
    pid = next((value for item in evidence if (value := number(item.get("processId"))) is not None), None)
    at = moment(incident, _ALERT_TIMES, 0.0) or moment(alert, _ALERT_TIMES, 0.0)
    return Event(
        at or json_log.head(text, origin)[0],
        NAME,
        f"defender.{kind}",
        ("malware",) if category is not None and category.lower() in _MALWARE else ("intrusion_detection",),
        ("info",),
        action,
        None,
        None,
        first(alert, "title", "incidentName", "displayName", "AlertTitle"),
        _lower(host),
        None if user is None else account(user)[0] if "\\" in user else user,
        first(related, "domainName") or _any(users, "domainName") or _any(evidence, "domainName"),
        next((ip for item in evidence if (ip := address(item.get("ipAddress"))) is not None), None),
        process_name=_any([part(item, "imageFile") for item in evidence], "fileName") or _process_file(evidence),
        process_pid=pid,
        process_command_line=_any(evidence, "processCommandLine"),
        file_path=_any(files, "filePath") or _any(evidence, "filePath"),
        url_path=None if (url := _any(evidence, "url")) is None else json_log.url_path(url),
        fields=Lazy(_alert_fields, alert, incident, evidence, files, damaged),
    )


def _hunted_fields(log: Log, row: Log, table: str, url: str | None, damaged: bool) -> Log:
    fields = flat(row, NAME)
    protocol = text_of(row.get("Protocol"))
    process = table in {"DeviceProcessEvents", "DeviceEvents"}
    hashes = "process" if table == "DeviceProcessEvents" else "file"
    fields |= stated(
        event__kind="alert" if table.startswith(("Alert", "Behavior")) else None,
        event__id=first(row, "ReportId", "AlertId"),
        event__provider=first(row, "ServiceSource", "Application"),
        event__reason=first(row, "FailureReason"),
        host__id=first(row, "DeviceId"),
        host__os__name=first(row, "OSPlatform"),
        host__ip=address(row.get("PublicIP")),
        user__id=first(row, "AccountSid", "AccountObjectId"),
        user__email=first(row, "AccountUpn"),
        user__target__name=first(row, "TargetAccountUpn", "TargetAccountDisplayName"),
        process__parent__pid=number(row.get("InitiatingProcessId" if process else "InitiatingProcessParentId")),
        process__parent__executable=first(row, "InitiatingProcessFolderPath") if process else None,
        process__parent__command_line=first(row, "InitiatingProcessCommandLine") if process else None,
        file__name=first(row, "FileName"),
        file__size=number(row.get("FileSize")),
        registry__key=first(row, "RegistryKey"),
        registry__value=first(row, "RegistryValueName"),
        registry__data__strings=first(row, "RegistryValueData"),
        network__protocol=None if protocol is None else protocol.lower(),
        destination__domain=first(row, "DestinationDeviceName", "RemoteDeviceName"),
        url__original=url,
        url__domain=first(row, "UrlDomain"),
        email__subject=first(row, "Subject"),
        email__from__address=first(row, "SenderFromAddress", "SenderMailFromAddress"),
        email__to__address=first(row, "RecipientEmailAddress"),
        email__message_id=first(row, "InternetMessageId"),
        rule__name=first(row, "Title"),
        threat__technique__name=first(row, "AttackTechniques"),
        user_agent__original=first(row, "UserAgent"),
        organization__id=first(log, "tenantId", "TenantId"),
        observer__vendor="Microsoft",
        shield__truncated=damaged or None,
    )
    for name in ("MD5", "SHA1", "SHA256"):
        if (digest := first(row, name)) is not None:
            fields[f"{hashes}.hash.{name.lower()}"] = digest
    return fields


def _alert_fields(alert: Log, incident: Log, evidence: list[Log], files: list[Log], damaged: bool) -> Log:
    fields = flat(alert, NAME)
    if incident:
        around = {key: value for key, value in incident.items() if key != "alerts"}
        fields |= flat(around, NAME, "incident.")
    severity = first(alert, "severity", "Severity")
    fields |= stated(
        event__kind="alert",
        event__id=first(alert, "id", "alertId", "AlertId"),
        event__provider=first(alert, "serviceSource", "detectionSource"),
        event__severity=_SEVERITIES.get((severity or "").lower()),
        event__url=first(alert, "alertWebUrl", "incidentWebUrl", "LinkToWDATP"),
        rule__name=first(alert, "title", "AlertTitle", "incidentName", "displayName"),
        rule__description=first(alert, "description"),
        threat__technique__id=texts(alert.get("mitreTechniques")),
        threat__tactic__name=first(alert, "category"),
        threat__software__name=first(alert, "threatDisplayName", "threatFamilyName"),
        host__id=first(alert, "machineId") or _any(evidence, "mdeDeviceId"),
        file__name=_any(files, "fileName") or _any(evidence, "fileName"),
        file__hash__sha1=_any(files, "sha1") or _any(evidence, "sha1"),
        file__hash__sha256=_any(files, "sha256") or _any(evidence, "sha256"),
        url__original=_any(evidence, "url"),
        email__subject=_any(evidence, "subject"),
        observer__vendor="Microsoft",
        shield__truncated=damaged or None,
    )
    return fields


def _any(items: list[Log], *keys: str) -> str | None:
    return next((value for item in items if (value := first(item, *keys)) is not None), None)


def _process_file(evidence: list[Log]) -> str | None:
    """The file's name of a process in the evidence of the endpoint's own interface."""
    return next((first(item, "fileName") for item in evidence if item.get("entityType") == "Process"), None)


@lru_cache(maxsize=REMEMBERED_MAX)
def _action(text: str) -> str:
    return text.lower().replace(" ", "-")


def _lower(text: Any) -> str | None:
    return text.lower() if type(text) is str else None


def _transport(protocol: str | None) -> str | None:
    low = (protocol or "").lower()
    return "tcp" if low.startswith("tcp") else "udp" if low.startswith("udp") else low if low == "icmp" else None
