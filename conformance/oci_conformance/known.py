"""Known deviations: failures of well-known runtimes that have been examined. The list itself is in deviations.py.

Rule: an entry names case and requirements, so that nothing else is excused by it; a deviation that no longer occurs is
reported, so that the list stays correct.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from oci_conformance.deviations import DEVIATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_conformance.case import Case
    from oci_conformance.machine import Machine
    from oci_conformance.result import Result
    from oci_conformance.runtime import Runtime


class Known:
    """Versions, cases and requirements are lists of patterns (fnmatch), in one string."""

    def __init__(
        self, runtime: str, versions: str, cases: str, requirements: str, sentence: str, why: str, need: str | None = None
    ) -> None:
        self.runtime = runtime
        self.versions = versions.split()
        self.cases = cases.split()
        self.requirements = requirements.split()
        self.sentence = sentence
        self.why = why
        self.need = need  # what the machine must have for it to be visible (machine.NEEDS), or None

    def about(self, runtime: Runtime, machine: Machine) -> bool:
        if self.need and machine.lacks(self.need):
            return False
        return self.runtime == runtime.name and any(fnmatch.fnmatch(runtime.version, pattern) for pattern in self.versions)

    def within(self, case: str) -> bool:
        return any(fnmatch.fnmatch(case, pattern) for pattern in self.cases)

    def excuses(self, requirement: str) -> bool:
        return any(fnmatch.fnmatch(requirement, pattern) for pattern in self.requirements)


TABLE = tuple(Known(*who, *rest) for who, *rest in DEVIATIONS)


def of(runtime: Runtime, case: Case, machine: Machine) -> dict[str, Known]:
    """{requirement: Known} for one case under one runtime on this machine."""
    found = {}
    for entry in TABLE:
        if entry.about(runtime, machine) and entry.within(case.id):
            found.update({name: entry for name in case.requirements if entry.excuses(name)})
    return found


def outlived(results: Sequence[Result], machine: Machine) -> list[tuple[str, str, str, Known]]:
    """The entries whose requirements all passed in a case that was run."""
    found = []
    for result in results:
        for name, entry in of(result.runtime, result.case, machine).items():
            if result.verdict_of(name) == "pass":
                found.append((result.runtime.label, result.case.id, name, entry))
    return found
