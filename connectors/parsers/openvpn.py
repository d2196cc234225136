"""OpenVPN servers: connections, TLS errors, logons with password or certificate, addresses given, and status lines.

Reads log files (2.4 and newer, with and without times), syslog lines of `openvpn`, `ovpn-NAME`, and status files, whose
client lines state the bytes that passed.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import MONTHS, from_epoch, from_iso
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.values import whole_number

NAME = "openvpn"

_IP = (
    r"(?:\d{1,3}(?:\.\d{1,3}){3}|\[?(?:(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[0-9A-Fa-f:]{0,35}::[0-9A-Fa-f:.]{0,39})"
    r"(?:%\w{1,16})?\]?)"
)
_AT = rf"(?:(?:udp|tcp)[46]?(?:-server|-client)?:)?({_IP}):(\d{{1,5}})"
_CLASSIC_TIME = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}"
_ISO_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
_PROGRAM = r"(?:openvpn|ovpn)[\w@.-]{0,64}(?:\([\w.-]{1,64}\))?"
_SAYING = (
    r"(?:TLS(?: Auth)? Error: |TLS: |VERIFY |Peer Connection Initiated|MULTI(?:_sva)?: |TCP connection established|SENT CONTROL"
    r"|OpenVPN \d|PUSH: |peer info: |Control Channel|Data Channel|Incoming (?:Control|Data) |Outgoing (?:Control|Data) |AUTH[:_-]"
    r"|PLUGIN_|SIG(?:TERM|USR1|HUP|INT)\[|Authenticat|Initialization Sequence|Connection reset|Inactivity timeout|Bad encapsulated"
    r"|\[[^\]]{1,128}\] (?:Inactivity|Peer Connection)|CRL|UDPv[46]|TCPv[46]|WARNING: |OpenSSL: )"
)
_SNIFF = re.compile(
    rf"(?:^|[ />]){_PROGRAM}(?:\[\d{{1,10}}\]: |: (?!\[)| \d{{1,10}} - )"
    rf"|(?:{_CLASSIC_TIME}|{_ISO_TIME})(?: us=\d{{1,6}})? (?:\S{{1,200}} )?(?:\[[^\]]{{1,128}}\] )?{_SAYING}"
    rf"|(?:CLIENT_LIST|ROUTING_TABLE)[,\t][^,\t]{{1,256}}[,\t]|[^\s,]{{1,128}},{_AT},\d{{1,19}},\d{{1,19}},(?:{_CLASSIC_TIME}|{_ISO_TIME})"
)
_OWN = re.compile(rf"({_CLASSIC_TIME}|{_ISO_TIME}|\d{{10}}\.\d{{6}} [0-9a-f]{{1,8}})(?: us=(\d{{1,6}}))? ")
_PEER = re.compile(rf"(?:([^\s/]{{1,256}})/)?{_AT}(?:/(\S{{1,256}}))?(?:,? )")
_NAMED_PEER = re.compile(r"\[([^\]]{0,256})\] ")
_FAR = re.compile(rf"\[(?:AF_INET6?|undef)\]({_IP}):(\d{{1,5}})")
_PASSWORD = re.compile(
    r"TLS: Username/Password authentication (succeeded|deferred|failed) for username '([^']{0,256})'"
    r"|(?:openvpn server '[^']{0,64}' )?(?:AUTH-PAM: BACKGROUND: )?user '([^']{0,256})' (authenticated|could not authenticate|failed to authenticate)"
)
_DIRECTORY = re.compile(r"(?:Incorrect password supplied for LDAP DN|LDAP user) \"([^\"]{0,512})\"")
_SUBJECT = re.compile(r"(?:^|[ ,/(])CN ?= ?([^,/\"]{1,256})")
_PFSENSE = re.compile(
    rf"openvpn server '[^']{{0,64}}' user '([^']{{0,256}})' address '({_IP})(?::(\d{{1,5}}))?' - (connected|connecting|disconnected)"
)
_ENVIRONMENT = re.compile(
    r"\b(common_name|username|trusted_ip6?|trusted_port|ifconfig_pool_remote_ip)=([^\s,;\"']{1,256})"
)
_DISPLACED = re.compile(r"by client '([^']{0,256})'")
_POOL = re.compile(rf"IPv4=({_IP})|virtual IP(?:v6)? for \S{{1,256}}: ({_IP})|Learn: ({_IP})(?:/\d{{1,3}})? -> ")
_LEARNT = re.compile(rf"(?:Learn: \S{{1,64}} -> |virtual IP(?:v6)? for )(?:([^\s/]{{1,256}})/)?{_AT}")
_PUSHED = re.compile(rf"'PUSH_REPLY,.{{0,4096}}?\bifconfig ({_IP})")
_SENT = re.compile(r"SENT CONTROL \[([^\]]{0,256})\]: '(\w{1,32})")
_COUNTS = re.compile(r"bytes_(received|sent)[=: ](\d{1,18})")
_STATUS_FIELDS = ("Virtual Address", "Virtual IPv6 Address")

_NETWORK: tuple[str, ...] = ("network",)
_AUTHENTICATION: tuple[str, ...] = ("authentication",)
_SESSION: tuple[str, ...] = ("network", "session")
_LOGON: tuple[str, ...] = ("authentication", "session")
_INFO: tuple[str, ...] = ("info",)
_START: tuple[str, ...] = ("start",)
_FAILED: tuple[str, ...] = ("start", "denied")
_CONNECTING: tuple[str, ...] = ("connection", "start")
_CLOSING: tuple[str, ...] = ("connection", "end")
_REFUSING: tuple[str, ...] = ("connection", "denied")
_ERROR: tuple[str, ...] = ("connection", "error")

_Meaning = tuple[str, tuple[str, ...], tuple[str, ...], str, str | None]
# words in the message -> dataset, category, type, action, outcome; the first that is there counts
_MEANINGS: tuple[tuple[str, _Meaning], ...] = (
    ("Peer Connection Initiated", ("auth", _LOGON, _START, "connected", "success")),
    ("TCP connection established", ("connection", _NETWORK, _CONNECTING, "tcp-established", None)),
    ("AUTH_FAILED", ("auth", _AUTHENTICATION, _FAILED, "auth-failed", "failure")),
    ("Auth Username/Password verification failed", ("auth", _AUTHENTICATION, _FAILED, "auth-failed", "failure")),
    ("TLS Auth Error", ("auth", _AUTHENTICATION, _FAILED, "auth-failed", "failure")),
    ("VERIFY ERROR", ("auth", _AUTHENTICATION, _FAILED, "certificate-refused", "failure")),
    ("VERIFY EKU ERROR", ("auth", _AUTHENTICATION, _FAILED, "certificate-refused", "failure")),
    ("VERIFY KU ERROR", ("auth", _AUTHENTICATION, _FAILED, "certificate-refused", "failure")),
    ("VERIFY X509NAME ERROR", ("auth", _AUTHENTICATION, _FAILED, "certificate-refused", "failure")),
    ("VERIFY SCRIPT ERROR", ("auth", _AUTHENTICATION, _FAILED, "certificate-refused", "failure")),
    ("CRL CHECK FAILED", ("auth", _AUTHENTICATION, _FAILED, "certificate-revoked", "failure")),
    ("VERIFY OK", ("tls", _NETWORK, _INFO, "certificate-verified", "success")),
    ("Authentication succeeded", ("auth", _AUTHENTICATION, _START, "auth-succeeded", "success")),
    ("Authentication failed", ("auth", _AUTHENTICATION, _FAILED, "auth-failed", "failure")),
    ("LDAP bind failed", ("auth", _AUTHENTICATION, _FAILED, "auth-failed", "failure")),
    ("PLUGIN_AUTH_USER_PASS_VERIFY failed", ("auth", _AUTHENTICATION, _INFO, "auth-plugin-failed", "failure")),
    ("PLUGIN_AUTH_USER_PASS_VERIFY status=1", ("auth", _AUTHENTICATION, _INFO, "auth-plugin-failed", "failure")),
    ("TLS handshake failed", ("tls", _NETWORK, _ERROR, "tls-handshake-failed", "failure")),
    ("TLS Error", ("tls", _NETWORK, _ERROR, "tls-error", "failure")),
    ("TLS_ERROR", ("tls", _NETWORK, _ERROR, "tls-error", "failure")),
    ("OpenSSL: error", ("tls", _NETWORK, _ERROR, "tls-error", "failure")),
    ("Authenticate/Decrypt packet error", ("tls", _NETWORK, _ERROR, "decrypt-error", "failure")),
    ("Bad encapsulated packet length", ("connection", _NETWORK, _ERROR, "bad-packet", "failure")),
    ("client-instance exiting", ("connection", _NETWORK, _CLOSING, "disconnected", None)),
    ("client-instance restarting", ("connection", _NETWORK, _CLOSING, "disconnected", None)),
    ("Inactivity timeout", ("connection", _NETWORK, _CLOSING, "timeout", None)),
    ("Connection reset", ("connection", _NETWORK, _CLOSING, "connection-reset", None)),
    ("exit message received by peer", ("connection", _NETWORK, _CLOSING, "disconnected", None)),
    ("delayed-exit in", ("connection", _NETWORK, _CLOSING, "disconnected", None)),
    ("pool returned", ("address", _NETWORK, _INFO, "address-assigned", "success")),
    ("primary virtual IP", ("address", _NETWORK, _INFO, "address-assigned", "success")),
    ("MULTI: Learn", ("address", _NETWORK, _INFO, "address-learnt", None)),
    ("will cause previous active sessions", ("connection", _NETWORK, _CLOSING, "session-displaced", None)),
    ("bad source address from client", ("connection", _NETWORK, _REFUSING, "bad-source-address", "failure")),
    ("PUSH_REPLY", ("control", _NETWORK, _INFO, "push-reply", None)),
    ("PUSH_REQUEST", ("control", _NETWORK, _INFO, "push-request", None)),
    ("peer info:", ("peer_info", _NETWORK, ("connection",), "peer-info", None)),
)
_SERVER: _Meaning = ("server", (), _INFO, "", None)


def sniff(text: str) -> bool:
    if text[4:5] == ":":  # a Sophos UTM, with times of its own
        return False
    return _SNIFF.match(text) is not None or ("vpn" in text[:300] and _SNIFF.search(text, 0, 320) is not None)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    host = pid = None
    program = NAME
    own = _OWN.match(text)
    if own is not None and (at := _moment(own, origin)) is not None:
        message = text[own.end() :]
    elif text.startswith(("CLIENT_LIST", "ROUTING_TABLE")) or (text.count(",") == 4 and _SNIFF.match(text)):
        return (_status(text, origin.received, None, NAME, None),)
    else:
        envelope = peel(text, origin)
        at, host, pid, message = envelope.timestamp, envelope.host, envelope.pid, envelope.message
        program = envelope.app.rpartition("/")[2] if envelope.app is not None else ""
        if not program.startswith((NAME, "ovpn")):
            raise ParseError("no line of OpenVPN: neither its log's time nor its name in syslog")
        if (own := _OWN.match(message)) is not None:
            message = message[own.end() :]
        if at is None:
            at = origin.received
        if message.startswith(("CLIENT_LIST", "ROUTING_TABLE")):
            return (_status(message, at, host, program, pid),)
    return (_read(message, at, host, program, pid),)


def _read(message: str, at: float, host: str | None, program: str, pid: int | None) -> Event:
    user = source = port = None
    said = message
    peer = _PEER.match(message)
    if peer is not None:
        user, source, port, after = peer.groups()
        user = user or after
        said = message[peer.end() :]
    fields: dict[str, Any] = {"network.protocol": NAME}
    named = _NAMED_PEER.match(said)
    if named is not None:
        user, said = _known(named[1]) or user, said[named.end() :]
    if (
        source is None
        and "[" in said
        and (far := _FAR.search(said)) is not None
        and not said.startswith(("UDPv", "TCPv", "Listening"))
    ):
        source, port = far.groups()
    dataset, category, types, action, outcome = next(
        (meaning for words, meaning in _MEANINGS if words in said),
        _SERVER if source is None else ("connection", _NETWORK, _INFO, "", None),
    )
    if action == "connected" and _known(user) is None:  # only the connection; who it is comes after the key exchange
        dataset, category, types, outcome = "connection", _NETWORK, _CONNECTING, None
    elif action in {"certificate-refused", "certificate-verified", "certificate-revoked"}:
        subject = _SUBJECT.search(said)
        if subject is not None:
            fields["tls.client.x509.subject.common_name"] = subject[1]
            user = user or (subject[1] if outcome == "failure" and "depth=0" in said else None)
    elif dataset == "address":
        given = _POOL.search(said)
        if given is not None:
            fields["source.nat.ip"] = _bare(given[1] or given[2] or given[3])
        if (learnt := _LEARNT.search(said)) is not None:
            user, source, port = learnt[1] or user, learnt[2], learnt[3]
    elif action == "session-displaced" and (displaced := _DISPLACED.search(said)) is not None:
        user = displaced[1]
    elif dataset == "peer_info":
        key, equals, value = said.partition("peer info: ")[2].partition("=")
        if equals:
            fields[key.strip()[:64] or "peer_info"] = value
    elif (session := _PFSENSE.match(said)) is not None:
        user, source, port, action = session.groups()
        dataset, category = "connection", _SESSION
        types = _CLOSING if action == "disconnected" else _CONNECTING
        outcome = "success" if action == "connected" else None
    elif "user" in said and (password := _PASSWORD.search(said)) is not None:
        word, by_tls, by_plugin, result = password.groups()
        user = by_tls if by_tls is not None else by_plugin
        dataset, category = "auth", _AUTHENTICATION
        if word == "deferred":
            types, action = _INFO, "auth-deferred"
        elif word == "succeeded":  # `Peer Connection Initiated` follows, which is the logon
            types, action, outcome = _INFO, "auth-succeeded", "success"
        elif result == "authenticated":
            types, action, outcome = _START, "auth-succeeded", "success"
        else:
            types, action, outcome = _FAILED, "auth-failed", "failure"
    elif "LDAP" in said and (entry := _DIRECTORY.search(said)) is not None:
        subject = _SUBJECT.search(entry[1])
        user = subject[1] if subject is not None else entry[1]
        fields["user.id"] = entry[1]
        dataset, category, types, action, outcome = "auth", _AUTHENTICATION, _FAILED, "auth-failed", "failure"
    if "SENT CONTROL" in said and (sent := _SENT.search(said)) is not None:
        user = _known(sent[1]) or user
        if (pushed := _PUSHED.search(said)) is not None:
            fields["source.nat.ip"] = pushed[1]
    counts = dict(_COUNTS.findall(said)) if "bytes_" in said else {}
    if counts or "trusted_ip" in said:  # the environment of a client-connect or client-disconnect script
        told = dict(_ENVIRONMENT.findall(said))
        user = told.get("username") or told.get("common_name") or user
        source, port = told.get("trusted_ip") or told.get("trusted_ip6") or source, told.get("trusted_port") or port
        port = port if port is not None and port.isdecimal() and len(port) <= 5 else None
        if "ifconfig_pool_remote_ip" in told:
            fields["source.nat.ip"] = told["ifconfig_pool_remote_ip"]
        dataset, category = "connection", _NETWORK
        types, action = (_CLOSING, "disconnected") if counts else (_CONNECTING, "connected")
    return Event(
        at, NAME, f"openvpn.{dataset}", category, types, action or None, outcome, None, message, host, _known(user), None,
        _bare(source), int(port) if port else None, int(counts["received"]) if "received" in counts else None, None, None,
        int(counts["sent"]) if "sent" in counts else None, _transport(message, said), program, pid,
        service_name="vpn", fields=fields,
    )  # fmt: skip


def _status(text: str, at: float, host: str | None, program: str, pid: int | None) -> Event:
    """A client's line of the status file: what it received and sent so far."""
    cells = text.split("\t" if "\t" in text else ",")
    kind = cells[0] if cells[0] in {"CLIENT_LIST", "ROUTING_TABLE"} else "CLIENT_LIST"
    if cells[0] != kind:
        cells.insert(0, kind)
        cells[3:3] = ["", ""]  # version 1 has no virtual addresses
    elif kind == "CLIENT_LIST" and len(cells) > 4 and cells[4].isdecimal() and cells[4] != "":  # before 2.4: no IPv6
        cells.insert(4, "")
    cells += [""] * (13 - len(cells))
    fields: dict[str, Any] = {"network.protocol": NAME}
    if kind == "ROUTING_TABLE":
        address, user, real, since = cells[1:5]
        received = sent = ""
        fields["source.nat.ip"] = address.partition("/")[0]
        username = ""
    else:
        user, real, address, sixth, received, sent, since, _, username = cells[1:10]
        fields |= {name: value for name, value in zip(_STATUS_FIELDS, (address, sixth), strict=True) if value}
        if address:
            fields["source.nat.ip"] = address
        if cells[12]:
            fields["tls.cipher"] = cells[12].strip()
    if since:
        fields["Connected Since"] = since
    ip: str | None
    port: str | None
    place = re.fullmatch(_AT, real)
    if place is None and real.count(":") == 0 and re.fullmatch(_IP, real):
        ip, port = real, None
    else:
        ip, port = place.groups() if place is not None else (None, None)
    return Event(
        at,
        NAME,
        "openvpn.status",
        ("network", "session"),
        event_type=_INFO,
        event_action="client-status" if kind == "CLIENT_LIST" else "route-status",
        message=text,
        host_name=host,
        user_name=_known(username) or _known(user),
        source_ip=_bare(ip),
        source_port=int(port) if port else None,
        source_bytes=whole_number(received),
        destination_bytes=whole_number(sent),
        process_name=program,
        process_pid=pid,
        service_name="vpn",
        fields=fields,
    )


def _known(user: str | None) -> str | None:
    return None if not user or user in {"UNDEF", "undef", "-"} else user


def _bare(address: str | None) -> str | None:
    return address.strip("[]").partition("%")[0] if address is not None else None


def _transport(message: str, said: str) -> str | None:
    if said.startswith(("TCP connection", "TCPv")) or message.startswith("tcp"):
        return "tcp"
    return "udp" if said.startswith("UDPv") or message.startswith("udp") else None


def _moment(own: re.Match[str], origin: Origin) -> float | None:
    """Seconds since the epoch of the log's own time; None if no calendar has it."""
    stamp, micros = own.groups()
    clock = origin.clock
    at = clock.stamps.get(stamp)
    if at is None:
        try:
            if stamp[:4].isdecimal() and stamp[4] == "-":
                at = from_iso(stamp, clock)
            elif stamp[:1].isdecimal():
                return from_epoch(float(stamp.partition(" ")[0]))
            else:
                _, month, day, time, year = stamp.split()
                hour, minute, second = time.split(":")
                at = clock.local(int(year), MONTHS.get(month.lower(), 0), int(day), int(hour), int(minute), int(second))
        except (ValueError, OverflowError):
            return None
        clock.remember(stamp, at)
    return at + int(micros) / 1e6 if micros else at
