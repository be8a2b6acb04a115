"""Signals outside of the program's lifetime: while the container is created or deleted, and limits that send signals."""

import os
import resource
import signal
import subprocess

import pytest

import harness

pytestmark = pytest.mark.kernel


@pytest.fixture
def gates(tmp_path):
    """hook(kind) -> the hooks object with a program that reports its pid and waits, and what a test needs to let it continue."""
    came, go = harness.fifo(tmp_path / "came"), harness.fifo(tmp_path / "go")

    def hook(kind):
        return {kind: [{"path": "/bin/sh", "args": ["sh", "-c", "trap '' INT; echo here > %s; read x < %s" % (came, go)]}]}

    return hook, came, go


def running(runtime, command, bundle):
    argv = runtime.argv(command, "--bundle", bundle, runtime.new_id())
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1", "USR2", "ALRM", "XCPU"])
def test_a_create_that_gets_a_signal(pyrunc, make_bundle, gates, no_leaks, command, name):
    """Any signal whose default action ends a process makes create undo its work."""
    hook, came, _go = gates
    process = running(pyrunc, command, make_bundle({"/hooks": hook("createRuntime")}))
    assert harness.lines_of(came) == ["here"]
    process.send_signal(getattr(signal, "SIG" + name))  # the hook is killed as well
    err = process.communicate(timeout=harness.WATCHDOG)[1]
    number = getattr(signal, "SIG" + name)
    assert (process.returncode, err) == (128 + number, "%s failed: interrupted by signal %d\n" % (command, number))


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1"])
def test_the_end_of_a_run_is_not_interrupted(pyrunc, make_bundle, gates, no_leaks, name):
    """The program has ended and its container is being deleted: a signal now has no effect, and everything is deleted."""
    hook, came, go = gates
    process = running(pyrunc, "run", make_bundle({"/hooks": hook("poststop")}, args=["/bin/sh", "-c", "exit 5"]))
    assert harness.lines_of(came) == ["here"]
    process.send_signal(getattr(signal, "SIG" + name))
    fd = os.open(go, os.O_RDWR)  # does not wait for the other end
    os.write(fd, b"\n")
    assert process.communicate(timeout=harness.WATCHDOG)[1] == ""
    assert process.returncode == 5
    os.close(fd)


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_limit_of_the_size_of_files(pyrunc, bundle, no_leaks, command):
    """SIGXFSZ would end the runtime in the middle of the first file that it writes."""
    result = pyrunc.call(
        command, "--bundle", bundle, pyrunc.new_id(), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    )  # fmt: skip
    assert result.code == 1, result
    assert os.listdir(pyrunc.root) == []


def test_the_program_has_the_default_disposition_of_xfsz(runtime, make_bundle):
    bundle = make_bundle(args=["/bin/sh", "-c", "grep SigIgn /proc/self/status"])
    assert int(runtime.run(bundle).out.split()[1], 16) & 1 << (signal.SIGXFSZ - 1) == 0
