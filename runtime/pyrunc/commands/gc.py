"""gc [--force]: what is left of containers that are gone: made before the last boot, never finished, or ended and not touched for --older.
Without --force it is only shown. What lives, and what another command holds, is left alone; so is what ended a short time ago, since
its engine is going to delete it."""

from __future__ import annotations

from pyrunc import fileio, jsonio, store
from pyrunc.engine import gc
from pyrunc.engine.durations import duration
from pyrunc.errors import CallError, PyruncError, StepFailure, UsageError, errno_text, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.cmdline import Options


HEAD = ("ID", "AGE", "CGROUPS", "MOUNTS", "REASON")


def main(options: Options, args: list[str]) -> int:
    style = options.get("format", "table")
    if style not in ("table", "json"):
        raise UsageError("bad-format", "invalid format option: %s" % quote(style), "gc", "format", "use table or json")
    older_s = duration(options.get("older", "24h"), "gc", "older", 1e12)
    root = store.root_of(options["globals"])
    found = gc.survey(root, older_s)
    done, failed = gc.remove_all(root, found, older_s, options) if options.get("force") else ([], None)
    for one in found:
        one["removed"] = one["id"] in done
    if style == "json":
        text = jsonio.dumps(found) + "\n"
    else:
        text = _table(found)
    fileio.write_all(1, text.encode("utf-8", "surrogateescape"))
    if failed is not None:
        raise _told(*failed)
    return 0


def _told(id: str, e: PyruncError | OSError) -> PyruncError:
    if isinstance(e, PyruncError):
        e.words = "%s: %s" % (id, e.words)
        return e
    words = "%s: cannot be removed: %s" % (id, errno_text(e.errno) if e.errno else e)
    return StepFailure("removed", words, "gc", "host", call=CallError.of(e).call, errno=e.errno, path=str(e.filename or ""))


def _table(found: list[dict[str, Any]]) -> str:
    from pyrunc.commands.list import table

    rows = [HEAD]
    for one in found:
        reason = one["reason"] + ("; removed" if one["removed"] else "")
        rows.append((quote(one["id"]), _age(one["age"]), str(len(one["cgroups"])), str(len(one["mounts"])), quote(reason)))
    return table(rows) if found else ""


def _age(seconds: int) -> str:
    for unit, step in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= step:
            return "%d%s" % (seconds // step, unit)
    return "%ds" % seconds
