"""trace ID: shows how long each step of the container's create took. Steps inside the container are included if create ran with --trace."""

from __future__ import annotations

from pyrunc import fileio, jsonio, render
from pyrunc.commands import choice
from pyrunc.commands.lookup import open_state
from pyrunc.errors import StateError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Json


WIDTH = 48  # columns of the bars if the output is not a terminal
NARROW = 8  # the least columns of the bars


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "trace", "text", "json")
    state_dir = open_state(options, args[0])
    stamps = [row for row in state_dir.note("trace") or () if type(row) is list and len(row) == 4]
    if not stamps:
        raise StateError(
            "nothing-kept", "no steps are recorded for this container", state_dir.id, hint="it was made by another version, or by restore"
        )
    if style == "json":
        keys = ("at_ns", "took_ns", "side", "step")
        document = {"id": state_dir.id, "steps": [dict(zip(keys, row, strict=True)) for row in sorted(stamps)]}
        fileio.write_all(1, (jsonio.dumps(document, indent=2) + "\n").encode("utf-8", "surrogateescape"))
        return 0
    fileio.write_all(1, waterfall(stamps).encode("utf-8", "surrogateescape"))
    return 0


def waterfall(stamps: list[list[Json]]) -> str:
    """[[begin, length, side, name]] in nanoseconds -> lines with begin and length in milliseconds, side, a bar and the step."""
    stamps = sorted(stamps)
    end = max(1, *(began + length for began, length, _side, _name in stamps))
    names = max(len(quote(name)) for _began, _length, _side, name in stamps)
    columns = render.width(1)
    width = WIDTH if columns is None else max(NARROW, columns - 29 - names)
    lines = ["%9s %9s  %-4s  %-*s  %s" % ("at ms", "took ms", "side", width, "", "step")]
    for began, length, side, name in stamps:
        first = min(began * width // end, width - 1)
        size = max(1, (began + length) * width // end - first)
        bar = (" " * first + ("█" if side == "host" else "▒") * size)[:width].ljust(width)
        lines.append(render.cut("%9s %9s  %-4s  %s  %s" % (_ms(began), _ms(length), quote(side), bar, quote(name)), columns))
    lines.append("%9s total" % _ms(end))
    return "\n".join(lines) + "\n"


def _ms(ns: int) -> str:
    return "%d.%03d" % divmod(ns // 1000, 1000)
