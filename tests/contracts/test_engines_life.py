"""The life of a container with podman and docker: start, wait, signals, logs, copies, exec, pause. The engines are those of test_engines.py."""

import tarfile

import pytest

from callers import IMAGE
from engine_tools import OF_ROOT, everywhere, on
from sandbox import BASE, wait_until


def trap(signal, status):
    """A program that reports when it is ready, and exits with a status on a signal."""
    return ("sh", "-c", f"trap 'exit {status}' {signal}; echo set; while :; do sleep 0.05; done")


@everywhere
def test_create_and_start(engine):
    name = engine.create(IMAGE, "sh", "-c", "echo once >> /count; cat /count; exit 4")
    try:
        assert engine.inspect(name, "{{.State.Status}}") == "created"
        assert engine("start", "--attach", name).exits(4).out == "once\n"
        assert engine("start", "--attach", name).exits(4).out == "once\nonce\n", "the same container is started again"
    finally:
        engine("rm", name).ok()


@on(*OF_ROOT)
def test_a_start_that_fails_leaves_no_state(engine, world):
    """The kernel refuses the program: it must not matter whether the engine then deletes the container (podman doesn't)."""
    name = engine.create(IMAGE, "/bin/garbage")
    try:
        engine("start", "--attach", name)
        wait_until("no state is left", lambda: not world.state_directories())
    finally:
        engine("rm", "--force", name).ok()


@everywhere
def test_wait(engine):
    with engine.running(command=("sh", "-c", "sleep 0.3; exit 6")) as name:
        assert engine("wait", name).ok().out == "6\n"


@on(*OF_ROOT)
def test_attach(engine):
    """The standard input of an existing container. (Its output is in the log; the client may have closed the connection by then.)"""
    with engine.running("--interactive", command=("sh", "-c", "read line; echo got $line; sleep 0.2; exit 5")) as name:
        attached = engine("attach", name, stdin="words\n").exits(engine.attach_status)
        assert attached.out.startswith("got words\n") or engine.attach_hangs_up, attached
        assert engine("wait", name).ok().out == "5\n"
        assert engine("logs", name).ok().out == "got words\n"


@everywhere
def test_logs(engine):
    with engine.running(command=("sh", "-c", "echo out; echo err >&2; exec sleep 1000")) as name:
        wait_until("both lines are logged", lambda: engine("logs", name).text.count("\n") == 2)
        result = engine("logs", name).ok()
        assert (result.out, result.err) == ("out\n", "err\n")


@on(*OF_ROOT)
def test_follow_logs(engine):
    with engine.running(command=("sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.1; done")) as name:
        assert engine("logs", "--follow", name).ok().out == "1\n2\n3\n"


@everywhere
def test_stop(engine):
    with engine.running(command=trap("TERM", 3)) as name:
        wait_until("the trap is set", lambda: engine("logs", name).out)
        engine("stop", "--time=20", name).ok()
        assert engine.inspect(name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 3"


@everywhere
def test_stop_by_force(engine):
    with engine.running() as name:
        engine("stop", "--time=0", name).ok()
        assert engine.inspect(name, "{{.State.ExitCode}}") == "137"


@on(*OF_ROOT)
def test_stop_signal(engine):
    with engine.running("--stop-signal=USR1", command=trap("USR1", 3)) as name:
        wait_until("the trap is set", lambda: engine("logs", name).out)
        engine("stop", name).ok()
        assert engine.inspect(name, "{{.State.ExitCode}}") == "3"


@everywhere
def test_kill(engine):
    with engine.running(command=trap("USR1", 4)) as name:
        wait_until("the trap is set", lambda: engine("logs", name).out)
        engine("kill", "--signal=USR1", name).ok()
        assert engine("wait", name).ok().out == "4\n"


@pytest.mark.parametrize(("signal", "status"), [("TERM", 143), ("USR1", 138), ("KILL", 137)])
@on(*OF_ROOT)
def test_kill_with_a_shared_process_namespace(engine, signal, status):
    """A signal without a handler ends the program, and then the processes that it has started."""
    with engine.running("--pid=host", command=("sh", "-c", "sleep 1001 & echo started; exec sleep 1000")) as name:
        wait_until("both have started", lambda: engine("logs", name).out)
        engine("kill", f"--signal={signal}", name).ok()
        assert engine("wait", name).ok().out == f"{status}\n"


@everywhere
def test_remove(engine):
    name = engine.run("-d", IMAGE, "sleep", "1000").ok().out.strip()
    assert engine("rm", name).status != 0
    engine.remove(name)
    assert engine("inspect", name).status != 0


@everywhere
def test_restart(engine):
    """The same id is created again immediately: the directory and cgroup of the first container must be gone."""
    with engine.running() as name:
        before = engine.inspect(name, "{{.State.Pid}}")
        engine("restart", "--time=0", name).ok()
        state, pid = engine.inspect(name, "{{.State.Status}} {{.State.Pid}}").split()
        assert state == "running" and pid != before


@pytest.mark.long
@on(*OF_ROOT)
def test_restart_policy_counts(engine):
    with engine.running("--restart=on-failure:2", command=("sh", "-c", "echo try; exit 1")) as name:
        wait_until("it gives up", lambda: engine.inspect(name, "{{.State.Status}} {{.RestartCount}}") == "exited 2")
        assert engine("logs", name).ok().out == "try\n" * 3


@on(*OF_ROOT)
def test_rename(engine):
    with engine.running() as name:
        engine("rename", name, "renamed").ok()
        assert engine.inspect("renamed", "{{.Id}}") == name
        engine("stop", "--time=0", "renamed").ok()
        assert engine.inspect("renamed", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"


@on(*OF_ROOT)
def test_copy(engine, world):
    world.write(f"{BASE}/copy/in", "carried in\n")
    with engine.running(command=("sh", "-c", "echo made > /made; sleep 1000")) as name:
        engine("cp", f"{BASE}/copy/in", f"{name}:/tmp/in").ok()
        wait_until("it is made", lambda: engine("cp", f"{name}:/made", f"{BASE}/copy/made").status == 0)
        assert world.read(f"{BASE}/copy/made") == "made\n"
        engine("cp", f"{name}:/tmp/in", f"{BASE}/copy/back").ok()
        assert world.read(f"{BASE}/copy/back") == "carried in\n"


@on(*OF_ROOT)
def test_commit_and_diff(engine):
    with engine.running(command=("sh", "-c", "echo new > /new; echo ready; sleep 1000")) as name:
        wait_until("it is ready", lambda: engine("logs", name).out)
        assert "A /new" in engine("diff", name).ok().out.splitlines()
        engine("commit", "--change=ENV COLOUR=green", name, "committed").ok()
    try:
        assert engine.run("committed", "sh", "-c", "cat /new; echo $COLOUR").ok().out == "new\ngreen\n"
    finally:
        engine("rmi", "committed").ok()


@on(*OF_ROOT)
def test_export(engine, world):
    with engine.running(command=("sh", "-c", "echo new > /new; echo ready; sleep 1000")) as name:
        wait_until("it is ready", lambda: engine("logs", name).out)
        engine("export", f"--output={BASE}/export.tar", name).ok()
    with tarfile.open(world.outer(f"{BASE}/export.tar")) as archive:
        assert archive.extractfile("new").read() == b"new\n"
    for point in world.new_mounts():  # dockerd 26 leaves its mount of the root with any runtime
        if point.endswith("/merged"):
            world.run(["umount", point]).ok()


@on(*OF_ROOT)
def test_many_at_once(engine, world):
    words = ["run", "--rm", *engine.create_options("none"), IMAGE]
    commands = [engine.argv(*words, "sh", "-c", f"echo {number}; exit {number}") for number in range(6)]
    for number, result in enumerate(world.run_together(commands, env=engine.env)):
        assert result.exits(number).out == f"{number}\n"


@pytest.mark.needs_exec
@pytest.mark.parametrize("kind", ["pid", "ipc", "network"])
@on(*OF_ROOT)
def test_namespace_of_another_container(engine, kind):
    """Namespaces by path: /proc/PID/ns/… of a running container."""
    link = {"network": "net"}.get(kind, kind)
    with engine.running("--ipc=shareable") as name:
        mine = engine("exec", name, "readlink", f"/proc/self/ns/{link}").ok().out
        network = None if kind == "network" else "none"
        assert engine.run(f"--{kind}=container:{name}", IMAGE, "readlink", f"/proc/self/ns/{link}", network=network).ok().out == mine


@pytest.mark.needs_exec
@everywhere
def test_exec(engine):
    with engine.running("--user=app", "--env=COLOUR=blue") as name:
        assert engine("exec", name, "sh", "-c", "id -u; echo $COLOUR").ok().out == "1000\nblue\n"
        words = ["--user=0", "--env=COLOUR=red", "--workdir=/tmp"]
        assert engine("exec", *words, name, "sh", "-c", "id -u; echo $COLOUR; pwd").ok().out == "0\nred\n/tmp\n"
        assert engine("exec", "--interactive", name, "cat", stdin="piped").ok().out == "piped"


@pytest.mark.needs_exec
@everywhere
def test_exec_exit_status(engine):
    with engine.running() as name:
        for status, command in ((0, "true"), (9, "exit 9"), (137, "kill -9 $$")):
            engine("exec", name, "sh", "-c", command).exits(status)


@pytest.mark.needs_exec
@everywhere
def test_exec_that_cannot_run(engine):
    with engine.running() as name:
        for command in ("/no/such/file", "nosuch"):
            result = engine("exec", name, command)
            assert result.status in engine.exec_of_missing, result
        engine("exec", name, "/etc/passwd").exits(126)


@pytest.mark.needs_exec
@everywhere
def test_exec_tty(engine):
    with engine.running() as name:
        out = engine("exec", "--tty", name, "sh", "-c", "tty; test -t 0 && test -t 1 && test -t 2 && echo all").ok().out
        assert out.split() == ["/dev/pts/0", "all"]


@pytest.mark.needs_exec
@everywhere
def test_exec_in_the_background(engine):
    with engine.running() as name:
        engine("exec", "--detach", name, "sh", "-c", "echo done > /tmp/done").ok()
        wait_until("the file is written", lambda: engine("exec", name, "cat", "/tmp/done").out == "done\n")


@pytest.mark.needs_pause
@on("podman", "docker", "remapped")
def test_pause(engine):
    with engine.running() as name:
        engine("pause", name).ok()
        assert engine.inspect(name, "{{.State.Status}}") == "paused"
        engine("unpause", name).ok()
        assert engine.inspect(name, "{{.State.Status}}") == "running"


@pytest.mark.needs_pause
@on(*OF_ROOT)
def test_remove_while_paused(engine):
    """It is removed by force, and the name is free again."""
    with engine.running("--name=paused") as name:
        engine("pause", name).ok()
    with engine.running("--name=paused"):
        pass


@pytest.mark.needs_update
@pytest.mark.needs_exec
@on(*OF_ROOT)
def test_update(engine):
    """Device rules do not change: the resources that podman sends have a rule that denies all devices."""
    script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max 2>/dev/null || cat memory.max pids.max"
    can = engine.has("update", "--pids-limit")  # podman 4.3 cannot: there, the limit stays
    with engine.running("--memory=64m", "--memory-swap=192m", *([] if can else ["--pids-limit=33"])) as name:
        engine("update", "--memory=96m", "--memory-swap=192m", name).ok()
        if can:
            engine("update", "--pids-limit=33", name).ok()
        assert engine("exec", name, "sh", "-c", script).ok().out == f"{96 << 20}\n33\n"
        engine("exec", name, "sh", "-c", "echo x > /dev/null && head -c 1 /dev/zero > /dev/null").ok()
