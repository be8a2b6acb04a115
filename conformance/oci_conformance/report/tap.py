"""The TAP report (version 14). A known deviation is a failing point marked TODO, which TAP readers count as expected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from oci_conformance.result import brief

if TYPE_CHECKING:
    from oci_conformance.report import Report
    from oci_conformance.result import Result
    from oci_conformance.runtime import Runtime


def text(report: Report) -> str:
    lines = ["TAP version 14"]
    points = [unusable(runtime, words) for runtime, words in report.unusable] + [point(report, result) for result in ordered(report)]
    lines.append("1..%d" % len(points))
    for number, (ok, name, directive, details) in enumerate(points, 1):
        lines.append("%s %d - %s%s" % ("ok" if ok else "not ok", number, escaped(name), " # " + directive if directive else ""))
        lines += details
    return "\n".join(lines) + "\n"


def ordered(report: Report) -> list[Result]:
    place = {case.id: n for n, case in enumerate(report.cases)}
    return sorted(report.results, key=lambda result: (result.runtime.label, place.get(result.case.id, 0)))


def unusable(runtime: Runtime, words: str) -> tuple[bool, str, str, list[str]]:
    return False, "%s: runs a plain container" % runtime.label, "", ["  ---", "  message: %s" % json.dumps(words), "  ..."]


def point(report: Report, result: Result) -> tuple[bool, str, str, list[str]]:
    name = "%s %s" % (result.runtime.label, result.case.id)
    if result.verdict == "pass":
        return True, name, "", []
    if result.verdict == "skip":
        return True, name, "SKIP " + oneline(result.words()), []
    directive = ""
    if result.verdict == "known":
        directive = "TODO known deviation: " + oneline(next(iter(result.known.values())).why)
    details = ["  ---", "  message: %s" % json.dumps(brief(result.words(), 500)), "  title: %s" % json.dumps(result.case.title)]
    details.append("  verdict: %s" % result.verdict)
    failed = result.failed_requirements()
    if failed:
        details.append("  requirements:")
        details += ["    - %s" % json.dumps("%s %s: %s" % (report.table[name].level, name, report.table[name].text)) for name in failed]
    details.append("  ...")
    return False, name, directive, details


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("#", "\\#")


def oneline(text: str) -> str:
    return brief(text, 200).replace("#", "no.")
