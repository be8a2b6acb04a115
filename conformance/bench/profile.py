"""What a command is made of: system calls by strace, instructions where the processor counts them for us.

Rule: counts, which are the same on a busy machine; what cannot be counted is replaced by the reason.
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
    """{command: read(text of the tool's report)} of one life under it. A command that fails under it, or takes too long, is left out, and
    done without it for those that follow."""
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
    """A create that was ended in the middle is done again, without the tool; the others need what it makes."""
    for argv in ([path, "--root", root, "delete", "--force", id], command) if "create" in command else (command,):
        subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=measure.ENV)


def _watched(argv: list[str], output: str, seconds: float) -> bool:
    """Whether the command did well. strace stays with a container that waits: once the command itself has ended it is told to go."""
    with open(output, "w") as out:
        tool = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=measure.ENV)
    try:
        return _until_done(tool, time.monotonic() + seconds)
    finally:
        if tool.poll() is None:  # we are told to end
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
    """By itself it ends as soon as it has written its report, unless a container is left that it follows."""
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
