"""Environments without their values, which may be secrets: what is printed gets pasted into bug reports."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "…"


def without_values(env: Iterable[str] | None) -> list[str] | None:
    """["NAME=value"] -> ["NAME=…"]; None stays."""
    return env if env is None else [word.partition("=")[0] + "=" + HIDDEN for word in env]
