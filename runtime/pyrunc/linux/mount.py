"""Mounts by descriptor: clone a tree, make a new file system, give it attributes, put it somewhere.

Invariant: what is mounted and where is named by descriptors, so that no path is looked up twice. A mount is complete, with all its
flags, before it is attached. Failures are CallErrors; those of `new` have the log of the file system and the option's index.
"""

from __future__ import annotations

import errno
import posix
import time

from pyrunc.errors import CallError, errno_name
from pyrunc.linux import _syscalls, fs
from pyrunc.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyrunc.linux.proc import Proc

# Flags of mount(2) that belong to the file system, and their words for fsconfig(2).
SUPERBLOCK = (
    (c.MS_RDONLY, "ro"),
    (c.MS_SYNCHRONOUS, "sync"),
    (c.MS_MANDLOCK, "mand"),
    (c.MS_DIRSYNC, "dirsync"),
    (c.MS_LAZYTIME, "lazytime"),
)
OLD_ONLY = c.MS_SILENT | c.MS_I_VERSION | c.MS_POSIXACL  # there is no word for these
VALUE_LIMIT = 255  # of fsconfig(2)
LOG_LINES = 16
PATIENCE = (5, 100)  # what the callers of make_readonly() give a writer: tries, milliseconds between two


def clone(path: str | bytes, recursive: bool = False, dir_fd: int = c.AT_FDCWD, flags: int = 0) -> int:
    """-> fd of a detached copy of what is mounted at `path`."""
    flags |= c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC
    try:
        return _syscalls.open_tree(dir_fd, path, flags | c.AT_RECURSIVE if recursive else flags)
    except OSError as e:
        e.filename = path or None
        raise


def clone_fd(fd: int, recursive: bool = False) -> int:
    """-> fd of a detached copy of the mount, from what `fd` stands for downwards."""
    return clone(b"", recursive, fd, c.AT_EMPTY_PATH)


def attach(tree_fd: int, target_fd: int) -> None:
    """Puts a detached mount on what `target_fd` stands for. Afterwards `tree_fd` stands for the root of the mount in its place."""
    _syscalls.move_mount(tree_fd, b"", target_fd, b"", c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_T_EMPTY_PATH)


def setattr(fd: int, attr_set: int, attr_clr: int, recursive: bool = False, propagation: int = 0, userns_fd: int = 0) -> None:
    """mount_setattr(2) on the mount of `fd`, which must be its root."""
    flags = c.AT_EMPTY_PATH | (c.AT_RECURSIVE if recursive else 0)
    _syscalls.mount_setattr(fd, b"", flags, attr_set, attr_clr, propagation, userns_fd)


def propagate(fd: int, flag: int) -> None:
    """`flag`: MS_PRIVATE, MS_SHARED, MS_SLAVE or MS_UNBINDABLE, with or without MS_REC."""
    setattr(fd, 0, 0, bool(flag & c.MS_REC), flag & ~c.MS_REC)


def new(fstype: str, source: str | None, flags: int, attributes: int, words: Iterable[str] = ()) -> int:
    """-> fd of a new detached mount. `flags`: MS_* for the file system; `attributes`: MOUNT_ATTR_* of the mount; `words`: its options,
    in order. The CallError has `log` and `option`, the index in `words` of the one that was refused (None: something else)."""
    context = _syscalls.fsopen(fstype, c.FSOPEN_CLOEXEC)
    at = None
    try:
        if source:
            _syscalls.fsconfig(context, c.FSCONFIG_SET_STRING, "source", source, 0)
        for bit, name in SUPERBLOCK:
            if flags & bit:
                _syscalls.fsconfig(context, c.FSCONFIG_SET_FLAG, name, None, 0)
        for at, word in enumerate(words):  # noqa: B007
            for key, value in _settings(fstype, word):
                _set(context, key, value)
        at = None
        _syscalls.fsconfig(context, c.FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscalls.fsmount(context, c.FSMOUNT_CLOEXEC, attributes)
    except CallError as e:
        e.option = at
        e.log = _log(context)
        raise
    finally:
        posix.close(context)


def parse(fstype: str, words: Iterable[str]) -> None:
    """Has the file system read its options, and mounts nothing. The CallError has `log` and `option`, as of new(); EPERM for callers who may
    not mount."""
    context = _syscalls.fsopen(fstype, c.FSOPEN_CLOEXEC)
    at = None
    try:
        for at, word in enumerate(words):  # noqa: B007
            for key, value in _settings(fstype, word):
                _set(context, key, value)
    except CallError as e:
        e.option = at
        e.log = _log(context)
        raise
    finally:
        posix.close(context)


def old(fstype: str | None, source: str | None, target_fd: int, flags: int, data: str | None, proc: Proc) -> None:
    """mount(2) on what `target_fd` stands for: for what fsconfig(2) has no words for. The path to it leads through `proc`, our own
    procfs, and is relative, as that one is attached nowhere."""
    _among_links(proc, lambda: _syscalls.mount(source or None, "%d" % target_fd, fstype or None, flags, data or None))


def detach(fd: int, proc: Proc) -> None:
    """umount2(2) with MNT_DETACH of the mount whose root `fd` stands for, and of what is mounted below it. The path is that of `old`."""
    _among_links(proc, lambda: _syscalls.umount2("%d" % fd, c.MNT_DETACH))


def _among_links(proc: Proc, act: Callable[[], None]) -> None:
    """Calls `act` with the links of our descriptors as the working directory."""
    back = fs.open(".", posix.O_PATH | posix.O_DIRECTORY)
    links = None
    try:
        links = proc.open("thread-self/fd", posix.O_PATH | posix.O_DIRECTORY)
        fs.fchdir(links)
        try:
            act()
        finally:
            fs.fchdir(back)
    finally:
        fs.close(back, links)


def make_readonly(fd: int, tries: int, pause_ms: int) -> None:
    """Read-only, all else stays. EBUSY means that a file in it is open for writing: `tries` attempts, `pause_ms` apart, as the caller
    wants to wait for the writer."""
    while True:
        try:
            return setattr(fd, c.MOUNT_ATTR_RDONLY, 0)
        except OSError as e:
            tries -= 1
            if e.errno != errno.EBUSY or not tries:
                raise
        time.sleep(pause_ms / 1000)


def flags_of(fd: int) -> int:
    """f_flags of statfs(2)."""
    return _syscalls.fstatfs(fd)[1]


def magic(fd: int) -> int:
    """f_type of statfs(2)."""
    return _syscalls.fstatfs(fd)[0]


def _set(context: int, key: str, value: str | None) -> None:
    if value is None:
        _syscalls.fsconfig(context, c.FSCONFIG_SET_FLAG, key, None, 0)
    else:
        _syscalls.fsconfig(context, c.FSCONFIG_SET_STRING, key, value, 0)


def _settings(fstype: str, word: str) -> list[tuple[str, str | None]]:
    """One option word -> [(key, value or None)]. Several in one word stand between commas, as mount(2) has it."""
    if "context=" in word[:12]:  # SELinux: quotes keep the commas of the label together, and are no part of it
        key, _, value = word.partition("=")
        return [(key, value.strip('"'))]
    found = []
    for piece in _split(word, ",", fstype == "overlay"):
        key, equals, value = piece.partition("=")
        if fstype == "overlay" and key == "lowerdir" and len(value) > VALUE_LIMIT:
            found += _layers(value)
        elif piece:
            found.append((key, value if equals else None))
    return found


def _split(text: str, mark: str, escapes: bool) -> list[str]:
    if mark not in text:
        return [text]
    if not escapes:
        return text.split(mark)
    pieces, begin, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == mark:
            pieces.append(text[begin:at])
            begin = at + 1
        at += 1
    return pieces + [text[begin:]]


def _layers(value: str) -> list[tuple[str, str | None]]:
    """A long list of overlay layers, one by one (Linux 6.7); '::' begins those that hold data only."""
    found: list[tuple[str, str | None]] = []
    key = "lowerdir+"
    for layer in _split(value, ":", True):
        if not layer:
            key = "datadir+"
            continue
        found.append((key, layer.replace("\\:", ":").replace("\\,", ",").replace("\\\\", "\\")))
    return found


def _log(context: int) -> tuple[str, ...]:
    """What the file system said about it: ('tmpfs: Bad value for ...',)."""
    lines: list[str] = []
    while len(lines) < LOG_LINES:
        try:
            line = posix.read(context, 8192)
        except OSError as e:
            if e.errno not in (errno.ENODATA, errno.EINVAL):
                lines.append("log: %s" % errno_name(e.errno or 0))
            break
        text = line.decode("utf-8", "replace").strip()
        lines.append(text[2:] if text[1:2] == " " else text)
    return tuple(lines)
