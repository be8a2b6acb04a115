"""namespaces: the clone of init by an ordinary user, and by root of a user namespace."""

import os

import pytest

import staged
from pyrunc.linux import _syscalls, ns
from pyrunc.linux import constants as c
from pyrunc.parts import clocks
from test_namespaces import MAPPED, NOBODY, join_pid, look, maps_of, owner

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("offsets", [False, True])
def test_rootless(offsets):
    kinds = ("user", "pid", "network", "mount", "ipc", "uts", "cgroup", "time")

    def attempt():
        run = staged.prepared(staged.plan(kinds, MAPPED, NOBODY))
        if offsets:
            clocks.host_offsets({"boottime": [1000000, 0]}, run)
        init = staged.init(run, look)
        with open("/proc/%d/setgroups" % run.pid, "w") as file:
            file.write("deny")
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (run.pid, name), "w") as file:
                file.write("0 %d 1" % NOBODY)
        return [init.go(), {kind: owner(run.pid, kind) for kind in kinds[1:]}]

    seen, owners = staged.as_nobody(attempt)
    own = staged.inodes()
    assert seen["pid"] == 1 and not {kind for kind in kinds if seen["ns"][kind] == own[kind]}
    assert owners == dict.fromkeys(kinds[1:], seen["ns"]["user"])


def test_rootless_into_a_pod_of_the_same_user():
    def attempt():
        first = staged.prepared(staged.plan(["user", "network", "pid", "mount"], MAPPED, NOBODY))
        living = staged.init(first, lambda run: None)
        joins = [(kind, "/proc/%d/ns/%s" % (first.pid, ns.FILES[kind])) for kind in ("network", "pid", "user")]
        run = staged.prepared(staged.plan([*joins, "mount"], None, NOBODY))
        seen = staged.init(run, look).go()
        assert living.go() is None
        return [seen, staged.inodes(first.pid)]

    seen, first = staged.as_nobody(attempt)
    assert {kind for kind in staged.KINDS if seen["ns"][kind] == first[kind]} >= {"network", "pid", "user"}
    assert seen["ns"]["mount"] != first["mount"] and seen["pid"] == 2


def test_into_a_pod_from_within_a_user_namespace():
    """Rootless podman runs the runtime as root of a user namespace, from where a process cannot return to its own pid namespace."""

    def inside():
        maps = []

        def attempt():
            first = staged.prepared(staged.plan(["pid", "mount"]))
            living = staged.init(first, lambda run: None)
            run = staged.prepared(staged.plan([("pid", "/proc/%d/ns/pid" % first.pid), "mount", "time"]))
            clocks.host_offsets({"monotonic": [500000, 0]}, run)
            init = staged.init(run, look, join_pid)
            seen = init.go()
            seen["joined"] = init.go()
            assert living.go() is None
            return [seen, staged.inodes(), staged.inode("pid", first.pid), os.stat("/proc/self/ns/pid_for_children").st_ino]

        one = staged.child(lambda: _syscalls.unshare(c.CLONE_NEWUSER), attempt)
        one.go()
        maps_of(one.pid, "0 0 65536")
        maps += one.go()
        one.end()
        return maps

    seen, own, pid, after = staged.apart(inside)
    assert seen["ns"]["pid"] == own["pid"] and seen["joined"] == pid and seen["ns"]["time"] != own["time"]
    assert own["pid"] == after == staged.inode("pid") and own["time"] == staged.inode("time")
