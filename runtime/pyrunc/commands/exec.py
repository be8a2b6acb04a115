"""exec [options] ID PROGRAM [ARGUMENTS], or exec --process FILE ID: another process in a container. 255 when it could not be run."""

from __future__ import annotations

import posix

from pyrunc import fileio, store
from pyrunc.engine import exec as engine_exec
from pyrunc.engine import foreground, host, prepare
from pyrunc.engine.order import NOT_OF_EXEC
from pyrunc.errors import Refusal, StateError, UsageError, quote
from pyrunc.linux import fds
from pyrunc.oci import load, normalise, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.cmdline import Options
    from pyrunc.engine.run import Run
    from pyrunc.store import StateDir


def main(options: Options, args: list[str]) -> int:
    prepare.caller_paths(options)
    if options.get("process"):
        options["process"] = store.absolute(options["process"])
    state_dir = store.open_state(options, args[0])
    engine_exec.check(state_dir, options.get("ignore_paused", False))
    config = state_dir.config(NOT_OF_EXEC)
    process = process_of(options, args[1:], state_dir, config)
    asked = {
        "preserve_fds": prepare.number(options, "preserve_fds"),
        "listen_fds": prepare.listen_fds(),
        "inherited_fds": fds.inherited(),
        "console_socket": options.get("console_socket"),
        "detach": options.get("detach", False),
        "pid_file": options.get("pid_file"),
        "pidfd_socket": options.get("pidfd_socket"),
        "cgroup": options.get("cgroup"),
        "attended": not options.get("detach", False),
    }
    prepare.check_terminal({"process": process}, asked)
    run = engine_exec.prepare(state_dir, config, process, asked)
    if asked["detach"]:
        engine_exec.execute(run)
        _publish(run)
        return 0
    return _attended(run, options)


def _publish(run: Run, terminal: foreground.Terminal | None = None) -> None:
    """Tells the caller which process it is; one that cannot be told of is ended, as nobody would know of it."""
    try:
        if terminal is not None:
            terminal.receive()
        if run.options["pidfd_socket"]:
            host.send_pidfd(run.options["pidfd_socket"], run.pidfd)
        if run.options["pid_file"]:
            host.write_pid_file(run.options["pid_file"], run.pid)
    except BaseException:
        engine_exec.end(run)
        raise


def _attended(run: Run, options: Options) -> int:
    terminal = caught = None
    try:
        if not options.get("no_subreaper"):
            foreground.be_subreaper()
        if "terminal" in run.plans:
            terminal = foreground.Terminal()
            run.fds["console"] = terminal.their_fd
        caught = foreground.Signals()
        engine_exec.execute(run)
        _publish(run, terminal)
        return foreground.attend(run.pid, run.pidfd, terminal, caught)
    finally:
        if terminal is not None:
            terminal.close()
        if caught is not None:
            caught.close()


# -- the process ---------------------------------------------------------------------------------------------------------


def process_of(options: Options, words: list[str], state_dir: StateDir, config: dict[str, Any]) -> dict[str, Any]:
    """The process object: of --process FILE, or the container's own (of its `config`) with what the options change."""
    if options.get("process"):
        process, _raw = load.file(options["process"])
    else:
        process = _from_options(options, words, state_dir, config)
    process = normalise.process(process)
    problems = validate.check(process, "process")
    if problems:
        pointer, text, value, reason = problems[0]
        raise prepare.refusal(("/process" + (pointer if pointer != "/" else ""), text, value, reason))
    if options.get("tty") and options.get("process"):
        process["terminal"] = True
    return process


def _from_options(options: Options, words: list[str], state_dir: StateDir, config: dict[str, Any]) -> dict[str, Any]:
    if not words:
        raise Refusal("process-args-empty", "process args cannot be empty", "/process/args", "name the program after the id")
    process = dict(config.get("process") or {})
    process["args"] = words
    process["terminal"] = options.get("tty", False)
    process.pop("consoleSize", None)
    for option, key in (("cwd", "cwd"), ("process_label", "selinuxLabel"), ("apparmor", "apparmorProfile")):
        if options.get(option):
            process[key] = options[option]  # type: ignore[literal-required]  # the three names above
    process["env"] = [*(process.get("env") or []), *options.get("env", [])]
    if "no_new_privs" in options:
        process["noNewPrivileges"] = options["no_new_privs"]
    user = process["user"] = dict(process.get("user") or {})
    if "user" in options:  # an empty one too: whoever forgot to set a variable does not mean root
        user.update(user_of(options["user"], state_dir))
    if options.get("additional_gids"):
        gids = [identity(text, "additional-gids") for text in options["additional_gids"]]
        user["additionalGids"] = [*(user.get("additionalGids") or []), *gids]
    if options.get("cap"):
        process["capabilities"] = more_capabilities(process.get("capabilities") or {}, options["cap"])
    return process


def more_capabilities(sets: dict[str, Any], caps: list[str]) -> dict[str, list[str]]:
    """--cap adds to bounding, effective and permitted; inheritable never grows (CVE-2022-29162), ambient only with it."""
    sets = {name: list(sets.get(name) or []) for name in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    for cap in caps:
        wanted = ["bounding", "effective", "permitted"] + (["ambient"] if cap in sets["inheritable"] else [])
        for name in wanted:
            if cap not in sets[name]:
                sets[name].append(cap)
    return sets


def identity(text: str, option: str) -> int:
    """A decimal id without a sign, blanks or leading zeros, below 2^32 - 1; nothing else is a number (CVE-2026-30892)."""
    plain = text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and len(text) <= 10
    if not plain or int(text) >= 0xFFFFFFFF:
        raise UsageError("invalid-id", 'invalid id "%s"' % quote(text), "exec", option, "ids are decimal numbers from 0 to 4294967294")
    return int(text)


def user_of(text: str, state_dir: StateDir) -> dict[str, Any]:
    """'UID', 'UID:GID', 'NAME' or 'NAME:GROUP' → what changes in /process/user. Digits are never looked up as a name (CVE-2016-3697)."""
    name, colon, group = text.partition(":")
    if not name or (colon and not group) or ":" in group:
        raise UsageError("invalid-user", 'invalid user "%s"' % quote(text), "exec", "user", "give UID, UID:GID, NAME or NAME:GROUP")
    found = {}
    numeric = name[0].isdigit() or name[0] in "+-" or name != name.strip()
    if numeric:
        found["uid"] = identity(name, "user")
    else:
        found.update(_passwd(name, state_dir))
    if colon:
        numeric = group[0].isdigit() or group[0] in "+-" or group != group.strip()
        found["gid"] = identity(group, "user") if numeric else _group(group, state_dir)
    return found


def _lines(state_dir: StateDir, path: str) -> list[list[str]]:
    """Fields of the lines of a small regular file in the container, read beneath its root and without waiting (CVE-2024-9676). It is
    opened when its kind is known: a device of the image may act on being opened, and we are not in the container's cgroup."""
    from pyrunc.linux import constants, paths

    root_fd = posix.open("/proc/%d/root" % state_dir.state["pid"], constants.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        node = paths.resolve(root_fd, path)
    except OSError:
        return []
    finally:
        posix.close(root_fd)
    try:
        if posix.fstat(node).st_mode & 0o170000 != 0o100000:
            return []
        fd = posix.open("/proc/self/fd/%d" % node, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
        try:
            text = fileio.fsdecode(posix.read(fd, 1 << 20))
        finally:
            posix.close(fd)
    except OSError:
        return []
    finally:
        posix.close(node)
    return [line.split(":") for line in text.split("\n")]


def _passwd(name: str, state_dir: StateDir) -> dict[str, Any]:
    for fields in _lines(state_dir, "/etc/passwd"):
        if fields[0] == name and len(fields) >= 4:
            groups = [identity(f[2], "user") for f in _lines(state_dir, "/etc/group") if len(f) >= 4 and name in f[3].split(",")]
            return {"uid": identity(fields[2], "user"), "gid": identity(fields[3], "user"), "additionalGids": groups}
    raise StateError("not-in-image", 'no user "%s" in the container\'s /etc/passwd' % quote(name), state_dir.id, hint="give a number")


def _group(name: str, state_dir: StateDir) -> int:
    for fields in _lines(state_dir, "/etc/group"):
        if fields[0] == name and len(fields) >= 3:
            return identity(fields[2], "user")
    raise StateError("not-in-image", 'no group "%s" in the container\'s /etc/group' % quote(name), state_dir.id, hint="give a number")
