"""Detects that a container has run out of memory.

Documentation/admin-guide/cgroup-v1/memory.rst (oom_control, event_control), cgroup-v2.rst (memory.events). Invariant: a wake-up alone is
not an OOM, because removing the cgroup also causes one. v1 wakes before it kills (or, with the OOM killer disabled, before tasks wait), so
there it is an OOM if the cgroup still exists; v2 wakes after each change of any counter, so there the number of kills decides.
"""

from __future__ import annotations

import posix
import select
from errno import ENOENT

from pyrunc.cgroup import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Watch:
    """A descriptor to poll: `fd` with the events in `mask` wakes when something may have happened, and fired() returns whether it was an OOM.
    OSError if the container has no memory cgroup that can be watched."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.key = "memory" if "memory" in paths else "unified"
        if self.key not in paths:
            raise FileNotFoundError(ENOENT, "the container has no memory cgroup")
        self.path = paths[self.key]
        self.fd = -1
        self.dir_fd = fs.open_dir(self.path, self.key)
        try:
            if self.key == "memory":
                self._watch_v1()
            else:
                self.fd = posix.open("memory.events", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=self.dir_fd)
                self.mask = select.POLLPRI
        except BaseException:
            self.close()
            raise
        self.count = self._count()

    def _watch_v1(self) -> None:
        self.fd = posix.eventfd(0, posix.EFD_CLOEXEC | posix.EFD_NONBLOCK)
        self.mask = select.POLLIN
        control = posix.open("memory.oom_control", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=self.dir_fd)
        try:
            fs.write(self.dir_fd, "cgroup.event_control", "%d %d" % (self.fd, control), self.path)
        finally:
            posix.close(control)

    def _count(self) -> int | None:
        """oom_kill of the cgroup and all below; v1 has `oom_kill` since Linux 4.13. None if the cgroup no longer exists."""
        if self.key == "memory":
            words = (fs.look(self.dir_fd, "memory.oom_control") or "").split()
        else:  # from the descriptor that is polled: the kernel wakes it until this one has been read
            try:
                words = posix.pread(self.fd, 65536, 0).decode("ascii", "replace").split()
            except OSError as e:
                if e.errno not in fs.GONE:
                    raise
                return None
        if not words:
            return None
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0

    def fired(self) -> bool | None:
        """True if there was an OOM since the last call, else False. None if the cgroup no longer exists and no more events will come."""
        now = self._count()
        if self.key == "memory":
            try:
                return None if now is None else posix.eventfd_read(self.fd) > 0
            except BlockingIOError:
                return False  # called without a wake-up
        before, self.count = self.count, now
        if now is None or before is None:
            return None
        return now > before

    def close(self) -> None:
        for fd in (self.fd, self.dir_fd):
            if fd >= 0:
                posix.close(fd)
        self.fd = self.dir_fd = -1


def killed(paths: Mapping[str, str]) -> int:
    """How many processes in the cgroup the kernel has killed so far; 0 if that can't be read."""
    for key, name in (("memory", "memory.oom_control"), ("unified", "memory.events")):
        if key not in paths:
            continue
        try:
            fd = fs.open_dir(paths[key], key)
        except OSError as e:
            if e.errno not in fs.GONE:
                raise
            continue
        try:
            words = (fs.look(fd, name) or "").split()
        finally:
            posix.close(fd)
        if "oom_kill" in words:
            return int(words[words.index("oom_kill") + 1])
    return 0
