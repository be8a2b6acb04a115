"""netdevs: real veth pairs, in a network namespace that takes the place of the host's."""

import socket
import subprocess

import pytest

import staged
from pyrunc.errors import StepFailure
from pyrunc.linux import _syscalls, netlink
from pyrunc.linux import constants as c
from pyrunc.parts import netdevs

pytestmark = pytest.mark.kernel
IPV4 = (socket.AF_INET, 24, "0a010203")
IPV6 = (socket.AF_INET6, 64, "fd000000000000000000000000000005")


def ip(*args):
    subprocess.run(["ip", *args], check=True, capture_output=True)


def host(setup):
    """Runs a function in a new network namespace, which has the veth pair v0, v1 with addresses on v0."""

    def act():
        _syscalls.unshare(c.CLONE_NEWNET)
        try:
            ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        except FileNotFoundError:
            return {"skip": "this machine has no ip (package iproute2)"}
        except subprocess.CalledProcessError as e:
            return {"skip": "this kernel has no veth devices: %s" % e.stderr}
        for command in ("addr add 10.1.2.3/24 brd + dev v0", "-6 addr add fd00::5/64 dev v0", "link set v0 up", "link set v1 up mtu 1400"):
            ip(*command.split())
        return setup()

    answer = staged.apart(act)
    if isinstance(answer, dict) and "skip" in answer:
        pytest.skip(answer["skip"])
    return answer


def inside(run):
    """{name: [flags up?, index, addresses]} of init's network namespace."""
    from pyrunc.parts import namespaces

    namespaces.init_join(run.plans["namespaces"], run)
    return links()


def links():
    route = netlink.Route()
    found = {}
    for index, name, flags in route.links():
        found[name] = [flags & 1, index, sorted([f, p, a.hex()] for f, p, a, _broadcast in route.addresses(index))]
    return found


def move(*devices, entry=None, steps=()):
    entry = entry or staged.plan(["network"])
    run = staged.prepared(entry)
    init = staged.init(run, inside)
    netdevs.host_move({"devices": [[old, new, "/linux/netDevices/" + old] for old, new in devices]}, run)
    answer = init.go()
    init.end()
    return answer


def test_moved_renamed_and_addressed():
    def act():
        return [move(("v0", "eth0"), ("v1", "v1")), links()]

    there, here = host(act)
    assert set(there) == {"lo", "eth0", "v1"} and set(here) == {"lo"}
    assert there["eth0"][0] == there["v1"][0] == 1, "up"
    assert there["eth0"][2] == sorted([list(IPV4), list(IPV6)])
    assert there["lo"][0] == 0, "this part does not set it up"


def test_down_devices_come_up_too():
    def act():
        ip("link", "set", "v0", "down")
        return move(("v0", "v0"))

    assert host(act)["v0"][0] == 1


@pytest.mark.parametrize("name", ["wan%d", "%d", "a%db"])
def test_a_template_is_filled_by_the_kernel(name):
    there = host(lambda: move(("v0", name), ("v1", name)))
    names = {name.replace("%d", n) for n in "01"}
    assert names <= set(there)
    assert there[name.replace("%d", "0")][2] == sorted([list(IPV4), list(IPV6)]), "the right device has the addresses"


def test_into_a_joined_namespace_where_the_index_is_taken():
    def act():
        def occupy():
            for i in range(3):
                ip("link", "add", "p%d" % i, "type", "veth", "peer", "name", "q%d" % i)

        pod = staged.holder(c.CLONE_NEWNET, occupy)
        pod.go()
        try:
            return move(("v0", "eth0"), entry=staged.plan([("network", "/proc/%d/ns/net" % pod.pid)]))
        finally:
            pod.end()

    there = host(act)
    assert there["eth0"][0] == 1 and there["eth0"][2] == sorted([list(IPV4), list(IPV6)]) and len(there) == 8


def test_into_the_namespace_of_a_user_namespace():
    def act():
        run = staged.prepared(staged.plan(["user", "network"], {"uidMappings": [{}], "gidMappings": [{}]}))
        init = staged.init(run, inside)
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (run.pid, name), "w") as file:
                file.write("0 100000 10")
        netdevs.host_move({"devices": [["v0", "eth0", "/x"]]}, run)
        answer = init.go()
        init.end()
        return answer

    assert host(act)["eth0"][2] == sorted([list(IPV4), list(IPV6)])


def failing(*devices):
    def act():
        try:
            move(*devices)
        except StepFailure as e:
            return [e.words, e.pointer, e.errno, links()]

    return host(act)


def test_a_name_that_is_taken_there():
    words, pointer, number, here = failing(("v0", "eth0"), ("v1", "eth0"))
    assert words == 'cannot move network device "v1": the network namespace of the container has a device "eth0" already'
    assert pointer == "/linux/netDevices/v1" and number == 17
    assert here["v1"][0] == 1, "the device that stayed is up again"


def test_a_device_that_stays_is_unchanged():
    def act():
        for command in ("link set lo up", "addr add 10.9.9.9/32 dev lo", "-6 addr add fd00::9/128 dev lo"):
            ip(*command.split())
        before = links()["lo"]
        try:
            move(("lo", "x"))
        except StepFailure as e:
            return [e.errno, before, links()["lo"]]

    number, before, after = host(act)
    assert number == 22 and before == after and len(after[2]) == 2


def test_the_name_of_the_loopback_is_always_taken():
    words, _pointer, number, here = failing(("v0", "lo"))
    assert number == 17 and here["v0"][0] == 1 and here["v0"][2] == sorted([list(IPV4), list(IPV6)]), words


def test_a_device_that_is_gone():
    words, pointer, number, _ = failing(("v0", "a"), ("gone0", "b"))
    assert words == 'cannot move network device "gone0": it is gone' and pointer == "/linux/netDevices/gone0" and number == 19


def test_a_device_that_cannot_leave():
    words, pointer, number, here = failing(("lo", "x"))
    assert words.startswith('cannot move network device "lo": invalid argument') and number == 22 and "lo" in here
    assert pointer == "/linux/netDevices/lo"


def test_errors_of_the_kernel_are_kept():
    def act():
        _syscalls.unshare(c.CLONE_NEWNET)
        route = netlink.Route()
        try:
            route.link("nope0")
        except OSError as e:
            return [e.errno, e.call]  # type: ignore[attr-defined]

    assert staged.apart(act) == [19, "RTM_GETLINK"]


def test_the_host_side_keeps_its_namespace_and_descriptors():
    def act():
        import os

        own = staged.inodes()
        before = len(os.listdir("/proc/self/fd"))
        move(("v0", "eth0"))
        return [own == staged.inodes(), len(os.listdir("/proc/self/fd")) - before]

    same, more = host(act)
    assert same and more == 1, "the pidfd of the init in this test"
