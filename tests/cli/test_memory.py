"""A process in the container finds no data of the caller in the memory of a waiting init or of a joining process.

The words searched for belong to the host (environment of the command, environment of hooks, mounts). They are in the memory of the command,
and both processes start as a copy of it. In the compiled launcher, the heap also has the thread control block of the C library.
"""

import os
import pathlib
import shutil
import signal
import subprocess

import pytest

import harness

pytestmark = pytest.mark.kernel
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STATIC, PLAIN = harness.STATIC_LAUNCHER, ROOT / "runtime/bin/pyrunc"
EXECVE = {"x86_64": "59", "aarch64": "221"}[os.uname().machine]
THREAD_SIZE = 2560  # as in csrc/clear.c
ENVIRONMENT, HOOK, MOUNT = b"a-word-of-the-callers-environment", b"a-word-of-a-hooks-environment", b"a-mount-of-the-hosts"


@pytest.fixture(params=["static", "plain"])
def command(request, scratch, token, cgroup):
    """The runtime with either launcher."""
    path = STATIC if request.param == "static" else PLAIN
    if not path.exists():
        pytest.skip("the compiled launcher is not built here (make launcher)")
    runtime = harness.Runtime(path, scratch / ("m" + request.param), token + "m", cgroup)
    runtime.env["PYRUNC_TEST_WORD"] = ENVIRONMENT.decode()
    yield runtime
    runtime.clean()


@pytest.fixture
def mounted(scratch):
    """A mount on the host with a unique name."""
    place = scratch / MOUNT.decode()
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)
    place.rmdir()


def found(pid, words):
    """[(word, line of maps, address)] of the words found in writable memory of the process."""
    seen, size = [], 0
    with open("/proc/%d/mem" % pid, "rb", 0) as memory, open("/proc/%d/maps" % pid) as maps:
        for line in maps:
            span, rights = line.split()[:2]
            if "w" not in rights:
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            memory.seek(start)
            data = memory.read(end - start)
            size += len(data)
            seen += [(word.decode(), line.strip(), hex(start + data.index(word))) for word in words if word in data]
    assert size > 1 << 16, "nothing was read"
    return seen


def heap_left(pid):
    """The number of bytes in the heap of the C library that are not zero."""
    with open("/proc/%d/mem" % pid, "rb", 0) as memory, open("/proc/%d/maps" % pid) as maps:
        left = 0
        for line in maps:
            if line.rstrip().endswith("[heap]"):
                start, end = (int(x, 16) for x in line.split()[0].split("-"))
                memory.seek(start)
                left += end - start - memory.read(end - start).count(0)
        return left


def test_a_waiting_init(command, make_bundle, mounted):
    hook = {"path": "/bin/true", "env": ["WORD=" + HOOK.decode()]}
    bundle = make_bundle({"/hooks": {"prestart": [hook], "createContainer": [hook], "poststop": [hook]}})
    id = command.new_id()
    command.ok("create", "--bundle", bundle, id)
    pid = command.state(id)["pid"]
    assert found(pid, [ENVIRONMENT, HOOK, MOUNT]) == []
    assert heap_left(pid) < THREAD_SIZE
    command.ok("start", id)  # it still works
    command.ok("delete", "--force", id)


def test_a_joining_process(command, waiting, mounted):
    """strace stops it at its execve with a delay that is longer than the test."""
    if not shutil.which("strace"):
        pytest.skip("this machine has no strace")
    id = command.create(waiting)
    command.start(id)
    init = command.state(id)["pid"]
    log = mounted / "log"
    words = [command.path, "--root", command.root, "exec", "--env", "A=the-processes-own", id, "/bin/true"]
    tracing = ["strace", "-f", "-o", log, "-P", "/bin/true", "-e", "trace=execve", "-e", "inject=execve:delay_enter=60s"]
    process = subprocess.Popen([*tracing, *words], env=command.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        inside = os.stat("/proc/%d/ns/pid" % init).st_ino
        pid = until_it_is_there(process, inside, init)
        assert found(pid, [ENVIRONMENT, MOUNT]) == []
        assert heap_left(pid) < THREAD_SIZE
        assert found(pid, [b"the-processes-own"]), "the control: data that the process needs is found in the same way"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        command.call("delete", "--force", id)


def until_it_is_there(process, inside, init):
    """The pid of the joining process. It appears before the command ends; there is nothing else to wait for."""
    while process.poll() is None:
        for pid in joined(inside, init):
            return pid
    raise AssertionError("exec has ended: %s" % process.returncode)


def joined(inside, init):
    """Pids in the pid namespace of the container, except init, that are at their execve."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == init:
            continue
        try:
            if os.stat("/proc/%s/ns/pid" % name).st_ino != inside:
                continue
            call = pathlib.Path("/proc/%s/syscall" % name).read_text().split()[0]
        except OSError:
            continue
        if call == EXECVE:
            yield int(name)
