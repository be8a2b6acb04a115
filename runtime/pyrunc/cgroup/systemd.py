"""Cgroups managed by systemd: names of slices and scopes, and creating, changing and removing a transient unit.

org.freedesktop.systemd1(5), systemd.resource-control(5), systemd.scope(5). Invariant: every limit that has a systemd property is passed to
systemd, which would reset it at its next reload otherwise; all limits are also written to the files. At delete, a recorded unit is stopped
and its failed state reset. systemd_manager.py communicates with systemd.
"""

from __future__ import annotations

import posix

from pyrunc.cgroup import fs, hierarchies, tree
from pyrunc.cgroup.systemd_manager import NAME, POINTER, Manager, bus_address
from pyrunc.errors import Refusal, StepFailure, Unsupported, quote
from pyrunc.fileio import fsdecode, read_file
from pyrunc.linux import dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.cgroup.fs import Record
    from pyrunc.cgroup.hierarchies import Layout
    from pyrunc.cgroup.limits_update import Resources
    from pyrunc.cgroup.shapes import Context, Places, Run
    from pyrunc.cgroup.systemd_manager import Unit
    from pyrunc.cgroup.unit_properties import Property
    from pyrunc.linux.dbus import Value

SECTION = "config-linux.md#cgroups-path"
PREFIX = "pyrunc"
UNIT_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.@\\")


# --- names


def plan(entry: Places, given: str, ctx: Context, layout: Layout, annotations: Mapping[str, str]) -> None:
    """Completes the entry of parts/cgroups: paths, mounts and "unit": {"name", "slice", "user": whether a user manager has it,
    "properties": [[name, signature, value]] from annotations}. Refusals: a path that is not slice:prefix:name, invalid names."""
    if layout.version is None:
        raise Unsupported("no-cgroups", "no cgroup hierarchy is mounted", POINTER, "cgroups", "mount cgroup2 on /sys/fs/cgroup")
    user = entry["rootless"]
    if user and layout.version != 2:
        raise Unsupported("rootless-needs-v2", "rootless systemd cgroups need cgroup v2", POINTER, "cgroup v2")
    slice_name, prefix, name = _fields(given, ctx.id, user)
    below = expand(slice_name)
    unit = unit_name(prefix, name)
    top = _manager_cgroup(layout, ctx.euid) if user else ""
    for key, mount in layout.mounts.items():
        entry["paths"][key] = mount[0] + top + below.rstrip("/") + "/" + unit
        entry["mounts"][key] = mount[0]
    entry["unit"] = {
        "name": unit,
        "slice": slice_name,
        "user": user,
        "properties": properties_of(annotations),
        "below": below.rstrip("/") + "/" + unit,
    }
    timeout_s = ctx.options.get("systemd_timeout")
    if type(timeout_s) is float:
        entry["unit"]["timeout_ms"] = max(1, round(timeout_s * 1000))


def _fields(given: str, id: str, user: bool) -> tuple[str, str, str]:
    if not given:
        return ("user.slice" if user else "system.slice"), PREFIX, id
    fields = given.split(":")
    if len(fields) != 3 or not fields[2]:
        words = 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got %s instead' % quote('"%s"' % given)
        raise Refusal("cgroups-path-format", words, POINTER, "for example system.slice:%s:%s" % (PREFIX, id), SECTION)
    return fields[0] or ("user.slice" if user else "system.slice"), fields[1], fields[2]


def unit_name(prefix: str, name: str) -> str:
    """<prefix>-<name>.scope, or just the name for a slice; characters that are not allowed in unit names are escaped."""
    if "/" in prefix + name:
        raise Refusal(
            "unit-name-slash", "a systemd unit can't have a slash in its name: %s" % quote(prefix + ":" + name), POINTER, section=SECTION
        )
    unit = name if name.endswith(".slice") else "%s%s.scope" % (prefix + "-" if prefix else "", name)
    if unit.endswith(".slice"):
        expand(unit)
    unit = "".join(c if c in UNIT_CHARS else "".join("\\x%02x" % b for b in c.encode("utf-8", "surrogateescape")) for c in unit)
    if len(unit) > 255:
        raise Refusal(
            "unit-name-too-long",
            "the systemd unit %s would have a name of %d bytes, at most 255 are possible" % (quote(unit, 60), len(unit)),
            POINTER,
            section=SECTION,
        )
    return unit


def expand(name: str) -> str:
    """a-b-c.slice -> /a.slice/a-b.slice/a-b-c.slice; -.slice is the root."""
    stem = name[: -len(".slice")]
    if not name.endswith(".slice") or not stem or "/" in name:
        raise Refusal(
            "invalid-slice-name", "invalid slice name: %s" % quote(name), POINTER, "a slice ends with .slice and has no slash", SECTION
        )
    if stem == "-":
        return "/"
    path, before = "", ""
    for part in stem.split("-"):
        if not part:
            raise Refusal("invalid-slice-name", "invalid slice name: %s" % quote(name), POINTER, "a dash stands between two names", SECTION)
        path += "/%s%s.slice" % (before, part)
        before += part + "-"
    return path


def _manager_cgroup(layout: Layout, euid: int) -> str:
    """The cgroup of our user manager, guessed from our own cgroup; the manager is asked for it when the scope is created."""
    names = layout.own.get("unified", "").split("/")
    for number, name in enumerate(names):
        if name.startswith("user@") and name.endswith(".service"):
            return "/".join(names[: number + 1])
    return "/user.slice/user-%d.slice/user@%d.service" % (euid, euid)


MOST_SECONDS = (1 << 64) // 1000000  # microseconds are kept in 64 bits


def properties_of(annotations: Mapping[str, str]) -> list[Property]:
    """Annotations org.systemd.property.NAME -> [[name, signature, value]], sorted."""
    from pyrunc.cgroup import gvariant

    out = []
    for key, text in sorted(annotations.items()):
        if not key.startswith("org.systemd.property."):
            continue
        name = key[len("org.systemd.property.") :]
        pointer = "/annotations/" + quote(key, 100)
        if len(name) < 3 or not name.isascii() or not name.isalpha():
            raise Refusal(
                "property-name",
                "annotation %s: the name of a property has three letters at least, and only letters" % quote(key, 100),
                pointer,
            )
        try:
            kind, value = gvariant.parse(text)
        except gvariant.Unreadable as e:
            raise Refusal(
                "property-not-gvariant", "annotation %s: %s is not GVariant text: %s" % (quote(key, 100), quote(text, 60), e), pointer
            ) from None
        found = _seconds(name, kind, value)
        if found is None or _has_doubles(found[1], found[2]):
            raise Refusal(
                "property-range", "annotation %s: %s is not a value that systemd can have" % (quote(key, 100), quote(text, 60)), pointer
            )
        out.append(found)
    return out


def _has_doubles(kind: str, value: Value) -> bool:
    """Whether there is a double: no unit property is one, and the state can't represent them."""
    if "d" in kind:
        return True
    if kind == "v":
        return _has_doubles(*value)
    return "v" in kind and any(_has_doubles("v", one) for one in value if type(one) is tuple)


def _seconds(name: str, kind: str, value: Value) -> Property | None:
    """Converts a property in seconds to one in microseconds, as on the bus; None if the time can't be represented."""
    if len(name) > 3 and name.endswith("Sec") and not name.endswith("USec") and name[-4].islower() and kind in "nqiuxtd":
        if not -MOST_SECONDS < value < MOST_SECONDS:  # also catches NaN
            return None
        return [name[:-3] + "USec", "t", max(0, int(value * 1000000))]
    return [name, kind, value]


# --- the unit


def host_make(entry: Places, run: Run) -> None:
    """Before the clone there is no process for the scope, so this only records what will be created."""
    unit = dict(entry["unit"])
    unit["address"] = bus_address(run.host_env) if unit["user"] else None
    paths = dict(entry["paths"])
    if unit["user"]:
        manager = Manager(unit)
        try:
            paths = {"unified": entry["mounts"]["unified"] + manager.get("ControlGroup").rstrip("/") + unit["below"]}
        finally:
            manager.close()
    _check_unused(paths)
    existed = {key: tree.survey(entry["mounts"][key], path, key) for path, key in fs.unique(paths).items()}
    run.record("cgroup_paths", paths)
    run.record("cgroups", {"mounts": entry["mounts"], "existed": existed, "inodes": {}, "unit": unit})


def _check_unused(paths: Mapping[str, str]) -> None:
    pids = {pid for path, key in fs.unique(paths).items() for pid in fs.procs_below(path, key)}
    if pids:
        raise StepFailure(
            "cgroup-busy",
            "container's cgroup is not empty: %d process(es) found" % len(pids),
            pointer=POINTER,
            path=next(iter(paths.values())),
        )


def host_place(entry: Places, run: Run) -> None:
    """Starts the scope with init in it, and on v1 moves init into the hierarchies that systemd does not use."""
    state = run.state_dir.state
    unit = state["cgroups"]["unit"]
    manager = Manager(unit)
    try:
        _start(manager, unit, entry, run)
    finally:
        manager.close()
    paths = state["cgroup_paths"]
    if entry["version"] == 2:
        from pyrunc.cgroup import v2

        _check_place(paths["unified"], run.pid)
        state["cgroups"]["inodes"]["unified"] = _inode(paths["unified"])  # saved with the next change of the state
        # systemd enables its own controllers for children; we have to enable the others (hugetlb, rdma)
        tree.make(entry["mounts"]["unified"], paths["unified"], "unified", v2.preparer(run.plans.get("resources") or {}))
        return
    from pyrunc.cgroup import v1

    for path, key in fs.unique(paths).items():
        prepare = v1.preparer(key, run.plans.get("resources") or {}) if key in ("cpu", "cpuset") else None
        state["cgroups"]["inodes"][key] = tree.make(entry["mounts"][key], path, key, prepare)[1]
        tree.enter(path, key, run.pid)


def _start(manager: Manager, unit: Unit, entry: Places, run: Run) -> None:
    from pyrunc.cgroup import unit_properties

    properties = unit_properties.of_scope(unit, entry, run, manager.version)
    given = [(name, (kind, value)) for name, kind, value in properties]
    values: tuple[Value, ...] = (unit["name"], "replace", given, [])
    for attempt in (1, 2):
        try:
            manager.job("StartTransientUnit", unit["name"], "ssa(sv)a(sa(sv))", values, "start")
            return
        except dbus.DBusError as e:
            if e.name != NAME + ".UnitExists" or attempt == 2:
                if e.name == NAME + ".UnitExists":  # it belongs to someone else, so undo_make must not touch it
                    run.record("cgroup_paths", {})
                    run.record("cgroups", {})
                hint = "another container may use this cgroupsPath" if e.name == NAME + ".UnitExists" else _suspects(unit)
                raise StepFailure(
                    "unit-not-started",
                    "unable to start unit %s: %s" % (quote(unit["name"]), e),
                    pointer=POINTER,
                    call="dbus",
                    path=unit["name"],
                    hint=hint,
                ) from None
        _reset_failed(manager, unit["name"])


def _suspects(unit: Unit) -> str | None:
    """systemd does not say which property it refused; those from annotations are the likely ones."""
    names = ", ".join(name for name, _kind, _value in unit["properties"])
    return "annotations ask for these properties: %s" % names if names else None


def _reset_failed(manager: Manager, name: str) -> None:
    """A failed unit stays loaded until this call; for a unit that did not fail it returns NoSuchUnit."""
    try:
        manager.call("ResetFailedUnit", "s", (name,))
    except dbus.DBusError:
        return


def _check_place(path: str, pid: int) -> None:
    if pid not in fs.procs_below(path, "unified"):
        raise StepFailure(
            "not-in-unit",
            "systemd did not put init into %s" % quote(path),
            pointer=POINTER,
            path=path,
            hint="it is in %s" % quote(_cgroup_of(pid)),
        )


def _inode(path: str) -> int:
    fd = fs.open_dir(path, "unified", fs.O_LOOK)
    try:
        return posix.fstat(fd).st_ino
    finally:
        posix.close(fd)


def _cgroup_of(pid: int) -> str:
    try:
        return fsdecode(read_file("/proc/%d/cgroup" % pid, 1 << 20)).strip()
    except OSError:
        return "no cgroup"


def set_resources(run: Run, entry: Resources, cgroups: Places) -> Resources:
    """The limits as properties of the unit, before they are written to the files. Returns the entry for the files: the quota is
    rounded as systemd rounds it."""
    from pyrunc.cgroup import unit_properties

    unit = _recorded(run, cgroups)
    manager = Manager(unit)
    try:
        properties = unit_properties.of_resources(entry, cgroups["version"], manager.version)
        if properties:
            values = (unit["name"], True, [(name, (kind, value)) for name, kind, value in properties])
            manager.call("SetUnitProperties", "sba(sv)", values, "set the properties of %s with" % unit["name"])
    finally:
        manager.close()
    quota = (entry.get("cpu") or {}).get("quota", 0)
    if quota <= 0:
        return entry
    return dict(entry, cpu=dict(entry["cpu"], quota=unit_properties.rounded_quota(quota, entry["cpu"].get("period", 0))))


def _recorded(run: Run, entry: Places) -> Unit:
    state = run.state_dir.state if run.state_dir is not None else {}
    return (state.get("cgroups") or {}).get("unit") or dict(entry["unit"], address=None)


def attach(unit: Unit, below: str, pid: int) -> None:
    """Moves a process into the unit, or into the cgroup `below` it: the manager may do this where we are not allowed to. StepFailure."""
    manager = Manager(unit)
    try:
        manager.call("AttachProcessesToUnit", "ssau", (unit["name"], below, [pid]), "move the process into %s with" % quote(unit["name"]))
    finally:
        manager.close()


def undo_make(entry: Places, run: Run) -> None:
    """Stops the unit, resets its failed state, and removes the remaining directories. A unit of that name that is not the container's is left
    alone. An unreachable manager is not an error if the cgroups no longer exist, as with a user's manager after the last session ended."""
    record = fs.record_of(run, entry)
    if not record["paths"]:
        return
    known = True  # whether the directories are the container's
    try:
        known = _stop(_recorded(run, entry), run.id) or bool(record["inodes"])
    except StepFailure:
        if any(hierarchies.exists(path) for path in record["paths"].values()):
            raise
    finally:
        if known:
            remove(record)


def _is_ours(manager: Manager, unit: Unit, path: str, id: str) -> bool:
    """Whether the unit at `path` is the one that the container started. Its name alone does not show that: when our unit has ended, any
    client may start another one of that name, also in another slice."""
    from pyrunc.cgroup import unit_properties

    if manager.get("Description", path, NAME + ".Unit") != unit_properties.description(unit, id):
        return False
    is_slice = unit["name"].endswith(".slice")  # its name determines its place
    group = manager.get("ControlGroup", path, "%s.%s" % (NAME, "Slice" if is_slice else "Scope"))
    return not group or group.endswith(expand(unit["name"]) if is_slice else unit["below"])  # a unit that has ended has none


def _stop(unit: Unit, id: str) -> bool:
    """False if the unit is not the container's."""
    manager = Manager(unit)
    try:
        path = manager.find(unit["name"])
        if path is None:
            return True
        if not _is_ours(manager, unit, path, id):
            return False
        try:
            manager.job("StopUnit", unit["name"], "ss", (unit["name"], "replace"), "stopp")
        except dbus.DBusError as e:
            if e.name != NAME + ".NoSuchUnit":
                raise StepFailure(
                    "unit-not-stopped",
                    "unable to stop unit %s: %s" % (quote(unit["name"]), e),
                    pointer=POINTER,
                    call="dbus",
                    path=unit["name"],
                ) from None
        _reset_failed(manager, unit["name"])
        return True
    finally:
        manager.close()


def remove(record: Record) -> None:
    removals = []
    for path, key in fs.unique(record["paths"]).items():
        mount = record["mounts"].get(key)
        if mount is not None:
            inode = record["inodes"].get(key, 0)
            removals.append(tree.Removal(mount, path, key, len(fs.levels(mount, path)) - 1, inode))
    tree.remove_all(removals)
