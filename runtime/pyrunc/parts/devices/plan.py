"""Plans the nodes and links of a container."""

from __future__ import annotations

import posix

from pyrunc.errors import Refusal, quote
from pyrunc.linux import constants as c
from pyrunc.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context

    class Given(TypedDict, total=False):
        type: str
        path: str
        major: int
        minor: int
        fileMode: int
        uid: int
        gid: int

    Node = TypedDict(
        "Node",
        {"/linux/devices": list[Given]},
        total=False,
    )

    class Device(TypedDict):
        path: str
        type: str
        major: int
        minor: int
        mode: int
        uid: int
        gid: int
        pointer: str

    class Entry(TypedDict):
        nodes: list[Device]
        links: list[list[str]]  # [name, target]
        dev: bool  # the runtime populates /dev
        own_dev: bool  # the config mounts a new file system on /dev
        bind: bool  # the host's nodes are bind-mounted, because mknod is not allowed (user namespace)
        mount_ns: bool


POINTER: Final = "/linux/devices"
DEFAULTS = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"))
CORE = ("core", "/proc/kcore")
PRIVATE = ("tmpfs", "ramfs")  # each mount of these types is a new file system
TYPES = {"c": c.S_IFCHR, "u": c.S_IFCHR, "b": c.S_IFBLK, "p": c.S_IFIFO}
MAJOR_LIMIT, MINOR_LIMIT = 1 << 12, 1 << 20  # the kernel's number of bits; larger values would be truncated silently


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/linux/devices": [...]} or {}. Entry: {"nodes": [{"path", "type", "major", "minor", "mode", "uid", "gid", "pointer"}],
    "links": [[name, target]], "dev": whether the runtime populates /dev, "own_dev": whether the config mounts a new file system there,
    "bind": the host's nodes are bind-mounted instead of created (user namespace), "mount_ns": bool}; None if there is nothing to do.
    Refused: an unknown type; a path that is relative, is / or contains ..; numbers that are missing or too large; two different devices for
    one path; a /dev/null that is not c 1:3; ids that are not mapped."""
    namespaces = ctx.plans["namespaces"]
    mounts = ctx.plans.get("mounts")
    listed = mounts["list"] if mounts else []
    below_dev = [m for m in listed if m["destination"] == "/dev" and m["kind"] != "remount"]
    own_dev = bool(below_dev) and below_dev[-1]["kind"] == "fs" and below_dev[-1]["type"] in PRIVATE
    entry: Entry = {
        "nodes": [],
        "links": [],
        "dev": own_dev or not below_dev,
        "own_dev": own_dev,
        "bind": bool(namespaces.get("userns")) or ctx.in_userns,
        "mount_ns": "mount" in namespaces["new"] or "mount" in namespaces["join"],
    }
    given = _given(node.get(POINTER) or [], ctx)
    if entry["dev"]:
        for path, major, minor in DEFAULTS:
            if path not in given:
                entry["nodes"].append(make_node(path, "c", major, minor, 0o666, 0, 0, POINTER))
        entry["links"] = [list(link) for link in LINKS] + ([list(CORE)] if _exists("/proc/kcore") else [])
    for path, made in given.items():
        if entry["dev"] or not path.startswith("/dev/"):
            entry["nodes"].append(made)
        else:
            ctx.warn(
                made["pointer"], "%s is not created: /dev is a mount that others see too, so its contents are not changed" % quote(path)
            )
    return entry if entry["nodes"] or entry["links"] else None


def make_node(path: str, kind: str, major: int, minor: int, mode: int, uid: int, gid: int, pointer: str) -> Device:
    return {"path": path, "type": kind, "major": major, "minor": minor, "mode": mode, "uid": uid, "gid": gid, "pointer": pointer}


def _given(devices: list[Given], ctx: Context) -> dict[str, Device]:
    """The config's list as {path: node}, in the same order."""
    given: dict[str, Device] = {}
    for index, device in enumerate(devices):
        pointer = "%s/%d" % (POINTER, index)
        made = planned(device, pointer, ctx)
        path = made["path"]
        if path == "/dev/ptmx" or (path == "/dev/console" and ctx.plans.get("terminal")):
            continue  # the link to our devpts, or the terminal, takes its place
        if path in given and _identity(made) != _identity(given[path]):
            raise Refusal(
                "duplicate-device",
                "two different devices for the path %s" % quote(path),
                pointer,
                "the other is %s" % given[path]["pointer"],
            )
        if path == "/dev/null" and _identity(made) != ("c", 1, 3):
            raise Refusal("bad-null-device", "/dev/null must be c 1:3", pointer, "masked paths and stdio depend on it")
        given.setdefault(path, made)
    return given


def _identity(node: Device) -> tuple[str, int, int]:
    return node["type"], node["major"], node["minor"]


def planned(device: Given, pointer: str, ctx: Context) -> Device:
    kind = device.get("type")
    if kind not in TYPES:
        raise Refusal("unknown-device-type", 'invalid device type "%s"' % quote(kind or ""), pointer + "/type", "c, b, u or p")
    path = device.get("path") or ""
    if path[:1] != "/" or ".." in path.split("/") or "\0" in path or "\n" in path or paths.clean(path) == "/":
        raise Refusal(
            "bad-device-path", 'device path "%s" must be absolute, below the root and without ..' % quote(path), pointer + "/path"
        )
    numbers = []
    for key, value, limit in (("major", device.get("major"), MAJOR_LIMIT), ("minor", device.get("minor"), MINOR_LIMIT)):
        if value is None and kind == "p":
            value = 0
        if value is None:
            raise Refusal("no-device-number", "device %s has no %s number" % (quote(path), key), pointer, "give /%s" % key)
        if not 0 <= value < limit:
            raise Refusal(
                "device-number-range",
                "device %s: %s %d is not between 0 and %d" % (quote(path), key, value, limit - 1),
                "%s/%s" % (pointer, key),
            )
        numbers.append(value if kind != "p" else 0)
    mode = device.get("fileMode", 0o666)
    if not 0 <= mode <= 0o7777:
        raise Refusal("bad-file-mode", "device %s: fileMode %o is more than 7777 (octal)" % (quote(path), mode), pointer + "/fileMode")
    uid, gid = device.get("uid", 0), device.get("gid", 0)
    maps = ctx.plans.get("idmaps")
    for key, value, ranges in (("uid", uid, maps["uid"]), ("gid", gid, maps["gid"])) if maps else ():
        if not any(first <= value < first + count for first, _outer, count in ranges):
            raise Refusal(
                "unmapped-id",
                "device %s: %s %d is not mapped in the user namespace" % (quote(path), key, value),
                "%s/%s" % (pointer, key),
            )
    return make_node(paths.clean(path), "c" if kind == "u" else kind, numbers[0], numbers[1], mode, uid, gid, pointer)


def _exists(path: str) -> bool:
    try:
        return bool(posix.stat(path))
    except OSError:
        return False
