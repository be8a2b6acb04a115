"""config-linux.md#configLinuxNetworkDevices. Devices are created in a network namespace that plays the role of the runtime's, so that the
host's devices are not affected. They are created with netlink directly, so no program is needed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.case import case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_conformance.container import Container
    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


CLONE_NEWNET = 0x40000000
RTM_NEWLINK, RTM_NEWADDR = 16, 20
NLM_REQUEST, NLM_ACK, NLM_CREATE, NLM_EXCL = 1, 4, 0x400, 0x200
SIOCGIFMTU, SIOCSIFMTU, SIOCGIFHWADDR = 0x8921, 0x8922, 0x8927
IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND, IFA_ADDRESS, IFA_LOCAL = 3, 18, 1, 1, 2


def attribute(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("HH", length, kind) + data + b"\0" * (-length % 4)


def netlink(kind: int, flags: int, body: bytes) -> None:
    """Sends one request to the kernel and reads its answer; OSError if it refuses."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.bind((0, 0))
        link.send(struct.pack("IHHII", 16 + len(body), kind, NLM_REQUEST | NLM_ACK | flags, 1, 0) + body)
        error = struct.unpack_from("i", link.recv(65536), 16)[0]
        if error:
            raise OSError(-error, os.strerror(-error))


def device(name: str) -> None:
    """Creates a device of the first kind that the kernel supports."""
    error: OSError | None = None
    for kind in (b"dummy\0", b"veth\0", b"ifb\0"):
        info = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind))
        body = struct.pack("BxHiII", 0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0") + info
        try:
            netlink(RTM_NEWLINK, NLM_CREATE | NLM_EXCL, body)
            return
        except OSError as e:
            error = e
    raise error or OSError("no kind of device was tried")


def address(name: str, text: str, prefix: int) -> None:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    data = socket.inet_pton(family, text)
    body = struct.pack("BBBBI", family, prefix, 0, 0, socket.if_nametoindex(name))
    netlink(RTM_NEWADDR, NLM_CREATE | NLM_EXCL, body + attribute(IFA_LOCAL, data) + attribute(IFA_ADDRESS, data))


def request(number: int, name: str, data: bytes = b"") -> bytes:
    """An ioctl of a network device: struct ifreq in and out, without the name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return fcntl.ioctl(any_socket, number, struct.pack("16s24s", name.encode(), data))[16:]


def set_mtu(name: str, mtu: int) -> None:
    request(SIOCSIFMTU, name, struct.pack("i", mtu))


def hardware(name: str) -> list[int | None]:
    """[MTU, hardware address] of a device, or [None, None] if there is none with that name."""
    try:
        return [struct.unpack_from("i", request(SIOCGIFMTU, name))[0], request(SIOCGIFHWADDR, name)[2:8].hex(":")]
    except OSError:
        return [None, None]


def own_network(t: Trial) -> None:
    """Moves this process, and so the runtime, to a new network namespace; the case ends with its process."""
    system.unshare(CLONE_NEWNET)
    try:
        device("given7")
    except OSError as e:
        t.skip("no network device can be made: %s" % e)


@contextlib.contextmanager
def network_of(container: Container) -> Iterator[None]:
    """Temporarily enters another network namespace."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open("/proc/%d/ns/net" % container.pid, os.O_RDONLY | os.O_CLOEXEC)
    system.setns(there)
    try:
        yield
    finally:
        system.setns(here)
        os.close(here)
        os.close(there)


def moved(devices: Json, **more: object) -> dict[str, Json]:
    return {"/linux/namespaces/-": {"type": "network", **more}, "/linux/netDevices": devices}


@case("net-devices.moved", "net-devices.name", "net-devices.up", "net-devices.addresses", needs=("probe", "net-admin"))
def devices(t: Trial) -> None:
    """Devices are moved, renamed and up, with their permanent addresses."""
    own_network(t)
    device("given8")
    address("given7", "198.51.100.7", 24)
    address("given7", "2001:db8::7", 64)
    address("given7", "fe80::7", 64)
    seen = t.observe(moved({"given7": {"name": "inside7"}, "given8": {}}), "interfaces").get("interfaces", {})
    t.has("inside7", seen, "a device with another name", "net-devices.moved", "net-devices.name")
    t.has("given8", seen, "a device without a name", "net-devices.moved", "net-devices.name")
    found = seen.get("inside7", {})
    t.equal(found.get("up"), 1, "it is up", "net-devices.up")
    for text in ("198.51.100.7", "2001:db8::7"):
        t.has(text, found.get("addresses"), "addresses", "net-devices.addresses")


@case("net-devices.attributes", needs="net-admin")
def attributes(t: Trial) -> None:
    """A device keeps its hardware address and its MTU."""
    own_network(t)
    set_mtu("given7", 1234)
    before = hardware("given7")
    made = t.created(moved({"given7": {"name": "inside7"}}))
    with network_of(made):
        t.equal(hardware("inside7"), before, "MTU and hardware address")


@case("net-devices.clash", "net-devices.possible", needs="net-admin")
def impossible(t: Trial) -> None:
    """A name that is in use, a device that does not exist, and a missing network namespace give an error."""
    own_network(t)
    t.refused(moved({"given7": {"name": "lo"}}), "net-devices.clash", what="a name that is taken gives an error")
    t.refused(moved({"nosuch7": {}}), "net-devices.possible", what="a device that does not exist gives an error")
    t.refused({"/linux/netDevices": {"lo": {}}}, "net-devices.possible", what="netDevices without a network namespace give an error")


@case("net-devices.template", needs=("probe", "net-admin"))
def template(t: Trial) -> None:
    """A name with %d is completed by the kernel."""
    own_network(t)
    seen = t.observe(moved({"given7": {"name": "eth%d"}}), "interfaces").get("interfaces", {})
    t.has("eth0", seen, "devices inside")


@case("net-devices.hands-off", "net-devices.not-back", needs=("probe", "net-admin"))
def hands_off(t: Trial) -> None:
    """A device in a namespace that outlives the container remains there unchanged after delete."""
    own_network(t)
    other = t.running({"/linux/namespaces/-": {"type": "network"}})
    made = t.created(moved({"given7": {"name": "kept7"}}, path="/proc/%d/ns/net" % other.pid), "say x")
    made.start()
    made.finish()
    with network_of(other):
        names = [name for _, name in socket.if_nameindex()]
    t.has("kept7", names, "devices of the namespace after delete")
    t.lacks(
        "given7", [name for _, name in socket.if_nameindex()], "devices of the runtime's namespace after delete", "net-devices.not-back"
    )
