"""Progress while the cases run, and the closing lines.

Rule: on a terminal one line shows the progress; elsewhere one line is printed for each case that does not pass.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from oci_conformance.requirements import LEVELS
from oci_conformance.result import MARKS, brief

if TYPE_CHECKING:
    from typing import TextIO

    from oci_conformance.report import Report
    from oci_conformance.result import Result
    from oci_conformance.shapes import Standing, Verdict


SPOKEN = ("fail", "broken")


class Live:
    def __init__(self, total: int, verbose: bool = False, stream: TextIO | None = None) -> None:
        self.total = total
        self.verbose = verbose
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty()
        self.done = 0
        self.counts: dict[Verdict, int] = {}

    def note(self, result: Result) -> None:
        self.done += 1
        self.counts[result.verdict] = self.counts.get(result.verdict, 0) + 1
        if self.verbose or result.verdict in SPOKEN:
            self.line(described(result))
        self.progress(result)

    def line(self, text: str) -> None:
        if self.terminal:
            self.stream.write("\r\033[K")
        self.stream.write(text + "\n")
        self.stream.flush()

    def progress(self, result: Result) -> None:
        if not self.terminal:
            return
        counts = ", ".join("%d %s" % (number, MARKS[verdict]) for verdict, number in self.counts.items())
        text = "%d/%d  %s  %s %s" % (self.done, self.total, counts, result.runtime.label, result.case.id)
        self.stream.write("\r\033[K" + text[: shutil.get_terminal_size().columns - 1])
        self.stream.flush()

    def end(self) -> None:
        if self.terminal:
            self.stream.write("\r\033[K")
            self.stream.flush()


def described(result: Result) -> str:
    text = "%-6s %s %s" % (MARKS[result.verdict], result.runtime.label, result.case.id)
    if result.verdict == "pass":
        return text
    return "%s: %s" % (text, brief(result.words(), 300))


def summary(report: Report) -> str:
    """The closing lines."""
    lines = []
    for runtime in report.runtimes:
        counts = report.counts(runtime)
        cases = ", ".join("%d %s" % (number, MARKS[verdict]) for verdict, number in counts.items() if number)
        declares = ".".join(map(str, runtime.declares)) if runtime.declares else "none"
        lines.append("%s (%s %s, specification %s): %s" % (runtime.label, runtime.name, runtime.version, declares, cases or "no case"))
        for level in LEVELS[:2]:
            found = report.requirement_counts(runtime, level)
            names: tuple[Standing, ...] = ("pass", "fail", "known", "broken", "skip", "none")
            parts = ["%d %s" % (found[name], MARKS[name] if name != "none" else "not in this run") for name in names if found.get(name)]
            lines.append("    %-6s %s" % (level, ", ".join(parts)))
    coverage = report.coverage()
    parts = ["%d of %d %s (%d %%)" % (c, n, level, 100 * c // n if n else 100) for level, (n, c, _) in coverage.items()]
    lines.append("coverage: %s of the observable requirements; %.0f s" % (", ".join(parts), report.seconds))
    for label, case, name, _ in report.outlived():
        lines.append("deviations.py: %s passes %s in %s, its entry can go" % (label, name, case))
    if report.left:
        lines.append("left behind and removed: %s" % brief(report.left, 400))
    return "\n".join(lines)
