"""prctl(2) by name, using the compiled half of python-prctl, or _syscalls if that can't be loaded (not installed, or an executable without
dlopen). Both behave the same: test_pidfd runs each function with both.

python-prctl accepts only one argument, and its other half, `import prctl`, is never used: it loads re and collections and reads
/proc/self/cmdline. Everything else of prctl(2) is called through _syscalls. Rule: no policy; an error is a CallError.
"""

from __future__ import annotations

from pyrunc.errors import CallError
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, PR_SET_PDEATHSIG

try:
    import _prctl
except ImportError:
    _prctl = None


def _two(op: int, value: int = 0) -> int:
    if _prctl is None:
        return _syscalls.prctl(op, value)
    try:
        answer: int = _prctl.prctl(op, value)
        return answer
    except OSError as e:
        raise CallError.of(e, "prctl") from None


def set_pdeathsig(number: int) -> None:
    """Sets the signal that this process gets when its parent dies. Changing ids clears it."""
    _two(PR_SET_PDEATHSIG, number)


def set_dumpable(on: bool) -> None:
    _two(PR_SET_DUMPABLE, int(on))


def set_child_subreaper(on: bool) -> None:
    _two(PR_SET_CHILD_SUBREAPER, int(on))
