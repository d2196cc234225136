"""How attackers come in: guessing, spraying, stolen accounts, and accounts used as nobody does."""

from benchmarks.town import places
from benchmarks.town.ordinary import SYSTEM32, owa, reach
from benchmarks.town.scene import Scene
from benchmarks.town.scribe import AGENTS


def vpn_guessing(scene: Scene) -> None:
    """T1110.001: one or few accounts at the VPN, over days when stealthy, with success in the end."""
    rng, scribe = scene.rng, scene.scribe
    victims = rng.sample(
        [p for p in scene.town.people if p.joins < scene.day < p.leaves],
        rng.choice(scene.pick((1, 2, 4), (1, 2, 3), (1, 1, 2))),
    )
    source = scene.outside()
    rotating = rng.random() < scene.pick(0.1, 0.3, 0.4)
    if scene.stealth == "stealthy":
        times = sorted(
            scene.at(0.5, 23.5, scene.day + d) for d in range(rng.choice((2, 3, 4))) for _ in range(rng.randint(4, 9))
        )
    else:
        at, times = scene.at(0, 20), []
        for _ in range(rng.randint(*scene.pick((80, 300), (20, 60), (0, 0)))):
            at += rng.expovariate(1 / scene.pick(5, 70, 0))
            times.append(at)
    last = source
    for at in times:
        last = places.within(rng, source) if rotating else source
        scene.concern(last)
        scribe.vpn_failed(at, rng.choice(victims).user, last)
    scene.concern(*victims)
    scene.about.description = f"{len(times)} wrong passwords for {len(victims)} accounts at the VPN"
    if rng.random() < 0.75:
        at, victim = times[-1] + rng.uniform(20, 900), rng.choice(victims)
        tunnel = scene.town.tunnel(rng.randrange(500))
        scribe.vpn_up(at, victim.user, last, tunnel)
        for server in rng.sample(scene.town.servers, rng.choice((1, 2, 4))):
            at += rng.uniform(60, 600)
            if server.linux:
                scribe.flow(at, tunnel, server.address, 22, 4000, 9000)
            else:
                reach(scribe, at, victim.user, tunnel, server, rng)
        scribe.vpn_down(at + 300, victim.user, last, tunnel, 1800, 2e6, 4e7)
        scene.about.description += ", then success"


def spraying(scene: Scene) -> None:
    """T1110.003: one or two passwords for many accounts, at the VPN or the web mail."""
    rng, scribe = scene.rng, scene.scribe
    victims = rng.sample(
        scene.town.people, min(len(scene.town.people), rng.randint(*scene.pick((60, 120), (25, 50), (12, 25))))
    )
    source, web = scene.outside(), rng.random() < 0.5
    spread = rng.random() < scene.pick(0.2, 0.4, 0.5)
    at = scene.at(0, scene.pick(20, 16, 6))
    for victim in victims:
        at += rng.expovariate(1 / scene.pick(3, 60, 2400))
        last = places.within(rng, source) if spread else source
        scene.concern(last)
        if web:
            owa(
                scribe, at, last, victim.user, failed=True, agent=rng.choice(AGENTS), kind=rng.choice(("post", "basic"))
            )
        else:
            scribe.vpn_failed(at, victim.user, last)
    scene.about.description = f"{len(victims)} accounts tried at the {'web mail' if web else 'VPN'}"
    if rng.random() < 0.5:
        lucky = rng.choice(victims)
        at += rng.uniform(30, 1200)
        if web:
            owa(scribe, at, source, lucky.user)
        else:
            scribe.vpn_up(at, lucky.user, source, scene.town.tunnel(rng.randrange(500)))
        scene.concern(lucky, source)
        scene.about.description += ", one with success"


def stuffing(scene: Scene) -> None:
    """T1110.004: stolen pairs of name and password, each tried once, from many addresses; a few are right."""
    rng, scribe = scene.rng, scene.scribe
    tries = rng.randint(*scene.pick((60, 150), (20, 45), (8, 16)))
    sources = [scene.outside() for _ in range(rng.randint(*scene.pick((1, 4), (4, 12), (6, 14))))]
    at = scene.at(0, scene.pick(20, 14, 5))
    known = [p.user for p in rng.sample(scene.town.people, min(tries // 2, len(scene.town.people)))]
    hits = 0
    for number in range(tries):
        at += rng.expovariate(1 / scene.pick(4, 90, 3600))
        source = rng.choice(sources)
        scene.concern(source)
        real = known and rng.random() < scene.pick(0.4, 0.5, 0.7)
        user = rng.choice(known) if real else f"{places.word(rng, 2)}.{places.word(rng, 2)}"
        good = bool(real) and (rng.random() < 0.06 or (number == tries - 1 and not hits))
        if good:
            scene.concern(user)
        owa(
            scribe,
            at,
            source,
            user,
            failed=not good,
            agent=rng.choice(AGENTS),
            kind="post" if rng.random() < 0.7 else "basic",
        )
        hits += good
    scene.about.description = f"{tries} pairs tried at the web mail from {len(sources)} addresses, {hits} right"


def foreign_logon(scene: Scene) -> None:
    """T1078: a stolen account from another country, or from a rented server of the same one."""
    rng, scribe = scene.rng, scene.scribe
    victim = scene.person()
    source = places.address(
        rng,
        rng.choice(
            scene.pick(
                ("RU", "CN", "BR", "VN"),
                ("NL hosting", "RO hosting", "PL home", "US hosting"),
                ("DE hosting", "NL hosting", "AT home"),
            )
        ),
    )
    scene.concern(victim, source)
    at = scene.at(*scene.pick((0, 23), (7, 22), (9, 15)))
    if rng.random() < 0.4:
        for _ in range(rng.randint(1, 3)):
            scribe.web(at - 9, source, "GET", "/owa/auth/logon.aspx", 200, 58_000, AGENTS[2])
            owa(scribe, at, source, victim.user, agent=AGENTS[2])
            at += rng.uniform(900, 7200)
        scene.about.description = "web mail read from abroad"
        return
    tunnel = scene.town.tunnel(rng.randrange(500))
    scribe.vpn_up(at, victim.user, source, tunnel)
    strange = [s for s in scene.town.servers if not s.linux and s not in victim.servers]
    for server in [*rng.sample(victim.servers, 1), *rng.sample(strange, scene.pick(6, 3, 1))]:
        at += rng.uniform(60, 1200)
        if not server.linux:
            reach(scribe, at, victim.user, tunnel, server, rng)
    scribe.vpn_down(at + 600, victim.user, source, tunnel, 3600, 5e6, 9e7)
    scene.about.description = "tunnel from a place new for the account"


def odd_hours(scene: Scene) -> None:
    """T1078: an office account is busy at night or on a Sunday."""
    rng, scribe = scene.rng, scene.scribe
    victim = scene.person()
    at = scene.at(*scene.pick((0.5, 3.5), (1, 4), (21.5, 23)))
    source = victim.pc.address
    scene.concern(victim, victim.pc, source)
    if rng.random() < 0.4:
        source, outside = (
            scene.town.tunnel(rng.randrange(500)),
            places.address(rng, scene.pick("NL hosting", "DE hosting", "DE home")),
        )
        scribe.vpn_up(at, victim.user, outside, source)
        scene.concern(outside, source)
    else:
        scribe.tgt(at, victim.user, source)
        scribe.logon(
            at + 1,
            victim.pc.name,
            victim.user,
            rng.choice((2, 10)),
            "127.0.0.1" if rng.random() < 0.5 else scene.town.role("jump").address,
            victim.pc.name,
        )
    for server in rng.choices([s for s in scene.town.servers if not s.linux], k=scene.pick(10, 5, 2)):
        at += rng.expovariate(1 / 400)
        reach(scribe, at, victim.user, source, server, rng)
    for share in rng.sample(scene.town.shares, scene.pick(5, 3, 1)):
        at += rng.expovariate(1 / 200)
        for number in range(rng.randint(*scene.pick((20, 80), (8, 20), (3, 8)))):
            scribe.share(
                at + number * 3,
                scene.town.role("file").name,
                victim.user,
                source,
                share,
                f"2026\\{places.word(rng)}.xlsx",
            )
    scene.about.description = "busy at an hour at which the account never was"


def service_by_hand(scene: Scene) -> None:
    """T1078.003: a service account used by a person, on a desktop or by remote desktop."""
    rng, scribe = scene.rng, scene.scribe
    one = scene.at_work()
    account = rng.choice(list(scene.town.services.values()))
    at = rng.uniform(one.begins + 600, one.ends - 1200)
    targets = rng.sample([s for s in scene.town.servers if not s.linux], scene.pick(6, 3, 1))
    for target in targets:
        at += rng.expovariate(1 / scene.pick(60, 600, 600))
        kind = rng.choice((10, 10, 2, 3)) if scene.stealth != "loud" else 10
        if rng.random() < 0.6:
            scribe.explicit(at - 3, one.person.pc.name, one.person.user, account, target.name, SYSTEM32 + "mstsc.exe")
        scribe.tgt(at - 2, account, one.address)
        scribe.ticket(at - 1, account, one.address, f"{target.name.upper()}$")
        scribe.logon(at, target.name, account, kind, one.address, one.person.pc.name)
        scribe.flow(at, one.address, target.address, 3389 if kind == 10 else 445, 3e5, 4e6)
        if rng.random() < 0.6:
            scribe.process(
                at + 40,
                target.name,
                account,
                SYSTEM32 + rng.choice(("cmd.exe", "mmc.exe", "taskmgr.exe", "whoami.exe")),
            )
        scene.concern(target)
    scene.concern(one.person.pc, one.address, account, *((one.person,) if scene.stealth != "stealthy" else ()))
    scene.about.description = f"{account} used by hand on {len(targets)} machines"


def cross_tenant(scene: Scene) -> None:
    """T1595: one outside address tries the doors of several towns."""
    rng = scene.rng
    source = scene.outside()
    scene.concern(source)
    begins = scene.at(0, 18)
    for town in (scene.town, *scene.others):
        scribe = scene.scribe if town is scene.town else scene.elsewhere(town)
        at = begins + rng.uniform(0, scene.pick(600, 5000, 15_000))
        for _ in range(rng.randint(*scene.pick((60, 150), (15, 30), (6, 10)))):
            at += rng.expovariate(1 / scene.pick(3, 40, 600))
            if rng.random() < 0.5:
                victim = rng.choice(town.people).user
                scribe.vpn_failed(at, victim, source)
            else:
                scribe.flow(at, source, town.public, rng.choice(places.PORTS_KNOCKED), 60, 0, "deny", seconds=0)
    scene.about.description = f"the same address at {1 + len(scene.others)} towns"
