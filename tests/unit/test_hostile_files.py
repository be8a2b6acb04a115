"""config.json that is not a regular or readable file: rejected immediately, by file type, without any other effect."""

import os
import socket
import stat

import pytest

import hoststate
from pyrunc import errors
from pyrunc.oci import load

pytestmark = pytest.mark.usefixtures("watchdog")


@pytest.fixture
def watchdog():
    """A reader that waits for a writer would hang the test run; the alarm turns that into a failure."""
    import signal

    def expired(number, frame):
        raise AssertionError("opening config.json blocks")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refusal(bundle):
    with pytest.raises(errors.Refusal) as caught:
        load.config(str(bundle))
    return caught.value.sentence()


def test_missing(tmp_path):
    assert refusal(tmp_path) == "JSON specification file config.json not found"
    assert refusal(tmp_path / "no") == "JSON specification file config.json not found"


def test_fifo(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    assert refusal(tmp_path) == "config.json is a fifo, and must be a file"


def test_directory(tmp_path):
    (tmp_path / "config.json").mkdir()
    assert refusal(tmp_path) == "config.json is a directory, and must be a file"


def test_socket(tmp_path):
    path = str(tmp_path / "config.json")
    here = os.open(tmp_path, os.O_RDONLY | os.O_PATH)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("/proc/self/fd/%d/config.json" % here)  # the path of the directory may be too long for a socket
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert refusal(tmp_path) == "config.json is a socket, and must be a file"
    os.close(here)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/full", "/dev/urandom", "/dev/tty"])
def test_device_behind_a_link(tmp_path, device):
    os.symlink(device, tmp_path / "config.json")
    assert refusal(tmp_path) in (
        "config.json is a character device, and must be a file",
        "open config.json: no such device or address",  # /dev/tty without a terminal, where stat fails too
    )


def test_link_loop(tmp_path):
    os.symlink("config.json", tmp_path / "config.json")
    assert refusal(tmp_path) == "open config.json: too many levels of symbolic links"


def test_bundle_is_a_file(tmp_path):
    (tmp_path / "file").write_text("{}")
    assert refusal(tmp_path / "file") == "open config.json: not a directory"


def test_unreadable(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "config.json").chmod(0)
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:  # root can read it anyway, so this checks what other users see
        os.chmod(tmp_path, 0o700)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setgroups([])
                fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
                os.fchmod(fd, 0o755)
                os.setresuid(65534, 65534, 65534)
                load.config(fd)
            except errors.Refusal as e:
                status = 0 if e.sentence() == "open config.json: permission denied" else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    else:
        assert refusal(tmp_path) == "open config.json: permission denied"


def test_no_descriptor_is_left_and_none_is_inherited(tmp_path):
    before = hoststate.descriptors()
    os.mkfifo(tmp_path / "config.json")
    for _ in range(3):
        refusal(tmp_path)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert load.FLAGS & os.O_CLOEXEC and load.FLAGS & os.O_NONBLOCK and load.FLAGS & os.O_NOCTTY


def test_other_documents_name_themselves(tmp_path):
    with pytest.raises(errors.Refusal, match=r"^open .*/process.json: no such file or directory$"):
        load.file(str(tmp_path / "process.json"))
    with pytest.raises(errors.Refusal, match="NUL"):
        load.file("/a\0b")
    with pytest.raises(errors.Refusal, match=r"^open a\\nb: no such file"):
        load.file(str(tmp_path / "x"), shown="a\nb")


def test_procfs_file_reads(tmp_path):
    """stat reports a size of 0 for kernel files; the number of bytes read counts."""
    os.symlink("/proc/self/status", tmp_path / "config.json")
    with pytest.raises(errors.Refusal, match="line 1, column 1"):
        load.config(str(tmp_path))
