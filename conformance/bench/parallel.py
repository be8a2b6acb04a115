"""Parallel runs: how many containers a second, if 2, 4 or 8 are started at once on all processors.

Rule: the driver only starts and reaps processes. In a round, each runtime in turn runs the same number of containers at each width.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING

from conformance.bench import machine, measure

if TYPE_CHECKING:
    from conformance.bench.measure import Driver
    from conformance.bench.shapes import Document, Runtimes, Say


WIDTHS = (1, 2, 4, 8)
BATCH = 64  # containers in a row
MOST = 12  # rounds: each takes some ten seconds


def parallel(runtimes: Runtimes, rounds: int, say: Say) -> Document:
    """{width: {label: figures of containers per second}, "failed": {label: words}}"""
    directory = tempfile.mkdtemp(prefix="bench-")
    try:
        bundle = measure.prepared("hello", os.path.join(directory, "ends"), ["/bin/true"], _no_path)
        drivers = [measure.Driver(label, path, bundle, bundle, directory) for label, path in runtimes]
        rates: dict[int, dict[str, list[float]]] = {width: {d.label: [] for d in drivers} for width in WIDTHS}
        for number in range(min(rounds, MOST) + 1):
            turn = number % len(drivers)
            for driver in drivers[turn:] + drivers[:turn]:
                for width in WIDTHS if not driver.broken else ():
                    say("parallel: round %d of %d, %s, %d at once" % (number, min(rounds, MOST), driver.label, width))
                    try:
                        rate = _rate(driver, width, "%d-%d" % (number, width))
                    except measure.Failed as e:
                        driver.broken = str(e)
                        break
                    if number:  # round 0 fills the caches
                        rates[width][driver.label].append(rate)
        say("")
        found: Document = {
            str(width): {label: measure.figures(values) for label, values in by_label.items() if values}
            for width, by_label in rates.items()
        }
        found["failed"] = {d.label: d.broken for d in drivers if d.broken}
        return found
    finally:
        machine.remove(directory)


def _no_path(config: Document) -> None:
    """Each container gets a cgroup of its own."""
    del config["linux"]["cgroupsPath"]


def _rate(driver: Driver, width: int, name: str) -> float:
    """Containers per second. Failed with the message of the first that failed, after all have ended."""
    ids = ["bench-%s-%d-%s-%d" % (driver.label, os.getpid(), name, number) for number in range(BATCH)]
    waiting, bad = ids[::-1], ""
    alive: dict[int, str] = {}
    begin = time.perf_counter()
    while alive or waiting:
        while waiting and len(alive) < width and not bad:
            id = waiting.pop()
            alive[_started(driver, id)] = id
        if not alive:
            break
        pid, status = os.waitpid(-1, 0)
        if os.waitstatus_to_exitcode(status):
            bad = bad or alive[pid]
        del alive[pid]
    took = time.perf_counter() - begin
    if bad:
        with open(driver.err, errors="replace") as file:
            words = file.read().strip()[-300:]
        for id in ids:
            driver.attempt("delete", "--force", id)
        raise measure.Failed("%s run %s: %s" % (driver.label, bad, words))
    return BATCH / took


def _started(driver: Driver, id: str) -> int:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, driver.err, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    ]
    return os.posix_spawn(
        driver.path, [driver.path, "--root", driver.root, "run", "--bundle", driver.ends, id], measure.ENV, file_actions=actions
    )
