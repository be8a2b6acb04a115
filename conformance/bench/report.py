"""Shows the figures: plain text and one HTML page. Ratios are of medians, the first runtime to each of the others.

Its one rule: the spread stands beside the median, always.
"""

import html as _html

from conformance.bench import measure


def text(found):
    m = found["machine"]
    lines = ["%s, kernel %s, cgroups %s, %s" % (m["processor"], m["kernel"], m["cgroups"], m["when"])]
    lines.append("%d rounds, %s" % (found["rounds"], "processor %d" % m["pinned"] if m["pinned"] is not None else "not pinned"))
    lines += ["%-8s %s (%s)" % (label, r["version"], r["path"]) for label, r in found["runtimes"].items()]
    lines += ["floor    %-24s %s ms" % (label, cell(f)) for label, f in found["floor"].items()]
    for name, data in found["bundles"].items():
        lines += ["", "bundle %s: milliseconds, median (quartiles)" % name]
        lines += columns(table(data))
        lines += ["", "memory of the waiting init: KiB"]
        lines += columns(memory(data))
        lines += ["%s: %s" % (label, words) for label, words in data["failed"].items()]
    return "\n".join(lines)


def cell(figures):
    return "%.2f (%.2f–%.2f)" % (figures["median"], figures["q1"], figures["q3"])


def labels(data):
    """Those that were measured, in the order in which they were asked for."""
    return list(data["steps"]["create"])


def ratios(names, by_label, digits="%.2f"):
    """The first one's value over each of the others'."""
    first = names[0]
    row = []
    for other in names[1:]:
        whole = first in by_label and other in by_label and by_label[other]
        row.append(digits % (by_label[first] / by_label[other]) if whole else "–")
    return row


def table(data):
    names = labels(data)
    if not names:
        return []
    rows = [["", *names, *["%s/%s" % (names[0], other) for other in names[1:]]]]
    for step, _ in measure.STEPS:
        by_label = data["steps"][step]
        if by_label:
            medians = {label: f["median"] for label, f in by_label.items()}
            rows.append([step, *[cell(by_label[n]) if n in by_label else "–" for n in names], *ratios(names, medians)])
    return rows


def memory(data):
    names = [n for n in labels(data) if n in data["memory"]]
    if not names:
        return []
    rows = [["", *names, *["%s/%s" % (names[0], other) for other in names[1:]]]]
    for key in ("Private_Dirty", "Pss", "Rss", "Threads"):
        by_label = {n: data["memory"][n].get(key, 0) for n in names}
        rows.append([key, *[str(by_label[n]) for n in names], *ratios(names, by_label)])
    return rows


def columns(rows):
    if not rows:
        return ["nothing was measured"]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *[value.rjust(w) for value, w in zip(row[1:], widths[1:], strict=True)]]) for row in rows]


def html(found):
    """One page without anything from elsewhere."""
    m = found["machine"]
    parts = [
        "<!doctype html><meta charset=utf-8><title>OCI runtimes side by side</title>",
        "<style>body{font:15px sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse;margin:1em 0}"
        "td,th{border:1px solid #bbb;padding:.3em .7em;text-align:right}td:first-child,th:first-child{text-align:left}</style>",
        "<h1>OCI runtimes side by side</h1>",
        "<p>%s, kernel %s, cgroups %s, %s. %s rounds."
        % tuple(map(esc, (m["processor"], m["kernel"], m["cgroups"], m["when"], found["rounds"]))),
        grid([["runtime", "version"], *[[label, r["version"]] for label, r in found["runtimes"].items()]]),
        grid([["floor", "ms, median (quartiles)"], *[[label, cell(f)] for label, f in found["floor"].items()]]),
    ]
    for name, data in found["bundles"].items():
        parts += ["<h2>Bundle %s</h2><p>Milliseconds, median (quartiles)." % esc(name), grid(table(data))]
        parts += ["<p>Memory of the waiting init, KiB.", grid(memory(data))]
        parts += ["<p>%s: %s" % (esc(label), esc(words)) for label, words in data["failed"].items()]
    return "\n".join(parts) + "\n"


def grid(rows):
    if not rows:
        return "<p>Nothing was measured."
    head = "".join("<th>%s" % esc(value) for value in rows[0])
    body = "".join("<tr>" + "".join("<td>%s" % esc(value) for value in row) for row in rows[1:])
    return "<table><tr>%s%s</table>" % (head, body)


def esc(value):
    return _html.escape(str(value))
