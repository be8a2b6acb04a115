"""seccomp(2) filters: names and numbers, the ENOSYS prologue, and evaluating a compiled filter for a call.

Facts of the kernel's ABI (seccomp(2), linux/audit.h, linux/filter.h) and of libseccomp's tokens; no policy. Classic BPF: eight bytes per
instruction; jumps are relative to the next one and only go forward, so instructions may be prepended to a finished program.
"""

from __future__ import annotations

from _struct import Struct
from errno import EFAULT, ENOSYS

from pyrunc.linux.constants import SECCOMP_SET_MODE_FILTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal, TypeAlias

    Insn: TypeAlias = tuple[int, int, int, int]  # code, jump if true, jump if false, constant: struct sock_filter

INSN = Struct("=HBBI")
MAX_INSNS = 4096  # BPF_MAXINSNS

FLAG_TSYNC, FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_NEW_LISTENER, FLAG_WAIT_KILLABLE_RECV = 1, 2, 4, 8, 32
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
}

KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0, 0x00030000, 0x00050000
NOTIFY, TRACE, LOG, ALLOW = 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_NOTIFY": NOTIFY,
}
MAX_ERRNO = 4095

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
MASKED_EQ = 7

# The token is the value of seccomp_data.arch, except for x32, which shares x86_64's and sets a bit in the number.
ARCHES = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_LOONGARCH64": 0xC0000102,
    "SCMP_ARCH_M68K": 0x00000004,
    "SCMP_ARCH_MIPS": 0x00000008,
    "SCMP_ARCH_MIPS64": 0x80000008,
    "SCMP_ARCH_MIPS64N32": 0xA0000008,
    "SCMP_ARCH_MIPSEL": 0x40000008,
    "SCMP_ARCH_MIPSEL64": 0xC0000008,
    "SCMP_ARCH_MIPSEL64N32": 0xE0000008,
    "SCMP_ARCH_PPC": 0x00000014,
    "SCMP_ARCH_PPC64": 0x80000015,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_SH": 0x4000002A,
    "SCMP_ARCH_SHEB": 0x0000002A,
    "SCMP_ARCH_PARISC": 0x0000000F,
    "SCMP_ARCH_PARISC64": 0x8000000F,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
}
X86_64, X32 = ARCHES["SCMP_ARCH_X86_64"], ARCHES["SCMP_ARCH_X32"]
S390 = (ARCHES["SCMP_ARCH_S390"], ARCHES["SCMP_ARCH_S390X"])
X32_BIT = 0x40000000
ARM_PRIVATE = 0x000F0000  # ARM has cacheflush, set_tls and others in this range: they do not show how new a profile is

LOAD, _JA, JUMP_EQUAL, _JGT, _JGE, RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06
_LD_NR, _LD_ARCH = (LOAD, 0, 0, 0), (LOAD, 0, 0, 4)
# For verdict(): the fields of an instruction's code (linux/bpf_common.h), and the other instructions that seccomp(2) accepts.
_CLASS, _OPERATION, _USES_X, _RETURNED, _RETURNS_A = 0x07, 0xF0, 0x08, 0x18, 0x10
_ALU, _LD_IMM, _LDX_IMM, _LD_MEM, _LDX_MEM, _ST, _STX, _TAX, _TXA = 0x04, 0x00, 0x01, 0x60, 0x61, 0x02, 0x03, 0x07, 0x87
_EQ, _GT, _GE = 0x10, 0x20, 0x30  # operations of jumps
_ADD, _SUB, _OR, _AND, _LSH, _RSH, _XOR = 0x00, 0x10, 0x40, 0x50, 0x60, 0x70, 0xA0  # and of arithmetic


def action_name(value: int) -> str:
    """The number that a filter returns -> 'ERRNO(1)', 'KILL_PROCESS', ..."""
    base = value & 0xFFFF0000
    if base in (ERRNO, TRACE):
        return "%s(%d)" % ("ERRNO" if base == ERRNO else "TRACE", value & 0xFFFF)
    for name, number in ACTIONS.items():
        if number == base and name != "SCMP_ACT_KILL":
            return name[len("SCMP_ACT_") :]
    return "0x%08x" % value


def supports_flag(flag: int) -> bool:
    """Whether this kernel supports a filter flag: it checks the flags before it reads the (missing) program. Changes nothing."""
    from pyrunc.linux import _syscalls

    if flag == FLAG_WAIT_KILLABLE_RECV:
        flag |= FLAG_NEW_LISTENER  # alone it is EINVAL on every kernel
    try:
        _syscalls.seccomp(SECCOMP_SET_MODE_FILTER, flag, None)
    except OSError as e:
        return e.errno == EFAULT  # the flags were fine
    return True


def pack(instructions: Iterable[Insn]) -> bytes:
    """[(code, jt, jf, k)] -> bytes."""
    return b"".join(INSN.pack(*one) for one in instructions)


def unpack(program: bytes) -> list[Insn]:
    return list(INSN.iter_unpack(program))


def plausible(program: bytes) -> bool:
    """Whether bytes have the size of a program; the kernel checks the rest."""
    return 0 < len(program) <= MAX_INSNS * INSN.size and len(program) % INSN.size == 0


def joined(programs: Sequence[tuple[int, bytes]]) -> bytes:
    """Joins programs, [(token of the architecture, its program)], into one that starts with jumps by architecture. No jump skips the first
    program, so it also handles calls of architectures that are not listed; like every program, it kills on calls of other architectures."""
    first, *others = programs
    if not others:
        return first[1]
    others.sort(key=lambda row: row[0] != X32)  # before x86_64's
    out = [_LD_ARCH]
    start = 1 + sum(5 if token == X32 else 2 for token, _program in others) + len(first[1]) // INSN.size
    for token, program in others:
        if token == X32:
            out += [(JUMP_EQUAL, 0, 4, X86_64), _LD_NR, (_JGE, 0, 1, X32_BIT), (_JA, 0, 0, start - len(out) - 4), _LD_ARCH]
        else:
            out += [(JUMP_EQUAL, 0, 1, token), (_JA, 0, 0, start - len(out) - 2)]
        start += len(program) // INSN.size
    return pack(out) + first[1] + b"".join(program for _token, program in others)


def enosys_prologue(highest: dict[int, int]) -> list[Insn]:
    """Instructions that return ENOSYS for calls newer than a profile, to be prepended to the compiled program.

    highest: {arch token: the highest number that the profile has for it}. Without this, a call that did not exist when the profile was
    written gets the default action, usually EPERM, and libraries that probe for new calls (clone3, faccessat2) break instead of falling
    back. Anything else jumps to the program after the prologue, which loads what it needs itself.
    """
    groups = []
    arches: dict[int, int | None] = dict(highest)
    x32 = arches.pop(X32, None)
    if x32 is not None and X86_64 not in arches:
        arches[X86_64] = None
    for token, last in arches.items():
        groups.append((token, _group(token, last, x32)))
    total = 1 + sum(len(body) + 1 for _token, body in groups)
    if not groups:
        return []
    out = [_LD_ARCH]
    for token, body in groups:
        out.append((JUMP_EQUAL, 0, len(body), token))
        for code, jt, jf, k in body:
            if code == _JA:
                k = total - len(out) - 1
            out.append((code, jt, jf, k))
    return out


def _group(token: int, last: int | None, x32: int | None) -> list[Insn]:
    """The instructions for one architecture. They end with a return or a jump past the prologue, and never continue with the next
    architecture."""
    ret = (RET, 0, 0, ERRNO | ENOSYS)
    leave = (_JA, 0, 0, 0)
    above = [leave] if last is None else [(_JGT, 0, 1, last), ret, leave]
    if token == X86_64:
        # below the bit: native calls. Above: x32 if the profile has it, else the program's verdict on a foreign architecture
        native = above
        foreign = [(_JGT, 0, 1, x32), ret, leave] if x32 is not None else [leave]
        return [_LD_NR, (_JGE, len(native), 0, X32_BIT), *native, *foreign]
    if token == ARCHES["SCMP_ARCH_ARM"]:
        return [_LD_NR, (_JGE, 2, 0, ARM_PRIVATE), *above]
    if token in S390:
        # 0 is not a call there: glibc probes with it, and the kernel returns ENOSYS
        return [_LD_NR, (JUMP_EQUAL, 1, 0, 0), *above]
    return [_LD_NR, *above]


def verdict(program: bytes, arch: int, number: int, args: Sequence[int] = (0, 0, 0, 0, 0, 0), pointer: int = 0) -> int:
    """Runs a filter for one call as the kernel would -> the 32-bit action. ValueError for programs that the kernel would not load."""
    machine = _Machine(arch, number, args, pointer)
    code = unpack(program)
    pc = 0
    while pc < len(code):
        op, jt, jf, k = code[pc]
        pc += 1
        if op & _CLASS == RET:
            return machine.a if op & _RETURNED == _RETURNS_A else k
        if op & _CLASS != _JA:
            machine.act(op, k)
        elif op == _JA:
            pc += k
        else:
            pc += jt if _holds(op, machine.a, machine.x if op & _USES_X else k) else jf
    raise ValueError("the program runs past its end")


class _Machine:
    """Accumulator, index and memory of a filter that runs on the data of a call (struct seccomp_data)."""

    def __init__(self, arch: int, number: int, args: Sequence[int], pointer: int) -> None:
        from _struct import pack as pack_data

        self.a = self.x = 0
        self.memory = [0] * 16
        self.order: Literal["little", "big"] = "little" if pack_data("=H", 1) == b"\x01\x00" else "big"
        self.data = pack_data("=iIQ6Q", number - (1 << 32) if number >= 1 << 31 else number, arch, pointer, *args)

    def act(self, op: int, k: int) -> None:
        """An instruction that neither jumps nor returns."""
        if op & _CLASS == _ALU:
            self.a = _alu(op & _OPERATION, self.a, self.x if op & _USES_X else k)
            return
        if op == _ST:
            self.memory[k] = self.a
            return
        if op == _STX:
            self.memory[k] = self.x
            return
        self.a, self.x = self._loaded(op, k)

    def _loaded(self, op: int, k: int) -> tuple[int, int]:
        """Accumulator and index after an instruction that sets one of them."""
        if op == LOAD:
            return int.from_bytes(self.data[k : k + 4], self.order), self.x
        if op == _LD_IMM:
            return k, self.x
        if op == _LDX_IMM:
            return self.a, k
        if op == _LD_MEM:
            return self.memory[k], self.x
        if op == _LDX_MEM:
            return self.a, self.memory[k]
        if op == _TAX:
            return self.a, self.a
        if op == _TXA:
            return self.x, self.x
        raise ValueError("instruction 0x%02x is not allowed in a filter" % op)


def _holds(op: int, a: int, b: int) -> bool:
    test = op & _OPERATION
    if test == _EQ:
        return a == b
    if test == _GT:
        return a > b
    if test == _GE:
        return a >= b
    return a & b != 0


def _alu(op: int, a: int, b: int) -> int:
    if op == _AND:
        return a & b
    if op == _OR:
        return a | b
    if op == _XOR:
        return a ^ b
    if op == _ADD:
        return (a + b) & 0xFFFFFFFF
    if op == _SUB:
        return (a - b) & 0xFFFFFFFF
    if op == _LSH:
        return (a << b) & 0xFFFFFFFF
    if op == _RSH:
        return a >> b
    raise ValueError("arithmetic 0x%02x is not allowed in a filter" % op)
