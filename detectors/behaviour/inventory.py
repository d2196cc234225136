"""What the operator knows of names and networks: which addresses are internal, the class of an account or host."""

from ipaddress import ip_address, ip_network

import msgspec

INTERNAL = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
)
ADDRESSES_KEPT_MAX = 65_536  # remembered answers; beyond that the memory starts afresh


class Inventory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conventions of one provider. Prefixes are compared in lower case."""

    internal: tuple[str, ...] = INTERNAL
    server_networks: tuple[str, ...] = ()
    server_prefixes: tuple[str, ...] = ("srv", "dc", "fs", "sql", "mail", "web", "app", "print", "vpn", "backup")
    service_prefixes: tuple[str, ...] = ("svc", "srv-", "dienst", "service", "sa-", "sql", "backup")
    admin_prefixes: tuple[str, ...] = ("adm", "a-", "t0-", "t1-", "root")
    scanners: frozenset[str] = frozenset()  # allowed to spread over the network, by exact address


class Classes:
    """Answers the two questions of an inventory fast: internal or not, and the class of an entity."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._internal = tuple(ip_network(network) for network in inventory.internal)
        self._servers = tuple(ip_network(network) for network in inventory.server_networks)
        self._seen: dict[str, str] = {}

    def address(self, text: str) -> str:
        """`external`, `internal` or `server` (an internal address in a server network); empty if it is no address."""
        found = self._seen.get(text)
        if found is None:
            if len(self._seen) >= ADDRESSES_KEPT_MAX:
                self._seen.clear()
            found = self._seen[text] = self._address(text)
        return found

    def of(self, kind: str, name: str) -> str:
        """The class of an entity: person, admin, service, machine; client, server; external; else any."""
        if kind == "user":
            return self._account(name.lower())
        if kind == "host":
            return "server" if name.lower().startswith(self.inventory.server_prefixes) else "client"
        if kind == "address":
            return {"internal": "client", "": "any"}.get(where := self.address(name), where)
        return "any"

    def _account(self, name: str) -> str:
        if name.endswith("$"):
            return "machine"
        if name.startswith(self.inventory.service_prefixes):
            return "service"
        return "admin" if name.startswith(self.inventory.admin_prefixes) else "person"

    def _address(self, text: str) -> str:
        try:
            address = ip_address(text)
        except ValueError:
            return ""
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:  # an IPv4 address in IPv6 clothes is the same machine
            address = mapped
        if any(address in network for network in self._servers):
            return "server"
        return "internal" if any(address in network for network in self._internal) else "external"
