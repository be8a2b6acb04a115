"""list: table or JSON of the containers below --root. A broken one is a line on stderr; the others are shown. -q parses no state whose
line is whole (store.whole): one that somebody has edited is shown there, and told by whatever reads it."""

from __future__ import annotations

from pyrunc import fileio, jsonio, log, store
from pyrunc.engine import status
from pyrunc.errors import StateError, UsageError, quote
from pyrunc.oci import state as document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.cmdline import Options


HEAD = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def main(options: Options, args: list[str]) -> int:
    style = options.get("format", "table")
    if style not in ("table", "json"):
        raise UsageError("bad-format", "invalid format option: %s" % quote(style), "list", "format", "use table or json")
    root = store.root_of(options["globals"])
    quiet = options.get("quiet")
    rows = []
    names = store.ids(root)
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


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, three blanks between (Go's tabwriter as runc sets it up)."""
    widths = [max(12, *(len(row[i]) + 3 for row in rows)) for i in range(len(rows[0]) - 1)]
    return "".join("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n" for row in rows)
