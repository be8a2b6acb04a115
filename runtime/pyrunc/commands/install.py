"""install --docker|--podman|--containerd: adds this runtime to the engine's configuration file.

It shows the change as a diff and keeps a copy of the previous file beside the new one; --dry-run only shows the change. Running it twice changes
nothing more. A file that can't be parsed, or that has another entry of the same name, is not changed, and the error says why. --uninstall
removes what install added. The helper process reads and writes the files (helper/install.py), because it has the parsers.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, helper_process, install_paths, jsonio
from pyrunc.commands import choice
from pyrunc.errors import Refusal, UsageError, errno_text, quote
from pyrunc.linux import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


ENGINES = ("docker", "podman", "containerd")
PODMAN = ("/usr/local/bin/podman", "/usr/bin/podman")
PODMAN_MS = 10_000  # for its version
EXECUTABLE = 0o111
EACCES, ENOEXEC = 13, 8
HINTS = {
    EACCES: "is it on a file system that is mounted with noexec?",
    ENOEXEC: "is it for another processor? this machine is %s",
}


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "install", "text", "json")
    engines = [engine for engine in ENGINES if options.get(engine)]
    if not engines:
        raise UsageError("no-engine", "install needs an engine", "install", None, "give --docker, --podman or --containerd")
    if "config" in options and len(engines) > 1:
        raise UsageError("many-engines", "--config is the file of one engine, but %d engines are given" % len(engines), "install", "config")
    removing = options.get("uninstall", False)
    payload = {
        "engines": engines,
        "runtime": None if removing else _runtime(options.get("runtime")),
        "name": _name(options.get("name", "pyrunc")),
        "default": options.get("default", False),
        "uninstall": removing,
        "dry_run": options.get("dry_run", False),
        "config": _absolute(options["config"]) if "config" in options else None,
        "user": _user_config() if posix.geteuid() else None,
        "podman_appends": "podman" not in engines or removing or _podman_appends(),
    }
    text = helper_process.call("install", payload)["text"]
    if style == "json":
        text = jsonio.dumps({**{key: payload[key] for key in ("engines", "runtime", "name", "uninstall", "dry_run")}, "text": text}) + "\n"
    fileio.write_all(1, text.encode("utf-8", "surrogateescape"))
    return 0


def _name(name: str) -> str:
    """A name of the letters that a bare TOML key may have, since users type it after --runtime."""
    if not name or any(c not in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-" for c in name):
        raise UsageError(
            "bad-runtime-name", "invalid name of a runtime: %s" % quote(name), "install", "name", "use letters, digits, - and _"
        )
    return name


def _runtime(path: str | None) -> str:
    """Absolute path of the executable that the engine is to call: --runtime, or else the one that runs now, by its shortest path."""
    if path is None:
        found = [_absolute(base) + "/pyrunc" for base in install_paths.launcher_dirs()]
        path = next((p for p in ("/usr/bin/pyrunc", "/usr/local/bin/pyrunc") if _same(p, found)), found[0])
    path = _absolute(path)
    try:
        mode = posix.stat(path).st_mode
    except (OSError, ValueError):
        raise Refusal("no-runtime", "no runtime at %s" % quote(path), None, "give its path with --runtime") from None
    if not fileio.is_regular(mode) or not mode & EXECUTABLE:
        raise Refusal("not-executable", "%s is not executable" % quote(path), None, "give its path with --runtime")
    reason = install_paths.untrusted(path)
    if reason is not None:
        words = "%s is not registered: %s" % (quote(path), quote(reason))
        raise Refusal("runtime-untrusted", words, None, "engines run it as root: install it where only root may write")
    _must_run(path)
    return path


def _must_run(path: str) -> None:
    """Refused if `PATH --version` fails: a file for another processor, a damaged one, a mount with noexec. The engine would report that with
    the first container, in its own words."""
    output, theirs = posix.pipe2(posix.O_CLOEXEC)  # not /dev/null: a chroot may lack it
    actions = [(posix.POSIX_SPAWN_DUP2, theirs, 1), (posix.POSIX_SPAWN_DUP2, theirs, 2)]
    try:
        pid = posix.posix_spawn(path, [path, "--version"], posix.environ, file_actions=actions)
    except OSError as e:
        posix.close(output)
        hint = HINTS.get(e.errno or 0, "give the path of another with --runtime").replace("%s", posix.uname().machine)
        raise Refusal("runtime-does-not-run", "cannot execute %s: %s" % (quote(path), errno_text(e.errno)), None, hint) from None
    finally:
        posix.close(theirs)
    try:
        said = fileio.read_fd(output).strip().split(b"\n")[-1].decode("utf-8", "replace")
    finally:
        posix.close(output)
    status = posix.waitpid(pid, 0)[1]
    if status:
        words = "%s does not run here: %s" % (quote(path), quote(said) or "wait status %d" % status)
        raise Refusal("runtime-does-not-run", words, None, "download it again, and compare it with SHA256SUMS")


def _podman_appends() -> bool:
    """Whether podman can add to a list of another configuration file (`append`, containers.conf(5)): since version 5. True if there is no
    podman; False if it does not report its version, because what is written then works with all of them."""
    for path in PODMAN:
        try:
            said = spawn.run(path, [path, "--version"], ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], timeout_ms=PODMAN_MS).out
        except OSError:
            continue
        major = said.rpartition(b" ")[2].partition(b".")[0]
        return major.isdigit() and int(major) >= 5
    return True


def _same(path: str, others: list[str]) -> bool:
    try:
        there = posix.stat(path)
        return any(fileio.is_same(there, posix.stat(other)) for other in others)
    except OSError:
        return False


def _absolute(path: str) -> str:
    if "\0" in path or not path:
        raise UsageError("bad-path", "not a path: %s" % quote(path), "install")
    return path if path[:1] == "/" else posix.getcwd() + "/" + path


def _user_config() -> str:
    """~/.config of a user other than root. Only podman has its configuration there."""
    home = posix.environ.get(b"XDG_CONFIG_HOME") or posix.environ.get(b"HOME", b"") + b"/.config"
    return fileio.fsdecode(home)
