"""The host side of create: reserves the id, executes its rows, clones init, answers it, and undoes everything if a row fails."""

from __future__ import annotations

import errno
import posix
import time
from _signal import SIGKILL, SIGSYS

from pyrunc import fileio, log, store, timestamps, trace
from pyrunc.engine import child, gate, handshake, init, pid_output, planner, signals, steps
from pyrunc.engine.order import CREATE
from pyrunc.errors import Bug, CallError, HookFailure, PyruncError, StepFailure, errno_text
from pyrunc.linux import jsonbytes, pidfd
from pyrunc.state_dir import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrunc.engine.handshake import Link
    from pyrunc.engine.run import ExecRun, Run
    from pyrunc.engine.shapes import Ask, Data, Failed, Record, Table

DYING_MS = 1000
GONE_MS = 10_000  # from the end of the connection to the exit: a process of another container may hold init's child
READY_MS = 60_000  # from the clone of that child to READY
LISTENER = "anon_inode:seccomp notify"  # seccomp(2), as /proc/PID/fd shows it
CLONED = "cloned"  # the phase in which init has been replaced by its child
AT_SETUP = steps.IN_INIT + "error during container init: "


class Undo:
    """The stack of started operations. Each undo is tried separately: one that fails must not prevent the others."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.done: list[tuple[str, str]] = []

    def note(self, part: str, verb: str) -> None:
        name = "undo_" + verb.partition("_")[2]
        if hasattr(planner.module(part), name):
            self.done.append((part, name))

    def all(self) -> None:
        while self.done:
            part, name = self.done.pop()
            try:
                steps.call(part, name, "host", planner.entry(self.run.plans, part), self.run)
            except (PyruncError, OSError) as e:
                log.warn("undo %s.%s: %s" % (part, name, e))


def create(run: Run, warnings: list[list[str]]) -> None:
    """Brings the container to `created`. On any failure everything is undone, and the first error is raised."""
    cancel = run.cancel = signals.Cancel()
    undo = Undo(run)
    try:
        began = trace.now()
        reserve(run, warnings)
        trace.step("store.reserve", began)
        try:
            _make(run, undo, cancel)
            cancel.check()
            _publish(run)
        except OSError as e:  # from the engine's own calls: no descriptor is left, or the disk is full
            failure = StepFailure.from_oserror(e, "engine.create", "host")
            cancel.ignore()
            _unwind(run, undo, failure)
            raise failure from e
        except BaseException as e:
            cancel.ignore()
            _unwind(run, undo, e)
            raise
    finally:
        run.cancel = None
        cancel.close()
        if run.link is not None:
            run.link.close()
        if run.state_dir is not None:
            run.state_dir.unlock()


def reserve(run: Run, warnings: list[list[str]]) -> None:
    """Reserves the id and records everything that is known about the container. StateError if the id is in use; undone by
    state_dir.forget()."""
    state_dir = run.state_dir = store.reserve(run.root, run.id)
    fds = planner.module("fds")
    try:
        state_dir.state = {
            "version": VERSION,
            "id": run.id,
            "bundle": run.bundle,
            "rootfs": planner.module("root").path_of(run.plans),
            "annotations": run.annotations,
            "created": timestamps.rfc3339(time.time_ns()),
            "status": "creating",
            "pid": 0,
            "start_time": 0,
            "boot_id": pidfd.boot_id(),
            "owner": posix.geteuid(),
            "cgroup_paths": {},  # set by cgroups.host_make, once it is certain that no other process is in them
            "own_pid_ns": planner.module("namespaces").own_pid_ns(run.plans["namespaces"]),
            "hook_kinds": planner.ask(run.plans, "hooks", "kinds") or [],
            "notify": planner.module("notify").has_supervisor(run.plans),
            "warnings": warnings,
            # restore replaces these with its own
            "stdio": fds.streams_of("self") if fds.inherits_stdio(run.plans) else [],
        }
        if not planner.module("program").has_process(run.plans):
            state_dir.state["no_process"] = True
        state_dir.create("plan.json", jsonbytes.by_lines({**run.plans}))
        state_dir.save()
        state_dir.create("config.json", jsonbytes.by_lines(run.config))
    except OSError as e:
        state_dir.forget()
        run.state_dir = None
        words = "cannot write %s: %s" % (run.root + "/" + run.id, errno_text(e.errno))
        raise StepFailure.from_oserror(CallError.of(e, words=words, hint="is the disk full?"), "store.reserve", "host") from e


def _make(run: Run, undo: Undo, cancel: signals.Cancel) -> None:
    steps.walk(CREATE, "prepare", "host", run, undo)
    state_dir = run.stored
    gate_fd, result_fd = gate.make(state_dir)
    run.link, theirs = handshake.pair()
    log.debug("nsexec started: making the container's first process and its namespaces")  # runc's wording, here and below
    began = trace.now()
    pid, fd = _clone(run, theirs, gate_fd, result_fd)
    trace.step("engine.clone", began)
    run.pid, run.pidfd = pid, fd
    theirs.close()
    posix.close(gate_fd)
    posix.close(result_fd)
    state_dir.state["start_time"] = pidfd.start_time(pid)
    state_dir.record("pid", pid)
    steps.walk(CREATE, "placed", "host", run, undo)
    _send(run, handshake.PLACED)
    _serve(run, undo, cancel)


def _clone(run: Run, theirs: Link, gate_fd: int, result_fd: int) -> tuple[int, int]:
    """clone3, in the way that the namespaces require. The child calls init.main and never returns."""
    pid, fd = planner.module("namespaces").clone(run.plans["namespaces"], run)
    if pid == 0:
        run.cancel = None
        run.peer.close()
        run.stored.close()
        init.main(run, theirs, gate_fd, result_fd)
    return pid, fd


def _send(run: Run, kind: bytes, data: Data = None, fds: Sequence[int] = ()) -> None:
    try:
        run.peer.send(kind, data, fds)
    except handshake.CLOSED:  # init's end is closed; after any other error there would be no exit to wait for
        raise _died(run) from None


def while_it_waits(run: Run, act: Callable[[], object], died: Callable[[], PyruncError]) -> None:
    """Calls act() while run.pid waits for it in C, then lets it continue. If the process has exited meanwhile, the error is died(), whatever
    failed because of that."""
    try:
        act()
        run.peer.go_on()
    except handshake.CLOSED:
        raise died() from None
    except (StepFailure, OSError) as e:
        dying = e.errno in (errno.ESRCH, errno.EBADF)  # its descriptors are closed a moment before its exit is visible
        if not pidfd.wait(run.pidfd, DYING_MS if dying else 0):
            raise
        raise died() from e


def _serve(run: Run, undo: Undo, cancel: signals.Cancel) -> None:
    """Answers init until it is READY."""
    phase = ["setup"]

    def hooks(_data: object) -> None:
        log.debug("child process in init(): namespaces, root and mounts are set up")
        try:
            steps.walk(CREATE, "hooks", "host", run, undo)
        except StepFailure as e:
            if not pidfd.wait(run.pidfd, 0):
                raise
            raise _died(run, "hooks") from e  # the failure is a consequence: systemd removes the cgroup of a dead init
        phase[0] = "enter"
        _send(run, handshake.HOOKS_DONE)

    def limits(_data: object) -> None:
        while_it_waits(run, lambda: steps.walk(CREATE, "limits", "host", run, undo), died)

    def listener(record: Record) -> None:
        while_it_waits(run, lambda: deliver_listener(CREATE, run, record), died)

    def cloned(record: Record) -> int:
        _replace_init(run, record[4])
        phase[0] = CLONED
        while_it_waits(run, lambda: steps.walk(CREATE, "cloned", "host", run, undo), died)
        return READY_MS

    def failed(data: Failed) -> None:
        raise _named(steps.rebuild(data, "init"))

    def failed_in_tail(record: Record) -> None:
        raise steps.tail_failure(record, run.plans, CREATE)

    def died() -> PyruncError:
        return _died(run, phase[0])

    def ended(_data: object) -> None:
        raise died()

    handlers: dict[bytes, Callable[[Data], bool | int | None]] = {
        handshake.ASK: lambda data: _answer(run, data),
        handshake.HOOKS: hooks,
        handshake.STAMPS: trace.add,
        handshake.C_SYNC: limits,
        handshake.C_CLONED: cloned,
        handshake.C_LISTENER: listener,
        handshake.C_READY: lambda _record: True,
        handshake.FAILED: failed,
        handshake.C_FAIL: failed_in_tail,
        handshake.END: ended,
    }
    outside = planner.module("namespaces").is_outside(run.plans["namespaces"])
    try:
        handshake.serve(run.peer, cancel, handlers, run.pidfd if outside else -1)
    except handshake.Late:
        raise _held("was not ready within %d seconds" % (READY_MS // 1000)) from None


def _held(what: str) -> StepFailure:
    return StepFailure(
        "held", AT_SETUP + "the container's first process %s: another process in its pid namespace stops or traces it" % what, "init." + CLONED,
        "init", "/linux/namespaces",
    )  # fmt: skip


def replace(run: Run | ExecRun, pid: int) -> None:
    """The process that has joined exits, and is replaced by its child, which is also a child of ours."""
    fd = posix.pidfd_open(pid)
    child.reap(run.pidfd)
    posix.close(run.pidfd)
    run.pid, run.pidfd = pid, fd


def _replace_init(run: Run, pid: int) -> None:
    replace(run, pid)
    state_dir = run.stored
    state_dir.state["start_time"] = pidfd.start_time(pid)
    state_dir.record("pid", pid)


def _answer(run: Run, data: Ask) -> None:
    part = data["part"]
    answer, fds = steps.call(part, "host_answer", "host", planner.entry(run.plans, part), run, data["request"])
    try:
        _send(run, handshake.ANSWER, answer, fds)
    finally:
        for fd in fds:
            posix.close(fd)


def deliver_listener(table: Table, run: Run, record: Record) -> None:
    """Fetches the seccomp notify descriptor of the waiting process, and passes it to the receiver. OSError if the process has exited
    (pidfd_getfd(2))."""
    from pyrunc.linux import _syscalls

    if not steps.is_needed(table, "listener", run.plans):  # sent by a process that others may control
        raise Bug("handshake: a listener without a profile")
    run.listener_fd = _syscalls.pidfd_getfd(run.pidfd, record[4], 0)
    try:
        if posix.readlink("/proc/self/fd/%d" % run.listener_fd) != LISTENER:  # and it could pass any other descriptor
            raise Bug("handshake: a listener that is none")
        steps.walk(table, "listener", "host", run)
    finally:
        posix.close(run.listener_fd)
        run.listener_fd = -1


def _named(e: PyruncError) -> PyruncError:
    """Puts runc's wording in front of an error from init."""
    if not isinstance(e, HookFailure):
        e.words = AT_SETUP + e.words
    return e


def _last_error(run: Run, phase: str) -> PyruncError | None:
    """An error that init sent before it exited and that has not been read yet, or None. The first read may instead report that init has not
    read all of our messages. Its child, which others may control, sends only fixed records."""
    link = run.peer
    link.sock.setblocking(False)  # other processes that hold init's end send nothing
    for _ in range(2):
        try:
            kind, data, fds = link.receive()
        except OSError:
            return None
        for fd in fds:
            posix.close(fd)
        if kind == handshake.FAILED and phase != CLONED:
            return _named(steps.rebuild(data, "init"))
        if kind == handshake.C_FAIL:
            return steps.tail_failure(data, run.plans, CREATE)
    return None


def _died(run: Run, phase: str = "setup") -> PyruncError:
    """The error after init has exited: what it sent last, or else its exit status."""
    if not pidfd.wait(run.pidfd, GONE_MS):
        return _held("has closed its connection but does not exit")
    info = child.wait(run.pidfd)
    error = _last_error(run, phase)
    if error is not None:
        return error
    cause = child.cause(info)
    if info.si_code != posix.CLD_EXITED:
        if info.si_status == SIGSYS:
            cause += " (SIGSYS: the seccomp profile forbids what comes before execve)"
            return StepFailure(
                "init-died",
                AT_SETUP + "init died: " + cause,
                "seccomp.op_early",
                "init",
                "/linux/seccomp",
                hint="allow execve, write, close_range, setuid and the like",
            )
        if info.si_status == SIGKILL and _oom_killed(run):
            return StepFailure(
                "init-oom", AT_SETUP + "container init was OOM-killed (memory limit too low?)", None, "init", "/linux/resources/memory/limit",
                hint="raise the limit",
            )  # fmt: skip
    return StepFailure("init-died", AT_SETUP + "init died: " + cause, "init." + phase, "init")


def _oom_killed(run: Run) -> bool:
    """Whether init was OOM-killed, from the cgroup's counter. If the cgroup was removed with its only process (by systemd), the limit is
    assumed to be the cause."""
    paths = run.stored.state.get("cgroup_paths") or {}
    for path, name in ((paths.get("memory"), "memory.oom_control"), (paths.get("unified") or paths.get(""), "memory.events")):
        if path:
            try:
                words = fileio.read_file(path + "/" + name, 65536).split()
            except OSError:
                if planner.ask(run.plans, "resources", "limits_memory"):
                    return True
                continue
            if b"oom_kill" in words and words[words.index(b"oom_kill") + 1] != b"0":
                return True
    return False


def _publish(run: Run) -> None:
    """Everything is done: writes the state and then the pid file, because callers wait for its existence."""
    state_dir = run.stored
    state_dir.state["status"] = "created"
    record_places(run)
    state_dir.save({"trace": trace.kept()})
    for receiver in (run.options.get("pidfd_socket"), planner.module("meta").pidfd_receiver(run.plans["meta"])):
        if receiver:
            pid_output.send_pidfd(receiver, run.pidfd)
    if run.options.get("pid_file"):
        pid_output.write_pid_file(run.options["pid_file"], run.pid)


def record_places(run: Run) -> None:
    """Records init's namespaces and root before any code of the container has run: exec uses these, wherever init is by then."""
    state = run.stored.state
    try:
        state["namespaces"] = planner.module("namespaces").made(run.plans["namespaces"], run.pid)
        root = planner.module("root").identity(run.plans["root"], run.pid)
        if root is not None:
            state["root"] = root
    except FileNotFoundError:
        log.debug("init has already exited, so nothing will join it")
    except PermissionError:
        # an ordinary user may not inspect an init that can't be traced until it executes; exec then joins init's current namespaces
        state.pop("namespaces", None)
        log.debug("no permission to inspect init's namespaces")


def _unwind(run: Run, undo: Undo, error: BaseException) -> None:
    """Kills init, undoes what was started, runs the poststop hooks if other hooks were reached, and releases the id."""
    state_dir = run.stored
    if run.pidfd >= 0:
        try:
            if run.link is not None:
                run.link.hang_up()  # a child of init that has not been reported to us would wait for us
            child.kill(run.pidfd)
        except OSError as e:
            log.warn("init could not be killed: %s" % e)
    undo.all()
    if isinstance(error, HookFailure):
        steps.after_delete(run)
    if isinstance(error, PyruncError):
        error.hooks = planner.ask(run.plans, "hooks", "noted", state_dir.state)  # kept here, because the state is removed
    try:
        state_dir.forget()
    except OSError as e:
        log.warn("cannot remove %s: %s" % (state_dir.path, e))
