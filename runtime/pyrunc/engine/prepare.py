"""From the command line to a Run: bundle, config, validation, plans. Changes only the working directory."""

from __future__ import annotations

import posix

from pyrunc import log, store, trace
from pyrunc.engine import planner
from pyrunc.engine.run import Run
from pyrunc.errors import CALLER_TEXT, Refusal, StateError, UsageError, errno_text, quote
from pyrunc.linux import fds
from pyrunc.oci import load, normalise, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.cmdline import Globals
    from pyrunc.cmdline import Options as Given
    from pyrunc.engine.shapes import Option
    from pyrunc.parts.sides import Json, Options

YES, NO = ("true", "1", "t", "T", "TRUE", "True"), ("false", "0", "f", "F", "FALSE", "False")  # as in Go
RUNC_SAYS = (("/linux/memoryPolicy/mode", "invalid memory policy mode"), ("/linux/memoryPolicy/flags", "invalid memory policy flag"))
MANAGERS = ("cgroupfs", "systemd", "disabled")


def bundle_of(options: Given) -> str:
    """The absolute bundle directory. Changes to it, because relative paths in the config start there."""
    bundle = store.absolute(options.get("bundle") or ".")
    try:
        posix.chdir(bundle)
    except (OSError, ValueError) as e:
        text = errno_text(e.errno) if isinstance(e, OSError) else "the path has a NUL byte"
        raise UsageError(
            "bundle", "chdir %s: %s" % (quote(bundle), text), None, "bundle", "give --bundle the directory that holds config.json"
        ) from None
    return bundle


def read_config(options: Given, bundle: str) -> dict[str, Json]:
    """The normalised, valid config. Refusal with the pointer of the first problem."""
    read, _raw = load.config(bundle, options.get("config") or "config.json")
    doc: dict[str, Json] = normalise.config(read)
    problems = validate.check(doc)
    if problems:
        raise refusal(problems[0])
    return doc


def refusal(problem: tuple[str, str, object, str]) -> Refusal:
    """(pointer, words, value, reason) from the validator → Refusal. The words already name the value; some get runc's in front, which scripts
    look for."""
    pointer, words, _value, reason = problem
    for beginning, theirs in RUNC_SAYS:
        if pointer.startswith(beginning):
            words = "%s: %s" % (theirs, words)
    return Refusal(reason, words, quote(pointer) or "/")


def caller_paths(options: Any) -> None:  # cmdline.Options, which mypy does not let be changed by names in a variable
    """Makes paths on the command line that are relative to the caller's directory absolute, before changing to the bundle."""
    for name in ("pid_file", "console_socket", "pidfd_socket", "config"):
        if options.get(name) == "":  # a variable that is not set
            del options[name]
        if options.get(name) is not None:
            if "\0" in options[name]:
                raise UsageError("nul", "--%s has a NUL byte" % name.replace("_", "-"), None, name)
            options[name] = store.absolute(options[name])


def number(options: Mapping[str, Option], name: str, default: int = 0) -> int:
    """A count on the command line."""
    text = options.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 7:
        raise UsageError("bad-number", 'invalid value "%s" for flag -%s: want a number' % (quote(text), name.replace("_", "-")), None, name)
    return int(text)


def listen_fds() -> int:
    """LISTEN_FDS, if the descriptors are meant for this process (sd_listen_fds(3))."""
    env = posix.environ
    count = env.get(b"LISTEN_FDS", b"")
    if not count.isdigit() or env.get(b"LISTEN_PID") != b"%d" % posix.getpid():
        return 0
    return int(count)


def from_globals(top: Globals) -> Options:
    """Global options -> those that plans use. --cgroup-manager takes precedence over --systemd-cgroup. UsageError."""
    manager = top.get("cgroup_manager") or ("systemd" if top.get("systemd_cgroup") else "cgroupfs")
    if manager not in MANAGERS:
        raise UsageError(
            "bad-cgroup-manager", "invalid cgroup-manager: %s" % quote(manager), None, "cgroup-manager", "use " + ", ".join(MANAGERS)
        )
    rootless = top.get("rootless") or "auto"
    if rootless not in ("auto", *YES, *NO):
        raise UsageError(
            "bad-boolean", 'invalid boolean value "%s" for -rootless' % quote(rootless), None, "rootless", "true, false or auto"
        )
    return {
        "systemd_cgroup": manager == "systemd",
        "cgroup_manager": manager,
        "systemd_timeout": _systemd_timeout(top) if "systemd_timeout" in top else None,
        "rootless": "true" if rootless in YES else "false" if rootless in NO else "auto",
        "allow_annotation_paths": top.get("allow_annotation_paths", False),
    }


def _systemd_timeout(top: Globals) -> float:
    from pyrunc.engine.durations import duration

    return duration(top["systemd_timeout"], None, "systemd-timeout")


def prepare(options: Given, id: str, command: str) -> tuple[Run, list[list[str]]]:
    """(Run, warnings) for create and run."""
    top = options["globals"]
    store.check_id(id)
    root = store.root_of(top)
    caller_paths(options)
    asked: Options = {
        "command": command,
        "no_pivot": options.get("no_pivot", False),
        "no_new_keyring": options.get("no_new_keyring", False),
        "preserve_fds": number(options, "preserve_fds"),
        "listen_fds": listen_fds(),
        "inherited_fds": fds.inherited(),
        "console_socket": options.get("console_socket"),
        "pidfd_socket": options.get("pidfd_socket"),
        "pid_file": options.get("pid_file"),
        "detach": command == "create" or options.get("detach", False),
        "keep": options.get("keep", False),
        "no_subreaper": options.get("no_subreaper", False),
        **from_globals(top),
        "notify_socket": _environment(b"NOTIFY_SOCKET"),
        "seccomp_receiver": _environment(b"RUN_OCI_SECCOMP_RECEIVER"),  # as in crun, if the config names none
    }
    bundle = bundle_of(options)
    began = trace.now()
    config = read_config(options, bundle)
    trace.step("oci.load", began)
    check_terminal(config, asked)
    ctx = planner.Context(id, bundle, config, asked, root)
    plans = planner.plan(config, ctx)
    if log.is_debug():
        from pyrunc.engine import examination

        for pointer, text in examination.unknown_names(config):
            log.warn("%s: %s" % (pointer, text))
    ctx.log_warnings()
    return Run(id, bundle, config, plans, ctx.options, root), ctx.warnings


def _environment(name: bytes) -> str | None:
    from pyrunc import fileio

    value = posix.environ.get(name)
    return fileio.fsdecode(value) if value else None


def check_terminal(config: dict[str, Json], asked: Options) -> None:
    """Checks that terminal and --console-socket are used together if no process stays to relay (runc's wording)."""
    process = config.get("process")
    if process is None and asked["command"] == "create":
        process = {}  # runtime-spec only requires it at start
    if process is None:
        raise Refusal("no-process", "process property must not be empty", "/process", "give /process with args, cwd and user")
    terminal = process.get("terminal", False)
    if asked["detach"] and terminal and not asked["console_socket"]:
        raise Refusal(
            "console-socket",
            "cannot allocate tty if runc will detach without setting console socket",
            "/process/terminal",
            "give --console-socket, or set terminal to false",
        )
    if asked["console_socket"] and not (asked["detach"] and terminal):
        raise Refusal(
            "console-socket",
            "cannot use console socket if runc will not detach or allocate tty",
            "/process/terminal",
            "set terminal to true and detach, or drop --console-socket",
        )


def unknown(id: str) -> StateError:
    return StateError("unknown-container", CALLER_TEXT["unknown"], id)
