"""Scaling: with the number of containers on the machine, and with mounts and bytes in a configuration.

Rule: everything that was created is deleted, whatever happens.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from conformance.bench import machine, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conformance.bench.measure import Driver
    from conformance.bench.shapes import Config, Document, Json, Runtimes, Say


COUNTS = (1, 10, 100, 300, 1000)
WINDOW = 10  # number of creates before each count whose median is the figure
ASKED = 5
MOUNTS = (0, 10, 100, 500, 2000)
ANNOTATIONS = 1 << 20
SIZES_ROUNDS = 5


def no_path(config: Config) -> None:
    """Puts each container in the default cgroup of its runtime."""
    del config["linux"]["cgroupsPath"]


def driver_of(
    label: str, path: str, directory: str, name: str, change: Callable[[Json], object], args: Sequence[str] = ("/bin/sleep", "1000")
) -> Driver:
    bundle = measure.prepared("hello", os.path.join(directory, name), list(args), change)
    return measure.Driver(label, path, bundle, bundle, directory)


def containers(runtimes: Runtimes, most: int, say: Say) -> Document:
    """{label: {"create": {count: figures}, "state": …, "private": {count: KiB of one waiting init}, "failed": words}}."""
    found: Document = {}
    for label, path in runtimes:
        directory = tempfile.mkdtemp(prefix="bench-")
        driver = driver_of(label, path, directory, "many", no_path)
        entry: Document = {"create": {}, "state": {}, "list": {}, "private": {}}
        found[label] = entry
        made: list[str] = []
        try:
            _grow(driver, made, entry, [n for n in COUNTS if n <= most], say)
        except (measure.Failed, OSError) as e:
            entry["failed"] = str(e)
        finally:
            say("%s: deleting %d containers" % (label, len(made)))
            for id in made:
                driver.attempt("delete", "--force", id)
            machine.remove(directory)
    say("")
    return found


def _grow(driver: Driver, made: list[str], entry: Document, counts: list[int], say: Say) -> None:
    recent = []
    for number in range(1, counts[-1] + 1):
        id = "bench-%s-%d-%d" % (driver.label, os.getpid(), number)
        made.append(id)
        recent.append(driver.call("create", "--bundle", driver.waits, "--pid-file", driver.pid_file, id))
        if number % 10 == 0:
            say("%s: %d containers" % (driver.label, number))
        if number in counts:
            count = str(number)
            entry["create"][count] = measure.figures(recent[-WINDOW:])
            entry["state"][count] = measure.figures([driver.call("state", id) for _ in range(ASKED)])
            entry["list"][count] = measure.figures([driver.call("list", "-q") for _ in range(ASKED)])
            with open(driver.pid_file) as file:
                entry["private"][count] = measure.memory_of(file.read())["Private_Dirty"]


def stats(runtimes: Runtimes, count: int, say: Say) -> Document:
    """{label: {"how", "figures" of milliseconds for all, or "missing"}}: the statistics of `count` running containers, with one call if the
    runtime has one (`stats`), else with `events --stats` for each."""
    found: Document = {}
    for label, path in runtimes:
        directory = tempfile.mkdtemp(prefix="bench-")
        driver = driver_of(label, path, directory, "many", no_path)
        made: list[str] = []
        try:
            for number in range(count):
                id = "bench-%s-%d-s%d" % (label, os.getpid(), number)
                say("%s: container %d of %d for its statistics" % (label, number, count))
                made.append(id)
                driver.call("create", "--bundle", driver.waits, id)
                driver.call("start", id)
            found[label] = _stats(driver, made)
        except measure.Failed as e:
            found[label] = {"missing": str(e)}
        finally:
            for id in made:
                driver.attempt("delete", "--force", id)
            machine.remove(directory)
    say("")
    return found


def _stats(driver: Driver, ids: list[str]) -> Document:
    first = driver.attempt("stats")
    if first is not None:
        return {"how": "stats", "figures": measure.figures([driver.call("stats") for _ in range(ASKED)])}
    if driver.attempt("events", "--stats", ids[0]) is None:
        return {"missing": "has neither `stats` nor `events --stats`"}
    total = sum(driver.call("events", "--stats", id) for id in ids)
    return {"how": "events --stats, %d times" % len(ids), "figures": measure.figures([total])}


def configs(runtimes: Runtimes, most: int, say: Say) -> Document:
    """{size: {label: {"create", "delete"} figures or "failed"}}: an increasing number of bind mounts, and a configuration of one
    megabyte."""
    sizes = [("%d mounts" % n, _binds(n)) for n in MOUNTS if n <= most] + [("1 MiB of annotations", _annotate)]
    found: Document = {}
    for name, change in sizes:
        found[name] = {}
        directory = tempfile.mkdtemp(prefix="bench-")
        source = os.path.join(directory, "source")
        os.mkdir(source)
        drivers = [driver_of(label, path, directory, label, _from(change, source)) for label, path in runtimes]
        took: dict[str, dict[str, list[float]]] = {d.label: {"create": [], "delete": []} for d in drivers}
        try:
            for number in range(SIZES_ROUNDS):
                for driver in drivers:
                    say("%s, %s: round %d" % (name, driver.label, number))
                    if not driver.broken:
                        _once(driver, number, took[driver.label])
        finally:
            machine.remove(directory)
        for driver in drivers:
            entry = {step: measure.figures(values[1:]) for step, values in took[driver.label].items() if values[1:]}
            found[name][driver.label] = {**entry, "failed": driver.broken} if driver.broken else entry
    say("")
    return found


def _from(change: Callable[[Config, str], None], source: str) -> Callable[[Config], None]:
    return lambda config: change(config, source)


def _once(driver: Driver, number: int, took: dict[str, list[float]]) -> None:
    id = "bench-%s-%d-c%d" % (driver.label, os.getpid(), number)
    try:
        took["create"].append(driver.call("create", "--bundle", driver.waits, id))
        took["delete"].append(driver.call("delete", "--force", id))
    except measure.Failed as e:
        driver.broken = str(e)
        driver.attempt("delete", "--force", id)


def _binds(count: int) -> Callable[[Config, str], None]:
    def change(config: Config, source: str) -> None:
        config["mounts"] += [
            {"destination": "/m/%04d" % n, "type": "bind", "source": source, "options": ["bind", "ro", "nosuid"]} for n in range(count)
        ]

    return change


def _annotate(config: Config, source: str) -> None:
    config["annotations"] = {"org.example.key%05d" % n: "x" * 100 for n in range(ANNOTATIONS // 128)}
