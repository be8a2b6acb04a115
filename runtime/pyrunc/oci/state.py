"""The state document (runtime.md#state): what `state` and `list` print and what hooks read. Field order is runc's.

Invariant: `ociVersion` is the version that we implement, not the config's; `pid` is the host's, and always a number in output. `state`
prints the document of the schema plus runc's rootfs, created and owner; `paused` is an additional status that other runtimes have too.
"""

from __future__ import annotations

from pyrunc import fileio
from pyrunc.oci.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.state_document import State

    class _Optional(TypedDict, total=False):
        pid: int  # the host's; for hooks, the pid in the hook's pid namespace, and absent if there is none
        rootfs: str
        created: str
        annotations: dict[str, str]
        owner: str
        ended: dict[str, object]  # how a stopped container exited, if that is known

    class Document(_Optional):
        """runtime.md#state, and runc's additions."""

        ociVersion: str
        id: str
        status: str
        bundle: str


def for_state(state: State, status: str) -> Document:
    """state: the stored state (id, pid, bundle, rootfs, created, annotations) -> the object that `state` prints."""
    return document(state, status, "")


def for_list(state: State, status: str) -> Document:
    """One row of `list`: the same, with the name of the owner."""
    return document(state, status, owner_name(state.get("owner", 0)))


def document(state: State, status: str, owner: str) -> Document:
    out: Document = {
        "ociVersion": VERSION,
        "id": state["id"],
        "pid": 0 if status == "stopped" else state["pid"],
        "status": status,
        "bundle": state["bundle"],
        "rootfs": state["rootfs"],
        "created": state["created"],
    }
    if state.get("annotations"):
        out["annotations"] = state["annotations"]
    out["owner"] = owner
    return out


def for_hooks(id: str, status: str, pid: int | None, bundle: str, annotations: dict[str, str] | None) -> Document:
    """What a hook gets on standard input. pid: in the hook's pid namespace; left out if there is none (poststop)."""
    if pid and status != "stopped":
        out: Document = {"ociVersion": VERSION, "id": id, "status": status, "pid": pid, "bundle": bundle}
    else:
        out = {"ociVersion": VERSION, "id": id, "status": status, "bundle": bundle}
    if annotations:
        out["annotations"] = annotations
    return out


def owner_name(uid: int) -> str:
    """The user's name from /etc/passwd, without NSS, which loads libraries. `#uid` if there is none, as in runc."""
    try:
        lines = fileio.read_file("/etc/passwd", 4 << 20).split(b"\n")
    except OSError:
        lines = []
    for line in lines:
        fields = line.split(b":")
        if len(fields) > 2 and fields[2] == b"%d" % uid:
            return fileio.fsdecode(fields[0])
    return "#%d" % uid
