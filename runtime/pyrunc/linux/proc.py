"""Our own procfs: every write below /proc, and every read that something depends on, goes through here (CVE-2019-16884, CVE-2025-52881).

Never write to a procfs that the container can see: a mount over parts of it, or replacing one in a race, turns `attr/exec` or a sysctl into
another file, and checking only the file system type does not detect another *real* procfs file. So class Proc creates an instance that is
not attached anywhere (fsopen, fsmount), and opens files below it without following links or crossing mounts. Invariant: no path of ours is
resolved in a mount tree that a container could have changed.

If the kernel refuses a new instance (in a user namespace that does not own the pid namespace, or with mounts over parts of /proc), a
detached clone of /proc without its submounts is used instead, and if that is also refused, /proc itself; then NO_XDEV and the checks of the
opened files maintain the invariant. All three are tried when a handle is first needed, so in a user namespace `prepare()` is called before
leaving the host's root: later there may be no complete procfs in the mount namespace, and the kernel then refuses new ones.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError
from pyrunc.fileio import CHUNK
from pyrunc.linux import _syscalls, constants

ROOT_INODE = 1  # fs/proc: PROC_ROOT_INO; anything else at /proc is a bind mount of part of one
RESOLVE = constants.RESOLVE_BENEATH | constants.RESOLVE_NO_XDEV | constants.RESOLVE_NO_MAGICLINKS | constants.RESOLVE_NO_SYMLINKS
ATTRIBUTES = constants.MOUNT_ATTR_NOSUID | constants.MOUNT_ATTR_NODEV | constants.MOUNT_ATTR_NOEXEC
REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.EBUSY, errno.ENODEV)
READ_LIMIT = 1 << 16


class Proc:
    """Our own procfs. Paths are relative to /proc; `self/…` and `thread-self/…` mean the calling process.

    Has two handles, created when first needed: one for processes only (subset=pid), and a complete one for everything else (sys/…), because
    leaking a complete one would be dangerous (sysrq-trigger, kcore). Belongs to one process: init closes it before execve. Errors are
    CallErrors with the path below /proc as file name.
    """

    def __init__(self) -> None:
        self._fds: dict[str | None, int] = {}

    def prepare(self, whole: bool = False) -> Proc:
        """Creates the handles now: init does this while the host's /proc is still visible. Returns self."""
        self._root("pid")
        if whole:
            self._root(None)
        return self

    def open(self, path: str, flags: int) -> int:
        """fd of a procfs file or directory (close-on-exec), after checking that it belongs to procfs."""
        fd = self._open(path, flags)
        try:
            _must_be_procfs(fd)
        except OSError as e:
            posix.close(fd)
            raise _named(e, path) from None
        return fd

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """The bytes of a file, `limit` at most."""
        fd = self.open(path, posix.O_RDONLY)
        try:
            chunks = []
            while limit > 0:
                chunk = posix.read(fd, min(limit, CHUNK))
                if not chunk:
                    break
                chunks.append(chunk)
                limit -= len(chunk)
            return b"".join(chunks)
        except OSError as e:
            raise _named(e, path, "read") from None
        finally:
            posix.close(fd)

    def write(self, path: str, data: bytes) -> None:
        """Writes all bytes with one write(2), as kernel settings require. A short write is an error (EIO)."""
        fd = self.open(path, posix.O_WRONLY)
        try:
            if posix.write(fd, data) != len(data):
                raise OSError(errno.EIO, "short write")
        except OSError as e:
            raise _named(e, path, "write") from None
        finally:
            posix.close(fd)

    def readlink(self, path: str) -> str:
        """The text of a link (`self/ns/net`, `self/exe`); the link itself is never followed."""
        fd = self._open(path, posix.O_PATH | posix.O_NOFOLLOW)
        try:
            _must_be_procfs(fd)
            return posix.readlink("", dir_fd=fd)
        except OSError as e:
            raise _named(e, path, "readlinkat") from None
        finally:
            posix.close(fd)

    def reopen(self, fd: int, flags: int) -> int:
        """Reopens the file of `fd`, for example an O_PATH descriptor: the safe form of open("/proc/self/fd/N"). Check the file before."""
        links = self.open("thread-self/fd", posix.O_PATH | posix.O_DIRECTORY)
        try:
            return posix.open("%d" % fd, flags | posix.O_CLOEXEC, dir_fd=links)
        except OSError as e:
            raise _named(e, "self/fd/%d" % fd, "openat") from None
        finally:
            posix.close(links)

    def directory(self) -> int:
        """The descriptor that paths of processes are relative to, for a child that runs no Python. This object still owns it."""
        return self._root("pid")

    def close(self) -> None:
        """Closes both handles; idempotent. The next use creates new ones."""
        while self._fds:
            posix.close(self._fds.popitem()[1])

    def _root(self, subset: str | None) -> int:
        if subset not in self._fds:
            self._fds[subset] = _own(subset)
        return self._fds[subset]

    def _open(self, path: str, flags: int) -> int:
        head, slash, rest = path.partition("/")
        own = head == "self" or head == "thread-self"
        root = self._root("pid" if own or head.isdecimal() else None)
        try:
            if own:  # these two are links, and links are never followed, so they are read and checked here
                head = posix.readlink(head, dir_fd=root)
                if not head.replace("/task/", "").isdecimal():
                    raise OSError(errno.ELOOP, "no process id in the link")
            return _syscalls.openat2(root, head + slash + rest, flags | posix.O_CLOEXEC, 0, RESOLVE)
        except OSError as e:
            raise _named(e, path, "readlinkat") from None


def _own(subset: str | None) -> int:
    """O_PATH-like fd of a procfs root, from the first method that the kernel allows."""
    try:
        return _proven(_fresh(subset))
    except OSError as e:
        if e.errno not in REFUSED:
            raise
    try:
        return _proven(_syscalls.open_tree(constants.AT_FDCWD, "/proc", constants.OPEN_TREE_CLONE | constants.OPEN_TREE_CLOEXEC))
    except OSError as e:
        if e.errno not in REFUSED:
            raise
    try:
        return _proven(posix.open("/proc", posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC))
    except OSError as e:
        raise _named(e, "", "open") from None


def _fresh(subset: str | None) -> int:
    context = _syscalls.fsopen("proc", constants.FSOPEN_CLOEXEC)
    try:
        if subset:
            try:
                _syscalls.fsconfig(context, constants.FSCONFIG_SET_STRING, "subset", subset, 0)
            except OSError as e:
                if e.errno != errno.EINVAL:  # the option does not exist before Linux 5.8: use the complete one
                    raise
        _syscalls.fsconfig(context, constants.FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscalls.fsmount(context, constants.FSMOUNT_CLOEXEC, ATTRIBUTES)
    finally:
        posix.close(context)


def _proven(fd: int) -> int:
    """Returns fd if it is the root of a procfs; otherwise closes it and raises ENODEV."""
    try:
        _must_be_procfs(fd)
        if posix.fstat(fd).st_ino != ROOT_INODE:
            raise OSError(errno.ENODEV, "not the root of a procfs")
    except OSError:
        posix.close(fd)
        raise
    return fd


def _must_be_procfs(fd: int) -> None:
    if _syscalls.fstatfs(fd)[0] != constants.PROC_SUPER_MAGIC:
        raise OSError(errno.ENODEV, "not a file of procfs")


def _named(e: OSError, path: str, call: str = "fstatfs") -> CallError:
    """The error with the name of the call (unless it has one) and the path as /proc/…."""
    return CallError.of(e, call, path="/proc/" + path if path else "/proc")
