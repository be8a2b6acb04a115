"""calls(): a list of system calls in one go, as any user may make them. Those of mounts and devices are tested by what uses them."""

import errno
import os
import posix
import stat

import pytest

import hoststate
from pyrunc.errors import CallError
from pyrunc.linux import _syscalls, constants, paths

PLACE = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
FILE = posix.O_RDONLY | posix.O_CLOEXEC


@pytest.fixture
def folder(tmp_path):
    """(fd of an empty directory, its path)"""
    fd = os.open(tmp_path, PLACE)
    before = len(hoststate.descriptors())
    yield fd, tmp_path
    assert len(os.listdir("/proc/self/fd")) == before, "what was not to be kept is closed"
    os.close(fd)


def test_each_operation_can_use_what_the_others_have_made(folder):
    fd, top = folder
    kept = _syscalls.calls(
        [
            ("MKDIRAT", fd, "a", 0o700),
            ("OPENAT", fd, "a", PLACE),
            ("OPENAT2", fd, "/a", FILE, constants.RESOLVE_IN_ROOT),
            ("MKNODAT", _syscalls.FIRST, "pipe", stat.S_IFIFO | 0o600, 0),
            ("FCHOWN", _syscalls.SECOND, os.getuid(), os.getgid()),
            ("IS_FILE", _syscalls.SECOND, stat.S_IFDIR, 0, "a"),
            ("SAME_MOUNT", _syscalls.SECOND, fd, "a"),
            ("SYMLINKAT", _syscalls.FIRST, "c", "b"),
        ],
        _syscalls.SECOND,
    )
    assert os.path.samestat(os.fstat(kept), os.stat(top / "a")) and not os.get_inheritable(kept)
    os.close(kept)
    assert os.readlink(top / "a/c") == "b" and stat.S_ISFIFO((top / "a/pipe").stat().st_mode)
    assert _syscalls.calls([], -1) == -1


@pytest.mark.parametrize(
    ("operation", "number", "call", "path"),
    [
        (("OPENAT", _syscalls.FIRST, "none", FILE), errno.ENOENT, "openat", "none"),
        (("OPENAT2", _syscalls.FIRST, "../..", PLACE, constants.RESOLVE_BENEATH), errno.EXDEV, "openat2", "../.."),
        (("MKDIRAT", _syscalls.FIRST, "there", 0o700), errno.EEXIST, "mkdirat", "there"),
        (("IS_FILE", _syscalls.FIRST, stat.S_IFREG, 0, "/x"), errno.ESTALE, "fstat", "/x"),
        (("IS_FILE", _syscalls.FIRST, stat.S_IFDIR, 7, "/x"), errno.ESTALE, "fstat", "/x"),
        (("IS_FS", _syscalls.FIRST, 1, "/x"), errno.ENODEV, "fstatfs", "/x"),
        (("FCHOWN", 1000, 0, 0), errno.EBADF, "fchownat", None),
        (("FCHMOD", 1000, 0o700), None, "fchmodat2", None),  # Linux 6.6
        (("MKNODAT", _syscalls.FIRST, "there", stat.S_IFIFO, 0), errno.EEXIST, "mknodat", "there"),
        (("SAME_MOUNT", _syscalls.FIRST, 1000, "/x"), errno.EBADF, "statx", "/x"),
        (("FSMOUNT", _syscalls.FIRST, 0, 0), None, "fsmount", None),
        (("FSCONFIG", _syscalls.FIRST, 0, None, None, 0), None, "fsconfig", None),
        (("MOVE_MOUNT", _syscalls.FIRST, _syscalls.FIRST, 0), None, "move_mount", None),
    ],
)
def test_the_first_failure_ends_it(folder, operation, number, call, path):
    """What came before stays, nothing comes after, and the error names the operation."""
    fd, top = folder
    with pytest.raises(CallError) as caught:
        _syscalls.calls(
            [("MKDIRAT", fd, "there", 0o700), ("OPENAT", fd, ".", PLACE), operation, ("MKDIRAT", fd, "after", 0o700)], _syscalls.FIRST
        )
    e = caught.value
    assert (e.at, e.call, e.filename) == (2, call, path) and (number is None or e.errno == number)
    assert os.listdir(top) == ["there"]


def test_another_mount(folder):
    fd, _top = folder
    with pytest.raises(CallError) as caught:
        _syscalls.calls([("OPENAT", constants.AT_FDCWD, "/proc", PLACE), ("SAME_MOUNT", _syscalls.FIRST, fd, "/proc")], -1)
    assert (caught.value.errno, caught.value.at, caught.value.filename) == (errno.ESTALE, 1, "/proc")


@pytest.mark.parametrize("name", ["a", "\u00e9", "\udcff", b"\xfe", b"b"])
def test_names_are_what_they_are_elsewhere(folder, name):
    fd, top = folder
    _syscalls.calls([("MKDIRAT", fd, name, 0o700)], -1)
    assert os.listdir(os.fsencode(top)) == [os.fsencode(name)]
    with pytest.raises(FileExistsError) as caught:
        _syscalls.calls([("MKDIRAT", fd, name, 0o700)], -1)
    assert caught.value.filename == os.fsdecode(name)


@pytest.mark.parametrize(
    ("operations", "kind"),
    [
        ([("REBOOT",)], ValueError),
        ([("MKDIRAT", 3, "x")], ValueError),
        ([()], ValueError),
        (["MKDIRAT"], ValueError),
        ([(7, 3)], ValueError),
        ([("MKDIRAT", "x", 3, 0)], TypeError),
        ([("MKDIRAT", -1, "x\0y", 0)], ValueError),
        ([("MKDIRAT", -1, None, 0)], TypeError),
        ([("MKDIRAT", 1 << 70, "x", 0)], OverflowError),
        ([("FCHOWN", _syscalls.FIRST, 0, 0)], ValueError),
        ([("OPENAT", constants.AT_FDCWD, "/", PLACE)] * 9, ValueError),
        ((), TypeError),
    ],
)
def test_what_is_no_list_of_operations(operations, kind):
    before = hoststate.descriptors()
    with pytest.raises(kind):
        _syscalls.calls(operations, -1)
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="no operation has made this descriptor"):
        _syscalls.calls([], _syscalls.FIRST)


def test_a_file_that_may_be_missing(folder):
    fd, top = folder
    assert paths.find(fd, "/a") is None and paths.find(fd, "/a/b") is None
    (top / "a").write_text("")
    found = paths.find(fd, "/a")
    assert found is not None
    os.close(found)
    with pytest.raises(NotADirectoryError) as caught:
        paths.find(fd, "/a/b")
    assert caught.value.filename == "/a/b"
