"""/linux/personality (runtime-spec, config-linux.md#personality; personality(2)).

Invariant: a personality that cannot be set is refused: a 32-bit build on what looks like a 64-bit machine silently produces the wrong
result.
"""

from __future__ import annotations

from pyrunc.errors import Refusal, StepFailure, Unsupported, quote
from pyrunc.linux import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, ExecRun, InitRun, Op

    class Given(TypedDict, total=False):
        domain: str
        flags: list[str]

    Node = TypedDict(
        "Node",
        {"/linux/personality": Given},
        total=False,
    )

    class Entry(TypedDict):
        domain: int


DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}
ONLY_READ = 0xFFFFFFFF
POINTER: Final = "/linux/personality"


def plan(node: Node, ctx: Context) -> Entry:
    """node: {"/linux/personality": {domain, flags}}. entry: {"domain": number}.
    Refused: a domain other than LINUX and LINUX32, or none; any flag, because the specification defines none yet."""
    value = node[POINTER]
    domain = value.get("domain")
    if domain not in DOMAINS:
        raise Refusal(
            "unknown-domain",
            "invalid personality domain %s" % quote(domain or '""', 60),
            POINTER + "/domain",
            "LINUX or LINUX32",
        )
    for index, flag in enumerate(value.get("flags") or ()):
        raise Unsupported(
            "unknown-flag",
            "personality flag %s is not supported" % quote(flag, 60),
            "%s/flags/%d" % (POINTER, index),
            "flags defined by the specification",
        )
    return {"domain": DOMAINS[domain]}


def init_set(entry: Entry, run: InitRun) -> None:
    """Init, before the filter. Sets and verifies it. It lasts as long as the process; execve keeps it."""
    _syscalls.personality(entry["domain"])
    if _syscalls.personality(ONLY_READ) != entry["domain"]:
        raise StepFailure(
            "personality-not-kept", "the kernel did not take the personality", pointer=POINTER + "/domain", call="personality"
        )


def exec_op(entry: Entry, run: ExecRun) -> Op:
    """("PERSONALITY", value), for exec, whose child runs no Python."""
    return ("PERSONALITY", entry["domain"])
