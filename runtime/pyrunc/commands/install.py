"""install --docker|--podman|--containerd: makes this runtime known to an engine by editing the engine's own configuration file.

Shows the change as a diff and keeps the earlier file beside the new one; --dry-run shows only. Twice is as good as once. A file that
is broken, or that says something else under our name, is left as it is, and the error says why. --uninstall takes out what install
has put in. The files are read and written by the helper process (helper/install.py), which has the parsers.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, helper_process, install_paths, jsonio
from pyrunc.errors import Refusal, UsageError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


ENGINES = ("docker", "podman", "containerd")
EXECUTABLE = 0o111


def main(options: Options, args: list[str]) -> int:
    style = options.get("format", "text")
    if style not in ("text", "json"):
        raise UsageError("bad-format", "invalid format option: %s" % quote(style), "install", "format", "use text or json")
    engines = [engine for engine in ENGINES if options.get(engine)]
    if not engines:
        raise UsageError("install-needs-engine", "install needs an engine", "install", None, "add --docker, --podman or --containerd")
    if "config" in options and len(engines) > 1:
        raise UsageError("config-names-file", "--config names the file of one engine, and %d are named" % len(engines), "install", "config")
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
    }
    text = helper_process.call("install", payload)["text"]
    if style == "json":
        text = jsonio.dumps({**{key: payload[key] for key in ("engines", "runtime", "name", "uninstall", "dry_run")}, "text": text}) + "\n"
    fileio.write_all(1, text.encode("utf-8", "surrogateescape"))
    return 0


def _name(name: str) -> str:
    """A bare key of TOML, as that is what users type after --runtime."""
    if not name or any(c not in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-" for c in name):
        raise UsageError(
            "invalid-name-runtime", "invalid name of a runtime: %s" % quote(name), "install", "name", "letters, digits, - and _"
        )
    return name


def _runtime(path: str | None) -> str:
    """The executable that the engine shall call, absolute: --runtime, else the one that runs now, by its shortest path."""
    if path is None:
        found = [_absolute(base) + "/pyrunc" for base in install_paths.launcher_dirs()]
        path = next((p for p in ("/usr/bin/pyrunc", "/usr/local/bin/pyrunc") if _same(p, found)), found[0])
    path = _absolute(path)
    try:
        mode = posix.stat(path).st_mode
    except (OSError, ValueError):
        raise Refusal("runtime", "no runtime at %s" % quote(path), None, "name it with --runtime") from None
    if not fileio.is_regular(mode) or not mode & EXECUTABLE:
        raise Refusal("executable-file", "%s is no executable file" % quote(path), None, "name it with --runtime")
    return path


def _same(path: str, others: list[str]) -> bool:
    try:
        there = posix.stat(path)
        return any((there.st_dev, there.st_ino) == (s.st_dev, s.st_ino) for s in [posix.stat(p) for p in others])
    except OSError:
        return False


def _absolute(path: str) -> str:
    if "\0" in path or not path:
        raise UsageError("path", "not a path: %s" % quote(path), "install")
    return path if path[:1] == "/" else posix.getcwd() + "/" + path


def _user_config() -> str:
    """~/.config of a user other than root: only podman has a configuration there."""
    home = posix.environ.get(b"XDG_CONFIG_HOME") or posix.environ.get(b"HOME", b"") + b"/.config"
    return fileio.fsdecode(home)
