"""Measures times. In a round, each runtime in turn runs one container through its life, step by step.

Rule: between two readings of the clock there are only posix_spawn and waitpid, which cost the same for all runtimes.
"""

from __future__ import annotations

import json
import os
import pathlib
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from conformance.bench import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conformance.bench.shapes import Document, Figures, Json, Runtimes, Say, Took


sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bundles"))
import make_rootfs  # noqa: E402

STEPS = (
    ("create", "until the container waits"),
    ("start", "until the program is running"),
    ("state", "of the running container"),
    ("exec", "`true` in the running container, until it exits"),
    ("kill", "the call, not the death"),
    ("delete", "of the stopped container"),
    ("run", "`true` in a new container, until it exits"),
    ("cycle", "create + start + state + exec + kill + delete"),
)
CYCLE = ("create", "start", "state", "exec", "kill", "delete")
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
DEATH_MS = 10_000


class Failed(Exception):
    """A runtime failed in a step, with this message. The others are still measured."""


def compiled(source: pathlib.Path, directory: str, *flags: str) -> str:
    """Compiles a C file of the bench and returns the path of the program. Failed if that is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise Failed("no C compiler here")
    program = os.path.join(directory, source.stem)
    done = subprocess.run([compiler, "-O2", *flags, str(source), "-o", program], capture_output=True, text=True)
    if done.returncode:
        raise Failed("%s: %s" % (source.name, done.stderr.strip()[-200:]))
    return program


class Driver:
    """One runtime with its own state root and two bundles: one whose program waits, and one whose program exits immediately."""

    def __init__(self, label: str, path: str, waits: str, ends: str, directory: str) -> None:
        self.label = label
        self.path = path
        self.waits = waits
        self.ends = ends
        self.root = machine.state_root(directory, label)
        self.pid_file = os.path.join(directory, "pid-" + label)
        self.err = os.path.join(directory, "err-" + label)
        self.count = 0
        self.can_exec = True
        self.code = 0
        self.broken: str | None = None
        self.usage: dict[
            str, list[tuple[float, int]]
        ] = {}  # command: [(milliseconds of processor time, page faults)], for the command and the children it waited for

    def call(self, *args: str) -> float:
        """Milliseconds for one call. Failed with its error message."""
        took = self.attempt(*args)
        if took is None:
            with open(self.err, errors="replace") as file:
                raise Failed("%s %s: exit %d: %s" % (self.label, args[0], self.code, file.read().strip()[-300:]))
        return took

    def attempt(self, *args: str) -> float | None:
        """The same, or None if it fails; `code` is its exit status."""
        argv = [self.path, "--root", self.root, *args]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, self.err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        begin = time.perf_counter_ns()
        pid = os.posix_spawn(self.path, argv, ENV, file_actions=actions)
        _, status, used = os.wait4(pid, 0)
        ms = (time.perf_counter_ns() - begin) / 1e6
        self.usage.setdefault(args[0], []).append(((used.ru_utime + used.ru_stime) * 1e3, used.ru_minflt))
        self.code = os.waitstatus_to_exitcode(status)
        return ms if not self.code else None

    def life(self) -> Took:
        """One round: {step: ms}."""
        self.count += 1
        id = "bench-%s-%d-%d" % (self.label, os.getpid(), self.count)
        took: Took = {}
        try:
            took["create"] = self.call("create", "--bundle", self.waits, "--pid-file", self.pid_file, id)
            with open(self.pid_file) as file:
                watch = os.pidfd_open(int(file.read()))
            took["start"] = self.call("start", id)
            took["state"] = self.call("state", id)
            if self.can_exec:
                ms = self.attempt("exec", id, "/bin/true")
                self.can_exec = ms is not None
                if ms is not None:
                    took["exec"] = ms
            took["kill"] = self.call("kill", id, "KILL")
            wait(watch)
            took["delete"] = self.call("delete", id)
            took["run"] = self.call("run", "--bundle", self.ends, id)
        except Failed:
            self.attempt("delete", "--force", id)
            raise
        if all(step in took for step in CYCLE):
            took["cycle"] = sum(took[step] for step in CYCLE)
        return took

    def memory(self) -> Document:
        """Memory in KiB of a created container's init while it waits: its private dirty memory, and everything that it has mapped.
        `running`: the same for the program afterwards, which does not depend on the runtime but shows that nothing else remains."""
        id = "bench-%s-%d-m" % (self.label, os.getpid())
        self.call("create", "--bundle", self.waits, "--pid-file", self.pid_file, id)
        try:
            with open(self.pid_file) as file:
                pid = file.read()
            found: Document = {**memory_of(pid)}
            with open("/proc/%s/status" % pid) as file:
                found["Threads"] = next(int(line.split()[1]) for line in file if line.startswith("Threads:"))
            self.call("start", id)
            found["running"] = memory_of(pid)
            return found
        finally:
            self.attempt("delete", "--force", id)

    def profile(self) -> dict[str, dict[str, float]]:
        """{command: {"cpu_ms", "faults"}}, medians of the calls of life(), except the first, which filled caches."""
        found = {}
        for command, seen in self.usage.items():
            seen = seen[1:] or seen
            found[command] = {
                "cpu_ms": round(statistics.median(ms for ms, _ in seen), 3),
                "faults": round(statistics.median(faults for _, faults in seen)),
            }
        return found


def memory_of(pid: str) -> dict[str, int]:
    """Three lines of smaps_rollup, in KiB. Reading fails with ESRCH if the process calls execve(2) in the middle: the memory that was opened is
    gone then, and the process has another one."""
    for attempt in range(10):
        try:
            with open("/proc/%s/smaps_rollup" % pid) as file:
                pairs = [line.partition(":")[::2] for line in file]
            return {key: int(value.split()[0]) for key, value in pairs if key in ("Private_Dirty", "Rss", "Pss")}
        except ProcessLookupError:
            if attempt == 9:
                raise
            time.sleep(0.01)
    raise AssertionError("not reached")


def wait(pidfd: int) -> None:
    """Waits for the init of a killed container, which is not our child, through its pidfd."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = poll.poll(DEATH_MS)
    os.close(pidfd)
    if not ended:
        raise Failed("init is still there %d ms after SIGKILL" % DEATH_MS)


def bundle(name: str, runtimes: Runtimes, rounds: int, say: Say) -> Document:
    """All figures for one bundle: {"steps": {step: {label: figures}}, "memory": {label: …}, "failed": {label: words}}."""
    directory = tempfile.mkdtemp(prefix="bench-")
    try:
        waits = prepared(name, os.path.join(directory, "waits"), ["/bin/sleep", "1000"])
        ends = prepared(name, os.path.join(directory, "ends"), ["/bin/true"])
        drivers = [Driver(label, path, waits, ends, directory) for label, path in runtimes]
        samples = collect(name, drivers, rounds, say)
        memory = {}
        profile = {driver.label: driver.profile() for driver in drivers if not driver.broken}
        for driver in drivers:
            if not driver.broken:
                memory[driver.label] = driver.memory()
        steps = {}
        for step, _ in STEPS:
            steps[step] = {d.label: figures([took[step] for took in samples[d.label] if step in took]) for d in drivers}
            steps[step] = {label: found for label, found in steps[step].items() if found}
        return {"steps": steps, "memory": memory, "profile": profile, "failed": {d.label: d.broken for d in drivers if d.broken}}
    finally:
        machine.remove(directory)


def collect(name: str, drivers: list[Driver], rounds: int, say: Say) -> dict[str, list[Took]]:
    samples: dict[str, list[Took]] = {driver.label: [] for driver in drivers}
    for number in range(rounds + 1):
        say("%s: round %d of %d" % (name, number, rounds))
        turn = number % len(drivers)
        for driver in drivers[turn:] + drivers[:turn]:
            if driver.broken:
                continue
            try:
                took = driver.life()
            except Failed as e:
                driver.broken = str(e)
                continue
            if number:  # round 0 fills the caches, for all runtimes
                samples[driver.label].append(took)
    say("")
    return samples


def prepared(name: str, target: str, args: list[str], change: Callable[[Json], object] | None = None) -> str:
    """A bundle from bundles/ with another program, in a cgroup of this run; change(config) may change it further."""
    make_rootfs.make_bundle(name, target)
    path = os.path.join(target, "config.json")
    with open(path) as file:
        config = json.load(file)
    config["process"]["args"] = args
    config["process"]["terminal"] = False
    config["linux"]["cgroupsPath"] = "/bench-%d" % os.getpid()
    if change:
        change(config)
    with open(path, "w") as file:
        json.dump(config, file)
    return target


def figures(values: Sequence[float]) -> Figures | None:
    """Median, quartiles, extremes; None for nothing."""
    if not values:
        return None
    values = sorted(values)
    q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {
        "median": round(statistics.median(values), 3),
        "q1": round(q1, 3),
        "q3": round(q3, 3),
        "min": round(values[0], 3),
        "max": round(values[-1], 3),
        "n": len(values),
    }
