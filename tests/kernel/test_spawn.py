"""spawn(): a process created inside the namespaces of another one, and what is visible of it there."""

import errno
import os
import posix
import signal
import socket
from struct import pack

import pytest

import hoststate
from pyrunc.linux import _syscalls, constants
from tail import NEWPID, Record, Tail, drain, ready

pytestmark = pytest.mark.kernel

JOINED = NEWPID | constants.CLONE_NEWNS | constants.CLONE_NEWUTS
SHOW = ("FIND", "/bin/sh", None)


@pytest.fixture
def container():
    """A process with its own pid, mount and uts namespaces, a /proc and a host name."""

    def prepare():
        _syscalls.mount(None, "/", None, constants.MS_REC | constants.MS_PRIVATE, None)
        _syscalls.mount("proc", "/proc", "proc", 0, None)
        _syscalls.sethostname("inside")

    tail = Tail((("SIGNALS",), ("READY",), ("WAIT",)), flags=JOINED, prepare=prepare, gate=True)
    assert tail.record().kind == "R"
    yield tail
    tail.end()


def spawn(sock, theirs, joins, ops, cgroup_fd=-1, **kw):
    """(pid, record) of the second process, which carries all of `ops` out; (None, the failure) if it could not be made."""
    first, fd = _syscalls.spawn(cgroup_fd, joins, (("SYNC",), ("CLONE", 0, 1), *ops), theirs.fileno(), **kw)
    os.close(fd)
    theirs.close()
    assert received(sock).kind == "S"
    posix.write(sock.fileno(), b"c")
    record = received(sock)
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == (0 if record.kind == "P" else 1)
    if record.kind != "P":
        return None, record
    posix.write(sock.fileno(), b"c")  # it waits, or what it reports could come before its pid
    return record.extra, record


def received(sock):
    ready(sock.fileno())
    data = sock.recv(4096)
    return Record(data) if data else None


class Spawned:
    def __init__(self, joins, ops, **kw):
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.out_fd, out = os.pipe()
        null = os.open("/dev/null", os.O_RDWR)
        kw.setdefault("stdio", (null, out, out))
        try:
            self.pid, self.first = spawn(self.sock, theirs, joins, ops, **kw)
        finally:
            theirs.close()
            os.close(out)
            os.close(null)
        self.pidfd = -1 if self.pid is None else os.pidfd_open(self.pid)

    def record(self):
        return received(self.sock)

    def go(self):
        posix.write(self.sock.fileno(), b"c")

    def end(self):
        """(output, exit status)."""
        text = drain(self.out_fd).decode()
        os.close(self.out_fd)
        ready(self.pidfd)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        return text, os.waitstatus_to_exitcode(status)


def runs(joins, what, *before_exec, **kw):
    spawned = Spawned(joins, (*before_exec, SHOW, ("EXEC", ("sh", "-c", what), ("PATH=/usr/bin:/bin",))), **kw)
    record = spawned.record()
    text, status = spawned.end()
    assert record is None, (record, text)
    return text, status


def test_it_is_created_inside_and_returns_its_status_to_us(container):
    text, status = runs(((container.pidfd, JOINED),), "echo $$; hostname; readlink /proc/self/ns/pid; exit 7")
    pid, name, namespace = text.split()
    assert status == 7
    assert int(pid) > 1
    assert name == "inside"
    assert namespace == os.readlink("/proc/%d/ns/pid" % container.pid)


def test_single_namespaces(container):
    kinds = {"uts": constants.CLONE_NEWUTS, "mnt": constants.CLONE_NEWNS}
    fds = [(os.open("/proc/%d/ns/%s" % (container.pid, name), os.O_RDONLY), kind) for name, kind in kinds.items()]
    text, _ = runs(tuple(fds), "hostname; readlink /proc/self/ns/mnt /proc/self/ns/pid || ls -d /proc/1")
    for fd, _type in fds:
        os.close(fd)
    assert text.split()[0] == "inside"


def test_only_the_given_descriptors_are_passed_on(container):
    leak = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(leak, True)
    text, _ = runs(((container.pidfd, JOINED),), "ls /proc/self/fd", ("CLOSE", b""))
    os.close(leak)
    assert text.split() == ["0", "1", "2", "3"]  # the last one belongs to ls


def test_preserved_descriptors_are_left():
    """The test run may have any descriptors from 3 on, so they are set up in a separate child."""

    def look():
        for fd in (3, 4):
            os.dup2(0, fd)
        sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ops = (("CLOSE", pack("=2i", 3, 4)), ("FIND", "/bin/ls", None), ("EXEC", ("ls", "/proc/self/fd"), ()))
        pid, _record = spawn(sock, theirs, (), ops)
        os.waitpid(pid, 0)

    tail = Tail((), after=lambda _fd: look())
    assert tail.output().split() == [b"0", b"1", b"2", b"3", b"4", b"5"]
    tail.status()


@pytest.fixture
def waiting(container):
    """A process that has joined and waits in SYNC, which root in the container could inspect."""
    os.environ["HOSTSECRET"] = "a-word-that-nobody-else-has"
    spawned = Spawned(((container.pidfd, JOINED),), (("CHDIR", "/"), ("SYNC",), SHOW, ("EXEC", ("sh", "-c", "exit 0"), ())))
    assert spawned.record().kind == "S"
    yield spawned
    del os.environ["HOSTSECRET"]
    spawned.go()
    assert spawned.record() is None
    assert spawned.end()[1] == 0


def test_arguments_and_environment_are_gone(waiting):
    for name in ("cmdline", "environ"):
        assert open("/proc/%d/%s" % (waiting.pid, name), "rb").read().strip(b"\0") == b""


def test_it_is_not_dumpable_and_has_one_thread(container):
    """Files of a dumpable process belong to its user, those of any other process to root (proc(5))."""
    ops = (("IDS", 1234, 1234, b""), ("SYNC",), ("EXEC", ("/bin/true",), ()))
    spawned = Spawned(((container.pidfd, JOINED),), ops)
    assert spawned.record().kind == "S"
    assert os.stat("/proc/%d/environ" % spawned.pid).st_uid == 0
    text = open("/proc/%d/status" % spawned.pid).read()
    assert "Threads:\t1\n" in text and "Uid:\t1234\t" in text
    spawned.go()
    assert spawned.end()[1] == 0


def test_no_directory_of_the_host_is_open(waiting):
    kinds = [os.readlink("/proc/%d/fd/%s" % (waiting.pid, fd)).split(":")[0] for fd in os.listdir("/proc/%d/fd" % waiting.pid)]
    assert sorted(kinds) == ["/dev/null", "pipe", "pipe", "socket"]


def test_the_heap_of_the_caller_is_not_in_it(waiting):
    """This process has the secret in many places (environment, heap); no readable page of the child may contain it."""
    words = (b"a-word-that-nobody-else-has", b"test_the_heap_of_the_caller_is_not_in_it")
    seen = 0
    with open("/proc/%d/mem" % waiting.pid, "rb", 0) as memory, open("/proc/%d/maps" % waiting.pid) as maps:
        for line in maps:
            span, rights, _offset, _dev, inode, *name = line.split()
            if "w" not in rights:
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            memory.seek(start)
            page = memory.read(end - start)
            seen += len(page)
            for word in words:
                assert word not in page, line
    assert seen > 0


def test_our_own_memory_is_untouched_afterwards(container):
    before = [bytes([i % 256]) * 5000 for i in range(200)]
    runs(((container.pidfd, JOINED),), ":")
    assert before == [bytes([i % 256]) * 5000 for i in range(200)]
    pid, fd = _syscalls.clone3(0)  # the next child has its heap again
    if pid == 0:
        os._exit(0 if len(before) == 200 and before[7] == b"\7" * 5000 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(fd)


def test_a_join_that_fails_is_raised(container):
    with pytest.raises(OSError) as failed:
        Spawned(((0, NEWPID),), (("EXEC", ("/bin/true",), ()),))
    assert failed.value.errno in (errno.EINVAL, errno.EBADF)
    assert failed.value.call == "setns"  # type: ignore[attr-defined]
    assert _syscalls.OPS[failed.value.op] == "SETNS"  # type: ignore[attr-defined]


def test_a_namespace_whose_init_has_died(container):
    fd = os.open("/proc/%d/ns/pid" % container.pid, os.O_RDONLY)
    signal.pidfd_send_signal(container.pidfd, signal.SIGKILL)
    ready(container.pidfd)
    record = Spawned(((fd, NEWPID),), (("EXEC", ("/bin/true",), ()),)).first
    os.close(fd)
    assert (record.kind, record.op, record.errno, record.call) == ("F", "CLONE", errno.ENOMEM, "clone")


def test_before_runs_in_the_callers_namespaces(container):
    """A write to a file that only this side can reach; cgroup.procs of version 1 and LSM attributes are written this way."""
    pid = os.getpid()
    proc = os.open("/proc", os.O_PATH)
    text, _ = runs(((container.pidfd, JOINED),), "cat /proc/self/oom_score_adj", before=(("WRITE", proc, "self/oom_score_adj", b"500"),))
    assert text.strip() == "500"
    with pytest.raises(OSError) as failed:
        runs((), ":", before=(("WRITE", proc, "%d/nowhere" % pid, b"1"),))
    os.close(proc)
    assert (failed.value.errno, failed.value.call) == (errno.ENOENT, "openat2")  # type: ignore[attr-defined]


def test_a_failing_operation_of_the_process_is_a_record(container):
    spawned = Spawned(((container.pidfd, JOINED),), (("CHDIR", "/nowhere"), ("EXEC", ("/bin/true",), ())))
    record = spawned.record()
    assert (record.kind, record.op, record.errno) == ("F", "CHDIR", errno.ENOENT)
    assert spawned.end() == ("", 1)


def test_into_a_cgroup_of_version_2(container):
    path = next((p for p in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if _syscalls.statfs(p)[0] == constants.CGROUP2_SUPER_MAGIC), None)
    if path is None:
        pytest.skip("this machine has no cgroup v2 mounted")
    path += "/pt%d-spawn" % os.getpid()
    os.mkdir(path)
    try:
        fd = os.open(path, os.O_DIRECTORY)
        text, _ = runs(((container.pidfd, JOINED),), "cat /proc/self/cgroup", cgroup_fd=fd)
        os.close(fd)
        assert path.rpartition("/")[2] in text
    finally:
        os.rmdir(path)


def test_no_signal_handler_of_python_runs_in_it(container):
    """Signals are blocked during the clone, and the child has the default dispositions."""
    spawned = Spawned(((container.pidfd, JOINED),), (("SYNC",), ("EXEC", ("/bin/true",), ())))
    assert spawned.record().kind == "S"
    text = open("/proc/%d/status" % spawned.pid).read()
    assert [line.split()[1] for line in text.splitlines() if line[:6] in ("SigBlk", "SigIgn", "SigCgt")] == ["0" * 16] * 3
    os.kill(spawned.pid, signal.SIGTERM)
    assert spawned.end()[1] == -signal.SIGTERM


@pytest.mark.slow
def test_a_wait_that_is_given_up_leaves_no_process():
    """The first process is held up before it joins, as one in a frozen cgroup is."""
    reader, writer = os.pipe()
    sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = []
    others = hoststate.children()  # of the whole test run

    def check():
        made.extend(hoststate.children() - others)
        raise KeyboardInterrupt

    before = os.listdir("/proc/self/fd")
    with pytest.raises(KeyboardInterrupt):
        _syscalls.spawn(-1, (), LAST, theirs.fileno(), before=(("WAIT", reader),), check=check)
    assert os.listdir("/proc/self/fd") == before
    (pid,) = made
    assert not os.path.exists("/proc/%d" % pid)
    for fd in (reader, writer):
        os.close(fd)
    sock.close()
    theirs.close()


def test_the_first_process_that_dies_is_raised():
    """As with the memory limit of the cgroup that it has entered."""
    reader, writer = os.pipe()
    os.close(writer)  # an end that says nothing ends it
    with pytest.raises(ProcessLookupError):
        _syscalls.spawn(-1, (), LAST, -1, before=(("WAIT", reader),))
    os.close(reader)


EXECUTES = ("EXEC", ("/bin/true",), ())
LAST = (("SYNC",), ("CLONE", 0, 0), EXECUTES)


@pytest.mark.parametrize("ops", [(), (EXECUTES,), LAST[:2], LAST[1:], (LAST[1], LAST[0], EXECUTES), (LAST[0], EXECUTES)])
def test_operations_in_another_order_are_refused(ops):
    with pytest.raises(ValueError, match="a SYNC, then a CLONE, and end in EXEC"):
        _syscalls.spawn(-1, (), ops, -1)


def test_arguments_are_checked_before_anything_is_created():
    for kw in ({"stdio": (1, 2)}, {"before": (("NO",),)}):
        with pytest.raises((ValueError, TypeError)):
            _syscalls.spawn(-1, (), LAST, -1, **kw)
    with pytest.raises(TypeError):
        _syscalls.spawn(-1, (3,), LAST, -1)  # type: ignore[arg-type]
