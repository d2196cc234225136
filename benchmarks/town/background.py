"""Everyday things that look like an attack's parts to whoever has never seen them: system tools in harmless use, services
and tasks that updates make, conferences and cloud stores, helpdesk, old devices, refused connections.
"""

from random import Random

from benchmarks.town import ordinary, places
from benchmarks.town.ordinary import AGENT, POWERSHELL, SYSTEM32, Presence, moments, presences, reach
from benchmarks.town.people import Person, file_name
from benchmarks.town.scribe import EXPLORER, SERVICES_EXE, Scribe

SVCHOST = SYSTEM32 + "svchost.exe"
UPDATER = "C:\\Program Files (x86)\\Microsoft\\EdgeUpdate\\MicrosoftEdgeUpdate.exe"
# What clients do by themselves: program, command, parent. {n} is any number, {user} the person.
TOOLS = (
    ("rundll32.exe", "rundll32.exe C:\\Windows\\system32\\spool\\DRIVERS\\x64\\3\\prnui{n}.dll,MonitorPrintJobStatus /pjob={n}", SVCHOST),
    ("rundll32.exe", "rundll32.exe C:\\Windows\\System32\\shell32.dll,Control_RunDLL timedate.cpl", EXPLORER),
    ("rundll32.exe", "rundll32.exe AppXDeploymentExtensions.OneCore.dll,ShellRefresh", SVCHOST),
    ("regsvr32.exe", "regsvr32.exe /s C:\\Program Files\\Fachverfahren\\ctl{n}.ocx", AGENT),
    ("msiexec.exe", "msiexec.exe /V", SERVICES_EXE),
    ("cmd.exe", "cmd.exe /c ver", EXPLORER),
    ("net.exe", "net use P: \\\\fs01\\projekte", SYSTEM32 + "cmd.exe"),
    ("gpupdate.exe", "gpupdate /target:user", SVCHOST),
    ("schtasks.exe", "schtasks /query /tn \\Verteilung\\Inventur", AGENT),
    ("taskhostw.exe", "taskhostw.exe KEYROAMING", SVCHOST),
    ("backgroundTaskHost.exe", "backgroundTaskHost.exe -ServerName:App.AppX{n}.mca", SVCHOST),
    ("wscript.exe", "wscript.exe \\\\dc01\\netlogon\\drucker.vbs", SYSTEM32 + "userinit.exe"),
    ("certutil.exe", "certutil -pulse", SVCHOST),
    ("conhost.exe", "conhost.exe 0x4", SYSTEM32 + "cmd.exe"),
    ("dllhost.exe", "dllhost.exe /Processid:{{3EB3C877-1F16-487C-9050-104DBCD6{n:04}}}", SVCHOST),
    ("sc.exe", "sc query Spooler", AGENT),
)  # fmt: skip


def write(scribe: Scribe, day: int, density: float) -> None:
    rng, town = scribe.rng, scribe.town
    conferences = [town.world[n].addresses[0] for n in (11, 12, 13)]
    for one in presences(town, day):
        _client(scribe, rng, one, day, density)
        _habits(scribe, rng, one, conferences)
    _updates(scribe, rng, day)
    _old_devices(scribe, rng, day)
    _accounts(scribe, rng, day)
    if town.is_workday(day):
        _helpdesk(scribe, rng, day)
    for at in moments(
        rng, town.at(day, 0), town.at(day, 24), 120 * density
    ):  # refused inside: old links, wrong subnets
        source = rng.choice((*town.pcs, *town.printers, *town.things))
        target = rng.choice(town.pcs).address if rng.random() < 0.4 else f"{town.prefix}.1.{rng.randrange(60, 240)}"
        scribe.flow(
            at, source.address, target, rng.choice((137, 139, 161, 445, 5357, 9100, 80, 443)), 60, 0, "deny", seconds=0
        )


def _client(scribe: Scribe, rng: Random, one: Presence, day: int, density: float) -> None:
    """The logon script, and system tools that run for harmless reasons."""
    person, pc, at = one.person, one.person.pc.name, one.begins + 15
    user = person.user
    scribe.process(
        at, pc, user, SYSTEM32 + "cmd.exe", "cmd.exe /c \\\\dc01\\netlogon\\anmeldung.cmd", SYSTEM32 + "userinit.exe"
    )
    if len(user) % 2:
        scribe.process(
            at + 2,
            pc,
            user,
            POWERSHELL,
            "powershell.exe -NoLogo -ExecutionPolicy Bypass -File \\\\dc01\\netlogon\\laufwerke.ps1",
            SYSTEM32 + "cmd.exe",
        )
    if rng.random() < 0.3:
        scribe.script(
            at + 3, pc, f"New-PSDrive -Name P -PSProvider FileSystem -Root \\\\fs01\\{person.shares[0]} -Persist"
        )
    for moment in moments(rng, one.begins + 30, one.ends, 4 * density):
        program, command, parent = TOOLS[min(int(rng.expovariate(0.25)), len(TOOLS) - 1)]
        scribe.process(
            moment, pc, rng.choice((user, "SYSTEM")), SYSTEM32 + program, command.format(n=rng.randrange(9999)), parent
        )
    for moment in moments(rng, one.begins + 60, one.ends, 0.8):
        version = f"1.3.{190 + day // 7}.{rng.randrange(60)}"
        scribe.process(moment, pc, "SYSTEM", UPDATER, f'"{UPDATER}" /ua /installsource scheduler /v {version}', SVCHOST)
    if rng.random() < 0.06:  # a download that is opened once
        name = places.word(rng)
        scribe.dropped(
            at + 900, pc, user, ordinary.program_path("msedge.exe"), f"C:\\Users\\{user}\\Downloads\\{name}.exe"
        )
        scribe.process(at + 950, pc, user, f"C:\\Users\\{user}\\Downloads\\{name}.exe", "", EXPLORER)
    for moment in moments(rng, one.begins + 60, one.ends, 5 * density):
        site = rng.choice(person.sites)
        scribe.lookup(moment, one.address, site.name, rng.choice(("AAAA", "HTTPS", "AAAA", "TXT")))
    for moment in moments(rng, one.begins + 60, one.ends, 1.5 * density):  # files that nobody used before
        share = rng.choice(person.shares)
        server = scribe.town.roles("file")[len(share) % 2]
        scribe.share(moment, server.name, user, one.address, share, file_name(rng), write=rng.random() < 0.4)


def _habits(scribe: Scribe, rng: Random, one: Presence, conferences: list[str]) -> None:
    """Video conferences, cloud stores, and a server by its address instead of its name."""
    person = one.person
    if rng.random() < 0.2 * min(person.busy, 2):
        at = rng.uniform(one.begins, max(one.begins + 1, one.ends - 3600))
        megabytes = rng.lognormvariate(4.3, 0.6)
        scribe.flow(
            at + 3000,
            one.address,
            rng.choice(conferences),
            3478,
            megabytes * 1e6,
            megabytes * 2e6,
            udp=True,
            seconds=3000,
        )
    if len(person.user) % 5 == 0:  # a fifth keeps a folder in step with a cloud store
        store = scribe.town.world[14]
        for at in moments(rng, one.begins, one.ends, 5):
            ordinary.browse(
                scribe, at, one.address, person.user, store, rng, sent=rng.lognormvariate(13.5, 1.5), proxied=False
            )
    windows = [s for s in person.servers if not s.linux]
    if windows and rng.random() < 0.06:
        reach(
            scribe,
            rng.uniform(one.begins, one.ends),
            person.user,
            one.address,
            rng.choice(windows),
            rng,
            package="NTLM",
            workstation=person.pc.name,
        )
    if rng.random() < 0.04:
        scribe.explicit(
            rng.uniform(one.begins, one.ends),
            person.pc.name,
            person.user,
            person.user,
            rng.choice(scribe.town.servers).name,
            SVCHOST,
        )


def _updates(scribe: Scribe, rng: Random, day: int) -> None:
    """Drivers with names of chance, services with versions in their names, tasks of users."""
    town = scribe.town
    for pc in rng.sample(town.pcs, max(1, len(town.pcs) // 60)):
        at = town.at(day, rng.uniform(6, 18))
        kind = rng.random()
        if kind < 0.4:
            name = f"MpKsl{rng.randrange(1 << 32):08x}"
            path = f"C:\\ProgramData\\Microsoft\\Windows Defender\\Definition Updates\\{{{rng.randrange(1 << 32):08X}-4D1C}}\\MpKslDrv.sys"
        elif kind < 0.7:
            version = f"126.0.{6400 + day}.0"
            name, path = (
                f"GoogleUpdaterService{version}",
                f"C:\\Program Files (x86)\\Google\\GoogleUpdater\\{version}\\updater.exe --system --windows-service",
            )
        else:
            name, path = (
                "MicrosoftEdgeElevationService",
                "C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\elevation_service.exe",
            )
        scribe.service_installed(at, pc.name, f"{pc.name.upper()}$", name, path, audit=False)
    for one in presences(town, day):
        if rng.random() < 0.03:
            name, command = rng.choice(
                (
                    (
                        f"OneDrive Reporting Task-{one.person.sid}",
                        "%localappdata%\\Microsoft\\OneDrive\\OneDriveStandaloneUpdater.exe",
                    ),
                    (f"MicrosoftEdgeUpdateTaskUser{one.person.sid}Core", UPDATER),
                    ("Verteilung\\Inventur", AGENT),
                    (
                        f"Zoom Update {places.word(rng, 2)}",
                        f"C:\\Users\\{one.person.user}\\AppData\\Roaming\\Zoom\\update.exe",
                    ),
                )
            )
            scribe.task(one.begins + 100, one.person.pc.name, one.person.user, name, command)


def _old_devices(scribe: Scribe, rng: Random, day: int) -> None:
    """Printers that scan into a share by NTLM, an appliance that needs no pre-authentication, one that asks for RC4."""
    town = scribe.town
    server, account = town.roles("file")[0], town.services["scan"]
    for printer in town.printers[::2]:
        for at in moments(rng, town.at(day, 7), town.at(day, 17), 1.2 if town.is_workday(day) else 0.1):
            scribe.ntlm(at, account, printer.name)
            scribe.logon(at + 0.2, server.name, account, 3, printer.address, printer.name, "NTLM")
            scribe.flow(at + 5, printer.address, server.address, 445, rng.lognormvariate(14, 1), 4000)
    gis = town.role("gis")
    for hour in (1, 9, 17):
        scribe.tgt(town.at(day, hour) + rng.uniform(0, 60), town.services["gis"], gis.address, weak=True, preauth=False)
    for one in presences(town, day)[:: max(1, len(town.people) // 12)]:
        at = rng.uniform(one.begins, one.ends)
        scribe.ticket(at, one.person.user, one.address, town.legacy[0], weak=True)


def _accounts(scribe: Scribe, rng: Random, day: int) -> None:
    """Service accounts need tickets, too."""
    town = scribe.town
    for task, role in (
        ("backup", "backup"),
        ("deploy", "deploy"),
        ("sql", "db"),
        ("archiv", "archive"),
        ("sync", "app"),
        ("monitor", "monitor"),
    ):
        for hour in (0, 10, 20):
            scribe.tgt(town.at(day, hour) + rng.uniform(0, 900), town.services[task], town.role(role).address)


def _helpdesk(scribe: Scribe, rng: Random, day: int) -> None:
    """Passwords reset, computers looked after from afar, servers asked by remote PowerShell."""
    town, there = scribe.town, presences(scribe.town, day)
    admins = [one for one in there if one.person.admin]
    if not admins:
        return
    for _ in range(rng.choice((0, 1, 2, 4))):
        admin, one = rng.choice(admins), rng.choice(there)
        at = rng.uniform(one.begins, one.ends)
        for _ in range(rng.choice((0, 3, 5))):
            at += rng.uniform(4, 30)
            scribe.tgt(at, one.person.user, one.address, failed=True)
        if rng.random() < 0.3:
            scribe.account(at + 1, 4740, f"{town.dcs[0].name.upper()}$", one.person.user, one.person.pc.name)
        scribe.account(at + 300, 4724, admin.person.admin, one.person.user)
        scribe.account(at + 301, 4738, admin.person.admin, one.person.user)
        scribe.tgt(at + 400, one.person.user, one.address)
    for _ in range(rng.choice((1, 2, 4))):
        _remote_help(scribe, rng, rng.choice(admins), rng.choice(there).person)
    for admin in admins:
        windows = [s for s in town.servers if not s.linux]
        own = windows[::2] if len(admin.person.user) % 2 else windows[1::2]
        for at in moments(rng, admin.begins + 300, admin.ends, 1.5):
            server = rng.choice(own)
            reach(scribe, at, admin.person.admin, admin.address, server, rng, port=5985)
            scribe.process(
                at + 1,
                server.name,
                admin.person.admin,
                SYSTEM32 + "wsmprovhost.exe",
                "C:\\Windows\\system32\\wsmprovhost.exe -Embedding",
                SVCHOST,
            )
            tool = rng.choice(("ipconfig.exe /all", "tasklist.exe /v", "whoami.exe", "net.exe session", "quser.exe"))
            scribe.process(
                at + 20,
                server.name,
                admin.person.admin,
                SYSTEM32 + tool.split(" ", maxsplit=1)[0],
                tool,
                SYSTEM32 + "wsmprovhost.exe",
            )


def _remote_help(scribe: Scribe, rng: Random, admin: Presence, person: Person) -> None:
    at = rng.uniform(admin.begins + 300, admin.ends)
    pc = person.pc
    if rng.random() < 0.5:
        scribe.ticket(at, admin.person.admin, admin.address, f"{pc.name.upper()}$")
        scribe.logon(at + 1, pc.name, admin.person.admin, 10, admin.address, admin.person.pc.name)
        scribe.flow(at + 2, admin.address, pc.address, 3389, 4e5, 5e6, seconds=600)
        scribe.process(
            at + 60, pc.name, admin.person.admin, SYSTEM32 + rng.choice(("mmc.exe", "cmd.exe", "control.exe"))
        )
    else:
        reach(scribe, at, admin.person.admin, admin.address, pc, rng)
        scribe.share(at + 1, pc.name, admin.person.admin, admin.address, "C$")
