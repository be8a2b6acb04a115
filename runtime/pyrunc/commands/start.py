"""start ID: runs the program of a created container. Returns when the program has been executed; fails if it could not be."""

from __future__ import annotations

from pyrunc.engine import start
from pyrunc.store import open_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


def main(options: Options, args: list[str]) -> int:
    state_dir = open_state(options, args[0])
    state_dir.lock().load()
    try:
        start.start(state_dir, options)
    finally:
        state_dir.unlock()
    return 0
