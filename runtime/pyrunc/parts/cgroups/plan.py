"""Chooses the container's cgroups, and answers what other commands ask about them."""

from __future__ import annotations

from pyrunc.cgroup import hierarchies
from pyrunc.errors import Refusal, Unsupported, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.cgroup.hierarchies import Layout
    from pyrunc.cgroup.shapes import Places
    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Context
    from pyrunc.state_document import State

    Node = TypedDict(
        "Node",
        {"/linux/cgroupsPath": str},
        total=False,
    )

    Entry = Places


POINTER: Final = "/linux/cgroupsPath"
SECTION = "config-linux.md#cgroups-path"


def plan(node: Node, ctx: Context) -> Entry:
    """Node: a string or nothing. Entry: {"manager", "version": 1|2|"hybrid"|None, "paths": {key: directory}, "mounts": {key: mount
    point}, "explicit": the config names a path, "rootless": missing permissions are accepted as long as the config asks for nothing, "sub":
    "unit":}. Keys are controllers, "name=systemd", and "unified" for cgroup2. `unit` exists with the systemd manager only; `sub` only if an
    annotation asks for it on v2: the cgroup below the container's that init is moved into and that may be delegated.

    Refusals: `..`, control characters, names that are too long, `/`; a path that is not in systemd's form. Unsupported: no hierarchy is
    mounted.
    """
    manager = "systemd" if ctx.options["systemd_cgroup"] else ctx.options["cgroup_manager"]
    given = node.get(POINTER) or ""
    layout = hierarchies.layout()
    entry: Entry = {
        "manager": manager,
        "version": layout.version,
        "paths": {},
        "mounts": {},
        "explicit": bool(given),
        "rootless": _rootless(ctx, manager),
    }
    if manager == "disabled":
        return entry
    if given:
        check_text(given)
    if manager == "systemd":
        from pyrunc.cgroup import systemd

        systemd.plan(entry, given, ctx, layout, ctx.plans.get("meta", {}).get("annotations", {}))
        return _with_sub(entry, ctx)
    if layout.version is None:
        if entry["rootless"] and not given:
            return entry
        raise Unsupported(
            "no-cgroups",
            "no cgroup hierarchy is mounted",
            POINTER,
            "cgroups",
            "mount cgroup2 on /sys/fs/cgroup, or use --cgroup-manager=disabled",
        )
    same = place(given, ctx.id, "", "", layout) if given[:1] == "/" else None  # below every mount point
    for key, mount in layout.mounts.items():
        entry["paths"][key] = place(given, ctx.id, key, mount[0], layout) if same is None else mount[0] + same
        entry["mounts"][key] = mount[0]
    return _with_sub(entry, ctx)


SUBS = ("run.oci.systemd.subgroup", "run.oci.delegate-cgroup")


def _with_sub(entry: Entry, ctx: Context) -> Entry:
    """crun's annotations: a cgroup below the scope, and another below it that is delegated to the container."""
    annotations = ctx.plans.get("meta", {}).get("annotations", {})
    names = []
    for key in SUBS if entry["manager"] == "systemd" else SUBS[1:]:
        text = annotations.get(key, "")
        parts = [n for n in text.split("/") if n not in ("", ".")]
        if ".." in parts or any(c < " " for c in text) or any(len(n) > 255 for n in parts):
            raise Refusal(
                "bad-subgroup",
                "annotation %s: %s is not a path below the container's cgroup" % (key, quote(text)),
                "/annotations/" + key,
            )
        if parts and entry["version"] != 2:
            ctx.warn("/annotations/" + key, "sub-cgroups are created on cgroup v2 only")
            continue
        names += parts
    if names:
        entry["sub"] = "/".join(names)
    return entry


def _rootless(ctx: Context, manager: str) -> bool:
    """Whether permissions may be missing and the systemd instance is the user's. In a system container, its root uses the system
    instance."""
    asked = ctx.options["rootless"]
    if asked in ("true", "false"):
        return asked == "true"
    if ctx.euid == 0 and manager == "systemd" and hierarchies.pid_1_is_in_our_userns():
        return False
    return ctx.euid != 0 or ctx.in_userns


def check_text(path: str) -> None:
    """Refuses what would confuse the kernel or a reader of /proc/PID/cgroup."""
    if any(c < " " or c == "\x7f" for c in path):
        raise Refusal("control-characters", "cgroupsPath has a control character: %s" % quote(path), POINTER, section=SECTION)
    if ".." in path.split("/"):
        raise Refusal("dot-dot", "cgroupsPath must not contain ..: %s" % quote(path), POINTER, "write the path without it", SECTION)
    try:
        size = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise Refusal("not-utf8-path", "cgroupsPath is not UTF-8: %s" % quote(path), POINTER, section=SECTION) from None
    if size > 3500:  # together with the mount point it must be shorter than PATH_MAX
        raise Refusal("path-too-long", "cgroupsPath is %d bytes long, at most 3500 are possible" % size, POINTER, section=SECTION)
    for name in path.split("/"):
        if len(name.encode("utf-8", "surrogateescape")) > 255:
            raise Refusal("name-too-long", "cgroupsPath has a name of more than 255 bytes: %s" % quote(name, 60), POINTER, section=SECTION)


def place(given: str, id: str, key: str, mount: str, layout: Layout) -> str:
    """The directory in one hierarchy. An absolute path starts at the mount point, whatever our own cgroup is. A relative path, or none,
    starts at our own cgroup on v1 and at its parent on v2, where a cgroup with processes can't have children with controllers."""
    names = [n for n in given.split("/") if n not in ("", ".")]
    if given and not names:
        raise Refusal("no-cgroup-named", "cgroupsPath %s does not name a cgroup below the root" % quote(given), POINTER, section=SECTION)
    base = ""
    if given[:1] != "/":
        base = layout.own_path(key).rstrip("/")
        if layout.version == 2:
            base = base.rpartition("/")[0]
    return mount + base + "/" + "/".join(names or [id])


# --- questions of other commands


def planned_paths(plans: Plans) -> dict[str, str]:
    """{key: directory} of the cgroups; {} for a damaged plan that has none."""
    entry: object = plans.get("cgroups") if type(plans) is dict else None
    paths = entry.get("paths") if type(entry) is dict else None
    return paths if type(paths) is dict else {}


def salvaged(state: State) -> dict[str, object] | None:
    """A substitute for an unreadable plan, for undo_make, from the state's record; None if nothing was created."""
    made = state.get("cgroups")
    if not made:
        return None
    paths = state.get("cgroup_paths") or {}
    return {"manager": "systemd" if "unit" in made else "cgroupfs", "paths": paths, "mounts": made["mounts"], "unit": made.get("unit")}


def is_rootless(plans: Plans) -> bool:
    """Whether the container may run without cgroups, and so without what they enforce."""
    return plans["cgroups"]["rootless"]


def freezer(plans: Plans, paths: dict[str, str]) -> str | None:
    """The container's directory that can freeze it, or None."""
    return paths.get("freezer") or (paths.get("unified") if plans["cgroups"]["version"] == 2 else None)
