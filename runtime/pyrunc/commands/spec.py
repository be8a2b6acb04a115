"""spec: writes a config.json to begin with, indented by tabs as runc does. Never overwrites a file. --file names another one, or - for
standard output."""

import posix

from pyrunc import lean
from pyrunc.errors import UsageError, errno_text, quote
from pyrunc.oci import example

NAME = "config.json"
EEXIST = 17


def main(options, args):
    bundle = options.get("bundle") or "."
    name = options.get("file") or NAME
    document = example.config(options.get("rootless", False), posix.geteuid(), posix.getegid(), cgroup_namespace=_unified())
    data = (lean.dumps(document, indent="\t") + "\n").encode()
    if name == "-":
        lean.write_all(1, data)
        return 0
    try:
        dir_fd = posix.open(bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise UsageError("chdir %s: %s" % (quote(bundle), _text(e)), "spec", "bundle") from None
    try:
        _write(dir_fd, name, data)
    finally:
        posix.close(dir_fd)
    return 0


def _write(dir_fd, name, data):
    shown = quote(name)
    try:
        fd = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666, dir_fd=dir_fd)
    except (OSError, ValueError) as e:
        if getattr(e, "errno", None) == EEXIST:
            raise UsageError("File %s exists. Remove it first" % shown, "spec") from None
        raise UsageError("open %s: %s" % (shown, _text(e)), "spec") from None
    try:
        lean.write_all(fd, data)
    except OSError as e:
        posix.unlink(name, dir_fd=dir_fd)
        raise UsageError("write %s: %s" % (shown, errno_text(e.errno)), "spec") from None
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
