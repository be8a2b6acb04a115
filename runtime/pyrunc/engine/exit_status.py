"""How a container's init exited, as far as that is still known: recorded by `wait` or a foreground run, from its zombie, or from the
kernel's count of OOM kills. Loaded for stopped containers; never waits, and writes nothing.

{"status": exit status, or 128 plus the signal that killed it; "signal"; "oom_killed"}: None for what is not known.
"""

from __future__ import annotations

import posix

from pyrunc.cgroup import oom
from pyrunc.linux import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.state_dir import StateDir
    from pyrunc.state_document import ExitRecord


def recorded(state_dir: StateDir) -> ExitRecord | None:
    """The recorded result, or None."""
    found = state_dir.state.get("ended")
    if type(found) is not dict:
        return None
    return {"status": found.get("status"), "signal": found.get("signal"), "oom_killed": found.get("oom_killed")}


def of(state_dir: StateDir) -> ExitRecord:
    """The result for a stopped container, from any source that still has it."""
    found = recorded(state_dir)
    if found is not None:
        return found
    state = state_dir.state
    code = None
    fd = pidfd.open_init(state["pid"], state["start_time"]) if state["boot_id"] == pidfd.boot_id() else -1
    if fd >= 0:
        try:
            code = pidfd.exit_status(fd)
        finally:
            posix.close(fd)
    return from_wait_status(code, memory_ran_out(state.get("cgroup_paths") or {}))


def from_wait_status(code: int | None, oom_killed: bool | None) -> ExitRecord:
    """Converts a wait status, or None, to the form above."""
    if code is None:
        return {"status": None, "signal": None, "oom_killed": oom_killed}
    return {"status": pidfd.shell_status(code), "signal": code & 0x7F or None, "oom_killed": oom_killed}


def memory_ran_out(paths: dict[str, str]) -> bool | None:
    """None if the container has no memory cgroup, or it no longer exists."""
    path = paths.get("memory") or paths.get("unified")
    try:
        return oom.killed(paths) > 0 if path and posix.stat(path) else None
    except OSError:
        return None
