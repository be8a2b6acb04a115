"""config-linux.md#configLinuxSeccomp: SCMP_ACT_NOTIFY and the listener; #containerprocessstate."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import json
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.case import case
from oci_conformance.cases.seccomp import filter_of, rule, tried
from oci_conformance.cases.state import conforms

if TYPE_CHECKING:
    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


NOTIFY_RECV, NOTIFY_SEND = 0xC0502100, 0xC0182101  # struct seccomp_notif: 80 bytes, struct seccomp_notif_resp: 24


class Listener:
    """A seccomp agent: accepts the connections of a runtime, and answers every notification with EDOM."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, "agent")
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(self.path)
        self.server.listen(4)
        self.messages: list[list[tuple[bytes, list[int]]]] = []  # [(data, [descriptors])], one list per connection
        self.closed: list[bool] = []
        self.fd: int | None = None
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.serve, daemon=True)]
        self.threads[0].start()

    def serve(self) -> None:
        while not self.stop.is_set():
            if system.readable(self.server.fileno(), 0.1):
                connection, _ = self.server.accept()
                self.take(connection)
                if self.fd is not None and len(self.threads) == 1:
                    self.threads.append(threading.Thread(target=self.answer, daemon=True))
                    self.threads[1].start()

    def take(self, connection: socket.socket) -> None:
        found, closed = [], False
        clock = system.Clock(10)
        with connection:
            while clock.left and not closed and system.readable(connection.fileno(), clock.left):
                rights = array.array("i")
                data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(16 * rights.itemsize))
                for level, kind, raw in ancillary:
                    if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                        rights.frombytes(raw[: len(raw) - len(raw) % rights.itemsize])
                closed = not data and not rights
                if not closed:
                    found.append((data, list(rights)))
                    if rights and self.fd is None:
                        self.fd = rights[0]
        self.messages.append(found)
        self.closed.append(closed)

    def answer(self) -> None:
        while not self.stop.is_set():
            if self.fd is None:
                return
            if system.readable(self.fd, 0.1):
                request = ctypes.create_string_buffer(80)
                try:
                    fcntl.ioctl(self.fd, NOTIFY_RECV, request)
                    number = struct.unpack_from("Q", request)[0]
                    fcntl.ioctl(self.fd, NOTIFY_SEND, struct.pack("QqiI", number, 0, -errno.EDOM, 0))
                except OSError:
                    return

    def close(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(5)
        self.server.close()


def notified(**more: object) -> dict[str, Json]:
    return filter_of(rule("SCMP_ACT_NOTIFY", "getsid"), **more)


@case(
    *("seccomp.action.notify seccomp.listener seccomp.listener.one seccomp.listener.closed seccomp.listener.metadata").split(),
    *("process-state.json process-state.rights process-state.version process-state.fds process-state.pid process-state.state").split(),
    needs="probe",
)
def listener(t: Trial) -> None:
    """The listener gets one container process state with the descriptor, and is notified of the calls."""
    agent = Listener(t.directory)
    try:
        changes = notified(listenerPath=agent.path, listenerMetadata="for the agent")
        made = t.created({**changes, "/annotations": {"com.example.x": "1"}}, "say begin", "call getsid 0", "call getpid")
        made.start()
        seen = made.finish()
    finally:
        agent.close()
    t.equal(len(agent.messages), 1, "connections", "seccomp.listener", "seccomp.listener.one")
    t.equal(
        [line.get("errno") for line in seen[1:3]], [errno.EDOM, 0], "getsid, which the agent answers, and getpid", "seccomp.action.notify"
    )
    messages = agent.messages[0] if agent.messages else []
    t.equal(agent.closed, [True], "the connection is closed", "seccomp.listener.closed")
    t.equal([len(rights) for _, rights in messages][:1], [1], "descriptors with the first message", "process-state.rights")
    t.equal([len(rights) for _, rights in messages][1:], [0] * (len(messages) - 1), "descriptors later", "process-state.rights")
    text = b"".join(data for data, _ in messages)
    try:
        document = json.loads(text)
    except ValueError:
        t.check(False, "one JSON document is sent", ("process-state.json", "seccomp.listener.one"), "JSON", repr(text))
        return
    t.check(isinstance(document, dict), "it is an object", ("process-state.json", "seccomp.listener.one"), None, document)
    t.equal(document.get("metadata"), "for the agent", "metadata", "seccomp.listener.metadata")
    t.check(str(document.get("ociVersion", "")).count(".") == 2, "ociVersion", "process-state.version", "x.y.z", document.get("ociVersion"))
    t.equal(document.get("fds"), ["seccompFd"], "fds", "process-state.fds")
    t.equal(document.get("pid"), made.pid, "pid", "process-state.pid")
    state = document.get("state")
    t.equal(conforms(state), [], "the state in it is valid", "process-state.state")
    state = state if isinstance(state, dict) else {}
    t.equal([state.get(key) for key in ("id", "bundle")], [made.id, made.bundle.path], "id and bundle of the state", "process-state.state")


@case("seccomp.listener.fails", needs="probe")
def nobody_listens(t: Trial) -> None:
    """If nobody listens at listenerPath, there is an error, at the latest when it is started."""
    t.refused(notified(listenerPath=os.path.join(t.directory, "nobody")), at="start")


@case("seccomp.action.notify", "seccomp.listener.metadata-alone")
def incomplete(t: Trial) -> None:
    """NOTIFY without listenerPath, and listenerMetadata without listenerPath, give an error."""
    t.refused(notified(), "seccomp.action.notify", at="start", what="NOTIFY without listenerPath gives an error")
    wrong = filter_of(rule("SCMP_ACT_ERRNO", "getsid"), listenerMetadata="x")
    t.refused(wrong, "seccomp.listener.metadata-alone", at="start", what="listenerMetadata without listenerPath gives an error")


@case("seccomp.listener.ignored", needs="probe")
def not_needed(t: Trial) -> None:
    """Without a NOTIFY rule listenerPath is ignored, even if nobody listens there."""
    changes = filter_of(rule("SCMP_ACT_ERRNO", "getsid"), listenerPath=os.path.join(t.directory, "nobody"))
    t.equal(tried(t, changes, "getsid 0"), [errno.EPERM], "getsid")
