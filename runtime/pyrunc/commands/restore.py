"""restore [options] ID: restores a container from the images of a checkpoint and the bundle's config. Without --detach the command stays in the
foreground, deletes the container at its end and returns the program's exit status."""

from __future__ import annotations

import posix

from pyrunc.commands.checkpoint import settings_of
from pyrunc.engine import foreground, lifecycle, restore
from pyrunc.engine.prepare import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.engine.run import Run
    from pyrunc.engine.shapes import Settings


def main(options: Options, args: list[str]) -> int:
    settings = settings_of(options, "restore")
    run, warnings = prepare(options, args[0], "restore")
    if run.options["detach"]:
        restore.restore(run, warnings, settings)
        posix.close(run.pidfd)
        return 0
    caught = foreground.Signals()  # until the end: a signal must not prevent the clean-up
    try:
        status = _in_foreground(run, warnings, settings, caught)
        run.stored.lock()
        lifecycle.delete(run.stored, options, force=True)
    finally:
        caught.close()
    return status


def _in_foreground(run: Run, warnings: list[list[str]], settings: Settings, caught: foreground.Signals) -> int:
    terminal = None
    try:
        if not run.options["no_subreaper"]:
            foreground.be_subreaper()
        terminal = foreground.terminal_of(run)
        restore.restore(run, warnings, settings)
        if terminal is not None:
            terminal.receive()
        return foreground.attend(run.pid, run.pidfd, terminal, caught)
    finally:
        if terminal is not None:
            terminal.close()
