"""What the caller gets about a process that was created: its pid in a file, its pidfd over a socket. For create, exec and restore."""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.engine.handshake import SCM_RIGHTS
from pyrunc.errors import CallError, StepFailure, errno_text
from pyrunc.linux import constants as c


def send_pidfd(path: str, fd: int) -> None:
    """--pidfd-socket: sends one message with init's pidfd, so that its receiver never has to trust a pid."""
    import _socket
    from _struct import pack

    from pyrunc.linux import tty

    try:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, tty.connect(path, 10))
        try:
            sock.sendmsg([b"pidfd"], [(_socket.SOL_SOCKET, SCM_RIGHTS, pack("i", fd))])
        finally:
            sock.close()
    except OSError as e:
        words = "cannot send the pidfd to %s: %s" % (path, errno_text(e.errno))
        raise StepFailure.from_oserror(CallError.of(e, words=words), "engine.pidfd_socket", "host") from e


def write_pid_file(path: str, pid: int) -> None:
    """Writes digits without a newline, and the file is complete when it appears (containerd calls Atoi on the raw bytes). Anything but a
    regular file is written in place: /dev/null must not be replaced by a file."""
    folder, _, name = path.rpartition("/")
    temporary = "%s/.%s" % (folder, name)
    try:
        if _is_written_in_place(path):
            fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY)
            try:
                fileio.write_all(fd, b"%d" % pid)
            finally:
                posix.close(fd)
            return
        fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o644)
        try:
            posix.fchmod(fd, 0o644)
            fileio.write_all(fd, b"%d" % pid)
            posix.rename(temporary, path)
        except OSError:
            posix.unlink(temporary)
            raise
        finally:
            posix.close(fd)
    except OSError as e:
        words = "cannot write the pid file %s: %s" % (path, errno_text(e.errno))
        failure = StepFailure.from_oserror(CallError.of(e, words=words), "engine.pid_file", "host")
        failure.hint = "give --pid-file a path in a directory that exists and can be written to"
        raise failure from e


def _is_written_in_place(path: str) -> bool:
    """Whether it is a character device, a fifo, or something that /dev/stdout and similar links lead to. OSError if it can be neither
    written nor replaced."""
    ours = path in ("/dev/stdout", "/dev/stderr") or path.startswith(("/dev/fd/", "/proc/self/fd/"))
    try:
        kind = posix.stat(path, follow_symlinks=ours).st_mode & c.S_IFMT
    except OSError:
        return False
    if kind in (c.S_IFBLK, c.S_IFSOCK):
        raise OSError(errno.EINVAL, "a block device or a socket")
    return ours or kind in (c.S_IFCHR, c.S_IFIFO)
