"""gc [--force]: lists what is left of containers that are gone: created before the last boot, never finished, or stopped and unchanged for
--older. --force removes it. Containers that run, that another command holds, or that have ended only recently, are left alone: their engine is
going to delete them."""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio, store
from pyrunc.commands import choice
from pyrunc.engine import gc
from pyrunc.engine.durations import duration
from pyrunc.errors import CallError, PyruncError, StepFailure, errno_text, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.engine.shapes import Stale


HEAD = ("ID", "AGE", "CGROUPS", "MOUNTS", "REASON")


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "gc", "table", "json")
    older_s = duration(options.get("older", "24h"), "gc", "older", 1e12)
    found, failed = [], None
    for root in _roots(options):
        here = gc.survey(root, older_s)
        done, first = gc.remove_all(root, here, older_s, options) if options.get("force") else ([], None)
        failed = failed or first
        for one in here:
            one["removed"] = one["id"] in done
        found += here
    if style == "json":
        text = jsonio.dumps(found) + "\n"
    else:
        text = _table(found)
    fileio.write_all(1, text.encode("utf-8", "surrogateescape"))
    if failed is not None:
        raise _failure(*failed)
    return 0


def _roots(options: Options) -> list[str]:
    """--root, or the directories of an engine that the caller may use."""
    if "engine" not in options:
        return [store.root_of(options["globals"])]
    from pyrunc.engine import engines

    engine = choice.engine_of(options, "gc")
    wanted = engines.ENGINES if engine == "all" else (engine,)
    found = []
    for root in dict.fromkeys(root for engine in wanted for root in engines.places(engine)):
        try:
            store.ids(root)
            found.append(root)
        except (PyruncError, OSError):
            continue
    return found


def _failure(id: str, e: PyruncError | OSError) -> PyruncError:
    if isinstance(e, PyruncError):
        e.words = "%s: %s" % (id, e.words)
        return e
    words = "%s: cannot be removed: %s" % (id, errno_text(e.errno) if e.errno else e)
    return StepFailure("not-removed", words, "gc", "host", call=CallError.of(e).call, errno=e.errno, path=str(e.filename or ""))


def _table(found: list[Stale]) -> str:
    from pyrunc.commands.list import table

    rows = [HEAD]
    for one in found:
        reason = one["reason"] + ("; removed" if one["removed"] else "")
        rows.append((quote(one["id"]), _age(one["age"]), str(len(one["cgroups"])), str(len(one["mounts"])), quote(reason)))
    return table(rows) if found else "nothing is left of dead containers\n" if posix.isatty(1) else ""


def _age(seconds: int) -> str:
    for unit, step in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= step:
            return "%d%s" % (seconds // step, unit)
    return "%ds" % seconds
