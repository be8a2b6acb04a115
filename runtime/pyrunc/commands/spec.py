"""spec: writes a config.json to begin with, indented by tabs as runc does. Never overwrites a file."""

import posix

from pyrunc import lean
from pyrunc.errors import UsageError, errno_text, quote
from pyrunc.oci import example

NAME = "config.json"
EEXIST = 17


def main(options, args):
    bundle = options.get("bundle") or "."
    document = example.config(options.get("rootless", False), posix.geteuid(), posix.getegid(), cgroup_namespace=_unified())
    try:
        dir_fd = posix.open(bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise UsageError("chdir %s: %s" % (quote(bundle), _text(e)), "spec", "bundle") from None
    try:
        _write(dir_fd, (lean.dumps(document, indent="\t") + "\n").encode())
    finally:
        posix.close(dir_fd)
    return 0


def _write(dir_fd, data):
    try:
        fd = posix.open(NAME, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666, dir_fd=dir_fd)
    except OSError as e:
        if e.errno == EEXIST:
            raise UsageError("File %s exists. Remove it first" % NAME, "spec") from None
        raise UsageError("open %s: %s" % (NAME, errno_text(e.errno)), "spec") from None
    try:
        lean.write_all(fd, data)
    except OSError as e:
        posix.unlink(NAME, dir_fd=dir_fd)
        raise UsageError("write %s: %s" % (NAME, errno_text(e.errno)), "spec") from None
    finally:
        posix.close(fd)


def _text(e):
    return errno_text(e.errno) if isinstance(e, OSError) else "the path has a NUL byte"


def _unified():
    """Whether the host has cgroup v2 alone: then containers get a cgroup namespace."""
    try:
        posix.stat("/sys/fs/cgroup/cgroup.controllers")
    except OSError:
        return False
    return True
