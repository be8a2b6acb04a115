"""resume ID: thaws a paused container. It also removes the lock on the container's network that a killed checkpoint leaves behind."""

from __future__ import annotations

from pyrunc.cgroup import freeze
from pyrunc.engine import status
from pyrunc.errors import CALLER_TEXT, StateError
from pyrunc.store import open_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.state_dir import StateDir


def main(options: Options, args: list[str]) -> int:
    state_dir = open_state(options, args[0])
    state_dir.lock().load()
    try:
        now = status.of(state_dir)
        locked = "dumping" in state_dir.state and now in ("running", "paused")  # netlock.KEY
        if now == "paused":
            freeze.thaw(state_dir.state.get("cgroup_paths") or {})
        elif not locked:
            raise StateError("not-paused", CALLER_TEXT["not-paused"], state_dir.id, now)
        if locked:
            _unlock(state_dir, now)
    finally:
        state_dir.unlock()
    return 0


def _unlock(state_dir: StateDir, now: str) -> None:
    from pyrunc.engine import netlock

    left = netlock.recover(state_dir, state_dir.plan())
    if left:
        raise StateError("network-locked", left, state_dir.id, now)
