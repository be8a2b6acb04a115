"""Parses the command line: global options, command, options, positionals (commands/__init__.py). A command's module is loaded when it is called.

The rules are those of Go's flag package, because callers are written against runc: `-x` and `--x` are the same, `--opt value` and `--opt=value`
both work, a boolean takes `=true|false|1|0|t|f`, and options can't be abbreviated. Global options come before the command, or after it if
the command has no option of that name (as in runc since its parser cli v3). Options may follow the positionals, except for exec, ps and
kill, where the first positional ends the options. Every command loads this module, so what only help or errors need is elsewhere.
"""

from __future__ import annotations

import posix
import sys

from pyrunc.commands import AFTER_COMMAND, COMMANDS, GLOBAL, GLOBAL_SHORT, B, R
from pyrunc.errors import Bug, PyruncError, StepFailure, UsageError, out_of_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    from pyrunc.cmdline import Globals, Options
    from pyrunc.commands.shapes import Module
    from pyrunc.tracefile import File

    Filled: TypeAlias = Any  # Globals or Options, which are filled by name


TRUE = {"true", "1", "t", "T", "TRUE", "True"}
FALSE = {"false", "0", "f", "F", "FALSE", "False"}


def _take(
    word: str, words: list[str], kinds: dict[str, str], short: dict[str, str], values: Filled, command: str, top: Globals | None = None
) -> None:
    """Parses the option `word` (with its dashes) into `values`, a Globals or Options that is filled by name; its value may be the
    next of `words`. UsageError."""
    name, given, value = word[2 if word[1] == "-" else 1 :].partition("=")
    name = short.get(name, name)
    kind = kinds.get(name)
    if kind is None and name in AFTER_COMMAND and top is not None:
        kind, values = GLOBAL[name], top
    if kind is None:
        if name in ("help", "h"):
            values["help"] = True
            return
        from pyrunc.commands import usage_errors

        raise usage_errors.unknown_option(word, name, kinds, short, command)
    key = name.replace("-", "_")
    if kind == B:
        if given and value not in TRUE | FALSE:
            raise UsageError("bad-boolean", 'invalid boolean value "%s" for -%s' % (value, name), command, name)
        values[key] = not given or value in TRUE
        return
    if not given:
        if not words:
            raise UsageError("option-needs-value", "flag needs an argument: -%s" % name, command, name)
        value = words.pop(0)
    if kind == R:
        values.setdefault(key, []).append(value)
    else:
        values[key] = value


def parse(argv: Sequence[str]) -> tuple[Globals, str | None, Options, list[str]]:
    """Arguments without the program -> (global options, command, its options, positionals). Keys have `_` for `-`; an option that is not
    given is not in the dict. UsageError."""
    words = list(argv)
    top: Globals = {}
    options: Options = {}
    while words and len(words[0]) > 1 and words[0][0] == "-":
        word = words.pop(0)
        if word == "--":
            break
        _take(word, words, GLOBAL, GLOBAL_SHORT, top, "")
    if not words:
        return top, None, options, []
    command = words.pop(0)
    command = "help" if command == "h" else command
    row = COMMANDS.get(command)
    if row is None:
        from pyrunc.commands import usage_errors

        raise usage_errors.unknown_command(command)
    args = []
    while words:
        word = words.pop(0)
        if word == "--":
            args += words
            break
        if len(word) < 2 or word[0] != "-":
            args.append(word)
            if row.first_ends:
                args += words[1:] if words[:1] == ["--"] else words
                break
            continue
        _take(word, words, row.options, row.short, options, command, top)
    if command == "kill":  # runc 1.1 accepts `kill ID 0 --all`; no signal begins with a dash
        for word in [w for w in args[1:] if w in ("--all", "-all", "-a")]:
            args.remove(word)
            options["all"] = True
    if "help" not in options and (len(args) < row.fewest or (row.most is not None and len(args) > row.most)):
        from pyrunc.commands import usage_errors

        raise usage_errors.wrong_arguments(command, row, len(args))
    return top, command, options, args


def load(command: str) -> Module:
    """The module of a command; its entry is `main(options, args)`."""
    name = "pyrunc.commands." + command
    __import__(name)
    return sys.modules[name]


def run(command: str, options: Options, args: list[str]) -> int:
    """Runs a command and returns its exit status."""
    return load(command).main(options, args)


def main(argv: list[str]) -> int:
    """Runs a command line (without the program) and returns the exit status. Both launchers call this, and nothing else."""
    traces: list[File] = []
    status = _main(argv, traces)
    for file in traces:
        file.finish(status)
    return status


def _main(argv: list[str], traces: list[File]) -> int:
    from pyrunc import log

    top: Globals = {}
    options: Options = {}
    command: str | None = None
    _stdio()
    try:
        try:
            top, command, options, args = parse(argv)
        except UsageError as e:
            from pyrunc.commands import usage_errors

            log.configure(usage_errors.log_options(argv))
            if e.command == "diff":  # whose status 1 means that something differs
                e.exit_status = 2
            raise
        log.configure(top)
        if log.is_debug():
            from pyrunc import trace

            trace.want()
        if top.get("version") or command == "version":
            return run("version", options if command == "version" else {}, [])
        if command in (None, "help") or top.get("help") or options.get("help"):
            about = command if command not in (None, "help") else (args[0] if args and command else None)
            return run("help", options if command == "help" else {}, [] if about is None else [about])
        if COMMANDS[command].sealed:
            from pyrunc import seal

            seal.ensure([sys.argv[0], *argv])
        options["globals"] = top
        if "trace" in top or b"PYRUNC_TRACE" in posix.environ:
            from pyrunc import tracefile

            traces += tracefile.wanted(top, command, args)
        status = run(command, options, args)
        log.steps()  # log.fail() writes those of a command that failed, before its error
        return status
    except PyruncError as e:
        return log.fail(e, command, None, _document(command, options))
    except KeyboardInterrupt:
        log.steps()
        return 130
    except OSError as e:  # a call outside the timetable: files below --root, descriptors
        return log.fail(StepFailure.from_oserror(e, command or "pyrunc", "host"), command, e)
    except MemoryError as e:
        return log.fail(out_of_memory(command), command, e)
    except ImportError as e:
        if not sys.path:  # the compiled launcher, or behind the import barrier: no files are searched there
            return log.fail(_bug(e), command, e)
        words = "cannot load a part of pyrunc: %s" % e
        return log.fail(
            StepFailure("not-loadable", words, hint="check that the installation is complete and its files are readable"), command, e
        )
    except Exception as e:  # the last resort: users never see a traceback
        return log.fail(_bug(e), command, e)


def _bug(e: BaseException) -> Bug:
    return Bug("internal error: %s: %s" % (type(e).__name__, e), hint="run it with --debug to see where, and please report it")


def _document(command: str | None, options: Options) -> str | None:
    """Path of the config that the command reads, relative to the working directory (the bundle, once it was found); None for other commands."""
    row = COMMANDS.get(command or "")
    return options.get("config") or "config.json" if row is not None and "config" in row.options else None


def _stdio() -> None:
    """Opens /dev/null as 0, 1 and 2 where they are closed: otherwise the first file that is opened would become the container's output."""
    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            posix.set_inheritable(posix.open("/dev/null", posix.O_RDWR), True)
