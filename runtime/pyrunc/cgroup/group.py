"""One open cgroup: writes whose failures name the file, value and reason, and reads of files that may not exist.

Invariant: an error message never contains the C library's text for ENOENT or EACCES, which callers take for a missing or forbidden program
(exit codes 127 and 126); it describes the real problem instead, and the errno has its own field.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.cgroup import fs
from pyrunc.errors import CallError, StepFailure, errno_text, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Note: TypeAlias = tuple[str, str, str, str, str | None]  # (directory, key, file, value, previous content)


class Group:
    """An open cgroup directory of hierarchy `key`. Tests replace it with a dictionary of files: the methods are the interface."""

    def __init__(self, path: str, key: str) -> None:
        self.path = path
        self.key = key
        self.notes: list[Note] | None = None  # if a list, every write is recorded in it with the previous content of the file (update)
        self.fd = fs.open_dir(path, key)

    def close(self) -> None:
        if self.fd >= 0:
            posix.close(self.fd)
            self.fd = -1

    def look(self, name: str) -> str | None:
        """Text of a file, or None."""
        return fs.look(self.fd, name)

    def number(self, name: str) -> int | None:
        """A file of one integer, or None."""
        text = self.look(name)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None

    def has(self, name: str) -> bool:
        return self.look(name) is not None or self._is_there(name)

    def _is_there(self, name: str) -> bool:
        try:
            posix.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def put(self, name: str, value: str) -> None:
        """Writes. CallError, for callers that can handle some errno."""
        self.put_each(name, (value,))

    def put_each(self, name: str, values: Sequence[str]) -> None:
        """Writes several values, one at a time, to a file that is opened once. CallError as in put(), with the refused value."""
        old = self.look(name) if self.notes is not None else None
        fs.write_each(self.fd, name, values, self.path)
        if self.notes is not None:
            self.notes += [(self.path, self.key, name, value, old) for value in values]

    def write(self, name: str, value: str, pointer: str | None = None) -> None:
        """Writes. StepFailure."""
        try:
            self.put(name, value)
        except OSError as e:
            raise self.failure(e, name, value, pointer) from None

    def failure(self, e: OSError, name: str, value: str, pointer: str | None) -> StepFailure:
        """The StepFailure for a write that was refused."""
        words = 'failed to write "%s" to %s/%s' % (quote(value), quote(self.path), name)
        hint = None
        if self.key == "unified" and e.errno in (errno.ENOENT, errno.EACCES, errno.EPERM) and CallError.of(e).call == "open":
            from pyrunc.cgroup import v2

            reason, hint = v2.explain_missing(self.path, name, e.errno)
        elif e.errno == errno.ENOENT:
            reason = "this kernel has no such control file here"
        elif e.errno in fs.REFUSED:
            reason = fs.refusal_text(e.errno, "the kernel does not allow it")
        else:
            reason = errno_text(e.errno)
        return StepFailure(
            "write-refused", "%s: %s" % (words, reason), None, None, pointer, CallError.of(e).call, e.errno, self.path + "/" + name, hint
        )


def not_joined(controller: str, pointer: str, hint: str | None = None) -> StepFailure:
    """The failure for a controller that is needed but has no cgroup, with runc's wording."""
    return StepFailure(
        "not-joined", "cannot set %s limit: container could not join or create cgroup" % controller, pointer=pointer, hint=hint
    )
