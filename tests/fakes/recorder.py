"""A kernel that only answers queries: replaces `posix` and the extension while plan() runs.

Queries are passed to the real calls; calls that change something are recorded and refused with EPERM. The queries are listed, so that an
unlisted call counts as a change.
"""

from __future__ import annotations

import errno
import posix
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import pytest

    from harness import Json, Option


LOOKING = {
    "posix": set(
        (
            "access close confstr cpu_count fdopendir fspath fstat fstatvfs get_inheritable getcwd getcwdb getegid geteuid "
            "getgid getgroups getpgid getpid getppid getresgid getresuid getsid getuid getxattr isatty listdir listxattr lseek "
            "lstat major makedev minor pread read readlink readv scandir sched_get_priority_max sched_get_priority_min "
            "sched_getaffinity sched_getscheduler stat statvfs strerror sysconf times uname "
        ).split()
    ),
    "_syscalls": set(
        (
            "bpf_prog_query capget find fstat fstatat fstatfs get_mempolicy ioprio_get mount_id mount_table openat2 sched_getattr statfs "
            "statx"
        ).split()
    ),
}
WRITING = posix.O_WRONLY | posix.O_RDWR | posix.O_CREAT | posix.O_TRUNC | posix.O_APPEND
CHECKS = {"IS_FS", "IS_FILE", "SAME_MOUNT"}
PR_GETTERS = {2, 3, 16, 21, 23, 27, 30, 39}  # pdeathsig, dumpable, name, seccomp, capbset, securebits, timerslack, no_new_privs
ASKING: dict[str, Callable[..., bool]] = {
    "prlimit": lambda pid, resource, soft=None, hard=None: soft is None and hard is None,
    "prctl": lambda op, *_rest: op in PR_GETTERS,
    "calls": lambda operations, _keep: all(one[0] in CHECKS or (one[0] == "OPENAT" and not one[3] & WRITING) for one in operations),
    "seccomp": lambda _op, _flags, program=None: program is None,  # called without a program, a known flag gives EFAULT
}


class Recorder:
    """Used with pytest's monkeypatch: Recorder().install(monkeypatch); `.changes` lists (module, function, arguments)."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, tuple[object, ...], Json]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Recorder:
        from pyrunc.linux import _syscalls

        for module in (posix, _syscalls):
            name = module.__name__.rpartition(".")[2]
            for attribute in dir(module):
                value = getattr(module, attribute)
                if attribute.startswith("_") or not callable(value) or isinstance(value, type) or attribute in LOOKING[name]:
                    continue
                stand_in: Callable[..., object]
                if attribute == "open":
                    stand_in = self.opening(value)
                elif attribute in ASKING:
                    stand_in = self.asking(attribute, value)
                else:
                    stand_in = self.noted(name, attribute)
                monkeypatch.setattr(module, attribute, stand_in)
        return self

    def noted(self, module: str, function: str) -> Callable[..., object]:
        def call(*args: object, **kw: Option) -> None:
            self.changes.append((module, function, args, kw))
            raise PermissionError(errno.EPERM, "a plan changes nothing: %s.%s" % (module, function))

        return call

    def opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: str | os.PathLike[str], flags: int, *args: object, **kw: Option) -> int:
            if flags & WRITING:
                self.changes.append(("posix", "open", (path, flags, *args), kw))
                raise PermissionError(errno.EPERM, "a plan opens nothing for writing")
            return real(path, flags, *args, **kw)

        return call

    def asking(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        """A call that is a query or a change, depending on its arguments: `name` is in ASKING."""

        def call(*args: object) -> object:
            return real(*args) if ASKING[name](*args) else self.noted("_syscalls", name)(*args)

        return call
