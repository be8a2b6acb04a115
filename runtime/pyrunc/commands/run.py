"""run ID: create, start, and, unless detached, attend and delete. Returns the program's status."""

import posix

from pyrunc.engine import attend, host, lifecycle, release
from pyrunc.engine.prepare import prepare
from pyrunc.errors import CALLER_TEXT, StateError
from pyrunc.linux import pidfd


def main(options, args):
    run, warnings = prepare(options, args[0], "run")
    run.waits = False
    if run.options["detach"]:
        _begin(run, warnings, options)
        return 0
    caught = terminal = notify = None
    try:
        if not run.options["no_subreaper"]:
            attend.be_subreaper()
        if "terminal" in run.plans:
            terminal = attend.Terminal()
            run.fds["console"] = terminal.their_fd
        host.create(run, warnings)
        if terminal is not None:
            terminal.receive()
        caught = attend.Signals()
        notify = _start(run, options)
        if run.late_signal:
            pidfd.kill(run.pidfd, run.late_signal)
        status = attend.attend(run.pid, run.pidfd, terminal, caught, notify)
    finally:
        if terminal is not None:
            terminal.close()
        if caught is not None:
            caught.close()
        if notify is not None:
            notify.close()
    _finish(run, status, options)
    return status


def _finish(run, status, options):
    """Deletes the container, or writes its status down for `wait`. That somebody else has deleted it meanwhile is fine."""
    box = run.box
    try:
        box.lock().load()  # others may have written to the state
    except StateError as e:
        if e.words == CALLER_TEXT["unknown"]:
            return
        if run.options["keep"]:
            raise
    if run.options["keep"]:
        box.record("ended", {"status": status})
        box.unlock()
    else:
        lifecycle.delete(box, options, force=True, plans=run.plans)


def _begin(run, warnings, options):
    host.create(run, warnings)
    _start(run, options)


def _start(run, options):
    """start; when it fails nothing of the container may stay. Answers what else is to be polled while attending, or None."""
    box = run.box
    box.lock()
    try:
        notify = release.start(box, options, attended=not run.options["detach"], made=True)
    except BaseException:
        if box.fd >= 0:
            lifecycle.delete(box, options, force=True)
        raise
    finally:
        if box.fd >= 0:
            box.unlock()
    if run.options["detach"]:
        posix.close(run.pidfd)
    return notify
