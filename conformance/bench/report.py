"""Shows the figures as plain text and as one HTML page. Ratios are those of medians, of the first runtime to each of the others.

Rule: the spread is always shown next to the median.
"""

from __future__ import annotations

import html as _html
import re
from typing import TYPE_CHECKING

from conformance.bench import engines, load, measure, plots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from conformance.bench.shapes import Document, Figures, Json, Rows, Section, Value


STYLE = (
    ":root{--page:#fff;--text:#1b1b1b;--line:#ccc;--link:#1a5fb4;%s}"
    "@media(prefers-color-scheme:dark){:root{--page:#16181d;--text:#e6e6e6;--line:#4a4d55;--link:#8ab4f8;%s}}"
    "body{font:16px/1.5 sans-serif;margin:0 auto;padding:1rem;max-width:70rem;background:var(--page);color:var(--text)}"
    "a{color:var(--link)}h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}p{overflow-wrap:anywhere}"
    ".wide{overflow-x:auto;margin:1rem 0}table{border-collapse:collapse}td,th{border:1px solid var(--line);padding:.3em .7em;"
    "text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left;position:sticky;left:0;background:var(--page);white-space:normal;"
    "min-width:6rem}"
)


def text(found: Document) -> str:
    m = found["machine"]
    lines = ["%s, kernel %s, cgroups %s, %s" % (m["processor"], m["kernel"], m["cgroups"], m["when"])]
    pinned = "processor %d" % m["pinned"] if m["pinned"] is not None else "not pinned"
    lines.append("%d rounds, %s, state roots %s" % (found["rounds"], pinned, m.get("state", "on disk")))
    lines += ["%-8s %s (%s)" % (label, r["version"], r["path"]) for label, r in found["runtimes"].items()]
    for title, rows, notes, _plot in sections(found):
        lines += ["", title, *(columns(rows) if rows else []), *notes]
    return "\n".join(lines)


def html(found: Document) -> str:
    """One self-contained page. On a phone wide tables and plots scroll by themselves; colours follow the reader's scheme."""
    m = found["machine"]
    facts = (
        m["processor"],
        m.get("processors", "?"),
        m["kernel"],
        m["cgroups"],
        m.get("state", "on disk"),
        m["when"],
        found["rounds"],
        "pinned to one processor" if m["pinned"] is not None else "not pinned",
    )
    shown = sections(found)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>",
        "<meta name=color-scheme content='light dark'><title>OCI runtimes side by side</title>",
        "<style>%s</style>" % (STYLE % (plots.variables(plots.LIGHT), plots.variables(plots.DARK)) + plots.STYLE),
        "<h1>OCI runtimes side by side</h1>",
        "<p>%s, %s processors, kernel %s, cgroups %s, state roots %s, %s. %s rounds, %s." % tuple(map(esc, facts)),
        grid([["runtime", "version"], *[[label, r["version"]] for label, r in found["runtimes"].items()]]),
        "<nav><h2>Contents</h2><ol>",
        *("<li><a href='#s%d'>%s</a>" % (number, heading(section[0])) for number, section in enumerate(shown)),
        "</ol></nav>",
    ]
    for number, (title, rows, notes, plot) in enumerate(shown):
        parts += ["<h2 id=s%d>%s</h2>" % (number, heading(title)), "<div class=wide>%s</div>" % plot if plot else ""]
        parts += [grid(rows) if rows else "", *["<p>%s" % marked(note) for note in notes]]
    return "\n".join(part for part in parts if part) + "\n"


def heading(title: str) -> str:
    return marked(title[:1].upper() + title[1:])


def marked(words: object) -> str:
    """Words in HTML; `this` is code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", esc(words))


def sections(found: Document) -> list[Section]:
    """[(title, rows of a table including its head, sentences, plot as SVG)] for all measurements."""
    names = list(found["runtimes"])
    made = []
    if found.get("floor"):
        made.append(_floor(found["floor"]))
    for name, data in found.get("bundles", {}).items():
        made += _life(name, data)
    for key, make in (
        ("profile", _calls),
        ("steps", _steps),
        ("resources", _resources),
        ("smallest", _smallest),
        ("scale", _scale),
        ("stats", _stats),
        ("configs", _configs),
        ("parallel", _parallel),
    ):
        if found.get(key):
            made.append(make(found[key], names))
    if found.get("engines"):
        made.append(engines.section(found["engines"]))
    return made + load.sections(found.get("load", {}), cell)


def _floor(floor: Document) -> Section:
    rows = [["", "ms, median (quartiles)"], *[[label, cell(f)] for label, f in floor.items() if label != "missing"]]
    notes = ["`kernel`: a C program that does the kernel work of the bundle hello and nothing else."]
    notes += ["%s: not measured" % floor["missing"]] if "missing" in floor else []
    return "floor", rows, notes, ""


def _life(name: str, data: Document) -> list[Section]:
    failed = ["%s: %s" % (label, words) for label, words in data["failed"].items()]
    steps = [(step, {n: f for n, f in data["steps"][step].items()}) for step, _ in measure.STEPS if data["steps"][step]]
    plot = plots.bars("bundle " + name, "ms", steps, labels(data))
    made = [("bundle %s: milliseconds, median (quartiles)" % name, table(data) or [["nothing was measured"]], failed, plot)]
    rows = memory(data)
    picks: tuple[tuple[str, Callable[[Document], Json]], ...] = (
        ("waiting, private", lambda m: m.get("Private_Dirty")),
        ("waiting, share of all", lambda m: m.get("Pss")),
        ("running, private", lambda m: m.get("running", {}).get("Private_Dirty")),
    )
    groups = [(words, {n: pick(m) for n, m in data["memory"].items() if pick(m)}) for words, pick in picks]
    if rows:
        made.append(("bundle %s: memory of init, KiB" % name, rows, [], plots.bars("memory of init", "KiB", groups, labels(data))))
    if data.get("profile"):
        made.append(("bundle %s: processor time and page faults of each command" % name, usage(data), [], ""))
    return made


def cell(figures: Figures | None) -> str:
    return "%.2f (%.2f–%.2f)" % (figures["median"], figures["q1"], figures["q3"]) if figures else "–"


def labels(data: Document) -> list[str]:
    """The runtimes that were measured, in the order in which they were given."""
    return list(data["steps"]["create"])


def ratios(names: list[str], by_label: Mapping[str, float], digits: str = "%.2f") -> list[str]:
    """The first runtime's value divided by that of each other runtime."""
    first = names[0]
    row = []
    for other in names[1:]:
        whole = first in by_label and other in by_label and by_label[other]
        row.append(digits % (by_label[first] / by_label[other]) if whole else "–")
    return row


def head(names: list[str]) -> list[str]:
    return ["", *names, *["%s/%s" % (names[0], other) for other in names[1:]]]


def figure_row(title: str, names: list[str], by_label: Mapping[str, Figures | None]) -> list[str]:
    medians = {label: f["median"] for label, f in by_label.items() if f}
    return [title, *[cell(by_label.get(n)) for n in names], *ratios(names, medians)]


def table(data: Document) -> Rows:
    names = labels(data)
    if not names:
        return []
    rows = [figure_row(step, names, data["steps"][step]) for step, _ in measure.STEPS if data["steps"][step]]
    return [head(names), *rows]


def memory(data: Document) -> Rows:
    names = [n for n in labels(data) if n in data["memory"]]
    if not names:
        return []
    rows = [head(names)]
    for key in ("Private_Dirty", "Pss", "Rss", "Threads"):
        by_label = {n: data["memory"][n].get(key, 0) for n in names}
        rows.append([key, *[str(by_label[n]) for n in names], *ratios(names, by_label)])
    return rows


def usage(data: Document) -> Rows:
    names = [n for n in labels(data) if n in data["profile"]]
    rows = [["", *["%s, ms of processor" % n for n in names], *["%s, page faults" % n for n in names]]]
    for step, _ in measure.STEPS:
        found = [data["profile"][n].get(step) for n in names]
        if any(found):
            rows.append([step, *["%.2f" % f["cpu_ms"] if f else "–" for f in found], *[str(f["faults"]) if f else "–" for f in found]])
    return rows


def _calls(found: Document, names: list[str]) -> Section:
    rows = []
    if found["calls"]:
        rows = [["", *names, "most often (%s)" % names[0]]]
        for command in next(iter(found["calls"].values())):
            per = [found["calls"].get(n, {}).get(command) for n in names]
            most = ", ".join("%s %d" % (name, count) for name, count in per[0]["most"]) if per[0] else ""
            rows.append([command, *[str(p["total"]) if p else "–" for p in per], most])
    for label, counts in found["instructions"].items():
        rows += [["%s, %s: instructions" % (label, command), str(count)] for command, count in counts.items()]
    notes = ["%s: not counted, %s" % (what, why) for what, why in found["missing"].items()]
    return "system calls of each command", rows, notes, ""


def _steps(found: Document, names: list[str]) -> Section:
    names = [name for name in names if found["counts"].get(name)]
    commands = list(dict.fromkeys(command for name in names for command in found["counts"][name]))
    rows = [["", *names]]
    for command in commands:
        counts = [found["counts"][name].get(command) for name in names]
        rows.append([command, *["–" if count is None else "%.2f" % (count / 1e6) for count in counts]])
    notes = ["counted one by one, of the command and its children until its end; –: took too long"]
    notes += ["not counted: %s" % found["missing"]] if found["missing"] else []
    return "millions of instructions of each command", rows if names else [], notes, ""


def _resources(found: Document, names: list[str]) -> Section:
    rows = [["create", "without", "with", "difference, ms"]]
    notes = []
    for name in names:
        entry = found.get(name) or {}
        rows.append(
            [name, cell(entry.get("without")), cell(entry.get("with")), "%.2f" % entry["difference"] if "difference" in entry else "–"]
        )
        notes += ["%s: %s" % (name, entry["failed"])] if "failed" in entry else []
    return "memory, cpu and pids limits: ms of create, median (quartiles)", rows, notes, ""


def _smallest(found: Document, names: list[str]) -> Section:
    rows = [["", *names], ["KiB", *[str(found[n]) if found.get(n) else "–" for n in names]]]
    return "smallest memory limit with which `true` runs", rows, [], ""


def _scale(found: Document, names: list[str]) -> Section:
    counts = sorted({int(c) for entry in found.values() for c in entry["create"]})
    rows = [head(names)]
    for step in ("create", "state", "list"):
        for count in counts:
            by_label = {n: found[n][step][str(count)] for n in names if n in found and str(count) in found[n][step]}
            rows.append(figure_row("%s, %s there" % (step, "{:,}".format(count)), names, by_label))
    notes = ["%s: %s" % (n, found[n]["failed"]) for n in names if "failed" in found.get(n, {})]
    series = {n: [(int(c), f) for c, f in found[n]["create"].items()] for n in names if n in found}
    return "create, state and list with many containers: ms", rows, notes, plots.lines("create, by containers there", "ms", series, names)


def _stats(found: Document, names: list[str]) -> Section:
    rows = [["", "how", "ms"]]
    for name in names:
        entry = found.get(name) or {"missing": "not measured"}
        rows.append([name, entry.get("how") or entry["missing"], cell(entry.get("figures"))])
    return "statistics of 200 running containers", rows, [], ""


def _configs(found: Document, names: list[str]) -> Section:
    rows, notes = [head(names)], []
    series: dict[str, list[tuple[int, Value]]] = {name: [] for name in names}
    for size, by_label in found.items():
        for step in ("create", "delete"):
            rows.append(figure_row("%s, %s" % (step, size), names, {n: entry.get(step) for n, entry in by_label.items()}))
        notes += ["%s, %s: %s" % (n, size, entry["failed"]) for n, entry in by_label.items() if "failed" in entry]
        count = size.partition(" mounts")
        for name in names:
            if count[1] and by_label.get(name, {}).get("create"):
                series[name].append((int(count[0]), by_label[name]["create"]))
    return "large configurations: ms, median (quartiles)", rows, notes, plots.lines("create, by mounts", "ms", series, names)


def _parallel(found: Document, names: list[str]) -> Section:
    widths = sorted((key for key in found if key.isdigit()), key=int)
    rows = [head(names), *[figure_row("%s at once" % width, names, found[width]) for width in widths]]
    notes = ["%s: %s" % row for row in found["failed"].items()]
    groups = [("%s at once" % width, found[width]) for width in widths]
    plot = plots.bars("runs on all processors", "per second", groups, names)
    return "parallel runs: containers per second, median (quartiles)", rows, notes, plot


def columns(rows: Rows) -> list[str]:
    wide = max(len(row) for row in rows)
    rows = [[*row, *[""] * (wide - len(row))] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(wide)]
    return ["  ".join([row[0].ljust(widths[0]), *[v.rjust(w) for v, w in zip(row[1:], widths[1:], strict=True)]]).rstrip() for row in rows]


def grid(rows: Rows) -> str:
    top = "".join("<th>%s" % esc(value) for value in rows[0])
    body = "".join("<tr>" + "".join("<td>%s" % marked(value) for value in row) for row in rows[1:])
    return "<div class=wide><table><tr>%s%s</table></div>" % (top, body)


def esc(value: object) -> str:
    return _html.escape(str(value))
