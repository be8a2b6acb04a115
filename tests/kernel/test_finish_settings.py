"""finish(): the session and its terminal, files that it writes, keyring, personality, memory policy and namespaces."""

import errno
import os

import pytest

import kernel_constants
from pyrunc.linux import _syscalls, constants
from tail import Tail, fails, ready, returns

pytestmark = pytest.mark.kernel


def test_session_and_terminal():
    master, slave = os.openpty()
    show = ("FIND", "/bin/sh", None), ("EXEC", ("sh", "-c", "tty; ps -o sid=,pid= -p $$"), ())
    tail = Tail((("SESSION", slave), ("STDIO", slave, slave, slave), *show))
    os.close(slave)
    assert tail.record() is None
    text = b""
    while len(text.split()) < 3:
        ready(master)
        text += os.read(master, 999)
    terminal, session, pid = text.decode().split()
    assert terminal.startswith("/dev/pts/")
    assert session == pid == str(tail.pid)
    assert tail.status() == 0
    os.close(master)


def test_session_of_a_file_that_is_not_a_terminal():
    record = fails((("SESSION", 0),), prepare=lambda: os.dup2(os.open("/dev/null", os.O_RDONLY), 0))
    assert (record.op, record.errno, record.call) == ("SESSION", errno.ENOTTY, "ioctl")
    record = fails((("SESSION", -1),), prepare=os.setsid)
    assert (record.op, record.errno, record.call) == ("SESSION", errno.EPERM, "setsid")


def test_write(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_text("....")
    (tmp_path / "link").symlink_to("sub/file")
    (tmp_path / "out").symlink_to("/etc/hostname")
    fd = os.open(tmp_path, os.O_PATH)
    assert returns((("WRITE", fd, "sub/file", b"abc"),), lambda: open(tmp_path / "sub/file").read()) == "abc."
    refused = {"link": errno.ELOOP, "out": errno.ELOOP, "../x": errno.EXDEV, "nowhere": errno.ENOENT, "/etc/hostname": errno.EXDEV}
    for path, number in refused.items():
        record = fails((("WRITE", fd, path, b"x"),))
        assert (record.op, record.errno, record.call) == ("WRITE", number, "openat2"), path
    os.close(fd)


def test_write_that_the_kernel_refuses():
    fd = os.open("/proc", os.O_PATH)
    record = fails((("WRITE", fd, "self/oom_score_adj", b"nonsense"),))
    assert (record.op, record.errno, record.call) == ("WRITE", errno.EINVAL, "write")
    os.close(fd)


def test_keyring():
    name = "_ses.pt%d-finish" % os.getpid()  # only this run uses it
    names = returns((("KEYRING", name),), lambda: _syscalls.keyctl_describe(kernel_constants.KEY_SPEC_SESSION_KEYRING))
    assert names.split(b";")[0] == b"keyring" and names.endswith(b";" + name.encode())


def test_personality():
    flag = kernel_constants.ADDR_NO_RANDOMIZE
    assert returns((("PERSONALITY", flag),), lambda: _syscalls.personality(0xFFFFFFFF)) == flag


def test_mempolicy():
    assert (
        returns((("MEMPOLICY", kernel_constants.MPOL_BIND, b"\1" + bytes(7), 64),), _syscalls.get_mempolicy)[0]
        == kernel_constants.MPOL_BIND
    )
    assert returns((("MEMPOLICY", kernel_constants.MPOL_DEFAULT, b"", 0),), _syscalls.get_mempolicy)[0] == kernel_constants.MPOL_DEFAULT
    record = fails((("MEMPOLICY", 99, b"\1" + bytes(7), 64),))
    assert (record.op, record.errno, record.call) == ("MEMPOLICY", errno.EINVAL, "set_mempolicy")


def test_setns():
    holder = Tail((("SYNC",),), flags=constants.CLONE_NEWUTS)
    assert holder.record().kind == "S"
    fd = os.open("/proc/%d/ns/uts" % holder.pid, os.O_RDONLY)
    assert returns((("SETNS", fd, constants.CLONE_NEWUTS),), lambda: os.stat("/proc/self/ns/uts").st_ino) == os.fstat(fd).st_ino
    record = fails((("SETNS", fd, constants.CLONE_NEWNET),))
    assert (record.op, record.errno, record.call) == ("SETNS", errno.EINVAL, "setns")
    os.close(fd)
    holder.end()
