"""seccomp: real filters, in forked children for single calls. Filters in containers are in test_seccomp_containers.py."""

import ctypes
import errno
import itertools
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import threading

import pytest

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
on_x86_64 = pytest.mark.skipif(MACHINE != "x86_64", reason="only x86_64 has such calls")


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
