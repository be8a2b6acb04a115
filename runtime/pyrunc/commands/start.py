"""start ID: opens the gate and waits until the program has been executed."""

from pyrunc.engine import release
from pyrunc.store import open_state


def main(options, args):
    box = open_state(options, args[0])
    box.lock().load()
    try:
        release.start(box, options)
    finally:
        box.unlock()
    return 0
