"""Records which lines and branches of the package a process executes, in a file that all processes map.

The launcher of the measured tree calls start(). A hit is one byte written to shared memory, so nothing has to be flushed: what init did is
recorded although it ends with execve or _exit, or is killed; a clone inherits the mapping. Rule: it imports nothing that init could need
later, and is silent: if the file cannot be opened (another user), nothing is recorded.

The layout of the file is in `index` next to it (layout.py): a byte for each line, and a byte for each branching instruction, whose bit 1
means that it continued and bit 2 that it jumped. Once both directions of an instruction have been recorded, its events are disabled, so
that it costs nothing any more.
"""

from __future__ import annotations

import marshal
import mmap
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

WENT_ON, JUMPED = 1, 2
NEXT = 4  # bytes from a branching instruction to the next: itself and one cache entry


def start(folder: str, top: str) -> bool:
    """`folder` has the files `map` and `index`; `top` is the directory of the package. Returns whether anything is recorded."""
    try:
        with open(os.path.join(folder, "index"), "rb") as file:
            lines, codes = marshal.load(file)
        fd = os.open(os.path.join(folder, "map"), os.O_RDWR | os.O_CLOEXEC)
        memory = mmap.mmap(fd, 0, trackfd=False)
        os.close(fd)
    except OSError:
        return False
    tool, events, off = sys.monitoring.COVERAGE_ID, sys.monitoring.events, sys.monitoring.DISABLE
    bases: dict[int, int] = {}  # id(code) -> where the lines of its file begin; -1: not part of the package
    branches: dict[int, int] = {}
    kept: list[CodeType] = []  # keeps ids unique

    def base_of(code: CodeType) -> int:
        name = code.co_filename
        base = lines.get(name[len(top) :].lstrip("/"), -1) if name.startswith(top) else -1
        bases[id(code)] = base
        branches[id(code)] = codes.get((base, code.co_firstlineno, code.co_qualname), -1)
        kept.append(code)
        return int(base)

    def line(code: CodeType, number: int) -> object:
        base = bases.get(id(code))
        if base is None:
            base = base_of(code)
        if base >= 0:
            memory[base + number] = 1
        return off

    def branch(code: CodeType, offset: int, to: int) -> object:
        base = branches.get(id(code))
        if base is None:
            base_of(code)
            base = branches[id(code)]
        if base < 0:
            return off
        at = base + offset // 2
        seen = memory[at] | (WENT_ON if to == offset + NEXT else JUMPED)
        memory[at] = seen
        return off if seen == WENT_ON | JUMPED else None

    sys.monitoring.use_tool_id(tool, "coverage")
    sys.monitoring.register_callback(tool, events.LINE, line)
    sys.monitoring.register_callback(tool, events.BRANCH, branch)
    sys.monitoring.set_events(tool, events.LINE | events.BRANCH)
    return True
