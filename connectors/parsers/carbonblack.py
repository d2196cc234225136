"""VMware Carbon Black: raw events, watchlist, feed and binary hits of EDR (cb-event-forwarder), alerts and events of the Cloud.

Carbon Black's own keys stay in `fields`. Of an event of the sensor `path` is the file, module, key or child that was touched.
"""

from collections.abc import Sequence
from typing import Any

from connectors import json_log
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import (
    Glance,
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
    whole,
    word,
)
from connectors.values import TRANSPORTS

NAME = "carbonblack"

_LISTS = ("results", "records", "events")
_ENVELOPES = ("json",)

Meaning = tuple[str, tuple[str, ...], tuple[str, ...]]
_PROCESS, _FILE, _NETWORK, _REGISTRY = ("process",), ("file",), ("network",), ("registry",)
_EVENTS: dict[str, Meaning] = {  # the last part of `type`
    "procstart": ("process", _PROCESS, ("start",)),
    "process": ("process", _PROCESS, ("start",)),
    "procend": ("process", _PROCESS, ("end",)),
    "childproc": ("process", _PROCESS, ("start", "info")),
    "crossprocopen": ("process", _PROCESS, ("info",)),
    "crossproc": ("process", _PROCESS, ("info",)),
    "remotethread": ("process", _PROCESS, ("info",)),
    "processblock": ("process", _PROCESS, ("denied",)),
    "emetmitigation": ("process", _PROCESS, ("denied",)),
    "scriptload": ("process", _PROCESS, ("info",)),
    "moduleload": ("library", ("library",), ("start",)),
    "module": ("library", _PROCESS, ("start", "info")),
    "filemod": ("file", _FILE, ("change",)),
    "netconn": ("network", _NETWORK, ("connection", "start")),
    "netconn2": ("network", _NETWORK, ("connection", "start")),
    "netconn_proxy": ("network", _NETWORK, ("connection", "start")),
    "netconnblock": ("network", _NETWORK, ("connection", "denied")),
    "regmod": ("registry", _REGISTRY, ("change",)),
    "tamper": ("tamper", ("process", "driver"), ("info",)),
}
_STARTS: tuple[tuple[str, Meaning], ...] = (
    ("watchlist.", ("watchlist", ("intrusion_detection",), ("info",))),
    ("feed.", ("feed", ("intrusion_detection",), ("info",))),
    ("alert.", ("alert", ("intrusion_detection",), ("info",))),
    ("binaryinfo.host", ("binary", ("host",), ("info",))),
    ("binary", ("binary", _FILE, ("info",))),
)
_CLOUD_ALERTS = {
    "CB_ANALYTICS",
    "WATCHLIST",
    "DEVICE_CONTROL",
    "CONTAINER_RUNTIME",
    "HOST_BASED_FIREWALL",
    "INTRUSION_DETECTION_SYSTEM",
}
_CHANGES = {"create": "creation", "delete": "deletion", "delete_value": "deletion"}
_TIMES = (
    "timestamp",
    "event_timestamp",
    "device_timestamp",
    "backend_timestamp",
    "create_time",
    "created_time",
    "eventTime",
)
_SHAPES: tuple[tuple[str, ...], ...] = (
    ('"cb_server"', '"type"'),
    ('"event_timestamp"', '"cb_version"'),
    ('"event_timestamp"', '"sensor_id"'),
    ('"event_timestamp"', '"md5"', '"scores"'),
    ('"event_timestamp"', '"md5"', '"compressed_size"'),
    ('"endpoint.event.', '"device_id"'),
    ('"org_key"', '"device_name"', '"backend_'),
    ('"process_guid"', '"ingress.event.'),
)

_KNOWN = frozenset({"type", "event_timestamp", "device_name", "cb_server"})
_OF_HIT = "username observed_filename hostname endpoint process_name process_pid path cmdline parent_name"
_OF_LOG = (
    "action username process_username device_username childproc_username process_path process_name path filemod_name "
    "modload_name file_path local_ip remote_ip local_port remote_port direction netconn_inbound hostname computer_name "
    "protocol netconn_protocol reason watchlist_name feed_name device_internal_ip pid process_pid command_line "
    "process_cmdline cmdline parent_path parent_name watchlist_id feed_id ioc_type md5"
)
_GLANCE = Glance(
    *(*sorted(_KNOWN), *_TIMES, *_OF_LOG.split(), "ioc_attr.protocol"),
    *(f"docs[].{key}" for key in _OF_HIT.split()),
    wrapped=(*_LISTS, *_ENVELOPES),
)


def sniff(text: str) -> bool:
    return any(all(key in text for key in shape) for shape in _SHAPES)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    seen = _GLANCE.read(text)
    if seen is not None and not _KNOWN.isdisjoint(seen):
        return (_event(seen, text, origin, text, False),)
    found, damaged = json_log.logs(text, _LISTS, _ENVELOPES)
    events = [_event(log, text, origin, log, damaged) for log in found if not _KNOWN.isdisjoint(log)]
    if not events:
        raise ParseError("no Carbon Black event: neither type nor event_timestamp nor device_name")
    return events


def _event(log: Log, text: str, origin: Origin, all_of_it: Log | str, damaged: bool) -> Event:
    get = log.get
    action = text_of(get("type"))
    kind, category, types = _meaning(action or "", log)
    hit = part(log, "docs")  # of a watchlist or feed: the process or binary that was found
    change = text_of(get("action"))
    if kind in {"file", "registry"} and change is not None:
        types = (_CHANGES.get(change.lower().rpartition("_")[2], types[0]),)
    who = first(log, "username", "process_username", "device_username", "childproc_username") or first(hit, "username")
    user, domain = (None, None) if who is None else account(who) if "\\" in who else (who, None)
    path, own = first(log, "process_path", "process_name"), text_of(get("path"))
    touched = own if kind in {"file", "library"} else first(log, "filemod_name", "modload_name", "file_path")
    if kind == "binary" or (hit and "observed_filename" in hit):
        touched = touched or first(hit, "observed_filename")
    child = kind == "process" and (action or "").endswith("childproc")
    local, remote = address(get("local_ip")), address(get("remote_ip"))
    ports = port(get("local_port")), port(get("remote_port"))
    direction = (first(log, "direction") or "").lower()
    if direction == "inbound" or get("netconn_inbound") is True:
        local, remote, ports = remote, local, (ports[1], ports[0])
    host = first(hit, "hostname") or first(log, "hostname", "computer_name", "device_name")
    host = None if host is None else host.rpartition("\\")[2]
    if host is None and (place := first(hit, "endpoint")) is not None:
        host = place.partition("|")[0]
    protocol = word(get("protocol")) or first(log, "netconn_protocol") or first(part(log, "ioc_attr"), "protocol")
    return Event(
        moment(log, _TIMES, 0.0) or json_log.head(text, origin)[0],
        NAME,
        f"carbonblack.{kind}",
        category,
        types,
        action,
        None,
        None,
        first(log, "reason", "watchlist_name", "feed_name"),
        host,
        user,
        domain,
        local or address(get("device_internal_ip")),
        ports[0],
        None,
        remote,
        ports[1],
        None,
        None if protocol is None else _transport(protocol),
        first(hit, "process_name") or program(own if kind == "process" and not child and path is None else path),
        _pid(get("pid"), get("process_pid"), hit.get("process_pid")),
        first(hit, "path") or path or (own if kind == "process" and not child else None),
        first(hit, "cmdline") or first(log, "command_line", "process_cmdline", "cmdline"),
        first(hit, "parent_name") or program(first(log, "parent_path", "parent_name")),
        touched,
        fields=Lazy(_fields, all_of_it, damaged),
    )


def _meaning(action: str, log: Log) -> Meaning:
    if (known := _EVENTS.get(action.rpartition(".")[2])) is not None and action.startswith(("ingress.", "endpoint.")):
        return known
    if (hit := next((meaning for start, meaning in _STARTS if action.startswith(start)), None)) is not None:
        return hit
    if action in _CLOUD_ALERTS:
        return "alert", ("intrusion_detection",), ("info",)
    if "watchlist_id" in log or "feed_id" in log or "ioc_type" in log:
        return "watchlist" if "watchlist_id" in log else "feed", ("intrusion_detection",), ("info",)
    return "binary" if "md5" in log else "event", (), ("info",)


def _pid(*values: Any) -> int | None:
    """The first that is a number; the Cloud writes a list."""
    for value in values:
        first_of = value[0] if type(value) is list and value else value
        if (found := number(first_of)) is not None:
            return found
    return None


def _transport(protocol: str) -> str | None:
    low = protocol.lower().removeprefix("proto_")
    return TRANSPORTS.get(low, low if low in {"tcp", "udp", "icmp"} else None)


def _fields(all_of_it: Log | str, damaged: bool) -> Log:
    log, damaged = whole(all_of_it, damaged)
    hit = part(log, "docs")
    fields = flat(log, NAME)
    attributes = part(log, "ioc_attr")
    direction = first(log, "direction") or first(attributes, "direction")
    alert = "watchlist_id" in log or "feed_id" in log or "threat_id" in log
    return fields | stated(
        event__kind="alert" if alert else None,
        event__severity=number(log.get("severity")),
        event__url=first(log, "link_process", "alert_url"),
        event__reason=first(log, "reason", "tamper_type"),
        host__os__type=first(hit, "os_type"),
        host__id=word(log.get("sensor_id")) or word(log.get("device_id")),
        observer__name=first(log, "cb_server", "server_name"),
        observer__vendor="VMware",
        process__entity_id=first(hit, "unique_id") or first(log, "process_guid", "process_id"),
        process__parent__entity_id=first(hit, "parent_unique_id") or first(log, "parent_guid"),
        process__parent__pid=number(hit.get("parent_pid")) or number(log.get("parent_pid")),
        process__hash__md5=first(hit, "process_md5"),
        file__hash__md5=first(log, "md5") or first(hit, "md5"),
        file__hash__sha256=first(log, "sha256"),
        file__size=number(log.get("size")),
        destination__domain=first(log, "domain", "netconn_domain"),
        network__direction=None if direction is None else direction.lower(),
        registry__path=text_of(log.get("path"))
        if str(log.get("type")).endswith("regmod")
        else first(log, "regmod_name"),
        rule__name=first(log, "watchlist_name", "feed_name", "rule_name"),
        rule__id=word(log.get("watchlist_id")) or first(log, "report_id", "rule_id"),
        threat__indicator__type=first(log, "ioc_type"),
        threat__indicator__name=first(log, "ioc_value"),
        shield__truncated=damaged or None,
    )
