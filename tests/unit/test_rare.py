"""What happens rarely: answers of the kernel that this machine does not give, what changes while it is looked at, and descriptors that stay open.
`make mutants` showed that nothing else noticed (docs/testing.md)."""

import errno
import os
import posix
import socket
import subprocess
import threading
import time

import pytest

import cgroup_tools
from fakes.hand import Run
from pyrunc import fileio
from pyrunc.cgroup import attach, devices_rules, freeze, fs, oom, unit_properties, v2
from pyrunc.errors import CallError, StepFailure, UsageError
from pyrunc.linux import dbus, netlink, ns, pidfd, proc
from pyrunc.parts import capabilities, cgroups, rdt, resources
from pyrunc.parts.devices import make
from pyrunc.parts.mounts import copyup, filesystems


def open_files():
    return sorted(os.listdir("/proc/self/fd"))


@pytest.fixture
def plain(monkeypatch):
    """Directories of any file system pass for cgroups."""
    monkeypatch.setattr(fs, "check", lambda fd, key, path: fd)


# ---- cgroups


def test_a_controller_that_the_container_has_not(tmp_path):
    with pytest.raises(UsageError, match="unknown controller cpu: the container has no cgroup of it"):
        attach.targets({"memory": str(tmp_path)}, os.getpid(), ["cpu:/below"])


@pytest.mark.parametrize(("number", "known"), [(errno.ENOENT, True), (errno.ESRCH, True), (errno.EACCES, False)])
def test_the_cgroup_of_an_init_that_has_ended(monkeypatch, number, known):
    def fails(_path, _limit):
        raise OSError(number, "refused")

    monkeypatch.setattr(fileio, "read_file", fails)
    if known:
        assert attach._of_init("/c", 1) is None
    else:
        with pytest.raises(OSError, match="refused"):
            attach._of_init("/c", 1)


@pytest.mark.parametrize(
    ("key", "file", "text", "count"),
    [
        ("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", 0),
        ("unified", "memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n", 1),
        ("unified", "memory.events", "", 0),
    ],
)
def test_how_many_were_killed(tmp_path, plain, key, file, text, count):
    """Kernels before 4.13 do not count them on version 1."""
    (tmp_path / file).write_text(text)
    assert oom.killed({key: str(tmp_path), "pids": "/none"}) == count
    assert oom.killed({key: str(tmp_path / "gone")}) == oom.killed({"pids": "/none"}) == 0


@pytest.mark.parametrize(("paths", "key"), [({"memory": "/m", "unified": "/u"}, "memory"), ({"unified": "/u", "pids": "/p"}, "unified")])
def test_where_killed_processes_are_watched(monkeypatch, paths, key):
    def fails(path, key):
        raise OSError(errno.EIO, "%s as %s" % (path, key))

    monkeypatch.setattr(fs, "open_dir", fails)
    with pytest.raises(OSError, match="%s as %s" % (paths[key], key)):
        oom.Watch(paths)
    with pytest.raises(FileNotFoundError, match="no memory cgroup"):
        oom.Watch({"pids": "/p"})


@pytest.mark.parametrize(
    ("keys", "failing", "number", "told"),
    [
        ("unified", "unified", errno.EIO, True),
        ("unified", "unified", errno.ENOENT, False),
        ("freezer unified", "unified", errno.EIO, False),  # a hybrid host, whose freezer is that of version 1
        ("freezer unified", "freezer", errno.EIO, True),
        ("freezer unified", "freezer", errno.ENODEV, False),
    ],
)
def test_a_freezer_that_does_not_thaw(monkeypatch, tmp_path, plain, keys, failing, number, told):
    def write(_fd, name, value, path):
        written.append((name, value))
        if path.endswith(failing):
            raise OSError(number, "refused")

    written: list[tuple[str, str]] = []
    monkeypatch.setattr(fs, "write", write)
    paths = {key: str(tmp_path / key) for key in keys.split()}
    for path in paths.values():
        os.mkdir(path)
    before = open_files()
    if told:
        with pytest.raises(OSError, match="refused"):
            freeze.thaw(paths)
    else:
        freeze.thaw(paths)
        values = {"freezer": ("freezer.state", "THAWED"), "unified": ("cgroup.freeze", "0")}
        assert written == [values[key] for key in paths]
    assert open_files() == before


def test_thawing_what_is_below_leaves_nothing_open(tmp_path, plain):
    (tmp_path / "a/b").mkdir(parents=True)
    before = open_files()
    freeze.thaw_below({"freezer": str(tmp_path)})
    freeze.thaw_below({"freezer": str(tmp_path / "gone")})
    assert open_files() == before


@pytest.mark.parametrize(
    ("rootless", "number", "explicit", "version", "asked", "goes_on"),
    [
        (True, errno.EACCES, False, 1, True, True),
        (True, errno.EROFS, False, 2, False, True),
        (True, errno.EACCES, False, 2, True, False),
        (True, errno.EACCES, True, 1, False, False),
        (True, errno.ENOSPC, False, 1, False, False),
        (False, errno.EACCES, False, 1, False, False),
    ],
)
def test_whether_a_container_goes_without_its_cgroup(rootless, number, explicit, version, asked, goes_on):
    entry = {"rootless": rootless, "explicit": explicit, "version": version}
    assert cgroups._goes_without(entry, {"asked": asked}, OSError(number, "refused")) is goes_on


@pytest.mark.parametrize(
    ("key", "value", "version", "properties"),
    [
        ("cpu.idle", "1", 252, [["CPUWeight", "t", 0]]),
        ("cpu.idle", "1", 251, []),
        ("cpu.idle", "0", 252, []),
        ("cpu.weight", "77", 252, [["CPUWeight", "t", 77]]),
        ("cpu.weight", "idle", 252, []),
        ("pids.max", "0", 252, [["TasksMax", "t", 1]]),
        ("pids.max", "9", 252, [["TasksMax", "t", 9]]),
    ],
)
def test_unified_keys_that_are_properties_of_a_unit(key, value, version, properties):
    assert unit_properties._unified(key, value, version) == properties


class Group:
    """A cgroup of version 1's devices, as devices_rules asks for one."""

    path = "/g"

    def __init__(self, text="", number=0):
        self.text, self.number = text, number

    def look(self, _name):
        return self.text

    def put_each(self, file, _lines):
        error = CallError(self.number, "refused", self.path + "/" + file, "write")
        error.value = "c 1:3 rw"
        raise error

    def failure(self, error, name, value, _pointer):
        return StepFailure("refused", "%s of %s" % (value, name), errno=error.errno)


@pytest.mark.parametrize(
    ("number", "file", "hint"), [(errno.EPERM, "devices.allow", True), (errno.EPERM, "devices.deny", False), (errno.EINVAL, "devices.allow", False)]
)  # fmt: skip
def test_a_device_that_the_parent_denies(number, file, hint):
    with pytest.raises(StepFailure, match="c 1:3 rw of " + file) as caught:
        devices_rules._put(Group(number=number), file, ["c 1:3 rw"])
    assert (caught.value.hint == "a parent cgroup denies this device; it must allow it first") is hint


def test_device_rules_that_are_not_in_force():
    rules = devices_rules.Rules([(False, "a", -1, -1, "rwm")])
    devices_rules._verify(Group(""), rules)
    with pytest.raises(StepFailure, match="allows all devices"):
        devices_rules._verify(Group("a *:* rwm\n"), rules)


@pytest.mark.parametrize(("procs", "wanted", "barred"), [("7\n", ["memory"], True), ("", ["memory"], False), ("7\n", ["pids"], False)])
def test_controllers_that_processes_bar(tmp_path, monkeypatch, procs, wanted, barred):
    """cpu and memory cannot be enabled where processes are; what else is missing is tried one by one."""
    tried = []

    def write(_fd, _name, value):
        tried.append(value)
        raise OSError(errno.EBUSY, "refused")

    monkeypatch.setattr(fs, "write", write)
    monkeypatch.setattr(fs, "look", lambda _fd, name: (tmp_path / name).read_text())
    for name, text in (("cgroup.controllers", "cpu memory pids"), ("cgroup.subtree_control", "pids"), ("cgroup.procs", procs)):
        (tmp_path / name).write_text(text)
    fd = os.open(tmp_path, os.O_RDONLY)
    if barred:
        with pytest.raises(StepFailure, match='controller "memory" can\'t be enabled') as caught:
            v2.enable(fd, wanted, str(tmp_path))
        assert caught.value.errno == errno.EBUSY and tried == ["+cpu +memory"]
    else:
        v2.enable(fd, wanted, str(tmp_path))
        assert tried == ["+cpu +memory", "+cpu", "+memory"]
    os.close(fd)


def test_an_update_of_a_container_without_cgroups():
    entry = cgroups.plan({}, cgroup_tools.make_ctx())
    run = cgroup_tools.Run({"cgroups": entry})
    with pytest.raises(StepFailure) as caught:
        resources.update({"pids": {"limit": 7}}, {}, run)
    assert caught.value.reason == "no-cgroup"


# ---- files that change, and what stays open


def test_a_file_that_is_another_one_by_now(tmp_path):
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
        (1, 0, errno.EINVAL, None),  # a word of our own
        (2, 0, errno.EINVAL, "/mounts/3/options/5"),
        (0, 1, errno.EINVAL, None),  # mode= was put before them
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
    monkeypatch.setattr(rdt, "read_file", lambda _path, _limit: (line % ("/sys", "sysfs") + line % ("/sys/fs/resctrl", "resctrl")).encode())
    assert rdt.find_root() == "/sys/fs/resctrl"
    monkeypatch.setattr(rdt, "read_file", lambda _path, _limit: (line % ("/resctrl", "tmpfs")).encode())
    assert rdt.find_root() is None


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


def test_whether_a_signal_found_somebody():
    child = subprocess.Popen(["/bin/sleep", "1000"])
    fd = os.pidfd_open(child.pid)
    assert pidfd.kill(fd, 0) is True and pidfd.kill(fd, 9) is True
    child.wait()
    assert pidfd.kill(fd, 0) is False
    os.close(fd)


@pytest.mark.parametrize("answer", [b"ERROR\r\nOK 123\r\n", b"DATA\r\nREJECTED EXTERNAL\r\n"])
def test_a_bus_that_does_not_let_us_in(tmp_path, answer):
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
    with pytest.raises(dbus.DBusError, match="the bus answers") as caught:
        dbus.Connection(path, time.monotonic() + 60)
    assert caught.value.name == "org.freedesktop.DBus.Error.AuthFailed"
    del caught
    thread.join(60)
    server.close()
    assert not thread.is_alive()


def test_attributes_of_a_message():
    """Each begins at a multiple of four; a length that cannot be ends them."""
    data = netlink.attribute(1, b"abcde") + netlink.attribute(2, b"") + netlink.attribute(3, b"x" * 4)
    assert netlink.parse(data) == {1: b"abcde", 2: b"", 3: b"xxxx"} and len(data) == 12 + 4 + 8
    assert netlink.parse(data[:-8] + b"\x03\x00\x03\x00xxxx") == {1: b"abcde", 2: b""}
    assert netlink.parse(data[:-8] + b"\x08\x00\x03\x80xxxx") == {1: b"abcde", 2: b"", 3: b"xxxx"}, "nested ones have a flag"


@pytest.mark.parametrize(
    ("inheritable", "grown"),
    [([], ["bounding", "effective", "permitted"]), (["CAP_KILL"], ["bounding", "effective", "permitted", "ambient"])],
)
def test_a_capability_more(inheritable, grown):
    sets = {"bounding": ["CAP_CHOWN"], "inheritable": inheritable}
    more = capabilities.with_more(sets, ["CAP_KILL", "CAP_CHOWN"])
    assert [name for name in more if "CAP_KILL" in more[name] and name != "inheritable"] == sorted(grown, key=list(more).index)
    assert more["inheritable"] == inheritable and more["bounding"] == ["CAP_CHOWN", "CAP_KILL"] and sets["bounding"] == ["CAP_CHOWN"]


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
