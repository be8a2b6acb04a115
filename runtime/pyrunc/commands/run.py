"""run ID: create, start, and, unless detached, attend and delete. Returns the program's status."""

import posix

from pyrunc.engine import attend, host, lifecycle, release
from pyrunc.engine.prepare import prepare
from pyrunc.errors import CALLER_TEXT, StateError


def main(options, args):
    run, warnings = prepare(options, args[0], "run")
    run.waits = False
    if run.options["detach"]:
        _begin(run, warnings, options)
        return 0
    caught = attend.Signals()  # before all else and to the very end: a signal is for the program, and must not keep us from undoing
    try:
        status = _attended(run, warnings, options, caught)
        _finish(run, status, options)
    finally:
        caught.close()
    return status


def _attended(run, warnings, options, caught):
    """create, start and the program's life. When it can't be attended any longer, it must not stay either."""
    terminal = notify = None
    try:
        if not run.options["no_subreaper"]:
            attend.be_subreaper()
        if "terminal" in run.plans:
            terminal = attend.Terminal()
            run.fds["console"] = terminal.their_fd
        host.create(run, warnings)
        if terminal is not None:
            terminal.receive()
        notify = _start(run, options)
        try:
            return attend.attend(run.pid, run.pidfd, terminal, caught, notify)
        except BaseException:
            run.box.lock()
            lifecycle.delete(run.box, options, force=True, plans=run.plans)
            raise
    finally:
        if terminal is not None:
            terminal.close()
        if notify is not None:
            notify.close()


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
