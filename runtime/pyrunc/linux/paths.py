"""The only resolver of paths inside a container's root. It also creates missing files and directories.

Invariant: a path from the config or the image is only passed to the kernel relative to a descriptor of the root, with RESOLVE_IN_ROOT or
one component at a time (the class of CVE-2019-18837, CVE-2021-30465, CVE-2024-45310). A path is resolved only once: callers use the
descriptor, and check with `verify` that the path still leads to it.

Links are followed inside the root, including dangling ones (an image's /etc/resolv.conf may point into an empty /run): their targets are
then created. Magic links of /proc are never followed; at most their text is used as a path inside the root.
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError
from pyrunc.linux import _syscalls, constants, fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


RETRIES = 128  # after a rename on the path the kernel returns EAGAIN; repeated renames must not block us forever
LINKS = 40  # as in the kernel
DEEPEST = 65536  # levels of directories above one; deeper ones are made one level at a time, below a working directory
IN_ROOT = constants.RESOLVE_IN_ROOT | constants.RESOLVE_NO_MAGICLINKS
PLAIN_IN_ROOT = IN_ROOT | constants.RESOLVE_NO_SYMLINKS
MOVED = (errno.EAGAIN, errno.EXDEV)  # a rename on the path; EXDEV: it briefly moved us out of the root
CLOEXEC = posix.O_CLOEXEC
NEW_DIRECTORY = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | CLOEXEC


def clean(path: str) -> str:
    """'/a//./b/../c/' -> '/a/c'; a relative path starts at '/', and '..' stops there. Only the text is used."""
    if path[:1] == "/" and "/." not in path and "//" not in path and path[-1] != "/":  # nearly always
        return path
    kept: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del kept[-1:]
        elif name and name != ".":
            kept.append(name)
    return "/" + "/".join(kept)


def resolve(root_fd: int, path: str, flags: int = posix.O_PATH, plain: bool = False) -> int:
    """-> fd of the file that `path` leads to inside the root. `plain`: ELOOP if any component is a link."""
    left = RETRIES
    while True:
        try:
            return _syscalls.openat2(root_fd, path, flags | CLOEXEC, 0, PLAIN_IN_ROOT if plain else IN_ROOT)
        except OSError as e:
            if e.errno not in MOVED or not left:
                e.filename = path
                raise
        left -= 1


def find(root_fd: int, path: str, flags: int = posix.O_PATH, plain: bool = False) -> int | None:
    """resolve() of a file that may be missing: None."""
    try:
        return _syscalls.find(root_fd, path, flags | CLOEXEC, PLAIN_IN_ROOT if plain else IN_ROOT)
    except OSError as e:
        if e.errno not in MOVED:
            e.filename = path
            raise
    try:
        return resolve(root_fd, path, flags, plain)
    except FileNotFoundError:
        return None


def make_dir(root_fd: int, path: str, mode: int = 0o755, plain: bool = False) -> int:
    """-> O_PATH fd of the directory `path`; it and its parents are created if they are missing. ENOTDIR if it is something else."""
    fd = find(root_fd, path, posix.O_PATH, plain)
    return make_missing_dir(root_fd, path, mode, plain) if fd is None else _directory(fd, path)


def make_missing_dir(root_fd: int, path: str, mode: int = 0o755, plain: bool = False) -> int:
    """Like make_dir, if the caller already knows that the directory does not exist. Usually only the last one is missing."""
    folder, _, name = path.rpartition("/")
    how = PLAIN_IN_ROOT if plain else IN_ROOT
    umask = posix.umask(0)
    try:
        if name and name != ".." and name != ".":
            return _syscalls.calls(
                [
                    ("OPENAT2", root_fd, folder or "/", posix.O_PATH | posix.O_DIRECTORY | CLOEXEC, how),
                    ("MKDIRAT", _syscalls.FIRST, name, mode),
                    ("OPENAT", _syscalls.FIRST, name, NEW_DIRECTORY),
                ],
                _syscalls.SECOND,
            )
    except OSError:
        pass  # others are missing, too, or there is a link: the same with all that can happen on the way
    finally:
        posix.umask(umask)
    return _directory(_walk(root_fd, path, mode, None, plain), path)


def _directory(fd: int, path: str) -> int:
    if fs.kind(fd) != fs.S_IFDIR:
        posix.close(fd)
        raise fs.failure(errno.ENOTDIR, "openat2", path)
    return fd


def make_file(root_fd: int, path: str, mode: int = 0o644, dir_mode: int = 0o755, plain: bool = False) -> int:
    """-> O_PATH fd of the file that `path` leads to, which may be of any type; if there is none, an empty file is created."""
    fd = find(root_fd, path, posix.O_PATH, plain)
    return _walk(root_fd, path, dir_mode, mode, plain) if fd is None else fd


def parent(root_fd: int, path: str, mode: int = 0o755) -> tuple[int, str]:
    """-> (fd of the directory of the last component, the component's name); the directory is created if it is missing."""
    folder, _, name = clean(path).rpartition("/")
    return make_dir(root_fd, folder or "/", mode), name


def read_lines(root_fd: int, path: str, limit: int, reopen: Callable[[int, int], int] | None = None) -> list[bytes]:
    """The lines in the first `limit` bytes of a file of the image; none if it is missing or can't be read. The file is untrusted: links are
    resolved inside the root, only regular files are opened (a fifo would block, opening a device may have effects), and an incomplete last
    line is dropped (CVE-2024-9676). reopen(fd, flags): opens the file of an O_PATH descriptor; by default through /proc/self/fd."""
    text = b""
    try:
        node = resolve(root_fd, path)
        try:
            if not fileio.is_regular(fs.fstat(node).st_mode):
                return []
            fd = (reopen or _reopen)(node, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY)
        finally:
            posix.close(node)
        try:
            while len(text) < limit:
                more = posix.read(fd, min(limit - len(text), fileio.CHUNK))
                if not more:
                    return text.split(b"\n")
                text += more
        finally:
            posix.close(fd)
    except OSError:
        return []
    return text.split(b"\n")[:-1]


def _reopen(fd: int, flags: int) -> int:
    return posix.open("/proc/self/fd/%d" % fd, flags | posix.O_CLOEXEC)


def top(fd: int) -> int:
    """-> O_PATH fd of the root of the mount tree that the directory `fd` is in, which is not the root of a process that has called chroot(2).
    Closes fd. Only for trees of another mount namespace: in ours, `..` stops at our own root."""
    for _ in range(DEEPEST):
        above = fs.open("..", posix.O_PATH | posix.O_DIRECTORY, dir_fd=fd)
        same = mount_id(above) == mount_id(fd) and fileio.is_same(fs.fstat(above), fs.fstat(fd))
        posix.close(fd)
        fd = above
        if same:
            break
    return fd


def mount_id(fd: int) -> int:
    """The id of the mount that `fd` is on, as in mountinfo."""
    return _syscalls.mount_id(fd)


def unique_mount_id(fd: int) -> int:
    """A mount id that is never reused; 0 before Linux 6.8."""
    found = _syscalls.statx(fd, b"", constants.AT_EMPTY_PATH, constants.STATX_MNT_ID_UNIQUE)
    return found[9] if found[0] & constants.STATX_MNT_ID_UNIQUE else 0


def is_mount_root(fd: int) -> bool:
    return bool(_syscalls.statx(fd, b"", constants.AT_EMPTY_PATH, 0)[10] & constants.STATX_ATTR_MOUNT_ROOT)


def verify(root_fd: int, path: str, mount_fd: int, plain: bool = False) -> None:
    """Resolves `path` again: it must lead to the mount that `mount_fd` is on. ESTALE if something was moved in the meantime."""
    how = PLAIN_IN_ROOT if plain else IN_ROOT
    left = RETRIES
    while True:
        try:
            _syscalls.calls([("OPENAT2", root_fd, path, posix.O_PATH | CLOEXEC, how), ("SAME_MOUNT", _syscalls.FIRST, mount_fd, path)], -1)
            return
        except OSError as e:
            if e.errno not in MOVED or not left:
                raise
        left -= 1


def _split(path: str) -> list[str]:
    return [name for name in reversed(path.split("/")) if name and name != "."]


def _walk(root_fd: int, path: str, dir_mode: int, file_mode: int | None, plain: bool) -> int:
    """Walks one component at a time, checking each before entering it. file_mode None: the last one is also a directory."""
    names: list[str] = []
    pending, here, links, tries = _split(path), root_fd, 0, 0
    try:
        while pending:
            name = pending.pop()
            if name == "..":
                names = names[:-1]
                here = _step(root_fd, here, resolve(root_fd, "/".join(names) or "/", posix.O_PATH | posix.O_DIRECTORY, True))
                continue
            try:
                fd = posix.open(name, posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=here)
            except FileNotFoundError:
                tries += 1
                if tries > RETRIES:
                    raise
                _make(here, name, dir_mode, None if pending else file_mode)
                pending.append(name)
                continue
            kind = fs.kind(fd)
            if kind == fs.S_IFLNK:
                links += 1
                target = _target(fd, path, links if not plain else LINKS + 1)
                pending += _split(target)
                if target[:1] == "/":
                    names = []
                    here = _step(root_fd, here, root_fd)
                continue
            here = _step(root_fd, here, fd)
            names.append(name)
            if kind != fs.S_IFDIR and pending:
                raise fs.failure(errno.ENOTDIR, "openat", path)
    except OSError as e:
        _step(root_fd, here, root_fd)
        raise CallError.of(e, "openat", path=path) from None
    return posix.dup(here) if here == root_fd else here


def _step(root_fd: int, old: int, new: int) -> int:
    """Closes `old`, unless it is the root, and returns `new`."""
    if old != root_fd:
        posix.close(old)
    return new


def _target(fd: int, path: str, links: int) -> str:
    """The text of the link that `fd` refers to; closes `fd`."""
    try:
        if links > LINKS:
            raise fs.failure(errno.ELOOP, "openat2", path)
        target = fs.readlink("", dir_fd=fd)
        if not target:
            raise fs.failure(errno.ENOENT, "readlinkat", path)
        return target
    finally:
        posix.close(fd)


def _make(here: int, name: str, dir_mode: int, file_mode: int | None) -> None:
    """Creates one missing name. It is not an error if it exists by now: it is checked again. The umask is ours, not the container's."""
    umask = posix.umask(0)
    try:
        if file_mode is None:
            fs.mkdir(name, dir_mode, dir_fd=here)
        else:
            posix.close(fs.open(name, posix.O_RDONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_NONBLOCK, file_mode, here))
    except FileExistsError:
        return
    finally:
        posix.umask(umask)
