"""Mounts and device nodes of a running container: a short-lived child enters its mount namespace.

    host                                   child
      | -- PLACED ---------------------------> |   it is in the container's cgroup, if possible
      | <------------------------ ASK mounts - |   a source that the container's root may not access
      | -- ANSWER (fds) ---------------------> |
      | <------------------------ MADE notes - |   everything is mounted, nothing is attached
      | -- GO -------------------------------> |   the record of what will be attached is on disk
      | <------------------------------- DONE |   or FAILED: what was attached is unmounted again

The child remains in the host's pid namespace, is not dumpable, and imports nothing from the start (engine/barrier.py). It first joins the
user namespace and is root there, so that directories it creates have the right owner; in a private copy of the host's mount namespace it
mounts as init does at create. It does not execute or wait for anything in the container.
"""

from __future__ import annotations

import _signal
import posix
from _signal import SIGCHLD, SIGKILL

from pyrunc import fileio, trace
from pyrunc.cgroup import attach
from pyrunc.engine import barrier, child, handshake, init, lifecycle, planner, signals, status, steps
from pyrunc.engine import exec as engine_exec
from pyrunc.errors import CALLER_TEXT, CallError, Refusal, StateError, StepFailure, quote
from pyrunc.linux import _syscalls, fs, mount, ns, paths, pidfd, proc
from pyrunc.linux import constants as c
from pyrunc.linux import prctl as _prctl
from pyrunc.parts.mounts import init as verbs
from pyrunc.parts.mounts import live

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn, TypeVar

    from pyrunc.engine.handshake import Link
    from pyrunc.engine.run import Run
    from pyrunc.engine.shapes import Act, Ask, Data, Failed, LiveNote, Made, Work
    from pyrunc.parts.mounts.live import Recorded
    from pyrunc.parts.mounts.plan import Entry as Planned
    from pyrunc.parts.mounts.plan import Item
    from pyrunc.parts.sides import Entry, Json
    from pyrunc.state_dir import StateDir
    from pyrunc.state_document import LiveMount

    R = TypeVar("R")

MADE, GO, DONE = b"m", b"g", b"f"
TABLE_LIMIT = 64 << 20


def add(state_dir: StateDir, options: Mapping[str, object], wanted: list[Json]) -> None:
    """Mounts the elements of `wanted` (as in /mounts), either all or none. The container is locked. Refusal, StateError, StepFailure."""
    run = _run(state_dir, options)
    ctx = planner.Context(state_dir.id, run.bundle, {"mounts": wanted}, {"command": "mounts"}, run.root)
    ctx.plans = run.plans.copy()
    ctx.plans.pop("mounts", None)
    ctx.plans.pop("notify", None)
    entry = planner.module("mounts").plan({"/mounts": wanted}, ctx)
    if entry is None:
        return
    live.check(entry)
    run.plans["mounts"] = entry
    before = state_dir.state.get("mounts") or []
    planned: list[LiveMount] = []

    def made(notes: list[LiveNote]) -> None:
        for note, item in zip(notes, wanted, strict=True):
            one: LiveMount = {"destination": note["destination"], "id": note["id"], "unique": note["unique"]}
            one.update(_shown(item))
            planned.append(one)
        state_dir.record("mounts", before + planned)

    try:
        _go(run, _add, entry, made)
    except BaseException:
        if planned:  # they were unmounted again; if that failed as well, we still own them
            there = present(state_dir)
            state_dir.record("mounts", before + [one for one in planned if one["id"] in there])
        raise


def _shown(asked: Json) -> Json:
    """The keys of a LiveMount that come from the config, in its notation, for `list`."""
    shown = {key: asked[key] for key in ("source", "type", "options") if asked.get(key)}
    return {**shown, "nofollow": True} if "dest-nofollow" in asked.get("options", ()) else shown


def remove(state_dir: StateDir, options: Mapping[str, object], destinations: Sequence[str]) -> None:
    """Unmounts live mounts by their destinations, the latest first if there are several, including mounts below them. StateError for a
    destination where nothing was added; StepFailure if something else is mounted there now."""
    run = _run(state_dir, options)
    records = state_dir.state.get("mounts") or []
    chosen = []
    for destination in destinations:
        found = [one for one in records if one["destination"] == paths.clean(destination) and one not in chosen]
        if not found:
            words = "no mount was added on %s" % quote(destination)
            raise StateError(
                "not-added", words, state_dir.id, hint="'mounts list' shows the added ones; mounts of the config can't be removed"
            )
        chosen.append(found[-1])
    there = present(state_dir)
    latest_first = [one for one in reversed(records) if one in chosen and one["id"] in there]
    try:
        _go(run, _remove, latest_first, lambda _notes: None)
    finally:
        there = present(state_dir)
        state_dir.record("mounts", [one for one in records if one["id"] in there])


def listed(state_dir: StateDir) -> list[dict[str, Json]]:
    """[{"destination", "type", "source", "options", "origin": "config" or "live", "present": of live ones}]."""
    found = [{**_columns(one), "origin": "config"} for one in state_dir.config().get("mounts") or ()]
    records = state_dir.state.get("mounts") or []
    there = present(state_dir) if records else ()
    return found + [{**_columns(one), "origin": "live", "present": one["id"] in there} for one in records]


def is_destination(state_dir: StateDir, path: str) -> bool:
    """Whether a mount of the config, or an added one, exists."""
    return paths.clean(path) in [paths.clean(one["destination"]) for one in listed(state_dir)]


def _columns(one: Json) -> dict[str, Json]:
    return {
        "destination": one["destination"], "type": one.get("type") or "", "source": one.get("source") or "",
        "options": one.get("options") or [],
    }  # fmt: skip


def present(state_dir: StateDir) -> set[int]:
    """Ids of the mounts in the mount namespace that the container was created with; none if its init has exited."""
    state = state_dir.state
    if not status.is_alive(state):
        return set()
    try:
        pid = state["pid"]
        recorded = (state.get("namespaces") or {}).get("mount")
        if recorded is not None and posix.stat("/proc/%d/ns/mnt" % pid).st_ino != recorded:
            pid = engine_exec.process_in(state, "mount", recorded) or pid
        text = fileio.read_file("/proc/%d/mountinfo" % pid, TABLE_LIMIT)
    except OSError:
        return set()
    return {int(line.partition(b" ")[0]) for line in text.split(b"\n") if line}


def nodes(run: Run, added: list[Entry], removed: list[Entry]) -> None:
    """Creates and removes device nodes: entries from devices.live_plan. If one fails, the created ones are removed again. StepFailure."""
    if removed or added:
        planner.module("devices")  # loaded here: the child imports nothing
        _go(run, _nodes, {"remove": removed, "add": added}, lambda _notes: None)


# -- host side -----------------------------------------------------------------------------------------------------------


def _run(state_dir: StateDir, options: Mapping[str, object]) -> Run:
    now = status.of(state_dir)
    if now not in status.ALIVE:
        raise StateError("not-running", CALLER_TEXT["not-running"], state_dir.id, now)
    return lifecycle.run_of(state_dir, options)


def _go(run: Run, act: Act, work: Work, made: Made) -> None:
    """Starts the child, which does act(run, work), and answers it until it is done. made(notes) is called before GO."""
    opened: list[int] = []
    planner.module("root")  # loaded here: the child imports nothing
    cancel = run.cancel = signals.Cancel()
    try:
        joins = _open(run, opened, act is _nodes)
        cgroup_fd, folders = _charged(run, opened) if act is _add else (-1, [])
        link, theirs = handshake.pair()
        run.link = link
        try:
            pid, fd = _clone(run, cgroup_fd)
            if pid == 0:
                link.close()
                _child(run, theirs, joins, act, work, folders)
        finally:
            theirs.close()
        opened.append(fd)
        try:
            if run.attach_to >= 0:
                attach.attach(run, run.stored.state, pid, run.attach_to)
            link.send(handshake.PLACED)
            _serve(run, link, cancel, work, made)
        except handshake.CLOSED:
            raise _killed() from None
        finally:
            child.kill(fd)
    finally:
        run.cancel = None
        cancel.close()
        if run.link is not None:
            run.link.close()
        fs.close(*opened)


def _clone(run: Run, cgroup_fd: int) -> tuple[int, int]:
    """(pid, pidfd) of the child, which starts in its cgroup of version 2, if it has one. If we are not permitted to put it there (a user who
    calls from outside the delegated cgroup), run.attach_to is the cgroup that it has to be moved to."""
    try:
        return _syscalls.clone3(0, SIGCHLD, cgroup_fd)
    except CallError as e:
        if cgroup_fd < 0 or not attach.may_attach(e, run):
            raise StepFailure.from_oserror(e, "mounts.join", "host") from e
    run.attach_to = cgroup_fd
    return _syscalls.clone3(0, SIGCHLD, -1)


def _open(run: Run, opened: list[int], may_share: bool) -> list[tuple[int, str]]:
    """Sets run.root_fd; returns [(fd, kind)] of the namespaces to join, user first: those that the container was created with, even if init
    has moved. may_share: the container may share the host's mount namespace."""
    state = run.stored.state
    init_fd = pidfd.open_init(state["pid"], state["start_time"])
    if init_fd < 0:
        raise StateError("not-running", CALLER_TEXT["not-running"], run.id, "stopped")
    opened.append(init_fd)
    run.root_fd = posix.open("/proc/%d/root" % run.pid, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    opened.append(run.root_fd)
    joins = []
    recorded = state.get("namespaces")
    for kind in ("user", "mount"):
        fd = -1 if recorded is not None and kind not in recorded else engine_exec.namespace_of(state, kind)
        if fd >= 0:
            opened.append(fd)
        if fd >= 0 and not ns.is_own(fd, kind):
            joins.append((fd, kind))
        elif kind == "mount" and not may_share:
            raise Refusal(
                "shared-mount-namespace", "the container has the host's mount namespace", "/linux/namespaces", "mount on the host"
            )
    if pidfd.wait(init_fd, 0):  # what was opened may belong to another process with the same pid
        raise StateError("not-running", CALLER_TEXT["not-running"], run.id, "stopped")
    return joins


def _charged(run: Run, opened: list[int]) -> tuple[int, list[int]]:
    """(descriptor for CLONE_INTO_CGROUP or -1, directories of version 1) of the container's memory cgroup, because data copied to a new
    tmpfs is charged to the container. A frozen cgroup of version 2 would also freeze the child; then it remains in the caller's."""
    found = run.stored.state.get("cgroup_paths") or {}
    paths = {key: path for key, path in found.items() if key == "memory" or key == "unified" and "memory" not in found}
    if not paths or "unified" in paths and status.is_frozen(run.stored.state):
        return -1, []
    cgroup_fd, folders = attach.targets(paths, run.pid)
    opened += folders if cgroup_fd < 0 else [*folders, cgroup_fd]
    return cgroup_fd, folders


def _serve(run: Run, link: Link, cancel: signals.Cancel, work: Work, made: Made) -> None:
    def answer(data: Ask) -> None:
        reply, fds = steps.call("mounts", "host_answer", "host", work, run, data["request"])
        link.send(handshake.ANSWER, reply, fds)
        fs.close(*fds)

    def go(notes: list[LiveNote]) -> None:
        made(notes)
        link.send(GO)

    def failed(data: Failed) -> None:
        raise steps.rebuild(data, "child")

    def ended(_data: object) -> None:
        raise _killed()

    handlers: dict[bytes, Callable[[Data], bool | None]] = {
        handshake.ASK: answer, MADE: go, handshake.STAMPS: trace.add, handshake.FAILED: failed, DONE: lambda _data: True,
        handshake.END: ended,
    }  # fmt: skip
    handshake.serve(link, cancel, handlers)


def _killed() -> StepFailure:
    return StepFailure("child-killed", "the process that joined the container was killed", "mounts.join", "child")


# -- the child -----------------------------------------------------------------------------------------------------------


def _child(run: Run, link: Link, joins: list[tuple[int, str]], act: Act, work: Work, folders: list[int]) -> NoReturn:
    """Never returns."""
    try:
        _signal.set_wakeup_fd(-1)  # the pipe belongs to the host side
        barrier.close()
        _prctl.set_pdeathsig(SIGKILL)
        _prctl.set_dumpable(False)
        run.cancel, run.link = None, link
        link.expect(handshake.PLACED)
        for folder in folders:
            fileio.write_all(posix.open("tasks", posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=folder), b"0")
        trace.begin()
        run.proc = proc.Proc().prepare()
        for fd, kind in joins:
            if kind == "user":
                _become_root(fd)
        act(run, work, next((fd for fd, kind in joins if kind == "mount"), -1))
        link.send(DONE)
        posix._exit(0)
    except EOFError:
        posix._exit(1)  # the host side has died
    except BaseException as e:
        init.report(link, e)
    finally:
        posix._exit(1)


def _become_root(fd: int) -> None:
    """Becomes the container's root, like init at create. Changing ids may make a process dumpable again."""
    ns.join(fd, "user")
    posix.setresgid(0, 0, 0)
    posix.setresuid(0, 0, 0)
    try:
        posix.setgroups([])
    except PermissionError:
        pass  # a user namespace that forbids it; the groups grant nothing that matters for the mount
    _prctl.set_dumpable(False)
    _prctl.set_pdeathsig(SIGKILL)


def _add(run: Run, entry: Planned, mount_ns_fd: int) -> None:
    """Creates all mounts, then attaches them in order: a later one may be on top of an earlier one."""
    if live.needs_own_namespace(entry):
        _syscalls.unshare(c.CLONE_NEWNS)
    items = live.items(entry)
    trees = []
    for item in items:
        trees.append(_named(live.make, item, item, entry, run))
    run.peer.send(MADE, [live.note(item, tree) for item, tree in zip(items, trees, strict=True)])
    run.peer.expect(GO)
    _enter(run, mount_ns_fd)
    attached = []
    try:
        for item, tree in zip(items, trees, strict=True):
            _named(live.attach, item, item, tree, run)
            attached.append(tree)
    except BaseException:
        for tree in reversed(attached):
            mount.detach(tree, run.proc)
        raise


def _enter(run: Run, mount_ns_fd: int) -> None:
    """Enters the mount namespace. If it is the container's own, its root is the container's root; init's root may be in another namespace
    by now."""
    ns.join(mount_ns_fd, "mount")
    if planner.module("root").has_own_namespace(run.plans):
        run.root_fd = posix.open("/", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)


def _named(act: Callable[..., R], item: Item, *args: object) -> R:
    try:
        return act(*args)
    except (OSError, StepFailure) as e:
        failure = verbs.failure(item, e)
        failure.step, failure.side = "mounts.live_" + act.__name__, "child"
        raise failure from None


def _remove(run: Run, records: Sequence[Recorded], mount_ns_fd: int) -> None:
    _enter(run, mount_ns_fd)
    for record in records:
        try:
            live.remove(record, run)
        except OSError as e:
            words = "cannot unmount %s: " % quote(record["destination"])
            failure = StepFailure.from_oserror(e, "mounts.live_remove", "child")
            failure.words = words + failure.words
            raise failure from None


def _nodes(run: Run, work: dict[str, list[Entry]], mount_ns_fd: int) -> None:
    sources = []
    if mount_ns_fd >= 0 and planner.module("devices").live_binds(work["add"]):
        _syscalls.unshare(c.CLONE_NEWNS)  # to access the host's nodes as the container's root, like init
    for entry in work["add"]:
        sources.append(steps.call("devices", "live_source", "child", entry, run))
    run.peer.send(MADE, [])
    run.peer.expect(GO)
    if mount_ns_fd >= 0:
        _enter(run, mount_ns_fd)
    made = []
    try:
        for entry, tree in zip(work["add"], sources, strict=True):
            if steps.call("devices", "live_make", "child", entry, run, tree):
                made.append(entry)
        for entry in work["remove"]:
            steps.call("devices", "live_remove", "child", entry, run)
    except BaseException:
        for entry in made:
            steps.call("devices", "live_remove", "child", entry, run)
        raise
