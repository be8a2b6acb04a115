"""Checks the profile and converts it to numbers. Nothing here depends on BPF or libseccomp."""

from __future__ import annotations

import posix
from errno import ENOSYS

from pyrunc.errors import Refusal, Unsupported, errno_text, quote
from pyrunc.linux import constants as c
from pyrunc.linux import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context

    class Argument(TypedDict, total=False):
        index: int
        value: int
        valueTwo: int
        op: str

    class Syscall(TypedDict, total=False):
        names: list[str]
        action: str
        errnoRet: int
        args: list[Argument]

    class Given(TypedDict, total=False):
        defaultAction: str
        defaultErrnoRet: int
        architectures: list[str]
        flags: list[str]
        listenerPath: str
        listenerMetadata: str
        syscalls: list[Syscall]

    Node = TypedDict(
        "Node",
        {"/linux/seccomp": Given},
        total=False,
    )

    class Rule(TypedDict):
        names: list[str]
        action: int
        args: list[list[int]]  # [index, operator, a, b]
        at: str  # pointer

    class Profile(TypedDict):
        default: int
        arches: list[str]
        rules: list[Rule]
        enosys: bool
        strict: bool

    class Entry(TypedDict):
        profile: Profile
        flags: int  # of seccomp(2)
        notify: bool
        listener: str | None
        metadata: str | None
        raw: str | None  # hex of a program that replaces the profile


POINTER: Final = "/linux/seccomp"
NAMES_LIMIT = 16384  # no kernel has a tenth as many, and a filter has at most 4096 instructions
FAIL_UNKNOWN = "run.oci.seccomp_fail_unknown_syscall"
RAW = "run.oci.seccomp_bpf_data"
RECEIVER = "run.oci.seccomp.receiver"
PLUGINS = "run.oci.seccomp.plugins"
NOT_CONNECTED = "failed to connect with seccomp agent specified in the seccomp profile"  # runc's wording
NOT_NOTIFIABLE = ("write", "sendmsg")  # the calls that send the listener would wait for its receiver
BASE64_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
BASE64 = frozenset(BASE64_DIGITS)


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/linux/seccomp": {...}}. Entry: {"profile": {"default": action, "arches": [names], "rules": [{"names", "action", "args":
    [[index, op, a, b]], "at": pointer}], "enosys": bool, "strict": bool}, "flags": of seccomp(2), "notify": bool, "listener": path or
    None, "metadata": text or None, "raw": hex of a program that replaces the profile, or None}. None for an empty object: there is nothing
    to load. Annotations, if `meta` allows them, can give a raw program, a receiver if there is no listenerPath, and whether unknown names
    are an error.

    Refuses: errno values above 4095 or for actions that return none, argument indices above 5, valueTwo without MASKED_EQ, empty names,
    NOTIFY as the default, for write and sendmsg, or without a listening socket at listenerPath, and flags that this kernel lacks."""
    seccomp = node[POINTER]
    if not seccomp:
        return None
    default = _action(seccomp["defaultAction"], seccomp.get("defaultErrnoRet"), "defaultAction", "defaultErrnoRet", POINTER)
    if default == filters.NOTIFY:
        raise Refusal("notify-as-default", "SCMP_ACT_NOTIFY cannot be used as default action", POINTER + "/defaultAction")
    rules = []
    for i, syscall in enumerate(seccomp.get("syscalls", ())):
        rules += _rules(syscall, "%s/syscalls/%d" % (POINTER, i), ctx)
    if sum(len(rule["names"]) for rule in rules) > NAMES_LIMIT:
        raise Refusal("too-many-names", "more than %d system call names" % NAMES_LIMIT, POINTER + "/syscalls")
    annotations = ctx.plans.get("meta", {}).get("annotations", {})
    if PLUGINS in annotations:
        raise Unsupported(
            "listener-plugin",
            "seccomp listeners can't be plugins",
            "/annotations/" + PLUGINS,
            "a listening socket",
            "use listenerPath",
        )
    raw = _raw(annotations[RAW]) if RAW in annotations else None
    notify = any(rule["action"] == filters.NOTIFY for rule in rules) if raw is None else _notifies(raw)
    listener, metadata = _listener(
        seccomp.get("listenerPath") or annotations.get(RECEIVER) or ctx.options.get("seccomp_receiver"),
        seccomp.get("listenerMetadata"),
        notify,
    )
    permissive = default in (filters.ALLOW, filters.LOG) or default & 0xFFFF0000 == filters.TRACE
    return {
        "profile": {
            "default": default,
            "arches": _arches(seccomp.get("architectures", ())),
            "rules": rules,
            "enosys": not permissive and default != filters.ERRNO | ENOSYS,
            "strict": annotations.get(FAIL_UNKNOWN, "0") != "0",
        },
        "flags": _flags(seccomp.get("flags"), notify, ctx),
        "notify": notify,
        "listener": listener,
        "metadata": metadata,
        "raw": None if raw is None else raw.hex(),
    }


def _raw(text: str) -> bytes:
    """Decodes a program from base64. The kernel checks its form; nothing checks its effect."""
    pointer = "/annotations/" + RAW
    program = _base64(text)
    if program is None:
        raise Refusal("bad-raw-filter", "the raw seccomp filter is not base64", pointer)
    if not filters.plausible(program):
        raise Refusal("bad-raw-filter", "the raw seccomp filter is not a program: %d bytes" % len(program), pointer)
    return program


def _base64(text: str) -> bytes | None:
    """The decoded bytes, or None. Implemented here because the hot path loads no module for it, and such filters are rare and small."""
    digits = text.rstrip("=")
    if len(text) % 4 or len(text) - len(digits) > 2 or len(text) > 1 << 16 or not BASE64.issuperset(digits):
        return None
    out = bytearray()
    for at in range(0, len(text), 4):
        group = 0
        for digit in text[at : at + 4]:
            group = group << 6 | (0 if digit == "=" else BASE64_DIGITS.index(digit))
        out += group.to_bytes(3, "big")
    return bytes(out[: len(out) - (len(text) - len(digits))])


def _notifies(program: bytes) -> bool:
    return any(op == filters.RET and k & 0xFFFF0000 == filters.NOTIFY for op, _jt, _jf, k in filters.unpack(program))


def _action(name: str, errno_ret: int | None, name_key: str, errno_key: str, pointer: str) -> int:
    """The action's number, with its errno or trace value in the lower half."""
    if name not in filters.ACTIONS:
        raise Refusal("unknown-action", "string %s is not a valid action for seccomp" % quote(name), "%s/%s" % (pointer, name_key))
    base = filters.ACTIONS[name]
    if base not in (filters.ERRNO, filters.TRACE):
        if errno_ret is not None:
            raise Refusal(
                "needless-errno", "errno value specified for action %s, which returns none" % name, "%s/%s" % (pointer, errno_key)
            )
        return base
    value = 1 if errno_ret is None else errno_ret  # EPERM
    limit = filters.MAX_ERRNO if base == filters.ERRNO else 0xFFFF
    if value > limit:
        words = "errno value %d is larger than %d, the largest that %s can return" % (value, limit, name)
        raise Refusal("too-large", words, "%s/%s" % (pointer, errno_key))
    return base | value


def _rules(syscall: Syscall, pointer: str, ctx: Context) -> list[Rule]:
    """One element of syscalls -> its rules. All arguments of a rule must match, but the library accepts an index only once: if one is given
    twice, each comparison becomes a separate rule (any of them may match), as in runc."""
    names = syscall["names"]
    for i, name in enumerate(names):
        if not name or "\0" in name:
            raise Refusal("bad-name", "empty system call name" if not name else "NUL in a system call name", "%s/names/%d" % (pointer, i))
    action = _action(syscall["action"], syscall.get("errnoRet"), "action", "errnoRet", pointer)
    if not names:
        raise Refusal("rule-without-names", "a rule without system call names", pointer + "/names")
    if action == filters.NOTIFY:
        for i, name in enumerate(names):
            if name in NOT_NOTIFIABLE:
                raise Refusal(
                    "notify-of-notifier", "SCMP_ACT_NOTIFY cannot be used for the %s syscall" % name, "%s/names/%d" % (pointer, i)
                )
    args = [_argument(arg, "%s/args/%d" % (pointer, i), ctx) for i, arg in enumerate(syscall.get("args", ()))]
    if len({arg[0] for arg in args}) < len(args):
        sets = [[arg] for arg in args]
    else:
        sets = [args]
    return [{"names": names, "action": action, "args": one, "at": pointer} for one in sets]


def _argument(arg: Argument, pointer: str, ctx: Context) -> list[int]:
    """[index, op, a, b] in libseccomp's order: for MASKED_EQ a is the mask and b the masked value. Bits of b outside the mask
    do not count: "the masked argument value is equal to the masked datum value" (seccomp_rule_add(3))."""
    if arg["index"] > 5:
        raise Refusal("argument-index", "argument index %d: a system call has arguments 0 to 5" % arg["index"], pointer + "/index")
    if arg["op"] not in filters.OPERATORS:
        raise Refusal("unknown-operator", "string %s is not a valid operator for seccomp" % quote(arg["op"]), pointer + "/op")
    op = filters.OPERATORS[arg["op"]]
    second = arg.get("valueTwo", 0)
    if second and op != filters.MASKED_EQ:
        raise Refusal("needless-value-two", "valueTwo has a meaning for SCMP_CMP_MASKED_EQ only", pointer + "/valueTwo")
    if second & ~arg["value"]:
        ctx.warn(pointer + "/valueTwo", "has bits outside the mask (value); they are ignored")
        second &= arg["value"]
    return [arg["index"], op, arg["value"], second]


def _arches(names: Sequence[str]) -> list[str]:
    for i, name in enumerate(names):
        if name not in filters.ARCHES:
            raise Refusal(
                "unknown-architecture", "string %s is not a valid arch for seccomp" % quote(name), "%s/architectures/%d" % (POINTER, i)
            )
    return list(dict.fromkeys(names))


def _flags(names: Sequence[str] | None, notify: bool, ctx: Context) -> int:
    """Flags of seccomp(2). Without flags: SPEC_ALLOW if the kernel has it, as in runc. TSYNC has no effect in a process with one thread and
    is dropped (with a listener, the kernel would refuse it)."""
    if names is None:
        return filters.FLAG_SPEC_ALLOW if filters.supports_flag(filters.FLAG_SPEC_ALLOW) else 0
    flags = 0
    for i, name in enumerate(names):
        pointer = "%s/flags/%d" % (POINTER, i)
        if name not in filters.FLAGS:
            raise Refusal("unknown-flag", "seccomp flag %s is not known" % quote(name), pointer)
        flag = filters.FLAGS[name]
        if flag == filters.FLAG_TSYNC:
            continue
        if flag == filters.FLAG_WAIT_KILLABLE_RECV and not notify:
            ctx.warn(pointer, "%s has no effect: no rule notifies" % name)
            continue
        if not filters.supports_flag(flag):
            raise Unsupported("unsupported-flag", "seccomp flag %s is not supported by this kernel" % name, pointer, "kernel")
        flags |= flag
    return flags


def _listener(path: str | None, metadata: str | None, notify: bool) -> tuple[str | None, str | None]:
    if metadata and not path:
        raise Refusal("metadata-without-listener", "seccomp listenerMetadata without listenerPath", POINTER + "/listenerMetadata")
    if not notify:  # no rule notifies
        return None, None
    pointer = POINTER + "/listenerPath"
    if not path:
        raise Refusal(
            "no-listener",
            "seccomp listenerPath is not set",
            pointer,
            "a rule uses SCMP_ACT_NOTIFY, which needs a listener",
        )
    if path[0] != "/" or "\0" in path:
        raise Refusal("relative-listener", "seccomp listenerPath %s is not an absolute path" % quote(path), pointer)
    try:
        mode = posix.stat(path).st_mode
    except OSError as e:
        raise Refusal("no-listener", "%s: %s: %s" % (NOT_CONNECTED, quote(path), errno_text(e.errno)), pointer) from None
    if mode & c.S_IFMT != c.S_IFSOCK:
        raise Refusal("listener-no-socket", "seccomp listenerPath %s is not a socket" % quote(path), pointer)
    return path, metadata or None
