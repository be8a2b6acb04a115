"""Instructions of each command on machines without processor counters: steps.c executes them one by one.

Rule: a count is complete or absent. It takes about ten microseconds per instruction, so a command that takes too long has no count.
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import TYPE_CHECKING

from conformance.bench import machine, measure, profile

if TYPE_CHECKING:
    from conformance.bench.shapes import Document, Runtimes, Say


SOURCE = pathlib.Path(__file__).with_name("steps.c")
SECONDS = 600  # limit per command; runc's create takes more than an hour


def steps(runtimes: Runtimes, say: Say) -> Document:
    """{"counts": {label: {command: count or None}}, "missing": why nothing is counted, or None}"""
    directory = tempfile.mkdtemp(prefix="bench-")
    try:
        try:
            tool = compiled(directory)
        except measure.Failed as e:
            return {"counts": {}, "missing": str(e)}
        found = {}
        for label, path in runtimes:
            say("%s: counting its instructions" % label)
            found[label] = profile.life(label, path, [tool], int, SECONDS)
        say("")
        return {"counts": found, "missing": None}
    finally:
        machine.remove(directory)


def compiled(directory: str) -> str:
    """Compiles steps.c and returns the path of the program."""
    return measure.compiled(SOURCE, directory)
