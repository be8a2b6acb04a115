"""Rare events: results of the kernel that don't occur on this machine, changes during a check, and descriptors that stay open.
`make mutants` showed that no other test covers them (docs/testing.md)."""

import errno
import os
import posix
import socket
import struct
import subprocess
import threading
import time

import pytest

from fakes.hand import Run, open_files
from pyrunc.errors import CallError
from pyrunc.linux import dbus, netlink, ns, pidfd, proc
from pyrunc.parts import capabilities, scheduling
from pyrunc.parts.devices import make
from pyrunc.parts.mounts import cgroupfs, copyup, filesystems
from pyrunc.parts.rdt import resctrl

# ---- files that change, and what stays open


def test_a_file_that_has_been_replaced(tmp_path):
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    here = os.open(tmp_path, os.O_RDONLY)
    before = open_files()
    fd = copyup._open_same(here, "one", posix.O_RDONLY, os.lstat(tmp_path / "one"))
    assert os.read(fd, 9) == b"1"
    os.close(fd)
    with pytest.raises(OSError, match="one") as caught:
        copyup._open_same(here, "one", posix.O_RDONLY, os.lstat(tmp_path / "two"))
    assert caught.value.errno == errno.ESTALE and open_files() == before
    os.close(here)


@pytest.mark.kernel
def test_a_copy_of_a_directory_leaves_nothing_open(tmp_path):
    (tmp_path / "from/a/b").mkdir(parents=True)
    (tmp_path / "from/a/file").write_text("text")
    (tmp_path / "to").mkdir()
    source, base = (os.open(tmp_path / name, os.O_RDONLY) for name in ("from", "to"))
    before = open_files()
    copyup.copy(source, base, [])
    assert open_files() == before
    assert sorted(str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*")) == ["a", "a/b", "a/file"]
    for fd in (source, base):
        os.close(fd)


@pytest.mark.parametrize(
    ("option", "before", "number", "pointer"),
    [
        (0, 0, errno.EINVAL, "/mounts/3/options/0"),
        (1, 0, errno.EINVAL, None),  # an option that the runtime handles
        (2, 0, errno.EINVAL, "/mounts/3/options/5"),
        (0, 1, errno.EINVAL, None),  # mode= comes before them
        (1, 1, errno.EINVAL, "/mounts/3/options/0"),
        (None, 0, errno.ENODEV, "/mounts/3/type"),
    ],
)
def test_the_option_that_a_file_system_refuses(option, before, number, pointer):
    item = {"pointer": "/mounts/3", "data": [["a", 0], ["own", -1], ["b", 5]]}
    error = CallError(number, "refused", "/t", "fsconfig")
    error.option, error.log = option, ("bad value", "")
    told = filesystems.explained(error, item, before)
    assert isinstance(told, CallError) and told.pointer == pointer and (told.words or "").startswith("bad value: ")


def test_where_resctrl_is_mounted(monkeypatch):
    line = "30 25 0:27 / %s rw,relatime - %s resctrl rw\n"
    monkeypatch.setattr(
        resctrl, "read_file", lambda _path, _limit: (line % ("/sys", "sysfs") + line % ("/sys/fs/resctrl", "resctrl")).encode()
    )
    assert resctrl.find_root() == "/sys/fs/resctrl"
    monkeypatch.setattr(resctrl, "read_file", lambda _path, _limit: (line % ("/resctrl", "tmpfs")).encode())
    assert resctrl.find_root() is None


@pytest.mark.parametrize(("short", "words"), [(0, None), (1, "short write")])
def test_a_setting_is_written_at_once(tmp_path, monkeypatch, short, words):
    kept = proc.Proc.__new__(proc.Proc)
    monkeypatch.setattr(proc.Proc, "open", lambda _self, path, flags: os.open(tmp_path / path, flags))
    (tmp_path / "setting").write_text("")
    write = posix.write
    monkeypatch.setattr(proc.posix, "write", lambda fd, data: write(fd, data) - short)
    before = open_files()
    if words:
        with pytest.raises(OSError, match=words) as caught:
            kept.write("setting", b"17")
        assert caught.value.errno == errno.EIO
    else:
        kept.write("setting", b"17")
        assert (tmp_path / "setting").read_text() == "17"
    assert open_files() == before


# ---- processes, sockets, devices


def test_a_child_is_waited_for_once():
    child = os.posix_spawn("/bin/true", ["true"], {})
    ns.reap(child)
    with pytest.raises(ChildProcessError):
        os.waitpid(child, 0)
    ns.reap(child)
    assert not os.path.exists("/proc/%d" % child)


def test_whether_a_signal_was_delivered():
    child = subprocess.Popen(["/bin/sleep", "1000"])
    fd = os.pidfd_open(child.pid)
    assert pidfd.kill(fd, 0) is True and pidfd.kill(fd, 9) is True
    child.wait()
    assert pidfd.kill(fd, 0) is False
    os.close(fd)


@pytest.mark.parametrize("answer", [b"ERROR\r\nOK 123\r\n", b"DATA\r\nREJECTED EXTERNAL\r\n"])
def test_a_bus_that_refuses_authentication(tmp_path, answer):
    path = str(tmp_path / "bus")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def serve():
        peer, _ = server.accept()
        peer.recv(4096)
        peer.send(answer)
        while peer.recv(4096):
            pass
        peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(dbus.DBusError) as caught:
        dbus.Connection(path, time.monotonic() + 60)
    assert caught.value.name == "org.freedesktop.DBus.Error.AuthFailed"
    del caught
    thread.join(60)
    server.close()
    assert not thread.is_alive()


def test_attributes_of_a_message():
    """Each begins at a multiple of four; an impossible length ends them."""
    data = netlink.attribute(1, b"abcde") + netlink.attribute(2, b"") + netlink.attribute(3, b"x" * 4)
    assert netlink.parse(data) == {1: b"abcde", 2: b"", 3: b"xxxx"} and len(data) == 12 + 4 + 8
    assert netlink.parse(data[:-8] + b"\x03\x00\x03\x00xxxx") == {1: b"abcde", 2: b""}
    assert netlink.parse(data[:-8] + b"\x08\x00\x03\x80xxxx") == {1: b"abcde", 2: b"", 3: b"xxxx"}, "nested attributes have a flag"


@pytest.mark.parametrize(
    ("inheritable", "grown"),
    [([], ["bounding", "effective", "permitted"]), (["CAP_KILL"], ["bounding", "effective", "permitted", "ambient"])],
)
def test_one_more_capability(inheritable, grown):
    sets = {"bounding": ["CAP_CHOWN"], "inheritable": inheritable}
    more = capabilities.with_more(sets, ["CAP_KILL", "CAP_CHOWN"])
    assert [name for name in more if "CAP_KILL" in more[name] and name != "inheritable"] == sorted(grown, key=list(more).index)
    assert more["inheritable"] == inheritable and more["bounding"] == ["CAP_CHOWN", "CAP_KILL"] and sets["bounding"] == ["CAP_CHOWN"]


@pytest.mark.kernel
def test_a_node_that_only_the_host_side_can_make(tmp_path, monkeypatch):
    def asked(part, request):
        assert (part, request) == ("devices", {"path": "/dev/no/such/node"})
        return {}, [77]

    node = {
        "path": "/dev/no/such/node",
        "type": "c",
        "major": 1,
        "minor": 3,
        "mode": 0o666,
        "uid": 0,
        "gid": 0,
        "pointer": "/linux/devices/0",
    }
    run = Run()
    run.ask = asked  # type: ignore[attr-defined]
    assert make._source(node, run) == 77


@pytest.fixture
def route(monkeypatch):
    """A netlink socket that only records what it would send: (kind, flags, body)."""
    made = netlink.Route.__new__(netlink.Route)
    sent: list[tuple[int, int, bytes]] = []
    monkeypatch.setattr(made, "request", lambda *words: sent.append(words), raising=False)
    return made, sent


def test_a_device_is_moved_unchanged(route):
    """rtnetlink(7): a change mask would also set or clear flags."""
    made, sent = route
    made.move(7, 5, "eth%d")
    made.set_up(7, True)
    made.set_up(7, False)
    moved, up, down = (body for _kind, _flags, body in sent)
    assert moved[:16] == struct.pack("=BxHiII", 0, 0, 7, 0, 0)
    assert netlink.parse(moved[16:]) == {netlink.IFLA_NET_NS_FD: struct.pack("=I", 5), netlink.IFLA_IFNAME: b"eth%d\0"}
    assert (up, down) == (struct.pack("=BxHiII", 0, 0, 7, 1, 1), struct.pack("=BxHiII", 0, 0, 7, 0, 1))


def test_an_address_is_restored_unchanged(route):
    made, sent = route
    made.add_address(7, socket.AF_INET, 24, b"\x0a\0\0\1", b"\x0a\0\0\xff")
    made.add_address(7, socket.AF_INET6, 64, b"\xfd" + bytes(15))
    (first, second) = (body for _kind, _flags, body in sent)
    assert first[:8] == struct.pack("=BBBBi", socket.AF_INET, 24, 0, 0, 7) and second[:8] == struct.pack(
        "=BBBBi", socket.AF_INET6, 64, 0, 0, 7
    )
    address = {netlink.IFA_LOCAL: b"\x0a\0\0\1", netlink.IFA_ADDRESS: b"\x0a\0\0\1", netlink.IFA_BROADCAST: b"\x0a\0\0\xff"}
    assert netlink.parse(first[8:]) == address and netlink.IFA_BROADCAST not in netlink.parse(second[8:])


@pytest.mark.parametrize(
    ("number", "rootless", "empty"), [(errno.ENOENT, True, True), (errno.ENOENT, False, False), (errno.EACCES, True, False)]
)
def test_a_rootless_container_without_a_cgroup_sees_an_empty_directory(monkeypatch, number, rootless, empty):
    def fails(_path):
        raise OSError(number, "refused")

    monkeypatch.setattr(cgroupfs.mount, "clone", fails)
    monkeypatch.setattr(cgroupfs.mount, "new", lambda kind, *_words: kind)
    ask = {"flags": 0}, {"cgroupns": False}, {"rootless": rootless}
    if empty:
        assert cgroupfs._bound(*ask) == "tmpfs"
    else:
        with pytest.raises(OSError, match="refused"):
            cgroupfs._bound(*ask)


@pytest.mark.parametrize(("number", "kept"), [(errno.EPERM, True), (errno.EINVAL, True), (errno.ESRCH, False)])
def test_processors_that_may_not_be_reset(monkeypatch, number, kept):
    def refused(_pid, _processors):
        raise OSError(number, "refused")

    monkeypatch.setattr(scheduling.posix, "sched_setaffinity", refused)
    entry = {"exec": False, "initial": None, "final": None}
    before = os.sched_getaffinity(0)
    if kept:
        scheduling.host_affinity(entry, Run(pid=os.getpid()))
    else:
        with pytest.raises(OSError, match="refused"):
            scheduling.host_affinity(entry, Run(pid=os.getpid()))
    assert os.sched_getaffinity(0) == before
