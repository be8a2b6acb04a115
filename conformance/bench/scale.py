"""What grows: containers on the machine, and mounts and bytes in a configuration.

Its one rule: all that was made is deleted, whatever happens.
"""

import os
import tempfile

from conformance.bench import machine, measure

COUNTS = (1, 10, 100, 300, 1000)
WINDOW = 10  # creates before each count, whose median is the figure
ASKED = 5
MOUNTS = (0, 10, 100, 500, 2000)
ANNOTATIONS = 1 << 20
SIZES_ROUNDS = 5


def no_path(config):
    """Each container in the cgroup that its runtime gives it."""
    del config["linux"]["cgroupsPath"]


def driver_of(label, path, directory, name, change, args=("/bin/sleep", "1000")):
    bundle = measure.prepared("hello", os.path.join(directory, name), list(args), change)
    return measure.Driver(label, path, bundle, bundle, directory)


def containers(runtimes, most, say):
    """{label: {"create": {count: figures}, "state": …, "private": {count: KiB of one waiting init}, "failed": words}}."""
    found = {}
    for label, path in runtimes:
        directory = tempfile.mkdtemp(prefix="bench-")
        driver = driver_of(label, path, directory, "many", no_path)
        found[label] = entry = {"create": {}, "state": {}, "list": {}, "private": {}}
        made = []
        try:
            _grow(driver, made, entry, [n for n in COUNTS if n <= most], say)
        except (measure.Failed, OSError) as e:
            entry["failed"] = str(e)
        finally:
            say("%s: deleting %d containers" % (label, len(made)))
            for id in made:
                driver.call("delete", "--force", id, allow_failure=True)
            machine.remove(directory)
    say("")
    return found


def _grow(driver, made, entry, counts, say):
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


def stats(runtimes, count, say):
    """{label: {"how", "figures" of milliseconds for all, or "missing"}}: the statistics of `count` running containers, by one call where
    the runtime has one (`stats`), else by `events --stats` for each."""
    found = {}
    for label, path in runtimes:
        directory = tempfile.mkdtemp(prefix="bench-")
        driver = driver_of(label, path, directory, "many", no_path)
        made = []
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
                driver.call("delete", "--force", id, allow_failure=True)
            machine.remove(directory)
    say("")
    return found


def _stats(driver, ids):
    first = driver.call("stats", allow_failure=True)
    if first is not None:
        return {"how": "stats", "figures": measure.figures([driver.call("stats") for _ in range(ASKED)])}
    if driver.call("events", "--stats", ids[0], allow_failure=True) is None:
        return {"missing": "has neither `stats` nor `events --stats`"}
    total = sum(driver.call("events", "--stats", id) for id in ids)
    return {"how": "events --stats, %d times" % len(ids), "figures": measure.figures([total])}


def configs(runtimes, most, say):
    """{size: {label: {"create", "delete"} figures or "failed"}}: more and more binds, and a configuration of a megabyte."""
    sizes = [("%d mounts" % n, _binds(n)) for n in MOUNTS if n <= most] + [("1 MiB of annotations", _annotate)]
    found = {}
    for name, change in sizes:
        found[name] = {}
        directory = tempfile.mkdtemp(prefix="bench-")
        source = os.path.join(directory, "source")
        os.mkdir(source)
        drivers = [driver_of(label, path, directory, label, lambda c, f=change, s=source: f(c, s)) for label, path in runtimes]
        took = {d.label: {"create": [], "delete": []} for d in drivers}
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


def _once(driver, number, took):
    id = "bench-%s-%d-c%d" % (driver.label, os.getpid(), number)
    try:
        took["create"].append(driver.call("create", "--bundle", driver.waits, id))
        took["delete"].append(driver.call("delete", "--force", id))
    except measure.Failed as e:
        driver.broken = str(e)
        driver.call("delete", "--force", id, allow_failure=True)


def _binds(count):
    def change(config, source):
        config["mounts"] += [
            {"destination": "/m/%04d" % n, "type": "bind", "source": source, "options": ["bind", "ro", "nosuid"]} for n in range(count)
        ]

    return change


def _annotate(config, source):
    config["annotations"] = {"org.example.key%05d" % n: "x" * 100 for n in range(ANNOTATIONS // 128)}
