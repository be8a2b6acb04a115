"""Finds leftovers of containers that no longer exist: directories, cgroups, mounts; after a reboot, or when an engine was killed.

Invariant: nothing that is alive or not ours is changed. A directory is left alone if its lock is held, its init is alive, or its cgroups
contain processes, and all of this is checked again under the lock before anything is removed. --root may be another program's directory: a
directory without our plan is not a container.
"""

from __future__ import annotations

import errno
import fcntl
import posix
import time

from pyrunc import fileio, store
from pyrunc.cgroup import kill
from pyrunc.engine import lifecycle, planner, status
from pyrunc.errors import PyruncError, StateError
from pyrunc.linux import _syscalls, mountinfo, pidfd
from pyrunc.linux.constants import MNT_DETACH, S_IFDIR, S_IFMT, UMOUNT_NOFOLLOW
from pyrunc.parts.seccomp import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.engine.shapes import Stale
    from pyrunc.state_dir import StateDir

UNFINISHED_S = 10  # during a create, a directory has no state for some microseconds
LIMIT = 64 << 20
OLD_CACHE = "@cache"
DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


def survey(root: str, older_s: float) -> list[Stale]:
    """[{"id", "reason", "age": seconds, "cgroups": [directories], "mounts": [mount points], "removable": bool}], sorted by id."""
    mounts = _mounts(root)
    looked = [(id, look(root, id, older_s)) for id in store.ids(root)]
    return _old_cache(root) + [{**one, "mounts": mounts.get(id, [])} for id, one in looked if one is not None]


def _old_cache(root: str) -> list[Stale]:
    """The directory in which older versions kept compiled filters: the `list` of other runtimes treats it as a container."""
    try:
        st = posix.stat(root + "/" + OLD_CACHE, follow_symlinks=False)
    except OSError:
        return []
    if st.st_mode & S_IFMT != S_IFDIR or st.st_uid != posix.geteuid():
        return []
    age = max(0, int(time.time() - st.st_mtime))
    return [{"id": OLD_CACHE, "reason": "filters cached by an older version", "age": age, "cgroups": [], "mounts": [], "removable": True}]


def _remove_old_cache(root: str) -> None:
    """OSError: it contains something else."""
    outer = posix.open(root + "/" + OLD_CACHE, DIRECTORY)
    try:
        for folder in posix.listdir(outer):
            inner = posix.open(folder, DIRECTORY, dir_fd=outer)
            try:
                for name in posix.listdir(inner):
                    posix.unlink(name, dir_fd=inner)
            finally:
                posix.close(inner)
            posix.rmdir(folder, dir_fd=outer)
    finally:
        posix.close(outer)
    posix.rmdir(root + "/" + OLD_CACHE)


def look(root: str, id: str, older_s: float) -> Stale | None:
    """The Stale record of one container, or None."""
    try:
        state_dir = store.open_state_dir(root, id)
    except StateError:
        return None
    try:
        if not _is_free(state_dir):
            return None
        return _judge(state_dir, older_s)
    finally:
        state_dir.close()


def _is_free(state_dir: StateDir) -> bool:
    """Whether no command holds the lock."""
    try:
        fcntl.flock(state_dir.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(state_dir.fd, fcntl.LOCK_UN)
    return True


def _judge(state_dir: StateDir, older_s: float) -> Stale | None:
    """{"id", "reason", "age", "cgroups", "removable"}, or None for a container that we must not remove."""
    age = max(0, int(time.time() - _touched(state_dir)))
    try:
        state_dir.load()
    except StateError as e:
        if not _is_ours(state_dir):
            return None
        if e.reason == "unknown-container":
            return None if age < UNFINISHED_S else _stale(state_dir, "an unfinished create", age, {})
        paths = _planned_paths(state_dir)
        busy = kill.procs(paths)
        reason = "its state is damaged" + (", and it has %d processes: delete --force ends them" % len(busy) if busy else "")
        return _stale(state_dir, reason, age, paths, not busy)
    if state_dir.state["boot_id"] != pidfd.boot_id():
        return _stale(state_dir, "made before the last boot", age, {})
    now = status.of(state_dir)
    if now != "stopped":
        return None
    paths = lifecycle.own_cgroups(state_dir)
    if kill.procs(paths):
        return None  # init has exited, but other processes of a shared pid namespace are alive
    if state_dir.state["status"] == "creating":
        return _stale(state_dir, "an unfinished create", age, paths)
    return None if age < older_s else _stale(state_dir, "its init has ended", age, paths)


def _is_ours(state_dir: StateDir) -> bool:
    """Whether a directory without a readable state is ours: create writes the plan first. An empty directory that only its owner can enter
    may be one from an interrupted create, if its siblings are ours."""
    names = posix.listdir(state_dir.fd)
    if names:
        return "plan.json" in names
    if posix.fstat(state_dir.fd).st_mode & 0o777 != 0o700:
        return False
    root = state_dir.path.rpartition("/")[0]
    return any(_exists("%s/%s/plan.json" % (root, id)) for id in store.ids(root)) or any(
        name.startswith(cache.PREFIX) for name in posix.listdir(root)
    )


def _stale(state_dir: StateDir, reason: str, age: int, paths: dict[str, str], removable: bool = True) -> Stale:
    there = [path for path in dict.fromkeys(paths.values()) if _exists(path)]
    return {"id": state_dir.id, "reason": reason, "age": age, "cgroups": there, "removable": removable}


def _touched(state_dir: StateDir) -> float:
    """When something in it was last written."""
    newest = posix.fstat(state_dir.fd).st_mtime
    for name in ("state.json", "plan.json"):
        try:
            newest = max(newest, posix.stat(name, dir_fd=state_dir.fd, follow_symlinks=False).st_mtime)
        except OSError:
            continue
    return newest


def _planned_paths(state_dir: StateDir) -> dict[str, str]:
    try:
        plans = state_dir.plan()
    except StateError:
        return {}
    found: dict[str, str] = planner.module("cgroups").planned_paths(plans)
    return found


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _mounts(root: str) -> dict[str, list[str]]:
    """{name below the root: [mount points, the deepest last]}."""
    found: dict[str, list[str]] = {}
    for _device, _root, point, _kind, _options in mountinfo.table(fileio.fsdecode(fileio.read_file("/proc/self/mountinfo", LIMIT))):
        if point.startswith(root + "/"):
            found.setdefault(point[len(root) + 1 :].partition("/")[0], []).append(point)
    return found


def remove(root: str, stale: Stale, older_s: float, options: Mapping[str, object]) -> bool:
    """Removes one entry of survey(). False if it has become alive in the meantime. PyruncError, OSError."""
    if stale["id"] == OLD_CACHE:
        _remove_old_cache(root)
        return True
    state_dir = store.open_state_dir(root, stale["id"])
    try:
        state_dir.lock(0)
        again = _judge(state_dir, older_s)
        if again is None or not again["removable"]:
            return False
        _unmount(stale["mounts"])
        try:
            state_dir.load()
        except StateError as e:
            lifecycle.delete_broken(state_dir, options, e)
        else:
            lifecycle.delete(state_dir, options, force=True)
        return True
    finally:
        state_dir.close()


def _unmount(points: list[str]) -> None:
    for point in reversed(points):
        try:
            _syscalls.umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.EINVAL):  # unmounted together with the one above it
                raise


def remove_all(
    root: str, found: list[Stale], older_s: float, options: Mapping[str, object]
) -> tuple[list[str], tuple[str, PyruncError | OSError] | None]:
    """(ids that were removed, first error or None): one that can't be removed does not prevent removing the others."""
    done, first = [], None
    for stale in found:
        if not stale["removable"]:
            continue
        try:
            if remove(root, stale, older_s, options):
                done.append(stale["id"])
        except (PyruncError, OSError) as e:
            first = first or (stale["id"], e)
    return done, first
