"""/linux/sysctl (runtime-spec, config-linux.md#sysctl; sysctl(8), namespaces(7)).

Invariant: only settings that belong to a namespace of the container are written, each in the namespace that was planned, and through our
own procfs: a path below the container's /proc/sys may lead anywhere (CVE-2025-52881, CVE-2022-0811).
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError, Refusal, StepFailure, errno_text, escape_pointer, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, InitRun

    Node = TypedDict(
        "Node",
        {"/linux/sysctl": dict[str, str]},
        total=False,
    )

    class Entry(TypedDict):
        list: list[list[str]]  # name with dots, path, value
        foreign: dict[str, str]  # {namespace: link text of the caller's, from /proc/self/ns}


POINTER: Final = "/linux/sysctl"
IPC = frozenset(
    "kernel." + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)  # fmt: skip
LINKS = {"ipc": "ipc", "network": "net", "uts": "uts", "user": "user"}  # namespace of the config -> name below /proc/PID/ns
VALUE_MAX = 65535
SWAP = {ord("."): "/", ord("/"): "."}


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/linux/sysctl": {name: value}}; names with dots or slashes, as in sysctl(8).
    entry: {"list": [[name with dots, path below /proc/sys, value], …], "foreign": {namespace: link text of the caller's}} or None.
    Refused: names with empty, `.` or `..` components, NUL or control characters; values with newlines or NUL, or above 64 KiB; a setting
    given twice with different values; settings that are not namespaced, or whose namespace is not the container's; hostname, and a
    domainname other than /domainname: the config has properties for them."""
    rows: list[list[str]] = []
    seen: dict[str, str] = {}
    used: set[str] = set()
    for given, value in (node[POINTER] or {}).items():
        pointer = "%s/%s" % (POINTER, escape_pointer(quote(given, 100)))
        name, path = _name(given, pointer)
        _check_value(name, value, pointer)
        used.add(_namespace(name, value, pointer, ctx))
        if seen.setdefault(path, value) != value:
            raise Refusal("duplicate-sysctl", "sysctl %s is given twice, with different values" % _quoted(name), pointer)
        rows.append([name, path, value])
    if not rows:
        return None
    foreign = {space: _ours(space) for space in sorted(used)}
    return {"list": rows, "foreign": foreign}


def _name(given: str, pointer: str) -> tuple[str, str]:
    """(name with dots, path). The first separator decides: if it is a slash, the name is already a path, and dots are part of its
    components (net/ipv4/conf/eno2.100/rp_filter); if it is a dot, it is the other way round."""
    first = min((given.find(c) for c in "./" if c in given), default=-1)
    path = given if first >= 0 and given[first] == "/" else given.translate(SWAP)
    if not given or any(part in ("", ".", "..") for part in path.split("/")):
        raise Refusal("bad-name", "sysctl %s is not the name of a setting" % _quoted(given), pointer)
    if any(ord(c) < 32 or ord(c) == 127 for c in given):
        raise Refusal("control-characters", "control characters in the name of sysctl %s" % _quoted(given), pointer)
    return path.translate(SWAP), path


def _check_value(name: str, value: str, pointer: str) -> None:
    if any(c in value for c in "\0\n\r"):
        raise Refusal("bad-value", "sysctl %s: the value has a newline or NUL in it" % _quoted(name), pointer)
    if len(value) > VALUE_MAX:
        raise Refusal(
            "value-too-long",
            "sysctl %s: a value of %d characters" % (_quoted(name), len(value)),
            pointer,
            "%d at most" % VALUE_MAX,
        )


def _namespace(name: str, value: str, pointer: str, ctx: Context) -> str:
    """The namespace that the setting belongs to, after checking that it is the container's own."""
    if name in IPC or name.startswith("fs.mqueue."):
        return _need("ipc", ctx, "sysctl %s is not allowed in the hosts ipc namespace" % _quoted(name), pointer)
    if name.startswith("net."):
        return _need("network", ctx, "sysctl %s not allowed in host network namespace" % _quoted(name), pointer)
    if name.startswith("user."):
        return _need("user", ctx, "sysctl %s is not allowed without a user namespace" % _quoted(name), pointer)
    if name == "kernel.hostname" and _own("uts", ctx):
        raise Refusal(
            "sysctl-conflict",
            'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field',
            pointer,
            "use /hostname",
        )
    if name == "kernel.domainname":
        _need("uts", ctx, 'sysctl "kernel.domainname" is not in a separate kernel namespace', pointer)
        if ctx.plans.get("uts", {}).get("domainname", value) != value:
            raise Refusal(
                "sysctl-conflict",
                'sysctl "kernel.domainname" conflicts with the OCI "domainname" field',
                pointer,
                "leave one of them out",
            )
        return "uts"
    raise Refusal("not-namespaced", "sysctl %s is not in a separate kernel namespace" % _quoted(name), pointer, "it would change the host")


def _own(space: str, ctx: Context) -> bool:
    """Whether the container has its own namespace of this type, new or joined. A path to the caller's namespace is in neither list."""
    spaces = ctx.plans["namespaces"]
    return space in spaces["new"] or space in spaces["join"]


def _need(space: str, ctx: Context, words: str, pointer: str) -> str:
    if not _own(space, ctx):
        raise Refusal("no-namespace", words, pointer, 'add {"type": "%s"} to /linux/namespaces' % space)
    return space


def _ours(space: str) -> str:
    """The link text of the caller's namespace in /proc/self/ns, which init compares with its own."""
    return posix.readlink("/proc/self/ns/" + LINKS[space])


def _quoted(name: str) -> str:
    return '"%s"' % quote(name, 100)


def init_write(entry: Entry, run: InitRun) -> None:
    """Init, in its namespaces and before /proc/sys becomes read-only. Uses run.proc. First verifies that it is in none of the caller's
    namespaces that the settings belong to. Errors name the setting. Undone with the namespaces."""
    for space, link in entry["foreign"].items():
        if run.proc.readlink("thread-self/ns/" + LINKS[space]) == link:
            raise StepFailure(
                "callers-namespace", "sysctl: the %s namespace is still the caller's" % space, pointer=POINTER, call="readlinkat"
            )
    for name, path, value in entry["list"]:
        try:
            # an empty write(2) reaches no handler; a lone newline is how a shell clears a list
            run.proc.write("sys/" + path, fileio.fsencode(value) or b"\n")
        except OSError as e:
            raise _failure(name, value, e) from e


def _failure(name: str, value: str, e: OSError) -> StepFailure:
    hint = None
    if e.errno == errno.ENOENT:
        words = "there is no such setting in this kernel, or not in this namespace"
    elif e.errno == errno.EINVAL:
        words = "the kernel refuses the value %s: %s" % (_quoted(value), errno_text(e.errno))
    else:
        words = "writing %s: %s" % (_quoted(value), errno_text(e.errno))
        if e.errno in (errno.EACCES, errno.EPERM):
            hint = "the namespace may belong to another user namespace than the container's"
    pointer = "%s/%s" % (POINTER, escape_pointer(name))
    return StepFailure(
        "sysctl-not-set",
        "sysctl %s: %s" % (_quoted(name), words),
        pointer=pointer,
        call=CallError.of(e).call,
        errno=e.errno,
        path=e.filename,
        hint=hint,
    )
