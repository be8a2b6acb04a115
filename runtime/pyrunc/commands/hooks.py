"""hooks ID: shows how the hooks of a container ended: exit status or signal, duration, and the end of their output. The state keeps the last
4 KiB of each stream. It is gone when the container is deleted, so poststop hooks are not shown."""

from __future__ import annotations

from pyrunc import fileio, jsonio, render
from pyrunc.commands import choice
from pyrunc.commands.lookup import open_state
from pyrunc.errors import quote
from pyrunc.parts import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Json
    from pyrunc.render import Paint


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "hooks", "text", "json")
    found = hooks.outcomes(open_state(options, args[0]).state)
    text = jsonio.dumps(found, indent=2) + "\n" if style == "json" else _text(found, render.Paint())
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 0


def _text(found: Sequence[Mapping[str, Json]], paint: Paint) -> str:
    lines = []
    for one in found:
        how = render.ending(one)
        good = one["status"] == 0
        lines.append(
            "%s %d  %s  %s  %d ms"
            % (paint(one["kind"], "bold"), one["index"], quote(one["path"]), paint(how, "green" if good else "red"), one["ms"])
        )
        for name in ("stdout", "stderr"):
            lines += ["    %s %s" % (paint(name + ":", "cyan"), one[name])] if one[name] else []
    if not lines and render.width(1):
        lines = ["no hook has run"]
    return "".join(line + "\n" for line in lines)
