#!/usr/bin/env python3
"""`make coverage`: which lines and branches of the package the tests reach, on both sides of the clone, and which blocks of the C
extension.

    run.py [--out FOLDER] TEST…       runs the tests (default: unit, kernel and cli) on a copy of the package that records, then reports
    run.py [--out FOLDER] --add TEST…    the same, added to the records of an earlier run of the same sources
    run.py [--out FOLDER] --report reports what an earlier run recorded
    run.py [--out FOLDER] --missed FILE   the lines of a file that no test has reached, and branches that only went one way

The record of each test is in FOLDER/tests (build/coverage): mutants.py uses it to choose tests. See docs/testing.md.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import zlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tree
from layout import Layout

USUAL = ["tests/unit", "tests/kernel", "tests/cli"]


class Recorded(NamedTuple):
    """What one test has reached."""

    seconds: float
    outcome: str
    lines: bytes
    blocks: bytes


def recorded(folder: Path) -> dict[str, Recorded]:
    """{test: what it has reached} of all runs in a folder."""
    found: dict[str, Recorded] = {}
    for path in sorted(folder.glob("tests-*")):
        with open(path, "rb") as file:
            for test, (seconds, outcome, lines, blocks) in pickle.load(file).items():
                found[test] = Recorded(seconds, outcome, lines, blocks)
    return found


def union(packed: list[bytes], size: int) -> bytes:
    whole = 0
    for one in packed:
        whole |= int.from_bytes(zlib.decompress(one), "little")
    return whole.to_bytes(size, "little")


def collect(folder: Path, tests: list[str], add: bool) -> int:
    """Runs the tests on a copy; returns the exit status of pytest. `add`: keeps the existing copy and records."""
    if not add:
        tree.prepare(folder)
    deselected = ["--ignore=" + name for name in tree.NOT]
    argv = tree.pytest_argv(folder, "-p", "coverage_plugin", "-m", "not long", *deselected, *tests)
    return subprocess.run(argv, cwd=tree.ROOT, env={**os.environ, "COVERAGE_TREE": str(folder)}).returncode


def report(folder: Path) -> None:
    layout = Layout(folder / "runtime")
    tests = recorded(folder)
    data = union([one.lines for one in tests.values()], layout.size)
    hit = layout.lines_hit(data)
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for name, lines in layout.executable.items():
        row = rows[room(name)]
        row[0] += len(hit[name])
        row[1] += len(lines)
    for branch in layout.branches:
        row = rows[room(branch.path)]
        row[2] += bin(data[branch.at] & 3).count("1")
        row[3] += 2
    print("%-24s %18s %18s" % ("%d tests" % len(tests), "lines", "branches"))
    for name, row in [*sorted(rows.items()), ("all", [sum(column) for column in zip(*rows.values(), strict=True)])]:
        print("%-24s %18s %18s" % (name, share(row[0], row[1]), share(row[2], row[3])))
    every = tree.blocks(folder)
    c_data = union([one.blocks for one in tests.values()], 1 << 20)
    files: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for at, (source, _) in every.items():
        files[source][0] += c_data[at]
        files[source][1] += 1
    for source, counts in sorted(files.items()):
        print("%-24s %18s" % (source, share(*counts)))
    print("%-24s %18s blocks" % ("all of C", share(sum(c[0] for c in files.values()), sum(c[1] for c in files.values()))))


def room(name: str) -> str:
    parts = name.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else "pyrunc"


def share(part: int, whole: int) -> str:
    return "%d/%d %5.1f %%" % (part, whole, 100 * part / whole if whole else 100)


def missed(folder: Path, name: str) -> None:
    """Prints lines of a file that nothing reached, and branches that always went the same way."""
    layout = Layout(folder / "runtime")
    tests = recorded(folder)
    if name.endswith(".c"):
        data = union([one.blocks for one in tests.values()], 1 << 20)
        lines = sorted({line for at, (source, line) in tree.blocks(folder).items() if source == name and not data[at]})
        print("blocks not reached: " + " ".join(map(str, lines)))
        return
    name = name.removeprefix("runtime/")
    data = union([one.lines for one in tests.values()], layout.size)
    print("lines not reached: " + " ".join(map(str, sorted(layout.executable[name] - layout.lines_hit(data)[name]))))
    one_way = sorted({branch.line for branch in layout.branches if branch.path == name and data[branch.at] in (1, 2)})
    print("branches that went one way: " + " ".join(map(str, one_way)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=tree.ROOT / "build/coverage")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--add", action="store_true", help="keep the copy and the records of an earlier run, and add to them")
    parser.add_argument("--missed", metavar="FILE")
    parser.add_argument("-k", metavar="WORDS", help="only the tests that pytest's -k chooses")
    parser.add_argument("tests", nargs="*")
    asked = parser.parse_args()
    folder = asked.out.resolve()
    status = 0
    if not asked.report and not asked.missed:
        status = collect(folder, [*(asked.tests or USUAL), *(("-k", asked.k) if asked.k else ())], asked.add)
    if asked.missed:
        missed(folder, asked.missed)
    else:
        report(folder)
    return status


if __name__ == "__main__":
    sys.exit(main())
