"""Resources of a container that come from outside: mounts (for the dump; restore_mounts.py is for the restore), and streams.

Each has a name in the images, and dump and restore must use the same one: for a mount it is the destination in the config, for mounts that
an rbind includes it is the path below the destination. Invariant: at restore, the resource for a name is determined from the bundle's
config and this host, never from the images.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio
from pyrunc.engine import planner
from pyrunc.errors import CallError, Refusal, StepFailure, errno_text
from pyrunc.linux import constants as c
from pyrunc.linux import fs, mountinfo, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.engine.run import Run
    from pyrunc.engine.shapes import Message, MountTable, Result

TABLE_LIMIT = 64 << 20
DESCRIPTORS = "descriptors.json"  # [what 0, 1 and 2 were], as in runc


# -- mounts at the dump --------------------------------------------------------------------------------------------------


def dumped_mounts(run: Run) -> list[tuple[str, str]]:
    """[(mount point in the container, name)]. Uses run.pid, run.plans. The mount table is the container's, so links in the image and later
    changes by the program are taken into account."""
    table = mounted(run.pid)
    root_fd = fs.open("/proc/%d/root" % run.pid, posix.O_PATH | posix.O_DIRECTORY)
    try:
        names: dict[str, str] = {}
        for destination, recursive in asked_of(run, "mounts", "binds"):
            _note(names, table, root_fd, destination, recursive)
        for destination in asked_of(run, "mounts", "cgroup_places"):
            _note_cgroups(names, table, destination)
        names.update(asked_of(run, "paths", "masked_files", root_fd))
        for path in asked_of(run, "devices", "bound"):
            names.setdefault(path, path)
        return sorted(names.items())
    finally:
        posix.close(root_fd)


def mounted(pid: int | str) -> MountTable:
    """{mount id: (parent id, mount point, type)} of a process's mount namespace, relative to its root."""
    found = {}
    for line in fileio.fsdecode(fileio.read_file("/proc/%s/mountinfo" % pid, TABLE_LIMIT)).split("\n"):
        for _device, _top, point, kind, _settings in mountinfo.table(line):
            number, parent, _rest = line.split(" ", 2)
            found[int(number)] = (int(parent), point, kind)
    return found


def asked_of(run: Run, part: str, name: str, *more: object) -> Result:
    """The result of a function of parts/criu for the part's plan; () if it has none."""
    found = planner.ask(run.plans, part, name, *more, view="criu.")
    return () if found is None else found


def _note(names: dict[str, str], table: MountTable, root_fd: int, destination: str, recursive: bool) -> None:
    """A bind mount and, with rbind, the mounts that it includes."""
    try:
        fd = paths.resolve(root_fd, destination)
    except OSError:
        names.setdefault(destination, destination)  # covered by another mount in the meantime; it is found by its own name
        return
    try:
        number = paths.mount_id(fd)
    finally:
        posix.close(fd)
    if number not in table:
        return
    top = table[number][1]
    names[top] = destination
    if not recursive:
        return
    below = {number}
    for child in sorted(table):  # a parent can have a higher id: repeat until no new one is found
        _gather(child, table, below)
    for child in below - {number}:
        point = table[child][1]
        if point.startswith(top + "/"):
            names.setdefault(point, destination + point[len(top) :])


def _gather(child: int, table: MountTable, below: set[int]) -> None:
    way = []
    while child in table and child not in below and child not in way:
        way.append(child)
        child = table[child][0]
    if child in below:
        below.update(way)


def _note_cgroups(names: dict[str, str], table: MountTable, destination: str) -> None:
    """Without a cgroup namespace, these are bind mounts of the host's directories."""
    for _parent, point, kind in table.values():
        if kind in ("cgroup", "cgroup2") and (point + "/").startswith(destination + "/"):
            names[point] = point


# -- standard streams ----------------------------------------------------------------------------------------------------


def dumped_streams(run: Run) -> tuple[list[str], list[str]]:
    """(for descriptors.json, for `external`). Only pipes that create passed in count: the program may have replaced them. A file outside of
    the container's mounts is external, by its mount and inode."""
    names = (run.stored.state.get("stdio") or planner.module("fds").streams_of(run.pid))[:]
    table = mounted(run.pid)
    external = []
    for number in (0, 1, 2):
        name = _outside(run.pid, number, table)
        if name is not None:
            names[number] = name
            external.append(name)
    return names, sorted(set(external))


def _outside(pid: int, number: int, table: MountTable) -> str | None:
    try:
        info = posix.stat("/proc/%s/fd/%d" % (pid, number))
        text = fileio.read_file("/proc/%d/fdinfo/%d" % (pid, number), 1 << 16).split()
    except OSError:
        return None
    where = int(text[text.index(b"mnt_id:") + 1])
    if info.st_mode & c.S_IFMT != c.S_IFREG or where in table:
        return None
    return "file[%x:%x]" % (where, info.st_ino)


def restored_streams(folder_fd: int) -> list[Message]:
    """inherit_fd that replaces the container's 0, 1 and 2 with ours. StepFailure: the file does not exist, or we did not write it."""
    try:
        names = jsonio.loads(fs.read_file(folder_fd, DESCRIPTORS, 1 << 16), DESCRIPTORS)
    except OSError as e:
        words = "the image directory holds no checkpoint: open %s: %s" % (DESCRIPTORS, errno_text(e.errno))
        raise StepFailure("no-checkpoint", words, "restore.streams", "host", None, CallError.of(e).call, e.errno, DESCRIPTORS) from None
    except Refusal as e:
        raise StepFailure("images-damaged", "the image directory is damaged: %s" % e.words, "restore.streams", "host") from None
    if type(names) is not list or not all(type(name) is str for name in names) or len(names) > 3:
        raise StepFailure(
            "images-damaged",
            "the image directory is damaged: %s is not a list of three names" % DESCRIPTORS,
            "restore.streams",
            "host",
        )
    return [{"key": name, "fd": number} for number, name in enumerate(names) if name.startswith(("pipe:", "file["))]
