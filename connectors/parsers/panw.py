"""Palo Alto Networks PAN-OS logs as comma-separated syslog: traffic, threat, system, config, user-id, GlobalProtect and the rest.

The columns are those of PAN-OS 8 to 11; missing ones at the end (older releases) and more of them (newer) are both fine.
The device's own column names stay in `fields` (`rule`, `action`, `app`); the mapping is Elastic's.
"""

import csv
import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "panw"

_HEAD = ("future_use1", "receive_time", "serial", "type", "subtype", "future_use2", "time_generated")
_FLOW = (
    "src", "dst", "natsrc", "natdst", "rule", "srcuser", "dstuser", "app", "vsys", "from", "to", "inbound_if",
    "outbound_if", "logset", "future_use3", "sessionid", "repeatcnt", "sport", "dport", "natsport", "natdport", "flags",
    "proto", "action",
)  # fmt: skip
_COLUMNS: dict[str, tuple[str, ...]] = {
    "TRAFFIC": (
        *_FLOW, "bytes", "bytes_sent", "bytes_received", "packets", "start", "elapsed", "category", "future_use4",
        "seqno", "actionflags", "srcloc", "dstloc", "future_use5", "pkts_sent", "pkts_received", "session_end_reason",
        "dg_hier_level_1", "dg_hier_level_2", "dg_hier_level_3", "dg_hier_level_4", "vsys_name", "device_name",
        "action_source", "src_uuid", "dst_uuid", "tunnelid", "monitortag", "parent_session_id", "parent_start_time",
        "tunnel",
    ),
    "THREAT": (
        *_FLOW, "misc", "threatid", "category", "severity", "direction", "seqno", "actionflags", "srcloc", "dstloc",
        "future_use4", "contenttype", "pcap_id", "filedigest", "cloud", "url_idx", "user_agent", "filetype", "xff",
        "referer", "sender", "subject", "recipient", "reportid", "dg_hier_level_1", "dg_hier_level_2",
        "dg_hier_level_3", "dg_hier_level_4", "vsys_name", "device_name", "future_use5", "src_uuid", "dst_uuid",
        "http_method", "tunnelid", "monitortag", "parent_session_id", "parent_start_time", "tunnel", "thr_category",
        "contentver",
    ),
    "DECRYPTION": (
        *_FLOW, "tunnelid", "future_use4", "future_use5", "src_uuid", "dst_uuid", "rule_uuid", "hs_stage_c2f",
        "hs_stage_f2s", "tls_version", "tls_keyxchg", "tls_enc", "tls_auth", "policy_name", "ec_curve", "err_index",
        "root_status", "chain_status", "proxy_type", "cert_serial", "fingerprint", "notbefore", "notafter", "cert_ver",
        "cert_size", "cn_len", "issuer_len", "rootcn_len", "sni_len", "cert_flags", "cn", "issuer_cn", "root_cn", "sni",
        "error",
    ),
    "TUNNEL": (
        *_FLOW, "severity", "seqno", "actionflags", "srcloc", "dstloc", "dg_hier_level_1", "dg_hier_level_2",
        "dg_hier_level_3", "dg_hier_level_4", "vsys_name", "device_name", "tunnelid", "monitortag", "parent_session_id",
        "parent_start_time", "tunnel", "bytes", "bytes_sent", "bytes_received", "packets", "pkts_sent", "pkts_received",
    ),
    "GTP": (*_FLOW, "event_type", "msisdn", "apn", "rat", "msg_type", "end_ip"),
    "SCTP": (*_FLOW[:-2], "future_use4", "proto", "action", "dg_hier_level_1", "dg_hier_level_2", "dg_hier_level_3", "dg_hier_level_4", "vsys_name", "device_name"),
    "SYSTEM": (
        "vsys", "eventid", "object", "future_use3", "future_use4", "module", "severity", "opaque", "seqno", "actionflags",
        "dg_hier_level_1", "dg_hier_level_2", "dg_hier_level_3", "dg_hier_level_4", "vsys_name", "device_name",
    ),
    "CONFIG": ("host", "vsys", "cmd", "admin", "client", "result", "path"),
    "USERID": (
        "vsys", "ip", "user", "datasourcename", "eventid", "repeatcnt", "timeout", "beginport", "endport", "datasource",
        "datasourcetype", "seqno", "actionflags", "dg_hier_level_1", "dg_hier_level_2", "dg_hier_level_3",
        "dg_hier_level_4", "vsys_name", "device_name",
    ),
    "GLOBALPROTECT": (
        "vsys", "eventid", "stage", "auth_method", "tunnel_type", "srcuser", "srcregion", "machinename", "public_ip",
        "public_ipv6", "private_ip", "private_ipv6", "hostid", "serialnumber", "client_ver", "client_os",
        "client_os_ver", "repeatcnt", "reason", "error", "opaque", "status", "location", "login_duration",
        "connect_method", "error_code", "portal", "seqno", "actionflags",
    ),
    "HIPMATCH": (
        "srcuser", "vsys", "machinename", "os", "src", "matchname", "repeatcnt", "matchtype", "future_use3",
        "future_use4", "seqno", "actionflags", "dg_hier_level_1", "dg_hier_level_2", "dg_hier_level_3",
        "dg_hier_level_4", "vsys_name", "device_name",
    ),
    "AUTHENTICATION": (
        "vsys", "ip", "user", "normalize_user", "object", "authpolicy", "repeatcnt", "authid", "vendor", "logset",
        "serverprofile", "desc", "clienttype", "event", "factorno", "seqno", "actionflags", "dg_hier_level_1",
        "dg_hier_level_2", "dg_hier_level_3", "dg_hier_level_4", "vsys_name", "device_name",
    ),
    "CORRELATION": (
        "src", "srcuser", "vsys", "category", "severity", "dg_hier_level_1", "dg_hier_level_2", "dg_hier_level_3",
        "dg_hier_level_4", "vsys_name", "device_name", "vsys_id", "objectname", "object_id", "evidence",
    ),
    "IPTAG": ("vsys", "ip", "tag_name", "eventid", "repeatcnt", "timeout", "datasourcename", "datasource_type"),
}  # fmt: skip
_COLUMNS |= {"AUTH": _COLUMNS["AUTHENTICATION"], "HIP-MATCH": _COLUMNS["HIPMATCH"], "USER-ID": _COLUMNS["USERID"]}
_COLUMNS |= {"START": _COLUMNS["TUNNEL"], "END": _COLUMNS["TUNNEL"], "IP-TAG": _COLUMNS["IPTAG"]}
_NAMES = {kind: (*_HEAD, *columns) for kind, columns in _COLUMNS.items()}
_FLOWS = {kind for kind, columns in _COLUMNS.items() if columns[0] == "src" and "dport" in columns}
_LOG = re.compile(r"(?:[^,]{0,400}[ :])?\d{1,20},\d{4}[/-][^,]{5,40},[^,]{0,64},[A-Z][A-Z-]{2,19},")
_KIND = {"TRAFFIC": "traffic", "THREAT": "threat", "SYSTEM": "system", "CONFIG": "config", "USERID": "userid"}
_KIND |= {"USER-ID": "userid", "GLOBALPROTECT": "globalprotect", "AUTHENTICATION": "auth", "AUTH": "auth"}
_ECS = {  # column -> ECS field
    "serial": "observer.serial_number",
    "device_name": "observer.hostname",
    "from": "observer.ingress.zone",
    "to": "observer.egress.zone",
    "inbound_if": "observer.ingress.interface.name",
    "outbound_if": "observer.egress.interface.name",
    "rule": "rule.name",
    "rule_uuid": "rule.uuid",
    "app": "network.application",
    "natsrc": "source.nat.ip",
    "natdst": "destination.nat.ip",
    "natsport": "source.nat.port",
    "natdport": "destination.nat.port",
    "bytes": "network.bytes",
    "packets": "network.packets",
    "pkts_sent": "source.packets",
    "pkts_received": "destination.packets",
    "dstuser": "destination.user.name",
    "user_agent": "user_agent.original",
    "referer": "http.request.referrer",
    "http_method": "http.request.method",
    "filedigest": "file.hash.sha256",
    "severity": "log.level",
    "seqno": "event.sequence",
    "public_ip": "client.ip",
    "reason": "event.reason",
    "sni": "tls.client.server_name",
}
_DENYING = {
    "deny",
    "drop",
    "drop-icmp",
    "drop-all-packets",
    "drop-packet",
    "reset-client",
    "reset-server",
    "reset-both",
}
_DENYING |= {
    "block",
    "block-url",
    "block-ip",
    "block-override",
    "block-continue",
    "sinkhole",
    "random-drop",
    "syncookie-sent",
}
_FLOW_ACTIONS = {"start": "flow_started", "end": "flow_terminated", "drop": "flow_dropped", "deny": "flow_denied"}
_THREAT_ACTIONS = {"url": "url_filtering", "virus": "virus_detected", "file": "file_match", "data": "data_match"}
_THREAT_ACTIONS |= {"spyware": "spyware_detected", "vulnerability": "exploit_detected", "wildfire": "wildfire_verdict"}
_THREAT_ACTIONS |= {"flood": "flood_detected", "scan": "scan_detected", "packet": "packet_attack_detected"}
_AUTH_EVENTS = {"auth-success", "auth-fail", "globalprotectportal-auth-succ", "globalprotectportal-auth-fail"}
_SYSTEM_USER = re.compile(
    r"(?i)\b(?:user ?name: '?|for user:? '?)([^\s',]{1,128})|\buser '?([^\s',]{1,128})'? (?:logged|failed|is |was |has )"
)
_LOGON = re.compile(r"(?i)\blog(?:in|ged (?:in|out))\b")
_SYSTEM_FROM = re.compile(r"(?i)\bfrom:? ([0-9a-f.:]{3,45})")
_ABSENT = frozenset(("", "0.0.0.0", "::", "N/A", "unknown", "any", "none", "None"))  # noqa: S104 -- what the device writes for none


def sniff(text: str) -> bool:
    return _LOG.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    values = text.split(",") if '"' not in text else _quoted(text)
    kind = values[3].strip().upper() if len(values) > 4 else ""
    if kind not in _NAMES and _LOG.match(text) is None:
        raise ParseError("no PAN-OS log: no type of log in the fourth column")
    if len(values) < len(_HEAD):  # cut off
        values += [""] * (len(_HEAD) - len(values))
    names = _NAMES.get(kind, _HEAD)
    stamp = _time(values, text, origin)
    if kind in _FLOWS and len(values) > len(_HEAD) + len(_FLOW):
        return (_flow(kind, names, values, stamp),)
    return (_other(kind, names, values, stamp),)


def _quoted(text: str) -> list[str]:
    try:
        return next(csv.reader([text.replace("\0", "")], strict=False), [])
    except csv.Error as error:
        raise ParseError("no PAN-OS log: a quoted column does not end") from error


def _time(values: list[str], text: str, origin: Origin) -> float:
    """When the log was made, else when the device received it, else the envelope's time."""
    for stated in (values[6], values[1]):
        found = origin.clock.stamps.get(stated)
        if found is not None:
            return found
        try:
            found = from_iso(stated.strip().replace("/", "-"), origin.clock)
        except ValueError:
            continue
        if stated[-1:] != "Z":
            origin.clock.remember(stated, found)
        return found
    stamp = peel(text, origin).timestamp
    return origin.received if stamp is None else stamp


def _flow(kind: str, names: tuple[str, ...], values: list[str], stamp: float) -> Event:
    """Traffic, threats and what else begins like them."""
    late = kind == "SCTP"  # has one more column before its protocol
    subtype, action, proto = values[4], values[30 + late], values[29 + late]
    sent = received = path = file = None
    denied = action in _DENYING
    user = values[12]
    if kind == "TRAFFIC":
        if len(values) > 33:
            sent, received = _number(values[32]), _number(values[33])
        named: str | None = _FLOW_ACTIONS.get(subtype)
        category: tuple[str, ...] = ("network",)
        types: tuple[str, ...] = _TRAFFIC_TYPES.get((subtype, denied)) or (("denied",) if denied else ("allowed",))
    elif kind == "THREAT":
        named = _THREAT_ACTIONS.get(subtype.removeprefix("ml-").removesuffix("-virus"), "threat_detected")
        misc = values[31] if len(values) > 31 else ""
        if subtype == "url":
            path = _path(misc)
            category = ("network", "web")
        else:
            category = ("intrusion_detection", "threat", "network")
            file = misc.rpartition("/")[2] or None if misc not in _ABSENT else None
        types = ("denied",) if denied else ("allowed",)
    else:
        named, category, types = None, ("network",), ("denied",) if denied else ("allowed",)
    code = None
    if kind == "THREAT" and len(values) > 32 and values[32].endswith(")"):
        code = values[32].rpartition("(")[2][:-1] or None
    return Event(
        stamp,
        NAME,
        f"panw.{_KIND.get(kind) or kind.lower()}",
        category,
        types,
        named or action or None,
        "success" if kind in {"TRAFFIC", "THREAT"} else _outcome(values[-1] if kind == "DECRYPTION" else ""),
        code,
        None,
        None,
        *_account(user),
        None if values[7] in _ABSENT else values[7],
        _number(values[24]),
        sent,
        None if values[8] in _ABSENT else values[8],
        _number(values[25]),
        received,
        proto.lower() or None,
        file_path=file,
        url_path=path,
        fields=Lazy(_fields, names, values, kind),
    )


_TRAFFIC_TYPES: dict[tuple[str, bool], tuple[str, ...]] = {  # (subtype, refused)
    ("start", False): ("allowed", "start", "connection"),
    ("end", False): ("allowed", "end", "connection"),
    ("start", True): ("denied", "start", "connection"),
    ("end", True): ("denied", "end", "connection"),
    ("drop", False): ("denied", "connection"),
    ("drop", True): ("denied", "connection"),
    ("deny", False): ("denied", "connection"),
    ("deny", True): ("denied", "connection"),
}


def _other(kind: str, names: tuple[str, ...], values: list[str], stamp: float) -> Event:
    """Logs about logons, settings and the device itself."""
    log = dict(zip(names, values, strict=False))
    get = log.get
    user = get("srcuser") or get("user") or get("admin") or ""
    source = get("ip") or get("src") or get("host")
    host = get("machinename")
    category: tuple[str, ...] = ("network",)
    types: tuple[str, ...] = ("info",)
    outcome = service = None
    code = get("eventid") or None
    action: str | None = code
    message = get("opaque") or get("desc") or get("evidence") or None
    if kind == "GLOBALPROTECT":
        private = get("private_ip")
        source = private if private not in _ABSENT else get("public_ip")
        outcome = _outcome(get("status") or "")
        if (code or "").endswith(
            ("-auth", "-login", "login", "-prelogin", "-connected", "connected", "logout")
        ) and user:
            category, service = ("authentication",), "vpn"
            types = (
                ("end",) if "logout" in (code or "") else ("start", "denied") if outcome == "failure" else ("start",)
            )
    elif kind in {"AUTHENTICATION", "AUTH"}:
        category, service, action = (
            ("authentication",),
            "vpn" if "vpn" in (get("clienttype") or "").lower() else "web",
            get("event"),
        )
        outcome = _outcome(f"{get('event') or ''} {get('desc') or ''}") or "success"
        types = ("start", "denied") if outcome == "failure" else ("start",)
        user = user or get("normalize_user") or ""
    elif kind in {"USERID", "USER-ID"}:
        category, types = ("iam",), ("user",)
        action = {"login": "user_mapping_added", "logout": "user_mapping_removed"}.get(values[4], values[4])
    elif kind == "CONFIG":
        category, types = ("configuration",), ("change",)
        action = f"cmd-{get('cmd')}" if get("cmd") else None
        outcome = _outcome(get("result") or "")
        message = get("path") or None
    elif kind == "SYSTEM":
        category = ("configuration",)
        told = get("opaque") or ""
        if code in _AUTH_EVENTS or "auth" in (get("subtype") or "") or _LOGON.search(told):
            outcome = _outcome(f"{code} {told}")
            if outcome is not None:
                category, types = ("authentication",), ("start", "denied") if outcome == "failure" else ("start",)
                service = "vpn" if "globalprotect" in (code or "") else "web"
        found, at = _SYSTEM_USER.search(told), _SYSTEM_FROM.search(told)
        user = (found[1] or found[2]).rstrip(".") if found else ""
        source = at[1].rstrip(".:") if at else None
    elif kind == "CORRELATION":
        category, outcome = ("intrusion_detection", "network"), "success"
        action = get("objectname") or None
    return Event(
        timestamp=stamp,
        event_module=NAME,
        event_dataset=f"panw.{_KIND.get(kind) or kind.lower()}",
        event_category=category,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        event_code=code,
        message=message,
        host_name=None if host is None or host in _ABSENT else host.lower(),
        user_name=_account(user)[0],
        user_domain=_account(user)[1],
        source_ip=None if source is None or source in _ABSENT else source,
        source_port=_number(get("beginport")),
        destination_port=_number(get("endport")),
        service_name=service,
        fields=Lazy(_fields, names, values, kind),
    )


def _fields(names: tuple[str, ...], values: list[str], kind: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in zip(names, values, strict=False):
        if value == "" or name.startswith("future_use"):
            continue
        fields[name] = value
        path = _ECS.get(name)
        if path is not None and value not in _ABSENT:
            fields[path] = value
    if kind == "THREAT" and values[4] == "url" and len(values) > 31:
        fields["url.original"] = values[31]
        fields["url.domain"] = values[31].partition("/")[0].partition(":")[0]
    fields["panw.panos.type"] = kind
    return fields


def _account(user: str) -> tuple[str | None, str | None]:
    r"""Name and domain of `domain\name`, `name@domain` or `name`."""
    if user in _ABSENT:
        return None, None
    if "\\" in user:
        domain, _, name = user.rpartition("\\")
        return name or None, domain.rstrip("\\") or None
    name, _, domain = user.partition("@")
    return name or None, domain or None


def _outcome(text: str) -> str | None:
    said = text.lower()
    if "fail" in said or "error" in said or "invalid" in said or "denied" in said or "unauthorized" in said:
        return "failure"
    return "success" if "succ" in said or "submitted" in said or "logged in" in said else None


def _number(text: str | None) -> int | None:
    if text is None or not text.isdigit() or not text.isascii() or len(text) > 18:
        return None
    return int(text)


def _path(url: str) -> str:
    rest = url.partition("://")[2] or url
    return "/" + rest.partition("/")[2].partition("?")[0]
