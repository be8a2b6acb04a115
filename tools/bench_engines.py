#!/usr/bin/env python3
"""`make bench-engines`: `podman run`, `docker run` and `ctr run` of `true` with several runtimes in turns, from start to exit.

    tools/bench_engines.py [--rounds 20] [--engine NAME]… [--runtime [LABEL=]PATH]… [--json FILE]

The engines run in the private environment of the contract tests (tests/contracts/sandbox.py), one instance each for all runtimes, without a
network. In every round, each runtime runs two containers: one as it is, and one through a program that times each call of the runtime. The
rest of the time is the engine's. FILE gets every measurement, for `python3 -m conformance.bench --engines FILE`:

    {"engines": {engine: {label: {"all": [ms], "runtime": [ms]}}}}
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Result(Protocol):
        status: int | None

    class World(Protocol):  # sandbox.Sandbox; the contract tests are checked with other options
        daemons: dict[str, object]

        def write(self, path: str, text: str | bytes, mode: int = ...) -> str: ...
        def read(self, path: str) -> str: ...
        def stop_daemon(self, name: str) -> None: ...
        def close(self) -> object: ...

    class Engine(Protocol):
        def run(self, *words: str, **options: str) -> Result: ...
        def ctr(self, *words: str) -> Result: ...  # containerd alone

    Start = Callable[[str, str], Result]  # (label of a runtime, name of the container)
    Took = dict[str, list[float]]  # "all" and "runtime": milliseconds

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(PROJECT, "tests/contracts"), os.path.join(PROJECT, "bundles"), PROJECT]

from conformance.bench import machine  # noqa: E402

import callers  # noqa: E402  the helper modules of the contract tests
import images  # noqa: E402
from sandbox import BASE, SYSTEM_PATH, Sandbox  # noqa: E402

ENGINES = ("podman", "docker", "ctr")
DEFAULTS = (("pyrunc", os.path.join(PROJECT, ".venv/bin/pyrunc")), ("runc", "runc"), ("crun", "crun"))
TIMES = f"{BASE}/times"  # a line with nanoseconds for each call of a runtime
# Runs a program with its own arguments and adds the nanoseconds that it took to a file. Static, and as small as possible.
TIMER = r"""
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
extern char **environ;
static long long now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}
int main(int argc, char **argv)
{
    char line[32];
    int status;
    pid_t pid;
    long long begin = now();
    argv[0] = PROGRAM;
    if (argc < 1 || posix_spawn(&pid, PROGRAM, NULL, NULL, argv, environ) || waitpid(pid, &status, 0) != pid)
        return 127;
    int size = snprintf(line, sizeof line, "%lld\n", now() - begin), fd = open(FILE_OF_TIMES, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, size) != size)
        return 127;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
"""


class Failed(Exception):
    """A container failed, or something is missing."""


def chosen(asked: list[str]) -> dict[str, str]:
    """{label: absolute path}; a default that is not installed is left out."""
    pairs = [(label if sign else os.path.basename(path), path) for label, sign, path in (one.rpartition("=") for one in asked)]
    found = {}
    for label, path in pairs or DEFAULTS:
        real = shutil.which(path, path=SYSTEM_PATH) if "/" not in path else path if os.path.exists(path) else None
        if real is None and pairs:
            raise Failed("no runtime at %s" % path)
        if real is not None:
            found[label] = os.path.abspath(real)
    return found


def timer(world: World, label: str, path: str) -> str:
    """Writes the program that times this runtime into the world, under the runtime's own name, by which engines know what it can do."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        source, program = os.path.join(folder, "timer.c"), os.path.join(folder, "timer")
        pathlib.Path(source).write_text(TIMER)
        flags = ['-DPROGRAM="%s"' % path, '-DFILE_OF_TIMES="%s"' % TIMES]
        done = subprocess.run(["cc", "-O2", "-static", *flags, source, "-o", program], capture_output=True, text=True)
        if done.returncode:
            raise Failed("cc: %s" % done.stderr.strip()[-300:])
        return world.write(f"{BASE}/timed/{label}/{os.path.basename(path)}", pathlib.Path(program).read_bytes(), 0o755)


def starters(world: World, runtimes: dict[str, str], wanted: list[str]) -> dict[str, Start]:
    """{engine: start(label of a runtime in `runtimes`, name)}, each running one container to its end."""
    layer: bytes = images.rootfs_tar()
    found: dict[str, Start] = {}
    if "podman" in wanted:
        podman: Engine = callers.Podman(world, next(iter(runtimes.values())), layer)
        found["podman"] = lambda label, _name: podman.run(callers.IMAGE, "true", runtime=runtimes[label])
    if "docker" in wanted or "ctr" in wanted:
        containerd: Engine = callers.Containerd(world, next(iter(runtimes.values())), layer)
        base = ("--rm", "--runtime=io.containerd.runc.v2", f"--fifo-dir={BASE}/fifo")
        if "ctr" in wanted:
            found["ctr"] = lambda label, name: containerd.ctr(
                "run", *base, "--runc-binary=" + runtimes[label], callers.REFERENCE, name, "true"
            )
    if "docker" in wanted:
        named = {"on-" + label: path for label, path in runtimes.items()}  # "runc" is reserved
        docker: Engine = callers.Docker(world, next(iter(runtimes.values())), layer, named)
        found["docker"] = lambda label, _name: docker.run("--runtime=on-" + label, callers.IMAGE, "true")
    return {engine: found[engine] for engine in ENGINES if engine in found}


def one(world: World, start: Start, label: str, name: str) -> tuple[float, float]:
    """(milliseconds from start to exit, milliseconds in calls of the runtime, if they are timed)."""
    world.write(TIMES, "")
    begin = time.perf_counter()
    result = start(label, name)
    took = (time.perf_counter() - begin) * 1000
    if result.status:
        raise Failed("%s: %s" % (label, result))
    return took, sum(int(line) for line in world.read(TIMES).split()) / 1e6


def measure(world: World, labels: list[str], start: Start, rounds: int) -> dict[str, Took]:
    took: dict[str, Took] = {label: {"all": [], "runtime": []} for label in labels}
    for number in range(rounds + 1):
        turn = number % len(labels)
        for label in labels[turn:] + labels[:turn]:
            whole, _none = one(world, start, label, "%s-%d" % (label, number))
            _whole, runtime = one(world, start, label + "-timed", "%s-%d-timed" % (label, number))
            if not runtime:
                raise Failed("%s: the engine has not called it" % label)
            if number:  # round 0 fills the caches
                took[label]["all"].append(whole)
                took[label]["runtime"].append(runtime)
    return took


def everything(runtimes: dict[str, str], engines: list[str], rounds: int) -> dict[str, dict[str, Took]]:
    world: World = Sandbox(keep=[PROJECT, *{os.path.dirname(os.path.realpath(path)) for path in runtimes.values()}])
    found = {}
    try:
        both = {**runtimes, **{label + "-timed": timer(world, label, path) for label, path in runtimes.items()}}
        for engine, start in starters(world, both, engines).items():
            found[engine] = measure(world, list(runtimes), start, rounds)
            for label, took in found[engine].items():
                print(
                    "%-7s %-10s %s" % (engine, label, ", ".join("%s %.1f ms" % (k, statistics.median(v)) for k, v in took.items())),
                    flush=True,
                )
    finally:
        for name in reversed(list(world.daemons)):
            world.stop_daemon(name)
        world.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="time engines with several runtimes in turns")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--engine", action="append", choices=ENGINES, default=[], help="podman, docker or ctr; all of them by default")
    parser.add_argument("--runtime", action="append", default=[], metavar="[LABEL=]PATH", help="default: pyrunc, runc and crun")
    parser.add_argument("--json", metavar="FILE", help="write every measurement to FILE")
    options = parser.parse_args()
    try:
        with machine.hugetlb():
            report = {"engines": everything(chosen(options.runtime), options.engine or list(ENGINES), max(1, options.rounds))}
    except (Failed, AssertionError) as error:
        print("bench-engines: failed: %s" % error, file=sys.stderr)
        return 1
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
