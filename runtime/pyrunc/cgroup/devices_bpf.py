"""Device rules on cgroup v2: assembles an eBPF program and attaches it to the cgroup.

Documentation/admin-guide/cgroup-v2.rst (Device controller), bpf(2). Invariant: the program checks the rules from the last to the first, and
for each requested access r, w or m the last matching rule decides; if none matches, access is denied. So an exception within an earlier
wildcard is possible, unlike on v1.
"""

from __future__ import annotations

import errno
import posix
import sys
from _struct import pack

from pyrunc.cgroup import fs
from pyrunc.cgroup.devices_rules import FULL, POINTER
from pyrunc.errors import CallError, StepFailure, errno_text
from pyrunc.fileio import fsdecode, read_file
from pyrunc.linux import _syscalls
from pyrunc.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.cgroup.devices_rules import Rule

TYPES = {"b": c.BPF_DEVCG_DEV_BLOCK, "c": c.BPF_DEVCG_DEV_CHAR}
LETTERS = {"m": c.BPF_DEVCG_ACC_MKNOD, "r": c.BPF_DEVCG_ACC_READ, "w": c.BPF_DEVCG_ACC_WRITE}
ALL = c.BPF_DEVCG_ACC_MKNOD | c.BPF_DEVCG_ACC_READ | c.BPF_DEVCG_ACC_WRITE

# registers
ANSWER, CONTEXT, TYPE, ACCESS, MAJOR, MINOR, SCRATCH = 0, 1, 2, 3, 4, 5, 6
# opcodes: class | size or operation | source
LOAD_WORD, AND32, SHIFT32, COPY64, AND64, MOVE64 = 0x61, 0x54, 0x74, 0xBF, 0x57, 0xB7
JUMP_NOT_EQUAL, JUMP_EQUAL, EXIT = 0x55, 0x15, 0x95


def _insn(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    registers = dst | src << 4 if sys.byteorder == "little" else dst << 4 | src
    return pack("=BBhi", code, registers, offset, value)


def _return(answer: int) -> list[bytes]:
    return [_insn(MOVE64, ANSWER, value=answer), _insn(EXIT)]


def program(rules: Sequence[Rule]) -> bytes:
    """[[allow, type, major, minor, access], …] -> instructions as bytes.

    The context is {u32 type | access << 16; u32 major; u32 minor}. ACCESS contains the requested letters that no rule has decided yet."""
    out = [
        _insn(LOAD_WORD, TYPE, CONTEXT, 0),
        _insn(COPY64, ACCESS, TYPE),
        _insn(AND32, TYPE, value=0xFFFF),
        _insn(SHIFT32, ACCESS, value=16),
        _insn(LOAD_WORD, MAJOR, CONTEXT, 4),
        _insn(LOAD_WORD, MINOR, CONTEXT, 8),
    ]
    for rule in reversed(rules):
        body = _rule(*rule)
        if body is None:
            continue
        out += body
        if _ends(rule):
            return b"".join(out)
    return b"".join(out + _return(0))


def _ends(rule: Rule) -> bool:
    """Whether the rule matches everything, so that earlier rules have no effect."""
    _allow, kind, major, minor, access = rule
    return kind == "a" and major == -1 and minor == -1 and set(access) == set(FULL)


def _rule(allow: bool, kind: str, major: int, minor: int, access: str) -> list[bytes]:
    """The instructions for one rule; they fall through to the next ones if the rule does not decide. Empty if it can't match anything."""
    if major >= 1 << 31 or minor >= 1 << 31:
        return []  # no such device number exists, and the comparison would read the value as negative
    bits = sum(LETTERS[letter] for letter in set(access))
    body = []
    if bits != ALL:
        if allow:
            body.append(_insn(AND32, ACCESS, value=ALL & ~bits))
            body.append(_insn(JUMP_NOT_EQUAL, ACCESS, offset=2, value=0))
        else:
            body += [_insn(COPY64, SCRATCH, ACCESS), _insn(AND64, SCRATCH, value=bits)]
            body.append(_insn(JUMP_EQUAL, SCRATCH, offset=2, value=0))
    body += _return(1 if allow else 0)
    tests = []
    if kind != "a":
        tests.append((TYPE, TYPES[kind]))
    if major != -1:
        tests.append((MAJOR, major))
    if minor != -1:
        tests.append((MINOR, minor))
    head = []
    for left, (register, value) in zip(range(len(tests) - 1, -1, -1), tests, strict=True):
        head.append(_insn(JUMP_NOT_EQUAL, register, offset=len(body) + left, value=value))
    return head + body


def allows_everything(rules: Sequence[Rule]) -> bool:
    """Whether no program is needed: the last rule for everything allows, and nothing after it denies."""
    for rule in reversed(rules):
        if not rule[0]:
            return False
        if _ends(rule):
            return True
    return False


def apply(path: str, rules: Sequence[Rule], optional: bool) -> None:
    """Replaces the programs attached to the cgroup with the one for `rules`. optional: failing to load it is not an error, because we are
    not root in the initial user namespace, where the kernel loads no such program and device nodes can't be created either. StepFailure."""
    fd = fs.open_dir(path, "unified")
    try:
        old = _attached(fd)
        if allows_everything(rules):
            _detach(fd, old)
            return
        try:
            prog = _load(program(rules))
        except OSError as e:
            if optional and e.errno in fs.REFUSED:
                return
            raise _failure(e, path, "load") from None
        try:
            _attach(fd, prog, old)
        except OSError as e:
            if optional and e.errno in fs.REFUSED:
                return
            raise _failure(e, path, "attach") from None
        finally:
            posix.close(prog)
    finally:
        posix.close(fd)


def _failure(e: OSError, path: str, what: str) -> StepFailure:
    text = "the kernel does not allow it" if e.errno in fs.REFUSED else errno_text(e.errno)
    e = CallError.of(e)
    log = "".join(e.log).strip("\0\n ")
    hint = "the verifier says: %s" % log[-300:] if log else None
    return StepFailure(
        "device-program",
        "unable to %s the device program: %s" % (what, text),
        None,
        None,
        POINTER,
        e.call,
        e.errno,
        path,
        hint,
    )


def _load(insns: bytes) -> int:
    """Kernels before 5.11 charge programs to RLIMIT_MEMLOCK and return EPERM if it is too low: then the limit is raised, once."""
    try:
        return _syscalls.bpf_prog_load(c.BPF_PROG_TYPE_CGROUP_DEVICE, insns, "Apache", "pyrunc_devices", 0)
    except OSError as e:
        if e.errno != errno.EPERM or not _lift_memlock():
            raise
    return _syscalls.bpf_prog_load(c.BPF_PROG_TYPE_CGROUP_DEVICE, insns, "Apache", "pyrunc_devices", 0)


def _lift_memlock() -> bool:
    if _syscalls.prlimit(0, c.RLIMIT_MEMLOCK, None, None)[0] == c.RLIM_INFINITY:
        return False
    try:
        _syscalls.prlimit(0, c.RLIMIT_MEMLOCK, c.RLIM_INFINITY, c.RLIM_INFINITY)
    except OSError:
        return False  # then the kernel's EPERM is the error
    return True


def _attached(fd: int) -> list[int]:
    """Descriptors of the programs that are attached to this cgroup itself."""
    out = []
    try:
        ids = _syscalls.bpf_prog_query(fd, c.BPF_CGROUP_DEVICE, 0)
    except OSError as e:
        if e.errno in (errno.EINVAL, errno.ENOSYS) + fs.REFUSED:
            return []  # a kernel without queries, or no permission: there can't be a program of ours
        raise
    for number in ids:
        try:
            out.append(_syscalls.bpf_prog_get_fd_by_id(number))
        except OSError as e:
            if e.errno != errno.ENOENT:
                raise
    return out


def _attach(fd: int, prog: int, old: Sequence[int]) -> None:
    """A single old program is replaced atomically; otherwise the new one is attached before the old ones are detached, so that the cgroup
    is never without one."""
    if len(old) == 1:
        try:
            _syscalls.bpf_prog_attach(fd, prog, c.BPF_CGROUP_DEVICE, c.BPF_F_ALLOW_MULTI | c.BPF_F_REPLACE, old[0])
        except OSError as e:
            if e.errno != errno.EINVAL:  # before 5.6
                raise
        else:
            posix.close(old[0])
            return
    _syscalls.bpf_prog_attach(fd, prog, c.BPF_CGROUP_DEVICE, c.BPF_F_ALLOW_MULTI)
    _detach(fd, old)


def _detach(fd: int, old: Sequence[int]) -> None:
    for prog in old:
        try:
            _syscalls.bpf_prog_detach(fd, prog, c.BPF_CGROUP_DEVICE)
        finally:
            posix.close(prog)


def tags(path: str, rules: Sequence[Rule]) -> tuple[str | None, list[str]]:
    """(tag of the program for `rules`, or None if none is needed; the tags of those attached to the cgroup). A tag is the kernel's hash of
    the instructions (SHA-1, since Linux 6.18 SHA-256), so ours is loaded to read its tag. OSError."""
    wanted = None
    if not allows_everything(rules):
        prog = _load(program(rules))
        try:
            wanted = _tag(prog)
        finally:
            posix.close(prog)
    fd = fs.open_dir(path, "unified")
    try:
        ids = _syscalls.bpf_prog_query(fd, c.BPF_CGROUP_DEVICE, 0)
    finally:
        posix.close(fd)
    found = []
    for number in ids:
        prog = _syscalls.bpf_prog_get_fd_by_id(number)
        try:
            found.append(_tag(prog))
        finally:
            posix.close(prog)
    return wanted, found


def _tag(prog: int) -> str:
    for line in fsdecode(read_file("/proc/self/fdinfo/%d" % prog, 1 << 16)).split("\n"):
        name, _colon, value = line.partition(":")
        if name == "prog_tag":
            return value.strip()
    raise OSError(errno.ENOTSUP, "the kernel does not show the tag of a program")
