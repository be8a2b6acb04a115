"""Mounts with a source on the host: bind mounts, and cgroup mounts without a cgroup namespace, which are bind mounts of the host's
directories."""

from __future__ import annotations

import posix

from pyrunc.cgroup import hierarchies
from pyrunc.errors import CallError, StepFailure, errno_text, quote
from pyrunc.linux import constants as c
from pyrunc.linux import fs, mount, paths
from pyrunc.parts.mounts import bind, host, mountpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.mounts.plan import Entry, Item
    from pyrunc.parts.sides import External, HostRun, InitRun


def binds(entry: Entry) -> list[tuple[str, bool]]:
    """[(destination, whether mounts below the source are included)]"""
    return [(item["destination"], bool(item["flags"] & c.MS_REC)) for item in entry["list"] if item["kind"] == "bind"]


def cgroup_places(entry: Entry) -> list[str]:
    """Destinations of the cgroup mounts that are bind mounts."""
    return [] if entry["cgroupns"] else [item["destination"] for item in entry["list"] if item["kind"] == "cgroup"]


def external(entry: Entry, run: HostRun) -> list[External]:
    """The sources, in the order of the config."""
    found: list[External] = []
    for item in entry["list"]:
        if item["kind"] == "bind":
            found.append(_source(item, item["destination"], item["source"]))
        elif item["kind"] == "cgroup" and not entry["cgroupns"]:
            found += [_source(item, where, source) for where, source in _cgroups(run, item["destination"])]
    return found


def _source(item: Item, name: str, source: str) -> External:
    is_bind = item["kind"] == "bind"
    return {
        "part": "mounts", "name": name, "source": source, "bind": is_bind, "recursive": is_bind and bool(item["flags"] & c.MS_REC),
        "follow": "src-nofollow" not in item["links"], "by_itself": not is_bind, "pointer": item["pointer"], "item": item,
    }  # fmt: skip


def _cgroups(run: HostRun, where: str) -> list[tuple[str, str]]:
    """[(path in the container, cgroup of the container on this host)] of the bind mounts; see parts/mounts/cgroupfs.py."""
    own = run.state_dir.state.get("cgroup_paths") or {}
    layout = hierarchies.layout()
    if layout.version == 2:
        return [(where, layout.mounts["unified"][0])]
    return [
        ("%s/%s" % (where, point.rpartition("/")[2]), own.get(key) or (point + layout.own_path(key)).rstrip("/"))
        for key, (point, _root, _device) in layout.mounts.items()
        if key != "unified"
    ]


def clone(source: External, run: HostRun, around: str | None = None) -> int:
    """-> fd of a detached mount, like that of create. around: the mount point of the mount that contains the source, to clone instead."""
    item = source["item"]
    if not source["bind"]:
        return bind.with_flags(mount.clone(source["source"]), item)
    if around is not None:
        item = {**item, "source": around, "flags": item["flags"] & ~c.MS_REC}
    if (
        item["idmap"] is not None and not item["idmap"]["uid"]
    ):  # the container's user namespace does not exist yet: its maps are in the plan
        item = {**item, "idmap": {**item["idmap"], **_maps(run)}}
    trees: list[int]
    _answer, trees = host.host_answer({"list": [item], "userns": False, "cgroupns": False}, run, {"index": 0})
    (tree,) = trees
    return bind.with_flags(tree, item)


def _maps(run: HostRun) -> dict[str, list[list[int]]]:
    entry: dict[str, list[list[int]]] = run.plans.get("idmaps") or {}  # type: ignore[assignment]  # two of its keys
    return {"uid": entry.get("uid") or [], "gid": entry.get("gid") or []}


def make_mount_points(entry: Entry, run: InitRun) -> None:
    """Creates the mount points that are missing below run.root_fd, the container's root, as create does. Bind mounts are attached in the
    meantime, because later mount points may be inside them; those inside file systems of the container are in CRIU's images."""
    fresh: list[str] = []
    laid: list[int] = []
    try:
        for item in entry["list"]:
            if item["kind"] == "remount" or any(item["destination"].startswith(top + "/") for top in fresh):
                continue
            if item["kind"] != "bind":
                posix.close(mountpoint.find_dir(item, run)[0])
                fresh.append(item["destination"])
                continue
            tree = bind.clone(item)
            laid.append(tree)
            target = mountpoint.find_dir(item, run)[0] if fs.kind(tree) == c.S_IFDIR else mountpoint.find_file(item, run)
            try:
                mount.attach(tree, target)
            finally:
                posix.close(target)
    except OSError as e:
        failed = CallError.of(e)
        words = failed.words or "%s: %s" % (quote(item["destination"]), errno_text(e.errno))
        words = "create criu restore mountpoint for %s mount: %s" % (quote(item["destination"]), words)
        pointer = failed.pointer or item["pointer"]
        raise StepFailure(
            "mount-not-restored", words, "restore.mounts", "host", pointer, failed.call, e.errno, item["destination"]
        ) from None
    finally:
        for tree in reversed(laid):
            if paths.is_mount_root(tree):
                mount.detach(tree, run.proc)
            posix.close(tree)
