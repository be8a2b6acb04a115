#!/usr/bin/env python3
"""`make load`: many containers, one after the other and in parallel; checks that the last one is as fast and as small as the first.

    tools/load.py [--lives 1000] [--containerd 200] [--docker 20] [--json FILE] [--runtime PATH]

Three runs, each in the private environment of the contract tests (tests/contracts/sandbox.py): containers started from the command line
(create, start, wait, delete); containerd's containers, started eight at a time, all of them alive before the first is removed; `docker run
true` with this runtime and with runc alternately. Status 1 if anything failed or was left behind. FILE gets every measurement:

    {"lives": {"samples": [{"ms", "pss_kb", "anonymous_kb", "available_kb"}], "first": {...}, "last": {...}}, "containerd": the same, "docker": {...}}

first and last are medians over the first and the last hundred (or the halves of a shorter run). pss_kb and anonymous_kb: of the waiting
init, or for containerd of the shims; the former includes the launcher's pages, which all containers share. available_kb: the machine's
available memory.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shapes import Json, Option, Say

    Sample = dict[str, float]  # milliseconds of one life, and its memory in KiB


PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(PROJECT, "tests/contracts"), os.path.join(PROJECT, "bundles")]

import callers  # noqa: E402  the helper modules of the contract tests
import images  # noqa: E402
import make_rootfs  # noqa: E402
from sandbox import Sandbox  # noqa: E402

BATCH = 8


class Failed(Exception):
    """A container failed, or something was left behind."""


def silent(text: str) -> None:
    """Discards progress messages."""


def available_kb() -> int:
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))


def memory(text: str) -> dict[str, int]:
    """smaps_rollup → {"pss_kb", "anonymous_kb"}: its share of everything mapped, and its private memory."""
    rows = dict(line.split(":") for line in text.splitlines()[1:] if ":" in line)
    return {"pss_kb": int(rows["Pss"].split()[0]), "anonymous_kb": int(rows["Anonymous"].split()[0])}


def summary(samples: list[Sample]) -> dict[str, dict[str, float]]:
    """Medians of the first and the last hundred samples, or of the halves."""
    size = min(100, max(1, len(samples) // 2))
    keys = samples[0].keys()
    parts = {"first": samples[:size], "last": samples[-size:]}
    return {name: {key: round(statistics.median(s[key] for s in part), 1) for key in keys} for name, part in parts.items()}


def call(argv: list[str], **options: Option) -> None:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60, **options
    )
    if done.returncode:
        raise Failed("%s ended with %d: %s" % (" ".join(argv), done.returncode, done.stderr.strip()))


def lives(runtime: str, count: int, say: Say = silent) -> list[Sample]:
    """Runs `count` containers from the command line → samples."""
    place = tempfile.mkdtemp(prefix="load-")
    samples = []
    try:
        bundle = os.path.join(place, "bundle")
        make_rootfs.make_bundle("minimal", bundle)
        with open(bundle + "/config.json") as file:
            config = json.load(file)
        config["process"].update(args=["/bin/true"], terminal=False)
        config.setdefault("linux", {})["cgroupsPath"] = "/load-%d" % os.getpid()
        with open(bundle + "/config.json", "w") as file:
            json.dump(config, file)
        base = [runtime, "--root", place + "/state"]
        for number in range(count):
            name, pid_file = "life-%d" % number, place + "/pid"
            begin = time.monotonic()
            with open(place + "/streams", "w") as streams:  # the waiting init would hold a pipe open
                argv = [*base, "create", "--bundle", bundle, "--pid-file", pid_file, name]
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=streams, stderr=streams, timeout=60)
            if done.returncode:
                raise Failed("create %d: %s" % (number, open(place + "/streams").read()))
            spent = time.monotonic() - begin
            with open(pid_file) as file:
                pid = int(file.read())
            with open("/proc/%d/smaps_rollup" % pid) as file:
                size, watch = memory(file.read()), os.pidfd_open(pid)
            begin = time.monotonic()
            call([*base, "start", name])
            reaped(watch)
            call([*base, "delete", name])
            spent += time.monotonic() - begin
            samples.append({"ms": spent * 1000, **size, "available_kb": available_kb()})
            if (number + 1) % 100 == 0:
                say("lives: %d" % (number + 1))
        left = [name for name in os.listdir(place + "/state") if not name.startswith("@")]
        left += [path for path in cgroup_dirs() if "load-%d" % os.getpid() in path]
        if left:
            raise Failed("left after %d lives: %s" % (count, ", ".join(left)))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return samples


def reaped(watch: int) -> None:
    """Waits until an init that is not our child exits (its parent is the subreaper above)."""
    import select

    poll = select.poll()
    poll.register(watch, select.POLLIN)
    if not poll.poll(60000):
        raise Failed("a container does not end")
    os.close(watch)


def cgroup_dirs() -> Iterator[str]:
    for path, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            yield os.path.join(path, name)


def by_containerd(world: Sandbox, containerd: callers.Containerd, count: int, say: Say = silent) -> list[Sample]:
    """Starts `count` containers, eight at a time, all alive at the same time; then removes them, eight at a time → samples."""
    samples = []

    def start(number: int) -> float:
        begin = time.monotonic()
        result = containerd.run("-d", callers.REFERENCE, "load-%d" % number, "sleep", "100000")
        if result.status:
            raise Failed("container %d: %s" % (number, result))
        return (time.monotonic() - begin) * 1000

    def remove(number: int) -> None:
        for words in (("tasks", "rm", "--force"), ("containers", "rm")):
            result = containerd.ctr(*words, "load-%d" % number)
            if result.status:
                raise Failed("container %d: %s" % (number, result))

    with concurrent.futures.ThreadPoolExecutor(BATCH) as pool:
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            times = list(pool.map(start, numbers))
            shims = sizes_of_shims(world)
            middle = {key: statistics.median(one[key] for one in shims) for key in shims[0]}
            samples += [{"ms": ms, **middle, "available_kb": available_kb()} for ms in times]
            say("containerd: %d alive" % len(samples))
        alive = containerd.ctr("tasks", "ls").ok().out.count(" RUNNING")
        if alive != count:
            raise Failed("%d of %d containers are running" % (alive, count))
        list(pool.map(remove, range(count)))
    callers.gone(world)
    return samples


def sizes_of_shims(world: Sandbox) -> list[dict[str, int]]:
    """memory() of each shim, as it is now."""
    texts = [world.read("/proc/%s/smaps_rollup" % name) for name in pids_of(world, "containerd-shim")]
    return [memory(text) for text in texts if "Anonymous:" in text]


def pids_of(world: Sandbox, word: str) -> list[str]:
    return [n for n in os.listdir(world.outer("/proc")) if n.isdigit() and word in world.read("/proc/%s/cmdline" % n)]


def by_docker(docker: callers.Docker, count: int, say: Say = silent) -> dict[str, list[float]]:
    """`docker run true`, from start to exit, with both runtimes alternately → {"ours": [ms], "runc": [ms]}."""
    times: dict[str, list[float]] = {"ours": [], "runc": []}
    for number in range(count):
        for name, option in (("ours", "contracts"), ("runc", "reference"))[:: -1 if number % 2 else 1]:
            begin = time.monotonic()
            result = docker.run("--runtime=" + option, callers.IMAGE, "true")
            if result.status:
                raise Failed("docker run: %s" % result)
            times[name].append((time.monotonic() - begin) * 1000)
        say("docker: %d pairs" % (number + 1))
    return times


def everything(runtime: str, options: argparse.Namespace, say: Say) -> Json:
    report: Json = {"runtime": runtime}
    if options.lives:
        samples = lives(runtime, options.lives, say)
        report["lives"] = {"samples": samples, **summary(samples)}
    if not options.containerd and not options.docker:
        return report
    world = Sandbox(keep=[PROJECT, os.path.dirname(runtime)])
    docker = None
    try:
        layer = images.rootfs_tar()
        containerd = callers.Containerd(world, runtime, layer)
        if options.containerd:
            samples = by_containerd(world, containerd, options.containerd, say)
            report["containerd"] = {"samples": samples, "batch": BATCH, **summary(samples)}
        if options.docker:
            docker = callers.Docker(world, runtime, layer)
            times = by_docker(docker, options.docker, say)
            medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
            report["docker"] = {"samples": times, "median_ms": medians, "ratio": round(medians["ours"] / medians["runc"], 3)}
        callers.gone(world)
    finally:
        for name in reversed(list(world.daemons)):
            world.stop_daemon(name)
        world.close()
    if world.cgroups():
        raise Failed("cgroups are left: %s" % ", ".join(world.cgroups()))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description="run many containers and compare the last ones with the first")
    parser.add_argument("--runtime", default=os.path.join(PROJECT, ".venv/bin/pyrunc"))
    parser.add_argument("--lives", type=int, default=1000, help="containers run with the command line alone; 0 for none")
    parser.add_argument("--containerd", type=int, default=200, help="containers run with containerd; 0 for none")
    parser.add_argument("--docker", type=int, default=20, help="pairs of docker run, with and without pyrunc; 0 for none")
    parser.add_argument("--json", metavar="FILE", help="write every measurement to FILE")
    options = parser.parse_args()
    begin = time.monotonic()
    try:
        report = everything(
            os.path.abspath(options.runtime), options, lambda text: print("%6.1f s  %s" % (time.monotonic() - begin, text), flush=True)
        )
    except (Failed, AssertionError) as error:
        print("load: failed: %s" % error, file=sys.stderr)
        return 1
    for name in ("lives", "containerd"):
        if name in report:
            first, last = report[name]["first"], report[name]["last"]
            print("%-10s %d containers; medians of the first and the last: %s" % (name, len(report[name]["samples"]), pairs(first, last)))
    if "docker" in report:
        print("docker     run true: %(ours).1f ms, with runc %(runc).1f ms" % report["docker"]["median_ms"])
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file)
    print("no failure, nothing left behind")
    return 0


def pairs(first: Mapping[str, float], last: Mapping[str, float]) -> str:
    return ", ".join("%s %s → %s" % (key, first[key], last[key]) for key in first)


if __name__ == "__main__":
    sys.exit(main())
