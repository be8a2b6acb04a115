"""filters.joined: the program that joins those of several architectures gives each call the same verdict as libseccomp's program for all."""

import json
import os

import pytest

from fakes.hand import Ctx
from pyrunc.errors import Unsupported
from pyrunc.helper import seccomp
from pyrunc.linux import filters
from pyrunc.parts import seccomp as part

CAPTURED = os.path.join(os.path.dirname(__file__), "../fixtures/captured")
LAST = 480  # above every system call of x86
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
MASKED = {"index": 0, "value": 0xF0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ"}
X86 = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
FAMILIES = {
    "x86": X86,
    "without x32": X86[:2],
    "arm": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "all": [*X86, "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_MIPSEL64N32"],
}


@pytest.fixture(scope="module")
def lib():
    """pyseccomp's functions, as in the helper process."""
    try:
        from pyrunc.helper import pyseccomp_calls
    except (ImportError, Unsupported) as e:
        pytest.skip("libseccomp or pyseccomp is missing: %s" % e)
    return pyseccomp_calls


def together(lib, profile):
    """libseccomp's program for all architectures at once."""
    pyseccomp = lib.lib
    made = pyseccomp.SyscallFilter(profile["default"])
    for name in profile["arches"]:
        if filters.ARCHES[name] != lib.native():
            made.add_arch(filters.ARCHES[name])
    made.set_attr(seccomp.CTL_NNP, 0)
    for rule in profile["rules"]:
        for name in rule["names"]:
            number = lib.numbers(lib.native(), [name])[0]
            if number != -1 and rule["action"] != profile["default"]:
                made.add_rule(rule["action"], number, *[lib.lib.Arg(*arg) for arg in rule["args"]])
    with os.fdopen(os.memfd_create("bpf"), "rb") as file:
        made.export_bpf(file)
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def docker():
    with open(os.path.join(CAPTURED, "docker-plain.json")) as file:
        return json.load(file)["linux"]["seccomp"]


def with_arguments():
    rows = [
        {"names": ["clone", "socketcall", "ipc", "open", "personality"], "action": ERRNO, "errnoRet": 7, "args": [MASKED]},
        {"names": ["socket"], "action": ERRNO, "errnoRet": 8, "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}]},
    ]
    return {"defaultAction": ALLOW, "syscalls": rows}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("made", [docker, with_arguments])
def test_the_same_verdicts(lib, made, family):
    config = {**made(), "architectures": FAMILIES[family]}
    given = {**part.plan({"/linux/seccomp": config}, Ctx(config={}))["profile"], "needs": [], "enosys": False}
    ours = bytes.fromhex(seccomp.compile_profile(seccomp.stand_in(given), lib)["bpf"])
    theirs = together(lib, given)
    tokens = {filters.ARCHES[name] for name in FAMILIES["all"]} - {filters.X32} | {0xC0000016, lib.native()}
    numbers = [*range(LAST), *(filters.X32_BIT + n for n in (0, 1, 2, 41, 56, 135, 512, 520, 546, 547)), 0xF0002, 5000, 0xFFFFFFFF]
    seen = set()
    for token in sorted(tokens):
        for number in numbers:
            for value in (0, 0x10):
                one, two = (filters.verdict(program, token, number, (value, 0, 0, 0, 0, 0)) for program in (ours, theirs))
                assert one == two, (hex(token), number, hex(value))
                seen.add(one)
    assert len(seen) > 2, "the profile treats calls differently"


def test_a_single_program_is_unchanged():
    program = filters.pack([(filters.RET, 0, 0, filters.ALLOW)])
    assert filters.joined([(filters.X86_64, program)]) == program


def test_each_architecture_gets_its_program():
    """The programs return their own number; calls of other architectures go to the first."""
    names = [filters.X86_64, filters.ARCHES["SCMP_ARCH_X86"], filters.X32, filters.ARCHES["SCMP_ARCH_ARM"]]
    rows = [(token, filters.pack([(filters.RET, 0, 0, 100 + i)] * (300 * i + 1))) for i, token in enumerate(names)]
    program = filters.joined(rows)
    verdicts = [filters.verdict(program, token, 5) for token in (names[0], names[1], names[3], 77)]
    assert verdicts == [100, 101, 103, 100] and filters.verdict(program, filters.X86_64, filters.X32_BIT + 5) == 102
