"""Reads the documents that callers pass: config.json of a bundle, process.json of exec, resources of update.

Invariant: a file is opened once, opening never blocks, and its type is checked before it is read. bundle.md (config.json must be at the
bundle's root), config.md (UTF-8 JSON). The result is always an object without NUL in any string.
"""

from __future__ import annotations

import errno
import posix

from pyrunc import errors, fileio, jsonio
from pyrunc.linux.constants import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK
from pyrunc.oci import pointers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.jsonio import Json

LIMIT = 16 << 20  # bytes
FLAGS = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY
KINDS = {S_IFDIR: "a directory", S_IFCHR: "a character device", S_IFBLK: "a block device", S_IFIFO: "a fifo", S_IFSOCK: "a socket"}
OWN = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


def config(bundle: str | bytes | int, name: str = "config.json") -> tuple[dict[str, Json], bytes]:
    """bundle: path or directory descriptor -> (document, its bytes). Raises Refusal."""
    if isinstance(bundle, int):
        return file(name, dir_fd=bundle)
    return file(_path(bundle, name), shown=name)


def _path(bundle: str | bytes, name: str) -> str:
    """A relative name starts at the bundle."""
    return name if name[:1] == "/" else fileio.fsdecode(bundle) + "/" + name


def file(
    path: str | bytes, shown: str | None = None, dir_fd: int | None = None, limit: int = LIMIT, wrap: str | None = None
) -> tuple[dict[str, Json], bytes]:
    """A JSON file with an object -> (document, its bytes). `shown` is its name in messages; with `wrap`, a list is accepted as {wrap:
    list}. Raises Refusal."""
    name = errors.quote(shown or fileio.fsdecode(path))
    raw = _contents(path, name, dir_fd, limit)
    return parse(raw, name, wrap), raw


def raw(bundle: str, name: str = "config.json") -> bytes:
    """The bytes of a bundle's config, unchecked. Raises Refusal."""
    return _contents(_path(bundle, name), errors.quote(name), None, LIMIT)


def _contents(path: str | bytes, name: str, dir_fd: int | None, limit: int) -> bytes:
    """The bytes of a file that a caller passes; it is opened once, and opening never blocks."""
    if "\0" in fileio.fsdecode(path):
        raise errors.Refusal("config-unreadable", "open %s: the path contains a NUL" % name, None)
    try:
        fd = posix.open(path, FLAGS, dir_fd=dir_fd)
    except OSError as e:
        raise _unopened(e, path, name, dir_fd) from None
    try:
        kind = posix.fstat(fd).st_mode & S_IFMT
        if kind == S_IFIFO and fileio.fsdecode(path).startswith(OWN):
            posix.set_blocking(fd, True)  # a pipe that the caller opened for us: `--process <(…)`
        elif kind != S_IFREG:
            raise errors.Refusal("config-unreadable", "%s is %s, and must be a file" % (name, KINDS.get(kind, "of an unknown kind")), None)
        return _read(fd, name, limit)
    finally:
        posix.close(fd)


def stream(fd: int, name: str, limit: int = LIMIT, wrap: str | None = None) -> tuple[dict[str, Json], bytes]:
    """The same from an open descriptor, up to the end: standard input may be a pipe, and then reading blocks."""
    raw = _read(fd, name, limit)
    return parse(raw, name, wrap), raw


def parse(raw: bytes, name: str, wrap: str | None = None) -> dict[str, Json]:
    """bytes -> a JSON object without NUL. Raises Refusal."""
    if wrap is not None and raw.lstrip()[:1] == b"[":
        raw = b'{"%s":%b}' % (wrap.encode(), raw)
    document = jsonio.loads(raw, name)
    if type(document) is not dict:
        kind = {list: "a list", str: "a string", int: "a number", bool: "true or false"}.get(type(document), "null")
        raise errors.Refusal("wrong-type", "%s: the document must be an object, found %s" % (name, kind), "/")
    if b"\\u0000" in raw:  # the only way to write a NUL
        for pointer, text in pointers.strings(document):
            if "\0" in text:
                raise errors.Refusal("nul", '%s: NUL in "%s"' % (name, errors.quote(text)), errors.quote(pointer))
    return document


def _read(fd: int, name: str, limit: int) -> bytes:
    try:
        return fileio.read_fd(fd, limit)
    except OSError as e:
        if e.errno == errno.EFBIG:
            raise errors.Refusal("too-large", "%s is larger than %d MiB" % (name, limit >> 20), None) from None
        raise errors.Refusal("config-unreadable", "read %s: %s" % (name, errors.errno_text(e.errno)), None) from None


def _unopened(e: OSError, path: str | bytes, name: str, dir_fd: int | None) -> errors.Refusal:
    """The reason why a file could not be opened, with runc's wording for the error that callers know."""
    if e.errno == errno.ENOENT and name == "config.json":
        return errors.Refusal("no-config", "JSON specification file config.json not found", None)
    if e.errno == errno.ENXIO:  # a socket; or a fifo or device without another end
        try:
            kind = posix.stat(path, dir_fd=dir_fd).st_mode & S_IFMT
            return errors.Refusal("config-unreadable", "%s is %s, and must be a file" % (name, KINDS.get(kind, "of an unknown kind")), None)
        except OSError:
            pass
    return errors.Refusal("config-unreadable", "open %s: %s" % (name, errors.errno_text(e.errno)), None)
