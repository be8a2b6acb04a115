"""Control groups on the real kernel: created, entered, frozen, killed, removed. Everything is under /pyrunc-test-PID."""

import errno
import os
import select
import signal
import time

import pytest

import cgroup_tools as tools
import harness
from pyrunc.cgroup import freeze, fs, hierarchies, kill, tree
from pyrunc.errors import StepFailure
from pyrunc.parts import cgroups, resources
from pyrunc.parts.cgroups.verbs import NO_RIGHTS

pytestmark = pytest.mark.kernel
TOP = tools.TOP


@pytest.fixture
def group():
    with tools.live_groups() as make:
        yield make


def place(one):
    """The directory in one hierarchy, for either version."""
    return one.paths.get("pids") or one.paths["unified"]


def directories(entry):
    return sorted(set(entry["paths"].values()))


def test_every_hierarchy_is_made_entered_and_removed(group):
    one = group().make()
    assert all(os.path.isdir(path) for path in directories(one.entry))
    pid = one.start()
    with open("/proc/%d/cgroup" % pid) as f:
        own = hierarchies.parse_own(f.read())
    assert {own[key] for key in one.entry["paths"]} == {"/%s/a" % TOP}
    assert kill.procs(one.paths) == [pid]
    one.end()
    assert not any(os.path.exists(path) for path in directories(one.entry))


def test_the_intent_is_recorded_before_anything_is_created(group, monkeypatch):
    one = group()
    seen = []

    def watching(key, value):
        seen.append((key, any(os.path.exists(path) for path in directories(one.entry))))
        tools.Run.record(one.run, key, value)

    monkeypatch.setattr(one.run, "record", watching)
    one.make()
    assert seen[:2] == [("cgroup_paths", False), ("cgroups", False)] and seen[-1] == ("cgroups", True)


@pytest.mark.parametrize("number", [0, 1, 3, 7])
def test_a_create_that_was_killed_in_the_middle_can_be_undone(group, monkeypatch, number):
    one = group()
    calls = []

    def stop(*args):
        if len(calls) == min(number, len(directories(one.entry)) - 1):
            raise KeyboardInterrupt
        calls.append(args)
        return real(*args)

    real = tree.make
    monkeypatch.setattr(tree, "make", stop)
    with pytest.raises(KeyboardInterrupt):
        one.make()
    monkeypatch.undo()
    other = tools.Run(one.run.plans)  # as delete does in another process
    other.state_dir.state = dict(one.run.state_dir.state)
    cgroups.undo_make(one.entry, other)
    cgroups.undo_make(one.entry, other)
    assert not any(os.path.exists(path) for path in directories(one.entry))


def test_undo_of_cgroups_that_were_never_created(group):
    one = group()
    one.undo()
    one.make()
    paths = list(one.paths.values())
    assert paths and all(map(os.path.isdir, paths))
    one.undo()
    assert not any(map(os.path.exists, paths))
    one.undo()


def test_undo_by_the_plan_alone(group):
    one = group("/%s-plan" % TOP).make()
    one.run.state_dir = None
    cgroups.undo_make(one.entry, one.run)
    one.run.state_dir = tools.StateDir()
    assert not any(os.path.exists(path) for path in directories(one.entry))


def test_existing_cgroups_stay(group):
    parent = group("/%s" % TOP).make()
    child = group().make()
    child.undo()
    assert all(os.path.isdir(path) for path in directories(parent.entry))
    assert not any(os.path.exists(path) for path in directories(child.entry))


def test_an_empty_leaf_that_was_there_is_used_and_stays(group):
    first = group().make()
    second = group().make()
    pid = second.start()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.mkdir(place(second) + "/below")
    second.undo()
    assert all(os.path.isdir(path) for path in directories(first.entry))
    assert not os.path.exists(place(first) + "/below")


def test_a_sibling_keeps_the_common_parent(group):
    first = group("/%s/a" % TOP).make()
    second = group("/%s/b" % TOP).make()
    first.undo()
    assert all(os.path.isdir(path) for path in directories(second.entry))


def test_a_cgroup_with_processes_is_refused_and_left_alone(group):
    first = group().make()
    pid = first.start()
    second = group()
    with pytest.raises(StepFailure) as e:
        second.make()
    assert e.value.words == "container's cgroup is not empty: 1 process(es) found" and e.value.pointer == "/linux/cgroupsPath"
    second.undo()
    assert kill.procs(first.paths) == [pid]


def test_a_frozen_cgroup_is_refused(group):
    first = group().make()
    freeze.freeze(first.paths)
    with pytest.raises(StepFailure, match="container's cgroup unexpectedly frozen"):
        group().make()


def test_cpusets_have_values_before_the_first_process(group):
    one = group("/%s/x/y" % TOP).make()
    if "cpuset" not in one.paths:
        pytest.skip("this machine has no cpuset hierarchy of v1")
    for path in (one.paths["cpuset"], os.path.dirname(one.paths["cpuset"])):
        for name in ("cpuset.cpus", "cpuset.mems"):
            with open(path + "/" + name) as f:
                assert f.read().strip()


def test_a_relative_path_is_below_our_own(group):
    layout = hierarchies.layout()
    one = group(None, id=TOP + "-rel").make()
    for key, mount in layout.mounts.items():
        if layout.version != 2:
            assert one.paths[key] == mount[0] + layout.own_path(key).rstrip("/") + "/" + TOP + "-rel"
    assert kill.procs(one.paths) == []


def test_a_path_that_is_not_a_cgroup_is_never_written_to(tmp_path):
    with pytest.raises(OSError) as e:
        fs.open_dir(str(tmp_path), "memory")
    assert e.value.errno == errno.ENODEV and e.value.call == "fstatfs"  # type: ignore[attr-defined]
    with pytest.raises(OSError):
        tree.make(str(tmp_path), str(tmp_path / "x"), "memory")
    assert list(tmp_path.iterdir()) == []


def test_files_are_not_created(group):
    one = group().make()
    key, path = next(iter(one.paths.items()))
    fd = fs.open_dir(path, key)
    try:
        with pytest.raises(OSError):
            fs.write(fd, "no.such.file", "1", path)
    finally:
        os.close(fd)


# --- removing


def test_sub_cgroups_go_first_whatever_their_names(group):
    one = group().make()
    os.makedirs(place(one) + "/a b/..c/-d")
    os.mkdir(place(one) + "/\t\x1b[2J")
    os.mkdir(os.fsencode(place(one)) + b"/\xff\xfe")
    one.undo()
    assert not os.path.exists(place(one))


def limit_for(count):
    """The RLIMIT_NOFILE that leaves so many descriptors, however many the tests before have opened."""
    taken = {int(name) for name in os.listdir("/proc/self/fd")}
    limit = free = 0
    while free < count:
        free += limit not in taken
        limit += 1
    return limit


def test_deep_nesting_is_removed_with_few_descriptors(group):
    one = group().make()
    fd = os.open(place(one), os.O_RDONLY)
    for number in range(300):
        name = "n%03d-%s" % (number, "x" * 40)
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit_for(20), hard))
    try:
        one.undo()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not os.path.exists(place(one))


@pytest.mark.slow
def test_a_busy_cgroup_is_reported_with_its_pids(group):
    one = group().make()
    pid = one.start()
    with pytest.raises(StepFailure) as e:
        one.undo()
    assert "unable to remove cgroup" in e.value.words and str(pid) in e.value.words and e.value.errno == errno.EBUSY


def test_another_cgroup_of_the_same_name_is_not_removed(group):
    one = group().make()
    path = place(one)
    os.rmdir(path)
    os.mkdir(path)  # now it belongs to another container
    one.undo()
    assert os.path.isdir(path)
    os.rmdir(path)
    os.rmdir(os.path.dirname(path))


# --- freezing and killing


def states(pids):
    return [open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[0] for pid in pids]


def counter():
    """Forks a child that counts in shared memory; returns (buffer, action)."""
    import mmap

    memory = mmap.mmap(-1, 8)

    def count():
        while True:
            memory[:8] = (int.from_bytes(memory[:8], "little") + 1).to_bytes(8, "little")
            time.sleep(0.0005)

    return memory, count


def until_other(memory, value):
    """Waits until the counter has advanced."""
    end = time.monotonic() + harness.WATCHDOG
    while memory[:8] == value:
        assert time.monotonic() < end
        select.select([], [], [], 0.001)


def test_frozen_processes_stand_still_until_thawed(group):
    memory, count = counter()
    one = group().make()
    one.start(count, wait=False)
    first = memory[:8]
    until_other(memory, first)
    freeze.freeze(one.paths)
    assert freeze.is_frozen(one.paths)
    stopped = memory[:8]
    select.select([], [], [], 0.02)
    assert memory[:8] == stopped
    freeze.thaw(one.paths)
    assert not freeze.is_frozen(one.paths)
    until_other(memory, stopped)


def test_freezing_cgroups_that_are_gone():
    paths = {"freezer": "/sys/fs/cgroup/freezer/%s/none" % TOP, "unified": "/sys/fs/cgroup/unified/%s/none" % TOP}
    assert not freeze.is_frozen(paths)
    freeze.thaw(paths)
    assert kill.procs(paths) == [] and kill.kill_all(paths, 9) == 0 and kill.wait_empty(paths, 10) == []
    with pytest.raises(StepFailure, match="no freezer"):
        freeze.freeze({})


def test_a_freeze_that_fails_is_undone(group, monkeypatch):
    one = group().make()
    pid = one.start()
    monkeypatch.setattr(freeze, "_freeze_v1", lambda fd, path, deadline: False)
    monkeypatch.setattr(freeze, "_freeze_v2", lambda fd, path, deadline: False)
    with pytest.raises(StepFailure) as e:
        freeze.freeze(one.paths, time.monotonic())
    assert "unable to freeze: 1 task(s) do not stop: pid %d" % pid in e.value.words
    assert not freeze.is_frozen(one.paths)


def fork_tree():
    for _ in range(4):
        os.fork()
    signal.pause()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("without", [(), ("unified",), ("unified", "freezer")])
def test_kill_reaches_every_process(group, frozen, without):
    one = group().make()
    if len(one.paths) == 1 and without:
        pytest.skip("this machine has no cgroup v1")
    one.start(fork_tree, wait=False)
    paths = {key: path for key, path in one.paths.items() if key not in without}
    while len(kill.procs(paths)) < 16:
        select.select([], [], [], 0.001)
    if frozen:
        freeze.freeze(one.paths)
        paths = one.paths  # without the path of the freezer it could not be thawed
    assert kill.kill_all(paths, signal.SIGKILL) >= 16
    os.waitpid(one.pids[0], 0)
    assert kill.wait_empty(one.paths, 5000) == []


def test_a_fork_bomb_does_not_outrun_the_kill(group):
    def bomb():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            try:
                if os.fork() == 0:
                    continue
            except OSError:
                continue

    one = group(node={"pids": {"limit": 60}}).make().apply()
    one.start(bomb, wait=False)
    while len(kill.procs(one.paths)) < 30:
        select.select([], [], [], 0.001)
    kill.end_all({key: path for key, path in one.paths.items() if key != "unified"} or one.paths)
    assert kill.procs(one.paths) == []


def test_a_signal_reaches_sub_cgroups_and_leaves_a_pause_alone(group):
    one = group().make()
    pid = one.start()
    os.mkdir(place(one) + "/sub")
    with open(place(one) + "/sub/cgroup.procs", "w") as f:
        f.write(str(pid))
    freeze.freeze(one.paths)
    assert kill.kill_all(one.paths, signal.SIGTERM) == 1
    assert freeze.is_frozen(one.paths) and states([pid]) != ["Z"]
    freeze.thaw(one.paths)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM


def test_strangers_are_not_signalled(group):
    one = group().make()
    wanted = kill.places(one.paths)
    assert not kill.is_member(os.getpid(), wanted)
    assert kill.is_member(one.start(), wanted)
    assert not kill.is_member(2**22 - 1, wanted)
    with pytest.raises(OSError) as e:
        kill.kill_all(one.paths, 200)
    assert e.value.errno == errno.EINVAL
    assert not freeze.is_frozen(one.paths)


def test_waiting_has_an_end(group):
    one = group().make()
    pid = one.start()
    assert kill.wait_empty(one.paths, 30) == [pid]


def test_disabled_manager_touches_nothing(group):
    one = group("/%s/never" % TOP, cgroup_manager="disabled").make()
    cgroups.host_place(one.entry, one.run)
    cgroups.host_delegate(one.entry, one.run)
    one.undo()
    assert one.run.records == [] and kill.procs(one.paths) == []


def test_rootless_without_rights(group):
    """As the user nobody: without a path or limits there are no cgroups; with a path or a limit it is an error."""
    one = group()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            free = tools.LiveGroup(None, euid=65534).make()
            limited = tools.LiveGroup(None, {"pids": {"limit": 5}}, euid=65534)
            named = tools.LiveGroup("/%s/n" % tools.TOP, euid=65534)
            failed = []
            for it in (limited, named):
                try:
                    it.make().apply()
                except StepFailure as e:
                    failed.append(e.words)
            without = NO_RIGHTS if len(one.entry["paths"]) == 1 else "cannot set limits: container could not join or create cgroup"
            status = 0 if failed == [without, NO_RIGHTS] and free.paths == {} else 2
            resources.host_apply(free.resources, free.run)
            cgroups.host_place(free.entry, free.run)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert one.paths == {}
