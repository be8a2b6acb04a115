"""Foreground run and exec: forwards signals, relays a terminal, and exits with the program's status.

Without a terminal the program has our descriptors and there is nothing to relay. With one, we receive the pty's master over a socket pair:
our own terminal is switched to raw mode, bytes are relayed in both directions, the pty's size follows ours, and our terminal is always
restored.
"""

from __future__ import annotations

import _signal
import _socket
import errno
import fcntl
import posix
import select
from _signal import (
    SIGBUS,
    SIGCHLD,
    SIGFPE,
    SIGHUP,
    SIGILL,
    SIGINT,
    SIGKILL,
    SIGPIPE,
    SIGQUIT,
    SIGSEGV,
    SIGSTOP,
    SIGSYS,
    SIGTERM,
    SIGTRAP,
    SIGTTIN,
    SIGTTOU,
    SIGURG,
    SIGWINCH,
)
from _struct import pack, unpack

from pyrunc.engine import child, planner
from pyrunc.engine.handshake import MSG_CMSG_CLOEXEC, SCM_RIGHTS
from pyrunc.errors import StepFailure
from pyrunc.linux import pidfd, prctl
from pyrunc.linux.constants import S_IFIFO, S_IFMT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.engine.run import ExecRun, Run
    from pyrunc.engine.shapes import Other

TCGETS, TCSETSW, TIOCGWINSZ, TIOCSWINSZ = 0x5401, 0x5403, 0x5413, 0x5414
ENDING = {SIGHUP, SIGINT, SIGQUIT, SIGTERM}
CHUNK = 32768
# Not forwarded: synchronous signals concern ourselves; WINCH and CHLD have a special meaning here. SIGURG is used internally by Go
# programs. TTIN and TTOU concern our own terminal: a background job that uses it is stopped, and continues with the shell's `fg`.
OURS = {SIGKILL, SIGSTOP, SIGPIPE, SIGURG, SIGTTIN, SIGTTOU, SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS}


PASSED_ON = tuple(number for number in range(1, 65) if number not in OURS and number not in (32, 33))  # those two are the C library's


class Signals:
    """All signals of this process as bytes in a pipe, in the order of arrival."""

    def __init__(self) -> None:
        self.fd, self._write_fd = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._before_fd = _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        asked, change, ignored = _signal.getsignal, _signal.signal, _signal.SIG_IGN
        for number in PASSED_ON:
            if asked(number) is not ignored or number == SIGCHLD:
                change(number, _noted)

    def read(self) -> bytes:
        try:
            return posix.read(self.fd, 512)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """At the end of the command: signals that arrive later are dropped, and must not change its exit status."""
        _signal.set_wakeup_fd(self._before_fd)
        posix.close(self.fd)
        posix.close(self._write_fd)


def _noted(_number: int, _frame: object) -> None:
    """Does nothing: the byte in the pipe is enough."""


def terminal_of(run: Run | ExecRun) -> Terminal | None:
    """The caller's end of the terminal if the plan gives the program one; the other end of the socket pair is then run.fds["console"]. None if
    the program has our descriptors."""
    if planner.module("fds").inherits_stdio(run.plans):
        return None
    terminal = Terminal()
    run.fds["console"] = terminal.their_fd
    return terminal


class Terminal:
    """Our end of the container's terminal, and our own terminal (if standard input is one)."""

    def __init__(self) -> None:
        self.ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self.their_fd = theirs.detach()
        self.master = -1
        self.saved: bytes | None = None

    def receive(self) -> None:
        """Takes the master that init sent, once create has returned."""
        posix.close(self.their_fd)
        _body, extra, _flags, _from = self.ours.recvmsg(4096, _socket.CMSG_SPACE(4), MSG_CMSG_CLOEXEC)
        self.ours.close()
        for level, kind, raw in extra:
            if level == _socket.SOL_SOCKET and kind == SCM_RIGHTS:
                self.master = unpack("i", raw[:4])[0]
                posix.set_blocking(self.master, False)
                self.resize()
                return
        raise StepFailure("no-terminal", "the container sent no terminal", "foreground.receive", "host", "/process/terminal")

    def raw(self) -> None:
        """Switches our own terminal to raw mode, like cfmakeraw(3), except for OPOST: the container's terminal writes line feeds unchanged,
        and ours adds the carriage returns. A terminal that was hung up, or is no longer ours, is not changed."""
        saved = _ioctl(0, TCGETS, bytes(36))
        if saved is None:
            return
        iflag, oflag, cflag, lflag = unpack("4I", saved[:16])
        iflag &= ~0o2753  # IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON
        lflag &= ~0o100113  # ECHO ECHONL ICANON ISIG IEXTEN
        cflag = cflag & ~0o460 | 0o60  # CSIZE PARENB, CS8
        if _ioctl(0, TCSETSW, pack("4I", iflag, oflag, cflag, lflag) + saved[16:]) is not None:
            self.saved = saved

    def restore(self) -> None:
        if self.saved is not None:
            _ioctl(0, TCSETSW, self.saved)
            self.saved = None

    def resize(self) -> None:
        fit(self.master)

    def close(self) -> None:
        self.restore()
        if self.master >= 0:
            posix.close(self.master)
            self.master = -1


def fit(master: int) -> None:
    """Sets the size of the container's terminal to that of our own, whichever of our streams that is."""
    for fd in (0, 1, 2):
        size = _ioctl(fd, TIOCGWINSZ, bytes(8))
        if size is not None:
            _ioctl(master, TIOCSWINSZ, size)
            return


def _ioctl(fd: int, request: int, data: bytes) -> bytes | None:
    """The result of the call, or None if there is no terminal (any more): EIO after a hang-up. Python does not repeat an ioctl(2) that was
    interrupted by a signal, and SIGCONT does that, for a job that was stopped because it used the terminal."""
    while True:
        try:
            return fcntl.ioctl(fd, request, data)
        except InterruptedError:
            continue
        except OSError:
            return None


def _unblocked(fd: int) -> int:
    """Reopens our stream, so that a write does not block if the reader has stalled, without affecting other processes that share the
    stream. `fd` itself if it is neither a pipe nor a terminal."""
    try:
        if posix.fstat(fd).st_mode & S_IFMT == S_IFIFO or posix.isatty(fd):
            return posix.open("/proc/self/fd/%d" % fd, posix.O_WRONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
    except OSError:
        return fd
    return fd


def be_subreaper() -> None:
    """Makes us the parent of orphans of a container without a private pid namespace (prctl(2))."""
    prctl.set_child_subreaper(True)


class Relay:
    """Relays bytes in both directions. Each direction buffers at most one chunk, so a side that does not read slows the other down."""

    def __init__(self, terminal: Terminal, poll: select.poll) -> None:
        self.terminal = terminal
        self.poll = poll
        self.out = _unblocked(1)
        self.to_master = b""
        self.to_stdout = b""
        self.stdin_open = True
        self.master_open = True

    def watch(self) -> None:
        """Polls only for events that can be handled now, to avoid a busy loop when one side is full."""
        wanted = {0: 0, self.out: 0, self.terminal.master: 0}
        if self.master_open:
            if not self.to_stdout:
                wanted[self.terminal.master] |= select.POLLIN
            if self.to_master:
                wanted[self.terminal.master] |= select.POLLOUT
            elif self.stdin_open:
                wanted[0] |= select.POLLIN
        if self.to_stdout:
            wanted[self.out] |= select.POLLOUT
        for fd, events in wanted.items():
            if events:
                self.poll.register(fd, events)
            else:
                try:
                    self.poll.unregister(fd)
                except KeyError:
                    continue

    def act(self, fd: int, events: int) -> None:
        if fd == 0:
            self._from_stdin()
        elif fd == self.out:
            self._to_stdout()
        elif fd == self.terminal.master:
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self.from_master()
            if events & select.POLLOUT and self.to_master:
                self._to_master()

    def _from_stdin(self) -> None:
        try:
            data = posix.read(0, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the terminal was hung up
            data = b""
        if data:
            self.to_master = data
        else:
            self.stdin_open = False

    def _to_master(self) -> None:
        try:
            self.to_master = self.to_master[posix.write(self.terminal.master, self.to_master) :]
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            self.to_master = b""

    def from_master(self) -> bool:
        """False if there is nothing more to read now."""
        if self.to_stdout:
            return False
        try:
            self.to_stdout = posix.read(self.terminal.master, CHUNK)
        except BlockingIOError:
            return False
        except OSError as e:
            if e.errno != errno.EIO:  # the last slave was closed
                raise
        if not self.to_stdout:
            self.master_open = False
            return False
        return True

    def _to_stdout(self) -> None:
        try:
            self.to_stdout = self.to_stdout[posix.write(self.out, self.to_stdout[:4096]) :]
        except BlockingIOError:
            return
        except OSError:  # no process reads our output any more; the container continues
            self.to_stdout = b""

    def drain(self, caught: Signals) -> None:
        """After the program has exited: relays its remaining output, unless our reader has stalled and a signal asks us to stop."""
        poll = select.poll()
        poll.register(self.out, select.POLLOUT)
        poll.register(caught.fd, select.POLLIN)
        while self.to_stdout or self.from_master():
            ready = dict(poll.poll())
            if self.out in ready:
                self._to_stdout()
            elif not ENDING.isdisjoint(caught.read()):
                return

    def close(self) -> None:
        if self.out != 1:
            posix.close(self.out)
            self.out = 1


def attend(pid: int, fd: int, terminal: Terminal | None, caught: Signals, other: Other | None = None) -> int:
    """Waits for a child, forwarding signals and relaying. Returns its exit status, or 128 + the signal that killed it. other: something
    else to poll: its `act()` is called when its `fd` is readable, until it returns True."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(caught.fd, select.POLLIN)
    if other is not None:
        poll.register(other.fd, select.POLLIN)
    relay = None
    if terminal is not None:
        terminal.raw()
        relay = Relay(terminal, poll)
    while True:
        if relay is not None:
            relay.watch()
        for ready, events in poll.poll():
            if ready == caught.fd:
                _pass_on(caught.read(), fd, terminal)
            elif ready == fd:
                status = _status(pid, fd)  # first, because the container's cgroup can't be removed while there is a zombie
                if relay is not None:
                    relay.drain(caught)
                    relay.close()
                return status
            elif other is not None and ready == other.fd:
                if other.act():
                    poll.unregister(other.fd)
            elif relay is not None:
                relay.act(ready, events)


def _pass_on(numbers: bytes, fd: int, terminal: Terminal | None) -> None:
    for number in numbers:
        if number == SIGCHLD:
            _reap(fd)
        elif number == SIGWINCH and terminal is not None:
            terminal.resize()
        else:
            pidfd.kill(fd, number)


def _reap(fd: int) -> None:
    """Reaps orphans that became our children because we are a subreaper; the container's init is reaped last."""
    while True:
        try:
            info = posix.waitid(posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
        except ChildProcessError:
            return
        if info is None or pidfd.pid_of(fd) == info.si_pid:
            return
        posix.waitid(posix.P_PID, info.si_pid, posix.WEXITED)


def _status(pid: int, fd: int) -> int:
    info = child.reap(fd)
    if info is not None:
        return info.si_status if info.si_code == posix.CLD_EXITED else 128 + info.si_status
    code = pidfd.exit_status(fd)  # a process that traces the program withholds its status from us
    if code is None:
        raise StepFailure("status-unknown", "the exit status of pid %d is not known" % pid, "foreground.wait", "host")
    return pidfd.shell_status(code)
