"""How they go on: from machine to machine, with tickets, hashes and keys; looking around."""

from benchmarks.town.ordinary import SYSTEM32, reach
from benchmarks.town.scene import Scene
from benchmarks.town.scribe import EXPLORER


def lateral_smb(scene: Scene) -> None:
    """T1021.002: a user's account reaches machines it never used, by shares or remote desktop."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    desktop = rng.random() < 0.4
    pool = [
        m
        for m in (*scene.town.pcs, *scene.town.servers)
        if not m.linux and m not in one.person.servers and m is not one.person.pc
    ]
    targets = rng.sample(pool, rng.randint(*scene.pick((15, 40), (5, 10), (2, 3))))
    at = rng.uniform(one.begins + 600, one.ends - 1200)
    for target in targets:
        at += rng.expovariate(1 / scene.pick(20, 240, 2400))
        package = "NTLM" if rng.random() < scene.pick(0.6, 0.4, 0.2) else "Kerberos"
        reach(
            scribe,
            at,
            one.person.user,
            one.address,
            target,
            rng,
            port=3389 if desktop else 445,
            package=package,
            workstation=one.person.pc.name,
        )
        if desktop:
            scribe.logon(at + 4, target.name, one.person.user, 10, one.address, one.person.pc.name)
        elif rng.random() < 0.5:
            scribe.share(at + 2, target.name, one.person.user, one.address, rng.choice(("C$", "ADMIN$")))
        scene.concern(target)
    scene.concern(one.person, one.person.pc, one.address)
    scene.about.description = (
        f"{len(targets)} machines new for the account by {'remote desktop' if desktop else 'file sharing'}"
    )


def lateral_rdp(scene: Scene) -> None:
    """T1021.001: remote desktop from machine to machine, hand over hand."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    stolen = rng.random() < 0.5
    user = rng.choice(scene.town.admins).admin if stolen else one.person.user
    at = rng.uniform(one.begins + 600, one.ends - 1800)
    here, address = one.person.pc.name, one.address
    hops = rng.sample(
        [s for s in (*scene.town.servers, *scene.town.pcs) if not s.linux and s not in one.person.servers],
        rng.randint(*scene.pick((8, 14), (3, 5), (2, 2))),
    )
    for target in hops:
        at += rng.expovariate(1 / scene.pick(60, 500, 1800)) + 20
        if stolen:
            scribe.explicit(at - 3, here, one.person.user, user, target.name, SYSTEM32 + "mstsc.exe")
        scribe.ticket(at - 1, user, address, f"{target.name.upper()}$")
        scribe.logon(at, target.name, user, 10, address, here)
        scribe.flow(at, address, target.address, 3389, 4e5, 6e6)
        scribe.process(
            at + 30,
            target.name,
            user,
            SYSTEM32 + rng.choice(("cmd.exe", "net.exe", "nltest.exe", "quser.exe")),
            "",
            EXPLORER,
        )
        scene.concern(target)
        if rng.random() < 0.6:
            here, address = target.name, target.address
    scene.concern(user, one.person.pc, one.address, *((one.person,) if stolen else ()))
    scene.about.description = f"{len(hops)} hops by remote desktop as {user}"


def winrm(scene: Scene) -> None:
    """T1021.006: remote PowerShell on machines."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    user = rng.choice(scene.town.admins).admin if rng.random() < 0.4 else one.person.user
    targets = rng.sample([m for m in (*scene.town.servers, *scene.town.pcs) if not m.linux], scene.pick(15, 6, 2))
    at = rng.uniform(one.begins + 600, one.ends - 1800)
    for target in targets:
        at += rng.expovariate(1 / scene.pick(10, 200, 2000))
        scribe.ticket(at, user, one.address, f"{target.name.upper()}$")
        scribe.logon(at + 0.2, target.name, user, 3, one.address)
        scribe.flow(at, one.address, target.address, rng.choice((5985, 5985, 5986)), 20_000, 60_000)
        scribe.process(
            at + 1,
            target.name,
            user,
            SYSTEM32 + "wsmprovhost.exe",
            "C:\\Windows\\system32\\wsmprovhost.exe -Embedding",
            SYSTEM32 + "svchost.exe",
        )
        if rng.random() < 0.5:
            scribe.process(
                at + 5,
                target.name,
                user,
                SYSTEM32 + rng.choice(("whoami.exe", "ipconfig.exe", "net.exe", "tasklist.exe")),
                "",
                SYSTEM32 + "wsmprovhost.exe",
            )
        scene.concern(target)
    scene.concern(user, one.person.pc, one.address)
    scene.about.description = f"{len(targets)} machines by WinRM as {user}"


def ssh_lateral(scene: Scene) -> None:
    """T1021.004: guessing, then a logon on Linux servers from a clerk's computer."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    targets = rng.sample([s for s in scene.town.servers if s.linux], scene.pick(5, 3, 1))
    account = rng.choice(("root", rng.choice(scene.town.admins).admin, scene.town.services["monitor"]))
    at = rng.uniform(one.begins + 600, one.ends - 2400)
    for target in targets:
        for _ in range(rng.randint(*scene.pick((20, 60), (4, 9), (1, 2)))):
            at += rng.expovariate(1 / scene.pick(2, 30, 300))
            scribe.ssh(at, target.name, account, one.address, failed=True)
        at += rng.uniform(5, 60)
        scribe.flow(at, one.address, target.address, 22, 9_000, 20_000)
        scribe.ssh(at, target.name, account, one.address, key=False)
        if account != "root":
            scribe.sudo(
                at + 20,
                target.name,
                account,
                rng.choice(("/usr/bin/cat /etc/shadow", "/bin/bash", "/usr/bin/find / -name id_rsa")),
            )
        scene.concern(target)
    scene.concern(account, one.person.pc, one.address)
    scene.about.description = f"{account} on {len(targets)} Linux servers"


def pass_the_hash(scene: Scene) -> None:
    """T1550.002: an administrator's hash from a clerk's computer, by NTLM."""
    rng, scribe = scene.rng, scene.scribe
    one, admin = scene.at_work(), rng.choice(scene.town.admins)
    targets = rng.sample(
        [s for s in (*scene.town.servers, *scene.town.pcs) if not s.linux], scene.pick(12, 5, rng.choice((1, 2)))
    )
    at = rng.uniform(one.begins + 600, one.ends - 1800)
    if rng.random() < 0.6:
        scribe.logon(at, one.person.pc.name, one.person.user, 9, "::1", one.person.pc.name)
    for target in targets:
        at += rng.expovariate(1 / scene.pick(15, 240, 1800))
        scribe.ntlm(at, admin.admin, one.person.pc.name)
        scribe.logon(at + 0.2, target.name, admin.admin, 3, one.address, one.person.pc.name, "NTLM")
        scribe.privileges(at + 0.3, target.name, admin.admin)
        scribe.flow(at, one.address, target.address, 445, 60_000, 40_000)
        if rng.random() < 0.4:
            scribe.share(at + 1, target.name, admin.admin, one.address, "ADMIN$")
        scene.concern(target)
    scene.concern(admin.admin, one.person.pc, one.address)
    scene.about.description = f"{admin.admin} by NTLM from a clerk's computer on {len(targets)} machines"


def kerberoasting(scene: Scene) -> None:
    """T1558.003: tickets for many service accounts, weakly encrypted."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    services = rng.sample(scene.town.with_spn, scene.pick(len(scene.town.with_spn), 4, 2))
    services += [f"{m.name.upper()}$" for m in rng.sample(scene.town.servers, scene.pick(8, 2, 0))]
    at = rng.uniform(one.begins + 300, one.ends - 600)
    for service in services:
        at += rng.expovariate(1 / scene.pick(0.5, 30, 3600))
        scribe.ticket(at, one.person.user, one.address, service, weak=rng.random() < scene.pick(1.0, 0.9, 0.8))
    scene.concern(one.person, one.person.pc, one.address)
    scene.about.description = f"{len(services)} service tickets"


def roasting_without_preauth(scene: Scene) -> None:
    """T1558.004: tickets of accounts that need no pre-authentication, weakly encrypted."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    at = rng.uniform(one.begins + 600, one.ends - 600)
    victims = rng.sample([*(p.user for p in scene.town.people), *scene.town.services.values()], scene.pick(12, 5, 2))
    for victim in victims:
        at += rng.expovariate(1 / scene.pick(1, 30, 900))
        scribe.tgt(at, victim, one.address, weak=True, preauth=False)
    scene.concern(one.person.pc, one.address, *victims)
    scene.about.description = f"{len(victims)} weak tickets without pre-authentication"


def port_scan(scene: Scene) -> None:
    """T1046: one port on many machines, or many ports on few."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    at = rng.uniform(one.begins + 600, one.ends - 1800)
    targets = [m.address for m in (*scene.town.servers, *scene.town.pcs, *scene.town.printers)] + [
        f"{scene.town.prefix}.1.{n}" for n in range(100, 250)
    ]
    count = rng.randint(*scene.pick((150, 400), (40, 90), (12, 30)))
    pause = scene.pick(0.3, 6, 240)
    flat = rng.random() < 0.55
    if flat:
        port = rng.choice((22, 445, 3389, 1433, 5985, 8080, 135, 5900))
        pairs = [(t, port) for t in rng.sample(targets, min(count, len(targets)))]
    else:
        few = rng.sample(targets, scene.pick(1, 2, 3))
        pairs = [(rng.choice(few), port) for port in rng.sample(range(20, 10_000), count)]
    for target, port in pairs:
        at += rng.expovariate(1 / pause)
        answered = rng.random() < 0.15
        scribe.flow(
            at, one.address, target, port, 60, 60 if answered else 0, "close" if answered else "deny", seconds=0
        )
    scene.concern(one.person.pc, one.address, one.person)
    scene.about.description = f"{len(pairs)} {'machines on one port' if flat else 'ports'} tried"
