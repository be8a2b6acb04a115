"""Signals that ask create, start or delete to stop: they are recorded and handled between two rows, so that undoing is never
interrupted."""

from __future__ import annotations

import _signal
import posix
from _signal import SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU

from pyrunc.errors import PyruncError

ASKING = (SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGXCPU)  # signals from outside that would terminate us halfway


class Interrupted(PyruncError):
    """A signal asked us to stop; everything has been undone."""

    kind = "interrupted"

    def __init__(self, number: int) -> None:
        super().__init__("interrupted", "interrupted by signal %d" % number)
        self.exit_status = 128 + number


class Cancel:
    """While it is active, the signals in ASKING set `number` and make `wake_fd` readable. Signals that the caller ignores remain
    ignored."""

    def __init__(self) -> None:
        self.number = 0
        self._ignored = False
        self._seen = b""
        self.wake_fd, self._write_fd = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._before_fd = _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._before = {}
        for number in ASKING:
            if _signal.getsignal(number) is not _signal.SIG_IGN:
                self._before[number] = _signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        if not self._ignored:
            self.number = self.number or number

    def check(self) -> None:
        """Raises Interrupted if a signal has arrived."""
        if self.number:
            raise Interrupted(self.number)

    def ignore(self) -> None:
        """From now on (while undoing), signals are no longer recorded."""
        self._ignored = True

    def drain(self) -> None:
        """Empties the pipe behind wake_fd."""
        try:
            self._seen += posix.read(self.wake_fd, 512)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Restores the previous handlers. Signals that arrived in the meantime are passed to them: they are for the program, which may
        already be running."""
        for number, handler in self._before.items():
            _signal.signal(number, handler)
        _signal.set_wakeup_fd(self._before_fd)
        self.drain()
        if self._before_fd >= 0 and self._seen:
            posix.write(self._before_fd, self._seen)
        posix.close(self.wake_fd)
        posix.close(self._write_fd)
