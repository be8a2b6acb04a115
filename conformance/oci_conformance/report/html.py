"""The HTML report: one page without any outer resource. Requirements by section, a verdict for each runtime, and for each failure the
evidence: configuration, what was expected, what was seen.

Its one rule: it can be read on a telephone: no tables wider than the screen, details unfold."""

import html
import json
import re

from oci_conformance.requirements import LEVELS
from oci_conformance.result import MARKS, of_requirement

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--ok:#1a7f37;--bad:#c9242b;--known:#9a6700;--skip:#6e7781}
@media(prefers-color-scheme:dark){:root{--ok:#4ac26b;--bad:#ff6b6b;--known:#d4a72c;--skip:#98a1aa}}
body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;max-width:64rem;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.4rem;margin:.2rem 0}h2{font-size:1.1rem;margin:1.6rem 0 .5rem}p{margin:.4rem 0}
code,pre{font:13px/1.4 ui-monospace,monospace}
pre{white-space:pre-wrap;background:var(--soft);padding:.6rem;border-radius:.4rem;margin:.4rem 0}
.runtime{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem;margin:.5rem 0}
.bar{display:flex;height:.6rem;border-radius:.3rem;overflow:hidden;margin:.4rem 0;background:var(--soft)}.bar i{display:block}
.pass{color:var(--ok)}.fail,.broken{color:var(--bad)}.known{color:var(--known)}.skip,.none{color:var(--skip)}
i.pass{background:var(--ok)}i.fail,i.broken{background:var(--bad)}i.known{background:var(--known)}i.skip,i.none{background:var(--line)}
details.section{border-top:1px solid var(--line);padding:.4rem 0}summary{cursor:pointer}
.req{padding:.5rem 0 .5rem .6rem;border-left:3px solid var(--line);margin:.5rem 0}
.req.bad{border-color:var(--bad)}.req.odd{border-color:var(--known)}
.req small{color:var(--skip)}.pills{display:flex;flex-wrap:wrap;gap:.3rem;margin-top:.25rem}
.pill{border:1px solid currentColor;border-radius:1rem;padding:0 .55rem;font-size:.85rem;text-decoration:none}
.case{border:1px solid var(--line);border-radius:.5rem;padding:.5rem .7rem;margin:.5rem 0}
:target{outline:2px solid var(--known)}
"""
WORDS = {"none": "not in this run", "broken": "suite failed", "pass": "ok", "fail": "fails", "known": "known deviation", "skip": "skipped"}


def e(value):
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode())


def text(report):
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
    parts.append("<h2>Requirements</h2>")
    parts += sections(report)
    parts.append("<h2>Evidence</h2>")
    evidence = [case(report, result) for result in report.results if result.verdict in ("fail", "known", "broken")]
    parts += evidence or ["<p>Nothing failed.</p>"]
    parts.append("</html>\n")
    return "\n".join(parts)


def head(report, runtime):
    counts = report.counts(runtime)
    declares = ".".join(map(str, runtime.declares)) if runtime.declares else "nothing"
    lines = [
        "<div class=runtime><b>%s</b> %s %s, declares specification %s<br><code>%s</code>"
        % (e(runtime.label), e(runtime.name), e(runtime.version), e(declares), e(runtime.path))
    ]
    lines.append("<p>Cases: %s</p>" % ", ".join("<span class=%s>%d %s</span>" % (v, n, WORDS[v]) for v, n in counts.items() if n))
    for level in LEVELS[:2]:
        found = report.requirement_counts(runtime, level)
        total = sum(found.values()) or 1
        order = [verdict for verdict in ("pass", "known", "fail", "broken", "skip", "none") if found.get(verdict)]
        lines.append("<div>%s: %s</div>" % (level, ", ".join("<span class=%s>%d %s</span>" % (v, found[v], WORDS[v]) for v in order)))
        lines.append(
            "<div class=bar>%s</div>" % "".join("<i class=%s style=width:%.2f%%></i>" % (v, 100 * found[v] / total) for v in order)
        )
    return "".join(lines) + "</div>"


def coverage(report):
    parts = []
    for level, (observable, covered, total) in report.coverage().items():
        parts.append("%d of %d observable %s (of %d)" % (covered, observable, level, total))
    return "<p>This run is about %s.</p>" % ", ".join(parts)


def sections(report):
    found = {runtime: report.by_requirement(runtime) for runtime in report.runtimes}
    groups = {}
    for requirement in report.table.values():
        groups.setdefault(requirement.section, []).append(requirement)
    lines = []
    for section, entries in groups.items():
        rows, worst = [], "pass"
        for requirement in entries:
            verdicts = {runtime: of_requirement(found[runtime].get(requirement.id, ()), requirement.id) for runtime in report.runtimes}
            rows.append(row(requirement, verdicts, found))
            for verdict in ("known", "fail", "broken"):
                worst = verdict if verdict in verdicts.values() and (worst == "pass" or verdict != "known") else worst
        mark = "" if worst == "pass" else " <span class=%s>&#9679;</span>" % worst
        lines.append(
            "<details class=section><summary><b>%s</b> (%d)%s</summary>%s</details>" % (e(section), len(entries), mark, "".join(rows))
        )
    return lines


def row(requirement, verdicts, found):
    bad = {"fail", "broken"} & set(verdicts.values())
    kind = "bad" if bad else "odd" if "known" in verdicts.values() else ""
    since = " since %s" % requirement.since if requirement.since else ""
    line = "<div class='req %s'><b>%s</b>%s %s<br><small>%s</small>" % (
        kind,
        requirement.level,
        since,
        e(requirement.text),
        e(requirement.id),
    )
    if not requirement.observable:
        return line + "<div class=pills><span class='pill skip'>not observable: %s</span></div></div>" % e(requirement.unobservable)
    pills = []
    for runtime, verdict in verdicts.items():
        words = "%s %s" % (e(runtime.label), WORDS[verdict])
        target = next((r for r in found[runtime].get(requirement.id, ()) if r.verdict_of(requirement.id) == verdict), None)
        if target is not None and verdict in ("fail", "known", "broken"):
            pills.append("<a class='pill %s' href='#%s'>%s</a>" % (verdict, anchor(target), words))
        else:
            title = " title='%s'" % e(target.words()) if target is not None and verdict == "skip" else ""
            pills.append("<span class='pill %s'%s>%s</span>" % (verdict, title, words))
    return line + "<div class=pills>%s</div></div>" % "".join(pills)


def anchor(result):
    return e("%s-%s" % (result.runtime.label, result.case.id)).replace(" ", "_").replace("'", "")


def case(report, result):
    lines = [
        "<div class=case id='%s'><b>%s</b> <span class=%s>%s</span> <code>%s</code><p>%s</p>"
        % (anchor(result), e(result.runtime.label), result.verdict, WORDS[result.verdict], e(result.case.id), e(result.case.title))
    ]
    for name in result.failed_requirements():
        requirement = report.table[name]
        lines.append("<p>%s <b>%s</b> %s" % (e(requirement.section), requirement.level, e(requirement.text)))
        if name in result.known:
            entry = result.known[name]
            lines.append("<br><q>%s</q><br><span class=known>Known: %s</span>" % (e(entry.sentence), e(entry.why)))
        lines.append("</p>")
    for check in result.failed_checks:
        lines.append(
            "<p>%s</p><pre>expected: %s\nseen:     %s</pre>" % (e(check["what"]), e(plain(check["expected"])), e(plain(check["seen"])))
        )
    if result.verdict == "broken" or not result.failed_checks:
        lines.append("<pre>%s</pre>" % e(result.reason or MARKS[result.verdict]))
    if result.calls:
        calls = "\n".join("%s\n  %s %s" % (" ".join(call["argv"]), call["how"], call["err"].strip()) for call in result.calls)
        lines.append("<details><summary>last calls</summary><pre>%s</pre></details>" % e(calls))
    if result.config is not None:
        config = result.config if isinstance(result.config, str) else compact(json.dumps(result.config, indent=1))
        lines.append("<details><summary>configuration</summary><pre>%s</pre></details>" % e(config))
    return "".join(lines) + "</div>"


def plain(value):
    if isinstance(value, dict) and {"argv", "how"} <= set(value):
        return "%s\n          %s %s" % (" ".join(value["argv"]), value["how"], (value.get("err") or "").strip())
    if isinstance(value, dict) and set(value) == {"call"}:
        return plain(value["call"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def compact(text):
    """Lists of plain values on one line."""
    return re.sub(r"\[\n\s+([^\[\]{}]+?)\n\s+\]", lambda match: "[%s]" % re.sub(r",\n\s+", ", ", match[1]), text)
