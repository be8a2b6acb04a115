"""Preserves the superblock options of the unified hierarchy (cgroups(7), "nsdelegate" and others), which some programs clear.

Mounting cgroup2 again without these options clears them for the whole host, and CRIU does that at each dump and restore. Invariant: exactly
the previous options are restored, and nothing is changed if none were lost.
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
    """Reads the options when it is created; `put_back` compares and restores them."""

    def __init__(self) -> None:
        self.before = _options()

    def put_back(self) -> str | None:
        """Restores lost options. Returns None, or a message if the kernel refuses."""
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
    """(mount point, superblock options) of the first cgroup2 mount, or None."""
    for _device, _top, point, kind, settings in mountinfo.table(fileio.fsdecode(fileio.read_file("/proc/self/mountinfo", TABLE_LIMIT))):
        if kind == "cgroup2":
            return point, settings.split(",")
    return None
