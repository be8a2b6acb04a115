"""The check of the suite itself: `oci-conformance --mutants RUNTIME` breaks a runtime in many ways, one at a time; each way must be
noticed by the cases that are about it.

Its one rule: a mutant counts as caught only if a requirement fails that the unbroken runtime keeps in the same case."""

import os
import time

from oci_conformance import case as cases
from oci_conformance import system
from oci_conformance.runner import Runner
from oci_conformance.runtime import Runtime, Unusable

CALL_SECONDS = 8  # some mutants hang


def table():
    from oci_conformance.mutants import misread  # noqa: F401  (registers its mutants)
    from oci_conformance.mutants.table import MUTANTS

    return MUTANTS


class Outcome:
    """caught: by which case; else why not. skipped: the unbroken runtime cannot show the difference here. fault: the mutant's own."""

    def __init__(self, mutant, caught=None, skipped=None, fault=None):
        self.mutant = mutant
        self.caught = caught
        self.skipped = skipped
        self.fault = fault

    @property
    def survived(self):
        return self.caught is None and self.skipped is None


def broken(result, control):
    """Requirements that the mutant fails and the unbroken runtime keeps."""
    return [name for name in result.failed_requirements() if control.verdict_of(name) == "pass"]


def outcomes(runner, real, mutants, directory, on_outcome=lambda outcome: None):
    """Runs the mutants; first the unbroken runtime with all their cases. [Outcome]"""
    from oci_conformance.mutants.wrapper import FAULT, script

    known = cases.load()
    wanted = sorted({name for mutant in mutants for name in mutant.cases})
    controls = {result.case.id: result for result in runner.run_pairs([(real, known[name]) for name in wanted])}
    made, pairs = {}, []
    for mutant in mutants:
        path = os.path.join(directory, "mutant-" + mutant.name)
        script(path, mutant.name, real.path)
        runtime = Runtime(path, mutant.name, real.options, CALL_SECONDS)
        runtime.declares, runtime.features = real.declares, real.features
        made[mutant.name] = (mutant, [name for name in mutant.cases if controls[name].verdict not in ("skip", "broken")])
        pairs += [(runtime, known[name]) for name in made[mutant.name][1]]
    results = {}
    for result in runner.run_pairs(pairs):
        results.setdefault(result.runtime.label, []).append(result)
    found = []
    for mutant, shown in made.values():
        outcome = judge(mutant, shown, results.get(mutant.name, ()), controls)
        fault = system.read(os.path.join(directory, "mutant-" + mutant.name + FAULT))
        if fault:
            outcome = Outcome(mutant, fault=fault)
        on_outcome(outcome)
        found.append(outcome)
    return found


def judge(mutant, shown, results, controls):
    if not shown:
        return Outcome(mutant, skipped=controls[mutant.cases[0]].words())
    for result in results:
        if broken(result, controls[result.case.id]):
            return Outcome(mutant, caught=result.case.id)
    kept = [name for name in shown if any(controls[name].verdict_of(need) == "pass" for need in controls[name].case.requirements)]
    if not kept:
        return Outcome(mutant, skipped="the unbroken runtime fails %s as well" % ", ".join(shown))
    return Outcome(mutant)


def check(options, machine, tools, directory, say):
    """The command. 0: all caught, 1: some survived, 2: it could not be done."""
    import shutil

    path = options.mutants if "/" in options.mutants else shutil.which(options.mutants) or options.mutants
    real = Runtime(os.path.abspath(path), None, options.option, options.timeout)
    runner = Runner(machine, tools, directory, options.jobs, use_known=False)
    runner.patience = None  # hanging is what some are made for
    begun = time.monotonic()
    try:
        runner.prepare(real)
    except Unusable as e:
        say(str(e))
        return 2
    chosen = [mutant for mutant in table().values() if options.filter in mutant.name]
    try:
        found = outcomes(runner, real, chosen, directory)
    finally:
        runner.end()
        runner.sweep()
    for outcome in found:
        if outcome.fault:
            print("FAULTY   %s: %s" % (outcome.mutant.name, outcome.fault.strip().splitlines()[-1]))
        elif outcome.survived:
            print("SURVIVED %s: not noticed by %s" % (outcome.mutant.name, ", ".join(outcome.mutant.cases)))
        elif options.verbose:
            print("%-8s %s: %s" % ("caught" if outcome.caught else "skip", outcome.mutant.name, outcome.caught or outcome.skipped))
    caught = sum(outcome.caught is not None for outcome in found)
    skipped = sum(outcome.skipped is not None for outcome in found)
    words = "%d mutants of %s: %d caught, %d not to be seen here, %d survived; %.0f s"
    print(words % (len(found), real.label, caught, skipped, len(found) - caught - skipped, time.monotonic() - begun))
    return 1 if any(outcome.survived for outcome in found) else 0
