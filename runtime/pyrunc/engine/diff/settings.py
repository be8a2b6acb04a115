"""Compares names and sysctls, which only a process in the namespaces can see.

A short-lived child joins them and reads through a private procfs. It remains in the host's mount and pid namespaces, imports nothing, and
executes nothing from the container.
"""

from __future__ import annotations

import errno
import posix
from _signal import SIGCHLD, SIGKILL

from pyrunc import fileio, jsonio
from pyrunc.engine import barrier, child, planner
from pyrunc.errors import StateError, StepFailure, errno_text
from pyrunc.linux import _syscalls, fs, jsonbytes, ns, pidfd, proc
from pyrunc.linux import prctl as _prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyrunc.engine.diff import Drift
    from pyrunc.parts.sides import Json, Setting

LIMIT = 1 << 24
VALUE_LIMIT = 1 << 17


def look(drift: Drift) -> None:
    rows: list[Setting] = []
    kinds: list[str] = []
    for part in ("uts", "sysctls"):
        settings, shown_in = planner.ask(drift.plans, part, "settings", view="drift.") or ([], [])
        rows += settings
        kinds += shown_in
    if not rows:
        return
    found = inside(drift.pid, drift.start_time, list(dict.fromkeys(kinds)), [row[2] for row in rows])
    for (area, what, _path, planned, pointer), (number, seen) in zip(rows, found, strict=True):
        if number and number != errno.ENOENT:
            drift.miss(area, "%s: %s" % (what, errno_text(number)))
        elif number or seen is None or not same(planned, seen):
            drift.differs(area, what, planned, None if number else seen, pointer)


def same(planned: str, seen: str) -> bool:
    """Whether a setting shows what was written: whitespace may differ, and numbers may have been written in another base."""
    one, other = ([_number(word) for word in text.replace(",", " , ").split()] for text in (planned, seen))
    return one == other


def _number(word: str) -> int | str:
    digits = word.lstrip("-")
    try:
        base = 16 if digits[:2].lower() == "0x" else 8 if digits[:1] == "0" and len(digits) > 1 else 10
        return int(word, base) if digits[:1].isdigit() else word
    except ValueError:
        return word


def inside(pid: int, start_time: int | None, kinds: list[str], paths: list[str]) -> list[tuple[int, str | None]]:
    """[(errno or 0, text or None)] for files below /proc, read in the namespaces (`kinds`) of a process. StateError: it has exited;
    StepFailure: a namespace can't be joined."""
    opened: list[int] = []
    try:
        joins = _open(pid, start_time, kinds, opened)
        reader, writer = posix.pipe2(posix.O_CLOEXEC)
        opened.append(reader)
        pid_inside, child_fd = _syscalls.clone3(0, SIGCHLD)
        if pid_inside == 0:
            _child(joins, paths, writer)
        opened.append(child_fd)
        posix.close(writer)
        try:
            said = jsonio.loads(fileio.fsdecode(fileio.read_fd(reader, LIMIT)) or "null", "what the reader says")
        finally:
            child.kill(child_fd)
    finally:
        fs.close(*opened)
    if type(said) is not list:
        raise StepFailure("child-killed", "the process that joined the container's namespaces was killed", "diff.inside", "child")
    if said[:1] == ["no way"]:
        raise StepFailure(
            "namespace-not-joined", "cannot join the container's %s namespace: %s" % (said[1], errno_text(said[2])), "diff.inside", "child"
        )
    return said


def _open(pid: int, start_time: int | None, kinds: list[str], opened: list[int]) -> list[tuple[int, str]]:
    """[(fd, kind)], except namespaces that we are already in, after checking that they belong to the process."""
    init_fd = pidfd.open_init(pid, start_time or 0)
    if init_fd < 0:
        raise StateError("not-running", "container not running")
    opened.append(init_fd)
    joins = []
    for kind in [*(kind for kind in kinds if kind != "user"), "user"]:
        fd = ns.open_path("/proc/%d/ns/%s" % (pid, ns.FILES[kind]), kind)
        opened.append(fd)
        if not ns.is_own(fd, kind):
            joins.append((fd, kind))
    if pidfd.wait(init_fd, 0):  # what was opened may belong to another process with the same pid
        raise StateError("not-running", "container not running")
    return joins


def _child(joins: list[tuple[int, str]], paths: list[str], writer: int) -> NoReturn:
    """Never returns."""
    try:
        barrier.close()
        _prctl.set_pdeathsig(SIGKILL)
        _prctl.set_dumpable(False)
        fileio.write_all(writer, jsonbytes.dumps(_said(joins, paths)))
    finally:
        posix._exit(0)


def _said(joins: list[tuple[int, str]], paths: list[str]) -> list[Json]:
    ours = proc.Proc().prepare(whole=True)
    late = []
    for fd, kind in joins:  # the user namespace comes last: with privileges in ours, none are needed inside
        try:
            ns.join(fd, kind)
        except OSError as e:
            if e.errno != errno.EPERM or kind == "user":
                return ["no way", kind, e.errno]
            late.append((fd, kind))
    for fd, kind in late:
        try:
            ns.join(fd, kind)
        except OSError as e:
            return ["no way", kind, e.errno]
    return [_read(ours, path) for path in paths]


def _read(ours: proc.Proc, path: str) -> list[Json]:
    try:
        return [0, fileio.fsdecode(ours.read(path, VALUE_LIMIT)).rstrip("\n")]
    except OSError as e:
        return [e.errno, None]
