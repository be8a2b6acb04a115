"""seccomp: real filters, in forked children for single calls, and in containers for the whole path."""

import contextlib
import ctypes
import errno
import fcntl
import itertools
import json
import mmap
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest

import harness
import staged
from fakes.hand import Ctx, Run
from pyrunc import helper_process
from pyrunc.linux import _syscalls
from pyrunc.linux import filters as f
from pyrunc.parts import seccomp
from tail import NUMBERS

pytestmark = pytest.mark.kernel
HERE = "/linux/seccomp"
MACHINE = os.uname().machine
GETPPID = NUMBERS["getppid"]
MKDIR = NUMBERS.get("mkdir", NUMBERS["mkdirat"])  # what busybox calls
on_x86_64 = pytest.mark.skipif(MACHINE != "x86_64", reason="only x86_64 has such calls")
NOTIF, RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101


def rule(names, action="SCMP_ACT_ALLOW", args=None, **more):
    return {"names": [names] if isinstance(names, str) else names, "action": action, **({"args": args} if args else {}), **more}


def errno_rule(name, number, *args):
    keys = ("index", "op", "value", "valueTwo")
    conditions = [dict(zip(keys, (i, "SCMP_CMP_" + op, *values), strict=False)) for i, op, *values in args]
    return rule(name, "SCMP_ACT_ERRNO", conditions, errnoRet=number)


def allow(*rules, **more):
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}


def compiled(profile, tmp_path=None):
    """(operation, program) of a profile, as the verbs create them."""
    entry = seccomp.plan({HERE: profile}, Ctx(config={}))
    run = Run(plans={"capabilities": {"nnp": False}}, root=str(tmp_path or "/proc/none/x"), call_helper=helper_process.call)
    seccomp.host_compile(entry, run)
    return seccomp.op_early(entry, run), run.seccomp_bpf  # type: ignore[attr-defined]


def raw(number, *args):
    """A system call without the wrapper of libc: the result, or minus errno."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    result = call(ctypes.c_long(number), *[ctypes.c_ulong(a) for a in args])
    return result if result != -1 else -ctypes.get_errno()


def under(profile, function):
    """The result of a function in a process under the filter."""
    op, _program = compiled(profile)
    ctypes.CDLL(None)

    def act():
        _syscalls.finish((op,), -1)
        return function()

    return staged.apart(act)


def death_under(profile, function):
    """The signal that ended a process in which the function was called under the filter; 0 if none."""
    op, _program = compiled(profile)
    pid = os.fork()
    if pid == 0:
        try:
            _syscalls.prctl(4, 0, 0, 0, 0)  # no core file
            _syscalls.finish((op,), -1)
            function()
        finally:
            os._exit(0)
    return -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---- what a filter does to one call


@pytest.mark.slow
def test_the_kernel_agrees_with_the_simulator():
    """Each rule has a different errno, so the result shows which one matched. getppid ignores its arguments, so any can be passed."""
    rng = random.Random(4)
    edges = [0, 1, 5, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**63, 2**64 - 1]
    rules, numbers = [], itertools.count(200)
    for op in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"):
        for _ in range(3):
            args = []
            for index in rng.sample(range(6), rng.choice([1, 2])):
                value = rng.choice(edges)
                args.append((index, op, value, rng.choice(edges)) if op == "MASKED_EQ" else (index, op, value))
            rules.append((next(numbers), args))
    calls = [[rng.choice(edges) for _ in range(6)] for _ in range(60)]
    for number, args in rules:
        profile = allow(errno_rule("getppid", number, *args))
        _op, program = compiled(profile)
        want = [f.verdict(program, f.ARCHES["SCMP_ARCH_" + MACHINE.upper()], GETPPID, call) for call in calls]
        got = under(profile, lambda: [raw(GETPPID, *call) for call in calls])
        assert [-g == number for g in got] == [w == f.ERRNO | number for w in want], args
        holds = [all(compare(op, call[i], *values) for i, op, *values in args) for call in calls]
        assert [-g == number for g in got] == holds, args


def compare(op, have, value, second=0):
    return {
        "NE": have != value, "LT": have < value, "LE": have <= value, "EQ": have == value, "GE": have >= value, "GT": have > value,
        "MASKED_EQ": have & value == second & value,
    }[op]  # fmt: skip


def test_all_arguments_of_a_rule_and_any_of_a_doubled_index():
    both = allow(errno_rule("personality", 99, (0, "EQ", 8), (1, "EQ", 9)))
    assert under(both, lambda: [raw(NUMBERS["personality"], 8, 9), raw(NUMBERS["personality"], 8, 0) >= 0, raw(GETPPID) > 0]) == [
        -99,
        True,
        True,
    ]
    either = allow(errno_rule("getppid", 99, (0, "EQ", 1), (0, "EQ", 2)))
    assert under(either, lambda: [raw(GETPPID, n) > 0 for n in (0, 1, 2, 3)]) == [True, False, False, True]


def test_errno_values():
    profile = allow(rule("getppid", "SCMP_ACT_ERRNO"), errno_rule("getpgid", 0), errno_rule("getsid", 4095))
    assert under(profile, lambda: [raw(GETPPID), raw(NUMBERS["getpgid"], 0), raw(NUMBERS["getsid"], 0)]) == [-errno.EPERM, 0, -4095]


@pytest.mark.parametrize(
    ("action", "ended"),
    [("KILL", signal.SIGSYS), ("KILL_THREAD", signal.SIGSYS), ("KILL_PROCESS", signal.SIGSYS), ("TRAP", signal.SIGSYS), ("LOG", 0)],
)
def test_deadly_actions(action, ended):
    assert death_under(allow(rule("getppid", "SCMP_ACT_" + action)), lambda: raw(GETPPID)) == ended


def test_kill_process_ends_all_threads_and_kill_thread_one():
    def in_a_thread():
        one = threading.Thread(target=lambda: raw(GETPPID))
        one.start()
        one.join(timeout=0.2)
        os._exit(7)

    assert death_under(allow(rule("getppid", "SCMP_ACT_KILL_PROCESS")), in_a_thread) == signal.SIGSYS
    assert death_under(allow(rule("getppid", "SCMP_ACT_KILL_THREAD")), in_a_thread) == -7


def test_trace_without_a_tracer_and_trap_with_a_handler():
    assert under(allow(rule("getppid", "SCMP_ACT_TRACE", errnoRet=7)), lambda: raw(GETPPID)) == -errno.ENOSYS

    def caught():
        seen = []
        signal.signal(signal.SIGSYS, lambda number, frame: seen.append(number))
        raw(GETPPID)
        return seen

    assert under(allow(rule("getppid", "SCMP_ACT_TRAP")), caught) == [signal.SIGSYS]


def known_names(last):
    """The names that libseccomp has for all calls of this machine up to a number. pyseccomp frees memory with another library than it was
    allocated with, if allocations are traced, so it runs in a plain process."""
    pytest.importorskip("pyseccomp", reason="the test needs the Python package pyseccomp for the names")
    plain = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PYTHONMALLOC")}
    return subprocess.run([sys.executable, "-c", NAMES, str(last)], env=plain, capture_output=True, text=True, check=True).stdout.split()


NAMES = """
import pyseccomp, sys
for number in range(int(sys.argv[1]) + 1):
    try:
        print(pyseccomp.resolve_syscall(0, number).decode())
    except ValueError:
        pass
"""


@pytest.mark.parametrize("default", [{}, {"defaultErrnoRet": 22}])
def test_calls_newer_than_the_profile_do_not_exist(default):
    names = [name for name in known_names(439) if name != "getppid"]
    profile = {"defaultAction": "SCMP_ACT_ERRNO", **default, "syscalls": [rule(names)]}
    denied = -default.get("defaultErrnoRet", errno.EPERM)
    got = under(profile, lambda: [raw(GETPPID), raw(440), raw(462), raw(5000), raw(NUMBERS["getpid"]) > 0])
    assert got == [denied, -errno.ENOSYS, -errno.ENOSYS, -errno.ENOSYS, True]


def test_a_profile_that_already_returns_enosys_is_left_alone():
    names = [name for name in known_names(439) if name != "getppid"]
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [rule(names), errno_rule("process_mrelease", 1)]}
    assert under(profile, lambda: [raw(GETPPID), raw(448), raw(447)]) == [-38, -1, -38]


def int80(number):
    """A 32-bit system call from a 64-bit process: mov eax, number; xor ebx, ebx; int 0x80; ret."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\x53\xb8" + struct.pack("<I", number) + b"\x31\xdb\xcd\x80\x5b\xc3")
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()


GETPPID32 = 64


@on_x86_64
def test_another_architecture_is_killed_unless_listed():
    if death_under(allow(), lambda: None) or _has_no_ia32():
        pytest.skip("this kernel has no 32-bit system calls")
    deny = rule("getppid", "SCMP_ACT_ERRNO", errnoRet=77)
    assert death_under(allow(deny), lambda: int80(GETPPID32)) == signal.SIGSYS
    both = allow(deny, architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    assert under(both, lambda: [int80(GETPPID32), raw(GETPPID), int80(20) > 0]) == [-77, -77, True]


def _has_no_ia32():
    pid = os.fork()
    if pid == 0:
        ok = False
        try:
            ok = int80(20) > 0
        finally:
            os._exit(0 if ok else 1)
    return os.waitpid(pid, 0)[1] != 0


@on_x86_64
def test_x32_numbers():
    deny = rule("getppid", "SCMP_ACT_ERRNO", errnoRet=77)
    assert death_under(allow(deny), lambda: raw(f.X32_BIT + GETPPID)) == signal.SIGSYS
    listed = allow(deny, architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"])
    assert under(listed, lambda: [raw(f.X32_BIT + GETPPID), raw(GETPPID)]) == [-77, -77]


@pytest.mark.parametrize("flag", ["LOG", "SPEC_ALLOW", "TSYNC"])
def test_flags_load(flag):
    value = allow(errno_rule("getppid", 9), flags=["SECCOMP_FILTER_FLAG_" + flag])
    assert under(value, lambda: raw(GETPPID)) == -9


def test_spec_allow_leaves_the_mitigation_off():
    def store_bypass():
        with open("/proc/self/status") as status:
            return next((line.split(":\t")[1].strip() for line in status if line.startswith("Speculation_Store_Bypass")), None)

    free = staged.apart(store_bypass)
    assert under(allow(), store_bypass) == free


def test_a_cached_filter_is_the_same_filter(tmp_path):
    value = allow(errno_rule("getppid", 9))
    first, second = compiled(value, tmp_path), compiled(value, tmp_path)
    assert first == second and len(os.listdir(tmp_path)) == 1


# ---- in containers


def fields(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def status_of(pid):
    with open("/proc/%d/status" % pid) as file:
        return fields(file.read())


# what a shell and cat of busybox call, names of all processors
NEEDED = [
    "execve", "brk", "mmap", "munmap", "mprotect", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "getrandom",
    "readlink", "readlinkat", "exit_group", "exit", "write", "read", "close", "close_range", "openat", "open", "fstat", "newfstatat",
    "getuid", "getgid", "setuid", "setgid", "geteuid", "getegid", "ioctl", "sendfile", "dup2", "fcntl", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "sigaltstack", "futex", "getpid", "getppid", "stat", "lstat", "poll",
    *(() if MACHINE == "x86_64" else ("uname",)),  # the C library asks for the kernel's version when it starts, and ends without an answer
]  # fmt: skip
CAT = ["/bin/cat", "/proc/self/status"]


@pytest.mark.parametrize("nnp", [False, True])
def test_it_is_in_force_from_the_moment_it_is_loaded(pyrunc, make_bundle, no_leaks, nnp):
    profile = allow(rule(["mkdir", "mkdirat"], "SCMP_ACT_ERRNO", errnoRet=95))
    bundle = make_bundle({HERE: profile, "/process/noNewPrivileges": nnp}, args=harness.WAIT_FOR_TERM)
    id = pyrunc.create(bundle)
    pid = pyrunc.state(id)["pid"]
    created = status_of(pid)
    assert (created["Seccomp"], created["NoNewPrivs"]) == (("0", "1") if nnp else ("2", "0"))
    pyrunc.start(id)
    running = status_of(pid)
    assert running["Seccomp"] == "2" and running["Seccomp_filters"] == "1" and running["NoNewPrivs"] == str(int(nnp))
    inside = fields(pyrunc.ok("exec", id, *CAT).out)
    assert inside["Seccomp"] == "2" and inside["Seccomp_filters"] == "1"
    refused = pyrunc.call("exec", id, "mkdir", "/tmp/x")
    assert refused.code == 1 and "not supported" in refused.err
    pyrunc.ok("delete", "--force", id)


@pytest.mark.parametrize("nnp", [False, True])
def test_a_tight_profile(pyrunc, make_bundle, no_leaks, nnp):
    """It lacks all calls that prepare a process (setuid, capset, prctl, chdir, ...): they happen before the filter is loaded."""
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(NEEDED)]}
    changes = {HERE: profile, "/process/noNewPrivileges": nnp, "/process/user": {"uid": 1000, "gid": 1000, "additionalGids": [5]}}
    result = pyrunc.run(make_bundle(changes, args=CAT))
    assert result.code == 0, result
    seen = fields(result.out)
    assert seen["Uid"].split() == ["1000"] * 4 and seen["Seccomp"] == "2"


@pytest.mark.parametrize("nnp", [False, True])
def test_a_profile_that_lets_nothing_start(pyrunc, make_bundle, no_leaks, nnp):
    changes = {HERE: {"defaultAction": "SCMP_ACT_KILL"}, "/process/noNewPrivileges": nnp}
    result = pyrunc.run(make_bundle(changes))
    assert result.code == 1 and "the seccomp profile answers execve with KILL_THREAD" in result.said and HERE in result.said, result


@pytest.mark.parametrize("nnp", [False, True])
def test_a_profile_that_kills_one_of_our_last_steps(pyrunc, make_bundle, no_leaks, nnp):
    killed = rule(["setresuid", "close_range"], "SCMP_ACT_KILL_PROCESS")
    result = pyrunc.run(make_bundle({HERE: allow(killed), "/process/noNewPrivileges": nnp}))
    assert result.code == 0, "they happen before the filter is loaded: %r" % result


def test_the_profile_of_docker(pyrunc, make_bundle, no_leaks):
    bundle = make_bundle.example("seccomp-docker")
    script = "unshare -U true; echo $?; mkdir /tmp/d && cat /proc/self/status"
    result = pyrunc.run(bundle.patch({"/process/args": ["/bin/sh", "-c", script]}))
    assert result.code == 0, result
    assert result.out.startswith("1\n") and "Operation not permitted" in result.err and fields(result.out)["Seccomp"] == "2"


def test_a_damaged_cache_never_gives_a_wrong_filter(pyrunc, make_bundle, no_leaks):
    bundle = make_bundle({HERE: allow(rule(["mkdir", "mkdirat"], "SCMP_ACT_ERRNO"))}, args=["/bin/mkdir", "/tmp/x"])
    assert pyrunc.run(bundle).code == 1
    (name,) = os.listdir(pyrunc.root)
    path = os.path.join(pyrunc.root, name)
    good = open(path, "rb").read()
    with open(path, "wb") as file:
        file.write(good[:-8] + f.pack([(6, 0, 0, f.ALLOW)]))
    assert pyrunc.run(bundle).code == 1
    assert open(path, "rb").read() == good


# ---- listeners


class Agent:
    """Answers one kind of call: a thread with a listening socket. `received`: (the state, the listener's descriptor) of each connection."""

    def __init__(self, path, answer):
        self.path = str(path)
        self.answer = answer
        self.received = []
        self.arrived = threading.Event()
        self.calls = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            data, extra, _flags, _from = peer.recvmsg(1 << 16, socket.CMSG_SPACE(64))
            while chunk := peer.recv(1 << 16):
                data += chunk
            fds = struct.unpack("%di" % (len(extra[0][2]) // 4), extra[0][2])
            self.received.append((json.loads(data), fds))
            self.arrived.set()
            threading.Thread(target=self._answer, args=(fds[0],), daemon=True).start()

    def _answer(self, fd):
        while True:
            request = bytearray(NOTIF.size)
            try:
                fcntl.ioctl(fd, NOTIF_RECV, request)
            except OSError:  # the last process under the filter is gone
                return
            id, pid, _flags, number, _arch, _ip, *args = NOTIF.unpack(request)
            self.calls.append((number, pid))
            with contextlib.suppress(OSError):  # the caller ended while its call was pending
                fcntl.ioctl(fd, NOTIF_SEND, RESPONSE.pack(id, *self.answer(number, args)))

    def close(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join()


@pytest.fixture
def agent(scratch):
    made = []

    def make(name, answer=lambda number, args: (0, -errno.EXDEV, 0)):
        made.append(Agent(scratch / name, answer))
        return made[-1]

    yield make
    for one in made:
        one.close()
        os.unlink(one.path)


def notifying(agent, names=("mkdir", "mkdirat"), **more):
    return allow(rule(list(names), "SCMP_ACT_NOTIFY"), listenerPath=agent.path, **more)


@pytest.mark.parametrize("nnp", [False, True])
def test_the_listener_answers(pyrunc, make_bundle, no_leaks, agent, nnp):
    one = agent("agent%d" % nnp)
    changes = {HERE: notifying(one, listenerMetadata="told"), "/process/noNewPrivileges": nnp, "/annotations": {"a": "b"}}
    bundle = make_bundle(changes, args=harness.WAIT_FOR_TERM)
    id = pyrunc.create(bundle)
    assert one.arrived.wait(harness.WATCHDOG) and len(one.received) == 1, "sent before create returned, read by a thread"
    state, fds = one.received[0]
    pid = pyrunc.state(id)["pid"]
    assert len(fds) == 1 and state["fds"] == ["seccompFd"] and state["metadata"] == "told" and state["pid"] == pid
    assert state["state"] == {
        "ociVersion": state["ociVersion"], "id": id, "status": "creating", "pid": pid, "bundle": str(bundle), "annotations": {"a": "b"},
    }  # fmt: skip
    assert os.readlink("/proc/self/fd/%d" % fds[0]) == "anon_inode:seccomp notify"
    pyrunc.start(id)
    tried = pyrunc.call("exec", id, "mkdir", "/tmp/x")
    assert tried.code == 1 and "ross-device" in tried.err, tried
    state, _fds = one.received[1]
    assert state["state"]["status"] == "running" and state["state"]["pid"] == pid != state["pid"]
    assert one.calls[0][0] in (MKDIR, NUMBERS["mkdirat"])
    pyrunc.ok("delete", "--force", id)


@pytest.mark.parametrize("nnp", [False, True])
def test_our_own_last_steps_may_be_notified(pyrunc, make_bundle, no_leaks, agent, nnp):
    """read, close, execve, setresuid and capset go to the agent, which lets them continue (SECCOMP_USER_NOTIF_FLAG_CONTINUE)."""
    one = agent("steps%d" % nnp, lambda number, args: (0, 0, 1))
    names = ("read", "close", "execve", "setresuid", "capset", "close_range", "prctl")
    changes = {HERE: notifying(one, names, flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), "/process/noNewPrivileges": nnp}
    result = pyrunc.run(make_bundle(changes, args=CAT))
    assert result.code == 0 and fields(result.out)["Seccomp"] == "2", result
    assert NUMBERS["execve"] in {number for number, _pid in one.calls}


def test_nobody_listens(pyrunc, make_bundle, no_leaks, scratch):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(scratch / "dead"))
    dead.close()
    profile = allow(rule("mkdir", "SCMP_ACT_NOTIFY"), listenerPath=str(scratch / "dead"))
    result = pyrunc.call("create", "--bundle", make_bundle({HERE: profile}), pyrunc.new_id())
    assert result.code == 1 and "failed to connect with seccomp agent" in result.said and "connection refused" in result.said, result
    assert "/linux/seccomp/listenerPath" in result.said


def test_a_long_path(pyrunc, make_bundle, no_leaks, scratch, monkeypatch):
    folder = scratch / ("long" * 30)
    folder.mkdir()
    monkeypatch.chdir(folder)
    one = Agent("agent", lambda number, args: (0, -errno.EXDEV, 0))
    one.path = str(folder / "agent")
    result = pyrunc.run(make_bundle({HERE: notifying(one)}, args=["/bin/mkdir", "/tmp/x"]))
    assert result.code == 1 and "ross-device" in result.err, result
    one.close()
