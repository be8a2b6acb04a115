"""Checks a profile for `validate` without loading it: it is compiled, and the result is discarded."""

from __future__ import annotations

from pyrunc.errors import PyruncError, Refusal, Unsupported
from pyrunc.parts.seccomp.profile import POINTER
from pyrunc.parts.seccomp.verbs import needs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrunc.parts.seccomp.profile import Entry
    from pyrunc.parts.sides import CallHelper, Context


def check(entry: Entry, _ctx: Context, call_helper: CallHelper) -> Iterator[PyruncError]:
    """Yields what host_compile would refuse. Unsupported if this host has no libseccomp, or one that is too old for the profile."""
    if entry["raw"] is not None:
        return
    try:
        call_helper("seccomp", {**entry["profile"], "needs": needs_of(entry)})
    except (Refusal, Unsupported) as e:
        e.pointer = e.pointer or POINTER
        yield e
