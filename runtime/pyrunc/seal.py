"""Runs this program from a file that nobody can write (CVE-2019-5736): a container can make the runtime execute /proc/self/exe, or
open /proc/PID/exe of a process that is joining it, and gets hold of the *host's* interpreter.

Three ways, the first that works: an overlay of two lower directories (0.3 ms; without an upper one its superblock can't be made
writable by anybody, while a read-only bind can be remounted), a sealed memfd (a copy, 7 ms for Debian's interpreter), an unnamed
temporary file (where vm.memfd_noexec forbids the second; a private copy that nobody else will ever run). Rule: whether it has
happened is asked of /proc/self/exe itself, never of the environment; the same question is put to a file before it is executed, so
there is no loop. Libraries are not protected by this; an executable without any is (csrc/launcher.c).
"""

import posix
import sys
from fcntl import fcntl

from pyrunc.errors import NO_DESCRIPTORS, StepFailure, errno_text
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import (
    AT_EMPTY_PATH,
    F_ADD_SEALS,
    F_GET_SEALS,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_STRING,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    MFD_EXEC,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    OVERLAYFS_SUPER_MAGIC,
    ST_NOEXEC,
    ST_RDONLY,
    TMPFS_MAGIC,
)

SELF = "/proc/self/exe"
SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
EINVAL = 22
OTHER_LAYERS = ("/usr/lib", "/etc", "/var", "/run")  # any directory does that is neither above nor below the executable's
TEMPORARY = ("/run", "/dev/shm", "/tmp", "/var/tmp")


def ensure(argv):
    """Returns when this process runs from a sealed file; else executes the same interpreter from one, with `argv` (the launcher first)
    and the caller's environment as it was. StepFailure when no way works: nothing that meets a container runs unsealed."""
    last = None
    if getattr(sys, "pyrunc_is_sealed", False):  # the compiled launcher has put the question in this very process
        return
    try:
        if is_sealed():
            return
    except OSError as e:  # no descriptor is left, say
        last = e
    for way in (_overlay, _memfd, _unnamed):
        try:
            fd = way()
            if _is_safe(fd):
                _execute(fd, argv)
            posix.close(fd)
        except OSError as e:
            last = e
    number = last.errno if last is not None else None
    hint = "an overlay needs privileges, a memfd vm.memfd_noexec below 2"
    hint = {2: "is proc mounted on /proc?", 24: NO_DESCRIPTORS}.get(number, hint)
    raise StepFailure(
        "run-sealed-copy", "cannot run from a sealed copy of %s: %s" % (sys.executable, errno_text(number) if number else "no way works"),
        "seal.ensure", "host", None, getattr(last, "call", None), number, sys.executable,
        hint,
    )  # fmt: skip


def is_sealed():
    """Whether the file that this process executes can be written by nobody."""
    fd = posix.open(SELF, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return _is_safe(fd)
    finally:
        posix.close(fd)


def _is_safe(fd):
    """A memfd with all seals; a read-only overlay that no path leads to; a file that has no name (and whose writer is gone)."""
    kind, flags = _syscalls.fstatfs(fd)
    if kind == TMPFS_MAGIC and _seals(fd) & SEALS == SEALS:
        return True
    if posix.fstat(fd).st_nlink == 0:
        return True
    return kind == OVERLAYFS_SUPER_MAGIC and flags & ST_RDONLY != 0 and not _has_path(fd)


def _seals(fd):
    try:
        return fcntl(fd, F_GET_SEALS)
    except OSError as e:
        if e.errno != EINVAL:
            raise
        return 0


def _has_path(fd):
    """False for a file of a mount that is attached nowhere. A host whose root is a read-only overlay answers True: that one may
    have an upper layer, and be remounted."""
    here = posix.fstat(fd)
    try:
        there = posix.stat(posix.readlink("/proc/self/fd/%d" % fd))
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _overlay():
    """-> fd of the executable in a detached overlay of its directory and another one."""
    folder, _, name = posix.readlink(SELF).rpartition("/")
    apart = [d for d in OTHER_LAYERS if not (d + "/").startswith(folder + "/") and not (folder + "/").startswith(d + "/")]
    if not apart:  # it lies in / itself, above all others
        raise OSError(EINVAL, "no second layer")
    context = _syscalls.fsopen("overlay", FSOPEN_CLOEXEC)
    try:
        _syscalls.fsconfig(context, FSCONFIG_SET_STRING, "lowerdir", "%s:%s" % (_escaped(folder or "/"), apart[0]), 0)
        _syscalls.fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0)
        mount = _syscalls.fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    finally:
        posix.close(context)
    try:
        fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW, dir_fd=mount)
    finally:
        posix.close(mount)
    return fd


def _escaped(path):
    """Colons separate layers, a backslash takes that meaning away."""
    return path.replace("\\", "\\\\").replace(":", "\\:")


def _memfd():
    flags = MFD_CLOEXEC | MFD_ALLOW_SEALING
    try:
        fd = posix.memfd_create("pyrunc", flags | MFD_EXEC)
    except OSError as e:
        if e.errno != EINVAL:  # a kernel before 6.3 knows no MFD_EXEC, and needs none
            e.call = "memfd_create"
            raise
        fd = posix.memfd_create("pyrunc", flags)
    _fill(fd)
    fcntl(fd, F_ADD_SEALS, SEALS)
    return fd


def _unnamed():
    """-> fd, for reading, of a copy in a file that never had a name and, with O_EXCL, can't get one."""
    for folder in TEMPORARY:
        try:
            if _syscalls.statfs(folder)[1] & ST_NOEXEC:
                continue
            fd = posix.open(folder, posix.O_TMPFILE | posix.O_RDWR | posix.O_EXCL | posix.O_CLOEXEC, 0o500)
        except OSError as e:
            last = e
            continue
        _fill(fd)
        readable = posix.open("/proc/self/fd/%d" % fd, posix.O_RDONLY | posix.O_CLOEXEC)
        posix.close(fd)  # a file that is open for writing is not executed (ETXTBSY)
        return readable
    last.call = "openat"
    raise last


def _fill(fd):
    source = posix.open(SELF, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        while posix.sendfile(fd, source, None, 1 << 30):
            continue
    finally:
        posix.close(source)


def _execute(fd, argv):
    """Does not return, or raises OSError. Python adds LC_CTYPE to its own environment; the kernel has it as the caller gave it."""
    environment = [x for x in _read("/proc/self/environ").split(b"\0") if x]
    if "__file__" in globals():  # else this module is part of the executable, which needs no telling what to run
        argv = [sys.executable, "-I", "-S", *argv]
    _syscalls.execveat(fd, "", argv, environment, AT_EMPTY_PATH)


def _read(path):
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts = []
        while parts[-1:] != [b""]:
            parts.append(posix.read(fd, 1 << 20))
        return b"".join(parts)
    finally:
        posix.close(fd)
