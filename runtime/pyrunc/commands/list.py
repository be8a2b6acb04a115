"""list: lists the containers below --root. A container whose state can't be read is reported on stderr, and the others are listed.
A directory given with --root must exist; without --root, a default directory that nobody has made yet has no containers.

-q doesn't parse the state of a container whose last line is complete (store.whole), so it also lists one whose state was damaged by hand.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio, log, store
from pyrunc.commands import choice
from pyrunc.engine import status
from pyrunc.errors import StateError, UsageError, errno_text, quote
from pyrunc.oci import state as document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Json


ENGINES_HEAD = ("ENGINE", "ID", "NAME", "POD", "STATUS", "PID", "RUNTIME")
HEAD = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "list", "table", "json")
    if "engine" in options:
        return _engines(options, style)
    root = store.root_of(options["globals"])
    quiet = options.get("quiet")
    rows: list[Json] = []
    names = store.ids(root)
    if not names and options["globals"].get("root") is not None:
        _must_exist(root)
    whole = store.whole(root, names) if quiet else ()
    for id in names:
        if id in whole:
            rows.append({"id": id})
            continue
        try:
            state_dir = store.open_state_dir(root, id).load()
        except StateError as e:
            fileio.write_all(2, ("load container %s: %s\n" % (id, quote(e.words))).encode())
            log.debug("list: %s" % e)
            continue
        rows.append({"id": id} if quiet else document.for_list(state_dir.state, status.of(state_dir)))
        state_dir.close()
    if quiet:
        text = "".join(row["id"] + "\n" for row in rows)
    elif style == "json":
        text = jsonio.dumps(rows or None)
    else:
        text = table([HEAD] + [tuple(quote(str(row[k])) for k in ("id", "pid", "status", "bundle", "created", "owner")) for row in rows])
    fileio.write_all(1, text.encode("utf-8", "surrogateescape"))
    return 0


def _must_exist(root: str) -> None:
    """UsageError with runc's wording if there is no such directory: an empty table would hide a misspelt --root."""
    try:
        posix.stat(root)
    except FileNotFoundError as e:
        words = "open %s: %s" % (quote(root), errno_text(e.errno))
        raise UsageError("state-root-missing", words, "list", "root", "check the spelling; the first create makes the directory") from None


def _engines(options: Options, style: str) -> int:
    """list --engine: the containers of engines, by their names, with the runtime that made them."""
    from pyrunc.engine import engines

    found = engines.containers(choice.engine_of(options, "list"))
    if options.get("quiet"):
        text = "".join(one["id"] + "\n" for one in found)
    elif style == "json":
        text = jsonio.dumps(found)
    else:
        rows = [
            (
                one["engine"],
                one["id"][:12],
                quote(one["name"] or "-"),
                quote(one["pod"] or "-"),
                one["status"],
                str(one["pid"]),
                one["runtime"],
            )
            for one in found
        ]
        text = table([ENGINES_HEAD, *rows])
    fileio.write_all(1, text.encode("utf-8", "surrogateescape"))
    return 0


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, with three blanks between them, as runc's tables (Go's tabwriter). At a terminal long cells are
    cut, and the columns are narrower where they would not fit."""
    gap, least = 3, 12
    if posix.isatty(1):
        from pyrunc import render

        columns = render.width(1)
        if columns is not None and any(len(line) > columns for line in _lines(rows, gap, least)):
            gap, least = 2, 0
            rows = render.fitting(rows, columns, gap)
    return "".join(line + "\n" for line in _lines(rows, gap, least))


def _lines(rows: Sequence[Sequence[str]], gap: int, least: int) -> list[str]:
    widths = [max(least, *(len(row[i]) + gap for row in rows)) for i in range(len(rows[0]) - 1)]
    return ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] for row in rows]
