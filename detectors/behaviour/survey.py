"""What logs say about a network that the inventory does not know yet: servers, service and admin accounts, scanners,
names, working days. Proposals for a person to confirm, never applied.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from connectors.events import Event
from detectors.behaviour.inventory import LAENDER, Accounts, Classes, Hosts, Inventory, holidays_of
from detectors.facts import entity_name

KEYS_MAX = 50_000  # addresses, accounts and hosts that are followed; later ones are passed over
ITEMS_MAX = 512  # counted per key
CLIENTS_MIN = 5  # a server is used by at least so many, and by this share of all clients
CLIENTS_SHARE = 0.1
USERS_MIN = 8  # accounts that come over the network to a server
SERVICE_LOGONS_MIN = 20
SERVICE_HOURS_MIN = 16  # of the day in which a service account was seen
DAYS_MIN = 2  # one day shows no habit
ADMIN_HOSTS_MIN = 3  # servers that an administrator works on by RDP or SSH
SCAN_TARGETS_MIN = 100
SCAN_PORTS_MIN = 4
PREFIX_HOSTS_MIN = 2
PREFIX_NAMES_MIN = 3
PREFIX_SHARE = 0.8
QUIET_SHARE = 0.3  # of the usual number of people: a day like this is no working day
PEOPLE_MIN = 5  # on a usual day, before quiet days say anything
EXAMPLES_MAX = 8  # named in a comment
SERVICE_PORTS = frozenset({*range(1, 1024), 1433, 1521, 3128, 3268, 3306, 3389, 5432, 5985, 5986, 8080, 8443, 9100})
WORK_HOURS = range(7, 17)
INTERACTIVE = frozenset({"Interactive", "Unlock", "CachedInteractive", "CachedUnlock"})
REMOTE = frozenset({"RemoteInteractive", "CachedRemoteInteractive"})
_BEGINNING = re.compile(r"[a-z]{1,16}[-_.]")
_PREFIX = re.compile(r"[a-z]+(?:[-_][a-z]+)*[-_]?(?=[-_0-9]|$)")


class Account(msgspec.Struct):
    hosts: set[str] = msgspec.field(default_factory=set)
    hours: set[int] = msgspec.field(default_factory=set)
    days: set[int] = msgspec.field(default_factory=set)
    remote: set[str] = msgspec.field(default_factory=set)  # hosts worked on by RDP or SSH
    screens: int = 0  # logons by RDP
    logons: int = 0
    interactive: int = 0
    rights: int = 0  # changes of accounts, groups or rights, and commands as root


class Proposal(msgspec.Struct, frozen=True):
    """What would go into an inventory, each with the reason for it."""

    events: int
    first: float
    last: float
    own_networks: dict[str, str] = {}  # public networks that seem to be ours -> why
    server_networks: dict[str, str] = {}
    client_networks: dict[str, str] = {}
    servers: dict[str, str] = {}  # addresses -> why
    service: dict[str, str] = {}  # accounts -> why
    admin: dict[str, str] = {}
    server_names: dict[str, str] = {}  # patterns -> why
    client_names: dict[str, str] = {}
    scanners: dict[str, str] = {}
    timezone: str = ""
    timezone_why: str = ""
    holidays: tuple[str, ...] = ()  # states that fit the quiet days, all of them equally well
    quiet_days: dict[str, str] = {}  # days without people that no holiday explains -> why


class Survey:
    """Counts what events say, within bounds, and concludes at the end."""

    def __init__(self, inventory: Inventory, timezones: Sequence[str] = ()) -> None:
        self._inventory = inventory
        self._classes = Classes(inventory)
        self._zones = list(dict.fromkeys([*(z for z in timezones if z != "UTC"), inventory.timezone]))
        self.events = 0
        self._first, self._last = float("inf"), 0.0
        self._clients: dict[str, set[str]] = {}
        self._ports: dict[str, set[int]] = {}
        self._targets: dict[str, set[tuple[str, int]]] = {}
        self._target_days: dict[str, set[int]] = {}
        self._accounts: dict[str, Account] = {}
        self._users: dict[str, set[str]] = {}  # host -> who came over the network
        self._owners: dict[str, set[str]] = {}  # host -> who sat there
        self._addresses: set[str] = set()
        self._own_public: dict[str, set[str]] = {}
        self._people: dict[int, set[str]] = {}  # hours since 1970 (UTC) -> people at work

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            self.events += 1
            self._first, self._last = min(self._first, event.timestamp), max(self._last, event.timestamp)
            if event.source_ip and event.destination_ip and "network" in event.event_category:
                self._flow(event, event.source_ip, event.destination_ip)
            if event.user_name and "authentication" in event.event_category and event.event_outcome == "success":
                self._logon(event, event.user_name)
            elif event.user_name and ("iam" in event.event_category or event.event_action == "sudo_command"):
                account = _under(self._accounts, entity_name("user", event.user_name), Account)
                if account is not None:
                    account.rights += 1

    def proposal(self) -> Proposal:
        if not self.events:
            return Proposal(0, 0.0, 0.0)
        servers = self._servers()
        server_networks, client_networks = self._networks()
        zone, why = self._timezone()
        states, quiet = self._quiet_days(ZoneInfo(zone))
        service = self._service(ZoneInfo(zone))
        server_names, client_names = self._host_names()
        return Proposal(
            events=self.events,
            first=self._first,
            last=self._last,
            own_networks={
                network: f"machines of the domain log on from {len(found)} of its addresses"
                for network, found in sorted(self._own_public.items())
                if len(found) >= 2
            },
            server_networks=server_networks,
            client_networks=client_networks,
            servers=servers,
            service=service,
            admin=self._admins(service),
            server_names=server_names,
            client_names=client_names,
            scanners=self._scanners(),
            timezone=zone,
            timezone_why=why,
            holidays=states,
            quiet_days=quiet,
        )

    # --- counting -------------------------------------------------------------------------------------------------

    def _flow(self, event: Event, source: str, target: str) -> None:
        inside = self._classes.address(source) in {"internal", "server"}
        if not inside or self._classes.address(target) not in {"internal", "server"}:
            return
        port = event.destination_port or 0
        _into(self._targets, source, (target, port))
        _into(self._target_days, source, int(event.timestamp // 86_400))
        # what was refused or not answered says nothing about the target: a scan asks addresses that nobody has
        answered = (
            event.destination_bytes != 0 and event.event_outcome != "failure" and "denied" not in event.event_type
        )
        for address in (source, target) if answered else (source,):
            if len(self._addresses) < KEYS_MAX:
                self._addresses.add(address)
        if port in SERVICE_PORTS and answered:
            _into(self._clients, target, source)
            _into(self._ports, target, port)

    def _logon(self, event: Event, user: str) -> None:
        name, host = entity_name("user", user), entity_name("host", event.host_name or "")
        kind = event.fields.get("winlog.logon.type")
        if name.endswith("$"):
            if event.source_ip and self._classes.address(event.source_ip) == "external":
                _into(self._own_public, _around(event.source_ip), event.source_ip)
            return
        if self._classes.of("user", name) == "machine":
            return
        account = _under(self._accounts, name, Account)
        if account is None:
            return
        account.logons += 1
        if len(account.hosts) < ITEMS_MAX:
            account.hosts.update(h for h in (host, event.source_ip) if h)
        hour = int(event.timestamp // 3600)
        if len(account.days) < ITEMS_MAX:
            account.days.add(hour // 24)
        account.hours.add(hour % 24)
        if kind in INTERACTIVE:
            account.interactive += 1
            _into(self._owners, host, name)
            _into(self._people, hour, name)
        elif host:
            _into(self._users, host, name)
            account.screens += kind in REMOTE
            if (kind in REMOTE or event.service_name == "ssh") and len(account.remote) < ITEMS_MAX:
                account.remote.add(host)

    # --- concluding -----------------------------------------------------------------------------------------------

    def _servers(self) -> dict[str, str]:
        everyone = len(set[str]().union(*self._clients.values()))
        needed = max(CLIENTS_MIN, int(CLIENTS_SHARE * everyone))
        return {
            address: f"{len(used)} clients, ports {_few(sorted(self._ports[address]))}"
            for address, used in sorted(self._clients.items(), key=lambda c: ip_address(c[0]).packed)
            if len(used) >= needed
        }

    def _networks(self) -> tuple[dict[str, str], dict[str, str]]:
        members: dict[str, set[str]] = {}
        for address in self._addresses:
            members.setdefault(_around(address), set()).add(address)
        of_servers, of_clients = {}, {}
        for network in sorted(members, key=lambda n: ip_network(n).network_address.packed):
            found = members[network]
            serving = sum(len(self._clients.get(address, ())) >= CLIENTS_MIN for address in found)
            if serving >= 2 and serving * 2 >= len(found):
                of_servers[network] = f"{serving} of {len(found)} addresses serve {CLIENTS_MIN} clients or more"
            elif len(found) >= 2:
                of_clients[network] = f"{len(found)} addresses, {serving} of them serve {CLIENTS_MIN} clients or more"
        return of_servers, of_clients

    def _service(self, zone: ZoneInfo) -> dict[str, str]:
        if not any(account.interactive for account in self._accounts.values()):
            return {}  # without a workstation's logs everybody looks like a service
        found = {}
        for name, account in sorted(self._accounts.items()):
            seldom = account.logons < SERVICE_LOGONS_MIN
            if account.interactive or account.screens or seldom or self._classes.of("user", name) == "admin":
                continue
            weekend = any((date(1970, 1, 1) + timedelta(day)).weekday() >= 5 for day in account.days)
            around = len(account.hours) >= SERVICE_HOURS_MIN
            if len(account.days) >= DAYS_MIN and (around or (weekend and len(account.hosts) >= ADMIN_HOSTS_MIN)):
                shift = datetime.fromtimestamp(self._last, zone).utcoffset() or timedelta()
                hours = sorted((hour + int(shift.total_seconds() // 3600)) % 24 for hour in account.hours)
                times = "round the clock" if around else f"at {_few(hours)} h, at weekends too"
                found[name] = f"{account.logons} logons {times}, {len(account.hosts)} machines, never at a screen"
        return self._by_prefix(found)

    def _by_prefix(self, found: dict[str, str]) -> dict[str, str]:
        """Names with a beginning that no person's account shares, as one pattern."""
        patterns: dict[str, str] = {}
        for prefix in sorted({matched[0] for name in found if (matched := _BEGINNING.match(name))}):
            theirs = [name for name in found if name.startswith(prefix)]
            others = [
                a for name, a in self._accounts.items() if name.startswith(prefix) and (a.interactive or a.screens)
            ]
            if len(theirs) >= PREFIX_NAMES_MIN and not others:
                patterns[f"{prefix}*"] = f"{len(theirs)} accounts like {theirs[0]}: {found[theirs[0]]}"
        covered = tuple(pattern[:-1] for pattern in patterns)
        return patterns | {name: why for name, why in found.items() if not name.startswith(covered)}

    def _admins(self, service: Mapping[str, str]) -> dict[str, str]:
        found = {}
        for name, account in sorted(self._accounts.items()):
            in_pattern = name.startswith(tuple(pattern[:-1] for pattern in service if pattern.endswith("*")))
            if name in service or in_pattern or self._classes.of("user", name) == "service":
                continue
            why = []
            if account.rights:
                why.append(f"{account.rights} changes of accounts, groups or rights")
            if len(account.remote) >= ADMIN_HOSTS_MIN:
                why.append(f"works on {len(account.remote)} machines by RDP or SSH")
            if why:
                found[name] = ", ".join(why)
        return found

    def _host_names(self) -> tuple[dict[str, str], dict[str, str]]:
        """Patterns for hosts whose use says something else than their class by the inventory."""
        hosts = self._users.keys() | self._owners.keys()
        serving = {h for h in hosts if len(self._users.get(h, ())) >= USERS_MIN}
        groups: dict[str, set[str]] = {}
        for host in hosts:
            beginning = _PREFIX.match(host)
            groups.setdefault(beginning[0] if beginning else host, set()).add(host)
        servers: dict[str, str] = {}
        clients: dict[str, str] = {}
        for prefix, members in sorted(groups.items()):
            theirs = members & serving
            if len(theirs) >= PREFIX_HOSTS_MIN and len(theirs) >= PREFIX_SHARE * len(members):
                if any(self._classes.of("host", h) != "server" for h in members):
                    servers[f"{prefix}*"] = f"{len(theirs)} of {len(members)} machines have {USERS_MIN} users or more"
                continue
            for host in sorted(theirs):
                if self._classes.of("host", host) != "server":
                    servers[host] = f"{len(self._users[host])} users over the network"
            personal = {h for h in members - serving if self._owners.get(h)}
            misread = {h for h in personal if self._classes.of("host", h) == "server"}
            if len(misread) > PREFIX_HOSTS_MIN and not theirs:
                clients[f"{prefix}*"] = f"people work on {len(misread)} of them"
        return servers, clients

    def _scanners(self) -> dict[str, str]:
        found = {}
        for source, targets in sorted(self._targets.items()):
            ports = {port for _, port in targets}
            if len(targets) >= SCAN_TARGETS_MIN and len(ports) >= SCAN_PORTS_MIN:
                more = " or more" if len(targets) >= ITEMS_MAX else ""
                days = len(self._target_days[source])
                found[source] = f"{len(targets)}{more} different addresses and ports, on {days} days"
        return found

    def _timezone(self) -> tuple[str, str]:
        """The candidate in which most people come between seven and five on working days."""
        shares = {}
        for name in self._zones:
            zone, inside, total = ZoneInfo(name), 0, 0
            for hour, people in self._people.items():
                local = datetime.fromtimestamp(hour * 3600, zone)
                if local.weekday() < 5:
                    total += len(people)
                    inside += len(people) * (local.hour in WORK_HOURS)
            shares[name] = inside / total if total else 0.0
        best = max(self._zones, key=lambda name: shares[name])
        if not any(shares.values()):
            return best, "not seen in the logs: no logons at screens"
        return best, f"{shares[best]:.0%} of the logons at screens are between 7 and 17 o'clock there"

    def _quiet_days(self, zone: ZoneInfo) -> tuple[tuple[str, ...], dict[str, str]]:
        """States whose holidays explain the most working days without people, and the days that stay unexplained."""
        people: dict[date, set[str]] = {}
        for hour, names in self._people.items():
            people.setdefault(datetime.fromtimestamp(hour * 3600, zone).date(), set()).update(names)
        if not people:
            return (), {}
        first, last = min(people), max(people)  # their days are cut off by the logs' ends
        days = [first + timedelta(n) for n in range(1, (last - first).days)]
        working = [day for day in days if day.weekday() < 5]
        usual = sorted(len(people.get(day, ())) for day in working)
        middle = usual[len(usual) // 2] if usual else 0
        if middle < PEOPLE_MIN:
            return (), {}
        quiet = [day for day in working if len(people.get(day, ())) < QUIET_SHARE * middle]
        if not quiet:
            return (), {}
        fits: dict[str, int] = {}
        for state in LAENDER:
            known = holidays_of(f"DE-{state}")
            wrong = sum(day in known for day in working if day not in quiet)
            fits[f"DE-{state}"] = sum(day in known for day in quiet) - wrong
        best = max(fits.values())
        states = tuple(state for state, fit in fits.items() if fit == best) if best > 0 else ()
        known = holidays_of(states[0]) if states else {}
        left = [day for day in quiet if day not in known and f"{day:%m-%d}" not in self._inventory.closing_days]
        return states, {str(day): f"{len(people.get(day, ()))} people instead of {middle}" for day in left}


def written(found: Proposal, inventory: Inventory) -> str:
    """The proposal as a commented inventory file: what is plain stands in it, what could hide an attack is commented out."""
    if not found.events:
        return "# no events could be read: nothing to propose\n"
    classes = Classes(inventory)
    span = " to ".join(datetime.fromtimestamp(at, UTC).date().isoformat() for at in (found.first, found.last))
    head = (
        f"# Proposed from {found.events} events, {span}. Nothing of this is in use yet: read it, correct it, save it as\n"
        "# inventory.yml and name it in the configuration: `inventory: inventory.yml`.\n"
    )
    states = found.holidays or (inventory.holidays,)
    if found.holidays:
        others = f" Equally well fit {', '.join(states[1:])}." if states[1:] else ""
        about_states = f"Its holidays explain days without people.{others}"
    else:
        about_states = "The logs hold no day that tells the federal states apart: state yours, for example DE-NW."
    parts = [
        head,
        _listed("What is not the internet.", "internal", inventory.internal, found.own_networks),
        _listed(
            "Networks in which most machines serve many clients.",
            "server_networks",
            inventory.server_networks,
            found.server_networks,
        ),
        _off(
            "Other networks in use. Analysts see the name that you give them.",
            "networks",
            {f"{{network: {network}, name: , role: client}}": why for network, why in found.client_networks.items()},
        ),
        _off("What serves many clients (only to look at).", "addresses", found.servers),
        _off(
            "Machines that try many addresses and ports. What stands under `scanners` may spread over the network without\n"
            "# a finding: make sure of each one before you take its # away.",
            "scanners",
            found.scanners,
        ),
        _classed("accounts", inventory.accounts, {"service": found.service, "admin": found.admin}, classes),
        _classed("hosts", inventory.hosts, {"server": found.server_names, "client": found.client_names}, classes),
        f"# {found.timezone_why}\ntimezone: {found.timezone}\n",
        f"# {about_states}\nholidays: {states[0]}\n",
        _listed("Days of your own without people.", "closing_days", inventory.closing_days, found.quiet_days),
        "# A file with countries of addresses (*.mmdb, or CSV), for travel and logons from abroad.\n# geo: geo.mmdb\n",
    ]
    return "\n".join(part for part in parts if part)


def _listed(about: str, key: str, usual: Sequence[str], found: Mapping[str, str]) -> str:
    rows = [f"  - {json.dumps(text)}" for text in usual if text not in found]
    rows += [f"  - {json.dumps(text, ensure_ascii=False)}  # {why}" for text, why in found.items()]
    return f"# {about}\n{key}:\n" + "\n".join(rows) + "\n" if rows else f"# {about}\n{key}: []\n"


def _off(about: str, key: str, found: Mapping[str, str]) -> str:
    return (
        f"# {about}\n# {key}:\n" + "".join(f"#   - {text}  # {why}\n" for text, why in found.items()) if found else ""
    )


def _classed(key: str, usual: Accounts | Hosts, found: Mapping[str, Mapping[str, str]], classes: Classes) -> str:
    """Lists of the classes in which something was found that the inventory reads otherwise; the others stay as they are."""
    kind = key.removesuffix("s")
    kind = "user" if kind == "account" else kind
    text = ""
    for name, members in found.items():
        news = {n: why for n, why in members.items() if "*" in n or classes.of(kind, n) != name}
        known = [n for n in members if n not in news]
        if known:
            text += f"  # {name}, by their names already: {_few(known)}\n"
        if news:
            sign = "# " if name == "admin" else ""  # whoever moved through the network would be called an administrator
            rows = [json.dumps(pattern, ensure_ascii=False) for pattern in getattr(usual, name)]
            text += f"  {sign}{name}:\n" + "".join(f"    {sign}- {row}\n" for row in rows)
            text += "".join(f"    {sign}- {json.dumps(n, ensure_ascii=False)}  # {why}\n" for n, why in news.items())
    if not text:
        return f"# {key}: the usual names fit.\n"
    empty = "" if any(not line.lstrip().startswith("#") for line in text.splitlines()) else " {}"
    return f"# By name, exact or with * and ?. A list that stands here replaces the usual one.\n{key}:{empty}\n{text}"


def _few(items: Sequence[Any]) -> str:
    shown = ", ".join(map(str, items[:EXAMPLES_MAX]))
    return f"{shown} and {len(items) - EXAMPLES_MAX} more" if len(items) > EXAMPLES_MAX else shown


def _around(address: str) -> str:
    """The network that an address is usually managed in."""
    found = ip_address(address)
    found = getattr(found, "ipv4_mapped", None) or found
    return str(ip_network((found, 24 if found.version == 4 else 64), strict=False))


def _under(held: dict[str, Any], key: str, kind: Any) -> Any:
    """What is held under a key; None beyond the bound."""
    found = held.get(key)
    if found is None and key and len(held) < KEYS_MAX:
        found = held[key] = kind()
    return found


def _into(held: dict[Any, set[Any]], key: Any, item: Any) -> None:
    found = _under(held, key, set)
    if found is not None and len(found) < ITEMS_MAX:
        found.add(item)
