"""features.md, features-linux.md: what the features document says, and whether it holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from oci_conformance.bundle import CAPABILITIES, granted
from oci_conformance.case import case
from oci_conformance.requirements import numbers

if TYPE_CHECKING:
    from oci_conformance.runtime import Call
    from oci_conformance.shapes import Changes, Json
    from oci_conformance.trial import Trial


TOP = "ociVersionMin ociVersionMax hooks mountOptions linux annotations potentiallyUnsafeConfigAnnotations".split()
LINUX = "namespaces capabilities cgroup seccomp apparmor selinux intelRdt mountExtensions netDevices memoryPolicy".split()
INNER = {
    "cgroup": "v1 v2 systemd systemdUser rdma".split(),
    "seccomp": "enabled actions operators archs knownFlags supportedFlags".split(),
    "apparmor": ["enabled"],
    "selinux": ["enabled"],
    "intelRdt": ["enabled", "schemata", "monitoring"],
    "netDevices": ["enabled"],
    "memoryPolicy": ["modes", "flags"],
    "mountExtensions": ["idmap"],
}
FILESYSTEM_OPTIONS = ("size", "mode", "uid", "gid", "nr_inodes", "ptmxmode", "newinstance", "lowerdir", "upperdir", "workdir")
NEEDS_MORE = ("remount", "idmap", "ridmap")  # can't be used alone in a mount


BIG_ENDIAN = "M68K MIPS MIPS64 MIPS64N32 PARISC PARISC64 PPC PPC64 S390 S390X SHEB".split()


def attempt(t: Trial, changes: Changes) -> Call:
    """A create of which only the success matters."""
    made = t.container(changes)
    done = made.try_create()
    if done.code == 0:
        made.watch()
    made.discard()
    return done


def document(t: Trial) -> dict[str, Json]:
    if t.runtime.features is None:
        t.skip("the runtime has no features document")
    return t.runtime.features


def part(t: Trial, *path: str) -> Json:
    found: Json = document(t)
    for name in path:
        found = (found or {}).get(name)
    if not found:
        t.skip("the features document has no %s" % ".".join(path))
    return found


@case("features.document", "features.min", "features.max", "features.order", level="core")
def versions(t: Trial) -> None:
    """Both versions exist, are in order, and are accepted as ociVersion."""
    found = document(t)
    t.check(True, "there is a document", "features.document")
    least, most = found.get("ociVersionMin"), found.get("ociVersionMax")
    for value, name in ((least, "features.min"), (most, "features.max")):
        if t.check(numbers(value), "the version is one", name, "x.y.z", value):
            seen = t.observe({"/ociVersion": value}, "say ran")
            t.equal(seen.get("text"), "ran", "a container with ociVersion %s" % value, name)
    t.check((numbers(least) or (9,)) <= (numbers(most) or (0,)), "their order", "features.order", None, (least, most))


@case("features.defined", "features.annotations", "features.unsafe-annotations", level="core")
def shape(t: Trial) -> None:
    """There are only defined properties, with the right types."""
    found = document(t)
    linux = found.get("linux") or {}
    unknown = [name for name in found if name not in TOP] + ["linux." + name for name in linux if name not in LINUX]
    for name, inner in INNER.items():
        unknown += ["linux.%s.%s" % (name, key) for key in (linux.get(name) or {}) if key not in inner]
    t.equal(unknown, [], "properties that are not defined", "features.defined")
    annotations = found.get("annotations") or {}
    t.check(all(isinstance(value, str) for value in annotations.values()), "annotations", "features.annotations", "strings", annotations)
    unsafe = found.get("potentiallyUnsafeConfigAnnotations") or []
    t.check(isinstance(unsafe, list) and all(isinstance(name, str) for name in unsafe), "unsafe annotations", "features.unsafe-annotations")


@case("features.hooks", level="full")
def hooks(t: Trial) -> None:
    """All listed hooks are run."""
    kinds = part(t, "hooks")
    made = t.created({"/hooks": {kind: [t.hook(kind, inside=kind == "startContainer")] for kind in kinds}}, "say x")
    made.start()
    made.finish()
    t.equal(sorted(t.labels() + t.labels(made)), sorted(kinds), "hooks that have run")


@case("features.mount-options", "features.mount-options.own", level="full", seconds=180)
def mount_options(t: Trial) -> None:
    """All listed mount options are accepted; none belongs to a file system."""
    options = part(t, "mountOptions")
    own = [name for name in options if name in FILESYSTEM_OPTIONS]
    t.equal(own, [], "options of file systems", "features.mount-options.own")
    alone = [name for name in options if name not in (*NEEDS_MORE, "bind", "rbind", "tmpcopyup", "mand", "nomand")]
    recursive = [name for name in alone if name.startswith("r") and name not in ("ro", "rw", "relatime")]
    for name in alone:
        mounts = [{"destination": "/mnt", "type": "none", "source": t.directory, "options": ["rbind", name]}]
        if name not in recursive:  # a tmpfs refuses unknown options; some options are for bind mounts only
            mounts.insert(0, {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [name]})
        calls: list[Call] = []
        for mount in mounts:
            calls.append(attempt(t, {"/mounts/-": mount}))
            if calls[-1].code == 0:
                break
        t.check(calls[-1].code == 0, "a mount with %s" % name, "features.mount-options", "exit 0", calls[0])


@case("features.namespaces", level="full")
def namespaces(t: Trial) -> None:
    """All listed namespaces are accepted."""
    kinds = part(t, "linux", "namespaces")
    missing = [kind for kind in kinds if kind == "time" and t.machine.lacks("time-namespace")]
    spaces = [{"type": kind} for kind in kinds if kind not in ("user", *missing)]
    t.equal(t.observe({"/linux/namespaces": spaces}, "say ran").get("text"), "ran", "a container with %s" % ", ".join(kinds))


@case("features.capabilities", level="full")
def capabilities(t: Trial) -> None:
    """All listed capabilities that this process has are granted."""
    names = sorted(set(part(t, "linux", "capabilities")) & set(granted()))
    sets = {name: names for name in ("bounding", "permitted", "effective")}
    seen = t.observe({"/process/capabilities": sets}).get("capabilities", {}).get("effective", 0)
    t.equal(["CAP_" + CAPABILITIES[n] for n in range(len(CAPABILITIES)) if seen >> n & 1], order(names), "capabilities of the program")


def order(names: list[str]) -> list[str]:
    return [name for name in ("CAP_" + short for short in CAPABILITIES) if name in names]


@case("features.seccomp.actions", "features.seccomp.operators", "features.seccomp.archs", level="full", seconds=120)
def seccomp(t: Trial) -> None:
    """All listed actions, operators and architectures (with this machine's byte order) are accepted."""
    part(t, "linux", "seccomp")
    found = document(t)["linux"]["seccomp"]
    base = {"defaultAction": "SCMP_ACT_ALLOW"}
    for action in found.get("actions") or ():
        if action != "SCMP_ACT_NOTIFY":
            rule = {"names": ["getsid"], "action": action}
            accepted(t, {**base, "syscalls": [rule]}, "a rule with %s" % action, "features.seccomp.actions")
    for op in found.get("operators") or ():
        value = {"index": 0, "value": 1, "op": op, **({"valueTwo": 1} if op == "SCMP_CMP_MASKED_EQ" else {})}
        rule = {"names": ["getsid"], "action": "SCMP_ACT_ERRNO", "args": [value]}
        accepted(t, {**base, "syscalls": [rule]}, "a rule with %s" % op, "features.seccomp.operators")
    rule = {"names": ["getsid"], "action": "SCMP_ACT_ERRNO"}
    for arch in found.get("archs") or ():
        if (arch.removeprefix("SCMP_ARCH_") in BIG_ENDIAN) == (sys.byteorder == "big"):
            filter = {**base, "architectures": [arch], "syscalls": [rule]}
            accepted(t, filter, "a filter for %s" % arch, "features.seccomp.archs")


def accepted(t: Trial, seccomp: Json, what: str, requirement: str) -> None:
    done = attempt(t, {"/linux/seccomp": seccomp})
    t.check(done.code == 0, what, requirement, "exit 0", done)


@case("features.seccomp.known-flags", "features.seccomp.supported-flags", level="full")
def seccomp_flags(t: Trial) -> None:
    """All listed flags are accepted."""
    part(t, "linux", "seccomp")
    found = document(t)["linux"]["seccomp"]
    if not found.get("knownFlags"):
        t.skip("the features document has no linux.seccomp.knownFlags")
    rule = {"names": ["getsid"], "action": "SCMP_ACT_ERRNO"}
    for flag in found.get("supportedFlags") or ():
        if flag.endswith("WAIT_KILLABLE_RECV"):
            continue  # only allowed with SCMP_ACT_NOTIFY
        seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "syscalls": [rule]}
        accepted(t, seccomp, "a filter with %s" % flag, "features.seccomp.supported-flags")
    known, supported = set(found["knownFlags"]), set(found.get("supportedFlags") or ())
    t.equal(sorted(supported - known), [], "supported flags that are not known", "features.seccomp.known-flags")


@case("features.memory-policy.modes", "features.memory-policy.flags", needs="numa", level="full")
def memory_policy(t: Trial) -> None:
    """All listed modes and flags are recognised: the kernel may refuse one, but the name is known."""
    modes, flags = part(t, "linux", "memoryPolicy", "modes"), part(t, "linux", "memoryPolicy", "flags")
    for mode in modes:
        nodes = {} if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else {"nodes": "0"}
        done = attempt(t, {"/linux/memoryPolicy": {"mode": mode, **nodes}})
        t.check(done.code == 0, "a container with %s" % mode, "features.memory-policy.modes", "exit 0", done)
    for flag in flags:
        done = attempt(t, {"/linux/memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]}})
        t.check(done.code == 0, "a container with %s" % flag, "features.memory-policy.flags", "exit 0", done)


@case("features.idmap", level="full")
def idmap(t: Trial) -> None:
    """If idmap.enabled is false, mappings of a mount are not recognised; if they are, it is true."""
    found = ((document(t).get("linux") or {}).get("mountExtensions") or {}).get("idmap") or {}
    if "enabled" not in found:
        t.skip("the features document has no linux.mountExtensions.idmap")
    one = [{"containerID": 0, "hostID": 100000, "size": 10}]
    mount = {"destination": "/mnt", "type": "none", "source": t.directory, "options": ["bind", "idmap"], "uidMappings": one}
    recognised = attempt(t, {"/mounts/-": {**mount, "gidMappings": one}}).code == 0
    t.check(found["enabled"] or not recognised, "idmap.enabled", (), True, found)
