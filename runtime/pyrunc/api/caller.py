"""One helper process (keeper.py) and the calls that go through it. Nothing here forks: subprocess starts the helper, which is executed
immediately, and each call is a message with descriptors. Many threads can make calls at the same time."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence

from pyrunc.api.errors import Error, Json, NotInstalledError, TimeoutExpired, of_record

KEEPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keeper.py")

NO_PROGRAM = (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP, errno.EPERM)


def memory_file(data: bytes = b"") -> int:
    """A descriptor of an anonymous file, positioned at its beginning."""
    fd = os.memfd_create("pyrunc", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def content(fd: int) -> bytes:
    """The contents of a memory file, whatever its position is: others may be writing to it."""
    size = os.fstat(fd).st_size
    parts = []
    at = 0
    while at < size:
        part = os.pread(fd, size - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _end(process: subprocess.Popen[bytes], control: socket.socket, owner: int) -> None:
    """The helper exits at end of file on its socket. In a forked child it is not our child and can't be reaped."""
    control.close()
    if owner == os.getpid():
        process.wait()


class Caller:
    """Starts the helper when it is first needed, and again if it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._stop: weakref.finalize[[subprocess.Popen[bytes], socket.socket, int], Caller] | None = None

    def close(self) -> None:
        """Stops the helper. Containers are not affected. The next call starts another one."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._stop is not None:
            self._stop()
        self._control = self._stop = None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            python = sys.executable or "/usr/bin/python3"
            try:
                process = subprocess.Popen(
                    [python, "-I", "-S", KEEPER], stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as e:
                ours.close()
                raise NotInstalledError("cannot execute %s: %s" % (python, e.strerror)) from None
        self._control = ours
        self._stop = weakref.finalize(self, _end, process, ours, os.getpid())
        return ours

    def _send(self, payload: int, answer: socket.socket, fds: Sequence[int]) -> None:
        """Restarts a dead helper once."""
        handed = [payload, answer.fileno(), *fds]
        with self._lock:
            control = self._control or self._start()
            try:
                socket.send_fds(control, [b"x"], handed)
            except (BrokenPipeError, ConnectionResetError):
                self._forget()
                socket.send_fds(self._start(), [b"x"], handed)

    def begin(self, request: Mapping[str, object], fds: Sequence[int] = ()) -> socket.socket:
        """Sends a message. The answer arrives on the socket that is returned; closing it terminates the command."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        payload = memory_file(json.dumps(request).encode("utf-8", "surrogatepass"))
        try:
            with theirs:
                self._send(payload, theirs, fds)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(payload)
        return ours

    def ask(self, request: Mapping[str, object], fds: Sequence[int] = (), timeout: float | None = None) -> dict[str, Json]:
        """Sends a message and returns its answer. TimeoutExpired closes the answer's socket, and the helper then terminates the command."""
        with self.begin(request, fds) as ours:
            poll = select.poll()
            poll.register(ours, select.POLLIN)
            end = None if timeout is None else time.monotonic() + timeout
            while not poll.poll(None if end is None else max(0.0, end - time.monotonic()) * 1000):
                raise TimeoutExpired("took longer than %g s" % (timeout or 0))
            data = ours.recv(65536)
        if not data:
            raise Error("the helper process exited before the command did")
        found: dict[str, Json] = json.loads(data)
        return found

    def command(
        self,
        argv: Sequence[str],
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        more: Sequence[int] = (),
        timeout: float | None = None,
        name: str = "the command",
    ) -> int:
        """Runs argv (a path, then arguments) until it exits. None: /dev/null. `more` become 3, 4, …. name: the command, for the error. →
        exit status, or 128 plus the signal if it was killed."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            fds = [null if fd is None else fd for fd in (stdin, stdout, stderr)]
            found = self.ask({"do": "run", "argv": list(argv)}, [*fds, *more], timeout)
        except TimeoutExpired as e:
            raise TimeoutExpired("%s %s" % (name, e)) from None
        finally:
            os.close(null)
        if "errno" in found:
            kind = NotInstalledError if found["errno"] in NO_PROGRAM else Error
            raise kind("cannot execute %s: %s" % (argv[0], os.strerror(found["errno"])), {"errno": found["errno"], "path": argv[0]})
        code = os.waitstatus_to_exitcode(found["status"])
        return code if code >= 0 else 128 - code

    def ending(self, pid: int, start: int, timeout: float | None = None) -> int | None:
        """Wait status of a process that became the helper's child, as soon as it has exited; None for other processes."""
        status = self.ask({"do": "ended", "pid": pid, "start": start}, (), timeout)["status"]
        return None if status is None else int(status)


def failure(log: str) -> Error | None:
    """The exception for the last record with level `error` in a JSON log; None if there is none."""
    try:
        with open(log, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:  # not pyrunc: it did not even open the log
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:  # not written by pyrunc
            continue
        if isinstance(record, dict) and record.get("level") == "error":
            return of_record(record)
    return None


class Workspace(tempfile.TemporaryDirectory[str]):
    """A directory for the files that one command writes (log, pid file), removed at the end of the context. A command that was aborted may
    still create one while the directory is being removed; it creates each only once, so a few attempts are enough."""

    ATTEMPTS = 10

    def __init__(self) -> None:
        super().__init__(prefix="pyrunc-")

    def cleanup(self) -> None:
        for _ in range(self.ATTEMPTS - 1):
            try:
                return super().cleanup()
            except OSError as e:
                if e.errno != errno.ENOTEMPTY:
                    raise
        super().cleanup()


class LogFile:
    """A file for one command's log, removed with its directory at the end of the context."""

    def __init__(self) -> None:
        self._directory = Workspace()
        self.name = self._directory.name + "/log"

    def __enter__(self) -> LogFile:
        with open(self.name, "xb"):
            return self

    def __exit__(self, *_error: object) -> None:
        self._directory.cleanup()


def log_file() -> LogFile:
    return LogFile()
