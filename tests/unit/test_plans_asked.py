"""What other commands read from a plan: the functions of the parts, also with damaged plans."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pyrunc.engine import checkpoint
from pyrunc.errors import Refusal
from pyrunc.linux import constants as c
from pyrunc.parts import cgroups, devices, meta, namespaces, root
from pyrunc.parts.criu import devices as criu_devices
from pyrunc.parts.criu import mounts as criu_mounts
from pyrunc.parts.criu import namespaces as criu_namespaces
from pyrunc.parts.criu import paths as criu_paths

NAMESPACES: Any = {"new": ["pid", "mount"], "join": {}, "host": ["uts"], "userns": False, "pointers": {"cgroup": "/linux/namespaces/3"}}


@pytest.mark.parametrize("plans", [{}, [], None, {"cgroups": None}, {"cgroups": []}, {"cgroups": {}}, {"cgroups": {"paths": "/x"}}])
def test_a_damaged_plan_names_no_cgroups(plans: Any) -> None:
    assert cgroups.planned_paths(plans) == {}


def test_planned_cgroups() -> None:
    plans: Any = {"cgroups": {"paths": {"memory": "/x"}, "version": 1, "rootless": True}}
    assert cgroups.planned_paths(plans) == {"memory": "/x"} and cgroups.is_rootless(plans)


@pytest.mark.parametrize(
    ("made", "manager"), [({"mounts": {"m": "/m"}}, "cgroupfs"), ({"mounts": {"m": "/m"}, "unit": {"name": "u"}}, "systemd")]
)
def test_cgroups_without_a_plan(made: Any, manager: str) -> None:
    state: Any = {"cgroups": made, "cgroup_paths": {"m": "/m/c"}}
    assert cgroups.salvaged(state) == {"manager": manager, "paths": {"m": "/m/c"}, "mounts": {"m": "/m"}, "unit": made.get("unit")}
    assert cgroups.salvaged({}) is None


@pytest.mark.parametrize(
    ("version", "paths", "found"),
    [
        (1, {"freezer": "/f", "unified": "/u"}, "/f"),
        (1, {"memory": "/m", "unified": "/u"}, None),
        (2, {"unified": "/u"}, "/u"),
        (2, {}, None),
    ],
)
def test_the_cgroup_of_the_freezer(version: int, paths: dict[str, str], found: str | None) -> None:
    plans: Any = {"cgroups": {"version": version}}
    assert cgroups.freezer(plans, paths) == found


def test_nodes_that_have_changed() -> None:
    def live(path: str, bind: bool = False) -> Any:
        return {"node": {"path": path}, "bind": bind}

    entry: Any = {
        "nodes": [{"path": "/a"}, {"path": "/b"}],
        "links": ["kept"],
        "dev": True,
        "own_dev": True,
        "bind": True,
        "mount_ns": True,
    }
    assert devices.changed(entry, [live("/c"), live("/a")], [live("/b")]) == {**entry, "nodes": [{"path": "/c"}, {"path": "/a"}]}
    assert devices.changed(None, [live("/c")], [])["nodes"] == [{"path": "/c"}]
    assert devices.live_binds([live("/a"), live("/b", True)]) and not devices.live_binds([live("/a")])


def test_new_and_shared_namespaces() -> None:
    plans: Any = {"namespaces": NAMESPACES}
    assert namespaces.is_new(plans, "pid") and not namespaces.is_new(plans, "uts")
    assert namespaces.is_shared(plans, "uts") and not namespaces.is_shared(plans, "pid")
    assert not namespaces.in_userns(plans)


def test_the_root_of_a_plan() -> None:
    plans: Any = {"root": {"path": "/r", "own_ns": True, "propagation": "rshared"}}
    assert root.path_of(plans) == "/r" and root.path_of({}) == ""
    assert root.has_own_namespace(plans) and root.sends(plans)
    assert not root.sends({"root": {**plans["root"], "propagation": "rslave"}})


def test_an_annotation_of_a_plan() -> None:
    plans: Any = {"meta": {"annotations": {"a": "b"}}}
    assert meta.annotation(plans, "a") == "b" and meta.annotation(plans, "c") is None and meta.annotation({}, "a") is None


@pytest.mark.parametrize(
    ("part", "entry", "pointer"),
    [
        ("landlock", {}, "/annotations/org.pyrunc.landlock"),
        ("namespaces", {**NAMESPACES, "join": {"cgroup": "/x"}}, "/linux/namespaces/3"),
    ],
)
def test_what_criu_cannot_restore(part: str, entry: Any, pointer: str) -> None:
    plans: Any = {"namespaces": NAMESPACES, "root": {"path": "/r"}}
    checkpoint.check_restorable(plans)
    with pytest.raises(Refusal) as caught:
        checkpoint.check_restorable({**plans, part: entry})
    assert caught.value.pointer == pointer


def test_namespaces_for_criu() -> None:
    entry: Any = {**NAMESPACES, "join": {"network": "/n", "uts": "/u", "pid": "/p"}}

    class Run:
        fds = {"ns:network": 7, "ns:uts": 8, "ns:pid": 9}

    run: Any = Run()
    fds, inherited, joined = criu_namespaces.restored(entry, run, 4)
    assert fds == [7, 9] and inherited == [{"key": "extRootNetNS", "fd": 4}, {"key": "extRootPidNS", "fd": 5}]
    assert joined == [{"ns": "uts", "ns_file": "/proc/%d/fd/8" % os.getpid()}]
    inode = os.stat("/proc/self/ns/net").st_ino
    assert criu_namespaces.dumped({**entry, "join": {"network": "/n", "uts": "/u"}}, os.getpid()) == ["net[%d]:extRootNetNS" % inode]


def item(kind: str, destination: str, **more: Any) -> Any:
    made = {"kind": kind, "destination": destination, "source": "/s", "flags": 0, "links": [], "pointer": "/mounts/0"}
    return {**made, **more}


def test_mounts_for_criu() -> None:
    items = [
        item("bind", "/a", flags=c.MS_BIND | c.MS_REC),
        item("fs", "/b"),
        item("cgroup", "/c"),
        item("bind", "/d", links=["src-nofollow"]),
    ]
    entry: Any = {"list": items, "cgroupns": False}
    assert criu_mounts.binds(entry) == [("/a", True), ("/d", False)]
    assert criu_mounts.cgroup_places(entry) == ["/c"] and criu_mounts.cgroup_places({**entry, "cgroupns": True}) == []
    found = criu_mounts.external({**entry, "cgroupns": True}, None)  # type: ignore[arg-type]  # asked for cgroups only
    assert [(one["name"], one["source"], one["recursive"], one["follow"]) for one in found] == [
        ("/a", "/s", True, True),
        ("/d", "/s", False, False),
    ]
    assert all(one["bind"] and not one["by_itself"] for one in found)


def test_paths_and_nodes_for_criu() -> None:
    run: Any = None
    entry: Any = {"masked": [["/m", "/p"]], "readonly": [["/r", "/p"]], "label": None}
    assert [one["source"] for one in criu_paths.external(entry, run)] == ["/dev/null"]
    assert criu_paths.external({**entry, "masked": []}, run) == []
    assert criu_paths.readonly(entry) == ["/r"]
    nodes: Any = {"bind": True, "nodes": [{"path": "/dev/a", "type": "c"}, {"path": "/dev/p", "type": "p"}]}
    assert criu_devices.bound(nodes) == ["/dev/a"] and criu_devices.bound({**nodes, "bind": False}) == []
    assert [(one["name"], one["follow"]) for one in criu_devices.external(nodes, run)] == [("/dev/a", False)]
