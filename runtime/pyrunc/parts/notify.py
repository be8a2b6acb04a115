"""No key of config.json: NOTIFY_SOCKET, if a supervisor runs us as a service (sd_notify(3)).

The container gets a socket at /run/notify/notify.sock; `start` listens on it and forwards READY=1 and the main pid. Invariant:
the container never reaches the supervisor's own socket.
"""

from __future__ import annotations

import posix

from pyrunc.linux import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.parts.mounts.plan import Given as Mount
    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Context, HostRun

    Node = dict[str, object]

    class Entry(TypedDict):
        host: str
        variable: str
        mount: Mount  # as in /mounts


INSIDE = "/run/notify"
FOLDER = "notify"
SOCKET = "notify.sock"


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {}. entry: {"host": the supervisor's socket, "variable": NOTIFY_SOCKET inside, "mount": an entry as in /mounts} or None:
    without NOTIFY_SOCKET in our own environment, for exec, and without a mount namespace, where the bind mount would appear on the host.
    Refuses nothing."""
    host = ctx.options.get("notify_socket")
    if not host or ctx.options.get("command") not in ("create", "run"):
        return None
    spaces = ctx.plans.get("namespaces", {})
    if "mount" not in spaces.get("new", ()) and "mount" not in (spaces.get("join") or {}):
        ctx.warn("/linux/namespaces", "without a mount namespace the container gets no NOTIFY_SOCKET")
        return None
    source = "%s/%s/%s" % (ctx.root, ctx.id, FOLDER)
    mount: Mount = {"destination": INSIDE, "type": "bind", "source": source, "options": ["bind", "nosuid", "noexec", "nodev", "ro"]}
    return {"host": host, "variable": "%s/%s" % (INSIDE, SOCKET), "mount": mount}


def host_make(entry: Entry, run: HostRun) -> None:
    """Host, before the mounts: creates the directory that is bound into the container, where any user may enter it. Uses run.dir_fd."""
    fs.mkdir(FOLDER, 0o700, dir_fd=run.dir_fd)
    posix.chmod(FOLDER, 0o755, dir_fd=run.dir_fd)


def undo_make(entry: Entry, run: HostRun) -> None:
    """Host: removes the socket and the directory."""
    for remove, name in ((fs.unlink, "%s/%s" % (FOLDER, SOCKET)), (fs.rmdir, FOLDER)):
        try:
            remove(name, dir_fd=run.dir_fd)
        except FileNotFoundError:
            continue


def has_supervisor(plans: Plans) -> bool:
    """Whether a supervisor waits for READY."""
    return "notify" in plans


def listen(entry: Entry, dir_fd: int) -> int:
    """Creates the socket in the container's directory and returns its fd. `start` calls it before opening the gate, so that no message is
    lost."""
    from pyrunc.linux import sdnotify

    fd = fs.open(FOLDER, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        return sdnotify.listen(fd)
    finally:
        posix.close(fd)


def forward(entry: Entry, fd: int, pid: int, pidfd: int) -> bool:
    """After execve: waits until the program is ready or has exited, and notifies the supervisor. True if it became ready. Closes fd."""
    from pyrunc.linux import sdnotify

    try:
        return sdnotify.forward(fd, entry["host"], pid, pidfd)
    finally:
        posix.close(fd)


def supervisor(entry: Entry) -> str:
    """The socket of the supervisor that waits for READY."""
    return entry["host"]
