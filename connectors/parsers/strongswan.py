"""strongSwan (charon, also pfSense's and OPNsense's IPsec): IKE negotiations, EAP, XAuth and certificate logons, tunnels.

The peer is `source` in every line, whichever side sent the packet. Reads syslog lines and charon's own log file.
"""

import re
from collections.abc import Sequence
from typing import Any

from connectors.clock import MONTHS, from_iso
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError

NAME = "strongswan"

_IP = r"(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[0-9A-Fa-f:]{0,35}::[0-9A-Fa-f:.]{0,39})"
_IP_STARTS = r"(?<![0-9A-Fa-f:.])(?=[0-9A-Fa-f:.]{2,96}+(?![0-9A-Fa-f:.]))"  # keeps a search for _IP quick in long runs
_ADDRESS = re.compile(_IP)
_GROUPS = "APP|ASN|CFG|CHD|DMN|ENC|ESP|IKE|IMC|IMV|JOB|KNL|LIB|MGR|NET|PTS|TLS|TNC"
_SNIFF = re.compile(
    rf"(?:^|[ >])\d\d\[(?:{_GROUPS})\d?\] |(?:^|[ />])charon(?:-systemd|-nm)?(?:\[\d{{1,10}}\]:? |: | \d{{1,10}} - )"
)
_GROUP = re.compile(r"\[[A-Z]{3}\d?\] ")
_LEAD = re.compile(rf"(\d\d)\[({_GROUPS})(\d)?\] ?(?:<([^<>]{{1,128}})> ?)?")
_CLASSIC_TIME = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d)(?: (\d{4}))?,? (\d\d):(\d\d):(\d\d)(?:\.\d{1,6})? (?=\d\d\[)")
_ISO_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?) (?=\d\d\[)")
_PACKET = re.compile(
    rf"(received|sending) packet: from ({_IP})\[(\d{{1,5}})\] to ({_IP})\[(\d{{1,5}})\](?: \((\d{{1,9}}) bytes\))?"
)
_PAIR = re.compile(rf"{_IP_STARTS}({_IP})\[([^\]]{{0,512}})\]\.\.\.({_IP})\[([^\]]{{0,512}})\]")
_SIMPLE_PAIR = re.compile(rf"{_IP_STARTS}({_IP})\.\.\.({_IP})")
_INITIATING = re.compile(rf"{_IP_STARTS}({_IP}) is initiating an? (.{{1,64}})")
_AUTH = re.compile(
    r"(?:(XAuth|RADIUS|IMC|PAM) )?authentication of '([^']{0,512})'(?: \(([^)]{0,64})\))?"
    r"(?: with (.{1,64}?)(?= successful| failed|,|$))?(?: (successful|failed))?"
)
_EAP = re.compile(
    r"(?:EAP method (\S{1,32}) (succeeded|failed)(?: for peer (\S{1,512}))?|(EAP-MS-CHAPv2) verification (failed)"
    r"|(\S{1,32}) method (?:EAP_\w{1,32} )?(failed))"
)
_NAMES = re.compile(
    r"(?:EAP-MS-CHAPv2 username:|received EAP identity|XAuth pam_authenticate for|no XAuth secret found for|EAP identity"
    r"|no (?:EAP|shared) key found for(?: hosts)?(?: '[^']{0,512}' -)?|XAuth-SIM|to peer|by) '([^']{0,512})'|for '[^']{0,512}' - '([^']{0,512})'"
)
_SUBJECT = re.compile(r"(?:^|[ ,])CN=([^,]{1,256})")
_CHILD = re.compile(r"CHILD_SA (\S{1,128}?)\{(\d{1,9})\}")
_BYTES = re.compile(r"SPIs \w{1,16}_i \((\d{1,18}) bytes\) \w{1,16}_o \((\d{1,18}) bytes\)")
_SELECTORS = re.compile(r"\bTS ([^=]{1,512}?) === ([^=]{1,512}?)(?: and |$)")
_IKE = re.compile(r"IKE_SA (\S{1,128}?)\[(\d{1,9})\]")
_LEASE = re.compile(rf"(?:lease|virtual IP|reassigning offline lease) ({_IP})")
_WITH = re.compile(rf"(?:with|to|from|for|by|peer) ({_IP})(?:\[(\d{{1,5}})\])?(?=[\s,]|$)")

_NETWORK: tuple[str, ...] = ("network",)
_AUTHENTICATION: tuple[str, ...] = ("authentication",)
_LOGON: tuple[str, ...] = ("authentication", "session")
_INFO: tuple[str, ...] = ("info",)
_NONE: tuple[str, ...] = ()
_START: tuple[str, ...] = ("start",)
_FAILED: tuple[str, ...] = ("start", "denied")
_OPENING: tuple[str, ...] = ("connection", "start")
_CLOSING: tuple[str, ...] = ("connection", "end")
_REFUSING: tuple[str, ...] = ("connection", "denied")
_WITHOUT_PEER = frozenset(
    {"address-released", "child-sa-closed", "child-sa-established", "message-parsed", "message-generated"}
)
_SYSTEMS = frozenset(
    {"charon", "charon-systemd", "charon-nm", "ipsec", "strongswan", "charon-cmd", "ipsec_starter", "swanctl"}
)
# words in the message -> category, type, action, outcome; the first that is there counts
_MEANINGS: tuple[tuple[str, tuple[tuple[str, ...], tuple[str, ...], str, str | None]], ...] = (
    ("EAP-MS-CHAPv2 verification failed", (_AUTHENTICATION, _FAILED, "eap-failed", "failure")),
    ("EAP/FAIL", (_AUTHENTICATION, _FAILED, "eap-failed", "failure")),
    ("XAuth pam_authenticate for", (_AUTHENTICATION, _INFO, "xauth-refused", "failure")),
    ("no EAP key found", (_AUTHENTICATION, _INFO, "unknown-user", "failure")),
    ("no XAuth secret found", (_AUTHENTICATION, _INFO, "unknown-user", "failure")),
    ("no shared key found", (_AUTHENTICATION, _FAILED, "no-shared-key", "failure")),
    ("no trusted", (_AUTHENTICATION, _FAILED, "no-trusted-key", "failure")),
    ("AUTHENTICATION_FAILED notify", (_AUTHENTICATION, _FAILED, "authentication-failed", "failure")),
    ("N(AUTH_FAILED)", (_AUTHENTICATION, _INFO, "authentication-failed", "failure")),
    ("constraint check failed", (_AUTHENTICATION, _FAILED, "constraint-failed", "failure")),
    ("MAC mismatched", (_AUTHENTICATION, _FAILED, "wrong-shared-key", "failure")),
    ("certificate was revoked", (_AUTHENTICATION, _FAILED, "certificate-revoked", "failure")),
    ("no matching peer config found", (_NETWORK, _REFUSING, "no-peer-config", "failure")),
    ("no IKE config found", (_NETWORK, _REFUSING, "no-ike-config", "failure")),
    ("no acceptable proposal", (_NETWORK, _REFUSING, "no-proposal", "failure")),
    ("NO_PROPOSAL_CHOSEN", (_NETWORK, _REFUSING, "no-proposal", "failure")),
    ("received proposals unacceptable", (_NETWORK, _REFUSING, "no-proposal", "failure")),
    ("deleting half open IKE_SA", (_NETWORK, _REFUSING, "half-open-timeout", "failure")),
    ("is initiating a", (_NETWORK, _OPENING, "initiating", None)),
    ("closing CHILD_SA", (_NETWORK, _CLOSING, "child-sa-closed", None)),
    ("deleting IKE_SA", (_NETWORK, _CLOSING, "ike-sa-deleted", None)),
    ("received DELETE for", (_NETWORK, _CLOSING, "delete-received", None)),
    ("sending DELETE for", (_NETWORK, _CLOSING, "delete-sent", None)),
    ("giving up after", (_NETWORK, ("connection", "error"), "no-answer", "failure")),
    ("assigning ", (_NETWORK, _INFO, "address-assigned", "success")),
    ("went offline", (_NETWORK, _INFO, "address-released", "success")),
    ("parsed ", (_NETWORK, _INFO, "message-parsed", None)),
    ("generating ", (_NETWORK, _INFO, "message-generated", None)),
)


def sniff(text: str) -> bool:
    if _SNIFF.match(text) is not None:
        return True
    head = text[:300]
    return ("charon" in head or _GROUP.search(head) is not None) and _SNIFF.search(head) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:
    host = pid = at = None
    program = "charon"
    own = _CLASSIC_TIME.match(text) or _ISO_TIME.match(text)
    if own is not None:
        at, said = _moment(own, origin), text[own.end() :]
    else:
        envelope = peel(text, origin)
        at, host, pid, said = envelope.timestamp, envelope.host, envelope.pid, envelope.message
        app = envelope.app.rpartition("/")[2] if envelope.app is not None else None
        if app not in _SYSTEMS and _LEAD.match(said) is None:
            raise ParseError("no line of charon: neither its name nor a thread and subsystem like 05[IKE]")
        if app in _SYSTEMS:
            program = app or program
    if at is None:
        at = origin.received
    fields: dict[str, Any] = {"network.protocol": "ipsec"}
    message = said
    lead = _LEAD.match(said)
    group = ""
    if lead is not None:
        thread, group, level, connection = lead.groups()
        said = said[lead.end() :]
        fields["process.thread.id"] = int(thread)
        fields["strongswan.subsystem"] = group
        if level:
            fields["strongswan.level"] = int(level)
        if connection:
            name, bar, number = connection.rpartition("|")
            fields["strongswan.ike_sa.id"] = number
            if bar:
                fields["rule.name"] = name
    packet = (
        _PACKET.match(said) if group in {"NET", ""} or said.startswith(("sending packet", "received packet")) else None
    )
    if packet is not None:
        way, sender, sender_port, receiver, receiver_port, size = packet.groups()
        inbound = way == "received"
        bytes_ = int(size) if size else None
        fields["network.direction"] = "inbound" if inbound else "outbound"
        peer, peer_port, local, local_port = (
            (sender, sender_port, receiver, receiver_port)
            if inbound
            else (receiver, receiver_port, sender, sender_port)
        )
        return (
            Event(
                at, NAME, "strongswan.packet", _NETWORK, ("connection",), f"packet-{way}", None, None, message, host, None,
                None, peer, int(peer_port), bytes_ if inbound else None, local, int(local_port),
                None if inbound else bytes_, "udp", program, pid, service_name="vpn", fields=fields,
            ),
        )  # fmt: skip
    return (_read(said, message, at, host, program, pid, fields),)


def _read(
    said: str, message: str, at: float, host: str | None, program: str, pid: int | None, fields: dict[str, Any]
) -> Event:
    source = local = user = port = None
    received = sent = None
    dataset, category, types, action, outcome = "charon", _NONE, _INFO, None, None
    meaning = next((meaning for words, meaning in _MEANINGS if words in said), None)
    if meaning is not None:
        category, types, action, outcome = meaning
        dataset = "auth" if category is _AUTHENTICATION else "charon"
    pair = _PAIR.search(said) if "]..." in said else None
    if pair is not None:
        local, fields["strongswan.local.id"], source, peer_id = pair.groups()
        fields["strongswan.peer.id"] = peer_id
        user = peer_id
    elif "..." in said and (simple := _SIMPLE_PAIR.search(said)) is not None:
        local, source = simple.groups()
    if "IKE_SA" in said and (ike := _IKE.search(said)) is not None:
        fields["rule.name"] = ike[1]
        if " established between " in said:
            dataset, category, types, action, outcome = "ike_sa", _LOGON, _START, "ike-sa-established", "success"
        elif action == "ike-sa-deleted":
            dataset = "ike_sa"
    elif "CHILD_SA" in said and (child := _CHILD.search(said)) is not None:
        dataset = "child_sa"
        fields["strongswan.child_sa"] = f"{child[1]}{{{child[2]}}}"
        if " established " in said:
            category, types, action, outcome = _NETWORK, _OPENING, "child-sa-established", "success"
        counted = _BYTES.search(said)
        if counted is not None:
            received, sent = int(counted[1]), int(counted[2])
        if (selectors := _SELECTORS.search(said)) is not None:
            fields["strongswan.selector.local"], fields["strongswan.selector.peer"] = selectors.groups()
    elif "uthentication of '" in said and (auth := _AUTH.search(said)) is not None:
        service, name, whose, method, result = auth.groups()
        user = name
        if method:
            fields["strongswan.auth.method"] = method
        dataset, category = "auth", _AUTHENTICATION
        if whose is not None and whose.startswith("myself"):
            types, action = _INFO, "own-authentication"
            user = None
            fields["strongswan.local.id"] = name
            outcome = {"successful": "success", "failed": "failure"}.get(result or "")
        else:
            outcome = {"successful": "success", "failed": "failure"}.get(result or "")
            # Of EAP and certificates, `IKE_SA established` is the logon: it follows, and has the address.
            types = _FAILED if outcome == "failure" else _START if outcome and service else _INFO
            action = f"{(service or 'peer').lower()}-authentication"
    elif (eap := _EAP.match(said)) is not None:
        dataset, category = "auth", _AUTHENTICATION
        outcome = "success" if eap[2] == "succeeded" else "failure"
        types = _INFO if outcome == "success" else _FAILED
        action = "eap-succeeded" if outcome == "success" else "eap-failed"
        user = eap[3] or None
        if eap[1]:
            fields["strongswan.auth.method"] = eap[1]
    if user is None and "'" in said and (named := _NAMES.search(said)) is not None:
        user = named[1] if named[1] is not None else named[2]
        if action in {"address-assigned", "address-released"} and (lease := _LEASE.search(said)) is not None:
            fields["source.nat.ip"] = lease[1]
    domain = None
    if user is not None:
        user, domain, numeric = _person(user)
        source = source or numeric
    if source is None:
        initiating = _INITIATING.match(said)
        if initiating is not None:
            source = initiating[1]
            fields["strongswan.exchange"] = initiating[2]
        elif action not in _WITHOUT_PEER and (peer := _WITH.search(said)) is not None:
            source, port = peer.groups()
    return Event(
        at, NAME, f"strongswan.{dataset}", category or (_NETWORK if source else ()), types, action, outcome, None, message,
        host, user, domain, source, int(port) if port else None, received, local, None, sent, None, program, pid,
        service_name="vpn", fields=fields,
    )  # fmt: skip


def _person(identity: str) -> tuple[str | None, str | None, str | None]:
    """User and domain that an IKE identity names, or the address that it is."""
    if identity in {"", "%any"}:
        return None, None, None
    if _ADDRESS.fullmatch(identity):
        return None, None, identity
    subject = _SUBJECT.search(identity)
    if subject is not None:
        return subject[1], None, None
    domain, backslash, name = identity.partition("\\")
    return (name, domain, None) if backslash and domain and name else (identity, None, None)


def _moment(own: re.Match[str], origin: Origin) -> float | None:
    """Seconds since the epoch of the log file's own time; None if no calendar has it."""
    clock = origin.clock
    try:
        if own.re is _ISO_TIME:
            return from_iso(own[1], clock)
        month, day, year, hour, minute, second = own.groups()
        number = MONTHS.get(month.lower(), 0)
        if year:
            return clock.local(int(year), number, int(day), int(hour), int(minute), int(second))
        return clock.yearless(number, int(day), int(hour), int(minute), int(second), origin.received)
    except (ValueError, OverflowError):
        return None
