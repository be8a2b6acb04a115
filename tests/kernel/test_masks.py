"""parts/paths on a real kernel: masked and read-only paths."""

import os
import stat

import pytest

from mounting import DEV, OUTER, PROC, SYS, bind, tmpfs
from pyrunc.errors import StepFailure
from pyrunc.linux import probe

pytestmark = pytest.mark.kernel


def secret(world):
    (world.rootfs / "secret").write_text("secret")
    (world.rootfs / "dir").mkdir(exist_ok=True)
    (world.rootfs / "dir/secret").write_text("secret")
    return {"maskedPaths": ["/secret", "/dir"]}


def test_files_and_directories(world):
    linux = secret(world)

    def look(see):
        return [
            see.node("/secret"),
            see.read("/secret"),
            see.write("/secret"),
            os.listdir("/dir"),
            see.write("/dir/x"),
            see.mount("/secret")["flags"],
            see.mount("/dir")["flags"],
        ]

    seen = world.go({"mounts": [DEV], "linux": linux}, look)
    assert seen[:5] == ["c 1:3 666 0:0", "", "ok", [], "Read-only file system"]
    assert {"ro", "nosuid", "noexec"} <= set(seen[5]) & set(seen[6])
    assert (world.rootfs / "secret").read_text() == "secret"


def test_every_masked_path_is_a_read_only_mount_of_its_own(world):
    masked = ["/proc/keys", "/proc/timer_list", "/proc/acpi", "/proc/scsi", "/sys/firmware", "/proc/nosuch", "/nosuch/at/all"]
    config = {"mounts": [PROC, DEV, SYS], "linux": {"maskedPaths": masked}}
    seen = world.go(config, lambda see: {path: see.mount(path) for path in masked}, namespaces=["network"])
    there = [path for path in masked if os.path.exists(path)]
    assert there and all(("ro" in seen[path]["flags"]) for path in there) and not any(seen[path] for path in masked if path not in there)
    shared = {seen[path]["id"]: seen[path]["super"] for path in there if seen[path]["type"] == "tmpfs" and seen[path]["root"] == "/"}
    assert len({str(s) for s in shared.values()}) <= 1


def test_one_tmpfs_for_all_directories(world):
    for i in range(50):
        (world.rootfs / ("d%d" % i)).mkdir()
    masked = ["/d%d" % i for i in range(50)] + ["/d7", "/d7/", "//d7/."]

    def look(see):
        points = [m["point"] for m in see.mounts() if m["point"].startswith("/d")]
        return [len({os.stat(path).st_dev for path in masked}), len(points), see.write("/d0/x")]

    assert world.go({"linux": {"maskedPaths": masked, "devices": []}, "mounts": [DEV]}, look) == [1, 51, "Read-only file system"]


def test_a_path_below_a_mount_and_one_behind_a_link(world):
    (world.outside / "in").write_text("secret")
    (world.rootfs / "link").symlink_to("/vol/in")
    config = {"mounts": [DEV, bind(world.outside, "/vol")], "linux": {"maskedPaths": ["/link"]}}
    assert world.go(config, lambda see: see.node("/vol/in")) == "c 1:3 666 0:0"


def test_a_path_below_a_masked_one(world):
    linux = secret(world)
    linux["maskedPaths"] = ["/dir", "/dir/secret"]
    assert world.go({"mounts": [DEV], "linux": linux}, lambda see: os.listdir("/dir")) == []


def test_a_path_below_a_file_is_a_failure(world):
    secret(world)
    with pytest.raises(StepFailure) as caught:
        world.go({"mounts": [DEV], "linux": {"maskedPaths": ["/secret/x"]}})
    assert caught.value.pointer == "/linux/maskedPaths/0" and "not a directory" in caught.value.words


def test_sockets_and_pipes_are_masked_too(world):
    os.mkfifo(world.rootfs / "pipe")
    assert world.go({"mounts": [DEV], "linux": {"maskedPaths": ["/pipe"]}}, lambda see: see.node("/pipe")) == "c 1:3 666 0:0"


def test_in_a_user_namespace(world):
    linux = secret(world)
    for path in (world.rootfs, *world.rootfs.iterdir()):
        os.chown(path, OUTER, OUTER)
    seen = world.go(
        {"mounts": [DEV], "linux": linux}, lambda see: [see.node("/secret")[:5], see.read("/secret"), os.listdir("/dir")], userns=True
    )
    assert seen == ["c 1:3", "", []]


@pytest.mark.parametrize("what", ["link", "file", "fifo", "1:5", "missing"])
@pytest.mark.parametrize("dev", ["of the image", "a bind"])
def test_the_null_device_is_checked(world, what, dev):
    """CVE-2025-31133: /dev/null of the container is only used as a mask if it is c 1:3."""
    linux = secret(world)
    folder = world.rootfs / "dev"
    if dev == "a bind":
        folder = world.path / "somedev"
        folder.mkdir()
    null = folder / "null"
    marker = world.rootfs / "marker"
    marker.write_text("marker")
    if what == "link":
        null.symlink_to("/marker")
    elif what == "file":
        null.write_text("file")
    elif what == "fifo":
        os.mkfifo(null)
    elif what == "1:5":
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    config = {"mounts": [bind(folder, "/dev")] if dev == "a bind" else [], "linux": linux}
    look = lambda see: [see.node("/secret")[:5], see.read("/secret"), see.write("/secret", "lost"), see.read("/marker")]  # noqa: E731
    if dev == "of the image" and what != "missing" or dev == "a bind" and probe.kernel() < (6, 15):
        with pytest.raises(StepFailure) as caught:
            world.go(config, look)
        assert "/dev/null" in caught.value.words
    else:
        assert world.go(config, look) == ["c 1:3", "", "ok", "marker"]
    assert marker.read_text() == "marker" and (world.rootfs / "secret").read_text() == "secret"
    if what == "file":
        assert null.read_text() == "file"


def test_no_null_device_is_available(world):
    """None can be created in a user namespace: this is reported, and nothing runs unmasked."""
    linux = secret(world)
    for path in (world.rootfs, *world.rootfs.iterdir()):
        os.chown(path, OUTER, OUTER)
    folder = world.path / "somedev"
    folder.mkdir()
    (folder / "null").write_text("")
    with pytest.raises(StepFailure) as caught:
        world.go({"mounts": [bind(folder, "/dev")], "linux": linux}, userns=True)
    assert caught.value.pointer == "/linux/maskedPaths/0" and "/dev/null is not the null device" in caught.value.words


# ---- read-only paths


def test_readonly(world):
    (world.rootfs / "ro/sub").mkdir(parents=True)
    (world.rootfs / "ro/f").write_text("text")
    config = {"mounts": [DEV, tmpfs("/ro/sub")], "linux": {"readonlyPaths": ["/ro", "/nosuch"]}}
    seen = world.go(config, lambda see: [see.read("/ro/f"), see.write("/ro/f"), see.write("/ro/sub/x"), see.mount("/ro")["flags"]])
    assert seen == ["text", "Read-only file system", "ok", ["ro", "relatime"]], "mounts below keep their flags"


def test_readonly_keeps_the_other_flags(world):
    config = {"mounts": [PROC, DEV], "linux": {"readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq"]}}
    seen = world.go(config, lambda see: [see.mount("/proc/sys")["flags"], see.write("/proc/sys/kernel/hostname", "y")])
    assert set(seen[0]) == {"ro", "nosuid", "nodev", "noexec", "relatime"} and seen[1] == "Read-only file system"


@pytest.mark.parametrize("word", ["unbindable", "shared", "slave", "private"])
@pytest.mark.parametrize("readonly", [True, False])
def test_in_a_root_of_any_propagation(world, word, readonly):
    """/dev is part of the root here. An unbindable root can't be cloned, neither for a read-only path nor for the null device."""
    (world.rootfs / "ro").mkdir()
    (world.rootfs / "ro/f").write_text("text")
    linux = {**secret(world), "readonlyPaths": ["/ro"], "rootfsPropagation": word}
    config = {"mounts": [PROC], "root": {"readonly": readonly}, "linux": linux}

    def look(see):
        return see.read("/secret"), os.listdir("/dir"), see.read("/ro/f"), see.write("/ro/f"), see.mount("/")["flags"], see.write("/tmp/x")

    seen = world.go(config, look)
    assert seen[:4] == ["", [], "text", "Read-only file system"]
    assert ("ro" in seen[4], seen[5]) == ((True, "Read-only file system") if readonly else (False, "ok"))


def test_masked_below_readonly(world):
    linux = secret(world)
    linux = {"maskedPaths": ["/dir/secret"], "readonlyPaths": ["/dir"]}
    seen = world.go({"mounts": [DEV], "linux": linux}, lambda see: [see.node("/dir/secret")[:5], see.write("/dir/x")])
    assert seen == ["c 1:3", "Read-only file system"]


def test_readonly_in_a_user_namespace(world):
    world.mount(world.path / "vol")
    (world.path / "vol").chmod(0o777)
    for path in (world.rootfs, *world.rootfs.iterdir()):
        os.chown(path, OUTER, OUTER)
    config = {"mounts": [bind(world.path / "vol", "/v")], "linux": {"readonlyPaths": ["/v"]}}
    assert world.go(config, lambda see: see.write("/v/x"), userns=True) == "Read-only file system"
