"""Zeek (formerly Bro) logs: JSON and TSV, all log files, with `_path` or without; Corelight and `json-streaming-logs` too.

Which file a JSON line is from is told by `_path`, by what it is wrapped in or by its keys; a TSV line by the `#fields` of
its file, else by its shape. Zeek's own keys stay in `fields`; fields are mapped as Elastic's Zeek integration does.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from connectors import columns, tolerant_json
from connectors.clock import from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError

NAME = "zeek"

HEAD_CHARS_MAX = 512  # a syslog header before the JSON
LEAVES_MAX = 256  # of one event, kept under their own names
LIST_MAX = 256  # entries of one list
SHAPES_MAX = 4096  # sets of keys remembered with the log file they are from
COLUMNS_MAX = 128  # of a TSV line
INTEGER_BITS = 63
PORT_MAX = 65_535
SECONDS_NS = 1_000_000_000

_ENDS = ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# The columns that Zeek writes when nothing is configured, newest version; older ones have fewer at the end.
_CONN = (
    *_ENDS,
    *_words(
        "proto service duration orig_bytes resp_bytes conn_state local_orig local_resp missed_bytes history "
        "orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes tunnel_parents ip_proto"
    ),
)
_DNS = (
    *_ENDS,
    *_words(
        "proto trans_id rtt query qclass qclass_name qtype qtype_name rcode rcode_name AA TC RD RA Z answers TTLs "
        "rejected"
    ),
)
_DNS_OLD = tuple(name for name in _DNS if name != "rtt")
_HTTP = (
    *_ENDS,
    *_words(
        "trans_depth method host uri referrer version user_agent origin request_body_len response_body_len "
        "status_code status_msg info_code info_msg tags username password proxied orig_fuids orig_filenames "
        "orig_mime_types resp_fuids resp_filenames resp_mime_types"
    ),
)
_HTTP_OLD = tuple(name for name in _HTTP if name not in {"version", "origin", "orig_filenames", "resp_filenames"})
_HTTP_MIDDLE = tuple(name for name in _HTTP if name != "origin")
_SIP = (
    *_ENDS,
    *_words(
        "trans_depth method uri date request_from request_to response_from response_to reply_to call_id seq "
        "subject request_path response_path user_agent status_code status_msg warning request_body_len "
        "response_body_len content_type"
    ),
)
_SMTP = (
    *_ENDS,
    *_words(
        "trans_depth helo mailfrom rcptto date from to cc reply_to msg_id in_reply_to subject x_originating_ip "
        "first_received second_received last_reply path user_agent tls fuids is_webmail"
    ),
)
_SSL = (
    *_ENDS,
    *_words(
        "version cipher curve server_name resumed last_alert next_protocol established ssl_history cert_chain_fps "
        "client_cert_chain_fps sni_matches_cert validation_status"
    ),
)
_SSL_OLD = (
    *_ENDS,
    *_words(
        "version cipher curve server_name resumed last_alert next_protocol established cert_chain_fuids "
        "client_cert_chain_fuids subject issuer client_subject client_issuer validation_status ja3 ja3s"
    ),
)
_SSH = (
    *_ENDS,
    *_words(
        "version auth_success auth_attempts direction client server cipher_alg mac_alg compression_alg kex_alg "
        "host_key_alg host_key remote_location.country_code remote_location.region remote_location.city "
        "remote_location.latitude remote_location.longitude"
    ),
)
_FILES_OLD = _words(
    "ts fuid tx_hosts rx_hosts conn_uids source depth analyzers mime_type filename duration local_orig is_orig "
    "seen_bytes total_bytes missing_bytes overflow_bytes timedout parent_fuid md5 sha1 sha256 extracted "
    "extracted_cutoff extracted_size"
)
_FILES = ("ts", "fuid", *_ENDS[1:], *_FILES_OLD[5:])
_NOTICE = (
    *_ENDS,
    *_words(
        "fuid file_mime_type file_desc proto note msg sub src dst p n peer_descr actions email_dest suppress_for "
        "remote_location.country_code remote_location.region remote_location.city remote_location.latitude "
        "remote_location.longitude"
    ),
)
_WEIRD = (*_ENDS, *_words("name addl notice peer source"))
_KERBEROS = (
    *_ENDS,
    *_words(
        "request_type client service success error_msg from till cipher forwardable renewable client_cert_subject "
        "client_cert_fuid server_cert_subject server_cert_fuid"
    ),
)
_NTLM = (
    *_ENDS,
    *_words("username hostname domainname server_nb_computer_name server_dns_computer_name server_tree_name success"),
)
_RDP = (
    *_ENDS,
    *_words(
        "cookie result security_protocol client_channels keyboard_layout client_build client_name "
        "client_dig_product_id desktop_width desktop_height requested_color_depth cert_type cert_count "
        "cert_permanent encryption_level encryption_method"
    ),
)
_SMB_FILES = (
    *_ENDS,
    *_words("fuid action path name size prev_name times.modified times.accessed times.created times.changed"),
)
_SMB_MAPPING = (*_ENDS, *_words("path service native_file_system share_type"))
_DHCP = _words(
    "ts uids client_addr server_addr mac host_name client_fqdn domain requested_addr assigned_addr lease_time "
    "client_message server_message msg_types duration"
)
_DHCP_OLD = (*_ENDS, "mac", "assigned_ip", "lease_time", "trans_id")
_FTP = (
    *_ENDS,
    *_words(
        "user password command arg mime_type file_size reply_code reply_msg data_channel.passive "
        "data_channel.orig_h data_channel.resp_h data_channel.resp_p fuid"
    ),
)
_DCE_RPC = (*_ENDS, "rtt", "named_pipe", "endpoint", "operation")
_CERTIFICATE = _words(
    "certificate.version certificate.serial certificate.subject certificate.issuer "
    "certificate.not_valid_before certificate.not_valid_after certificate.key_alg certificate.sig_alg "
    "certificate.key_type certificate.key_length certificate.exponent certificate.curve san.dns san.uri "
    "san.email san.ip basic_constraints.ca basic_constraints.path_len"
)
_X509_OLD = ("ts", "id", *_CERTIFICATE)
_X509 = ("ts", "fingerprint", *_CERTIFICATE, "host_cert", "client_cert")
_SOFTWARE = _words(
    "ts host host_p software_type name version.major version.minor version.minor2 version.minor3 version.addl "
    "unparsed_version"
)
_SYSLOG = (*_ENDS, "proto", "facility", "severity", "message")
_TUNNEL = (*_ENDS, "tunnel_type", "action")
_SNMP = (
    *_ENDS,
    *_words(
        "duration version community get_requests get_bulk_requests get_responses set_requests display_string up_since"
    ),
)
_RADIUS = (*_ENDS, *_words("username mac framed_addr tunnel_client connect_info reply_msg result ttl"))
_KNOWN_SERVICES = ("ts", "host", "port_num", "port_proto", "service")
_KNOWN_CERTS = ("ts", "host", "port_num", "subject", "issuer_subject", "serial")
_INTEL = (
    *_ENDS,
    *_words("seen.indicator seen.indicator_type seen.where seen.node matched sources fuid file_mime_type file_desc"),
)
_DPD = (*_ENDS, "proto", "analyzer", "failure_reason")

_IP = r"[0-9A-Fa-f.:]{2,45}"
_PROTO = r"(?:tcp|udp|icmp|sctp|unknown_transport)"
# How the columns of one log file look where no other's do: {index: what stands there in full}; least number of columns.
_LAYOUTS: tuple[tuple[str, tuple[str, ...], int, dict[int, str]], ...] = (
    ("conn", _CONN, 19, {6: _PROTO, 11: r"S[0123F]|REJ|RSTO|RSTR|RSTOS0|RSTRH|SH|SHR|OTH"}),
    ("dns", _DNS, 24, {6: "tcp|udp", 7: r"\d{1,5}", 23: "[TF-]"}),
    ("dns", _DNS_OLD, 23, {6: "tcp|udp", 7: r"\d{1,5}", 22: "[TF-]"}),
    ("ssl", _SSL, 16, {6: r"(?:TLSv|SSLv|DTLSv|unknown-).*|-", 10: "[TF]", 13: "[TF]", 14: r"[A-Za-z]*|-"}),
    ("ssl", _SSL_OLD, 14, {6: r"(?:TLSv|SSLv|DTLSv|unknown-).*|-", 10: "[TF]", 13: "[TF]"}),
    ("ssh", _SSH, 18, {6: r"\d|-", 10: r"SSH-.*|-", 11: r"SSH-.*|-", 7: "[TF-]"}),
    ("sip", _SIP, 20, {6: r"\d{1,9}", 7: r"[A-Z]{3,16}", 8: r"sips?:.*|tel:.*"}),
    ("http", _HTTP, 30, {6: r"\d{1,9}", 14: r"\d{1,18}", 15: r"\d{1,18}"}),
    ("http", _HTTP_MIDDLE, 29, {6: r"\d{1,9}", 13: r"\d{1,18}", 14: r"\d{1,18}"}),
    ("http", _HTTP_OLD, 25, {6: r"\d{1,9}", 12: r"\d{1,18}", 13: r"\d{1,18}"}),
    ("smtp", _SMTP, 25, {6: r"\d{1,9}", 24: "[TF]"}),
    ("kerberos", _KERBEROS, 14, {6: "AS|TGS|-", 9: "[TF-]", 14: "[TF-]"}),
    ("rdp", _RDP, 19, {8: r"HYBRID|HYBRID_EX|RDP|SSL|RDSTLS|-", 7: r"\S{1,64}|-", 18: r"\d+|-"}),
    ("smb_files", _SMB_FILES, 15, {7: r"SMB::\w+|-"}),
    ("smb_mapping", _SMB_MAPPING, 10, {9: r"DISK|PIPE|PRINT"}),
    ("dce_rpc", _DCE_RPC, 10, {6: r"\d+\.\d+|-", 8: r"[\w.-]+", 9: r"[\w.-]+"}),
    ("ntlm", _NTLM, 13, {12: "[TF-]"}),
    ("notice", _NOTICE, 16, {10: r"\w+::\w+"}),
    ("ftp", _FTP, 18, {8: r"[A-Z]{3,5}|<\w+>|-", 12: r"\d{3}|-", 14: "[TF-]"}),
    ("dhcp", _DHCP_OLD, 10, {6: r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", 7: _IP}),
    ("weird", _WEIRD, 10, {6: r"\S{3,80}", 8: "[TF]"}),
    ("syslog", _SYSLOG, 10, {6: "udp|tcp", 7: r"[A-Z]\w+", 8: r"[A-Z]\w+"}),
    ("dpd", _DPD, 9, {6: "udp|tcp", 7: r"[A-Z]\w+"}),
    ("tunnel", _TUNNEL, 8, {6: r"Tunnel::\w+", 7: r"Tunnel::\w+"}),
    ("intel", _INTEL, 12, {7: r"Intel::\w+", 8: r"\w+::\w+"}),
    ("radius", _RADIUS, 12, {12: r"success|failed|unknown|-"}),
    ("snmp", _SNMP, 15, {7: r"[123]c?", 9: r"\d+"}),
)  # fmt: skip
_OTHER_LAYOUTS: tuple[tuple[str, tuple[str, ...], int, dict[int, str]], ...] = (  # without both ends at the usual place
    ("files", _FILES, 24, {1: r"F\w{5,20}", 4: r"\d{1,5}", 6: r"\d{1,5}"}),
    ("files", _FILES_OLD, 19, {1: r"F\w{5,20}", 5: r"[A-Z][A-Z_]+|-"}),
    ("x509", _X509_OLD, 12, {1: r"F\w{5,20}", 2: r"\d"}),
    ("x509", _X509, 12, {1: r"[0-9a-f]{64}", 2: r"\d"}),
    ("dhcp", _DHCP, 14, {13: r"[A-Z,]+", 4: r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}|-"}),
    ("software", _SOFTWARE, 11, {1: _IP, 3: r"\w+::\w+"}),
    ("known_certs", _KNOWN_CERTS, 6, {1: _IP, 2: r"\d{1,5}"}),
    ("known_services", _KNOWN_SERVICES, 5, {1: _IP, 2: r"\d{1,5}", 3: "tcp|udp|icmp"}),
    ("known_hosts", ("ts", "host"), 2, {1: _IP}),
    ("traceroute", ("ts", "src", "dst", "proto"), 4, {1: _IP, 2: _IP, 3: "tcp|udp|icmp"}),
)  # fmt: skip

# A key that only this file has; the first of the list that a line has decides.
_MARKS: tuple[tuple[str, str], ...] = (
    ("conn_state", "conn"), ("qclass", "dns"), ("rcode", "dns"), ("trans_id", "dns"), ("call_id", "sip"), ("request_from", "sip"),
    ("response_path", "sip"), ("helo", "smtp"), ("mailfrom", "smtp"), ("is_webmail", "smtp"), ("note", "notice"),
    ("auth_attempts", "ssh"), ("kex_alg", "ssh"), ("host_key_alg", "ssh"), ("software_type", "software"), ("seen_bytes", "files"),
    ("tx_hosts", "files"), ("request_type", "kerberos"), ("server_nb_computer_name", "ntlm"), ("domainname", "ntlm"),
    ("seen.indicator", "intel"), ("sig_id", "signatures"), ("share_type", "smb_mapping"), ("security_protocol", "rdp"),
    ("keyboard_layout", "rdp"), ("client_dig_product_id", "rdp"), ("named_pipe", "dce_rpc"), ("endpoint", "dce_rpc"),
    ("certificate.version", "x509"), ("certificate.serial", "x509"), ("hashAlgorithm", "ocsp"), ("is_exe", "pe"), ("subsystem", "pe"),
    ("percent_lost", "capture_loss"), ("pkts_proc", "stats"), ("stratum", "ntp"), ("client_major_version", "rfb"),
    ("authentication_method", "rfb"), ("desktop_name", "rfb"), ("tunnel_type", "tunnel"), ("get_requests", "snmp"),
    ("community", "snmp"), ("bound_p", "socks"), ("request_p", "socks"), ("fc_request", "dnp3"), ("fc_reply", "dnp3"),
    ("func", "modbus"), ("cmd", "mysql"), ("analyzer_kind", "analyzer"), ("failure_reason", "dpd"), ("port_proto", "known_services"),
    ("issuer_subject", "known_certs"), ("msg_types", "dhcp"), ("assigned_addr", "dhcp"), ("assigned_ip", "dhcp"),
    ("dhcp_host_name", "known_devices"), ("base_object", "ldap_search"), ("deref_aliases", "ldap_search"), ("message_id", "ldap"), ("nick", "irc"), ("addl_flags", "irc"),
    ("request_body_len", "http"), ("method", "http"), ("cipher", "ssl"), ("server_name", "ssl"), ("established", "ssl"),
    ("reply_code", "ftp"), ("reply_msg", "ftp"), ("data_channel.resp_p", "ftp"), ("auth_success", "ssh"), ("framed_addr", "radius"),
    ("connect_info", "radius"), ("cookie", "rdp"), ("server_scid", "quic"), ("client_initial_dcid", "quic"), ("filter", "packet_filter"),
    ("value", "irc"), ("password", "ftp"), ("facility", "syslog"), ("notice", "weird"), ("domain", "ntlm"),
)  # fmt: skip

_TRANSPORT_OF = dict.fromkeys(
    (
        "http", "ssl", "ssh", "smtp", "ftp", "rdp", "smb_files", "smb_mapping", "smb_cmd", "dce_rpc", "ntlm", "kerberos", "irc", "mysql",
        "modbus", "rfb", "socks", "dnp3", "ldap", "ldap_search", "postgresql", "redis", "websocket",
    ),
    "tcp",
) | dict.fromkeys(("dhcp", "ntp", "radius", "snmp", "sip", "quic", "syslog"), "udp")  # fmt: skip
_ACTION = {
    "dce_rpc": "operation", "dnp3": "fc_request", "ftp": "command", "http": "method", "irc": "command", "kerberos": "request_type",
    "modbus": "func", "mysql": "cmd", "sip": "method", "smb_files": "action", "smb_cmd": "command", "tunnel": "action",
    "notice": "note", "weird": "name",
}  # fmt: skip
_CATEGORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "conn": (("network",), ("connection",)),
    "http": (("network", "web"), ("connection", "protocol", "info")),
    "mysql": (("network", "database"), ("connection", "protocol", "info")),
    "files": (("file",), ("info",)),
    "pe": (("file",), ("info",)),
    "smb_files": (("network", "file"), ("connection", "protocol", "info")),
    "notice": (("intrusion_detection",), ("info",)),
    "signatures": (("network", "intrusion_detection"), ("info",)),
    "intel": (("threat",), ("indicator",)),
    "weird": (("network",), ("info",)),
    "traceroute": (("network",), ("info",)),
    "known_hosts": (("network", "host"), ("info",)),
    "kerberos": (("network", "authentication"), ("connection", "protocol", "access")),
    "ntlm": (("network", "authentication"), ("connection", "info")),
    "radius": (("network", "authentication"), ("connection", "info")),
}
_PROTOCOL = (("network",), ("connection", "protocol", "info"))
_INFO = (("network",), ("info",))
_ABOUT_ZEEK = frozenset({
    "stats", "capture_loss", "loaded_scripts", "packet_filter", "reporter", "cluster", "broker", "x509", "ocsp", "software", "head",
    "known_services", "known_certs", "known_devices", "prof", "config", "analyzer", "dpd", "telemetry", "notice_alarm",
})  # fmt: skip
_STATES = {  # of a connection, as Elastic reads them
    "S0": ("connection", "start"), "S1": ("connection", "start"), "SF": ("connection", "start", "end"),
    "REJ": ("connection", "start", "denied"), "S2": ("connection", "info"), "S3": ("connection", "info"),
    "RSTO": ("connection", "info"), "RSTR": ("connection", "info"), "RSTOS0": ("connection", "info"),
    "RSTRH": ("connection", "info"), "SH": ("connection", "info"), "SHR": ("connection", "info"), "OTH": ("connection", "info"),
}  # fmt: skip
_RECEIVED = frozenset({"success", "succeeded"})
_YES = (True, "T", "true")  # no sets: JSON may have a list or an object here
_NO = (False, "F", "false")
_LISTS = frozenset({
    "answers", "TTLs", "tags", "resp_fuids", "orig_fuids", "resp_mime_types", "orig_mime_types", "resp_filenames", "orig_filenames",
    "proxied", "tunnel_parents", "tx_hosts", "rx_hosts", "conn_uids", "analyzers", "rcptto", "to", "cc", "path_list", "fuids",
    "cert_chain_fuids", "client_cert_chain_fuids", "cert_chain_fps", "client_cert_chain_fps", "uids", "msg_types", "client_channels",
    "actions", "email_dest", "matched", "sources", "san.dns", "san.uri", "san.email", "san.ip",
})  # fmt: skip
_COUNTS = frozenset({
    "trans_id", "qclass", "qtype", "rcode", "Z", "trans_depth", "request_body_len", "response_body_len", "status_code", "info_code",
    "orig_bytes", "resp_bytes", "missed_bytes", "orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes", "depth", "seen_bytes",
    "total_bytes", "missing_bytes", "overflow_bytes", "auth_attempts", "size", "file_size", "reply_code", "port_num", "host_p",
    "desktop_width", "desktop_height", "cert_count", "p", "n", "id.orig_p", "id.resp_p", "ip_proto", "data_channel.resp_p",
    "certificate.version", "certificate.key_length", "extracted_size",
})  # fmt: skip
_BOOLEANS = frozenset({
    "AA", "TC", "RD", "RA", "rejected", "local_orig", "local_resp", "is_orig", "timedout", "resumed", "established", "notice", "tls",
    "is_webmail", "success", "auth_success", "forwardable", "renewable", "cert_permanent", "data_channel.passive", "extracted_cutoff",
    "sni_matches_cert", "host_cert", "client_cert", "basic_constraints.ca",
})  # fmt: skip
_NAMED = (  # (log file or "", key, ECS path)
    ("", "community_id", "network.community_id"), ("", "uid", "zeek.session_id"), ("", "peer", "observer.name"),
    ("", "_system_name", "observer.name"), ("conn", "service", "network.protocol"), ("conn", "history", "zeek.connection.history"),
    ("conn", "conn_state", "zeek.connection.state"), ("conn", "orig_pkts", "source.packets"), ("conn", "resp_pkts", "destination.packets"),
    ("dns", "query", "dns.question.name"), ("dns", "qtype_name", "dns.question.type"), ("dns", "qclass_name", "dns.question.class"),
    ("dns", "rcode_name", "dns.response_code"), ("dns", "answers", "dns.answers.data"), ("http", "method", "http.request.method"),
    ("http", "version", "http.version"), ("http", "referrer", "http.request.referrer"), ("http", "user_agent", "user_agent.original"),
    ("http", "host", "url.domain"), ("http", "request_body_len", "http.request.body.bytes"),
    ("http", "response_body_len", "http.response.body.bytes"), ("http", "password", "url.password"), ("ssl", "server_name", "tls.client.server_name"),
    ("ssl", "cipher", "tls.cipher"), ("ssl", "version", "tls.version"), ("ssl", "curve", "tls.curve"), ("ssl", "ja3", "tls.client.ja3"),
    ("ssl", "ja3s", "tls.server.ja3s"), ("ssl", "subject", "tls.server.subject"), ("ssl", "issuer", "tls.server.issuer"),
    ("ssl", "next_protocol", "tls.next_protocol"), ("files", "md5", "file.hash.md5"), ("files", "sha1", "file.hash.sha1"),
    ("files", "sha256", "file.hash.sha256"), ("files", "mime_type", "file.mime_type"), ("files", "filename", "file.name"),
    ("files", "total_bytes", "file.size"), ("smb_files", "name", "file.name"), ("smb_files", "size", "file.size"),
    ("notice", "note", "rule.name"), ("notice", "msg", "rule.description"), ("weird", "name", "rule.name"),
    ("signatures", "sig_id", "rule.id"), ("signatures", "event_msg", "rule.description"), ("smtp", "from", "email.from.address"),
    ("smtp", "to", "email.to.address"), ("smtp", "subject", "email.subject"), ("smtp", "user_agent", "user_agent.original"),
    ("dhcp", "mac", "client.mac"), ("kerberos", "error_msg", "event.reason"), ("rdp", "cookie", "zeek.rdp.cookie"),
    ("intel", "seen.indicator", "threat.indicator.description"), ("intel", "seen.indicator_type", "threat.indicator.type"),
    ("ntlm", "hostname", "source.domain"), ("known_hosts", "host", "host.ip"), ("known_services", "host", "server.ip"),
    ("known_services", "port_num", "server.port"), ("software", "name", "package.name"), ("software", "unparsed_version", "package.version"),
    ("dpd", "failure_reason", "event.reason"), ("analyzer", "failure_reason", "event.reason"),
)  # fmt: skip
_NAMED_OF: dict[str, tuple[tuple[str, str], ...]] = {}
for _file in {name for name, _, _ in _NAMED}:
    _NAMED_OF[_file] = tuple((key, path) for name, key, path in _NAMED if name in {"", _file})

_SNIFFED = re.compile(
    r'\{\s?"(?:_path"|[a-z0-9_]{2,24}":\s?\{\s?"ts":|ts":\s?["\d]|_system_name"|_write_ts"|id\.orig_h":)|\{"[^{}]{0,400}"(?:id\.orig_h|_write_ts)":'
)
_TSV = re.compile(r"\d{9,10}\.\d{1,9}\t")
_TSV_SHAPE = re.compile(
    rf"\d{{9,10}}\.\d{{1,9}}\t(?:(?:C\w{{5,20}}|-)\t(?:{_IP}|-)\t(?:\d{{1,5}}|-)\t|(?:F\w{{5,20}}|[0-9a-f]{{64}}|{_IP})(?:\t|$)|C[\w,]{{5,200}}\t(?:{_IP}|-)\t)"
)
_HEAD = re.compile(
    r"#(?:separator \\x|set_separator\t|empty_field\t|unset_field\t|path\t|open\t|close\t|fields\t|types\t)"
)

_Layout = tuple[str, tuple[str, ...]]
_LAYOUTS_READY = tuple(
    (path, names, least, tuple((index, re.compile(shape)) for index, shape in shapes.items()))
    for path, names, least, shapes in (*_LAYOUTS, *_OTHER_LAYOUTS)
)
_SHAPES: dict[tuple[str, ...], str] = {}


def sniff(text: str) -> bool:
    first = text[:1]
    if first == "{":
        return _json_like(text, 0)
    if first == "#":
        return _HEAD.match(text) is not None
    if first.isdecimal():
        return _TSV_SHAPE.match(text) is not None
    at = text.find("{", 0, HEAD_CHARS_MAX)
    return at > 0 and _json_like(text, at)


def _json_like(text: str, at: int) -> bool:
    if text.startswith('{"preview":', at) and '"_raw":"{\\"ts\\":' in text[at : at + 2048]:  # out of Splunk's export
        return True
    if _SNIFFED.match(text, at) is None:
        return False
    head = text[at : at + 2048]
    if '"_path"' in head:
        return '"ts"' in head or '"_write_ts"' in head
    return '"ts":' in head and any(mark in head for mark in _TELLING)


_TELLING = (*(f'"{key}":' for key in (
    "id.orig_h", "id_orig_h", "uid", "fuid", "notice", "tx_hosts", "msg_types", "note", "software_type", "percent_lost", "certificate.version",
    "hashAlgorithm", "pkts_proc", "port_num", "host_p", "is_exe", "src_addr", "dhcp_host_name", "seen.indicator", "uids", "assigned_addr",
)), '"src":', '"host":"')  # fmt: skip


def parse(text: str, origin: Origin) -> Sequence[Event]:
    at = text.find("{", 0, HEAD_CHARS_MAX)
    if at >= 0 and not text[:1].isdecimal() and text[:1] != "#":
        return (_json(text, at, origin),)
    if text[:1] == "#" and _HEAD.match(text) is not None:
        return (_head(text, origin),)
    if _TSV.match(text) is None:
        raise ParseError("no Zeek log: neither JSON nor columns that begin with the time")
    cells = text.split("\t", COLUMNS_MAX)
    if len(cells) > COLUMNS_MAX:
        raise ParseError(f"more than {COLUMNS_MAX} columns")
    path, names = _layout(cells, origin)
    log: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=False) if cell not in ("-", "(empty)")}
    return (_event(path, log, False, origin, None, None),)


def _head(text: str, origin: Origin) -> Event:
    if text.startswith("#fields\t"):
        columns.remember(origin, tuple(text[8:].split("\t")))
    return Event(
        timestamp=origin.received,
        event_module=NAME,
        event_dataset="zeek.head",
        event_category=("network",),
        event_type=("info",),
        message=text,
    )


def _layout(cells: list[str], origin: Origin) -> _Layout:
    """Log file and columns of a TSV line: by the header that this source had, else by its shape."""
    names = columns.stated(origin, len(cells))
    if names is not None:
        return _file_of(names), names
    for path, known, least, shapes in _LAYOUTS_READY:
        if least <= len(cells) <= len(known) and all(
            index >= len(cells) or shape.fullmatch(cells[index]) is not None for index, shape in shapes
        ):
            return path, known
    if len(cells) >= len(_ENDS):
        return "log", (*_ENDS, *(f"column_{number}" for number in range(len(_ENDS) + 1, len(cells) + 1)))
    raise ParseError("columns of no known Zeek log; the #fields line that heads its file would tell")


def _json(text: str, at: int, origin: Origin) -> Event:
    log, damaged = tolerant_json.decode(text[at:] if at else text)
    if type(log) is not dict:
        raise ParseError("no Zeek log: no JSON object")
    host: str | None = None
    if type(found := log.get("result")) is dict and type(raw := found.get("_raw")) is str:  # out of Splunk's export
        host = _text(found.get("host"))
        log, damaged = tolerant_json.decode(raw)
        if type(log) is not dict:
            raise ParseError("no Zeek log: no JSON object in the exported line")
    path = log.get("_path")
    if path is None and len(log) == 1:  # {"conn": {...}}
        wrapping, inner = next(iter(log.items()))
        if type(inner) is dict:
            path, log = wrapping, inner
    if "id_orig_h" in log:
        log = {_DOTTED.get(key, key): value for key, value in log.items()}
    elif type(ends := log.get("id")) is dict:
        log = {**log, **{f"id.{key}": value for key, value in ends.items()}}
    if not ("ts" in log or "uid" in log or "id.orig_h" in log or "_path" in log):
        raise ParseError("no Zeek log: the JSON has no ts, uid, id.orig_h or _path")
    if type(path) is not str or not path.isascii() or not path.replace("_", "").isalnum():
        path = _file_of(tuple(log))
    enveloped = None
    if at > 0:
        envelope = peel(text[:at], origin)
        enveloped, host = envelope.timestamp, envelope.host
    return _event(path, log, damaged, origin, enveloped, host)


_DOTTED = {f"id_{key}": f"id.{key}" for key in ("orig_h", "orig_p", "resp_h", "resp_p")}


def _file_of(keys: tuple[str, ...]) -> str:
    """The log file that a line with these keys is from."""
    found = _SHAPES.get(keys)
    if found is None:
        held = set(keys)
        found = next((file for mark, file in _MARKS if mark in held), None)
        if found is None:
            found = _by_few_keys(held)
        if len(_SHAPES) >= SHAPES_MAX:
            _SHAPES.clear()
        _SHAPES[keys] = found
    return found


def _by_few_keys(held: set[str]) -> str:
    if "result" in held and "username" in held:
        return "radius"
    if "action" in held and ("path" in held or "name" in held):
        return "smb_files"
    if "username" in held:
        return "ntlm"
    if "path" in held and "uid" in held:
        return "smb_mapping"
    if "name" in held and "uid" in held:
        return "weird"
    if "fuid" in held:
        return "files"
    if {"src", "dst", "proto"} <= held:
        return "traceroute"
    if "user" in held or "command" in held:
        return "irc" if "reply" not in held else "ftp"
    if "version" in held and "uid" in held:
        return "ssl"
    if "host" in held and len(held) <= 4:
        return "known_hosts"
    return "log"


def _event(
    path: str, log: dict[str, Any], damaged: bool, origin: Origin, enveloped: float | None, host: str | None
) -> Event:
    get = log.get
    source, destination = _text(get("id.orig_h")), _text(get("id.resp_h"))
    sport, dport = _port(get("id.orig_p")), _port(get("id.resp_p"))
    proto = _text(get("proto")) or _text(get("port_proto"))
    transport = proto.lower() if proto is not None else _TRANSPORT_OF.get(path)
    category, types = _CATEGORIES.get(path) or (_INFO if path in _ABOUT_ZEEK else _PROTOCOL)
    key = _ACTION.get(path)
    action = None if key is None else _text(get(key))
    sent = received = status = user = domain = message = outcome = service = file_path = url = None
    success: Any = None
    if path == "conn":
        sent, received = _integer(get("orig_ip_bytes")), _integer(get("resp_ip_bytes"))
        if sent is None:
            sent = _integer(get("orig_bytes"))
        if received is None:
            received = _integer(get("resp_bytes"))
        types = _STATES.get(get("conn_state") or "", types)
    elif path == "dns":
        rcode = _integer(get("rcode"))
        outcome = None if rcode is None else "success" if rcode == 0 else "failure"
    elif path in {"http", "sip"}:
        status = _integer(get("status_code"))
        url = _text(get("uri"))
        user = _text(get("username"))
        if status is not None:
            outcome = "success" if status < 400 else "failure"  # HTTP and SIP share the classes
    elif path == "kerberos":
        user, domain = _account(_text(get("client")))
        success, service = get("success"), "kerberos"
        if action == "AS" and success is not None:
            types = ("start", "protocol")
    elif path in {"ntlm", "radius"}:
        user, domain = _text(get("username")), _text(get("domainname"))
        success, service = get("success", get("status")), path
        if path == "radius" and (result := _text(get("result"))) is not None:
            success = result in _RECEIVED
        if success is not None:
            types = ("start",)
    elif path == "ssh":
        success, service = get("auth_success"), "ssh"
        if success is not None:
            category, types = ("network", "authentication"), ("start",)
    elif path == "rfb":
        success, service = get("auth"), "vnc"
        if success is not None:
            category, types = ("network", "authentication"), ("start",)
    elif path in {"notice", "traceroute", "signatures"}:
        source = source or _text(get("src")) or _text(get("src_addr"))
        destination = destination or _text(get("dst")) or _text(get("dst_addr"))
        sport = _port(get("src_port")) if sport is None else sport
        dport = _port(get("p", get("dst_port"))) if dport is None else dport
        message = _text(get("msg")) or _text(get("event_msg"))
        if path == "notice" and get("dropped") is not None:
            types = ("info", "denied") if get("dropped") in _YES else ("info", "allowed")
    elif path == "files":
        source, destination = source or _one(get("tx_hosts")), destination or _one(get("rx_hosts"))
    elif path == "smb_files":
        file_path = _text(get("name"))
        if (share := _text(get("path"))) is not None and file_path is not None:
            file_path = f"{share}\\{file_path}"
    elif path == "smb_mapping":
        file_path = _text(get("path"))
    elif path == "dhcp":
        source, destination = source or _text(get("client_addr")), destination or _text(get("server_addr"))
    elif path in {"ftp", "irc", "mysql", "socks", "postgresql"}:
        user = _text(get("user"))
        success = get("success") if path != "socks" else (_text(get("status")) or "") in _RECEIVED
        if path == "ftp":
            status_code = _integer(get("reply_code"))
            success = None if status_code is None else status_code < 400
    elif path == "ldap" and (_text(get("opcode")) or "").startswith("bind"):
        user, service = _text(get("object")), "ldap"
        category, types = ("network", "authentication"), ("start",)
        success = None if (result := _text(get("result"))) is None else result in _RECEIVED
    elif path == "modbus":
        success = get("exception") is None
    elif path == "syslog":
        message = _text(get("message"))
    elif path == "weird":
        message = _text(get("addl"))
    elif path == "intel":
        user = _text(get("seen.user"))
    if success is not None and outcome is None:
        outcome = "success" if success in _YES else "failure" if success in _NO else None
    return Event(
        _time(log, origin, enveloped),
        NAME,
        f"zeek.{path}",
        category,
        types,
        action,
        outcome,
        None,
        message,
        host,
        user,
        domain,
        source,
        sport,
        sent,
        destination,
        dport,
        received,
        transport,
        None,
        None,
        None,
        None,
        None,
        file_path,
        None if url is None or path == "sip" else _path(url),
        status,
        service,
        Lazy(_fields, path, log, damaged, url),
    )


def _fields(path: str, log: Mapping[str, Any], damaged: bool, url: str | None) -> dict[str, Any]:
    own: dict[str, Any] = {}
    for key, value in log.items():
        if len(own) >= LEAVES_MAX:
            break
        if (plain := _own(key, value)) is not None and key:
            own[key] = plain
    fields: dict[str, Any] = {(f"zeek.{key.strip('.')}" if "." in key else key): value for key, value in own.items()}
    fields["event.kind"] = (
        "alert" if path in {"notice", "signatures"} else "metric" if path in {"stats", "capture_loss"} else "event"
    )
    for key, ecs in _NAMED_OF.get(path, _NAMED_OF[""]):
        if (value := own.get(key)) is not None:
            fields[ecs] = value
    if path not in _ABOUT_ZEEK and path not in {
        "conn",
        "notice",
        "files",
        "weird",
        "log",
        "intel",
        "signatures",
        "traceroute",
    }:
        fields["network.protocol"] = _PROTOCOLS.get(path, path)
    if url is not None:
        fields["url.original"] = url
        if "?" in url:
            fields["url.query"] = url.partition("?")[2]
    if (duration := _float(log.get("duration"))) is not None:
        fields["event.duration"] = int(duration * SECONDS_NS)
    if damaged:
        fields["shield.truncated"] = True
    return fields


_PROTOCOLS = {"smb_files": "smb", "smb_mapping": "smb", "smb_cmd": "smb", "ssl": "tls", "ldap_search": "ldap"}


def _own(key: str, value: Any) -> Any:
    """A value as the log has it: of TSV, which is all text, by what Zeek writes in this column."""
    kind = type(value)
    if kind is str:
        if key in _LISTS:
            return value.split(",", LIST_MAX)
        if key in _COUNTS:
            number = _integer(value)
            return value if number is None else number
        return value == "T" if key in _BOOLEANS and value in ("T", "F") else value
    if kind is list:
        return [part for part in value[:LIST_MAX] if _plain(part)] or None
    return value if _plain(value) else None


def _plain(value: Any) -> bool:
    kind = type(value)
    return kind in {str, bool, float} or (kind is int and value.bit_length() <= INTEGER_BITS)


def _time(log: Mapping[str, Any], origin: Origin, enveloped: float | None) -> float:
    for key in ("ts", "_write_ts", "@timestamp"):
        value = log.get(key)
        try:
            if isinstance(value, int | float):
                at = from_epoch(value)
            elif type(value) is not str or not value:
                continue
            elif value[4:5] == "-":
                at = from_iso(value, origin.clock)
            else:
                at = from_epoch(float(value[:32]))
        except (ValueError, OverflowError):
            continue
        if at > 0:
            return at
    return origin.received if enveloped is None else enveloped


def _text(value: Any) -> str | None:
    return value if type(value) is str and value else None


def _one(value: Any) -> str | None:
    """The first of a list."""
    if type(value) is list:
        return _text(value[0]) if value else None
    return value.partition(",")[0] or None if type(value) is str else None


def _integer(value: Any) -> int | None:
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    return value if type(value) is int and 0 <= value < 2**INTEGER_BITS else None


def _float(value: Any) -> float | None:
    try:
        number = float(value[:32] if type(value) is str else value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < SECONDS_NS else None


def _port(value: Any) -> int | None:
    port = _integer(value)
    return port if port is not None and port <= PORT_MAX else None


@lru_cache(maxsize=SHAPES_MAX)
def _account(client: str | None) -> tuple[str | None, str | None]:
    """User and realm of `m.bauer/STADT.EXAMPLE.DE`; a machine has more parts."""
    if client is None:
        return None, None
    user, _, realm = client.rpartition("/")
    return (user or None, realm or None) if realm != client else (client, None)


def _path(url: str) -> str | None:
    rest = url.partition("?")[0]
    if "://" in rest:
        return "/" + rest.split("://", 1)[1].partition("/")[2]
    return rest or None
