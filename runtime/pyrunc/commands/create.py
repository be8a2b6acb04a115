"""create ID: everything but the program itself; returns when the container waits for start."""

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
