"""/windows, /solaris, /vm, /zos, /freebsd, /process/commandLine, /process/user/username: properties of other platforms.

runtime-spec, config.md#platform: they "MUST be ignored" on Linux, whatever they contain. Invariant: they cause a warning and have no
effect.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.sides import Context

    Node = dict[str, object]


def plan(node: Node, ctx: Context) -> None:
    """node: any value. entry: always None. Refuses nothing."""
    for pointer in node:
        ctx.warn(pointer, "ignored: it is for another platform than Linux")
