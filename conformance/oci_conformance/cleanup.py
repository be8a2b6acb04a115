"""Removes what a case has left behind: processes, cgroups, mounts, directories.

Rule: everything is found by the token of the case, never by a general pattern; a process is signalled through a pidfd after a
second check, so that no process with a reused pid is hit.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.runtime import MARK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from oci_conformance.shapes import Left


def processes(token: str, tops: Iterable[str]) -> set[int]:
    """The pids with the token in their cgroup, command line or environment."""
    found = set()
    own = {os.getpid(), os.getppid()}
    for path in cgroups(token, tops):
        for directory, _, _ in os.walk(path):
            found |= {int(pid) for pid in (system.read(os.path.join(directory, "cgroup.procs")) or "").split()}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in own and marked(name, token):
            found.add(int(name))
    return found - own


def marked(pid: int | str, token: str) -> bool:
    environment = system.read("/proc/%s/environ" % pid) or ""
    if any(entry.startswith(MARK + "=") and holds(entry, token) for entry in environment.split("\0")):
        return True
    return any(holds(text, token) for text in (system.read("/proc/%s/%s" % (pid, file)) or "" for file in ("cmdline", "cgroup")))


def holds(text: str, token: str) -> bool:
    """Whether a text contains the token as a whole: `t1` is not in `t12`. `t*` means all tokens that begin with t."""
    if token.endswith("*"):
        return token[:-1] in text
    at = text.find(token)
    while at >= 0:
        if not text[at + len(token) : at + len(token) + 1].isdigit():
            return True
        at = text.find(token, at + 1)
    return False


def cgroups(token: str, tops: Iterable[str], deep: bool = False) -> list[str]:
    """The topmost cgroup directories whose names contain the token. `deep`: not only directly below the mount points."""
    found = []
    for top in tops:
        for directory, names, _ in os.walk(top):
            hits = [name for name in names if holds(name, token)]
            found += [os.path.join(directory, name) for name in hits]
            names[:] = [name for name in names if name not in hits] if deep else []
    return found


def kill(token: str, tops: Iterable[str], seconds: float = 10) -> set[int]:
    """Kills all processes of a token. Returns the pids that had to be killed."""
    ended = set()
    clock = system.Clock(seconds)
    while clock.left:
        pids = processes(token, tops)
        waiting = []
        for pid in pids:
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue
            if pid in processes(token, tops) if len(pids) < 4 else True:
                try:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                except OSError:
                    pass
            waiting.append((pid, pidfd))
        alive = [pid for pid, _ in waiting if state(pid) not in ("Z", "X", "")]
        ended |= set(alive)
        thaw(token, tops)
        for _, pidfd in waiting:
            system.ended(pidfd, min(2, clock.left))
            os.close(pidfd)
        if not alive:
            break
    return ended


def end_children(keep: Collection[int] = (), seconds: float = 5) -> set[int]:
    """Kills processes that have become our children: a process that leaves a case by double fork becomes a child of its subreaper. Those
    that become our children while others die are also killed. Returns the pids."""
    ended, clock = set(), system.Clock(seconds)
    while clock.left:
        strays = [pid for pid in system.children() if pid not in keep]
        if not strays:
            break
        for pid in strays:
            if state(pid) not in ("Z", "X", ""):
                ended.add(pid)
                os.kill(pid, signal.SIGKILL)  # a child's pid is not reused before we reap it
        for pid in strays:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        time.sleep(0.002)
    return ended


def state(pid: int | str) -> str:
    return system.status_of(pid).get("State", "")[:1]


def thaw(token: str, tops: Iterable[str]) -> None:
    for path in cgroups(token, tops):
        for name, word in (("cgroup.freeze", "0"), ("freezer.state", "THAWED")):
            if os.path.exists(os.path.join(path, name)):
                put(os.path.join(path, name), word)


def put(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError:
        pass


def remove_cgroups(token: str, tops: Iterable[str], deep: bool = False) -> list[str]:
    """Removes the cgroups of a token. Returns those that remain."""
    left = []
    for path in cgroups(token, tops, deep):
        for directory, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass
        if os.path.isdir(path):
            left.append(path)
    return left


def mounts(text: str) -> list[str]:
    """The mount points below a directory, the deepest first."""
    points = [line.split()[4] for line in (system.read("/proc/self/mountinfo") or "").splitlines() if text in line.split()[4]]
    return sorted(points, key=len, reverse=True)


def remove_directory(path: str) -> None:
    for point in mounts(path):
        try:
            system.umount(point)
        except OSError:
            pass
    if not mounts(path):
        shutil.rmtree(path, ignore_errors=True)


def sweep(token: str, tops: Iterable[str], directory: str | None = None, deep: bool = False) -> Left:
    """Cleans up everything. Returns what was found: {"processes": […], "cgroups": […]}, without empty lists."""
    killed = kill(token, tops)
    before = cgroups(token, tops, deep)
    remove_cgroups(token, tops, deep)
    if directory:
        remove_directory(directory)
    found: dict[str, Sequence[int | str]] = {"processes": sorted(killed), "cgroups": before}
    return {kind: things for kind, things in found.items() if things}
