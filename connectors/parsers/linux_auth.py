"""Logons and changes of rights on Unix: sshd, sudo, su, PAM of any program, cron, accounts and groups, logind.

Reads what syslog writes to auth.log or secure. Lines of other programs in these files stay events of their own.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from connectors.envelope import Envelope, peel
from connectors.events import Event, Origin, ParseError

NAME = "linux_auth"
PORT_DIGITS_MAX = 5
REPEATS_MAX = 100  # events made of one "message repeated n times" line; a guess in n is still a guess in n

_PROGRAMS = (
    r"(?:sshd(?:-session|-auth)?|sudo|su|CRON|crond?|useradd|userdel|usermod|groupadd|groupdel|groupmod|passwd|chpasswd"
    r"|gpasswd|chage|chfn|login|systemd-logind|dropbear|polkitd|pkexec|unix_chkpwd)"
)
_SNIFF = re.compile(
    rf"(?: |bin/){_PROGRAMS}(?:\(pam_unix\))?(?:\[\d{{1,10}}\])?: |(?:^|>)1 \S{{1,64}} \S{{1,255}} {_PROGRAMS} "
    r"|: pam_\w{1,32}\([\w./-]{1,64}:\w{1,32}\)"
)

_AUTHENTICATION: tuple[str, ...] = ("authentication",)
_LOGON: tuple[str, ...] = ("authentication", "session")
_SESSION: tuple[str, ...] = ("session",)
_PROCESS: tuple[str, ...] = ("process",)
_IAM: tuple[str, ...] = ("iam",)
_NETWORK: tuple[str, ...] = ("network",)
_INFO: tuple[str, ...] = ("info",)
_START: tuple[str, ...] = ("start",)
_END: tuple[str, ...] = ("end",)
_DENIED: tuple[str, ...] = ("denied",)

_ADDRESS = r"([0-9a-fA-F:]{0,39}[.:][0-9a-fA-F.:]{1,39}(?:%\w{1,16})?)"
# The user is greedy: a name made to look like ` from 192.0.2.1 port 22` must not move the address.
_SSH_LOGON = re.compile(
    r"(Accepted|Failed|Postponed|Partial) (\S+) for (?:(invalid|illegal) user )?(.*) from (\S+)(?: port (\d{1,5}))?"
    r"(?: ssh\d)?(?:: (.*?)|(?: .*)?)(?: \[preauth\])?",
    re.DOTALL,
)
_SSH_USUAL = re.compile(  # the same for names without blanks
    r"(Accepted|Failed) (\S++) for (invalid user )?(\S++) from (\S++) port (\d{1,5}) ssh2(?:: (\S++ \S++))?"
)
_SSH_INVALID = re.compile(
    r"(?:Invalid|Illegal) user (.*?) ?from (\S+?)(?: port (\d{1,5}))?(?: \[preauth\])?", re.DOTALL
)
_SSH_ENDED = re.compile(
    r"(Connection closed|Connection reset|Disconnected|Disconnecting|Received disconnect)(?: by| from)?(?: remote host)?"
    r"(?:(?: (?:authenticating|invalid))? user (.*))? " + _ADDRESS + r"(?: port (\d{1,5}))?(?::.*)?(?: .*)?",
    re.DOTALL,
)
_SSH_ATTEMPTS = re.compile(
    r"(?:error: )?maximum authentication attempts exceeded for (?:(?:invalid|illegal) user )?(.*) from (\S+)"
    r"(?: port (\d{1,5}))?.*",
    re.DOTALL,
)
_SSH_TOO_MANY = re.compile(
    r"Disconnecting:? (?:.{0,256} )?Too many authentication failures(?: for (?:(?:invalid|illegal) user )?(.*?)"
    r"(?: from (\S+)(?: port (\d{1,5}))?)?)?(?: ssh\d)?(?: \[preauth\])?",
    re.DOTALL,
)
_SSH_PAM = re.compile(
    r"error: PAM: (.{0,128}?) for (?:(?:invalid|illegal) user )?(.*) from (\S+)(?: via .*)?", re.DOTALL
)
_SSH_REFUSED_USER = re.compile(r"User (.*) from (\S+) not allowed because (.*)", re.DOTALL)
_SSH_SHELL = re.compile(r"(?:Starting|Close) session: (.*) for (\S+) from (\S+) port (\d{1,5}).*", re.DOTALL)
_SSH_USER = re.compile(r"(?:(?:invalid|illegal) user|by user|session opened for local user) ([^\s,]{1,256})")
_SSH_SCAN = (
    "Did not receive identification",
    "Bad protocol version",
    "Unable to negotiate",
    "fatal: Unable to negotiate",
    "banner exchange",
    "error: kex_exchange_identification",
    "kex_exchange_identification",
    "refused connect",
    "reverse mapping",
    "Address ",
    "Nasty PTR",
    "drop connection",
    "fatal: Timeout",
    "Timeout before",
    "error: beginning MaxStartups",
    "scanned from",
)
_PLACE = re.compile(
    r"(?:\b(?:from|by|with|for|host) \[?|\[|\()" + _ADDRESS + r"(?:\]|\b)(?:(?: port |(?<=\]):)(\d{1,5}))?"
)

_PAM = re.compile(r"(pam_\w{1,32})(?:\(([^():]{0,64})(?::(\w{1,32}))?\))?: ?(.*)", re.DOTALL)
_SESSION_CHANGE = re.compile(
    r"session (opened|closed) for user (.{0,256}?)(?:\(uid=(\d{1,10})\))?(?: by (.{0,256}?)(?:\(uid=(\d{1,10})\))?)?"
)
_PAM_SESSION = re.compile(  # as `_PAM` and `_SESSION_CHANGE` read it, for names without blanks and brackets
    r"(pam_\w{1,32})\(([^():]{1,64}):(\w{1,32})\): session (opened|closed) for user ([^\s()]++)(?:\(uid=(\d{1,10})\))?"
    r"(?: by ([^\s()]*+)\(uid=(\d{1,10})\))?"
)
_PAM_PAIR = re.compile(r"\b(logname|uid|euid|tty|ruser|rhost|user)=(\S*)")
_QUOTED_USER = re.compile(r"""\b[Uu]ser(?: name)?[ =:]+(?:['"<(\[]([^'">)\]]{1,256})|([^\s'",;:]{1,256}))""")
_FOR = re.compile(r"\bfor (?:user )?'?([^\s']{1,256})")

_SU = (
    (re.compile(r"(?:pam_authenticate: .*|)(FAILED SU |BAD SU |)\(to (\S+)\) (\S*) on (\S+)"), (2, 3, 4)),
    (re.compile(r"(Successful|FAILED) su for (\S+) by (\S+)"), (2, 3, 0)),
    (re.compile(r"('su) (\S+?)' failed for (\S+)(?: on (\S+))?"), (2, 3, 4)),
    (re.compile(r"('su) (\S+?)' succeeded for (\S+)(?: on (\S+))?"), (2, 3, 4)),
    (re.compile(r"([+-]) (?P<tty>\S+) (?P<by>[^\s:-]+)[:-](?P<to>\S+)"), (4, 3, 2)),
    (re.compile(r"(BAD SU) (?P<by>\S+) to (?P<to>\S+) on (?P<tty>\S+)"), (3, 2, 4)),
    (re.compile(r"()(?P<by>\S+) to (?P<to>\S+) on (?P<tty>/dev/\S+)"), (3, 2, 4)),
)
_SU_FAILED = ("FAILED", "BAD SU", "-")
_CRON_OTHER = re.compile(r"\(([^()]{1,256})\) ([A-Z][A-Z ]{1,40})(?: \((.*)\))?", re.DOTALL)
_PAIR = re.compile(r"(\w{1,16})=([^,]*)")
_QUOTED = re.compile(r"['`]([^'`]{0,256})'")
_LOGIND = re.compile(r"New session (\S+) of user (.*?)\.?(?: of .*)?")
_LOGIND_END = re.compile(r"(?:Removed session|Session) ([^\s.]+)(?: logged out)?.*", re.DOTALL)
_LOGIN_FAILED = re.compile(r"FAILED LOGIN (?:SESSION )?.*?(?:\bFROM (\S+) )?FOR '?([^',]*)'?.*")
_LOGIN_DONE = re.compile(r"(?:(ROOT) )?LOGIN +(?:ON|on) '?(\S+?)'?(?: (?:BY|by) '?(\S+?)'?)?(?: (?:FROM|from) (\S+))?")
_DROPBEAR = re.compile(
    r"(?:(PAM |Password |Pubkey )auth succeeded|Bad (?:PAM )?password attempt|Login attempt)"
    r" (?:for|by) (?:nonexistent user|a? ?nonexistent user|'(.*)')(?: with (?:\w+ )?key .*)? from (\S+?):(\d{1,5})",
)
_REPEATED = re.compile(r"message repeated (\d{1,9}) times: \[ ?(.*)\]", re.DOTALL)
_NUMERIC_ADDRESS = re.compile(_ADDRESS)


def sniff(text: str) -> bool:
    tag = _SNIFF.search(text, 0, 256)
    # Not behind another program's tag: `kernel: su[12]: segfault`, `dovecot: login: ...`.
    return tag is not None and text.find(": ", 0, tag.start()) < 0


def parse(text: str, origin: Origin) -> Sequence[Event]:
    envelope = peel(text, origin)
    app = envelope.app
    if app is None:
        if not envelope.recognised:
            raise ParseError("no syslog header")
        return (_other(envelope, origin.received if envelope.timestamp is None else envelope.timestamp, None),)
    at = envelope.timestamp
    if at is None:
        at = origin.received
    message = envelope.message
    if message[:8] == "message " and message.startswith("message repeated "):
        repeated = _REPEATED.fullmatch(message)
        if repeated is not None:
            return (told(envelope, at, app, repeated[2]),) * max(1, min(int(repeated[1]), REPEATS_MAX))
    return (told(envelope, at, app, message),)


def told(envelope: Envelope, at: float, app: str, message: str) -> Event:
    """The event of a message, by the program that wrote it."""
    if message[:4] == "pam_":
        found = _pam(envelope, at, app, message)
    elif (reader := _READERS.get(app)) is not None:
        found = reader(envelope, at, message)
    elif app.endswith("(pam_unix)"):  # before Linux-PAM 0.99: sshd(pam_unix)[1234]: ...
        app = app[:-10]
        found = _pam(envelope, at, app, f"pam_unix({app}): {message}")
    else:
        reader = _READERS.get(app.rpartition("/")[2].lower())
        found = reader(envelope, at, message) if reader is not None else None
    return found if found is not None else _other(envelope, at, app)


def _other(envelope: Envelope, at: float, app: str | None) -> Event:
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset=f"linux_auth.{_KINDS.get(app, 'other')}" if app is not None else "linux_auth.other",
        event_type=_INFO,
        message=envelope.message,
        host_name=envelope.host,
        process_name=app,
        process_pid=envelope.pid,
        service_name="ssh" if app in _SSH_APPS else None,
    )


_SSH_APPS = frozenset({"sshd", "sshd-session", "sshd-auth"})


def _sshd(envelope: Envelope, at: float, message: str) -> Event | None:
    first = message[:6]
    if first in _SSH_LOGON_STARTS:
        logon = _logon(message)
        if logon is not None:
            word, method, invalid, user, address, port, signature = logon
            fields: dict[str, Any] = {"system.auth.ssh.event": word, "system.auth.ssh.method": method}
            if signature:
                fields["system.auth.ssh.signature"] = signature
            if invalid:
                fields["system.auth.ssh.invalid_user"] = True
            accepted = word == "Accepted"
            if not _is_numeric(address):
                _address(address, fields)
                address = None
            return Event(
                at,
                NAME,
                event_dataset="linux_auth.sshd",
                event_category=_LOGON if accepted else _AUTHENTICATION,
                event_type=_INFO,
                event_action="ssh_login",
                event_outcome="success" if accepted else "failure" if word == "Failed" else "unknown",
                message=message,
                host_name=envelope.host,
                user_name=user or None,
                source_ip=address,
                source_port=int(port) if port is not None else None,
                process_name=envelope.app,
                process_pid=envelope.pid,
                service_name="ssh",
                fields=fields,
            )
    return _sshd_refusal(envelope, at, message, first) or _sshd_connection(envelope, at, message)


def _logon(message: str) -> tuple[str | Any, ...] | None:
    """Word, method, `invalid`, user, address, port and key; by splits where the line ends as it nearly always does."""
    usual = _SSH_USUAL.fullmatch(message)
    if usual is not None:
        return usual.groups()
    head, _, place = message.rpartition(" from ")
    said = head.split(" ", 3)
    where = place.split(" ", 4)
    plain = len(said) == 4 and said[2] == "for" and len(where) >= 4 and where[1] == "port"
    if plain and where[2].isdecimal() and len(where[2]) <= PORT_DIGITS_MAX:
        user, invalid = said[3], None
        if user.startswith(("invalid user ", "illegal user ")):
            user, invalid = user[13:], user[:7]
        if where[3] == "ssh2" and (len(where) == 4 or where[4] == "[preauth]"):
            return said[0], said[1], invalid, user, where[0], where[2], None
        if where[3] == "ssh2:":
            return said[0], said[1], invalid, user, where[0], where[2], place.partition(": ")[2]
    match = _SSH_LOGON.fullmatch(message)
    return match.groups() if match is not None else None


_SSH_LOGON_STARTS = frozenset({"Accept", "Failed", "Postpo", "Partia"})


def _sshd_refusal(envelope: Envelope, at: float, message: str, first: str) -> Event | None:
    """Logons that failed in other words than `Failed`."""
    word, reason = "", None
    user: str | None
    address: str | None
    port: str | None = None
    if first in {"Invali", "Illega"}:
        match = _SSH_INVALID.fullmatch(message)
        if match is None:
            return None
        word = "Invalid"
        user, address, port = match.groups()
    elif first == "error:" and (match := _SSH_PAM.fullmatch(message)) is not None:
        word = "Failed"
        reason, user, address = match.groups()
    elif first in {"error:", "maximu"} and (match := _SSH_ATTEMPTS.fullmatch(message)) is not None:
        word, reason = "Failed", "maximum authentication attempts exceeded"
        user, address, port = match.groups()
    elif first == "Discon" and (match := _SSH_TOO_MANY.fullmatch(message)) is not None:
        word, reason = "Failed", "too many authentication failures"
        user, address, port = match.groups()
        ended = _SSH_ENDED.fullmatch(message)
        if user is None and ended is not None:
            user, address, port = ended.group(2, 3, 4)
    elif first == "User r" or (first[:5] == "User " and " not allowed because " in message):
        match = _SSH_REFUSED_USER.fullmatch(message)
        if match is None:
            return None
        word = "Failed"
        user, address, reason = match.groups()
    elif message.startswith("PAM ") and "authentication failure" in message:
        return _pam(envelope, at, "sshd", f"pam_unix(sshd:auth): {message}")
    else:
        return None
    fields: dict[str, Any] = {"system.auth.ssh.event": word}
    if reason:
        fields["event.reason"] = reason
    return Event(
        at,
        NAME,
        event_dataset="linux_auth.sshd",
        event_category=_AUTHENTICATION,
        event_type=_INFO,
        event_action="ssh_login",
        event_outcome="failure",
        message=message,
        host_name=envelope.host,
        user_name=user or None,
        source_ip=_address(address, fields) if address else None,
        source_port=int(port) if port else None,
        process_name=envelope.app,
        process_pid=envelope.pid,
        service_name="ssh",
        fields=fields,
    )


def _sshd_connection(envelope: Envelope, at: float, message: str) -> Event | None:
    """Connections without a logon: ended, refused, probed."""
    fields: dict[str, Any] = {}
    user = None
    ended = _SSH_ENDED.match(message) if message[:4] in {"Conn", "Disc", "Rece"} else None
    if ended is not None:
        _, user, address, port = ended.groups()
        action, kind, category = "ssh_disconnect", _END, _SESSION
    elif message.startswith(("Starting session", "Close session")) and (shell := _SSH_SHELL.fullmatch(message)):
        fields["system.auth.ssh.session"] = shell[1]
        _, user, address, port = shell.groups()
        starts = message[0] == "S"
        action, kind, category = "ssh_session", _START if starts else _END, _SESSION
    else:
        place = _PLACE.search(message)
        named = _SSH_USER.search(message)
        if named is not None:
            user = named[1]
        elif place is None:
            return None
        address, port = place.groups() if place is not None else (None, None)
        scan = message.startswith(_SSH_SCAN)
        if message.startswith("Did not receive identification"):
            fields["system.auth.ssh.dropped_ip"] = address
        action, category = "ssh_scan" if scan else "ssh_connection", _NETWORK
        kind = _START if message.startswith("Connection from ") else _INFO
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="linux_auth.sshd",
        event_category=category,
        event_type=kind,
        event_action=action,
        message=message,
        host_name=envelope.host,
        user_name=user or None,
        source_ip=address,
        source_port=int(port) if port else None,
        process_name=envelope.app,
        process_pid=envelope.pid,
        service_name="ssh",
        fields=fields,
    )


@lru_cache(maxsize=16_384)
def _is_numeric(text: str) -> bool:
    return (text.count(".") == 3 and text[0].isdecimal() and text[-1].isdecimal()) or _NUMERIC_ADDRESS.fullmatch(
        text
    ) is not None


def _address(text: str, fields: dict[str, Any]) -> str | None:
    """The address, or None for a host name, which then stands in `source.domain`."""
    if _is_numeric(text):
        return text
    if text != "UNKNOWN":
        fields["source.domain"] = text
    return None


def _sudo(envelope: Envelope, at: float, message: str) -> Event | None:
    usual = _SUDO_USUAL.fullmatch(message)
    if usual is not None:
        user, tty, directory, target, command = usual.groups()
        return Event(
            timestamp=at,
            event_module=NAME,
            event_dataset="linux_auth.sudo",
            event_category=_PROCESS,
            event_type=_START,
            event_action="sudo_command",
            event_outcome="success",
            message=message,
            host_name=envelope.host,
            user_name=user,
            process_name=envelope.app,
            process_pid=envelope.pid,
            process_command_line=command,
            fields={
                "system.auth.sudo.tty": tty,
                "system.auth.sudo.pwd": directory,
                "system.auth.sudo.user": target,
                "user.effective.name": target,
                "system.auth.sudo.command": command,
            },
        )
    return _sudo_generally(envelope, at, message)


_SUDO_USUAL = re.compile(r" *+(\S++) : TTY=([^\s;=]++) ; PWD=([^\s;=]++) ; USER=([^\s;=]++) ; COMMAND=(.*)", re.DOTALL)


def _sudo_generally(envelope: Envelope, at: float, message: str) -> Event | None:
    user, colon, rest = message.partition(" : ")
    before, found, command = rest.partition("COMMAND=")
    if not colon or not (found or "TTY=" in before or rest.startswith("(command continued)")):
        return None
    fields: dict[str, Any] = {}
    target = error = None
    for part in before.split(" ; "):
        name, equals, value = part.partition("=")
        if not equals:
            if name.strip():
                error = name.strip()
        elif name == "USER":
            target = value.strip(" ;")
        elif name in _SUDO_FIELDS:
            fields[_SUDO_FIELDS[name]] = value.strip(" ;")
    if target:
        fields["system.auth.sudo.user"] = fields["user.effective.name"] = target
    if error and not error.startswith("(command continued)"):
        fields["system.auth.sudo.error"] = fields["event.reason"] = error
    if found:
        fields["system.auth.sudo.command"] = command
    continued = error is not None and error.startswith("(command continued)")
    refused = error is not None and not continued
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="linux_auth.sudo",
        event_category=_PROCESS,
        event_type=_DENIED if refused else _INFO if continued else _START,
        event_action="sudo_command" if not continued else None,
        event_outcome="failure" if refused else "success",
        message=message,
        host_name=envelope.host,
        user_name=user.strip(),
        process_name=envelope.app,
        process_pid=envelope.pid,
        process_command_line=command if found else None,
        fields=fields,
    )


_SUDO_FIELDS = {
    "TTY": "system.auth.sudo.tty",
    "PWD": "system.auth.sudo.pwd",
    "GROUP": "system.auth.sudo.group",
    "CHROOT": "system.auth.sudo.chroot",
    "TSID": "system.auth.sudo.session",
    "ENV": "system.auth.sudo.env",
}


def _pam(envelope: Envelope, at: float, app: str, message: str) -> Event | None:
    if " session " in message and (usual := _PAM_SESSION.fullmatch(message)) is not None:
        return _pam_session(envelope, at, app, usual.groups())
    return _pam_generally(envelope, at, app, message)


def _pam_session(envelope: Envelope, at: float, app: str, found: tuple[str | Any, ...]) -> Event:
    """The short way for sessions, which are most of what PAM says."""
    module, service, stage, opened, user, uid, by, by_uid = found
    fields: dict[str, Any] = {
        "system.auth.pam.module": module,
        "system.auth.pam.service": service,
        "system.auth.pam.stage": stage,
        "user.effective.name": user,
    }
    if uid is not None:
        fields["user.effective.id"] = uid
    if by_uid is not None:
        fields["system.auth.pam.by_uid"] = by_uid
    begins = opened == "opened"
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="linux_auth.pam",
        event_category=_SESSION,
        event_type=_START if begins else _END,
        event_action="session_opened" if begins else "session_closed",
        event_outcome="success",
        message=envelope.message,
        host_name=envelope.host,
        user_name=by if by and by != "LOGIN" else user,
        process_name=app,
        process_pid=envelope.pid,
        service_name="ssh" if app in _SSH_APPS else None,
        fields=fields,
    )


def _pam_generally(envelope: Envelope, at: float, app: str, message: str) -> Event | None:
    head = _PAM.fullmatch(message)
    if head is None:
        return None
    module, service, stage, said = head.groups()
    fields: dict[str, Any] = {"system.auth.pam.module": module}
    if service:
        fields["system.auth.pam.service"] = service
    if stage:
        fields["system.auth.pam.stage"] = stage
    user = source = outcome = None
    action, category, kind = "pam", _AUTHENTICATION, _INFO
    if said.startswith("session "):
        change = _SESSION_CHANGE.fullmatch(said)
        if change is not None:
            opened, user, uid, by, by_uid = change.groups()
            fields["user.effective.name"] = user
            category, outcome = _SESSION, "success"
            action, kind = ("session_opened", _START) if opened == "opened" else ("session_closed", _END)
            if uid is not None:
                fields["user.effective.id"] = uid
            if by and by != "LOGIN":  # who acts is the user, as whom is the effective user
                user = by
            if by_uid is not None:
                fields["system.auth.pam.by_uid"] = by_uid
    elif "authentication failure" in said or "authentication success" in said:
        action, outcome = "authentication", "failure" if "authentication failure" in said else "success"
        for name, value in _PAM_PAIR.findall(said):
            if not value:
                continue
            if name == "user":
                user = value
            elif name == "rhost":
                source = _address(value, fields)
            else:
                fields["system.auth.pam." + name] = value
    elif stage == "chauthtok" and (target := _FOR.search(said)) is not None:
        user = target[1]
        category, action, kind = (
            _IAM,
            "password_changed" if "changed" in said else "password_change",
            ("user", "change"),
        )
        outcome = "success" if "password changed" in said else "failure" if "fail" in said else None
    else:
        named = _QUOTED_USER.search(said)
        if named is not None:
            user = named[1] or named[2]
            if user == "unknown":
                user = None
        if "not met" in said or "fail" in said or "denied" in said or "locked" in said or said.startswith("check pass"):
            action, outcome = "authentication", "failure"
        elif "granted access" in said or "success" in said:
            action, outcome = "authentication", "success"
    ssh = app in _SSH_APPS
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="linux_auth.pam",
        event_category=category,
        event_type=kind,
        event_action=action,
        event_outcome=outcome,
        message=envelope.message,
        host_name=envelope.host,
        user_name=user or None,
        source_ip=source,
        process_name=app,
        process_pid=envelope.pid,
        service_name="ssh" if ssh else None,
        fields=fields,
    )


def _su(envelope: Envelope, at: float, message: str) -> Event | None:
    for pattern, (to, by, tty) in _SU:
        match = pattern.fullmatch(message)
        if match is None:
            continue
        fields: dict[str, Any] = {"user.effective.name": match[to]}
        if tty and match[tty]:
            fields["system.auth.su.tty"] = match[tty]
        failed = (match[1] or "").startswith(_SU_FAILED) or " failed " in message
        return Event(
            timestamp=at,
            event_module=NAME,
            event_dataset="linux_auth.su",
            event_category=_LOGON if not failed else _AUTHENTICATION,
            event_type=_START if not failed else _INFO,
            event_action="su",
            event_outcome="failure" if failed else "success",
            message=message,
            host_name=envelope.host,
            user_name=match[by] or None,
            process_name=envelope.app,
            process_pid=envelope.pid,
            fields=fields,
        )
    return None


def _cron(envelope: Envelope, at: float, message: str) -> Event | None:
    user, parted, command = message.partition(") CMD (")
    if (
        parted
        and message[0] == "("
        and message[-1] == ")"
        and 1 < len(user) <= 257
        and user.find("(", 1) < 0
        and ")" not in user
    ):
        return Event(
            timestamp=at,
            event_module=NAME,
            event_dataset="linux_auth.cron",
            event_category=_PROCESS,
            event_type=_START,
            event_action="cron_command",
            message=message,
            host_name=envelope.host,
            user_name=user[1:],
            process_name=envelope.app,
            process_pid=envelope.pid,
            process_command_line=command[:-1].strip(),
        )
    other = _CRON_OTHER.fullmatch(message)
    if other is None:
        return None
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="linux_auth.cron",
        event_type=_INFO,
        event_action="cron_" + other[2].strip().lower().replace(" ", "_"),
        message=message,
        host_name=envelope.host,
        user_name=other[1],
        process_name=envelope.app,
        process_pid=envelope.pid,
    )


def _accounts(envelope: Envelope, at: float, message: str) -> Event | None:
    """useradd, usermod, passwd and their kin: who or which group was created, changed or deleted."""
    fields: dict[str, Any] = {}
    program = (envelope.app or "").rpartition("/")[2]
    user = None
    start = message[:10]
    about_group = start.startswith(("new group", "group ")) or program.startswith("group")
    if start.startswith("new user"):
        kind, action = ("user", "creation"), "added-user-account"
    elif start.startswith("new group") or (about_group and " added " in message):
        kind, action = ("group", "creation"), "added-group-account"
    elif program in {"userdel", "groupdel"} or "delete" in start or "remove" in start:
        kind, action = ("group", "deletion"), "deleted-group-account"
        if program == "userdel" and "group" not in message:
            kind, action = ("user", "deletion"), "deleted-user-account"
    elif " to group " in message or " to shadow group " in message:
        kind, action = ("group", "change"), "added-user-to-group"
    elif "password" in message and program in {"passwd", "usermod", "chpasswd"}:
        kind, action = ("user", "change"), "changed-password"
    else:
        kind, action = ("group" if about_group else "user", "change"), f"{program}-change"
    quoted = _QUOTED.findall(message)
    for name, value in _PAIR.findall(message):
        target = _ACCOUNT_FIELDS.get(name)
        if name == "name" and kind[0] == "user":
            user = value
        elif name == "name":
            fields["group.name"] = value
        elif target is not None:
            fields[target] = value
    if quoted:
        to_group = " group " in message and len(quoted) > 1
        if to_group:
            user, fields["group.name"] = quoted[0], quoted[1]
        elif kind[0] == "group" and "group.name" not in fields:
            fields["group.name"] = quoted[0]
        elif user is None:
            user = quoted[0]
    elif user is None and kind[0] == "user" and (target_user := _FOR.search(message)) is not None:
        user = target_user[1]
    failed = "fail" in message or "cannot" in message
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset=f"linux_auth.{program}",
        event_category=_IAM,
        event_type=kind,
        event_action=action,
        event_outcome="failure" if failed else "success",
        message=message,
        host_name=envelope.host,
        user_name=user,
        process_name=envelope.app,
        process_pid=envelope.pid,
        fields=fields,
    )


_ACCOUNT_FIELDS = {
    "UID": "user.id",
    "GID": "group.id",
    "home": "system.auth.useradd.home",
    "shell": "system.auth.useradd.shell",
    "from": "system.auth.useradd.from",
}


def _login(envelope: Envelope, at: float, message: str) -> Event | None:
    fields: dict[str, Any] = {}
    failed = _LOGIN_FAILED.fullmatch(message)
    if failed is not None:
        address, user = failed.groups()
        if user == "UNKNOWN":
            user = None
    else:
        done = _LOGIN_DONE.fullmatch(message)
        if done is None:
            return None
        root, fields["system.auth.login.tty"], user, address = done.groups()
        user = user or ("root" if root else None)
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="linux_auth.login",
        event_category=_AUTHENTICATION if failed else _LOGON,
        event_type=_INFO if failed else _START,
        event_action="logon",
        event_outcome="failure" if failed else "success",
        message=message,
        host_name=envelope.host,
        user_name=user or None,
        source_ip=_address(address, fields) if address else None,
        process_name=envelope.app,
        process_pid=envelope.pid,
        service_name="login",
        fields=fields,
    )


def _logind(envelope: Envelope, at: float, message: str) -> Event | None:
    opened = _LOGIND.fullmatch(message)
    ended = _LOGIND_END.fullmatch(message) if opened is None else None
    session = opened or ended
    if session is None:
        return None
    return Event(
        timestamp=at,
        event_module=NAME,
        event_dataset="linux_auth.logind",
        event_category=_SESSION,
        event_type=_START if opened else _END,
        event_action="session_opened" if opened else "session_closed",
        event_outcome="success",
        message=message,
        host_name=envelope.host,
        user_name=opened[2] if opened else None,
        process_name=envelope.app,
        process_pid=envelope.pid,
        fields={"system.auth.session.id": session[1]},
    )


def _dropbear(envelope: Envelope, at: float, message: str) -> Event | None:
    logon = _DROPBEAR.match(message)
    if logon is None:
        return None
    method, user, address, port = logon.groups()
    fields: dict[str, Any] = {}
    if method:
        fields["system.auth.ssh.method"] = "publickey" if method == "Pubkey " else "password"
    return Event(
        at,
        NAME,
        event_dataset="linux_auth.dropbear",
        event_category=_LOGON if method else _AUTHENTICATION,
        event_type=_INFO,
        event_action="ssh_login",
        event_outcome="success" if method else "failure",
        message=message,
        host_name=envelope.host,
        user_name=user,
        source_ip=_address(address, fields),
        source_port=int(port),
        process_name=envelope.app,
        process_pid=envelope.pid,
        service_name="ssh",
        fields=fields,
    )


_ACCOUNT_PROGRAMS = [
    "useradd",
    "adduser",
    "userdel",
    "deluser",
    "usermod",
    "groupadd",
    "addgroup",
    "groupdel",
    "delgroup",
]
_ACCOUNT_PROGRAMS += ["groupmod", "passwd", "chpasswd", "gpasswd", "chage", "chfn", "chsh"]
_Reader = Callable[[Envelope, float, str], Event | None]
_READERS: dict[str, _Reader] = dict.fromkeys(_ACCOUNT_PROGRAMS, _accounts)
_READERS |= {
    "sshd": _sshd,
    "sshd-session": _sshd,
    "sshd-auth": _sshd,
    "sudo": _sudo,
    "su": _su,
    "cron": _cron,
    "crond": _cron,
    "anacron": _cron,
    "login": _login,
    "systemd-logind": _logind,
    "dropbear": _dropbear,
}
_KINDS = {
    "sshd": "sshd",
    "sshd-session": "sshd",
    "sshd-auth": "sshd",
    "sudo": "sudo",
    "su": "su",
    "cron": "cron",
    "CRON": "cron",
    "crond": "cron",
    "login": "login",
    "systemd-logind": "logind",
    "dropbear": "dropbear",
} | {name: name for name in _ACCOUNT_PROGRAMS}
