"""finish(): seccomp filters, the moment at which they are loaded, and their listeners."""

import errno
import fcntl
import os
import struct

import pytest

import kernel_constants
from pyrunc.linux import _syscalls
from tail import ALLOW, ERRNO, KILL, NEW_LISTENER, NOTIFY, NUMBERS, Tail, capset, fails, field, program, ready, shows
from test_finish import TRUE

pytestmark = pytest.mark.kernel
NOBODY = 65534


def test_filter_is_in_force():
    text = shows((("FILTER", program(["uname"], ERRNO | errno.EXDEV), 0),), "uname 2>&1 || cat /proc/self/status")
    assert "cross-device" in text.lower()
    assert field(text, "Seccomp") == "2"


def test_filter_with_nnp_needs_no_privilege():
    ops = (("IDS", NOBODY, NOBODY, b""), ("CAPS", 0, 0, 0, 0), ("NNP",), ("FILTER", program(["uname"], ERRNO | 1), 0))
    assert field(shows(ops), "Seccomp") == "2"


def test_filter_without_nnp_and_privilege_fails():
    """CAPS keeps CAP_SYS_ADMIN for a later filter, if the process has it."""
    deny = ("FILTER", program(["uname"], ERRNO | 1), 0)
    record = fails((("CAPS", 0, 0, 0, 0), deny), prepare=lambda: capset(0, 0, 0))
    assert (record.op, record.errno, record.call) == ("FILTER", errno.EACCES, "seccomp")


STATUS = "grep -E '^(Cap(Inh|Prm|Eff|Amb)|Seccomp|NoNewPrivs):' /proc/self/status"


@pytest.mark.parametrize("denied", [["chdir"], ["capset"]], ids=" ".join)
@pytest.mark.parametrize("uid", [0, NOBODY])
def test_the_capability_that_loads_the_filter_is_gone_when_the_program_runs(uid, denied):
    """CAPS keeps CAP_SYS_ADMIN for FILTER, which drops it; if the filter denies that, execve drops it."""
    bound = ("BOUND", 0, 40)
    ops = (bound, ("IDS", uid, uid, b""), ("CAPS", 0, 0, 0, 0), ("FILTER", program(denied, KILL), 0))
    seen = dict(line.split(":\t") for line in shows(ops, STATUS).splitlines())
    assert {seen["Cap" + name] for name in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
    assert (seen["Seccomp"], seen["NoNewPrivs"]) == ("2", "0")


def test_the_capability_is_gone_while_it_waits():
    ops = (("IDS", NOBODY, NOBODY, b""), ("CAPS", 0, 0, 0, 0), ("FILTER", program(["uname"], KILL), 0), ("READY",), ("WAIT",))
    tail = Tail((*ops, ("EXEC", ("true",), ())), gate=True)
    assert tail.record().kind == "R"
    with open("/proc/%d/status" % tail.pid) as file:
        status = file.read()
    assert "CapPrm:\t%016x\n" % 0 in status and "Seccomp:\t2\n" in status
    tail.end()


@pytest.mark.parametrize("denied", ["write", "read", "close"])
def test_a_filter_under_which_nothing_can_wait_is_loaded_after_the_wait(denied):
    """Until then, the capability that loads it is permitted but not effective."""
    ops = (("IDS", NOBODY, NOBODY, b""), ("CAPS", 0, 0, 0, 0), ("FILTER", program([denied], KILL), 0), ("READY",), ("WAIT",))
    tail = Tail((*ops, ("FIND", "true", "/bin"), ("EXEC", ("true",), ())), gate=True)
    assert tail.record().kind == "R"
    with open("/proc/%d/status" % tail.pid) as file:
        status = file.read()
    assert "CapPrm:\t%016x\n" % (1 << 21) in status and "CapEff:\t%016x\n" % 0 in status and "Seccomp:\t0\n" in status
    tail.end()


def test_a_postponed_filter_that_the_kernel_refuses_is_reported():
    """On the result descriptor, because nobody reads the other one any longer."""
    wrong = struct.pack("=HBBI", 0x06, 0, 0, KILL) + struct.pack("=HBBI", 0xFFFF, 0, 0, 0)
    tail = Tail((("FILTER", wrong, 0), ("READY",), ("WAIT",), ("EXEC", ("true",), ())), gate=True)
    assert tail.record().kind == "R"
    tail.go()
    record = tail.result()
    assert (record.op, record.errno, record.call) == ("FILTER", errno.EINVAL, "seccomp")
    assert tail.status() == 1


def test_a_postponed_filter_is_loaded_where_the_list_ends():
    """Before startContainer hooks, which are run by Python again."""

    def after(fd):
        with open("/proc/self/status") as file:
            os._exit(0 if "Seccomp:\t2\n" in file.read() else 1)

    tail = Tail((("FILTER", program(["write"], ERRNO | 1), 0), ("READY",), ("WAIT",)), gate=True, after=after)
    assert tail.record().kind == "R"
    tail.go()
    assert tail.status() == 0


def test_filter_that_is_not_a_program_fails():
    record = fails((("FILTER", struct.pack("=HBBI", 0xFFFF, 0, 0, 0), 0),))
    assert (record.op, record.errno) == ("FILTER", errno.EINVAL)


@pytest.mark.parametrize("order", ["close first", "filter first"])
def test_nothing_but_close_range_write_and_execve_comes_after_the_late_filter(order):
    """Every other call is fatal. The execve fails, so that the test covers the report as well."""
    late = ("FILTER", program(["write", "execve", "exit_group", "close_range"], ALLOW, KILL), 0)
    close = ("CLOSE", b"")
    ops = (close, late) if order == "close first" else (late, close)
    tail = Tail((("NNP",), ("READY",), ("WAIT",), ("RESET",), *ops, ("EXEC", ("/nowhere",), ())), gate=True)
    assert tail.record().kind == "R"
    tail.go()
    assert tail.result().errno == errno.ENOENT
    assert tail.errors() == b"exec /nowhere: no such file or directory\n"
    assert tail.status() == 1


def test_a_profile_that_forbids_close_range_still_starts_when_close_comes_first():
    text = shows((("NNP",), ("CLOSE", b""), ("FILTER", program(["close_range", "chdir"], ERRNO | errno.EPERM), 0)))
    assert field(text, "Seccomp") == "2"
    record = fails((("NNP",), ("FILTER", program(["close_range"], ERRNO | errno.EPERM), 0), ("CLOSE", b"")))
    assert (record.op, record.errno, record.call) == ("CLOSE", errno.EPERM, "close_range")


def test_listener_is_passed_on_before_the_program_starts():
    show = ("FIND", "/bin/sh", None), ("EXEC", ("sh", "-c", "ls /proc/self/fd; cd /; echo over"), ("PATH=/usr/bin:/bin",))
    tail = Tail((("NNP",), ("FILTER", program(["chdir"], NOTIFY), NEW_LISTENER), ("CLOSE", b""), *show))
    record = tail.record()
    assert record.kind == "L" and record.op == "FILTER"
    listener = _syscalls.pidfd_getfd(tail.pidfd, record.extra, 0)
    assert os.readlink("/proc/self/fd/%d" % listener) == "anon_inode:seccomp notify"
    tail.sock.send(b"c")
    assert tail.record() is None
    ready(listener)
    buffer = bytearray(kernel_constants.SECCOMP_IOCTL_NOTIF_RECV >> 16 & 0x3FFF)  # struct seccomp_notif; ioctl(2) has its size
    fcntl.ioctl(listener, kernel_constants.SECCOMP_IOCTL_NOTIF_RECV, buffer)
    number = struct.unpack_from("i", buffer, 16)[0]
    assert number == NUMBERS["chdir"]
    fcntl.ioctl(listener, kernel_constants.SECCOMP_IOCTL_NOTIF_SEND, bytearray(buffer[:8] + struct.pack("qiI", 0, 0, 1)))
    assert tail.output().split() == [b"0", b"1", b"2", b"3", b"over"]
    assert tail.status() == 0
    os.close(listener)


def test_listener_that_is_not_received_ends_init():
    tail = Tail((("NNP",), ("FILTER", program(["uname"], NOTIFY), NEW_LISTENER), TRUE))
    assert tail.record().kind == "L"
    tail.sock.close()
    assert tail.status() == 1
