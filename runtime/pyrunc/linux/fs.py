"""The file calls of posix under the kernel's names: errors are CallErrors, so that a failure reads "mkdirat: EROFS". Invariant: no link is
followed and no descriptor is inheritable unless the caller's flags say so.

`dir_fd` is the directory that a relative path starts from (None: the working directory). Use write_file for files in /proc, /sys and
cgroups: it calls write(2) once, while a buffered file object would report the kernel's error only at close, where it gets lost.
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import AT_FDCWD, AT_SYMLINK_NOFOLLOW
from pyrunc.linux.constants import S_IFCHR as S_IFCHR
from pyrunc.linux.constants import S_IFDIR as S_IFDIR
from pyrunc.linux.constants import S_IFIFO as S_IFIFO
from pyrunc.linux.constants import S_IFLNK as S_IFLNK
from pyrunc.linux.constants import S_IFMT as S_IFMT
from pyrunc.linux.constants import S_IFSOCK as S_IFSOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from os import stat_result
    from typing import ParamSpec, TypeVar

    from pyrunc.linux._syscalls import Stat

    P = ParamSpec("P")
    T = TypeVar("T")


def _call(name: str, function: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
    try:
        return function(*args, **keywords)
    except OSError as e:
        raise CallError.of(e, name) from None


def failure(number: int, call: str, path: str | bytes | None = None) -> CallError:
    """A CallError like one from the kernel, for problems that are detected without a system call."""
    return CallError(number, posix.strerror(number), path, call)


def open(path: str | bytes, flags: int, mode: int = 0o600, dir_fd: int | None = None) -> int:
    """-> fd, close-on-exec. Callers add O_NOFOLLOW if links may be hostile."""
    try:  # without _call, like others that are frequent: passing on the arguments takes longer than the call
        return posix.open(path, flags | posix.O_CLOEXEC, mode, dir_fd=dir_fd)
    except OSError as e:
        raise CallError.of(e, "openat") from None


def close(*fds: int | None) -> None:
    """Closes the descriptors that are not None or negative."""
    for fd in fds:
        if fd is not None and fd >= 0:
            posix.close(fd)


def mkdir(path: str | bytes, mode: int = 0o755, dir_fd: int | None = None) -> None:
    try:
        posix.mkdir(path, mode, dir_fd=dir_fd)
    except OSError as e:
        raise CallError.of(e, "mkdirat") from None


def mknod(path: str | bytes, mode: int, device: int = 0, dir_fd: int | None = None) -> None:
    """`mode` includes the type bits; `device` is the result of posix.makedev."""
    try:
        posix.mknod(path, mode, device, dir_fd=dir_fd)
    except OSError as e:
        raise CallError.of(e, "mknodat") from None


def symlink(target: str | bytes, path: str | bytes, dir_fd: int | None = None) -> None:
    try:
        posix.symlink(target, path, dir_fd=dir_fd)
    except OSError as e:
        raise CallError.of(e, "symlinkat") from None


def link(old: str | bytes, new: str | bytes, old_dir_fd: int | None = None, new_dir_fd: int | None = None) -> None:
    _call("linkat", posix.link, old, new, src_dir_fd=old_dir_fd, dst_dir_fd=new_dir_fd, follow_symlinks=False)


def readlink(path: str, dir_fd: int | None = None) -> str:
    return _call("readlinkat", posix.readlink, path, dir_fd=dir_fd)


def unlink(path: str | bytes, dir_fd: int | None = None) -> None:
    _call("unlinkat", posix.unlink, path, dir_fd=dir_fd)


def rmdir(path: str | bytes, dir_fd: int | None = None) -> None:
    _call("unlinkat", posix.rmdir, path, dir_fd=dir_fd)


def rename(old: str | bytes, new: str | bytes, old_dir_fd: int | None = None, new_dir_fd: int | None = None) -> None:
    _call("renameat", posix.rename, old, new, src_dir_fd=old_dir_fd, dst_dir_fd=new_dir_fd)


def stat(path: str | bytes, dir_fd: int | None = None) -> Stat:
    """lstat of `path`: a link is not followed."""
    return _syscalls.fstatat(AT_FDCWD if dir_fd is None else dir_fd, path, AT_SYMLINK_NOFOLLOW)


def fstat(fd: int) -> Stat:
    """Without the times, which take longer to convert than everything else."""
    return _syscalls.fstat(fd)


def fstat_times(fd: int) -> stat_result:
    try:
        return posix.fstat(fd)
    except OSError as e:
        raise CallError.of(e, "fstat") from None


def kind(fd: int) -> int:
    """The type bits of the file that `fd` refers to; `fd` may be O_PATH."""
    return _syscalls.fstat(fd).st_mode & S_IFMT


NULL_DEVICE = (1, 3)  # /dev/null


def char_device(info: Stat) -> tuple[int, int]:
    """A stat result -> (major, minor) of a character device, else (0, 0): the st_rdev of pipes and files is also 0, and has no meaning."""
    if info.st_mode & S_IFMT != S_IFCHR:
        return (0, 0)
    return (posix.major(info.st_rdev), posix.minor(info.st_rdev))


def fchmod(fd: int, mode: int) -> None:
    """Not for O_PATH descriptors: see chmod_fd."""
    _call("fchmod", posix.fchmod, fd, mode)


def fchown(fd: int, uid: int, gid: int) -> None:
    _call("fchown", posix.fchown, fd, uid, gid)


def listdir(fd: int) -> list[str]:
    """Names in an open directory, as str."""
    return _call("getdents64", posix.listdir, fd)


def fchdir(fd: int) -> None:
    _call("fchdir", posix.fchdir, fd)


def chroot(path: str | bytes) -> None:
    _call("chroot", posix.chroot, path)


def exists(path: str | bytes, dir_fd: int | None = None) -> bool:
    """Whether `path` exists; only ENOENT means no, other errors are raised."""
    try:
        _syscalls.fstatat(AT_FDCWD if dir_fd is None else dir_fd, path, AT_SYMLINK_NOFOLLOW)
    except FileNotFoundError:
        return False
    return True


def write_file(dir_fd: int | None, path: str | bytes, data: str | bytes, flags: int = posix.O_WRONLY | posix.O_NOFOLLOW) -> None:
    """One write(2) of all of `data` to an existing file. A short write is EIO."""
    data = fileio.fsencode(data)
    fd = open(path, flags, dir_fd=dir_fd)
    try:
        done = _call("write", posix.write, fd, data)
    except OSError as e:
        e.filename = path
        raise
    finally:
        posix.close(fd)
    if done != len(data):
        raise failure(errno.EIO, "write", path)


def read_file(
    dir_fd: int | None,
    path: str | bytes,
    limit: int = 1 << 20,
    flags: int = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY,
) -> bytes:
    """The whole file as bytes. EFBIG if it has more than `limit`."""
    fd = open(path, flags, dir_fd=dir_fd)
    try:
        return _call("read", fileio.read_fd, fd, limit)
    except OSError as e:
        e.filename = path
        raise
    finally:
        posix.close(fd)
