"""Chooses the cgroups for another process of the container: the container's cgroup in each hierarchy, or one below it.

cgroups(7). Invariant: never outside the container's own cgroup. On version 2 a cgroup with children cannot contain processes; there the
current cgroup of init is used (systemd in a container moves itself).
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.cgroup import fs, hierarchies
from pyrunc.errors import CallError, UsageError, errno_text, quote
from pyrunc.linux import _syscalls, constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyrunc.cgroup.shapes import Run
    from pyrunc.state_document import State


def targets(paths: Mapping[str, str], init_pid: int, subs: Iterable[str] | None = None) -> tuple[int, list[int]]:
    """paths: {key: directory}; subs: list of '[CONTROLLER[,…]:]PATH' → (cgroup_fd, [directory fds]). cgroup_fd is the cgroup2 directory,
    for CLONE_INTO_CGROUP, or -1; the process itself enters those of version 1 (`tasks`). OSErrors are passed on."""
    below = _below(subs)
    unknown = sorted(key for key in below if key and key not in paths)
    if unknown:
        words = "unknown controller %s: the container has no cgroup for it" % quote(unknown[0] or '""')
        raise UsageError("unknown-controller", words, "exec", "cgroup", "it has cgroups of %s" % ", ".join(sorted(paths)))
    cgroup_fd = -1
    folders = []
    try:
        for path, key in fs.unique(paths).items():
            sub = None
            if below:
                sub = next((below[name] for name, one in paths.items() if one == path and name in below), below.get(""))
            fd = _open(path, key, sub, init_pid)
            if fd is None:
                continue
            if key == "unified":
                cgroup_fd = fd
            else:
                folders.append(fd)
    except BaseException:
        for fd in folders:
            posix.close(fd)
        raise
    return cgroup_fd, folders


def _below(subs: Iterable[str] | None) -> dict[str, str]:
    """{key: path below the container's cgroup}; the key "" means all."""
    found = {}
    for text in subs or ():
        controllers, colon, path = text.rpartition(":")
        parts = [p for p in path.split("/") if p not in ("", ".")]
        if ".." in parts or "\0" in path:
            raise UsageError("cgroup-outside", "bad sub cgroup path %s: it leaves the container's cgroup" % quote(text), "exec", "cgroup")
        for key in controllers.split(",") if colon else ("",):
            found[key] = "/".join(parts)
    return found


def _open(path: str, key: str, sub: str | None, init_pid: int) -> int | None:
    try:
        fd = fs.open_dir(path, key)
    except OSError as e:
        if e.errno in fs.GONE:
            return None
        raise
    if sub:
        how = constants.RESOLVE_BENEATH | constants.RESOLVE_NO_SYMLINKS | constants.RESOLVE_NO_XDEV
        try:
            return _syscalls.openat2(fd, sub, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, 0, how)
        except OSError as e:
            words = "cannot enter the cgroup %s below %s: %s" % (quote(sub), quote(path), errno_text(e.errno))
            raise CallError.of(e, words=words) from None
        finally:
            posix.close(fd)
    if key == "unified" and _has_children(fd):
        moved = _of_init(path, init_pid)
        if moved is not None:
            posix.close(fd)
            return fs.open_dir(moved, key)
    return fd


def _has_children(fd: int) -> bool:
    """Whether controllers are enabled for children; such a domain accepts no processes (EBUSY)."""
    return bool((fs.look(fd, "cgroup.subtree_control") or "").strip())


def _of_init(path: str, init_pid: int) -> str | None:
    """The directory of init's current cgroup2, if it is below the container's."""
    try:
        own = hierarchies.parse_own(fileio.fsdecode(fileio.read_file("/proc/%d/cgroup" % init_pid, 1 << 20)))
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ESRCH):
            return None
        raise
    mount = hierarchies.layout(cgroup="").mounts.get("unified")
    if mount is None or "unified" not in own:
        return None
    prefix = mount[1] if mount[1] != "/" else ""
    if not own["unified"].startswith(prefix + "/"):
        return None
    here = mount[0] + own["unified"][len(prefix) :]
    return here if here.startswith(path + "/") else None


# --- from outside the delegated subtree


def may_attach(e: CallError, run: Run) -> bool:
    """Whether a process that clone3 could not put into the cgroup may be created outside of it first. The kernel requires write access to
    the common ancestor of both cgroups (cgroup-v2.rst, Delegation Containment), which a user in a login session does not have."""
    if e.errno not in fs.REFUSED or e.call != "clone3" or not run.plans["cgroups"]["rootless"]:
        return False
    if not run.plans["cgroups"].get("unit") and (run.plans.get("resources") or {}).get("asked"):
        e.words = "cannot enter the container's cgroup from here"
        e.hint = "its limits would not apply; call this from within the delegated cgroup (systemd-run --user --scope)"
        return False
    return True


def attach(run: Run, state: State, pid: int, cgroup_fd: int) -> None:
    """Asks the user's systemd to move a process into the container's scope, or into the cgroup below it that cgroup_fd is. If no manager owns
    the cgroup and the container has no limits, the process runs outside of it, as at create. StepFailure."""
    if not run.plans["cgroups"].get("unit"):
        return
    from pyrunc.cgroup import systemd

    here = posix.readlink("/proc/self/fd/%d" % cgroup_fd)
    top = state["cgroup_paths"]["unified"]
    systemd.attach(state["cgroups"]["unit"], here[len(top) :] if here.startswith(top + "/") else "", pid)
