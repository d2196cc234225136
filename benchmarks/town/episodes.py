"""What is unusual and harmless: look-alikes that every town has now and then, and irregular episodes to add at will."""

import base64
from collections.abc import Callable
from random import Random

from benchmarks.town import ordinary, places
from benchmarks.town.ordinary import SYSTEM32, Presence, browse, owa, program_path, reach
from benchmarks.town.people import Machine, Person
from benchmarks.town.places import Site
from benchmarks.town.scribe import AGENTS, SERVICES_EXE, Scribe

NATURAL = 0.12  # episodes of each type per town and day that are always there
POWERSHELL = SYSTEM32 + "WindowsPowerShell\\v1.0\\powershell.exe"


def usual(scribe: Scribe, day: int) -> None:
    """Look-alikes of a day at their natural rate."""
    rng = scribe.rng
    for play in IRREGULAR.values():
        if rng.random() < NATURAL:
            play(scribe, rng, day)
    for play, weekday in ((roll_out, 2), (password_day, 0), (unlisted_scanner, 4)):
        if scribe.town.is_workday(day) and scribe.town.weekday(day) == weekday and rng.random() < 0.7:
            play(scribe, rng, day)
    for person in scribe.town.people:
        if person.leaves == day or person.joins == day > 0:
            _personnel(scribe, rng, day, person)


def irregular(scribe: Scribe, day: int, count: int) -> None:
    """`count` episodes of each type on this day."""
    for play in IRREGULAR.values():
        for _ in range(count):
            play(scribe, scribe.rng, day)


def _anyone(scribe: Scribe, rng: Random, day: int) -> Presence:
    there = [p for p in ordinary.presences(scribe.town, day) if not p.person.admin]
    if there:
        return rng.choice(there)
    person = rng.choice(scribe.town.people)
    begins = scribe.town.at(day, rng.uniform(8, 12))
    return Presence(person, begins, begins + 4 * 3600, person.pc.address)


def _admin(scribe: Scribe, rng: Random) -> Person:
    return rng.choice(scribe.town.admins)


def _windows(scribe: Scribe, rng: Random) -> Machine:
    return rng.choice([s for s in scribe.town.servers if not s.linux])


def _new_site(rng: Random) -> Site:
    return Site(
        f"{rng.choice(('www', 'app', 'cdn', 'dl'))}.{places.word(rng)}.example.{rng.choice(('com', 'net', 'org'))}",
        (places.address(rng, rng.choice(places.CLOUD)),),
        2500,
        40_000,
    )


# --- of the calendar --------------------------------------------------------------------------------------------------


def roll_out(scribe: Scribe, rng: Random, day: int) -> None:
    """New software for many machines, over a few hours."""
    town, name = scribe.town, places.word(rng)
    deploy, pcs = town.role("deploy"), rng.sample(town.pcs, len(town.pcs) // rng.choice((2, 3, 5)))
    at = town.at(day, rng.uniform(8, 11))
    for pc in pcs:
        at += rng.expovariate(1 / 90)
        scribe.ticket(at, town.services["deploy"], deploy.address, f"{pc.name.upper()}$")
        scribe.logon(at + 0.5, pc.name, town.services["deploy"], 3, deploy.address)
        scribe.process(
            at + 5,
            pc.name,
            "SYSTEM",
            SYSTEM32 + "msiexec.exe",
            f"msiexec /i \\\\{deploy.name}\\pakete\\{name}.msi /qn",
            "C:\\Program Files\\Verteilung\\agent.exe",
        )
        scribe.dropped(
            at + 9, pc.name, "SYSTEM", SYSTEM32 + "msiexec.exe", f"C:\\Program Files\\{name.title()}\\{name}.exe"
        )
        if day % 2:
            scribe.service_installed(
                at + 10,
                pc.name,
                f"{pc.name.upper()}$",
                f"{name.title()} Update",
                f"C:\\Program Files\\{name.title()}\\updater.exe",
            )
        scribe.process(
            at + rng.uniform(60, 7200),
            pc.name,
            next((p.user for p in town.people if p.pc is pc), "SYSTEM"),
            f"C:\\Program Files\\{name.title()}\\{name}.exe",
        )


def password_day(scribe: Scribe, rng: Random, day: int) -> None:
    """A department has to change its passwords; phones and drives still know the old ones."""
    department = rng.choice([p.department for p in scribe.town.people])
    for one in ordinary.presences(scribe.town, day):
        if one.person.department != department:
            continue
        at = one.begins + rng.uniform(60, 1800)
        scribe.account(at, 4723, one.person.user, one.person.user)
        for _ in range(rng.choice((0, 1, 3, 6, 10))):
            at += rng.uniform(30, 900)
            scribe.tgt(at, one.person.user, one.address, failed=True)
        if one.person.phone:
            for _ in range(rng.randint(2, 14)):
                at += rng.uniform(60, 900)
                owa(
                    scribe,
                    at,
                    one.person.phone,
                    one.person.user,
                    failed=True,
                    agent="Apple-iPhone15C2/2106.65",
                    kind="basic",
                )


def unlisted_scanner(scribe: Scribe, rng: Random, day: int) -> None:
    """The asset software looks around once a week, and nobody told the inventory."""
    town = scribe.town
    ordinary.scan(
        scribe,
        rng,
        town.at(day, 12.2),
        town.role("deploy").address,
        [m.address for m in rng.sample(town.pcs, 50)],
        (135, 445, 5985),
        1.5,
    )


def _personnel(scribe: Scribe, rng: Random, day: int, person: Person) -> None:
    admin, at = _admin(scribe, rng).admin, scribe.town.at(day, 7)
    if person.leaves == day:
        scribe.account(at, 4725, admin, person.user)
    else:
        scribe.account(at, 4720, admin, person.user)
        scribe.account(at + 1, 4722, admin, person.user)
        scribe.group(at + 30, 4728, admin, person.user, f"gg-{person.department}", 2200 + len(person.department))


# --- at any time ------------------------------------------------------------------------------------------------------


def new_host(scribe: Scribe, rng: Random, day: int) -> None:
    town, one = scribe.town, _anyone(scribe, rng, day)
    number = rng.randrange(900)
    host, address = (
        Machine(f"neu{number:03}", f"{town.prefix}.{15 + number // 200}.{10 + number % 200}", "client"),
        f"{town.prefix}.{15 + number // 200}.{10 + number % 200}",
    )
    at = one.begins + rng.uniform(300, 7200)
    scribe.tgt(at, f"{host.name.upper()}$", address)
    scribe.logon(at + 1, scribe.dc(host.name).name, f"{host.name.upper()}$", 3, address)
    scribe.tgt(at + 40, one.person.user, address)
    scribe.logon(at + 41, host.name, one.person.user, 2, "127.0.0.1", host.name)
    for program in one.person.programs[:4]:
        at += rng.uniform(60, 600)
        scribe.process(at, host.name, one.person.user, program_path(program))
        browse(scribe, at + 3, address, one.person.user, rng.choice(one.person.sites), rng)
    for server in one.person.servers[:2]:
        if not server.linux:
            reach(scribe, at + 60, one.person.user, address, server, rng)


def new_program(scribe: Scribe, rng: Random, day: int) -> None:
    one, name = _anyone(scribe, rng, day), places.word(rng)
    user = one.person.user
    folder = rng.choice(
        (
            f"C:\\Program Files\\{name.title()}",
            f"C:\\Users\\{user}\\AppData\\Local\\Programs\\{name}",
            f"C:\\Users\\{user}\\Downloads",
        )
    )
    at = rng.uniform(one.begins + 60, one.ends)
    scribe.dropped(at - 4, one.person.pc.name, user, program_path("msedge.exe"), f"{folder}\\{name}.exe")
    for _ in range(rng.choice((1, 2, 5))):
        scribe.process(
            at,
            one.person.pc.name,
            user,
            f"{folder}\\{name}.exe",
            f'"{folder}\\{name}.exe" {rng.choice(("", "/S", "--update", "-m"))}',
            rng.choice((r"C:\Windows\explorer.exe", program_path("msedge.exe"))),
        )
        at += rng.uniform(30, 1500)
    if rng.random() < 0.4:
        browse(scribe, at, one.address, user, _new_site(rng), rng)


def new_service(scribe: Scribe, rng: Random, day: int) -> None:
    host = _windows(scribe, rng) if rng.random() < 0.4 else _anyone(scribe, rng, day).person.pc
    name = places.word(rng).title()
    at = scribe.town.at(day, rng.uniform(7, 18))
    path = rng.choice(
        (
            f"C:\\Program Files\\{name}\\{name.lower()}svc.exe",
            f"C:\\Program Files (x86)\\{name}\\update.exe /svc",
            f"C:\\ProgramData\\{name}\\agent.exe",
        )
    )
    scribe.process(at - 20, host.name, "SYSTEM", SYSTEM32 + "msiexec.exe", f"msiexec /i {name}.msi /qn", SERVICES_EXE)
    scribe.service_installed(
        at, host.name, rng.choice((f"{host.name.upper()}$", _admin(scribe, rng).admin)), f"{name} Service", path
    )
    scribe.process(at + 2, host.name, "SYSTEM", path.split(" /")[0], path, SERVICES_EXE)


def big_upload(scribe: Scribe, rng: Random, day: int) -> None:
    one = _anyone(scribe, rng, day)
    site = rng.choice((rng.choice(one.person.sites), _new_site(rng)))
    at = rng.uniform(one.begins + 60, one.ends)
    pieces = rng.choice((1, 3, 10))
    total = rng.lognormvariate(18.7, 1.2)
    for _ in range(pieces):
        browse(scribe, at, one.address, one.person.user, site, rng, sent=total / pieces, proxied=False)
        at += rng.uniform(20, 600)


def new_poller(scribe: Scribe, rng: Random, day: int) -> None:
    """A program that asks its maker for news regularly, from today on."""
    one, site = _anyone(scribe, rng, day), _new_site(rng)
    period, jitter = rng.choice((60, 300, 600, 900, 1800, 3600)), rng.choice((0.01, 0.1, 0.3))
    at = rng.uniform(one.begins + 60, one.ends - 1800)
    end = at + rng.choice((2, 6, 24, 72)) * 3600
    proxied = rng.random() < 0.4
    while at < end:
        browse(
            scribe,
            at,
            one.address,
            one.person.user if proxied else "",
            site,
            rng,
            sent=rng.uniform(500, 2500),
            proxied=proxied,
        )
        at += period * (1 + rng.uniform(-jitter, jitter))


def travel(scribe: Scribe, rng: Random, day: int) -> None:
    one = _anyone(scribe, rng, day)
    address = places.address(rng, rng.choice((*places.TRAVEL, "DE mobile", "DE home")))
    at = scribe.town.at(day, rng.uniform(6, 22))
    if rng.random() < 0.5:
        scribe.web(at - 8, address, "GET", "/owa/auth/logon.aspx", 200, 58_000, AGENTS[0])
        owa(scribe, at, address, one.person.user)
        return
    tunnel = scribe.town.tunnel(rng.randrange(500))
    scribe.vpn_up(at, one.person.user, address, tunnel)
    for server in one.person.servers[:2]:
        if not server.linux:
            reach(scribe, at + rng.uniform(30, 900), one.person.user, tunnel, server, rng)
    scribe.vpn_down(at + 3000, one.person.user, address, tunnel, 3000, 2e6, 2e7)


def outside_guessing(scribe: Scribe, rng: Random, day: int) -> None:
    """From outside, some names right, never with success."""
    town, source = scribe.town, places.address(rng, rng.choice((*places.SUSPECT, *places.CLOUD)))
    at, web = town.at(day, rng.uniform(0, 23)), rng.random() < 0.5
    for _ in range(rng.choice((2, 5, 12, 30))):
        at += rng.expovariate(1 / rng.choice((5, 60, 600)))
        known = rng.random() < 0.4
        user = rng.choice(town.people).user if known else f"{places.word(rng, 2)}{rng.choice(('', '1', '.info'))}"
        if web:
            owa(scribe, at, source, user, failed=True, agent=rng.choice(AGENTS), kind=rng.choice(("post", "basic")))
        else:
            scribe.vpn_failed(at, user, source, unknown=not known)


def forgotten_password(scribe: Scribe, rng: Random, day: int) -> None:
    """Somebody does not know the own password any more, and sometimes remembers it in the end."""
    one, town = _anyone(scribe, rng, day), scribe.town
    user, at = one.person.user, one.begins + rng.uniform(0, 7200)
    where = rng.choice(("pc", "vpn", "web"))
    outside = places.within(rng, one.person.home)
    tries = rng.choice((3, 5, 8, 14))
    for _ in range(tries):
        at += rng.uniform(5, 60)
        if where == "pc":
            scribe.tgt(at, user, one.person.pc.address, failed=True)
            scribe.logon_failed(at + 0.2, one.person.pc.name, user, 2, "127.0.0.1", one.person.pc.name)
        elif where == "vpn":
            scribe.vpn_failed(at, user, outside)
        else:
            owa(scribe, at, outside, user, failed=True)
    if tries > 7 and where == "pc":
        scribe.account(at + 1, 4740, f"{town.dcs[0].name.upper()}$", user, one.person.pc.name)
        scribe.account(at + 900, 4724, _admin(scribe, rng).admin, user)
        at += 1000
    if rng.random() < 0.8:
        if where == "pc":
            scribe.tgt(at + 20, user, one.person.pc.address)
        elif where == "vpn":
            scribe.vpn_up(at + 20, user, outside, town.tunnel(rng.randrange(500)))
        else:
            owa(scribe, at + 20, outside, user)


def admin_sweep(scribe: Scribe, rng: Random, day: int) -> None:
    """An administrator's tool reaches many machines: inventory, updates, looking for a file."""
    town, admin = scribe.town, _admin(scribe, rng)
    at = town.at(day, rng.choice((rng.uniform(8, 16), rng.uniform(17, 21))))
    kind = rng.choice(("winrm", "smb", "ports"))
    for target in rng.sample([m for m in (*town.servers, *town.pcs) if not m.linux], rng.choice((5, 12, 40))):
        at += rng.expovariate(1 / rng.choice((2, 30)))
        if kind == "ports":
            scribe.flow(
                at,
                admin.pc.address,
                target.address,
                rng.choice((135, 445, 3389)),
                60,
                60 if rng.random() < 0.6 else 0,
                "close" if rng.random() < 0.6 else "deny",
                seconds=0,
            )
            continue
        reach(scribe, at, admin.admin, admin.pc.address, target, rng, port=5985 if kind == "winrm" else 445)
        if kind == "winrm":
            scribe.process(
                at + 1,
                target.name,
                admin.admin,
                SYSTEM32 + "wsmprovhost.exe",
                "C:\\Windows\\system32\\wsmprovhost.exe -Embedding",
                SYSTEM32 + "svchost.exe",
            )
        elif rng.random() < 0.3:
            scribe.share(at + 1, target.name, admin.admin, admin.pc.address, "C$")


def new_share(scribe: Scribe, rng: Random, day: int) -> None:
    """A new task, a colleague on leave: a share the account never used."""
    one = _anyone(scribe, rng, day)
    share = rng.choice([s for s in scribe.town.shares if s not in one.person.shares] or ["neu"])
    server = rng.choice(scribe.town.roles("file"))
    at = rng.uniform(one.begins + 60, one.ends)
    reach(scribe, at - 2, one.person.user, one.address, server, rng)
    scribe.share(at, server.name, one.person.user, one.address, share)
    for _ in range(rng.choice((2, 8, 30))):
        at += rng.uniform(2, 200)
        scribe.share(
            at,
            server.name,
            one.person.user,
            one.address,
            share,
            f"2026\\{places.word(rng)}.docx",
            write=rng.random() < 0.2,
        )


def mass_files(scribe: Scribe, rng: Random, day: int) -> None:
    """A project is archived, pictures are sorted, a folder is copied home."""
    one, write = _anyone(scribe, rng, day), rng.random() < 0.5
    share, server = rng.choice(one.person.shares), rng.choice(scribe.town.roles("file"))
    at, pause = rng.uniform(one.begins + 60, one.ends), rng.choice((0.1, 1, 8))
    for _ in range(rng.choice((60, 150, 400))):
        at += rng.expovariate(1 / pause)
        scribe.share(
            at,
            server.name,
            one.person.user,
            one.address,
            share,
            f"alt\\{places.word(rng)}{rng.choice(('.jpg', '.pdf', '.docx'))}",
            write=write,
        )


def weekend_work(scribe: Scribe, rng: Random, day: int) -> None:
    """Somebody works at an unusual hour: the budget is due, the festival is near."""
    one, town = _anyone(scribe, rng, day), scribe.town
    person = one.person
    at = town.at(day, rng.choice((rng.uniform(4.5, 6), rng.uniform(19, 23), rng.uniform(10, 15))))
    late = Presence(
        person,
        at,
        at + rng.uniform(1800, 9000),
        town.tunnel(rng.randrange(500)),
        person.home,
    )
    ordinary.sign_in(scribe, at, late, rng)
    for server in person.servers[:3]:
        if not server.linux:
            reach(scribe, at + rng.uniform(60, 1500), person.user, late.address, server, rng)
    for moment in ordinary.moments(rng, at + 60, late.ends, 8):
        browse(scribe, moment, late.address, person.user, rng.choice(person.sites), rng)
        scribe.process(moment, person.pc.name, person.user, program_path(rng.choice(person.programs)))


def new_admin_tool(scribe: Scribe, rng: Random, day: int) -> None:
    admin, host = _admin(scribe, rng), _windows(scribe, rng)
    name = rng.choice(("nmap", "procexp64", "psexec", "wireshark", "robocopy", "adexplorer", places.word(rng, 2)))
    at = scribe.town.at(day, rng.uniform(8, 18))
    ordinary.admin_session(scribe, rng, at, admin, admin.pc.address, host)
    scribe.process(
        at + 90,
        host.name,
        admin.admin,
        rng.choice((f"C:\\Tools\\{name}.exe", f"C:\\Users\\{admin.admin}\\Desktop\\{name}.exe")),
        name + rng.choice(("", ".exe -accepteula", r".exe /mir D:\alt E:\neu", ".exe -sS")),
        SYSTEM32 + "cmd.exe",
    )


def group_change(scribe: Scribe, rng: Random, day: int) -> None:
    """The helpdesk does what a ticket asks for."""
    admin, one = _admin(scribe, rng), _anyone(scribe, rng, day)
    group, rid, code = rng.choice(
        (
            ("gg-projekte", 2230, 4728),
            ("gg-vorlagen", 2231, 4728),
            ("dl-drucker", 2232, 4732),
            ("Remotedesktopbenutzer", 555, 4732),
            ("verteiler-rathaus", 2240, 4756),
            (f"gg-{places.word(rng)}", 2300, 4728),
        )
    )
    scribe.group(scribe.town.at(day, rng.uniform(7.5, 17)), code, admin.admin, one.person.user, group, rid)


def log_rotated(scribe: Scribe, rng: Random, day: int) -> None:
    admin, host = _admin(scribe, rng), rng.choice((_windows(scribe, rng), _anyone(scribe, rng, day).person.pc))
    scribe.cleared(scribe.town.at(day, rng.uniform(7, 19)), host.name, admin.admin)


def encoded_management(scribe: Scribe, rng: Random, day: int) -> None:
    """Management software speaks base64."""
    text = f"Get-CimInstance Win32_{rng.choice(('OperatingSystem', 'LogicalDisk', 'Service', 'QuickFixEngineering'))} | Select-Object *; # {places.word(rng, rng.randint(3, 40))}"
    code = base64.b64encode(text.encode("utf-16-le")).decode()
    host = rng.choice((_windows(scribe, rng), _anyone(scribe, rng, day).person.pc))
    at = scribe.town.at(day, rng.uniform(6, 20))
    scribe.process(
        at,
        host.name,
        "SYSTEM",
        POWERSHELL,
        f"powershell.exe -NoProfile -NonInteractive -EncodedCommand {code}",
        rng.choice(("C:\\Program Files\\Verteilung\\agent.exe", SYSTEM32 + "svchost.exe")),
    )
    scribe.script(at + 0.4, host.name, text)


def heavy_names(scribe: Scribe, rng: Random, day: int) -> None:
    """Many names below one domain: content networks, reputation services, telemetry."""
    one = _anyone(scribe, rng, day)
    domain = rng.choice(
        (
            "bl.reputation.example",
            "edge.content.example.net",
            f"{places.word(rng)}.example.com",
            f"metrics.{places.word(rng)}.example.net",
        )
    )
    at = rng.uniform(one.begins + 60, one.ends)
    for _ in range(rng.choice((40, 120, 400))):
        at += rng.expovariate(1 / 8)
        label = rng.choice(
            (
                f"{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}",
                f"{rng.randrange(1 << 40):x}",
                f"img{rng.randrange(9999)}-{places.word(rng, 2)}",
            )
        )
        scribe.lookup(at, one.address, f"{label}.{domain}")


def new_outside_port(scribe: Scribe, rng: Random, day: int) -> None:
    one = _anyone(scribe, rng, day)
    port, target = (
        rng.choice((8443, 1194, 3478, 5222, 9443, 22, 21, 8080, 4070, 51820, rng.randrange(1024, 49000))),
        places.address(rng, rng.choice(places.CLOUD)),
    )
    at = rng.uniform(one.begins + 60, one.ends)
    for _ in range(rng.choice((1, 3, 12))):
        scribe.flow(
            at,
            one.address,
            target,
            port,
            rng.lognormvariate(9, 2),
            rng.lognormvariate(11, 2),
            seconds=rng.uniform(1, 900),
            udp=port in {1194, 3478, 51820},
        )
        at += rng.uniform(20, 1800)


def old_encryption(scribe: Scribe, rng: Random, day: int) -> None:
    """An old appliance or program still asks for RC4."""
    town, one = scribe.town, _anyone(scribe, rng, day)
    at = rng.uniform(one.begins + 60, one.ends)
    for service in rng.sample(town.with_spn, rng.choice((1, 1, 2))):
        scribe.ticket(at, one.person.user, one.address, service, weak=True)
        at += rng.uniform(1, 600)


def new_account(scribe: Scribe, rng: Random, day: int) -> None:
    """An account for a trainee or a project, made by the helpdesk."""
    admin, name = (
        _admin(scribe, rng).admin,
        f"{rng.choice(('azubi', 'praktikum', 'projekt', 'extern'))}{rng.randrange(100, 999)}",
    )
    at = scribe.town.at(day, rng.uniform(7.5, 16))
    scribe.account(at, 4720, admin, name)
    scribe.account(at + 1, 4722, admin, name)
    scribe.group(at + 20, 4728, admin, name, "gg-vorlagen", 2231)


def new_task(scribe: Scribe, rng: Random, day: int) -> None:
    """Software or a colleague plans something to run regularly."""
    one, name = _anyone(scribe, rng, day), places.word(rng).title()
    at = rng.uniform(one.begins + 60, one.ends)
    user = rng.choice((one.person.user, f"{one.person.pc.name.upper()}$"))
    path = rng.choice(
        (f"C:\\Program Files\\{name}\\update.exe", f"C:\\Users\\{one.person.user}\\AppData\\Local\\{name}\\update.exe")
    )
    if rng.random() < 0.3:
        scribe.process(
            at - 1,
            one.person.pc.name,
            user,
            SYSTEM32 + "schtasks.exe",
            f'schtasks /create /tn "{name} Update" /tr "{path}" /sc daily',
            f"C:\\Program Files\\{name}\\setup.exe",
        )
    scribe.task(at, one.person.pc.name, user, f"{name} Update", path)
    scribe.process(at + rng.uniform(300, 7200), one.person.pc.name, user, path, "", SYSTEM32 + "svchost.exe")


def stale_password(scribe: Scribe, rng: Random, day: int) -> None:
    """A telephone, a drive or a service goes on trying a password that has changed."""
    one, town = _anyone(scribe, rng, day), scribe.town
    at, period = town.at(day, rng.uniform(0, 12)), rng.choice((120, 600, 1800))
    end = at + rng.choice((1, 4, 12)) * 3600
    inside = rng.random() < 0.5
    host = _windows(scribe, rng)
    while at < end:
        if inside:
            scribe.logon_failed(at, host.name, one.person.user, 3, one.person.pc.address, one.person.pc.name)
        else:
            owa(
                scribe,
                at,
                one.person.phone or one.person.home,
                one.person.user,
                failed=True,
                agent="Apple-iPhone15C2/2106.65",
                kind="basic",
            )
        at += period * rng.uniform(0.9, 1.1)


IRREGULAR: dict[str, Callable[[Scribe, Random, int], None]] = {
    play.__name__: play
    for play in (
        new_host, new_program, new_service, big_upload, new_poller, travel, outside_guessing, forgotten_password, admin_sweep, new_share,
        mass_files, weekend_work, new_admin_tool, group_change, log_rotated, encoded_management, heavy_names, new_outside_port,
        old_encryption, new_account, new_task, stale_password,
    )
}  # fmt: skip
