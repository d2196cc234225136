"""AWS CloudTrail: calls of the AWS API, console sign-ins, data events and insights, from files, CloudWatch or EventBridge.

The record's own names stay in `fields`, dotted (`userIdentity.arn`, `requestParameters.userName`).
"""

from collections.abc import Sequence
from typing import Any

from connectors import json_log
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import Log, account, address, as_json, flat, head, instant, number, part, stated, text_of

NAME = "cloudtrail"

_LISTS = ("Records", "records", "logEvents")
_ENVELOPES = ("detail",)  # EventBridge

Meaning = tuple[str, tuple[str, ...], tuple[str, ...]]
_AUTH, _IAM, _CONFIG, _START = ("authentication",), ("iam",), ("configuration",), ("start",)
_SIGNINS = {  # eventName of a logon; the others of their services are not
    "ConsoleLogin": _START,
    "CredentialVerification": _START,
    "UserAuthentication": _START,
    "CheckMfa": ("info",),
    "SwitchRole": _START,
    "ExitRole": ("end",),
    "RenewRole": ("info",),
    "GetSigninToken": ("info",),
    "Authenticate": _START,
    "Federate": _START,
    "Logout": ("end",),
    "SamlAssertion": _START,
    "AssumeRoleWithSAML": _START,
    "AssumeRoleWithWebIdentity": _START,
    "AssumeRoot": _START,
}
_IDENTITY_SOURCES = {
    "iam.amazonaws.com", "sso-directory.amazonaws.com", "identitystore.amazonaws.com", "cognito-idp.amazonaws.com",
    "organizations.amazonaws.com",
}  # fmt: skip
_DATA_SOURCES = {
    "s3.amazonaws.com": ("file",),
    "dynamodb.amazonaws.com": ("database",),
    "rds.amazonaws.com": ("database",),
}
_VERBS = (  # start of an eventName -> type
    (("Create", "Run", "Put", "Upload", "Register", "Import", "Allocate", "Copy"), "creation"),
    (("Delete", "Terminate", "Deregister", "Release", "Purge"), "deletion"),
    (
        ("Describe", "Get", "List", "Head", "Lookup", "Search", "View", "Query", "Scan", "Select", "Batch", "Test"),
        "access",
    ),
)
_ABOUT_USERS = ("User", "LoginProfile", "AccessKey", "MFADevice", "SSHPublicKey", "SigningCertificate")
_PERSONAL_ROLES = "AWSReservedSSO_"  # taken on by whom the session is named after


def sniff(text: str) -> bool:
    plain = '"eventSource"' in text and '"eventName"' in text and '"awsRegion"' in text
    return plain or ('"logEvents"' in text and '\\"eventSource\\"' in text and '\\"awsRegion\\"' in text)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    found, damaged = json_log.logs(text, _LISTS, _ENVELOPES)
    events = []
    for log in found:
        if (
            "eventSource" not in log and type(carried := log.get("message")) is str
        ):  # CloudWatch Logs carries it as text
            inner, cut = json_log.logs(carried) if carried[:1] == "{" else ([], False)
            events += [_event(record, text, origin, damaged or cut) for record in inner if "eventSource" in record]
        elif "eventSource" in log:
            events.append(_event(log, text, origin, damaged))
    if not events:
        raise ParseError("no CloudTrail record: no eventSource")
    return events


def _event(log: Log, text: str, origin: Origin, damaged: bool) -> Event:
    get = log.get
    action, provider = text_of(get("eventName")), text_of(get("eventSource"))
    kind, category, types = _meaning(log, action, provider)
    error = text_of(get("errorCode")) or text_of(get("errorMessage"))
    outcome = "success" if error is None else "failure"
    response = part(log, "responseElements")
    if action is not None and (said := text_of(response.get(action))) is not None:  # {"ConsoleLogin": "Failure"}
        outcome = {"failure": "failure", "success": "success"}.get(said.lower(), outcome)
    if outcome == "failure" and types is _START:
        types = ("start", "denied")
    name, domain = _user(log)
    extra = part(log, "additionalEventData")
    at = instant(get("eventTime"))
    return Event(
        head(text, origin)[0] if at is None else at,
        NAME,
        f"cloudtrail.{kind}",
        category,
        types,
        action,
        outcome,
        None,
        text_of(get("errorMessage")),
        None,
        name,
        domain,
        address(get("sourceIPAddress")),
        None,
        number(extra.get("bytesTransferredIn")),
        None,
        None,
        number(extra.get("bytesTransferredOut")),
        service_name="aws" if kind == "signin" else None,
        fields=Lazy(_fields, log, damaged),
    )


def _meaning(log: Log, action: str | None, provider: str | None) -> Meaning:
    name = action or ""
    if (types := _SIGNINS.get(name)) is not None:
        return "signin", _AUTH, types
    verb = next((made for starts, made in _VERBS if name.startswith(starts)), "change")
    if provider in _IDENTITY_SOURCES:
        whom = "group" if "Group" in name else "user" if any(word in name for word in _ABOUT_USERS) else "admin"
        return "iam", _IAM, (whom, "info" if verb == "access" else verb)
    if log.get("eventCategory") == "Insight":
        return "insight", ("threat",), ("indicator",)
    if log.get("eventCategory") == "NetworkActivity":
        return "network", ("network",), ("access",)
    if log.get("eventCategory") == "Data" or log.get("managementEvent") is False:
        return "data", _DATA_SOURCES.get(provider or "", ()), (verb,)
    return "management", _CONFIG, (verb,)


def _user(log: Log) -> tuple[str | None, str | None]:
    """The user's name, else that of the role that was taken on, else the one typed at the sign-in, else the session's."""
    identity = part(log, "userIdentity")
    issuer = part(part(identity, "sessionContext"), "sessionIssuer")
    role = text_of(issuer.get("userName"))
    name = (
        text_of(identity.get("userName"))
        or (None if role is not None and role.startswith(_PERSONAL_ROLES) else role)
        or text_of(part(log, "additionalEventData").get("UserName"))
    )
    if name is not None:
        return name, None
    kind = identity.get("type")
    if kind == "Root":
        return "root", None
    session = text_of(identity.get("principalId")) or text_of(identity.get("arn"))
    if kind in {"AssumedRole", "SAMLUser", "WebIdentityUser", "FederatedUser"} and session is not None:
        return account(session.rpartition(":")[2].rpartition("/")[2]) if ":" in session else (session, None)
    return None, None


def _fields(log: Log, damaged: bool) -> Log:
    fields = flat(log, NAME)
    for key in ("requestParameters", "responseElements", "additionalEventData", "serviceEventDetails"):
        value: Any = log.get(key)
        if type(value) is dict and value:
            fields[key] = as_json(value)  # rules also search the whole
    identity, request, tls = part(log, "userIdentity"), part(log, "requestParameters"), part(log, "tlsDetails")
    fields |= stated(
        event__id=text_of(log.get("eventID")),
        event__provider=text_of(log.get("eventSource")),
        event__reason=text_of(log.get("errorMessage")),
        error__code=text_of(log.get("errorCode")),
        user__id=text_of(identity.get("principalId")),
        user__target__name=text_of(request.get("userName")),
        user__target__group__name=text_of(request.get("groupName")),
        user__changes__name=text_of(request.get("newUserName")),
        user_agent__original=text_of(log.get("userAgent")),
        source__address=text_of(log.get("sourceIPAddress")),
        cloud__provider="aws",
        cloud__region=text_of(log.get("awsRegion")),
        cloud__account__id=text_of(log.get("recipientAccountId")) or text_of(identity.get("accountId")),
        tls__version=text_of(tls.get("tlsVersion")),
        tls__cipher=text_of(tls.get("cipherSuite")),
        tls__client__server_name=text_of(tls.get("clientProvidedHostHeader")),
        observer__vendor="AWS",
        shield__truncated=damaged or None,
    )
    return fields
