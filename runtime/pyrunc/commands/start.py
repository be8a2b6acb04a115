"""start ID: opens the gate and waits until the program has been executed."""

from pyrunc.engine import start
from pyrunc.store import open_state


def main(options, args):
    state_dir = open_state(options, args[0])
    state_dir.lock().load()
    try:
        start.start(state_dir, options)
    finally:
        state_dir.unlock()
    return 0
