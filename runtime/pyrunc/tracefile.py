"""--trace FILE, or PYRUNC_TRACE: the steps of a command as Chrome trace events, for Perfetto, chrome://tracing or speedscope.

The file is a JSON array (Trace Event Format, "JSON Array Format"): a command is a process, its threads are the host side and init. Commands
that are given the same file append to it under a lock, so one file can hold a container's whole life cycle. It is opened before anything else is
done, must be empty or contain a trace, and is written once, at the end of the command, whether that failed or not.
"""

from __future__ import annotations

import fcntl
import posix

from pyrunc import fileio, jsonio, trace
from pyrunc.errors import UsageError, errno_text, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyrunc.cmdline import Globals


FLAGS = posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY
HEAD, TAIL = b"[\n", b"\n]\n"
THREADS = {"host": 1, "init": 2}


def wanted(options: Globals, command: str, args: list[str]) -> list[File]:
    """[File], or [] if no file is wanted. --trace overrides PYRUNC_TRACE; an empty name means none. UsageError."""
    path = options.get("trace")
    if path is None:
        path = fileio.fsdecode(posix.environ.get(b"PYRUNC_TRACE", b""))
    return [File(path, command, args)] if path else []


class File:
    """The open file, and what is known about the command. TRACEPARENT (W3C Trace Context) is recorded unchanged."""

    def __init__(self, path: str, command: str, args: list[str]) -> None:
        self.path = path
        self.began = trace.now()
        self.command = command
        self.id = args[0] if args else ""
        try:
            self.fd = posix.open(path, FLAGS, 0o644)
            info = posix.fstat(self.fd)
        except OSError as e:
            raise _refused(path, errno_text(e.errno)) from None
        except ValueError:
            raise _refused(quote(path), "the path has a NUL byte") from None
        if not fileio.is_regular(info.st_mode):
            raise _refused(path, "it is not a regular file")
        if info.st_size and posix.pread(self.fd, len(TAIL), max(0, info.st_size - len(TAIL))) != TAIL:
            raise _refused(path, "it holds something else")
        trace.want()

    def finish(self, status: int) -> None:
        """Appends the events. An error here (a full disk) is ignored: the command is done."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            size = posix.fstat(self.fd).st_size
            text = (b",\n" if size else HEAD) + ",\n".join(self._events(status)).encode("utf-8", "surrogateescape") + TAIL
            posix.lseek(self.fd, max(0, size - len(TAIL)), 0)
            fileio.write_all(self.fd, text)
        except OSError:
            return
        finally:
            posix.close(self.fd)

    def _events(self, status: int) -> Iterator[str]:
        """One line for each event. Microseconds have three decimals and are formatted here, since jsonio writes no floats."""
        pid = posix.getpid()
        title = "pyrunc %s %s" % (self.command, self.id)
        yield jsonio.dumps({"ph": "M", "pid": pid, "tid": 1, "name": "process_name", "args": {"name": title}})
        for side, number in THREADS.items():
            yield jsonio.dumps({"ph": "M", "pid": pid, "tid": number, "name": "thread_name", "args": {"name": side}})
        args = {"id": self.id, "status": status}
        parent = posix.environ.get(b"TRACEPARENT")
        if parent:
            args["traceparent"] = fileio.fsdecode(parent)
        yield _span(self.began, trace.now(), "host", self.command, pid, args)
        for began, ended, side, name in trace.stamps():
            yield _span(began, ended, side, name, pid, None)


def _span(began: int, ended: int, side: str, name: str, pid: int, args: Mapping[str, object] | None) -> str:
    fields = jsonio.dumps(
        {"ph": "X", "pid": pid, "tid": THREADS.get(side, 2), "cat": side, "name": name, **({"args": args} if args else {})}
    )
    return '%s,"ts":%s,"dur":%s}' % (fields[:-1], _microseconds(began), _microseconds(max(0, ended - began)))


def _microseconds(ns: int) -> str:
    return "%d.%03d" % divmod(ns, 1000)


def _refused(path: str, reason: str) -> UsageError:
    words = "cannot write the trace to %s: %s" % (quote(path), reason)
    return UsageError("trace-file", words, None, "trace", "give --trace or PYRUNC_TRACE a new file, or one that holds a trace")
