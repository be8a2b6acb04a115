"""resume ID: thaws a paused container."""

from pyrunc.cgroup import freeze
from pyrunc.engine import status
from pyrunc.errors import CALLER_TEXT, StateError
from pyrunc.store import open_state


def main(options, args):
    box = open_state(options, args[0])
    box.lock().load()
    try:
        now = status.of(box)
        if now != "paused":
            raise StateError(CALLER_TEXT["not-paused"], box.id, now)
        freeze.thaw(box.state.get("cgroup_paths") or {})
    finally:
        box.unlock()
    return 0
