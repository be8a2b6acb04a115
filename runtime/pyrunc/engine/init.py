"""Init: the clone3 child that becomes the container's process. Executes its rows and ends with finish() or posix._exit.

Nothing is imported after the barrier is closed, which is the first step. Every branch ends with _exit, including the one for unexpected
exceptions: the caller's code must never run in this process.
"""

from __future__ import annotations

import _signal
import posix
from _signal import SIGKILL
from _struct import pack

from pyrunc import jsonio, trace
from pyrunc.engine import barrier, handshake, planner, steps
from pyrunc.engine.order import CREATE
from pyrunc.errors import CallError, HookFailure, PyruncError, StepFailure, out_of_memory
from pyrunc.linux import _syscalls
from pyrunc.linux import prctl as _prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyrunc.engine.handshake import Link
    from pyrunc.engine.run import Run
    from pyrunc.engine.shapes import Data
    from pyrunc.parts.sides import Op

PIPE_BUF = 4096
NAMED = (b"[heap]", b"[stack]")
OP_FORGET, OP_HOOKS = (steps.position(CREATE, "tail", verb) for verb in ("op_forget", "op_hooks"))
SHOWN = 2048  # characters of each stream of a startContainer hook


def main(run: Run, link: Link, gate_fd: int, result_fd: int) -> NoReturn:
    """Never returns."""
    try:
        _signal.set_wakeup_fd(-1)  # the pipe belongs to the host side
        barrier.close()
        _life(run, link, gate_fd, result_fd)
    except EOFError:
        posix._exit(1)  # the host side has died, and with it this container
    except BaseException as e:
        report(link, e)
    finally:
        posix._exit(1)


def _send_stamps(link: Link) -> None:
    """If a trace is written, sends the time stamps of each row to the host side."""
    if trace.is_wanted():
        link.send(handshake.STAMPS, trace.stamps())
        trace.begin()


def _life(run: Run, link: Link, gate_fd: int, result_fd: int) -> None:
    _prctl.set_pdeathsig(SIGKILL)
    try:
        posix.setsid()
    except OSError as e:
        raise CallError.of(e, "setsid") from None
    run.forget_host_env()
    run.link = link
    trace.begin()
    link.expect(handshake.PLACED)
    _prctl.set_dumpable(False)
    steps.walk(CREATE, "setup", "init", run)
    _send_stamps(link)
    link.send(handshake.HOOKS)
    link.expect(handshake.HOOKS_DONE)
    steps.walk(CREATE, "enter", "init", run)
    before, after = tail(run, gate_fd)
    if after:
        program = after[-1]  # None where the config has no process, and nothing will be started
        run.exec_env = program[2] if program is not None else ()
        run.late_filter = next((op[1:] for op in after if op and op[0] == "FILTER"), None)
    elif run.starts_later:
        before[OP_FORGET] = ("FORGET", _unneeded(run))
    run.close_proc()
    _send_stamps(link)
    status_fd = link.fileno()
    _syscalls.finish(before, status_fd, result_fd)
    # We only return here for startContainer hooks: started, with privileges dropped, before execve.
    run.on_note = lambda note: posix.write(result_fd, _note(note))
    try:
        steps.call("hooks", "init_start_container", "init", run.plans["hooks"], run)
    except BaseException as e:
        posix.write(result_fd, _dump(e, PIPE_BUF))
        posix._exit(1)
    _syscalls.finish(after, -1, result_fd)


def _note(note: Data) -> bytes:
    """Sends a NOTE with a single write, so that it is not interleaved; the beginning of a long stream is cut off."""
    size = SHOWN
    while True:
        body = jsonio.dumps({**note, **{name: note[name][-size:] for name in ("stdout", "stderr")}}).encode("utf-8", "backslashreplace")
        if len(body) + 3 <= PIPE_BUF:
            return handshake.NOTE + len(body).to_bytes(2, "big") + body
        size //= 2


def _unneeded(run: Run) -> bytes:
    """The memory of the interpreter, which is no longer used, in the form of memory()."""
    try:
        return memory(run.proc.read("self/maps", 1 << 20))
    except OSError:
        return b""  # no procfs: the only consequence is that waiting takes a few MiB more


def memory(maps: bytes) -> bytes:
    """bytes of /proc/self/maps → pairs of uint64 (start, end) of private, writable, anonymous memory. FORGET itself excludes what C still
    needs, such as the used part of the stack (csrc/clear.c)."""
    found = []
    for line in maps.splitlines():
        if b" rw-p " not in line:  # most lines: splitting each one would take longer
            continue
        fields = line.split()
        if len(fields) >= 5 and fields[1] == b"rw-p" and fields[4] == b"0" and (len(fields) == 5 or fields[5] in NAMED):
            start, _, end = fields[0].partition(b"-")
            found += [int(start, 16), int(end, 16)]
    return pack("=%dQ" % len(found), *found)


def tail(run: Run, gate_fd: int) -> tuple[list[Op | None], list[Op | None]]:
    """(operations up to the end, or up to startContainer hooks; operations after them), in the order of the timetable. The position of an
    operation is that of its row."""
    split = planner.ask(run.plans, "hooks", "runs_inside")
    outside = run.may_be_traced = planner.module("namespaces").is_outside(run.plans["namespaces"])
    own: dict[str, Op | None] = {
        "op_prune": ("PRUNE",),
        "op_sync": ("SYNC",) if steps.is_needed(CREATE, "limits", run.plans) else None,
        "op_signals": ("SIGNALS",),
        "op_forget": None,  # set by the caller, as the last step
        "op_outlive": ("PDEATHSIG", 0, 0),
        "op_clone": ("CLONE", 1, 1) if outside else None,
        "op_session": ("SESSION", planner.module("fds").controlling(run.plans)) if outside else None,
        "op_ready": ("READY",),
        "op_wait": ("WAIT", gate_fd),
        "op_hooks": None,
        "op_reset": ("RESET",) if split else None,  # SIGNALS has done it, and execve resets handlers
        "op_close": ("CLOSE", planner.module("fds").kept(run.plans)),
    }
    ops = steps.operations(CREATE, "tail", "init", run, own)
    if not split:
        return ops, []
    return ops[:OP_HOOKS], [None] * OP_HOOKS + ops[OP_HOOKS:]


def _record(e: BaseException) -> dict[str, Data]:
    if isinstance(e, MemoryError):
        return out_of_memory("init", "init").record()
    if isinstance(e, OSError):
        return StepFailure.from_oserror(e, "engine.init", "init").record()
    if isinstance(e, PyruncError):
        data = e.record()
        if isinstance(e, HookFailure):
            data.update(kind=e.hook_kind, index=e.index, cause=e.cause, path=e.path)
        return data
    return {
        "code": "bug",
        "reason": "internal",
        "words": "internal error in init: %s: %s" % (type(e).__name__, e),
        "pointer": None,
        "hint": "please report it",
    }


def _dump(e: BaseException, limit: int) -> bytes:
    data = _record(e)
    data["words"] = data["words"][: limit // 8]
    return handshake.FAILED + jsonio.dumps(data).encode("utf-8", "backslashreplace")


def report(link: Link, e: BaseException) -> None:
    """Best effort: if even this fails, the host sees the socket close and reports that init died."""
    try:
        _send_stamps(link)
        link.sock.send(_dump(e, 65536))
    except BaseException:
        posix._exit(2)
