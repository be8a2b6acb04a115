"""Resources that run out: the disk of the state root, descriptors, processes and memory. After each fault, the same holds as in
test_fault_table.py."""

import os
import subprocess

import pytest

import harness
import hoststate
from test_fault_table import STRACE, again, clear

pytestmark = pytest.mark.kernel


@pytest.fixture
def small(runtime, tmp_path):
    """The state root on a separate file system, which can be filled and made read-only."""
    top = tmp_path / "small"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", top], check=True)
    runtime.root = str(top / "root")
    yield top
    remount(top, "rw")
    (top / "filler").unlink(missing_ok=True)
    runtime.clean()
    subprocess.run(["umount", top], check=True)


def remount(top, how):
    subprocess.run(["mount", "-o", "remount," + how, top], check=True)


def fill(top):
    with open(top / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


# ---- the file system of the state root


def test_full_disk_at_create(pyrunc, waiting, small, no_leaks):
    fill(small)
    id = pyrunc.new_id()
    assert "no space left" in clear(pyrunc.call("create", "--bundle", waiting, id))
    (small / "filler").unlink()
    again(pyrunc, waiting, id)


def test_full_disk_after_create(pyrunc, waiting, small, no_leaks):
    """A container whose state cannot be written is started or refused, and can be deleted without writing."""
    id = pyrunc.create(waiting)
    fill(small)
    clear(pyrunc.call("start", id), 0, 1)
    clear(pyrunc.call("kill", id, "KILL"), 0)
    clear(pyrunc.call("delete", "--force", id), 0)
    (small / "filler").unlink()
    again(pyrunc, waiting, id)


def test_read_only_disk_after_create(pyrunc, waiting, small, no_leaks):
    """Reading commands and kill work; delete reports what is left, and finishes once it can."""
    id = pyrunc.create(waiting)
    pyrunc.start(id)
    remount(small, "ro")
    assert pyrunc.status(id) == "running"
    pid = pyrunc.state(id)["pid"]
    with harness.Watched(pid) as init:
        clear(pyrunc.call("kill", id, "KILL"), 0)
        init.wait()
    assert "ead-only" in clear(pyrunc.call("delete", "--force", id))
    assert hoststate.cgroups(os.path.basename(waiting.config["linux"]["cgroupsPath"])) == set()
    remount(small, "rw")
    again(pyrunc, waiting, id)


def test_read_only_disk_at_create(pyrunc, waiting, small, no_leaks):
    pyrunc.call("list")
    remount(small, "ro")
    id = pyrunc.new_id()
    assert "ead-only" in clear(pyrunc.call("create", "--bundle", waiting, id))
    remount(small, "rw")
    again(pyrunc, waiting, id)


# ---- descriptors, processes, memory


@pytest.mark.slow
def test_each_number_of_descriptors(pyrunc, make_bundle, no_leaks):
    """Too few give a clear error; a container that starts is complete, including its masks."""
    bundle = make_bundle({"/linux/maskedPaths": ["/secret"]}, args=["/bin/cat", "/secret"])
    (bundle.rootfs / "secret").write_text("secret")
    outcomes = set()
    for number in range(4, 41):
        id = pyrunc.new_id()
        argv = ["prlimit", "--nofile=%d" % number, "--", *pyrunc.argv("create", "--bundle", bundle, id)]
        with harness.Capture() as err:
            null = subprocess.DEVNULL
            code = subprocess.run(argv, stdin=null, stdout=null, stderr=err.file, env=pyrunc.env, timeout=harness.WATCHDOG).returncode
            text = err.text()
        assert code == 0 or "raceback" not in text and "internal error" not in text and len(text.splitlines()) == 1, (number, code, text)
        outcomes.add(code)
        if code == 0:
            result = pyrunc.call("start", id)
            assert result.code in (0, 1) and "secret" not in result.out, (number, result)
        clear(pyrunc.call("delete", "--force", id), 0)
        assert no_leaks.left() == {}, number
    assert 0 in outcomes and outcomes - {0}, outcomes
    again(pyrunc, bundle, pyrunc.new_id())


def test_no_more_processes(pyrunc, waiting, token, no_leaks):
    """The caller's cgroup does not allow it to have children."""
    top = hoststate.CGROUP / "pids" if (hoststate.CGROUP / "pids").is_dir() else hoststate.CGROUP
    group = top / (token + "-few")
    group.mkdir()
    try:
        if not (group / "pids.max").exists():
            pytest.skip("no pids controller on this machine")
        (group / "pids.max").write_text("1")
        id = pyrunc.new_id()
        words = ["/bin/sh", "-c", 'echo $$ >"$0"/cgroup.procs && exec "$@"', str(group), *pyrunc.argv("create", "--bundle", waiting, id)]
        with harness.Capture() as err:
            null = subprocess.DEVNULL
            code = subprocess.run(words, stdin=null, stdout=null, stderr=err.file, env=pyrunc.env, timeout=harness.WATCHDOG).returncode
            text = err.text()
        assert code == 1 and len(text.splitlines()) == 1 and "raceback" not in text, text
        assert "temporarily unavailable" in text.lower(), text
    finally:
        hoststate.sweep(token + "-few")
    again(pyrunc, waiting, id)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists(STRACE), reason="no strace on this machine")
@pytest.mark.parametrize("call", ["mmap", "clone3", "fsopen", "openat2", "open_tree", "mkdirat", "socketpair", "pidfd_send_signal"])
def test_memory_that_is_not_available(pyrunc, waiting, no_leaks, call):
    """ENOMEM for each of the first three calls of a kind, on either side."""
    for number in (1, 2, 3):
        id = pyrunc.new_id()
        inject = ["-e", "trace=" + call, "-e", "inject=%s:error=ENOMEM:when=%d" % (call, number)]
        argv = [STRACE, "-D", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none", *inject, *pyrunc.argv("create", "--bundle", waiting, id)]
        with harness.Capture() as err:
            null = subprocess.DEVNULL
            code = subprocess.Popen(argv, stdin=null, stdout=null, stderr=err.file, env=pyrunc.env).wait(harness.WATCHDOG)
            text = err.text()
        assert "raceback" not in text and "internal error" not in text, (number, text)
        assert code == 0 or len(text.splitlines()) <= 1, (number, code, text)
        clear(pyrunc.call("delete", "--force", id), 0)
    again(pyrunc, waiting, pyrunc.new_id())
