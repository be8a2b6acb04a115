"""state ID: one JSON object on stdout, in runc's shape. Reads only; takes no lock."""

from pyrunc import lean
from pyrunc.engine import status
from pyrunc.oci import state as document
from pyrunc.store import open_state


def main(options, args):
    box = open_state(options, args[0])
    now = status.of(box)
    data = document.for_state(box.state, now)
    lean.write_all(1, lean.dumps(data, indent=2).encode("utf-8", "surrogateescape"))
    return 0
