"""start: releases a waiting init, which becomes the program or reports why it can't (runtime-spec, runtime.md#start).

This is the other end of engine/gate.py. lifecycle.py handles the consequences of a failure for the container, and is loaded only then.
"""

from __future__ import annotations

import posix
import select
from _signal import SIGKILL, SIGSYS

from pyrunc import jsonio, log, trace
from pyrunc.engine import gate, handshake, planner, signals, status, steps
from pyrunc.engine.order import CREATE, START
from pyrunc.errors import CALLER_TEXT, CallError, HookFailure, PyruncError, Refusal, StateError, StepFailure
from pyrunc.linux import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from pyrunc.engine.shapes import Entry
    from pyrunc.state_dir import StateDir

NOTES_MAX = 64 << 20  # bytes of notes about startContainer hooks, 4 KiB each
LOOK_MS = 1000  # how often a start that receives nothing checks whether the program has been executed
GONE_MS = 10_000  # how long a failed start waits for init to exit


def start(state_dir: StateDir, options: Mapping[str, object], defer_ready: bool = False, made: bool = False) -> Ready | None:
    """Releases init and waits until the program has been executed, or execve has failed, and if a supervisor waits for it, until the
    program is ready. defer_ready: the caller waits for readiness itself; returns what it has to poll, or None. made: the caller has just
    created the container. StateError, StepFailure, HookFailure."""
    now = "created" if made else status.of(state_dir)
    if now != "created":
        words = {"running": "start-running", "paused": "start-paused"}.get(now, "start-stopped")
        raise StateError(words, CALLER_TEXT[words], state_dir.id, now)
    if state_dir.state.get("no_process"):
        raise Refusal("no-process", "process property must not be empty", "/process", "the config that it was created with has no process")
    fd = pidfd.open_init(state_dir.state["pid"], state_dir.state["start_time"])
    ends = gate.open_both(state_dir) if fd >= 0 else None
    if ends is None:
        raise StateError(
            "start-stopped", CALLER_TEXT["start-stopped"], state_dir.id, "stopped", hint="its init has exited; delete the container"
        )
    notify = _listen(state_dir)
    began = trace.now()
    try:
        _release(state_dir, ends, fd)
        trace.step("engine.release", began)
    except PyruncError as e:  # not an OSError of one of our own calls: the container may still be waiting
        if isinstance(e, HookFailure):
            e.hooks = planner.module("hooks").outcomes(state_dir.state)
        _abandon(state_dir, options, fd)
        raise
    finally:
        for end in ends:
            posix.close(end)
    gate.remove(state_dir)
    if "poststart" in (state_dir.state.get("hook_kinds") or ()):
        _poststart(state_dir, options, fd)
    if notify is not None and defer_ready:
        posix.close(fd)
        return Ready(*notify, state_dir.state["pid"])
    if notify is not None:
        state_dir.unlock()  # becoming ready may take long, and stopping must be possible in the meantime
        planner.module("notify").forward(*notify, state_dir.state["pid"], fd)
    posix.close(fd)
    return None


class Ready:
    """Waits for sd_notify(3)'s READY on behalf of a supervisor, alongside other work: poll `fd`, and call act() when it is readable."""

    def __init__(self, entry: Entry, fd: int, pid: int) -> None:
        self.supervisor = planner.module("notify").supervisor(entry)
        self.fd = fd
        self.pid = pid

    def act(self) -> bool:
        """True if there is nothing more to do. A supervisor that has exited is not a reason to stop the program."""
        from pyrunc.linux import sdnotify

        if not sdnotify.is_ready(self.fd):
            return False
        try:
            sdnotify.tell(self.supervisor, self.pid, barrier=False)
        except OSError as e:
            log.warn(CallError.of(e).words or str(e))
        return True

    def close(self) -> None:
        posix.close(self.fd)


def _listen(state_dir: StateDir) -> tuple[Entry, int] | None:
    """(entry, socket) if a supervisor waits for sd_notify(3)'s READY; bound before the program runs, so that no message is lost."""
    if not state_dir.state.get("notify"):
        return None
    entry = state_dir.plan()["notify"]
    return entry, planner.module("notify").listen(entry, state_dir.fd)


def _release(state_dir: StateDir, ends: tuple[int, int], init_fd: int) -> None:
    gate_fd, result_fd = ends
    posix.write(gate_fd, b"0")
    poll = select.poll()
    poll.register(result_fd, select.POLLIN | select.POLLHUP)
    poll.register(init_fd, select.POLLIN)
    received = b""
    while True:
        events = dict(poll.poll(LOOK_MS))
        executed = not events and pidfd.has_executed(state_dir.state["pid"])  # although another process holds the other end of `result`
        if result_fd in events or executed:
            data = b"" if executed else _read(result_fd)
            if data is None:  # a writer is still there but has sent nothing: only init's exit was reported
                continue
            if received or data[:1] == handshake.NOTE:  # startContainer hooks: read everything first, then parse it
                received += data
                if len(received) > NOTES_MAX:
                    raise StepFailure("output-too-long", "init sent more than expected", "start", "init", "/hooks/startContainer")
                if data:
                    continue
                data = _record_notes(state_dir, received)
            if data:
                gate.remove(state_dir)
                pidfd.wait(init_fd, GONE_MS)  # its last message: a later `state` must not find it running
                raise _failed(state_dir, data)
            _prove_executed(state_dir, init_fd)
            return
        if init_fd in events:
            gate.remove(state_dir)
            raise StepFailure("init-died", "init died before the program was executed", "start", "init", "/process/args")


def _record_notes(state_dir: StateDir, received: bytes) -> bytes:
    """Records the results of startContainer hooks -> the data after them: a failure, or nothing."""
    notes = []
    while received[:1] == handshake.NOTE:
        size = int.from_bytes(received[1:3], "big")
        notes.append(jsonio.loads(received[3 : 3 + size], "a hook's note"))
        received = received[3 + size :]
    state_dir.record("hooks", [*state_dir.state.get("hooks", ()), *notes])
    return received


def _read(fd: int) -> bytes | None:
    """bytes, b"" at end of file, None if there is nothing yet."""
    try:
        return posix.read(fd, 8192)
    except BlockingIOError:
        return None


def _prove_executed(state_dir: StateDir, init_fd: int) -> None:
    """End of file on `result` means execve, or that init was killed without a report, by a filter. If init never became the program, it was
    killed by SIGSYS, which the pidfd shows as long as the kernel keeps the status."""
    try:
        number = pidfd.exit_signal(init_fd)
    except OSError:  # no descriptor is left for checking: nothing contradicts init's report, so the program is running
        return
    if number == SIGSYS:
        gate.remove(state_dir)
        raise StepFailure(
            "filter-kills", "init was killed by the seccomp profile before or at execve", "seccomp.op_late", "init", "/linux/seccomp",
            hint="allow execve",
        )  # fmt: skip


def _failed(state_dir: StateDir, data: bytes) -> PyruncError:
    if data[:1] == handshake.C_FAIL:
        from _struct import unpack

        record = unpack(handshake.RECORD, data[: handshake.RECORD_SIZE])
        return steps.tail_failure(record, state_dir.plan(), CREATE)
    e = steps.rebuild(jsonio.loads(data[1:]), "init")
    if not isinstance(e, HookFailure):
        e.words = steps.IN_INIT + e.words
    return e


def _poststart(state_dir: StateDir, options: Mapping[str, object], init_fd: int) -> None:
    lifecycle = _lifecycle()
    run = lifecycle.run_of(state_dir, options)
    run.pidfd = init_fd
    lifecycle.to_bundle(run.bundle)
    cancel = run.cancel = signals.Cancel()
    try:
        steps.walk(START, "started", "host", run)
    except PyruncError as e:
        e.hooks = planner.module("hooks").outcomes(state_dir.state)
        _abandon(state_dir, options, init_fd)
        raise
    finally:
        run.cancel = None
        cancel.close()


def _abandon(state_dir: StateDir, options: Mapping[str, object], init_fd: int) -> None:
    """After a failed start the container is destroyed. For hooks the specification requires it (lifecycle, steps 7 and 10). If the program
    could not be executed, runc and crun report success, and engines delete the stopped container; after a failed start some (podman) never
    delete it, so its state and cgroup would remain. An error here must not hide the first one."""
    try:
        pidfd.kill(init_fd, SIGKILL)
        pidfd.wait(init_fd, GONE_MS)
        _lifecycle().destroy(state_dir, options)
    except (PyruncError, OSError) as e:
        log.warn("the container could not be removed: %s" % e)


def _lifecycle() -> ModuleType:
    from pyrunc.engine import lifecycle

    return lifecycle
