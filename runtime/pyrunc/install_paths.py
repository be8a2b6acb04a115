"""Where the package, its data files and the virtual environment are, seen from the launcher."""

from __future__ import annotations

import posix
import sys
from _imp import is_frozen


def home() -> str:
    """The directory of the package. Frozen into the launcher it is in no file (the interpreter may set a __file__ all the same): then
    beside the executable, which need not be there."""
    if not is_frozen(__name__):
        return __file__.rpartition("/")[0]
    for base in reversed(launcher_dirs()):
        for place in [base + "/..", *site_dirs(base)]:
            if _exists(place + "/pyrunc/specs"):
                return place + "/pyrunc"
    return launcher_dirs()[-1] + "/../pyrunc"


def data(name: str) -> str:
    """'specs/config-schema.json' -> path of a data file of the package."""
    return home() + "/" + name


def launcher_dirs() -> list[str]:
    """The directories of the executable that was called: argv[0], and each link on the way from there, without slashes at their
    ends. The venv is where the first one is, the package where the last one leads."""
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
    """[…/lib/python3.x/site-packages, …/dist-packages] beside a launcher in `base`, those of this Python first."""
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
