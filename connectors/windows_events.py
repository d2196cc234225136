"""What Windows event ids mean in ECS: action, category and type per channel, and which fields name the acting user.

Actions use the vocabulary of the winlogbeat modules (Security) and the provider's own task names (Sysmon, PowerShell),
so that an event reads the same whichever shipper brought it.
"""

import msgspec


class Kind(msgspec.Struct, frozen=True, gc=False):
    """One event id. `user` is the prefix of the native fields with the acting user: Subject, Target or Account."""

    action: str | None
    category: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    user: str = "Subject"
    target: str = ""  # the account acted upon: user, group, effective or renamed
    outcome: str | None = None  # where the event states none


Kinds = dict[int, Kind]

_AUTH, _IAM, _PROCESS, _FILE, _NETWORK = ("authentication",), ("iam",), ("process",), ("file",), ("network",)
_CONFIG, _IAM_CONFIG, _REGISTRY = ("configuration",), ("iam", "configuration"), ("configuration", "registry")
_MALWARE, _SESSION, _SHARE, _HOST = ("malware",), ("authentication", "session"), ("network", "file"), ("host",)
_START, _END, _INFO, _CHANGE, _ADMIN, _ACCESS = ("start",), ("end",), ("info",), ("change",), ("admin",), ("access",)
_CREATION, _DELETION, _ERROR = ("creation",), ("deletion",), ("error",)


def _logon(action: str, outcome: str | None = None, kind: tuple[str, ...] = _START) -> Kind:
    return Kind(action, _AUTH, kind, user="Target", outcome=outcome)


def _account(action: str, change: str) -> Kind:
    return Kind(action, _IAM, ("user", change), target="user")


def _group(action: str, change: str) -> Kind:
    return Kind(action, _IAM, ("group", change), target="group")


def _setting(action: str, change: str = "change") -> Kind:
    return Kind(action, _IAM_CONFIG, ("admin", change))


def _groups(kind: str, first: int) -> Kinds:
    """A sort of group has a block of ids: created, changed, member added, member removed, deleted."""
    names = (
        f"added-{kind}-account",
        f"changed-{kind}-account",
        f"added-member-to-{kind}",
        f"removed-member-from-{kind}",
    )
    changes = ("creation", "change", "change", "change")
    table = {first + i: _group(name, change) for i, (name, change) in enumerate(zip(names, changes, strict=True))}
    return table | {first + 4: _group(f"deleted-{kind}-account", "deletion")}


SECURITY: Kinds = {
    1100: Kind("logging-service-shutdown", ("process",), _END),
    1102: Kind("audit-log-cleared", _IAM, ("admin", "change")),
    1104: Kind("logging-full", _IAM, _ADMIN),
    1105: Kind("auditlog-archieved", _IAM, _ADMIN),  # spelt as winlogbeat spells it: existing searches ask for it
    1108: Kind("logging-processing-error", _IAM, _ADMIN),
    4608: Kind("system-started", _HOST, _START),
    4609: Kind("system-shutdown", _HOST, _END),
    4610: _setting("authentication-package-loaded"),
    4611: _setting("trusted-logon-process-registered"),
    4614: _setting("notification-package-loaded"),
    4616: _setting("system-time-changed"),
    4622: _setting("security-package-loaded"),
    4624: _logon("logged-in", "success"),
    4625: _logon("logon-failed", "failure"),
    4627: _logon("group-membership-listed", None, _INFO),
    4634: _logon("logged-out", "success", _END),
    4647: _logon("logged-out", "success", _END),
    4648: Kind("logged-in-explicit", _AUTH, _START, target="effective"),
    4649: _logon("replay-attack-detected", "failure", _INFO),
    4656: Kind("object-handle-requested", _FILE, _ACCESS),
    4657: Kind("registry-value-modified", _REGISTRY, _CHANGE),
    4658: Kind("object-handle-closed", _FILE, _ACCESS),
    4660: Kind("object-deleted", _FILE, _DELETION),
    4661: Kind("object-handle-requested", _IAM, _INFO),
    4662: Kind("object-operation-performed", _IAM, _INFO),
    4663: Kind("object-accessed", _FILE, _ACCESS),
    4670: _setting("permissions-changed"),
    4672: Kind("logged-in-special", _IAM, _ADMIN),
    4673: Kind("privileged-service-called", _IAM, _ADMIN),
    4674: Kind("privileged-operation", _IAM, _ADMIN),
    4688: Kind("created-process", _PROCESS, _START),
    4689: Kind("exited-process", _PROCESS, _END),
    4692: Kind("data-protection-master-key-backup", _IAM, _ADMIN),
    4696: Kind("primary-token-assigned", _PROCESS, _CHANGE),
    4697: _setting("service-installed"),
    4698: Kind("scheduled-task-created", _IAM_CONFIG, ("creation", "admin")),
    4699: Kind("scheduled-task-deleted", _IAM_CONFIG, ("deletion", "admin")),
    4700: Kind("scheduled-task-enabled", _IAM_CONFIG, ("change", "admin")),
    4701: Kind("scheduled-task-disabled", _IAM_CONFIG, ("change", "admin")),
    4702: Kind("scheduled-task-updated", _IAM_CONFIG, ("change", "admin")),
    4704: _setting("user-right-assigned"),
    4705: _setting("user-right-removed"),
    4706: Kind("domain-trust-added", _CONFIG, _CREATION),
    4707: Kind("domain-trust-removed", _CONFIG, _DELETION),
    4713: Kind("kerberos-policy-changed", _CONFIG, _CHANGE),
    4714: Kind("encrypted-data-recovery-policy-changed", _CONFIG, _CHANGE),
    4715: Kind("object-audit-policy-changed", _CONFIG, _CHANGE),
    4716: Kind("trusted-domain-information-changed", _CONFIG, _CHANGE),
    4717: _setting("system-security-access-granted"),
    4718: _setting("system-security-access-removed", "deletion"),
    4719: _setting("changed-audit-config"),
    4720: _account("added-user-account", "creation"),
    4722: _account("enabled-user-account", "change"),
    4723: _account("changed-password", "change"),
    4724: _account("reset-password", "change"),
    4725: _account("disabled-user-account", "deletion"),
    4726: _account("deleted-user-account", "deletion"),
    4727: _group("added-group-account", "creation"),
    4728: _group("added-member-to-group", "change"),
    4729: _group("removed-member-from-group", "change"),
    4730: _group("deleted-group-account", "deletion"),
    4731: _group("added-group-account", "creation"),
    4732: _group("added-member-to-group", "change"),
    4733: _group("removed-member-from-group", "change"),
    4734: _group("deleted-group-account", "deletion"),
    4735: _group("modified-group-account", "change"),
    4737: _group("modified-group-account", "change"),
    4738: _account("modified-user-account", "change"),
    4739: Kind("domain-policy-changed", _CONFIG, _CHANGE),
    4740: _account("locked-out-user-account", "change"),
    4741: Kind("added-computer-account", _IAM, ("creation", "admin"), target="user"),
    4742: Kind("changed-computer-account", _IAM, ("change", "admin"), target="user"),
    4743: Kind("deleted-computer-account", _IAM, ("deletion", "admin"), target="user"),
    **_groups("distribution-group", 4744),
    **_groups("distribution-group", 4749),
    4754: _group("added-group-account", "creation"),
    4755: _group("modified-group-account", "change"),
    4756: _group("added-member-to-group", "change"),
    4757: _group("removed-member-from-group", "change"),
    4758: _group("deleted-group-account", "deletion"),
    **_groups("distribution-group", 4759),
    4764: _group("type-changed-group-account", "change"),
    4765: _account("added-sid-history", "change"),
    4766: _account("failed-to-add-sid-history", "change"),
    4767: _account("unlocked-user-account", "change"),
    4768: _logon("kerberos-authentication-ticket-requested"),
    4769: _logon("kerberos-service-ticket-requested"),
    4770: _logon("kerberos-service-ticket-renewed", "success"),
    4771: _logon("kerberos-preauth-failed", "failure"),
    4772: _logon("kerberos-authentication-ticket-request-failed", "failure"),
    4773: _logon("kerberos-service-ticket-request-failed", "failure"),
    4774: _logon("account-mapped"),
    4776: _logon("credential-validated"),
    4777: _logon("credential-validation-failed", "failure"),
    4778: Kind("session-reconnected", _SESSION, _START, user="Account"),
    4779: Kind("session-disconnected", _SESSION, _END, user="Account"),
    4780: _account("administrators-acl-set", "change"),
    4781: Kind("renamed-user-account", _IAM, ("user", "change"), target="renamed"),
    4782: _account("password-hash-accessed", "info"),
    4793: Kind("password-policy-checked", _IAM, _INFO),
    4794: Kind("restore-mode-password-set", _IAM, ("admin", "change")),
    4797: _account("blank-password-queried", "info"),
    4798: _account("group-membership-enumerated", "info"),
    4799: _group("user-member-enumerated", "info"),
    4800: Kind("workstation-locked", _SESSION, _INFO, user="Target"),
    4801: Kind("workstation-unlocked", _SESSION, _INFO, user="Target"),
    4802: Kind("screensaver-invoked", _SESSION, _INFO, user="Target"),
    4803: Kind("screensaver-dismissed", _SESSION, _INFO, user="Target"),
    4817: _setting("object-audit-changed"),
    4864: Kind("namespace-collision-detected", _CONFIG, _INFO),
    4886: Kind("certificate-requested", _IAM, _INFO),
    4887: Kind("certificate-issued", _IAM, _CREATION),
    4902: _setting("user-audit-policy-created", "creation"),
    4904: _setting("security-event-source-added"),
    4905: _setting("security-event-source-removed", "deletion"),
    4906: _setting("crash-on-audit-changed"),
    4907: _setting("audit-setting-changed"),
    4908: _setting("special-group-table-changed"),
    4912: _setting("per-user-audit-policy-changed"),
    4928: Kind("replica-source-established", _CONFIG, _CREATION),
    4929: Kind("replica-source-removed", _CONFIG, _DELETION),
    4946: Kind("firewall-rule-added", _CONFIG, _CREATION),
    4947: Kind("firewall-rule-modified", _CONFIG, _CHANGE),
    4948: Kind("firewall-rule-deleted", _CONFIG, _DELETION),
    4950: Kind("firewall-setting-changed", _CONFIG, _CHANGE),
    4964: Kind("logged-in-special", _IAM, ("admin", "group"), user="Target"),
    5024: Kind("windows-firewall-service-started", _PROCESS, _START),
    5025: Kind("windows-firewall-service-stopped", _PROCESS, _END),
    5136: Kind("directory-object-modified", _IAM, _CHANGE),
    5137: Kind("directory-object-created", _IAM, _CREATION),
    5138: Kind("directory-object-restored", _IAM, _CREATION),
    5139: Kind("directory-object-moved", _IAM, _CHANGE),
    5140: Kind("network-share-object-accessed", _SHARE, ("info", "access")),
    5141: Kind("directory-object-deleted", _IAM, _DELETION),
    5142: Kind("network-share-object-added", _SHARE, ("creation", "access")),
    5143: Kind("network-share-object-modified", _SHARE, ("change", "access")),
    5144: Kind("network-share-object-deleted", _SHARE, ("deletion", "access")),
    5145: Kind("network-share-object-access-checked", _SHARE, ("info", "access")),
    5152: Kind("windows-firewall-packet-block", _NETWORK, ("connection", "denied")),
    5154: Kind("windows-firewall-listen-allowed", _NETWORK, ("connection", "allowed")),
    5155: Kind("windows-firewall-listen-block", _NETWORK, ("connection", "denied")),
    5156: Kind("windows-firewall-connection", _NETWORK, ("connection", "allowed")),
    5157: Kind("windows-firewall-packet-drop", _NETWORK, ("connection", "denied")),
    5158: Kind("windows-firewall-bind-allowed", _NETWORK, ("connection", "allowed")),
    5159: Kind("windows-firewall-bind-block", _NETWORK, ("connection", "denied")),
    5376: Kind("credential-manager-backup", _IAM, ("user", "info")),
    5377: Kind("credential-manager-restore", _IAM, ("user", "change")),
    5379: Kind("credential-manager-read", _IAM, ("user", "info")),
    5380: Kind("vault-credential-find", _IAM, ("user", "info")),
    5381: Kind("vault-credentials-were-read", _IAM, ("user", "info")),
    5382: Kind("vault-credentials-were-read", _IAM, ("user", "info")),
    6272: Kind("network-policy-access-granted", _AUTH, _START, outcome="success"),
    6273: Kind("network-policy-access-denied", _AUTH, _START, outcome="failure"),
    6416: Kind("external-device-recognized", _HOST, _INFO),
}

SYSMON: Kinds = {
    1: Kind("Process Create (rule: ProcessCreate)", _PROCESS, _START),
    2: Kind("File creation time changed (rule: FileCreateTime)", _FILE, _CHANGE),
    3: Kind("Network connection detected (rule: NetworkConnect)", _NETWORK, ("start", "connection", "protocol")),
    4: Kind("Sysmon service state changed", _PROCESS, _CHANGE),
    5: Kind("Process terminated (rule: ProcessTerminate)", _PROCESS, _END),
    6: Kind("Driver loaded (rule: DriverLoad)", ("driver",), _START),
    7: Kind("Image loaded (rule: ImageLoad)", _PROCESS, _CHANGE),
    8: Kind("CreateRemoteThread detected (rule: CreateRemoteThread)", _PROCESS, _CHANGE),
    9: Kind("RawAccessRead detected (rule: RawAccessRead)", _PROCESS, _ACCESS),
    10: Kind("Process accessed (rule: ProcessAccess)", _PROCESS, _ACCESS),
    11: Kind("File created (rule: FileCreate)", _FILE, _CREATION),
    12: Kind("Registry object added or deleted (rule: RegistryEvent)", _REGISTRY, _CHANGE),
    13: Kind("Registry value set (rule: RegistryEvent)", _REGISTRY, _CHANGE),
    14: Kind("Registry object renamed (rule: RegistryEvent)", _REGISTRY, _CHANGE),
    15: Kind("File stream created (rule: FileCreateStreamHash)", _FILE, _ACCESS),
    16: Kind("Sysmon config state changed", _CONFIG, _CHANGE),
    17: Kind("Pipe Created (rule: PipeEvent)", _FILE, _CREATION),
    18: Kind("Pipe Connected (rule: PipeEvent)", _FILE, _ACCESS),
    19: Kind("WmiEventFilter activity detected (rule: WmiEvent)", _PROCESS, _CREATION),
    20: Kind("WmiEventConsumer activity detected (rule: WmiEvent)", _PROCESS, _CREATION),
    21: Kind("WmiEventConsumerToFilter activity detected (rule: WmiEvent)", _PROCESS, _CREATION),
    22: Kind("Dns query (rule: DnsQuery)", _NETWORK, ("connection", "protocol", "info")),
    23: Kind("File Delete archived (rule: FileDelete)", _FILE, _DELETION),
    24: Kind("Clipboard changed (rule: ClipboardChange)", (), _CHANGE),
    25: Kind("Process Tampering (rule: ProcessTampering)", _PROCESS, _CHANGE),
    26: Kind("File Delete logged (rule: FileDeleteDetected)", _FILE, _DELETION),
    27: Kind("File Block Executable (rule: FileBlockExecutable)", _FILE, ("creation", "denied")),
    28: Kind("File Block Shredding (rule: FileBlockShredding)", _FILE, ("deletion", "denied")),
    29: Kind("File Executable Detected (rule: FileExecutableDetected)", _FILE, _CREATION),
    255: Kind("Error report", _PROCESS, _ERROR),
}

POWERSHELL: Kinds = {
    400: Kind("Engine Lifecycle", _PROCESS, _START),
    403: Kind("Engine Lifecycle", _PROCESS, _END),
    600: Kind("Provider Lifecycle", _PROCESS, _INFO),
    800: Kind("Pipeline Execution Details", _PROCESS, _INFO),
    4103: Kind("Executing Pipeline", _PROCESS, _INFO),
    4104: Kind("Execute a Remote Command", _PROCESS, _INFO),
    4105: Kind("Starting Command", _PROCESS, _START),
    4106: Kind("Stopping Command", _PROCESS, _END),
}

SYSTEM: Kinds = {
    104: Kind("log-cleared", _CONFIG, _DELETION),
    1074: Kind("shutdown-requested", _HOST, _END),
    6005: Kind("event-log-started", _HOST, _START),
    6006: Kind("event-log-stopped", _HOST, _END),
    6008: Kind("unexpected-shutdown", _HOST, _END),
    7030: Kind("service-marked-interactive", _CONFIG, _CHANGE),
    7031: Kind("service-crashed", _PROCESS, _END),
    7034: Kind("service-crashed", _PROCESS, _END),
    7036: Kind("service-state-changed", _PROCESS, _CHANGE),
    7040: Kind("service-start-type-changed", _CONFIG, _CHANGE),
    7045: Kind("service-installed", _CONFIG, _CREATION),
}

DEFENDER: Kinds = {
    1006: Kind("malware-detected", _MALWARE, _INFO),
    1007: Kind("malware-action-taken", _MALWARE, _INFO),
    1008: Kind("malware-action-failed", _MALWARE, _ERROR),
    1013: Kind("malware-history-deleted", _CONFIG, _DELETION),
    1015: Kind("suspicious-behaviour-detected", _MALWARE, _INFO),
    1116: Kind("malware-detected", _MALWARE, _INFO),
    1117: Kind("malware-action-taken", _MALWARE, _INFO),
    1118: Kind("malware-action-failed", _MALWARE, _ERROR),
    1119: Kind("malware-action-failed", _MALWARE, _ERROR),
    1121: Kind("attack-surface-rule-blocked", _MALWARE, ("denied",)),
    1122: Kind("attack-surface-rule-audited", _MALWARE, _INFO),
    5001: Kind("real-time-protection-disabled", _CONFIG, _CHANGE),
    5004: Kind("real-time-protection-changed", _CONFIG, _CHANGE),
    5007: Kind("configuration-changed", _CONFIG, _CHANGE),
    5010: Kind("malware-scan-disabled", _CONFIG, _CHANGE),
    5012: Kind("virus-scan-disabled", _CONFIG, _CHANGE),
    5013: Kind("tamper-protection-blocked", _CONFIG, ("denied",)),
}

# Remote desktop sessions as the terminal services write them, whatever the Security audit policy says.
REMOTE_DESKTOP: Kinds = {
    21: Kind("logged-in", _SESSION, _START, outcome="success"),
    22: Kind("session-shell-started", _SESSION, _START, outcome="success"),
    23: Kind("logged-out", _SESSION, _END, outcome="success"),
    24: Kind("session-disconnected", _SESSION, _END, outcome="success"),
    25: Kind("session-reconnected", _SESSION, _START, outcome="success"),
    1149: Kind("remote-desktop-authenticated", _AUTH, _START, outcome="success"),
}

TASK_SCHEDULER: Kinds = {
    106: Kind("scheduled-task-created", _CONFIG, _CREATION),
    140: Kind("scheduled-task-updated", _CONFIG, _CHANGE),
    141: Kind("scheduled-task-deleted", _CONFIG, _DELETION),
    200: Kind("scheduled-task-started", _PROCESS, _START),
    201: Kind("scheduled-task-completed", _PROCESS, _END),
}

TABLES: dict[str, Kinds] = {
    "security": SECURITY,
    "sysmon": SYSMON,
    "powershell": POWERSHELL,
    "system": SYSTEM,
    "defender": DEFENDER,
    "terminalservices_localsessionmanager": REMOTE_DESKTOP,
    "terminalservices_remoteconnectionmanager": REMOTE_DESKTOP,
    "taskscheduler": TASK_SCHEDULER,
}

# The channel where a line names only its provider, lower case.
CHANNEL_OF_PROVIDER = {
    "microsoft-windows-security-auditing": "Security",
    "microsoft-windows-sysmon": "Microsoft-Windows-Sysmon/Operational",
    "linux-sysmon": "Linux-Sysmon/Operational",
    "microsoft-windows-powershell": "Microsoft-Windows-PowerShell/Operational",
    "powershell": "Windows PowerShell",
    "service control manager": "System",
    "microsoft-windows-windows defender": "Microsoft-Windows-Windows Defender/Operational",
}

# Channels whose kind has a name of its own, lower case.
DATASET_OF_CHANNEL = {
    "security": "security",
    "system": "system",
    "application": "application",
    "windows powershell": "powershell",
    "powershellcore/operational": "powershell",
    "microsoft-windows-powershell/operational": "powershell",
    "microsoft-windows-sysmon/operational": "sysmon",
    "linux-sysmon/operational": "sysmon",
    "microsoft-windows-windows defender/operational": "defender",
    "microsoft-windows-windows defender/whc": "defender",
}

LOGON_TYPES = {
    "0": "System",
    "2": "Interactive",
    "3": "Network",
    "4": "Batch",
    "5": "Service",
    "7": "Unlock",
    "8": "NetworkCleartext",
    "9": "NewCredentials",
    "10": "RemoteInteractive",
    "11": "CachedInteractive",
    "12": "CachedRemoteInteractive",
    "13": "CachedUnlock",
}

LEVELS = {"0": "information", "1": "critical", "2": "error", "3": "warning", "4": "information", "5": "verbose"}

# Mandatory labels of 4688 in the words of Sysmon's IntegrityLevel.
INTEGRITY_LEVELS = {
    "S-1-16-0": "Untrusted",
    "S-1-16-4096": "Low",
    "S-1-16-8192": "Medium",
    "S-1-16-8448": "MediumPlus",
    "S-1-16-12288": "High",
    "S-1-16-16384": "System",
}
