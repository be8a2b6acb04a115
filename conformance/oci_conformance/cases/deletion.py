"""runtime.md#runtimeDelete: what delete refuses, removes and leaves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.container import Container
    from oci_conformance.trial import Trial


def cgroup_directories(t: Trial, made: Container) -> list[str]:
    """Where the cgroups of a container are, in all hierarchies."""
    tops = t.machine.cgroups()
    return [top + "/" + made.id for top in tops if os.path.isdir(top + "/" + made.id)]


@case("op.delete.no-id", level="core")
def without_id(t: Trial) -> None:
    """delete without an id gives an error."""
    done = t.call("delete")
    t.check(done.refused, "delete gives an error", (), "an error", done)


@case("op.delete.unknown", level="core")
def unknown(t: Trial) -> None:
    """delete of a container that does not exist gives an error."""
    done = t.call("delete", t.new_id())
    t.check(done.refused, "delete gives an error", (), "an error", done)


@case("op.delete.running", level="core")
def running(t: Trial) -> None:
    """delete of a running container gives an error, and it keeps running."""
    made = t.running()
    t.check(made.try_delete().refused, "delete gives an error", (), "an error", made.last)
    t.equal(made.try_state().get("status"), "running", "status afterwards")
    made.kill("USR1")
    t.equal(made.line("signal").get("signal"), 10, "the program is still there")


@case("op.delete.created", level="core")
def created(t: Trial) -> None:
    """delete of a created container gives an error, and it can be started afterwards."""
    made = t.created(None, "say hello")
    t.check(made.try_delete().refused, "delete gives an error", (), "an error", made.last)
    t.equal(made.try_state().get("status"), "created", "status afterwards")


@case("op.delete.resources", "lifecycle.destroy", level="core")
def removes(t: Trial) -> None:
    """After delete there is no state, no cgroup, no process and no mount of the container."""
    mounts = system.read("/proc/self/mountinfo")
    made = t.running({"/linux/resources/pids/limit": 100})
    t.check(cgroup_directories(t, made), "the container has cgroups while it runs", (), "some", None)
    t.check(made.stop(), "kill ends it")
    made.delete()
    t.equal(cgroup_directories(t, made), [], "no cgroup is left")
    t.check(not made.exists(), "state gives an error", (), "an error", made.last)
    t.equal(os.path.exists(os.path.join(t.root, made.id)), False, "its directory of state is gone")
    t.check(not os.path.exists("/proc/%d" % made.pid), "the process is gone")
    t.equal(system.read("/proc/self/mountinfo"), mounts, "the mounts of the caller are as before")


@case("op.delete.resources", level="linux")
def removes_children(t: Trial) -> None:
    """Processes that the program left behind are gone after delete, also without a pid namespace."""
    spaces = [{"type": kind} for kind in ("mount", "ipc", "uts")]
    made = t.running({"/linux/namespaces": spaces}, "run /bin/probe say first", "wait")
    made.line("wait")
    t.check(made.stop(), "kill ends it")
    made.delete()
    t.equal(cgroup_directories(t, made), [], "no cgroup is left")


@case("op.delete.foreign", level="core")
def leaves(t: Trial) -> None:
    """Sources of bind mounts, and files and device nodes in the root, still exist after delete."""
    share = os.path.join(t.directory, "share")
    os.makedirs(os.path.join(share, "below"))
    mount = {"destination": "/mnt", "type": "none", "source": share, "options": ["rbind"]}
    made = t.created({"/mounts/-": mount}, ["write", "/mnt/below/kept", "1"], ["write", "/tmp/kept", "2"])
    made.start()
    made.finish()
    t.equal(system.read(os.path.join(share, "below/kept")), "1", "the source of a bind mount is kept")
    t.equal(made.bundle.text("/tmp/kept"), "2", "files of the root are kept")
    t.check(os.path.exists(made.bundle.inside("/bin/probe")), "the root is kept")
    t.check(os.path.exists(os.path.join(made.bundle.path, "config.json")), "the bundle is kept")


@case("op.delete.foreign", level="linux")
def leaves_namespace(t: Trial) -> None:
    """A network namespace that was joined still exists after delete."""
    path = os.path.join(t.directory, "net")
    open(path, "w").close()
    parent = t.running({"/linux/namespaces/-": {"type": "network"}})
    system.mount("/proc/%d/ns/net" % parent.pid, path, None, system.MS_BIND)
    try:
        made = t.created({"/linux/namespaces/-": {"type": "network", "path": path}})
        made.start()
        made.finish()
        t.equal(os.stat(path).st_ino, os.stat("/proc/%d/ns/net" % parent.pid).st_ino, "the namespace is kept")
        t.check(os.path.ismount(path) or os.stat(path).st_ino != 0, "its file is kept")
    finally:
        system.umount(path)


@case("op.delete.id-again", level="core")
def id_again(t: Trial) -> None:
    """The id of a deleted container can be used again."""
    made = t.created(None, "say first")
    made.start()
    made.finish()
    again = t.container(None, "say second")
    again.id = made.id
    again.create()
    again.start()
    t.equal([line.get("text") for line in again.finish()], ["second"], "the second container runs")
