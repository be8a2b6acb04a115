"""exec [options] ID PROGRAM [ARGUMENTS], or exec --process FILE ID: runs another program in a container. What the options don't set comes from
the container's own process. The exit status is the program's, or 255 if it could not be run."""

from __future__ import annotations

from pyrunc import store
from pyrunc.commands import lookup
from pyrunc.engine import exec as engine_exec
from pyrunc.engine import exec_process, foreground, pid_output, prepare
from pyrunc.engine.order import NOT_OF_EXEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.engine.run import ExecRun


def main(options: Options, args: list[str]) -> int:
    prepare.caller_paths(options)
    if options.get("process"):
        options["process"] = store.absolute(options["process"])
    state_dir = lookup.open_state(options, args[0], quiet=True)
    engine_exec.check(state_dir, options.get("ignore_paused", False))
    config = state_dir.config(NOT_OF_EXEC)
    process = exec_process.process_of(options, args[1:], state_dir, config)
    settings = exec_process.verb_options(options)
    prepare.check_terminal({"process": process}, settings)
    run = engine_exec.prepare(state_dir, config, process, settings)
    if settings["detach"]:
        engine_exec.execute(run)
        _publish(run)
        return 0
    return _in_foreground(run, options)


def _publish(run: ExecRun, terminal: foreground.Terminal | None = None) -> None:
    """Reports the process to the caller, or kills it: a process that the caller does not know about must not remain."""
    try:
        if terminal is not None:
            terminal.receive()
        if run.options["pidfd_socket"]:
            pid_output.send_pidfd(run.options["pidfd_socket"], run.pidfd)
        if run.options["pid_file"]:
            pid_output.write_pid_file(run.options["pid_file"], run.pid)
    except BaseException:
        engine_exec.end(run)
        raise


def _in_foreground(run: ExecRun, options: Options) -> int:
    terminal = caught = None
    try:
        if not options.get("no_subreaper"):
            foreground.be_subreaper()
        terminal = foreground.terminal_of(run)
        caught = foreground.Signals()
        engine_exec.execute(run)
        _publish(run, terminal)
        return foreground.attend(run.pid, run.pidfd, terminal, caught)
    finally:
        if terminal is not None:
            terminal.close()
        if caught is not None:
            caught.close()
