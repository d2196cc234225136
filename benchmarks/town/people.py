"""Who and what a town has: people with habits, accounts, machines, shares and networks."""

import base64
from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import msgspec

from benchmarks.town import places
from benchmarks.town.places import Site

ZONE = ZoneInfo("Europe/Berlin")
TOWNS = ("ahornstadt", "birkenfurt", "erlental", "finkenau", "ginsterberg", "haselmoor")
GIVEN = "abcdefghijklmnoprstuvw"
FAMILY = [
    "albrecht",
    "arnold",
    "bach",
    "baier",
    "bauer",
    "beck",
    "berger",
    "binder",
    "blum",
    "bock",
    "boehm",
    "brandt",
    "braun",
    "busch",
    "conrad",
    "dietz",
    "ebert",
    "engel",
    "ernst",
    "fiedler",
    "fischer",
    "franke",
    "friedl",
    "fuchs",
    "geiger",
    "graf",
    "gross",
    "haas",
    "hahn",
    "hartmann",
    "heinz",
    "herbst",
    "hesse",
    "hofer",
    "horn",
    "huber",
    "jahn",
    "janssen",
    "kaiser",
    "keller",
    "kern",
    "kirsch",
    "klein",
    "koch",
    "koenig",
    "kraft",
    "kramer",
    "kraus",
    "kuhn",
    "kunz",
    "lang",
    "lehmann",
    "lindner",
    "lorenz",
    "ludwig",
    "maier",
    "marx",
    "mayer",
    "meister",
    "menzel",
    "metzger",
    "michel",
    "moser",
    "nagel",
    "neumann",
    "noack",
    "otto",
    "pabst",
    "peters",
    "pfeiffer",
    "pohl",
    "raabe",
    "reich",
    "reuter",
    "richter",
    "riedel",
    "ritter",
    "roth",
    "sauer",
    "schade",
    "scholz",
    "seidel",
    "simon",
    "sommer",
    "stark",
    "stein",
    "thiel",
    "ulrich",
    "vogel",
    "vogt",
    "voss",
    "wagner",
    "walter",
    "weber",
    "wendt",
    "werner",
    "wild",
    "wimmer",
    "winkler",
    "wirth",
    "wolf",
    "zander",
    "ziegler",
    "zimmer",
]
DEPARTMENTS = ("buergeramt", "bauamt", "kasse", "personal", "soziales", "ordnung", "schule", "kultur", "umwelt", "it")
OFFICE = (
    "outlook.exe",
    "winword.exe",
    "excel.exe",
    "msedge.exe",
    "acrord32.exe",
    "teams.exe",
    "onenote.exe",
    "firefox.exe",
)
SPECIAL = {
    "buergeramt": ("meldewesen.exe", "passdruck.exe"), "bauamt": ("geoviewer.exe", "cadplan.exe"), "kasse": ("haushalt.exe", "kassenbuch.exe"),
    "personal": ("lohnabrechnung.exe",), "soziales": ("fallakte.exe",), "ordnung": ("bussgeld.exe", "gewerbe.exe"),
    "schule": ("schulplan.exe",), "kultur": ("katalog.exe",), "umwelt": ("messdaten.exe",), "it": ("mmc.exe", "putty.exe", "mstsc.exe"),
}  # fmt: skip
# Fixed holidays (Germany and North Rhine-Westphalia) and the movable ones of the years that seeds can choose.
HOLIDAYS = {
    *((m, d) for m, d in ((1, 1), (5, 1), (10, 3), (11, 1), (12, 25), (12, 26))),
    (2026, 4, 3), (2026, 4, 6), (2026, 5, 14), (2026, 5, 25), (2026, 6, 4),
}  # fmt: skip
# Mondays to begin on: quiet weeks, both clock changes, weeks with holidays.
BEGINNINGS = (
    date(2026, 1, 12),
    date(2026, 3, 16),
    date(2026, 4, 20),
    date(2026, 6, 8),
    date(2026, 8, 31),
    date(2026, 10, 12),
)


class Machine(msgspec.Struct, eq=False):
    name: str
    address: str
    role: str  # client, notebook, printer, thing, or what a server does: dc, file, terminal, mail, db, web, app ...
    linux: bool = False


class Person(msgspec.Struct, eq=False):
    """Someone with an account and habits."""

    user: str
    sid: str
    department: str
    pc: Machine
    begins: float  # hours of local time
    ends: float
    workdays: frozenset[int]
    home_days: frozenset[int]
    home: str  # an address at home
    home_changes: bool  # a new address of the provider every few days
    phone: str  # mobile network address, empty without a phone
    servers: list[Machine]
    shares: list[str]
    programs: list[str]
    sites: list[Site]
    busy: float  # how much, compared with others
    clumsy: float  # probability of a mistyped password
    terminal: Machine | None
    admin: str = ""  # the second account of an administrator
    joins: int = 0  # first and last day
    leaves: int = 10_000


class Town:
    """One tenant. Public attributes, filled once."""

    def __init__(self, seed: int, number: int, staff: int, hosts: int, days: int) -> None:
        rng = Random(f"town/{seed}/{number}")
        self.rng = rng
        self.number = number
        self.name = TOWNS[number % len(TOWNS)] + (str(number // len(TOWNS) + 1) if number >= len(TOWNS) else "")
        self.netbios = self.name[:12].upper()
        self.domain = f"{self.name}.example"
        self.prefix = f"10.{40 + number}"
        self.domain_sid = f"S-1-5-21-{3000 + number * 17}-{rng.randrange(10**6)}-{rng.randrange(10**6)}"
        self.days = days
        self.begin = BEGINNINGS[(seed + seed // 10) % len(BEGINNINGS)]
        self.midnights = [self.midnight(day) for day in range(days)]
        self.public = f"192.0.2.{16 * (number % 15) + 1}"
        self.service_style = rng.choice(("svc_{}", "svc-{}", "s-{}", "dienst.{}"))
        self.admin_style = rng.choice(("adm.{}", "adm-{}", "{}-adm", "a-{}"))
        self.pc_style = rng.choice(("pc-{:04}", "ws{:03}", "nb-r{:03}", "cl{:05}"))
        self.server_style = rng.choice(("{}", "srv-{}", "{}-rz"))
        self.world = places.sites(Random(f"world/{seed}"), 420)
        self._servers()
        self._clients(hosts, staff)
        self._accounts()
        self.people = self._people(staff)
        self.admins = [p for p in self.people if p.admin]
        self.person_of = {p.user: p for p in self.people}
        self.audited = {m.name for m in self.servers if not m.linux}  # process creation in the security log, no Sysmon
        self.agents = rng.sample(self.world, 8)  # updates and telemetry that all machines ask for regularly

    def midnight(self, day: int) -> float:
        """Seconds since the epoch at which a day of the simulation begins, local time."""
        when = self.begin + timedelta(days=day)
        return datetime(when.year, when.month, when.day, tzinfo=ZONE).timestamp()

    def at(self, day: int, hour: float) -> float:
        """A local time of day; right on days of 23 and 25 hours, too."""
        when = datetime.combine(self.begin + timedelta(days=day), datetime.min.time()) + timedelta(hours=hour)
        return when.replace(tzinfo=ZONE).astimezone(UTC).timestamp()

    def is_workday(self, day: int) -> bool:
        when = self.begin + timedelta(days=day)
        return (
            when.weekday() < 5
            and (when.month, when.day) not in HOLIDAYS
            and (when.year, when.month, when.day) not in HOLIDAYS
        )

    def weekday(self, day: int) -> int:
        return (self.begin + timedelta(days=day)).weekday()

    def tunnel(self, number: int) -> str:
        """An address that the VPN assigns; given out again later."""
        return f"{self.prefix}.{90 + number % 500 // 250}.{2 + number % 250}"

    def sid(self, number: int) -> str:
        return f"{self.domain_sid}-{number}"

    def role(self, role: str) -> Machine:
        return next(m for m in self.servers if m.role == role)

    def roles(self, *roles: str) -> list[Machine]:
        return [m for m in self.servers if m.role in roles]

    def service(self, task: str) -> str:
        return self.service_style.format(task)

    def _servers(self) -> None:
        plan = [
            "dc",
            "dc",
            "file",
            "file",
            "terminal",
            "terminal",
            "mail",
            "db",
            "db",
            "app",
            "app",
            "app",
            "app",
            "print",
            "backup",
            "deploy",
            "monitor",
            "web",
            "proxy",
            "dns",
            "jump",
            "archive",
            "gis",
            "scan",
        ]
        counts: dict[str, int] = {}
        self.servers: list[Machine] = []
        for place, role in enumerate(plan):
            counts[role] = counts.get(role, 0) + 1
            short = {
                "file": "fs",
                "terminal": "ts",
                "monitor": "mon",
                "deploy": "sw",
                "backup": "bak",
                "print": "prn",
                "proxy": "prx",
            }.get(role, role)
            name = self.server_style.format(f"{short}{counts[role]:02}")
            linux = role in {"monitor", "web", "proxy", "dns", "gis"}
            self.servers.append(Machine(name, f"{self.prefix}.1.{10 + place}", role, linux))
        self.dcs = self.roles("dc")

    def _clients(self, hosts: int, staff: int) -> None:
        left = max(hosts - len(self.servers), staff + 8)
        printers = max(2, left // 12)
        things = max(4, left // 6)
        others = max(2, left - staff - printers - things)
        self.printers = [
            Machine(f"drucker{i:03}", f"{self.prefix}.30.{10 + i}", "printer") for i in range(min(printers, 230))
        ]
        self.things = [Machine(f"geraet{i:03}", f"{self.prefix}.31.{10 + i}", "thing") for i in range(min(things, 230))]
        self.pcs = [
            Machine(
                self.pc_style.format(100 + i * 3),
                f"{self.prefix}.{10 + i // 60}.{20 + i % 60 * 3}",
                "notebook" if i % 4 == 0 else "client",
            )
            for i in range(staff + others)
        ]
        self.spare_pcs = self.pcs[staff:]

    def _accounts(self) -> None:
        self.services = {
            task: self.service(task)
            for task in ("backup", "sql", "web", "print", "scan", "monitor", "deploy", "archiv", "gis", "sync")
        }
        self.with_spn = [self.services[t] for t in ("sql", "web", "archiv", "gis", "sync", "print")]
        rng = self.rng
        inventory = f"Get-CimInstance Win32_Service | Select-Object Name, State; # {places.word(rng, 12)}"
        self.encodes = base64.b64encode(inventory.encode("utf-16-le")).decode() if rng.random() < 0.5 else ""
        self.legacy = rng.sample(self.with_spn, 1)  # services that still answer with RC4
        self.shares = [*DEPARTMENTS, "austausch", "vorlagen", "projekte", "archiv", "bilder"]
        self.files = {share: [file_name(rng) for _ in range(80)] for share in self.shares}  # what is in daily use

    def _people(self, staff: int) -> list[Person]:
        rng = self.rng
        style = rng.choice(("{g}.{f}", "{f}", "{g}{f}", "{f}.{g}", "{g}{g2}.{f}"))
        taken: set[str] = set()
        people: list[Person] = []
        admins = max(2, staff // 32)
        popular = rng.sample(self.world, 60)
        for number in range(staff):
            user = ""
            while not user or user in taken:
                user = style.format(g=rng.choice(GIVEN), g2=rng.choice(GIVEN), f=rng.choice(FAMILY))
                if user in taken and len(taken) > len(FAMILY) // 2:
                    user += str(rng.randrange(2, 9))
            taken.add(user)
            department = "it" if number < admins + 2 else rng.choice(DEPARTMENTS[:-1])
            part_time = rng.random() < 0.3
            workdays = frozenset(rng.sample(range(5), rng.choice((3, 4))) if part_time else range(5))
            begins = rng.gauss(7.6, 0.8)
            remote = rng.random() < 0.45
            home_kind = rng.choice(("DE home", "DE home", "DE home", "DE mobile"))
            own = rng.sample(self.world, rng.randint(8, 30))
            people.append(
                Person(
                    user=user,
                    sid=self.sid(1100 + number),
                    department=department,
                    pc=self.pcs[number],
                    begins=max(6.0, min(begins, 9.8)),
                    ends=begins + (rng.uniform(4.2, 6) if part_time else rng.uniform(8.2, 9.6)),
                    workdays=workdays,
                    home_days=frozenset(rng.sample(sorted(workdays), min(2, len(workdays)))) if remote else frozenset(),
                    home=places.address(rng, home_kind),
                    home_changes=rng.random() < 0.5,
                    phone=places.address(rng, "DE mobile") if rng.random() < 0.45 else "",
                    servers=[
                        *rng.sample(self.roles("app", "db", "gis", "archive"), rng.randint(1, 4)),
                        *self.roles("file")[: rng.randint(1, 2)],
                    ],
                    shares=[department, "austausch", *rng.sample(self.shares, rng.randint(0, 2))],
                    programs=[*rng.sample(OFFICE, rng.randint(4, len(OFFICE))), *SPECIAL[department]],
                    sites=[*rng.sample(popular, rng.randint(8, 25)), *own],
                    busy=rng.lognormvariate(0, 0.35),
                    clumsy=rng.choice((0.01, 0.02, 0.04, 0.1)),
                    terminal=rng.choice(self.roles("terminal")) if rng.random() < 0.35 else None,
                    admin=self.admin_style.format(user) if number < admins else "",
                )
            )
        for person in rng.sample(people[admins:], min(5, staff // 20)):  # new staff and leavers
            if rng.random() < 0.6:
                person.joins = rng.randrange(3, max(4, self.days))
            else:
                person.leaves = rng.randrange(3, max(4, self.days))
        return people


def file_name(rng: Random) -> str:
    """Any document below a share."""
    return f"{rng.choice(('2023', '2024', '2025', '2026', 'alt'))}\\{places.word(rng)}{rng.choice(('.docx', '.xlsx', '.pdf', '.pdf'))}"
