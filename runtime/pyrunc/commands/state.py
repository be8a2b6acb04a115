"""state ID: one JSON object on stdout, in runc's shape; of a stopped container also "ended", where its exit status is known or memory ran
out: {"status", "signal", "oom_killed"}, what is not known left out. Reads only; takes no lock."""

from pyrunc import lean
from pyrunc.engine import status
from pyrunc.errors import UsageError, quote
from pyrunc.oci import state as document
from pyrunc.store import open_state


def main(options, args):
    if options.get("format", "json") != "json":
        raise UsageError("invalid format option: %s" % quote(options["format"]), "state", "format", "it is always json")
    box = open_state(options, args[0])
    now = status.of(box)
    data = document.for_state(box.state, now)
    if now == "stopped":
        from pyrunc.engine import ended

        end = {key: value for key, value in ended.of(box).items() if value is not None}
        if "status" in end or end.get("oom_killed"):
            data["ended"] = end
    lean.write_all(1, lean.dumps(data, indent=2).encode("utf-8", "surrogateescape"))
    return 0
