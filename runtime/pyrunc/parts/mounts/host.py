"""The host side of mounts: clones sources that init may not clone, and applies id maps.

Invariant: the answer is a detached mount with exactly those settings that init is not allowed to set; init decides where it goes. The clone
is made in the host's mount namespace, and its propagation is then disabled, as for a clone made by init.
"""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.errors import CallError, errno_text, quote
from pyrunc.linux import _syscalls, fs, mount
from pyrunc.linux import constants as c
from pyrunc.parts.mounts import bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.mounts.plan import Entry, IdMap
    from pyrunc.parts.sides import HostRun


def host_answer(entry: Entry, run: HostRun, request: dict[str, int]) -> tuple[dict[str, object], list[int]]:
    """Host side, while init mounts. request: {"index": index in entry["list"], "map": whether only the id map is wanted} -> ({}, [fd of a
    detached mount, or of a user namespace with the maps]). Uses run.pid, run.plans["root"]. The OSError has the message for the user.
    Nothing to undo: an unused clone disappears with its descriptor."""
    item = entry["list"][request["index"]]
    if request.get("map"):
        return {}, [_userns(item["idmap"], run)]
    tree = None
    try:
        tree = bind.clone(item)
        if run.plans.get("root", {}).get("propagation") not in ("shared", "rshared"):
            mount.propagate(tree, c.MS_SLAVE | c.MS_REC)
        if item["idmap"] is not None:
            userns_fd = _userns(item["idmap"], run)
            try:
                bind.map_ids(tree, item["idmap"], userns_fd)
            finally:
                posix.close(userns_fd)
    except BaseException as e:
        fs.close(tree)
        if isinstance(e, OSError):
            failed = CallError.of(e, "open")
            failed.pointer = failed.pointer or item["pointer"]
            detail = failed.words or "%s: %s" % (failed.call, errno_text(e.errno))
            failed.words = 'error mounting "%s" to rootfs at "%s": %s' % (quote(item["source"]), quote(item["destination"]), detail)
            raise failed from None
        raise
    return {}, [tree]


def _userns(maps: IdMap | None, run: HostRun) -> int:
    """-> fd of a user namespace with these maps, or of the container's if there are none."""
    return namespace_with(maps) if maps and maps["uid"] else fs.open("/proc/%d/ns/user" % run.pid, posix.O_RDONLY)


def namespace_with(maps: IdMap) -> int:
    """-> fd of a user namespace with these id maps and without processes: a child creates it, we write the maps, and the child exits."""
    hold, release = posix.pipe2(posix.O_CLOEXEC)
    pid, pidfd = _syscalls.clone3(c.CLONE_NEWUSER)
    if pid == 0:
        try:
            posix.close(release)
            posix.read(hold, 1)  # end of file: the parent has finished or died
        finally:
            posix._exit(0)
    posix.close(hold)
    try:
        folder = fs.open("/proc/%d" % pid, posix.O_RDONLY | posix.O_DIRECTORY)
        try:
            for key in ("uid", "gid"):
                text = "".join("%d %d %d\n" % tuple(line) for line in maps[key])
                fs.write_file(folder, key + "_map", fileio.fsencode(text))
            return fs.open("ns/user", posix.O_RDONLY, dir_fd=folder)
        finally:
            posix.close(folder)
    finally:
        posix.close(release)
        posix.waitid(posix.P_PIDFD, pidfd, posix.WEXITED)
        posix.close(pidfd)
