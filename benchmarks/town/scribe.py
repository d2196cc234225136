"""What happens, written down as each device would: one method per kind of event, two dialects of devices.

Dialect `a`: FortiGate, winlogbeat, Unbound, Squid, nginx, Windows file server. Dialect `b`: Cisco ASA with AnyConnect,
NXLog, dnsmasq, FortiGate web filter, Apache, Samba.
"""

from datetime import UTC, datetime
from functools import lru_cache
from random import Random
from typing import ClassVar, NamedTuple

import msgspec

from benchmarks.town.people import ZONE, Machine, Town

Line = tuple[float, str, str]  # (time, source, text)

SECURITY, SYSTEM = "Security", "System"
SYSMON = "Microsoft-Windows-Sysmon/Operational"
POWERSHELL = "Microsoft-Windows-PowerShell/Operational"
PROVIDERS = {
    SECURITY: "Microsoft-Windows-Security-Auditing", SYSTEM: "Service Control Manager", SYSMON: "Microsoft-Windows-Sysmon",
    POWERSHELL: "Microsoft-Windows-PowerShell",
}  # fmt: skip
SERVICES = {
    22: "SSH", 25: "SMTP", 53: "DNS", 80: "HTTP", 88: "KERBEROS", 123: "NTP", 135: "DCE-RPC", 389: "LDAP", 443: "HTTPS", 445: "SMB",
    993: "IMAPS", 1433: "MS-SQL", 3389: "RDP", 5985: "WINRM", 9100: "JETDIRECT",
}  # fmt: skip
LOGON_PROCESS = {
    2: "User32 ",
    3: "Kerberos",
    4: "Advapi  ",
    5: "Advapi  ",
    7: "User32 ",
    9: "seclogo",
    10: "User32 ",
    11: "User32 ",
}
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/125.0 Mobile Safari/537.36",
)
PHONE = "Apple-iPhone15C2/2106.65"
EXPLORER = r"C:\Windows\explorer.exe"
SERVICES_EXE = r"C:\Windows\System32\services.exe"

_encode = msgspec.json.encode


class _Minute(NamedTuple):
    """One minute as the devices write it, without the seconds."""

    forti: str
    zone: str
    syslog: str
    apache: str
    utc: str
    local: str
    asa: str


@lru_cache(maxsize=16_384)
def _minute(number: int) -> _Minute:
    local, utc = datetime.fromtimestamp(number * 60, ZONE), datetime.fromtimestamp(number * 60, UTC)
    return _Minute(
        f"date={local:%Y-%m-%d} time={local:%H:%M}:", f"{local:%z}", f"{local:%b %e %H:%M}:", f"{local:%d/%b/%Y:%H:%M}:",
        f"{utc:%Y-%m-%dT%H:%M}:", f"{local:%Y-%m-%d %H:%M}:", f"{local:%b %d %Y %H:%M}:",
    )  # fmt: skip


def minute_of(at: float) -> _Minute:
    return _minute(int(at // 60))


def _sysmon(at: float) -> str:
    return f"{minute_of(at).utc.replace('T', ' ')}{int(at % 60):02}.{int(at * 1000) % 1000:03}"


class Scribe:
    """Collects lines of one town in dialect `a`. `lines` grows with every call."""

    PARSERS: ClassVar[dict[str, str]] = {
        "firewall": "fortigate",
        "windows": "windows",
        "auth": "linux_auth",
        "dns": "unbound",
        "proxy": "squid",
        "web": "nginx",
    }

    def __init__(self, town: Town, rng: Random) -> None:
        self.town = town
        self.rng = rng
        self.lines: list[Line] = []
        self._random = rng.random
        self._record = 0

    def put(self, at: float, source: str, text: str) -> None:
        self.lines.append((at, source, text))

    def port(self) -> int:
        return 49152 + int(self._random() * 16383)

    # --- network ------------------------------------------------------------------------------------------------------

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
        """A connection that has ended (or was denied), as the firewall logs it."""
        minute, second = minute_of(at), int(at % 60)
        inbound, outbound = not source.startswith("10."), not target.startswith("10.")
        one, other = "wan1" if inbound else "lan", "wan1" if outbound else ("dmz" if inbound else "srv")
        denied = action == "deny"
        sent_bytes, received_bytes = int(sent), int(received)
        self.lines.append((at, "firewall", (
            f'{minute.forti}{second:02} devname="fw-{self.town.name}" devid="FG100FTK20{self.town.number:06}" eventtime={int(at * 1e9)} tz="{minute.zone}" '
            f'logid="0000000013" type="traffic" subtype="forward" level="{"warning" if denied else "notice"}" vd="root" srcip={source} '
            f'srcport={self.port()} srcintf="{one}" srcintfrole="{"wan" if inbound else "lan"}" dstip={target} dstport={port} dstintf="{other}" '
            f'dstintfrole="{"wan" if outbound else "lan"}" sessionid={int(self._random() * 1e8)} proto={17 if udp else 6} action="{action}" '
            f'policyid={0 if denied else 12} policytype="policy" service="{SERVICES.get(port) or ("udp" if udp else "tcp") + "/" + str(port)}" '
            f'duration={int(seconds)} sentbyte={sent_bytes} rcvdbyte={received_bytes} sentpkt={sent_bytes // 1200 + 1} rcvdpkt={received_bytes // 1200 + (0 if denied else 1)}'
        )))  # fmt: skip

    def _forti_event(self, at: float, logid: str, level: str, rest: str) -> None:
        minute, second = minute_of(at), int(at % 60)
        self.put(
            at, "firewall",
            f'{minute.forti}{second:02} devname="fw-{self.town.name}" devid="FG100FTK20{self.town.number:06}" eventtime={int(at * 1e9)} tz="{minute.zone}" logid="{logid}" {rest}'.replace("LEVEL", level),
        )  # fmt: skip

    def vpn_failed(self, at: float, user: str, address: str, *, unknown: bool = False) -> None:
        reason = "sslvpn_login_unknown_user" if unknown else "sslvpn_login_permission_denied"
        self._forti_event(at, "0101039426", "alert", (
            f'type="event" subtype="vpn" level="LEVEL" vd="root" logdesc="SSL VPN login fail" action="ssl-login-fail" tunneltype="ssl-web" tunnelid=0 '
            f'remip={address} user="{user}" group="N/A" dst_host="N/A" reason="{reason}" msg="SSL user failed to logged in"'
        ))  # fmt: skip

    def vpn_up(self, at: float, user: str, address: str, tunnel: str) -> None:
        self._forti_event(at, "0101039424", "information", (
            f'type="event" subtype="vpn" level="LEVEL" vd="root" logdesc="SSL VPN tunnel up" action="tunnel-up" tunneltype="ssl-tunnel" tunnelid={int(self._random() * 1e6)} '
            f'remip={address} tunnelip={tunnel} user="{user}" group="homeoffice" dst_host="N/A" reason="tunnel established" msg="SSL tunnel established"'
        ))  # fmt: skip

    def vpn_down(
        self, at: float, user: str, address: str, tunnel: str, seconds: float, sent: float, received: float
    ) -> None:
        self._forti_event(at, "0101039425", "information", (
            f'type="event" subtype="vpn" level="LEVEL" vd="root" logdesc="SSL VPN tunnel down" action="tunnel-down" tunneltype="ssl-tunnel" tunnelid={int(self._random() * 1e6)} '
            f'remip={address} tunnelip={tunnel} user="{user}" group="homeoffice" dst_host="N/A" reason="user request" duration={int(seconds)} sentbyte={int(sent)} rcvdbyte={int(received)} msg="SSL tunnel shutdown"'
        ))  # fmt: skip

    def lookup(self, at: float, source: str, name: str, kind: str = "A", *, missing: bool = False) -> None:
        """A client asks the resolver for a name."""
        code = "NXDOMAIN" if missing else "NOERROR"
        self.lines.append(
            (
                at,
                "dns",
                f"{minute_of(at).syslog}{int(at % 60):02} dns01 unbound[931]: [931:{int(at) & 3}] reply: {source} {name}. {kind} IN {code} 0.0{int(at * 1000) % 90 + 10} 0 {60 + len(name)}",
            )
        )

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
        """A request through the web proxy."""
        what = f"{site}:443" if method == "CONNECT" else f"http://{site}{path or '/'}"
        code = "TCP_TUNNEL/200" if method == "CONNECT" else "TCP_MISS/200"
        kind = "-" if method == "CONNECT" else "text/html"
        self.lines.append(
            (
                at,
                "proxy",
                f"{at:.3f} {int(self._random() * 3000) + 20:6} {source} {code} {int(received)} {method} {what} {user or '-'} HIER_DIRECT/{address} {kind}",
            )
        )
        self.flow(at, self.town.role("proxy").address, address, 443, sent, received)

    def web(
        self,
        at: float,
        address: str,
        method: str,
        path: str,
        status: int,
        size: float,
        agent: str,
        user: str = "-",
        referer: str = "-",
    ) -> None:
        """A request at the town's web server or its web mail."""
        self.lines.append(
            (
                at,
                "web",
                f'{address} - {user} [{(m := minute_of(at)).apache}{int(at % 60):02} {m.zone}] "{method} {path} HTTP/1.1" {status} {int(size)} "{referer}" "{agent}"',
            )
        )

    # --- Windows ------------------------------------------------------------------------------------------------------

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
        keywords = f',"keywords":["Audit {"Failure" if failed else "Success"}"]' if channel == SECURITY else ""
        inner = _encode(data).decode()
        computer = f"{host}.{self.town.domain}"
        self.lines.append((at, "windows", (
            f'{{"@timestamp":"{minute_of(at).utc}{int(at % 60):02}.{int(at * 1000) % 1000:03}Z","winlog":{{"channel":"{channel}","provider_name":"{provider}","event_id":"{code}",'
            f'"computer_name":"{computer}","record_id":{800_000 + self._record},"api":"wineventlog"{keywords},"{"user_data" if user_data else "event_data"}":{inner}}},'
            f'"event":{{"code":"{code}","kind":"event","provider":"{provider}"}},"host":{{"name":"{computer}"}},"log":{{"level":"information"}},'
            f'"agent":{{"type":"winlogbeat","version":"8.15.0"}},"ecs":{{"version":"8.0.0"}}}}'
        )))  # fmt: skip

    def sid(self, user: str) -> str:
        person = self.town.person_of.get(user)
        return person.sid if person else self.town.sid(5000 + sum(map(ord, user)) % 4000)

    def _subject(self, user: str) -> dict[str, str]:
        return {
            "SubjectUserSid": self.sid(user),
            "SubjectUserName": user,
            "SubjectDomainName": self.town.netbios,
            "SubjectLogonId": f"0x{int(self._random() * 1e7):x}",
        }

    def logon(
        self,
        at: float,
        host: str,
        user: str,
        kind: int,
        address: str = "-",
        workstation: str = "-",
        package: str = "Kerberos",
    ) -> None:
        """4624. `kind` is the logon type: 2 console, 3 network, 4 batch, 5 service, 7 unlock, 9 new credentials, 10 remote desktop, 11 cached."""
        local = kind in {2, 4, 5, 7, 9, 11}
        data = {
            "SubjectUserSid": "S-1-5-18" if local else "S-1-0-0", "SubjectUserName": f"{host.upper()}$" if local else "-",
            "SubjectDomainName": self.town.netbios if local else "-", "SubjectLogonId": "0x3e7" if local else "0x0",
            "TargetUserSid": self.sid(user), "TargetUserName": user, "TargetDomainName": self.town.netbios, "TargetLogonId": f"0x{int(self._random() * 1e8):x}",
            "LogonType": str(kind), "LogonProcessName": "NtLmSsp " if package == "NTLM" else LOGON_PROCESS.get(kind, "Kerberos"),
            "AuthenticationPackageName": package if kind == 3 else "Negotiate", "WorkstationName": workstation.upper(),
            "LogonGuid": "{00000000-0000-0000-0000-000000000000}", "LmPackageName": "NTLM V2" if package == "NTLM" else "-",
            "KeyLength": "128" if package == "NTLM" else "0", "ProcessId": "0x2f4" if local else "0x0",
            "ProcessName": r"C:\Windows\System32\svchost.exe" if local else "-", "IpAddress": address if address != "-" or not local else "127.0.0.1",
            "IpPort": str(self.port()) if address != "-" else "0", "ElevatedToken": "%%1843",
        }  # fmt: skip
        self.windows(at, host, SECURITY, 4624, data)

    def logoff(self, at: float, host: str, user: str, kind: int) -> None:
        data = {
            "TargetUserSid": self.sid(user),
            "TargetUserName": user,
            "TargetDomainName": self.town.netbios,
            "TargetLogonId": f"0x{int(self._random() * 1e8):x}",
            "LogonType": str(kind),
        }
        self.windows(at, host, SECURITY, 4634, data)

    def logon_failed(
        self,
        at: float,
        host: str,
        user: str,
        kind: int,
        address: str = "-",
        workstation: str = "-",
        *,
        unknown: bool = False,
    ) -> None:
        data = {
            "SubjectUserSid": "S-1-0-0", "SubjectUserName": "-", "SubjectDomainName": "-", "SubjectLogonId": "0x0", "TargetUserSid": "S-1-0-0",
            "TargetUserName": user, "TargetDomainName": self.town.netbios, "Status": "0xc000006d", "FailureReason": "%%2313",
            "SubStatus": "0xc0000064" if unknown else "0xc000006a", "LogonType": str(kind), "LogonProcessName": "NtLmSsp ",
            "AuthenticationPackageName": "NTLM", "WorkstationName": workstation.upper(), "TransmittedServices": "-", "LmPackageName": "-", "KeyLength": "0",
            "ProcessId": "0x0", "ProcessName": "-", "IpAddress": address, "IpPort": str(self.port()),
        }  # fmt: skip
        self.windows(at, host, SECURITY, 4625, data, failed=True)

    def privileges(self, at: float, host: str, user: str) -> None:
        self.windows(
            at,
            host,
            SECURITY,
            4672,
            {
                **self._subject(user),
                "PrivilegeList": "SeSecurityPrivilege\n\t\t\tSeBackupPrivilege\n\t\t\tSeDebugPrivilege",
            },
        )

    def explicit(
        self, at: float, host: str, user: str, other: str, target: str, process: str = r"C:\Windows\System32\runas.exe"
    ) -> None:
        """4648: someone uses another account's password for a machine."""
        data = {
            **self._subject(user), "LogonGuid": "{00000000-0000-0000-0000-000000000000}", "TargetUserName": other, "TargetDomainName": self.town.netbios,
            "TargetServerName": target, "TargetInfo": target, "ProcessId": "0x1a4c", "ProcessName": process, "IpAddress": "-", "IpPort": "-",
        }  # fmt: skip
        self.windows(at, host, SECURITY, 4648, data)

    def tgt(
        self, at: float, user: str, address: str, *, failed: bool = False, weak: bool = False, preauth: bool = True
    ) -> None:
        """4768, or 4771 when the password was wrong."""
        dc = self.dc(user).name
        if failed:
            data = {
                "TargetUserName": user, "TargetSid": self.sid(user), "ServiceName": f"krbtgt/{self.town.netbios}", "TicketOptions": "0x40810010",
                "Status": "0x18", "PreAuthType": "2", "IpAddress": f"::ffff:{address}", "IpPort": str(self.port()),
            }  # fmt: skip
            self.windows(at, dc, SECURITY, 4771, data, failed=True)
            return
        data = {
            "TargetUserName": user, "TargetDomainName": self.town.domain.upper(), "TargetSid": self.sid(user), "ServiceName": "krbtgt", "ServiceSid": self.town.sid(502),
            "TicketOptions": "0x40810010", "Status": "0x0", "TicketEncryptionType": "0x17" if weak else "0x12", "PreAuthType": "2" if preauth else "0",
            "IpAddress": f"::ffff:{address}", "IpPort": str(self.port()),
        }  # fmt: skip
        self.windows(at, dc, SECURITY, 4768, data)

    def ticket(self, at: float, user: str, address: str, service: str, *, weak: bool = False) -> None:
        """4769: a ticket for a service account or a machine (`NAME$`)."""
        data = {
            "TargetUserName": f"{user}@{self.town.domain.upper()}", "TargetDomainName": self.town.domain.upper(), "ServiceName": service,
            "ServiceSid": self.sid(service), "TicketOptions": "0x40810000", "TicketEncryptionType": "0x17" if weak or service in self.town.legacy else "0x12",
            "IpAddress": f"::ffff:{address}", "IpPort": str(self.port()), "Status": "0x0", "LogonGuid": "{7a1c0000-0000-4000-8000-000000000001}", "TransmittedServices": "-",
        }  # fmt: skip
        self.windows(at, self.dc(user).name, SECURITY, 4769, data)

    def ntlm(self, at: float, user: str, workstation: str, *, failed: bool = False) -> None:
        data = {
            "PackageName": "MICROSOFT_AUTHENTICATION_PACKAGE_V1_0",
            "TargetUserName": user,
            "Workstation": workstation.upper(),
            "Status": "0xc000006a" if failed else "0x0",
        }
        self.windows(at, self.dc(user).name, SECURITY, 4776, data, failed=failed)

    def dc(self, user: str) -> Machine:
        return self.town.dcs[len(user) % len(self.town.dcs)]

    def process(self, at: float, host: str, user: str, image: str, command: str = "", parent: str = EXPLORER) -> None:
        """Servers audit processes (4688), clients have Sysmon (1)."""
        command = command or f'"{image}"'
        if host in self.town.audited:
            data = {
                **self._subject(user), "NewProcessId": f"0x{int(self._random() * 30000) + 1000:x}", "NewProcessName": image, "TokenElevationType": "%%1938",
                "ProcessId": f"0x{int(self._random() * 30000) + 1000:x}", "CommandLine": command, "TargetUserSid": "S-1-0-0", "TargetUserName": "-",
                "TargetDomainName": "-", "TargetLogonId": "0x0", "ParentProcessName": parent, "MandatoryLabel": "S-1-16-8192",
            }  # fmt: skip
            self.windows(at, host, SECURITY, 4688, data)
            return
        number = int(self._random() * 0xFFFFFF)
        data = {
            "RuleName": "-", "UtcTime": _sysmon(at), "ProcessGuid": f"{{11aa22bb-{number & 0xFFFF:04x}-65e2-a101-000000000900}}",
            "ProcessId": str(1000 + number % 29000), "Image": image, "FileVersion": "-", "Description": "-", "CommandLine": command, "CurrentDirectory": "C:\\Windows\\system32\\",
            "User": f"{self.town.netbios}\\{user}", "LogonId": f"0x{number:x}", "IntegrityLevel": "Medium", "Hashes": f"SHA256={hash_of(image)}",
            "ParentProcessId": str(1000 + (number >> 4) % 29000), "ParentImage": parent, "ParentCommandLine": parent, "ParentUser": f"{self.town.netbios}\\{user}",
        }  # fmt: skip
        self.windows(at, host, SYSMON, 1, data)

    def connection(self, at: float, host: str, user: str, image: str, source: str, target: str, port: int) -> None:
        data = {
            "RuleName": "-", "UtcTime": _sysmon(at), "ProcessId": str(1000 + int(self._random() * 29000)), "Image": image,
            "User": f"{self.town.netbios}\\{user}", "Protocol": "tcp", "Initiated": "true", "SourceIsIpv6": "false", "SourceIp": source, "SourceHostname": host,
            "SourcePort": str(self.port()), "DestinationIsIpv6": "false", "DestinationIp": target, "DestinationHostname": "-", "DestinationPort": str(port),
        }  # fmt: skip
        self.windows(at, host, SYSMON, 3, data)

    def dropped(self, at: float, host: str, user: str, image: str, path: str) -> None:
        data = {
            "RuleName": "-", "UtcTime": _sysmon(at), "ProcessId": str(1000 + int(self._random() * 29000)), "Image": image,
            "TargetFilename": path, "CreationUtcTime": _sysmon(at), "User": f"{self.town.netbios}\\{user}",
        }  # fmt: skip
        self.windows(at, host, SYSMON, 11, data)

    def asked(self, at: float, host: str, user: str, image: str, name: str, address: str) -> None:
        data = {
            "RuleName": "-", "UtcTime": _sysmon(at), "ProcessId": str(1000 + int(self._random() * 29000)),
            "QueryName": name, "QueryStatus": "0", "QueryResults": f"::ffff:{address};", "Image": image, "User": f"{self.town.netbios}\\{user}",
        }  # fmt: skip
        self.windows(at, host, SYSMON, 22, data)

    def script(self, at: float, host: str, text: str, path: str = "") -> None:
        data = {
            "MessageNumber": "1",
            "MessageTotal": "1",
            "ScriptBlockText": text,
            "ScriptBlockId": f"3b1f1d7a-0000-4000-8000-{int(self._random() * 1e12):012}",
            "Path": path,
        }
        self.windows(at, host, POWERSHELL, 4104, data)

    def account(self, at: float, code: int, admin: str, user: str, host: str = "") -> None:
        """4720 created, 4722 enabled, 4724 password reset, 4725 disabled, 4738 changed, 4740 locked out (host: where)."""
        target = {
            "TargetUserName": user,
            "TargetDomainName": host.upper() if code == 4740 else self.town.netbios,
            "TargetSid": self.sid(user),
        }
        self.windows(
            at,
            self.dc(user).name if code == 4740 or not host else host,
            SECURITY,
            code,
            {**target, **self._subject(admin)},
        )

    def group(self, at: float, code: int, admin: str, member: str, group: str, rid: int, host: str = "") -> None:
        """4728 global, 4732 local, 4756 universal group: member added."""
        local = code == 4732
        data = {
            "MemberName": "-" if local else f"CN={member},OU=Benutzer,DC={self.town.name},DC=example", "MemberSid": self.sid(member), "TargetUserName": group,
            "TargetDomainName": "Builtin" if local else self.town.netbios, "TargetSid": f"S-1-5-32-{rid}" if local else self.town.sid(rid), **self._subject(admin), "PrivilegeList": "-",
        }  # fmt: skip
        self.windows(at, host or self.dc(admin).name, SECURITY, code, data)

    def cleared(self, at: float, host: str, user: str) -> None:
        self.windows(at, host, SECURITY, 1102, self._subject(user), user_data=True)

    def service_installed(
        self, at: float, host: str, user: str, name: str, path: str, account: str = "LocalSystem", *, audit: bool = True
    ) -> None:
        """7045, and 4697 where the security log audits it."""
        data = {
            "ServiceName": name,
            "ImagePath": path,
            "ServiceType": "user mode service",
            "StartType": "demand start",
            "AccountName": account,
        }
        self.windows(at, host, SYSTEM, 7045, data)
        if audit:
            more = {
                **self._subject(user),
                "ServiceName": name,
                "ServiceFileName": path,
                "ServiceType": "0x10",
                "ServiceStartType": "3",
                "ServiceAccount": account,
            }
            self.windows(at, host, SECURITY, 4697, more)

    def task(self, at: float, host: str, user: str, name: str, command: str) -> None:
        """4698: a scheduled task was created."""
        content = f'<?xml version="1.0" encoding="UTF-16"?><Task><Actions Context="Author"><Exec><Command>{command.replace("&", "&amp;").replace("<", "&lt;")}</Command></Exec></Actions></Task>'
        self.windows(at, host, SECURITY, 4698, {**self._subject(user), "TaskName": f"\\{name}", "TaskContent": content})

    def share(
        self, at: float, server: str, user: str, address: str, share: str, path: str = "", *, write: bool = False
    ) -> None:
        """5140 when a share is opened (no path), 5145 for a file in it."""
        data = {
            **self._subject(user),
            "ObjectType": "File",
            "IpAddress": address,
            "IpPort": str(self.port()),
            "ShareName": f"\\\\*\\{share}",
            "ShareLocalPath": f"\\??\\D:\\{share}",
        }
        if path:
            data |= {
                "RelativeTargetName": path,
                "AccessMask": "0x2" if write else "0x1",
                "AccessList": "%%4417\n\t\t\t\t" if write else "%%4416\n\t\t\t\t",
                "AccessReason": "-",
            }
        self.windows(at, server, SECURITY, 5145 if path else 5140, data)

    def file(self, at: float, server: str, user: str, path: str, *, write: bool = False, delete: bool = False) -> None:
        """4663: a file was read, written or deleted."""
        mask, listed = ("0x10000", "%%1537") if delete else ("0x2", "%%4417") if write else ("0x1", "%%4416")
        data = {
            **self._subject(user), "ObjectServer": "Security", "ObjectType": "File", "ObjectName": f"D:\\{path}", "HandleId": f"0x{int(self._random() * 9000):x}",
            "AccessList": f"{listed}\n\t\t\t\t", "AccessMask": mask, "ProcessId": "0x4", "ProcessName": "", "ResourceAttributes": "S:AI",
        }  # fmt: skip
        self.windows(at, server, SECURITY, 4663, data)

    # --- Linux --------------------------------------------------------------------------------------------------------

    def ssh(
        self,
        at: float,
        host: str,
        user: str,
        address: str,
        *,
        failed: bool = False,
        unknown: bool = False,
        key: bool = True,
    ) -> None:
        pid = 900 + int(self._random() * 31000)
        if failed:
            text = (
                f"Failed password for {'invalid user ' if unknown else ''}{user} from {address} port {self.port()} ssh2"
            )
        elif key:
            text = f"Accepted publickey for {user} from {address} port {self.port()} ssh2: ED25519 SHA256:{hash_of(user)[:43]}"
        else:
            text = f"Accepted password for {user} from {address} port {self.port()} ssh2"
        self.put(at, "auth", f"{minute_of(at).syslog}{int(at % 60):02} {host} sshd[{pid}]: {text}")

    def sudo(self, at: float, host: str, user: str, command: str) -> None:
        self.put(
            at,
            "auth",
            f"{minute_of(at).syslog}{int(at % 60):02} {host} sudo:   {user} : TTY=pts/{int(self._random() * 4)} ; PWD=/home/{user} ; USER=root ; COMMAND={command}",
        )

    def cron(self, at: float, host: str, command: str) -> None:
        self.put(
            at,
            "auth",
            f"{minute_of(at).syslog}{int(at % 60):02} {host} CRON[{900 + int(self._random() * 31000)}]: (root) CMD ({command})",
        )


@lru_cache(maxsize=16_384)
def hash_of(text: str) -> str:
    """A stable made-up SHA-256 of a program."""
    from hashlib import sha256

    return sha256(text.encode()).hexdigest().upper()
