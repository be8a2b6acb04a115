"""tmpcopyup: copies the directory that a tmpfs covers into the tmpfs.

Invariant: every entry is accessed through the descriptor of its directory and one component, no link is followed, and nothing that could
block is opened; links, fifos and devices are copied as such. Mounts below the covered directory are not copied. The size is limited by the
tmpfs itself (ENOSPC); holes stay holes.
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError
from pyrunc.linux import _syscalls, fs
from pyrunc.linux import constants as c

CHUNK = 1 << 30
DEEP = 200  # levels; each keeps two descriptors open
SKIPPED = ("security.selinux",)  # the mount determines the label
RESOLVE = c.RESOLVE_BENEATH | c.RESOLVE_NO_XDEV | c.RESOLVE_NO_MAGICLINKS


def copy(source: int, top: int, words: list[str]) -> None:
    """Copies everything in the directory `source` to the directory `top`, with owners, modes, times, extended attributes and hard links.
    `top` also gets the owner of `source`, unless `words`, the mount options, set one. Both descriptors stay open. The OSError names the
    entry; what has been copied disappears with the mount."""
    base = fs.open(".", posix.O_RDONLY | posix.O_DIRECTORY, dir_fd=top)
    stack = [(posix.dup(source), posix.dup(base), iter(fs.listdir(source)), "")]
    umask = posix.umask(0)
    seen: dict[tuple[int, int], str] = {}
    try:
        info = fs.fstat_times(source)
        given = {word.partition("=")[0] for word in words}
        fs.fchown(base, -1 if "uid" in given else info.st_uid, -1 if "gid" in given else info.st_gid)
        _attributes(source, base)
        while stack:
            here, there, names, prefix = stack[-1]
            name = next(names, None)
            if name is None:
                _times(there, fs.fstat_times(here))
                fs.close(*stack.pop()[:2])
                continue
            below = _entry(here, there, name, prefix + name, base, seen)
            if below is not None:
                stack.append((*below, iter(fs.listdir(below[0])), prefix + name + "/"))
                if len(stack) > DEEP:
                    raise fs.failure(errno.ELOOP, "openat", prefix + name)
    finally:
        posix.umask(umask)
        for here, there, _names, _prefix in stack:
            fs.close(here, there)
        posix.close(base)


def _entry(here: int, there: int, name: str, path: str, base: int, seen: dict[tuple[int, int], str]) -> tuple[int, int] | None:
    """Copies one entry. -> (source fd, target fd) if it is a directory, whose entries come next, else None."""
    try:
        node = _syscalls.openat2(here, name, posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, 0, RESOLVE)
    except OSError as e:
        if e.errno == errno.EXDEV:
            return None
        e.filename = path
        raise
    try:
        info = fs.fstat_times(node)
        kind = info.st_mode & c.S_IFMT
        if kind == c.S_IFDIR:
            return _directory(here, there, name, info)
        if info.st_nlink > 1 and (info.st_dev, info.st_ino) in seen:
            fs.link(seen[info.st_dev, info.st_ino], name, base, there)
            return None
        seen[info.st_dev, info.st_ino] = path
        if kind == c.S_IFREG:
            _file(here, there, name, info)
            return None
        if kind == c.S_IFLNK:
            fs.symlink(fs.readlink("", dir_fd=node), name, dir_fd=there)
        elif not _node(there, name, info):
            return None
        _syscalls.fchownat(there, name, info.st_uid, info.st_gid, c.AT_SYMLINK_NOFOLLOW)
        posix.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=there, follow_symlinks=False)
    except OSError as e:
        e.filename = path
        raise
    finally:
        posix.close(node)
    return None


def _node(there: int, name: str, info: posix.stat_result) -> bool:
    """False if it is a device that the kernel does not allow here (user namespaces); it could not be opened either."""
    try:
        fs.mknod(name, info.st_mode, info.st_rdev, dir_fd=there)
    except OSError as e:
        if e.errno != errno.EPERM or info.st_mode & c.S_IFMT not in (c.S_IFCHR, c.S_IFBLK):
            raise
        return False
    return True


def _directory(here: int, there: int, name: str, info: posix.stat_result) -> tuple[int, int]:
    fs.mkdir(name, 0o700, dir_fd=there)
    source = _open_same(here, name, posix.O_RDONLY | posix.O_DIRECTORY, info)
    target = None
    try:
        target = fs.open(name, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=there)
        _finish(source, target, info)
    except OSError:
        fs.close(source, target)
        raise
    return source, target


def _file(here: int, there: int, name: str, info: posix.stat_result) -> None:
    source = _open_same(here, name, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY, info)
    target = None
    try:
        target = fs.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW, 0o600, there)
        _contents(source, target, info.st_size)
        _finish(source, target, info)
        _times(target, info)
    finally:
        fs.close(source, target)


def _open_same(here: int, name: str, flags: int, info: posix.stat_result) -> int:
    """Opens an entry for reading, after checking that it is still the same one."""
    fd = fs.open(name, flags | posix.O_NOFOLLOW, dir_fd=here)
    if not fileio.is_same(fs.fstat_times(fd), info):
        posix.close(fd)
        raise fs.failure(errno.ESTALE, "openat", name)
    return fd


def _contents(source: int, target: int, size: int) -> None:
    """Copies at most `size` bytes; holes are skipped."""
    posix.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = posix.lseek(source, at, posix.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # only a hole up to the end
                return
            raise
        end = min(posix.lseek(source, at, posix.SEEK_HOLE), size)
        posix.lseek(target, at, 0)  # 0 is SEEK_SET, which posix does not define
        while at < end:
            done = posix.sendfile(target, source, at, min(end - at, CHUNK))
            if not done:
                return
            at += done


def _finish(source: int, target: int, info: posix.stat_result) -> None:
    """Owner first: changing it clears set-user-id bits."""
    fs.fchown(target, info.st_uid, info.st_gid)
    fs.fchmod(target, info.st_mode & 0o7777)
    _attributes(source, target)


def _attributes(source: int, target: int) -> None:
    try:
        names = posix.listxattr(source)
    except OSError as e:
        if e.errno != errno.EOPNOTSUPP:
            raise
        return
    for name in names:
        if name in SKIPPED:
            continue
        try:
            posix.setxattr(target, name, posix.getxattr(source, name))
        except OSError as e:
            if e.errno != errno.EOPNOTSUPP or not name.startswith("user."):  # tmpfs supports user.* since Linux 6.6
                raise CallError.of(e, "fsetxattr") from None


def _times(fd: int, info: posix.stat_result) -> None:
    posix.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))
