"""Profiles commands: system calls with strace, and instructions if the processor's counters are available.

Rule: only counts, which are the same on a busy machine; if something can't be counted, the reason is given instead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from conformance.bench import machine, measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.bench.shapes import Document, Json, Runtimes, Say


LIFE = (
    ("create", "--bundle", "{bundle}", "{id}"),
    ("start", "{id}"),
    ("state", "{id}"),
    ("exec", "{id}", "/bin/true"),
    ("kill", "{id}", "KILL"),
    ("delete", "{id}"),
)
SECONDS = 60
ROW = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.M)


def profile(runtimes: Runtimes, say: Say) -> Document:
    """{"calls": {label: {command: {"total", "most": [[call, count]]}}}, "instructions": {label: {command: count}}, "missing": {what: why}}"""
    found: Document = {"calls": {}, "instructions": {}, "missing": {}}
    if not shutil.which("strace"):
        found["missing"]["calls"] = "no strace here"
    reason = no_counter()
    if reason:
        found["missing"]["instructions"] = reason
    for label, path in runtimes:
        say("%s: counting" % label)
        if "calls" not in found["missing"]:
            found["calls"][label] = life(label, path, ["strace", "-f", "-c", "-I2", "-o"], calls)
        if not reason:
            found["instructions"][label] = life(label, path, ["perf", "stat", "-x,", "-e", "instructions", "-o"], instructions)
    say("")
    return found


def no_counter() -> str | None:
    """Why instructions can't be counted, or None."""
    if not shutil.which("perf"):
        return "no perf(1) here"
    done = subprocess.run(["perf", "stat", "-x,", "-e", "instructions", "true"], capture_output=True, text=True)
    if done.returncode or "<not" in done.stderr:
        return "the performance counters of the processor are not available in this (virtual) machine"
    return None


def life(label: str, path: str, tool: list[str], read: Callable[[str], Json], seconds: float = SECONDS) -> Document:
    """{command: read(text of the tool's report)} for one life under the tool. A command that fails or takes too long under it is left out,
    and repeated without it for the commands that follow."""
    directory = tempfile.mkdtemp(prefix="bench-")
    values = {"id": "bench-%s-%d-p" % (label, os.getpid())}
    root = machine.state_root(directory, "state")
    found = {}
    try:
        values["bundle"] = measure.prepared("hello", os.path.join(directory, "b"), ["/bin/sleep", "1000"])
        for words in LIFE:
            report = os.path.join(directory, "report")
            command = [path, "--root", root, *(word.format(**values) for word in words)]
            did_well = _watched([*tool, report, *command], os.path.join(directory, "out"), seconds)
            if not did_well:
                _begun_anew(path, root, values["id"], command)
            if words[0] == "kill":
                _until_stopped(path, root, values["id"])
            if did_well:
                with open(report) as file:
                    found[words[0]] = read(file.read())
        return found
    finally:
        subprocess.run([path, "--root", root, "delete", "--force", values["id"]], stdin=subprocess.DEVNULL, capture_output=True)
        machine.remove(directory)


def _begun_anew(path: str, root: str, id: str, command: list[str]) -> None:
    """Repeats an interrupted create without the tool, because the other commands need its container."""
    for argv in ([path, "--root", root, "delete", "--force", id], command) if "create" in command else (command,):
        subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=measure.ENV)


def _watched(argv: list[str], output: str, seconds: float) -> bool:
    """Whether the command succeeded. strace keeps following a waiting container, so it is terminated once the command itself has exited."""
    with open(output, "w") as out:
        tool = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=measure.ENV)
    try:
        return _until_done(tool, time.monotonic() + seconds)
    finally:
        if tool.poll() is None:  # we were asked to stop
            _told_to_go(tool)


def _until_done(tool: subprocess.Popen[bytes], deadline: float) -> bool:
    children = "/proc/%d/task/%d/children" % (tool.pid, tool.pid)
    seen = False
    while tool.poll() is None:
        try:
            with open(children) as file:
                there = bool(file.read())
        except OSError:
            continue
        if (seen and not there) or time.monotonic() > deadline:
            _told_to_go(tool)
            return seen and not there
        seen = seen or there
        time.sleep(0.002)
    return tool.returncode == 0


def _told_to_go(tool: subprocess.Popen[bytes]) -> None:
    """Terminates the tool. It exits by itself after writing its report, unless it still follows a container."""
    for seconds in (0.5, SECONDS):
        try:
            tool.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            tool.terminate()
    tool.kill()
    tool.wait()


def _until_stopped(path: str, root: str, id: str) -> None:
    for _ in range(200):
        done = subprocess.run([path, "--root", root, "state", id], capture_output=True, text=True)
        if done.returncode or '"stopped"' in done.stdout:
            return


def calls(text: str) -> Document:
    counts = sorted(((name, int(count)) for count, name in ROW.findall(text) if name != "total"), key=lambda row: -row[1])
    return {"total": sum(count for _, count in counts), "most": [list(row) for row in counts[:8]]}


def instructions(text: str) -> int:
    return int(next(line for line in text.splitlines() if "instructions" in line).split(",")[0])
