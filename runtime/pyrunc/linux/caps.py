"""Capabilities: names and numbers, and what this process and this kernel have.

The list is that of include/uapi/linux/capability.h; python-prctl's lacks the newest ones. A test compares the two.
"""

from __future__ import annotations

from pyrunc.linux import _syscalls
from pyrunc.linux.constants import PR_CAPBSET_READ

NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
    "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
    "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(NAMES)}
SYS_RESOURCE = NUMBERS["CAP_SYS_RESOURCE"]


def last() -> int:
    """The highest capability of the running kernel, as in /proc/sys/kernel/cap_last_cap, determined without opening a file."""
    number = len(NAMES) - 1
    while number > 0 and not _known(number):
        number -= 1
    while number < 63 and _known(number + 1):
        number += 1
    return number


def _known(number: int) -> bool:
    try:
        _syscalls.prctl(PR_CAPBSET_READ, number)
    except OSError:
        return False
    return True


def current() -> tuple[int, int, int, int]:
    """(effective, permitted, inheritable, bounding) of this process, as masks."""
    bounding = 0
    for number in range(last() + 1):
        bounding |= _syscalls.prctl(PR_CAPBSET_READ, number) << number
    return (*_syscalls.capget(0), bounding)


def permitted() -> int:
    """The permitted set of this process."""
    return _syscalls.capget(0)[1]


def effective() -> int:
    """The effective set of this process."""
    return _syscalls.capget(0)[0]


def names(mask: int) -> list[str]:
    """Mask -> list of names in the kernel's order; a bit without a name is shown by its number."""
    return [NAMES[n] if n < len(NAMES) else "CAP_%d" % n for n in range(64) if mask >> n & 1]
