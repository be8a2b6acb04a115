"""The status of a container: creating, created, running, paused or stopped (runtime-spec, runtime.md#state). Takes no lock."""

from __future__ import annotations

from pyrunc.engine import gate
from pyrunc.linux import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.state_dir import StateDir
    from pyrunc.state_document import State

ALIVE = ("created", "running", "paused")  # there is an init, and it is the container's


def is_alive(state: State) -> bool:
    """Whether the recorded init exists and is not a zombie: pid, start time and boot id must all be those of create."""
    pid = state["pid"]
    return pid > 1 and pidfd.start_time(pid, living=True) == state["start_time"] and state["boot_id"] == pidfd.boot_id()


def of(state_dir: StateDir) -> str:
    """The status of a loaded StateDir."""
    state = state_dir.state
    if not is_alive(state):
        if state["status"] == "creating" and state["pid"] == 0 and _maker_lives(state_dir):
            return "creating"
        return "stopped"
    if state["status"] == "creating":
        return "creating"
    if is_frozen(state):
        return "paused"
    return "created" if gate.is_waiting(state_dir) else "running"


def _maker_lives(state_dir: StateDir) -> bool:
    """Whether the lock is held, as by a create that has not cloned yet; does not wait."""
    import fcntl

    try:
        fcntl.flock(state_dir.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(state_dir.fd, fcntl.LOCK_UN)
    return False


def is_frozen(state: State) -> bool:
    paths = state.get("cgroup_paths")
    if not paths:
        return False
    from pyrunc.cgroup import freeze

    return freeze.is_frozen(paths)
