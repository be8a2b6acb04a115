"""parts/devices on a real kernel: the nodes and links of /dev."""

import errno
import os
import stat
import subprocess

import pytest

import hoststate
import kernel_constants
from mounting import DEV, OUTER, PROC, bind, tmpfs
from pyrunc.errors import CallError, StepFailure
from pyrunc.linux import _syscalls

pytestmark = pytest.mark.kernel

NODES = {
    "full": "c 1:7 666 0:0", "null": "c 1:3 666 0:0", "random": "c 1:8 666 0:0", "tty": "c 5:0 666 0:0", "urandom": "c 1:9 666 0:0",
    "zero": "c 1:5 666 0:0",
}  # fmt: skip
LINKS = {
    "fd": "-> /proc/self/fd",
    "stdin": "-> /proc/self/fd/0",
    "stdout": "-> /proc/self/fd/1",
    "stderr": "-> /proc/self/fd/2",
    "ptmx": "-> pts/ptmx",
}
if os.path.exists("/proc/kcore"):
    LINKS["core"] = "-> /proc/kcore"


def listing(see):
    return see.listing("/dev")


def failure(world, config, **how):
    with pytest.raises(StepFailure) as caught:
        world.go(config, **how)
    return caught.value


@pytest.mark.parametrize("umask", [0, 0o777])
def test_the_defaults(world, umask):
    old = os.umask(umask)
    try:
        assert world.go({"mounts": [DEV]}, listing) == {**NODES, **LINKS}
    finally:
        os.umask(old)


def test_in_the_images_own_dev(world):
    """Without a mount on /dev they are created in the root and stay there; a second container uses them."""
    assert world.go({}, listing) == {**NODES, **LINKS}
    (world.rootfs / "dev/null").chmod(0o600)
    assert world.go({}, listing)["null"] == "c 1:3 600 0:0", "a correct node is left alone"


def test_an_image_without_dev(world):
    (world.rootfs / "dev").rmdir()
    assert world.go({}, listing) == {**NODES, **LINKS}


def test_existing_links_stay_except_for_ptmx(world):
    (world.rootfs / "dev/fd").symlink_to("elsewhere")
    (world.rootfs / "dev/stdin").write_text("a file")
    os.mknod(world.rootfs / "dev/ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
    seen = world.go({}, listing)
    assert seen["fd"] == "-> elsewhere" and seen["stdin"][0] == "f" and seen["ptmx"] == "-> pts/ptmx"


def test_devices_of_the_config(world):
    devices = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/some/where/disk", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600},
        {"path": "/dev/sub/u", "type": "u", "major": 1, "minor": 9},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
        {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
        {"path": "/dev/random", "type": "c", "major": 1, "minor": 9, "fileMode": 0o444},
    ]
    seen = world.go(
        {"mounts": [DEV], "linux": {"devices": devices}}, lambda see: [listing(see), see.node("/some/where/disk"), see.node("/dev/sub/u")]
    )
    assert seen[0]["fuse"] == "c 10:229 640 7:8" and seen[0]["pipe"] == "p 622 0:0" and seen[0]["ptmx"] == "-> pts/ptmx"
    assert seen[0]["random"] == "c 1:9 444 0:0", "it replaces the default"
    assert seen[1:] == ["b 7:0 600 0:0", "c 1:9 666 0:0"]


def test_a_device_that_is_there_already(world):
    os.mknod(world.rootfs / "tmp/d", stat.S_IFBLK | 0o600, os.makedev(7, 1))
    device = {"path": "/tmp/d", "type": "b", "major": 7, "minor": 1}
    assert world.go({"linux": {"devices": [device]}}, lambda see: see.node("/tmp/d")) == "b 7:1 600 0:0"
    for change in ({"minor": 2}, {"type": "c"}, {"type": "p"}):
        e = failure(world, {"linux": {"devices": [{**device, **change}]}})
        assert e.pointer == "/linux/devices/0" and "/tmp/d in the root is not the device" in e.words


@pytest.mark.parametrize("what", ["link", "file", "fifo", "1:5", "directory"])
def test_a_dev_null_that_is_not_the_null_device(world, what):
    """In the /dev of the image it is refused; on a /dev that the config mounts it is replaced."""
    null = world.rootfs / "dev/null"
    marker = world.outside / "victim"
    if what == "link":
        null.symlink_to(marker)
    elif what == "file":
        null.write_text("")
    elif what == "fifo":
        os.mkfifo(null)
    elif what == "directory":
        null.mkdir()
    else:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    e = failure(world, {"mounts": [PROC]})
    assert "/dev/null in the root is not the device c 1:3" in e.words and "tmpfs" in e.hint
    if what != "directory":
        dev = {**DEV, "options": [*DEV["options"], "tmpcopyup"]}
        assert world.go({"mounts": [dev]}, listing)["null"] == "c 1:3 666 0:0"
    assert world.go({"mounts": [DEV]}, listing)["null"] == "c 1:3 666 0:0"


def test_a_bind_of_the_hosts_dev_is_left_alone(world):
    dev = world.path / "dev"
    dev.mkdir()
    (dev / "mine").write_text("")
    config = {"mounts": [bind(dev, "/dev")], "linux": {"devices": [{"path": "/tmp/z", "type": "c", "major": 1, "minor": 5}]}}
    assert world.go(config, lambda see: [sorted(listing(see)), see.node("/tmp/z")]) == [["mine"], "c 1:5 666 0:0"]
    assert sorted(os.listdir(dev)) == ["mine"]


def test_a_dev_that_is_mounted_in_the_root_is_left_alone(world):
    world.mount(world.rootfs / "dev")
    (world.rootfs / "dev/mine").write_text("")
    assert sorted(world.go({}, listing)) == ["mine"]


def test_mounts_on_nodes(world):
    """Bind mounts of the host's /dev/null and /dev/ptmx are accepted."""
    mounts = [DEV, bind("/dev/null", "/dev/null", "bind"), bind("/dev/ptmx", "/dev/ptmx", "bind")]
    seen = world.go({"mounts": mounts}, listing)
    assert seen["null"].startswith("c 1:3") and seen["ptmx"].startswith("c 5:2")
    e = failure(world, {"mounts": [DEV, bind(world.outside / "victim", "/dev/null", "bind")]})
    assert "/dev/null" in e.words and e.pointer == "/linux/devices"


def test_in_a_user_namespace_the_hosts_nodes_are_bound(world):
    os.chown(world.rootfs, OUTER, OUTER)
    os.chown(world.rootfs / "dev", OUTER, OUTER)
    devices = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, {"path": "/dev/pipe", "type": "p"}]
    for mounts in ([DEV], [], []):  # without a mount, the files to bind on stay in the root
        seen = world.go(
            {"mounts": mounts, "linux": {"devices": devices}},
            lambda see: [listing(see), see.write("/dev/null"), see.mount("/dev/null")],
            userns=True,
        )
        assert {name: what.split(" ")[1] for name, what in seen[0].items() if what[0] == "c"} == {
            "full": "1:7", "fuse": "10:229", "null": "1:3", "random": "1:8", "tty": "5:0", "urandom": "1:9", "zero": "1:5",
        }  # fmt: skip
        assert seen[0]["pipe"][0] == "p" and seen[0]["ptmx"] == "-> pts/ptmx" and seen[1] == "ok"
        assert seen[2]["type"] == "devtmpfs" and {"nosuid", "noexec"} <= set(seen[2]["flags"])


def test_a_node_that_is_another_device_on_the_host(world):
    os.chown(world.rootfs, OUTER, OUTER)
    e = failure(world, {"mounts": [DEV], "linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": 1, "minor": 3}]}}, userns=True)
    assert "the host's /dev/fuse is not c 1:3" in e.words


def refused(monkeypatch, operation, number):
    """calls() does what comes before an operation, which fails with this errno."""
    real = _syscalls.calls

    def calls(operations, keep):
        names = [one[0] for one in operations]
        if operation not in names:
            return real(operations, keep)
        at = names.index(operation)
        real(operations[:at], -1)
        e = CallError(number, os.strerror(number), None, {"MKNODAT": "mknodat", "FCHMOD": "fchmodat2"}[operation])
        e.at = at
        raise e

    monkeypatch.setattr(_syscalls, "calls", calls)


def test_if_the_kernel_allows_no_nodes(world, monkeypatch):
    """EPERM (CAP_MKNOD is missing): those of the host are bound."""
    refused(monkeypatch, "MKNODAT", errno.EPERM)
    assert world.go({"mounts": [DEV]}, lambda see: see.mount("/dev/zero")["type"]) == "devtmpfs"


def test_the_nodes_are_real_without_a_look_at_the_mount(world):
    """A read-only mount on /dev does not prevent writing to devices; nodev would."""
    dev = tmpfs("/dev", "nosuid", "ro", "mode=755")
    seen = world.go(
        {"mounts": [dev]},
        lambda see: [see.write("/dev/null"), _syscalls.statx(-100, "/dev/zero", 0, kernel_constants.STATX_BASIC_STATS)[7:9]],
    )
    assert seen == ["ok", [1, 5]]


def test_without_fchmodat2(world, monkeypatch):
    """Before Linux 6.6, the mode is set through our own procfs."""
    refused(monkeypatch, "FCHMOD", errno.ENOSYS)
    device = {"path": "/tmp/d", "type": "c", "major": 1, "minor": 5, "fileMode": 0o6755, "uid": 3}
    assert world.go({"mounts": [DEV], "linux": {"devices": [device]}}, lambda see: see.node("/tmp/d")) == "c 1:5 6755 3:0"


def test_a_node_that_the_host_lacks_in_a_user_namespace(pyrunc, make_bundle):
    """It is created outside, with the owner and mode of the config, and bound; nodes that the host has are bound as usual."""
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    nodes = [
        {"path": "/dev/lacking", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 7, "gid": 8},
        {"path": "/dev/block", "type": "b", "major": 7, "minor": 200},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5},
    ]
    changes = {"/linux/namespaces/-": {"type": "user"}, "/linux/uidMappings": maps, "/linux/gidMappings": maps, "/linux/devices": nodes}
    rules = [{"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"}]
    shown = "stat -c '%a %u:%g %F %t:%T' /dev/lacking /dev/block /dev/zero; head -c 3 /dev/lacking | wc -c"
    bundle = make_bundle({**changes, "/linux/resources/devices": rules}, args=["/bin/sh", "-c", shown])
    bundle.rootfs.chmod(0o777)
    os.chmod(bundle.rootfs / "dev", 0o777)
    result = pyrunc.run(bundle)
    assert result.out.splitlines()[:2] == ["644 7:8 character special file 1:5", "666 0:0 block special file 7:c8"], result
    assert result.out.splitlines()[-1] == "3"
    assert hoststate.state_dirs(pyrunc.root) == set()


def test_a_node_that_cannot_be_made_outside(pyrunc, make_bundle, no_leaks):
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    changes = {"/linux/namespaces/-": {"type": "user"}, "/linux/uidMappings": maps, "/linux/gidMappings": maps}
    bundle = make_bundle({**changes, "/linux/devices": [{"path": "/dev/lacking", "type": "c", "major": 1, "minor": 5}]}, args=["/bin/true"])
    without = ["setpriv", "--bounding-set=-mknod", "--inh-caps=-mknod", "--"]
    argv = [*without, *pyrunc.argv("run", "--bundle", bundle, pyrunc.new_id())]
    done = subprocess.run(argv, capture_output=True, text=True, env=pyrunc.env)
    assert done.returncode == 1 and "the host has no device /dev/lacking, and none can be made" in done.stderr, done
