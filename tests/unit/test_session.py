"""The test run checks itself: leftovers of a test fail the run, hanging tests are killed, and the caller's settings have no effect."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys

import pytest

import harness
import hoststate
from session import RT_SIGACTION

pytestmark = pytest.mark.slow
TESTS = harness.ROOT / "tests"


@pytest.fixture
def run(tmp_path):
    """run(text, *options, under=(), **popen) -> Result of a whole run of a file with that text; the command `under` may start it."""

    def go(text, *options, under=(), **popen):
        file = tmp_path / "test_inner.py"
        file.write_text(text)
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS), "TMPDIR": str(tmp_path)}
        plugins = ["-p", "conftest", "-p", "no:cacheprovider"]
        argv = [*under, sys.executable, "-m", "pytest", "-c", str(harness.ROOT / "pyproject.toml"), *plugins, str(file), *options]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.WATCHDOG, env=env, **popen)
        return harness.Result(argv, done.returncode, done.stdout, done.stderr)

    yield go
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("test_inner.py", "__pycache__")] == [], (
        "the directory of a run is left"
    )


def test_a_run_that_leaves_nothing(run):
    result = run("def test_one(tmp_path):\n    (tmp_path / 'file').write_text('')\n")
    assert result.code == 0 and "LEFT" not in result.out, result


def test_a_process_is_found_however_it_escaped(run):
    """It has its own session and environment, and its parent has exited."""
    seconds = "1000.%d" % os.getpid()
    result = run("import subprocess\ndef test_one():\n    subprocess.run(['env', '-i', 'setsid', '--fork', 'sleep', '%s'])\n" % seconds)
    assert result.code == 1 and "1 passed" in result.out, result
    assert "sleep %s (first seen after " % seconds in result.out and "::test_one)" in result.out, result
    assert not [words for words in hoststate.processes(seconds).values() if "sleep" in words]


def test_a_file_is_found(run):
    result = run("import tempfile\ndef test_one():\n    tempfile.mkstemp(prefix='lost')\n")
    assert result.code == 1 and "LEFT BEHIND file" in result.out and "lost" in result.out, result


@pytest.mark.kernel
def test_a_mount_is_found(run, tmp_path):
    """In a separate mount namespace: on the host the mount would outlive this test."""
    text = """\
import subprocess
def test_one(scratch):
    scratch.with_name("m").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", scratch.with_name("m")], check=True)
"""
    result = run(text, under=["unshare", "--mount"])
    assert result.code == 1 and "LEFT BEHIND mount" in result.out, result
    (left,) = tmp_path.glob("pt*")  # nothing below a mount was removed
    shutil.rmtree(left)


@pytest.mark.kernel
def test_leftovers_of_a_killed_run_are_removed(run, tmp_path):
    """Its mounts and its directory; those of a run that is still alive stay."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    of_the_dead, of_the_living = (tmp_path / ("pt%ds%s" % (pid, "x" * 8)) for pid in (dead.pid, os.getpid()))
    for path in (of_the_dead, of_the_living):
        (path / "hierarchy").mkdir(parents=True)
    script = 'mount -t tmpfs none %s/hierarchy && exec "$@"' % of_the_dead
    result = run("def test_one():\n    pass\n", under=["unshare", "--mount", "sh", "-c", script, "sh"])
    assert result.code == 0, result
    assert not of_the_dead.exists() and of_the_living.exists()
    shutil.rmtree(of_the_living)


def test_cgroups_of_another_run_stay(tmp_path):
    """Leftovers of criu are removed if they belong to a dead run or to this one, but not cgroups that another run, or someone else, may have just
    created."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = ["pt%dx-b1/below", "pt%dx-b1", "oc-contracts-%d-abc"]
    for pid in (dead.pid, os.getppid(), os.getpid()):
        for name in names:
            (tmp_path / (name % pid)).mkdir(parents=True, exist_ok=True)
    (tmp_path / "oc1").mkdir()
    (tmp_path / "process").mkdir()
    hoststate.remove_empty(str(tmp_path), os.getpid())
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {name % os.getppid() for name in names} | {"oc1", "process"}


def test_a_hanging_test_is_killed(run):
    result = run("import pytest, time\n@pytest.mark.bound(4)\ndef test_one():\n    time.sleep(1000)\ndef test_two():\n    pass\n")
    assert result.code == 1 and "1 failed, 1 passed" in result.out and "takes longer than 4 s" in result.out, result


def test_a_child_that_raises_does_not_continue_the_run(run):
    """Otherwise the child would continue with the following tests and remove the directory of the run at the end."""
    child = (
        "import os\ndef test_one():\n    if os.fork() == 0:\n        raise ValueError('in the child')\n    assert os.wait()[1] == 70 << 8\n"
    )
    result = run(child + "def test_two():\n    pass\n")
    assert result.code == 0 and "in the child" in result.err and "2 passed" in result.out, result


def test_a_hanging_teardown_is_killed(run):
    fixture = "@pytest.fixture\ndef slow():\n    yield\n    time.sleep(1000)\n"
    result = run("import pytest, time\n" + fixture + "@pytest.mark.bound(4)\ndef test_one(slow):\n    pass\n")
    assert result.code == 1 and "1 passed, 1 error" in result.out and "the clean-up of" in result.out, result


SETTINGS = """\
import os, resource, signal, subprocess
def test_one():
    seen = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
    words = dict(line.split(":", 1) for line in seen.splitlines())
    assert int(words["SigIgn"], 16) == int(words["SigBlk"], 16) == 0
    assert words["Umask"].strip() == "0022"
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    assert {name: os.environ.get(name) for name in ("LC_ALL", "TZ", "TERM", "NOTIFY_SOCKET")} == {
        "LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "xterm", "NOTIFY_SOCKET": None}
    assert "/usr/sbin" in os.environ["PATH"].split(":") and os.environ["HOME"]
"""


def test_settings_of_the_caller_have_no_effect(run):
    def hostile():
        ctypes.CDLL(None).syscall(RT_SIGACTION, 32, (ctypes.c_ulong * 4)(1), None, 8)  # SIG_IGN
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
        os.umask(0o077)
        os.environ["NOTIFY_SOCKET"] = "/nowhere"

    assert run(SETTINGS, preexec_fn=hostile).code == 0


def test_the_exit_status_is_that_of_pytest(run):
    assert run("def test_one():\n    assert False\n").code == 1
    assert run("def test_one():\n    pass\n", "-k", "nothing").code == 5


def test_an_order_can_be_repeated(run):
    text = "import pytest\n@pytest.mark.parametrize('n', range(20))\ndef test_one(n):\n    pass\n"

    def order(*options):
        return [line.split()[0] for line in run(text, "-v", *options).out.splitlines() if "PASSED" in line]

    plain, first, again, other = order(), order("--shuffle", "1"), order("--shuffle", "1"), order("--shuffle", "2")
    assert sorted(plain) == sorted(first) and len(plain) == 20
    assert first == again and len({tuple(plain), tuple(first), tuple(other)}) == 3
