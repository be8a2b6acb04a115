"""Finds the package, its data files and the virtual environment, starting at the launcher."""

from __future__ import annotations

import posix
import sys
from _imp import is_frozen


def home() -> str:
    """The directory of the package. In the compiled launcher the modules are frozen and in no file (the interpreter may set __file__ all the
    same); the package is then searched beside the executable, and need not exist."""
    if not is_frozen(__name__):
        return __file__.rpartition("/")[0]
    for base in reversed(launcher_dirs()):
        for place in [base + "/..", *site_dirs(base)]:
            if _exists(place + "/pyrunc/specs"):
                return place + "/pyrunc"
    return launcher_dirs()[-1] + "/../pyrunc"


def data(name: str) -> str:
    """Path of a data file of the package, such as 'specs/config-schema.json'."""
    return home() + "/" + name


def launcher_dirs() -> list[str]:
    """The directories of argv[0] and of each symbolic link on the way to the executable, without trailing slashes. The virtual environment is
    beside the first one, the package beside the last one."""
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
    """The directories lib/python3.x/site-packages and dist-packages beside a launcher in `base`, those of this Python first."""
    lib = base + "/../lib/"
    names = ["python%d.%d" % sys.version_info[:2]]
    try:
        names += sorted(n for n in posix.listdir(lib) if n[:7] == "python3" and n != names[0])
    except OSError:
        return []
    return [d for n in names for d in (lib + n + "/site-packages", lib + n + "/dist-packages") if _exists(d)]


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except (OSError, ValueError):
        return False
    return True
