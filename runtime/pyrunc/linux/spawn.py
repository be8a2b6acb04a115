"""Runs a program until it exits: with given standard input, output collected up to a limit, a deadline, and no way to outlive us.

Works in the host side and behind init's import barrier: nothing is imported at call time. Invariant: it waits for the program itself, never
for the end of its output, which a daemon that the program started may keep open forever.

The child is a clone that calls execve immediately, because posix_spawn(3) can neither change to a directory by descriptor nor ask to be
killed with its parent. It leads a new process group, has default signal handlers, and only the descriptors 0, 1 and 2.
"""

from __future__ import annotations

import _signal
import errno
import fcntl
import posix
import select
import time

from pyrunc.errors import CallError
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import AT_FDCWD, CLOSE_RANGE_CLOEXEC, PR_SET_PDEATHSIG, SECCOMP_SET_MODE_FILTER, SIGCHLD, SIGKILL, UINT_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, Protocol

    class Cancel(Protocol):
        """The engine's stop signals: once one has arrived, `number` is set and `wake_fd` is readable."""

        wake_fd: int
        number: int

        def drain(self) -> None: ...


LIMIT = 64 << 10  # bytes kept of each stream: the last ones, where programs report errors
CHUNK = 64 << 10
DRAIN = 16  # reads after the program's exit: more than fit into a pipe, but an endless writer can't block us
POLL_MAX = 2**31 - 1


class Result:
    """How the program exited. why: 'exit', 'signal', 'timeout' or 'cancel'; code: exit status or signal number; out, err: bytes; ms:
    duration."""

    def __init__(self, why: str, code: int, core: bool, out: bytes, err: bytes, ms: int) -> None:
        self.why = why
        self.code = code
        self.core = core
        self.out = out
        self.err = err
        self.ms = ms

    @property
    def ok(self) -> bool:
        return self.why == "exit" and self.code == 0

    def text(self) -> str:
        """Go's wording, which callers of runc know: 'exit status 1', 'signal: killed'."""
        if self.why == "signal":
            return "signal: %s%s" % ((_signal.strsignal(self.code) or str(self.code)).lower(), " (core dumped)" if self.core else "")
        return "exit status %d" % self.code


def run(
    path: str | bytes,
    argv: Sequence[str | bytes],
    env: Sequence[str | bytes],
    stdin: bytes = b"",
    cwd_fd: int = -1,
    timeout_ms: int | None = None,
    cancel: Cancel | None = None,
    bpf: tuple[bytes, int] | None = None,
) -> Result:
    """-> Result. argv and env (["K=V"]) are lists of bytes or str. OSError (call execve, chdir, ...) if the program never ran.

    timeout_ms: after this time the whole process group is killed. cancel: an object with wake_fd, number and drain(), as in the engine;
    once `number` is set, the group is also killed. bpf: (filter, flags), a seccomp filter for the program, loaded as the last step."""
    begin = time.monotonic_ns()
    if _signal.getsignal(SIGCHLD) == _signal.SIG_IGN:  # inherited from our caller, but then the kernel would reap the child and its status
        _signal.signal(SIGCHLD, _signal.SIG_DFL)
    job = _Job(path, argv, env, cwd_fd, bpf)
    try:
        why = job.attend(stdin, None if timeout_ms is None else begin + timeout_ms * 1_000_000, cancel)
        info = posix.waitid(posix.P_PIDFD, job.pidfd, posix.WEXITED)
        assert info is not None  # waitid blocks until there is one
        if job.error:
            raise job.failure(path)
        job.drain()
    finally:
        job.close()
    if why is None:
        why = "exit" if info.si_code == posix.CLD_EXITED else "signal"
    core = info.si_code == posix.CLD_DUMPED
    return Result(why, info.si_status, core, bytes(job.kept[job.out]), bytes(job.kept[job.err]), (time.monotonic_ns() - begin) // 1_000_000)


class _Job:
    def __init__(
        self, path: str | bytes, argv: Sequence[str | bytes], env: Sequence[str | bytes], cwd_fd: int, bpf: tuple[bytes, int] | None
    ) -> None:
        pipes: list[int] = []
        self.pidfd = -1
        try:
            for _ in range(4):
                pipes += posix.pipe2(posix.O_CLOEXEC)
            pipes = [_high(fd) for fd in pipes]
            child_in, self.stdin, self.out, child_out, self.err, child_err, self.status, child_status = pipes
            parent = posix.getpid()
            self.pid, self.pidfd = _syscalls.clone3(0, SIGCHLD)
            if self.pid == 0:
                _child(path, argv, env, cwd_fd, (child_in, child_out, child_err), child_status, parent, bpf)
        except BaseException as e:
            for fd in pipes:
                posix.close(fd)
            if isinstance(e, OSError):
                raise CallError.of(e, "pipe2") from None
            raise
        for fd in (child_in, child_out, child_err, child_status):
            posix.close(fd)
        try:
            posix.setpgid(self.pid, self.pid)  # the child does the same: whichever is first
        except OSError as e:
            if e.errno not in (errno.EACCES, errno.ESRCH):  # it has already executed or exited
                raise
        self.kept = {self.out: bytearray(), self.err: bytearray()}
        self.error = b""

    def attend(self, stdin: bytes, end_ns: int | None, cancel: Cancel | None) -> str | None:
        """Waits until the program has exited; returns 'timeout' or 'cancel' if it was killed for that reason, else None."""
        poll = select.poll()
        for fd in (self.out, self.err, self.status, self.pidfd):
            poll.register(fd, select.POLLIN)
        for fd in (self.stdin, self.out, self.err):
            posix.set_blocking(fd, False)
        if cancel is not None:
            poll.register(cancel.wake_fd, select.POLLIN)
        left = memoryview(stdin)
        poll.register(self.stdin, select.POLLOUT)
        why = None
        while True:
            ready = poll.poll(_remaining(end_ns) if why is None else None)
            if not ready and why is None:
                why = "timeout"
                self.kill()
            for fd, _events in ready:
                if fd == self.pidfd:
                    return why
                if fd == self.stdin:
                    left = self._feed(left, poll)
                elif fd == self.status:
                    self.error += posix.read(fd, 64)
                    poll.unregister(fd)
                elif fd in self.kept:
                    if self._take(fd) == b"":
                        poll.unregister(fd)
                elif cancel is not None and not cancel.number:
                    cancel.drain()
                elif why is None:
                    why = "cancel"
                    self.kill()
                    poll.unregister(fd)

    def _feed(self, left: memoryview, poll: select.poll) -> memoryview:
        """Continues writing; closes standard input at the end, or if the program does not read it (EPIPE is not an error)."""
        try:
            left = left[posix.write(self.stdin, left) :] if left else left
        except BlockingIOError:
            return left
        except BrokenPipeError:
            left = left[:0]
        if not left:
            poll.unregister(self.stdin)
            posix.close(self.stdin)
            self.stdin = -1
        return left

    def _take(self, fd: int) -> bytes | None:
        """One chunk; None if there is nothing to read now."""
        try:
            data = posix.read(fd, CHUNK)
        except BlockingIOError:
            return None
        kept = self.kept[fd]
        kept += data
        if len(kept) > LIMIT:
            del kept[:-LIMIT]
        return data

    def drain(self) -> None:
        """Reads what the program wrote before it exited."""
        for fd in self.kept:
            for _ in range(DRAIN):
                if not self._take(fd):
                    break

    def kill(self) -> None:
        """Kills the whole group. The leader has not been reaped, so its pid can't have been reused."""
        try:
            posix.killpg(self.pid, SIGKILL)
        except OSError as e:
            if e.errno not in (errno.ESRCH, errno.EPERM):  # EPERM: a set-user-id program is in the group; the leader is killed below
                raise
        _signal.pidfd_send_signal(self.pidfd, SIGKILL)

    def failure(self, path: str | bytes) -> CallError:
        call, _, digits = self.error.partition(b":")
        number = int(digits)
        return CallError(number, posix.strerror(number), path, call.decode())

    def close(self) -> None:
        if self.pidfd >= 0 and _unfinished(self.pidfd):  # an exception is being raised: leave nothing behind
            self.kill()
            posix.waitid(posix.P_PIDFD, self.pidfd, posix.WEXITED)
        for fd in (self.stdin, self.out, self.err, self.status, self.pidfd):
            if fd >= 0:
                posix.close(fd)


def _unfinished(pidfd: int) -> bool:
    try:
        return posix.waitid(posix.P_PIDFD, pidfd, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT) is None
    except ChildProcessError:  # already reaped: the usual case
        return False


def _remaining(end_ns: int | None) -> int | None:
    """Milliseconds for poll; None for no deadline. Rounded up, so that the deadline has passed when poll returns."""
    if end_ns is None:
        return None
    return min(max(0, (end_ns - time.monotonic_ns() + 999_999) // 1_000_000), POLL_MAX)


def _high(fd: int) -> int:
    """Moves a descriptor above the standard streams, in case those were closed: otherwise it would be overwritten when the streams are set
    up."""
    if fd > 2:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    posix.close(fd)
    return moved


def _child(
    path: str | bytes,
    argv: Sequence[str | bytes],
    env: Sequence[str | bytes],
    cwd_fd: int,
    streams: Sequence[int],
    status: int,
    parent: int,
    bpf: tuple[bytes, int] | None,
) -> NoReturn:
    """Runs in the child and never returns. Reports the call that failed on `status`; if that is closed without a report, execve
    succeeded."""
    call = "setpgid"
    try:
        posix.setpgid(0, 0)
        call = "prctl"
        _syscalls.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if posix.getppid() != parent:
            posix._exit(1)
        call = "fchdir"
        if cwd_fd >= 0:
            posix.fchdir(cwd_fd)
        call = "dup2"
        for number, fd in enumerate(streams):
            posix.dup2(fd, number)
        call = "close_range"
        _syscalls.close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC)
        call = "rt_sigaction"
        _syscalls.reset_signals()
        if bpf is not None:
            call = "seccomp"
            _syscalls.seccomp(SECCOMP_SET_MODE_FILTER, bpf[1], bpf[0])
        call = "execve"
        _syscalls.execveat(AT_FDCWD, path, argv, env, 0)
    except OSError as e:
        posix.write(status, b"%s:%d" % (call.encode(), e.errno or errno.EIO))
    except BaseException:
        posix.write(status, b"%s:%d" % (call.encode(), errno.EINVAL))
    finally:
        posix._exit(127)
