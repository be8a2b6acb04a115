"""Processes by descriptor: a pid alone does not identify a process, a pid with its start time does.

Open it, compare the start time, then signal through the descriptor: a process that got the same pid in the meantime is not affected. "Gone"
is a result here (-1, False, 0), not an error; all other errors are CallErrors.
"""

from __future__ import annotations

import _signal
import posix
from _struct import pack_into, unpack_from
from errno import EINVAL, ENOENT, ESRCH
from fcntl import ioctl

from pyrunc import fileio
from pyrunc.errors import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux._syscalls import Stat

PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xff, 11, struct pidfd_info), 64 bytes, Linux 6.13
PIDFD_INFO_EXIT = 1 << 3  # exit_code of a reaped process, Linux 6.15
EXIT_CODE_AT = 60
CORE_DUMPED = 0x80  # in the status of wait(2)
PF_FORKNOEXEC = 0x40  # include/linux/sched.h


def _stat(pid: int, many: int = 20) -> list[bytes] | None:
    """`many` fields of proc_pid_stat(5) from the third on, and the rest as one (the name before them may contain anything, including
    `) R 1`). None: no such process."""
    try:
        fd = posix.open("/proc/%d/stat" % pid, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as e:
        if e.errno in (ENOENT, ESRCH):
            return None
        raise CallError.of(e, "openat") from None
    try:
        text = posix.read(fd, 4096)
    except OSError as e:
        if e.errno == ESRCH:
            return None
        raise CallError.of(e, "read") from None
    finally:
        posix.close(fd)
    return text[text.rindex(b")") + 2 :].split(None, many)


def start_time(pid: int, living: bool = False) -> int:
    """Field 22, in clock ticks since boot; 0 if there is no such process or, with `living`, if it is a zombie."""
    fields = _stat(pid)
    if fields is None or (living and fields[0] in (b"Z", b"X", b"x")):
        return 0
    return int(fields[19])


def has_executed(pid: int) -> bool:
    """Whether a process has called execve since it was cloned: not if its flags, field 9, still have PF_FORKNOEXEC. This also works for a
    zombie; True for a process that no longer exists."""
    fields = _stat(pid)
    return fields is None or not int(fields[6]) & PF_FORKNOEXEC


def ancestors() -> list[int]:
    """Pids of our parent, its parent, and so on, as far as /proc shows them."""
    found = []
    pid = posix.getppid()
    while pid > 0 and pid not in found:
        found.append(pid)
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0
    return found


def command_line(pid: int) -> str:
    """The command line of a process, for messages; "" if it no longer exists."""
    try:
        fd = posix.open("/proc/%d/cmdline" % pid, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(fd, 4096).rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        posix.close(fd)


def has_open(pid: int, info: Stat) -> bool:
    """Whether a process has the file with the stat result `info` open."""
    try:
        names = posix.listdir("/proc/%d/fd" % pid)
    except OSError:
        return False
    for name in names:
        try:
            found = posix.stat("/proc/%d/fd/%s" % (pid, name))
        except OSError:
            continue
        if fileio.is_same(found, info):
            return True
    return False


def boot_id() -> str:
    """The boot id: start times count from boot, so a recorded one is only valid during the same boot."""
    fd = posix.open("/proc/sys/kernel/random/boot_id", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 64).decode("ascii").strip()
    finally:
        posix.close(fd)


def open_any(pid: int) -> int:
    """pidfd of the process that has this pid now; -1 if there is none: ESRCH, or EINVAL if the number is still in use for a session or a
    process group."""
    try:
        return posix.pidfd_open(pid)
    except OSError as e:
        if e.errno == ESRCH or (e.errno == EINVAL and pid > 0):
            return -1
        raise CallError.of(e, "pidfd_open") from None


def open_init(pid: int, started: int) -> int:
    """pidfd of the process that had `pid` and started at `started`; -1 if it no longer exists, even if the pid was reused.

    A zombie is also opened, because it can be waited for. The start time is read after opening: if it matches now, the descriptor refers to
    that process.
    """
    fd = open_any(pid) if pid > 0 else -1
    if fd >= 0 and (not started or start_time(pid) != started):
        posix.close(fd)
        return -1
    return fd


def kill(fd: int, number: int) -> bool:
    """Sends a signal. False: the process is gone."""
    try:
        _signal.pidfd_send_signal(fd, number)
    except OSError as e:
        if e.errno == ESRCH:
            return False
        raise CallError.of(e, "pidfd_send_signal") from None
    return True


def wait(fd: int, timeout_ms: float | None = None) -> bool:
    """Waits until the process has exited; it does not have to be our child. False after the timeout."""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def pid_of(fd: int) -> int:
    """The pid that a pidfd refers to, in the namespace of /proc; -1 after it was reaped."""
    info = posix.open("/proc/self/fdinfo/%d" % fd, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        lines = posix.read(info, 4096).split(b"\n")
    finally:
        posix.close(info)
    return next(int(line[4:]) for line in lines if line[:4] == b"Pid:")


def exit_status(fd: int) -> int | None:
    """The wait(2) status of a process (see posix.waitstatus_to_exitcode), if the kernel shows it to processes other than the parent; None
    if it is alive, or the status is not known.

    Uses field 52 of the zombie's stat, or PIDFD_GET_INFO after it was reaped.
    """
    pid = pid_of(fd)
    if pid > 0:
        fields = _stat(pid, 50)
        if fields is not None and fields[0] == b"Z" and len(fields) > 49:
            return int(fields[49])
    info = bytearray(64)
    pack_into("Q", info, 0, PIDFD_INFO_EXIT)
    try:
        ioctl(fd, PIDFD_GET_INFO, info)
    except OSError:  # before Linux 6.13 (ENOTTY), or alive in another namespace (ESRCH): both mean "not known"
        return None
    if not unpack_from("Q", info, 0)[0] & PIDFD_INFO_EXIT:
        return None
    code: int = unpack_from("i", info, EXIT_CODE_AT)[0]
    return code


def shell_status(code: int) -> int:
    """A status of wait(2) as a shell reports it: the exit status, or 128 plus the signal."""
    number = posix.waitstatus_to_exitcode(code & ~CORE_DUMPED)
    return number if number >= 0 else 128 - number


def exit_signal(fd: int) -> int:
    """The signal that killed a process; 0 if none did, it is alive, or the status is not known."""
    return (exit_status(fd) or 0) & 0x7F
