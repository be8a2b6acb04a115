"""resume ID: thaws a paused container, and takes off it what a checkpoint that was killed has left: CRIU's lock on its network."""

from pyrunc.cgroup import freeze
from pyrunc.engine import status
from pyrunc.errors import CALLER_TEXT, StateError
from pyrunc.store import open_state


def main(options, args):
    box = open_state(options, args[0])
    box.lock().load()
    try:
        now = status.of(box)
        locked = "dumping" in box.state and now in ("running", "paused")  # netlock.KEY
        if now == "paused":
            freeze.thaw(box.state.get("cgroup_paths") or {})
        elif not locked:
            raise StateError(CALLER_TEXT["not-paused"], box.id, now)
        if locked:
            _unlock(box, now)
    finally:
        box.unlock()
    return 0


def _unlock(box, now):
    from pyrunc.engine import netlock

    left = netlock.recover(box, box.plan())
    if left:
        raise StateError(left, box.id, now)
