"""seccomp: the compiled program, run in the simulator."""

import os

import pytest
from test_parts_seccomp import POINTER, allow, annotated, arg, deny, plan, rule

from pyrunc import helper_process
from pyrunc.errors import Refusal, Unsupported
from pyrunc.linux import filters as f

X86, AARCH64 = f.ARCHES["SCMP_ARCH_X86"], f.ARCHES["SCMP_ARCH_AARCH64"]
on_x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")


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
