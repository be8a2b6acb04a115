"""/linux/resources: limits and device rules, checked and converted into a neutral form for cgroup/.

runtime-spec, config-linux.md#control-groups. Invariant: a limit that can't be applied on this host is refused here with its pointer, or
fails later with the file and the value; nothing is silently ignored. `update` plans only this part, using the stored plan of `cgroups`.
"""

from __future__ import annotations

from pyrunc.cgroup import devices_rules, fs, hierarchies
from pyrunc.errors import StepFailure, Unsupported
from pyrunc.parts.resources.limits import POINTER, READERS, check_memory, devices, rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypedDict

    from pyrunc.cgroup.devices_rules import Rule
    from pyrunc.cgroup.shapes import Limits
    from pyrunc.cgroup.shapes import Places as Cgroups
    from pyrunc.parts.plans import Plans
    from pyrunc.parts.resources.limits import GivenRule, Resources
    from pyrunc.parts.sides import Context, HostRun

    Node = TypedDict(
        "Node",
        {"/linux/resources": Resources},
        total=False,
    )

    Entry = Limits


NO_CGROUP = "cannot set limits: container could not join or create cgroup"


def plan(node: Node, ctx: Context) -> Entry | None:
    """Node: the resources object or nothing. Entry: neutral keys, each only if the config has it: memory, cpu, pids, blkio, hugetlb,
    network, rdma, unified (limits.py describes their forms); devices: [[allow, type, major, minor, access], …], the config's rules and then
    the defaults; asked: whether the config has anything but device rules; in_userns: device rules can't be loaded.

    Refusals: values that are out of range or contradict each other. Unsupported: what this cgroup version or host can't control.
    """
    resources = node.get(POINTER) or {}
    cgroups = ctx.plans["cgroups"]
    version = 2 if cgroups["version"] == 2 else 1
    entry: Entry = {}
    for name, reader in READERS:
        value = reader(resources, version, ctx)
        if value:
            entry[name] = value  # type: ignore[literal-required]  # the names of READERS
    entry["asked"] = bool(entry)
    entry["in_userns"] = bool(ctx.in_userns)
    if ctx.options.get("command") != "update":  # callers of update send deny-all; change_devices changes the rules of a running container
        entry["devices"] = devices(resources, ctx, version)
    if cgroups["manager"] == "disabled":
        _disabled(entry, resources, ctx)
        return None
    _check_controllers(entry, cgroups, version)
    return entry


def _disabled(entry: Entry, resources: Resources, ctx: Context) -> None:
    if entry["asked"]:
        names = ", ".join(sorted(set(entry) - {"asked", "in_userns", "devices"}))
        raise Unsupported(
            "no-cgroup-manager",
            "the config sets limits (%s), but the cgroup manager is disabled" % names,
            POINTER,
            "a cgroup manager",
            "remove --cgroup-manager=disabled",
        )
    if resources.get("devices"):
        ctx.warn(POINTER + "/devices", "device rules have no effect: the cgroup manager is disabled")


def _check_controllers(entry: Entry, cgroups: Cgroups, version: int) -> None:
    """On v1, checks that the controllers are mounted. On v2 they are enabled when the cgroup is created."""
    if version != 1 or cgroups["manager"] == "systemd":
        return
    if cgroups["rootless"]:
        return  # decided for each hierarchy when the cgroup is created
    from pyrunc.cgroup import v1

    for controller, _part, _function, pointer in v1.needed(entry):
        if controller not in cgroups["paths"]:
            raise Unsupported(
                "no-controller",
                "cgroup controller %s is not mounted on this host" % controller,
                pointer,
                "cgroup controller " + controller,
            )
    if "devices" not in cgroups["paths"] and not entry["in_userns"] and "devices" in entry:
        raise Unsupported(
            "no-controller",
            "cgroup controller devices is not mounted on this host",
            POINTER + "/devices",
            "cgroup controller devices",
        )


# --- verbs


def host_apply(entry: Entry, run: HostRun) -> None:
    """Host side, before the hooks, which may look at the limits. Writes limits and device rules to the cgroups that host_make recorded.
    StepFailure with file, value and pointer. Nothing to undo: the cgroup is removed."""
    cgroups = run.plans["cgroups"]
    record = fs.record_of(run, cgroups)
    if cgroups["manager"] == "systemd":
        from pyrunc.cgroup import systemd

        entry = systemd.set_resources(run, entry, cgroups)
    apply(entry, record["paths"], cgroups)


def apply(entry: Entry, paths: dict[str, str], cgroups: Cgroups) -> None:
    """Applies limits, then device rules. A rootless container without a cgroup gets neither."""
    if not paths:
        if entry["asked"]:
            raise StepFailure("no-cgroup", NO_CGROUP, pointer=POINTER, hint=hierarchies.how_to_delegate(cgroups["version"]))
        return
    if cgroups["version"] == 2:
        from pyrunc.cgroup import v2

        v2.apply(paths, entry)
    else:
        from pyrunc.cgroup import v1

        v1.apply(paths, entry)
    if "devices" in entry:
        _apply_devices(entry, paths, cgroups)


def limits_memory(entry: Entry) -> bool:
    return "memory" in entry


def before_restore(entry: Entry) -> Entry:
    """What is set before CRIU forks: CRIU itself counts, so the number of processes is limited only when all of them exist."""
    found = entry.copy()
    found.pop("pids", None)
    return found


def after_restore(entry: Entry, restored: bool) -> Entry | None:
    """What is set when all processes exist; None for nothing. restored: CRIU has set the values from the images, and the config's limits
    are already applied."""
    if restored:
        return entry
    return {"pids": entry["pids"], "asked": entry["asked"], "in_userns": entry["in_userns"]} if "pids" in entry else None


def update(new: Entry, stored: Entry, run: HostRun) -> Entry:
    """`update`: merges a newly planned entry (ctx.options["command"] == "update") into the stored one and writes the new values to
    the cgroups, all or none. Returns the entry to store. Refusal if new and stored values contradict each other; StepFailure."""
    from pyrunc.cgroup import limits_update as live

    cgroups = run.plans["cgroups"]
    merged: Entry = live.merge(stored, new)
    check_memory(merged.get("memory", {}), 2 if cgroups["version"] == 2 else 1)
    paths = fs.record_of(run, cgroups)["paths"]
    if not paths:
        raise StepFailure("no-cgroup", NO_CGROUP, pointer=POINTER, hint=hierarchies.how_to_delegate(cgroups["version"]))
    wanted = live.to_write(merged, new)
    if cgroups["manager"] != "systemd":
        live.apply(paths, wanted, cgroups["version"])
        return merged
    from pyrunc.cgroup import systemd

    if cgroups["version"] == 2 and (wanted.get("memory") or {}).get("check"):
        live.check_usage(
            paths, wanted["memory"]
        )  # before systemd sets it: the kernel would kill processes, and systemd would remove the unit
    try:
        live.apply(paths, systemd.set_resources(run, wanted, cgroups), cgroups["version"])
    except (StepFailure, OSError):
        systemd.set_resources(run, {k: v for k, v in stored.items() if k != "devices"}, cgroups)
        raise
    return merged


def change_devices(items: Sequence[GivenRule], stored: Entry, run: HostRun) -> Entry:
    """Changes the device rules of a running container: adds `items`, in the config's form, to the stored rules. Returns the entry to store.
    Refusal, Unsupported (v1, for exceptions within wildcards), StepFailure. A device that remains allowed is never denied in between."""
    rules = stored["devices"]
    for number, item in enumerate(items):
        rules = devices_rules.with_rule(rules, rule(item, number))
    set_devices(rules, stored, run)
    return {**stored, "devices": rules}


def set_devices(rules: list[Rule], stored: Entry, run: HostRun) -> None:
    """Replaces the stored device rules in the cgroups of a running container."""
    cgroups = run.plans["cgroups"]
    paths = fs.record_of(run, cgroups)["paths"]
    if not paths:
        raise StepFailure(
            "no-cgroup", "cannot change device rules: container could not join or create cgroup", pointer=POINTER + "/devices"
        )
    if cgroups["version"] != 2:
        devices_rules.check_v1(rules)
    if cgroups["manager"] == "systemd":
        from pyrunc.cgroup import systemd

        systemd.set_resources(run, {"devices": rules, "in_userns": stored["in_userns"]}, cgroups)
    if cgroups["version"] == 2 or stored["in_userns"]:
        _apply_devices({**stored, "devices": rules}, paths, cgroups)
    else:
        devices_rules.change_v1(paths["devices"], stored["devices"], rules)


def _apply_devices(entry: Entry, paths: dict[str, str], cgroups: Cgroups) -> None:
    if cgroups["version"] == 2:
        from pyrunc.cgroup import devices_bpf

        devices_bpf.apply(paths["unified"], entry["devices"], entry["in_userns"] or cgroups["rootless"])
        return
    if entry["in_userns"] or (cgroups["rootless"] and "devices" not in paths):
        return  # the kernel accepts rules only from the initial user namespace; device nodes can't be created in another one either
    devices_rules.apply_v1(paths["devices"], entry["devices"])


def put_back_devices(stored: Entry, changed: Entry, run: HostRun) -> None:
    """Reverses change_devices: applies the stored rules again."""
    set_devices(stored["devices"], changed, run)


def preview(plans: Plans, open_group: Callable[[str, str], Any], paths: dict[str, str] | None = None) -> None:  # Any: like a Group
    """Has the driver write the limits of a plan to groups that only record the writes: open_group(path, key). paths: the container's actual
    cgroups, if they are known. StepFailure, OSError."""
    cgroups, entry = plans.get("cgroups"), plans.get("resources")
    paths = cgroups.get("paths") if cgroups and paths is None else paths
    if not cgroups or not entry or not paths:
        return
    from pyrunc.cgroup import v1, v2

    (v2 if cgroups["version"] == 2 else v1).apply(paths, entry, open_group)
