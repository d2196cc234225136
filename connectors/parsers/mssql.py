"""Microsoft SQL Server: audit records and logons in the Windows application log, and the text of its ERRORLOG file."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple

from msgspec.structs import replace

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.parsers import windows

NAME = "mssql"
AUDIT_CHARS_MAX = 65_536  # of an audit record; statements beyond it are cut
PROVIDER_CHARS_MAX = 4096  # within which a Windows event names its provider

_HEAD_KEYS = (  # of an audit record, before the statement
    "audit_schema_version event_time sequence_number action_id succeeded is_column_permission session_id "
    "server_principal_id database_principal_id target_server_principal_id target_database_principal_id object_id "
    "user_defined_event_id transaction_id class_type duration_milliseconds response_rows affected_rows client_ip "
    "permission_bitmask sequence_group_id session_server_principal_name server_principal_name server_principal_sid "
    "database_principal_name target_server_principal_name target_server_principal_sid target_database_principal_name "
    "server_instance_name database_name schema_name object_name statement"
)
_TAIL_KEYS = (  # after it: searched from the end, since the statement is the user's own text
    "additional_information user_defined_information application_name connection_id data_sensitivity_information "
    "host_name session_context client_tls_version client_tls_version_name database_transaction_id "
    "ledger_start_sequence_number external_policy_permissions_checked obo_middle_tier_app_id is_local_secondary_replica"
)
_HEADS = frozenset(_HEAD_KEYS.split())
_TAILS = frozenset(_TAIL_KEYS.split())
_KEYS = _HEADS | _TAILS
_MARK = re.compile(r"[ \n\r\t]([a-z_]{6,40}+):")
_ADDRESS = re.compile(r"<address>([^<>]{2,64})</address>|\[CLIENT: ?([^\[\]]{2,64})\]")
_LOGIN = re.compile(r"Login (failed|succeeded) for user '([^']{0,256})'")
_OPTION = re.compile(r"Configuration option '([^']{1,128})' changed from (-?\d{1,20}) to (-?\d{1,20})")
_ERROR = re.compile(r"Error: (\d{1,10}), Severity: (\d{1,3}), State: (\d{1,10})")
_LINE = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{2,7})(?: ([+-]\d\d:?\d\d))? (Logon|Server|Backup|spid\d{1,6}s?) {1,16}(?=\S)"
)


class Meaning(NamedTuple):
    kind: str  # of event.dataset: mssql.<kind>
    action: str
    category: tuple[str, ...]
    type: tuple[str, ...]


_AUTH = ("authentication",)
_IAM = ("iam",)
_DATABASE = ("database",)
_CONFIG = ("configuration",)
_LOGON = Meaning("auth", "logon", _AUTH, ("start",))
_OTHER = Meaning("log", "message", _DATABASE, ("info",))
_AUDIT = Meaning("audit", "audit", _DATABASE, ("access",))

# Actions of the audit by their id.
ACTIONS: dict[str, Meaning] = {
    "LGIS": _LOGON,
    "LGIF": _LOGON,
    "DBAS": _LOGON,
    "DBAF": _LOGON,
    "LGO": Meaning("auth", "logoff", ("session",), ("end",)),
    "DBL": Meaning("auth", "logoff", ("session",), ("end",)),
    "IMP": Meaning("audit", "impersonate", _IAM, ("user", "info")),
    "PWR": Meaning("iam", "password-reset", _IAM, ("user", "change")),
    "PWRS": Meaning("iam", "own-password-reset", _IAM, ("user", "change")),
    "PWC": Meaning("iam", "password-changed", _IAM, ("user", "change")),
    "PWCS": Meaning("iam", "own-password-changed", _IAM, ("user", "change")),
    "PWEX": Meaning("iam", "password-expiration-changed", _IAM, ("user", "change")),
    "PWPL": Meaning("iam", "password-policy-changed", _IAM, ("user", "change")),
    "PWMC": Meaning("iam", "password-must-change", _IAM, ("user", "change")),
    "USAF": Meaning("iam", "user-transferred", _IAM, ("user", "change")),
    "CCLG": Meaning("iam", "credential-added-to-login", _IAM, ("user", "change")),
    "LGNM": Meaning("iam", "login-renamed", _IAM, ("user", "change")),
    "LGDB": Meaning("iam", "login-default-database-changed", _IAM, ("user", "change")),
    "LGEA": Meaning("iam", "login-enabled", _IAM, ("user", "change")),
    "LGDA": Meaning("iam", "login-disabled", _IAM, ("user", "change")),
    "APRL": Meaning("iam", "added-member-to-role", _IAM, ("group", "change")),
    "DPRL": Meaning("iam", "removed-member-from-role", _IAM, ("group", "change")),
    "G": Meaning("iam", "permission-granted", _IAM, ("change",)),
    "GWG": Meaning("iam", "permission-granted", _IAM, ("change",)),
    "R": Meaning("iam", "permission-revoked", _IAM, ("change",)),
    "RWG": Meaning("iam", "permission-revoked", _IAM, ("change",)),
    "D": Meaning("iam", "permission-denied", _IAM, ("change",)),
    "TO": Meaning("iam", "ownership-taken", _IAM, ("change",)),
    "CR": Meaning("audit", "create", _DATABASE, ("creation",)),
    "AL": Meaning("audit", "alter", _DATABASE, ("change",)),
    "DR": Meaning("audit", "drop", _DATABASE, ("deletion",)),
    "SL": Meaning("audit", "select", _DATABASE, ("access",)),
    "IN": Meaning("audit", "insert", _DATABASE, ("change",)),
    "UP": Meaning("audit", "update", _DATABASE, ("change",)),
    "DL": Meaning("audit", "delete", _DATABASE, ("change",)),
    "EX": Meaning("audit", "execute", _DATABASE, ("access",)),
    "BA": Meaning("audit", "backup-database", _DATABASE, ("access",)),
    "BAL": Meaning("audit", "backup-log", _DATABASE, ("access",)),
    "RS": Meaning("audit", "restore", _DATABASE, ("change",)),
    "DBCC": Meaning("audit", "dbcc", _DATABASE, ("access",)),
    "AUSC": Meaning("audit", "audit-session-changed", _CONFIG, ("change",)),
    "AUSF": Meaning("audit", "audit-failed", _CONFIG, ("error",)),
    "SVSR": Meaning("audit", "server-started", ("process",), ("start",)),
    "SVSD": Meaning("audit", "server-stopped", ("process",), ("end",)),
}
# Classes whose creation, change or end is one of an account or a group.
_PRINCIPALS = {
    "SL": "user",
    "WL": "user",
    "LX": "user",
    "US": "user",
    "SU": "user",
    "WU": "user",
    "RL": "group",
    "SG": "group",
}
_PRINCIPAL_ACTIONS = {"CR": "creation", "AL": "change", "DR": "deletion"}

# Messages of the server by their number.
CODES: dict[str, Meaning] = {
    **dict.fromkeys(("18452", "18453", "18454", "18455", "18456", "18470", "18486", "18487", "18488"), _LOGON),
    **dict.fromkeys(("17806", "17828", "17835", "18461"), _LOGON),
    "15457": Meaning("config", "configuration-changed", _CONFIG, ("change",)),
    "17162": Meaning("log", "server-starting", ("process",), ("start",)),
    "17148": Meaning("log", "server-stopping", ("process",), ("end",)),
    "17147": Meaning("log", "server-stopping", ("process",), ("end",)),
    "18264": Meaning("log", "database-backed-up", _DATABASE, ("access",)),
    "18265": Meaning("log", "log-backed-up", _DATABASE, ("access",)),
    "18267": Meaning("log", "database-restored", _DATABASE, ("change",)),
    "3041": Meaning("log", "backup-failed", _DATABASE, ("error",)),
}
_SUCCEEDED = frozenset(("18453", "18454", "18455"))


def sniff(text: str) -> bool:
    at = text.find("MSSQL", 0, PROVIDER_CHARS_MAX)
    if at > 0 and text[at - 1] in "\"'>:":
        return windows.sniff(text)
    return _LINE.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if (line := _LINE.match(text)) is not None:
        return (_errorlog(text, line, origin),)
    if "<Event" in text or "{" in text or "WinEvtLog: " in text or "MSWinEventLog" in text:
        return [_windows(event) for event in windows.parse(text, origin)]
    envelope = peel(text, origin)
    if envelope.recognised and (line := _LINE.match(envelope.message)) is not None:
        event = _errorlog(envelope.message, line, origin)
        return (replace(event, host_name=envelope.host),)
    raise ParseError("neither a Windows event nor a line of SQL Server's ERRORLOG")


def _windows(event: Event) -> Event:
    """A Windows event that the server wrote; one of another provider keeps what it has."""
    data = event.fields.get("Data")
    texts = [part for part in data if type(part) is str] if type(data) is list else [data] if type(data) is str else []
    texts = texts or [value for name, value in event.fields.items() if name[:5] == "param" and type(value) is str]
    text = "\n".join(texts) or event.message or ""
    fields = dict(event.fields)
    if "action_id:" in text:
        return _audit(event, text[:AUDIT_CHARS_MAX], fields)
    meaning = CODES.get(event.event_code or "", _OTHER)
    values: dict[str, Any] = {}
    outcome = event.event_outcome
    if meaning is _LOGON:
        outcome = "success" if event.event_code in _SUCCEEDED else "failure"
        login = _LOGIN.search(text)
        name = login[2] if login is not None else texts[0] if len(texts) > 1 else None
        if name:
            values["user_name"], values["user_domain"] = _account(name)
        if (reason := next((part for part in texts[1:] if "CLIENT" not in part), None)) is not None:
            fields["event.reason"] = reason.strip().removeprefix("Reason: ")
        values["source_ip"] = _client(text) or _client(event.message or "")
        values["service_name"] = NAME
    elif meaning.kind == "config":
        outcome = "success"
        option = _OPTION.search(text)
        parts = option.groups() if option is not None else texts if len(texts) >= 3 else ()
        fields.update(zip(("option", "old_value", "new_value"), parts, strict=False))
    return replace(
        event,
        event_module=NAME,
        event_dataset=f"{NAME}.{meaning.kind}",
        event_category=meaning.category,
        event_type=meaning.type,
        event_action=meaning.action,
        event_outcome=outcome,
        message=event.message or text or None,
        fields=fields,
        **values,
    )


def _audit(event: Event, text: str, fields: dict[str, Any]) -> Event:
    found = _record(text)
    fields.update(found)
    get = found.get
    action, subject = get("action_id", ""), get("class_type", "")
    meaning = ACTIONS.get(action, _AUDIT)
    if action in _PRINCIPAL_ACTIONS and subject in _PRINCIPALS:
        kind = _PRINCIPALS[subject]
        meaning = Meaning("iam", f"{meaning.action}-{kind}", _IAM, (kind, _PRINCIPAL_ACTIONS[action]))
    user, domain = _account(get("server_principal_name") or get("session_server_principal_name") or "")
    if not user:  # a logon that failed names its account in the statement only
        login = _LOGIN.search(get("statement", ""))
        user, domain = _account(login[2]) if login is not None else (None, None)
    target = get("target_server_principal_name") or get("target_database_principal_name")
    if meaning.category == _IAM and target is None and subject in _PRINCIPALS:
        target = get("object_name")
    if target is not None:
        fields["user.target.name"] = target
    succeeded = get("succeeded", "").lower()
    address = get("client_ip", "")
    return replace(
        event,
        event_module=NAME,
        event_dataset=f"{NAME}.{meaning.kind}",
        event_category=meaning.category,
        event_type=meaning.type,
        event_action=meaning.action,
        event_outcome="success" if succeeded in ("true", "1") else "failure" if succeeded in ("false", "0") else None,
        user_name=user,
        user_domain=domain,
        source_ip=_client(get("additional_information", "") + get("statement", "")) or _address(address),
        message=get("statement") or event.message,
        service_name=NAME if meaning is _LOGON else None,
        fields=fields,
    )


def _record(text: str) -> dict[str, str]:
    """The values of an audit record, which stand one a line, or behind blanks where a relay joined the lines."""
    text = " " + text
    _, *parts = _MARK.split(text)
    names = parts[::2]
    if _KEYS.issuperset(names) and len(set(names)) == len(names):  # no value looks like a name
        return {name: value for name, part in zip(names, parts[1::2], strict=True) if (value := part.strip())}
    heads: dict[str, re.Match[str]] = {}
    tails: dict[str, re.Match[str]] = {}
    for mark in _MARK.finditer(text):
        name = mark[1]
        if name in _HEADS:
            heads.setdefault(name, mark)
        elif name in _TAILS:
            tails[name] = mark
    marks = [(mark.start(), mark.end(), name) for name, mark in (heads | tails).items()]
    marks.sort()
    found: dict[str, str] = {}
    for (_, begin, name), (end, _, _) in zip(marks, (*marks[1:], (len(text), 0, "")), strict=True):
        value = text[begin:end].strip()
        if value:
            found[name] = value
    return found


def _errorlog(text: str, line: re.Match[str], origin: Origin) -> Event:
    stamp, zone, process = line.groups()
    message = text[line.end() :]
    clock = origin.clock
    at = clock.stamps.get(stamp) if zone is None else None
    if at is None:
        try:
            at = from_iso(stamp + (zone or ""), clock)
            if zone is None:
                clock.remember(stamp, at)
        except (ValueError, OverflowError):
            at = origin.received
    fields: dict[str, Any] = {"process": process}
    meaning, outcome, code, user, domain, source = _OTHER, None, None, None, None, None
    if process == "Logon" and (login := _LOGIN.match(message)) is not None:
        meaning = _LOGON
        outcome = "success" if login[1] == "succeeded" else "failure"
        user, domain = _account(login[2])
        source = _client(message)
        reason = message[login.end() :].partition("[CLIENT")[0].strip(" .").removeprefix("Reason: ")
        if reason:
            fields["event.reason"] = reason
    elif (option := _OPTION.match(message)) is not None:
        meaning, outcome, code = CODES["15457"], "success", "15457"
        fields["option"], fields["old_value"], fields["new_value"] = option.groups()
    elif (error := _ERROR.match(message)) is not None:
        code = error[1]
        fields["severity"], fields["state"] = int(error[2]), int(error[3])
        meaning = Meaning("log", "error", _DATABASE, ("error",))
    elif process == "Logon":
        source = _client(message)
    return Event(
        at,
        NAME,
        f"{NAME}.{meaning.kind}",
        meaning.category,
        meaning.type,
        meaning.action,
        outcome,
        code,
        message,
        user_name=user,
        user_domain=domain,
        source_ip=source,
        service_name=NAME if meaning is _LOGON else None,
        fields=fields,
    )


def _account(name: str) -> tuple[str | None, str | None]:
    domain, parted, account = name.strip().partition("\\")
    return (account or None, domain or None) if parted else (domain or None, None)


def _client(text: str) -> str | None:
    match = _ADDRESS.search(text)
    return _address(match[1] or match[2]) if match is not None else None


@lru_cache(maxsize=65_536)
def _address(text: str) -> str | None:
    """An address as written; None for `<local machine>` and named pipes."""
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return None
