"""/linux/netDevices (config-linux.md#network-devices): moves devices from the runtime's network namespace to the container's.

Invariant: a device is renamed and moved in one request, which the kernel handles under one lock, so it is never visible in the container
under its host name, or on the host under its new one. Moving takes it down; its permanent addresses of universe scope are restored. The
kernel returns moved devices to the host when the namespace is destroyed, so there is nothing to undo here.
"""

from __future__ import annotations

import _socket
import errno
import posix

from pyrunc.errors import CallError, Refusal, StepFailure, errno_text, escape_pointer, quote
from pyrunc.linux import netlink
from pyrunc.linux.constants import IFF_UP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.linux.netlink import Route
    from pyrunc.parts.sides import Context, HostRun

    class Given(TypedDict, total=False):
        name: str

    Node = TypedDict(
        "Node",
        {"/linux/netDevices": dict[str, Given]},
        total=False,
    )

    class Entry(TypedDict):
        devices: list[list[str]]  # [host name, container name, pointer]

    Address = tuple[int, int, bytes, bytes | None]  # family, prefix, address, broadcast


POINTER: Final = "/linux/netDevices"
NAME_MAX = 15  # IFNAMSIZ without the NUL


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/linux/netDevices": {host name: {"name"}}}. Entry: {"devices": [[host name, container name, pointer], ...]}, or None.

    Refuses: no network namespace in the list, an unprivileged runtime, invalid names (the new name may contain one %d), two devices with
    one new name, the loopback device, and devices that do not exist."""
    devices = node[POINTER]
    if not devices:
        return None
    if ctx.plans["namespaces"]["host_net"]:
        raise Refusal("no-network-namespace", "unable to move network devices without a NET namespace", POINTER)
    if ctx.euid != 0:
        raise Refusal("rootless-netdevs", "network devices are not supported for rootless containers", POINTER)
    entry: list[list[str]] = []
    taken: dict[str, str] = {}
    for host_name, device in devices.items():
        pointer = "%s/%s" % (POINTER, escape_pointer(host_name))
        _check_name(host_name, pointer, False)
        name = device.get("name") or host_name
        _check_name(name, pointer + "/name", True)
        if host_name == "lo" or name == "lo":
            raise Refusal("loopback", "the loopback device belongs to its network namespace", pointer)
        if name in taken and "%" not in name:
            raise Refusal(
                "duplicate-device-name", 'two network devices would be named "%s"' % name, pointer, "the other one is %s" % taken[name]
            )
        taken[name] = host_name
        try:
            _socket.if_nametoindex(host_name)
        except OSError:
            raise Refusal("no-such-device", 'no network device "%s" in the network namespace of the runtime' % host_name, pointer) from None
        entry.append([host_name, name, pointer])
    return {"devices": entry}


def _check_name(name: str, pointer: str, template: bool) -> None:
    """The kernel's rule (dev_valid_name), and at most one %d, which the kernel replaces with a number."""
    bad = not name or len(name.encode("utf-8", "surrogateescape")) > NAME_MAX or name in (".", "..") or not name.isprintable()
    bad = bad or any(c in "/:" or c.isspace() for c in name)
    if bad or "%" in name.replace("%d", "", 1 if template else 0):
        raise Refusal("bad-device-name", 'invalid network device name "%s"' % quote(name), pointer, "1 to 15 bytes, without / : and blanks")


def host_move(entry: Entry, run: HostRun) -> None:
    """Host side, while init waits. The target is run.fds["ns:network"] if that is joined, else the namespace of run.pid. StepFailure with
    the device's pointer. After a failure, devices that were already moved return when the namespace is destroyed."""
    net_fd = run.fds.get("ns:network", -1)
    opened = -1
    if net_fd < 0:
        net_fd = opened = posix.open("/proc/%d/ns/net" % run.pid, posix.O_RDONLY | posix.O_CLOEXEC)
    outer = inner = None
    try:
        outer = netlink.Route()
        inner = netlink.Route.inside(net_fd)
        for host_name, name, pointer in entry["devices"]:
            try:
                _move(outer, inner, net_fd, host_name, name)
            except OSError as e:
                words = 'cannot move network device "%s": %s' % (host_name, _text(e, name))
                raise StepFailure("device-not-moved", words, pointer=pointer, call=CallError.of(e).call, errno=e.errno) from e
    finally:
        if opened >= 0:
            posix.close(opened)
        for route in (outer, inner):
            if route is not None:
                route.close()


def _text(e: OSError, name: str) -> str:
    if e.errno == errno.EEXIST:
        return 'the network namespace of the container has a device "%s" already' % name
    if e.errno == errno.ENODEV:
        return "it is gone"
    return "%s (%s)" % (errno_text(e.errno), e.strerror) if e.strerror != posix.strerror(e.errno or 0) else errno_text(e.errno)


def _move(outer: Route, inner: Route, net_fd: int, host_name: str, name: str) -> None:
    index, _name, flags = outer.link(host_name)
    addresses = outer.addresses(index)  # read before the device goes down, which removes IPv6 addresses
    there = inner.links()
    if any(link[1] == name for link in there):
        raise _name_taken()  # checked first: the kernel moves before it renames, so after a failed rename the device would be in the container
    if flags & IFF_UP:
        outer.set_up(index, False)
    try:
        outer.move(index, net_fd, name)
    except OSError:
        if flags & IFF_UP:
            _restore(outer, index, addresses)
        raise
    index = _found(inner, name, {link[0] for link in there})
    _give_back(inner, index, addresses)
    inner.set_up(index, True)


def _name_taken() -> OSError:
    return CallError(errno.EEXIST, posix.strerror(errno.EEXIST), None, "RTM_NEWLINK")


def _restore(outer: Route, index: int, addresses: list[Address]) -> None:
    """Restores a device that remains on the host. Errors are ignored: the one being reported matters more."""
    try:
        outer.set_up(index, True)
        _give_back(outer, index, addresses)
    except OSError:
        return


def _found(inner: Route, name: str, there: set[int]) -> int:
    """The index in the new namespace, which may differ. If the name contained %d, the kernel chose the number, so look for the new
    device."""
    if "%" not in name:
        return inner.link(name)[0]
    before, _, after = name.partition("%d")
    came = [i for i, n, _flags in inner.links() if i not in there and n.startswith(before) and n.endswith(after)]
    if len(came) != 1:
        raise OSError(errno.ENODEV, posix.strerror(errno.ENODEV))
    return came[0]


def _give_back(route: Route, index: int, addresses: list[Address]) -> None:
    for family, prefix, address, broadcast in addresses:
        try:
            route.add_address(index, family, prefix, address, broadcast)
        except OSError as e:
            if e.errno != errno.EEXIST:  # IPv4 addresses survive taking the device down
                raise
