"""checkpoint and restore when criu is missing or fake, fails, or is killed midway: there is one error message, and nothing has changed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import pytest

import harness
import hoststate
from dumping import CRIU
from test_checkpoint_faults import refused, sentence

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.skipif(not CRIU, reason="this machine has no criu")]
PROGRAMS = ["/usr/local/sbin/criu", "/usr/local/bin/criu", "/usr/sbin/criu", "/usr/bin/criu", "/sbin/criu", "/bin/criu"]


def without_criu(argv, **kw):
    """In a mount namespace in which no criu can be executed."""
    hide = "; ".join("[ ! -e %s ] || mount --bind /dev/null %s" % (path, path) for path in PROGRAMS)
    return subprocess.run(["unshare", "--mount", "sh", "-c", hide + '; exec "$@"', "sh", *argv], capture_output=True, text=True, **kw)


def test_no_criu(counter, pyrunc, no_leaks):
    made = counter().run()
    result = without_criu(made.runtime.argv("checkpoint", "--help"))
    assert result.returncode == 1 and "no criu on this host" in result.stderr
    result = without_criu(made.runtime.argv("checkpoint", "--image-path", made.images, made.id))
    assert result.returncode == 1 and "no criu on this host" in result.stderr
    assert not made.images.exists() and made.step() == "1"
    made.dumped()
    result = without_criu(made.runtime.argv("restore", "--bundle", made.bundle, "--image-path", made.images, "-d", made.id))
    assert result.returncode == 1 and "no criu on this host" in result.stderr and not made.known()


def test_only_the_host_s_criu_is_executed(counter, pyrunc, no_leaks):
    """The class of CVE-2026-84042: programs in the caller's PATH, the bundle, the working directory or the image are ignored."""
    made = counter()
    marker = made.bundle.path / "executed"
    for folder in (made.bundle.path, made.bundle.rootfs / "bin", made.bundle.rootfs / "sbin", made.bundle.rootfs / "usr/sbin"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("criu", "tar", "ip", "iptables", "sh" if folder == made.bundle.path else "nft"):
            path = folder / name
            if not path.exists():
                path.write_text("#!/bin/sh\ntouch %s\nexit 1\n" % marker)
                path.chmod(0o755)
    made.run()
    env = {"PATH": ".:%s" % made.bundle.path}
    made.dumped(env=env, cwd=made.bundle.path)
    made.restored(env=env, cwd=made.bundle.path)
    assert not marker.exists() and made.step() == "1"
    made.runtime.delete(made.id, "--force")


def settings(made, moment, act):
    """CRIU runs this script for its notifications, so that a test can act at a certain moment."""
    script = made.bundle.path / "script.sh"
    script.write_text('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != %s ] || %s\n' % (moment, act))
    script.chmod(0o755)
    path = made.bundle.path / "criu.conf"
    path.write_text("action-script %s\n" % script)
    made.bundle.patch({"/annotations": {"org.criu.config": str(path)}})


KILL = "kill -9 $PPID"


@pytest.mark.parametrize("moment", ["pre-dump", "network-lock", "post-dump"])
@pytest.mark.parametrize("act", [KILL, "exit 1"], ids=["killed", "fails"])
def test_criu_ends_during_a_dump(counter, pyrunc, moment, act, no_leaks):
    """The container is neither stopped nor left frozen, and continues counting."""
    made = counter()
    settings(made, moment, act)
    made.run(globals=["--allow-annotation-paths"])
    assert made.step() == "1"
    said = sentence(made.checkpoint())
    assert "it was killed by signal 9" in said if act == KILL else "criu failed" in said
    assert said.endswith("log file: %s/dump.log" % made.work)
    assert made.runtime.status(made.id) == "running"
    assert made.step() == "2"
    loopback(made.pid())
    made.runtime.delete(made.id, "--force")


TO_ITSELF = (
    "import socket; a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(('127.0.0.1', 0)); a.settimeout(10); "
    "a.sendto(b'x', a.getsockname()); a.recv(1)"
)


def loopback(pid):
    """A packet gets through in the network namespace of the process, so criu's lock has been removed."""
    words = ["nsenter", "--target", str(pid), "--net", sys.executable, "-I", "-c", TO_ITSELF]
    done = subprocess.run(words, capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert done.returncode == 0, done.stderr


def cut_off(pid):
    words = ["nsenter", "--target", str(pid), "--net", sys.executable, "-I", "-c", TO_ITSELF.replace("10)", "1)")]
    return subprocess.run(words, capture_output=True, timeout=harness.WATCHDOG).returncode != 0


@pytest.fixture
def killed(counter, pyrunc):
    """killed(made): SIGKILL ends its checkpoint in the middle of the dump, and CRIU with it; the container's network stays locked."""

    def kill(made, *options):
        reached = harness.fifo(str(made.bundle.path / "reached"))
        settings(made, "post-dump", "{ echo here > %s; while :; do sleep 1; done; }" % reached)
        made.run(globals=["--allow-annotation-paths"])
        assert made.step() == "1"
        null = subprocess.DEVNULL
        words = ["checkpoint", "--image-path", made.images, *options, made.id]
        process = subprocess.Popen(made.runtime.argv(*words), stdin=null, stdout=null, stderr=null)
        assert harness.lines_of(reached) == ["here"]
        script = [int(pid) for pid, text in hoststate.processes(str(made.bundle.path)).items() if "script.sh" in text]
        process.kill()
        process.wait(harness.WATCHDOG)
        for pid in script:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(made.images)
        assert cut_off(made.pid())
        (made.bundle.path / "criu.conf").write_text("")
        return made

    return kill


def test_a_checkpoint_that_is_killed(killed, counter, no_leaks):
    """No process was left to remove the lock: `resume` does it, once."""
    made = killed(counter())
    assert made.runtime.status(made.id) == "running"
    made.runtime.ok("resume", made.id)
    assert not cut_off(made.pid()) and made.step() == "2"
    assert made.runtime.call("resume", made.id).code == 1
    made.again()
    assert made.step() == "3"
    made.runtime.delete(made.id, "--force")


def test_a_checkpoint_after_one_that_was_killed(killed, counter, no_leaks):
    made = killed(counter())
    made.dumped("--leave-running")
    assert not cut_off(made.pid()) and made.step() == "2"
    made.runtime.delete(made.id, "--force")


@pytest.mark.parametrize("stopped", [False, True], ids=["alive", "stopped"])
def test_a_pod_s_network_after_a_killed_checkpoint(killed, counter, stopped, no_leaks):
    """The network namespace belongs to others and remains: delete removes the lock, whether the container still runs or not."""
    sandbox = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        assert sandbox.stdout.readline() == b"\n"
        made = counter({"/linux/namespaces/1": {"type": "network", "path": "/proc/%d/ns/net" % sandbox.pid}})
        killed(made)
        assert cut_off(sandbox.pid)
        if stopped:
            made.runtime.stopped(made.id)
            assert cut_off(sandbox.pid)
            made.runtime.delete(made.id)
        else:
            made.runtime.delete(made.id, "--force")
        assert not cut_off(sandbox.pid)
    finally:
        sandbox.kill()
        sandbox.wait()
        sandbox.stdout.close()


MOMENTS = ["pre-restore", "setup-namespaces", "post-setup-namespaces", "post-restore", "pre-resume"]


@pytest.mark.parametrize(("moment", "act"), [(m, act) for act in (KILL, "exit 1") for m in MOMENTS][:-1])  # CRIU ignores the last one
def test_criu_ends_during_a_restore(counter, pyrunc, moment, act, no_leaks):
    """Nothing is left, and the images can be used again."""
    made = counter()
    made.run().dumped()
    settings(made, moment, act)
    said = refused(made, globals=["--allow-annotation-paths"])
    assert "it was killed by signal 9" in said if act == KILL else "criu failed" in said
    made.restored()
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restore_that_is_killed(counter, pyrunc, number, no_leaks):
    """TERM: everything is undone before the command exits. KILL: criu is killed too, and `delete --force` removes what is left."""
    made = counter()
    made.run().dumped()
    before = left_by_criu()
    reached = harness.fifo(str(made.bundle.path / "reached"))
    settings(made, "post-restore", "{ echo here > %s; while :; do sleep 1; done; }" % reached)
    words = ["--allow-annotation-paths", "restore", "-d", "--bundle", made.bundle, "--image-path", made.images]
    null = subprocess.DEVNULL
    process = subprocess.Popen(made.runtime.argv(*words, made.id), stdin=null, stdout=null, stderr=null)
    assert harness.lines_of(reached) == ["here"]
    script = [int(pid) for pid, text in hoststate.processes(str(made.bundle.path)).items() if "script.sh" in text]
    process.send_signal(number)
    process.wait(harness.WATCHDOG)
    for pid in script:  # a child of criu, now orphaned; it is in the container's cgroup, so it may have been killed with the rest
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if number == signal.SIGTERM:
        assert process.returncode == 128 + number and not made.known()
    else:
        made.runtime.ok("delete", "--force", made.id)
    assert set(left_by_criu()) <= set(before)  # other runs may do the same at this time


def left_by_criu():
    """Mount points of criu in /tmp, which it does not remove if it is killed."""
    return sorted(name for name in os.listdir("/tmp") if name.startswith(".criu"))


def test_a_failing_hook(counter, pyrunc, no_leaks):
    made = counter()
    made.run().dumped()
    made.bundle.patch({"/hooks": {"createRuntime": [{"path": "/bin/false"}]}})
    assert "error running createRuntime hook #0: exit status 1" in refused(made)
