"""The mount table as text (proc_pid_mountinfo(5)). Invariant: no file is opened here; the caller chooses whose table to read."""

from __future__ import annotations

from pyrunc.fileio import fsencode
from pyrunc.linux import _syscalls


def table(text: str, wanted: str = "") -> list[tuple[str, str, str, str, str]]:
    """-> [(device, root, mount point, type, options of the file system)], in the order of the table. wanted: only types that begin with
    this. ValueError if the text is not a mount table."""
    return _syscalls.mount_table(fsencode(text), wanted)


def below(text: str, path: str) -> list[tuple[int, str]]:
    """-> [(id, mount point)] of the mounts at and below `path`, in the order of the table."""
    found = []
    prefix = path.rstrip("/") + "/"
    for line in text.split("\n"):
        fields = line.split(" ", 5)
        if len(fields) > 5:
            point = unescape(fields[4])
            if point == path or point.startswith(prefix):
                found.append((int(fields[0]), point))
    return found


def unescape(text: str) -> str:
    """Decodes a path of the table, where space, tab, newline and backslash are written in octal."""
    if "\\" not in text:
        return text
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
