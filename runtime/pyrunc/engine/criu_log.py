"""CRIU's log in its work directory: why it failed, and what it left behind when it was killed."""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.errors import StepFailure, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.errors import PyruncError

LOG_TAIL = 1 << 18
# Lines of the log that are not a cause: the closing line, a helper of criu that notices the exit, a limit that containers may not raise.
NO_CAUSE = ("FAILED", "cgroupd: recv req error", "RLIMIT_NOFILE for self")
REASONS = ("criu-failed", "criu-answered")  # it exited or sent an invalid message; it reported a failure


def explain(error: PyruncError, folder_fd: int, folder: str, name: str) -> PyruncError:
    """Adds the errors and the path of the log to `criu failed: …`. Returns the error."""
    if not isinstance(error, StepFailure) or error.reason not in REASONS:
        return error
    line = errors_of(folder_fd, name)
    if line:
        error.words += ": " + line
    error.path = "%s/%s" % (folder, name)
    error.hint = error.hint or "log file: %s" % quote(error.path)
    return error


def errors_of(folder_fd: int, name: str) -> str | None:
    """The first and the last error in the log of this run: the cause and its consequence. None if there is none."""
    try:
        fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK, dir_fd=folder_fd)
    except OSError:
        return None
    try:
        size = posix.fstat(fd).st_size
        posix.lseek(fd, max(0, size - LOG_TAIL), 0)
        text = fileio.fsdecode(fileio.read_fd(fd, LOG_TAIL * 2))
    except OSError:
        return None
    finally:
        posix.close(fd)
    lines = [line for line in text.split("\n") if "Error (" in line]
    causes = [line for line in lines if not any(words in line for words in NO_CAUSE)]
    lines = causes or [line for line in lines if "FAILED" in line]
    errors = [line.partition("Error (")[2].partition("): ")[2] for line in (lines[:1] + lines[1:][-1:])]
    return quote("; ".join(errors), 400) or None


def sweep(folder_fd: int, name: str) -> None:
    """Removes the empty directories that a killed CRIU left behind; its log has their names. All mounts on them disappeared with it."""
    try:
        fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK, dir_fd=folder_fd)
    except OSError:
        return
    try:
        text = posix.read(fd, LOG_TAIL * 4)
    finally:
        posix.close(fd)
    for mark, parent_fd in ((b"/tmp/.criu.mntns.", None), (b".criu.cgyard.", folder_fd)):
        for tail in set(text.split(mark)[1:][:100]):
            if tail[:6].isalnum() and not tail[6:7].isalnum():
                try:
                    posix.rmdir(mark + tail[:6], dir_fd=parent_fd)
                except OSError:
                    continue  # CRIU had removed it
