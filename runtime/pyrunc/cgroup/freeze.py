"""Freezes and thaws the processes of a container, and reports those that did not freeze.

Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst (cgroup.freeze). Invariant: a freeze that fails is undone, so
that no container is left half frozen. `paths` is {controller: directory}; a directory that no longer exists counts as empty and thawed. If
both exist, v1's freezer is used, as in other runtimes.
"""

from __future__ import annotations

import errno
import posix
import select
import time

from pyrunc.cgroup import fs
from pyrunc.errors import StepFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias, TypedDict

    Freezer: TypeAlias = tuple[str, str, str, str, str]  # (directory, key, file, value that freezes, value that thaws)

    class Task(TypedDict):
        """A task that should be frozen but is not."""

        pid: int
        state: str  # a letter of proc_pid_stat(5)
        wchan: str  # the kernel function that it waits in
        comm: str
        stack: list[str]


LIMIT_MS = 10_000


def _freezer(paths: Mapping[str, str]) -> Freezer | None:
    """(directory, key, file, frozen, thawed), or None if there is no freezer."""
    if "freezer" in paths:
        return paths["freezer"], "freezer", "freezer.state", "FROZEN", "THAWED"
    if "unified" in paths:
        return paths["unified"], "unified", "cgroup.freeze", "1", "0"
    return None


def is_frozen(paths: Mapping[str, str]) -> bool:
    """Whether the cgroup, or one above it, is frozen or being frozen."""
    for key in ("freezer", "unified"):
        if key in paths and _is_frozen(paths[key], key):
            return True
    return False


def _is_frozen(path: str, key: str) -> bool:
    try:
        fd = fs.open_dir(path, key)
    except OSError as e:
        if e.errno in fs.GONE:
            return False
        raise
    try:
        if key == "freezer":
            return (fs.look(fd, "freezer.state") or "").strip() in ("FROZEN", "FREEZING")
        return (fs.look(fd, "cgroup.freeze") or "").strip() == "1" or event(fd, "frozen") == 1
    finally:
        posix.close(fd)


def event(fd: int, name: str) -> int | None:
    """A number from cgroup.events, or None."""
    words = (fs.look(fd, "cgroup.events") or "").split()
    return int(words[words.index(name) + 1]) if name in words else None


def freeze(paths: Mapping[str, str], deadline: float | None = None) -> None:
    """Freezes and waits until all tasks are frozen. deadline: a time.monotonic(), by default 10 s from now. The StepFailure `unable to
    freeze` names the tasks that did not freeze, and the cgroup is thawed again; StepFailure if there is no freezer."""
    found = _freezer(paths)
    if found is None:
        raise StepFailure("no-freezer", "unable to freeze: the container has no freezer cgroup", call="freeze")
    if deadline is None:
        deadline = time.monotonic() + LIMIT_MS / 1000
    path, key, name, frozen, _thawed = found
    fd = fs.open_dir(path, key)
    try:
        done = _freeze_v1(fd, path, deadline) if key == "freezer" else _freeze_v2(fd, path, deadline)
        if done:
            return
        words = "unable to freeze"
        tasks = _still_waiting(report(fd, path), paths)
        if tasks:
            words += ": %d task(s) do not stop: %s" % (len(tasks), "; ".join(_task_text(t) for t in tasks[:5]))
        raise StepFailure(
            "not-frozen", words, call="write", path="%s/%s" % (path, name), hint="a task that waits uninterruptibly can't be frozen"
        )
    except BaseException:
        thaw(paths)
        raise
    finally:
        posix.close(fd)


def _freeze_v1(fd: int, path: str, deadline: float) -> bool:
    """A task that is forking can keep the state at FREEZING forever: then thaw briefly and try again."""
    tries = 0
    while True:
        tries += 1
        if tries % 50 == 0:
            fs.write(fd, "freezer.state", "THAWED", path)
            time.sleep(0.01)
        fs.write(fd, "freezer.state", "FROZEN", path)
        if fs.read(fd, "freezer.state", path).strip() == "FROZEN":
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.001 if tries < 50 else 0.01)


def _freeze_v2(fd: int, path: str, deadline: float) -> bool:
    """Polls cgroup.events, which wakes a poller when one of its values changes."""
    events = posix.open("cgroup.events", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=fd)
    try:
        fs.write(fd, "cgroup.freeze", "1", path)
        return wait_event(events, "frozen", 1, deadline)
    finally:
        posix.close(events)


def wait_event(events_fd: int, name: str, value: int, deadline: float) -> bool:
    """Waits until cgroup.events has `name value`. False after the deadline; a cgroup that was removed counts as done."""
    poll = select.poll()
    poll.register(events_fd, select.POLLPRI)
    while True:
        try:
            words = posix.pread(events_fd, 4096, 0).split()
        except OSError as e:
            if e.errno == errno.ENODEV:
                return True
            raise
        number = words[words.index(name.encode()) + 1] if name.encode() in words else None
        if number is None or int(number) == value:
            return True
        left_ms = int((deadline - time.monotonic()) * 1000)
        if left_ms <= 0:
            return False
        poll.poll(min(left_ms, 1000))


def thaw(paths: Mapping[str, str]) -> None:
    """Thaws every freezer. A cgroup that no longer exists is not an error."""
    for key, name, value in (("freezer", "freezer.state", "THAWED"), ("unified", "cgroup.freeze", "0")):
        if key not in paths:
            continue
        try:
            fd = fs.open_dir(paths[key], key)
        except OSError as e:
            if e.errno in fs.GONE:
                continue
            raise
        try:
            fs.write(fd, name, value, paths[key])
        except OSError as e:
            if e.errno not in fs.GONE and not (key == "unified" and len(paths) > 1):
                raise
        finally:
            posix.close(fd)


def thaw_below(paths: Mapping[str, str]) -> None:
    """Thaws the sub-cgroups of v1's freezer, top down: a container with write access can freeze its own sub-cgroups, and on v1 a frozen
    task dies of SIGKILL only after it is thawed. Version 2 kills frozen tasks."""
    if "freezer" not in paths:
        return
    try:
        fd = fs.open_dir(paths["freezer"], "freezer")
    except OSError as e:
        if e.errno in fs.GONE:
            return
        raise
    try:
        if posix.fstat(fd).st_nlink != 2:  # kernfs counts a link for each sub-cgroup
            fs.walk(fd, _thaw_one)
    except OSError as e:
        if e.errno not in fs.GONE:  # removed in the meantime
            raise
    finally:
        posix.close(fd)


def _thaw_one(fd: int) -> None:
    if (fs.look(fd, "freezer.state") or "THAWED").strip() != "THAWED":
        fs.write(fd, "freezer.state", "THAWED")


# --- tasks that do not freeze


def report(fd: int, path: str) -> list[Task]:
    """[{"pid", "state", "wchan", "comm", "stack"}] of the tasks that still run in a cgroup that should be frozen."""
    out = []
    for pid in fs.procs_of(fd):
        task = describe(pid)
        if task is not None and not _stands(task):
            out.append(task)
    return out


def _still_waiting(tasks: Sequence[Task], paths: Mapping[str, str]) -> Sequence[Task]:
    """Since Linux 6.1, v1 freezes a task where it sleeps, and it then looks like one in an uninterruptible wait (D). So all are thawed;
    tasks that leave that state had been frozen."""
    thaw(paths)
    left = []
    for task in tasks:
        now = describe(task["pid"]) if task["state"] == "D" else task
        if now is not None and now["state"] == task["state"]:
            left.append(task)
    return left or tasks


def describe(pid: int) -> Task | None:
    """What /proc shows about a task, or None if it no longer exists. Reading the stack requires CAP_SYS_ADMIN."""
    from pyrunc.errors import quote
    from pyrunc.fileio import fsdecode, read_file

    def text(name: str) -> str:
        try:
            return fsdecode(read_file("/proc/%d/%s" % (pid, name), 65536)).strip()
        except OSError:
            return ""

    stat = text("stat")
    if not stat:
        return None
    state = stat.rpartition(")")[2].split()[0]
    comm = stat.partition("(")[2].rpartition(")")[0]
    return {"pid": pid, "state": state, "wchan": text("wchan"), "comm": quote(comm), "stack": text("stack").split("\n")}


def _stands(task: Task) -> bool:
    """Whether a task is frozen: it waits in the kernel's refrigerator (v1) or its freezer loop (v2), which compilers may inline: a task that
    sleeps in get_signal itself is in that loop. Zombies count as frozen."""
    places = task["wchan"] + " " + " ".join(task["stack"])
    if task["state"] == "S" and task["wchan"] == "get_signal":
        return True
    return task["state"] in "ZX" or "refrigerator" in places or "do_freezer_trap" in places or "freezer" in task["wchan"]


def _task_text(task: Task) -> str:
    where = task["wchan"] if task["wchan"] not in ("", "0") else (task["stack"][0] if task["stack"] else "")
    return "pid %d (%s) state %s%s" % (task["pid"], task["comm"], task["state"], " in %s" % where if where else "")
