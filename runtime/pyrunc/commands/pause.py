"""pause [--timeout TIME] ID: freezes every process of the container and returns when they stand. Who does not within the time is named,
and the others are thawed again."""

import time

from pyrunc.cgroup import freeze
from pyrunc.engine import status
from pyrunc.engine.durations import duration
from pyrunc.errors import CALLER_TEXT, StateError
from pyrunc.store import open_state


def main(options, args):
    limit = duration(options["timeout"], "pause", "timeout") if "timeout" in options else freeze.LIMIT_MS / 1000
    box = open_state(options, args[0])
    box.lock().load()
    try:
        now = status.of(box)
        if now not in ("running", "created"):
            raise StateError(CALLER_TEXT["not-running"], box.id, now)
        freeze.freeze(box.state.get("cgroup_paths") or {}, time.monotonic() + limit)
    finally:
        box.unlock()
    return 0
