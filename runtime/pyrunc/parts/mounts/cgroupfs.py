"""Mounts of type `cgroup` (not in config-linux.md#default-filesystems; callers use it for both versions of cgroups).

On v1 and hybrid hosts this is a tmpfs with a directory for each v1 hierarchy, as in runc: a new mount if there is a cgroup namespace, else
a bind mount of the container's cgroup. On v2 it is a cgroup2 mount in a cgroup namespace, else a bind mount of the host's, because a new
mount from outside a namespace would change the options of the host's (nsdelegate). Invariant: a container in a user namespace never gets a
writable tree without a cgroup namespace, whatever the config says (CVE-2023-25809).
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.cgroup import hierarchies
from pyrunc.linux import _syscalls, fs, mount, mountinfo, paths
from pyrunc.linux import constants as c
from pyrunc.parts.mounts import bind, filesystems, mountpoint, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cgroup.shapes import Places as Cgroups
    from pyrunc.parts.mounts.plan import Entry, Item
    from pyrunc.parts.sides import InitRun

    Hierarchy = tuple[str, list[str], str, str]  # name of its directory, keys, mount point, root


USUAL = c.MS_NOSUID | c.MS_NOEXEC | c.MS_NODEV
TABLE_LIMIT = 64 << 20


def mount_all(item: Item, entry: Entry, run: InitRun) -> None:
    """Mounts one entry of type cgroup. Uses run.plans["cgroups"] and run.proc; sets run.late_mounts for the tmpfs of v1."""
    plan = run.plans["cgroups"]
    if entry["userns"] and not entry["cgroupns"]:
        item = {**item, "flags": item["flags"] | c.MS_RDONLY}
    mounted = _hierarchies(run)
    if plan.get("version") == 2 or not mounted:
        _unified(item, entry, run, plan)
    else:
        _legacy(item, entry, run, plan, mounted)


# --- v1


def _hierarchies(run: InitRun) -> list[Hierarchy]:
    """[(name of its directory, keys, mount point, root)] of the v1 hierarchies, without duplicates."""
    found, seen = [], set()
    for device, root, point, kind, settings in mountinfo.table(fileio.fsdecode(run.proc.read("self/mountinfo", TABLE_LIMIT)), "cgroup"):
        if kind != "cgroup" or device in seen:
            continue
        seen.add(device)
        name = point.rpartition("/")[2]
        names = name.split(",")
        found.append((name, [word for word in settings.split(",") if word in names or word.startswith("name=")], point, root))
    return found


def _legacy(item: Item, entry: Entry, run: InitRun, plan: Cgroups, mounted: list[Hierarchy]) -> None:
    target, _mode = mountpoint.find_dir(item, run)
    try:
        mountpoint.check_proc(item, target)
        top = mount.new("tmpfs", "tmpfs", 0, options.attributes(USUAL), ["mode=755"])
        mount.attach(top, target)
    finally:
        posix.close(target)
    try:
        umask = posix.umask(0)
        try:
            changes = bind.changes_of(item)
            for hierarchy in mounted:
                _one(item, entry, top, hierarchy, plan, run, changes)
        finally:
            posix.umask(umask)
        bind.finish(top, item, run)
        if item["flags"] & c.MS_RDONLY:  # other mounts below may follow; podman does that
            run.late_mounts.append((item, posix.dup(top)))
    finally:
        posix.close(top)


def _one(item: Item, entry: Entry, top: int, hierarchy: Hierarchy, plan: Cgroups, run: InitRun, changes: bind.Changes) -> None:
    """Mounts one hierarchy below the tmpfs, which is new and empty, and creates the links for its controllers if it has several (cpu ->
    cpu,cpuacct)."""
    name, keys, _point, _root = hierarchy
    tree = _own_mount(item, keys or [name]) if entry["cgroupns"] else None
    if tree is None:
        tree = bind.with_flags(_clone(hierarchy, plan, run, entry), item, changes)
    try:
        _syscalls.calls(
            [
                ("MKDIRAT", top, name, 0o755),
                ("OPENAT", top, name, paths.NEW_DIRECTORY),
                ("MOVE_MOUNT", tree, _syscalls.FIRST, mount.BY_DESCRIPTOR),
            ],
            -1,
        )
    finally:
        posix.close(tree)
    if "," in name:
        for controller in name.split(","):
            fs.symlink(name, controller, dir_fd=top)


def _own_mount(item: Item, keys: list[str]) -> int | None:
    """A new mount that shows what the cgroup namespace contains; None if the kernel refuses it, and a bind mount is used."""
    named = keys[0][5:] if keys[0][:5] == "name=" else None
    flags = USUAL | item["flags"] & c.MS_RDONLY
    try:
        return mount.new("cgroup", named or "cgroup", 0, options.attributes(flags), [",".join(keys)])
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.EBUSY):
            raise
        return None


def _clone(hierarchy: Hierarchy, plan: Cgroups, run: InitRun, entry: Entry) -> int:
    """-> fd of a clone of the container's cgroup in this hierarchy: the planned one, or init's own if none was planned. In a cgroup
    namespace init can no longer tell where it is."""
    _name, keys, point, root = hierarchy
    for key in keys:
        path = plan.get("paths", {}).get(key)
        if path:
            try:
                return mount.clone(path)
            except FileNotFoundError:
                pass
    if entry["cgroupns"]:
        raise fs.failure(errno.ENOENT, "open_tree", point)
    own = hierarchies.parse_own(fileio.fsdecode(run.proc.read("self/cgroup")))
    path = next((own[key] for key in keys if key in own), "/")
    if root != "/" and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return mount.clone(point if ".." in path.split("/") else point + "/" + path.strip("/"))


# --- v2


def _unified(item: Item, entry: Entry, run: InitRun, plan: Cgroups) -> None:
    target, _mode = mountpoint.find_dir(item, run)
    try:
        mountpoint.check_proc(item, target)
        top = None
        if entry["cgroupns"]:
            top = _cgroup2(item, run, target)
        if top is None:
            top = _bound(item, entry, plan)
            mount.attach(top, target)
    finally:
        posix.close(target)
    try:
        bind.finish(top, item, run)
    finally:
        posix.close(top)


def _cgroup2(item: Item, run: InitRun, target: int) -> int | None:
    try:
        return filesystems.make(item, run, target, "cgroup2", item["source"], item["flags"], [word for word, _index in item["data"]])
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.EBUSY):
            raise
        return None


def _bound(item: Item, entry: Entry, plan: Cgroups) -> int:
    """A bind mount of the host's tree, or with a cgroup namespace, of the container's cgroup. A rootless container without a cgroup gets an
    empty read-only directory."""
    path = plan.get("mounts", {}).get("unified", hierarchies.ROOT)
    if entry["cgroupns"]:
        path = plan.get("paths", {}).get("unified") or path
    try:
        return bind.with_flags(mount.clone(path), item)
    except OSError as e:
        if e.errno != errno.ENOENT or not plan.get("rootless"):
            raise
    return mount.new("tmpfs", "tmpfs", c.MS_RDONLY, options.attributes(USUAL | c.MS_RDONLY), ["nr_blocks=1", "nr_inodes=2"])
