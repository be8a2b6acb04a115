"""Masked and read-only paths: a masked file is a bind mount of the host's /dev/null, a read-only path is a bind mount of itself."""

from __future__ import annotations

import posix

from pyrunc.errors import StepFailure
from pyrunc.linux import constants as c
from pyrunc.linux import fs, mount, paths
from pyrunc.parts.paths import COVER, NULL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrunc.parts.paths import Entry
    from pyrunc.parts.sides import External, HostRun


def masked_files(entry: Entry, root_fd: int) -> Iterator[tuple[str, str]]:
    """(masked path, name in the images) of those that are files; directories are covered by file systems that belong to the container."""
    for path, _pointer in entry["masked"]:
        try:
            fd = paths.resolve(root_fd, path)
        except OSError:
            continue
        if fs.kind(fd) != c.S_IFDIR:
            yield path, NULL
        posix.close(fd)


def readonly(entry: Entry) -> list[str]:
    """Paths that are made read-only."""
    return [path for path, _pointer in entry["readonly"]]


def external(entry: Entry, _run: HostRun) -> list[External]:
    """The host's /dev/null, if there are masked paths."""
    if not entry["masked"]:
        return []
    return [
        {
            "part": "paths", "name": NULL, "source": NULL, "bind": False, "recursive": False, "follow": False, "by_itself": False,
            "pointer": "/linux/maskedPaths", "item": None,
        }
    ]  # fmt: skip


def clone(source: External, _run: HostRun, around: str | None = None) -> int:
    """-> fd of a detached mount of the source, or of the mount that contains it."""
    tree = mount.clone(around or source["source"], flags=c.AT_SYMLINK_NOFOLLOW)
    if fs.char_device(fs.stat(NULL)) != fs.NULL_DEVICE:
        posix.close(tree)
        words = "the host's /dev/null is not the null device (c 1:3)"
        raise StepFailure("bad-null-device", words, "restore.mounts", "host", source["pointer"], path=around or NULL)
    mount.setattr(tree, COVER, 0)
    return tree
