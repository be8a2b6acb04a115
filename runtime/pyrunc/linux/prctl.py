"""prctl(2) by name. First leg: the compiled half of python-prctl; second leg, where that can't be loaded (no package, or an
executable without dlopen): _syscalls. Both say the same: test_pidfd runs each function on both.

python-prctl has prctl with two arguments only, no ambient set, and takes no capability that is younger than itself (ValueError), so
those calls are _syscalls alone. `import prctl`, its other half, is
never used: it loads re and collections and reads /proc/self/cmdline. Rule: no policy; an error is a CallError.
"""

from pyrunc.errors import CallError
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import (
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    PR_GET_DUMPABLE,
    PR_GET_KEEPCAPS,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_SECUREBITS,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NAME,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    PR_SET_SECUREBITS,
)

try:
    import _prctl
except ImportError:
    _prctl = None


def _two(op, value=0):
    if _prctl is None:
        return _syscalls.prctl(op, value)
    try:
        return _prctl.prctl(op, value)
    except OSError as e:
        raise CallError.of(e, "prctl") from None


def set_pdeathsig(number):
    """The signal this process gets when its parent dies. Taken away by a change of ids."""
    _two(PR_SET_PDEATHSIG, number)


def set_dumpable(on):
    _two(PR_SET_DUMPABLE, int(on))


def is_dumpable():
    return bool(_two(PR_GET_DUMPABLE))


def set_no_new_privs():
    _two(PR_SET_NO_NEW_PRIVS, 1)


def has_no_new_privs():
    return bool(_two(PR_GET_NO_NEW_PRIVS))


def set_keepcaps(on):
    _two(PR_SET_KEEPCAPS, int(on))


def has_keepcaps():
    return bool(_two(PR_GET_KEEPCAPS))


def set_child_subreaper(on):
    _two(PR_SET_CHILD_SUBREAPER, int(on))


def get_securebits():
    return _two(PR_GET_SECUREBITS)


def set_securebits(bits):
    _two(PR_SET_SECUREBITS, bits)


def bounding(number):
    """Whether a capability is in the bounding set. OSError EINVAL: the kernel does not know it."""
    return bool(_syscalls.prctl(PR_CAPBSET_READ, number))


def drop_bounding(number):
    _syscalls.prctl(PR_CAPBSET_DROP, number)


def set_name(name):
    """The name of this thread, 15 bytes at most."""
    _syscalls.prctl(PR_SET_NAME, name[:15] + b"\0")
