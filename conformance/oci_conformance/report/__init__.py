"""The reports: the results of a run, as data for all formats.

Rule: a report shows the verdicts of result.py; nothing is decided here.
"""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING

from oci_conformance import SPECIFICATION, __version__, known, machine
from oci_conformance.requirements import LEVELS
from oci_conformance.result import VERDICTS, of_requirement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oci_conformance.case import Case
    from oci_conformance.known import Known
    from oci_conformance.machine import Machine
    from oci_conformance.requirements import Requirement
    from oci_conformance.result import Result
    from oci_conformance.runtime import Runtime
    from oci_conformance.shapes import Json, Left, Standing, Verdict


FORMS = ("tap", "junit", "json", "html")


class Report:
    def __init__(self, table: Mapping[str, Requirement], cases: Sequence[Case], host: Machine, level: str, text: str) -> None:
        self.table = table
        self.cases = cases
        self.host = host
        self.machine = machine.about(host)
        self.level = level
        self.text = text
        self.when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.runtimes: list[Runtime] = []
        self.unusable: list[tuple[Runtime, str]] = []  # [(runtime, words)]
        self.results: list[Result] = []
        self.left: Left = {}
        self.seconds = 0.0

    def of(self, runtime: Runtime) -> list[Result]:
        return [result for result in self.results if result.runtime is runtime]

    def counts(self, runtime: Runtime) -> dict[Verdict, int]:
        """{verdict: number of cases}"""
        verdicts = [result.verdict for result in self.of(runtime)]
        return {verdict: verdicts.count(verdict) for verdict in VERDICTS}

    def requirement_counts(self, runtime: Runtime, level: str) -> dict[Standing, int]:
        """{verdict: number of observable requirements of a level}, `none` for those that no case of the run tests."""
        found: dict[Standing, int] = {}
        results = self.by_requirement(runtime)
        for requirement in self.table.values():
            if requirement.level == level and requirement.observable:
                verdict = of_requirement(results.get(requirement.id, ()), requirement.id)
                found[verdict] = found.get(verdict, 0) + 1
        return found

    def by_requirement(self, runtime: Runtime) -> dict[str, list[Result]]:
        found: dict[str, list[Result]] = {}
        for result in self.of(runtime):
            for name in result.case.requirements:
                found.setdefault(name, []).append(result)
        return found

    def coverage(self) -> dict[str, tuple[int, int, int]]:
        """{level: (observable, those that a case of this run tests, all)}"""
        named = {name for case in self.cases for name in case.requirements}
        found = {}
        for level in LEVELS:
            of_level = [requirement for requirement in self.table.values() if requirement.level == level]
            observable = [requirement for requirement in of_level if requirement.observable]
            found[level] = (len(observable), sum(requirement.id in named for requirement in observable), len(of_level))
        return found

    def broken_musts(self) -> list[Result]:
        """Results that fail a MUST that is not in known.py, and cases that the suite itself could not run."""
        found = []
        for result in self.results:
            musts = [name for name in result.failed_requirements() if self.table[name].level == "MUST" and name not in result.known]
            if result.verdict == "broken" or (result.verdict == "fail" and (musts or not result.case.requirements)):
                found.append(result)
        return found

    def outlived(self) -> list[tuple[str, str, str, Known]]:
        return known.outlived(self.results, self.host)

    def about(self) -> dict[str, Json]:
        return {
            "suite": __version__,
            "specification": SPECIFICATION,
            "when": self.when,
            "level": self.level,
            "filter": self.text,
            "machine": self.machine,
            "seconds": round(self.seconds, 1),
            "runtimes": [runtime_dict(runtime) for runtime in self.runtimes],
            "unusable": [{"label": runtime.label, "path": runtime.path, "why": words} for runtime, words in self.unusable],
        }


def runtime_dict(runtime: Runtime) -> dict[str, str | None]:
    return {
        "label": runtime.label,
        "path": runtime.path,
        "name": runtime.name,
        "version": runtime.version,
        "declares": ".".join(map(str, runtime.declares)) if runtime.declares else None,
    }


def write(report: Report, form: str, path: str) -> None:
    """Writes a report; OSError on failure. `-` is the standard output."""
    import importlib
    import sys

    text = importlib.import_module("oci_conformance.report.%s" % {"json": "document"}.get(form, form)).text(report)
    if path == "-":
        sys.stdout.write(text)
        return
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        if os.path.isfile(path):
            os.fsync(file.fileno())
