"""What help, manual pages and shell completion need besides the table of commands: kinds of values, groups, examples. Data only."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Kind = str | tuple[str, ...] | None  # of a value: one of the words below, the words to choose from, or None for any text

DIR, FILE, IDS, COMMAND, SIGNAL, CAPABILITY, CODE = "DIR", "FILE", "ID", "COMMAND", "SIGNAL", "CAPABILITY", "CODE"

# The value of an option: one of these kinds, or the words to choose from. "command --option" takes precedence over "option". Options that are
# not listed take a text or a number.
VALUES: dict[str, Kind] = {
    "root": DIR, "log": FILE, "log-format": ("text", "json"), "log-level": ("error", "warning", "debug"),
    "rootless": ("true", "false", "auto"), "cgroup-manager": ("cgroupfs", "systemd", "disabled"), "criu": FILE, "trace": FILE,
    "bundle": DIR, "config": FILE, "console-socket": FILE, "pidfd-socket": FILE, "pid-file": FILE, "image-path": DIR, "work-path": DIR,
    "parent-path": DIR, "manage-cgroups-mode": ("soft", "full", "strict", "ignore"), "empty-ns": ("network",),
    "network-lock": ("iptables", "nftables", "skip"), "process": FILE, "cap": CAPABILITY, "resources": FILE, "file": FILE,
    "format": ("table", "json"), "stats --format": ("table", "json", "prometheus"), "seccomp --format": ("text", "json"),
    "validate --format": ("text", "json"), "as": ("runc", "crun"), "engine": ("docker", "podman", "containerd", "cri-o", "all"), "spec --format": ("text", "json"), "install --format": ("text", "json"),
    "trace --format": ("text", "json"),
    "version --format": ("text", "json"), "help --format": ("text", "json"), "state --format": ("json",), "events --format": ("json",),
    "profile": ("minimal", "docker", "podman", "k8s", "rootless", "hardened"), "features --format": ("text", "json"),
    "plan --format": ("text", "json"), "explain --format": ("text", "json"), "diff --format": ("text", "json"), "hooks --format": ("text", "json"),
    "diff": FILE, "wait --format": ("text", "json"), "source": FILE, "cpu-idle": ("0", "1"),
    "runtime": FILE,
}  # fmt: skip

SIGNALS = ("TERM", "KILL", "HUP", "INT", "QUIT", "USR1", "USR2", "STOP", "CONT", "WINCH")

# All commands, grouped by task.
GROUPS = (
    ("run a container", ("run", "create", "start", "kill", "wait", "delete")),
    ("look at containers", ("list", "state", "ps", "stats", "top", "events", "diff", "hooks", "trace")),
    ("change a container", ("exec", "update", "mounts", "pause", "resume", "checkpoint", "restore")),
    ("write a bundle", ("spec", "validate", "plan", "seccomp")),
    ("look after the host", ("doctor", "features", "install", "gc")),
    ("get help", ("help", "explain", "errors", "completion", "version")),
)

# Commands of docker and podman that a runtime does not have: what to use instead.
IMAGES = "a runtime has no images: use podman, docker or skopeo, and umoci or `podman export` to make a bundle"
STREAMS = "pyrunc keeps no output: it goes to the caller's streams; for an engine's container use `docker logs` or `podman logs`"
ELSEWHERE = {
    "rm": "use `pyrunc delete ID`", "remove": "use `pyrunc delete ID`", "destroy": "use `pyrunc delete ID`",
    "stop": "use `pyrunc kill ID TERM`, then `pyrunc wait --timeout 10s ID`; `pyrunc delete --force ID` ends and deletes it",
    "restart": "use `pyrunc kill ID`, `pyrunc delete ID` and `pyrunc run`",
    "unpause": "use `pyrunc resume ID`", "freeze": "use `pyrunc pause ID`", "thaw": "use `pyrunc resume ID`",
    "inspect": "use `pyrunc state ID`; `pyrunc plan` and `pyrunc diff ID` show more", "info": "use `pyrunc doctor` or `pyrunc features`",
    "ls": "use `pyrunc list`", "container": "use `pyrunc list`", "containers": "use `pyrunc list`",
    "logs": STREAMS, "log": STREAMS, "attach": STREAMS,
    "pull": IMAGES, "push": IMAGES, "images": IMAGES, "image": IMAGES, "build": IMAGES, "rmi": IMAGES, "tag": IMAGES, "load": IMAGES,
    "save": IMAGES, "commit": IMAGES, "search": IMAGES, "login": IMAGES, "history": IMAGES,
    "cp": "copy files in the bundle's rootfs, or use `pyrunc exec ID tar`; for an engine's container use `docker cp` or `podman cp`",
    "export": "the bundle's rootfs holds the files; for an engine's container use `docker export` or `podman export`",
    "rename": "an id can't be changed; create the container anew", "prune": "use `pyrunc gc`", "system": "use `pyrunc gc` or `pyrunc doctor`",
    "port": "a runtime has no ports: the engine's network does that", "network": "a runtime has no networks: the engine, or CNI, makes them",
    "volume": "a runtime has no volumes: use a bind mount in config.json", "compose": "use docker compose or podman-compose with this runtime",
    "shell": "use `pyrunc exec -t ID /bin/sh`", "enter": "use `pyrunc exec -t ID /bin/sh`", "check": "use `pyrunc validate`",
    "init": "use `pyrunc spec`", "new": "use `pyrunc spec`", "mount": "use `pyrunc mounts add ID`", "umount": "use `pyrunc mounts remove ID`",
    "kube": "use Kubernetes' or podman's commands with this runtime", "pod": "pods are made by the engine: podman, or Kubernetes",
}  # fmt: skip

EXAMPLES = {
    "": ("pyrunc spec --bundle /tmp/first", "pyrunc run --bundle /tmp/first my-container"),
    "create": ("pyrunc create --bundle /srv/web --pid-file /run/web.pid web",),
    "run": ("pyrunc run --bundle /srv/web web", "pyrunc run --detach --bundle /srv/web web"),
    "start": ("pyrunc start web",),
    "state": ("pyrunc state web",),
    "kill": ("pyrunc kill web TERM", "pyrunc kill --all web KILL"),
    "delete": ("pyrunc delete web", "pyrunc delete --force --regex 'test-.*'"),
    "exec": ("pyrunc exec -t web /bin/sh", "pyrunc exec --user 1000 --env A=1 web env"),
    "checkpoint": ("pyrunc checkpoint --image-path /var/tmp/web web",),
    "restore": ("pyrunc restore --detach --bundle /srv/web --image-path /var/tmp/web web",),
    "pause": ("pyrunc pause web",),
    "resume": ("pyrunc resume web",),
    "ps": ("pyrunc ps web", "pyrunc ps --format json web"),
    "update": ("pyrunc update --memory 256m --pids-limit 100 web", "pyrunc update --resources limits.json web"),
    "mounts": (
        "pyrunc mounts add --source /srv/data --destination /data --options ro web",
        "pyrunc mounts remove web /data",
    ),
    "events": ("pyrunc events --stats web", "pyrunc events --interval 10s web"),
    "stats": ("pyrunc stats", "pyrunc stats --format json web", "pyrunc stats --engine all"),
    "top": ("pyrunc top --interval 1s",),
    "wait": ("pyrunc wait web", "pyrunc wait --timeout 30s --format json web"),
    "gc": ("pyrunc gc", "pyrunc gc --engine all", "pyrunc gc --force --older 1h"),
    "list": ("pyrunc list", "pyrunc list --format json", "pyrunc list --engine all"),
    "spec": ("pyrunc spec --bundle /tmp/first", "pyrunc spec --profile hardened --explain", "pyrunc spec --file - --rootless"),
    "features": ("pyrunc features", "pyrunc features --deviations"),
    "plan": (
        "pyrunc plan --bundle /srv/web web",
        "pyrunc plan --format json --bundle /srv/web",
        "pyrunc plan --bundle /srv/web --diff new.json",
    ),
    "explain": ("pyrunc explain PYR-2408", "pyrunc explain memory.limit /srv/web", "pyrunc explain /linux/maskedPaths"),
    "diff": ("pyrunc diff web", "pyrunc diff --format json web", "pyrunc diff --config new.json web"),
    "hooks": ("pyrunc hooks web", "pyrunc hooks --format json web"),
    "errors": ("pyrunc errors", "pyrunc errors --format json PYR-4001"),
    "validate": (
        "pyrunc validate /srv/web",
        "pyrunc validate --as crun /srv/web",
        "pyrunc validate --strict --format json --config config.json",
    ),
    "doctor": ("pyrunc doctor", "pyrunc doctor /srv/web"),
    "install": (
        "pyrunc install --docker --dry-run",
        "pyrunc install --podman --containerd --default",
        "pyrunc install --docker --uninstall",
    ),
    "seccomp": ("pyrunc seccomp --bundle /srv/web", "pyrunc seccomp --bundle /srv/web mount"),
    "trace": ("pyrunc trace web",),
    "completion": (
        "pyrunc completion bash > /etc/bash_completion.d/pyrunc",
        "pyrunc completion fish > ~/.config/fish/completions/pyrunc.fish",
    ),
    "help": ("pyrunc help create", "pyrunc help commands"),
    "version": ("pyrunc version", "pyrunc version --licenses"),
}


FAILED = (("0", "Success."), ("1", "The command failed; a line on standard error says why."))
PROGRAM = (
    ("0", "The program ended with status 0, or with --detach: it was started."),
    ("1", "The command failed; a line on standard error says why. The program may end with this status, too."),
    ("128 + N", "The program was killed by signal N."),
    ("others", "The program's exit status."),
)
# Exit statuses of commands whose statuses differ from FAILED.
EXIT = {
    "run": PROGRAM,
    "restore": PROGRAM,
    "exec": (*PROGRAM[:1], ("255", "The program could not be run; a line on standard error says why."), *PROGRAM[2:]),
    "validate": (("0", "There are no problems; there may be warnings."), ("1", "There are problems (with --strict also: warnings).")),
    "plan": (
        ("0", "create would accept the config; with --diff: both plans are the same."),
        ("1", "create would refuse the config; with --diff: the plans differ."),
        ("2", "With --diff: one of the two can't be planned."),
    ),
    "diff": (("0", "There are no differences."), ("1", "There are differences."), ("2", "The comparison failed.")),
    "doctor": (
        ("0", "Containers can be created here; with a bundle: it would be accepted."),
        ("1", "Something that every container needs is missing, or the bundle would be refused."),
    ),
    "explain": (("0", "Success."), ("1", "There is no such code or property; with a bundle: the property would be refused.")),
    "delete": (("0", "The container is deleted; with --force also if there was none."), FAILED[1]),
    "checkpoint": (("0", "Success; with --help: checkpoints can be made on this host."), FAILED[1]),
    "wait": (("0", "The container has ended; its exit status is on standard output."), FAILED[1]),
}

# Files that commands use besides the state below --root: (file, what for).
FILES_OF = {
    "create": (("config.json", "The config, in the bundle."),), "run": (("config.json", "The config, in the bundle."),),
    "validate": (("config.json", "The config, in the bundle."),), "plan": (("config.json", "The config, in the bundle."),),
    "spec": (("config.json", "The file that is written."),),
    "install": (
        ("/etc/docker/daemon.json", "Docker's configuration."),
        ("/etc/containers/containers.conf.d/50-pyrunc.conf", "podman's, written by install; for users in ~/.config."),
        ("/etc/containerd/config.toml", "containerd's configuration."),
        ("FILE.before-pyrunc", "The copy of a file before the change."),
    ),
    "checkpoint": (("checkpoint/", "The images, if --image-path gives no other directory."), ("dump.log", "CRIU's log, in the work directory."),
                   ("/etc/criu/runc.conf", "Options of CRIU, if the file exists.")),
    "restore": (("checkpoint/", "The images, if --image-path gives no other directory."), ("restore.log", "CRIU's log, in the work directory.")),
    "list": (
        ("/run/docker/runtime-runc/moby", "Docker's root, for --engine."),
        ("/run/containerd/runc/NAMESPACE", "containerd's roots, for --engine."),
    ),
    "exec": (("/etc/passwd, /etc/group", "The container's, for names in --user."),),
}  # fmt: skip

ENVIRONMENT_OF = {
    "create": (("NOTIFY_SOCKET", "Is mounted into the container, for sd_notify(3)."), ("LISTEN_FDS, LISTEN_PID", "Descriptors for the program, see sd_listen_fds(3).")),
    "run": (("NOTIFY_SOCKET", "Is mounted into the container, for sd_notify(3)."), ("LISTEN_FDS, LISTEN_PID", "Descriptors for the program, see sd_listen_fds(3).")),
    "exec": (("LISTEN_FDS, LISTEN_PID", "Descriptors for the program, see sd_listen_fds(3)."),),
    "plan": (("NO_COLOR", "No colours, if it is set."),), "diff": (("NO_COLOR", "No colours, if it is set."),),
}  # fmt: skip


def value(command: str, name: str) -> Kind:
    """The kind (one of the words above), the words to choose from (a tuple), or None."""
    return VALUES.get("%s --%s" % (command, name), VALUES.get(name))


def positionals(words: str) -> list[tuple[Kind, bool]]:
    """The positionals of a usage such as 'add|remove ID [FILE...]': [(kind or words, may be repeated)]; the kind is None for any text."""
    found: list[tuple[Kind, bool]] = []
    for word in words.replace("[", " ").replace("]", " ").split():
        repeats = word.endswith("...")
        word = word.removesuffix("...")
        kind: Kind = {"BUNDLE": DIR, "ID": IDS, "COMMAND": COMMAND, "SIGNAL": SIGNAL, "FILE": FILE, "DIR": DIR, "CODE": CODE}.get(
            word.partition("|")[0]
        )
        if kind is None and word == word.lower():
            kind = tuple(word.split("|"))
        found.append((kind, repeats))
    return found
