"""Delegates a version 2 cgroup to the container's user: changes the owner of its directory and of the files that the kernel lists as safe.

Documentation/admin-guide/cgroup-v2.rst (Model of Delegation). Invariant: nothing else changes its owner, especially not the limits.
"""

from __future__ import annotations

import posix
from errno import ENOENT

from pyrunc.cgroup import fs
from pyrunc.errors import StepFailure, errno_text, quote
from pyrunc.fileio import fsdecode, read_file
from pyrunc.linux import ids


def give(path: str, pid: int, inner_uid: int) -> None:
    """path: the cgroup; inner_uid: the container's user, in the user namespace of `pid`, whose maps have been written. Does nothing if the
    id is not mapped, or is our own. OSError, StepFailure; undone with the cgroup."""
    uid = ids.outer_uid(pid, inner_uid)
    if uid is None or uid == posix.geteuid():
        return
    fd = fs.open_dir(path, "unified")
    try:
        posix.chown(fd, uid, -1)
        for name in _files():
            try:
                posix.chown(name, uid, -1, dir_fd=fd, follow_symlinks=False)
            except OSError as e:
                if e.errno != ENOENT:  # a file of a newer kernel, or of a controller that is not enabled here
                    raise
    except OSError as e:
        raise StepFailure(
            "cgroup-owner",
            "cannot give the cgroup %s to uid %d: %s" % (quote(path), uid, errno_text(e.errno)),
            pointer="/mounts",
            call="fchownat",
            errno=e.errno,
            path=path,
        ) from None
    finally:
        posix.close(fd)


def _files() -> list[str]:
    try:
        return fsdecode(read_file("/sys/kernel/cgroup/delegate", 65536)).split()
    except OSError:
        return ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
