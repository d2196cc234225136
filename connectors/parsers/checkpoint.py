"""Check Point logs of the Log Exporter (`[action:"Drop"; src:"..."; ...]`, `key=value|`, JSON, `[Fields@... key="value"]`) and of `fw log`.

The device's own keys stay in `fields` under their own names; the mapping is Elastic's. Its CEF and LEEF forms are read as such.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from connectors import tolerant_json
from connectors.clock import MONTHS, from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.keyvalue import pairs
from connectors.parsers import cef, leef
from connectors.values import TRANSPORTS, whole_number

NAME = "checkpoint"
HEAD_CHARS_MAX = 400  # within which a line shows what it is

_PAIR = re.compile(r'([A-Za-z_][\w .-]{0,63}+)::?"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_FIELDS = re.compile(r'([A-Za-z_][\w.-]{0,63}+)="([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_BARS = re.compile(r"(?:^|\|)([A-Za-z_][\w/.-]{0,63}+)=([^|\\]*+(?:\\.[^|\\]*+)*+)(?=\||$)", re.DOTALL)
_SEMICOLONS = re.compile(
    r'(?:^|[;\s])([A-Za-z_][\w/.-]{0,63}+)= ?"?+([^;"\\]*+(?:\\.[^;"\\]*+)*+)"?+(?=;|$)', re.DOTALL
)
_COLONS = re.compile(r"(?:^|; ?|\s)([A-Za-z_][\w/.-]{0,63}+): ([^;]*+)")
_ESCAPE = re.compile(r'\\([\\\]"=|;])')
_HEAD = re.compile(
    r"(?:^|[ >])(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(Z|[+-]-?\d{1,2}:?\d\d)? (\S{1,255}) "
)
# What `fw log` writes: day, time, action, the gateway and its interface, and then `key: value;`.
_FW_LOG = re.compile(
    r"(?:^|[ :])(\d{1,2}[A-Z][a-z]{2}\d{4} {1,2}\d{1,2}:\d\d:\d\d) {1,8}(\S{1,20}) {1,8}(\S{1,255}) {1,8}([<>])(\S{0,40})"
)
_OLD_TIME = re.compile(r" ?(\d{1,2})([A-Z][a-z]{2})(\d{4}) {1,2}(\d{1,2}):(\d\d):(\d\d)")
_TOLD = re.compile(
    r' CheckPoint (?:\d{1,10}|-) |\[(?:action|flags|ifdir|loguid|product|time):"|\[Fields@1\.3\.6\.1\.4\.1\.2620'
    r"|(?:^|[|;\s])(?:loguid|originsicname)=|[|;]product=(?:VPN-1|Firewall|SmartD|SmartC|Identity Aw|URL Filt)|(?:^|\s)loc=\d{1,12}\|"
    r"|(?:^|[ :])\d{1,2}[A-Z][a-z]{2}\d{4} {1,2}\d{1,2}:\d\d:\d\d {1,8}(?:accept|drop|reject|encrypt|decrypt|keyinst|ctl|monitor"
    r"|authorize|deauthorize|authcrypt) "
)
_ABSENT = frozenset(("", "0.0.0.0", "::", "N/A"))  # noqa: S104 -- what the device writes for none
_ADDRESS = frozenset("0123456789abcdefABCDEF.:")
_PORTS = {  # names of services that older forms write for the port
    "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain-udp": 53, "domain-tcp": 53, "http": 80, "pop-3": 110,
    "ntp-udp": 123, "nbname": 137, "nbdatagram": 138, "nbsession": 139, "imap": 143, "snmp": 161, "ldap": 389,
    "https": 443, "microsoft-ds": 445, "syslog": 514, "ldap-ssl": 636, "MS-SQL-Server": 1433, "Remote_Desktop_Protocol": 3389,
}  # fmt: skip
_DENYING = {"drop", "reject", "block", "prevent", "quarantine", "deauthorize", "ask user"}
_ALLOWING = {
    "accept",
    "allow",
    "authorize",
    "bypass",
    "inspect",
    "detect",
    "decrypt",
    "encrypt",
    "key install",
    "monitor",
}
_ALLOWING |= {"monitored", "vpn routing", "redirect", "inform user", "extract"}
_LOGONS = {  # action or operation -> action as it is shown, stage, outcome
    "log in": ("logged-in", "start", "success"),
    "failed log in": ("logon-failed", "start", "failure"),
    "log out": ("logged-out", "end", "success"),
    "forced log out": ("logged-out", "end", "success"),
}
_SERVICES = {  # product -> what a logon is for
    "Connectra": "vpn", "Mobile Access": "vpn", "Mobile": "vpn", "VPN-1 & FireWall-1": "vpn", "VPN": "vpn",
    "Endpoint Security VPN": "vpn", "SecureClient": "vpn", "Identity Awareness": "ad", "Identity Logging": "ad",
}  # fmt: skip
_ECS = {
    "origin_ip": "observer.ip",
    "ifname": "observer.ingress.interface.name",
    "inzone": "observer.ingress.zone",
    "security_inzone": "observer.ingress.zone",
    "outzone": "observer.egress.zone",
    "security_outzone": "observer.egress.zone",
    "product": "observer.product",
    "policy": "rule.ruleset",
    "layer_name": "rule.ruleset",
    "smartdefense_profile": "rule.ruleset",
    "rule": "rule.id",
    "rule_uid": "rule.uuid",
    "app_rule_name": "rule.name",
    "malware_rule_name": "rule.name",
    "rule_name": "rule.name",
    "protection_name": "rule.name",
    "matched_category": "rule.category",
    "malware_action": "rule.description",
    "xlatesrc": "source.nat.ip",
    "xlatedst": "destination.nat.ip",
    "src_machine_name": "source.domain",
    "dst_machine_name": "destination.domain",
    "dst_user_name": "destination.user.name",
    "src_user_group": "source.user.group.name",
    "mac_source_address": "source.mac",
    "mac_address": "source.mac",
    "service_id": "network.application",
    "app_name": "network.application",
    "appi_name": "network.application",
    "ifdir": "network.direction",
    "loguid": "event.id",
    "sequencenum": "event.sequence",
    "severity": "log.level",
    "reason": "event.reason",
    "app_risk": "event.risk_score",
    "file_name": "file.name",
    "file_type": "file.type",
    "file_md5": "file.hash.md5",
    "file_sha1": "file.hash.sha1",
    "file_sha256": "file.hash.sha256",
    "process_md5": "process.hash.md5",
    "from": "email.from.address",
    "to": "email.to.address",
    "email_subject": "email.subject",
    "user_agent": "user_agent.original",
    "method": "http.request.method",
    "referrer": "http.request.referrer",
    "http_host": "url.domain",
    "resource": "url.original",
    "url": "url.original",
    "industry_reference": "vulnerability.id",
    "os_name": "host.os.name",
}
_COUNTS = {
    "xlatesport": "source.nat.port",
    "xlatedport": "destination.nat.port",
    "client_outbound_packets": "source.packets",
    "server_outbound_packets": "destination.packets",
    "bytes": "network.bytes",
    "packets": "network.packets",
}


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return '"loguid":' in text and '"origin' in text and '"full_log"' not in text
    if 'product="VPN-1 & FireWall-1"' in text and 'src="' in text:
        return "CEF:" not in text[:HEAD_CHARS_MAX]
    return "CEF:" not in text[:HEAD_CHARS_MAX] and _TOLD.search(text, 0, HEAD_CHARS_MAX) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    log = _log(text)
    if log is None:
        for other in (cef, leef):
            if other.sniff(text):
                return [
                    replace(event, event_module=NAME, event_dataset=f"{NAME}.{event.event_dataset.partition('.')[2]}")
                    for event in other.parse(text, origin)
                ]
        raise ParseError("no Check Point log: no list of keys and values with an action, product, origin or loguid")
    dash = text.find("-", 0, HEAD_CHARS_MAX)  # mostly the first is that of the date
    head = None
    if dash >= 0:
        head = _HEAD.match(text, max(dash - len(" 2026"), 0)) or _HEAD.search(text, 0, HEAD_CHARS_MAX)
    if head is not None:
        host: str | None = head[4]
    else:
        host = peel(text, origin).host if text[:1] == "<" or text[:1].isupper() else None
    return (_event(log, _time(log, head, text, origin), host),)


def _log(text: str) -> dict[str, str] | None:
    """The keys and values of a line in whichever of the forms it has."""
    begin = text.find("[") + 1
    log: dict[str, str] = {}
    if begin and text.find(':"', begin, begin + HEAD_CHARS_MAX) > 0:
        end = text.rfind('"]')
        if end > begin and '\\"' not in text:  # the usual line: not cut off, and no quotes within values
            with suppress(ValueError):
                log = dict([pair.split(':"', 1) for pair in text[begin:end].split('"; ')])
        if not log or "::" in text:
            log = dict(_PAIR.findall(text, begin))
    elif "[Fields@" in text:
        log = dict(_FIELDS.findall(text, text.find("[Fields@")))
    elif "{" in text and '"loguid"' in text:
        found = tolerant_json.decode(text[text.find("{") :])[0]
        if isinstance(found, dict):
            log = {str(key): str(value) for key, value in found.items() if isinstance(value, str | int | float)}
    elif "CEF:" in text or "LEEF:" in text:
        return None
    elif "|" in text:
        body = text[text.rfind(" ", 0, max(text.find("="), 0)) + 1 :]
        if "\\|" in text:
            log = dict(_BARS.findall(body))
        else:
            log = dict([pair.split("=", 1) for pair in body.split("|") if "=" in pair])
    elif (old := _FW_LOG.search(text, 0, HEAD_CHARS_MAX)) is not None:
        log = dict(_COLONS.findall(text, old.end()))
        log |= {"time": old[1], "action": old[2], "orig": old[3], "ifname": old[5]}
        log["ifdir"] = "inbound" if old[4] == ">" else "outbound"
    elif 'product="' in text:  # what log exporters of before R80 write
        log = pairs(text, 0)
        if "Action" in log:
            log["action"] = log.pop("Action")
    elif ";" in text:
        log = dict(_SEMICOLONS.findall(text))
    if (
        log.keys().isdisjoint(("loguid", "product", "origin", "orig", "service_id", "action"))
        and "CheckPoint" not in text
    ):
        return None
    if "\\" in text:
        for key in [key for key, value in log.items() if "\\" in value]:
            log[key] = _ESCAPE.sub(r"\1", log[key])
    return log or None


def _event(log: dict[str, str], at: float, host: str | None) -> Event:
    get = log.get
    action = get("action") or get("rule_action") or get("operation") or None
    act = "" if action is None else action.lower()
    operation = get("operation", "").lower()
    dataset = "firewall"
    category: tuple[str, ...] = ("network",)
    types: tuple[str, ...] = ("info",)
    outcome = service = None
    logon = _LOGONS.get(act) or _LOGONS.get(operation)
    if logon is not None:
        shown, stage, outcome = logon
        category, dataset = ("network", "authentication"), "auth"
        if act in _LOGONS:
            action = shown
        said = f"{get('auth_status', '')} {get('audit_status', '')} {get('status', '')}".lower()
        if "fail" in said or "unsuccessful" in said:
            outcome = "failure"
        types = (stage, "denied") if outcome == "failure" else (stage, "allowed")
        service = _SERVICES.get(get("product", ""), "web")
    elif operation:
        category, types, dataset = ("configuration",), ("change",), "audit"
        outcome = {"success": "success", "failure": "failure"}.get(get("audit_status", "").lower())
    elif act in _DENYING:
        types, outcome = ("connection", "denied"), "success"
    elif act in _ALLOWING:
        types, outcome = ("allowed", "connection"), "success"
    if "attack" in log or "protection_name" in log or "malware_action" in log:
        category, dataset = ("network", "malware" if "malware_action" in log else "intrusion_detection"), "threat"
    user = get("src_user_name") or get("user") or get("administrator") or get("source_user_name")
    proto, resource, service_port = get("proto"), get("url") or get("resource"), get("service")
    machine = get("src_machine_name")
    return Event(
        at,
        NAME,
        f"checkpoint.{dataset}",
        category,
        types,
        action,
        outcome,
        None,
        get("message") or get("sys_message") or get("message_info") or get("description") or get("reason") or get("subject")
        or get("additional_info") or None,
        machine.partition("@")[0] if machine else host or get("hostname") or get("orig") or None,
        _login(user) if user else None,
        get("domain_name") or get("domain") or None,
        _address(get("src") or get("client_ip") or get("endpoint_ip") or get("source_ip")),
        whole_number(get("s_port")),
        whole_number(get("client_outbound_bytes") or get("sent_bytes")),
        _address(get("dst")),
        None if not service_port else whole_number(service_port) or _PORTS.get(service_port),
        whole_number(get("server_outbound_bytes") or get("received_bytes") or get("client_inbound_bytes")),
        None if not proto else TRANSPORTS.get(proto) or proto.lower(),
        get("process_name") or None,
        process_parent_name=get("parent_process_name") or None,
        file_path=get("file_name") or get("dlp_file_name") or None,
        url_path=_path(resource) if resource else None,
        service_name=service,
        fields=Lazy(_fields, log),
    )  # fmt: skip


def _login(user: str) -> str:
    """`Marie Keller (m.keller)` is m.keller."""
    name, _, inside = user.partition(" (")
    return inside.rstrip(")") or name


def _address(text: str | None) -> str | None:
    return None if text is None or text in _ABSENT or not _ADDRESS.issuperset(text) else text


def _time(log: dict[str, str], head: re.Match[str] | None, text: str, origin: Origin) -> float:
    stated = log.get("time")
    try:
        if stated:
            if stated.isdigit() and stated.isascii() and len(stated) <= 19:
                return from_epoch(int(stated))
            old = _OLD_TIME.match(stated)
            if old is not None and (month := MONTHS.get(old[2].lower())) is not None:
                return origin.clock.local(int(old[3]), month, int(old[1]), int(old[4]), int(old[5]), int(old[6]))
            if stated[:4].isdigit():
                return from_iso(stated, origin.clock)
        if head is not None:
            return from_iso(f"{head[1]}T{head[2]}{_zone(head[3] or '')}", origin.clock)
    except (ValueError, OverflowError):
        pass  # a time that no calendar has must not hide the event
    stamp = peel(text, origin).timestamp
    return origin.received if stamp is None else stamp


def _zone(stated: str) -> str:
    """`--5:00`, as some releases write it, is five hours behind."""
    if not stated or stated == "Z":
        return stated
    hours, minutes = stated[1:].lstrip("-").replace(":", "").zfill(4)[:2], stated[-2:]
    return f"{'-' if '-' in stated else '+'}{hours}:{minutes}"


def _fields(log: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {key: value for key, value in log.items() if value != ""}
    for key, path in _ECS.items():
        value = log.get(key)
        if value is not None and value not in _ABSENT:
            fields[path] = value
    device = log.get("origin") or log.get("orig")
    if device:
        fields["observer.name" if _address(device) is None else "observer.ip"] = device
    for key, path in _COUNTS.items():
        if count := whole_number(log.get(key)):
            fields[path] = count
    return fields


def _path(url: str) -> str:
    rest = url.partition("://")[2] or url
    return "/" + rest.partition("/")[2].partition("?")[0]
