"""The verbs: cgroups are created, init is moved into them, and they are removed."""

from __future__ import annotations

import errno
import posix

from pyrunc.cgroup import fs, hierarchies, tree
from pyrunc.errors import CallError, StepFailure, errno_text, quote
from pyrunc.parts.cgroups.plan import POINTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrunc.cgroup.fs import Record
    from pyrunc.cgroup.shapes import Limits
    from pyrunc.cgroup.tree import Prepare as Preparer
    from pyrunc.cgroup.tree import Removal, Seen
    from pyrunc.parts.cgroups.plan import Entry
    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import HostRun, InitRun

NO_RIGHTS = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
APPLY = "unable to apply cgroup configuration: "


# --- creating


def host_make(entry: Entry, run: HostRun) -> None:
    """Host side, before the clone. Records what it is about to create (run.record), then creates the directories in every hierarchy; on v2
    sets run.cgroup_fd for CLONE_INTO_CGROUP. StepFailure: the cgroup contains processes, is frozen, or can't be created. A rootless
    container that lacks permission and asked for nothing runs without cgroups. undo_make reverses it."""
    if entry["manager"] == "disabled":
        return
    if entry["manager"] == "systemd":
        from pyrunc.cgroup import systemd

        systemd.host_make(entry, run)
        return
    seen: dict[str, Seen] = {}
    places = fs.unique(entry["paths"])
    try:
        for path, key in places.items():
            seen[key] = tree.explore(entry["mounts"][key], path, key)
        existed = {key: found[0] for key, found in seen.items()}
        _check_unused(places, seen)
        record: Any = {"mounts": entry["mounts"], "existed": existed, "inodes": {}}  # a Record without paths, which have a separate key
        run.record_all({"cgroup_paths": entry["paths"], "cgroups": record})
        paths = _make_all(entry, run, record, places, seen)
    finally:
        for _count, fd, _names in seen.values():
            posix.close(fd)
    if paths != entry["paths"]:
        run.record("cgroup_paths", paths)
    run.record("cgroups", record)
    if "unified" in paths and not entry["rootless"]:
        run.cgroup_fd = fs.open_dir(seat(entry, paths), "unified")


def _seat_opener(entry: Entry, path: str, key: str, run: HostRun) -> Callable[[int], None] | None:
    """Opens the descriptors that init uses to enter its cgroups: the directory for CLONE_INTO_CGROUP on cgroup2, and `tasks` of each v1
    hierarchy. A process that moves *itself* through `tasks` takes no lock; moving another one through cgroup.procs waits for an RCU grace
    period of about 10 ms. Not for rootless containers: host_place can explain an error better."""
    if key == "unified" or entry["rootless"]:
        return None

    def leaf(fd: int) -> None:
        run.fds["cgroup:" + key] = tree.open_tasks(fd, path)

    return leaf


def _check_unused(places: dict[str, str], seen: dict[str, Seen]) -> None:
    pids = set()
    there = {}
    for path, key in places.items():
        count, _fd, names = seen[key]
        if count == len(names):
            there[key] = path
            pids.update(fs.procs_below(path, key))
    if pids:
        raise StepFailure(
            "cgroup-busy", "container's cgroup is not empty: %d process(es) found" % len(pids), pointer=POINTER, path=next(iter(there.values())),
            hint="pids %s; another container may use the path" % " ".join(str(p) for p in sorted(pids)[:10]),
        )  # fmt: skip
    if there:
        from pyrunc.cgroup import freeze

        if freeze.is_frozen(there):
            raise StepFailure(
                "cgroup-frozen",
                "container's cgroup unexpectedly frozen",
                pointer=POINTER,
                path=next(iter(there.values())),
                hint="thaw it first",
            )


def _make_all(entry: Entry, run: HostRun, record: Record, places: dict[str, str], seen: dict[str, Seen]) -> dict[str, str]:
    """Creates the cgroups and completes the record. Returns the paths that exist."""
    resources = run.plans.get("resources", {})
    paths = dict(entry["paths"])
    for path, key in places.items():
        prepare = _preparer(key, resources, entry["version"])
        start = seen.pop(key) if prepare is None or not seen[key][0] else None  # a preparer also checks levels that already existed
        try:
            made, inode = tree.make(entry["mounts"][key], path, key, prepare, start, _seat_opener(entry, path, key, run))
        except OSError as e:
            if not _goes_without(entry, resources, e):
                raise _failure(e, entry, "cannot make the cgroup") from None
            paths = _without(paths, path)
            continue
        if made:
            record["inodes"][key] = inode
        else:  # it existed, or something else created it at the same moment: we must not remove it
            record["existed"][key] = len(fs.levels(entry["mounts"][key], path))
    if entry.get("sub") and paths:
        make_sub(entry, paths)
    return paths


def seat(entry: Entry, paths: dict[str, str]) -> str:
    """The v2 cgroup that init is moved into."""
    return "/".join((paths["unified"], entry["sub"])) if entry.get("sub") else paths["unified"]


def make_sub(entry: Entry, paths: dict[str, str]) -> None:
    """Creates the levels below the container's cgroup. They are removed with it."""
    tree.make(entry["mounts"]["unified"], seat(entry, paths), "unified", _preparer("unified", {}, entry["version"]))


def _preparer(key: str, resources: Limits, version: int | str | None) -> Preparer | None:
    """Returns what prepares a new level to hold a process or a limit. On a hybrid host the unified hierarchy only groups processes: a
    controller that is enabled there can no longer be mounted as version 1."""
    if key == "unified":
        if version != 2:
            return None
        from pyrunc.cgroup import v2

        return v2.preparer(resources)
    if key in ("cpuset", "cpu"):
        from pyrunc.cgroup import v1

        return v1.preparer(key, resources)
    return None


def _goes_without(entry: Entry, resources: Limits, e: OSError) -> bool:
    """Whether a rootless container that asked for nothing can run without the cgroup; on v1 this is decided for each hierarchy."""
    if not entry["rootless"] or e.errno not in fs.REFUSED:
        return False
    if entry["explicit"]:
        return False
    return entry["version"] != 2 or not resources.get("asked")


def _without(paths: dict[str, str], path: str) -> dict[str, str]:
    return {key: p for key, p in paths.items() if p != path}


def _failure(e: OSError | StepFailure, entry: Entry, what: str) -> StepFailure:
    if isinstance(e, StepFailure):
        return e
    path = e.filename
    if entry["rootless"] and e.errno in fs.REFUSED:
        return StepFailure(
            "rootless-no-cgroup",
            NO_RIGHTS,
            pointer=POINTER,
            call=CallError.of(e).call,
            errno=e.errno,
            path=path,
            hint=hierarchies.how_to_delegate(entry["version"]),
        )
    if e.errno == errno.EINVAL:
        text = "the kernel refuses the value"
    else:
        text = fs.refusal_text(e.errno, "no permission") if e.errno in fs.REFUSED else errno_text(e.errno)
    return StepFailure(
        "cgroup-failed",
        "%s%s %s: %s" % (APPLY, what, quote(path), text),
        pointer=POINTER,
        call=CallError.of(e).call,
        errno=e.errno,
        path=path,
    )


# --- moving init


def host_place(entry: Entry, run: HostRun) -> None:
    """Host side, while init waits. Moves run.pid into every cgroup that was created, unless clone3 has already put it there or init_place
    will do it. StepFailure."""
    if entry["manager"] == "systemd":
        from pyrunc.cgroup import systemd

        systemd.host_place(entry, run)
        if entry.get("sub"):
            paths = fs.record_of(run, entry)["paths"]
            make_sub(entry, paths)
            tree.enter(seat(entry, paths), "unified", run.pid)
        return
    paths = fs.record_of(run, entry)["paths"]
    try:
        for path, key in fs.unique(paths).items():
            if run.cgroup_fd >= 0 and key == "unified" and _is_inside(run):
                continue
            if "cgroup:" + key in run.fds:
                posix.close(run.fds.pop("cgroup:" + key))
                continue
            try:
                tree.enter(seat(entry, paths) if key == "unified" else path, key, run.pid)
            except OSError as e:
                if not _goes_without(entry, run.plans.get("resources", {}), e):
                    raise _failure(e, entry, "cannot move init into") from None
                paths = _without(paths, path)
                run.record("cgroup_paths", paths)
    finally:
        if run.cgroup_fd >= 0:
            posix.close(run.cgroup_fd)
            run.cgroup_fd = -1


def init_place(entry: Entry, run: InitRun) -> None:
    """Init, as its first step: moves itself into its version 1 cgroups. For a task in a realtime class the kernel may briefly return
    EINVAL, so it tries five times. The OSError names the file."""
    for name in [n for n in run.fds if n[:7] == "cgroup:"]:
        fd = run.fds.pop(name)
        try:
            tree.enter_by(fd, entry["paths"][name[7:]])
        except OSError as e:
            raise _failure(e, entry, "cannot move init into") from None
        finally:
            posix.close(fd)


def _is_inside(run: HostRun) -> bool:
    return str(run.pid) in fs.read(run.cgroup_fd, "cgroup.threads").split()  # a threaded cgroup has no readable cgroup.procs


def host_delegate(entry: Entry, run: HostRun) -> None:
    """Host side, after the limits. On v2, if the container has a private cgroup namespace and a writable mount of it, its user becomes the
    owner of the cgroup and of the files that the kernel lists as safe to delegate. OSError; removed with the cgroup."""
    paths = fs.record_of(run, entry)["paths"]
    if entry["version"] != 2 or not paths or not _wants_delegation(run.plans):
        return
    from pyrunc.cgroup import delegation

    delegation.give(seat(entry, paths), run.pid, run.plans.get("user", {}).get("uid", 0))


def _wants_delegation(plans: Plans) -> bool:
    if "cgroup" not in plans.get("namespaces", {}).get("new", ()):
        return False
    planned = plans.get("mounts")
    mounts = planned["list"] if planned else []
    return any(
        m.get("type") in ("cgroup", "cgroup2") and m.get("destination") == "/sys/fs/cgroup" and not m.get("flags", 0) & 1 for m in mounts
    )


# --- removing


def undo_make(entry: Entry, run: HostRun) -> None:
    """Host side, after a failure and at delete. Uses the record or, if it is lost, the plan alone. Removes the cgroups that host_make
    created, and those that the container created in them. Cgroups that no longer exist are not an error. StepFailure names the pids that
    keep one busy."""
    if entry["manager"] == "disabled":
        return
    if entry["manager"] == "systemd":
        from pyrunc.cgroup import systemd

        systemd.undo_make(entry, run)
        return
    _close_seats(run)
    remove(fs.record_of(run, entry))


def _close_seats(run: HostRun) -> None:
    """Closes what host_make opened and host_place has not closed."""
    for name in [n for n in run.fds if n[:7] == "cgroup:"]:
        posix.close(run.fds.pop(name))
    if run.cgroup_fd >= 0:
        posix.close(run.cgroup_fd)
        run.cgroup_fd = -1


def host_remove_empty(entry: Entry, run: HostRun) -> bool:
    """Host side, at delete: tries one rmdir per cgroup. The kernel refuses while a process is left, so there is no need to look for
    processes: init was nearly always the last. Returns False if processes have to be killed first, which undo_make does."""
    if entry["manager"] != "cgroupfs":
        return False
    record = fs.record_of(run, entry)
    removals = _removals(record)
    if not removals or len(removals) < len(fs.unique(record["paths"])):
        return False
    for removal in removals:
        if not removal.inode or removal.existed >= len(removal.names()):
            return False  # a cgroup that existed before is kept and its processes are killed; without an inode we cannot tell
    try:
        return all([r.step() for r in removals])
    except OSError:
        return False


def remove(record: Record) -> None:
    """Removes the recorded cgroups. Without `existed` (a lost record) only the leaves are tried."""
    tree.remove_all(_removals(record))


def _removals(record: Record) -> list[Removal]:
    removals = []
    for path, key in fs.unique(record["paths"]).items():
        mount = record["mounts"].get(key)
        if mount is None:
            continue
        existed = record["existed"].get(key)
        if existed is None:
            existed = len(fs.levels(mount, path)) - 1
        removals.append(tree.Removal(mount, path, key, existed, record["inodes"].get(key, 0)))
    return removals
