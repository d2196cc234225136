"""What the operator knows of names, networks and working days: the class of an account, host or address, its country,
and the local calendar.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import re2

from detectors.behaviour.geo import GeoError, open_countries
from detectors.facts import entity_name

INTERNAL = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
)
NETWORKS_MAX = 4_096  # named networks
NAMES_MAX = 20_000  # patterns and exact names of one class
NAME_CHARS_MAX = 256  # of one of them
ANSWERS_KEPT_MAX = 65_536  # remembered per question; beyond that the memory starts afresh
QUARTER_S = 900  # every zone's distance from UTC is a multiple of it
QUARTERS_KEPT_MAX = 4_096  # six weeks

DayType = Literal["workday", "saturday", "free"]
Role = Literal["client", "server", "external"]
LAENDER = ("BB", "BE", "BW", "BY", "HB", "HE", "HH", "MV", "NI", "NW", "RP", "SH", "SL", "SN", "ST", "TH")
_DAY = re.compile(r"(?:(\d{4})-)?(\d\d)-(\d\d)")


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the network with a name. Of several that hold an address the narrowest decides."""

    network: str  # 10.20.0.0/16
    name: str = ""  # town hall, DMZ, school; shown to analysts
    role: Role = "client"  # what lives there: client, server; external is treated like the internet


class Accounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Account names per class, as exact names or with * and ?, without regard to case or domain.

    An exact name decides before a pattern; then machine, service, admin, person in this order. The rest are persons.
    """

    machine: tuple[str, ...] = (
        "*$",
        "system",
        "local service",
        "network service",
        "lokaler dienst",
        "netzwerkdienst",
        "anonymous logon",
        "anonymous-anmeldung",
        "dwm-*",
        "umfd-*",
    )
    service: tuple[str, ...] = (
        "svc*",
        "srv-*",
        "dienst*",
        "service*",
        "sa-*",
        "sql*",
        "backup*",
        "msol_*",
        "www-data",
        "postgres",
        "nobody",
    )
    admin: tuple[str, ...] = ("adm*", "a-*", "t0-*", "t1-*", "root", "*-adm", "*_adm", "*.adm", "*-admin")
    person: tuple[str, ...] = ()  # people whose names look like one of the others


class Hosts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Host names per class, exact or with * and ?, without regard to case or domain. The rest are clients."""

    server: tuple[str, ...] = (
        "srv*",
        "dc*",
        "fs*",
        "sql*",
        "mail*",
        "web*",
        "app*",
        "print*",
        "vpn*",
        "backup*",
        "*-srv",
        "*-dc",
    )
    client: tuple[str, ...] = ()  # machines whose names look like a server's


class Inventory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Networks, names and calendar of one provider; `shield inventory` proposes one from your own logs."""

    internal: tuple[str, ...] = INTERNAL  # what is not the internet
    server_networks: tuple[str, ...] = ()  # where only servers live
    networks: tuple[Network, ...] = ()  # parts with a name and a role
    scanners: Collection[str] = ()  # allowed to spread over the network (scanner, monitoring), by exact address
    accounts: Accounts = Accounts()
    hosts: Hosts = Hosts()
    timezone: str = "Europe/Berlin"  # of working hours and days
    holidays: str = "DE"  # a country, or with a state: DE-NW, AT-9; empty for none
    closing_days: tuple[str, ...] = ("12-24", "12-31")  # of your own: 2026-05-15, or 12-24 for every year
    geo: str = ""  # a file with countries of addresses: *.mmdb, or CSV `network,country` or `first,last,country`


class Moment(msgspec.Struct, frozen=True):
    """A quarter of an hour on the local calendar."""

    hour: int
    day: int  # since 1970-01-01, local
    type: DayType


class Classes:
    """Answers an inventory's questions fast: class of an entity, network and country of an address, local time."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._networks = _networks(inventory)
        self._accounts = _Names("user", inventory.accounts, ("machine", "service", "admin", "person"))
        self._hosts = _Names("host", inventory.hosts, ("client", "server"))
        self._countries = open_countries(Path(inventory.geo)) if inventory.geo else None
        self._calendar = Calendar(inventory)
        self._placed: dict[str, tuple[str, str]] = {}
        self._classed: dict[tuple[str, str], str] = {}
        self.scanners = frozenset(map(_plain_address, inventory.scanners))

    def address(self, text: str) -> str:
        """`external`, `internal` or `server` (an internal address in a server network); empty if it is no address."""
        return (self._placed.get(text) or self._place(text))[0]

    def network(self, text: str) -> str:
        """The name of the network that an address lies in, if the inventory gives it one."""
        return (self._placed.get(text) or self._place(text))[1]

    def country(self, text: str) -> str:
        """ISO 3166 code of an outside address; empty without a file of countries."""
        if self._countries is None or self.address(text) != "external":
            return ""
        return self._countries.country(text)

    def of(self, kind: str, name: str) -> str:
        """The class of an entity: person, admin, service, machine; client, server; external; else any."""
        found = self._classed.get((kind, name))
        if found is None:
            if len(self._classed) >= ANSWERS_KEPT_MAX:
                self._classed.clear()
            found = self._classed[kind, name] = self._of(kind, name)
        return found

    def day_type(self, time: float) -> DayType:
        """`free` is a Sunday, a holiday or a closing day."""
        return self._calendar.at(time).type

    def local_hour(self, time: float) -> int:
        return self._calendar.at(time).hour

    def local_day(self, time: float) -> int:
        """Days since 1970-01-01 on the local calendar."""
        return self._calendar.at(time).day

    def moment(self, time: float) -> Moment:
        """Hour, day and kind of day in one look-up."""
        return self._calendar.at(time)

    def _of(self, kind: str, name: str) -> str:
        if kind == "user":
            return self._accounts.of(name) or "person"
        if kind == "host":
            if where := self.address(name):  # a device that logs under its address
                return "server" if where == "server" else "client"
            return self._hosts.of(name) or "client"
        if kind == "address":
            return {"internal": "client", "": "any"}.get(where := self.address(name), where)
        return "any"

    def _place(self, text: str) -> tuple[str, str]:
        if len(self._placed) >= ANSWERS_KEPT_MAX:
            self._placed.clear()
        found = self._placed[text] = self._placed_in(text)
        return found

    def _placed_in(self, text: str) -> tuple[str, str]:
        try:
            address: Any = ip_address(text)
        except ValueError:
            return "", ""
        address = getattr(address, "ipv4_mapped", None) or address  # IPv4 in IPv6 clothes is the same machine
        for network, side, name in self._networks:
            if address in network:
                return side, name
        return "external", ""


class Calendar:
    """Local hours and days of an inventory. Answers are remembered per quarter of an hour, so clock changes are right."""

    def __init__(self, inventory: Inventory) -> None:
        self._zone = ZoneInfo(inventory.timezone)
        self._holidays = inventory.holidays
        self._closed = frozenset(inventory.closing_days)
        self._known: dict[int, Moment] = {}

    def at(self, time: float) -> Moment:
        quarter = int(time // QUARTER_S)
        found = self._known.get(quarter)
        if found is None:
            if len(self._known) >= QUARTERS_KEPT_MAX:
                self._known.clear()
            found = self._known[quarter] = self._at(quarter * QUARTER_S)
        return found

    def _at(self, time: int) -> Moment:
        try:
            local = datetime.fromtimestamp(time, self._zone)
            day = local.date()
            return Moment(local.hour, day.toordinal() - _EPOCH, self._type(day))
        except (ValueError, OverflowError, OSError):  # no year of our calendar: a device with a wild clock
            return Moment(time // 3600 % 24, time // 86_400, "workday")

    def _type(self, day: date) -> DayType:
        text = day.isoformat()
        closed = text in self._closed or text[5:] in self._closed
        if closed or day.weekday() == 6 or (self._holidays and day in holidays_of(self._holidays)):
            return "free"
        return "saturday" if day.weekday() == 5 else "workday"


class _Names:
    """Exact names, and one expression per class for its patterns, in linear time."""

    def __init__(self, kind: str, names: msgspec.Struct, order: tuple[str, ...]) -> None:
        self._kind = kind
        self._exact: dict[str, str] = {}
        self._patterns: list[tuple[str, Any]] = []
        for class_ in order:
            given = [entity_name(kind, name) for name in getattr(names, class_)]
            for name in given:
                if not set(name) & set("*?"):
                    self._exact.setdefault(name, class_)
            globs = [_expression(name) for name in given if set(name) & set("*?")]
            if globs:
                self._patterns.append((class_, re2.compile("|".join(globs))))

    def of(self, text: str) -> str:
        name = entity_name(self._kind, text)
        exact = self._exact.get(name)
        if exact is not None:
            return exact
        text = name.encode("utf-8", "replace").decode()  # half a surrogate pair is no text for RE2
        return next((kind for kind, pattern in self._patterns if pattern.fullmatch(text)), "")


def faults_of(inventory: Inventory) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(place, message) of everything in an inventory that has no meaning."""
    for key in ("internal", "server_networks"):
        for i, text in enumerate(getattr(inventory, key)):
            yield from (((key, i), message) for message in _network_faults(text))
    for i, one in enumerate(inventory.networks):
        yield from ((("networks", i, "network"), message) for message in _network_faults(one.network))
    if len(inventory.networks) > NETWORKS_MAX:
        yield ("networks",), f"more than {NETWORKS_MAX} networks"
    for text in sorted(inventory.scanners):
        try:
            ip_address(text)
        except ValueError:
            yield ("scanners",), f"`{text}` is no address (a whole network is never excepted)"
    for group, names in (("accounts", inventory.accounts), ("hosts", inventory.hosts)):
        kind = {"accounts": "user", "hosts": "host"}[group]
        for class_ in names.__struct_fields__:
            yield from (((group, class_), message) for message in _name_faults(kind, getattr(names, class_)))
    try:
        ZoneInfo(inventory.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield ("timezone",), f"unknown time zone `{inventory.timezone}` (for example Europe/Berlin)"
    yield from ((("holidays",), message) for message in _holiday_faults(inventory.holidays))
    for i, text in enumerate(inventory.closing_days):
        if not _is_day(text):
            yield ("closing_days", i), f"`{text}` is no day: write 2026-05-15, or 12-24 for every year"
    if inventory.geo:
        try:
            open_countries(Path(inventory.geo))
        except GeoError as error:
            yield ("geo",), str(error)
        except OSError as error:
            yield ("geo",), f"{inventory.geo}: {error.strerror}"


_EPOCH = date(1970, 1, 1).toordinal()


def _networks(inventory: Inventory) -> list[tuple[Any, str, str]]:
    """(network, class, name), in the order in which they decide: the narrowest first, what is only internal at the end."""
    named = [(n.network, {"client": "internal"}.get(n.role, n.role), n.name) for n in inventory.networks]
    named += [(text, "server", "") for text in inventory.server_networks]
    parts = [(ip_network(text, strict=False), side, name) for text, side, name in named]
    whole = [(ip_network(text, strict=False), "internal", "") for text in inventory.internal]
    return sorted(parts, key=lambda n: -n[0].prefixlen) + whole


def _plain_address(text: str) -> str:
    return str(ip_address(text))


def _expression(glob: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(c) or re2.escape(c) for c in glob)


@cache
def holidays_of(code: str) -> Mapping[date, str]:
    """Years are worked out when they are asked for."""
    import holidays  # a second to load, and only who watches hours needs it

    country, _, state = code.partition("-")
    found: Mapping[date, str] = holidays.country_holidays(country, subdiv=state or None)
    return found


def _holiday_faults(code: str) -> Iterator[str]:
    country, _, state = code.partition("-")
    if not code or (country == "DE" and (not state or state in LAENDER)):
        return
    if country == "DE" and state != "Augsburg":
        yield f"unknown state `{code}`; there are {', '.join(f'DE-{s}' for s in LAENDER)}"
        return
    try:
        holidays_of(code)
    except NotImplementedError:
        yield f"no holidays are known for `{code}` (ISO 3166, for example DE-NW, AT-9, LU)"


def _network_faults(text: str) -> Iterator[str]:
    try:
        ip_network(text)
    except ValueError as error:
        yield str(error)


def _name_faults(kind: str, names: Iterable[str]) -> Iterator[str]:
    listed = list(names)
    if len(listed) > NAMES_MAX:
        yield f"more than {NAMES_MAX} names"
    for name in listed:
        if not entity_name(kind, name).strip("*? "):
            yield f"`{name}` would be every name"
        elif len(name) > NAME_CHARS_MAX:
            yield f"`{name[:40]}...` is longer than {NAME_CHARS_MAX} characters"


def _is_day(text: str) -> bool:
    matched = _DAY.fullmatch(text)
    if matched is None:
        return False
    try:
        date(int(matched[1] or 2024), int(matched[2]), int(matched[3]))  # a leap year has every day
    except ValueError:
        return False
    return True
