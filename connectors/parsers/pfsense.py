"""pfSense and OPNsense: the packet filter's `filterlog` and what the other services of such a firewall write to syslog.

These are logons to the web interface, Squid, HAProxy, Snort and Suricata, and what the parsers `dhcp`, `openvpn`,
`strongswan`, `unbound`, `nginx` and `linux_auth` read. Fields are mapped as Elastic's pfSense integration does.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from connectors.envelope import Envelope, peel
from connectors.events import Event, Origin, ParseError
from connectors.parsers import dhcp, linux_auth, nginx, openvpn, strongswan, unbound
from connectors.values import whole_number

NAME = "pfsense"
# Parsers of daemons that also run elsewhere: of a source that sends only lines of this firewall, theirs are its own.
DAEMONS = frozenset({"dhcp", "openvpn", "strongswan", "unbound"})

_MAC = r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}"
_IP = rf"(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|(?!{_MAC}(?![\w:]))[0-9A-Fa-f]{{0,4}}(?::[0-9A-Fa-f]{{0,4}}){{2,7}}(?:\.\d{{1,3}}){{0,3}})"
_FILTER = re.compile(
    r"\d{0,10},[^,\s]{0,40},[^,]{0,255},[^,\s]{0,64},[^,\s]{1,64},[A-Za-z-]{1,32},[a-z]{2,12},[a-z]{2,6},"
)
_SNIFF = re.compile(
    r"(?:^|[ /])(?:dhcp6c|logportalauth|captiveportal|php-fpm|configd\.py|lighttpd|audit|php)(?:\[\d{1,10}\]:|:| \d{1,10} -)|/index\.php: "
)
_LOGON = re.compile(
    r"(Successful login|[Ww]ebConfigurator authentication error|Web GUI authentication error|User logged out"
    r"|Session timed out|[Aa]uthentication error|Failed login|Login failed) for (?:user )?'([^']{0,256})' ?(?:from:? )?"
    rf"({_IP})?"
)
_AUTHENTICATED = re.compile(
    r"user '?([^'\s]{1,256})'? (authenticated successfully|could not authenticate|failed authentication)"
    r" for (\w{1,32})"
)
_SESSION = re.compile(
    rf"openvpn server '[^']{{0,64}}' user '([^']{{0,256}})' address '({_IP})(?::(\d{{1,5}}))?' - (\w{{1,32}})"
)
_CAPTIVE = re.compile(  # pfSense's and OPNsense's portal for guests
    rf"(?:Zone: .{{1,64}}? - )?([A-Z]{{4,10}})(?: [A-Z -]{{1,48}})?: ([^,]{{0,128}}), ({_MAC})?, ({_IP})|([A-Z]{{4,10}}) (\S{{0,128}}) \(({_IP})\) zone"
)
_ADDRESSED = re.compile(rf"([A-Za-z][A-Za-z -]{{2,40}}?) ({_IP})(?:/\d{{1,3}})?(?: on (\S{{1,64}}))?")
_SQUID = re.compile(
    rf"(?:[\d.]{{10,18}} {{1,8}}(\d{{1,9}}) )?({_IP}) (\w{{1,64}})/(\d{{3}}) (\d{{1,18}}) (\w{{1,24}}) (\S*+) (\S{{1,256}}) (\w{{1,64}})/(\S{{1,256}})"
)
_HAPROXY = re.compile(
    rf"({_IP}):(\d{{1,5}}) \[[^\]]{{1,64}}\] (\S{{1,128}}) ([^\s/]{{1,128}})/(\S{{1,128}}) ([\d/+-]{{5,60}}) (?:(\d{{3}}|-1) )?\+?(\d{{1,18}}) "
)
_HAPROXY_CONNECT = re.compile(rf"Connect from ({_IP}):(\d{{1,5}}) to ({_IP}):(\d{{1,5}}) \(([^)]{{1,128}})\)")
_REQUEST_LINE = re.compile(r'"([A-Z]{1,16}) (\S{1,8192}) HTTP/([\d.]{1,4})"')
_ALERT = re.compile(
    rf"\[(\d{{1,10}}:\d{{1,10}}:\d{{1,10}})\] (.{{0,512}}?) ?\[Classification: ([^\]]{{0,128}})\] \[Priority: (\d{{1,3}})\]:? "
    rf"\{{([\w-]{{1,16}})\}} ({_IP})(?::(\d{{1,5}}))? -> ({_IP})(?::(\d{{1,5}}))?"
)

# What tcpdump makes of OpenBSD's and FreeBSD's pflog.
_PFLOG = re.compile(
    r"(?:pf: )?(?:\d\d:\d\d:\d\d\.\d{1,9} )?rule ([\w.+/-]{1,64}?)(?:/0)?[ /]?\(\w{1,16}\)(?: \[uid \d{1,10}, pid \d{1,10}\])?:? "
    rf"(pass|block|match|rdr|nat|binat|scrub) (in|out) on (\S{{1,32}}): (?:\([^)]{{0,256}}\) )?(?:IP6? )?({_IP})(?:\.(\d{{1,5}}))? > "
    rf"({_IP})(?:\.(\d{{1,5}}))?: (.*)",
    re.DOTALL,
)
_PFLOG_SEEN = re.compile(
    r"rule [\w.+/-]{1,64}[ /]?\(\w{1,16}\).{0,48}? (?:pass|block|match|rdr|nat|binat|scrub) (?:in|out) on \S"
)
_TCP_FLAGS = re.compile(r"(?:Flags \[|[SFRPW.]{1,4} (?:\d|\[)|[SFRPW.]{1,4}$)")

_NETWORK, _AUTHENTICATION = ("network",), ("authentication",)
_VERDICTS = {
    "pass": ("connection", "allowed"),
    "block": ("connection", "denied"),
    "reject": ("connection", "denied"),
    "unkn(%u)": ("connection",),
}
_CONNECTION: tuple[str, ...] = ("connection",)
_PROTOCOLS = {"icmpv6": "ipv6-icmp", "ipv6-icmp": "ipv6-icmp", "icmp6": "ipv6-icmp", "options": "ipv6-opts"}
_DIRECTIONS = {"in": "inbound", "out": "outbound"}
_ICMP_DETAILS = {  # type of an ICMP message -> what follows it
    "request": ("id", "seq"),
    "reply": ("id", "seq"),
    "unreachport": ("destination.ip", "unreachable.protocol_id", "unreachable.port"),
    "unreachproto": ("destination.ip", "unreachable.protocol_id"),
    "unreach": ("unreachable.other",),
    "timexceed": ("unreachable.other",),
    "timeexceed": ("unreachable.other",),
    "paramprob": ("unreachable.other",),
    "redirect": ("redirect",),
    "maskreply": ("unreachable.other",),
    "needfrag": ("destination.ip", "mtu"),
    "tstamp": ("id", "seq"),
    "tstampreply": ("id", "seq", "otime", "rtime", "ttime"),
}


def sniff(text: str) -> bool:
    if "filterlog" in text[:200]:
        return True
    if " on " in text and _PFLOG_SEEN.search(text, 0, 200) is not None:
        return True
    if _FILTER.match(text) is not None:
        return True
    found = _SNIFF.search(text, 0, 200)
    if found is None:
        return False
    return (
        found[0].strip(" /").startswith(("dhcp6c", "logportalauth", "captiveportal"))
        or _LOGON.search(text, found.start(), 1024) is not None
        or (_AUTHENTICATED.search(text, found.start(), 1024) is not None)
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    message = envelope.message
    app = envelope.app
    if app == "filterlog" or (app is None and _FILTER.match(message) is not None):
        return (_filter(message, envelope, origin),)
    at = envelope.timestamp
    begin = text.find("rule ", 0, 200)
    if begin >= 0 and (packet := _PFLOG.match(text, begin)) is not None:
        return (_packet(packet, envelope, origin.received if at is None else at),)
    if app is None or not envelope.recognised:
        raise ParseError("neither a filterlog line nor a syslog line of a program")
    name = app.strip("()").rpartition("/")[2]
    try:
        if name == "nginx":
            return [_ours(event, name, envelope) for event in nginx.parse(message, origin)]
        if name == "openvpn" and (session := _SESSION.match(message)) is not None:
            return (_session(session, message, name, envelope, origin.received if at is None else at),)
        if name in _READ_BY:
            return [_ours(event, name, envelope) for event in _READ_BY[name].parse(text, origin)]
        if linux_auth.sniff(text):
            return [_ours(event, name, envelope) for event in linux_auth.parse(text, origin)]
    except ParseError:  # of that program, but nothing that its parser knows: told as it stands
        return (_other(message, name, envelope, origin.received if at is None else at),)
    reader = _READERS.get(name) or _READERS.get(name.partition("-")[0], _other)  # squid-1
    return (reader(message, name, envelope, origin.received if at is None else at),)


def _packet(packet: re.Match[str], envelope: Envelope, at: float) -> Event:
    """A packet that pf logged, as tcpdump prints it."""
    rule, verdict, direction, interface, source, sport, destination, dport, rest = packet.groups()
    transport: str | None
    if rest.startswith("icmp") or "ICMP" in rest[:8]:
        transport = "ipv6-icmp" if ":" in source else "icmp"
    elif _TCP_FLAGS.match(rest) is not None:
        transport = "tcp"
    else:
        transport = "udp" if sport is not None else None
    side = "ingress" if direction == "in" else "egress"
    fields = {
        "rule.id": rule,
        "network.direction": _DIRECTIONS[direction],
        f"observer.{side}.interface.name": interface,
    }
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="pfsense.pflog",
        event_category=_NETWORK,
        event_type=_VERDICTS.get(verdict, _CONNECTION),
        event_action=verdict,
        message=packet[0],
        host_name=None if envelope.host == "rule" else envelope.host,
        source_ip=source,
        source_port=whole_number(sport),
        destination_ip=destination,
        destination_port=whole_number(dport),
        network_transport=transport,
        fields=fields | {"observer.type": "firewall"},
    )


def _ours(event: Event, kind: str, envelope: Envelope) -> Event:
    return msgspec.structs.replace(
        event,
        event_module=NAME,
        event_dataset=f"pfsense.{kind}",
        host_name=event.host_name or envelope.host,
        process_name=event.process_name or envelope.app,
        process_pid=event.process_pid or envelope.pid,
    )


def _filter(message: str, envelope: Envelope, origin: Origin) -> Event:
    """A packet. The columns after the addresses depend on the protocol, those before them on the IP version."""
    column = message.split(",")
    count = len(column)
    if count < 9:
        raise ParseError("a filterlog line with fewer than nine columns")
    version = column[8]
    fields: dict[str, Any] = {
        "rule.id": column[3] or column[0],
        "event.reason": column[5],
        "observer.ingress.interface.name": column[4],
        "network.direction": _DIRECTIONS.get(column[7], column[7]),
    }
    source = destination = ""
    transport: str | None = None
    source_port = destination_port = None
    after = 0
    if version == "4" and count >= 20:
        fields["network.type"] = "ipv4"
        fields["network.iana_number"] = column[15]
        fields["pfsense.ip.tos"] = column[9]
        fields["pfsense.ip.ttl"] = whole_number(column[11])
        fields["pfsense.ip.id"] = whole_number(column[12])
        fields["pfsense.ip.offset"] = whole_number(column[13])
        fields["pfsense.ip.flags"] = column[14]
        protocol, length, source, destination, after = column[16], column[17], column[18], column[19], 20
    elif version == "6" and count >= 17:
        fields["network.type"] = "ipv6"
        fields["network.iana_number"] = column[13]
        fields["pfsense.ip.tos"] = column[9]
        fields["pfsense.ip.flow_label"] = column[10]
        fields["pfsense.ip.ttl"] = whole_number(column[11])
        protocol, length, source, destination, after = column[12], column[14], column[15], column[16], 17
    if after:
        fields["network.bytes"] = whole_number(length)
        transport = protocol.lower()
        if transport in {"tcp", "udp", "sctp"} and count >= after + 2:
            source_port, destination_port = whole_number(column[after]), whole_number(column[after + 1])
            if count >= after + 9 and transport == "tcp":
                fields["pfsense.tcp.length"] = whole_number(column[after + 2])
                fields["pfsense.tcp.flags"] = column[after + 3]
                fields["pfsense.tcp.window"] = whole_number(column[after + 6])
                if column[after + 8]:
                    fields["pfsense.tcp.options"] = column[after + 8].split(";")
            elif count > after + 2 and transport == "udp":
                fields["pfsense.udp.length"] = whole_number(column[after + 2])
        elif "icmp" in transport and count > after:
            kind = column[after]
            fields["pfsense.icmp.type"] = kind
            for name, value in zip(_ICMP_DETAILS.get(kind, ()), column[after + 1 :], strict=False):
                fields[f"pfsense.icmp.{name}"] = value.strip("[]")
        elif transport == "carp" and count >= after + 6:
            fields["pfsense.carp.type"], _, fields["pfsense.carp.vhid"] = column[after : after + 3]
        transport = _PROTOCOLS.get(transport, transport) or None
    at = envelope.timestamp
    action = column[6]
    return Event(
        origin.received if at is None else at,
        NAME,
        "pfsense.filterlog",
        _NETWORK,
        _VERDICTS.get(action, _CONNECTION),
        action or None,
        None,
        None,
        message,
        envelope.host,
        None,
        None,
        source or None,
        source_port,
        None,
        destination or None,
        destination_port,
        None,
        transport,
        "filterlog",
        envelope.pid,
        fields=fields,
    )


def _session(session: re.Match[str], message: str, name: str, envelope: Envelope, at: float) -> Event:
    """What pfSense's own script says when an OpenVPN user comes or goes."""
    user, address, port, stage = session.groups()
    types = {"connected": ("start",), "disconnected": ("end",)}.get(stage, ("info",))
    return _made(
        envelope, at, name, name, message, ("session", "network"), ("connection", *types), stage, None, "vpn", user,
        address, port, fields={"network.protocol": "openvpn"},
    )  # fmt: skip


def _dhcp6(message: str, name: str, envelope: Envelope, at: float) -> Event:
    """The client that asks the provider for addresses."""
    fields: dict[str, Any] = {"network.protocol": "dhcpv6"}
    said = _ADDRESSED.match(message)
    action = None if said is None else said[1].lower().replace(" ", "-")
    if said is not None and said[3]:
        fields["observer.ingress.interface.name"] = said[3]
    return _made(
        envelope, at, name, "dhcp6c", message, _NETWORK, ("connection", "protocol", "info"), action,
        source=None if said is None else said[2], transport="udp", fields=fields,
    )  # fmt: skip


def _logons(message: str, name: str, envelope: Envelope, at: float) -> Event:
    """Logons to the web interface, and what else PHP and OPNsense's audit log say."""
    logon = _LOGON.search(message, 0, 1024)
    if logon is not None:
        said, user, address = logon.groups()
        if said.startswith(("User", "Session")):
            types, action, outcome = ("end",), "logged-out", "success"
        else:
            types, outcome = ("start",), "success" if said.startswith("Successful") else "failure"
            action = "logged-in" if outcome == "success" else "login-failed"
        service = "web"
    elif (checked := _AUTHENTICATED.search(message, 0, 1024)) is not None:
        user, said, service = checked.groups()
        types, address = ("start",), None
        outcome = "success" if "success" in said else "failure"
        action = "logged-in" if outcome == "success" else "login-failed"
        service = {"webgui": "web", "sshd": "ssh", "openvpn": "vpn", "ipsec": "vpn"}.get(
            service.lower(), service.lower()
        )
    else:
        return _other(message, name, envelope, at)
    return _made(
        envelope, at, name, "auth", message, _AUTHENTICATION, types, action, outcome, service, user, address
    )  # fmt: skip


def _captive(message: str, name: str, envelope: Envelope, at: float) -> Event:
    """Guests that come, go and are refused at the captive portal."""
    guest = _CAPTIVE.match(message)
    if guest is None:
        return _other(message, name, envelope, at)
    said, user, mac, address = (
        (guest[1], guest[2], guest[3], guest[4]) if guest[1] else (guest[5], guest[6], None, guest[7])
    )
    types, action, outcome = _GUESTS.get(said, (("end",), "logged-out", "success"))
    fields = {"source.mac": mac.upper().replace(":", "-")} if mac else {}
    return _made(
        envelope, at, name, "captiveportal", message, ("authentication", "session"), types, action, outcome, "portal",
        user, address, fields=fields,
    )  # fmt: skip


_GUESTS: dict[str, tuple[tuple[str, ...], str, str]] = {  # everything else ends a session
    "ACCEPT": (("start",), "logged-in", "success"),
    "LOGIN": (("start",), "logged-in", "success"),
    "AUTH": (("start",), "logged-in", "success"),
    "CONCURRENT": (("start",), "logged-in", "success"),
    "FAILURE": (("start",), "login-failed", "failure"),
    "DENY": (("start",), "login-failed", "failure"),
}


def _squid(message: str, name: str, envelope: Envelope, at: float) -> Event:
    request = _SQUID.match(message)
    if request is None:
        return _other(message, name, envelope, at)
    _, client, result, status, length, method, url, user, hierarchy, peer = request.groups()
    where, _, query = url.partition("?")
    path = "/" + where.split("://", 1)[1].partition("/")[2] if "://" in where else None
    fields: dict[str, Any] = {
        "squid.request_status": result,
        "http.response.bytes": int(length),
        "http.request.method": method,
        "url.original": url,
        "squid.hierarchy_status": hierarchy,
    }
    if query:
        fields["url.query"] = query
    if "://" in where:
        fields["url.domain"] = where.split("://", 1)[1].partition("/")[0]
    denied = "DENIED" in result
    return _made(
        envelope, at, name, "squid", message, ("web", "network"), ("access", "denied" if denied else "allowed"),
        result.lower(), "failure" if int(status) >= 400 else "success", None, None if user == "-" else user, client,
        None, peer if _ADDRESS.fullmatch(peer) else None, path=path, status=int(status), fields=fields,
    )  # fmt: skip


_ADDRESS = re.compile(_IP)


def _haproxy(message: str, name: str, envelope: Envelope, at: float) -> Event:
    request = _HAPROXY.match(message)
    if request is None:
        opened = _HAPROXY_CONNECT.match(message)
        if opened is None:
            return _other(message, name, envelope, at)
        client, port, server, server_port, front = opened.groups()
        return _made(
            envelope, at, name, "haproxy", message, _NETWORK, ("connection", "start"), None, None, None, None, client,
            port, server, server_port, fields={"haproxy.frontend_name": front},
        )  # fmt: skip
    client, port, front, back, server, _, status, length = request.groups()
    fields: dict[str, Any] = {"haproxy.frontend_name": front, "haproxy.backend_name": back}
    fields |= {"haproxy.server_name": server, "haproxy.bytes_read": int(length)}
    path = None
    line = _REQUEST_LINE.search(message, request.end())
    if line is not None:
        path, _, query = line[2].partition("?")
        fields |= {"http.request.method": line[1], "url.original": line[2], "http.version": line[3]}
        if query:
            fields["url.query"] = query
    outcome = None if status is None else "failure" if status == "-1" or int(status) >= 400 else "success"
    return _made(
        envelope, at, name, "haproxy", message, ("web", "network") if status else _NETWORK, ("connection",), None,
        outcome, None, None, client, port, path=path, status=whole_number(status), fields=fields,
    )  # fmt: skip


def _alert(message: str, name: str, envelope: Envelope, at: float) -> Event:
    alert = _ALERT.search(message, 0, 4096)
    if alert is None:
        return _other(message, name, envelope, at)
    rule, said, classification, priority, transport, source, source_port, destination, destination_port = alert.groups()
    fields: dict[str, Any] = {"rule.id": rule, "rule.name": said, "rule.category": classification}
    fields["event.severity"] = int(priority)
    return _made(
        envelope, at, name, name, message, ("intrusion_detection", "network"), ("info",), "alert", None, None, None,
        source, source_port, destination, destination_port, transport=transport.lower(), fields=fields,
    )  # fmt: skip


def _other(message: str, name: str, envelope: Envelope, at: float) -> Event:
    return _made(envelope, at, name, "system", message, ("host",), ("info",))


def _made(
    envelope: Envelope, at: float, name: str, kind: str, message: str, category: tuple[str, ...],
    types: tuple[str, ...], action: str | None = None, outcome: str | None = None, service: str | None = None,
    user: str | None = None, source: str | None = None, source_port: str | None = None, destination: str | None = None,
    destination_port: str | None = None, transport: str | None = None, path: str | None = None,
    status: int | None = None, fields: dict[str, Any] | None = None,
) -> Event:  # fmt: skip
    return Event(
        at,
        NAME,
        f"pfsense.{kind}",
        category,
        types,
        action,
        outcome,
        None,
        message,
        envelope.host,
        user or None,
        None,
        source,
        whole_number(source_port),
        None,
        destination,
        whole_number(destination_port),
        None,
        transport,
        name,
        process_pid=envelope.pid,
        url_path=path,
        http_response_status_code=status,
        service_name=service,
        fields=fields or {},
    )


_Reader = Callable[[str, str, Envelope, float], Event]
_READERS: dict[str, _Reader] = {
    "dhcp6c": _dhcp6,
    "php-fpm": _logons,
    "php": _logons,
    "audit": _logons,
    "lighttpd": _logons,
    "captiveportal": _captive,
    "logportalauth": _captive,
    "squid": _squid,
    "haproxy": _haproxy,
    "snort": _alert,
    "suricata": _alert,
}
_READ_BY = {
    "openvpn": openvpn,
    "charon": strongswan,
    "unbound": unbound,
    "dhcpd": dhcp,
    "dhclient": dhcp,
}
