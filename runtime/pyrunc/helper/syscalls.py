"""Numbers of system calls by name, as libseccomp knows them for this machine. Runs where helper/seccomp.py does."""

from __future__ import annotations

from pyrunc.helper.seccomp import library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.helper.shapes import Payload


def run(payload: Payload) -> dict[str, int]:
    """payload: {"names": [...]} -> {name: number, or -1 for an unknown name}"""
    lib = library()
    return dict(zip(payload["names"], lib.numbers(lib.native(), payload["names"]), strict=True))
