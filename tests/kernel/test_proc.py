"""linux/proc.py: our own procfs stays procfs, whatever the container does to /proc."""

import errno
import os
import tempfile

import pytest

import staged
from pyrunc.linux import _syscalls, constants
from pyrunc.linux import proc as module
from pyrunc.linux.proc import Proc

pytestmark = pytest.mark.kernel
PRIVATE = constants.MS_PRIVATE | constants.MS_REC


@pytest.fixture
def proc():
    made = Proc()
    yield made
    made.close()


def own_mounts():
    """Moves the child to its own mount namespace."""
    _syscalls.unshare(constants.CLONE_NEWNS)
    _syscalls.mount(None, "/", None, PRIVATE, None)


def test_reads_writes_and_links(proc):
    assert b"Pid:\t%d\n" % os.getpid() in proc.read("self/status")
    assert b"Pid:\t%d\n" % os.getpid() in proc.read("thread-self/status")
    assert b"Pid:\t1\n" in proc.read("1/status")
    assert proc.read("sys/kernel/ostype") == b"Linux\n"
    assert proc.read("self/status", 5) == b"Name:"
    assert proc.readlink("self/ns/net") == os.readlink("/proc/self/ns/net")
    before = proc.read("self/comm")
    proc.write("self/comm", b"renamed")
    assert proc.read("self/comm") == b"renamed\n"
    proc.write("self/comm", before.strip())


def test_the_handle_of_processes_holds_nothing_else(proc):
    proc.read("self/status")
    fd = os.open(".", os.O_RDONLY, dir_fd=proc.directory())
    assert {"sys", "sysrq-trigger", "kcore"}.isdisjoint(os.listdir(fd)) and "1" in os.listdir(fd)
    os.close(fd)
    assert list(proc._fds) == ["pid"]
    proc.prepare(whole=True)
    assert len(proc._fds) == 2
    assert all(os.get_inheritable(fd) is False for fd in proc._fds.values())
    proc.close()
    proc.close()
    assert proc.read("self/comm")  # a new handle is opened


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("sys/../self/status", errno.ELOOP),  # `self` is a link
        ("../etc/passwd", errno.EXDEV),
        ("/self/status", errno.EXDEV),
        ("self/root/etc/passwd", errno.ELOOP),
        ("self/cwd", errno.ELOOP),
        ("self/fd/0", errno.ELOOP),
        ("mounts", errno.ELOOP),
        ("nosuch", errno.ENOENT),
        ("99999999/status", errno.ENOENT),
        ("sys/kernel/nosuch", errno.ENOENT),
    ],
)
def test_links_and_ways_out_are_refused(proc, path, number):
    with pytest.raises(OSError) as caught:
        proc.open(path, os.O_RDONLY)
    assert (caught.value.errno, caught.value.call, caught.value.filename) == (number, "openat2", "/proc/" + path)  # type: ignore[attr-defined]


def test_a_refusal_of_the_kernel_names_call_and_path(proc):
    with pytest.raises(OSError) as caught:
        proc.write("self/oom_score_adj", b"banana")
    assert (caught.value.errno, caught.value.call, caught.value.filename) == (errno.EINVAL, "write", "/proc/self/oom_score_adj")  # type: ignore[attr-defined]


def test_reopen_is_the_same_object(proc):
    with tempfile.TemporaryFile() as f:
        f.write(b"x")
        f.flush()
        node = os.open("/proc/self/fd/%d" % f.fileno(), os.O_PATH)
        fd = proc.reopen(node, os.O_RDONLY)
        assert os.fstat(fd).st_ino == os.fstat(f.fileno()).st_ino and os.get_inheritable(fd) is False
        assert os.read(fd, 9) == b"x"
        os.close(fd)
        os.close(node)


def test_a_fake_proc_is_not_written_to():
    """CVE-2019-16884, CVE-2025-52881: a tmpfs over /proc, with the files that labels and settings are written to."""

    def look():
        own_mounts()
        _syscalls.mount("tmpfs", "/proc", "tmpfs", 0, None)
        os.makedirs("/proc/self")
        for name in ("/proc/self/comm", "/proc/comm"):
            with open(name, "w") as f:
                f.write("fake")
        os.makedirs("/proc/sys/kernel")
        with open("/proc/sys/kernel/ostype", "w") as f:
            f.write("fake")
        made = Proc()
        made.write("self/comm", b"real")
        with open("/proc/self/comm") as f:
            return [f.read(), made.read("self/comm").decode(), made.read("sys/kernel/ostype").decode()]

    assert staged.apart(look) == ["fake", "real\n", "Linux\n"]


def test_a_mount_over_a_file_does_not_redirect_writes():
    """A real procfs file over another one (sysrq-trigger in place of attr/exec): the type of the file system does not reveal that."""

    def look():
        own_mounts()
        _syscalls.mount("/proc/self/timerslack_ns", "/proc/%d/comm" % os.getpid(), None, constants.MS_BIND, None)
        made = Proc()
        made.write("self/comm", b"7777777")
        return made.read("self/comm").decode()

    assert staged.apart(look) == "7777777\n"


def plain_only(subset):
    raise OSError(errno.EPERM, "as in a container of another's making")


def test_on_a_plain_proc_a_mount_over_a_file_is_detected():
    """The last resort if the kernel gives us neither a new procfs nor a clone of this one."""

    def look():
        own_mounts()
        pid = os.getpid()
        _syscalls.mount("/proc/self/timerslack_ns", "/proc/%d/comm" % pid, None, constants.MS_BIND, None)
        module._fresh = plain_only
        constants.OPEN_TREE_CLONE = 0x40000000  # EINVAL
        made = Proc()
        seen = []
        for path in ("self/comm", "self/status"):
            try:
                made.read(path)
                seen.append(0)
            except OSError as e:
                seen.append(e.errno)
        return seen

    assert staged.apart(look) == [errno.EXDEV, 0]


@pytest.mark.parametrize("over", ["tmpfs", "part"])
def test_on_a_plain_proc_a_fake_is_refused(over):
    def look():
        own_mounts()
        if over == "tmpfs":
            _syscalls.mount("tmpfs", "/proc", "tmpfs", 0, None)
        else:
            _syscalls.mount("/proc/sys", "/proc", None, constants.MS_BIND, None)
        module._fresh = plain_only
        try:
            Proc().read("self/status")
        except OSError as e:
            return [e.errno, e.filename]

    assert staged.apart(look) == [errno.ENODEV, "/proc"]


def below():
    """Moves to a new user namespace with a mount namespace; the pid namespace stays that of the host."""
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    _syscalls.prctl(constants.PR_SET_DUMPABLE, 1)  # otherwise comm would belong to root
    _syscalls.unshare(constants.CLONE_NEWUSER | constants.CLONE_NEWNS)


def test_in_a_user_namespace_that_does_not_own_the_pid_namespace():
    def look():
        below()
        made = Proc().prepare(whole=True)
        made.write("self/comm", b"mine")
        return [made.read("self/comm").decode(), made.read("sys/kernel/ostype").decode()]

    assert staged.apart(look) == ["mine\n", "Linux\n"]


def test_in_a_user_namespace_with_mounts_over_proc():
    """The /proc of a container has masks that a nested user namespace cannot remove: no new procfs, no clone, and still no redirection."""

    def outer():
        own_mounts()
        _syscalls.mount("tmpfs", "/proc/sys", "tmpfs", 0, None)
        below()
        made = Proc()
        made.write("self/comm", b"mine")
        seen = [made.read("self/comm").decode()]
        try:
            made.read("sys/kernel/ostype")
        except OSError as e:
            seen.append(e.errno)
        return seen

    assert staged.apart(outer) == ["mine\n", errno.EXDEV]


def test_numbers_are_those_of_the_own_pid_namespace():
    def look():
        _syscalls.unshare(constants.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            text = Proc().read("self/status")
            os._exit(0 if b"\nPid:\t1\n" in text else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert staged.apart(look) == 0
