"""Drives a runtime: RUNTIME [options] --root DIR create|start|state|kill|delete …, the command line that runc, crun, youki and others
share.

Rule: no call may take longer than its time limit, and processes that a call leaves behind cannot block us: streams are files or
our own pipe, and are never read to the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from oci_conformance import system

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from subprocess import Popen

    from oci_conformance.shapes import CallDict, Json, Version


CALL_SECONDS = 20
FLOOD = 64 << 20  # more bytes of output than any normal call has
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
MARK = "OCI_CONFORMANCE"  # in the environment of everything that a case starts


class Unusable(Exception):
    """The runtime cannot be tested at all; the text is one line."""


class Call:
    """The result of a call. code: exit status, negative for a signal, None if it was aborted."""

    def __init__(self, argv: list[str], code: int | None, out: str, err: str) -> None:
        self.argv = argv
        self.code = code
        self.out = out
        self.err = err

    @property
    def hung(self) -> bool:
        return self.code is None

    @property
    def refused(self) -> bool:
        """The runtime reported an error and exited."""
        return self.code is not None and self.code > 0

    @property
    def how(self) -> str:
        if self.code is None:
            return "does not return, or produces too much output"
        return "exit %d" % self.code if self.code >= 0 else "killed by signal %d" % -self.code

    def as_dict(self) -> CallDict:
        return {"argv": self.argv, "how": self.how, "out": self.out[-1500:], "err": self.err[-1500:]}


class Stream:
    """An anonymous file for one stream."""

    def __init__(self, text: bytes = b"") -> None:
        self.fd = os.memfd_create("stream", os.MFD_CLOEXEC)
        os.write(self.fd, text)
        os.lseek(self.fd, 0, os.SEEK_SET)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def text(self, limit: int = 1 << 20) -> str:
        return os.pread(self.fd, min(self.size(), limit), 0).decode("utf-8", "surrogateescape")

    def close(self) -> None:
        os.close(self.fd)


class Runtime:
    def __init__(self, path: str, label: str | None = None, options: Sequence[str] = (), seconds: float = CALL_SECONDS) -> None:
        self.path = path
        self.label = label or os.path.basename(path)
        self.options = list(options)
        self.seconds = seconds
        self.name = self.label  # the runtime's own name: the key in deviations.py
        self.version = "unknown"
        self.declares: Version | None = None  # (1, 2, 0): the newest specification that it supports
        self.features: dict[str, Json] | None = None  # its features document

    def check(self) -> None:
        """Raises Unusable if the file cannot be executed."""
        if not os.path.exists(self.path):
            raise Unusable("%s: there is no such file" % self.path)
        if os.path.isdir(self.path) or not os.access(self.path, os.X_OK):
            raise Unusable("%s: not an executable file" % self.path)

    def argv(self, root: str | None, arguments: Sequence[str]) -> list[str]:
        return [self.path, *self.options, *(["--root", root] if root else []), *arguments]

    def call(
        self,
        *arguments: str,
        root: str | None = None,
        stdin: bytes = b"",
        stdout: int | None = None,
        cwd: str = "/",
        mark: str = "",
        seconds: float | None = None,
        env: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
        umask: int = -1,
    ) -> Call:
        """Makes one call. `stdout`: a descriptor to use instead of a file; `fds`: further descriptors to inherit."""
        argv = self.argv(root, arguments)
        streams = [Stream(stdin), Stream(), Stream()]
        try:
            process = subprocess.Popen(
                argv,
                stdin=streams[0].fd if stdin else subprocess.DEVNULL,
                stdout=streams[1].fd if stdout is None else stdout,
                stderr=streams[2].fd,
                cwd=cwd,
                env={**ENVIRONMENT, MARK: mark, **(env or {})},
                start_new_session=True,
                pass_fds=fds,
                umask=umask,
            )
        except OSError as e:
            for stream in streams:
                stream.close()
            raise Unusable("cannot execute %s: %s" % (self.path, e.strerror)) from None
        code = finish(process, self.seconds if seconds is None else seconds, streams)
        done = Call(argv, code, streams[1].text(), streams[2].text())
        for stream in streams:
            stream.close()
        return done


def finish(process: Popen[bytes], seconds: float, streams: Sequence[Stream] = ()) -> int | None:
    """The exit status of a child, or None if it took too long or produced too much output and was killed with its process group."""
    pidfd = os.pidfd_open(process.pid)
    clock = system.Clock(seconds)
    try:
        while clock.left and all(stream.size() < FLOOD for stream in streams):
            if system.ended(pidfd, min(0.5, clock.left)):
                return process.wait()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None
    finally:
        os.close(pidfd)
