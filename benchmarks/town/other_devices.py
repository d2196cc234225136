"""Dialect `b`: the same happenings as other devices write them down."""
# ruff: noqa: ARG002 - these devices do not say everything that the others do

from random import Random
from typing import ClassVar

import msgspec

from benchmarks.town.people import Town
from benchmarks.town.scribe import PROVIDERS, SECURITY, Scribe, minute_of

_encode = msgspec.json.encode


class OtherScribe(Scribe):
    """Cisco ASA with AnyConnect, NXLog, dnsmasq, FortiGate web filter, Apache, Samba."""

    PARSERS: ClassVar[dict[str, str]] = {
        "firewall": "cisco_asa", "windows": "windows", "auth": "linux_auth", "dns": "dnsmasq", "proxy": "fortigate", "web": "apache", "files": "samba",
    }  # fmt: skip

    def __init__(self, town: Town, rng: Random) -> None:
        super().__init__(town, rng)
        self._connection = int(rng.random() * 1e6)

    def _asa(self, at: float, level: int, number: int, text: str) -> None:
        minute = minute_of(at)
        self.lines.append(
            (
                at,
                "firewall",
                f"<{160 + level}>{minute.asa}{int(at % 60):02} fw-{self.town.name} : %ASA-{level}-{number}: {text}",
            )
        )

    def flow(
        self,
        at: float,
        source: str,
        target: str,
        port: int,
        sent: float,
        received: float,
        action: str = "close",
        *,
        udp: bool = False,
        seconds: float = 2.0,
    ) -> None:
        inbound, outbound = not source.startswith("10."), not target.startswith("10.")
        one, other = "outside" if inbound else "inside", "outside" if outbound else "dmz"
        own = self.port()
        if action == "deny":
            self._asa(
                at,
                4,
                106023,
                f'Deny {"udp" if udp else "tcp"} src {one}:{source}/{own} dst {other}:{target}/{port} by access-group "{one}_in" [0x8ed66b60, 0x0]',
            )
            return
        self._connection += 1
        kind = "UDP" if udp else "TCP"
        ends = f"{other}:{target}/{port} to {one}:{source}/{own}"
        way = "inbound" if inbound else "outbound"
        begun = max(0.0, at - seconds)
        self._asa(
            begun,
            6,
            302015 if udp else 302013,
            f"Built {way} {kind} connection {self._connection} for {other}:{target}/{port} ({target}/{port}) to {one}:{source}/{own} ({source}/{own})",
        )
        took = int(seconds)
        self._asa(
            at,
            6,
            302016 if udp else 302014,
            f"Teardown {kind} connection {self._connection} for {ends} duration {took // 3600}:{took // 60 % 60:02}:{took % 60:02} bytes {int(sent + received)}{'' if udp else ' TCP FINs'}",
        )

    def vpn_failed(self, at: float, user: str, address: str, *, unknown: bool = False) -> None:
        reason = "User was not found" if unknown else "Invalid password"
        self._asa(
            at,
            6,
            113015,
            f"AAA user authentication Rejected : reason = {reason} : local database : user = {user} : user IP = {address}",
        )

    def vpn_up(self, at: float, user: str, address: str, tunnel: str) -> None:
        self._asa(
            at - 0.5, 6, 113039, f"Group <Homeoffice> User <{user}> IP <{address}> AnyConnect parent session started."
        )
        self._asa(
            at,
            4,
            722051,
            f"Group <Homeoffice> User <{user}> IP <{address}> IPv4 Address <{tunnel}> IPv6 address <::> assigned to session",
        )

    def vpn_down(
        self, at: float, user: str, address: str, tunnel: str, seconds: float, sent: float, received: float
    ) -> None:
        took = int(seconds)
        self._asa(at, 4, 113019, (
            f"Group = Homeoffice, Username = {user}, IP = {address}, Session disconnected. Session Type: SSL, "
            f"Duration: {took // 3600}h:{took // 60 % 60:02}m:{took % 60:02}s, Bytes xmt: {int(received)}, Bytes rcv: {int(sent)}, Reason: User Requested"
        ))  # fmt: skip

    def lookup(self, at: float, source: str, name: str, kind: str = "A", *, missing: bool = False) -> None:
        head = f"{minute_of(at).syslog}{int(at % 60):02} dns01 dnsmasq[704]:"
        self.lines.append((at, "dns", f"{head} query[{kind}] {name} from {source}"))
        if missing:
            self.lines.append((at + 0.01, "dns", f"{head} reply {name} is NXDOMAIN"))

    def proxied(
        self,
        at: float,
        source: str,
        user: str,
        site: str,
        address: str,
        sent: float,
        received: float,
        method: str = "CONNECT",
        path: str = "",
    ) -> None:
        minute = minute_of(at)
        name = f'user="{user}" ' if user else ""
        self.lines.append((at, "proxy", (
            f'{minute.forti}{int(at % 60):02} devname="web-{self.town.name}" devid="FWF60F{self.town.number:06}" eventtime={int(at * 1e9)} tz="{minute.zone}" '
            f'logid="0317013312" type="utm" subtype="webfilter" eventtype="ftgd_allow" level="notice" vd="root" policyid=7 sessionid={int(self._random() * 1e8)} {name}'
            f'srcip={source} srcport={self.port()} srcintf="lan" dstip={address} dstport=443 dstintf="wan1" proto=6 service="HTTPS" hostname="{site}" profile="rathaus" '
            f'action="passthrough" reqtype="direct" url="https://{site}{path or "/"}" sentbyte={int(sent)} rcvdbyte={int(received)} direction="outgoing" '
            f'msg="URL belongs to an allowed category in policy" method="domain" cat=52 catdesc="Information Technology"'
        )))  # fmt: skip
        self.flow(at, source, address, 443, sent, received)

    def windows(
        self,
        at: float,
        host: str,
        channel: str,
        code: int,
        data: dict[str, str],
        *,
        failed: bool = False,
        user_data: bool = False,
    ) -> None:
        self._record += 1
        provider = PROVIDERS[channel] if code not in {1102, 104} else "Microsoft-Windows-Eventlog"
        kind = f"AUDIT_{'FAILURE' if failed else 'SUCCESS'}" if channel == SECURITY else "INFO"
        inner = _encode(data).decode()[1:]
        self.lines.append((at, "windows", (
            f'{{"EventTime":"{minute_of(at).local}{int(at % 60):02}","Hostname":"{host}.{self.town.domain}","EventType":"{kind}","SeverityValue":2,"Severity":"INFO",'
            f'"EventID":{code},"SourceName":"{provider}","Version":0,"Task":0,"RecordNumber":{500_000 + self._record},"Channel":"{channel}",{inner}'
        )))  # fmt: skip

    def share(
        self, at: float, server: str, user: str, address: str, share: str, path: str = "", *, write: bool = False
    ) -> None:
        if share.endswith("$"):
            super().share(at, server, user, address, share, path, write=write)
            return
        what = (
            f"openat|ok|{'w' if write else 'r'}|/srv/{share}/{path.replace(chr(92), '/')}"
            if path
            else f"connect|ok|{share}"
        )
        self._samba(at, server, f"{user}|{address}|{share}|{what}")

    def file(self, at: float, server: str, user: str, path: str, *, write: bool = False, delete: bool = False) -> None:
        person = self.town.person_of.get(user)
        if delete and person:
            share, _, rest = path.partition("\\")
            self._samba(
                at, server, f"{user}|{person.pc.address}|{share}|unlinkat|ok|/srv/{share}/{rest.replace(chr(92), '/')}"
            )

    def _samba(self, at: float, server: str, text: str) -> None:
        self.lines.append(
            (
                at,
                "files",
                f"{minute_of(at).syslog}{int(at % 60):02} {server} smbd_audit[{2000 + int(at) % 700}]: {text}",
            )
        )
