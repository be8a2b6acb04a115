"""Whole files, complete writes, and file names as str or bytes, without importing os or io."""

from __future__ import annotations

import errno
import posix

from pyrunc import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Inode(Protocol):
        @property
        def st_ino(self) -> int: ...
        @property
        def st_dev(self) -> int: ...


def fsencode(name: str | bytes) -> bytes:
    """str -> bytes as the kernel sees them; bytes are returned unchanged. The inverse of fsdecode."""
    if isinstance(name, bytes):
        return name
    return name.encode() if name.isascii() else name.encode("utf-8", "surrogateescape")  # giving a handler takes three times as long


def fsdecode(name: str | bytes) -> str:
    """bytes -> str, with bytes that are not UTF-8 as U+DC80..U+DCFF; str is returned unchanged."""
    return name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")


# --- files

S_IFMT, S_IFREG, S_IFDIR = 0o170000, 0o100000, 0o040000  # inode(7)


def is_regular(mode: int) -> bool:
    """Whether a st_mode is that of a regular file."""
    return mode & S_IFMT == S_IFREG


def is_directory(mode: int) -> bool:
    return mode & S_IFMT == S_IFDIR


def is_same(one: Inode, other: Inode) -> bool:
    """Whether two results of stat(2) are of the same file (inode(7): device and inode)."""
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev


CHUNK = 64 << 10  # of a read; malloc maps and unmaps larger buffers at each call


def read_fd(fd: int, limit: int = 16 << 20) -> bytes:
    """The rest of a file or pipe as bytes. OSError; EFBIG if there are more than `limit` bytes."""
    chunks: list[bytes] = []
    left = limit + 1
    while left > 0:
        try:
            chunk = posix.read(fd, min(left, CHUNK))
        except BlockingIOError:
            _wait(fd, 1)
            continue
        if not chunk:
            return b"".join(chunks) if len(chunks) != 1 else chunks[0]
        chunks.append(chunk)
        left -= len(chunk)
    raise OSError(errno.EFBIG, posix.strerror(errno.EFBIG))


def read_file(path: str | bytes, limit: int = 16 << 20, dir_fd: int | None = None) -> bytes:
    """The whole file as bytes. OSError names the path. For our own files and the kernel's; oci.load reads what callers pass."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOCTTY, dir_fd=dir_fd)
    try:
        return read_fd(fd, limit)
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from None
    finally:
        posix.close(fd)


def own_environ() -> list[bytes]:
    """The caller's environment as the kernel has it, as a list of bytes; Python adds LC_CTYPE to os.environ."""
    return [entry for entry in read_file("/proc/self/environ", 64 << 20).split(b"\0") if entry]


def write_all(fd: int, data: str | bytes | bytearray | memoryview) -> None:
    """Writes everything: continues after a short write, and waits if the descriptor is non-blocking. CallError."""
    view = memoryview(data if not isinstance(data, str) else fsencode(data))
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except BlockingIOError:
            _wait(fd, 4)
        except OSError as e:
            if fd == 1:
                words = "cannot write to standard output: %s" % errors.errno_text(e.errno)
                raise errors.CallError.of(e, "write", words) from None
            raise


def _wait(fd: int, events: int) -> None:
    """Waits until a non-blocking descriptor is ready (poll(2): POLLIN is 1, POLLOUT 4)."""
    import select

    poll = select.poll()
    poll.register(fd, events)
    poll.poll()
