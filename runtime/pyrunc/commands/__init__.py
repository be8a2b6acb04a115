"""The commands, their options and the number of their arguments, as data: what cli.py parses, and what help, completion, the manual pages and
errors in command lines are made from. cmdline.pyi has the types of the options.
"""

from __future__ import annotations

B, V, R = "bool", "value", "repeat"  # kinds of options

GLOBAL = {
    "root": V, "log": V, "log-format": V, "log-level": V, "debug": B, "systemd-cgroup": B, "rootless": V, "cgroup-manager": V,
    "systemd-timeout": V, "criu": V, "trace": V, "allow-annotation-paths": B, "help": B, "version": B,
}  # fmt: skip
AFTER_COMMAND = frozenset(GLOBAL) - {"help", "version"}  # global options that may follow the command
GLOBAL_SHORT = {"h": "help", "v": "version", "V": "version"}

_CREATE = {
    "bundle": V, "config": V, "console-socket": V, "pidfd-socket": V, "pid-file": V, "no-pivot": B, "no-new-keyring": B, "preserve-fds": V,
    "no-subreaper": B, "keep": B, "detach": B,
}  # fmt: skip
_CREATE_SHORT = {"b": "bundle", "f": "config", "file": "config", "d": "detach"}
_CRIU = {
    "image-path": V, "work-path": V, "parent-path": V, "tcp-established": B, "tcp-close": B, "ext-unix-sk": B, "shell-job": B, "file-locks": B,
    "link-remap": B, "manage-cgroups-mode": V, "empty-ns": R, "auto-dedup": B, "lazy-pages": B, "network-lock": V,
}  # fmt: skip
_EXEC = {
    "process": V, "cwd": V, "env": R, "user": V, "additional-gids": R, "tty": B, "detach": B, "pid-file": V, "pidfd-socket": V,
    "console-socket": V, "process-label": V, "apparmor": V, "no-new-privs": B, "cap": R, "preserve-fds": V, "cgroup": R,
    "ignore-paused": B, "no-subreaper": B,
}  # fmt: skip
_UPDATE = {
    "resources": V, "blkio-weight": V, "cpu-period": V, "cpu-quota": V, "cpu-burst": V, "cpu-share": V, "cpu-rt-period": V,
    "cpu-rt-runtime": V, "cpu-idle": V, "cpuset-cpus": V, "cpuset-mems": V, "memory": V, "memory-reservation": V, "memory-swap": V,
    "kernel-memory": V, "kernel-memory-tcp": V, "pids-limit": V, "l3-cache-schema": V, "mem-bw-schema": V, "device-add": R,
    "device-remove": R, "rlimit": R,
}  # fmt: skip
_INSTALL = {
    "docker": B, "podman": B, "containerd": B, "runtime": V, "name": V, "default": B, "config": V, "dry-run": B, "uninstall": B,
    "format": V,
}  # fmt: skip


class Command:
    """A row of COMMANDS.

    sealed: the command runs from a file that no process can write to (seal.py). options: {name: kind}. short: {other name or short form: name}.
    fewest, most: number of positionals; most is None for any number. first_ends: the first positional ends the options, because what
    follows is another command line."""

    __slots__ = ("sealed", "options", "short", "fewest", "most", "first_ends")

    def __init__(
        self, sealed: bool, options: dict[str, str], short: dict[str, str], fewest: int, most: int | None, first_ends: bool
    ) -> None:
        self.sealed = sealed
        self.options = options
        self.short = short
        self.fewest = fewest
        self.most = most
        self.first_ends = first_ends


COMMANDS = {
    "create": Command(True, _CREATE, _CREATE_SHORT, 1, 1, False),
    "run": Command(True, _CREATE, _CREATE_SHORT, 1, 1, False),
    "start": Command(False, {}, {}, 1, 1, False),
    "state": Command(False, {"format": V}, {"f": "format"}, 1, 1, False),
    "kill": Command(False, {"all": B, "regex": B}, {"a": "all", "r": "regex"}, 1, 2, True),
    "delete": Command(False, {"force": B, "regex": B}, {"f": "force", "r": "regex"}, 1, 1, False),
    "exec": Command(
        True, _EXEC, {"p": "process", "e": "env", "u": "user", "g": "additional-gids", "t": "tty", "d": "detach", "c": "cap"}, 1, None, True
    ),
    "checkpoint": Command(
        False, {**_CRIU, "leave-running": B, "tcp-skip-in-flight": B, "pre-dump": B, "page-server": V, "status-fd": V}, {}, 1, 1, False
    ),
    "restore": Command(
        True,
        {
            **_CRIU,
            "bundle": V,
            "config": V,
            "console-socket": V,
            "pid-file": V,
            "detach": B,
            "no-pivot": B,
            "no-new-keyring": B,
            "no-subreaper": B,
            "lsm-profile": V,
            "lsm-mount-context": V,
        },
        _CREATE_SHORT,
        1,
        1,
        False,
    ),
    "pause": Command(False, {"timeout": V}, {}, 1, 1, False),
    "resume": Command(False, {}, {}, 1, 1, False),
    "ps": Command(False, {"format": V}, {"f": "format"}, 1, None, True),
    "update": Command(False, _UPDATE, {"r": "resources"}, 1, 1, False),
    "mounts": Command(
        True, {"file": V, "source": V, "destination": V, "type": V, "options": R, "format": V}, {"f": "file"}, 2, None, False
    ),
    "events": Command(False, {"stats": B, "interval": V, "format": V}, {"f": "format"}, 1, 1, False),
    "stats": Command(False, {"format": V, "all": B, "engine": V}, {"f": "format", "a": "all"}, 0, None, False),
    "top": Command(False, {"interval": V, "count": V, "all": B, "format": V}, {"f": "format", "a": "all", "n": "count"}, 0, None, False),
    "wait": Command(False, {"format": V, "timeout": V}, {"f": "format"}, 1, 1, False),
    "gc": Command(False, {"force": B, "older": V, "engine": V, "format": V}, {"f": "force"}, 0, 0, False),
    "list": Command(False, {"format": V, "quiet": B, "engine": V}, {"f": "format", "q": "quiet"}, 0, 0, False),
    "spec": Command(
        False,
        {"bundle": V, "file": V, "rootless": B, "profile": V, "explain": B, "format": V},
        {"b": "bundle", "f": "file", "config": "file"},
        0,
        0,
        False,
    ),
    "features": Command(False, {"deviations": B, "format": V}, {"f": "format"}, 0, 0, False),
    "plan": Command(
        False,
        {"bundle": V, "config": V, "full": B, "json": B, "format": V, "diff": V, "no-pivot": B},
        {"b": "bundle", "f": "config"},
        0,
        1,
        False,
    ),
    "validate": Command(
        False, {"bundle": V, "config": V, "schema-only": B, "strict": B, "as": V, "format": V}, {"b": "bundle", "f": "format"}, 0, 1, False
    ),
    "doctor": Command(False, {"format": V}, {"f": "format"}, 0, 1, False),
    "install": Command(False, _INSTALL, {"n": "dry-run", "remove": "uninstall", "f": "format"}, 0, 0, False),
    "seccomp": Command(False, {"bundle": V, "config": V, "format": V}, {"b": "bundle", "f": "format"}, 0, None, True),
    "errors": Command(False, {"format": V}, {"f": "format"}, 0, None, False),
    "explain": Command(False, {"format": V}, {"f": "format"}, 1, 2, False),
    "diff": Command(False, {"format": V, "config": V}, {"f": "format"}, 1, 1, False),
    "hooks": Command(False, {"format": V}, {"f": "format"}, 1, 1, False),
    "trace": Command(False, {"format": V}, {"f": "format"}, 1, 1, False),
    "completion": Command(False, {}, {}, 1, 1, False),
    "help": Command(False, {"format": V}, {"f": "format"}, 0, 1, False),
    "version": Command(False, {"format": V, "licenses": B}, {"f": "format"}, 0, 0, False),
}
