"""finish(): the working directory, and how the program is found."""

import errno
import os

import pytest

import harness
import kernel_constants
from tail import Tail, fails, shows

pytestmark = pytest.mark.kernel


@pytest.fixture
def folder(tmp_path):
    """A directory that other users can enter."""
    return harness.open_to_all(tmp_path)


# --- working directory


def test_chdir_and_its_errors(tmp_path):
    assert shows((("CHDIR", str(tmp_path)), ("CHDIR2", str(tmp_path))), "pwd -P").strip() == os.path.realpath(tmp_path)
    (tmp_path / "file").write_text("")
    for name, number in (("nowhere", errno.ENOENT), ("file", errno.ENOTDIR), ("a" * 300, errno.ENAMETOOLONG)):
        record = fails((("CHDIR", str(tmp_path / name)),))
        assert (record.op, record.errno, record.call) == ("CHDIR", number, "chdir")


def test_a_directory_that_only_the_user_may_enter(folder):
    """As on NFS with root_squash; here it is root without CAP_DAC_OVERRIDE."""
    home = folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 1234, 1234)
    keep = (1 << kernel_constants.CAP_SETUID) | (1 << kernel_constants.CAP_SETGID)
    ops = (("CAPS", keep, keep, 0, 0), ("CHDIR", str(home)), ("IDS", 1234, 1234, b""), ("CAPS", 0, 0, 0, 0), ("CHDIR2", str(home)))
    assert shows(ops, "pwd -P").strip() == os.path.realpath(home)


def test_a_directory_that_cannot_be_entered(folder):
    home = folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 4321, 4321)
    keep = (1 << kernel_constants.CAP_SETUID) | (1 << kernel_constants.CAP_SETGID)
    record = fails((("CAPS", keep, keep, 0, 0), ("CHDIR", str(home)), ("IDS", 1234, 1234, b""), ("CHDIR2", str(home))))
    assert (record.op, record.errno, record.call) == ("CHDIR2", errno.EACCES, "chdir")


def test_a_working_directory_outside_the_root_is_found_out(tmp_path):
    """CVE-2024-21626: a descriptor of a directory on the host leads out."""

    def leave():
        fd = os.open("/usr", os.O_RDONLY)
        os.chroot(tmp_path)
        os.fchdir(fd)

    record = fails((("CHDIR", "."), ("CHDIR2", ".")), prepare=leave)
    assert (record.op, record.detail, record.errno, record.call) == ("CHDIR2", 1, errno.ENOENT, "getcwd")


def test_a_working_directory_that_was_removed(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()

    def leave():
        os.chdir(gone)
        gone.rmdir()

    record = fails((("CHDIR", "."), ("CHDIR2", ".")), prepare=leave)
    assert (record.op, record.detail) == ("CHDIR2", 1)


# --- finding the program


@pytest.fixture
def tools(folder):
    """bin/tool is a program, data/tool a plain file, tree/tool a directory, link/tool a link to bin/tool, loop/tool a link to itself."""
    for name in ("bin", "data", "tree", "link", "loop", "shut"):
        (folder / name).mkdir()
    (folder / "bin/tool").write_text("#!/bin/sh\necho found $0\n")
    (folder / "bin/tool").chmod(0o755)
    (folder / "data/tool").write_text("")
    (folder / "tree/tool").mkdir()
    (folder / "link/tool").symlink_to("../bin/tool")
    (folder / "loop/tool").symlink_to("tool")
    os.mkfifo(folder / "data/fifo")
    return folder


def _found(tools, name, path):
    ops = (("CHDIR", str(tools)), ("FIND", name, path), ("EXEC", ("tool",), ()))
    tail = Tail(ops)
    record = tail.record()
    text = tail.output().decode().strip().replace(str(tools) + "/", "")
    tail.status()
    return record, text


@pytest.mark.parametrize(
    "name, path, where",
    [
        ("tool", "{}/bin", "bin/tool"),
        ("tool", "/nowhere:{}/bin:{}/link", "bin/tool"),
        ("tool", "{}/data:{}/tree:{}/loop:{}/link:{}/bin", "link/tool"),
        ("tool", "bin", "bin/tool"),
        ("bin/tool", None, "bin/tool"),
        ("./bin/tool", "/nowhere", "./bin/tool"),
        ("{}/link/tool", "", "link/tool"),
        ("tool", "/" + "x" * 5000 + ":{}/bin", "bin/tool"),
    ],
)
def test_find(tools, name, path, where):
    record, text = _found(tools, name.format(tools), path and path.replace("{}", str(tools)))
    assert record is None
    assert text == "found " + where


@pytest.mark.parametrize("path", [":/nowhere", "/nowhere::/nowhere", "/nowhere:"])
def test_an_empty_element_is_the_working_directory(tools, path):
    tail = Tail((("CHDIR", str(tools / "bin")), ("FIND", "tool", path), ("EXEC", ("tool",), ())))
    assert tail.output().decode() == "found ./tool\n"
    assert tail.status() == 0


@pytest.mark.parametrize(
    "name, path, detail, number",
    [
        ("tool", "/nowhere:{}/tree:{}/loop", 2, errno.ENOENT),
        ("tool", None, 2, errno.ENOENT),
        ("tool", "", 2, errno.ENOENT),
        ("", "{}/bin", 2, errno.ENOENT),
        ("tool", "{}/data:/nowhere", 3, errno.EACCES),
        ("{}/data/tool", None, 3, errno.EACCES),
        ("{}/data/fifo", None, 3, errno.EACCES),
        ("/dev/null", None, 3, errno.EACCES),
        ("{}/tree/tool", None, 4, errno.EISDIR),
        ("{}", "{}/bin", 4, errno.EISDIR),
        ("{}/nowhere", "{}/bin", 5, errno.ENOENT),
        ("{}/loop/tool", None, 5, errno.ELOOP),
        ("{}/data/tool/x", None, 5, errno.ENOTDIR),
        ("/" + "x" * 5000, None, 5, errno.ENAMETOOLONG),
    ],
)
def test_find_fails(tools, name, path, detail, number):
    record, _text = _found(tools, name.replace("{}", str(tools)), path and path.replace("{}", str(tools)))
    assert (record.op, record.detail, record.errno) == ("FIND", detail, number)


def test_find_uses_the_rights_of_the_user(tools):
    (tools / "bin/tool").chmod(0o700)
    record = fails((("IDS", 1234, 1234, b""), ("CAPS", 0, 0, 0, 0), ("FIND", str(tools / "bin/tool"), None)))
    assert (record.detail, record.errno, record.call) == (3, errno.EACCES, "faccessat")
    (tools / "shut").chmod(0o700)
    record = fails((("IDS", 1234, 1234, b""), ("CAPS", 0, 0, 0, 0), ("FIND", str(tools / "shut/tool"), None)))
    assert (record.detail, record.errno) == (5, errno.EACCES)
