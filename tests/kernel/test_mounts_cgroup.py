"""Mounts of type cgroup: the same as with runc on v1 and hybrid hosts; cgroup2 as far as a hybrid host provides it."""

import os
import pathlib
from typing import Any

import pytest

from mounting import OUTER, SYS
from pyrunc.cgroup import hierarchies

pytestmark = pytest.mark.kernel

LAYOUT = hierarchies.layout()
CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
RW = {**CGROUP, "options": CGROUP["options"][:-1]}
V1 = [key for key in LAYOUT.mounts if key != "unified"]
legacy = pytest.mark.skipif(not V1, reason="this machine has no cgroup v1 hierarchy")
unified = pytest.mark.skipif("unified" not in LAYOUT.mounts, reason="this machine has no cgroup2 mounted")


@pytest.fixture
def cgroups(token, request):
    """The plan of the cgroups part, with directories that exist."""
    plan: dict[str, Any] = {
        "manager": "cgroupfs",
        "version": LAYOUT.version,
        "paths": {},
        "mounts": {},
        "explicit": True,
        "rootless": False,
    }
    name = token + "m"
    for key, (point, _root, _device) in LAYOUT.mounts.items():
        plan["paths"][key] = "%s/%s" % (point, name)
        plan["mounts"][key] = point
    for path in set(plan["paths"].values()):
        os.mkdir(path)
    yield plan
    for path in set(plan["paths"].values()):
        os.rmdir(path)


def shown(see):
    """[(directory, root, type, source, read-only?)] of the mounts below /sys/fs/cgroup."""
    top = "/sys/fs/cgroup"
    return [
        [m["point"][len(top) :], m["root"], m["type"], m["source"], "ro" in m["flags"]] for m in see.mounts() if m["point"].startswith(top)
    ]


def directories():
    """{directory below /sys/fs/cgroup: keys of the hierarchy}"""
    found = {}
    for key in V1:
        found.setdefault(pathlib.Path(LAYOUT.mounts[key][0]).name, []).append(key)
    return found


@legacy
@pytest.mark.parametrize("options", [CGROUP, RW], ids=["ro", "rw"])
def test_without_a_namespace(world, cgroups, options):
    """The tmpfs, with the container's own cgroup in each directory."""
    name = os.path.basename(next(iter(cgroups["paths"].values())))
    seen = world.go({"mounts": [SYS, options], "plans": {"cgroups": cgroups}}, shown, namespaces=["network"])
    ro = options is CGROUP
    assert seen[0] == ["", "/", "tmpfs", "tmpfs", ro]
    assert sorted(seen[1:]) == sorted(["/" + d, "/" + name, "cgroup", "cgroup", ro] for d in directories())


@legacy
def test_with_a_namespace(world, cgroups):
    seen = world.go({"mounts": [SYS, CGROUP], "plans": {"cgroups": cgroups}}, shown, namespaces=["network", "cgroup"])
    assert {row[0] for row in seen[1:]} == {"/" + d for d in directories()}
    for row in seen[1:]:
        assert row[2] == "cgroup" and row[4] and row[3] == ("systemd" if row[0] == "/systemd" else "cgroup")


@legacy
def test_a_bind_below_comes_later(world, cgroups):
    """podman's systemd mode: a writable /sys/fs/cgroup/systemd on the read-only mount."""
    later = {"destination": "/sys/fs/cgroup/systemd", "type": "bind", "source": str(world.outside), "options": ["bind", "rprivate"]}
    config = {"mounts": [SYS, CGROUP, later], "plans": {"cgroups": cgroups}}
    seen = world.go(config, lambda see: [os.listdir("/sys/fs/cgroup/systemd"), see.write("/sys/fs/cgroup/x")], namespaces=["network"])
    assert seen == [["victim"], "Read-only file system"]


@legacy
def test_links_of_controllers_that_sit_together(world, cgroups, monkeypatch):
    from pyrunc.parts.mounts import cgroupfs

    key = V1[0]
    point, root, _device = LAYOUT.mounts[key]
    monkeypatch.setattr(cgroupfs, "_hierarchies", lambda run: [(key + ",other", [key, "other"], point, root)])
    seen = world.go(
        {"mounts": [SYS, CGROUP], "plans": {"cgroups": cgroups}}, lambda see: see.listing("/sys/fs/cgroup"), namespaces=["network"]
    )
    assert {name: what[:1] for name, what in seen.items()} == {key + ",other": "d", key: "-", "other": "-"}
    assert seen[key] == "-> %s,other" % key


@legacy
def test_without_a_plan_it_is_the_cgroup_of_init(world):
    own = {key: LAYOUT.own_path(key) for key in V1}
    config = {"mounts": [SYS, CGROUP], "plans": {"cgroups": {"manager": "disabled", "version": LAYOUT.version, "paths": {}, "mounts": {}}}}
    seen = {row[0]: row[1] for row in world.go(config, shown, namespaces=["network"])}
    assert {seen["/" + d] for d, keys in directories().items()} == {own[keys[0]] for keys in directories().values()}


@legacy
def test_a_user_namespace_without_a_cgroup_namespace_gets_no_writable_tree(world, cgroups):
    for path in (world.rootfs, *world.rootfs.iterdir()):
        os.chown(path, OUTER, OUTER)
    look = lambda see: [all(row[4] for row in shown(see)), see.write("/sys/fs/cgroup/x"), os.listdir("/sys/fs/cgroup") != []]  # noqa: E731
    rw = {**CGROUP, "options": ["rw"]}
    seen = world.go({"mounts": [SYS, rw], "plans": {"cgroups": cgroups}}, look, namespaces=["network"], userns=True)
    assert seen == [True, "Read-only file system", True]


def v2(cgroups):
    return {**cgroups, "version": 2}


@unified
def test_v2_with_a_namespace(world, cgroups):
    seen = world.go({"mounts": [SYS, CGROUP], "plans": {"cgroups": v2(cgroups)}}, shown, namespaces=["network", "cgroup"])
    assert seen == [["", "/", "cgroup2", "cgroup", True]]


@unified
def test_v2_without_a_namespace_is_the_hosts(world, cgroups):
    seen = world.go({"mounts": [SYS, RW], "plans": {"cgroups": v2(cgroups)}}, shown, namespaces=["network"])
    assert [row[:1] + row[2:3] + row[4:] for row in seen] == [["", "cgroup2", False]]


@unified
def test_v2_in_a_user_namespace(world, cgroups):
    for path in (world.rootfs, *world.rootfs.iterdir()):
        os.chown(path, OUTER, OUTER)
    seen = world.go({"mounts": [SYS, RW], "plans": {"cgroups": v2(cgroups)}}, shown, namespaces=["network"], userns=True)
    assert [row[2] for row in seen] == ["cgroup2"] and seen[0][4], "read-only, because there is no cgroup namespace"


@unified
def test_v2_of_a_rootless_container_without_a_cgroup(world, cgroups):
    plan = {**v2(cgroups), "rootless": True, "mounts": {"unified": "/nonexistent/cgroup"}, "paths": {}}
    seen = world.go(
        {"mounts": [SYS, RW], "plans": {"cgroups": plan}},
        lambda see: [os.listdir("/sys/fs/cgroup"), see.write("/sys/fs/cgroup/x")],
        namespaces=["network"],
    )
    assert seen == [[], "Read-only file system"]
