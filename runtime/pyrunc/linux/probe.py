"""Detects features of this host without changing anything. Invariant: if a feature can't be detected, the answer is no."""

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
    """Whether AppArmor is enabled in this kernel."""
    try:
        return fileio.read_file(APPARMOR_SWITCH, 16).startswith(b"Y")
    except OSError:
        return False


def selinux() -> bool:
    """Whether SELinux is enabled: its policy is loaded through its file system, which is mounted only if there is a policy."""
    try:
        return _syscalls.statfs(SELINUX_ROOT)[0] & 0xFFFFFFFF == constants.SELINUX_MAGIC
    except OSError:
        return False


def landlock() -> int:
    """The version of the Landlock ABI, 0 if the kernel lacks Landlock or it is disabled (landlock(7))."""
    try:
        return _syscalls.landlock_create_ruleset(None, constants.LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0
