"""/linux/intelRdt: the container's resctrl group, its shares of cache and memory bandwidth, and its monitoring group.

runtime-spec, config-linux.md#intelrdt; Documentation/filesystems/resctrl.rst. Invariant: a class of service named in the config is managed
by another program: it is joined and compared, never rewritten or removed. Without the property nothing is changed.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import Refusal, StepFailure, Unsupported, errno_text, quote
from pyrunc.parts.rdt import resctrl
from pyrunc.parts.rdt.statistics import stats as stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, HostRun, Json

    class Given(TypedDict, total=False):
        closID: str
        schemata: list[str]
        l3CacheSchema: str
        memBwSchema: str
        enableMonitoring: bool

    Node = TypedDict(
        "Node",
        {"/linux/intelRdt": Given},
        total=False,
    )

    class Entry(TypedDict):
        root: str  # mount point of resctrl
        group: str  # "" is the root group
        named: bool  # the config gave closID
        schemata: list[str]
        monitor: str | None  # name of the monitoring group

    class Record(TypedDict, total=False):
        made: bool
        monitor: bool


POINTER: Final = "/linux/intelRdt"
SECTION = "config-linux.md#intelrdt"
RESERVED = ("info", "mon_groups", "mon_data")


def plan(node: Node, ctx: Context) -> Entry | None:
    """Node: the intelRdt object. Entry: {"root": mount point, "group": name ("" is the root group), "named": the config gave closID,
    "schemata": [lines], "monitor": name of the monitoring group or None}.

    Refusals: a closID that is not a plain name, a schema that has more than one line or is for the wrong resource. Unsupported: no resctrl,
    or hardware without the resource."""
    rdt = node.get(POINTER)
    if rdt is None:
        return None
    root = resctrl.find_root()
    if root is None:
        raise Unsupported(
            "no-rdt",
            "intelRdt is specified in config, but Intel RDT is not enabled",
            POINTER,
            "a mounted resctrl file system",
        )
    closid = rdt.get("closID", "")
    _check_name(closid or ctx.id, "closID")
    lines = _schemata(rdt, root)
    group = "" if closid == "/" else closid or ctx.id
    monitor = ctx.id if rdt.get("enableMonitoring") else None
    return {"root": root, "group": group, "named": bool(closid), "schemata": lines, "monitor": monitor}


def _check_name(name: str, key: str) -> None:
    if name == "/":
        return
    if name in (".", "..") or "/" in name or name in RESERVED or len(name) > 255 or any(c < " " for c in name):
        raise Refusal(
            "bad-closid",
            "invalid intelRdt.ClosID %s" % quote(name),
            "%s/%s" % (POINTER, key),
            "use one plain name, or / for the root group",
            SECTION,
        )


def _schemata(rdt: Mapping[str, Json], root: str) -> list[str]:
    """The lines for the file `schemata`: l3CacheSchema and memBwSchema, then the property `schemata`."""
    lines = []
    for key, prefix, info, what in (("l3CacheSchema", "L3", "L3", "CAT"), ("memBwSchema", "MB:", "MB", "MBA")):
        line = rdt.get(key)
        if not line:
            continue
        pointer = "%s/%s" % (POINTER, key)
        _check_line(line, pointer)
        if not line.lstrip().startswith(prefix):
            raise Refusal("bad-schema", "%s does not begin with %s" % (quote(line), prefix), pointer, section=SECTION)
        if not any(resctrl.exists("%s/info/%s" % (root, name)) for name in ((info, "L3CODE") if info == "L3" else (info,))):
            raise Unsupported(
                "no-rdt-resource",
                "intelRdt.%s is specified in config, but Intel RDT/%s is not enabled" % (key, what),
                pointer,
                "Intel RDT/" + what,
            )
        lines.append(line)
    for number, line in enumerate(rdt.get("schemata", ())):
        _check_line(line, "%s/schemata/%d" % (POINTER, number))
        lines.append(line)
    return lines


def _check_line(line: str, pointer: str) -> None:
    if "\n" in line or "\0" in line or ":" not in line:
        raise Refusal("bad-schema", "%s is not one line of the form RESOURCE:DOMAIN=VALUE" % quote(line), pointer, section=SECTION)


# --- groups


def _path(entry: Entry) -> str:
    return "/".join(x for x in (entry["root"], entry["group"]) if x)


def host_make(entry: Entry, run: HostRun) -> None:
    """Host side, before the clone. Creates the group (and the monitoring group), after recording which of them are new. StepFailure: a
    named class that does not exist and has no schema in the config; no class left in the hardware. undo_make reverses it."""
    path = _path(entry)
    there = resctrl.exists(path)
    if not there and entry["named"] and not entry["schemata"]:
        raise StepFailure(
            "no-such-class",
            "the class of service %s does not exist" % quote(entry["group"]),
            pointer=POINTER + "/closID",
            path=path,
            hint="give it a schema, or create it first",
        )
    record = {"made": not there, "monitor": False}
    if entry["monitor"]:
        record["monitor"] = not resctrl.exists("%s/mon_groups/%s" % (path, entry["monitor"]))
    run.record("rdt", record)
    if not there:
        _mkdir(entry["root"], (), entry["group"], POINTER, "class of service")
    if record["monitor"]:
        _mkdir(entry["root"], (entry["group"], "mon_groups"), entry["monitor"] or "", POINTER + "/enableMonitoring", "monitoring group")


def _mkdir(root: str, above: tuple[str, ...], name: str, pointer: str, what: str) -> None:
    fd = resctrl.open_dir(root, *above)
    try:
        posix.mkdir(name, 0o755, dir_fd=fd)
    except OSError as e:
        if e.errno == errno.EEXIST:
            return
        text = "the hardware has none left" if e.errno == errno.ENOSPC else errno_text(e.errno)
        raise StepFailure(
            "group-not-made", "cannot make the %s %s: %s" % (what, quote(name), text), None, None, pointer, "mkdirat", e.errno, root
        ) from None
    finally:
        posix.close(fd)


def host_place(entry: Entry, run: HostRun) -> None:
    """Host side, while init waits. Moves run.pid, init or a process of exec, into the group; its children and threads start there too."""
    for names in resctrl.groups(entry):
        fd = resctrl.open_dir(entry["root"], *names)
        try:
            resctrl.write(fd, "tasks", "%d" % run.pid, "/".join((entry["root"],) + names))
        finally:
            posix.close(fd)


def host_apply(entry: Entry, run: HostRun) -> None:
    """Host side, before the hooks. Writes all schemata at once; those of an existing class are only compared. The StepFailure has the
    kernel's reason (info/last_cmd_status)."""
    if not entry["schemata"]:
        return
    record = _record(run)
    fd = resctrl.open_dir(entry["root"], entry["group"])
    try:
        if entry["named"] and not record.get("made"):
            _compare(entry, resctrl.read(fd, "schemata"))
            return
        _set(fd, entry, entry["schemata"])
    finally:
        posix.close(fd)


def _record(run: HostRun) -> Record:
    record: Record | None = run.state_dir.state.get("rdt") if run.state_dir is not None else None
    return record or {}


def _set(fd: int, entry: Entry, lines: list[str]) -> None:
    try:
        resctrl.write(fd, "schemata", "".join(line + "\n" for line in lines), _path(entry))
    except OSError as e:
        reason = resctrl.last_status(entry["root"]) or errno_text(e.errno)
        raise StepFailure(
            "schemata-not-set",
            "unable to set the schemata %s: %s" % (quote("; ".join(lines)), reason),
            None,
            None,
            POINTER,
            "write",
            e.errno,
            e.filename,
        ) from None


def _compare(entry: Entry, now: str) -> None:
    current = resctrl.parse(now.split("\n"))
    for line in entry["schemata"]:
        for resource, domains in resctrl.parse([line]).items():
            have = current.get(resource)
            for domain, value in domains.items():
                if have is None or have.get(domain) != value:
                    raise StepFailure(
                        "other-schema", "the class of service %s has another schema: %s is not %s=%s" % (quote(entry["group"]), resource, domain, value),
                        pointer=POINTER, path=_path(entry) + "/schemata", hint="a class that already existed is not changed",
                    )  # fmt: skip


def current(entry: Entry) -> dict[str, dict[str, str]]:
    """The group's current schemata, as resctrl.parse() returns them. OSError: it no longer exists."""
    fd = resctrl.open_dir(entry["root"], entry["group"])
    try:
        return resctrl.parse(resctrl.read(fd, "schemata").split("\n"))
    finally:
        posix.close(fd)


def is_value(entry: Entry, resource: str, wanted: str, seen: str | None) -> bool:
    """Whether a value equals the wanted one; the hardware rounds bandwidth up to its step size."""
    if wanted == seen or resource != "MB" or seen is None or not wanted.isdigit() or not seen.isdigit():
        return wanted == seen
    step: int = resctrl.info(entry["root"], "MB").get("bandwidth_gran", 1)
    return 0 <= int(seen) - int(wanted) < step


def updatable(entry: Entry | None) -> Entry:
    """The entry. Refusal if there is none: the container has no group whose schemata could be changed."""
    if entry is None:
        raise Refusal("no-rdt-group", "updating a non-existent Intel RDT configuration is not supported", POINTER)
    return entry


def update(entry: Entry, l3: str | None, mb: str | None, run: HostRun) -> Entry:
    """`update --l3-cache-schema/--mem-bw-schema`. Returns the new entry. StepFailure with the kernel's reason if it refuses the value."""
    lines = _schemata({"l3CacheSchema": l3 or "", "memBwSchema": mb or ""}, entry["root"])
    fd = resctrl.open_dir(entry["root"], entry["group"])
    try:
        _set(fd, entry, lines)
    finally:
        posix.close(fd)
    changed = {line.partition(":")[0].strip() for line in lines}
    kept = [line for line in entry["schemata"] if line.partition(":")[0].strip() not in changed]
    return {**entry, "schemata": lines + kept}


def undo_make(entry: Entry, run: HostRun) -> None:
    """Host side, after a failure and at delete. Removes the monitoring group that host_make created, and the group unless the config named
    it. Tolerates groups that no longer exist."""
    record = _record(run)
    if record.get("monitor") and entry["monitor"]:
        _rmdir(entry["root"], (entry["group"], "mon_groups"), entry["monitor"])
    if record.get("made") and not entry["named"] and entry["group"]:
        _rmdir(entry["root"], (), entry["group"])


def _rmdir(root: str, above: tuple[str, ...], name: str) -> None:
    try:
        fd = resctrl.open_dir(root, *above)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENODEV):
            return
        raise
    try:
        posix.rmdir(name, dir_fd=fd)
    except OSError as e:
        if e.errno != errno.ENOENT:
            raise
    finally:
        posix.close(fd)
