"""The catalogue of what is planted: techniques of ATT&CK, each in three degrees of stealth and several variants."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.town import attacks_damage as damage
from benchmarks.town import attacks_entry as entry
from benchmarks.town import attacks_foothold as foothold
from benchmarks.town import attacks_movement as movement
from benchmarks.town.scene import Scene


class Technique(NamedTuple):
    play: Callable[[Scene], None]
    id: str
    days: tuple[int, int, int] = (1, 1, 1)  # at most, by stealth
    workday: bool = True


CATALOGUE: dict[str, Technique] = {
    "vpn_guessing": Technique(entry.vpn_guessing, "T1110.001", (1, 1, 4), workday=False),
    "spraying": Technique(entry.spraying, "T1110.003", (1, 1, 2), workday=False),
    "stuffing": Technique(entry.stuffing, "T1110.004", (1, 1, 2), workday=False),
    "foreign_logon": Technique(entry.foreign_logon, "T1078"),
    "odd_hours": Technique(entry.odd_hours, "T1078", workday=False),
    "service_by_hand": Technique(entry.service_by_hand, "T1078.003"),
    "lateral_smb": Technique(movement.lateral_smb, "T1021.002"),
    "lateral_rdp": Technique(movement.lateral_rdp, "T1021.001"),
    "winrm": Technique(movement.winrm, "T1021.006"),
    "ssh_lateral": Technique(movement.ssh_lateral, "T1021.004"),
    "pass_the_hash": Technique(movement.pass_the_hash, "T1550.002"),
    "kerberoasting": Technique(movement.kerberoasting, "T1558.003"),
    "roasting_without_preauth": Technique(movement.roasting_without_preauth, "T1558.004"),
    "group_manipulation": Technique(foothold.group_manipulation, "T1098", workday=False),
    "new_administrator": Technique(foothold.new_administrator, "T1136"),
    "log_clearing": Technique(foothold.log_clearing, "T1070.001"),
    "service_installation": Technique(foothold.service_installation, "T1569.002"),
    "scheduled_task": Technique(foothold.scheduled_task, "T1053.005"),
    "living_off_the_land": Technique(foothold.living_off_the_land, "T1218"),
    "encoded_powershell": Technique(foothold.encoded_powershell, "T1059.001"),
    "port_scan": Technique(movement.port_scan, "T1046"),
    "collection": Technique(damage.collection, "T1039", (1, 1, 2)),
    "exfiltration": Technique(damage.exfiltration, "T1567", (1, 1, 3)),
    "exfiltration_by_file_transfer": Technique(damage.exfiltration_by_file_transfer, "T1048", (1, 1, 2), workday=False),
    "beacon": Technique(damage.beacon, "T1071.001", (1, 1, 2)),
    "dns_tunnel": Technique(damage.dns_tunnel, "T1071.004"),
    "ransomware": Technique(damage.ransomware, "T1486"),
    "recovery_inhibited": Technique(damage.recovery_inhibited, "T1490", workday=False),
    "cross_tenant": Technique(entry.cross_tenant, "T1595", workday=False),
    "siege": Technique(damage.siege, "T1486", (3, 3, 3), workday=False),
}
