"""The exit status of a process that is not our child, on kernels where a pidfd does not provide it (before Linux 6.15): the kernel reports
every exit on a netlink socket, before the parent can reap the process (Documentation/driver-api/connector.rst).

Invariant: only the exit of the requested process wakes us: a socket filter drops all other events. This requires CAP_NET_ADMIN in the
initial namespaces and CONFIG_PROC_EVENTS; without them no events arrive, and the status remains unknown.
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
# offsets in a message: nlmsghdr (16 bytes), cn_msg (20), proc_event (what, cpu, timestamp, then the event's data)
WHAT, PID, TGID, CODE, SIZE = 36, 52, 56, 60, 68


class Watch:
    """Watches for the exit of the process `pid`. OSError if the kernel does not allow it. Create it before checking whether the process is
    alive."""

    def __init__(self, pid: int) -> None:
        self.sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, NETLINK_CONNECTOR)
        try:
            self._filter(pid)  # before bind: while others listen, the kernel sends events to every bound socket at once
            self.sock.bind((0, CN_IDX_PROC))
            body = pack("=IIIIHHI", CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0, PROC_CN_MCAST_LISTEN)
            self.sock.send(pack("=IHHII", 16 + len(body), NLMSG_DONE, 0, 0, 0) + body)
        except OSError:
            self.sock.close()
            raise

    def _filter(self, pid: int) -> None:
        """Accepts only exit events whose process and thread group are `pid`. The filter reads words in network byte order."""
        program = b""
        tests = ((WHAT, PROC_EVENT_EXIT), (PID, pid), (TGID, pid))
        for left, (at, value) in zip((4, 2, 0), tests, strict=True):
            program += INSN.pack(LOAD, 0, 0, at)
            swapped = int.from_bytes(value.to_bytes(4, sys.byteorder), "big")
            program += INSN.pack(JUMP_EQUAL, 0, left + 1, swapped)
        program += INSN.pack(RET, 0, 0, 0xFFFF)
        program += INSN.pack(RET, 0, 0, 0)
        # the address of the data in a bytes object; the module array would provide it, but imports collections
        address = id(program) + bytes.__basicsize__ - 1
        self.sock.setsockopt(_socket.SOL_SOCKET, SO_ATTACH_FILTER, pack("@HP", len(program) // 8, address))

    def status(self) -> int | None:
        """The wait(2) status, or None if no event arrived."""
        try:
            message = self.sock.recv(4096)
        except OSError:
            return None
        return unpack_from("=I", message, CODE)[0] if len(message) >= SIZE else None

    def close(self) -> None:
        self.sock.close()
