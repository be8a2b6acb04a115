"""seccomp [-b BUNDLE] [SYSCALL [ARGUMENT...]]: what the bundle's profile answers to a call, found by running the very filter.

Without a call: the profile's default, its size, and the names that libseccomp does not know (they are skipped). Loads nothing.
"""

from __future__ import annotations

from pyrunc import fileio, helper_process, jsonio
from pyrunc.engine import planner, prepare
from pyrunc.errors import Refusal, UsageError, quote
from pyrunc.linux import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.cmdline import Options


HERE = "/linux/seccomp"
ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MAX_ARGS = 6


def main(options: Options, args: list[str]) -> int:
    style = options.get("format", "text")
    if style not in ("text", "json"):
        raise UsageError("bad-format", "invalid format option: %s" % quote(style), "seccomp", "format", "use text or json")
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


def _plan(options: Options) -> dict[str, Any]:
    prepare.caller_paths(options)
    bundle = prepare.bundle_of(options)
    config = prepare.read_config(options, bundle)
    ctx = planner.Context("seccomp", bundle, config, {"command": "plan"})
    planner.plan(config, ctx, ("meta", "capabilities", "seccomp"))
    entry = ctx.plans.get("seccomp")
    if entry is None:
        raise Refusal("config-has-seccomp", "the config has no seccomp profile", HERE)
    return entry


def _compile(entry: dict[str, Any]) -> tuple[bytes, list[str]]:
    """(the filter, names that are not known)."""
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
        raise UsageError("invalid-number", "invalid number: %s" % quote(text), "seccomp", None, "decimal or 0x…, below 2^64")
    return value


def _verdict(program: bytes, args: list[str]) -> dict[str, Any]:
    import posix

    machine = posix.uname().machine
    if machine not in ARCHES:
        raise UsageError("calls-can-t", "calls of %s can't be looked up here" % machine, "seccomp")
    name, values = args[0], [_number(text) for text in args[1:]]
    if len(values) > MAX_ARGS:
        raise UsageError("system-call-has", "a system call has at most %d arguments" % MAX_ARGS, "seccomp")
    number = int(name) if name.isascii() and name.isdigit() else helper_process.call("syscalls", {"names": [name]})[name]
    if number < 0:
        raise UsageError("system-call-known", "the system call %s is not known on %s" % (quote(name), machine), "seccomp")
    values += [0] * (MAX_ARGS - len(values))
    action = filters.verdict(program, ARCHES[machine], number, tuple(values))
    return {"syscall": name, "number": number, "arguments": values, "verdict": filters.action_name(action)}


def _text(report: dict[str, Any]) -> str:
    lines = []
    if "verdict" in report:
        shown = ", ".join("%#x" % value for value in report["arguments"])
        lines.append("%s(%s): %s" % (quote(report["syscall"]), shown, report["verdict"]))
    lines.append("default %s, %d instructions" % (report["default"], report["instructions"]))
    if report["unknown"]:
        lines.append("not known here, skipped: %s" % quote(" ".join(report["unknown"]), 2000))
    return "\n".join(lines) + "\n"
