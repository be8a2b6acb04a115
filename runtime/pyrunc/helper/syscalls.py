"""Helper: numbers of system calls by name, as libseccomp knows them for this machine."""

from __future__ import annotations

from typing import Any

from pyrunc.helper.seccomp import library


def run(payload: dict[str, Any]) -> dict[str, int]:
    """payload: {"names": [...]} → {name: number, -1 for one that is not known}."""
    lib = library()
    return {name: lib.resolve_syscall(lib.Arch.NATIVE, name) for name in payload["names"]}
