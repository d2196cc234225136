"""The event of the records of one Linux audit id: who did what with which process, file or address, and did it work."""

import posixpath
import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from connectors.audit_tables import (
    ARCHITECTURES,
    ATTACHED,
    END_OF_EVENT,
    INWARD,
    NUMBERS,
    RECORDS,
    SYSCALLS,
    UNKNOWN,
    Meaning,
)
from connectors.events import Event
from connectors.values import TRANSPORTS

NAME = "auditd"
PAIRS_MAX = 8192  # of one record
ARGUMENTS_MAX = 4096  # of one command line
NUMBER_MAX = 2**31 - 1  # of a process
HEAD_CHARS_MAX = 512  # within which an access vector says what it decided

Record = tuple[str, dict[str, str], str]  # type, pairs, text

# A name starts where a word does, so that a long word is read once and not from each of its letters.
_PAIR = re.compile(r"(?<![\w.\-])([A-Za-z][\w.\-]*+(?:\[\d{1,4}\])?)=(?:\"([^\"]*+)\"?|(\S*+))")
_HEX = re.compile(r"(?:[0-9A-F]{2})++")
_AVC = re.compile(r"avc: {1,4}(denied|granted|received) {1,4}(?:\{ ?([^{}]{0,400}?) ?\})?")
UNSET = frozenset(("4294967295", "-1", "unset", "?"))
NOTHING = frozenset(("?", "(null)", "(none)", "", "(null),", "?,"))
# Names whose unquoted values are hex-coded when they hold blanks, quotes or bytes outside ASCII.
_CODED_NAMES = (
    "exe cmd data path comm file name watch cwd acct dir vm device cgroup ocomm grp new_group sw root_dir proctitle "
    "profile info key cmdline grantors unit hostname user"
)
_CODED = frozenset(_CODED_NAMES.split())
_SUCCESS = frozenset(("success", "yes", "1", "granted", "allowed"))
_FAILURE = frozenset(("failed", "fail", "no", "0", "failure", "denied"))
SERVICES = {
    "sshd": "ssh",
    "sshd-session": "ssh",
    "vsftpd": "ftp",
    "proftpd": "ftp",
    "login": "login",
    "dovecot": "mail",
}
_COMM_CHARS = 15  # the kernel keeps no more of a program's name


def pairs_of(body: str, kind: str) -> dict[str, str]:
    """The names and values of a record; those within `msg='...'` beside the others. The first of two counts."""
    start = body.find(" msg=")
    if start >= 0 and (mark := body[start + 5 : start + 6]) in _QUOTES:
        end = body.rfind(mark, start + 6)
        inner = body[start + 6 : end if end > 0 else len(body)]
        if "(hostname=" in inner:  # before 2010: msg='PAM: ... (hostname=?, addr=?, terminal=ssh res=failed)'
            inner = inner.replace(", ", " ").replace(")", " ")
        before, after = body[:start], body[end + 1 :] if end > 0 else ""
        # In an access vector the daemon that asks stands before, the one who is refused within.
        body = f"{inner} {before} {after}" if kind == "USER_AVC" else f"{before} {inner} {after}"
    if kind == "LOGIN" and "old auid=" in body:
        for word in ("auid", "ses"):
            body = body.replace(f"old {word}=", f"old-{word}=").replace(f"new {word}=", f"{word}=")
    if "UID=" in body or "ARCH=" in body:  # relays may have escaped or dropped the separator of the enriched part
        body = body.replace("\\u001D", " ").replace("#035", " ").replace(")ARCH=", ") ARCH=")
    pairs: dict[str, str] = {}
    arguments = kind == "EXECVE"
    for name, quoted, bare in _PAIR.findall(body)[:PAIRS_MAX]:
        if bare:
            if bare in NOTHING or name in pairs:
                continue
            if name in _CODED or (arguments and name[0] == "a" and name[1:2].isdigit()):
                pairs[name] = plain(bare)
            else:
                pairs[name] = bare
        elif quoted and name not in pairs:
            pairs[name] = quoted
    return pairs


_QUOTES = frozenset("'\"")


def plain(value: str) -> str:
    """The text of a hex-coded value. A value that needed no coding is what it looks like."""
    if len(value) & 1 or _HEX.fullmatch(value) is None:
        return value
    data = bytes.fromhex(value)
    if not any(byte < 0x21 or byte == 0x22 or byte > 0x7E for byte in data):
        return value
    return data.rstrip(b"\0").decode("utf-8", "replace").replace("\0", " ")


def event_of(records: list[Record], at: float, serial: str | None, host: str | None) -> Event:
    kind, merged, body = records[0]
    types: str | list[str] = kind
    paths: list[dict[str, str]] = []
    arguments = None
    if len(records) > 1 or kind in ATTACHED:
        merged, types = {}, [record for record, _, _ in records] if len(records) > 1 else kind
        for record, own, text in records:
            if record == "PATH":
                paths.append(own)
            elif record == "EXECVE":
                arguments = _arguments(own)
                merged.update((name, value) for name, value in own.items() if name != "argc")
            for name, value in own.items():
                merged.setdefault(name, value)
            if record not in ATTACHED and (kind in ATTACHED or kind == "SYSCALL") and record != END_OF_EVENT:
                kind, body = record, text
    meaning = RECORDS.get(kind, UNKNOWN)
    fields: dict[str, Any] = {**merged, "type": types}
    syscall = None
    if "syscall" in merged:
        fields["SYSCALL"] = syscall = _syscall_of(merged)
        if kind == "SYSCALL":
            meaning = SYSCALLS.get(syscall, meaning)
    if serial is not None and len(serial) <= 18:
        fields["event.sequence"] = int(serial)
    if "key" in merged:
        fields["rule.name"] = merged["key"]
    executable, program, pid, line = _process(merged, arguments, fields)
    user, service = _people(meaning, merged, program, fields)
    source, source_port, destination, destination_port = _places(syscall, merged, fields)
    file = None
    if paths:
        names = [path["name"] for path in paths if "name" in path]
        fields["name"] = names[0] if len(names) == 1 else names
        file = _file(paths, merged.get("cwd"))
    elif meaning.kind in _WITH_PATH:
        file = merged.get("path") or (merged.get("name") if meaning.kind == "avc" else None)
    if host is None and meaning.kind == "iam":  # only the tools for accounts state their own machine as hostname
        host = merged.get("hostname")
        if host is not None and (host.startswith("localhost") or address_of(host) is not None):
            host = None
    outcome, event_type = _outcome(meaning, merged, body, fields)
    return Event(
        at,
        NAME,
        DATASETS[meaning.kind],
        meaning.category,
        event_type,
        meaning.action if meaning is not UNKNOWN else kind.lower(),
        outcome,
        None,
        body.strip() or None,
        host,
        user,
        None,
        source,
        source_port,
        None,
        destination,
        destination_port,
        None,
        TRANSPORTS.get(merged.get("proto", "")) if kind == "NETFILTER_PKT" else None,
        program,
        pid,
        executable,
        line,
        None,
        file,
        None,
        None,
        service,
        fields,
    )


DATASETS = {meaning.kind: f"auditd.{meaning.kind}" for meaning in (*SYSCALLS.values(), *RECORDS.values(), UNKNOWN)}
_WITH_PATH = frozenset(("avc", "anomaly", "config", "other"))


def _syscall_of(pairs: dict[str, str]) -> str:
    number = pairs["syscall"]
    if (stated := pairs.get("SYSCALL")) is not None:
        return stated
    if not number.isdigit():
        return number
    return syscall_named(pairs.get("arch", "c000003e").removeprefix("0x"), number)


_NO_NUMBERS: dict[str, str] = {}


def syscall_named(arch: str, number: str) -> str:
    """The name of a system call; its number where the architecture or the number is not known."""
    return NUMBERS.get(ARCHITECTURES.get(arch, arch), _NO_NUMBERS).get(number, number)


def _number(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    number = int(text)
    return number if number <= NUMBER_MAX else None


@lru_cache(maxsize=65_536)
def address_of(text: str) -> str | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped) if mapped is not None else text.partition("%")[0]


@lru_cache(maxsize=65_536)
def program_of(comm: str | None, executable: str | None) -> str | None:
    """The program's name, whole where the kernel has cut it off and the executable says how it goes on."""
    base = executable.removesuffix(" (deleted)").rpartition("/")[2] if executable else None
    if not comm:
        return base or None
    return base if base and len(comm.encode()) == _COMM_CHARS and base.startswith(comm) else comm


def _arguments(pairs: dict[str, str]) -> list[str]:
    """The arguments of EXECVE in order; long ones come in pieces."""
    pieces: dict[int, str] = {}
    for name, value in pairs.items():
        index = name[1:].partition("[")[0]
        if name[:1] == "a" and index.isdecimal() and len(index) <= 6:
            pieces[int(index)] = pieces.get(int(index), "") + value
    return [pieces[index] for index in sorted(pieces)[:ARGUMENTS_MAX]]


def _process(
    pairs: dict[str, str], arguments: list[str] | None, fields: dict[str, Any]
) -> tuple[str | None, str | None, int | None, str | None]:
    """Executable, name, number and command line."""
    get = pairs.get
    executable = get("exe")
    if (parent := _number(get("ppid"))) is not None:
        fields["process.parent.pid"] = parent
    if arguments:
        fields["process.args"] = arguments
    if (directory := get("cwd")) is not None:
        fields["process.working_directory"] = directory
    line = " ".join(arguments) if arguments else get("cmd") or get("cmdline") or get("proctitle") or get("data")
    return executable, program_of(get("comm"), executable), _number(get("pid")), line


def _known(name: str | None) -> str | None:
    """A name that is one: ausearch puts names where the log has numbers, and `unset` where nobody is."""
    return None if name is None or name in UNSET or name.isdigit() else name


def _people(
    meaning: Meaning, pairs: dict[str, str], program: str | None, fields: dict[str, Any]
) -> tuple[str | None, str | None]:
    """The user and the service logged on to.

    Who logged in at first is the user, as whom things are done the effective one, whom they are done to the target.
    """
    get = pairs.get
    login, number = get("auid"), get("uid")
    account = get("acct") or get("user")
    name = _known(get("AUID") or login)
    service = None
    if meaning.kind == "iam":
        name = name or _known(get("UID") or number)
        target, target_id = account or _known(get("ID") or get("id")), get("id")
        if "group" in meaning.type:
            group = get("grp") or target
            if group is not None:
                fields["group.name"] = group
        elif target is not None:
            fields["user.target.name"] = target
        if target_id is not None and target_id.isdigit():
            fields["group.id" if "group" in meaning.type else "user.target.id"] = target_id
        name = name or account
    else:
        if meaning.kind in _LOGONS:
            account = account or _known(get("ID") or get("id"))
            service = SERVICES.get(program, program) if program is not None else None
        name = name or account or _known(get("UID") or number)
        effective = account or _known(get("EUID") or get("euid"))
        if effective is not None and (effective != name or account is not None):
            fields["user.effective.name"] = effective
    if login is not None:
        if login.isdigit():
            fields["user.audit.id"] = login
        if login not in UNSET:
            number = login
    if number is not None and number.isdigit():
        fields["user.id"] = number
    if "euid" in pairs:
        fields["user.effective.id"] = pairs["euid"]
    if (terminal := get("terminal") or get("tty")) is not None:
        fields["user.terminal"] = terminal
    return name, service


_LOGONS = frozenset(("auth", "session"))


def _places(
    syscall: str | None, pairs: dict[str, str], fields: dict[str, Any]
) -> tuple[str | None, int | None, str | None, int | None]:
    """Source and destination, each address and port."""
    get = pairs.get
    code = get("saddr")
    address = port = None
    if "saddr_fam" in pairs:
        address, port = address_of(get("laddr", "")), _port(get("lport"))
    elif code is not None and code[:4] in _FAMILIES:
        address, port = _sockaddr(code, fields)
    if address is not None:
        if syscall is None:  # a record on its own does not say which side it is
            fields["socket.address"], fields["socket.port"] = address, port
            return None, None, None, None
        inward = syscall in INWARD
        fields["network.direction"] = "ingress" if inward else "egress"
        return (address, port, None, None) if inward else (None, None, address, port)
    stated = get("addr") or get("src") or code or get("faddr")
    source = address_of(stated) if stated is not None else None
    if (host := get("hostname")) is not None:
        if source is None and (source := address_of(host)) is not None:
            pass
        elif host != source and not host.startswith("localhost"):
            fields["source.domain"] = host
    stated = get("dst") or get("daddr") or get("dest") or get("laddr")
    return (
        source,
        _port(get("rport") or get("sport") or get("src_port") or get("fport")),
        address_of(stated) if stated is not None else None,
        _port(get("lport") or get("dport") or get("dest_port")),
    )


def _port(text: str | None) -> int | None:
    if text is None or (number := _number(text)) is None:
        return None
    return number if 0 < number < 65_536 else None


_FAMILIES = frozenset(("0100", "0200", "0A00", "0a00", "0002", "000A"))


def _sockaddr(code: str, fields: dict[str, Any]) -> tuple[str | None, int | None]:
    """Address and port of a hex-coded socket address; the path of a local socket goes to `socket.path`."""
    try:
        data = bytes.fromhex(code[:512])
    except ValueError:
        return None, None
    family = data[0] or data[1]
    if family == 2 and len(data) >= 8:
        return ".".join(map(str, data[4:8])), int.from_bytes(data[2:4], "big")
    if family == 10 and len(data) >= 24:
        return address_of(str(ip_address(data[8:24]))), int.from_bytes(data[2:4], "big")
    if family == 1:
        path = data[2:].lstrip(b"\0").partition(b"\0")[0].decode("utf-8", "replace")
        if path:
            fields["socket.path"] = path
    return None, None


def _file(paths: list[dict[str, str]], directory: str | None) -> str | None:
    """The path that the call was about: not the folder it is in; of a renaming, the old name."""
    named = [path for path in paths if "name" in path]
    if not named:
        return None
    path = next((p for p in named if (p.get("nametype") or p.get("objtype")) != "PARENT"), named[0])["name"]
    if path[:1] != "/" and directory is not None and directory[:1] == "/":
        return posixpath.normpath(posixpath.join(directory, path))
    return path


def _outcome(
    meaning: Meaning, pairs: dict[str, str], body: str, fields: dict[str, Any]
) -> tuple[str | None, tuple[str, ...]]:
    stated = pairs.get("res") or pairs.get("success") or pairs.get("result")
    if meaning.kind == "avc":
        found = _AVC.search(body, 0, HEAD_CHARS_MAX)
        if found is not None:
            stated = found[1]
            if found[2]:
                fields["seperms"] = found[2]
        elif (profile := pairs.get("apparmor")) is not None:
            stated = profile.lower()
        if stated is not None and stated.lower() in _SUCCESS | _FAILURE:
            allowed = stated.lower() in _SUCCESS
            return "success" if allowed else "failure", ("allowed",) if allowed else ("denied",)
    low = stated.strip(",)'").lower() if stated is not None else ""
    return "success" if low in _SUCCESS else "failure" if low in _FAILURE else None, meaning.type
