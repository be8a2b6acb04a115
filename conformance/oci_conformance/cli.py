"""oci-conformance --runtime PATH: the conformance suite for OCI runtimes. See README.md.

Rule: what cannot be done is reported in one line on standard error and in the exit status; everything else continues.
    0  every MUST that was checked holds or is a known deviation    1  one does not
    2  something could not be done: a runtime, a report, this machine    130  interrupted
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from oci_conformance import __version__, known, probe, report, requirements, system
from oci_conformance import case as cases
from oci_conformance import machine as machines
from oci_conformance.report.live import Live, summary
from oci_conformance.result import brief
from oci_conformance.runner import Runner
from oci_conformance.runtime import CALL_SECONDS, Runtime, Unusable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from types import FrameType
    from typing import NoReturn

    from oci_conformance.case import Case
    from oci_conformance.machine import Machine
    from oci_conformance.probe import Tools
    from oci_conformance.report import Report


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def seconds(word: str) -> float:
    """The type of --timeout."""
    number = float(word)
    if not 0 < number < 1e6:
        raise ValueError
    return number


def parser() -> ArgumentParser:
    made = argparse.ArgumentParser(
        "oci-conformance", description="Checks whether a runtime does what the OCI runtime specification requires."
    )
    made.add_argument(
        "--runtime", action="append", default=[], metavar="[LABEL=]PATH", help="a runtime to test; can be given more than once"
    )
    made.add_argument(
        "--level",
        choices=cases.LEVELS,
        default="linux",
        help="which cases to run: core, linux (includes core) or full (all); default linux",
    )
    made.add_argument(
        "--filter", action="append", default=[], metavar="TEXT", help="only cases whose id, or one of whose requirements, contains TEXT"
    )
    made.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of cases to run at the same time; default: one per processor",
    )
    for form in report.FORMS:
        made.add_argument("--" + form, metavar="FILE", help="write the report as %s to FILE; - is standard output" % form.upper())
    made.add_argument("--list", action="store_true", help="list the selected cases and what they check")
    made.add_argument("--requirements", action="store_true", help="list the requirements and the cases that check them")
    made.add_argument("--deviations", action="store_true", help="list the known deviations of well-known runtimes")
    made.add_argument(
        "--mutants", metavar="PATH", help="check the suite itself: break this runtime in many ways, each of which must be noticed"
    )
    made.add_argument("--option", action="append", default=[], metavar="TEXT", help="a global option to pass in every call of a runtime")
    made.add_argument(
        "--timeout", type=seconds, default=CALL_SECONDS, metavar="SECONDS", help="time limit for one call of a runtime; default %(default)s"
    )
    made.add_argument("--busybox", metavar="PATH", help="a static busybox to use instead of the one that is found")
    made.add_argument("--probe", metavar="PATH", help="a probe compiled elsewhere: cc -static -o PATH probe.c")
    made.add_argument("--shell-probe", action="store_true", help="use a shell script instead of the compiled probe")
    made.add_argument("--no-known", action="store_true", help="count known deviations as failures")
    made.add_argument("--strict", action="store_true", help="count a SHOULD that fails as a failure")
    made.add_argument("--verbose", "-v", action="store_true", help="print a line for every case")
    made.add_argument("--version", action="version", version="oci-conformance %s" % __version__)
    return made


def say(words: str) -> None:
    print("oci-conformance: %s" % brief(words, 500), file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    if argv[:1] == ["bench"]:
        return bench(argv[1:])
    options = parser().parse_args(argv)
    chosen = cases.choose(options.level, options.filter)
    for wanted, show in ((options.list, list_cases), (options.requirements, list_requirements), (options.deviations, list_deviations)):
        if wanted:
            show(chosen if show is not list_deviations else cases.choose("full", options.filter))
            return 0
    if not (options.runtime or options.mutants):
        say("which runtime? oci-conformance --runtime PATH (--help shows the options)")
        return 2
    if os.geteuid():
        say("root is required: namespaces, cgroups and mounts are inspected from outside")
        return 2
    if not chosen and not options.mutants:
        say("no case of level %s matches %s" % (options.level, ", ".join(options.filter)))
        return 2
    return with_machine(options, chosen)


def with_machine(options: Namespace, chosen: list[Case]) -> int:
    """Runs what needs the machine: a mount namespace, the probe, a scratch directory."""
    directory = tempfile.mkdtemp(prefix="ocs-")
    os.chmod(directory, 0o755)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        with machines.own_mounts():
            system.subreaper()
            tools = probe.prepare(directory, options.busybox, options.shell_probe, options.probe)
            machine = machines.Machine(tools.compiled)
            if options.mutants:
                from oci_conformance.mutants import check

                return check(options, machine, tools, directory, say)
            return run(options, chosen, machine, tools, directory)
    except (probe.Missing, OSError) as e:
        say(str(e))
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def interrupted(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def runtimes(options: Namespace) -> list[Runtime]:
    """The requested runtimes, whether they exist or not."""
    found: list[Runtime] = []
    for word in options.runtime:
        label, sign, path = word.partition("=") if "=" in word.partition("/")[0] else ("", "", word)
        if "/" not in path:
            path = shutil.which(path, path=os.environ.get("PATH", "") + ":" + PATH) or path
        label = label if sign else os.path.basename(path)
        while label in [runtime.label for runtime in found]:
            label += "'"
        found.append(Runtime(os.path.abspath(path), label, options.option, options.timeout))
    return found


def run(options: Namespace, chosen: list[Case], machine: Machine, tools: Tools, directory: str) -> int:
    table = requirements.load()
    made = report.Report(table, chosen, machine, options.level, ", ".join(options.filter))
    forms = {form: getattr(options, form) for form in report.FORMS if getattr(options, form)}
    status = early_look(forms)
    to_stdout = "-" in forms.values()
    runner = Runner(machine, tools, directory, options.jobs, table, not options.no_known)
    begun = time.monotonic()
    live = None
    try:
        for runtime in runtimes(options):
            try:
                runner.prepare(runtime)
                made.runtimes.append(runtime)
            except Unusable as e:
                say(str(e))
                made.unusable.append((runtime, str(e)))
                status = 2
        live = Live(len(chosen) * len(made.runtimes), options.verbose, sys.stderr if to_stdout else sys.stdout)
        runner.on_result = live.note
        runner.run(made.runtimes, chosen)
    except KeyboardInterrupt:
        say("interrupted; the report covers the cases that have run")
        status = 130
    runner.end()
    made.results, made.left, made.seconds = runner.results, runner.sweep(), time.monotonic() - begun
    if live:
        live.end()
        print(summary(made), file=live.stream)
    for form, path in forms.items():
        try:
            report.write(made, form, path)
        except OSError as e:
            say("the %s report is not written: %s: %s" % (form.upper(), path, e.strerror))
            status = max(status, 2)
    return status or verdict(made, options)


def verdict(made: Report, options: Namespace) -> int:
    if made.broken_musts():
        return 1
    if options.strict and any(result.verdict == "fail" for result in made.results):
        return 1
    return 0


def early_look(forms: dict[str, str]) -> int:
    """Reports before a long run that a report can't be written; then returns 2."""
    status = 0
    for form, path in list(forms.items()):
        parent = os.path.dirname(os.path.abspath(path))
        if list(forms.values()).count(path) > 1:
            say("the %s report is not written: another report goes to %s" % (form.upper(), path))
            del forms[form]
            status = 2
            continue
        if path != "-" and (os.path.isdir(path) or not os.path.isdir(parent) or not os.access(parent, os.W_OK)):
            say("the %s report cannot be written to %s" % (form.upper(), path))
            del forms[form]
            status = 2
    return status


def list_cases(chosen: list[Case]) -> None:
    for case in chosen:
        print("%-45s %-5s %s" % (case.id, case.level, case.title))
        print("%-45s       %s" % ("", ", ".join(case.requirements)))


def list_requirements(chosen: list[Case]) -> None:
    about: dict[str, list[str]] = {}
    for case in chosen:
        for name in case.requirements:
            about.setdefault(name, []).append(case.id)
    for entry in requirements.load().values():
        where = ", ".join(about.get(entry.id, ())) or ("not observable: %s" % entry.unobservable if not entry.observable else "-")
        print("%-6s %-40s %s\n       %s\n       %s" % (entry.level, entry.id, entry.section, entry.text, where))


def list_deviations(chosen: list[Case]) -> None:
    """By runtime and requirement: its text, the sentence of the specification, what the runtime does instead."""
    table, told = requirements.load(), set()
    for entry in known.TABLE:
        names = {name for case in chosen if entry.within(case.id) for name in case.requirements if entry.excuses(name)}
        for name in sorted(names):
            who = "%s %s" % (entry.runtime, " ".join(entry.versions))
            if (who, name, entry.why) not in told:
                told.add((who, name, entry.why))
                where = "%s %s %s" % (table[name].level, name, table[name].section)
                print("%-12s %s\n    %s\n    instead: %s" % (who, where, entry.sentence, entry.why))


def bench(argv: list[str]) -> int:
    """The bench is next to this package in the source tree: conformance/bench."""
    tree = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if not os.path.exists(os.path.join(tree, "conformance", "bench", "__main__.py")):
        say("the bench is only available in the source tree: python3 -m conformance.bench")
        return 2
    sys.path.insert(0, tree)
    code: int = importlib.import_module("conformance.bench.__main__").main(argv)  # by name: it is not installed with this package
    return code
