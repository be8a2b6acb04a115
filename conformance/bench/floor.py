"""The physical limit: the time for the same work in a C program that does nothing else (floor.c), for a bare process, and for a bare Python
interpreter.

Rule: without a C compiler that figure is left out, and the reason is given instead.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
import time
from typing import TYPE_CHECKING

from conformance.bench import machine, measure

if TYPE_CHECKING:
    from conformance.bench.shapes import Document, Figures


OURS = "bench-%d-floor-" % os.getpid()  # names of its cgroups
SOURCE = pathlib.Path(__file__).with_name("floor.c")


def floor(rounds: int) -> Document:
    """{label: figures}; "missing" says why there are none for floor.c."""
    found: Document = {}
    for label, argv in (
        ("python3 -I -S -c pass", ["/usr/bin/python3", "-I", "-S", "-c", "pass"]),
        ("true", ["/bin/true"]),
    ):
        found[label] = measure.figures([spawned(argv) for _ in range(rounds + 1)][1:])
    directory = tempfile.mkdtemp(prefix="bench-")
    try:
        found.update(kernel(rounds, directory))
    except measure.Failed as e:
        found["missing"] = str(e)
        _sweep()
    finally:
        machine.remove(directory)
    return found


def _sweep() -> None:
    """Removes the cgroups: floor.c undoes nothing if a step fails."""
    with open("/proc/self/mounts") as file:
        points = [fields[1] for fields in map(str.split, file) if fields[2].startswith("cgroup")]
    for folder in (os.path.join(point, name) for point in points for name in os.listdir(point) if name.startswith(OURS)):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def spawned(argv: list[str], output: str | None = None) -> float:
    """Milliseconds until the process has exited."""
    actions = [(os.POSIX_SPAWN_OPEN, 1, output or "/dev/null", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    begin = time.perf_counter_ns()
    _, status = os.waitpid(os.posix_spawn(argv[0], argv, measure.ENV, file_actions=actions), 0)
    ms = (time.perf_counter_ns() - begin) / 1e6
    if status:
        raise measure.Failed("%s ended with %d" % (os.path.basename(argv[0]), os.waitstatus_to_exitcode(status)))
    return ms


def kernel(rounds: int, directory: str) -> dict[str, Figures | None]:
    program = measure.compiled(SOURCE, directory, "-static")
    bundle = measure.prepared("hello", os.path.join(directory, "bundle"), ["/bin/true"])
    output = os.path.join(directory, "out")
    create, run = [], []
    for number in range(rounds + 1):
        argv = [program, os.path.join(bundle, "rootfs"), "%s%d" % (OURS, number), "/bin/true"]
        run.append(spawned(argv, output))
        with open(output) as file:
            create.append(int(file.read()) / 1e6)
    return {"kernel, create": measure.figures(create[1:]), "kernel, run": measure.figures(run[1:])}
