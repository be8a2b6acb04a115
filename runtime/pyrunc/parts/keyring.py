"""No key of config.json: the session keyring of the container (keyrings(7), session-keyring(7)).

Its one rule: the container never sees the caller's keyring, nor one that somebody else made under its name.
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError, StepFailure, errno_text, quote
from pyrunc.linux import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.parts.sides import Context, ExecRun, InitRun, Op

    Node = dict[str, object]

    class Entry(TypedDict):
        name: str
        label: str | None
        userns: bool


KEYCTL_SETPERM = 5
USER_SEARCH, OTHER_SEARCH = 0x080000, 0x000008


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {}. entry: {"name": "_ses.ID", "label": SELinux label | None, "userns": bool}; None with --no-new-keyring. Refuses nothing."""
    if ctx.options.get("no_new_keyring"):
        return None
    label = ctx.plans.get("labels", {}).get("selinux")
    return {"name": "_ses." + ctx.id, "label": label, "userns": bool(ctx.plans.get("namespaces", {}).get("userns"))}


def init_join(entry: Entry, run: InitRun) -> None:
    """Init, as root of its user namespace: joins a new session keyring and lets the user search it (in a user namespace: everybody
    there, as ids are seen through the map). Uses run.proc for the label. A kernel without keyrings is fine; a keyring of that name that
    belongs to somebody else is a failure. Nothing to undo, it goes with its last process."""
    if entry["label"]:
        run.proc.write("thread-self/attr/keycreate", fileio.fsencode(entry["label"]))
    try:
        serial = _syscalls.join_session_keyring(entry["name"])
    except OSError as e:
        if e.errno == errno.ENOSYS:
            return
        words = "unable to join session keyring: %s" % errno_text(e.errno)
        raise CallError.of(e, words=words, hint="--no-new-keyring does without; the quota is in /proc/key-users") from None
    finally:
        if entry["label"]:
            run.proc.write("thread-self/attr/keycreate", b"\0")
    # type;uid;gid;permissions;name
    fields = _syscalls.keyctl_describe(serial).split(b";")
    if int(fields[1]) != posix.geteuid():
        words = "a session keyring %s of uid %d is there already" % (quote(entry["name"]), int(fields[1]))
        raise StepFailure("foreign-keyring", words, call="keyctl", hint="choose another container id, or --no-new-keyring")
    permissions = int(fields[3], 16) | (OTHER_SEARCH if entry["userns"] else USER_SEARCH)
    _syscalls.keyctl(KEYCTL_SETPERM, serial, permissions)


def exec_op(entry: Entry, run: ExecRun) -> Op:
    """("KEYRING", name), for exec: the one that the container has."""
    return ("KEYRING", fileio.fsencode(entry["name"]))
