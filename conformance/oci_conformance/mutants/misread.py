"""Mutants that misread config.json: a property is ignored, truncated, or confused with another.

Rule: the change is made to the configuration that the real runtime gets; what it does then is correct, but not what the configuration
says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance.mutants.table import drop, mutant, node, on_config, per, put

if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_conformance.mutants.table import Change
    from oci_conformance.mutants.wrapper import Invocation
    from oci_conformance.shapes import Config, Json


def lists(config: Config, *keys: str) -> list[Json]:
    return node(config, *keys[:-1]).get(keys[-1]) or []


# ---------------------------------------------------------------------------------------------------- process

PROCESS = (
    ("capabilities-ignored", "privileges.sets_of_root", put({}, "process", "capabilities")),
    ("capabilities-none-ambient", "privileges.sets_of_user", drop("process", "capabilities", "ambient")),
    ("capabilities-none-inheritable", "privileges.sets_of_user", drop("process", "capabilities", "inheritable")),
    ("no-new-privileges-ignored", "privileges.no_new_privileges", drop("process", "noNewPrivileges")),
    ("no-new-privileges-always", "privileges.new_privileges", put(True, "process", "noNewPrivileges")),
    ("uid-zero", "user.ids", put(0, "process", "user", "uid")),
    ("gid-zero", "user.ids", put(0, "process", "user", "gid")),
    ("groups-ignored", "user.groups", drop("process", "user", "additionalGids")),
    ("groups-one-too-many", "user.groups", put([7, 8, 1000, 65533], "process", "user", "additionalGids")),
    ("umask-ignored", "user.umask", drop("process", "user", "umask")),
    ("cwd-ignored", "process.cwd", put("/", "process", "cwd")),
    ("env-ignored", "process.env", drop("process", "env")),
    ("rlimits-ignored", "process.rlimits", drop("process", "rlimits")),
    ("rlimits-hard-is-soft", "process.rlimits", per(lambda entry: entry.update(hard=entry["soft"]), "process", "rlimits")),
    ("rlimits-soft-is-hard", "process.rlimits", per(lambda entry: entry.update(soft=entry["hard"]), "process", "rlimits")),
    ("oom-score-ignored", "scheduling.oom_set", drop("process", "oomScoreAdj")),
    ("oom-score-always-set", "scheduling.oom_unset", put(500, "process", "oomScoreAdj")),
    ("terminal-size-ignored", "terminal.size", drop("process", "consoleSize")),
    ("scheduler-ignored", "scheduling.scheduler_realtime scheduling.scheduler_normal", drop("process", "scheduler")),
    ("scheduler-flags-ignored", "scheduling.scheduler_flags", drop("process", "scheduler", "flags")),
    ("io-priority-ignored", "scheduling.io_priority", drop("process", "ioPriority")),
    ("hostname-ignored", "user.hostname", drop("hostname")),
    ("domainname-ignored", "user.domainname", drop("domainname")),
    ("root-always-writable", "root.readonly", drop("root", "readonly")),
    ("root-always-readonly", "root.writable", put(True, "root", "readonly")),
    ("annotations-ignored", "state.annotations", drop("annotations")),
)
for row in PROCESS:
    on_config(*row)


def change_of(name: str, cases: str) -> Callable[[Change], Change]:
    def register(function: Change) -> Change:
        on_config(name, cases, function)
        return function

    return register


@change_of("bounding-not-dropped", "privileges.sets_of_root")
def bounding_not_dropped(config: Config, call: Invocation) -> None:
    from oci_conformance.bundle import granted

    node(config, "process", "capabilities")["bounding"] = granted()


@change_of("caller-variables-leak", "process.env process.env_absent")
def variables_leak(config: Config, call: Invocation) -> None:
    process = config.get("process", {})
    process["env"] = [*(process.get("env") or ()), *("%s=%s" % item for item in os.environ.items())]


@change_of("empty-arguments-lost", "process.args")
def empty_arguments_lost(config: Config, call: Invocation) -> None:
    process = config.get("process", {})
    process["args"] = [word for word in process.get("args") or () if word]


@change_of("path-of-our-own", "process.lookup")
def path_of_our_own(config: Config, call: Invocation) -> None:
    process = config.get("process", {})
    if process.get("args") and "/" not in process["args"][0]:
        process["args"][0] = "/bin/" + process["args"][0]


@change_of("relative-root-from-cwd", "root.relative")
def relative_root(config: Config, call: Invocation) -> None:
    if not config["root"]["path"].startswith("/"):
        config["root"]["path"] = os.path.abspath(config["root"]["path"])


# ---------------------------------------------------------------------------------------------------- mounts and devices


@change_of("last-mount-skipped", "mounts.kinds mounts.order")
def last_mount_skipped(config: Config, call: Invocation) -> None:
    config["mounts"] = lists(config, "mounts")[:-1]


@change_of("last-mounts-swapped", "mounts.order")
def last_mounts_swapped(config: Config, call: Invocation) -> None:
    mounts = lists(config, "mounts")
    mounts[-2:] = mounts[:-3:-1]


@change_of("data-of-mounts-lost", "mounts.unknown_options")
def data_lost(config: Config, call: Invocation) -> None:
    for mount in lists(config, "mounts"):
        mount["options"] = [word for word in mount.get("options") or () if "=" not in word]


@change_of("type-decides-bind", "mounts.bind_whatever_type")
def type_decides(config: Config, call: Invocation) -> None:
    for mount in lists(config, "mounts"):
        if mount.get("type") not in (None, "bind", "none"):
            mount["options"] = [word for word in mount.get("options") or () if word not in ("bind", "rbind")]


for old, new, cases in (
    ("rbind", "bind", "mount_options.bind_rbind"),
    ("bind", "rbind", "mount_options.bind_rbind"),
    ("ro", None, "mount_options.ro_rw"),
    ("noexec", None, "mount_options.exec_noexec"),
    ("nosuid", None, "mount_options.suid_nosuid"),
    ("nodev", None, "mount_options.dev_nodev"),
    ("noatime", None, "mount_options.noatime"),
    ("shared", None, "mount_options.shared"),
    ("rshared", "shared", "mount_options.rshared"),
    ("rro", "ro", "mount_options.rro"),
    ("rnoexec", "noexec", "mount_options.rnoexec"),
    ("idmap", "ridmap", "idmap.idmap"),
):

    def option(mount: dict[str, Json], old: str = old, new: str | None = new) -> None:
        words = mount.get("options") or []
        mount["options"] = [word if word != old else new for word in words if word != old or new]

    on_config("option-%s-%s" % (old, "as-" + new if new else "ignored"), cases, per(option, "mounts"))

LINUX = (
    ("devices-ignored", "devices.listed", drop("linux", "devices")),
    ("device-mode-ignored", "devices.listed", per(lambda entry: entry.pop("fileMode", None), "linux", "devices")),
    ("device-owner-ignored", "devices.listed", per(lambda entry: entry.pop("uid", None), "linux", "devices")),
    ("device-list-ignored", "device_list.all_types device_list.allow_one", drop("linux", "resources", "devices")),
    ("device-access-all", "device_list.access", per(lambda rule: rule.update(access="rwm"), "linux", "resources", "devices")),
    ("cgroup-path-ignored", "cgroups.absolute", put("/ocs-mutant", "linux", "cgroupsPath")),
    ("memory-ignored", "resources.memory_limit", drop("linux", "resources", "memory")),
    ("memory-reservation-ignored", "resources.memory_reservation", drop("linux", "resources", "memory", "reservation")),
    ("cpu-ignored", "resources.cpu_quota resources.cpu_shares", drop("linux", "resources", "cpu")),
    ("cpu-period-ignored", "resources.cpu_period", drop("linux", "resources", "cpu", "period")),
    ("cpus-ignored", "resources.cpu_cpus", drop("linux", "resources", "cpu", "cpus")),
    ("pids-ignored", "resources.pids_limit resources.pids_effect", drop("linux", "resources", "pids")),
    ("block-io-ignored", "resources.throttles", drop("linux", "resources", "blockIO")),
    ("huge-pages-ignored", "resources.huge_pages", drop("linux", "resources", "hugepageLimits")),
    ("network-class-ignored", "resources.network_class", drop("linux", "resources", "network")),
    ("unified-ignored", "unified.missing", drop("linux", "resources", "unified")),
    ("sysctl-ignored", "kernel_settings.sysctl", drop("linux", "sysctl")),
    ("masked-paths-ignored", "kernel_settings.masked", drop("linux", "maskedPaths")),
    ("readonly-paths-ignored", "kernel_settings.readonly", drop("linux", "readonlyPaths")),
    ("propagation-ignored", "kernel_settings.slave kernel_settings.unbindable", drop("linux", "rootfsPropagation")),
    ("propagation-shared", "kernel_settings.private", put("shared", "linux", "rootfsPropagation")),
    ("seccomp-ignored", "seccomp.allow", drop("linux", "seccomp")),
    ("seccomp-default-allows", "seccomp.allow_list", put("SCMP_ACT_ALLOW", "linux", "seccomp", "defaultAction")),
    ("seccomp-default-errno-ignored", "seccomp.allow_list", drop("linux", "seccomp", "defaultErrnoRet")),
    ("seccomp-errno-ignored", "seccomp.errno_ret", per(lambda rule: rule.pop("errnoRet", None), "linux", "seccomp", "syscalls")),
    ("seccomp-args-ignored", "seccomp.args seccomp.masked", per(lambda rule: rule.pop("args", None), "linux", "seccomp", "syscalls")),
    ("seccomp-metadata-ignored", "seccomp_notify.listener", drop("linux", "seccomp", "listenerMetadata")),
    ("personality-ignored", "scheduling.personality", drop("linux", "personality")),
    ("memory-policy-ignored", "scheduling.memory_policy", drop("linux", "memoryPolicy")),
    ("time-offsets-ignored", "namespaces.offsets", drop("linux", "timeOffsets")),
    ("net-devices-ignored", "net_devices.devices", drop("linux", "netDevices")),
    ("rdt-ignored", "rdt.no_resctrl", drop("linux", "intelRdt")),
)
for row in LINUX:
    on_config(*row)


@change_of("device-rules-reversed", "device_list.later_wins device_list.allow_one")
def rules_reversed(config: Config, call: Invocation) -> None:
    resources = node(config, "linux", "resources")
    if resources.get("devices"):
        resources["devices"].reverse()


@change_of("seccomp-upper-half-ignored", "seccomp.wide_and_several")
def upper_half(config: Config, call: Invocation) -> None:
    for rule in lists(config, "linux", "seccomp", "syscalls"):
        for entry in rule.get("args") or ():
            entry["value"] &= 0xFFFFFFFF


# ---------------------------------------------------------------------------------------------------- namespaces

for kind, cases in (
    ("pid", "namespaces.pid_view namespaces.new_pid"),
    ("ipc", "namespaces.new_ipc"),
    ("network", "namespaces.new_network namespaces.network_view"),
    ("cgroup", "namespaces.new_cgroup namespaces.cgroup_view"),
    ("time", "namespaces.new_time"),
):

    def without(config: Config, call: Invocation, kind: str = kind) -> None:
        linux = config.get("linux", {})
        linux["namespaces"] = [entry for entry in linux.get("namespaces") or () if entry.get("type") != kind]

    on_config("namespace-%s-not-made" % kind, cases, without)


@change_of("namespace-always-new", "namespaces.joined")
def always_new(config: Config, call: Invocation) -> None:
    for entry in lists(config, "linux", "namespaces"):
        entry.pop("path", None)


@change_of("namespace-network-added", "namespaces.new_network")
def network_added(config: Config, call: Invocation) -> None:
    spaces = lists(config, "linux", "namespaces")
    if not any(entry["type"] == "network" for entry in spaces):
        spaces.append({"type": "network"})


@change_of("namespace-mount-added", "namespaces.new_mount")
def mount_added(config: Config, call: Invocation) -> None:
    spaces = lists(config, "linux", "namespaces")
    if not any(entry["type"] == "mount" for entry in spaces):
        spaces.append({"type": "mount"})


@change_of("namespace-duplicates-merged", "namespaces.invalid_list")
def duplicates_merged(config: Config, call: Invocation) -> None:
    linux = config.get("linux", {})
    linux["namespaces"] = list({entry.get("type"): entry for entry in linux.get("namespaces") or ()}.values())


@change_of("second-mapping-lost", "userns.maps")
def second_mapping_lost(config: Config, call: Invocation) -> None:
    for name in ("uidMappings", "gidMappings"):
        if config["linux"].get(name):
            config["linux"][name] = config["linux"][name][:1]


@mutant("root-chowned", "userns.no_chown")
def root_chowned(call: Invocation) -> int:
    config = call.config() or {}
    maps = lists(config, "linux", "uidMappings")
    if call.command == "create" and maps:
        for top, directories, files in os.walk(os.path.join(call.bundle, "rootfs")):
            for name in directories + files:
                if name != "probe" and name != "busybox":
                    os.lchown(os.path.join(top, name), maps[0]["hostID"], maps[0]["hostID"])
    return call.go_on()


# ---------------------------------------------------------------------------------------------------- hooks

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
for kind in KINDS:
    on_config("hooks-%s-not-run" % kind, "hooks.sequence", drop("hooks", kind))


def hooks(change: Callable[[dict[str, Json], str], Json]) -> Change:
    def alter(config: Config, call: Invocation) -> None:
        for kind in KINDS:
            for hook in lists(config, "hooks", kind):
                change(hook, kind)

    return alter


def silenced(shell_line: str) -> Change:
    """The hook through a shell: for hooks that run on the host."""

    def change(hook: dict[str, Json], kind: str) -> None:
        if kind != "startContainer":
            words = hook.get("args") or [hook["path"]]
            hook["args"] = ["sh", "-c", shell_line, hook["path"], *words[1:]]
            hook["path"] = "/bin/sh"

    return hooks(change)


on_config("hooks-without-state", "hooks.state_on_input", silenced('exec "$0" "$@" </dev/null'))
on_config("hooks-failures-ignored", "hooks_failing.createRuntime hooks_failing.createContainer", silenced('"$0" "$@"; exit 0'))
on_config("hooks-without-env", "hooks.args_and_env", hooks(lambda hook, kind: hook.update(env=[])))
on_config("hooks-without-args", "hooks.args_and_env", hooks(lambda hook, kind: hook.update(args=hook["args"][:-1])))
on_config("hooks-without-timeout", "hooks.timeout", hooks(lambda hook, kind: hook.pop("timeout", None)))


@change_of("hooks-reversed", "hooks.order")
def hooks_reversed(config: Config, call: Invocation) -> None:
    for kind in KINDS:
        lists(config, "hooks", kind).reverse()


for source, target, cases in (
    ("prestart", "createContainer", "hooks.sequence"),
    ("poststart", "createRuntime", "hooks.sequence"),
    ("createContainer", "createRuntime", "hooks.where_createContainer"),
    ("createRuntime", "createContainer", "hooks.where_createRuntime"),
    ("poststop", "poststart", "hooks.sequence"),
):

    def moved(config: Config, call: Invocation, source: str = source, target: str = target) -> None:
        table = node(config, "hooks")
        if source in table:
            table[target] = (table.get(target) or []) + table.pop(source)

    on_config("hooks-%s-as-%s" % (source, target), cases, moved)


# ---------------------------------------------------------------------------------------------------- what is ignored or refused


@mutant("unknown-property-refused", "values.unknown_properties")
def unknown_refused(call: Invocation) -> int:
    if call.command == "create" and "com.example.unknown" in str(call.config()):
        return 1
    return call.go_on()


@mutant("unknown-annotation-refused", "values.annotations")
def annotation_refused(call: Invocation) -> int:
    if call.command == "create" and "org.opencontainers.image.unknown" in node(call.config(), "annotations"):
        return 1
    return call.go_on()


@mutant("older-version-refused", "lifecycle.earlier")
def older_refused(call: Invocation) -> int:
    if call.command == "create" and str((call.config() or {}).get("ociVersion", "")).startswith("1.0.0"):
        return 1
    return call.go_on()


@mutant("no-json-no-error", "lifecycle.no_json")
def no_json_no_error(call: Invocation) -> int:
    if call.command == "create" and not isinstance(call.config(), dict):
        return 0
    return call.go_on()


@change_of("wrong-types-dropped", "values.type_process_user_uid")
def wrong_types(config: Config, call: Invocation) -> None:
    if isinstance(node(config, "process", "user").get("uid"), str):
        config["process"]["user"]["uid"] = 0


@change_of("unknown-limits-skipped", "process.rlimits_invalid")
def unknown_limits(config: Config, call: Invocation) -> None:
    process = node(config, "process")
    if process.get("rlimits"):
        process["rlimits"] = [entry for entry in process["rlimits"] if "NOSUCH" not in entry["type"]]


@change_of("impossible-limits-skipped", "resources.impossible")
def impossible_limits(config: Config, call: Invocation) -> None:
    cpu = node(config, "linux", "resources", "cpu")
    if cpu.get("quota") == 10:
        cpu.clear()
