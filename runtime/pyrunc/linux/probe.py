"""What this host has, asked without changing anything. Invariant: an answer that cannot be had is no."""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.linux import _syscalls, constants

SELINUX_ROOT = "/sys/fs/selinux"
APPARMOR_SWITCH = "/sys/module/apparmor/parameters/enabled"


def kernel() -> tuple[int, int]:
    """(major, minor) of the running kernel; the minor number may be followed by a suffix (6.1-rc3, 7.0+)."""
    major, minor = posix.uname().release.split(".")[:2]
    return int(major), int(minor[: len(minor) - len(minor.lstrip("0123456789"))] or "0")


def apparmor() -> bool:
    """Whether AppArmor is in charge of this kernel."""
    try:
        return fileio.read_file(APPARMOR_SWITCH, 16).startswith(b"Y")
    except OSError:
        return False


def selinux() -> bool:
    """Whether SELinux is: its file system is where its policy is loaded from, and is mounted only where there is one."""
    try:
        return _syscalls.statfs(SELINUX_ROOT)[0] & 0xFFFFFFFF == constants.SELINUX_MAGIC
    except OSError:
        return False


def landlock() -> int:
    """The version of Landlock's interface, 0 where the kernel has none or did not switch it on (landlock(7))."""
    try:
        return _syscalls.landlock_create_ruleset(None, constants.LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0
