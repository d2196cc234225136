"""Suricata: EVE JSON of all event types (alert, flow, dns, http, tls, smb, krb5, ...) and the alerts of `fast.log`.

Suricata's own keys stay, flat, under `suricata.eve`; fields are mapped as Elastic's Suricata integration does.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple

from connectors import tolerant_json
from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.parsers import snort
from connectors.values import is_address

NAME = "suricata"

HEAD_CHARS_MAX = 512  # a syslog header before the JSON
LEAVES_MAX = 256  # of one event, kept under their own names
LEAF_DEPTH_MAX = 5
LIST_MAX = 64  # entries of one list
INTEGER_BITS = 63
PORT_MAX = 65_535
ADDRESSES_MAX = 65_536  # IPv6 addresses remembered in their short form


class _Kind(NamedTuple):
    category: tuple[str, ...]
    types: tuple[str, ...]


_NETWORK = ("network",)
_PROTOCOL = _Kind(_NETWORK, ("protocol",))
_OTHER = _Kind(_NETWORK, ("info",))
_KINDS: dict[str, _Kind] = {
    "alert": _Kind(("network", "intrusion_detection"), ("info",)),
    "anomaly": _Kind(("network", "intrusion_detection"), ("info",)),
    "drop": _Kind(_NETWORK, ("connection", "denied")),
    "flow": _Kind(_NETWORK, ("connection",)),
    "netflow": _Kind(_NETWORK, ("connection",)),
    "http": _Kind(("network", "web"), ("access", "protocol")),
    "http2": _Kind(("network", "web"), ("access", "protocol")),
    "fileinfo": _Kind(("network", "file"), ("info",)),
    "stats": _OTHER,
    "packetinfo": _OTHER,
    "metadata": _OTHER,
}
_KINDS |= dict.fromkeys(
    (
        "dns", "mdns", "tls", "ssh", "smtp", "smb", "krb5", "dcerpc", "dhcp", "ftp", "ftp_data", "tftp", "nfs", "rdp", "rfb",
        "sip", "snmp", "ike", "ikev2", "mqtt", "modbus", "dnp3", "enip", "pgsql", "quic", "telnet", "bittorrent_dht",
        "ldap", "pop3", "websocket", "doh2", "arp", "template", "template_rust", "ipv4", "ipv6", "lua", "ssl",
    ),
    _PROTOCOL,
)  # fmt: skip
_FLOW_STATES = {"new": ("connection", "start"), "closed": ("connection", "end"), "established": ("connection", "info")}
_WRONG_PASSWORD = frozenset({
    "KDC_ERR_PREAUTH_FAILED", "KDC_ERR_C_PRINCIPAL_UNKNOWN", "KDC_ERR_CLIENT_REVOKED", "KDC_ERR_KEY_EXPIRED",
    "KDC_ERR_CLIENT_NOTYET", "KDC_ERR_POLICY", "KDC_ERR_NEVER_VALID", "KDC_ERR_NAME_EXP",
})  # fmt: skip
_TRANSPORT = {"ipv6-icmp": "ipv6-icmp", "icmpv6": "ipv6-icmp"}
_NO_PORTS = frozenset({"icmp", "ipv6-icmp", "igmp"})
_NAMED = (  # path below the event, ECS path
    ("app_proto", "network.protocol"),
    ("community_id", "network.community_id"),
    ("in_iface", "observer.ingress.interface.name"),
    ("host", "observer.name"),
    ("vlan", "network.vlan.id"),
    ("alert.signature", "rule.name"),
    ("alert.category", "rule.category"),
    ("alert.severity", "event.severity"),
    ("http.http_method", "http.request.method"),
    ("http.http_user_agent", "user_agent.original"),
    ("http.http_refer", "http.request.referrer"),
    ("http.length", "http.response.body.bytes"),
    ("http.hostname", "url.domain"),
    ("http.protocol", "http.version"),
    ("tls.sni", "tls.client.server_name"),
    ("tls.version", "tls.version"),
    ("tls.subject", "tls.server.subject"),
    ("tls.issuerdn", "tls.server.issuer"),
    ("tls.notbefore", "tls.server.not_before"),
    ("tls.notafter", "tls.server.not_after"),
    ("tls.ja3.hash", "tls.client.ja3"),
    ("tls.ja3s.hash", "tls.server.ja3s"),
    ("dns.rcode", "dns.response_code"),
    ("dns.type", "dns.type"),
    ("fileinfo.size", "file.size"),
    ("fileinfo.md5", "file.hash.md5"),
    ("fileinfo.sha1", "file.hash.sha1"),
    ("fileinfo.sha256", "file.hash.sha256"),
    ("flow.start", "event.start"),
    ("flow.end", "event.end"),
    ("flow.reason", "event.reason"),
    ("flow.pkts_toserver", "source.packets"),
    ("flow.pkts_toclient", "destination.packets"),
    ("netflow.pkts", "source.packets"),
    ("email.from", "email.from.address"),
    ("drop.reason", "event.reason"),
    ("anomaly.event", "event.reason"),
)
_EVENT_TYPE = re.compile(r'"event_type"\s{0,2}:\s{0,2}"([a-z0-9_]{2,24})"')
_FAST = re.compile(r"\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d(?:\.\d{1,9})? {1,4}\[")


def sniff(text: str) -> bool:
    if text[2:3] == "/":
        return _FAST.match(text) is not None and "[**]" in text
    at = text.find("{", 0, HEAD_CHARS_MAX)
    if at < 0:
        return "suricata" in text[:HEAD_CHARS_MAX] and "[**]" in text and "] {" in text
    kind = _EVENT_TYPE.search(text, at)
    if kind is None or '"timestamp"' not in text:
        return "suricata" in text[:at] and "] {" in text
    return '"flow_id"' in text or '"src_ip"' in text or (kind[1] in _KINDS and f'"{kind[1]}"' in text[kind.end() :])


def parse(text: str, origin: Origin) -> Sequence[Event]:
    host = app = pid = None
    enveloped: float | None = None
    at = text.find("{", 0, HEAD_CHARS_MAX)
    if at < 0 or text[2:3] == "/" or text[at + 1 : at + 2].isupper():
        event = snort.alert(text, origin, NAME)
        if event is None:
            raise ParseError("no Suricata event: neither EVE JSON nor an alert of fast.log")
        return (event,)
    if at > 0:
        envelope = peel(text, origin)
        enveloped, host, app, pid = envelope.timestamp, envelope.host, envelope.app, envelope.pid
        text = text[at:]
    log, damaged = tolerant_json.decode(text)
    if type(log) is not dict or not ("event_type" in log or ("src_ip" in log and "timestamp" in log)):
        raise ParseError("no Suricata event: the JSON has no event_type")
    return (_event(log, damaged, enveloped, host, app, pid, origin),)


def _event(
    log: dict[str, Any], damaged: bool, enveloped: float | None, host: str | None, app: str | None, pid: int | None,
    origin: Origin,
) -> Event:  # fmt: skip
    get = log.get
    kind = _text(get("event_type")) or "event"
    category, types = _KINDS.get(kind, _OTHER)
    stated = get("timestamp")
    timestamp = enveloped
    if type(stated) is str:
        try:
            timestamp = from_iso(stated, origin.clock)
        except ValueError:
            timestamp = enveloped
    proto = get("proto")
    transport = _transport(proto) if type(proto) is str else None
    ported = transport not in _NO_PORTS
    source, destination = _address(get("src_ip")), _address(get("dest_ip"))
    sent = received = status = code = message = action = outcome = user = domain = service = path = None
    flow = get("flow")
    if type(flow) is dict:
        sent, received = _integer(flow.get("bytes_toserver")), _integer(flow.get("bytes_toclient"))
        if _address(flow.get("src_ip")) == destination != source and destination is not None:
            sent, received = received, sent  # an alert on what the server answered
        if kind == "flow":
            types = _FLOW_STATES.get(flow.get("state") or "", types)
    elif type(flow := get("netflow")) is dict:
        sent = _integer(flow.get("bytes"))
    alert = get("alert")
    if type(alert) is dict:
        code = _number_text(alert.get("signature_id"))
        message = _text(alert.get("category")) or _text(alert.get("signature"))
        action = _text(alert.get("action"))
        if kind in {"alert", "drop"}:
            types = ("connection", "denied") if action == "blocked" or kind == "drop" else ("allowed",)
    http = get("http")
    if type(http) is dict:
        status = _integer(http.get("status"))
        url = _text(http.get("url"))
        path = None if url is None else _path(url)
        if kind == "http" and status is not None:
            outcome = "success" if status < 400 else "failure"
    own = get(kind)
    own = own if type(own) is dict else {}
    if kind == "krb5":
        user, domain = _text(own.get("cname")), _text(own.get("realm"))
        service = "kerberos"
        request, error = _text(own.get("msg_type")), _text(own.get("error_code"))
        if request == "KRB_AS_REP" or error in _WRONG_PASSWORD:
            category, types = ("network", "authentication"), ("start", "protocol")
            outcome = "failure" if error else "success"
    elif kind == "smb":
        ntlm = own.get("ntlmssp")
        if type(ntlm) is dict:
            user, domain = _text(ntlm.get("user")), _text(ntlm.get("domain"))
        if own.get("command") == "SMB2_COMMAND_SESSION_SETUP" and user is not None:
            category, types, service = ("network", "authentication"), ("start", "protocol"), "smb"
            answer = _text(own.get("status")) or ""
            outcome = "success" if answer == "STATUS_SUCCESS" else "failure" if "LOGON" in answer else None
    elif kind == "ftp":
        if own.get("command") == "USER":
            user = _text(own.get("command_data"))
    elif kind == "pgsql":
        request = own.get("request")
        startup = request.get("startup_parameters") if type(request) is dict else None
        user = _text(startup.get("user")) if type(startup) is dict else None
    info = get("fileinfo")
    file_path = _text(info.get("filename")) if type(info) is dict else None
    if file_path is None and type(files := get("files")) is list and files and type(files[0]) is dict:
        file_path = _text(files[0].get("filename"))
    if file_path is None and kind in {"smb", "nfs", "ftp_data", "tftp"}:
        file_path = _text(own.get("filename")) or _text(own.get("file"))
    return Event(
        origin.received if timestamp is None else timestamp,
        NAME,
        f"suricata.{kind}",
        category,
        types,
        action,
        outcome,
        code,
        message,
        _text(get("host")) or host,
        user,
        domain,
        source,
        _port(get("src_port")) if ported else None,
        sent,
        destination,
        _port(get("dest_port")) if ported else None,
        received,
        transport,
        app,
        pid,
        None,
        None,
        None,
        file_path,
        path,
        status,
        service,
        Lazy(_fields, log, kind, damaged),
    )


def _fields(log: Mapping[str, Any], kind: str, damaged: bool) -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    _flatten(log, "", leaves, 0)
    fields: dict[str, Any] = {f"suricata.eve.{key}": value for key, value in leaves.items()}
    fields["event.kind"] = "alert" if kind == "alert" else "metric" if kind == "stats" else "event"
    fields["observer.product"] = "Suricata"
    for key, path in _NAMED:
        if (value := leaves.get(key)) is not None and value != "":
            fields[path] = value
    for key in ("signature_id", "rev"):
        if (number := _number_text(leaves.get(f"alert.{key}"))) is not None:
            fields["rule.id" if key == "signature_id" else "rule.version"] = number
    url = leaves.get("http.url")
    if type(url) is str:
        fields["url.original"] = url
        if "?" in url:
            fields["url.query"] = url.partition("?")[2]
    domain = leaves.get("http.hostname") or leaves.get("tls.sni")
    if type(domain) is str:
        fields["destination.domain"] = domain
    seconds = leaves.get("flow.age", leaves.get("netflow.age"))
    if type(seconds) is int:
        fields["event.duration"] = seconds * 1_000_000_000
    if (client := leaves.get("flow.src_ip")) is not None and client == log.get("dest_ip") != log.get("src_ip"):
        one, other = "source.packets", "destination.packets"
        fields[one], fields[other] = fields.get(other), fields.get(one)
    sent, received = leaves.get("flow.bytes_toserver"), leaves.get("flow.bytes_toclient")
    if type(sent) is int and type(received) is int:
        fields["network.bytes"] = sent + received
    if type(dns := log.get("dns")) is dict:
        _dns(dns, fields)
    if kind not in {"alert", "flow", "stats", "fileinfo", "drop", "netflow", "anomaly"} and "app_proto" not in leaves:
        fields["network.protocol"] = kind
    if damaged:
        fields["shield.truncated"] = True
    return fields


def _dns(dns: Mapping[str, Any], fields: dict[str, Any]) -> None:
    """Question and answers, as EVE 1 (one answer an event), 2 (`answers`) and 3 (`queries`) have them."""
    queries = dns.get("queries") or dns.get("query")
    first = queries[0] if type(queries) is list and queries and type(queries[0]) is dict else dns
    for key, path in (("rrname", "dns.question.name"), ("rrtype", "dns.question.type")):
        if (value := _text(first.get(key))) is not None:
            fields[path] = value
    answers = dns.get("answers")
    answers = [answer for answer in answers[:LIST_MAX] if type(answer) is dict] if type(answers) is list else [dns]
    data = [value for answer in answers if (value := _text(answer.get("rdata"))) is not None]
    if data:
        fields["dns.answers.data"] = data
        if found := [value for value in data if is_address(value)]:
            fields["dns.resolved_ip"] = found


def _flatten(value: Mapping[str, Any], prefix: str, leaves: dict[str, Any], depth: int) -> None:
    for key, below in value.items():
        if len(leaves) >= LEAVES_MAX:
            return
        name = f"{prefix}{key.strip('.')}"
        if type(below) is dict:
            if depth < LEAF_DEPTH_MAX and below:
                _flatten(below, f"{name}.", leaves, depth + 1)
        elif type(below) is list:
            plain = [part for part in below[:LIST_MAX] if _plain(part)]
            if plain:
                leaves[name] = plain
        elif _plain(below) and name:
            leaves[name] = below


def _plain(value: Any) -> bool:
    kind = type(value)
    return kind in {str, bool, float} or (kind is int and value.bit_length() <= INTEGER_BITS)


def _text(value: Any) -> str | None:
    return value if type(value) is str and value else None


def _number_text(value: Any) -> str | None:
    return str(value) if type(value) is int and value.bit_length() <= INTEGER_BITS else _text(value)


def _integer(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**INTEGER_BITS else None


def _port(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= PORT_MAX else None


def _address(value: Any) -> str | None:
    if type(value) is not str or not value:
        return None
    return _short(value) if ":" in value else value


@lru_cache(maxsize=ADDRESSES_MAX)
def _short(address: str) -> str:
    """Suricata writes IPv6 addresses in full; everyone else, and so the rules, writes them short."""
    try:
        return ip_address(address).compressed
    except ValueError:
        return address


@lru_cache(maxsize=256)
def _transport(proto: str) -> str:
    low = proto.lower()
    return _TRANSPORT.get(low, low)


def _path(url: str) -> str | None:
    rest = url.partition("?")[0]
    if "://" in rest:
        return "/" + rest.split("://", 1)[1].partition("/")[2]
    return rest or None
