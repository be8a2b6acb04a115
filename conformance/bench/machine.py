"""The machine that the figures are from: its description, one processor for the run, and the hierarchy that crun requires.

Rule: everything that it changes is restored.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.bench.shapes import Document


HUGETLB = "/sys/fs/cgroup/hugetlb"


def state_folder() -> str | None:
    """The directory for state roots: on a tmpfs, like /run on most machines. Creating a file on a disk takes about 0.3 ms, which should not
    influence the comparison. None if there is no tmpfs."""
    with open("/proc/self/mounts") as file:
        kinds = {fields[1]: fields[2] for fields in map(str.split, file)}
    return next((folder for folder in ("/run", "/dev/shm") if kinds.get(folder) == "tmpfs"), None)


def state_root(directory: str, label: str) -> str:
    """A state root for one runtime; remove(directory) removes it."""
    folder = state_folder()
    return os.path.join(folder, os.path.basename(directory) + "-" + label) if folder else os.path.join(directory, "state-" + label)


def remove(directory: str) -> None:
    """A working directory of the bench, and the state roots that belong to it."""
    shutil.rmtree(directory, ignore_errors=True)
    folder = state_folder()
    if folder is None:
        return
    for name in os.listdir(folder):
        if name.startswith(os.path.basename(directory) + "-"):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def about(core: int | None) -> Document:
    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "kernel": platform.release(),
        "processor": model,
        "processors": os.cpu_count(),
        "pinned": core,
        "state": "%s (tmpfs)" % state_folder() if state_folder() else "on disk",
        "cgroups": "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1 or hybrid",
        "python": platform.python_version(),
    }


def version(path: str) -> str:
    done = subprocess.run([path, "--version"], capture_output=True, text=True)
    return done.stdout.partition("\n")[0].strip() or "unknown"


@contextlib.contextmanager
def pinned(wanted: bool) -> Iterator[int | None]:
    """Stays on the highest allowed processor; children inherit that. Yields its number or None."""
    before = os.sched_getaffinity(0)
    core = max(before) if wanted and len(before) > 1 else None
    if core is not None:
        try:
            os.sched_setaffinity(0, {core})
        except OSError:
            core = None
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def hugetlb() -> Iterator[None]:
    """crun assumes that every controller in /proc/cgroups is mounted. On a v1 host without the hugetlb hierarchy it fails, so the hierarchy
    is mounted there for the duration of the run."""
    needed = not os.path.exists("/sys/fs/cgroup/cgroup.controllers") and not os.path.ismount(HUGETLB) and controller("hugetlb")
    if needed:
        os.makedirs(HUGETLB, exist_ok=True)
        needed = subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", HUGETLB], stderr=subprocess.DEVNULL).returncode == 0
        if not needed:
            os.rmdir(HUGETLB)
    try:
        yield
    finally:
        if needed and subprocess.run(["umount", HUGETLB]).returncode == 0:
            with contextlib.suppress(OSError):  # something else has been created there in the meantime
                os.rmdir(HUGETLB)


def controller(name: str) -> bool:
    with open("/proc/cgroups") as file:
        return any(line.split()[0] == name for line in file)
