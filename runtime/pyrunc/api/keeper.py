"""The helper process of the Python API: runs the runtime's commands, and reaps the processes that they leave. A script, not a module.

It exists because a program with threads must not fork, and because a container's init becomes an orphan when `create` exits. This process
is a subreaper, so those orphans become its children: it knows their exit status, on every kernel, and none remains a zombie.

It receives requests over a SOCK_SEQPACKET pair, its standard input. A message is one byte and descriptors: a memory file with JSON, a
socket for the answer, and for `run` those that become descriptors 0, 1, 2, 3, … of the command.

    {"do": "run", "argv": [...]}                 → {"status": wait status} when it has ended, or {"errno": n}; when the other end of
                                                   the answer's socket is closed before, the command gets SIGTERM
    {"do": "ended", "pid": n, "start": ticks}    → {"status": wait status or null} as soon as that orphan has been reaped

At end of file, all commands get SIGTERM and the process exits; containers are not affected.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    from pyrunc.api.errors import Json

SUBREAPER = 36
KEPT = 4096  # exit statuses of orphans that have not been requested yet
MOST = 253  # SCM_MAX_FD
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # commands get the usual dispositions


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat: together with the pid it identifies a process. -1 if the process no longer exists."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return -1


class Keeper:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.selector = selectors.DefaultSelector()
        self.commands: dict[int, socket.socket] = {}  # pid: answer's socket
        self.asked: dict[tuple[int, int], list[socket.socket]] = {}  # (pid, start): [answer's socket]
        self.endings: dict[tuple[int, int], int] = {}  # (pid, start): wait status

    def serve(self) -> None:
        wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        self.selector.register(self.control, selectors.EVENT_READ, "control")
        self.selector.register(wake, selectors.EVENT_READ, "children")
        while True:
            for key, _events in self.selector.select():
                if key.data == "children":
                    os.read(wake, 4096)
                    self.reap()
                elif key.data == "control":
                    if not self.receive():
                        return
                elif key.fileobj in self.commands.values():  # the caller has closed it
                    self.cancel(key.fileobj)

    def receive(self) -> bool:
        data, ancillary, _flags, _address = self.control.recvmsg(1, socket.CMSG_SPACE(4 * MOST), socket.MSG_CMSG_CLOEXEC)
        fds: list[int] = []
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds += [int.from_bytes(raw[i : i + 4], sys.byteorder) for i in range(0, len(raw) - len(raw) % 4, 4)]
        if not data:
            return False
        payload, answer_fd, *rest = fds
        with open(payload, "rb") as file:
            request = json.loads(file.read())
        answer = socket.socket(fileno=answer_fd)
        if request["do"] == "run":
            self.run(request, answer, rest)
        else:
            self.tell((request["pid"], request["start"]), answer)
        return True

    def run(self, request: dict[str, Json], answer: socket.socket, fds: list[int]) -> None:
        """Copies the descriptors to numbers above the targets, so that none is overwritten by another one."""
        argv = request["argv"]
        copies: list[int] = []
        try:
            copies += [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(fds)) for fd in fds]
            actions: list[tuple[int, int, int]] = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(copies)]
            pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsigmask=(), setsigdef=IGNORED_BY_PYTHON)
        except (OSError, ValueError) as e:  # ValueError: a NUL byte in an argument
            return self.answer(answer, {"errno": getattr(e, "errno", None) or errno.EINVAL})
        finally:
            for fd in (*fds, *copies):
                os.close(fd)
        self.commands[pid] = answer
        self.selector.register(answer, selectors.EVENT_READ, "answer")

    def cancel(self, answer: FileDescriptorLike) -> None:
        self.selector.unregister(answer)
        for pid, known in self.commands.items():
            if known is answer:
                os.kill(pid, signal.SIGTERM)  # our child, not reaped yet

    def reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            start = start_time(found.si_pid)
            pid, status = os.waitpid(found.si_pid, 0)
            answer = self.commands.pop(pid, None)
            if answer is not None:
                self.answer(answer, {"status": status})
                continue
            for waiting in self.asked.pop((pid, start), ()):
                self.answer(waiting, {"status": status})
            self.endings[pid, start] = status
            while len(self.endings) > KEPT:
                del self.endings[next(iter(self.endings))]

    def tell(self, key: tuple[int, int], answer: socket.socket) -> None:
        """Answers immediately if the status is known; later for a child that has not exited or been reaped; with null for other
        processes."""
        if key in self.endings:
            return self.answer(answer, {"status": self.endings[key]})
        try:
            os.waitid(os.P_PID, key[0], os.WEXITED | os.WNOHANG | os.WNOWAIT)
            ours = start_time(key[0]) == key[1]
        except ChildProcessError:
            ours = False
        if not ours:
            return self.answer(answer, {"status": None})
        self.asked.setdefault(key, []).append(answer)

    def answer(self, where: socket.socket, data: dict[str, object]) -> None:
        if where in self.selector.get_map():
            self.selector.unregister(where)
        try:
            where.send(json.dumps(data).encode())
        except OSError:
            return  # the caller has closed it
        finally:
            where.close()


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("pyrunc: this process cannot become a subreaper")
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    keeper = Keeper(control)
    keeper.serve()
    for pid in keeper.commands:
        os.kill(pid, signal.SIGTERM)


if __name__ == "__main__":
    main()
