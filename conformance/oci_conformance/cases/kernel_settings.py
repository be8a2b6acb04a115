"""config-linux.md#configLinuxSysctl, #configLinuxMaskedPaths, #configLinuxReadonlyPaths, #configLinuxRootfsMountPropagation."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.case import case
from oci_conformance.cases.mounts import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_conformance.container import Container
    from oci_conformance.shapes import Operation
    from oci_conformance.trial import Trial


@case("sysctl", level="core")
def sysctl(t: Trial) -> None:
    """Parameters of the container's own namespaces are set, in both spellings; the host's are not."""
    names = ("/proc/sys/kernel/msgmax", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/core/somaxconn")
    before = [system.read(name) for name in names]
    values = {"kernel.msgmax": "12345", "net.ipv4.ip_forward": "1", "net/core/somaxconn": "321"}
    seen = t.observe({"/linux/namespaces/-": {"type": "network"}, "/linux/sysctl": values}, *("read " + name for name in names))
    t.equal([line.get("text", "").strip() for line in seen], ["12345", "1", "321"], "values inside")
    t.equal([system.read(name) for name in names], before, "values on the host")


@case("sysctl.cannot", level="core")
def sysctl_cannot(t: Trial) -> None:
    """A parameter that does not exist, and a value that the kernel refuses, give an error."""
    t.refused({"/linux/sysctl": {"kernel.no_such_thing": "1"}}, what="create with an unknown parameter gives an error")
    changes = {"/linux/namespaces/-": {"type": "network"}, "/linux/sysctl": {"net.ipv4.ip_forward": "many"}}
    t.refused(changes, what="create with an invalid value gives an error")


@case("masked.file", "masked.directory", level="core")
def masked(t: Trial) -> None:
    """Masked files and directories are empty; paths that do not exist are ignored."""
    paths = ["/proc/kcore", "/proc/timer_list", "/sys/firmware", "/etc/passwd", "/mnt", "/no/such/path"]
    made = t.container(
        {"/linux/maskedPaths": paths}, "read /etc/passwd", "list /mnt", "open /proc/kcore r", "read /proc/kcore", "open /mnt/x c"
    )
    open(made.bundle.inside("/mnt/secret"), "w").close()
    made.create()
    made.start()
    seen = made.finish()
    t.check(seen[0].get("text", "") == "", "contents of a masked file", "masked.file", "", seen[0])
    t.equal(seen[1].get("names", []), [], "names in a masked directory", "masked.directory")
    t.check(seen[3].get("text", "") == "", "contents of /proc/kcore", "masked.file", "", seen[3])
    t.check(seen[4].get("errno") != 0, "a masked directory cannot be written", "masked.directory", "an error", seen[4])


@case("readonly.path", level="core")
def readonly(t: Trial) -> None:
    """Readonly files and directories can be read but not written; others can be written."""
    paths = ["/proc/sys", "/tmp", "/etc/group", "/no/such/path"]
    operations = (
        "read /proc/sys/kernel/hostname",
        "open /proc/sys/kernel/hostname w",
        "open /tmp/x c",
        "open /etc/group w",
        "open /etc/passwd w",
    )
    seen = t.observe({"/linux/readonlyPaths": paths}, *operations)
    t.equal(seen[0].get("errno"), 0, "reading below a readonly path")
    t.equal([line.get("errno") for line in seen[1:4]], [errno.EROFS] * 3, "writing below /proc/sys, in /tmp, to /etc/group")
    t.equal(seen[4].get("errno"), 0, "writing to a file that is not listed")


@case("masked.absolute", "readonly.absolute", level="linux")
def relative_paths(t: Trial) -> None:
    """Paths that are not absolute give an error."""
    t.refused({"/linux/maskedPaths": ["etc/passwd"]}, "masked.absolute", what="a relative masked path gives an error")
    t.refused({"/linux/readonlyPaths": ["etc/passwd"]}, "readonly.absolute", what="a relative readonly path gives an error")


def on_shared(t: Trial, propagation: str, *operations: Operation) -> tuple[Container, str]:
    """A created container whose bundle's parent mount is shared on the host. (container, a directory on the host below the root)"""
    made = t.container({"/linux/rootfsPropagation": propagation}, *operations)
    system.mount(t.directory, t.directory, None, system.MS_BIND)
    system.mount(None, t.directory, None, system.MS_SHARED)
    made.create()
    return made, made.bundle.inside("/mnt")


def root_propagation(t: Trial, propagation: str) -> Sequence[str] | None:
    seen = t.observe({"/linux/rootfsPropagation": propagation}, "read /proc/self/mountinfo")
    return table(seen.get("text", "")).get("/", {}).get("propagation")


@case("propagation.shared", level="linux")
def shared(t: Trial) -> None:
    """shared: the root is in a peer group."""
    t.has("shared", root_propagation(t, "shared"), "propagation of the root")


@case("propagation.slave", level="linux")
def slave(t: Trial) -> None:
    """slave: a mount of the host below the root appears in the container, one of the container does not appear on the host."""
    made, target = on_shared(t, "slave", "mount tmpfs /tmp tmpfs 0", "wait")
    made.start()
    made.line("wait")
    points = [line.split()[4] for line in (system.read("/proc/self/mountinfo") or "").splitlines()]
    t.lacks(made.bundle.inside("/tmp"), points, "mounts of the host")
    system.mount("tmpfs", target, "tmpfs")
    inside = [line.split()[4] for line in (system.read("/proc/%d/mountinfo" % made.pid) or "").splitlines()]
    t.has("/mnt", inside, "mounts of the container after one of the host")


@case("propagation.private", level="linux")
def private(t: Trial) -> None:
    """private: mounts propagate in neither direction."""
    t.equal(root_propagation(t, "private"), [], "propagation of the root")
    made, target = on_shared(t, "private", "mount tmpfs /tmp tmpfs 0", "wait")
    made.start()
    made.line("wait")
    points = [line.split()[4] for line in (system.read("/proc/self/mountinfo") or "").splitlines()]
    t.lacks(made.bundle.inside("/tmp"), points, "mounts of the host")
    system.mount("tmpfs", target, "tmpfs")
    inside = [line.split()[4] for line in (system.read("/proc/%d/mountinfo" % made.pid) or "").splitlines()]
    t.lacks("/mnt", inside, "mounts of the container after one of the host")


@case("propagation.unbindable", needs="probe", level="linux")
def unbindable(t: Trial) -> None:
    """unbindable: the root cannot be bind mounted."""
    seen = t.observe({"/linux/rootfsPropagation": "unbindable"}, "mount / /mnt none 4096", "read /proc/self/mountinfo")
    t.equal(seen[0].get("errno"), errno.EINVAL, "binding /")
    t.has("unbindable", table(seen[1].get("text", "")).get("/", {}).get("propagation"), "propagation of the root")


@case("values.name", level="linux")
def unknown_propagation(t: Trial) -> None:
    """An unknown propagation gives an error."""
    t.refused({"/linux/rootfsPropagation": "no-such"})
