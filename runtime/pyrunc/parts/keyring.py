"""No key of config.json: the session keyring of the container (keyrings(7), session-keyring(7)).

Invariant: the container never sees the caller's keyring, nor one that another process created under its name.
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

    from pyrunc.parts.sides import Context, ExecRun, HostRun, InitRun, Op

    Node = dict[str, object]

    class Entry(TypedDict):
        label: str | None
        userns: bool


KEYCTL_SETPERM = 5
POSSESSOR_ALL, USER_SEARCH, OTHER_SEARCH = 0x3F000000, 0x080000, 0x000008
NAME = "_ses.%s"
KEYCREATE = "thread-self/attr/keycreate"


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {}. entry: {"label": SELinux label | None, "userns": bool}; None with --no-new-keyring. Refuses nothing."""
    if ctx.options.get("no_new_keyring"):
        return None
    label = ctx.plans.get("labels", {}).get("selinux")
    return {"label": label, "userns": bool(ctx.plans.get("namespaces", {}).get("userns"))}


def host_name(entry: Entry, run: HostRun) -> None:
    """Host side, before the clone. Chooses the name: 128 random bits, because anyone who knows it could join the keyring or create it
    first. Stored in the state as `keyring`, for exec. Nothing to undo."""
    run.state_dir.state["keyring"] = NAME % posix.urandom(16).hex()


def init_join(entry: Entry, run: InitRun) -> None:
    """Init, as root of its user namespace: joins a new session keyring. Its user may search it, because exec has to join it (in a user
    namespace anyone may, as ids are seen through the map); processes that do not possess it may do nothing else, not even see it in
    /proc/keys. Uses run.state_dir, and run.proc for the label. A kernel without keyrings is accepted; a keyring that already exists is a
    failure. Nothing to undo: the keyring disappears with its last process."""
    name = run.state_dir.state["keyring"]
    if entry["label"]:
        _set_label(run, entry["label"])
    try:
        serial = _syscalls.join_session_keyring(name)
    except OSError as e:
        if e.errno == errno.ENOSYS:
            return
        words = "unable to join session keyring: %s" % errno_text(e.errno)
        raise CallError.of(e, words=words, hint="use --no-new-keyring; the quota is in /proc/key-users") from None
    finally:
        if entry["label"]:
            run.proc.write(KEYCREATE, b"\0")
    # type;uid;gid;permissions;name
    fields = _syscalls.keyctl_describe(serial).split(b";")
    if int(fields[1]) != posix.geteuid():
        words = "a session keyring %s of uid %d exists already" % (quote(name), int(fields[1]))
        raise StepFailure("foreign-keyring", words, call="keyctl", hint="try again, or use --no-new-keyring")
    _syscalls.keyctl(KEYCTL_SETPERM, serial, POSSESSOR_ALL | (OTHER_SEARCH if entry["userns"] else USER_SEARCH))


def _set_label(run: InitRun, label: str) -> None:
    """Sets the label of keys that are created from here on. It is written here first, so an unknown label is reported here."""
    try:
        run.proc.write(KEYCREATE, fileio.fsencode(label))
    except OSError as e:
        words = "unable to set the label of the session keyring: write to `/proc/%s`: %s is refused: %s"
        words %= (KEYCREATE, quote(label, 100), errno_text(e.errno))
        raise CallError.of(e, words=words, pointer="/process/selinuxLabel", hint="does the SELinux policy know the label?") from None


def exec_op(entry: Entry, run: ExecRun) -> Op:
    """("KEYRING", name), for exec: the container's keyring, or a new one if none is recorded; never the caller's."""
    name = run.container.state.get("keyring") or NAME % posix.urandom(16).hex()
    return ("KEYRING", fileio.fsencode(name))
