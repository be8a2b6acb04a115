"""terminal, fds, keyring, notify: inputs from outside. Plans, and verbs that need no privileges."""

import os
import re
import socket
import stat
import threading
from array import array
from types import SimpleNamespace

import pytest

from fakes.hand import Ctx, Run, namespaces
from pyrunc.errors import Refusal, StepFailure
from pyrunc.linux import fs, sdnotify, tty
from pyrunc.parts import fds, keyring, notify, terminal

NO_SOCKET = "cannot allocate tty if runc will detach without setting console socket"
NO_TERMINAL = "cannot use console socket if runc will not detach or allocate tty"


def tty_plan(terminal_=None, size=None, ctx=None, **options):
    node = {}
    if terminal_ is not None:
        node["/process/terminal"] = terminal_
    if size is not None:
        node["/process/consoleSize"] = dict(zip(("height", "width"), size, strict=True))
    return terminal.plan(node, ctx or Ctx({"user": {"uid": 5}}, options))


@pytest.mark.parametrize(
    ("terminal_", "size", "options", "expected"),
    [
        (True, None, {"console_socket": "/s"}, {"size": None, "socket": "/s", "uid": 5}),
        (True, (24, 80), {"console_socket": "/s"}, {"size": [24, 80], "socket": "/s", "uid": 5}),
        (True, (0, 0), {"console_socket": "/s"}, {"size": None, "socket": "/s", "uid": 5}),
        (True, (0, 80), {"console_socket": "/s"}, {"size": None, "socket": "/s", "uid": 5}),
        (True, (65535, 1), {"console_socket": "/s"}, {"size": [65535, 1], "socket": "/s", "uid": 5}),
        (True, None, {"command": "run", "detach": False}, {"size": None, "socket": None, "uid": 5}),
        (True, None, {"command": "exec", "detach": False}, {"size": None, "socket": None, "uid": 5}),
        (True, None, {"command": "exec", "detach": True, "console_socket": "/s"}, {"size": None, "socket": "/s", "uid": 5}),
        (False, None, {}, None),
        (None, (24, 80), {}, None),
        (False, (1 << 60, 80), {}, None),  # "MUST ignore consoleSize if terminal is false"
    ],
)
def test_terminal(terminal_, size, options, expected):
    assert tty_plan(terminal_, size, **options) == expected


@pytest.mark.parametrize(
    ("terminal_", "size", "options", "words", "pointer"),
    [
        (True, None, {}, NO_SOCKET, "/process/terminal"),
        (True, None, {"command": "run", "detach": True}, NO_SOCKET, "/process/terminal"),
        (True, None, {"command": "exec", "detach": True}, NO_SOCKET, "/process/terminal"),
        (False, None, {"console_socket": "/s"}, NO_TERMINAL, "/process/terminal"),
        (True, None, {"console_socket": "/s", "command": "run", "detach": False}, NO_TERMINAL, "/process/terminal"),
        (True, (65536, 80), {"console_socket": "/s"}, "console height 65536 is more than 65535", "/process/consoleSize/height"),
        (True, (1, 1 << 63), {"console_socket": "/s"}, "console width %d is more than 65535" % (1 << 63), "/process/consoleSize/width"),
    ],
)
def test_terminal_refused(terminal_, size, options, words, pointer):
    with pytest.raises(Refusal) as caught:
        tty_plan(terminal_, size, **options)
    assert (caught.value.words, caught.value.pointer) == (words, pointer)


def test_a_size_without_a_terminal_is_warned_of():
    ctx = Ctx()
    assert tty_plan(False, (24, 80), ctx) is None
    assert ctx.warnings == [["/process/consoleSize", "ignored, as there is no terminal"]]


@pytest.fixture
def short(tmp_path_factory):
    """A directory with a path short enough for the test to bind() a socket in it."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pt", dir="/tmp") as path:
        yield path


def listener(path, backlog=1):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(backlog)
    return sock


def connect(path):
    run = Run()
    terminal.host_connect({"size": None, "socket": path, "uid": 0}, run)
    return run


def test_connect_and_send_before_anyone_accepts(short):
    """containerd and buildah accept the connection only after create has ended."""
    server = listener(short + "/s")
    run = connect(short + "/s")
    master, slave = os.openpty()
    tty.send_master(run.fds["console"], master)
    terminal.undo_connect({}, run)
    terminal.undo_connect({}, run)
    peer, _ = server.accept()
    data, control, _flags, _address = peer.recvmsg(100, socket.CMSG_SPACE(16))
    assert data == b"/dev/ptmx"
    ((level, kind, raw),) = control
    assert (level, kind, len(raw)) == (socket.SOL_SOCKET, socket.SCM_RIGHTS, 4)
    (got,) = array("i", raw)
    assert os.fstat(got).st_rdev == os.fstat(master).st_rdev
    assert peer.recv(1) == b""
    for fd in (got, master, slave):
        os.close(fd)
    peer.close()
    server.close()


def test_connect_to_a_path_longer_than_sun_path(short):
    folder = short + "/" + "d" * 200
    os.mkdir(folder)
    server = listener(short + "/s")
    os.rename(short + "/s", folder + "/" + "s" * 200)
    run = connect(folder + "/" + "s" * 200)
    os.write(run.fds["console"], b"x")
    peer, _ = server.accept()
    assert peer.recv(1) == b"x"
    peer.close()
    terminal.undo_connect({}, run)
    server.close()


def make_file(path):
    open(path, "w").close()


def make_dead(path):
    listener(path).close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_file, "is not a socket"),
        (os.mkdir, "is not a socket"),
        (os.mkfifo, "is not a socket"),
        (make_dead, "has no listener"),
        (lambda path: None, "is missing"),
    ],
)
def test_paths_without_a_listener(short, make, words):
    make(short + "/s")
    with pytest.raises(StepFailure) as caught:
        connect(short + "/s")
    assert caught.value.words == "console socket %s/s %s" % (short, words)
    assert caught.value.pointer == "/process/terminal" and caught.value.errno


@pytest.mark.slow
def test_a_full_queue_is_an_error_in_bounded_time(short):
    server = listener(short + "/s", 0)
    waiting = [connect_raw(short + "/s")]
    with pytest.raises(OSError) as caught:
        tty.connect(short + "/s", 1)
    assert caught.value.errno == 11 and caught.value.call == "connect"  # type: ignore[attr-defined]
    for sock in [*waiting, server]:
        sock.close()


def connect_raw(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock


# ---- fds


@pytest.mark.parametrize(
    ("preserve", "listen", "inherited", "keep"),
    [
        (0, 0, [], []),
        (0, 0, [3, 9], []),
        (2, 0, [3, 4], [3, 4]),
        (0, 1, [3], [3]),
        (1, 1, [3], [3]),  # with socket activation, podman passes both for the same descriptor
        (3, 1, [3, 4, 5, 200], [3, 4, 5]),
        (38, 0, [9, 40, 41], [9, 40]),  # podman --preserve-fd=9,40
        (2, 0, [], []),
        (1000000, 0, [3], [3]),
        (38, 1, [3, 9], [3, 9]),
    ],
)
def test_preserved(preserve, listen, inherited, keep):
    options = {"preserve_fds": preserve, "listen_fds": listen, "inherited_fds": inherited}
    assert fds.plan({}, Ctx({"user": {"uid": 7}}, options)) == {"keep": keep, "listen": listen, "uid": 7}


@pytest.mark.parametrize(
    ("preserve", "listen", "inherited", "words"),
    [
        (0, 2, [], "unable to stat preserved-fd 0 (of 2): bad file descriptor"),
        (0, 2, [3], "unable to stat preserved-fd 1 (of 2): bad file descriptor"),
        (0, 2, [3, 5], "unable to stat preserved-fd 1 (of 2): bad file descriptor"),
        (9, 2, [4], "unable to stat preserved-fd 0 (of 2): bad file descriptor"),
    ],
)
def test_descriptors_of_listen_fds_must_be_open(preserve, listen, inherited, words):
    with pytest.raises(Refusal) as caught:
        fds.plan({}, Ctx({}, {"preserve_fds": preserve, "listen_fds": listen, "inherited_fds": inherited}))
    assert caught.value.words == words


def test_only_a_character_device_has_a_device_number():
    """CVE-2026-88265: st_rdev is 0 for pipes as well as files."""
    read, write = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    assert fs.char_device(os.fstat(read)) == (0, 0) != fs.NULL_DEVICE
    assert fs.char_device(os.fstat(null)) == fs.NULL_DEVICE
    block = SimpleNamespace(st_mode=0o060666, st_rdev=os.makedev(1, 3))
    assert fs.char_device(block) == (0, 0)
    for fd in (read, write, null):
        os.close(fd)


def test_what_may_be_given_to_the_user(tmp_path):
    read, write = os.pipe()
    master, slave = os.openpty()
    one, two = socket.socketpair()
    (tmp_path / "f").write_text("")
    reading, writing = os.open(tmp_path / "f", os.O_RDONLY), os.open(tmp_path / "f", os.O_WRONLY | os.O_APPEND)
    zero, folder = os.open("/dev/zero", os.O_RDWR), os.open(tmp_path, os.O_RDONLY)
    may = {
        fd: stat.S_IFMT(os.fstat(fd).st_mode) in fds.GIVEN
        for fd in (read, write, one.fileno(), slave, writing, reading, zero, folder, master)
    }
    expected = [True, True, True, False, False, False, False, False, False]
    assert list(may.values()) == expected
    for fd in (read, write, master, slave, reading, writing, zero, folder):
        os.close(fd)
    one.close()
    two.close()


# ---- keyring


def test_keyring():
    assert keyring.plan({}, Ctx()) == {"label": None, "userns": False}
    assert keyring.plan({}, Ctx(options={"no_new_keyring": True})) is None
    ctx = Ctx({"labels": {"selinux": "a:b:c:d"}, "namespaces": namespaces("user")})
    assert keyring.plan({}, ctx) == {"label": "a:b:c:d", "userns": True}
    assert keyring.exec_op({}, Run(container=SimpleNamespace(state={"keyring": "_ses.x"}))) == ("KEYRING", b"_ses.x")


def test_names_of_keyrings_cannot_be_guessed():
    names = set()
    for _ in range(20):
        state: dict[str, str] = {}
        keyring.host_name({}, Run(state_dir=SimpleNamespace(state=state)))
        names.add(state["keyring"])
        names.add(keyring.exec_op({}, Run(container=SimpleNamespace(state={})))[1].decode())
    assert len(names) == 40 and all(re.fullmatch("_ses\\.[0-9a-f]{32}", name) for name in names)


# ---- notify


def test_notify_plan():
    assert notify.plan({}, Ctx()) is None
    assert notify.plan({}, Ctx(options={"notify_socket": "/n", "command": "exec"})) is None
    ctx = Ctx(options={"notify_socket": "/n"})
    assert notify.plan({}, ctx) is None and ctx.warnings  # the bind mount would appear on the host
    assert notify.plan({}, Ctx({"namespaces": namespaces("mount")}, {"notify_socket": "/n"})) == {
        "host": "/n",
        "variable": "/run/notify/notify.sock",
        "mount": {
            "destination": "/run/notify", "type": "bind", "source": "/run/t/c1/notify",
            "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
        },
    }  # fmt: skip


class NotifyRun:
    """The part of a run that notify needs: the container's state directory, open."""

    def __init__(self, path):
        self.dir_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def test_notify_make_and_undo(tmp_path):
    run = NotifyRun(tmp_path)
    notify.undo_make({}, run)
    notify.host_make({}, run)
    assert (tmp_path / "notify").stat().st_mode & 0o777 == 0o755
    os.close(notify.listen({}, run.dir_fd))
    fd = notify.listen({}, run.dir_fd)  # a second start replaces the first one's socket
    assert (tmp_path / "notify/notify.sock").stat().st_mode & 0o777 == 0o777
    notify.undo_make({}, run)
    notify.undo_make({}, run)
    assert os.listdir(tmp_path) == []
    os.close(fd)
    os.close(run.dir_fd)


def supervisor(sock, got):
    """Acts as systemd: reads messages, and closes the descriptor that comes with BARRIER=1."""
    while True:
        data, control, _flags, _address = sock.recvmsg(100, socket.CMSG_SPACE(4))
        got.append(data)
        if data == b"BARRIER=1":
            (fd,) = array("i", control[0][2])
            os.close(fd)
            return


@pytest.mark.parametrize("abstract", [False, True])
def test_notify_passes_ready_and_the_main_process_on(short, abstract):
    run = NotifyRun(short)
    notify.host_make({}, run)
    host = "@pyrunc-test-%d" % os.getpid() if abstract else short + "/host"
    theirs = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.bind("\0" + host[1:] if abstract else host)
    got = []
    thread = threading.Thread(target=supervisor, args=(theirs, got))
    thread.start()
    fd = notify.listen({}, run.dir_fd)
    pidfd = os.pidfd_open(os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inside:
        inside.connect(short + "/notify/notify.sock")
        inside.send(b"STATUS=starting\nMAINPID=1\n")
        inside.send(b"XREADY=1")
        inside.send(b"STATUS=up\nREADY=1\nMAINPID=666")
        assert notify.forward({"host": host}, fd, 4321, pidfd) is True
    thread.join()
    assert got == [b"READY=1\n", b"MAINPID=4321\n", b"BARRIER=1"]
    theirs.close()
    os.close(pidfd)
    os.close(run.dir_fd)


def test_notify_ends_with_the_container(short):
    run = NotifyRun(short)
    notify.host_make({}, run)
    fd = notify.listen({}, run.dir_fd)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    assert sdnotify.forward(fd, short + "/nobody", pid, pidfd) is False
    os.waitpid(pid, 0)
    for number in (fd, pidfd, run.dir_fd):
        os.close(number)
