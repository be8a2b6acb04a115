"""The process object of exec: from --process FILE, or the container's with the changes of the command line (runtime-spec,
config.md#process)."""

from __future__ import annotations

from pyrunc.engine import exec as engine_exec
from pyrunc.engine import prepare
from pyrunc.errors import Refusal
from pyrunc.linux import fds
from pyrunc.oci import accounts, load, normalise, validate
from pyrunc.parts import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.parts.sides import Json
    from pyrunc.parts.sides import Options as VerbOptions
    from pyrunc.state_dir import StateDir


def verb_options(options: Options) -> VerbOptions:
    """The options that plans and verbs use. UsageError."""
    return {
        "preserve_fds": prepare.number(options, "preserve_fds"),
        "listen_fds": prepare.listen_fds(),
        "inherited_fds": fds.inherited(),
        "console_socket": options.get("console_socket"),
        "detach": options.get("detach", False),
        "pid_file": options.get("pid_file"),
        "pidfd_socket": options.get("pidfd_socket"),
        "cgroup": options.get("cgroup"),
        "foreground": not options.get("detach", False),
    }


def process_of(options: Options, words: list[str], state_dir: StateDir, config: dict[str, Json]) -> dict[str, Json]:
    """The normalised, valid process object. words: the program and its arguments. config: the container's. UsageError, Refusal."""
    if options.get("process"):
        given, _raw = load.file(options["process"])
    else:
        given = _from_options(options, words, state_dir, config)
    process: dict[str, Json] = normalise.process(given)
    problems = validate.check(process, "process")
    if problems:
        pointer, text, value, reason = problems[0]
        raise prepare.refusal(("/process" + (pointer if pointer != "/" else ""), text, value, reason))
    if options.get("tty") and options.get("process"):
        process["terminal"] = True
    return process


def _from_options(options: Options, words: list[str], state_dir: StateDir, config: dict[str, Json]) -> dict[str, Json]:
    if not words:
        raise Refusal("no-args", "process args cannot be empty", "/process/args", "give the program after the id")
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
    if options.get("user"):
        user.update(accounts.chosen(options["user"], lambda: engine_exec.root_of(state_dir.state)))
    if options.get("additional_gids"):
        gids = [accounts.identity(text, "additional-gids") for text in options["additional_gids"]]
        user["additionalGids"] = [*(user.get("additionalGids") or []), *gids]
    if options.get("cap"):
        process["capabilities"] = capabilities.with_more(process.get("capabilities") or {}, options["cap"])
    return process
