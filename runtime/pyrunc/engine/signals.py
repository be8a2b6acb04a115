"""Signals that ask create, start or delete to stop: noted, acted upon between two rows, so that undoing is never interrupted."""

from __future__ import annotations

import _signal
import posix
from _signal import SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU

from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ASKING = (SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGXCPU)  # those that are sent, and would end us halfway


class Interrupted(PyruncError):
    """A signal asked us to stop; everything is undone."""

    kind = "interrupted"

    def __init__(self, number: int) -> None:
        super().__init__("interrupted", "interrupted by signal %d" % number)
        self.exit_status = 128 + number


class Cancel:
    """While it stands, the signals of ASKING set `number` and make `wake_fd` readable. Signals the caller ignores stay ignored."""

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

    def _note(self, number: int, _frame: Any) -> None:
        if not self._ignored:
            self.number = self.number or number

    def check(self) -> None:
        """Interrupted when a signal has come."""
        if self.number:
            raise Interrupted(self.number)

    def ignore(self) -> None:
        """From here on (undoing) nothing more is noted."""
        self._ignored = True

    def drain(self) -> None:
        """Empties the pipe behind wake_fd."""
        try:
            self._seen += posix.read(self.wake_fd, 512)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Takes itself away. Signals that came meanwhile go to who listened before: they are for the program, which may run by now."""
        for number, handler in self._before.items():
            _signal.signal(number, handler)
        _signal.set_wakeup_fd(self._before_fd)
        self.drain()
        if self._before_fd >= 0 and self._seen:
            posix.write(self._before_fd, self._seen)
        posix.close(self.wake_fd)
        posix.close(self._write_fd)
