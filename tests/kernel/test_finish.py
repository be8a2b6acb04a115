"""finish(): its channels, signals, descriptors, and what it does to memory, and the record if an operation fails."""

import errno
import os
import posix
import signal
from struct import pack

import pytest

from pyrunc.linux import _syscalls
from tail import NEWPID, Tail, fails, field, ready, shows

pytestmark = pytest.mark.kernel

TRUE = ("EXEC", ("/bin/true",), ())


# --- EXEC and the two channels


def test_exec_passes_on_exactly_argv_and_environment():
    tail = Tail((("FIND", "/bin/cat", None), ("EXEC", ("any name", "/proc/self/cmdline", "/proc/self/environ"), ("A=1", "B", "A=2"))))
    assert tail.output() == b"any name\0/proc/self/cmdline\0/proc/self/environ\0A=1\0B\0A=2\0"
    assert tail.status() == 0


def test_bytes_that_are_not_utf8_are_passed_on():
    tail = Tail((("FIND", "/bin/echo", None), ("EXEC", (b"echo", b"\xff\xfe", "\udc80"), ())))
    assert tail.output() == b"\xff\xfe \x80\n"
    assert tail.status() == 0


def test_end_of_status_means_executed():
    tail = Tail((("FIND", "/bin/true", None), TRUE))
    assert tail.record() is None
    assert tail.status() == 0


def test_exec_that_fails_before_ready_is_reported_on_status_only():
    tail = Tail((("EXEC", ("/nowhere",), ()),))
    record = tail.record()
    assert (record.kind, record.op, record.errno, record.call) == ("F", "EXEC", errno.ENOENT, "execve")
    assert tail.status() == 1
    assert tail.errors() == b""


def test_exec_that_fails_after_the_gate_is_reported_on_result_and_stderr():
    tail = Tail((("READY",), ("WAIT",), ("EXEC", ("/nowhere",), ())), gate=True)
    assert tail.record().kind == "R"
    assert tail.record() is None
    tail.go()
    record = tail.result()
    assert (record.op, record.errno, record.extra) == ("EXEC", errno.ENOENT, 2)
    assert tail.result() is None
    assert tail.errors() == b"exec /nowhere: no such file or directory\n"
    assert tail.status() == 1


SCRIPTS = [(b"no program", errno.ENOEXEC), (b"#!/nowhere\n", errno.ENOENT), (b"#!/proc/self/exe\n", None)]


@pytest.mark.parametrize("content, number", SCRIPTS)
def test_files_that_no_kernel_executes(tmp_path, content, number):
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(0o755)
    tail = Tail((("FIND", str(path), None), ("EXEC", ("x",), ())))
    record = tail.record()
    tail.end()
    if number:
        assert record.errno == number
    else:
        assert record is None or record.errno in (errno.ELOOP, errno.ENOEXEC)


def test_gate_opens_with_a_byte_and_closes_with_exec():
    tail = Tail((("SIGNALS",), ("READY",), ("WAIT",), ("RESET",), ("FIND", "/bin/true", None), TRUE), gate=True)
    assert tail.record().kind == "R"
    assert tail.record() is None
    assert os.waitid(os.P_PIDFD, tail.pidfd, os.WEXITED | os.WNOHANG) is None
    tail.go()
    assert tail.result() is None
    assert tail.status() == 0


def test_gate_that_is_gone_ends_init():
    tail = Tail((("READY",), ("WAIT",), TRUE), gate=True)
    assert tail.record().kind == "R"
    tail.close_gate()
    assert tail.status() == 1
    assert tail.result() is None


def test_nobody_listens_to_ready():
    tail = Tail((("SYNC",), ("RESET",), ("READY",), ("WAIT",), TRUE), gate=True)
    assert tail.record().kind == "S"
    tail.sock.close()
    assert tail.status() == 1


def test_sync_waits_for_the_answer():
    tail = Tail((("SYNC",), ("FIND", "/bin/true", None), TRUE))
    assert tail.record().kind == "S"
    posix.write(tail.sock.fileno(), b"c")
    assert tail.record() is None
    assert tail.status() == 0


def test_both_fifos_open_for_reading_and_writing(tmp_path):
    """As the engine does it: `start` opens them later, by path, and the kernel answers whether init is waiting."""
    gate, result = str(tmp_path / "gate"), str(tmp_path / "result")
    fds = []
    for path in (gate, result):
        os.mkfifo(path)
        fds.append(os.open(path, os.O_RDWR))
    tail = Tail((("READY",), ("WAIT", fds[0]), ("FIND", "/bin/true", None), TRUE))
    for fd in fds:
        os.close(fd)
    assert tail.record().kind == "R"
    writer = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
    reader = os.open(result, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    os.write(writer, b"0")
    ready(reader)
    assert os.read(reader, 1) == b""
    assert tail.status() == 0
    os.close(writer)
    with pytest.raises(OSError) as failed:
        os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
    assert failed.value.errno == errno.ENXIO
    os.close(reader)


def test_a_list_without_exec_returns_and_find_is_remembered():
    def second(result_fd):
        os.write(1, b"python ")
        _syscalls.finish((("EXEC", ("echo", "again"), ()),), -1, result_fd)

    tail = Tail((("FIND", "echo", "/usr/bin:/bin"), ("READY",), ("WAIT",)), gate=True, after=second)
    assert tail.record().kind == "R"
    tail.go()
    assert tail.result() is None
    assert tail.output() == b"python again\n"
    assert tail.status() == 0


def test_failure_of_the_second_half_is_reported_on_result():
    def second(result_fd):
        _syscalls.finish((("CHDIR", "/nowhere"),), 1, result_fd)

    tail = Tail((("READY",),), gate=True, after=second)
    assert tail.record().kind == "R"
    assert tail.result().op == "CHDIR"
    assert tail.output() == b""
    assert tail.status() == 1


def test_the_position_of_the_failed_operation_is_reported():
    assert fails((("NNP",), ("UMASK", 0o22), ("CHDIR", "/nowhere"))).extra == 2


# --- signals


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "PIPE", "ALRM"])
def test_a_waiting_pid_1_dies_of(name):
    number = getattr(signal, "SIG" + name)
    tail = Tail((("SIGNALS",), ("READY",), ("WAIT",), TRUE), flags=NEWPID, gate=True)
    assert tail.record().kind == "R"
    os.kill(tail.pid, number)
    assert tail.status() == 128 + number
    assert tail.result() is None


def test_a_waiting_pid_1_outlives_other_signals():
    tail = Tail((("SIGNALS",), ("READY",), ("WAIT",), ("FIND", "/bin/true", None), TRUE), flags=NEWPID, gate=True)
    assert tail.record().kind == "R"
    for number in (signal.SIGWINCH, signal.SIGCHLD, signal.SIGURG, signal.SIGCONT):
        os.kill(tail.pid, number)
    tail.go()
    assert tail.status() == 0


def _ignore_and_block_everything():
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))


@pytest.mark.parametrize("ops", [(("RESET",),), (("SIGNALS",),), (("SIGNALS",), ("RESET",))])
def test_the_program_starts_with_default_dispositions_and_an_empty_mask(ops):
    text = shows(ops, prepare=_ignore_and_block_everything)
    assert [field(text, name) for name in ("SigIgn", "SigBlk", "SigPnd")] == ["0" * 16] * 3


def test_without_reset_python_would_pass_on_an_ignored_sigpipe():
    assert field(shows(()), "SigIgn") != "0" * 16


# --- parent


def test_the_process_dies_with_its_parent():
    """child → grandchild with PDEATHSIG: when the child dies, so does the grandchild, which holds the only writing end of the pipe."""
    reader, writer = os.pipe()
    child, _fd = _syscalls.clone3(0)
    if child == 0:
        hold_r, hold_w = os.pipe()
        inner, _fd = _syscalls.clone3(0)
        if inner == 0:
            os.close(reader)
            _syscalls.finish((("PDEATHSIG", signal.SIGKILL, os.getppid()),), -1)
            os.write(writer, b"armed")
            os.read(hold_r, 1)
            os._exit(0)
        os.close(writer)
        os.read(reader, 5)
        os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    ready(reader)
    assert os.read(reader, 9) == b""
    os.close(reader)


def test_a_parent_that_died_before():
    record = fails((("PDEATHSIG", signal.SIGKILL, 1 if os.getpid() != 1 else 2),))
    assert (record.op, record.detail, record.errno) == ("PDEATHSIG", 7, errno.ESRCH)


# --- descriptors


def test_close_leaves_what_is_to_be_kept():
    def opens():
        for fd in range(3, 12):
            os.dup2(0, fd)  # inheritable

    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(3, 12)]  # the status socket gets a higher number
    try:
        text = shows((("CLOSE", pack("=2i", 3, 4)),), "ls /proc/self/fd", prepare=opens)
    finally:
        for fd in held:
            os.close(fd)
    assert text.split() == ["0", "1", "2", "3", "4", "5"]  # 5 belongs to ls


def test_stdio_is_moved_and_inherited():
    reader, writer = os.pipe()
    tail = Tail((("STDIO", -1, writer, -1), ("FIND", "/bin/echo", None), ("EXEC", ("echo", "moved"), ())))
    os.close(writer)
    ready(reader)
    assert os.read(reader, 99) == b"moved\n"
    assert tail.status() == 0
    os.close(reader)


def test_stdio_onto_itself_clears_close_on_exec():
    assert shows((("STDIO", 0, 1, 2),), "echo here", prepare=lambda: os.set_inheritable(1, False)) == "here\n"


def test_stdio_that_is_closed():
    record = fails((("STDIO", 999, -1, -1),))
    assert (record.op, record.errno, record.call) == ("STDIO", errno.EBADF, "dup2")


# --- memory, and all other descriptors


def anonymous_kb(pid):
    """The size of the resident memory in mappings without a file, in kB."""
    found, counts = 0, False
    for line in open("/proc/%d/smaps" % pid):
        words = line.split()
        if "-" in words[0] and words[0][-1] != ":":
            counts = words[4] == "0"  # the inode
        elif words[0] == "Anonymous:" and counts:
            found += int(words[1])
    return found


def test_forget_leaves_what_the_rest_needs():
    """All anonymous memory of the interpreter is released; the operations, the result of FIND, errno and the failure report still exist. (What
    it has written to in mappings of its executable and libraries stays; how much that is depends on how it is linked.)"""
    from pyrunc.engine.init import memory

    big = bytearray(8 << 20)
    ranges = memory(open("/proc/self/maps", "rb").read())
    assert len(ranges) > 16 and big
    tail = Tail((("FIND", "echo", "/usr/bin:/bin"), ("FORGET", ranges), ("READY",), ("WAIT",), ("EXEC", ("echo", "here"), ())), gate=True)
    assert tail.record().kind == "R"
    assert anonymous_kb(tail.pid) < 256 < 8192 < anonymous_kb(os.getpid())
    tail.go()
    assert tail.output() == b"here\n"
    assert tail.status() == 0
    tail = Tail((("FIND", "/bin/true", None), ("FORGET", ranges), ("SIGNALS",), ("CHDIR", "/nowhere")))
    assert (tail.record().errno, tail.status()) == (errno.ENOENT, 1)


def test_prune_closes_unused_descriptors():
    leak = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(leak, True)
    ops = (("PRUNE",), ("FIND", "/bin/true", None), ("SIGNALS",), ("READY",), ("WAIT",), TRUE)
    tail = Tail(ops, gate=True)
    os.close(leak)
    assert tail.record().kind == "R"
    assert tail.record() is None  # and the status socket is closed
    left = {int(fd): os.readlink("/proc/%d/fd/%s" % (tail.pid, fd)) for fd in os.listdir("/proc/%d/fd" % tail.pid)}
    assert sorted(left)[:3] == [0, 1, 2]
    assert [path.split(":")[0] for fd, path in sorted(left.items()) if fd > 2] == ["pipe", "pipe"]  # the gate and the result
    tail.go()
    assert tail.result() is None
    assert tail.status() == 0
