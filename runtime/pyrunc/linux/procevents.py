"""The exit status of a process that is nobody's child here, on kernels that do not keep it behind a pidfd (before Linux 6.15): the kernel
tells of every exit on a netlink socket, before the parent can wait for it (Documentation/driver-api/connector.rst).

Invariant: nothing wakes us but the end of the one process that is asked for: a socket filter drops all other events. It needs
CAP_NET_ADMIN in the initial namespaces and CONFIG_PROC_EVENTS; without them nothing comes, and the status stays unknown.
"""

from __future__ import annotations

import _socket
import sys
from _struct import pack, unpack_from

from pyrunc.linux.filters import INSN, JUMP_EQUAL, LOAD, RET

NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN = 1
PROC_EVENT_EXIT = 0x80000000
SO_ATTACH_FILTER = 26
NLMSG_DONE = 3
# offsets in a message: nlmsghdr (16 bytes), cn_msg (20), proc_event (what, cpu, timestamp; then what the event has)
WHAT, PID, TGID, CODE, SIZE = 36, 52, 56, 60, 68


class Watch:
    """Hears of the end of the process `pid`. OSError when the kernel does not let us listen. Begin before looking whether it lives."""

    def __init__(self, pid: int) -> None:
        self.sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, NETLINK_CONNECTOR)
        try:
            self.sock.bind((0, CN_IDX_PROC))
            self._filter(pid)
            body = pack("=IIIIHHI", CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0, PROC_CN_MCAST_LISTEN)
            self.sock.send(pack("=IHHII", 16 + len(body), NLMSG_DONE, 0, 0, 0) + body)
        except OSError:
            self.sock.close()
            raise

    def _filter(self, pid: int) -> None:
        """Exit events whose process and thread group are `pid`. The filter reads words in network order."""
        program = b""
        tests = ((WHAT, PROC_EVENT_EXIT), (PID, pid), (TGID, pid))
        for left, (at, value) in zip((4, 2, 0), tests, strict=True):
            program += INSN.pack(LOAD, 0, 0, at)
            swapped = int.from_bytes(value.to_bytes(4, sys.byteorder), "big")
            program += INSN.pack(JUMP_EQUAL, 0, left + 1, swapped)
        program += INSN.pack(RET, 0, 0, 0xFFFF)
        program += INSN.pack(RET, 0, 0, 0)
        # where a bytes object keeps its bytes; the module array would tell, but imports collections
        address = id(program) + bytes.__basicsize__ - 1
        self.sock.setsockopt(_socket.SOL_SOCKET, SO_ATTACH_FILTER, pack("@HP", len(program) // 8, address))

    def status(self) -> int | None:
        """As wait(2) has it; None: nothing was heard."""
        try:
            message = self.sock.recv(4096)
        except OSError:
            return None
        return unpack_from("=I", message, CODE)[0] if len(message) >= SIZE else None

    def close(self) -> None:
        self.sock.close()
