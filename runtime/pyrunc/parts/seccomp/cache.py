"""Compiled filters, as hidden files in the state root. A file is used only if we wrote it for exactly this profile and it is
unchanged: we own it, no other user may write to it, and its digest covers its name and the program. Otherwise the profile is compiled again.

Engines give several runtimes the same root. runc's `list` skips files but reports every directory that is not a container; crun's skips
hidden names but fails at any other file. So these are hidden files. No container id contains an @.

A file may disappear at any time; a failure here never fails the container.
"""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.linux import constants as c
from pyrunc.linux import filters, jsonbytes

try:
    from pyrunc.linux import _libseccomp as linked
except ImportError:  # the plain launcher: the helper process loads the shared library
    linked = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash as Hash


GENERATOR = 2  # version of the compiled form; increase it when the compiler or the prologue changes
MAGIC = b"pyrunc-filter 1\n"
PREFIX = ".pyrunc@"  # of the file names
SUM = 32
NEW_FILE = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
FILES = 64  # machines use a handful of profiles
LIBRARY = "libseccomp.so.2"
LIBRARY_DIRS = ("/usr/lib/%s-linux-gnu", "/lib/%s-linux-gnu", "/usr/lib64", "/lib64", "/usr/local/lib", "/usr/lib", "/lib")


def _digest(data: bytes) -> Hash:
    try:
        from _sha2 import sha256
    except ImportError:  # Python 3.11
        from _sha256 import sha256
    made: Hash = sha256(data)
    return made


def key_of(profile: object) -> str | None:
    """The name of the cache file, which covers everything that the program depends on. None if the library can't be identified."""
    machine = posix.uname().machine
    if linked is not None:
        return _digest(jsonbytes.dumps([GENERATOR, machine, "linked in, " + linked.version(), profile])).hexdigest()
    for template in LIBRARY_DIRS:
        path = (template % machine if "%" in template else template) + "/" + LIBRARY
        try:
            link = posix.readlink(path)  # libseccomp.so.2.6.0
            st = posix.stat(path)
        except OSError:
            continue
        library = "%s %d %d" % (link, st.st_size, st.st_mtime_ns)
        return _digest(jsonbytes.dumps([GENERATOR, machine, library, profile])).hexdigest()
    return None


def open_folder(path: str) -> int:
    """fd of the state root, or -1 if it can't be used because we don't own it or others can write to it. Then each create compiles its
    profile."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError:
        return -1
    st = posix.fstat(fd)
    if st.st_uid != posix.geteuid() or st.st_mode & 0o022:
        posix.close(fd)
        return -1
    return fd


def _sealed(key: str, program: bytes) -> bytes:
    return MAGIC + _digest(key.encode() + program).digest() + program


def read(cache_fd: int, key: str) -> bytes | None:
    """The program, or None. Only from a complete regular file that we own, that no other user may write to, and that was written for this
    key."""
    try:
        fd = posix.open(PREFIX + key, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=cache_fd)
    except OSError:
        return None
    try:
        st = posix.fstat(fd)
        if st.st_mode & (c.S_IFMT | 0o077) != c.S_IFREG or st.st_uid != posix.geteuid() or st.st_size > 1 << 16:
            return None
        data = fileio.read_fd(fd, 1 << 16)
    except OSError:
        return None
    finally:
        posix.close(fd)
    program = data[len(MAGIC) + SUM :]
    return program if filters.plausible(program) and data == _sealed(key, program) else None


def keep(cache_fd: int, key: str, program: bytes) -> None:
    """Writes a temporary file and renames it, so that readers see a complete file or none. Errors are ignored: the next create compiles
    again."""
    temporary = "%s%d" % (PREFIX, posix.getpid())
    try:
        _make_room(cache_fd)
        fd = posix.open(temporary, NEW_FILE, 0o600, dir_fd=cache_fd)
        try:
            fileio.write_all(fd, _sealed(key, program))
        finally:
            posix.close(fd)
        posix.rename(temporary, PREFIX + key, src_dir_fd=cache_fd, dst_dir_fd=cache_fd)
    except OSError:
        try:
            posix.unlink(temporary, dir_fd=cache_fd)
        except OSError:
            return


def _make_room(cache_fd: int) -> None:
    """Limits the size of the cache: removes the oldest half when it is full. Files that disappear in the meantime were removed by another
    create."""
    names = [name for name in posix.listdir(cache_fd) if name.startswith(PREFIX)]
    if len(names) < FILES:
        return
    ages = []
    for name in names:
        try:
            ages.append((posix.stat(name, dir_fd=cache_fd, follow_symlinks=False).st_mtime_ns, name))
        except OSError:
            continue
    for _age, name in sorted(ages)[: FILES // 2]:
        try:
            posix.unlink(name, dir_fd=cache_fd)
        except OSError:
            continue
