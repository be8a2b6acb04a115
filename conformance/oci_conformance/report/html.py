"""The HTML report: one page without external resources. Requirements by section with a verdict for each runtime, what could not be
looked at, and for each failure the evidence (evidence.py).

Rule: it must be readable on a phone: nothing is wider than the screen, details unfold, and no colour is used without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oci_conformance.report import evidence
from oci_conformance.report.evidence import anchor, e
from oci_conformance.requirements import LEVELS
from oci_conformance.result import of_requirement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oci_conformance.report import Report
    from oci_conformance.requirements import Requirement
    from oci_conformance.result import Result
    from oci_conformance.runtime import Runtime
    from oci_conformance.shapes import Standing


STYLE = """
:root{color-scheme:light dark;background:Canvas;color:CanvasText;--line:#8884;--soft:#8881;--ok:#1a7f37;--bad:#c9242b;--known:#8a5d00;--skip:#5d656d}
@media(prefers-color-scheme:dark){:root{--ok:#4ac26b;--bad:#ff7b72;--known:#d4a72c;--skip:#98a1aa}}
body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.4rem;margin:.2rem 0}h2{font-size:1.1rem;margin:1.6rem 0 .5rem}h3{font-size:1rem;margin:1rem 0 .4rem}p{margin:.4rem 0}
code,pre{font:13px/1.4 ui-monospace,monospace}
pre{white-space:pre-wrap;background:var(--soft);padding:.6rem;border-radius:.4rem;margin:.4rem 0;max-height:24rem;overflow-y:auto}
.runtime{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem;margin:.5rem 0}
.bar{display:flex;height:.6rem;border-radius:.3rem;overflow:hidden;margin:.4rem 0;background:var(--soft)}.bar i{display:block}
.pass{color:var(--ok)}.fail,.broken{color:var(--bad)}.known{color:var(--known)}.skip,.none{color:var(--skip)}
i.pass{background:var(--ok)}i.fail,i.broken{background:var(--bad)}i.known{background:var(--known)}i.skip,i.none{background:var(--line)}
details.section{border-top:1px solid var(--line);padding:.25rem 0}summary{cursor:pointer;padding:.25rem 0}
.req{padding:.35rem 0 .35rem .6rem;border-left:3px solid var(--line);margin:.4rem 0}
.req.bad{border-color:var(--bad)}.req.odd{border-color:var(--known)}
small{color:var(--skip)}.pills{display:flex;flex-wrap:wrap;gap:.3rem;margin-top:.25rem}
.pill{border:1px solid currentColor;border-radius:1rem;padding:0 .55rem;font-size:.85rem;text-decoration:none;white-space:nowrap}
@media(min-width:48rem){.req{display:grid;grid-template-columns:1fr auto;gap:1rem}
.pills{display:grid;grid-template-columns:repeat(var(--columns),8.5rem);align-content:start;text-align:center}}
.case{border:1px solid var(--line);border-radius:.5rem;padding:.3rem .7rem;margin:.4rem 0}
body:has(#odd:checked) :is(.req:not(.bad,.odd),details.section:not(.bad,.odd)){display:none}
:target{outline:2px solid var(--known)}
"""
WORDS = {"none": "not in this run", "broken": "suite failed", "pass": "ok", "fail": "fails", "known": "known deviation", "skip": "skipped"}
SHORT = {**WORDS, "none": "not run", "known": "deviates"}  # for a column of the matrix
STANDINGS: tuple[Standing, ...] = ("pass", "known", "fail", "broken", "skip", "none")  # in the order of the bar
WIDEST = 4  # runtimes side by side; more wrap below the text


def text(report: Report) -> str:
    about = report.about()
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"]
    parts.append("<title>OCI runtime conformance</title><style>%s</style>" % STYLE.replace("\n", ""))
    parts.append("<h1>OCI runtime conformance</h1>")
    machine = ", ".join("%s %s" % item for item in about["machine"].items())
    parts.append(
        "<p>Specification %s, level %s%s. %s. %s.</p>"
        % (about["specification"], e(report.level), e(", filter " + report.text) if report.text else "", e(about["when"]), e(machine))
    )
    parts += [head(report, runtime) for runtime in report.runtimes]
    parts += [
        "<div class=runtime><b>%s</b> <span class=fail>cannot be tested</span><p>%s</div>" % (e(runtime.label), e(words))
        for runtime, words in report.unusable
    ]
    parts.append(coverage(report))
    parts.append("<h2>Requirements</h2><p><label><input type=checkbox id=odd> only what a runtime does not keep</label></p>")
    columns = len(report.runtimes)
    parts.append("<div%s>" % (" style=--columns:%d" % columns if 0 < columns <= WIDEST else " style=--columns:1"))
    parts += sections(report)
    parts.append("</div>")
    parts += skipped(report)
    parts += evidence.lines(report, WORDS)
    parts.append("</html>\n")
    return "\n".join(parts)


def name_of(runtime: Runtime) -> str:
    """The label, and the runtime's own name if it differs."""
    return "<b>%s</b> %s%s" % (e(runtime.label), e(runtime.name) + " " if runtime.name != runtime.label else "", e(runtime.version))


def head(report: Report, runtime: Runtime) -> str:
    counts = report.counts(runtime)
    declares = ".".join(map(str, runtime.declares)) if runtime.declares else "nothing"
    lines = ["<div class=runtime>%s, declares specification %s<br><code>%s</code>" % (name_of(runtime), e(declares), e(runtime.path))]
    lines.append("<p>Cases: %s</p>" % ", ".join("<span class=%s>%d %s</span>" % (v, n, WORDS[v]) for v, n in counts.items() if n))
    for level in LEVELS[:2]:
        found = report.requirement_counts(runtime, level)
        total = sum(found.values()) or 1
        order = [verdict for verdict in STANDINGS if found.get(verdict)]
        lines.append("<div>%s: %s</div>" % (level, ", ".join("<span class=%s>%d %s</span>" % (v, found[v], WORDS[v]) for v in order)))
        lines.append(
            "<div class=bar>%s</div>" % "".join("<i class=%s style=width:%.2f%%></i>" % (v, 100 * found[v] / total) for v in order)
        )
    return "".join(lines) + "</div>"


def coverage(report: Report) -> str:
    parts = []
    for level, (observable, covered, total) in report.coverage().items():
        parts.append("%d of %d observable %s (of %d)" % (covered, observable, level, total))
    return "<p>This run is about %s.</p>" % ", ".join(parts)


def sections(report: Report) -> list[str]:
    found = {runtime: report.by_requirement(runtime) for runtime in report.runtimes}
    groups: dict[str, list[Requirement]] = {}
    for requirement in report.table.values():
        groups.setdefault(requirement.section, []).append(requirement)
    lines, chapter = [], None
    for section, entries in groups.items():
        rows: list[str] = []
        counts: dict[tuple[Runtime, str], int] = {}
        document, _, name = section.partition("#")
        if document != chapter:
            lines.append("<h3>%s</h3>" % e(document))
            chapter = document
        for requirement in entries:
            verdicts = {runtime: of_requirement(found[runtime].get(requirement.id, ()), requirement.id) for runtime in report.runtimes}
            rows.append(row(requirement, verdicts, found))
            for runtime, verdict in verdicts.items():
                if verdict in ("known", "fail", "broken") and requirement.observable:
                    counts[runtime, verdict] = counts.get((runtime, verdict), 0) + 1
        marks = [
            "<span class='pill %s'>%s: %d %s</span>" % (verdict, e(runtime.label), counts[runtime, verdict], words)
            for runtime in report.runtimes
            for verdict, words in (("fail", "not kept"), ("broken", "suite failed"), ("known", "known"))
            if (runtime, verdict) in counts
        ]
        kind = "bad" if {"fail", "broken"} & {verdict for _, verdict in counts} else "odd" if counts else ""
        lines.append(
            "<details class='section %s'><summary><b>%s</b> (%d) %s</summary>%s</details>"
            % (kind, e(name), len(entries), " ".join(marks), "".join(rows))
        )
    return lines


def row(requirement: Requirement, verdicts: Mapping[Runtime, Standing], found: Mapping[Runtime, Mapping[str, Sequence[Result]]]) -> str:
    bad = {"fail", "broken"} & set(verdicts.values())
    kind = "bad" if bad else "odd" if "known" in verdicts.values() else ""
    since = " since %s" % requirement.since if requirement.since else ""
    line = "<div class='req %s'><div><b>%s</b>%s %s<br><small>%s</small>" % (
        kind,
        requirement.level,
        since,
        e(requirement.text),
        e(requirement.id),
    )
    if not requirement.observable:
        return line + "<br><small>Not observable: %s</small></div></div>" % e(requirement.unobservable)
    pills = []
    for runtime, verdict in verdicts.items():
        words = "%s %s" % (e(runtime.label), SHORT[verdict])
        target = next((r for r in found[runtime].get(requirement.id, ()) if r.verdict_of(requirement.id) == verdict), None)
        if target is not None and verdict in ("fail", "known", "broken"):
            pills.append("<a class='pill %s' href='#%s'>%s</a>" % (verdict, anchor(target), words))
        else:
            title = " title='%s'" % e(target.words()) if target is not None and verdict == "skip" else ""
            pills.append("<span class='pill %s'%s>%s</span>" % (verdict, title, words))
    return line + "</div><div class=pills>%s</div></div>" % "".join(pills)


def skipped(report: Report) -> list[str]:
    """Why cases were not run, with the most frequent reason first."""
    reasons: dict[tuple[Runtime, str], list[str]] = {}
    for result in report.results:
        if result.verdict == "skip":
            reasons.setdefault((result.runtime, result.words()), []).append(result.case.id)
    if not reasons:
        return []
    lines = ["<h2>Not looked at</h2><ul>"]
    for (runtime, words), cases in sorted(reasons.items(), key=lambda item: -len(item[1])):
        named = "<code>%s</code>" % e(", ".join(cases))
        lines.append(
            "<li><b>%s</b> %s: %d <details><summary>which</summary>%s</details></li>" % (e(runtime.label), e(words), len(cases), named)
        )
    return [*lines, "</ul>"]
