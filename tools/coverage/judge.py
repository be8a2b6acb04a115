"""The pytest plugin that tries mutants: `-p judge`, with MUTANTS_REQUEST, MUTANTS_ANSWERS and MUTANTS_WORK in the environment.

pytest collects all tests once. For each mutant the process forks: the child exchanges the code of the changed functions in memory, runs
the tests, and ends. So a mutant costs little more than its tests. Processes that the tests start find the changed source in the copy.

Rule: this process is the first of a pid namespace and runs no test; everything that a mutant leaves is killed before the next one. What
cannot be exchanged in memory (rows of a table, C, closures), and what has survived, is tried in a new pytest process.
"""

from __future__ import annotations

import gc
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import BinaryIO, NamedTuple

import pytest
import tree
from mutations import C_FILES, ORDER, Mutation

import hoststate

STARTING = 120  # seconds more for a new pytest process, which has to collect the tests, perhaps on a busy machine
SECONDS = 30  # time limit in addition to three times what the tests took alone: a hanging test has noticed
WORK = Path(os.environ.get("MUTANTS_WORK", "/tmp/mutants"))


class Batch(NamedTuple):
    """Tests that run one after the other, and how long they took when they were recorded."""

    tests: list[str]
    seconds: float


def token(pid: int) -> str:
    """The word in the names of what a run's tests make (the fixture `token`), unique beyond this pid namespace: cgroups are shared."""
    return "pt9%05d%05dx" % (os.stat("/proc/self/ns/pid").st_ino % 100_000, pid)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[str], request: pytest.FixtureRequest) -> str | None:
    if fixturedef.argname != "token":
        return None
    word = token(os.getpid())
    fixturedef.cached_result = (word, fixturedef.cache_key(request), None)  # type: ignore[arg-type]
    return word


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.collectonly and os.environ.get("MUTANTS_REQUEST"):
        config.pluginmanager.register(Judge(config), "mutants-judge")


class Judge:
    def __init__(self, config: pytest.Config) -> None:
        if os.getpid() != 1:
            raise SystemExit("mutants: not the first process of a namespace")
        answers = os.dup(int(os.environ.pop("MUTANTS_ANSWERS")))
        self.answers = os.fdopen(os.dup2(answers, 900, inheritable=False), "w", buffering=1)  # tests need the low numbers
        self.request = json.loads(Path(os.environ.pop("MUTANTS_REQUEST")).read_text())
        self.items: dict[str, pytest.Item] = {}
        self.sound: dict[str, bool] = {}  # whether a test passes without any mutant, here in the namespaces
        self.written = int(time.time()) - 1_000_000
        self.failed = ""
        self.passed = 0
        self.child = 0

    # ---- in the first process

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a mutant may send it
        for entry in self.request:
            mutation = Mutation(*entry["mutation"])
            begin = time.monotonic()
            verdict = self.judged(mutation, [Batch(*batch) for batch in entry["batches"]])
            self.answers.write(json.dumps([str(mutation), verdict, round(time.monotonic() - begin, 1)]) + "\n")
        return True

    def judged(self, mutation: Mutation, batches: list[Batch]) -> str:
        text = source_of(mutation).read_text()
        changed = mutation.apply(text)
        if not any(batch.tests for batch in batches):
            return "survived: no test reaches it"
        undo = self.place(mutation, changed)
        if undo is None:
            return "none: it does not compile"
        try:
            return self.tried(mutation, text, changed, batches)
        finally:
            self.write(*undo)

    def tried(self, mutation: Mutation, text: str, changed: str, batches: list[Batch]) -> str:
        codes = new_codes(mutation, text, changed)
        ways = ["warm", "cold"] if codes else ["cold"]
        asked = 0
        for way in ways:
            for tests, seconds in batches if ways[0] == way else batches[:1]:
                known = [test for test in tests if self.sound.get(test) is not False and test in self.items]
                while known:
                    limit = (SECONDS if way == "warm" else SECONDS + STARTING) + 3 * seconds
                    how = self.warm(known, limit, codes) if way == "warm" else self.cold(known, limit)
                    if not how:
                        break
                    failed = how.removeprefix("FAILED ") if how.startswith("FAILED ") else None
                    if self.is_sound(failed, known, limit, mutation, way):
                        return "killed: " + how
                    known = [test for test in known if failed and test != failed]
                asked += len(known) if ways[0] == way else 0
        return "survived: %d tests" % asked if asked else "survived: no test of it passes here"

    def is_sound(self, failed: str | None, tests: list[str], limit: float, mutation: Mutation, way: str) -> bool:
        """Whether a test, or all of them if it's not known which one has failed, pass without the mutant. What was not over
        in time is given the same time again, in the same way."""
        if failed is not None and failed in self.sound:
            return self.sound[failed]
        undo = self.place(mutation, source_of(mutation).read_text())
        assert undo
        how = self.cold(tests, limit) if way == "cold" and not failed else self.warm([failed] if failed else tests, limit, {})
        if how:
            print("\nfails without a mutant, too: %s" % (failed or how), flush=True)
        passes = not how
        self.write(*undo)
        if failed is not None:
            self.sound[failed] = passes
        return passes

    def place(self, mutation: Mutation, changed: str) -> tuple[Path, bytes] | None:
        """Applies the mutant to the copy. Returns what to restore, or None if the result is not a valid program."""
        if mutation.path in C_FILES:
            target = WORK / "runtime/pyrunc/linux/_syscalls.abi3.so"
            before = target.read_bytes()
            try:
                tree.extension(WORK, False, (mutation.path, changed))
            except subprocess.CalledProcessError:
                self.write(target, before)
                return None
            return target, before
        target = WORK / "runtime" / mutation.path
        before = target.read_bytes()
        try:
            compile(changed, mutation.path, "exec", dont_inherit=True)
        except SyntaxError:
            return None
        self.write(target, changed.encode())
        return target, before

    def write(self, target: Path, data: bytes) -> None:
        """Writes a file with a time that no other version of it has: byte code is compared by size and by time in whole seconds."""
        new = target.with_name(target.name + ".new")
        new.write_bytes(data)
        self.written += 1
        os.utime(new, (self.written, self.written))
        os.rename(new, target)  # the old extension stays what this process has mapped

    def warm(self, tests: list[str], limit: float, codes: dict[tuple[str, int], CodeType]) -> str:
        """Runs tests in a fork, with other code in functions. Returns what failed first, or ""."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self.run(tests, codes, os.fdopen(os.dup2(writing, 901, inheritable=False), "wb"))
        os.close(writing)
        code = wait(child, limit)
        clean(child)
        with os.fdopen(reading, "rb") as file:
            said = file.read().decode()
        if code is None:
            return "not over after %d s" % limit
        return said.removeprefix("passed ").strip() if said else "the tests' own process ended"

    def cold(self, tests: list[str], limit: float) -> str:
        """Runs tests in a new process. Returns the first one that failed, or ""."""
        argv = tree.pytest_argv(WORK, "-p", "judge", "-x", "--tb=no", "-rfE", *tests)
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        with open("/tmp/output", "w+") as output:
            process = subprocess.Popen(argv, cwd=tree.ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            code = wait(process.pid, limit)
            process.returncode = code or 0  # it has been waited for
            clean(process.pid)
            output.seek(0)
            text = output.read().strip()
        if code is None:
            return "not over after %d s" % limit
        if code == 0:
            return "" if re.search(r"^\d+ (passed|skipped)", text.splitlines()[-1] if text else "") else "the tests' own process ended"
        lines = [line for line in text.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        test = max((test for test in tests if lines and lines[-1].partition(" ")[2].startswith(test)), key=len, default=None)
        return "FAILED " + test if test else "exit %d" % code

    # ---- in the child

    def run(self, tests: list[str], codes: dict[tuple[str, int], CodeType], answer: BinaryIO) -> None:
        self.child, self.failed = os.getpid(), ""
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            exchange(codes)
            items = [self.items[test] for test in tests]
            for item, following in zip(items, [*items[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if os.getpid() != self.child:
                    os._exit(70)
                if self.failed:
                    item.session._setupstate.teardown_exact(None)
                    break
            answer.write(("FAILED " + self.failed if self.failed else "passed ").encode())
            answer.close()
        finally:
            os._exit(0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def source_of(mutation: Mutation) -> Path:
    return tree.ROOT / "runtime" / ("csrc/" if mutation.path in C_FILES else "") / mutation.path


def new_codes(mutation: Mutation, text: str, changed: str) -> dict[tuple[str, int], CodeType]:
    """{(qualified name, first line): code} of the functions that a mutant changes; empty if they cannot be exchanged in memory."""
    if mutation.path in (ORDER, *C_FILES):
        return {}
    path = str(WORK / "runtime" / mutation.path)
    before, after = (functions(compile(source, path, "exec", dont_inherit=True)) for source in (text, changed))
    if before.keys() - after.keys() and any(before[key].co_freevars for key in before.keys() - after.keys()):
        return {}
    found = {key: code for key, code in after.items() if before.get(key) != code}
    if any(key not in before or before[key].co_freevars != code.co_freevars for key, code in found.items()):
        return {}
    return found


def functions(code: CodeType) -> dict[tuple[str, int], CodeType]:
    found = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found[constant.co_qualname, constant.co_firstlineno] = constant
            found.update(functions(constant))
    return found


def exchange(codes: dict[tuple[str, int], CodeType]) -> None:
    """Gives all functions that exist the new code; others get it when they are made."""
    if not codes:
        return
    gc.unfreeze()  # tests/conftest.py freezes what the collection has made, and get_objects() leaves that out
    paths = {code.co_filename for code in codes.values()}
    for function in all_functions():
        code = function.__code__
        if code.co_filename in paths and (code.co_qualname, code.co_firstlineno) in codes:
            function.__code__ = codes[code.co_qualname, code.co_firstlineno]


def all_functions() -> Iterator[FunctionType]:
    for one in gc.get_objects():
        if type(one) is FunctionType:
            yield one


def wait(child: int, limit: float) -> int | None:
    """Waits for a child and meanwhile reaps orphans. Returns its exit status, or None after `limit` seconds."""
    end = time.monotonic() + limit
    pidfd = os.pidfd_open(child)
    try:
        while time.monotonic() < end:
            select.select([pidfd], [], [], 0.02)
            while True:
                pid, how = os.waitpid(-1, os.WNOHANG)
                if pid == child:
                    return os.waitstatus_to_exitcode(how)
                if pid == 0:
                    break
    finally:
        os.close(pidfd)
    return None


def clean(run: int) -> None:
    """Ends what a test run has left, and removes its mounts, cgroups and files."""
    end_all_others()
    word = token(run)
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if word in line]
    for point in reversed(points):
        subprocess.run(["umount", "--lazy", point], check=False, stderr=subprocess.DEVNULL)
    hoststate.sweep(word)
    for path in Path("/tmp").glob(word + "*"):
        shutil.rmtree(path, ignore_errors=True)


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
