"""terminal and fds in a separate root: the pty comes from the container's devpts, and no file in the image is trusted."""

import errno
import fcntl
import os
import pathlib
import signal
import socket
import stat
import struct
import termios
from array import array

import pytest

import staged
from fakes.hand import Run
from pyrunc.errors import StepFailure
from pyrunc.linux import _syscalls, constants, tty
from pyrunc.linux.proc import Proc
from pyrunc.parts import fds, terminal

pytestmark = pytest.mark.kernel
ENTRY = {"size": [24, 80], "socket": None, "uid": 1234}


class Root:
    """A root below `path` in a new mount namespace, with a devpts, after `make` has added or damaged something."""

    def __init__(self, path, devpts=True, make=None):
        _syscalls.unshare(constants.CLONE_NEWNS)
        _syscalls.mount(None, "/", None, constants.MS_PRIVATE | constants.MS_REC, None)
        self.path = pathlib.Path(path)
        (self.path / "dev/pts").mkdir(parents=True)
        if devpts:
            _syscalls.mount("devpts", str(self.path / "dev/pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=0620,gid=5")
        if make:
            make(self.path)
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY)

    def run(self, console=-1, **more):
        run = Run(root_fd=self.fd, proc=Proc(), **more)
        if console >= 0:
            run.fds["console"] = console
        return run


def describe(fd):
    info = os.fstat(fd)
    return [os.isatty(fd), os.major(info.st_rdev), info.st_uid, info.st_gid]


def opened(path, make=None, entry=ENTRY, look=None, **more):
    """In the child: starts a session and calls terminal.init_open; returns what is then visible, or the failure."""
    root = Root(path, make=make, **more)
    theirs, ours = socket.socketpair()
    run = root.run(ours.detach())
    os.setsid()
    try:
        terminal.init_open(entry, run)
    except StepFailure as e:
        assert os.listdir("/proc/self/fd") and "console" in run.fds, "the socket is only closed when the process ends"
        return {"words": e.words, "pointer": e.pointer, "errno": e.errno, "path": e.path}
    data, control, _flags, _address = theirs.recvmsg(100, socket.CMSG_SPACE(64))
    ((_level, _kind, raw),) = control
    (master,) = array("i", raw)
    seen = {
        "stdio": [describe(fd) for fd in (0, 1, 2)],
        "same": len({os.fstat(fd).st_ino for fd in (0, 1, 2)}),
        "size": struct.unpack("4H", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))[:2],
        "message": data.decode(),
        "fds": sorted(os.listdir(os.open(root.path / "dev/pts", os.O_RDONLY))),
        "leader": os.tcgetpgrp(0) == os.getpgrp() == os.getpid(),
        "left": "console" in run.fds,
        "eof": theirs.recv(1).decode(),
    }
    os.write(master, b"typed\n")
    seen["typed"] = os.read(0, 99).decode()
    os.write(1, b"shown\n")
    seen["shown"] = ""
    while "shown" not in seen["shown"]:  # type: ignore[operator]  # the echo of what was typed comes first
        seen["shown"] += os.read(master, 99).decode()  # type: ignore[operator]
    console = os.stat(root.path / "dev/console", follow_symlinks=False)
    seen["console"] = [stat.S_ISCHR(console.st_mode), os.major(console.st_rdev), console.st_ino == os.fstat(0).st_ino]
    seen["more"] = look(root) if look else None
    return seen


def child(tmp_path, **kw):
    return staged.apart(lambda: opened(str(tmp_path / "root"), **kw))


@pytest.fixture(autouse=True)
def root_folder(tmp_path):
    (tmp_path / "root").mkdir()


def test_the_terminal_of_a_container(tmp_path):
    seen = child(tmp_path)
    assert seen["stdio"] == [[True, 136, 1234, 5]] * 3 and seen["same"] == 1
    assert seen["size"] == [24, 80]
    assert seen["message"] == "/dev/ptmx" and seen["eof"] == ""
    assert seen["leader"] is True and seen["left"] is False
    assert seen["fds"] == ["0", "ptmx"]  # the instance of the container, not a pty of the host
    assert seen["console"] == [True, 136, True]
    assert seen["typed"] == "typed\n" and seen["shown"] == "typed\nshown\n"


def test_no_size_given(tmp_path):
    assert child(tmp_path, entry={**ENTRY, "size": None})["size"] == [0, 0]


def existing_file(root):
    (root / "dev/console").write_text("image's")


def existing_node(root):
    os.mknod(root / "dev/console", stat.S_IFCHR | 0o600, os.makedev(5, 1))


def existing_mount(root):
    existing_file(root)
    _syscalls.mount("/dev/null", str(root / "dev/console"), None, constants.MS_BIND, None)


@pytest.mark.parametrize("make", [existing_file, existing_node, existing_mount])
def test_what_may_be_at_dev_console(tmp_path, make):
    assert child(tmp_path, make=make)["console"] == [True, 136, True]
    if make is existing_file:
        assert (tmp_path / "root/dev/console").read_text() == "image's"


def victim(tmp_path):
    (tmp_path / "outside").mkdir(exist_ok=True)
    (tmp_path / "outside/victim").write_text("host's")
    return tmp_path / "outside"


@pytest.mark.parametrize("target", ["victim", "created", "inside"])
def test_dev_console_as_a_link(tmp_path, target):
    """CVE-2026-88264, CVE-2025-52565: it is neither followed nor created."""
    outside = victim(tmp_path)
    place = "/marker" if target == "inside" else str(outside / target)

    def make(root):
        (root / "marker").write_text("")
        os.symlink(place, root / "dev/console")

    seen = child(tmp_path, make=make)
    assert seen["words"] == "/dev/console in the container is neither a file nor a device"
    assert (seen["pointer"], seen["path"]) == ("/process/terminal", "/dev/console")
    assert sorted(os.listdir(outside)) == ["victim"] and (outside / "victim").read_text() == "host's"


def test_dev_console_as_a_directory(tmp_path):
    assert "neither a file nor a device" in child(tmp_path, make=lambda root: (root / "dev/console").mkdir())["words"]


def fake_file(root):
    (root / "dev/pts/ptmx").write_text("")


def fake_fifo(root):
    os.mkfifo(root / "dev/pts/ptmx")


def fake_node(root):
    os.mknod(root / "dev/pts/ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
    os.mknod(root / "dev/pts/0", stat.S_IFCHR | 0o666, os.makedev(136, 0))


def fake_links(root):
    for n in range(10):
        os.symlink("/proc/sys/kernel/core_pattern", root / ("dev/pts/%d" % n))
    os.symlink("/dev/ptmx", root / "dev/pts/ptmx")


def host_devpts_by_link(root):
    (root / "dev/pts").rmdir()
    os.symlink("/../../../../../dev/pts", root / "dev/pts")


def part_of_a_devpts(root):
    _syscalls.mount("devpts", str(root / "dev/pts"), "devpts", 0, "newinstance,ptmxmode=0666")
    node = str(root / "dev/pts/ptmx")
    (root / "other").mkdir()
    (root / "other/ptmx").write_text("")
    _syscalls.mount(node, str(root / "other/ptmx"), None, constants.MS_BIND, None)
    _syscalls.umount2(str(root / "dev/pts"), 2)
    _syscalls.mount(str(root / "other"), str(root / "dev/pts"), None, constants.MS_BIND, None)


@pytest.mark.parametrize("make", [None, fake_file, fake_fifo, fake_node, fake_links, host_devpts_by_link, part_of_a_devpts])
def test_no_new_devpts(tmp_path, make):
    seen = child(tmp_path, devpts=False, make=make)
    assert "words" in seen, seen
    assert seen["words"].startswith("cannot open a terminal in the container") and seen["pointer"] == "/process/terminal"
    assert seen["path"] == "/dev/pts/ptmx" or seen["errno"] == errno.ELOOP


def test_a_ptmx_with_a_mount_over_it(tmp_path):
    def make(root):
        (root / "fake").write_text("")
        _syscalls.mount(str(root / "fake"), str(root / "dev/pts/ptmx"), None, constants.MS_BIND, None)

    assert child(tmp_path, make=make)["errno"] == errno.EXDEV


def test_without_a_mount_namespace_nothing_is_mounted(tmp_path):
    def look():
        root = Root(str(tmp_path / "root"))
        theirs, ours = socket.socketpair()
        run = root.run(ours.detach(), plans={"root": {"mount_ns": False}})
        os.setsid()
        terminal.init_open(ENTRY, run)
        seen = [os.isatty(0), os.path.lexists(root.path / "dev/console")]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the master is closed with `theirs`
        return seen

    assert staged.apart(look) == [True, False]


def test_exec_opens_a_pty_through_the_root_of_the_container(tmp_path):
    def look():
        root = Root(str(tmp_path / "root"))
        run = root.run()
        terminal.exec_open(ENTRY, run)
        master, slave = run.fds["master"], run.fds["slave"]
        return [tty.is_slave(slave), describe(slave)[2:], os.path.lexists(root.path / "dev/console"), os.get_inheritable(master)]

    assert staged.apart(look) == [True, [1234, 5], False, False]


# ---- /dev/null and the owner of stdio


def as_null(root):
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))


def stdio(path, make, uid=0):
    """In the child: stdin is the host's /dev/null, stdout a pipe, stderr a file. Returns their state after the verbs."""
    root = Root(path, make=make)
    read, write = os.pipe()
    log = os.open(root.path / "log", os.O_WRONLY | os.O_CREAT)
    null = os.open("/dev/null", os.O_RDWR)
    before = os.stat("/dev/null")
    for fd, number in ((null, 0), (write, 1), (log, 2)):
        os.dup2(fd, number)
    os.close(write)
    entry = {"keep": [], "listen": 0, "uid": uid}
    try:
        fds.init_null(entry, root.run())
    except StepFailure as e:
        return {"words": e.words, "path": e.path}
    fds.init_stdio_owner(entry, root.run())
    os.write(1, b"to the pipe")
    os.write(2, b"to the file")
    after = os.stat("/dev/null")
    return {
        "pipe": os.read(read, 99).decode(),
        "file": (root.path / "log").read_text(),
        "null": os.fstat(0).st_ino == os.stat(root.path / "dev/null").st_ino and os.fstat(0).st_ino != before.st_ino,
        "owners": [os.fstat(fd).st_uid for fd in (0, 1, 2)],
        "host": [after.st_uid, after.st_gid, after.st_mode] == [before.st_uid, before.st_gid, before.st_mode],
        "read": os.read(0, 1).decode(),
        "cloexec": [os.get_inheritable(fd) for fd in (0, 1, 2)],
    }


def test_the_hosts_null_is_replaced_with_the_containers(tmp_path):
    seen = staged.apart(lambda: stdio(str(tmp_path / "root"), as_null, 77))
    assert seen == {
        "pipe": "to the pipe", "file": "to the file", "null": True, "owners": [0, 77, 0], "host": True, "read": "",
        "cloexec": [True, True, True],
    }  # fmt: skip


def null_link(root):
    (root / "marker").write_text("")
    os.symlink("/marker", root / "dev/null")


def null_file(root):
    (root / "dev/null").write_text("")


def null_fifo(root):
    os.mkfifo(root / "dev/null")


def null_zero(root):
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 5))


def null_directory(root):
    (root / "dev/null").mkdir()


def test_owner_of_descriptors_that_an_execed_process_inherits():
    def look():
        read, write = os.pipe()
        os.dup2(write, 1)
        fds.exec_owner({"keep": [], "uid": 88}, Run())
        first = os.fstat(1).st_uid
        fds.exec_owner({"keep": [], "uid": 99}, Run(plans={"terminal": {}}))
        return [first, os.fstat(read).st_uid]

    assert staged.apart(look) == [88, 88]


@pytest.mark.parametrize("make", [null_link, null_file, null_fifo, null_zero, null_directory, None])
def test_a_fake_null_of_the_image(tmp_path, make):
    """CVE-2026-88265: output used to end up in a file of the image."""
    seen = staged.apart(lambda: stdio(str(tmp_path / "root"), make))
    assert "/dev/null in the container" in seen["words"] and seen["path"] == "/dev/null"
    for name in ("marker", "dev/null"):
        path = tmp_path / "root" / name
        assert not path.is_file() or path.read_text() == ""


def test_kept_descriptors_lose_close_on_exec():
    def look():
        os.closerange(3, 50)
        fd = os.open("/dev/zero", os.O_RDONLY)
        inside = [os.open("/dev/zero", os.O_RDONLY) for _ in range(2)]
        fds.init_stdio_owner({"keep": [3, 4], "listen": 0, "uid": 0}, Run())
        return [[number, os.get_inheritable(number)] for number in (fd, *inside)]

    # the child has its socket at some lower number; what matters is that exactly two numbers from 3 on changed
    kept = os.fork()
    if kept == 0:
        try:
            os._exit(look() != [[3, True], [4, True], [5, False]])
        finally:
            os._exit(2)  # look() has raised; a second copy of the test run must not continue
    assert os.waitstatus_to_exitcode(os.waitpid(kept, 0)[1]) == 0
