"""help [COMMAND]: shows the commands, or the options of a command. Made from the table of commands, so no option can be missing."""

from __future__ import annotations

from pyrunc import commands as command_table
from pyrunc import fileio, jsonio, render
from pyrunc.commands import choice, help_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Output


ABOUT = {
    "create": "create a container; start runs its program",
    "run": "create and start a container, in the foreground unless --detach",
    "start": "run the program of a created container",
    "state": "print the state of a container as JSON",
    "kill": "send a signal to a container's init",
    "delete": "delete a container and everything it holds",
    "exec": "run another program in a container",
    "checkpoint": "save a container's processes to files (needs CRIU)",
    "restore": "restore a container from a checkpoint",
    "pause": "freeze the processes of a container",
    "resume": "thaw a paused container",
    "ps": "list the processes of a container",
    "update": "change the limits of a container",
    "mounts": "add, remove or list mounts of a running container",
    "events": "print statistics and out-of-memory events of a container",
    "stats": "print the resource usage of containers",
    "top": "show the resource usage of containers, updated continuously",
    "wait": "wait until a container ends and print its exit status",
    "gc": "list what is left of dead containers; --force removes it",
    "list": "list the containers below --root",
    "spec": "write an example config.json",
    "features": "print what this runtime supports, as JSON",
    "plan": "show what create would do, without doing it",
    "validate": "check a bundle and report all problems at once",
    "doctor": "check what this host supports, and whether a bundle runs here",
    "install": "add this runtime to Docker, podman or containerd",
    "seccomp": "show how a bundle's seccomp filter answers a system call",
    "errors": "list the error codes: meaning, exit status, remedy",
    "explain": "explain an error code, or a property on this host",
    "diff": "compare a running container with its plan or another config",
    "hooks": "show how a container's hooks ended, and their output",
    "trace": "show how long the steps of a container's create took",
    "completion": "print the completion script for a shell",
    "help": "show this, or the options of a command",
    "version": "print the version",
}
POSITIONAL = {
    "doctor": "[BUNDLE]", "seccomp": "[SYSCALL [ARGUMENT...]]", "checkpoint": "ID", "restore": "ID",
    "mounts": "add|remove|list ID [FILE|DESTINATION...]", "pause": "ID", "resume": "ID", "ps": "ID [PS-ARGUMENTS]", "update": "ID",
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
    "log": "log file; or journald:NAME, syslog:NAME, file:PATH (standard error)",
    "log-format": "text or json",
    "log-level": "error, warning (default) or debug",
    "debug": "write what is done to the log, with times",
    "systemd-cgroup": "systemd makes the cgroups; cgroupsPath is SLICE:PREFIX:NAME",
    "rootless": "true, false or auto",
    "cgroup-manager": "cgroupfs, systemd or disabled",
    "systemd-timeout": "time limit of a systemd job, such as 2m (30s)",
    "criu": "accepted and ignored",
    "trace": "file to append the command's steps to, as Chrome trace events",
    "help": "show this",
    "version": "print the version",
    "bundle": "directory of config.json (.)",
    "config": "file to read instead of the bundle's config.json",
    "console-socket": "Unix socket to send the terminal's master to",
    "pidfd-socket": "Unix socket to send the pidfd of the process to",
    "pid-file": "file to write the pid of the process to",
    "no-pivot": "don't use pivot_root (for a root on a ramdisk)",
    "no-new-keyring": "keep the caller's session keyring",
    "preserve-fds": "pass the open ones of this many descriptors to the program, from 3 on",
    "no-subreaper": "don't become the parent of orphaned processes",
    "keep": "don't delete the container when it ends",
    "detach": "run in the background",
    "create --detach": "ignored: create always returns before the program runs",
    "allow-annotation-paths": "allow annotations that name files of the host (org.criu.config, run.oci.…)",
    "image-path": "directory of the image files (./checkpoint)",
    "work-path": "directory of the log and other files (the image directory)",
    "parent-path": "images of an earlier pre-dump, relative to the image directory",
    "leave-running": "keep the container running",
    "tcp-established": "allow open TCP connections",
    "tcp-close": "close open TCP connections",
    "tcp-skip-in-flight": "skip TCP connections that are being established",
    "ext-unix-sk": "allow connections to Unix sockets outside the container",
    "shell-job": "the container uses the terminal and session of a shell",
    "file-locks": "save and restore locks on files",
    "link-remap": "restore names of files that are open but deleted",
    "manage-cgroups-mode": "soft (default), full, strict or ignore",
    "empty-ns": "network: make the namespace, but don't restore its devices (the default)",
    "auto-dedup": "free pages in older images that newer ones contain",
    "lazy-pages": "fetch memory on demand (userfaultfd)",
    "network-lock": "iptables (default), nftables or skip",
    "pre-dump": "save only the memory, and keep the container running",
    "page-server": "ADDRESS:PORT to send the memory to",
    "status-fd": "descriptor to write a NUL byte to when pages can be fetched",
    "lsm-profile": "TYPE:NAME of the profile to use instead of the saved one",
    "lsm-mount-context": "SELinux context of the mounts to use instead of the saved one",
    "process": "JSON file with the process to run",
    "cwd": "working directory in the container",
    "env": "environment variable NAME=VALUE (repeatable)",
    "user": "UID[:GID], or a name of the container's /etc/passwd",
    "additional-gids": "additional group id (repeatable)",
    "tty": "give the program a terminal",
    "process-label": "SELinux label of the program",
    "apparmor": "AppArmor profile of the program",
    "no-new-privs": "set no_new_privs: set-user-ID programs gain nothing",
    "cap": "additional capability (repeatable)",
    "cgroup": "run in this cgroup below the container's (repeatable: CONTROLLER:PATH)",
    "ignore-paused": "allow exec in a paused container",
    "resources": "file (or - for standard input) with /linux/resources as JSON",
    "blkio-weight": "weight of block I/O, 10 to 1000",
    "cpu-period": "CPU period, in microseconds",
    "cpu-quota": "CPU time in a period, in microseconds; -1 for no limit",
    "cpu-burst": "unused CPU time that can be saved up, in microseconds",
    "cpu-share": "relative share of the CPUs",
    "cpu-rt-period": "realtime period, in microseconds",
    "cpu-rt-runtime": "realtime CPU time in a period, in microseconds",
    "cpu-idle": "1: run only when the CPUs are otherwise idle",
    "cpuset-cpus": "CPUs, such as 0-3,7",
    "cpuset-mems": "memory nodes, such as 0-1",
    "memory": "memory limit, such as 100m or 1g; -1 for none",
    "memory-reservation": "memory that is kept when the host is short of it",
    "memory-swap": "limit of memory plus swap; -1 for none",
    "kernel-memory": "a size; ignored, the kernel no longer has this limit",
    "kernel-memory-tcp": "a size; ignored, the kernel no longer has this limit",
    "pids-limit": "maximum number of processes; -1 for no limit",
    "l3-cache-schema": "Intel RDT: the L3 line of schemata",
    "mem-bw-schema": "Intel RDT: the MB line of schemata",
    "device-add": "allow a device, such as 'c 10:229 rwm /dev/fuse'; a path makes the node (repeatable)",
    "device-remove": "deny a device; a path removes the node (repeatable)",
    "rlimit": "TYPE=SOFT[:HARD] for all processes, such as NOFILE=1024:4096 (repeatable)",
    "stats": "print one record and exit",
    "interval": "time between two records, such as 5s",
    "file": 'JSON file (- for standard input): {"mounts": [...]}, or the list',
    "source": "path on the host, or a name for the file system",
    "destination": "path in the container",
    "type": "file system type (bind)",
    "options": "mount options, separated by commas (repeatable)",
    "all": "signal every process of the container",
    "top --all": "include stopped containers",
    "top --interval": "time between two updates, such as 2s",
    "count": "exit after this many updates",
    "wait --format": "text or json",
    "pause --timeout": "give up and thaw the processes after this time, such as 2s (10s)",
    "wait --timeout": "give up after this time, such as 30s",
    "gc --force": "remove what is listed",
    "older": "ignore what has changed within this time, such as 12h (24h)",
    "stats --all": "include stopped containers",
    "spec --file": "file to write instead of config.json; - for standard output",
    "profile": "minimal, docker, podman, k8s, rootless or hardened: defaults for that use",
    "explain": "write nothing; explain each property and its value",
    "regex": "ID is a regular expression that matches ids",
    "force": "kill it first; an unknown id is not an error",
    "format": "table or json",
    "diff --config": "compare with the plan of this config instead of the saved one",
    "plan --diff": "show what another bundle, or another config, would change",
    "quiet": "print only ids",
    "engine": "list the containers of docker, podman, containerd, cri-o or all, whichever runtime made them",
    "stats --engine": "the containers of docker, podman, containerd, cri-o or all that pyrunc made",
    "gc --engine": "look below the roots of docker, podman, containerd, cri-o or all",
    "deviations": "list where pyrunc differs from runc on purpose",
    "json": "print JSON",
    "full": "show each step with its reason, and every member of the plans",
    "docker": "edit /etc/docker/daemon.json",
    "podman": "write a file in /etc/containers/containers.conf.d (users: in ~/.config)",
    "containerd": "edit /etc/containerd/config.toml",
    "runtime": "executable that the engine calls (this one)",
    "name": "name of the runtime in the engine (pyrunc)",
    "default": "make it the engine's default runtime",
    "install --config": "file to edit instead of the usual one",
    "dry-run": "show the change without writing it",
    "uninstall": "remove what install added",
    "schema-only": "check only the JSON schema",
    "licenses": "print the licences of everything in the executable",
    "as": "runc or crun: show where that runtime treats the config differently",
    "strict": "treat warnings as problems",
}

HANG = 28  # column of the meanings
MORE = (
    "'pyrunc help COMMAND' shows the options of a command, 'pyrunc help commands' all commands with their meanings, 'pyrunc help options' "
    "the global options."
)


def main(options: Options, args: list[str]) -> int:
    command = args[0] if args else None
    if command not in (None, "commands", "options", *command_table.COMMANDS):
        from pyrunc.commands import usage_errors

        raise usage_errors.unknown_command(command or "")
    style = choice.format_of(options, "help", "text", "json")
    if style == "json":
        fileio.write_all(1, (jsonio.dumps(document(command), indent=2) + "\n").encode())
        return 0
    text = (
        {"commands": commands, "options": global_options}.get(command or "", top)()
        if command not in command_table.COMMANDS
        else of(command)
    )
    fileio.write_all(1, text.encode())
    if command == "checkpoint":  # podman and cri-o learn from the status whether checkpoints can be made
        from pyrunc.engine import criu

        criu.needed()
    return 0


def document(command: str | None) -> Output:
    """{"options": [global ones], "commands": [{"name", "about", "usage", "options", "examples"}]}; only the named command if there is one."""
    rows = []
    for name, row in command_table.COMMANDS.items():
        if command is None or command == name or command not in command_table.COMMANDS:
            usage = "pyrunc %s%s %s" % (name, " [options]" if row.options else "", POSITIONAL.get(name, ""))
            listed = _option_rows(row.options, row.short, name)
            examples = list(help_data.EXAMPLES.get(name, ()))
            rows.append({"name": name, "about": ABOUT.get(name, ""), "usage": usage.rstrip(), "options": listed, "examples": examples})
    return {"options": _option_rows(command_table.GLOBAL, command_table.GLOBAL_SHORT, ""), "commands": rows}


def _option_rows(kinds: dict[str, str], short: dict[str, str], command: str) -> list[Output]:
    others = other_names(short)
    return [{"name": "--" + n, "kind": kind, "others": others.get(n, []), "about": meaning(command, n)} for n, kind in kinds.items()]


def top() -> str:
    """The overview: all commands, grouped by task. It fits a screen of 24 lines and 80 columns."""
    columns = _columns()
    lines = ["NAME:", "   pyrunc - an OCI container runtime", "", "USAGE:"]
    lines += ["   pyrunc [global options] COMMAND [options] [arguments]", "", "COMMANDS:"]
    for title, names in help_data.GROUPS:
        lines += render.wrapped(" ".join(names), columns, "   %-20s " % title, " " * 24)
    lines += ["", "GLOBAL OPTIONS:"]
    lines += render.wrapped(" ".join("--" + name for name in command_table.GLOBAL), columns, "   ", "   ")
    lines += ["", *_examples("")]
    lines += render.wrapped(MORE, columns)
    return "\n".join(lines) + "\n"


def _columns() -> int:
    """Columns of the terminal; 80 where the output is read by a program or put into a page."""
    return render.width(1) or 80


def commands() -> str:
    return "\n".join("  %-10s %s" % (name, ABOUT.get(name, "")) for name in command_table.COMMANDS) + "\n"


def global_options() -> str:
    return "\n".join(["GLOBAL OPTIONS:", *option_lines(command_table.GLOBAL, command_table.GLOBAL_SHORT)]) + "\n"


def of(command: str) -> str:
    kinds, short = command_table.COMMANDS[command].options, command_table.COMMANDS[command].short
    usage = "   pyrunc %s%s %s" % (command, " [options]" if kinds else "", POSITIONAL.get(command, ""))
    lines = ["NAME:", "   pyrunc %s - %s" % (command, ABOUT.get(command, "")), "", "USAGE:", usage.rstrip()]
    if kinds:
        lines += ["", "OPTIONS:"] + option_lines(kinds, short, command)
    lines += ["", *_examples(command)] if help_data.EXAMPLES.get(command) else []
    return "\n".join(lines).rstrip() + "\n"


def meaning(command: str, name: str) -> str:
    """What an option does, in one line; "" if there is no description."""
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
    """The options with their meanings, in lines that fit the terminal."""
    others = other_names(short)
    lines = []
    for name, kind in kinds.items():
        head = "   " + ", ".join(["--%s%s" % (name, "" if kind == command_table.B else " VALUE"), *others.get(name, ())])
        about = meaning(command, name)
        if len(head) < HANG:
            lines += render.wrapped(about, _columns(), head.ljust(HANG), " " * HANG)
        else:
            lines += [head, *render.wrapped(about, _columns(), " " * HANG, " " * HANG)]
    return [line.rstrip() for line in lines]


def _examples(command: str) -> list[str]:
    return ["EXAMPLES:", *("   " + line for line in help_data.EXAMPLES[command])]
