"""plan [ID]: shows what create would do, without doing it. --diff OTHER shows how that changes with another bundle or config. Values of environment
variables are left out, so that a plan can be shared.

The exit status is 1 if create would refuse the config; with --diff 0 for no difference, 1 for differences, 2 if one of the two can't be planned.
"""

from __future__ import annotations

from pyrunc import fileio, jsonio, render, store
from pyrunc.commands import choice
from pyrunc.engine import cgroup_preview, preview
from pyrunc.errors import PyruncError, Refusal, UsageError, errno_text, quote
from pyrunc.parts.table import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Json, Output
    from pyrunc.engine.preview import Made
    from pyrunc.render import Paint


LINES = 4  # of a value in the folded form


def main(options: Options, args: list[str]) -> int:
    formats = ("json", "text") if options.get("json") else ("text", "json")
    style = "text" if options.get("format") == "tree" else choice.format_of(options, "plan", *formats)  # the name of earlier versions
    id = store.check_id(args[0] if args else "ID")
    if "diff" in options:
        return _diff(options, id, style)
    made = preview.make(options, id)
    if style == "json":
        text = jsonio.dumps(preview.document(made), indent=2) + "\n"
    else:
        text = human(made, render.Paint(), options.get("full", False))
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 1 if made.problems else 0


# -- for people ----------------------------------------------------------------------------------------------------------


def human(made: Made, paint: Paint, full: bool = False) -> str:
    """The phases, what is planned for each property, the control files, warnings and problems. full: each step with its reason, and every
    member of the plans; else the plans without what is empty or false, one line for each member."""
    columns = render.width(1)
    lines = ["plan of %s from %s" % (paint(made.id, "bold"), quote(made.bundle)), ""]
    lines += _steps(made, paint, columns) if full else _phases(made, paint, columns)
    keys = {row[0]: row[2] for row in PARTS}
    lines += ["", paint("properties", "bold")]
    for part, entry in made.plans.items():
        value = preview.shown(part, entry, "readable") if full else without_empty(preview.shown(part, entry, "brief"))
        items = value.items() if isinstance(value, dict) else [("", value)] if value else []
        leaves = [line for key, one in items for line in render.outline(one, key or None, columns or 110)]
        if leaves:
            lines += [paint(text, "cyan") for text in render.wrapped(", ".join(keys[part]) or "(%s)" % part, columns, "  ", "  ")]
            lines += [text for leaf in leaves for text in _hanging(leaf, columns, full)]
    files = cgroup_preview.files(made.plans)
    if files:
        lines += ["", paint("control files", "bold")]
        lines += [render.cut("  %s = %s" % (quote(r["file"]), quote(r["value"])), None if full else columns) for r in files]
    lines += [""] if made.warnings or made.problems else []
    for pointer, text in made.warnings:
        found = render.wrapped("%s: %s" % (pointer, quote(text, 1000)), columns, "warning: ", "    ")
        lines += [paint("warning", "yellow") + found[0][7:], *found[1:]]
    for problem in made.problems:
        found = render.wrapped(quote(problem.sentence(), 1000), columns, "refused: ", "    ")
        lines += [paint("refused", "red", "bold") + found[0][7:], *found[1:]]
    return "\n".join(lines) + "\n"


def _phases(made: Made, paint: Paint, columns: int | None) -> list[str]:
    """A line for each phase: where it runs, and the properties that it is about."""
    found: dict[tuple[str, str], list[str]] = {}
    for step in preview.steps(made.plans):
        found.setdefault((step["phase"], step["side"]), []).extend(step["pointers"][:1] or ["(%s)" % step["part"]])
    lines = []
    for (phase, side), pointers in found.items():
        text = "%s: %s" % (_count(len(pointers), "step"), ", ".join(dict.fromkeys(pointers)))
        rows = render.wrapped(text, columns, "%-8s %-4s  " % (phase, side), " " * 15)
        lines += [paint(phase.ljust(8), "bold") + rows[0][8:], *rows[1:]]
    return [*lines, "(--full shows each step with its reason)"]


def _steps(made: Made, paint: Paint, columns: int | None) -> list[str]:
    """A line for each step, under its phase."""
    lines, last = [], None
    for number, step in enumerate(preview.steps(made.plans), 1):
        if step["phase"] != last:
            last = step["phase"]
            lines.append("%s (%s)" % (paint(step["phase"], "bold"), step["side"]))
        name = "%s.%s" % (step["part"], step["verb"])
        rows = render.wrapped(step["why"], columns, "%5d  %-26s " % (number, name), " " * 34)
        lines += [rows[0][:7] + paint(rows[0][7:33], "cyan") + rows[0][33:], *rows[1:]]
    return [line.rstrip() for line in lines]


def _count(number: int, word: str) -> str:
    return "%d %s%s" % (number, word, "" if number == 1 else "s")


def _hanging(text: str, columns: int | None, full: bool) -> list[str]:
    """A line of outline(), below its property: wrapped, or cut to one line."""
    own = len(text) - len(text.lstrip(" "))
    rows = render.wrapped(text.lstrip(" "), columns, " " * (own + 4), " " * (own + 8))
    if not full:
        rows = [*rows[: LINES - 1], rows[LINES - 1] + " …"] if len(rows) > LINES else rows
        rows = [render.cut(row, columns) for row in rows]
    return rows


def without_empty(value: Json) -> Json:
    """Plain data without members that are false, null or empty."""
    if isinstance(value, dict):
        found = {k: without_empty(v) for k, v in value.items()}
        return {k: v for k, v in found.items() if v or v == 0 and v is not False}
    return [without_empty(v) for v in value] if isinstance(value, (list, tuple)) else value


# -- plan --diff ---------------------------------------------------------------------------------------------------------


def _diff(options: Options, id: str, style: str) -> int:
    """Exit status 0 for no difference, 1 for differences; errors have 2."""
    try:
        one, other = _both(options, id)
    except PyruncError as e:
        e.exit_status = 2
        raise
    found = preview.compare(one, other)
    same = not any(found.values())
    if style == "json":
        text = jsonio.dumps({"bundle": one.bundle, "other": quote(options["diff"]), "same": same, **found}, indent=2) + "\n"
    else:
        text = _diff_text(found, render.Paint())
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 0 if same else 1


def _both(options: Options, id: str) -> tuple[Made, Made]:
    """The plans of the bundle and of OTHER, which is a bundle, or another config for the same bundle."""
    import posix

    if "\0" in options["diff"]:
        raise UsageError("nul-in-path", "--diff has a NUL byte", "plan", "diff")
    path = store.absolute(options["diff"])
    home = store.absolute(options.get("bundle") or ".")
    try:
        is_bundle = fileio.is_directory(posix.stat(path).st_mode)
    except OSError as e:
        raise UsageError(
            "not-readable", "cannot open %s: %s" % (quote(path), errno_text(e.errno)), "plan", "diff", "give a bundle or a config"
        ) from None
    one = preview.make({**options, "bundle": home}, id)
    theirs: Options = {**options, "bundle": path if is_bundle else home, "config": path}
    if is_bundle:
        del theirs["config"]
    other = preview.make(theirs, id)
    for made, where in ((one, home), (other, path)):
        if made.problems:
            first = made.problems[0]
            raise Refusal("not-plannable", "%s can't be planned: %s" % (quote(where), first.words), first.pointer, first.hint)
    return one, other


def _diff_text(found: dict[str, list[Output]], paint: Paint) -> str:
    """Below the properties and files that differ: - what is planned, + what is planned with OTHER, as in `diff`."""
    keys = {row[0]: ", ".join(row[2]) or "(%s)" % row[0] for row in PARTS}
    columns = render.width(1)
    lines = []

    def changed(sign: str, text: str) -> None:
        lines.append(paint(render.cut("    %s %s" % (sign, text), columns), "green" if sign == "+" else "red"))

    last = None
    for row in found["values"]:
        if row["part"] != last:
            last = row["part"]
            lines.extend(paint(text, "cyan") for text in render.wrapped(keys[last], columns, "  ", "  "))
        for sign, value in (("-", row["before"]), ("+", row["after"])):
            if value is not None:
                changed(sign, "%s: %s" % (quote(row["path"].lstrip("/") or "/", 400), quote(jsonio.dumps(value), 400)))
    lines[:0] = [paint("properties", "bold")] if lines else []
    if found["files"]:
        lines.append(paint("control files", "bold"))
    for row in found["files"]:
        for sign, value in (("-", row["before"]), ("+", row["after"])):
            if value is not None:
                changed(sign, "%s = %s" % (quote(row["file"]), quote(str(value), 400)))
    if found["steps"]:
        lines.append(paint("steps", "bold"))
    for row in found["steps"]:
        changed("+" if row["change"] == "added" else "-", "%-8s %s" % (row["phase"], row["step"]))
    if not lines and columns:
        lines.append("no differences")
    return "".join(line + "\n" for line in lines)
