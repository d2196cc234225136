"""AD FS audit events (1200-1207, 411, 412, 516) among Windows events: who signed in from where, and whether it worked.

Windows' own keyword is "Audit Success" for all of them; the result stands in the audit document that the event carries.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from connectors.events import Event
from connectors.json_log import account, endpoint

PROVIDERS = {"AD FS Auditing", "AD FS"}
DATA_MAX = 16  # texts of one event that are looked at

_PART = re.compile(
    r"<(AuditResult|AuditType|FailureType|ErrorCode|RelyingParty|UserId|IpAddress|ForwardedIpAddress|UserAgentString|"
    r"Endpoint|AuthProtocol|NetworkLocation|PrimaryAuth)>([^<]{0,1024})</"
)
_PATHS = {
    "FailureType": "event.reason", "RelyingParty": "adfs.relying_party", "UserAgentString": "user_agent.original",
    "Endpoint": "url.original", "AuthProtocol": "adfs.protocol", "NetworkLocation": "adfs.network_location",
}  # fmt: skip
_OUTCOMES = {"Success": "success", "Failure": "failure"}
_ABSENT = {"", "N/A", "None", "-"}
_LOGONS = {"1200", "1201", "1202", "1203"}  # a token or fresh credentials, granted or refused
_LOGOUTS = {"1206", "1207"}
_USER = re.compile(r"(?:[\w.-]{1,64}\\)?[\w.+-]{1,128}(?:@[\w.-]{1,255})?")


def refined(event: Event) -> Event:
    """An event with what AD FS states in it; others as they are."""
    if event.fields.get("winlog.provider_name") not in PROVIDERS or event.event_code is None:
        return event
    data = _data(event.fields)
    if event.event_code in {"411", "412", "516"}:
        return _numbered(event, data)
    audit = next((dict(_PART.findall(text)) for text in data if "<AuditBase" in text), None)
    if audit is None:
        return event
    outcome = _OUTCOMES.get(audit.get("AuditResult", ""))
    logon = event.event_code in _LOGONS
    types = ("end",) if event.event_code in _LOGOUTS else ("start", "denied") if outcome == "failure" else ("start",)
    fields = {path: value for key, path in _PATHS.items() if (value := audit.get(key, "")) not in _ABSENT}
    shown = (
        audit.get("ForwardedIpAddress", "")
        if audit.get("ForwardedIpAddress") not in _ABSENT
        else audit.get("IpAddress", "")
    )
    return _with(
        event,
        audit.get("UserId", ""),
        shown,
        outcome,
        types if logon or event.event_code in _LOGOUTS else ("info",),
        fields,
    )


def _numbered(event: Event, data: list[str]) -> Event:
    """411 and 412: token, `user-why it failed`, addresses; 516 (a lockout): user, addresses."""
    if event.event_code == "516":
        user, shown, why = _at(data, 1), _at(data, 2), "account locked out"
    else:
        user, _, why = _at(data, 2).partition("-The ")
        user, shown = (_at(data, 4) or user), _at(data, 3)
        why = "The " + why if why else _at(data, 2)
    return _with(event, user, shown, "failure", ("start", "denied"), {"event.reason": why} if why else {})


def _with(
    event: Event, who: str, shown: str, outcome: str | None, types: tuple[str, ...], fields: Mapping[str, Any]
) -> Event:
    user, domain = account(who) if _USER.fullmatch(who) is not None else (None, None)
    source = next((ip for part in shown.split(",")[:8] if (ip := endpoint(part.strip())[0]) is not None), None)
    return msgspec.structs.replace(
        event,
        event_category=("authentication",),
        event_type=types,
        event_outcome=outcome or event.event_outcome,
        user_name=user or event.user_name,
        user_domain=domain or event.user_domain,
        source_ip=source or event.source_ip,
        service_name="adfs",
        fields={**event.fields, **fields},
    )


def _data(fields: Mapping[str, Any]) -> list[str]:
    listed = fields.get("Data")
    if isinstance(listed, list):
        return [text for text in listed[:DATA_MAX] if isinstance(text, str)]
    numbered = (fields.get(f"param{number}") for number in range(1, DATA_MAX + 1))
    return [text for text in numbered if isinstance(text, str)]


def _at(data: list[str], place: int) -> str:
    return data[place] if place < len(data) else ""
