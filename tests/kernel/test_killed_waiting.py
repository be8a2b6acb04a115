"""The process that waits for the host side is killed: that is the reported error, whatever fails because of it, and no other process is killed.

The command runs in a child interpreter in which one verb starts by sending SIGKILL to the process that waits for it. The command also has an
unrelated child, as left behind by a shell that executes the runtime.
"""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

import harness
from pyrunc.engine import order

pytestmark = pytest.mark.kernel

CHILD = """
import os, sys
sys.path[:0] = [sys.argv[1]]
from pyrunc import cli, seal
seal.ensure = lambda argv: None
from pyrunc.engine import steps
part, verb = sys.argv[2].split(":")
real = steps.call
def call(p, v, side, entry, run, *extra):
    if (p, v) == (part, verb) and run.pid:
        os.kill(run.pid, 9)
    return real(p, v, side, entry, run, *extra)
steps.call = call
stranger = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
code = cli.main(sys.argv[3:])
lives = os.waitpid(stranger, os.WNOHANG) == (0, 0)
os.kill(stranger, 9)
sys.stdout.write("the stranger lives\\n" if lives else "the stranger was killed\\n")
sys.stdout.flush()
os._exit(code)
"""
NOTIFIES = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}],
}
CHANGES = {
    "/process/oomScoreAdj": 100,
    "/process/rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    "/process/scheduler": {"policy": "SCHED_BATCH"},
}


def rows(table, *phases):
    return [row[1:3] for row in table if row[0] in phases and row[1] != "landlock"]


def call(runtime, row, *words):
    argv = [sys.executable, "-I", "-c", CHILD, str(harness.ROOT / "runtime"), ":".join(row), *runtime.argv(*words)[1:]]
    return subprocess.run(argv, capture_output=True, text=True, timeout=harness.WATCHDOG, env=runtime.env, stdin=subprocess.DEVNULL)


@pytest.fixture
def bundle_of(make_bundle, tmp_path):
    """bundle_of(row) -> a bundle; the socket of the listener exists until the end of the test."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "listener"))
    server.listen(8)

    def made(row):
        changes = dict(CHANGES)
        if row[0] == "seccomp":
            changes["/linux/seccomp"] = {**NOTIFIES, "listenerPath": str(tmp_path / "listener")}
        return make_bundle(changes, args=["/bin/sleep", "1000"])

    yield made
    server.close()


@pytest.mark.parametrize("row", rows(order.CREATE, "limits", "listener"), ids=".".join)
def test_init_is_killed_while_it_waits(pyrunc, bundle_of, row, no_leaks):
    bundle, id = bundle_of(row), pyrunc.new_id()
    failed = call(pyrunc, row, "create", "--bundle", bundle, id)
    assert failed.returncode == 1 and "init died: it was killed by signal 9" in failed.stderr, failed
    assert "the stranger lives" in failed.stdout
    pyrunc.ok("create", "--bundle", bundle, id)
    pyrunc.ok("delete", "--force", id)


@pytest.mark.parametrize("row", rows(order.EXEC, "limits", "cloned", "listener"), ids=".".join)
def test_the_process_of_exec_is_killed_while_it_waits(pyrunc, bundle_of, row):
    id = pyrunc.started(bundle_of(row))
    failed = call(pyrunc, row, "exec", id, "/bin/true")
    assert failed.returncode == 255 and "exec died before the program was executed: it was killed by signal 9" in failed.stderr, failed
    assert "the stranger lives" in failed.stdout
    assert pyrunc.ok("exec", id, "/bin/echo", "works").out == "works\n"
