"""Init: the clone3 child that becomes the container's process. Walks its rows and ends in finish() or posix._exit.

Nothing is imported here once the barrier is closed, which is the first thing that happens. Every branch ends in _exit, also the
one for exceptions nobody thought of: the code of the caller must never run in this process.
"""

import _signal
import posix
from _struct import pack

from pyrunc import trace
from pyrunc.engine import barrier, handshake, steps
from pyrunc.engine.order import CREATE
from pyrunc.errors import CallError, PyruncError, out_of_memory
from pyrunc.linux import _syscalls
from pyrunc.linux import prctl as _prctl

PIPE_BUF = 4096
NAMED = (b"[heap]", b"[stack]")
OUTLIVE = ("PDEATHSIG", 0, 0)
SHOWN = 2048  # characters of each stream of a startContainer hook


def main(run, link, gate_fd, result_fd):
    """Never returns."""
    try:
        _signal.set_wakeup_fd(-1)  # the pipe belongs to the host side
        barrier.close()
        _life(run, link, gate_fd, result_fd)
    except EOFError:
        posix._exit(1)  # the host side is gone; so is this container
    except BaseException as e:
        report(link, e)
    finally:
        posix._exit(1)


def _send_stamps(link):
    """Where a trace is written the host wants to know when each row began and ended."""
    if trace.is_wanted():
        link.send(handshake.STAMPS, trace.stamps())
        trace.begin()


def _life(run, link, gate_fd, result_fd):
    _prctl.set_pdeathsig(9)
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
    run.exec_env = after[-1][2] if after else None  # of the program; startContainer hooks get it too
    run.late_filter = next((op[1:] for op in after if op[0] == "FILTER"), None)  # and this, as they are code of the container
    if not after and run.waits:
        before = _forgetting(run, before)
    _close_proc(run)
    _send_stamps(link)
    status_fd = link.fileno()
    _syscalls.finish(before, status_fd, result_fd)
    # Only startContainer hooks bring us back here: started, rights dropped, nothing executed yet.
    run.teller = lambda note: posix.write(result_fd, _note(note))
    try:
        steps.call("hooks", "init_start_container", "init", run.plans["hooks"], run)
    except BaseException as e:
        posix.write(result_fd, _dump(e, PIPE_BUF))
        posix._exit(1)
    _syscalls.finish(after, -1, result_fd)


def _note(note):
    """NOTE as one write that nothing gets in between of; a stream that is too long loses its beginning."""
    size = SHOWN
    while True:
        body = handshake.jsonio.dumps({**note, **{name: note[name][-size:] for name in ("stdout", "stderr")}}).encode(
            "utf-8", "backslashreplace"
        )
        if len(body) + 3 <= PIPE_BUF:
            return handshake.NOTE + len(body).to_bytes(2, "big") + body
        size //= 2


def _close_proc(run):
    if run._proc is not None:
        run._proc.close()
        run._proc = None


def _forgetting(run, ops):
    """The operations with FORGET before the filter, which may deny madvise: the interpreter, which runs no more, gives its memory back."""
    try:
        ranges = memory(run.proc.read("self/maps", 1 << 20))
    except OSError:
        ranges = b""  # no procfs to be had: waiting costs a few MiB more, and nothing else
    at = ops.index(OUTLIVE)
    return (*ops[:at], ("FORGET", ranges), *ops[at:])


def memory(maps):
    """bytes of /proc/self/maps → pairs of uint64 (start, end) of private, writable, anonymous memory. What C still needs of it, such as
    the used part of the stack, is left out by FORGET itself (csrc/clear.c)."""
    found = []
    for line in maps.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[1][:4] == b"rw-p" and fields[4] == b"0" and (len(fields) == 5 or fields[5] in NAMED):
            start, _, end = fields[0].partition(b"-")
            found += [int(start, 16), int(end, 16)]
    return pack("=%dQ" % len(found), *found)


def tail(run, gate_fd):
    """(operations up to the end, or up to startContainer hooks; operations after them), as the timetable orders them."""
    hooks = run.plans.get("hooks")
    split = bool(hooks and hooks.get("startContainer"))
    keep = run.plans.get("fds", {}).get("keep", 0)
    own = {
        "op_prune": ("PRUNE", keep),
        "op_sync": ("SYNC",) if "rlimits" in run.plans else None,
        "op_signals": ("SIGNALS",),
        "op_outlive": OUTLIVE,
        "op_ready": ("READY",),
        "op_wait": ("WAIT", gate_fd),
        "op_reset": ("RESET",) if split else None,  # SIGNALS has done it, and execve resets handlers
        "op_close": ("CLOSE", keep),
    }
    before, after = [], []
    ops = before
    for phase, part, verb, _why in CREATE:
        if phase != "tail":
            continue
        if part == "engine":
            if verb == "op_hooks":
                ops = after if split else before
                continue
            op = own[verb]
        else:
            entry = run.plans.get(part)
            op = None if entry is None else steps.call(part, verb, "init", entry, run)
        if op is not None:
            ops.append(op)
    return tuple(before), tuple(after)


def _record(e):
    if isinstance(e, MemoryError):
        return out_of_memory("init", "init").record()
    if isinstance(e, OSError):
        from_os = steps.StepFailure.from_oserror(e, "engine.init", "init")
        return from_os.record()
    if isinstance(e, PyruncError):
        data = e.record()
        if data["code"] == "hook":
            data.update(kind=e.hook_kind, index=e.index, cause=e.cause, path=e.path)
        return data
    return {
        "code": "bug",
        "reason": "internal",
        "words": "internal error in init: %s: %s" % (type(e).__name__, e),
        "pointer": None,
        "hint": "please report it",
    }


def _dump(e, limit):
    from_lean = handshake.jsonio.dumps
    data = _record(e)
    data["words"] = data["words"][: limit // 8]
    return handshake.FAILED + from_lean(data).encode("utf-8", "backslashreplace")


def report(link, e):
    """Best effort: when even this fails the host sees the end of the socket and says that init died."""
    try:
        _send_stamps(link)
        link.sock.send(_dump(e, 65536))
    except BaseException:
        posix._exit(2)
