"""pause [--timeout TIME] ID: freezes every process of the container, and returns when all are frozen. If some are not frozen in time, the error
names them, and all are thawed."""

from __future__ import annotations

import time

from pyrunc.cgroup import freeze
from pyrunc.engine import status
from pyrunc.engine.durations import duration
from pyrunc.errors import CALLER_TEXT, StateError
from pyrunc.store import open_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


def main(options: Options, args: list[str]) -> int:
    limit = duration(options["timeout"], "pause", "timeout") if "timeout" in options else freeze.LIMIT_MS / 1000
    state_dir = open_state(options, args[0])
    state_dir.lock().load()
    try:
        now = status.of(state_dir)
        if now not in ("running", "created"):
            raise StateError("not-running", CALLER_TEXT["not-running"], state_dir.id, now)
        freeze.freeze(state_dir.state.get("cgroup_paths") or {}, time.monotonic() + limit)
    finally:
        state_dir.unlock()
    return 0
