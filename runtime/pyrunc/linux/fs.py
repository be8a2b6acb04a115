"""The file calls of posix under their kernel names: what leaves here is a CallError, so that a failure reads "mkdirat: EROFS". Its one
rule: nothing is followed and nothing is inherited unless the caller's flags say so.

`dir_fd` is the directory that a relative path starts from (None: the working directory). Files of /proc, /sys and cgroups are
written by write_file: one write(2), as a buffered file object would report the kernel's refusal at close, when nobody listens.
"""

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError
from pyrunc.linux.constants import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK  # noqa: F401


def _call(name, function, *args, **keywords):
    try:
        return function(*args, **keywords)
    except OSError as e:
        raise CallError.of(e, name) from None


def failure(number, call, path=None):
    """A CallError that looks like one of the kernel's, for what is found out without a system call."""
    return CallError(number, posix.strerror(number), path, call)


def open(path, flags, mode=0o600, dir_fd=None):
    """-> fd, close-on-exec. O_NOFOLLOW is the caller's word, where links may be hostile."""
    return _call("openat", posix.open, path, flags | posix.O_CLOEXEC, mode, dir_fd=dir_fd)


def close(*fds):
    """Closes each that is a descriptor (not None, not negative)."""
    for fd in fds:
        if fd is not None and fd >= 0:
            posix.close(fd)


def mkdir(path, mode=0o755, dir_fd=None):
    _call("mkdirat", posix.mkdir, path, mode, dir_fd=dir_fd)


def mknod(path, mode, device=0, dir_fd=None):
    """`mode` with its type bits; `device` as posix.makedev gives it."""
    _call("mknodat", posix.mknod, path, mode, device, dir_fd=dir_fd)


def symlink(target, path, dir_fd=None):
    _call("symlinkat", posix.symlink, target, path, dir_fd=dir_fd)


def link(old, new, old_dir_fd=None, new_dir_fd=None):
    _call("linkat", posix.link, old, new, src_dir_fd=old_dir_fd, dst_dir_fd=new_dir_fd, follow_symlinks=False)


def readlink(path, dir_fd=None):
    return _call("readlinkat", posix.readlink, path, dir_fd=dir_fd)


def unlink(path, dir_fd=None):
    _call("unlinkat", posix.unlink, path, dir_fd=dir_fd)


def rmdir(path, dir_fd=None):
    _call("unlinkat", posix.rmdir, path, dir_fd=dir_fd)


def rename(old, new, old_dir_fd=None, new_dir_fd=None):
    _call("renameat", posix.rename, old, new, src_dir_fd=old_dir_fd, dst_dir_fd=new_dir_fd)


def stat(path, dir_fd=None):
    """What stands at `path` itself: a link is not followed."""
    return _call("fstatat", posix.stat, path, dir_fd=dir_fd, follow_symlinks=False)


def fstat(fd):
    return _call("fstat", posix.fstat, fd)


def kind(fd):
    """The type bits of what `fd` (also an O_PATH one) stands for."""
    return fstat(fd).st_mode & S_IFMT


def char_device(info):
    """A stat result -> (major, minor) of a character device, else (0, 0): the st_rdev of pipes and files is 0 too, and means nothing."""
    if info.st_mode & S_IFMT != S_IFCHR:
        return (0, 0)
    return (posix.major(info.st_rdev), posix.minor(info.st_rdev))


def fchmod(fd, mode):
    """Not for O_PATH descriptors: see chmod_fd."""
    _call("fchmod", posix.fchmod, fd, mode)


def fchown(fd, uid, gid):
    _call("fchown", posix.fchown, fd, uid, gid)


def listdir(fd):
    """Names in an open directory, as str."""
    return _call("getdents64", posix.listdir, fd)


def fchdir(fd):
    _call("fchdir", posix.fchdir, fd)


def chroot(path):
    _call("chroot", posix.chroot, path)


def exists(path, dir_fd=None):
    """Whether something is at `path`; only ENOENT means no, other errors go out."""
    try:
        stat(path, dir_fd)
    except FileNotFoundError:
        return False
    return True


def write_file(dir_fd, path, data, flags=posix.O_WRONLY | posix.O_NOFOLLOW):
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


def read_file(dir_fd, path, limit=1 << 20, flags=posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY):
    """The whole file as bytes. More than `limit`: EFBIG."""
    fd = open(path, flags, dir_fd=dir_fd)
    try:
        return _call("read", fileio.read_fd, fd, limit)
    except OSError as e:
        e.filename = path
        raise
    finally:
        posix.close(fd)
