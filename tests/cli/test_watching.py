"""events, stats, ps, pause: their output compared with runc's, and their errors."""

import ctypes
import fcntl
import json
import mmap
import os
import select
import signal
import struct
import subprocess

import pytest

import harness
import hoststate

RUNC = "/usr/sbin/runc"
LIMITS = {
    "/linux/resources": {
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 50},
        "devices": [{"allow": False, "access": "rwm"}],
    }
}
X86_64 = os.uname().machine == "x86_64"
WAITING = ("7", "271", "232", "281") if X86_64 else ("73", "22")  # the numbers of poll(2), ppoll(2), epoll_wait(2), epoll_pwait(2)
pytestmark = pytest.mark.kernel


@pytest.fixture
def beside_runc(runtime, scratch, cgroup, make_bundle):
    """(pyrunc, runc, the id of a container under each). Both programs do the same and have the same limits."""
    if not os.path.exists(RUNC):
        pytest.skip("this machine has no runc to compare with")
    other = harness.Runtime(RUNC, scratch / ("runc" + os.path.basename(runtime.root)), runtime.token + "r", cgroup)
    try:
        yield runtime, other, *(each.started(make_bundle(LIMITS, args=harness.WAIT_FOR_TERM)) for each in (runtime, other))
    finally:
        other.clean()


def shape(value, path=""):
    """All keys with the types of their values. Go omits some counters that are 0, so these are left out here."""
    found = []
    if isinstance(value, dict):
        for key, one in value.items():
            if not key.endswith(("periods", "throttledPeriods", "throttledTime", "percpu_kernel", "percpu_user", "cache", "Recursive")):
                found += ["%s/%s: %s" % (path, key, type(one).__name__), *shape(one, path + "/" + key)]
    elif isinstance(value, list):
        for one in value[:1]:
            found += shape(one, path + "/-")
    return found


def test_one_record_has_the_keys_of_runc_in_their_order(beside_runc):
    ours, runc, here, there = beside_runc
    mine, theirs = (each.ok("events", "--stats", id).out for each, id in ((ours, here), (runc, there)))
    assert mine.count("\n") == 1 and mine.endswith("\n")
    mine, theirs = json.loads(mine), json.loads(theirs)
    if not os.path.exists("/sys/fs/cgroup/memory") and "psi" not in theirs["data"]["cpu"]:  # runc 1.1 on version 2
        for key in ("cpu", "memory", "blkio"):
            mine["data"][key].pop("psi", None)
        mine["data"]["hugetlb"] = theirs["data"]["hugetlb"] = {}
    unsorted = [line for line in shape(mine) if "/raw/" not in line]  # Go sorts the keys of a map
    assert unsorted == [line for line in shape(theirs) if "/raw/" not in line]
    assert sorted(shape(mine)) == sorted(shape(theirs))
    assert mine["data"]["memory"]["usage"]["limit"] == 64 << 20 and mine["data"]["pids"]["limit"] == 50


def test_the_stream_ends_with_the_container(runtime, waiting):
    id = runtime.started(waiting)
    process = subprocess.Popen(runtime.argv("events", "--interval", "10ms", id), stdout=subprocess.PIPE, text=True)
    with process:
        records = [json.loads(process.stdout.readline()) for _ in range(3)]
        runtime.stopped(id)
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait(harness.WATCHDOG) == 0
    assert {record["type"] for record in records + rest} == {"stats"} and {record["id"] for record in records} == {id}


def test_the_stream_reports_that_memory_ran_out(runtime, make_bundle):
    """One process of the container is killed and init keeps running: the event arrives without waiting for the interval."""
    script = "echo up > /gate; read x < /door; (dd if=/dev/zero of=/dev/null bs=64M count=1) 2>/dev/null; sleep 1000"
    bundle = make_bundle({"/linux/resources": {"memory": {"limit": 16 << 20, "swap": 16 << 20}}}, args=["/bin/sh", "-c", script])
    gate = harness.fifo(bundle.rootfs / "gate")
    harness.fifo(bundle.rootfs / "door")
    id = runtime.started(bundle)
    harness.lines_of(gate)
    process = subprocess.Popen(runtime.argv("events", "--interval", "500h", id), stdout=subprocess.PIPE, text=True)
    with process:
        listening(process)
        (bundle.rootfs / "door").write_text("\n")
        assert json.loads(process.stdout.readline()) == {"type": "oom", "id": id}
        runtime.stopped(id)
        process.wait(harness.WATCHDOG)


def listening(process):
    """Waits until the process is in poll(2) or epoll_wait(2): by then its events are registered."""
    while True:
        with open("/proc/%d/syscall" % process.pid) as file:
            if file.read().split()[0] in WAITING:
                return
        assert process.poll() is None
        select.select([], [], [], 0.005)


@pytest.mark.parametrize("text", ["", "5", "0s", "-1s", "x", "1y", "501h", "9" * 400 + "h"])
def test_invalid_intervals(pyrunc, waiting, text):
    id = pyrunc.started(waiting)
    result = pyrunc.call("events", "--stats", "--interval", text, id)
    assert result.code == 1 and len(result.err.splitlines()) == 1, result


def test_events_of_the_stopped_and_the_unknown(runtime, bundle):
    id = runtime.started(bundle)
    runtime.stopped(id, None)
    result = runtime.call("events", "--stats", id)
    assert result.code == 1 and "container with id %s is not running" % id in result.said
    result = runtime.call("events", "--stats", "no-such-id")
    assert result.code == 1 and "container does not exist" in result.said


def test_processes_as_runc_lists_them(beside_runc):
    ours, runc, here, there = beside_runc
    for words in ((), ("aux",), ("-o", "pid,comm"), ("-ef", "f"), ("-o", "stat,pid")):
        mine, theirs = (each.ok("ps", id, *words).out.splitlines() for each, id in ((ours, here), (runc, there)))
        assert mine[0].split() == theirs[0].split() and len(mine) == len(theirs) == 3, (words, mine, theirs)
        for one, other in zip(mine[1:], theirs[1:], strict=True):
            assert one.split()[-1] == other.split()[-1] or words[-1].endswith("pid")  # type: ignore[misc]
    for words in (("-o", "comm"), ("--nosuch",)):
        mine, theirs = (each.call("ps", id, *words) for each, id in ((ours, here), (runc, there)))
        assert (mine.code, mine.out) == (theirs.code, theirs.out) == (1, "")


def test_stats_of_many(pyrunc, make_bundle):
    ids = [pyrunc.started(make_bundle(LIMITS, args=harness.WAIT_FOR_TERM)) for _ in range(3)]
    found = json.loads(pyrunc.ok("stats", "--format", "json").out)
    assert sorted(found) == sorted(ids)
    assert {data["memory"]["usage"]["limit"] for data in found.values()} == {64 << 20}
    lines = pyrunc.ok("stats", ids[1]).out.splitlines()
    assert lines[0].split()[0] == "ID" and lines[1].split()[:2] == [ids[1], "running"] and len(lines) == 2
    text = pyrunc.ok("stats", "--format", "prometheus").out
    for id in ids:
        assert 'pyrunc_memory_limit_bytes{id="%s",root="%s"} %d\n' % (id, pyrunc.root, 64 << 20) in text
    pyrunc.stopped(ids[0])
    assert ids[0] not in pyrunc.ok("stats").out and ids[0] in pyrunc.ok("stats", "--all").out
    assert pyrunc.call("stats", "no-such-id").code == 1
    result = pyrunc.call("stats", "--format", "yaml")
    assert result.code == 1 and "invalid format option: yaml" in result.err


# -- a task that can't be frozen -----------------------------------------------------------------------------------------

SYS_USERFAULTFD = 323 if X86_64 else 282
UFFDIO_API, UFFDIO_REGISTER, PDEATHSIG = 0xC018AA3F, 0xC020AA00, 1


def never_leaves_the_kernel(directories):
    """Starts a process that moves itself into `directories` (of cgroups) and stays in write(2), which reads a page that is never provided
    (userfaultfd(2)), so that it can't be frozen. Returns its pid; KILL ends it."""
    said, say = os.pipe()
    pid = os.fork()
    if pid:
        os.close(say)
        words = os.read(said, 4096)
        os.close(said)
        if words != b"+":
            os.waitpid(pid, 0)
            pytest.skip("this machine gives no userfaultfd: %s" % words.decode())
        while hoststate.state_of(pid) != "S":
            select.select([], [], [], 0.002)
        return pid
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PDEATHSIG, signal.SIGKILL)
        page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        fd = libc.syscall(SYS_USERFAULTFD, 0)
        if fd < 0:
            os.write(say, os.strerror(ctypes.get_errno()).encode())
            os._exit(1)
        fcntl.ioctl(fd, UFFDIO_API, struct.pack("QQQ", 0xAA, 0, 0))
        fcntl.ioctl(fd, UFFDIO_REGISTER, struct.pack("QQQQ", address, mmap.PAGESIZE, 1, 0))
        for directory in directories:
            with open(directory + "/cgroup.procs", "w") as file:
                file.write("0")
        _, out = os.pipe()
        os.write(say, b"+")
        libc.write(out, ctypes.c_void_p(address), 1)
    finally:
        os._exit(1)


def test_a_task_that_does_not_freeze_is_named_and_all_are_thawed(pyrunc, waiting):
    id = pyrunc.started(waiting)
    paths = harness.saved_state(pyrunc, id)["cgroup_paths"]
    pid = never_leaves_the_kernel(sorted({paths[key] for key in ("freezer", "unified") if key in paths}))
    try:
        result = pyrunc.call("pause", "--timeout", "300ms", id)
        assert result.code == 1 and len(result.err.splitlines()) == 1, result
        assert "unable to freeze: 1 task(s) do not stop: pid %d (" % pid in result.err
        assert pyrunc.status(id) == "running"
        assert pyrunc.ok("exec", id, "/bin/echo", "alive").out == "alive\n"
    finally:
        os.kill(pid, signal.SIGKILL)
        pyrunc.call("resume", id)  # it could not die while frozen
        os.waitpid(pid, 0)
    pyrunc.ok("pause", "--timeout", "1m", id)
    assert pyrunc.status(id) == "paused"
    for text in ("", "0s", "soon", "1000000h"):
        assert pyrunc.call("pause", "--timeout", text, id).code == 1
