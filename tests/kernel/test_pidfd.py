"""linux/pidfd, linux/prctl and linux/fds on the real kernel."""

import errno
import os
import signal

import pytest

import kernel_constants
from fakes.hand import failing
from pyrunc.errors import CallError
from pyrunc.linux import _syscalls, fds, pidfd, prctl
from tail import NEWPID, Tail, ready, returns

pytestmark = pytest.mark.kernel


class Child:
    """A process that waits until a pipe is closed."""

    def __init__(self, name=None):
        reader, self.hold = os.pipe()
        said, says = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(reader, 0)
            if name:
                _syscalls.prctl(kernel_constants.PR_SET_NAME, name[:15] + b"\0")
            os.closerange(3, 1000)  # including descriptors that would keep another child's pipe open
            os.read(0, 1)
            os._exit(0)
        os.close(says)
        ready(said)
        os.close(said)
        os.close(reader)

    def end(self):
        """Closes its pipe and waits for it."""
        os.close(self.hold)
        return os.waitpid(self.pid, 0)[1]


def test_a_process_is_identified_by_pid_and_start_time():
    child = Child()
    started = pidfd.start_time(child.pid)
    assert started > 0 and started == pidfd.start_time(child.pid, living=True)
    fd = pidfd.open_init(child.pid, started)
    assert fd >= 0 and not os.get_inheritable(fd)
    assert pidfd.pid_of(fd) == child.pid
    assert pidfd.open_init(child.pid, started + 1) == -1
    assert pidfd.open_init(child.pid, 0) == -1
    child.end()
    assert pidfd.open_init(child.pid, started) == -1
    assert pidfd.start_time(child.pid) == 0
    assert pidfd.pid_of(fd) == -1
    assert pidfd.kill(fd, 0) is False
    os.close(fd)


@pytest.mark.parametrize("pid", [0, -1, -5, 0x7FFFFFFF])
def test_invalid_pids(pid):
    assert pidfd.open_init(pid, 1) == -1


@pytest.mark.parametrize("name", [b") R 1 1 1 1", b"a b) Z (", b"\n\n", b"((((", b")", b"\xff\xfe"])
def test_a_hostile_name_does_not_change_the_other_fields(name):
    child = Child(name)
    other = Child()
    assert abs(pidfd.start_time(child.pid, living=True) - pidfd.start_time(other.pid)) <= 1000
    assert pidfd.start_time(child.pid, living=True) > 0
    child.end()
    other.end()


def test_a_zombie_has_a_descriptor_and_no_life():
    child = Child()
    started = pidfd.start_time(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert pidfd.start_time(child.pid, living=True) == 0
    assert pidfd.start_time(child.pid) == started
    fd = pidfd.open_init(child.pid, started)
    assert pidfd.wait(fd, 0) is True
    os.close(fd)
    os.waitpid(child.pid, 0)
    os.close(child.hold)


def test_signals_and_waiting():
    child = Child()
    fd = pidfd.open_any(child.pid)
    assert pidfd.wait(fd, 0) is False
    with pytest.raises(CallError) as failed:
        pidfd.kill(fd, 1000)
    assert (failed.value.errno, failed.value.call) == (errno.EINVAL, "pidfd_send_signal")
    assert pidfd.kill(fd, signal.SIGTERM) is True
    assert pidfd.wait(fd) is True
    os.waitpid(child.pid, 0)
    os.close(fd)
    os.close(child.hold)
    assert pidfd.open_any(child.pid) == -1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSYS, signal.SIGTERM])
def test_the_signal_that_ended_a_process(number):
    child = Child()
    fd = pidfd.open_any(child.pid)
    assert pidfd.exit_signal(fd) == 0
    os.kill(child.pid, number)
    ready(fd)
    assert pidfd.exit_signal(fd) == number
    os.waitpid(child.pid, 0)
    assert pidfd.exit_signal(fd) in (number, 0)  # 0: kernels before 6.15 no longer know it
    os.close(fd)
    os.close(child.hold)


def test_an_exit_is_not_a_signal():
    child = Child()
    fd = pidfd.open_any(child.pid)
    os.close(child.hold)
    ready(fd)
    assert pidfd.exit_signal(fd) == 0
    os.waitpid(child.pid, 0)
    assert pidfd.exit_signal(fd) == 0
    os.close(fd)


def test_boot_id():
    assert len(pidfd.boot_id()) == 36
    assert pidfd.boot_id() == pidfd.boot_id()


# --- prctl: both implementations


@pytest.fixture(params=["python-prctl", "_syscalls"])
def leg(request, monkeypatch):
    if request.param == "_syscalls":
        monkeypatch.setattr(prctl, "_prctl", None)
    elif prctl._prctl is None:
        pytest.skip("this interpreter has no python-prctl")


def test_switches(leg):
    def look():
        prctl.set_dumpable(False)
        prctl.set_child_subreaper(True)
        orphan, said = os.pipe(), os.pipe()
        if os.fork() == 0:
            if os.fork() == 0:
                os.close(orphan[1])
                os.read(orphan[0], 1)  # waits until the parent has ended
                os.write(said[1], b"%d" % os.getppid())
            os._exit(0)
        os.wait()
        os.close(orphan[1])
        return _syscalls.prctl(kernel_constants.PR_GET_DUMPABLE), int(os.read(said[0], 20)) == os.getpid()

    assert returns((), look) == (0, True)


def test_the_end_of_the_parent(leg):
    """The grandchild sets the signal. Only the grandchild holds the pipe, so the end of the pipe shows that it is gone."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        go_r, go_w = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            prctl.set_pdeathsig(signal.SIGKILL)
            os.write(go_w, b"x")
            signal.pause()
            os._exit(0)
        os.read(go_r, 1)
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    ready(reader)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_errors_name_the_call(monkeypatch):
    class Refusing:
        @staticmethod
        def prctl(op, value):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(prctl, "_prctl", Refusing)
    with pytest.raises(CallError) as failed:
        prctl.set_dumpable(True)
    assert (failed.value.errno, failed.value.call) == (errno.EPERM, "prctl")
    monkeypatch.setattr(prctl, "_prctl", None)
    with pytest.raises(CallError) as failed:
        prctl.set_pdeathsig(1000)
    assert (failed.value.errno, failed.value.call) == (errno.EINVAL, "prctl")


# --- descriptors


def _open(fd, inheritable=True):
    os.dup2(os.open("/dev/zero", os.O_RDONLY), fd, inheritable)


def _only_standard():
    os.closerange(3, 1000)


def in_a_clean_process(look):
    """The result of look() in a process in which only the standard streams are open."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writer, 1)
            _only_standard()
            os.write(1, repr(look()).encode())
        except BaseException as e:
            os.write(1, repr(repr(e)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    data = b""
    while piece := os.read(reader, 4096):
        data += piece
    os.close(reader)
    os.waitpid(pid, 0)
    return eval(data)


def test_inherited_descriptors_are_listed_and_taken_over():
    def look():
        for fd in (7, 3, 40):
            _open(fd)
        _open(5, inheritable=False)
        os.closerange(41, 99)
        found = fds.inherited()
        return [fd for fd in found if fd in (3, 5, 7, 40)], [os.get_inheritable(fd) for fd in (0, 3, 5, 7, 40)], fds.inherited()

    assert in_a_clean_process(look) == ([3, 7, 40], [True, False, False, False, False], [])


def test_hand_on():
    def look():
        _open(9, inheritable=False)
        fds.hand_on([9])
        try:
            fds.hand_on([77])
        except CallError as e:
            return os.get_inheritable(9), e.errno, e.call, e.filename

    assert in_a_clean_process(look) == (True, errno.EBADF, "fcntl", "descriptor 77")


def test_a_pid_is_the_one_in_our_own_namespace():
    tail = Tail((("SYNC",),), flags=NEWPID)
    assert tail.record().kind == "S"
    assert pidfd.pid_of(tail.pidfd) == tail.pid
    assert _syscalls.prctl(kernel_constants.PR_GET_DUMPABLE) in (0, 1)
    tail.end()


@pytest.mark.parametrize("number", [errno.ESRCH, errno.EINVAL])
def test_a_pid_that_lives_on_as_a_session(monkeypatch, number):
    """Which errno the kernel has for it depends on its version."""
    monkeypatch.setattr(pidfd.posix, "pidfd_open", failing(number))
    assert pidfd.open_any(4321) == -1 and pidfd.open_init(4321, 7) == -1
    with pytest.raises(OSError):
        monkeypatch.setattr(pidfd.posix, "pidfd_open", failing(errno.EMFILE))
        pidfd.open_any(4321)
