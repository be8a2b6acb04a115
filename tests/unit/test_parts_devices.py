"""parts/devices: plans for /linux/devices and /dev."""

import json
import os

import pytest

from fakes.hand import Ctx, namespaces
from pyrunc.errors import Refusal
from pyrunc.parts import devices

FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
DEFAULT = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"]
MAPS = {"uid": [[0, 100000, 1000]], "gid": [[0, 100000, 1000]]}


def mounted(kind, destination="/dev"):
    return {"list": [{"destination": destination, "kind": kind, "type": "tmpfs" if kind == "fs" else ""}]}


def plan(*given, plans=None, spaces=("mount",), **more):
    ctx = Ctx({"namespaces": namespaces(*spaces), **(plans or {})}, **more)
    entry = devices.plan({"/linux/devices": list(given)} if given else {}, ctx)
    return entry, ctx


def refused(*given, **more):
    with pytest.raises(Refusal) as caught:
        plan(*given, **more)
    return caught.value


def test_the_defaults():
    entry, _ = plan()
    assert [node["path"] for node in entry["nodes"]] == DEFAULT
    assert all(node["mode"] == 0o666 and node["uid"] == node["gid"] == 0 for node in entry["nodes"])
    core = [["core", "/proc/kcore"]] if os.path.exists("/proc/kcore") else []
    assert entry["links"] == [
        ["fd", "/proc/self/fd"],
        *[[n, "/proc/self/fd/%d" % i] for i, n in enumerate(("stdin", "stdout", "stderr"))],
        *core,
    ]
    assert entry["dev"] and not entry["own_dev"] and not entry["bind"] and entry["mount_ns"]
    assert json.loads(json.dumps(entry)) == entry


def test_mounts_on_dev():
    assert plan(plans={"mounts": mounted("fs")})[0]["own_dev"]
    assert plan(plans={"mounts": mounted("fs", "/dev/shm")})[0]["own_dev"] is False
    assert plan(plans={"mounts": mounted("bind")})[0] is None
    last = {"list": mounted("bind")["list"] + mounted("fs")["list"]}
    assert plan(plans={"mounts": last})[0]["own_dev"]


def test_a_bind_of_dev_leaves_its_nodes_to_the_host():
    entry, ctx = plan(FUSE, {**FUSE, "path": "/elsewhere"}, plans={"mounts": mounted("bind")})
    assert [node["path"] for node in entry["nodes"]] == ["/elsewhere"] and entry["links"] == [] and not entry["dev"]
    assert ctx.warnings[0][0] == "/linux/devices/0"


def test_binds_in_user_namespaces():
    assert plan(spaces=("mount", "user"))[0]["bind"] and plan(in_userns=True)[0]["bind"]


def test_a_device():
    entry, _ = plan({**FUSE, "fileMode": 0o640, "uid": 1, "gid": 2})
    assert entry["nodes"][-1] == {
        "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "mode": 0o640, "uid": 1, "gid": 2, "pointer": "/linux/devices/0",
    }  # fmt: skip
    assert plan({**FUSE, "type": "u"})[0]["nodes"][-1]["type"] == "c"
    fifo = plan({"path": "/p", "type": "p", "major": 5, "minor": 5})[0]["nodes"][-1]
    assert (fifo["type"], fifo["major"], fifo["minor"], fifo["mode"]) == ("p", 0, 0, 0o666)
    assert plan({**FUSE, "path": "/dev//sub/./x/"})[0]["nodes"][-1]["path"] == "/dev/sub/x"


def test_a_default_is_replaced():
    nodes = plan({"path": "/dev/random", "type": "c", "major": 1, "minor": 9})[0]["nodes"]
    assert [node["minor"] for node in nodes if node["path"] == "/dev/random"] == [9] and len(nodes) == len(DEFAULT)


def test_duplicates():
    entry, _ = plan(FUSE, {**FUSE, "fileMode": 0o600})
    assert len(entry["nodes"]) == len(DEFAULT) + 1
    e = refused(FUSE, {**FUSE, "minor": 1})
    assert e.pointer == "/linux/devices/1" and "/linux/devices/0" in e.hint


def test_skipped():
    assert len(plan({**FUSE, "path": "/dev/ptmx"})[0]["nodes"]) == len(DEFAULT)
    console = {"path": "/dev/console", "type": "c", "major": 5, "minor": 1}
    assert len(plan(console)[0]["nodes"]) == len(DEFAULT) + 1
    assert len(plan(console, plans={"terminal": {"size": None}})[0]["nodes"]) == len(DEFAULT)


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"type": "q"}, "/type"),
        ({"type": None}, "/type"),
        ({"path": "dev/x"}, "/path"),
        ({"path": ""}, "/path"),
        ({"path": "/"}, "/path"),
        ({"path": "/dev/../etc/x"}, "/path"),
        ({"path": "/dev/a\0"}, "/path"),
        ({"path": "/dev/a\n"}, "/path"),
        ({"major": None}, ""),
        ({"minor": None}, ""),
        ({"major": -1}, "/major"),
        ({"major": 4096}, "/major"),
        ({"minor": 1 << 20}, "/minor"),
        ({"major": (1 << 40) + 1}, "/major"),
        ({"fileMode": 0o10000}, "/fileMode"),
        ({"fileMode": -1}, "/fileMode"),
    ],
)
def test_refusals(change, at):
    device = {key: value for key, value in {**FUSE, **change}.items() if value is not None}
    assert refused(device).pointer == "/linux/devices/0" + at


def test_dev_null_is_the_null_device():
    assert refused({"path": "/dev/null", "type": "c", "major": 1, "minor": 5}).pointer == "/linux/devices/0"
    assert plan({"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600})[0]["nodes"][-1]["mode"] == 0o600


def test_ids_must_be_mapped():
    plans = {"namespaces": namespaces("mount", "user"), "idmaps": MAPS}
    assert plan({**FUSE, "uid": 999, "gid": 0}, plans=plans)
    assert refused({**FUSE, "uid": 1000}, plans=plans).pointer == "/linux/devices/0/uid"
    assert refused({**FUSE, "gid": 1000}, plans=plans).pointer == "/linux/devices/0/gid"
