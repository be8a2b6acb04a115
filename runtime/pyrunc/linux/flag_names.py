"""Names of flags, for people. Only commands that print them load this module."""

from __future__ import annotations

from pyrunc.linux import constants


def named(bits: int, prefix: str) -> list[str]:
    """The names of the bits that are set, without the prefix and in lower case; what has no name as one number."""
    found = []
    for name, bit in vars(constants).items():
        if name.startswith(prefix) and type(bit) is int and bit and not bit & (bit - 1) and bits & bit:
            found.append(name[len(prefix) :].lower())
            bits &= ~bit
    return [*found, *(["%#x" % bits] if bits else [])]
