"""What they came for: data collected and carried out, hidden channels, files and backups destroyed."""

from benchmarks.town import places
from benchmarks.town.ordinary import SYSTEM32, browse
from benchmarks.town.scene import Scene


def collection(scene: Scene) -> None:
    """T1039: files of shares that are none of the account's business, many or over days."""
    rng, scribe = scene.rng, scene.scribe
    days = scene.pick(1, 1, rng.choice((1, 2)))
    one = scene.at_work()
    strange = [s for s in scene.town.shares if s not in one.person.shares]
    shares = rng.sample(strange, min(len(strange), scene.pick(6, 3, 2)))
    files = rng.randint(*scene.pick((600, 1500), (150, 350), (40, 90)))
    server = scene.town.role("file")
    span = scene.pick(1800.0, 7200.0, 20_000.0)
    begins = rng.uniform(one.begins + 300, max(one.begins + 301, one.ends - span))
    for share in shares:
        scribe.share(begins - 1, server.name, one.person.user, one.address, share)
    for _ in range(files):
        at = begins + rng.random() * span + 86_400 * rng.randrange(days)
        share = rng.choice(shares)
        path = f"{rng.choice(('2023', '2024', '2025', '2026'))}\\{places.word(rng)}{rng.choice(('.docx', '.xlsx', '.pdf'))}"
        scribe.share(at, server.name, one.person.user, one.address, share, path)
        if rng.random() < 0.2:
            scribe.file(at + 0.2, server.name, one.person.user, f"{share}\\{path}")
    scribe.flow(begins + span, one.address, server.address, 445, 4e5, files * 4e5, seconds=span)
    scene.concern(one.person, one.person.pc, one.address)
    scene.about.description = f"{files} files of {', '.join(shares)}"


def exfiltration(scene: Scene) -> None:
    """T1567: data to a cloud store, slowly over days when stealthy."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    known = rng.random() < 0.3
    site = (
        rng.choice(scene.town.world[:60])
        if known
        else places.Site(
            f"{rng.choice(('upload', 'files', 's3', 'share', 'sync'))}.{places.word(rng)}.example.net",
            (places.address(rng, rng.choice(places.CLOUD)),),
            0,
            0,
        )
    )
    total = rng.uniform(*scene.pick((3e9, 2e10), (4e8, 2e9), (1e8, 4e8)))
    days = scene.pick(1, 1, rng.choice((2, 3)))
    pieces = rng.randint(*scene.pick((3, 20), (8, 30), (25, 60)))
    night = rng.random() < 0.35
    times = sorted(
        scene.at(20, 23.9, scene.day + d) if night else rng.uniform(one.begins + 300, one.ends) + 86_400 * d
        for d in range(days)
        for _ in range(pieces // days)
    )
    for at in times:
        browse(
            scribe,
            at,
            one.address,
            one.person.user,
            site,
            rng,
            sent=total / len(times) * rng.uniform(0.6, 1.4),
            proxied=False,
        )
    scene.concern(one.person.pc, one.address, one.person, *site.addresses)
    scene.about.description = f"{total / 1e6:.0f} MB in {len(times)} pieces to {site.name}"


def exfiltration_by_file_transfer(scene: Scene) -> None:
    """T1048: data by SSH, FTP or another port, from a server."""
    rng, scribe = scene.rng, scene.scribe
    host = rng.choice(scene.town.roles("file", "db", "app", "archive"))
    target, port = (
        places.address(rng, rng.choice((*places.CLOUD, *places.SUSPECT))),
        rng.choice((21, 22, 990, 8443, 873, 443)),
    )
    total = rng.uniform(*scene.pick((5e9, 3e10), (8e8, 3e9), (1e8, 5e8)))
    pieces = rng.randint(*scene.pick((2, 10), (5, 20), (20, 50)))
    at = scene.at(0, 6)
    for _ in range(pieces):
        at += rng.expovariate(1 / scene.pick(120, 900, 3000))
        scribe.flow(at, host.address, target, port, total / pieces * rng.uniform(0.7, 1.3), 90_000, seconds=60)
    scene.concern(host, target)
    scene.about.description = f"{total / 1e6:.0f} MB from {host.name} to port {port}"


def beacon(scene: Scene) -> None:
    """T1071.001: a program calls home regularly, with jitter."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    site = places.Site(
        f"{rng.choice(('cdn', 'api', 'img', 'static'))}.{places.word(rng)}.example.{rng.choice(('com', 'net'))}",
        (places.address(rng, rng.choice((*places.CLOUD, *places.SUSPECT))),),
        700,
        900,
    )
    period = scene.pick(rng.choice((30, 60)), rng.choice((120, 300, 600)), rng.choice((900, 1800, 3600)))
    jitter = scene.pick(0.05, 0.2, 0.35)
    hours = scene.pick(6, 12, 40)
    image = rng.choice(
        (
            r"C:\Users\Public\upd.exe",
            SYSTEM32 + "rundll32.exe",
            rf"C:\Users\{one.person.user}\AppData\Local\Temp\{places.word(rng, 2)}.exe",
            SYSTEM32 + "WindowsPowerShell\\v1.0\\powershell.exe",
        )
    )
    proxied, seen = rng.random() < 0.4, rng.random() < 0.5
    at = rng.uniform(one.begins + 600, one.ends - 3600)
    end = at + hours * 3600
    first = True
    while at < end:
        if first or rng.random() < 0.2:
            if seen:
                scribe.connection(at, one.person.pc.name, one.person.user, image, one.address, site.addresses[0], 443)
            first = False
        browse(
            scribe,
            at,
            one.address,
            one.person.user if proxied else "",
            site,
            rng,
            sent=rng.uniform(400, 1500),
            proxied=proxied,
        )
        at += period * (1 + rng.uniform(-jitter, jitter))
    scene.concern(one.person.pc, one.address, one.person, *site.addresses)
    scene.about.description = f"every {period} s +-{jitter:.0%} to {site.name}"


def dns_tunnel(scene: Scene) -> None:
    """T1071.004: data in the names of DNS questions."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    domain = (
        f"{places.word(rng)}.example.{rng.choice(('net', 'org'))}"
        if rng.random() < 0.8
        else f"{places.word(rng)}{rng.randrange(99)}.example"
    )
    count = rng.randint(*scene.pick((900, 2500), (150, 400), (40, 90)))
    span = scene.pick(1800.0, 5 * 3600.0, 8 * 3600.0)
    at = rng.uniform(one.begins + 300, max(one.begins + 301, one.ends - span))
    width = scene.pick(rng.randint(40, 60), rng.randint(24, 45), rng.randint(14, 28))
    alphabet = rng.choice(("0123456789abcdef", "abcdefghijklmnopqrstuvwxyz234567"))
    kind = rng.choice(("TXT", "A", "AAAA", "CNAME", "NULL")) if scene.stealth != "loud" else "TXT"
    end = at + span
    while at < end and count:
        label = "".join(rng.choices(alphabet, k=width))
        scribe.lookup(
            at,
            one.address,
            f"{label[: width // 2]}.{label[width // 2 :]}.{domain}" if width > 30 else f"{label}.{domain}",
            kind,
        )
        at += rng.expovariate(count / span) if scene.stealth != "stealthy" else rng.uniform(0.7, 1.3) * span / count
    scene.concern(one.person.pc, one.address, one.person)
    scene.about.description = f"about {count} {kind} questions below {domain}"


def ransomware(scene: Scene) -> None:
    """T1486: files are rewritten and renamed."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    server = rng.choice(scene.town.roles("file"))
    ending = rng.choice((".gesperrt", ".lockd", f".{places.word(rng, 2)}", ".enc"))
    files = rng.randint(*scene.pick((1200, 2500), (250, 500), (60, 120)))
    at = scene.at(*scene.pick((0, 5), (18, 22), (12, 14)))
    for _ in range(files):
        at += rng.expovariate(1 / scene.pick(0.2, 3, 40))
        share = rng.choice(one.person.shares)
        path = f"{rng.choice(('2023', '2024', '2025', '2026'))}\\{places.word(rng)}{rng.choice(('.docx', '.xlsx', '.pdf'))}"
        scribe.share(at, server.name, one.person.user, one.address, share, path + ending, write=True)
        if rng.random() < 0.6:
            scribe.file(at + 0.1, server.name, one.person.user, f"{share}\\{path}{ending}", write=True)
        if rng.random() < 0.4:
            scribe.file(at + 0.2, server.name, one.person.user, f"{share}\\{path}", delete=True)
    scribe.share(
        at + 2,
        server.name,
        one.person.user,
        one.address,
        one.person.shares[0],
        rng.choice(("LIES_MICH.txt", "HOW_TO_RESTORE.html", "akira_note.txt")),
        write=True,
    )
    scene.concern(one.person, one.person.pc, one.address)
    scene.about.description = f"{files} files get {ending}"


def recovery_inhibited(scene: Scene) -> None:
    """T1490: shadow copies, backups and recovery are removed."""
    rng, scribe = scene.rng, scene.scribe
    targets = rng.sample([s for s in scene.town.servers if not s.linux], scene.pick(4, 2, 1))
    actor = rng.choice((rng.choice(scene.town.admins).admin, scene.town.services["backup"], scene.person().user))
    commands = scene.pick(
        [("vssadmin.exe", "vssadmin delete shadows /all /quiet"), ("wbadmin.exe", "wbadmin delete catalog -quiet"), ("bcdedit.exe", "bcdedit /set {default} recoveryenabled no")],
        [("wmic.exe", "wmic shadowcopy delete"), ("WindowsPowerShell\\v1.0\\powershell.exe", "powershell Get-WmiObject Win32_Shadowcopy | Remove-WmiObject")],
        [("vssadmin.exe", "vssadmin resize shadowstorage /for=D: /on=D: /maxsize=401MB"), ("diskshadow.exe", "diskshadow /s C:\\Windows\\Temp\\d.txt"), ("sc.exe", "sc config BackupAgent start= disabled")],
    )  # fmt: skip
    at = scene.at(0, 23)
    for target in targets:
        for program, command in rng.sample(commands, scene.pick(3, 1, 1)):
            at += rng.uniform(1, 60)
            scribe.process(
                at,
                target.name,
                actor,
                SYSTEM32 + program,
                command,
                SYSTEM32 + rng.choice(("cmd.exe", "wsmprovhost.exe")),
            )
        scene.concern(target)
    scene.concern(actor)
    scene.about.description = "; ".join(c for _, c in commands[:1])


def siege(scene: Scene) -> None:
    """The pattern of a German municipal provider in 2023: VPN guessing, quiet days, discovery, lateral movement, ransomware."""
    rng, scribe = scene.rng, scene.scribe
    victim, source = scene.person(), scene.outside()
    tunnel = scene.town.tunnel(rng.randrange(500))
    scene.concern(victim, source)
    at = scene.at(1, 6)
    for _ in range(rng.randint(*scene.pick((60, 150), (15, 40), (6, 12)))):
        at += rng.expovariate(1 / scene.pick(8, 120, 2400))
        scribe.vpn_failed(at, victim.user, source)
    at += rng.uniform(60, 900)
    scribe.vpn_up(at, victim.user, source, tunnel)
    scribe.vpn_down(at + 500, victim.user, source, tunnel, 500, 2e5, 9e5)
    at = scene.at(22, 23.5, scene.day + rng.choice((1, 2)))  # quiet days
    source = places.within(rng, source)
    scene.concern(source)
    scribe.vpn_up(at, victim.user, source, tunnel)
    for target in rng.sample([*scene.town.servers, *scene.town.pcs], scene.pick(60, 25, 10)):
        at += rng.expovariate(1 / scene.pick(1, 10, 60))
        scribe.flow(
            at,
            tunnel,
            target.address,
            rng.choice((445, 3389, 135)),
            60,
            60 if rng.random() < 0.3 else 0,
            "deny" if rng.random() < 0.7 else "close",
            seconds=0,
        )
    admin = rng.choice(scene.town.admins).admin
    hops = rng.sample([s for s in scene.town.servers if not s.linux], scene.pick(8, 4, 3))
    for target in hops:
        at += rng.uniform(60, 600)
        scribe.ntlm(at, admin, "KALI" if scene.stealth == "loud" else victim.pc.name)
        scribe.logon(at, target.name, admin, rng.choice((3, 10)), tunnel, "-", "NTLM")
        scribe.process(
            at + 20,
            target.name,
            admin,
            SYSTEM32 + rng.choice(("nltest.exe", "net.exe", "whoami.exe")),
            "",
            SYSTEM32 + "cmd.exe",
        )
        scene.concern(target)
    scene.concern(admin)
    for target in hops:
        at += rng.uniform(20, 200)
        scribe.process(
            at,
            target.name,
            admin,
            SYSTEM32 + "vssadmin.exe",
            "vssadmin delete shadows /all /quiet",
            SYSTEM32 + "cmd.exe",
        )
    server = scene.town.role("file")
    for _ in range(scene.pick(1200, 400, 200)):
        at += rng.expovariate(1 / 0.5)
        scribe.share(
            at,
            server.name,
            admin,
            tunnel,
            rng.choice(scene.town.shares),
            f"2025\\{places.word(rng)}.docx.{'akira' if scene.stealth == 'loud' else 'powerranges'}",
            write=True,
        )
    scene.about.description = "guessing, quiet days, discovery, lateral movement, ransomware"
