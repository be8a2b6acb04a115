"""exec: a new process in an existing container. It runs no Python: spawn() of the extension executes the operations.

Properties that are not in process.json come from the container's config (capabilities, AppArmor profile, rlimits, scheduler, ...); seccomp
is always the container's. The process is moved into the container's cgroup before it joins any namespace.
"""

from __future__ import annotations

import _signal
import _socket
import posix
from _signal import SIGCHLD, SIGSYS

from pyrunc import log, trace
from pyrunc.cgroup import attach as cgroup_attach
from pyrunc.engine import child, foreground, handshake, host, planner, signals, status, steps
from pyrunc.engine.order import EXEC, NOT_PLANS_OF_EXEC, ONLY_CREATE
from pyrunc.engine.run import ExecRun
from pyrunc.errors import CALLER_TEXT, CallError, StateError, StepFailure, errno_text
from pyrunc.linux import _syscalls, fs, ns, paths, pidfd, tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.engine.shapes import Record
    from pyrunc.parts.sides import Json, Op
    from pyrunc.state_dir import StateDir
    from pyrunc.state_document import State

PARTS = (
    "user", "terminal", "program", "capabilities", "rlimits", "oom", "scheduling", "personality", "mempolicy", "labels", "seccomp", "fds",
)  # fmt: skip
EXECUTE_MS = 60_000  # from the second clone to execve: a file system may be slow, and a process of the container may block it
LOOK_MS = 10  # between two checks whether it has called execve
INHERITED = ("capabilities", "apparmorProfile", "selinuxLabel", "rlimits", "oomScoreAdj", "scheduler", "ioPriority", "execCPUAffinity")
# user first: joining what it owns requires its privileges; but see _namespaces(). pid only affects the second child.
JOINS = ("user", *ns.ORDER)


def check(state_dir: StateDir, ignore_paused: bool = False) -> None:
    """StateError unless a process can join now."""
    now = status.of(state_dir)
    if now == "paused" and not ignore_paused:
        raise StateError("exec-paused", CALLER_TEXT["exec-paused"], state_dir.id, now)
    if now in ("stopped", "creating"):
        raise StateError("exec-stopped", CALLER_TEXT["exec-stopped"], state_dir.id, now)


def prepare(state_dir: StateDir, config: dict[str, Json], process: dict[str, Json], settings: Mapping[str, object]) -> ExecRun:
    """Plans the process, based on the stored plans of the container; the `config` of the Run is that of the process → Run."""
    own = config.get("process", {})
    merged = {**{k: own[k] for k in INHERITED if k in own}, **process}
    umask = own.get("user", {}).get("umask")
    if umask is not None and "umask" not in merged.get("user", {}):
        merged["user"] = {**merged.get("user", {}), "umask": umask}
    config["process"] = merged
    # where the mount namespace is the container's own, joining it is enough, and nothing has to be known of the root
    stored = state_dir.plan(NOT_PLANS_OF_EXEC if state_dir.state.get("root") else (*NOT_PLANS_OF_EXEC, "root"))
    root = state_dir.path.rpartition("/")[0]
    # the receiver of the container's notifications also gets those of processes that join it
    receiver = planner.ask(stored, "seccomp", "receiver")
    ctx = planner.Context(
        state_dir.id, state_dir.state["bundle"], config, {**settings, "command": "exec", "seccomp_receiver": receiver}, root
    )
    ctx.plans = stored.copy()
    for part in PARTS:
        ctx.plans.pop(part, None)  # type: ignore[misc]  # by name
    planner.plan(config, ctx, PARTS)
    ctx.log_warnings()
    run = ExecRun(state_dir, config, ctx.plans, ctx.options, root)
    run.may_be_traced = planner.module("capabilities").may_trace(stored)
    return run


def execute(run: ExecRun) -> None:
    """Starts the process, our child, as run.pid and run.pidfd. Returns when the program has been executed."""
    state_dir = run.container
    opened = []
    cancel = run.cancel = signals.Cancel()
    try:
        init_fd = pidfd.open_init(state_dir.state["pid"], state_dir.state["start_time"])
        if init_fd < 0:
            raise StateError("exec-stopped", CALLER_TEXT["exec-stopped"], state_dir.id, "stopped")
        opened.append(init_fd)
        run.root_fd = root_of(state_dir.state)
        opened.append(run.root_fd)
        joins = _namespaces(run, opened)
        if pidfd.wait(init_fd, 0):  # what was opened may belong to another process with the same pid
            raise StateError("exec-stopped", CALLER_TEXT["exec-stopped"], state_dir.id, "stopped")
        steps.walk(EXEC, "prepare", "host", run)
        _terminal(run)
        run.waits = _waits(run)
        ops = steps.operations(EXEC, "tail", "host", run, _own_operations(run))
        before = [op for op in steps.operations(EXEC, "outside", "host", run, {}) if op is not None]
        if run.userns_pid and not _is_in(run.userns_pid, run.userns):  # what was read about it may belong to another namespace
            words = "pid %d has left the container's user namespace meanwhile" % run.userns_pid
            raise StateError("user-namespace-left", words, state_dir.id, "running", hint="try again")
        cgroup_fd = _cgroup(run, before, opened)
        began = trace.now()
        _spawn(run, joins, ops, before, cgroup_fd, cancel)
        trace.step("engine.spawn", began)
    finally:
        run.cancel = None
        cancel.close()
        for fd in opened:
            posix.close(fd)


def _namespaces(run: ExecRun, opened: list[int]) -> tuple[tuple[int, int], ...]:
    """[(fd, type)] of the namespaces that the container was created with, except those that are ours."""
    recorded = run.container.state.get("namespaces")
    joins = []
    spaces = planner.module("namespaces")
    for kind in JOINS:
        if spaces.is_shared(run.plans, kind) if recorded is None else kind not in recorded:
            continue
        fd = namespace_of(run.container.state, kind)
        if recorded is None and kind == "user" and spaces.is_new(run.plans, kind):
            fd = ns.made_in_ours(fd)
        opened.append(fd)
        joins.append((fd, ns.FLAGS[kind]))
    if joins and joins[0][1] == ns.FLAGS["user"]:  # before it those with another owner, over which we have no privileges from inside
        user_fd = joins[0][0]
        others = [join for join in joins[1:] if not ns.is_owned_by(join[0], user_fd, below=True)]
        joins = [*others, *(join for join in joins if join not in others)]
        run.userns = fs.fstat(user_fd).st_ino
        run.userns_pid = run.init_pid if _is_in(run.init_pid, run.userns) else process_in(run.container.state, "user", run.userns)
    return tuple(joins)


def _is_in(pid: int, inode: int) -> bool:
    """Whether a process is in the user namespace with this inode. It can leave it, but never return."""
    try:
        return posix.stat("/proc/%d/ns/user" % pid).st_ino == inode
    except OSError:
        return False


def namespace_of(state: State, kind: str) -> int:
    """fd of the namespace that the container was created with, or of init's if that is not recorded. All code that enters a container uses
    it, as init may have moved. The caller checks that init is still running after opening all of them."""
    fd = fs.open("/proc/%d/ns/%s" % (state["pid"], ns.FILES[kind]), posix.O_RDONLY)  # in our own procfs, so it is a namespace
    recorded = state.get("namespaces")
    if recorded is None or kind not in recorded or fs.fstat(fd).st_ino == recorded[kind]:
        return fd
    return _left(state, kind, recorded[kind], fd)


def _left(state: State, kind: str, inode: int, fd: int) -> int:
    """Init has moved to a namespace that it created: the container's is an ancestor of it, or that of another process of the container. If
    no process is left in it, init's is used, which also belongs to the container. Closes fd, or returns it."""
    found = ns.ancestor(fd, inode) if kind == "user" else -1
    pid = 0 if found >= 0 else process_in(state, kind, inode)
    if pid:
        try:
            found = fs.open("/proc/%d/ns/%s" % (pid, ns.FILES[kind]), posix.O_RDONLY)
        except OSError as e:
            log.debug("exec: process %d has exited: %s" % (pid, e))
        else:
            if posix.fstat(found).st_ino != inode:  # another process with the same pid
                posix.close(found)
                found = -1
    if found < 0:
        log.debug("exec: nobody is left in the %s namespace that the container was made with" % kind)
        return fd
    posix.close(fd)
    return found


def root_of(state: State) -> int:
    """fd of the container's root: that of the mount namespace that it was created with, where it has its own, wherever init is by now, which
    may also have called chroot(2). OSError."""
    pid = state["pid"]
    recorded = (state.get("namespaces") or {}).get("mount")
    if recorded is not None and posix.stat("/proc/%d/ns/mnt" % pid).st_ino != recorded:
        pid = process_in(state, "mount", recorded) or pid
    fd = posix.open("/proc/%d/root" % pid, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    return fd if recorded is None or "root" in state else paths.top(fd)


def process_in(state: State, kind: str, inode: int) -> int:
    """The pid of a process of the container's cgroups in a namespace; 0 if there is none."""
    from pyrunc.cgroup import kill as cgroup_kill

    for pid in cgroup_kill.procs(state.get("cgroup_paths") or {}):
        try:
            if posix.stat("/proc/%d/ns/%s" % (pid, ns.FILES[kind])).st_ino == inode:
                return pid
        except OSError:
            continue  # it has exited
    return 0


def _terminal(run: ExecRun) -> None:
    """Opens the pty: its slave becomes stdio of the process, its master is sent to the caller's socket."""
    steps.walk(EXEC, "pty", "host", run)
    if "master" not in run.fds:
        return
    master, console = run.fds.pop("master"), run.fds.pop("console")
    try:
        if run.options.get("foreground"):
            foreground.fit(master)  # before the program runs, because it may ask for the size immediately
        tty.send_master(console, master)
    finally:
        posix.close(master)
        if not run.options.get("foreground"):
            posix.close(console)


def _own_operations(run: ExecRun) -> dict[str, Op | None]:
    return {
        "op_session": ("SESSION", planner.module("fds").controlling(run.plans)),
        "op_sync": ("SYNC",),
        "op_close": ("CLOSE", planner.module("fds").kept(run.plans)),
        "op_clone": ("CLONE", int(run.may_be_traced), int(run.waits)),
    }


def _waits(run: ExecRun) -> bool:
    """Whether the process that becomes the program must wait until we know its pid: because a part needs the pid, or because the kernel
    discards the exit status, and so releases the pid, if the process exits (our caller ignores SIGCHLD)."""
    if _signal.getsignal(SIGCHLD) is _signal.SIG_IGN:
        return True
    for phase in ("cloned", "listener"):
        for row in steps.rows(EXEC, phase):
            if row[1] in run.plans and planner.module(row[1]).exec_waits(planner.entry(run.plans, row[1])):
                return True
    return False


def _cgroup(run: ExecRun, before: list[Op], opened: list[int]) -> int:
    """Moves the process into the container's cgroups: with a descriptor for clone3 on v2; on v1 it writes itself to `tasks`, which unlike
    cgroup.procs does not wait for a grace period."""
    paths = run.container.state.get("cgroup_paths") or {}
    if not paths:
        return -1
    cgroup_fd, folders = cgroup_attach.targets(paths, run.init_pid, run.options.get("cgroup"))
    opened.extend(folders)
    if cgroup_fd >= 0:
        opened.append(cgroup_fd)
    before += [("WRITE", fd, "tasks", b"0") for fd in folders]
    return cgroup_fd


def _spawn(
    run: ExecRun, joins: tuple[tuple[int, int], ...], ops: list[Op | None], before: list[Op], cgroup_fd: int, cancel: signals.Cancel
) -> None:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    link = run.link = handshake.Link(ours)
    slave = run.fds.get("slave", -1)
    run.strangers = frozenset(child.children())  # the process that executed us may have left some
    try:
        try:
            words = (joins, ops, theirs.fileno())
            more: Any = {  # keywords of three types, which the stub of spawn() declares
                "stdio": (slave, slave, slave),
                "before": tuple(before),
                "check": cancel.check,
            }
            try:
                run.pid, run.pidfd = _syscalls.spawn(cgroup_fd, *words, **more)
            except CallError as e:
                if cgroup_fd < 0:
                    raise
                run.plans = {**run.container.plan(ONLY_CREATE), **run.plans}
                if not cgroup_attach.may_attach(e, run):
                    raise
                run.attach_to = cgroup_fd  # while it waits at op_sync
                run.pid, run.pidfd = _syscalls.spawn(-1, *words, **more)
        finally:
            theirs.close()
        _serve(run, link, cancel)
    except handshake.Late:
        end(run)
        late = "the program was not executed within %d seconds: a process of the container stops or traces it" % (EXECUTE_MS // 1000)
        raise StepFailure("held", late, "exec.spawn", "host", "/process/args") from None
    except OSError as e:
        end(run)
        failure = CallError.of(e)
        if before and failure.call in ("openat2", "write"):  # the calls before joining
            failure.words = failure.words or "cannot enter the container's cgroup: %s" % errno_text(e.errno)
        raise StepFailure.from_oserror(failure, "exec.spawn", "host") from e
    except BaseException:
        end(run)
        raise
    finally:
        link.close()
        if slave >= 0:
            posix.close(slave)
            run.fds["slave"] = -1


def _serve(run: ExecRun, link: handshake.Link, cancel: signals.Cancel) -> None:
    """Handles messages until the socket is closed by execve."""

    def died() -> StepFailure:
        return _died(run)

    def set_limits() -> None:
        if run.attach_to >= 0:
            cgroup_attach.attach(run, run.container.state, run.pid, run.attach_to)
        steps.walk(EXEC, "limits", "host", run)

    def limits(_data: object) -> None:
        host.while_it_waits(run, set_limits, died)

    def listener(record: Record) -> None:
        host.while_it_waits(run, lambda: host.deliver_listener(EXEC, run, record), died)

    def cloned(record: Record) -> int:
        host.replace(run, record[4])
        run.joined = True
        if run.waits:
            host.while_it_waits(run, lambda: steps.walk(EXEC, "cloned", "host", run), died)
        return EXECUTE_MS

    def failed(record: Record) -> None:
        raise steps.tail_failure(record, run.plans, EXEC)

    def ended(_data: object) -> bool:
        if not run.joined or not _has_executed(run):
            raise died()
        return True

    handshake.serve(
        link,
        cancel,
        {
            handshake.C_SYNC: limits,
            handshake.C_LISTENER: listener,
            handshake.C_FAIL: failed,
            handshake.C_CLONED: cloned,
            handshake.END: ended,
        },
        run.pidfd if run.waits else -1,
    )


def _has_executed(run: ExecRun) -> bool:
    """Whether the process has called execve or does so now. The connection may end a moment before that shows (seen with Linux 6.12 on
    aarch64), or long before: a process that traces it can shut it down."""
    for _ in range(host.GONE_MS // LOOK_MS):
        if pidfd.has_executed(run.pid):
            return True
        if pidfd.wait(run.pidfd, LOOK_MS):
            break
    return pidfd.has_executed(run.pid)


def _died(run: ExecRun) -> StepFailure:
    """The error for a process that joins, or its child, that exited without a report, or that only pretends to have exited."""
    if not pidfd.wait(run.pidfd, host.GONE_MS):
        held = "the process has closed its connection but does not exit: a process of the container stops or traces it"
        return StepFailure("held", held, "exec.spawn", "host", "/process/args")
    info = child.reap(run.pidfd)
    cause = "its status is unknown" if info is None else child.cause(info)
    if info is not None and info.si_code != posix.CLD_EXITED and info.si_status == SIGSYS:
        return StepFailure(
            "filter-kills", "exec died: %s (SIGSYS: the seccomp profile forbids execve)" % cause, "seccomp.op_late", "init", "/linux/seccomp",
            hint="allow execve",
        )  # fmt: skip
    return StepFailure("init-died", "exec died before the program was executed: %s" % cause, "exec.spawn", "init", "/process/args")


def end(run: ExecRun) -> None:
    """Kills and reaps what was created: the process that joins, its child, or the program that can't be reported to the caller. A process that
    is frozen in a cgroup of version 1 dies when it is thawed; this is not waited for."""
    if run.pidfd < 0:
        return
    if child.kill(run.pidfd) and not run.joined:  # the first may have been killed right after its clone, when the second's pid is not known
        for pid in child.children():
            if pid not in run.strangers:
                child.end(pid)
