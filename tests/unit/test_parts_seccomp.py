"""seccomp: plans, the compiled program (run in the simulator), its cache, and the verb that loads it."""

import base64
import errno
import hashlib
import os
import socket

import pytest

from fakes.hand import Ctx, Run
from pyrunc import helper_process
from pyrunc.errors import Refusal, StepFailure, Unsupported
from pyrunc.linux import filters as f
from pyrunc.parts import seccomp
from pyrunc.parts.seccomp import cache, profile

POINTER = "/linux/seccomp"
X86, AARCH64 = f.ARCHES["SCMP_ARCH_X86"], f.ARCHES["SCMP_ARCH_AARCH64"]
on_x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")


def plan(value, ctx=None):
    return seccomp.plan({POINTER: value}, ctx or Ctx(config={}))


def rule(names, action="SCMP_ACT_ALLOW", args=None, **more):
    return {"names": names if isinstance(names, list) else [names], "action": action, **({"args": args} if args else {}), **more}


def arg(index, op, value, second=None):
    return {"index": index, "op": "SCMP_CMP_" + op, "value": value, **({} if second is None else {"valueTwo": second})}


def deny(*rules, **more):
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(["execve", "read", "write"]), *rules], **more}


def allow(*rules, **more):
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}


def refused(value):
    with pytest.raises((Refusal, Unsupported)) as caught:
        plan(value)
    return caught.value


def annotated(**annotations):
    return Ctx(plans={"meta": {"annotations": {getattr(profile, name): value for name, value in annotations.items()}}})


# ---- plan


def test_actions_become_numbers():
    actions = {
        "KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x00030000, "ERRNO": 0x00050001, "TRACE": 0x7FF00001,
        "LOG": 0x7FFC0000,
    }  # fmt: skip
    for name, number in actions.items():
        entry = plan(allow(rule("getpid", "SCMP_ACT_" + name)))
        assert entry["profile"]["rules"][0]["action"] == number, name
    assert plan(allow(rule("getpid", "SCMP_ACT_ERRNO", errnoRet=38)))["profile"]["rules"][0]["action"] == 0x50026
    assert plan(allow(rule("getpid", "SCMP_ACT_TRACE", errnoRet=65535)))["profile"]["rules"][0]["action"] == 0x7FF0FFFF
    assert plan({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 22})["profile"]["default"] == 0x50016


def test_nothing_to_do():
    assert plan({}) is None


def test_operators_and_one_rule_for_all_arguments():
    args = [arg(0, "EQ", 8), arg(1, "MASKED_EQ", 0xF0, 0x20), arg(5, "GE", 2**64 - 1)]
    rules = plan(deny(rule("personality", args=args)))["profile"]["rules"]
    assert rules[1]["args"] == [[0, 4, 8, 0], [1, 7, 0xF0, 0x20], [5, 5, 2**64 - 1, 0]]
    assert [f.OPERATORS["SCMP_CMP_" + name] for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")] == list(range(1, 8))


def test_an_index_given_twice_makes_separate_rules():
    rules = plan(deny(rule("personality", args=[arg(0, "EQ", 8), arg(1, "EQ", 9), arg(0, "EQ", 7)])))["profile"]["rules"]
    assert [r["args"] for r in rules[1:]] == [[[0, 4, 8, 0]], [[1, 4, 9, 0]], [[0, 4, 7, 0]]]


def test_bits_outside_of_the_mask_do_not_count():
    """The same as in libseccomp, and so in runc and crun. Otherwise a rule that denies a call would be lost."""
    ctx = Ctx(config={})
    entry = plan(deny(rule("clone", args=[arg(0, "MASKED_EQ", 0x0F, 0x13)])), ctx)
    assert entry["profile"]["rules"][1]["args"] == [[0, 7, 0x0F, 3]]
    assert [pointer for pointer, *_words in ctx.warnings] == [POINTER + "/syscalls/1/args/0/valueTwo"]


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        ({"defaultAction": "SCMP_ACT_NO"}, "/defaultAction", "string SCMP_ACT_NO is not a valid action for seccomp"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "/defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action"),
        (allow(defaultErrnoRet=1), "/defaultErrnoRet", "which returns none"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}, "/defaultErrnoRet", "larger than 4095"),
        (deny(rule("getpid", errnoRet=1)), "/syscalls/1/errnoRet", "which returns none"),
        (deny(rule("getpid", "SCMP_ACT_ERRNO", errnoRet=5000)), "/syscalls/1/errnoRet", "larger than 4095"),
        (deny(rule("getpid", "SCMP_ACT_TRACE", errnoRet=65536)), "/syscalls/1/errnoRet", "larger than 65535"),
        (deny(rule("getpid", "SCMP_ACT_LOUD")), "/syscalls/1/action", "not a valid action"),
        (deny(rule([])), "/syscalls/1/names", "without system call names"),
        (deny(rule(["getpid", ""])), "/syscalls/1/names/1", "empty"),
        (deny(rule("a\0")), "/syscalls/1/names/0", "NUL"),
        (deny(rule("getpid", args=[arg(0, "EQ", 1), arg(6, "EQ", 1)])), "/syscalls/1/args/1/index", "0 to 5"),
        (deny(rule("getpid", args=[arg(0, "LIKE", 1)])), "/syscalls/1/args/0/op", "not a valid operator"),
        (deny(rule("getpid", args=[arg(0, "EQ", 1, 2)])), "/syscalls/1/args/0/valueTwo", "MASKED_EQ only"),
        (deny(architectures=["SCMP_ARCH_X86", "SCMP_ARCH_VAX"]), "/architectures/1", "not a valid arch"),
        (deny(flags=["SECCOMP_FILTER_FLAG_FAST"]), "/flags/0", "is not known"),
        (deny(listenerMetadata="x"), "/listenerMetadata", "without listenerPath"),
        (deny(rule("getpid", "SCMP_ACT_NOTIFY")), "/listenerPath", "seccomp listenerPath is not set"),
        (deny(rule(["getpid", "write"], "SCMP_ACT_NOTIFY"), listenerPath="/l"), "/syscalls/1/names/1", "used for the write syscall"),
        (deny(rule("sendmsg", "SCMP_ACT_NOTIFY"), listenerPath="/l"), "/syscalls/1/names/0", "used for the sendmsg syscall"),
        (deny(rule("getpid", "SCMP_ACT_NOTIFY"), listenerPath="l"), "/listenerPath", "not an absolute path"),
        (deny(rule("getpid", "SCMP_ACT_NOTIFY"), listenerPath="/no/such"), "/listenerPath", "no such file or directory"),
        (deny(rule("getpid", "SCMP_ACT_NOTIFY"), listenerPath="/etc/passwd"), "/listenerPath", "is not a socket"),
        (deny(rule(["n%d" % i for i in range(20000)])), "/syscalls", "more than"),
    ],
)
def test_refusals(value, pointer, words):
    e = refused(value)
    assert e.pointer == POINTER + pointer and words in e.words


def test_value_two_of_zero_is_what_encoders_write():
    assert plan(deny(rule("getpid", args=[arg(0, "EQ", 1, 0)])))


def test_flags():
    given = plan(deny(flags=["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]))["flags"]
    assert given == f.FLAG_LOG | f.FLAG_SPEC_ALLOW
    assert plan(deny(flags=[]))["flags"] == 0
    assert plan(deny())["flags"] == f.FLAG_SPEC_ALLOW
    ctx = Ctx(config={})
    assert plan(deny(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), ctx)["flags"] == 0
    assert ctx.warnings[0][0] == POINTER + "/flags/0"


def test_a_flag_that_the_kernel_lacks(monkeypatch):
    monkeypatch.setattr(f, "supports_flag", lambda flag: False)
    assert plan(deny())["flags"] == 0
    with pytest.raises(Unsupported) as caught:
        plan(deny(flags=["SECCOMP_FILTER_FLAG_LOG"]))
    assert caught.value.pointer == POINTER + "/flags/0"


def test_flags_are_probed_without_loading_anything():
    assert f.supports_flag(f.FLAG_LOG) and not f.supports_flag(1 << 20)
    with open("/proc/self/status") as status:
        assert "Seccomp:\t0" in status.read()


def test_listener(tmp_path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    value = deny(rule("getppid", "SCMP_ACT_NOTIFY"), listenerPath=str(tmp_path / "s"), listenerMetadata="m")
    value["flags"] = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    entry = plan(value)
    assert entry["notify"] and entry["listener"] == str(tmp_path / "s") and entry["metadata"] == "m"
    assert entry["flags"] == f.FLAG_WAIT_KILLABLE_RECV
    sock.close()
    assert plan(deny(listenerPath="/no/such"))["listener"] is None, "no rule notifies, so no listener is needed"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (deny(), True),
        ({"defaultAction": "SCMP_ACT_KILL"}, True),
        (deny(defaultErrnoRet=38), False),
        (allow(), False),
        ({"defaultAction": "SCMP_ACT_LOG"}, False),
        ({"defaultAction": "SCMP_ACT_TRACE"}, False),
    ],
)
def test_newer_calls_are_unknown_where_the_default_denies(value, expected):
    assert plan(value)["profile"]["enosys"] is expected


# ---- the compiled program


def compiled(value, needs=("execve",)):
    return bytes.fromhex(helper_process.call("seccomp", {**plan(value)["profile"], "needs": list(needs)})["bpf"])


def verdict(program, number, *args, arch=f.X86_64):
    return f.action_name(f.verdict(program, arch, number, (*args, *[0] * (6 - len(args)))))


@on_x86_64
def test_conditions_alternatives_and_newer_calls():
    program = compiled(
        deny(
            rule("personality", args=[arg(0, "EQ", 8)]),
            rule("personality", args=[arg(0, "EQ", 0xFFFFFFFF)]),
            rule("clone", args=[arg(0, "MASKED_EQ", 0x7E020000)]),
            rule("socket", args=[arg(0, "NE", 40)]),
            rule("clone3", "SCMP_ACT_ERRNO", errnoRet=38),
            rule(["prctl", "no_such_call"], args=[arg(0, "EQ", 8), arg(1, "EQ", 9)]),
            architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        )
    )
    assert verdict(program, 135, 8) == verdict(program, 135, 0xFFFFFFFF) == "ALLOW"
    assert verdict(program, 135, 9) == verdict(program, 135, 8 | 1 << 40) == "ERRNO(1)", "all 64 bits are compared"
    assert verdict(program, 56, 0x11) == "ALLOW" and verdict(program, 56, 0x10000000) == "ERRNO(1)"
    assert verdict(program, 41, 1) == "ALLOW" and verdict(program, 41, 40) == "ERRNO(1)"
    assert verdict(program, 157, 8, 9) == "ALLOW" and verdict(program, 157, 8, 0) == "ERRNO(1)", "all arguments of a rule must match"
    assert verdict(program, 2) == "ERRNO(1)" and verdict(program, 435) == "ERRNO(38)"
    assert verdict(program, 436) == verdict(program, 700) == "ERRNO(38)", "newer than the profile"
    assert verdict(program, 11, arch=X86) == "ALLOW" and verdict(program, 5, arch=X86) == "ERRNO(1)"
    assert verdict(program, 436, arch=X86) == "ERRNO(38)"
    assert verdict(program, f.X32_BIT) == "ALLOW" and verdict(program, f.X32_BIT + 2) == "ERRNO(1)"
    assert verdict(program, f.X32_BIT + 600) == "ERRNO(38)"
    assert verdict(program, 59, arch=AARCH64) == "KILL_THREAD"


def test_a_filter_of_aarch64():
    """Its numbers differ, and calls with a path but no directory do not exist there. On x86_64 it is the second architecture."""
    program = compiled(
        deny(
            rule(["openat", "open", "mkdir", "exit_group", "faccessat2"]),
            rule("personality", args=[arg(0, "EQ", 8)]),
            rule("clone", args=[arg(0, "MASKED_EQ", 0x7E020000)]),
            rule("clone3", "SCMP_ACT_ERRNO", errnoRet=38),
            architectures=["SCMP_ARCH_AARCH64"],
        )
    )
    numbers = {"openat": 56, "read": 63, "write": 64, "exit_group": 94, "execve": 221, "faccessat2": 439}
    assert {verdict(program, number, arch=AARCH64) for number in numbers.values()} == {"ALLOW"}
    assert verdict(program, 92, 8, arch=AARCH64) == "ALLOW" and verdict(program, 92, 9, arch=AARCH64) == "ERRNO(1)"
    assert verdict(program, 220, 0x11, arch=AARCH64) == "ALLOW" and verdict(program, 220, 0x10000000, arch=AARCH64) == "ERRNO(1)"
    assert verdict(program, 435, arch=AARCH64) == "ERRNO(38)" and verdict(program, 40, arch=AARCH64) == "ERRNO(1)"
    assert verdict(program, 440, arch=AARCH64) == verdict(program, 700, arch=AARCH64) == "ERRNO(38)", "newer than the profile"
    assert verdict(program, 322, arch=f.ARCHES["SCMP_ARCH_ARM"]) == "KILL_THREAD", "the 32-bit architecture is not listed"


@on_x86_64
def test_the_native_architecture_is_always_included():
    program = compiled(deny(architectures=["SCMP_ARCH_X86"]))
    assert verdict(program, 0) == "ALLOW" and verdict(program, 3, arch=X86) == "ALLOW"
    program = compiled(deny())
    assert verdict(program, 3, arch=X86) == verdict(program, f.X32_BIT) == verdict(program, 600 | f.X32_BIT) == "KILL_THREAD"


@on_x86_64
def test_a_mask_needs_all_its_bits():
    program = compiled(allow(rule("kill", "SCMP_ACT_ERRNO", args=[arg(1, "MASKED_EQ", 0xFF00, 0x1200)])))
    assert verdict(program, 62, 0, 0x12FF) == "ERRNO(1)" and verdict(program, 62, 0, 0x1300) == "ALLOW"


@on_x86_64
def test_a_comparison_of_each_kind():
    for op, holds in (("NE", 6), ("LT", 4), ("LE", 5), ("EQ", 5), ("GE", 5), ("GT", 2**63)):
        program = compiled(allow(rule("kill", "SCMP_ACT_ERRNO", args=[arg(0, op, 5)])))
        misses = {"NE": 5, "LT": 5, "LE": 6, "EQ": 5 | 1 << 32, "GE": 4, "GT": 5}[op]
        assert verdict(program, 62, holds) == "ERRNO(1)" and verdict(program, 62, misses) == "ALLOW", op


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        ({"defaultAction": "SCMP_ACT_KILL"}, POINTER, "answers execve with KILL_THREAD"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(["execve", "read"])]}, POINTER, "answers write with ERRNO(1)"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(["moo", "baa"])]}, POINTER + "/syscalls/0/names", "is known"),
        (allow(rule("kill", "SCMP_ACT_ERRNO", args=[arg(0, "EQ", 1)]), rule("kill", "SCMP_ACT_TRAP", args=[arg(0, "EQ", 1)])),
         POINTER + "/syscalls/1", "another rule has the same arguments"),
        (deny(architectures=["SCMP_ARCH_S390X"]), POINTER + "/architectures/0", "byte order"),
        (allow(*[rule("getuid", "SCMP_ACT_ERRNO", args=[arg(0, "EQ", i), arg(1, "EQ", i)]) for i in range(1500)]),
         POINTER + "/syscalls", "instructions; the kernel accepts 4096"),
    ],
    ids=["kill", "write", "unknown", "contradiction", "endian", "size"],
)  # fmt: skip
def test_profiles_that_cannot_become_a_filter(value, pointer, words):
    with pytest.raises((Refusal, Unsupported)) as caught:
        compiled(value, ("execve", "write", "read"))
    assert caught.value.pointer == pointer and words in caught.value.words


def test_unknown_names_are_skipped_unless_the_annotation_forbids_it():
    value = deny(rule("no_such_call"))
    assert helper_process.call("seccomp", {**plan(value)["profile"], "needs": []})["unknown"] == ["no_such_call"]
    ctx = annotated(FAIL_UNKNOWN="")
    with pytest.raises(Refusal) as caught:
        helper_process.call("seccomp", {**plan(value, ctx)["profile"], "needs": []})
    assert caught.value.pointer == POINTER + "/syscalls/1/names"


def test_the_prologue_of_other_architectures():
    arm, s390x = f.ARCHES["SCMP_ARCH_ARM"], f.ARCHES["SCMP_ARCH_S390X"]
    program = f.pack(f.enosys_prologue({arm: 400, s390x: 350, f.X32: f.X32_BIT + 5}) + [(6, 0, 0, f.ALLOW)])
    assert verdict(program, 401, arch=arm) == "ERRNO(38)" and verdict(program, 400, arch=arm) == "ALLOW"
    assert verdict(program, 0xF0002, arch=arm) == "ALLOW", "numbers of private calls do not count"
    assert verdict(program, 0, arch=s390x) == verdict(program, 351, arch=s390x) == "ERRNO(38)"
    assert verdict(program, 1, arch=s390x) == "ALLOW" and verdict(program, 999, arch=AARCH64) == "ALLOW"
    assert verdict(program, 999) == "ALLOW" and verdict(program, f.X32_BIT + 6) == "ERRNO(38)", "of the two, only x32 is named"
    assert f.enosys_prologue({}) == []


@pytest.mark.parametrize(
    ("number", "alone", "with_x32"),
    [
        (0, "ALLOW", "ALLOW"), (300, "ALLOW", "ALLOW"), (301, "ERRNO(38)", "ERRNO(38)"), (f.X32_BIT - 1, "ERRNO(38)", "ERRNO(38)"),
        (f.X32_BIT + 5, "ALLOW", "ALLOW"), (f.X32_BIT + 6, "ALLOW", "ERRNO(38)"),
    ],
)  # fmt: skip
def test_the_prologue_of_x86(number, alone, with_x32):
    """Without x32 in the profile, its calls belong to a foreign architecture, which the rest of the program handles."""
    for highest, answer in (({f.X86_64: 300}, alone), ({f.X86_64: 300, f.X32: f.X32_BIT + 5}, with_x32)):
        assert verdict(f.pack(f.enosys_prologue(highest) + [(6, 0, 0, f.ALLOW)]), number) == answer


# ---- cache and verbs


class Compiler(Run):
    """A run whose helper counts its calls."""

    def __init__(self, root, nnp=False):
        super().__init__(plans={"capabilities": {"nnp": nnp}}, root=str(root))
        self.calls = 0

    def call_helper(self, name, payload):
        assert name == "seccomp"
        self.calls += 1
        self.payload = payload
        return {"bpf": f.pack([(6, 0, 0, f.ALLOW + self.calls)]).hex()}


@pytest.fixture
def run(tmp_path):
    return Compiler(tmp_path)


def files(run):
    return [os.path.join(run.root, name) for name in os.listdir(run.root)]


def test_a_filter_is_compiled_once(run):
    seccomp.host_compile(plan(deny()), run)
    first = run.seccomp_bpf
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 1 and run.seccomp_bpf == first
    seccomp.host_compile(plan(deny(defaultErrnoRet=2)), run)
    assert run.calls == 2, "a different profile"
    run.plans["capabilities"]["nnp"] = True
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 2 and run.payload["needs"] == ["execve"], "it does not matter where the filter is loaded"
    assert [os.stat(path).st_mode & 0o7777 for path in files(run)] == [0o600] * 2
    assert all(os.path.basename(path).startswith(".pyrunc@") for path in files(run)), (
        "other runtimes skip hidden files when they list containers"
    )


def damage(path, how):
    with open(path, "r+b") as file:
        data = file.read()
        if how == "cut":
            file.truncate(len(data) - 1)
        elif how == "empty":
            file.truncate(0)
        elif how == "program":
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
        elif how == "rehashed":  # a correct checksum, but not for this name
            program = f.pack([(6, 0, 0, f.ALLOW)])
            file.truncate(0)
            file.seek(0)
            file.write(cache.MAGIC + hashlib.sha256(b"other" + program).digest() + program)
    if how == "mode":
        os.chmod(path, 0o620)
    elif how in ("fifo", "link", "directory"):
        os.unlink(path)
        {"fifo": os.mkfifo, "directory": os.mkdir, "link": lambda p: os.symlink("/etc/passwd", p)}[how](path)


@pytest.mark.parametrize("how", ["cut", "empty", "program", "rehashed", "mode", "fifo", "link", "directory"])
def test_a_damaged_file_is_never_used(run, how):
    seccomp.host_compile(plan(deny()), run)
    (path,) = files(run)
    damage(path, how)
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 2 and run.seccomp_bpf == f.pack([(6, 0, 0, f.ALLOW + 2)])
    if how != "directory":
        seccomp.host_compile(plan(deny()), run)
        assert run.calls == 2, "the damaged file has been replaced"
    assert len(files(run)) == 1, "no temporary file is left"


def test_a_file_under_another_name_is_not_that_filter(run):
    seccomp.host_compile(plan(deny()), run)
    (path,) = files(run)
    seccomp.host_compile(plan(allow()), run)
    (other,) = set(files(run)) - {path}
    os.rename(path, other)
    seccomp.host_compile(plan(allow()), run)
    assert run.calls == 3


def test_a_directory_that_others_can_write_is_not_used_as_cache(run):
    os.chmod(run.root, 0o777)
    seccomp.host_compile(plan(deny()), run)
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 2 and files(run) == []


def test_without_a_place_for_the_cache_each_create_compiles(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "seccomp", "/proc/nowhere/x", tmp_path / "file"):
        run = Compiler(place)
        seccomp.host_compile(plan(deny()), run)
        seccomp.host_compile(plan(deny()), run)
        assert run.calls == 2, place


def test_filters_of_an_unknown_library_are_not_cached(run, monkeypatch):
    monkeypatch.setattr(cache, "LIBRARY_DIRS", ("/nowhere",))
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 1 and files(run) == []


def test_the_size_of_the_cache_is_limited(run, monkeypatch):
    monkeypatch.setattr(cache, "FILES", 8)
    for i in range(1, 20):
        seccomp.host_compile(plan(deny(defaultErrnoRet=i)), run)
    assert 4 <= len(files(run)) <= 8


def test_making_room_leaves_everything_else(run, monkeypatch):
    monkeypatch.setattr(cache, "FILES", 1)
    os.mkdir(os.path.join(run.root, "container"))
    open(os.path.join(run.root, "somebody-elses-file"), "w").close()
    for i in range(1, 4):
        seccomp.host_compile(plan(deny(defaultErrnoRet=i)), run)
    assert {"container", "somebody-elses-file"} < set(os.listdir(run.root))


def test_invalid_programs_are_not_loaded(run, monkeypatch):
    for bad in (b"", b"1234567", b"12345678" * 4097):
        monkeypatch.setattr(run, "call_helper", lambda name, payload, bad=bad: {"bpf": bad.hex()})
        with pytest.raises(StepFailure):
            seccomp.host_compile(plan(deny()), run)


@pytest.mark.parametrize(
    ("nnp", "notify", "traced", "verb"),
    [
        (False, False, False, "op_early"), (False, True, False, "op_early"), (True, True, False, "op_notify"), (True, False, False, "op_late"),
        (False, False, True, "op_early"), (False, True, True, "op_early"), (True, True, True, "op_notify"), (True, False, True, "op_early"),
    ],
)  # fmt: skip
def test_each_filter_is_loaded_once_and_in_its_place(nnp, notify, traced, verb):
    run = Run(plans={"capabilities": {"nnp": nnp}}, seccomp_bpf=b"12345678", may_be_traced=traced)
    entry = {"flags": f.FLAG_LOG, "notify": notify}
    ops = {name: getattr(seccomp, name)(entry, run) for name in ("op_early", "op_notify", "op_late")}
    assert ops.pop(verb) == ("FILTER", b"12345678", f.FLAG_LOG | (f.FLAG_NEW_LISTENER if notify else 0))
    assert set(ops.values()) == {None}


def test_without_capabilities_no_new_privs_is_not_set():
    assert seccomp.op_early({"flags": 0, "notify": False}, Run(seccomp_bpf=b"12345678"))


def test_a_raw_program_replaces_the_profile(run):
    program = f.pack([(6, 0, 0, f.ALLOW)])
    entry = plan(deny(), annotated(RAW=base64.b64encode(program).decode()))
    seccomp.host_compile(entry, run)
    assert run.seccomp_bpf == program and run.calls == 0 and not entry["notify"]


@pytest.mark.parametrize("text", ["", "?", "AAAA", base64.b64encode(b"12345678" * 4097).decode()])
def test_invalid_raw_programs(text):
    with pytest.raises(Refusal) as caught:
        plan(deny(), annotated(RAW=text))
    assert caught.value.pointer == "/annotations/" + profile.RAW


def test_a_raw_program_that_notifies_needs_its_listener(tmp_path):
    text = base64.b64encode(f.pack([(6, 0, 0, f.NOTIFY)])).decode()
    with pytest.raises(Refusal) as caught:
        plan(deny(), annotated(RAW=text))
    assert caught.value.pointer == POINTER + "/listenerPath"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    entry = plan(deny(), annotated(RAW=text, RECEIVER=str(tmp_path / "s")))
    sock.close()
    assert entry["notify"] and entry["listener"] == str(tmp_path / "s")


def test_plugins_are_not_loaded():
    with pytest.raises(Unsupported) as caught:
        plan(deny(), annotated(PLUGINS="/x.so"))
    assert caught.value.pointer == "/annotations/" + profile.PLUGINS


# ---- the listener


class Told(Run):
    pid = 77
    init_pid = 0  # a create
    id, bundle, annotations = "c", "/b", {"long": "x" * 300000}


@pytest.mark.parametrize("name", ["s", "d" * 90 + "/" + "s" * 60])
def test_the_listener_is_delivered(tmp_path, name):
    import array
    import json

    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    parent = os.open(path.parent, os.O_PATH)
    server.bind("/proc/self/fd/%d/%s" % (parent, path.name))
    server.listen()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            seccomp.host_deliver({"listener": str(path), "metadata": "hello"}, Told(listener_fd=writer))
            os._exit(0)
        finally:
            os._exit(1)
    peer, _ = server.accept()
    data, extra, _flags, _from = peer.recvmsg(1 << 16, socket.CMSG_SPACE(8))
    while chunk := peer.recv(1 << 16):
        data += chunk
    assert os.waitpid(pid, 0)[1] == 0
    fds = array.array("i", extra[0][2][:4])
    os.write(fds[0], b"through")
    assert os.read(reader, 7) == b"through"
    state = json.loads(data)
    container = {"ociVersion": "1.3.0", "id": "c", "status": "creating", "pid": 77, "bundle": "/b"}
    assert state.pop("state") == {**container, "annotations": Told.annotations}
    assert state == {"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 77, "metadata": "hello"}
    for fd in (reader, writer, parent, fds[0]):
        os.close(fd)


def test_exec_reports_the_pid_of_init_as_the_containers(tmp_path):
    import json

    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen()
    run = Told(init_pid=5, listener_fd=0, annotations={})
    seccomp.host_deliver({"listener": str(tmp_path / "s"), "metadata": None}, run)
    state = json.loads(server.accept()[0].recv(4096))
    container = {"ociVersion": "1.3.0", "id": "c", "status": "running", "pid": 5, "bundle": "/b"}
    assert state == {"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 77, "state": container}


def test_nobody_listens(tmp_path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.close()
    with pytest.raises(StepFailure) as caught:
        seccomp.host_deliver({"listener": str(tmp_path / "s"), "metadata": None}, Told(listener_fd=0))
    assert caught.value.errno == errno.ECONNREFUSED and caught.value.pointer == POINTER + "/listenerPath"
