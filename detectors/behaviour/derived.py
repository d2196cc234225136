"""Fields that profiles may name besides ECS: worked out from an event, each a pure function of a few of its values.

They all begin with `shield.`; text is reduced to what stays the same when the same thing is done again.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from ipaddress import ip_address, ip_network
from typing import Any

from connectors.events import Event
from detectors.behaviour.inventory import Classes

REMEMBERED = 16_384  # texts and addresses per function whose answer is remembered
TEMPLATE_CHARS_MAX = 160
COMMAND_CHARS_MAX = 4096  # of a command line that are looked at
ENCODED_MIN = 40  # characters of a base64-like run that count as an encoded command
SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gov", "gv", "net", "or", "org"})  # of the form name.co.uk
WRITE_ACCESS = 0x10006  # bits of a Windows access mask: write, append, delete
CHANGES = frozenset({"creation", "change", "deletion"})
WEAK_TICKETS = frozenset({"0x1", "0x3", "0x17", "0x18"})  # DES and RC4 encryption types of Kerberos tickets
HOME_NAMES = {"Germany": "DE", "Austria": "AT", "Switzerland": "CH"}  # as firewalls write the towns' own countries
PRIVILEGED_RIDS = frozenset({"498", "500", "512", "516", "518", "519", "520", "521", "526", "527"})
PRIVILEGED_SIDS = frozenset(f"S-1-5-32-{n}" for n in (544, 548, 549, 550, 551, 555, 562, 580))

_ENCODED = re.compile(rf"[A-Za-z0-9+/_=-]{{{ENCODED_MIN},}}+")
_GUID = re.compile(r"\{?[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\}?")
_USER_FOLDER = re.compile(r"(?i)(\\users\\|/home/)[^\\/\s\"']++")
_HEX = re.compile(r"(?i)\b(?:0x)?(?=[a-f]*+\d)[0-9a-f]{6,}+\b")
_NUMBER = re.compile(r"\d++")
_SPACE = re.compile(r"\s++")

Getter = Callable[[Event], Any]


@lru_cache(REMEMBERED)
def network_of(address: str) -> str | None:
    """192.0.2.7 -> 192.0.2.0/24, 2001:db8::1 -> 2001:db8::/48."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if parsed.is_loopback:
        return None
    return str(ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


@lru_cache(REMEMBERED)
def domain_of(name: str) -> tuple[str, str] | None:
    """(registered domain, labels left of it) of a DNS name; None for what is no name of the public kind."""
    labels = name.rstrip(".").lower().split(".")
    if len(labels) < 2 or labels[-1] in {"arpa", "local", "lan", "internal", "localdomain", "home"}:
        return None
    size = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in SECOND_LEVEL else 2
    return ".".join(labels[-size:]), ".".join(labels[:-size])


@lru_cache(REMEMBERED)
def information_of(labels: str) -> int:
    """Length times entropy, in bits: what a name can carry. www counts little, fifty random characters two hundred."""
    text = labels.replace(".", "")
    if not text:
        return 0
    counts = Counter(text).values()
    return int(-sum(n * math.log2(n / len(text)) for n in counts))


@lru_cache(REMEMBERED)
def template_of(command: str) -> str:
    """A command line with what changes from call to call replaced: encoded text, GUIDs, hashes, numbers, user folders."""
    text = command[:COMMAND_CHARS_MAX]
    text = _GUID.sub("{guid}", text)
    text = _ENCODED.sub("{encoded}", text)
    text = _USER_FOLDER.sub(r"\1{user}", text)
    text = _HEX.sub("{n}", text)
    text = _NUMBER.sub("{n}", text)
    return _SPACE.sub(" ", text).strip().lower()[:TEMPLATE_CHARS_MAX]


@lru_cache(REMEMBERED)
def encoded_of(command: str) -> int | None:
    """Length of the longest base64-like run that looks like encoded text (mixed case or padding), if any."""
    runs = [m[0] for m in _ENCODED.finditer(command[:COMMAND_CHARS_MAX])]
    runs = [r for r in runs if r != r.lower() and r != r.upper() and sum(c in "/_-" for c in r) * 8 < len(r)]
    return max(map(len, runs), default=None)


@lru_cache(REMEMBERED)
def folder_of(path: str) -> str | None:
    """The folder of a path in lower case, user names and numbers replaced; None where there is none."""
    folder = re.split(r"[\\/](?=[^\\/]*+$)", path[:COMMAND_CHARS_MAX], maxsplit=1)
    return template_of(folder[0]) if len(folder) == 2 else None


def extension_of(path: str) -> str | None:
    name = re.split(r"[\\/]", path[-300:])[-1]
    return name.rpartition(".")[2].lower()[:16] if "." in name[1:] else None


def _command(event: Event) -> Any:
    text = event.process_command_line
    return template_of(text) if text and text.__class__ is str else None


def _encoded(event: Event) -> Any:
    text = event.process_command_line
    if (event.process_name or "").lower() in {"powershell", "powershell.exe", "pwsh.exe", "pwsh"} or event.service_name:
        text = text or event.fields.get("ScriptBlockText")
    return encoded_of(text) if text and text.__class__ is str else None


def _parent_child(event: Event) -> Any:
    parent, child = event.process_parent_name, event.process_name
    return f"{parent} > {child}".lower() if parent and child else None


def _program_folder(event: Event) -> Any:
    path = event.process_executable
    return folder_of(path) if path and path.__class__ is str else None


def _file_folder(event: Event) -> Any:
    path = _file(event)
    return folder_of(path) if path else None


def _file_extension(event: Event) -> Any:
    path = _file(event)
    return extension_of(path) if path else None


def _file(event: Event) -> str | None:
    """The file an event is about; on shares below the share's name."""
    get = event.fields.get
    path = event.file_path or get("ObjectName")
    target, share = get("RelativeTargetName"), get("ShareName")
    if share and target and target not in {"\\", "-"}:
        path = f"{share}\\{target}"
    return path if path.__class__ is str and path else None


def _file_written(event: Event) -> Any:
    """The file of an event that changes it: written, renamed or deleted."""
    mask = event.fields.get("AccessMask")
    if mask.__class__ is str:
        try:
            changes = bool(int(mask, 16) & WRITE_ACCESS)
        except ValueError:
            changes = False
    else:
        changes = not CHANGES.isdisjoint(event.event_type)
    return _file(event) if changes else None


def _written_extension(event: Event) -> Any:
    path = _file_written(event)
    return extension_of(path) if path else None


def _machine(event: Event) -> Any:
    """The host behind a machine account: PC-017$ -> PC-017."""
    name = event.user_name
    if not name:
        return None
    name = name.split("@", 1)[0]
    return name[:-1] if name.endswith("$") and len(name) > 1 else None


def _assigned_address(event: Event) -> Any:
    """The inner address that a VPN gateway gave to a client."""
    get = event.fields.get
    for name in ("tunnelip", "assignip", "client.nat.ip", "source.nat.ip"):
        value = get(name)
        if value.__class__ is str and value[:1].isalnum() and ("." in value or ":" in value):
            return value
    return None


def _ticket_service(event: Event) -> Any:
    """The service account a Kerberos ticket is for; tickets for machines and for the ticket service itself are none."""
    name = event.fields.get("ServiceName")
    if name.__class__ is not str or not name or name.endswith("$") or name.lower().startswith("krbtgt"):
        return None
    return name


def _weak_ticket(event: Event) -> Any:
    kind = event.fields.get("TicketEncryptionType")
    return _ticket_service(event) if kind.__class__ is str and kind.lower() in WEAK_TICKETS else None


def _group(event: Event) -> Any:
    get = event.fields.get
    return get("group.name") or (get("TargetUserName") if get("MemberSid") or get("MemberName") else None)


def _privileged_group(event: Event) -> Any:
    sid = event.fields.get("group.id") or event.fields.get("TargetSid")
    if sid.__class__ is not str:
        return None
    return _group(event) if sid in PRIVILEGED_SIDS or sid.rpartition("-")[2] in PRIVILEGED_RIDS else None


def _domain(event: Event) -> Any:
    name = event.fields.get("dns.question.name") or event.fields.get("QueryName")
    found = domain_of(name) if name.__class__ is str and name else None
    return found[0] if found else None


def _labels(event: Event) -> Any:
    name = event.fields.get("dns.question.name") or event.fields.get("QueryName")
    found = domain_of(name) if name.__class__ is str and name else None
    return found[1] if found else None


def _information(event: Event) -> Any:
    labels = _labels(event)
    return information_of(labels) if labels else None


def _country(classes: Classes, event: Event) -> Any:
    """Country of the source, inside addresses being at home; None where nobody says."""
    address = event.source_ip
    if not address:
        return None
    if classes.address(address) != "external":
        return classes.inventory.holidays[:2] or "home"
    get = event.fields.get
    stated = get("source.geo.country_iso_code") or classes.country(address) or get("source.geo.country_name")
    named = stated or get("srccountry")
    return HOME_NAMES.get(named, named) if named and named != "Reserved" else None


def _sides(classes: Classes, event: Event) -> tuple[str | None, str | None]:
    """(inside address, outside address) of a connection that crosses the border, whichever way the device writes it."""
    source, target = event.source_ip, event.destination_ip
    if not source or not target:
        return None, None
    outside = classes.address(source) == "external", classes.address(target) == "external"
    if outside == (False, True):
        return source, target
    return (target, source) if outside == (True, False) else (None, None)


def _flow_bytes(event: Event) -> Any:
    """Bytes of a connection whose device does not say which way they went."""
    return event.fields.get("network.bytes") if event.source_bytes is None else None


def getters(classes: Classes) -> dict[str, Getter]:
    """Name -> function of an event."""
    return {
        "shield.tenant": lambda _: "*",
        "shield.hour": lambda event: int(event.timestamp // 3600),
        "shield.source_network": lambda event: network_of(event.source_ip) if event.source_ip else None,
        "shield.destination_network": lambda event: network_of(event.destination_ip) if event.destination_ip else None,
        "shield.inside_address": lambda event: _sides(classes, event)[0],
        "shield.outside_address": lambda event: _sides(classes, event)[1],
        "shield.flow_bytes": _flow_bytes,
        "shield.source_country": partial(_country, classes),
        "shield.domain": _domain,
        "shield.subdomain": _labels,
        "shield.dns_information": _information,
        "shield.command_template": _command,
        "shield.encoded_chars": _encoded,
        "shield.parent_child": _parent_child,
        "shield.program_folder": _program_folder,
        "shield.file": _file,
        "shield.file_written": _file_written,
        "shield.written_extension": _written_extension,
        "shield.file_folder": _file_folder,
        "shield.file_extension": _file_extension,
        "shield.assigned_address": _assigned_address,
        "shield.machine": _machine,
        "shield.ticket_service": _ticket_service,
        "shield.weak_ticket": _weak_ticket,
        "shield.group": _group,
        "shield.privileged_group": _privileged_group,
    }


KINDS = {
    "shield.assigned_address": "address",
    "shield.inside_address": "address",
    "shield.outside_address": "address",
    "shield.source_network": "network",
    "shield.destination_network": "network",
    "shield.domain": "domain",
    "shield.machine": "host",
    "shield.ticket_service": "user",
    "shield.weak_ticket": "user",
}
