"""state ID: one JSON object on stdout, in runc's shape. Reads only; takes no lock."""

from pyrunc import lean
from pyrunc.engine import status
from pyrunc.engine.prepare import open_state
from pyrunc.oci import state as document


def main(options, args):
    box = open_state(options, args[0])
    now = status.of(box)
    data = document.for_state(box.state, now)
    lean.write_all(1, lean.dumps(data, indent=2).encode("utf-8", "surrogateescape"))
    return 0
