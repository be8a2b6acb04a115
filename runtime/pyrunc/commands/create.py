"""create ID: makes the container up to the point where its program would run, and returns. `start` runs the program."""

from __future__ import annotations

from pyrunc.engine import host
from pyrunc.engine.prepare import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


def main(options: Options, args: list[str]) -> int:
    run, warnings = prepare(options, args[0], "create")
    host.create(run, warnings)
    return 0
