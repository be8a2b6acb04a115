#!/usr/bin/python3
"""`make demo`: the life cycle of a container, step by step, with times and results.

    demo.py [--runtime PATH] [--bundle NAME] [--keep]

Uses only the standard library. Other runtimes also work; then validate and plan are skipped, which only pyrunc has.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    from shapes import Json


HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "bundles"))
import make_rootfs  # noqa: E402

ID = "demo-%d" % os.getpid()


class Demo:
    def __init__(self, runtime: str, bundle: str, directory: str) -> None:
        self.runtime = runtime
        self.bundle_name = bundle
        self.directory = directory
        self.bundle = os.path.join(directory, "bundle")
        self.root = os.path.join(directory, "state")
        self.output = os.path.join(directory, "output")
        self.step = 0

    def say(self, title: str, ms: float, seen: Sequence[str]) -> None:
        self.step += 1
        print("%2d  %-34s %7.1f ms" % (self.step, title, ms))
        for line in seen:
            print("      " + line)

    def call(self, *args: str, out: IO[str] | None = None) -> tuple[float, str]:
        """(milliseconds, standard output); stops the demo with the runtime's message if it fails."""
        argv = [self.runtime, "--root", self.root, *args]
        begin = time.perf_counter()
        if out is None:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        else:
            # The container keeps this file as its standard output; it would hold a pipe open.
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True)
        ms = (time.perf_counter() - begin) * 1000
        if done.returncode:
            words = done.stderr if out is None else open(self.output).read()
            raise SystemExit("demo: `%s` ended with %d: %s" % (" ".join(argv), done.returncode, words.strip()))
        return ms, done.stdout

    def make_bundle(self) -> None:
        begin = time.perf_counter()
        make_rootfs.make_bundle(self.bundle_name, self.bundle)
        with open(os.path.join(self.bundle, "config.json")) as file:
            config = json.load(file)
        config["linux"]["cgroupsPath"] = "/" + ID  # a separate one: the demo may run twice at the same time
        with open(os.path.join(self.bundle, "config.json"), "w") as file:
            json.dump(config, file, indent=2)
        size = len(os.listdir(os.path.join(self.bundle, "rootfs/bin")))
        names = ", ".join(n["type"] for n in config["linux"]["namespaces"])
        seen = ["busybox root with %d programs, config.json with namespaces %s" % (size, names)]
        self.say("make bundle %s" % self.bundle_name, (time.perf_counter() - begin) * 1000, seen)

    def look_ahead(self) -> None:
        ms, out = self.call("validate", "--bundle", self.bundle)
        self.say("validate", ms, out.split("\n")[:-1][:3])
        ms, out = self.call("plan", "--bundle", self.bundle, ID)
        lines = out.rstrip().split("\n")
        shown = lines if len(lines) <= 14 else [*lines[:12], "… %d more lines: pyrunc plan --bundle DIR" % (len(lines) - 12)]
        self.say("plan (touches nothing)", ms, shown)

    def state(self, title: str = "state") -> Json:
        ms, out = self.call("state", ID)
        state = json.loads(out)
        self.say(title, ms, ["status %s, pid %d" % (state["status"], state["pid"])])
        return state

    def live(self) -> None:
        with open(self.output, "w") as out:
            ms, _ = self.call("create", "--bundle", self.bundle, "--pid-file", os.path.join(self.directory, "pid"), ID, out=out)
        pid = int(open(os.path.join(self.directory, "pid")).read())
        self.say("create", ms, namespaces(pid))
        self.state()
        ms, _ = self.call("start", ID)
        text = self.wait_for_output()
        self.say("start", ms, ["it says: " + line for line in text.splitlines()])
        self.state()
        watch = os.pidfd_open(pid)
        ms, _ = self.call("kill", ID, "TERM")
        begin = time.perf_counter()
        select.select([watch], [], [], 30)
        os.close(watch)
        self.say("kill TERM", ms, ["init has ended %.1f ms later" % ((time.perf_counter() - begin) * 1000)])
        self.state()
        ms, _ = self.call("delete", ID)
        self.say("delete", ms, self.left())

    def wait_for_output(self, lines: int = 2, seconds: float = 10) -> str:
        """The container writes to a file, which can't be waited for, so it is polled for a limited time."""
        end = time.monotonic() + seconds
        text = ""
        while text.count("\n") < lines and time.monotonic() < end:
            with open(self.output) as file:
                text = file.read()
            select.select([], [], [], 0.005)
        return text

    def left(self) -> list[str]:
        with open("/proc/self/mountinfo") as file:
            mounts = sum(self.directory in line for line in file)
        cgroups = sum(ID in dirs for _, dirs, _ in os.walk("/sys/fs/cgroup"))
        return ["left behind: %d state directories, %d mounts, %d cgroups" % (os.path.exists(os.path.join(self.root, ID)), mounts, cgroups)]

    def end(self) -> None:
        if os.path.exists(os.path.join(self.root, ID)):
            subprocess.run([self.runtime, "--root", self.root, "delete", "--force", ID])


def namespaces(pid: int) -> list[str]:
    """Which namespaces of a process differ from ours."""
    own = []
    for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time"):
        try:
            if os.readlink("/proc/%d/ns/%s" % (pid, kind)) != os.readlink("/proc/self/ns/%s" % kind):
                own.append(kind)
        except OSError:
            pass
    return ["pid %d waits, namespaces of its own: %s" % (pid, " ".join(own))]


def main(argv: list[str]) -> int:
    runtime, bundle, keep = os.path.join(os.path.dirname(HERE), ".venv/bin/pyrunc"), "hello", False
    while argv:
        word = argv.pop(0)
        if word == "--runtime" and argv:
            runtime = argv.pop(0)
        elif word == "--bundle" and argv:
            bundle = argv.pop(0)
        elif word == "--keep":
            keep = True
        else:
            print(__doc__.strip(), file=sys.stderr)
            return 1
    if os.geteuid():
        print("demo: needs root (a container without root: see bundles/rootless)", file=sys.stderr)
        return 1
    runtime = shutil.which(runtime) or runtime
    directory = tempfile.mkdtemp(prefix="pyrunc-demo-")
    demo = Demo(runtime, bundle, directory)
    begin = time.perf_counter()
    try:
        demo.make_bundle()
        if os.path.basename(runtime).startswith("pyrunc"):
            demo.look_ahead()
        demo.live()
    finally:
        demo.end()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    print("    %-34s %7.1f ms" % ("all of it", (time.perf_counter() - begin) * 1000))
    if keep:
        print("    kept: %s" % directory)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
