#!/usr/bin/env python3
"""`make mutants`: changes one thing in parts/, cgroup/, linux/, the rows of engine/order.py or finish.c, and runs the tests that have
reached that place, to see whether they notice.

    mutants.py [--count N] [--seed S] [--out FILE]     a random sample of N mutants (default: 200)
    mutants.py --only WORD                             those whose place contains WORD
    mutants.py --again FILE those that survived, according to the output of an earlier run

It needs the records of `make coverage` (build/coverage). A mutant runs tests that reached its line, those named for its module and the
quickest first; if all of them pass, it runs more, and has survived if those pass too. A mutant in a line that no test reaches has survived as well.
Mutants run as root in separate process, mount, network, IPC and UTS namespaces, where / is read-only and /dev a copy, so that a mutant that
kills, unmounts or removes the wrong thing does no harm. See docs/testing.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
import mutations
import tree
from layout import Layout
from mutations import Mutation

import run

FIRST = (8, 4, 3)  # how many tests of unit, kernel, cli are run first
MORE = 60.0  # seconds of more tests if those noticed nothing
SECONDS = 90  # time limit in addition to three times what the tests took alone: a hanging test has noticed
ROOMS = ("parts", "cgroup", "linux")
ORDER, FINISH = "pyrunc/engine/order.py", "finish.c"
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
cp -r "$1/runtime" /tmp/mutants.tree
mount -o remount,ro,bind /
shift
exec "$@"
"""


class Chosen(NamedTuple):
    """A mutant and the tests to run, the first batch and more, and the time limit in seconds for each of the two."""

    mutation: Mutation
    first: list[str]
    more: list[str]
    seconds: tuple[float, float]


# ---- which mutants, and which tests


def all_mutations() -> list[Mutation]:
    found: list[Mutation] = []
    top = tree.ROOT / "runtime"
    for room in ROOMS:
        for path in sorted((top / "pyrunc" / room).rglob("*.py")):
            if path.name not in ("constants.py", "table.py"):  # tables, which separate tests compare with their sources
                found += mutations.of_python(str(path.relative_to(top)), path.read_text())
    found += mutations.of_rows(ORDER, (top / ORDER).read_text())
    found += mutations.of_c(FINISH, (top / "csrc" / FINISH).read_text())
    return found


def is_same(name: str, folder: Path) -> bool:
    """Whether a source is unchanged since the recording; otherwise line numbers differ."""
    recorded, source = folder / "runtime" / name, tree.ROOT / "runtime" / name
    return name == FINISH or (recorded.exists() and recorded.read_bytes() == source.read_bytes())


class Reached:
    """Which tests have reached which line. Only tests that passed are used."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder / "runtime")
        self.tests = {name: one for name, one in run.recorded(folder).items() if one.outcome == "passed"}
        self.blocks = tree.blocks(folder)

    def places(self, mutation: Mutation) -> list[int]:
        """The positions in the map (for C: in the map of blocks), one of which a test must have reached."""
        if mutation.path == FINISH:
            before = [line for source, line in self.blocks.values() if source == FINISH and line <= mutation.line]
            nearest = max(before, default=0)
            return [at for at, (source, line) in self.blocks.items() if source == FINISH and line == nearest]
        if mutation.path == ORDER:
            return self.of_row(mutation)
        return [self.layout.lines[mutation.path] + mutation.line]

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
                data = blocks if mutation.path == FINISH else lines
                if any(data[at] for at in ats):
                    tests.append(name)
        return [self.sorted(mutation, tests) for mutation, tests in zip(sample, reaching, strict=True)]

    def sorted(self, mutation: Mutation, tests: list[str]) -> Chosen:
        tests = sorted(tests, key=lambda name: (named(mutation) not in name.partition("::")[0], self.tests[name].seconds))
        first, more, seconds = some(tests, FIRST), [], 0.0
        for name in tests:
            if name not in first and seconds < MORE:
                more.append(name)
                seconds += self.tests[name].seconds
        bounds = [SECONDS + 3 * sum(self.tests[name].seconds for name in names) for names in (first, more)]
        return Chosen(mutation, first, more, (bounds[0], bounds[1]))


def named(mutation: Mutation) -> str:
    """A word in the names of the tests for the place: tests/unit/test_parts_program.py is for parts/program.py. A row belongs to its
    part."""
    if mutation.path == ORDER:
        return mutation.what.split()[2].partition(".")[0]
    path = Path(mutation.path)
    return path.parent.name if path.stem == "__init__" else path.stem


def some(tests: list[str], counts: tuple[int, ...]) -> list[str]:
    """The given number from each folder, in the given order."""
    folders = ("tests/unit", "tests/kernel", "tests/cli")
    return [name for folder, count in zip(folders, counts, strict=True) for name in [t for t in tests if t.startswith(folder)][:count]]


# ---- in the namespaces


def inside(request: Path) -> int:
    """Runs the mutants one by one; a line of JSON for each."""
    end_all_others()
    os.rename("/tmp/mutants.tree", WORK + ".tree")
    os.makedirs(WORK)
    os.rename(WORK + ".tree", WORK + "/runtime")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for entry in json.loads(request.read_text()):
        mutation = Mutation(*entry["mutation"])
        begin = time.monotonic()
        verdict = judged(mutation, [(entry[name], seconds) for name, seconds in zip(("first", "more"), entry["seconds"], strict=True)])
        print(json.dumps([str(mutation), verdict, round(time.monotonic() - begin, 1)]), flush=True)
    return 0


def judged(mutation: Mutation, batches: list[tuple[list[str], float]]) -> str:
    source = tree.ROOT / "runtime" / (mutation.path if mutation.path != FINISH else "csrc/" + FINISH)
    changed = mutation.apply(source.read_text())
    if not batches[0][0]:
        return "survived: no test reaches it"
    asked_of = 0
    for batch, seconds in batches:
        tests = [test for test in batch if sound.get(test) is not False]
        while tests:
            undo = place(mutation, changed)
            if undo is None:
                return "none: it does not compile"
            how = asked(tests, seconds)
            target, before = undo
            target.write_bytes(before)
            if not how:
                break
            failed = max((test for test in tests if how.partition(" ")[2].startswith(test)), key=len, default=None)
            if is_sound(failed) if failed else not asked(tests, seconds):
                return "killed: " + how
            tests = [test for test in tests if test != failed] if failed else []
        asked_of += len(tests)
    return "survived: %d tests" % asked_of if asked_of else "survived: no test of it passes here"


sound: dict[str, bool] = {}  # whether a test passes without any mutant, here in the namespaces


def is_sound(test: str) -> bool:
    if test not in sound:
        sound[test] = not asked([test])
    return sound[test]


def place(mutation: Mutation, changed: str) -> tuple[Path, bytes] | None:
    """Applies the mutant to the copy. Returns what to restore, or None if the result is not a valid program."""
    if mutation.path == FINISH:
        target = Path(WORK, "runtime/pyrunc/linux/_syscalls.abi3.so")
        before = target.read_bytes()
        try:
            tree.extension(Path(WORK), False, (FINISH, changed))
        except subprocess.CalledProcessError:
            return None
        return target, before
    target = Path(WORK, "runtime", mutation.path)
    before = target.read_bytes()
    try:
        compile(changed, mutation.path, "exec", dont_inherit=True)
    except SyntaxError:
        return None
    target.write_text(changed)
    return target, before


def asked(tests: list[str], seconds: float = SECONDS * 2) -> str:
    """The first test that failed, or ""."""
    argv = tree.pytest_argv(Path(WORK), "-x", "--tb=no", "-rfE", *tests)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with open("/tmp/output", "w+") as output:
        process = subprocess.Popen(argv, cwd=tree.ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            end_all_others()
        output.seek(0)
        text = output.read()
    if code == -1:
        return "not over after %d s" % seconds
    if code == 0 and not re.search(r"^\d+ (passed|skipped)", text.strip().splitlines()[-1] if text.strip() else ""):
        return "the tests' own process ended"
    lines = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return "" if code == 0 else (lines[-1] if lines else "exit %d: %s" % (code, text.strip()[-200:]))


def end_all_others() -> None:
    """Kills what is left in this process namespace."""
    if os.getpid() != 1:
        raise SystemExit("mutants: not the first process of a namespace")
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


# ---- the command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", default="")
    parser.add_argument("--again", type=Path)
    parser.add_argument("--coverage", type=Path, default=tree.ROOT / "build/coverage")
    parser.add_argument("--out", type=Path, default=tree.ROOT / "build/mutants.txt")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.inside:
        return inside(wanted.inside)
    reached = Reached(wanted.coverage.resolve())
    every = [mutation for mutation in all_mutations() if wanted.only in str(mutation)]
    changed = sorted({mutation.path for mutation in every if not is_same(mutation.path, wanted.coverage)})
    if changed:
        raise SystemExit("mutants: make coverage first, these have changed since: " + " ".join(changed))
    if wanted.again:
        survivors = [line for line in wanted.again.read_text().splitlines() if " survived: " in line]
        every = [mutation for mutation in every if any(line.startswith(str(mutation) + " ") for line in survivors)]
    sample = random.Random(wanted.seed).sample(every, min(wanted.count, len(every)))
    base = tree.ROOT / "build/mutants"
    tree.prepare(base, record=False)
    chosen = reached.choose(sample)
    request = base / "request.json"
    request.write_text(json.dumps([one._asdict() for one in chosen]))
    print("%d mutants of %d" % (len(sample), len(every)), flush=True)
    space = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]
    argv = [*space, "sh", "-c", ISOLATED, "sh", str(base), sys.executable, __file__, "--inside", str(request)]
    rows = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process, open(wanted.out, "w") as out:
        assert process.stdout
        for line in process.stdout:
            name, verdict, seconds = json.loads(line)
            rows.append((name, verdict))
            text = "%-90s %s (%.1f s)" % (name, verdict, seconds)
            out.write(text + "\n")
            out.flush()
            print(text, flush=True)
    counted = {word: sum(verdict.startswith(word) for _, verdict in rows) for word in ("killed", "survived", "none")}
    alive = counted["killed"] + counted["survived"]
    share = 100 * counted["killed"] / alive if alive else 0
    print("%d killed, %d survived, %d no program: %.1f %% of %d" % (*counted.values(), share, alive))
    return 0


if __name__ == "__main__":
    sys.exit(main())
