"""The options of the unified hierarchy's one superblock (cgroups(7), "nsdelegate" and the like), kept against helpers that lose them.

Whoever mounts cgroup2 once more without these words takes them off for the whole host, and CRIU does so at each dump and restore. Invariant:
what is put back is exactly what was there, and nothing is touched where nothing was lost.
"""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.errors import errno_text
from pyrunc.linux import _syscalls, mountinfo
from pyrunc.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE_LIMIT = 64 << 20
ALWAYS = ("rw", "ro")


class Keeper:
    """Looks when it is made; `put_back` looks again."""

    def __init__(self) -> None:
        self.before = _options()

    def put_back(self) -> str | None:
        """What was lost. Returns None, or a sentence: the kernel does not let us."""
        try:
            now = _options()
            if self.before and now and not set(self.before[1]) <= set(now[1]):
                _set(*self.before)
        except OSError as e:
            lost = ",".join(self.before[1]) if self.before else ""
            return "the options %s of cgroup2 are lost: %s" % (lost, errno_text(e.errno))
        return None


def _set(point: str, words: Iterable[str]) -> None:
    context = _syscalls.fspick(c.AT_FDCWD, point, c.FSPICK_CLOEXEC)
    try:
        for word in words:
            if word not in ALWAYS:
                _syscalls.fsconfig(context, c.FSCONFIG_SET_FLAG, word, None, 0)
        _syscalls.fsconfig(context, c.FSCONFIG_CMD_RECONFIGURE, None, None, 0)
    finally:
        posix.close(context)


def _options() -> tuple[str, list[str]] | None:
    """(mount point, words of the superblock) of the first cgroup2 mount; None without one."""
    for _device, _top, point, kind, settings in mountinfo.table(fileio.fsdecode(fileio.read_file("/proc/self/mountinfo", TABLE_LIMIT))):
        if kind == "cgroup2":
            return point, settings.split(",")
    return None
