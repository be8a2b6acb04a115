"""wait, top and gc."""

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import time

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel
SLEEP = ["/bin/sleep", "1000"]


def sh(text):
    return ["/bin/sh", "-c", text]


def begin(runtime, *words, **kw):
    """Starts a command that runs concurrently with the test."""
    return subprocess.Popen(runtime.argv(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)


def end(process):
    out, err = process.communicate(timeout=harness.WATCHDOG)
    return process.returncode, out, err


# ---- wait


def begin_wait(runtime, *words):
    """Starts `wait` and returns once it has a pidfd for the container's init."""
    process = begin(runtime, "wait", *words)
    folder = "/proc/%d/fd" % process.pid
    end = time.monotonic() + harness.WATCHDOG
    while process.poll() is None and time.monotonic() < end:
        try:
            if any("pidfd" in os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)):
                return process
        except OSError:
            os.sched_yield()
    raise AssertionError("wait did not start: %s" % (process.communicate(),))


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 0), ("exit 255", 255)])
def test_wait_for_the_end(pyrunc, make_bundle, script, status):
    """Init is not our child; its status comes through the pidfd. (pid 1 in a namespace cannot kill itself.)"""
    id = pyrunc.create(make_bundle(args=sh(script)))
    waiting = begin_wait(pyrunc, id)
    pyrunc.start(id)
    code, out, err = end(waiting)
    assert (code, err) == (0, "") and out == "%d\n" % status


def test_wait_for_a_container_that_is_killed(pyrunc, make_bundle):
    id = pyrunc.started(make_bundle(args=SLEEP))
    waiting = begin_wait(pyrunc, "--format", "json", id)
    pyrunc.kill(id, "KILL")
    code, out, _err = end(waiting)
    assert code == 0
    found = json.loads(out)
    assert (found["id"], found["status"], found["signal"]) == (id, 137, 9) and found["oom_killed"] in (False, None)


def test_wait_knows_the_status_that_an_earlier_wait_has_seen(pyrunc, make_bundle):
    id = pyrunc.create(make_bundle(args=sh("exit 9")))
    waiting = begin_wait(pyrunc, id)
    pyrunc.start(id)
    assert end(waiting)[1] == "9\n"
    assert pyrunc.ok("wait", id).out == "9\n"


def test_wait_after_a_foreground_run(pyrunc, make_bundle):
    id = pyrunc.new_id()
    assert pyrunc.run(make_bundle(args=sh("exit 3")), "--keep", id=id).code == 3
    assert pyrunc.ok("wait", id).out == "3\n"


def test_wait_if_the_status_is_unknown(pyrunc, make_bundle):
    id = pyrunc.started(make_bundle(args=SLEEP))
    pyrunc.stopped(id)
    result = pyrunc.call("wait", id)
    document = json.loads(pyrunc.ok("wait", "--format", "json", id).out)
    if document["status"] is None:
        assert result.code == 1 and "no longer known" in result.err and result.err.count("\n") == 1
    else:  # it has not been reaped: it is a zombie
        assert document["status"] == 137


def test_wait_with_a_timeout(pyrunc, make_bundle):
    id = pyrunc.started(make_bundle(args=SLEEP))
    result = pyrunc.call("wait", "--timeout", "10ms", id)
    assert result.code == 1 and "has not ended in time" in result.err
    assert pyrunc.status(id) == "running"


def test_wait_reports_that_memory_ran_out(pyrunc, make_bundle):
    bundle = make_bundle({"/linux/resources/memory": {"limit": 24 << 20}}, args=sh("head -c 200m /dev/zero | tail"))
    id = pyrunc.create(bundle)
    waiting = begin_wait(pyrunc, "--format", "json", id)
    pyrunc.start(id)
    assert json.loads(end(waiting)[1])["oom_killed"] is True


@pytest.mark.parametrize("words", [["none"], ["--timeout", "x", "ID"], ["--format", "xml", "ID"], []])
def test_wait_usage(pyrunc, words):
    result = pyrunc.call("wait", *words)
    assert result.code == 1 and result.err.count("\n") == 1


# ---- top


def test_top_without_a_terminal(pyrunc, make_bundle):
    id = pyrunc.started(make_bundle(args=sh("while :; do :; done")))
    result = pyrunc.ok("top", "--interval", "300ms", "--count", "2")
    first, second = [block.splitlines() for block in result.out.strip().split("\n\n")]
    assert first[0].split() == ["ID", "STATUS", "CPU", "%", "MEMORY", "LIMIT", "PIDS", "READ/S", "WRITTEN/S"]
    assert first[1].split()[:3] == [id, "running", "-"]
    assert float(second[1].split()[2]) > 0
    assert "\x1b" not in result.out


def test_top_on_a_terminal(pyrunc, make_bundle):
    """It uses the whole screen and restores it; no line is wider than the terminal; q ends it."""
    id = pyrunc.started(make_bundle(args=SLEEP))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 80, 0, 0))
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(pyrunc.argv("top", "--interval", "1h"), stdin=slave, stdout=slave, stderr=slave, env=pyrunc.env)
    text = b""
    while id.encode() not in text:
        assert select.select([master], [], [], harness.WATCHDOG)[0]
        text += os.read(master, 65536)
    os.write(master, b"q")
    assert process.wait(harness.WATCHDOG) == 0
    while select.select([master], [], [], 0)[0]:
        text += os.read(master, 65536)
    assert text.startswith(b"\x1b[?1049h") and text.endswith(b"\x1b[?1049l")
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_top_restores_the_terminal_when_it_is_terminated(pyrunc):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(pyrunc.argv("top"), stdin=slave, stdout=slave, stderr=slave, env=pyrunc.env)
    text = b""
    while b"ID" not in text:
        assert select.select([master], [], [], harness.WATCHDOG)[0]
        text += os.read(master, 65536)
    process.send_signal(signal.SIGTERM)
    assert process.wait(harness.WATCHDOG) == 0
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("words", [["--interval", "0s"], ["--interval", "x"], ["--count", "x"], ["none"]])
def test_top_usage(pyrunc, words):
    result = pyrunc.call("top", *words)
    assert result.code == 1 and result.err.count("\n") == 1


# ---- gc


def gc(pyrunc, *words):
    return {one["id"]: one for one in json.loads(pyrunc.ok("gc", "--format", "json", *words).out)}


def change_state(pyrunc, id, **values):
    path = os.path.join(pyrunc.root, id, "state.json")
    state = harness.saved_state(pyrunc, id)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**state, **values}, file)


def age(pyrunc, id, seconds):
    """Makes all its files look as if they were last written so many seconds ago."""
    then = time.time() - seconds
    folder = os.path.join(pyrunc.root, id)
    for name in [*os.listdir(folder), "."]:
        os.utime(os.path.join(folder, name), (then, then), follow_symlinks=False)


def test_gc_leaves_existing_containers_alone(pyrunc, make_bundle):
    created, running = pyrunc.create(make_bundle(args=SLEEP)), pyrunc.started(make_bundle(args=SLEEP))
    fresh = pyrunc.started(make_bundle(args=SLEEP))
    pyrunc.stopped(fresh)
    for id in (created, running):
        age(pyrunc, id, 10**6)
    assert gc(pyrunc, "--force") == {}
    assert pyrunc.ok("gc").out == ""
    assert [pyrunc.status(id) for id in (created, running, fresh)] == ["created", "running", "stopped"]


def test_gc_of_a_stopped_container(pyrunc, make_bundle, no_leaks):
    """Directory and cgroups are only shown; with --force they are removed."""
    id = pyrunc.started(make_bundle(args=SLEEP))
    pyrunc.stopped(id)
    age(pyrunc, id, 2 * 86400 + 60)
    found = gc(pyrunc)
    assert list(found) == [id] and found[id]["reason"] == "its init has ended" and found[id]["cgroups"] and not found[id]["removed"]
    assert gc(pyrunc, "--older", "72h") == {}
    assert pyrunc.status(id) == "stopped"
    line = pyrunc.ok("gc").out.splitlines()[1].split()
    assert line[:2] == [id, "2d"]
    assert "; removed" in pyrunc.ok("gc", "--force").out
    assert hoststate.state_dirs(pyrunc.root) == set()


def cgroups_of(pyrunc, id):
    return harness.saved_state(pyrunc, id)["cgroup_paths"]


def test_gc_after_a_boot(pyrunc, make_bundle, no_leaks):
    """A container from before the last boot is stale at any age. Its cgroups no longer exist: those with the same names now belong to others."""
    old, other = pyrunc.started(make_bundle(args=SLEEP)), pyrunc.started(make_bundle(args=SLEEP))
    pyrunc.stopped(old)
    left = cgroups_of(pyrunc, old)
    change_state(pyrunc, old, boot_id="00000000-0000-0000-0000-000000000000", cgroup_paths=cgroups_of(pyrunc, other))
    found = gc(pyrunc)
    assert list(found) == [old] and found[old]["reason"] == "made before the last boot" and found[old]["cgroups"] == []
    assert gc(pyrunc, "--force")[old]["removed"]
    assert pyrunc.status(other) == "running"
    pyrunc.delete(other, "--force")
    for path in set(left.values()):
        os.rmdir(path)


def test_cgroups_that_others_have_created_again(pyrunc, make_bundle, no_leaks):
    """delete kills no process in a cgroup that is not the one that create made."""
    old, other = pyrunc.started(make_bundle(args=SLEEP)), pyrunc.started(make_bundle(args=SLEEP))
    pyrunc.stopped(old)
    left = cgroups_of(pyrunc, old)
    change_state(pyrunc, old, cgroup_paths=cgroups_of(pyrunc, other))
    pyrunc.delete(old)
    assert pyrunc.status(other) == "running"
    pyrunc.delete(other, "--force")
    for path in set(left.values()):
        os.rmdir(path)


def test_gc_of_an_unfinished_create(pyrunc, make_bundle, no_leaks):
    id = pyrunc.started(make_bundle(args=SLEEP))
    pyrunc.stopped(id)
    change_state(pyrunc, id, status="creating")
    assert gc(pyrunc)[id]["reason"] == "an unfinished create"
    os.unlink(os.path.join(pyrunc.root, id, "state.json"))
    assert gc(pyrunc) == {}, "a create may be about to write it"
    age(pyrunc, id, 60)
    assert gc(pyrunc, "--force")[id]["removed"]


def test_gc_of_a_damaged_state(pyrunc, make_bundle, no_leaks):
    """It is only removed if none of its processes is running."""
    id = pyrunc.started(make_bundle(args=SLEEP))
    pid = pyrunc.state(id)["pid"]
    with open(os.path.join(pyrunc.root, id, "state.json"), "w", encoding="utf-8") as file:
        file.write("{")
    found = gc(pyrunc, "--force")[id]
    assert not found["removable"] and not found["removed"] and "1 processes" in found["reason"]
    with harness.Watched(pid) as watched:
        os.kill(pid, signal.SIGKILL)
        watched.wait()
    assert gc(pyrunc, "--force")[id]["removed"]


def test_gc_of_mounts(pyrunc, make_bundle, no_leaks):
    """Mounts below the directory of a container would prevent its removal."""
    id = pyrunc.started(make_bundle(args=SLEEP))
    pyrunc.stopped(id)
    point = os.path.join(pyrunc.root, id, "left")
    os.mkdir(point)
    subprocess.run(["mount", "-t", "tmpfs", "left", point], check=True)
    os.mkdir(point + "/below")
    subprocess.run(["mount", "-t", "tmpfs", "left", point + "/below"], check=True)
    age(pyrunc, id, 10**6)
    assert gc(pyrunc)[id]["mounts"] == [point, point + "/below"]
    assert gc(pyrunc, "--force")[id]["removed"]


def test_gc_leaves_other_programs_files_alone(pyrunc, tmp_path):
    """--root is a directory of another program: the state of runc, ordinary directories, empty ones."""
    root = tmp_path / "root"
    for name in ("runc/state.json", "crun/status", "data/file"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text('{"id":"x"}')
    (root / "empty").mkdir(0o700)
    root.chmod(0o700)
    pyrunc.root = str(root)
    for name in os.listdir(root):
        age(pyrunc, name, 10**6)
    before = hoststate.snapshot(root)
    assert gc(pyrunc, "--force") == {}
    assert hoststate.snapshot(root) == before


def test_gc_of_the_cache_of_older_versions(pyrunc):
    """They kept compiled filters in a directory that runc's list reports as a broken container."""
    old = os.path.join(pyrunc.root, "@cache")
    os.makedirs(old + "/seccomp", 0o700)
    with open(old + "/seccomp/0123", "wb") as file:
        file.write(b"a filter")
    assert gc(pyrunc)["@cache"]["reason"] == "filters cached by an older version" and os.path.isdir(old)
    assert gc(pyrunc, "--force")["@cache"]["removed"]
    assert os.listdir(pyrunc.root) == []


@pytest.mark.parametrize("other", ["runc", "crun"])
def test_the_list_of_other_runtimes_in_a_shared_root(pyrunc, make_bundle, other, no_leaks):
    """If two runtimes share a root, as below Docker, the other one does not mention the compiled filters that pyrunc keeps there."""
    if not shutil.which(other):
        pytest.skip("no %s on this machine" % other)
    assert pyrunc.run(make_bundle({"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}, args=["/bin/true"])).code == 0
    assert len(os.listdir(pyrunc.root)) == 1, "a filter is cached"
    seen = subprocess.run([other, "--root", pyrunc.root, "list"], capture_output=True, text=True, timeout=harness.WATCHDOG, check=False)
    assert (seen.returncode, seen.stderr) == (0, "") and len(seen.stdout.splitlines()) == 1, seen
    with open(os.path.join(pyrunc.root, "no-container"), "w", encoding="utf-8"):
        os.mkdir(os.path.join(pyrunc.root, "@cache"))
    broken = subprocess.run([other, "--root", pyrunc.root, "list"], capture_output=True, text=True, timeout=harness.WATCHDOG, check=False)
    pyrunc.ok("gc", "--force")
    os.unlink(os.path.join(pyrunc.root, "no-container"))
    if not broken.stderr and other == "crun":
        pytest.skip("this crun says nothing about a directory without a container either")  # 1.8
    assert broken.stderr, "the control: the other runtime reports a directory"


def test_gc_skips_containers_that_another_command_has_locked(pyrunc, make_bundle):
    id = pyrunc.started(make_bundle(args=SLEEP))
    pyrunc.stopped(id)
    age(pyrunc, id, 10**6)
    fd = os.open(os.path.join(pyrunc.root, id), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert gc(pyrunc, "--force") == {}
    os.close(fd)
    assert list(gc(pyrunc)) == [id]


def test_gc_of_a_missing_root(pyrunc, tmp_path):
    pyrunc.root = str(tmp_path / "none")
    assert pyrunc.ok("gc", "--force").out == ""
