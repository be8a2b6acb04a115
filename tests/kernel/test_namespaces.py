"""namespaces: the clone of init in every form, and the namespaces that it ends up in. As root; test_namespaces_rootless.py has the rest."""

import errno
import fcntl
import os
import select
import signal

import pytest

import hoststate
import kernel_constants
import staged
from pyrunc.errors import StepFailure
from pyrunc.linux import _syscalls, netlink, ns
from pyrunc.linux import constants as c
from pyrunc.parts import namespaces

pytestmark = pytest.mark.kernel
ALL = ("pid", "network", "mount", "ipc", "uts", "cgroup", "time")
NOBODY = 65534
MAPPED = {"uidMappings": [{}], "gidMappings": [{}]}


def look(run):
    """What init sees after its verbs."""
    entry = run.plans["namespaces"]
    namespaces.init_join(entry, run)
    namespaces.init_unshare(entry, run)
    namespaces.init_loopback(entry, run)
    status = dict(line.split(":\t", 1) for line in open("/proc/thread-self/status").read().splitlines() if ":\t" in line)
    return {"ns": staged.inodes("thread-self"), "pid": os.getpid(), "ppid": os.getppid(), "caps": status["CapEff"], "fds": sorted(run.fds)}


@pytest.fixture
def ended():
    """Children that end with the test."""
    made = []
    yield lambda one: made.append(one) or one
    for one in reversed(made):
        one.end()


@pytest.fixture
def held(ended):
    """Namespaces of another process: held(flags) → (pid, {kind: path})."""

    def make(flags):
        one = ended(staged.holder(flags))
        return one.pid, {kind: "/proc/%d/ns/%s" % (one.pid, ns.FILES[kind]) for kind in staged.KINDS}

    return make


def fds_now():
    return set(os.listdir("/proc/self/fd"))


def test_new_namespaces_of_every_kind(ended):
    own, before = staged.inodes(), fds_now()
    run = staged.prepared(staged.plan(ALL))
    init = ended(staged.init(run, look))
    seen = init.go()
    assert seen["pid"] == 1 and seen["ppid"] == 0
    assert {kind for kind in staged.KINDS if seen["ns"][kind] != own[kind]} == set(ALL)
    assert staged.inodes() == own, "the host side has not changed its namespaces"
    assert os.stat("/proc/%d/ns/pid" % run.pid).st_ino == seen["ns"]["pid"]
    poll = select.poll()
    poll.register(run.pidfd, select.POLLIN)
    assert poll.poll(0) == [], "the descriptor belongs to the running init"
    os.close(run.pidfd)
    assert len(fds_now() - before) == 1, "the socket of the test"


def test_no_new_namespaces():
    run = staged.prepared(staged.plan(()))
    init = staged.init(run, look)
    seen = init.go()
    assert seen["ns"] == staged.inodes() and seen["ppid"] == os.getpid()
    init.end()
    os.close(run.pidfd)


def test_loopback_is_only_set_up_in_a_new_namespace(ended, held):
    def lo(run):
        look(run)
        return netlink.Route().link("lo")[2] & c.IFF_UP

    run = staged.prepared(staged.plan(("network",)))
    assert ended(staged.init(run, lo)).go() == 1
    _pid, paths = held(c.CLONE_NEWNET)
    run = staged.prepared(staged.plan([("network", paths["network"])]))
    assert ended(staged.init(run, lo)).go() == 0, "it belongs to another process"


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "mount", "cgroup", "time"])
def test_joining_one(kind, ended, held):
    own = staged.inodes()
    pid, paths = held(ns.FLAGS[kind])
    if kind == "time":  # only the children of the holder are in it
        paths["time"] = "/proc/%d/ns/time_for_children" % pid
    entry = staged.plan([(kind, paths[kind])])
    run = staged.prepared(entry)
    seen = ended(staged.init(run, look)).go()
    assert seen["ns"] == {**own, kind: os.stat(paths[kind]).st_ino}
    assert seen["fds"] == [] and run.joined_ns == ()


@pytest.fixture
def pid_ns(ended):
    """The path of a pid namespace whose init is running."""
    run = staged.prepared(staged.plan(("pid",)))
    ended(staged.init(run, lambda run: None))
    return "/proc/%d/ns/pid" % run.pid


def join_pid(run):
    """Does what finish() does with op_join: from now on, children of init are in the pid namespace."""
    op = namespaces.op_join(run.plans["namespaces"], run)
    assert op is not None
    _syscalls.finish((op,), -1)
    return os.stat("/proc/self/ns/pid_for_children").st_ino


def test_init_stays_out_of_a_pid_namespace_and_so_does_the_host(ended, pid_ns):
    own = staged.inodes()
    entry = staged.plan([("pid", pid_ns), "mount"])
    run = staged.prepared(entry)
    init = ended(staged.init(run, look, join_pid))
    seen = init.go()
    assert seen["pid"] == run.pid and seen["ns"]["pid"] == own["pid"] and seen["ns"]["mount"] != own["mount"]
    assert init.go() == os.stat(pid_ns).st_ino
    assert os.waitid(os.P_PIDFD, run.pidfd, os.WEXITED | os.WNOHANG) is None, "it is still a child of this process"
    assert staged.inodes() == own
    assert os.stat("/proc/self/ns/pid_for_children").st_ino == own["pid"], "later children stay outside too"
    assert staged.apart(lambda: os.getpid()) != 1


def test_init_of_a_shared_pid_namespace_is_not_dumpable(ended):
    def dumpable(run):
        return _syscalls.prctl(kernel_constants.PR_GET_DUMPABLE)

    first = staged.prepared(staged.plan(["user", "pid"], MAPPED))
    ended(staged.init(first, lambda run: None))
    maps_of(first.pid)
    run = staged.prepared(staged.plan([(kind, "/proc/%d/ns/%s" % (first.pid, kind)) for kind in ("user", "pid")]))
    assert ended(staged.init(run, dumpable)).go() == 0
    run = staged.prepared(staged.plan(["pid"]))
    assert ended(staged.init(run, dumpable)).go() == 1, "its maps still have to be written"


def owner(pid, kind):
    """The inode of the user namespace that owns a namespace of a process."""
    fd = os.open("/proc/%d/ns/%s" % (pid, ns.FILES[kind]), os.O_RDONLY)
    user = fcntl.ioctl(fd, c.NS_GET_USERNS)
    number = os.fstat(user).st_ino
    os.close(fd)
    os.close(user)
    return number


def test_a_new_user_namespace_owns_the_others(ended):
    kinds = ("user", "pid", "network", "mount", "ipc", "uts", "time")
    run = staged.prepared(staged.plan(kinds, MAPPED))
    init = ended(staged.init(run, look))
    user = staged.inode("user", run.pid)
    assert user != staged.inode("user")
    assert int(init.go()["caps"], 16) != 0
    assert {kind: owner(run.pid, kind) for kind in kinds[1:]} == dict.fromkeys(kinds[1:], user)


def maps_of(pid, text="0 100000 65536"):
    for name in ("uid_map", "gid_map"):
        with open("/proc/%d/%s" % (pid, name), "w") as file:
            file.write(text)


@pytest.fixture
def pod(ended, held):
    """A user namespace with its own network, ipc and uts namespaces."""
    pid, paths = held(c.CLONE_NEWUSER | c.CLONE_NEWNET | c.CLONE_NEWIPC | c.CLONE_NEWUTS)
    maps_of(pid)
    return pid, paths


def test_a_joined_user_namespace_owns_what_is_new(ended, pod):
    pid, paths = pod
    own = staged.inodes()
    entry = staged.plan([("user", paths["user"]), ("network", paths["network"]), ("ipc", paths["ipc"]), "pid", "mount", "uts", "cgroup"])
    run = staged.prepared(entry)
    init = ended(staged.init(run, look))
    seen = init.go()
    user = staged.inode("user", pid)
    assert seen["pid"] == 1 and seen["ns"]["user"] == user
    assert seen["ns"]["network"] == staged.inode("network", pid) and seen["ns"]["ipc"] == staged.inode("ipc", pid)
    for kind in ("pid", "mount", "uts", "cgroup"):
        assert owner(run.pid, kind) == user and seen["ns"][kind] != own[kind], kind
    assert seen["ns"]["time"] == own["time"] and staged.inodes() == own
    assert seen["fds"] == []


def test_a_user_namespace_and_one_that_it_does_not_own(ended, pod, held):
    _pid, others = held(c.CLONE_NEWNET)
    entry = staged.plan([("user", pod[1]["user"]), ("network", others["network"]), "mount"])
    run = staged.prepared(entry)
    seen = ended(staged.init(run, look)).go()
    assert seen["ns"]["network"] == os.stat(others["network"]).st_ino and owner(run.pid, "mount") == staged.inode("user", pod[0])


def test_a_new_user_namespace_next_to_joined_ones(ended, held, pid_ns):
    """The outer user namespace owns the joined namespaces: joining from inside the new one would be refused."""
    _pid, paths = held(c.CLONE_NEWNET | c.CLONE_NEWUTS | c.CLONE_NEWNS | c.CLONE_NEWCGROUP)
    joins = [(kind, paths[kind]) for kind in ("network", "uts", "mount", "cgroup")]
    run = staged.prepared(staged.plan(["user", "ipc", ("pid", pid_ns), *joins], MAPPED))
    init = ended(staged.init(run, look))
    maps_of(run.pid)
    seen = init.go()
    for kind, path in joins:
        assert seen["ns"][kind] == os.stat(path).st_ino, kind
    assert os.stat("/proc/%d/ns/pid_for_children" % run.pid).st_ino == os.stat(pid_ns).st_ino, "because it could not be joined later"
    assert seen["ns"]["pid"] == staged.inode("pid") and seen["pid"] == run.pid
    assert owner(run.pid, "ipc") == seen["ns"]["user"] != staged.inode("user")


def test_everything_of_another_container(ended):
    first = staged.prepared(staged.plan(["user", "pid", "network", "mount", "ipc", "uts"], MAPPED))
    ended(staged.init(first, lambda run: None))
    maps_of(first.pid)
    kinds = ("mount", "pid", "user", "ipc", "uts", "network")
    joins = [(kind, "/proc/%d/ns/%s" % (first.pid, ns.FILES[kind])) for kind in kinds]
    run = staged.prepared(staged.plan(joins))
    seen = ended(staged.init(run, look)).go()
    for kind, path in joins:
        assert seen["ns"][kind] == os.stat(path).st_ino, kind
    assert seen["pid"] == 2


def test_the_host_side_keeps_no_namespace_open(ended, pod):
    before = fds_now()
    entry = staged.plan([(kind, pod[1][kind]) for kind in ("user", "network", "ipc")])
    run = staged.prepared(entry)
    init = ended(staged.init(run, look))
    namespaces.host_close(entry, run)
    assert init.go()["ns"]["network"] == staged.inode("network", pod[0]), "init has its own namespaces"
    os.close(run.pidfd)
    assert run.fds == {} and len(fds_now() - before) == 1, "the test's own socket"


def test_if_the_caller_ignores_sigchld(ended, pid_ns):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        run = staged.prepared(staged.plan([("pid", pid_ns)]))
        init = ended(staged.init(run, look, join_pid))
        assert init.go()["pid"] == run.pid and init.go() == os.stat(pid_ns).st_ino
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def cgroup2(token):
    """A cgroup of version 2, created for the test."""
    for top in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if os.path.exists(top + "/cgroup.procs") and os.path.exists(top + "/cgroup.controllers"):
            break
    else:
        pytest.skip("this machine has no cgroup2 mount")
    path = top + "/" + token + "-ns"
    os.mkdir(path)
    yield path
    os.rmdir(path)


@pytest.mark.parametrize("kinds", [["pid"], ["user", "pid"], ["pod"], ["pod", "cgroup"]], ids="-".join)
def test_init_is_created_in_its_cgroup(kinds, ended, pod, held, cgroup2, token):
    items = [kind for kind in kinds if kind not in ("pod", "cgroup")]
    if "pod" in kinds:
        items += [("user", pod[1]["user"]), "pid"]
    if "cgroup" in kinds:
        items.append(("cgroup", held(c.CLONE_NEWCGROUP)[1]["cgroup"]))
    run = staged.prepared(staged.plan(items, MAPPED))
    run.cgroup_fd = os.open(cgroup2, os.O_RDONLY | os.O_DIRECTORY)
    init = staged.init(run, lambda run: None)
    os.close(run.cgroup_fd)
    with open("/proc/%d/cgroup" % run.pid) as file:
        assert [line for line in file.read().splitlines() if line.startswith("0::")] == ["0::/%s-ns" % token]
    with open(cgroup2 + "/cgroup.procs") as file:
        assert file.read().split() == [str(run.pid)], "no other process is in it"
    init.end()


def test_a_pid_namespace_whose_init_is_gone(ended):
    run = staged.prepared(staged.plan(["user", "pid"], MAPPED))
    init = staged.init(run, lambda run: None)
    maps_of(run.pid)
    paths = [os.open("/proc/%d/ns/%s" % (run.pid, kind), os.O_RDONLY) for kind in ("user", "pid")]
    init.end()
    entry = staged.plan([(kind, "/proc/self/fd/%d" % path) for kind, path in zip(("user", "pid"), paths, strict=True)])
    children = hoststate.children()
    with pytest.raises(StepFailure) as caught:
        staged.init(staged.prepared(entry), lambda run: None)
    assert caught.value.errno == errno.ENOMEM and caught.value.words.startswith("cannot make the container's first process")
    for path in paths:
        os.close(path)
    assert hoststate.children() == children


def test_a_path_that_changed_after_the_plan(held):
    _pid, paths = held(c.CLONE_NEWNET | c.CLONE_NEWUTS)
    entry = staged.plan([("network", paths["network"])])
    entry["join"]["network"] = paths["uts"]
    with pytest.raises(OSError, match="is a uts namespace") as caught:
        staged.prepared(entry)
    assert caught.value.pointer == "/linux/namespaces/0/path" and paths["uts"] in caught.value.words  # type: ignore[attr-defined]
    entry["join"]["network"] = "/proc/1/nothing"
    with pytest.raises(FileNotFoundError) as caught:
        staged.prepared(entry)
    assert caught.value.words == "namespace path: /proc/1/nothing: no such file or directory"  # type: ignore[attr-defined]


def test_a_refusal_of_the_kernel_names_the_namespace(held):
    """A process without privileges in the user namespace that owns the network namespace."""
    _pid, paths = held(c.CLONE_NEWNET)

    def attempt():
        fd = os.open(paths["network"], os.O_RDONLY)
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        entry = {"flags": c.CLONE_NEWUSER | c.CLONE_NEWNS, "pointers": {"network": "/linux/namespaces/7"}, "outside": False, "userns": True}
        run = staged.Run(plans={"namespaces": entry}, fds={}, clone_flags=entry["flags"], cgroup_fd=-1, time_offsets=None)
        run.fds["ns:network"] = fd
        try:
            namespaces.clone(entry, run)
        except StepFailure as e:
            return [e.words, e.pointer, e.call, e.errno]

    words, pointer, call, number = staged.apart(attempt)
    assert words == "cannot join the network namespace: operation not permitted"
    assert (pointer, call, number) == ("/linux/namespaces/7", "setns", errno.EPERM)


def test_the_cgroup_namespace_shows_the_final_cgroup_as_root(ended):
    def paths(run):
        look(run)
        return sorted(line.split(":", 2)[2] for line in open("/proc/self/cgroup").read().splitlines())

    run = staged.prepared(staged.plan(["cgroup"]))
    assert set(ended(staged.init(run, paths)).go()) == {"/"}


def test_a_killed_intermediate_process_leaves_an_error(held, monkeypatch):
    _pid, paths = held(c.CLONE_NEWNET)
    while os.waitpid(-1, os.WNOHANG)[0]:  # children of earlier tests in this process
        pass
    monkeypatch.setattr(ns, "_join_all", lambda *args: os.kill(os.getpid(), 9))
    with pytest.raises(StepFailure) as caught:
        staged.init(staged.prepared(staged.plan(["user", ("network", paths["network"])], MAPPED)), lambda run: None)
    assert caught.value.errno == errno.ECHILD
    assert os.waitpid(-1, os.WNOHANG) == (0, 0), "the holder is running, and the intermediate process was reaped"


def test_limits_get_a_hint():
    def limit():
        with open("/proc/sys/user/max_uts_namespaces", "w") as file:
            file.write("0")
        try:
            run = staged.prepared(staged.plan(["uts"]))
            namespaces.clone(run.plans["namespaces"], run)
        except StepFailure as e:
            return [e.errno, e.hint]

    one = staged.child(lambda: _syscalls.unshare(c.CLONE_NEWUSER), limit)
    one.go()
    maps_of(one.pid, "0 0 65536")
    number, hint = one.go()
    one.end()
    assert number == errno.ENOSPC and "max_*_namespaces" in hint
