"""WireGuard: the kernel's debug messages (dynamic debug on), wireguard-go's, and what wg-quick says.

An initiation that names a peer has passed the check of its key: that is the VPN logon of a peer, which has no name but
its number. It repeats every two minutes while the tunnel is used.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError

NAME = "wireguard"

_IP = r"\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.]{2,45}(?:%\w{1,16})?\]"
_SNIFF = re.compile(
    r"(?:^|[ \]])wireguard: ?[\w.-]{1,15}: |(?:^|[ />])wg-quick(?:\[\d{1,10}\]: |: | \d{1,10} - )"
    r"|(?:^|: )(?:DEBUG|ERROR|INFO): ?\([a-z][\w.-]{0,14}\) |peer\([\w+/=.…-]{8,48}\) - "
)
_KERNEL = re.compile(r"(?:\[ {0,8}\d{1,10}\.\d{1,9}\] )?wireguard: ?([\w.-]{1,15}): (.*)", re.DOTALL)
_GO = re.compile(
    r"(?:(DEBUG|ERROR|INFO|Debug|Error): ?)?(?:\(([\w.-]{1,15})\) )?(?:(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d)(?:\.\d{1,9})? )?"
    r"(?:peer\(([\w+/=.…-]{8,48})\) - )?(.*)",
    re.DOTALL,
)
_QUICK = re.compile(r"\[#\] (.*)", re.DOTALL)
_PEER = re.compile(rf"\bpeer (\d{{1,10}})(?: \(({_IP}):(\d{{1,5}})\))?")
_FAR = re.compile(rf"(?:from|packet from|to) ({_IP}):(\d{{1,5}})")
_UNALLOWED = re.compile(r"unallowed src IP \(([0-9A-Fa-f.:]{2,45})\)")

_NETWORK: tuple[str, ...] = ("network",)
_LOGON: tuple[str, ...] = ("authentication", "session")
_INFO: tuple[str, ...] = ("info",)
_START: tuple[str, ...] = ("start",)
_FAILED: tuple[str, ...] = ("start", "denied")
_OPENING: tuple[str, ...] = ("connection", "start")
_REFUSING: tuple[str, ...] = ("connection", "denied")
# how the message begins, in lower case -> category, type, action, outcome; the first that fits counts
_MEANINGS: tuple[tuple[str, tuple[tuple[str, ...], tuple[str, ...], str, str | None]], ...] = (
    ("receiving handshake initiation", (_LOGON, _START, "handshake-initiation", "success")),
    ("received handshake initiation", (_LOGON, _START, "handshake-initiation", "success")),
    ("sending handshake response", (_NETWORK, ("connection",), "handshake-response", None)),
    ("sending handshake initiation", (_NETWORK, ("connection",), "handshake-initiation-sent", None)),
    ("receiving handshake response", (_NETWORK, _OPENING, "handshake-completed", "success")),
    ("received handshake response", (_NETWORK, _OPENING, "handshake-completed", "success")),
    ("keypair ", (_NETWORK, _INFO, "keypair", "success")),
    ("invalid handshake initiation", (_LOGON[:1], _FAILED, "handshake-refused", "failure")),
    ("received invalid initiation", (_LOGON[:1], _FAILED, "handshake-refused", "failure")),
    ("invalid handshake response", (_LOGON[:1], _FAILED, "handshake-refused", "failure")),
    ("invalid mac of handshake", (_LOGON[:1], _FAILED, "handshake-refused", "failure")),
    ("received packet with invalid mac1", (_LOGON[:1], _FAILED, "handshake-refused", "failure")),
    ("handshake for peer", (_NETWORK, _REFUSING, "handshake-timeout", "failure")),
    ("handshake did not complete", (_NETWORK, _REFUSING, "handshake-timeout", "failure")),
    ("retrying handshake", (_NETWORK, _INFO, "handshake-retry", None)),
    ("receiving keepalive", (_NETWORK, ("connection",), "keepalive", None)),
    ("receiving cookie", (_NETWORK, _INFO, "cookie", None)),
    ("sending keepalive", (_NETWORK, ("connection",), "keepalive-sent", None)),
    ("packet has unallowed src", (_NETWORK, _REFUSING, "unallowed-source", "failure")),
    ("packet has incorrect", (_NETWORK, _REFUSING, "bad-packet", "failure")),
    ("packet is neither", (_NETWORK, _REFUSING, "bad-packet", "failure")),
    ("packet could not be", (_NETWORK, _REFUSING, "bad-packet", "failure")),
    ("zeroing out all keys", (_NETWORK, ("connection", "end"), "keys-expired", None)),
    ("no valid endpoint", (_NETWORK, _INFO, "no-endpoint", "failure")),
    ("no peer has allowed ips", (_NETWORK, _REFUSING, "no-peer", "failure")),
    ("peer ", (("configuration",), ("change",), "peer-changed", "success")),
    ("interface ", (("configuration",), ("change",), "interface-changed", "success")),
)


def sniff(text: str) -> bool:
    found = text[:400]
    return ("wireguard" in found or "wg-quick" in found or "peer(" in found or ": (" in found) and (
        _SNIFF.search(text, 0, 400) is not None
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    at = envelope.timestamp if envelope.timestamp is not None else origin.received
    message, app = envelope.message, envelope.app
    if app == NAME:  # `wireguard: wg0: ...` read as a program's tag
        message = f"wireguard: {message}"
    fields: dict[str, Any] = {"network.protocol": NAME}
    kernel = _KERNEL.match(message)
    if kernel is not None:
        fields["observer.ingress.interface.name"] = kernel[1]
        return (_read(kernel[2], message, at, envelope.host, "kernel", None, fields),)
    if app == "wg-quick":
        return (_quick(message, at, envelope.host, envelope.pid, fields),)
    go = _GO.fullmatch(message) if _SNIFF.search(text, 0, 400) is not None else None
    if go is None:
        raise ParseError("no message of WireGuard's kernel module, wireguard-go or wg-quick")
    level, interface, stamp, peer, said = go.groups()
    if level:
        fields["log.level"] = level.lower()
    if interface:
        fields["observer.ingress.interface.name"] = interface
    if peer:
        fields["wireguard.peer.key"] = peer
    if stamp and envelope.timestamp is None:
        with suppress(ValueError, OverflowError):  # a time that no calendar has must not hide the event
            at = from_iso(stamp.replace("/", "-"), origin.clock)
    return (_read(said, message, at, envelope.host, app or "wireguard-go", envelope.pid, fields),)


def _read(
    said: str, message: str, at: float, host: str | None, program: str, pid: int | None, fields: dict[str, Any]
) -> Event:
    begin = said[:64].lower()
    category, types, action, outcome = next(
        (meaning for words, meaning in _MEANINGS if begin.startswith(words)), ((), _INFO, None, None)
    )
    source = port = None
    peer = _PEER.search(said)
    if peer is not None:
        fields["wireguard.peer.id"] = peer[1]
        source, port = peer[2], peer[3]
    if source is None and (far := _FAR.search(said)) is not None:
        source, port = far.groups()
    if action == "keypair":
        action = "keypair-created" if " created" in said else "keypair-destroyed"
    elif action == "unallowed-source" and (inner := _UNALLOWED.search(said)) is not None:
        fields["wireguard.inner.source.ip"] = inner[1]
    elif action == "peer-changed":
        types = ("deletion",) if "destroyed" in said else ("creation",) if "created" in said else types
    return Event(
        at, NAME, f"wireguard.{'auth' if category[:1] == _LOGON[:1] else 'log'}", category, types, action, outcome, None,
        message, host, None, None, source.strip("[]").partition("%")[0] if source else None, int(port) if port else None,
        network_transport="udp" if source else None, process_name=program, process_pid=pid,
        service_name="vpn", fields=fields,
    )  # fmt: skip


def _quick(message: str, at: float, host: str | None, pid: int | None, fields: dict[str, Any]) -> Event:
    command = _QUICK.match(message)
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="wireguard.wg_quick",
        event_category=("configuration",) if command is not None else (),
        event_type=("change",) if command is not None else _INFO,
        event_action="command" if command is not None else None,
        message=message,
        host_name=host,
        process_name="wg-quick",
        process_pid=pid,
        process_command_line=command[1] if command is not None else None,
        service_name="vpn",
        fields=fields,
    )
