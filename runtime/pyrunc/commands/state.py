"""state ID: one JSON object on stdout, in runc's shape; of a stopped container also "ended", where its exit status is known or memory ran
out: {"status", "signal", "oom_killed"}, what is not known left out. Reads only; takes no lock."""

from __future__ import annotations

from pyrunc import fileio, jsonio
from pyrunc.engine import status
from pyrunc.errors import UsageError, quote
from pyrunc.oci import state as document
from pyrunc.store import open_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


def main(options: Options, args: list[str]) -> int:
    if options.get("format", "json") != "json":
        raise UsageError("bad-format", "invalid format option: %s" % quote(options["format"]), "state", "format", "it is always json")
    state_dir = open_state(options, args[0])
    now = status.of(state_dir)
    data = document.for_state(state_dir.state, now)
    if now == "stopped":
        from pyrunc.engine import exit_status

        end = {key: value for key, value in exit_status.of(state_dir).items() if value is not None}
        if "status" in end or end.get("oom_killed"):
            data["ended"] = end
    fileio.write_all(1, jsonio.dumps(data, indent=2).encode("utf-8", "surrogateescape"))
    return 0
