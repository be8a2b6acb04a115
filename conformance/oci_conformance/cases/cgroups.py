"""config-linux.md#configLinuxControlGroups: where the container's cgroups are, and whose."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance import cleanup, system
from oci_conformance.bundle import ABSENT
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.container import Container
    from oci_conformance.trial import Trial


CONTROLLERS = ("pids", "memory", "cpu")


def places(pid: int) -> dict[str, str]:
    """{controller or "": path} of /proc/PID/cgroup; named hierarchies by their name."""
    found = {}
    for line in (system.read("/proc/%d/cgroup" % pid) or "").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            found[name.removeprefix("name=")] = path
    return found


def directories(t: Trial, made: Container) -> list[str]:
    """The cgroup directories of a container, as /proc/PID/cgroup and the mount points say."""
    found = set()
    for name, path in places(made.pid).items():
        top = t.machine.controllers.get(name) if name else t.machine.unified
        if top and os.path.isdir(top + path) and path != "/":
            found.add(top + path)
    return sorted(found)


def in_cgroup(t: Trial, made: Container, path: str) -> tuple[dict[str, str | None], dict[str, str]]:
    """Whether the container is in this path, in every hierarchy that limits something."""
    seen = places(made.pid)
    if t.machine.pure_v2:
        return {"": seen.get("")}, {"": path}
    names = [name for name in CONTROLLERS if name in t.machine.controllers]
    return {name: seen.get(name) for name in names}, {name: path for name in names}


@case("cgroups.path.absolute", "cgroups.path.created", level="core")
def absolute(t: Trial) -> None:
    """An absolute cgroupsPath is relative to the mount point; missing levels are created."""
    made = t.container()
    path = "/%s/a/b" % made.id
    made.bundle.config["linux"]["cgroupsPath"] = path
    made.bundle.config["linux"]["resources"] = {"pids": {"limit": 100}}
    made.bundle.write()
    made.create()
    seen, wanted = in_cgroup(t, made, path)
    t.equal(seen, wanted, "paths in /proc/PID/cgroup")
    made.stop()
    made.try_delete()
    cleanup.remove_cgroups(made.id, t.machine.cgroups())  # it is not specified whether the upper levels are removed with the container


@case("cgroups.path.consistent", level="core")
def consistent(t: Trial) -> None:
    """The same cgroupsPath leads to the same place for one container after another."""
    seen = []
    path = "/%s-same" % t.token
    for _ in range(2):
        made = t.created({"/linux/cgroupsPath": path, "/linux/resources/pids/limit": 100})
        seen.append(places(made.pid))
        made.start()
        made.finish()
    t.equal(seen[1], seen[0], "paths in /proc/PID/cgroup")


@case("cgroups.path.relative", "cgroups.path.consistent", level="linux")
def relative(t: Trial) -> None:
    """A relative cgroupsPath works, and leads to the same place each time."""
    seen = []
    for _ in range(2):
        made = t.created({"/linux/cgroupsPath": "%s-relative" % t.token})
        seen.append(places(made.pid))
        made.start()
        made.finish()
    t.equal(seen[1], seen[0], "paths in /proc/PID/cgroup")
    own = places(os.getpid())
    ends = [name for name, path in seen[0].items() if name in (*CONTROLLERS, "") and path.endswith("-relative")]
    t.check(ends or seen[0] == own, "its name is used", "cgroups.path.relative", "…/%s-relative" % t.token, seen[0])


@case("cgroups.path.default", needs="controller:pids")
def default(t: Trial) -> None:
    """Without cgroupsPath the limits still apply, wherever the cgroup is."""
    made = t.created({"/linux/cgroupsPath": ABSENT, "/linux/resources/pids/limit": 77})
    path = places(made.pid).get("" if t.machine.version_2("pids") else "pids", "")
    t.equal((system.read(t.machine.directory("pids", path) + "/pids.max") or "").strip(), "77", "pids.max of its cgroup")


@case("cgroups.path.absolute", level="core")
def all_processes(t: Trial) -> None:
    """Every process of the container is in its cgroup."""
    made = t.created({"/linux/resources/pids/limit": 50}, "run /bin/probe read /proc/self/cgroup", "say end")
    made.start()
    lines = made.finish()
    text = next((line.get("text", "") for line in lines if line["op"] == "read"), "")
    name = "" if t.machine.pure_v2 else "pids"
    seen = {entry.split(":", 2)[1]: entry.split(":", 2)[2] for entry in text.splitlines()}
    t.equal(seen.get(name), "/" + made.id, "cgroup of a child of the program")


@case("op.delete.foreign", "cgroups.path.absolute", level="linux")
def foreign_process(t: Trial) -> None:
    """A cgroup with another process is not emptied by the container's life, and that process is not killed."""
    import subprocess

    path = "/%s-shared" % t.token
    top = t.machine.cgroup("pids", path) or t.machine.directory("unified", path)
    os.mkdir(top)
    other = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
    try:
        with open(os.path.join(top, "cgroup.procs"), "w") as file:
            file.write(str(other.pid))
        made = t.container({"/linux/cgroupsPath": path}, "say ran")
        done = made.try_create()
        if done.code == 0:
            made.watch()
            made.try_start()
            made.ended()
            made.try_delete()
        t.equal(other.poll(), None, "the process is alive", "op.delete.foreign")
        t.check(os.path.isdir(top), "its cgroup is there", "op.delete.foreign")
        t.check(done.code is not None, "create succeeds or gives an error", "cgroups.path.absolute", None, done)
    finally:
        other.kill()
        other.wait()
        if os.path.isdir(top):
            os.rmdir(top)


def owners(path: str) -> dict[str, int]:
    found = {"": os.stat(path).st_uid}
    for name in os.listdir(path):
        found[name] = os.stat(os.path.join(path, name)).st_uid
    return found


def with_owner(t: Trial, spaces: bool, mount: list[str] | None) -> dict[str, int]:
    """The owners of the files of a version 2 cgroup whose container runs as user 1000."""
    changes: dict[str, object] = {"/process/user": {"uid": 1000, "gid": 1000}}
    if spaces:
        changes["/linux/namespaces/-"] = {"type": "cgroup"}
    if mount is not None:
        changes["/mounts/-"] = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": mount}
    made = t.created(changes)
    return owners(t.machine.directory("unified", "/" + made.id))


@case("cgroups.owner.changed", "cgroups.owner.only", "cgroups.owner.missing-files", needs=("v2", "delegate"))
def owner(t: Trial) -> None:
    """With a cgroup namespace and a writable cgroup mount the directory and the delegated files belong to the program's user."""
    found = with_owner(t, True, ["nosuid", "noexec", "nodev"])
    names = {"", *(system.read("/sys/kernel/cgroup/delegate") or "").split()} & set(found)
    t.equal({name: found[name] for name in names}, dict.fromkeys(names, 1000), "owners of what is delegated", "cgroups.owner.changed")
    others = {name: uid for name, uid in found.items() if name not in names and uid != 0}
    t.equal(others, {}, "other files with another owner", "cgroups.owner.only")
    t.check(True, "missing files are not an error", "cgroups.owner.missing-files")


@case("cgroups.owner.no-namespace", "cgroups.owner.no-mount", needs=("v2", "delegate"))
def owner_kept(t: Trial) -> None:
    """Without a cgroup namespace, with a read-only mount, or without any, the owner is not changed."""
    for spaces, mount, name in (
        (False, ["nosuid", "noexec", "nodev"], "cgroups.owner.no-namespace"),
        (True, ["nosuid", "noexec", "nodev", "ro"], "cgroups.owner.no-mount"),
        (True, None, "cgroups.owner.no-mount"),
    ):
        found = with_owner(t, spaces, mount)
        t.equal({file: uid for file, uid in found.items() if uid}, {}, "files with another owner", name)


@case("cgroups.owner.v1", needs="v1")
def owner_v1(t: Trial) -> None:
    """The owner of a version 1 cgroup is not changed."""
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}
    changes = {"/process/user": {"uid": 1000, "gid": 1000}, "/linux/namespaces/-": {"type": "cgroup"}, "/mounts/-": mount}
    made = t.created(changes)
    found = {}
    for path in directories(t, made):
        if not (t.machine.unified and path.startswith(t.machine.unified + "/")):
            found.update({path + "/" + name: uid for name, uid in owners(path).items() if uid})
    t.equal(found, {}, "files with another owner")
