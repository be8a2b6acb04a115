"""No key of config.json: NOTIFY_SOCKET of a supervisor that runs us as its service (sd_notify(3)).

The container gets a socket of ours at /run/notify/notify.sock; `start` listens there and passes on READY=1 and the main pid. Invariant:
the container never reaches the supervisor's own socket.
"""

from __future__ import annotations

import posix

from pyrunc.linux import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.parts.mounts.plan import Given as Mount
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
    """node: {}. entry: {"host": the supervisor's socket, "variable": NOTIFY_SOCKET inside, "mount": an entry as in /mounts} or None without
    NOTIFY_SOCKET in our own environment, for exec, and without a mount namespace, where the host would see the bind mount. Refuses nothing."""
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
    """Host, before the mounts: the directory that is bound into the container, which any user there may enter. Uses run.dir_fd."""
    fs.mkdir(FOLDER, 0o700, dir_fd=run.dir_fd)
    posix.chmod(FOLDER, 0o755, dir_fd=run.dir_fd)


def undo_make(entry: Entry, run: HostRun) -> None:
    """Host: removes socket and directory."""
    for remove, name in ((fs.unlink, "%s/%s" % (FOLDER, SOCKET)), (fs.rmdir, FOLDER)):
        try:
            remove(name, dir_fd=run.dir_fd)
        except FileNotFoundError:
            continue


def listen(entry: Entry, dir_fd: int) -> int:
    """Before the gate is opened (`start`): fd of the socket in the container's directory; no message is lost."""
    from pyrunc.linux import sdnotify

    fd = fs.open(FOLDER, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        return sdnotify.listen(fd)
    finally:
        posix.close(fd)


def forward(entry: Entry, fd: int, pid: int, pidfd: int) -> bool:
    """After the program was executed: waits until it is ready or has ended, and informs the supervisor. True if it became ready. Closes fd."""
    from pyrunc.linux import sdnotify

    try:
        return sdnotify.forward(fd, entry["host"], pid, pidfd)
    finally:
        posix.close(fd)


def supervisor(entry: Entry) -> str:
    """The socket of the supervisor that waits for READY."""
    return entry["host"]
