"""One open cgroup: writes whose failures say file, value and reason, and reads that bear absence.

Its one rule: the words of an error never hold the C library's text for ENOENT or EACCES, which callers take for a missing or
forbidden program (exit codes 127 and 126); what is really wrong is said instead, and the errno stands in its own field.
"""

import errno
import posix

from pyrunc.cgroup import fs
from pyrunc.errors import CallError, StepFailure, errno_text, quote


class Group:
    """An open cgroup directory of hierarchy `key`. Tests put a dictionary of files in its place: the methods are the interface."""

    def __init__(self, path, key):
        self.path = path
        self.key = key
        self.notes = None  # a list: every write is noted there with what the file held before (update)
        self.fd = fs.open_dir(path, key)

    def close(self):
        if self.fd >= 0:
            posix.close(self.fd)
            self.fd = -1

    def look(self, name):
        """Text of a file, or None."""
        return fs.look(self.fd, name)

    def number(self, name):
        """A file of one integer, or None."""
        text = self.look(name)
        try:
            return int(text)
        except (TypeError, ValueError):
            return None

    def has(self, name):
        return self.look(name) is not None or self._is_there(name)

    def _is_there(self, name):
        try:
            posix.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def put(self, name, value):
        """Writes. OSError with .call and filename: for callers that know an errno which is not a failure."""
        self.put_each(name, (value,))

    def put_each(self, name, values):
        """Writes one after the other into a file that is opened once. OSError as put, with .value: the one that was refused."""
        old = self.look(name) if self.notes is not None else None
        fs.write_each(self.fd, name, values, self.path)
        if self.notes is not None:
            self.notes += [(self.path, self.key, name, value, old) for value in values]

    def write(self, name, value, pointer=None):
        """Writes. StepFailure."""
        try:
            self.put(name, value)
        except OSError as e:
            raise self.failure(e, name, value, pointer) from None

    def failure(self, e, name, value, pointer):
        """The StepFailure for a write that was refused."""
        words = 'failed to write "%s" to %s/%s' % (quote(value), quote(self.path), name)
        hint = None
        if self.key == "unified" and e.errno in (errno.ENOENT, errno.EACCES, errno.EPERM) and CallError.of(e).call == "open":
            from pyrunc.cgroup import v2

            reason, hint = v2.explain_missing(self.path, name, e.errno)
        elif e.errno == errno.ENOENT:
            reason = "this kernel has no such control file here"
        elif e.errno in fs.REFUSED:
            reason = fs.refusal_text(e.errno, "the kernel does not let us")
        else:
            reason = errno_text(e.errno)
        return StepFailure(
            "failure", "%s: %s" % (words, reason), None, None, pointer, CallError.of(e).call, e.errno, self.path + "/" + name, hint
        )


def not_joined(controller, pointer, hint=None):
    """The controller is wanted, and there is no cgroup of it: the words are runc's."""
    return StepFailure(
        "set-limit-container", "cannot set %s limit: container could not join or create cgroup" % controller, pointer=pointer, hint=hint
    )
