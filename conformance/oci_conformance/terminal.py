"""The caller's end of a terminal: a socket that the runtime sends the master of the pseudoterminal to (--console-socket, as runc).

Rule: waiting is bounded, and what comes is read while waiting.
"""

from __future__ import annotations

import array
import os
import socket
import tempfile
from typing import TYPE_CHECKING

from oci_conformance import probe, system

if TYPE_CHECKING:
    from oci_conformance.shapes import Line


class Console:
    """Create one before create, pass `option`, then call `receive()` and `lines()`."""

    def __init__(self, directory: str) -> None:
        self.directory = tempfile.mkdtemp(prefix="tty", dir=directory)
        self.path = os.path.join(self.directory, "s")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(1)
        self.master: int | None = None
        self.text = b""

    @property
    def option(self) -> tuple[str, str]:
        return ("--console-socket", self.path)

    def receive(self, seconds: float = 10) -> bool:
        """Whether a descriptor arrived."""
        if not system.readable(self.socket.fileno(), seconds):
            return False
        connection, _ = self.socket.accept()
        with connection:
            if not system.readable(connection.fileno(), seconds):
                return False
            rights = array.array("i")
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(8 * rights.itemsize))
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    rights.frombytes(data[: len(data) - len(data) % rights.itemsize])
            if rights:
                self.master = rights[0]
        return self.master is not None

    def lines(self, op: str, seconds: float = 10) -> list[Line]:
        """The program's output, up to the line of an operation."""
        clock = system.Clock(seconds)
        while clock.left and self.master is not None:
            found = probe.parse(self.text.decode("latin-1").replace("\r\n", "\n"))
            if any(line["op"] == op for line in found):
                return found
            if not system.readable(self.master, clock.left):
                break
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:
                break  # the last slave has been closed
            if not data:
                break
            self.text += data
        return probe.parse(self.text.decode("latin-1").replace("\r\n", "\n"))

    def close(self) -> None:
        self.socket.close()
        if self.master is not None:
            os.close(self.master)
