"""Cgroups as a tree of directories: created level by level, entered, removed from the bottom up.

cgroups(7). Invariant: every operation is an *at call on the descriptor of a verified directory, so that no path is resolved twice, and only
cgroups that this container created are removed. rmdir is safe: the kernel refuses to remove a cgroup with processes or children.
"""

from __future__ import annotations

import errno
import posix
import time

from pyrunc.cgroup.fs import GONE, O_LOOK, REFUSED, children, levels, named, open_dir, procs_below, step, walk, write
from pyrunc.errors import CallError, StepFailure, errno_text
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import AT_SYMLINK_NOFOLLOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    Prepare: TypeAlias = Callable[[int, int, str, bool], object]  # (fd, parent_fd, path, whether it is the last level)
    Seen: TypeAlias = tuple[int, int, list[str]]  # result of explore()

RETRY_MS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # for rmdir, about one second in total; exiting tasks leave a cgroup with a delay


# --- creating


def survey(mount: str, path: str, key: str) -> int:
    """How many levels of the path below the mount point exist already."""
    count, fd, _names = explore(mount, path, key)
    posix.close(fd)
    return count


def explore(mount: str, path: str, key: str) -> Seen:
    """(result of survey(), descriptor of the last level that exists, names of all levels)."""
    fd = open_dir(mount, key, O_LOOK)
    count = 0
    try:
        names = levels(mount, path)
        for name in names:
            try:
                below = _syscalls.find(fd, name, O_LOOK, 0)
            except OSError as e:
                raise named(e, "open", path) from None
            if below is None:
                break
            posix.close(fd)
            fd = below
            count += 1
    except BaseException:
        posix.close(fd)
        raise
    return count, fd, names


def make(
    mount: str,
    path: str,
    key: str,
    prepare: Prepare | None = None,
    seen: Seen | None = None,
    leaf: Callable[[int], object] | None = None,
) -> tuple[bool, int]:
    """Creates all levels of a cgroup. Returns (made_leaf, inode of the leaf). prepare(fd, parent_fd, last) is called for every level after
    it is opened, top down; leaf(fd) for the last one. `seen`: the result of explore(), if existing levels need no preparation; its
    descriptor is closed. CallError.

    Another process may remove a parent that has just become empty while we use it; mkdir then returns ENOENT and we start again.
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
    mount: str, path: str, key: str, prepare: Prepare | None, seen: Seen | None, leaf: Callable[[int], object] | None
) -> tuple[bool, int]:
    there, fd, names = seen or (0, -1, levels(mount, path))
    if fd < 0:
        fd = open_dir(mount, key, O_LOOK)
    made = False
    done = "/".join([mount, *names[:there]])
    try:
        for number, name in enumerate(names[there:], there):
            done = done + "/" + name
            made, below = _level(fd, name, done)
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
        return made, _syscalls.fstat(fd).st_ino
    finally:
        posix.close(fd)


def _level(fd: int, name: str, path: str) -> tuple[bool, int]:
    """(whether it was created here, descriptor) of a level that may exist already. CallError for `path`."""
    try:
        return True, _syscalls.calls([("MKDIRAT", fd, name, 0o755), ("OPENAT", fd, name, O_LOOK)], _syscalls.FIRST)
    except CallError as e:
        if e.at:
            raise named(e, "open", path) from None
        if e.errno != errno.EEXIST and not (e.errno in REFUSED and _is_there(fd, name)):
            raise named(e, "mkdir", path) from None
    try:
        return False, posix.open(name, O_LOOK, dir_fd=fd)
    except OSError as e:
        raise named(e, "open", path) from None


def _is_there(fd: int, name: str) -> bool:
    """Whether the level exists: if the parent is not writable, mkdir returns EACCES or EROFS rather than EEXIST."""
    try:
        posix.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return False
    return True


# --- entering


def enter(path: str, key: str, pid: int, name: str = "cgroup.procs") -> None:
    """Moves a process into a cgroup. On v1, a new task or one in a realtime class may briefly get EINVAL, so it tries five times."""
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
    """Descriptor of `tasks` in an open cgroup, for a process that will move itself."""
    try:
        return posix.open("tasks", posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=dir_fd)
    except OSError as e:
        raise named(e, "open", path + "/tasks") from None


def enter_by(tasks_fd: int, path: str) -> None:
    """Moves the calling process, which has one thread, into the cgroup of this `tasks` file."""
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
    """rmdir of a cgroup, sub-cgroups first. True if it no longer exists, False while the kernel says that it is busy."""
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
    """Removes the sub-cgroups of a cgroup, but not the cgroup itself, which existed before. False while one of them is busy."""
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
    """A cgroup to remove. existed: how many levels existed before; inode: that of the leaf that we created, 0 if unknown."""

    def __init__(self, mount: str, path: str, key: str, existed: int, inode: int) -> None:
        self.mount = mount
        self.path = path
        self.key = key
        self.existed = existed
        self.inode = inode
        self._names: list[str] = []

    def names(self) -> list[str]:
        """The levels of the path below the mount point."""
        if not self._names:
            self._names = levels(self.mount, self.path)
        return self._names

    def step(self) -> bool:
        """One attempt. True if nothing that we created is left."""
        names = self.names()
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
                    return True  # others now use the parent that we created: leave it to them
            finally:
                posix.close(above)
        return True

    def _open(self, names: list[str]) -> int:
        """Descriptor of a level, or -1 if it or the whole hierarchy no longer exists."""
        path = "/".join([self.mount] + names)
        try:
            return open_dir(path, self.key)
        except OSError as e:
            if e.errno in GONE:
                return -1
            raise

    def _same(self, parent: int, name: str) -> bool:
        """Whether the leaf is the one that we created, and not another container's with the same name."""
        try:
            return _syscalls.fstatat(parent, name, AT_SYMLINK_NOFOLLOW).st_ino == self.inode
        except OSError:
            return False


def remove_all(removals: Iterable[Removal]) -> None:
    """Removes cgroups, retrying busy ones for about a second in total. The StepFailure names the first one that can't be removed, and its
    pids."""
    left = list(removals)
    first = None
    for delay_ms in RETRY_MS + (0,):
        busy = []
        for removal in left:
            try:
                if not removal.step():
                    busy.append(removal)
            except OSError as e:  # each is tried separately: missing permission for one must not prevent removing the others
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
    hint = "kill these processes, then delete again" if pids else None
    return StepFailure("cgroup-not-removed", words, call="rmdir", errno=errno.EBUSY, path=stuck.path, hint=hint)
