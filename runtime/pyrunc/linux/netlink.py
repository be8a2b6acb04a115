"""The part of rtnetlink(7) that a runtime needs: bringing up loopback, and links and addresses of devices that move to another namespace.

A socket belongs to the network namespace in which it was created; `Route.inside()` creates one for another namespace without joining it.
Invariant: every request is acknowledged or raises a CallError (call: the message's name; strerror: the kernel's own words if it has any).
"""

from __future__ import annotations

import _socket
import posix
from _struct import Struct, pack, unpack_from
from errno import EIO

from pyrunc.errors import CallError
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import CLONE_NEWNET, IFF_UP, SIGCHLD
from pyrunc.linux.ns import reap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

NETLINK_ROUTE, SOL_NETLINK, NETLINK_EXT_ACK = 0, 270, 11
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 18, 20, 22
NAMES = {RTM_NEWLINK: "RTM_NEWLINK", RTM_GETLINK: "RTM_GETLINK", RTM_NEWADDR: "RTM_NEWADDR", RTM_GETADDR: "RTM_GETADDR"}
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x300, 0x200, 0x400
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
IFLA_IFNAME, IFLA_NET_NS_FD = 3, 28
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
NLMSGERR_ATTR_MSG = 1
NLA_TYPE_MASK = 0x3FFF
IFA_F_PERMANENT = 0x80
SCOPE_UNIVERSE = 0
LOOPBACK_INDEX = 1  # in every network namespace
HEADER = Struct("=IHHII")  # length, type, flags, sequence, port
LINK = Struct("=BxHiII")  # family, type, index, flags, change
ADDRESS = Struct("=BBBBi")  # family, prefix length, flags, scope, index
ATTRIBUTE = Struct("=HH")
RECEIVE = 1 << 18


class Route:
    """A NETLINK_ROUTE socket. close() it."""

    def __init__(self, sock: _socket.socket | None = None) -> None:
        self.sock = sock or _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self.sock.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.sequence = 0

    @classmethod
    def inside(cls, net_fd: int) -> Route:
        """A socket in another network namespace: a child joins it, creates the socket, and passes it back."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        pid, pidfd = _syscalls.clone3(0, SIGCHLD)
        if pid == 0:
            _hand_over(net_fd, theirs)
        posix.close(pidfd)
        theirs.close()
        try:
            data, extra, _flags, _from = ours.recvmsg(64, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        finally:
            ours.close()
            reap(pid)
        if not extra:
            number = int(data) if data else EIO  # it was killed before it could report the reason
            raise CallError(number, posix.strerror(number), None, "setns")
        return cls(_socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, NETLINK_ROUTE, unpack_from("i", extra[0][2])[0]))

    def close(self) -> None:
        self.sock.close()

    def request(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Sends one message and returns the bodies of the replies (none for a plain acknowledgement)."""
        self.sequence += 1
        data = HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self.sequence, 0) + body
        self.sock.send(data)
        found: list[bytes] = []
        while True:
            data = self.sock.recv(RECEIVE)
            at = 0
            while at + HEADER.size <= len(data):
                size, what, flags_back, sequence, _port = HEADER.unpack_from(data, at)
                part = data[at + HEADER.size : at + size]
                at += (size + 3) & ~3
                if sequence != self.sequence:
                    continue
                if what in (NLMSG_ERROR, NLMSG_DONE):
                    _check(kind, what, flags_back, part)
                    return found
                found.append(part)

    def links(self) -> list[tuple[int, str, int]]:
        """[(index, name, flags)] of all devices."""
        return [_link(body) for body in self.request(RTM_GETLINK, NLM_F_DUMP, LINK.pack(0, 0, 0, 0, 0))]

    def link(self, name: str) -> tuple[int, str, int]:
        """(index, name, flags). OSError ENODEV if there is no device with this name."""
        body = LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0")
        return _link(self.request(RTM_GETLINK, NLM_F_ACK, body)[0])

    def set_up(self, index: int, up: bool) -> None:
        self.request(RTM_NEWLINK, NLM_F_ACK, LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP))

    def move(self, index: int, net_fd: int, name: str) -> None:
        """Renames and moves in one step, so that the device is never in one namespace under its name in the other. `name` may contain one
        %d."""
        body = attribute(IFLA_NET_NS_FD, pack("=I", net_fd)) + attribute(IFLA_IFNAME, name.encode() + b"\0")
        self.request(RTM_NEWLINK, NLM_F_ACK, LINK.pack(0, 0, index, 0, 0) + body)

    def addresses(self, index: int) -> list[tuple[int, int, bytes, bytes | None]]:
        """[(family, prefix length, address bytes, broadcast bytes or None)]: the permanent addresses of universe scope of one device."""
        found = []
        for body in self.request(RTM_GETADDR, NLM_F_DUMP, ADDRESS.pack(0, 0, 0, 0, 0)):
            family, prefix, short_flags, scope, of = ADDRESS.unpack_from(body)
            attributes = parse(body[ADDRESS.size :])
            flags = unpack_from("=I", attributes[IFA_FLAGS])[0] if IFA_FLAGS in attributes else short_flags
            if of == index and scope == SCOPE_UNIVERSE and flags & IFA_F_PERMANENT and family in (_socket.AF_INET, _socket.AF_INET6):
                address = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]
                found.append((family, prefix, address, attributes.get(IFA_BROADCAST)))
        return found

    def add_address(self, index: int, family: int, prefix: int, address: bytes, broadcast: bytes | None = None) -> None:
        body = ADDRESS.pack(family, prefix, 0, SCOPE_UNIVERSE, index) + attribute(IFA_LOCAL, address) + attribute(IFA_ADDRESS, address)
        if broadcast:
            body += attribute(IFA_BROADCAST, broadcast)
        self.request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)


def _hand_over(net_fd: int, theirs: _socket.socket) -> NoReturn:
    """In the child: never returns."""
    try:
        _syscalls.setns(net_fd, CLONE_NEWNET)
        sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        theirs.sendmsg([b"0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack("i", sock.fileno()))])
    except OSError as e:
        theirs.send(b"%d" % (e.errno or EIO))
    finally:
        posix._exit(0)


def _check(kind: int, what: int, flags: int, part: bytes) -> None:
    number = -unpack_from("=i", part)[0] if len(part) >= 4 else 0
    if number <= 0:
        return
    text = None
    if flags & NLM_F_ACK_TLVS and what == NLMSG_ERROR:
        skip = 4 + (HEADER.size if flags & NLM_F_CAPPED else (unpack_from("=I", part, 4)[0] + 3) & ~3)
        text = parse(part[skip:]).get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode("utf-8", "replace") or None
    raise CallError(number, text or posix.strerror(number), None, NAMES.get(kind, "netlink"))


def _link(body: bytes) -> tuple[int, str, int]:
    _family, _type, index, flags, _change = LINK.unpack_from(body)
    name = parse(body[LINK.size :]).get(IFLA_IFNAME, b"").rstrip(b"\0")
    return index, name.decode("utf-8", "surrogateescape"), flags


def attribute(kind: int, data: bytes) -> bytes:
    size = ATTRIBUTE.size + len(data)
    return ATTRIBUTE.pack(size, kind) + data + b"\0" * (-size % 4)


def parse(data: bytes) -> dict[int, bytes]:
    """{kind: bytes}"""
    found = {}
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        size, kind = ATTRIBUTE.unpack_from(data, at)
        if size < ATTRIBUTE.size:
            break
        found[kind & NLA_TYPE_MASK] = data[at + ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found


def loopback_up() -> None:
    """Brings up the loopback device of this process's network namespace."""
    route = Route()
    try:
        route.set_up(LOOPBACK_INDEX, True)
    finally:
        route.close()
