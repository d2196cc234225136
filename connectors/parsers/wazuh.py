"""Wazuh alerts (alerts.json, archives.json): the rule and the agent, and what the decoder found in the original line.

Windows events inside are read as those are; integrity alerts name the file and what became of it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from connectors import json_log, tolerant_json
from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.parsers import windows
from connectors.values import address_of

NAME = "wazuh"
HEAD_CHARS_MAX = 512  # a syslog header before the JSON
LEAVES_MAX = 512  # of one alert
LEAF_DEPTH_MAX = 5
LIST_MAX = 64
NUMBER_MAX = 2**31 - 1  # of a process
PORT_MAX = 65_535
INTEGER_BITS = 63


class Meaning(NamedTuple):
    kind: str  # of event.dataset: wazuh.<kind>
    category: tuple[str, ...]
    type: tuple[str, ...]
    outcome: str | None = None


_AUTH = ("authentication",)
# By the rule's groups, the most telling first.
GROUPS: dict[str, Meaning] = {
    "authentication_failed": Meaning("auth", _AUTH, ("start",), "failure"),
    "authentication_failures": Meaning("auth", _AUTH, ("start",), "failure"),
    "invalid_login": Meaning("auth", _AUTH, ("start",), "failure"),
    "win_authentication_failed": Meaning("auth", _AUTH, ("start",), "failure"),
    "authentication_success": Meaning("auth", _AUTH, ("start",), "success"),
    "syscheck": Meaning("syscheck", ("file",), ("change",)),
    "rootcheck": Meaning("rootcheck", ("intrusion_detection",), ("info",)),
    "vulnerability-detector": Meaning("vulnerability", ("vulnerability",), ("info",)),
    "sca": Meaning("sca", ("configuration",), ("info",)),
    "virus": Meaning("malware", ("malware",), ("info",)),
    "yara": Meaning("malware", ("malware",), ("info",)),
    "virustotal": Meaning("malware", ("malware",), ("info",)),
    "account_changed": Meaning("iam", ("iam",), ("user", "change")),
    "adduser": Meaning("iam", ("iam",), ("user", "creation")),
    "firewall_drop": Meaning("firewall", ("network",), ("connection", "denied"), "failure"),
    "firewall": Meaning("firewall", ("network",), ("connection",)),
    "web": Meaning("web", ("web",), ("access",)),
    "accesslog": Meaning("web", ("web",), ("access",)),
    "ids": Meaning("ids", ("intrusion_detection",), ("info",)),
    "sudo": Meaning("process", ("process",), ("start",)),
    "audit": Meaning("audit", ("process",), ("info",)),
    "active_response": Meaning("response", ("configuration",), ("info",)),
    "ossec": Meaning("agent", ("host",), ("info",)),
}
_ALERT = Meaning("alert", (), ("info",))
_SYSCHECK = {"added": "creation", "modified": "change", "deleted": "deletion"}
_SERVICES = {"sshd": "ssh", "windows_eventchannel": "ad", "web-accesslog": "web", "pam": None, "openvpn": "vpn"}

# Names of decoded fields, the first that is there; the event's attribute is above them.
_SOURCE = ("srcip", "src_ip", "source_ip", "sourceip", "srcIp", "ip", "remote_ip")
_DESTINATION = ("dstip", "dst_ip", "dest_ip", "destination_ip", "dstIp")
_SOURCE_PORT = ("srcport", "src_port")
_DESTINATION_PORT = ("dstport", "dst_port", "dest_port")
_USER = ("dstuser", "srcuser", "user", "username", "uname")
_ACTION = ("action", "status")

_GLANCE = json_log.Glance(
    *("full_log", "timestamp", "@timestamp", "data", "rule.groups", "agent.name", "decoder.parent", "decoder.name"),
    *("predecoder.hostname", "predecoder.program_name", "syscheck.event", "syscheck.path"),
)


def sniff(text: str) -> bool:
    begin = 0 if text[:1] == "{" else text.find("{", 0, HEAD_CHARS_MAX)
    return begin >= 0 and '"agent":' in text and '"manager":' in text and '"location":' in text and '"decoder":' in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = 0 if text[:1] == "{" else text.find("{", 0, HEAD_CHARS_MAX)
    if begin < 0:
        raise ParseError("no Wazuh alert: no JSON object")
    body = text[begin:] if begin else text
    damaged = False
    all_of_it: dict[str, Any] | str = body
    document = _GLANCE.read(body) if '"win":' not in body else None
    if document is None:
        decoded, damaged = tolerant_json.decode(body)
        if type(decoded) is not dict:
            raise ParseError("no Wazuh alert: no JSON object")
        all_of_it = document = decoded
    if not any(name in document for name in ("rule", "agent", "full_log")):
        raise ParseError("no Wazuh alert: a JSON object without rule, agent or full_log")
    meaning = _meaning(_groups(_part(document, "rule")))
    data = _part(document, "data")
    before = _part(document, "predecoder")
    host = _text(before.get("hostname")) or _text(_part(document, "agent").get("name"))
    at = _time(document.get("timestamp") or document.get("@timestamp"), text[:begin], origin)
    if type(data.get("win")) is dict:
        fields = _around(document, damaged)
        if (event := _windows(data, fields, meaning, host, at, origin)) is not None:
            return (event,)
    return (_event(document, data, before, meaning, Lazy(_fields, all_of_it, damaged), host, at),)


def _groups(rule: dict[str, Any]) -> list[str]:
    groups = rule.get("groups")
    return [group for group in groups[:LIST_MAX] if type(group) is str] if type(groups) is list else []


def _meaning(groups: list[str]) -> Meaning:
    if GROUPS.keys().isdisjoint(groups):
        return _ALERT
    return next(meaning for group, meaning in GROUPS.items() if group in groups)


def _fields(all_of_it: dict[str, Any] | str, damaged: bool) -> dict[str, Any]:
    document, damaged = json_log.whole(all_of_it, damaged)
    fields = _around(document, damaged)
    data = _part(document, "data")
    _leaves(data, fields)
    decoder = _part(document, "decoder")
    if (name := _text(decoder.get("name"))) is not None:
        fields["wazuh.decoder.name"] = name
    check = document.get("syscheck")
    if type(check) is dict:
        for name in ("sha256_after", "sha1_after", "md5_after"):
            if (value := _text(check.get(name))) is not None:
                fields["file.hash." + name.partition("_")[0]] = value
        if (owner := _text(check.get("uname_after"))) is not None:
            fields["file.owner"] = owner
    actor = _text(data.get("srcuser"))
    if actor is None:
        return fields
    if (_text(decoder.get("parent")) or name) == "sudo":
        if (other := _text(data.get("dstuser"))) is not None:
            fields["user.effective.name"] = other
    elif actor != _first(data, _USER):
        fields["source.user.name"] = actor
    return fields


def _around(document: dict[str, Any], damaged: bool) -> dict[str, Any]:
    """What an alert says around the event: of the rule, the agent and the manager."""
    fields: dict[str, Any] = {"event.kind": "alert" if "rule" in document else "event"}
    if damaged:
        fields["shield.truncated"] = True
    _about_rule(_part(document, "rule"), fields)
    agent, manager = _part(document, "agent"), _part(document, "manager")
    for key, path in (("id", "agent.id"), ("name", "agent.name"), ("ip", "host.ip")):
        if (value := _text(agent.get(key))) is not None:
            fields[path] = value
    if (observer := _text(manager.get("name"))) is not None:
        fields["observer.name"] = observer
    if (location := _text(document.get("location"))) is not None:
        fields["log.file.path"] = location
    return fields


def _about_rule(rule: dict[str, Any], fields: dict[str, Any]) -> None:
    stated = (
        ("rule.id", rule.get("id")),
        ("rule.name", rule.get("description")),
        ("event.severity", rule.get("level")),
        ("rule.firedtimes", rule.get("firedtimes")),
    )
    fields |= {path: value for path, value in stated if type(value) is str or _number(value) is not None}
    if groups := _groups(rule):
        fields["rule.category"] = groups
    mitre = _part(rule, "mitre")
    for key, name in (
        ("id", "threat.technique.id"),
        ("technique", "threat.technique.name"),
        ("tactic", "threat.tactic.name"),
    ):
        if type(found := mitre.get(key)) is list:
            fields[name] = [word for word in found[:LIST_MAX] if type(word) is str]


def _windows(
    data: dict[str, Any], fields: dict[str, Any], meaning: Meaning, host: str | None, at: float, origin: Origin
) -> Event | None:
    """The Windows event in an alert, with the rule that it hit."""
    try:
        event = windows.of_wazuh(data, data["win"], False, origin)
    except ParseError:
        return None
    return msgspec.structs.replace(
        event,
        timestamp=at if event.fields.get("shield.time") else event.timestamp,
        event_module=NAME,
        event_dataset=f"{NAME}.{event.event_dataset}",  # wazuh.windows.security: rules for Windows find it there
        event_outcome=event.event_outcome or meaning.outcome,
        host_name=event.host_name or host,
        fields={**event.fields, **fields},
    )


def _event(
    document: dict[str, Any],
    data: dict[str, Any],
    before: dict[str, Any],
    meaning: Meaning,
    fields: Lazy,
    host: str | None,
    at: float,
) -> Event:
    decoder = _part(document, "decoder")
    decoded = _text(decoder.get("parent")) or _text(decoder.get("name"))
    types, action, path = meaning.type, _first(data, _ACTION), _text(data.get("file"))
    check = document.get("syscheck")
    if type(check) is dict:
        change = _text(check.get("event")) or "modified"
        types, action, path = (_SYSCHECK.get(change, "change"),), change, _text(check.get("path"))
    audit = _part(data, "audit")
    audited = _part(audit, "file")
    line = _text(data.get("command")) or _text(audit.get("command"))
    execve = _part(audit, "execve")
    if execve:
        line = " ".join(value for key in sorted(execve) if type(value := execve[key]) is str)
    user = _first(data, _USER)
    if decoded == "sudo" and (actor := _text(data.get("srcuser"))) is not None:
        user = actor
    url = _text(data.get("url"))
    source, destination = _first(data, _SOURCE), _first(data, _DESTINATION)
    outcome = meaning.outcome
    if outcome is None and meaning.kind in ("firewall", "audit"):
        success = _text(audit.get("success")) or ""
        outcome = {"yes": "success", "no": "failure"}.get(success)
    protocol = _text(data.get("protocol"))
    transport = protocol.lower() if protocol is not None and protocol.lower() in ("tcp", "udp", "icmp") else None
    program = _text(before.get("program_name")) or _text(audit.get("command"))
    return Event(
        at,
        NAME,
        f"{NAME}.{meaning.kind}",
        meaning.category,
        types,
        action,
        outcome,
        _text(data.get("id")) if meaning.kind != "web" else None,
        _text(document.get("full_log")),
        host,
        user,
        None,
        address_of(source) if source is not None else None,
        _port(_first(data, _SOURCE_PORT)),
        None,
        address_of(destination) if destination is not None else None,
        _port(_first(data, _DESTINATION_PORT)),
        None,
        transport,
        program,
        _number(audit.get("pid")),
        _text(audit.get("exe")),
        line,
        None,
        path or _text(audited.get("name")),
        url.partition("?")[0] if url is not None and url[:1] == "/" else None,
        _number(data.get("id")) if meaning.kind == "web" else None,
        _SERVICES.get(decoded, decoded) if decoded is not None and meaning.kind == "auth" else None,
        fields=fields,
    )


def _leaves(data: dict[str, Any], fields: dict[str, Any]) -> None:
    """Decoded values under the names that Wazuh's own rules use: `srcip`, `audit_exe`."""
    pending: list[tuple[str, dict[str, Any], int]] = [("", data, 1)]
    while pending and len(fields) < LEAVES_MAX:
        prefix, level, depth = pending.pop()
        for key, value in level.items():
            name = prefix + key.replace(".", "_")
            if type(value) is dict:
                if depth < LEAF_DEPTH_MAX:
                    pending.append((name + "_", value, depth + 1))
            elif type(value) is list:
                fields[name] = [part for part in value[:LIST_MAX] if type(part) in (str, bool, float)]
            elif type(value) is int and value.bit_length() > INTEGER_BITS:
                fields[name] = str(value)
            else:
                fields[name] = value


def _part(parent: dict[str, Any], name: str) -> dict[str, Any]:
    part = parent.get(name)
    return part if type(part) is dict else {}


def _text(value: Any) -> str | None:
    return value if type(value) is str and value else None


def _first(data: dict[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        if name in data and type(value := data[name]) is str and value:
            return value
    return None


def _number(value: Any) -> int | None:
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    return value if type(value) is int and 0 <= value <= NUMBER_MAX else None


def _port(value: Any) -> int | None:
    number = _number(value)
    return number if number is not None and 0 < number <= PORT_MAX else None


def _time(stated: Any, head: str, origin: Origin) -> float:
    if type(stated) is str:
        try:
            return from_iso(stated, origin.clock)
        except (ValueError, OverflowError):
            pass
    enveloped = peel(head, origin).timestamp if head else None
    return origin.received if enveloped is None else enveloped
