"""Pseudo terminals of a container: opened in its own devpts, sent in one message.

The image controls paths such as /dev/pts/0 and /dev/console (CVE-2025-52565, CVE-2026-88264). Invariant: nothing is opened, mounted or
chowned before its type has been verified on the descriptor itself.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import posix
from _struct import pack, unpack

from pyrunc.errors import CallError
from pyrunc.linux import _syscalls, constants, fs, paths
from pyrunc.linux.constants import DEVPTS_SUPER_MAGIC, S_IFCHR, S_IFMT, S_IFREG, S_IFSOCK, TIOCGPTPEER, TIOCSCTTY, TIOCSPTLCK, TIOCSWINSZ

ROOT_INODE = 1  # the root of a devpts
PTMX = (5, 2)
TCGETS, TCSETS, ONLCR = 0x5401, 0x5402, 0x0004
TERMIOS_SIZE = 36  # struct termios of the kernel: four flags of 32 bits, then the rest
SLAVE_MAJORS = range(136, 144)
NAME = b"/dev/ptmx"  # what runc sends with the descriptor; an empty message on a stream socket would lose it
INSIDE = constants.RESOLVE_BENEATH | constants.RESOLVE_NO_XDEV | constants.RESOLVE_NO_SYMLINKS | constants.RESOLVE_NO_MAGICLINKS


def open_pair(root_fd: int) -> tuple[int, int]:
    """(master, slave) of a new pty in the devpts at /dev/pts of the root. OSError ENODEV if there is no devpts, or the error of the
    lookup."""
    pts = paths.resolve(root_fd, "/dev/pts", posix.O_PATH | posix.O_DIRECTORY)
    try:
        if _syscalls.fstatfs(pts)[0] != DEVPTS_SUPER_MAGIC or fs.fstat(pts).st_ino != ROOT_INODE:
            raise fs.failure(errno.ENODEV, "fstatfs", "/dev/pts")
        # in the root directory of a devpts, this name can only be its own node
        master = _syscalls.openat2(pts, "ptmx", posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC, 0, INSIDE)
    finally:
        posix.close(pts)
    try:
        if fs.char_device(fs.fstat(master)) != PTMX:
            raise fs.failure(errno.ENODEV, "fstat", "/dev/pts/ptmx")
        fcntl.ioctl(master, TIOCSPTLCK, pack("i", 0))
        # the slave is opened through the master, so no name is resolved a second time
        slave = fcntl.ioctl(master, TIOCGPTPEER, posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
    except OSError as e:
        posix.close(master)
        raise CallError.of(e, "ioctl") from None
    if not is_slave(slave):
        posix.close(master)
        posix.close(slave)
        raise fs.failure(errno.ENODEV, "fstat", "the slave of /dev/pts/ptmx")
    return master, slave


def is_slave(fd: int) -> bool:
    """Whether fd is the slave of a pty: c 136:* in a devpts."""
    return fs.char_device(fs.fstat(fd))[0] in SLAVE_MAJORS and _syscalls.fstatfs(fd)[0] == DEVPTS_SUPER_MAGIC


def set_size(fd: int, height: int, width: int) -> None:
    """Sets rows and columns of a terminal."""
    fcntl.ioctl(fd, TIOCSWINSZ, pack("4H", height, width, 0, 0))


def keep_line_ends(fd: int) -> None:
    """Clears ONLCR: a line feed is written unchanged, without a carriage return before it."""
    settings = fcntl.ioctl(fd, TCGETS, bytes(TERMIOS_SIZE))
    iflag, oflag = unpack("2I", settings[:8])
    fcntl.ioctl(fd, TCSETS, pack("2I", iflag, oflag & ~ONLCR) + settings[8:])


def make_controlling(fd: int) -> None:
    """Makes the terminal the controlling terminal of this session; the caller must be the session leader."""
    fcntl.ioctl(fd, TIOCSCTTY, 0)


def bind_console(root_fd: int, slave: int) -> None:
    """Mounts the slave on /dev/console of the root, using descriptors. A missing file is created; a link or directory is refused (OSError
    EEXIST). The mount disappears with the mount namespace."""
    dev = paths.resolve(root_fd, "/dev", posix.O_PATH | posix.O_DIRECTORY)
    try:
        target = _console_file(dev)
        try:
            tree = _syscalls.open_tree(slave, "", constants.OPEN_TREE_CLONE | constants.OPEN_TREE_CLOEXEC | constants.AT_EMPTY_PATH)
            try:
                _syscalls.move_mount(tree, "", target, "", constants.MOVE_MOUNT_F_EMPTY_PATH | constants.MOVE_MOUNT_T_EMPTY_PATH)
            finally:
                posix.close(tree)
        finally:
            posix.close(target)
        check = posix.open("console", posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=dev)
        try:
            if fs.fstat(check).st_rdev != fs.fstat(slave).st_rdev or not is_slave(check):
                raise fs.failure(errno.EXDEV, "move_mount", "/dev/console")
        finally:
            posix.close(check)
    finally:
        posix.close(dev)


def _console_file(dev: int) -> int:
    """O_PATH fd of /dev/console itself: created exclusively, or the existing one if it is a file or a device node."""
    try:
        posix.close(
            posix.open("console", posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC, 0o620, dir_fd=dev)
        )
    except FileExistsError:
        pass  # checked below, never opened for use
    except OSError as e:
        raise CallError.of(e, "openat", path="/dev/console") from None
    fd = posix.open("console", posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=dev)
    if fs.fstat(fd).st_mode & S_IFMT not in (S_IFREG, S_IFCHR):
        posix.close(fd)
        raise fs.failure(errno.EEXIST, "openat", "/dev/console")
    return fd


def send_master(socket_fd: int, master: int) -> None:
    """Sends the only message of the console protocol: the name and one descriptor. Does not wait for a reply."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, socket_fd)
    try:
        sock.sendmsg([NAME], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack("i", master))])
    except OSError as e:
        raise CallError.of(e, "sendmsg") from None
    finally:
        sock.detach()


def connect(path: str, seconds: int) -> int:
    """fd of a stream socket connected to the unix socket at `path`, which may have any length. OSError: ENOTSOCK, ECONNREFUSED, EAGAIN if
    the listener's queue was full for `seconds`, or the error of the lookup."""
    node = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    try:
        if fs.fstat(node).st_mode & S_IFMT != S_IFSOCK:
            raise fs.failure(errno.ENOTSOCK, "connect", path)
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            # for unix sockets this also limits connect(); a non-blocking one would fail immediately if the queue is full
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, pack("ll", seconds, 0))
            sock.connect("/proc/self/fd/%d" % node)  # the node that was checked; sun_path holds 107 bytes, and paths may be longer
        except OSError as e:
            sock.close()
            raise CallError.of(e, "connect", path=path) from None
        return sock.detach()
    finally:
        posix.close(node)
