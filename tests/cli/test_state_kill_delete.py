"""state, kill and delete: output formats, signal names, and which command is allowed in which state."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z")


# ---- state


def test_state_fields(runtime, make_bundle, no_leaks):
    bundle = make_bundle({"/annotations": {"org.example.a": "1", "org.example.b": ""}}, args=harness.WAIT_FOR_TERM)
    id = runtime.create(bundle)
    result = runtime.ok("state", id)
    assert result.err == ""
    state = json.loads(result.out)
    assert state["id"] == id
    assert state["status"] == "created"
    assert state["bundle"] == str(bundle.path)
    assert state["annotations"] == {"org.example.a": "1", "org.example.b": ""}
    assert isinstance(state["pid"], int) and os.path.exists("/proc/%d" % state["pid"])
    assert TIME.fullmatch(state["created"])
    assert re.fullmatch(r"1\.\d+\.\d+\S*", state["ociVersion"])
    runtime.ok("delete", "--force", id)


def test_state_rootfs_is_absolute(runtime, waiting):
    """buildkit looks up users there. crun prints the path unchanged from the config."""
    if runtime.name == "crun":
        pytest.skip("crun prints the path of the config")
    id = runtime.create(waiting)
    assert runtime.state(id)["rootfs"] == str(waiting.rootfs)


def test_state_of_each_status(runtime, waiting):
    id = runtime.create(waiting)
    pid = runtime.state(id)["pid"]
    assert runtime.status(id) == "created"
    runtime.start(id)
    assert runtime.state(id)["pid"] == pid
    assert runtime.status(id) == "running"
    runtime.stopped(id)
    state = runtime.state(id)
    assert (state["status"], state["pid"]) == ("stopped", 0)


def test_state_of_the_unknown(runtime):
    result = runtime.call("state", "no-such-id")
    assert (result.code, result.out) == (1, "")
    assert "container does not exist" in result.said
    assert not runtime.is_pyrunc or result.said == "state failed: container does not exist (no-such-id)"


def test_zombie_is_stopped(runtime, make_bundle):
    """An init that has ended but was not waited for counts as stopped. crun reports it as running."""
    if runtime.name == "crun":
        pytest.skip("crun reports a zombie as running")
    import ctypes

    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)  # this process becomes its parent, and does not wait for it yet
    try:
        id = runtime.create(make_bundle())
        pid = runtime.state(id)["pid"]
        fd = os.pidfd_open(pid)
        runtime.start(id)
        os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOWAIT)
        os.close(fd)
        assert hoststate.state_of(pid) == "Z"
        assert runtime.status(id) == "stopped"
        os.waitpid(pid, 0)
        runtime.delete(id)
    finally:
        libc.prctl(36, 0, 0, 0, 0)


def test_state_needs_no_bundle(runtime, waiting):
    id = runtime.started(waiting)
    os.rename(waiting.path, str(waiting.path) + ".moved")
    try:
        assert runtime.status(id) == "running"
        runtime.ok("delete", "--force", id)
    finally:
        os.rename(str(waiting.path) + ".moved", waiting.path)


def test_state_without_annotations(runtime, waiting):
    assert "annotations" not in runtime.state(runtime.create(waiting)) or runtime.name == "crun"


def test_state_indent(pyrunc, waiting):
    """Two blanks, as with runc: people read it and scripts compare it."""
    text = pyrunc.ok("state", pyrunc.create(waiting)).out
    assert text.startswith('{\n  "ociVersion": "')
    assert json.loads(text)["ociVersion"] == "1.3.0" or json.loads(text)["ociVersion"].startswith("1.")


# ---- kill

NAMES = [("15", "TERM"), ("TERM", "TERM"), ("SIGTERM", "TERM"), ("term", "TERM"), ("sigterm", "TERM"), ("SigTerm", "TERM"), ("1", "HUP")]


@pytest.mark.parametrize("given, wanted", [*NAMES, ("USR2", "USR2"), ("SIGWINCH", "WINCH")])
def test_signal_names(runtime, make_bundle, given, wanted, no_leaks):
    bundle = make_bundle(args=["/bin/sh", "-c", "trap 'echo got > /seen; exit' %s; echo up > /gate; sleep 1000 & wait" % wanted])
    gate, seen = harness.fifo(bundle.rootfs / "gate"), harness.fifo(bundle.rootfs / "seen")
    id = runtime.started(bundle)
    harness.lines_of(gate)
    result = runtime.ok("kill", id, given)
    assert (result.out, result.err) == ("", "")
    assert harness.lines_of(seen) == ["got"]
    runtime.stopped(id, None)
    runtime.ok("delete", "--force", id)


def test_default_signal_is_term(runtime, waiting):
    id = runtime.started(waiting)
    pid = runtime.state(id)["pid"]
    harness.until_caught(pid, signal.SIGTERM)
    with harness.Watched(pid) as watched:
        runtime.ok("kill", id)
        watched.wait()
    assert runtime.status(id) == "stopped"


def test_signal_zero(runtime, waiting):
    """Callers use it to check whether the container is running."""
    id = runtime.started(waiting)
    runtime.ok("kill", id, "0")
    runtime.stopped(id)
    result = runtime.call("kill", id, "0")
    assert result.code == 1 and "container not running" in result.err


@pytest.mark.parametrize("bad", ["NOSUCH", "SIGNOSUCH", "SIG", "9x", "1.5"])
def test_bad_signals(runtime, waiting, bad):
    id = runtime.started(waiting)
    assert runtime.call("kill", id, bad).code == 1
    assert runtime.status(id) == "running"


def test_bad_signal_words(pyrunc, waiting):
    id = pyrunc.started(waiting)
    assert 'unknown signal "NOSUCH"' in pyrunc.call("kill", id, "NOSUCH").err
    for number in ("65", "-1", "4294967305", ""):
        assert pyrunc.call("kill", id, number).code == 1
    assert pyrunc.status(id) == "running"


@pytest.mark.parametrize("given", ["SIGRTMIN+3", "RTMIN+3", "rtmin+3", "37", "RTMAX", "SIGRTMAX-1"])
def test_realtime_signals(pyrunc, waiting, given):
    """Older versions of cri-o pass the StopSignal of the image as text; systemd images set SIGRTMIN+3."""
    id = pyrunc.started(waiting)
    pid = pyrunc.state(id)["pid"]
    pyrunc.ok("kill", id, given)  # pid 1 has no handler, so the signal is ignored, which is fine
    assert pyrunc.state(id)["pid"] == pid


def test_kill_of_the_unknown(runtime):
    result = runtime.call("kill", "no-such-id", "KILL")
    assert result.code == 1 and "container does not exist" in result.err


def test_kill_of_the_stopped(runtime, waiting):
    """containerd and cri-o look for these words and treat the kill as done."""
    id = runtime.started(waiting)
    runtime.stopped(id)
    result = runtime.call("kill", id, "TERM")
    assert result.code == 1 and "container not running" in result.err


def test_kill_all_of_the_stopped(runtime, waiting):
    """containerd calls `kill --all ID 9` after init has ended, to kill leftovers: status 0 and no output."""
    id = runtime.started(waiting)
    runtime.stopped(id)
    for words in (["kill", "--all", id, "9"], ["kill", "-a", id, "KILL"]):
        result = runtime.ok(*words)
        assert (result.out, result.err) == ("", "")


def test_kill_without_pid_namespace_takes_the_cgroup(runtime, make_bundle, no_leaks):
    """If a container shares the pid namespace, KILL for init also kills its children, and so does --all later."""
    if runtime.name == "crun":
        pytest.skip("crun 1.21 kills init alone without --all")
    namespaces = [{"type": t} for t in ("network", "ipc", "uts", "mount")]
    bundle = make_bundle({"/linux/namespaces": namespaces}, args=["/bin/sh", "-c", "sleep 1000 & echo $! > /gate; sleep 1000"])
    gate = harness.fifo(bundle.rootfs / "gate")
    id = runtime.started(bundle)
    child = int(harness.lines_of(gate)[0])
    with harness.Watched(child) as watched:
        runtime.ok("kill", "--all", id, "KILL")
        watched.wait()
    runtime.stopped(id, None)
    runtime.delete(id)


def test_leftovers_are_killed_after_init(runtime, make_bundle, no_leaks):
    """Init has exited by itself and its child is still running in the cgroup: `kill --all` finds it."""
    namespaces = [{"type": t} for t in ("network", "ipc", "uts", "mount")]
    bundle = make_bundle({"/linux/namespaces": namespaces}, args=["/bin/sh", "-c", "sleep 1000 & echo $! > /gate"])
    gate = harness.fifo(bundle.rootfs / "gate")
    id = runtime.create(bundle)
    with harness.Watched(runtime.state(id)["pid"]) as init:
        runtime.start(id)
        child = int(harness.lines_of(gate)[0])
        init.wait()
    with harness.Watched(child) as watched:
        runtime.ok("kill", "--all", id, "9")
        watched.wait()
    runtime.delete(id)


def test_kill_does_not_wait(runtime, make_bundle):
    """It returns when the signal has been sent, not when the program is gone."""
    bundle = make_bundle(args=["/bin/sh", "-c", "trap 'read x < /door; exit' TERM; echo up > /gate; sleep 1000 & wait"])
    gate = harness.fifo(bundle.rootfs / "gate")
    harness.fifo(bundle.rootfs / "door")
    id = runtime.started(bundle)
    harness.lines_of(gate)
    runtime.ok("kill", id, "TERM")
    assert runtime.status(id) == "running"


def test_kill_never_hits_an_unrelated_process(pyrunc, waiting):
    """The saved pid now belongs to another process: the container counts as stopped, and the other process keeps running."""
    import subprocess

    id = pyrunc.started(waiting)
    pid = pyrunc.stopped(id)
    stranger = subprocess.Popen(["/bin/sleep", "1000"])
    try:
        changed = 0
        for top, _, files in os.walk(os.path.join(pyrunc.root, id)):
            for name in files:
                path = os.path.join(top, name)
                with open(path, "rb") as file:
                    data = file.read()
                new = re.sub(rb"\b%d\b" % pid, b"%d" % stranger.pid, data)
                if new != data:
                    changed += 1
                    with open(path, "wb") as file:
                        file.write(new)
        assert changed, "no state file contains the pid"
        assert pyrunc.status(id) == "stopped"
        assert "container not running" in pyrunc.call("kill", id, "KILL").err
        pyrunc.ok("delete", "--force", id)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


# ---- delete


def test_delete_of_each_state(runtime, waiting, no_leaks):
    id = runtime.create(waiting)
    result = runtime.ok("delete", id)
    assert (result.out, result.err) == ("", "")
    id = runtime.started(waiting)
    result = runtime.call("delete", id)
    assert result.code == 1
    assert "is not stopped: running" in result.err or runtime.name == "crun"
    assert runtime.status(id) == "running"
    runtime.stopped(id)
    runtime.ok("delete", id)
    assert "container does not exist" in runtime.call("delete", id).err


def test_delete_words(pyrunc, waiting):
    id = pyrunc.started(waiting)
    assert "cannot delete container %s that is not stopped: running" % id in pyrunc.call("delete", id).err


def test_delete_force_of_the_unknown(runtime):
    """containerd calls it after each delete, from another process."""
    result = runtime.ok("delete", "--force", "no-such-id")
    assert (result.out, result.err) == ("", "")


def test_delete_of_the_unknown(runtime):
    result = runtime.call("delete", "no-such-id")
    assert result.code == 1 and "container does not exist" in result.err


def test_delete_force_of_the_running(runtime, waiting, no_leaks):
    id = runtime.started(waiting)
    pid = runtime.state(id)["pid"]
    result = runtime.ok("delete", "--force", id)
    assert (result.out, result.err) == ("", "")
    assert hoststate.state_of(pid) in (None, "Z")
    runtime.ok("delete", "--force", id)


def test_delete_removes_sub_cgroups(runtime, make_bundle, no_leaks):
    """Cgroups that the container created below its own are removed too, including deep ones and unusual names."""
    bundle = make_bundle({"/mounts/-": {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}})
    script = (
        "for d in /sys/fs/cgroup /sys/fs/cgroup/pids /sys/fs/cgroup/memory; do "
        'test -e $d/cgroup.procs && mkdir -p $d/a/b/c "$d/x y"; done; true'
    )
    bundle.patch({"/process/args": ["/bin/sh", "-c", script]})
    id = runtime.create(bundle)
    with harness.Watched(runtime.state(id)["pid"]) as init:
        runtime.start(id)
        init.wait()
    runtime.delete(id)


def test_concurrent_deletes(runtime, waiting, no_leaks):
    import subprocess

    id = runtime.started(waiting)
    calls = [subprocess.Popen(runtime.argv("delete", "--force", id), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(6)]
    codes = [call.wait(harness.WATCHDOG) for call in calls]
    assert codes == [0] * 6 or runtime.name == "crun"
    for call in calls:
        call.stderr.close()


@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "directory", "missing"])
def test_delete_force_with_damaged_state(pyrunc, waiting, damage, no_leaks):
    """Every file of the state is damaged in turn: state answers or says why not, and delete --force cleans up."""
    sample = pyrunc.create(waiting)
    names = sorted(n for n in os.listdir(os.path.join(pyrunc.root, sample)) if os.path.isfile(os.path.join(pyrunc.root, sample, n)))
    pyrunc.ok("delete", "--force", sample)
    for name in names:
        id = pyrunc.started(waiting)
        pid = pyrunc.state(id)["pid"]
        path = os.path.join(pyrunc.root, id, name)
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        if damage == "directory":
            os.mkdir(path)
        elif damage != "missing":
            with open(path, "wb") as file:
                file.write({"empty": b"", "truncated": data[: len(data) // 2], "garbage": b"\xff\x00[]"}[damage])
        result = pyrunc.call("state", id)
        assert result.code in (0, 1) and "Traceback" not in result.err, result
        listed = pyrunc.call("list")
        assert listed.code == 0 and "Traceback" not in listed.err, listed
        result = pyrunc.ok("delete", "--force", id)
        assert "Traceback" not in result.err
        with contextlib.suppress(ProcessLookupError), harness.Watched(pid) as watched:  # it may have left its cgroups, but not ended
            watched.wait()
        assert id not in hoststate.state_dirs(pyrunc.root)


# ---- the rest


def test_signal_numbers_agree_with_the_kernel():
    """The tests above use the signal numbers of Python, which are those of the kernel."""
    assert (signal.SIGTERM, signal.SIGUSR2, signal.SIGWINCH, signal.SIGRTMIN) == (15, 12, 28, 34)


FOREIGN = {
    "runc": {"state.json": '{"id": "theirs", "init_process_pid": 1, "cgroup_paths": {"": "/sys/fs/cgroup/x"}}', "exec.fifo": ""},
    "crun": {"status": '{"pid": 1, "cgroup-path": "/x"}', "config.json": "{}"},
    "youki": {"state.json": '{"ociVersion": "1.0.2", "id": "theirs", "status": "running", "pid": 1}', "youki_config.json": "{}"},
}


@pytest.mark.parametrize("owner", FOREIGN)
def test_container_of_another_runtime_under_the_same_root(pyrunc, waiting, owner):
    """Its directory is not changed, whatever the command is; pyrunc's containers next to it keep running."""
    ours = pyrunc.create(waiting)
    place = pathlib.Path(pyrunc.root) / "theirs"
    place.mkdir(mode=0o711)
    for name, text in FOREIGN[owner].items():
        (place / name).write_text(text)
    for words in (["state"], ["kill"], ["start"], ["delete"], ["delete", "--force"], ["exec", "theirs", "true"]):
        result = pyrunc.call(*words[:2], *([] if "theirs" in words else ["theirs"]), *words[2:])
        assert result.code in (1, 255) and len(result.err.splitlines()) == 1, result
        assert "belongs to another runtime" in result.err or words != ["delete", "--force"], result
    assert pyrunc.call("create", "--bundle", waiting, "theirs").code == 1
    assert pyrunc.ok("list", "-q").out.split() == [ours]
    assert json.loads(pyrunc.ok("gc", "--format", "json", "--older", "1ms").out) == []
    assert {p.name: p.read_text() for p in place.iterdir()} == FOREIGN[owner]
    shutil.rmtree(place)
