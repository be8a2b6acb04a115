"""cgroups when the kernel returns results that don't occur on this machine, or none at all. `make mutants` showed that no other test covers
this (docs/testing.md)."""

import errno
import os

import pytest

import cgroup_tools
from fakes.hand import open_files
from pyrunc import fileio
from pyrunc.cgroup import attach, devices_bpf, devices_rules, freeze, fs, oom, unit_properties, v2
from pyrunc.errors import CallError, StepFailure, UsageError
from pyrunc.parts import cgroups, resources
from pyrunc.parts.cgroups import verbs


@pytest.fixture
def plain(monkeypatch):
    """Directories on any file system are accepted as cgroups."""
    monkeypatch.setattr(fs, "open_dir", lambda path, _key, flags=fs.O_DIR: os.open(path, flags))


def test_a_controller_that_the_container_lacks(tmp_path):
    with pytest.raises(UsageError) as caught:
        attach.targets({"memory": str(tmp_path)}, os.getpid(), ["cpu:/below"])
    assert caught.value.reason == "unknown-controller"


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
    with pytest.raises(FileNotFoundError):
        oom.Watch({"pids": "/p"})


@pytest.mark.parametrize(
    ("keys", "failing", "number", "told"),
    [
        ("unified", "unified", errno.EIO, True),
        ("unified", "unified", errno.ENOENT, False),
        ("freezer unified", "unified", errno.EIO, False),  # a hybrid host, which has the freezer of version 1
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
def test_whether_a_container_runs_without_its_cgroup(rootless, number, explicit, version, asked, goes_on):
    entry = {"rootless": rootless, "explicit": explicit, "version": version}
    assert verbs._goes_without(entry, {"asked": asked}, OSError(number, "refused")) is goes_on


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
    """A cgroup of the devices controller (version 1), as devices_rules requires it."""

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
    assert bool(caught.value.hint) is hint


def test_device_rules_that_are_not_in_force():
    rules = devices_rules.Rules([(False, "a", -1, -1, "rwm")])
    devices_rules._verify(Group(""), rules, rules.lines())
    with pytest.raises(StepFailure) as caught:
        devices_rules._verify(Group("a *:* rwm\n"), rules, rules.lines())
    assert caught.value.reason == "device-rules"


@pytest.mark.parametrize(("procs", "wanted", "barred"), [("7\n", ["memory"], True), ("", ["memory"], False), ("7\n", ["pids"], False)])
def test_controllers_that_cannot_be_enabled_where_processes_are(tmp_path, monkeypatch, procs, wanted, barred):
    """cpu and memory cannot be enabled in a cgroup with processes; other missing controllers are tried one by one."""
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
        with pytest.raises(StepFailure) as caught:
            v2.enable(fd, wanted, str(tmp_path))
        assert (
            (caught.value.reason, caught.value.errno) == ("controller-barred", errno.EBUSY)
            and '"memory"' in caught.value.words
            and tried == ["+cpu +memory"]
        )
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


def test_programs_that_were_replaced_are_detached(monkeypatch):
    detached = []

    def detach(cgroup, program, kind):
        detached.append((cgroup, program, kind))
        if len(detached) == 2:
            raise OSError(errno.ENOENT, "it is gone")

    monkeypatch.setattr(devices_bpf._syscalls, "bpf_prog_detach", detach)
    programs = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
    with pytest.raises(OSError, match="it is gone"):
        devices_bpf._detach(99, programs)
    assert [(cgroup, program) for cgroup, program, _kind in detached] == [(99, program) for program in programs]
    for fd in programs:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
