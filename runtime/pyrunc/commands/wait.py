"""wait ID: waits until the container's init has ended, and prints its exit status: 128 plus the signal if it was killed.

The status comes from the pidfd, or on kernels that don't keep it there from the process connector. For a container that has already stopped, it
comes from the zombie of its init, or from what an earlier `wait` or a `run --keep` recorded. --format json prints {"id", "status", "signal",
"oom_killed"}, with null for what is unknown. No lock is held while waiting.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio
from pyrunc.commands import choice
from pyrunc.commands.lookup import open_state
from pyrunc.engine import exit_status, status
from pyrunc.engine.durations import duration
from pyrunc.errors import StateError
from pyrunc.linux import pidfd, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.linux import procevents
    from pyrunc.state_dir import StateDir
    from pyrunc.state_document import ExitRecord


KEEPS_STATUS = (6, 15)  # PIDFD_INFO_EXIT


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "wait", "text", "json")
    timeout_ms = int(duration(options["timeout"], "wait", "timeout") * 1000) if "timeout" in options else None
    state_dir = open_state(options, args[0])
    end = exit_status.recorded(state_dir) or _wait(state_dir, timeout_ms)
    if style == "json":
        fileio.write_all(1, (jsonio.dumps({"id": state_dir.id, **end}) + "\n").encode())
        return 0
    if end["status"] is None:
        hint = "the process that started it has collected its status"
        raise StateError("status-unknown", "the exit status of %s is no longer known" % state_dir.id, state_dir.id, "stopped", hint)
    fileio.write_all(1, b"%d\n" % end["status"])
    return 0


def _wait(state_dir: StateDir, timeout_ms: int | None) -> ExitRecord:
    state = state_dir.state
    if status.of(state_dir) == "creating" and not state["pid"]:
        raise StateError(
            "no-init-yet", "container %s has no init yet" % state_dir.id, state_dir.id, "creating", "wait until create has ended"
        )
    watch = _listen(state["pid"])
    fd = pidfd.open_init(state["pid"], state["start_time"]) if state["boot_id"] == pidfd.boot_id() else -1
    code = None
    try:
        if fd >= 0:
            if not pidfd.wait(fd, timeout_ms):
                raise StateError("timed-out", "container %s has not ended in time" % state_dir.id, state_dir.id, status.of(state_dir))
            code = pidfd.exit_status(fd)
            if code is None and watch is not None:  # its parent has reaped it
                code = watch.status()
    finally:
        if fd >= 0:
            posix.close(fd)
        if watch is not None:
            watch.close()
    end = exit_status.from_wait_status(code, exit_status.memory_ran_out(state.get("cgroup_paths") or {}))
    if code is not None:
        _record(state_dir, end)
    return end


def _listen(pid: int) -> procevents.Watch | None:
    """The process connector, for kernels that don't keep the status; None if it is not needed or not allowed."""
    if probe.kernel() >= KEEPS_STATUS:
        return None
    from pyrunc.linux import procevents

    try:
        return procevents.Watch(pid)
    except OSError:
        return None


def _record(state_dir: StateDir, end: ExitRecord) -> None:
    """Records the status in the state for later calls, unless the container was deleted in the meantime."""
    try:
        state_dir.lock().load()
    except StateError:
        return
    try:
        state_dir.record("ended", end)
    except OSError:
        return  # the status is printed even if the disk is full
    finally:
        state_dir.unlock()
