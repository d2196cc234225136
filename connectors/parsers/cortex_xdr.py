"""Palo Alto Networks Cortex XDR: alerts and incidents of its API as JSON; firewall, endpoint, analytics and rule alerts.

Cortex' own keys stay in `fields`, those of the event within an alert under their own names (`actor_process_command_line`).
"""

from collections.abc import Sequence

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
    port,
    program,
    stated,
    text_of,
    texts,
    word,
)

NAME = "cortex_xdr"

_LISTS = ("reply.alerts", "reply.incidents", "alerts", "data")
_ENVELOPES = ("alert", "incident")
_SEVERITIES = {"informational": 10, "low": 30, "medium": 50, "high": 70, "critical": 90}
_DENYING = ("BLOCKED", "PREVENTED")
_ALERT_TIMES = ("event_timestamp", "detection_timestamp", "source_insert_ts", "local_insert_ts", "creation_time")
_INCIDENT_TIMES = ("modification_time", "creation_time", "detection_time")
_SHAPES: tuple[tuple[str, ...], ...] = (
    ('"external_id"', '"alert_id"', '"detection_timestamp"'),
    ('"matching_status"', '"alert_id"', '"severity"'),
    ('"causality_actor_process_', '"alert_id"'),
    ('"incident_id"', '"xdr_url"'),
)


def sniff(text: str) -> bool:
    return any(all(key in text for key in shape) for shape in _SHAPES)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    found, damaged = json_log.logs(text, _LISTS, _ENVELOPES)
    events = [
        _alert(log, text, origin, damaged)
        if "alert_id" in log or "external_id" in log
        else _incident(log, text, origin, damaged)
        for log in found
        if "alert_id" in log or "external_id" in log or "incident_id" in log
    ]
    if not events:
        raise ParseError("no Cortex XDR alert or incident: neither alert_id nor incident_id")
    return events


def _alert(log: Log, text: str, origin: Origin, damaged: bool) -> Event:
    seen = part(log, "events") or log  # older answers have the event's keys in the alert itself
    action = text_of(log.get("action"))
    denied = action is not None and action.startswith(_DENYING)
    who = first(seen, "user_name", "actor_effective_username", "os_actor_effective_username") or first(log, "user_name")
    user, domain = (None, None) if who is None else account(who)
    url = first(seen, "fw_misc") or first(seen, "fw_url_domain")
    file = first(seen, "action_file_path")
    name = first(seen, "actor_process_image_name")
    path = first(seen, "actor_process_image_path")
    protocol = (first(seen, "action_protocol", "protocol") or "").lower()
    category = ("intrusion_detection", "network") if log.get("source") == "PAN NGFW" else ("malware",)
    return Event(
        moment(seen, _ALERT_TIMES, 0.0) or moment(log, _ALERT_TIMES, 0.0) or json_log.head(text, origin)[0],
        NAME,
        "cortex_xdr.alert",
        category,
        ("info", "denied") if denied else ("info",),
        action,
        None,
        None,
        first(log, "name", "description"),
        first(log, "host_name", "agent_fqdn"),
        user,
        domain,
        address(first(seen, "action_local_ip", "action_local_ip_v6")),
        port(seen.get("action_local_port")),
        None,
        address(first(seen, "action_remote_ip", "action_remote_ip_v6")),
        port(seen.get("action_remote_port")),
        None,
        protocol if protocol in {"tcp", "udp", "icmp"} else None,
        name or program(path),
        number(seen.get("actor_process_os_pid")),
        path,
        first(seen, "actor_process_command_line"),
        first(seen, "causality_actor_process_image_name"),
        file,
        None if url is None or "/" not in url else "/" + url.partition("/")[2].partition("?")[0],
        fields=Lazy(_alert_fields, log, seen, damaged),
    )


def _incident(log: Log, text: str, origin: Origin, damaged: bool) -> Event:
    host, who = text_of(log.get("hosts")), text_of(log.get("users"))
    user, domain = (None, None) if who is None else account(who)
    return Event(
        moment(log, _INCIDENT_TIMES, 0.0) or json_log.head(text, origin)[0],
        NAME,
        "cortex_xdr.incident",
        ("intrusion_detection",),
        ("info",),
        first(log, "status"),
        None,
        None,
        first(log, "description", "incident_name"),
        None if host is None else host.partition(":")[0],
        user,
        domain,
        fields=Lazy(_incident_fields, log, damaged),
    )


def _alert_fields(log: Log, seen: Log, damaged: bool) -> Log:
    fields = flat({key: value for key, value in log.items() if key != "events"}, NAME)
    fields |= flat(seen, NAME)
    return fields | stated(
        event__kind="alert",
        event__id=first(log, "external_id") or word(log.get("alert_id")),
        event__severity=_SEVERITIES.get(str(log.get("severity")).lower()),
        event__reason=first(log, "description"),
        event__provider=first(log, "source"),
        rule__name=first(seen, "fw_rule") or first(log, "name"),
        rule__id=word(seen.get("fw_rule_id")) or word(log.get("matching_service_rule_id")),
        threat__technique__name=texts(log.get("mitre_technique_id_and_name")),
        threat__tactic__name=texts(log.get("mitre_tactic_id_and_name")),
        host__ip=texts(log.get("host_ip")),
        host__id=first(log, "endpoint_id"),
        host__os__name=first(log, "agent_os_sub_type", "agent_os_type"),
        host__domain=first(log, "agent_device_domain"),
        process__hash__sha256=first(seen, "actor_process_image_sha256"),
        process__parent__command_line=first(seen, "causality_actor_process_command_line"),
        process__parent__executable=first(seen, "causality_actor_process_image_path"),
        file__name=first(seen, "action_file_name"),
        file__hash__sha256=first(seen, "action_file_sha256"),
        registry__path=first(seen, "action_registry_full_key"),
        registry__value=first(seen, "action_registry_value_name"),
        destination__domain=first(seen, "action_external_hostname", "dst_action_external_hostname"),
        dns__question__name=first(seen, "dns_query_name"),
        network__application=first(seen, "fw_app_id"),
        observer__name=first(seen, "fw_device_name"),
        observer__vendor="Palo Alto Networks",
        shield__truncated=damaged or None,
    )


def _incident_fields(log: Log, damaged: bool) -> Log:
    return flat(log, NAME) | stated(
        event__kind="alert",
        event__id=word(log.get("incident_id")),
        event__severity=_SEVERITIES.get(str(log.get("severity")).lower()),
        event__url=first(log, "xdr_url"),
        rule__name=first(log, "incident_name", "description"),
        observer__vendor="Palo Alto Networks",
        shield__truncated=damaged or None,
    )
