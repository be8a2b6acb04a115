"""help, --help, CMD --help: made from the table of commands, so that no option can be missing. Goes to stdout."""

from __future__ import annotations

from pyrunc import cli, fileio, jsonio
from pyrunc.commands import help_data
from pyrunc.errors import UsageError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyrunc.cmdline import Options


ABOUT = {
    "create": "make a container up to the point where its program would start",
    "run": "create and start a container; attended unless --detach",
    "start": "execute the program of a created container",
    "state": "print the state of a container as JSON",
    "kill": "send a signal to a container's init",
    "delete": "give back all that a container holds",
    "exec": "run another program in a container",
    "checkpoint": "save a container's processes to files (needs criu)",
    "restore": "make a container from the files of a checkpoint",
    "pause": "freeze the processes of a container",
    "resume": "thaw a paused container",
    "ps": "list the processes of a container",
    "update": "change the limits of a container",
    "mounts": "add, remove or list mounts of a running container",
    "events": "print what a container uses, and when memory runs out",
    "stats": "print what many containers use",
    "top": "print what containers use, again and again",
    "wait": "wait for the end of a container and print its exit status",
    "gc": "show what is left of containers that are gone; --force removes it",
    "list": "list the containers below --root",
    "spec": "write a config.json to begin with",
    "features": "print what this runtime can do, as JSON",
    "plan": "show what create would do, without doing it",
    "validate": "check a bundle and report every problem at once",
    "doctor": "what this host can do, and whether a bundle fits it",
    "install": "make this runtime known to Docker, podman or containerd",
    "seccomp": "what a bundle's filter answers to a system call",
    "errors": "list the codes of errors: meaning, exit status, remedy",
    "explain": "what a code means, or what a property does on this host",
    "diff": "how a live container differs from its saved plan, or from another config",
    "hooks": "how a container's hooks went, and what they wrote",
    "trace": "show where the time of a container's create went",
    "completion": "print the completion script for a shell",
    "help": "show this, or the options of a command; of all: help commands",
    "version": "print the version",
}
POSITIONAL = {
    "doctor": "[BUNDLE]", "seccomp": "[SYSCALL [ARGUMENT...]]", "checkpoint": "ID", "restore": "ID",
    "mounts": "add|remove|list ID [DESTINATION...]", "pause": "ID", "resume": "ID", "ps": "ID [PS-ARGUMENTS]", "update": "ID",
    "events": "ID", "stats": "[ID...]", "top": "[ID...]", "wait": "ID", "create": "ID", "run": "ID", "exec": "ID PROGRAM [ARGUMENTS]",
    "start": "ID", "state": "ID", "kill": "ID [SIGNAL]", "delete": "ID", "plan": "[ID]", "validate": "[BUNDLE]",
    "trace": "ID", "help": "[COMMAND]",
    "completion": "bash|zsh|fish",
    "errors": "[CODE...]",
    "diff": "ID",
    "hooks": "ID",
    "explain": "CODE|POINTER|PROPERTY [BUNDLE]",
}  # fmt: skip
MEANING = {
    "root": "directory of the containers' state (/run/pyrunc)",
    "log": "file that a failure is written to; or journald:NAME, syslog:NAME, file:PATH",
    "log-format": "text or json",
    "log-level": "error, warning or debug",
    "debug": "write debug lines to the log",
    "systemd-cgroup": "cgroupsPath is slice:prefix:name, made by systemd",
    "rootless": "true, false or auto",
    "cgroup-manager": "cgroupfs, systemd or disabled",
    "systemd-timeout": "how long a job of systemd may take, such as 2m (30s)",
    "criu": "accepted and ignored",
    "trace": "file that the command's steps are added to, as Chrome trace events (or PYRUNC_TRACE)",
    "help": "show this",
    "version": "print the version",
    "bundle": "directory that holds config.json (.)",
    "config": "file to read in place of the bundle's config.json",
    "console-socket": "unix socket that the terminal's master is sent to",
    "pidfd-socket": "unix socket that init's pidfd is sent to",
    "pid-file": "file that init's pid is written to",
    "no-pivot": "move the root in place of pivot_root (for a ramdisk)",
    "no-new-keyring": "stay in the caller's session keyring",
    "preserve-fds": "pass this many descriptors, from 3 on",
    "no-subreaper": "do not take in orphans while attending",
    "keep": "do not delete the container after its end",
    "detach": "return when the program has been started",
    "allow-annotation-paths": "annotations may name files of the host (org.criu.config, run.oci.…)",
    "image-path": "directory of the image files (./checkpoint)",
    "work-path": "directory of the log and other files (that of the images)",
    "parent-path": "where the images of an earlier pre-dump are, from the image path",
    "leave-running": "let the container go on",
    "tcp-established": "allow open TCP connections",
    "tcp-close": "close open TCP connections",
    "tcp-skip-in-flight": "leave out TCP connections that are just being made",
    "ext-unix-sk": "allow connections to unix sockets outside",
    "shell-job": "the container shares the terminal and session of a shell",
    "file-locks": "save and restore locks on files",
    "link-remap": "give deleted files that are open a name again",
    "manage-cgroups-mode": "soft (default), full, strict or ignore",
    "empty-ns": "network: it is made, and its devices are not restored (always so)",
    "auto-dedup": "free pages in the images as soon as they are known elsewhere",
    "lazy-pages": "memory is fetched when it is needed (userfaultfd)",
    "network-lock": "iptables (default), nftables or skip",
    "pre-dump": "save memory only, and let the container go on",
    "page-server": "ADDRESS:PORT that the memory is sent to",
    "status-fd": "descriptor that a NUL is written to when pages can be fetched",
    "lsm-profile": "TYPE:NAME of the profile, in place of the saved one",
    "lsm-mount-context": "SELinux context of the mounts, in place of the saved one",
    "process": "file with the process to run, as JSON",
    "cwd": "working directory in the container",
    "env": "NAME=VALUE for the program (repeat)",
    "user": "UID[:GID], or a name of the container's /etc/passwd",
    "additional-gids": "one more group id (repeat)",
    "tty": "give the program a terminal",
    "process-label": "SELinux label of the program",
    "apparmor": "AppArmor profile of the program",
    "no-new-privs": "no rights from set-user-ID programs",
    "cap": "one more capability (repeat)",
    "cgroup": "a cgroup below the container's",
    "ignore-paused": "join a paused container too",
    "resources": "file (or - for standard input) with /linux/resources as JSON",
    "blkio-weight": "weight of block I/O, 10 to 1000",
    "cpu-period": "length of a CPU period, in microseconds",
    "cpu-quota": "CPU time in a period, in microseconds; -1 for all",
    "cpu-burst": "CPU time that may be saved up, in microseconds",
    "cpu-share": "relative share of the CPUs",
    "cpu-rt-period": "length of a realtime period, in microseconds",
    "cpu-rt-runtime": "realtime CPU time in a period, in microseconds",
    "cpu-idle": "1: run only when nothing else wants the CPUs",
    "cpuset-cpus": "CPUs, such as 0-3,7",
    "cpuset-mems": "memory nodes, such as 0-1",
    "memory": "limit of memory; sizes like 100m, 1g; -1 for none",
    "memory-reservation": "memory that is kept when the host runs short",
    "memory-swap": "limit of memory and swap together; -1 for none",
    "kernel-memory": "a size, accepted and ignored: the kernel has no such limit any more",
    "kernel-memory-tcp": "a size, accepted and ignored: the kernel has no such limit any more",
    "pids-limit": "limit of processes; -1 for none",
    "l3-cache-schema": "Intel RDT: the L3 line of schemata",
    "mem-bw-schema": "Intel RDT: the MB line of schemata",
    "device-add": "allow a device, as 'c 10:229 rwm /dev/fuse'; with a path the node is made (repeat)",
    "device-remove": "take a device away again; with a path its node too (repeat)",
    "rlimit": "TYPE=SOFT[:HARD] for all processes, as NOFILE=1024:4096 (repeat)",
    "stats": "print one record and end",
    "interval": "time between two records, such as 5s",
    "file": 'JSON file (or - for standard input): {"mounts": [...]} as in config.json, or the list',
    "source": "what is mounted: a path of the host, or a name that the file system knows",
    "destination": "where, in the container",
    "type": "kind of file system (bind)",
    "options": "options, separated by commas (repeat)",
    "all": "signal every process of the container",
    "top --all": "containers that have stopped, too",
    "top --interval": "time between two screens, such as 2s",
    "count": "end after this many screens",
    "wait --format": "text or json",
    "pause --timeout": "give up, and thaw what has been frozen, after this time, such as 2s (10s)",
    "wait --timeout": "give up after this time, such as 30s",
    "gc --force": "remove what is listed",
    "older": "leave alone what has not been touched for less than this, such as 12h (24h)",
    "stats --all": "containers that have stopped, too",
    "spec --file": "file to write in place of config.json; - for standard output",
    "profile": "minimal, docker, podman, k8s, rootless or hardened: defaults for that use",
    "explain": "write nothing; tell each property, what it does and why it is so",
    "regex": "ID is a regular expression: every container that it matches",
    "force": "kill it first; unknown ids are no error",
    "format": "table or json",
    "diff --config": "compare with what this config would make, in place of the saved plan",
    "plan --diff": "another bundle, or another config for this one: show what would change",
    "quiet": "ids only",
    "deviations": "list where pyrunc is stricter than runc",
    "json": "as JSON",
    "docker": "edit /etc/docker/daemon.json",
    "podman": "write a file of /etc/containers/containers.conf.d (users: of ~/.config)",
    "containerd": "edit /etc/containerd/config.toml",
    "runtime": "executable that the engine shall call (this one)",
    "name": "name that the engine knows it by (pyrunc)",
    "default": "make it the runtime of all containers that name none",
    "install --config": "file to edit in place of the usual one",
    "dry-run": "show the change, and write nothing",
    "uninstall": "take out what install has put in",
    "schema-only": "only the JSON schema, on the file as it is",
    "as": "runc or crun: say where that runtime would do something else with this config",
    "strict": "warnings are problems too",
}


def main(options: Options, args: list[str]) -> int:
    command = args[0] if args else None
    if command not in (None, "commands", "options", *cli.COMMANDS):
        raise cli.unknown(command or "")
    style = options.get("format", "text")
    if style not in ("text", "json"):
        raise UsageError("bad-format", "invalid format option: %s" % quote(style), "help", "format", "use text or json")
    if style == "json":
        fileio.write_all(1, (jsonio.dumps(document(command), indent=2) + "\n").encode())
        return 0
    text = {"commands": commands, "options": global_options}.get(command or "", top)() if command not in cli.COMMANDS else of(command)
    fileio.write_all(1, text.encode())
    if command == "checkpoint":  # podman and cri-o learn from the status whether checkpoints can be made
        from pyrunc.engine import criu

        criu.needed()
    return 0


def document(command: str | None) -> dict[str, Any]:
    """{"options": [global ones], "commands": [{"name", "about", "usage", "options", "examples"}]}; one command alone where it is named."""
    rows = []
    for name, row in cli.COMMANDS.items():
        if command is None or command == name or command not in cli.COMMANDS:
            usage = "pyrunc %s%s %s" % (name, " [options]" if row.options else "", POSITIONAL.get(name, ""))
            listed = _option_rows(row.options, row.short, name)
            examples = list(help_data.EXAMPLES.get(name, ()))
            rows.append({"name": name, "about": ABOUT.get(name, ""), "usage": usage.rstrip(), "options": listed, "examples": examples})
    return {"options": _option_rows(cli.GLOBAL, cli.GLOBAL_SHORT, ""), "commands": rows}


def _option_rows(kinds: dict[str, str], short: dict[str, str], command: str) -> list[dict[str, Any]]:
    others = other_names(short)
    return [{"name": "--" + n, "kind": kind, "others": others.get(n, []), "about": meaning(command, n)} for n, kind in kinds.items()]


def top() -> str:
    """A screen: the commands that one begins with have a line each, the others a place in a group."""
    lines = ["pyrunc: an OCI container runtime", "", "usage: pyrunc [global options] COMMAND [options] [arguments]", "", "commands:"]
    lines += _lines(help_data.FIRST)
    grouped = {name for _title, names in help_data.GROUPS for name in names}.union(help_data.FIRST)
    rest = [name for name in cli.COMMANDS if name not in grouped]
    for title, names in (*help_data.GROUPS, ("others", rest)):
        lines += _wrapped("  %s: " % title, names) if names else []
    lines += _wrapped("global options: ", ["--" + name for name in cli.GLOBAL])
    lines += ["", *_examples("")]
    lines += ["", "'pyrunc help COMMAND' has a command's options, 'pyrunc help commands' a line for each of them,"]
    lines += ["'pyrunc help options' the global options; there is a manual page for each: man pyrunc, man pyrunc-create"]
    return "\n".join(lines) + "\n"


def commands() -> str:
    return "\n".join(_lines(cli.COMMANDS)) + "\n"


def global_options() -> str:
    return "\n".join(["global options:", *option_lines(cli.GLOBAL, cli.GLOBAL_SHORT)]) + "\n"


def of(command: str) -> str:
    kinds, short = cli.COMMANDS[command].options, cli.COMMANDS[command].short
    usage = "usage: pyrunc %s%s %s" % (command, " [options]" if kinds else "", POSITIONAL.get(command, ""))
    lines = ["pyrunc %s: %s" % (command, ABOUT.get(command, "")), "", usage.rstrip()]
    if kinds:
        lines += ["", "options:"] + option_lines(kinds, short, command)
    lines += ["", *_examples(command)] if help_data.EXAMPLES.get(command) else []
    return "\n".join(lines).rstrip() + "\n"


def meaning(command: str, name: str) -> str:
    """What an option does, in a line; "" where nobody has written it down."""
    words = help_data.value(command, name)
    if name == "format" and type(words) is tuple:
        return " or ".join(words)
    return MEANING.get("%s --%s" % (command, name)) or MEANING.get(name, "")


def other_names(short: dict[str, str]) -> dict[str, list[str]]:
    """{"b": "bundle"} → {"bundle": ["-b"]}"""
    found: dict[str, list[str]] = {}
    for other, name in short.items():
        found.setdefault(name, []).append(("-" if len(other) == 1 else "--") + other)
    return found


def option_lines(kinds: dict[str, str], short: dict[str, str], command: str = "") -> list[str]:
    others = other_names(short)
    lines = []
    for name, kind in kinds.items():
        head = ", ".join(["--%s%s" % (name, "" if kind == cli.B else " VALUE"), *others.get(name, ())])
        lines.append(("  %-26s %s" % (head, meaning(command, name))).rstrip())
    return lines


def _lines(names: Iterable[str]) -> list[str]:
    return ["  %-10s %s" % (name, ABOUT.get(name, "")) for name in names if name in cli.COMMANDS]


def _examples(command: str) -> list[str]:
    return ["for example:", *("  " + line for line in help_data.EXAMPLES[command])]


def _wrapped(title: str, words: Iterable[str], width: int = 100) -> list[str]:
    """Words after a title, in lines of at most `width`."""
    lines = [title]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("    ")
        lines[-1] += word + " "
    lines[-1] = lines[-1].rstrip()
    return lines
