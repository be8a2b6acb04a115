"""Runs cases under runtimes, several at a time, and sweeps after each.

Rule: whatever a runtime does, every case ends within its time limit and leaves nothing behind; a runtime that hangs in three
cases in a row is abandoned, and the others continue.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from oci_conformance import cleanup, known, requirements, system, worker
from oci_conformance.case import Case
from oci_conformance.preflight import preflight
from oci_conformance.result import Result
from oci_conformance.runtime import CALL_SECONDS, Unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from oci_conformance.machine import Machine
    from oci_conformance.probe import Tools
    from oci_conformance.requirements import Requirement
    from oci_conformance.runtime import Runtime
    from oci_conformance.shapes import Left


PATIENCE = 3  # hanging cases in a row


class Running:
    """A case that is running."""

    def __init__(self, runtime: Runtime, case: Case, token: str, directory: str, seconds: float) -> None:
        self.runtime = runtime
        self.case = case
        self.token = token
        self.directory = directory
        self.begun = time.monotonic()
        self.end = self.begun + seconds
        self.pid = 0
        self.pidfd = -1


class Runner:
    def __init__(
        self,
        machine: Machine,
        tools: Tools,
        directory: str,
        jobs: int = 2,
        table: Mapping[str, Requirement] | None = None,
        use_known: bool = True,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        self.machine = machine
        self.tools = tools
        self.directory = directory
        self.jobs = max(1, jobs)
        self.table = table if table is not None else requirements.load()
        self.use_known = use_known
        self.on_result = on_result or (lambda result: None)
        self.results: list[Result] = []
        self.count = 0
        self.active: set[int] = set()  # the processes of running cases
        self.own = set(system.children())  # children that do not belong to a case
        self.word = "ocs%d" % os.getpid()
        self.patience: int | None = PATIENCE  # None: never give up a runtime that hangs
        self.hangs: dict[Runtime, int] = {}  # runtime → cases in a row that hung

    # ---- preflight of a runtime

    def prepare(self, runtime: Runtime) -> None:
        """Determines name, version and features. Raises runtime.Unusable with one line if nothing works."""
        runtime.check()
        case = Case("preflight", preflight, (), "core", (), 90)
        found = self.alone(runtime, case)
        if found.verdict == "pass":
            for key, value in (found.extra or {}).items():
                setattr(runtime, key, tuple(value) if key == "declares" and value else value)
            return
        words = found.words()
        raise Unusable("%s: %s" % (runtime.path, words if words.startswith("no ") else "cannot run a plain container: " + words))

    def alone(self, runtime: Runtime, case: Case) -> Result:
        """The result of one case, while nothing else is running."""
        running = self.begin(runtime, case)
        select.select([running.pidfd], [], [], max(0, running.end - time.monotonic()))
        return self.settle(running)

    # ---- all cases

    def run(self, runtimes: Sequence[Runtime], cases: Sequence[Case]) -> list[Result]:
        """Runs all cases with all runtimes, in turn. Returns all results so far, in the order of completion."""
        self.run_pairs([(runtime, case) for case in cases for runtime in runtimes])
        return self.results

    def run_pairs(self, pairs: Sequence[tuple[Runtime, Case]]) -> list[Result]:
        """[(runtime, case)] → their results, in the order of completion."""
        waiting, before = list(pairs), len(self.results)
        running: list[Running] = []
        while waiting or running:
            while waiting and len(running) < self.jobs:
                runtime, case = waiting.pop(0)
                result = self.without_running(runtime, case)
                if result is None:
                    running.append(self.begin(runtime, case))
                else:
                    self.note(result)
            for item in self.over(running):
                running.remove(item)
                self.note(self.settle(item))
        return self.results[before:]

    def without_running(self, runtime: Runtime, case: Case) -> Result | None:
        """A result that does not require running the case, or None."""
        lacks = [words for words in (self.machine.lacks(need) for need in case.needs) if words]
        if lacks:
            return Result(runtime, case, "skip", lacks[0])
        asked = [name for name in case.requirements if self.table[name].asked_of(runtime.declares)]
        if case.requirements and not asked:
            since = max(self.table[name].since or "" for name in case.requirements)
            declared = ".".join(map(str, runtime.declares or ()))
            return Result(runtime, case, "skip", "required since %s, and the runtime declares %s" % (since, declared))
        if self.patience and self.hangs.get(runtime, 0) >= self.patience:
            return Result(runtime, case, "fail", "not run: the runtime hung %d cases in a row" % self.patience)
        return None

    def begin(self, runtime: Runtime, case: Case) -> Running:
        self.count += 1
        token = "%sx%d" % (self.word, self.count)
        seconds = case.seconds * max(1, runtime.seconds / CALL_SECONDS)  # a longer time limit for calls means a slow machine
        item = Running(runtime, case, token, os.path.join(self.directory, token), seconds)
        item.pid = worker.start(case, runtime, self.machine, self.tools, item.directory, token)
        item.pidfd = os.pidfd_open(item.pid)
        self.active.add(item.pid)
        return item

    def over(self, running: Sequence[Running]) -> list[Running]:
        """The cases that have finished or timed out; waits for at least one."""
        poll = select.poll()
        for item in running:
            poll.register(item.pidfd, select.POLLIN)
        nearest = min((item.end for item in running), default=time.monotonic()) - time.monotonic()
        ready = {fd for fd, _ in poll.poll(max(0, nearest) * 1000 + 1)}
        now = time.monotonic()
        return [item for item in running if item.pidfd in ready or now >= item.end]

    def settle(self, item: Running) -> Result:
        """Kills the process if it is still running, cleans up, and creates the result."""
        late = not system.ended(item.pidfd, 0)
        if late:
            os.killpg(item.pid, signal.SIGKILL)
            signal.pidfd_send_signal(item.pidfd, signal.SIGKILL)
        os.waitpid(item.pid, 0)
        os.close(item.pidfd)
        found = worker.read(item.directory)
        left = cleanup.sweep(item.token, self.machine.cgroups(), item.directory)
        self.active.discard(item.pid)
        self.reap()
        seconds = time.monotonic() - item.begun
        if found is None:
            words = "still running after %d seconds" % seconds if late else "the process of the case died"
            return Result(item.runtime, item.case, "fail" if late else "broken", words, seconds=seconds, left=left, hung=late)
        made = Result(item.runtime, item.case, found["verdict"] or "broken", found["reason"], found["checks"], seconds, left=left)
        made.config, made.calls, made.extra, made.hung = found.get("config"), found.get("calls", []), found["extra"], found["hung"]
        return made

    def reap(self) -> None:
        """Kills and reaps what killed cases have left behind, which became our children. The process of a running case is left to settle(),
        and what it starts is its own child."""
        cleanup.end_children(self.active | self.own)

    def note(self, result: Result) -> None:
        runtime = result.runtime
        if result.seconds:  # it was run
            self.hangs[runtime] = self.hangs.get(runtime, 0) + 1 if result.hung else 0
        table = known.of(runtime, result.case, self.machine) if self.use_known else {}
        result.judge(table, [name for name in result.case.requirements if not self.table[name].asked_of(runtime.declares)])
        self.results.append(result)
        self.on_result(result)

    def end(self) -> None:
        """Kills the processes of cases that were running when the run was interrupted."""
        for pid in list(self.active):
            try:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except OSError:
                pass
            self.active.discard(pid)

    def sweep(self) -> Left:
        """Removes at the end what any case has left behind."""
        return cleanup.sweep(self.word + "x*", self.machine.cgroups(), None, deep=True)
