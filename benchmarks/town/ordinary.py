"""An ordinary day of a town: people at work by their habits, machines by the clock, and the noise of the internet."""

from functools import lru_cache
from random import Random

import msgspec

from benchmarks.town import places
from benchmarks.town.people import Machine, Person, Town
from benchmarks.town.scribe import AGENTS, EXPLORER, PHONE, SERVICES_EXE, Scribe

PAGES = (
    "/",
    "/buergerservice",
    "/termine",
    "/formulare/antrag.pdf",
    "/aktuelles",
    "/css/site.css",
    "/js/site.js",
    "/kontakt",
    "/rathaus",
    "/veranstaltungen",
    "/suche?q=ausweis",
)
PROBED = (
    "/wp-login.php",
    "/.env",
    "/admin/",
    "/phpmyadmin/",
    "/xmlrpc.php",
    "/cgi-bin/test",
    "/.git/config",
    "/owa/",
    "/remote/login",
)
GUESSED = (
    "admin",
    "administrator",
    "test",
    "user",
    "vpn",
    "root",
    "info",
    "guest",
    "scanner",
    "buchhaltung",
    "sekretariat",
    "support",
    "backup",
)
OWA_LOGON = "/owa/auth.owa"
ACTIVESYNC = "/Microsoft-Server-ActiveSync?Cmd=Sync"
AGENT = "C:\\Program Files\\Verteilung\\agent.exe"
SYSTEM32 = "C:\\Windows\\System32\\"
POWERSHELL = SYSTEM32 + "WindowsPowerShell\\v1.0\\powershell.exe"


class Presence(msgspec.Struct, eq=False):
    """One person's day: when, and from which address."""

    person: Person
    begins: float  # seconds since the epoch
    ends: float
    address: str  # of the own computer: in the office network or in the tunnel
    remote: str = ""  # the outside address when working by VPN


@lru_cache(maxsize=64)
def presences(town: Town, day: int) -> list[Presence]:
    """Who works on this day. The same answer whenever it is asked."""
    rng = Random(f"presence/{town.name}/{town.domain_sid}/{day}")
    found = []
    sick_rate = 0.06
    for number, person in enumerate(town.people):
        chance, jitter, stays = rng.random(), rng.gauss(0, 0.2), rng.gauss(0, 0.35)
        if not person.joins <= day < person.leaves:
            continue
        if not town.is_workday(day):
            if not (town.weekday(day) == 5 and chance < (0.04 if person.department in {"it", "kultur"} else 0.01)):
                continue
            begins, ends = 9.5 + jitter * 4, 13 + stays * 2
        elif town.weekday(day) not in person.workdays or chance < sick_rate:
            continue
        else:
            begins, ends = person.begins + jitter, person.ends + stays
        remote = town.weekday(day) in person.home_days and chance > 0.2
        home = places.within(Random(f"{person.user}/{day // 3}"), person.home) if person.home_changes else person.home
        address = town.tunnel(number * 7 + day * 13) if remote else person.pc.address
        found.append(
            Presence(person, town.at(day, begins), town.at(day, max(ends, begins + 1)), address, home if remote else "")
        )
    return found


def write(scribe: Scribe, day: int, density: float) -> None:
    """All ordinary lines of a day."""
    rng, town = scribe.rng, scribe.town
    for one in presences(town, day):
        _person(scribe, rng, one, density)
    _phones(scribe, rng, day)
    _machines(scribe, rng, day, density)
    _services(scribe, rng, day)
    _internet(scribe, rng, day, density)
    _administrators(scribe, rng, day)


def sign_in(scribe: Scribe, at: float, one: Presence, rng: Random) -> None:
    """The morning: tunnel, ticket, console."""
    person = one.person
    if one.remote:
        if rng.random() < person.clumsy:
            scribe.vpn_failed(at - 25, person.user, one.remote)
        scribe.vpn_up(at, person.user, one.remote, one.address)
        at += 20
    if rng.random() < person.clumsy:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            at += rng.uniform(4, 15)
            scribe.tgt(at, person.user, one.address, failed=True)
            if rng.random() < 0.5:
                scribe.logon_failed(at, person.pc.name, person.user, 2, "127.0.0.1", person.pc.name)
        at += 6
    scribe.tgt(at, person.user, one.address)
    scribe.logon(
        at + 0.4,
        person.pc.name,
        person.user,
        11 if one.remote and rng.random() < 0.5 else 2,
        "127.0.0.1",
        person.pc.name,
    )
    scribe.ticket(at + 0.6, person.user, one.address, f"{person.pc.name.upper()}$")


def reach(
    scribe: Scribe,
    at: float,
    user: str,
    address: str,
    server: Machine,
    rng: Random,
    *,
    port: int = 445,
    package: str = "Kerberos",
    workstation: str = "",
) -> None:
    """Use a Windows server over the network: ticket, network logon, connection."""
    if package == "Kerberos":
        scribe.ticket(at, user, address, f"{server.name.upper()}$")
    else:
        scribe.ntlm(at, user, workstation or "WORKSTATION")
    scribe.logon(at + 0.3, server.name, user, 3, address, workstation or "-", package)
    scribe.flow(
        at + rng.uniform(1, 60),
        address,
        server.address,
        port,
        rng.lognormvariate(8.5, 1),
        rng.lognormvariate(10, 1.5),
        seconds=rng.uniform(1, 300),
    )


def browse(
    scribe: Scribe,
    at: float,
    address: str,
    user: str,
    site: places.Site,
    rng: Random,
    sent: float = 0.0,
    *,
    proxied: bool | None = None,
) -> None:
    """Name look-up and a visit, by the proxy or directly."""
    scribe.lookup(at - 0.2, address, site.name)
    target = rng.choice(site.addresses)
    sent = sent or site.sent_bytes * rng.lognormvariate(0, 0.5)
    received = site.received_bytes * rng.lognormvariate(0, 0.8)
    if rng.random() < 0.5 if proxied is None else proxied:
        scribe.proxied(at, address, user, site.name, target, sent, received)
    else:
        scribe.flow(at, address, target, 443, sent, received, seconds=rng.uniform(1, 120))


def program_path(program: str) -> str:
    folder = {
        "outlook.exe": "Microsoft Office\\root\\Office16",
        "winword.exe": "Microsoft Office\\root\\Office16",
        "excel.exe": "Microsoft Office\\root\\Office16",
        "onenote.exe": "Microsoft Office\\root\\Office16",
        "msedge.exe": "Microsoft\\Edge\\Application",
        "firefox.exe": "Mozilla Firefox",
        "mmc.exe": "",
        "mstsc.exe": "",
    }.get(program, program.split(".", maxsplit=1)[0].title())
    return SYSTEM32 + program if not folder else f"C:\\Program Files\\{folder}\\{program}"


def moments(rng: Random, begins: float, ends: float, count: float) -> list[float]:
    """About `count` moments between two times, fewer around noon."""
    found = []
    for _ in range(_poisson(rng, count)):
        at = begins + rng.random() * (ends - begins)
        if ends - begins > 5 * 3600 and abs(at - (begins + ends) / 2) < 1500 and rng.random() < 0.7:
            continue
        found.append(at)
    return sorted(found)


def _poisson(rng: Random, mean: float) -> int:
    whole = int(mean)
    return whole + (rng.random() < mean - whole) if mean < 3 else max(0, round(rng.gauss(mean, mean**0.5)))


def _person(scribe: Scribe, rng: Random, one: Presence, density: float) -> None:
    person, town = one.person, scribe.town
    user, address, pc = person.user, one.address, person.pc.name
    busy = person.busy * (one.ends - one.begins) / 30_000
    sign_in(scribe, one.begins, one, rng)
    for server in person.servers:
        if rng.random() < 0.75:
            for at in moments(rng, one.begins + 60, one.ends, 1.4):
                port = {"db": 1433, "app": 443, "gis": 443}.get(server.role, 445)
                if server.linux:
                    scribe.flow(at, address, server.address, port, rng.lognormvariate(8, 1), rng.lognormvariate(10, 1))
                else:
                    reach(scribe, at, user, address, server, rng, port=port)
                if server.role == "app" and rng.random() < 0.2:
                    scribe.ticket(at + 1, user, address, rng.choice(town.with_spn[:3]))
    if person.terminal and rng.random() < 0.8:
        at = one.begins + rng.uniform(120, 3000)
        scribe.flow(
            at,
            address,
            person.terminal.address,
            3389,
            rng.lognormvariate(13, 0.5),
            rng.lognormvariate(15, 0.5),
            seconds=3600,
        )
        scribe.ticket(at, user, address, f"{person.terminal.name.upper()}$")
        scribe.logon(at + 1, person.terminal.name, user, 10, address, pc)
        for moment in moments(rng, at + 60, one.ends, 4 * busy * density):  # all its users share one address
            browse(scribe, moment, person.terminal.address, user, rng.choice(person.sites), rng)
        for moment in moments(rng, at + 30, one.ends, 3):
            scribe.process(moment, person.terminal.name, user, program_path(rng.choice(person.programs)))
    files = town.roles("file")
    for share in person.shares:
        if rng.random() < 0.7:
            server = files[len(share) % len(files)]
            for at in moments(rng, one.begins + 120, one.ends, 3 * busy * density):
                scribe.share(at, server.name, user, address, share)
                for number in range(rng.choice((1, 1, 2, 4))):
                    path = rng.choice(town.files[share])
                    write_ = rng.random() < 0.25
                    scribe.share(at + 0.5 + number * 2, server.name, user, address, share, path, write=write_)
                    if write_ and rng.random() < 0.5:
                        scribe.file(at + 0.7 + number * 2, server.name, user, f"{share}\\{path}", write=True)
    for at in moments(rng, one.begins + 30, one.ends, 12 * busy * density):
        program = person.programs[min(int(rng.expovariate(0.5)), len(person.programs) - 1)]
        path = program_path(program)
        command = (
            f'"{path}" "\\\\fs01\\{rng.choice(person.shares)}\\{places.word(rng)}{rng.choice((".docx", ".xlsx", ".pdf"))}"'
            if rng.random() < 0.3
            else ""
        )
        scribe.process(at, pc, user, path, command)
        if program in {"msedge.exe", "firefox.exe", "teams.exe"} and rng.random() < 0.6:
            site = person.sites[int(rng.paretovariate(0.9)) % len(person.sites)]
            target = rng.choice(site.addresses)
            scribe.asked(at + 1, pc, user, path, site.name, target)
            scribe.connection(at + 1.2, pc, user, path, address, target, 443)
    for at in moments(rng, one.begins + 60, one.ends, 22 * busy * density):
        browse(scribe, at, address, user, person.sites[int(rng.paretovariate(0.7)) % len(person.sites)], rng)
        if rng.random() < 0.03:  # sends something larger
            browse(scribe, at + 30, address, user, rng.choice(person.sites), rng, sent=rng.lognormvariate(14, 1))
        if rng.random() < 0.05:
            browse(scribe, at + 5, address, user, rng.choice(town.world), rng)
    for at in moments(rng, one.begins + 60, one.ends, 4 * busy * density):
        scribe.lookup(at, address, f"{rng.choice(town.servers).name}.{town.domain}")
    for at in moments(rng, one.begins + 3600, one.ends, 2):
        scribe.logon(at, pc, user, 7, "127.0.0.1", pc)
    if not one.remote and rng.random() < 0.5:
        printer = town.printers[sum(map(ord, person.department)) % len(town.printers)]
        for at in moments(rng, one.begins + 600, one.ends, 1.5):
            scribe.flow(at, address, printer.address, 9100, rng.lognormvariate(12, 1), 400)
    scribe.logoff(one.ends, pc, user, 2)
    if one.remote:
        seconds = one.ends - one.begins
        scribe.vpn_down(
            one.ends + 5, user, one.remote, address, seconds, rng.lognormvariate(17, 0.7), rng.lognormvariate(18, 0.8)
        )


def _phones(scribe: Scribe, rng: Random, day: int) -> None:
    """Mail on the telephone, from changing addresses of the mobile network."""
    town = scribe.town
    for person in town.people:
        if person.phone and person.joins <= day < person.leaves:
            address = places.within(rng, person.phone) if rng.random() < 0.3 else person.phone
            for at in moments(rng, town.at(day, 6.5), town.at(day, 22), 6):
                scribe.web(
                    at,
                    address,
                    "POST",
                    f"{ACTIVESYNC}&User={person.user}&DeviceType=iPhone",
                    200,
                    rng.lognormvariate(7, 1),
                    PHONE,
                    person.user,
                )
    for person in rng.sample(town.people, 4):
        if person.joins <= day < person.leaves:  # web mail from home
            at = town.at(day, rng.uniform(17, 22))
            scribe.web(at, person.home, "GET", "/owa/auth/logon.aspx", 200, 58_000, AGENTS[0])
            if rng.random() < 0.15:
                owa(scribe, at + 12, person.home, person.user, failed=True)
            owa(scribe, at + 25, person.home, person.user)


def owa(
    scribe: Scribe,
    at: float,
    address: str,
    user: str,
    *,
    failed: bool = False,
    agent: str = AGENTS[0],
    kind: str = "post",
) -> None:
    """A logon at the web mail: the web server's line, and the mail server's Windows event of the same logon."""
    mail = scribe.town.role("mail")
    if kind == "basic":
        scribe.web(at, address, "GET", ACTIVESYNC, 401 if failed else 200, 1300, agent, user)
    else:
        scribe.web(at, address, "POST", OWA_LOGON, 401 if failed else 302, 0 if not failed else 1200, agent)
    if failed:
        scribe.logon_failed(at + 0.1, mail.name, user, 8, address, mail.name)
    else:
        scribe.logon(at + 0.1, mail.name, user, 8, address, mail.name)


def _machines(scribe: Scribe, rng: Random, day: int, density: float) -> None:
    """Machine accounts, update agents, monitoring, printers and things, all by the clock."""
    town = scribe.town
    working = town.is_workday(day)
    for number, pc in enumerate(town.pcs):
        if not working and number % 4:
            continue
        for at in moments(rng, town.at(day, 6.8), town.at(day, 17.5), 1.5):
            account = f"{pc.name.upper()}$"
            scribe.tgt(at, account, pc.address)
            scribe.logon(at + 0.2, scribe.dc(account).name, account, 3, pc.address)
        agent = town.agents[number % 3]  # asks its update service every two hours or so
        offset = number * 37 % 7200
        for step in range(7, 18, 2):
            if rng.random() < 0.8 * density:
                at = town.at(day, step) + offset + rng.uniform(-60, 60)
                scribe.flow(at, pc.address, agent.addresses[0], 443, rng.uniform(900, 2500), rng.uniform(3000, 9000))
        if number % 20 == 7:  # a program of its own that asks regularly, known for long
            site = town.world[number % len(town.world)]
            for step in range(int(10 * 3600 / 900)):
                at = town.at(day, 7.5) + step * 900 + rng.uniform(-20, 20)
                scribe.flow(at, pc.address, site.addresses[0], 443, 700 + step % 3 * 10, 1500)
                if step % 4 == 0:
                    scribe.lookup(at - 0.1, pc.address, site.name)
    monitor = town.role("monitor")
    for server in town.servers:
        for step in range(int(24 * density)):
            at = town.at(day, step * 24 / max(1, int(24 * density))) + rng.uniform(0, 50)
            scribe.flow(at, monitor.address, server.address, 22 if server.linux else 5985, 2200, 5400)
            if server.linux:
                scribe.ssh(at + 0.5, server.name, town.services["monitor"], monitor.address)
    for printer in town.printers:
        for at in moments(rng, town.at(day, 6), town.at(day, 18), 3):
            scribe.flow(
                at,
                town.role("print").address,
                printer.address,
                9100 if rng.random() < 0.5 else 161,
                300,
                200,
                udp=rng.random() < 0.3,
            )
    for number, thing in enumerate(town.things):
        controller = town.world[300 + number % 5]
        for step in range(0, 24, 3):
            at = town.at(day, step) + number * 60 + rng.uniform(-30, 30)
            if number % 3 == 0:
                scribe.flow(at, thing.address, controller.addresses[0], 8883, 600, 400)
            elif step % 6 == 0:
                scribe.lookup(at, thing.address, controller.name)
    proxy = town.role("dns")
    for at in moments(rng, town.at(day, 0), town.at(day, 24), 60 * density):
        scribe.lookup(
            at,
            town.role("mail").address,
            f"{places.word(rng)}.example.{rng.choice(('com', 'net', 'org'))}",
            rng.choice(("MX", "TXT", "A")),
            missing=rng.random() < 0.2,
        )
        scribe.lookup(
            at + 1,
            town.role("mail").address,
            f"{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}.bl.reputation.example",
            missing=rng.random() < 0.8,
        )
    for server in town.servers:
        if server.linux:
            for step in range(24):
                scribe.cron(town.at(day, step) + 17 * 60, server.name, "   cd / && run-parts --report /etc/cron.hourly")
            if server is not proxy:
                scribe.cron(
                    town.at(day, 6) + 25 * 60, server.name, "test -x /usr/sbin/anacron || run-parts /etc/cron.daily"
                )
    if town.is_workday(day) and town.weekday(day) == 3:  # the scanner of the inventory, once a week at night
        scan(
            scribe,
            rng,
            town.at(day, 1.5),
            town.role("scan").address,
            [m.address for m in (*town.servers, *town.pcs[::3])],
            (22, 80, 135, 443, 445, 3389, 5985, 8080),
            1.2,
        )


def scan(
    scribe: Scribe, rng: Random, at: float, source: str, targets: list[str], ports: tuple[int, ...], pause_s: float
) -> float:
    """Connection attempts, most of them refused. Returns the time it ended."""
    for target in targets:
        for port in ports:
            at += pause_s * rng.uniform(0.6, 1.5)
            scribe.flow(
                at,
                source,
                target,
                port,
                60,
                0 if (refused := rng.random() < 0.8) else 60,
                "deny" if refused else "close",
                seconds=0,
            )
    return at


def _services(scribe: Scribe, rng: Random, day: int) -> None:
    """Service accounts: always the same from the same machines; the backup at night."""
    town = scribe.town
    backup, deploy, database = town.role("backup"), town.role("deploy"), town.role("db")
    for number, server in enumerate(s for s in town.servers if not s.linux):
        at = town.at(day, 22.5) + number * 420 + rng.uniform(-40, 40)
        scribe.ticket(at, town.services["backup"], backup.address, f"{server.name.upper()}$")
        scribe.logon(at + 0.5, server.name, town.services["backup"], 3, backup.address)
        scribe.flow(at + 200, backup.address, server.address, 445, 4e6, rng.lognormvariate(20, 0.7), seconds=300)
        if rng.random() < 0.7:
            at = town.at(day, rng.uniform(5, 7))
            scribe.ticket(at, town.services["deploy"], deploy.address, f"{server.name.upper()}$")
            scribe.logon(at + 0.5, server.name, town.services["deploy"], 3, deploy.address)
            scribe.process(
                at + 3,
                server.name,
                f"{server.name.upper()}$",
                AGENT,
                "agent.exe /inventur /still",
                SERVICES_EXE,
            )
    for pc in town.pcs:
        if rng.random() < 0.12 and town.is_workday(day):
            at = town.at(day, rng.uniform(8, 16))
            scribe.ticket(at, town.services["deploy"], deploy.address, f"{pc.name.upper()}$")
            scribe.logon(at + 0.5, pc.name, town.services["deploy"], 3, deploy.address)
            scribe.process(
                at + 3,
                pc.name,
                "SYSTEM",
                AGENT,
                "agent.exe /inventur /still",
                SERVICES_EXE,
            )
    for task, server, hours in (
        ("sql", database, (0, 6, 12, 18)),
        ("archiv", town.role("archive"), (2, 14)),
        ("sync", town.role("app"), range(0, 24, 2)),
        ("print", town.role("print"), (5,)),
        ("web", town.roles("app")[1], (3, 15)),
    ):
        for hour in hours:
            at = town.at(day, hour) + 300 + rng.uniform(0, 30)
            scribe.logon(at, server.name, town.services[task], 5 if task in {"sql", "print", "web"} else 4)
            if task in {"sync", "archiv"}:
                reach(scribe, at + 5, town.services[task], server.address, town.roles("file")[0], rng)
                scribe.ticket(
                    at + 6,
                    town.services[task],
                    server.address,
                    town.services["sql"],
                )
    if town.encodes:  # some management software says the same in base64 every day
        for server in town.servers:
            if not server.linux:
                at = town.at(day, 6) + rng.uniform(0, 1800)
                scribe.process(
                    at,
                    server.name,
                    "SYSTEM",
                    POWERSHELL,
                    f"powershell.exe -NoProfile -EncodedCommand {town.encodes}",
                    AGENT,
                )
    offsite = town.agents[7]
    for step in range(6):  # the copy outside the house
        scribe.flow(
            town.at(day, 3) + step * 900,
            backup.address,
            offsite.addresses[0],
            443,
            rng.lognormvariate(19.5, 0.3),
            400_000,
            seconds=880,
        )


def _internet(scribe: Scribe, rng: Random, day: int, density: float) -> None:
    """What knocks on every public address, and the visitors of the web site."""
    town = scribe.town
    for _ in range(rng.randint(30, 70)):
        source = places.address(rng, rng.choice(places.SUSPECT))
        at, port = town.at(day, rng.uniform(0, 23.9)), rng.choice(places.PORTS_KNOCKED)
        for _ in range(min(40, int(rng.paretovariate(0.8)))):
            at += rng.expovariate(1 / 20)
            scribe.flow(
                at, source, town.public.rsplit(".", 1)[0] + f".{rng.randrange(1, 15)}", port, 60, 0, "deny", seconds=0
            )
    for _ in range(rng.randint(5, 14)):  # guessing at the VPN with names from lists
        source = places.address(rng, rng.choice(places.SUSPECT))
        at = town.at(day, rng.uniform(0, 23.5))
        for _ in range(min(25, int(rng.paretovariate(0.9)))):
            at += rng.expovariate(1 / 90)
            known = rng.random() < 0.06
            scribe.vpn_failed(
                at, rng.choice(town.people).user if known else rng.choice(GUESSED), source, unknown=not known
            )
    for _ in range(rng.randint(2, 6)):  # and at the web mail
        source = places.address(rng, rng.choice(places.SUSPECT))
        at = town.at(day, rng.uniform(0, 23.5))
        for _ in range(rng.randint(1, 5)):
            at += rng.expovariate(1 / 60)
            owa(scribe, at, source, rng.choice(GUESSED), failed=True, agent=rng.choice(AGENTS))
    for at in moments(rng, town.at(day, 5), town.at(day, 23.5), 420 * density * (1 if town.is_workday(day) else 0.5)):
        scribe.web(
            at,
            places.address(rng, "DE"),
            "GET",
            rng.choice(PAGES),
            rng.choice((200, 200, 200, 200, 304, 404)),
            rng.lognormvariate(9, 1),
            rng.choice(AGENTS),
        )
    for _ in range(rng.randint(3, 8)):
        source, at = places.address(rng, rng.choice(places.SUSPECT)), town.at(day, rng.uniform(0, 23.9))
        for path in rng.sample(PROBED, rng.randint(1, 6)):
            at += rng.uniform(0.2, 3)
            scribe.web(at, source, "GET", path, 404, 153, rng.choice(("curl/8.5.0", "python-requests/2.31", AGENTS[0])))


def _administrators(scribe: Scribe, rng: Random, day: int) -> None:
    """Administrators use their second account on servers, from their own machines; sometimes at night."""
    town = scribe.town
    for one in presences(town, day):
        person = one.person
        if not person.admin:
            continue
        windows = [s for s in town.servers if not s.linux]
        own = windows[::2] if len(person.user) % 2 else windows[1::2]
        for at in moments(rng, one.begins + 600, one.ends, 4):
            admin_session(scribe, rng, at, person, one.address, rng.choice(own if rng.random() < 0.95 else windows))
        for at in moments(rng, one.begins + 600, one.ends, 3):
            server = rng.choice([s for s in town.servers if s.linux])
            if rng.random() < person.clumsy:
                scribe.ssh(at - 6, server.name, person.admin, one.address, failed=True)
            scribe.ssh(at, server.name, person.admin, one.address)
            scribe.sudo(
                at + 30,
                server.name,
                person.admin,
                f"/usr/bin/systemctl {rng.choice(('status', 'restart'))} {rng.choice(('nginx', 'cron', 'unbound', 'squid'))}",
            )
            scribe.flow(at, one.address, server.address, 22, 40_000, 90_000)
    if town.weekday(day) == 1 and town.is_workday(day):  # the maintenance evening
        person = town.admins[day // 7 % len(town.admins)]
        at = town.at(day, 19)
        for server in town.servers:
            if not server.linux:
                at += rng.uniform(120, 500)
                admin_session(scribe, rng, at, person, person.pc.address, server)
                scribe.process(
                    at + 60,
                    server.name,
                    person.admin,
                    SYSTEM32 + "wusa.exe",
                    f"wusa.exe D:\\updates\\kb{5_000_000 + day * 31}.msu /quiet /norestart",
                    SYSTEM32 + "cmd.exe",
                )


def admin_session(scribe: Scribe, rng: Random, at: float, person: Person, address: str, server: Machine) -> None:
    scribe.explicit(at - 2, person.pc.name, person.user, person.admin, server.name, SYSTEM32 + "mstsc.exe")
    scribe.tgt(at - 1, person.admin, address)
    scribe.ticket(at - 0.5, person.admin, address, f"{server.name.upper()}$")
    scribe.logon(at, server.name, person.admin, 10, address, person.pc.name)
    scribe.privileges(at + 0.1, server.name, person.admin)
    scribe.flow(
        at, address, server.address, 3389, rng.lognormvariate(12, 0.6), rng.lognormvariate(14, 0.6), seconds=900
    )
    for _ in range(rng.choice((1, 2, 3))):
        at += rng.uniform(20, 200)
        program = rng.choice(
            (
                "mmc.exe",
                "taskmgr.exe",
                "eventvwr.exe",
                "notepad.exe",
                "cmd.exe",
                "WindowsPowerShell\\v1.0\\powershell.exe",
            )
        )
        scribe.process(at, server.name, person.admin, SYSTEM32 + program, "", EXPLORER)
