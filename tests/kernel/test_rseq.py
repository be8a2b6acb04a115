"""The area of rseq(2), where the kernel notes on which processor a thread runs: a process that only waits, and has released its memory, must not
clear it. Linux 7.2 kills a process that did, with SIGSEGV, when it comes back to it after a change of the processor."""

import ctypes
import os
import signal
import socket
import struct

import pytest

import harness
from pyrunc.linux import _syscalls
from tail import LIBC, Tail, ready

pytestmark = pytest.mark.kernel

SEIZE, INTERRUPT, DETACH, GET_RSEQ_CONFIGURATION = 0x4206, 0x4207, 17, 0x420F  # ptrace(2)
WALL = 0x40000000


def ptrace(request, pid, addr=0, data=None):
    answer = LIBC.ptrace(ctypes.c_long(request), pid, ctypes.c_void_p(addr), data)
    assert answer >= 0, "ptrace %#x: %s" % (request, os.strerror(ctypes.get_errno()))
    return answer


def noted(pid):
    """(cpu_id_start, cpu_id) in the area of a process. Skips if the C library has registered none."""
    ptrace(SEIZE, pid)
    ptrace(INTERRUPT, pid)
    os.waitpid(pid, WALL)
    found = ctypes.create_string_buffer(24)  # struct ptrace_rseq_configuration
    try:
        ptrace(GET_RSEQ_CONFIGURATION, pid, 24, found)
        address, size = struct.unpack_from("QI", found)
        if not size:
            pytest.skip("the C library of this machine does not use rseq")
        with open("/proc/%d/mem" % pid, "rb", buffering=0) as file:
            file.seek(address)
            return struct.unpack("II", file.read(8))
    finally:
        ptrace(DETACH, pid)


@pytest.fixture
def processor():
    """The number of the only processor that this process and its children run on; not 0, which is what a cleared area says."""
    all_of_them = os.sched_getaffinity(0)
    if max(all_of_them) == 0:
        pytest.skip("this machine has one processor")
    os.sched_setaffinity(0, {max(all_of_them)})
    yield max(all_of_them)
    os.sched_setaffinity(0, all_of_them)


def test_after_forget(processor):
    from pyrunc.engine.init import memory

    ranges = memory(open("/proc/self/maps", "rb").read())
    tail = Tail((("FIND", "/bin/true", None), ("FORGET", ranges), ("READY",), ("WAIT",), ("EXEC", ("true",), ())), gate=True)
    assert tail.record().kind == "R"
    assert noted(tail.pid) == (processor, processor)
    tail.go()
    assert tail.status() == 0


def test_a_process_that_joins(processor):
    sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ops = (("SYNC",), ("CLONE", 0, 0), ("FIND", "/bin/true", None), ("EXEC", ("true",), ()))
    pid, pidfd = _syscalls.spawn(-1, (), ops, theirs.fileno())
    theirs.close()
    ready(sock.fileno())
    assert sock.recv(4096)[:1] == b"S"
    assert noted(pid) == (processor, processor)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pidfd)
    sock.close()


def test_a_waiting_init(runtime, make_bundle, processor, no_leaks):
    """The cpuset keeps it on the processor: the affinity of the caller is not the container's."""
    id = runtime.create(make_bundle({"/linux/resources": {"cpu": {"cpus": str(processor)}}}))
    assert noted(runtime.state(id)["pid"]) == (processor, processor)
    runtime.start(id)
    harness.until_status(runtime, id, "stopped")
    runtime.delete(id)
