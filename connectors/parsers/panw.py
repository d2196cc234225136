"""Palo Alto Networks PAN-OS logs as comma-separated syslog: traffic, threat, system, config, user-id, GlobalProtect and the rest.

The columns are those of PAN-OS 7 to 11; fewer of them (older releases) and more (newer) are both fine, and so is the JSON of the
Strata Logging Service. The device's own names stay in `fields` (`rule`, `action`, `app`); the mapping is Elastic's.
"""

import csv
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from msgspec.structs import replace

from connectors import tolerant_json
from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.parsers import cef, leef
from connectors.values import whole_number

NAME = "panw"
ACCOUNTS_MAX = 4096  # names of users remembered with what is name and what is domain

_HEAD = ("future_use1", "receive_time", "serial", "type", "subtype", "future_use2", "time_generated")
_FLOW = (
    "src", "dst", "natsrc", "natdst", "rule", "srcuser", "dstuser", "app", "vsys", "from", "to", "inbound_if",
    "outbound_if", "logset", "future_use3", "sessionid", "repeatcnt", "sport", "dport", "natsport", "natdport", "flags",
    "proto", "action",
)  # fmt: skip
_GROUPS = ("dg_hier_level_1", "dg_hier_level_2", "dg_hier_level_3", "dg_hier_level_4", "vsys_name", "device_name")
_PARENT = ("tunnelid", "monitortag", "parent_session_id", "parent_start_time", "tunnel")
_DEVICES = tuple(
    f"{side}_{name}"
    for side in ("src", "dst")
    for name in ("category", "profile", "model", "vendor", "osfamily", "osversion", "host", "mac")
)
_PODS = ("container_id", "pod_namespace", "pod_name", "src_edl", "dst_edl")
_APP = (
    "subcategory_of_app", "category_of_app", "technology_of_app", "risk_of_app", "characteristic_of_app",
    "container_of_app", "tunneled_app", "is_saas_of_app", "sanctioned_state_of_app",
)  # fmt: skip
_COLUMNS: dict[str, tuple[str, ...]] = {
    "TRAFFIC": (
        *_FLOW, "bytes", "bytes_sent", "bytes_received", "packets", "start", "elapsed", "category", "future_use4", "seqno",
        "actionflags", "srcloc", "dstloc", "future_use5", "pkts_sent", "pkts_received", "session_end_reason", *_GROUPS,
        "action_source", "src_uuid", "dst_uuid", *_PARENT, "assoc_id", "chunks", "chunks_sent", "chunks_received",
        "rule_uuid", "http2_connection", "link_change_count", "policy_id", "link_switches", "sdwan_cluster",
        "sdwan_device_type", "sdwan_cluster_type", "sdwan_site", "dynusergroup_name", "xff_ip", *_DEVICES, *_PODS, "hostid",
        "serialnumber", "src_dag", "dst_dag", "session_owner", "high_res_timestamp", "nssai_sst", "nssai_sd", *_APP,
        "offloaded", "flow_type", "cluster_name",
    ),
    "THREAT": (
        *_FLOW, "misc", "threatid", "category", "severity", "direction", "seqno", "actionflags", "srcloc", "dstloc",
        "future_use4", "contenttype", "pcap_id", "filedigest", "cloud", "url_idx", "user_agent", "filetype", "xff",
        "referer", "sender", "subject", "recipient", "reportid", *_GROUPS, "future_use5", "src_uuid", "dst_uuid",
        "http_method", *_PARENT, "thr_category", "contentver", "future_use6", "assoc_id", "ppid", "http_headers",
        "url_category_list", "rule_uuid", "http2_connection", "dynusergroup_name", "xff_ip", *_DEVICES, *_PODS, "hostid",
        "serialnumber", "domain_edl", "src_dag", "dst_dag", "partial_hash", "high_res_timestamp", "reason", "justification",
        "nssai_sst", *_APP, "cloud_reportid", "cluster_name", "flow_type",
    ),
    "DECRYPTION": (
        *_FLOW, "tunnel", "future_use4", "future_use5", "src_uuid", "dst_uuid", "rule_uuid", "hs_stage_c2f",
        "hs_stage_f2s", "tls_version", "tls_keyxchg", "tls_enc", "tls_auth", "policy_name", "ec_curve", "err_index",
        "root_status", "chain_status", "proxy_type", "cert_serial", "fingerprint", "notbefore", "notafter", "cert_ver",
        "cert_size", "cn_len", "issuer_len", "rootcn_len", "sni_len", "cert_flags", "cn", "issuer_cn", "root_cn", "sni",
        "error", *_PODS, "src_dag", "dst_dag", "high_res_timestamp", *_DEVICES, "seqno", "actionflags", *_GROUPS, "vsys_id",
        *_APP,
    ),
    "TUNNEL": (
        *_FLOW, "severity", "seqno", "actionflags", "srcloc", "dstloc", *_GROUPS, *_PARENT, "bytes", "bytes_sent",
        "bytes_received", "packets", "pkts_sent", "pkts_received", "max_encap", "unknown_proto", "strict_check",
        "tunnel_fragment", "sessions_created", "sessions_closed", "session_end_reason", "action_source", "start", "elapsed",
        "tunnel_insp_rule", "remote_user_ip", "remote_user_id", "rule_uuid", "pcap_id", "dynusergroup_name", "src_edl",
        "dst_edl", "high_res_timestamp",
    ),
    "GTP": (
        *_FLOW, "event_type", "msisdn", "apn", "rat", "msg_type", "end_ip_addr", "teid1", "teid2", "gtp_interface",
        "cause_code", "severity", "mcc", "mnc", "area_code", "cell_id", "event_code", "future_use4", "future_use5", "srcloc",
        "dstloc",
    ),
    "SCTP": (
        *_FLOW[:-2], "future_use4", "proto", "action", *_GROUPS, "seqno", "future_use5", "assoc_id", "ppid", "severity",
        "chunk_type",
    ),
    "SYSTEM": (
        "vsys", "eventid", "object", "future_use3", "future_use4", "module", "severity", "opaque", "seqno", "actionflags",
        *_GROUPS, "future_use5", "future_use6", "high_res_timestamp",
    ),
    "CONFIG": ("host", "vsys", "cmd", "admin", "client", "result", "path", "seqno", "actionflags", *_GROUPS, "dg_id", "comment"),
    "USERID": (
        "vsys", "ip", "user", "datasourcename", "eventid", "repeatcnt", "timeout", "beginport", "endport", "datasource",
        "datasourcetype", "seqno", "actionflags", *_GROUPS, "vsys_id", "factortype", "factorcompletiontime", "factorno",
        "ugflags", "userbysource", "tag_name", "high_res_timestamp", "origindatasource",
    ),
    "GLOBALPROTECT": (
        "vsys", "eventid", "stage", "auth_method", "tunnel_type", "srcuser", "srcregion", "machinename", "public_ip",
        "public_ipv6", "private_ip", "private_ipv6", "hostid", "serialnumber", "client_ver", "client_os", "client_os_ver",
        "repeatcnt", "reason", "error", "opaque", "status", "location", "login_duration", "connect_method", "error_code",
        "portal", "seqno", "actionflags", "high_res_timestamp", "selection_type", "response_time", "priority",
        "attempted_gateways", "gateway", *_GROUPS, "vsys_id",
    ),
    "HIPMATCH": (
        "srcuser", "vsys", "machinename", "os", "src", "matchname", "repeatcnt", "matchtype", "future_use3", "future_use4",
        "seqno", "actionflags", *_GROUPS, "vsys_id", "srcipv6", "hostid", "serialnumber", "mac", "high_res_timestamp",
    ),
    "AUTHENTICATION": (
        "vsys", "ip", "user", "normalize_user", "object", "authpolicy", "repeatcnt", "authid", "vendor", "logset",
        "serverprofile", "desc", "clienttype", "event", "factorno", "seqno", "actionflags", *_GROUPS, "vsys_id", "authproto",
        "rule_uuid", "high_res_timestamp", *_DEVICES[:8], "region", "future_use3", "user_agent", "sessionid",
    ),
    "CORRELATION": (
        "src", "srcuser", "vsys", "category", "severity", *_GROUPS, "vsys_id", "objectname", "object_id", "evidence",
    ),
    "IPTAG": (
        "vsys", "ip", "tag_name", "eventid", "repeatcnt", "timeout", "datasourcename", "datasource_type",
        "datasource_subtype", "seqno", "actionflags", *_GROUPS, "vsys_id", "high_res_timestamp",
    ),
    "AUDIT": ("eventid", "object", "admin", "cmd", "result"),
}  # fmt: skip
_DETAILED = (*_COLUMNS["CONFIG"][:7], "before_change_detail", "after_change_detail", *_COLUMNS["CONFIG"][7:])
_COLUMNS |= {"AUTH": _COLUMNS["AUTHENTICATION"], "HIP-MATCH": _COLUMNS["HIPMATCH"], "USER-ID": _COLUMNS["USERID"]}
_COLUMNS |= {"START": _COLUMNS["TUNNEL"], "END": _COLUMNS["TUNNEL"], "IP-TAG": _COLUMNS["IPTAG"]}
_COLUMNS |= {
    "URL": _COLUMNS["THREAT"],
    "FILE": _COLUMNS["THREAT"],
    "DATA": _COLUMNS["THREAT"],
    "WILDFIRE": _COLUMNS["THREAT"],
}
_NAMES = {kind: (*_HEAD, *columns) for kind, columns in _COLUMNS.items()}
_FLOWS = {kind for kind, columns in _COLUMNS.items() if columns[0] == "src" and "dport" in columns}
_THREATS = {kind for kind, columns in _COLUMNS.items() if "threatid" in columns}
_ERROR = _NAMES["DECRYPTION"].index("error")
_TUNNEL_BYTES = _NAMES["TUNNEL"].index("bytes_sent")
_KIND = {"USER-ID": "userid", "AUTHENTICATION": "auth", "START": "tunnel", "END": "tunnel", "HIP-MATCH": "hipmatch"}
_KIND |= dict.fromkeys(_THREATS, "threat")
_LOG = re.compile(r"(?:[^,]{0,400}[ :])?\d{1,20},\d{4}[/-][^,]{5,40},[^,]{0,64},[A-Z][A-Z-]{2,19},")
_BRACES = re.compile(r"\{[^{}]*+\}")
_JSON_TOLD = re.compile(r'"LogType" ?: ?"[A-Z-]{3,20}"')
_JSON = {  # column -> the names that the Strata Logging Service gives it
    "receive_time": ("TimeReceived", "LogTime"), "serial": ("DeviceSN",), "type": ("LogType",),
    "subtype": ("Subtype", "ThreatSubtype"), "time_generated": ("TimeGenerated",), "src": ("SourceAddress", "SourceIP"),
    "dst": ("DestinationAddress", "DestinationIP"), "natsrc": ("NATSource",), "natdst": ("NATDestination",),
    "rule": ("Rule", "RuleMatched"), "srcuser": ("SourceUser", "SourceUserName"),
    "dstuser": ("DestinationUser", "DestinationUserName"), "app": ("Application",), "vsys": ("VirtualLocation",),
    "from": ("FromZone",), "to": ("ToZone",), "inbound_if": ("InboundInterface",), "outbound_if": ("OutboundInterface",),
    "logset": ("LogSetting",), "sessionid": ("SessionID",), "repeatcnt": ("RepeatCount", "CountOfRepeats"),
    "sport": ("SourcePort",), "dport": ("DestinationPort",), "natsport": ("NATSourcePort",),
    "natdport": ("NATDestinationPort",), "proto": ("Protocol",), "action": ("Action",), "bytes": ("Bytes",),
    "bytes_sent": ("BytesSent",), "bytes_received": ("BytesReceived",), "packets": ("PacketsTotal",),
    "pkts_sent": ("PacketsSent",), "pkts_received": ("PacketsReceived",), "start": ("SessionStartTime",),
    "elapsed": ("SessionDuration",), "category": ("URLCategory",), "session_end_reason": ("SessionEndReason",),
    "device_name": ("DeviceName",), "misc": ("URL", "FileName"), "threatid": ("ThreatName", "ThreatID"),
    "severity": ("VendorSeverity", "Severity"), "direction": ("DirectionOfAttack",), "seqno": ("SequenceNo",),
    "srcloc": ("SourceLocation",), "dstloc": ("DestinationLocation",), "filedigest": ("FileHash",),
    "filetype": ("FileType",), "user_agent": ("UserAgent",), "referer": ("Referer",), "http_method": ("HTTPMethod",),
    "thr_category": ("ThreatCategory",), "rule_uuid": ("RuleUUID",), "eventid": ("EventIDValue", "EventName", "EventID"),
    "opaque": ("EventDescription", "Description"), "stage": ("Stage",), "auth_method": ("AuthMethod",),
    "machinename": ("EndpointDeviceName",), "public_ip": ("PublicIPv4",), "public_ipv6": ("PublicIPv6",),
    "private_ip": ("PrivateIPv4",), "private_ipv6": ("PrivateIPv6",), "status": ("EventStatus",),
    "error": ("ConnectionError", "ErrorMessage"), "portal": ("Portal",), "event": ("AuthEvent",),
    "desc": ("AuthenticationDescription",), "user": ("User",), "normalize_user": ("NormalizeUser",), "sni": ("TLSSNI",),
}  # fmt: skip

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
    "dstuser": "destination.user.name",
    "src_host": "source.domain",
    "dst_host": "destination.domain",
    "src_mac": "source.mac",
    "dst_mac": "destination.mac",
    "user_agent": "user_agent.original",
    "referer": "http.request.referrer",
    "http_method": "http.request.method",
    "filedigest": "file.hash.sha256",
    "filetype": "file.type",
    "severity": "log.level",
    "public_ip": "client.ip",
    "client_os": "host.os.family",
    "hostid": "host.id",
    "reason": "event.reason",
    "session_end_reason": "event.reason",
    "sni": "tls.client.server_name",
    "thr_category": "rule.category",
}
_COUNTS = {
    "natsport": "source.nat.port",
    "natdport": "destination.nat.port",
    "bytes": "network.bytes",
    "packets": "network.packets",
    "pkts_sent": "source.packets",
    "pkts_received": "destination.packets",
    "seqno": "event.sequence",
}
_PASSING = {"allow", "alert", "continue"}
_DENYING = {
    "deny", "drop", "drop-icmp", "drop icmp", "drop-all-packets", "drop-packet", "reset-client", "reset-server", "reset-both",
    "reset client", "reset server", "reset both", "block", "block-url", "block-ip", "block-override", "block-continue",
    "override-lockout", "sinkhole", "random-drop", "syncookie-sent",
}  # fmt: skip
_FLOW_ACTIONS = {"start": "flow_started", "end": "flow_terminated", "drop": "flow_dropped", "deny": "flow_denied"}
_THREAT_ACTIONS = {"url": "url_filtering", "virus": "virus_detected", "file": "file_match", "data": "data_match"}
_THREAT_ACTIONS |= {"spyware": "spyware_detected", "vulnerability": "exploit_detected", "wildfire": "wildfire_verdict"}
_THREAT_ACTIONS |= {"flood": "flood_detected", "scan": "scan_detected", "packet": "packet_attack_detected"}
_MOVED = {"virus", "wildfire-virus", "ml-virus", "file", "data", "dlp", "wildfire"}  # subtypes whose `misc` is a file
_GLOBALPROTECT: dict[str, tuple[tuple[str, ...], str]] = {  # what the event's name ends with -> category, stage
    "-auth": (("authentication",), "start"),
    "-login": (("authentication",), "start"),
    "-login-fail": (("authentication",), "start"),
    "-login-succ": (("authentication",), "start"),
    "logout": (("authentication",), "end"),
    "connected": (("session", "network"), "start"),
}
_LOGON = re.compile(
    r"(?i)\blogged (?:in|out)\b|\bauthenticat(?:ed|ion)\b.{0,80}?\b(?:for user|succe|fail|user)|\bfailed authentication\b|\blogin\b"
)
_SYSTEM_USER = re.compile(
    r"(?i)\buser ?name: ?'?([^\s',]{1,128})|\bfor user:? ?'?([^\s',]{1,128})"
    r"|\buser '?(?!name\b|authentication\b)([^\s',]{1,128})'? (?:logged|failed|is |was |has |from )"
)
_SYSTEM_FROM = re.compile(r"(?i)\bfrom:? ([0-9a-f.:]{3,45})")
_ABSENT = frozenset(("", "0.0.0.0", "::", "N/A", "unknown", "any", "none", "None"))  # noqa: S104 -- what the device writes for none
_Kinds = tuple[str | None, tuple[str, ...], tuple[str, ...]]


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return _JSON_TOLD.search(text) is not None and '"TimeGenerated"' in text
    return _LOG.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    if '"' not in text:
        values = text.split(",")
    elif '"LogType"' in text:
        return (_from_json(text, origin),)
    else:
        values = _quoted(text)
    kind = values[3].strip().upper() if len(values) > 3 else ""
    if kind not in _NAMES and _LOG.match(text) is None:
        if len(values) > 3 and values[2].strip().upper() in _NAMES:  # a forwarder that left the first column out
            values.insert(0, "")
            kind = values[3].strip().upper()
        else:
            return _other_form(text, origin)
    if kind == "TRAFFIC" and "{" in text:  # a list within one column
        values = _BRACES.sub(lambda braced: braced[0].replace(",", ";"), text).split(",") if '"' not in text else values
    if len(values) < len(_HEAD):  # cut off
        values += [""] * (len(_HEAD) - len(values))
    names = _NAMES.get(kind, _HEAD)
    if kind == "CONFIG" and len(values) > 16 and not values[14].isdigit():
        names = (*_HEAD, *_DETAILED)
    return (_event(kind, names, values, _time(values, text, origin)),)


def _event(kind: str, names: tuple[str, ...], values: list[str], at: float) -> Event:
    if kind in _FLOWS and len(values) > len(_HEAD) + len(_FLOW):
        return _flow(kind, names, values, at)
    return _other(kind, names, values, at)


def _from_json(text: str, origin: Origin) -> Event:
    found = tolerant_json.decode(text[text.find("{") :])[0]
    if not isinstance(found, dict):
        raise ParseError("no PAN-OS log: its JSON is no object")
    log = {str(key): str(value) for key, value in found.items() if isinstance(value, str | int | float)}
    kind = log.get("LogType", "").upper()
    names = _NAMES.get(kind, _HEAD)
    places = _places(names)
    values = [""] * len(names)
    for key, value in log.items():
        place = places.get(key)
        if place is not None and (place[1] or not values[place[0]]):
            values[place[0]] = value
    event = _event(kind, names, values, _time(values, text, origin))
    return replace(event, fields=Lazy(_json_fields, names, values, kind, log))


@cache
def _places(names: tuple[str, ...]) -> dict[str, tuple[int, bool]]:
    """Where a name of the JSON form goes among the columns, and whether it is the column's first choice."""
    return {key: (names.index(name), not rank) for name in names for rank, key in enumerate(_JSON.get(name, ()))}


def _json_fields(names: tuple[str, ...], values: list[str], kind: str, log: dict[str, str]) -> dict[str, Any]:
    return log | _fields(names, values, kind)


def _other_form(text: str, origin: Origin) -> Sequence[Event]:
    for other in (cef, leef):
        if other.sniff(text):
            return [
                replace(event, event_module=NAME, event_dataset=f"{NAME}.{event.event_dataset.partition('.')[2]}")
                for event in other.parse(text, origin)
            ]
    raise ParseError("no PAN-OS log: no type of log in the fourth column")


def _quoted(text: str) -> list[str]:
    try:
        return next(csv.reader([text.replace("\0", "")], strict=False), [])
    except csv.Error as error:
        raise ParseError("no PAN-OS log: a column is longer than a log may be") from error


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
        if len(stated) == len("2026/11/24 06:30:00"):  # without a zone
            origin.clock.remember(stated, found)
        return found
    stamp = peel(text, origin).timestamp
    return origin.received if stamp is None else stamp


def _flow(kind: str, names: tuple[str, ...], values: list[str], at: float) -> Event:
    """Traffic, threats and what else begins like them."""
    late = kind == "SCTP"  # has one more column before its protocol
    subtype, action, proto = values[4], values[30 + late], values[29 + late]
    sent = received = path = file = code = None
    outcome: str | None = "success" if action in _PASSING else "failure"
    if kind == "TRAFFIC":
        if len(values) > 33:
            sent, received = whole_number(values[32]), whole_number(values[33])
        named, category, types = _TRAFFIC.get((subtype, action in _DENYING)) or _traffic(
            subtype, denied=action in _DENYING
        )
    elif kind in _THREATS:
        denied = ("denied",) if action in _DENYING else ("allowed",)
        named = _THREAT_ACTIONS.get(subtype.removeprefix("ml-").removesuffix("-virus"), "threat_detected")
        category, types = _THREAT_CATEGORY, denied
        misc = values[31] if len(values) > 31 else ""
        if subtype == "url":
            category = ("network", "web")
        if subtype in _MOVED:
            file = None if misc in _ABSENT else misc
        if _is_url(subtype, misc):
            path = _path(misc)
        if len(values) > 32 and values[32].endswith(")"):
            code = values[32].rpartition("(")[2][:-1] or None
    else:
        named, category, types = None, ("network",), ("denied",) if action in _DENYING else ("allowed",)
        if kind == "DECRYPTION":
            outcome = "failure" if len(values) > _ERROR and values[_ERROR] else "success"
        elif kind in {"GTP", "SCTP"}:
            outcome = None
        elif len(values) > _TUNNEL_BYTES + 1:
            sent, received = whole_number(values[_TUNNEL_BYTES]), whole_number(values[_TUNNEL_BYTES + 1])
    return Event(
        at,
        NAME,
        f"panw.{_KIND.get(kind) or kind.lower()}",
        category,
        types,
        named or action or None,
        outcome,
        code,
        None,
        None,
        *_account(values[12]),
        None if values[7] in _ABSENT else values[7],
        whole_number(values[24]),
        sent,
        None if values[8] in _ABSENT else values[8],
        whole_number(values[25]),
        received,
        proto.lower() or None,
        file_path=file,
        url_path=path,
        fields=Lazy(_fields, names, values, kind),
    )


_THREAT_CATEGORY = ("intrusion_detection", "threat", "network")


def _traffic(subtype: str, *, denied: bool) -> _Kinds:
    refused = denied or subtype in {"drop", "deny"}
    stage = (subtype,) if subtype in {"start", "end"} else ()
    return _FLOW_ACTIONS.get(subtype), ("network",), ("denied" if refused else "allowed", *stage, "connection")


_TRAFFIC = {  # the usual ones, made once
    (subtype, denied): _traffic(subtype, denied=denied) for subtype in _FLOW_ACTIONS for denied in (False, True)
}


def _is_url(subtype: str, misc: str) -> bool:
    return subtype == "url" or ("/" in misc and subtype not in {"file", "data", "dlp", "wildfire"})


def _other(kind: str, names: tuple[str, ...], values: list[str], at: float) -> Event:
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
        outcome = _outcome(get("status") or "")
        outside = _first(get("public_ip"), get("public_ipv6"))
        source = _first(get("private_ip"), get("private_ipv6")) or outside
        known = next((found for end, found in _GLOBALPROTECT.items() if (code or "").endswith(end)), None)
        if known is not None and user not in _ABSENT:
            category, stage = known
            types = (stage, "denied") if outcome == "failure" else (stage,)
            if category == ("authentication",):
                source, service = outside or source, "vpn"
        message = message or get("error") or get("reason") or None
    elif kind in {"AUTHENTICATION", "AUTH"}:
        category, action = ("authentication",), get("event")
        service = (
            "vpn" if "globalprotect" in f"{get('clienttype')} {get('authpolicy')} {get('object')}".lower() else "web"
        )
        outcome = _outcome(f"{get('event') or ''} {get('desc') or ''}") or "success"
        types = ("start", "denied") if outcome == "failure" else ("start",)
        user = user or get("normalize_user") or ""
    elif kind in {"USERID", "USER-ID"}:
        category, types = ("network", "iam"), ("user", "info")
        action = {"login": "user_mapping_added", "logout": "user_mapping_removed"}.get(values[4], values[4])
    elif kind in {"CONFIG", "AUDIT"}:
        category, types = ("configuration",), ("change",)
        action = f"cmd-{get('cmd')}" if get("cmd") else None
        outcome = _outcome(get("result") or "")
        message = get("path") or message
    elif kind == "SYSTEM":
        category = ("configuration",)
        told = get("opaque") or ""
        if "auth" in f"{code} {values[4]}" or _LOGON.search(told) is not None:
            outcome = _outcome(f"{code} {told}")
            if outcome is not None:
                category = ("authentication",)
                types = ("end",) if "logged out" in told or "logout" in (code or "") else ("start",)
                types = (*types, "denied") if outcome == "failure" else types
                service = "vpn" if "globalprotect" in (code or "") else "ssh" if "via CLI" in told else "web"
        found, peer = _SYSTEM_USER.search(told), _SYSTEM_FROM.search(told)
        user = (found[1] or found[2] or found[3]).rstrip(".") if found else ""
        source = peer[1].rstrip(".:") if peer else None
    elif kind == "CORRELATION":
        category, outcome = ("intrusion_detection", "network"), "success"
        action = get("objectname") or None
    name, domain = _account(user)
    return Event(
        at,
        NAME,
        f"panw.{_KIND.get(kind) or kind.lower()}",
        category,
        event_type=types,
        event_action=action,
        event_outcome=outcome,
        event_code=code,
        message=message,
        host_name=None if host is None or host in _ABSENT else host.lower(),
        user_name=name,
        user_domain=domain,
        source_ip=None if source is None or source in _ABSENT else source,
        source_port=whole_number(get("beginport")),
        destination_port=whole_number(get("endport")),
        service_name=service,
        fields=Lazy(_fields, names, values, kind),
    )


def _first(*stated: str | None) -> str | None:
    return next((address for address in stated if address is not None and address not in _ABSENT), None)


def _fields(names: tuple[str, ...], values: list[str], kind: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    device = values[0].split()[:-1]
    if device and ":" not in device[-1] and not device[-1].isdigit() and device[-1] != "-":
        fields["observer.hostname"] = device[-1]  # of the envelope; the log's own column goes before
    for name, value in zip(names, values, strict=False):
        if value == "" or name.startswith("future_use"):
            continue
        fields[name] = value
        path = _ECS.get(name)
        if path is not None and value not in _ABSENT:
            fields[path] = value
        elif (path := _COUNTS.get(name)) is not None and (count := whole_number(value)) is not None:
            fields[path] = count
    if (elapsed := whole_number(fields.get("elapsed"))) is not None:
        fields["event.duration"] = elapsed * 1_000_000_000
    misc = fields.get("misc", "")
    if kind in _THREATS and misc:
        if _is_url(values[4], misc):
            fields["url.original"] = misc
            fields["url.domain"] = (
                (misc.partition("://")[2] or misc).partition("/")[0].rpartition("@")[2].partition(":")[0]
            )
        elif values[4] == "spyware":
            fields["url.domain"] = misc
        elif values[4] in _MOVED or values[4] == "vulnerability":
            fields["file.name"] = misc.rpartition("/")[2].rpartition("\\")[2]
        if (threat := fields.get("threatid", "").rpartition("(")[0]) and values[4] != "url":
            fields["threat.indicator.name"] = threat
    fields["panw.panos.type"] = kind
    return fields


@lru_cache(maxsize=ACCOUNTS_MAX)
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
    if "succ" in said or "submitted" in said or "logged in" in said or "logged out" in said or "authenticated" in said:
        return "success"
    return None


def _path(url: str) -> str:
    rest = url.partition("://")[2] or url
    return "/" + rest.partition("/")[2].partition("?")[0]
