"""The JUnit report: a suite for each runtime. Known deviations are skipped cases, with the reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oci_conformance.report import Report
    from oci_conformance.result import Result
    from oci_conformance.runtime import Runtime
    from oci_conformance.shapes import Verdict


def text(report: Report) -> str:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    results, failures, errors = report.results, 0, 0
    suites = []
    for runtime in report.runtimes:
        counts = report.counts(runtime)
        failures += counts["fail"]
        errors += counts["broken"]
        suites += suite(report, runtime, counts)
    for runtime, words in report.unusable:
        errors += 1
        suites.append('  <testsuite name=%s tests="1" failures="0" errors="1" skipped="0">' % attribute(runtime.label))
        suites.append('    <testcase classname="preflight" name="runs a plain container"><error message=%s/></testcase>' % attribute(words))
        suites.append("  </testsuite>")
    total = len(results) + len(report.unusable)
    lines.append(
        '<testsuites name="oci-conformance" tests="%d" failures="%d" errors="%d" time="%.1f">' % (total, failures, errors, report.seconds)
    )
    return "\n".join([*lines, *suites, "</testsuites>"]) + "\n"


def suite(report: Report, runtime: Runtime, counts: Mapping[Verdict, int]) -> list[str]:
    results = report.of(runtime)
    head = '  <testsuite name=%s tests="%d" failures="%d" errors="%d" skipped="%d" time="%.1f">'
    skipped = counts["skip"] + counts["known"]
    lines = [head % (attribute(runtime.label), len(results), counts["fail"], counts["broken"], skipped, sum(r.seconds for r in results))]
    for result in results:
        module, _, name = result.case.id.partition(".")
        lines.append('    <testcase classname=%s name=%s time="%.3f">' % (attribute(module), attribute(name), result.seconds))
        lines += outcome(report, result)
        lines.append("    </testcase>")
    return [*lines, "  </testsuite>"]


def outcome(report: Report, result: Result) -> list[str]:
    if result.verdict == "pass":
        return []
    words = result.words()
    if result.verdict in ("skip", "known"):
        why = words if result.verdict == "skip" else "known deviation: " + next(iter(result.known.values())).why
        return ["      <skipped message=%s/>" % attribute(why)]
    kind = "error" if result.verdict == "broken" else "failure"
    levels = sorted({report.table[name].level for name in result.failed_requirements()})
    return [
        "      <%s message=%s type=%s>%s</%s>"
        % (kind, attribute(words), attribute(" ".join(levels) or kind), escape(clean(details(result))), kind)
    ]


def details(result: Result) -> str:
    lines = [result.case.title, "requirements: " + ", ".join(result.failed_requirements())]
    for check in result.failed_checks:
        lines += ["", check["what"], "  expected: %s" % short(check["expected"]), "  seen:     %s" % short(check["seen"])]
    if result.verdict == "broken":
        lines += ["", result.reason]
    return "\n".join(lines)


def short(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:2000]


def attribute(value: object) -> str:
    return quoteattr(clean(str(value)))


def clean(value: str) -> str:
    """The text without characters that are not allowed in XML."""
    return "".join(c if c in "\t\n\r" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE or ord(c) > 0xFFFF else "?" for c in value)
