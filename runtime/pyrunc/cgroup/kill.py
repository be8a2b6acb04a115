"""Signals every process of a container, and waits until none is left.

cgroups(7), pidfd_send_signal(2). Invariant: a process is signalled through a pidfd after checking that it is in the cgroup, never by a pid
that may have been reused in the meantime. `paths` is {controller: directory}; a directory that does not exist contains no processes.
"""

from __future__ import annotations

import _signal
import errno
import posix
import time

from pyrunc.cgroup import freeze, fs, hierarchies
from pyrunc.errors import StepFailure
from pyrunc.fileio import fsdecode, read_file
from pyrunc.linux.constants import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ROUNDS = 100  # of finding and signalling: processes forked in the meantime are found in the next round
FREEZE_MS = 500  # freezing helps to kill, but is not required
FIRST_LOOK = 1000  # cgroups that are read before their processes are killed or frozen


def procs(paths: Mapping[str, str]) -> list[int]:
    """Pids of all processes in the cgroup and below it, over all hierarchies, sorted."""
    pids = set()
    for path, key in fs.unique(paths).items():
        pids.update(fs.procs_below(path, key))
    return sorted(pids)


def _may_have_procs(paths: Mapping[str, str], seen: Collection[int] = ()) -> bool:
    """Whether a process that is not in `seen` is found in the first cgroups, or there are more of them."""
    try:
        return any(pid not in seen for path, key in fs.unique(paths).items() for pid in fs.procs_below(path, key, FIRST_LOOK))
    except fs.TooManyError:
        return True


def kill_all(paths: Mapping[str, str], signal: int) -> int:
    """Sends a signal to every process. Returns how many were found; with SIGKILL and very many cgroups, not all are counted. SIGKILL also
    kills processes that are frozen or forked in the meantime; other signals reach each process once, and a paused container remains paused.
    OSError EINVAL for an unknown signal number."""
    done = _kill_v2(paths["unified"]) if signal == SIGKILL and "unified" in paths else None
    if done is not None and len(paths) == 1:
        return len(done)
    return _kill_by_pid(paths, signal, done or set())


def _kill_v2(path: str) -> set[int] | None:
    """Writes cgroup.kill (since Linux 5.14), also on hybrid hosts. Returns the pids that were in the cgroup, or None if this is not
    possible."""
    try:
        pids = set(fs.procs_below(path, "unified", FIRST_LOOK))
    except fs.TooManyError as e:
        pids = e.pids
    try:
        fd = fs.open_dir(path, "unified")
    except OSError as e:
        if e.errno in fs.GONE:
            return pids
        raise
    try:
        fs.write(fd, "cgroup.kill", "1", path)
    except OSError as e:
        if e.errno in fs.GONE + fs.REFUSED + (errno.EOPNOTSUPP,):
            return None
        raise
    finally:
        posix.close(fd)
    return pids


def _kill_by_pid(paths: Mapping[str, str], signal: int, seen: set[int]) -> int:
    """Freezes, signals all, thaws. Frozen processes can't fork, so one round is enough; otherwise rounds continue until one finds no new
    process. Processes in `seen` have already been signalled."""
    was_frozen = freeze.is_frozen(paths)
    frozen = was_frozen or (_may_have_procs(paths, seen) and _try_freeze(paths))
    wanted = places(paths)
    try:
        for _ in range(ROUNDS):
            new = [pid for pid in procs(paths) if pid not in seen]
            for pid in new:
                seen.add(pid)
                _signal_one(pid, signal, wanted)
            if frozen or not new:
                break
    finally:
        if frozen and (signal == SIGKILL or not was_frozen):
            freeze.thaw(paths)
        if signal == SIGKILL:
            freeze.thaw_below(paths)
    return len(seen)


def _try_freeze(paths: Mapping[str, str]) -> bool:
    try:
        freeze.freeze(paths, time.monotonic() + FREEZE_MS / 1000)
    except (StepFailure, OSError):
        return False  # no freezer, or a task that can't be frozen: rely on the rounds
    return True


def _signal_one(pid: int, signal: int, wanted: Mapping[str, str]) -> None:
    try:
        fd = posix.pidfd_open(pid)
    except OSError as e:
        if e.errno in (errno.ESRCH, errno.EINVAL):
            return
        raise
    try:
        if is_member(pid, wanted):
            _signal.pidfd_send_signal(fd, signal)
    except ProcessLookupError:
        return
    finally:
        posix.close(fd)


def places(paths: Mapping[str, str]) -> dict[str, str]:
    """{key: the cgroup as in /proc/PID/cgroup} for directories below the mount points."""
    layout = hierarchies.layout(cgroup="")
    out = {}
    for key, path in paths.items():
        mount = layout.mounts.get(key)
        if mount is not None and path.startswith(mount[0] + "/"):
            out[key] = (mount[1] if mount[1] != "/" else "") + path[len(mount[0]) :]
    return out


def is_member(pid: int, wanted: Mapping[str, str]) -> bool:
    """Whether a process is in one of the cgroups of places() or below. Call it after opening the pidfd, because the pid may have been
    reused before."""
    try:
        own = hierarchies.parse_own(fsdecode(read_file("/proc/%d/cgroup" % pid, 1 << 20)))
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ESRCH):
            return False
        raise
    return any(own.get(key, "") == place or own.get(key, "").startswith(place + "/") for key, place in wanted.items())


# --- waiting


def wait_empty(paths: Mapping[str, str], timeout_ms: float) -> list[int]:
    """Waits until no process is left. Returns the remaining pids, [] if there are none."""
    deadline = time.monotonic() + timeout_ms / 1000
    delay = 0.001
    _wait_populated(paths, deadline)
    while True:
        left = procs(paths)
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(delay)  # v1 does not notify when a task exits
        delay = min(delay * 2, 0.02)


def _wait_populated(paths: Mapping[str, str], deadline: float) -> None:
    path = paths.get("unified")
    if path is None:
        return
    try:
        fd = fs.open_dir(path, "unified")
    except OSError as e:
        if e.errno in fs.GONE:
            return
        raise
    try:
        events = posix.open("cgroup.events", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return
    finally:
        posix.close(fd)
    try:
        freeze.wait_event(events, "populated", 0, deadline)
    finally:
        posix.close(events)


def end_all(paths: Mapping[str, str], timeout_ms: float = 10_000) -> None:
    """Sends SIGKILL until no process is left. The StepFailure names the processes that do not die."""
    deadline = time.monotonic() + timeout_ms / 1000
    if not _may_have_procs(paths):
        return
    while True:
        kill_all(paths, SIGKILL)
        left = wait_empty(paths, 200)
        if not left:
            return
        if time.monotonic() >= deadline:
            raise StepFailure(
                "process-not-killed", "%d process(es) of the container do not die: %s" % (len(left), " ".join(str(p) for p in left[:20])), call="kill",
                path=next(iter(paths.values())), hint="a task in an uninterruptible wait dies when the wait ends",
            )  # fmt: skip
