"""The file system resctrl: its mount point, and reading and writing its files (Documentation/filesystems/resctrl.rst)."""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError
from pyrunc.fileio import fsdecode, fsencode, read_fd, read_file
from pyrunc.linux import _syscalls, mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrunc.parts.rdt import Entry

MAGIC = 0x7655821
O_DIR = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


def find_root() -> str | None:
    """Mount point of resctrl, or None."""
    mounted = mountinfo.table(fsdecode(read_file("/proc/self/mountinfo", 256 << 20)), "resctrl ")
    return mounted[0][2] if mounted else None


def groups(entry: Entry) -> list[tuple[str, ...]]:
    """The directories below the mount point that the container's processes are in: the class, and the monitoring group if there is one."""
    group = (entry["group"],) if entry["group"] else ()
    return [group, (*group, "mon_groups", entry["monitor"])] if entry["monitor"] else [group]


def exists(path: str) -> bool:
    try:
        posix.stat(fsencode(path))
    except OSError:
        return False
    return True


def open_dir(root: str, *names: str) -> int:
    """Descriptor of a directory below the mount point. The OSError has the path; ENODEV if the directory is not in resctrl."""
    path = "/".join((root,) + tuple(n for n in names if n))
    fd = posix.open(fsencode(path), O_DIR)
    if not in_resctrl(fd):
        posix.close(fd)
        raise OSError(errno.ENODEV, "not in a resctrl file system", path)
    return fd


def in_resctrl(fd: int) -> bool:
    return _syscalls.fstatfs(fd)[0] == MAGIC


def write(fd: int, name: str, text: str, path: str) -> None:
    try:
        file = posix.open(name, posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=fd)
        try:
            posix.write(file, fsencode(text))
        finally:
            posix.close(file)
    except OSError as e:
        raise CallError(e.errno or 0, e.strerror or "", "%s/%s" % (path, name), "write") from None


def read(fd: int, name: str) -> str:
    try:
        file = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return ""
    try:
        return fsdecode(read_fd(file, 1 << 20))
    finally:
        posix.close(file)


def last_status(root: str) -> str:
    """The kernel's message about the last command, or ''."""
    fd = open_dir(root, "info")
    try:
        text = read(fd, "last_cmd_status").strip()
    finally:
        posix.close(fd)
    return "" if text == "ok" else text


def parse(lines: Sequence[str]) -> dict[str, dict[str, str]]:
    """Lines of a schemata file -> {resource: {domain: value}}, without spaces and leading zeros."""
    out = {}
    for line in lines:
        resource, colon, rest = line.partition(":")
        if colon:
            pairs = (item.partition("=") for item in rest.split(";") if item.strip())
            out[resource.strip()] = {_bare(domain): _bare(value) for domain, _, value in pairs}
    return out


def _bare(text: str) -> str:
    return text.strip().lstrip("0").lower() or "0"


INFO = {
    "L3": (("cbm_mask", str), ("min_cbm_bits", int), ("num_closids", int)),
    "MB": (("bandwidth_gran", int), ("delay_linear", int), ("min_bandwidth", int), ("num_closids", int)),
}


def info(root: str, resource: str) -> dict[str, Any]:  # INFO has the type of each value
    if not exists("%s/info/%s" % (root, resource)):
        return {}
    fd = open_dir(root, "info", resource)
    try:
        texts = [(name, kind, read(fd, name).strip()) for name, kind in INFO[resource]]
    finally:
        posix.close(fd)
    return {name: kind(text) for name, kind, text in texts if text}
