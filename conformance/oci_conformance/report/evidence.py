"""The evidence part of the HTML report: for each case that did not pass: the requirements, what was expected and seen, the
last calls, and how its configuration differs from the suite's base.

Rule: output of a runtime is shown as text, of bounded size."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

from oci_conformance import bundle
from oci_conformance.result import MARKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oci_conformance.report import Report
    from oci_conformance.result import Result
    from oci_conformance.shapes import Config, Json


ODD = ("fail", "broken", "known")
SCRATCH = re.compile(r"/[^\s\"']*?/ocs-[^/\s\"']+/ocs\d+x\d+(?=[/\s\"']|$)")


def e(value: object) -> str:
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode())


def anchor(result: Result) -> str:
    return re.sub(r"[^\w.:-]", "_", "%s-%s" % (result.runtime.label, result.case.id))


def lines(report: Report, words: Mapping[str, str]) -> list[str]:
    """The whole part. `words`: {verdict: its name}."""
    found = ["<h2>Evidence</h2>"]
    for runtime in report.runtimes:
        results = sorted((result for result in report.of(runtime) if result.verdict in ODD), key=lambda result: ODD.index(result.verdict))
        if results:
            found.append("<h3>%s: %d cases</h3>" % (e(runtime.label), len(results)))
            found += [case(report, result, words) for result in results]
    if len(found) == 1:
        return [*found, "<p>Nothing failed.</p>"]
    base = compact(json.dumps(bundle.base(), indent=1))
    found.append(
        "<h2>The base configuration</h2><p>What the configurations above are changes of. Paths in &lt;case&gt; are those of the case's own "
    )
    found.append(
        "directory. The JSON report has every configuration whole.</p><details><summary>show it</summary><pre>%s</pre></details>" % e(base)
    )
    return found


def case(report: Report, result: Result, words: Mapping[str, str]) -> str:
    """One case; unfolded unless its deviations are known."""
    found = [
        "<details class=case%s><summary><b>%s</b> <span class=%s>%s</span> <code>%s</code></summary><p id='%s'>%s</p>"
        % (
            *("" if result.verdict == "known" else " open", e(result.runtime.label), result.verdict, words[result.verdict]),
            *(e(result.case.id), anchor(result), e(result.case.title)),  # the id is inside: a link to it unfolds the surrounding element
        )
    ]
    for name in result.failed_requirements():
        requirement = report.table[name]
        found.append("<p>%s <b>%s</b> %s" % (e(requirement.section), requirement.level, e(requirement.text)))
        if name in result.known:
            entry = result.known[name]
            found.append("<br><q>%s</q><br><span class=known>Known: %s</span>" % (e(entry.sentence), e(entry.why)))
        found.append("</p>")
    for check in result.failed_checks:
        seen = "expected: %s\nseen:     %s" % (plain(check["expected"]), plain(check["seen"]))
        found.append("<p>%s</p><pre>%s</pre>" % (e(check["what"]), e(short(seen))))
    if result.verdict == "broken" or not result.failed_checks:
        found.append("<pre>%s</pre>" % e(short(result.reason or MARKS[result.verdict])))
    if result.calls:
        calls = "\n".join("%s\n  %s %s" % (" ".join(call["argv"]), call["how"], call["err"].strip()) for call in result.calls)
        found.append("<details><summary>last calls</summary><pre>%s</pre></details>" % e(short(calls)))
    if result.config is not None:
        found.append("<details><summary>configuration</summary><pre>%s</pre></details>" % e(short(configuration(result.config))))
    return "".join(found) + "</details>"


def configuration(config: Config | str) -> str:
    """A configuration as changes to the base, or unchanged if it is not a JSON object."""
    if not isinstance(config, dict):
        return str(config)
    changes = bundle.difference(bundle.base(), config)
    return "\n".join("%s = %s" % (pointer, absent_or(value)) for pointer, value in changes.items()) or "the base configuration"


def absent_or(value: object) -> str:
    return "absent" if value is bundle.ABSENT else json.dumps(value, ensure_ascii=False)


def short(text: str, limit: int = 6000) -> str:
    text = SCRATCH.sub("<case>", text)
    return text if len(text) <= limit else text[:limit] + "\n… and %d characters more" % (len(text) - limit)


def plain(value: Json) -> str:
    if isinstance(value, dict) and {"argv", "how"} <= set(value):
        return "%s\n          %s %s" % (" ".join(value["argv"]), value["how"], (value.get("err") or "").strip())
    if isinstance(value, dict) and set(value) == {"call"}:
        return plain(value["call"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def compact(text: str) -> str:
    """Lists of plain values on one line."""
    return re.sub(r"\[\n\s+([^\[\]{}]+?)\n\s+\]", lambda match: "[%s]" % re.sub(r",\n\s+", ", ", match[1]), text)
