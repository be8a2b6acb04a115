"""restore [options] ID: a container from the images of a checkpoint and the bundle's config; attended and deleted at its end unless
--detach. Returns the program's status."""

from __future__ import annotations

import posix

from pyrunc.commands.checkpoint import asked_of
from pyrunc.engine import foreground, lifecycle, restore
from pyrunc.engine.prepare import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.cmdline import Options
    from pyrunc.engine.run import Run


def main(options: Options, args: list[str]) -> int:
    asked = asked_of(options, "restore")
    run, warnings = prepare(options, args[0], "restore")
    if run.options["detach"]:
        restore.restore(run, warnings, asked)
        posix.close(run.pidfd)
        return 0
    caught = foreground.Signals()  # to the very end: nothing may keep us from undoing
    try:
        status = _attended(run, warnings, asked, caught)
        run.state_dir.lock()
        lifecycle.delete(run.state_dir, options, force=True)
    finally:
        caught.close()
    return status


def _attended(run: Run, warnings: list[tuple[str, str]], asked: dict[str, Any], caught: foreground.Signals) -> int:
    terminal = None
    try:
        if not run.options["no_subreaper"]:
            foreground.be_subreaper()
        if "terminal" in run.plans:
            terminal = foreground.Terminal()
            run.fds["console"] = terminal.their_fd
        restore.restore(run, warnings, asked)
        if terminal is not None:
            terminal.receive()
        return foreground.attend(run.pid, run.pidfd, terminal, caught)
    finally:
        if terminal is not None:
            terminal.close()
