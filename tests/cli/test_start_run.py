"""start and run: the gate, exit statuses, forwarded signals, --keep and --detach."""

import json
import os
import signal
import subprocess

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel


def test_start_says_nothing(runtime, waiting, no_leaks):
    id = runtime.create(waiting)
    result = runtime.start(id)
    assert (result.out, result.err) == ("", "")
    assert runtime.status(id) == "running"
    runtime.ok("delete", "--force", id)


def test_start_of_the_unknown(runtime):
    result = runtime.call("start", "no-such-id")
    assert result.code == 1 and "container does not exist" in result.err


def test_start_twice(runtime, waiting):
    id = runtime.started(waiting)
    result = runtime.call("start", id)
    assert result.code == 1
    assert "cannot start an already running container" in result.err
    assert runtime.status(id) == "running"


def test_start_of_the_stopped(runtime, waiting):
    id = runtime.started(waiting)
    runtime.stopped(id)
    result = runtime.call("start", id)
    assert result.code == 1
    assert "cannot start a container that has stopped" in result.err


def test_start_after_init_was_killed(runtime, waiting):
    """It fails and does not wait for a process that no longer exists."""
    id = runtime.create(waiting)
    runtime.stopped(id)
    result = runtime.call("start", id)
    assert result.code == 1
    assert "cannot start a container that has stopped" in result.err


def test_concurrent_starts(pyrunc, waiting):
    """Of eight at the same time, one succeeds, seven fail and none hangs (with runc, one does)."""
    id = pyrunc.create(waiting)
    calls = [subprocess.Popen(pyrunc.argv("start", id), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(8)]
    codes = sorted(call.wait(harness.WATCHDOG) for call in calls)
    assert codes == [0] + [1] * 7
    assert pyrunc.status(id) == "running"


def test_start_without_path(runtime, waiting):
    """podman's environment for start: XDG_RUNTIME_DIR and PATH; for kill and delete not even PATH."""
    id = runtime.create(waiting)
    runtime.start(id, env={"XDG_RUNTIME_DIR": ""})
    harness.until_caught(runtime.state(id)["pid"], signal.SIGTERM)
    runtime.ok("kill", id, "TERM", env={"XDG_RUNTIME_DIR": ""})
    runtime.stopped(id, None)
    runtime.ok("delete", id, env={"XDG_RUNTIME_DIR": ""})


BROKEN = {"garbage": b"\x7fELF nonsense", "script": b"#!/nowhere/sh\n", "true": b"#!/bin/sh\n"}

# The action between create and start, the program, hooks, the error of start, and the state that is left here and with runc and crun, which
# report success if the container is not "created" as start requires. None: nothing is left, not even a cgroup.
FAILURES = {
    "no known format": (None, "garbage", {}, "exec format error", None, "stopped"),
    "no interpreter": (None, "script", {}, "no such file or directory", None, "stopped"),
    "removed meanwhile": ("unlink", "true", {}, "no such file or directory", None, "stopped"),
    "no longer executable": ("chmod", "true", {}, "permission denied", None, "stopped"),
    "a startContainer hook": (None, "true", {"startContainer": 3}, "error running startContainer hook #0: exit status 3", None, "stopped"),
    "killed meanwhile": ("kill", "true", {}, "cannot start a container that has stopped", "stopped", "stopped"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_a_failed_start_leaves(runtime, make_bundle, token, no_leaks, name):
    """Nothing is left, or no more than with runc and crun: engines may treat the error as the end of the container (podman), or delete it. A
    container that was not waiting is not changed, as the specification requires."""
    meanwhile, program, hooks, words, left, theirs = FAILURES[name]
    changes = {"/hooks": {kind: [{"path": "/bin/sh", "args": ["sh", "-c", "exit %d" % status]}] for kind, status in hooks.items()}}
    bundle = make_bundle(changes, args=["/bin/program"])
    path = bundle.rootfs / "bin/program"
    path.write_bytes(BROKEN[program])
    path.chmod(0o755)
    id = runtime.create(bundle)
    with harness.Watched(runtime.state(id)["pid"]) as init:
        if meanwhile == "kill":
            signal.pidfd_send_signal(init.fd, signal.SIGKILL)
            init.wait()
        elif meanwhile == "chmod":
            path.chmod(0o644)
        elif meanwhile == "unlink":
            path.unlink()
        result = runtime.call("start", id)
        init.wait()
    if not runtime.is_pyrunc:
        assert runtime.status(id) == theirs
        runtime.ok("delete", "--force", id)
        return
    assert result.code == 1 and words in result.err and len(result.err.splitlines()) == 1, result
    state = runtime.call("state", id)
    assert (json.loads(state.out)["status"] if state.code == 0 else None) == left
    assert bool(hoststate.cgroups(token)) == (left is not None)
    assert runtime.call("delete", id).code == (0 if left else 1)
    runtime.ok("delete", "--force", id)


def test_poststop_hooks_of_a_failed_start_run_once(pyrunc, make_bundle, tmp_path, no_leaks):
    seen = tmp_path / "seen"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo once >>%s" % seen]}
    bundle = make_bundle({"/hooks": {"poststop": [hook]}}, args=["/bin/program"])
    (bundle.rootfs / "bin/program").write_bytes(BROKEN["garbage"])
    (bundle.rootfs / "bin/program").chmod(0o755)
    id = pyrunc.create(bundle)
    assert pyrunc.call("start", id).code == 1
    pyrunc.ok("delete", "--force", id)
    assert seen.read_text() == "once\n"


# ---- run


@pytest.mark.parametrize("code", [0, 1, 7, 126, 255])
def test_run_ends_with_the_status_of_the_program(runtime, make_bundle, code, no_leaks):
    result = runtime.run(make_bundle(args=["/bin/sh", "-c", "exit %d" % code]))
    assert (result.code, result.out, result.err) == (code, "", "")


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_run_ends_with_128_and_the_signal(runtime, make_bundle, name, no_leaks):
    script = "sh -c 'kill -%s $$'; exit $?" % name
    result = runtime.run(make_bundle(args=["/bin/sh", "-c", script]))
    assert result.code == 128 + getattr(signal, "SIG" + name)


def test_run_of_a_killed_container(runtime, make_bundle, no_leaks):
    """It is killed from outside while run waits: the status is 137."""
    gate = None
    bundle = make_bundle(args=["/bin/sh", "-c", "echo up > /gate; sleep 1000"])
    gate = harness.fifo(bundle.rootfs / "gate")
    id = runtime.new_id()
    process = subprocess.Popen(runtime.argv("run", "--bundle", bundle, id), stdin=subprocess.DEVNULL)
    harness.lines_of(gate)
    runtime.kill(id, "KILL")
    assert process.wait(harness.WATCHDOG) == 137


def test_run_relays_streams(runtime, make_bundle, no_leaks):
    bundle = make_bundle(args=["/bin/sh", "-c", "cat; echo to stderr >&2"])
    result = runtime.run(bundle, text="line one\nline two\n")
    assert (result.code, result.out) == (0, "line one\nline two\n")
    assert "to stderr" in result.err


def test_run_with_much_output(runtime, make_bundle):
    result = runtime.run(make_bundle(args=["/bin/sh", "-c", "yes 0123456789abcde | head -n 100000"]))
    assert result.code == 0
    assert len(result.out) == 1_600_000


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2"])
def test_run_passes_signals_on(runtime, make_bundle, name, no_leaks):
    bundle = make_bundle(args=["/bin/sh", "-c", "trap 'echo got it; exit 42' %s; echo up > /gate; sleep 1000 & wait" % name])
    gate = harness.fifo(bundle.rootfs / "gate")
    process = subprocess.Popen(
        runtime.argv("run", "--bundle", bundle, runtime.new_id()), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    harness.lines_of(gate)
    process.send_signal(getattr(signal, "SIG" + name))
    out, _ = process.communicate(timeout=harness.WATCHDOG)
    assert (process.returncode, out) == (42, "got it\n")


def test_run_detach(runtime, waiting, tmp_path):
    id = runtime.new_id()
    runtime.ok("run", "--detach", "--bundle", waiting, "--pid-file", tmp_path / "pid", id)
    state = runtime.state(id)
    assert (state["status"], str(state["pid"])) == ("running", (tmp_path / "pid").read_text())


def test_run_keep(runtime, bundle):
    """buildkit: `run --keep`, then a plain `delete`."""
    if runtime.name == "crun":
        pytest.skip("crun 1.21 has --keep in another form")
    id = runtime.new_id()
    runtime.ok("run", "--keep", "--bundle", bundle, id)
    assert runtime.status(id) == "stopped"
    runtime.ok("delete", id)


def test_run_deletes(runtime, bundle, no_leaks):
    id = runtime.new_id()
    runtime.ok("run", "--bundle", bundle, id)
    assert runtime.call("state", id).code == 1


def test_run_error_is_1(runtime, make_bundle, no_leaks):
    result = runtime.run(make_bundle(args=["nosuch"]))
    assert result.code == 1
    assert "executable file not found in $PATH" in result.err


def test_run_reaps_processes_that_the_container_leaves(runtime, make_bundle, no_leaks):
    """Without a pid namespace, children of the program survive it; run is the subreaper, and the cgroup is emptied."""
    namespaces = [{"type": t} for t in ("network", "ipc", "uts", "mount")]
    bundle = make_bundle({"/linux/namespaces": namespaces}, args=["/bin/sh", "-c", "sleep 1000 & exit 3"])
    result = runtime.run(bundle)
    assert result.code == 3


def test_run_no_subreaper(runtime, bundle):
    runtime.ok("run", "--no-subreaper", "--bundle", bundle, runtime.new_id())


def test_run_closed_output(runtime, make_bundle):
    """If the reader goes away, the program gets SIGPIPE or an error, as without a runtime; the runtime prints no traceback."""
    bundle = make_bundle(args=["/bin/sh", "-c", "yes | head -n 100000; exit 5"])
    process = subprocess.Popen(
        runtime.argv("run", "--bundle", bundle, runtime.new_id()), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.read(10)
    process.stdout.close()
    _, err = process.communicate(timeout=harness.WATCHDOG)
    assert b"Traceback" not in err
    assert process.returncode != 1 or runtime.name != "pyrunc"


def test_exit_statuses_are_never_126_or_127(pyrunc, make_bundle):
    """Those belong to shells; docker and podman derive them from the error message."""
    for args in (["nosuch"], ["/etc/passwd"], ["/tmp"]):
        assert pyrunc.run(make_bundle(args=args)).code == 1


def test_environment_of_the_caller_stays_outside(runtime, make_bundle):
    env = {**runtime.env, "HOSTSECRET": "1", "LC_CTYPE": "C.UTF-8"}
    result = runtime.run(make_bundle(args=["/bin/env"]), env=env)
    assert "HOSTSECRET" not in result.out and "LC_CTYPE" not in result.out


def test_environment_of_the_waiting_init(runtime, waiting):
    """/proc/PID/environ of a created container shows nothing of the caller (with crun it does)."""
    if runtime.name == "crun":
        pytest.skip("crun's waiting init keeps the caller's environment")
    id = runtime.create(waiting, env={**runtime.env, "HOSTSECRET": "1"})
    with open("/proc/%d/environ" % runtime.state(id)["pid"], "rb") as file:
        assert b"HOSTSECRET" not in file.read()


def test_caller_that_blocks_and_ignores_signals(pyrunc, make_bundle):
    """conmon and Python ignore SIGPIPE: the program starts with default dispositions and an empty mask (with runc it keeps the caller's mask)."""
    bundle = make_bundle(args=["/bin/grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"])

    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    result = pyrunc.run(bundle, preexec_fn=block, restore_signals=False)
    assert result.code == 0, result
    assert [line.split()[1] for line in result.out.splitlines()] == ["0" * 16] * 3


def test_wait_statuses_reach_the_subreaper(runtime, make_bundle):
    """create + start: the exit status of the program reaches the process that adopted it."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    try:
        id = runtime.create(make_bundle(args=["/bin/sh", "-c", "exit 23"]))
        with harness.Watched(runtime.state(id)["pid"]) as watched:
            runtime.start(id)
            assert watched.wait().si_status == 23
        runtime.delete(id)
    finally:
        libc.prctl(36, 0, 0, 0, 0)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
