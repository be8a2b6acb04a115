"""The position of each line and branch of the package in the map (line_recorder.py), and the reverse.

Rule: the layout depends only on the sources and the interpreter, so that recording and reporting agree.
"""

from __future__ import annotations

import dis
import marshal
import os
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import NamedTuple

BRANCHING = ("POP_JUMP_IF_TRUE", "POP_JUMP_IF_FALSE", "POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE", "FOR_ITER")
C_MAP = 1 << 20  # bytes of the C extension's map


class Branch(NamedTuple):
    """An instruction that branches: where it is recorded, and its line."""

    at: int
    path: str
    line: int


class Layout:
    """`lines`: file -> base, a byte for each line; `branches`; `executable`: file -> lines that have instructions."""

    def __init__(self, top: Path) -> None:
        self.lines: dict[str, int] = {}
        self.codes: dict[tuple[int, int, str], int] = {}
        self.branches: list[Branch] = []
        self.executable: dict[str, set[int]] = {}
        self.size = 0
        for path in sorted(top.rglob("*.py")):
            name = str(path.relative_to(top))
            text = path.read_text()
            self.lines[name] = base = self.size
            self.size += text.count("\n") + 2
            self.executable[name] = set()
            for code in all_codes(compile(text, str(path), "exec", dont_inherit=True)):
                self.add(name, base, code)

    def add(self, name: str, base: int, code: CodeType) -> None:
        self.executable[name] |= {line for _, _, line in code.co_lines() if line}
        self.codes[base, code.co_firstlineno, code.co_qualname] = self.size
        for one in dis.get_instructions(code):
            if one.opname in BRANCHING and one.positions and one.positions.lineno:
                self.branches.append(Branch(self.size + one.offset // 2, name, one.positions.lineno))
        self.size += len(code.co_code) // 2 + 1

    def write(self, folder: Path) -> None:
        """Creates `index`, `map` and `c-map` in a folder, also usable by other users."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index").write_bytes(marshal.dumps((self.lines, self.codes)))
        for name, size in (("map", self.size), ("c-map", C_MAP)):
            with open(folder / name, "wb") as file:
                file.truncate(size)
            os.chmod(folder / name, 0o666)

    def lines_hit(self, data: bytes) -> dict[str, set[int]]:
        """{file: lines} of a map."""
        return {name: {line for line in lines if data[self.lines[name] + line]} for name, lines in self.executable.items()}


def all_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from all_codes(constant)
