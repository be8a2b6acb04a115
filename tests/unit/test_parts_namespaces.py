"""namespaces, idmaps, clocks, netdevs: their plans for a config, and rejected configs."""

import os
import socket

import pytest

from fakes.hand import Ctx, namespaces
from pyrunc.errors import Refusal, Unsupported
from pyrunc.linux import constants as c
from pyrunc.linux import ns
from pyrunc.parts import clocks, idmaps, netdevs
from pyrunc.parts import namespaces as part

UIDS, GIDS = "/linux/uidMappings", "/linux/gidMappings"


def refused(plan, *args, **keywords):
    with pytest.raises((Refusal, Unsupported)) as caught:
        plan(*args, **keywords)
    return caught.value


def ns_plan(*items, ctx=None, linux=None):
    ctx = ctx or Ctx(config={"linux": linux or {}})
    return part.plan({"/linux/namespaces": list(items)}, ctx)


def new(*kinds):
    return [{"type": kind} for kind in kinds]


# ---- namespaces


def test_new_namespaces():
    entry = ns_plan(*new("pid", "network", "mount", "ipc", "uts", "cgroup", "time"))
    assert entry["new"] == ["pid", "network", "mount", "ipc", "uts", "cgroup", "time"]
    want = c.CLONE_NEWPID | c.CLONE_NEWNET | c.CLONE_NEWNS | c.CLONE_NEWIPC | c.CLONE_NEWUTS | c.CLONE_NEWTIME
    assert entry["flags"] == want, "the cgroup namespace is created once init is in its cgroup"
    assert entry["host"] == ["user"] and not entry["userns"] and not entry["host_net"]
    assert entry["pointers"]["mount"] == "/linux/namespaces/2"


def test_an_empty_path_is_a_new_namespace():
    assert ns_plan({"type": "mount", "path": ""})["new"] == ["mount"]


@pytest.mark.parametrize("node", [{}, {"/linux/namespaces": []}])
def test_no_namespaces(node):
    entry = part.plan(node, Ctx(config={}))
    assert entry["new"] == [] and entry["join"] == {} and entry["flags"] == 0 and entry["host_net"]
    assert sorted(entry["host"]) == sorted(ns.FLAGS)


def test_the_same_type_twice():
    e = refused(ns_plan, *new("pid", "mount", "pid"))
    assert e.words == "malformed spec file: duplicated ns" and e.pointer == "/linux/namespaces/2/type"


def test_an_unknown_type():
    e = refused(ns_plan, {"type": "moon"})
    assert e.words == 'namespace "moon" does not exist' and e.pointer == "/linux/namespaces/0/type"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/no/such/ns", "namespace path: lstat /no/such/ns: no such file or directory"),
        ("proc/self/ns/net", "is not absolute"),
        ("/proc/self/ns/uts", "is a uts namespace, not network"),
        ("/etc/passwd", "is not a network namespace"),
        ("/proc/self/status", "is not a network namespace"),
        ("/dev/null", "is not a network namespace"),
        ("/tmp", "is not a network namespace"),
        ("/proc/self/ns/net\0", "NUL"),
        ("/proc/999999999/ns/net", "no such file or directory"),
    ],
)
def test_a_path_that_is_not_such_a_namespace(path, words):
    e = refused(ns_plan, *new("pid"), {"type": "network", "path": path})
    assert words in e.words and e.pointer == "/linux/namespaces/1/path"


def test_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "f")
    assert "is not a pid namespace" in refused(ns_plan, {"type": "pid", "path": str(tmp_path / "f")}).words


@pytest.mark.parametrize("kind", ["pid", "network", "uts", "user", "mount"])
def test_joining_our_own_namespace_causes_a_warning(kind):
    ctx = Ctx(config={})
    entry = ns_plan({"type": kind, "path": "/proc/self/ns/" + ns.FILES[kind]}, ctx=ctx)
    assert entry["join"] == {} and kind in entry["host"]
    assert ctx.warnings[0][0] == "/linux/namespaces/0/path"


def test_a_user_namespace_needs_maps():
    e = refused(ns_plan, *new("user"))
    assert e.words == "user namespaces enabled, but no namespace path to join nor mappings to apply specified"
    assert ns_plan(*new("user"), linux={"uidMappings": [{}], "gidMappings": [{}]})["userns"]


def test_without_privileges_a_user_namespace_is_needed():
    ctx = Ctx(config={})
    ctx.euid = 1000
    assert refused(ns_plan, *new("mount"), ctx=ctx).words == "rootless container requires user namespaces"


# ---- idmaps


def one(inner, outer, size):
    return {"containerID": inner, "hostID": outer, "size": size}


def maps(uid, gid=None, spaces=None, euid=0):
    ctx = Ctx(plans={"namespaces": spaces or namespaces("user", "mount")})
    ctx.euid = euid
    return idmaps.plan({UIDS: uid, GIDS: uid if gid is None else gid}, ctx)


def test_maps():
    entry = maps([one(0, 1000, 1), one(1, 100000, 65536)], [one(0, 5, 10)])
    assert entry["uid"] == [[0, 1000, 1], [1, 100000, 65536]] and entry["gid"] == [[0, 5, 10]]
    assert entry["newuidmap"] is entry["newgidmap"] is None and entry["setgroups"] == "allow" and not entry["joined"]
    assert idmaps.plan({UIDS: [], GIDS: []}, Ctx()) is None


@pytest.mark.parametrize(
    ("uid", "words", "pointer"),
    [
        ([one(0, 0, 0)], "size 0", UIDS + "/0/size"),
        ([one(0, 1000, 10), one(9, 5000, 10)], "overlaps that of /linux/uidMappings/0", UIDS + "/1/containerID"),
        ([one(20, 0, 5), one(0, 1000, 25)], "overlaps", UIDS + "/1/containerID"),
        ([one(0, 1000, 10), one(100, 1009, 10)], "overlaps", UIDS + "/1/hostID"),
        ([one(0, 4294967290, 6)], "goes beyond", UIDS + "/0/hostID"),
        ([one(0, 1, 1), one(4294967295, 5, 1)], "goes beyond", UIDS + "/1/containerID"),
        ([one(i, i, 1) for i in range(341)], "the kernel takes 340", UIDS),
        ([one(i * 1000000, i * 1000000 + 500000, 999999) for i in range(300)], "less than a page", UIDS),
        ([one(1, 1000, 10)], "container uid 0 has no mapping", UIDS),
        ([], "no uid mappings found", UIDS),
    ],
)
def test_maps_refused(uid, words, pointer):
    e = refused(maps, uid, [one(0, 0, 1)])
    assert words in e.words and e.pointer == pointer


def test_the_last_id_can_be_mapped():
    assert maps([one(0, 0, 4294967295)])["uid"] == [[0, 0, 4294967295]]


def test_maps_without_a_user_namespace():
    e = refused(maps, [one(0, 0, 1)], None, namespaces("mount"))
    assert e.words == "user namespace mappings specified, but user namespace isn't enabled in the config"


def test_maps_of_a_joined_user_namespace_are_compared_later():
    entry = maps([one(0, 7, 1)], None, namespaces("mount", join={"user": "/proc/7/ns/user"}))
    assert entry["joined"]


def test_unprivileged_own_id():
    entry = maps([one(0, 1000, 1)], [one(0, os.getegid(), 1)], euid=1000)
    assert entry["newuidmap"] is None and entry["newgidmap"] is None and entry["setgroups"] == "deny"


def test_unprivileged_ranges_need_the_tools(monkeypatch):
    monkeypatch.setattr(idmaps, "TOOL_DIRS", ("/nowhere",))
    e = refused(maps, [one(0, 1000, 1), one(1, 100000, 65536)], None, None, 1000)
    assert isinstance(e, Unsupported) and e.needs == "newuidmap" and e.pointer == UIDS


def test_a_tool_that_others_can_write_is_not_run(monkeypatch, tmp_path):
    tool = tmp_path / "newuidmap"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o777)
    monkeypatch.setattr(idmaps, "TOOL_DIRS", (str(tmp_path),))
    assert refused(maps, [one(0, 1000, 2)], None, None, 1000).needs == "newuidmap"


# ---- clocks


def offsets(value, spaces=None):
    return clocks.plan({"/linux/timeOffsets": value}, Ctx(plans={"namespaces": spaces or namespaces("time")}))


def test_offsets():
    entry = offsets({"boottime": {"secs": -5}, "monotonic": {"secs": 7, "nanosecs": 9}})
    assert entry == {"boottime": [-5, 0], "monotonic": [7, 9]}

    class Run:
        time_offsets = None

    clocks.host_offsets(entry, Run)
    assert Run.time_offsets == b"monotonic 7 9\nboottime -5 0\n"
    assert offsets({}) is None


@pytest.mark.parametrize(
    ("value", "spaces", "words", "pointer"),
    [
        ({"monotonic": {}}, namespaces("mount"), "time namespace offsets specified, but time namespace isn't enabled in the config", ""),
        ({"monotonic": {}}, namespaces(join={"time": "/x"}), "you may only provide one", ""),
        ({"realtime": {}}, None, "unknown clock", ""),
        ({"monotonic": {"secs": 9223372037}}, None, "a clock counts at most", "/monotonic/secs"),
        ({"boottime": {"nanosecs": 1000000000}}, None, "nanoseconds in a second", "/boottime/nanosecs"),
    ],
)
def test_offsets_refused(value, spaces, words, pointer):
    e = refused(offsets, value, spaces)
    assert words in e.words and e.pointer == "/linux/timeOffsets" + pointer


# ---- netdevs


def devices(value, spaces=None, euid=0):
    ctx = Ctx(plans={"namespaces": spaces or namespaces("network")})
    ctx.euid = euid
    return netdevs.plan({"/linux/netDevices": value}, ctx)


@pytest.fixture
def any_device(monkeypatch):
    monkeypatch.setattr(netdevs._socket, "if_nametoindex", lambda name: 1)


def test_devices(any_device):
    entry = devices({"eth7": {"name": "wan%d"}, "v/1".replace("/", "-"): {}})
    assert entry == {"devices": [["eth7", "wan%d", "/linux/netDevices/eth7"], ["v-1", "v-1", "/linux/netDevices/v-1"]]}
    assert devices({}) is None
    assert devices({"x": {"name": "a" * 15}}, namespaces(join={"network": "/n"}))


@pytest.mark.parametrize("name", ["", "a" * 16, ".", "..", "a/b", "a:b", "a b", "a\tb", "%d%d", "a%s", "ü" * 8, "a\nb"])
def test_names_that_no_device_has(any_device, name):
    if name:
        e = refused(devices, {"eth0": {"name": name}})
        assert e.words.startswith('invalid network device name "') and e.pointer == "/linux/netDevices/eth0/name"
    assert refused(devices, {name: {"name": "x"}}).words.startswith('invalid network device name "')


def test_devices_refused(any_device, monkeypatch):
    words = refused(devices, {"e": {}}, namespaces("mount")).words
    assert words == "unable to move network devices without a NET namespace"
    assert refused(devices, {"e": {}}, None, 1000).words == "network devices are not supported for rootless containers"
    assert "would be named" in refused(devices, {"e": {"name": "z"}, "f": {"name": "z"}}).words
    assert "loopback" in refused(devices, {"e": {"name": "lo"}}).words
    monkeypatch.undo()
    assert 'no network device "nosuch0"' in refused(devices, {"nosuch0": {}}).words
    assert socket.if_nametoindex("lo") == 1
