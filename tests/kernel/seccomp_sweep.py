"""Which system calls does a runtime itself need under the container's seccomp filter? Each is denied in turn, and the container either
starts or does not. test_seccomp_sweep.py uses this, and tools/filter_sweep.py does for the table in docs/. It only uses the command line, so it
works with any runtime.

The program is static and makes no call except exit_group (or pause), so a denied call can only affect the runtime.
"""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import tempfile
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from harness import Json


SOURCE = r"""
#include <sys/syscall.h>
static long call(long n, long a)
{
    long r;
#ifdef __x86_64__
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a) : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8) : "memory");
    r = x0;
#endif
    return r;
}
void begin(long *stack)
{
    while (stack[0] > 1) /* with an argument: until it is killed */
#ifdef SYS_pause
        call(SYS_pause, 0);
#else
        call(SYS_ppoll, 0);
#endif
    for (;;)
        call(SYS_exit_group, 0);
}
#ifdef __x86_64__
__asm__(".globl _start\n_start:\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
#else
__asm__(".globl _start\n_start:\n mov x0, sp\n bl begin\n");
#endif
"""
PROGRAM = ["execve", "exit_group", "pause", "ppoll"]  # never denied: the calls of the program, and those that every process needs
ACTIONS = {
    "EPERM": {"action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    "ENOSYS": {"action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    "KILL": {"action": "SCMP_ACT_KILL_PROCESS"},
}
PLACES = {"early": False, "late": True}  # noNewPrivileges: without it, the filter is loaded while the process still has privileges
HOWS = ("run", "start", "exec")
# Calls that one of the runtimes makes between loading its filter and execve, and related ones.
CALLS = (
    "brk", "capget", "capset", "chdir", "clock_gettime", "close", "close_range", "dup2", "dup3", "epoll_ctl", "epoll_pwait", "faccessat",
    "faccessat2", "fchdir", "fcntl", "fstat", "futex", "getcwd", "getdents64", "getegid", "geteuid", "getgid", "getgroups", "getpid",
    "getppid", "getrandom", "getresgid", "getresuid", "gettid", "getuid", "ioctl", "keyctl", "kill", "lseek", "madvise", "mmap", "mount",
    "mprotect", "munmap", "nanosleep", "newfstatat", "open", "openat", "openat2", "personality", "prctl", "prlimit64", "pselect6", "read",
    "readlink", "readlinkat", "recvmsg", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_yield", "select", "sendmsg", "setgid",
    "setgroups", "setresgid", "setresuid", "setsid", "setuid", "sigaltstack", "stat", "statfs", "statx", "tgkill", "umask", "write",
    "writev",
)  # fmt: skip
SECONDS = 30


def build(path: str | os.PathLike[str]) -> None:
    """Compiles the program. Raises CalledProcessError if there is no compiler."""
    source = pathlib.Path(str(path) + ".c")
    source.write_text(SOURCE)
    flags = ["-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"]
    subprocess.run(["cc", *flags, "-o", path, source], check=True, capture_output=True)


def profile(calls: Sequence[str] | None, action: Json) -> Json:
    """Denies these calls; None: all except those of the program."""
    if calls is None:
        default = {"defaultAction": action["action"]}
        if "errnoRet" in action:
            default["defaultErrnoRet"] = action["errnoRet"]
        return {**default, "syscalls": [{"names": PROGRAM, "action": "SCMP_ACT_ALLOW"}]}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": list(calls), **action}] if calls else []}


class Sweep:
    """`folder` receives a bundle and the state root; `program` is the result of build()."""

    def __init__(
        self,
        runtime: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        program: str | os.PathLike[str],
        capabilities: Sequence[str] = (),
        uid: int = 0,
    ) -> None:
        self.runtime, self.folder = str(runtime), pathlib.Path(folder)
        self.capabilities, self.uid = list(capabilities), uid
        self.count = 0
        self.name = "sweep-" + uuid.uuid4().hex[:12]
        root = self.folder / "bundle/rootfs"
        for name in ("proc", "dev", "etc"):  # crun requires the latter two
            (root / name).mkdir(parents=True)
        (root / "quiet").write_bytes(pathlib.Path(program).read_bytes())
        (root / "quiet").chmod(0o755)

    def config(self, filter: Json, nnp: bool, args: Sequence[str]) -> None:
        sets = dict.fromkeys(("bounding", "effective", "permitted"), self.capabilities)
        document = {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],  # runc reads this at the end
            "process": {
                "cwd": "/", "args": args, "env": [], "user": {"uid": self.uid, "gid": self.uid}, "noNewPrivileges": nnp,
                "capabilities": sets,
            },
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")], "seccomp": filter},
        }  # fmt: skip
        (self.folder / "bundle/config.json").write_text(json.dumps(document))

    def call(self, *words: str) -> tuple[int, str]:
        """-> exit status and output. A hang is also reported as a status, as if a signal had killed it."""
        argv = [self.runtime, "--root", str(self.folder / "state"), *words]
        with tempfile.TemporaryFile() as out:  # not a pipe, because the container would inherit it
            try:
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                return -signal.SIGKILL, "no end after %s s" % SECONDS
            out.seek(0)
            return done.returncode, out.read().decode(errors="replace").strip()

    def starts(self, calls: Sequence[str] | None, action: Json, place: str, how: str) -> str:
        """-> "" if the program has run, otherwise the output."""
        self.count += 1
        name = "%s-%d" % (self.name, self.count)
        bundle = str(self.folder / "bundle")
        filter, nnp = profile(calls, ACTIONS[action]), PLACES[place]
        self.config(filter, nnp, ["/quiet"] + ["wait"] * (how != "run"))
        try:
            if how == "run":
                code, said = self.call("run", "--bundle", bundle, name)
                return "" if code == 0 else said or "status %s" % code
            for words in (("create", "--bundle", bundle, name), ("start", name)):
                code, said = self.call(*words)
                if code != 0:
                    return said or "%s: status %s" % (words[0], code)
            if how == "exec":
                code, said = self.call("exec", name, "/quiet")
                return "" if code == 0 else said or "exec: status %s" % code
            status = self.call("state", name)[1]
            return "" if '"running"' in status else "it is not running: %s" % status
        finally:
            self.call("delete", "--force", name)
