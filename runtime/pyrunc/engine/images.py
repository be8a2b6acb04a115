"""A look at image files before CRIU gets them (criu.org/Images): are the pages there that the page maps speak of?

CRIU notices by itself when an image is damaged, but for one kind: from a file of pages that ends too early it reads for ever. Its one
rule: nothing is judged here that CRIU judges; only lengths are compared.
"""

import posix
from _struct import Struct

from pyrunc.errors import StepFailure, errno_text, quote
from pyrunc.linux import fs, protowire

MAGIC = Struct("<I")
COMMON = 0x54564319
HEAD = {"pages_id": (1, protowire.INT)}
ENTRY = {"pages": (2, protowire.INT), "in_parent": (3, protowire.BOOL), "flags": (4, protowire.INT), "more_pages": (5, protowire.INT)}
PRESENT = 1 << 2
LIMIT = 1 << 30
PARENTS = 1000


def check(folder_fd, path, depth=PARENTS):
    """StepFailure when a file of pages is shorter than its page maps say, in this directory or in an earlier one that it builds on."""
    names = posix.listdir(folder_fd)
    needed = {}
    for name in names:
        if name.startswith("pagemap-") and name.endswith(".img"):
            number, pages = _pages(folder_fd, name, path)
            needed[number] = needed.get(number, 0) + pages
    size = posix.sysconf("SC_PAGE_SIZE")
    for number, pages in needed.items():
        _compare(folder_fd, "pages-%d.img" % number, pages * size, path)
    if "parent" in names and depth:
        fd = fs.open("parent", posix.O_RDONLY | posix.O_DIRECTORY, dir_fd=folder_fd)
        try:
            check(fd, path + "/parent", depth - 1)
        finally:
            posix.close(fd)


def _compare(folder_fd, name, size, path):
    try:
        found = fs.stat(name, dir_fd=folder_fd).st_size
    except FileNotFoundError:
        found = 0
    if found < size:
        words = "the image %s/%s is cut off: it has %d bytes, %d are needed" % (quote(path), name, found, size)
        raise StepFailure(words, "restore.images", "host", path="%s/%s" % (path, name))


def _pages(folder_fd, name, path):
    """(number of the file of pages, how many of them are in it)."""
    try:
        data = memoryview(fs.read_file(folder_fd, name, LIMIT))
        at = 8 if MAGIC.unpack_from(data)[0] == COMMON else 4
        number, pages = None, 0
        while at < len(data):
            size = MAGIC.unpack_from(data, at)[0]
            at += 4
            if size > len(data) - at:
                raise ValueError("it ends within an entry")
            entry = protowire.decode(HEAD if number is None else ENTRY, data[at : at + size])
            at += size
            if number is None:
                number = entry.get("pages_id", 0)
            elif entry["flags"] & PRESENT if "flags" in entry else not entry.get("in_parent"):
                pages += entry.get("more_pages", entry.get("pages", 0))
        return number or 0, pages
    except OSError as e:
        cause = errno_text(e.errno)
    except Exception as e:  # too short for its head, or no message
        cause = str(e)
    raise StepFailure("the image %s/%s is damaged: %s" % (quote(path), name, quote(cause)), "restore.images", "host", path="%s/%s" % (path, name))
