"""Finds the package, its data files and the virtual environment, starting at the launcher.

A command that is run as root executes what is found here (the helper, and the packages that it imports). So a place counts only if no other
user can change it: at every level of its path, links included, the owner is root, the caller or the launcher's, and no other user may write.
"""

from __future__ import annotations

import posix
import sys
from _imp import is_frozen

from pyrunc import errors

PYTHON = "/usr/bin/python3"
MAX_STEPS = 256  # components of a path with those of its links; the kernel follows 40 links
S_IFMT, S_IFDIR, S_IFLNK = 0o170000, 0o040000, 0o120000
S_ISVTX, S_IWGRP, S_IWOTH = 0o1000, 0o020, 0o002


def home() -> str:
    """The directory of the package. In the compiled launcher the modules are frozen and in no file (although the interpreter may set
    __file__); the package is then searched next to the executable, and does not have to exist. Unsupported if the only one can be changed
    by others."""
    if not is_frozen(__name__):
        return __file__.rpartition("/")[0]
    refused = None
    for base in reversed(launcher_dirs()):
        for place in [base + "/..", *site_dirs(base)]:
            found = place + "/pyrunc"
            if _exists(found + "/specs"):
                reason = untrusted(found + "/specs") or untrusted(found + "/helper")
                if reason is None:
                    return found
                refused = refused or (found, reason)
    if refused is not None:
        words = "the package's files in %s are not used: %s" % (errors.quote(refused[0]), errors.quote(refused[1]))
        raise errors.Unsupported("no-package", words, None, "the package", "it and all directories above it must be root's alone")
    return launcher_dirs()[-1] + "/../pyrunc"


def data(name: str) -> str:
    """Path of a data file of the package, such as 'specs/config-schema.json'. Unsupported if others can change it."""
    path = home() + "/" + name
    reason = untrusted(path) if is_frozen(__name__) and _exists(path) else None
    if reason is not None:
        words = "%s is not used: %s" % (errors.quote(path), errors.quote(reason))
        raise errors.Unsupported("no-package", words, None, "the package", "it and all directories above it must be root's alone")
    return path


def launcher_dirs() -> list[str]:
    """The directories of argv[0] and of each symbolic link on the way to the executable, without trailing slashes. The virtual environment
    is next to the first one, the package next to the last one."""
    path = sys.argv[0] if sys.argv and sys.argv[0] else "/usr/bin/pyrunc"
    bases = []
    for _ in range(40):
        base = path.rpartition("/")[0] if "/" in path else "."
        bases.append(base)
        try:
            link = posix.readlink(path)
        except (OSError, ValueError):
            break
        path = link if link[:1] == "/" else base + "/" + link
    return bases


def site_dirs(base: str) -> list[str]:
    """The directories lib/python3.x/site-packages and dist-packages next to a launcher in `base`, those of this Python first."""
    lib = base + "/../lib/"
    names = ["python%d.%d" % sys.version_info[:2]]
    try:
        names += sorted(n for n in posix.listdir(lib) if n[:7] == "python3" and n != names[0])
    except OSError:
        return []
    return [d for n in names for d in (lib + n + "/site-packages", lib + n + "/dist-packages") if _exists(d)]


def interpreter() -> str:
    """The Python of the environment that the package is installed in, unless another user can change it: its packages, such as the
    libraries of jsonschema, are compiled for its version. Else /usr/bin/python3."""
    for base in launcher_dirs():
        path = base + "/python3"
        for folder in site_dirs(base):
            if _exists(folder + "/pyrunc/helper") and _exists(path) and untrusted(path) is None:
                return path
    return PYTHON


def untrusted(path: str) -> str | None:
    """None if only root and the caller can change what an absolute path leads to; else the reason, such as "/srv/lib belongs to uid 1000".

    Each component on the way is checked, and each symbolic link's target too. A directory that every user may write to is accepted if it
    is sticky, like /tmp: there no user can replace another one's entry. Two more owners are accepted like root, because what they own
    is executed in any case: that of the launcher (a checkout that root runs belongs to its developer), and that of /usr/bin/python3, which
    is the host's root in a user namespace without an id for it."""
    owners = {0, posix.geteuid()}
    for program in (PYTHON, sys.argv[0]):
        try:
            owners.add(posix.stat(program).st_uid)
        except (OSError, ValueError):
            pass
    todo = path.split("/")[::-1]
    at = ""
    for _ in range(MAX_STEPS):
        reason = _why_not(at or "/", owners)
        if reason is not None:
            return reason
        while todo and todo[-1] in ("", "."):
            todo.pop()
        if not todo:
            return None
        name = todo.pop()
        if name == "..":
            at = at.rpartition("/")[0]
            continue
        try:
            link = posix.readlink(at + "/" + name)
        except (OSError, ValueError):
            at += "/" + name
            continue
        reason = _why_not(at + "/" + name, owners)
        if reason is not None:
            return reason
        todo += link.split("/")[::-1]
        if link[:1] == "/":
            at = ""
    return path + " has too many levels"


def _why_not(path: str, owners: set[int]) -> str | None:
    try:
        st = posix.lstat(path)
    except (OSError, ValueError):
        return None  # what is not there is not loaded
    if st.st_uid not in owners:
        return "%s belongs to uid %d" % (path, st.st_uid)
    kind, mode = st.st_mode & S_IFMT, st.st_mode
    if kind == S_IFLNK:
        return None
    if mode & S_IWOTH and not (kind == S_IFDIR and mode & S_ISVTX):
        return "everybody may write to %s" % path
    own = st.st_gid == st.st_uid  # the group that many systems make for each user
    if mode & S_IWGRP and st.st_gid != 0 and not own and not (kind == S_IFDIR and mode & S_ISVTX):
        return "group %d may write to %s" % (st.st_gid, path)
    return None


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except (OSError, ValueError):
        return False
    return True
