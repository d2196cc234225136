"""Which Sigma log sources an event belongs to, and under which other names a field of a public rule may stand in it.

A rule names product, category and service; a parser names a dataset and an event code. This is the one table between them.
"""

import re
from functools import cache

import msgspec

from connectors.windows_events import DATASET_OF_CHANNEL

# Sysmon and audit events by number; one event may belong to several categories (Sysmon 13 is registry_set and registry_event).
SYSMON_CATEGORIES: dict[str, tuple[str, ...]] = {
    "1": ("process_creation",),
    "2": ("file_change",),
    "3": ("network_connection",),
    "4": ("sysmon_status",),
    "5": ("process_termination",),
    "6": ("driver_load",),
    "7": ("image_load",),
    "8": ("create_remote_thread",),
    "9": ("raw_access_thread",),
    "10": ("process_access",),
    "11": ("file_event",),
    "12": ("registry_add", "registry_delete", "registry_event"),
    "13": ("registry_set", "registry_event"),
    "14": ("registry_rename", "registry_event"),
    "15": ("create_stream_hash",),
    "16": ("sysmon_status",),
    "17": ("pipe_created",),
    "18": ("pipe_created",),
    "19": ("wmi_event",),
    "20": ("wmi_event",),
    "21": ("wmi_event",),
    "22": ("dns_query",),
    "23": ("file_delete",),
    "24": ("clipboard_capture",),
    "25": ("process_tampering",),
    "26": ("file_delete_detected", "file_delete"),
    "27": ("file_block_executable",),
    "28": ("file_block_shredding",),
    "29": ("file_executable_detected",),
    "255": ("sysmon_error",),
}
SECURITY_CATEGORIES: dict[str, tuple[str, ...]] = {
    "4624": ("authentication",),
    "4625": ("authentication",),
    "4648": ("authentication",),
    "4657": ("registry_set", "registry_event"),
    "4688": ("process_creation",),
    "4740": ("authentication",),
    "4768": ("authentication",),
    "4771": ("authentication",),
    "4776": ("authentication",),
    "5156": ("network_connection",),
}
POWERSHELL_CATEGORIES: dict[str, tuple[str, ...]] = {
    "4103": ("ps_module",),
    "4104": ("ps_script",),
    "400": ("ps_classic_start",),
    "600": ("ps_classic_provider_start",),
    "800": ("ps_module",),
}
CODES = frozenset(SYSMON_CATEGORIES) | frozenset(SECURITY_CATEGORIES) | frozenset(POWERSHELL_CATEGORIES)

_WINDOWS = {
    "security": SECURITY_CATEGORIES,
    "sysmon": SYSMON_CATEGORIES,
    "powershell": POWERSHELL_CATEGORIES,
    "powershell_classic": POWERSHELL_CATEGORIES,
}

OTHER_CODE = "\x00other"  # stands for every event code that no rule names

_NO_WORD = re.compile(r"[^a-z0-9]+")


@cache
def _services() -> dict[str, frozenset[str]]:
    """The Sigma services by our name of a Windows channel (its last part in small letters), from pySigma's own table."""
    from sigma.pipelines.common import windows_logsource_mapping  # slow to import

    found: dict[str, set[str]] = {}
    for service, channels in windows_logsource_mapping.items():
        for channel in [channels] if isinstance(channels, str) else channels:
            low = str(channel).lower()
            slug = low.removeprefix("microsoft-windows-").removesuffix("/operational").removesuffix("/admin")
            name = DATASET_OF_CHANNEL.get(low) or _NO_WORD.sub("_", slug).strip("_")
            found.setdefault(name, set()).add(service)
    return {name: frozenset(services) for name, services in found.items()}


_FORTIGATE = {"traffic": ("firewall",), "utm": ("firewall", "proxy"), "vpn": ("vpn", "authentication"), "event": ()}
_CISCO_ASA = {
    "firewall": ("firewall",),
    "vpn": ("vpn", "authentication"),
    "auth": ("authentication",),
    "ids": ("firewall",),
}
_LINUX_AUTH = {
    "sshd": ("auth", "authpriv"),
    "sudo": ("auth", "authpriv"),
    "su": ("auth", "authpriv"),
    "pam": ("auth", "authpriv"),
    "cron": ("syslog",),
}
_WORDS = {
    "firewall": "firewall",
    "proxy": "proxy",
    "dns": "dns",
    "webserver": "webserver",
    "vpn": "vpn",
    "antivirus": "antivirus",
}


_FAMILIES = {  # module -> products whose public rules it can meet
    "auditd": ("linux",),
    "sysmon_linux": ("linux",),
    "vsftpd": ("linux",),
    "macos_es": ("macos",),
    "macos_log": ("macos",),
    "cisco_ios": ("cisco",),
    "cisco_ftd": ("cisco",),
    "cisco_ise": ("cisco",),
    "cisco_meraki": ("cisco",),
    "entra": ("azure",),
    "o365": ("m365",),
    "cloudtrail": ("aws",),
}
_SERVICES: dict[str, tuple[str, ...]] = {
    "auditd": ("auditd",),
    "vsftpd": ("vsftpd",),
    "cloudtrail": ("cloudtrail",),
    "okta": ("okta",),
}
_SERVICES |= {"o365": ("audit", "exchange", "threat_management", "threat_detection"), "pulse_secure": ("vpn",)}
_KINDS: dict[str, tuple[str, ...]] = {  # what follows the module in a dataset -> categories, whichever module it is
    **dict.fromkeys(("vpn", "xvpn", "ovpn", "globalprotect"), ("vpn",)),
    **dict.fromkeys(
        ("firewall", "traffic", "filterlog", "packetfilter", "filter", "threat", "ips", "ids"), ("firewall",)
    ),
    **dict.fromkeys(("dns", "query"), ("dns", "dns_query")),
    **dict.fromkeys(("proxy", "web"), ("proxy",)),
    "antivirus": ("antivirus",),
    "process": ("process_creation",),
    "exec": ("process_creation",),
    "network": ("network_connection",),
    "file": ("file_event",),
    "create": ("file_event",),
    "registry": ("registry_event", "registry_set"),
    "library": ("image_load",),
}
_OF_MODULES: dict[str, tuple[str, ...]] = {  # where the kind alone says too little
    "barracuda.activity": ("firewall",),
    "stormshield.connection": ("firewall",),
    "suricata.flow": ("firewall",),
    "suricata.drop": ("firewall",),
    "iis.access": ("webserver",),
    "traefik.access": ("webserver",),
    "caddy.access": ("webserver",),
    "haproxy.http": ("webserver",),
    "squid.access": ("proxy",),
    "sophos_utm.http": ("proxy",),
    "suricata.http": ("proxy",),
    "zeek.http": ("proxy",),
    "zeek.conn": ("firewall",),
    "mysql.query": (),
    "postgresql.query": (),
}


class Sources(msgspec.Struct, frozen=True):
    """The Sigma names an event answers to; a rule applies when each key that it states is among them."""

    products: frozenset[str]
    categories: frozenset[str]
    services: frozenset[str]

    def match(self, product: str | None, category: str | None, service: str | None) -> bool:
        return (
            (product is None or product in self.products)
            and (category is None or category in self.categories)
            and (service is None or service in self.services)
        )


def sources(dataset: str, code: str | None, ecs: tuple[str, ...] = ()) -> Sources:
    """The Sigma log sources of an event with this `event.dataset`, `event.code` and `event.category`.

    Logons are told by their ECS category, whatever their parser calls them; those of Windows by their event codes.
    """
    module, _, kind = dataset.lower().partition(".")
    products, categories, services = {module}, set[str](), {kind}
    if "authentication" in ecs and module != "windows":
        categories.add("authentication")
    if module == "windows":
        kind = kind.replace("powershell_operational", "powershell")
        bare = kind.removesuffix("_operational")  # some channels end in -Operational instead of /Operational
        services |= {kind, kind.replace("_", "-"), bare, *_services().get(bare, ()), *_services().get(kind, ())}
        categories.update(_WINDOWS.get(kind, {}).get(code or "", ()))
        if kind == "powershell_classic" and code != "800":
            services.add("powershell-classic")
    elif module == "linux_auth":
        products.add("linux")
        categories.add("authentication")
        services.update(_LINUX_AUTH.get(kind, ("auth",)))
    elif module == "syslog":
        products.add("linux")
        services.add("syslog")
    elif module == "iptables":
        products.add("linux")
        categories.add("firewall")
        services.add("iptables")
    elif module == "fortigate":
        products.add("fortios")
        categories.update(_FORTIGATE.get(kind, ()))
    elif module == "cisco_asa":
        products.add("cisco")
        services.add("asa")
        categories.update(_CISCO_ASA.get(kind, ()))
    elif module in {"nginx", "apache"}:
        if kind == "access":
            categories.add("webserver")
    else:  # foreign events that carry a name of their own: cef.<vendor>, ecs.<dataset>
        products.update(kind.split("."))
        services.update(kind.split("."))
        categories.update(category for word, category in _WORDS.items() if word in kind)
        products.update(_FAMILIES.get(module, ()))
        services.update(_SERVICES.get(module, ()))
        own = _OF_MODULES.get(f"{module}.{kind}")
        categories.update(_KINDS.get(kind.partition("_")[0], ()) if own is None else own)
        if module == "sysmon_linux":
            categories.update(SYSMON_CATEGORIES.get(code or "", ()))
        if kind.startswith("windows"):
            products.add("windows")
            below = kind.rpartition(".")[2]
            services.add(below)
            categories.update(_WINDOWS.get(below, {}).get(code or "", ()))
    return Sources(frozenset(products), frozenset(categories), frozenset(services - {""}))


def codes_of_category(product: str | None, category: str | None) -> frozenset[str]:
    """The codes that Windows events of a category have; empty where something else decides."""
    if product != "windows" or category is None:
        return frozenset()
    return frozenset(code for codes in _WINDOWS.values() for code, names in codes.items() if category in names)


def windows_categories() -> frozenset[str]:
    """All categories that one Windows event or another belongs to."""
    return frozenset(name for codes in _WINDOWS.values() for names in codes.values() for name in names)


# A field of a public rule that an event lacks is read under these names instead, the first present one.
FALLBACKS: dict[str, tuple[str, ...]] = {
    # Windows: 4688 names its fields differently from Sysmon 1, and other agents use ECS
    "EventID": ("event.code",),
    "Channel": ("winlog.channel",),
    "Provider_Name": ("winlog.provider_name",),
    "Computer": ("ComputerName", "host.name"),
    "ComputerName": ("Computer", "host.name"),
    "Image": ("NewProcessName", "process.executable"),
    "ParentImage": ("ParentProcessName", "process.parent.executable"),
    "CommandLine": ("ProcessCommandLine", "process.command_line"),
    "ParentCommandLine": ("process.parent.command_line",),
    "CurrentDirectory": ("process.working_directory",),
    "OriginalFileName": ("process.pe.original_file_name",),
    "User": ("SubjectUserName", "user.name"),
    "TargetFilename": ("file.path",),
    "ServiceFileName": ("ImagePath",),
    "ImagePath": ("ServiceFileName",),
    "DestinationIp": ("destination.ip",),
    "DestinationPort": ("destination.port",),
    "SourceIp": ("source.ip",),
    "SourcePort": ("source.port",),
    "DestinationHostname": ("destination.domain",),
    "UserDataPossibleCause": ("PossibleCause",),  # Hayabusa's names
    "RdsGtwErrorCode": ("ErrorCode",),
    # firewalls
    "src_ip": ("source.ip",),
    "dst_ip": ("destination.ip",),
    "src_port": ("source.port",),
    "dst_port": ("destination.port",),
    "username": ("user.name",),
    "action": ("event.action",),
    # web servers and proxies
    "c-ip": ("source.ip",),
    "c-uri": ("url.original", "url.path"),
    "c-uri-path": ("url.path",),
    "c-uri-query": ("url.query",),
    "cs-uri": ("url.original", "url.path"),
    "cs-uri-stem": ("url.path",),
    "cs-uri-query": ("url.query", "url.original"),
    "cs-method": ("http.request.method",),
    "cs-username": ("user.name",),
    "cs-user-agent": ("user_agent.original",),
    "cs-referer": ("http.request.referrer",),
    "c-useragent": ("user_agent.original",),
    "cs-host": ("url.domain",),
    "sc-status": ("http.response.status_code",),
}

# Fields whose value is the event code: conditions on them are decided once per kind of event, not per event.
CODE_FIELDS = frozenset({"EventID", "event.code"})


def entity_fields(product: str | None, category: str | None, service: str | None) -> tuple[tuple[str, ...], ...]:
    """Whom a hit is about when the rule does not say: alternatives, the first one present in the event."""
    if category in {"authentication", "vpn"} or service in {"sshd", "auth"}:
        return (("source.ip",), ("user.name",), ("host.name",))
    if product == "windows" or category in {"process_creation", "file_event", "registry_event"}:
        return (("host.name",), ("user.name",), ("source.ip",))
    if product == "linux" and category != "firewall":
        return (("user.name",), ("host.name",), ("source.ip",))
    return (("source.ip",), ("host.name",), ("user.name",))
