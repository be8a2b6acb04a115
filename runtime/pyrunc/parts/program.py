"""/process/args, /process/cwd, /process/env (runtime-spec, config.md#process; execve(2)).

The program, its working directory and its environment. Invariant: all three belong to the container. No variable of the caller is passed
on, HOME comes from the container's own /etc/passwd (which is untrusted), programs are looked up in the container's PATH with the program's
privileges, and a working directory outside the root is never entered (CVE-2024-21626).
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError, PyruncError, Refusal, StepFailure, Unsupported, errno_text, quote
from pyrunc.linux import _syscalls, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final, TypedDict

    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import CallHelper, Context, InitRun, Op, TailRun
    from pyrunc.parts.user import Entry as User

    Node = TypedDict(
        "Node",
        {"/process/args": list[str], "/process/cwd": str, "/process/env": list[str]},
        total=False,
    )

    class Entry(TypedDict):
        args: list[str]
        cwd: str
        env: list[str]  # without duplicates: the last one is kept, in its position
        home: bool  # HOME must be looked up
        path: str | None  # the value of PATH
        uid: int
        make_cwd: bool

    FinishRecord = tuple[int, int, int, int, int, bytes | str]  # kind, operation, detail, errno, position, call (csrc/ops.h)


ARGS: Final = "/process/args"
CWD: Final = "/process/cwd"
ENV: Final = "/process/env"
PATH_MAX, NAME_MAX = 4096, 255
STACK = 3  # RLIMIT_STACK
ARG_FLOOR, ARG_CEILING = 131072, 6 << 20  # fs/exec.c: ARG_MAX, and three quarters of _STK_LIM
POINTER_SIZE = 8
PASSWD_LIMIT = 1 << 20
BREAKOUT, NOT_FOUND, NO_EXEC, DIRECTORY = 1, 2, 3, 4  # record.detail (csrc/ops.h)


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/process/args": [text], "/process/cwd": text, "/process/env": ["NAME=value"]}.
    entry: {"args", "cwd", "env": without duplicates (the last one is kept, in its position), "home": bool (HOME must be looked up), "path":
    PATH's value or None, "uid", "make_cwd": bool}.
    None for a create without a process: only start requires it (runtime-spec, config.md#process).
    Refused: no process, no args, an empty args[0]; a cwd that is empty, relative, too long, or a link of /proc; a variable without a
    name or "="; NUL bytes and lone surrogates anywhere; arguments that are too long for execve (E2BIG), with both sizes."""
    if "process" not in ctx.config and ctx.options.get("command") == "create":
        return None
    if not node and not (ctx.config.get("process") or {}):
        raise Refusal("no-process", "process property must not be empty", "/process", "give /process with args and cwd")
    args = _args(node.get(ARGS))
    cwd = _cwd(node.get(CWD))
    env = _env(node.get(ENV) or [], _additions(ctx))
    values = {entry.partition("=")[0]: entry.partition("=")[2] for entry in env}
    home = not values.get("HOME")
    if home:
        env = [entry for entry in env if not entry.startswith("HOME=")]
    _check_size(args, env, ctx)
    return {
        "args": args, "cwd": cwd, "env": env, "home": home, "path": values.get("PATH"), "uid": ctx.plans["user"]["uid"],
        "make_cwd": ctx.options.get("command") != "exec",
    }  # fmt: skip


def has_process(plans: Plans) -> bool:
    """Whether there is something to start."""
    return "program" in plans


def check(entry: Entry, ctx: Context, _call_helper: CallHelper) -> Iterator[PyruncError]:
    """Unsupported if the program is not in the root. Nothing is mounted yet, so this is checked only if no mount covers the path."""
    plans: Any = ctx.plans  # read by name: an entry, or one of its keys, may be missing
    root = (plans.get("root") or {}).get("path")
    name = entry["args"][0]
    if root is None:
        return
    folders = (entry["path"] or "").split(":") if "/" not in name else [""]
    places = [name if "/" in name and name[:1] == "/" else "%s/%s" % (folder or entry["cwd"], name) for folder in folders]
    covered = [item["destination"] for item in (plans.get("mounts") or {}).get("list", ())]
    if any((place + "/").startswith(one.rstrip("/") + "/") for place in places for one in covered):
        return
    root_fd = posix.open(root, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        if any(_exists(root_fd, place) for place in places):
            return
    finally:
        posix.close(root_fd)
    yield Unsupported(
        "no-program",
        "the root has no program %s" % _quoted(name),
        ARGS + "/0",
        "the program",
        "install it in the root, or correct the path",
    )


def _exists(root_fd: int, path: str) -> bool:
    try:
        posix.close(paths.resolve(root_fd, path))
    except OSError:
        return False
    return True


def _args(args: list[str] | None) -> list[str]:
    if not args:
        raise Refusal("no-args", "args must not be empty", ARGS, "the program and its arguments")
    for index, arg in enumerate(args):
        _text(arg, "%s/%d" % (ARGS, index))
    if not args[0]:
        raise Refusal("empty-program", 'exec: "": executable file not found in $PATH', ARGS + "/0")
    return list(args)


def _cwd(cwd: str | None) -> str:
    if not cwd:
        raise Refusal("empty-cwd", "Cwd property must not be empty", CWD)
    raw = _text(cwd, CWD)
    if raw[:1] != b"/":
        raise Refusal("relative-cwd", "Cwd must be an absolute path", CWD, "it is %s" % _quoted(cwd))
    if len(raw) >= PATH_MAX or max(map(len, raw.split(b"/"))) > NAME_MAX:
        raise Refusal(
            "cwd-too-long",
            "Cwd of %d bytes is longer than the kernel takes (%d, %d for one name)" % (len(raw), PATH_MAX - 1, NAME_MAX),
            CWD,
        )
    names = paths.clean(cwd).split("/")[1:]
    magic = names[:1] == ["proc"] and len(names) > 2 and not {"fd", "cwd", "root", "exe", "map_files"}.isdisjoint(names[2:])
    if magic or names[:2] == ["dev", "fd"] and len(names) > 2:
        raise Refusal("cwd-through-proc", "Cwd %s leads through an open file of a process" % quote(cwd), CWD, "name the directory itself")
    return cwd


def _additions(ctx: Context) -> list[str]:
    """Variables that the runtime adds for its caller: for passed descriptors (sd_listen_fds(3)) and the notify socket (sd_notify(3))."""
    more = []
    listen = ctx.plans.get("fds", {}).get("listen", 0)
    if listen:
        more += ["LISTEN_FDS=%d" % listen, "LISTEN_PID=1"]
    notify = ctx.plans.get("notify")
    if notify:
        more.append("NOTIFY_SOCKET=" + notify["variable"])
    return more


def _env(env: list[str], more: list[str]) -> list[str]:
    last: dict[str, str] = {}
    for index, entry in enumerate(env):
        pointer = "%s/%d" % (ENV, index)
        _text(entry, pointer)
        name, equals, _value = entry.partition("=")
        if not equals:
            raise Refusal("bad-environment", "invalid environment variable: missing '='", pointer, "it is %s" % _quoted(name))
        if not name:
            raise Refusal("bad-environment", "invalid environment variable: name cannot be empty", pointer)
        last.pop(name, None)  # so that the last one keeps its position
        last[name] = entry
    for entry in more:
        name = entry.partition("=")[0]
        last.pop(name, None)
        last[name] = entry
    return list(last.values())


def _text(value: str, pointer: str) -> bytes:
    """The bytes of a string, or a Refusal: the kernel would silently truncate a string at a NUL."""
    try:
        raw = fileio.fsencode(value)
    except UnicodeEncodeError:
        raise Refusal("lone-surrogate", "a lone surrogate is not valid text", pointer) from None
    if b"\0" in raw:
        raise Refusal("nul-byte", "contains nul byte (\\x00)", pointer)
    return raw


def _check_size(args: list[str], env: list[str], ctx: Context) -> None:
    """fs/exec.c: one string may take 32 pages, and all strings with their pointers a quarter of the stack limit."""
    single = 32 * posix.sysconf("SC_PAGE_SIZE")
    total = 0
    for key, list_ in ((ARGS, args), (ENV, env)):
        for index, entry in enumerate(list_):
            size = len(fileio.fsencode(entry)) + 1
            if size > single:
                pointer = "%s/%d" % (key, index) if key == ARGS else ENV
                raise Refusal(
                    "arguments-too-long", "argument list too long: a string of %d bytes; one may have %d" % (size - 1, single - 1), pointer
                )
            total += size + POINTER_SIZE
    given = [row[2] for row in ctx.plans.get("rlimits", {}).get("list", ()) if row[1] == STACK]
    stack = given[0] if given else _syscalls.prlimit(0, STACK, None, None)[0]
    limit = max(min(stack // 4, ARG_CEILING), ARG_FLOOR)
    if total > limit:
        words = "argument list too long: args and env take %d bytes; a stack limit of %s allows %d" % (
            total, "infinity" if stack >> 63 else stack, limit,
        )  # fmt: skip
        raise Refusal("arguments-too-long", words, ARGS, "raise RLIMIT_STACK in /process/rlimits, or pass the data in a file")


def init_make_cwd(entry: Entry, run: InitRun) -> None:
    """Init, after the pivot: creates a missing working directory (0755, owned by root), by descriptor inside the root. Uses run.root_fd.
    Errors have runc's wording. The directory remains in the rootfs after delete, as with other runtimes."""
    if not entry["make_cwd"]:
        return
    try:
        fd = paths.make_dir(run.root_fd, entry["cwd"], 0o755)
    except OSError as e:
        if e.errno in (errno.EACCES, errno.EPERM):
            return  # not accessible to root (NFS, FUSE), but perhaps to the user: chdir will tell
        raise _cwd_failure(entry, e.errno or 0, CallError.of(e).call) from e
    posix.close(fd)


def _cwd_failure(entry: Entry, number: int, call: str | None, detail: int = 0) -> StepFailure:
    text = errno_text(number)
    if detail == BREAKOUT:
        text = "current working directory is outside of container mount namespace root -- possible container breakout detected"
    words = "chdir to cwd (%s) set in config.json failed: %s" % (_quoted(entry["cwd"]), text)
    return StepFailure("bad-cwd", words, pointer=CWD, call=call, errno=number)


def op_chdir(entry: Entry, run: TailRun) -> Op:
    """("CHDIR", path), as root."""
    return ("CHDIR", fileio.fsencode(entry["cwd"]))


def op_chdir_again(entry: Entry, run: TailRun) -> Op:
    """("CHDIR2", path): again as the user, if root was denied access; then getcwd(2) is checked."""
    return ("CHDIR2", fileio.fsencode(entry["cwd"]))


def op_find(entry: Entry, run: TailRun) -> Op:
    """("FIND", argv[0], PATH of the container or None)."""
    return ("FIND", fileio.fsencode(entry["args"][0]), None if entry["path"] is None else fileio.fsencode(entry["path"]))


def op_exec(entry: Entry, run: TailRun) -> Op:
    """("EXEC", argv, env). Looks up HOME if it is missing; uses run.root_fd, and run.proc or, for exec on the host side, /proc."""
    env = list(entry["env"])
    if entry["home"]:
        env.append("HOME=" + home_of(run.root_fd, entry["uid"], None if run.options.get("command") == "exec" else run.proc.reopen))
    if run.options.get("command") != "exec":  # the pid of an exec'ed process is not known here; runc uses 1
        pid = "LISTEN_PID=%d" % posix.getpid()
        env = [pid if variable == "LISTEN_PID=1" else variable for variable in env]
    return ("EXEC", tuple(fileio.fsencode(arg) for arg in entry["args"]), tuple(fileio.fsencode(variable) for variable in env))


def home_of(root_fd: int, uid: int, reopen: Callable[[int, int], int] | None = None) -> str:
    """The home directory of `uid` from /etc/passwd in the root, or /. It is taken from the first line whose third field is the number;
    names are never compared (CVE-2016-3697)."""
    for line in paths.read_lines(root_fd, "/etc/passwd", PASSWD_LIMIT, reopen):
        fields = line.split(b":")
        if len(fields) >= 6 and fields[2].isdigit() and len(fields[2]) <= 10 and int(fields[2]) == uid:
            home = fields[5]
            return fileio.fsdecode(home) if home[:1] == b"/" and b"\0" not in home and b"\r" not in home else "/"
    return "/"


def _quoted(text: str) -> str:
    return '"%s"' % quote(text)


def failure(record: FinishRecord, plans: Plans) -> StepFailure:
    """A record of finish() (kind, op, detail, errno, position, call) -> StepFailure with the wording that callers match."""
    _kind, op, detail, number, _position, call = record
    name = _syscalls.OPS[op] if op < len(_syscalls.OPS) else "?"
    call = quote(call.rstrip(b"\0").decode("ascii", "replace")) if isinstance(call, bytes) else call
    e = words_for(name, call, detail, number, plans)
    e.call, e.errno = call, number
    e.hint = e.hint or HINTS.get(detail)
    return e


HINTS = {
    6: "the kernel accepted the change but did not make it",
    8: "a short write",
    9: "the container's processes may have CAP_SYS_PTRACE and could take over a process that still has to load this profile: "
    "allow write, clone and setsid in it, or set noNewPrivileges",
}
NO_ROOM = "it takes two processes for a moment: /linux/resources/pids/limit or RLIMIT_NPROC leaves no room for the second one"
PLAIN = {
    "FILTER": ("error loading seccomp filter into kernel", "/linux/seccomp"),
    "BOUND": ("unable to apply bounding set", "/process/capabilities/bounding"),
    "CAPS": ("unable to apply caps", "/process/capabilities"),
    "NNP": ("unable to set no new privileges", "/process/noNewPrivileges"),
    "PERSONALITY": ("unable to set personality", "/linux/personality"),
    "MEMPOLICY": ("unable to set memory policy", "/linux/memoryPolicy"),
    "LANDLOCK": ("unable to restrict the program by Landlock", "/annotations/org.pyrunc.landlock"),
    "CHROOT": ("unable to enter the container's root", "/root"),
    "KEYRING": ("unable to join session keyring", None),
    "SESSION": ("unable to make the terminal the controlling one", "/process/terminal"),
    "SETNS": ("unable to join a namespace", "/linux/namespaces"),
    "CLONE": ("unable to create the program's process", None),
}


def words_for(name: str, call: str | None, detail: int, number: int, plans: Plans) -> StepFailure:
    """StepFailure (words, pointer, hint) for an operation that failed."""
    if name in ("CHDIR", "CHDIR2"):
        return _cwd_failure(plans["program"], number, call, detail)
    if name == "FIND":
        return _find_failure(plans["program"], number, detail)
    if name == "EXEC":
        return _exec_failure(plans["program"], number)
    if name == "IDS":
        return _ids_failure(plans["user"], number, call)
    words, pointer = PLAIN.get(name, ("%s failed" % name.lower(), None))
    hint = NO_ROOM if (name, number) == ("CLONE", errno.EAGAIN) else None
    return StepFailure(None, "%s: %s" % (words, errno_text(number)), pointer=pointer, hint=hint)


EXEC_REASONS = {errno.ENOENT: "program-not-found", errno.EACCES: "program-not-executable", errno.ENOEXEC: "program-wrong-format"}


def _find_failure(entry: Entry, number: int, detail: int) -> StepFailure:
    name = entry["args"][0]
    hint = None
    reason = EXEC_REASONS.get(number)
    if detail == NOT_FOUND:
        reason = "program-not-found"
        words = "executable file not found in $PATH"
        if entry.get("path") is None:
            hint = "process.env has no PATH"
    elif detail == DIRECTORY:
        words = "is a directory"
    elif detail == NO_EXEC:
        reason = "program-not-executable"
        words = errno_text(errno.EACCES)
    else:
        words = "stat %s: %s" % (quote(name), errno_text(number))
    return StepFailure(reason, "exec: %s: %s" % (_quoted(name), words), pointer=ARGS + "/0", hint=hint)


def _exec_failure(entry: Entry, number: int) -> StepFailure:
    hints = {
        errno.ENOENT: "the interpreter named in its first line or its ELF header is missing",
        errno.ENOEXEC: "neither a program for this machine nor a script beginning with #!",
        errno.E2BIG: "see RLIMIT_STACK, and how long args and env are",
        errno.ELOOP: "too many scripts that are interpreters of scripts",
    }
    return StepFailure(
        EXEC_REASONS.get(number), "exec %s: %s" % (quote(entry["args"][0]), errno_text(number)), pointer=ARGS + "/0", hint=hints.get(number)
    )


def _ids_failure(entry: User, number: int, call: str | None) -> StepFailure:
    """EINVAL means that the user namespace does not map the id."""
    unmapped = number == errno.EINVAL
    words, pointer, hint = None, "/process/user", None
    if call == "setgroups":
        pointer += "/additionalGids"
        if unmapped:
            words = "cannot set additional groups: one of them is unmapped in user namespace"
        else:
            hint = "setting groups takes CAP_SETGID, and a gid map that was made with the right to it"
    elif call == "setresgid":
        pointer += "/gid"
        words = "cannot setgid to unmapped gid %d in user namespace" % entry["gid"] if unmapped else None
    elif call == "setresuid":
        pointer += "/uid"
        words = "cannot setuid to unmapped uid %d in user namespace" % entry["uid"] if unmapped else None
    return StepFailure(
        "unmapped-id" if unmapped else None, words or "unable to set the ids: %s" % errno_text(number), pointer=pointer, hint=hint
    )
