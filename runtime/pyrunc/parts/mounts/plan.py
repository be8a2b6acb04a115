"""Plans /mounts (runtime-spec, config.md#mounts, config-linux.md): each element of the list becomes one item of plain data.

Invariant: everything that can be decided from the config alone is decided or refused here, with the pointer of the offending element. What
depends on the file system is left to the verbs, which check what they have opened.
"""

from __future__ import annotations

from pyrunc.errors import Refusal, quote
from pyrunc.fileio import fsencode
from pyrunc.linux import constants as c
from pyrunc.linux.mount import OLD_ONLY, VALUE_LIMIT
from pyrunc.linux.paths import clean
from pyrunc.parts.mounts import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict

    from pyrunc.parts.idmaps import Entry as IdMaps
    from pyrunc.parts.idmaps import Mapping
    from pyrunc.parts.mounts.options import Word
    from pyrunc.parts.sides import Context

    class Given(TypedDict, total=False):
        destination: str
        type: str
        source: str
        options: list[str]
        uidMappings: list[Mapping]
        gidMappings: list[Mapping]

    Node = TypedDict(
        "Node",
        {"/mounts": list[Given]},
        total=False,
    )

    class IdMap(TypedDict):
        recursive: bool
        uid: list[list[int]]  # empty: the maps of the container's user namespace
        gid: list[list[int]]

    class Item(TypedDict):
        pointer: str
        destination: str  # clean, absolute
        source: str
        type: str
        kind: str  # bind, fs, own, cgroup, remount
        flags: int
        clear: int
        propagation: list[int]
        rec_set: int
        rec_clr: int
        data: list[Word]
        copyup: bool
        late: bool  # becomes read-only at the very end
        idmap: IdMap | None
        label: str | None  # mqueue only
        links: list[str]  # crun's options about links

    class Entry(TypedDict):
        list: list[Item]
        userns: bool
        cgroupns: bool


PAGE = 4096  # the limit of mount(2) for all options together; fsconfig(2) limits each option
INVALID_ID = 0xFFFFFFFF
MAP_LINES = 340  # user_namespaces(7)
# Files below /proc that lxcfs and similar tools replace; nothing else may be mounted there.
BELOW_PROC = (
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
    "/proc/slabinfo", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
)  # fmt: skip
KINDS = {"proc": "own", "sysfs": "own", "cgroup": "cgroup"}
CONTEXTS = ("context=", "fscontext=", "defcontext=", "rootcontext=")


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/mounts": [...]} or {}. Entry: {"list": [item, …], "userns": bool, "cgroupns": bool}, None if there is nothing to mount.

    An item: pointer, destination (clean, absolute), source, type, kind (bind, fs, own, cgroup, remount), flags, clear, propagation,
    rec_set, rec_clr, data ([[word, index of the option or -1]]), copyup, late (becomes read-only at the very end), idmap (None or
    {"recursive", "uid", "gid"}), label (mqueue only), links (crun's options about links, a list of words).
    Refused: a user namespace without a mount namespace, and the option remount without one; a destination that is missing, `/`, or inside
    /proc; NUL and newline; a missing type; data on a bind mount, or more data than the kernel accepts; options that contradict each other;
    invalid id maps."""
    namespaces = ctx.plans["namespaces"]
    spaces = set(namespaces["new"]) | set(namespaces["join"])
    listed = node.get("/mounts") or []
    if listed and "mount" not in spaces and namespaces["userns"]:
        words = "mounts in a user namespace need a mount namespace"
        raise Refusal("no-mount-namespace", words, "/mounts/0", 'add {"type": "mount"} to /linux/namespaces')
    notify = ctx.plans.get("notify")
    if not listed and not notify:
        return None
    entry: Entry = {
        "list": [],
        "userns": bool(namespaces.get("userns")) or ctx.in_userns,
        "cgroupns": "cgroup" in spaces,
    }
    for index, mount in enumerate(listed):
        entry["list"].append(item(mount, "/mounts/%d" % index, ctx))
        if entry["list"][-1]["kind"] == "remount" and "mount" not in spaces:
            words = "the option remount needs a mount namespace: what is mounted there may be the host's"
            raise Refusal("no-mount-namespace", words, "/mounts/%d/options" % index, 'add {"type": "mount"} to /linux/namespaces')
    if notify:  # planned as the last mount of the config, because the host side may have to open its source
        entry["list"].append(item(notify["mount"], "/mounts/%d" % len(listed), ctx))
    return entry


def item(mount: Given, pointer: str, ctx: Context) -> Item:
    """One element of the list -> item."""
    parsed = options.parse(mount.get("options") or [])
    extensions = parsed["extensions"]
    made: Item = {
        "pointer": pointer,
        "destination": _destination(mount.get("destination"), pointer, ctx),
        "source": mount.get("source") or "",
        "type": mount.get("type") or "",
        "kind": "",
        "copyup": "tmpcopyup" in extensions,
        "late": False,
        "idmap": None,
        "label": None,
        "links": [word for word in extensions if word in ("copy-symlink", "src-nofollow", "dest-nofollow")],
        "flags": parsed["flags"],
        "clear": parsed["clear"],
        "propagation": parsed["propagation"],
        "rec_set": parsed["rec_set"],
        "rec_clr": parsed["rec_clr"],
        "data": parsed["data"],
    }
    kind = made["kind"] = _kind(made)
    _check_texts(mount, pointer)
    _check_kind(made)
    if made["propagation"]:
        _check_propagation(made)
    if kind == "bind":
        made["source"] = _absolute(made["source"], ctx.bundle)
    if extensions or "uidMappings" in mount or "gidMappings" in mount:
        made["idmap"] = _idmap(mount, made, extensions, ctx)
    made["late"] = kind == "fs" and bool(made["flags"] & c.MS_RDONLY) and (made["type"] == "tmpfs" or made["destination"] == "/dev")
    _label(made, ctx)
    _check_data(made, ctx)
    return made


def _destination(path: str | None, pointer: str, ctx: Context) -> str:
    pointer += "/destination"
    if not path:
        raise Refusal("no-destination", "the destination of a mount must not be empty", pointer)
    if "\0" in path or "\n" in path:
        raise Refusal("bad-destination", 'mount destination "%s" has a NUL byte or a line break' % quote(path), pointer)
    if path[0] != "/":
        ctx.warn(pointer, 'mount destination "%s" is not absolute: taken as /%s' % (quote(path), quote(path)))
    found = clean(path)
    root = ctx.plans.get("root", {}).get("path", "")
    if root and found.startswith(root) and found[len(root) :][:1] in ("", "/"):
        found = found[len(root) :] or "/"
        ctx.warn(pointer, 'mount destination "%s" begins with the path of the root: taken as %s' % (quote(path), quote(found)))
    if found == "/":
        words = 'mountpoint "%s" is on the top of rootfs' % quote(path)
        raise Refusal("destination-is-root", words, pointer, "mount below the root, or set /root/path to the source")
    size = len(fsencode(found))
    if size > 255 and (size >= PAGE or max(len(fsencode(name)) for name in found.split("/")) > 255):
        raise Refusal("path-too-long", 'mount destination "%s": file name too long' % quote(path), pointer)
    return found


def _absolute(path: str, bundle: str) -> str:
    """The source of a bind mount; a relative one starts at the bundle. Nothing else is changed: the host resolves links and `..`."""
    return path if path[:1] == "/" else bundle + "/" + path


def _kind(made: Item) -> str:
    if made["flags"] & c.MS_REMOUNT:
        return "remount"
    if made["flags"] & c.MS_BIND:
        return "bind"
    return KINDS.get(made["type"], "fs")


def _check_texts(mount: Given, pointer: str) -> None:
    words = mount.get("options") or []
    source, kind = mount.get("source") or "", mount.get("type") or ""
    texts = "".join([source, kind, *words])
    if "\0" not in texts and "\n" not in texts:
        return
    for name, text in (("source", source), ("type", kind)):
        if "\0" in text:
            raise Refusal("nul-byte", "a NUL byte in the %s of a mount" % name, "%s/%s" % (pointer, name))
    for index, word in enumerate(words):
        if "\0" in word or "\n" in word:
            raise Refusal(
                "mount-option", 'mount option "%s" has a NUL byte or a line break' % quote(word), "%s/options/%d" % (pointer, index)
            )


def _check_kind(made: Item) -> None:
    kind, fstype, destination, pointer = made["kind"], made["type"], made["destination"], made["pointer"]
    where = quote(destination)
    if kind == "bind":
        if not made["source"]:
            raise Refusal("no-source", 'bind mount on "%s" has no source' % where, pointer + "/source")
        if made["data"]:
            word, index = made["data"][0]
            words = 'bind mounts cannot have any filesystem-specific options applied: "%s"' % quote(word)
            raise Refusal("bind-with-data", words, "%s/options/%d" % (pointer, index), "remove it, or correct its spelling")
    elif kind != "remount" and not fstype:
        raise Refusal("no-type", 'mount on "%s" has no type' % where, pointer + "/type", 'give a type, or the option "bind"')
    if kind == "fs" and fstype == "bind":
        words = 'error mounting "%s" to rootfs at "%s": no such device: "bind" is not a file system' % (quote(made["source"]), where)
        raise Refusal("bind-as-type", words, pointer + "/type", 'add the option "bind" or "rbind"')
    if made["copyup"] and fstype != "tmpfs":
        raise Refusal(
            "copyup-without-tmpfs", 'tmpcopyup on "%s": only a tmpfs can take a copy of what it covers' % where, pointer + "/options"
        )
    if made["links"] and kind != "bind":
        raise Refusal("bind-option", 'option "%s" is for bind mounts only' % made["links"][0], pointer + "/options")
    if destination[:5] != "/proc":
        return
    if destination[5:6] == "/" and destination not in BELOW_PROC:
        raise Refusal("inside-proc", '"%s" cannot be mounted because it is inside /proc' % where, pointer + "/destination")
    if destination == "/proc" and kind != "bind" and fstype != "proc":
        raise Refusal("inside-proc", '"%s" cannot be mounted because it is not of type proc' % where, pointer + "/type")


def _check_propagation(made: Item) -> None:
    kinds = {flag & ~c.MS_REC for flag in made["propagation"]}
    if len(kinds) > 1:
        words = "a mount can have only one kind of propagation"
        raise Refusal(
            "several-propagations", words, made["pointer"] + "/options", "private, shared, slave or unbindable, with or without r"
        )


def _label(made: Item, ctx: Context) -> None:
    """Adds /linux/mountLabel to new file systems that support labels; files on bind mounts keep theirs."""
    labels = ctx.plans.get("labels", {})
    label = labels.get("mount")
    if not label or made["kind"] != "fs":
        return
    if made["type"] == "mqueue":
        made["label"] = label
    elif not any(word.startswith(CONTEXTS) for word, _index in made["data"]):
        made["data"].append(['%s="%s"' % (labels.get("context_type") or "context", label), -1])


def _check_data(made: Item, ctx: Context) -> None:
    words = made["data"]
    if not words:
        return
    size = sum([len(fsencode(word)) + 1 for word, _index in words])
    if size > VALUE_LIMIT:
        _check_size(made, words, size)
    maps = ctx.plans.get("idmaps")
    if maps:
        for word, index in words:
            _check_mapped(word, "%s/options/%d" % (made["pointer"], index), maps)


def _check_size(made: Item, words: list[Word], size: int) -> None:
    long = next((x for x in words if max(len(fsencode(part)) for part in x[0].partition("=")) > VALUE_LIMIT), None)
    lowest = long if long is not None and made["type"] == "overlay" and long[0].startswith("lowerdir=") else None
    if lowest is not None and not made["flags"] & OLD_ONLY:
        rest = [x for x in words if x is not lowest]
        long = next((x for x in rest if len(fsencode(x[0])) > VALUE_LIMIT), None) or next(
            (lowest for layer in lowest[0][9:].split(":") if len(fsencode(layer)) > VALUE_LIMIT), None
        )
    if size > PAGE and (long is not None or made["flags"] & OLD_ONLY or made["kind"] == "remount"):
        index = (long or words[0])[1]
        text = 'mount on "%s": %d bytes of options; the kernel takes %d' % (quote(made["destination"]), size - 1, PAGE - 1)
        raise Refusal(
            "options-too-long",
            text,
            "%s/options%s" % (made["pointer"], "/%d" % index if index >= 0 else ""),
            "shorten the longest of them",
        )


def _check_mapped(word: str, pointer: str, maps: IdMaps) -> None:
    """uid= and gid= of a file system are ids in the container. The kernel would only return EINVAL and not tell which option it means."""
    key, _, text = word.partition("=")
    if key not in ("uid", "gid") or not text.isascii() or not text.isdigit() or len(text) > 10:
        return
    if not any(first <= int(text) < first + count for first, _outer, count in (maps["uid"] if key == "uid" else maps["gid"])):
        raise Refusal("mount-option", 'mount option "%s": the id is not mapped in the user namespace' % quote(word), pointer)


def _idmap(mount: Given, made: Item, words: list[str], ctx: Context) -> IdMap | None:
    """None, or {"recursive", "uid", "gid"}; empty lists mean the maps of the container's own user namespace."""
    words = [word for word in words if word.startswith(("idmap", "ridmap"))]
    if not words and not mount.get("uidMappings") and not mount.get("gidMappings"):
        return None
    pointer = made["pointer"]
    uid = _lines(mount.get("uidMappings") or [], pointer + "/uidMappings")
    gid = _lines(mount.get("gidMappings") or [], pointer + "/gidMappings")
    last = words[-1] if words else "idmap"
    if made["kind"] != "bind":
        raise Refusal("id-map", "id-mapped mounts are only supported for bind-mounts", pointer)
    if ctx.euid != 0:
        raise Refusal("id-map", "id-mapped mounts are not supported for rootless containers", pointer, "run as root")
    if "=" in last:
        uid, gid = _syntax(last.partition("=")[2], "%s/options/%d" % (pointer, (mount.get("options") or []).index(last)), ctx)
    if bool(uid) != bool(gid):
        raise Refusal("id-map", "id-mapped mounts need both uidMappings and gidMappings", pointer)
    if not uid and not ctx.plans["namespaces"].get("userns"):
        text = "id-mapped mounts need mappings, their own or those of the container's user namespace"
        raise Refusal("id-map", text, pointer, "give uidMappings and gidMappings")
    return {"recursive": last[0] == "r", "uid": uid, "gid": gid}


def _lines(mappings: Sequence[Mapping], pointer: str) -> list[list[int]]:
    """[{"containerID", "hostID", "size"}] -> [[container, host, size]], checked as the kernel will."""
    made = [[m.get("containerID", 0), m.get("hostID", 0), m.get("size", 0)] for m in mappings]
    _check_map(made, pointer)
    return made


def _check_map(lines: list[list[int]], pointer: str) -> None:
    if len(lines) > MAP_LINES:
        raise Refusal("id-map", "an id map has at most %d lines" % MAP_LINES, pointer)
    for number, line in enumerate(lines):
        at = "%s/%d" % (pointer, number)
        if line[2] == 0 or line[0] + line[2] > INVALID_ID or line[1] + line[2] > INVALID_ID:
            raise Refusal("id-map", "id map %d %d %d: the size is 0, or it ends beyond 4294967294" % tuple(line), at)
        for other in lines[:number]:
            if any(line[side] < other[side] + other[2] and other[side] < line[side] + line[2] for side in (0, 1)):
                raise Refusal("id-map", "id map %d %d %d overlaps with another line" % tuple(line), at)


def _syntax(text: str, pointer: str, ctx: Context) -> tuple[list[list[int]], list[list[int]]]:
    """crun's form: uids=FILE-HOST-SIZE#…;gids=…; after a leading @, HOST is an id in the container."""
    uid: list[list[int]] = []
    gid: list[list[int]] = []
    own = ctx.plans.get("idmaps")
    for part in text.split(";"):
        key, _, lines = part.partition("=")
        if key not in ("uids", "gids"):
            raise Refusal("id-map", 'idmap: "%s" is neither uids= nor gids=' % quote(part), pointer)
        for line in lines.split("#"):
            numbers = line.removeprefix("@").split("-")
            if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and len(n) <= 10 for n in numbers):
                raise Refusal("id-map", 'idmap: "%s" is not FILE-HOST-SIZE' % quote(line), pointer)
            made = [int(n) for n in numbers]
            if line[:1] == "@":
                made[1] = _outer(made, [] if own is None else own["uid"] if key == "uids" else own["gid"], pointer)
            (uid if key == "uids" else gid).append(made)
    _check_map(uid, pointer)
    _check_map(gid, pointer)
    return uid, gid


def _outer(line: list[int], maps: list[list[int]], pointer: str) -> int:
    for inner, outer, count in maps:
        if inner <= line[1] and line[1] + line[2] <= inner + count:
            return outer + line[1] - inner
    raise Refusal("id-map", "idmap: the ids %d to %d are not mapped in the container" % (line[1], line[1] + line[2] - 1), pointer)
