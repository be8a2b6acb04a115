"""containerd through ctr: its shim calls the runtime, reads its JSON log, and keeps the container's process as its child."""

import contextlib
import signal

import pytest

from callers import REFERENCE, gone
from sandbox import BASE, wait_until


@contextlib.contextmanager
def running(containerd, name, *words, command=("sleep", "1000")):
    """A detached container, which is removed by force at the end."""
    containerd.run("--detach", *words, REFERENCE, name, *command).ok()
    try:
        yield name
    finally:
        containerd.ctr("tasks", "rm", "--force", name)
        containerd.ctr("containers", "rm", name)


def run(containerd, *words, **options):
    """A container that is removed at its end."""
    return containerd.run("--rm", *words, **options)


def task(containerd, name):
    """(process id, status) of a task, as ctr lists them."""
    for line in containerd.ctr("tasks", "ls").ok().out.splitlines()[1:]:
        found, pid, status = line.split()
        if found == name:
            return int(pid), status
    return None, None


def test_hello(containerd):
    assert run(containerd, REFERENCE, "hello", "echo", "hello").ok().out == "hello\n"


@pytest.mark.parametrize("status", [0, 7])
def test_exit_status(containerd, status):
    run(containerd, REFERENCE, "status", "sh", "-c", f"exit {status}").exits(status)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("no such file or directory", "/no/such/file"),
        ("executable file not found in $PATH", "nosuch"),
        ("permission denied", "/etc/passwd"),
    ],
    ids=["missing path", "not in PATH", "not executable"],
)
def test_command_that_cannot_run(containerd, words, command):
    """The shim uses only the last error in the runtime's JSON log for its message."""
    result = run(containerd, REFERENCE, "cannot", command)
    assert result.status != 0 and words in result.err and "unable to retrieve OCI runtime error" not in result.err, result
    containerd.ctr("containers", "rm", "cannot")


def test_tty(containerd, world):
    result = world.run_on_tty(
        [
            *containerd.argv("--namespace", containerd.namespace),
            *containerd.run_words("--rm", "--tty", REFERENCE, "tty", "sh", "-c", "tty; exit 5"),
        ]
    )
    assert result.status == 5 and "/dev/pts/0" in result.out, result


def test_standard_input(containerd):
    """Only some bytes, because ctr doesn't pass on the end of its input."""
    assert run(containerd, REFERENCE, "input", "head", "-c", "5", stdin="piped").ok().out == "piped"


def test_user_and_environment(containerd):
    """ctr of containerd 1.6 has no option for the user."""
    script = "id -u; id -g; echo $COLOUR; pwd; echo $HOME"
    user, wanted = (
        (["--user=1000:1000"], ["1000", "1000", "/home/app"])
        if "--user" in containerd.ctr("run", "--help").out
        else ([], ["0", "0", "/root"])
    )
    out = run(containerd, *user, "--env=COLOUR=blue", "--cwd=/made/up", REFERENCE, "user", "sh", "-c", script).ok().out
    assert out.split() == [*wanted[:2], "blue", "/made/up", wanted[2]]


def test_read_only(containerd):
    result = run(containerd, "--read-only", REFERENCE, "ro", "touch", "/x").exits(1)
    assert "Read-only file system" in result.err


def test_mounts(containerd, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    bind = f"--mount=type=bind,src={BASE}/volume,dst=/data,options=rbind:ro"
    result = run(containerd, bind, REFERENCE, "mounts", "sh", "-c", "cat /data/in; touch /data/x").exits(1)
    assert result.out == "from outside\n" and "Read-only file system" in result.err


def test_capabilities(containerd):
    out = run(containerd, "--cap-drop=CAP_CHOWN", REFERENCE, "caps", "grep", "CapEff", "/proc/self/status").ok().out
    assert not int(out.split()[1], 16) & 1 and int(out.split()[1], 16)


def test_no_new_privileges(containerd):
    assert run(containerd, REFERENCE, "nnp", "grep", "NoNewPrivs", "/proc/self/status").ok().out.split()[1] == "1"


def test_seccomp(containerd):
    assert run(containerd, "--seccomp", REFERENCE, "seccomp", "grep", "Seccomp:", "/proc/self/status").ok().out.split()[1] == "2"


def test_privileged(containerd):
    out = run(containerd, "--privileged", REFERENCE, "privileged", "sh", "-c", "ls /dev | wc -l; grep CapEff /proc/self/status").ok().out
    count, _, mask = out.split()
    assert int(count) > 20 and int(mask, 16) & 1 << 21


def test_network_host(containerd, world):
    inside = run(containerd, "--net-host", REFERENCE, "host", "readlink", "/proc/self/ns/net").ok().out
    assert inside == world.run(["readlink", "/proc/self/ns/net"]).out


def test_namespace_by_path(containerd, world):
    with running(containerd, "first"):
        pid, _ = task(containerd, "first")
        joined = f"--with-ns=network:/proc/{pid}/ns/net"
        inside = run(containerd, joined, REFERENCE, "second", "readlink", "/proc/self/ns/net").ok().out
        assert inside == world.run(["readlink", f"/proc/{pid}/ns/net"]).out


def test_limits(containerd, world):
    with running(containerd, "limits", f"--memory-limit={64 << 20}", "--cpus=0.5"):
        pid, _ = task(containerd, "limits")
        assert f"/{world.cgroup}/limits" in world.read(f"/proc/{pid}/cgroup")
        assert str(64 << 20) in containerd.ctr("tasks", "metrics", "limits").ok().out


def test_kill(containerd):
    with running(containerd, "kill", command=("sh", "-c", "trap 'exit 4' USR1; while :; do sleep 0.05; done")):
        containerd.ctr("tasks", "kill", "--signal=SIGKILL", "kill").ok()
        wait_until("it has stopped", lambda: task(containerd, "kill")[1] == "STOPPED")
        again = containerd.ctr("tasks", "kill", "kill")
        assert again.status != 0 and "not found" in again.err, again
        assert "exit code 137" in containerd.ctr("tasks", "rm", "kill").ok().err


def test_delete(containerd):
    containerd.run("--detach", REFERENCE, "delete", "true").ok()
    wait_until("it has stopped", lambda: task(containerd, "delete")[1] == "STOPPED")
    containerd.ctr("tasks", "rm", "delete").ok()
    containerd.ctr("containers", "rm", "delete").ok()


def test_delete_of_a_running_container(containerd):
    with running(containerd, "busy"):
        assert containerd.ctr("tasks", "rm", "busy").status != 0
        assert task(containerd, "busy")[1] == "RUNNING"


def test_same_name_again(containerd):
    for _ in range(3):
        run(containerd, REFERENCE, "again", "true").ok()


def test_shared_process_namespace(containerd, world):
    """When init exits, containerd calls `kill --all ID 9`, which must kill all other processes of the container."""
    script = "sleep 1234 & echo started"
    host = f"--with-ns=pid:/proc/{world.inner_pid(world.pid)}/ns/pid"
    run(containerd, host, REFERENCE, "shared", "sh", "-c", script).ok()
    gone(world)


def test_container_outlives_the_runtime(containerd, world):
    """The process of the container is a child of the shim: no process of the runtime stays between them or next to them."""
    with running(containerd, "child"):
        pid, _ = task(containerd, "child")
        parent = next(line.split()[1] for line in world.read(f"/proc/{pid}/status").splitlines() if line.startswith("PPid"))
        assert "containerd-shim" in world.read(f"/proc/{parent}/comm") or "containerd-shim" in world.read(f"/proc/{parent}/cmdline")
        others = [words for other, words in world.processes().items() if other not in (pid, int(parent))]
        assert others == []


def test_shim_is_killed(containerd, world):
    """containerd then calls `delete --force` while the container is still running."""
    with running(containerd, "orphan"):
        pid, _ = task(containerd, "orphan")
        parent = next(line.split()[1] for line in world.read(f"/proc/{pid}/status").splitlines() if line.startswith("PPid"))
        world.run(["kill", f"-{signal.SIGKILL.value}", parent]).ok()
        wait_until("the container is gone", lambda: pid not in world.processes())


def test_stats(containerd):
    """The shim reads the cgroup of init, which must be in its final cgroup when create returns."""
    with running(containerd, "metrics") as name:
        rows = dict(line.split()[:2] for line in containerd.ctr("tasks", "metrics", name).ok().out.splitlines() if len(line.split()) > 1)
        used = next(int(rows[key]) for key in ("memory.usage_in_bytes", "memory.usage") if key in rows)
        assert 0 < used < 1 << 26 and int(rows["pids.current"]) == 1, rows


@pytest.mark.needs_exec
def test_exec(containerd):
    with running(containerd, "exec"):
        assert containerd.ctr("tasks", "exec", "--exec-id=a", "exec", "echo", "hello").ok().out == "hello\n"
        containerd.ctr("tasks", "exec", "--exec-id=b", "exec", "sh", "-c", "exit 9").exits(9)
        words = ["--exec-id=c", "--user=1000:1000", "--cwd=/tmp"]
        assert containerd.ctr("tasks", "exec", *words, "exec", "sh", "-c", "id -u; pwd").ok().out == "1000\n/tmp\n"


@pytest.mark.needs_exec
def test_exec_that_cannot_run(containerd):
    with running(containerd, "exec"):
        result = containerd.ctr("tasks", "exec", "--exec-id=a", "exec", "/no/such/file")
        assert result.status != 0 and "no such file or directory" in result.err, result


@pytest.mark.needs_exec
def test_exec_tty(containerd, world):
    with running(containerd, "exec"):
        words = ["tasks", "exec", "--tty", "--exec-id=a", "exec", "sh", "-c", "tty; exit 5"]
        result = world.run_on_tty(containerd.argv("--namespace", containerd.namespace, *words))
        assert result.status == 5 and "/dev/pts/0" in result.out, result


@pytest.mark.needs_ps
def test_processes(containerd):
    with running(containerd, "ps", command=("sh", "-c", "sleep 1001 & exec sleep 1000")):
        pid, _ = task(containerd, "ps")
        wait_until("both are listed", lambda: len(containerd.ctr("tasks", "ps", "ps").ok().out.splitlines()) == 3)
        assert str(pid) in containerd.ctr("tasks", "ps", "ps").out


@pytest.mark.needs_pause
def test_pause(containerd):
    with running(containerd, "pause"):
        containerd.ctr("tasks", "pause", "pause").ok()
        assert task(containerd, "pause")[1] == "PAUSED"
        containerd.ctr("tasks", "resume", "pause").ok()
        assert task(containerd, "pause")[1] == "RUNNING"


@pytest.mark.needs_pause
def test_kill_while_paused(containerd):
    with running(containerd, "frozen"):
        containerd.ctr("tasks", "pause", "frozen").ok()
        containerd.ctr("tasks", "kill", "--signal=SIGKILL", "frozen").ok()
        wait_until("it has stopped", lambda: task(containerd, "frozen")[1] == "STOPPED")


@pytest.mark.needs_checkpoint
def test_checkpoint_and_restore(criu, containerd):
    with running(containerd, "dump"):
        containerd.ctr("tasks", "checkpoint", f"--image-path={BASE}/dump", f"--work-path={BASE}/dump-work", "dump").ok()
