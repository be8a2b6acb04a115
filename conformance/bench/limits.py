"""The cost of a container's limits, and the smallest memory limit.

Rule: the same configuration for every runtime, changed in one place.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from conformance.bench import machine, measure

if TYPE_CHECKING:
    from conformance.bench.measure import Driver
    from conformance.bench.shapes import Config, Document, Runtimes, Say


KIB = 1024
SMALLEST, LARGEST = 128 * KIB, 64 << 20
STEP = 64 * KIB
TRIES = 3
RESOURCES = {  # as sent by `docker run --memory --cpus --cpu-shares --cpuset-cpus --pids-limit`
    "memory": {"limit": 512 << 20, "reservation": 256 << 20, "swap": 1 << 30},
    "cpu": {"shares": 512, "quota": 150_000, "period": 100_000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 100},
}


def resources(runtimes: Runtimes, rounds: int, say: Say) -> Document:
    """{label: {"without", "with", "difference"}}: figures of create; the difference is of medians, in ms."""
    directory = tempfile.mkdtemp(prefix="bench-")
    try:
        drivers: list[tuple[str, str, measure.Driver, list[float]]] = []
        for label, path in runtimes:
            for kind, change in (("without", None), ("with", _limit)):
                bundle = measure.prepared("hello", os.path.join(directory, label + kind), ["/bin/sleep", "1000"], change)
                driver = measure.Driver(label + "-" + kind, path, bundle, bundle, directory)
                drivers.append((label, kind, driver, []))
        for number in range(rounds + 1):
            say("resources: round %d of %d" % (number, rounds))
            for _label, _kind, driver, values in drivers:
                if not driver.broken:
                    _create(driver, number, values)
        say("")
        found: Document = {}
        for label, kind, driver, values in drivers:
            entry = found.setdefault(label, {})
            entry[kind] = measure.figures(values[1:])
            if driver.broken:
                entry["failed"] = driver.broken
        for entry in found.values():
            if entry["with"] and entry["without"]:
                entry["difference"] = round(entry["with"]["median"] - entry["without"]["median"], 3)
        return found
    finally:
        machine.remove(directory)


def _limit(config: Config) -> None:
    config["linux"].setdefault("resources", {}).update(RESOURCES)


def _create(driver: Driver, number: int, values: list[float]) -> None:
    id = "bench-%s-%d-r%d" % (driver.label, os.getpid(), number)
    try:
        values.append(driver.call("create", "--bundle", driver.waits, id))
    except measure.Failed as e:
        driver.broken = str(e)
    driver.attempt("delete", "--force", id)


def smallest_memory(runtimes: Runtimes, say: Say) -> dict[str, int | None]:
    """{label: KiB}, by bisection: the smallest /linux/resources/memory/limit with which `run` of true worked three times, rounded up to 64
    KiB; None if it did not work with the largest."""
    found: dict[str, int | None] = {}
    for label, path in runtimes:
        low, high = SMALLEST // STEP - 1, LARGEST // STEP
        if not _runs(label, path, high * STEP):
            found[label] = None
            continue
        while high - low > 1:
            middle = (low + high) // 2
            say("%s: true with %d KiB" % (label, middle * STEP // KIB))
            low, high = (low, middle) if _runs(label, path, middle * STEP) else (middle, high)
        found[label] = high * STEP // KIB
    say("")
    return found


def _runs(label: str, path: str, limit: int) -> bool:
    def change(config: Config) -> None:
        config["linux"].setdefault("resources", {})["memory"] = {"limit": limit}

    directory = tempfile.mkdtemp(prefix="bench-")
    try:
        bundle = measure.prepared("hello", os.path.join(directory, "b"), ["/bin/true"], change)
        driver = measure.Driver(label, path, bundle, bundle, directory)
        for number in range(TRIES):
            id = "bench-%s-%d-l%d" % (label, os.getpid(), number)
            if driver.attempt("run", "--bundle", bundle, id) is None:
                driver.attempt("delete", "--force", id)
                return False
        return True
    finally:
        machine.remove(directory)
