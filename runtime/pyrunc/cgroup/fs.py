"""Directories and files of control groups, accessed through verified descriptors: reading, writing, walking.

cgroups(7). Invariant: nothing is read from or written to a directory before fstatfs confirms that it is in a cgroup file system, and no
file is ever opened with O_CREAT; otherwise a path that leaves the hierarchy could create ordinary files on the host. These file systems
have no symbolic links, so following one is always a mistake (O_NOFOLLOW).
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, StepFailure, quote
from pyrunc.fileio import fsdecode, fsencode, read_fd, read_file
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import AT_FDCWD, CGROUP2_SUPER_MAGIC, CGROUP_SUPER_MAGIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypedDict

    from pyrunc.cgroup.shapes import Places, Run

    class Record(TypedDict):
        """The cgroups that were created for a container."""

        paths: dict[str, str]  # {key: directory}
        mounts: dict[str, str]  # {key: mount point}
        existed: dict[str, int]  # {key: how many levels of the path existed before}
        inodes: dict[str, int]  # {key: inode of the directory that was created}


O_DIR = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
O_LOOK = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
GONE = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)  # no permission: rootless, or a read-only mount


def refusal_text(number: int, otherwise: str) -> str:
    """The message for an errno in REFUSED. Not the text of EACCES or EPERM: callers would attribute it to the program."""
    return "it is mounted read-only" if number == errno.EROFS else otherwise


READ_LIMIT = 16 << 20


def named(e: OSError, call: str, path: str) -> CallError:
    """The same error with the name of the call and the path, without which cgroup errors are useless."""
    return CallError(e.errno, e.strerror, path, call)  # type: ignore[arg-type]  # an error without a number remains one


def open_dir(path: str, key: str, flags: int = O_DIR) -> int:
    """Descriptor of a cgroup directory, after checking that it is in a cgroup file system of the right version. CallError with the path."""
    magic = CGROUP2_SUPER_MAGIC if key == "unified" else CGROUP_SUPER_MAGIC
    try:
        return _syscalls.calls([("OPENAT", AT_FDCWD, fsencode(path), flags), ("IS_FS", _syscalls.FIRST, magic, "")], _syscalls.FIRST)
    except CallError as e:
        if e.at and e.errno == errno.ENODEV:
            e.strerror = "not a cgroup file system"
        raise named(e, "fstatfs" if e.at else "open", path) from None


def read(dir_fd: int, name: str, path: str = "") -> str:
    """Text of a file in an open cgroup directory. CallError with the path."""
    call = "open"
    try:
        fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW, dir_fd=dir_fd)
        call = "read"
        try:
            return read_fd(fd, READ_LIMIT).decode("utf-8", "surrogateescape")
        finally:
            posix.close(fd)
    except OSError as e:
        raise named(e, call, path + "/" + name) from None


def look(dir_fd: int, name: str) -> str | None:
    """Like read(), but None if the file does not exist or can't be read."""
    try:
        return read(dir_fd, name)
    except OSError:
        return None


def write(dir_fd: int, name: str, value: str, path: str = "") -> None:
    """One write(2) of `value` into an existing file of an open cgroup directory. CallError with the path."""
    write_each(dir_fd, name, (value,), path)


def write_each(dir_fd: int, name: str, values: Sequence[str], path: str = "") -> None:
    """Like write(), with one write(2) per value, for files that accept one value at a time. The CallError has the refused value."""
    value, call = values[0] if values else "", "open"
    try:
        fd = posix.open(name, posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW, dir_fd=dir_fd)
        call = "write"
        try:
            for value in values:
                posix.write(fd, fsencode(value))
        finally:
            posix.close(fd)
    except OSError as e:
        refused = named(e, call, path + "/" + name)
        refused.value = fsdecode(value)
        raise refused from None


# --- paths


def levels(mount: str, path: str) -> list[str]:
    """The names between mount point and cgroup. Guards against bugs: a path from the state file must be below its mount."""
    if not path.startswith(mount + "/"):
        raise StepFailure("cgroup-outside", "the cgroup %s is not below %s" % (quote(path), quote(mount)), call="open", path=path)
    names = path[len(mount) + 1 :].split("/")
    if "" in names or "." in names or ".." in names:
        raise StepFailure("cgroup-path", "the cgroup path %s is not clean" % quote(path), path=path)
    return names


def unique(paths: Mapping[str, str]) -> dict[str, str]:
    """{path: first key}: controllers that are mounted together share a directory."""
    seen: dict[str, str] = {}
    for key, path in paths.items():
        seen.setdefault(path, key)
    return seen


def record_of(run: Run, entry: Places) -> Record:
    """{"paths", "mounts", "existed", "inodes"}: what host_make has recorded about this container's cgroups. A state without such a record
    means that nothing was created; only if the state itself is lost is the plan used (then existed and inodes are empty)."""
    state_dir = run.state_dir
    if state_dir is None:
        return {"paths": dict(entry["paths"]), "mounts": entry["mounts"], "existed": {}, "inodes": {}}
    made = state_dir.state.get("cgroups")
    if not made:
        return {"paths": {}, "mounts": {}, "existed": {}, "inodes": {}}
    return {
        "paths": dict(state_dir.state.get("cgroup_paths") or {}),
        "mounts": made["mounts"],
        "existed": made["existed"],
        "inodes": made["inodes"],
    }


# --- walking


def children(dir_fd: int) -> list[str]:
    """Names of the sub-cgroups."""
    with posix.scandir(dir_fd) as entries:
        return [e.name for e in entries if e.is_dir(follow_symlinks=False)]


def walk(dir_fd: int, visit: Callable[[int], object], leave: Callable[[int, str], object] | None = None) -> None:
    """Calls visit(fd) for the cgroup and everything below it, and leave(parent_fd, name) after walking the sub-cgroup `name`.

    Holds one descriptor at a time, however deep the tree is (a container can nest thousands): it goes down by name and up by "..", which in
    a cgroup file system is always the parent, because cgroups can't be moved to another one.
    """
    here = posix.dup(dir_fd)
    stack = []
    try:
        visit(here)
        names = children(here)
        while True:
            if names:
                name = names.pop()
                below = step(here, name)
                if below < 0:
                    continue
                stack.append((names, name))
                posix.close(here)
                here = below
                visit(here)
                names = children(here)
            elif stack:
                names, name = stack.pop()
                above = posix.open("..", O_DIR, dir_fd=here)
                posix.close(here)
                here = above
                if leave is not None:
                    leave(here, name)
            else:
                return
    finally:
        posix.close(here)


def step(dir_fd: int, name: str) -> int:
    try:
        return posix.open(name, O_DIR, dir_fd=dir_fd)
    except OSError as e:
        if e.errno not in GONE:
            raise
        return -1  # removed in the meantime


class TooManyError(Exception):
    """There are more cgroups than the caller wanted to read. pids: those found so far."""

    def __init__(self, pids: set[int]) -> None:
        self.pids = pids


def procs_of(dir_fd: int, path: str = "", most: int = 0) -> list[int]:
    """Pids of all processes in an open cgroup and below it, sorted. TooManyError if `most` is not 0 and there are more cgroups: a live
    container that owns its cgroup can nest cgroups faster than they are read."""
    pids: set[int] = set()
    count = 0

    def visit(fd: int) -> None:
        nonlocal count
        count += 1
        if count > most > 0:
            raise TooManyError(pids)
        try:
            text = read(fd, "cgroup.procs", path)
        except OSError as e:
            if e.errno in GONE:  # removed in the meantime
                return
            if e.errno != errno.EOPNOTSUPP:
                raise
            text = " ".join(_processes(look(fd, "cgroup.threads") or ""))  # a threaded cgroup; its domain may be above the container's
        pids.update(int(word) for word in text.split())

    try:
        walk(dir_fd, visit)
    except OSError as e:
        if e.errno not in GONE:
            raise
    pids.discard(0)  # 0 is a process outside of our pid namespace
    return sorted(pids)


def _processes(threads: str) -> set[str]:
    """The processes that threads belong to, from the line Tgid of proc_pid_status(5)."""
    found = set()
    for thread in threads.split():
        try:
            status = fsdecode(read_file("/proc/%s/status" % thread, 65536))
        except OSError:  # it has ended
            continue
        found.add(status.partition("\nTgid:")[2].split(None, 1)[0])
    return found


def procs_below(path: str, key: str, most: int = 0) -> list[int]:
    """Like procs_of, by path. A cgroup that does not exist has no processes."""
    try:
        fd = open_dir(path, key)
    except OSError as e:
        if e.errno in GONE:
            return []
        raise
    try:
        return procs_of(fd, path, most)
    finally:
        posix.close(fd)
