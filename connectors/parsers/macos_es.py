"""macOS Endpoint Security events as `eslogger` writes them: processes, files, logons, persistence, malware found by XProtect."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from connectors import json_log, tolerant_json
from connectors.clock import from_iso
from connectors.envelope import peel
from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import address_of

NAME = "macos_es"
HEAD_CHARS_MAX = 512  # a syslog header before the JSON
ARGUMENTS_MAX = 4096  # of one command line
LEAVES_MAX = 256  # of one event, kept under their own names
LEAF_DEPTH_MAX = 4
NUMBER_MAX = 2**31 - 1  # of a process
INTEGER_BITS = 63


class Meaning(NamedTuple):
    category: tuple[str, ...] = ()
    type: tuple[str, ...] = ("info",)


_PROCESS = ("process",)
_FILE = ("file",)
_AUTH = ("authentication",)
_SESSION = ("session",)
_IAM = ("iam",)
_CONFIG = ("configuration",)
_ACCESS = Meaning(_FILE, ("access",))
_CHANGED = Meaning(_FILE, ("change",))
_CREATED = Meaning(_FILE, ("creation",))
_LOGON = Meaning(_AUTH, ("start",))
_LOGGED_OUT = Meaning(_SESSION, ("end",))
_LOOKED_INTO = Meaning(_PROCESS, ("access",))
_ALTERED = Meaning(_PROCESS, ("change",))
_GROUP = Meaning(_IAM, ("group", "change"))
_USER = Meaning(_IAM, ("user", "change"))

# By the name that stands below `event`.
MEANINGS: dict[str, Meaning] = {
    "exec": Meaning(_PROCESS, ("start",)),
    "fork": Meaning(_PROCESS, ("start",)),
    "exit": Meaning(_PROCESS, ("end",)),
    **dict.fromkeys(
        ("signal", "setuid", "setgid", "seteuid", "setegid", "setreuid", "setregid", "cs_invalidated"), _ALTERED
    ),
    **dict.fromkeys(("chdir", "chroot", "proc_suspend_resume", "mprotect", "remote_thread_create"), _ALTERED),
    **dict.fromkeys(
        ("get_task", "get_task_read", "get_task_inspect", "get_task_name", "trace", "proc_check"), _LOOKED_INTO
    ),
    **dict.fromkeys(
        ("open", "close", "access", "stat", "readlink", "readdir", "lookup", "mmap", "dup", "fcntl"), _ACCESS
    ),
    **dict.fromkeys(
        ("getattrlist", "getextattr", "listextattr", "searchfs", "fsgetpath", "file_provider_materialize"), _ACCESS
    ),
    **dict.fromkeys(
        ("write", "rename", "truncate", "setattrlist", "setextattr", "setflags", "setmode", "setowner"), _CHANGED
    ),
    **dict.fromkeys(("setacl", "utimes", "exchangedata", "deleteextattr", "file_provider_update"), _CHANGED),
    **dict.fromkeys(("create", "clone", "copyfile", "link", "uipc_bind"), _CREATED),
    "unlink": Meaning(_FILE, ("deletion",)),
    "mount": Meaning(_FILE, ("creation",)),
    "remount": Meaning(_FILE, ("change",)),
    "unmount": Meaning(_FILE, ("deletion",)),
    "uipc_connect": Meaning(("network",), ("connection", "start")),
    "xpc_connect": Meaning(_PROCESS, ("info",)),
    "kextload": Meaning(("driver",), ("start",)),
    "kextunload": Meaning(("driver",), ("end",)),
    "iokit_open": Meaning(("driver",), ("access",)),
    "settime": Meaning(("host",), ("change",)),
    **dict.fromkeys(
        ("authentication", "login_login", "openssh_login", "lw_session_login", "screensharing_attach"), _LOGON
    ),
    **dict.fromkeys(("su", "sudo", "lw_session_unlock"), _LOGON),
    **dict.fromkeys(
        ("login_logout", "openssh_logout", "lw_session_logout", "lw_session_lock", "screensharing_detach"), _LOGGED_OUT
    ),
    "authorization_petition": Meaning(_IAM, ("info",)),
    "authorization_judgement": Meaning(_IAM, ("info",)),
    **dict.fromkeys(("od_group_add", "od_group_remove", "od_group_set"), _GROUP),
    **dict.fromkeys(("od_modify_password", "od_disable_user", "od_enable_user"), _USER),
    **dict.fromkeys(("od_attribute_value_add", "od_attribute_value_remove", "od_attribute_set"), _USER),
    "od_create_user": Meaning(_IAM, ("user", "creation")),
    "od_create_group": Meaning(_IAM, ("group", "creation")),
    "od_delete_user": Meaning(_IAM, ("user", "deletion")),
    "od_delete_group": Meaning(_IAM, ("group", "deletion")),
    "btm_launch_item_add": Meaning(_CONFIG, ("creation",)),
    "btm_launch_item_remove": Meaning(_CONFIG, ("deletion",)),
    "profile_add": Meaning(_CONFIG, ("creation",)),
    "profile_remove": Meaning(_CONFIG, ("deletion",)),
    "tcc_modify": Meaning(_CONFIG, ("change",)),
    "gatekeeper_user_override": Meaning(_CONFIG, ("change",)),
    "xp_malware_detected": Meaning(("malware",), ("info",)),
    "xp_malware_remediated": Meaning(("malware",), ("deletion",)),
}
_UNKNOWN = Meaning()

# Where an event names the account that it is about, the first that is there.
_ACCOUNTS = ("username", "authentication_username", "session_username", "from_username", "account_name", "user_name")
_SERVICES = {
    "openssh_login": "ssh",
    "openssh_logout": "ssh",
    "screensharing_attach": "screensharing",
    "screensharing_detach": "screensharing",
    "login_login": "login",
    "lw_session_login": "loginwindow",
    "lw_session_unlock": "loginwindow",
    "authentication": "opendirectory",
    "su": "su",
    "sudo": "sudo",
}
# Where an event names the file that it is about, the first that is there; names of folders and files apart are joined.
_FILES = ("file", "target", "source", "existing_file", "destination", "dir", "file1", "source_dir")
_PATHS = ("executable_path", "detected_path", "remediated_path", "item_url", "target_path", "path")
_NAMES = ("filename", "target_filename", "target_name", "relative_target")
_AUTHENTICATIONS = ("od", "touchid", "token", "auto_unlock")

_GLANCE = json_log.Glance(
    *("process.executable.path", "process.audit_token.pid", "event", "time", "event_type", "hostname"),
    "action.result.result.auth",
)


def sniff(text: str) -> bool:
    begin = 0 if text[:1] == "{" else text.find("{", 0, HEAD_CHARS_MAX)
    return begin >= 0 and '"audit_token"' in text and '"event"' in text and '"signing_id"' in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = 0 if text[:1] == "{" else text.find("{", 0, HEAD_CHARS_MAX)
    if begin < 0:
        raise ParseError("no Endpoint Security event: no JSON object")
    body = text[begin:] if begin else text
    damaged = False
    all_of_it: dict[str, Any] | str = body
    document = _GLANCE.read(body)
    if document is None:
        document, damaged = tolerant_json.decode(body)
        if type(document) is not dict:
            raise ParseError("no Endpoint Security event: no JSON object")
        all_of_it = document
    actor, about = document.get("process"), document.get("event")
    if type(actor) is not dict or type(about) is not dict:
        raise ParseError("no Endpoint Security event: a JSON object without `process` and `event`")
    kind = next((name for name in about if name in MEANINGS), next(iter(about), "unknown"))
    detail = about.get(kind)
    detail = detail if type(detail) is dict else {}
    meaning = MEANINGS.get(kind, _UNKNOWN)
    envelope = peel(text[:begin], origin) if begin else None
    subject, parent = _subject(kind, detail, actor)
    executable = _path(subject, "executable")
    words = _words(detail)
    line = " ".join(words) if words is not None else _text(detail.get("command"))
    address = detail.get("source_address")
    return (
        Event(
            _time(document.get("time"), envelope.timestamp if envelope is not None else None, origin),
            NAME,
            f"{NAME}.{kind if kind.isidentifier() else 'other'}",
            meaning.category,
            meaning.type,
            kind,
            _outcome(detail, document, meaning),
            str(code) if type(code := document.get("event_type")) is int else None,
            host_name=envelope.host if envelope is not None else _text(document.get("hostname")),
            user_name=_user(kind, detail),
            source_ip=address_of(address) if type(address) is str else None,
            process_name=_base(executable),
            process_pid=_pid(subject),
            process_executable=executable,
            process_command_line=line or None,
            process_parent_name=_base(parent),
            file_path=None if kind in ("exec", "fork") else _file(detail),
            service_name=_SERVICES.get(kind),
            fields=Lazy(_fields, all_of_it, kind, meaning, damaged),
        ),
    )


def _subject(kind: str, detail: dict[str, Any], actor: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The process that an event is about, and the executable of the one that began it."""
    target = detail.get("target") if kind == "exec" else detail.get("child") if kind == "fork" else None
    return (target, _path(actor, "executable")) if type(target) is dict else (actor, None)


def _words(detail: dict[str, Any]) -> list[str] | None:
    arguments = detail.get("args") or detail.get("argv")
    if type(arguments) is not list:
        return None
    return [word for word in arguments[:ARGUMENTS_MAX] if type(word) is str]


def _fields(all_of_it: dict[str, Any] | str, kind: str, meaning: Meaning, damaged: bool) -> dict[str, Any]:
    document, damaged = json_log.whole(all_of_it, damaged)
    actor, detail = document["process"], document["event"].get(kind)
    detail = detail if type(detail) is dict else {}
    fields: dict[str, Any] = {}
    if damaged:
        fields["shield.truncated"] = True
    _leaves(detail, fields)
    subject, parent = _subject(kind, detail, actor)
    if subject is actor and type(target := detail.get("target")) is dict and "audit_token" in target:
        _told(target, "Target.process", fields)
    _told(subject, "process", fields)
    if (words := _words(detail)) is not None:
        fields["process.args"] = words
    if type(directory := _path(detail, "cwd")) is str:
        fields["process.working_directory"] = directory
    if parent is not None:
        fields["process.parent.executable"] = parent
    _logon(kind, meaning, detail, fields)
    return fields


def _leaves(detail: dict[str, Any], fields: dict[str, Any]) -> None:
    """The event's own values under their own names; those below under the names that lead there."""
    pending: list[tuple[str, dict[str, Any], int]] = [("", detail, 1)]
    while pending and len(fields) < LEAVES_MAX:
        prefix, level, depth = pending.pop()
        for key, value in level.items():
            name = prefix + key.replace(".", "_")
            if type(value) is dict:
                if key not in ("stat", "audit_token", "env") and depth < LEAF_DEPTH_MAX and "audit_token" not in value:
                    pending.append((name + "_", value, depth + 1))
            elif type(value) is int and value.bit_length() > INTEGER_BITS:
                fields[name] = str(value)
            elif type(value) is not list:
                fields[name] = value


def _told(process: dict[str, Any], prefix: str, fields: dict[str, Any]) -> None:
    """What is said of a process beside its number, name and path."""
    for key, name in (("signing_id", "signing_id"), ("team_id", "team_id"), ("cdhash", "cdhash")):
        if type(value := process.get(key)) is str and value:
            fields[f"{prefix}.code_signature.{name}"] = value
    if type(platform := process.get("is_platform_binary")) is bool:
        fields[f"{prefix}.is_platform_binary"] = platform
    if (parent := _number(process.get("ppid"))) is not None:
        fields[f"{prefix}.parent.pid"] = parent
    token = process.get("audit_token")
    token = token if type(token) is dict else {}
    if prefix == "process":
        real, effective = _number(token.get("ruid")), _number(token.get("euid"))
        login = _number(token.get("auid"))
        if real is not None:
            fields["user.id"] = str(real)
        if effective is not None:
            fields["user.effective.id"] = str(effective)
        if login is not None:
            fields["user.audit.id"] = str(login)
    else:
        fields[f"{prefix}.executable"] = path = _path(process, "executable")
        fields[f"{prefix}.name"] = _base(path)
        fields[f"{prefix}.pid"] = _pid(process)


def _ways(kind: str, detail: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """How somebody was authenticated, and what is said of it."""
    if kind == "authentication" and type(data := detail.get("data")) is dict:
        for way in _AUTHENTICATIONS:
            if type(told := data.get(way)) is dict:
                yield way, told


def _user(kind: str, detail: dict[str, Any]) -> str | None:
    """The account that an event is about."""
    for name in _ACCOUNTS:
        if type(value := detail.get(name)) is str and value:
            return value
    for _, told in _ways(kind, detail):
        for name in ("record_name", "username", "kerberos_principal"):
            if (user := _text(told.get(name))) is not None:
                return user
    return None


def _logon(kind: str, meaning: Meaning, detail: dict[str, Any], fields: dict[str, Any]) -> None:
    """What an event about somebody says beside the account and the address."""
    for way, told in _ways(kind, detail):
        fields["authentication_method"] = way
        if type(instigator := told.get("instigator")) is dict:
            _told(instigator, "Effective_process", fields)
    number = detail.get("uid")
    if meaning in (_LOGON, _LOGGED_OUT) and kind not in ("su", "sudo"):  # of the account, not of the daemon that tells
        number = _number(number.get("uid") if type(number) is dict else number)
        fields.pop("user.id", None)
        if number is not None:
            fields["user.id"] = str(number)
    if type(other := detail.get("to_username")) is str and other:
        fields["user.effective.name"] = other
    if kind.startswith("od_"):
        member = detail.get("member")
        name = member.get("member_value") if type(member) is dict else None
        if type(name) is str:
            fields["user.target.name"] = name
        elif (user := _user(kind, detail)) is not None:
            fields["user.target.name"] = user
        if type(group := detail.get("group_name")) is str:
            fields["group.name"] = group


def _outcome(detail: dict[str, Any], document: dict[str, Any], meaning: Meaning) -> str | None:
    """What the event states of itself; else, for events that asked for leave, whether it was given."""
    if type(success := detail.get("success")) is bool:
        return "success" if success else "failure"
    action = document.get("action")
    result = action.get("result") if type(action) is dict else None
    result = result.get("result") if type(result) is dict else None
    if type(result) is dict and type(auth := result.get("auth")) is int:
        return "failure" if auth else "success"
    return "success" if meaning in (_LOGON, _LOGGED_OUT) else None


def _file(detail: dict[str, Any]) -> str | None:
    for name in _PATHS:
        if type(value := detail.get(name)) is str and value:
            return value.removeprefix("file://")
    item = detail.get("item")
    if type(item) is dict and type(url := item.get("item_url")) is str:
        return url.removeprefix("file://")
    for name in _FILES:
        if type(part := detail.get(name)) is not dict:
            continue
        if type(path := part.get("path")) is str and path:
            own = next((value for key in _NAMES if type(value := detail.get(key)) is str and value), None)
            return f"{path.rstrip('/')}/{own}" if own is not None and name in ("dir", "source_dir") else path
        if name == "destination":  # created or renamed: an existing file, or a name in a folder
            return _path(part, "existing_file") or _new_path(part.get("new_path"))
    statfs = detail.get("statfs")
    if type(statfs) is dict and type(point := statfs.get("f_mntonname")) is str:
        return point
    return None


def _new_path(part: Any) -> str | None:
    if type(part) is not dict or type(name := part.get("filename")) is not str:
        return None
    folder = _path(part, "dir")
    return f"{folder.rstrip('/')}/{name}" if folder else name


def _path(parent: dict[str, Any], name: str) -> str | None:
    part = parent.get(name)
    path = part.get("path") if type(part) is dict else part
    return path if type(path) is str and path else None


def _base(path: str | None) -> str | None:
    return path.rpartition("/")[2] or None if path else None


def _text(value: Any) -> str | None:
    return value if type(value) is str and value else None


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= NUMBER_MAX else None


def _pid(process: dict[str, Any]) -> int | None:
    token = process.get("audit_token")
    return _number(token.get("pid")) if type(token) is dict else None


def _time(stated: Any, enveloped: float | None, origin: Origin) -> float:
    if type(stated) is str:
        if len(stated) == 30 and stated[19] == ".":  # nanoseconds, which the calendar cannot read
            stated = stated[:26] + stated[29:]
        try:
            return from_iso(stated, origin.clock)
        except (ValueError, OverflowError):
            pass
    return origin.received if enveloped is None else enveloped
