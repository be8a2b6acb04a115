"""Limits, scheduling, memory, names, settings and labels on a real kernel: the state of a child after the verbs, and their errors if the
kernel refuses."""

import os
import platform
import resource
import socket
from types import SimpleNamespace

import pytest

import staged
from fakes.hand import Ctx, Run, namespaces
from pyrunc.errors import StepFailure
from pyrunc.linux import _syscalls, caps, constants, ns, proc
from pyrunc.parts import labels, mempolicy, oom, personality, rlimits, scheduling, sysctls, uts
from tail import capset

pytestmark = pytest.mark.kernel
HAS_RESOURCE = bool(caps.effective() >> caps.SYS_RESOURCE & 1)


# ---- set from outside on a waiting process


@pytest.fixture
def waiting():
    """A child that waits; its only step reports the result of the given function."""
    made = []

    def make(function=lambda: None):
        one = staged.child(lambda: None, function)
        one.go()
        made.append(one)
        return one

    yield make
    for one in made:
        one.end()


def limits(*rows):
    return {"/process/rlimits": [{"type": "RLIMIT_" + name, "soft": soft, "hard": hard} for name, soft, hard in rows]}


def test_limits_of_any_size_apply_to_the_program(waiting):
    small = ("AS", "NPROC", "FSIZE", "CPU", "STACK", "NOFILE", "CORE", "DATA", "RSS", "MEMLOCK", "LOCKS", "SIGPENDING", "RTTIME")
    one = waiting(lambda: None)
    core = 0 if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1  # often the only one that is 0 on a host
    wanted = {**dict.fromkeys(small, (0, 1)), "CPU": (100, 200), "CORE": (0, core)}
    entry = rlimits.plan(limits(*((name, *values) for name, values in wanted.items())), Ctx())
    rlimits.host_apply(entry, SimpleNamespace(pid=one.pid))
    for name, values in wanted.items():
        assert _syscalls.prlimit(one.pid, rlimits.NUMBERS["RLIMIT_" + name], None, None) == values


def test_a_limit_that_the_kernel_refuses(waiting):
    one = waiting()
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (0, 10))
    entry = {"list": [["RLIMIT_CPU", 0, 5, 50, 0], ["RLIMIT_NOFILE", 7, 5, 50, 1]]}
    if HAS_RESOURCE:
        pytest.skip("this machine gives CAP_SYS_RESOURCE, so the kernel raises limits")
    with pytest.raises(StepFailure) as caught:
        rlimits.host_apply(entry, SimpleNamespace(pid=one.pid))
    e = caught.value
    assert (e.words, e.pointer) == ("error setting rlimit type 7: operation not permitted", "/process/rlimits/1")
    assert "5:50" in e.hint and "10" in e.hint


def test_oom_score(waiting):
    one = waiting()
    oom.host_write({"value": 500}, SimpleNamespace(pid=one.pid))
    with open("/proc/%d/oom_score_adj" % one.pid) as f:
        assert f.read() == "500\n"
    if HAS_RESOURCE:
        return
    with pytest.raises(StepFailure) as caught:
        oom.host_write({"value": -1000}, SimpleNamespace(pid=one.pid))
    e = caught.value
    assert e.words == "oomScoreAdj -1000 is lower than this host lets us set it" and e.errno == 13
    assert not any(word in e.sentence().lower() for word in ("permission denied", "not permitted"))


def test_affinity_is_given_back_to_init(waiting):
    one = waiting()
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(one.pid, {min(every)})
    entry = scheduling.plan({}, Ctx())
    scheduling.host_affinity(entry, SimpleNamespace(pid=one.pid))
    assert os.sched_getaffinity(one.pid) == every


def test_affinity_of_exec(waiting):
    first = min(os.sched_getaffinity(0))
    one = waiting()
    run = SimpleNamespace(pid=one.pid)

    def entry(**lists):
        return scheduling.plan({"/process/execCPUAffinity": lists}, Ctx(options={"command": "exec"}))

    scheduling.host_affinity(entry(final=str(first)), run)
    assert os.sched_getaffinity(one.pid) == {first}
    scheduling.host_affinity(entry(initial=str(first)), run)  # only initial: left unchanged
    assert os.sched_getaffinity(one.pid) == {first}
    scheduling.host_affinity(entry(), run)
    assert os.sched_getaffinity(one.pid) == os.sched_getaffinity(0)

    def initial():
        scheduling.exec_initial(entry(initial=str(first)), Run())
        return list(os.sched_getaffinity(0))

    assert staged.apart(initial) == [first]


def test_affinity_to_a_processor_that_does_not_exist(waiting, monkeypatch):
    monkeypatch.setattr(scheduling, "_possible", lambda: 8192)
    entry = scheduling.plan({"/process/execCPUAffinity": {"final": "4000-4100"}}, Ctx(options={"command": "exec"}))
    with pytest.raises(StepFailure) as caught:
        scheduling.host_affinity(entry, SimpleNamespace(pid=waiting().pid))
    assert (caught.value.pointer, caught.value.errno) == ("/process/execCPUAffinity/final", 22)


# ---- set in init


def scheduled(node, look):
    entry = scheduling.plan(node, Ctx())

    def inside():
        scheduling.init_set(entry, Run())
        return look()

    return staged.apart(inside)


@pytest.mark.parametrize(
    ("value", "policy", "nice", "priority"),
    [
        ({"policy": "SCHED_OTHER", "nice": 5}, 0, 5, 0),
        ({"policy": "SCHED_BATCH", "nice": -3}, 3, -3, 0),
        ({"policy": "SCHED_FIFO", "priority": 7}, 1, 0, 7),
        ({"policy": "SCHED_RR", "priority": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, 2, 0, 9),
        ({"policy": "SCHED_IDLE"}, 5, 0, 0),
        ({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 20_000_000}, 6, 0, 0),
    ],
)
def test_schedulers(value, policy, nice, priority):
    try:
        seen = scheduled({"/process/scheduler": value}, lambda: list(_syscalls.sched_getattr(0)))
    except AssertionError as e:
        if policy in (1, 2) and "sched_setattr" in str(e) and "operation not permitted" in str(e):
            pytest.skip("this machine's cgroup has no real-time runtime (CONFIG_RT_GROUP_SCHED)")
        raise
    assert (seen[0], seen[3]) == (policy, priority)
    if policy in (0, 3):
        assert seen[2] == nice
    if policy == 6:
        assert seen[4:7] == [1_000_000, 10_000_000, 20_000_000]


def test_an_error_of_the_scheduler_names_the_cpuset():
    def inside():
        capset(0, 0, 0)
        entry = scheduling.plan({"/process/scheduler": {"policy": "SCHED_FIFO", "priority": 99}}, Ctx())
        seen = []
        for config in ({}, {"linux": {"resources": {"cpu": {"cpus": "0"}}}}):
            with pytest.raises(StepFailure) as caught:
                scheduling.init_set(entry, Run(config=config))
            seen.append([caught.value.words, caught.value.pointer])
        return seen

    assert staged.apart(inside) == [
        ["error setting scheduler: operation not permitted", "/process/scheduler"],
        ["process scheduler can't be used together with AllowedCPUs", "/process/scheduler"],
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"class": "IOPRIO_CLASS_BE", "priority": 6}, 2 << 13 | 6),
        ({"class": "IOPRIO_CLASS_IDLE"}, 3 << 13),
        ({"class": "IOPRIO_CLASS_RT", "priority": 1}, 1 << 13 | 1),
    ],
)
def test_io_priority(value, expected):
    assert scheduled({"/process/ioPriority": value}, lambda: _syscalls.ioprio_get(1, 0)) == expected


def test_io_priority_refused():
    def inside():
        capset(0, 0, 0)
        entry = scheduling.plan({"/process/ioPriority": {"class": "IOPRIO_CLASS_RT"}}, Ctx())
        with pytest.raises(StepFailure) as caught:
            scheduling.init_set(entry, Run())
        return [caught.value.words, caught.value.pointer]

    assert staged.apart(inside) == ["error setting ioPriority: operation not permitted", "/process/ioPriority"]


def test_scheduling_of_an_execed_process_is_set_from_outside(waiting):
    one = waiting()
    entry = scheduling.plan(
        {"/process/scheduler": {"policy": "SCHED_BATCH", "nice": 2}, "/process/ioPriority": {"class": "IOPRIO_CLASS_IDLE"}}, Ctx()
    )
    scheduling.host_set(entry, Run(pid=one.pid))
    assert _syscalls.sched_getattr(one.pid)[:3:2] == (3, 2) and _syscalls.ioprio_get(1, one.pid) == 3 << 13


@pytest.mark.parametrize("domain", ["LINUX32", "LINUX"])
def test_personality(domain):
    def inside():
        personality.init_set(personality.plan({"/linux/personality": {"domain": domain}}, Ctx()), Run())
        return os.uname().machine

    machine = {"x86_64": "i686", "aarch64": "armv8l"}.get(platform.machine(), platform.machine())
    assert staged.apart(inside) == (machine if domain == "LINUX32" else platform.machine())


@pytest.mark.parametrize(
    ("value", "mode", "mask"),
    [
        ({"mode": "MPOL_DEFAULT"}, 0, 0),
        ({"mode": "MPOL_PREFERRED"}, 4, 0),
        ({"mode": "MPOL_BIND", "nodes": "0"}, 2, 1),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, 2 | 1 << 15, 1),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0-3", "flags": ["MPOL_F_RELATIVE_NODES"]}, 3 | 1 << 14, 15),
        ({"mode": "MPOL_LOCAL"}, 4, 0),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, 5, 1),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, 6, 1),
    ],
)
def test_memory_policy(value, mode, mask):
    entry = mempolicy.plan({"/linux/memoryPolicy": value}, Ctx())

    def inside():
        mempolicy.init_set(entry, Run())
        got, nodes = _syscalls.get_mempolicy()
        return [got, nodes[0]]

    try:
        assert staged.apart(inside) == [mode, mask]
    except AssertionError as e:
        if "ENOSYS" in str(e) or "function not implemented" in str(e):
            pytest.skip("this machine's kernel is built without CONFIG_NUMA")
        raise


def test_memory_policy_refused():
    with pytest.raises(AssertionError, match="unable to set memory policy: (invalid argument|function not implemented)"):
        staged.apart(lambda: mempolicy.init_set({"mode": 2, "nodes": [[700, 700]]}, Run()))


# ---- names and settings of namespaces


def in_namespaces(*names):
    """The first step of a child."""
    _syscalls.unshare(sum(ns.FLAGS[name] for name in names))


def test_host_and_domain_name():
    before = os.uname().nodename
    long = "h" * 64
    entry = uts.plan({"/hostname": long, "/domainname": "dömäin"}, Ctx({"namespaces": namespaces("uts")}))

    def inside():
        in_namespaces("uts")
        uts.init_set(entry, Run())
        with open("/proc/sys/kernel/domainname") as f:
            return [socket.gethostname(), f.read()]

    assert staged.apart(inside) == [long, "dömäin\n"]
    assert os.uname().nodename == before


def test_settings_only_change_the_namespace():
    given = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "123", "net/ipv4/ping_group_range": "0 0", "fs.mqueue.msg_max": "77"}
    entry = sysctls.plan({"/linux/sysctl": given}, Ctx({"namespaces": namespaces("network", "ipc")}))
    names = [path for _name, path, _value in entry["list"]]

    def values():
        made = proc.Proc()
        return [made.read("sys/" + name).decode().split() for name in names]

    def inside():
        in_namespaces("network", "ipc")
        _syscalls.unshare(constants.CLONE_NEWNS)  # a /proc/sys that the container has replaced
        _syscalls.mount(None, "/", None, constants.MS_PRIVATE | constants.MS_REC, None)
        _syscalls.mount("tmpfs", "/proc/sys", "tmpfs", 0, None)
        run = Run(proc=proc.Proc())
        sysctls.init_write(entry, run)
        assert os.listdir("/proc/sys") == []
        return values()

    before = values()
    assert staged.apart(inside) == [["1"], ["123"], ["0", "0"], ["77"]]
    assert values() == before


def test_settings_are_not_written_on_the_host():
    entry = sysctls.plan({"/linux/sysctl": {"net.ipv4.ip_forward": "1"}}, Ctx({"namespaces": namespaces("network")}))
    run = Run(proc=proc.Proc())
    with pytest.raises(StepFailure, match="the network namespace is still the caller's"):
        sysctls.init_write(entry, run)
    run.proc.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("net.no.such", "1", 'sysctl "net.no.such": there is no such setting in this kernel, or not in this namespace'),
        ("net.ipv4.ip_forward", "banana", 'sysctl "net.ipv4.ip_forward": the kernel refuses the value "banana": invalid argument'),
        ("net.ipv4", "1", 'sysctl "net.ipv4": writing "1": is a directory'),
    ],
)
def test_settings_that_the_kernel_refuses(name, value, words):
    entry = sysctls.plan({"/linux/sysctl": {name: value}}, Ctx({"namespaces": namespaces("network")}))

    def inside():
        in_namespaces("network")
        with pytest.raises(StepFailure) as caught:
            sysctls.init_write(entry, Run(proc=proc.Proc()))
        return [caught.value.words, caught.value.pointer]

    assert staged.apart(inside) == [words, "/linux/sysctl/" + name]


# ---- labels


def test_labels_on_a_kernel_without_them_are_fatal():
    """The plan checks the probe; if the verb is still called, it fails."""
    run = Run(proc=proc.Proc())
    if os.path.isdir("/sys/kernel/security/apparmor") or os.path.isdir("/sys/fs/selinux/class"):
        pytest.skip("a security module is active on this machine")
    for entry in ({"apparmor": "docker-default"}, {"selinux": "a:b:c:s0"}):
        with pytest.raises(StepFailure, match="write to `/proc/thread-self/attr/"):
            labels.init_exec(entry, run)
    run.proc.close()  # type: ignore[attr-defined]


def test_the_path_of_a_label_for_exec():
    run = Run(proc=proc.Proc())
    op = labels.exec_op({"selinux": "a:b:c:s0"}, run)
    assert op == ("WRITE", run.proc.directory(), "thread-self/attr/exec", b"a:b:c:s0")  # type: ignore[attr-defined]
    assert labels.exec_op({"mount": "x"}, run) is None
    assert labels.exec_op({"apparmor": "p"}, run)[3] == b"exec p"
    run.proc.close()  # type: ignore[attr-defined]
