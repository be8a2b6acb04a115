"""What is left below the state root of containers that are gone: directories, cgroups, mounts; after a reboot, or a killed engine.

Its one rule: nothing that lives is touched, and nothing that is not ours. A directory whose lock is held, whose init lives, or in whose
cgroups processes are found is left alone, and all that is asked again under the lock before anything is removed. --root may name a
directory of somebody else: what has no plan of ours in it is no container.
"""

import fcntl
import posix
import time

from pyrunc import lean, store
from pyrunc.cgroup import kill
from pyrunc.engine import lifecycle, status
from pyrunc.errors import CALLER_TEXT, PyruncError, StateError
from pyrunc.linux import _syscalls, mount, pidfd
from pyrunc.linux.constants import MNT_DETACH, UMOUNT_NOFOLLOW

UNFINISHED_S = 10  # a directory without a state is between two calls of a create for some microseconds
LIMIT = 64 << 20


def survey(root, older_s):
    """[{"id", "reason", "age": seconds, "cgroups": [directories], "mounts": [mount points], "removable": bool}], sorted by id."""
    mounts = _mounts(root)
    looked = [(id, look(root, id, older_s)) for id in store.ids(root)]
    return [{**one, "mounts": mounts.get(id, [])} for id, one in looked if one is not None]


def look(root, id, older_s):
    """One container: what is stale about it, or None."""
    try:
        box = store.open_box(root, id)
    except StateError:
        return None
    try:
        if not _is_free(box):
            return None
        return _judge(box, older_s)
    finally:
        box.close()


def _is_free(box):
    """Whether no command holds the lock."""
    try:
        fcntl.flock(box.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(box.fd, fcntl.LOCK_UN)
    return True


def _judge(box, older_s):
    """{"id", "reason", "age", "cgroups", "removable"}, or None for a container that is none of ours to remove."""
    age = max(0, int(time.time() - _touched(box)))
    try:
        box.load()
    except StateError as e:
        if not _is_ours(box):
            return None
        if e.words == CALLER_TEXT["unknown"]:
            return None if age < UNFINISHED_S else _stale(box, "an unfinished create", age, {})
        paths = _planned_paths(box)
        busy = kill.procs(paths)
        reason = "its state is damaged" + (", and it has %d processes: delete --force ends them" % len(busy) if busy else "")
        return _stale(box, reason, age, paths, not busy)
    if box.state["boot_id"] != pidfd.boot_id():
        return _stale(box, "made before the last boot", age, {})
    now = status.of(box)
    if now != "stopped":
        return None
    paths = lifecycle.own_cgroups(box)
    if kill.procs(paths):
        return None  # init has ended, others of a shared pid namespace live on
    if box.state["status"] == "creating":
        return _stale(box, "an unfinished create", age, paths)
    return None if age < older_s else _stale(box, "its init has ended", age, paths)


def _is_ours(box):
    """Without a state that can be read: create writes the plan first. An empty directory that only its owner may enter can be one where it
    got no further, if its neighbours are ours."""
    names = posix.listdir(box.fd)
    if names:
        return "plan.json" in names
    if posix.fstat(box.fd).st_mode & 0o777 != 0o700:
        return False
    root = box.path.rpartition("/")[0]
    return any(_exists("%s/%s/plan.json" % (root, id)) for id in store.ids(root)) or _exists(root + "/@cache")


def _stale(box, reason, age, paths, removable=True):
    there = [path for path in dict.fromkeys(paths.values()) if _exists(path)]
    return {"id": box.id, "reason": reason, "age": age, "cgroups": there, "removable": removable}


def _touched(box):
    """When anything of it was written last."""
    newest = posix.fstat(box.fd).st_mtime
    for name in ("state.json", "plan.json"):
        try:
            newest = max(newest, posix.stat(name, dir_fd=box.fd, follow_symlinks=False).st_mtime)
        except OSError:
            continue
    return newest


def _planned_paths(box):
    try:
        entry = box.plan().get("cgroups")
    except StateError:
        return {}
    paths = entry.get("paths") if type(entry) is dict else None
    return paths if type(paths) is dict else {}


def _exists(path):
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _mounts(root):
    """{name below the root: [mount points, the deepest last]}."""
    found = {}
    for _device, _root, point, _kind, _options in mount.table(lean.fsdecode(lean.read_file("/proc/self/mountinfo", LIMIT))):
        if point.startswith(root + "/"):
            found.setdefault(point[len(root) + 1 :].partition("/")[0], []).append(point)
    return found


def remove(root, stale, older_s, options):
    """One entry of survey(). False when it has come to life meanwhile. PyruncError, OSError."""
    box = store.open_box(root, stale["id"])
    try:
        box.lock(0)
        again = _judge(box, older_s)
        if again is None or not again["removable"]:
            return False
        _unmount(stale["mounts"])
        try:
            box.load()
        except StateError as e:
            lifecycle.delete_broken(box, options, e)
        else:
            lifecycle.delete(box, options, force=True)
        return True
    finally:
        box.close()


def _unmount(points):
    for point in reversed(points):
        try:
            _syscalls.umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as e:
            if e.errno not in (2, 22):  # ENOENT, EINVAL: went with the one above it
                raise


def remove_all(root, found, older_s, options):
    """(ids that were removed, first error or None): one that can't be removed does not keep the others."""
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
