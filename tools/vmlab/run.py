#!/usr/bin/python3
"""Runs one command in a disposable machine with systemd and cgroup v2.

    tools/vmlab/run.py -- systemctl is-system-running
    tools/vmlab/run.py --user user --share . -- .venv/bin/pyrunc spec --rootless

Exit status: the command's; 124 after --timeout; 125 if the lab failed. Nothing that the command changes remains.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading

import lab


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", metavar="DIR", help="a copy of DIR lies at the same path inside, and is the working folder")
    parser.add_argument("--user", default="root", help="root, or user: uid 1000 with 65536 subordinate ids and a systemd of its own")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for everything (600)")
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument("--cwd", help="the working folder inside")
    parser.add_argument("--stdin", action="store_true", help="hand our standard input to the command")
    parser.add_argument("--cold", action="store_true", help="boot the machine; by default its snapshot goes on")
    parser.add_argument("--append", default="", metavar="WORDS", help="more words for the kernel; the machine boots")
    parser.add_argument("--console", metavar="FILE", help="what kernel and systemd print")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def watchdog(seconds: float, guests: list[lab.Guest]) -> None:
    """Kills everything from outside: the machine may hang."""

    def end() -> None:
        print("vmlab: no end within %g s" % seconds, file=sys.stderr, flush=True)
        for guest in guests:
            guest.process.kill()
        os._exit(124)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def main() -> int:
    wanted = options()
    guests: list[lab.Guest] = []
    watchdog(wanted.timeout, guests)
    share = os.path.abspath(wanted.share) if wanted.share else None
    env = dict(pair.split("=", 1) for pair in wanted.env)
    stdin = sys.stdin.buffer.read() if wanted.stdin else b""
    if "/" in wanted.command[0]:  # systemd takes a path only if it is absolute
        wanted.command[0] = os.path.abspath(os.path.join(share or "/", wanted.command[0]))
    try:
        with lab.folder() as tmp, lab.Guest(tmp, share, wanted.cold, wanted.append, wanted.console) as guest:
            guests.append(guest)
            return guest.run(wanted.command, wanted.user, env, wanted.cwd, stdin)
    except lab.LabError as e:
        print("vmlab: %s" % e, file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
