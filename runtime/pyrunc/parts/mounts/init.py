"""The verbs for mounts in init.

Invariant: mounts are made strictly in the order of the config, and each one is complete and its descriptor closed before the next one. Only
mounts that become read-only at the very end are kept open, at most LATE_LIMIT of them.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, StepFailure, errno_text, quote
from pyrunc.linux import mount
from pyrunc.parts.mounts import bind, cgroupfs, filesystems

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.mounts.plan import Entry, Item
    from pyrunc.parts.sides import InitRun


KINDS = {"bind": bind.bind, "remount": bind.remount, "fs": filesystems.fresh, "own": filesystems.own, "cgroup": cgroupfs.mount_all}
LATE_LIMIT = 128


def init_mount(entry: Entry, run: InitRun) -> None:
    """Init side, before the pivot. Uses run.root_fd, run.proc, run.ask; sets run.late_mounts, [(item, fd)] for init_finish, and
    run.own_mounts, the ids of mounts that belong to the container alone, for `devices`. The StepFailure has the mount's pointer, source and
    destination, with runc's wording. Undone when init dies, with its namespace."""
    run.late_mounts = []
    run.own_mounts = []
    for item in entry["list"]:
        try:
            KINDS[item["kind"]](item, entry, run)
        except (OSError, StepFailure) as e:
            raise failure(item, e) from None
        if len(run.late_mounts) > LATE_LIMIT:
            _readonly(run)


def init_finish(_entry: Entry, run: InitRun) -> None:
    """Init side, after the pivot and after the last file is created in the root: makes the tmpfs, /dev and cgroup mounts read-only that
    should be, and closes their descriptors. StepFailure as above."""
    _readonly(run)


def _readonly(run: InitRun) -> None:
    while run.late_mounts:
        item, fd = run.late_mounts.pop(0)
        try:
            mount.make_readonly(fd, *mount.PATIENCE)
        except OSError as e:
            raise failure(item, e) from None
        finally:
            posix.close(fd)


def failure(item: Item, e: OSError | StepFailure) -> StepFailure:
    """The error as a StepFailure with runc's wording: callers look for the errno text in it."""
    if isinstance(e, StepFailure):
        detail, call, number, path = e.words, e.call, e.errno, e.path
    else:
        e = CallError.of(e)
        call, number, path = e.call, e.errno, e.filename
        text = errno_text(number) if number else e.strerror
        detail = e.words or ("%s %s: %s" % (call, quote(_text(path)), text) if path else "%s: %s" % (call, text))
    words = 'error mounting "%s" to rootfs at "%s": %s' % (quote(item["source"] or item["type"]), quote(item["destination"]), detail)
    hint = e.hint
    if number == errno.ENOSPC and hint is None:
        hint = "fs.mount-max limits the number of mounts, or the file system is full"
    return StepFailure(
        "mount-failed",
        words,
        pointer=e.pointer or item["pointer"],
        call=call,
        errno=number,
        path=_text(path),
        hint=hint,
    )


def _text(path: str | bytes | None) -> str | None:
    return path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
