"""Checks mounts for `validate` without mounting anything."""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, PyruncError, Refusal, Unsupported, errno_text, quote
from pyrunc.linux import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrunc.parts.mounts.plan import Entry, Item
    from pyrunc.parts.sides import CallHelper, Context


def check(entry: Entry, ctx: Context, _call_helper: CallHelper) -> Iterator[PyruncError]:
    """Unsupported: the source of a bind mount does not exist, or this host lacks the file system. Refusal: the file system does not accept
    the value of an option."""
    for item in entry["list"]:
        if item["kind"] == "bind":
            yield from _source(item)
        elif item["kind"] == "fs":
            yield from _options(item)


def _source(item: Item) -> Iterator[PyruncError]:
    links = not {"src-nofollow", "copy-symlink"}.intersection(item["links"])  # with these the link itself is mounted or copied
    try:
        posix.stat(item["source"], follow_symlinks=links)
    except OSError as e:
        words = "the source %s: %s" % (quote(item["source"]), errno_text(e.errno))
        yield Unsupported("no-source", words, item["pointer"] + "/source", "the source", "create it before the container")


def _options(item: Item) -> Iterator[PyruncError]:
    words = [word for word, _index in item["data"]]
    try:
        mount.parse(item["type"], words)
    except CallError as e:
        if e.errno == errno.ENODEV:
            text = "this host has no file system %s" % quote(item["type"])
            yield Unsupported("no-file-system", text, item["pointer"] + "/type", "the file system", "load its module, or correct the type")
        elif e.errno == errno.EINVAL and e.option is not None:
            word, index = item["data"][e.option]
            said = "; ".join(e.log)
            pointer = "%s/options/%d" % (item["pointer"], index)
            text = "%s does not accept the option %s%s" % (item["type"], quote(word), ": " + quote(said) if said else "")
            yield Refusal("mount-option", text, pointer)
