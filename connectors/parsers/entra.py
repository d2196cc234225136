"""Microsoft Entra ID (Azure AD): sign-ins, directory audit, risk detections and Azure activity, as JSON.

Reads diagnostic settings (Event Hub, storage), Microsoft Graph and Log Analytics exports. Names stay as each of them
writes them; those that Sigma rules use (`ResultType`, `properties.message`, `riskEventType`) are there for all.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from connectors import json_log
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import Log, account, as_json, first, flat, moment, part, parts, stated, text_of, word
from connectors.tolerant_json import decode

NAME = "entra"
REMEMBERED_MAX = 4096  # operations whose meaning is kept

_ENVELOPES = ("ms-graph",)  # Wazuh
_LISTS = ("records", "value", "resourceLogs")

# Category of a diagnostic setting (a table of Log Analytics in lower case) -> kind.
_CATEGORIES = {
    "signinlogs": "signinlogs",
    "noninteractiveusersigninlogs": "signinlogs_noninteractive",
    "aadnoninteractiveusersigninlogs": "signinlogs_noninteractive",
    "serviceprincipalsigninlogs": "signinlogs_serviceprincipal",
    "aadserviceprincipalsigninlogs": "signinlogs_serviceprincipal",
    "managedidentitysigninlogs": "signinlogs_managedidentity",
    "aadmanagedidentitysigninlogs": "signinlogs_managedidentity",
    "microsoftserviceprincipalsigninlogs": "signinlogs_serviceprincipal",
    "adfssigninlogs": "signinlogs_adfs",
    "auditlogs": "auditlogs",
    "provisioninglogs": "provisioninglogs",
    "aadprovisioninglogs": "provisioninglogs",
    "userriskevents": "riskdetection",
    "aaduserriskevents": "riskdetection",
    "serviceprincipalriskevents": "riskdetection",
    "riskyusers": "riskyusers",
    "aadriskyusers": "riskyusers",
    "riskyserviceprincipals": "riskyusers",
    "microsoftgraphactivitylogs": "graphactivity",
    "administrative": "activitylogs",
    "azureactivity": "activitylogs",
    "action": "activitylogs",
    "write": "activitylogs",
    "delete": "activitylogs",
    "policy": "activitylogs",
    "servicehealth": "activitylogs",
    "resourcehealth": "activitylogs",
    "recommendation": "activitylogs",
    "autoscale": "activitylogs",
    "security": "activitylogs",
    "alert": "activitylogs",
}
_AUTH, _START, _DENIED, _INFO = ("authentication",), ("start",), ("start", "denied"), ("info",)
_VERBS = {
    "add": "creation", "create": "creation", "invite": "creation", "register": "creation", "bulk": "change",
    "delete": "deletion", "hard": "deletion", "remove": "deletion", "unregister": "deletion", "read": "info",
    "get": "info", "download": "info",
}  # fmt: skip
_SUBJECTS = (("role", "admin"), ("group", "group"), ("user", "user"), ("password", "user"), ("security info", "user"))
# Codes that interrupt a sign-in to ask for more (a second factor, consent, an account): neither success nor failure.
_INTERRUPTS = {
    "16000", "16001", "16003", "50058", "50059", "50072", "50074", "50076", "50079", "50097", "50125", "50127", "50129",
    "50140", "50203", "65001", "65004",
}  # fmt: skip
_TIMES = (
    "createdDateTime",
    "CreatedDateTime",
    "activityDateTime",
    "ActivityDateTime",
    "detectedDateTime",
    "eventTimestamp",
)
_RECORD_TIMES = ("time", "TimeGenerated", "createdDateTime", "riskLastUpdatedDateTime", "detectedDateTime")
_OUTCOMES = {
    "success": "success", "succeeded": "success", "start": "unknown", "started": "unknown", "accept": "success",
    "accepted": "success", "failure": "failure", "failed": "failure", "fail": "failure", "timeout": "failure",
}  # fmt: skip

_CATEGORY = re.compile(r'"[cC]ategory(?:Value)?" ?: ?"([A-Za-z]{3,48})"|"Type" ?: ?"([A-Za-z]{3,48})"')
_SHAPES: tuple[tuple[str, ...], ...] = (  # what Graph's own objects have
    ('"userPrincipalName"', '"appDisplayName"', '"conditionalAccessStatus"'),
    ('"activityDisplayName"', '"loggedByService"'),
    ('"riskEventType"', '"riskLevel"'),
    ('"UserPrincipalName"', '"AppDisplayName"', '"ResultType"'),
    ('"OperationName"', '"LoggedByService"'),
)


def sniff(text: str) -> bool:
    if '"resourceId"' in text or '"ResourceId"' in text or '"_ResourceId"' in text or '"AadTenantId"' in text:
        for category in _CATEGORY.finditer(text):
            if (category[1] or category[2]).lower() in _CATEGORIES:
                return True
    return any(all(key in text for key in shape) for shape in _SHAPES)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    found, damaged = json_log.logs(text, _LISTS, _ENVELOPES)
    events = [event for log in found if (event := _event(log, text, origin, damaged)) is not None]
    if not events:
        raise ParseError("no Entra or Azure log: neither a known category nor an object of Microsoft Graph")
    return events


def _event(log: Log, text: str, origin: Origin, damaged: bool) -> Event | None:
    body = _body(log)
    kind = _kind(log, body)
    if kind is None:
        return None
    action = _action(log, body, kind)
    who = _who(log, body, kind)
    name, domain = (None, None) if who is None else account(who)
    source, port = None, None
    for value in (
        log.get("callerIpAddress"), body.get("ipAddress"), log.get("CallerIpAddress"), log.get("IPAddress"),
        _caller(body), body.get("IPAddress"), log.get("callerIpaddr"),
    ):  # fmt: skip
        if type(value) is str and value:
            source, port = json_log.endpoint(value)
            if source is not None:
                break
    category: tuple[str, ...]
    types: tuple[str, ...]
    if kind.startswith("signinlogs"):
        outcome = _signin_outcome(log, body)
        category, types = _AUTH, _DENIED if outcome == "failure" else _START
    else:
        outcome = _outcome(log, body)
        category, types = _meaning(kind, action or "", first(body, "category", "Category") or "")
    at = moment(body, _TIMES, 0.0) or moment(log, _RECORD_TIMES, 0.0) or json_log.head(text, origin)[0]
    url = text_of(body.get("requestUri"))
    return Event(
        at,
        NAME,
        f"entra.{kind}",
        category,
        types,
        action,
        outcome,
        None,
        _message(log, body, kind),
        text_of(_device(body).get("displayName")),
        name,
        domain,
        source,
        port,
        url_path=None if url is None else json_log.url_path(url),
        http_response_status_code=json_log.number(body.get("responseStatusCode")) if url is not None else None,
        service_name="entra" if category is _AUTH else None,
        fields=Lazy(_fields, log, body, kind, who, damaged),
    )


def _body(log: Log) -> Log:
    """What a record carries: its `properties`, also where they are text; for Graph and Log Analytics the record itself."""
    return _object(log, "properties") or log


def _kind(log: Log, body: Log) -> str | None:
    for key in ("category", "Type", "Category", "CategoryValue"):
        value = log.get(key)
        if (
            type(value) is str
            and (kind := _CATEGORIES.get(value.lower())) is not None
            and "activityDisplayName" not in log
        ):
            return kind
    if "riskEventType" in body or "RiskEventType" in body:
        return "riskdetection"
    if "activityDisplayName" in body or "LoggedByService" in body or "loggedByService" in body:
        return "auditlogs"
    if "conditionalAccessStatus" in body or "appDisplayName" in body or "ConditionalAccessStatus" in body:
        return "signinlogs" if body.get("isInteractive") is not False else "signinlogs_noninteractive"
    if "riskLevel" in body and "userPrincipalName" in body:
        return "riskyusers"
    if "operationName" in log and ("resourceId" in log or "identity" in log):
        return "azure"
    return None


def _action(log: Log, body: Log, kind: str) -> str | None:
    if kind == "riskdetection":
        return first(body, "riskEventType", "RiskEventType")
    operation = log.get("operationName")
    if type(operation) is dict:  # the activity log's REST form
        operation = operation.get("value")
    stated_action = (
        text_of(operation)
        or first(body, "activityDisplayName", "OperationName", "OperationNameValue")
        or first(log, "OperationName", "OperationNameValue")
    )
    return stated_action or ("Sign-in activity" if kind.startswith("signinlogs") else None)


def _who(log: Log, body: Log, kind: str) -> str | None:
    """The account that signed in, acted or is at risk: its mail-like name, else its display name."""
    name = first(body, "userPrincipalName", "UserPrincipalName", "alternateSignInName")
    if name is None and kind == "auditlogs":
        by = _initiated_by(body)
        user, app = part(by, "user"), part(by, "app")
        name = first(user, "userPrincipalName", "displayName") or first(app, "displayName", "servicePrincipalName")
    if name is None and kind in {"activitylogs", "azure"}:
        name = _claimed(log) or first(log, "Caller", "caller")
    if name is None:
        name = (
            first(body, "servicePrincipalName", "ServicePrincipalName", "appDisplayName") if "signin" in kind else None
        )
    if name is None:
        identity = log.get("identity")
        name = text_of(identity) if type(identity) is str else first(log, "Identity", "userDisplayName")
    return name


def _claimed(log: Log) -> str | None:
    claims = part(part(log, "identity"), "claims")
    for key in claims:
        if key.endswith(("/upn", "/name", "/emailaddress")) and (value := text_of(claims[key])) is not None:
            return value
    return first(claims, "upn", "unique_name", "name", "appid")


def _initiated_by(body: Log) -> Log:
    return _object(body, "initiatedBy", "InitiatedBy")


def _caller(body: Log) -> Any:
    return part(_initiated_by(body), "user").get("ipAddress")


def _device(body: Log) -> Log:
    return _object(body, "deviceDetail", "DeviceDetail")


def _status(body: Log) -> Log:
    return _object(body, "status", "Status")


def _object(body: Log, *keys: str) -> Log:
    """An object under the first of these keys, also where Log Analytics carries it as text."""
    carried = None
    for key in keys:
        if (carried := body.get(key)) is not None:
            break
    if type(carried) is str and carried[:1] == "{":
        carried, _ = decode(carried)
    return carried if type(carried) is dict else {}


def _code(log: Log, body: Log) -> str | None:
    """The number of the sign-in's result; 0 is success."""
    code = word(_status(body).get("errorCode"))
    return code or _first_word(log, "resultType", "ResultType") or _first_word(body, "resultType", "ResultType")


def _first_word(log: Log, *keys: str) -> str | None:
    for key in keys:
        if key in log and (value := word(log[key])) is not None:
            return value
    return None


def _signin_outcome(log: Log, body: Log) -> str | None:
    code = _code(log, body)
    if code is None:
        return None
    return "success" if code in {"0", "Success"} else "unknown" if code in _INTERRUPTS else "failure"


def _outcome(log: Log, body: Log) -> str | None:
    for key, where in (("result", body), ("Result", body), ("resultType", log), ("ActivityStatusValue", log)):
        if (said := text_of(where.get(key))) is not None and (outcome := _OUTCOMES.get(said.lower())) is not None:
            return outcome
    state = text_of(part(body, "statusInfo").get("status")) or text_of(part(log, "status").get("value"))
    return None if state is None else _OUTCOMES.get(state.lower())


@lru_cache(maxsize=REMEMBERED_MAX)
def _meaning(kind: str, action: str, about: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if kind in {"riskdetection", "riskyusers"}:
        return ("iam", "threat"), ("user", "indicator")
    if kind == "graphactivity":
        return ("web",), ("access",)
    if kind in {"activitylogs", "azure"}:
        last = action.rpartition("/")[2].lower()
        return ("configuration",), ({"write": "change", "delete": "deletion"}.get(last, "info"),)
    low = action.lower()
    verb = _VERBS.get(low.partition(" ")[0], "change")
    if about in {"Policy", "ApplicationManagement", "DirectoryManagement", "Device"} and " to role" not in low:
        return ("configuration",), (verb,)
    whom = next((whom for said, whom in _SUBJECTS if said in low), "user")
    return ("iam",), (whom, "change" if " to " in low or " from " in low else verb)


def _message(log: Log, body: Log, kind: str) -> str | None:
    if kind.startswith("signinlogs"):
        return text_of(_status(body).get("failureReason")) or first(log, "resultDescription", "ResultDescription")
    return first(body, "resultReason", "activityDisplayName", "riskDetail") or first(log, "resultDescription")


def _fields(log: Log, body: Log, kind: str, who: str | None, damaged: bool) -> Log:
    """The names of the record and of what it carries; `properties.` is also left off, as Graph writes them."""
    carried = body is not log
    fields = flat({key: value for key, value in log.items() if key != "properties"}, NAME) if carried else {}
    fields = flat(body, NAME) | fields
    status, device = _status(body), _device(body)
    code = _code(log, body)
    if kind.startswith("signinlogs"):
        _for_signin_rules(fields, log, body, code)
    elif kind == "auditlogs":
        _for_audit_rules(fields, log, body)
    place = part(body, "location")
    user = part(_initiated_by(body), "user")
    targets = parts(body, "targetResources")
    target = next((item for item in targets if text_of(item.get("userPrincipalName")) is not None), {})
    upn = text_of(target.get("userPrincipalName"))
    fields |= stated(
        user__id=first(body, "userId", "UserId") or text_of(user.get("id")),
        user__full_name=first(body, "userDisplayName", "UserDisplayName"),
        user__email=who if who is not None and "@" in who else None,
        user__target__name=None if upn is None else account(upn)[0],
        user_agent__original=first(body, "userAgent", "UserAgent"),
        event__id=first(body, "id", "Id") or first(log, "correlationId"),
        event__reason=text_of(status.get("failureReason")) or first(body, "resultReason", "ResultReason"),
        event__provider=first(body, "loggedByService", "LoggedByService"),
        error__code=code if code not in {None, "0"} and kind.startswith("signinlogs") else None,
        host__id=text_of(device.get("deviceId")),
        host__os__name=text_of(device.get("operatingSystem")),
        source__geo__country_iso_code=text_of(place.get("countryOrRegion")),
        source__geo__city_name=text_of(place.get("city")),
        url__original=text_of(body.get("requestUri")),
        http__request__method=text_of(body.get("requestMethod")),
        cloud__provider="azure",
        organization__id=first(log, "tenantId", "TenantId", "AADTenantId"),
        observer__vendor="Microsoft",
        shield__truncated=damaged or None,
    )
    return fields


def _for_signin_rules(fields: Log, log: Log, body: Log, code: str | None) -> None:
    """The column names of Log Analytics, which rules for sign-ins use."""
    number = None if code is None else json_log.number(code)
    said = text_of(_status(body).get("failureReason")) or first(log, "resultDescription")
    device = _device(body)
    about = {
        "ResultType": number if number is not None else code,
        "ResultDescription": said,
        "Status": "Success"
        if code == "0"
        else first(_status(body), "additionalDetails") or "Failure"
        if code
        else None,
        "AuthenticationRequirement": text_of(body.get("authenticationRequirement")),
        "ResourceDisplayName": text_of(body.get("resourceDisplayName")),
        "RiskState": text_of(body.get("riskState")),
        "ClientApp": first(body, "clientAppUsed", "ClientAppUsed"),
        "Username": first(body, "userPrincipalName", "UserPrincipalName"),
        "properties.message": first(body, "authenticationProtocol", "AuthenticationProtocol"),
        "NetworkLocationDetails": _written(body.get("networkLocationDetails")),
        "DeviceDetail.trusttype": device.get("trustType"),
        "DeviceDetail.deviceId": device.get("deviceId"),
        "DeviceDetail.isCompliant": device.get("isCompliant"),
    }
    for key, value in about.items():
        if value is not None:
            fields.setdefault(key, value)


def _for_audit_rules(fields: Log, log: Log, body: Log) -> None:
    """The column names of Log Analytics and `properties.message`, which rules for the directory audit use."""
    action = first(body, "activityDisplayName", "ActivityDisplayName") or first(log, "operationName", "OperationName")
    targets = body.get("targetResources", body.get("TargetResources"))
    changes = [change for target in parts(body, "targetResources") for change in parts(target, "modifiedProperties")]
    named = json_log.pairs(changes, ("displayName",), ("newValue",))
    about: Log = {
        "OperationName": action,
        "operationName": action,
        "ActivityDisplayName": action,
        "activityType": action,
        "properties.message": action,
        "properties.result": text_of(body.get("result")),
        "Category": first(body, "category"),
        "LoggedByService": text_of(body.get("loggedByService")),
        "Status": (text_of(body.get("result")) or "").capitalize() or None,
        "Initiatedby": first(part(_initiated_by(body), "user"), "userPrincipalName"),
        "TargetResources": _written(targets),
        "properties.targetResources": _written(targets),
        "TargetResources.modifiedProperties": _written(changes),
        "TargetResources.modifiedProperties.newValue": [value for value in named.values() if value is not None],
        "TargetResources.ModifiedProperties.DisplayName": list(named),
        "TargetResources.ModifiedProperties.NewValue": [value for value in named.values() if value is not None],
        "ConsentContext.IsAdminConsent": named.get("ConsentContext.IsAdminConsent"),
    }
    for key, value in about.items():
        if value is not None and value != []:
            fields.setdefault(key, value)


def _written(value: Any) -> str | None:
    return value if type(value) is str else as_json(value) if type(value) is list else None
