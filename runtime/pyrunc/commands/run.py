"""run ID: creates and starts a container. Without --detach the command stays in the foreground, deletes the container at its end (unless --keep is
given) and returns the program's exit status."""

from __future__ import annotations

import posix

from pyrunc.engine import foreground, host, lifecycle, start
from pyrunc.engine.prepare import prepare
from pyrunc.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.engine.run import Run
    from pyrunc.engine.start import Ready


def main(options: Options, args: list[str]) -> int:
    run, warnings = prepare(options, args[0], "run")
    run.starts_later = False
    if run.options["detach"]:
        _begin(run, warnings, options)
        return 0
    caught = foreground.Signals()  # first and until the end: signals are for the program, and must not prevent the clean-up
    try:
        status = _in_foreground(run, warnings, options, caught)
        _finish(run, status, options)
    finally:
        caught.close()
    return status


def _in_foreground(run: Run, warnings: list[list[str]], options: Options, caught: foreground.Signals) -> int:
    """Creates and starts the container and waits for its program. If that fails, the container is deleted."""
    terminal = notify = None
    try:
        if not run.options["no_subreaper"]:
            foreground.be_subreaper()
        terminal = foreground.terminal_of(run)
        host.create(run, warnings)
        if terminal is not None:
            terminal.receive()
        notify = _start(run, options)
        try:
            return foreground.attend(run.pid, run.pidfd, terminal, caught, notify)
        except BaseException:
            run.stored.lock()
            lifecycle.delete(run.stored, options, force=True, plans=run.plans)
            raise
    finally:
        if terminal is not None:
            terminal.close()
        if notify is not None:
            notify.close()


def _finish(run: Run, status: int, options: Options) -> None:
    """Deletes the container, or records its exit status for `wait`. It may have been deleted by another command in the meantime."""
    state_dir = run.stored
    try:
        state_dir.lock().refresh()  # others may have changed the state
    except StateError as e:
        if e.reason == "unknown-container":
            return
        if run.options["keep"]:
            raise
    if run.options["keep"]:
        state_dir.record("ended", {"status": status})
        state_dir.unlock()
    else:
        lifecycle.delete(state_dir, options, force=True, plans=run.plans)


def _begin(run: Run, warnings: list[list[str]], options: Options) -> None:
    host.create(run, warnings)
    _start(run, options)


def _start(run: Run, options: Options) -> Ready | None:
    """Starts the container, and deletes it if that fails. Returns what has to be polled while it runs, or None."""
    state_dir = run.stored
    state_dir.lock()
    try:
        notify = start.start(state_dir, options, defer_ready=not run.options["detach"], made=True)
    except BaseException:
        if state_dir.fd >= 0:
            lifecycle.delete(state_dir, options, force=True)
        raise
    finally:
        if state_dir.fd >= 0:
            state_dir.unlock()
    if run.options["detach"]:
        posix.close(run.pidfd)
    return notify
