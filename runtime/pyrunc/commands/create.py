"""create ID: everything but the program itself; returns when the container waits for start."""

from pyrunc.engine import host
from pyrunc.engine.prepare import prepare


def main(options, args):
    run, warnings = prepare(options, args[0], "create")
    host.create(run, warnings)
    return 0
