"""Terminals: the console socket, permissions, what the program sees, sizes, and a foreground run on a terminal."""

import array
import fcntl
import json
import os
import pty
import select
import socket
import struct
import subprocess
import termios

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel


class Listener:
    """The caller's end of --console-socket. Like containerd, it may accept long after create has returned."""

    def __init__(self, directory):
        self.path = str(directory / "console.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(1)
        self.socket.settimeout(harness.WATCHDOG)

    def receive(self):
        """(payload, descriptors, whether the peer then closed the connection)"""
        peer, _ = self.socket.accept()
        with peer:
            peer.settimeout(harness.WATCHDOG)
            data, ancillary, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4 * 8))
            fds = array.array("i")
            for level, kind, body in ancillary:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                fds.frombytes(body[: len(body) - len(body) % 4])
            return data, list(fds), peer.recv(1) == b""

    def close(self):
        self.socket.close()


@pytest.fixture
def listener(tmp_path_factory, scratch):
    directory = scratch / "console"
    directory.mkdir(exist_ok=True)
    path = directory / "console.sock"
    if path.exists():
        path.unlink()
    made = Listener(directory)
    yield made
    made.close()


@pytest.fixture
def on_terminal(make_bundle):
    def make(script, **changes):
        return make_bundle({"/process/terminal": True, **changes}, args=["/bin/sh", "-c", script])

    return make


def read_all(fd):
    """Everything that a master receives until the last slave is closed (EIO)."""
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(harness.WATCHDOG * 1000):
        try:
            part = os.read(fd, 65536)
        except OSError:
            break
        if not part:
            break
        data += part
    return data.decode()


def test_console_socket(runtime, on_terminal, listener, no_leaks):
    """There is one message with some payload and one descriptor, the master; it is only accepted after create has returned."""
    bundle = on_terminal("tty; test -t 0 && test -t 1 && test -t 2 && echo three; ls -l /dev/console")
    id = runtime.create(bundle, None, "--console-socket", listener.path)
    data, fds, closed = listener.receive()
    assert 0 < len(data) < 4096 and len(fds) == 1 and closed
    runtime.start(id)
    text = read_all(fds[0])
    os.close(fds[0])
    assert "/dev/pts/0" in text or "/dev/console" in text
    assert "three" in text
    assert "136," in text.replace(" ", "") or "136, " in text
    runtime.ok("delete", "--force", id)


def test_console_size(runtime, on_terminal, listener):
    bundle = on_terminal("stty size", **{"/process/consoleSize": {"height": 33, "width": 111}})
    id = runtime.create(bundle, None, "--console-socket", listener.path)
    _, (fd,), _ = listener.receive()
    assert struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))[:2] == (33, 111)
    runtime.start(id)
    assert "33 111" in read_all(fd)
    os.close(fd)


def test_console_size_zero(runtime, on_terminal, listener):
    """Docker sends 0 by 0: nothing is set, and this is not an error."""
    bundle = on_terminal("echo fine", **{"/process/consoleSize": {"height": 0, "width": 0}})
    id = runtime.create(bundle, None, "--console-socket", listener.path)
    _, (fd,), _ = listener.receive()
    runtime.start(id)
    assert "fine" in read_all(fd)
    os.close(fd)


def test_console_belongs_to_the_user(runtime, on_terminal, listener):
    bundle = on_terminal("ls -ln $(tty); id -u", **{"/process/user": {"uid": 1000, "gid": 1000}})
    id = runtime.create(bundle, None, "--console-socket", listener.path)
    _, (fd,), _ = listener.receive()
    runtime.start(id)
    line = next(line for line in read_all(fd).splitlines() if line.startswith("crw"))
    assert line.split()[2] == "1000"
    os.close(fd)


def test_console_is_the_controlling_terminal(runtime, on_terminal, listener):
    bundle = on_terminal("cut -d' ' -f5,6,7 /proc/self/stat; echo typed > /dev/tty")
    id = runtime.create(bundle, None, "--console-socket", listener.path)
    _, (fd,), _ = listener.receive()
    runtime.start(id)
    text = read_all(fd)
    assert "typed" in text
    assert text.splitlines()[0].split()[2] != "0"
    os.close(fd)


def test_terminal_without_a_socket(runtime, on_terminal, no_leaks):
    result = runtime.call("create", "--bundle", on_terminal("true"), runtime.new_id())
    assert result.code == 1
    assert "without setting console socket" in result.err
    result = runtime.call("run", "--detach", "--bundle", on_terminal("true"), runtime.new_id())
    assert result.code == 1


def test_socket_without_a_terminal(runtime, bundle, listener, no_leaks):
    result = runtime.call("create", "--bundle", bundle, "--console-socket", listener.path, runtime.new_id())
    assert result.code == 1
    assert "cannot use console socket" in result.err


@pytest.mark.parametrize("kind", ["missing", "file", "directory", "dead"])
def test_bad_console_sockets(runtime, on_terminal, tmp_path, kind, no_leaks):
    """The error is immediate, and everything is undone."""
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("")
    elif kind == "directory":
        path.mkdir()
    elif kind == "dead":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.close()
    result = runtime.call("create", "--bundle", on_terminal("true"), "--console-socket", path, runtime.new_id())
    assert result.code == 1


def test_long_console_socket_path(pyrunc, on_terminal, tmp_path):
    """108 bytes is the kernel's limit for the address, not for the path: the runtime goes through a descriptor of the directory."""
    directory = tmp_path / ("d" * 100)
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("/proc/self/fd/%d/s" % fd)
    os.close(fd)
    sock.listen(1)
    id = pyrunc.create(on_terminal("true"), None, "--console-socket", directory / "s")
    pyrunc.ok("delete", "--force", id)
    sock.close()


def foreground(argv):
    """Runs argv on a new terminal; returns (status, all output)."""
    master, slave = pty.openpty()
    process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    text = read_all(master)
    os.close(master)
    return process.wait(harness.WATCHDOG), text


def test_foreground_run_on_a_terminal(runtime, on_terminal, no_leaks):
    code, text = foreground(runtime.argv("run", "--bundle", on_terminal("test -t 0 && echo on a tty; exit 9"), runtime.new_id()))
    assert code == 9
    assert "on a tty" in text


def test_foreground_exec_on_a_terminal(runtime, waiting):
    id = runtime.started(waiting)
    code, text = foreground(runtime.argv("exec", "--tty", id, "/bin/sh", "-c", "tty; exit 9"))
    assert code == 9
    assert "/dev/pts/0" in text


def test_foreground_run_relays_typing_and_size(runtime, on_terminal, no_leaks):
    bundle = on_terminal("read line; echo got $line; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 1000 & wait; done")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        runtime.argv("run", "--bundle", bundle, runtime.new_id()), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    os.write(master, b"typed\n")
    seen = read_until(master, "ready")
    assert "got typed" in seen
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
    assert "44 99" in read_all(master)
    os.close(master)
    assert process.wait(harness.WATCHDOG) == 0


def read_until(fd, word):
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while word.encode() not in data:
        assert poll.poll(harness.WATCHDOG * 1000), data
        data += os.read(fd, 65536)
    return data.decode()


def test_exec_console_size(runtime, waiting, listener):
    id = runtime.started(waiting)
    size = {"height": 33, "width": 111}
    process = {
        "terminal": True,
        "consoleSize": size,
        "args": ["stty", "size"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
    }
    (waiting.path / "process.json").write_text(json.dumps(process))
    runtime.ok("exec", "--process", waiting.path / "process.json", "--detach", "--console-socket", listener.path, id)
    _, (fd,), _ = listener.receive()
    assert "33 111" in read_all(fd)
    os.close(fd)


def test_exec_console_socket(runtime, waiting, listener):
    """exec with a terminal: the pty comes from the container's devpts, and with --detach the caller keeps the master."""
    id = runtime.started(waiting)
    process = {"terminal": True, "args": ["/bin/sh", "-c", "tty"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    (waiting.path / "process.json").write_text(json.dumps(process))
    runtime.ok("exec", "--process", waiting.path / "process.json", "--detach", "--console-socket", listener.path, id)
    data, fds, _ = listener.receive()
    assert data and len(fds) == 1
    assert "/dev/pts/0" in read_all(fds[0])
    os.close(fds[0])


@pytest.mark.parametrize("shape", ["console-link", "pts-link", "ptmx-file"])
def test_console_is_never_reached_through_the_image(pyrunc, make_bundle, listener, tmp_path, shape):
    """Without a mount on /dev, the image provides its entries: links and files in place of console, pts and ptmx have no effect
    (CVE-2025-52565, CVE-2026-88264)."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    mounts = [m for m in harness.BASE["mounts"] if not m["destination"].startswith("/dev")]
    if shape == "console-link":
        mounts.append(next(m for m in harness.BASE["mounts"] if m["destination"] == "/dev/pts"))
    bundle = make_bundle({"/process/terminal": True, "/mounts": mounts}, args=["/bin/sh", "-c", "ls -l /dev/console"])
    dev = bundle.rootfs / "dev"
    (dev / "pts").mkdir(exist_ok=True)
    if shape == "console-link":
        (dev / "console").symlink_to(tmp_path / "made")
    elif shape == "pts-link":
        for number in range(10):
            (dev / "pts" / str(number)).symlink_to(victim)
    else:
        (dev / "ptmx").write_text("")
    before = hoststate.snapshot(tmp_path)
    id = pyrunc.new_id()
    result = pyrunc.call("create", "--bundle", bundle, "--console-socket", listener.path, id)
    if result.code == 0:
        _, (fd,), _ = listener.receive()
        pyrunc.start(id)
        assert "136," in read_all(fd).replace(" ", "")
        os.close(fd)
    assert hoststate.snapshot(tmp_path) == before
