"""Namespaces: their names, opening and comparing them, and cloning init into the right set of them (namespaces(7)).

Invariant: the host side never changes its own namespaces. Operations that require it (joining a user or pid namespace, writing time
offsets) are done by an intermediate process, a short-lived child that clones init as its *sibling* (CLONE_PARENT) and exits. So no hook can
run in the wrong namespace, nothing has to be reverted, and it works even if reverting is not permitted: in a user namespace a process may
enter a descendant's pid or time namespace, but not return to its own (setns fails with EPERM).
"""

from __future__ import annotations

import errno
import fcntl
import posix
from _struct import Struct

from pyrunc import fileio
from pyrunc.errors import CallError
from pyrunc.linux import _syscalls, fs
from pyrunc.linux.constants import (
    AT_FDCWD,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PARENT,
    NS_GET_NSTYPE,
    NS_GET_PARENT,
    NS_GET_USERNS,
    NSFS_MAGIC,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    PROC_SUPER_MAGIC,
    SIGCHLD,
    SIGKILL,
)

FLAGS = {
    "user": CLONE_NEWUSER,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "network": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
    "mount": CLONE_NEWNS,
}
FILES = {"user": "user", "ipc": "ipc", "uts": "uts", "network": "net", "pid": "pid", "cgroup": "cgroup", "time": "time", "mount": "mnt"}
# The order of joining: mount is last, because it changes the meaning of paths.
ORDER = ("ipc", "uts", "network", "pid", "cgroup", "time", "mount")
EINTR_TRIES = 3
REPORT = Struct("=ii16s16s")  # pid of init or 0, errno, call, namespace


def open_path(path: str, kind: str) -> int:
    """fd of the namespace at `path`, after checking that it is one of this kind. OSError: EINVAL from NS_GET_NSTYPE for a wrong one.

    Uses O_NONBLOCK because the path may be a fifo, and checks the file system before the ioctl, because its number has other meanings for
    other files."""
    fd = fs.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY)
    try:
        found = kind_of(fd)
        if found != kind:
            text = "is not a %s namespace" % kind if found is None else "is a %s namespace, not %s" % (found, kind)
            raise CallError(errno.EINVAL, text, path, "ioctl(NS_GET_NSTYPE)")
    except BaseException:
        posix.close(fd)
        raise
    return fd


def kind_of(fd: int) -> str | None:
    """The kind of the namespace that a descriptor refers to ('network', ...); None if it is not a namespace."""
    if _syscalls.fstatfs(fd)[0] != NSFS_MAGIC:
        return None
    flag = fcntl.ioctl(fd, NS_GET_NSTYPE)
    for kind, number in FLAGS.items():
        if number == flag:
            return kind
    return None


def is_own(fd: int, kind: str) -> bool:
    """Whether a descriptor refers to a namespace that this process is in."""
    return fileio.is_same(posix.fstat(fd), posix.stat("/proc/self/ns/" + FILES[kind]))


def is_shared(pid: int, kind: str) -> bool:
    """Whether another process is in the same namespace as this one. FileNotFoundError if this kernel has no namespaces of that kind."""
    return posix.readlink("/proc/%d/ns/%s" % (pid, FILES[kind])) == posix.readlink("/proc/self/ns/" + FILES[kind])


def is_owned_by(fd: int, user_fd: int, *, below: bool = False) -> bool:
    """Whether a namespace belongs to a user namespace, both given by descriptors (NS_GET_USERNS of ioctl_nsfs(2)); with `below`, or to one
    that was created in it. One that belongs to a user namespace above ours (EPERM) does not."""
    try:
        owner = fcntl.ioctl(fd, NS_GET_USERNS)
    except OSError as e:
        if e.errno != errno.EPERM:
            raise
        return False
    found = -1
    try:
        user = posix.fstat(user_fd)
        if fileio.is_same(posix.fstat(owner), user):
            return True
        found = ancestor(owner, user.st_ino) if below else -1
        return found >= 0
    finally:
        fs.close(owner, found)


def ancestor(fd: int, inode: int) -> int:
    """fd of the user namespace with that inode among the ancestors of the one that `fd` refers to; -1 if there is none up to our own
    (ioctl_nsfs(2))."""
    above = posix.dup(fd)
    while True:
        try:
            parent = fcntl.ioctl(above, NS_GET_PARENT)
        except OSError:
            return -1
        finally:
            posix.close(above)
        if posix.fstat(parent).st_ino == inode:
            return parent
        above = parent


def made_in_ours(fd: int) -> int:
    """fd of the user namespace that was created in ours and is, or contains, the one that `fd` refers to. Closes fd, or returns it."""
    while True:
        try:
            parent = fcntl.ioctl(fd, NS_GET_PARENT)
        except OSError:  # it is not below ours
            return fd
        if is_own(parent, "user"):
            posix.close(parent)
            return fd
        posix.close(fd)
        fd = parent


def exists(kind: str) -> bool:
    """Whether this kernel has namespaces of a kind."""
    try:
        _syscalls.fstatat(AT_FDCWD, "/proc/self/ns/" + FILES[kind], 0)
    except OSError:
        return False
    return True


def reap(pid: int) -> None:
    """Reaps a child. If our caller ignored SIGCHLD, the kernel has already reaped it, and there is no status."""
    try:
        posix.waitpid(pid, 0)
    except ChildProcessError:
        return


def leave_groups() -> None:
    """Gives up this process's supplementary groups, if it may: in a user namespace that denies it they would stay (user_namespaces(7))."""
    try:
        posix.setgroups([])
    except PermissionError:
        return


def join(fd: int, kind: str) -> None:
    """setns(2). The CallError names the namespace (.namespace)."""
    try:
        _syscalls.setns(fd, FLAGS[kind])
    except CallError as e:
        e.namespace = kind
        raise


# -- the clone of init ---------------------------------------------------------------------------------------------------


def clone_init(
    joins: dict[str, int],
    flags: int,
    cgroup_fd: int = -1,
    offsets: bytes | None = None,
    stays: bool = False,
    keeps_groups: bool = True,
) -> tuple[int, int, tuple[str, ...]]:
    """Returns (pid, pidfd, ()) of init in the host side, and (0, -1, kinds that it has already joined) in init.

    joins: {kind: descriptor} of the namespaces to join; init joins the remaining ones itself. flags: CLONE_NEW* of the new ones, except the
    cgroup namespace. cgroup_fd: for CLONE_INTO_CGROUP, or -1. offsets: the text of timens_offsets. An intermediate process is used for a
    joined pid or user namespace, for offsets, and for any join together with a new user namespace, from inside which init couldn't enter
    namespaces that the outer one owns. stays: the intermediate process itself becomes init, so only its children are in the pid and time
    namespaces. keeps_groups: false if it leaves our supplementary groups, as far as it may, before it joins a user namespace, which may deny
    that. CallError: .namespace names the one that failed."""
    if offsets or "user" in joins or "pid" in joins or (joins and flags & CLONE_NEWUSER):
        return _by_intermediate(joins, flags, cgroup_fd, offsets, stays, keeps_groups)
    return (*_clone(flags, SIGCHLD, cgroup_fd, True), ())


def _clone(flags: int, exit_signal: int, cgroup_fd: int, is_init: bool) -> tuple[int, int]:
    """clone3; a stop signal that arrives while the new process is created causes EINTR."""
    for tries in range(EINTR_TRIES):
        try:
            return _syscalls.clone3(flags, exit_signal, cgroup_fd, is_init)
        except OSError as e:
            if e.errno != errno.EINTR or tries == EINTR_TRIES - 1:
                raise
    raise AssertionError


def _by_intermediate(
    joins: dict[str, int], flags: int, cgroup_fd: int, offsets: bytes | None, stays: bool, keeps_groups: bool
) -> tuple[int, int, tuple[str, ...]]:
    early_cgroup = stays or "cgroup" in joins  # inside another cgroup namespace, CLONE_INTO_CGROUP is refused (nsdelegate)
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    try:
        pid, pidfd = _clone(0, SIGCHLD, cgroup_fd if early_cgroup else -1, stays)
        if pid == 0:
            if not _intermediate(joins, flags, offsets, writer, -1 if early_cgroup else cgroup_fd, stays, keeps_groups):
                posix._exit(0)
            return 0, -1, tuple(joins)  # init; the pipe is closed below, in both processes that get there
        posix.close(pidfd)
        posix.close(writer)
        writer = -1
        data = posix.read(reader, REPORT.size)  # shorter than PIPE_BUF: complete, or nothing if the intermediate process was killed
        made, number, call, kind = REPORT.unpack(data or bytes(REPORT.size))
        if made != pid:  # it stays only as init
            reap(pid)
    finally:
        if writer >= 0:
            posix.close(writer)
        posix.close(reader)
    if not data:
        raise CallError(errno.ECHILD, "the intermediate process exited without a report", call="clone3")
    if number:
        failed = CallError(number, posix.strerror(number), call=call.rstrip(b"\0").decode())
        failed.namespace = kind.rstrip(b"\0").decode()
        raise failed
    return made, posix.pidfd_open(made), ()  # our unreaped child: the pid can't have been reused


def _intermediate(
    joins: dict[str, int], flags: int, offsets: bytes | None, writer: int, cgroup_fd: int, stays: bool, keeps_groups: bool
) -> bool:
    """Runs in the intermediate process. True in init; otherwise init was created, or the failure was reported. Never raises: the code of
    the host side must not run here."""
    try:
        _syscalls.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        new_user = bool(flags & CLONE_NEWUSER)
        if ("pid" in joins or "user" in joins) and (not new_user or posix.geteuid() == 0):
            # other processes there may have CAP_SYS_PTRACE. With a new user namespace, an unprivileged host still has to write init's maps
            _syscalls.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        proc_fd = posix.open("/proc/self", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC) if offsets else -1
        if "user" in joins and not keeps_groups:
            leave_groups()
        _join_all(joins, new_user)
        if offsets:
            _write_offsets(proc_fd, offsets)
            posix.close(proc_fd)
            flags &= ~CLONE_NEWTIME
        if stays:
            _syscalls.unshare(flags & ~CLONE_NEWUSER)
            posix.write(writer, REPORT.pack(posix.getpid(), 0, b"", b""))
            return True
        pid, pidfd = _clone(flags & ~CLONE_NEWUSER | CLONE_PARENT, 0, cgroup_fd, True)
        if pid == 0:
            return True
        posix.close(pidfd)
        report = REPORT.pack(pid, 0, b"", b"")
    except OSError as e:
        found = CallError.of(e, "clone3")
        report = REPORT.pack(0, e.errno or errno.EIO, (found.call or "").encode(), (found.namespace or "").encode())
    except BaseException:
        report = REPORT.pack(0, errno.EIO, b"clone3", b"")
    try:
        posix.write(writer, report)
    except OSError:
        posix._exit(1)
    return False


def _join_all(joins: dict[str, int], new_user: bool) -> None:
    """Joins everything, in the order that works for all owners: first what the outer user namespace owns, then the user namespace, then
    what that one owns."""
    with_user = new_user or "user" in joins
    refused = []
    for kind in ORDER:
        if kind not in joins:
            continue
        try:
            join(joins[kind], kind)
        except OSError as e:
            if e.errno != errno.EPERM or not with_user:
                raise
            refused.append(kind)
    if "user" in joins:
        join(joins["user"], "user")
    elif new_user:
        try:
            _syscalls.unshare(CLONE_NEWUSER)
        except CallError as e:
            e.namespace = "user"
            raise
    for kind in refused:
        join(joins[kind], kind)


def _write_offsets(proc_fd: int, offsets: bytes) -> None:
    """A time namespace accepts offsets only while no process is in it (later EACCES), so they are written here, before the clone."""
    call = "unshare"
    try:
        _syscalls.unshare(CLONE_NEWTIME)
        call = "openat"
        fd = posix.open("timens_offsets", posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW, dir_fd=proc_fd)
        call = "fstatfs"
        if _syscalls.fstatfs(fd)[0] != PROC_SUPER_MAGIC:
            raise OSError(errno.EINVAL, "no procfs at /proc")
        call = "write"
        posix.write(fd, offsets)
        posix.close(fd)
    except OSError as e:
        failed = CallError.of(e, call)
        failed.namespace = "time"
        raise failed from None
