"""Linux audit log: raw and enriched records, in syslog, in the kernel log, read out by ausearch, as LAUREL or auditbeat JSON.

All records of one audit id become one event: the command line of EXECVE, the address of SOCKADDR and the paths of PATH
complete the system call. Hex-coded names, command lines and addresses are decoded.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from connectors import tolerant_json
from connectors.audit_records import (
    ARGUMENTS_MAX,
    DATASETS,
    NAME,
    NOTHING,
    SERVICES,
    UNSET,
    Record,
    address_of,
    event_of,
    pairs_of,
    plain,
    program_of,
    syscall_named,
)
from connectors.audit_tables import RECORDS, SYSCALLS, TYPES, UNKNOWN
from connectors.clock import EPOCH_S_MAX
from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.parsers import ecs

HEAD_CHARS_MAX = 512  # an envelope and a node's name before the first record
PREFIX_CHARS_MAX = 300  # a node's name and the type before an audit id
RECORDS_MAX = 512  # of one line; the rest is not read

_RECORD = re.compile(
    r"type=(?:UNKNOWN\[)?([A-Za-z0-9_]{1,40})\]? (?:msg=)?audit\(([^():]{1,40}(?::\d\d:[^():]{1,20})?):(\d{1,20})\) ?:? ?"
)
_NODE = re.compile(r"node=([^\s=]{1,255}) $")
_STAMP = re.compile(r"\d{1,10}(?:\.\d{1,9})?")
_READ_OUT = re.compile(r"(\d\d)[/.](\d\d)[/.](\d{2,4}) (\d\d):(\d\d):(\d\d(?:\.\d{1,9})?)")
_PLAIN = re.compile(  # `audit[812]: USER_LOGIN pid=...`, as journald hands records on: without their id
    r"(?:<AUDIT)?([A-Z][A-Z0-9_]{2,39}|\d{4})>? (?=[a-z][\w\-]{0,30}=|avc: |apparmor=)"
)
_CUT = re.compile(r"type=(?:UNKNOWN\[)?([A-Z][A-Z0-9_]{2,39}|\d{4})\]? (?=msg=|[a-z][\w\-]{0,30}=)")  # the id is lost
_LAUREL = re.compile(r"\{\s{0,4}\"ID\": ?\"\d{9,11}\.\d{1,9}:\d{1,20}\"")
_SNIFF = re.compile(r"[\s>]audit(?:\[\d{1,10}\])?: (?:<AUDIT\d{4}>|[A-Z][A-Z0-9_]{2,39}) (?:[a-z][\w\-]{0,30}=|avc: )")
_SYSCALL = re.compile(  # as the kernel writes it
    r"arch=(\w++) syscall=(\w++)(?: per=\w++)?(?: success=(\w++) exit=\S++)?(?: a[0-3]=\w++){0,4} items=\d++ ppid=(\d++)"
    r" pid=(\d++) auid=(\d++) uid=(\d++) gid=\d++ euid=(\d++) suid=\d++ fsuid=\d++ egid=\d++ sgid=\d++ fsgid=\d++"
    r" tty=(\S++) ses=\d++ comm=(?:\"([^\"]*+)\"|([0-9A-F]++)) exe=(?:\"([^\"]*+)\"|([0-9A-F]++))"
    r"(?: subj=\S++)?(?: key=(?:\"([^\"]*+)\"|\(null\)|([0-9A-F]++)))?"
)
_USER = re.compile(  # what PAM and sshd report, the bulk of the other records; AUID and UID where auditd adds the names
    r"(?:user )?pid=(\d{1,9}) uid=(\d++) auid=(\d++) ses=\d++(?: subj=\S++)? msg='op=\S++(?: grantors=\S++)? acct=\"([^\"]++)\""
    r" exe=\"([^\"]++)\" hostname=(\S++) addr=(\S++) terminal=(\S++) res=(success|failed)'"
    r"(?:\x1dUID=\"([^\"]++)\" AUID=\"([^\"]++)\")?\s*+"
)
_USER_TYPES = frozenset(("USER_AUTH", "USER_ACCT", "USER_START", "USER_END", "USER_LOGIN", "USER_LOGOUT"))
_USER_TYPES |= frozenset(("CRED_ACQ", "CRED_DISP", "CRED_REFR"))


def sniff(text: str) -> bool:
    if text[:1] == "{":
        return (
            _LAUREL.match(text) is not None
            or ('"messages":[{"type":1' in text and '"sequence":' in text)
            or ('"auditd":' in text and '"message_type"' in text)
        )
    at = text.find("audit(", 0, HEAD_CHARS_MAX)
    if at >= 0 and (begin := text.rfind("type=", max(0, at - PREFIX_CHARS_MAX), at)) >= 0:
        return _RECORD.match(text, begin) is not None
    if (cut := _CUT.match(text)) is not None:
        return cut[1] in RECORDS or cut[1] in TYPES
    return _SNIFF.search(text, 0, HEAD_CHARS_MAX) is not None


def record_id(text: str) -> str | None:
    """What the lines of one audit event share: the node, the time and the serial number; None for other lines."""
    found = _next_record(text, 0)
    if found is None:
        return None
    begin, match = found
    node = _NODE.search(text, max(0, begin - PREFIX_CHARS_MAX), begin)
    return f"{node[1] if node is not None else ''} {match[2]}:{match[3]}"


def parse(text: str, origin: Origin) -> Sequence[Event]:
    head = _RECORD.match(text)
    if head is not None and text.find("audit(", head.end()) < 0:  # one record, as auditd writes it
        kind = TYPES.get(head[1], head[1])
        usual = _usual_syscall if kind == "SYSCALL" else _usual_user if kind in _USER_TYPES else None
        if usual is not None and _STAMP.fullmatch(head[2]) is not None and (event := usual(text, head)) is not None:
            return (event,)
        body = text[head.end() :]
        return (event_of([(kind, pairs_of(body, kind), body)], _time(head[2], origin), head[3], None),)
    found = _next_record(text, 0)
    if found is None:
        return _without_id(text, origin)
    begin, match = found
    host = None
    if begin and (node := _NODE.search(text, max(0, begin - PREFIX_CHARS_MAX), begin)) is not None:
        host = node[1]
    elif begin:
        host = peel(text, origin).host
    events: dict[tuple[str, str], list[Record]] = {}
    for _ in range(RECORDS_MAX):
        following = _next_record(text, match.end())
        end = len(text) if following is None else following[0]
        body = text[match.end() : end]
        if following is not None and (node := _NODE.search(body, max(0, len(body) - PREFIX_CHARS_MAX))) is not None:
            body = body[: node.start()]
        kind = TYPES.get(match[1], match[1])
        events.setdefault((match[2], match[3]), []).append((kind, pairs_of(body, kind), body))
        if following is None:
            break
        match = following[1]
    return [event_of(records, _time(stamp, origin), serial, host) for (stamp, serial), records in events.items()]


# --- lines ------------------------------------------------------------------------------------------------------------


def _next_record(text: str, at: int) -> tuple[int, re.Match[str]] | None:
    """Where the next record begins, by its audit id."""
    while (at := text.find("audit(", at)) >= 0:
        begin = text.rfind("type=", max(0, at - PREFIX_CHARS_MAX), at)
        if begin >= 0 and (match := _RECORD.match(text, begin)) is not None and match.end() > at:
            return begin, match
        at += 6
    return None


def _without_id(text: str, origin: Origin) -> Sequence[Event]:
    """Records that lost their id on the way, JSON of other readers, and what the daemon says of itself."""
    if text[:1] == "{":
        return _json(text, origin)
    if (match := _CUT.match(text)) is not None:
        kind, body = TYPES.get(match[1], match[1]), text[match.end() :]
        return (event_of([(kind, pairs_of(body, kind), body)], origin.received, None, None),)
    envelope = peel(text, origin)
    if not envelope.recognised:
        raise ParseError(
            "no audit record: neither `type=... msg=audit(...)` nor the JSON of LAUREL, go-audit or auditbeat"
        )
    at = origin.received if envelope.timestamp is None else envelope.timestamp
    match = _PLAIN.match(envelope.message)
    if match is not None:
        body = envelope.message[match.end() :]
        kind = TYPES.get(match[1], match[1])
        return (event_of([(kind, pairs_of(body, kind), body)], at, None, envelope.host),)
    return (
        Event(
            timestamp=at,
            event_module=NAME,
            event_dataset="auditd.daemon",
            event_category=("process",),
            event_type=("info",),
            message=envelope.message,
            host_name=envelope.host,
            process_name=envelope.app,
            process_pid=envelope.pid,
        ),
    )


def _time(stamp: str, origin: Origin) -> float:
    if _STAMP.fullmatch(stamp) is not None and (at := float(stamp)) < EPOCH_S_MAX:
        return at
    match = _READ_OUT.fullmatch(stamp)  # ausearch -i, in the words of its locale: the day stands first where it must
    if match is not None:
        one, two, year, hour, minute, second = match.groups()
        month, day = (int(two), int(one)) if "." in stamp[:5] or int(one) > 12 else (int(one), int(two))
        try:
            year_number = int(year) if len(year) == 4 else 2000 + int(year)
            if 1970 <= year_number < 2200:
                return origin.clock.local(year_number, month, day, int(hour), int(minute), float(second))
        except ValueError:
            pass
    return origin.received


# --- one event --------------------------------------------------------------------------------------------------------


def _usual_syscall(text: str, head: re.Match[str]) -> Event | None:
    """The short way for a raw SYSCALL record; its other pairs are read when somebody asks."""
    match = _SYSCALL.fullmatch(text, head.end())
    if match is None or len(head[3]) > 18:
        return None
    arch, number, success, ppid, pid, auid, uid, euid, tty, comm, comm_hex, exe, exe_hex, key, key_hex = match.groups()
    name = syscall_named(arch, number)
    meaning = SYSCALLS.get(name) or RECORDS["SYSCALL"]
    executable = exe if exe is not None else plain(exe_hex)
    fields: dict[str, Any] = {
        "type": "SYSCALL",
        "SYSCALL": name,
        "event.sequence": int(head[3]),
        "user.id": uid if auid == "4294967295" else auid,
        "user.audit.id": auid,
        "user.effective.id": euid,
    }
    if tty != "(none)":
        fields["user.terminal"] = tty
    if len(ppid) < 10:
        fields["process.parent.pid"] = int(ppid)
    if key or key_hex:
        fields["rule.name"] = key or plain(key_hex)
    return Event(
        float(head[2]),
        NAME,
        DATASETS[meaning.kind],
        meaning.category,
        meaning.type,
        meaning.action,
        "success" if success == "yes" else "failure" if success == "no" else None,
        None,
        text[head.end() :],
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        program_of(comm if comm is not None else plain(comm_hex), executable),
        int(pid) if len(pid) < 10 else None,
        executable,
        fields=_Fields(fields, text, head.end()),
    )


def _usual_user(text: str, head: re.Match[str]) -> Event | None:
    """The short way for a raw record of PAM or sshd."""
    match = _USER.fullmatch(text, head.end())
    if match is None or len(head[3]) > 18:
        return None
    pid, uid, auid, account, executable, hostname, address, terminal, result, _, login = match.groups()
    kind = head[1]
    meaning = RECORDS[kind]
    if account in NOTHING or executable in NOTHING:
        return None
    name = account if login is None or (login in UNSET or login.isdigit()) else login
    fields: dict[str, Any] = {
        "type": kind,
        "event.sequence": int(head[3]),
        "user.effective.name": account,
        "user.audit.id": auid,
        "user.id": uid if auid in UNSET else auid,
    }
    if terminal not in NOTHING:
        fields["user.terminal"] = terminal
    source = address_of(address) if address not in NOTHING else None
    if hostname not in NOTHING:
        if source is None and (source := address_of(hostname)) is not None:
            pass
        elif hostname != source and not hostname.startswith("localhost"):
            fields["source.domain"] = hostname
    program = program_of(None, executable)
    return Event(
        float(head[2]),
        NAME,
        DATASETS[meaning.kind],
        meaning.category,
        meaning.type,
        meaning.action,
        "success" if result == "success" else "failure",
        None,
        text[head.end() :].strip(),
        None,
        name,
        None,
        source,
        None,
        None,
        None,
        None,
        None,
        None,
        program,
        int(pid),
        executable,
        None,
        None,
        None,
        None,
        None,
        SERVICES.get(program, program) if program is not None else None,
        _Fields(fields, text, head.end()),
    )


class _Fields(Mapping[str, Any]):
    """The fields of a record: those made of it at once, its own pairs when somebody asks for one."""

    __slots__ = ("_at", "_made", "_text", "_whole")

    def __init__(self, made: dict[str, Any], text: str, at: int) -> None:
        self._made = made
        self._text = text
        self._at = at
        self._whole: dict[str, Any] | None = None

    def get(self, key: str, default: Any = None) -> Any:
        value = self._made.get(key)
        if value is None and "." not in key:
            return self._all().get(key, default)
        return default if value is None else value

    def _all(self) -> dict[str, Any]:
        whole = self._whole
        if whole is None:
            whole = self._whole = {**pairs_of(self._text[self._at :], self._made["type"]), **self._made}
        return whole

    def __getitem__(self, key: str) -> Any:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


# --- JSON -------------------------------------------------------------------------------------------------------------


def _json(text: str, origin: Origin) -> Sequence[Event]:
    document, damaged = tolerant_json.decode(text)
    if type(document) is not dict:
        raise ParseError("no audit record: the JSON is no object")
    if type(identity := document.get("ID")) is str and ":" in identity:
        event = _laurel(document, identity, origin)
    elif type(messages := document.get("messages")) is list:
        event = _go_audit(document, messages, origin)
    elif "auditd" in document or any(key.startswith("auditd.") for key in document):
        event = _auditbeat(text, origin)
    else:
        raise ParseError("no audit record: JSON that is neither LAUREL's, go-audit's nor auditbeat's")
    if damaged:
        event = msgspec.structs.replace(event, fields={**event.fields, "shield.truncated": True})
    return (event,)


def _laurel(document: dict[str, Any], identity: str, origin: Origin) -> Event:
    records: list[Record] = []
    parent: dict[str, Any] = {}
    for kind, value in document.items():
        for part in value[:RECORDS_MAX] if type(value) is list else (value,):
            if type(part) is dict and kind == "PARENT_INFO":
                parent = part
            elif type(part) is dict and len(records) < RECORDS_MAX:
                records.append((kind, _flat(part), ""))
    if not records:
        raise ParseError("LAUREL object without a record")
    stamp, _, serial = identity.rpartition(":")
    node = document.get("NODE")
    serial = serial if serial.isascii() and serial.isdigit() else ""
    event = event_of(records, _time(stamp, origin), serial or None, node if type(node) is str else None)
    fields = dict(event.fields)
    for source, target in (("exe", "process.parent.executable"), ("comm", "process.parent.name")):
        if type(value := parent.get(source)) is str:
            fields[target] = value
    if type(arguments := parent.get("ARGV")) is list:
        fields["process.parent.command_line"] = " ".join(str(word) for word in arguments[:ARGUMENTS_MAX])
    return msgspec.structs.replace(event, fields=fields, process_parent_name=fields.pop("process.parent.name", None))


def _flat(record: dict[str, Any]) -> dict[str, str]:
    """A record of LAUREL as pairs of text, arguments numbered as EXECVE has them."""
    pairs: dict[str, str] = {}
    for name, value in record.items():
        if type(value) is str:
            text = unquote(value) if "%" in value else value
            if text not in NOTHING:
                pairs[name] = text.removeprefix("0x")
        elif type(value) in (int, float):
            pairs[name] = str(value)
        elif name == "ARGV" and type(value) is list:
            if "argc" in record or len(record) == 1:
                words = [unquote(word) for word in value[:ARGUMENTS_MAX] if type(word) is str]
                pairs.update({f"a{index}": word for index, word in enumerate(words)})
                if "argc" not in record:
                    pairs = {"proctitle": " ".join(words)}
        elif name == "SADDR" and type(value) is dict:
            pairs["saddr_fam"] = str(value.get("family"))
            pairs |= {key: str(value[old]) for key, old in (("laddr", "addr"), ("lport", "port")) if old in value}
    return pairs


def _go_audit(document: dict[str, Any], messages: list[Any], origin: Origin) -> Event:
    records: list[Record] = []
    for message in messages[:RECORDS_MAX]:
        if type(message) is dict and type(data := message.get("data")) is str:
            number = str(message.get("type"))
            kind = TYPES.get(number, number)
            records.append((kind, pairs_of(data, kind), data))
    if not records:
        raise ParseError("go-audit object without a record")
    names = document.get("uid_map")
    if type(names) is dict:
        for _, pairs, _ in records:
            for field in ("auid", "uid", "euid"):
                if type(name := names.get(pairs.get(field, ""))) is str and name != "UNKNOWN_USER":
                    pairs.setdefault(field.upper(), name)
    stamp = document.get("timestamp")
    serial = document.get("sequence")
    return event_of(
        records,
        _time(str(stamp)[:40], origin),
        str(serial) if type(serial) is int and serial >= 0 else None,
        host if type(host := document.get("hostname")) is str else None,
    )


def _auditbeat(text: str, origin: Origin) -> Event:
    """Already ECS; what is added are the names that the log itself has, for rules written for it."""
    (event, *_) = ecs.parse(text, origin)
    fields = dict(event.fields)
    for path, value in event.fields.items():
        name = path.removeprefix("auditd.data.")
        if name != path and "." not in name:
            fields.setdefault(name, value)
    kind = fields.get("auditd.message_type")
    if type(kind) is str:
        fields["type"] = kind.upper()
    syscall = fields.get("syscall")
    meaning = RECORDS.get(str(fields.get("type")), UNKNOWN)
    if type(syscall) is str:
        fields["SYSCALL"] = syscall
        meaning = SYSCALLS.get(syscall, RECORDS["SYSCALL"])
    return msgspec.structs.replace(
        event,
        event_module=NAME,
        event_dataset=f"{NAME}.{meaning.kind}",
        event_outcome=event.event_outcome
        or {"fail": "failure", "success": "success"}.get(str(fields.get("auditd.result"))),
        fields=fields,
    )
