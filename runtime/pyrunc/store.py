"""The state root: which containers are below it, and the directories of new ones. state_dir.py has what is in these.

Other modules create only their own files there: the fifos for start (engine/gate.py), the directory of a supervisor's socket, mount points
of a restore, compiled filters.
"""

from __future__ import annotations

import posix
from errno import EEXIST, ELOOP, ENOENT, ENOTDIR

from pyrunc import fileio
from pyrunc.errors import CALLER_TEXT, StateError, UsageError, errno_text, quote
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import AT_FDCWD, RESOLVE_NO_SYMLINKS
from pyrunc.state_dir import DIR, VERSION, StateDir, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Globals, Options

ID_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-")
INITIAL_USERNS = 0xEFFFFFFD  # PROC_USER_INIT_INO, include/linux/proc_ns.h


def check_id(id: str) -> str:
    """Refuses an id before any path is built from it. `.` and `..` would be the store itself and its parent."""
    if not id:
        raise StateError("empty-id", CALLER_TEXT["empty-id"], id)
    if not ID_CHARS.issuperset(id) or id in (".", "..") or len(id) > 255:
        raise StateError("bad-id", "%s: %s" % (CALLER_TEXT["bad-id"], quote(id)), id, hint="use letters, digits, _ + . - (at most 255)")
    return id


def in_user_namespace() -> bool:
    """True unless this is the initial user namespace. Its inode number is fixed; its map is not sufficient, because another namespace can
    also have the identity map. The map decides only if /proc/self/ns/user cannot be read."""
    try:
        return posix.stat("/proc/self/ns/user").st_ino != INITIAL_USERNS
    except OSError:
        pass
    try:
        fields = fileio.read_file("/proc/self/uid_map", 4096).split()
    except OSError:
        return False
    return fields[:3] != [b"0", b"0", b"4294967295"]


def root_of(options: Globals) -> str:
    """Global options → absolute path of the state root. /run/pyrunc for real root, else $XDG_RUNTIME_DIR/pyrunc (sticky, so that
    systemd-tmpfiles leaves it alone). Does not create it."""
    given = options.get("root")
    if given is not None:
        if "\0" in given:
            raise UsageError("nul", "--root has a NUL byte", None, "root")
        path = absolute(given) if given else ""
        if path in ("", "/"):
            raise UsageError(
                "state-root", "the state root must not be %s" % (path or "empty"), None, "root", "give --root a separate directory"
            )
        return path
    xdg = posix.environ.get(b"XDG_RUNTIME_DIR", b"")
    if posix.geteuid() == 0 and (posix.environ.get(b"USER") == b"root" or not in_user_namespace()):
        return "/run/pyrunc"
    if not xdg:
        raise UsageError("no-state-root", "no place for the state: XDG_RUNTIME_DIR is not set", None, "root", "set it or give --root")
    return fileio.fsdecode(xdg) + "/pyrunc"


def absolute(path: str) -> str:
    """Lexically absolute and clean, like Go's filepath.Abs: a relative path starts at the caller's working directory."""
    if path[:1] != "/":
        try:
            path = posix.getcwd() + "/" + path
        except OSError as e:
            words = "getwd: %s" % errno_text(e.errno)
            raise UsageError(
                "no-working-directory",
                words,
                None,
                None,
                "the working directory no longer exists: change to another one, or use absolute paths",
            ) from None
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _make_root(path: str, sticky: bool) -> None:
    try:
        _syscalls.fstatat(AT_FDCWD, path, 0)
        return  # nearly always
    except OSError:
        done = ""
    for part in path.split("/")[1:]:
        done += "/" + part
        try:
            posix.mkdir(done, 0o700 if done == path else 0o711)
            if done == path and sticky:
                posix.chmod(done, 0o1700)
        except FileExistsError:
            continue
        except OSError as e:
            raise UsageError("state-root", "cannot make the state root %s: %s" % (quote(path), errno_text(e.errno)), None, "root") from None


def _open_root(path: str) -> int:
    try:
        fd = posix.open(path, DIR & ~posix.O_NOFOLLOW)
    except OSError as e:
        if e.errno == ENOENT:
            return -1
        raise UsageError("state-root", "cannot open the state root %s: %s" % (quote(path), errno_text(e.errno)), None, "root") from None
    info = _syscalls.fstat(fd)
    if info.st_uid != posix.geteuid() or info.st_mode & 0o022:
        posix.close(fd)
        raise UsageError(
            "state-root", "the state root %s belongs to uid %d with mode %o" % (quote(path), info.st_uid, info.st_mode & 0o7777), None, "root",
            "it must belong to the caller, and nobody else may write to it",
        )  # fmt: skip
    return fd


def _opened(root_fd: int, id: str) -> int:
    """Opens the directory that was just created; removes it again if it can't be opened."""
    try:
        return posix.open(id, DIR, dir_fd=root_fd)
    except OSError:
        try:
            posix.rmdir(id, dir_fd=root_fd)
        except OSError:  # report the first error; delete removes an empty directory
            pass
        raise


def reserve(root: str, id: str) -> StateDir:
    """Creates ROOT/ID, which decides between two concurrent creates, and locks it. StateError if the id is in use."""
    check_id(id)
    _make_root(root, sticky=root == fileio.fsdecode(posix.environ.get(b"XDG_RUNTIME_DIR", b"")) + "/pyrunc")
    root_fd = _open_root(root)
    if root_fd < 0:
        raise UsageError(
            "state-root", "cannot open the state root %s: it is a link to nothing, or was removed just now" % quote(root), None, "root"
        )
    try:
        posix.mkdir(id, 0o700, dir_fd=root_fd)
        fd = _opened(root_fd, id)
    except OSError as e:
        if e.errno == EEXIST:
            raise StateError("id-exists", CALLER_TEXT["exists"], id, hint="delete it first, or use another id") from None
        raise StateError(
            "unreadable-state", "cannot make %s/%s: %s" % (root, id, text_of(e)), id, hint="is the disk full or read-only?"
        ) from None
    finally:
        posix.close(root_fd)
    state_dir = StateDir(id, root + "/" + id, fd)
    try:
        state_dir.lock(0)
    except OSError:
        state_dir.forget()
        raise
    return state_dir


def open_state_dir(root: str, id: str) -> StateDir:
    """The container's directory, without reading its state. StateError `container does not exist`."""
    check_id(id)
    root_fd = _open_root(root)
    if root_fd < 0:
        raise StateError("unknown-container", CALLER_TEXT["unknown"], id)
    try:
        return StateDir(id, root + "/" + id, posix.open(id, DIR, dir_fd=root_fd))
    except OSError as e:
        if e.errno in (ENOENT, ENOTDIR, ELOOP):
            raise StateError("unknown-container", CALLER_TEXT["unknown"], id) from None
        raise StateError("unreadable-state", "cannot open %s/%s: %s" % (root, id, text_of(e)), id) from None
    finally:
        posix.close(root_fd)


def open_state(options: Options, id: str) -> StateDir:
    """A StateDir with its state, for commands that act on a container."""
    return open_state_dir(root_of(options["globals"]), id).load()


def ids(root: str) -> list[str]:
    """Names of the container directories below the root, sorted; none if the root does not exist. Other files are ignored."""
    root_fd = _open_root(root)
    if root_fd < 0:
        return []
    try:
        with posix.scandir(root_fd) as found:
            return sorted(e.name for e in found if ID_CHARS.issuperset(e.name) and e.is_dir(follow_symlinks=False))
    finally:
        posix.close(root_fd)


def whole(root: str, names: list[str]) -> set[str]:
    """Those of `names` whose state does not have to be parsed to be listed: the last line of the log is a complete line written by save().
    For `list -q`, where parsing takes most of the time. The caller loads the state of the others, or reports why it can't."""
    root_fd = _open_root(root)
    found = set()
    for name in names if root_fd >= 0 else ():
        try:
            fd = _syscalls.openat2(
                root_fd, name + "/state.json", posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK, 0, RESOLVE_NO_SYMLINKS
            )
        except OSError:
            continue
        try:
            data = posix.read(fd, fileio.CHUNK)
        except OSError:  # a directory, for example
            data = b""
        posix.close(fd)
        line = data[data.rfind(b"\n", 0, -1) + 1 :]
        if line.startswith(b'{"version":%d,"id":"%s","' % (VERSION, name.encode())) and line.endswith(b"}\n") and len(data) < fileio.CHUNK:
            found.add(name)
    if root_fd >= 0:
        posix.close(root_fd)
    return found
