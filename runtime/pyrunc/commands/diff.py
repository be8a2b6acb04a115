"""diff ID: the saved plan beside what the kernel shows now (mounts, devices, cgroup values, capabilities, ids, limits, namespaces), and the
saved config beside the bundle's.

Exit status: 0 nothing differs, 1 something does, 2 it could not be found out. Reads only.
"""

from pyrunc import lean, picture
from pyrunc.commands.named import open_state
from pyrunc.engine import drift, status
from pyrunc.errors import CALLER_TEXT, PyruncError, StateError, UsageError, quote


def main(options, args):
    try:
        return _main(options, args[0])
    except PyruncError as e:
        e.exit_status = 2
        raise


def _main(options, id):
    style = options.get("format", "text")
    if style not in ("text", "json"):
        raise UsageError("invalid format option: %s" % quote(style), "diff", "format", "use text or json")
    box = open_state(options, id)
    now = status.of(box)
    if now not in ("created", "running", "paused"):
        raise StateError(CALLER_TEXT["not-running"], box.id, now, "`plan --diff` compares configs")
    found = drift.Drift(box.plan(), box.state["pid"], now != "created").look()
    rows, reason = drift.bundle(box.config(), box.state["bundle"])
    if reason is not None:
        found.unread.append({"area": "config", "why": reason})
    if not status.is_alive(box.state):
        raise StateError(CALLER_TEXT["not-running"], box.id, "stopped", "it has ended meanwhile")
    document = {"id": box.id, "status": now, "same": not (found.rows or rows), "differences": found.rows + rows, "unread": found.unread}
    text = lean.dumps(document, indent=2) + "\n" if style == "json" else _text(document, picture.Paint())
    lean.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 0 if document["same"] else 1


def _text(document, paint):
    lines = []
    area = None
    for row in document["differences"]:
        if row["area"] != area:
            area = row["area"]
            lines.append(paint("%s%s" % (area, " (saved and bundle)" if area == "config" else ""), "bold"))
        lines.append(
            "  %s%s" % (quote(row["what"], 400), paint("  " + row["pointer"], "dim") if row["pointer"] not in (None, row["what"]) else "")
        )
        lines.append(paint("    - %s" % _shown(row["planned"]), "red"))
        lines.append(paint("    + %s" % _shown(row["seen"]), "green"))
    lines += ["%s: %s can't be read: %s" % (paint("note", "yellow"), row["area"], quote(row["why"], 400)) for row in document["unread"]]
    return "".join(line + "\n" for line in lines)


def _shown(value):
    return "not there" if value is None else quote(value if isinstance(value, str) else lean.dumps(value), 600)
