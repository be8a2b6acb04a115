"""No key of config.json: --preserve-fds, LISTEN_FDS (sd_listen_fds(3)), and the container's stdio.

Invariant: the container inherits only descriptors that the caller passed under the agreed numbers, never one that the runtime opened itself
(CVE-2024-21626), and nothing is chowned or replaced before its type has been checked (CVE-2026-88265).
"""

from __future__ import annotations

import errno
import posix
from _struct import pack

from pyrunc.errors import CallError, Refusal, StepFailure, errno_text
from pyrunc.linux import fds as descriptors
from pyrunc.linux import fs, ids, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Context, ExecRun, InitRun

    Node = dict[str, object]

    class Entry(TypedDict):
        keep: list[int]  # descriptors that stay open under their numbers, ascending
        listen: int  # how many of them LISTEN_FDS announces
        uid: int  # owner of stdio


FIRST = 3
GIVEN = (fs.S_IFIFO, fs.S_IFSOCK)


def plan(node: Node, ctx: Context) -> Entry:
    """node: {}. entry: {"keep": the descriptors that stay open, "listen": how many of them LISTEN_FDS announces, "uid": the owner of stdio}.
    --preserve-fds N keeps those of 3 to N+2 that were open when the runtime was started, and leaves the others closed: podman's
    --preserve-fd=9,40 arrives as N = 38. If LISTEN_FDS is given too, the larger number counts: podman passes both for the same descriptor.
    Refused: one that LISTEN_FDS announces is not open, by the list in ctx.options, which was taken before the runtime opened anything."""
    listen = ctx.options.get("listen_fds") or 0
    end = FIRST + max(listen, ctx.options.get("preserve_fds") or 0)
    keep = [fd for fd in ctx.options.get("inherited_fds") or () if FIRST <= fd < end]
    for index, fd in enumerate(range(FIRST, FIRST + listen)):
        if keep[index : index + 1] != [fd]:
            words = "unable to stat preserved-fd %d (of %d): %s" % (index, listen, errno_text(errno.EBADF))
            raise Refusal("descriptor-not-open", words, None, "descriptor %d was not open when the runtime was started (LISTEN_FDS)" % fd)
    return {"keep": keep, "listen": listen, "uid": ctx.plans["user"]["uid"]}


def init_null(entry: Entry, run: InitRun) -> None:
    """Init, inside the root: if a standard stream is the host's null device, it is reopened as the container's /dev/null; both must be c
    1:3. Uses run.root_fd, run.proc. A /dev/null that is missing or is not the null device is a failure."""
    null = [number for number in (0, 1, 2) if fs.char_device(fs.fstat(number)) == fs.NULL_DEVICE]
    if not null:
        return
    node = -1
    try:
        node = paths.resolve(run.root_fd, "/dev/null", posix.O_PATH | posix.O_NOFOLLOW)
        if fs.char_device(fs.fstat(node)) != fs.NULL_DEVICE:
            raise StepFailure(
                "bad-null-device",
                "/dev/null in the container is not the null device (c 1:3)",
                pointer="/mounts",
                call="fstat",
                path="/dev/null",
            )
        fd = run.proc.reopen(node, posix.O_RDWR | posix.O_NOCTTY)
    except OSError as e:
        words = "cannot open /dev/null in the container: " + errno_text(e.errno)
        raise StepFailure("no-null-device", words, pointer="/mounts", call=CallError.of(e).call, errno=e.errno, path="/dev/null") from e
    finally:
        if node >= 0:
            posix.close(node)
    for number in null:
        posix.dup2(fd, number)
    posix.close(fd)


def init_stdio_owner(entry: Entry, run: InitRun) -> None:
    """Init: clears close-on-exec on the descriptors to keep. Then changes the owner of stdio to the user, so that /dev/stdout can be
    reopened (nginx logs there): only of pipes and sockets, which engines create for the container. The caller keeps using a terminal or a
    file, and a new owner could read what is typed or change what was logged. EPERM, EINVAL (owner without a mapping) and EROFS are ignored,
    as in runc."""
    descriptors.hand_on(entry["keep"])
    _give(entry["uid"])


def exec_owner(entry: Entry, run: ExecRun) -> None:
    """Host side of exec: the same for the descriptors to keep and for our own stdio, which the new process inherits unless it gets a
    terminal. The user's id is translated by the id map of run.userns_pid."""
    descriptors.hand_on(entry["keep"])
    uid: int | None = entry["uid"]
    if run.plans.get("namespaces", {}).get("userns"):
        uid = ids.outer_uid(run.userns_pid, entry["uid"]) if run.userns_pid else None
    if uid is not None and inherits_stdio(run.plans):
        _give(uid)


def _give(uid: int) -> None:
    for number in (0, 1, 2):
        info = fs.fstat(number)
        if info.st_uid == uid or info.st_mode & fs.S_IFMT not in GIVEN:
            continue
        try:
            posix.fchown(number, uid, -1)
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.EINVAL, errno.EROFS):
                raise CallError.of(e, "fchown") from None


def inherits_stdio(plans: Plans) -> bool:
    """Whether the container's standard streams are the caller's: it has no terminal."""
    return "terminal" not in plans


def controlling(plans: Plans) -> int:
    """The descriptor of the controlling terminal, as SESSION takes it (csrc/ops.h); -1 without one."""
    return -1 if inherits_stdio(plans) else 0


def streams_of(pid: int | str) -> list[str]:
    """The files of the descriptors 0, 1 and 2 of a process, "self" for ours: "pipe:[1234]", "/dev/pts/0"; "" for one that is closed."""
    found = []
    for number in (0, 1, 2):
        try:
            found.append(posix.readlink("/proc/%s/fd/%d" % (pid, number)))
        except OSError:
            found.append("")
    return found


def kept(plans: Plans) -> bytes:
    """The descriptors that the program inherits besides 0, 1 and 2, as CLOSE takes them (csrc/ops.h)."""
    keep = plans["fds"]["keep"]
    return pack("=%di" % len(keep), *keep) if keep else b""
