"""The runtime is killed, or one of its system calls fails, at one point after another: afterwards everything can be cleaned up.

strace injects the faults. It counts the calls of each process of a command separately, so `the third mount` means that of the host side or
of init, whichever comes first. With `-D` the command stays our child, so that its exit is seen while strace keeps tracing init. The short run
tests the first, the last and, for create, a middle point of each call; the long one tests all.
"""

import os
import random
import re
import shutil
import subprocess
import time

import pytest

import harness
import hoststate

STRACE = shutil.which("strace", path="/usr/bin:/bin")
# Calls that change something, wait for another process, or pass something on. Reads and queries are left out.
ACTS = (
    "mkdir mkdirat mknodat symlinkat linkat unlink unlinkat rmdir rename renameat renameat2 write pwrite64 ftruncate fsync openat openat2 "
    "clone3 clone unshare setns mount umount2 move_mount fsopen fsconfig fsmount open_tree mount_setattr pivot_root chdir fchdir chroot "
    "fchownat fchmodat chown fchown fchmod sendmsg sendto recvmsg recvfrom socketpair socket connect bind listen poll waitid wait4 "
    "pidfd_open pidfd_send_signal prctl capset setgroups setresuid setresgid keyctl seccomp prlimit64 close_range fcntl ioctl execve "
    "sethostname setdomainname setsid umask mknod flock memfd_create"
).split()

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.skipif(STRACE is None, reason="no strace on this machine")]


@pytest.fixture(scope="module", autouse=True)
def tracing():
    """Tracing may be forbidden, for example in a container or by yama."""
    done = subprocess.run([STRACE, "-qq", "-o", "/dev/null", "/bin/true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this machine does not let strace trace: %s" % done.stderr.strip())


def traced(runtime, options, *words):
    """(exit status, standard error) of a command under strace; the tracer itself may still be running."""
    argv = [STRACE, "-D", "-f", "-qq", "-e", "signal=none", *options, *runtime.argv(*words)]
    with harness.Capture() as err:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err.file, env=runtime.env)
        return process.wait(harness.WATCHDOG), err.text()


def counts(runtime, *words):
    """{call: how often the process that makes it most often does so}"""
    with harness.Capture() as log:
        code, err = traced(runtime, ["-o", "/proc/%d/fd/%d" % (os.getpid(), log.file.fileno())], *words)
        assert code == 0, err
        lines = re.findall(r"^(\d+) +(\w+)\(", log.text(), re.M)
    found = {}
    for pair in lines:
        found[pair] = found.get(pair, 0) + 1
    most = {}
    for (_pid, name), number in found.items():
        most[name] = max(most.get(name, 0), number)
    return {name: number for name, number in most.items() if name in ACTS}


def points(number, every, middle):
    return range(1, number + 1) if every else sorted({1, (number + 1) // 2 if middle else 1, number})


def settled(runtime, needle):
    """Waits for processes that die along with their runtime, so that what is left afterwards is a leftover."""
    for pid in hoststate.processes(needle):
        try:
            with harness.Watched(pid) as watched:
                watched.wait()
        except ProcessLookupError:
            pass


def cleaned(runtime, bundle, id, what):
    """Checks that state and list answer, that delete --force succeeds twice, and that nothing is left."""
    for words in (["state", id], ["list"]):
        result = runtime.call(*words)
        assert result.code in (0, 1) and "Traceback" not in result.err and "internal error" not in result.err, (what, result)
    for _ in range(2):
        result = runtime.call("delete", "--force", id)
        assert result.code == 0, (what, result)
    needle = bundle.config["linux"]["cgroupsPath"].lstrip("/")
    settled(runtime, needle)
    left = {
        "cgroups": sorted(hoststate.cgroups(needle)),
        "mounts": sorted(hoststate.mounts(str(bundle.path) + "/")),
        "processes": hoststate.processes(needle),
        "state": sorted(hoststate.state_dirs(runtime.root)),
    }
    assert not any(left.values()), (what, left)


@pytest.fixture(scope="module")
def calibration(runtime_path, workshop, scratch, token, cgroup):
    """How often create, start and delete of a plain container make each call."""
    runtime = harness.Runtime(runtime_path, scratch / "faults", token + "faults", cgroup)
    if not runtime.is_pyrunc:
        pytest.skip("other runtimes do not pass this; the runtime under test is %s" % runtime.name)
    bundle = workshop.bundle(args=harness.WAIT_FOR_TERM, cgroup=cgroup)
    id = runtime.new_id()
    runtime.ok("create", "--bundle", bundle, id)  # fills the caches
    runtime.ok("delete", id)
    found = {"create": counts(runtime, "create", "--bundle", bundle, id)}
    found["start"] = counts(runtime, "start", id)
    runtime.stopped(id)
    found["delete"] = counts(runtime, "delete", id)
    runtime.clean()
    return found


# Messages of the plain launcher's shell, the dynamic linker and the interpreter before any of our code runs, with their own exit statuses.
BEFORE_US = re.compile(
    r"^/bin/sh: |^/usr/bin/python3: (error while loading|can't open file)|^Python runtime state: (pre|core )initialized$", re.M
)

# Not made to fail: flock (releasing a lock does not fail), and calls that undoing needs too, because both would be hit at once.
NOT_FAILED = ("execve", "wait4", "flock")
UNDO = ("unlinkat",)


def sweep(runtime, make_bundle, calibration, command, call, injection, every, record_property):
    """`points` is the number that the security report counts."""
    number = calibration[command].get(call)
    if not number or (command == "create" and call in UNDO and injection.startswith("error=")):
        return
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    record_property("points", len(points(number, every, command == "create")))
    for when in points(number, every, command == "create"):
        id = runtime.new_id()
        words = [command, "--bundle", bundle, id] if command == "create" else [command, id]
        if command != "create":
            runtime.ok("create", "--bundle", bundle, id)
        if command == "delete":
            runtime.start(id)
            runtime.stopped(id)
        what = "%s: %s of %s number %d" % (command, injection, call, when)
        code, err = traced(
            runtime, ["-o", "/dev/null", "-e", "trace=" + call, "-e", "inject=%s:%s:when=%d" % (call, injection, when)], *words
        )
        ours = not BEFORE_US.search(err)
        assert not ours or ("Traceback" not in err and "internal error" not in err), (what, err)
        if injection.startswith("error=") and ours:
            assert code in (0, 1), (what, code, err)
            assert code == 0 or len(err.splitlines()) == 1 or (call == "write" and not err), (
                what,
                err,
            )  # writing the error message may fail as well
            if code == 1 and command == "create":
                assert id not in hoststate.state_dirs(runtime.root), what
        cleaned(runtime, bundle, id, what)
    id = runtime.create(bundle)  # the bundle can be used for another container
    runtime.ok("delete", "--force", id)


@pytest.mark.parametrize("command", ["create", "start", "delete"])
@pytest.mark.parametrize("call", ACTS)
def test_killed(pyrunc, make_bundle, calibration, command, call, record_property):
    sweep(pyrunc, make_bundle, calibration, command, call, "signal=KILL", False, record_property)


@pytest.mark.parametrize("command", ["create", "start", "delete"])
@pytest.mark.parametrize("call", [c for c in ACTS if c not in NOT_FAILED])
def test_failing(pyrunc, make_bundle, calibration, command, call, record_property):
    sweep(pyrunc, make_bundle, calibration, command, call, "error=EIO", False, record_property)


@pytest.mark.long
@pytest.mark.parametrize("injection", ["signal=KILL", "signal=TERM", "error=EIO", "error=ENOMEM", "error=ENOSPC"])
@pytest.mark.parametrize("command", ["create", "start", "delete"])
@pytest.mark.parametrize("call", [c for c in ACTS if c not in NOT_FAILED])
def test_every_point(pyrunc, make_bundle, calibration, command, call, injection, record_property):
    sweep(pyrunc, make_bundle, calibration, command, call, injection, True, record_property)


KILLS = 10_000


@pytest.mark.long
def test_killed_at_any_time(pyrunc, make_bundle, record_property):
    """create is killed at a random time, ten thousand times with one id: delete --force succeeds each time, the id is free again, and no cgroup,
    mount or process is left (checked every hundred times, because that reads all of /proc)."""
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    id = pyrunc.new_id()
    argv = pyrunc.argv("create", "--bundle", bundle, id)
    needle = bundle.config["linux"]["cgroupsPath"].lstrip("/")
    whole = []
    for _ in range(10):
        begin = time.monotonic()
        pyrunc.ok("create", "--bundle", bundle, id)
        whole.append(time.monotonic() - begin)
        pyrunc.ok("delete", "--force", id)
    latest = sorted(whole)[len(whole) // 2]
    record_property("points", KILLS)
    chance = random.Random(1)
    ended = 0
    for number in range(1, KILLS + 1):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=pyrunc.env)
        time.sleep(chance.uniform(0, latest))
        process.kill()
        ended += process.wait(harness.WATCHDOG) == 0
        result = pyrunc.call("delete", "--force", id)
        assert result.code == 0, (number, result)
        assert hoststate.state_dirs(pyrunc.root) == set(), number
        if number % 100 == 0:
            settled(pyrunc, needle)
            left = [hoststate.cgroups(needle), hoststate.mounts(str(bundle.path) + "/"), hoststate.processes(needle)]
            assert not any(left), (number, left)
    assert 0 < ended < KILLS * 3 // 4, "the times do not cover a whole create: %d of them had already finished" % ended
