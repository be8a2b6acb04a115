"""Finds what other runtimes treat differently in a config: the functions that the rows of oci/deviations.py name.

Each takes a normalised config that the schema allows, and returns the pointers of the places. They look at the document only.
"""

from __future__ import annotations

from pyrunc.errors import escape_pointer
from pyrunc.oci import deviations, version
from pyrunc.oci.pointers import get
from pyrunc.parts.mounts import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.commands.shapes import Document, Output


CRUN_UNKNOWN = {"nosymfollow", "symfollow", "iversion", "noiversion", "silent", "loud"}
OPPOSITES = (("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("noatime", "atime"), ("sync", "async"))
PROPAGATION = {"shared", "rshared", "slave", "rslave", "unbindable", "runbindable"}
BIND_FLAGS = {"bind", "rbind"}


def differences(config: Document, runtime: str) -> list[Output]:
    """[{"pointer", "pyrunc", "other"}]: where `runtime` (one of validate.RUNTIMES) would treat this config differently."""
    found = []
    for _where, ours, runc, crun, test in deviations.testable():
        theirs = {"runc": runc, "crun": crun}[runtime]
        if theirs is None or theirs == "the same":
            continue
        found += [{"pointer": pointer, "pyrunc": ours, "other": theirs} for pointer in TESTS[test](config)]
    return found


def _if(config: Document, *places: str) -> list[str]:
    return [place for place in places if get(config, place) is not None]


def _spaces(config: Document) -> set[str]:
    return {one["type"] for one in get(config, "/linux/namespaces") or ()}


def _options(config: Document) -> list[tuple[int, Document, list[str]]]:
    """[(index of the mount, mount, its options)]"""
    return [(i, mount, mount.get("options") or []) for i, mount in enumerate(config.get("mounts") or ())]


# -- refused here --------------------------------------------------------------------------------------------------------


def oci_version(config: Document) -> list[str]:
    parsed = version.parse(config.get("ociVersion") or "")
    return [] if parsed and parsed[0] == 1 else ["/ociVersion"]


def handler(config: Document) -> list[str]:
    return _if(config, "/annotations/run.oci.handler")


def rlimits(config: Document) -> list[str]:
    seen, found = set(), []
    for index, one in enumerate(get(config, "/process/rlimits") or ()):
        if one["type"] in seen:
            found.append("/process/rlimits/%d" % index)
        seen.add(one["type"])
    return found


def mount_on_root(config: Document) -> list[str]:
    return [
        "/mounts/%d/destination" % i
        for i, mount, _options_ in _options(config)
        if mount["destination"].strip("/.") == "" and mount["destination"]
    ]


def data_on_bind(config: Document) -> list[str]:
    binds = [(i, words) for i, _m, words in _options(config) if BIND_FLAGS.intersection(words)]
    return ["/mounts/%d/options/%d" % (i, j) for i, words in binds for _word, j in options.parse(words)["data"]]


def readonly_without_mounts(config: Document) -> list[str]:
    return ["/root/readonly"] if get(config, "/root/readonly") and "mount" not in _spaces(config) else []


def maps_without_user(config: Document) -> list[str]:
    return [] if "user" in _spaces(config) else _if(config, "/linux/uidMappings", "/linux/gidMappings")


def dotted_cgroup(config: Document) -> list[str]:
    return ["/linux/cgroupsPath"] if ".." in (get(config, "/linux/cgroupsPath") or "").split("/") else []


def unified(config: Document) -> list[str]:
    keys = get(config, "/linux/resources/unified") or {}
    return ["/linux/resources/unified/" + escape_pointer(key) for key in keys if key.startswith("cgroup.")]


def umask(config: Document) -> list[str]:
    return ["/process/user/umask"] if (get(config, "/process/user/umask") or 0) > 0o777 else []


# -- a different result ------------------------------------------------------------------------------------------------------


def pids_zero(config: Document) -> list[str]:
    return ["/linux/resources/pids/limit"] if get(config, "/linux/resources/pids/limit") == 0 else []


def no_capabilities(config: Document) -> list[str]:
    return ["/process"] if "process" in config and get(config, "/process/capabilities") is None else []


def start_container(config: Document) -> list[str]:
    return _if(config, "/hooks/startContainer")


def env_without_equals(config: Document) -> list[str]:
    return ["/process/env/%d" % i for i, text in enumerate(get(config, "/process/env") or ()) if "=" not in text]


def empty_home(config: Document) -> list[str]:
    return ["/process/env/%d" % i for i, text in enumerate(get(config, "/process/env") or ()) if text == "HOME="]


def relative_cwd(config: Document) -> list[str]:
    return ["/process/cwd"] if "process" in config and not (get(config, "/process/cwd") or "/").startswith("/") else []


def no_args(config: Document) -> list[str]:
    return ["/process"] if "process" in config and not get(config, "/process/args") else []


def domainname(config: Document) -> list[str]:
    return _if(config, "/domainname")


def scheduler(config: Document) -> list[str]:
    return _if(config, "/process/scheduler")


def io_priority(config: Document) -> list[str]:
    return _if(config, "/process/ioPriority")


def exec_affinity(config: Document) -> list[str]:
    return _if(config, "/process/execCPUAffinity")


def personality(config: Document) -> list[str]:
    return _if(config, "/linux/personality")


def memory_policy(config: Document) -> list[str]:
    return _if(config, "/linux/memoryPolicy")


def net_devices(config: Document) -> list[str]:
    return _if(config, "/linux/netDevices")


def time_namespace(config: Document) -> list[str]:
    return ["/linux/namespaces/%d" % i for i, one in enumerate(get(config, "/linux/namespaces") or ()) if one["type"] == "time"]


def cpu_idle(config: Document) -> list[str]:
    return _if(config, "/linux/resources/cpu/idle")


def cpu_burst(config: Document) -> list[str]:
    return _if(config, "/linux/resources/cpu/burst")


def rdt_monitoring(config: Document) -> list[str]:
    return _if(config, "/linux/intelRdt/enableMonitoring")


def no_mounts(config: Document) -> list[str]:
    return [] if config.get("mounts") else ["/mounts"]


def idmap_options(config: Document) -> list[str]:
    found = []
    for i, mount, words in _options(config):
        found += ["/mounts/%d/options/%d" % (i, j) for j, word in enumerate(words) if word.partition("=")[0] in ("idmap", "ridmap")]
        found += _if(config, "/mounts/%d/uidMappings" % i) if "uidMappings" in mount else []
    return found


def crun_flags(config: Document) -> list[str]:
    return ["/mounts/%d/options/%d" % (i, j) for i, _m, words in _options(config) for j, word in enumerate(words) if word in CRUN_UNKNOWN]


def taken_back(config: Document) -> list[str]:
    found = []
    for i, _mount, words in _options(config):
        for flag, opposite in OPPOSITES:
            if flag in words and opposite in words[words.index(flag) :]:
                found.append("/mounts/%d/options/%d" % (i, words.index(opposite, words.index(flag))))
    return found


def propagation(config: Document) -> list[str]:
    if get(config, "/linux/rootfsPropagation") is not None:
        return []
    return ["/mounts/%d/options/%d" % (i, j) for i, _m, words in _options(config) for j, word in enumerate(words) if word in PROPAGATION]


def seccomp_default(config: Document) -> list[str]:
    profile = get(config, "/linux/seccomp") or {}
    return (
        ["/linux/seccomp/defaultAction"]
        if profile.get("defaultAction") == "SCMP_ACT_ERRNO" and profile.get("defaultErrnoRet", 1) != 38
        else []
    )


def poststart(config: Document) -> list[str]:
    return _if(config, "/hooks/poststart")


def poststop(config: Document) -> list[str]:
    return _if(config, "/hooks/poststop")


TESTS = {
    test.__name__: test
    for test in (
        oci_version,
        handler,
        rlimits,
        mount_on_root,
        data_on_bind,
        readonly_without_mounts,
        maps_without_user,
        dotted_cgroup,
        unified,
        umask,
        pids_zero,
        no_capabilities,
        start_container,
        env_without_equals,
        empty_home,
        relative_cwd,
        no_args,
        domainname,
        scheduler,
        io_priority,
        exec_affinity,
        personality,
        memory_policy,
        net_devices,
        time_namespace,
        cpu_idle,
        cpu_burst,
        rdt_monitoring,
        no_mounts,
        idmap_options,
        crun_flags,
        taken_back,
        propagation,
        seccomp_default,
        poststart,
        poststop,
    )
}
