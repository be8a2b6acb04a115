"""A bus between the runtime and systemd that stops working at a chosen message.

Invariant: until then everything passes through unchanged, so with a large enough number the runtime must not notice it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING

from pyrunc.linux import dbus

if TYPE_CHECKING:
    import os
    from types import TracebackType

KINDS = ("silent", "deaf", "closed", "nonsense")  # deaf: systemd gets the calls, but its answers are lost
NONSENSE = b"l\x02\0\1" + b"\xff" * 60


class Proxy:
    """Listens at `path` and connects to the bus at `real`. The first `count` calls of each connection are passed on; `kind` says what happens
    then."""

    def __init__(self, path: str | os.PathLike[str], real: str, count: int, kind: str) -> None:
        self.real, self.count, self.kind = real, count, kind
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.broken = 0  # connections that were cut off
        self.over, self.end = socket.socketpair()
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end.close()
        for thread in self.threads:
            thread.join()
        self.server.close()
        self.over.close()

    def _accept(self) -> None:
        while self.over not in select.select([self.server, self.over], [], [])[0]:
            thread = threading.Thread(target=self._serve, args=(self.server.accept()[0],), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as bus, contextlib.suppress(OSError):
            bus.connect(self.real)
            self._pass_on(client, bus)

    def _pass_on(self, client: socket.socket, bus: socket.socket) -> None:
        asked, passed, greeted, cut = bytearray(), 0, False, False
        while True:
            ready = select.select([client, bus, self.over], [], [])[0]
            if self.over in ready:
                return
            if bus in ready:
                data = bus.recv(65536)
                if not data:
                    return
                if not cut:
                    client.sendall(data)
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                asked += data
                if not greeted:
                    if b"BEGIN\r\n" not in asked:
                        continue
                    size = asked.index(b"BEGIN\r\n") + len(b"BEGIN\r\n")
                    bus.sendall(asked[:size])
                    del asked[:size]
                    greeted = True
                while found := dbus.header(asked):
                    size, call = found[3], bytes(asked[: found[3]])
                    del asked[:size]
                    if passed < self.count:
                        bus.sendall(call)
                        passed += 1
                        continue
                    if not cut:
                        cut = True
                        self.broken += 1
                        if self.kind == "closed":
                            return
                        if self.kind == "nonsense":
                            client.sendall(NONSENSE)
                    if self.kind == "deaf":
                        bus.sendall(call)
