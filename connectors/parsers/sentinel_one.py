"""SentinelOne Singularity: threats, alerts, activities, agents and groups of the console, and Deep Visibility (Cloud Funnel).

SentinelOne's own keys stay in `fields`, dotted (`threatInfo.classification`, `tgt.process.cmdline`).
"""

from collections.abc import Callable, Sequence

from connectors import json_log
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import (
    Log,
    account,
    address,
    first,
    flat,
    moment,
    number,
    part,
    parts,
    port,
    program,
    stated,
    text_of,
    texts,
    word,
)

NAME = "sentinel_one"

_LISTS = ("data", "records", "events")

Meaning = tuple[str, tuple[str, ...], tuple[str, ...]]
# Activities by their number, as the console's interface documents them: category, type, outcome.
_ACTIVITIES: dict[int, tuple[tuple[str, ...], tuple[str, ...], str | None]] = {
    27: (("authentication",), ("start",), "success"),
    33: (("authentication",), ("end",), "success"),
    133: (("authentication",), ("start", "denied"), "failure"),
    134: (("authentication",), ("start", "denied"), "failure"),
    3629: (("authentication",), ("start", "denied"), "failure"),
    23: (("iam",), ("user", "creation"), None),
    24: (("iam",), ("user", "change"), None),
    25: (("iam",), ("user", "deletion"), None),
    67: (("iam",), ("user", "change"), None),
    37: (("iam",), ("user", "change"), None),
}
_MALWARE, _FILED = ("malware",), {"malware", "ransomware", "trojan", "downloader", "virus", "worm", "rootkit"}
# Deep Visibility by event.category: kind, category; by event.type: type.
_SEEN = {
    "process": ("process", ("process",)),
    "cross_process": ("process", ("process",)),
    "command_script": ("process", ("process",)),
    "file": ("file", ("file",)),
    "dns": ("dns", ("network",)),
    "ip": ("network", ("network",)),
    "url": ("url", ("network", "web")),
    "registry": ("registry", ("registry",)),
    "logins": ("logon", ("authentication",)),
    "scheduled_task": ("config", ("configuration",)),
    "module": ("library", ("library",)),
    "driver": ("driver", ("driver",)),
    "indicators": ("indicator", ("threat",)),
    "group": ("process", ("process",)),
    "named_pipe": ("pipe", ("file",)),
}
_VERBS = (
    ("Creation", "creation"), ("Create", "creation"), ("Deletion", "deletion"), ("Delete", "deletion"),
    ("Modif", "change"), ("Rename", "change"), ("Register", "creation"), ("Update", "change"), ("Start", "start"),
    ("Exit", "end"), ("Terminat", "end"),
)  # fmt: skip
_SHAPES: tuple[tuple[str, ...], ...] = (
    ('"threatInfo"', '"agentDetectionInfo"'),
    ('"alertInfo"', '"agentDetectionInfo"'),
    ('"activityType"', '"primaryDescription"'),
    ('"agentVersion"', '"computerName"', '"mitigationMode"'),
    ('"siteId"', '"registrationToken"', '"totalAgents"'),
    ('"event.type"', '"event.category"', '"endpoint.name"'),
    ('"event.type"', '"src.process.'),
)


def sniff(text: str) -> bool:
    return any(all(key in text for key in shape) for shape in _SHAPES)


def parse(text: str, origin: Origin) -> Sequence[Event]:
    found, damaged = json_log.logs(text, _LISTS)
    events = [event for log in found if (event := _event(log, text, origin, damaged)) is not None]
    if not events:
        raise ParseError("no SentinelOne record: neither threat, alert, activity, agent nor Deep Visibility event")
    return events


def _event(log: Log, text: str, origin: Origin, damaged: bool) -> Event | None:
    arrived = json_log.head(text, origin)[0]
    if "event.type" in log:
        return _seen(log, arrived, damaged)
    if "threatInfo" in log:
        return _threat(log, arrived, damaged)
    if "alertInfo" in log:
        return _alert(log, arrived, damaged)
    if "activityType" in log or "primaryDescription" in log:
        return _activity(log, arrived, damaged)
    if "computerName" in log or "registrationToken" in log or "siteId" in log:
        return _inventory(log, arrived, damaged)
    return None


def _threat(log: Log, arrived: float, damaged: bool) -> Event:
    threat, agent, now = part(log, "threatInfo"), part(log, "agentDetectionInfo"), part(log, "agentRealtimeInfo")
    kind = (text_of(threat.get("classification")) or "malware").lower()
    user, domain = _account(first(agent, "agentLastLoggedInUserName") or first(threat, "processUser"))
    return Event(
        moment(threat, ("updatedAt", "createdAt", "identifiedAt"), 0.0) or arrived,
        NAME,
        "sentinel_one.threat",
        _MALWARE if kind in _FILED else ("threat",),
        ("info",) if kind in _FILED else ("indicator",),
        ",".join(texts(threat.get("engines"))) or None,
        None,
        None,
        first(threat, "threatName"),
        first(now, "agentComputerName") or first(agent, "agentComputerName"),
        user,
        domain,
        process_name=first(threat, "originatorProcess"),
        process_command_line=first(threat, "maliciousProcessArguments"),
        file_path=first(threat, "filePath"),
        fields=Lazy(_fields, log, _threat_fields, damaged),
    )


def _threat_fields(log: Log) -> Log:
    threat, agent, now = part(log, "threatInfo"), part(log, "agentDetectionInfo"), part(log, "agentRealtimeInfo")
    return {
        "event.kind": "alert",
        "event.id": text_of(log.get("id")),
        "rule.name": first(threat, "threatName"),
        "file.name": program(first(threat, "filePath")),
        "file.hash.sha1": first(threat, "sha1"),
        "file.hash.sha256": first(threat, "sha256"),
        "file.hash.md5": first(threat, "md5"),
        "host.id": first(now, "agentId") or first(agent, "agentUuid"),
        "host.domain": first(now, "agentDomain") or first(agent, "agentDomain"),
        "host.os.name": first(now, "agentOsName") or first(agent, "agentOsName"),
        "host.ip": address((first(agent, "agentIpV4") or "").partition(",")[0]),
        "event.reason": text_of(threat.get("mitigationStatus")),
        "threat.technique.name": [
            name
            for item in parts(log, "indicators")
            for tactic in parts(item, "tactics")
            for technique in parts(tactic, "techniques")
            if (name := first(technique, "name")) is not None
        ],
    }


def _alert(log: Log, arrived: float, damaged: bool) -> Event:
    alert, agent, rule = part(log, "alertInfo"), part(log, "agentDetectionInfo"), part(log, "ruleInfo")
    source, parent, target = (
        part(log, key) for key in ("sourceProcessInfo", "sourceParentProcessInfo", "targetProcessInfo")
    )
    user, domain = _account(first(source, "user") or first(alert, "loginsUserName"))
    said = first(alert, "loginIsSuccessful")
    return Event(
        moment(alert, ("createdAt", "reportedAt", "updatedAt"), 0.0) or arrived,
        NAME,
        "sentinel_one.alert",
        _MALWARE,
        ("info",),
        first(alert, "eventType"),
        None if said is None else {"true": "success", "false": "failure"}.get(said.lower()),
        None,
        first(rule, "name") or first(alert, "indicatorName"),
        first(agent, "name") or first(part(log, "agentRealtimeInfo"), "name"),
        user,
        domain or first(alert, "loginAccountDomain"),
        address(alert.get("srcIp")) or address(alert.get("srcMachineIp")),
        port(alert.get("srcPort")),
        None,
        address(alert.get("dstIp")),
        port(alert.get("dstPort")),
        None,
        None,
        first(source, "name"),
        number(source.get("pid")),
        first(source, "filePath"),
        first(source, "commandline"),
        first(parent, "name"),
        first(target, "tgtFilePath") or first(alert, "modulePath"),
        fields=Lazy(_fields, log, _alert_fields, damaged),
    )


def _alert_fields(log: Log) -> Log:
    alert, agent, rule = part(log, "alertInfo"), part(log, "agentDetectionInfo"), part(log, "ruleInfo")
    source, parent = part(log, "sourceProcessInfo"), part(log, "sourceParentProcessInfo")
    return {
        "event.kind": "alert",
        "event.id": first(alert, "alertId"),
        "rule.name": first(rule, "name"),
        "rule.id": first(rule, "id"),
        "rule.description": first(rule, "description"),
        "host.id": first(agent, "uuid"),
        "host.os.name": first(agent, "osName"),
        "process.parent.pid": number(parent.get("pid")),
        "process.parent.executable": first(parent, "filePath"),
        "process.parent.command_line": first(parent, "commandline"),
        "process.hash.sha1": first(source, "fileHashSha1"),
        "process.hash.sha256": first(source, "fileHashSha256"),
        "dns.question.name": first(alert, "dnsRequest"),
        "registry.path": first(alert, "registryKeyPath", "registryPath"),
    }


def _activity(log: Log, arrived: float, damaged: bool) -> Event:
    data = part(log, "data")
    code = number(log.get("activityType"))
    told = first(log, "primaryDescription")
    category, types, outcome = _ACTIVITIES.get(code or 0) or _told((told or "").lower(), log, data)
    user = first(data, "byUser", "username", "userName", "user")
    name, domain = _account(user if user != "unknown" else None)
    return Event(
        moment(log, ("createdAt", "updatedAt"), arrived),
        NAME,
        "sentinel_one.activity",
        category,
        types,
        None,
        outcome,
        word(log.get("activityType")),
        told,
        first(data, "computerName"),
        name,
        domain,
        address(data.get("ipAddress")) if category == ("authentication",) else None,
        file_path=first(data, "filePath"),
        service_name="sentinelone" if category == ("authentication",) else None,
        fields=Lazy(_fields, log, _activity_fields, damaged),
    )


def _activity_fields(log: Log) -> Log:
    data = part(log, "data")
    return {
        "event.id": first(log, "id"),
        "event.reason": first(data, "reason"),
        "user.id": first(log, "userId"),
        "user.full_name": first(data, "fullName", "username"),
        "user.email": first(data, "recoveryEmail", "email"),
        "host.id": first(log, "agentId"),
        "host.ip": address(data.get("externalIp")),
        "file.name": first(data, "fileDisplayName"),
        "file.hash.sha1": first(data, "fileContentHash"),
        "rule.name": first(data, "threatClassification", "ruleName"),
    }


def _told(told: str, log: Log, data: Log) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """What an activity is about where its number is not known."""
    if "log in" in told or "logged in" in told or "login" in told:
        failed = "fail" in told or "invalid" in told or "unable" in told
        return ("authentication",), ("start", "denied") if failed else ("start",), "failure" if failed else "success"
    if "logged out" in told:
        return ("authentication",), ("end",), "success"
    if text_of(log.get("threatId")) is not None or "threatClassification" in data:
        return _MALWARE, ("info",), None
    if "user" in told and "added" in told:
        return ("iam",), ("user", "creation"), None
    if "user" in told and "deleted" in told:
        return ("iam",), ("user", "deletion"), None
    if "policy" in told or "setting" in told or "blacklist" in told or "blocklist" in told or "exclusion" in told:
        return ("configuration",), ("change",), None
    return ("host",) if "computerName" in data else (), ("info",), None


def _inventory(log: Log, arrived: float, damaged: bool) -> Event:
    agent = "computerName" in log
    user, domain = _account(first(log, "lastLoggedInUserName", "osUsername") if agent else first(log, "creator"))
    return Event(
        moment(log, ("updatedAt", "lastActiveDate", "createdAt"), arrived),
        NAME,
        "sentinel_one.agent" if agent else "sentinel_one.group",
        ("host",) if agent else ("iam",),
        ("info",) if agent else ("group", "info"),
        None,
        None,
        None,
        None,
        first(log, "computerName"),
        user,
        domain,
        fields=Lazy(_fields, log, _inventory_fields, damaged),
    )


def _inventory_fields(log: Log) -> Log:
    agent = "computerName" in log
    return {
        "host.id": first(log, "uuid", "id") if agent else None,
        "host.ip": address(log.get("lastIpToMgmt")) or address(log.get("externalIp")),
        "host.os.name": first(log, "osName"),
        "host.domain": first(log, "domain"),
        "group.name": first(log, "groupName") if agent else first(log, "name"),
        "observer.version": first(log, "agentVersion"),
    }


def _seen(log: Log, arrived: float, damaged: bool) -> Event:
    """An event of Deep Visibility: flat, its keys dotted; of a process creation the target is the process."""
    get = log.get
    action, about = first(log, "event.type"), (first(log, "event.category") or "").lower()
    kind, category = _SEEN.get(about, ("event", ()))
    created = action == "Process Creation"
    types: tuple[str, ...] = (
        "start" if created else next((verb for said, verb in _VERBS if said in (action or "")), "info"),
    )
    outcome = None
    user = first(log, "event.login.userName") if kind == "logon" else None
    own = "tgt.process" if created else "src.process"
    user = user or first(log, f"{own}.user", "src.process.user", "os.user.name", "process.unique.user")
    name, domain = _account(user)
    source, destination = address(get("src.ip.address")), address(get("dst.ip.address"))
    source_port, destination_port = port(get("src.port.number")), port(get("dst.port.number"))
    if kind == "logon":
        worked = str(get("event.login.loginIsSuccessful")).lower()
        outcome = {"true": "success", "false": "failure"}.get(worked)
        ended = action is not None and action.lower().startswith("logout")
        types = ("end",) if ended else ("start", "denied") if outcome == "failure" else ("start",)
        source = source or address(get("src.endpoint.ip.address"))
        domain = domain or first(log, "event.login.accountDomain")
    elif kind in {"network", "dns", "url"}:
        types = ("protocol",) if kind == "dns" else ("access",) if kind == "url" else ("connection", "start")
        if str(get("event.network.direction")).upper() == "INCOMING" and destination is None:
            source, destination = destination, source
        if str(get("event.network.connectionStatus")).upper() == "FAILURE":
            types, outcome = ("connection", "denied"), "failure"
    url = first(log, "url.address", "event.url")
    protocol = (first(log, "event.network.protocolName") or "").lower()
    return Event(
        moment(log, ("event.time", "timestamp", "i.timestamp", "meta.event.time"), arrived),
        NAME,
        f"sentinel_one.{kind}",
        category,
        types,
        action,
        outcome,
        None,
        first(log, "indicator.description"),
        first(log, "endpoint.name"),
        name,
        domain,
        source,
        source_port,
        None,
        destination,
        destination_port,
        None,
        protocol if protocol in {"tcp", "udp", "icmp"} else None,
        first(log, f"{own}.name"),
        number(get(f"{own}.pid")),
        first(log, f"{own}.image.path"),
        first(log, f"{own}.cmdline"),
        first(log, "src.process.name" if created else "src.process.parent.name"),
        first(log, "tgt.file.path", "module.path"),
        None if url is None else json_log.url_path(url),
        service_name="windows" if kind == "logon" else None,
        fields=Lazy(_fields, log, _seen_fields, damaged),
    )


def _seen_fields(log: Log) -> Log:
    get = log.get
    created = first(log, "event.type") == "Process Creation"
    own = "tgt.process" if created else "src.process"
    return {
        "event.id": first(log, "event.id"),
        "host.id": first(log, "agent.uuid"),
        "host.os.name": first(log, "endpoint.os"),
        "process.parent.pid": number(get("src.process.pid" if created else "src.process.parent.pid")),
        "process.parent.command_line": first(log, "src.process.cmdline" if created else "src.process.parent.cmdline"),
        "process.hash.sha1": first(log, f"{own}.image.sha1"),
        "process.hash.sha256": first(log, f"{own}.image.sha256"),
        "file.hash.sha1": first(log, "tgt.file.sha1"),
        "file.hash.sha256": first(log, "tgt.file.sha256"),
        "dns.question.name": first(log, "event.dns.request"),
        "registry.path": first(log, "registry.keyPath"),
        "url.original": first(log, "url.address", "event.url"),
        "rule.name": first(log, "indicator.name"),
    }


def _account(user: str | None) -> tuple[str | None, str | None]:
    return (None, None) if user is None else account(user) if "\\" in user else (user, None)


def _fields(log: Log, about: Callable[[Log], Log], damaged: bool) -> Log:
    fields = flat(log, NAME)
    fields |= {path: value for path, value in about(log).items() if value is not None and value != []}
    return fields | stated(observer__vendor="SentinelOne", shield__truncated=damaged or None)
