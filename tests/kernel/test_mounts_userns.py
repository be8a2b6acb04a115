"""parts/mounts in user namespaces, with sources that only the host side can open, and with id maps."""

import os

import pytest

from mounting import COUNT, DEV, OUTER, PROC, PTS, SYS, bind
from pyrunc.errors import Refusal, StepFailure
from pyrunc.linux import constants as c

pytestmark = pytest.mark.kernel


def failure(world, config, **how):
    with pytest.raises(StepFailure) as caught:
        world.go(config, **how)
    return caught.value


def give(path):
    """Changes the owner to the container's root."""
    os.chown(path, OUTER, OUTER)


@pytest.fixture
def inner(world):
    """A world whose root directory belongs to the mapped root."""
    for path in (world.rootfs, *world.rootfs.iterdir()):
        give(path)
    return world


def test_the_skeleton_in_a_user_namespace(inner):
    seen = inner.go(
        {"mounts": [PROC, DEV, PTS, SYS]}, lambda see: [m["type"] for m in see.mounts()][1:5], userns=True, namespaces=["network"]
    )
    assert seen == ["proc", "tmpfs", "devpts", "sysfs"]


def test_a_group_that_is_not_mapped(inner):
    options = [o for o in PTS["options"]] + ["gid=%d" % COUNT]
    with pytest.raises(Refusal) as caught:
        inner.go({"mounts": [DEV, {**PTS, "options": options}]}, userns=True)
    assert caught.value.pointer == "/mounts/1/options/5"


def test_sysfs_without_a_network_of_ones_own(inner):
    """The kernel refuses it, so the host's /sys is bound, read-only including all mounts below."""
    seen = inner.go({"mounts": [SYS]}, lambda see: [m for m in see.mounts() if m["point"].startswith("/sys")], userns=True)
    assert seen[0]["type"] == "sysfs" and len(seen) > 1 and all("ro" in m["flags"] for m in seen)


def test_locked_flags_are_kept(inner):
    inner.mount(inner.path / "vol", c.MS_NOSUID | c.MS_NODEV)
    (inner.path / "vol").chmod(0o755)
    look = lambda see: see.mount("/v")["flags"]  # noqa: E731
    assert inner.go({"mounts": [bind(inner.path / "vol", "/v", "bind")]}, look, userns=True) == ["rw", "nosuid", "nodev", "relatime"]
    assert inner.go({"mounts": [bind(inner.path / "vol", "/v", "bind", "ro")]}, look, userns=True) == ["ro", "nosuid", "nodev", "relatime"]
    e = failure(inner, {"mounts": [bind(inner.path / "vol", "/v", "bind", "suid")]}, userns=True)
    assert "cannot clear locked flags nosuid" in e.words and e.pointer == "/mounts/0"
    e = failure(inner, {"mounts": [bind(inner.path / "vol", "/v", "bind", "noatime")]}, userns=True)
    assert "cannot change locked atime flags" in e.words


def test_a_source_that_the_containers_root_cannot_reach(inner):
    """The host side passes a clone, which receives mounts of the host like any other bind mount."""
    inner.mount(inner.path / "closed", data="mode=700", shared=True)
    (inner.path / "closed" / "vol").mkdir(mode=0o755)
    (inner.path / "closed" / "vol" / "f").write_text("lent")
    look = lambda see: [see.read("/v/f"), see.mount("/v")["flags"], [t.partition(":")[0] for t in see.mount("/v")["tags"]]]  # noqa: E731
    seen = inner.go({"mounts": [bind(inner.path / "closed/vol", "/v", "rbind", "ro")]}, look, userns=True)
    assert seen == ["lent", ["ro", "relatime"], ["master"]]


def test_a_source_that_cannot_be_reached_is_named(inner):
    inner.mount(inner.path / "closed", data="mode=700")
    e = failure(inner, {"mounts": [bind(inner.path / "closed/no", "/v")]}, userns=True)
    assert (
        "bind mount source stat: stat %s/closed/no: no such file or directory" % inner.path in e.words and e.pointer == "/mounts/0/source"
    )


# ---- id-mapped mounts

LINES = [{"containerID": 0, "hostID": 5000, "size": 10}]


def owners(*names):
    def look(see):
        return [[os.stat(name).st_uid, os.stat(name).st_gid] for name in names]

    return look


def mapped(source, where, *options, lines=LINES):
    made = bind(source, where, *options)
    return {**made, "uidMappings": lines, "gidMappings": lines} if lines else made


@pytest.mark.parametrize(("options", "below"), [(["bind"], None), (["rbind"], 0), (["rbind", "idmap"], 0), (["rbind", "ridmap"], 5000)])
def test_maps_of_its_own(world, options, below):
    world.mount(world.path / "vol")
    world.mount(world.path / "vol/sub")
    (world.path / "vol/f").write_text("")
    (world.path / "vol/sub/f").write_text("")
    names = ["/v/f"] + (["/v/sub/f"] if below is not None else [])
    seen = world.go({"mounts": [mapped(world.path / "vol", "/v", *options)]}, owners(*names))
    assert seen == [[5000, 5000]] + ([[below, below]] if below is not None else [])


def test_maps_of_the_container(inner):
    """Files of root on the host belong to the container's root."""
    inner.mount(inner.path / "vol")
    (inner.path / "vol/f").write_text("mine")
    (inner.path / "vol/f").chmod(0o600)
    config = {"mounts": [mapped(inner.path / "vol", "/v", "bind", "idmap", "nosuid", lines=None)]}
    seen = inner.go(config, lambda see: [owners("/v/f")(see), see.read("/v/f"), see.mount("/v")["flags"]], userns=True)
    assert seen == [[[0, 0]], "mine", ["rw", "nosuid", "relatime", "idmapped"]]


def test_maps_in_cruns_format(inner):
    inner.mount(inner.path / "vol")
    (inner.path / "vol/f").write_text("")
    config = {"mounts": [bind(inner.path / "vol", "/v", "bind", "idmap=uids=0-@7-1;gids=0-0-1".replace("0-@7-1", "@0-7-1"))]}
    seen = inner.go(config, owners("/v/f"), userns=True)
    assert seen[0][0] == 7 and seen[0][1] == 65534


def test_a_file_system_without_id_maps(world):
    e = failure(world, {"mounts": [mapped("/proc", "/v", "bind")]})
    assert "invalid argument" in e.words and e.pointer == "/mounts/0" and "id-mapped" in e.hint
