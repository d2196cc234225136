"""What the records and system calls of the Linux audit log mean: dataset, action, ECS category and type, and numbers.

System calls are numbers of the architecture in a record; the names here are those of the kernel's own headers.
"""

from typing import NamedTuple


class Meaning(NamedTuple):
    kind: str  # of event.dataset: auditd.<kind>
    action: str
    category: tuple[str, ...] = ()
    type: tuple[str, ...] = ("info",)


_INFO = ("info",)
_START = ("start",)
_END = ("end",)
_CHANGE = ("change",)
_CREATION = ("creation",)
_DELETION = ("deletion",)
_AUTHENTICATION = ("authentication",)
_SESSION = ("session",)
_PROCESS = ("process",)
_HOST = ("host",)
_CONFIGURATION = ("configuration",)
_FILE = ("file",)
_NETWORK = ("network",)
_DRIVER = ("driver",)
_DETECTION = ("intrusion_detection",)
_CONNECTION = ("connection", "start")


def _iam(action: str, *types: str) -> Meaning:
    return Meaning("iam", action, ("iam",), types)


def _anomaly(action: str, category: tuple[str, ...] = _DETECTION, kind: tuple[str, ...] = _INFO) -> Meaning:
    return Meaning("anomaly", action, category, kind)


# Only what decides whether somebody gets in is authentication. Credentials, accounting and the kernel's LOGIN come with
# every logon and every cron job besides; as logons they would count each one four times.
RECORDS: dict[str, Meaning] = {
    "USER_LOGIN": Meaning("auth", "logged-in", _AUTHENTICATION, _START),
    "USER_AUTH": Meaning("auth", "authenticated", _AUTHENTICATION, _START),
    "GRP_AUTH": Meaning("auth", "authenticated-to-group", _AUTHENTICATION, _START),
    "USER_ERR": Meaning("auth", "error", _AUTHENTICATION, _INFO),
    "USER_ACCT": Meaning("session", "was-authorized", _SESSION, _INFO),
    "CRED_ACQ": Meaning("session", "acquired-credentials", _SESSION, _INFO),
    "CRED_DISP": Meaning("session", "disposed-credentials", _SESSION, _INFO),
    "CRED_REFR": Meaning("session", "refreshed-credentials", _SESSION, _INFO),
    "LOGIN": Meaning("session", "changed-login-id-to", _SESSION, _START),
    "USER_START": Meaning("session", "started-session", _SESSION, _START),
    "USER_END": Meaning("session", "ended-session", _SESSION, _END),
    "USER_LOGOUT": Meaning("session", "logged-out", _SESSION, _END),
    "USER_ROLE_CHANGE": Meaning("session", "changed-role-to", _SESSION, _INFO),
    "ACCT_LOCK": _iam("locked-account", "user", "change"),
    "ACCT_UNLOCK": _iam("unlocked-account", "user", "change"),
    "ADD_USER": _iam("added-user-account", "user", "creation"),
    "DEL_USER": _iam("deleted-user-account", "user", "deletion"),
    "ADD_GROUP": _iam("added-group-account-to", "group", "creation"),
    "DEL_GROUP": _iam("deleted-group-account-from", "group", "deletion"),
    "GRP_MGMT": _iam("modified-group-account", "group", "change"),
    "USER_MGMT": _iam("modified-user-account", "user", "change"),
    "USER_CHAUTHTOK": _iam("changed-password", "user", "change"),
    "GRP_CHAUTHTOK": _iam("changed-group-password", "group", "change"),
    "ROLE_ASSIGN": _iam("assigned-user-role-to", "user", "change"),
    "ROLE_REMOVE": _iam("removed-user-role-from", "user", "change"),
    "ROLE_MODIFY": _iam("modified-role", "change"),
    "USER_CMD": Meaning("command", "ran-command", _PROCESS, _START),
    "TTY": Meaning("tty", "typed", _PROCESS, _INFO),
    "USER_TTY": Meaning("tty", "typed", _PROCESS, _INFO),
    "SERVICE_START": Meaning("service", "started-service", _PROCESS, _START),
    "SERVICE_STOP": Meaning("service", "stopped-service", _PROCESS, _END),
    "SYSTEM_BOOT": Meaning("host", "booted-system", _HOST, _START),
    "SYSTEM_SHUTDOWN": Meaning("host", "shutdown-system", _HOST, _END),
    "SYSTEM_RUNLEVEL": Meaning("host", "changed-to-runlevel", _HOST, _CHANGE),
    "SOFTWARE_UPDATE": Meaning("package", "package-updated", ("package",), _CHANGE),
    "CONFIG_CHANGE": Meaning("config", "changed-audit-configuration", _CONFIGURATION, _CHANGE),
    "FEATURE_CHANGE": Meaning("config", "changed-audit-feature", _CONFIGURATION, _CHANGE),
    "NETFILTER_CFG": Meaning("config", "loaded-firewall-rule-to", _CONFIGURATION, _CHANGE),
    "USYS_CONFIG": Meaning("config", "changed-configuration", _CONFIGURATION, _CHANGE),
    "MAC_STATUS": Meaning("config", "changed-selinux-enforcement", _CONFIGURATION, _CHANGE),
    "MAC_CONFIG_CHANGE": Meaning("config", "changed-selinux-boolean", _CONFIGURATION, _CHANGE),
    "MAC_POLICY_LOAD": Meaning("config", "loaded-selinux-policy", _CONFIGURATION, _CHANGE),
    "USER_MAC_CONFIG_CHANGE": Meaning("config", "changed-mac-configuration", _CONFIGURATION, _CHANGE),
    "USER_MAC_POLICY_LOAD": Meaning("config", "loaded-mac-policy", _CONFIGURATION, _CHANGE),
    "FS_RELABEL": Meaning("config", "relabeled-filesystem", _CONFIGURATION, _CHANGE),
    "TIME_INJOFFSET": Meaning("config", "changed-system-time", _HOST, _CHANGE),
    "TIME_ADJNTPVAL": Meaning("config", "changed-system-time", _HOST, _CHANGE),
    "DAEMON_START": Meaning("daemon", "started-audit", _PROCESS, _START),
    "DAEMON_END": Meaning("daemon", "shutdown-audit", _PROCESS, _END),
    "DAEMON_ABORT": Meaning("daemon", "aborted-auditd-startup", _PROCESS, _END),
    "DAEMON_CONFIG": Meaning("daemon", "changed-auditd-configuration", _CONFIGURATION, _CHANGE),
    "DAEMON_RECONFIG": Meaning("daemon", "reconfigured-auditd", _CONFIGURATION, _CHANGE),
    "DAEMON_RESUME": Meaning("daemon", "resumed-audit-logging", _PROCESS, _CHANGE),
    "DAEMON_ROTATE": Meaning("daemon", "rotated-audit-logs", _PROCESS, _CHANGE),
    "DAEMON_ACCEPT": Meaning("daemon", "remote-audit-connected", _NETWORK, _CONNECTION),
    "DAEMON_CLOSE": Meaning("daemon", "remote-audit-disconnected", _NETWORK, ("connection", "end")),
    "DAEMON_ERR": Meaning("daemon", "audit-error", _PROCESS, ("error",)),
    "KERNEL": Meaning("daemon", "initialized-audit-subsystem", _PROCESS, _INFO),
    "CRYPTO_KEY_USER": Meaning("crypto", "negotiated-crypto-key", _SESSION, _INFO),
    "CRYPTO_SESSION": Meaning("crypto", "started-crypto-session", _SESSION, _INFO),
    "CRYPTO_LOGIN": Meaning("crypto", "crypto-officer-logged-in", _AUTHENTICATION, _START),
    "CRYPTO_LOGOUT": Meaning("crypto", "crypto-officer-logged-out", _SESSION, _END),
    "VIRT_CONTROL": Meaning("virt", "issued-vm-control", _HOST, _INFO),
    "VIRT_RESOURCE": Meaning("virt", "assigned-vm-resource", _HOST, _INFO),
    "VIRT_MACHINE_ID": Meaning("virt", "assigned-vm-id", _HOST, _CREATION),
    "VIRT_CREATE": Meaning("virt", "created-vm-image", _HOST, _CREATION),
    "VIRT_DESTROY": Meaning("virt", "deleted-vm-image", _HOST, _DELETION),
    "AVC": Meaning("avc", "violated-mac-policy", _DETECTION, _INFO),
    "USER_AVC": Meaning("avc", "access-permission", _DETECTION, _INFO),
    "SELINUX_ERR": Meaning("avc", "caused-mac-policy-error", _DETECTION, ("error",)),
    "USER_SELINUX_ERR": Meaning("avc", "access-error", _DETECTION, ("error",)),
    "APPARMOR_DENIED": Meaning("avc", "violated-apparmor-policy", _DETECTION, ("denied",)),
    "APPARMOR_ALLOWED": Meaning("avc", "violated-apparmor-policy", _DETECTION, ("allowed",)),
    "APPARMOR_STATUS": Meaning("config", "changed-apparmor-policy", _CONFIGURATION, _CHANGE),
    "SECCOMP": Meaning("anomaly", "violated-seccomp-policy", _DETECTION, _INFO),
    "NETFILTER_PKT": Meaning("network", "netfilter-packet", _NETWORK, ("connection",)),
    "MAC_IPSEC_EVENT": Meaning("network", "mac-ipsec-event", _NETWORK, _INFO),
    "ANOM_ABEND": _anomaly("crashed-program", _PROCESS, _END),
    "ANOM_EXEC": _anomaly("attempted-execution-of-forbidden-program", _PROCESS, _START),
    "ANOM_PROMISCUOUS": _anomaly("changed-promiscuous-mode-on-device", _CONFIGURATION, _CHANGE),
    "ANOM_LINK": _anomaly("used-suspicious-link"),
    "ANOM_CREAT": _anomaly("suspicious-file-creation", _FILE, _CREATION),
    "ANOM_LOGIN_FAILURES": _anomaly("failed-log-in-too-many-times-to", _AUTHENTICATION),
    "ANOM_LOGIN_LOCATION": _anomaly("attempted-log-in-from-unusual-place-to", _AUTHENTICATION),
    "ANOM_LOGIN_SESSIONS": _anomaly("opened-too-many-sessions-to", _AUTHENTICATION),
    "ANOM_LOGIN_TIME": _anomaly("attempted-log-in-during-unusual-hour-to", _AUTHENTICATION),
    "ANOM_LOGIN_ACCT": _anomaly("attempted-log-in-to-watched-account", _AUTHENTICATION),
    "ANOM_ADD_ACCT": _anomaly("added-user-account", ("iam",), ("user", "creation")),
    "ANOM_DEL_ACCT": _anomaly("deleted-user-account", ("iam",), ("user", "deletion")),
    "ANOM_MOD_ACCT": _anomaly("modified-user-account", ("iam",), ("user", "change")),
    "ANOM_RBAC_INTEGRITY_FAIL": _anomaly("tested-file-system-integrity-of"),
    "RESP_ACCT_LOCK": _anomaly("locked-account", ("iam",), ("user", "change")),
    "CHUSER_ID": Meaning("identity", "changed-user-id", _PROCESS, _CHANGE),
    "CHGRP_ID": Meaning("identity", "changed-group", _PROCESS, _CHANGE),
    "KERN_MODULE": Meaning("driver", "loaded-kernel-module", _DRIVER, _START),
    "EXECVE": Meaning("process", "executed", _PROCESS, _START),
    "PROCTITLE": Meaning("process", "proctitle", _PROCESS, _INFO),
    "CWD": Meaning("process", "cwd", _PROCESS, _INFO),
    "PATH": Meaning("file", "path", _FILE, _INFO),
    "SOCKADDR": Meaning("network", "sockaddr", _NETWORK, _INFO),
    "SYSCALL": Meaning("syscall", "syscall", _PROCESS, _INFO),
}
RECORDS["ANOM_MK_EXEC"] = RECORDS["ANOM_CREAT"]
UNKNOWN = Meaning("other", "audit-record")

# Records that only complete the event of a system call, and the mark that nothing follows.
ATTACHED = frozenset(
    ("EXECVE", "PATH", "CWD", "PROCTITLE", "SOCKADDR", "FD_PAIR", "MMAP", "IPC", "OBJ_PID", "BPRM_FCAPS", "CAPSET")
)
END_OF_EVENT = "EOE"

# Numbers of records, as the kernel log and go-audit write them.
TYPES: dict[str, str] = {
    str(number): name
    for first, names in (
        (1100, "USER_AUTH USER_ACCT USER_MGMT CRED_ACQ CRED_DISP USER_START USER_END USER_AVC USER_CHAUTHTOK USER_ERR"),
        (1110, "CRED_REFR USYS_CONFIG USER_LOGIN USER_LOGOUT ADD_USER DEL_USER ADD_GROUP DEL_GROUP DAC_CHECK CHGRP_ID"),
        (1120, "TEST TRUSTED_APP USER_SELINUX_ERR USER_CMD USER_TTY CHUSER_ID GRP_AUTH SYSTEM_BOOT SYSTEM_SHUTDOWN"),
        (1129, "SYSTEM_RUNLEVEL SERVICE_START SERVICE_STOP GRP_MGMT GRP_CHAUTHTOK MAC_CHECK ACCT_LOCK ACCT_UNLOCK"),
        (1137, "USER_DEVICE SOFTWARE_UPDATE"),
        (1200, "DAEMON_START DAEMON_END DAEMON_ABORT DAEMON_CONFIG DAEMON_RECONFIG DAEMON_ROTATE DAEMON_RESUME"),
        (1207, "DAEMON_ACCEPT DAEMON_CLOSE DAEMON_ERR"),
        (1300, "SYSCALL FS_WATCH PATH IPC SOCKETCALL CONFIG_CHANGE SOCKADDR CWD"),
        (1309, "EXECVE"),
        (1311, "IPC_SET_PERM MQ_OPEN MQ_SENDRECV MQ_NOTIFY MQ_GETSETATTR KERNEL_OTHER FD_PAIR OBJ_PID TTY EOE"),
        (1321, "BPRM_FCAPS CAPSET MMAP NETFILTER_PKT NETFILTER_CFG SECCOMP PROCTITLE FEATURE_CHANGE REPLACE"),
        (1330, "KERN_MODULE FANOTIFY TIME_INJOFFSET TIME_ADJNTPVAL BPF EVENT_LISTENER URINGOP OPENAT2"),
        (1400, "AVC SELINUX_ERR AVC_PATH MAC_POLICY_LOAD MAC_STATUS MAC_CONFIG_CHANGE"),
        (1500, "APPARMOR APPARMOR_AUDIT APPARMOR_ALLOWED APPARMOR_DENIED APPARMOR_HINT APPARMOR_STATUS APPARMOR_ERROR"),
        (1700, "ANOM_PROMISCUOUS ANOM_ABEND ANOM_LINK ANOM_CREAT"),
        (1800, "INTEGRITY_DATA INTEGRITY_METADATA INTEGRITY_STATUS INTEGRITY_HASH INTEGRITY_PCR INTEGRITY_RULE"),
        (2000, "KERNEL"),
        (2100, "ANOM_LOGIN_FAILURES ANOM_LOGIN_TIME ANOM_LOGIN_SESSIONS ANOM_LOGIN_ACCT ANOM_LOGIN_LOCATION"),
        (2300, "USER_ROLE_CHANGE ROLE_ASSIGN ROLE_REMOVE LABEL_OVERRIDE LABEL_LEVEL_CHANGE"),
        (2400, "CRYPTO_TEST_USER CRYPTO_PARAM_CHANGE_USER CRYPTO_LOGIN CRYPTO_LOGOUT CRYPTO_KEY_USER"),
        (2405, "CRYPTO_FAILURE_USER CRYPTO_REPLAY_USER CRYPTO_SESSION CRYPTO_IKE_SA CRYPTO_IPSEC_SA"),
        (2500, "VIRT_CONTROL VIRT_RESOURCE VIRT_MACHINE_ID"),
    )
    for number, name in enumerate(names.split(), start=first)
}


def _syscalls(
    kind: str, action: str, category: tuple[str, ...], types: tuple[str, ...], names: str
) -> dict[str, Meaning]:
    return dict.fromkeys(names.split(), Meaning(kind, action, category, types))


SYSCALLS: dict[str, Meaning] = {
    **_syscalls("process", "executed", _PROCESS, _START, "execve execveat"),
    **_syscalls("process", "forked", _PROCESS, _START, "fork vfork clone clone3"),
    **_syscalls("process", "killed-pid", _PROCESS, _END, "kill tkill tgkill"),
    **_syscalls("process", "exited", _PROCESS, _END, "exit exit_group"),
    **_syscalls("process", "traced", _PROCESS, ("access",), "ptrace process_vm_readv process_vm_writev"),
    **_syscalls(
        "process",
        "changed-identity-of",
        _PROCESS,
        _CHANGE,
        "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid capset setgroups",
    ),
    **_syscalls("file", "opened-file", _FILE, _CREATION, "creat"),
    **_syscalls("file", "opened-file", _FILE, _CHANGE, "truncate ftruncate fallocate"),
    **_syscalls("file", "opened-file", _FILE, _INFO, "open openat openat2 open_by_handle_at readlink readlinkat"),
    **_syscalls("file", "read-file", _FILE, ("access",), "read readv pread64 preadv"),
    **_syscalls("file", "wrote-to-file", _FILE, _CHANGE, "write writev pwrite64 pwritev"),
    **_syscalls(
        "file",
        "changed-file-attributes-of",
        _FILE,
        _CHANGE,
        "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr",
    ),
    **_syscalls("file", "changed-file-permissions-of", _FILE, _CHANGE, "chmod fchmod fchmodat fchmodat2"),
    **_syscalls("file", "changed-file-ownership-of", _FILE, _CHANGE, "chown fchown fchownat lchown"),
    **_syscalls("file", "changed-timestamp-of", _FILE, _CHANGE, "utime utimes futimesat utimensat"),
    **_syscalls("file", "created-directory", _FILE, _CREATION, "mkdir mkdirat"),
    **_syscalls("file", "renamed", _FILE, _CHANGE, "rename renameat renameat2"),
    **_syscalls("file", "linked", _FILE, _CREATION, "link linkat"),
    **_syscalls("file", "symlinked", _FILE, _CREATION, "symlink symlinkat"),
    **_syscalls("file", "deleted", _FILE, _DELETION, "unlink unlinkat rmdir"),
    **_syscalls("file", "make-device", _FILE, _CREATION, "mknod mknodat"),
    **_syscalls("file", "mounted", _FILE, _CREATION, "mount move_mount"),
    **_syscalls("file", "unmounted", _FILE, _DELETION, "umount umount2"),
    **_syscalls(
        "file",
        "checked-metadata-of",
        _FILE,
        _INFO,
        "access faccessat faccessat2 stat lstat fstat newfstatat fstatat statx",
    ),
    **_syscalls("network", "connected-to", _NETWORK, _CONNECTION, "connect"),
    **_syscalls("network", "accepted-connection-from", _NETWORK, _CONNECTION, "accept accept4"),
    **_syscalls("network", "bound-socket", _NETWORK, _START, "bind"),
    **_syscalls("network", "listen-for-connections", _NETWORK, _START, "listen"),
    **_syscalls("network", "created-socket", _NETWORK, _INFO, "socket"),
    **_syscalls("network", "sent-to", _NETWORK, _INFO, "sendto sendmsg sendmmsg"),
    **_syscalls("network", "received-from", _NETWORK, _INFO, "recvfrom recvmsg recvmmsg"),
    **_syscalls("driver", "loaded-kernel-module", _DRIVER, _START, "init_module finit_module"),
    **_syscalls("driver", "unloaded-kernel-module", _DRIVER, _END, "delete_module"),
    **_syscalls(
        "host", "changed-system-time", _HOST, _CHANGE, "settimeofday clock_settime adjtimex clock_adjtime stime"
    ),
    **_syscalls("host", "changed-system-name", _HOST, _CHANGE, "sethostname setdomainname"),
    **_syscalls("host", "rebooted", _HOST, _END, "reboot"),
}
INWARD = frozenset(("accept", "accept4", "recvfrom", "recvmsg", "recvmmsg"))  # the address is the other side's

_X86_64 = (
    "read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn "
    "ioctl pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise shmget shmat shmctl "
    "dup dup2 pause nanosleep getitimer alarm setitimer getpid sendfile socket connect accept sendto recvfrom sendmsg "
    "recvmsg shutdown bind listen getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve exit "
    "wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync fdatasync truncate "
    "ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink chmod fchmod chown "
    "fchown lchown umask gettimeofday getrlimit getrusage sysinfo times ptrace getuid syslog getgid setuid setgid geteuid "
    "getegid setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups setresuid getresuid setresgid getresgid "
    "getpgid setfsuid setfsgid getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend "
    "sigaltstack utime mknod uselib personality ustat statfs fstatfs sysfs getpriority setpriority sched_setparam "
    "sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min "
    "sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt pivot_root _sysctl prctl arch_prctl "
    "adjtimex setrlimit chroot sync acct settimeofday mount umount2 swapon swapoff reboot sethostname setdomainname iopl "
    "ioperm create_module init_module delete_module get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg "
    "afs_syscall tuxcall security gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr "
    "llistxattr flistxattr removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity sched_getaffinity "
    "set_thread_area io_setup io_destroy io_getevents io_submit io_cancel get_thread_area lookup_dcookie epoll_create "
    "epoll_ctl_old epoll_wait_old remap_file_pages getdents64 set_tid_address restart_syscall semtimedop fadvise64 "
    "timer_create timer_settime timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime clock_getres "
    "clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes vserver mbind set_mempolicy get_mempolicy mq_open "
    "mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr kexec_load waitid add_key request_key keyctl "
    "ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat "
    "futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare "
    "set_robust_list get_robust_list splice tee sync_file_range vmsplice move_pages utimensat epoll_pwait signalfd "
    "timerfd_create eventfd fallocate timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 "
    "inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 "
    "name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv process_vm_writev "
    "kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create kexec_file_load bpf execveat "
    "userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx"
)
_SINCE_2019 = (  # from 424 on, the same numbers on every architecture
    "pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick "
    "pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr quotactl_fd "
    "landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv "
    "set_mempolicy_home_node cachestat fchmodat2"
)
_AARCH64 = {
    5: "setxattr", 6: "lsetxattr", 7: "fsetxattr", 14: "removexattr", 33: "mknodat", 34: "mkdirat", 35: "unlinkat",
    36: "symlinkat", 37: "linkat", 38: "renameat", 39: "umount2", 40: "mount", 45: "truncate", 46: "ftruncate",
    48: "faccessat", 49: "chdir", 51: "chroot", 52: "fchmod", 53: "fchmodat", 54: "fchownat", 55: "fchown", 56: "openat",
    57: "close", 63: "read", 64: "write", 78: "readlinkat", 79: "newfstatat", 80: "fstat", 88: "utimensat", 91: "capset",
    93: "exit", 94: "exit_group", 105: "init_module", 106: "delete_module", 112: "clock_settime", 117: "ptrace",
    129: "kill", 130: "tkill", 131: "tgkill", 142: "reboot", 143: "setregid", 144: "setgid", 145: "setreuid",
    146: "setuid", 147: "setresuid", 149: "setresgid", 161: "sethostname", 162: "setdomainname", 170: "settimeofday",
    171: "adjtimex", 198: "socket", 200: "bind", 201: "listen", 202: "accept", 203: "connect", 206: "sendto",
    207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 220: "clone", 221: "execve", 242: "accept4", 265: "open_by_handle_at",
    266: "clock_adjtime", 269: "sendmmsg", 270: "process_vm_readv", 271: "process_vm_writev", 273: "finit_module",
    276: "renameat2", 279: "memfd_create", 280: "bpf", 281: "execveat", 291: "statx",
}  # fmt: skip
_I386 = {
    1: "exit", 2: "fork", 3: "read", 4: "write", 5: "open", 6: "close", 8: "creat", 9: "link", 10: "unlink", 11: "execve",
    12: "chdir", 14: "mknod", 15: "chmod", 21: "mount", 23: "setuid", 25: "stime", 26: "ptrace", 33: "access", 37: "kill",
    38: "rename", 39: "mkdir", 40: "rmdir", 46: "setgid", 52: "umount2", 74: "sethostname", 79: "settimeofday",
    83: "symlink", 88: "reboot", 92: "truncate", 93: "ftruncate", 94: "fchmod", 95: "fchown", 102: "socketcall",
    120: "clone", 121: "setdomainname", 124: "adjtimex", 128: "init_module", 129: "delete_module", 182: "chown",
    190: "vfork", 198: "lchown", 212: "chown", 213: "setuid", 226: "setxattr", 252: "exit_group", 264: "clock_settime",
    295: "openat", 296: "mkdirat", 301: "unlinkat", 302: "renameat", 306: "fchmodat", 350: "finit_module",
    353: "renameat2", 358: "execveat", 359: "socket", 361: "bind", 362: "connect", 363: "listen", 364: "accept4",
}  # fmt: skip

ARCHITECTURES = {"c000003e": "x86_64", "40000003": "i386", "c00000b7": "aarch64"}
NUMBERS: dict[str, dict[str, str]] = {  # architecture -> number -> name
    arch: {str(number): name for number, name in {**names, **dict(enumerate(_SINCE_2019.split(), start=424))}.items()}
    for arch, names in (("x86_64", dict(enumerate(_X86_64.split()))), ("aarch64", _AARCH64), ("i386", _I386))
}
