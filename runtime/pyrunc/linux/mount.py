"""Mounts by descriptor: clones trees, creates new file systems, sets their attributes, and attaches them.

Invariant: source and target of a mount are descriptors, so that no path is resolved twice. A mount is complete, with all its flags, before
it is attached. Failures are CallErrors; those of `new` have the log of the file system and the index of the option.
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
    from collections.abc import Callable, Iterable, Sequence

    from pyrunc.linux._syscalls import Call
    from pyrunc.linux.proc import Proc

# Flags of mount(2) that belong to the file system, and their names for fsconfig(2).
SUPERBLOCK = (
    (c.MS_RDONLY, "ro"),
    (c.MS_SYNCHRONOUS, "sync"),
    (c.MS_MANDLOCK, "mand"),
    (c.MS_DIRSYNC, "dirsync"),
    (c.MS_LAZYTIME, "lazytime"),
)
OLD_ONLY = c.MS_SILENT | c.MS_I_VERSION | c.MS_POSIXACL  # fsconfig(2) has no names for these
VALUE_LIMIT = 255  # in fsconfig(2)
LOG_LINES = 16
BY_DESCRIPTOR = c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_T_EMPTY_PATH  # both ends of move_mount(2)
PATIENCE = (5, 100)  # how long the callers of make_readonly() wait for a writer: attempts, and milliseconds between two


def clone(path: str | bytes, recursive: bool = False, dir_fd: int = c.AT_FDCWD, flags: int = 0) -> int:
    """-> fd of a detached copy of what is mounted at `path`."""
    flags |= c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC
    try:
        return _syscalls.open_tree(dir_fd, path, flags | c.AT_RECURSIVE if recursive else flags)
    except OSError as e:
        e.filename = path or None
        raise


def clone_fd(fd: int, recursive: bool = False) -> int:
    """-> fd of a detached copy of the mount, starting at the file that `fd` refers to."""
    return clone(b"", recursive, fd, c.AT_EMPTY_PATH)


def attach(tree_fd: int, target_fd: int) -> None:
    """Attaches a detached mount to the file that `target_fd` refers to. Afterwards `tree_fd` refers to the root of the attached mount."""
    _syscalls.move_mount(tree_fd, b"", target_fd, b"", BY_DESCRIPTOR)


def setattr(fd: int, attr_set: int, attr_clr: int, recursive: bool = False, propagation: int = 0, userns_fd: int = 0) -> None:
    """mount_setattr(2) on the mount of `fd`, which must be its root."""
    flags = c.AT_EMPTY_PATH | (c.AT_RECURSIVE if recursive else 0)
    _syscalls.mount_setattr(fd, b"", flags, attr_set, attr_clr, propagation, userns_fd)


def propagate(fd: int, flag: int) -> None:
    """`flag`: MS_PRIVATE, MS_SHARED, MS_SLAVE or MS_UNBINDABLE, with or without MS_REC."""
    setattr(fd, 0, 0, bool(flag & c.MS_REC), flag & ~c.MS_REC)


def new(fstype: str, source: str | None, flags: int, attributes: int, words: Sequence[str] = (), pid_ns: int = -1) -> int:
    """-> fd of a new detached mount. `flags`: MS_* for the file system; `attributes`: MOUNT_ATTR_* of the mount; `words`: its options, in
    order; `pid_ns`: descriptor of the pid namespace that a procfs shows, or -1 for the caller's. The CallError has `log` and `option`, the index in
    `words` of the refused one (None if it was something else)."""
    context = _syscalls.fsopen(fstype, c.FSOPEN_CLOEXEC) if pid_ns < 0 else procfs_of(pid_ns)
    calls: list[Call] = []
    try:
        if source:
            calls.append(("FSCONFIG", context, c.FSCONFIG_SET_STRING, "source", source, 0))
        if flags:
            for bit, name in SUPERBLOCK:
                if flags & bit:
                    calls.append(("FSCONFIG", context, c.FSCONFIG_SET_FLAG, name, None, 0))
        first = len(calls)
        for word in words:
            for key, value in _settings(fstype, word):
                calls.append(("FSCONFIG", context, c.FSCONFIG_SET_FLAG if value is None else c.FSCONFIG_SET_STRING, key, value, 0))
        calls.append(("FSCONFIG", context, c.FSCONFIG_CMD_CREATE, None, None, 0))
        calls.append(("FSMOUNT", context, c.FSMOUNT_CLOEXEC, attributes))
        return _syscalls.calls(calls, _syscalls.FIRST)
    except CallError as e:
        e.option = _word_of((e.at or 0) - first, fstype, words)
        e.log = _log(context)
        raise
    finally:
        posix.close(context)


def _word_of(position: int, fstype: str, words: Sequence[str]) -> int | None:
    """The index of the word that has the option at this position; None for what is not an option."""
    if position >= 0:
        for index, word in enumerate(words):
            position -= len(_settings(fstype, word))
            if position < 0:
                return index
    return None


def procfs_of(pid_ns: int) -> int:
    """-> fd of the context (fsopen(2)) of a procfs of another pid namespace. Before Linux 6.18 only a process in that namespace can create
    one."""
    context = _syscalls.fsopen("proc", c.FSOPEN_CLOEXEC)
    try:
        _syscalls.fsconfig(context, c.FSCONFIG_SET_FD, "pidns", None, pid_ns)
    except OSError as e:
        posix.close(context)
        if e.errno != errno.EINVAL:
            raise
        context = _syscalls.proc_context(pid_ns)
        try:
            _must_be_of("proc", context)
        except BaseException:
            posix.close(context)
            raise
    return context


def _must_be_of(fstype: str, context: int) -> None:
    """Whether a context is of that file system. It comes from a process that others may have taken over, and is completed with our privileges;
    with another type it would mount what they chose. The kernel names the type when it refuses an option that no file system has."""
    _log(context)  # earlier messages prove nothing
    option = "pyrunc-" + posix.urandom(16).hex()
    said: tuple[str, ...] = ()
    try:
        _syscalls.fsconfig(context, c.FSCONFIG_SET_STRING, option, "0", 0)
    except OSError as e:
        said = _log(context) if e.errno == errno.EINVAL else ()
    if said != ("%s: Unknown parameter '%s'" % (fstype, option),):
        raise fs.failure(errno.EPERM, "fsopen", "/proc")


def parse(fstype: str, words: Iterable[str]) -> None:
    """Lets the file system parse its options, without mounting anything. The CallError has `log` and `option`, as with new(); EPERM if the
    caller may not mount."""
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
    """mount(2) on the file that `target_fd` refers to, for what fsconfig(2) can't express. Its path goes through `proc`, our own procfs,
    and is relative because that procfs is not attached anywhere."""
    _among_links(proc, lambda: _syscalls.mount(source or None, "%d" % target_fd, fstype or None, flags, data or None))


def detach(fd: int, proc: Proc) -> None:
    """umount2(2) with MNT_DETACH of the mount whose root `fd` refers to, and of the mounts below it. Uses a path as in old()."""
    _among_links(proc, lambda: _syscalls.umount2("%d" % fd, c.MNT_DETACH))


def _among_links(proc: Proc, act: Callable[[], None]) -> None:
    """Calls `act` with the directory of our descriptor links as the working directory."""
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
    """Makes the mount read-only; other flags are kept. EBUSY means that a file in it is open for writing: it makes `tries` attempts,
    `pause_ms` apart, depending on how long the caller wants to wait for the writer."""
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
    """One option word -> [(key, value or None)]. A word may contain several options separated by commas, as in mount(2)."""
    if "context=" in word[:12]:  # SELinux: quotes protect commas in the label, and are not part of it
        key, _, value = word.partition("=")
        return [(key, value.strip('"'))]
    if "," not in word and fstype != "overlay" and word:  # nearly always
        key, equals, value = word.partition("=")
        return [(key, value if equals else None)]
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
    """A long list of overlay layers, one by one (Linux 6.7); '::' starts the data-only layers."""
    found: list[tuple[str, str | None]] = []
    key = "lowerdir+"
    for layer in _split(value, ":", True):
        if not layer:
            key = "datadir+"
            continue
        found.append((key, layer.replace("\\:", ":").replace("\\,", ",").replace("\\\\", "\\")))
    return found


def _log(context: int) -> tuple[str, ...]:
    """The messages of the file system: ('tmpfs: Bad value for ...',)."""
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
