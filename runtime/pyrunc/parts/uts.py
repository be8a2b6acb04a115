"""/hostname, /domainname (runtime-spec, config.md#hostname, #domainname).

Invariant: names are set only in the container's UTS namespace, never in the host's.
"""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.errors import CallError, Refusal, quote
from pyrunc.linux import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.parts.sides import Context, InitRun

    Node = TypedDict(
        "Node",
        {"/hostname": str, "/domainname": str},
        total=False,
    )

    class Entry(TypedDict, total=False):
        hostname: str
        domainname: str


MAX = 64  # __NEW_UTS_LEN


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/hostname": text, "/domainname": text}; an empty one counts as absent. entry: {"hostname"?, "domainname"?} or None. Refused:
    any name without a uts namespace, new or joined (a path to the host's does not count, but is accepted if the name is the host's: then
    there is nothing to do); more than 64 bytes; control characters and NUL."""
    entry: Entry = {}
    for key, name in (("hostname", node.get("/hostname")), ("domainname", node.get("/domainname"))):
        if not name:
            continue
        if any(ord(c) < 32 or ord(c) == 127 for c in name):
            raise Refusal("control-characters", "%s %s has control characters" % (key, quote(name)), "/" + key)
        size = len(fileio.fsencode(name))
        if size > MAX:
            raise Refusal("name-too-long", "%s of %d bytes; the kernel takes %d" % (key, size, MAX), "/" + key)
        if key == "hostname":
            entry["hostname"] = name
        else:
            entry["domainname"] = name
    if not entry:
        return None
    spaces = ctx.plans.get("namespaces", {})
    first = "/" + next(iter(entry))
    if "uts" in spaces.get("new", ()) or "uts" in (spaces.get("join") or {}):
        return entry
    if "uts" in spaces.get("pointers", {}) and entry == {"hostname": posix.uname().nodename}:
        # podman: a pod that shares the host's uts namespace has its path and the host's name
        ctx.warn(first, "is the name of the host, whose uts namespace the container shares: nothing to do")
        return None
    raise Refusal(
        "no-uts-namespace",
        "unable to set %s without a private UTS namespace" % first[1:],
        first,
        'add {"type": "uts"} to /linux/namespaces, or remove the name',
    )


def init_set(entry: Entry, run: InitRun) -> None:
    """Init, in the namespace. OSError from sethostname or setdomainname. Undone with the namespace."""
    if "hostname" in entry:
        _syscalls.sethostname(entry["hostname"])
    if "domainname" in entry:
        try:
            _syscalls.setdomainname(entry["domainname"])
        except OSError as e:
            raise CallError.of(e, pointer="/domainname") from None
