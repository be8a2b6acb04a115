"""/hooks (config.md#posix-platform-hooks): six kinds, each run at a fixed point in the life of the container.

Invariant: a hook gets the state on standard input, its own environment, the descriptors 0 to 2, and nothing that belongs to the container's
process: process.env may come from the image, and must not influence a program on the host (CVE-2025-23266). The exception is
startContainer, which runs inside the container with its privileges.
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError, HookFailure, Refusal, errno_text, quote
from pyrunc.linux import jsonbytes, spawn
from pyrunc.oci import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final, TypedDict, TypeGuard

    from pyrunc.linux.spawn import Result
    from pyrunc.parts.sides import Cancel, Context, HookRun, Json

    class Given(TypedDict, total=False):
        path: str
        args: list[str]
        env: list[str]
        timeout: int

    Node = TypedDict(
        "Node",
        {"/hooks": dict[str, list[Given]]},
        total=False,
    )

    class Hook(TypedDict):
        path: str
        args: list[str]
        env: list[str] | None
        timeout: int | None  # seconds
        files: list[str | None]  # files that stdout and stderr are appended to

    Entry = dict[str, list[Hook]]  # {kind: hooks}, only kinds that have hooks

    class Note(TypedDict):
        kind: str
        index: int
        path: str
        ended: str
        code: int
        ms: int
        stdout: str
        stderr: str

    class Outcome(TypedDict):
        kind: str
        index: int
        path: str
        ended: str  # exit, signal, timeout or cancel (a signal has stopped the command)
        status: int | None
        signal: int | None
        ms: int
        stdout: str
        stderr: str


POINTER: Final = "/hooks"
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
INSIDE = "startContainer"
TIMEOUT_LIMIT = 9223372036  # seconds in 63 bits of nanoseconds
SHOWN = 4096  # bytes of each stream that are shown in the error and kept in the record
FILES = ("run.oci.hooks.stdout", "run.oci.hooks.stderr")
# These make programs run other code; the last one would let a hook report to the supervisor that the container is ready.
NOT_INHERITED = (b"LD_", b"PYTHON", b"BASH_ENV=", b"ENV=", b"NOTIFY_SOCKET=")


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/hooks": {kind: [{"path", "args", "env", "timeout"}]}}. Entry: {kind: [{"path", "args": list, "env": list or None, "timeout":
    seconds or None, "files": [path or None, path or None]}]}, only kinds that have hooks; None without hooks. The files receive the output
    of hooks that run outside the container (annotations run.oci.hooks.stdout and .stderr, if `meta` allows them).

    Refuses: paths that are relative or have `..`, host programs that are missing, directories or not executable (with the message of a
    failing hook), empty args, environment entries without a name, timeouts below one second. Unknown kinds are ignored with a warning."""
    annotations = ctx.plans.get("meta", {}).get("annotations", {})
    files = [_file(annotations.get(key), key) for key in FILES]
    entry: Entry = {}
    for kind, hooks in node[POINTER].items():
        if kind not in KINDS:
            ctx.warn("%s/%s" % (POINTER, kind), "unknown kind of hook, ignored")
        elif hooks:
            entry[kind] = [_hook(kind, i, hook, files) for i, hook in enumerate(hooks)]
    if "prestart" in entry:
        ctx.warn(POINTER + "/prestart", "prestart is deprecated by the specification; createRuntime runs at the same place")
    return entry or None


def _file(path: str | None, key: str) -> str | None:
    if path is not None and (path[:1] != "/" or "\0" in path):
        raise Refusal("relative-path", "%s is not an absolute path" % quote(path), "/annotations/" + key)
    return path


def _hook(kind: str, index: int, hook: Given, files: list[str | None]) -> Hook:
    pointer = "%s/%s/%d" % (POINTER, kind, index)
    path, args, env, timeout = hook["path"], hook.get("args"), hook.get("env"), hook.get("timeout")
    if path[:1] != "/" or "\0" in path:
        raise Refusal("relative-path", "hook path %s is not absolute" % quote(path), pointer + "/path")
    if ".." in path.split("/"):
        raise Refusal("dot-dot", "hook path %s has .. in it" % quote(path), pointer + "/path")
    if kind != INSIDE:
        _check_program(kind, index, path)
    if args is not None and not args:
        raise Refusal(
            "no-hook-args", "hook args are empty", pointer + "/args", "the first one is the program's name; leave args out for the path"
        )
    for name, texts in (("args", args), ("env", env)):
        for i, text in enumerate(texts or ()):
            if "\0" in text or (name == "env" and text.find("=") < 1):
                words = "NUL in a hook's %s" % name if "\0" in text else "hook environment entry %s is not NAME=value" % quote(text)
                raise Refusal("hook", words, "%s/%s/%d" % (pointer, name, i))
    if timeout is not None and not 0 < timeout <= TIMEOUT_LIMIT:
        raise Refusal("bad-timeout", "hook timeout %d: want 1 to %d seconds" % (timeout, TIMEOUT_LIMIT), pointer + "/timeout")
    return {"path": path, "args": args or [path], "env": env, "timeout": timeout, "files": files}


def _check_program(kind: str, index: int, path: str) -> None:
    """An early, clear refusal, only if it is certain: a path that we may not stat may still be executable (/proc/PID/exe)."""
    try:
        mode = posix.stat(path).st_mode
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENOTDIR):
            return
        cause = errno_text(e.errno)
    else:
        if fileio.is_regular(mode) and mode & 0o111:
            return
        cause = "is a directory" if fileio.is_directory(mode) else "permission denied"
    words = "error running %s hook #%d: fork/exec %s: %s" % (kind, index, quote(path), cause)
    raise Refusal("hook-not-executable", words, "%s/%s/%d/path" % (POINTER, kind, index))


# -- verbs ---------------------------------------------------------------------------------------------------------------


def host_read_environment(entry: Entry, run: HookRun) -> None:
    """Host side, before the clone: reads our own environment, which init wipes before it executes anything. Nothing to undo."""
    run.read_host_env()


def host_prestart(entry: Entry, run: HookRun) -> None:
    """Host side, when init is ready for the hooks. Status `creating`, init's pid; the working directory is the bundle. A HookFailure makes
    the create fail."""
    _run_all(entry, run, "prestart", "creating", run.pid)


def host_create_runtime(entry: Entry, run: HookRun) -> None:
    """Host side, after prestart, under the same conditions."""
    _run_all(entry, run, "createRuntime", "creating", run.pid)


def init_create_container(entry: Entry, run: HookRun) -> None:
    """Init, before the pivot: the path is looked up on the host, the namespaces are the container's, the working directory is the rootfs
    (run.root_fd), and the pid is the one that the container sees. HookFailure."""
    _run_all(entry, run, "createContainer", "creating", posix.getpid(), run.root_fd)


def init_start_container(entry: Entry, run: HookRun) -> None:
    """Init, after start and before the program, inside the container with its privileges and its seccomp filter: if the filter is not
    loaded yet (run.late_filter), each hook loads it. The engine calls this by name. A hook without an environment gets that of the process
    (run.exec_env, if the engine has set it). HookFailure."""
    _run_all(entry, run, INSIDE, "created", posix.getpid())


def host_poststart(entry: Entry, run: HookRun) -> None:
    """In `start`, once the program is running. A HookFailure kills the container."""
    _run_all(entry, run, "poststart", "running", run.pid)


def host_poststop(entry: Entry, run: HookRun) -> list[str]:
    """In `delete`, or in a failed create, after everything has been undone. A failing hook raises nothing: returns a list of warnings,
    because deletion continues with the next hook (runtime.md#lifecycle)."""
    warnings = []
    for index in range(len(entry.get("poststop", ()))):
        try:
            _run_one(entry, run, "poststop", index, "stopped", None, None, None)
        except HookFailure as e:
            warnings.append(e.sentence())
    return warnings


def _run_all(entry: Entry, run: HookRun, kind: str, status: str, pid: int, cwd_fd: int | None = None) -> None:
    for index in range(len(entry.get(kind, ()))):
        run.check()
        _run_one(entry, run, kind, index, status, pid, cwd_fd, run.cancel)


def _run_one(
    entry: Entry, run: HookRun, kind: str, index: int, status: str, pid: int | None, cwd_fd: int | None, cancel: Cancel | None
) -> None:
    hook = entry[kind][index]
    document = jsonbytes.dumps(state.for_hooks(run.id, status, pid, run.bundle, run.annotations))
    opened = -1
    if cwd_fd is None:
        cwd_fd = opened = -1 if kind == INSIDE else _bundle_fd(run)
    seconds = hook["timeout"]
    bpf = run.late_filter if kind == INSIDE else None
    try:
        result = spawn.run(
            fileio.fsencode(hook["path"]), [fileio.fsencode(arg) for arg in hook["args"]], _environment(hook, kind, run),
            document, cwd_fd, None if seconds is None else seconds * 1000, cancel, bpf,
        )  # fmt: skip
    except OSError as e:
        what = "fork/exec" if CallError.of(e).call == "execve" else CallError.of(e).call
        raise HookFailure("hook-not-run", kind, index, "%s %s: %s" % (what, quote(hook["path"]), errno_text(e.errno)), hook["path"]) from e
    finally:
        if opened >= 0:
            posix.close(opened)
    if kind != INSIDE:
        _copy_out(hook, result)
    _note(run, kind, index, hook, result)
    if result.why == "cancel":
        run.check()
    if result.why == "timeout":
        raise HookFailure("hook-timeout", kind, index, "hook ran past specified timeout of %.1fs" % (seconds or 0), hook["path"])
    if not result.ok:
        cause = "%s, stdout: %s, stderr: %s" % (result.text(), _shown(result.out), _shown(result.err))
        raise HookFailure("failed", kind, index, cause, hook["path"])


def _bundle_fd(run: HookRun) -> int:
    """The bundle, or / if it no longer exists: a container must be deletable without its bundle."""
    flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
    try:
        return posix.open(run.bundle, flags)
    except OSError:
        return posix.open("/", flags)


def _environment(hook: Hook, kind: str, run: HookRun) -> list[bytes]:
    """hook.env and nothing else. If it is absent: the runtime's own environment, except for NOT_INHERITED. Inside the container: the
    environment of the process, also if the list is empty, as in runc."""
    if kind == INSIDE and not hook["env"]:
        env = run.exec_env if run.exec_env is not None else run.config.get("process", {}).get("env", ())
    elif hook["env"] is None:
        env = [item for item in run.host_env if not item.startswith(NOT_INHERITED)]
    else:
        env = hook["env"]
    return [fileio.fsencode(item) for item in env]


def _copy_out(hook: Hook, result: Result) -> None:
    """Appends the output to the files that the annotations name. A file that can't be written is not an error."""
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOCTTY | posix.O_NONBLOCK
    for path, output in zip(hook["files"], (result.out, result.err), strict=True):
        if path is None or not output:
            continue
        try:
            fd = posix.open(path, flags, 0o600)
        except OSError:
            continue
        try:
            posix.write(fd, output)
        except OSError:
            continue
        finally:
            posix.close(fd)


def _shown(output: bytes) -> str:
    """The end of a stream, on one line."""
    return quote(output[-SHOWN:].rstrip(b"\n").decode("utf-8", "backslashreplace"), SHOWN)


def _note(run: HookRun, kind: str, index: int, hook: Hook, result: Result) -> None:
    """Stores the result of a hook in the state. Init can't write the state, so it asks the host side to do it; after `start` that is the
    command's process, which listens but never answers."""
    note: Note = {
        "kind": kind, "index": index, "path": hook["path"], "ended": result.why, "code": result.code, "ms": result.ms,
        "stdout": _shown(result.out), "stderr": _shown(result.err),
    }  # fmt: skip
    if kind == "createContainer":
        run.ask("hooks", note)
    elif kind == INSIDE:
        run.tell(note)
    else:
        _keep(run, note)


def _keep(run: HookRun, note: Note) -> None:
    if run.state_dir is not None:  # poststop hooks also run when the state directory is already gone
        run.record("hooks", [*run.state_dir.state.get("hooks", ()), note])


def host_answer(entry: Entry, run: HookRun, request: Note) -> tuple[None, list[int]]:
    """Host side: stores the result of a hook that ran in init."""
    _keep(run, request)
    return None, []


# -- results -------------------------------------------------------------------------------------------------

KEPT = {"kind": str, "index": int, "path": str, "ended": str, "code": int, "ms": int, "stdout": str, "stderr": str}


def outcomes(stored: Mapping[str, object]) -> list[Outcome]:
    """The notes of a state document -> [{"kind", "index", "path", "ended", "status", "signal", "ms", "stdout", "stderr"}]. ended: exit,
    signal, timeout or cancel (a signal has stopped the command)."""
    notes: Json = stored.get("hooks") or ()  # contents of a file below --root
    return [_row(note) for note in notes if _is_note(note)]


def noted(_entry: Entry, stored: Mapping[str, object]) -> list[Outcome]:
    """outcomes() of a container whose plan has hooks."""
    return outcomes(stored)


def _is_note(value: object) -> TypeGuard[Note]:
    return type(value) is dict and all(type(value.get(key)) is kind for key, kind in KEPT.items())


def _row(note: Note) -> Outcome:
    by_signal = note["ended"] != "exit"
    return {
        "kind": note["kind"], "index": note["index"], "path": note["path"], "ended": note["ended"],
        "status": None if by_signal else note["code"], "signal": note["code"] if by_signal else None, "ms": note["ms"],
        "stdout": note["stdout"], "stderr": note["stderr"],
    }  # fmt: skip


def runs_inside(entry: Entry) -> bool:
    """Whether there are startContainer hooks."""
    return INSIDE in entry


def kinds(entry: Entry) -> list[str]:
    """The kinds that have hooks."""
    return sorted(entry)
