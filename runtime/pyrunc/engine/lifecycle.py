"""kill and delete: the end of a container."""

from __future__ import annotations

import posix
import select

from pyrunc import log, trace
from pyrunc.engine import planner, status, steps
from pyrunc.engine.order import DELETE, ONLY_CREATE
from pyrunc.engine.run import Run
from pyrunc.errors import CALLER_TEXT, CallError, PyruncError, StateError, StepFailure, errno_text
from pyrunc.linux import pidfd
from pyrunc.linux.constants import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Json
    from pyrunc.state_dir import StateDir
    from pyrunc.state_document import State

GONE_MS = 10_000  # how long delete --force waits for init to exit


def run_of(state_dir: StateDir, options: Mapping[str, object], config: dict[str, Json] | None = None, plans: Plans | None = None) -> Run:
    """A Run for verbs of later commands, with the stored plans, and the config only if it is needed."""
    plans = state_dir.plan() if plans is None else plans
    run = Run(state_dir.id, state_dir.state.get("bundle", ""), config or {}, plans, options, state_dir.path.rpartition("/")[0])
    run.state_dir = state_dir
    run.pid = state_dir.state.get("pid", 0)
    run.annotations = state_dir.state.get("annotations", {})
    return run


# -- kill ----------------------------------------------------------------------------------------------------------------


def kill(state_dir: StateDir, number: int, everyone: bool = False) -> None:
    """Sends a signal to init; with `everyone`, or for SIGKILL if the pid namespace is shared, to every process in the cgroup.

    StateError `container not running`. Takes no lock: a create or exec that holds it must not delay a stop.
    """
    state = state_dir.state
    if everyone or (number == SIGKILL and not state.get("own_pid_ns", True)):
        paths = own_cgroups(state_dir)
        if paths:
            from pyrunc.cgroup import kill as cgroup_kill

            cgroup_kill.kill_all(paths, number)
        else:
            _signal_init(state, number)
        _thaw_killed(paths, number)
        return
    if not _signal_init(state, number):
        raise StateError("not-running", CALLER_TEXT["not-running"], state_dir.id, "stopped")
    _thaw_killed(state.get("cgroup_paths") or {}, number)  # init was alive, so they are its own


def _signal_init(state: State, number: int) -> bool:
    """False if init has exited. OSError EINVAL for an unknown signal number."""
    if not status.is_alive(state):
        return False
    fd = pidfd.open_init(state["pid"], state["start_time"])
    if fd < 0:
        return False
    try:
        return pidfd.kill(fd, number)
    except OSError as e:
        raise StepFailure.from_oserror(CallError.of(e, words="unable to signal init: %s" % errno_text(e.errno)), "kill", "host") from e
    finally:
        posix.close(fd)


def _thaw_killed(paths: Mapping[str, str], number: int) -> None:
    """Thaws: on cgroup v1 a frozen task dies of SIGKILL only after it is thawed, also in a sub-cgroup that it froze itself."""
    if number == SIGKILL and paths:
        from pyrunc.cgroup import freeze

        if freeze.is_frozen(paths):
            freeze.thaw(paths)
        freeze.thaw_below(paths)


# -- delete --------------------------------------------------------------------------------------------------------------


def delete(state_dir: StateDir, options: Mapping[str, object], force: bool = False, plans: Plans | None = None) -> None:
    """Releases everything, then the id. plans: those of create, if the caller has them. StateError if the container is alive and `force` is
    not given."""
    now = status.of(state_dir)
    if now in ("running", "paused") and not force:
        raise StateError(
            "delete-alive",
            CALLER_TEXT["delete-alive"] % (state_dir.id, now),
            state_dir.id,
            now,
            hint="kill it first, or use delete --force",
        )
    if now != "stopped":
        _end(state_dir)
    destroy(state_dir, options, _salvaged(state_dir) if force and plans is None else plans)


def _salvaged(state_dir: StateDir) -> Plans:
    """The plans for delete --force. If they can't be read, the record of the cgroups in the state is used: everything else is removed with
    the directory, except that poststop hooks are no longer known."""
    try:
        return state_dir.plan(ONLY_CREATE)
    except StateError as e:
        log.debug("the plan is unreadable: %s" % e)
    entry = planner.module("cgroups").salvaged(state_dir.state)
    return {} if entry is None else {"cgroups": entry}


def _end(state_dir: StateDir) -> None:
    """Sends SIGKILL, thaws, and waits for a limited time until init has exited."""
    fd = pidfd.open_init(state_dir.state["pid"], state_dir.state["start_time"])
    try:
        kill(state_dir, SIGKILL)
    except StateError:
        log.debug("init had already exited")
    if fd >= 0:
        try:
            began = trace.now()
            gone = _wait_gone(fd, GONE_MS)
            trace.step("engine.wait_gone", began)
            if not gone:
                raise StateError(
                    "init-survives",
                    "container init still running",
                    state_dir.id,
                    hint="pid %d does not die; it may be in an uninterruptible wait" % state_dir.state["pid"],
                )
        finally:
            posix.close(fd)


def _wait_gone(fd: int, timeout_ms: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def destroy(state_dir: StateDir, options: Mapping[str, object], plans: Plans | None = None) -> None:
    """For a container whose init has exited: releases everything and the id, and runs poststop hooks."""
    run = run_of(state_dir, options, plans=state_dir.plan(ONLY_CREATE) if plans is None else plans)
    this_boot = _this_boot(state_dir)
    if "dumping" in state_dir.state and this_boot:
        _unlock(run)
    emptied = False
    if this_boot:
        answers = steps.results(DELETE, "empty", "host", run)
        emptied = bool(answers) and all(answers)
    if this_boot and not emptied:
        _end_all(own_cgroups(state_dir))
    steps.results(DELETE, "delete", "host", run, without=() if this_boot and not emptied else ("cgroups",))
    if state_dir.state.get("restore_log"):
        _sweep(*state_dir.state["restore_log"])
    began = trace.now()
    state_dir.forget()
    trace.step("store.forget", began)
    run.state_dir = None
    if steps.is_needed(DELETE, "deleted", run.plans):
        to_bundle(run.bundle)
        steps.after_delete(run)


def _end_all(paths: dict[str, str]) -> None:
    if not paths:
        return
    from pyrunc.cgroup import kill as cgroup_kill

    began = trace.now()
    cgroup_kill.end_all(paths)
    trace.step("cgroups.end_all", began)


def _unlock(run: Run) -> None:
    """Removes the lock that a killed checkpoint left on a network namespace that others may continue to use."""
    from pyrunc.engine import netlock

    left = netlock.recover(run.stored, run.plans)
    if left:
        log.warn(left)


def _sweep(folder: str, name: str) -> None:
    """Removes what the CRIU of a killed restore left in /tmp: empty directories, whose names are in its log."""
    from pyrunc.engine import criu_log

    try:
        fd = posix.open(folder, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError:
        return  # the log no longer exists, so their names are unknown
    try:
        criu_log.sweep(fd, name)
    finally:
        posix.close(fd)


def _this_boot(state_dir: StateDir) -> bool:
    return state_dir.state["boot_id"] == pidfd.boot_id()


def own_cgroups(state_dir: StateDir) -> dict[str, str]:
    """{key: path} of the container's cgroups, except those that are not the original ones: after a reboot, or if another program removed and
    recreated them, they may contain other processes."""
    paths = state_dir.state.get("cgroup_paths") or {}
    inodes = (state_dir.state.get("cgroups") or {}).get("inodes") or {}
    if not _this_boot(state_dir):
        return {}
    changed = {paths[key] for key, inode in inodes.items() if key in paths and inode and _inode(paths[key]) not in (0, inode)}
    return {key: path for key, path in paths.items() if path not in changed}


def _inode(path: str) -> int:
    try:
        return posix.stat(path, follow_symlinks=False).st_ino
    except OSError:
        return 0


def delete_broken(state_dir: StateDir, options: Mapping[str, object], error: PyruncError) -> None:
    """delete --force of a directory whose state can't be read: finds its processes through the cgroup in the plan."""
    log.debug("state is unreadable: %s" % error)
    state_dir.must_be_ours()
    try:
        plans = state_dir.plan()
    except PyruncError:
        plans = {}
    paths = planner.module("cgroups").planned_paths(plans)
    if paths:
        from pyrunc.cgroup import kill as cgroup_kill

        cgroup_kill.end_all(paths)
        run = Run(state_dir.id, "", {}, {}, options, state_dir.path.rpartition("/")[0])
        run.state_dir = None
        steps.call("cgroups", "undo_make", "host", planner.entry(plans, "cgroups"), run)
    state_dir.forget()


def called_from_hook(state_dir: StateDir) -> bool:
    """Whether the holder of the lock is our ancestor: a hook of the container itself tries to delete it."""
    holder = state_dir.holder()
    return holder is not None and holder in pidfd.ancestors()


def break_lock(state_dir: StateDir) -> None:
    """delete --force if another command holds the lock for too long: kills it, if it is still the same process."""
    holder = state_dir.holder()
    if holder is None:
        raise StateError("busy", "the container is busy: held by an unknown process", state_dir.id)
    fd = pidfd.open_init(holder, pidfd.start_time(holder))
    if fd >= 0:
        if state_dir.holder() == holder:
            pidfd.kill(fd, SIGKILL)
            _wait_gone(fd, 1000)
        posix.close(fd)
    state_dir.lock(2000)


def to_bundle(bundle: str) -> None:
    """Hooks on the runtime's side start in the bundle, whichever command runs them, or in / if the bundle no longer exists."""
    for path in (bundle, "/"):
        try:
            posix.chdir(path)
            return
        except OSError:
            continue
