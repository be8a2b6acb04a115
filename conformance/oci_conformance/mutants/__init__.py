"""The check of the suite itself: `oci-conformance --mutants RUNTIME` breaks a runtime in many ways, one at a time; the cases that
check this must notice each.

Rule: a mutant counts as caught only if a requirement fails that the unbroken runtime keeps in the same case, both by itself and
behind a wrapper that changes nothing."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from oci_conformance import case as cases
from oci_conformance import system
from oci_conformance.runner import Runner
from oci_conformance.runtime import Runtime, Unusable

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from oci_conformance.machine import Machine
    from oci_conformance.mutants.table import Mutant
    from oci_conformance.probe import Tools
    from oci_conformance.result import Result


CALL_SECONDS = 8  # some mutants hang


def load() -> dict[str, Mutant]:
    """{name: Mutant}"""
    from oci_conformance.mutants import misread  # noqa: F401  (registers its mutants)
    from oci_conformance.mutants.table import MUTANTS

    return MUTANTS


def controls() -> dict[str, Mutant]:
    from oci_conformance.mutants.table import CONTROLS

    return CONTROLS


class Outcome:
    """caught: the case that caught it, or the reason why none did. skipped: the unbroken runtime can't show the difference here. fault: an
    error in the mutant itself."""

    def __init__(self, mutant: Mutant, caught: str | None = None, skipped: str | None = None, fault: str | None = None) -> None:
        self.mutant = mutant
        self.caught = caught
        self.skipped = skipped
        self.fault = fault

    @property
    def survived(self) -> bool:
        return self.caught is None and self.skipped is None


def broken(result: Result, control: Result) -> list[str]:
    """Requirements that the mutant fails and the unbroken runtime passes."""
    return [name for name in result.failed_requirements() if control.verdict_of(name) == "pass"]


def runtime_of(mutant: Mutant, real: Runtime, directory: str) -> Runtime:
    """A runtime that is the mutant of the real one."""
    from oci_conformance.mutants.wrapper import script

    path = os.path.join(directory, "mutant-" + mutant.name)
    script(path, mutant.name, real.path)
    made = Runtime(path, mutant.name, real.options, CALL_SECONDS)
    made.declares, made.features = real.declares, real.features
    return made


def faults(mutant: Mutant, directory: str) -> str | None:
    """What went wrong in the mutant itself, or None."""
    from oci_conformance.mutants.wrapper import FAULT

    return system.read(os.path.join(directory, "mutant-" + mutant.name + FAULT))


def control_runs(
    runner: Runner, real: Runtime, mutants: Sequence[Mutant], directory: str
) -> tuple[dict[str, Result], dict[tuple[str, str], Result], list[tuple[str, str, list[str]]]]:
    """Runs all cases of the mutants with the unbroken runtime, alone and behind each kind of wrapper. ({case: Result},
    {(way, case): Result}, [(control, case, requirements that only the wrapper breaks)])"""
    known = cases.load()
    bare = {r.case.id: r for r in runner.run_pairs([(real, known[name]) for name in sorted({n for m in mutants for n in m.cases})])}
    pairs, ways, by_label = [], {mutant.way for mutant in mutants}, {}
    for way in sorted(ways):
        runtime = runtime_of(controls()[way], real, directory)
        by_label[runtime.label] = way
        wanted = {name for mutant in mutants if mutant.way == way for name in mutant.cases}
        pairs += [(runtime, known[name]) for name in sorted(wanted) if bare[name].verdict not in ("skip", "broken")]
    wrapped, bad = {}, []
    for result in runner.run_pairs(pairs):
        wrapped[by_label[result.runtime.label], result.case.id] = result
        spoilt = broken(result, bare[result.case.id])
        if spoilt:
            bad.append((result.runtime.label, result.case.id, spoilt))
    for way in ways:
        fault = faults(controls()[way], directory)
        if fault:
            bad.append((controls()[way].name, "its own program", [fault.strip().splitlines()[-1]]))
    return bare, wrapped, bad


def outcomes(
    runner: Runner, real: Runtime, mutants: Sequence[Mutant], directory: str
) -> tuple[list[Outcome], list[tuple[str, str, list[str]]]]:
    """Runs the mutants, after their controls. Returns ([Outcome], what the wrappers alone break: see control_runs)"""
    known = cases.load()
    bare, wrapped, bad = control_runs(runner, real, mutants, directory)
    shown = {mutant.name: [name for name in mutant.cases if (mutant.way, name) in wrapped] for mutant in mutants}
    pairs = []
    for mutant in mutants:
        runtime = runtime_of(mutant, real, directory)
        pairs += [(runtime, known[name]) for name in shown[mutant.name]]
    results: dict[str, list[Result]] = {}
    for result in runner.run_pairs(pairs):
        results.setdefault(result.runtime.label, []).append(result)
    found = []
    for mutant in mutants:
        fault = faults(mutant, directory)
        outcome = judge(mutant, shown[mutant.name], results.get(mutant.name, ()), bare, wrapped)
        found.append(Outcome(mutant, fault=fault) if fault else outcome)
    return found, bad


def judge(
    mutant: Mutant, shown: Sequence[str], results: Sequence[Result], bare: dict[str, Result], wrapped: dict[tuple[str, str], Result]
) -> Outcome:
    if not shown:
        return Outcome(mutant, skipped=bare[mutant.cases[0]].words())
    kept = {name: [need for need in bare[name].case.requirements if bare[name].verdict_of(need) == "pass"] for name in shown}
    if not any(kept.values()):
        return Outcome(mutant, skipped="the unbroken runtime fails %s as well" % ", ".join(shown))
    for result in results:
        name = result.case.id
        if set(broken(result, bare[name])) & set(broken(result, wrapped[mutant.way, name])):
            return Outcome(mutant, caught=name)
    return Outcome(mutant)


def progress(stream: TextIO) -> Callable[[Result], None]:
    """Called by the runner after each case: shows progress on a terminal."""
    count = itertools.count(1)

    def note(result: Result) -> None:
        words = "%d cases, %s under %s" % (next(count), result.case.id, result.runtime.label)
        stream.write("\r\033[K" + words[: shutil.get_terminal_size().columns - 1])
        stream.flush()

    return note if stream.isatty() else lambda result: None


def check(options: Namespace, machine: Machine, tools: Tools, directory: str, say: Callable[[str], None]) -> int:
    """The command. 0: all caught, 1: some survived, 2: it could not be done."""
    path = options.mutants if "/" in options.mutants else shutil.which(options.mutants) or options.mutants
    real = Runtime(os.path.abspath(path), None, options.option, options.timeout)
    runner = Runner(machine, tools, directory, options.jobs, use_known=False, on_result=progress(sys.stdout))
    runner.patience = None  # some mutants are meant to hang
    begun = time.monotonic()
    try:
        runner.prepare(real)
    except Unusable as e:
        say(str(e))
        return 2
    chosen = [mutant for mutant in load().values() if any(text in mutant.name for text in options.filter or [""])]
    if not chosen:
        say("no mutant name contains %s" % ", ".join(options.filter))
        return 2
    try:
        found, bad = outcomes(runner, real, chosen, directory)
    finally:
        runner.end()
        runner.sweep()
        print("\r\033[K" if sys.stdout.isatty() else "", end="")
    for control, case, names in bad:
        print("WRAPPER  %s breaks %s in %s" % (control, ", ".join(names), case))
    return told(found, options.verbose, real.label, time.monotonic() - begun) or (1 if bad else 0)


def told(found: list[Outcome], verbose: bool, label: str, seconds: float) -> int:
    """Prints the outcomes and the closing line. 1 if a mutant survived, or is itself faulty."""
    for outcome in found:
        if outcome.fault:
            print("FAULTY   %s: %s" % (outcome.mutant.name, outcome.fault.strip().splitlines()[-1]))
        elif outcome.survived:
            print("SURVIVED %s: not noticed by %s" % (outcome.mutant.name, ", ".join(outcome.mutant.cases)))
        elif verbose:
            print("%-8s %s: %s" % ("caught" if outcome.caught else "skip", outcome.mutant.name, outcome.caught or outcome.skipped))
    caught = sum(outcome.caught is not None for outcome in found)
    skipped = sum(outcome.skipped is not None for outcome in found)
    words = "%d mutants of %s: %d caught, %d cannot be seen here, %d survived; %.0f s"
    print(words % (len(found), label, caught, skipped, len(found) - caught - skipped, seconds))
    return 1 if any(outcome.survived for outcome in found) else 0
