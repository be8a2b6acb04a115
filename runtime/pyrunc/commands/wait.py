"""wait ID: returns when the container's init has ended, and prints its exit status: 128 and the signal for one that was killed.

The status comes through the pidfd, or on kernels that do not keep it there from the kernel's news of exits. For a container that has
stopped already, what can still be known: its init as a zombie, or what an earlier `wait` or an attended `run --keep` has written down. `--format json`: {"id", "status", "signal", "oom_killed"}, null for
what nobody knows. Takes no lock while it waits.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio
from pyrunc.commands.lookup import open_state
from pyrunc.engine import exit_status, status
from pyrunc.engine.durations import duration
from pyrunc.errors import StateError, UsageError, quote
from pyrunc.linux import pidfd, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.cmdline import Options
    from pyrunc.linux import procevents
    from pyrunc.store import StateDir


KEEPS_STATUS = (6, 15)  # PIDFD_INFO_EXIT


def main(options: Options, args: list[str]) -> int:
    style = options.get("format", "text")
    if style not in ("text", "json"):
        raise UsageError("bad-format", "invalid format option: %s" % quote(style), "wait", "format", "use text or json")
    timeout_ms = int(duration(options["timeout"], "wait", "timeout") * 1000) if "timeout" in options else None
    state_dir = open_state(options, args[0])
    end = exit_status.written(state_dir) or _wait(state_dir, timeout_ms)
    if style == "json":
        fileio.write_all(1, (jsonio.dumps({"id": state_dir.id, **end}) + "\n").encode())
        return 0
    if end["status"] is None:
        hint = "who started it has taken its status"
        raise StateError("status-unknown", "the exit status of %s is not known any more" % state_dir.id, state_dir.id, "stopped", hint)
    fileio.write_all(1, b"%d\n" % end["status"])
    return 0


def _wait(state_dir: StateDir, timeout_ms: int | None) -> dict[str, Any]:
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
            if code is None and watch is not None:  # its parent was quicker than we
                code = watch.status()
    finally:
        if fd >= 0:
            posix.close(fd)
        if watch is not None:
            watch.close()
    end = exit_status.told(code, exit_status.memory_ran_out(state.get("cgroup_paths") or {}))
    if code is not None:
        _note(state_dir, end)
    return end


def _listen(pid: int) -> procevents.Watch | None:
    """Where the kernel does not keep the status for us it has to be heard, if we may."""
    if probe.kernel() >= KEEPS_STATUS:
        return None
    from pyrunc.linux import procevents

    try:
        return procevents.Watch(pid)
    except OSError:
        return None


def _note(state_dir: StateDir, end: dict[str, Any]) -> None:
    """For who asks later, as the kernel forgets. A container that was deleted meanwhile needs no note."""
    try:
        state_dir.lock().load()
    except StateError:
        return
    try:
        state_dir.record("ended", end)
    except OSError:
        return  # a full disk is no reason to hide the status
    finally:
        state_dir.unlock()
