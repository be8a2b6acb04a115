"""seccomp [SYSCALL [ARGUMENT...]]: shows how the seccomp filter of a bundle answers a system call, by running the compiled filter on it.

Without a call it shows the default action, the size of the filter, and the names that libseccomp doesn't know, which are ignored. No filter is
loaded.
"""

from __future__ import annotations

from pyrunc import fileio, helper_process, jsonio
from pyrunc.commands import choice
from pyrunc.engine import planner, prepare
from pyrunc.errors import Refusal, UsageError, quote
from pyrunc.linux import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Output
    from pyrunc.parts.seccomp.profile import Entry


POINTER = "/linux/seccomp"
ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}
MAX_ARGS = 6


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "seccomp", "text", "json")
    entry = _plan(options)
    program, unknown = _compile(entry)
    report = {
        "default": filters.action_name(entry["profile"]["default"]),
        "instructions": len(program) // filters.INSN.size,
        "unknown": unknown,
    }
    if args:
        report.update(_verdict(program, args))
    text = jsonio.dumps(report, indent=2) + "\n" if style == "json" else _text(report)
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 0


def _plan(options: Options) -> Entry:
    prepare.caller_paths(options)
    bundle = prepare.bundle_of(options)
    config = prepare.read_config(options, bundle)
    ctx = planner.Context("seccomp", bundle, config, {"command": "plan"})
    planner.plan(config, ctx, ("meta", "capabilities", "seccomp"))
    entry = ctx.plans.get("seccomp")
    if entry is None:
        raise Refusal("no-profile", "the config has no seccomp profile", POINTER)
    return entry


def _compile(entry: Entry) -> tuple[bytes, list[str]]:
    """(the filter, unknown names)"""
    if entry["raw"] is not None:
        return bytes.fromhex(entry["raw"]), []
    made = helper_process.call("seccomp", {**entry["profile"], "needs": ["execve"]})
    return bytes.fromhex(made["bpf"]), made["unknown"]


def _number(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise UsageError(
            "bad-number", "invalid number: %s" % quote(text), "seccomp", None, "give a decimal or hexadecimal (0x…) number below 2^64"
        )
    return value


def _verdict(program: bytes, args: list[str]) -> Output:
    import posix

    machine = posix.uname().machine
    if machine not in ARCHES:
        raise UsageError("unknown-machine", "calls of %s can't be looked up here" % machine, "seccomp")
    name, values = args[0], [_number(text) for text in args[1:]]
    if len(values) > MAX_ARGS:
        raise UsageError("too-many-arguments", "a system call has at most %d arguments" % MAX_ARGS, "seccomp")
    number = int(name) if name.isascii() and name.isdigit() else helper_process.call("syscalls", {"names": [name]})[name]
    if number < 0:
        raise UsageError("unknown-syscall", "the system call %s is not known on %s" % (quote(name), machine), "seccomp")
    values += [0] * (MAX_ARGS - len(values))
    action = filters.verdict(program, ARCHES[machine], number, tuple(values))
    return {"syscall": name, "number": number, "arguments": values, "verdict": filters.action_name(action)}


def _text(report: Output) -> str:
    lines = []
    if "verdict" in report:
        shown = ", ".join("%#x" % value for value in report["arguments"])
        lines.append("%s(%s): %s" % (quote(report["syscall"]), shown, report["verdict"]))
    lines.append("default %s, %d instructions" % (report["default"], report["instructions"]))
    if report["unknown"]:
        lines.append("unknown here, ignored: %s" % quote(" ".join(report["unknown"]), 2000))
    return "\n".join(lines) + "\n"
