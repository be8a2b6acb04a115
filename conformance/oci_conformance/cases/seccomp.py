"""config-linux.md#configLinuxSeccomp: what a filter does to the calls of the program. The program makes each call in a child, so that
a call that kills is seen as such.

None of the calls that are tried is needed to start a program: getsid, getpriority, uname, sync."""

from __future__ import annotations

import errno
import platform
from typing import TYPE_CHECKING

from oci_conformance.bundle import ABSENT
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.shapes import Changes, Json
    from oci_conformance.trial import Trial


KNOWN = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64", "s390x": "SCMP_ARCH_S390X", "ppc64le": "SCMP_ARCH_PPC64LE"}
NATIVE = KNOWN.get(platform.machine(), "SCMP_ARCH_" + platform.machine().upper())
SIGSYS = 31


def filter_of(*rules: Json, default: object = "SCMP_ACT_ALLOW", **more: object) -> dict[str, Json]:
    made = {"defaultAction": default, "architectures": [NATIVE], "syscalls": list(rules), **more}
    return {"/linux/seccomp": {key: value for key, value in made.items() if value is not ABSENT}}


def rule(action: str, *names: str, **more: object) -> dict[str, Json]:
    return {"names": list(names), "action": action, **more}


def tried(t: Trial, changes: Changes, *calls: str) -> list[Json]:
    """[(errno or -signal)] of system calls of the program."""
    seen = t.observe(changes, "say begin", *("call " + call for call in calls))[1:]
    return [-line["signal"] if line.get("signal") else line.get("errno") for line in seen]


def compare(index: int, value: object, op: str, two: int | None = None) -> dict[str, Json]:
    return {"index": index, "value": value, "op": "SCMP_CMP_" + op, **({} if two is None else {"valueTwo": two})}


@case("seccomp.default-action", "seccomp.action.allow", "seccomp.names", needs="probe", level="core")
def allow(t: Trial) -> None:
    """With ALLOW as the default, everything is allowed except what a rule names."""
    seen = tried(t, filter_of(rule("SCMP_ACT_ERRNO", "getsid", "sync")), "getsid 0", "sync", "getpid")
    t.equal(seen, [errno.EPERM, errno.EPERM, 0], "getsid and sync, which are named, and getpid")


@case("seccomp.default-action", "seccomp.default-errno", "seccomp.action.allow", needs="probe", level="core")
def allow_list(t: Trial) -> None:
    """With ERRNO as the default, only what a rule allows is allowed."""
    changes = filter_of(rule("SCMP_ACT_ALLOW", *NEEDED), default="SCMP_ACT_ERRNO")
    seen = tried(t, changes, "getsid 0", "getpid")
    t.equal(seen, [errno.EPERM, 0], "getsid, which is not named, and getpid, which is")
    changes = filter_of(rule("SCMP_ACT_ALLOW", *NEEDED), default="SCMP_ACT_ERRNO", defaultErrnoRet=errno.ENOTNAM)
    seen = tried(t, changes, "getsid 0", "getpid")
    t.equal(seen, [errno.ENOTNAM, 0], "the same with a defaultErrnoRet", "seccomp.default-errno")


@case("seccomp.action.errno", needs="probe", level="core")
def errno_ret(t: Trial) -> None:
    """ERRNO returns errnoRet, or EPERM if there is none."""
    changes = filter_of(rule("SCMP_ACT_ERRNO", "getsid", errnoRet=errno.EDOM), rule("SCMP_ACT_ERRNO", "sync"))
    t.equal(tried(t, changes, "getsid 0", "sync"), [errno.EDOM, errno.EPERM], "getsid and sync")


@case("seccomp.action.kill", "seccomp.action.trap", needs="probe", level="core")
def kill(t: Trial) -> None:
    """KILL, KILL_THREAD and KILL_PROCESS kill the caller; TRAP sends SIGSYS, which also kills it."""
    for action, name in (("KILL", "kill"), ("KILL_THREAD", "kill"), ("KILL_PROCESS", "kill"), ("TRAP", "trap")):
        seen = tried(t, filter_of(rule("SCMP_ACT_" + action, "getsid")), "getsid 0", "getpid")
        t.equal(seen, [-SIGSYS, 0], "getsid under %s, and getpid" % action, "seccomp.action." + name)


@case("seccomp.action.log", "seccomp.action.trace", needs="probe")
def log_and_trace(t: Trial) -> None:
    """LOG allows the call; TRACE without a tracer returns ENOSYS."""
    t.equal(tried(t, filter_of(rule("SCMP_ACT_LOG", "getsid")), "getsid 0"), [0], "getsid under LOG", "seccomp.action.log")
    seen = tried(t, filter_of(rule("SCMP_ACT_TRACE", "getsid", errnoRet=7)), "getsid 0")
    t.equal(seen, [errno.ENOSYS], "getsid under TRACE", "seccomp.action.trace")


@case("seccomp.args", needs="probe")
def args(t: Trial) -> None:
    """Each operator compares the argument: getpriority(which, who) with who tried around 100."""
    tests = {"EQ": (0, 1, 0), "NE": (1, 0, 1), "LT": (1, 0, 0), "LE": (1, 1, 0), "GT": (0, 0, 1), "GE": (0, 1, 1)}
    for op, hits in tests.items():
        changes = filter_of(rule("SCMP_ACT_ERRNO", "getpriority", errnoRet=errno.EDOM, args=[compare(1, 100, op)]))
        seen = tried(t, changes, "getpriority 0 99", "getpriority 0 100", "getpriority 0 101")
        t.equal(tuple(int(number == errno.EDOM) for number in seen), hits, "99, 100, 101 hit by %s 100" % op)


@case("seccomp.args.masked", needs="probe")
def masked(t: Trial) -> None:
    """MASKED_EQ compares the argument under the mask value with valueTwo."""
    changes = filter_of(rule("SCMP_ACT_ERRNO", "getpriority", errnoRet=errno.EDOM, args=[compare(1, 0xF0, "MASKED_EQ", 0x50)]))
    seen = tried(t, changes, *("getpriority 0 0x%x" % who for who in (0x50, 0x5F, 0x150, 0x40, 0xF0)))
    t.equal([int(number == errno.EDOM) for number in seen], [1, 1, 1, 0, 0], "0x50, 0x5f, 0x150, 0x40, 0xf0 hit")


@case("seccomp.args", needs="probe")
def wide_and_several(t: Trial) -> None:
    """Arguments are compared with all 64 bits, and all comparisons of a rule must hold."""
    changes = filter_of(rule("SCMP_ACT_ERRNO", "msgget", errnoRet=errno.EDOM, args=[compare(1, 1 << 40, "EQ")]))
    seen = tried(t, changes, "msgget 1 0x10000000000", "msgget 1 0")
    t.equal([int(number == errno.EDOM) for number in seen], [1, 0], "values that differ in the upper half only")
    both = [compare(0, 5, "EQ"), compare(1, 6, "EQ")]
    changes = filter_of(rule("SCMP_ACT_ERRNO", "getpriority", errnoRet=errno.EDOM, args=both))
    seen = tried(t, changes, "getpriority 5 6", "getpriority 5 7", "getpriority 4 6")
    t.equal([int(number == errno.EDOM) for number in seen], [1, 0, 0], "calls hit by a rule with two comparisons")


@case("seccomp.names", needs="probe")
def unknown_name(t: Trial) -> None:
    """A call that this architecture does not have is not an error, and the other calls of the rule are filtered."""
    changes = filter_of(rule("SCMP_ACT_ERRNO", "arm_fadvise64_64", "getsid"))
    t.equal(tried(t, changes, "getsid 0"), [errno.EPERM], "getsid")


@case("seccomp.architectures", needs="probe")
def architectures(t: Trial) -> None:
    """The architectures may be absent, or several; the native one is filtered."""
    for value in (ABSENT, [NATIVE], [NATIVE, "SCMP_ARCH_X86", "SCMP_ARCH_X32"], [NATIVE, "SCMP_ARCH_ARM"]):
        changes = filter_of(rule("SCMP_ACT_ERRNO", "getsid"), architectures=value)
        t.equal(tried(t, changes, "getsid 0"), [errno.EPERM], "getsid with the architectures %r" % ("absent" if value is ABSENT else value))


@case("seccomp.flags", needs="probe")
def flags(t: Trial) -> None:
    """A known flag is accepted (or refused, if a runtime does not support it); an unknown one gives an error."""
    for name in ("LOG", "SPEC_ALLOW", "TSYNC", "WAIT_KILLABLE_RECV"):
        made = t.container(filter_of(rule("SCMP_ACT_ERRNO", "getsid"), flags=["SECCOMP_FILTER_FLAG_" + name]), "call getsid 0")
        if made.try_create().refused:
            continue
        made.watch()
        made.start()
        t.equal([line.get("errno") for line in made.finish()], [errno.EPERM], "getsid with %s" % name)
    t.refused(filter_of(flags=["SECCOMP_FILTER_FLAG_NOSUCH"]), at="start")


@case("seccomp.default-action.required", "seccomp.names.one", "seccomp.action.unknown", level="core")
def incomplete(t: Trial) -> None:
    """A filter without a default action, a rule without names, and an unknown action give an error."""
    block = rule("SCMP_ACT_ERRNO", "getsid")
    no_default = filter_of(block, default=ABSENT)
    t.refused(no_default, "seccomp.default-action.required", at="start", what="create without defaultAction gives an error")
    empty = filter_of(rule("SCMP_ACT_ERRNO"))
    t.refused(empty, "seccomp.names.one", at="start", what="create with a rule without names gives an error")
    for wrong in (filter_of(rule("SCMP_ACT_NOSUCH", "getsid")), filter_of(block, default="SCMP_ACT_NOSUCH")):
        t.refused(wrong, "seccomp.action.unknown", at="start", what="create with an unknown action gives an error")


@case("seccomp.architectures.unknown", "seccomp.args.unknown")
def unknown(t: Trial) -> None:
    """An unknown architecture, an unknown operator, and an index beyond the arguments give an error."""
    block = rule("SCMP_ACT_ERRNO", "getsid")
    wrong = filter_of(block, architectures=["SCMP_ARCH_NOSUCH"])
    t.refused(wrong, "seccomp.architectures.unknown", at="start", what="create with an unknown architecture gives an error")
    for comparison in (compare(0, 1, "NOSUCH"), compare(6, 1, "EQ")):
        wrong = filter_of(rule("SCMP_ACT_ERRNO", "getsid", args=[comparison]))
        t.refused(wrong, "seccomp.args.unknown", at="start", what="create with the comparison %r gives an error" % comparison)


@case("seccomp.default-errno.useless", "seccomp.action.errno.useless")
def useless_errno(t: Trial) -> None:
    """An errno for an action that has none gives an error."""
    wrong = filter_of(default="SCMP_ACT_ALLOW", defaultErrnoRet=1)
    t.refused(wrong, "seccomp.default-errno.useless", at="start", what="defaultErrnoRet with ALLOW gives an error")
    wrong = filter_of(rule("SCMP_ACT_KILL", "getsid", errnoRet=1))
    t.refused(wrong, "seccomp.action.errno.useless", at="start", what="errnoRet with KILL gives an error")


@case("seccomp.default-action", "no-new-privileges", needs="probe", level="core")
def with_no_new_privileges(t: Trial) -> None:
    """A filter works together with noNewPrivileges, for a program of another user without capabilities."""
    changes = filter_of(rule("SCMP_ACT_ERRNO", "getsid"))
    changes.update({"/process/noNewPrivileges": True, "/process/user": {"uid": 1000, "gid": 1000}, "/process/capabilities": {}})
    t.equal(tried(t, changes, "getsid 0"), [errno.EPERM], "getsid", "seccomp.default-action")
    seen = t.observe(changes, "self", "read /proc/self/status")
    t.equal(seen[0].get("no_new_privs"), 1, "the flag", "no-new-privileges")
    lines = dict(line.partition(":")[::2] for line in seen[1].get("text", "").splitlines())
    t.equal(lines.get("Seccomp", "").strip(), "2", "Seccomp in /proc/self/status", "seccomp.default-action")


# The calls that a runtime and a static program need from the end of create to their exit, and those of the probe, except getsid.
NEEDED = """
access alarm arch_prctl brk capget capset chdir chmod chown clock_gettime clock_nanosleep clone clone3 close close_range connect creat dup
dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve execveat exit exit_group faccessat faccessat2 fchdir fchmod
fchmodat fchown fchownat fcntl fork fstat fstatfs fsync ftruncate futex getcwd getdents64 getegid geteuid getgid getgroups getpeername
getpgid getpgrp getpid getppid getrandom getresgid getresuid getrlimit getsockname getsockopt gettid gettimeofday getuid ioctl keyctl kill
lgetxattr link linkat lseek lstat madvise memfd_create membarrier mkdir mkdirat mknod mknodat mmap mount mprotect mremap msync munmap
name_to_handle_at nanosleep newfstatat open openat openat2 pidfd_open pidfd_send_signal pipe pipe2 pivot_root poll ppoll prctl pread64
prlimit64 pselect6 pwrite64 read readlink readlinkat readv recvfrom recvmsg rename renameat2 restart_syscall rmdir rseq rt_sigaction
rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_getaffinity sched_setaffinity sched_yield seccomp select
sendfile sendmsg sendto set_robust_list set_tid_address setdomainname setgid setgroups sethostname setitimer setpgid setresgid setresuid
setrlimit setsid setsockopt setuid sigaltstack socket socketpair splice stat statfs statx symlink symlinkat tgkill timer_create
timer_delete timer_settime umask umount2 uname unlink unlinkat unshare vfork wait4 waitid write writev
""".split()
