"""hooks ID: how the hooks of a container went: exit status or signal, duration, and the end of what they wrote. The last 4 KiB of each
stream are kept in the state, and go with it: poststop hooks run when it is gone. --format text or json."""

from __future__ import annotations

from pyrunc import fileio, jsonio, render
from pyrunc.commands.lookup import open_state
from pyrunc.errors import UsageError, quote
from pyrunc.parts import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pyrunc.cmdline import Options
    from pyrunc.render import Paint


def main(options: Options, args: list[str]) -> int:
    style = options.get("format", "text")
    if style not in ("text", "json"):
        raise UsageError("bad-format", "invalid format option: %s" % quote(style), "hooks", "format", "use text or json")
    found = hooks.outcomes(open_state(options, args[0]).state)
    text = jsonio.dumps(found, indent=2) + "\n" if style == "json" else _text(found, render.Paint())
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 0


def _text(found: Sequence[Mapping[str, Any]], paint: Paint) -> str:
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
    return "".join(line + "\n" for line in lines)
