"""finish(): every operation, its effect on the program, and the record if it fails."""

import errno
import fcntl
import os
import posix
import signal
import struct
from struct import pack

import pytest

import harness
import kernel_constants
from pyrunc.linux import _syscalls, constants
from tail import (
    ALLOW,
    ERRNO,
    KILL,
    NEW_LISTENER,
    NEWPID,
    NOTIFY,
    NUMBERS,
    Tail,
    capset,
    fails,
    field,
    program,
    program_of_argument,
    ready,
    returns,
    shows,
)

pytestmark = pytest.mark.kernel

TRUE = ("EXEC", ("/bin/true",), ())
NOBODY = 65534


@pytest.fixture
def folder(tmp_path):
    """A directory that other users can enter."""
    return harness.open_to_all(tmp_path)


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


# --- filters


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


# --- capabilities and ids


def _last_cap():
    return int(open("/proc/sys/kernel/cap_last_cap").read())


def _caps(text):
    return {name: int(field(text, name), 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def _have():
    return int(field(open("/proc/self/status").read(), "CapBnd"), 16)


def test_bounding_set_is_reduced():
    keep = (1 << kernel_constants.CAP_CHOWN) | (1 << kernel_constants.CAP_KILL)
    assert _caps(shows((("BOUND", keep, _last_cap()),)))["CapBnd"] == keep & _have()


def test_bounding_set_of_a_kernel_with_fewer_capabilities():
    assert _caps(shows((("BOUND", 0, 63),)))["CapBnd"] == 0


def test_bounding_set_without_the_right_to_reduce_it():
    record = fails((("CAPS", 0, 0, 0, 0), ("BOUND", 0, _last_cap())))
    assert (record.op, record.errno, record.call) == ("BOUND", errno.EPERM, "prctl")


def test_an_already_reduced_bounding_set_needs_no_rights():
    assert _caps(shows((("BOUND", 0, 63), ("CAPS", 0, 0, 0, 0), ("BOUND", 0, 63))))["CapBnd"] == 0


def test_ids_groups_and_all_five_sets():
    chown, kill = 1 << kernel_constants.CAP_CHOWN, 1 << kernel_constants.CAP_KILL
    ops = (
        ("BOUND", chown | kill, 63),
        ("IDS", 1234, 2345, struct.pack("=3I", 7, 5, 7)),
        ("CAPS", chown, chown | kill, chown | kill, kill),
    )
    text = shows(ops)
    assert field(text, "Uid").split() == ["1234"] * 4
    assert field(text, "Gid").split() == ["2345"] * 4
    assert field(text, "Groups").split() == ["5", "7", "7"]
    # execve as an ordinary user: permitted and effective become the ambient set
    assert _caps(text) == {"CapInh": chown | kill, "CapPrm": kill, "CapEff": kill, "CapBnd": chown | kill, "CapAmb": kill}


def test_sets_before_execve():
    chown, kill = 1 << kernel_constants.CAP_CHOWN, 1 << kernel_constants.CAP_KILL
    ops = (("IDS", 1234, 1234, b""), ("CAPS", chown, chown | kill, kill, 0))
    flags = kernel_constants.PR_GET_KEEPCAPS, kernel_constants.PR_GET_DUMPABLE
    got = returns(ops, lambda: (_syscalls.capget(0), *(_syscalls.prctl(flag) for flag in flags)))
    assert got == ((chown, chown | kill, kill), 0, 0)


def test_groups_none_leaves_them_alone_and_empty_clears_them():
    before = returns((), lambda: sorted(os.getgroups()), prepare=lambda: os.setgroups([4, 5]))
    assert before == [4, 5]
    assert returns((("IDS", 0, 0, None),), lambda: sorted(os.getgroups()), prepare=lambda: os.setgroups([4, 5])) == [4, 5]
    assert returns((("IDS", 0, 0, b""),), lambda: os.getgroups(), prepare=lambda: os.setgroups([4, 5])) == []


@pytest.mark.parametrize("uid, gid, call", [(0xFFFFFFFF, 0, "setresuid"), (0, 0xFFFFFFFF, "setresgid")])
def test_the_id_that_means_unchanged_is_detected(uid, gid, call):
    record = fails((("IDS", uid, gid, b""),))
    assert (record.op, record.detail, record.errno, record.call) == ("IDS", 6, errno.EINVAL, call)


IDS, CAPS = ("IDS", 5, 5, b""), ("CAPS", 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("op", "call"),
    [(IDS, "setgroups"), (IDS, "setresgid"), (IDS, "setresuid"), (IDS, "prctl"), (CAPS, "capget"), (CAPS, "capset"), (CAPS, "prctl")],
)
def test_a_call_that_is_denied_is_an_error(op, call):
    """Only a filter makes these calls fail: a failure must not be mistaken for success."""
    record = fails((("NNP",), ("FILTER", program([call], ERRNO | errno.EPERM), 0), op))
    assert (record.op, record.call, record.errno, record.detail) == (op[0], call, errno.EPERM, 0)


@pytest.mark.parametrize(
    ("op", "option"),
    [(IDS, kernel_constants.PR_SET_KEEPCAPS), (IDS, constants.PR_SET_DUMPABLE), (CAPS, kernel_constants.PR_SET_KEEPCAPS)],
)
def test_a_setting_that_is_denied_is_an_error(op, option):
    record = fails((("NNP",), ("FILTER", program_of_argument("prctl", option, ERRNO | errno.EPERM), 0), op))
    assert (record.op, record.call, record.errno, record.detail) == (op[0], "prctl", errno.EPERM, 0)


@pytest.mark.parametrize(
    ("op", "call", "number"), [(IDS, "setresgid", errno.EINVAL), (IDS, "setresuid", errno.EINVAL), (CAPS, "capset", errno.EPERM)]
)
def test_a_call_that_does_nothing_is_detected(op, call, number):
    """The filter returns 0 instead of the kernel."""
    record = fails((("NNP",), ("FILTER", program([call], ERRNO), 0), op))
    assert (record.op, record.call, record.errno, record.detail) == (op[0], call, number, 6)


def test_an_id_without_a_mapping():
    record = fails((("IDS", 5, 0, None),), flags=constants.CLONE_NEWUSER)
    assert (record.op, record.call, record.errno) == ("IDS", "setresgid", errno.EINVAL)


def test_groups_where_setgroups_is_denied():
    def user_namespace():
        uid = os.getuid()
        _syscalls.unshare(constants.CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % uid)):
            with open("/proc/self/" + name, "w") as file:
                file.write(text)

    record = fails((("IDS", 0, 0, b""),), prepare=user_namespace)
    assert (record.call, record.errno) == ("setgroups", errno.EPERM)
    assert "Uid" in shows((("IDS", 0, 0, None),), prepare=user_namespace)


def test_more_capabilities_than_permitted():
    record = fails((("CAPS", 0, 0, 0, 0), ("CAPS", 1, 1, 0, 0)))
    assert (record.op, record.errno, record.call) == ("CAPS", errno.EPERM, "capset")


def test_an_ambient_capability_that_is_not_inheritable_is_left_out():
    kill = 1 << kernel_constants.CAP_KILL
    assert _caps(shows((("IDS", 1, 1, b""), ("CAPS", kill, kill, 0, kill))))["CapAmb"] == 0


def test_no_new_privs_and_umask():
    text = shows((("NNP",), ("UMASK", 0o027)), "umask; cat /proc/self/status", prepare=lambda: os.umask(0o777))
    assert text.splitlines()[0] == "0027"
    assert field(text, "NoNewPrivs") == "1"


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


# --- the rest


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
