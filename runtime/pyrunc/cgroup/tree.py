"""Cgroups as a tree of directories: made level by level, entered, removed from the bottom up.

cgroups(7). Invariant: every act is an *at call on the descriptor of a verified directory, so that a path is never walked twice,
and only what this container made is removed. rmdir can't hurt anybody: a cgroup with processes or children stays.
"""

from __future__ import annotations

import errno
import posix
import time

from pyrunc.cgroup.fs import GONE, O_LOOK, REFUSED, children, levels, named, open_dir, procs_below, step, walk, write
from pyrunc.errors import CallError, StepFailure, errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    Prepare: TypeAlias = Callable[[int, int, str, bool], object]  # (fd, parent_fd, path, whether it is the last level)

RETRY_MS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # of rmdir, about one second; exiting tasks leave a cgroup late


# --- making


def survey(mount: str, path: str, key: str) -> int:
    """How many levels of the path below the mount point exist already."""
    count, fd = explore(mount, path, key)
    posix.close(fd)
    return count


def explore(mount: str, path: str, key: str) -> tuple[int, int]:
    """(what survey says, descriptor of the last level that is there)."""
    fd = open_dir(mount, key, O_LOOK)
    count = 0
    try:
        for name in levels(mount, path):
            try:
                below = posix.open(name, O_LOOK, dir_fd=fd)
            except OSError as e:
                if e.errno == errno.ENOENT:
                    break
                raise named(e, "open", path) from None
            posix.close(fd)
            fd = below
            count += 1
    except BaseException:
        posix.close(fd)
        raise
    return count, fd


def make(
    mount: str,
    path: str,
    key: str,
    prepare: Prepare | None = None,
    seen: tuple[int, int] | None = None,
    leaf: Callable[[int], object] | None = None,
) -> tuple[bool, int]:
    """Makes all levels of a cgroup. Returns (made_leaf, inode of the leaf). prepare(fd, parent_fd, last) is called for every level
    after it was opened, top down; leaf(fd) for the last one. `seen`: what explore() has just said, if no level needs to be prepared that
    was there; its descriptor is closed. CallError.

    Somebody may remove a parent that has just become empty while we stand in it; mkdir then says ENOENT and we begin again.
    """
    for attempt in range(5):
        try:
            return _make(mount, path, key, prepare, seen, leaf)
        except OSError as e:
            if e.errno != errno.ENOENT or CallError.of(e).call != "mkdir" or attempt == 4:
                raise
        seen = None
    return False, 0


def _make(
    mount: str, path: str, key: str, prepare: Prepare | None, seen: tuple[int, int] | None, leaf: Callable[[int], object] | None
) -> tuple[bool, int]:
    names = levels(mount, path)
    there, fd = seen or (0, open_dir(mount, key, O_LOOK))
    made = False
    done = "/".join([mount, *names[:there]])
    try:
        for number, name in enumerate(names[there:], there):
            done = done + "/" + name
            try:
                posix.mkdir(name, 0o755, dir_fd=fd)
                made = True
            except OSError as e:
                made = False
                if e.errno != errno.EEXIST and not (e.errno in REFUSED and _is_there(fd, name)):
                    raise named(e, "mkdir", done) from None
            try:
                below = posix.open(name, O_LOOK, dir_fd=fd)
            except OSError as e:
                raise named(e, "open", done) from None
            try:
                if prepare is not None:
                    prepare(below, fd, done, number == len(names) - 1)
            except BaseException:
                posix.close(below)
                raise
            posix.close(fd)
            fd = below
        if leaf is not None:
            leaf(fd)
        return made, posix.fstat(fd).st_ino
    finally:
        posix.close(fd)


def _is_there(fd: int, name: str) -> bool:
    """A parent that we may not write to can still hold the level we want: mkdir says EACCES or EROFS before EEXIST."""
    try:
        posix.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return False
    return True


# --- entering


def enter(path: str, key: str, pid: int, name: str = "cgroup.procs") -> None:
    """Moves a process into a cgroup. A new task or one of a realtime class is answered EINVAL for a moment on v1: five tries."""
    fd = open_dir(path, key, O_LOOK)
    try:
        for attempt in range(5):
            try:
                write(fd, name, "%d" % pid, path)
                return
            except OSError as e:
                if e.errno != errno.EINVAL or attempt == 4:
                    raise
            time.sleep(0.03)
    finally:
        posix.close(fd)


def open_tasks(dir_fd: int, path: str) -> int:
    """Descriptor of `tasks` of an open cgroup, for a process that will move itself."""
    try:
        return posix.open("tasks", posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=dir_fd)
    except OSError as e:
        raise named(e, "open", path + "/tasks") from None


def enter_by(tasks_fd: int, path: str) -> None:
    """Moves the calling process, which has one thread, into the cgroup whose `tasks` this is."""
    for attempt in range(5):
        try:
            posix.write(tasks_fd, b"0")
            return
        except OSError as e:
            if e.errno != errno.EINVAL or attempt == 4:
                raise named(e, "write", path + "/tasks") from None
        time.sleep(0.03)


# --- removing


def remove_tree(parent_fd: int, name: str) -> bool:
    """rmdir of a cgroup, sub-cgroups first. True when it is gone; False while the kernel says that it is busy."""
    if _rmdir(parent_fd, name):
        return True
    fd = step(parent_fd, name)
    if fd < 0:
        return True
    try:
        walk(fd, lambda here: None, _rmdir)
    except OSError as e:
        if e.errno not in GONE:
            raise
    finally:
        posix.close(fd)
    return _rmdir(parent_fd, name)


def remove_children(parent_fd: int, name: str) -> bool:
    """Removes what lies below a cgroup, but not itself: it was there before us. False while something is busy."""
    fd = step(parent_fd, name)
    if fd < 0:
        return True
    try:
        return all([remove_tree(fd, child) for child in children(fd)])
    finally:
        posix.close(fd)


def _rmdir(parent_fd: int, name: str) -> bool:
    try:
        posix.rmdir(name, dir_fd=parent_fd)
    except OSError as e:
        if e.errno in GONE:
            return True
        if e.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise named(e, "rmdir", name) from None
    return True


class Removal:
    """One cgroup that is to be removed. existed: how many levels stood before us; inode: of the leaf that we made, 0 if unknown."""

    def __init__(self, mount: str, path: str, key: str, existed: int, inode: int) -> None:
        self.mount = mount
        self.path = path
        self.key = key
        self.existed = existed
        self.inode = inode

    def step(self) -> bool:
        """One try. True when nothing of ours is left."""
        names = levels(self.mount, self.path)
        parent = self._open(names[:-1])
        if parent < 0:
            return True
        try:
            if self.existed >= len(names):
                return remove_children(parent, names[-1])
            if self.inode and not self._same(parent, names[-1]):
                return True
            if not remove_tree(parent, names[-1]):
                return False
        finally:
            posix.close(parent)
        for depth in range(len(names) - 1, self.existed, -1):
            above = self._open(names[: depth - 1])
            if above < 0:
                return True
            try:
                if not _rmdir(above, names[depth - 1]):
                    return True  # others have moved in below the parent that we made: theirs now
            finally:
                posix.close(above)
        return True

    def _open(self, names: list[str]) -> int:
        """Descriptor of a level, -1 when it or the whole hierarchy is gone."""
        path = "/".join([self.mount] + names)
        try:
            return open_dir(path, self.key)
        except OSError as e:
            if e.errno in GONE:
                return -1
            raise

    def _same(self, parent: int, name: str) -> bool:
        """Whether the leaf is the one that we made, and not another container's of the same name."""
        try:
            return posix.stat(name, dir_fd=parent, follow_symlinks=False).st_ino == self.inode
        except OSError:
            return False


def remove_all(removals: Iterable[Removal]) -> None:
    """Removes cgroups, trying the busy ones again for about a second in all. StepFailure names the first that stays, and its pids."""
    left = list(removals)
    first = None
    for delay_ms in RETRY_MS + (0,):
        busy = []
        for removal in left:
            try:
                if not removal.step():
                    busy.append(removal)
            except OSError as e:  # each is tried by itself: one without rights must not keep the others
                first = first or e
        left = busy
        if not left:
            break
        if delay_ms:
            time.sleep(delay_ms / 1000)
    if first is not None:
        raise first
    if left:
        raise _stuck(left[0])


def _stuck(stuck: Removal) -> StepFailure:
    pids = procs_below(stuck.path, stuck.key)
    words = "unable to remove cgroup %s: %s" % (stuck.path, errno_text(errno.EBUSY))
    if pids:
        words += "; %d process(es) left: %s" % (len(pids), " ".join(str(p) for p in pids[:20]))
    hint = "end these processes, then delete again" if pids else None
    return StepFailure("cgroup-not-removed", words, call="rmdir", errno=errno.EBUSY, path=stuck.path, hint=hint)
