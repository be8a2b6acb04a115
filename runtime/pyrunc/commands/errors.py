"""errors [CODE...]: lists the stable codes of errors with their meaning, exit status and remedy."""

from __future__ import annotations

from pyrunc import codes, fileio, jsonio, render
from pyrunc.commands import choice
from pyrunc.errors import UsageError, quote
from pyrunc.oci.nearest import question

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "errors", "table", "json")
    rows = codes.rows()
    if args:
        rows = [one(rows, word) for word in args]
    text = jsonio.dumps(rows, indent=2) + "\n" if style == "json" else _text(rows)
    fileio.write_all(1, text.encode())
    return 0


def one(rows: list[codes.Row], word: str) -> codes.Row:
    """The row of a code (PYR-2130, 2130) or name (mount-option). UsageError with suggestions."""
    wanted = word.upper() if word.upper().startswith(codes.PREFIX) else codes.PREFIX + word
    for row in rows:
        if row["code"] == wanted or row["name"] == word:
            return row
    hint = question(word, [row[key] for key in ("code", "name") for row in rows]) or "`pyrunc errors` lists them"
    raise UsageError("unknown-topic", "%s is neither a code nor the name of a code" % quote(word), "errors", None, hint)


def _text(rows: list[codes.Row]) -> str:
    paint, columns, pad = render.Paint(), render.width(1), " " * 10
    lines = []
    for row in rows:
        lines.append("%s  %-11s %s" % (paint(row["code"], "bold"), row["kind"], paint(row["name"], "cyan")))
        lines += render.wrapped(row["meaning"], columns, pad, pad)
        lines += render.wrapped("%s Exit status %s." % (row["remedy"], row["exit_status"]), columns, pad, pad)
    return "\n".join(lines) + "\n"
