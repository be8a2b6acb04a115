#!/usr/bin/env python3
"""`make mutants`: changes one thing in parts/, cgroup/, linux/, the rows of engine/order.py, finish.c or rights.c, and runs the tests that have
reached that place, to see whether they notice.

    mutants.py [--count N] [--seed S] [--out FILE]     a random sample of N mutants (default: 200)
    mutants.py --only WORD                             those whose place contains WORD
    mutants.py --again FILE                            those that survived, according to the output of an earlier run
    mutants.py --jobs N                                N mutants at a time (default: 1)

It needs the records of `make coverage` (build/coverage). A mutant is given to tests that reached its line, those named for its module and the
quickest first: unit tests, and if all of them pass, kernel and cli tests. A mutant in a line that no test reaches has survived as well.
Mutants run as root in separate process, mount, network, IPC and UTS namespaces, where / is read-only and /dev a copy, so that a mutant that
kills, unmounts or removes the wrong thing does no harm. judge.py is what runs there. See docs/testing.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
import mutations
import tree
from layout import Layout
from mutations import C_FILES, ORDER, Mutation

import run

BUDGETS = (("tests/unit", 20.0), ("tests", 40.0))  # seconds of unit tests, and of all others, that a mutant is given
ROOMS = ("parts", "cgroup", "linux")
WORK = "/tmp/mutants"  # in the namespaces, on a tmpfs
ISOLATED = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /tmp/dev
mount -t tmpfs -o mode=755 tmpfs /tmp/dev
cp -ax /dev/. /tmp/dev
mount --rbind /dev/pts /tmp/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /tmp/dev/shm
mount --move /tmp/dev /dev
rmdir /tmp/dev
ip link set lo up
mkdir /tmp/mutants
cp -r "$1/runtime" /tmp/mutants/runtime
mount -o remount,ro,bind /
shift
exec "$@"
"""


class Chosen(NamedTuple):
    """A mutant and batches of tests to run, with the seconds that each batch took when it was recorded."""

    mutation: Mutation
    batches: list[tuple[list[str], float]]


# ---- which mutants, and which tests


def all_mutations() -> list[Mutation]:
    found: list[Mutation] = []
    top = tree.ROOT / "runtime"
    for room in ROOMS:
        for path in sorted((top / "pyrunc" / room).rglob("*.py")):
            if path.name not in ("constants.py", "table.py"):  # tables, which separate tests compare with their sources
                found += mutations.of_python(str(path.relative_to(top)), path.read_text())
    found += mutations.of_rows(ORDER, (top / ORDER).read_text())
    for name in C_FILES:
        found += mutations.of_c(name, (top / "csrc" / name).read_text())
    return found


def is_same(name: str, folder: Path) -> bool:
    """Whether a source is unchanged since the recording; otherwise line numbers differ."""
    recorded, source = folder / "runtime" / name, tree.ROOT / "runtime" / name
    return name in C_FILES or (recorded.exists() and recorded.read_bytes() == source.read_bytes())


class Reached:
    """Which tests have reached which line. Only tests that passed are used."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder / "runtime")
        self.tests = {name: one for name, one in run.recorded(folder).items() if one.outcome == "passed"}
        self.blocks = tree.blocks(folder)

    def places(self, mutation: Mutation) -> list[int]:
        """The positions in the map (for C: in the map of blocks), one of which a test must have reached."""
        if mutation.path in C_FILES:
            before = [line for source, line in self.blocks.values() if source == mutation.path and line <= mutation.line]
            nearest = max(before, default=0)
            return [at for at, (source, line) in self.blocks.items() if source == mutation.path and line == nearest]
        if mutation.path == ORDER:
            return self.of_row(mutation)
        executable = self.layout.executable[mutation.path]
        line = max((line for line in executable if line <= mutation.line), default=mutation.line)  # of a long expression
        return [self.layout.lines[mutation.path] + line]

    def of_row(self, mutation: Mutation) -> list[int]:
        """The first line of the verb of a row; of the engine's own operations the line in a table that names it."""
        part, _, verb = mutation.what.split()[2].partition(".")
        if part == "engine" and verb.startswith("op_"):
            return list(self.named_lines('"%s":' % verb))
        for path, base in self.layout.lines.items():
            if path.startswith(("pyrunc/parts/%s" % part, "pyrunc/engine/")):
                for other, first, name in self.layout.codes:
                    if other == base and name == verb:
                        return [base + min((line for line in self.layout.executable[path] if line > first), default=first)]
        return []

    def named_lines(self, word: str) -> Iterator[int]:
        """Where the lines of the engine that begin with a word stand in the map."""
        for path in self.layout.executable:
            if path.startswith("pyrunc/engine/"):
                for number, line in enumerate((tree.ROOT / "runtime" / path).read_text().splitlines(), 1):
                    if line.strip().startswith(word):
                        yield self.layout.lines[path] + number

    def choose(self, sample: list[Mutation]) -> list[Chosen]:
        """The tests for each mutant. One map is unpacked at a time: there are thousands, of a megabyte each."""
        places = [self.places(mutation) for mutation in sample]
        reaching: list[list[str]] = [[] for _ in sample]
        for name, one in self.tests.items():
            lines, blocks = zlib.decompress(one.lines), zlib.decompress(one.blocks)
            for tests, mutation, ats in zip(reaching, sample, places, strict=True):
                data = blocks if mutation.path in C_FILES else lines
                if any(data[at] for at in ats):
                    tests.append(name)
        return [self.sorted(mutation, tests) for mutation, tests in zip(sample, reaching, strict=True)]

    def sorted(self, mutation: Mutation, tests: list[str]) -> Chosen:
        """Those named for the module first, the quickest first, and of other files one in turn: they test different things."""
        word, batches, taken = named(mutation), [], set[str]()
        for folder, budget in BUDGETS:
            turns: dict[str, int] = defaultdict(int)
            keys = {}
            for name in sorted(tests, key=lambda name: self.tests[name].seconds):
                file = name.partition("::")[0]
                if file.startswith(folder) and name not in taken:
                    keys[name] = (0 if word in file else turns[file], self.tests[name].seconds)
                    turns[file] += 1
            batch: list[str] = []
            seconds = 0.0
            for name in sorted(keys, key=lambda name: (word not in name.partition("::")[0], keys[name])):
                if not batch or seconds + self.tests[name].seconds <= budget:
                    batch.append(name)
                    seconds += self.tests[name].seconds
            taken |= keys.keys()
            batches.append((batch, seconds))
        return Chosen(mutation, batches)


def named(mutation: Mutation) -> str:
    """A word in the names of the tests for the place: tests/unit/test_parts_program.py is for parts/program.py. A row belongs to its
    part."""
    if mutation.path == ORDER:
        return mutation.what.split()[2].partition(".")[0]
    path = Path(mutation.path)
    return path.parent.name if path.stem == "__init__" else path.stem


# ---- the command


def judge(chosen: list[Chosen], base: Path, said: Callable[[str, str, float], None]) -> None:
    """Tries mutants in namespaces; calls `said` for each: name, verdict, seconds."""
    tree.prepare(base, record=False)
    request = base / "request.json"
    request.write_text(json.dumps([one._asdict() for one in chosen]))
    files = sorted({test.partition("::")[0] for one in chosen for tests, _ in one.batches for test in tests})
    reading, writing = os.pipe()
    environment = {
        **os.environ,
        "MUTANTS_REQUEST": str(request),
        "MUTANTS_ANSWERS": str(writing),
        "MUTANTS_WORK": WORK,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    space = [
        "unshare",
        "--mount",
        "--pid",
        "--net",
        "--ipc",
        "--uts",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        ISOLATED,
        "sh",
        str(base),
    ]
    argv = [*space, *tree.pytest_argv(Path(WORK), "-p", "judge", "--tb=no", *files)]
    with open(base / "output", "w") as output:
        process = subprocess.Popen(
            argv, cwd=tree.ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[writing]
        )
    os.close(writing)
    with os.fdopen(reading) as answers:
        for line in answers:
            said(*json.loads(line))
    if process.wait():
        sys.stderr.write((base / "output").read_text()[-2000:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", default="")
    parser.add_argument("--again", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--coverage", type=Path, default=tree.ROOT / "build/coverage")
    parser.add_argument("--out", type=Path, default=tree.ROOT / "build/mutants.txt")
    wanted = parser.parse_args()
    reached = Reached(wanted.coverage.resolve())
    every = [mutation for mutation in all_mutations() if wanted.only in str(mutation)]
    changed = sorted({mutation.path for mutation in every if not is_same(mutation.path, wanted.coverage)})
    if changed:
        raise SystemExit("mutants: make coverage first, these have changed since: " + " ".join(changed))
    if wanted.again:
        survivors = [line for line in wanted.again.read_text().splitlines() if " survived: " in line]
        every = [mutation for mutation in every if any(line.startswith(str(mutation) + " ") for line in survivors)]
    sample = random.Random(wanted.seed).sample(every, min(wanted.count, len(every)))
    chosen = reached.choose(sample)
    print("%d mutants of %d" % (len(sample), len(every)), flush=True)
    base = tree.ROOT / "build/mutants" / str(os.getpid())
    verdicts: list[str] = []
    with open(wanted.out, "w", buffering=1) as out:

        def said(name: str, verdict: str, seconds: float) -> None:
            verdicts.append(verdict)
            text = "%-90s %s (%.1f s)" % (name, verdict, seconds)
            out.write(text + "\n")
            print(text, flush=True)

        lanes = [threading.Thread(target=judge, args=(chosen[n :: wanted.jobs], base / str(n), said)) for n in range(wanted.jobs)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    shutil.rmtree(base, ignore_errors=True)
    counted = {word: sum(verdict.startswith(word) for verdict in verdicts) for word in ("killed", "survived", "none")}
    alive = counted["killed"] + counted["survived"]
    share = 100 * counted["killed"] / alive if alive else 0
    print("%d killed, %d survived, %d no program: %.1f %% of %d" % (*counted.values(), share, alive))
    return 0 if len(verdicts) == len(sample) else 1


if __name__ == "__main__":
    sys.exit(main())
