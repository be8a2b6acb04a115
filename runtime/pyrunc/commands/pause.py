"""pause ID: freezes every process of the container and returns when they stand."""

from pyrunc.cgroup import freeze
from pyrunc.engine import status
from pyrunc.errors import CALLER_TEXT, StateError
from pyrunc.store import open_state


def main(options, args):
    box = open_state(options, args[0])
    box.lock().load()
    try:
        now = status.of(box)
        if now not in ("running", "created"):
            raise StateError(CALLER_TEXT["not-running"], box.id, now)
        freeze.freeze(box.state.get("cgroup_paths") or {})
    finally:
        box.unlock()
    return 0
