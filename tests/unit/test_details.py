"""Details that no other test noticed when `make mutants` changed them (docs/testing.md). One test for each, named for what holds."""

import errno
import os
import socket
import types

import pytest

import hoststate
from fakes import hand
from pyrunc.cgroup import attach, devices_rules, freeze, tree, v2
from pyrunc.cgroup import fs as cgroup_fs
from pyrunc.errors import CallError, Refusal, StepFailure
from pyrunc.linux import caps, dbus, filters, pidfd, sdnotify
from pyrunc.parts import capabilities, notify
from pyrunc.parts.mounts import cgroupfs
from pyrunc.parts.resources import limits
from pyrunc.parts.seccomp import profile


def test_a_device_list_is_read_to_its_end():
    """Lines after a malformed one, or after the one that allows everything, are read too."""
    text = "odd\n\na *:* rwm\nc 1:3 rw\nc 1:3 m\nb 8:* r\n"
    assert devices_rules.listed(text) == (True, {("c", 1, 3): {"r", "w", "m"}, ("b", 8, -1): {"r"}})


def test_ancestors_are_processes():
    found = pidfd.ancestors()
    assert found[0] == os.getppid() and all(pid > 0 for pid in found) and len(set(found)) == len(found)


@pytest.mark.parametrize("test, expected", [
    (0x00, 3 + 0xFFFFFFFE & 0xFFFFFFFF), (0x10, 5), (0x40, 0xFFFFFFFF), (0x50, 2), (0x60, 3 << 4), (0x70, 3), (0xA0, 0xFFFFFFFD),
])  # fmt: skip
def test_arithmetic_of_filters(test, expected):
    first, second = {0x60: (3, 4), 0x70: (48, 4)}.get(test, (3, 0xFFFFFFFE))
    assert filters._alu(test, first, second) == expected


def test_arithmetic_that_no_filter_has():
    with pytest.raises(ValueError, match="0x20"):
        filters._alu(0x20, 1, 1)


class Busy:
    """A cgroup file that fails a number of times before it accepts the value."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)
        self.taken = []

    def write(self, _fd, name, value, _path):
        if self.numbers:
            raise OSError(self.numbers.pop(0), "refused")
        self.taken.append((name, value))


@pytest.fixture
def busy(monkeypatch):
    def use(*numbers):
        made = Busy(*numbers)
        monkeypatch.setattr(tree, "open_dir", lambda *_args: os.open("/", os.O_RDONLY))
        monkeypatch.setattr(tree, "write", made.write)
        monkeypatch.setattr(tree.time, "sleep", lambda _seconds: None)
        return made

    return use


def test_a_new_task_is_moved_at_the_fifth_try(busy):
    file = busy(*[errno.EINVAL] * 4)
    tree.enter("/g", "memory", 7)
    assert file.taken == [("cgroup.procs", "7")]


@pytest.mark.parametrize("numbers", [[errno.EINVAL] * 5, [errno.EBUSY], [errno.EINVAL, errno.ESRCH]])
def test_a_lasting_refusal_is_an_error(busy, numbers):
    file = busy(*numbers, 0)
    with pytest.raises(OSError, match="refused") as caught:
        tree.enter("/g", "memory", 7)
    assert caught.value.errno == numbers[-1] and file.numbers == [0] and not file.taken


def test_a_hierarchy_that_is_mounted_twice_is_one():
    line = "%d 24 0:33 / /sys/fs/cgroup/%s rw - cgroup cgroup rw,%s\n"
    text = line % (30, "cpu,cpuacct", "cpu,cpuacct") + line % (31, "elsewhere", "cpu,cpuacct") + "32 24 0:34 / /p rw - proc proc rw\n"
    run = types.SimpleNamespace(proc=types.SimpleNamespace(read=lambda _path, _limit: text.encode()))
    assert cgroupfs._hierarchies(run) == [("cpu,cpuacct", ["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct", "/")]


def test_a_closed_connection_has_no_descriptor(tmp_path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "bus"))
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "bus"))
    connection = dbus.Connection.__new__(dbus.Connection)
    connection.socket = client
    connection.close()
    assert client.fileno() == -1


@pytest.fixture
def level(monkeypatch):
    """level(kind, resources): what the preparer for version 2 writes into a new level of this type."""

    def use(kind, resources):
        written = []
        monkeypatch.setattr(v2, "enable", lambda *_args: None)
        monkeypatch.setattr(v2.fs, "look", lambda _fd, name: kind if name == "cgroup.type" else None)
        monkeypatch.setattr(v2.fs, "write", lambda _fd, name, value, _path: written.append((name, value)))
        v2.preparer(resources)(3, 4, "/a/b", True)
        return written

    return use


@pytest.mark.parametrize("kind, written", [
    ("domain\n", []), ("domain threaded\n", []), ("threaded\n", []), (None, []), ("domain invalid\n", [("cgroup.type", "threaded")]),
])  # fmt: skip
def test_only_an_invalid_level_is_made_threaded(level, kind, written):
    assert level(kind, {}) == written


def test_a_limit_of_a_domain_controller_needs_a_domain(level):
    assert level("domain threaded\n", {"memory": {"limit": 1}}) == []
    for kind, words in (("domain invalid\n", "an invalid state"), ("threaded\n", "threaded mode")):
        with pytest.raises(StepFailure, match=words):
            level(kind, {"memory": {"limit": 1}})


@pytest.mark.kernel
def test_a_user_namespace_for_mappings_leaves_nothing_open():
    from pyrunc.parts.mounts import host

    before, children = set(hoststate.descriptors()), hoststate.children()
    fd = host.namespace_with({"uid": [[0, 100000, 65536]], "gid": [[0, 100000, 65536]]})
    try:
        assert len(set(os.listdir("/proc/self/fd")) - before) == 1
        assert hoststate.children() - children == set()
    finally:
        os.close(fd)


@pytest.mark.parametrize("text", ["A===", "AAA", "AA A", "A" * 65540, "AA-_"])
def test_invalid_base64(text):
    """One rule at a time: at most two padding characters, groups of four, known digits, a bounded length."""
    assert profile._base64(text) is None


def test_valid_base64():
    assert profile._base64("AAEC") == b"\0\1\2" and profile._base64("AAE=") == b"\0\1" and profile._base64("AA==") == b"\0"


ROOTLESS = {"cgroups": {"rootless": True, "unit": None}, "resources": None}


@pytest.mark.parametrize("number, call, changes, may", [
    (errno.EACCES, "clone3", {}, True),
    (errno.EAGAIN, "clone3", {}, False),
    (errno.EACCES, "execve", {}, False),
    (errno.EACCES, "clone3", {"cgroups": {"rootless": False, "unit": None}}, False),
    (errno.EACCES, "clone3", {"resources": {"asked": True}}, False),
    (errno.EACCES, "clone3", {"resources": {"asked": True}, "cgroups": {"rootless": True, "unit": "x.scope"}}, True),
])  # fmt: skip
def test_which_process_may_start_outside_of_its_cgroup(number, call, changes, may):
    error = CallError(number, "refused", None, call)
    assert attach.may_attach(error, types.SimpleNamespace(plans={**ROOTLESS, **changes})) is may


@pytest.mark.parametrize(("state", "wchan", "stack", "stands"), [
    ("Z", "0", [""], True),
    ("D", "__refrigerator", ["[<0>] __refrigerator+0x4f/0xd0"], True),
    ("S", "do_freezer_trap", ["[<0>] do_freezer_trap+0x6b/0x80"], True),
    ("S", "0", ["[<0>] do_freezer_trap+0x6b/0x80", "[<0>] get_signal+0x1f/0x8a0"], True),
    ("S", "get_signal", ["[<0>] get_signal+0x2f4/0x7a8"], True),  # Debian 13's kernel for aarch64
    ("R", "get_signal", [""], False),
    ("S", "pipe_read", ["[<0>] pipe_read+0x3c/0x4b0"], False),
    ("D", "handle_userfault", ["[<0>] handle_userfault+0x3d/0x6e0"], False),
])  # fmt: skip
def test_which_tasks_are_frozen(monkeypatch, state, wchan, stack, stands):
    task = {"pid": 7, "state": state, "wchan": wchan, "comm": "x", "stack": stack}
    monkeypatch.setattr(freeze.fs, "procs_of", lambda fd: [7])
    monkeypatch.setattr(freeze, "describe", lambda pid: task)
    assert freeze.report(-1, "") == ([] if stands else [task])


def test_tasks_that_were_frozen_where_they_slept_are_not_waiting(monkeypatch):
    now = {1: "S", 2: "D", 3: None, 4: "R"}
    thawed = []
    monkeypatch.setattr(freeze, "thaw", thawed.append)
    monkeypatch.setattr(freeze, "describe", lambda pid: {"pid": pid, "state": now[pid]} if now[pid] else None)
    tasks = [{"pid": 1, "state": "D"}, {"pid": 2, "state": "D"}, {"pid": 3, "state": "D"}, {"pid": 4, "state": "t"}]
    assert [task["pid"] for task in freeze._still_waiting(tasks, {"freezer": "/g"})] == [2, 4]
    assert freeze._still_waiting(tasks[:1], {"freezer": "/g"}) == tasks[:1]  # none: then all are named
    assert thawed == [{"freezer": "/g"}] * 2


@pytest.mark.parametrize("outcome", [True, False, OSError(errno.EPIPE, "x")])
def test_the_notify_socket_is_closed_whatever_happens(monkeypatch, outcome):
    def forward(*_args):
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    monkeypatch.setattr(sdnotify, "forward", forward)
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        assert notify.forward({"host": "/run/notify"}, fd, 1, -1) is outcome
    except OSError as e:
        assert e is outcome
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("path", ["/elsewhere/a", "/sys/fs/cgroups2/a", "/sys/fs/cgroup", "/sys/fs/cgroup/", "/sys/fs/cgroup/a//b", "/sys/fs/cgroup/a/../b",
                                  "/sys/fs/cgroup/./a"])  # fmt: skip
def test_a_cgroup_in_the_state_must_be_below_its_mount(path):
    with pytest.raises(StepFailure, match="cgroup"):
        cgroup_fs.levels("/sys/fs/cgroup", path)


def test_the_levels_of_a_cgroup():
    assert cgroup_fs.levels("/sys/fs/cgroup", "/sys/fs/cgroup/a/b.c") == ["a", "b.c"]


@pytest.mark.parametrize("last", [0, 20, len(caps.NAMES) - 1, len(caps.NAMES), 50, 63])
def test_the_last_capability_of_older_and_newer_kernels(monkeypatch, last):
    asked = []
    monkeypatch.setattr(caps, "_known", lambda number: asked.append(number) or number <= last)
    assert caps.last() == last and max(asked) <= 63


@pytest.mark.parametrize("key", ["a/b", "", ".", "..", "pids.m x", "pids.\tmax", "pidsmax", ".pids"])
def test_a_unified_key_is_a_file_of_a_controller(key):
    with pytest.raises(Refusal, match="unified resource"):
        limits._unified({"unified": {key: "1"}}, 2, None)


@pytest.mark.parametrize("inner, outer", [("effective", "permitted"), ("inheritable", "bounding")])
def test_a_set_of_capabilities_must_be_a_subset_of_another(monkeypatch, inner, outer):
    monkeypatch.setattr(caps, "permitted", lambda: (1 << 41) - 1)
    sets = {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], inner: ["CAP_KILL", "CAP_CHOWN"]}
    with pytest.raises(Refusal, match="capabilities %s are not all in %s: CAP_CHOWN" % (inner, outer)) as caught:
        capabilities.plan({"/process/capabilities": sets}, hand.Ctx())
    assert caught.value.pointer == "/process/capabilities/" + inner
