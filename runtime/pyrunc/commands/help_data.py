"""What help, man pages and shell completion say beyond the table of commands: kinds of values, groups, examples. Data only."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Kind = str | tuple[str, ...] | None  # of a value: one of the words below, the words to choose from, or None for any text

DIR, FILE, IDS, COMMAND, SIGNAL, CAPABILITY, CODE = "DIR", "FILE", "ID", "COMMAND", "SIGNAL", "CAPABILITY", "CODE"

# What an option's value is: one of these kinds, or the words to choose from. "command --option" goes before "option"; one that is
# not here is a text or a number that nobody can guess.
VALUES: dict[str, Kind] = {
    "root": DIR, "log": FILE, "log-format": ("text", "json"), "log-level": ("error", "warning", "debug"),
    "rootless": ("true", "false", "auto"), "cgroup-manager": ("cgroupfs", "systemd", "disabled"), "criu": FILE, "trace": FILE,
    "bundle": DIR, "config": FILE, "console-socket": FILE, "pidfd-socket": FILE, "pid-file": FILE, "image-path": DIR, "work-path": DIR,
    "parent-path": DIR, "manage-cgroups-mode": ("soft", "full", "strict", "ignore"), "empty-ns": ("network",),
    "network-lock": ("iptables", "nftables", "skip"), "process": FILE, "cap": CAPABILITY, "resources": FILE, "file": FILE,
    "format": ("table", "json"), "stats --format": ("table", "json", "prometheus"), "seccomp --format": ("text", "json"),
    "validate --format": ("text", "json"), "as": ("runc", "crun"), "spec --format": ("text", "json"), "install --format": ("text", "json"),
    "trace --format": ("text", "json"),
    "version --format": ("text", "json"), "help --format": ("text", "json"), "state --format": ("json",), "events --format": ("json",),
    "profile": ("minimal", "docker", "podman", "k8s", "rootless", "hardened"), "features --format": ("text", "json"),
    "plan --format": ("text", "json"), "explain --format": ("text", "json"), "diff --format": ("text", "json"), "hooks --format": ("text", "json"),
    "diff": FILE, "wait --format": ("text", "json"), "source": FILE, "cpu-idle": ("0", "1"),
    "runtime": FILE,
}  # fmt: skip

SIGNALS = ("TERM", "KILL", "HUP", "INT", "QUIT", "USR1", "USR2", "STOP", "CONT", "WINCH")

# `pyrunc --help` has to fit a screen: these with a line each, the others by name. What is in no group stands in the last one.
FIRST = ("run", "create", "start", "state", "exec", "kill", "delete", "list", "wait", "spec", "validate", "plan")
GROUPS = (
    ("running containers", ("pause", "resume", "ps", "top", "stats", "events", "update", "mounts", "checkpoint", "restore")),
    ("before and after", ("doctor", "features", "seccomp", "trace", "gc")),
    ("explanations", ("explain", "errors", "diff", "hooks")),
    ("pyrunc itself", ("install", "completion", "help", "version")),
)

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
    "stats": ("pyrunc stats", "pyrunc stats --format json web"),
    "top": ("pyrunc top --interval 1s",),
    "wait": ("pyrunc wait web", "pyrunc wait --timeout 30s --format json web"),
    "gc": ("pyrunc gc", "pyrunc gc --force --older 1h"),
    "list": ("pyrunc list", "pyrunc list --format json"),
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
    "version": ("pyrunc version",),
}


def value(command: str, name: str) -> Kind:
    """Kind (a word above), the words to choose from (a tuple), or None."""
    return VALUES.get("%s --%s" % (command, name), VALUES.get(name))


def positionals(words: str) -> list[tuple[Kind, bool]]:
    """'add|remove ID [FILE...]', the usage's text → [(kind or words, repeats)]; what is none of the kinds is (None, …)."""
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
