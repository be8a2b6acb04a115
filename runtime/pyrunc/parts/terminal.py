"""/process/terminal, /process/consoleSize (runtime-spec, config.md#process; console protocol of runc, docs/terminals.md).

Init opens the pty in the container's own devpts and sends its master in one message, over a socket that the host side connected before the
container existed. Invariant: the terminal never belongs to the host's devpts, and neither end is opened by a name that the image controls
(CVE-2025-52565, CVE-2026-88264).
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, Refusal, StepFailure, errno_text, quote
from pyrunc.linux import ids, tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, ExecRun, HostRun, InitRun

    class Size(TypedDict):
        height: int
        width: int

    Node = TypedDict(
        "Node",
        {"/process/terminal": bool, "/process/consoleSize": Size},
        total=False,
    )

    class Entry(TypedDict):
        size: list[int] | None  # rows, columns
        socket: str | None
        uid: int


POINTER: Final = "/process/terminal"
SIZE: Final = "/process/consoleSize"
CONNECT_SECONDS = 10


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/process/terminal": bool, "/process/consoleSize": {height, width}}. entry: {"size": [rows, columns] | None, "socket": path |
    None, "uid"} or None without a terminal; consoleSize is then ignored, as the spec requires. A size of zero counts as absent. Refused: a
    detached container with a terminal but no console socket, and vice versa; a size above 65535."""
    terminal = bool(node.get(POINTER, False))
    socket, options = ctx.options.get("console_socket"), ctx.options
    detached = options.get("command") == "create" or bool(options.get("detach"))
    if detached and terminal and not socket:
        raise Refusal(
            "console-socket",
            "cannot allocate tty if runc will detach without setting console socket",
            POINTER,
            "give --console-socket, or set terminal to false",
        )
    if socket and not (detached and terminal):
        raise Refusal(
            "console-socket",
            "cannot use console socket if runc will not detach or allocate tty",
            POINTER,
            "set terminal to true and detach, or drop --console-socket",
        )
    size = node.get(SIZE)
    if not terminal:
        if size is not None:
            ctx.warn(SIZE, "ignored, as there is no terminal")
        return None
    rows_columns = None
    if size is not None:
        for name, value in (("height", size["height"]), ("width", size["width"])):
            if not 0 <= value <= 0xFFFF:
                raise Refusal("console-size", "console %s %d is more than 65535" % (name, value), "%s/%s" % (SIZE, name))
        if size["height"] and size["width"]:
            rows_columns = [size["height"], size["width"]]
    return {"size": rows_columns, "socket": socket, "uid": ctx.plans["user"]["uid"]}


def host_connect(entry: Entry, run: HostRun) -> None:
    """Host, before the clone. Sets run.fds["console"]: a stream socket connected to the caller's listener; connecting waits only if the
    queue is full. A foreground run uses its own socket instead. Errors name the path; undo_connect closes it."""
    if not entry["socket"]:
        return
    try:
        run.fds["console"] = tty.connect(entry["socket"], CONNECT_SECONDS)
    except OSError as e:
        reasons = {
            errno.ENOTSOCK: "is not a socket", errno.ECONNREFUSED: "has no listener", errno.ENOENT: "is missing", errno.EINVAL: "is not a stream socket",
            errno.EAGAIN: "accepts no connection: its queue was full for %d seconds" % CONNECT_SECONDS,
        }  # fmt: skip
        words = "console socket %s %s" % (
            quote(entry["socket"]),
            reasons.get(e.errno or 0) or "cannot be connected: " + errno_text(e.errno),
        )
        raise StepFailure(
            "console-socket", words, pointer=POINTER, call=CallError.of(e, "open").call, errno=e.errno, path=entry["socket"]
        ) from e


def undo_connect(entry: Entry, run: HostRun) -> None:
    """Host: closes the socket, if it is still open."""
    fd = run.fds.pop("console", -1)
    if fd >= 0:
        posix.close(fd)


def init_open(entry: Entry, run: InitRun) -> None:
    """Init, inside the root, leader of its session. Opens the pty, makes it the controlling terminal and stdio, mounts it on /dev/console
    (only if the mount namespace is private), and sends the master. Uses run.root_fd, run.fds["console"] and the plan of `root`. If init is
    outside of the pid namespace, its child makes the terminal the controlling one (op_session). Everything disappears with the process and
    its mount namespace."""
    master, slave = _pair(run.root_fd)
    _settings(entry, slave)
    _give(slave, entry["uid"])
    root = run.plans.get("root", {})
    if root.get("mount_ns", True):
        _console(run.root_fd, slave)
    if not run.plans.get("namespaces", {}).get("outside"):
        tty.make_controlling(slave)
    for number in (0, 1, 2):
        posix.dup2(slave, number)
    posix.close(slave)
    console = run.fds.pop("console")
    tty.send_master(console, master)
    posix.close(console)
    posix.close(master)


def _pair(root_fd: int) -> tuple[int, int]:
    try:
        return tty.open_pair(root_fd)
    except OSError as e:
        words, hint = "cannot open a terminal in the container", None
        if e.errno in (errno.ENODEV, errno.ENOENT):
            words += ": /dev/pts is not a devpts of its own"
            hint = "mount one there: type devpts, options newinstance, ptmxmode=0666"
        else:
            words += ": " + errno_text(e.errno)
        raise StepFailure(
            "no-terminal", words, pointer=POINTER, call=CallError.of(e).call, errno=e.errno, path="/dev/pts/ptmx", hint=hint
        ) from e


def _settings(entry: Entry, slave: int) -> None:
    """Sets the size. Without a console socket the runtime relays the output, so output processing is turned off, as in runc."""
    if entry["size"]:
        tty.set_size(slave, *entry["size"])
    if not entry["socket"]:
        tty.keep_line_ends(slave)


def _give(slave: int, uid: int) -> None:
    """Changes the owner of the terminal to the user; its group remains that of the devpts."""
    try:
        posix.fchown(slave, uid, -1)
    except OSError as e:
        if e.errno not in (
            errno.EPERM,
            errno.EINVAL,
            errno.EROFS,
        ):  # the devpts of another user namespace; the descriptors work nevertheless
            raise CallError.of(e, "fchown") from None


def _console(root_fd: int, slave: int) -> None:
    try:
        tty.bind_console(root_fd, slave)
    except OSError as e:
        if e.errno == errno.EEXIST:
            words = "/dev/console in the container is neither a file nor a device"
        elif e.errno == errno.EXDEV:
            words = "/dev/console in the container was replaced"
        else:
            words = "cannot mount the terminal on /dev/console: " + errno_text(e.errno)
        raise StepFailure(
            "console-not-mounted", words, pointer=POINTER, call=CallError.of(e).call, errno=e.errno, path="/dev/console"
        ) from e


def exec_open(entry: Entry, run: ExecRun) -> None:
    """Host side of exec: puts "master" and "slave" into run.fds, in the devpts of the container with root run.root_fd and init run.init_pid,
    without a /dev/console. The child gets the slave as stdio; the master is sent over run.fds["console"]."""
    run.fds["master"], slave = _pair(run.root_fd)
    run.fds["slave"] = slave
    _settings(entry, slave)
    uid: int | None = entry["uid"]
    if run.plans.get("namespaces", {}).get("userns"):
        uid = ids.outer_uid(run.userns_pid, entry["uid"]) if run.userns_pid else None
    if uid is not None:  # without a mapping the process can't be started; op_ids reports that
        _give(slave, uid)
