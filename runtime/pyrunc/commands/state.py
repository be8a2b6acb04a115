"""state ID: prints the state of a container as a JSON object with runc's members. For a stopped container, "ended" tells how it ended, as far as
that is known: {"status", "signal", "oom_killed"}. Takes no lock."""

from __future__ import annotations

from pyrunc import fileio, jsonio
from pyrunc.commands import choice
from pyrunc.commands.lookup import open_state
from pyrunc.engine import status
from pyrunc.oci import state as document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


def main(options: Options, args: list[str]) -> int:
    choice.format_of(options, "state", "json")
    state_dir = open_state(options, args[0], quiet=True)
    now = status.of(state_dir)
    data = document.for_state(state_dir.state, now)
    if now == "stopped":
        from pyrunc.engine import exit_status

        end = {key: value for key, value in exit_status.of(state_dir).items() if value is not None}
        if "status" in end or end.get("oom_killed"):
            data["ended"] = end
    fileio.write_all(1, jsonio.dumps(data, indent=2).encode("utf-8", "surrogateescape"))
    return 0
