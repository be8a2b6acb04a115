"""Input from callers besides the config: NOTIFY_SOCKET, LISTEN_FDS, descriptors, sockets for the pidfd; also with long paths."""

import array
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time

import pytest

import harness

pytestmark = pytest.mark.kernel


@pytest.fixture
def supervisor(tmp_path):
    """The notify socket of a service manager, as a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(harness.WATCHDOG)
        yield sock


def heard(sock):
    """The text of the next message; descriptors that came with it are closed, as the barrier of sd_notify(3) requires."""
    data, extra, _flags, _address = sock.recvmsg(4096, 1024)
    for _level, _kind, raw in extra:
        for fd in array.array("i", raw):
            os.close(fd)
    return data.decode()


def ready_from_outside(runtime, id, text=b"READY=1\n"):
    """busybox has no program for datagram sockets, so this process sends the message through the container's root."""
    harness.until_processes(runtime, id)  # before that, the process may still be init, and the shell has no trap for TERM
    pid = runtime.state(id)["pid"]
    with open("/proc/%d/environ" % pid) as file:
        environment = dict(item.partition("=")[::2] for item in file.read().split("\0"))
    inside = environment["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("/proc/%d/root%s" % (pid, inside))
        sock.send(text)
    return environment


def env(runtime, sock, **more):
    return {**runtime.env, "NOTIFY_SOCKET": sock.getsockname(), **more}


def test_start_waits_for_readiness(pyrunc, waiting, supervisor, no_leaks):
    """start only returns when the container reports that it is ready. The supervisor gets a message of the runtime with the pid of init, and
    nothing from the container."""
    id = pyrunc.create(waiting, env=env(pyrunc, supervisor))
    starting = subprocess.Popen(pyrunc.argv("start", id), stdin=subprocess.DEVNULL, env=pyrunc.env)
    harness.until_status(pyrunc, id, "running")
    ready_from_outside(pyrunc, id, b"STATUS=almost\nMAINPID=1\n")
    environment = ready_from_outside(pyrunc, id, b"STATUS=there\nREADY=1\nMAINPID=1\n")
    assert heard(supervisor) == "READY=1\n"
    assert heard(supervisor) == "MAINPID=%d\n" % pyrunc.state(id)["pid"]
    assert heard(supervisor) == "BARRIER=1"
    assert starting.wait(harness.WATCHDOG) == 0
    assert environment["NOTIFY_SOCKET"] != supervisor.getsockname()
    pyrunc.delete(id, "--force")


def test_hooks_do_not_see_the_supervisor(pyrunc, make_bundle, supervisor):
    """A hook without an environment inherits the caller's, except this variable: only the runtime may notify."""
    bundle = make_bundle()
    script = "tr '\\0' '\\n' < /proc/$$/environ > %s" % (bundle.path / "seen")
    bundle.patch({"/hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}})
    id = pyrunc.create(bundle, env=env(pyrunc, supervisor, GIVEN="1"))
    seen = (bundle.path / "seen").read_text()
    assert "GIVEN=1\n" in seen and "NOTIFY_SOCKET" not in seen
    pyrunc.delete(id, "--force")


def test_start_of_a_container_that_ends_without_being_ready(pyrunc, bundle, supervisor):
    id = pyrunc.create(bundle, env=env(pyrunc, supervisor))
    pyrunc.start(id)
    supervisor.setblocking(False)
    with pytest.raises(BlockingIOError):
        supervisor.recv(100)


def test_foreground_passes_signals_on_before_readiness(pyrunc, waiting, supervisor):
    """Signals are passed on even if the container has not reported readiness; when it does, the supervisor is notified."""
    id = pyrunc.new_id()
    process = subprocess.Popen(pyrunc.argv("run", "--bundle", waiting, id), stdin=subprocess.DEVNULL, env=env(pyrunc, supervisor))
    harness.until_status(pyrunc, id, "running")
    ready_from_outside(pyrunc, id)
    assert [heard(supervisor), heard(supervisor)] == ["READY=1\n", "MAINPID=%d\n" % pyrunc.state(id)["pid"]]
    process.terminate()
    assert process.wait(harness.WATCHDOG) == 0
    process = subprocess.Popen(pyrunc.argv("run", "--bundle", waiting, id), stdin=subprocess.DEVNULL, env=env(pyrunc, supervisor))
    harness.until_status(pyrunc, id, "running")
    harness.until_processes(pyrunc, id)
    process.terminate()
    assert process.wait(harness.WATCHDOG) == 0


def test_a_supervisor_that_is_gone(pyrunc, waiting, tmp_path):
    """start reports it, but the container keeps running. In the foreground it is only logged."""
    gone = {**pyrunc.env, "NOTIFY_SOCKET": str(tmp_path / "none")}
    id = pyrunc.create(waiting, env=gone)
    starting = subprocess.Popen(pyrunc.argv("start", id), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=pyrunc.env, text=True)
    harness.until_status(pyrunc, id, "running")
    ready_from_outside(pyrunc, id)
    _out, err = starting.communicate(timeout=harness.WATCHDOG)
    assert starting.returncode == 1 and len(err.splitlines()) == 1 and str(tmp_path / "none") in err, err
    assert pyrunc.status(id) == "running"


# -- descriptors ---------------------------------------------------------------------------------------------------------


SHOW_FDS = ["/bin/sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4"]


def with_files(argv, tmp_path, more=""):
    """Runs argv with 3 and 4 open on files that contain "three" and "four"; the shell executes it in its own process, so LISTEN_PID is right."""
    for name in ("three", "four"):
        (tmp_path / name).write_text(name + "\n")
    script = 'exec 3<three 4<four; %s exec "$@"' % more
    return subprocess.run(
        ["/bin/bash", "-c", script, "bash", *argv],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": "/bin"},
    )


@pytest.mark.parametrize("kind", ["run", "exec"])
def test_listen_fds(pyrunc, make_bundle, tmp_path, kind):
    """Socket activation (sd_listen_fds(3)): descriptors from 3 on, and the pid that they are meant for inside."""
    if kind == "run":
        argv = pyrunc.argv("run", "--bundle", make_bundle(args=SHOW_FDS), pyrunc.new_id())
        inside = "1"
    else:
        argv = pyrunc.argv("exec", pyrunc.started(make_bundle(args=harness.WAIT_FOR_TERM)), *SHOW_FDS)
        inside = None
    done = with_files(argv, tmp_path, "export LISTEN_FDS=2 LISTEN_PID=$$;")
    assert done.returncode == 0, done
    words = done.stdout.split()
    assert words[0] == "2" and words[-2:] == ["three", "four"] and (inside is None or words[1] == inside)


def test_listen_fds_of_another_process(pyrunc, make_bundle, tmp_path):
    """LISTEN_PID names another process: the variables are not meant for us, and no descriptor is passed on."""
    bundle = make_bundle(args=["/bin/sh", "-c", "echo x$LISTEN_FDS; ls /proc/self/fd"])
    done = with_files(pyrunc.argv("run", "--bundle", bundle, pyrunc.new_id()), tmp_path, "export LISTEN_FDS=2 LISTEN_PID=1;")
    assert done.stdout.split() == ["x", "0", "1", "2", "3"]  # 3 is the directory that ls reads


# -- sockets -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[20, 300], ids=["short", "long"])
def receiver(request, tmp_path):
    """A listening socket on a path that fits into sockaddr_un, or on one that does not."""
    folder = tmp_path
    while len(str(folder)) < request.param:
        folder = folder / ("d" * 60)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "s"
    here = os.open(folder, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("/proc/self/fd/%d/s" % here)
        os.close(here)
        sock.listen()
        sock.settimeout(harness.WATCHDOG)
        yield path, sock


def received(sock):
    peer, _address = sock.accept()
    with peer:
        data, fds, _flags, _address = socket.recv_fds(peer, 4096, 8)
        assert data and len(fds) == 1 and peer.recv(10) == b""
    return fds[0]


def pid_of(fd):
    with open("/proc/self/fdinfo/%d" % fd) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def test_pidfd_socket(pyrunc, waiting, receiver):
    path, sock = receiver
    id = pyrunc.create(waiting, None, "--pidfd-socket", path)
    fd = received(sock)
    assert pid_of(fd) == pyrunc.state(id)["pid"]
    pyrunc.start(id)
    pyrunc.ok("exec", "--detach", "--pidfd-socket", path, id, "/bin/sleep", "1000")
    other = received(sock)
    assert pid_of(other) in json.loads(pyrunc.ok("ps", "--format", "json", id).out)
    signal.pidfd_send_signal(other, signal.SIGKILL)
    harness.until_caught(pid_of(fd), signal.SIGTERM)
    signal.pidfd_send_signal(fd, signal.SIGTERM)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(harness.WATCHDOG * 1000), "the process has not ended"
    assert pyrunc.status(id) == "stopped"
    os.close(fd)
    os.close(other)


@pytest.mark.parametrize("option", ["--pidfd-socket", "--pid-file"])
@pytest.mark.parametrize("kind", ["missing", "folder"])
@pytest.mark.parametrize("attended", [False, True])
def test_an_exec_whose_pid_cannot_be_reported_is_ended(pyrunc, waiting, tmp_path, option, kind, attended):
    """The status is 255 with one line, and the process that was already started is gone; the container is unchanged."""
    id = pyrunc.started(waiting)
    before = harness.until_processes(pyrunc, id)
    path = tmp_path if kind == "folder" else tmp_path / "no" / "such"
    result = pyrunc.call("exec", *([] if attended else ["--detach"]), option, path, id, "/bin/sleep", "1000")
    assert result.code == 255 and len(result.err.splitlines()) == 1 and str(path) in result.err, result
    end = time.monotonic() + harness.WATCHDOG
    while (
        json.loads(pyrunc.ok("ps", "--format", "json", id).out) != before
    ):  # on Linux 6.18, a dead process stays in its cgroup for a moment
        assert time.monotonic() < end
    assert not list(tmp_path.iterdir())


# -- cgroups -------------------------------------------------------------------------------------------------------------


def test_exec_below_the_containers_cgroup(pyrunc, waiting):
    id = pyrunc.started(waiting)
    paths = harness.saved_state(pyrunc, id)["cgroup_paths"]
    key = "memory" if "memory" in paths else "unified"
    os.mkdir(paths[key] + "/sub")
    try:
        out = pyrunc.ok("exec", "--cgroup", "%s:sub" % key if key != "unified" else "sub", id, "/bin/cat", "/proc/self/cgroup").out
        assert any(line.endswith("/sub") for line in out.splitlines())
    finally:
        os.rmdir(paths[key] + "/sub")


@pytest.mark.parametrize("text", ["nosuch:/", "cpu,nosuch:/", "../x", "a/../../x", "memory:../..", "x\0y", "sub-that-is-not-there"])
def test_exec_into_an_invalid_cgroup(pyrunc, waiting, text):
    if "\0" in text:
        text = "no\nsuch"
    id = pyrunc.started(waiting)
    result = pyrunc.call("exec", "--cgroup", text, id, "/bin/true")
    assert result.code == 255 and len(result.err.splitlines()) == 1, result
    assert "cgroup" in result.err or "controller" in result.err, result
    assert pyrunc.status(id) == "running"


# -- large ---------------------------------------------------------------------------------------------------------------


def test_ten_thousand_arguments_and_two_megabytes_of_environment(pyrunc, waiting):
    id = pyrunc.started(waiting)
    words = ["w%d" % number for number in range(10000)]
    process = {
        "args": ["/bin/sh", "-c", 'echo $# "${9999}"; env | wc -c', "sh", *words],
        "env": ["PATH=/bin"] + ["V%d=%s" % (number, "x" * 100000) for number in range(15)],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
    }
    path = waiting.path / "process.json"
    path.write_text(json.dumps(process))
    lines = pyrunc.ok("exec", "--process", path, id).out.split()
    assert lines[:2] == ["10000", "w9998"] and int(lines[2]) > 1500000
    process["env"] = ["PATH=/bin"] + [
        "V%d=%s" % (number, "x" * 100000) for number in range(21)
    ]  # together with the arguments this is more than the kernel accepts
    process["args"] = ["/bin/true", "y" * 200000]
    path.write_text(json.dumps(process))
    result = pyrunc.call("exec", "--process", path, id)
    assert result.code == 255 and "argument list too long" in result.err and len(result.err.splitlines()) == 1, result
    assert pyrunc.status(id) == "running"


def test_a_container_that_ends_during_an_exec(pyrunc, make_bundle):
    """The process ends with its pid namespace: the status is 137, and nothing hangs or is left."""
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    gate = harness.fifo(bundle.rootfs / "gate")
    id = pyrunc.started(bundle)
    process = subprocess.Popen(pyrunc.argv("exec", id, "/bin/sh", "-c", "echo up > /gate; exec sleep 1000"), stdin=subprocess.DEVNULL)
    harness.lines_of(gate)
    pyrunc.stopped(id)
    assert process.wait(harness.WATCHDOG) == 137
    pyrunc.delete(id)


@pytest.mark.long
def test_a_thousand_execs_and_fifty_at_once(pyrunc, waiting, no_leaks):
    """No process, descriptor or cgroup is left in the container."""
    id = pyrunc.started(waiting)
    before = harness.until_processes(pyrunc, id)
    fds = set(os.listdir("/proc/%d/fd" % pyrunc.state(id)["pid"]))
    for number in range(1000):
        assert pyrunc.call("exec", id, "/bin/sh", "-c", "exit %d" % (number % 200)).code == number % 200
    for _ in range(4):
        running = [subprocess.Popen(pyrunc.argv("exec", id, "/bin/sh", "-c", "exit %d" % n), stdin=subprocess.DEVNULL) for n in range(50)]
        assert [process.wait(harness.WATCHDOG) for process in running] == list(range(50))
    assert json.loads(pyrunc.ok("ps", "--format", "json", id).out) == before
    assert set(os.listdir("/proc/%d/fd" % pyrunc.state(id)["pid"])) == fds
    assert not [
        name
        for path in harness.saved_state(pyrunc, id)["cgroup_paths"].values()
        for name in os.listdir(path)
        if os.path.isdir(path + "/" + name)
    ]
    pyrunc.delete(id, "--force")


def test_ignore_paused_waits_for_the_thaw(pyrunc, waiting):
    """The process joins the frozen cgroup, so it and the command continue when the container does, as with runc."""
    id = pyrunc.started(waiting)
    harness.until_processes(pyrunc, id)
    pyrunc.ok("pause", id)
    before = pyrunc.ok("ps", "--format", "json", id).out
    argv = pyrunc.argv("exec", "--ignore-paused", id, "/bin/echo", "thawed")
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        while pyrunc.ok("ps", "--format", "json", id).out == before:
            assert process.poll() is None
        assert process.poll() is None
        pyrunc.ok("resume", id)
        assert process.stdout.read() == "thawed\n"
        assert process.wait(harness.WATCHDOG) == 0


# -- console sockets -----------------------------------------------------------------------------------------------------


def bad_console(kind, tmp_path):
    """(path, object to keep open) of an invalid console socket."""
    path = tmp_path / "console"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM)
    if kind == "file":
        path.write_text("")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind != "missing":
        sock.bind(str(path))
    if kind == "full":
        sock.listen(0)
        other = socket.socket(socket.AF_UNIX)
        other.connect(str(path))
        return path, (sock, other)
    return path, (sock,)


KINDS_OF_CONSOLES = ["missing", "file", "directory", "fifo", "dead", "datagrams", pytest.param("full", marks=pytest.mark.long)]


@pytest.mark.parametrize("kind", KINDS_OF_CONSOLES)
def test_exec_with_a_bad_console_socket(pyrunc, waiting, tmp_path, kind):
    """The status is 255 with one line that names the socket; no process is left, and the container is unchanged."""
    id = pyrunc.started(waiting)
    before = harness.until_processes(pyrunc, id)
    path, kept = bad_console(kind, tmp_path)
    result = pyrunc.call("exec", "--detach", "--tty", "--console-socket", path, id, "/bin/sleep", "1000")
    for sock in kept:
        sock.close()
    assert result.code == 255 and len(result.err.splitlines()) == 1 and "console socket %s" % path in result.err, result
    assert json.loads(pyrunc.ok("ps", "--format", "json", id).out) == before


@pytest.mark.parametrize("kind", ["fifo", "datagrams", pytest.param("full", marks=pytest.mark.long)])
def test_create_with_a_bad_console_socket(pyrunc, make_bundle, tmp_path, kind, no_leaks):
    path, kept = bad_console(kind, tmp_path)
    result = pyrunc.call("create", "--bundle", make_bundle({"/process/terminal": True}), "--console-socket", path, pyrunc.new_id())
    for sock in kept:
        sock.close()
    assert result.code == 1 and len(result.err.splitlines()) == 1 and "console socket %s" % path in result.err, result


def test_nobody_accepts_the_terminal(pyrunc, waiting, tmp_path):
    """containerd only accepts after the command has exited; the runtime does not care whether it does."""
    id = pyrunc.started(waiting)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        words = ["exec", "--detach", "--tty", "--console-socket", tmp_path / "s", "--pid-file", tmp_path / "pid", id, "/bin/sleep", "1000"]
        result = pyrunc.ok(*words)
        assert (result.out, result.err) == ("", "")
        pid = int((tmp_path / "pid").read_text())
        assert os.readlink("/proc/%d/fd/0" % pid).startswith("/dev/pts/")
        os.kill(pid, signal.SIGKILL)  # closing the socket hangs the terminal up


def test_checkpoint_and_restore_need_a_directory(pyrunc, waiting, tmp_path):
    """A file in place of the image directory, or a path below a file: there is one line, and the container keeps running."""
    if not shutil.which("criu"):
        pytest.skip("no criu on this machine")
    id = pyrunc.started(waiting)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        result = pyrunc.call("checkpoint", "--image-path", path, id)
        assert result.code == 1 and len(result.err.splitlines()) == 1 and str(path) in result.err, result
        result = pyrunc.call("restore", "--bundle", waiting, "--image-path", path, pyrunc.new_id())
        assert result.code == 1 and len(result.err.splitlines()) == 1 and str(path) in result.err, result
    result = pyrunc.call("checkpoint", "--image-path", tmp_path / "a" / "b", "--parent-path", "nosuch", id)
    assert result.code == 1 and len(result.err.splitlines()) == 1 and "--parent-path" in result.err, result
    assert sorted(os.listdir(tmp_path)) == ["file"]
    assert pyrunc.status(id) == "running"
