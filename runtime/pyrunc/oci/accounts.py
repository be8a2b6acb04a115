"""Users and groups for exec's --user: numbers, or names from the container's own /etc/passwd and /etc/group.

Both files belong to the container and are untrusted: they are read below its root, without getpwnam(3), which loads libraries, and only if
they are regular files. Digits are never looked up as a name (CVE-2016-3697).
"""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.errors import StateError, UsageError, quote
from pyrunc.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Members: TypeAlias = dict[str, int | list[int]]  # of /process/user: uid, gid, additionalGids

LIMIT = 1 << 20  # bytes that are read from each file
NO_ID = 0xFFFFFFFF  # (uid_t) -1 means "no change" to the kernel


def identity(text: str, option: str) -> int:
    """A decimal id below 2^32 - 1. Signs, spaces and leading zeros are refused (CVE-2026-30892). UsageError."""
    plain = text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and len(text) <= 10
    if not plain or int(text) >= NO_ID:
        raise UsageError("bad-id-number", 'invalid id "%s"' % quote(text), "exec", option, "ids are decimal numbers from 0 to 4294967294")
    return int(text)


def chosen(text: str, open_root: Callable[[], int]) -> Members:
    """'UID', 'UID:GID', 'NAME' or 'NAME:GROUP' -> the members of /process/user that change. open_root() -> a descriptor of the container's
    root, which has the files. An empty name or group is refused. UsageError, StateError."""
    name, colon, group = text.partition(":")
    if not name or (colon and not group) or ":" in group:
        raise UsageError("bad-user", 'invalid user "%s"' % quote(text), "exec", "user", "give UID, UID:GID, NAME or NAME:GROUP")
    found: Members = {"uid": identity(name, "user")} if _is_number(name) else _user(name, open_root)
    if colon:
        found["gid"] = identity(group, "user") if _is_number(group) else _group(group, open_root)
    return found


def _is_number(text: str) -> bool:
    """Whether a word is meant as a number, valid or not."""
    return text[0].isdigit() or text[0] in "+-" or text != text.strip()


def _user(name: str, open_root: Callable[[], int]) -> Members:
    for fields in _lines("/etc/passwd", open_root):
        if fields[0] == name and len(fields) >= 4:
            groups = [identity(f[2], "user") for f in _lines("/etc/group", open_root) if len(f) >= 4 and name in f[3].split(",")]
            return {"uid": identity(fields[2], "user"), "gid": identity(fields[3], "user"), "additionalGids": groups}
    raise StateError("not-in-image", 'no user "%s" in the container\'s /etc/passwd' % quote(name), hint="give a number")


def _group(name: str, open_root: Callable[[], int]) -> int:
    for fields in _lines("/etc/group", open_root):
        if fields[0] == name and len(fields) >= 3:
            return identity(fields[2], "user")
    raise StateError("not-in-image", 'no group "%s" in the container\'s /etc/group' % quote(name), hint="give a number")


def _lines(path: str, open_root: Callable[[], int]) -> list[list[str]]:
    """The fields of each line."""
    root_fd = open_root()
    try:
        return [fileio.fsdecode(line).split(":") for line in paths.read_lines(root_fd, path, LIMIT)]
    finally:
        posix.close(root_fd)
