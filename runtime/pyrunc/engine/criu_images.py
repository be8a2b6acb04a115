"""Checks image files before CRIU gets them (criu.org/Images): whether they contain all the pages that the page maps list.

CRIU itself detects damaged images, with one exception: if a pages file is truncated, it reads forever. Invariant: this does not repeat
CRIU's checks; only lengths are compared, and unreadable files are left to CRIU. Maps that an earlier dump left in the same directory are
ignored: the process tree says which ones are in use.
"""

from __future__ import annotations

import posix
from _struct import Struct

from pyrunc.errors import StepFailure, errno_text, quote
from pyrunc.linux import fs, protowire
from pyrunc.linux.protowire import BOOL, INT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrunc.engine.shapes import Fields, Message

NUMBER = Struct("<I")
COMMON = 0x54564319  # the beginning of every image, before its own magic number
PROCESS = {"pid": (1, INT)}
MEMORY = {"areas": (14, [{"shmid": (4, INT), "status": (7, INT)}])}
HEAD = {"pages_id": (1, INT)}
ENTRY = {"pages": (2, INT), "in_parent": (3, BOOL), "flags": (4, INT), "more_pages": (5, INT)}
PRESENT = 1 << 2
SHARED = 1 << 8  # an anonymous mapping that processes share; it has a separate page map
LIMIT = 1 << 30


def check(folder_fd: int, path: str) -> None:
    """StepFailure if a pages file is shorter than its page maps say, in this directory or in an earlier one that it depends on."""
    here, seen = posix.dup(folder_fd), set()
    try:
        while True:
            info = fs.fstat(here)
            if (info.st_dev, info.st_ino) in seen:
                return
            seen.add((info.st_dev, info.st_ino))
            names = posix.listdir(here)
            _check_one(here, names, path)
            if "parent" not in names:
                return
            path += "/parent"
            try:
                above = fs.open("parent", posix.O_RDONLY | posix.O_DIRECTORY, dir_fd=here)
            except OSError as e:
                words = "the earlier dump %s that this one builds on cannot be opened: %s" % (quote(path), errno_text(e.errno))
                raise StepFailure("no-earlier-dump", words, "restore.images", "host", path=path) from None
            posix.close(here)
            here = above
    finally:
        posix.close(here)


def _check_one(folder_fd: int, names: list[str], path: str) -> None:
    needed: dict[int, int] = {}
    for name in _maps(folder_fd):
        if name in names:
            number, pages = _pages(folder_fd, name, path)
            needed[number] = needed.get(number, 0) + pages
    size = posix.sysconf("SC_PAGE_SIZE")
    for number, pages in needed.items():
        _compare(folder_fd, "pages-%d.img" % number, pages * size, path)


def _maps(folder_fd: int) -> set[str]:
    """Names of the page maps of this dump."""
    found = set()
    for process in _readable(folder_fd, "pstree.img", PROCESS):
        pid = process.get("pid", 0)
        found.add("pagemap-%d.img" % pid)
        for memory in _readable(folder_fd, "mm-%d.img" % pid, MEMORY):
            shared = [area for area in memory.get("areas", ()) if area.get("status", 0) & SHARED]
            found.update("pagemap-shmem-%d.img" % area["shmid"] for area in shared if "shmid" in area)
    return found


def _readable(folder_fd: int, name: str, fields: Fields) -> list[Message]:
    """The messages of an image, as far as they can be read; a process that has exited has no memory."""
    found = []
    try:
        for message in _entries(folder_fd, name, fields):
            found.append(message)
    except (OSError, ValueError):
        return found
    return found


def _entries(folder_fd: int, name: str, first: Fields, later: Fields | None = None) -> Iterator[Message]:
    """The messages of an image; if `later` is given, the first one is of another kind. OSError, ValueError."""
    data = memoryview(fs.read_file(folder_fd, name, LIMIT))
    at = 8 if len(data) > 3 and NUMBER.unpack_from(data)[0] == COMMON else 4
    if len(data) < at:
        raise ValueError("it ends within its head")
    fields = first
    while at < len(data):
        size = NUMBER.unpack_from(data, at)[0] if len(data) - at > 3 else LIMIT
        at += 4
        if size > len(data) - at:
            raise ValueError("it ends within an entry")
        yield protowire.decode(fields, bytes(data[at : at + size]))
        fields = later or first
        at += size


def _compare(folder_fd: int, name: str, size: int, path: str) -> None:
    try:
        found = fs.stat(name, dir_fd=folder_fd).st_size
    except FileNotFoundError:
        found = 0
    if found < size:
        words = "the image %s/%s is cut off: it has %d bytes, %d are needed" % (quote(path), name, found, size)
        raise StepFailure("images-damaged", words, "restore.images", "host", path="%s/%s" % (path, name))


def _pages(folder_fd: int, name: str, path: str) -> tuple[int, int]:
    """(number of the pages file, number of pages in it)."""
    number, pages = 0, 0
    try:
        for one in _entries(folder_fd, name, HEAD, ENTRY):
            number = int(one.get("pages_id", number))
            if one["flags"] & PRESENT if "flags" in one else not one.get("in_parent"):
                pages += int(one.get("more_pages", one.get("pages", 0)) or 0)
        return number, pages
    except OSError as e:
        cause = errno_text(e.errno)
    except ValueError as e:
        cause = str(e)
    words = "the image %s/%s is damaged: %s" % (quote(path), name, quote(cause))
    raise StepFailure("images-damaged", words, "restore.images", "host", path="%s/%s" % (path, name))
