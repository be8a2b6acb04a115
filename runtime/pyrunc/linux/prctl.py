"""prctl(2) by name, through the compiled half of python-prctl; where that can't be loaded (no package, or an executable without dlopen),
through _syscalls. Both behave the same: test_pidfd runs each function on both.

python-prctl takes one argument only, and its other half, `import prctl`, is never used: it loads re and collections and reads
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
    """The signal this process gets when its parent dies. Taken away by a change of ids."""
    _two(PR_SET_PDEATHSIG, number)


def set_dumpable(on: bool) -> None:
    _two(PR_SET_DUMPABLE, int(on))


def set_child_subreaper(on: bool) -> None:
    _two(PR_SET_CHILD_SUBREAPER, int(on))
