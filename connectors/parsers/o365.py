"""Microsoft 365 unified audit log: Exchange, SharePoint, OneDrive, Teams, Entra ID, Purview and Defender for Office records.

Reads the Management Activity API, Search-UnifiedAuditLog exports, Graph audit queries and what Wazuh and Filebeat make of
them. The record's own names stay in `fields`; lists of Name and Value are also there as `Parameters.ForwardTo`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from connectors import json_log
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import (
    Log,
    account,
    as_json,
    endpoint,
    first,
    flat,
    moment,
    parts,
    stated,
    text_of,
    url_path,
    word,
)

NAME = "o365"

_LISTS_OF_EVENTS = ("records", "value")
_ENVELOPES = ("office365", "o365.audit")  # Wazuh, Filebeat

# RecordType -> its name in Microsoft's schema, which is event.code; exports also write the name.
_RECORD_TYPES = """
1 ExchangeAdmin, 2 ExchangeItem, 3 ExchangeItemGroup, 4 SharePoint, 5 SyntheticProbe,
6 SharePointFileOperation, 7 OneDrive, 8 AzureActiveDirectory, 9 AzureActiveDirectoryAccountLogon,
10 DataCenterSecurityCmdlet, 11 ComplianceDLPSharePoint, 12 Sway, 13 ComplianceDLPExchange,
14 SharePointSharingOperation, 15 AzureActiveDirectoryStsLogon, 16 SkypeForBusinessPSTNUsage,
17 SkypeForBusinessUsersBlocked, 18 SecurityComplianceCenterEOPCmdlet, 19 ExchangeAggregatedOperation,
20 PowerBIAudit, 21 CRM, 22 Yammer, 23 SkypeForBusinessCmdlets, 24 Discovery, 25 MicrosoftTeams,
28 ThreatIntelligence, 29 MailSubmission, 30 MicrosoftFlow, 31 AeD, 32 MicrosoftStream,
33 ComplianceDLPSharePointClassification, 34 ThreatFinder, 35 Project, 36 SharePointListOperation,
37 SharePointCommentOperation, 38 DataGovernance, 39 Kaizala, 40 SecurityComplianceAlerts,
41 ThreatIntelligenceUrl, 42 SecurityComplianceInsights, 43 MIPLabel, 44 WorkplaceAnalytics, 45 PowerAppsApp,
46 PowerAppsPlan, 47 ThreatIntelligenceAtpContent, 48 LabelContentExplorer, 49 TeamsHealthcare,
50 ExchangeItemAggregated, 51 HygieneEvent, 52 DataInsightsRestApiAudit,
53 InformationBarrierPolicyApplication, 54 SharePointListItemOperation, 55 SharePointContentTypeOperation,
56 SharePointFieldOperation, 57 MicrosoftTeamsAdmin, 58 HRSignal, 59 MicrosoftTeamsDevice,
60 MicrosoftTeamsAnalytics, 61 InformationWorkerProtection, 62 Campaign, 63 DLPEndpoint, 64 AirInvestigation,
65 Quarantine, 66 MicrosoftForms, 67 ApplicationAudit, 68 ComplianceSupervisionExchange,
69 CustomerKeyServiceEncryption, 70 OfficeNative, 71 MipAutoLabelSharePointItem,
72 MipAutoLabelSharePointPolicyLocation, 73 MicrosoftTeamsShifts, 75 MipAutoLabelExchangeItem,
76 CortanaBriefing, 78 WDATPAlerts, 82 SensitivityLabelPolicyMatch, 83 SensitivityLabelAction,
84 SensitivityLabeledFileAction, 85 AttackSim, 86 AirManualInvestigation, 87 SecurityComplianceRBAC,
88 UserTraining, 89 AirAdminActionInvestigation, 90 MSTIC, 91 PhysicalBadgingSignal, 93 AipDiscover,
94 AipSensitivityLabelAction, 95 AipProtectionAction, 96 AipFileDeleted, 97 AipHeartBeat, 98 MCASAlerts,
99 OnPremisesFileShareScannerDlp, 100 OnPremisesSharePointScannerDlp, 101 ExchangeSearch, 102 SharePointSearch,
103 PrivacyInsights, 105 MyAnalyticsSettings, 106 SecurityComplianceUserChange,
107 ComplianceDLPExchangeClassification, 109 MipExactDataMatch, 113 MS365DCustomDetection,
147 CoreReportingSettings, 148 ComplianceConnector, 154 OMEPortal, 174 DataShareOperation,
181 EduDataLakeDownloadOperation, 183 MicrosoftGraphDataConnectOperation, 186 PowerPagesSite, 188 PlannerPlan,
189 PlannerCopyPlan, 190 PlannerTask, 191 PlannerRoster, 192 PlannerPlanList, 193 PlannerTaskList,
194 PlannerTenantSettings, 195 ProjectForTheWebProject, 196 ProjectForTheWebTask, 197 ProjectForTheWebRoadmap,
198 ProjectForTheWebRoadmapItem, 199 ProjectForTheWebProjectSettings, 200 ProjectForTheWebRoadmapSettings,
216 VivaGoals, 217 MicrosoftGraphDataConnectConsent, 230 TeamsUpdates, 231 PlannerRosterSensitivityLabel
"""
RECORD_TYPES = dict(pair.split() for pair in _RECORD_TYPES.split(","))

Meaning = tuple[str, tuple[str, ...], tuple[str, ...]]
_AUTH, _IAM, _FILE, _WEB, _MAIL, _CONFIG = (
    ("authentication",), ("iam",), ("file",), ("web",), ("email",), ("configuration",),
)  # fmt: skip
_START, _INFO, _ACCESS, _CHANGE, _CREATION, _DELETION = (
    ("start",), ("info",), ("access",), ("change",), ("creation",), ("deletion",),
)  # fmt: skip
_OPERATIONS: dict[str, Meaning] = {
    "UserLoggedIn": ("auth", _AUTH, _START),
    "UserLoginFailed": ("auth", _AUTH, _START),
    "MailboxLogin": ("auth", _AUTH, _START),
    "ForeignRealmIndexLogonInitialAuthUsingADFSFederatedToken": ("auth", _AUTH, _START),
    "SignInEvent": ("auth", _AUTH, _INFO),
    "TeamsSessionStarted": ("auth", _AUTH, _INFO),
    "UserLoggedOff": ("auth", _AUTH, ("end",)),
    "Add user.": ("iam", _IAM, ("user", "creation")),
    "Delete user.": ("iam", _IAM, ("user", "deletion")),
    "Hard Delete user.": ("iam", _IAM, ("user", "deletion")),
    "Add group.": ("iam", _IAM, ("group", "creation")),
    "Delete group.": ("iam", _IAM, ("group", "deletion")),
    "Update group.": ("iam", _IAM, ("group", "change")),
    "Add member to group.": ("iam", _IAM, ("group", "change")),
    "Remove member from group.": ("iam", _IAM, ("group", "change")),
    "Add member to role.": ("iam", _IAM, ("admin", "change")),
    "Remove member from role.": ("iam", _IAM, ("admin", "change")),
    "MailItemsAccessed": ("mailbox", _MAIL, _ACCESS),
    "Send": ("mailbox", _MAIL, _INFO),
    "SendAs": ("mailbox", _MAIL, _INFO),
    "SendOnBehalf": ("mailbox", _MAIL, _INFO),
    "New-InboxRule": ("mailbox", _MAIL, _CREATION),
    "Set-InboxRule": ("mailbox", _MAIL, _CHANGE),
    "UpdateInboxRules": ("mailbox", _MAIL, _CHANGE),
}
_STARTS = (  # start of an operation's name -> type of a file event
    (("FileAccessed", "FilePreviewed", "FileDownloaded", "FileSyncDownloaded", "FileCheckOutDiscarded"), _ACCESS),
    (("FileUploaded", "FileSyncUploaded", "FileCopied", "FileRestored", "FolderCreated", "FolderCopied"), _CREATION),
    (("FileDeleted", "FileRecycled", "FolderDeleted", "FolderRecycled", "FileVersionsAllDeleted"), _DELETION),
    (("File", "Folder"), _CHANGE),
)
_RECORDS: dict[str, Meaning] = {  # start of a record type's name -> where the operation does not say more
    "AzureActiveDirectoryStsLogon": ("auth", _AUTH, _INFO),
    "AzureActiveDirectoryAccountLogon": ("auth", _AUTH, _START),
    "AzureActiveDirectory": ("iam", _IAM, ("user", "change")),
    "SecurityComplianceUserChange": ("iam", _IAM, ("user", "change")),
    "ExchangeAdmin": ("exchange", _CONFIG, _CHANGE),
    "ExchangeItem": ("mailbox", _MAIL, _CHANGE),
    "ExchangeSearch": ("mailbox", _MAIL, _ACCESS),
    "SharePointSharing": ("sharing", _FILE, _CHANGE),
    "SharePointSearch": ("sharepoint", _WEB, _ACCESS),
    "SharePoint": ("sharepoint", _WEB, _ACCESS),
    "OneDrive": ("sharepoint", _FILE, _ACCESS),
    "ThreatIntelligence": ("threat", ("email", "threat"), ("indicator",)),
    "ComplianceDLP": ("dlp", _FILE, _INFO),
    "DLPEndpoint": ("dlp", _FILE, _INFO),
    "SecurityComplianceAlerts": ("alert", ("intrusion_detection",), _INFO),
    "MCASAlerts": ("alert", ("intrusion_detection",), _INFO),
    "WDATPAlerts": ("alert", ("intrusion_detection",), _INFO),
    "SecurityComplianceCenterEOPCmdlet": ("compliance", _CONFIG, _CHANGE),
    "SecurityComplianceRBAC": ("compliance", _IAM, ("admin", "change")),
    "MicrosoftTeams": ("teams", _WEB, _INFO),
    "Quarantine": ("quarantine", _MAIL, _INFO),
}
_FAILED = {"failed", "failure", "false", "error", "denied"}
_SUCCEEDED = {"succeeded", "success", "true", "partiallysucceeded", "ok"}
_KNOWN_BY = {"RecordType", "auditLogRecordType", "Operation", "subscription_name"}  # the last: Wazuh's own state
_LISTS = ("Parameters", "ExtendedProperties", "OperationProperties", "DeviceProperties", "ModifiedProperties")
_ADDRESSES = ("ClientIP", "ClientIPAddress", "ActorIpAddress", "SenderIp", "clientIp", "ClientIp")
_TIMES = ("CreationTime", "CreationDate", "createdDateTime", "TimeGenerated")
REMEMBERED_MAX = 4096  # operations whose meaning is kept


def sniff(text: str) -> bool:
    if '"Workload"' in text and '"RecordType"' in text and '"CreationTime"' in text and '"Id"' in text:
        return True
    if ('"integration"' in text and '"office365"' in text) or ('"AuditData"' in text and '"RecordType"' in text):
        return True
    return '"auditLogRecordType"' in text and '"auditData"' in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    found, damaged = json_log.logs(text, _LISTS_OF_EVENTS, _ENVELOPES)
    events = []
    for log in found:
        record = log
        carried = log.get("AuditData")
        if type(carried) is str and carried[:1] == "{":  # an export: the record is text within it
            (inner, *_), cut = json_log.logs(carried)
            record = {**inner, "ResultIndex": log.get("ResultIndex")} if inner else log
            damaged = damaged or cut
        elif type(data := log.get("auditData")) is dict:
            record = {**log, **data}
        if not _KNOWN_BY.isdisjoint(record):
            events.append(_event(record, text, origin, damaged))
    if not events:
        raise ParseError("no Microsoft 365 audit record: no RecordType and no Operation")
    return events


def _event(log: Log, text: str, origin: Origin, damaged: bool) -> Event:
    get = log.get
    record = word(get("RecordType")) or word(get("auditLogRecordType"))
    code = None if record is None else RECORD_TYPES.get(record) or record[:1].upper() + record[1:]
    action = first(log, "Operation", "operation", "Operations")
    kind, category, types = _meaning(action or "", code or "")
    outcome = _outcome(log, action)
    if outcome == "failure" and types is _START:
        types = ("start", "denied")
    user = first(log, "UserId", "userPrincipalName", "UserIds", "MailboxOwnerUPN", "UserKey")
    name, domain = (None, None) if user is None or user == "Not Available" else account(user)
    source, port = None, None
    for key in _ADDRESSES:
        if (stated_address := text_of(get(key))) is not None:
            source, port = endpoint(stated_address)
            if source is not None:
                break
    url = _url(log)
    at = moment(log, _TIMES, 0.0)
    return Event(
        at or json_log.head(text, origin)[0],
        NAME,
        f"o365.{kind}",
        category,
        types,
        action,
        outcome,
        code,
        first(log, "Name", "Comments", "Subject") if kind in {"alert", "threat"} else None,
        first(log, "DeviceName"),
        name,
        domain,
        source,
        port,
        process_name=first(log, "Application") if kind == "dlp" else None,
        file_path=_path(log, kind),
        url_path=None if url is None else url_path(url),
        service_name="m365" if category is _AUTH else None,
        fields=Lazy(_fields, log, user, url, damaged),
    )


@lru_cache(maxsize=REMEMBERED_MAX)
def _meaning(action: str, code: str) -> Meaning:
    known = _OPERATIONS.get(action)
    if known is not None:
        return known
    if code.startswith(("SharePointFile", "OneDrive", "SharePoint")):
        change = next((change for starts, change in _STARTS if action.startswith(starts)), None)
        if change is not None:
            return "sharepoint", _FILE, change
    best = max((start for start in _RECORDS if code.startswith(start)), key=len, default=None)
    kind, category, types = _RECORDS[best] if best is not None else ("audit", (), _INFO)
    if category is _CONFIG or category is _IAM:
        verb = action.partition("-")[0].partition(" ")[0].lower()
        made = {"new": "creation", "add": "creation", "remove": "deletion", "delete": "deletion", "get": "access"}.get(
            verb
        )
        if made is not None:
            types = (*types[:-1], made)
    return kind, category, types


def _outcome(log: Log, action: str | None) -> str | None:
    """`Succeeded` of a logon only says that the service answered: LogonError and the operation's name count."""
    if action == "UserLoginFailed" or text_of(log.get("LogonError")) is not None:
        return "failure"
    said = word(log.get("ResultStatus"))
    if said is None:
        if log.get("IsSuccess") is False or log.get("Succeeded") is False:
            return "failure"
        return "success" if action is not None else None
    low = said.lower()
    return "success" if low in _SUCCEEDED else "failure" if low in _FAILED else "unknown"


def _url(log: Log) -> str | None:
    for key in ("Url", "ObjectId", "SiteUrl", "objectId"):
        value = text_of(log.get(key))
        if value is not None and value.startswith(("https://", "http://")):
            return value
    return None


def _path(log: Log, kind: str) -> str | None:
    name = first(log, "SourceFileName")
    if name is None:
        stated_path = first(log, "FilePath", "TargetFilePath", "ObjectId") if kind == "dlp" else first(log, "FilePath")
        return None if stated_path is None or "://" in stated_path else stated_path
    folder = first(log, "SourceRelativeUrl")
    return name if folder is None else f"{folder.rstrip('/')}/{name}"


def _fields(log: Log, user: str | None, url: str | None, damaged: bool) -> Log:
    fields = flat(log, NAME)
    for key in _LISTS:
        items = parts(log, key)
        if items:
            fields[key] = [as_json(item) for item in items]  # rules also search the whole
            named = json_log.pairs(items, ("Name", "name"), ("Value", "NewValue", "value"))
            fields |= {f"{key}.{name}": value for name, value in named.items() if name not in {"Name", "Value"}}
    extended: dict[str, Any] = {key: fields.get(f"ExtendedProperties.{key}") for key in ("UserAgent", "RequestType")}
    target = first(log, "TargetUserOrGroupName", "MemberUpn")
    fields |= stated(
        event__id=text_of(log.get("Id")) or text_of(log.get("id")),
        event__provider=text_of(log.get("Workload")),
        event__reason=first(log, "LogonError", "ErrorMessage", "ResultReason"),
        user__id=user,
        user__email=user if user is not None and "@" in user else None,
        user__target__name=None if target is None else account(target)[0],
        user_agent__original=text_of(log.get("UserAgent")) or text_of(extended["UserAgent"]),
        client__application=first(log, "ClientInfoString", "ClientAppName", "ApplicationDisplayName"),
        organization__id=text_of(log.get("OrganizationId")),
        url__original=url,
        file__name=first(log, "SourceFileName", "FileName"),
        file__extension=first(log, "SourceFileExtension", "FileExtension"),
        file__directory=text_of(log.get("SourceRelativeUrl")),
        email__subject=text_of(log.get("Subject")),
        email__from__address=text_of(log.get("P2Sender")) or text_of(log.get("P1Sender")),
        rule__name=text_of(log.get("Name")) if "AlertId" in log else None,
        eventSource=text_of(log.get("Workload")) if "AlertId" in log else None,
        eventName=text_of(log.get("Name")) if "AlertId" in log else None,
        status="success" if "AlertId" in log else None,
        observer__vendor="Microsoft",
        shield__truncated=damaged or None,
    )
    if fields.get("RequestType") is None and text_of(extended["RequestType"]) is not None:
        fields["RequestType"] = extended["RequestType"]
    return fields
