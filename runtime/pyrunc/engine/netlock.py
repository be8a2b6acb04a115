"""Removes CRIU's lock from a container's network if CRIU itself could not do it.

During a dump, CRIU blocks all packets into and out of the container's network namespace (criu/net.c: network_lock_internal), with an
iptables chain or an nftables table. If it is killed, the container remains cut off, and if we are killed as well, nothing reports that: so the
state records in advance that there may be a lock. Invariant: only what CRIU has created is removed.
"""

from __future__ import annotations

import posix
from _signal import SIGCHLD

from pyrunc import log
from pyrunc.engine import child, criu, planner, status
from pyrunc.errors import errno_text
from pyrunc.linux import _syscalls, ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.plans import Plans
    from pyrunc.state_dir import StateDir

PROGRAMS = ("iptables-restore", "ip6tables-restore")
UNLOCK = b"*filter\n:CRIU - [0:0]\n-D INPUT -j CRIU\n-D OUTPUT -j CRIU\n-X CRIU\nCOMMIT\n"  # the same text as in criu/net.c
BY_HAND = "the container's network is still locked by criu's nftables table (nft list tables): delete it"


def expect(state_dir: StateDir, method: str | None) -> None:
    """Before a dump: records the method, the value of --network-lock, or None for CRIU's default."""
    state_dir.record("dumping", {"method": method})


def forget(state_dir: StateDir) -> None:
    """After a dump: the lock has been removed, or belongs to the images (CRIU removes it at restore)."""
    if state_dir.state.pop("dumping", None) is None:
        return
    try:
        state_dir.save()
    except OSError as e:  # a full disk; then the next command looks for a lock and finds none
        log.warn("the end of the dump could not be recorded: %s" % errno_text(e.errno))


def recover(state_dir: StateDir, plans: Plans) -> str | None:
    """Removes the lock that a killed checkpoint left. The container is locked, so no checkpoint is running. Returns None, or a message
    about what is left, which is reported once."""
    note = state_dir.state.get("dumping")
    if type(note) is not dict:
        return None
    try:
        left = unlock(_path(state_dir, plans), note.get("method"))
    except OSError as e:
        left = "the container's network may still be locked by criu: %s" % errno_text(e.errno)
    forget(state_dir)
    return left


def _path(state_dir: StateDir, plans: Plans) -> str | None:
    """A path to the network namespace; None if it no longer exists, like the container."""
    if status.is_alive(state_dir.state):
        return "/proc/%d/ns/net" % state_dir.state["pid"]
    found: str | None = planner.module("namespaces").joined_path(plans, "network")
    return found


def unlock(path: str | None, method: str | None) -> str | None:
    """path: the network namespace; method: the value of --network-lock, or None for CRIU's default. Returns None, or a message about what
    is left. OSError."""
    if method == "skip" or path is None:
        return None
    try:
        netns_fd = ns.open_path(path, "network")
    except FileNotFoundError:
        return None  # the lock disappeared with it
    try:
        if ns.is_own(netns_fd, "network"):
            return None  # it locks nothing in the host's namespace
        if method == "nftables":
            return BY_HAND
        for name in PROGRAMS:
            _run(name, netns_fd)
    finally:
        posix.close(netns_fd)
    return None


def _run(name: str, netns_fd: int) -> None:
    """Runs the program in the namespace, with UNLOCK as its input. It is not an error if there was no such chain."""
    path = _found(name)
    if path is None:
        return  # CRIU could not have used it either
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    pid, pidfd = _syscalls.clone3(0, SIGCHLD, -1)
    if pid == 0:
        try:
            ns.join(netns_fd, "network")
            null = posix.open("/dev/null", posix.O_RDWR)
            for number, fd in enumerate((reader, null, null)):
                posix.dup2(fd, number)
            posix.execve(path, [name, "-w", "--noflush"], {})
        finally:
            posix._exit(127)
    posix.close(reader)
    try:
        posix.write(writer, UNLOCK)
    except BrokenPipeError:
        log.debug("%s has already exited" % path)
    finally:
        posix.close(writer)
    try:
        info = child.reap(pidfd)
        log.debug("%s: %s" % (path, "its status is unknown" if info is None else child.cause(info)))
    finally:
        posix.close(pidfd)


def _found(name: str) -> str | None:
    for program in criu.PROGRAMS:
        path = program.rpartition("/")[0] + "/" + name
        if posix.access(path, posix.X_OK):
            return path
    return None
