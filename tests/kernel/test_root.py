"""parts/root on a real kernel: the root is a separate mount, the host's mounts are gone, and propagation never reaches the host."""

import errno
import os

import pytest

from mounting import OUTER, PROC, SYS, bind, tmpfs
from pyrunc.errors import StepFailure
from pyrunc.linux import _syscalls, mount, mountinfo
from pyrunc.linux import constants as c
from pyrunc.parts import root

pytestmark = pytest.mark.kernel


def inside(see):
    return {
        "root": os.listdir("/"),
        "cwd": os.getcwd(),
        "mounts": [m["point"] for m in see.mounts()],
        "fd": os.fstat(see.run.root_fd).st_ino == os.stat("/").st_ino,
    }


def test_pivot(world):
    (world.rootfs / "mark").write_text("")
    seen = world.go({}, inside)
    assert "mark" in seen["root"] and "victim" not in seen["root"]
    assert seen["cwd"] == "/" and seen["fd"] and seen["mounts"] == ["/"], "the host's mounts are gone"


def test_the_root_has_no_way_up(world):
    def look(see):
        up = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(20):
            up = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=up)
        return sorted(os.listdir(up)) == sorted(os.listdir("/"))

    assert world.go({}, look)
    assert world.go({}, look, options={"no_pivot": True})


def test_a_mounted_root(world):
    """As with engines: the root is a separate mount, with another mount inside."""
    world.mount(world.rootfs, shared=True)
    (world.rootfs / "tmp").mkdir()
    world.mount(world.rootfs / "below", shared=True)
    (world.rootfs / "below/f").write_text("comes along")
    assert world.go({"mounts": [tmpfs("/tmp")]}, lambda see: see.read("/below/f")) == "comes along"


def test_the_host_sees_nothing_of_a_root_on_a_shared_mount(world):
    """Checked while the mounts of the container exist."""
    world.mount(world.bundle, shared=True)
    world.rootfs.mkdir()
    world.freeze()
    during = []
    original = world._serve

    def serve(link, plans, pid):
        value = original(link, plans, pid)
        during.append(world.host())
        return value

    world._serve = serve
    world.go({"mounts": [tmpfs("/t"), bind(world.outside, "/o")], "linux": {"rootfsPropagation": "rslave"}}, lambda see: None)
    world.go({"mounts": [tmpfs("/t"), bind(world.outside, "/o")], "linux": {"rootfsPropagation": "shared"}}, lambda see: None)
    assert during[0]["mounts"] == world.before["mounts"] == during[1]["mounts"]


@pytest.mark.parametrize(
    ("word", "tags"),
    [
        (None, []),
        ("rprivate", []),
        ("private", []),
        ("slave", ["master"]),
        ("rslave", ["master"]),
        ("shared", ["shared"]),
        ("rshared", ["shared"]),
        ("unbindable", ["unbindable"]),
        ("runbindable", ["unbindable"]),
    ],
)
def test_rootfs_propagation(world, word, tags):
    world.mount(world.rootfs, shared=True)
    config = {"linux": {"rootfsPropagation": word}} if word else {}
    assert [t.partition(":")[0] for t in world.go(config, lambda see: see.mount("/")["tags"])] == tags


def test_rslave_receives_mounts_of_the_host(world):
    world.mount(world.rootfs, shared=True)
    (world.rootfs / "later").mkdir()
    done, told = os.pipe()
    seen, look_now = os.pipe()

    def look(see):
        os.write(told, b"x")
        os.read(seen, 1)
        return see.mount("/later") is not None

    original = world._serve

    def serve(link, plans, pid):
        real = link.receive

        def receive():
            os.read(done, 1)
            world.mount(world.rootfs / "later")
            world.before = world.host()
            os.write(look_now, b"x")
            link.receive = real
            return real()

        link.receive = receive
        return original(link, plans, pid)

    world._serve = serve
    assert world.go({"linux": {"rootfsPropagation": "rslave"}}, look)


def test_read_only(world):
    config = {"root": {"readonly": True}, "mounts": [tmpfs("/tmp"), bind(world.outside, "/new/place")]}
    seen = world.go(config, lambda see: [see.write("/x"), see.write("/tmp/x"), see.mount("/")["flags"], see.read("/new/place/victim")])
    assert seen == ["Read-only file system", "ok", ["ro", "relatime"], "as it was\n"]


def test_read_only_keeps_the_other_flags(world):
    world.mount(world.rootfs, c.MS_NOSUID | c.MS_NODEV)
    assert world.go({"root": {"readonly": True}}, lambda see: see.mount("/")["flags"]) == ["ro", "nosuid", "nodev", "relatime"]


def test_read_only_in_a_user_namespace(world):
    world.mount(world.rootfs, c.MS_NOSUID)
    os.chown(world.rootfs, OUTER, OUTER)
    seen = world.go({"root": {"readonly": True}}, lambda see: [see.mount("/")["flags"], see.write("/x")], userns=True)
    assert seen == [["ro", "nosuid", "relatime"], "Read-only file system"]


def test_a_file_that_is_open_for_writing_is_reported(world, monkeypatch):
    real = mount.make_readonly
    monkeypatch.setattr(mount, "make_readonly", lambda fd, tries, pause_ms: real(fd, 2, 1))

    def between(see):
        see.kept = os.open("keep", os.O_WRONLY | os.O_CREAT, dir_fd=see.run.root_fd)

    with pytest.raises(StepFailure) as caught:
        world.go({"root": {"readonly": True}}, between=between)
    assert caught.value.pointer == "/root/readonly" and caught.value.errno == 16


def test_no_pivot(world):
    """The root is moved over /, and procfs and sysfs of the host are unmounted in the namespace (a process that breaks out of a chroot can reach
    the mounts below)."""
    (world.rootfs / "mark").write_text("")

    def look(see):
        return [os.path.exists("/mark"), [m["type"] for m in see.mounts()], os.getcwd()]

    def between(see):
        see.run.host_root = os.open("/", os.O_RDONLY)

    def reach(see):
        os.fchdir(see.run.host_root)
        return [os.listdir("proc"), os.listdir("sys")]

    mark, types, cwd = world.go({"mounts": [PROC]}, look, options={"no_pivot": True})
    assert mark and cwd == "/" and "proc" in types and "sysfs" not in types
    assert world.go({"mounts": [PROC]}, reach, between, options={"no_pivot": True}) == [[], []]


def test_no_pivot_leaves_no_way_out_of_the_chroot(world):
    """A breakout with the usual chroot trick leads to the container's root again, because it has been moved over the host's."""
    (world.rootfs / "mark").write_text("")

    def look(see):
        root = os.open("/", os.O_RDONLY)
        os.mkdir("/below")
        os.chroot("/below")
        os.fchdir(root)
        for _ in range(40):
            os.chdir("..")
        os.chroot(".")
        return sorted(os.listdir("/"))

    assert "mark" in world.go({}, look, options={"no_pivot": True})


@pytest.fixture
def alone():
    """A separate mount namespace with only the usual procfs and sysfs. Other tests create roots on this machine too, in directories that a user
    namespace can't enter, and what can't be reached can't be covered."""
    cwd, home = os.getcwd(), os.open("/proc/self/ns/mnt", os.O_RDONLY)
    _syscalls.unshare(c.CLONE_NEWNS)
    try:
        _syscalls.mount(None, "/", None, c.MS_PRIVATE | c.MS_REC, None)
        for _device, _top, point, kind, _settings in reversed(mountinfo.table(open("/proc/self/mountinfo").read())):
            if kind in ("proc", "sysfs") and point not in ("/proc", "/sys"):
                _syscalls.umount2(point, c.MNT_DETACH | c.UMOUNT_NOFOLLOW)
        yield
    finally:
        _syscalls.setns(home, c.CLONE_NEWNS)
        os.close(home)
        os.chdir(cwd)


def test_no_pivot_in_a_user_namespace(world, alone):
    """There, procfs and sysfs of the host are locked, so they are covered instead."""
    for path in (world.rootfs, *world.rootfs.iterdir()):
        os.chown(path, OUTER, OUTER)

    def between(see):
        see.run.host_root = os.open("/", os.O_RDONLY)

    def reach(see):
        os.fchdir(see.run.host_root)
        return [os.listdir("proc"), os.listdir("sys")]

    how = {"options": {"no_pivot": True}, "userns": True, "namespaces": ["network"]}
    assert world.go({"mounts": [PROC, SYS]}, reach, between, **how) == [[], []]


def test_no_pivot_in_a_user_namespace_that_cannot_reach_a_procfs(world, alone, tmp_path):
    """A procfs that stays visible would still permit mounting a new one, so create fails."""
    for path in (world.rootfs, *world.rootfs.iterdir()):
        os.chown(path, OUTER, OUTER)
    there = tmp_path / "proc"
    there.mkdir()
    tmp_path.chmod(0o700)
    _syscalls.mount("proc", str(there), "proc", 0, None)
    with pytest.raises(StepFailure) as caught:
        world.go({"mounts": [PROC]}, options={"no_pivot": True}, userns=True)
    assert caught.value.errno == errno.EACCES and str(there) in str(caught.value)


def test_without_a_mount_namespace_it_is_a_chroot(world):
    (world.rootfs / "mark").write_text("")
    plans = world.plan({}, join={"mount": "x"})
    plans["namespaces"] = {**plans["namespaces"], "new": ["pid"], "join": {}}
    world.plan = lambda config, **how: {**plans, "root": {**plans["root"], "mount_ns": False, "own_ns": False}, "devices": None}
    world.freeze()
    table = open("/proc/self/mountinfo").read()
    assert world.go({}, lambda see: [os.path.exists("/mark"), os.getcwd()]) == [True, "/"]
    assert open("/proc/self/mountinfo").read() == table, "the mount table of the host is unchanged"


def test_a_joined_mount_namespace_is_not_pivoted(world):
    """Its root stays for the processes in it; the container's root is entered with chroot."""
    (world.rootfs / "mark").write_text("")
    ready, say = os.pipe()
    done, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(end)
            _syscalls.unshare(c.CLONE_NEWNS)
            _syscalls.mount(None, "/", None, c.MS_SLAVE | c.MS_REC, None)
            os.write(say, b"x")
            os.read(done, 1)
        finally:
            os._exit(0 if os.path.exists("/proc/self") and not os.path.exists("/mark") else 1)
    os.close(done)
    os.read(ready, 1)
    fd = os.open("/proc/%d/ns/mnt" % pid, os.O_RDONLY)
    real = root.init_prepare

    def joined(entry, run):
        _syscalls.setns(fd, c.CLONE_NEWNS)
        real(entry, run)

    root.init_prepare = joined
    try:
        seen = world.go({"mounts": [tmpfs("/tmp", "size=1m")]}, lambda see: [os.path.exists("/mark"), os.getcwd()], join={"mount": "/x"})
    finally:
        root.init_prepare = real
        os.close(fd)
        os.close(end)
        _, status = os.waitpid(pid, 0)
    assert seen == [True, "/"] and status == 0


def test_the_hosts_root_as_root(world):
    """podman --rootfs /: / is mounted on itself. /dev is a mount of the host that is included, so nothing in it is changed."""
    top = [line.split()[3] for line in open("/proc/self/mountinfo") if line.split()[4] == "/"][-1]  # not / in a chroot
    before = {name: os.lstat("/dev/" + name).st_mtime_ns for name in ("null", "ptmx")}
    seen = world.go(
        {"root": {"path": "/"}, "mounts": [PROC]}, lambda see: [see.mount("/")["root"], os.path.isdir("/usr"), see.node("/dev/ptmx")[0]]
    )
    assert seen[0] == top and seen[1] and seen[2] == "c"
    assert before == {name: os.lstat("/dev/" + name).st_mtime_ns for name in ("null", "ptmx")}
